// tus's extensions: PROTOCOL.md, "uploads".
import assert from 'node:assert/strict'
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import http from 'node:http'
import net from 'node:net'
import { test } from 'node:test'
import { chatService, message } from './lib/chat.mjs'
import { assertProblem, Raw, request } from './lib/http.mjs'
import { eventually, sleep } from './lib/service.mjs'
import { assertBlob, BODY, sha256, TUS, Tus, tus } from './lib/tus.mjs'

const sum = (algorithm, bytes) => `${algorithm} ${createHash(algorithm).update(bytes).digest('base64')}`

test('bytes with the creation are stored in the same commit', async (t) => {
    const up = await tus(t)
    for (const n of [1, 5000, 16384, 40000, 3 << 20]) {
        const bytes = randomBytes(n)
        const whole = await up.post({ 'upload-length': String(n), 'content-type': BODY }, bytes)
        assert.deepEqual([whole.status, whole.headers['upload-offset'], whole.headers['segue-blob']], [201, String(n), sha256(bytes)])
        assert.equal((await up.head(whole.headers.location)).headers['segue-blob'], sha256(bytes))
        await assertBlob(up.app, bytes)
        const part = await up.post({ 'upload-length': String(n + 10), 'content-type': BODY }, bytes)
        assert.deepEqual([part.status, part.headers['upload-offset'], part.headers['segue-blob']], [201, String(n), undefined])
        assert.equal(await up.offset(part.headers.location), n)
        const rest = await up.patch(part.headers.location, n, 'the rest.\n')
        assert.equal(rest.headers['segue-blob'], sha256(Buffer.concat([bytes, Buffer.from('the rest.\n')])))
    }
    assertProblem(await up.post({ 'upload-length': '1', 'content-type': 'text/plain' }, 'x'), 415, 'unsupported_media_type')
    assertProblem(await up.post({ 'upload-length': '1', 'content-type': BODY }, 'xy'), 413, 'too_large')
    const empty = await up.post({ 'upload-length': '3', 'content-type': BODY }, '')
    assert.deepEqual([empty.status, empty.headers['upload-offset']], [201, '0'])
})

test('who waits for 100 Continue is told to go on when the upload is theirs, and refused before a byte is sent', async (t) => {
    const up = await tus(t)
    const say = (head) => new Promise((done, fail) => {
        const socket = net.connect(Number(new URL(up.app.s.url).port), '127.0.0.1', () => socket.write(`${head}\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nContent-Type: ${BODY}\r\nExpect: 100-continue\r\n\r\n`))
        let text = ''
        let sent = false
        socket.on('error', fail).on('data', (piece) => {
            text += piece.toString('latin1')
            if (text.startsWith('HTTP/1.1 100') && !sent) { sent = true; socket.write('abc') }
            if (/\r\n\r\n/.test(text.replace('HTTP/1.1 100 Continue\r\n\r\n', ''))) { socket.destroy(); done(text) }
        })
    })
    const made = await say('POST /apps/default/uploads HTTP/1.1\r\nUpload-Length: 6\r\nContent-Length: 3')
    assert.match(made, /^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 201 /)
    const path = /\r\nLocation: (\S+)\r\n/.exec(made)[1]
    assert.match(await say(`PATCH ${path} HTTP/1.1\r\nUpload-Offset: 0\r\nContent-Length: 3`), /^HTTP\/1.1 409 /)
    const done = await say(`PATCH ${path} HTTP/1.1\r\nUpload-Offset: 3\r\nContent-Length: 3`)
    assert.match(done, /^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 204 /)
    assert.match(done, new RegExp(sha256('abcabc')))
})

test('a length may be said later, once', async (t) => {
    const up = await tus(t)
    const bytes = randomBytes(200000)
    const path = await up.create(undefined, { 'upload-defer-length': '1' })
    let head = await up.head(path)
    assert.deepEqual([head.headers['upload-defer-length'], head.headers['upload-length'], head.headers['upload-offset']], ['1', undefined, '0'])
    assert.equal((await up.patch(path, 0, bytes.subarray(0, 70000))).status, 204)
    await up.app.s.kill()
    await up.app.s.start()
    assert.equal(await up.offset(path), 70000)
    assertProblem(await up.patch(path, 70000, 'x', { 'upload-length': '69999' }), 400, 'upload_length')
    assertProblem(await up.patch(path, 70000, 'x', { 'upload-length': String(2 ** 44 + 1) }), 413, 'too_large')
    assertProblem(await up.patch(path, 70000, 'xyz', { 'upload-length': '70001' }), 413, 'too_large')
    assert.equal((await up.head(path)).headers['upload-defer-length'], '1')
    assert.equal((await up.patch(path, 70000, bytes.subarray(70000, 100000), { 'upload-length': '200000' })).status, 204)
    head = await up.head(path)
    assert.deepEqual([head.headers['upload-defer-length'], head.headers['upload-length']], [undefined, '200000'])
    assertProblem(await up.patch(path, 100000, bytes.subarray(100000), { 'upload-length': '200001' }), 400, 'upload_length')
    assert.equal((await up.patch(path, 100000, bytes.subarray(100000), { 'upload-length': '200000' })).headers['segue-blob'], sha256(bytes))
    await assertBlob(up.app, bytes)
    // The end turns out to be where it is already: no byte brings the length.
    for (const n of [0, 1, 65536, 100000]) {
        const late = await up.create(undefined, { 'upload-defer-length': '1' })
        if (n) await up.patch(late, 0, bytes.subarray(0, n))
        const end = await up.patch(late, n, '', { 'upload-length': String(n) })
        assert.deepEqual([end.status, end.headers['segue-blob']], [204, sha256(bytes.subarray(0, n))])
        await assertBlob(up.app, bytes.subarray(0, n))
    }
})

test('a body with a checksum is kept as a whole or not at all', async (t) => {
    const up = await tus(t)
    const bytes = randomBytes(3 << 20)
    const path = await up.create(bytes.length)
    let at = 0
    for (const [algorithm, n] of [['sha1', 1000], ['sha256', 100000], ['sha1', 1 << 20], ['sha256', bytes.length - (1 << 20) - 101000]]) {
        const piece = bytes.subarray(at, at + n)
        assertProblem(await up.patch(path, at, piece, { 'upload-checksum': sum(algorithm, 'something else') }), 460, 'checksum_mismatch')
        assert.equal(await up.offset(path), at)
        assert.equal((await up.patch(path, at, piece, { 'upload-checksum': sum(algorithm, piece) })).status, 204)
        at += n
    }
    assert.equal(at, bytes.length)
    assert.equal((await up.head(path)).headers['segue-blob'], sha256(bytes))
    await assertBlob(up.app, bytes)
    const other = await up.create(10)
    for (const bad of ['md5 XrY7u+Ae7tCTyyK7j1rNww==', 'sha1', 'sha1 AAAA', '']) assertProblem(await up.patch(other, 0, 'x', { 'upload-checksum': bad }), 400, 'bad_request')
    // A break in the middle leaves nothing of it, even after what would have been a progress.
    const raw = new Raw(up.app.s)
    raw.send(`PATCH ${other} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Type: ${BODY}\r\nUpload-Checksum: ${sum('sha1', '0123456789')}\r\nContent-Length: 10\r\n\r\n01234`)
    await sleep(1300)
    raw.destroy()
    await sleep(50)
    assert.equal(await up.offset(other), 0)
    const made = await up.post({ 'upload-length': '3', 'content-type': BODY, 'upload-checksum': sum('sha256', 'abc') }, 'abc')
    assert.deepEqual([made.status, made.headers['segue-blob']], [201, sha256('abc')])
    assertProblem(await up.post({ 'upload-length': '3', 'content-type': BODY, 'upload-checksum': sum('sha256', 'abd') }, 'abc'), 460, 'checksum_mismatch')
})

test('a checksum may come behind the body', async (t) => {
    const up = await tus(t)
    const path = await up.create(9)
    const patch = async (offset, body, trailer) => {
        const raw = new Raw(up.app.s)
        raw.send(`PATCH ${path} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: ${offset}\r\nContent-Type: ${BODY}\r\nTrailer: Upload-Checksum\r\nTransfer-Encoding: chunked\r\n\r\n` +
            `${body.length.toString(16)}\r\n${body}\r\n0\r\n${trailer ? `Upload-Checksum: ${trailer}\r\n` : ''}\r\n`)
        const reply = await raw.reply()
        raw.destroy()
        return reply
    }
    assert.equal((await patch(0, 'abc', sum('sha1', 'abc'))).status, 204)
    assertProblem(await patch(3, 'def', sum('sha1', 'deg')), 460, 'checksum_mismatch')
    assertProblem(await patch(3, 'def'), 400, 'bad_request')
    assertProblem(await patch(3, 'def', 'sha1 nonsense'), 400, 'bad_request')
    assert.equal(await up.offset(path), 3)
    const end = await patch(3, 'defghi', sum('sha256', 'defghi'))
    assert.deepEqual([end.status, end.headers['segue-blob']], [204, sha256('abcdefghi')])
})

test('an upload that nobody goes on with is gone for a while, then forgotten', async (t) => {
    const up = await tus(t, { args: ['--upload-ttl-ms', '1500'] })
    const before = Date.now()
    const path = await up.create(10), done = await up.create(4)
    const reply = await up.patch(path, 0, '01234')
    const expires = Date.parse(reply.headers['upload-expires'])
    assert.ok(expires >= before && expires <= Date.now() + 1500, reply.headers['upload-expires'])
    assert.equal((await up.patch(done, 0, 'done')).headers['upload-expires'], undefined)
    assert.ok((await up.head(path)).headers['upload-expires'])
    const gone = await eventually('410', async () => { await sleep(100); return (await new Tus(up.app).head(path)).status === 410 })
    assert.ok(gone)
    assertProblem(await up.patch(path, 5, 'x'), 410, 'upload_expired')
    assert.equal((await up.ask('DELETE', path)).status, 410)
    await eventually('404', async () => { await sleep(100); return (await up.head(path)).status === 404 })
    await eventually('the done one', async () => { await sleep(100); return (await up.head(done)).status === 404 })
    await assertBlob(up.app, Buffer.from('done')) // it has its grace
})

test('parts that are done become one, by reference', async (t) => {
    const up = await tus(t)
    const bytes = randomBytes(9 << 20)
    const cuts = [0, 1, 100000, 100010, 4 << 20, bytes.length]
    const parts = []
    for (let i = 0; i + 1 < cuts.length; i++) {
        const path = await up.create(cuts[i + 1] - cuts[i], { 'upload-concat': 'partial' })
        parts.push(path)
        await up.patch(path, 0, bytes.subarray(cuts[i], cuts[i + 1]))
        assert.equal((await up.head(path)).headers['upload-concat'], 'partial')
    }
    const stored = async () => Number(/^segue_pack_bytes\S* (\d+)/m.exec(await up.app.metrics())[1])
    const was = await stored()
    assert.ok(was > bytes.length)
    const metadata = `filetype ${Buffer.from('video/mp4').toString('base64')}`
    const made = await up.post({ 'upload-concat': `final;${parts.map((p, i) => i % 2 ? p : up.app.s.url + p).join(' ')}`, 'upload-metadata': metadata })
    assert.equal(made.status, 201, made.text)
    const final = made.headers.location
    assert.equal(await up.digest(final), sha256(bytes))
    const head = await up.head(final)
    assert.deepEqual([head.headers['upload-concat'], head.headers['upload-length'], head.headers['upload-offset']], [`final;${parts.join(' ')}`, String(bytes.length), String(bytes.length)])
    assert.equal(await stored(), was)
    await assertBlob(up.app, bytes, 'video/mp4')
    assertProblem(await up.patch(final, bytes.length, 'x'), 403, 'upload_final')
    // A part may be used again, also twice; what is joined stays when its parts are deleted.
    const twice = (await up.post({ 'upload-concat': `final;${parts[2]} ${parts[1]} ${parts[2]}` })).headers.location
    const text = Buffer.concat([bytes.subarray(100000, 100010), bytes.subarray(1, 100000), bytes.subarray(100000, 100010)])
    assert.equal(await up.digest(twice), sha256(text))
    for (const part of parts) assert.equal((await up.ask('DELETE', part)).status, 204)
    await assertBlob(up.app, bytes)
    await assertBlob(up.app, text)
    const whole = await up.create(3, {}, 'abc')
    assertProblem(await up.post({ 'upload-concat': `final;${whole}` }), 400, 'bad_request')
    assertProblem(await up.post({ 'upload-concat': `final;/apps/default/uploads/${randomUUID()}` }), 404, 'no_such_upload')
    assertProblem(await up.post({ 'upload-concat': `final;${whole}`, 'upload-length': '3' }), 400, 'bad_request')
    for (const bad of ['', 'final', 'final;', 'Partial', 'final;nonsense']) assertProblem(await up.post({ 'upload-concat': bad, ...(bad === '' ? { 'upload-length': '1' } : {}) }), 400, 'bad_request')
    const none = await up.create(0, { 'upload-concat': 'partial' })
    const empty = await up.post({ 'upload-concat': `final;${none} ${none}` })
    assert.deepEqual([empty.status, empty.headers['segue-blob']], [201, sha256('')])
})

test('what is made of parts may be made before they are done', async (t) => {
    const up = await tus(t)
    const bytes = randomBytes(3 << 20)
    assert.match((await up.ask('OPTIONS', '/apps/default/uploads')).headers['tus-extension'], /(^|,)concatenation-unfinished(,|$)/)
    const concat = { 'upload-concat': 'partial' }
    const cuts = [0, 1 << 20, 2 << 20, bytes.length]
    const first = await up.create(1 << 20, concat, bytes.subarray(0, 1 << 20))
    const second = await up.create(1 << 20, concat, bytes.subarray(1 << 20, 1500000))
    const third = await up.create(undefined, { ...concat, 'upload-defer-length': '1' })
    const text = `final;${first} ${second} ${third}`
    const made = await up.post({ 'upload-concat': text, 'upload-metadata': `filetype ${Buffer.from('video/mp4').toString('base64')}` })
    assert.deepEqual([made.status, made.headers['upload-offset'], made.headers['segue-blob']], [201, undefined, undefined])
    const final = made.headers.location
    // Its length is told as soon as it can be known.
    let head = await up.head(final)
    assert.deepEqual([head.status, head.headers['upload-concat'], head.headers['upload-length'], head.headers['upload-defer-length'], head.headers['upload-offset']], [200, text, undefined, undefined, undefined])
    await up.patch(third, 0, bytes.subarray(cuts[2], cuts[2] + 100), { 'upload-length': String(cuts[3] - cuts[2]) })
    head = await up.head(final)
    assert.deepEqual([head.headers['upload-length'], head.headers['upload-offset']], [String(bytes.length), undefined])
    assertProblem(await up.patch(final, 0, 'x'), 403, 'upload_final')
    await up.app.s.kill()
    await up.app.s.start()
    await up.patch(second, 1500000 - (1 << 20), bytes.subarray(1500000, cuts[2]))
    assert.equal((await up.head(final)).headers['segue-blob'], undefined)
    await up.patch(third, 100, bytes.subarray(cuts[2] + 100))
    assert.equal(await up.digest(final), sha256(bytes))
    await assertBlob(up.app, bytes, 'video/mp4')
    head = await up.head(final)
    assert.deepEqual([head.headers['upload-concat'], head.headers['upload-length'], head.headers['upload-offset']], [text, String(bytes.length), String(bytes.length)])
    // Of nothing; and one whose part is gone is gone too, or never gets a length that fits.
    const none = await up.create(undefined, { ...concat, 'upload-defer-length': '1' })
    const empty = (await up.post({ 'upload-concat': `final;${none} ${none}` })).headers.location
    await up.patch(none, 0, '', { 'upload-length': '0' })
    assert.equal(await up.digest(empty), sha256(''))
    const doomed = await up.create(5, concat)
    const orphan = (await up.post({ 'upload-concat': `final;${first} ${doomed}` })).headers.location
    assert.equal((await up.ask('DELETE', doomed)).status, 204)
    await eventually('its end', async () => (await up.head(orphan)).status === 404)
    const huge = await up.create(Number((await up.ask('OPTIONS', '/apps/default/uploads')).headers['tus-max-size']), concat)
    assertProblem(await up.post({ 'upload-concat': `final;${first} ${huge}` }), 413, 'too_large')
})

test('who waits for parts waits for them alone, however many uploads are remembered', async (t) => {
    const up = await tus(t)
    const agent = new http.Agent({ keepAlive: true, maxSockets: 32 })
    t.after(() => agent.destroy())
    const done = () => request(up.app.s, 'POST', '/apps/default/uploads', { headers: { ...TUS, 'upload-length': '0' }, agent })
    for (let i = 0; i < 17; i++) for (const reply of await Promise.all(Array.from({ length: 500 }, done))) assert.equal(reply.status, 201, reply.text)
    for (let i = 0; i < 3; i++) {
        const part = await up.create(3, { 'upload-concat': 'partial' })
        const final = (await up.post({ 'upload-concat': `final;${part} ${part}` })).headers.location
        await up.patch(part, 0, 'abc')
        assert.equal(await up.digest(final), sha256('abcabc'))
    }
})

test('parts may go as soon as what is made of them was made, and their time may be short', async (t) => {
    const up = await tus(t, { args: ['--upload-ttl-ms', '1500', '--blob-grace-ms', '1'] })
    const bytes = randomBytes(20 << 20)
    const part = await up.create(bytes.length, { 'upload-concat': 'partial' })
    await up.patch(part, 0, bytes)
    const final = (await up.post({ 'upload-concat': `final;${part} ${part} ${part}` })).headers.location
    assert.equal((await up.ask('DELETE', part)).status, 204)
    assert.equal(await up.digest(final), sha256(Buffer.concat([bytes, bytes, bytes])))
})

test('joining goes on after kill -9, and is watched without disturbing it', async (t) => {
    const up = await tus(t)
    const bytes = randomBytes(48 << 20)
    const part = await up.create(bytes.length, { 'upload-concat': 'partial' })
    await up.patch(part, 0, bytes)
    const final = (await up.post({ 'upload-concat': `final;${part} ${part} ${part} ${part}` })).headers.location
    const whole = sha256(Buffer.concat([bytes, bytes, bytes, bytes]))
    for (let round = 0; round < 4; round++) {
        await sleep(30 * round)
        const head = await up.head(final)
        assert.equal(head.status, 200)
        if (head.headers['segue-blob']) break
        assert.equal(head.headers['upload-offset'], undefined)
        assertProblem(await up.patch(final, 0, 'x'), 403, 'upload_final')
        await up.app.s.kill()
        await up.app.s.start()
    }
    assert.equal(await up.digest(final), whole)
    // One that is deleted while it is joined is gone.
    const doomed = (await up.post({ 'upload-concat': `final;${part} ${part}` })).headers.location
    assert.equal((await up.ask('DELETE', doomed)).status, 204)
    assert.equal((await up.head(doomed)).status, 404)
})

test('what is joined is linked to its row in the commit that completes it', async (t) => {
    const { app, chat } = await chatService(t)
    const up = new Tus(app)
    const id = randomUUID()
    await app.batch([message(chat, id)])
    const parts = [await up.create(3, { 'upload-concat': 'partial' }, 'abc'), await up.create(3, { 'upload-concat': 'partial' }, 'def')]
    const final = (await up.post({ 'upload-concat': `final;${parts.join(' ')}`, 'segue-link': `messages/${id}/attachment` })).headers.location
    assert.equal(await up.digest(final), sha256('abcdef'))
    assert.match(JSON.stringify(await app.rows('select attachment from messages')), new RegExp(sha256('abcdef')))
})

test('a large plain PUT is committed as it comes and leaves nothing where it breaks', async (t) => {
    const up = await tus(t)
    const bytes = randomBytes(80 << 20)
    const raw = new Raw(up.app.s)
    raw.send(`PUT /apps/default/blobs/${sha256(bytes)} HTTP/1.1\r\nHost: x\r\nContent-Length: ${bytes.length}\r\n\r\n`)
    raw.send(bytes.subarray(0, 72 << 20))
    await sleep(500)
    raw.destroy()
    assert.equal((await up.app.request('HEAD', `/blobs/${sha256(bytes)}`)).status, 404)
    const stored = await up.app.request('PUT', `/blobs/${sha256(bytes)}`, { body: bytes })
    assert.equal(stored.status, 201, stored.text)
    await assertBlob(up.app, bytes)
    assert.equal((await up.app.request('PUT', `/blobs/${sha256(bytes)}`, { body: bytes })).status, 200)
    const wrong = Buffer.from(bytes)
    wrong[70 << 20] ^= 1
    assertProblem(await up.app.request('PUT', `/blobs/${sha256(bytes)}`, { body: wrong }), 422, 'digest_mismatch')
    await assertBlob(up.app, bytes)
})

test('a body that turns out too long while a part of it is being committed', async (t) => {
    const up = await tus(t)
    const step = 32 << 20 // so many bytes are made durable as they come
    const chunk = (bytes) => Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')])
    const bytes = randomBytes(step + 100)
    for (let i = 0; i < 4; i++) {
        const path = await up.create(bytes.length)
        const raw = new Raw(up.app.s)
        raw.send(`PATCH ${path} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Type: ${BODY}\r\nTransfer-Encoding: chunked\r\n\r\n`)
        raw.send(chunk(bytes.subarray(0, step)))
        await sleep(20 * i)
        raw.send(chunk(randomBytes(200)))
        if (i % 2 === 0) assert.equal((await raw.reply()).status, 413)
        raw.destroy()
        const offset = await up.offset(path) // what was committed before is kept
        assert.ok(offset <= step, `${offset}`)
        assert.equal((await up.patch(path, offset, bytes.subarray(offset))).headers['segue-blob'], sha256(bytes))
    }
})
