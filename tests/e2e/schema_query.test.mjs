// Schemas, values and queries: PROTOCOL.md, sections 4 and 6.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { App, assertProblem, enc, insert, remove, update } from './lib/http.mjs'
import { chatSchema, chatService } from './lib/chat.mjs'
import { service } from './lib/service.mjs'

async function fresh(t, sql) {
    const app = new App(await service(t))
    if (sql) await app.schema(sql)
    return app
}

test('a schema is published, read back, and the same again changes nothing', async (t) => {
    const app = await fresh(t)
    assert.deepEqual((await app.request('GET', '/schema')).json.tables, [])
    const first = await app.schema(chatSchema)
    assert.deepEqual([first.fate, first.seq, first.changed], ['accepted', 1, true])
    assert.match(first.hash, /^[0-9a-f]{64}$/)
    const again = await app.schema(chatSchema)
    assert.deepEqual([again.changed, again.hash], [false, first.hash])
    const got = (await app.request('GET', '/schema')).json
    assert.equal(got.hash, first.hash)
    assert.deepEqual(got.tables.map((x) => x.name).sort(), ['chats', 'messages'])
    const column = (table, name) => got.tables.find((x) => x.name === table).columns.find((c) => c.name === name)
    assert.equal(column('messages', 'chat').type, 'uuid')
    assert.equal(column('messages', 'chat').not_null, true)
    assert.equal(column('messages', 'chat').references, 'chats')
    assert.equal(column('messages', 'body').type, 'stream')
    assert.equal(column('chats', 'id').type, 'uuid')
})

test('the canonical text of a schema is a schema with the same hash', async (t) => {
    const app = await fresh(t)
    const { hash } = await app.schema(chatSchema)
    const text = await app.request('GET', '/schema', { headers: { accept: 'application/sql' } })
    assert.match(text.headers['content-type'], /^application\/sql/)
    const other = await fresh(t)
    assert.equal((await other.schema(text.text)).hash, hash)
})

test('a schema grows by tables, and by columns that may be null or have a default', async (t) => {
    const app = await fresh(t, 'create table a (x text)')
    await app.batch([insert('a', { x: 'before' })])
    await app.schema("create table a (x text, y integer, z text not null default 'none'); create table b (n bigint);")
    const [row] = await app.rows('select x, y, z from a')
    assert.deepEqual([row.x, row.y, row.z], ['before', null, 'none'])
    await app.batch([insert('b', { n: 1 })])
})

test('a schema that takes something away is a rejection that names it', async (t) => {
    const app = await fresh(t, 'create table a (x text, y integer)')
    const taken = ['create table b (x text)', 'create table a (x text)', 'create table a (x integer, y integer)', 'create table a (x text not null, y integer)',
        'create table a (x text, y integer, z text not null)']
    for (const sql of taken) {
        const p = assertProblem(await app.putSchema(sql), 422, 'schema_not_additive', { fate: 'rejected' })
        assert.match(p.detail, /\b[abxyz]\b/, `${p.detail} names what`)
    }
    await app.batch([insert('a', { x: 'still', y: 1 })])
})

test('SQL that does not parse, or is not supported, is an error with its byte', async (t) => {
    const app = await fresh(t)
    const at = (sql, word) => ({ position: sql.indexOf(word) })
    const bad = [
        ['create tabel a (x text)', 'bad_sql', 'tabel'],
        ['create table a (x text', 'bad_sql', undefined],
        ['', 'bad_sql', undefined],
        ['create table a (x money)', 'unsupported_sql', 'money'],
        ['create table a (x text);drop table a', 'unsupported_sql', 'drop'],
        ['create table a (x text check (x = y))', 'bad_schema', 'y)'],
        ['create table a (x text, exclude (x with =))', 'unsupported_sql', 'exclude'],
        ['create index on a (x)', 'bad_schema', 'a (x)'],
        ['create view v as select 1', 'unsupported_sql', undefined],
        ['create table a (x mood)', 'unsupported_sql', 'mood'],
        ['create table a (x text unique deferrable)', 'unsupported_sql', 'deferrable'],
    ]
    for (const [sql, code, word] of bad) {
        const p = assertProblem(await app.putSchema(sql), 400, code, word ? at(sql, word) : {})
        if (sql !== '') assert.equal(typeof p.position, 'number', sql)
        assert.equal(p.fate, undefined)
    }
    const contradictions = ['create table a (x text, x text)', 'create table a (x text); create table a (y text)', 'create table a (x uuid references nowhere)', 'create table a (id text)']
    for (const sql of contradictions) assertProblem(await app.putSchema(sql), 400, 'bad_schema')
    assert.equal((await app.schema('create table a (x text)')).seq, 1)
})

const everything = `create table v (
    a text, b integer, c bigint, d double precision, e boolean, f timestamptz, g uuid, h jsonb, s stream, o blob)`

test('values come back as the types say', async (t) => {
    const app = await fresh(t, everything)
    const id = randomUUID()
    const g = randomUUID()
    const values = {
        a: 'text \u0000 with "all" of \u{1f980}\n', b: -2147483648, c: '9223372036854775807', d: 0.1, e: true, f: '2026-11-22T11:00:00.5+01:00',
        g: g.toUpperCase(), h: { z: [1, null, { y: 'x' }], a: -0.5 },
    }
    delete values.a
    values.a = 'text with "all" of \u{1f980}\n\t\\'
    await app.batch([insert('v', values, id)])
    const row = (await app.rows('select * from v'))[0]
    assert.deepEqual(row, {
        id, a: values.a, b: -2147483648, c: '9223372036854775807', d: 0.1, e: true, f: '2026-11-22T10:00:00.500Z', g,
        h: { a: -0.5, z: [1, null, { y: 'x' }] }, s: { stream: `rows/v/${id}/s`, offset: 0, closed: false }, o: null,
    })
    assert.deepEqual(Object.keys(row.h), ['a', 'z'], 'keys of jsonb are sorted')
    await app.batch([update('v', id, { c: Number.MAX_SAFE_INTEGER, f: 0, e: false, a: '', d: 1e300, h: 'just text', b: null })])
    const [next] = await app.rows('select a, b, c, d, e, f, h from v')
    assert.deepEqual(next, { id, a: '', b: null, c: Number.MAX_SAFE_INTEGER, d: 1e300, e: false, f: '1970-01-01T00:00:00.000Z', h: 'just text' })
    await app.batch([update('v', id, { c: -5, h: null })])
    assert.deepEqual(await app.rows('select c, h from v'), [{ id, c: -5, h: null }])
})

test('a value that does not fit its column is refused for what it is', async (t) => {
    const app = await fresh(t, everything)
    const misfits = [
        [{ a: 1 }, 'wrong_type'], [{ a: {} }, 'wrong_type'], [{ b: '1' }, 'wrong_type'], [{ b: 1.5 }, 'wrong_type'], [{ b: 2147483648 }, 'bad_value'],
        [{ c: '9223372036854775808' }, 'bad_value'], [{ c: 'many' }, 'bad_value'], [{ e: 1 }, 'wrong_type'], [{ f: 'noon' }, 'bad_value'],
        [{ g: 'me' }, 'bad_value'], [{ s: 'x' }, 'wrong_type'], [{ o: 'x' }, 'wrong_type'],
    ]
    for (const [values, code] of misfits) {
        const reply = await app.send({ ops: [insert('v', values)] })
        assert.equal(reply.status, 422, JSON.stringify(values))
        assert.match(reply.json.code, /^(wrong_type|bad_value)$/, JSON.stringify(values))
        assert.equal(reply.json.code, code, JSON.stringify(values))
    }
})

test('defaults: constants, the time of the batch, made ids', async (t) => {
    const app = await fresh(t, "create table d (a text default 'x', b integer default -3, c timestamptz default now(), d uuid default gen_random_uuid(), e boolean not null default true)")
    const before = Date.now()
    await app.batch([insert('d', {}), insert('d', { a: null, b: 4 })])
    const [one, two] = await app.rows('select * from d order by b')
    assert.deepEqual([one.a, one.b, one.e], ['x', -3, true])
    assert.deepEqual([two.a, two.b], [null, 4])
    assert.equal(one.c, two.c, 'now() is one time for one batch')
    assert.ok(Math.abs(Date.parse(one.c) - before) < 60000)
    assert.notEqual(one.d, two.d)
})

test('where, order by, limit and parameters', async (t) => {
    const app = await fresh(t, 'create table n (k integer, name text, odd boolean)')
    await app.batch(Array.from({ length: 50 }, (_, i) => insert('n', { k: i, name: i % 7 === 0 ? null : `n${i % 7}`, odd: i % 2 === 1 })))
    const ks = async (rest, params) => (await app.rows(`select k from n ${rest}`, params)).map((r) => r.k)
    assert.deepEqual(await ks('where k < 3 order by k'), [0, 1, 2])
    assert.deepEqual(await ks('where k >= $1 and k <= $2 order by k desc', [3, 5]), [5, 4, 3])
    assert.deepEqual(await ks('where name is null order by k'), [0, 7, 14, 21, 28, 35, 42, 49])
    assert.deepEqual(await ks("where name = 'n1' and odd = true order by k limit 2"), [1, 15])
    assert.deepEqual(await ks('where name is not null and k <> 1 order by k limit 3'), [2, 3, 4])
    assert.deepEqual(await ks('where k > 100'), [])
    assert.deepEqual(await ks('order by odd desc, k desc limit 3'), [49, 47, 45])
    assert.deepEqual(await ks('where name = $1', [null]), [], 'nothing equals null')
    assert.equal((await app.rows('select * from n')).length, 50)
    const ids = (await app.rows('select id from n where odd = $1', [false])).map((r) => r.id)
    assert.deepEqual(ids, [...ids].sort(), 'without an order, rows come by id')
    assert.deepEqual(Object.keys((await app.rows('select name from n limit 1'))[0]).sort(), ['id', 'name'])
})

test('a GET asks the same as a POST, its parameters read as what they are compared with', async (t) => {
    const app = await fresh(t, 'create table n (k integer, name text)')
    await app.batch([insert('n', { k: 1, name: '1' }), insert('n', { k: 2, name: 'zwei & zwölf' })])
    const get = async (sql, ...params) => app.request('GET', `/query?sql=${enc(sql)}${params.map((p, i) => `&p${i + 1}=${enc(p)}`).join('')}`)
    const by = async (sql, ...params) => (await get(sql, ...params)).json.rows.map((r) => r.name)
    assert.deepEqual(await by('select name from n where k = $1', '1'), ['1'])
    assert.deepEqual(await by('select name from n where name = $1', '1'), ['1'])
    assert.deepEqual(await by('select name from n where name = $1 and k > $2', 'zwei & zwölf', '1'), ['zwei & zwölf'])
    const reply = await get('select * from n order by k')
    assert.match(reply.headers['content-type'], /^application\/json/)
    assert.deepEqual(reply.json, (await app.query('select * from n order by k')))
})

test('as_of shows every earlier commit as it was', async (t) => {
    const app = await fresh(t, 'create table n (k integer, v text)')
    const ids = Array.from({ length: 6 }, () => randomUUID())
    const states = new Map([[1, new Map()]])
    const model = new Map()
    for (let i = 0; i < 60; i++) {
        const id = ids[i % 6]
        let op
        if (!model.has(id) && i < 6) { op = insert('n', { k: i, v: `v${i}` }, id); model.set(id, { id, k: i, v: `v${i}` }) }
        else if (i >= 50 && model.has(id)) { op = remove('n', id); model.delete(id) }
        else if (model.has(id)) { op = update('n', id, { v: `v${i}` }); model.set(id, { ...model.get(id), v: `v${i}` }) }
        else { const made = randomUUID(); op = insert('n', { k: i, v: 'late' }, made); model.set(made, { id: made, k: i, v: 'late' }) }
        const { seq } = await app.batch([op])
        states.set(seq, new Map(model))
    }
    for (const [seq, state] of states) {
        const answer = await app.query('select * from n', [], seq)
        assert.equal(answer.seq, seq)
        assert.deepEqual(answer.rows, [...state.values()].sort((a, b) => (a.id < b.id ? -1 : 1)), `as of ${seq}`)
        const ordered = await app.query('select k, v from n where k >= 1 order by v desc, k limit 3', [], seq)
        const want = [...state.values()].filter((r) => r.k >= 1).sort((a, b) => (a.v < b.v ? 1 : a.v > b.v ? -1 : a.k - b.k)).slice(0, 3)
        assert.deepEqual(ordered.rows.map((r) => r.id), want.map((r) => r.id), `ordered as of ${seq}`)
    }
    assertProblem(await app.ask({ sql: 'select * from n', as_of: 10000 }), 400, 'seq_ahead')
    const get = await app.request('GET', `/query?as_of=3&sql=${enc('select * from n')}`)
    assert.equal(get.json.seq, 3)
})

test('a large result is streamed, and is one state though batches go on meanwhile', async (t) => {
    const app = await fresh(t, 'create table big (k integer, filler text)')
    const filler = 'x'.repeat(1000)
    for (let from = 0; from < 6000; from += 1500) await app.batch(Array.from({ length: 1500 }, (_, i) => insert('big', { k: from + i, filler })))
    const seq = (await app.query('select id from big limit 1')).seq
    const [answer] = await Promise.all([
        app.query('select * from big order by k'),
        ...Array.from({ length: 20 }, (_, i) => app.batch([insert('big', { k: 100000 + i, filler })])),
    ])
    const expected = 6000 + (answer.seq - seq)
    assert.equal(answer.rows.length, expected)
    answer.rows.slice(0, 6000).forEach((r, i) => assert.equal(r.k, i))
})

test('a bad query says what is wrong and where', async (t) => {
    const { app } = await chatService(t)
    const bad = [
        ['selekt * from chats', 400, 'bad_sql', 0],
        ['select * from chats where', 400, 'bad_sql'],
        ['select now() from chats', 400, 'unsupported_sql', 7],
        ['select title, count(*) from chats', 400, 'bad_sql', 7],
        ['select * from chats join messages on true', 400, 'bad_sql'],
        ['select * from chats right join messages on true', 400, 'unsupported_sql'],
        ['select * from chats; select * from chats', 400, 'bad_sql'],
        ['delete from chats', 400, 'unsupported_sql'],
        ['select * from nowhere', 422, 'no_such_table'],
        ['select nothing from chats', 422, 'no_such_column'],
        ['select * from chats where nothing = 1', 422, 'no_such_column'],
    ]
    for (const [sql, status, code, position] of bad) {
        const reply = await app.ask({ sql })
        assertProblem(reply, status, code, position === undefined ? {} : { position })
    }
    assertProblem(await app.ask({}), 400, 'bad_request')
    assertProblem(await app.ask({ sql: 'select * from chats', params: 7 }), 400, 'bad_request')
    assertProblem(await app.request('POST', '/query', { body: '{"sql":' }), 400, 'bad_json')
    assertProblem(await app.request('GET', '/query'), 400, 'bad_parameter')
    assertProblem(await app.request('GET', `/query?sql=${enc('select * from chats')}&as_of=soon`), 400, 'bad_parameter')
    assert.equal((await app.ask({ sql: 'select * from chats where id = $2', params: [1] })).status >= 400, true)
    assert.equal((await app.rows('select * from chats')).length, 1)
})
