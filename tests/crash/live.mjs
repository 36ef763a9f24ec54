// kill -9 of clients and of the service, at any moment, under mixed subscriptions and outboxes: ranges tile, what subscribers make of them is what a fresh query
// gives, each byte of a stream comes once (also of stream columns inside results), each batch that an outbox has kept is applied once, and its fate is told.
//
//   RUNS=500 SEED=7 node tests/crash/live.mjs
//
// Subscribers: `segue sub` with a file, server-sent events and WebSocket, each with queries, streams and an upload. Programs with outboxes put and send.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import http from 'node:http'
import { performance } from 'node:perf_hooks'
import { assertSameRows } from '../e2e/lib/fold.mjs'
import { App, create, insert } from '../e2e/lib/http.mjs'
import { Service, sleep, tempFolder } from '../e2e/lib/service.mjs'
import { Subscriber } from '../e2e/lib/sse.mjs'
import { SyncPeer } from '../e2e/lib/ws.mjs'
import { OutboxClient, SubProgram } from './live_clients.mjs'
import { exchange, Random, recover } from './workload.mjs'

const RUNS = Number(process.env.RUNS || 200)
const SEED = Number(process.env.SEED || (Date.now() & 0x7fffffff))
const KILLS_PER_FOLDER = 20
const ROOMS = 4
const FILM_BYTES = 600000

const schema = `
create table rooms (name text not null, hits counter, body stream);
create table posts (tag text not null, n integer, owner text not null, room uuid references rooms, score integer);
create index on posts (owner);`

const QUERIES = {
    rooms: 'select name, hits from rooms',
    talk: 'select name, body from rooms', // with its stream column live
    posts: 'select tag, n from posts',
    top: 'select tag, score from posts order by score desc, tag, n limit 10',
    page: 'select tag, score from posts order by score, tag, n limit 5 offset 3',
    either: "select tag from posts where owner = 'a' and n = 0 or score > 900",
    joined: 'select p.tag, p.n, r.name from posts p join rooms r on p.room = r.id where p.score < 300',
    sums: 'select owner, count(*) as posts, sum(score) as score from posts group by owner',
    heard: 'select name from rooms r where exists (select p.id from posts p where p.room = r.id and p.score > 980)',
    latest: 'select p.tag, r.hits from posts p join rooms r on p.room = r.id order by p.score desc, p.tag, p.n limit 7',
    within: 'select name, array(select p.tag from posts p where p.room = rooms.id and p.score > 950 order by p.tag, p.n) as best from rooms order by name',
}

const counts = { kills: 0, early: 0, outboxKills: 0, subKills: 0, cuts: 0, good: 0, spoiled: 0, unreadable: 0, unsurePut: 0, unsureLost: 0, commits: 0, runsOfSub: 0, resets: 0, folded: 0, bytes: 0 }

// An upload that grows a little all the time.
class SlowUpload {
    constructor(world) {
        this.world = world
        this.agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
        this.bytes = Buffer.alloc(FILM_BYTES, 'film')
    }

    ask(method, headers, body) { return exchange(this.world.s, this.agent, method, this.path, body, { 'tus-resumable': '1.0.0', ...headers }) }

    async begin() {
        this.path = '/apps/default/uploads'
        const reply = await this.ask('POST', { 'upload-length': String(FILM_BYTES) })
        assert.equal(reply.status, 201, reply.text)
        this.path = reply.headers.location
        this.id = this.path.split('/').at(-1)
    }

    async offset() {
        const reply = await this.ask('HEAD')
        return reply.lost ? undefined : Number(reply.headers['upload-offset'])
    }

    async run() {
        while (this.world.running) {
            const at = await this.offset()
            if (at === undefined || at === FILM_BYTES) return
            await this.ask('PATCH', { 'upload-offset': String(at), 'content-type': 'application/offset+octet-stream' }, this.bytes.subarray(at, at + 1 + this.world.random.below(3000)))
            await sleep(this.world.random.below(20))
        }
    }
}

class World {
    constructor(random) {
        this.random = random
        this.counts = counts
        this.folder = tempFolder()
        this.s = new Service({ args: ['--seal-quiet-ms', '100', '--journal-segment-bytes', '1048576', '--log-level', 'warn'] })
        this.app = new App(this.s)
        this.running = false
    }

    async begin() {
        await this.s.start()
        await this.app.schema(schema)
        const fate = await this.app.batch([...Array.from({ length: ROOMS }, (_, i) => insert('rooms', { name: `room ${i}` })), create('all', 'text/plain')])
        this.rooms = fate.ids.slice(0, ROOMS)
        this.upload = new SlowUpload(this)
        await this.upload.begin()
        const { rooms, talk, posts, top, page, either, joined, sums, heard, latest, within } = await this.known()
        const given = (all) => Object.fromEntries(Object.entries(all).filter(([, sql]) => sql))
        const streams = { all: 'all', body: `rows/rooms/${this.rooms[0]}/body` }
        const uploads = { film: this.upload.id }
        const follow = { talk: { body: 0 } }
        this.programs = [
            new SubProgram(this, 'one', this.folder, { queries: given({ rooms, talk, posts, top, joined, sums, within }), follow, streams, uploads }),
            new SubProgram(this, 'two', this.folder, { queries: given({ page, either, heard, latest }), streams: { all: 'all' } }),
        ]
        this.events = [new Subscriber(this.app, { queries: given({ rooms, talk, top, sums, latest }), follow, streams, uploads }), new Subscriber(this.app, { queries: given({ posts, page }), streams: { all: 'all' } })]
        this.sockets = [new SyncPeer(this.app, { queries: given({ rooms, talk, either, joined, heard, page }), follow, streams, uploads })]
        this.outboxes = ['a', 'b', 'c'].map((name) => new OutboxClient(this, name, this.folder))
        this.subscribers = [...this.programs, ...this.events, ...this.sockets]
        for (const sub of this.programs) sub.start()
        for (const sub of [...this.events, ...this.sockets]) await sub.reopen()
        for (const outbox of this.outboxes) await outbox.start()
    }

    // The queries that this service keeps up to date.
    async known() {
        const out = {}
        for (const [name, sql] of Object.entries(QUERIES)) {
            const probe = new Subscriber(this.app, { queries: { q: sql } })
            try {
                await probe.open()
                out[name] = sql
            } catch (e) {
                if (!/"unsupported_sql"/.test(e.message)) throw e
                counts.without = { ...counts.without, [name]: true }
            }
            probe.cut()
        }
        return out
    }

    disturb() {
        const pick = (list) => list[this.random.below(list.length)]
        const dice = this.random.below(100)
        if (dice < 25) return pick(this.outboxes).restart()
        if (dice < 50) return pick(this.programs).restart()
        const sub = pick([...this.events, ...this.sockets])
        if (sub.over || sub.reopening) return undefined
        counts.cuts++
        sub.cut()
        sub.reopening = sub.open().catch(() => {}).finally(() => { sub.reopening = undefined })
    }

    async workUntilKilled(ms) {
        this.running = true
        const work = [...this.outboxes, this.upload].map((c) => c.run())
        for (const w of work) w.catch(() => {}) // it is told below, with its run
        const trouble = setInterval(() => this.disturb(), 50)
        await sleep(ms)
        clearInterval(trouble)
        counts.kills++
        await this.s.kill()
        this.running = false
        await Promise.all(work)
        this.check()
    }

    check() {
        for (const program of [...this.programs, ...this.outboxes]) program.check()
        for (const sub of this.events) if (sub.failure) throw sub.failure
        for (const sub of this.sockets) if (sub.ws?.failure) throw sub.ws.failure
        for (const sub of this.subscribers) assert.ok(sub.fold.resets.every((r) => r === 'too_old'), `resets: ${sub.fold.resets}`)
    }

    async recover() { if (await recover(this.s, this.random, 40)) counts.early++ }

    async verify() {
        for (const sub of [...this.events, ...this.sockets]) {
            await sub.reopening
            if (sub.failure || sub.ws?.failure) throw sub.failure || sub.ws.failure
            if (sub.over === false) continue
            if (sub.ws && !sub.ws.ended) continue
            if (sub.ws !== undefined) sub.cut()
            await sub.reopen()
        }
        for (const outbox of this.outboxes) await outbox.settle()
        await this.verifyBatches()
        await this.verifyFolds()
        this.check()
    }

    // What was accepted is there once and whole, and nothing else.
    async verifyBatches() {
        const accepted = this.outboxes.flatMap((o) => o.accepted()).sort((a, b) => a.answer.seq - b.answer.seq)
        assert.equal(new Set(accepted.map((b) => b.answer.seq)).size, accepted.length, 'each has a seq of its own')
        assert.equal((await this.app.readStream('all')).bytes.toString(), accepted.map((b) => `${b.tag};`).join(''), 'each in the common stream, once, in the order of their seqs')
        const expected = new Map(accepted.map((b) => [b.tag, b.k]))
        for (const b of accepted) if (b.removes) expected.set(b.removes.tag, expected.get(b.removes.tag) - 1)
        const found = new Map()
        for (const { tag } of await this.app.rows('select tag from posts')) found.set(tag, (found.get(tag) || 0) + 1)
        for (const [tag, k] of expected) assert.equal(found.get(tag) || 0, k, `rows of ${tag}`)
        for (const tag of found.keys()) assert.ok(expected.has(tag), `${tag} was not accepted`)
        const hits = await this.app.rows('select hits from rooms order by name')
        this.rooms.forEach((_, i) => assert.equal(hits[i].hits || 0, accepted.filter((b) => b.room === i).reduce((sum, b) => sum + b.hits, 0), `hits of room ${i}: each batch counts once`))
    }

    async verifyFolds() {
        const fresh = new Map()
        const at = await this.upload.offset()
        for (const sub of this.subscribers) {
            for (const [name, sql] of Object.entries(sub.what?.queries || this.queriesOf(sub))) {
                if (!fresh.has(sql)) fresh.set(sql, await this.app.rows(sql))
                await this.same(sub, name, fresh.get(sql))
                counts.folded++
            }
            for (const [name, path] of Object.entries(this.streamsOf(sub))) {
                const { bytes } = await this.app.readStream(path)
                await sub.until(`the end of ${name}`, (f) => f.isLive && f.views[name].offset === bytes.length)
                assert.ok(sub.fold.views[name].bytes.equals(bytes), `${name}: each byte once`)
                counts.bytes += bytes.length
            }
            for (const room of sub.fold.views.talk ? this.rooms : []) {
                const { bytes } = await this.app.readStream(`rows/rooms/${room}/body`)
                await sub.until(`the talk of ${room}`, (f) => f.isLive && f.views.talk.stream('body', room)?.offset === bytes.length)
                assert.ok(sub.fold.views.talk.stream('body', room).bytes.equals(bytes), `${room}: each byte once`)
            }
            const film = sub.fold.views.film
            if (film) await sub.until('the upload', (f) => (f.views.film.value.done ? FILM_BYTES : f.views.film.value.offset) === at)
        }
    }

    queriesOf(socket) { return Object.fromEntries(Object.entries(socket.subscribe).filter(([, w]) => w.query).map(([name, w]) => [name, w.query])) }
    streamsOf(sub) { return sub.what?.streams || Object.fromEntries(Object.entries(sub.subscribe).filter(([, w]) => w.stream).map(([name, w]) => [name, w.stream])) }

    async same(sub, name, rows) {
        let why
        try {
            await sub.until(`the state of ${name}`, (f) => {
                if (!f.isLive) return false
                try { assertSameRows(f.views[name], rows); return true } catch (e) { why = e; return false }
            })
        } catch (e) {
            throw why ? new Error(`${e.message}: ${why.message}`) : e
        }
    }

    async end() {
        try {
            for (const sub of [...this.events || [], ...this.sockets || []]) if (sub.req || sub.ws) sub.cut()
            for (const program of [...this.programs || [], ...this.outboxes || []]) {
                await program.restarting
                if (program.child) await program.kill()
            }
            this.upload?.agent.destroy()
            for (const sub of this.programs || []) counts.runsOfSub += sub.file.runs
            for (const sub of this.subscribers || []) {
                const fold = sub.file ? sub.file.fold : sub.fold
                counts.commits += fold.commits
                counts.resets += fold.resets.length
            }
        } finally {
            await this.s.end()
            fs.rmSync(this.folder, { recursive: true, force: true })
        }
    }
}

async function main() {
    const random = new Random(SEED)
    const began = performance.now()
    const bug = process.env.SEGUE_BUG
    let passed = 0, failed = 0, world
    console.log(`crash: ${RUNS} runs, SEED=${SEED}${bug ? `, planted bug ${bug}` : ''}`)
    for (let run = 0; run < RUNS; run++) {
        try {
            if (!world) {
                world = new World(random)
                await world.begin()
            }
            await world.workUntilKilled(20 + random.below(random.chance(20) ? 900 : 300))
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
        if (failed >= (bug ? 1 : 3)) break
    }
    report(performance.now() - began)
    if (bug) console.log(failed > 0 ? `the planted bug ${bug} was found` : `the planted bug ${bug} was NOT found`)
    console.log(`${passed} passed, ${failed} failed`)
    process.exitCode = failed > 0 ? 1 : 0
}

function report(ms) {
    console.log(`${counts.kills} kills of the service in ${(ms / 1000).toFixed(0)} s, ${counts.early} more during recovery; ${counts.outboxKills} of programs with an outbox, ${counts.subKills} of segue sub; ${counts.cuts} connections cut`)
    console.log(`outboxes: ${counts.good} batches accepted, ${counts.spoiled} rejected, ${counts.unreadable} unreadable; of those whose putting was cut off ${counts.unsurePut} had been kept, ${counts.unsureLost} had not`)
    console.log(`subscriptions: ${counts.commits} ranges folded, ${counts.runsOfSub} runs of segue sub, ${counts.resets} resets; ${counts.folded} times what a fresh query gives, ${(counts.bytes / 1e6).toFixed(1)} MB of streams compared`)
    if (counts.without) console.log(`not kept up to date by this service: ${Object.keys(counts.without).join(', ')}`)
}

await main()
