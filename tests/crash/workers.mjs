// A client of the crash runs that is woken by streams: what it acknowledged is never taken back, what it did not is told again, and no
// two wakes have one generation.
import assert from 'node:assert/strict'
import { eventually } from '../e2e/lib/service.mjs'
import { Client } from './workload.mjs'

const STREAMS = 4
const LEASE_MS = 1000
const plain = (offset) => Number(offset.split('_').at(-1))

export class WorkerClient extends Client {
    constructor(world, name) {
        super(world, name)
        this.streams = new Map() // path -> {tail, seq, acked, tried}
        this.generation = 0
        this.lease = undefined
        this.pending = undefined // a request whose answer is not here
    }

    get base() { return `/v1/stream/__ds/subscriptions/${this.name}` }
    json(method, path, body, token) {
        return this.ask(method, path, body && JSON.stringify(body), { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) })
    }

    // Before the first kill.
    async begin() {
        const made = await this.json('PUT', `/v1/stream/wake/${this.name}`, [])
        const sub = await this.json('PUT', this.base, { type: 'pull-wake', pattern: `work/${this.name}/*`, wake_stream: `wake/${this.name}`, lease_ttl_ms: LEASE_MS })
        assert.deepEqual([made.status, sub.status], [201, 201])
        for (let i = 0; i < STREAMS; i++) {
            const path = `work/${this.name}/${i}`
            assert.equal((await this.ask('PUT', `/v1/stream/${path}`, undefined, { 'content-type': 'text/plain' })).status, 201)
            this.streams.set(path, { tail: 0, seq: 0, acked: 0, tried: 0 })
        }
    }

    // One request at a time; one that got no answer is sent again.
    async step() {
        this.pending ??= this.choose()
        const reply = await this.pending.send()
        if (reply.lost) return false
        if (reply.status === 503) return true
        const { take } = this.pending
        this.pending = undefined
        take(reply)
        return true
    }

    choose() {
        if (this.random.chance(40)) return this.write()
        return this.lease ? this.acknowledge() : this.claim()
    }

    write() {
        const [path, s] = [...this.streams][this.random.below(STREAMS)]
        const text = 'x'.repeat(1 + this.random.below(50))
        const headers = { 'content-type': 'text/plain', 'producer-id': this.name, 'producer-epoch': '0', 'producer-seq': String(s.seq) }
        return {
            send: () => this.ask('POST', `/v1/stream/${path}`, text, headers),
            take: (reply) => {
                assert.ok(reply.status === 200 || reply.status === 204, reply.text)
                s.seq++
                s.tail += text.length
            },
        }
    }

    claim() {
        return { send: () => this.json('POST', `${this.base}/claim`, { worker: this.name }), take: (reply) => this.claimed(reply) }
    }

    // Nobody else works here: a lease that it does not know of is one whose answer a kill has met.
    claimed(reply) {
        const said = JSON.parse(reply.text)
        if (reply.status !== 200) return assert.ok(['already_claimed', 'nothing_pending'].includes(said.code), reply.text)
        assert.ok(said.generation > this.generation, `generation ${said.generation} behind ${this.generation}`)
        this.generation = said.generation
        this.lease = said
        this.world.counts.wakes++
        for (const s of said.streams) {
            const known = this.streams.get(s.path)
            assert.ok(plain(s.acked_offset) >= known.acked && plain(s.acked_offset) <= known.tried, `${s.path} is acknowledged up to ${s.acked_offset}`)
            assert.ok(plain(s.tail_offset) <= known.tail, `${s.path} is told to end at ${s.tail_offset}`)
        }
    }

    // Some of what it was told, and now and then all of it.
    acknowledge(whole = false) {
        const { token, wake_id, generation, streams } = this.lease
        const acks = streams.filter(() => whole || this.random.chance(60)).map((s) => {
            const [from, to] = [plain(s.acked_offset), plain(s.tail_offset)]
            return { stream: s.path, offset: whole ? to : from + this.random.below(to - from + 1) }
        })
        const done = whole || this.random.chance(50)
        for (const { stream, offset } of acks) this.streams.get(stream).tried = Math.max(this.streams.get(stream).tried, offset)
        return {
            send: () => this.json('POST', `${this.base}/ack`, { wake_id, generation, acks: acks.map((a) => ({ ...a, offset: String(a.offset) })), done }, token),
            take: (reply) => {
                if (reply.status === 200) for (const { stream, offset } of acks) this.streams.get(stream).acked = Math.max(this.streams.get(stream).acked, offset)
                else assert.deepEqual([reply.status, JSON.parse(reply.text).code], [409, 'fenced'], reply.text) // its time was over, or it was done already
                if (reply.status !== 200 || done) this.lease = undefined
            },
        }
    }

    // ---- behind a kill ----------------------------------------------------------------------------------------------

    async verify() {
        while (this.pending) assert.ok(await this.step(), 'the service is there')
        await this.look()
        const wakes = JSON.parse((await this.ask('GET', `/v1/stream/wake/${this.name}?offset=-1`)).text).map((w) => w.generation)
        assert.deepEqual(wakes, [...new Set(wakes)].sort((a, b) => a - b), 'each wake has a generation of its own')
        if (this.random.chance(20)) await this.drain()
    }

    async look() {
        const reply = await this.json('GET', this.base)
        assert.equal(reply.status, 200, reply.text)
        for (const s of JSON.parse(reply.text).streams) {
            const known = this.streams.get(s.path)
            const acked = plain(s.acked_offset)
            assert.ok(acked >= known.acked && acked <= known.tried, `${s.path} is acknowledged up to ${acked}: between ${known.acked} and ${known.tried}`)
            known.acked = acked
        }
    }

    // Whatever is not acknowledged is told, and once it is, there is nothing more.
    async drain() {
        await eventually(`${this.name} has nothing to do`, async () => {
            if (this.lease) await this.acknowledge(true).send().then((reply) => { assert.ok([200, 409].includes(reply.status), reply.text); this.lease = undefined })
            await this.look()
            const rest = [...this.streams.values()].some((s) => s.acked < s.tail)
            this.pending = this.claim()
            await this.step()
            if (rest) return false
            assert.equal(this.lease?.streams.length ?? 0, 0, 'nothing is told that was acknowledged')
            return true
        })
    }
}
