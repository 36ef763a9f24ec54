// The jobs campaign: LLM jobs in every format, form and manner, many at once, while the service, the provider and the clients are killed
// with -9 at random points.
//
//   RUNS=1000 SEED=7 node tests/crash/asked.mjs         1000 jobs
//
// At the end every job has an end of its own that fits what happened to it; every byte that any reader ever got is at its place in the
// stored stream, none lost, none doubled; every reader has got all of it; and no provider was asked again for what somebody could see.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { performance } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'
import { App } from '../e2e/lib/http.mjs'
import { Child, eventually, Service, sleep, tempFolder } from '../e2e/lib/service.mjs'
import { readJournal, verifyJob } from './asked_verify.mjs'
import { modelOf } from './model.mjs'
import { Random, recover } from './workload.mjs'

const JOBS = Number(process.env.RUNS || 1000)
const SEED = Number(process.env.SEED || (Date.now() & 0x7fffffff))
const AT_ONCE = 40
const CALLS = 24 // of the service at once: the others wait in its queue
const WORKERS = 3
const here = path.dirname(fileURLToPath(import.meta.url))
const schema = 'create table replies (body stream, status text, usage jsonb);'

// A process that is killed and started again: what it has told is kept, what it has not finished is told to the next one.
class Worker {
    constructor(campaign) {
        this.campaign = campaign
        this.orders = new Map()
        this.start()
    }

    start() {
        let rest = ''
        this.child = new Child(process.execPath, [path.join(here, 'client.mjs'), this.campaign.s.url])
        this.child.process.stdout.on('data', (text) => {
            const lines = (rest + text).split('\n')
            rest = lines.pop() // half a line is nothing
            this.child.stdout = ''
            for (const line of lines) this.take(JSON.parse(line))
        })
        for (const order of this.orders.values()) this.send(order)
    }

    send(order) { this.child.process.stdin.write(`${JSON.stringify(order)}\n`) }

    give(name, order) {
        this.orders.set(name, order)
        this.send(order)
    }

    take(m) {
        if (m.is === 'broken') return this.campaign.fail(new Error(m.text))
        const name = m.id ?? `${m.key}/${m.is}`
        const order = this.orders.get(name)
        if (m.is === 'got') order.offset = m.to
        if (['submitted', 'cancelled', 'end'].includes(m.is)) this.orders.delete(name)
        this.campaign.told(m)
    }

    // Whatever it wrote before it died counts.
    async kill() {
        this.child.signal('SIGKILL')
        await this.child.end()
        assert.doesNotMatch(this.child.stderr, /Error/)
    }
}

class Campaign {
    constructor() {
        this.random = new Random(SEED)
        this.jobs = new Map()
        this.readers = new Map() // id -> {job, stream, kind, pieces, over}
        this.kills = { service: 0, stops: 0, early: 0, provider: 0, clients: 0 }
        this.running = true
        this.folder = tempFolder()
        this.journal = path.join(this.folder, 'provider')
        fs.writeFileSync(this.journal, '')
    }

    fail(e) { this.failure ??= e }

    async begin() {
        await this.startProvider(0)
        const url = `http://127.0.0.1:${this.providerPort}/v1`
        this.s = new Service({
            env: { MADE_UP_KEY: 'made-up-key' },
            args: ['--log-level', 'warn', '--seal-quiet-ms', '200', '--journal-segment-bytes', '1048576', '--long-poll-ms', '1000',
                '--llm-jobs', String(CALLS), '--llm-retries', '10', '--llm-retry-ms', '30',
                ...['chat', 'responses', 'messages'].flatMap((api) => ['--llm-provider', `${api} ${url} MADE_UP_KEY ${api}`])],
        })
        await this.s.start()
        this.app = new App(this.s)
        await this.app.schema(schema)
        this.workers = Array.from({ length: WORKERS }, () => new Worker(this))
    }

    async startProvider(port) {
        this.provider = new Child(process.execPath, [path.join(here, 'model_server.mjs'), String(port), this.journal])
        const hit = await eventually('the provider', () => /listening on \S+:(\d+)/.exec(this.provider.stdout))
        this.providerPort = Number(hit[1])
    }

    pick(list) { return list[this.random.below(list.length)] }
    worker() { return this.pick(this.workers) }

    // ---- jobs -------------------------------------------------------------------------------------------------------

    plan(background) {
        const endings = background ? ['done', 'done', 'done', 'done', 'quiet', 'error']
            : ['done', 'done', 'done', 'done', 'done', 'done', 'quiet', 'bare', 'cut', 'error', 'hang', 'refuse']
        const refusals = this.random.chance(20) ? 1 + this.random.below(3) : 0
        return { ending: this.pick(endings), tokens: 1 + this.random.below(this.random.chance(10) ? 300 : 50), ms: this.random.below(40), refusals }
    }

    make() {
        const key = this.random.uuid()
        const api = this.pick(['chat', 'responses', 'messages'])
        const how = this.pick(['row', 'row', 'stream', 'stream', 'stream', 'dropin', 'dropin', 'chat'])
        const form = how === 'row' ? 'text' : how === 'dropin' ? 'raw' : how === 'chat' ? 'ui' : this.pick(['text', 'messages', 'raw', 'ui'])
        const background = api === 'responses' && how !== 'dropin' && form !== 'ui' && this.random.chance(80)
        const fork = how === 'stream' && !background && this.random.chance(30)
        const plan = this.plan(background)
        const request = { model: modelOf(plan), [api === 'responses' ? 'input' : 'messages']: [{ role: 'user', content: key }], max_tokens: 1000 }
        const stream = how === 'row' ? `rows/replies/${key}/body` : how === 'chat' ? `llm/ui/${api}/${key}` : `replies/${key}`
        const job = { key, api, how, form, background, fork, plan, request, id: key, stream, cancelled: false, readers: [] }
        this.jobs.set(key, job)
        if (how === 'dropin') this.askDropin(job)
        else if (how === 'chat') this.askChat(job)
        else this.submit(job)
        if (plan.ending === 'hang' || this.random.chance(15)) this.cancelLater(job)
        return job
    }

    submit(job) {
        const { key, api, how, form, background, fork, request } = job
        const target = how === 'row' ? { table: 'replies', id: key, column: 'body' } : { stream: job.stream }
        const more = how === 'row' ? { insert: {}, status: 'status', usage: 'usage' } : {}
        const body = JSON.stringify({ job: key, provider: api, request, target, form, background, ...(fork && { on_restart: 'fork' }), ...more })
        this.worker().give(`${key}/submitted`, { do: 'submit', key, body })
        job.submitted = false
        for (const kind of [this.pick(['sse', 'poll']), this.pick(['subscribe', 'ws'])]) this.follow(job, job.stream, kind)
    }

    reader(job, stream, kind) {
        const reader = { id: `${job.key}#${job.readers.length}`, job, stream, kind, pieces: [], again: [], over: false }
        this.readers.set(reader.id, reader)
        job.readers.push(reader)
        return reader
    }

    follow(job, stream, kind) {
        const { id } = this.reader(job, stream, kind)
        this.worker().give(id, { do: 'follow', id, kind, stream, offset: 0, json: job.form === 'messages' })
    }

    askDropin(job) {
        const { id } = this.reader(job, job.stream, 'dropin')
        const target = { chat: 'chat/completions', responses: 'responses', messages: 'messages' }[job.api]
        job.id = undefined
        this.worker().give(id, { do: 'dropin', id, key: job.key, path: `/llm/${job.api}/v1/${target}`, name: job.stream, offset: 0,
            body: JSON.stringify({ ...job.request, stream: true }) })
    }

    askChat(job) {
        const { id } = this.reader(job, job.stream, 'chat')
        const body = { id: job.key, model: job.request.model, messages: [{ id: 'm', role: 'user', parts: [{ type: 'text', text: job.key }] }] }
        job.id = undefined
        this.worker().give(id, { do: 'chat', id, key: job.key, path: `/llm/${job.api}/ui`, stream: job.stream, body: JSON.stringify(body), offset: 0 })
    }

    // Again and again, as the job of a drop-in may be another one by then.
    async cancelLater(job) {
        await sleep(this.random.below(1200))
        while (!this.isOver(job)) {
            const id = job.heir ?? job.id
            job.cancelled = true
            const path = job.how === 'chat' ? `/llm/${job.api}/ui/${job.key}/stream` : `/llm/jobs/${id}`
            if (job.how === 'chat' || (id !== undefined && job.submitted !== false)) this.worker().give(`${job.key}/cancelled`, { do: 'cancel', key: job.key, path })
            await sleep(500)
        }
    }

    isOver(job) { return job.submitted !== false && !job.looking && job.readers.every((r) => r.over) }

    told(m) {
        const reader = this.readers.get(m.id)
        const job = reader ? reader.job : this.jobs.get(m.key)
        if (m.is === 'submitted') {
            job.submitted = true
            if (m.status !== 202 || m.said.stream !== job.stream) this.fail(new Error(`${job.key}: ${JSON.stringify(m)}`))
        } else if (m.is === 'made') job.id = m.job
        else if (m.is === 'got') reader.pieces.push(m)
        else if (m.is === 'again') reader.again.push(m)
        else if (m.is === 'end') {
            reader.over = true
            if (job.fork && job.readers.every((r) => r.over)) this.lookForHeir(job)
        }
    }

    // A job that a restart continues in a fork is followed there.
    async lookForHeir(job) {
        job.looking = true
        const said = await this.insist(`/llm/jobs/${job.heir ?? job.id}`)
        if (said.continued_in) {
            job.heir = said.continued_by
            this.follow(job, said.continued_in, this.pick(['sse', 'poll', 'subscribe', 'ws']))
        }
        job.looking = false
    }

    insist(what) {
        return eventually(what, async () => {
            const reply = await this.app.request('GET', what).catch(() => undefined)
            return reply?.status === 200 && reply.json
        })
    }

    // ---- kills ------------------------------------------------------------------------------------------------------

    async killService() {
        if (this.random.chance(15)) { // asked to stop, for once
            assert.equal(await this.s.stop(), 0)
            this.kills.stops++
            return this.s.start()
        }
        await this.s.kill()
        this.kills.service++
        if (await recover(this.s, this.random, 40)) this.kills.early++
    }

    async killProvider() {
        this.provider.signal('SIGKILL')
        await this.provider.end()
        this.kills.provider++
        await sleep(this.random.below(200))
        await this.startProvider(this.providerPort)
    }

    async killClients() {
        const worker = this.worker()
        await worker.kill()
        this.kills.clients++
        worker.start()
    }

    async again(least, most, kill) {
        for (;;) {
            // Storms and calms: some jobs are met again and again, others come to their own end.
            await sleep(least + this.random.below(this.random.chance(25) ? 4 * most : most - least))
            if (!this.running || this.failure) return
            await kill.call(this)
        }
    }

    async run() {
        const killers = [this.again(100, 900, this.killService), this.again(300, 1500, this.killProvider), this.again(100, 900, this.killClients)]
        for (const killer of killers) killer.catch((e) => this.fail(e))
        const idle = { since: performance.now(), over: 0 }
        for (;;) {
            const over = [...this.jobs.values()].filter((j) => this.isOver(j)).length
            if (over > idle.over) Object.assign(idle, { since: performance.now(), over })
            if (performance.now() - idle.since > 60000) this.fail(new Error(`no job ends any more:\n${this.stuck()}`))
            if (this.failure || over === JOBS) break
            while (this.jobs.size < JOBS && this.jobs.size - over < AT_ONCE && this.random.chance(60)) this.make()
            if (process.stdout.isTTY) process.stdout.write(`\r${over}`)
            await sleep(10)
        }
        this.running = false
        await Promise.allSettled(killers)
        if (this.failure) throw this.failure
        await this.s.kill() // and all of it is still there
        await this.s.start()
    }

    stuck() {
        return [...this.jobs.values()].filter((j) => !this.isOver(j)).map((j) => JSON.stringify({ ...j, request: undefined,
            readers: j.readers.map((r) => [r.kind, r.stream, r.over, r.pieces.at(-1)?.to]) })).join('\n')
    }

    async end() {
        for (const worker of this.workers || []) worker.child.signal('SIGKILL')
        this.provider?.signal('SIGKILL')
        await this.s?.end().catch((e) => { this.fail(e) })
        fs.rmSync(this.folder, { recursive: true, force: true })
        if (this.failure) throw this.failure
    }
}

function report(campaign, counts, ms) {
    const { service, stops, early, provider, clients } = campaign.kills
    console.log(`${service} kills of the service, ${early} more while it recovered, ${stops} stops; ${provider} of the provider, ${clients} of clients; ${(ms / 1000).toFixed(0)} s`)
    console.log(`ends: ${Object.entries(counts.states).sort().map(([state, n]) => `${n} ${state}`).join(', ')}; ${counts.resumed} of ${counts.background} in the background` +
        ` were resumed, ${counts.forks} went on in a fork, ${counts.retried} were asked again before anything was shown`)
    console.log(`${counts.readers} readers got ${counts.pieces} pieces, ${(counts.bytes / 1e6).toFixed(1)} MB, all at their place; ${counts.again} pieces were shown again, the same`)
}

async function main() {
    const campaign = new Campaign()
    const began = performance.now()
    const counts = { states: {}, background: 0, resumed: 0, forks: 0, retried: 0, readers: 0, pieces: 0, again: 0, bytes: 0 }
    let passed = 0
    const failed = []
    console.log(`jobs: ${JOBS}, SEED=${SEED}`)
    try {
        await campaign.begin()
        await campaign.run()
        const journal = readJournal(fs.readFileSync(campaign.journal, 'utf8'))
        for (const job of campaign.jobs.values()) {
            try {
                await verifyJob(campaign.app, job, journal, counts)
                passed++
            } catch (e) {
                failed.push(job.key)
                if (failed.length < 6) console.log(`${JSON.stringify({ ...job, readers: undefined, request: undefined })}\n${JSON.stringify(journal.get(job.key))}\n${e.stack}`)
            }
        }
        report(campaign, counts, performance.now() - began)
    } finally {
        await campaign.end()
    }
    console.log(`${passed} jobs passed, ${failed.length} failed`)
    process.exitCode = failed.length > 0 ? 1 : 0
}

await main()
