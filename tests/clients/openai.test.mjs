// The openai package, unmodified: base URL and key are all that changes. What it does not know of, durable streams, is in headers.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import OpenAI from 'openai'
import { eventually, sleep } from '../e2e/lib/service.mjs'
import { ask, asked, baseOf, placeBehind, providers, QUESTION, TIDE, transcript } from './lib.mjs'

const clientOf = (s, key, options = {}) => new OpenAI({ baseURL: `${baseOf(s, 'openai')}/v1`, apiKey: key, maxRetries: 0, ...options })
const chat = (model, more = {}) => ({ model, messages: QUESTION, stream: true, ...more })

async function textOf(stream) {
    let text = ''
    for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? ''
    return text
}

test('a streamed chat is the provider\'s, and stays behind as a stream', async (t) => {
    const { s, app, key, provider } = await providers(t)
    const { data, response, request_id } = await clientOf(s, key).chat.completions.create(chat('happy')).withResponse()
    assert.equal(await textOf(data), TIDE)
    assert.equal(request_id, 'req_made_up')
    const path = response.headers.get('segue-stream'), job = response.headers.get('segue-job')
    assert.equal(path, `llm/${job}`)
    const { bytes, closed } = await app.readStream(path)
    assert.equal(bytes.toString('utf8'), transcript('happy'))
    assert.equal(closed, true)
    assert.equal((await app.request('GET', `/llm/jobs/${job}`)).json.state, 'done')
    const [request] = await asked(provider, 'happy', 1)
    assert.equal(request.authorization, 'Bearer made-up-key')
    assert.deepEqual(request.body, chat('happy'))
})

test('an answer in one piece is told whole, and again under its name', async (t) => {
    const { s, app, key, provider } = await providers(t)
    const client = clientOf(s, key)
    for (let i = 0; i < 2; i++) {
        const { data, response } = await client.chat.completions.create({ model: 'chat-json', messages: QUESTION }, { headers: { 'Segue-Stream': 'answers/one' } }).withResponse()
        assert.equal(data.choices[0].message.content, TIDE)
        assert.equal(data.usage.total_tokens, 21)
        assert.equal(response.headers.get('segue-stream'), 'answers/one')
    }
    await asked(provider, 'chat-json', 1)
    const { response } = await client.chat.completions.create({ model: 'chat-json', messages: QUESTION }).withResponse()
    assert.equal((await app.request('GET', `/llm/jobs/${response.headers.get('segue-job')}`)).json.usage.total_tokens, 21)
})

test('an answer in one piece that breaks off is an error, not half an answer', async (t) => {
    const { s, key } = await providers(t)
    await assert.rejects(clientOf(s, key).chat.completions.create({ model: 'json-cut', messages: QUESTION }), (e) => e.status === 502 && e.code === 'provider_cut')
    await assert.rejects(clientOf(s, key).chat.completions.create({ model: 'happy', messages: QUESTION }), (e) => e.status === 502 && e.code === 'provider_malformed')
    await assert.rejects(clientOf(s, key).chat.completions.create(chat('chat-json')), (e) => e.status === 502 && e.code === 'provider_malformed')
})

test('calls of tools come through', async (t) => {
    const { s, key } = await providers(t)
    const tools = [{ type: 'function', function: { name: 'tide_table', parameters: { type: 'object', properties: { port: { type: 'string' } } } } },
        { type: 'function', function: { name: 'moon', parameters: { type: 'object', properties: {} } } }]
    const final = await clientOf(s, key).chat.completions.stream(chat('chat-tool', { tools })).finalChatCompletion()
    assert.equal(final.choices[0].finish_reason, 'tool_calls')
    assert.deepEqual(final.choices[0].message.tool_calls.map((c) => [c.id, c.function.name, c.function.arguments]), [['call_1', 'tide_table', '{"port":"Brest"}'], ['call_2', 'moon', '{}']])
})

test('responses stream, and come in one piece', async (t) => {
    const { s, app, key } = await providers(t)
    const client = clientOf(s, key, { baseURL: `${baseOf(s, 'responses')}/v1` })
    const { data, response } = await client.responses.create({ model: 'responses-text', input: 'Why?', stream: true }).withResponse()
    let text = '', last
    for await (const event of data) {
        if (event.type === 'response.output_text.delta') text += event.delta
        last = event
    }
    assert.ok(text.startsWith('The tide'))
    assert.equal(last.type, 'response.completed')
    assert.match(response.headers.get('segue-stream'), /^llm\//)
    const whole = await client.responses.create({ model: 'responses-json', input: 'Why?' }).withResponse()
    assert.equal(whole.data.output_text, TIDE)
    assert.equal((await app.request('GET', `/llm/jobs/${whole.response.headers.get('segue-job')}`)).json.usage.total_tokens, 21)
})

test('what else the package asks is passed on', async (t) => {
    const { s, key, provider } = await providers(t)
    const client = clientOf(s, key, { baseURL: `${baseOf(s, 'responses')}/v1` })
    await client.responses.cancel('resp_nobody')
    await eventually('the cancellation', () => provider.lines.includes('cancel resp_nobody Bearer made-up-key'))
    let last
    for await (const event of await client.responses.retrieve('resp_background', { stream: true, starting_after: 6 })) last = event
    assert.equal(last.type, 'response.completed')
    await eventually('the resumption', () => provider.lines.includes('resume resp_background 6 Bearer made-up-key'))
    await assert.rejects(client.models.list(), (e) => e.status === 404 && /does not exist/.test(e.message))
    await assert.rejects(client.embeddings.create({ model: 'happy', input: 'x' }), (e) => e.status === 404 && e.code === 'not_found')
})

test('refusals are the provider\'s, with its status and words', async (t) => {
    const { s, app, key, provider } = await providers(t)
    const client = clientOf(s, key)
    await assert.rejects(client.chat.completions.create(chat('too-many')), (e) => {
        assert.ok(e instanceof OpenAI.RateLimitError)
        assert.equal(e.code, 'rate_limit_exceeded')
        assert.match(e.message, /Rate limit reached for made-up-1/)
        assert.equal(e.headers.get('retry-after'), '20')
        return true
    })
    await assert.rejects(client.chat.completions.create(chat('bad-request')), (e) => e instanceof OpenAI.BadRequestError && e.param === 'messages')
    await assert.rejects(client.chat.completions.create({ ...chat('bad-request'), stream: false }), (e) => e instanceof OpenAI.BadRequestError && e.param === 'messages')
    await assert.rejects(client.chat.completions.create(chat('unauthorized')), (e) => e instanceof OpenAI.AuthenticationError)
    await assert.rejects(client.chat.completions.create(chat('server-error')), (e) => e instanceof OpenAI.InternalServerError && e.status === 500)
    // Tried again by the client, which knows how: the service adds nothing of its own.
    await assert.rejects(clientOf(s, key, { maxRetries: 2 }).chat.completions.create(chat('server-error'), { headers: { 'Segue-Stream': 'tries' } }), (e) => e.status === 500)
    await asked(provider, 'server-error', 4)
    assert.equal((await app.request('GET', '/v1/stream/tries')).headers['stream-closed'], 'true')
    await asked(provider, 'too-many', 1)
    // What fails under a name may succeed under it.
    assert.equal(await textOf(await clientOf(s, key, { maxRetries: 2 }).chat.completions.create(chat('fails-twice'), { headers: { 'Segue-Stream': 'tries/again' } })), TIDE)
    assert.equal((await app.readStream('tries/again')).bytes.toString('utf8'), transcript('fails-twice'))
})

test('refusals of the service are errors that the package understands', async (t) => {
    const { s, key } = await providers(t)
    await assert.rejects(clientOf(s, 'wrong').chat.completions.create(chat('happy')), (e) => e instanceof OpenAI.AuthenticationError)
    await assert.rejects(clientOf(s, key, { baseURL: `${baseOf(s, 'nobody')}/v1` }).chat.completions.create(chat('happy')), (e) => e.status === 404 && e.code === 'no_such_provider')
    for (const name of ['rows/messages/x/body', `${'x'.repeat(500)}`, '%zz'])
        await assert.rejects(clientOf(s, key).chat.completions.create(chat('happy'), { headers: { 'Segue-Stream': name } }), (e) => e.status === 400 || e.status === 422, name)
    await assert.rejects(clientOf(s, key).chat.completions.create(chat('happy'), { headers: { 'Segue-Cursor': '5' } }), (e) => e.status === 400)
    await assert.rejects(clientOf(s, key).chat.completions.create(chat('happy'), { headers: { 'Segue-Stream': 'none', 'Segue-Cursor': '0' } }), (e) => e.status === 404)
})

test('an error in the middle is an error of the stream', async (t) => {
    const { s, key } = await providers(t)
    const seen = []
    await assert.rejects(async () => {
        for await (const chunk of await clientOf(s, key).chat.completions.create(chat('error-event'))) seen.push(chunk.choices[0].delta.content)
    }, /The server had an error/)
    assert.equal(seen.join(''), 'The tide follows')
    // One that breaks off does so for the client, too: it never looks complete.
    await assert.rejects(async () => textOf(await clientOf(s, key).chat.completions.create(chat('cut'))))
})

test('a name is one call: asked once, told again, and nobody else\'s', async (t) => {
    const { s, key, provider } = await providers(t)
    const client = clientOf(s, key)
    const named = { headers: { 'Segue-Stream': 'chats/ebb' } }
    const texts = await Promise.all([1, 2, 3].map(async () => textOf(await client.chat.completions.create(chat('paced'), named))))
    assert.deepEqual(texts, [TIDE, TIDE, TIDE])
    assert.equal(await textOf(await client.chat.completions.create(chat('paced'), named)), TIDE)
    await asked(provider, 'paced', 1)
    await assert.rejects(client.chat.completions.create(chat('happy'), named), (e) => e.status === 409)
})

test('a reader that went away goes on where it was, byte for byte', async (t) => {
    const { s, key, provider } = await providers(t)
    const headers = { 'Segue-Stream': 'chats/flood' }
    const all = transcript('paced')
    const first = await ask(s, key, 'openai/v1/chat/completions', chat('paced'), { headers, enough: (text) => text.length > 700 })
    assert.ok(first.bytes.length < all.length)
    const second = await ask(s, key, 'openai/v1/chat/completions', chat('paced'), { headers: { ...headers, 'Segue-Cursor': placeBehind(first) }, enough: (text) => text.length > 300 })
    const third = await ask(s, key, 'openai/v1/chat/completions', chat('paced'), { headers: { ...headers, 'Segue-Cursor': placeBehind(second) } })
    assert.equal(first.text + second.text + third.text, all)
    assert.equal(third.cut, false)
    await asked(provider, 'paced', 1)
})

test('a long answer is the provider\'s to the last byte, for a reader that takes its time, too', async (t) => {
    const { s, app, key } = await providers(t)
    const hurried = ask(s, key, 'openai/v1/chat/completions', chat('large'), { headers: { 'Segue-Stream': 'long' } })
    const patient = new OpenAI({ baseURL: `${baseOf(s, 'openai')}/v1`, apiKey: key, maxRetries: 0 })
    let text = '', chunks = 0
    for await (const chunk of await patient.chat.completions.create(chat('large'), { headers: { 'Segue-Stream': 'long' } })) {
        text += chunk.choices[0]?.delta?.content ?? ''
        if (chunks++ % 50 === 0) await sleep(5)
    }
    assert.equal(text, 'wave '.repeat(200 * 300))
    const { bytes } = await app.readStream('long')
    assert.ok((await hurried).bytes.equals(bytes))
    assert.equal(bytes.toString('utf8'), transcript('large'))
})

test('nobody listens, and the call goes on; DELETE ends it', async (t) => {
    const { s, app, key, provider } = await providers(t)
    const client = clientOf(s, key)
    const { data, response } = await client.chat.completions.create(chat('slow')).withResponse()
    for await (const chunk of data) if (chunk.choices[0].delta.content === ' tick') break // aborts the request
    const job = response.headers.get('segue-job'), path = response.headers.get('segue-stream')
    const before = (await app.readStream(path)).bytes.length
    await eventually('more', async () => (await app.readStream(path)).bytes.length > before + 500)
    const other = ask(s, key, 'openai/v1/chat/completions', chat('slow'), { headers: { 'Segue-Stream': path, 'Segue-Cursor': '0' } })
    assert.equal((await app.request('DELETE', `/llm/jobs/${job}`)).json.state, 'cancelled')
    await provider.gone('slow')
    const { text, cut } = await other
    assert.equal(cut, true)
    assert.equal(text, (await app.readStream(path)).bytes.toString('utf8'))
    assert.equal((await app.request('DELETE', `/llm/jobs/${job}`)).status, 200)
})

test('kill -9 in the middle: what was shown is there, and the rest ends as interrupted', async (t) => {
    const { s, app, key } = await providers(t)
    const headers = { 'Segue-Stream': 'chats/storm' }
    let first
    const reading = ask(s, key, 'openai/v1/chat/completions', chat('slow'), { headers, enough: (text) => { if (text.length > 3000) s.child.signal('SIGKILL'); return false } })
    first = await reading
    assert.equal(first.cut, true)
    await s.kill()
    await s.start()
    const rest = await ask(s, key, 'openai/v1/chat/completions', chat('slow'), { headers: { ...headers, 'Segue-Cursor': placeBehind(first) } })
    const { bytes, closed } = await app.readStream('chats/storm')
    assert.equal(rest.status, 200)
    assert.equal(first.text + rest.text, bytes.toString('utf8'))
    assert.equal(closed, true)
    assert.equal(rest.cut, true)
    assert.equal((await app.request('GET', `/llm/jobs/${first.headers.get('segue-job')}`)).json.state, 'interrupted')
})

test('a service that is stopped ends what runs, in order', async (t) => {
    const { s, app, key } = await providers(t)
    let stopping
    const reply = await ask(s, key, 'openai/v1/chat/completions', chat('slow'), { headers: { 'Segue-Stream': 'calm' }, enough: (text) => { if (text.length > 2000) stopping ||= s.stop(); return false } })
    assert.equal(await stopping, 0)
    assert.equal(reply.cut, true)
    await s.start()
    const { bytes, closed } = await app.readStream('calm')
    assert.equal(closed, true)
    assert.ok(bytes.toString('utf8').startsWith(reply.text))
    assert.equal((await app.request('GET', `/llm/jobs/${reply.headers.get('segue-job')}`)).json.state, 'interrupted')
})
