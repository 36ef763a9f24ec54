// What a job of the jobs campaign has to have come to: its record, its row, its stream, its readers and what the provider was asked.
import assert from 'node:assert/strict'
import { bodyOf, textOf } from './model.mjs'

// The stand-in's journal by key: {attempts: [{sent, resumes, cancelled}]}
export function readJournal(text) {
    const keys = new Map()
    for (const line of text.split('\n').filter(Boolean)) {
        const [what, key, attempt] = line.split(' ')
        if (!keys.has(key)) keys.set(key, { attempts: [] })
        const { attempts } = keys.get(key)
        if (what === 'request') {
            attempts.push({ sent: false, resumes: 0, cancelled: false })
            assert.equal(attempts.length, Number(attempt))
        }
        const it = attempts[Number(attempt) - 1]
        if (what === 'sent') it.sent = true
        if (what === 'resume') it.resumes++
        if (what === 'cancel') it.cancelled = true
    }
    return keys
}

const events = (text) => text.split('\n\n').filter(Boolean).map((e) => e.replace(/^data: /, ''))

// Which attempt's words these are, and how much of them: {attempt, text}; attempt undefined: nobody has said anything.
function readStored(job, stored) {
    const named = new RegExp(`${job.key}[-/](\\d+)`).exec(stored)
    const attempt = named ? Number(named[1]) : undefined
    if (job.form === 'text' || job.form === 'raw') return { attempt, text: stored }
    if (job.form === 'messages') {
        const messages = JSON.parse(`[${stored.slice(0, -2)}]`)
        return { attempt, text: messages.filter((m) => m.type === 'delta').map((m) => m.text).join(''), messages }
    }
    const chunks = events(stored)
    return { attempt, text: chunks.filter((c) => c !== '[DONE]').map((c) => JSON.parse(c)).filter((c) => c.type === 'text-delta').map((c) => c.delta).join(''), chunks }
}

// One generation's stream: a beginning of what one attempt said, all of it where the job is done. Gives the attempt.
function verifyContent(job, said, stored) {
    const { attempt, text, messages, chunks } = readStored(job, stored)
    const { plan, form } = job
    if (plan.ending === 'refuse' || (form === 'raw' && said.state === 'failed' && attempt === undefined)) {
        if (form === 'text') assert.equal(stored, '')
    } else if (attempt === undefined) {
        assert.equal(text, '', 'nothing was said by nobody')
    } else {
        const whole = form === 'raw' ? bodyOf(job.api, job.key, attempt, plan) : textOf(job.key, attempt, plan)
        assert.ok(whole.startsWith(text), `a beginning of what was said, no token lost or doubled: ${text.slice(-300)}`)
        if (said.state === 'done') assert.equal(text, whole, 'done has all of it')
    }
    if (messages) assert.deepEqual([messages.at(-1).type, messages.at(-1).state, messages.at(-1).code], ['closed', said.state, said.error?.code])
    if (messages) for (const [i, m] of messages.entries()) assert.ok(m.type !== 'closed' || i === messages.length - 1)
    if (chunks) assert.deepEqual([chunks.at(-1), chunks.filter((c) => c === '[DONE]').length], ['[DONE]', 1])
    return attempt
}

// The end is one that this job can have come to.
function verifyState(job, said, asked) {
    const { ending } = job.plan
    const sent = asked.attempts.at(-1)?.sent
    const code = said.error?.code
    const what = `${said.state} ${code} of ${JSON.stringify(job.plan)}`
    assert.ok(said.ended, what)
    if (said.state === 'done') return assert.ok(ending === 'done' || ending === 'quiet', what)
    if (said.state === 'cancelled') return assert.ok(job.cancelled, `nobody asked for that: ${what}`)
    if (said.state === 'interrupted' && (code === 'restarted' || code === 'shutting_down')) return
    if (said.state === 'interrupted') return assert.ok(['bare', 'cut'].includes(ending) || !sent, what)
    assert.equal(said.state, 'failed', what)
    if (ending === 'error') return assert.equal(code, 'provider_error', what)
    if (ending === 'refuse') return assert.equal(code, 'provider_refused', what)
    // Who tries again himself is told of the provider's absence.
    assert.ok(job.how === 'dropin' && !sent, what)
}

function verifyUsage(job, said) {
    const { usage } = said
    assert.equal(typeof usage?.known, 'boolean', JSON.stringify(said))
    if (said.state === 'done') assert.equal(usage.known, job.plan.ending === 'done', JSON.stringify(usage))
    if (usage.known && said.state === 'done') assert.deepEqual([usage.prompt_tokens, usage.completion_tokens], [7, job.plan.tokens])
    if (!usage.known) assert.ok(usage.prompt_tokens === null || usage.completion_tokens === null)
}

async function ask(app, path) {
    const reply = await app.request('GET', path)
    assert.equal(reply.status, 200, reply.text)
    return reply.json
}

async function verifyRow(app, job, said) {
    const rows = await app.rows('select * from replies where id = $1', [job.key])
    assert.equal(rows.length, 1)
    assert.deepEqual([rows[0].status, rows[0].usage ?? null, rows[0].body.closed], [said.state, said.usage ?? null, true])
}

// Each piece continues the one before, and is what stands there.
function verifyReader(reader, stored, counts) {
    let at = 0
    for (const { from, to, data } of reader.pieces) {
        assert.equal(from, at, `${reader.kind} goes on where it was`)
        const bytes = Buffer.from(data, reader.kind === 'dropin' || reader.kind === 'chat' ? 'base64' : 'utf8')
        assert.equal(bytes.length, to - from, `${reader.kind}: as many bytes as its offset says`)
        assert.ok(stored.subarray(from, to).equals(bytes), `${reader.kind}: what was shown at ${from} is stored there`)
        at = to
        counts.bytes += bytes.length
    }
    for (const { from, data } of reader.again) {
        const bytes = Buffer.from(data, 'base64')
        assert.ok(stored.subarray(from, from + bytes.length).equals(bytes), `${reader.kind}: what is shown again is the same`)
        counts.again++
    }
    assert.equal(at, reader.passed ?? stored.length, `${reader.kind} has got all of it`)
    counts.readers++
    counts.pieces += reader.pieces.length
}

// A job and those that continue it: their streams, each with one attempt's words.
async function verifyChain(app, job, asked, counts) {
    const attempts = []
    for (let id = job.id, stream = job.stream; stream !== undefined;) {
        const { bytes, closed } = await app.readStream(stream)
        assert.ok(closed, 'the stream is closed')
        const stored = storedBytes(job, bytes)
        const said = await askAbout(app, job, id, stored)
        assert.equal(said.stream, stream)
        verifyState(job, said, asked)
        if (said.usage !== null || said.error?.code !== 'restarted') verifyUsage(job, said)
        if (job.how === 'row') await verifyRow(app, job, said)
        attempts.push({ attempt: verifyContent(job, said, stored.toString()), said })
        for (const reader of job.readers) if (reader.stream === stream) verifyReader(reader, wasRefused(reader, said) ? (reader.passed = 0, stored) : stored, counts)
        counts.states[said.state] = (counts.states[said.state] || 0) + 1
        if (said.continued_by) counts.forks++
        ;({ continued_by: id, continued_in: stream } = said)
    }
    return attempts
}

// A message whose post was never answered is known by its first word; one that has none was met by a kill before it.
async function askAbout(app, job, id, stored) {
    const named = id ?? /"messageId":"([0-9a-f-]{36})"/.exec(stored)?.[1]
    if (named !== undefined) return ask(app, `/llm/jobs/${named}`)
    assert.equal(job.how, 'chat')
    return { stream: job.stream, state: 'interrupted', ended: true, error: { code: 'restarted' }, usage: null }
}

// A refusal is an answer with another status, whose body is no piece of the reply.
const wasRefused = (reader, said) => reader.kind === 'dropin' && said.error?.status >= 400

// A JSON stream is read as one array.
const storedBytes = (job, bytes) => (job.form !== 'messages' ? bytes : Buffer.from(`${bytes.toString().slice(1, -1)},\n`))

export async function verifyJob(app, job, journal, counts) {
    const asked = journal.get(job.key) || { attempts: [] }
    const chain = await verifyChain(app, job, asked, counts)
    const shown = chain.map((c) => c.attempt).filter((a) => a !== undefined)
    assert.deepEqual(shown, [...new Set(shown)].sort((a, b) => a - b), 'no attempt was shown twice')
    // What anybody could see was the last time that it was asked, unless a fork says otherwise.
    if (!job.fork && shown.length > 0) assert.equal(asked.attempts.length, shown[0], 'the provider was not asked again behind visible output')
    if (job.background) verifyBackground(job, chain[0], asked, counts)
    if (asked.attempts.length > 1) counts.retried++
}

// It goes on, whatever was killed: what was shown is whole, unless somebody wanted it to end.
function verifyBackground(job, { attempt, said }, asked, counts) {
    counts.background++
    if (asked.attempts.some((a) => a.resumes > 0)) counts.resumed++
    if (said.state === 'interrupted') assert.equal(attempt, undefined, 'nothing had been shown of a response that was not resumed')
    if (said.state === 'failed') assert.equal(job.plan.ending, 'error')
}
