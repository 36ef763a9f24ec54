// Transactions: PROTOCOL.md, section 5, "Transactions".
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import http from 'node:http'
import { test } from 'node:test'
import { App, assertProblem, insert, remove, update } from './lib/http.mjs'
import { eventually, service } from './lib/service.mjs'

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

test('what is not a transaction is malformed', async (t) => {
    const { app, ids: [a] } = await bank(t, [1])
    const bad = [{ mode: 'serial' }, { mode: 'transaction' }, { rows: [] }, { mode: 'transaction', base: 1, stamp: 7 }, { mode: 'transaction', base: 1, reads: ['AAAA'] },
        { mode: 'transaction', base: 1, rows: [[a]] }]
    for (const members of bad)
        assertProblem(await app.send({ ...members, ops: [update('accounts', a, { balance: 1 })] }), 400, 'bad_batch')
    assertProblem(await commit(app, 999, { rows: [a] }), 422, 'base_ahead', { fate: 'rejected' })
    assert.equal((await app.request('GET', '/begin')).status, 405)
})
