// The three formats of providers, the forms in which a reply is stored, and what is asked again or resumed.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { assertProblem } from './lib/http.mjs'
import { ask, ended, job, jobOf, llmService, post, rowOf, textOf } from './lib/provider.mjs'
import { eventually, root, tempFolder } from './lib/service.mjs'

const TIDE = 'The tide follows the moon, and the sun a little.'
const events = (name) => lines(fs.readFileSync(path.join(root, `tests/fixtures/provider/${name}.events`), 'utf8'))
const lines = (text) => text.split('\n').filter(Boolean).map((line) => JSON.parse(line.replace(/,$/, '')))
const kinds = { responses: ['stand-in', 'responses'], messages: ['anthropic', undefined], chat: ['stand-in', 'chat'] }

// A job of a stream of its own.
function streamJob(model, more = {}) {
    const [provider, api] = kinds[/^(responses|messages)/.exec(model)?.[1] || 'chat']
    return {
        provider,
        ...(api && { api }),
        request: { model, [api === 'responses' ? 'input' : 'messages']: [{ role: 'user', content: 'Why are there tides?' }], max_tokens: 100 },
        target: { stream: `replies/${randomUUID()}` },
        form: 'messages',
        ...more,
    }
}

async function askStream(app, model, more) {
    const reply = await post(app, streamJob(model, more))
    assert.equal(reply.status, 202, reply.text)
    return reply.json
}

async function messagesOf(app, stream) {
    const { json } = await app.request('GET', `/v1/stream/${stream}?offset=-1`).then((r) => ({ json: JSON.parse(r.text) }))
    return json
}

const whole = [['happy', 'done'], ['chat-tool', 'done'], ['chat-reasoning', 'done'], ['refusal', 'done'], ['error-event', 'failed'],
    ['responses-text', 'done'], ['responses-tool', 'done'], ['responses-refusal', 'done'], ['responses-incomplete', 'done'], ['responses-failed', 'failed'],
    ['responses-error', 'failed'], ['responses-cut', 'interrupted'], ['messages-text', 'done'], ['messages-tool', 'done'], ['messages-refusal', 'done'],
    ['messages-error', 'failed'], ['messages-cut', 'interrupted']]

test('every format comes to the same kinds of messages, and ends with the job', async (t) => {
    const { app, provider } = await llmService(t)
    const made = await Promise.all(whole.map(([model]) => askStream(app, model)))
    for (const [i, [model, state]] of whole.entries()) {
        const j = await ended(app, made[i].job)
        assert.equal(j.state, state, model)
        assert.deepEqual(j.target, { stream: made[i].stream })
        const messages = await messagesOf(app, made[i].stream)
        const last = messages.pop()
        assert.deepEqual(messages, events(model), model)
        assert.equal(last.type, 'closed')
        assert.equal(last.state, state)
        assert.equal(last.code, j.error?.code)
        assert.equal((await app.readStream(made[i].stream)).closed, true)
    }
    const [claude] = provider.requests('messages-text'), [responses] = provider.requests('responses-text')
    assert.deepEqual([claude.authorization, responses.authorization], ['made-up-key', 'Bearer made-up-key'])
    assert.deepEqual([claude.body.stream, claude.body.stream_options, responses.body.stream, responses.body.stream_options], [true, undefined, true, undefined])
})

test('text, finish, usage and timings of every format', async (t) => {
    const { app } = await llmService(t)
    for (const [model, text, finish, reason, total] of [
        ['responses-text', TIDE, 'stop', 'completed', 21],
        ['responses-incomplete', 'cutshort', 'length', 'max_output_tokens', 21],
        ['responses-refusal', "I can't help with that.", 'refusal', 'completed', 21],
        ['messages-text', TIDE, 'stop', 'end_turn', 21],
        ['messages-refusal', "I can't", 'refusal', 'refusal', 12],
    ]) {
        const { target, form, ...rest } = streamJob(model)
        const made = await ask(app, model, rest)
        const j = await ended(app, made.job)
        assert.equal(j.state, 'done', model)
        assert.equal(await textOf(app, made.stream), text)
        assert.deepEqual([j.usage.finish, j.usage.finish_reason, j.usage.total_tokens, j.usage.known], [finish, reason, total, true])
        for (const key of ['first_ms', 'queued_ms', 'total_ms']) assert.equal(typeof j.usage.timings[key], 'number')
        for (const key of ['created', 'begun', 'first_token', 'ended']) assert.match(j[key], /^\d{4}-/)
        assert.deepEqual((await rowOf(app, made.id)).usage, j.usage)
    }
    const cut = await ended(app, (await askStream(app, 'messages-cut')).job)
    assert.deepEqual([cut.usage.known, cut.usage.prompt_tokens, cut.usage.completion_tokens, cut.usage.total_tokens], [false, 9, null, null])
})

test('a raw reply is what the provider sent, byte for byte', async (t) => {
    const { app } = await llmService(t)
    for (const model of ['happy', 'responses-tool', 'messages-tool', 'messages-error']) {
        const made = await askStream(app, model, { form: 'raw' })
        await ended(app, made.job)
        const sent = fs.readFileSync(path.join(root, `tests/fixtures/provider/${model}.http`), 'utf8')
        const reply = await app.readStream(made.stream)
        assert.equal(reply.bytes.toString(), sent.slice(sent.indexOf('\n\n') + 2), model)
    }
    const refused = await askStream(app, 'unauthorized', { form: 'raw' })
    const j = await ended(app, refused.job)
    assert.deepEqual([j.state, j.error.code, j.error.status], ['failed', 'provider_refused', 401])
    assert.match(await textOf(app, refused.stream), /"error"/)
})

test('a UI message stream ends with [DONE], whatever the end', async (t) => {
    const { app } = await llmService(t)
    for (const [model, kind] of [['messages-tool', 'finish'], ['responses-text', 'finish'], ['messages-error', 'error'], ['responses-cut', 'error']]) {
        const made = await askStream(app, model, { form: 'ui' })
        await ended(app, made.job)
        const chunks = (await textOf(app, made.stream)).split('\n\n').filter(Boolean).map((line) => line.replace(/^data: /, ''))
        assert.equal(chunks.pop(), '[DONE]', model)
        const types = chunks.map((chunk) => JSON.parse(chunk).type)
        assert.equal(types[0], 'start')
        assert.equal(types.at(-1), kind, model)
    }
})

test('what fails before the first token is asked again, and never after', async (t) => {
    const { app, provider } = await llmService(t, { args: ['--llm-retries', '3'] })
    for (const [model, times, state] of [['fails-twice', 3, 'done'], ['messages-recovers', 2, 'done'], ['messages-recovers-too', 3, 'done'],
        ['fails-often', 4, 'failed'], ['messages-overloaded-late', 4, 'failed'], ['cut-at-once', 4, 'failed'],
        ['unauthorized', 1, 'failed'], ['much-later', 1, 'failed'], ['error-event', 1, 'failed'], ['messages-error', 1, 'failed'], ['cut', 1, 'interrupted']]) {
        const made = await askStream(app, model, { form: 'text' })
        const j = await ended(app, made.job)
        assert.equal(j.state, state, model)
        assert.equal(provider.requests(model).length, times, model)
        if (state === 'done') assert.equal(await textOf(app, made.stream), TIDE)
    }
    assert.match(await app.metrics(), /^segue_llm_retries_total 14$/m)
})

test('a job that waits to be asked again can be cancelled', async (t) => {
    const { app, provider } = await llmService(t, { args: ['--llm-retries', '9', '--llm-retry-ms', '20000'] })
    const made = await ask(app, 'fails-often')
    await eventually('the first refusal', () => provider.requests('fails-often').length === 1)
    const reply = await app.request('DELETE', `/llm/jobs/${made.job}`)
    assert.equal(reply.json.state, 'cancelled')
    assert.equal(provider.requests('fails-often').length, 1)
})

test('a response in the background goes on after kill -9, with no event lost or doubled', async (t) => {
    for (const form of ['messages', 'text', 'raw']) {
        const { s, app, provider } = await llmService(t)
        const made = await askStream(app, 'responses-background', { form, background: true })
        await eventually('what came first', async () => (await textOf(app, made.stream)).includes('follows'))
        const shown = await textOf(app, made.stream)
        assert.equal(provider.requests('responses-background')[0].body.background, true)
        await s.kill()
        await s.start()
        const j = await ended(app, made.job)
        assert.equal(j.state, 'done', JSON.stringify(j))
        const text = await textOf(app, made.stream)
        if (form === 'text') assert.equal(text, TIDE)
        if (form === 'messages') {
            const messages = await messagesOf(app, made.stream)
            assert.equal(messages.filter((m) => m.type === 'delta').map((m) => m.text).join(''), TIDE)
            assert.deepEqual(messages.map((m) => m.type).filter((k) => k !== 'delta'), ['start', 'begin', 'end', 'usage', 'finish', 'closed'])
        }
        if (form === 'raw') {
            const sent = fs.readFileSync(path.join(root, 'tests/fixtures/provider/resp_background.http'), 'utf8')
            assert.equal(text, sent.slice(sent.indexOf('\n\n') + 2))
        }
        if (form !== 'messages') assert.ok(text.startsWith(shown))
        assert.equal(provider.lines.filter((line) => line.startsWith('resume resp_background')).length, 1)
        assert.equal(provider.requests('responses-background').length, 1)
    }
})

test('a response in the background goes on when its connection breaks, if the provider still has it', async (t) => {
    const { app, provider } = await llmService(t)
    for (const form of ['text', 'raw']) {
        const made = await askStream(app, 'responses-drops', { form, background: true })
        const j = await ended(app, made.job)
        assert.equal(j.state, 'done', JSON.stringify(j))
        const sent = fs.readFileSync(path.join(root, 'tests/fixtures/provider/resp_background.http'), 'utf8')
        assert.equal(await textOf(app, made.stream), form === 'text' ? TIDE : sent.slice(sent.indexOf('\n\n') + 2))
    }
    const lost = await askStream(app, 'responses-lost', { form: 'text', background: true })
    const j = await ended(app, lost.job)
    assert.deepEqual([j.state, j.error.code, j.error.status], ['interrupted', 'provider_refused', 404])
    assert.equal(await textOf(app, lost.stream), 'The tide follows')
    assert.equal(provider.lines.filter((line) => line.startsWith('resume resp_lost')).length, 1)
    // Without the member, the same break is the end.
    assert.equal((await ended(app, (await askStream(app, 'responses-drops', { form: 'text' })).job)).state, 'interrupted')
})

test('a response in the background is left to the provider by SIGTERM, too', async (t) => {
    const { s, app } = await llmService(t)
    const made = await askStream(app, 'responses-background', { form: 'text', background: true })
    await eventually('what came first', async () => (await textOf(app, made.stream)).includes('follows'))
    assert.equal(await s.stop(), 0)
    await s.start()
    assert.equal((await ended(app, made.job)).state, 'done')
    assert.equal(await textOf(app, made.stream), TIDE)
})

test('a cancelled response in the background is cancelled at the provider', async (t) => {
    const { app, provider } = await llmService(t)
    const made = await askStream(app, 'responses-background', { form: 'text', background: true })
    await eventually('what came first', async () => (await textOf(app, made.stream)).includes('follows'))
    assert.equal((await app.request('DELETE', `/llm/jobs/${made.job}`)).json.state, 'cancelled')
    await eventually('the cancellation', () => provider.lines.includes('cancel resp_background Bearer made-up-key'))
})

test('who is told that a job in the background is cancelled may rely on its provider knowing it, whatever the form', async (t) => {
    const { app, provider } = await llmService(t)
    for (const form of ['text', 'messages', 'raw', 'ui']) {
        const made = await askStream(app, 'responses-background', { form, background: true })
        await eventually('what came first', async () => (await textOf(app, made.stream)).includes('follows'))
        assert.equal((await app.request('DELETE', `/llm/jobs/${made.job}`)).json.state, 'cancelled')
    }
    // The provider has answered by now; what it prints comes to us through a pipe.
    await eventually('each was told', () => provider.lines.filter((line) => line.startsWith('cancel resp_background')).length === 4)
})

test('a job that is to be asked again after a restart goes on in a fork', async (t) => {
    const { s, app, provider } = await llmService(t)
    const made = await askStream(app, 'slow', { form: 'text', on_restart: 'fork' })
    await eventually('text', async () => (await textOf(app, made.stream)).includes('tick'))
    const shown = await textOf(app, made.stream)
    await s.kill()
    await s.start()
    const old = await job(app, made.job)
    assert.equal(old.state, 'interrupted')
    assert.ok((await textOf(app, made.stream)).startsWith(shown))
    assert.equal((await app.readStream(made.stream)).closed, true)
    assert.ok(old.continued_in && old.continued_in !== made.stream)
    await eventually('text in the fork', async () => (await textOf(app, old.continued_in)).includes('tick'))
    assert.ok((await textOf(app, old.continued_in)).startsWith('The tide'))
    assert.equal((await job(app, old.continued_by)).stream, old.continued_in)
    assert.equal((await app.request('DELETE', `/llm/jobs/${old.continued_by}`)).json.state, 'cancelled')
    assert.equal(provider.requests('slow').length, 2)
})

test('tokens of a day are counted through a restart, and refused beyond the limit', async (t) => {
    const { s, app } = await llmService(t, { args: ['--llm-tokens-day', '40'] })
    for (let i = 0; i < 2; i++) await ended(app, (await ask(app, 'happy')).job)
    assertProblem(await post(app, jobOf('happy')), 429, 'tokens_spent')
    const metrics = await app.metrics()
    for (const line of ['segue_llm_tokens_total 42', 'segue_llm_jobs_done_total 2', 'segue_llm_jobs_streaming 0']) assert.ok(metrics.includes(`${line}\n`), line)
    await s.kill()
    await s.start()
    assertProblem(await post(app, jobOf('happy')), 429, 'tokens_spent')
})

test('neither a key nor a prompt is in the data or in the log', async (t) => {
    const key = path.join(tempFolder(t), 'key')
    fs.writeFileSync(key, 'key-in-a-file\n')
    const other = await llmService(t)
    const { s, app, provider } = await llmService(t, { args: ['--llm-provider', `third ${other.provider.url} ${key} messages`] })
    await ended(app, (await askStream(app, 'messages-tool')).job)
    await ended(app, (await askStream(app, 'messages-text', { provider: 'third' })).job)
    assert.equal(other.provider.requests('messages-text')[0].authorization, 'key-in-a-file')
    const background = await askStream(app, 'responses-background', { background: true })
    await eventually('the beginning', async () => (await job(app, background.job)).state === 'streaming')
    await s.kill()
    const found = []
    for (const file of fs.readdirSync(s.data, { recursive: true, withFileTypes: true })) {
        if (!file.isFile()) continue
        const bytes = fs.readFileSync(path.join(file.parentPath || file.path, file.name))
        for (const word of ['made-up-key', 'key-in-a-file', 'Why are there']) if (bytes.includes(word)) found.push(`${file.name}: ${word}`)
    }
    assert.deepEqual(found, [])
    assert.ok(!/made-up-key|key-in-a-file|Why are there/.test(s.child.stderr))
    assert.ok(provider.requests('messages-tool').length === 1)
})

test('a manner that cannot be is refused', async (t) => {
    const { app } = await llmService(t)
    const bad = async (more, code = 'bad_request', status = 400) => assertProblem(await post(app, streamJob('happy', more)), status, code)
    await bad({ api: 'telepathy' })
    await bad({ form: 'haiku' })
    await bad({ background: true })
    await bad({ background: 1 })
    await bad({ on_restart: 'repeat' })
    await bad({ target: { stream: '' } })
    await bad({ target: { stream: 'a', table: 'messages' } })
    await bad({ target: { table: 'messages', column: 'body' }, insert: {} })
    await bad({ form: 'text', request: { model: 'happy', tools: [] } })
    await bad({ request: { model: 'happy', background: true } })
    await bad({ target: { stream: 'rows/messages/x' } }, 'reserved_path', 422)
})
