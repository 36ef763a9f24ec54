// Blobs: PROTOCOL.md, section 9.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { App, assertProblem, Raw, remove, update } from './lib/http.mjs'
import { chatService, message } from './lib/chat.mjs'
import { mulberry32 } from './lib/dice.mjs'
import { eventually, service, sleep } from './lib/service.mjs'

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex')
const at = (digest) => `/blobs/${digest}`
const put = (app, bytes, type = 'application/octet-stream') => app.request('PUT', at(sha256(bytes)), { headers: { 'content-type': type }, body: bytes })

// Bytes of all files below a folder whose path has `word` in it.
function bytesBelow(folder, word) {
    let n = 0
    for (const e of fs.readdirSync(folder, { withFileTypes: true })) {
        const name = path.join(folder, e.name)
        if (e.isDirectory()) n += bytesBelow(name, word)
        else if (name.includes(word)) n += fs.statSync(name).blocks * 512
    }
    return n
}

test('a blob is stored once, and read whole, in parts and by its tag', async (t) => {
    const app = new App(await service(t))
    const bytes = randomBytes(700001)
    const digest = sha256(bytes)
    assertProblem(await app.request('GET', at(digest)), 404, 'no_such_blob')
    const stored = await put(app, bytes, 'image/x-noise')
    assert.equal(stored.status, 201)
    assert.deepEqual(stored.json, { blob: digest, size: bytes.length, seq: 1 })
    const again = await put(app, bytes, 'image/x-noise')
    assert.deepEqual([again.status, again.json], [200, { blob: digest, size: bytes.length, seq: 1 }])
    const whole = await app.request('GET', at(digest))
    assert.ok(whole.body.equals(bytes))
    assert.equal(whole.headers['content-type'], 'image/x-noise')
    assert.equal(whole.headers.etag, `"${digest}"`)
    assert.equal(whole.headers['accept-ranges'], 'bytes')
    assert.match(whole.headers['cache-control'], /immutable/)
    const head = await app.request('HEAD', at(digest))
    assert.deepEqual([head.status, head.headers['content-length'], head.body.length], [200, String(bytes.length), 0])
    assert.equal((await app.request('GET', at(digest), { headers: { 'if-none-match': `"${digest}"` } })).status, 304)
    assert.equal((await app.request('GET', at(digest), { headers: { 'if-none-match': '"other"' } })).status, 200)
    assert.equal((await app.request('GET', at(digest.toUpperCase()))).status, 200)
})

test('ranges', async (t) => {
    const app = new App(await service(t))
    const bytes = randomBytes(300000)
    const digest = sha256(bytes)
    await put(app, bytes)
    const n = bytes.length
    const get = (range, more = {}) => app.request('GET', at(digest), { headers: { range, ...more } })
    const good = [['bytes=0-0', 0, 1], ['bytes=0-99', 0, 100], ['bytes=65530-65550', 65530, 65551], ['bytes=1000-', 1000, n], ['bytes=-7', n - 7, n],
        ['bytes=0-999999999', 0, n], ['bytes=-999999999', 0, n], [`bytes=${n - 1}-`, n - 1, n]]
    for (const [range, from, to] of good) {
        const reply = await get(range)
        assert.equal(reply.status, 206, range)
        assert.equal(reply.headers['content-range'], `bytes ${from}-${to - 1}/${n}`)
        assert.ok(reply.body.equals(bytes.subarray(from, to)), range)
    }
    for (const range of [`bytes=${n}-`, `bytes=${n}-${n + 5}`, 'bytes=-0']) {
        const reply = await get(range)
        assertProblem(reply, 416, 'range_not_satisfiable')
        assert.equal(reply.headers['content-range'], `bytes */${n}`)
    }
    for (const range of ['bytes=5-2', 'lines=1-2', 'bytes=a-b', 'bytes=0-1,x']) assert.equal((await get(range)).status, 200, range)
    assert.equal((await get('bytes=0-9', { 'if-range': '"other"' })).status, 200)
    assert.equal((await get('bytes=0-9', { 'if-range': `"${digest}"` })).status, 206)
    const head = await app.request('HEAD', at(digest), { headers: { range: 'bytes=0-9' } })
    assert.ok([200, 206].includes(head.status))
})

test('an empty blob and one byte are blobs', async (t) => {
    const app = new App(await service(t))
    for (const bytes of [Buffer.alloc(0), Buffer.from('x')]) {
        assert.equal((await put(app, bytes)).status, 201)
        const reply = await app.request('GET', at(sha256(bytes)))
        assert.deepEqual([reply.status, reply.body.equals(bytes), reply.headers['content-length']], [200, true, String(bytes.length)])
    }
    assertProblem(await app.request('GET', at(sha256('')), { headers: { range: 'bytes=0-' } }), 416, 'range_not_satisfiable')
})

test('content that is not what the path promised leaves nothing', async (t) => {
    const app = new App(await service(t))
    const promised = sha256('promised')
    assertProblem(await app.request('PUT', at(promised), { body: 'something else' }), 422, 'digest_mismatch')
    assertProblem(await app.request('GET', at(promised)), 404, 'no_such_blob')
    assertProblem(await app.request('GET', at(sha256('something else'))), 404, 'no_such_blob')
    for (const path of ['/blobs/abc', '/blobs/' + 'g'.repeat(64), '/blobs/' + promised + '0']) assertProblem(await app.request('GET', path), 400, 'bad_digest')
    assertProblem(await app.request('PUT', '/blobs/abc', { body: 'x' }), 400, 'bad_digest')
    assert.equal((await put(app, Buffer.from('promised'))).status, 201)
})

test('what is there already is not stored again, whole or in part', async (t) => {
    const s = await service(t)
    const app = new App(s)
    const base = randomBytes(4 << 20)
    await put(app, base)
    const before = bytesBelow(s.data, 'pack')
    assert.ok(before >= base.length, `packs have ${before} bytes`)
    const shifted = Buffer.concat([Buffer.from('some bytes in front'), base, Buffer.from('and behind')])
    assert.equal((await put(app, shifted)).status, 201)
    const grown = bytesBelow(s.data, 'pack') - before
    assert.ok(grown < base.length / 4, `${grown} bytes for 29 new ones`)
    assert.ok((await app.request('GET', at(sha256(shifted)))).body.equals(shifted))
    const text = Buffer.from('compressible '.repeat(100000))
    await put(app, text)
    assert.ok(bytesBelow(s.data, 'pack') - before - grown < text.length / 4)
    assert.ok((await app.request('GET', at(sha256(text)))).body.equals(text))
})

test('a large body is streamed: chunked, and at bounded memory', async (t) => {
    const s = await service(t)
    const app = new App(s)
    const mib = 64
    const piece = (i) => { const b = Buffer.alloc(1 << 20, `piece ${i} of a large file, `); b.writeUInt32LE(i, 0); return b }
    const hash = createHash('sha256')
    for (let i = 0; i < mib; i++) hash.update(piece(i))
    const digest = hash.digest('hex')
    const before = s.rss()
    let most = 0
    async function* body() {
        for (let i = 0; i < mib; i++) {
            yield piece(i)
            most = Math.max(most, s.rss())
        }
    }
    const reply = await app.request('PUT', at(digest), { body: body() })
    assert.equal(reply.status, 201, reply.text)
    assert.equal(reply.json.size, mib << 20)
    t.diagnostic(`${mib} MiB stored, resident memory grew by ${((most - before) / 1e6).toFixed(1)} MB`)
    assert.ok(process.env.SEGUED || most - before < 40e6, `memory grew by ${most - before}`)
    const got = await app.request('GET', at(digest))
    assert.equal(sha256(got.body), digest)
})

// A large body is read where its upload wants it: never a byte of what comes behind.
test('bodies that are taken and refused come one behind the other, and each request gets its own answer', async (t) => {
    const s = await service(t)
    const seed = Number(process.env.SEED || Date.now() % 1e9), dice = mulberry32(seed)
    const roll = (n) => Math.floor(dice() * n)
    const request = () => {
        const bytes = randomBytes(1 + roll(1500000)), kind = roll(5)
        const line = (digest, fields) => `PUT /apps/default/blobs/${digest} HTTP/1.1\r\nHost: x\r\n${fields}\r\n\r\n`
        const length = `Content-Length: ${bytes.length}`
        if (kind === 0) return [422, line(sha256('else'), length), bytes]
        if (kind === 1) return [201, line(sha256(bytes), `${length}\r\nExpect: 100-continue`), bytes]
        if (kind === 2) return [201, line(sha256(bytes), 'Transfer-Encoding: chunked'), `${bytes.length.toString(16)}\r\n`, bytes, '\r\n0\r\n\r\n']
        if (kind === 3) return [400, line('none', 'Content-Length: 60000'), Buffer.alloc(60000)]
        return [201, line(sha256(bytes), length), bytes]
    }
    for (let round = 0; round < 10; round++) {
        const asked = Array.from({ length: 4 }, () => [request(), [200, 'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n']]).flat()
        const all = Buffer.concat(asked.flatMap(([, ...pieces]) => pieces.map((p) => Buffer.from(p))))
        const raw = new Raw(s)
        const sent = (async () => {
            for (let from = 0, n; from < all.length; from += n) {
                n = 1 + roll(300000)
                raw.send(all.subarray(from, from + n))
                if (roll(3) === 0) await sleep(1)
            }
        })()
        for (const [status] of asked) {
            let reply = await raw.reply()
            while (reply.status === 100) reply = await raw.reply()
            assert.equal(reply.status, status, `SEED=${seed}: ${reply.text}`)
        }
        await sent
        raw.destroy()
    }
})

test('a row refers to a blob that is there, and shows its size and type', async (t) => {
    const { app, chat } = await chatService(t)
    const id = randomUUID()
    const bytes = Buffer.from('an attachment')
    const digest = sha256(bytes)
    await app.batch([message(chat, id)])
    await app.rejected([update('messages', id, { attachment: { blob: digest } })], 422, 'blob_not_found')
    const { seq } = (await put(app, bytes, 'text/plain')).json
    assert.equal(seq, 4)
    await app.batch([update('messages', id, { attachment: { blob: digest } })])
    assert.deepEqual((await app.rows('select attachment from messages'))[0].attachment, { blob: digest, size: bytes.length, type: 'text/plain' })
    await app.s.kill()
    await app.s.start()
    assert.deepEqual((await app.rows('select attachment from messages'))[0].attachment, { blob: digest, size: bytes.length, type: 'text/plain' })
    assert.ok((await app.request('GET', at(digest))).body.equals(bytes))
    await app.batch([remove('messages', id)])
})

test('a client that vanishes in the middle of an upload leaves nothing and disturbs nobody', async (t) => {
    const s = await service(t)
    const app = new App(s)
    const bytes = randomBytes(3 << 20)
    const digest = sha256(bytes)
    for (const part of [0, 1, 100, 70000, 1 << 20, 2 << 20, bytes.length - 1]) {
        const raw = new Raw(s)
        raw.send(`PUT /apps/default/blobs/${digest} HTTP/1.1\r\nHost: x\r\nContent-Length: ${bytes.length}\r\n\r\n`)
        raw.send(bytes.subarray(0, part))
        await sleep(part % 7 === 0 ? 0 : 30)
        raw.socket.resetAndDestroy?.()
        raw.destroy()
    }
    assertProblem(await app.request('GET', at(digest)), 404, 'no_such_blob')
    assert.equal((await put(app, bytes)).status, 201)
    // A reader that vanishes in the middle, too.
    for (let i = 0; i < 5; i++) {
        const raw = new Raw(s)
        raw.send(`GET /apps/default/blobs/${digest} HTTP/1.1\r\nHost: x\r\n\r\n`)
        await raw.line()
        raw.destroy()
    }
    assert.ok((await app.request('GET', at(digest))).body.equals(bytes))
})

test('a service that is stopped or killed in the middle of an upload has it whole or not at all', async (t) => {
    const s = await service(t)
    const app = new App(s)
    const bytes = randomBytes(2 << 20)
    const digest = sha256(bytes)
    for (const stop of ['kill', 'stop']) {
        const raw = new Raw(s)
        raw.send(`PUT /apps/default/blobs/${digest} HTTP/1.1\r\nHost: x\r\nContent-Length: ${bytes.length}\r\n\r\n`)
        raw.send(bytes.subarray(0, bytes.length - 5))
        await sleep(50)
        if (stop === 'stop') setTimeout(() => raw.destroy(), 200)
        await s[stop]()
        raw.destroy()
        await s.start()
        assertProblem(await app.request('GET', at(digest)), 404, 'no_such_blob')
    }
    assert.equal((await put(app, bytes)).status, 201)
    await s.kill()
    await s.start()
    assert.ok((await app.request('GET', at(digest))).body.equals(bytes))
})

test('a damaged chunk is never given out as if it were whole', async (t) => {
    const s = await service(t)
    const app = new App(s)
    const bytes = randomBytes(600000)
    const digest = sha256(bytes)
    await put(app, bytes)
    await s.stop()
    damagePacks(s.data, bytes)
    await s.start()
    // Cut off in the middle, or refused: anything but 600,000 bytes.
    const outcome = await app.request('GET', at(digest)).then((r) => r.status, () => 'cut')
    assert.ok(outcome === 'cut' || outcome === 500, String(outcome))
    assert.equal(await eventually('readiness', async () => (await app.request('GET', '/schema')).status), 200)
})

// Turns one byte in the middle of the blob's bytes in whatever file of the store has them.
function damagePacks(folder, bytes) {
    const needle = bytes.subarray(300000, 300032)
    let hits = 0
    const walk = (dir) => {
        for (const e of fs.readdirSync(dir, { withFileTypes: true })) {
            const name = path.join(dir, e.name)
            if (e.isDirectory()) { walk(name); continue }
            if (fs.statSync(name).size > 64 << 20) continue
            const content = fs.readFileSync(name)
            const found = content.indexOf(needle)
            if (found < 0) continue
            const file = fs.openSync(name, 'r+')
            fs.writeSync(file, Buffer.from([content[found] ^ 1]), 0, 1, found)
            fs.closeSync(file)
            hits++
        }
    }
    walk(folder)
    assert.equal(hits, 1, 'random bytes are stored once, as they are')
}
