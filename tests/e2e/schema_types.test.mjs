// What a schema may say beside plain columns, and the versions of it that are kept: PROTOCOL.md, section 4.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { App, assertProblem, insert, update } from './lib/http.mjs'
import { segue, service } from './lib/service.mjs'
import { follow } from './lib/ws.mjs'

async function fresh(t, sql) {
    const app = new App(await service(t))
    if (sql) await app.schema(sql)
    return app
}

async function refused(app, op, code, part) {
    const reply = await app.send({ ops: [op] })
    const p = assertProblem(reply, 422, code)
    assert.ok(p.detail.includes(part), `${p.detail} says ${part}`)
}

test('an enum is one of its labels, in the order of their declaration', async (t) => {
    const app = await fresh(t, "create type mood as enum ('sad', 'ok', 'happy'); create table t (m mood default 'ok')")
    for (const values of [{ m: 'happy' }, { m: 'sad' }, {}]) await app.batch([insert('t', values)])
    assert.deepEqual((await app.rows('select m from t order by m')).map((r) => r.m), ['sad', 'ok', 'happy'])
    assert.deepEqual((await app.rows("select m from t where m > 'sad' order by m desc")).map((r) => r.m), ['happy', 'ok'])
    assert.equal((await app.rows('select m from t where m = $1', ['sad'])).length, 1)
    await refused(app, insert('t', { m: 'angry' }), 'bad_value', "mood has no label 'angry'")

    // It grows at its end, and the rows that are there stay what they are.
    await app.schema("create type mood as enum ('sad', 'ok', 'happy', 'angry'); create table t (m mood default 'ok')")
    await app.batch([insert('t', { m: 'angry' })])
    assert.deepEqual((await app.rows('select m from t order by m')).map((r) => r.m), ['sad', 'ok', 'happy', 'angry'])
    const moved = await app.putSchema("create type mood as enum ('ok', 'sad', 'happy', 'angry'); create table t (m mood default 'ok')")
    assert.match(assertProblem(moved, 422, 'schema_not_additive').detail, /'sad' is gone or has moved/)
})

test('arrays, bytes and counters come back as they were written', async (t) => {
    const app = await fresh(t, "create type mood as enum ('sad', 'ok'); create table t (a text[] not null default '{x,\"y z\"}', n integer[], m mood[], b bytea, c counter, j jsonb[])")
    const id = randomUUID()
    await app.batch([insert('t', { a: ['', 'b', 'b'], n: [3, -1], m: ['ok'], b: 'AAEC/w==', c: 5, j: [{ k: [1] }, 'text'] }, id)])
    assert.deepEqual(await app.rows('select * from t'), [{ id, a: ['', 'b', 'b'], n: [3, -1], m: ['ok'], b: 'AAEC/w==', c: 5, j: [{ k: [1] }, 'text'] }])
    const other = randomUUID()
    await app.batch([insert('t', {}, other)])
    assert.deepEqual(await app.rows('select * from t where id = $1', [other]), [{ id: other, a: ['x', 'y z'], n: null, m: null, b: null, c: 0, j: null }])
    await app.batch([update('t', id, { n: [], b: '' })])
    assert.deepEqual(await app.rows('select n, b from t where id = $1', [id]), [{ id, n: [], b: '' }])
    await refused(app, insert('t', { n: [1, 'two'] }), 'wrong_type', 'n[2] is of type integer')
    await refused(app, insert('t', { n: [1, null] }), 'bad_value', 'cannot be null')
    await refused(app, insert('t', { n: 1 }), 'wrong_type', 'of type integer[]')
    await refused(app, insert('t', { m: ['glad'] }), 'bad_value', "mood has no label 'glad'")
    await refused(app, insert('t', { b: 'not base64!' }), 'bad_value', 'base64')
    assertProblem(await app.send({ ops: [insert('t', { n: Array(4097).fill(1) })] }), 413, 'too_large', { detail: 'n: more than 4096 elements' })
})

test('a schema tells all that it was told', async (t) => {
    const sql = `create type mood as enum ('sad', 'ok');

create table t (
    id uuid primary key,
    best integer options (merge 'max'),
    hits counter,
    m mood default 'ok',
    parent uuid references t on delete cascade,
    tags text[] options (merge 'set'),
    constraint positive check (best > 0)
);
create index t_best_m_idx on t (best desc, m) where m = 'ok';
create unique index t_m_key on t (m);
`
    const app = await fresh(t)
    const { hash } = await app.schema("create table t (best integer options (merge 'max') constraint positive check (best > 0), tags text[] options (merge 'set'),"
        + " parent uuid references t (id) on delete cascade, m mood unique default 'ok', hits counter); create type mood as enum ('sad', 'ok');"
        + " create index on t (best desc, m) where m = 'ok'")
    const text = await app.request('GET', '/schema', { headers: { accept: 'application/sql' } })
    assert.equal(text.text, sql)
    assert.deepEqual([(await app.schema(sql)).hash, (await app.schema(sql)).changed], [hash, false])
    const got = (await app.request('GET', '/schema')).json
    assert.deepEqual(got.enums, [{ name: 'mood', labels: ['sad', 'ok'] }])
    const [table] = got.tables
    assert.deepEqual(table.columns.find((c) => c.name === 'best'), { name: 'best', type: 'integer', merge: 'max', not_null: false })
    assert.deepEqual(table.columns.find((c) => c.name === 'hits'), { name: 'hits', type: 'counter', merge: 'counter', not_null: true })
    assert.deepEqual(table.columns.find((c) => c.name === 'parent'), { name: 'parent', type: 'uuid', not_null: false, references: 't', on_delete: 'cascade' })
    assert.deepEqual(table.columns.find((c) => c.name === 'tags').type, 'text[]')
    assert.deepEqual(table.checks, [{ name: 'positive', check: 'best > 0' }])
    assert.deepEqual(table.indexes, [
        { name: 't_best_m_idx', unique: false, columns: [{ name: 'best', desc: true }, { name: 'm', desc: false }], where: "m = 'ok'" },
        { name: 't_m_key', unique: true, columns: [{ name: 'm', desc: false }] },
    ])
})

test('all versions of a schema are kept', async (t) => {
    const app = await fresh(t)
    const first = await app.schema('create table a (x text)')
    await app.batch([insert('a', { x: 'between' })])
    const second = await app.schema('create table a (x text, y integer)')
    const third = await app.schema('create table a (x text, y integer); create index on a (y)')

    const { schemas, before } = (await app.request('GET', '/schemas')).json
    assert.deepEqual(schemas.map((v) => [v.version, v.hash, v.seq]), [[3, third.hash, 4], [2, second.hash, 3], [1, first.hash, 1]])
    assert.equal(before, undefined)
    assert.ok(Date.parse(schemas[0].time) >= Date.parse(schemas[2].time))
    const page = (await app.request('GET', '/schemas?limit=2')).json
    assert.deepEqual([page.schemas.map((v) => v.version), page.before], [[3, 2], 2])
    const rest = (await app.request('GET', `/schemas?limit=2&before=${page.before}`)).json
    assert.deepEqual([rest.schemas.map((v) => v.version), rest.before], [[1], undefined])

    const old = (await app.request('GET', `/schema?hash=${first.hash}`)).json
    assert.deepEqual([old.hash, old.tables[0].columns.map((c) => c.name)], [first.hash, ['id', 'x']])
    const text = await app.request('GET', `/schema?hash=${second.hash}`, { headers: { accept: 'application/sql' } })
    assert.equal(text.text, 'create table a (\n    id uuid primary key,\n    x text,\n    y integer\n);\n')
    assertProblem(await app.request('GET', `/schema?hash=${'0'.repeat(64)}`), 404, 'no_such_schema')
    for (const bad of ['schema?hash=abc', 'schemas?limit=0', 'schemas?limit=1001', 'schemas?before=x'])
        assertProblem(await app.request('GET', `/${bad}`), 400, 'bad_parameter')
})

test('segue schema list, and segue schema show of an old one', async (t) => {
    const s = await service(t)
    const run = async (args, input) => {
        const r = await segue(s, args, input)
        assert.equal(r.code, 0, r.stderr)
        return r.stdout
    }
    const pushed = await run(['schema', 'push', '-'], 'create table a (x text);')
    const hash = pushed.match(/schema ([0-9a-f]{64})/)[1]
    await run(['schema', 'push', '-'], 'create table a (x text, y integer);')
    assert.match(await run(['schema', 'list']), new RegExp(`^2  [0-9a-f]{64}  seq 2  \\S+Z\\n1  ${hash}  seq 1  \\S+Z\\n$`))
    assert.equal(JSON.parse((await run(['schema', 'list', '--json'])).split('\n')[1]).hash, hash)
    assert.equal(await run(['schema', 'show', hash]), 'create table a (\n    id uuid primary key,\n    x text\n);\n')
    const gone = await segue(s, ['schema', 'show', 'f'.repeat(64)])
    assert.deepEqual([gone.code, gone.stderr], [1, 'segue: no_such_schema: no published schema has this hash\n'])
})

test('schemas are published and read over a WebSocket as well', async (t) => {
    const app = await fresh(t)
    const peer = await follow(t, app)
    let tag = 0
    const say = async (message) => {
        peer.send({ ...message, id: ++tag })
        const { id, ...answer } = await peer.answer(message.type, (a) => a.id === tag)
        return answer
    }
    const fate = await say({ type: 'publish', sql: 'create table a (x text)' })
    assert.deepEqual([fate.type, fate.fate, fate.seq], ['fate', 'accepted', 1])
    const first = await say({ type: 'schema' })
    assert.deepEqual(first, { type: 'schema', ...(await app.request('GET', '/schema')).json })
    await say({ type: 'publish', sql: 'create table a (x text, y integer)' })
    assert.deepEqual(await say({ type: 'schema', hash: first.hash, as: 'sql' }),
        { type: 'schema', hash: first.hash, sql: 'create table a (\n    id uuid primary key,\n    x text\n);\n' })
    assert.deepEqual(await say({ type: 'schemas' }), { type: 'schemas', ...(await app.request('GET', '/schemas')).json })
    assert.deepEqual((await say({ type: 'schemas', before: 2 })).schemas.map((v) => v.hash), [first.hash])

    const bad = await say({ type: 'publish', sql: 'create table a (x money)' })
    assert.deepEqual([bad.type, bad.code, bad.position], ['error', 'unsupported_sql', 18])
    const taken = await say({ type: 'publish', sql: 'create table b ()' })
    assert.deepEqual([taken.type, taken.fate, taken.code], ['fate', 'rejected', 'schema_not_additive'])
    assert.equal((await say({ type: 'schema', hash: 'f'.repeat(64) })).code, 'no_such_schema')
    assert.equal((await say({ type: 'schema', as: 'xml' })).code, 'bad_parameter')
    assert.equal((await say({ type: 'schemas', before: 0 })).code, 'bad_parameter')
})
