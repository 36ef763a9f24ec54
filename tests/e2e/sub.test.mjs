// One `segue sub` for several queries, a stream and an upload: over kills of the service and of itself it shows everything once.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { App, append, create, insert, remove, update } from './lib/http.mjs'
import { assertSameRows } from './lib/fold.mjs'
import { Child, eventually, segue, SEGUE, service, sleep, tempFolder } from './lib/service.mjs'
import { SubFile } from './lib/subfile.mjs'
import { idOf, sha256, Tus } from './lib/tus.mjs'

const QUERIES = { open: 'select title, n from chats where n >= 0', top: 'select n from chats order by n desc limit 5' }

async function prepared(t) {
    const s = await service(t, { args: ['--seal-quiet-ms', '100'] })
    const app = new App(s)
    await app.schema('create table chats (title text not null, n integer not null); create table messages (chat uuid references chats, body stream);')
    await app.batch([create('log', 'text/plain')])
    return { s, app, file: path.join(tempFolder(t), 'live.jsonl') }
}

// kill -9 goes through at once, and nothing of it is waited for.
function sub(t, s, args) {
    const child = new Child(SEGUE, ['sub', '--json', '--retry', '600', ...args], { env: { ...process.env, SEGUE_URL: s.url } })
    t.after(() => child.signal('SIGKILL'))
    return child
}

async function killed(child) {
    child.signal('SIGKILL')
    await child.end()
}

test('queries, one with a live stream column, a stream and an upload in one connection, over kills of both sides: no gap, no repeat', async (t) => {
    const { s, app, file } = await prepared(t)
    const tus = new Tus(app)
    const film = Buffer.from(Array.from({ length: 40000 }, (_, i) => i * 7))
    const upload = await tus.create(film.length)
    const talk = (await app.batch([{ op: 'insert', table: 'messages', values: {} }])).ids[0]
    const args = ['--query', `open=${QUERIES.open}`, '--query', `top=${QUERIES.top}`, '--query', 'talk=select body from messages', '--with', 'talk.body', '--stream', 'log=log', '--upload', `film=${idOf(upload)}`, '-o', file]
    const followed = new SubFile(file, { ordered: ['top'] })
    let child = sub(t, s, args), sent = 0, said = ''
    const ids = []
    for (let round = 0; round < 12; round++) {
        for (let i = 0; i < 8; i++) {
            const n = round * 8 + i
            const fate = await app.batch([insert('chats', { title: `chat ${n}`, n: (n * 37) % 101 }), append('log', `${n};`), { op: 'append', table: 'messages', id: talk, column: 'body', text: `${n};` }, ...(ids.length > 3 ? [update('chats', ids[n % 3], { n: -n }), remove('chats', ids.splice(3, 1)[0])] : [])])
            ids.push(fate.ids[0])
            said += `${n};`
        }
        sent = await tus.offset(upload)
        if (round < 11) await tus.patch(upload, sent, film.subarray(sent, sent + 3000))
        if (round % 3 === 1) {
            await s.kill()
            await s.start()
        }
        if (round % 2 === 0) {
            await sleep(round * 5)
            await killed(child)
            followed.take() // what stands there is whole, wherever it was cut off
            child = sub(t, s, args)
        }
    }
    sent = await tus.offset(upload)
    await tus.patch(upload, sent, film.subarray(sent))
    await tus.digest(upload)
    const fold = await eventually('all of it', () => { const f = followed.take(); return f.isLive && f.views.log.text === said && f.views.film.value?.done && f.seq >= 2 && f })
    for (const [name, sql] of Object.entries(QUERIES)) {
        const fresh = await app.rows(sql)
        await eventually(`${name} is what a fresh query gives`, () => { try { assertSameRows(followed.take().views[name], fresh); return true } catch { return false } })
    }
    assert.equal(fold.views.film.value.blob, sha256(film))
    assert.equal(fold.views.talk.stream('body', talk).text, said, 'the bytes of the row\'s stream, each once')
    assert.deepEqual(fold.resets, [])
    assert.ok(followed.runs > 6)
    await killed(child)
    // Not a line of it is out of place: one history from the first snapshot on.
    const whole = new SubFile(file, { ordered: ['top'] })
    assert.equal(whole.take().views.log.text, said)
})

test('a cursor is kept in a file, and what came meanwhile comes then', async (t) => {
    const { s, app, file } = await prepared(t)
    const args = ['--query', `open=${QUERIES.open}`, '--stream', 'log=log', '--cursor', `@${file}`]
    const first = sub(t, s, args)
    await app.batch([insert('chats', { title: 'one', n: 1 }), append('log', 'one;')])
    await eventually('the first commit', () => first.stdout.includes('one;') && fs.existsSync(file) && first.stdout.includes(fs.readFileSync(file, 'utf8').trim()))
    await sleep(50)
    await killed(first)
    await app.batch([insert('chats', { title: 'two', n: 2 }), append('log', 'two;')])
    await s.kill()
    await s.start()
    const second = sub(t, s, args)
    await eventually('the second commit', () => second.stdout.includes('two;'))
    assert.ok(!second.stdout.includes('snapshot') && !second.stdout.includes('one;'))
    await killed(second)
})

test('uploads are shown to people, too', async (t) => {
    const { s, app } = await prepared(t)
    const tus = new Tus(app)
    const upload = await tus.create(10)
    const child = new Child(SEGUE, ['sub', '--upload', idOf(upload), '--stream', 'log'], { env: { ...process.env, SEGUE_URL: s.url } })
    t.after(() => child.signal('SIGKILL'))
    await eventually('its beginning', () => child.stdout.includes('u1 0 of 10 bytes'))
    await tus.patch(upload, 0, Buffer.from('0123456789'))
    await eventually('its end', () => child.stdout.includes(`u1 done, blob ${sha256(Buffer.from('0123456789'))}`))
    await app.batch([append('log', 'text\n')])
    await eventually('the stream', () => /s1> text\n/.test(child.stdout))
})

test('a file that something else wrote is not touched, and two runs do not write to one', async (t) => {
    const { s, file } = await prepared(t)
    fs.writeFileSync(file, 'precious\n')
    const args = ['sub', '--json', '--stream', 'log', '-o', file]
    const refused = await segue(s, args)
    assert.deepEqual([refused.code, /was not written by/.test(refused.stderr)], [2, true])
    assert.equal(fs.readFileSync(file, 'utf8'), 'precious\n')
    fs.writeFileSync(file, '')
    const first = sub(t, s, ['--stream', 'log', '-o', file])
    await eventually('its first line', () => fs.statSync(file).size > 0)
    const second = await segue(s, args)
    assert.deepEqual([second.code, /^segue: busy: /.test(second.stderr)], [1, true])
    await killed(first)
    assert.equal((await segue(s, ['sub', '--stream', 'log', '-o', file])).code, 2, 'for people it does not say where it ends')
    // A last line that was cut in the middle, and one that is no message, are taken away.
    const whole = fs.readFileSync(file, 'utf8')
    fs.appendFileSync(file, '{"type":"commit","from":9,"to":10,"changes":{},"cursor":"half')
    const child = sub(t, s, ['--stream', 'log', '-o', file])
    await eventually('it goes on', () => { const now = fs.readFileSync(file, 'utf8'); return now.startsWith(whole) && now.length > whole.length && !now.includes('half') })
    await killed(child)
})
