// The outbox from outside: batches that are made offline, cut off on their way, or whose sender is killed, are applied once, in order, and their fates are told.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { cutAt } from './lib/cut.mjs'
import { App, append, create, insert, update } from './lib/http.mjs'
import { eventually, preload, root, segue, Service, service, sleep, tempFolder } from './lib/service.mjs'

const so = path.resolve(process.env.DISK_SO || path.join(root, 'build/tests/lib/disk.so'))

// One outbox by way of the command line: each call is a process of its own.
class Outbox {
    constructor(t, s) {
        this.s = s
        this.folder = path.join(tempFolder(t), 'outbox')
    }

    run(args, input = '', env = {}) { return segue(this.s, [...args, '--outbox', this.folder], input, env) }

    async put(batch, ...args) {
        const { code, stdout, stderr } = await this.run(['batch', '-', '--offline', ...args], typeof batch === 'string' ? batch : JSON.stringify(batch))
        assert.equal(code, 0, stderr)
        return Number(/^kept, (\d+)\n$/.exec(stdout)[1])
    }

    async lines(...args) {
        const { code, stdout, stderr } = await this.run(['outbox', ...args, '--json'])
        assert.equal(code, 0, stderr)
        return stdout.split('\n').filter(Boolean).map((l) => JSON.parse(l))
    }

    send(...args) { return this.run(['outbox', 'send', ...args]) }
    fates() { return this.lines('fates') }
    waiting() { return this.lines('list') }
}

const note = (n) => ({ ops: [append('log', `${n};`), insert('notes', { n })] })

async function prepared(t) {
    const s = await service(t)
    const app = new App(s)
    await app.schema('create table notes (n integer not null unique, text text);')
    await app.batch([create('log', 'text/plain')])
    return { s, app, box: new Outbox(t, s) }
}

// Each of these batches, once, in their order.
async function verify(app, numbers) {
    assert.equal((await app.readStream('log')).bytes.toString(), numbers.map((n) => `${n};`).join(''))
    assert.deepEqual((await app.rows('select n from notes')).map((r) => r.n).sort((a, b) => a - b), [...numbers].sort((a, b) => a - b))
}

test('what is made offline is sent later, in order, and a rejected one holds nothing up', async (t) => {
    const { s, app, box } = await prepared(t)
    await s.stop()
    assert.equal(await box.put(note(1), '--tag', 'first'), 1)
    await box.put({ ops: [insert('notes', { text: 'without n' }), append('log', 'never;')] })
    await box.put({ ops: [{ op: 'nonsense' }] })
    await box.put(note(2))
    await box.put(note(3))
    const away = await box.send()
    assert.equal(away.code, 3, away.stdout)
    assert.match(away.stderr, /^segue: unreachable: /)
    const waiting = await box.waiting()
    assert.deepEqual(waiting.map((w) => [w.id, w.fate, w.tag]), [[1, 'waiting', 'first'], [2, 'waiting', undefined], [3, 'waiting', undefined], [4, 'waiting', undefined], [5, 'waiting', undefined]])
    assert.deepEqual(waiting[0].batch, note(1))
    assert.equal((await box.run(['outbox', 'drop', '4'])).code, 0)
    await s.start()
    const sent = await box.send('--peek')
    assert.equal(sent.code, 1, 'not all were accepted')
    const fates = await box.fates()
    assert.deepEqual(fates.map((f) => [f.id, f.fate]), [[1, 'accepted'], [2, 'rejected'], [3, 'unsendable'], [5, 'accepted']])
    assert.equal(fates[0].tag, 'first')
    assert.deepEqual([fates[0].answer.seq, fates[0].answer.offsets], [3, [2, null]])
    assert.match(fates[0].answer.ids[1], /^[0-9a-f-]{36}$/)
    assert.deepEqual([fates[1].answer.code, fates[1].answer.position], ['not_null', 0])
    assert.equal(fates[2].answer.code, 'bad_batch')
    await verify(app, [1, 3])
    // They are kept until they have been seen.
    assert.deepEqual((await box.fates()).map((f) => f.id), [1, 2, 3, 5])
    assert.equal((await box.run(['outbox', 'seen', '1', '2'])).code, 0)
    const { code, stdout } = await box.send()
    assert.equal(code, 1)
    assert.match(stdout, /^3 .* unsendable, bad_batch: [^\n]*\n5 .* accepted, seq 4\n$/)
    assert.deepEqual(await box.fates(), [])
    assert.deepEqual([(await box.send()).code, await box.waiting()], [0, []])
})

test('cut off at any byte, and over kills of the service, each is applied once', async (t) => {
    const { s, app, box } = await prepared(t)
    const numbers = Array.from({ length: 100 }, (_, i) => i)
    const put = (n) => box.put({ ops: [append('log', `${n};`), insert('notes', { n, text: 'x'.repeat(n * 50) })] })
    for (let i = 0; i < numbers.length; i += 10) await Promise.all(numbers.slice(i, i + 10).map(put))
    const list = await box.waiting()
    assert.equal(list.length, numbers.length)
    const order = list.map((w) => Number(w.batch.ops[0].text.slice(0, -1)))
    const bytes = list.reduce((sum, w) => sum + JSON.stringify(w.batch).length + 100, 0)
    const places = Array.from({ length: 6 }, (_, i) => [Math.floor(((i + 1) * bytes) / 7), async () => { if (i % 2 === 0) { await s.kill(); await s.start() } }])
    const way = await cutAt(s, places)
    const through = new Outbox(t, { url: way.url })
    through.folder = box.folder
    const { code, stderr } = await through.send('--retry', '60', '--peek')
    assert.equal(code, 0, stderr)
    assert.equal(way.left(), 0, `${way.left()} cuts were not met`)
    await way.end()
    await verify(app, order)
    const fates = await box.fates()
    assert.deepEqual(fates.map((f) => f.fate), numbers.map(() => 'accepted'))
    assert.deepEqual(fates.map((f) => f.counter), numbers.map((n) => n + 1))
    assert.equal(new Set(fates.map((f) => f.answer.seq)).size, numbers.length)
})

test('a sender that is killed at any of its steps leaves nothing undone or done twice', async (t) => {
    const { s, app, box } = await prepared(t)
    let n = 0, killed = 0, ended = false
    while (!ended) {
        for (let i = 0; i < 3; i++) await box.put(note(n++))
        const fault = `all:${box.folder}:${killed + 1}:KILL:1`
        const run = await box.run(['outbox', 'send'], '', { LD_PRELOAD: preload(so), SEGUE_DISK_FAULT: fault })
        ended = run.signal === null
        if (ended) assert.equal(run.code, 0, run.stderr)
        else assert.equal(run.signal, 'SIGKILL')
        if (!ended) killed++
    }
    assert.ok(killed > 10, `${killed} steps`)
    assert.deepEqual(await box.waiting(), [])
    await verify(app, Array.from({ length: n }, (_, i) => i))
})

test('a putter that is killed has put the batch or has not, and never a half', async (t) => {
    const { app, box } = await prepared(t)
    const kept = []
    let killed = 0, ended = false
    for (let n = 0; !ended; n++) {
        const { signal, stdout } = await box.run(['batch', '-', '--offline'], JSON.stringify(note(n)), { LD_PRELOAD: preload(so), SEGUE_DISK_FAULT: `all:${box.folder}:${killed + 1}:KILL:1` })
        if (stdout.startsWith('kept')) kept.push(n)
        ended = signal === null
        if (!ended) killed++
    }
    const waiting = (await box.waiting()).map((w) => Number(w.batch.ops[0].text.slice(0, -1)))
    for (const n of kept) assert.ok(waiting.includes(n), `${n} was kept`)
    assert.ok(killed > 5)
    assert.equal((await box.send()).code, 0)
    await verify(app, waiting)
})

test('a service without room is asked again until it has some', async (t) => {
    const folder = tempFolder(t), data = tempFolder()
    const control = path.join(folder, 'control')
    const disk = (line) => { fs.writeFileSync(`${control}.new`, line); fs.renameSync(`${control}.new`, control) }
    disk('')
    const s = await service(t, { data, env: { LD_PRELOAD: preload(so), SEGUE_DISK_CONTROL: control, SEGUE_DISK_ROOT: data }, args: ['--journal-segment-bytes', '65536'] })
    t.after(() => fs.rmSync(data, { recursive: true }))
    const app = new App(s)
    const box = new Outbox(t, s)
    await app.schema('create table notes (n integer not null unique, text text);')
    await app.batch([create('log', 'text/plain')])
    for (let n = 0; n < 12; n++) await box.put({ ops: [append('log', `${n};`), insert('notes', { n, text: 'x'.repeat(16000) })] })
    disk('write+allocate:/journal/:1:ENOSPC:-1\n')
    const sending = box.send('--retry', '60')
    await eventually('no room', async () => (await app.send({ ops: [append('log', 'no')] })).status >= 503)
    await sleep(300)
    disk('')
    const { code, stderr } = await sending
    assert.equal(code, 0, stderr)
    await verify(app, Array.from({ length: 12 }, (_, i) => i))
})

test('another service, or one that was restored, gets nothing until it is adopted', async (t) => {
    const { s, box } = await prepared(t)
    const old = tempFolder(t)
    await box.put(note(1))
    assert.equal((await box.send()).code, 0)
    await s.stop()
    const other = new Service({ data: old })
    other.port = s.port
    t.after(() => other.end())
    await other.start()
    const app = new App(other)
    await app.schema('create table notes (n integer not null unique, text text);')
    await app.batch([create('log', 'text/plain')])
    await box.put(note(2))
    const refused = await box.send()
    assert.equal(refused.code, 1)
    assert.match(refused.stderr, /^segue: other_journal: .*\nsegue: outbox: .*`segue outbox adopt`/)
    assert.equal((await box.waiting()).length, 1, 'nothing is lost')
    await verify(app, [])
    assert.equal((await box.run(['outbox', 'adopt'])).code, 0)
    assert.equal((await box.send()).code, 0)
    await verify(app, [2])
})

test('a copy of an outbox is found out, and nothing is mixed up', async (t) => {
    const { s, app, box } = await prepared(t)
    await box.put(note(1))
    assert.equal((await box.send()).code, 0)
    const copy = new Outbox(t, s)
    fs.cpSync(box.folder, copy.folder, { recursive: true })
    await box.put(note(2))
    await copy.put(note(3))
    assert.equal((await box.send()).code, 0)
    const refused = await copy.send()
    assert.equal(refused.code, 1)
    assert.match(refused.stderr, /^segue: name_reused: /)
    assert.equal((await copy.run(['outbox', 'adopt'])).code, 0)
    assert.equal((await copy.send()).code, 0)
    await verify(app, [1, 2, 3])
})

test('a batch is made when it is put: a later write shows, and a clock ahead is refused', async (t) => {
    const { app, box } = await prepared(t)
    const row = '01890a5d-ac96-774b-bcce-000000000001'
    await app.batch([insert('notes', { n: 1, text: 'first' }, row)])
    await box.put({ ops: [update('notes', row, { text: 'offline' })] })
    await sleep(5)
    await app.batch([update('notes', row, { text: 'later' })])
    await box.put({ ops: [append('log', 'x')], stamp: (Date.now() + 3600e3) * 65536 })
    await box.put({ ops: [append('log', 'y')], base: 1000 })
    const { code } = await box.send('--peek')
    assert.equal(code, 1)
    assert.deepEqual((await app.rows('select text from notes')).map((r) => r.text), ['later'])
    const fates = await box.fates()
    assert.deepEqual(fates.map((f) => f.answer.code), [undefined, 'stamp_ahead', 'base_ahead'])
})

test('several share one: who puts is not held up by who sends, and one at a time sends', async (t) => {
    const { s, app, box } = await prepared(t)
    await box.put(note(0))
    await s.stop()
    const sending = box.send('--retry', '60')
    await sleep(200)
    const [second, ...puts] = await Promise.all([box.send(), ...[1, 2, 3].map((n) => box.put(note(n)))])
    assert.deepEqual(puts.sort(), [2, 3, 4])
    assert.equal(second.code, 1)
    assert.match(second.stderr, /^segue: busy: /)
    await s.start()
    const { code, stdout } = await sending
    assert.equal(code, 0)
    assert.equal(stdout.split('\n').length, 5, 'what came later was sent too')
    assert.deepEqual((await app.rows('select n from notes')).map((r) => r.n).sort(), [0, 1, 2, 3])
})

test('what is wrong is said at once, and so is a full outbox or a missing key', async (t) => {
    const { s, box } = await prepared(t)
    for (const [batch, code] of [['{', 'bad_json'], ['[]', 'bad_batch'], ['{"ops":[]}', 'bad_batch'], ['{"ops":[{}],"key":"k"}', 'bad_batch'], ['{"ops":[{}],"id":1}', 'bad_batch'],
        [JSON.stringify({ ops: [append('log', 'x'.repeat(4 << 20))] }), 'too_large']]) {
        const { code: status, stderr } = await box.run(['batch', '-', '--offline'], batch)
        assert.equal(status, 2, batch.slice(0, 100))
        assert.ok(stderr.startsWith(`segue: ${code}: `), stderr)
    }
    const big = { ops: [append('log', 'x'.repeat(3 << 20))] }
    for (let i = 0; i < 21; i++) await box.put(big)
    const full = await box.run(['batch', '-', '--offline'], JSON.stringify(big))
    assert.equal(full.code, 1)
    assert.match(full.stderr, /^segue: too_many: the outbox is full/)
    assert.equal((await box.send()).code, 0)
    assert.equal((await new App(s).readStream('log')).bytes.length, 21 * (3 << 20))
    const locked = await service(t, { dev: false })
    const other = new Outbox(t, locked)
    await other.put(note(1))
    const refused = await other.send()
    assert.equal(refused.code, 1)
    assert.match(refused.stderr, /^segue: unauthenticated: /)
    assert.equal((await other.waiting()).length, 1)
    const key = fs.readFileSync(path.join(locked.data, 'admin.key'), 'utf8').trim()
    const sent = await other.run(['outbox', 'send', '--key', key])
    assert.match(sent.stdout, /rejected, (no_such_table|stream_not_found)/)
})
