// Reading server-sent events as WHATWG HTML defines them, and following a subscription with them.
import assert from 'node:assert/strict'
import http from 'node:http'
import { Fold } from './fold.mjs'
import { eventually, within } from './service.mjs'

// Bytes in, events {event, id, data} out. `id` is the event's own; `lastId` is what an EventSource would send back.
export class SseParser {
    constructor(onEvent) {
        this.onEvent = onEvent
        this.rest = ''
        this.decoder = new TextDecoder()
        this.lastId = undefined
        this.comments = 0
        this.#clear()
    }

    #clear() { this.event = 'message'; this.data = []; this.id = undefined }

    feed(bytes) {
        this.rest += this.decoder.decode(bytes, { stream: true })
        const lines = this.rest.split(/\r\n|\n|\r/)
        this.rest = lines.pop()
        for (const line of lines) this.#line(line)
    }

    #line(line) {
        if (line === '') return this.#dispatch()
        const at = line.indexOf(':')
        if (at === 0) { this.comments++; return }
        const name = at < 0 ? line : line.slice(0, at)
        const value = at < 0 ? '' : line.slice(at + 1).replace(/^ /, '')
        if (name === 'data') this.data.push(value)
        else if (name === 'event') this.event = value
        else if (name === 'id' && !value.includes('\0')) this.lastId = this.id = value
        else if (name === 'retry') this.retry = Number(value)
    }

    #dispatch() {
        const { event, data, id } = this
        this.#clear()
        if (data.length > 0) this.onEvent({ event, id, data: data.join('\n') })
    }
}

// The parts of a subscription's address: {queries: {NAME: sql | [sql, …params]}, follow: {NAME: {column: where}}, branches: {NAME: branch}, streams: {NAME: path}, cursor}
export function subscriptionQuery({ queries = {}, follow = {}, branches = {}, streams = {}, uploads = {}, cursor } = {}) {
    const q = new URLSearchParams()
    for (const [name, branch] of Object.entries(branches)) q.append(`branch.${name}`, branch)
    for (const [name, spec] of Object.entries(queries)) {
        const [sql, ...params] = [].concat(spec)
        q.append(`query.${name}`, sql)
        params.forEach((p, i) => q.append(`p.${name}.${i + 1}`, String(p)))
    }
    for (const [name, columns] of Object.entries(follow))
        for (const [column, where] of Object.entries(columns)) q.append(`follow.${name}`, `${column}@${where}`)
    for (const [name, path] of Object.entries(streams)) q.append(`stream.${name}`, path)
    for (const [name, id] of Object.entries(uploads)) q.append(`upload.${name}`, id)
    if (cursor) q.append('cursor', cursor)
    return q.toString()
}

// Follows a subscription, folding what comes. Comes back with the fold's cursor each time it is opened again.
export class Subscriber {
    constructor(app, what, options = {}) {
        this.app = app
        this.what = what
        const ordered = Object.entries(what.queries || {}).filter(([, sql]) => /order by/i.test([].concat(sql)[0])).map(([name]) => name)
        const offsets = Object.fromEntries(Object.entries(what.streams || {}).map(([name, p]) => [name, Number((/@(\d+)$/.exec(p) || [0, 0])[1])]))
        this.fold = options.fold || new Fold({ ordered, offsets, keep: options.keep ?? true })
        this.messages = [] // of this connection, with their ids
        this.failure = undefined
        this.cutAfter = Infinity
        this.waiting = []
    }

    // One connection. Resolves once the head of the answer is here. What an earlier connection still has to say is ignored.
    open({ cursor = this.fold.cursor } = {}) {
        this.messages = []
        this.over = false
        const headers = { ...this.app.headers, accept: 'text/event-stream', ...(cursor ? { 'last-event-id': cursor } : {}) }
        const opened = new Promise((done, fail) => {
            const req = http.get(`${this.app.s.url}${this.app.base}/subscribe?${subscriptionQuery(this.what)}`, { headers, agent: false })
            this.req = req
            req.on('error', (e) => { this.#end(req); fail(e) })
            req.on('response', (res) => {
                this.res = res
                res.on('error', () => {})
                res.on('close', () => this.#end(req))
                if (res.statusCode !== 200) this.#refused(res, fail)
                else done(this.#read(req, res))
            })
        })
        this.ended = new Promise((done) => { this.onEnd = done })
        return within(opened, 'the answer to a subscription')
    }

    #refused(res, fail) {
        let text = ''
        res.setEncoding('utf8').on('data', (s) => { text += s }).on('end', () => fail(Object.assign(new Error(text), { status: res.statusCode })))
    }

    #read(req, res) {
        assert.match(res.headers['content-type'], /^text\/event-stream/)
        this.parser = new SseParser((e) => { if (!this.over && req === this.req) this.#event(e) })
        res.on('data', (bytes) => this.parser.feed(bytes))
        return this
    }

    #event({ event, id, data }) {
        try {
            assert.equal(event, 'message', 'there are no named events')
            const message = JSON.parse(data)
            this.messages.push({ id, ...message })
            this.fold.take(message, id)
        } catch (e) {
            this.failure ??= e
        }
        if (this.messages.length >= this.cutAfter || this.failure) this.cut()
        this.#wake()
    }

    #wake() { for (const go of this.waiting.splice(0)) go() }

    #end(req) {
        if (req !== this.req) return
        if (!this.over) {
            this.over = true
            this.fold.cut()
        }
        this.onEnd()
        this.#wake()
    }

    // Leaves, in the middle of whatever comes.
    cut() {
        this.req.destroy()
        this.#end(this.req)
    }

    // Waits until `fn(fold)` holds; a broken promise of the protocol, or the connection's end, fails here.
    async until(what, fn) {
        await within((async () => {
            for (;;) {
                if (this.failure) throw this.failure
                if (fn(this.fold)) return
                if (this.over) assert.fail(`the subscription ended before: ${what}`)
                await new Promise((go) => this.waiting.push(go))
            }
        })(), what)
        return this.fold
    }

    untilLive() { return this.until('live', (f) => f.isLive) }
    untilSeq(seq) { return this.until(`seq ${seq}`, (f) => f.seq >= seq && f.isLive) }

    // Opens again until it works: the service may be on its way up.
    async reopen() {
        await eventually('a new subscription', async () => {
            try {
                await this.open()
                return true
            } catch (e) {
                if (e.status === 503 || e.code) return false
                throw e
            }
        })
        return this
    }
}

export async function subscribe(t, app, what, options) {
    const sub = new Subscriber(app, what, options)
    t.after(() => sub.cut())
    await sub.open()
    return sub
}
