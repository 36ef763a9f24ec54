// Resumable uploads: PROTOCOL.md, "uploads".
import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { assertProblem, request } from './lib/http.mjs'
import { chatService, message } from './lib/chat.mjs'
import { eventually, sleep } from './lib/service.mjs'
import { subscribe, Subscriber } from './lib/sse.mjs'
import { assertBlob, BODY, idOf, sha256, Tus, tus } from './lib/tus.mjs'


test('an upload in pieces becomes a blob', async (t) => {
    const up = await tus(t)
    const bytes = randomBytes(3 << 20)
    const metadata = `filename ${Buffer.from('bild.png').toString('base64')},filetype ${Buffer.from('image/png').toString('base64')},is_confidential`
    const path = await up.create(bytes.length, { 'upload-metadata': metadata })
    let head = await up.head(path)
    assert.deepEqual([head.status, head.headers['upload-offset'], head.headers['upload-length'], head.headers['upload-metadata'], head.headers['tus-resumable']],
        [200, '0', String(bytes.length), metadata, '1.0.0'])
    for (const [from, to] of [[0, 1], [1, 100000], [100000, 100000], [100000, 2 << 20], [2 << 20, bytes.length]]) {
        const reply = await up.patch(path, from, bytes.subarray(from, to))
        assert.equal(reply.status, 204, reply.text)
        assert.equal(reply.headers['upload-offset'], String(to))
        assert.equal(reply.headers['tus-resumable'], '1.0.0')
        assert.equal(reply.headers['segue-blob'], to === bytes.length ? sha256(bytes) : undefined)
        assert.equal(await up.offset(path), to)
    }
    head = await up.head(path)
    assert.deepEqual([head.headers['upload-offset'], head.headers['upload-length'], head.headers['segue-blob']],
        [String(bytes.length), String(bytes.length), sha256(bytes)])
    await assertBlob(up.app, bytes, 'image/png')
    // The last answer was lost: an empty PATCH gives it again. More is too much.
    const again = await up.patch(path, bytes.length, '')
    assert.deepEqual([again.status, again.headers['segue-blob']], [204, sha256(bytes)])
    assertProblem(await up.patch(path, bytes.length, 'x'), 413, 'too_large')
})

test('one body, with a length or in chunks, and one without a byte', async (t) => {
    const up = await tus(t)
    for (const n of [1, 65536, (1 << 20) - 65536, 1 << 20, 5000001]) {
        const bytes = randomBytes(n)
        const whole = await up.create(n), chunked = await up.create(n)
        assert.equal((await up.patch(whole, 0, bytes)).headers['segue-blob'], sha256(bytes))
        async function* pieces() { for (let at = 0; at < n; at += 300000) yield bytes.subarray(at, at + 300000) }
        assert.equal((await up.patch(chunked, 0, pieces())).headers['segue-blob'], sha256(bytes))
    }
    const empty = await up.post({ 'upload-length': '0' })
    assert.deepEqual([empty.status, empty.headers['segue-blob']], [201, sha256('')])
    assert.equal((await up.head(empty.headers.location)).headers['segue-blob'], sha256(''))
    await assertBlob(up.app, Buffer.alloc(0))
})

test('what is wrong is said, and changes nothing', async (t) => {
    const up = await tus(t)
    const path = await up.create(10)
    const none = `/apps/default/uploads/${randomUUID()}`
    const bad = await request(up.app.s, 'POST', '/apps/default/uploads', { headers: { 'upload-length': '1' } })
    assertProblem(bad, 412, 'tus_version')
    assert.deepEqual([bad.headers['tus-version'], bad.headers['tus-resumable']], ['1.0.0', '1.0.0'])
    assertProblem(await up.ask('POST', '/apps/default/uploads', { 'tus-resumable': '0.2.2', 'upload-length': '1' }), 412, 'tus_version')
    assert.equal((await request(up.app.s, 'HEAD', path)).status, 204) // without a version it is the draft's
    for (const length of ['', '-1', '1.5', '0x10', '1e3', ' ', '9'.repeat(19), '12, 12', 'abc'])
        assertProblem(await up.post({ 'upload-length': length }), 400, 'bad_request')
    assertProblem(await up.post({}), 400, 'bad_request')
    for (const defer of ['0', '2', '', 'true']) assertProblem(await up.post({ 'upload-defer-length': defer }), 400, 'bad_request')
    assertProblem(await up.post({ 'upload-defer-length': '1', 'upload-length': '5' }), 400, 'bad_request')
    assertProblem(await up.post({ 'upload-length': String(2 ** 44 + 1) }), 413, 'too_large')
    for (const metadata of ['a a', 'a YQ==,a YQ==', ',', 'a YQ==,', 'a YQ', ' ,b', 'ä YQ==', 'k'.repeat(5000)])
        assertProblem(await up.post({ 'upload-length': '1', 'upload-metadata': Buffer.from(metadata).toString('latin1') }), 400, 'bad_request')
    for (const link of ['messages', `messages/${randomUUID()}`, 'messages/1/file', `/${randomUUID()}/x`])
        assertProblem(await up.post({ 'upload-length': '1', 'segue-link': link }), 400, 'bad_request')

    assertProblem(await up.patch(path, 0, 'x', { 'content-type': 'application/octet-stream' }), 415, 'unsupported_media_type')
    assertProblem(await up.ask('PATCH', path, { 'content-type': BODY }, 'x'), 400, 'bad_request')
    for (const offset of ['-1', 'x', '', '1,0']) assertProblem(await up.patch(path, offset, 'x'), 400, 'bad_request')
    assertProblem(await up.patch(path, 1, 'x'), 409, 'upload_offset')
    assertProblem(await up.patch(path, 0, 'x'.repeat(11)), 413, 'too_large')
    async function* tooMuch() { yield 'x'.repeat(5); await sleep(20); yield 'x'.repeat(6) }
    assertProblem(await up.patch(path, 0, tooMuch()), 413, 'too_large')
    for (const gone of [none, '/apps/default/uploads/', '/apps/default/uploads/x']) {
        assertProblem(await up.patch(gone, 0, 'x'), 404, gone.endsWith('/') ? 'not_found' : 'no_such_upload')
        const head = await up.head(gone)
        assert.deepEqual([head.status, head.headers['upload-offset'], head.headers['tus-resumable']], [404, undefined, '1.0.0'])
        assert.equal((await up.ask('DELETE', gone)).status, 404)
    }
    assertProblem(await up.ask('GET', path), 405, 'method_not_allowed')
    assertProblem(await up.ask('PUT', '/apps/default/uploads'), 405, 'method_not_allowed')
    assertProblem(await up.ask('POST', '/apps/none/uploads', { 'upload-length': '1' }), 404, 'no_such_app')
    assert.equal(await up.offset(path), 0)
    assert.equal((await up.patch(path, 0, '0123456789')).status, 204)
})

test('OPTIONS tells what there is, without a version being asked for', async (t) => {
    const up = await tus(t)
    for (const path of ['/apps/default/uploads', '/apps/default/uploads/x']) {
        const reply = await request(up.app.s, 'OPTIONS', path)
        assert.equal(reply.status, 204)
        assert.deepEqual([reply.headers['tus-version'], reply.headers['tus-extension'], reply.headers['tus-max-size']], ['1.0.0', 'creation,creation-with-upload,creation-defer-length,expiration,checksum,checksum-trailer,termination,concatenation,concatenation-unfinished', String(2 ** 44)])
        assert.match(reply.headers['access-control-allow-headers'], /Upload-Offset/)
        assert.match(reply.headers['access-control-allow-methods'], path.endsWith('x') ? /PATCH/ : /POST/)
    }
})

test('X-HTTP-Method-Override stands for what some clients cannot send', async (t) => {
    const up = await tus(t)
    const path = await up.create(2)
    const reply = await up.ask('POST', path, { 'x-http-method-override': 'PATCH', 'content-type': BODY, 'upload-offset': '0' }, 'a')
    assert.deepEqual([reply.status, reply.headers['upload-offset']], [204, '1'])
    assert.equal((await up.ask('POST', path, { 'x-http-method-override': 'DELETE' })).status, 204)
})

test('a deleted upload is gone; its blob, if there is one, stays', async (t) => {
    const up = await tus(t)
    const open = await up.create(10), done = await up.create(4)
    await up.patch(open, 0, '0123')
    await up.patch(done, 0, 'done')
    for (const path of [open, done]) {
        assert.equal((await up.ask('DELETE', path)).status, 204)
        assert.equal((await up.head(path)).status, 404)
        assert.equal((await up.ask('DELETE', path)).status, 404)
        assertProblem(await up.patch(path, 4, 'x'), 404, 'no_such_upload')
    }
    await assertBlob(up.app, Buffer.from('done'))
})

test('without a key nothing is told', async (t) => {
    const up = await tus(t, { dev: false })
    assertProblem(await up.post({ 'upload-length': '1' }), 401, 'unauthenticated')
    assert.equal((await up.head(`/apps/default/uploads/${randomUUID()}`)).status, 401)
})

test('what arrived before the client vanished is kept', async (t) => {
    const up = await tus(t)
    const bytes = randomBytes(6 << 20)
    const path = await up.create(bytes.length)
    const received = async () => Number(/^segue_received_bytes_total (\d+)$/m.exec(await up.app.metrics())[1])
    const first = await received(), asking = await received() - first // what a question itself takes
    for (const n of [100, 70000, 3 << 20]) {
        const offset = await up.offset(path)
        const before = await received()
        const raw = up.raw(path, offset, bytes.length - offset)
        raw.send(bytes.subarray(offset, offset + n))
        // Only what the service has read is kept; it is all that it gets, and the head besides.
        let asked = 0
        await eventually('that all of it is read', async () => await received() - before - ++asked * asking > n)
        await sleep(50)
        raw.destroy()
        await eventually('the progress', async () => (await up.offset(path)) === offset + n)
    }
    const offset = await up.offset(path)
    assert.equal((await up.patch(path, offset, bytes.subarray(offset))).headers['segue-blob'], sha256(bytes))
    await assertBlob(up.app, bytes)
})

test('a long PATCH makes progress durable while it runs, and it outlives kill -9', async (t) => {
    const up = await tus(t)
    const { s } = up.app
    const bytes = randomBytes(12 << 20)
    const path = await up.create(bytes.length)
    let least = 0
    for (let round = 0; least < bytes.length - 100; round++) {
        const sub = await subscribe(t, up.app, { uploads: { up: idOf(path) } })
        const raw = up.raw(path, least, bytes.length - least)
        const to = Math.min(bytes.length - 1, least + [5000, 5 << 20, 4500000][round % 3])
        raw.send(bytes.subarray(least, to))
        const told = await sub.until('progress', (f) => f.views.up.offset > least)
        least = told.views.up.offset
        if (round % 2) await sleep(30 * round)
        await s.kill()
        raw.destroy()
        sub.cut()
        await s.start()
        const offset = await up.offset(path)
        assert.ok(offset >= least && offset <= to, `told ${least}, sent ${to}, has ${offset}`)
        least = offset
    }
    assert.equal((await up.patch(path, least, bytes.subarray(least))).headers['segue-blob'], sha256(bytes))
    await s.kill()
    await s.start()
    assert.equal((await up.head(path)).headers['segue-blob'], sha256(bytes))
    await assertBlob(up.app, bytes)
})

test('a service that stops in the middle saves what arrived', async (t) => {
    const up = await tus(t)
    const bytes = randomBytes(2 << 20)
    const path = await up.create(bytes.length)
    const raw = up.raw(path, 0, bytes.length)
    raw.send(bytes.subarray(0, 1 << 20))
    await sleep(200)
    const stopped = up.app.s.stop()
    const reply = await raw.reply()
    assert.equal(reply.status, 503)
    raw.destroy()
    assert.equal(await stopped, 0)
    await up.app.s.start()
    assert.equal(await up.offset(path), 1 << 20)
})

test('the newest request wins: the one before saves what it has and yields', async (t) => {
    const up = await tus(t)
    const bytes = randomBytes(1 << 20)
    const path = await up.create(bytes.length)
    const raw = up.raw(path, 0, bytes.length)
    raw.send(bytes.subarray(0, 300000))
    await sleep(150)
    const offset = await up.offset(path)
    assert.equal(offset, 300000)
    assertProblem(await raw.reply(), 409, 'upload_taken')
    raw.destroy()
    // PATCH against PATCH; the late one has the right offset because the early one's bytes were saved first.
    const early = up.raw(path, 300000, bytes.length - 300000)
    early.send(bytes.subarray(300000, 500000))
    await sleep(150)
    const late = await up.patch(path, 500000, bytes.subarray(500000))
    assert.deepEqual([late.status, late.headers['segue-blob']], [204, sha256(bytes)])
    assertProblem(await early.reply(), 409, 'upload_taken')
    early.destroy()
    // Many at once: one gets through, nothing is stored twice.
    const crowd = await up.create(bytes.length)
    const replies = await Promise.all(Array.from({ length: 12 }, () => up.patch(crowd, 0, bytes).then((r) => r.status, () => 'cut')))
    assert.ok(replies.every((status) => [204, 409, 'cut'].includes(status)), String(replies))
    const at = await up.offset(crowd)
    if (at < bytes.length) assert.equal((await up.patch(crowd, at, bytes.subarray(at))).status, 204)
    assert.equal((await up.head(crowd)).headers['segue-blob'], sha256(bytes))
    // DELETE against PATCH.
    const doomed = await up.create(100)
    const writer = up.raw(doomed, 0, 100)
    writer.send('x')
    await sleep(100)
    assert.equal((await up.ask('DELETE', doomed)).status, 204)
    assertProblem(await writer.reply(), 409, 'upload_taken')
    writer.destroy()
    assert.equal((await up.head(doomed)).status, 404)
})

test('followers see progress, the end and the deletion, and resume', async (t) => {
    const up = await tus(t)
    const bytes = randomBytes(700000)
    const path = await up.create(bytes.length)
    const what = { uploads: { up: idOf(path) } }
    const sub = await subscribe(t, up.app, what)
    await sub.untilLive()
    assert.deepEqual(sub.fold.views.up.value, { offset: 0, length: bytes.length })
    await up.patch(path, 0, bytes.subarray(0, 100000))
    await sub.until('the first piece', (f) => f.views.up.offset === 100000)
    sub.cut()
    await up.patch(path, 100000, bytes.subarray(100000, 200000))
    await sub.open()
    await sub.until('what was missed', (f) => f.views.up.offset === 200000)
    assert.deepEqual(sub.fold.resets, [])
    await up.patch(path, 200000, bytes.subarray(200000))
    await sub.until('the end', (f) => f.views.up.value.done)
    assert.equal(sub.fold.views.up.value.blob, sha256(bytes))
    sub.cut()
    await up.ask('DELETE', path)
    await sub.open()
    await sub.until('the deletion', (f) => f.views.up.value.deleted)
    const late = new Subscriber(up.app, what)
    t.after(() => late.cut())
    await late.open()
    await late.untilLive()
    assert.equal(late.fold.views.up.value, undefined)
    assertProblem(await up.app.request('GET', '/subscribe?upload.up=nonsense'), 400, 'bad_parameter')
})

test('the batch that completes an upload links its blob to a row', async (t) => {
    const { app, chat } = await chatService(t)
    const up = new Tus(app)
    const id = randomUUID()
    await app.batch([message(chat, id)])
    const bytes = Buffer.from('an attachment')
    const path = await up.create(bytes.length, { 'segue-link': `messages/${id}/attachment`, 'upload-metadata': `filetype ${Buffer.from('text/plain').toString('base64')}` })
    const sub = await subscribe(t, app, { queries: { m: 'select attachment from messages' }, uploads: { up: idOf(path) } })
    await sub.untilLive()
    assert.equal((await up.patch(path, 0, bytes)).status, 204)
    // Both are in one commit: nobody sees one without the other.
    await sub.until('the end', (f) => f.views.up.value.done)
    assert.deepEqual(sub.fold.views.m.rows()[0].attachment, { blob: sha256(bytes), size: bytes.length, type: 'text/plain' })
    // The row is not there: the upload cannot be completed that way.
    const lost = await up.create(3, { 'segue-link': `messages/${randomUUID()}/attachment` })
    assertProblem(await up.patch(lost, 0, 'abc'), 409, 'no_such_row', { fate: undefined })
    assert.equal(await up.offset(lost), 0)
})

test('an upload that breaks at random places ends as what it was to be', async (t) => {
    const up = await tus(t)
    const { s } = up.app
    const bytes = randomBytes(4 << 20)
    const path = await up.create(bytes.length)
    let offset = 0, seed = 42
    const random = (n) => { seed = (seed * 1103515245 + 12345) % 2 ** 31; return seed % n }
    for (let round = 0; round < 40 && offset < bytes.length; round++) {
        const to = Math.min(bytes.length, offset + random(400000))
        const how = random(4)
        if (how === 0) {
            const reply = await up.patch(path, offset, bytes.subarray(offset, to))
            assert.equal(reply.status, 204)
            assert.equal(Number(reply.headers['upload-offset']), to)
            offset = to
            continue
        }
        const raw = up.raw(path, offset, bytes.length - offset)
        raw.send(bytes.subarray(offset, to))
        await sleep(random(20))
        if (how === 1) raw.destroy()
        if (how === 2) { await s.kill(); raw.destroy(); await s.start() }
        const now = await up.offset(path)
        raw.destroy()
        assert.ok(now >= offset && now <= to, `${offset} <= ${now} <= ${to}`)
        offset = now
    }
    if (offset < bytes.length) await up.patch(path, offset, bytes.subarray(offset))
    assert.equal((await up.head(path)).headers['segue-blob'], sha256(bytes))
    await assertBlob(up.app, bytes)
})
