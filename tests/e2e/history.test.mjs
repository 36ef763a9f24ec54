// What rows have been, who wrote what, what two commits have different, and what pending batches would make. PROTOCOL.md, sections 5 and 6.
import assert from 'node:assert/strict'
import { createHash, randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { App, assertProblem, insert, remove, update } from './lib/http.mjs'
import { eventually, segue, service, sleep } from './lib/service.mjs'

const schema = `create table notes (title text not null, done boolean default false, votes counter, tags text[] options (merge 'set'), body stream);`
const [one, two] = ['10000000-0000-4000-8000-000000000000', '20000000-0000-4000-8000-000000000000']

async function notes(t) {
    const s = await service(t)
    const app = new App(s)
    await app.schema(schema)
    const id = randomUUID()
    const { seq } = await app.batch([insert('notes', { title: 'first', tags: ['a'] }, id)])
    const get = async (path) => {
        const reply = await app.request('GET', path)
        assert.equal(reply.status, 200, reply.text)
        return reply.json
    }
    return { s, app, id, seq, get }
}

test('the history of a row says who wrote what, the newest first', async (t) => {
    const { s, app, id, seq, get } = await notes(t)
    await app.batch([update('notes', id, { votes: { increment: 2 } })], { replica: one, counter: 1 })
    await app.batch([update('notes', id, { title: 'second' })], { key: 'by curl' })
    await app.batch([remove('notes', id)], { replica: one, counter: 2 })
    await app.batch([{ op: 'restore', table: 'notes', id }])
    const h = await get(`/history/notes/${id}`)
    assert.deepEqual(h.versions.map((v) => [v.seq, v.deleted ?? v.wrote, v.counter, v.key, v.author, v.mode]), [
        [seq + 4, [], undefined, undefined, 'dev', 'merge'],
        [seq + 3, true, 2, undefined, 'dev', 'merge'],
        [seq + 2, ['title'], undefined, 'by curl', 'dev', 'merge'],
        [seq + 1, ['votes'], 1, undefined, 'dev', 'merge'],
        [seq, ['title', 'done', 'votes', 'tags'], undefined, undefined, 'dev', 'merge'],
    ])
    assert.deepEqual(h.versions[3].row.votes, 2)
    assert.equal(h.columns.title.key, 'by curl')
    assert.deepEqual([h.columns.votes.replica, h.columns.votes.counter], [one, 1])
    assert.equal(h.columns.tags.seq, seq)
    assert.equal(h.next, undefined)
    // In pages, and as of an earlier commit.
    const page = await get(`/history/notes/${id}?limit=2`)
    assert.deepEqual([page.versions.length, page.next], [2, seq + 2])
    const old = await get(`/history/notes/${id}?at=${page.next}&limit=9`)
    assert.deepEqual(old.versions, h.versions.slice(2))
    assert.deepEqual(await app.rows('select title, votes from notes', [], seq + 1), [{ id, title: 'first', votes: 2 }])
    assertProblem(await app.request('GET', `/history/notes/${randomUUID()}`), 404, 'not_found')
    assertProblem(await app.request('GET', `/history/nope/${id}`), 422, 'no_such_table')
    assertProblem(await app.request('GET', `/history/notes/${id}?at=999`), 400, 'seq_ahead')
    // The same from the command line.
    const cli = await segue(s, ['history', 'notes', id])
    assert.equal(cli.code, 0, cli.stderr)
    assert.match(cli.stdout, new RegExp(`^${seq + 4}  .*\n${seq + 3}  .*/2\n    deleted\n${seq + 2}  \\S+  dev  by curl\n    title = "second"\n`))
})

test('the difference of two commits is the rows that are not the same', async (t) => {
    const { s, app, id, seq, get } = await notes(t)
    const other = randomUUID()
    await app.batch([insert('notes', { title: 'other' }, other)])
    await app.batch([update('notes', id, { title: 'second', done: false })])
    await app.batch([update('notes', id, { title: 'first' }), update('notes', other, { done: true })])
    const diff = await get(`/diff?from=${seq}&to=${seq + 2}`)
    const byId = (rows) => new Map(rows.map((r) => [r.id, r]))
    let rows = byId(diff.rows)
    assert.equal(rows.size, 2)
    assert.equal(rows.get(other).was, null)
    assert.equal(rows.get(other).is.title, 'other')
    assert.deepEqual(rows.get(id).changed, ['title'])
    assert.deepEqual([rows.get(id).was.title, rows.get(id).is.title], ['first', 'second'])
    // What came back to what it was is no difference.
    rows = byId((await get(`/diff?from=${seq}`)).rows)
    assert.deepEqual([...rows.keys()], [other])
    assert.deepEqual((await get(`/diff?from=${seq + 3}&to=${seq + 3}&table=notes`)).rows, [])
    assertProblem(await app.request('GET', `/diff?from=${seq + 1}&to=${seq}`), 400, 'bad_parameter')
    const cli = await segue(s, ['diff', String(seq), String(seq + 2), 'notes'])
    assert.match(cli.stdout, new RegExp(`~ notes ${id}\n    title: "first" -> "second"\n`))
    assert.match(cli.stdout, new RegExp(`\\+ notes ${other} \\{`))
})

test('a preview shows what pending batches would make of a row, and changes nothing', async (t) => {
    const { s, app, id, seq } = await notes(t)
    const now = BigInt(Date.now()) * 65536n
    await app.batch([update('notes', id, { title: 'by two', votes: { increment: 1 } })], { replica: two, counter: 1, base: seq, stamp: String(now + 5n) })
    const batches = [
        { replica: one, counter: 1, base: seq, stamp: String(now + 1n), ops: [update('notes', id, { title: 'by one', done: true, votes: { increment: 10 } })] },
        { replica: one, counter: 2, base: seq, ops: [update('notes', id, { title: null })] },
        { replica: one, counter: 2, base: seq, stamp: String(now + 2n), ops: [update('notes', id, { tags: { add: ['b'], remove: ['a'] } })] },
    ]
    const ask = (body) => app.request('POST', '/preview', { body: JSON.stringify(body) })
    const reply = await ask({ rows: [['notes', id]], batches })
    assert.equal(reply.status, 200, reply.text)
    const p = reply.json
    assert.deepEqual(p.batches.map((b) => [b.fate, b.code]), [['accepted', undefined], ['rejected', 'not_null'], ['accepted', undefined]])
    const [row] = p.rows
    delete row.row.body
    assert.deepEqual(row.row, { id, title: 'by two', done: true, votes: 11, tags: ['b'] })
    assert.deepEqual([row.columns.title.counter, row.columns.title.replica], [1, two]) // its stamp is the later one
    assert.deepEqual([row.columns.done, row.columns.votes, row.columns.tags], [{ batch: 0 }, { batch: 0 }, { batch: 2 }])
    assert.deepEqual(row.versions.map((v) => v.batch ?? v.seq), [seq + 1, 0, 2])
    // Nothing came of it; sent for real it becomes just that.
    assert.deepEqual((await app.rows('select title, votes from notes')), [{ id, title: 'by two', votes: 1 }])
    await app.batch(batches[0].ops, { ...batches[0] })
    await app.batch(batches[2].ops, { ...batches[2] })
    assert.deepEqual((await app.rows('select title, done, votes, tags from notes')), [row.row])
    // Without batches: the row as it is, and where its values come from.
    const plain = (await ask({ rows: [['notes', id]] })).json
    assert.deepEqual(plain.rows[0].versions.map((v) => v.seq), [seq + 1, seq + 2, seq + 3])
    // A batch that deletes, and one after it that had not seen that; a row that would be new; a constraint between two of them.
    const fresh = randomUUID()
    const more = (await ask({
        rows: [['notes', id], ['notes', fresh]],
        batches: [{ ops: [remove('notes', id), insert('notes', { title: 'new' }, fresh)] }, { ops: [update('notes', id, { done: false })] }, { ops: [insert('notes', { title: 'x' }, fresh)] }],
    })).json
    assert.deepEqual(more.batches.map((b) => b.code), [undefined, undefined, 'row_exists'])
    assert.deepEqual([more.rows[0].row, more.rows[1].row.title], [null, 'new'])
    for (const [body, code] of [[{ rows: [] }, 'bad_request'], [{ rows: [['notes', id]], batches: [{}] }, 'bad_batch'], [{ rows: [['nope', id]] }, 'no_such_table'], [{ row: 1 }, 'bad_request']])
        assert.equal((await ask(body)).json.code, code)
    const cli = await segue(s, ['preview', '-'], JSON.stringify({ rows: [['notes', id]] }))
    assert.equal(JSON.parse(cli.stdout).rows[0].row.title, 'by two')
})

test('history that is old enough goes, and what is asked for below says so', async (t) => {
    const s = await service(t, { args: ['--history-ms', '1', '--history-commits', '5'] })
    const app = new App(s)
    await app.schema(schema)
    const id = randomUUID()
    const { seq } = await app.batch([insert('notes', { title: '0' }, id)])
    let last
    for (let i = 1; i <= 30; i++) last = (await app.batch([update('notes', id, { title: String(i) })])).seq
    const ask = (at) => app.ask({ sql: 'select title from notes', as_of: at })
    await eventually('the horizon', async () => (await ask(last - 10)).status === 410)
    assertProblem(await ask(seq), 410, 'too_old')
    assertProblem(await app.request('GET', `/history/notes/${id}?at=${seq}`), 410, 'too_old')
    assertProblem(await app.request('GET', `/diff?from=${seq}`), 410, 'too_old')
    assertProblem(await app.send({ mode: 'transaction', base: seq, rows: [['notes', id]], ops: [update('notes', id, { title: 'x' })] }), 410, 'too_old', { fate: 'rejected' })
    const h = (await app.request('GET', `/history/notes/${id}`)).json
    assert.ok(h.versions.length < 30 && h.versions[0].row.title === '30' && h.next === undefined)
    assert.deepEqual(await app.rows('select title from notes'), [{ id, title: '30' }])
    await s.kill()
    await s.start()
    assertProblem(await ask(seq), 410, 'too_old')
    assert.deepEqual(await app.rows('select title from notes'), [{ id, title: '30' }])
})

test('a branch keeps the history that it stands on', async (t) => {
    const s = await service(t, { args: ['--history-ms', '1', '--history-commits', '2'] })
    const app = new App(s)
    await app.schema(schema)
    const id = randomUUID()
    const { seq } = await app.batch([insert('notes', { title: 'base' }, id)])
    assert.equal((await app.request('PUT', '/branches/draft', { body: JSON.stringify({ at: seq }) })).status, 201)
    const write = async () => { for (let i = 0; i < 10; i++) await app.batch([update('notes', id, { title: String(i) })]) }
    const ask = () => app.ask({ sql: 'select title from notes', as_of: seq })
    await write()
    await sleep(1500) // more than one look at what may go
    assert.deepEqual((await ask()).json.rows, [{ id, title: 'base' }])
    assert.equal((await app.request('DELETE', '/branches/draft')).status, 200)
    await write()
    await eventually('the horizon', async () => (await ask()).status === 410)
})

test('a blob goes with the history that named it', async (t) => {
    const s = await service(t, { args: ['--history-ms', '1', '--history-commits', '3', '--blob-grace-ms', '500'] })
    const app = new App(s)
    await app.schema('create table files (name text, content blob);')
    const [id, other] = [randomUUID(), randomUUID()]
    const put = async (text) => {
        const digest = createHash('sha256').update(text).digest('hex')
        assert.ok((await app.request('PUT', `/blobs/${digest}`, { body: text, headers: { 'content-type': 'text/plain' } })).status < 300)
        return digest
    }
    const kept = await put('kept')
    await app.batch([insert('files', { name: 'a', content: { blob: kept } }, id)])
    const old = await put('old')
    await app.batch([insert('files', { name: 'b', content: { blob: old } }, other)])
    await app.batch([update('files', other, { content: null })])
    assert.equal((await app.request('HEAD', `/blobs/${old}`)).status, 200) // a version names it
    for (let i = 0; i < 8; i++) await app.batch([update('files', id, { name: String(i) })])
    await eventually('the blob to go', async () => (await app.request('HEAD', `/blobs/${old}`)).status === 404)
    assert.equal((await app.request('GET', `/blobs/${kept}`)).text, 'kept')
})

test('a fate is asked for by the name of its batch', async (t) => {
    const { s, app, id, get } = await notes(t)
    const done = await app.batch([insert('notes', { title: 'x' })], { replica: one, counter: 1 })
    await app.rejected([update('notes', id, { title: null })], 422, 'not_null', { replica: one, counter: 2 })
    const keyed = await app.batch([update('notes', id, { done: true })], { key: 'a key/with & signs' })
    assert.deepEqual(await get(`/fate?replica=${one}&counter=1`), { ...done, again: true })
    const refused = await app.request('GET', `/fate?replica=${one}&counter=2`)
    assertProblem(refused, 422, 'not_null', { fate: 'rejected', again: true })
    assert.deepEqual(await get(`/fate?key=${encodeURIComponent('a key/with & signs')}`), { ...keyed, again: true })
    assertProblem(await app.request('GET', `/fate?replica=${one}&counter=3`), 404, 'no_fate', { expected: 3 })
    assertProblem(await app.request('GET', `/fate?replica=${one}&counter=30`), 404, 'no_fate', { expected: 3 })
    assertProblem(await app.request('GET', `/fate?key=nope`), 404, 'no_fate')
    for (const bad of ['', 'replica=x&counter=1', `replica=${one}`, 'counter=1', `key=a&counter=1`, `key=a&replica=${one}&counter=1`])
        assertProblem(await app.request('GET', `/fate?${bad}`), 400, 'bad_parameter')
    assert.equal(JSON.parse((await segue(s, ['fate', one, '1'])).stdout).seq, done.seq)
    assert.equal((await segue(s, ['fate', 'nope'])).code, 1)
})
