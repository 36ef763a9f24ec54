// The clients of a crash run, and what each of them knows: what it was promised, and what it does not know yet.
import assert from 'node:assert/strict'
import http from 'node:http'
import { createHash } from 'node:crypto'
import { append, close, create, insert, update } from '../e2e/lib/http.mjs'
import { sleep } from '../e2e/lib/service.mjs'

export const schema = `
create table items (nonce text not null, n integer, owner text);
create table tallies (owner text not null, batches integer, body stream);
create table replies (body stream, status text, usage jsonb);
create table files (name text, file blob);`

// Up again; sometimes it is killed once more, within so many ms, while it recovers: then true.
export async function recover(service, random, ms) {
    const early = random.chance(20)
    if (early) {
        const start = service.start().catch(() => {})
        await sleep(random.below(ms))
        if (service.child) await service.kill()
        await start
    }
    await service.start()
    return early
}

// xorshift: the same seed gives the same decisions (what the machine makes of them differs).
export class Random {
    // The seed is stirred, or a generator seeded by another one would repeat that one's numbers.
    constructor(seed) { this.x = (Math.imul(seed ^ (seed >>> 15), 0x2c1b3c6d) ^ 0x5bd1e995) >>> 0 || 1 }

    below(n) {
        this.x ^= this.x << 13
        this.x ^= this.x >>> 17
        this.x ^= this.x << 5
        return (this.x >>> 0) % n
    }

    chance(percent) { return this.below(100) < percent }

    uuid() {
        const hex = Array.from({ length: 32 }, () => this.below(16).toString(16)).join('')
        return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20)}`
    }

    bytes(n) {
        const b = Buffer.alloc(n)
        for (let i = 0; i + 4 <= n; i += 4) { this.below(1); b.writeInt32LE(this.x, i) }
        return b
    }
}

// One request on a connection of its own client; a lost connection is an outcome like others.
export function exchange(s, agent, method, path, body, headers = {}) {
    return new Promise((done) => {
        const req = http.request(s.url + path, { method, headers, agent }, (res) => {
            const pieces = []
            res.on('data', (p) => pieces.push(p))
            res.on('error', () => {})
            res.on('close', () => done(res.complete ? { status: res.statusCode, text: Buffer.concat(pieces).toString(), headers: res.headers } : { lost: true }))
        })
        req.on('error', () => done({ lost: true }))
        req.end(body)
    })
}

export class Client {
    constructor(world, name) {
        this.world = world
        this.name = name
        this.random = new Random(world.random.below(2 ** 31))
        this.agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
        this.inFlight = false
    }

    async ask(method, path, body, headers) {
        this.inFlight = true
        const reply = await exchange(this.world.s, this.agent, method, `/apps/default${path}`, body, headers)
        this.inFlight = false
        return reply
    }

    // Works until the world stops, or the connection is lost.
    async run() {
        while (this.world.running && (await this.step())) continue
    }
}

// Sends batches under a replica's counter. Each writes one nonce to k rows, counts itself in its tally row, and appends its
// nonce to the common stream and to its own: whatever is half, double or lost shows.
export class Writer extends Client {
    constructor(world, name) {
        super(world, name)
        this.replica = this.random.uuid()
        this.tally = this.random.uuid()
        this.batches = []
    }

    make() {
        const counter = this.batches.length + 1
        const nonce = `${this.name}.${counter}`
        const k = 1 + this.random.below(4)
        const ops = Array.from({ length: k }, (_, n) => insert('items', { nonce, n, owner: this.name }, this.random.chance(50) ? this.random.uuid() : undefined))
        ops.push(counter === 1 ? insert('tallies', { owner: this.name, batches: 1 }, this.tally) : update('tallies', this.tally, { batches: counter }))
        ops.push(append('all', `${nonce};`))
        ops.push({ op: 'append', table: 'tallies', id: this.tally, column: 'body', text: `${nonce}${'.'.repeat(this.random.below(60))};` })
        if (this.random.chance(10)) { ops.push(create(`own/${nonce}`, 'text/plain'), append(`own/${nonce}`, nonce), close(`own/${nonce}`)) }
        // Some must be rejected, by their very last operation.
        const spoiled = counter > 1 && this.random.chance(8)
        if (spoiled) ops.push(this.random.chance(50) ? insert('items', { n: 1 }) : append('nowhere', 'x'))
        const batch = { counter, nonce, k, spoiled, body: JSON.stringify({ replica: this.replica, counter, ops }), fate: undefined, lost: 0 }
        this.batches.push(batch)
        return batch
    }

    async step() {
        const last = this.batches.at(-1)
        const batch = last && !last.fate ? last : this.make()
        const reply = await this.ask('POST', '/batch', batch.body)
        if (reply.lost) { batch.lost++; return false }
        this.settle(batch, reply)
        return true
    }

    settle(batch, reply) {
        if (reply.status === 503) return // no fate: it will be sent again
        const fate = JSON.parse(reply.text)
        if (batch.lost > 0 && !batch.fate) {
            this.world.counts.retries += 1
            if (fate.again) this.world.counts.settledBefore += 1
        }
        if (batch.spoiled) assert.equal(fate.fate, 'rejected', `${batch.nonce}: ${reply.text}`)
        else assert.equal(fate.fate, 'accepted', `${batch.nonce}: ${reply.text}`)
        batch.fate = { accepted: !batch.spoiled, seq: fate.seq, code: fate.code }
    }

    // What became of the batch that the kill met.
    async findOut() {
        const last = this.batches.at(-1)
        while (last && !last.fate) assert.ok(await this.step(), 'the service is there')
    }

    // Sends settled batches again: each must be told the fate that it has.
    async askAgain() {
        const recent = this.batches.slice(-1000).filter((b) => b.fate)
        const picked = [recent.at(-1), ...recent.filter((b) => !b.fate.accepted).slice(-2), recent[this.random.below(recent.length || 1)]].filter(Boolean)
        for (const batch of picked) {
            const reply = await this.ask('POST', '/batch', batch.body)
            const fate = JSON.parse(reply.text)
            assert.deepEqual([fate.again, fate.fate, fate.seq, fate.code], [true, batch.fate.accepted ? 'accepted' : 'rejected', batch.fate.seq, batch.fate.code], `${batch.nonce} again: ${reply.text}`)
        }
    }
}

// Appends without a name: what was answered is there once, what was not is there once or not at all.
export class Appender extends Client {
    constructor(world, name) {
        super(world, name)
        this.records = []
    }

    async step() {
        const text = `<${this.name}.${this.records.length}${'-'.repeat(this.random.below(300))}>`
        const record = { text, acknowledged: false }
        this.records.push(record)
        const reply = await this.ask('POST', '/v1/stream/plain', text, { 'content-type': 'text/plain' })
        if (reply.lost) return false
        if (reply.status !== 503) assert.equal(reply.status, 204, reply.text)
        record.acknowledged = reply.status === 204
        return true
    }
}

export class Uploader extends Client {
    constructor(world, name) {
        super(world, name)
        this.blobs = []
    }

    async step() {
        const last = this.blobs.at(-1)
        if (!last || last.stored) {
            const bytes = this.random.bytes(4 * (1 + this.random.below(this.random.chance(20) ? 200000 : 5000)))
            this.blobs.push({ bytes, digest: createHash('sha256').update(bytes).digest('hex'), stored: false })
        }
        const blob = this.blobs.at(-1)
        const reply = await this.ask('PUT', `/blobs/${blob.digest}`, blob.bytes, { 'content-type': 'application/x-crash' })
        if (reply.lost) return false
        if (reply.status === 503) return true
        assert.ok(reply.status === 200 || reply.status === 201, reply.text)
        blob.stored = true
        return true
    }
}
