// One who follows a stream over the Durable Streams surface, by server-sent events.
import assert from 'node:assert/strict'
import http from 'node:http'
import { eventually } from './service.mjs'
import { SseParser } from './sse.mjs'

// What it is told: pairs of data and the control event behind it.
class Follower {
    constructor(t, app, path, query = 'offset=-1') {
        this.told = []
        this.ended = false
        this.data = null
        const parser = new SseParser(({ event, data }) => this.#event(event, data))
        this.parser = parser
        this.ready = new Promise((go, fail) => {
            const req = http.get({ port: app.s.port, host: '127.0.0.1', path: `${app.base}${app.stream(path)}?${query}&live=sse`, agent: false }, (res) => {
                this.res = res
                res.on('data', (b) => parser.feed(b)).on('end', () => { this.ended = true }).on('error', () => {})
                go(this)
            }).on('error', fail)
            t.after(() => req.destroy())
        })
    }

    #event(event, data) {
        if (event === 'data') {
            assert.equal(this.data, null, 'a control event follows each data event')
            this.data = data
            return
        }
        assert.equal(event, 'control')
        this.told.push({ data: this.data, ...JSON.parse(data) })
        this.data = null
    }

    get last() { return this.told.at(-1) }
    get text() { return this.told.map((e) => e.data ?? '').join('') }
    get messages() { return this.told.flatMap((e) => (e.data === null ? [] : JSON.parse(e.data))) }
    until(what, fn) { return eventually(what, () => fn(this)) }
}

// A follower whose reply has begun.
export const follow = (t, app, path, query) => new Follower(t, app, path, query).ready
