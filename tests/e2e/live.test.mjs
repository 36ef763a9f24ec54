// Live queries of any condition, target and order on one table, followed while batches come: PROTOCOL.md, sections 6 and 7.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { assertSameRows } from './lib/fold.mjs'
import { App, insert, remove, update } from './lib/http.mjs'
import { service } from './lib/service.mjs'
import { subscribe } from './lib/sse.mjs'
import { follow } from './lib/ws.mjs'

const schema = 'create table tasks (title text not null, owner text, due integer, done boolean not null default false)'
const queries = {
    mine: ["select title from tasks where owner = $1 and not done", 'ann'],
    soon: 'select title, due from tasks where due between 3 and 6 or owner is null',
    some: ["select title from tasks where owner in ('ann', 'bob') or due > 7"],
    shown: "select upper(title) || '!' as title, case when done then 'done' when due < 5 then 'late' else 'open' end as state from tasks where title like 't%'",
    page: 'select title, due from tasks order by coalesce(due, 100), title desc limit 3 offset 2',
    rest: 'select title from tasks where due % 2 = 1 order by due * -1 offset 1',
    all: 'select * from tasks',
}

test('whatever a query of one table asks, its subscriber holds what the query gives', async (t) => {
    const app = new App(await service(t))
    await app.schema(schema)
    const ids = Array.from({ length: 40 }, () => randomUUID())
    const values = (i) => ({ title: `t${i % 7}`, owner: ['ann', 'bob', 'eve', null][i % 4], due: i % 5 === 4 ? null : i % 9, done: i % 3 === 0 })
    await app.batch(ids.slice(0, 20).map((id, i) => insert('tasks', values(i), id)))
    const sub = await subscribe(t, app, { queries })
    await sub.untilLive()
    assert.deepEqual(Object.entries(sub.messages[0].subscriptions).filter(([, s]) => s.scanned).map(([name]) => name), ['rest'])
    assert.match(await app.metrics(), /^segue_live_scanned\{app="default"\} 1$/m)
    assert.match(await app.metrics(), /^segue_live_queries\{app="default"\} 7$/m)
    for (let round = 0; round < 12; round++) {
        const ops = ids.slice(0, 20).filter((_, i) => i % 4 === round % 4).map((id, i) => update('tasks', id, values(i * 5 + round)))
        ops.push(insert('tasks', values(round * 11), ids[20 + round]))
        if (round > 5) ops.push(remove('tasks', ids[20 + round - 5]))
        const { seq } = await app.batch(ops)
        await sub.untilSeq(seq)
        for (const [name, query] of Object.entries(queries)) {
            const [sql, ...params] = [query].flat()
            assertSameRows(sub.fold.views[name], await app.rows(sql, params))
        }
    }
})

test('a live query that cannot be evaluated any more ends, and the service goes on', async (t) => {
    const app = new App(await service(t))
    await app.schema(schema)
    const sub = await subscribe(t, app, { queries: { q: 'select title from tasks where 10 / due > 1' } })
    await sub.untilLive()
    await app.batch([insert('tasks', { title: 'x', due: 3 })])
    await app.batch([insert('tasks', { title: 'y', due: 0 })])
    await sub.ended
    assert.deepEqual([sub.messages.at(-1).name, sub.messages.at(-1).code], ['q', 'bad_value'])
    assert.equal((await app.rows('select title from tasks')).length, 2)
})

test('whatever it is that cannot be evaluated: over a WebSocket this query ends, and the others go on', async (t) => {
    const app = new App(await service(t))
    await app.schema(schema)
    const failing = {
        target: 'select title, 10 / due as share from tasks',
        where: 'select title from tasks where 10 / due > 1',
        ordered: 'select title, 10 / due as share from tasks order by title',
        order: 'select title from tasks order by 10 / due',
        window: 'select title, 10 / due as share from tasks order by due limit 2',
        joined: 'select a.title, 10 / b.due as share from tasks a join tasks b on b.id = a.id',
        nested: 'select title, array(select 10 / b.due from tasks b where b.id = a.id) as shares from tasks a',
        grouped: 'select owner, sum(10 / due) as n from tasks group by owner',
        having: 'select owner, count(*) as n from tasks group by owner having 10 / min(due) > 0',
        distinct: 'select distinct 10 / due as share from tasks',
    }
    const names = Object.keys(failing)
    const peer = await follow(t, app, { queries: { ...failing, all: queries.all } })
    await peer.untilLive()
    const { ids: [first] } = await app.batch([insert('tasks', { title: 'x', due: 3 })])
    const { seq } = await app.batch([insert('tasks', { title: 'y', due: 0 }), update('tasks', first, { due: 5 })])
    for (const name of names) assert.equal((await peer.answer(name, (m) => m.type === 'error' && m.name === name)).code, 'bad_value', name)
    await peer.untilSeq(seq)
    assertSameRows(peer.fold.views.all, await app.rows(queries.all))

    // Asked for again they are refused, or over at once; by server-sent events, too.
    peer.send({ type: 'subscribe', name: 'again', query: failing.target })
    assert.equal((await peer.answer('again', (m) => m.type === 'error' && m.name === 'again')).code, 'bad_value')
    for (const name of names) {
        const said = await app.request('GET', `/subscribe?query=${encodeURIComponent(failing[name])}`)
        assert.match(said.text, /"code":"bad_value"/, name)
    }
})
