// Cells of what is followed: how soon a commit is with a second client, how long a first load takes, and what readers who never read do to the others.
import fs from 'node:fs'
import http from 'node:http'
import { randomUUID } from 'node:crypto'
import { figure, fresh, load, note, once, seconds, segued, start, build, listening, KIB } from '../lib.mjs'
import { postgres, postgresDelivery, postgresFirstLoad, postgresInstalled } from '../peers/postgres.mjs'
import { tinybase, tinybaseDelivery, tinybaseInstalled } from '../peers/tinybase.mjs'
import path from 'node:path'

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

const agent = new http.Agent({ keepAlive: true, noDelay: true })

function ask(url, method, type, body) {
    return new Promise((done, failed) => {
        const request = http.request(url, { method, agent, headers: { 'content-type': type, 'content-length': Buffer.byteLength(body) } }, (reply) => {
            let text = ''
            reply.setEncoding('utf8').on('data', (s) => { text += s }).on('end', () => (reply.statusCode < 300 ? done(text) : failed(new Error(text))))
        })
        request.on('error', failed)
        request.end(body)
    })
}

// As the peers' clients, in Node: `count` rows one after the other, each seen by a second client before the next is written: milliseconds, each.
async function ourDelivery(server, count) {
    const app = `${server.url}/apps/default`
    await ask(`${app}/schema`, 'PUT', 'application/sql', 'create table item (room text, body text)')
    let seen = () => {}, text = ''
    const live = new Promise((done) => { seen = done })
    const reader = http.get(`${app}/subscribe?query=${encodeURIComponent("select * from item where room = 'room'")}`, (reply) => {
        reply.setEncoding('utf8').on('data', (s) => {
            const events = (text + s).split('\n\n')
            text = events.pop()
            for (const event of events) {
                const data = event.split('\n').find((line) => line.startsWith('data: '))
                const message = data && JSON.parse(data.slice(6))
                if (message?.changes) seen(message.changes.q1?.[0].added.id)
            }
        })
    })
    await live
    const times = []
    for (let i = 0; i < count; i++) {
        const id = randomUUID(), begin = performance.now()
        const there = new Promise((done) => { seen = done })
        const [, got] = await Promise.all([ask(`${app}/batch`, 'POST', 'application/json', JSON.stringify({ ops: [{ op: 'insert', table: 'item', id, values: { room: 'room', body: 'x'.repeat(64) } }] })), there])
        if (got !== id) throw new Error('another row came')
        times.push(performance.now() - begin)
    }
    reader.destroy()
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
    const ours = await once(segued, (s) => ourDelivery(s, count))
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
