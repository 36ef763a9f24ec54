// Several loops: each app on one of them, its connections with it. service/README.md, "Loops"; PROTOCOL.md, sections 2 and 12.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { createHash, randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { App, append, assertProblem, create, insert, Raw, request } from './lib/http.mjs'
import { Child, eventually, preload, root, SEGUED, service, sleep, tempFolder } from './lib/service.mjs'
import { Subscriber, subscribe } from './lib/sse.mjs'
import { follow } from './lib/ws.mjs'

const so = path.resolve(process.env.DISK_SO || path.join(root, 'build/tests/lib/disk.so'))
const SQL = 'create table notes (text text)'
const loops = (n, options = {}) => ({ ...options, args: ['--loops', String(n), ...(options.args || [])] })
const make = (s, name) => request(s, 'PUT', `/apps/${name}`)
const drop = (s, name) => request(s, 'DELETE', `/apps/${name}`)
const list = async (s) => (await request(s, 'GET', '/apps')).json.apps
const metrics = async (s) => (await request(s, 'GET', '/metrics')).text

// A figure of the metrics, by its whole name: the sum of all that match.
const figure = (text, name) => [...text.matchAll(new RegExp(`^${name} ([0-9.]+)$`, 'gm'))].reduce((sum, m) => sum + Number(m[1]), 0)

// Which loop serves which app: {name: loop}.
const places = async (s) => Object.fromEntries([...(await metrics(s)).matchAll(/^segue_app_loop\{app="([^"]+)"\} (\d+)$/gm)].map((m) => [m[1], Number(m[2])]))

// Apps with a table and a stream, each on a loop that none before it is on.
async function spread(s, names) {
    const apps = []
    for (const name of names) {
        assert.equal((await make(s, name)).status, 201)
        const app = new App(s, { name })
        await app.schema(SQL)
        await app.batch([create('log', 'text/plain')])
        apps.push(app)
    }
    return apps
}

test('apps are spread over the loops, also those of an earlier run, behind kill -9', async (t) => {
    const s = await service(t, loops(3))
    const names = ['a', 'b', 'c', 'd', 'e']
    const apps = await spread(s, names)
    for (const [i, app] of apps.entries()) await app.batch([insert('notes', { text: names[i] }), append('log', names[i])])
    const check = async () => {
        const where = await places(s)
        assert.deepEqual(Object.keys(where).sort(), [...names, 'default'].sort())
        assert.deepEqual([...new Set(Object.values(where))].sort(), [0, 1, 2], 'every loop has some')
        assert.deepEqual((await list(s)).map((a) => a.app).sort(), [...names, 'default'].sort())
        for (const [i, app] of apps.entries()) {
            assert.deepEqual((await app.rows('select text from notes')).map((r) => r.text), [names[i]])
            assert.equal((await app.readStream('log')).bytes.toString(), names[i])
        }
    }
    await check()
    await s.kill()
    await s.start()
    await check()
    await s.stop()
    s.options.args = ['--loops', '1'] // the loops leave no trace on the disk
    await s.start()
    assert.deepEqual(new Set(Object.values(await places(s))), new Set([0]))
    for (const app of apps) assert.equal((await app.rows('select text from notes')).length, 1)
})

test('one connection speaks to apps of several loops, pipelined and in order', async (t) => {
    const s = await service(t, loops(3))
    await spread(s, ['a', 'b', 'c'])
    const raw = new Raw(s)
    const asked = []
    const ask = (text, check) => { raw.send(text); asked.push(check) }
    const get = (where) => `GET ${where} HTTP/1.1\r\nHost: x\r\n\r\n`
    for (let i = 0; i < 40; i++) {
        const name = ['a', 'b', 'default', 'c'][(i * 7) % 4]
        if (i % 5 === 4) ask(get('/healthz'), (r) => assert.equal(r.json.status, 'ready'))
        else if (i % 5 === 3) ask(get(`/apps/none${i}/schema`), (r) => assertProblem(r, 404, 'no_such_app'))
        else if (i % 5 === 2) ask(get(`/apps/${name}`), (r) => assert.equal(r.json.app, name))
        else {
            const body = `${i},`
            ask(`PUT /apps/${name}/v1/stream/s${i} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: ${body.length}\r\n\r\n${body}`, (r) => assert.equal(r.status, 201, r.text))
            ask(get(`/apps/${name}/v1/stream/s${i}?offset=-1`), (r) => assert.equal(r.text, body))
        }
    }
    for (const check of asked) check(await raw.reply())
    await raw.assertAlive()
    assert.ok(figure(await metrics(s), 'segue_connections_moved_total') > 20)
    raw.destroy()
})

test('a pool of kept connections serves all apps', async (t) => {
    const s = await service(t, loops(2))
    const agent = new http.Agent({ keepAlive: true, maxSockets: 3 })
    t.after(() => agent.destroy())
    await spread(s, ['a', 'b', 'c'])
    const apps = ['a', 'b', 'c', 'default'].map((name) => new App(s, { name, agent }))
    await apps[3].schema(SQL)
    const ops = Array.from({ length: 120 }, (_, i) => apps[i % 4].batch([insert('notes', { text: `${i}` })]))
    await Promise.all(ops)
    for (const [k, app] of apps.entries()) {
        const texts = (await app.rows('select text from notes')).map((r) => Number(r.text)).sort((x, y) => x - y)
        assert.deepEqual(texts, Array.from({ length: 30 }, (_, i) => 4 * i + k))
    }
})

test('subscribers of apps of all loops get what is theirs, over one kind of connection as the other', async (t) => {
    const s = await service(t, loops(3))
    const apps = await spread(s, ['a', 'b', 'c'])
    const spec = { queries: { q: 'select text from notes' }, streams: { log: 'log' } }
    const sockets = await Promise.all(apps.map((app) => follow(t, app, spec)))
    const events = await Promise.all(apps.map((app) => subscribe(t, app, spec)))
    for (let i = 0; i < 15; i++) await Promise.all(apps.map((app, k) => app.batch([insert('notes', { text: `${k}` }), append('log', `${k}`)])))
    for (const [k, peer] of sockets.entries()) {
        await peer.until('all rows', (f) => f.views.q.size === 15)
        assert.deepEqual(new Set(peer.fold.views.q.rows().map((r) => r.text)), new Set([`${k}`]))
    }
    for (const [k, sub] of events.entries()) {
        await eventually('all bytes', () => sub.fold.views.log.offset === 15)
        assert.equal(Buffer.from(sub.fold.views.log.bytes).toString(), `${k}`.repeat(15))
    }
})

test('a large body comes whole to the loop it belongs to, on a connection from another', async (t) => {
    const s = await service(t, loops(2))
    await spread(s, ['a', 'b'])
    const where = await places(s)
    assert.notEqual(where.a, where.b)
    const bytes = randomBytes(5 * 1024 * 1024), digest = createHash('sha256').update(bytes).digest('hex')
    const raw = new Raw(s)
    for (const name of ['a', 'b', 'a']) {
        raw.send(`PUT /apps/${name}/blobs/${digest} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: ${bytes.length}\r\nExpect: 100-continue\r\n\r\n`)
        let reply = await raw.reply()
        if (reply.status === 100) {
            raw.send(bytes)
            reply = await raw.reply()
        }
        assert.ok([200, 201].includes(reply.status), reply.text)
        raw.send(`GET /apps/${name}/blobs/${digest} HTTP/1.1\r\nHost: x\r\n\r\n`)
        const got = await raw.reply()
        assert.equal(createHash('sha256').update(got.body).digest('hex'), digest)
    }
    raw.destroy()
})

test('health and metrics are those of all loops', async (t) => {
    const s = await service(t, loops(3))
    const apps = await spread(s, ['a', 'b', 'c'])
    const before = await metrics(s)
    for (const [i, app] of apps.entries())
        for (let k = 0; k <= i; k++) await app.batch([insert('notes', { text: 'x' })])
    const peers = await Promise.all(apps.map((app) => follow(t, app, { queries: { q: 'select * from notes' } })))
    const text = await metrics(s)
    for (const [i, name] of ['a', 'b', 'c'].entries()) {
        assert.equal(figure(text, `segue_seq\\{app="${name}"\\}`), 3 + i)
        assert.equal(figure(text, `segue_commits_total\\{app="${name}"\\}`), 3 + i)
        assert.equal(figure(text, `segue_app_ready\\{app="${name}"\\}`), 1)
    }
    assert.equal(figure(text, 'segue_loop_busy\\{loop="\\d"\\}'), 0)
    assert.equal((text.match(/^segue_loop_cpu_seconds_total/gm) || []).length, 4, 'three with apps, and the one that accepts')
    assert.ok(figure(text, 'segue_connections') >= peers.length)
    assert.ok(figure(text, 'segue_requests_total') - figure(before, 'segue_requests_total') >= 6 + peers.length)
    assert.equal(figure(text, 'segue_connections'), figure(text, 'segue_loop_connections\\{loop="\\d"\\}'))
    const health = await request(s, 'GET', '/healthz')
    assert.deepEqual([health.status, health.json.status, health.json.apps.c], [200, 'ready', { state: 'ready', seq: 5 }])
})

test('an app that many make at once is made once', async (t) => {
    const s = await service(t, loops(4))
    for (const name of ['x', 'y', 'z']) {
        const replies = await Promise.all(Array.from({ length: 12 }, () => make(s, name)))
        assert.deepEqual(replies.map((r) => r.status).sort(), [...Array(11).fill(200), 201])
    }
    assertProblem(await make(s, 'No'), 400, 'bad_parameter')
    assertProblem(await drop(s, 'none'), 404, 'no_such_app')
    assertProblem(await drop(s, 'default'), 403, 'forbidden')
    assertProblem(await request(s, 'GET', '/apps/none'), 404, 'no_such_app')
    assert.deepEqual((await list(s)).map((a) => a.app).sort(), ['default', 'x', 'y', 'z'])
})

test('an app is dropped while it is used, and nobody else notices', async (t) => {
    const s = await service(t, loops(3))
    const agent = new http.Agent({ keepAlive: true, maxSockets: 8 })
    t.after(() => agent.destroy())
    await spread(s, ['a', 'b', 'c'])
    const at = (name) => new App(s, { name, agent })
    const peers = await Promise.all(['a', 'b', 'c'].map((name) => follow(t, at(name), { queries: { q: 'select * from notes' } })))
    let over = false
    const counts = { a: 0, c: 0 }
    const other = async (name) => {
        while (!over) {
            await at(name).batch([insert('notes', { text: 'x' })])
            counts[name]++
        }
    }
    const doomed = async () => {
        while (!over) {
            const reply = await at('b').send({ ops: [insert('notes', { text: 'x' })] })
            if (reply.status === 200) continue
            assert.ok(['no_such_app', 'no_such_table', 'shutting_down', 'busy'].includes(reply.json.code), reply.text)
        }
    }
    const work = Promise.all([other('a'), other('c'), doomed(), doomed(), doomed()])
    for (let i = 0; i < 4; i++) {
        await eventually('the others go on', () => counts.a > 5 * i && counts.c > 5 * i)
        assert.equal((await drop(s, 'b')).status, 204)
        if (i === 0) assert.equal((await peers[1].answer('why it ends', (a) => a.type === 'error')).code, 'no_such_app')
        assert.equal((await make(s, 'b')).status, 201)
        await at('b').schema(SQL)
    }
    over = true
    await work
    for (const [k, name] of [[0, 'a'], [2, 'c']]) await peers[k].until('all rows', (f) => f.views.q.size === counts[name])
})

// Writers that count what was acknowledged, one for each app.
function writers(names, s) {
    const acked = Object.fromEntries(names.map((name) => [name, 0]))
    const stop = { over: false }
    const work = Promise.all(names.map(async (name) => {
        const app = new App(s, { name })
        while (!stop.over) {
            const reply = await app.send({ ops: [append('log', 'x')] }).catch(() => undefined)
            if (reply === undefined) return
            if (reply.status === 200) acked[name]++
        }
    }))
    return { acked, stop, work }
}

test('what was acknowledged by any loop is there behind kill -9 and behind SIGTERM', async (t) => {
    const s = await service(t, loops(3))
    const names = ['a', 'b', 'c']
    await spread(s, names)
    const total = Object.fromEntries(names.map((name) => [name, 0]))
    for (const way of ['kill', 'stop', 'kill']) {
        const w = writers(names, s)
        await eventually('some of each', () => names.every((name) => w.acked[name] > 10))
        const ended = await s[way]()
        if (way === 'stop') assert.equal(ended, 0)
        await w.work
        await s.start()
        for (const name of names) {
            total[name] += w.acked[name]
            const { bytes } = await new App(s, { name }).readStream('log')
            assert.ok(bytes.length >= total[name], `${name}: ${bytes.length} of ${total[name]}`)
            total[name] = bytes.length
        }
    }
})

test('an app that cannot be opened keeps the service from starting, and is named', async (t) => {
    const s = await service(t, loops(3))
    await spread(s, ['a', 'b', 'c'])
    await s.stop()
    const journal = path.join(s.data, 'apps/b/journal')
    fs.renameSync(journal, `${journal}.kept`)
    fs.writeFileSync(journal, 'no folder')
    const failed = await new Child(SEGUED, ['--data', s.data, '--listen', '127.0.0.1:0', '--dev', '--loops', '3']).end()
    assert.equal(failed.code, 1, failed.stderr)
    assert.match(failed.stderr, /segued: .*\/apps\/b\//)
    fs.rmSync(journal)
    fs.renameSync(`${journal}.kept`, journal)
    await s.start()
    assert.equal((await list(s)).length, 4)
})

const skip = !fs.existsSync(so) && `${so} is not there`

// Two apps on two loops, and a disk that does what `say` says (tests/lib/disk.h). It is the loops that wait for it.
async function uneven(t) {
    const control = path.join(tempFolder(t), 'control')
    fs.writeFileSync(control, '')
    const s = await service(t, loops(2, { args: ['--barrier', 'loop'], env: { LD_PRELOAD: preload(so), SEGUE_DISK_CONTROL: control } }))
    const [slow, quick] = await spread(s, ['slow', 'quick'])
    const where = await places(s)
    assert.notEqual(where.slow, where.quick)
    return { s, slow, quick, say: (line) => { fs.writeFileSync(`${control}.new`, line); fs.renameSync(`${control}.new`, control) } }
}

test('uploads to a slow disk leave the threads of other loops alone', { skip }, async (t) => {
    const { slow, quick, say } = await uneven(t)
    const put = async (app) => {
        const body = randomBytes(300 * 1024)
        const reply = await app.request('PUT', `/blobs/${createHash('sha256').update(body).digest('hex')}`, { body })
        assert.equal(reply.status, 201, reply.text)
    }
    await put(slow)
    say('slow:3000:/apps/slow/packs/\n')
    let answered = 0
    const late = Promise.all(Array.from({ length: 12 }, () => put(slow).then(() => answered++)))
    await sleep(100)
    for (let i = 0; i < 3; i++) await put(quick)
    assert.equal(answered, 0, 'three uploads of the one went before one of the other')
    say('')
    await late
})

test('an app whose barrier fails is built again while the other one serves', { skip }, async (t) => {
    const { slow, quick, say } = await uneven(t)
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
    t.after(() => agent.destroy())
    const kept = new App(quick.s, { name: 'quick', agent })
    for (let i = 0; i < 3; i++) {
        say(`sync:/apps/slow/journal/:1:EIO:1\n`)
        const refused = await slow.send({ ops: [append('log', 'x')] })
        assert.ok(['fate_unknown', 'io_error', 'busy'].includes(refused.json.code), refused.text)
        await kept.batch([append('log', 'y')])
        say('')
        await eventually('that it takes writes again', async () => (await slow.send({ ops: [append('log', 'z')] })).status === 200)
    }
    assert.ok(figure(await metrics(quick.s), 'segue_recoveries_total\\{app="slow"\\}') >= 3)
    assert.equal(figure(await metrics(quick.s), 'segue_recoveries_total\\{app="quick"\\}'), 0)
    assert.equal((await quick.readStream('log')).bytes.toString(), 'yyy')
})

test('a disk that is slow for one app keeps the apps of other loops waiting for nothing', { skip }, async (t) => {
    const { s, slow, quick, say } = await uneven(t)
    say('slow:4000:/apps/slow/\n')
    let answered = false
    const late = slow.batch([append('log', 'late')]).then(() => { answered = true })
    await sleep(50)
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
    t.after(() => agent.destroy())
    const kept = new App(s, { name: 'quick', agent })
    // On a connection that is there, and on new ones.
    for (let i = 0; i < 10; i++) {
        await kept.batch([append('log', 'x')])
        await quick.batch([append('log', 'y')])
    }
    assert.equal(answered, false, 'twenty batches of the one went before one of the other')
    // While its loop waits for the disk, it is said to be busy, and the rest is told.
    const busy = await eventually('a busy loop', async () => {
        const apps = await list(s)
        return apps.some((a) => a.state === 'busy') && apps
    })
    assert.deepEqual(busy.find((a) => a.app === 'slow'), { app: 'slow', state: 'busy' })
    assert.equal(busy.find((a) => a.app === 'quick').state, 'ready')
    const unwell = await eventually('that health tells it', async () => {
        const health = await request(s, 'GET', '/healthz')
        return health.status === 503 && health
    })
    assert.equal(unwell.json.status, 'busy')
    say('')
    await late
    await eventually('that all is well', async () => (await request(s, 'GET', '/healthz')).status === 200)
    assert.equal((await slow.readStream('log')).bytes.toString(), 'late')
    assert.equal((await quick.readStream('log')).bytes.toString(), 'xy'.repeat(10))
})

test('SIGTERM ends the subscribers of every loop in order', async (t) => {
    const s = await service(t, loops(3))
    const apps = await spread(s, ['a', 'b', 'c'])
    const subs = []
    for (const app of apps) {
        const sub = new Subscriber(app, { streams: { log: 'log' } })
        await sub.open()
        await sub.untilLive()
        subs.push(sub)
    }
    const idle = new Raw(s)
    await idle.assertAlive()
    assert.equal(await s.stop(), 0)
    await Promise.all(subs.map((sub) => sub.ended))
    await idle.assertClosed()
})
