// The durable streams surface: PROTOCOL.md, section 8.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import http from 'node:http'
import { randomBytes, randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { App, append, assertProblem, close, create, Raw, remove } from './lib/http.mjs'
import { bodyOf, chatService, hush, message, say } from './lib/chat.mjs'
import { service, within } from './lib/service.mjs'
import { SseParser } from './lib/sse.mjs'

const text = { 'content-type': 'text/plain' }

async function streams(t, options) { return new App(await service(t, options)) }

test('create, append, close, read', async (t) => {
    const app = await streams(t)
    const path = app.stream('a/b c/ü')
    const made = await app.request('PUT', path, { headers: text, body: 'one' })
    assert.equal(made.status, 201)
    assert.ok(made.headers.location.endsWith('/v1/stream/a/b%20c/%C3%BC'), made.headers.location)
    const after = await app.request('POST', path, { headers: text, body: ' two' })
    assert.equal(after.status, 204)
    assert.ok(after.headers['stream-next-offset'] > made.headers['stream-next-offset'], 'offsets sort as text')
    const head = await app.request('HEAD', path)
    assert.deepEqual([head.status, head.headers['content-type'], head.headers['stream-next-offset'], head.headers['stream-closed']],
        [200, 'text/plain', after.headers['stream-next-offset'], undefined])
    const all = await app.request('GET', `${path}?offset=-1`)
    assert.deepEqual([all.status, all.text, all.headers['stream-up-to-date'], all.headers['stream-closed'], all.headers['content-type']],
        [200, 'one two', 'true', undefined, 'text/plain'])
    assert.equal((await app.request('GET', `${path}?offset=${made.headers['stream-next-offset']}`)).text, ' two')
    assert.equal((await app.request('GET', path)).text, 'one two')
    const last = await app.request('POST', path, { headers: { ...text, 'stream-closed': 'true' }, body: ' three' })
    assert.deepEqual([last.status, last.headers['stream-closed']], [204, 'true'])
    const end = await app.request('GET', `${path}?offset=-1`)
    assert.deepEqual([end.text, end.headers['stream-closed']], ['one two three', 'true'])
    assert.deepEqual((await app.readStream('a/b c/ü')).bytes.toString(), 'one two three')
})

test('creating again is fine with the same type, and a conflict with another', async (t) => {
    const app = await streams(t)
    const path = app.stream('s')
    assert.equal((await app.request('PUT', path, { headers: text })).status, 201)
    assert.equal((await app.request('PUT', path, { headers: text })).status, 200)
    assertProblem(await app.request('PUT', path, { headers: { 'content-type': 'text/html' } }), 409, 'stream_exists')
    assert.equal((await app.request('PUT', app.stream('whole'), { headers: { ...text, 'stream-closed': 'true' }, body: 'all of it' })).status, 201)
    const whole = await app.readStream('whole')
    assert.deepEqual([whole.bytes.toString(), whole.closed], ['all of it', true])
})

test('what does not fit is refused, and nothing of it stays', async (t) => {
    const app = await streams(t)
    const path = app.stream('s')
    assertProblem(await app.request('POST', path, { headers: text, body: 'x' }), 404, 'no_such_stream')
    assertProblem(await app.request('GET', path), 404, 'no_such_stream')
    assert.equal((await app.request('HEAD', path)).status, 404)
    await app.request('PUT', path, { headers: text, body: 'x' })
    assertProblem(await app.request('POST', path, { headers: { 'content-type': 'text/html' }, body: 'x' }), 409, 'content_type_mismatch')
    assertProblem(await app.request('POST', path, { headers: text }), 400, 'empty_append')
    for (const offset of ['-2', 'x', '99999999999999999999999', '0000000000000000000100', '0000000000000001_0000000000000000', '1&offset=1'])
        assertProblem(await app.request('GET', `${path}?offset=${offset}`), 400, 'bad_offset')
    assertProblem(await app.request('GET', `${path}?offset=100`), 400, 'bad_offset')
    assertProblem(await app.request('GET', `${path}?live=long-poll`), 400, 'bad_parameter')
    assertProblem(await app.request('GET', `${path}?offset=-1&live=carrier-pigeon`), 400, 'bad_parameter')
    assertProblem(await app.request('PUT', app.stream('p'.repeat(401)), { headers: text }), 414, 'uri_too_long')
    assertProblem(await app.request('PUT', app.stream('rows/chats/1/body'), { headers: text }), 422, 'reserved_path')
    await app.request('POST', path, { headers: { 'stream-closed': 'true' } })
    const closed = await app.request('POST', path, { headers: text, body: 'late' })
    assertProblem(closed, 409, 'stream_closed')
    assert.equal(closed.headers['stream-closed'], 'true')
    assert.equal((await app.readStream('s')).bytes.toString(), 'x')
})

test('the streams of rows are read, appended to and closed here too', async (t) => {
    const { app, chat } = await chatService(t)
    const id = randomUUID()
    await app.batch([message(chat, id), say(id, 'from a batch, ')])
    const path = app.stream(bodyOf(id))
    const head = await app.request('HEAD', path)
    assert.equal((await app.request('POST', path, { headers: { 'content-type': head.headers['content-type'] }, body: 'from here' })).status, 204)
    assert.equal((await app.request('POST', path, { headers: { 'stream-closed': 'true' } })).status, 204)
    assert.equal((await app.readStream(bodyOf(id))).bytes.toString(), 'from a batch, from here')
    assert.deepEqual((await app.rows('select body from messages'))[0].body, { stream: bodyOf(id), offset: 23, closed: true })
    await app.batch([remove('messages', id)])
    assertProblem(await app.request('GET', path), 404, 'no_such_stream')
})

test('any bytes come back as they went in, over sealing and restarts', async (t) => {
    const app = await streams(t, { args: ['--seal-quiet-ms', '50'] })
    const all = []
    await app.request('PUT', app.stream('bytes'), { headers: { 'content-type': 'application/x-anything' } })
    for (let round = 0; round < 4; round++) {
        for (let i = 0; i < 5; i++) {
            const piece = randomBytes(1 + 90000 * (i % 2) + i)
            all.push(piece)
            await app.request('POST', app.stream('bytes'), { headers: { 'content-type': 'application/x-anything' }, body: piece })
        }
        if (round % 2 === 0) await new Promise((go) => setTimeout(go, 150))
        if (round % 2 === 0) await app.s.stop()
        else await app.s.kill()
        await app.s.start()
    }
    const { bytes, next } = await app.readStream('bytes')
    assert.ok(bytes.equals(Buffer.concat(all)))
    const tail = await app.request('GET', `${app.stream('bytes')}?offset=${next.replace(/\d+$/, (n) => String(n - 10).padStart(n.length, '0'))}`)
    assert.ok(tail.body.equals(bytes.subarray(-10)))
})

test('a stream larger than one answer is read in several', async (t) => {
    const app = await streams(t)
    const piece = Buffer.alloc(4 << 20, 'm')
    for (let i = 0; i < 17; i++) await app.request(i === 0 ? 'PUT' : 'POST', app.stream('big'), { headers: text, body: piece })
    const first = await app.request('GET', `${app.stream('big')}?offset=-1`)
    assert.equal(first.headers['stream-up-to-date'], undefined)
    assert.equal(first.body.length, 64 << 20)
    assert.equal((await app.readStream('big')).bytes.length, 17 * piece.length)
    const limit = await app.request('POST', app.stream('big'), { headers: text, body: 'x'.repeat((4 << 20) + 1) })
    assertProblem(limit, 413, 'too_large')
})

test('sealed bytes come as they lie: raw by length, packed as frames for those who take them', async (t) => {
    const app = await streams(t, { args: ['--seal-quiet-ms', '1'] })
    const path = app.stream('long')
    const prose = Buffer.from('the quick brown fox jumps over the lazy dog, and nobody minds. '.repeat(60000))
    const whole = Buffer.concat([prose, randomBytes(3 << 20), prose, Buffer.from('the end')])
    await app.request('PUT', path, { headers: text })
    for (let at = 0; at < whole.length; at += 1 << 20) await app.request('POST', path, { headers: text, body: whole.subarray(at, at + (1 << 20)) })
    for (const wait of [0, 1500]) { // out of memory, and then out of the files
        await late(wait)
        const plain = await app.request('GET', `${path}?offset=-1`)
        assert.deepEqual([plain.headers['content-length'], plain.headers.vary, plain.headers['content-encoding']], [String(whole.length), 'Accept-Encoding', undefined])
        assert.ok(plain.body.equals(whole))
        const coded = await app.request('GET', `${path}?offset=-1`, { headers: { 'accept-encoding': 'gzip, zstd' } })
        assert.deepEqual([coded.headers['content-encoding'], coded.headers['stream-next-offset']], ['zstd', plain.headers['stream-next-offset']])
        assert.notEqual(coded.headers.etag, plain.headers.etag)
        assert.ok(coded.body.length < whole.length * 3 / 4)
        const unpacked = spawnSync('zstd', ['-dc'], { input: coded.body, maxBuffer: 1 << 28 })
        if (!unpacked.error) assert.ok(unpacked.stdout.equals(whole))
        const refused = await app.request('GET', `${path}?offset=-1`, { headers: { 'accept-encoding': 'zstd;q=0' } })
        assert.equal(refused.headers['content-encoding'], undefined)
        const same = await app.request('GET', `${path}?offset=-1`, { headers: { 'accept-encoding': 'zstd', 'if-none-match': coded.headers.etag } })
        assert.deepEqual([same.status, same.body.length], [304, 0])
    }
    const some = await app.request('GET', `${path}?offset=${prose.length + 12345}`)
    assert.ok(some.body.equals(whole.subarray(prose.length + 12345)))
})

test('a reader that stops in the middle of much, and goes on, gets all of it', async (t) => {
    const app = await streams(t, { args: ['--seal-quiet-ms', '1'] })
    const whole = randomBytes(12 << 20)
    await app.request('PUT', app.stream('s'), { headers: text })
    for (let at = 0; at < whole.length; at += 3 << 20) await app.request('POST', app.stream('s'), { headers: text, body: whole.subarray(at, at + (3 << 20)) })
    await late(1500)
    const raw = new Raw(app.s)
    raw.send(`GET ${app.base}${app.stream('s')} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
    await raw.bytes(1000)
    raw.socket.pause()
    await late(300)
    const pieces = []
    raw.socket.removeAllListeners('data')
    raw.socket.on('data', (b) => pieces.push(b))
    raw.socket.resume()
    await within(new Promise((go) => raw.socket.on('end', go)), 'the end of the stream')
    assert.ok(Buffer.concat(pieces).subarray(-(10 << 20)).equals(whole.subarray(-(10 << 20))))
    raw.destroy()
})

test('an answer that is still true is a 304', async (t) => {
    const app = await streams(t)
    const path = app.stream('s')
    await app.request('PUT', path, { headers: text, body: 'abc' })
    const one = await app.request('GET', `${path}?offset=-1`)
    assert.match(one.headers.etag, /^".+"$/)
    assert.equal((await app.request('GET', `${path}?offset=-1`, { headers: { 'if-none-match': one.headers.etag } })).status, 304)
    await app.request('POST', path, { headers: text, body: 'd' })
    const two = await app.request('GET', `${path}?offset=-1`, { headers: { 'if-none-match': one.headers.etag } })
    assert.deepEqual([two.status, two.text], [200, 'abcd'])
    await app.request('POST', path, { headers: { 'stream-closed': 'true' } })
    assert.equal((await app.request('GET', `${path}?offset=-1`, { headers: { 'if-none-match': two.headers.etag } })).status, 200)
})

test('long-poll answers when there is something, when time is up, and at the end', async (t) => {
    const app = await streams(t, { args: ['--long-poll-ms', '300'] })
    const path = app.stream('s')
    const made = await app.request('PUT', path, { headers: text, body: 'abc' })
    const at = made.headers['stream-next-offset']
    assert.equal((await app.request('GET', `${path}?offset=-1&live=long-poll`)).text, 'abc')
    const quiet = await app.request('GET', `${path}?offset=${at}&live=long-poll`)
    assert.deepEqual([quiet.status, quiet.headers['stream-next-offset'], quiet.headers['stream-up-to-date']], [204, at, 'true'])
    const [news] = await Promise.all([app.request('GET', `${path}?offset=now&live=long-poll`), late(100).then(() => app.request('POST', path, { headers: text, body: 'def' }))])
    assert.deepEqual([news.status, news.text], [200, 'def'])
    const next = news.headers['stream-next-offset']
    const [end] = await Promise.all([app.request('GET', `${path}?offset=${next}&live=long-poll`), late(100).then(() => app.request('POST', path, { headers: { 'stream-closed': 'true' } }))])
    assert.deepEqual([end.status, end.headers['stream-closed']], [204, 'true'])
    assert.equal((await app.request('GET', `${path}?offset=${next}&live=long-poll`)).headers['stream-closed'], 'true')
})

const late = (ms) => new Promise((go) => setTimeout(go, ms))

// Follows by server-sent events until `done(state)`: {data: pieces, controls}
function follow(app, path, offset, done) {
    const state = { data: [], controls: [] }
    return within(new Promise((go, fail) => {
        const req = http.get(`${app.s.url}${app.base}${path}?offset=${offset}&live=sse`, { agent: false }, (res) => {
            state.headers = res.headers
            const parser = new SseParser(({ event, data }) => {
                if (event === 'data') state.data.push(data)
                else state.controls.push(JSON.parse(data))
                if (done(state)) { req.destroy(); go(state) }
            })
            res.on('data', (bytes) => parser.feed(bytes)).on('end', () => go(state)).on('error', () => go(state))
        })
        req.on('error', fail)
    }), 'the events of a stream')
}

test('server-sent events: text with all kinds of line ends, to the end of the stream', async (t) => {
    const app = await streams(t)
    const path = app.stream('s')
    await app.request('PUT', path, { headers: text, body: 'a\nb\r\nc\rd\n' })
    const reading = follow(app, path, '-1', () => false)
    for (const piece of ['e: f\n\n', ' leading', '\n', 'end']) await app.request('POST', path, { headers: text, body: piece })
    await app.request('POST', path, { headers: { 'stream-closed': 'true' } })
    const { data, controls } = await reading
    assert.equal(data.join('').replace(/\n/g, '|'), 'a|b|c|d|e: f|| leading|end')
    const last = controls.at(-1)
    assert.equal(last.streamClosed, true)
    assert.equal(last.streamNextOffset, (await app.request('HEAD', path)).headers['stream-next-offset'])
    assert.ok(controls.slice(0, -1).every((c) => c.streamClosed === undefined && c.streamCursor !== undefined))
})

test('server-sent events: what is not text comes as base64', async (t) => {
    const app = await streams(t)
    const path = app.stream('s')
    const bytes = randomBytes(200000)
    await app.request('PUT', path, { headers: { 'content-type': 'application/octet-stream' }, body: bytes })
    const state = await follow(app, path, '-1', (s) => s.controls.at(-1)?.upToDate)
    assert.equal(state.headers['stream-sse-data-encoding'], 'base64')
    assert.ok(Buffer.concat(state.data.map((d) => Buffer.from(d, 'base64'))).equals(bytes))
})

test('a follower that stops reading blocks nobody', async (t) => {
    const app = await streams(t)
    await app.batch([create('s', 'text/plain')])
    const raw = new Raw(app.s)
    raw.send('GET /apps/default/v1/stream/s?offset=-1&live=sse HTTP/1.0\r\n\r\n')
    raw.socket.pause()
    const piece = 'k'.repeat(1 << 20)
    for (let i = 0; i < 12; i++) await app.batch([append('s', piece)])
    await app.batch([close('s')])
    assert.equal((await app.readStream('s')).bytes.length, 12 << 20)
    let n = 0
    raw.socket.removeAllListeners('data')
    raw.socket.on('data', (b) => { n += b.length })
    raw.socket.resume()
    await within(new Promise((go) => raw.socket.on('end', go)), 'the end of the stream')
    assert.ok(n >= 12 << 20)
    raw.destroy()
})

test('many small appends at once lose nothing and mix nothing', async (t) => {
    const app = await streams(t)
    const agent = new http.Agent({ keepAlive: true, maxSockets: 16 })
    t.after(() => agent.destroy())
    app.agent = agent
    await app.batch([create('s', 'text/plain')])
    await Promise.all(Array.from({ length: 400 }, (_, i) => app.request('POST', app.stream('s'), { headers: text, body: `<${i}>` })))
    const pieces = (await app.readStream('s')).bytes.toString().match(/<\d+>/g)
    assert.deepEqual(pieces.map((p) => Number(p.slice(1, -1))).sort((a, b) => a - b), Array.from({ length: 400 }, (_, i) => i))
})

test('a row deleted while its stream is followed ends the follower', async (t) => {
    const { app, chat } = await chatService(t)
    const id = randomUUID()
    await app.batch([message(chat, id), say(id, 'x')])
    const reading = follow(app, app.stream(bodyOf(id)), '-1', () => false)
    const polling = app.request('GET', `${app.stream(bodyOf(id))}?offset=now&live=long-poll`)
    await late(50)
    await app.batch([hush(id), remove('messages', id)])
    assert.deepEqual((await reading).data, ['x'])
    assertProblem(await polling, 404, 'no_such_stream')
})
