// Cells of what is followed: how soon a commit is with a second client, how long a first load takes, and what readers who never read do to the others.
import { randomUUID } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { build, figure, fresh, KIB, listening, load, note, npmModules, once, seconds, segued, start } from '../lib.mjs'
import { postgres, postgresDelivery, postgresFirstLoad, postgresInstalled } from '../peers/postgres.mjs'
import { tinybase, tinybaseDelivery, tinybaseInstalled } from '../peers/tinybase.mjs'

const quantile = (list, share) => [...list].sort((a, b) => a - b)[Math.min(list.length - 1, Math.floor(list.length * share))]

// What a synced write of a sector into a file that is all there costs on this disk, each: milliseconds.
function syncs(count) {
    const file = fresh('sync'), fd = fs.openSync(file, 'w'), times = []
    fs.writeSync(fd, Buffer.alloc(1024 * KIB))
    fs.fsyncSync(fd)
    for (let i = 0; i < count; i++) {
        const begin = performance.now()
        fs.writeSync(fd, Buffer.alloc(512, i), 0, 512, (i % 2048) * 512)
        fs.fdatasyncSync(fd)
        times.push(performance.now() - begin)
    }
    fs.closeSync(fd)
    fs.rmSync(file)
    return times
}

// ---- delivery ---------------------------------------------------------------------------------------------------------

// A WebSocket with its subscriptions live; `on` hears each message.
async function connect(WebSocket, server, subscribe, on) {
    const ws = new WebSocket(`${server.url.replace('http', 'ws')}/apps/default/sync`)
    await new Promise((done) => ws.on('open', done))
    const ready = new Promise((done) => ws.on('message', (bytes) => {
        const message = JSON.parse(bytes)
        if (message.type === 'welcome' ? !subscribe : message.live) done()
        on(message)
    }))
    ws.send(JSON.stringify({ type: 'hello', protocol: 1, ...(subscribe && { subscribe }) }))
    await ready
    return ws
}

// As the peers' clients, in Node: `count` rows one after the other, each acknowledged and seen by a second client before the next is written: milliseconds, each.
async function ourDelivery(modules, server, count) {
    const { default: WebSocket } = await import(pathToFileURL(path.join(modules, 'ws/wrapper.mjs')))
    await fetch(`${server.url}/apps/default/schema`, { method: 'PUT', body: 'create table item (room text, body text)' })
    let seen, settled
    const writer = await connect(WebSocket, server, undefined, (m) => { if (m.type === 'fate') settled(m.fate) })
    const reader = await connect(WebSocket, server, { room: { query: "select * from item where room = 'room'" } }, (m) => { if (m.changes?.room) seen(m.changes.room[0].added.id) })
    const times = []
    for (let i = 0; i < count; i++) {
        const id = randomUUID(), begin = performance.now()
        const there = new Promise((done) => { seen = done }), fate = new Promise((done) => { settled = done })
        writer.send(JSON.stringify({ type: 'batch', ops: [{ op: 'insert', table: 'item', id, values: { room: 'room', body: 'x'.repeat(64) } }] }))
        if (await there !== id || await fate !== 'accepted') throw new Error('another row came, or none')
        times.push(performance.now() - begin)
    }
    writer.close()
    reader.close()
    return times
}

export async function delivery() {
    const count = 500, sync = syncs(1000)
    const limit50 = 2 * quantile(sync, 0.5) + 0.5, limit99 = 5 * quantile(sync, 0.5) + 0.5
    for (const kind of ['row', 'row_ws']) {
        const ours = await once(segued, (s) => load('fanout', s, { kind, readers: 1, rate: 100, seconds: Number(seconds) * 2 }))
        figure(`${kind}_p50/2_syncs`, ours.p50_us / 1e3, limit50, 'ms')
        figure(`${kind}_p99/5_syncs`, ours.p99_us / 1e3, limit99, 'ms')
    }
    const modules = npmModules('ws')
    if (!modules) return
    const ours = await once(segued, (s) => ourDelivery(modules, s, count))
    const peers = [['postgres', postgresInstalled(), postgres, postgresDelivery], ['tinybase', tinybaseInstalled(), tinybase, tinybaseDelivery]]
    for (const [name, installed, begin, run] of peers) {
        if (!installed) continue
        const theirs = await once(() => begin(installed), (s) => run(s, { count }))
        figure(`node_p50/${name}`, quantile(ours, 0.5), quantile(theirs, 0.5), 'ms')
        figure(`node_p99/${name}`, quantile(ours, 0.99), quantile(theirs, 0.99), 'ms')
    }
}

// ---- first load -----------------------------------------------------------------------------------------------------------

async function stream(bytes) {
    const child = start(path.join(build, 'tests/bench/load'), ['stream', '--bytes', String(bytes)])
    return { child, url: `http://${await listening('the stream server', child)}`, pid: child.pid }
}

// 100,000 rows of 100 bytes to a client that has none; the bare server writes as many bytes from memory.
export async function first_load() {
    for (const kind of ['sse', 'ws']) {
        const ours = await once(segued, (s) => load('first', s, { kind }))
        const floor = await once(() => stream(ours.bytes), (s) => load('first', s, { kind: 'stream' }))
        figure(`${kind}_time/limit`, ours.p50_us / 1e3, 250, 'ms')
        figure(`${kind}_rate/stream`, ours.rate, floor.rate, 'MB/s')
        figure(`${kind}_memory/result`, ours.grown_kib, ours.bytes / KIB, 'KiB')
    }
    const peer = postgresInstalled()
    if (!peer) return
    const ours = await once(segued, (s) => load('first', s, { kind: 'sse', seconds: 0 }))
    const theirs = await once(() => postgres(peer), (s) => postgresFirstLoad(s, 100000))
    figure('time/postgres', ours.p50_us / 1e3, theirs, 'ms')
}

// ---- slow readers ------------------------------------------------------------------------------------------------------

// 1,000 subscribers of one stream, of which 100 never read: the others, beside 900 who are alone. Their sockets are small: they are full at once.
export async function slow_readers() {
    const crowd = { rate: 25, bytes: 2000, seconds: Number(seconds) * 5 }
    for (const kind of ['sse', 'ws']) {
        const alone = await once(segued, (s) => load('fanout', s, { kind, readers: 900, ...crowd }))
        const among = await once(segued, (s) => load('fanout', s, { kind, readers: 900, stuck: 100, ...crowd }))
        figure(`${kind}_p50/alone`, among.p50_us / 1e3, alone.p50_us / 1e3, 'ms')
        figure(`${kind}_p99/alone`, among.p99_us / 1e3, alone.p99_us / 1e3, 'ms')
        figure(`${kind}_cpu/alone`, among.cpu_us, alone.cpu_us, 'us')
        figure(`${kind}_memory/alone`, (among.rss_kib - among.rss_before_kib) / KIB, (alone.rss_kib - alone.rss_before_kib) / KIB, 'MiB')
    }
    note('slow_readers: memory is what the service grew by while it wrote')
}
