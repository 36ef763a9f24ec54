// Replies that are read from anywhere: a client as PROTOCOL.md ("Forms") tells it to be, at every message of every kind of reply.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { assertProblem } from './lib/http.mjs'
import { ended, llmService, post } from './lib/provider.mjs'
import { root } from './lib/service.mjs'

const models = fs.readdirSync(path.join(root, 'tests/fixtures/provider')).filter((name) => name.endsWith('.events')).map((name) => name.slice(0, -7))
const apiOf = (model) => /^(responses|messages)/.exec(model)?.[1] || 'chat'

// What a client knows: parts whose beginning it has seen, the calls that it would make, and how the reply ended.
class Client {
    constructor(other) {
        Object.assign(this, structuredClone(other ? { ...other } : { parts: {}, calls: [], whole: [] }))
    }

    take(messages) {
        for (const m of messages) this[m.type]?.(m)
        return this
    }

    begin({ index, part, id, name }) { this.parts[index] = { part, id, name, text: '' } }
    delta({ index, text }) { if (this.parts[index]) this.parts[index].text += text }
    signature({ index, signature }) { if (this.parts[index]) this.parts[index].signature = signature }
    finish({ finish }) { this.finished = finish }
    closed({ state }) { this.state = state }

    end({ index, part, id, name, arguments: args }) {
        const known = this.parts[index]
        if (part === 'tool') {
            assert.ok(args !== undefined || known, 'half a call')
            if (known && args !== undefined) assert.equal(known.text, args)
            this.calls.push([index, id ?? known?.id, name ?? known?.name, args ?? known.text])
        }
        if (known) this.whole.push(index)
    }
}

test('a client that goes on at any message knows what one knows that has read all of it', async (t) => {
    const { app } = await llmService(t)
    let calls = 0
    for (const model of models) {
        const stream = `replies/${model}`, api = apiOf(model)
        const made = await post(app, JSON.stringify({ provider: api === 'messages' ? 'anthropic' : 'stand-in', api, form: 'messages', target: { stream },
            request: { model, [api === 'responses' ? 'input' : 'messages']: [{ role: 'user', content: 'Why?' }] } }))
        assert.equal(made.status, 202, made.text)
        await ended(app, made.json.job)
        const read = async (offset) => (await app.request('GET', `/v1/stream/${stream}?offset=${offset}`)).text
        const text = await read(0), messages = JSON.parse(text), whole = new Client().take(messages)
        assert.ok(whole.state, model)
        // A message takes its JSON and two bytes.
        let offset = 0
        for (const [i, line] of text.slice(1, -1).split(',\n').entries()) {
            assert.deepEqual(JSON.parse(line), messages[i], model)
            const rest = JSON.parse(await read(offset)), kept = new Client().take(messages.slice(0, i))
            assert.deepEqual({ ...new Client(kept).take(rest) }, { ...whole }, `${model}, kept ${i}`)
            // Nothing was kept: no part of it is half, and every call that ends from here on is made, the same.
            const fresh = new Client().take(rest)
            for (const index of fresh.whole) assert.deepEqual(fresh.parts[index], whole.parts[index], `${model}, fresh ${i}`)
            assert.deepEqual(fresh.calls, whole.calls.slice(kept.calls.length), `${model}, fresh ${i}`)
            if (i > 0) assertProblem(await app.request('GET', `/v1/stream/${stream}?offset=${offset - 1}`), 400, 'bad_offset')
            offset += Buffer.byteLength(line) + 2
        }
        assert.equal(await read(offset), '[]', model)
        calls += whole.calls.length
    }
    assert.ok(calls > 2, 'transcripts without calls prove little')
})
