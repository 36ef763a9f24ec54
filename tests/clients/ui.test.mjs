// The ai package, unmodified: its chat and its transport against …/ui, its providers against the drop-in endpoints.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createAnthropic } from '@ai-sdk/anthropic'
import { createOpenAI } from '@ai-sdk/openai'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { AbstractChat, DefaultChatTransport, generateText, jsonSchema, readUIMessageStream, streamText, tool } from 'ai'
import { eventually, within } from '../e2e/lib/service.mjs'
import { asked, baseOf, providers, TIDE } from './lib.mjs'

// What @ai-sdk/react keeps in a component's state, in an object.
class State {
    constructor(messages = []) {
        this.messages = messages
        this.status = 'ready'
        this.error = undefined
        this.pushMessage = (message) => { this.messages = [...this.messages, message] }
        this.popMessage = () => { this.messages = this.messages.slice(0, -1) }
        this.replaceMessage = (i, message) => { this.messages = this.messages.map((m, k) => (k === i ? structuredClone(message) : m)) }
        this.snapshot = (value) => structuredClone(value)
    }
}

class Chat extends AbstractChat {
    constructor({ messages, ...rest }) { super({ ...rest, state: new State(messages) }) }
}

const transportOf = (s, key, model, { provider = 'openai', ...body } = {}) => new DefaultChatTransport({ api: `${baseOf(s, provider)}/ui`, headers: { Authorization: `Bearer ${key}` }, body: { model, ...body } })
const chatOf = (s, key, id, model, { messages, onError, ...rest } = {}) => new Chat({ id, messages, onError, transport: transportOf(s, key, model, rest) })
const textOf = (message) => message?.parts.filter((part) => part.type === 'text').map((part) => part.text).join('') ?? ''
const streamUrl = (s, id, provider = 'openai') => `${baseOf(s, provider)}/ui/${encodeURIComponent(id)}/stream`
const stop = (s, key, id) => fetch(streamUrl(s, id), { method: 'DELETE', headers: { authorization: `Bearer ${key}` } })

const kinds = [['openai', 'happy'], ['responses', 'responses-text'], ['anthropic', 'messages-text']]
for (const [provider, model] of kinds) {
    test(`a chat with ${provider}: one message, its text, its end`, async (t) => {
        const { s, key, provider: standIn } = await providers(t)
        const chat = chatOf(s, key, 'chat one', model, { provider })
        await chat.sendMessage({ text: 'Why are there tides?' })
        assert.equal(chat.error, undefined)
        assert.equal(chat.status, 'ready')
        assert.deepEqual(chat.messages.map((m) => m.role), ['user', 'assistant'])
        assert.ok(textOf(chat.messages[1]).startsWith('The tide'))
        assert.ok(chat.messages[1].metadata.usage.outputTokens > 0)
        assert.equal((await asked(standIn, model, 1))[0].body.stream, true)
        await chat.sendMessage({ text: 'And the sun?' })
        assert.equal(chat.messages.length, 4)
        assert.equal(new Set(chat.messages.map((m) => m.id)).size, 4)
        assert.match(JSON.stringify((await asked(standIn, model, 2))[1].body), /The tide.*And the sun\?/)
    })
}

const tools = [['openai', 'chat-tool', 'tide_table'], ['responses', 'responses-tool'], ['anthropic', 'messages-tool']]
for (const [provider, model] of tools) {
    test(`calls of tools with ${provider} arrive with their input, and go back with their output`, async (t) => {
        const { s, key, provider: standIn } = await providers(t)
        const chat = chatOf(s, key, 'tools', model, { provider })
        await chat.sendMessage({ text: 'When is high water?' })
        assert.equal(chat.error, undefined)
        const calls = chat.messages[1].parts.filter((part) => part.type.startsWith('tool-'))
        assert.ok(calls.length > 0)
        for (const call of calls) {
            assert.equal(call.state, 'input-available')
            assert.equal(typeof call.input, 'object')
            await chat.addToolOutput({ tool: call.type.slice(5), toolCallId: call.toolCallId, output: { at: 'noon' } })
        }
        const id = chat.messages[1].id
        await chat.sendMessage()
        assert.equal(chat.messages[1].id, id, 'the answer goes on in the same message')
        assert.equal(chat.messages.length, 2)
        const request = JSON.stringify((await asked(standIn, model, 2))[1].body)
        assert.match(request, /noon/)
        assert.ok(request.includes(calls[0].toolCallId))
    })
}

test('the headers are those of a UI message stream', async (t) => {
    const { s, key } = await providers(t)
    const reply = await fetch(`${baseOf(s, 'openai')}/ui`, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
        body: JSON.stringify({ id: 'c', model: 'happy', trigger: 'submit-message', messages: [{ id: '1', role: 'user', parts: [{ type: 'text', text: 'Why?' }] }] }),
    })
    assert.equal(reply.headers.get('x-vercel-ai-ui-message-stream'), 'v1')
    assert.match(reply.headers.get('content-type'), /^text\/event-stream/)
    const lines = (await reply.text()).split('\n\n')
    assert.equal(lines.at(-2), 'data: [DONE]')
    assert.equal(JSON.parse(lines[0].slice(6)).type, 'start')
})

test('a chat that is opened again sees the running message whole, once, and its end', async (t) => {
    const { s, key } = await providers(t)
    const first = chatOf(s, key, 'reload', 'paced')
    const sending = first.sendMessage({ text: 'Why?' })
    await eventually('some text', () => textOf(first.messages[1]).length > 8)
    // Another tab, and the same one after a reload: both have the user's message alone.
    const others = [1, 2].map(() => chatOf(s, key, 'reload', 'paced', { messages: structuredClone(first.messages.slice(0, 1)) }))
    await Promise.all(others.map((chat) => chat.resumeStream()))
    await sending
    for (const chat of [first, ...others]) {
        assert.equal(chat.messages.length, 2)
        assert.equal(textOf(chat.messages[1]), TIDE)
        assert.equal(chat.status, 'ready')
    }
    assert.equal(others[0].messages[1].id, first.messages[1].id)
})

test('one that has part of it has no part twice', async (t) => {
    const { s, key } = await providers(t)
    const chat = chatOf(s, key, 'again', 'paced')
    const sending = chat.sendMessage({ text: 'Why?' })
    await eventually('some text', () => textOf(chat.messages[1]).length > 8)
    await chat.stop() // goes away; the message goes on
    await sending
    await chat.resumeStream()
    assert.equal(chat.messages.length, 2)
    assert.equal(textOf(chat.messages[1]), TIDE)
    assert.equal(chat.messages[1].parts.filter((part) => part.type === 'text').length, 1)
})

test('there is nothing to resume where nothing runs', async (t) => {
    const { s, key } = await providers(t)
    const chat = chatOf(s, key, 'quiet', 'happy')
    await chat.resumeStream()
    assert.equal(chat.status, 'ready')
    await chat.sendMessage({ text: 'Why?' })
    const headers = { authorization: `Bearer ${key}` }
    assert.equal((await fetch(streamUrl(s, 'quiet'), { headers })).status, 204)
    assert.equal((await stop(s, key, 'quiet')).status, 204)
    assert.equal((await stop(s, key, 'nobody')).status, 204)
    assert.equal((await fetch(`${baseOf(s, 'openai')}/ui/quiet`, { headers })).status, 404)
})

test('a stop works after a resume, for everybody who looks on, and once', async (t) => {
    const { s, key, provider } = await providers(t)
    const first = chatOf(s, key, 'stop', 'slow')
    const sending = first.sendMessage({ text: 'Why?' })
    await eventually('the first ticks', () => textOf(first.messages[1]).includes('tick'))
    await first.stop()
    await sending
    const chat = chatOf(s, key, 'stop', 'slow', { messages: structuredClone(first.messages.slice(0, 1)) })
    const resuming = chat.resumeStream()
    await eventually('ticks here, too', () => textOf(chat.messages[1]).includes('tick tick'))
    const stops = await Promise.all([stop(s, key, 'stop'), stop(s, key, 'stop')])
    assert.deepEqual(stops.map((reply) => reply.status), [204, 204])
    await within(resuming, 'the end of the message')
    await provider.gone('slow')
    assert.equal(chat.error, undefined)
    assert.equal(chat.status, 'ready')
    const told = textOf(chat.messages[1])
    assert.ok(told.startsWith('The tide tick'))
    assert.equal((await fetch(streamUrl(s, 'stop'), { headers: { authorization: `Bearer ${key}` } })).status, 204)
})

test('a new message ends one that still runs', async (t) => {
    const { s, key, provider } = await providers(t)
    const chat = chatOf(s, key, 'next', 'slow')
    const sending = chat.sendMessage({ text: 'Why?' })
    await eventually('the first ticks', () => textOf(chat.messages[1]).includes('tick'))
    await chat.stop()
    await sending
    const next = chatOf(s, key, 'next', 'happy', { messages: structuredClone(chat.messages.slice(0, 1)) })
    await next.sendMessage({ text: 'Say it in a word.' })
    await provider.gone('slow')
    assert.equal(textOf(next.messages.at(-1)), TIDE)
})

test('what goes wrong is an error of the chat', async (t) => {
    const { s, key } = await providers(t)
    for (const [model, told] of [['server-error', /500/], ['error-event', /The server had an error/], ['cut', /ended|cut|broke|clos/i]]) {
        const chat = chatOf(s, key, `bad ${model}`, model)
        await chat.sendMessage({ text: 'Why?' })
        assert.equal(chat.status, 'error', model)
        assert.match(chat.error.message, told)
    }
    const broken = chatOf(s, key, 'no model', undefined)
    await broken.sendMessage({ text: 'Why?' })
    assert.match(broken.error.message, /model/)
})

test('kill -9 in the middle of a message: nothing runs, nothing is lost', async (t) => {
    const { s, app, key } = await providers(t)
    const chat = chatOf(s, key, 'storm', 'slow')
    const sending = chat.sendMessage({ text: 'Why?' })
    await eventually('the first ticks', () => textOf(chat.messages[1]).includes('tick tick'))
    await s.kill()
    await sending
    assert.equal(chat.status, 'error')
    await s.start()
    const { bytes, closed } = await app.readStream('llm/ui/openai/storm')
    assert.equal(closed, true)
    const chunks = bytes.toString('utf8').split('\n\n').filter((line) => line !== '').map((line) => line.slice(6))
    assert.equal(chunks.at(-1), '[DONE]')
    assert.equal(JSON.parse(chunks.at(-2)).type, 'error')
    const stored = chunks.slice(0, -2).map((text) => JSON.parse(text)).filter((chunk) => chunk.type === 'text-delta').map((chunk) => chunk.delta).join('')
    assert.ok(stored.startsWith(textOf(chat.messages[1])), 'whatever was shown is there')
    const again = chatOf(s, key, 'storm', 'happy', { messages: structuredClone(chat.messages.slice(0, 1)) })
    await again.resumeStream()
    assert.equal(again.messages.length, 1)
    await again.regenerate()
    assert.equal(textOf(again.messages[1]), TIDE)
})

test('a transport alone: its stream of chunks is read as a message', async (t) => {
    const { s, key } = await providers(t)
    const stream = await transportOf(s, key, 'happy').sendMessages({ chatId: 'bare', trigger: 'submit-message', messages: [{ id: '1', role: 'user', parts: [{ type: 'text', text: 'Why?' }] }] })
    let last
    for await (const message of readUIMessageStream({ stream })) last = message
    assert.equal(textOf(last), TIDE)
})

test('its providers work on the drop-in endpoints', async (t) => {
    const { s, key } = await providers(t)
    const openai = createOpenAI({ baseURL: `${baseOf(s, 'openai')}/v1`, apiKey: key })
    const responses = createOpenAI({ baseURL: `${baseOf(s, 'responses')}/v1`, apiKey: key })
    const anthropic = createAnthropic({ baseURL: `${baseOf(s, 'anthropic')}/v1`, apiKey: key })
    const compatible = createOpenAICompatible({ name: 'segue', baseURL: `${baseOf(s, 'openai')}/v1`, apiKey: key })
    for (const model of [openai.chat('happy'), responses.responses('responses-text'), anthropic('messages-text'), compatible('happy')]) {
        const result = streamText({ model, prompt: 'Why?', maxRetries: 0, headers: { 'Segue-Stream': `by/${model.provider}` } })
        assert.ok((await result.text).startsWith('The tide'), model.provider)
        assert.ok((await result.usage).outputTokens > 0)
    }
    assert.equal((await generateText({ model: openai.chat('chat-json'), prompt: 'Why?', maxRetries: 0 })).text, TIDE)
    const called = await streamText({
        model: openai.chat('chat-tool'), prompt: 'Why?', maxRetries: 0,
        tools: { tide_table: tool({ inputSchema: jsonSchema({ type: 'object' }) }), moon: tool({ inputSchema: jsonSchema({ type: 'object' }) }) },
    }).toolCalls
    assert.deepEqual(called.map((call) => [call.toolName, call.input]), [['tide_table', { port: 'Brest' }], ['moon', {}]])
})
