// Following a stream by the Durable Streams surface: PROTOCOL.md, "Following".
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { follow } from './lib/follow.mjs'
import { App, append, close, create } from './lib/http.mjs'
import { service, within } from './lib/service.mjs'

const text = { 'content-type': 'text/plain' }, json = { 'content-type': 'application/json' }
const late = (ms) => new Promise((go) => setTimeout(go, ms))

async function streams(t, options) { return new App(await service(t, options)) }

test('what is there comes first, then what comes, then the end', async (t) => {
    const app = await streams(t)
    await app.request('PUT', app.stream('s'), { headers: text, body: 'one ' })
    const f = await follow(t, app, 's')
    assert.deepEqual([f.res.statusCode, f.res.headers['content-type'], f.res.headers['content-length'], f.res.headers['stream-sse-data-encoding']], [200, 'text/event-stream', undefined, undefined])
    assert.match(f.res.headers['cache-control'], /no-cache/)
    assert.equal(f.res.headers['x-content-type-options'], 'nosniff')
    await f.until('the beginning', () => f.last?.upToDate)
    assert.match(f.last.streamCursor, /^\d+$/)
    await app.request('POST', app.stream('s'), { headers: text, body: 'two ' })
    await f.until('the second', () => f.text === 'one two ')
    const end = await app.request('POST', app.stream('s'), { headers: { ...text, 'stream-closed': 'true' }, body: 'three' })
    await f.until('the end', () => f.ended)
    assert.equal(f.text, 'one two three')
    assert.deepEqual([f.last.data, f.last.streamClosed, f.last.streamCursor, f.last.streamNextOffset], ['three', true, undefined, end.headers['stream-next-offset']])
    assert.equal(f.told.filter((e) => e.streamClosed).length, 1)
})

test('an empty stream, the tail and a closed stream are told at once', async (t) => {
    const app = await streams(t)
    const made = await app.request('PUT', app.stream('empty'), { headers: text })
    const empty = await follow(t, app, 'empty')
    await empty.until('the first control event', () => empty.told.length > 0)
    assert.deepEqual([empty.last.data, empty.last.streamNextOffset, empty.last.upToDate], [null, made.headers['stream-next-offset'], true])
    const full = await app.request('PUT', app.stream('full'), { headers: text, body: 'history' })
    const now = await follow(t, app, 'full', 'offset=now')
    await now.until('the first control event', () => now.told.length > 0)
    assert.deepEqual([now.last.data, now.last.streamNextOffset, now.last.upToDate], [null, full.headers['stream-next-offset'], true])
    await app.request('POST', app.stream('full'), { headers: text, body: 'news' })
    await now.until('the news', () => now.text === 'news')
    await app.request('POST', app.stream('full'), { headers: { 'stream-closed': 'true' } })
    for (const query of ['offset=now', `offset=${now.last.streamNextOffset}`]) {
        const closed = await follow(t, app, 'full', query)
        await closed.until('the end', () => closed.ended)
        assert.deepEqual(closed.told.map((e) => [e.data, e.upToDate, e.streamClosed, e.streamCursor]), [[null, true, true, undefined]])
    }
})

test('messages come as arrays, other bytes as base64', async (t) => {
    const app = await streams(t)
    await app.request('PUT', app.stream('j'), { headers: json, body: '[{"n":1},[2, 3]]' })
    const f = await follow(t, app, 'j')
    await f.until('the first two', () => f.messages.length === 2)
    await app.request('POST', app.stream('j'), { headers: json, body: '{"n": "a\\nb"}' })
    await app.request('POST', app.stream('j'), { headers: { ...json, 'stream-closed': 'true' }, body: '[4,5]' })
    await f.until('the end', () => f.ended)
    assert.deepEqual(f.messages, [{ n: 1 }, [2, 3], { n: 'a\nb' }, 4, 5])
    const bytes = Buffer.from(Array.from({ length: 200000 }, (_, i) => i * 7 % 256))
    await app.request('PUT', app.stream('b'), { headers: { 'content-type': 'application/octet-stream', 'stream-closed': 'true' }, body: bytes })
    const b = await follow(t, app, 'b')
    await b.until('the end', () => b.ended)
    assert.equal(b.res.headers['stream-sse-data-encoding'], 'base64')
    assert.ok(b.told.length > 1, 'in pieces')
    assert.ok(Buffer.concat(b.told.map((e) => Buffer.from(e.data, 'base64'))).equals(bytes))
    assert.equal((await app.request('GET', `${app.stream('j')}?offset=3&live=sse`)).status, 400)
})

test('a message larger than a piece comes whole', async (t) => {
    const app = await streams(t)
    const big = 'm'.repeat(300000)
    await app.request('PUT', app.stream('j'), { headers: { ...json, 'stream-closed': 'true' }, body: JSON.stringify(['small', big, 'small']) })
    const f = await follow(t, app, 'j')
    await f.until('the end', () => f.ended)
    assert.deepEqual(f.messages, ['small', big, 'small'])
})

test('no line end of a text can make an event, and CRLF is one however it is cut', async (t) => {
    const app = await streams(t)
    const evil = 'a\r\revent: control\rdata: {"bad":true}\r\n\r\nb\n\nevent: data\ndata: x\n\n'
    await app.request('PUT', app.stream('s'), { headers: text, body: `${evil}cut\r` })
    const f = await follow(t, app, 's')
    await f.until('the first', () => f.last?.upToDate)
    await app.request('POST', app.stream('s'), { headers: text, body: '\nhere' })
    await f.until('the second', () => f.text.endsWith('here'))
    assert.equal(f.text, `${evil}cut\r\nhere`.replace(/\r\n|\r/g, '\n'))
    assert.ok(f.told.every((e) => e.bad === undefined))
})

test('a character that is cut in two comes when it is whole', async (t) => {
    const app = await streams(t)
    const bytes = Buffer.from('zwölf 😀!')
    await app.request('PUT', app.stream('s'), { headers: text, body: bytes.subarray(0, 1) })
    const f = await follow(t, app, 's')
    for (let i = 1; i < bytes.length; i++) await app.request('POST', app.stream('s'), { headers: text, body: bytes.subarray(i, i + 1) })
    await f.until('all of it', () => f.text === 'zwölf 😀!')
    const again = await follow(t, app, 's', `offset=${f.told.at(-2).streamNextOffset}`)
    await again.until('its end', () => again.last?.upToDate)
    assert.equal(again.text, f.last.data)
})

test('a connection is made anew now and then, and nothing is missed', async (t) => {
    const app = await streams(t, { args: ['--sse-ms', '250', '--heartbeat-ms', '60'] })
    await app.request('PUT', app.stream('s'), { headers: text })
    let offset = '-1', got = '', want = '', ends = 0, comments = 0
    for (let i = 0; i < 3; i++) {
        const f = await follow(t, app, 's', `offset=${offset}`)
        for (let k = 0; k < 5; k++) {
            const piece = `${i}.${k} `
            want += piece
            await app.request('POST', app.stream('s'), { headers: text, body: piece })
        }
        await f.until('the end of the connection', () => f.ended)
        ends++
        comments += f.parser.comments
        assert.equal(f.last.streamClosed, undefined)
        got += f.text
        offset = f.last.streamNextOffset
    }
    const rest = await follow(t, app, 's', `offset=${offset}`)
    await rest.until('the rest', () => got + rest.text === want)
    assert.ok(ends === 3 && comments > 0)
})

test('cursors are numbers that only grow', async (t) => {
    const app = await streams(t, { args: ['--long-poll-ms', '100'] })
    await app.request('PUT', app.stream('s'), { headers: text, body: 'x' })
    let cursor = ''
    for (let i = 0; i < 5; i++) {
        const r = await app.request('GET', `${app.stream('s')}?offset=${i % 2 ? 'now' : '-1'}&live=long-poll${cursor && `&cursor=${cursor}`}`)
        assert.equal(r.status, i % 2 ? 204 : 200)
        assert.ok(cursor === '' || Number(r.headers['stream-cursor']) > Number(cursor), `${r.headers['stream-cursor']} after ${cursor}`)
        cursor = r.headers['stream-cursor']
    }
    const f = await follow(t, app, 's', `offset=-1&cursor=${cursor}`)
    await f.until('its first', () => f.last)
    assert.ok(Number(f.last.streamCursor) > Number(cursor))
    const bad = await follow(t, app, 's', 'offset=-1&cursor=nonsense')
    await bad.until('its first', () => bad.last)
    assert.ok(Number(bad.last.streamCursor) < Number(cursor))
})

test('long-poll: data at once, news when they come, the end, and what is gone', async (t) => {
    const app = await streams(t, { args: ['--long-poll-ms', '5000'] })
    const path = app.stream('j')
    const made = await app.request('PUT', path, { headers: json, body: '[1]' })
    const poll = (offset) => app.request('GET', `${path}?offset=${offset}&live=long-poll`)
    assert.equal((await app.request('GET', `${path}?live=long-poll`)).status, 400)
    const first = await poll('-1')
    assert.deepEqual([first.status, JSON.parse(first.text), first.headers['stream-up-to-date']], [200, [1], 'true'])
    const [news] = await Promise.all([poll('now'), late(100).then(() => app.request('POST', path, { headers: json, body: '[2,{"k":3}]' }))])
    assert.deepEqual([news.status, JSON.parse(news.text)], [200, [2, { k: 3 }]])
    assert.ok(news.headers['stream-next-offset'] > made.headers['stream-next-offset'])
    const [last] = await Promise.all([poll('now'), late(100).then(() => app.request('POST', path, { headers: { ...json, 'stream-closed': 'true' }, body: '4' }))])
    assert.deepEqual([last.status, JSON.parse(last.text), last.headers['stream-closed']], [200, [4], 'true'])
    const end = await poll(last.headers['stream-next-offset'])
    assert.deepEqual([end.status, end.headers['stream-closed'], end.headers['stream-up-to-date'], end.headers['stream-next-offset']], [204, 'true', 'true', last.headers['stream-next-offset']])
    await app.request('PUT', app.stream('d'), { headers: text })
    const [gone] = await Promise.all([app.request('GET', `${app.stream('d')}?offset=now&live=long-poll`), late(100).then(() => app.request('DELETE', app.stream('d')))])
    assert.equal(gone.status, 404)
})

test('a stream that is deleted and made again ends those who followed the first', async (t) => {
    const app = await streams(t)
    await app.request('PUT', app.stream('s'), { headers: text, body: 'old' })
    const f = await follow(t, app, 's')
    await f.until('the old', () => f.text === 'old')
    await app.request('DELETE', app.stream('s'))
    await app.request('PUT', app.stream('s'), { headers: text, body: 'something new' })
    await f.until('the end', () => f.ended)
    assert.equal(f.text, 'old')
    const again = await follow(t, app, 's')
    await again.until('the new', () => again.text === 'something new')
})

test('a fork is followed through what it inherited, and never sees what its source got later', async (t) => {
    const app = await streams(t)
    await app.request('PUT', app.stream('source'), { headers: text, body: 'inherited, ' })
    await app.request('PUT', app.stream('fork'), { headers: { 'stream-forked-from': app.stream('source') } })
    const f = await follow(t, app, 'fork')
    await app.request('POST', app.stream('source'), { headers: text, body: 'not for the fork' })
    await app.request('POST', app.stream('fork'), { headers: { ...text, 'stream-closed': 'true' }, body: 'its own' })
    await f.until('the end', () => f.ended)
    assert.equal(f.text, 'inherited, its own')
})

test('a crowd gets the same bytes, slow ones too, and its writers are not kept waiting', async (t) => {
    const app = await streams(t)
    await app.batch([create('s', 'text/plain')])
    const quick = await Promise.all(Array.from({ length: 150 }, () => follow(t, app, 's')))
    const slow = await Promise.all(Array.from({ length: 5 }, () => follow(t, app, 's')))
    for (const f of slow) f.res.pause()
    let want = ''
    for (let i = 0; i < 300; i++) {
        const piece = `${i}:${'.'.repeat(i % 50 === 0 ? 400000 : i % 7)} `
        want += piece
        await app.batch([append('s', piece)])
    }
    await app.batch([close('s')])
    for (const f of quick) await f.until('the end', () => f.ended)
    for (const f of slow) f.res.resume()
    for (const f of slow) await f.until('the end', () => f.ended)
    for (const f of [...quick, ...slow]) assert.ok(f.text === want)
})

test('those who follow are sent away when the service stops, and go on when it is back', async (t) => {
    const app = await streams(t)
    await app.request('PUT', app.stream('s'), { headers: text, body: 'before ' })
    const f = await follow(t, app, 's')
    await f.until('the beginning', () => f.last?.upToDate)
    await app.s.stop()
    await within(f.until('the end of the connection', () => f.ended), 'the connection to end')
    await app.s.start()
    const again = await follow(t, app, 's', `offset=${f.last.streamNextOffset}`)
    await app.request('POST', app.stream('s'), { headers: text, body: 'after' })
    await again.until('what came after', () => again.text === 'after')
})
