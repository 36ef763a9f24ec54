// A model of the IETF's draft against the service: random requests in every version, whole or broken, in order and out of it, twice, several at once, and
// restarts in between. The model knows which bytes may be where, and what was promised; the service says where it is; at the end every upload is what it was to be.
//
// MODEL_STEPS and MODEL_SEED make it longer, and again.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { mulberry32 } from './lib/dice.mjs'
import { Draft, draft, PARTIAL } from './lib/draft.mjs'
import { sleep } from './lib/service.mjs'
import { assertBlob, BODY, sha256, Tus } from './lib/tus.mjs'

const STEPS = Number(process.env.MODEL_STEPS || 250)
const SEED = Number(process.env.MODEL_SEED || 20262)

function dice(seed) {
    const next = mulberry32(seed)
    const below = (n) => Math.floor(next() * n)
    return { below, of: (list) => list[below(list.length)], bytes: (n) => Buffer.from(Array.from({ length: Math.min(n, 4096) }, () => below(256)).join(',').repeat(Math.ceil(n / 4096))).subarray(0, n) }
}

const digest = (bytes) => `sha-256=:${createHash('sha256').update(bytes).digest('base64')}:`

class Model {
    constructor(app, d) {
        this.app = app
        this.d = d
        this.tongues = [3, 5, 6, 8].map((v) => new Draft(app, v))
        this.tus = new Tus(app)
        this.uploads = []
        this.seen = {}
        this.log = []
    }

    note(...what) { this.log.push(what.join(' ')) }
    saw(what) { this.seen[what] = (this.seen[what] ?? 0) + 1 }
    tongue() { return this.d.of(this.tongues) }
    size() { return this.d.of([this.d.below(40), this.d.below(70000) + 4, this.d.below(1 << 20) + 4]) }

    // What interim replies promise is kept: offsets only grow, and none is taken back.
    hear(u, interim) {
        for (const { status, headers } of interim) {
            assert.equal(status, 104)
            if (headers['upload-offset'] === undefined) continue
            const at = Number(headers['upload-offset'])
            assert.ok(at >= u.low && at <= u.high, `${u.path} told ${at}, promised ${u.low}, sent ${u.high}`)
            u.low = at
            this.saw('progress')
        }
    }

    finished(u, up, reply) {
        assert.ok(up.isComplete(reply), `${u.path}: ${reply.status} ${reply.text}`)
        assert.equal(reply.headers['segue-blob'], sha256(u.bytes))
        assert.equal(reply.json.size, u.bytes.length)
        u.done = true
        u.low = u.high = u.bytes.length
    }

    async look(u, up = this.tongue()) {
        const reply = await up.head(u.path)
        assert.equal(reply.status, u.gone ? 404 : 204, `HEAD ${u.path}`)
        if (u.gone) return
        const at = Number(reply.headers['upload-offset'])
        assert.ok(at >= u.low && at <= u.high, `${u.path} is at ${at}, promised ${u.low}, sent ${u.high}`)
        u.low = u.high = at
        if (u.done) assert.ok(up.isComplete(reply))
        if (!up.isComplete(reply)) return
        assert.ok(u.ending || u.done, `${u.path} is complete, and nobody said so`)
        assert.equal(reply.headers['segue-blob'], sha256(u.bytes))
        assert.equal(at, u.bytes.length)
        u.done = true
    }

    async create() {
        const up = this.tongue()
        const bytes = this.d.bytes(this.size())
        const u = { bytes, low: 0, high: 0 }
        const whole = this.d.below(4) === 0
        const n = whole ? bytes.length : this.d.below(bytes.length + 1)
        const headers = { ...(this.d.below(3) === 0 ? { 'upload-length': String(bytes.length) } : {}), ...(this.d.below(3) === 0 ? { 'repr-digest': digest(bytes) } : {}) }
        const [method, path] = this.d.of([['POST', '/apps/default/uploads'], ['POST', '/apps/default/blobs'], ['PUT', `/apps/default/blobs/${sha256(bytes)}`]])
        const reply = await up.create(whole, headers, bytes.subarray(0, n), path, method)
        assert.equal(reply.status, 201, reply.text)
        assert.equal(reply.headers['upload-offset'], String(n))
        u.path = reply.headers.location
        assert.equal(reply.interim[0].headers.location, u.path)
        this.note('create', up.version, method, u.path, bytes.length, n, whole, JSON.stringify(headers))
        u.high = n
        this.hear(u, reply.interim)
        u.low = n
        if (whole) this.finished(u, up, reply)
        else assert.equal(up.isComplete(reply), false)
        this.uploads.push(u)
    }

    // What may come of an append that nobody disturbs.
    expected(u, up, { from, n, end, wrong }) {
        if (u.gone) return [404]
        if (from !== u.low) return [409]
        if (u.done) return n > 0 || wrong ? [400] : [end ? 201 : up.version < 8 ? 201 : 204, 201]
        if (wrong) return [400]
        return [end || up.version < 8 ? 201 : 204]
    }

    // One PATCH from where the client believes it to be; a contended one may meet anything but a lie.
    async append(u, { from = u.low, contended = false } = {}) {
        const up = this.tongue()
        const end = this.d.below(3) === 0
        const n = end ? u.bytes.length - from : this.d.below(u.bytes.length - from + 1)
        const piece = u.bytes.subarray(from, from + n)
        const wrong = this.d.below(6) === 0
        const headers = wrong || this.d.below(4) === 0 ? { 'content-digest': digest(wrong ? 'wrong' : piece) } : {}
        this.note('append', up.version, u.path, from, n, end, JSON.stringify(headers), contended)
        const high = u.high
        const allowed = this.expected(u, up, { from, n, end, wrong })
        if (contended) allowed.push(201, 204, 400, 409, 'cut')
        u.high = Math.max(u.high, from + n)
        u.ending = u.ending || (end && !wrong)
        const reply = await up.append(u.path, from, end, piece, headers).catch(() => ({ status: 'cut', headers: {}, interim: [] }))
        assert.ok(allowed.includes(reply.status), `PATCH ${u.path} at ${from}: ${reply.status} ${reply.text}, not ${allowed}`)
        if (contended) return
        const ok = reply.status === 201 || reply.status === 204
        if (!ok) {
            u.high = high
            assert.equal(up.isComplete(reply), false)
            if (reply.status === 409) assert.equal(reply.headers['upload-offset'], String(u.low))
            this.saw(reply.status)
            return
        }
        this.hear(u, reply.interim)
        u.low = u.high = from + n
        assert.equal(reply.headers['upload-offset'], String(u.low))
        if (up.isComplete(reply)) this.finished(u, up, reply)
        else assert.ok(!end)
    }

    // The connection breaks somewhere inside of a body, and the service perhaps with it.
    async broken(u) {
        const up = this.tongue()
        const from = u.low
        if (from === u.bytes.length) return // it would have to promise a byte that there is not
        const n = this.d.below(u.bytes.length - from + 1)
        const end = this.d.below(2) === 0
        this.note('broken', up.version, u.path, from, n, end)
        const raw = up.raw('PATCH', u.path, u.bytes.length - from, { ...up.says(end), 'upload-offset': String(from), 'content-type': PARTIAL })
        u.high = Math.max(u.high, from + n)
        u.ending = u.ending || (end && n === u.bytes.length - from)
        raw.send(u.bytes.subarray(from, from + n))
        await sleep(this.d.below(8))
        if (this.d.below(3) === 0) await this.restart()
        else if (this.d.below(2)) await this.look(u) // the newest request wins, and the socket is still open
        raw.destroy()
        this.saw('broken')
    }

    async restart() {
        this.note('restart')
        await this.app.s.kill()
        await this.app.s.start()
    }

    async crowd(u) {
        const others = Array.from({ length: 2 + this.d.below(4) }, () => this.append(u, { contended: true }))
        if (this.d.below(2)) others.push(this.tongue().head(u.path))
        await Promise.all(others)
        await this.look(u)
        this.saw('crowd')
    }

    // tus goes on with the same upload; it does not reach the end, which it would take for the upload's.
    async mixed(u) {
        if (u.bytes.length - u.low < 2) return
        const n = this.d.below(u.bytes.length - u.low)
        const reply = await this.tus.patch(u.path, u.low, u.bytes.subarray(u.low, u.low + n), { 'content-type': BODY })
        this.note('tus', u.path, u.low, n)
        assert.equal(reply.status, 204, reply.text)
        u.low = u.high = u.low + n
        this.saw('tus')
    }

    async remove(u) {
        this.note('delete', u.path)
        assert.equal((await this.tongue().ask('DELETE', u.path)).status, u.gone ? 404 : 204)
        u.gone = true
    }

    async step() {
        const u = this.uploads.length > 0 ? this.d.of(this.uploads) : null
        const what = this.d.below(20)
        if (u === null || what < 3) return this.create()
        if (what < 9) { await this.look(u); return this.append(u) }
        if (what === 9) { await this.look(u); return u.low === 0 ? undefined : this.append(u, { from: this.d.below(u.low) }) }
        if (what === 10) { await this.look(u); return u.gone || u.done ? undefined : this.mixed(u) }
        if (what < 13) return u.gone ? undefined : this.crowd(u)
        if (what < 16) return u.gone || u.done ? undefined : this.broken(u)
        if (what === 16) return this.restart()
        if (what === 17 && this.d.below(3) === 0) return this.remove(u)
        return this.look(u)
    }

    async finish() {
        for (const u of this.uploads) {
            await this.look(u)
            if (u.gone) continue
            const up = this.tongue()
            this.note('finish', up.version, u.path, u.low, u.bytes.length)
            this.finished(u, up, await up.append(u.path, u.low, true, u.bytes.subarray(u.low)))
            await assertBlob(this.app, u.bytes)
        }
    }
}

test('whatever happens to uploads of the draft, every one ends as what it was to be', async (t) => {
    const model = new Model((await draft(t)).app, dice(SEED))
    try {
        for (let i = 0; i < STEPS; i++) await model.step()
        await model.finish()
    } catch (e) {
        t.diagnostic(`seed ${SEED}, the last steps:\n${model.log.slice(-25).join('\n')}`)
        throw e
    }
    t.diagnostic(JSON.stringify(model.seen))
    assert.ok(model.uploads.filter((u) => !u.gone).length > 5)
    for (const what of ['broken', 'crowd', 'tus', 409]) assert.ok(model.seen[what] > 0 || STEPS < 250, what)
})
