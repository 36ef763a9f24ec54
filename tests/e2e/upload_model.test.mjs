// A model of tus against the service: random requests, whole or broken, in order and out of it, twice, several at once, on uploads of every kind, and
// restarts in between. The model knows which bytes may be where; the service says where it is; at the end every upload is what it was to be.
//
// MODEL_STEPS and MODEL_SEED make it longer, and again.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { mulberry32 } from './lib/dice.mjs'
import { eventually, sleep } from './lib/service.mjs'
import { assertBlob, BODY, sha256, tus } from './lib/tus.mjs'

const STEPS = Number(process.env.MODEL_STEPS || 250)
const SEED = Number(process.env.MODEL_SEED || 20261)

function dice(seed) {
    const next = mulberry32(seed)
    return { below: (n) => Math.floor(next() * n), of: (list) => list[Math.floor(next() * list.length)], bytes: (n) => { const b = Buffer.alloc(n); for (let i = 0; i < n; i += 4) b.writeUInt32LE((next() * 4294967296) >>> 0, Math.min(i, n - 4)); return b } }
}

const sum = (algorithm, bytes) => `${algorithm} ${createHash(algorithm).update(bytes).digest('base64')}`

class Model {
    constructor(up, d) {
        this.up = up
        this.d = d
        this.uploads = []
        this.waiting = [] // of parts that are not all done: {path, parts}
        this.seen = {}
        this.log = []
    }

    note(...what) { this.log.push(what.join(' ')) }

    size() { return this.d.of([this.d.below(40) + 4, this.d.below(70000) + 4, this.d.below(1 << 20) + 4]) }

    // How far it may be: between what was promised and what was sent.
    async look(u) {
        const reply = await this.up.head(u.path)
        assert.equal(reply.status, u.gone ? 404 : 200, `HEAD ${u.path}`)
        if (u.gone) return
        const at = Number(reply.headers['upload-offset'])
        assert.ok(at >= u.low && at <= u.high, `${u.path} is at ${at}, promised ${u.low}, sent ${u.high}`)
        u.low = u.high = at
        this.say(u, reply)
        const length = reply.headers['upload-length']
        if (u.deferred === true) assert.deepEqual([length, reply.headers['upload-defer-length']], [undefined, '1'])
        else if (u.deferred === undefined || length !== undefined) assert.equal(length, String(u.bytes.length))
        if (reply.headers['upload-defer-length'] === undefined) u.deferred = undefined
        assert.equal(reply.headers['upload-concat'], u.partial ? 'partial' : undefined)
    }

    // Whatever answers: a digest stands there when all is there, and it is the right one.
    say(u, reply) {
        const digest = reply.headers['segue-blob']
        if (digest === undefined) return
        assert.equal(digest, sha256(u.bytes))
        u.done = true
        u.deferred = undefined
        u.low = u.high = u.bytes.length
    }

    async create() {
        const bytes = this.d.bytes(this.size())
        const u = { bytes, low: 0, high: 0, deferred: this.d.below(4) === 0 ? true : undefined, partial: this.d.below(3) === 0 }
        const headers = { ...(u.deferred ? { 'upload-defer-length': '1' } : { 'upload-length': String(bytes.length) }), ...(u.partial ? { 'upload-concat': 'partial' } : {}) }
        const with_bytes = this.d.below(3) === 0
        const n = with_bytes ? 1 + this.d.below(bytes.length) : 0
        const reply = await this.up.post({ ...headers, ...(with_bytes ? { 'content-type': BODY } : {}) }, with_bytes ? bytes.subarray(0, n) : undefined)
        assert.equal(reply.status, 201, reply.text)
        assert.equal(reply.headers['upload-offset'], String(n))
        u.path = reply.headers.location
        u.low = u.high = n
        this.say(u, reply)
        this.uploads.push(u)
        this.note('create', u.path, bytes.length, n, u.deferred, u.partial)
    }

    // One PATCH from where the client believes it to be; what may come of it depends on who else is there.
    async patch(u, { from = u.low, contended = false } = {}) {
        const n = this.d.below(3) === 0 ? u.bytes.length - from : this.d.below(u.bytes.length - from + 1)
        const piece = u.bytes.subarray(from, from + n)
        const headers = {}
        if (u.deferred === true && this.d.below(3) === 0) headers['upload-length'] = String(u.bytes.length)
        const wrong = this.d.below(6) === 0
        if (wrong || this.d.below(5) === 0) headers['upload-checksum'] = sum(this.d.of(['sha1', 'sha256']), wrong ? 'wrong' : piece)
        this.note('patch', u.path, from, n, JSON.stringify(headers))
        const high = u.high
        u.high = Math.max(u.high, from + n)
        const reply = await this.up.patch(u.path, from, piece, headers).catch(() => ({ status: 'cut', headers: {} }))
        const allowed = u.gone ? [404] : from !== u.low && !contended ? [409] : wrong ? [460] : [204]
        if (contended) allowed.push(409, 204, 460, 'cut')
        if (u.done) allowed.push(204, 413)
        assert.ok(allowed.includes(reply.status), `PATCH ${u.path} at ${from}: ${reply.status} ${reply.text}, not ${allowed}`)
        if (headers['upload-length'] && !contended && reply.status === 204) u.deferred = undefined
        else if (headers['upload-length']) u.deferred = u.deferred === undefined ? undefined : 'perhaps'
        if (reply.status === 204 && !contended) u.low = u.high = Number(reply.headers['upload-offset'])
        else if (!contended) u.high = high
        if (reply.status === 204) this.say(u, reply)
        if (reply.status === 204 && !contended) assert.equal(u.low, from + n)
    }

    async broken(u) {
        const from = u.low
        const n = this.d.below(u.bytes.length - from + 1)
        this.note('broken', u.path, from, n)
        const raw = this.up.raw(u.path, from, Math.max(u.bytes.length - from, 1))
        raw.send(u.bytes.subarray(from, from + n))
        await sleep(this.d.below(8))
        u.high = Math.max(u.high, from + n)
        if (this.d.below(3) === 0) await this.restart()
        else if (this.d.below(2)) await this.look(u) // the newest request wins, and the socket is still open
        raw.destroy()
    }

    async restart() {
        this.note('restart')
        await this.up.app.s.kill()
        await this.up.app.s.start()
    }

    async crowd(u) {
        const others = Array.from({ length: 2 + this.d.below(4) }, () => this.patch(u, { contended: true }))
        if (this.d.below(2)) others.push(this.up.head(u.path))
        await Promise.all(others)
        await this.look(u)
    }

    async join() {
        const early = this.d.below(2) === 0 // not all of them need be done
        const parts = this.uploads.filter((u) => u.partial && (u.done || early) && !u.gone)
        if (parts.length === 0) return
        const chosen = Array.from({ length: 1 + this.d.below(4) }, () => this.d.of(parts))
        const reply = await this.up.post({ 'upload-concat': `final;${chosen.map((u) => u.path).join(' ')}` })
        assert.equal(reply.status, 201, reply.text)
        this.note('join', reply.headers.location, chosen.map((u) => u.path).join(' '))
        if (this.d.below(4) === 0) await this.restart()
        if (early && chosen.some((u) => !u.done)) {
            this.waiting.push({ path: reply.headers.location, parts: chosen })
            return
        }
        const bytes = Buffer.concat(chosen.map((u) => u.bytes))
        assert.equal(await this.up.digest(reply.headers.location), sha256(bytes))
        await assertBlob(this.up.app, bytes)
        this.seen.join = true
    }

    async remove(u) {
        this.note('delete', u.path)
        const reply = await this.up.ask('DELETE', u.path)
        assert.equal(reply.status, u.gone ? 404 : 204)
        u.gone = true
    }

    async step() {
        const u = this.uploads.length > 0 ? this.d.of(this.uploads) : null
        const what = this.d.below(20)
        if (u === null || what < 3) return this.create()
        if (what < 10) { await this.look(u); return u.gone ? undefined : this.patch(u) }
        if (what === 10) { await this.look(u); return u.gone || u.low === 0 ? undefined : this.patch(u, { from: this.d.below(u.low) }) }
        if (what === 11) return u.gone ? undefined : this.crowd(u)
        if (what < 15) return u.gone || u.done ? undefined : this.broken(u)
        if (what === 15) return this.restart()
        if (what === 16) return this.join()
        if (what === 17 && this.d.below(3) === 0) return this.remove(u)
        return this.look(u)
    }

    async finish() {
        for (const u of this.uploads) {
            await this.look(u)
            if (u.gone || u.done) continue
            const reply = await this.up.patch(u.path, u.low, u.bytes.subarray(u.low), { 'upload-length': String(u.bytes.length) })
            assert.equal(reply.status, 204, reply.text)
            assert.equal(reply.headers['segue-blob'], sha256(u.bytes))
            await assertBlob(this.up.app, u.bytes)
        }
        for (const { path, parts } of this.waiting) await this.joined(path, parts)
        this.seen.waited = this.waiting.length
    }

    // What waited for its parts has them, or is gone with one of them.
    async joined(path, parts) {
        const end = await eventually('what is made of parts', async () => {
            const head = await this.up.head(path)
            return (head.status === 404 || head.headers['segue-blob']) && head
        })
        if (end.status === 404) assert.ok(parts.some((u) => u.gone), `${path} is gone, and its parts are there`)
        else assert.equal(end.headers['segue-blob'], sha256(Buffer.concat(parts.map((u) => u.bytes))))
    }
}

test('whatever happens to uploads, every one ends as what it was to be', async (t) => {
    const up = await tus(t)
    const model = new Model(up, dice(SEED))
    try {
        for (let i = 0; i < STEPS; i++) await model.step()
        await model.finish()
    } catch (e) {
        t.diagnostic(`seed ${SEED}, the last steps:\n${model.log.slice(-25).join('\n')}`)
        throw e
    }
    assert.ok(model.uploads.filter((u) => !u.gone).length > 5)
    assert.ok(model.seen.waited > 0)
})
