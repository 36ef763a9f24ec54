// An app as a tus client sees it.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { App, Raw, request } from './http.mjs'
import { eventually, service } from './service.mjs'

export const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex')
export const TUS = { 'tus-resumable': '1.0.0' }
export const BODY = 'application/offset+octet-stream'

// An upload is its path.
export class Tus {
    constructor(app) { this.app = app }

    ask(method, path, headers = {}, body) { return request(this.app.s, method, path, { headers: { ...TUS, ...headers }, body }) }

    post(headers, body) { return this.ask('POST', '/apps/default/uploads', headers, body) }

    // `length` undefined: the headers say it, or that it is not known.
    async create(length, headers = {}, body) {
        const reply = await this.post({ ...(length === undefined ? {} : { 'upload-length': String(length) }), ...(body ? { 'content-type': BODY } : {}), ...headers }, body)
        assert.equal(reply.status, 201, reply.text)
        assert.match(reply.headers.location, /^\/apps\/default\/uploads\/[0-9a-f-]{36}$/)
        return reply.headers.location
    }

    patch(path, offset, body, headers = {}) { return this.ask('PATCH', path, { 'content-type': BODY, 'upload-offset': String(offset), ...headers }, body) }

    head(path) { return this.ask('HEAD', path) }

    async offset(path) {
        const reply = await this.head(path)
        assert.equal(reply.status, 200)
        assert.equal(reply.headers['cache-control'], 'no-store')
        return Number(reply.headers['upload-offset'])
    }

    // The upload is done, or will be soon: its digest.
    digest(path) { return eventually('the digest', async () => (await this.head(path)).headers['segue-blob']) }

    // A PATCH on a socket of its own, for as many bytes of `bytes` as are sent.
    raw(path, offset, length) {
        const raw = new Raw(this.app.s)
        raw.send(`PATCH ${path} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: ${offset}\r\nContent-Type: ${BODY}\r\nContent-Length: ${length}\r\n\r\n`)
        return raw
    }
}

export const tus = async (t, options) => new Tus(new App(await service(t, options)))
export const idOf = (path) => path.split('/').at(-1)

export async function assertBlob(app, bytes, type) {
    const reply = await app.request('GET', `/blobs/${sha256(bytes)}`)
    assert.equal(reply.status, 200)
    assert.ok(reply.body.equals(bytes))
    if (type) assert.equal(reply.headers['content-type'], type)
}
