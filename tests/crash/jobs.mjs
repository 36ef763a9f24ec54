// A client of the crash runs that asks a language model: whatever the kill met, a job ends in a state of its own, with all the text
// that anybody was shown.
import assert from 'node:assert/strict'
import { jobOf } from '../e2e/lib/provider.mjs'
import { sleep } from '../e2e/lib/service.mjs'
import { Subscriber } from '../e2e/lib/sse.mjs'
import { Client } from './workload.mjs'

const TIDE = 'The tide follows the moon, and the sun a little.'
const AT_ONCE = 6 // jobs under way

// Transcripts: their text, what becomes of the job if nothing comes between, and how often they are asked for.
const transcripts = [
    { model: 'happy', text: TIDE, state: 'done', share: 3 },
    { model: 'paced', text: TIDE, state: 'done', share: 5 },
    { model: 'unicode', text: 'Ebbe und Flut: Üñïcödé 🌊👨‍👩‍👧 潮汐 \\ "quoted"\n café 🌊é\n', state: 'done', share: 4 },
    { model: 'large', text: 'wave '.repeat(200 * 300), state: 'done', share: 1 },
    { model: 'slow', text: 'The tide' + ' tick'.repeat(4000), state: undefined, share: 4 },
    { model: 'silent', text: '', state: undefined, share: 1 },
    { model: 'falls-silent', text: 'The tide', state: undefined, share: 2 },
    { model: 'too-many', text: '', state: 'failed', share: 1 },
    { model: 'error-event', text: 'The tide follows', state: 'failed', share: 1 },
    { model: 'cut', text: 'The tide follows the', state: 'interrupted', share: 2 },
].flatMap((t) => Array(t.share).fill(t))

const isEnd = (state) => ['done', 'failed', 'cancelled', 'interrupted'].includes(state)

export class JobClient extends Client {
    constructor(world, name) {
        super(world, name)
        this.jobs = []
        this.ended = []
    }

    // Asks again with the same words under the same id, which is the same job.
    async post(job) {
        const reply = await this.ask('POST', '/llm/jobs', job.body)
        if (reply.lost || reply.status === 503) return reply
        assert.equal(reply.status, 202, reply.text)
        const said = JSON.parse(reply.text)
        assert.deepEqual([said.job, said.id, said.stream], [job.id, job.row, job.stream])
        if (job.stored) assert.equal(said.again, true, 'a job that was stored is not a new one')
        job.stored = true
        return reply
    }

    async step() {
        await sleep(this.random.below(20))
        const pick = this.random.below(10)
        const live = this.jobs.filter((j) => !j.told)
        if (live.length < AT_ONCE && (pick < 6 || live.length === 0)) return this.start()
        const job = live[this.random.below(live.length)]
        if (!job) return true
        return pick < 3 ? this.cancel(job) : this.look(job)
    }

    async start() {
        const transcript = transcripts[this.random.below(transcripts.length)]
        const [id, row] = [this.random.uuid(), this.random.uuid()]
        // The prompt is the job's id: the provider's log tells who was asked.
        const request = { model: transcript.model, messages: [{ role: 'user', content: id }] }
        const body = JSON.stringify(jobOf(transcript.model, { job: id, target: { table: 'replies', id: row, column: 'body' }, request }))
        const { model, text, state } = transcript
        const stream = `rows/replies/${row}/body`
        const job = { id, row, body, model, text, expected: state, stream, stored: false, cancelled: false, told: undefined }
        this.jobs.push(job)
        this.world.counts.jobs++
        job.follower = new Subscriber(this.world.app, { queries: { row: ['select status from replies where id = $1', row] }, streams: { text: job.stream } })
        if (this.random.chance(50)) await job.follower.open().catch(() => {})
        const reply = await this.post(job)
        if (!reply.lost && !job.follower.req) await job.follower.open().catch(() => {})
        return !reply.lost
    }

    async cancel(job) {
        const stored = job.stored
        job.cancelled = true
        const reply = await this.ask('DELETE', `/llm/jobs/${job.id}`)
        if (reply.lost || reply.status === 503) return !reply.lost
        if (reply.status === 404) assert.ok(!stored, 'a job that was stored is known')
        else this.tell(job, JSON.parse(reply.text), reply)
        return true
    }

    async look(job) {
        const reply = await this.ask('GET', `/llm/jobs/${job.id}`)
        if (reply.lost || reply.status === 503) return !reply.lost
        if (reply.status === 404) assert.ok(!job.stored, 'a job that was stored is known')
        else this.tell(job, JSON.parse(reply.text), reply)
        return true
    }

    // What was said of a job: an end is final, and one that this job can have.
    tell(job, said, reply) {
        assert.equal(reply.status, 200, reply.text)
        job.stored = true
        if (job.told) return assert.deepEqual(said, job.told, 'an end is final')
        if (!said.ended) return assert.ok(!isEnd(said.state), reply.text)
        assert.ok(isEnd(said.state), reply.text)
        if (said.state === 'cancelled') assert.ok(job.cancelled, 'nobody asked for that')
        else if (said.error?.code === 'restarted') assert.equal(said.state, 'interrupted')
        else assert.equal(said.state, job.expected, `${job.model}: ${reply.text}`)
        job.told = said
    }

    // Behind a restart: nothing from before it is alive, and every job has an end.
    async verify() {
        for (const job of this.jobs) {
            const before = job.follower.fold.views.row?.rows()[0]?.status
            const shown = job.follower.fold.views.text?.bytes ?? Buffer.alloc(0)
            if (job.stored) assert.ok(await this.look(job))
            else await this.verifyUnanswered(job, before)
            if (!job.stored) continue
            assert.ok(job.told, `${job.model} is not alive behind a restart`)
            if (isEnd(before)) assert.equal(job.told.state, before, 'an end that was shown is the end')
            await this.verifyEnd(job, shown)
        }
        this.ended.push(...this.jobs.filter((j) => j.stored))
        for (const job of this.jobs) { job.follower.req && job.follower.cut(); delete job.follower }
        this.jobs = []
        if (this.ended.length > 0) await this.look(this.ended[this.random.below(this.ended.length)])
        const rows = await this.world.app.rows('select status from replies')
        assert.equal(rows.length, this.ended.length, 'no rows but those of jobs that were stored')
    }

    // Its answer was lost: it was stored whole, or not at all. Sent again, it is the same job.
    async verifyUnanswered(job, before) {
        this.world.counts.jobsUnanswered++
        const { app } = this.world
        assert.ok(await this.look(job))
        const rows = await app.rows('select * from replies where id = $1', [job.row])
        const stream = await app.request('HEAD', app.stream(job.stream))
        assert.deepEqual([rows.length, stream.status], job.stored ? [1, 200] : [0, 404], 'a job, its row and its stream come together')
        assert.ok(job.stored || before === undefined, 'what was shown was stored')
        if (job.stored) assert.equal((await this.post(job)).status, 202)
    }

    async verifyEnd(job, shown) {
        const { app, counts } = this.world
        const [row] = await app.rows('select * from replies where id = $1', [job.row])
        assert.equal(row?.status, job.told.state, 'the row says what the job says')
        assert.deepEqual(row.usage ?? null, job.told.usage ?? null)
        const { bytes, closed } = await app.readStream(job.stream)
        assert.ok(closed, 'the stream is closed')
        const text = Buffer.from(job.text)
        assert.ok(text.subarray(0, bytes.length).equals(bytes), `${job.model}: the text is a beginning of what was sent`)
        if (job.told.state === 'done') assert.equal(bytes.length, text.length, 'done has all of it')
        assert.ok(bytes.subarray(0, shown.length).equals(shown), 'every byte that was shown is there')
        const f = job.follower
        if (f.failure) throw f.failure
        if (f.over !== false) await f.reopen()
        await f.until('the end of the job', (fold) => fold.isLive && fold.views.text.closed && fold.views.row.rows()[0]?.status === job.told.state)
        assert.ok(f.fold.views.text.bytes.equals(bytes), 'each byte once')
        counts.jobBytes += bytes.length
        counts.jobEnds[job.told.state] = (counts.jobEnds[job.told.state] || 0) + 1
    }
}

// Nothing is asked twice, whatever was sent again.
export function verifyAskedOnce(provider) {
    const asked = new Set()
    for (const line of provider.lines) {
        const hit = /^request .*"content":"([0-9a-f-]{36})"/.exec(line)
        if (!hit) continue
        assert.ok(!asked.has(hit[1]), `the provider was asked twice: ${line}`)
        asked.add(hit[1])
    }
    return asked.size
}
