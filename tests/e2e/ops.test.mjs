// Running the service: keys, health, flags, stopping. PROTOCOL.md, sections 2 and 10.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { App, assertProblem, create, Raw, request } from './lib/http.mjs'
import { Child, eventually, SEGUED, service, tempFolder } from './lib/service.mjs'
import { Subscriber } from './lib/sse.mjs'

// Runs segued to its end with these arguments.
const segued = (...args) => new Child(SEGUED, args).end()

test('without --dev every door asks for the key, which is made once and readable by its owner alone', async (t) => {
    const s = await service(t, { dev: false })
    const file = path.join(s.data, 'admin.key')
    assert.equal(fs.statSync(file).mode & 0o777, 0o600)
    const key = fs.readFileSync(file, 'utf8').trim()
    assert.ok(key.length >= 32, 'a key that is not guessed')
    const app = new App(s, { key })
    const nobody = new App(s)
    const doors = [
        ['GET', '/schema'], ['PUT', '/schema', 'create table a (x text)'], ['POST', '/batch', '{"ops":[{"op":"create","stream":"s"}]}'], ['GET', '/query?sql=select+*+from+a'],
        ['GET', '/subscribe?stream=s'], ['PUT', '/v1/stream/s'], ['GET', '/v1/stream/s'], ['PUT', `/blobs/${'0'.repeat(64)}`, ''], ['GET', `/blobs/${'0'.repeat(64)}`],
    ]
    for (const [method, where, body] of doors) {
        const refused = await nobody.request(method, where, { body })
        assertProblem(refused, 401, 'unauthenticated')
        assert.match(refused.headers['www-authenticate'] || 'Bearer', /^Bearer/)
    }
    for (const bearer of ['Bearer wrong', `Bearer ${key}x`, `Bearer ${key.slice(0, -1)}`, `Basic ${key}`, key, 'Bearer '])
        assertProblem(await nobody.request('GET', '/schema', { headers: { authorization: bearer } }), 401, 'unauthenticated')
    assertProblem(await request(s, 'GET', '/metrics'), 401, 'unauthenticated')
    const health = await request(s, 'GET', '/healthz')
    assert.deepEqual([health.status, health.json], [200, { status: 'ready' }], 'which apps there are is nobody’s business')
    await app.schema('create table a (x text)')
    await app.batch([create('s')])
    const sub = new Subscriber(app, { streams: { s: 's' } })
    await sub.open()
    await sub.untilLive()
    sub.cut()
    await s.stop()
    await s.start()
    assert.equal(fs.readFileSync(file, 'utf8').trim(), key, 'a restart keeps the key')
    assert.equal((await app.request('GET', '/schema')).status, 200)
    assert.ok(!s.child.stderr.includes(key) && !s.child.stdout.includes(key), 'the key is in no log')
})

test('healthz and metrics', async (t) => {
    const s = await service(t)
    const app = new App(s)
    await app.batch([create('a')])
    const health = await request(s, 'GET', '/healthz')
    assert.deepEqual([health.status, health.json], [200, { status: 'ready', apps: { default: { state: 'ready', seq: 1 } } }])
    const metrics = await request(s, 'GET', '/metrics')
    assert.match(metrics.headers['content-type'], /^text\/plain/)
    assert.match(metrics.text, /^segue_seq\{app="default"\} 1$/m)
    assert.match(metrics.text, /^segue_commits_total\{app="default"\} 1$/m)
    assert.match(metrics.text, /^segue_subscriptions 0$/m)
    for (const line of metrics.text.trimEnd().split('\n'))
        assert.match(line, /^(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{[a-z]+="[^"]*"\})? [0-9.]+)$/)
})

test('SIGTERM: what was begun is answered, connections end, status 0', async (t) => {
    for (const signal of ['SIGTERM', 'SIGINT']) {
        const s = await service(t)
        const app = new App(s)
        await app.batch([create('s')])
        const idle = new Raw(s)
        await idle.assertAlive()
        const sub = new Subscriber(app, { streams: { s: 's' } })
        await sub.open()
        await sub.untilLive()
        const poll = app.request('GET', `${app.stream('s')}?offset=now&live=long-poll`).catch((e) => e)
        const fates = Promise.all(Array.from({ length: 20 }, () => app.send({ ops: [{ op: 'append', stream: 's', text: 'x' }] }).catch(() => undefined)))
        await eventually('the first append', () => sub.fold.views.s.offset > 0)
        s.asked = true
        s.child.signal(signal)
        await idle.assertClosed()
        await sub.ended
        const { code } = await s.child.end()
        assert.equal(code, 0)
        await poll
        const accepted = (await fates).filter((r) => r?.status === 200).length
        await s.start()
        assert.ok((await app.readStream('s')).bytes.length >= accepted)
    }
})

test('a second service on the same data is refused, and the first goes on', async (t) => {
    const s = await service(t)
    const second = await segued('--data', s.data, '--listen', '127.0.0.1:0', '--dev')
    assert.equal(second.code, 1)
    assert.ok(second.stderr.length > 0)
    await new App(s).batch([create('a')])
})

test('a port that is taken is an error with a reason', async (t) => {
    const s = await service(t)
    const second = await segued('--data', tempFolder(t), '--listen', `127.0.0.1:${s.port}`, '--dev')
    assert.equal(second.code, 1)
    assert.match(second.stderr, /listen|port/)
})

test('wrong usage ends with 2 and names what is wrong', async (t) => {
    const data = tempFolder(t)
    const wrong = [
        [['--nonsense'], /nonsense/], [['--data'], /data/], [[], /data/], [['--data', data, '--listen', 'nowhere'], /listen/], [['--data', data, '--listen', '127.0.0.1:99999'], /listen/],
        [['--data', data, '--dev', '--listen', '0.0.0.0:0'], /dev/], [['--data', data, '--dev', '--listen', '[::]:0'], /dev/], [['--data', data, '--dev=yes'], /dev/],
        [['--data', data, 'extra'], /extra/], [['--data', data, '--seal-quiet-ms', 'soon'], /seal-quiet-ms/], [['--data', data, '--config', path.join(data, 'none')], /none/],
    ]
    for (const [args, why] of wrong) {
        const { code, stderr } = await segued(...args)
        assert.equal(code, 2, args.join(' '))
        assert.match(stderr, why)
    }
    const help = await segued('--help')
    assert.deepEqual([help.code, /--data/.test(help.stdout)], [0, true])
    assert.equal((await segued('--version')).code, 0)
})

test('a configuration file says the same, and the command line wins', async (t) => {
    const folder = tempFolder(t)
    const file = path.join(folder, 'segue.conf')
    fs.writeFileSync(file, `# a comment\nlong-poll-ms = 60000\nseal-quiet-ms = 100   # and another\n\ndev = true\nlisten = 127.0.0.1:0\n`)
    const s = await service(t, { dev: false, args: ['--config', file, '--long-poll-ms', '50'] })
    const app = new App(s)
    await app.batch([create('s')])
    const began = Date.now()
    assert.equal((await app.request('GET', `${app.stream('s')}?offset=now&live=long-poll`)).status, 204)
    assert.ok(Date.now() - began < 30000)
    fs.writeFileSync(file, 'nonsense = 1\n')
    const bad = await segued('--data', folder, '--config', file)
    assert.equal(bad.code, 2)
    assert.match(bad.stderr, /nonsense/)
    assert.match(bad.stderr, /line 1/)
})

test('silence on a subscription is broken by a comment', async (t) => {
    const s = await service(t, { args: ['--heartbeat-ms', '50'] })
    const app = new App(s)
    const sub = new Subscriber(app, { streams: { s: 's' } })
    await sub.open()
    await eventually('three comments', () => sub.parser.comments >= 3)
    sub.cut()
})
