// Transcripts as PROTOCOL.md has them: who says what to the service, and what it says. Played against a service, each word of it is a claim.
//
//   # words for the reader
//   ann > PUT /apps/default/schema          a request; a message over a WebSocket that is open
//       | Content-Type: text/plain          its fields, then its body, in lines below it
//       | create table notes (title text);
//   ann >> GET /apps/default/schema         the same, until what comes is the answer that stands below
//   ann < 200 {"fate":"accepted",…}         what comes; the fields that count and more of the body in lines below it
//   -- ann is cut off --                    so does everybody with `-- the service is killed with -9, and started again --`
//
// In what comes, `…` is anything, and `$name` one word: the same one wherever that name stands again, also in requests. Line ends in it do not count.
// An event of a subscription has its cursor behind it: `{…} id: $cursor`.
import assert from 'node:assert/strict'
import http from 'node:http'
import { enc, request } from './http.mjs'
import { PATIENCE_MS, sleep, within } from './service.mjs'
import { SseParser } from './sse.mjs'
import { open } from './ws.mjs'

// The blocks of a text that are transcripts, with their titles.
export function transcripts(text) {
    return [...text.matchAll(/^```transcript (.+)\n([^]*?)^```$/gm)].map(([, title, body]) => ({ title, steps: parse(body) }))
}

function parse(body) {
    const steps = []
    for (const line of body.split('\n')) {
        const said = /^([a-z]+) (<|>|>>) (.*)$/.exec(line), more = /^ +\| ?(.*)$/.exec(line), event = /^-- (.*) --$/.exec(line)
        if (said) steps.push({ who: said[1], says: said[2] !== '<', again: said[2] === '>>', lines: [said[3]] })
        else if (more) steps.at(-1).lines.push(more[1])
        else if (event) steps.push({ event: event[1] })
        else assert.ok(line === '' || line.startsWith('# '), `no line of a transcript: ${line}`)
    }
    return steps
}

const FIELD = /^([A-Z][A-Za-z-]*): (.*)$/

// Fields come first; what follows is a body.
function split(lines) {
    const at = lines.findIndex((line) => !FIELD.test(line))
    const fields = (at < 0 ? lines : lines.slice(0, at)).map((line) => FIELD.exec(line).slice(1))
    return { fields, body: at < 0 ? [] : lines.slice(at) }
}

class Words {
    constructor(known) { this.known = { ...known } }

    fill(text) {
        return text.replace(/\$([a-z]\w*)/g, (_, name) => {
            assert.ok(name in this.known, `nobody has said $${name} yet`)
            return this.known[name]
        })
    }

    // `got` is what `expected` describes.
    check(expected, got, what) {
        const fresh = []
        const pattern = expected.split(/(…|\$[a-z]\w*)/).map((piece) => {
            const name = /^\$([a-z]\w*)$/.exec(piece)?.[1]
            if (piece === '…') return '[^]*?'
            if (!name) return piece.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')
            if (name in this.known) return String(this.known[name]).replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')
            fresh.push(name)
            return '([^"\\s,;<>]+)'
        })
        const hit = new RegExp(`^${pattern.join('')}$`).exec(got)
        assert.ok(hit, `${what}\n expected: ${expected}\n      got: ${got}`)
        fresh.forEach((name, i) => {
            assert.ok(!(name in this.known) || this.known[name] === hit[i + 1], `${what}: $${name} is two things`)
            this.known[name] = hit[i + 1]
        })
    }
}

// The values of a query string as they are written here have spaces and signs.
function encoded(target) {
    const [path, query] = [target.split('?')[0], target.slice(target.split('?')[0].length + 1)]
    if (!query) return path
    const parts = query.split('&').map((part) => {
        const at = part.indexOf('=')
        return at < 0 ? part : `${part.slice(0, at)}=${enc(part.slice(at + 1))}`
    })
    return `${path}?${parts.join('&')}`
}

// One who talks to the service: at most one connection stays open, and what it brings waits to be looked at.
class Person {
    constructor(s, name) {
        this.s = s
        this.name = name
        this.said = [] // answers, events, messages: {text, headers}
        this.waiting = []
    }

    hear(item) {
        this.said.push(item)
        for (const go of this.waiting.splice(0)) go()
    }

    async next(what) {
        await within((async () => { while (this.said.length === 0) await new Promise((go) => this.waiting.push(go)) })(), `${this.name}: ${what}`)
        return this.said.shift()
    }

    cut() {
        this.ws?.destroy()
        this.req?.destroy()
        this.ws = this.req = undefined
    }

    async say(line, { fields, body }) {
        const [, method, target] = /^([A-Z]+) (\/.*)$/.exec(line) ?? []
        if (!method) return this.ws.send(this.ws.binary ? Buffer.from(line) : line)
        const headers = Object.fromEntries(fields)
        if (target.endsWith('/sync')) return this.#sync(target, headers)
        if (/\/subscribe\?|live=sse|\?follow/.test(target)) return this.#follow(encoded(target), headers)
        const reply = await request(this.s, method, encoded(target), { headers, body: body.length > 0 ? body.join('\n') : undefined })
        this.hear({ text: [reply.status, ...(reply.text ? [reply.text.trimEnd()] : [])].join(' '), headers: reply.headers })
    }

    async #sync(target, headers) {
        this.ws = await open(this.s, { path: target, headers })
        this.hear({ text: '101', headers: {} })
        const ws = this.ws
        ws.onMessage = (m) => { if (ws === this.ws) this.hear({ text: JSON.stringify(m), headers: {} }) }
        ws.socket.on('close', () => { if (ws === this.ws && ws.close) this.hear({ text: `close ${ws.close.code}`, headers: {} }) })
    }

    #follow(target, headers) {
        const req = http.get(this.s.url + target, { headers, agent: false })
        this.req = req
        req.on('error', () => {})
        req.on('response', (res) => {
            this.hear({ text: String(res.statusCode), headers: res.headers })
            const event = ({ event, id, data }) => { if (req === this.req) this.hear({ text: (event === 'message' ? '' : `${event}: `) + data + (id === undefined ? '' : ` id: ${id}`), headers: {} }) }
            const parser = new SseParser(event)
            res.on('data', (bytes) => parser.feed(bytes)).on('error', () => {})
        })
    }
}

// Plays one against a fresh service. `known` are words that it may use.
export async function play(t, s, steps, known = {}) {
    const people = new Map(), words = new Words(known)
    const person = (name) => people.get(name) ?? people.set(name, new Person(s, name)).get(name)
    t.after(() => people.forEach((p) => p.cut()))
    let asked
    for (const step of steps) {
        if (step.event) {
            await happen(s, step.event, people, person)
        } else if (step.says) {
            asked = step.again ? step : undefined
            await tell(person(step.who), step, words)
        } else if (asked) {
            await ask(person(step.who), asked, step, words)
            asked = undefined
        } else {
            await hear(person(step.who), step, words)
        }
    }
    for (const p of people.values()) assert.deepEqual(p.said.map((item) => item.text), [], `${p.name} was told more than the transcript says`)
}

async function happen(s, event, people, person) {
    const cut = /^([a-z]+) is cut off$/.exec(event)
    if (cut) return person(cut[1]).cut()
    assert.equal(event, 'the service is killed with -9, and started again')
    people.forEach((p) => p.cut())
    await s.kill()
    await s.start()
}

function tell(p, { lines }, words) {
    const { fields, body } = split(lines.slice(1).map((line) => words.fill(line)))
    // A message may take several lines here.
    const first = words.fill(lines[0])
    return /^[A-Z]+ \//.test(first) ? p.say(first, { fields, body }) : p.say([first, ...body].join(''), { fields: [], body: [] })
}

// The question was put once; it is put until the answer is this one.
async function ask(p, question, answer, words) {
    for (const end = Date.now() + PATIENCE_MS; ; await tell(p, question, words)) {
        try {
            return await hear(p, answer, words)
        } catch (e) {
            if (Date.now() > end) throw e
            await sleep(10)
        }
    }
}

async function hear(p, { lines }, words) {
    const { fields, body } = split(lines.slice(1))
    const expected = [lines[0], ...body].join('')
    const got = await p.next(`to be told ${expected}`)
    words.check(expected, got.text.replaceAll('\n', ''), `${p.name} is told`)
    for (const [name, value] of fields) words.check(value, String(got.headers[name.toLowerCase()]), `${p.name} is told ${name}`)
}
