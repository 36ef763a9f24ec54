// A full and a failing disk under the real service: each kind of call on each kind of file fails for a while (tests/lib/disk.h).
// What was acknowledged stays, what is refused has a code, reads go on, and when the disk is well again writes are too, with
// every batch that was sent again applied once.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { App, append, assertProblem, create, insert, request } from './lib/http.mjs'
import { eventually, PATIENCE_MS, preload, root, service, sleep, tempFolder } from './lib/service.mjs'
import { Subscriber } from './lib/sse.mjs'

const so = path.resolve(process.env.DISK_SO || path.join(root, 'build/tests/lib/disk.so'))
const skip = !fs.existsSync(so) && `${so} is not there`

const REFUSALS = ['no_space', 'fate_unknown', 'io_error', 'read_only', 'busy', 'map_full']

// A service whose disk can be made to fail: fault('write', '/journal/', 'EIO'), well().
async function frail(t, more = []) {
    const control = path.join(tempFolder(t), 'control')
    fs.writeFileSync(control, '')
    const data = tempFolder()
    const s = await service(t, { data, args: ['--journal-segment-bytes', '65536', '--seal-quiet-ms', '100', ...more], env: { LD_PRELOAD: preload(so), SEGUE_DISK_CONTROL: control, SEGUE_DISK_ROOT: data } })
    t.after(() => fs.rmSync(data, { recursive: true }))
    const say = (line) => {
        fs.writeFileSync(`${control}.new`, line)
        fs.renameSync(`${control}.new`, control)
    }
    return { s, app: new App(s), fault: (ops, where, errno, nth = 1, count = -1) => say(`${ops}:${where}:${nth}:${errno}:${count}\n`), well: () => say(''), data, quota: (bytes) => say(`quota:${bytes}\n`) }
}

// A writer that is never sure but always right: each batch is sent until it has a fate.
class Writer {
    constructor(app) {
        this.app = app
        this.replica = randomUUID()
        this.counter = 0
        this.codes = new Set()
    }

    get batch() {
        return { replica: this.replica, counter: this.counter, ops: [insert('n', { k: this.counter }), append('log', `${this.counter};${'.'.repeat(this.counter % 50 * 20)}\n`)] }
    }

    // One attempt: true if there is a fate now.
    async attempt() {
        const reply = await this.app.send(this.batch)
        if (reply.status === 200) return true
        assert.ok(REFUSALS.includes(reply.json.code), reply.text)
        assert.ok(reply.status === 503 || reply.status === 507, reply.text)
        assert.equal(reply.json.fate, undefined)
        this.codes.add(reply.json.code)
        return false
    }

    async write(n) {
        for (let i = 0; i < n; i++) {
            this.counter++
            await eventually('a fate', () => this.attempt())
        }
    }

    async verify() {
        const rows = await this.app.rows('select k from n order by k')
        assert.deepEqual(rows.map((r) => r.k), Array.from({ length: this.counter }, (_, i) => i + 1), 'each batch once')
        const lines = (await this.app.readStream('log')).bytes.toString().match(/\d+/g)
        assert.deepEqual(lines.map(Number), rows.map((r) => r.k), 'in the stream too')
    }
}

async function begin(app) {
    await app.schema('create table n (k integer)')
    await app.batch([create('log', 'text/plain')])
    const writer = new Writer(app)
    await writer.write(20)
    return writer
}

// A read is right, or refused for now. True: it was answered.
async function read(app, n) {
    const reply = await app.ask({ sql: 'select k from n' })
    if (reply.status === 200) assert.ok(reply.json.rows.length >= n)
    else assertProblem(reply, 503, 'busy')
    return reply.status === 200
}

// Reads work, or do as soon as the app is built again.
const readable = (app, n) => eventually('a read', () => read(app, n))

const ready = (s) => eventually('readiness', async () => (await request(s, 'GET', '/healthz')).status === 200)

const FAULTS = [
    ['write', '/journal/'], ['sync', '/journal/'], ['open', '/journal/'], ['allocate+truncate', '/journal/'], ['rename+unlink', '/journal/'],
    ['write', '/db/'], ['sync', '/db/'],
    ['write', '/streams/'], ['sync', '/streams/'], ['open', '/streams/'],
    ['write+sync+allocate', '/apps/'],
]

async function failing(t, ops, where, errno) {
    const { s, app, fault, well } = await frail(t)
    const writer = await begin(app)
    const sub = new Subscriber(app, { queries: { q: 'select k from n' }, streams: { log: 'log' } })
    await sub.open()
    t.after(() => sub.cut())
    fault(ops, where, errno)
    const before = writer.counter
    // A closed stream is sealed next; while that fails its bytes stay in the journal.
    if (where === '/streams/') await app.batch([create('over', 'text/plain'), append('over', randomBytes(3000).toString('hex')), { op: 'close', stream: 'over' }])
    // Some calls come only now and then (a journal's next segment): until one has met the fault.
    const met = () => where === '/streams/' || writer.codes.size > 0
    for (const start = Date.now(); Date.now() < start + 600 || (!met() && Date.now() < start + PATIENCE_MS); ) {
        if (await tryNext(writer)) writer.open = false
        else await sleep(20)
    }
    // Where not even a sync works, nobody knows whether the last of what is there is durable, and what may not be is not shown.
    if (/sync|open/.test(ops) && where !== '/streams/') await read(app, before)
    else await readable(app, before)
    // The fault was met, or this has shown nothing.
    if (where !== '/streams/') assert.ok(writer.codes.size > 0)
    else if (ops !== 'open') assert.match(s.child.stderr, /not sealed/)
    well()
    if (writer.open) await eventually('a fate for what was open', () => writer.attempt())
    await writer.write(20)
    await ready(s)
    if (where === '/streams/') assert.equal((await app.readStream('over')).bytes.length, 6000)
    await writer.verify()
    if (sub.over) await sub.reopen()
    await sub.until('all rows', (f) => f.isLive && f.views.q.size === writer.counter)
    assert.deepEqual(sub.fold.views.log.bytes, (await app.readStream('log')).bytes)
    await s.kill()
    await s.start()
    await writer.verify()
    t.diagnostic(`${writer.counter} batches, refusals: ${[...writer.codes].join(' ') || 'none'}`)
}

// They mostly wait, each for its own disk: several at once.
test('each call on each kind of file fails for a while', { skip, concurrency: 4 }, async (t) => {
    await Promise.all(FAULTS.flatMap(([ops, where]) => ['EIO', 'ENOSPC'].map((errno) =>
        t.test(`${ops} on ${where}: ${errno}`, (u) => failing(u, ops, where, errno)))))
})

// The next batch, or the one that is open.
async function tryNext(writer) {
    if (!writer.open) {
        writer.counter++
        writer.open = true
    }
    return writer.attempt()
}

test('one failed barrier: its batches are unknown, and applied once when they are sent again', { skip }, async (t) => {
    for (const [errno, ops] of [['EIO', 'sync+write'], ['ENOSPC', 'sync+write']])
        for (const nth of [1, 2, 3]) {
            const { app, fault, well } = await frail(t)
            const writer = await begin(app)
            fault(ops, '/journal/', errno, nth, 1)
            await writer.write(15)
            well()
            await writer.write(5)
            await writer.verify()
            assert.ok(writer.codes.has('fate_unknown') || writer.codes.has('no_space'), `${errno} ${nth}: ${[...writer.codes]}`)
        }
})

test('a full disk: no_space, 507, reads go on, and it mends by itself', { skip }, async (t) => {
    const { s, app, fault, well } = await frail(t)
    const writer = await begin(app)
    const blob = randomBytes(300000)
    const at = `/blobs/${createHash('sha256').update(blob).digest('hex')}`
    assert.equal((await app.request('PUT', at, { body: blob })).status, 201)
    fault('write+allocate+truncate', '/apps/', 'ENOSPC')
    writer.counter++
    await eventually('no_space', async () => {
        assert.equal(await writer.attempt(), false)
        return writer.codes.has('no_space')
    })
    const health = await request(s, 'GET', '/healthz')
    assert.deepEqual([health.status, health.json.status], [503, 'full'])
    await readable(app, 20)
    assert.equal((await app.readStream('log')).bytes.toString().match(/\d+/g).length, 20)
    assert.ok((await app.request('GET', at)).body.equals(blob))
    const other = randomBytes(300000)
    const put = () => app.request('PUT', `/blobs/${createHash('sha256').update(other).digest('hex')}`, { body: other })
    const refused = await put()
    assertProblem(refused, 507, 'no_space')
    const appended = await app.request('POST', app.stream('log'), { headers: { 'content-type': 'text/plain' }, body: 'x' })
    assertProblem(appended, 507, 'no_space')
    well()
    await ready(s)
    await eventually('a fate', () => writer.attempt())
    await writer.write(3)
    await writer.verify()
    assert.equal((await put()).status, 201)
})

for (const errno of ['EIO', 'ENOSPC'])
    for (const ops of ['write', 'sync', 'open'])
        test(`${ops} on /packs/: ${errno}: the blob is refused, nothing of it stays, the next one is fine`, { skip }, async (t) => {
            const { s, app, fault, well } = await frail(t)
            const writer = await begin(app)
            const blob = randomBytes(500000)
            const at = `/blobs/${createHash('sha256').update(blob).digest('hex')}`
            const first = randomBytes(200000)
            const firstAt = `/blobs/${createHash('sha256').update(first).digest('hex')}`
            if (ops !== 'open') assert.equal((await app.request('PUT', firstAt, { body: first })).status, 201)
            fault(ops, '/packs/', errno)
            const refused = await app.request('PUT', at, { body: blob })
            if (refused.status !== 201) {
                assert.ok(REFUSALS.includes(refused.json.code), refused.text)
                assertProblem(await app.request('GET', at), 404, 'no_such_blob')
            } else {
                assert.equal(ops, 'open', 'a pack that is open already')
            }
            await writer.write(5)
            well()
            await eventually('the blob', async () => [200, 201].includes((await app.request('PUT', at, { body: blob })).status))
            await s.kill()
            await s.start()
            assert.ok((await app.request('GET', at)).body.equals(blob))
            if (ops !== 'open') assert.ok((await app.request('GET', firstAt)).body.equals(first))
            await writer.verify()
        })

test('a disk that is full at the start: what is there can be read, and writes come when there is room', { skip }, async (t) => {
    const { s, app, fault, well } = await frail(t)
    const writer = await begin(app)
    await s.kill()
    fault('write+allocate+truncate', '/apps/', 'ENOSPC')
    await s.start()
    await readable(app, 20)
    writer.counter++
    assert.equal(await writer.attempt(), false)
    assert.deepEqual([...writer.codes], ['no_space'])
    assert.equal((await request(s, 'GET', '/healthz')).json.status, 'full')
    well()
    await eventually('a fate', () => writer.attempt())
    await writer.verify()
})

// What the quota of the disk counts: the files' sizes.
const taken = (folder) => fs.readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((e) => e.isFile()).reduce((n, e) => n + fs.statSync(path.join(e.parentPath || e.path, e.name)).size, 0)

// Fills a disk of a fixed size to the last byte that anybody gets, and gives the digests of what was kept.
async function fill(t) {
    const { s, app, quota, data } = await frail(t, ['--blob-grace-ms', '100', '--blob-pack-bytes', '4194304', '--blob-scrub-bytes', '0'])
    const writer = await begin(app)
    const put = async (bytes) => {
        const digest = createHash('sha256').update(bytes).digest('hex')
        const reply = await app.request('PUT', `/blobs/${digest}`, { body: bytes })
        return { digest, bytes, reply, ok: reply.status === 201 }
    }
    const pin = async (digest, pinned) => (await app.request(pinned ? 'PUT' : 'DELETE', `/blob-pins/${digest}`)).status
    const kept = []
    for (let i = 0; i < 9; i++) {
        kept.push(await put(randomBytes(2000000)))
        assert.equal(await pin(kept[i].digest, true), 200)
    }
    quota(taken(data) + 3000000)
    let last
    do last = await put(randomBytes(1000000))
    while (last.ok)
    assertProblem(last.reply, 507, 'no_space')
    quota(taken(data) + 50000)
    // Bytes of streams that cannot be sealed stay in the journal, until it finds no room.
    const bulk = (i) => [create(`bulk/${i}`, 'text/plain'), append(`bulk/${i}`, 'x'.repeat(50000)), { op: 'close', stream: `bulk/${i}` }]
    for (let i = 0, reply; reply?.status !== 507; i++) reply = await app.send({ ops: bulk(i) })
    await eventually('a full disk', async () => (await request(s, 'GET', '/healthz')).json.status === 'full')
    return { s, app, writer, put, pin, kept }
}

for (const killed of [false, true]) test(`a full disk${killed ? ', and a kill -9 on it,' : ''} gets room by what is let go`, { skip }, async (t) => {
    const { s, app, writer, put, pin, kept } = await fill(t)
    assert.equal(await pin(kept[0].digest, true), 507)
    if (killed) {
        await s.kill()
        await s.start()
    }
    // Every third stays: packs with something in them need room to be emptied, and get it from those that have nothing. Some pins go in a list.
    for (const [i, { digest }] of kept.entries())
        if (i % 3 === 1) await eventually('a pin that is let go', async () => [200, 404].includes(await pin(digest, false))) // 404: it was, and the answer was lost
    const list = JSON.stringify({ blobs: kept.filter((_, i) => i % 3 === 2).map((k) => k.digest), pinned: false })
    if (!killed) assertProblem(await app.request('POST', '/blob-pins', { body: list.replace('false', 'true') }), 507, 'no_space')
    await eventually('a list of pins that are let go', async () => (await app.request('POST', '/blob-pins', { body: list })).status === 200)
    await ready(s)
    await writer.write(3)
    await writer.verify()
    await eventually('room', async () => (await put(randomBytes(1000000))).ok)
    // It may be built again in between.
    const answered = (method, path) => eventually(path, async () => {
        const reply = await app.request(method, path)
        return reply.status === 200 ? reply : assert.equal(reply.status, 503)
    })
    for (const [i, { digest, bytes }] of kept.entries())
        if (i % 3 === 0) assert.ok((await answered('GET', `/blobs/${digest}`)).body.equals(bytes))
    const { damaged, wrong_counts } = (await answered('POST', '/blob-check')).json
    assert.deepEqual([damaged, wrong_counts], [0, 0])
})
