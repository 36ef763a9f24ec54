// A language model that counts: what it says is a function of the job's key, the attempt and the plan, so that whoever looks at a stored
// stream can tell which token of which attempt each byte is. The stand-in (model_server.mjs) says it, the campaign (asked.mjs) compares.

// A request's model name is its plan: numbers-<ending>-<tokens>-<ms between two>-<refusals before it answers>
//
//      done    complete, with usage            quiet   complete, without usage
//      bare    the body ends without an end    cut     the connection is cut
//      error   the provider gives up           hang    nothing more comes
//      refuse  never answers: 401
export function planOf(model) {
    const [, ending, tokens, ms, refusals] = /^numbers-([a-z]+)-(\d+)-(\d+)-(\d+)$/.exec(model)
    return { ending, tokens: Number(tokens), ms: Number(ms), refusals: Number(refusals) }
}

export const modelOf = ({ ending, tokens, ms, refusals }) => `numbers-${ending}-${tokens}-${ms}-${refusals}`

const isComplete = (plan) => plan.ending === 'done' || plan.ending === 'quiet'

// Of one, two, three and four bytes each, line ends and JSON's own characters among them.
const spice = ['', ' ', 'é', '潮', '🌊', '"\\', '\n', ' tide ']
export const token = (key, attempt, n) => (n === 0 ? `${key}/${attempt};` : `${attempt}.${n}${spice[n % spice.length]};`)
export const tokens = (key, attempt, count) => Array.from({ length: count }, (_, n) => token(key, attempt, n))
export const textOf = (key, attempt, plan) => tokens(key, attempt, plan.tokens).join('')

const data = (value) => `data: ${typeof value === 'string' ? value : JSON.stringify(value)}\n\n`
const event = (value) => `event: ${value.type}\n${data(value)}`

// Events as {text, token}: `token` says that it has one, so that it is paced.
function chat(key, attempt, plan) {
    const id = `chatcmpl-${key}-${attempt}`
    const chunk = (choices, more = {}) => data({ id, object: 'chat.completion.chunk', created: 1763805600, model: 'made-up-1', choices, ...more })
    const delta = (d, finish_reason = null) => chunk([{ index: 0, delta: d, finish_reason }])
    const out = [{ text: delta({ role: 'assistant', content: '' }) }]
    for (const t of tokens(key, attempt, plan.tokens)) out.push({ text: delta({ content: t }), token: true })
    if (plan.ending === 'error') out.push({ text: data({ error: { message: 'made up', type: 'server_error', code: 'made_up' } }) })
    if (!isComplete(plan)) return out
    out.push({ text: delta({}, 'stop') })
    if (plan.ending === 'done') out.push({ text: chunk([], { usage: { prompt_tokens: 7, completion_tokens: plan.tokens, total_tokens: 7 + plan.tokens } }) })
    return [...out, { text: data('[DONE]') }]
}

export const responseId = (key, attempt) => `resp_${key}-${attempt}`

function responses(key, attempt, plan) {
    const out = []
    const put = (type, more, has = false) => out.push({ text: event({ type, sequence_number: out.length, ...more }), token: has })
    const response = { id: responseId(key, attempt), object: 'response', created_at: 1763805600, model: 'made-up-2' }
    const place = { item_id: 'm', output_index: 0, content_index: 0 }
    put('response.created', { response: { ...response, status: 'in_progress', output: [], usage: null } })
    put('response.output_item.added', { output_index: 0, item: { id: 'm', type: 'message' } })
    put('response.content_part.added', { ...place, part: { type: 'output_text', text: '' } })
    for (const t of tokens(key, attempt, plan.tokens)) put('response.output_text.delta', { ...place, delta: t }, true)
    if (plan.ending === 'error') put('response.failed', { response: { ...response, status: 'failed', error: { code: 'made_up', message: 'made up' }, usage: null } })
    if (!isComplete(plan)) return out
    const text = textOf(key, attempt, plan)
    put('response.output_text.done', { ...place, text })
    put('response.content_part.done', { ...place, part: { type: 'output_text', text } })
    put('response.output_item.done', { output_index: 0, item: { id: 'm', type: 'message', status: 'completed' } })
    const usage = plan.ending === 'done' ? { input_tokens: 7, output_tokens: plan.tokens, total_tokens: 7 + plan.tokens } : null
    put('response.completed', { response: { ...response, status: 'completed', usage } })
    return out
}

function messages(key, attempt, plan) {
    const usage = plan.ending === 'done' ? { input_tokens: 7, output_tokens: 1 } : undefined
    const message = { id: `msg_${key}-${attempt}`, type: 'message', role: 'assistant', model: 'made-up-3', content: [], usage }
    const out = [{ text: event({ type: 'message_start', message }) }]
    out.push({ text: event({ type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } }) })
    for (const text of tokens(key, attempt, plan.tokens)) out.push({ text: event({ type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text } }), token: true })
    if (plan.ending === 'error') out.push({ text: event({ type: 'error', error: { type: 'api_error', message: 'made up' } }) })
    if (!isComplete(plan)) return out
    out.push({ text: event({ type: 'content_block_stop', index: 0 }) })
    const counted = plan.ending === 'done' ? { usage: { output_tokens: plan.tokens } } : {}
    out.push({ text: event({ type: 'message_delta', delta: { stop_reason: 'end_turn', stop_sequence: null }, ...counted }) })
    return [...out, { text: event({ type: 'message_stop' }) }]
}

export const eventsOf = (api, key, attempt, plan) => ({ chat, responses, messages })[api](key, attempt, plan)
export const bodyOf = (api, key, attempt, plan) => eventsOf(api, key, attempt, plan).map((e) => e.text).join('')
