// The subscription protocol over a WebSocket: PROTOCOL.md, section 7. What lib/fold.mjs asserts with every message is half of each test.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { App, append, assertProblem, close, create, insert, Raw, remove, update } from './lib/http.mjs'
import { bodyOf, chatService, hush, message, say } from './lib/chat.mjs'
import { assertSameRows, settled } from './lib/fold.mjs'
import { eventually, service, sleep, memoryFactor } from './lib/service.mjs'
import { subscribe } from './lib/sse.mjs'
import { BINARY, CLOSE, follow, frame, open, PING, SyncPeer, TEXT, WebSocketPeer } from './lib/ws.mjs'

const ALL = { queries: { q: 'select * from messages' } }
const line = (head, bytes) => Buffer.concat([Buffer.from(JSON.stringify(head) + '\n'), Buffer.from(bytes)])

// ---- the handshake ---------------------------------------------------------------------------------------------

test('a handshake that is none is answered as HTTP, and says what is spoken', async (t) => {
    const { s, app } = await chatService(t)
    const plain = await app.request('GET', '/sync')
    assertProblem(plain, 426, 'upgrade_required')
    assert.equal(plain.headers['sec-websocket-version'], '13')
    const cases = [
        [{ 'Sec-WebSocket-Version': '8' }, 426], [{ Upgrade: 'h2c' }, 426], [{ Connection: 'keep-alive' }, 426],
        [{ 'Sec-WebSocket-Key': 'short' }, 400], [{ 'Sec-WebSocket-Key': undefined }, 400], [{ 'Sec-WebSocket-Key': '!'.repeat(24) }, 400],
    ]
    for (const [headers, status] of cases) {
        const ws = new WebSocketPeer(s)
        assert.equal((await ws.shake(s, { headers })).status, status, JSON.stringify(headers))
        ws.destroy()
    }
    const ws = new WebSocketPeer(s)
    assert.equal((await ws.shake(s, { path: '/apps/nobody/sync' })).status, 404)
    ws.destroy()
    const old = new Raw(s).send('GET /apps/default/sync HTTP/1.0\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n')
    assert.equal((await old.reply()).status, 426)
    old.destroy()
})

test('pages of other origins may not connect, unless they are named', async (t) => {
    const s = await service(t, { args: ['--allow-origin', 'https://a.example, https://b.example'] })
    const host = `127.0.0.1:${s.port}`
    const cases = [
        [undefined, 101], [`http://${host}`, 101], ['http://localhost:3000', 101], ['http://[::1]:1', 101], ['null', 101], ['https://b.example', 101],
        ['https://c.example', 403], ['http://127.0.0.1.c.example', 403], ['http://localhost.c.example', 403], ['nonsense', 403],
    ]
    for (const [origin, status] of cases) {
        const ws = new WebSocketPeer(s)
        assert.equal((await ws.shake(s, { headers: origin ? { Origin: origin } : {} })).status, status, origin)
        ws.destroy()
    }
    const strict = await service(t, { dev: false })
    const ws = new WebSocketPeer(strict)
    assert.equal((await ws.shake(strict, {})).status, 401)
    ws.destroy()
})

// ---- messages --------------------------------------------------------------------------------------------------

test('batches get their fates, in order and before the commits that contain them', async (t) => {
    const { app, chat } = await chatService(t)
    const peer = await follow(t, app, ALL)
    const ids = Array.from({ length: 50 }, () => randomUUID())
    ids.forEach((id, i) => peer.send({ type: 'batch', id: i, ops: [message(chat, id, { role: `r${i}` })] }))
    await peer.until('all rows', (f) => f.isLive && f.views.q.size === 50)
    const fates = peer.answers.filter((a) => a.type === 'fate')
    assert.deepEqual(fates.map((f) => f.id), ids.map((_, i) => i))
    for (const f of fates) {
        const told = peer.messages.findIndex((m) => m.type === 'commit' && m.changes && m.from < f.seq && m.to >= f.seq)
        assert.ok(told < 0 || peer.messages.indexOf(f) < told, `fate ${f.seq} before its commit`)
    }
    assertSameRows(peer.fold.views.q, await app.rows('select * from messages'))
})

test('rejections and errors name what they are about, and the connection goes on', async (t) => {
    const { app, chat } = await chatService(t)
    const peer = await follow(t, app, ALL)
    const replica = randomUUID()
    const said = async (m, want) => {
        peer.answers = []
        peer.send(m)
        const got = await peer.answer(JSON.stringify(m), (a) => a.type === want.type)
        assert.deepEqual(Object.fromEntries(Object.keys(want).map((k) => [k, got[k]])), want, JSON.stringify(got))
        return got
    }
    await said({ type: 'batch', id: 'a', ops: [insert('chats', {})] }, { type: 'fate', id: 'a', fate: 'rejected', code: 'not_null', position: 0 })
    await said({ type: 'batch', id: 'b', ops: [insert('nowhere', {})] }, { type: 'fate', id: 'b', fate: 'rejected', code: 'no_such_table' })
    await said({ type: 'batch', id: 'c', ops: [] }, { type: 'error', id: 'c', code: 'bad_batch' })
    await said({ type: 'batch', id: 'd', ops: [{ op: 'insert', table: 'chats', oops: 1 }] }, { type: 'error', id: 'd', code: 'bad_batch', position: 0 })
    await said({ type: 'batch', id: 'e', replica, counter: 2, ops: [insert('chats', { title: 'x' })] }, { type: 'error', id: 'e', code: 'counter_gap', expected: 1 })
    await said({ type: 'batch', id: 'f', replica, counter: 1, ops: [insert('chats', { title: 'x' })] }, { type: 'fate', id: 'f', fate: 'accepted' })
    await said({ type: 'batch', id: 'f', replica, counter: 1, ops: [insert('chats', { title: 'x' })] }, { type: 'fate', fate: 'accepted', again: true })
    await said({ type: 'fate', id: 'g', replica, counter: 1 }, { type: 'fate', id: 'g', fate: 'accepted', again: true })
    await said({ type: 'fate', id: 'g', replica, counter: 2 }, { type: 'error', id: 'g', code: 'no_fate', expected: 2 })
    await said({ type: 'fate', key: 'never' }, { type: 'error', id: undefined, code: 'no_fate', expected: undefined })
    await said({ type: 'fate', id: 'g' }, { type: 'error', id: 'g', code: 'bad_batch' })
    await said({ type: 'batch', id: { no: 1 }, ops: [insert('chats', { title: 'x' })] }, { type: 'error', id: undefined, code: 'bad_batch' })
    await said({ type: 'batch', ops: [insert('chats', { title: 'x' })] }, { type: 'fate', id: undefined, fate: 'accepted' })
    await said({ type: 'subscribe', name: 'bad name', query: 'select * from chats' }, { type: 'error', name: 'bad name', code: 'bad_parameter' })
    await said({ type: 'subscribe', name: 'q', query: 'select * from chats' }, { type: 'error', name: 'q', code: 'bad_parameter' })
    await said({ type: 'subscribe', name: 'x', query: 'selekt' }, { type: 'error', name: 'x', code: 'bad_sql' })
    await said({ type: 'subscribe', name: 'x', query: 'select * from chats', stream: 'both' }, { type: 'error', name: 'x', code: 'bad_parameter' })
    await said({ type: 'subscribe', name: 'x', stream: 'none', offset: 7 }, { type: 'error', name: 'x', code: 'bad_offset' })
    await said({ type: 'subscribe', name: 'x', stream: 'none', ofset: 7 }, { type: 'error', name: 'x', code: 'bad_request' })
    await said({ type: 'unsubscribe', name: 'x' }, { type: 'error', name: 'x', code: 'bad_parameter' })
    await said({ type: 'ping', id: 7 }, { type: 'pong', id: 7 })
    await said({ type: 'ping' }, { type: 'pong', id: undefined })
    assert.ok(chat)
})

test('pipelined appends are acknowledged by their number, many at once, and stand in their order', async (t) => {
    const { app } = await chatService(t)
    await app.batch([create('log', 'text/plain')])
    const peer = await follow(t, app, { streams: { log: 'log' } })
    await peer.untilLive()
    const count = 3000
    let want = ''
    for (let i = 1; i <= count; i++) {
        const text = `${i} grüße;`
        want += text
        if (i % 3 === 0) peer.send(line({ stream: 'log' }, text))
        else peer.send({ type: 'append', stream: 'log', ...(i % 3 === 1 ? { text } : { base64: Buffer.from(text).toString('base64') }) })
    }
    await peer.answer('the last acknowledgement', (a) => a.upto === count)
    const upto = peer.answers.map((a) => a.upto)
    assert.ok(upto.every((n, i) => i === 0 || n > upto[i - 1]), 'they only grow')
    assert.ok(upto.length < count, `${upto.length} acknowledgements of ${count} appends`)
    await peer.until('all of it', (f) => f.views.log.offset === Buffer.byteLength(want))
    assert.equal(peer.fold.views.log.text, want)
    t.diagnostic(`${count} appends in ${upto.length} acknowledgements and ${peer.messages.length} messages`)
})

test('an append that fails is named by its number, and those behind it are judged for themselves', async (t) => {
    const { app } = await chatService(t)
    await app.batch([create('s'), create('shut'), close('shut')])
    const peer = await follow(t, app, {})
    peer.send({ type: 'append', stream: 's', text: 'a', expect: 0 })
    peer.send({ type: 'append', stream: 's', text: 'b', expect: 0 })
    peer.send({ type: 'append', stream: 'shut', text: 'c' })
    peer.send({ type: 'append', stream: 's', text: 'd', text2: 'd' })
    peer.send(line({ stream: 's', text: 'twice' }, 'e'))
    peer.send({ type: 'append', stream: 's', text: 'f', expect: 1 })
    await peer.answer('the last', (a) => a.upto === 6)
    const failed = peer.answers.filter((a) => a.append)
    assert.deepEqual(failed.map((a) => [a.append, a.type, a.code]).sort((a, b) => a[0] - b[0]),
        [[2, 'fate', 'offset_mismatch'], [3, 'fate', 'stream_closed'], [4, 'error', 'bad_batch'], [5, 'error', 'bad_batch']])
    for (const a of failed) assert.ok(peer.answers.indexOf(a) < peer.answers.findIndex((x) => x.upto >= a.append), 'named before it is counted')
    assert.equal((await app.readStream('s')).bytes.toString(), 'af')
})

test('an empty hello is welcome, and its first range begins at the seq of the welcome', async (t) => {
    const { app, chat } = await chatService(t)
    const peer = await follow(t, app, {})
    await peer.until('the welcome', (f) => f.welcomes.length === 1)
    await app.batch([message(chat, randomUUID())])
    peer.query('q', 'select * from messages')
    await peer.untilLive()
    assertSameRows(peer.fold.views.q, await app.rows('select * from messages'))
})

// ---- subscribing while live ------------------------------------------------------------------------------------

test('tokens do not wait behind the snapshot of a large query that is subscribed to later', async (t) => {
    const app = new App(await service(t))
    await app.schema('create table big (k integer, filler text)')
    const filler = 'y'.repeat(400)
    for (let i = 0; i < 4; i++) await app.batch(Array.from({ length: 5000 }, (_, k) => insert('big', { k: i * 5000 + k, filler })))
    await app.batch([create('reply')])
    const peer = await follow(t, app, { streams: { reply: 'reply' } })
    await peer.untilLive()
    let appended = 0
    let stop = false
    const writing = (async () => { while (!stop) { await app.batch([append('reply', `${appended++};`), ...(appended % 7 === 0 ? [insert('big', { k: -appended, filler })] : [])]); await sleep(1) } })()
    // A reader that takes its time over each piece.
    const take = peer.fold.take.bind(peer.fold)
    peer.fold.take = (m, id) => { take(m, id); if (m.snapshot?.all) { peer.ws.socket.pause(); setTimeout(() => peer.ws.socket.resume(), 10) } }
    peer.query('all', 'select * from big')
    peer.query('top', 'select k from big order by k desc limit 10')
    await peer.until('both live', (f) => f.live.has('all') && f.live.has('top'))
    stop = true
    await writing
    const first = peer.messages.findIndex((m) => m.snapshot?.all)
    const last = peer.messages.findLastIndex((m) => m.snapshot?.all)
    const between = peer.messages.slice(first, last).filter((m) => m.changes?.reply)
    assert.ok(last - first > 20, 'in pieces')
    assert.ok(between.length >= 3, `${between.length} ranges with tokens came between the pieces`)
    const { seq } = await app.batch([append('reply', 'end')])
    await peer.untilSeq(seq)
    assertSameRows(peer.fold.views.all, await app.rows('select * from big'))
    assertSameRows(peer.fold.views.top, await app.rows('select k from big order by k desc limit 10'))
    assert.deepEqual(peer.fold.views.reply.bytes, (await app.readStream('reply')).bytes)
})

test('a late subscription that missed much catches up by itself before it joins', async (t) => {
    const { app } = await chatService(t)
    const piece = 'All work and no play makes a dull stream. '.repeat(25000)
    await app.batch([create('big'), create('small')])
    for (let i = 0; i < 24; i++) await app.batch([append('big', piece)])
    const peer = await follow(t, app, { streams: { small: 'small' } })
    await peer.untilLive()
    peer.stream('big', 'big')
    await peer.until('its first piece', (f) => f.late.get('big')?.[0]?.at !== undefined)
    peer.ws.socket.pause()
    for (let i = 0; i < 8; i++) await app.batch([append('big', piece), append('small', `${i};`)])
    await app.batch([close('big')])
    peer.ws.socket.resume()
    await peer.untilLive()
    assert.ok(peer.fold.catchups >= 1, `${peer.fold.catchups} messages of catching up`)
    const { seq } = await app.batch([append('small', 'end')])
    await peer.untilSeq(seq)
    assert.equal(peer.fold.views.big.offset, 32 * piece.length)
    assert.deepEqual(peer.fold.views.big.bytes, (await app.readStream('big')).bytes)
    assert.equal(peer.fold.views.big.closed, true)
    assert.equal(peer.fold.views.small.text, '0;1;2;3;4;5;6;7;end')
})

test('an unsubscribed name is told as ended, and may be used again at once', async (t) => {
    const { app, chat } = await chatService(t)
    const peer = await follow(t, app, { ...ALL, queries: { ...ALL.queries, c: 'select * from chats' } })
    await peer.untilLive()
    for (let round = 0; round < 20; round++) {
        peer.unsubscribe('q')
        if (round % 2) peer.query('q', 'select role from messages order by role limit 3')
        else peer.query('q', 'select * from messages')
        if (round % 3 === 0) await peer.untilLive()
        await app.batch([message(chat, randomUUID(), { role: `r${round}` })])
    }
    const { seq } = await app.batch([message(chat, randomUUID(), { role: 'a' })])
    await peer.untilSeq(seq)
    assertSameRows(peer.fold.views.q, await app.rows('select role from messages order by role limit 3'))
    peer.unsubscribe('c')
    await peer.until('the end of c', (f) => f.leaving.length === 0)
    peer.unsubscribe('q')
    await peer.until('the end of q', (f) => f.leaving.length === 0)
    assert.deepEqual(Object.keys(peer.fold.views), [])
})

// ---- coming back -----------------------------------------------------------------------------------------------

for (const [how, stop] of [['a cut', (s, peer) => peer.cut()], ['a restart', async (s) => { await s.stop(); await s.start() }], ['kill -9', async (s) => { await s.kill(); await s.start() }]]) {
    test(`a cursor resumes over ${how}, with what was subscribed to on the way`, async (t) => {
        const { s, app, chat } = await chatService(t)
        const id = randomUUID()
        await app.batch([message(chat, id)])
        const peer = await follow(t, app, { streams: { body: bodyOf(id) } })
        await peer.untilLive()
        peer.query('q', 'select * from messages')
        await peer.untilLive()
        peer.subscribe.q = { query: 'select * from messages' }
        for (let round = 0; round < 3; round++) {
            const { seq } = await app.batch([say(id, `${round};`), message(chat, randomUUID(), { role: `${round}` })])
            await peer.untilSeq(seq)
            const before = peer.ws
            await stop(s, peer)
            await eventually('the end of the old connection', () => before.ended)
            peer.cut()
            const later = await app.batch([say(id, `behind ${round};`)])
            await peer.reopen()
            await peer.untilSeq(later.seq)
            assert.ok(!peer.messages.some((m) => m.snapshot), 'no snapshot for who has a cursor')
        }
        assert.deepEqual(peer.fold.resets, [])
        assert.equal(peer.fold.views.body.text, '0;behind 0;1;behind 1;2;behind 2;')
        assertSameRows(peer.fold.views.q, await app.rows('select * from messages'))
    })
}

test('a cursor with other subscriptions than its own is a reset', async (t) => {
    const { app, chat } = await chatService(t)
    await app.batch([message(chat, randomUUID())])
    const peer = await follow(t, app, ALL)
    await peer.untilLive()
    const { cursor } = peer.fold
    const other = new SyncPeer(app, { queries: { ...ALL.queries, c: 'select * from chats' } })
    t.after(() => other.cut())
    await other.open({ cursor })
    await other.untilLive()
    assert.deepEqual(other.fold.resets, ['other_subscriptions'])
    assertSameRows(other.fold.views.q, await app.rows('select * from messages'))
})

test('a stopping service tells the fates it owes, says why, and closes with 1001', async (t) => {
    const { s, app, chat } = await chatService(t)
    const peer = await follow(t, app, ALL)
    const idle = await open(s)
    await peer.untilLive()
    peer.send({ type: 'batch', id: 'last', ops: [message(chat, randomUUID())] })
    await peer.answer('the fate', (a) => a.id === 'last')
    const began = Date.now()
    await s.stop()
    assert.equal((await peer.ws.closed()).code, 1001)
    assert.equal((await idle.closed()).code, 1001)
    assert.equal(peer.messages.at(-1).code, 'shutting_down')
    assert.ok(Date.now() - began < 7000, 'without waiting for anyone')
})

// ---- two carriers, one protocol --------------------------------------------------------------------------------

test('the same transcript over server-sent events and over a WebSocket gives the same state', async (t) => {
    const app = new App(await service(t))
    await app.schema('create table n (k integer, g text, body stream)')
    const queries = { top: 'select k, g from n order by k desc limit 5', all: 'select * from n', some: ['select * from n where g = $1', 'b'] }
    const what = { queries, streams: { s: 'log', tail: 'log' } }
    const sse = await subscribe(t, app, what)
    const ws = await follow(t, app, what)
    await sse.untilLive()
    await ws.untilLive()
    // What each was told, as one sequence of states by seq.
    const states = new Map([['sse', new Map()], ['ws', new Map()]])
    const watch = (name, fold) => {
        const take = fold.take.bind(fold)
        fold.take = (m, id) => { take(m, id); if (fold.cursor) states.get(name).set(fold.seq, state(fold)) }
    }
    const state = (fold) => JSON.stringify({ rows: Object.keys(queries).map((q) => fold.views[q].rows().map(settled).sort((a, b) => (fold.views[q].ordered ? 0 : a.id < b.id ? -1 : 1))), log: fold.views.s.text })
    watch('sse', sse.fold)
    watch('ws', ws.fold)
    let seed = 11
    const random = (n) => { seed = (seed * 1103515245 + 12345) % 2147483648; return seed % n }
    const ids = []
    let seq
    await app.batch([create('log')])
    for (let round = 0; round < 120; round++) {
        const ops = [append('log', `${round};`)]
        for (let i = 0; i <= random(4); i++) {
            const at = random(ids.length || 1)
            if (ids.length < 12 || random(3) === 0) { const id = randomUUID(); ids.push(id); ops.push(insert('n', { k: random(40), g: 'abc'[random(3)] }, id)) }
            else if (random(4) === 0) ops.push(remove('n', ids.splice(at, 1)[0]))
            else ops.push(update('n', ids[at], { k: random(40), g: 'abc'[random(3)] }))
        }
        // By either way in.
        if (random(2)) ({ seq } = await app.batch(ops))
        else {
            ws.send({ type: 'batch', id: round, ops })
            ;({ seq } = await ws.answer('a fate', (a) => a.id === round))
        }
        // Each loses its connection at times, and comes back with its cursor.
        if (random(15) === 0) { ws.cut(); await ws.open() }
        if (random(15) === 0) { sse.cut(); await sse.open() }
    }
    await sse.untilSeq(seq)
    await ws.untilSeq(seq)
    assert.equal(state(ws.fold), state(sse.fold))
    const both = [...states.get('ws').keys()].filter((k) => states.get('sse').has(k))
    assert.ok(both.length > 50, `${both.length} seqs were shown by both`)
    for (const k of both) assert.equal(states.get('ws').get(k), states.get('sse').get(k), `as of ${k}`)
    for (const [name, spec] of Object.entries(queries)) {
        const [sql, ...params] = [].concat(spec)
        assertSameRows(ws.fold.views[name], await app.rows(sql, params))
    }
    assert.deepEqual(ws.fold.resets, [])
})

test('a cursor of one carrier resumes on the other', async (t) => {
    const { app, chat } = await chatService(t)
    const sse = await subscribe(t, app, ALL)
    await sse.untilLive()
    sse.cut()
    const { seq } = await app.batch([message(chat, randomUUID())])
    const ws = new SyncPeer(app, ALL, { fold: sse.fold })
    t.after(() => ws.cut())
    await ws.open()
    await ws.untilSeq(seq)
    assert.deepEqual(ws.fold.resets, [])
    assert.ok(!ws.messages.some((m) => m.snapshot))
})

// ---- hostile peers ---------------------------------------------------------------------------------------------

const HELLO = frame({ payload: '{"type":"hello","protocol":1}' })
const hostile = [
    ['a frame without a mask', frame({ payload: '{}', mask: false }), 1002],
    ['a reserved bit', frame({ payload: '{}', rsv: 4 }), 1002],
    ['an unknown opcode', frame({ opcode: 3, payload: 'x' }), 1002],
    ['an unknown control opcode', frame({ opcode: 11 }), 1002],
    ['a continuation of nothing', frame({ opcode: 0, payload: 'x' }), 1002],
    ['a message within a message', Buffer.concat([frame({ fin: false, payload: 'a' }), frame({ payload: 'b' })]), 1002],
    ['a fragmented ping', frame({ fin: false, opcode: PING }), 1002],
    ['a ping that is too long', frame({ opcode: PING, payload: 'x'.repeat(126) }), 1002],
    ['a length of more than 63 bits', frame({ length: 1n << 63n, control: 'long' }), 1002],
    ['a length written long', frame({ length: 5n, control: 'long', payload: 'hello' }), 1002],
    ['a huge length', frame({ length: (1n << 62n), payload: 'x', control: 'long' }), 1009],
    ['a message above the limit', frame({ payload: Buffer.alloc(5 << 20, 32) }), 1009],
    ['a message above the limit in frames', Buffer.concat([frame({ fin: false, payload: '{' }), ...Array.from({ length: 80 }, () => frame({ fin: false, opcode: 0, payload: Buffer.alloc(65536, 32) }))]), 1009],
    ['a flood of empty fragments', Buffer.concat([frame({ fin: false, payload: '' }), ...Array.from({ length: 5000 }, () => frame({ fin: false, opcode: 0 }))]), 1008],
    ['half a close code', frame({ opcode: CLOSE, payload: 'x' }), 1002],
    ['a close code that is never sent', frame({ opcode: CLOSE, payload: Buffer.from([0x03, 0xee]) }), 1002],
    ['a close reason that is not UTF-8', frame({ opcode: CLOSE, payload: Buffer.from([0x03, 0xe8, 0xff]) }), 1007],
    ['text that is not UTF-8', frame({ payload: Buffer.from([0x22, 0xff, 0x22]) }), 1007],
    ['text that is not UTF-8 across frames', Buffer.concat([frame({ fin: false, payload: Buffer.from([0x22, 0xe2, 0x82]) }), frame({ opcode: 0, payload: '"' })]), 1007],
    ['text that is not JSON', frame({ payload: 'hello' }), 1007],
    ['text that is no object', frame({ payload: '[]' }), 1007],
    ['deep JSON', frame({ payload: `{"type":${'['.repeat(100000)}` }), 1007],
    ['an unknown type', frame({ payload: '{"type":"attack"}' }), 1008],
    ['a message without a type', frame({ payload: '{}' }), 1008],
    ['a second hello', HELLO, 1008],
    ['a binary message without its line', frame({ opcode: BINARY, payload: Buffer.alloc(10000, 65) }), 1003],
    ['records that are cut off', frame({ opcode: BINARY, payload: Buffer.from([1, 1, 0, 0x73, 9, 0, 0, 0, 0x78]) }), 1003],
    ['a binary message with another line', frame({ opcode: BINARY, payload: 'nonsense\nx' }), 1003],
]

for (const [name, bytes, code] of hostile) {
    test(`${name} is closed with ${code}, and what was sent before it counts`, async (t) => {
        const { s, app } = await shared(t)
        const ws = await open(s)
        const path = `hostile/${randomUUID()}`
        ws.write(HELLO)
        ws.send({ type: 'batch', id: 'before', ops: [create(path), append(path, 'x')] })
        ws.write(bytes)
        const got = await ws.closed()
        assert.equal(got?.code, code, JSON.stringify(got))
        assert.deepEqual(ws.messages.filter((m) => m.type === 'fate').map((m) => [m.id, m.fate]), [['before', 'accepted']])
        assert.equal((await app.readStream(path)).bytes.toString(), 'x')
        ws.destroy()
    })
}

test('hello comes first, and says the version', async (t) => {
    const { s } = await shared(t)
    for (const first of ['{"type":"ping"}', '{"type":"hello"}', '{"type":"hello","protocol":2}', '{"type":"hello","protocol":1,"cursor":"nonsense"}',
        '{"type":"hello","protocol":1,"subscribe":{"q":{"query":"selekt"}}}', '{"type":"hello","protocol":1,"subscribe":{"q":{}}}', '{"type":"hello","protocol":1,"extra":1}']) {
        const ws = await open(s)
        ws.send(first)
        assert.equal((await ws.closed()).code, 1008, first)
        assert.equal(ws.messages.at(-1).type, 'error')
    }
})

// One service for the hostile: whatever one of them does is nobody else's matter.
let common
async function shared(t) {
    common ??= (async () => {
        const { Service } = await import('./lib/service.mjs')
        const s = await new Service().start()
        const app = new App(s)
        await app.schema('create table messages (role text)')
        return { s, app }
    })()
    assert.ok(t)
    return common
}
test.after(async () => { if (common) await (await common).s.end() })

test('a close is answered with its code', async (t) => {
    const { s } = await shared(t)
    for (const [payload, code] of [[Buffer.from([0x03, 0xe8]), 1000], [Buffer.from([0x0f, 0xa0, 0x68, 0x69]), 4000], [Buffer.alloc(0), undefined]]) {
        const ws = await open(s)
        ws.hello()
        ws.frame({ opcode: CLOSE, payload })
        assert.equal((await ws.closed()).code, code)
    }
})

test('messages arrive whole however they are cut and fragmented, with pings between', async (t) => {
    const { s } = await shared(t)
    const ws = await open(s)
    const path = `cut/${randomUUID()}`
    const text = JSON.stringify({ type: 'batch', id: 1, ops: [create(path), append(path, 'grüße €🦀')] })
    const bytes = [HELLO]
    const payload = Buffer.from(text)
    for (let at = 0; at < payload.length; at += 7) {
        bytes.push(frame({ opcode: at === 0 ? TEXT : 0, fin: at + 7 >= payload.length, payload: payload.subarray(at, at + 7) }))
        if (at % 5 === 0) bytes.push(frame({ opcode: PING, payload: `p${at}` }))
    }
    for (const b of Buffer.concat(bytes)) { ws.write(Buffer.from([b])); if (b % 16 === 0) await sleep(0) }
    await ws.until('the fate', () => ws.messages.find((m) => m.type === 'fate' && m.fate === 'accepted'))
    assert.ok(ws.pongs.length > 2 && ws.pongs[0] === 'p0')
    ws.destroy()
})

test('a peer that sends and does not read is not read either, and costs no memory', async (t) => {
    const { s } = await shared(t)
    const ws = await open(s)
    ws.hello()
    await ws.next()
    const before = s.rss()
    ws.socket.pause()
    const ping = frame({ opcode: PING, payload: 'x'.repeat(125) })
    const flood = Buffer.concat(Array.from({ length: 500 }, () => ping))
    // What the kernel's buffers hold goes out first.
    await eventually('the service has stopped reading', async () => {
        while (ws.socket.writableLength < 4 << 20) ws.write(flood)
        const taken = ws.socket.bytesWritten - ws.socket.writableLength
        await sleep(300)
        return ws.socket.writableLength > 0 && ws.socket.bytesWritten - ws.socket.writableLength === taken
    })
    assert.ok(s.rss() - before < 20e6 * memoryFactor, `memory grew by ${s.rss() - before}`)
    ws.destroy()
})

test('unfinished messages of many connections are bounded together', async (t) => {
    const s = await service(t)
    const before = s.rss()
    const peers = []
    for (let i = 0; i < 90; i++) {
        const ws = await open(s)
        ws.write(frame({ fin: false, payload: Buffer.alloc(4000 * 1024, 32) }))
        peers.push(ws)
    }
    await eventually('those that are too many', () => peers.some((p) => p.close?.code === 1013))
    assert.ok(s.rss() - before < 420e6 * memoryFactor, `memory grew by ${s.rss() - before}`)
    for (const p of peers) p.destroy()
    await eventually('the memory again', async () => {
        const ws = await open(s)
        ws.hello()
        const m = await ws.next()
        ws.destroy()
        return m.type === 'welcome'
    })
})

// ---- silence ---------------------------------------------------------------------------------------------------

test('a silent peer is pinged, stays while it answers, and is given up when it does not', async (t) => {
    const s = await service(t, { args: ['--heartbeat-ms', '60'] })
    const alive = await open(s)
    const dead = await open(s)
    dead.answerPings = false
    alive.hello()
    dead.hello()
    assert.equal((await dead.closed()).code, 1011)
    await eventually('several pings', () => alive.pings >= 6)
    assert.equal(alive.ended, false)
    alive.send({ type: 'ping', id: 'still here' })
    await alive.until('a pong', () => alive.messages.find((m) => m.id === 'still here'))
    alive.destroy()
})

test('a connection that does not say hello is closed with 1008', async (t) => {
    const s = await service(t, { args: ['--heartbeat-ms', '60'] })
    const ws = await open(s)
    assert.equal((await ws.closed()).code, 1008)
})

test('a row and its stream end together over a WebSocket, too', async (t) => {
    const { app, chat } = await chatService(t)
    const id = randomUUID()
    await app.batch([message(chat, id)])
    const peer = await follow(t, app, { queries: { open: ['select * from messages where status = $1', 'streaming'] }, streams: { reply: bodyOf(id) } })
    await peer.untilLive()
    for (const word of ['to', 'ken', 's']) peer.send({ type: 'append', table: 'messages', id, column: 'body', text: word })
    peer.send({ type: 'batch', id: 'end', ops: [hush(id), update('messages', id, { status: 'done' })] })
    const { seq } = await peer.answer('the fate', (a) => a.id === 'end')
    await peer.untilSeq(seq)
    for (const m of peer.messages.filter((x) => x.changes))
        assert.equal((m.changes.reply || []).some((c) => c.closed), (m.changes.open || []).some((c) => c.removed), 'never one without the other')
    assert.equal(peer.fold.views.reply.text, 'tokens')
    assert.equal(peer.fold.views.open.size, 0)
})
