// Queries over several tables: PROTOCOL.md, section 6.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { bodyOf, chatService, hush, message, say } from './lib/chat.mjs'
import { App, assertProblem, enc, insert } from './lib/http.mjs'
import { service } from './lib/service.mjs'

const schema = `
    create table rooms (title text not null, log stream);
    create table messages (room uuid not null references rooms, n integer not null, text text not null);
    create index messages_room on messages (room, n desc);`

async function rooms(t) {
    const app = new App(await service(t))
    await app.schema(schema)
    const [tea, law] = [randomUUID(), randomUUID()]
    await app.batch([insert('rooms', { title: 'tea' }, tea), insert('rooms', { title: 'law' }, law)])
    await app.batch([1, 2, 3, 4, 5].map((n) => insert('messages', { room: n % 2 ? tea : law, n, text: `message ${n}` })))
    return { app, tea, law }
}

test('one query asks for rooms and, nested, the last messages of each', async (t) => {
    const { app } = await rooms(t)
    const rows = await app.rows(`
        select r.title, array(select text, n from messages where room = r.id order by n desc limit 2) as last,
               (select count(*) from messages where room = r.id) as count
        from rooms r order by title`)
    assert.deepEqual(rows.map(({ id, ...rest }) => rest), [
        { title: 'law', last: [{ text: 'message 4', n: 4 }, { text: 'message 2', n: 2 }], count: 2 },
        { title: 'tea', last: [{ text: 'message 5', n: 5 }, { text: 'message 3', n: 3 }], count: 3 },
    ])
})

test('tables are joined, grouped and filtered, with parameters, as of any commit', async (t) => {
    const { app, law } = await rooms(t)
    const { seq } = await app.batch([insert('messages', { room: law, n: 6, text: 'later' })])
    const sql = 'select r.title, count(*) as n, max(m.n) as top from rooms r join messages m on m.room = r.id where m.n > $1 group by r.id order by n desc, title'
    assert.deepEqual(await app.rows(sql, [1]), [{ title: 'law', n: 3, top: 6 }, { title: 'tea', n: 2, top: 5 }])
    assert.deepEqual(await app.rows(sql, [1], seq - 1), [{ title: 'law', n: 2, top: 4 }, { title: 'tea', n: 2, top: 5 }])
    assert.deepEqual(await app.rows(sql, [5]), [{ title: 'law', n: 1, top: 6 }])
    const got = await app.request('GET', `/query?sql=${enc('select n from messages where room = any ($1) and text like $2 order by 1')}` +
        `&p1=${enc(`{${law}}`)}&p2=${enc('%2')}`)
    assert.deepEqual(got.json.rows.map((r) => r.n), [2], got.text)
})

test('explain tells the plan and what it looked at, and no rows', async (t) => {
    const { app, tea } = await rooms(t)
    const sql = 'select text from messages where room = $1 and n > 2 order by n desc'
    const { rows, explain } = (await app.ask({ sql, params: [tea], explain: true })).json
    assert.deepEqual(rows, [])
    const [table] = explain.plan[0].tables
    assert.deepEqual([table.by, table.index, table.equal, table.range], ['index', 'messages_room', 1, 'from'])
    assert.deepEqual([table.looked_at, explain.rows, explain.plan[0].sorted], [2, 2, false])
    const again = (await app.request('GET', `/query?explain=1&p1=${tea}&sql=${enc(sql)}`)).json
    assert.deepEqual(again.explain, explain)
})

test('what goes wrong before the first row is a problem with its place', async (t) => {
    const { app } = await rooms(t)
    const p = assertProblem(await app.ask({ sql: 'select 6 / (n - 1) as q from messages order by n' }), 422, 'bad_value', { position: 9 })
    assert.match(p.detail, /division by zero/)
    assertProblem(await app.ask({ sql: 'select id from rooms, messages' }), 400, 'bad_sql', { position: 7 })
    const cross = 'select count(*) from messages a, messages b, messages c, messages d, messages e, messages f, messages g, messages h, messages i, messages j'
    assertProblem(await app.ask({ sql: cross }), 422, 'query_too_expensive')
})

test('a long search lets others go on', async (t) => {
    const { app } = await rooms(t)
    const cross = 'select count(*) from messages a, messages b, messages c, messages d, messages e, messages f, messages g, messages h, messages i'
    let over = false
    const long = app.ask({ sql: cross }).finally(() => { over = true })
    let short = 0
    while (!over) {
        await app.rows('select n from messages limit 1')
        if (!over) short++
    }
    await long
    assert.ok(short > 3, `${short} queries in the meantime`)
})

test('the text of a stream is a value, as of any commit', async (t) => {
    const { app, chat } = await chatService(t)
    const id = randomUUID()
    await app.batch([message(chat, id)])
    const { seq } = await app.batch([say(id, 'once upon ')])
    await app.batch([say(id, 'a time'), hush(id)])
    const sql = 'select stream_text(body) as text, length(stream_text(body)) as n from messages where id = $1'
    assert.deepEqual(await app.rows(sql, [id]), [{ id, text: 'once upon a time', n: 16 }])
    assert.deepEqual(await app.rows(sql, [id], seq), [{ id, text: 'once upon ', n: 10 }])
    assert.equal((await app.rows('select body from messages'))[0].body.stream, bodyOf(id))
})

test('a query that views cannot keep current is no subscription', async (t) => {
    const { app } = await rooms(t)
    for (const sql of ['select distinct log from rooms', 'select n from messages order by n limit 1 offset 100001'])
        assertProblem(await app.request('GET', `/subscribe?query.q=${enc(sql)}`), 400, 'unsupported_sql')
})
