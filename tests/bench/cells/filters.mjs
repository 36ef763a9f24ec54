// Cells of many live queries, each with a filter of its own: what a commit costs the service when it concerns one of them, however many there are.
import { randomUUID } from 'node:crypto'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { figure, load, once, segued } from '../lib.mjs'
import { postgres, postgresDelivery, postgresInstalled } from '../peers/postgres.mjs'

const RATE = { rate: 1000, connections: 10, seconds: process.env.SECONDS || '5' }

// At 1,000 rows a second, each for one subscriber: processor time of the service for each, beside that of ten filters.
const cost = async (kind, readers) => (await once(segued, (s) => load('filters', s, { kind, readers, ...RATE }))).cpu_us

async function costs(kind) {
    const ten = await cost(kind, 10)
    for (const readers of [1000, 10000]) figure(`${kind}_${readers}_cpu/10`, await cost(kind, readers), ten, 'us')
    return ten
}

const quantile = (times, share) => [...times].sort((a, b) => a - b)[Math.floor(times.length * share)]

// As the peer does it: a client that writes, one that reads, rows one after the other; milliseconds, each.
async function delivery({ url }, modules, { count, filters }) {
    const { WebSocket } = await import(pathToFileURL(path.join(modules, 'ws/wrapper.mjs')))
    const sql = 'create table item (room text not null, body text not null)'
    const answer = await fetch(`${url}/apps/default/schema`, { method: 'PUT', headers: { 'content-type': 'application/sql' }, body: sql })
    if (!answer.ok) throw new Error(await answer.text())
    const open = () => new Promise((done, fail) => {
        const socket = new WebSocket(`${url.replace('http', 'ws')}/apps/default/sync`)
        socket.on('error', fail).on('open', () => { socket.send('{"type":"hello","protocol":1}'); done(socket) })
    })
    const writer = await open(), reader = await open()
    let live = 0, seen, ready
    const all = new Promise((done) => { ready = done })
    reader.on('message', (data) => {
        const message = JSON.parse(data)
        if (message.type === 'error') throw new Error(message.detail)
        live += message.live?.length ?? 0
        if (live === filters) ready()
        for (const changes of Object.values(message.changes ?? {})) for (const change of changes) seen(change.added)
    })
    for (let i = 0; i < filters; i++) reader.send(JSON.stringify({ type: 'subscribe', name: `q${i}`, query: 'select * from item where room = $1', params: [`room${i}`] }))
    await all
    const times = []
    for (let i = 0; i < count; i++) {
        const begin = performance.now(), there = new Promise((done) => { seen = done })
        const values = { room: `room${i % filters}`, body: 'x'.repeat(64) }
        writer.send(JSON.stringify({ type: 'batch', id: i, ops: [{ op: 'insert', table: 'item', id: randomUUID(), values }] }))
        await there
        times.push(performance.now() - begin)
    }
    writer.close()
    reader.close()
    return times
}

// A row to one of 1,000 filters of a second client, beside PostgreSQL's.
async function besidePostgres() {
    const installed = postgresInstalled(), how = { count: 1000, filters: 1000 }
    if (!installed) return
    const ours = await once(segued, (s) => delivery(s, installed.modules, how))
    const theirs = await once(() => postgres(installed), (s) => postgresDelivery(s, how))
    figure('filters_1000_p50/postgres', quantile(ours, 0.5), quantile(theirs, 0.5), 'ms')
    figure('filters_1000_p99/postgres', quantile(ours, 0.99), quantile(theirs, 0.99), 'ms')
}

export async function subscriptions() {
    const ten = await costs('equal')
    figure('scan_1000_cpu/10', await cost('scan', 1000), ten, 'us')
    const alone = await once(segued, (s) => load('filters', s, { kind: 'equal', readers: 1000, connections: 1, rate: 0 }))
    figure('filters_1000_p50/limit', alone.p50_us / 1e3, 1, 'ms')
    figure('filters_1000_p99/limit', alone.p99_us / 1e3, 7, 'ms')
    await besidePostgres()
}

export async function ranges() {
    await costs('range')
}
