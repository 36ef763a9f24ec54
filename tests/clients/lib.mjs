// A service with a provider for each way of speaking to one, and what the tests of its clients share.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { App } from '../e2e/lib/http.mjs'
import { Provider } from '../e2e/lib/provider.mjs'
import { eventually, root, service } from '../e2e/lib/service.mjs'

export const TIDE = 'The tide follows the moon, and the sun a little.'
export const QUESTION = [{ role: 'user', content: 'Why are there tides?' }]

// {s, app, provider, key}: keys are asked for, as they are where it matters.
export async function providers(t, { args = [] } = {}) {
    const provider = await new Provider().start()
    t.after(() => provider.end())
    const kinds = [['openai', 'chat'], ['responses', 'responses'], ['anthropic', 'messages']]
    const s = await service(t, {
        dev: false,
        env: { MADE_UP_KEY: 'made-up-key' },
        args: [...kinds.flatMap(([name, kind]) => ['--llm-provider', `${name} ${provider.url}/v1 MADE_UP_KEY ${kind}`]), ...args],
    })
    const key = fs.readFileSync(path.join(s.data, 'admin.key'), 'utf8').trim()
    return { s, app: new App(s, { key }), provider, key }
}

export const baseOf = (s, provider) => `${s.url}/apps/default/llm/${provider}`

// The body that the stand-in sends for a model, byte for byte.
export function transcript(model) {
    const text = fs.readFileSync(path.join(root, 'tests/fixtures/provider', `${model}.http`), 'utf8')
    return text.slice(text.indexOf('\n\n') + 2).split('\n').filter((line) => !line.startsWith('~')).join('\n')
}

// A completion as bytes: {status, headers, text()} and pieces one by one. `enough(text)`: go away then, as a client does whose tab is closed.
export async function ask(s, key, where, body, { headers = {}, enough } = {}) {
    const control = new AbortController()
    const reply = await fetch(`${s.url}/apps/default/llm/${where}`, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', ...headers },
        body: JSON.stringify(body),
        signal: control.signal,
    })
    const pieces = []
    let cut = false
    try {
        for await (const piece of reply.body) {
            pieces.push(Buffer.from(piece))
            if (enough?.(Buffer.concat(pieces).toString('utf8'))) { control.abort(); break }
        }
    } catch (e) {
        if (e.name === 'AssertionError') throw e
        cut = true
    }
    return { status: reply.status, headers: reply.headers, bytes: Buffer.concat(pieces), text: Buffer.concat(pieces).toString('utf8'), cut }
}

// How a client counts: the place behind n bytes of an answer that began at `cursor`.
export const placeBehind = (reply) => String(Number(reply.headers.get('segue-cursor').split('_').pop()) + reply.bytes.length)

// The provider was asked for a model so often, and no more. What it says comes behind what it does.
export async function asked(provider, model, times) {
    await eventually(`${times} requests for ${model}`, () => provider.requests(model).length >= times)
    assert.equal(provider.requests(model).length, times)
    return provider.requests(model)
}
