// kill -9 at any moment, and look: every acknowledged batch is there, once and whole; nothing else is; subscribers that come back
// have seen each commit and each byte exactly once; an upload is never behind the offset that was told; every LLM job has an end.
//
//   RUNS=200 SEED=7 node tests/crash/crash.mjs
//
// A run: the service comes up on what the last kill left, clients find out what became of what they had in flight, all of
// it is checked, then everybody works again until the next kill. A data folder lives through twenty kills.
import assert from 'node:assert/strict'
import { performance } from 'node:perf_hooks'
import { App, create } from '../e2e/lib/http.mjs'
import { Provider } from '../e2e/lib/provider.mjs'
import { Service, sleep } from '../e2e/lib/service.mjs'
import { Subscriber } from '../e2e/lib/sse.mjs'
import { JobClient, verifyAskedOnce } from './jobs.mjs'
import { Merger, Mover, rowsBegin, rowsSchema, verifyShared } from './rows.mjs'
import { LOG, SocketWriter } from './sockets.mjs'
import { StreamClient } from './streams.mjs'
import { TusClient } from './uploads.mjs'
import { Appender, Random, recover, schema, Uploader, Writer } from './workload.mjs'

const RUNS = Number(process.env.RUNS || 200)
const SEED = Number(process.env.SEED || (Date.now() & 0x7fffffff))
const KILLS_PER_FOLDER = 20

const counts = { kills: 0, inFlight: 0, early: 0, retries: 0, settledBefore: 0, resumed: 0, midway: 0, batches: 0, rejections: 0, blobs: 0, resets: 0,
    merged: 0, moved: 0, conflicts: 0,
    appends: 0, appendsUnanswered: 0, socketsResumed: 0, socketsCut: 0,
    uploads: 0, uploadBytes: 0, uploadsResumed: 0, uploadsKept: 0, patchesBroken: 0,
    streamOps: 0, streamRetries: 0, streamsExpired: 0, streamBytes: 0,
    jobs: 0, jobsUnanswered: 0, jobsAsked: 0, jobBytes: 0, jobEnds: {} }

// One data folder with its clients, from its first start to its last kill.
class World {
    constructor(random, provider) {
        this.random = random
        this.provider = provider
        this.counts = counts
        const args = ['--seal-quiet-ms', '100', '--journal-segment-bytes', '1048576', '--log-level', 'warn']
        args.push('--llm-provider', `stand-in ${provider.url}/v1 MADE_UP_KEY`)
        this.s = new Service({ args, env: { MADE_UP_KEY: 'made-up-key' } })
        this.app = new App(this.s)
        this.running = false
    }

    async begin() {
        await this.s.start()
        await this.app.schema(schema + rowsSchema)
        await rowsBegin(this.app)
        await this.app.batch([create('all', 'text/plain'), create('plain', 'text/plain'), create(LOG, 'text/plain')])
        this.sockets = ['v', 'w'].map((name) => new SocketWriter(this, name))
        for (const socket of this.sockets) await socket.findOut()
        this.writers = [...['a', 'b', 'c', 'd'].map((name) => new Writer(this, name)), ...this.sockets]
        this.appender = new Appender(this, 'p')
        this.uploader = new Uploader(this, 'u')
        this.tus = ['t', 's'].map((name) => new TusClient(this, name))
        this.asker = new JobClient(this, 'j')
        this.keepers = ['x', 'y'].map((name) => new StreamClient(this, name))
        this.mergers = ['k', 'l', 'm'].map((name) => new Merger(this, name))
        this.movers = ['n', 'o'].map((name) => new Mover(this, name))
        this.clients = [...this.writers, ...this.mergers, ...this.movers, this.appender, this.uploader, ...this.tus, this.asker, ...this.keepers]
        this.subscribers = [
            { queries: { items: 'select * from items', tallies: 'select owner, batches from tallies' }, streams: { all: 'all' } },
            { queries: { mine: 'select owner, n from mine', accounts: 'select balance from accounts order by balance desc' } },
            { queries: { top: 'select nonce, n from items order by nonce desc, n limit 7', mine: ['select * from items where owner = $1', 'b'] }, streams: { plain: 'plain' } },
            { streams: Object.fromEntries([['all', 'all'], ['plain', 'plain'], ...this.writers.map((w) => [w.name, `rows/tallies/${w.tally}/body`])]) },
        ].map((what) => new Subscriber(this.app, what))
        for (const sub of this.subscribers) await sub.reopen()
    }

    // Everybody works; behind `ms` the service is killed.
    async workUntilKilled(ms) {
        this.running = true
        const work = this.clients.map((c) => c.run())
        for (const w of work) w.catch(() => {}) // it is told below, with its run
        const cuts = setInterval(() => this.cutSomebody(), 40)
        await sleep(ms)
        clearInterval(cuts)
        counts.kills++
        if (this.writers.some((w) => w.inFlight)) counts.inFlight++
        await this.s.kill()
        this.running = false
        await Promise.all(work)
        await Promise.all(this.subscribers.map((sub) => sub.ended))
        this.checkSubscribers()
    }

    // A subscriber loses its connection while the service lives, and comes back with its cursor.
    cutSomebody() {
        const sub = this.subscribers[this.random.below(this.subscribers.length)]
        if (sub.over || sub.reopening) return
        if (sub.fold.cursor) counts.midway++
        sub.cut()
        sub.reopening = sub.open().catch(() => {}).finally(() => { sub.reopening = undefined })
    }

    checkSubscribers() {
        for (const socket of this.sockets) socket.drain()
        for (const sub of [...this.subscribers, ...this.sockets]) {
            if (sub.failure) throw sub.failure
            assert.ok(sub.fold.resets.every((r) => r === 'too_old'), `resets: ${sub.fold.resets}`)
        }
    }

    async recover() {
        if (await recover(this.s, this.random, 40)) counts.early++
    }

    async verify() {
        for (const writer of this.writers) {
            await writer.findOut()
            await writer.askAgain()
        }
        for (const client of [...this.mergers, ...this.movers]) await client.findOut()
        await Promise.all(this.subscribers.map(async (sub) => {
            await sub.reopening
            if (sub.over && sub.fold.cursor) counts.resumed++
            if (sub.over) await sub.reopen()
        }))
        await this.verifyRows()
        await verifyShared(this.app, this.mergers, this.movers)
        await this.verifyStreams()
        await this.verifyBlobs()
        for (const client of [...this.tus, this.asker, ...this.keepers]) await client.verify()
        await this.verifyFolds()
    }

    accepted() {
        return this.writers.flatMap((w) => w.batches.filter((b) => b.fate.accepted)).sort((a, b) => a.fate.seq - b.fate.seq)
    }

    async verifyRows() {
        const rows = await this.app.rows('select nonce, n, owner from items')
        const places = new Map()
        for (const r of rows) {
            const seen = places.get(r.nonce) || new Set()
            assert.ok(!seen.has(r.n), `${r.nonce} wrote row ${r.n} twice`)
            places.set(r.nonce, seen.add(r.n))
        }
        const accepted = this.accepted()
        for (const b of accepted) assert.equal(places.get(b.nonce)?.size, b.k, `${b.nonce} is there, whole`)
        assert.equal(places.size, accepted.length, 'nothing is there that was not accepted')
        assert.equal(new Set(accepted.map((b) => b.fate.seq)).size, accepted.length, 'each has a seq of its own')
        for (const w of this.writers) {
            const last = w.batches.filter((b) => b.fate.accepted).at(-1)
            const [tally] = await this.app.rows('select batches from tallies where id = $1', [w.tally])
            assert.equal(tally?.batches, last?.counter)
        }
    }

    async verifyStreams() {
        const all = (await this.app.readStream('all')).bytes.toString()
        assert.equal(all, this.accepted().map((b) => `${b.nonce};`).join(''), 'the common stream has each accepted batch once, in the order of their seqs')
        SocketWriter.verifyLog((await this.app.readStream(LOG)).bytes.toString(), this.sockets)
        const plain = (await this.app.readStream('plain')).bytes.toString()
        const records = plain.match(/<[^>]*>/g) || []
        assert.equal(records.join(''), plain, 'records are whole')
        let at = 0
        for (const r of this.appender.records) {
            if (records[at] === r.text) at++
            else assert.ok(!r.acknowledged, `an acknowledged append is there: ${r.text.slice(0, 20)}`)
        }
        assert.equal(at, records.length, 'nothing is there twice, or was not sent')
        // What was found to be missing is not going to appear.
        this.appender.records = this.appender.records.filter((r) => records.includes(r.text))
    }

    async verifyBlobs() {
        for (const blob of this.uploader.blobs) {
            if (blob.checked && !this.random.chance(3)) continue
            const reply = await this.app.request('GET', `/blobs/${blob.digest}`)
            if (!blob.stored && reply.status === 404) continue
            assert.equal(reply.status, 200, reply.text)
            assert.ok(reply.body.equals(blob.bytes), 'a blob is what its digest says')
            blob.checked = blob.stored
        }
    }

    // What subscribers made of their messages is what a fresh question gives.
    async verifyFolds() {
        for (const sub of [...this.subscribers, ...this.sockets]) {
            await sub.untilLive()
            for (const [name, spec] of Object.entries(sub.what.queries || {})) {
                const [sql, ...params] = [].concat(spec)
                const fresh = await this.app.query(sql, params)
                await sub.until(`the state of ${name}`, (f) => f.isLive && sameRows(f.views[name], fresh.rows))
            }
            for (const [name, path] of Object.entries(sub.what.streams || {})) {
                const { status, headers } = await this.app.request('HEAD', this.app.stream(path))
                if (status === 404) continue
                const { bytes } = await this.app.readStream(path)
                await sub.until(`the end of ${name}`, (f) => f.views[name].offset === Number(headers['stream-next-offset'].split('_').at(-1)))
                assert.ok(sub.fold.views[name].bytes.equals(bytes), `${name}: each byte once`)
            }
        }
        this.checkSubscribers()
    }

    async end() {
        for (const sub of this.subscribers || []) sub.cut()
        for (const socket of this.sockets || []) socket.peer.cut()
        for (const w of this.writers || []) {
            counts.batches += w.batches.filter((b) => b.fate).length
            counts.rejections += w.batches.filter((b) => b.fate && !b.fate.accepted).length
        }
        counts.blobs += this.uploader?.blobs.filter((b) => b.stored).length || 0
        for (const client of this.mergers || []) counts.merged += client.accepted.length
        for (const client of this.movers || []) counts.moved += client.accepted.length, counts.conflicts += client.rejected
        for (const client of this.tus || []) {
            client.follower?.cut()
            counts.uploads += client.finished.length
            counts.uploadBytes += client.finished.reduce((n, u) => n + u.bytes.length, 0)
        }
        for (const job of this.asker?.jobs || []) if (job.follower.req) job.follower.cut()
        counts.resets += (this.subscribers || []).reduce((n, sub) => n + sub.fold.resets.length, 0)
        for (const c of this.clients || []) c.agent.destroy()
        await this.s.end()
    }
}

// Cheaper than a deep comparison, and exact: members come in one order.
function sameRows(view, fresh) {
    if (view.size !== fresh.length) return false
    if (view.ordered) return JSON.stringify(view.rows()) === JSON.stringify(fresh)
    return fresh.every((row) => JSON.stringify(view.byName.get(row.id)) === JSON.stringify(row))
}

async function main() {
    const random = new Random(SEED)
    const provider = await new Provider().start()
    const began = performance.now()
    let passed = 0
    let failed = 0
    let world
    console.log(`crash: ${RUNS} runs, SEED=${SEED}`)
    for (let run = 0; run < RUNS; run++) {
        try {
            if (!world) {
                world = new World(random, provider)
                await world.begin()
            }
            await world.workUntilKilled(20 + random.below(random.chance(20) ? 600 : 200))
            await world.recover()
            await world.verify()
            passed++
        } catch (e) {
            failed++
            console.log(`run ${run + 1} failed (SEED=${SEED}): ${e.stack}\n${world.s.child?.stderr.slice(-2000)}`)
        }
        if (failed > 0 || (run + 1) % KILLS_PER_FOLDER === 0 || run + 1 === RUNS) {
            await world.end().catch((e) => { failed++; console.log(`the end of run ${run + 1} failed: ${e.stack}`) })
            world = undefined
        }
        if (failed >= 3) break
        if (process.stdout.isTTY) process.stdout.write(`\r${run + 1}`)
    }
    counts.jobsAsked = verifyAskedOnce(provider)
    await provider.end()
    report(performance.now() - began)
    console.log(`${passed} passed, ${failed} failed`)
    process.exitCode = failed > 0 ? 1 : 0
}

function report(ms) {
    const share = Math.round((100 * counts.inFlight) / counts.kills)
    console.log(`${counts.kills} kills in ${(ms / 1000).toFixed(0)} s, ${share} % of them with batches in flight; ${counts.early} more during recovery`)
    console.log(`${counts.batches} batches settled, ${counts.rejections} of them rejected; ${counts.blobs} blobs stored`)
    console.log(`${counts.retries} batches sent again after a lost reply, ${counts.settledBefore} of them had been settled before the kill`)
    console.log(`rows: ${counts.merged} merging batches on shared rows, ${counts.moved} transactions accepted, ${counts.conflicts} in conflict; each counts once`)
    console.log(`WebSocket: ${counts.appends} numbered appends acknowledged, ${counts.appendsUnanswered} more had become durable;` +
        ` ${counts.socketsResumed} connections resumed, ${counts.socketsCut} of them over a cut`)
    console.log(`uploads: ${counts.uploads} done, ${(counts.uploadBytes / 1e6).toFixed(0)} MB; ${counts.uploadsResumed} went on behind a kill;` +
        ` ${counts.patchesBroken} bodies broken, ${counts.uploadsKept} times more was kept than had been acknowledged`)
    console.log(`streams: ${counts.streamOps} appends by producers and on condition, forks, trims and the like; ${counts.streamRetries} sent again behind a kill,` +
        ` each done once; ${counts.streamsExpired} expired; ${(counts.streamBytes / 1e6).toFixed(0)} MB compared`)
    const ends = Object.entries(counts.jobEnds).map(([state, n]) => `${n} ${state}`).join(', ')
    console.log(`LLM: ${counts.jobs} jobs, ${counts.jobsUnanswered} without an answer before the kill, ${counts.jobsAsked} asked of the provider,` +
        ` each once; ${ends}; ${(counts.jobBytes / 1e6).toFixed(1)} MB of text`)
    console.log(`${counts.resumed} subscriptions resumed by cursor over a kill, ${counts.midway} over a cut; ${counts.resets} resets`)
    assert.ok(share >= 80 || counts.kills < 20, 'most kills hit batches in flight')
}

await main()
