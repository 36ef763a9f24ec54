// The stand-in for an LLM provider (tests/provider), and a service that is configured with it.
import assert from 'node:assert/strict'
import path from 'node:path'
import { App } from './http.mjs'
import { Child, eventually, root, service } from './service.mjs'

const PROVIDER = path.resolve(process.env.PROVIDER || path.join(root, 'build/tests/provider/provider'))

export class Provider {
    constructor() { this.child = new Child(PROVIDER, ['--folder', path.join(root, 'tests/fixtures/provider')]) }

    async start() {
        const hit = await eventually('the provider', () => /listening on (\S+)/.exec(this.child.stdout))
        this.url = hit[1]
        return this
    }

    get lines() { return this.child.stdout.split('\n') }

    // What was asked of it for a model: {authorization, body} each.
    requests(model) {
        return this.lines.map((line) => /^request (\S+) (Bearer \S+|\S+) (.*)$/.exec(line)).filter((hit) => hit && hit[1] === model)
            .map(([, , authorization, body]) => ({ authorization, body: JSON.parse(body) }))
    }

    // The service has closed its connection before the answer's end.
    gone(model) { return eventually(`the provider sees ${model} go`, () => this.lines.includes(`gone ${model}`)) }

    async end() {
        this.child.signal('SIGKILL')
        await this.child.end()
    }
}

export const llmSchema = 'create table messages (body stream, status text, usage jsonb, note text, strict jsonb not null default \'{}\');'

// A service with a provider: {s, app, provider}; `args` are further flags, `schema` the app's, if it is to have one.
export async function llmService(t, { args = [], url, schema = llmSchema, ...options } = {}) {
    const provider = await new Provider().start()
    t.after(() => provider.end())
    const s = await service(t, {
        ...options,
        env: { MADE_UP_KEY: 'made-up-key', ...options.env },
        args: ['--llm-provider', `stand-in ${url || `${provider.url}/v1/`} MADE_UP_KEY`, '--llm-retry-ms', '10',
            '--llm-provider', `anthropic ${url || `${provider.url}/v1`} MADE_UP_KEY messages`, ...args],
    })
    const app = new App(s, { key: options.key })
    if (schema) await app.schema(schema)
    return { s, app, provider }
}

export const jobOf = (model, more = {}) => ({
    request: { model, messages: [{ role: 'user', content: 'Why are there tides?' }] },
    target: { table: 'messages', column: 'body' },
    status: 'status',
    usage: 'usage',
    insert: {},
    ...more,
})

export const post = (app, job) => app.request('POST', '/llm/jobs', { body: typeof job === 'string' ? job : JSON.stringify(job) })

// A job that must be taken: {job, id, stream, seq}
export async function ask(app, model, more) {
    const reply = await post(app, jobOf(model, more))
    assert.equal(reply.status, 202, reply.text)
    return reply.json
}

export async function job(app, id) {
    const reply = await app.request('GET', `/llm/jobs/${id}`)
    assert.equal(reply.status, 200, reply.text)
    return reply.json
}

export const ended = (app, id) => eventually(`the end of job ${id}`, async () => {
    const j = await job(app, id)
    return j.ended && j
})

export const rowOf = async (app, id) => (await app.rows('select * from messages where id = $1', [id]))[0]
export const textOf = async (app, stream) => (await app.readStream(stream)).bytes.toString('utf8')

// What of a usage does not change from run to run; null where it is unknown.
export function used(usage) {
    assert.equal(typeof usage?.known, 'boolean')
    if (!usage.known) return null
    const { completion_tokens, finish_reason, model, prompt_tokens, total_tokens } = usage
    return { completion_tokens, finish_reason, model, prompt_tokens, total_tokens }
}
