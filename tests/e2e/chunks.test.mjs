// Delta uploads: PROTOCOL.md, section 10.
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { App, assertProblem } from './lib/http.mjs'
import { eventually, service } from './lib/service.mjs'

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex')
const TYPE = 'application/vnd.segue.manifest+json'

function frame(bytes, digest = sha256(bytes)) {
    const length = Buffer.alloc(4)
    length.writeUInt32BE(bytes.length)
    return Buffer.concat([Buffer.from(digest, 'hex'), length, bytes])
}

// Any cuts within the bounds will do.
function cut(bytes, size = 50000) {
    const chunks = []
    for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.subarray(at, at + size))
    return chunks
}

const send = (app, chunks) => app.request('POST', '/chunks', { body: Buffer.concat(chunks.map((c) => frame(c))) })
const ask = async (app, chunks) => {
    const reply = await app.request('POST', '/chunks/missing', { body: JSON.stringify({ chunks: chunks.map(sha256) }) })
    assert.equal(reply.status, 200, reply.text)
    return reply.json.missing
}
const list = (bytes, chunks, more = {}) => ({ size: bytes.length, chunks: chunks.map((c) => [sha256(c), c.length]), ...more })
const commit = (app, digest, body) =>
    app.request('PUT', `/blobs/${digest}`, { headers: { 'content-type': TYPE }, body: typeof body === 'string' ? body : JSON.stringify(body) })

test('what is missing is sent, and the list of chunks is the blob', async (t) => {
    const app = new App(await service(t))
    const bytes = randomBytes(5000003)
    const chunks = cut(bytes)
    assert.equal((await ask(app, chunks)).length, chunks.length)
    assert.equal((await send(app, chunks.slice(0, 40).reverse())).status, 200)
    const missing = await ask(app, chunks)
    assert.deepEqual(missing, chunks.map((_, i) => i).slice(40))
    const early = assertProblem(await commit(app, sha256(bytes), list(bytes, chunks)), 409, 'chunks_missing')
    assert.deepEqual(early.missing, missing)
    assert.deepEqual((await send(app, missing.map((i) => chunks[i]))).json.stored, missing.length)
    const stored = await commit(app, sha256(bytes), list(bytes, chunks, { type: 'image/x-noise' }))
    assert.equal(stored.status, 201, stored.text)
    assert.equal(stored.json.blob, sha256(bytes))
    assert.equal(stored.json.size, bytes.length)
    const read = await app.request('GET', `/blobs/${sha256(bytes)}`)
    assert.ok(read.body.equals(bytes))
    assert.equal(read.headers['content-type'], 'image/x-noise')
    const again = await commit(app, sha256(bytes), list(bytes, chunks))
    assert.deepEqual([again.status, again.json], [200, stored.json])
    // One byte more in front: only what changed is sent.
    const changed = Buffer.concat([Buffer.from('x'), chunks[0]])
    const next = [changed, ...chunks.slice(1)]
    assert.deepEqual(await ask(app, next), [0])
    await send(app, [changed])
    assert.equal((await commit(app, sha256(Buffer.concat(next)), list(Buffer.concat(next), next))).status, 201)
    assert.ok((await app.request('GET', `/blobs/${sha256(Buffer.concat(next))}`)).body.equals(Buffer.concat(next)))
})

test('senders in parallel, the same chunks twice in a body and in a blob, and a blob of nothing', async (t) => {
    const app = new App(await service(t))
    const chunks = cut(randomBytes(3000000))
    const replies = await Promise.all([0, 1, 2, 3].map((i) => send(app, chunks.filter((_, n) => n % 4 === i || n % 3 === 0))))
    for (const reply of replies) assert.equal(reply.status, 200, reply.text)
    assert.equal((await send(app, [chunks[0], chunks[0], chunks[1]])).status, 200)
    assert.deepEqual(await ask(app, chunks), [])
    const twice = [...chunks, ...chunks]
    const bytes = Buffer.concat(twice)
    assert.equal((await commit(app, sha256(bytes), list(bytes, twice))).status, 201)
    assert.ok((await app.request('GET', `/blobs/${sha256(bytes)}`)).body.equals(bytes))
    const nothing = Buffer.alloc(0)
    assert.equal((await commit(app, sha256(nothing), list(nothing, []))).status, 201)
})

test('a blob of more chunks than one step looks at', async (t) => {
    const app = new App(await service(t))
    const chunks = Array.from({ length: 2100 }, (_, i) => Buffer.alloc(16384, `${i} `))
    for (let at = 0; at < chunks.length; at += 250) assert.equal((await send(app, chunks.slice(at, at + 250))).status, 200)
    const bytes = Buffer.concat(chunks)
    const gone = [...chunks.slice(0, 2050), Buffer.alloc(16384, 'not sent'), ...chunks.slice(2050)]
    const refused = assertProblem(await commit(app, sha256(Buffer.concat(gone)), list(Buffer.concat(gone), gone)), 409, 'chunks_missing')
    assert.deepEqual(refused.missing, [2050])
    assert.equal((await commit(app, sha256(bytes), list(bytes, chunks))).status, 201)
    assert.ok((await app.request('GET', `/blobs/${sha256(bytes)}`)).body.equals(bytes))
})

const TUS = { 'tus-resumable': '1.0.0' }
const make = async (app, length) => {
    const made = await app.request('POST', '/uploads', { headers: { ...TUS, 'upload-length': String(length) } })
    assert.equal(made.status, 201, made.text)
    return made.headers.location.replace(/^\/apps\/[^/]+/, '')
}
const page = (app, path, offset, chunks) =>
    app.request('PATCH', path, { headers: { ...TUS, 'content-type': TYPE, 'upload-offset': String(offset) }, body: JSON.stringify(list(Buffer.concat(chunks), chunks)) })

test('a list comes in pages, goes on after a restart, and bytes and lists make one upload', async (t) => {
    const running = await service(t)
    let app = new App(running)
    const bytes = randomBytes(9000001), head = randomBytes(300000), all = Buffer.concat([head, bytes])
    const chunks = cut(bytes)
    for (let at = 0; at < chunks.length; at += 60) await send(app, chunks.slice(at, at + 60))
    const path = await make(app, all.length)
    // Bytes first: what follows the last cut is no chunk yet, so a list cannot follow.
    assert.equal((await app.request('PATCH', path, { headers: { ...TUS, 'upload-offset': '0', 'content-type': 'application/offset+octet-stream' }, body: head })).status, 204)
    assertProblem(await page(app, path, head.length, chunks.slice(0, 3)), 422, 'bad_value')
    const listed = await make(app, bytes.length)
    let at = 0, offset = 0
    for (const count of [1, 2, 0, 70]) {
        const reply = await page(app, listed, offset, chunks.slice(at, at + count))
        assert.equal(reply.status, 204, reply.text)
        at += count
        offset += Buffer.concat(chunks.slice(at - count, at)).length
        assert.equal(reply.headers['upload-offset'], String(offset))
        assert.equal(reply.headers['segue-blob'], undefined)
    }
    assertProblem(await page(app, listed, 0, chunks.slice(0, 1)), 409, 'upload_offset')
    await running.kill()
    app = new App(await running.start())
    assert.equal((await app.request('HEAD', listed, { headers: TUS })).headers['upload-offset'], String(offset))
    const last = await page(app, listed, offset, chunks.slice(at))
    assert.deepEqual([last.status, last.headers['upload-offset'], last.headers['segue-blob']], [204, String(bytes.length), sha256(bytes)])
    assert.ok((await app.request('GET', `/blobs/${sha256(bytes)}`)).body.equals(bytes))
})

test('pages that cannot be taken leave the upload where it was', async (t) => {
    const app = new App(await service(t))
    const chunks = cut(randomBytes(200001)), bytes = Buffer.concat(chunks)
    await send(app, chunks.slice(0, 4))
    const path = await make(app, bytes.length)
    const missing = assertProblem(await page(app, path, 0, chunks), 409, 'chunks_missing')
    assert.deepEqual(missing.missing, [4])
    assertProblem(await page(app, path, 0, [...chunks.slice(0, 4), chunks[0]]), 422, 'bad_value') // longer than the upload
    const short = [chunks[0], chunks[1].subarray(0, 100)]
    await send(app, short)
    assertProblem(await page(app, path, 0, short), 422, 'bad_value') // a short one that is not the last of all
    assertProblem(await page(app, '/uploads/01a20cb7-0000-7000-8000-000000000000', 0, chunks), 404, 'no_such_upload')
    const plain = await app.request('PATCH', path, { headers: { 'content-type': TYPE, 'upload-offset': '0' }, body: '{}' })
    assert.equal(plain.status, 412)
    assert.equal((await page(app, path, 0, chunks.slice(0, 4))).headers['upload-offset'], '200000')
    // The rest may come as bytes.
    const rest = await app.request('PATCH', path, { headers: { ...TUS, 'upload-offset': '200000', 'content-type': 'application/offset+octet-stream' }, body: chunks[4] })
    assert.deepEqual([rest.status, rest.headers['segue-blob']], [204, sha256(bytes)])
    assert.ok((await app.request('GET', `/blobs/${sha256(bytes)}`)).body.equals(bytes))
})

test('a page for an upload whose time is over, or that is made of others, is refused as bytes are', async (t) => {
    const app = new App(await service(t, { args: ['--upload-ttl-ms', '1500'] }))
    const chunks = cut(randomBytes(100000))
    await send(app, chunks)
    const whole = await app.request('POST', '/uploads', { headers: { ...TUS, 'upload-concat': 'partial', 'upload-length': '1' } })
    const joined = await app.request('POST', '/uploads', { headers: { ...TUS, 'upload-concat': `final;${whole.headers.location}` } })
    assertProblem(await page(app, joined.headers.location.replace(/^\/apps\/[^/]+/, ''), 0, chunks), 403, 'upload_final')
    const path = await make(app, 100000)
    await eventually('its time', async () => (await app.request('HEAD', path, { headers: TUS })).status === 410)
    assertProblem(await page(app, path, 0, chunks), 410, 'upload_expired')
})

test('what is not what it says is refused, and nothing of it is kept', async (t) => {
    const s = await service(t)
    const app = new App(s)
    const chunks = cut(randomBytes(200000))
    const bytes = Buffer.concat(chunks)
    const raw = (body) => app.request('POST', '/chunks', { body })
    const wrong = [frame(chunks[0]), frame(chunks[1], sha256('other'))]
    assertProblem(await raw(Buffer.concat(wrong)), 460, 'checksum_mismatch')
    assert.deepEqual(await ask(app, chunks), [0, 1, 2, 3])
    assertProblem(await raw(frame(chunks[0]).subarray(0, -1)), 400, 'bad_request')
    assertProblem(await raw(frame(chunks[0]).subarray(0, 20)), 400, 'bad_request')
    assertProblem(await raw(''), 400, 'bad_request')
    assertProblem(await raw(frame(Buffer.alloc(0))), 400, 'bad_request')
    assertProblem(await raw(frame(Buffer.alloc(262145))), 400, 'bad_request')
    const huge = frame(chunks[0])
    huge.writeUInt32BE(0xffffffff, 32)
    assertProblem(await raw(huge), 400, 'bad_request')
    await send(app, chunks)
    assertProblem(await commit(app, sha256('other'), list(bytes, chunks)), 422, 'digest_mismatch')
    assertProblem(await app.request('GET', `/blobs/${sha256('other')}`), 404, 'no_such_blob')
    const swapped = [chunks[1], chunks[0], ...chunks.slice(2)]
    assertProblem(await commit(app, sha256(bytes), list(bytes, swapped)), 422, 'digest_mismatch')
    const lies = list(bytes, chunks)
    lies.chunks[0][1] -= 1
    lies.chunks[1][1] += 1
    for (const body of [lies, list(bytes, chunks.slice(1)), { size: 1 }, { ...list(bytes, chunks), size: -1 }, list(bytes, [chunks[3].subarray(0, 5), ...chunks]),
        { size: 5, chunks: [['zz', 5]] }, { size: 5, chunks: [5] }, { size: 5, chunks: [[sha256('a'), 4294967301]] }])
        assert.ok([400, 413, 422].includes((await commit(app, sha256(bytes), body)).status), JSON.stringify(body))
    const crowd = assertProblem(await commit(app, sha256(bytes), { size: 5, chunks: Array(3e6).fill(0) }), 422, 'bad_value')
    assert.match(crowd.detail, /more values/) // which nobody has made a tree of
    assertProblem(await commit(app, sha256(bytes), '{"size":'), 400, 'bad_json')
    assertProblem(await commit(app, 'zz', list(bytes, chunks)), 400, 'bad_digest')
    const many = await app.request('POST', '/chunks/missing', { body: JSON.stringify({ chunks: Array(4097).fill(sha256('a')) }) })
    assertProblem(many, 413, 'too_large')
    assert.equal((await commit(app, sha256(bytes), list(bytes, chunks))).status, 201)
})

test('chunks that were told to be there are there after a kill', async (t) => {
    const s = await service(t)
    const app = new App(s)
    const chunks = cut(randomBytes(900000))
    const bytes = Buffer.concat(chunks)
    assert.equal((await send(app, chunks)).status, 200)
    await s.kill()
    await s.start()
    assert.deepEqual(await ask(app, chunks), [])
    assert.equal((await commit(app, sha256(bytes), list(bytes, chunks))).status, 201)
    assert.ok((await app.request('GET', `/blobs/${sha256(bytes)}`)).body.equals(bytes))
})
