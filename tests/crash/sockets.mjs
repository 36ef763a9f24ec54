// A client of the crash runs that speaks over a WebSocket: batches and numbered appends, many on their way at once, while it follows
// what it and the others write.
import assert from 'node:assert/strict'
import { SyncPeer } from '../e2e/lib/ws.mjs'
import { Writer } from './workload.mjs'

const WINDOW = 8 // of each kind on their way

export const LOG = 'sockets'

// A Writer whose batches are pipelined. Its appends have no name: what was acknowledged is there once, the rest once or not at all.
export class SocketWriter extends Writer {
    constructor(world, name) {
        super(world, name)
        this.records = []
        this.appended = 0
        this.connection = 0
        const queries = { mine: ['select * from items where owner = $1', name], top: 'select nonce, n from items order by nonce desc, n limit 5' }
        this.what = { queries, streams: { log: LOG, own: `rows/tallies/${this.tally}/body` } }
        this.peer = new SyncPeer(world.app, this.what)
        this.agent.destroy()
    }

    get unsettled() { return this.batches.filter((b) => !b.fate) }
    get fold() { return this.peer.fold }
    until(what, fn) { return this.peer.until(what, fn) }
    untilLive() { return this.peer.untilLive() }
    get isOver() { return !this.peer.ws || this.peer.ws.ended }

    // With its cursor, if it has one. What has no fate is sent again under its name: its fate may have been on its way.
    async connect(open) {
        this.peer.cut()
        const resumed = this.fold.cursor !== undefined
        await open()
        if (resumed) this.world.counts.socketsResumed++
        this.connection++
        this.sent = [] // appends of this connection, by their number from 1
        this.upto = 0
        this.seen = 0  // answers that were looked at
        this.failed = new Map()
        for (const batch of this.unsettled) {
            batch.lost++
            this.send(batch)
        }
    }

    send(batch) { this.peer.send({ type: 'batch', id: batch.counter, ...JSON.parse(batch.body) }) }

    sendAppend() {
        const text = `<${this.name}.${this.appended++}${'='.repeat(this.random.below(this.random.chance(5) ? 9000 : 200))}>`
        const how = this.random.below(20)
        const record = { text, connection: this.connection, acknowledged: false, refused: how === 0 ? 'stream_not_found' : how === 1 ? 'bad_batch' : undefined }
        this.sent.push(record)
        this.records.push(record)
        if (record.refused) this.peer.send({ type: 'append', stream: how === 0 ? 'nowhere' : LOG, text, ...(how === 1 ? { mistake: 1 } : {}) })
        else if (how < 8) this.peer.send({ type: 'append', stream: LOG, text })
        else if (how < 12) this.peer.send({ type: 'append', stream: LOG, base64: Buffer.from(text).toString('base64') })
        else this.peer.send(Buffer.from(`${JSON.stringify({ stream: LOG })}\n${text}`))
    }

    // Many appends in one binary message, each numbered for itself.
    sendRecords() {
        const records = Array.from({ length: 1 + this.random.below(20) }, (_, n) => {
            const text = `<${this.name}.${this.appended++}${'#'.repeat(this.random.below(60))}>`
            const record = { text, connection: this.connection, acknowledged: false }
            this.sent.push(record)
            this.records.push(record)
            const path = n === 0 ? LOG : ''
            const bytes = Buffer.alloc(2 + path.length + 4 + text.length)
            bytes.writeUInt16LE(path.length)
            bytes.write(path, 2)
            bytes.writeUInt32LE(text.length, 2 + path.length)
            bytes.write(text, 6 + path.length)
            return bytes
        })
        this.peer.send(Buffer.concat([Buffer.from([1]), ...records]))
    }

    async step() {
        if (this.isOver) return false
        if (this.random.below(150) === 0) { // the connection goes while the service lives
            this.world.counts.socketsCut++
            await this.connect(() => this.peer.open()).catch(() => {})
            if (this.isOver) return false
        }
        while (this.unsettled.length < 1 + this.random.below(WINDOW)) this.send(this.make())
        while (this.sent.length - this.upto < 1 + this.random.below(WINDOW)) {
            if (this.random.chance(10)) this.sendRecords()
            else this.sendAppend()
        }
        this.inFlight = true
        return this.take()
    }

    // What has come since, at least one answer. False: the connection is gone.
    async take() {
        const { ws } = this.peer
        try {
            await ws.until('an answer', () => this.peer.answers.length > this.seen)
        } catch (e) {
            if (ws.failure || !ws.ended) throw ws.failure || e
            return false
        }
        while (this.seen < this.peer.answers.length) this.answer(this.peer.answers[this.seen++])
        return true
    }

    answer(a) {
        if (a.upto !== undefined) return this.acknowledge(a.upto)
        if (a.append !== undefined) return this.failed.set(a.append, a)
        const batch = this.batches[a.id - 1]
        assert.ok(batch, `an answer to something: ${JSON.stringify(a)}`)
        if (a.code === 'busy' || a.code === 'counter_gap') return this.peer.ws.destroy() // no fate: they are sent again
        if (!batch.fate) this.settle(batch, { status: 200, text: JSON.stringify(a) })
    }

    // All up to this number, each durable or named before as refused.
    acknowledge(upto) {
        assert.ok(upto > this.upto && upto <= this.sent.length, `acknowledged up to ${upto}, behind ${this.upto}, of ${this.sent.length}`)
        for (let n = this.upto + 1; n <= upto; n++) {
            const record = this.sent[n - 1]
            assert.equal(this.failed.get(n)?.code, record.refused, `append ${n} of ${this.name}`)
            record.acknowledged = !record.refused
            if (record.acknowledged) this.world.counts.appends++
        }
        this.upto = upto
    }

    // Behind a kill: what was said before it counts.
    drain() {
        if (this.peer.ws?.failure) throw this.peer.ws.failure
        while (this.seen < this.peer.answers.length) this.answer(this.peer.answers[this.seen++])
    }

    // Every batch has its fate, and the follower is live again.
    async findOut() {
        await this.connect(() => this.peer.reopen())
        while (this.unsettled.length > 0) assert.ok(await this.take(), 'the service is there')
    }

    // The log's records against those of all sockets.
    static verifyLog(text, writers) {
        const found = text.match(/<[^>]*>/g) || []
        assert.equal(found.join(''), text, 'records are whole')
        const place = new Map(found.map((r, at) => [r, at]))
        assert.equal(place.size, found.length, 'nothing is there twice')
        let known = 0
        for (const w of writers) {
            const last = new Map()
            for (const r of w.records) {
                const at = place.get(r.text)
                assert.ok(at !== undefined || !r.acknowledged, `an acknowledged append is there: ${r.text.slice(0, 20)}`)
                if (at === undefined) continue
                assert.ok(!r.refused, `${r.text.slice(0, 20)} was refused`)
                assert.ok(at > (last.get(r.connection) ?? -1), 'in the order of their connection')
                last.set(r.connection, at)
                known++
                if (!r.acknowledged) w.world.counts.appendsUnanswered++
                r.acknowledged = true // it has been read, so it is durable
            }
            // What was found to be missing is not going to appear.
            w.records = w.records.filter((r) => r.acknowledged)
        }
        assert.equal(known, found.length, 'nothing is there that was not sent')
    }
}
