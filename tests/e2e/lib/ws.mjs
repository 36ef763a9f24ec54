// A WebSocket client of our own (RFC 6455): Node's comes with versions that Debian does not have, and no library sends what must not be sent.
//
//   const ws = await open(s)                  the handshake; {headers} for others, {path}
//   ws.send(text | Buffer)                    a message; ws.frame({…}) one frame, however wrong
//   await ws.next()                           the next message: {text} or {binary}
//   await ws.closed()                         {code, reason} of the service's close frame, once the connection has ended
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import net from 'node:net'
import { Fold } from './fold.mjs'
import { eventually, within } from './service.mjs'

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
export const TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10

// One frame as bytes. `length`: what it says it has; `mask`: false for none.
export function frame({ fin = true, rsv = 0, opcode = TEXT, payload = '', mask = true, length, control } = {}) {
    const data = Buffer.from(payload)
    const n = length ?? BigInt(data.length)
    const head = [(fin ? 0x80 : 0) | (rsv << 4) | opcode]
    const bit = mask ? 0x80 : 0
    const big = BigInt(n)
    if (control === 'long' || big > 0xffffn) head.push(bit | 127, ...Array.from({ length: 8 }, (_, i) => Number((big >> BigInt(56 - 8 * i)) & 0xffn)))
    else if (big > 125n) head.push(bit | 126, Number(big >> 8n), Number(big & 0xffn))
    else head.push(bit | Number(big))
    if (!mask) return Buffer.concat([Buffer.from(head), data])
    const key = randomBytes(4)
    for (let i = 0; i < data.length; i++) data[i] ^= key[i & 3]
    return Buffer.concat([Buffer.from(head), key, data])
}

export class WebSocketPeer {
    constructor(s) {
        this.input = Buffer.alloc(0)
        this.messages = []
        this.waiting = []
        this.ended = false
        this.pings = 0
        this.pongs = []
        this.answerPings = true
        this.socket = net.connect({ port: s.port, host: '127.0.0.1' })
        this.socket.setNoDelay(true)
        this.socket.on('data', (piece) => this.#take(piece))
        for (const event of ['end', 'close', 'error']) this.socket.on(event, () => { this.ended = true; this.#wake() })
    }

    #wake() { for (const go of this.waiting.splice(0)) go() }

    async until(what, fn) {
        return within((async () => {
            for (;;) {
                const hit = fn()
                if (hit) return hit
                if (this.failure) throw this.failure
                if (this.ended) throw new Error(`the connection ended before ${what} (close ${JSON.stringify(this.close)})`)
                await new Promise((go) => this.waiting.push(go))
            }
        })(), what)
    }

    // The answer to the handshake: {status, headers, body}.
    async shake(s, { path = '/apps/default/sync', headers = {} } = {}) {
        this.key = randomBytes(16).toString('base64')
        const all = { Host: `127.0.0.1:${s.port}`, Upgrade: 'websocket', Connection: 'Upgrade', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': this.key, ...headers }
        const lines = Object.entries(all).filter(([, v]) => v !== undefined).map(([k, v]) => `${k}: ${v}\r\n`)
        this.socket.write(`GET ${path} HTTP/1.1\r\n${lines.join('')}\r\n`)
        const end = await this.until('the answer to the handshake', () => this.input.indexOf('\r\n\r\n') + 1)
        const head = this.input.subarray(0, end - 1).toString('latin1').split('\r\n')
        this.input = this.input.subarray(end + 3)
        const got = Object.fromEntries(head.slice(1).map((l) => [l.slice(0, l.indexOf(':')).toLowerCase(), l.slice(l.indexOf(':') + 1).trim()]))
        const status = Number(head[0].split(' ')[1])
        this.open = status === 101
        if (this.open) this.#take(Buffer.alloc(0))
        return { status, headers: got }
    }

    #take(piece) {
        this.input = Buffer.concat([this.input, piece])
        try {
            while (this.open && this.#frame()) {}
        } catch (e) {
            this.failure = e
        }
        this.#wake()
    }

    #frame() {
        const b = this.input
        if (b.length < 2) return false
        let n = b[1] & 0x7f
        let at = 2
        if (n === 126) { if (b.length < 4) return false; n = b.readUInt16BE(2); at = 4 }
        else if (n === 127) { if (b.length < 10) return false; n = Number(b.readBigUInt64BE(2)); at = 10 }
        if (b.length < at + n) return false
        assert.equal(b[1] & 0x80, 0, 'a server does not mask')
        assert.equal(b[0] & 0x70, 0, 'no reserved bits')
        assert.equal(b[0] & 0x80, 0x80, 'this service does not fragment')
        const payload = b.subarray(at, at + n)
        this.input = b.subarray(at + n)
        assert.equal(this.close, undefined, 'nothing follows a close frame')
        const opcode = b[0] & 0xf
        if (opcode === TEXT) this.#message(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload)))
        else if (opcode === PING) { this.pings++; if (this.answerPings) this.frame({ opcode: PONG, payload }) }
        else if (opcode === PONG) this.pongs.push(payload.toString())
        else { assert.equal(opcode, CLOSE); this.close = { code: n >= 2 ? payload.readUInt16BE(0) : undefined, reason: payload.subarray(2).toString() } }
        return true
    }

    #message(m) {
        if (this.onMessage) this.onMessage(m)
        else this.messages.push(m)
    }

    write(bytes) { this.socket.write(bytes); return this }
    frame(f) { return this.write(frame(f)) }
    send(message) { return this.frame({ opcode: Buffer.isBuffer(message) ? BINARY : TEXT, payload: Buffer.isBuffer(message) || typeof message === 'string' ? message : JSON.stringify(message) }) }
    hello(more = {}) { return this.send({ type: 'hello', protocol: 1, ...more }) }
    async next(what = 'a message') { await this.until(what, () => this.messages.length > 0); return this.messages.shift() }
    async closed() {
        await within((async () => { while (!this.ended) await new Promise((go) => this.waiting.push(go)) })(), 'the end of the connection')
        if (this.failure) throw this.failure
        return this.close
    }
    destroy() { this.socket.destroy() }
}

export async function open(s, options = {}) {
    const ws = new WebSocketPeer(s)
    const { status, headers } = await ws.shake(s, options)
    assert.equal(status, 101)
    assert.equal(headers.upgrade.toLowerCase(), 'websocket')
    assert.equal(headers['sec-websocket-accept'], createHash('sha1').update(ws.key + GUID).digest('base64'))
    return ws
}

// Follows subscriptions over a WebSocket as lib/sse.mjs does over server-sent events, and folds what comes in the same way. What is not about them (fates, pongs)
// is kept in `answers`.
export class SyncPeer {
    constructor(app, what = {}, options = {}) {
        this.app = app
        this.subscribe = Object.fromEntries([
            ...Object.entries(what.queries || {}).map(([name, spec]) => { const [query, ...params] = [].concat(spec), branch = what.branches?.[name], follow = what.follow?.[name]; return [name, { query, params, ...(branch && { branch }), ...(follow && { follow }) }] }),
            ...Object.entries(what.streams || {}).map(([name, p]) => { const at = /^(.*?)(?:@(\d+))?$/.exec(p); return [name, { stream: at[1], offset: Number(at[2] ?? 0) }] }),
            ...Object.entries(what.uploads || {}).map(([name, upload]) => [name, { upload }]),
        ])
        const ordered = Object.entries(this.subscribe).filter(([, x]) => /order by/i.test(x.query)).map(([name]) => name)
        const offsets = Object.fromEntries(Object.entries(this.subscribe).filter(([, x]) => x.offset).map(([name, x]) => [name, x.offset]))
        this.fold = options.fold || new Fold({ ordered, offsets, keep: options.keep ?? true })
        this.messages = []
        this.answers = []
    }

    async open({ cursor = this.fold.cursor } = {}) {
        const ws = await open(this.app.s, { headers: this.app.headers, path: `${this.app.base}/sync` })
        this.ws = ws
        this.messages = []
        this.answers = []
        ws.onMessage = (m) => { if (ws === this.ws) this.#message(m) }
        ws.hello({ ...(cursor ? { cursor } : {}), subscribe: this.subscribe })
        return this
    }

    #message(m) {
        const { cursor, ...rest } = m
        this.messages.push(m)
        if (['welcome', 'commit', 'reset'].includes(m.type)) this.fold.take(rest, cursor)
        else this.answers.push(m)
        if (m.type === 'error' && m.name !== undefined) this.fold.refused(m.name)
    }

    send(m) { this.ws.send(m); return this }
    query(name, query, ...params) { this.fold.expect(name, 'query', { ordered: /order by/i.test(query) }); return this.send({ type: 'subscribe', name, query, params }) }
    stream(name, stream, offset = 0) { this.fold.expect(name, 'stream', { offset }); return this.send({ type: 'subscribe', name, stream, offset }) }
    unsubscribe(name) { this.fold.leave(name); return this.send({ type: 'unsubscribe', name }) }
    until(what, fn) { return this.ws.until(what, () => fn(this.fold)) }
    untilLive() { return this.until('live', (f) => f.isLive) }
    untilSeq(seq) { return this.until(`seq ${seq}`, (f) => f.seq >= seq && f.isLive) }
    answer(what, fn) { return this.ws.until(what, () => this.answers.find(fn)) }
    cut() { const ws = this.ws; this.ws = undefined; ws?.destroy(); this.fold.cut() }

    async reopen() {
        await eventually('a new connection', async () => {
            try {
                await this.open()
                return true
            } catch (e) {
                return false
            }
        })
        return this
    }
}

export async function follow(t, app, what, options) {
    const peer = new SyncPeer(app, what, options)
    t.after(() => peer.cut())
    return peer.open()
}
