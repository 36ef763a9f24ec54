// A slow disk under the real service: what waits for it is one app's, and nobody sees what is not durable. What comes before what is told by a gate in the disk
// (tests/lib/disk.h, `hold`), never by a clock.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { createHash, randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { App, append, create, insert, Raw, request } from './lib/http.mjs'
import { eventually, preload, root, service, tempFolder } from './lib/service.mjs'
import { Subscriber } from './lib/sse.mjs'

const so = path.resolve(process.env.DISK_SO || path.join(root, 'build/tests/lib/disk.so'))
const skip = !fs.existsSync(so) && `${so} is not there`

// A service with the apps `default` and `quick`, and a disk whose barriers can be held: hold('/journal/'), then held(), then go().
async function heldService(t, args = ['--barrier', 'thread']) {
    const folder = tempFolder()
    const control = path.join(folder, 'control'), gate = path.join(folder, 'gate')
    const say = (line) => {
        fs.writeFileSync(`${control}.new`, line)
        fs.renameSync(`${control}.new`, control)
    }
    say('')
    t.after(() => { // before the service is ended, which waits for what is held
        say('')
        fs.rmSync(gate, { force: true })
    })
    const s = await service(t, { args: [...args, '--seal-quiet-ms', '3600000'], env: { LD_PRELOAD: preload(so), SEGUE_DISK_CONTROL: control } })
    t.after(() => fs.rmSync(folder, { recursive: true }))
    assert.equal((await request(s, 'PUT', '/apps/quick')).status, 201)
    const app = new App(s), quick = new App(s, { name: 'quick' })
    for (const a of [app, quick]) {
        await a.schema('create table n (k integer)')
        await a.batch([create('log', 'text/plain')])
    }
    return {
        s, app, quick, say,
        hold: (where) => {
            fs.rmSync(`${gate}.held`, { force: true })
            fs.writeFileSync(gate, '')
            say(`hold:${gate}:${where}\n`)
        },
        held: () => eventually('a barrier is held', () => fs.existsSync(`${gate}.held`)),
        go: () => {
            say('')
            fs.rmSync(gate)
        },
    }
}

// Promises with the order in which they were kept.
class Order {
    done = []
    add(name, promise) {
        return promise.then((value) => {
            this.done.push(name)
            return value
        })
    }
}

// The other app's batches are decided, made durable, answered and read while this one's barrier is held.
async function quickly(quick, n = 20) {
    for (let i = 0; i < n; i++) await quick.batch([insert('n', { k: i }), append('log', 'x')])
    const rows = await quick.rows('select k from n')
    assert.ok(rows.length >= n)
}

test('nobody hears of a batch before it is durable, and nobody else waits', { skip }, async (t) => {
    const { s, app, quick, hold, held, go } = await heldService(t)
    const sub = new Subscriber(app, { queries: { q: 'select k from n' }, streams: { log: 'log' } })
    await sub.open()
    t.after(() => sub.cut())
    await sub.until('the snapshot', (f) => f.isLive)
    const known = sub.messages.length
    hold('/apps/default/journal/')
    const order = new Order()
    const fate = order.add('fate', app.send({ ops: [insert('n', { k: 1 }), append('log', 'one')] }))
    await held()
    const read = order.add('read', app.query('select k from n'))
    const stream = order.add('stream', app.readStream('log'))
    const second = order.add('second', app.send({ ops: [insert('n', { k: 2 })] }))
    const put = order.add('put', app.request('PUT', `/blobs/${createHash('sha256').update('content').digest('hex')}`, { body: 'content' }))
    await quickly(quick)
    assert.equal((await request(s, 'GET', '/healthz')).status, 200)
    assert.match(await app.metrics(), /segue_seq\{app="default"\} 2\n/)
    assert.deepEqual(order.done, [])
    assert.equal(sub.messages.length, known)
    go()
    assert.equal((await fate).json.seq, 3)
    assert.deepEqual((await read).rows.map((r) => r.k).slice(0, 1), [1])
    assert.equal((await stream).bytes.toString(), 'one')
    assert.equal((await second).json.seq, 4)
    assert.equal((await put).status, 201)
    assert.equal(order.done[0], 'fate')
    await sub.until('both', (f) => f.views.q.size === 2)
})

test('what came over one connection is answered in its order, whatever of it was held', { skip }, async (t) => {
    const { s, app, quick, hold, held, go } = await heldService(t)
    const content = randomBytes(300000)
    hold('/apps/default/journal/')
    const fate = app.send({ ops: [insert('n', { k: 1 })] })
    await held()
    const raw = new Raw(s), up = new Raw(s), gone = new Raw(s)
    const get = (what) => `GET /apps/default/${what} HTTP/1.1\r\nHost: x\r\n\r\n`
    raw.send(get('query?sql=select+k+from+n') + get('v1/stream/log?offset=-1') + get('schema') + get('nothing'))
    gone.send(get('query?sql=select+k+from+n'))
    // A body that is streamed into the app, and whose end comes while the app is held.
    up.send(`PUT /apps/default/blobs/${createHash('sha256').update(content).digest('hex')} HTTP/1.1\r\nHost: x\r\nContent-Length: ${content.length}\r\n\r\n`).send(content)
    await quickly(quick)
    gone.destroy()
    await quickly(quick, 3)
    assert.equal(raw.input.length + up.input.length, 0)
    go()
    assert.equal((await fate).status, 200)
    assert.deepEqual((await raw.reply()).json.rows.map((r) => r.k), [1])
    assert.equal((await raw.reply()).text, '')
    assert.equal((await raw.reply()).json.tables[0].name, 'n')
    assert.equal((await raw.reply()).status, 404)
    assert.equal((await up.reply()).status, 201)
    raw.destroy()
    up.destroy()
})

test('whoever leaves an upload while a barrier is held leaves nothing broken', { skip }, async (t) => {
    const { s, app, quick, hold, held, go } = await heldService(t)
    const tus = { 'tus-resumable': '1.0.0' }
    const made = async (headers) => (await app.request('POST', '/uploads', { headers: { ...tus, ...headers } })).headers.location
    const at = (location) => app.request('HEAD', new URL(location, s.url).pathname.slice(app.base.length), { headers: tus })
    // A length that is told and not kept yet; all bytes without the body's end; a part of them.
    const kinds = [['upload-defer-length: 1', 'Upload-Length: 5\r\nContent-Length: 5', ''], ['upload-length: 5', 'Transfer-Encoding: chunked', '5\r\nhello\r\n'], ['upload-length: 9', 'Content-Length: 9', 'some']]
    const uploads = []
    for (const [how, head, body] of kinds) {
        const [name, value] = how.split(': ')
        const location = await made({ [name]: value }), raw = new Raw(s)
        raw.send(`PATCH ${new URL(location, s.url).pathname} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\nExpect: 100-continue\r\n${head}\r\n\r\n`)
        await eventually('it may send', () => String(raw.input).includes('100 Continue'))
        uploads.push({ location, raw, body })
    }
    for (const u of uploads) u.raw.send(u.body)
    await quickly(quick, 1)
    hold('/apps/default/journal/')
    const fate = app.send({ ops: [insert('n', { k: 1 })] })
    await held()
    for (const u of uploads) u.raw.socket.resetAndDestroy() // an end in order is looked at behind the barrier
    await quickly(quick)
    go()
    assert.equal((await fate).status, 200)
    await eventually('what came is kept', async () => {
        const states = await Promise.all(uploads.map((u) => at(u.location)))
        assert.equal(states[0].headers['upload-length'] ?? '5', '5')
        return states.map((r) => r.headers['upload-offset']).join() === '0,5,4'
    })
})

test('kill -9 while a barrier is held loses only what was not acknowledged', { skip }, async (t) => {
    const { s, app, hold, held, go } = await heldService(t)
    for (let k = 1; k <= 5; k++) await app.batch([insert('n', { k })])
    hold('/apps/default/journal/')
    const batch = { key: 'held', ops: [insert('n', { k: 6 })] }
    const lost = app.send(batch).catch((e) => e)
    await held()
    await s.kill()
    assert.ok(await lost instanceof Error)
    go()
    await s.start()
    const before = (await app.rows('select k from n order by k')).map((r) => r.k)
    assert.deepEqual(before.slice(0, 5), [1, 2, 3, 4, 5])
    assert.equal((await app.send(batch)).json.fate, 'accepted')
    assert.deepEqual((await app.rows('select k from n order by k')).map((r) => r.k), [1, 2, 3, 4, 5, 6])
})

test('a commit of the database that takes long is its own app\'s, too', { skip }, async (t) => {
    const { app, quick, hold, held, go } = await heldService(t)
    await app.batch([insert('n', { k: 0 })])
    await eventually('the first commit, behind which the app\'s thread has the database', async () => {
        await app.batch([insert('n', { k: 0 })])
        return Number(/segue_db_commits_total\{app="default"\} (\d+)/.exec(await app.metrics())[1]) >= 2
    })
    hold('/apps/default/db/')
    await app.batch([insert('n', { k: 1 })]) // acknowledged: the journal has it
    await held()
    const order = new Order()
    const read = order.add('read', app.query('select k from n where k = 1'))
    await quickly(quick)
    assert.deepEqual(order.done, [])
    go()
    assert.equal((await read).rows.length, 1)
})

test('a service that is asked to stop while a barrier is held ends in order', { skip }, async (t) => {
    const { s, app, hold, held, go } = await heldService(t)
    hold('/apps/default/journal/')
    const fate = app.send({ ops: [insert('n', { k: 1 })] })
    await held()
    const requests = async () => Number(/segue_requests_total (\d+)/.exec(await app.metrics())[1])
    let known = await requests()
    const second = app.send({ ops: [insert('n', { k: 2 })] })
    await eventually('the second one is there', async () => await requests() > ++known)
    const stopped = s.stop()
    await eventually('it knows', () => /stopping/.test(s.child.stderr))
    go()
    assert.equal((await fate).json.seq, 3)
    assert.ok([200, 503].includes((await second).status))
    assert.equal(await stopped, 0)
    await s.start()
    const rows = await app.rows('select k from n order by k')
    assert.deepEqual(rows.map((r) => r.k), (await second).status === 200 ? [1, 2] : [1])
})

test('who was held when the service was asked to stop does not keep it from ending', { skip }, async (t) => {
    const { s, app, hold, held, go } = await heldService(t)
    hold('/apps/default/journal/')
    const fate = app.send({ ops: [insert('n', { k: 1 })] })
    await held()
    const sub = new Raw(s), follower = new Raw(s)
    const requests = async () => Number(/segue_requests_total (\d+)/.exec(await app.metrics())[1])
    let known = await requests()
    sub.send('GET /apps/default/subscribe?query=select+k+from+n HTTP/1.1\r\nHost: x\r\n\r\n')
    follower.send('GET /apps/default/v1/stream/log?offset=-1&live=sse HTTP/1.1\r\nHost: x\r\n\r\n')
    await eventually('both are there', async () => await requests() >= ++known + 2)
    const stopped = s.stop()
    await eventually('it knows', () => /stopping/.test(s.child.stderr))
    go()
    assert.equal((await fate).json.seq, 3)
    assert.equal(await stopped, 0)
    assert.doesNotMatch(s.child.stderr, /connections are cut/)
    for (const raw of [sub, follower]) raw.destroy()
})

test('an app can be dropped while its barrier is held', { skip }, async (t) => {
    const { s, app, quick, hold, held, go } = await heldService(t)
    await quickly(app, 3)
    const sub = new Subscriber(quick, { queries: { q: 'select k from n' } })
    await sub.open()
    hold('/apps/quick/journal/')
    const fate = quick.send({ ops: [insert('n', { k: 1 })] })
    await held()
    const dropped = request(s, 'DELETE', '/apps/quick')
    await eventually('nobody finds it', async () => (await quick.request('GET', '/schema')).status === 404)
    await quickly(app)
    go()
    assert.equal((await fate).status, 200) // it was durable before it was gone
    assert.equal((await dropped).status, 204)
    await sub.ended
    assert.equal((await request(s, 'PUT', '/apps/quick')).status, 201)
    assert.deepEqual((await quick.request('GET', '/schema')).json.tables, [])
})

test('a disk that turns slow is noticed, and so is its recovery', { skip }, async (t) => {
    const { app, say } = await heldService(t, [])
    const metric = async (name) => Number(new RegExp(`${name}\\{app="default"\\} (\\d+)`).exec(await app.metrics())[1])
    await quickly(app)
    const usual = await metric('segue_barrier_mean_microseconds')
    say('slow:10:/apps/default/\n')
    await eventually('the barrier leaves the loop', async () => {
        await app.batch([append('log', 'x')])
        return await metric('segue_barrier_on_thread') === 1
    })
    await app.batch([append('log', 'x')])
    assert.ok(await metric('segue_flights_total') > 0)
    say('')
    if (usual > 300) return // this disk is slow by itself
    await eventually('it comes back', async () => {
        await app.batch([append('log', 'x')])
        return await metric('segue_barrier_on_thread') === 0
    })
    await app.batch([append('log', 'x')])
})
