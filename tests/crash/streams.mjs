// A client of the crash runs that writes streams in every way that can be sent again: with a producer's sequence, on condition, as a
// creation, a fork, a trim, a close or a deletion that may have been done already. It knows exactly what each stream has to be.
import assert from 'node:assert/strict'
import { performance } from 'node:perf_hooks'
import { Client } from './workload.mjs'

const LIVING = 16 // streams at once
const TTL_MS = 1000

const plain = (offset) => Number(offset?.split('_').at(-1))
const offsetOf = (n) => String(n)

// What a stream has to be: its pieces with where each ends, and what is known of its life.
class Model {
    constructor(path, json, more = {}) {
        Object.assign(this, { path, json, bytes: Buffer.alloc(0), begin: 0, ends: [], first: 0, forks: 0, seq: 0, epoch: 0, closed: false, gone: false, wroteMs: 0, ...more })
    }

    get type() { return this.json ? 'application/json' : 'text/plain' }
    get end() { return this.bytes.length }

    // One append of one or more messages, or of text.
    add(pieces) {
        for (const piece of pieces) {
            this.bytes = Buffer.concat([this.bytes, Buffer.from(this.json ? `${JSON.stringify(piece)},\n` : piece)])
            this.ends.push(this.end)
        }
    }

    body(pieces) { return this.json ? JSON.stringify(pieces) : pieces.join('') }
}

// One operation is on its way at a time; one whose answer was lost is sent again, and may have been done.
export class StreamClient extends Client {
    constructor(world, name) {
        super(world, name)
        this.made = 0
        this.written = 0
        this.models = []
        this.dead = [] // paths that have to stay away
        this.pending = undefined
    }

    get open() { return this.models.filter((m) => !m.closed && !m.gone && (!m.ttl || this.random.chance(2))) } // a stream with a deadline is left alone, mostly
    pick(list) { return list[this.random.below(list.length)] }
    url(m) { return `/v1/stream/${m.path}` }
    pieces(m) {
        const one = () => (m.json ? { n: this.written++, of: m.path } : `<${m.path}.${this.written++}${'~'.repeat(this.random.below(this.random.chance(5) ? 9000 : 120))}>`)
        return Array.from({ length: m.json ? 1 + this.random.below(3) : 1 }, one)
    }

    async step() {
        this.pending ??= { ...this.choose(), sent: 0 }
        const { op, m } = this.pending
        const beganMs = this.pending.beganMs ??= performance.now()
        const again = this.pending.sent++ > 0
        const reply = await op.send()
        if (reply.lost) return false
        if (reply.status === 503) return true
        if (again) this.world.counts.streamRetries++
        this.pending = undefined
        if (reply.status === 404 && m.ttl && !op.drops) this.expire(m)
        else op.take(reply, again)
        m.wroteMs = beganMs
        this.world.counts.streamOps++
        return true
    }

    choose() {
        const m = this.pick(this.open)
        const n = this.random.below(20)
        if (!m || (n < 2 && this.models.length < LIVING)) return this.create()
        if (n < 9) return this.produce(m)
        if (n < 12) return this.condition(m)
        if (n < 14) return this.pair(m)
        if (n < 16) return this.models.length < LIVING ? this.fork(m) : this.drop(this.pick(this.models.filter((x) => !x.gone)))
        if (n < 18) return this.trim(m)
        return this.models.length > LIVING / 2 ? this.drop(this.pick(this.models.filter((x) => !x.gone))) : this.close(m)
    }

    // ---- operations: {m, op: {send, take}} -------------------------------------------------------------------------

    path() { return `kept/${this.name}/${this.made++}` }

    create() {
        const m = new Model(this.path(), this.random.chance(40), { ttl: this.random.chance(20) })
        const first = this.pieces(m)
        const headers = { 'content-type': m.type, ...(m.ttl && { 'stream-ttl': String(TTL_MS / 1000) }) }
        return { m, op: {
            send: () => this.ask('PUT', this.url(m), m.body(first), headers),
            take: (reply, again) => {
                assert.ok(reply.status === 201 || (again && reply.status === 200), `${reply.status} ${reply.text}`)
                m.add(first)
                this.models.push(m)
                this.atEnd(m, reply)
            },
        } }
    }

    // An epoch now and then begins anew.
    produce(m) {
        if (this.random.chance(10)) Object.assign(m, { epoch: m.epoch + 1, seq: 0 })
        const pieces = this.pieces(m)
        const headers = { 'content-type': m.type, 'producer-id': this.name, 'producer-epoch': String(m.epoch), 'producer-seq': String(m.seq) }
        return { m, op: {
            send: () => this.ask('POST', this.url(m), m.body(pieces), headers),
            take: (reply, again) => {
                assert.ok(reply.status === 200 || (again && reply.status === 204), `${reply.status} ${reply.text}`)
                m.seq++
                m.add(pieces)
                if (reply.status === 200) this.atEnd(m, reply)
            },
        } }
    }

    // The stream has to end where it ends: who is told that it does not, and finds it behind his own bytes, has written them.
    condition(m) {
        const pieces = this.pieces(m)
        const headers = { 'content-type': m.type, 'if-match': `"${offsetOf(m.end)}"` }
        return { m, op: {
            send: () => this.ask('POST', this.url(m), m.body(pieces), headers),
            take: (reply, again) => {
                assert.ok(reply.status === 204 || (again && reply.status === 412), `${reply.status} ${reply.text}`)
                m.add(pieces)
                this.atEnd(m, reply)
            },
        } }
    }

    // Two streams in one batch, both or none; producers make it safe to send again without a name.
    pair(m) {
        const other = this.pick(this.open.filter((x) => !x.ttl && x !== m))
        if (!other || m.ttl) return this.produce(m)
        const both = [m, other].map((x) => ({ x, pieces: this.pieces(x), producer: { id: this.name, epoch: x.epoch, seq: x.seq } }))
        const ops = both.map(({ x, pieces, producer }) => ({ op: 'append', stream: x.path, producer, ...(x.json ? { messages: pieces } : { text: pieces.join('') }) }))
        const body = JSON.stringify({ ops })
        return { m, op: {
            send: () => this.ask('POST', '/batch', body),
            take: (reply) => {
                assert.equal(reply.status, 200, reply.text)
                for (const { x, pieces } of both) { x.add(pieces); x.seq++ }
                assert.deepEqual(JSON.parse(reply.text).offsets, both.map(({ x }) => x.end))
            },
        } }
    }

    fork(source) {
        if (source.ttl) return this.produce(source)
        const m = new Model(this.path(), source.json, { source })
        const places = source.ends.filter((end) => end >= source.first)
        const at = places.length > 0 && this.random.chance(60) ? this.pick(places) : source.end
        const headers = { 'content-type': m.type, 'stream-forked-from': `/v1/stream/${source.path}`, 'stream-fork-offset': offsetOf(at) }
        return { m, op: {
            send: () => this.ask('PUT', this.url(m), undefined, headers),
            take: (reply, again) => {
                assert.ok(reply.status === 201 || (again && reply.status === 200), `${reply.status} ${reply.text}`)
                Object.assign(m, { bytes: source.bytes.subarray(0, at), first: source.first, ends: source.ends.filter((end) => end <= at) })
                source.forks++
                this.models.push(m)
                this.atEnd(m, reply)
            },
        } }
    }

    // Done twice it is done once.
    trim(m) {
        const before = this.pick(m.ends.filter((end) => end > m.first))
        if (m.source || before === undefined) return this.produce(m)
        const snapshot = this.random.chance(50) ? m.body([`${before} bytes`]) : undefined
        return { m, op: {
            send: () => this.ask('PATCH', this.url(m), snapshot, { 'content-type': m.type, 'stream-trim-before': offsetOf(before) }),
            take: (reply) => {
                if (m.forks > 0) return assert.equal(reply.status, 409, reply.text)
                assert.equal(reply.status, 204, reply.text)
                m.first = before
            },
        } }
    }

    close(m) {
        return { m, op: {
            send: () => this.ask('POST', this.url(m), undefined, { 'stream-closed': 'true' }),
            take: (reply) => {
                assert.equal(reply.status, 204, reply.text)
                m.closed = true
            },
        } }
    }

    drop(m) {
        return { m, op: {
            drops: true,
            send: () => this.ask('DELETE', this.url(m)),
            take: (reply, again) => {
                assert.ok(reply.status === 204 || ((again || m.ttl) && (reply.status === 404 || reply.status === 410)), `${reply.status} ${reply.text}`)
                m.gone = true
                this.bury(m)
            },
        } }
    }

    // A stream that forks read goes with the last of them.
    bury(m) {
        if (m.forks > 0) return
        this.models.splice(this.models.indexOf(m), 1)
        this.dead.push(m.path)
        if (!m.source) return
        m.source.forks--
        if (m.source.gone) this.bury(m.source)
    }

    expire(m) {
        const idleMs = performance.now() - m.wroteMs
        assert.ok(idleMs >= TTL_MS - 5, `${m.path} has gone after ${idleMs} ms`)
        this.world.counts.streamsExpired++
        this.bury(m)
    }

    atEnd(m, reply) { assert.equal(plain(reply.headers['stream-next-offset']), m.end, `${m.path} ends behind what was written`) }

    // ---- behind a kill ----------------------------------------------------------------------------------------------

    async verify() {
        while (this.pending) assert.ok(await this.step(), 'the service is there')
        for (const m of [...this.models]) await this.verifyStream(m)
        this.dead = this.dead.slice(-20)
        for (const path of this.dead) assert.equal((await this.ask('HEAD', `/v1/stream/${path}`)).status, 404, `${path} stays away`)
    }

    async verifyStream(m) {
        const head = await this.ask('HEAD', this.url(m))
        if (m.gone) return assert.equal(head.status, 410, `${m.path} is read by forks alone`)
        if (m.ttl && head.status === 404) return this.expire(m)
        assert.equal(head.status, 200, `${m.path} is there`)
        assert.deepEqual([plain(head.headers['stream-next-offset']), head.headers['stream-closed'] === 'true'], [m.end, m.closed], m.path)
        if (m.ttl && this.random.chance(80)) return // to read it would put its end off
        if (m.first > 0 && this.random.chance(50)) {
            const behind = await this.ask('GET', `${this.url(m)}?offset=${offsetOf(m.first - 1)}`)
            assert.equal(behind.status, 410, `${m.path} begins at ${m.first}: ${behind.text}`)
        }
        const { status, text } = await this.ask('GET', `${this.url(m)}?offset=${offsetOf(m.first)}`)
        assert.equal(status, 200, `${m.path}: ${text}`)
        const kept = m.bytes.subarray(m.first).toString()
        assert.equal(text, m.json ? `[${kept.slice(0, -2)}]` : kept, `${m.path}: what was written, once and in order`)
        this.world.counts.streamBytes += text.length
    }
}
