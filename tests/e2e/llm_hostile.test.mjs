// Providers and clients that mean harm: what HTTP lets through, and what is larger than it looks.
import assert from 'node:assert/strict'
import net from 'node:net'
import { test } from 'node:test'
import { assertProblem } from './lib/http.mjs'
import { ended, jobOf, ask, llmService, post, rowOf, textOf } from './lib/provider.mjs'
import { eventually } from './lib/service.mjs'

// A provider that answers every request with these bytes, and closes; with `hold` it does not.
async function rawProvider(t) {
    const raw = { answer: '' }
    const server = net.createServer((socket) => {
        socket.on('error', () => {})
        socket.once('data', () => (raw.hold ? socket.write(raw.answer, 'latin1') : socket.end(raw.answer, 'latin1')))
    })
    await new Promise((go) => server.listen(0, '127.0.0.1', go))
    t.after(() => { server.close(); server.unref() })
    raw.url = `http://127.0.0.1:${server.address().port}/v1`
    return raw
}

const answer = (line, fields = '', body = '{"error":{"message":"no"}}') => `HTTP/1.1 ${line}\r\n${fields}Content-Length: ${body.length}\r\n\r\n${body}`

test('whatever status and header fields a provider answers with, the service stands and the client gets an answer', async (t) => {
    const raw = await rawProvider(t)
    const { s, app } = await llmService(t, { url: raw.url })
    const answers = [
        answer('999 Odd'), answer('600 Odd'), answer('099 Odd'), answer('101 Switching Protocols'), answer('304 Not Modified', '', ''), answer('204 No Content', '', ''),
        answer('400 Bad Request', 'X-Request-Id: a\rSet-Cookie: b=c\r\nRetry-After: 1\rSet-Cookie: b=c\r\n'),
        answer('200 OK', 'X-Request-Id: a\rSet-Cookie: b=c\r\nContent-Type: application/json\rSet-Cookie: b=c\r\n', '{}'),
        answer('200 OK', 'X-Request-Id: \x01\x7f\xff\r\nContent-Type: application/json\x01\r\n', '{}'),
    ]
    for (const each of answers) {
        raw.answer = each
        for (const [method, path, body] of [['GET', 'v1/models'], ['POST', 'v1/chat/completions', '{"model":"m","messages":[]}'],
            ['POST', 'v1/chat/completions', '{"model":"m","messages":[],"stream":true}']]) {
            const reply = await app.request(method, `/llm/stand-in/${path}`, { body })
            assert.ok(reply.status >= 200 && reply.status <= 599, `${reply.status} to ${JSON.stringify(each)}`)
            assert.equal(reply.headers['set-cookie'], undefined, each)
        }
    }
    assert.equal((await fetch(`http://127.0.0.1:${s.port}/healthz`)).status, 200)
})

test('a request that becomes too large where it is kept is refused', async (t) => {
    const { app } = await llmService(t)
    const numbers = `[${'1e14,'.repeat(830000)}1]`
    const job = (more) => JSON.stringify(jobOf('happy', more)).replace('"numbers"', numbers)
    const stream = { insert: undefined, status: undefined, usage: undefined, target: { stream: 'a' } }
    assertProblem(await post(app, job({ ...stream, on_restart: 'fork', request: { model: 'happy', x: 'numbers' } })), 413, 'too_large')
    assertProblem(await post(app, job({ insert: { strict: 'numbers' } })), 413, 'too_large')
    // The provider may have all of it.
    const made = await post(app, job({ request: { model: 'happy', x: 'numbers' } }))
    assert.equal(made.status, 202, made.text)
    assert.equal((await app.request('DELETE', `/llm/jobs/${made.json.job}`)).json.state, 'cancelled')
})

test('a provider that repeats its key does not put it where readers look', async (t) => {
    const raw = await rawProvider(t)
    const { app } = await llmService(t, { url: raw.url })
    raw.answer = answer('401 Unauthorized', 'Content-Type: application/json\r\n', '{"error":{"message":"Incorrect API key provided: made-up-key."}}')
    const texts = [(await app.request('GET', '/llm/stand-in/v1/models')).text,
        (await app.request('POST', '/llm/stand-in/v1/chat/completions', { body: '{"model":"m","messages":[]}' })).text,
        JSON.stringify(await ended(app, (await ask(app, 'm')).job))]
    for (const text of texts) assert.match(text, /Incorrect API key provided: \*{11}\./)
})

test('a reply that does not fit is kept in whole messages, and told as failed', async (t) => {
    const raw = await rawProvider(t)
    const { app } = await llmService(t, { url: raw.url })
    const call = (index) => ({ choices: [{ index: 0, delta: { tool_calls: [{ index, id: `c${index}`, function: { name: 'f', arguments: '"'.repeat(120000) } }] } }] })
    const events = [...Array.from({ length: 32 }, (_, i) => call(i)), { choices: [{ index: 0, delta: {}, finish_reason: 'tool_calls' }] }]
    raw.answer = answer('200 OK', 'Content-Type: text/event-stream\r\n', events.map((e) => `data: ${JSON.stringify(e)}\n\n`).join(''))
    const target = { target: { stream: 'large' }, insert: undefined, status: undefined, usage: undefined }
    const j = await ended(app, (await ask(app, 'm', { ...target, form: 'messages' })).job)
    assert.deepEqual([j.state, j.error.code], ['failed', 'too_large'])
    const messages = JSON.parse((await textOf(app, 'large')))
    assert.deepEqual([messages.at(-1).type, messages.at(-1).state], ['closed', 'failed'])
})

test('where no token comes, what a provider sends instead does not count', async (t) => {
    const { app } = await llmService(t, { args: ['--llm-first-ms', '300', '--llm-idle-ms', '60000', '--llm-total-ms', '60000'] })
    const j = await ended(app, (await ask(app, 'endless-comments')).job)
    assert.deepEqual([j.state, j.error.code, j.error.detail], ['failed', 'provider_timeout', 'no answer began for 300 ms'])
})

test('a row that has no room for its usage keeps its text, and its stream is closed', async (t) => {
    const { app } = await llmService(t)
    let reply
    for (let spare = 0; reply?.status !== 202; spare += 40) {
        assert.ok(spare < 2000, reply?.text)
        reply = await post(app, jobOf('happy', { insert: { note: 'x'.repeat(1024 * 1024 - spare) } }))
    }
    const j = await ended(app, reply.json.job), row = await rowOf(app, reply.json.id)
    assert.deepEqual([j.state, j.error.code], ['failed', 'too_large'])
    assert.equal(row.body.closed, true)
    assert.equal(await textOf(app, reply.json.stream), 'The tide follows the moon, and the sun a little.')
    assert.equal(row.usage, null)
})

test('a fork begins where its reply did, behind what the stream had before, also after SIGTERM', async (t) => {
    const { s, app } = await llmService(t)
    await app.request('PUT', '/v1/stream/begun', { headers: { 'content-type': 'text/plain' }, body: 'Before. ' })
    const target = { target: { stream: 'begun' }, insert: undefined, status: undefined, usage: undefined }
    const made = await ask(app, 'slow', { ...target, on_restart: 'fork' })
    await eventually('text', async () => (await textOf(app, 'begun')).includes('tick'))
    assert.equal(await s.stop(), 0)
    await s.start()
    const old = (await app.request('GET', `/llm/jobs/${made.job}`)).json
    assert.deepEqual([old.state, old.error.code], ['interrupted', 'restarted'])
    await eventually('text in the fork', async () => (await textOf(app, old.continued_in)).includes('tick'))
    assert.match(await textOf(app, old.continued_in), /^Before\. The tide/)
    assert.equal((await app.readStream('begun')).closed, true)
})

test('an event may tell as much as a whole reply, and half a character', async (t) => {
    const raw = await rawProvider(t)
    const { app } = await llmService(t, { url: raw.url })
    const content = 'wave '.repeat(300000), event = (delta, more) => `data: ${JSON.stringify({ choices: [{ index: 0, delta, ...more }] })}\n\n`
    const body = event({ content }) + event({ content: '\ud83c' }) + event({}, { finish_reason: 'stop' }) + 'data: [DONE]\n\n'
    raw.answer = answer('200 OK', 'Content-Type: text/event-stream\r\n', body)
    const made = await ask(app, 'm')
    assert.equal((await ended(app, made.job)).state, 'done')
    assert.equal(await textOf(app, made.stream), `${content}\ufffd`)
    const direct = await app.request('POST', '/llm/stand-in/v1/chat/completions', { body: '{"model":"m","messages":[],"stream":true}' })
    assert.equal(direct.text, body)
})

test('an answer that breaks off is cut for who comes with its name alone, too', async (t) => {
    const { app, provider } = await llmService(t)
    const headers = { 'segue-stream': 'named' }
    const gone = app.request('POST', '/llm/stand-in/v1/chat/completions', { headers, body: '{"model":"slow","messages":[],"stream":true}' }).then(() => 'whole', () => 'cut')
    const { job } = await eventually('its job', async () => {
        const reply = await app.request('GET', '/v1/stream/named?offset=-1')
        return reply.status === 200 && reply.text.includes('tick') && { job: true }
    })
    assert.ok(job)
    const other = app.request('POST', '/llm/stand-in/v1/chat/completions', { headers: { ...headers, 'segue-cursor': '-1' }, body: '' }).then(() => 'whole', () => 'cut')
    await new Promise((go) => setTimeout(go, 50))
    await provider.end()
    assert.deepEqual([await gone, await other], ['cut', 'cut'])
})

test('messages of a JSON stream are no answer of a provider', async (t) => {
    const { app } = await llmService(t)
    await app.request('PUT', '/v1/stream/json', { headers: { 'content-type': 'application/json' }, body: '[1,2]' })
    assertProblem(await app.request('POST', '/llm/stand-in/v1/responses', { headers: { 'segue-stream': 'json', 'segue-cursor': '-1' }, body: '' }), 409, 'content_type_mismatch')
})

test('the longest name of a stream, all of it escaped, is told again', async (t) => {
    const { app } = await llmService(t)
    const name = '%C3%A9'.repeat(200)
    const reply = await app.request('POST', '/llm/stand-in/v1/chat/completions', { headers: { 'segue-stream': name }, body: '{"model":"happy","messages":[],"stream":true}' })
    assert.equal(reply.status, 200)
    assert.equal(reply.headers['segue-stream'], name)
})

test('a drop-in answer is shown from its first event on, long before its first token', async (t) => {
    const raw = await rawProvider(t)
    const { s } = await llmService(t, { url: raw.url })
    const first = 'event: response.created\ndata: {"type":"response.created","sequence_number":0,"response":{"id":"r","model":"m"}}\n\n'
    raw.answer = `HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n${first}`
    raw.hold = true
    const reply = await fetch(`${s.url}/apps/default/llm/stand-in/v1/responses`, { method: 'POST', body: '{"model":"m","input":"Why?","stream":true}' })
    const { value } = await reply.body.getReader().read()
    assert.equal(Buffer.from(value).toString(), first)
    assert.equal(reply.status, 200)
})
