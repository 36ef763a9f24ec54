// Subscribing to branches: PROTOCOL.md, section 7, "Branches". What lib/fold.mjs asserts with every message is half of each test.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { App, insert, remove, update } from './lib/http.mjs'
import { assertSameRows } from './lib/fold.mjs'
import { Child, eventually, SEGUE, segue, service } from './lib/service.mjs'
import { subscribe } from './lib/sse.mjs'
import { follow } from './lib/ws.mjs'

const Q = 'select text, n from notes order by n'

async function notes(t) {
    const s = await service(t)
    const app = new App(s)
    await app.schema('create table notes (text text not null, n integer)')
    const ids = [randomUUID(), randomUUID(), randomUUID()]
    await app.batch(ids.map((id, i) => insert('notes', { text: 'abc'[i], n: i }, id)))
    return { s, app, ids }
}

const json = (body) => ({ body: JSON.stringify(body), headers: { 'content-type': 'application/json' } })
const done = (reply) => { assert.ok(reply.status < 300, reply.text); return reply.json }
const make = async (app, name, live = false) => done(await app.request('PUT', `/branches/${name}`, json({ live })))
const write = async (app, branch, ops) => done(await app.send({ branch, ops }))
const merge = async (app, name) => done(await app.request('POST', `/branches/${name}/merge`, json({})))
const drop = async (app, name) => done(await app.request('DELETE', `/branches/${name}`))
const on = async (app, branch, sql = Q) => done(await app.ask({ sql, branch })).rows
const texts = (view) => view.rows().map((r) => r.text).join('')

test('what is written to a branch, and to main under a live one, is told in the commits that did it', async (t) => {
    const { app, ids: [a, b, c] } = await notes(t)
    await make(app, 'frozen')
    await make(app, 'live', true)
    const what = { queries: { frozen: Q, live: Q, main: Q }, branches: { frozen: 'frozen', live: 'live' } }
    const sub = await subscribe(t, app, what)
    await sub.untilLive()
    assert.deepEqual(sub.messages[0].subscriptions.live, { kind: 'query', branch: 'live' })
    assert.deepEqual(['frozen', 'live', 'main'].map((v) => texts(sub.fold.views[v])), ['abc', 'abc', 'abc'])

    // On a branch: it alone.
    const first = await write(app, 'live', [update('notes', a, { text: 'A', n: 9 }), remove('notes', b)])
    await sub.untilSeq(first.seq)
    const { from, to, changes } = sub.messages.at(-1)
    assert.deepEqual([from, to], [first.seq - 1, first.seq])
    assert.deepEqual(changes, { live: [{ removed: b, was: 1 }, { changed: { id: a, text: 'A', n: 9 }, was: 0, at: 1 }] })

    // On main: main, and what follows it, in one message. The branch's own values show.
    const second = await app.batch([update('notes', a, { text: 'x' }), insert('notes', { text: 'd', n: 3 }), update('notes', c, { text: 'C' })])
    await sub.untilSeq(second.seq)
    assert.deepEqual(Object.keys(sub.messages.at(-1).changes).sort(), ['live', 'main'])
    assert.deepEqual(['frozen', 'live', 'main'].map((v) => texts(sub.fold.views[v])), ['abc', 'CdA', 'xbCd'])

    const third = await write(app, 'frozen', [insert('notes', { text: 'z', n: -1 })])
    await sub.untilSeq(third.seq)
    assert.deepEqual(Object.keys(sub.messages.at(-1).changes), ['frozen'])
    for (const name of ['frozen', 'live']) assertSameRows(sub.fold.views[name], await on(app, name))
})

test('joins, groups and selects within, on a branch and over main under it', async (t) => {
    const { s, app, ids: [a, b] } = await notes(t)
    await app.schema('create table notes (text text not null, n integer); create table stars (note uuid not null references notes on delete cascade, by text not null);')
    await app.batch([insert('stars', { note: a, by: 'ann' }), insert('stars', { note: b, by: 'bob' })])
    await make(app, 'draft', true)
    const queries = {
        joined: 'select n.text, s.by from notes n join stars s on s.note = n.id',
        ordered: 'select n.text, s.by from notes n left join stars s on s.note = n.id order by n.text desc, s.by limit 3',
        grouped: 'select s.by, count(*) as notes, max(n.n) as most from notes n join stars s on s.note = n.id group by s.by',
        nested: 'select text, (select count(*) from stars s where s.note = notes.id) as stars from notes where n < 3',
        some: 'select distinct by from stars',
    }
    const branches = Object.fromEntries(Object.keys(queries).map((name) => [name, 'draft']))
    const sub = await subscribe(t, app, { queries, branches })
    await sub.untilLive()
    const same = async () => { for (const [name, sql] of Object.entries(queries)) assertSameRows(sub.fold.views[name], await on(app, 'draft', sql)) }
    const steps = [
        () => write(app, 'draft', [insert('stars', { note: a, by: 'bob' }), update('notes', a, { text: 'z' })]),
        () => app.batch([insert('stars', { note: b, by: 'ann' })]),
        () => app.batch([update('notes', b, { n: 9 })]),
        () => write(app, 'draft', [remove('notes', b)]),
        () => app.batch([update('notes', a, { n: 8 }), insert('notes', { text: 'alone' })]),
    ]
    for (const step of steps) {
        const { seq } = await step()
        await sub.untilSeq(seq)
        await same()
    }
    sub.cut()
    await write(app, 'draft', [insert('stars', { note: a, by: 'cem' })])
    await s.kill()
    await s.start()
    const { seq } = await app.batch([update('notes', a, { n: 1 })])
    await sub.open()
    await sub.untilSeq(seq)
    assert.deepEqual(sub.fold.resets, [])
    await same()
})

test('a cursor resumes on a branch, also after kill -9', async (t) => {
    const { s, app, ids: [a, b] } = await notes(t)
    await make(app, 'draft', true)
    await write(app, 'draft', [update('notes', a, { text: 'A' })])
    const sub = await subscribe(t, app, { queries: { q: Q }, branches: { q: 'draft' } })
    await sub.untilLive()
    sub.cut()
    await app.batch([remove('notes', b)])
    const { seq } = await write(app, 'draft', [insert('notes', { text: 'new', n: 1 })])
    await s.kill()
    await s.start()
    await sub.open()
    await sub.untilSeq(seq)
    assert.equal(sub.messages.filter((m) => m.snapshot || m.type === 'reset').length, 0, 'nothing is told again')
    assert.equal(texts(sub.fold.views.q), 'Anewc')
    assertSameRows(sub.fold.views.q, await on(app, 'draft'))

    // Another branch of the same name is another subscription.
    sub.cut()
    await drop(app, 'draft')
    await make(app, 'draft')
    await sub.open()
    await sub.untilLive()
    assert.deepEqual(sub.fold.resets, ['other_subscriptions'])
    assert.equal(texts(sub.fold.views.q), 'ac')
})

test('a branch that is merged or dropped ends its subscription with an error', async (t) => {
    const { app } = await notes(t)
    for (const end of [merge, drop]) {
        await make(app, 'draft')
        const sub = await subscribe(t, app, { queries: { q: Q }, branches: { q: 'draft' } })
        await sub.untilLive()
        await end(app, 'draft')
        await sub.ended
        const { type, code } = sub.messages.at(-1)
        assert.deepEqual([type, code], ['error', 'no_such_branch'])
        await assert.rejects(sub.open(), (e) => e.status === 404 && /no_such_branch/.test(e.message))
    }
})

test('over a WebSocket the others go on', async (t) => {
    const { app, ids: [a] } = await notes(t)
    await make(app, 'draft', true)
    await make(app, 'other', true)
    const peer = await follow(t, app, { queries: { other: Q, draft: Q, main: Q }, branches: { draft: 'draft', other: 'other' } })
    await peer.untilLive()
    const wrote = await write(app, 'draft', [update('notes', a, { text: 'A' })])
    await peer.untilSeq(wrote.seq)
    assert.deepEqual(['draft', 'main'].map((v) => texts(peer.fold.views[v])), ['Abc', 'abc'])
    const added = await app.batch([insert('notes', { text: 'd', n: 5 })])
    await peer.untilSeq(added.seq)
    assert.deepEqual(['draft', 'main'].map((v) => texts(peer.fold.views[v])), ['Abcd', 'abcd'])

    const merged = await merge(app, 'draft')
    await peer.untilSeq(merged.seq)
    const told = peer.messages.filter((m) => m.type === 'error' || m.ended)
    assert.deepEqual(told.map((m) => [m.type, m.name ?? m.ended, m.code]), [['error', 'draft', 'no_such_branch'], ['commit', ['draft'], undefined]])
    for (const name of ['main', 'other']) assert.equal(texts(peer.fold.views[name]), 'Abcd', 'the range that ends it has what it was')
    assert.equal(peer.fold.views.draft, undefined)

    // Later, beside the ranges; and what cannot be.
    await make(app, 'next')
    peer.fold.expect('next', 'query', { ordered: true })
    peer.send({ type: 'subscribe', name: 'next', query: Q, branch: 'next' })
    await peer.untilLive()
    const last = await write(app, 'next', [remove('notes', a)])
    await peer.untilSeq(last.seq)
    assert.equal(texts(peer.fold.views.next), 'bcd')
    for (const [name, spec, code] of [['gone', { query: Q, branch: 'draft' }, 'no_such_branch'], ['odd', { stream: 's', branch: 'next' }, 'bad_parameter'], ['num', { query: Q, branch: 1 }, 'bad_parameter'],
        ['text', { query: 'select stream_text(body) from notes', branch: 'next' }, 'no_such_column']]) {
        peer.send({ type: 'subscribe', name, ...spec })
        assert.equal((await peer.answer(name, (m) => m.type === 'error' && m.name === name)).code, code)
    }
})

test('a live preview is the query with these operations laid over, whatever others commit', async (t) => {
    const { app, ids: [a, b, c] } = await notes(t)
    const mine = randomUUID()
    const ops = [update('notes', a, { text: 'mine' }), insert('notes', { text: 'new', n: 1 }, mine), remove('notes', c)]
    const queries = { list: Q, top: 'select text from notes order by n desc limit 2', count: 'select n, count(*) as rows from notes group by n' }
    const peer = await follow(t, app, { queries: { main: 'select * from notes' } }) // is told of everything
    await peer.untilLive()
    for (const [name, query] of Object.entries(queries)) {
        peer.fold.expect(name, 'query', { ordered: /order by/.test(query) })
        peer.send({ type: 'subscribe', name, query, preview: { ops, now: 1767225600000 } })
    }
    const same = async (seq) => {
        await peer.untilSeq(seq)
        for (const [name, sql] of Object.entries(queries)) assertSameRows(peer.fold.views[name], done(await app.ask({ sql, ops })).rows)
    }
    await peer.untilLive()
    const steps = [[update('notes', a, { n: 8 })], [insert('notes', { text: 'other', n: 9 })], [update('notes', c, { text: 'gone anyway' })], [remove('notes', b)]]
    for (const step of steps) await same((await app.batch(step)).seq)
    assert.equal(peer.fold.views.list.rows().find((row) => row.id === mine).text, 'new')

    // Once it does not fit any more it is over, and the connection goes on.
    const { seq } = await app.batch([insert('notes', { text: 'taken', n: 0 }, mine)])
    await peer.untilSeq(seq)
    assert.deepEqual(peer.messages.filter((m) => m.type === 'error').map((m) => [m.name, m.code]).sort(), Object.keys(queries).sort().map((name) => [name, 'row_exists']))

    let odd = 0
    for (const [preview, code] of [[{ ops: [] }, 'bad_parameter'], [{ ops: [insert('notes', { text: 'x' })] }, 'bad_parameter'], [{ ops: [{ op: 'close', stream: 's' }] }, 'bad_parameter'],
        [{ ops, base: -1 }, 'bad_parameter'], [{ ops, more: 1 }, 'bad_parameter'], [[], 'bad_parameter'], [{ ops: [update('notes', b, { text: 'x' })] }, 'no_such_row']]) {
        const name = `odd${odd++}`
        peer.send({ type: 'subscribe', name, query: Q, preview })
        assert.equal((await peer.answer(name, (m) => m.type === 'error' && m.name === name)).code, code, JSON.stringify(preview))
    }
})

test('segue sub --branch prints what is written to a branch, until that is gone', async (t) => {
    const { s, app } = await notes(t)
    await make(app, 'draft')
    await write(app, 'draft', [insert('notes', { text: 'drafted', n: 7 })])
    const once = await segue(s, ['sub', '--once', '--branch', 'draft', '--query', Q])
    assert.equal(once.code, 0, once.stderr)
    assert.match(once.stdout, /drafted/)
    const run = new Child(SEGUE, ['sub', '--branch', 'draft', '--query', Q], { env: { ...process.env, SEGUE_URL: s.url } })
    t.after(() => { if (!run.over) run.signal('SIGKILL') })
    await eventually('the rows of the branch', () => /drafted/.test(run.stdout))
    await app.batch([insert('notes', { text: 'elsewhere', n: 8 })])
    await write(app, 'draft', [insert('notes', { text: 'more', n: 9 })])
    await eventually('what was written since', () => /more/.test(run.stdout))
    await drop(app, 'draft')
    const { code, stdout, stderr } = await run.end()
    assert.equal(code, 1)
    assert.match(stderr, /^segue: no_such_branch: /m)
    assert.doesNotMatch(stdout, /elsewhere/)
    assert.equal((await segue(s, ['sub', '--branch', 'x', '--stream', 'y'])).code, 2)
})

test('a branch is named for a query that is there', async (t) => {
    const { app } = await notes(t)
    await make(app, 'draft')
    const ask = async (q) => { const r = await app.request('GET', `/subscribe?${q}`); return [r.status, r.json.code] }
    const q = `query.a=${encodeURIComponent(Q)}`
    assert.deepEqual(await ask(`${q}&branch.b=draft`), [400, 'bad_parameter'])
    assert.deepEqual(await ask(`${q}&branch.a=`), [400, 'bad_parameter'])
    assert.deepEqual(await ask(`${q}&branch.a=none`), [404, 'no_such_branch'])
    assert.deepEqual(await ask(`${q}&branch=none`), [404, 'no_such_branch'])
})
