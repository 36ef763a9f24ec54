// TinyBase's own WebSocket server for Node, in memory: node tinybase.mjs MODULES PORT
import path from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { freePort, listening, npmModules, sleep, start } from '../lib.mjs'

const load = (modules, name) => import(pathToFileURL(path.join(modules, name)))

async function serve(modules, port) {
    const { WebSocketServer } = await load(modules, 'ws/wrapper.mjs')
    const { createWsServer } = await load(modules, 'tinybase/synchronizers/synchronizer-ws-server/index.js')
    createWsServer(new WebSocketServer({ host: '127.0.0.1', port }))
    console.log(`listening on 127.0.0.1:${port}`)
    process.on('SIGTERM', () => process.exit(0))
}

// Its modules, or undefined, with a note.
export const tinybaseInstalled = () => npmModules('tinybase')

export async function tinybase(modules) {
    const port = await freePort()
    const child = start(process.execPath, [fileURLToPath(import.meta.url), modules, String(port)])
    await listening('tinybase', child)
    const { default: WebSocket } = await load(modules, 'ws/wrapper.mjs')
    const { createMergeableStore } = await load(modules, 'tinybase/index.js')
    const { createWsSynchronizer } = await load(modules, 'tinybase/synchronizers/synchronizer-ws-client/index.js')
    const connect = async () => {
        const store = createMergeableStore()
        const synchronizer = await createWsSynchronizer(store, new WebSocket(`ws://127.0.0.1:${port}/bench`))
        await synchronizer.startSync()
        return { store, leave: () => synchronizer.destroy() }
    }
    return { child, connect, pid: child.pid }
}

// `count` rows one after the other, each seen by a second client before the next is written: milliseconds, each.
export async function tinybaseDelivery(server, { count }) {
    const writer = await server.connect(), reader = await server.connect()
    await sleep(200) // they have told each other that they have nothing
    let seen
    reader.store.addRowListener('item', null, (_, table, id) => seen(id))
    const times = []
    for (let i = 0; i < count; i++) {
        const begin = performance.now()
        const there = new Promise((done) => { seen = done })
        writer.store.setRow('item', String(i), { room: 'room', body: 'x'.repeat(64) })
        await there
        times.push(performance.now() - begin)
    }
    writer.leave()
    reader.leave()
    return times
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await serve(process.argv[2], Number(process.argv[3]))
