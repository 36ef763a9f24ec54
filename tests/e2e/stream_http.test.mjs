// What the protocol's own suite does not ask of streams over HTTP: every refusal with its fields, conditions, trimming, and what a restart leaves.
// PROTOCOL.md, section 8.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { App, append, assertProblem, Raw } from './lib/http.mjs'
import { eventually, service, sleep } from './lib/service.mjs'

const text = { 'content-type': 'text/plain' }
const json = { 'content-type': 'application/json' }
const producer = (id, epoch, seq) => ({ 'producer-id': id, 'producer-epoch': String(epoch), 'producer-seq': String(seq) })

async function streams(t, options) { return new App(await service(t, options)) }

// Small words for what the tests do all the time.
class Stream {
    constructor(app, name) {
        this.app = app
        this.name = name
        this.path = app.stream(name)
    }

    put(headers = text, body) { return this.app.request('PUT', this.path, { headers, body }) }
    post(body, headers = {}) { return this.app.request('POST', this.path, { headers: { ...text, ...headers }, body }) }
    head() { return this.app.request('HEAD', this.path) }
    get(offset = '-1', headers = {}) { return this.app.request('GET', `${this.path}?offset=${offset}`, { headers }) }
    drop() { return this.app.request('DELETE', this.path) }
    trim(before, { body, headers = {} } = {}) { return this.app.request('PATCH', this.path, { headers: { 'stream-trim-before': before, ...headers }, body }) }

    async made(headers = text, body) {
        const reply = await this.put(headers, body)
        assert.equal(reply.status, 201, reply.text)
        this.next = reply.headers['stream-next-offset']
        return this
    }

    async said(body, headers) {
        const reply = await this.post(body, headers)
        assert.ok(reply.status === 204 || reply.status === 200, reply.text)
        this.next = reply.headers['stream-next-offset']
        return reply
    }

    async reads(expected) { assert.equal((await this.get()).text, expected) }
}

test('an append goes where it expects to, or nowhere', async (t) => {
    const app = await streams(t)
    const s = await new Stream(app, 's').made(text, 'one')
    const old = s.next
    assert.equal((await s.said(' two', { 'if-match': `"${s.next}"` })).status, 204)
    assert.equal((await s.said(' three', { 'if-match': s.next })).status, 204, 'without quotes')
    assert.equal((await s.said(' four', { 'if-match': '"13"' })).status, 204, 'as a batch says it')
    assert.equal((await s.said('!', { 'if-match': '*' })).status, 204)
    const late = await s.post('x', { 'if-match': `"${old}"` })
    assertProblem(late, 412, 'offset_mismatch')
    assert.equal(late.headers['stream-next-offset'], s.next)
    for (const bad of ['"', 'W/"13"', `"${old}", "${s.next}"`, '-1', 'now', '""'])
        assertProblem(await s.post('x', { 'if-match': bad }), 400, 'bad_offset')
    assertProblem(await app.request('DELETE', s.path, { headers: { 'if-match': `"${old}"` } }), 400, 'bad_request')
    await app.rejected([append('s', 'x', { expect: 3 })], 409, 'offset_mismatch')
    await s.reads('one two three four!')
})

test('of many who expect the same end one gets it', async (t) => {
    const s = await new Stream(await streams(t), 's').made()
    for (let round = 0; round < 5; round++) {
        const replies = await Promise.all(Array.from({ length: 8 }, (_, i) => s.post(`${i};`, { 'if-match': `"${s.next}"` })))
        assert.deepEqual(replies.map((r) => r.status).sort(), [204, ...Array(7).fill(412)])
        s.next = replies.find((r) => r.status === 204).headers['stream-next-offset']
        for (const r of replies) assert.equal(r.headers['stream-next-offset'], s.next)
    }
    assert.equal((await s.get()).text.length, 10)
})

test('header fields that could mean two things are refused', async (t) => {
    const app = await streams(t)
    const s = await new Stream(app, 's').made()
    for (const bad of ['', ' ', '-1', '+1', '01', '1.0', '1e3', '0x1', '9007199254740992', '99999999999999999999', '١'.normalize()])
        for (const field of ['producer-epoch', 'producer-seq']) {
            const headers = { ...producer('p', 0, 0), [field]: Buffer.from(bad).toString('latin1') }
            assertProblem(await s.post('x', headers), 400, 'bad_request')
        }
    for (const headers of [{ 'producer-id': 'p' }, { 'producer-id': 'p', 'producer-seq': '0' }, { 'producer-epoch': '0', 'producer-seq': '0' }, producer('', 0, 0), producer('p'.repeat(201), 0, 0),
        { 'stream-seq': '' }, { 'stream-seq': 's'.repeat(257) }])
        assertProblem(await s.post('x', headers), 400, 'bad_request')
    assertProblem(await s.post('x', { 'producer-epoch': ['0', '0'], 'producer-id': 'p', 'producer-seq': '0' }), 400, 'bad_request')
    const n = new Stream(app, 'n')
    for (const ttl of ['', '-1', '+1', '01', '1.5', '1e3', 'x', '3153600001', '99999999999999999999999', ['5', '5']]) assertProblem(await n.put({ ...text, 'stream-ttl': ttl }), 400, 'bad_request')
    for (const at of ['', 'soon', '2030-01-01', '2030-01-01T00:00:00', '2030-02-30T00:00:00Z', '2030-01-01 00:00:00Z', '1893456000']) assertProblem(await n.put({ ...text, 'stream-expires-at': at }), 400, 'bad_request')
    assertProblem(await n.put({ ...text, 'stream-ttl': '5', 'stream-expires-at': '2030-01-01T00:00:00Z' }), 400, 'bad_request')
    for (const headers of [{ 'stream-fork-offset': s.next }, { 'stream-fork-sub-offset': '0' }, { 'stream-forked-from': '/elsewhere' }, { 'stream-forked-from': '/v1/stream/' },
        { 'stream-forked-from': '/v1/stream/%zz' }])
        assertProblem(await n.put({ ...text, ...headers }), 400, 'bad_request')
    const from = { ...text, 'stream-forked-from': '/v1/stream/s' }
    for (const offset of ['', '-1', 'now', 'x', '0000000000000001_0000000000000000']) assertProblem(await n.put({ ...from, 'stream-fork-offset': offset }), 400, 'bad_offset')
    for (const sub of ['', '-1', '01', '1.5', 'x', '9007199254740992']) assertProblem(await n.put({ ...from, 'stream-fork-offset': '0', 'stream-fork-sub-offset': sub }), 400, 'bad_fork')
    assertProblem(await n.put({ 'content-type': `text/${'x'.repeat(120)}` }), 400, 'bad_request')
    assert.equal((await n.head()).status, 404, 'nothing of it was made')
    await s.reads('')
})

test('Stream-Closed is true or nothing', async (t) => {
    const s = await new Stream(await streams(t), 's').made()
    for (const no of ['false', '1', 'yes', '', 'true, true']) {
        assertProblem(await s.post('', { 'stream-closed': no }), 400, 'empty_append')
        assert.equal((await s.said('.', { 'stream-closed': no })).headers['stream-closed'], undefined)
    }
    assert.equal((await s.said('!', { 'stream-closed': 'TRUE' })).headers['stream-closed'], 'true')
    const late = await s.post('1', json)
    assertProblem(late, 409, 'stream_closed')
    assert.deepEqual([late.headers['stream-closed'], late.headers['stream-next-offset']], ['true', s.next], 'before the type is looked at')
})

test('a producer\'s refusals tell it how to go on', async (t) => {
    const s = await new Stream(await streams(t), 's').made()
    const gap = await s.post('x', producer('p', 0, 3))
    assertProblem(gap, 409, 'producer_gap')
    assert.deepEqual([gap.headers['producer-expected-seq'], gap.headers['producer-received-seq']], ['0', '3'])
    const first = await s.said('a', producer('p', 4, 0))
    assert.deepEqual([first.status, first.headers['producer-epoch'], first.headers['producer-seq']], [200, '4', '0'])
    await s.said('b', producer('p', 4, 1))
    const again = await s.said('b', producer('p', 4, 0))
    assert.deepEqual([again.status, again.headers['producer-epoch'], again.headers['producer-seq'], again.headers['stream-next-offset']], [204, '4', '1', s.next])
    const fenced = await s.post('x', producer('p', 3, 9))
    assertProblem(fenced, 403, 'producer_fenced')
    assert.equal(fenced.headers['producer-epoch'], '4')
    assertProblem(await s.post('x', producer('p', 5, 1)), 400, 'producer_epoch')
    assertProblem(await s.post('x', { ...producer('q', 0, 0), ...json }), 400, 'bad_json')
    assertProblem(await s.post('1', { ...producer('q', 0, 0), ...json }), 409, 'content_type_mismatch')
    assert.equal((await s.said('c', producer('q', 0, 0))).status, 200, 'a refused append has used up nothing')
    const top = 2 ** 53 - 1
    assert.equal((await s.said('d', producer('r', top, 0))).headers['producer-epoch'], String(top))
    await s.reads('abcd')
})

test('producers, sequences, forks and ends are the same after a kill', async (t) => {
    const app = await streams(t, { args: ['--seal-quiet-ms', '50'] })
    const s = await new Stream(app, 's').made(text, 'source ')
    const mark = s.next
    await s.said('one ', { ...producer('p', 2, 0), 'stream-seq': 'b' })
    await s.said('two', producer('p', 2, 1))
    const fork = await new Stream(app, 'fork').made({ 'stream-forked-from': `/apps/default/v1/stream/s`, 'stream-fork-offset': mark, 'stream-fork-sub-offset': '2' })
    await fork.said('!')
    const ended = await new Stream(app, 'ended').made()
    await ended.said('z', { ...producer('p', 0, 0), 'stream-closed': 'true' })
    const gone = await new Stream(app, 'gone').made(text, 'of the dead')
    const child = await new Stream(app, 'child').made({ ...text, 'stream-forked-from': '/v1/stream/gone' })
    assert.equal((await gone.drop()).status, 204)
    for (const stop of ['kill', 'stop']) {
        await sleep(stop === 'stop' ? 200 : 0)
        await app.s[stop]()
        await app.s.start()
        const again = await s.said('two', producer('p', 2, 1))
        assert.deepEqual([again.status, again.headers['producer-seq']], [204, '1'])
        assert.equal((await s.post('x', producer('p', 1, 0))).headers['producer-epoch'], '2')
        assert.equal((await s.post('x', producer('p', 2, 3))).headers['producer-expected-seq'], '2')
        assertProblem(await s.post('x', { 'stream-seq': 'b' }), 409, 'stream_seq')
        await s.reads('source one two')
        await fork.reads('source on!')
        assert.equal((await fork.put({ 'stream-forked-from': `/apps/default/v1/stream/s`, 'stream-fork-offset': mark, 'stream-fork-sub-offset': '2' })).status, 200)
        const twice = await ended.post('z', { ...producer('p', 0, 0), 'stream-closed': 'true' })
        assert.deepEqual([twice.status, twice.headers['stream-closed']], [204, 'true'])
        assertProblem(await ended.post('y', producer('p', 0, 1)), 409, 'stream_closed')
        for (const reply of [await gone.get(), await gone.post('x'), await gone.drop()]) assertProblem(reply, 410, 'stream_gone')
        assert.equal((await gone.head()).status, 410)
        assertProblem(await gone.put(), 409, 'stream_exists')
        assertProblem(await new Stream(app, 'c2').put({ ...text, 'stream-forked-from': '/v1/stream/gone' }), 409, 'fork_source_gone')
        await child.reads('of the dead')
    }
    assert.equal((await child.drop()).status, 204)
    await eventually('the source went with its last fork', async () => (await gone.head()).status === 404)
})

test('JSON keeps the text of what it means', async (t) => {
    const app = await streams(t, { args: ['--seal-quiet-ms', '50'] })
    const s = await new Stream(app, 'j').made({ 'content-type': 'Application/JSON; charset=utf-8' }, ' [ 1.50 , 1e400 ]')
    await s.said('{ "b" : 1 , "a" : [ 12345678901234567890123 ] , "b" : "\\u00e9\\n" }', json)
    await s.said('[[1, 2], []]', json)
    const all = '[1.50,\n1e400,\n{"b":1,"a":[12345678901234567890123],"b":"\\u00e9\\n"},\n[1,2],\n[]]'
    const reply = await s.get()
    assert.deepEqual([reply.text, reply.headers['content-type']], [all, 'Application/JSON; charset=utf-8'])
    for (const [bad, code] of [['{', 'bad_json'], ['[1,]', 'bad_json'], ['nul', 'bad_json'], ['"\u0001"', 'bad_json'], ['['.repeat(65) + ']'.repeat(65), 'too_deep'], ['[]', 'empty_append'], [Buffer.from('"\xff"', 'latin1'), 'bad_json']])
        assertProblem(await s.post(bad, json), 400, code)
    assertProblem(await s.post('"x"', { 'content-type': 'application/jsonl' }), 409, 'content_type_mismatch')
    assertProblem(await s.get('2'), 400, 'bad_offset')
    assert.equal((await s.get('6')).text, `[${all.slice(7)}`, 'behind a message')
    assert.equal((await s.get('now')).text, '[]')
    assert.equal((await s.get(s.next)).text, '[]')
    await sleep(150)
    await app.s.kill()
    await app.s.start()
    await s.reads(all)
})

test('a new stream is told where it is, as its client knows the service', async (t) => {
    for (const [args, headers, want] of [
        [[], { host: 'streams.example:81' }, 'http://streams.example:81'],
        [[], { host: 'streams.example', 'x-forwarded-proto': 'https' }, 'https://streams.example'],
        [[], { host: 'a!b' }, ''],
        [['--public-url', 'https://said.example'], { host: 'streams.example' }, 'https://said.example'],
    ]) {
        const app = await streams(t, { args })
        const made = await app.request('PUT', app.stream('a b'), { headers })
        assert.deepEqual([made.status, made.headers.location.replace(/\/apps.*/, '')], [201, want])
    }
})

test('a beginning is forgotten, and what stands for it is told', async (t) => {
    const app = await streams(t, { args: ['--seal-quiet-ms', '50'] })
    const s = await new Stream(app, 's').made(text, '0123456789')
    for (const [before, status, code] of [['x', 400, 'bad_offset'], ['', 400, 'bad_offset'], ['11', 400, 'bad_offset'], ['-1', 400, 'bad_offset']]) assertProblem(await s.trim(before), status, code)
    assertProblem(await app.request('PATCH', s.path), 400, 'bad_request')
    assertProblem(await new Stream(app, 'none').trim('tail'), 404, 'no_such_stream')
    assertProblem(await s.trim('4', { body: 'x'.repeat((1 << 20) + 1) }), 413, 'too_large')
    assert.equal((await s.trim('4')).status, 204)
    const early = await s.get('3')
    assertProblem(early, 410, 'stream_trimmed')
    assert.equal(early.headers['stream-earliest-offset'], '0000000000000000_0000000000000004')
    assert.equal(early.headers.link, undefined)
    await s.reads('456789')
    assert.equal((await s.get('4')).text, '456789')
    const cut = await s.trim('6', { body: 'so far: 0 to 5', headers: text })
    assert.deepEqual([cut.status, cut.headers['stream-next-offset']], [204, s.next])
    for (let round = 0; round < 3; round++) {
        const snapshot = await s.get('-1')
        assert.deepEqual([snapshot.text, snapshot.headers['stream-snapshot'], snapshot.headers['stream-next-offset'], snapshot.headers['stream-up-to-date']],
            ['so far: 0 to 5', 'true', '0000000000000000_0000000000000006', undefined])
        assert.equal((await s.get(snapshot.headers['stream-next-offset'])).text, '6789')
        const behind = await s.get('0')
        assertProblem(behind, 410, 'stream_trimmed')
        assert.match(behind.headers.link, /^<\?offset=-1>; rel=/)
        assertProblem(await app.request('GET', `${s.path}?offset=5&live=sse`), 410, 'stream_trimmed')
        assertProblem(await app.request('GET', `${s.path}?offset=5&live=long-poll`), 410, 'stream_trimmed')
        for (const live of ['sse', 'long-poll']) assertProblem(await app.request('GET', `${s.path}?offset=-1&live=${live}`), 410, 'stream_trimmed')
        if (round === 0) await app.s.kill()
        if (round === 1) await sleep(200), await app.s.stop()
        if (round < 2) await app.s.start()
    }
    const { etag } = (await s.get('-1')).headers
    assert.equal((await s.trim('6', { body: 'so far, in other words', headers: text })).status, 204)
    assert.equal((await s.get('-1', { 'if-none-match': etag })).text, 'so far, in other words')
    const end = await s.trim('tail', { body: 'final', headers: { 'stream-closed': 'true' } })
    assert.deepEqual([end.status, end.headers['stream-closed'], end.headers['stream-next-offset']], [204, 'true', s.next])
    const final = await s.get('-1')
    assert.deepEqual([final.text, final.headers['stream-closed'], final.headers['stream-up-to-date'], final.headers['stream-next-offset']], ['final', 'true', 'true', s.next])
    assert.equal((await s.get('-1', { 'if-none-match': final.headers.etag })).status, 304)
    assert.deepEqual([(await s.get(s.next)).text, (await s.get(s.next)).headers['stream-closed']], ['', 'true'])
    assertProblem(await s.post('x'), 409, 'stream_closed')
})

test('JSON is trimmed between messages, and not under forks', async (t) => {
    const app = await streams(t)
    const s = await new Stream(app, 'j').made(json, '[1,2,3]')
    assertProblem(await s.trim('1'), 400, 'bad_offset')
    assertProblem(await s.trim('3', { body: '{' }), 400, 'bad_json')
    assertProblem(await s.trim('3', { body: 'x', headers: text }), 409, 'content_type_mismatch')
    assert.equal((await s.trim('6', { body: '{ "sum": 3 }', headers: json })).status, 204)
    assert.deepEqual([(await s.get()).json, (await s.get('6')).json], [[{ sum: 3 }], [3]])
    const p = await new Stream(app, 'p').made(text, 'parent')
    const fork = await new Stream(app, 'f').made({ ...text, 'stream-forked-from': '/v1/stream/p' })
    assertProblem(await p.trim('tail'), 409, 'still_referenced')
    assert.equal((await fork.drop()).status, 204)
    assert.equal((await p.trim('tail')).status, 204)
})

test('a TTL slides with reads and writes, over restarts, and ends by itself', async (t) => {
    const app = await streams(t)
    const idle = await new Stream(app, 'idle').made({ ...text, 'stream-ttl': '2' }, 'x')
    const read = await new Stream(app, 'read').made({ ...text, 'stream-ttl': '2' }, 'x')
    const until = await new Stream(app, 'until').made({ ...text, 'stream-expires-at': new Date(Date.now() + 2000).toISOString().replace('Z', '+00:00') }, 'x')
    const long = await new Stream(app, 'long').made({ ...text, 'stream-ttl': '100' }, 'x')
    assert.equal((await read.head()).headers['stream-ttl'], '2')
    assert.match((await until.head()).headers['stream-expires-at'], /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
    assert.equal((await long.put({ ...text, 'stream-ttl': '101' })).status, 409)
    const end = Date.now() + 3500
    for (let i = 0; Date.now() < end; i++) {
        assert.equal((await read.get(i % 2 ? 'now' : '-1')).status, 200)
        if (i === 4) await sleep(700), await app.s.kill(), await app.s.start()
        await sleep(150)
    }
    for (const over of [idle, until]) {
        assert.equal((await over.head()).status, 404)
        assertProblem(await over.get(), 404, 'no_such_stream')
        assertProblem(await over.post('x'), 404, 'no_such_stream')
        assertProblem(await over.drop(), 404, 'no_such_stream')
    }
    assert.equal((await idle.made({ ...text, 'stream-ttl': '50' }, 'anew'), (await idle.get()).text), 'anew')
    assert.equal((await long.head()).headers['stream-ttl'], '100')
    await eventually('what nobody reads ends', async () => (await read.head()).status === 404)
})

test('a stream that is followed outlives its TTL', async (t) => {
    const app = await streams(t)
    const s = await new Stream(app, 's').made({ ...text, 'stream-ttl': '1' }, 'x')
    const raw = new Raw(app.s)
    raw.send(`GET ${s.path.replace(/^/, '/apps/default')}?offset=-1&live=sse HTTP/1.1\r\nHost: x\r\n\r\n`)
    await raw.line()
    await sleep(3500)
    assert.equal((await s.head()).status, 200)
    raw.destroy()
    await eventually('it ends with its last follower', async () => (await s.head()).status === 404)
})

test('every answer protects a browser, and preflights let everything through', async (t) => {
    const app = await streams(t)
    const s = await new Stream(app, 's').made()
    const replies = [await s.get(), await s.head(), await s.said('x'), await s.put(), await s.post(''), await s.get('x'), await new Stream(app, 'none').get(), await s.post('x', { 'if-match': '0' })]
    assert.deepEqual(replies.map((r) => r.status), [200, 200, 204, 200, 400, 400, 404, 412])
    for (const r of replies) assert.deepEqual([r.headers['x-content-type-options'], r.headers['cross-origin-resource-policy'], r.headers['access-control-expose-headers']], ['nosniff', 'cross-origin', '*'])
    for (const r of replies.slice(4)) assert.equal(r.headers['cache-control'], 'no-store')
    const preflight = await app.request('OPTIONS', s.path, { headers: { origin: 'https://example.com', 'access-control-request-method': 'PATCH' } })
    for (const name of ['If-None-Match', 'If-Match', 'Stream-Seq', 'Stream-TTL', 'Stream-Expires-At', 'Stream-Closed', 'Stream-Forked-From', 'Stream-Fork-Offset', 'Stream-Fork-Sub-Offset', 'Stream-Trim-Before',
        'Producer-Id', 'Producer-Epoch', 'Producer-Seq'])
        assert.ok(preflight.headers['access-control-allow-headers'].split(', ').includes(name), name)
    for (const method of ['PUT', 'POST', 'GET', 'HEAD', 'DELETE', 'PATCH']) assert.ok(preflight.headers['access-control-allow-methods'].split(', ').includes(method), method)
})

test('what may be cached says so, and a tag is true only as long as its page', async (t) => {
    const app = await streams(t)
    const s = await new Stream(app, 's').made(text, 'abc')
    const open = await s.get()
    assert.equal(open.headers['cache-control'], 'private, no-cache')
    for (const tags of [open.headers.etag, `"x", W/${open.headers.etag}`, '*']) {
        const same = await s.get('-1', { 'if-none-match': tags })
        assert.deepEqual([same.status, same.text, same.headers.etag, same.headers['stream-next-offset']], [304, '', open.headers.etag, s.next])
    }
    assert.equal((await s.get('-1', { 'if-none-match': '"x"' })).status, 200)
    await s.said('', { 'stream-closed': 'true' })
    const closed = await s.get('-1', { 'if-none-match': open.headers.etag })
    assert.deepEqual([closed.status, closed.headers['stream-closed']], [200, 'true'], 'an end is news')
    assert.match(closed.headers['cache-control'], /max-age=60/)
    assert.equal((await s.get('now')).headers.etag, undefined)
    assert.equal((await s.get('now')).headers['cache-control'], 'no-store')
})

test('bodies come in chunks, too, and are taken whole or not at all', async (t) => {
    const app = await streams(t)
    const s = await new Stream(app, 's').made()
    async function* pieces() { for (const piece of ['in ', 'three ', 'chunks']) { yield piece; await sleep(5) } }
    assert.equal((await app.request('POST', s.path, { headers: text, body: pieces() })).status, 204)
    const raw = new Raw(app.s)
    raw.send(`POST /apps/default${s.path} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nnever\r\n`)
    await sleep(50)
    raw.destroy()
    await sleep(50)
    await s.reads('in three chunks')
})
