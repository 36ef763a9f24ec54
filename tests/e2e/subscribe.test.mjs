// Subscriptions: whole commits, ranges that tile, resuming by cursor. PROTOCOL.md, section 7. What lib/fold.mjs asserts
// with every message is half of each test.
import assert from 'node:assert/strict'
import { createHash, randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { App, append, assertProblem, close, create, drop, enc, insert, Raw, remove, update } from './lib/http.mjs'
import { bodyOf, chatService, hush, message, say } from './lib/chat.mjs'
import { assertSameRows } from './lib/fold.mjs'
import { eventually, service, sleep, within } from './lib/service.mjs'
import { subscribe, Subscriber } from './lib/sse.mjs'

const ALL = { queries: { q: 'select * from messages' } }

test('one batch that inserts a row, appends to its stream and closes it is one message', async (t) => {
    const { app, chat } = await chatService(t)
    const id = randomUUID()
    const sub = await subscribe(t, app, { queries: { rows: 'select * from messages' }, streams: { reply: bodyOf(id) } })
    await sub.untilLive()
    const before = sub.messages.length
    const { seq } = await app.batch([message(chat, id, { status: 'done' }), say(id, 'Hello, '), say(id, 'world'), hush(id)])
    await sub.untilSeq(seq)
    const news = sub.messages.slice(before)
    assert.equal(news.length, 1)
    assert.deepEqual([news[0].from, news[0].to, news[0].more], [seq - 1, seq, undefined])
    assert.deepEqual(Object.keys(news[0].changes).sort(), ['reply', 'rows'])
    const row = news[0].changes.rows.map((c) => c.added).find((r) => r)
    assert.deepEqual(row.body, { stream: bodyOf(id), offset: 12, closed: true })
    assert.equal(sub.fold.views.reply.text, 'Hello, world')
    assert.equal(sub.fold.views.reply.closed, true)
})

test('the end of a reply and its row arrive together, whoever looks', async (t) => {
    const { app, chat } = await chatService(t)
    const id = randomUUID()
    await app.batch([message(chat, id)])
    const sub = await subscribe(t, app, { queries: { open: ['select * from messages where status = $1', 'streaming'] }, streams: { reply: bodyOf(id) } })
    await sub.untilLive()
    for (const word of ['to', 'ken', 's']) await app.batch([say(id, word)])
    const { seq } = await app.batch([hush(id), update('messages', id, { status: 'done', usage: { tokens: 3 } })])
    await sub.untilSeq(seq)
    for (const m of sub.messages.filter((x) => x.changes)) {
        const closed = (m.changes.reply || []).some((c) => c.closed)
        const removed = (m.changes.open || []).some((c) => c.removed)
        assert.equal(closed, removed, 'never one without the other')
    }
    assert.equal(sub.fold.views.open.size, 0)
    assert.equal(sub.fold.views.reply.text, 'tokens')
})

test('a snapshot comes in pieces, as of one seq, and what happened meanwhile follows', async (t) => {
    const app = new App(await service(t))
    await app.schema('create table big (k integer, filler text)')
    const filler = 'y'.repeat(400)
    await app.batch(Array.from({ length: 2000 }, (_, i) => insert('big', { k: i, filler })))
    await app.batch([create('log'), append('log', 'z'.repeat(300000))])
    const sub = await subscribe(t, app, { queries: { all: 'select * from big', few: 'select k from big order by k desc limit 5' }, streams: { log: 'log' } })
    const fates = await Promise.all(Array.from({ length: 30 }, (_, i) => app.batch([insert('big', { k: 5000 + i, filler }), append('log', `${i};`)])))
    await sub.untilSeq(Math.max(...fates.map((f) => f.seq)))
    const pieces = sub.messages.filter((m) => m.snapshot)
    assert.ok(pieces.filter((m) => m.snapshot.all).length > 3 && pieces.filter((m) => m.snapshot.log).length > 1, 'in pieces')
    assert.ok(pieces.every((m) => JSON.stringify(m).length < 200000), 'of a modest size')
    assertSameRows(sub.fold.views.all, await app.rows('select * from big'))
    assertSameRows(sub.fold.views.few, await app.rows('select k from big order by k desc limit 5'))
    assert.deepEqual(sub.fold.views.log.bytes, (await app.readStream('log')).bytes)
})

test('commits that touch nothing of a subscription are not told, and the ranges tile all the same', async (t) => {
    const { app, chat } = await chatService(t)
    const sub = await subscribe(t, app, ALL)
    await sub.untilLive()
    const before = sub.messages.length
    for (let i = 0; i < 10; i++) await app.batch([update('chats', chat, { title: `${i}` })])
    const { seq } = await app.batch([message(chat, randomUUID())])
    await sub.untilSeq(seq)
    assert.ok(sub.messages.length - before <= 2)
    assert.equal(sub.fold.seq, seq)
})

test('a client resumes with Last-Event-ID where it was cut off', async (t) => {
    const { app, chat } = await chatService(t)
    const id = randomUUID()
    await app.batch([message(chat, id), say(id, 'one ')])
    const sub = await subscribe(t, app, { ...ALL, streams: { s: bodyOf(id) } })
    await sub.untilLive()
    for (let round = 0; round < 5; round++) {
        sub.cut()
        const { seq } = await app.batch([say(id, `round ${round} `), message(chat, randomUUID(), { role: `r${round}` })])
        await sub.open()
        await sub.untilSeq(seq)
        assert.ok(!sub.messages.some((m) => m.snapshot), 'no snapshot for who has a cursor')
    }
    assert.deepEqual(sub.fold.resets, [])
    assertSameRows(sub.fold.views.q, await app.rows('select * from messages'))
    assert.equal(sub.fold.views.s.text, 'one round 0 round 1 round 2 round 3 round 4 ')
})

test('the cursor as a parameter does the same, and the header wins', async (t) => {
    const { app, chat } = await chatService(t)
    const sub = await subscribe(t, app, ALL)
    await sub.untilLive()
    const early = sub.fold.cursor
    const { seq } = await app.batch([message(chat, randomUUID())])
    await sub.untilSeq(seq)
    sub.cut()
    const other = new Subscriber(app, { ...ALL, cursor: early })
    t.after(() => other.cut())
    other.fold.cursor = sub.fold.cursor
    other.fold.seq = sub.fold.seq
    other.fold.views = sub.fold.views
    await other.open()
    await other.untilLive()
    assert.equal(other.messages.find((m) => m.changes).from, seq)
    const raw = new Raw(app.s)
    raw.send(`GET /apps/default/subscribe?query.q=${enc(ALL.queries.q)}&cursor=${early} HTTP/1.0\r\n\r\n`)
    await eventually('the range', () => raw.input.includes('"commit"'))
    assert.match(raw.input.toString(), new RegExp(`"from":${seq - 1},"to":${seq}`))
    raw.destroy()
})

test('a range in parts, cut in the middle of each of its parts, resumes whole', async (t) => {
    const { app, chat } = await chatService(t)
    await app.batch([create('wide')])
    const filler = 'p'.repeat(500)
    // One commit of many parts: a batch near its limit.
    const large = () => [...Array.from({ length: 1500 }, (_, i) => message(chat, randomUUID(), { role: `${filler}${i}` })), append('wide', 'w'.repeat(400000))]
    const what = { queries: { q: 'select * from messages', n: 'select role from messages order by role limit 50' }, streams: { wide: 'wide' } }
    const whole = await subscribe(t, app, what)
    await whole.untilLive()
    const { seq: before } = whole.fold
    const { seq } = await app.batch(large())
    await whole.untilSeq(seq)
    const parts = whole.messages.filter((m) => m.to === seq)
    assert.ok(parts.length >= 8, `${parts.length} parts`)
    assert.ok(parts.every((m, i) => m.from === before && (m.id === undefined) === (i < parts.length - 1)))
    // Another one, that loses its connection behind k parts.
    const late = await subscribe(t, app, what)
    await late.untilLive()
    for (const [round, k] of [1, 2, Math.floor(parts.length / 2), parts.length - 1].entries()) {
        const began = late.fold.seq
        late.cut()
        const again = await app.batch(large())
        late.cutAfter = 1 + k // the welcome, then k parts
        await late.open()
        await within(late.ended, 'the cut')
        assert.equal(late.failure, undefined)
        assert.deepEqual([late.fold.seq, late.fold.parts.length], [began, 0], 'parts of an unfinished range change nothing')
        assert.equal(late.messages.at(-1).more, true)
        late.cutAfter = Infinity
        await late.open()
        await late.untilSeq(again.seq)
        assertSameRows(late.fold.views.q, await app.rows('select * from messages'))
        assertSameRows(late.fold.views.n, await app.rows('select role from messages order by role limit 50'))
        assert.equal(late.fold.views.wide.offset, 400000 * (round + 2))
        const { seq: removed } = await app.batch((await app.rows('select id from messages')).slice(1500).map((r) => remove('messages', r.id)))
        await late.untilSeq(removed)
    }
    assert.deepEqual(late.fold.resets, [])
    assert.deepEqual(whole.failure, undefined)
})

for (const [how, stop] of [['a restart', (s) => s.stop()], ['kill -9', (s) => s.kill()]]) {
    test(`a subscription resumes over ${how} of the service`, async (t) => {
        const { s, app, chat } = await chatService(t)
        const id = randomUUID()
        await app.batch([message(chat, id)])
        const sub = await subscribe(t, app, { queries: { q: 'select * from messages', n: 'select role from messages order by role desc limit 3' }, streams: { body: bodyOf(id) } })
        await sub.untilLive()
        for (let round = 0; round < 3; round++) {
            const { seq } = await app.batch([say(id, `${round};`), message(chat, randomUUID(), { role: `${round}` })])
            if (round === 0) await sub.untilSeq(seq)
            await stop(s)
            await sub.ended
            await s.start()
            const later = await app.batch([say(id, `behind ${round};`), message(chat, randomUUID(), { role: `b${round}` })])
            await sub.reopen()
            await sub.untilSeq(later.seq)
        }
        assert.deepEqual(sub.fold.resets, [])
        assert.equal(sub.fold.views.body.text, '0;behind 0;1;behind 1;2;behind 2;')
        assertSameRows(sub.fold.views.q, await app.rows('select * from messages'))
        assertSameRows(sub.fold.views.n, await app.rows('select role from messages order by role desc limit 3'))
    })
}

test('a stopping service says so, and ends its subscriptions', async (t) => {
    const { s, app } = await chatService(t)
    const sub = await subscribe(t, app, ALL)
    await sub.untilLive()
    await s.stop()
    await sub.ended
    const last = sub.messages.at(-1)
    assert.deepEqual([last.type, last.code], ['error', 'shutting_down'])
})

test('a cursor of another journal, or of other subscriptions, is answered with a reset and a snapshot', async (t) => {
    const { app, chat } = await chatService(t)
    const { app: other } = await chatService(t)
    await app.batch([message(chat, randomUUID())])
    const sub = await subscribe(t, app, ALL)
    await sub.untilLive()
    const cursor = sub.fold.cursor
    sub.cut()
    const elsewhere = new Subscriber(other, ALL)
    t.after(() => elsewhere.cut())
    await elsewhere.open({ cursor })
    await elsewhere.untilLive()
    assert.deepEqual(elsewhere.fold.resets, ['other_journal'])
    const wider = new Subscriber(app, { queries: { q: 'select role from messages' } })
    t.after(() => wider.cut())
    await wider.open({ cursor })
    await wider.untilLive()
    assert.deepEqual(wider.fold.resets, ['other_subscriptions'])
    assert.equal(wider.fold.views.q.size, 1)
    const ahead = new Subscriber(app, ALL)
    t.after(() => ahead.cut())
    await ahead.open({ cursor: cursor.replace(/^(1\.[^.]+)\.\d+\./, '$1.999999.') })
    await ahead.untilLive()
    assert.deepEqual(ahead.fold.resets, ['seq_ahead'])
})

test('what cannot be subscribed to is refused with a code', async (t) => {
    const { app } = await chatService(t)
    const refused = [
        ['', 400, 'bad_parameter'],
        ['query.q=selekt', 400, 'bad_sql'],
        ['query.q=select+*+from+nowhere', 422, 'no_such_table'],
        ['query=select+*+from+chats&nonsense=1', 400, 'bad_parameter'],
        ['query=select+*+from+chats&p.other.1=1', 400, 'bad_parameter'],
        ['query.a=select+*+from+chats&p.a.2=1', 400, 'bad_parameter'],
        ['stream.a%20b=x', 400, 'bad_parameter'],
        ['stream.a=x&stream.a=y', 400, 'bad_parameter'],
        [`stream.${'n'.repeat(65)}=x`, 400, 'bad_parameter'],
        ['stream=%FF', 400, 'bad_parameter'],
        ['stream=x&cursor=nonsense', 400, 'bad_cursor'],
        ['stream=x%4010', 400, 'bad_offset'],
        [Array.from({ length: 1001 }, (_, i) => `stream.s${i}=x`).join('&'), 429, 'too_many'],
    ]
    for (const [query, status, code] of refused) assertProblem(await app.request('GET', `/subscribe?${query}`), status, code)
})

test('unnamed subscriptions are q1, q2, … and s1, s2, …', async (t) => {
    const { app } = await chatService(t)
    const raw = new Raw(app.s)
    raw.send(`GET /apps/default/subscribe?query=${enc('select * from chats')}&stream=a&query=${enc('select id from chats')}&stream=b HTTP/1.0\r\n\r\n`)
    const hit = await eventually('a welcome', () => /data: (\{"type":"welcome".*)\n/.exec(raw.input.toString()))
    const welcome = JSON.parse(hit[1])
    assert.deepEqual(Object.keys(welcome.subscriptions).sort(), ['q1', 'q2', 's1', 's2'])
    assert.equal(welcome.app, 'default')
    raw.destroy()
})

test('a stream that does not exist yet is followed from its creation to its end, and again', async (t) => {
    const { app } = await chatService(t)
    const sub = await subscribe(t, app, { streams: { s: 'later' } })
    await sub.untilLive()
    assert.equal(sub.fold.views.s.offset, 0)
    await app.batch([create('later', 'text/plain')])
    await app.batch([append('later', 'grüße '), { op: 'append', stream: 'later', base64: Buffer.from([0xff, 0x00, 0x80]).toString('base64') }])
    let { seq } = await app.batch([close('later')])
    await sub.untilSeq(seq)
    const view = sub.fold.views.s
    assert.deepEqual([view.type, view.closed, view.offset], ['text/plain', true, 11])
    assert.deepEqual(view.bytes, (await app.readStream('later')).bytes)
    ;({ seq } = await app.batch([drop('later')]))
    await sub.untilSeq(seq)
    assert.equal(view.exists, false)
    ;({ seq } = await app.batch([create('later', 'text/html'), append('later', '<p>')]))
    await sub.untilSeq(seq)
    assert.deepEqual([view.type, view.text], ['text/html', '<p>'])
})

test('a stream is followed from an offset', async (t) => {
    const { app } = await chatService(t)
    await app.batch([create('s'), append('s', '0123456789')])
    const sub = await subscribe(t, app, { streams: { s: 's@4' } })
    await sub.untilLive()
    const { seq } = await app.batch([append('s', 'ab')])
    await sub.untilSeq(seq)
    assert.equal(sub.fold.views.s.text, '456789ab')
})

test('characters that are cut by an append stay whole bytes', async (t) => {
    const { app } = await chatService(t)
    const bytes = Buffer.from('ein €-Zeichen und ein 🦀', 'utf8')
    await app.batch([create('s', 'text/plain')])
    const sub = await subscribe(t, app, { streams: { s: 's' } })
    await sub.untilLive()
    let seq
    for (const b of bytes) ({ seq } = await app.batch([{ op: 'append', stream: 's', base64: Buffer.from([b]).toString('base64') }]))
    await sub.untilSeq(seq)
    assert.deepEqual(sub.fold.views.s.bytes, bytes)
})

test('ordered and limited views are at every commit what a fresh query gives', async (t) => {
    const app = new App(await service(t))
    await app.schema('create table n (k integer, g text, v integer)')
    const queries = {
        top: 'select * from n order by k desc limit 5',
        low: "select k, g from n where g = 'a' order by k, v limit 4",
        all: 'select * from n order by g, k desc',
        some: ['select * from n where g = $1 and k > $2', 'b', '20'],
        first: 'select v from n limit 3',
    }
    const sub = await subscribe(t, app, { queries })
    const states = new Map()
    const apply = sub.fold.take.bind(sub.fold)
    sub.fold.take = (m, id) => { apply(m, id); if (sub.fold.cursor) states.set(sub.fold.seq, structuredClone(Object.fromEntries(Object.entries(sub.fold.views).map(([n, v]) => [n, v.rows()])))) }
    await sub.untilLive()
    let seed = 7
    const random = (n) => { seed = (seed * 1103515245 + 12345) % 2147483648; return seed % n }
    const ids = []
    let seq
    for (let round = 0; round < 80; round++) {
        const ops = []
        for (let i = 0; i <= random(4); i++) {
            const at = random(ids.length || 1)
            if (ids.length < 10 || random(3) === 0) { const id = randomUUID(); ids.push(id); ops.push(insert('n', { k: random(40), g: 'abc'[random(3)], v: random(9) }, id)) }
            else if (random(4) === 0) ops.push(remove('n', ids.splice(at, 1)[0]))
            else ops.push(update('n', ids[at], random(2) ? { k: random(40) } : { g: 'abc'[random(3)], v: random(9) }))
        }
        ({ seq } = await app.batch(ops))
    }
    await sub.until('the last commit', (f) => f.seq >= seq - 5)
    await sleep(50)
    for (const [at, views] of states)
        for (const [name, spec] of Object.entries(queries)) {
            const [sql, ...params] = [].concat(spec)
            const fresh = await app.rows(sql, params.map((p) => (/^\d+$/.test(p) ? Number(p) : p)), at)
            const sorted = sub.fold.views[name].ordered ? views[name] : [...views[name]].sort((a, b) => (a.id < b.id ? -1 : 1))
            assert.deepEqual(sorted, fresh, `${name} as of ${at}`)
        }
    assert.ok(states.size > 10)
})

test('a reader that stops costs no memory, and then catches up byte for byte', async (t) => {
    const { s, app } = await chatService(t)
    await app.batch([create('flood'), create('warm')])
    const sub = await subscribe(t, app, { queries: { q: 'select * from chats' }, streams: { flood: 'flood', warm: 'warm' } }, { keep: false })
    await sub.untilLive()
    const piece = 'All work and no play makes a dull stream. '.repeat(12500) // half a megabyte
    // What a service needs for itself once such appends go through it, with a reader that reads.
    for (let i = 0; i < 16; i++) await app.batch([append('warm', piece)])
    await sub.until('the warm up', (f) => f.views.warm.offset === 16 * piece.length)
    sub.res.pause()
    await sleep(200)
    const before = s.rss()
    const hash = createHash('sha256')
    let most = 0
    for (let i = 0; i < 110; i++) {
        await app.batch([append('flood', `${i}:${piece}`)])
        hash.update(`${i}:${piece}`)
        most = Math.max(most, s.rss())
    }
    // What is unsealed may stay in memory for a moment; a queue for this reader would be 58 MB.
    await sleep(2500)
    const grown = Math.min(most, s.rss()) - before
    t.diagnostic(`58 MB appended: resident memory grew by ${(grown / 1e6).toFixed(1)} MB (at most ${((most - before) / 1e6).toFixed(1)} MB)`)
    assert.ok(grown < 30e6, `memory grew by ${grown} bytes`)
    sub.res.resume()
    const { offset } = (await app.query('select * from chats')) && { offset: (await app.request('HEAD', app.stream('flood'))).headers['stream-next-offset'] }
    await sub.until('all of the flood', (f) => f.views.flood.offset >= Number(offset.split('_').at(-1)))
    assert.equal(sub.fold.views.flood.sha256, hash.digest('hex'))
    assert.deepEqual(sub.fold.resets, [])
})

test('two hundred readers of one stream get the same bytes', async (t) => {
    const { app } = await chatService(t)
    await app.batch([create('s')])
    const subs = await Promise.all(Array.from({ length: 200 }, () => subscribe(t, app, { streams: { s: 's' } })))
    await Promise.all(subs.map((x) => x.untilLive()))
    let seq
    for (let i = 0; i < 30; i++) ({ seq } = await app.batch([append('s', `token ${i} `)]))
    await Promise.all(subs.map((x) => x.untilSeq(seq)))
    const { bytes } = await app.readStream('s')
    for (const sub of subs) assert.deepEqual(sub.fold.views.s.bytes, bytes)
})
