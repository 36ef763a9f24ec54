// How concurrent writes become one row, what constraints make of them, and rows that come back. PROTOCOL.md, sections 4 and 5.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { App, insert, remove, update } from './lib/http.mjs'
import { service } from './lib/service.mjs'

const upsert = (table, id, values) => ({ op: 'upsert', table, id, values })
const restore = (table, id) => ({ op: 'restore', table, id })

const schema = `
    create type mood as enum ('sad', 'ok', 'happy');
    create table people (name text not null unique, mood mood default 'ok', age integer, constraint grown check (age >= 18));
    create table posts (
        author uuid not null references people on delete cascade,
        editor uuid references people on delete set null,
        text text,
        likes counter,
        seen integer options (merge 'max') default 0,
        tags text[] options (merge 'set'));
    create index by_author on posts (author, seen desc);`

async function blog(t) {
    const s = await service(t)
    const app = new App(s)
    await app.schema(schema)
    const [ann, bob, post] = [randomUUID(), randomUUID(), randomUUID()]
    await app.batch([insert('people', { name: 'Ann' }, ann), insert('people', { name: 'Bob' }, bob)])
    const { seq } = await app.batch([insert('posts', { author: ann, editor: bob, text: 'first', tags: ['new'] }, post)])
    return { s, app, ann, bob, post, seq }
}

test('what two replicas did apart from each other becomes one row, whoever comes first', async (t) => {
    const { app, post, seq } = await blog(t)
    const [one, two] = ['10000000-0000-4000-8000-000000000000', '20000000-0000-4000-8000-000000000000']
    const now = BigInt(Date.now()) * 65536n
    // The second one was later, and arrives first.
    await app.batch([update('posts', post, { text: 'by two', likes: { increment: 2 }, seen: 5, tags: { add: ['b'], remove: ['new'] } })],
        { replica: two, counter: 1, base: seq, stamp: String(now + 2n) })
    await app.batch([update('posts', post, { text: 'by one', likes: { increment: 1 }, seen: 3, tags: { add: ['a', 'b'] } })],
        { replica: one, counter: 1, base: seq, stamp: String(now + 1n) })
    // Sent again, nothing counts again.
    const again = await app.batch([update('posts', post, { text: 'by one', likes: { increment: 1 }, seen: 3, tags: { add: ['a', 'b'] } })],
        { replica: one, counter: 1, base: seq, stamp: String(now + 1n) })
    assert.equal(again.again, true)
    const read = async () => (await app.rows('select text, likes, seen, tags from posts'))[0]
    assert.deepEqual(await read(), { id: post, text: 'by two', likes: 3, seen: 5, tags: ['a', 'b'] })
    // Replica one takes away its own "b", which it had seen, and not that of the other.
    await app.batch([update('posts', post, { tags: { remove: ['b', 'a'] } })], { replica: one, counter: 2, base: seq })
    assert.deepEqual((await read()).tags, ['b'])
})

test('an upsert makes a row, or changes the one that is there', async (t) => {
    const { app, ann } = await blog(t)
    const id = randomUUID()
    await app.batch([upsert('posts', id, { author: ann, likes: { increment: 1 } })])
    await app.batch([upsert('posts', id, { author: ann, likes: { increment: 1 }, seen: 9 })])
    assert.deepEqual(await app.rows('select likes, seen, tags from posts where id = $1', [id]), [{ id, likes: 2, seen: 9, tags: null }])
    const p = await app.rejected([update('posts', id, { likes: 7 })], 422, 'bad_value')
    assert.match(p.detail, /increment/)
})

test('constraints name what stands in the way', async (t) => {
    const { app, ann, bob } = await blog(t)
    const taken = await app.rejected([insert('people', { name: 'Ann' })], 409, 'not_unique')
    assert.match(taken.detail, new RegExp(`name.*${ann}`))
    const young = await app.rejected([update('people', bob, { age: 17 })], 422, 'check_failed')
    assert.match(young.detail, /grown/)
    await app.rejected([update('people', bob, { mood: 'angry' })], 422, 'bad_value')
    // What a batch leaves is what counts: two names may change places.
    await app.batch([update('people', ann, { name: 'Bob' }), update('people', bob, { name: 'Ann' })])
    assert.deepEqual((await app.rows('select name from people where id = $1', [ann])), [{ id: ann, name: 'Bob' }])
})

test('rows go with the row that they refer to, or are cut off from it; and come back', async (t) => {
    const { app, ann, bob, post } = await blog(t)
    await app.batch([remove('people', bob)])
    assert.deepEqual(await app.rows('select editor from posts'), [{ id: post, editor: null }])
    await app.batch([remove('people', ann)])
    assert.deepEqual(await app.rows('select id from posts'), [])
    await app.rejected([restore('posts', post)], 422, 'no_such_reference')
    await app.batch([restore('people', ann), restore('posts', post)])
    assert.deepEqual(await app.rows('select text, tags from posts'), [{ id: post, text: 'first', tags: ['new'] }])
    await app.rejected([restore('posts', post)], 409, 'row_exists')
})

test('a constraint comes to a table only if its rows keep it', async (t) => {
    const { app, bob } = await blog(t)
    await app.batch([update('people', bob, { age: 30 }), insert('people', { name: 'Cy', age: 30 })])
    const stricter = schema.replace('age integer,', 'age integer unique,')
    assert.equal((await app.putSchema(stricter)).json.code, 'not_unique')
    await app.batch([update('people', bob, { age: 31 })])
    assert.equal((await app.putSchema(stricter)).status, 200)
    await app.rejected([insert('people', { name: 'Di', age: 30 })], 409, 'not_unique')
})
