// Branches: PROTOCOL.md, section 6, "Branches".
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { App, assertProblem, insert, remove, update } from './lib/http.mjs'
import { segue, service } from './lib/service.mjs'
import { follow } from './lib/ws.mjs'

const SQL = 'create table notes (text text not null, n integer, unique (n))'

async function notes(t) {
    const s = await service(t)
    const app = new App(s)
    await app.schema(SQL)
    const ids = [randomUUID(), randomUUID(), randomUUID()]
    await app.batch(ids.map((id, i) => insert('notes', { text: 'abc'[i], n: i }, id)))
    return { s, app, ids }
}

const json = (body) => ({ body: JSON.stringify(body), headers: { 'content-type': 'application/json' } })
const make = (app, name, body = {}) => app.request('PUT', `/branches/${name}`, json(body))
const write = (app, branch, ops) => app.send({ branch, ops })
const merge = (app, name, mode = 'merge') => app.request('POST', `/branches/${name}/merge`, json({ mode }))
const texts = (reply) => { assert.equal(reply.status, 200, reply.text); return reply.json.rows.map((r) => r.text).sort().join('') }
const on = async (app, branch) => texts(await app.ask({ sql: 'select text from notes', branch }))
const main = async (app) => texts(await app.ask({ sql: 'select text from notes' }))

test('a branch is written to, looked at, compared and merged, and main knows nothing of it before', async (t) => {
    const { app, ids: [a, b, c] } = await notes(t)
    const made = await make(app, 'draft')
    assert.deepEqual([made.status, made.json], [201, { fate: 'accepted', seq: 3 }])
    const first = await write(app, 'draft', [insert('notes', { text: 'd' }), update('notes', a, { text: 'A' })])
    assert.equal(first.status, 200, first.text)
    const [d] = first.json.ids
    assert.equal((await write(app, 'draft', [update('notes', d, { text: 'D' }), remove('notes', c)])).status, 200)
    assert.equal(await on(app, 'draft'), 'ADb')
    assert.equal(await main(app), 'abc')
    const info = (await app.request('GET', '/branches/draft')).json
    assert.deepEqual([info.branch, info.base, info.live, info.batches, info.ops], ['draft', 2, false, 2, 4])
    const diff = (await app.request('GET', '/branches/draft/diff')).json
    assert.deepEqual(diff.changes.map((x) => [x.id, x.was && x.was.text, x.is && x.is.text]).sort(),
        [[a, 'a', 'A'], [c, 'c', null], [d, null, 'D']].sort())
    const merged = await merge(app, 'draft')
    assert.deepEqual([merged.status, merged.json.fate], [200, 'accepted'])
    assert.equal(await main(app), 'ADb')
    assertProblem(await app.request('GET', '/branches/draft'), 404, 'no_such_branch')
    assert.ok(b)
})

test('a frozen branch keeps its base, a live one follows main', async (t) => {
    const { app, ids: [a, b] } = await notes(t)
    await make(app, 'frozen')
    await make(app, 'live', { live: true })
    await make(app, 'early', { at: 1 })
    for (const name of ['frozen', 'live']) await write(app, name, [update('notes', a, { text: 'A' })])
    await app.batch([insert('notes', { text: 'z' }), update('notes', a, { n: 50 }), remove('notes', b)])
    assert.equal(await on(app, 'frozen'), 'Abc')
    assert.equal(await on(app, 'live'), 'Acz')
    assert.equal(await on(app, 'early'), '')
    const row = (await app.ask({ sql: 'select text, n from notes where id = $1', params: [a], branch: 'live' })).json.rows[0]
    assert.deepEqual([row.text, row.n], ['A', 50])
    assert.deepEqual((await app.request('GET', '/branches')).json.branches.map((x) => x.branch), ['early', 'frozen', 'live'])
    assert.equal((await app.request('GET', '/query?sql=select%20text%20from%20notes&branch=frozen')).json.rows.length, 3)
})

test('merging as a batch merges, merging as a transaction asks whether its rows are as they were', async (t) => {
    const { app, ids: [a, b] } = await notes(t)
    for (const name of ['one', 'two', 'three']) {
        await make(app, name)
        await write(app, name, [update('notes', a, { text: name })])
    }
    await app.batch([update('notes', b, { text: 'elsewhere' })])
    assert.equal((await merge(app, 'one', 'transaction')).json.fate, 'accepted')
    const { conflicts } = assertProblem(await merge(app, 'two', 'transaction'), 409, 'conflict', { fate: 'rejected' })
    assert.deepEqual(conflicts.map((x) => x.id), [a])
    assert.equal((await app.request('GET', '/branches/two')).status, 200, 'it is still there')
    assert.equal((await merge(app, 'two')).json.fate, 'accepted')
    assert.equal((await app.rows('select text from notes where id = $1', [a]))[0].text, 'two')
    // A delete wins over what a branch wrote without having seen it.
    await app.batch([remove('notes', a)])
    assert.equal((await merge(app, 'three')).json.fate, 'accepted')
    assert.equal((await app.rows('select text from notes where id = $1', [a])).length, 0)
})

test('a branch breaks no constraint when it is merged, and is checked row by row before', async (t) => {
    const { app, ids: [a] } = await notes(t)
    await make(app, 'x')
    assertProblem(await write(app, 'x', [update('notes', a, { text: null })]), 422, 'not_null', { fate: 'rejected', position: 0 })
    assertProblem(await write(app, 'x', [insert('notes', { text: 'fine' }), update('notes', randomUUID(), { text: 'no' })]), 409, 'no_such_row', { position: 1 })
    assertProblem(await write(app, 'x', [{ op: 'create', stream: 's' }]), 422, 'bad_value', { fate: 'rejected' })
    assertProblem(await write(app, 'nowhere', [insert('notes', { text: 'x' })]), 404, 'no_such_branch', { fate: 'rejected' })
    assert.equal((await write(app, 'x', [insert('notes', { text: 'twice', n: 1 })])).status, 200)
    assertProblem(await merge(app, 'x'), 409, 'not_unique', { fate: 'rejected' })
    assert.equal((await write(app, 'x', [insert('notes', { text: 'more' })])).status, 200, 'it goes on')
    assert.equal((await app.request('DELETE', '/branches/x')).json.fate, 'accepted')
    assertProblem(await merge(app, 'x'), 404, 'no_such_branch')
    assertProblem(await app.ask({ sql: 'select text from notes', branch: 'x' }), 404, 'no_such_branch')
    assert.equal(await main(app), 'abc')
})

test('branches survive kill -9, and their batches are applied once', async (t) => {
    const { s, app } = await notes(t)
    const making = () => app.request('PUT', '/branches/kept', { body: '{}', headers: { 'idempotency-key': 'make' } })
    const made = (await making()).json
    assert.deepEqual((await making()).json, { ...made, again: true })
    const named = { key: 'once', branch: 'kept', ops: [insert('notes', { text: 'd' })] }
    const first = (await app.send(named)).json
    await s.kill()
    await s.start()
    const again = (await app.send(named)).json
    assert.deepEqual([again.again, again.ids], [true, first.ids])
    assert.equal(await on(app, 'kept'), 'abcd')
    const asked = () => app.request('POST', '/branches/kept/merge', { body: '{}', headers: { 'idempotency-key': 'merge' } })
    const merged = (await asked()).json
    await s.kill()
    await s.start()
    assert.equal(await main(app), 'abcd')
    assert.deepEqual((await asked()).json, { ...merged, again: true })
})

test('what is no branch is refused by name', async (t) => {
    const { app } = await notes(t)
    assertProblem(await make(app, '-x'), 400, 'bad_parameter')
    assertProblem(await make(app, 'x', { at: 99 }), 422, 'base_ahead')
    assertProblem(await make(app, 'x', { live: 1 }), 400, 'bad_request')
    await make(app, 'x')
    assertProblem(await make(app, 'x'), 409, 'branch_exists', { fate: 'rejected' })
    assertProblem(await app.send({ branch: 'x', mode: 'transaction', base: 1, ops: [insert('notes', { text: 'x' })] }), 400, 'bad_batch')
    assertProblem(await merge(app, 'x', 'rebase'), 400, 'bad_request')
    assertProblem(await app.ask({ sql: 'select text from notes', branch: 'x', as_of: 1 }), 400, 'bad_parameter')
    assert.equal((await merge(app, 'x')).json.fate, 'accepted', 'an empty one is merged, too')
})

test('all of it over a WebSocket', async (t) => {
    const { app, ids: [a] } = await notes(t)
    const peer = await follow(t, app, {})
    let tag = 0
    const say = async (m) => {
        const id = ++tag
        peer.send({ ...m, id })
        return peer.answer(JSON.stringify(m), (x) => x.id === id && !x.more)
    }
    assert.equal((await say({ type: 'branch', step: 'create', name: 'draft', key: 'make' })).fate, 'accepted')
    assert.equal((await say({ type: 'branch', step: 'create', name: 'draft', key: 'make' })).again, true)
    assert.equal((await say({ type: 'batch', branch: 'draft', ops: [update('notes', a, { text: 'A' })] })).fate, 'accepted')
    const sql = 'select text from notes'
    assert.equal((await say({ type: 'query', branch: 'draft', sql })).rows.map((r) => r.text).sort().join(''), 'Abc')
    assert.equal((await say({ type: 'query', sql })).rows.map((r) => r.text).sort().join(''), 'abc')
    const diff = await say({ type: 'branch', step: 'diff', name: 'draft' })
    assert.deepEqual([diff.type, diff.branch, diff.changes.map((x) => [x.was.text, x.is.text])], ['branch', 'draft', [['a', 'A']]])
    assert.deepEqual((await say({ type: 'branches' })).branches.map((x) => [x.branch, x.ops]), [['draft', 1]])
    assert.equal((await say({ type: 'branch', step: 'merge', name: 'draft', mode: 'transaction' })).fate, 'accepted')
    assert.equal(await main(app), 'Abc')
    assert.deepEqual(await say({ type: 'branch', step: 'drop', name: 'draft' }).then((x) => [x.type, x.fate, x.code]), ['fate', 'rejected', 'no_such_branch'])
    for (const m of [{ step: 'diff', name: 'draft' }, { step: 'paint', name: 'x' }, { step: 'drop', name: '-' }, { step: 'create', name: 'x', at: 'now' }])
        assert.equal((await say({ type: 'branch', ...m })).type, 'error', JSON.stringify(m))
    assert.equal((await say({ type: 'query', branch: 'draft', sql })).code, 'no_such_branch')
})

test('segue branch does all of it', async (t) => {
    const { s, app, ids: [a] } = await notes(t)
    const done = async (args, input) => {
        const r = await segue(s, args, input)
        assert.equal(r.code, 0, `${args.join(' ')}: ${r.stderr}`)
        return r.stdout
    }
    await done(['branch', 'create', 'draft', '--live'])
    await done(['batch', '-', '--branch', 'draft'], JSON.stringify({ ops: [update('notes', a, { text: 'A' })] }))
    assert.equal(JSON.parse(await done(['query', '--json', '--branch', 'draft', 'select text from notes where id = $1', a])).text, 'A')
    assert.match(await done(['branch', 'list']), /draft/)
    assert.match(await done(['branch', 'diff', 'draft']), new RegExp(`notes ${a}`))
    assert.match(await done(['branch', 'merge', 'draft', '--transaction']), /^accepted, seq \d+\n$/)
    assert.equal(await main(app), 'Abc')
    await done(['branch', 'create', 'other'])
    await done(['branch', 'drop', 'other'])
    const none = await segue(s, ['branch', 'merge', 'other'])
    assert.deepEqual([none.code, /^segue: no_such_branch: /.test(none.stderr)], [1, true])
})

test('what a merge makes up is made up anew in each', async (t) => {
    const { app } = await notes(t)
    await app.schema(`${SQL}; create table tokens (token uuid unique default gen_random_uuid(), text text)`)
    const peer = await follow(t, app, {})
    for (const name of ['one', 'two', 'three']) {
        await make(app, name)
        assert.equal((await write(app, name, [insert('tokens', { text: name })])).status, 200)
    }
    for (const name of ['one', 'two']) assert.equal((await merge(app, name)).json.fate, 'accepted')
    peer.send({ type: 'branch', id: 1, step: 'merge', name: 'three' })
    assert.equal((await peer.answer('a fate', (a) => a.id === 1)).fate, 'accepted')
    const made = (await app.rows('select token from tokens')).map((r) => r.token.slice(-12))
    assert.equal(new Set(made).size, 3, made.join())
})
