// The command line client: what people and scripts meet. Exit statuses: 0 done, 1 refused, 2 usage, 3 unreachable.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { App, append, create, insert } from './lib/http.mjs'
import { bodyOf, chatSchema, chatService, hush, message } from './lib/chat.mjs'
import { Child, eventually, SEGUE, segue, service, sleep, tempFolder } from './lib/service.mjs'

async function done(s, args, input) {
    const r = await segue(s, args, input)
    assert.equal(r.code, 0, `segue ${args.join(' ')}: ${r.stderr}`)
    assert.equal(r.stderr, '')
    return r.stdout
}

// A client that goes on beside the test.
function spawn(t, s, args) {
    const child = new Child(SEGUE, args, { env: { ...process.env, SEGUE_URL: s.url } })
    t.after(() => { if (!child.over) child.signal('SIGKILL') })
    return child
}

test('schema push and show', async (t) => {
    const s = await service(t)
    const file = path.join(tempFolder(t), 'schema.sql')
    fs.writeFileSync(file, chatSchema)
    assert.match(await done(s, ['schema', 'push', file]), /seq 1/)
    const sql = await done(s, ['schema', 'show'])
    assert.match(sql, /create table/i)
    assert.equal(JSON.parse(await done(s, ['schema', 'show', '--json'])).tables.length, 2)
    const again = await done(s, ['schema', 'push', '-'], sql)
    assert.ok(again.length > 0)
    const bad = await segue(s, ['schema', 'push', '-'], 'create tabel x')
    assert.equal(bad.code, 1)
    assert.match(bad.stderr, /^segue: bad_sql: .*line 1, column 8/)
})

test('apps are made, listed and dropped', async (t) => {
    const s = await service(t)
    assert.equal(await done(s, ['app', 'create', 'shop']), 'there is an app shop\n')
    assert.equal(await done(s, ['app', 'create', 'shop']), 'there is an app shop\n')
    await done(s, ['--app', 'shop', 'schema', 'push', '-'], 'create table notes (text text)')
    const listed = (await done(s, ['app', 'list', '--json'])).trim().split('\n').map((l) => JSON.parse(l))
    assert.deepEqual(listed.map((a) => [a.app, a.seq]).sort(), [['default', 0], ['shop', 1]])
    assert.match(await done(s, ['app', 'list']), /shop/)
    assert.equal(await done(s, ['app', 'drop', 'shop']), 'dropped shop\n')
    const again = await segue(s, ['app', 'drop', 'shop'])
    assert.deepEqual([again.code, /^segue: no_such_app: /.test(again.stderr)], [1, true])
    assert.equal((await segue(s, ['app', 'create', 'Not A Name'])).code, 1)
    assert.equal((await segue(s, ['app', 'drop', 'default'])).code, 1)
})

test('batch and query', async (t) => {
    const { s, chat } = await chatService(t)
    const ops = { ops: [insert('chats', { title: 'zwei\tund\u001b[31m' }), create('x', 'text/plain')] }
    const fate = JSON.parse(await done(s, ['batch', '-', '--json'], JSON.stringify(ops)))
    assert.deepEqual([fate.fate, fate.seq], ['accepted', 3])
    const lines = (await done(s, ['query', '--json', 'select title from chats order by title'])).trim().split('\n').map((l) => JSON.parse(l))
    assert.deepEqual(lines.map((r) => r.title), ['a chat', 'zwei\tund\u001b[31m'])
    const table = await done(s, ['query', 'select title from chats'])
    assert.ok(table.includes('a chat') && !table.includes('\u001b'), 'nothing of a value reaches the terminal as a command')
    assert.equal((await done(s, ['query', '--json', 'select id from chats where id = $1', chat])).trim(), JSON.stringify({ id: chat }))
    assert.equal((await done(s, ['query', '--json', '--as-of', '2', 'select id from chats'])).trim().split('\n').length, 1)
    const rejected = await segue(s, ['batch', '-'], JSON.stringify({ ops: [insert('chats', {})] }))
    assert.equal(rejected.code, 1)
    assert.match(rejected.stderr, /^segue: not_null: /)
    assert.match(await done(s, ['query', 'select count(*) as n from chats']), /^n\n|1/)
    assert.match(await done(s, ['query', '--explain', 'select title from chats where id = $1', chat]), /chats by point: opened 1, looked at 1, rows 1/)
    const plan = JSON.parse(await done(s, ['query', '--explain', '--json', 'select title from chats']))
    assert.equal(plan.plan[0].tables[0].by, 'scan')
    const sql = await segue(s, ['query', 'select * from chats where nope = 1'])
    assert.equal(sql.code, 1)
    assert.match(sql.stderr, /^segue: no_such_column: .*line 1, column 27/)
})

test('wrong usage ends with 2, a service that is not there with 3', async (t) => {
    const s = await service(t)
    for (const args of [[], ['dance'], ['query'], ['batch'], ['query', '--nonsense', 'x'], ['sub'], ['put'], ['--url', 'ftp://x', 'schema', 'show'], ['batch', '/does/not/exist']]) {
        const r = await segue(s, args)
        assert.equal(r.code, 2, args.join(' '))
        assert.match(r.stderr, /^segue: /)
    }
    assert.equal((await segue(s, ['help'])).code, 0)
    assert.equal((await segue(s, ['--help'])).code, 0)
    assert.equal((await segue(s, ['--version'])).code, 0)
    for (const args of [['help', 'outbox'], ['outbox', '--help']])
        assert.match(await done(s, args), /^Commands:\n  outbox list .*\n  outbox send /)
    assert.match((await segue(s, ['outbox', 'dance'])).stderr, /^segue: usage: there is no command outbox dance; `segue help outbox` lists/)
    await s.stop()
    const gone = await segue(s, ['schema', 'show'])
    assert.equal(gone.code, 3)
    assert.match(gone.stderr, /^segue: unreachable: /)
    await s.start()
})

test('the key comes from the environment', async (t) => {
    const s = await service(t, { dev: false })
    const key = fs.readFileSync(path.join(s.data, 'admin.key'), 'utf8').trim()
    assert.equal((await segue(s, ['schema', 'show'])).code, 1)
    assert.equal((await segue(s, ['schema', 'show'], '', { SEGUE_KEY: key })).code, 0)
})

test('the writer sends token k+1 only after the subscriber has printed token k', async (t) => {
    const { s, app, chat } = await chatService(t)
    const id = randomUUID()
    await app.batch([message(chat, id)])
    const sub = spawn(t, s, ['sub', '--stream', `reply=${bodyOf(id)}`])
    const writer = spawn(t, s, ['stream', 'append', bodyOf(id)])
    for (let k = 0; k < 60; k++) {
        writer.process.stdin.write(`token${k} `)
        await eventually(`token ${k} on the subscriber's output`, () => sub.stdout.includes(`token${k} `))
    }
    writer.process.stdin.end()
    assert.equal((await writer.end()).code, 0)
    await app.batch([hush(id)])
    await eventually('the end', () => /closed/.test(sub.stdout))
    const tokens = Array.from({ length: 60 }, (_, k) => `token${k} `).join('')
    assert.ok(sub.stdout.replace(/\n?\[\d+\] reply> /g, '').includes(tokens))
})

test('sub prints rows and streams, and --once stops at the present', async (t) => {
    const { s, app, chat } = await chatService(t)
    await app.batch([create('s', 'text/plain'), append('s', 'present')])
    const once = await done(s, ['sub', '--once', '--query', 'c=select title from chats where id = $1', '--param', `c.1=${chat}`, '--stream', 's'])
    assert.match(once, /c = .*a chat/)
    assert.match(once, /present/)
    const json = (await done(s, ['sub', '--once', '--json', '--query', 'select * from chats'])).trim().split('\n').map((l) => JSON.parse(l))
    assert.equal(json[0].type, 'welcome')
    const { cursor } = json.at(-1)
    assert.ok(cursor)
    const sub = spawn(t, s, ['sub', '--json', '--query', 'select * from chats', '--cursor', cursor])
    await app.batch([insert('chats', { title: 'later' })])
    await eventually('what came later', () => sub.stdout.includes('later'))
    assert.ok(!sub.stdout.includes('snapshot'))
    const scanned = await segue(s, ['sub', '--once', '--query', "odd=select title from chats where title <> ''", '--query', `one=select title from chats where id = '${chat}'`])
    assert.deepEqual(scanned.stderr.trim().split('\n').map((l) => /^segue: scanned: (\w+): /.exec(l)?.[1]), ['odd'])
    const over = await segue(s, ['sub', '--query', 'select * from chats', '--query', "share=select 1 / (case when title = 'later' then 0 else 1 end) as x from chats"])
    assert.deepEqual([over.code, over.stderr.split(': ').slice(0, 3)], [1, ['segue', 'bad_value', 'share']], over.stderr)
    const refused = await segue(s, ['sub', '--query', 'select * from nowhere'])
    assert.deepEqual([refused.code, /no_such_table/.test(refused.stderr)], [1, true])
})

test('sub and append go on by themselves over kill -9 of the service', async (t) => {
    const { s, app } = await chatService(t)
    await app.batch([create('s', 'text/plain')])
    // Where they begin behind the first kill they wait, too.
    const sub = spawn(t, s, ['sub', '--json', '--stream', 's', '--retry', '60'])
    const writer = spawn(t, s, ['stream', 'append', 's', '--retry', '60'])
    let written = ''
    for (let round = 0; round < 3; round++) {
        for (let i = 0; i < 5; i++) {
            writer.process.stdin.write(`${round}.${i};`)
            written += `${round}.${i};`
            await sleep(5)
        }
        await s.kill()
        writer.process.stdin.write('down;')
        written += 'down;'
        await sleep(50)
        await s.start()
        await eventually('all of the round', () => textOf(sub.stdout) === written)
    }
    writer.process.stdin.end()
    assert.equal((await writer.end()).code, 0)
    assert.equal((await app.readStream('s')).bytes.toString(), written)
    assert.ok(!sub.stdout.includes('"reset"'))
})

function textOf(output) {
    let text = ''
    for (const line of output.split('\n').slice(0, -1)) {
        const m = JSON.parse(line)
        for (const change of [...(m.snapshot?.s1 || []), ...(m.changes?.s1 || [])]) text += change.text || ''
    }
    return text
}

test('stream create, append, close and tail', async (t) => {
    const s = await service(t)
    await done(s, ['stream', 'create', 'a/b', '--type', 'text/plain'])
    await done(s, ['stream', 'append', 'a/b'], 'one ')
    const tail = spawn(t, s, ['stream', 'tail', 'a/b'])
    await eventually('the beginning', () => tail.stdout === 'one ')
    const slow = spawn(t, s, ['stream', 'append', 'a/b', '--close'])
    for (const word of ['two ', 'thr', 'ee']) {
        slow.process.stdin.write(word)
        await eventually(word, () => tail.stdout.endsWith(word))
    }
    slow.process.stdin.end()
    assert.equal((await slow.end()).code, 0)
    const { code, stdout } = await tail.end()
    assert.deepEqual([code, stdout], [0, 'one two three'])
    assert.equal(await done(s, ['stream', 'tail', '--offset', '4', 'a/b']), 'two three')
    const closed = await segue(s, ['stream', 'append', 'a/b'], 'x')
    assert.deepEqual([closed.code, /stream_closed/.test(closed.stderr)], [1, true])
    assert.equal((await segue(s, ['stream', 'append', 'none'], 'x')).code, 1)
    await done(s, ['stream', 'append', 'made', '--type', 'text/plain'], 'made here')
    assert.equal(await done(s, ['stream', 'tail', '--no-follow', 'made']), 'made here')
    await done(s, ['stream', 'close', 'made'])
})

test('a large pipe of any bytes arrives as it was', async (t) => {
    const s = await service(t)
    const bytes = randomBytes(3 << 20)
    await done(s, ['stream', 'append', 'bytes', '--type', 'application/octet-stream'], bytes)
    assert.ok((await new App(s).readStream('bytes')).bytes.equals(bytes))
})

test('put and get', async (t) => {
    const s = await service(t)
    const folder = tempFolder(t)
    const bytes = randomBytes(2500000)
    const digest = createHash('sha256').update(bytes).digest('hex')
    fs.writeFileSync(path.join(folder, 'in'), bytes)
    assert.equal((await done(s, ['put', path.join(folder, 'in'), '--type', 'image/x-noise'])).trim(), digest)
    assert.equal((await done(s, ['put', '-'], bytes)).trim(), digest)
    await done(s, ['get', digest, '-o', path.join(folder, 'out')])
    assert.ok(fs.readFileSync(path.join(folder, 'out')).equals(bytes))
    await done(s, ['get', digest, '--range', '10-19', '-o', path.join(folder, 'part')])
    assert.ok(fs.readFileSync(path.join(folder, 'part')).equals(bytes.subarray(10, 20)))
    const none = await segue(s, ['get', '0'.repeat(64), '-o', path.join(folder, 'none')])
    assert.deepEqual([none.code, /no_such_blob/.test(none.stderr), fs.existsSync(path.join(folder, 'none'))], [1, true, false])
})
