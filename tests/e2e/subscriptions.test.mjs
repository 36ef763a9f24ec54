// Subscriptions of workers: PROTOCOL.md, section 8.
import assert from 'node:assert/strict'
import { createPublicKey, verify } from 'node:crypto'
import dns from 'node:dns/promises'
import fs from 'node:fs'
import http from 'node:http'
import os from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { App, assertProblem } from './lib/http.mjs'
import { eventually, service, sleep } from './lib/service.mjs'

const json = { 'content-type': 'application/json' }

async function streams(t, options) { return new App(await service(t, options)) }

const ds = (app, below, method = 'GET', body, headers = {}) =>
    app.request(method, `/v1/stream/__ds/${below}`, { headers: { ...json, ...headers }, body: body === undefined ? undefined : JSON.stringify(body) })

async function subscribe(app, id, config, status = 201) {
    const reply = await ds(app, `subscriptions/${id}`, 'PUT', config)
    assert.equal(reply.status, status, reply.text)
    return reply.json
}

async function show(app, id) {
    const reply = await ds(app, `subscriptions/${id}`)
    assert.equal(reply.status, 200, reply.text)
    return reply.json
}

// One JSON message, into a new stream or one that is there.
async function say(app, stream, event) {
    const reply = await app.request('PUT', app.stream(stream), { headers: json, body: '[]' })
    assert.ok([200, 201].includes(reply.status), reply.text)
    const said = await app.request('POST', app.stream(stream), { headers: json, body: JSON.stringify(event) })
    assert.equal(said.status, 204, said.text)
}

const events = async (app, stream) => (await app.request('GET', app.stream(stream))).json
const code = (reply, status, name) => assert.deepEqual([reply.status, reply.json.error?.code], [status, name], reply.text)
const acked = async (app, id, stream) => (await show(app, id)).streams.find((s) => s.path === stream)?.acked_offset
const bearer = (token) => ({ authorization: `Bearer ${token}` })

// A webhook's target. `answer(wake, res, n)` answers the nth delivery; without one it is {}.
class Receiver {
    constructor(answer) {
        this.wakes = []
        this.server = http.createServer((req, res) => {
            const pieces = []
            req.on('data', (piece) => pieces.push(piece))
            req.on('end', () => {
                const raw = Buffer.concat(pieces)
                const wake = { raw, body: JSON.parse(raw), signature: req.headers['webhook-signature'], type: req.headers['content-type'], at: Date.now(), url: req.url }
                this.wakes.push(wake)
                if (answer) answer(wake, res, this.wakes.length)
                else res.end('{}')
            })
        })
    }

    async start(t) {
        await new Promise((done) => this.server.listen(0, '127.0.0.1', done))
        t.after(() => { this.server.closeAllConnections(); this.server.close() })
        this.url = `http://127.0.0.1:${this.server.address().port}/hook`
        return this
    }

    wake(n) { return eventually(`wake ${n}`, () => this.wakes[n - 1]) }
}

const receiver = (t, answer) => new Receiver(answer).start(t)
const done = (wake, res) => res.end('{"done":true}')
const webhook = (r, more = {}) => ({ type: 'webhook', pattern: 'events/*', webhook: { url: r.url }, lease_ttl_ms: 1000, ...more })

test('a webhook is signed with the key that the service shows, and a done answer acknowledges what it told', async (t) => {
    const app = await streams(t)
    const r = await receiver(t, done)
    await say(app, 'events/old', { before: true })
    const made = await subscribe(app, 's', webhook(r))
    assert.equal(made.webhook.signing.jwks_url, `${app.s.url}/apps/default/v1/stream/__ds/jwks.json`)
    await say(app, 'events/a', { n: 1 })
    const wake = await r.wake(1)
    assert.deepEqual([wake.type, wake.body.subscription_id, wake.body.generation], ['application/json', 's', 1])
    assert.deepEqual(wake.body.streams.map((s) => [s.path, s.link_type, s.has_pending]), [['events/a', 'glob', true]])
    assert.equal(wake.body.callback_url, `${app.s.url}/apps/default/v1/stream/__ds/subscriptions/s/callback`)
    const jwks = await ds(app, 'jwks.json')
    assert.deepEqual([jwks.headers['content-type'], jwks.headers['cache-control']], ['application/jwk-set+json', 'public, max-age=300'])
    const [, at, kid, signature] = /^t=(\d+),kid=([^,]+),ed25519=([A-Za-z0-9_-]+)$/.exec(wake.signature)
    const key = createPublicKey({ key: jwks.json.keys.find((k) => k.kid === kid), format: 'jwk' })
    assert.ok(verify(null, Buffer.concat([Buffer.from(`${at}.`), wake.raw]), key, Buffer.from(signature, 'base64url')))
    assert.ok(Math.abs(Date.now() / 1000 - at) < 60)
    await eventually('the cursor moves', async () => await acked(app, 's', 'events/a') === wake.body.streams[0].tail_offset)
    assert.equal(r.wakes.length, 1)
    // The key stays, and only its owner may read it.
    const file = path.join(app.s.data, 'webhook.key')
    assert.equal(fs.statSync(file).mode & 0o777, 0o600)
    await app.s.stop()
    await app.s.start()
    assert.equal((await ds(app, 'jwks.json')).json.keys[0].kid, kid)
})

test('a wake that came too late for the answer makes another', async (t) => {
    const app = await streams(t)
    const r = await receiver(t, (wake, res, n) => { if (n === 1) r.first = () => done(wake, res); else done(wake, res) })
    await subscribe(app, 's', webhook(r, { lease_ttl_ms: 20000 }))
    await say(app, 'events/a', 1)
    const one = await r.wake(1)
    await say(app, 'events/a', 2)
    r.first()
    const two = await r.wake(2)
    assert.ok(two.body.generation > one.body.generation && two.body.wake_id !== one.body.wake_id)
    assert.equal(two.body.streams[0].acked_offset, one.body.streams[0].tail_offset)
    await eventually('all is acknowledged', async () => await acked(app, 's', 'events/a') === two.body.streams[0].tail_offset)
})

test('a callback acknowledges, is fenced, and needs its token', async (t) => {
    const app = await streams(t)
    const r = await receiver(t)
    await subscribe(app, 's', webhook(r, { lease_ttl_ms: 20000 }))
    await say(app, 'events/a', 1)
    const { body } = await r.wake(1)
    const { wake_id, generation, callback_token: token } = body
    const answer = { wake_id, generation, acks: [{ stream: 'events/a', offset: body.streams[0].tail_offset }], done: true }
    const call = (more, headers = bearer(token)) => ds(app, 'subscriptions/s/callback', 'POST', { ...answer, ...more }, headers)
    assert.equal((await call({}, {})).status, 401)
    assert.equal((await call({}, bearer('0'.repeat(64)))).status, 401)
    code(await call({ generation: generation + 1 }), 409, 'FENCED')
    code(await call({ wake_id: 'w_00000000-0000-7000-8000-000000000000' }), 409, 'FENCED')
    code(await call({ acks: [{ stream: 'events/a', offset: '9999999' }] }), 400, 'BAD_OFFSET')
    assert.deepEqual((await call({ done: false, acks: [] })).json, { ok: true, next_wake: false })
    assert.deepEqual((await call()).json, { ok: true, next_wake: false })
    code(await call(), 409, 'FENCED')
    assert.equal(await acked(app, 's', 'events/a'), answer.acks[0].offset)
    assert.equal((await ds(app, 'subscriptions/s', 'DELETE')).status, 204)
    code(await call(), 404, 'NO_SUCH_SUBSCRIPTION')
})

test('a delivery that fails is tried again, later and later, also after kill -9', async (t) => {
    const app = await streams(t)
    let good = false
    const r = await receiver(t, (wake, res) => { res.statusCode = good ? 200 : 500; res.end('{"done":true}') })
    await subscribe(app, 's', webhook(r))
    await say(app, 'events/a', 1)
    await r.wake(2)
    assert.ok(r.wakes[1].at - r.wakes[0].at >= 700, 'a pause of about a second')
    assert.equal(r.wakes[1].body.wake_id, r.wakes[0].body.wake_id)
    const failed = await eventually('it is failed', async () => { const s = await show(app, 's'); return s.status === 'failed' && s.next_attempt_at && s })
    await app.s.kill()
    good = true
    await app.s.start()
    assert.ok(['failed', 'active'].includes((await show(app, 's')).status))
    const third = await r.wake(3)
    assert.ok(third.at >= Date.parse(failed.next_attempt_at) - 50, 'not before its time')
    assert.deepEqual([third.body.wake_id, third.body.generation], [r.wakes[0].body.wake_id, 1])
    await eventually('it is well again', async () => await acked(app, 's', 'events/a') === third.body.streams[0].tail_offset)
    assert.equal((await show(app, 's')).status, 'active')
})

test('what changed while nobody looked is found after kill -9', async (t) => {
    const app = await streams(t)
    const r = await receiver(t, (wake, res) => { if (r.on) done(wake, res); else { res.statusCode = 503; res.end() } })
    await subscribe(app, 's', webhook(r, { pattern: 'events/**', streams: ['named/one'] }))
    for (const stream of ['events/a', 'events/b/c', 'named/one', 'elsewhere/x']) await say(app, stream, 1)
    await app.s.kill()
    r.on = true
    await app.s.start()
    const at = async (stream) => Number(((await acked(app, 's', stream)) || '0').split('_').pop())
    for (const stream of ['events/a', 'events/b/c', 'named/one']) await eventually(stream, async () => await at(stream) > 0)
    assert.ok(!r.wakes.some((w) => w.body.streams.some((s) => s.path.startsWith('elsewhere'))))
})

test('a target that never answers, redirects, or says too much holds nothing up', async (t) => {
    const app = await streams(t)
    const silent = await receiver(t, () => {})
    const target = await receiver(t, done)
    const away = await receiver(t, (wake, res) => { res.writeHead(307, { location: target.url }); res.end() })
    const endless = await receiver(t, (wake, res) => { const go = () => { while (res.write('x'.repeat(65536))); res.once('drain', go) }; go() })
    await subscribe(app, 'silent', webhook(silent))
    await subscribe(app, 'away', webhook(away))
    await subscribe(app, 'endless', webhook(endless))
    await say(app, 'events/a', 1)
    await Promise.all([silent.wake(1), away.wake(1), endless.wake(1)])
    // The others are served meanwhile, and new work is taken.
    const quick = await receiver(t, done)
    await subscribe(app, 'quick', webhook(quick))
    await say(app, 'events/b', 1)
    await quick.wake(1)
    await away.wake(2)
    assert.equal(target.wakes.length, 0, 'no redirect is followed')
    await silent.wake(2)
    assert.equal(silent.wakes[1].body.wake_id, silent.wakes[0].body.wake_id, 'tried again')
    await eventually('silent has failed', async () => (await show(app, 'silent')).status === 'failed')
})

test('addresses that lead inside are refused', async (t) => {
    const app = await streams(t)
    for (const url of ['http://10.0.0.1/hook', 'https://169.254.169.254/', 'https://[::ffff:10.0.0.1]/', 'https://2130706433.evil@10.0.0.1/', 'http://worker.example/', 'ftp://x/', ''])
        code(await ds(app, 'subscriptions/s', 'PUT', { type: 'webhook', pattern: 'x', webhook: { url } }), 400, 'WEBHOOK_URL_REJECTED')
    const strict = new App(await service(t, { dev: false }))
    const key = fs.readFileSync(path.join(strict.s.data, 'admin.key'), 'utf8').trim()
    code(await ds(strict, 'subscriptions/s', 'PUT', { type: 'webhook', pattern: 'x', webhook: { url: 'http://127.0.0.1:1/' } }, bearer(key)), 400, 'WEBHOOK_URL_REJECTED')
    assert.equal((await ds(strict, 'subscriptions/s', 'PUT', { type: 'pull-wake', pattern: 'x', wake_stream: 'w' })).status, 401)
    assert.equal((await ds(strict, 'subscriptions/s/claim', 'POST', { worker: 'w' })).status, 401)
    assert.equal((await ds(strict, 'jwks.json')).status, 200)
})

test('a name that leads inside is judged when it is called', async (t) => {
    const inside = /^(127|10|192\.168|172\.(1[6-9]|2\d|3[01])|100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7]))\.|^::1$|^f[cde]/
    const names = await Promise.all([os.hostname(), 'ip6-localhost'].map(async (name) => inside.test((await dns.lookup(name).catch(() => ({}))).address) && name))
    const name = names.find(Boolean)
    if (!name) return t.skip('no name of this machine leads inside')
    const app = await streams(t, { dev: false })
    app.headers = bearer(fs.readFileSync(path.join(app.s.data, 'admin.key'), 'utf8').trim())
    await subscribe(app, 's', webhook({ url: `https://${name}:9/` }))
    await say(app, 'events/a', 1)
    await eventually('the delivery fails', async () => (await show(app, 's')).status === 'failed')
    assert.match(app.s.child.stderr, /at=webhook msg="a delivery failed".* err=forbidden/)
})

// ---- pull-wake ----

const pull = (more = {}) => ({ type: 'pull-wake', pattern: 'events/*', wake_stream: 'wake/pool', lease_ttl_ms: 20000, ...more })

async function pulled(t, more, options) {
    const app = await streams(t, options)
    assert.equal((await app.request('PUT', app.stream('wake/pool'), { headers: json, body: '[]' })).status, 201)
    await subscribe(app, 's', pull(more))
    return app
}

const claim = (app, worker) => ds(app, 'subscriptions/s/claim', 'POST', { worker })
const wakes = (app, n) => eventually(`${n} wakes`, async () => { const e = await events(app, 'wake/pool'); return e.length >= n && e })
const answer = (app, below, c, more) => ds(app, `subscriptions/s/${below}`, 'POST', { wake_id: c.wake_id, generation: c.generation, ...more }, bearer(c.token))

test('workers race for a wake, and one of them gets it', async (t) => {
    const app = await pulled(t)
    code(await claim(app, 'early'), 409, 'NOTHING_PENDING')
    await say(app, 'events/a', 1)
    const [wake] = await wakes(app, 1)
    assert.deepEqual([wake.type, wake.subscription_id, wake.stream, wake.generation, typeof wake.ts], ['wake', 's', 'events/a', 1, 'number'])
    const replies = await Promise.all(Array.from({ length: 8 }, (_, i) => claim(app, `w${i}`)))
    const won = replies.filter((r) => r.status === 200)
    assert.equal(won.length, 1)
    const c = won[0].json
    for (const lost of replies.filter((r) => r !== won[0])) {
        code(lost, 409, 'ALREADY_CLAIMED')
        assert.deepEqual([lost.json.error.current_holder, lost.json.error.generation], [`w${replies.indexOf(won[0])}`, 1])
    }
    await say(app, 'events/b', 1)
    const acks = [{ stream: 'events/a', offset: c.streams.find((s) => s.path === 'events/a').tail_offset }]
    assert.deepEqual((await answer(app, 'ack', c, { acks })).json, { ok: true, next_wake: false }, 'a heartbeat')
    assert.deepEqual((await answer(app, 'ack', c, { done: true })).json, { ok: true, next_wake: true })
    code(await answer(app, 'ack', c, { done: true }), 409, 'FENCED')
    code(await answer(app, 'release', c), 409, 'FENCED')
    const all = await wakes(app, 2)
    assert.deepEqual([all[1].stream, all[1].generation], ['events/b', 2])
})

test('a release with work left wakes again, and so does a lease that is over', async (t) => {
    const app = await pulled(t, { lease_ttl_ms: 1000 })
    await say(app, 'events/a', 1)
    await wakes(app, 1)
    const first = (await claim(app, 'w1')).json
    assert.equal((await answer(app, 'release', first)).status, 204)
    await wakes(app, 2)
    const second = (await claim(app, 'w2')).json
    assert.equal(second.generation, 2)
    const all = await wakes(app, 3) // nobody came back in time
    assert.equal(all[2].generation, 3)
    code(await answer(app, 'ack', second, { done: true }), 409, 'FENCED')
    assert.equal((await claim(app, 'w3')).json.generation, 3)
})

test('a lease and its holder survive kill -9', async (t) => {
    const app = await pulled(t)
    await say(app, 'events/a', 1)
    await wakes(app, 1)
    const c = (await claim(app, 'w1')).json
    await app.s.kill()
    await app.s.start()
    code(await claim(app, 'w2'), 409, 'ALREADY_CLAIMED')
    assert.equal((await answer(app, 'ack', c, { acks: [{ stream: 'events/a', offset: c.streams[0].tail_offset }], done: true })).status, 200)
    await sleep(50)
    assert.equal((await events(app, 'wake/pool')).length, 1)
    // What a thief of the folder finds is no token.
    await app.s.stop()
    const files = fs.readdirSync(app.s.data, { recursive: true, withFileTypes: true }).filter((f) => f.isFile())
    for (const f of files) assert.ok(!fs.readFileSync(path.join(f.parentPath ?? f.path, f.name)).includes(c.token), f.name)
})

test('a wake waits for its wake stream', async (t) => {
    const app = await streams(t)
    await subscribe(app, 's', pull())
    await say(app, 'events/a', 1)
    await eventually('it is failed', async () => (await show(app, 's')).status === 'failed')
    assert.equal((await app.request('PUT', app.stream('wake/pool'), { headers: json, body: '[]' })).status, 201)
    await wakes(app, 1)
    assert.equal((await show(app, 's')).status, 'active')
})

// ---- what is linked ----

test('links by name stand beside the pattern', async (t) => {
    const app = await streams(t)
    await say(app, 'far/a', 'before')
    const { streams: at } = await subscribe(app, 's', pull({ streams: ['far/a', 'far/a', 'events/x'] }))
    assert.deepEqual(at.map((s) => [s.path, s.link_type]), [['events/x', 'explicit'], ['far/a', 'explicit']])
    assert.notEqual(Number(at[1].acked_offset.split('_').pop()), 0, 'from its end on')
    await say(app, 'events/x', 1)
    await say(app, 'events/y', 1)
    const post = (list) => ds(app, 'subscriptions/s/streams', 'POST', { streams: list })
    assert.equal((await post(['far/b', 'far/a'])).status, 204)
    const link = async () => (await show(app, 's')).streams.map((s) => `${s.path} ${s.link_type}`).sort()
    assert.deepEqual(await link(), ['events/x explicit', 'events/y glob', 'far/a explicit', 'far/b explicit'])
    for (const stream of ['far/b', 'events/x', 'events/x', 'never/there'])
        assert.equal((await ds(app, `subscriptions/s/streams/${encodeURIComponent(stream)}`, 'DELETE')).status, 204)
    assert.deepEqual(await link(), ['events/x glob', 'events/y glob', 'far/a explicit'])
    assert.equal((await ds(app, 'subscriptions/s/streams/far/a', 'DELETE')).status, 204)
    assert.deepEqual(await link(), ['events/x glob', 'events/y glob'])
})

test('asking twice makes one; other words for it are a conflict', async (t) => {
    const app = await streams(t)
    const config = pull({ streams: ['b', 'a'], description: 'words' })
    const one = await subscribe(app, 's', config)
    assert.deepEqual(await subscribe(app, 's', { ...config, streams: ['a', 'b', 'a'] }, 200), one)
    for (const more of [{ pattern: 'x' }, { lease_ttl_ms: 1000 }, { description: undefined }, { streams: ['a'] }, { wake_stream: 'other' }])
        code(await ds(app, 'subscriptions/s', 'PUT', { ...config, ...more }), 409, 'SUBSCRIPTION_EXISTS')
    for (const bad of [{ type: 'mail' }, { pattern: undefined, streams: [] }, { pattern: 'a**' }, { lease_ttl_ms: 999 }, { lease_ttl_ms: 600001 }, { wake_stream: undefined },
        { streams: ['__ds/x'] }, { wake_stream: 'rows/t/1/c' }, { streams: 'a' }, { webhook: { url: 'https://w.example/' } }])
        code(await ds(app, 'subscriptions/t', 'PUT', { ...config, ...bad }), 400, 'BAD_REQUEST')
    code(await ds(app, 'subscriptions/a%20b', 'PUT', config), 400, 'BAD_REQUEST')
    code(await ds(app, 'subscriptions/none'), 404, 'NO_SUCH_SUBSCRIPTION')
    code(await ds(app, 'elsewhere'), 404, 'NOT_FOUND')
    assertProblem(await app.request('PUT', '/v1/stream/%5F%5Fds/x', { headers: json, body: '[]' }), 422, 'reserved_path')
})

test('a listing of many streams comes whole', async (t) => {
    const app = await streams(t)
    const n = 3000
    await subscribe(app, 's', pull({ pattern: 'many/*' }))
    for (let i = 0; i < n; i += 1000)
        await app.batch(Array.from({ length: 1000 }, (_, k) => ({ op: 'create', stream: `many/${i + k}`, type: 'text/plain' })))
    const { streams: all } = await show(app, 's')
    assert.equal(new Set(all.map((s) => s.path)).size, n)
    assert.equal(all.length, n)
})
