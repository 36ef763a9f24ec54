// Jobs of all formats and forms while the service is killed again and again: what was shown stays, everything ends, nothing comes twice.
// LLM_KILL_JOBS and LLM_KILL_SEED choose how many and which.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { ended, llmService, post } from './lib/provider.mjs'
import { eventually } from './lib/service.mjs'

const TIDE = 'The tide follows the moon, and the sun a little.'
const JOBS = Number(process.env.LLM_KILL_JOBS || 60), KILLS = Math.ceil(JOBS / 15)
let seed = Number(process.env.LLM_KILL_SEED || 7)
const random = (n) => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) % n

const kinds = [
    { request: { model: 'paced' } },
    { request: { model: 'slow' } },
    { request: { model: 'falls-silent' } },
    { request: { model: 'fails-twice' } },
    { api: 'responses', request: { model: 'responses-text' } },
    { api: 'responses', request: { model: 'responses-background' }, background: true },
    { provider: 'anthropic', request: { model: 'messages-text' } },
    { provider: 'anthropic', request: { model: 'messages-cut' } },
]

// The text of a stream, whatever its form; a JSON stream is told as an array.
async function read(app, j) {
    const reply = await app.readStream(j.stream)
    const bytes = reply.bytes.toString('utf8')
    if (j.form === 'text') return { text: bytes, closed: reply.closed }
    return { text: JSON.parse(bytes).filter((m) => m.type === 'delta').map((m) => m.text).join(''), closed: reply.closed }
}

test('jobs under kill -9: nothing shown is lost or doubled, and all of them end', { timeout: 240000 }, async (t) => {
    const { s, app } = await llmService(t, { args: ['--llm-jobs', '256', '--llm-total-ms', '4000', '--llm-idle-ms', '1500'] })
    const jobs = []
    for (let round = 0; round < KILLS; round++) {
        const asked = Array.from({ length: Math.ceil(JOBS / KILLS) }, () => {
            const form = random(2) ? 'text' : 'messages', id = randomUUID()
            return { form, id, ...kinds[random(kinds.length)], stream: `kill/${id}`, shown: '' }
        })
        const posts = asked.map(({ id, stream, form, shown, ...rest }) => post(app, JSON.stringify({ ...rest, job: id, target: { stream }, form }))
            .then((reply) => reply.status === 202, () => false))
        // Readers look while it goes on, until the moment of the kill.
        const until = Date.now() + 50 + random(400)
        const accepted = Promise.all(posts)
        while (Date.now() < until) {
            for (const j of asked) {
                const seen = await read(app, j).catch(() => null)
                if (seen && seen.text.length > j.shown.length) {
                    assert.ok(seen.text.startsWith(j.shown), j.id)
                    j.shown = seen.text
                }
            }
        }
        await s.kill()
        const taken = await accepted
        await s.start()
        jobs.push(...asked.map((j, i) => ({ ...j, taken: taken[i] })))
    }
    const states = {}
    for (const j of jobs) {
        const there = await app.request('GET', `/llm/jobs/${j.id}`)
        // One that was answered for is there; of the others nobody knows.
        if (there.status === 404) {
            assert.equal(j.taken, false)
            continue
        }
        const end = await ended(app, j.id)
        const now = await eventually('the stream closed', async () => {
            const seen = await read(app, j)
            return seen.closed && seen
        })
        assert.ok(now.text.startsWith(j.shown), `${j.request.model}: ${JSON.stringify(j.shown)} was shown, ${JSON.stringify(now.text)} is there`)
        if (end.state === 'done') assert.equal(now.text, TIDE)
        else if (j.request.model !== 'slow') assert.ok(TIDE.startsWith(now.text), `${j.request.model}: ${now.text}`)
        else assert.match(now.text, /^(The( tide( tick)*)?)?( (t(i(ck?)?)?)?)?$/)
        assert.match(end.state, /^(done|failed|interrupted)$/)
        if (j.background) assert.equal(end.state === 'done' || end.error.code === 'restarted', true, JSON.stringify(end))
        states[end.state] = (states[end.state] || 0) + 1
    }
    t.diagnostic(JSON.stringify(states))
    assert.ok(states.interrupted > 0 && states.done > 0)
})
