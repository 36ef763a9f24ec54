// Transactions: PROTOCOL.md, section 5, "Transactions".
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import http from 'node:http'
import { test } from 'node:test'
import { App, assertProblem, insert, remove, update } from './lib/http.mjs'
import { Child, eventually, SEGUE, segue, service } from './lib/service.mjs'
import { follow } from './lib/ws.mjs'

const BANK = 'create table accounts (owner text not null, balance bigint not null)'

async function bank(t, balances) {
    const s = await service(t)
    const app = new App(s)
    await app.schema(BANK)
    const ids = balances.map(() => randomUUID())
    await app.batch(balances.map((balance, i) => ({ ...insert('accounts', { owner: `o${i}`, balance }), id: ids[i] })))
    return { s, app, ids }
}

const begin = async (app) => (await app.request('POST', '/begin')).json.base
const commit = (app, base, { rows = [], reads = [], ops = [], ...name }) =>
    app.send({ ...name, mode: 'transaction', base, rows: rows.map((id) => ['accounts', id]), reads, ops })
const balances = async (app) => (await app.rows('select balance from accounts order by owner')).map((row) => row.balance)

test('a transfer is accepted where nobody touched what it read, and refused with the row where somebody did', async (t) => {
    const { app, ids: [a, b] } = await bank(t, [100, 0])
    const one = await begin(app), two = await begin(app)
    const transfer = [update('accounts', a, { balance: 90 }), update('accounts', b, { balance: 10 })]
    const first = await commit(app, one, { rows: [a, b], ops: transfer })
    assert.deepEqual([first.status, first.json.fate], [200, 'accepted'])
    const second = await commit(app, two, { rows: [a, b], ops: transfer })
    const problem = assertProblem(second, 409, 'conflict', { fate: 'rejected' })
    assert.deepEqual(problem.conflicts, [a, b].sort().map((id) => ({ table: 'accounts', id, seq: first.json.seq, read: 'row' })))
    assert.deepEqual(await balances(app), [90, 10])
    const third = await commit(app, await begin(app), { rows: [a, b], ops: [update('accounts', a, { balance: 80 }), update('accounts', b, { balance: 20 })] })
    assert.equal(third.json.fate, 'accepted')
    assert.deepEqual(await balances(app), [80, 20])
})

test('two on call may not both leave: write skew is refused', async (t) => {
    const { app, ids } = await bank(t, [1, 1])
    const base = await begin(app)
    const leave = (id) => commit(app, base, { rows: ids, ops: [update('accounts', id, { balance: 0 })] })
    const replies = await Promise.all(ids.map(leave))
    assert.deepEqual(replies.map((r) => r.status).sort(), [200, 409])
    assert.deepEqual((await balances(app)).sort(), [0, 1])
})

test('a base survives kill -9, and a transaction sent late is decided when it arrives', async (t) => {
    const { s, app, ids: [a, b] } = await bank(t, [1, 1])
    const base = await begin(app)
    await s.kill()
    await s.start()
    assert.equal((await commit(app, base, { rows: [a], ops: [update('accounts', b, { balance: 5 })] })).json.fate, 'accepted')
    await s.kill()
    await s.start()
    const late = await commit(app, base, { rows: [b], key: 'late', ops: [update('accounts', a, { balance: 5 })] })
    const { conflicts } = assertProblem(late, 409, 'conflict', { fate: 'rejected' })
    const again = await commit(app, base, { rows: [b], key: 'late', ops: [update('accounts', a, { balance: 5 })] })
    assert.deepEqual(assertProblem(again, 409, 'conflict', { again: true }).conflicts, conflicts)
})

test('blind writes never conflict, and constraints hold all the same', async (t) => {
    const { app, ids: [a] } = await bank(t, [1])
    const base = await begin(app)
    await app.batch([update('accounts', a, { balance: 2 })])
    assert.equal((await commit(app, base, { ops: [update('accounts', a, { balance: 3 })] })).json.fate, 'accepted')
    assertProblem(await commit(app, base, { ops: [{ ...insert('accounts', { owner: 'twice', balance: 1 }), id: a }] }), 409, 'row_exists', { fate: 'rejected' })
    await app.batch([remove('accounts', a)])
    assertProblem(await commit(app, base, { ops: [update('accounts', a, { balance: 4 })] }), 409, 'no_such_row', { fate: 'rejected' })
})

test('an absent row that comes to be is a conflict; one that stays absent is none', async (t) => {
    const { app } = await bank(t, [1])
    const base = await begin(app)
    const [x, y] = [randomUUID(), randomUUID()]
    await app.batch([{ ...insert('accounts', { owner: 'x', balance: 1 }), id: x }])
    assertProblem(await commit(app, base, { rows: [x] }), 409, 'conflict')
    assert.equal((await commit(app, base, { rows: [y] })).json.fate, 'accepted')
})

test('a transaction that conflicts again and again gets through', async (t) => {
    const { s, app, ids: [a, b] } = await bank(t, [1, 1])
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
    t.after(() => agent.destroy())
    const slow = new App(s, { agent })
    let stop = false, writes = 0
    const hot = (async () => { for (; !stop; writes++) await app.batch([update('accounts', a, { balance: writes })]) })()
    let tries = 0, status = 0
    for (; status !== 200 && tries < 50; tries++) {
        const base = await begin(slow)
        const before = writes
        await eventually('others write', () => writes > before + 1, 100).catch(() => {}) // not while it is reserved
        status = (await commit(slow, base, { rows: [a, b], ops: [update('accounts', b, { balance: 7 })] })).status
    }
    stop = true
    await hot
    assert.equal(status, 200)
    assert.ok(tries >= 4 && tries < 20, `${tries} tries: three conflicts, and then it is its turn, unless the machine sleeps`)
})

// ---- what queries read ---------------------------------------------------------------------------------------------

const TASKS = 'create table tasks (list text not null, n integer not null, done boolean not null default false); create index by_list on tasks (list, n);'
const task = (list, n, id = randomUUID()) => insert('tasks', { list, n }, id)

async function tasks(t) {
    const s = await service(t)
    const app = new App(s)
    await app.schema(TASKS)
    await app.batch([task('a', 1), task('a', 2), task('b', 1), task('c', 5)])
    return { s, app }
}

// A select at a base, with its token.
async function read(app, base, sql, ...params) {
    const reply = await app.ask({ sql, params, as_of: base, reads: true })
    assert.equal(reply.status, 200, reply.text)
    assert.equal(reply.json.seq, base)
    return reply.json
}

test('a query tells what it looked at, and what comes into it is a phantom', async (t) => {
    const { app } = await tasks(t)
    const base = await begin(app)
    const { rows, reads } = await read(app, base, 'select n from tasks where list = $1 order by n', 'a')
    assert.deepEqual(rows.map((r) => r.n), [1, 2])
    await app.batch([task('b', 9)])
    const fine = await commit(app, base, { reads: [reads], ops: [task('a', 3)] }) // it moves into what it read itself
    assert.equal(fine.json.fate, 'accepted')
    const late = await commit(app, base, { reads: [reads], ops: [task('a', 3)] })
    const { conflicts } = assertProblem(late, 409, 'conflict', { fate: 'rejected' })
    assert.deepEqual(conflicts.map((c) => [c.table, c.seq, c.read, c.index]), [['tasks', fine.json.seq, 'range', 'by_list']])
})

test('rows that move into, within and out of what was read, and those that do not', async (t) => {
    const { app } = await tasks(t)
    const all = await app.rows('select list, n from tasks')
    const id = (list, n) => all.find((r) => r.list === list && r.n === n).id
    const after = async (op) => {
        const base = await begin(app)
        const { reads } = await read(app, base, "select id from tasks where list = 'a'")
        await app.batch([op])
        return (await commit(app, base, { reads: [reads] })).status
    }
    assert.equal(await after(update('tasks', id('b', 1), { done: true })), 200)
    assert.equal(await after(update('tasks', id('b', 1), { list: 'c' })), 200)
    assert.equal(await after(update('tasks', id('b', 1), { list: 'a' })), 409)
    assert.equal(await after(update('tasks', id('b', 1), { n: 7 })), 409)
    assert.equal(await after(update('tasks', id('b', 1), { list: 'b' })), 409)
    assert.equal(await after(remove('tasks', id('c', 5))), 200)
    assert.equal(await after(remove('tasks', id('a', 2))), 409)
})

test('a limit ends what was read where the answer ends', async (t) => {
    const { app } = await tasks(t)
    const base = await begin(app)
    const { rows, reads } = await read(app, base, "select n from tasks where list = 'a' order by n limit 1")
    assert.deepEqual(rows.map((r) => r.n), [1])
    await app.batch([task('a', 9)])
    assert.equal((await commit(app, base, { reads: [reads] })).status, 200)
    await app.batch([task('a', 0)])
    assertProblem(await commit(app, base, { reads: [reads] }), 409, 'conflict')
})

test('operations that nobody has sent are laid over a state, and leave nothing', async (t) => {
    const { app } = await tasks(t)
    const x = randomUUID()
    const { seq } = await app.query('select id from tasks')
    const ask = async (sql, ops) => (await app.ask({ sql, as_of: seq, ops })).json
    const ops = [task('a', 7, x), update('tasks', x, { done: true }), remove('tasks', (await app.rows("select id from tasks where list = 'b'"))[0].id)]
    await app.batch([task('a', 100)])
    const over = await ask('select list, n, done from tasks order by list, n', ops)
    assert.deepEqual(over.rows.map((r) => [r.list, r.n, r.done]), [['a', 1, false], ['a', 2, false], ['a', 7, true], ['c', 5, false]])
    assert.deepEqual((await ask("select count(*) as n from tasks where list = 'a'", ops)).rows, [{ n: 3 }])
    assert.equal((await app.rows('select id from tasks')).length, 5)
    const bad = await app.ask({ sql: 'select id from tasks', ops: [task('a', 1), insert('tasks', { list: 'a', n: 1, nope: 1 })] })
    assert.equal(assertProblem(bad, 422, 'no_such_column').position, 1)
})

// ---- over a WebSocket ----------------------------------------------------------------------------------------------

async function talk(t, app) {
    const peer = await follow(t, app, {})
    let tag = 0
    return async (m, type) => {
        const id = ++tag
        peer.send({ ...m, id })
        return peer.answer(JSON.stringify(m), (a) => a.id === id && !a.more && (type === undefined || a.type === type))
    }
}

test('a conversation: begin, read, write, read what was written, commit', async (t) => {
    const { app } = await tasks(t)
    const say = await talk(t, app)
    const { tx, base, type } = await say({ type: 'begin' })
    assert.deepEqual([type, base], ['begun', 2])
    const sql = "select n from tasks where list = 'a' order by n"
    assert.deepEqual((await say({ type: 'query', tx, sql })).rows.map((r) => r.n), [1, 2])
    const written = await say({ type: 'write', tx, ops: [insert('tasks', { list: 'a', n: 3 }), insert('tasks', { list: 'z', n: 1 })] })
    assert.equal(written.ids.length, 2)
    assert.equal((await say({ type: 'write', tx, ops: [update('tasks', written.ids[0], { n: 30 })] })).type, 'written')
    assert.deepEqual((await say({ type: 'query', tx, sql })).rows.map((r) => r.n), [1, 2, 30])
    await app.batch([task('b', 77)])
    assert.deepEqual((await say({ type: 'query', tx, sql: "select n from tasks where list = 'z'" })).rows.map((r) => r.n), [1])
    assert.deepEqual((await app.rows(sql)).map((r) => r.n), [1, 2], 'nobody else sees it')
    const fate = await say({ type: 'commit', tx, ops: [insert('tasks', { list: 'a', n: 4 })] })
    assert.deepEqual([fate.type, fate.fate], ['fate', 'accepted'])
    assert.deepEqual((await app.rows(sql)).map((r) => r.n), [1, 2, 4, 30])
    assert.equal((await say({ type: 'query', tx, sql })).code, 'bad_parameter', 'it is over')
})

test('a conversation reads one state, and conflicts with what came into it', async (t) => {
    const { app } = await tasks(t)
    const say = await talk(t, app)
    const { tx } = await say({ type: 'begin' })
    const other = await say({ type: 'begin' })
    await app.batch([task('a', 3)])
    const sql = "select n from tasks where list = 'a' order by n"
    assert.deepEqual((await say({ type: 'query', tx, sql })).rows.map((r) => r.n), [1, 2], 'as of the base')
    assert.deepEqual((await say({ type: 'query', tx: other.tx, sql: "select n from tasks where list = 'b'" })).rows.map((r) => r.n), [1])
    assert.deepEqual((await say({ type: 'query', sql })).rows.map((r) => r.n), [1, 2, 3], 'of no transaction: now')
    const fate = await say({ type: 'commit', tx, ops: [task('x', 1)] })
    assert.deepEqual([fate.type, fate.fate, fate.code], ['fate', 'rejected', 'conflict'])
    assert.equal(fate.conflicts[0].table, 'tasks')
    assert.equal((await say({ type: 'commit', tx: other.tx, ops: [task('y', 1)] })).fate, 'accepted')
})

test('errors of a conversation leave it as it was, and an abort ends it', async (t) => {
    const { app } = await tasks(t)
    const say = await talk(t, app)
    const { tx } = await say({ type: 'begin' })
    await say({ type: 'write', tx, ops: [task('a', 50)] })
    const wrong = await say({ type: 'write', tx, ops: [task('a', 51), insert('tasks', { list: 'a', n: 'no number' })] })
    assert.deepEqual([wrong.type, wrong.code, wrong.position], ['error', 'wrong_type', 1])
    assert.equal((await say({ type: 'query', tx, sql: 'selekt' })).code, 'bad_sql')
    assert.equal((await say({ type: 'commit', tx, opps: [] })).code, 'bad_request')
    assert.deepEqual((await say({ type: 'query', tx, sql: 'select n from tasks where n > 40' })).rows.map((r) => r.n), [50])
    assert.deepEqual(await say({ type: 'abort', tx }).then(({ type, tx: of }) => [type, of]), ['aborted', tx])
    assert.equal((await say({ type: 'abort', tx })).code, 'bad_parameter')
    const many = []
    for (let i = 0; i < 17; i++) many.push((await say({ type: 'begin' })).type)
    assert.deepEqual(many, [...Array(16).fill('begun'), 'error'])
    assert.equal((await app.rows('select id from tasks where n > 40')).length, 0)
})

test('a large answer comes in messages, and a schema may change under a conversation', async (t) => {
    const { app } = await tasks(t)
    await app.batch(Array.from({ length: 3000 }, (_, i) => task('big', i)))
    const peer = await follow(t, app, {})
    peer.send({ type: 'begin', id: 1 })
    const { tx } = await peer.answer('begun', (a) => a.type === 'begun')
    peer.send({ type: 'write', tx, ops: [task('big', 3000)] })
    await app.schema(TASKS.replace('done boolean', "note text not null default 'none', done boolean"))
    peer.send({ type: 'query', id: 2, tx, sql: "select n, note from tasks where list = 'big' order by n" })
    await peer.answer('all rows', (a) => a.id === 2 && !a.more)
    const parts = peer.answers.filter((a) => a.type === 'rows')
    assert.ok(parts.length > 1)
    assert.deepEqual(parts.flatMap((a) => a.rows.map((r) => r.n)), Array.from({ length: 3001 }, (_, i) => i))
    peer.send({ type: 'commit', id: 3, tx })
    assert.equal((await peer.answer('fate', (a) => a.id === 3)).fate, 'accepted')
})

test('what a conversation reads of a row that it has written was read all the same', async (t) => {
    const { app, ids: [a, b] } = await bank(t, [100, 1])
    const say = await talk(t, app)
    const transfer = async (sql) => {
        const { tx } = await say({ type: 'begin' })
        await say({ type: 'write', tx, ops: [update('accounts', a, { owner: 'me' })] })
        const { rows: [{ balance }] } = await say({ type: 'query', tx, sql })
        await app.batch([update('accounts', a, { balance: balance + 7 })]) // which the conversation does not see
        return say({ type: 'commit', tx, ops: [update('accounts', a, { balance: balance - 10 })] })
    }
    for (const sql of [`select balance from accounts where id = '${a}'`, `select max(balance) as balance from accounts where id in ('${a}', '${b}')`]) {
        const fate = await transfer(sql)
        assert.deepEqual([fate.fate, fate.code, fate.conflicts?.map((c) => c.id)], ['rejected', 'conflict', [a]])
    }
    assert.deepEqual((await balances(app)).sort(), [1, 114])
})

test('what moved into a range by a conversation\'s own write was read all the same', async (t) => {
    const { app } = await tasks(t)
    const say = await talk(t, app)
    const [{ id }] = (await app.rows("select id from tasks where list = 'c'"))
    const { tx } = await say({ type: 'begin' })
    await say({ type: 'write', tx, ops: [update('tasks', id, { list: 'mine' })] })
    assert.deepEqual((await say({ type: 'query', tx, sql: "select n, done from tasks where list = 'mine'" })).rows.map((r) => r.done), [false])
    await app.batch([update('tasks', id, { done: true })])
    assert.equal((await say({ type: 'commit', tx })).code, 'conflict')
})

test('conversations of one connection keep their writes apart', async (t) => {
    const { app } = await tasks(t)
    const say = await talk(t, app)
    const txs = []
    for (let i = 0; i < 3; i++) txs.push((await say({ type: 'begin' })).tx)
    for (let round = 0; round < 2; round++)
        for (const tx of txs) await say({ type: 'write', tx, ops: [insert('tasks', { list: `of ${tx}`, n: round })] })
    for (const tx of txs) {
        const { rows } = await say({ type: 'query', tx, sql: 'select list, n from tasks where list = $1 order by n', params: [`of ${tx}`] })
        assert.deepEqual(rows.map((r) => [r.list, r.n]), [[`of ${tx}`, 0], [`of ${tx}`, 1]])
    }
    for (const tx of txs) assert.equal((await say({ type: 'commit', tx })).fate, 'accepted')
    assert.equal((await app.rows("select id from tasks where list like 'of%'")).length, 6)
})

test('values of any length are looked for, and what was looked for is noted', async (t) => {
    const { app } = await bank(t, [1])
    await app.schema(BANK + '; create table docs (a text not null, b text not null); create index by_ab on docs (a, b);')
    const say = await talk(t, app)
    const { tx, base } = await say({ type: 'begin' })
    const [a, b] = ['a'.repeat(390), 'b'.repeat(390)]
    for (const n of [1, 100, 190, 300, 390, 1000]) {
        const params = [a.slice(0, n), b.slice(0, n), 'c']
        const got = await say({ type: 'query', tx, sql: 'select b from docs where a = $1 and b in ($2, $3)', params })
        assert.deepEqual(got.rows, [], JSON.stringify(got))
        assert.equal((await app.ask({ sql: 'select b from docs where a = $1 and b > $2', params: params.slice(0, 2), as_of: base, reads: true })).status, 200)
    }
    await app.batch([insert('docs', { a: a.slice(0, 100), b: b.slice(0, 100) })])
    assert.equal((await say({ type: 'commit', tx, ops: [insert('docs', { a: 'x', b: 'y' })] })).code, 'conflict')
})

// ---- by the command line -------------------------------------------------------------------------------------------

test('segue tx reads, writes, reads its writes, and commits at the end', async (t) => {
    const { s, app } = await tasks(t)
    const x = randomUUID()
    const lines = [
        { query: 'select n from tasks where list = $1 order by n', params: ['a'] },
        task('a', 9, x),
        { query: 'select n from tasks where list = $1 and n > $2', params: ['a', 2] },
        { row: ['tasks', randomUUID()] },
    ]
    const done = await segue(s, ['tx', '--json', '-'], lines.map((l) => JSON.stringify(l)).join('\n'))
    assert.equal(done.code, 0, done.stderr)
    const out = done.stdout.trim().split('\n').map((l) => JSON.parse(l))
    assert.deepEqual(out.slice(0, 3).map((r) => r.n), [1, 2, 9])
    assert.equal(out[3].fate, 'accepted')
    assert.equal((await app.rows('select n from tasks where id = $1', [x]))[0].n, 9)
})

test('segue tx ends with 1 and names the rows where it comes too late', async (t) => {
    const { s, app } = await tasks(t)
    const child = new Child(SEGUE, ['tx', '-'], { env: { ...process.env, SEGUE_URL: s.url } })
    child.process.stdin.write(JSON.stringify({ query: "select n from tasks where list = 'a'" }) + '\n')
    await eventually('its answer', () => child.stdout.includes('2'))
    const late = task('a', 3)
    await app.batch([late])
    child.process.stdin.end(JSON.stringify(task('b', 3)) + '\n')
    const { code, stderr } = await child.end()
    assert.equal(code, 1)
    assert.match(stderr, /^segue: conflict: /)
    assert.ok(stderr.includes(late.id), stderr)
    for (const bad of ['{', '{"what":1}', '{"row":[]}', '{"query":"select 1","params":3}']) assert.equal((await segue(s, ['tx', '-'], bad)).code, 2, bad)
})

test('what is not a transaction is malformed', async (t) => {
    const { app, ids: [a] } = await bank(t, [1])
    const bad = [{ mode: 'serial' }, { mode: 'transaction' }, { rows: [] }, { mode: 'transaction', base: 1, stamp: 7 }, { mode: 'transaction', base: 1, reads: ['AAAA'] },
        { mode: 'transaction', base: 1, rows: [[a]] }]
    for (const members of bad)
        assertProblem(await app.send({ ...members, ops: [update('accounts', a, { balance: 1 })] }), 400, 'bad_batch')
    assertProblem(await commit(app, 999, { rows: [a] }), 422, 'base_ahead', { fate: 'rejected' })
    assert.equal((await app.request('GET', '/begin')).status, 405)
})
