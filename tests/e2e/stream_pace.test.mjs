// Following a stream at the pace at which it was written: PROTOCOL.md, "Following".
//
// Nothing here says that something is soon: a piece never comes before its time, counted from before the request, however slow the machine is.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { follow } from './lib/follow.mjs'
import { App, append, assertProblem, create } from './lib/http.mjs'
import { service, sleep } from './lib/service.mjs'

const text = { 'content-type': 'text/plain' }, end = { ...text, 'stream-closed': 'true' }
const words = ['so ', 'it ', 'was ', 'said ', 'then']
const GAP_MS = 100
// What is recorded of `n` gaps, at least: a timer may be a little early, and times are known to SEQ_TIME_MS.
const recorded = (n) => n * (GAP_MS - 5) - 50

async function streams(t, options) { return new App(await service(t, options)) }

// Words with a gap between each two; the last one ends the stream.
async function write(app, path, pieces = words, headers = text) {
    await app.request('PUT', app.stream(path), { headers })
    for (const [i, piece] of pieces.entries()) {
        if (i > 0) await sleep(GAP_MS)
        await app.request('POST', app.stream(path), { headers: { ...headers, 'stream-closed': String(i === pieces.length - 1) }, body: piece })
    }
}

// Follows to the end of the connection; `ms` is how long that took.
async function replay(t, app, path, query) {
    const begun = performance.now()
    const f = await follow(t, app, path, query)
    await f.until('the end', () => f.ended)
    return Object.assign(f, { ms: performance.now() - begun })
}

function assertPaced(f, pieces = words) {
    assert.deepEqual(f.told.map((e) => e.data), pieces)
    assert.deepEqual(f.told.map((e) => e.upToDate === true), pieces.map((_, i) => i === pieces.length - 1), 'the tail is told at the tail')
    assert.equal(f.last.streamClosed, true)
    const offsets = f.told.map((e) => e.streamNextOffset)
    assert.deepEqual(offsets, [...offsets].sort())
}

test('a replay takes the time that writing took, and one at full speed is one piece', async (t) => {
    const app = await streams(t)
    await write(app, 's')
    const full = await replay(t, app, 's', 'offset=-1')
    assert.deepEqual(full.told.map((e) => e.data), [words.join('')])
    assert.deepEqual((await replay(t, app, 's', 'offset=-1&pace=full')).told.map((e) => e.data), [words.join('')])
    const paced = await replay(t, app, 's', 'offset=-1&pace=recorded')
    assertPaced(paced)
    assert.ok(paced.ms >= recorded(4), `${paced.ms} ms`)
    const late = await replay(t, app, 's', `offset=${paced.told[1].streamNextOffset}&pace=recorded`)
    assertPaced(late, words.slice(2))
    assert.ok(late.ms >= recorded(2))
})

test('a speed divides the time, and gaps may be shortened', async (t) => {
    const app = await streams(t)
    await write(app, 's')
    const slow = await replay(t, app, 's', 'offset=-1&pace=recorded&speed=0.5')
    assertPaced(slow)
    assert.ok(slow.ms >= 2 * recorded(4), `${slow.ms} ms`)
    assertPaced(await replay(t, app, 's', 'offset=-1&pace=recorded&speed=0.1&gap-ms=0'))
    const capped = await replay(t, app, 's', 'offset=-1&pace=recorded&speed=0.1&gap-ms=50')
    assertPaced(capped)
    assert.ok(capped.ms >= 4 * 50)
    // Fast enough, several moments go into one piece.
    const fast = await replay(t, app, 's', 'offset=-1&pace=recorded&speed=100')
    assert.equal(fast.text, words.join(''))
    assert.equal(fast.last.streamClosed, true)
})

test('at the tail a replay goes on live, and the end is the end', async (t) => {
    const app = await streams(t)
    await app.batch([create('s', 'text/plain')])
    for (const word of words) {
        await app.batch([append('s', word)])
        await sleep(GAP_MS)
    }
    const f = await follow(t, app, 's', 'offset=-1&pace=recorded')
    await f.until('the tail', () => f.last?.upToDate)
    assert.deepEqual(f.told.map((e) => e.data), words)
    await app.batch([append('s', ' and now')])
    await f.until('what came', () => f.text.endsWith(' and now'))
    await app.request('POST', app.stream('s'), { headers: end })
    await f.until('the end', () => f.ended)
    assert.equal(f.last.streamClosed, true)
    const now = await follow(t, app, 's', 'offset=now&pace=recorded')
    await now.until('its end', () => now.ended)
    assert.deepEqual(now.told.map((e) => [e.data, e.streamClosed]), [[null, true]])
})

test('what is appended while a replay is on waits for its turn', async (t) => {
    const app = await streams(t)
    await app.batch([create('s', 'text/plain')])
    await app.batch([append('s', words[0])])
    await sleep(300)
    await app.batch([append('s', words[1])])
    const begun = performance.now()
    const f = await follow(t, app, 's', 'offset=-1&pace=recorded')
    await f.until('the first', () => f.told.length > 0)
    await app.request('POST', app.stream('s'), { headers: end, body: words[2] })
    await f.until('the end', () => f.ended)
    assert.equal(f.text, words.slice(0, 3).join(''))
    assert.equal(f.told[0].data, words[0])
    assert.ok(performance.now() - begun >= 300 - 5 - 50)
})

test('times outlast a kill, sealing, and a fork of the stream', async (t) => {
    const app = await streams(t)
    await write(app, 's')
    await app.s.kill()
    await app.s.start()
    const again = await replay(t, app, 's', 'offset=-1&pace=recorded')
    assertPaced(again)
    assert.ok(again.ms >= recorded(4))
    await app.request('PUT', app.stream('fork'), { headers: { 'stream-forked-from': app.stream('s') } })
    await sleep(GAP_MS)
    await app.request('POST', app.stream('fork'), { headers: end, body: '!' })
    await app.s.stop()
    await app.s.start()
    const fork = await replay(t, app, 'fork', 'offset=-1&pace=recorded')
    assertPaced(fork, [...words, '!'])
    assert.ok(fork.ms >= recorded(5))
})

test('messages and broken characters come as they can be told', async (t) => {
    const app = await streams(t)
    const values = [1, { n: 2 }, 'three']
    await write(app, 'j', values.map((v) => JSON.stringify([v])), { 'content-type': 'application/json' })
    const j = await replay(t, app, 'j', 'offset=-1&pace=recorded')
    assert.deepEqual(j.told.map((e) => JSON.parse(e.data)), values.map((v) => [v]))
    assert.ok(j.ms >= recorded(2))
    const smile = Buffer.from('a😀b')
    await write(app, 'c', [smile.subarray(0, 3), smile.subarray(3, 4), smile.subarray(4)])
    const c = await replay(t, app, 'c', 'offset=-1&pace=recorded')
    assert.deepEqual(c.told.map((e) => e.data), ['a', '😀b'])
    const bytes = [Buffer.from([0, 255]), Buffer.alloc(200000, 7)]
    await write(app, 'b', bytes, { 'content-type': 'application/octet-stream' })
    const b = await replay(t, app, 'b', 'offset=-1&pace=recorded')
    assert.ok(Buffer.concat(b.told.map((e) => Buffer.from(e.data, 'base64'))).equals(Buffer.concat(bytes)))
})

test('a wait ends with the stream, the connection, or the service', async (t) => {
    const app = await streams(t, { args: ['--sse-ms', '1500', '--heartbeat-ms', '100'] })
    const slow = 'offset=-1&pace=recorded&speed=0.1&gap-ms=60000'
    const waiting = async (path) => {
        await app.batch([create(path, 'text/plain')])
        await app.batch([append(path, 'first')])
        await sleep(2000) // twenty seconds of a replay: longer than the connection
        await app.batch([append(path, 'second')])
        const f = await follow(t, app, path, slow)
        await f.until('the first', () => f.told.length > 0)
        return f
    }
    const timed = await waiting('t')
    await timed.until('the end of the connection', () => timed.ended)
    assert.deepEqual(timed.told.map((e) => [e.data, e.upToDate]), [['first', undefined]])
    assert.ok(timed.parser.comments > 0)
    const rest = await follow(t, app, 't', `${slow.replace('-1', timed.last.streamNextOffset)}`)
    await rest.until('the rest', () => rest.text === 'second') // at once: it is the first one told
    const deleted = await waiting('d')
    await app.request('DELETE', app.stream('d'))
    await deleted.until('the end', () => deleted.ended)
    assert.equal(deleted.text, 'first')
    const stopped = await follow(t, app, 't', slow)
    await stopped.until('the first', () => stopped.told.length > 0)
    assert.equal(await app.s.stop(), 0)
    await stopped.until('the end', () => stopped.ended)
})

test('a reader that is slow itself gets all of it, and one whose bytes are trimmed is sent away', async (t) => {
    const app = await streams(t)
    const big = ['a', 'b', 'c'].map((c) => c.repeat(3000000))
    await write(app, 's', big)
    const f = await follow(t, app, 's', 'offset=-1&pace=recorded')
    f.res.pause()
    await sleep(600) // longer than it took to write
    f.res.resume()
    await f.until('the end', () => f.ended)
    assert.ok(f.text === big.join(''))
    assert.equal(f.last.streamClosed, true)
    await app.batch([create('t', 'text/plain')])
    await app.batch([append('t', words[0])])
    await sleep(1500)
    await app.batch([append('t', words[1])])
    const trimmed = await follow(t, app, 't', 'offset=-1&pace=recorded&speed=0.1&gap-ms=60000')
    await trimmed.until('the first', () => trimmed.told.length > 0)
    assert.equal((await app.request('PATCH', app.stream('t'), { headers: { 'stream-trim-before': 'tail' } })).status, 204)
    await trimmed.until('the end of the connection', () => trimmed.ended)
    assert.equal(trimmed.text, words[0])
    assert.equal((await app.request('GET', `${app.stream('t')}?offset=${trimmed.last.streamNextOffset}&live=sse&pace=recorded`)).status, 410)
})

test('what is not a pace is refused', async (t) => {
    const app = await streams(t)
    await app.request('PUT', app.stream('s'), { headers: text, body: 'x' })
    const get = (query) => app.request('GET', `${app.stream('s')}?${query}`)
    for (const query of ['pace=fast', 'pace=', 'pace=full&pace=full', 'pace=recorded&speed=0', 'pace=recorded&speed=100.1', 'pace=recorded&speed=1e1', 'pace=recorded&speed=', 'pace=recorded&gap-ms=60001',
        'pace=recorded&gap-ms=-1', 'pace=recorded&gap-ms=1.5'])
        assertProblem(await get(`offset=-1&live=sse&${query}`), 400, 'bad_parameter')
    assertProblem(await get('offset=-1&live=long-poll&pace=recorded'), 400, 'bad_parameter')
    assertProblem(await get('offset=-1&pace=recorded'), 400, 'bad_parameter')
    assertProblem(await get('offset=9&live=sse&pace=recorded'), 400, 'bad_offset')
    assert.equal((await get('offset=-1&pace=full')).status, 200)
})
