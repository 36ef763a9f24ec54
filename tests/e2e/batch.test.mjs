// Batches: one fate each, final, durable, given again to a retry. PROTOCOL.md, section 5.
import assert from 'node:assert/strict'
import http from 'node:http'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { App, append, assertProblem, close, create, drop, insert, Raw, remove, update } from './lib/http.mjs'
import { bodyOf, chatService, hush, message, say } from './lib/chat.mjs'
import { service } from './lib/service.mjs'

test('a batch of rows and streams is accepted as one commit, with ids and offsets in their places', async (t) => {
    const { app, chat } = await chatService(t)
    const id = randomUUID()
    const fate = await app.batch([
        message(chat, id),
        say(id, 'Hello'),
        insert('chats', { title: 'made here' }),
        create('notes/1', 'text/plain'),
        append('notes/1', 'né'),
        close('notes/1'),
    ])
    assert.equal(fate.seq, 3) // the schema and the chat came before
    assert.deepEqual(fate.offsets, [null, 5, null, 0, 3, 3])
    assert.equal(fate.ids.length, 6)
    assert.deepEqual(fate.ids.map((x) => x !== null), [false, false, true, false, false, false])
    assert.match(fate.ids[2], /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    assert.equal(fate.again, undefined)
    assert.equal((await app.rows('select * from chats where id = $1', [fate.ids[2]]))[0].title, 'made here')
    assert.equal((await app.readStream(bodyOf(id))).bytes.toString(), 'Hello')
})

test('a batch without results has neither ids nor offsets', async (t) => {
    const { app, chat } = await chatService(t)
    assert.deepEqual(await app.batch([update('chats', chat, { title: 'new' })]), { fate: 'accepted', seq: 3 })
})

test('a rejected batch leaves nothing, whichever operation was at fault', async (t) => {
    const { app, chat } = await chatService(t)
    const id = randomUUID()
    const good = [message(chat, id), say(id, 'half'), create('aside'), append('aside', 'half')]
    await app.rejected([...good, insert('chats', {})], 422, 'not_null', {}, { position: 4 })
    await app.rejected([...good, append('nowhere', 'x')], 409, 'stream_not_found', {}, { position: 4 })
    await app.rejected([...good, remove('chats', chat)], 422, 'no_such_reference')
    assert.deepEqual(await app.rows('select * from messages'), [])
    assertProblem(await app.request('GET', app.stream('aside')), 404, 'no_such_stream')
    assertProblem(await app.request('GET', app.stream(bodyOf(id))), 404, 'no_such_stream')
})

test('what is understood and refused has its code, its status and its operation', async (t) => {
    const { app, chat } = await chatService(t)
    const id = randomUUID()
    const nobody = randomUUID()
    await app.batch([message(chat, id), say(id, 'done'), hush(id), create('plain', 'text/plain'), append('plain', 'abc'), create('over'), close('over')])
    const refusals = [
        [insert('nope', {}), 422, 'no_such_table'],
        [update('chats', chat, { nope: 1 }), 422, 'no_such_column'],
        [update('chats', chat, { title: 7 }), 422, 'wrong_type'],
        [message(chat, undefined, { at: 'yesterday' }), 422, 'bad_value'],
        [insert('chats', { title: null }), 422, 'not_null'],
        [message(nobody), 422, 'no_such_reference'],
        [remove('chats', chat), 409, 'still_referenced'],
        [insert('chats', { title: 'twin' }, chat), 409, 'row_exists'],
        [update('chats', nobody, { title: 'x' }), 409, 'no_such_row'],
        [create('plain', 'text/html'), 409, 'stream_exists'],
        [append('nothing', 'x'), 409, 'stream_not_found'],
        [append('over', 'x'), 409, 'stream_closed'],
        [say(id, 'more'), 409, 'stream_closed'],
        [drop(bodyOf(id)), 422, 'reserved_path'],
        [append('plain', 'x', { type: 'text/html' }), 409, 'content_type_mismatch'],
        [append('plain', 'x', { expect: 2 }), 409, 'offset_mismatch'],
        [create(`rows/messages/${nobody}/body`), 422, 'reserved_path'],
        [update('messages', id, { attachment: { blob: '0'.repeat(64) } }), 422, 'blob_not_found'],
    ]
    for (const [op, status, code] of refusals) {
        const p = await app.rejected([update('chats', chat, { title: 'never' }), op], status, code)
        // What only the whole batch can break has no operation that is to blame.
        if (!/reference/.test(code)) assert.equal(p.position, 1, `the position of ${code}`)
    }
    const ahead = String(BigInt(Date.now() + 3600e3) * 65536n)
    await app.rejected([update('chats', chat, { title: 'x' })], 422, 'stamp_ahead', { stamp: ahead })
    await app.rejected([update('chats', chat, { title: 'x' })], 422, 'base_ahead', { base: 1000 })
    assert.equal((await app.rows('select title from chats'))[0].title, 'a chat')
})

test('what is malformed is an error with its position, no fate, and the connection survives', async (t) => {
    const { s, app, chat } = await chatService(t)
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
    t.after(() => agent.destroy())
    const one = new App(s, { agent })
    const ok = update('chats', chat, { title: 'fine' })
    const json = (b) => JSON.stringify(b)
    const malformed = [
        ['', 'bad_json', 0],
        ['{"ops":[}', 'bad_json', 8],
        ['{"ops":[],"ops":[]}', 'bad_json'],
        [Buffer.from('{"ops":["\xff"]}', 'latin1'), 'bad_json', 9],
        ['[]', 'bad_batch'],
        ['{}', 'bad_batch'],
        [json({ ops: [] }), 'bad_batch'],
        [json({ ops: [ok], surprise: 1 }), 'bad_batch'],
        [json({ ops: [ok, { op: 'explode' }] }), 'bad_batch', 1],
        [json({ ops: [ok, ok, 7] }), 'bad_batch', 2],
        [json({ ops: [{ op: 'update', table: 'chats', id: 'me', values: {} }] }), 'bad_batch', 0],
        [json({ ops: [{ op: 'delete', table: 'chats' }] }), 'bad_batch', 0],
        [json({ ops: [{ op: 'append', stream: 'x' }] }), 'bad_batch', 0],
        [json({ ops: [{ op: 'append', stream: 'x', text: 'a', base64: 'YQ==' }] }), 'bad_batch', 0],
        [json({ ops: [{ op: 'append', stream: 'x', base64: '*' }] }), 'bad_batch', 0],
        [json({ ops: [{ op: 'append', stream: 'x', text: 'a', expect: -1 }] }), 'bad_batch', 0],
        [json({ ops: [{ op: 'close', stream: 'x'.repeat(401) }] }), 'bad_batch', 0],
        [json({ replica: 'me', counter: 1, ops: [ok] }), 'bad_batch'],
        [json({ replica: randomUUID(), ops: [ok] }), 'bad_batch'],
        [json({ replica: randomUUID(), counter: 0, ops: [ok] }), 'bad_batch'],
        [json({ counter: 1, ops: [ok] }), 'bad_batch'],
        [json({ key: 'k', replica: randomUUID(), counter: 1, ops: [ok] }), 'bad_batch'],
        [json({ key: 'k'.repeat(201), ops: [ok] }), 'bad_batch'],
        [json({ stamp: 'soon', ops: [ok] }), 'bad_batch'],
        [`{"ops":${'['.repeat(100)}${']'.repeat(100)}}`, 'too_deep'],
    ]
    for (const [body, code, position] of malformed) {
        const reply = await one.request('POST', '/batch', { body })
        const p = assertProblem(reply, 400, code, position === undefined ? {} : { position })
        assert.equal(p.fate, undefined, 'an error is no fate')
    }
    const named = await one.request('POST', '/batch', { body: json({ key: 'a', ops: [ok] }), headers: { 'idempotency-key': 'b' } })
    assertProblem(named, 400, 'bad_batch')
    assertProblem(await one.send({ ops: Array(10001).fill(remove('chats', chat)) }), 413, 'too_large')
    assert.equal((await app.batch([ok])).seq, 3)
    assert.deepEqual(Object.values(agent.freeSockets).flat().length, 1)
})

test('bad input on one connection is answered in place, and what is behind it too', async (t) => {
    const { s } = await chatService(t)
    const raw = new Raw(s)
    const post = (body) => `POST /apps/default/batch HTTP/1.1\r\nHost: x\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
    raw.send(post('{') + post(JSON.stringify({ ops: [create('a')] })) + post('nonsense') + post(JSON.stringify({ ops: [append('a', 'b')] })))
    assertProblem(await raw.reply(), 400, 'bad_json')
    assert.equal((await raw.reply()).json.seq, 3)
    assertProblem(await raw.reply(), 400, 'bad_json')
    assert.deepEqual((await raw.reply()).json, { fate: 'accepted', seq: 4, offsets: [1] })
    await raw.assertAlive()
    raw.destroy()
})

test('a retry is told the fate again and applies nothing, before and behind a restart', async (t) => {
    const { s, app, chat } = await chatService(t)
    const replica = randomUUID()
    const accepted = { replica, counter: 1, ops: [create('log'), append('log', 'once;'), insert('chats', { title: 'once' })] }
    const rejected = { replica, counter: 2, ops: [insert('chats', {})] }
    const first = await app.send(accepted)
    const second = await app.send(rejected)
    assert.equal(first.status, 200)
    assertProblem(second, 422, 'not_null', { position: 0, fate: 'rejected' })
    for (const restart of [() => {}, () => s.stop().then(() => s.start()), () => s.kill().then(() => s.start())]) {
        await restart()
        assert.deepEqual((await app.send(accepted)).json, { ...first.json, again: true })
        const again = await app.send(rejected)
        assert.equal(again.status, 422)
        assert.deepEqual(again.json, { ...second.json, again: true })
    }
    assert.equal((await app.readStream('log')).bytes.toString(), 'once;')
    assert.equal((await app.rows('select * from chats')).length, 2)
    // What would be valid by now stays rejected: a fate is final.
    await app.batch([update('chats', chat, { title: 'later' })])
    assertProblem(await app.send(rejected), 422, 'not_null', { again: true })
    assert.equal((await app.send({ replica, counter: 3, ops: [append('log', 'next;')] })).json.seq, first.json.seq + 2)
})

test('a replica counts without gaps, and its names stand for their content', async (t) => {
    const { app } = await chatService(t)
    const replica = randomUUID()
    const say = (counter, text) => app.send({ replica, counter, ops: [append('log', text)] })
    await app.batch([create('log')])
    assertProblem(await say(2, 'early'), 409, 'counter_gap', { expected: 1 })
    assert.equal((await say(1, 'a')).status, 200)
    assertProblem(await say(3, 'early'), 409, 'counter_gap', { expected: 2 })
    assertProblem(await say(1, 'other'), 409, 'name_reused')
    assert.equal((await say(2, 'b')).status, 200)
    assert.equal((await say(1, 'a')).json.again, true)
    assert.equal((await app.readStream('log')).bytes.toString(), 'ab')
})

test('errors are no fates: the same name may be sent again', async (t) => {
    const { app } = await chatService(t)
    const replica = randomUUID()
    assertProblem(await app.send({ replica, counter: 1, ops: [{ op: '?' }] }), 400, 'bad_batch')
    const fate = await app.send({ replica, counter: 1, ops: [create('x')] })
    assert.equal(fate.status, 200)
    assert.equal(fate.json.again, undefined)
})

test('a key names a batch as well, in the body or as Idempotency-Key', async (t) => {
    const { app } = await chatService(t)
    await app.batch([create('log')])
    const inBody = await app.send({ key: 'k 1', ops: [append('log', 'a')] })
    const inHeader = await app.send({ ops: [append('log', 'a')] }, { 'idempotency-key': 'k 1' })
    assert.deepEqual(inHeader.json, { ...inBody.json, again: true })
    assertProblem(await app.send({ key: 'k 1', ops: [append('log', 'b')] }), 409, 'name_reused')
    assert.equal((await app.send({ key: 'k 2', ops: [append('log', 'a')] })).json.again, undefined)
    assert.equal((await app.readStream('log')).bytes.toString(), 'aa')
})

test('fates of the last 1,024 batches of a replica are kept, and older ones are never applied again', async (t) => {
    const { s, app } = await chatService(t)
    const replica = randomUUID()
    await app.batch([create('log')])
    const raw = new Raw(s)
    const all = 1100
    const body = (counter) => JSON.stringify({ replica, counter, ops: [append('log', `${counter};`)] })
    for (let from = 1; from <= all; from += 100) {
        const texts = Array.from({ length: 100 }, (_, i) => body(from + i))
        raw.send(texts.map((b) => `POST /apps/default/batch HTTP/1.1\r\nHost: x\r\nContent-Length: ${b.length}\r\n\r\n${b}`).join(''))
        for (let i = 0; i < 100; i++) assert.equal((await raw.reply()).status, 200)
    }
    raw.destroy()
    assertProblem(await app.send(body(1)), 410, 'fate_expired')
    assertProblem(await app.send(body(all - 1024)), 410, 'fate_expired')
    assert.equal((await app.send(body(all - 1023))).json.again, true)
    const text = (await app.readStream('log')).bytes.toString()
    assert.equal(text, Array.from({ length: all }, (_, i) => `${i + 1};`).join(''))
})

test('operations see what earlier ones of their batch did', async (t) => {
    const { app, chat } = await chatService(t)
    const id = randomUUID()
    const other = randomUUID()
    await app.batch([
        insert('chats', { title: 'one' }, other), update('chats', other, { title: 'two' }),
        message(other, id), say(id, 'a'), say(id, 'b', { expect: 1 }),
        create('temp'), append('temp', 'x'), drop('temp'),
    ])
    assert.equal((await app.rows('select title from chats where id = $1', [other]))[0].title, 'two')
    assertProblem(await app.request('GET', app.stream('temp')), 404, 'no_such_stream')
    await app.batch([remove('messages', id), remove('chats', other)])
    assertProblem(await app.request('GET', app.stream(bodyOf(id))), 404, 'no_such_stream')
    await app.rejected([insert('chats', { title: 'back' }, other)], 409, 'row_exists')
    assert.deepEqual((await app.rows('select id from chats')).map((r) => r.id), [chat])
})

test('concurrent updates merge per column by stamp, and a delete wins over what had not seen it', async (t) => {
    const s = await service(t)
    const app = new App(s)
    await app.schema('create table cards (title text, colour text)')
    const id = randomUUID()
    const { seq: base } = await app.batch([insert('cards', { title: 'old', colour: 'red' }, id)])
    const now = BigInt(Date.now()) * 65536n
    await app.batch([update('cards', id, { title: 'later', colour: 'blue' })], { base, stamp: String(now + 2n) })
    await app.batch([update('cards', id, { title: 'earlier' })], { base, stamp: String(now + 1n) })
    await app.batch([update('cards', id, { colour: 'green' })], { base, stamp: String(now + 3n) })
    assert.deepEqual(await app.rows('select * from cards'), [{ id, title: 'later', colour: 'green' }])
    const { seq } = await app.batch([remove('cards', id)])
    const unseen = await app.batch([update('cards', id, { title: 'ghost' })], { base })
    assert.ok(unseen.seq > seq)
    assert.deepEqual(await app.rows('select * from cards'), [])
    await app.rejected([update('cards', id, { title: 'ghost' })], 409, 'no_such_row')
})

test('a thousand batches at once get a thousand places in one order', async (t) => {
    const { s } = await chatService(t)
    const agent = new http.Agent({ keepAlive: true, maxSockets: 20 })
    t.after(() => agent.destroy())
    const app = new App(s, { agent })
    await app.batch([create('log')])
    const fates = await Promise.all(Array.from({ length: 1000 }, (_, i) => app.batch([append('log', `${i};`)])))
    const seqs = fates.map((f) => f.seq).sort((a, b) => a - b)
    assert.deepEqual(seqs, Array.from({ length: 1000 }, (_, i) => 4 + i))
    // The offsets that were told are where the bytes are.
    const { bytes } = await app.readStream('log')
    fates.forEach((f, i) => assert.ok(bytes.subarray(0, f.offsets[0]).toString().endsWith(`${i};`)))
})

test('a batch makes streams in full: content, forks, producers, ends and trims', async (t) => {
    const { app } = await chatService(t)
    const producer = (seq) => ({ producer: { id: 'p', epoch: 0, seq } })
    const made = await app.batch([
        { op: 'create', stream: 'log', type: 'text/plain', text: 'one two' },
        { op: 'append', stream: 'log', text: ' three', ...producer(0), expect: 7 },
        { op: 'create', stream: 'events', type: 'application/json', messages: [{ b: 1, a: [] }, 'two'], ttl: 3600 },
        { op: 'append', stream: 'events', messages: [[3]], seq: 'a' },
    ])
    assert.deepEqual(made.offsets, [7, 13, 23, 28])
    const forked = await app.batch([
        { op: 'create', stream: 'fork', fork: { from: 'log', offset: 0, sub: 3 }, text: '!', closed: true },
        { op: 'append', stream: 'log', text: ' three', ...producer(0) }, // sent before
    ])
    assert.deepEqual(forked.offsets, [4, 13])
    assert.equal((await app.readStream('fork')).bytes.toString(), 'one!')
    assert.equal((await app.readStream('log')).bytes.toString(), 'one two three')
    assert.deepEqual(JSON.parse((await app.readStream('events')).bytes), [{ a: [], b: 1 }, 'two', [3]])
    await app.rejected([{ op: 'append', stream: 'log', text: 'x', ...producer(2) }], 409, 'producer_gap', {}, { position: 0 })
    await app.rejected([{ op: 'append', stream: 'events', messages: [4], seq: 'a' }], 409, 'stream_seq', {}, { position: 0 })
    await app.rejected([{ op: 'append', stream: 'events', text: 'x' }], 409, 'content_type_mismatch', {}, { position: 0 })
    await app.rejected([{ op: 'trim', stream: 'log', tail: true }], 409, 'still_referenced', {}, { position: 0 })
    await app.batch([{ op: 'trim', stream: 'events', tail: true, messages: ['all'], close: true }, drop('log')])
    assert.equal((await app.readStream('fork')).bytes.toString(), 'one!')
    assert.equal((await app.request('GET', `${app.stream('log')}?offset=-1`)).status, 410)
    await app.batch([drop('fork')])
    assert.equal((await app.request('HEAD', app.stream('log'))).status, 404)
})
