// Resumable Uploads for HTTP, the IETF's draft: PROTOCOL.md, "Resumable Uploads for HTTP".
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { COMPLETED, Draft, draft, INCONSISTENT, MISMATCH, PARTIAL, Watched } from './lib/draft.mjs'
import { Raw, request } from './lib/http.mjs'
import { eventually, sleep } from './lib/service.mjs'
import { assertBlob, sha256, Tus } from './lib/tus.mjs'

const VERSIONS = [3, 5, 6, 8]
const UPLOAD = /^\/apps\/default\/uploads\/[0-9a-f-]{36}$/
const digest = (bytes, kind = 'sha256') => `${kind === 'sha256' ? 'sha-256' : 'sha-512'}=:${createHash(kind).update(bytes).digest('base64')}:`

function assertType(reply, status, type, more = {}) {
    assert.equal(reply.status, status, reply.text)
    assert.match(reply.headers['content-type'], /^application\/problem\+json/)
    assert.equal(reply.json.type, type, reply.text)
    assert.equal(reply.json.status, status)
    for (const [key, value] of Object.entries(more)) assert.deepEqual(reply.json[key], value, reply.text)
}

function assertFinal(up, reply, bytes, status = 201) {
    assert.equal(reply.status, status, reply.text)
    assert.ok(up.isComplete(reply))
    assert.equal(reply.headers['upload-offset'], String(bytes.length))
    assert.equal(reply.headers['segue-blob'], sha256(bytes))
    assert.equal(reply.headers['repr-digest'], digest(bytes))
    assert.deepEqual([reply.json.blob, reply.json.size], [sha256(bytes), bytes.length])
    assert.ok(reply.json.seq > 0)
}

for (const v of VERSIONS) {
    test(`version ${v}: in one request, and in parts`, async (t) => {
        const up = await draft(t, v)
        for (const n of [0, 1, 40000, 3 << 20]) {
            const bytes = randomBytes(n)
            const whole = await up.create(true, { 'content-type': 'video/mp4' }, bytes)
            assertFinal(up, whole, bytes)
            assert.match(whole.headers.location, UPLOAD)
            assert.equal(whole.interim[0].status, 104)
            assert.equal(whole.interim[0].headers.location, whole.headers.location)
            assert.equal(whole.interim[0].headers['upload-draft-interop-version'], String(v))
            await assertBlob(up.app, bytes, 'video/mp4')
        }
        const bytes = randomBytes(100000)
        const made = await up.create(false, {}, bytes.subarray(0, 1000))
        assert.deepEqual([made.status, made.headers['upload-offset'], up.isComplete(made)], [201, '1000', false])
        const path = made.headers.location
        assert.equal(made.interim[0].headers.location, path)
        const more = await up.append(path, 1000, false, bytes.subarray(1000, 50000))
        assert.deepEqual([more.status, more.headers['upload-offset'], up.isComplete(more)], [v < 8 ? 201 : 204, '50000', false])
        const head = await up.head(path)
        assert.deepEqual([head.status, head.headers['upload-offset'], up.isComplete(head), head.headers['cache-control']], [204, '50000', false, 'no-store'])
        assert.equal(head.headers['upload-length'], undefined)
        assert.equal(head.headers['tus-resumable'], undefined)
        const limit = head.headers['upload-limit']
        if (v < 6) assert.equal(limit, undefined)
        else assert.match(limit, v === 6 ? /^max-size=17592186044416, expires=\d+$/ : /^max-size=17592186044416, max-age=\d+$/)
        const end = await up.append(path, 50000, true, bytes.subarray(50000))
        assertFinal(up, end, bytes)
        const done = await up.head(path)
        assert.deepEqual([done.status, done.headers['upload-offset'], done.headers['upload-length'], up.isComplete(done)], [204, '100000', '100000', true])
        assert.deepEqual([done.headers['segue-blob'], done.headers['repr-digest']], [sha256(bytes), digest(bytes)])
        // The answer was lost: whoever asks for the end again has it again.
        const again = await up.append(path, 100000, true)
        assertFinal(up, again, bytes)
        assert.equal(again.json.seq, end.json.seq)
        assertType(await up.append(path, 100000, true, 'x'), 400, v === 6 ? COMPLETED : INCONSISTENT)
        assertType(await up.append(path, 50000, true, bytes.subarray(50000)), 409, MISMATCH)
    })

    test(`version ${v}: what does not fit is told, and nothing of it is kept`, async (t) => {
        const up = await draft(t, v)
        const path = (await up.create(false, {}, 'abc')).headers.location
        const wrong = await up.append(path, 7, true, 'defg')
        assertType(wrong, 409, MISMATCH, { 'expected-offset': 3, 'provided-offset': 7, code: 'upload_offset' })
        assert.equal(wrong.headers['upload-offset'], '3')
        assert.equal(up.isComplete(wrong), false)
        for (const headers of [{ 'upload-offset': '-3' }, { 'upload-offset': '3.0' }, { 'upload-offset': '1234567890123456' }, v === 3 ? { 'upload-incomplete': '1' } : { 'upload-complete': 'true' }])
            assertType(await up.append(path, 3, true, 'd', headers), 400, 'about:blank', { code: 'bad_request' })
        if (v >= 6) {
            const other = await up.append(path, 3, true, 'd', { 'content-type': 'application/octet-stream' })
            assertType(other, 415, 'about:blank')
            assert.equal(other.headers['accept-patch'], PARTIAL)
        }
        if (v < 8) assert.deepEqual([(await up.ask('HEAD', path, { 'upload-offset': '3' })).status, (await up.ask('DELETE', path, up.says(true))).status], [400, 400])
        assert.equal((await up.head(path)).headers['upload-offset'], '3')
        assert.equal((await up.ask('DELETE', path)).status, 204)
        assert.equal((await up.head(path)).status, 404)
        assert.equal((await up.append(path, 3, true, 'd')).status, 404)
    })
}

test('progress is told as it becomes durable, and never beyond', async (t) => {
    const up = await draft(t, 8)
    const bytes = randomBytes(5 << 20)
    let told = 0
    // The next piece waits for the offset of the last.
    const reached = (n) => (interim) => eventually(`offset ${n}`, () => Number(interim.at(-1)?.headers['upload-offset'] ?? 0) === n)
    const first = bytes.subarray(0, 2 << 20)
    const reply = await up.watch('POST', '/apps/default/uploads', { ...up.says(true), 'content-length': String(bytes.length) }, [
        first, reached(first.length), async (interim) => { told = interim.length }, bytes.subarray(first.length),
    ])
    assertFinal(up, reply, bytes)
    assert.ok(told >= 2)
    assert.equal(reply.interim[0].headers['upload-offset'], undefined)
    assert.match(reply.interim[0].headers['upload-limit'], /^max-size=\d+, max-age=\d+$/)
    let last = 0
    for (const { status, headers } of reply.interim.slice(1)) {
        assert.deepEqual([status, headers.location], [104, undefined])
        assert.ok(Number(headers['upload-offset']) > last && Number(headers['upload-offset']) <= bytes.length)
        last = Number(headers['upload-offset'])
    }
    // What was told survives the service's death.
    const half = randomBytes(3 << 20)
    const raw = up.raw('POST', '/apps/default/uploads', 2 * half.length, up.says(true))
    raw.send(half)
    const text = await eventually('the offset', () => /Upload-Offset: (\d+)/.test(raw.text) && raw.text)
    await up.app.s.kill()
    await up.app.s.start()
    raw.destroy()
    const head = await up.head(/Location: (\S+)/.exec(text)[1])
    assert.ok(Number(head.headers['upload-offset']) >= Number(/Upload-Offset: (\d+)/.exec(text)[1]))
    assert.equal(head.headers['upload-length'], String(2 * half.length))
})

test('interim replies go only where they are understood', async (t) => {
    const up = await draft(t, 8)
    for (const version of ['4', '7', '9', '3, 5', 'x', undefined]) {
        const reply = await new Draft(up.app, 0).create(true, version ? { 'upload-draft-interop-version': version } : {}, 'abc')
        assertFinal(up, reply, Buffer.from('abc'))
        assert.deepEqual(reply.interim, [], version)
    }
    const old = up.raw('POST', '/apps/default/uploads', 3, up.says(true))
    old.send('abc')
    await eventually('the answer', () => old.text.includes('\r\n\r\n{'))
    assert.match(old.text, /^HTTP\/1\.1 104 Upload Resumption Supported\r\n/)
    old.destroy()
    const raw = new Watched(up.app.s)
    raw.send('POST /apps/default/uploads HTTP/1.0\r\nUpload-Draft-Interop-Version: 8\r\nUpload-Complete: ?1\r\nContent-Length: 3\r\n\r\nabc')
    await eventually('the answer', () => raw.text.includes('\r\n\r\n{'))
    assert.match(raw.text, /^HTTP\/1\.1 201 /)
    raw.destroy()
    // Who waits is told where the upload is, and to go on.
    const waits = up.raw('POST', '/apps/default/uploads', 3, { ...up.says(true), expect: '100-continue' })
    await eventually('the leave', () => waits.text.includes('100 Continue\r\n\r\n'))
    assert.match(waits.text, /^HTTP\/1\.1 104 [^]*HTTP\/1\.1 100 Continue\r\n\r\n$/)
    waits.send('abc')
    await eventually('the answer', () => waits.text.includes('HTTP/1.1 201 '))
    waits.destroy()
})

test('lengths have to agree, however they are said', async (t) => {
    const up = await draft(t, 8)
    assertType(await up.create(true, { 'upload-length': '4' }, 'abc'), 400, INCONSISTENT)
    assertType(await up.create(false, { 'upload-length': '2' }, 'abc'), 400, INCONSISTENT)
    const large = await up.create(false, { 'upload-length': String(2 ** 44 + 1) })
    assertType(large, 413, 'about:blank', { code: 'too_large' })
    assert.match(large.headers['upload-limit'], /^max-size=17592186044416/)
    const path = (await up.create(false, { 'upload-length': '6' }, 'abc')).headers.location
    assert.equal((await up.head(path)).headers['upload-length'], '6')
    assertType(await up.append(path, 3, false, 'd', { 'upload-length': '7' }), 400, INCONSISTENT)
    assertType(await up.append(path, 3, true, 'de'), 400, INCONSISTENT)
    assertType(await up.append(path, 3, false, 'defg'), 400, INCONSISTENT)
    // A malformed one is as good as none.
    assert.equal((await up.append(path, 3, false, 'd', { 'upload-length': 'six' })).status, 204)
    // All is there, and yet it is not complete before the client says so.
    const full = await up.append(path, 4, false, 'ef')
    assert.deepEqual([full.status, full.headers['upload-offset'], full.headers['upload-complete']], [204, '6', '?0'])
    assert.equal((await up.head(path)).headers['upload-complete'], '?0')
    assertFinal(up, await up.append(path, 6, true), Buffer.from('abcdef'))
    // Beyond its length it is no upload any more, said in advance or not.
    const over = (await up.create(false, { 'upload-length': '6' }, 'abc')).headers.location
    const reply = await up.watch('PATCH', over, { ...up.says(false), 'content-type': PARTIAL, 'upload-offset': '3', 'transfer-encoding': 'chunked' }, ['de', 'fgh'])
    assertType(reply, 400, INCONSISTENT)
    assert.equal((await up.head(over)).status, 404)
})

test('digests: of a request, of the whole, asked for or not', async (t) => {
    const up = await draft(t, 8)
    const bytes = randomBytes(300000)
    const made = await up.create(false, { 'content-digest': digest(bytes.subarray(0, 1000)), 'repr-digest': digest(bytes) }, bytes.subarray(0, 1000))
    assert.equal(made.status, 201, made.text)
    const path = made.headers.location
    const bad = await up.append(path, 1000, true, bytes.subarray(1000), { 'content-digest': digest('else') })
    assertType(bad, 400, 'about:blank', { code: 'checksum_mismatch' })
    assert.equal(bad.headers['upload-offset'], '1000')
    assertType(await up.append(path, 1000, true, bytes.subarray(1000), { 'content-digest': 'sha-256=:AAAA:' }), 400, 'about:blank', { code: 'bad_request' })
    assert.equal((await up.append(path, 1000, false, bytes.subarray(1000, 2000), { 'content-digest': `${digest(bytes.subarray(1000, 2000), 'sha512')}, md5=:AA==:` })).status, 204)
    await up.app.s.kill()
    await up.app.s.start()
    assertFinal(up, await up.append(path, 2000, true, bytes.subarray(2000), { 'content-digest': digest(bytes.subarray(2000)) }), bytes)
    // The whole is not what was promised: the upload has failed.
    const promised = (await up.create(false, { 'repr-digest': digest('another') }, 'ab')).headers.location
    assertType(await up.append(promised, 2, true, 'c'), 422, 'about:blank', { code: 'digest_mismatch' })
    assert.equal((await up.head(promised)).status, 404)
    const unwanted = await up.create(true, { 'want-repr-digest': 'sha-256=0, sha-512=3' }, 'abc')
    assert.equal(unwanted.headers['repr-digest'], undefined)
})

test('a last request that breaks behind its last byte', async (t) => {
    const up = await draft(t, 8)
    const bytes = randomBytes(300000)
    const chunk = Buffer.concat([Buffer.from(`${(200000).toString(16)}\r\n`), bytes.subarray(100000), Buffer.from('\r\n')])
    const send = async (path, more) => {
        const raw = new Raw(up.app.s)
        const head = Object.entries({ ...up.fields(up.says(true)), 'content-type': PARTIAL, 'upload-offset': '100000', 'transfer-encoding': 'chunked', ...more })
        raw.send(`PATCH ${path} HTTP/1.1\r\nHost: x\r\n${head.map(([k, v]) => `${k}: ${v}\r\n`).join('')}\r\n`).send(chunk)
        await sleep(100)
        raw.destroy()
        return eventually('all bytes', async () => { const head = await up.head(path); return head.headers['upload-offset'] === '300000' && head })
    }
    // Nobody said how long it is: there may be more, and an empty request says that there is not.
    const open = (await up.create(false, {}, bytes.subarray(0, 100000))).headers.location
    const head = await send(open, {})
    assert.deepEqual([up.isComplete(head), head.headers['upload-length'], head.headers['segue-blob']], [false, undefined, undefined])
    assertFinal(up, await up.append(open, 300000, true), bytes)
    // All of what it was to have is here: a client that asks takes it for done, and it is.
    const known = (await up.create(false, { 'upload-length': '300000' }, bytes.subarray(0, 100000))).headers.location
    const done = await send(known, {})
    assert.deepEqual([up.isComplete(done), done.headers['segue-blob']], [true, sha256(bytes)])
    assertFinal(up, await up.append(known, 300000, true), bytes)
    const late = (await up.create(false, {}, bytes.subarray(0, 100000))).headers.location
    assert.ok(up.isComplete(await send(late, { 'upload-length': '300000' })))
    // What is not what was promised is not, either.
    const promised = (await up.create(false, { 'upload-length': '300000', 'repr-digest': digest('another') }, bytes.subarray(0, 100000))).headers.location
    const raw = up.raw('PATCH', promised, 200000, { ...up.says(true), 'content-type': PARTIAL, 'upload-offset': '100000' })
    raw.send(bytes.subarray(100000))
    await eventually('its end', () => raw.text.includes('digest_mismatch'))
    raw.destroy()
})

test('a body that nobody goes on with ends elsewhere than it said, and leaves nothing', async (t) => {
    const up = await draft(t, 8)
    const post = (length) => {
        const raw = new Raw(up.app.s)
        return raw.send(`POST /apps/default/blobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nUpload-Length: ${length}\r\n\r\n`)
    }
    const refused = async (raw) => {
        const reply = await raw.send('1\r\nx\r\n0\r\n\r\n').reply()
        assertType(reply, 400, INCONSISTENT)
        assert.deepEqual([reply.headers['upload-offset'], reply.headers.location], [undefined, undefined])
        raw.destroy()
    }
    await refused(post(5))
    // Longer than what is committed at once, and with nothing behind that but a piece of a chunk: zeros are cut every 256 KiB.
    const raw = post(2 ** 30), zeros = Buffer.concat([Buffer.from('10000\r\n'), Buffer.alloc(65536), Buffer.from('\r\n')])
    for (let i = 0; i < 293 * 7; i++) {
        raw.send(zeros)
        if (i % 7 === 6) await sleep(5)
    }
    await eventually('a commit', async () => (await request(up.app.s, 'GET', '/healthz')).json.apps.default.seq > 0)
    await refused(raw)
    await eventually('nothing', async () => (await up.app.request('GET', '/blob-usage')).json.chunks === 0)
})

test('a plain PUT or POST of a blob may turn resumable', async (t) => {
    const up = await draft(t, 8)
    const bytes = randomBytes(2 << 20)
    const where = `/apps/default/blobs/${sha256(bytes)}`
    const raw = up.raw('PUT', where, bytes.length, { ...up.says(true), 'content-type': 'image/png' })
    raw.send(bytes.subarray(0, 1500000))
    const text = await eventually('the address', () => raw.text.includes('\r\n\r\n') && raw.text)
    raw.destroy()
    const path = /Location: (\S+)/.exec(text)[1]
    const at = Number((await up.head(path)).headers['upload-offset'])
    assertFinal(up, await up.append(path, at, true, bytes.subarray(at)), bytes)
    await assertBlob(up.app, bytes, 'image/png')
    const posted = await up.create(true, { 'content-type': 'text/plain' }, 'posted', '/apps/default/blobs')
    assertFinal(up, posted, Buffer.from('posted'))
    assert.equal(posted.interim[0].headers.location, posted.headers.location)
    const plain = await request(up.app.s, 'POST', '/apps/default/blobs', { headers: { 'content-type': 'text/x-plain' }, body: 'plain' })
    assert.deepEqual([plain.status, plain.json.blob, plain.json.size, plain.headers.location], [201, sha256('plain'), 5, undefined])
    await assertBlob(up.app, Buffer.from('plain'), 'text/x-plain')
    assert.equal((await request(up.app.s, 'POST', '/apps/default/blobs', { body: 'plain' })).status, 200)
    assertType(await up.create(true, {}, 'other', where, 'PUT'), 422, 'about:blank', { code: 'digest_mismatch' })
    const options = await request(up.app.s, 'OPTIONS', '/apps/default/blobs')
    assert.deepEqual([options.headers['accept-patch'], options.headers['upload-limit']], [PARTIAL, 'max-size=17592186044416'])
})

test('the newest request wins, and tus and the draft go on with the same upload', async (t) => {
    const up = await draft(t, 6)
    const tus = new Tus(up.app)
    const bytes = randomBytes(1 << 20)
    const raw = up.raw('POST', '/apps/default/uploads', bytes.length, up.says(true))
    raw.send(bytes.subarray(0, 500000))
    const text = await eventually('the address', () => raw.text.includes('\r\n\r\n') && raw.text)
    const path = /Location: (\S+)/.exec(text)[1]
    const at = Number((await up.head(path)).headers['upload-offset'])
    assert.ok(at <= 500000)
    await eventually('its end', () => raw.text.includes('upload_taken'))
    raw.destroy()
    assert.equal(await tus.offset(path), at)
    assert.equal((await tus.patch(path, at, bytes.subarray(at, 600000))).headers['upload-offset'], '600000')
    assertFinal(up, await up.append(path, 600000, true, bytes.subarray(600000)), bytes)
    assert.equal((await tus.head(path)).headers['segue-blob'], sha256(bytes))
    const other = await tus.create(6)
    assert.equal((await up.append(other, 0, false, 'abc')).status, 201)
    assert.equal((await tus.patch(other, 3, 'def')).headers['segue-blob'], sha256('abcdef'))
    const neither = await request(up.app.s, 'POST', '/apps/default/uploads', { headers: { 'upload-length': '3' } })
    assert.deepEqual([neither.status, neither.json.code], [412, 'tus_version'])
})

test('curl', async (t) => {
    const up = await draft(t, 8)
    const curl = (...args) => new Promise((done, fail) => execFile('curl', ['-sSi', '-H', 'Upload-Draft-Interop-Version: 8', ...args], (e, out) => (e ? fail(e) : done(out))))
    const text = await curl('-H', 'Upload-Complete: ?0', '--data-binary', 'hello ', `${up.app.s.url}/apps/default/uploads`)
    assert.match(text, /^HTTP\/1\.1 104 [^]*\nHTTP\/1\.1 201 Created/)
    const path = /\nLocation: (\S+)/.exec(text)[1]
    const end = await curl('-X', 'PATCH', '-H', 'Upload-Complete: ?1', '-H', 'Upload-Offset: 6', '-H', `Content-Type: ${PARTIAL}`, '--data-binary', 'world', up.app.s.url + path)
    assert.match(end, new RegExp(`^HTTP/1\\.1 201 [^]*${sha256('hello world')}`))
})
