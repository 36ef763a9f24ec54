// Stream columns live inside results (PROTOCOL.md, section 7): a reply's tokens come with its row.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import test from 'node:test'
import { bodyOf, chatService, hush, message, say } from './lib/chat.mjs'
import { mulberry32 } from './lib/dice.mjs'
import { assertProblem, remove, update } from './lib/http.mjs'
import { eventually, segue } from './lib/service.mjs'
import { subscribe, subscriptionQuery } from './lib/sse.mjs'
import { SyncPeer } from './lib/ws.mjs'

const all = 'select * from messages'
const open = `${all} where status = 'streaming'`

test('a reply comes token by token with its row, and its end with what the row became', async (t) => {
    const { app, chat } = await chatService(t)
    const id = randomUUID()
    const sub = await subscribe(t, app, { queries: { q: all }, follow: { q: { body: 0 } } })
    await sub.untilLive()
    // Never is one seen without the other: nothing but whole commits is applied.
    const seen = []
    const take = sub.fold.take.bind(sub.fold)
    sub.fold.take = (m, cursor) => {
        take(m, cursor)
        const body = sub.fold.views.q.stream('body')
        const row = sub.fold.views.q.rows()[0]
        if (row) seen.push({ text: body.text, closed: body.closed, status: row.status, usage: row.usage })
    }
    await app.batch([message(chat, id), say(id, 'Let ')])
    for (const token of ['me ', 'think', ' …']) await app.batch([say(id, token)])
    const { seq } = await app.batch([say(id, ' done.'), hush(id), update('messages', id, { status: 'done', usage: { tokens: 5 } })])
    await sub.untilSeq(seq)
    assert.deepEqual(seen.at(-1), { text: 'Let me think … done.', closed: true, status: 'done', usage: { tokens: 5 } })
    assert.ok(seen.length >= 2 && seen[0].text.startsWith('Let '))
    for (const s of seen) {
        assert.equal(s.closed, s.status === 'done')
        assert.equal(s.text.endsWith('done.'), s.closed)
    }
    assert.deepEqual(sub.fold.welcomes[0].subscriptions.q.follow, { body: 0 })
})

test('a stream comes and goes with its row', async (t) => {
    const { app, chat } = await chatService(t)
    const [a, b] = [randomUUID(), randomUUID()]
    await app.batch([message(chat, a), say(a, 'first'), message(chat, b, { status: 'done' }), say(b, 'second')])
    const sub = await subscribe(t, app, { queries: { q: open }, follow: { q: { body: 0 } } })
    await sub.untilLive()
    assert.equal(sub.fold.views.q.stream('body', a).text, 'first')
    assert.equal(sub.fold.views.q.stream('body', b), undefined)
    await sub.untilSeq((await app.batch([update('messages', a, { status: 'done' }), say(a, ' unheard')])).seq)
    assert.equal(sub.fold.views.q.size, 0)
    await app.batch([say(a, ' unheard')])
    await sub.untilSeq((await app.batch([update('messages', b, { status: 'streaming' }), say(b, ' again')])).seq)
    assert.equal(sub.fold.views.q.stream('body', b).text, 'second again')
    await sub.untilSeq((await app.batch([remove('messages', b)])).seq)
    assert.equal(sub.fold.views.q.streams.size, 0)
})

test('where to begin is asked for: an offset, or the end', async (t) => {
    const { app, chat } = await chatService(t)
    const [a, b] = [randomUUID(), randomUUID()]
    await app.batch([message(chat, a), say(a, '0123456789')])
    const from = await subscribe(t, app, { queries: { q: all }, follow: { q: { body: 4 } } })
    const end = new SyncPeer(app, { queries: { q: all }, follow: { q: { body: 'end' } } })
    t.after(() => end.cut())
    await end.open()
    await from.untilLive()
    await end.untilLive()
    assert.equal(from.fold.views.q.stream('body', a).text, '456789')
    assert.equal(end.fold.views.q.stream('body', a).text, '')
    const { seq } = await app.batch([say(a, 'abc'), message(chat, b), say(b, 'from the start')])
    await from.untilSeq(seq)
    await end.untilSeq(seq)
    assert.equal(from.fold.views.q.stream('body', a).text, '456789abc')
    assert.equal(end.fold.views.q.stream('body', a).text, 'abc')
    assert.equal(from.fold.views.q.stream('body', b).text, ' the start')
    assert.equal(end.fold.views.q.stream('body', b).text, 'from the start')
})

test('over a WebSocket, beside other subscriptions and subscribed to later', async (t) => {
    const { app, chat } = await chatService(t)
    const id = randomUUID()
    const sync = new SyncPeer(app, { queries: { all }, follow: { all: { body: 0 } }, streams: { bare: bodyOf(id) } })
    t.after(() => sync.cut())
    await sync.open()
    await sync.untilLive()
    await app.batch([message(chat, id), say(id, 'one ')])
    sync.fold.expect('late', 'query', { follow: { body: 0 } })
    sync.send({ type: 'subscribe', name: 'late', query: 'select m.body, c.title from messages m join chats c on c.id = m.chat', follow: { body: 0 } })
    let seq
    for (const token of ['two ', 'three ', 'four']) ({ seq } = await app.batch([say(id, token)]))
    await sync.untilSeq(seq)
    for (const text of [sync.fold.views.all.stream('body', id).text, sync.fold.views.bare.text, sync.fold.views.late.stream('body').text]) assert.equal(text, 'one two three four')
})

test('it goes on at the exact byte, whoever dies', async (t) => {
    const { s, app, chat } = await chatService(t)
    const dice = mulberry32(Number(process.env.SEED || 5))
    const ids = Array.from({ length: 6 }, () => randomUUID())
    const texts = new Map()
    const sub = await subscribe(t, app, { queries: { q: open, newest: `${all} order by at desc, id limit 3` }, follow: { q: { body: 0 }, newest: { body: 0 } } })
    await sub.untilLive()
    for (const id of ids) await app.batch([message(chat, id)]), texts.set(id, '')
    let seq
    const rounds = 6
    for (let round = 0; round < rounds; round++) {
        for (let i = 0; i < 20; i++) {
            const id = ids[Math.floor(dice() * ids.length)]
            const token = `${round}.${i} `
            const ops = [say(id, token)]
            if (dice() < 0.2) ops.push(update('messages', id, { status: dice() < 0.5 ? 'streaming' : 'waiting' }))
            ;({ seq } = await app.batch(ops))
            texts.set(id, texts.get(id) + token)
            if (i === 7 && round % 2 === 0) sub.cut()
            if (i === 11 && round % 2 === 0) await sub.reopen()
        }
        if (round === rounds - 1) break
        await s.kill() // whatever was told up to here is folded
        await s.start()
        await sub.reopen()
    }
    await sub.untilSeq(seq)
    const live = (await app.rows(open)).map((row) => row.id).sort()
    assert.deepEqual([...sub.fold.views.q.streams.keys()].sort(), live)
    for (const name of ['q', 'newest'])
        for (const [id, { body }] of sub.fold.views[name].streams) assert.equal(body.text, texts.get(id))
    assert.deepEqual(sub.fold.resets, [])
})

test('what cannot be followed is refused', async (t) => {
    const { app } = await chatService(t)
    const get = (what, more = '') => app.request('GET', `/subscribe?${subscriptionQuery(what)}${more}`)
    assertProblem(await get({ queries: { q: all }, follow: { q: { nothing: 0 } } }), 422, 'no_such_column')
    assertProblem(await get({ queries: { q: all }, follow: { q: { role: 0 } } }), 400, 'bad_parameter')
    assertProblem(await get({ queries: { q: 'select chat, count(*) as n from messages group by chat' }, follow: { q: { n: 0 } } }), 400, 'unsupported_sql')
    assertProblem(await get({ queries: { q: all }, follow: { other: { body: 0 } } }), 400, 'bad_parameter')
    assertProblem(await get({ queries: { q: all }, follow: { q: { body: 0 } } }, '&follow.q=body@7'), 400, 'bad_parameter')
    for (const where of ['body@', 'body@-1', 'body@later'])
        assertProblem(await get({ queries: { q: all } }, `&follow.q=${where}`), 400, 'bad_offset')
    await app.request('PUT', '/branches/b', { body: '{}' })
    assertProblem(await get({ queries: { q: all }, follow: { q: { body: 0 } }, branches: { q: 'b' } }), 400, 'bad_parameter')
})

test('a cursor of another where is of other subscriptions', async (t) => {
    const { app, chat } = await chatService(t)
    const id = randomUUID()
    await app.batch([message(chat, id), say(id, 'some')])
    const sub = await subscribe(t, app, { queries: { q: all }, follow: { q: { body: 0 } } })
    await sub.untilLive()
    const cursor = sub.fold.cursor
    for (const follow of [{}, { q: { body: 1 } }, { q: { body: 'end' } }]) {
        const other = await subscribe(t, app, { queries: { q: all }, follow, cursor })
        await eventually('a reset', () => other.fold.resets.length > 0)
        assert.deepEqual(other.fold.resets, ['other_subscriptions'])
    }
})

test('segue sub --with prints a stream under its row', async (t) => {
    const { s, app, chat } = await chatService(t)
    const id = randomUUID()
    await app.batch([message(chat, id), say(id, 'The answer'), say(id, ' is 42.'), hush(id)])
    const { stdout, code } = await segue(s, ['sub', '--once', '--query', `m=${all}`, '--with', 'm.body'])
    assert.equal(code, 0)
    assert.match(stdout, new RegExp(`\\[3\\] m ${id}.body> The answer is 42.\n\\[3\\] m ${id}.body closed\n`))
    const refused = await segue(s, ['sub', '--once', '--query', all, '--with', 'role'])
    assert.notEqual(refused.code, 0)
    assert.match(refused.stderr, /no stream/)
})
