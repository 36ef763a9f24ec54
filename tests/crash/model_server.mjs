// The stand-in for the provider of the jobs campaign, a process of its own that may be killed at any moment:
//
//      node model_server.mjs PORT JOURNAL
//
// It answers POST …/chat/completions, …/responses and …/messages as model.mjs says, token by token. The request's one message is the job's
// key. Responses in the background can be asked for again (GET …/responses/<id>?starting_after=N) also behind a restart: they are
// functions of their id. The journal is a line for each thing that happened, written before it happens:
//
//      request KEY ATTEMPT API MODEL, resume KEY ATTEMPT AFTER, sent KEY ATTEMPT (all there is), cancel KEY ATTEMPT
import fs from 'node:fs'
import http from 'node:http'
import { eventsOf, planOf, responseId } from './model.mjs'

const [port, journal] = process.argv.slice(2)
const asked = new Map() // key -> {attempts, api, model}

function remember(line) {
    const [what, key, attempt, api, model] = line.split(' ')
    if (what === 'request') asked.set(key, { attempts: Number(attempt), api, model })
}

for (const line of fs.existsSync(journal) ? fs.readFileSync(journal, 'utf8').split('\n') : []) remember(line)
const file = fs.openSync(journal, 'a')

function note(line) {
    fs.writeSync(file, `${line}\n`)
    remember(line)
}

function refuse(res, status, headers = {}) {
    res.writeHead(status, { 'content-type': 'application/json', ...headers })
    res.end(JSON.stringify({ error: { message: 'made up', type: 'made_up', code: 'made_up' } }))
}

// Event by event, from the number `after` on; whoever leaves is left alone.
async function tell(res, key, attempt, api, plan, from) {
    const events = eventsOf(api, key, attempt, plan).slice(from)
    res.writeHead(200, { 'content-type': 'text/event-stream' })
    let rest = Buffer.alloc(0)
    for (const e of events) {
        if (res.destroyed) return
        // Odd paces cut events anywhere: what is there of the next one waits for its rest.
        const bytes = Buffer.concat([rest, Buffer.from(e.text)])
        const cut = plan.ms % 2 ? bytes.length - (bytes[bytes.length >> 1] % bytes.length) : bytes.length
        res.write(bytes.subarray(0, cut))
        rest = bytes.subarray(cut)
        if (e.token && plan.ms > 0) await new Promise((go) => setTimeout(go, plan.ms))
    }
    res.write(rest)
    if (plan.ending === 'hang' || res.destroyed) return
    note(`sent ${key} ${attempt}`)
    if (plan.ending === 'cut') setTimeout(() => res.socket.destroy(), 10) // behind what was written
    else res.end()
}

function post(req, res, body) {
    const request = JSON.parse(body)
    const api = /chat\/completions$/.test(req.url) ? 'chat' : /responses$/.test(req.url) ? 'responses' : 'messages'
    const { content } = (request.messages || request.input)[0]
    const key = typeof content === 'string' ? content : content[0].text
    const attempt = (asked.get(key)?.attempts || 0) + 1
    const plan = planOf(request.model)
    note(`request ${key} ${attempt} ${api} ${request.model}`)
    if (plan.ending === 'refuse') return refuse(res, 401)
    if (attempt <= plan.refusals) return attempt % 2 ? refuse(res, 503) : refuse(res, 429, { 'retry-after': '0' })
    return tell(res, key, attempt, api, plan, 0)
}

function background(req, res, key, attempt) {
    const known = asked.get(key)
    if (!known || attempt > known.attempts) return refuse(res, 404)
    if (req.method === 'POST') {
        note(`cancel ${key} ${attempt}`)
        res.writeHead(200, { 'content-type': 'application/json' })
        return res.end(JSON.stringify({ id: responseId(key, attempt), status: 'cancelled' }))
    }
    const after = Number(/starting_after=(\d+)/.exec(req.url)[1])
    note(`resume ${key} ${attempt} ${after}`)
    return tell(res, key, attempt, known.api, planOf(known.model), after + 1)
}

http.createServer({ keepAliveTimeout: 0 }, (req, res) => {
    const pieces = []
    res.on('error', () => {})
    req.on('data', (p) => pieces.push(p))
    req.on('end', () => {
        const id = /\/responses\/resp_([0-9a-f-]{36})-(\d+)/.exec(req.url)
        if (id) background(req, res, id[1], Number(id[2]))
        else post(req, res, Buffer.concat(pieces).toString())
    })
}).listen(Number(port), '127.0.0.1', function () { console.log(`listening on http://127.0.0.1:${this.address().port}`) })
