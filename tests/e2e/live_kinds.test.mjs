// Live queries of every kind over both carriers: joined rows, selects within, groups, distinct rows. What each subscriber has folded is what a fresh query gives,
// through cuts, restarts and kill -9. PROTOCOL.md, sections 6 and 7; what lib/fold.mjs asserts with every message is half of each test.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { App, insert, remove, update } from './lib/http.mjs'
import { mulberry32 } from './lib/dice.mjs'
import { assertSameRows } from './lib/fold.mjs'
import { Child, eventually, SEGUE, service } from './lib/service.mjs'
import { subscribe } from './lib/sse.mjs'
import { follow } from './lib/ws.mjs'

const SCHEMA = `create table rooms (title text not null, open boolean not null default true);
    create table notes (room uuid not null references rooms on delete cascade, n integer, w double precision, by text);
    create index notes_room on notes (room); create index notes_by on notes (by);`

const QUERIES = {
    counts: 'select by, count(*) as n, sum(w) as w, min(n) as least, count(distinct room) as rooms from notes group by by',
    all: 'select count(*) as n, avg(w) as w, max(n) as most from notes',
    busy: 'select r.title, count(*) as n from rooms r join notes on notes.room = r.id group by r.id having count(*) > 1 order by n desc, title limit 3',
    writers: 'select distinct by from notes where n > 3 order by by desc',
    joined: 'select r.title, x.n, x.by from rooms r left join notes x on x.room = r.id and x.n > 5',
    shelves: 'select title, array(select n from notes where room = rooms.id order by n, id) as notes from rooms where exists (select 1 from notes where room = rooms.id) order by title limit 5',
    either: "select * from notes where n in (1, 2, 3) or by like 'a%'",
}

async function wall(t) {
    const s = await service(t)
    const app = new App(s)
    await app.schema(SCHEMA)
    const rooms = Array.from({ length: 6 }, () => randomUUID())
    await app.batch(rooms.map((id, i) => insert('rooms', { title: `room ${i}` }, id)))
    const chance = mulberry32(7)
    const random = (n) => Math.floor(chance() * n)
    const ids = []
    const values = () => ({ room: rooms[random(6)], n: random(12), w: random(3) === 0 ? null : (random(2000) - 1000) / 7, by: ['ann', 'bob', 'amy', null][random(4)] })
    // A few operations: what the batch was told.
    const change = () => {
        const ops = []
        for (let i = 0; i <= random(4); i++) {
            const at = random(ids.length || 1)
            if (ids.length < 10 || random(3) === 0) { ids.push(randomUUID()); ops.push(insert('notes', values(), ids.at(-1))) }
            else if (random(4) === 0) ops.push(remove('notes', ids.splice(at, 1)[0]))
            else ops.push(update('notes', ids[at], values()))
        }
        return app.batch(ops)
    }
    return { s, app, rooms, change }
}

async function expectFresh(app, fold) {
    for (const [name, sql] of Object.entries(QUERIES)) assertSameRows(fold.views[name], await app.rows(sql))
}

test('every kind of query is followed, by either carrier', async (t) => {
    const { app, rooms, change } = await wall(t)
    const sse = await subscribe(t, app, { queries: QUERIES })
    const ws = await follow(t, app, { queries: { all: QUERIES.all } })
    await ws.untilLive()
    for (const [name, sql] of Object.entries(QUERIES)) if (name !== 'all') ws.query(name, sql)
    await ws.untilLive()
    const { subscriptions } = sse.messages.find((m) => m.type === 'welcome')
    assert.deepEqual(Object.keys(subscriptions).filter((name) => subscriptions[name].keyed).sort(), ['all', 'busy', 'counts', 'joined', 'writers'])
    for (let round = 0; round < 60; round++) {
        const { seq } = await change()
        if (round % 4) continue
        await sse.untilSeq(seq)
        await ws.untilSeq(seq)
        await expectFresh(app, sse.fold)
        await expectFresh(app, ws.fold)
    }
    const { seq } = await app.batch([remove('rooms', rooms[0]), update('rooms', rooms[1], { title: 'a room' })])
    await sse.untilSeq(seq)
    await expectFresh(app, sse.fold)
    assert.deepEqual([...sse.fold.resets, ...ws.fold.resets], [])
})

for (const [how, stop] of [['cuts', undefined], ['restarts', (s) => s.stop()], ['kill -9', (s) => s.kill()]]) {
    test(`readers of every kind of query come back after ${how}, and miss nothing`, async (t) => {
        const { s, app, change } = await wall(t)
        const sub = await subscribe(t, app, { queries: QUERIES })
        await sub.untilLive()
        for (let round = 0; round < 4; round++) {
            const { seq } = await change()
            if (round % 2) await sub.untilSeq(seq)
            if (stop) { await stop(s); await sub.ended; await s.start() } else sub.cut()
            for (let i = 0; i < 5; i++) await change()
            const later = await change()
            if (stop) await sub.reopen()
            else await sub.open()
            await sub.untilSeq(later.seq)
            await expectFresh(app, sub.fold)
        }
        assert.deepEqual(sub.fold.resets, [])
    })
}

test('segue sub prints rows by their keys', async (t) => {
    const { s, app, rooms } = await wall(t)
    const sub = new Child(SEGUE, ['sub', '--query', 'q=select by, count(*) as n from notes group by by'], { env: { ...process.env, SEGUE_URL: s.url } })
    t.after(() => { if (!sub.over) sub.signal('SIGKILL') })
    await app.batch([insert('notes', { room: rooms[0], by: 'ann' })])
    await eventually('a group', () => /q [+=] [\w-]{22} {2}by=ann {2}n=1\n/.test(sub.stdout))
    const key = /q [+=] ([\w-]{22}) /.exec(sub.stdout)[1]
    await app.batch([insert('notes', { room: rooms[0], by: 'ann' })])
    await eventually('the group has changed', () => sub.stdout.includes(`q ~ ${key}  by=ann  n=2\n`))
    const rows = await app.rows('select * from notes')
    await app.batch(rows.map((row) => remove('notes', row.id)))
    await eventually('the group is gone', () => sub.stdout.includes(`q - ${key}\n`))
})
