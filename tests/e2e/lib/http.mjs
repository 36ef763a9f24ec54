// HTTP as the tests speak it: an app's paths with node's own client, and raw sockets where bytes matter.
import assert from 'node:assert/strict'
import http from 'node:http'
import net from 'node:net'
import { within } from './service.mjs'

export const enc = encodeURIComponent

// One request to its end: {status, headers, body, text, json}. `body` may be text, a Buffer, or an async iterable of pieces.
export function request(s, method, path, { headers = {}, body, agent = false } = {}) {
    const exchange = new Promise((done, fail) => {
        const req = http.request(s.url + path, { method, headers, agent }, (res) => {
            const pieces = []
            res.on('data', (piece) => pieces.push(piece))
            res.on('error', fail)
            res.on('close', () => { if (!res.complete) fail(new Error('the answer broke off')) })
            res.on('end', () => res.complete && done(new Reply(res, Buffer.concat(pieces))))
        })
        req.on('error', fail)
        if (body && body[Symbol.asyncIterator]) send(req, body).catch(fail)
        else req.end(body)
    })
    return within(exchange, `the answer to ${method} ${path}`)
}

async function send(req, pieces) {
    for await (const piece of pieces)
        if (!req.write(piece)) await new Promise((go) => req.once('drain', go))
    req.end()
}

export class Reply {
    constructor(res, body) {
        this.status = res.statusCode
        this.headers = res.headers
        this.body = body
    }

    get text() { return this.body.toString('utf8') }
    get json() { return JSON.parse(this.text) }
}

// The reply is this error, said as section 3 of PROTOCOL.md has it.
export function assertProblem(reply, status, code, more = {}) {
    assert.equal(reply.status, status, reply.text)
    assert.match(reply.headers['content-type'], /^application\/problem\+json/)
    const p = reply.json
    assert.equal(p.code, code, reply.text)
    assert.equal(p.status, status)
    assert.equal(p.type, 'about:blank')
    assert.ok(p.title.length > 0 && p.detail !== '', reply.text)
    for (const [key, value] of Object.entries(more)) assert.deepEqual(p[key], value, `${key} of ${reply.text}`)
    return p
}

// An app of the service, as one who may do everything.
export class App {
    constructor(s, { name = 'default', key, agent = false } = {}) {
        this.s = s
        this.base = `/apps/${name}`
        this.headers = key ? { authorization: `Bearer ${key}` } : {}
        this.agent = agent
    }

    request(method, path, { headers = {}, ...rest } = {}) {
        return request(this.s, method, this.base + path, { headers: { ...this.headers, ...headers }, agent: this.agent, ...rest })
    }

    putSchema(sql) { return this.request('PUT', '/schema', { body: sql }) }

    async schema(sql) {
        const reply = await this.putSchema(sql)
        assert.equal(reply.status, 200, reply.text)
        return reply.json
    }

    // The raw exchange; `batch` is an object, or text as it is to be sent.
    send(batch, headers = {}) {
        return this.request('POST', '/batch', { headers, body: typeof batch === 'string' ? batch : JSON.stringify(batch) })
    }

    // A batch that must be accepted: its fate.
    async batch(ops, rest = {}) {
        const reply = await this.send({ ...rest, ops })
        assert.equal(reply.status, 200, reply.text)
        assert.equal(reply.json.fate, 'accepted')
        return reply.json
    }

    // A batch that must be rejected, finally.
    async rejected(ops, status, code, rest = {}, more = {}) {
        return assertProblem(await this.send({ ...rest, ops }), status, code, { fate: 'rejected', ...more })
    }

    ask(question) { return this.request('POST', '/query', { body: JSON.stringify(question) }) }

    async query(sql, params = [], as_of) {
        const reply = await this.ask({ sql, params, as_of })
        assert.equal(reply.status, 200, reply.text)
        return reply.json
    }

    async rows(sql, params, as_of) { return (await this.query(sql, params, as_of)).rows }

    stream(path) { return `/v1/stream/${path.split('/').map(enc).join('/')}` }

    // All bytes of a stream, however many answers they take.
    async readStream(path, offset = '-1') {
        const pieces = []
        for (let at = offset; ;) {
            const reply = await this.request('GET', `${this.stream(path)}?offset=${at}`)
            assert.equal(reply.status, 200, reply.text)
            pieces.push(reply.body)
            at = reply.headers['stream-next-offset']
            if (reply.headers['stream-up-to-date'] === 'true') return { bytes: Buffer.concat(pieces), next: at, closed: reply.headers['stream-closed'] === 'true' }
        }
    }

    async metrics() { return (await request(this.s, 'GET', '/metrics', { headers: this.headers })).text }
}

// Ops, in the words of the protocol.
export const insert = (table, values, id) => ({ op: 'insert', table, ...(id ? { id } : {}), values })
export const update = (table, id, values) => ({ op: 'update', table, id, values })
export const remove = (table, id) => ({ op: 'delete', table, id })
export const create = (stream, type) => ({ op: 'create', stream, ...(type ? { type } : {}) })
export const append = (stream, text, more = {}) => ({ op: 'append', stream, text, ...more })
export const close = (stream) => ({ op: 'close', stream })
export const drop = (stream) => ({ op: 'drop', stream })

// ---- raw sockets -----------------------------------------------------------------------------------------------

// A connection that sends what it is told, byte for byte, and takes replies off one by one.
export class Raw {
    constructor(s) {
        this.input = Buffer.alloc(0)
        this.closed = false
        this.waiting = []
        this.socket = net.connect({ port: s.port, host: '127.0.0.1', allowHalfOpen: true })
        this.socket.on('data', (piece) => { this.input = Buffer.concat([this.input, piece]); this.#wake() })
        for (const event of ['end', 'close', 'error']) this.socket.on(event, () => { this.closed = true; this.#wake() })
    }

    #wake() { for (const go of this.waiting.splice(0)) go() }
    #more() { return new Promise((go) => this.waiting.push(go)) }

    send(bytes) { this.socket.write(bytes); return this }
    finish() { this.socket.end(); return this }
    destroy() { this.socket.destroy() }

    async #until(what, found) {
        return within((async () => {
            for (;;) {
                const hit = found()
                if (hit) return hit
                if (this.closed) throw new Error(`the connection ended before ${what}: ${JSON.stringify(this.input.toString('latin1').slice(0, 300))}`)
                await this.#more()
            }
        })(), what)
    }

    #take(n) {
        const bytes = this.input.subarray(0, n)
        this.input = this.input.subarray(n)
        return bytes
    }

    async line() {
        const at = await this.#until('a line', () => this.input.indexOf('\r\n') + 1)
        return this.#take(at + 1).subarray(0, at - 1).toString('latin1')
    }

    async bytes(n) {
        await this.#until(`${n} bytes`, () => this.input.length >= n)
        return this.#take(n)
    }

    // One whole reply. `head`: it answers HEAD, so nothing follows its head.
    async reply({ head = false } = {}) {
        const status = Number((await this.line()).split(' ')[1])
        const headers = {}
        for (let line; (line = await this.line()) !== '';) {
            const at = line.indexOf(':')
            headers[line.slice(0, at).toLowerCase()] = line.slice(at + 1).trim()
        }
        let body = Buffer.alloc(0)
        if (headers['transfer-encoding'] === 'chunked' && !head) body = await this.#chunks()
        else if (headers['content-length'] && !head && status !== 304) body = await this.bytes(Number(headers['content-length']))
        return new Reply({ statusCode: status, headers }, body)
    }

    async #chunks() {
        const pieces = []
        for (;;) {
            const size = parseInt(await this.line(), 16)
            if (size > 0) pieces.push(await this.bytes(size))
            await this.line()
            if (size === 0) return Buffer.concat(pieces)
        }
    }

    // The service has closed, or closes now.
    async assertClosed() {
        await within((async () => { while (!this.closed) await this.#more() })(), 'the end of the connection')
        this.destroy()
    }

    // The connection is alive: one more exchange works on it.
    async assertAlive() {
        this.send('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n')
        assert.equal((await this.reply()).status, 200)
    }
}
