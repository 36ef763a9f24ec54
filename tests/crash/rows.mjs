// Merging batches and transactions over kills: what each client was told counts once and whole, and what all of them made of the rows that
// they share follows from that alone.
import assert from 'node:assert/strict'
import { insert, remove, update } from '../e2e/lib/http.mjs'
import { Client } from './workload.mjs'

export const rowsSchema = `
create table shared (n counter, hi integer options (merge 'max'), lo integer options (merge 'min'), tags text[] options (merge 'set'));
create table mine (owner text not null, n counter, note text);
create table accounts (balance bigint not null check (balance >= 0));
create table moves (nonce text not null unique, source uuid not null references accounts, target uuid not null references accounts, amount bigint not null);
create index moves_of on moves (source, amount);`

const id = (n) => `01890a5d-ac96-774b-bcce-${String(n).padStart(12, '0')}`
const SHARED = id(1)
const ACCOUNTS = Array.from({ length: 5 }, (_, i) => id(100 + i))
const BALANCE = 1000

export const rowsBegin = (app) => app.batch([insert('shared', {}, SHARED), ...ACCOUNTS.map((a) => insert('accounts', { balance: BALANCE }, a))])

// A client whose one batch at a time is sent until it has a fate, and once more now and then, long after.
class Sender extends Client {
    constructor(world, name) {
        super(world, name)
        this.replica = this.random.uuid()
        this.counter = 0
        this.accepted = []
        this.rejected = 0
    }

    begin(batch, more) {
        const name = { replica: this.replica, counter: ++this.counter }
        this.batch = { ...more, body: JSON.stringify({ ...name, ...batch }) }
    }

    async send() {
        const { batch } = this
        const reply = await this.ask('POST', '/batch', batch.body)
        if (reply.lost) return false
        if (reply.status === 503) return true
        const fate = JSON.parse(reply.text)
        this.judge(batch, fate, reply.text)
        if (fate.fate === 'accepted') this.accepted.push({ ...batch, seq: fate.seq })
        else this.rejected++
        this.last = { body: batch.body, fate: [fate.fate, fate.seq, fate.code] }
        this.batch = undefined
        return true
    }

    // What became of the batch that the kill met; and its fate stands.
    async findOut() {
        while (this.batch) assert.ok(await this.send(), 'the service is there')
        if (!this.last) return
        const reply = await this.ask('POST', '/batch', this.last.body)
        const fate = JSON.parse(reply.text)
        assert.deepEqual([fate.again, fate.fate, fate.seq, fate.code], [true, ...this.last.fate], `again: ${reply.text}`)
    }
}

// Adds to a counter, to a maximum and a set that all share; makes, changes, deletes and brings back rows of its own.
export class Merger extends Sender {
    constructor(world, name) {
        super(world, name)
        this.rows = new Map() // id -> {n, there, was}
        this.tags = new Set()
    }

    make() {
        const n = this.random.below(20) - 5
        const hi = this.random.below(1e6)
        const add = `${this.name}${this.random.below(6)}`
        const gone = [...this.tags].find((t) => t !== add && this.random.chance(40))
        const ops = [update('shared', SHARED, { n: { increment: n }, hi, lo: hi, tags: { add: [add], ...(gone && { remove: [gone] }) } })]
        const rows = Array.from({ length: this.random.below(3) }, () => this.step1(ops)).filter(Boolean)
        const spoiled = this.random.chance(8)
        if (spoiled) ops.push(insert('mine', { note: 'whose is it?' }))
        this.begin({ ops }, { n, hi, add, gone, rows, spoiled })
    }

    // One operation on a row of its own that this batch has not touched yet, and what it makes of it.
    step1(ops) {
        const known = [...this.rows.keys()]
        const row = known.length > 8 || this.random.chance(60) ? known[this.random.below(known.length || 1)] : this.random.uuid()
        if (!row || ops.some((op) => op.id === row)) return undefined
        const is = this.rows.get(row)
        const n = 1 + this.random.below(9)
        if (is && !is.there) {
            ops.push({ op: 'restore', table: 'mine', id: row })
            return [row, { ...is, there: true }]
        }
        if (is && this.random.chance(30)) {
            ops.push(remove('mine', row))
            return [row, { ...is, there: false }]
        }
        ops.push({ op: 'upsert', table: 'mine', id: row, values: { owner: this.name, n: { increment: n }, note: `${this.counter}` } })
        return [row, { there: true, n: (is?.n || 0) + n, note: `${this.counter}` }]
    }

    async step() {
        if (!this.batch) this.make()
        return this.send()
    }

    judge(batch, fate, text) {
        assert.equal(fate.fate, batch.spoiled ? 'rejected' : 'accepted', text)
        if (batch.spoiled) return
        for (const [row, becomes] of batch.rows) this.rows.set(row, becomes)
        this.tags.add(batch.add)
        if (batch.gone) this.tags.delete(batch.gone)
    }

    async verifyRows(app) {
        const rows = await app.rows('select n, note from mine where owner = $1', [this.name])
        const expected = [...this.rows].filter(([, is]) => is.there).map(([row, is]) => [row, is.n, is.note])
        assert.deepEqual(rows.map((r) => [r.id, r.n, r.note]).sort(), expected.sort(), `rows of ${this.name}`)
    }
}

// Moves money in transactions: reads two accounts, by their ids or by a query whose reads the service notes, and writes both and the move.
export class Mover extends Sender {
    async make() {
        const source = ACCOUNTS[this.random.below(ACCOUNTS.length)]
        const target = ACCOUNTS[(ACCOUNTS.indexOf(source) + 1 + this.random.below(ACCOUNTS.length - 1)) % ACCOUNTS.length]
        const one = async (account, as_of) => {
            const reply = await this.ask('POST', '/query', JSON.stringify({ sql: 'select balance from accounts where id = $1', params: [account], as_of, reads: true }))
            return reply.lost || reply.status !== 200 ? undefined : JSON.parse(reply.text)
        }
        const from = await one(source)
        const to = from && await one(target, from.seq)
        if (!to) return false
        const base = from.seq
        const amount = 1 + this.random.below(Math.max(1, Math.min(50, from.rows[0].balance)))
        if (amount > from.rows[0].balance) return true
        const byName = this.random.chance(50)
        const nonce = `${this.name}.${this.counter + 1}`
        this.begin({
            mode: 'transaction', base, ...(byName ? { rows: [['accounts', source], ['accounts', target]] } : { reads: [from.reads, to.reads] }),
            ops: [update('accounts', source, { balance: from.rows[0].balance - amount }), update('accounts', target, { balance: to.rows[0].balance + amount }),
                insert('moves', { nonce, source, target, amount })],
        }, { nonce, source, target, amount })
        return true
    }

    async step() {
        if (!this.batch && !(await this.make())) return false
        return this.batch ? this.send() : true
    }

    judge(batch, fate, text) {
        if (fate.fate !== 'accepted') assert.equal(fate.code, 'conflict', text)
    }
}

// All of them together, when each knows its fates.
export async function verifyShared(app, mergers, movers) {
    const merged = mergers.flatMap((m) => m.accepted)
    const [shared] = await app.rows('select n, hi, lo, tags from shared')
    assert.equal(shared.n || 0, merged.reduce((sum, b) => sum + b.n, 0), 'each increment counts once')
    if (merged.length > 0) {
        assert.equal(shared.hi, merged.reduce((max, b) => Math.max(max, b.hi), -Infinity))
        assert.equal(shared.lo, merged.reduce((min, b) => Math.min(min, b.hi), Infinity))
    }
    assert.deepEqual(shared.tags || [], mergers.flatMap((m) => [...m.tags]).sort())
    for (const m of mergers) await m.verifyRows(app)
    const moved = movers.flatMap((m) => m.accepted)
    const moves = await app.rows('select nonce, source, target, amount from moves')
    assert.deepEqual(moves.map((m) => m.nonce).sort(), moved.map((m) => m.nonce).sort(), 'each transaction that was accepted is there, once')
    for (const { id: account, balance } of await app.rows('select balance from accounts')) {
        const expected = moved.reduce((sum, m) => sum + (m.target === account) * m.amount - (m.source === account) * m.amount, BALANCE)
        assert.equal(balance, expected, 'a balance is what its moves make of it')
    }
    assert.equal(new Set([...merged, ...moved].map((b) => b.seq)).size, merged.length + moved.length, 'each has a seq of its own')
}
