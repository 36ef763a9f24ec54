// Calls to a language model made by the service: replies into rows, whatever the provider does.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import fs from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import path from 'node:path'
import { test } from 'node:test'
import { App, assertProblem, close, remove } from './lib/http.mjs'
import { ask, ended, job, jobOf, llmSchema, llmService, post, rowOf, textOf, used } from './lib/provider.mjs'
import { Child, eventually, preload, root, SEGUE, segue, SEGUED, service, tempFolder } from './lib/service.mjs'
import { subscribe } from './lib/sse.mjs'

const DISK_SO = path.resolve(process.env.DISK_SO || path.join(root, 'build/tests/lib/disk.so'))
const skipDisk = !fs.existsSync(DISK_SO) && `${DISK_SO} is not there`
const sanitized = /__(asan|tsan|ubsan)_/.test(fs.readFileSync(SEGUED, 'latin1'))

const TIDE = 'The tide follows the moon, and the sun a little.'
const USAGE = { completion_tokens: 12, finish_reason: 'stop', model: 'made-up-1', prompt_tokens: 9, total_tokens: 21 }
const QUICK = ['--llm-retries', '0', '--llm-first-ms', '400', '--llm-idle-ms', '400', '--llm-total-ms', '3000']

test('a reply goes into its row, and ends with its stream, status and usage', async (t) => {
    const { app, provider } = await llmService(t)
    const made = await ask(app, 'happy')
    assert.equal(made.stream, `rows/messages/${made.id}/body`)
    const j = await ended(app, made.job)
    assert.equal(j.state, 'done')
    assert.equal(j.error, undefined)
    assert.equal(j.finish_reason, 'stop')
    assert.deepEqual(used(j.usage), USAGE)
    assert.deepEqual(j.target, { table: 'messages', id: made.id, column: 'body' })
    const row = await rowOf(app, made.id)
    assert.equal(row.status, 'done')
    assert.deepEqual(used(row.usage), USAGE)
    assert.deepEqual(row.body, { stream: made.stream, offset: TIDE.length, closed: true })
    assert.equal(await textOf(app, made.stream), TIDE)
    const [asked] = provider.requests('happy')
    assert.equal(asked.authorization, 'Bearer made-up-key')
    assert.equal(asked.body.stream, true)
    assert.deepEqual(asked.body.stream_options, { include_usage: true })
    assert.deepEqual(asked.body.messages, [{ role: 'user', content: 'Why are there tides?' }])
})

// [transcript, text, what the job becomes, code, usage]
const ends = [
    ['unicode', 'Ebbe und Flut: Üñïcödé 🌊👨‍👩‍👧 潮汐 \\ "quoted"\n café 🌊é\n', 'done', undefined, { ...USAGE, completion_tokens: 7, total_tokens: 16 }],
    ['no-usage', TIDE, 'done', undefined, null],
    ['no-done', TIDE, 'done', undefined, null],
    ['length', 'cutshort', 'done', undefined, { ...USAGE, completion_tokens: 2, total_tokens: 11, finish_reason: 'length' }],
    ['refusal', "I can't help with that.", 'done', undefined, { ...USAGE, completion_tokens: 5, total_tokens: 14 }],
    ['crlf', TIDE, 'done', undefined, USAGE],
    ['two-lines', 'two lines', 'done', undefined, null],
    ['after-done', TIDE, 'done', undefined, USAGE],
    ['large', 'wave '.repeat(200 * 300), 'done', undefined, { ...USAGE, completion_tokens: 60000, total_tokens: 60009 }],
    ['too-many', '', 'failed', 'provider_refused', null],
    ['server-error', '', 'failed', 'provider_refused', null],
    ['bad-gateway', '', 'failed', 'provider_refused', null],
    ['unauthorized', '', 'failed', 'provider_refused', null],
    ['redirect', '', 'failed', 'provider_refused', null],
    ['no-such-model', '', 'failed', 'provider_refused', null],
    ['error-event', 'The tide follows', 'failed', 'provider_error', null],
    ['named-error', 'The tide follows', 'failed', 'provider_error', null],
    ['cut', 'The tide follows the', 'interrupted', 'provider_cut', null],
    ['cut-in-event', 'The tide follows the', 'interrupted', 'provider_cut', null],
    ['ends-early', 'The tide follows the', 'interrupted', 'provider_cut', null],
    ['cut-at-once', '', 'failed', 'provider_unreachable', null],
    ['silent', '', 'failed', 'provider_timeout', null],
    ['falls-silent', 'The tide', 'failed', 'provider_timeout', null],
    ['endless-comments', '', 'failed', 'provider_timeout', null],
    ['endless-error', '', 'failed', 'provider_refused', null],
    ['endless-head', '', 'failed', 'provider_malformed', null],
    ['malformed-json', 'The tide', 'failed', 'provider_malformed', null],
    ['not-an-object', '', 'failed', 'provider_malformed', null],
    ['not-text', '', 'failed', 'provider_malformed', null],
    ['giant-line', 'The tide', 'failed', 'provider_malformed', null],
    ['giant-event', 'The tide', 'failed', 'provider_malformed', null],
    ['wrong-type', '', 'failed', 'provider_malformed', null],
    ['not-http', '', 'failed', 'provider_malformed', null],
]

test('whatever a provider sends, a job ends in a state of its own and loses no text', async (t) => {
    const { app, provider } = await llmService(t, { args: QUICK })
    const made = await Promise.all(ends.map(([model]) => ask(app, model)))
    for (const [i, [model, text, state, code, usage]] of ends.entries()) {
        await t.test(model, async () => {
            const j = await ended(app, made[i].job)
            assert.equal(j.state, state)
            assert.equal(j.error?.code, code)
            if (code) assert.ok(j.error.detail.length > 0)
            assert.deepEqual(used(j.usage), usage)
            const row = await rowOf(app, made[i].id)
            assert.equal(row.status, state)
            assert.deepEqual(used(row.usage), usage)
            assert.equal(row.body.closed, true)
            assert.equal(await textOf(app, made[i].stream), text)
        })
    }
    // A refusal is told in the provider's words; redirects lead nowhere; nothing is asked twice.
    assert.match((await job(app, made[ends.findIndex(([m]) => m === 'too-many')].job)).error.detail, /status 429: Rate limit reached for made-up-1/)
    for (const [model] of ends) assert.ok(provider.requests(model).length <= 1, model)
})

test('a provider that never ends is cut off at the limit of time, in bounded memory', async (t) => {
    const { s, app, provider } = await llmService(t, { args: ['--llm-total-ms', '2000'] })
    const before = s.rss()
    const made = await Promise.all(Array.from({ length: 8 }, () => ask(app, 'endless')))
    for (const { job: id, stream } of made) {
        const j = await ended(app, id)
        // Whichever limit is met first.
        assert.equal(j.state, 'failed')
        assert.match(j.error.code, /^(provider_timeout|too_large)$/)
        const text = await textOf(app, stream)
        assert.ok(text.length > 0 && text.length < 17 * 1024 * 1024)
        assert.equal(text, 'on and '.repeat(Math.ceil(text.length / 7)).slice(0, text.length))
    }
    await provider.gone('endless')
    // A sanitizer keeps what was freed.
    assert.ok(sanitized || s.rss() - before < 200 * 1024 * 1024, `${s.rss() - before} bytes more`)
})

test('two readers see the same tokens, and the end in one commit', async (t) => {
    const { s, app } = await llmService(t)
    const id = randomUUID()
    const what = { queries: { all: 'select * from messages' }, streams: { reply: `rows/messages/${id}/body` } }
    const readers = [await subscribe(t, app, what), await subscribe(t, app, what)]
    await Promise.all(readers.map((r) => r.untilLive()))
    const made = await ask(app, 'paced', { target: { table: 'messages', column: 'body', id } })
    for (const r of readers) {
        await r.until('the end', (f) => f.views.all.rows()[0]?.status === 'done')
        assert.equal(r.fold.views.reply.text, TIDE)
        assert.equal(r.fold.views.reply.closed, true)
        assert.deepEqual(used(r.fold.views.all.rows()[0].usage), USAGE)
        const states = r.messages.flatMap((m) => m.changes?.all || []).map((c) => (c.added || c.changed).status)
        assert.deepEqual([...new Set(states)], ['connecting', 'streaming', 'done'])
        // Never one without the other, and tokens as they came, not all at once.
        const closing = r.messages.findIndex((m) => m.changes?.reply?.some((c) => c.closed))
        assert.equal(r.messages.findIndex((m) => m.changes?.all?.some((c) => c.changed?.status === 'done')), closing)
        assert.ok(r.messages.filter((m) => m.changes?.reply?.some((c) => c.text)).length > 3)
    }
    assert.equal((await job(app, made.job)).state, 'done')
})

test('a cancelled job closes its connection, keeps its text, and can be cancelled again', async (t) => {
    const { app, provider } = await llmService(t)
    for (const [model, text] of [['silent', ''], ['falls-silent', 'The tide'], ['slow', null]]) {
        const made = await ask(app, model)
        if (text !== '') await eventually('the first text', async () => (await rowOf(app, made.id)).status === 'streaming')
        else await eventually('the request', () => provider.requests(model).length === 1)
        if (text) await eventually('all of the text', async () => (await textOf(app, made.stream)) === text)
        const reply = await app.request('DELETE', `/llm/jobs/${made.job}`)
        assert.equal(reply.status, 200, reply.text)
        assert.equal(reply.json.state, 'cancelled')
        assert.equal(reply.json.error.code, 'canceled')
        await provider.gone(model)
        const row = await rowOf(app, made.id)
        assert.equal(row.status, 'cancelled')
        assert.equal(row.body.closed, true)
        const kept = await textOf(app, made.stream)
        if (text !== null) assert.equal(kept, text)
        else assert.match(kept, /^The tide( tick)*$/)
        assert.deepEqual((await app.request('DELETE', `/llm/jobs/${made.job}`)).json, reply.json)
    }
    const done = await ask(app, 'happy')
    await ended(app, done.job)
    assert.equal((await app.request('DELETE', `/llm/jobs/${done.job}`)).json.state, 'done')
})

test('many cancels at once get the one end', async (t) => {
    const { app } = await llmService(t)
    const made = await ask(app, 'slow')
    const replies = await Promise.all(Array.from({ length: 10 }, () => app.request('DELETE', `/llm/jobs/${made.job}`)))
    for (const reply of replies) {
        assert.equal(reply.status, 200, reply.text)
        assert.deepEqual(reply.json, replies[0].json)
    }
})

test('a client that goes away leaves the reply going on', async (t) => {
    const { s, app } = await llmService(t)
    const id = randomUUID()
    const body = JSON.stringify(jobOf('paced', { job: id }))
    const socket = net.connect(s.port, '127.0.0.1')
    await new Promise((go) => socket.write(`POST /apps/default/llm/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`, go))
    await eventually('the job', async () => (await app.request('GET', `/llm/jobs/${id}`)).status === 200)
    socket.destroy()
    const j = await ended(app, id)
    assert.equal(j.state, 'done')
    assert.equal(await textOf(app, j.stream), TIDE)
})

test('after kill -9 a job is interrupted, with the text that was shown, and is not asked again', async (t) => {
    const { s, app, provider } = await llmService(t)
    const made = await Promise.all(['slow', 'silent', 'falls-silent'].map((model) => ask(app, model)))
    await eventually('text', async () => (await textOf(app, made[0].stream)).includes('tick tick'))
    await eventually('the requests', () => provider.requests('silent').length === 1 && provider.requests('falls-silent').length === 1)
    const shown = await textOf(app, made[0].stream)
    await s.kill()
    await s.start()
    for (const { job: id, id: row, stream } of made) {
        const j = await job(app, id) // at once: nobody ever sees it alive again
        assert.equal(j.state, 'interrupted')
        assert.equal(j.error.code, 'restarted')
        assert.equal((await rowOf(app, row)).status, 'interrupted')
        assert.equal((await app.readStream(stream)).closed, true)
    }
    assert.ok((await textOf(app, made[0].stream)).startsWith(shown))
    assert.equal(provider.requests('slow').length, 1)
    assert.equal((await ended(app, (await ask(app, 'happy')).job)).state, 'done')
})

test('SIGTERM ends what runs as interrupted, and the service in order', async (t) => {
    const { s, app } = await llmService(t)
    const made = await Promise.all(['slow', 'silent'].map((model) => ask(app, model)))
    await eventually('text', async () => (await textOf(app, made[0].stream)).length > 8)
    assert.equal(await s.stop(), 0)
    await s.start()
    for (const { job: id, id: row } of made) {
        const j = await job(app, id)
        assert.equal(j.state, 'interrupted')
        assert.equal(j.error.code, 'shutting_down')
        assert.equal((await rowOf(app, row)).body.closed, true)
    }
})

test('when the disk fails in the middle, the job is interrupted once the app is back', { skip: skipDisk }, async (t) => {
    for (const errno of ['EIO', 'ENOSPC']) {
        const control = path.join(tempFolder(t), 'control')
        fs.writeFileSync(control, '')
        const { app, provider } = await llmService(t, { env: { LD_PRELOAD: preload(DISK_SO), SEGUE_DISK_CONTROL: control } })
        const made = await ask(app, 'slow')
        await eventually('text', async () => (await textOf(app, made.stream)).length > 8)
        const shown = await textOf(app, made.stream)
        fs.writeFileSync(`${control}.new`, `write:/journal/:1:${errno}:3\n`)
        fs.renameSync(`${control}.new`, control)
        const j = await eventually('the end', async () => {
            const reply = await app.request('GET', `/llm/jobs/${made.job}`)
            return reply.status === 200 && reply.json.ended && reply.json
        })
        assert.deepEqual([j.state, j.error.code], ['interrupted', 'restarted'])
        assert.equal((await rowOf(app, made.id)).status, 'interrupted')
        assert.ok((await textOf(app, made.stream)).startsWith(shown))
        await provider.gone('slow')
        assert.equal((await ended(app, (await ask(app, 'happy')).job)).state, 'done')
    }
})

test('a target that goes away fails the job', async (t) => {
    const { app, provider } = await llmService(t)
    const closed = await ask(app, 'slow'), deleted = await ask(app, 'slow')
    for (const { stream } of [closed, deleted]) await eventually('text', async () => (await textOf(app, stream)).length > 8)
    await app.batch([close(closed.stream)])
    await app.batch([remove('messages', deleted.id)])
    const first = await ended(app, closed.job), second = await ended(app, deleted.job)
    assert.equal(first.state, 'failed')
    assert.equal(first.error.code, 'stream_closed')
    assert.equal((await rowOf(app, closed.id)).status, 'failed')
    assert.equal(second.state, 'failed')
    assert.match(second.error.code, /^(no_such_row|stream_not_found)$/)
    await provider.gone('slow')
    // Also where the provider says nothing that could be refused.
    const silent = await ask(app, 'silent'), fallen = await ask(app, 'falls-silent')
    await eventually('text', async () => (await textOf(app, fallen.stream)) === 'The tide')
    await app.batch([close(fallen.stream)])
    await app.batch([remove('messages', silent.id)])
    assert.deepEqual([(await ended(app, fallen.job)).error.code, (await ended(app, silent.job)).error.code], ['stream_closed', 'stream_not_found'])
    assert.equal(await textOf(app, fallen.stream), 'The tide')
    await provider.gone('silent')
    await provider.gone('falls-silent')
})

test('a job that cannot be is refused, and nothing is asked', async (t) => {
    const { app, provider } = await llmService(t)
    const bad = async (job, status, code) => assertProblem(await post(app, job), status, code)
    const base = jobOf('happy')
    await bad('{', 400, 'bad_json')
    await bad('[]', 400, 'bad_request')
    await bad({ ...base, insret: {} }, 400, 'bad_request')
    await bad({ ...base, provider: 'nobody' }, 404, 'no_such_provider')
    await bad({ ...base, provider: '' }, 400, 'bad_request')
    await bad({ ...base, request: 'hello' }, 400, 'bad_request')
    await bad({ ...base, request: { ...base.request, stream: true } }, 400, 'bad_request')
    await bad({ ...base, request: { ...base.request, n: 2 } }, 400, 'bad_request')
    await bad({ ...base, request: { ...base.request, tools: [] } }, 400, 'bad_request')
    await bad({ ...base, target: { table: 'messages' } }, 400, 'bad_request')
    await bad({ ...base, insert: undefined }, 400, 'bad_request')
    await bad({ ...base, insert: undefined, target: { ...base.target, id: 'x' } }, 400, 'bad_request')
    await bad({ ...base, status: 'usage' }, 400, 'bad_request')
    await bad({ ...base, job: 'x' }, 400, 'bad_request')
    await bad({ ...base, insert: undefined, target: { ...base.target, id: randomUUID() } }, 409, 'no_such_row')
    await bad({ ...base, target: { table: 'nothing', column: 'body' } }, 422, 'no_such_table')
    await bad({ ...base, target: { table: 'messages', column: 'note' } }, 422, 'no_such_column')
    await bad({ ...base, status: 'nothing' }, 422, 'no_such_column')
    await bad({ ...base, status: 'body' }, 422, 'wrong_type')
    await bad({ ...base, usage: 'strict' }, 422, 'not_null')
    assertProblem(await app.request('GET', '/llm/jobs/x'), 404, 'no_such_job')
    assertProblem(await app.request('GET', `/llm/jobs/${randomUUID()}`), 404, 'no_such_job')
    assertProblem(await app.request('DELETE', `/llm/jobs/${randomUUID()}`), 404, 'no_such_job')
    assertProblem(await app.request('POST', '/batch', { body: '{"ops":[{"op":"job"}]}' }), 400, 'bad_batch')
    assert.deepEqual(await app.rows('select * from messages'), [])
    assert.equal(provider.requests('happy').length, 0)
})

test('one stream has one live job', async (t) => {
    const { app } = await llmService(t)
    const made = await ask(app, 'slow')
    const other = jobOf('happy', { insert: undefined, target: { table: 'messages', column: 'body', id: made.id } })
    assertProblem(await post(app, other), 409, 'job_exists', { fate: 'rejected' })
    await app.request('DELETE', `/llm/jobs/${made.job}`)
    assertProblem(await post(app, other), 409, 'stream_closed', { fate: 'rejected' })
})

test('a job of a row that is there leaves its other columns alone', async (t) => {
    const { app } = await llmService(t)
    const id = randomUUID()
    await app.batch([{ op: 'insert', table: 'messages', id, values: { note: 'mine', status: 'new' } }])
    const made = await ask(app, 'happy', { insert: undefined, target: { table: 'messages', column: 'body', id }, status: undefined, usage: undefined })
    assert.equal((await ended(app, made.job)).usage.total_tokens, 21)
    const row = await rowOf(app, id)
    assert.deepEqual([row.note, row.status, row.usage], ['mine', 'new', null])
    assert.equal(row.body.closed, true)
})

test('a request that is sent again under its id asks once', async (t) => {
    const { s, app, provider } = await llmService(t)
    const body = JSON.stringify(jobOf('happy', { job: randomUUID() }))
    const replies = await Promise.all(Array.from({ length: 5 }, () => post(app, body)))
    assert.deepEqual(replies.map((r) => r.status), [202, 202, 202, 202, 202])
    assert.equal(new Set(replies.map((r) => r.json.id)).size, 1)
    assert.equal(replies.filter((r) => r.json.again).length, 4)
    await ended(app, JSON.parse(body).job)
    await s.kill()
    await s.start()
    assert.equal((await post(app, body)).json.again, true)
    assert.equal(provider.requests('happy').length, 1)
    assertProblem(await post(app, body.replace('happy', 'other')), 409, 'job_exists')
})

test('more calls at once than the limit wait in order, can be cancelled there, and end with the service', async (t) => {
    const { s, app, provider } = await llmService(t, { args: ['--llm-jobs', '2'] })
    const first = [await ask(app, 'silent'), await ask(app, 'silent')]
    const waiting = await Promise.all(Array.from({ length: 20 }, () => ask(app, 'happy')))
    for (const { job: id, id: row } of waiting) {
        assert.equal((await job(app, id)).state, 'queued')
        assert.equal((await rowOf(app, row)).status, 'queued')
    }
    assert.equal(provider.requests('happy').length, 0)
    assert.match(await app.metrics(), /^segue_llm_jobs_queued 20$/m)
    const cancelled = await app.request('DELETE', `/llm/jobs/${waiting[0].job}`)
    assert.equal(cancelled.json.state, 'cancelled')
    assert.equal((await rowOf(app, waiting[0].id)).body.closed, true)
    assert.equal((await app.request('DELETE', `/llm/jobs/${first[0].job}`)).status, 200)
    for (const { job: id, id: row } of waiting.slice(1)) {
        const j = await ended(app, id)
        assert.equal(j.state, 'done')
        assert.equal(typeof j.usage.timings.queued_ms, 'number')
        assert.equal((await rowOf(app, row)).status, 'done')
    }
    assert.equal(provider.requests('happy').length, 19)
    await ask(app, 'silent')
    const last = await ask(app, 'happy')
    assert.equal(await s.stop(), 0)
    await s.start()
    assert.equal((await job(app, last.job)).state, 'interrupted')
    assert.equal(provider.requests('happy').length, 19)
})

test('a provider that is not there is a failed job', async (t) => {
    const { app } = await llmService(t, { url: 'http://127.0.0.1:9/v1' })
    const j = await ended(app, (await ask(app, 'happy')).job)
    assert.equal(j.state, 'failed')
    assert.equal(j.error.code, 'provider_unreachable')
    assert.match(await app.metrics(), /^segue_llm_jobs_failed_total 1$/m)
    assert.match(await app.metrics(), /^segue_llm_calls 0$/m)
})

test('without a provider, or without a key, there are no jobs', async (t) => {
    const s = await service(t)
    await new App(s).schema(llmSchema)
    assertProblem(await post(new App(s), jobOf('happy')), 404, 'no_such_provider')
    const locked = await service(t, { dev: false })
    assertProblem(await post(new App(locked), jobOf('happy')), 401, 'unauthenticated')
    assertProblem(await new App(locked).request('GET', `/llm/jobs/${randomUUID()}`), 401, 'unauthenticated')
})

test('the key of a provider comes from the environment, and is written nowhere', async (t) => {
    const { s, app } = await llmService(t)
    await ended(app, (await ask(app, 'unauthorized')).job)
    assert.ok(!s.child.stderr.includes('made-up-key'))
    assert.ok(!s.child.stderr.includes('tides'))
    const without = new Child(SEGUED, ['--data', tempFolder(t), '--dev', '--listen', '127.0.0.1:0', '--llm-provider', 'x http://127.0.0.1:9 NOT_SET_ANYWHERE'])
    const { code, stderr } = await without.end()
    assert.equal(code, 1)
    assert.match(stderr, /NOT_SET_ANYWHERE is not set/)
})

// ---- segue ask -------------------------------------------------------------------------------------------------------

test('segue ask writes the reply as it comes, and ends with 0', async (t) => {
    const { s, app } = await llmService(t)
    const { code, stdout, stderr } = await segue(s, ['ask', '--model', 'paced', '--status', 'status', '--usage', 'usage', '--set', 'note=from the shell', 'Why are there tides?'])
    assert.equal(stderr, '')
    assert.equal(code, 0)
    assert.equal(stdout, `${TIDE}\n`)
    const [row] = await app.rows('select * from messages')
    assert.deepEqual([row.status, row.note, used(row.usage)], ['done', 'from the shell', USAGE])
    const json = await segue(s, ['ask', '--json', '--provider', 'stand-in', '--model', 'happy', '-'], 'Why?')
    assert.equal(JSON.parse(json.stdout).state, 'done')
})

test('segue ask speaks to every kind of provider', async (t) => {
    const { s, provider } = await llmService(t)
    for (const [api, name] of [['chat', 'stand-in'], ['responses', 'stand-in'], ['messages', 'anthropic']]) {
        const model = api === 'chat' ? 'happy' : `${api}-text`
        const { code, stdout, stderr } = await segue(s, ['ask', '--api', api, '--provider', name, '--model', model, '--system', 'Be brief.', 'Why?'])
        assert.equal(code, 0, stderr)
        assert.equal(stdout, `${TIDE}\n`)
        const { messages, input, system, instructions } = provider.requests(model)[0].body, question = { role: 'user', content: 'Why?' }
        assert.deepEqual(input || messages, api === 'chat' ? [{ role: 'system', content: 'Be brief.' }, question] : [question])
        assert.deepEqual([system, instructions], [api === 'messages' ? 'Be brief.' : undefined, api === 'responses' ? 'Be brief.' : undefined])
    }
    const unknown = await segue(s, ['ask', '--api', 'telepathy', '--model', 'happy', 'Why?'])
    assert.equal(unknown.code, 1)
})

test('segue ask tells what went wrong, and ends with 1', async (t) => {
    const { s } = await llmService(t, { args: QUICK })
    const cut = await segue(s, ['ask', '--model', 'cut', 'Why?'])
    assert.equal(cut.code, 1)
    assert.equal(cut.stdout, 'The tide follows the\n')
    assert.match(cut.stderr, /^segue: provider_cut: the reply is interrupted: /)
    const refused = await segue(s, ['ask', '--model', 'too-many', 'Why?'])
    assert.equal(refused.code, 1)
    assert.match(refused.stderr, /^segue: provider_refused: the reply is failed: status 429/)
    assert.equal((await segue(s, ['ask', '--set', 'x', 'Why?'])).code, 2)
})

test('Ctrl-C cancels what segue ask has asked', async (t) => {
    const { s, app, provider } = await llmService(t)
    const child = new Child(SEGUE, ['ask', '--model', 'slow', '--status', 'status', 'Why?'], { env: { ...process.env, SEGUE_URL: s.url } })
    await eventually('the first ticks', () => child.stdout.includes('tick'))
    child.signal('SIGINT')
    const { code, stdout, stderr } = await child.end()
    assert.equal(code, 1)
    assert.match(stdout, /^The tide( tick)+\n$/)
    assert.match(stderr, /^segue: canceled: the reply is cancelled/)
    await provider.gone('slow')
    assert.equal((await app.rows('select * from messages'))[0].status, 'cancelled')
})
