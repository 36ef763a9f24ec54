// @anthropic-ai/sdk, unmodified.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import Anthropic from '@anthropic-ai/sdk'
import { ask, asked, baseOf, placeBehind, providers, QUESTION, TIDE, transcript } from './lib.mjs'

const clientOf = (s, key, options = {}) => new Anthropic({ baseURL: baseOf(s, 'anthropic'), apiKey: key, maxRetries: 0, ...options })
const message = (model, more = {}) => ({ model, max_tokens: 100, messages: QUESTION, ...more })

test('a streamed message is the provider\'s, and stays behind as a stream', async (t) => {
    const { s, app, key, provider } = await providers(t)
    const stream = clientOf(s, key).messages.stream(message('messages-text'), { headers: { 'Segue-Stream': 'ebb' } })
    const final = await stream.finalMessage()
    assert.ok(final.content[0].text.startsWith('The tide'))
    assert.equal(final.stop_reason, 'end_turn')
    assert.equal(stream.request_id, 'req_made_up')
    assert.ok(final.usage.output_tokens > 0)
    assert.equal((await app.readStream('ebb')).bytes.toString('utf8'), transcript('messages-text'))
    assert.equal((await asked(provider, 'messages-text', 1))[0].body.stream, true)
})

test('thinking and calls of tools come through', async (t) => {
    const { s, key } = await providers(t)
    const final = await clientOf(s, key).messages.stream(message('messages-tool')).finalMessage()
    assert.equal(final.stop_reason, 'tool_use')
    assert.equal(final.content[0].type, 'thinking')
    assert.ok(final.content.some((block) => block.type === 'tool_use' && typeof block.input === 'object'))
})

test('a message in one piece', async (t) => {
    const { s, app, key } = await providers(t)
    const { data, response } = await clientOf(s, key).messages.create(message('messages-json')).withResponse()
    assert.equal(data.content[0].text, TIDE)
    const job = (await app.request('GET', `/llm/jobs/${response.headers.get('segue-job')}`)).json
    assert.deepEqual([job.state, job.usage.prompt_tokens, job.usage.completion_tokens], ['done', 9, 12])
})

test('the key may come as older versions of the package send it', async (t) => {
    const { s, key } = await providers(t)
    const reply = await fetch(`${baseOf(s, 'anthropic')}/v1/messages`, {
        method: 'POST',
        headers: { 'x-api-key': key, 'content-type': 'application/json', 'anthropic-version': '2023-06-01' },
        body: JSON.stringify(message('messages-json')),
    })
    assert.equal((await reply.json()).content[0].text, TIDE)
    const refused = await fetch(`${baseOf(s, 'anthropic')}/v1/messages`, { method: 'POST', headers: { 'x-api-key': 'wrong' }, body: '{}' })
    assert.equal(refused.status, 401)
})

test('overloaded is told as it is, and tried again by the package', async (t) => {
    const { s, key, provider } = await providers(t)
    const overloaded = (e) => e instanceof Anthropic.APIError && e.status === 529 && e.error.error.type === 'overloaded_error'
    await assert.rejects(clientOf(s, key).messages.create(message('messages-overloaded')), overloaded)
    await assert.rejects(clientOf(s, key, { maxRetries: 2 }).messages.create(message('messages-overloaded')), overloaded)
    await asked(provider, 'messages-overloaded', 4)
})

test('an error in the middle, and a reply that breaks off, are errors', async (t) => {
    const { s, key } = await providers(t)
    await assert.rejects(clientOf(s, key).messages.stream(message('messages-error')).finalMessage(), /Overloaded/)
    await assert.rejects(clientOf(s, key).messages.stream(message('messages-cut')).finalMessage())
})

test('a count of tokens is passed on', async (t) => {
    const { s, key } = await providers(t)
    await assert.rejects(clientOf(s, key).messages.countTokens({ model: 'messages-overloaded', messages: QUESTION }), (e) => e.status === 529)
})

test('a message is read again from any place', async (t) => {
    const { s, key } = await providers(t)
    const headers = { 'Segue-Stream': 'flood' }
    const body = { ...message('messages-text'), stream: true }
    const first = await ask(s, key, 'anthropic/v1/messages', body, { headers, enough: (text) => text.length > 400 })
    const second = await ask(s, key, 'anthropic/v1/messages', body, { headers: { ...headers, 'Segue-Cursor': placeBehind(first) } })
    assert.equal(first.text + second.text, transcript('messages-text'))
})
