// An app as a client of the IETF's draft sees it, in any version of it.
import http from 'node:http'
import { App, Raw, Reply, request } from './http.mjs'
import { service, within } from './service.mjs'

export const PARTIAL = 'application/partial-upload'
const TYPES = 'https://iana.org/assignments/http-problem-types#'
export const MISMATCH = `${TYPES}mismatching-upload-offset`
export const INCONSISTENT = `${TYPES}inconsistent-upload-length`
export const COMPLETED = `${TYPES}completed-upload`

// An upload is its path.
export class Draft {
    constructor(app, version = 8) {
        this.app = app
        this.version = version
    }

    // How this version says that the upload is complete with a request, or not.
    says(complete) {
        return this.version === 3 ? { 'upload-incomplete': complete ? '?0' : '?1' } : { 'upload-complete': complete ? '?1' : '?0' }
    }

    // The same read from a reply.
    isComplete(reply) {
        return this.version === 3 ? reply.headers['upload-incomplete'] === '?0' : reply.headers['upload-complete'] === '?1'
    }

    fields(headers) {
        return { ...(this.version ? { 'upload-draft-interop-version': String(this.version) } : {}), ...headers }
    }

    ask(method, path, headers = {}, body) { return request(this.app.s, method, path, { headers: this.fields(headers), body }) }

    // With its interim replies: `interim`, [{status, headers}].
    watch(method, path, headers, pieces) {
        const interim = []
        const exchange = new Promise((done, fail) => {
            const req = http.request(this.app.s.url + path, { method, headers: this.fields(headers), agent: false }, (res) => {
                const got = []
                res.on('data', (piece) => got.push(piece)).on('error', fail)
                res.on('end', () => done(Object.assign(new Reply(res, Buffer.concat(got)), { interim })))
            })
            req.on('error', fail).on('information', (info) => interim.push({ status: info.statusCode, headers: info.headers }))
            send(req, pieces, interim).catch(fail)
        })
        return within(exchange, `the answer to ${method} ${path}`)
    }

    create(complete, headers = {}, body = '', path = '/apps/default/uploads', method = 'POST') {
        return this.watch(method, path, { ...this.says(complete), 'content-length': String(Buffer.byteLength(body)), ...headers }, [body])
    }

    append(path, offset, complete, body = '', headers = {}) {
        const type = this.version >= 6 || !this.version ? { 'content-type': PARTIAL } : {}
        return this.watch('PATCH', path, { ...this.says(complete), ...type, 'upload-offset': String(offset), 'content-length': String(Buffer.byteLength(body)), ...headers }, [body])
    }

    head(path) { return this.ask('HEAD', path) }

    // On a socket of its own, for as many bytes as are sent.
    raw(method, path, length, headers) {
        const raw = new Watched(this.app.s)
        const lines = Object.entries(this.fields({ host: 'x', 'content-length': String(length), ...headers })).map(([k, v]) => `${k}: ${v}\r\n`)
        raw.send(`${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n`)
        return raw
    }
}

// All that came, interim replies with it.
export class Watched extends Raw {
    get text() { return this.input.toString('latin1') }
}

// A piece may be a function of the interim replies so far, which is waited for and brings none.
async function send(req, pieces, interim) {
    for (const piece of pieces) {
        if (typeof piece === 'function') await piece(interim)
        else if (piece.length > 0 && !req.write(piece)) await new Promise((go) => req.once('drain', go))
    }
    req.end()
}

export const draft = async (t, version, options) => new Draft(new App(await service(t, options)), version)
