// Live queries over several tables and with selects within: PROTOCOL.md, sections 6 and 7. What the fold holds is at each commit what a fresh query gives.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { chatService, hush, message, say } from './lib/chat.mjs'
import { assertSameRows } from './lib/fold.mjs'
import { App, insert, remove, update } from './lib/http.mjs'
import { service } from './lib/service.mjs'
import { subscribe } from './lib/sse.mjs'

const schema = `
    create table users (name text not null, online boolean not null default false);
    create table messages (author uuid not null references users, n integer not null, text text not null);
    create table reactions (message uuid not null references messages, emoji text not null);
    create index messages_author on messages (author);
    create index messages_n on messages (n desc);
    create index reactions_message on reactions (message);`

const queries = {
    users: 'select * from users', // so that there is something to be told in each commit
    reactions: 'select * from reactions',
    said: 'select m.text, u.name from messages m join users u on u.id = m.author',
    everyone: 'select u.name, m.n from users u left join messages m on m.author = u.id order by u.name, m.n',
    last: 'select m.text, m.n, u.name from messages m join users u on u.id = m.author order by m.n desc limit 3 offset 1',
    nested: 'select u.name, array(select text, n from messages where author = u.id order by n desc limit 2) as last from users u order by name',
    liked: 'select m.text from messages m where exists (select 1 from reactions r where r.message = m.id)',
    quiet: 'select name from users where id not in (select author from messages)',
    counted: ['select text, (select count(*) from reactions r where r.message = messages.id and r.emoji = $1) as n from messages order by n desc, text', '+1'],
}

async function world(t) {
    const host = await service(t)
    const app = new App(host)
    await app.schema(schema)
    const users = ['ann', 'ben', 'cem', 'dee'].map((name) => ({ id: randomUUID(), name }))
    await app.batch(users.map((u) => insert('users', { name: u.name }, u.id)))
    return { host, app, users, messages: [], n: 0 }
}

async function assertFresh(w, sub, seq) {
    await sub.untilSeq(seq)
    for (const [name, query] of Object.entries(queries)) {
        const [sql, ...params] = [query].flat()
        assertSameRows(sub.fold.views[name], await w.app.rows(sql, params, seq))
    }
}

// Something that people do, by turns.
function act(w, i) {
    const user = w.users[i % 4], old = w.messages[(i * 7) % Math.max(1, w.messages.length)]
    const id = randomUUID()
    w.n++
    switch (i % 6) {
    case 0:
    case 1:
        w.messages.push(id)
        return [insert('messages', { author: user.id, n: w.n, text: `m${w.n}` }, id), update('users', user.id, { online: true })]
    case 2: return old ? [insert('reactions', { message: old, emoji: i % 4 ? '+1' : 'wow' })] : [update('users', user.id, { online: false })]
    case 3: return [update('users', user.id, { name: `${user.name}${w.n}` })]
    case 4: return old ? [update('messages', old, { n: w.n * 2, author: w.users[(i + 1) % 4].id })] : [update('users', user.id, { online: true })]
    default: {
        const gone = w.messages.length > 4 ? w.messages.shift() : null
        return gone ? [remove('messages', gone)] : [insert('messages', { author: user.id, n: -w.n, text: `early ${w.n}` })]
    }
    }
}

const refused = (e) => { if (!/still_referenced|referenced/.test(`${e.message} ${e.code}`)) throw e }

test('joined, nested and windowed queries follow each commit', async (t) => {
    const w = await world(t)
    const sub = await subscribe(t, w.app, { queries })
    await sub.untilLive()
    for (let i = 0; i < 36; i++) {
        const fate = await w.app.batch(act(w, i)).catch(refused)
        if (fate) await assertFresh(w, sub, fate.seq)
    }
})

test('who comes back by a cursor is told what has changed, and nothing else', async (t) => {
    const w = await world(t)
    const sub = await subscribe(t, w.app, { queries })
    await sub.untilLive()
    let seq = 0
    for (let i = 0; i < 40; i++) {
        if (i % 8 === 3) sub.cut()
        const fate = await w.app.batch(act(w, i)).catch(refused)
        if (fate) seq = fate.seq
        if (i % 8 !== 7) continue
        await sub.open()
        await assertFresh(w, sub, seq)
        assert.ok(!sub.messages.some((m) => m.snapshot), 'no snapshot for who has a cursor')
    }
    assert.deepEqual(sub.fold.resets, [])
})

test('a query that reads the text of streams follows them', async (t) => {
    const { app, chat } = await chatService(t)
    const ids = [randomUUID(), randomUUID()]
    const texts = {
        texts: 'select stream_text(body) as text from messages',
        long: 'select role, length(stream_text(body)) as n from messages where length(stream_text(body)) > 6 order by n desc, role',
        sum: 'select sum(length(stream_text(body))) as n from messages',
    }
    await app.batch(ids.map((id) => message(chat, id)))
    const sub = await subscribe(t, app, { queries: { ...texts, plain: 'select role from messages' } })
    await sub.untilLive()
    for (const word of ['one ', 'two ', 'three ']) {
        const fates = await Promise.all(ids.map((id) => app.batch([say(id, word)])))
        const seq = Math.max(...fates.map((f) => f.seq))
        await sub.untilSeq(seq)
        for (const [name, sql] of Object.entries(texts)) assertSameRows(sub.fold.views[name], await app.rows(sql, [], seq))
    }
    assert.ok(!sub.messages.some((m) => m.changes?.plain), 'who does not read it is not told')
    sub.cut()
    const { seq } = await app.batch([say(ids[0], 'the end'), hush(ids[0])])
    await sub.open()
    await sub.untilSeq(seq)
    assert.ok(sub.fold.resets.every((why) => why === 'too_old'), 'nothing is known of what was missed, unless the service had not heard of the cut')
    for (const [name, sql] of Object.entries(texts)) assertSameRows(sub.fold.views[name], await app.rows(sql, [], seq))
    assert.equal(Math.max(...[...sub.fold.views.texts.rows()].map((r) => r.text.length)), 'one two three the end'.length)
})

// Of a stream that is gone nobody knows any more what its text was, which groups and places were made of.
test('rows whose text was read go away', async (t) => {
    const { app, chat } = await chatService(t)
    const texts = {
        groups: 'select stream_text(body) as text, count(*) as n from messages group by 1 order by n desc, text',
        words: 'select distinct stream_text(body) as text from messages',
        sum: 'select sum(length(stream_text(body))) as n, count(distinct stream_text(body)) as d, max(stream_text(body)) as most from messages',
        order: 'select role, stream_text(body) as text from messages order by stream_text(body)',
        page: 'select role, stream_text(body) as text from messages order by stream_text(body) limit 2',
        long: 'select role from messages where length(stream_text(body)) > 2',
        all: 'select count(*) as n from messages where length(stream_text(body)) > 2',
    }
    const sub = await subscribe(t, app, { queries: texts })
    await sub.untilLive()
    const check = async (seq) => {
        await sub.untilSeq(seq)
        for (const [name, sql] of Object.entries(texts)) assertSameRows(sub.fold.views[name], await app.rows(sql, [], seq))
    }
    for (let round = 0; round < 3; round++) {
        const ids = [randomUUID(), randomUUID(), randomUUID()]
        await app.batch(ids.map((id) => message(chat, id)))
        for (const [i, id] of ids.entries()) await check((await app.batch([say(id, ['one', 'two', 'three'][i])])).seq)
        await check((await app.batch([remove('messages', ids[0])])).seq)
        await app.batch([say(ids[1], ' more')])
        await check((await app.batch([remove('messages', ids[1]), say(ids[2], '!')])).seq)
    }
    assert.ok(sub.fold.resets.every((why) => why === 'too_old'))
})
