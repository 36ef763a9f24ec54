// Every way in which a file becomes a blob, as the clients that there are go it: unmodified tus-js-client in Node and in Chromium (whose page is of another
// origin), curl, and segue put.
//
//   const [name, way] = ways(browser)[0]
//   await way.upload({url, file, folder})     the digest that the service says; `folder` is the client's, for what it remembers
//   way.parts, way.least                      further blobs that it leaves; contents that it takes
import assert from 'node:assert/strict'
import fs from 'node:fs'
import http from 'node:http'
import { createRequire } from 'node:module'
import path from 'node:path'
import { Readable } from 'node:stream'
import { request } from '../e2e/lib/http.mjs'
import { Child, eventually, PATIENCE_MS, root, SEGUE, sleep, tempFolder } from '../e2e/lib/service.mjs'
import { TUS } from '../e2e/lib/tus.mjs'

// The packages are those of the folders that have tests of their own for them.
const packageOf = (folder, name) => createRequire(path.join(root, 'tests', folder, 'package.json'))(name)
const tusClient = packageOf('clients', 'tus-js-client')

const CHROMIUM = process.env.CHROMIUM || '/usr/bin/chromium'
const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']
const RETRIES = [0, 50, 100, 200, 400, 800, 1600, 3200]
const PARTS = 3

// ---- tus-js-client ---------------------------------------------------------------------------------------------

// It asks nothing further where the last chunk of a stream is a full one, so a stream's chunks are of an odd size.
const DEFERRED = { uploadLengthDeferred: true, chunkSize: 5000011 }
// Of an empty stream it waits for a first byte for ever, and of an empty file it does not tell a draft's service that this is all of it.
const kinds = [
    ['plain', {}, 0],
    ['parallel', { parallelUploads: PARTS }, 0],
    ['deferred length', DEFERRED, 1],
    ['ietf-draft-03', { protocol: 'ietf-draft-03' }, 1],
    ['ietf-draft-05', { protocol: 'ietf-draft-05' }, 1],
]

// An upload is done when it says its blob; one of parts is being joined for a while.
async function digestOf(url, headers = {}) {
    const at = new URL(url)
    return eventually('the digest', async () => (await request({ url: at.origin }, 'HEAD', at.pathname, { headers: { ...TUS, ...headers } })).headers['segue-blob'])
}

// Of a file's own stream the client knows the length.
async function* piecesOf(file) { yield* fs.createReadStream(file) }

async function inNode({ url, file }, options) {
    const source = options.uploadLengthDeferred ? Readable.from(piecesOf(file), { objectMode: false }) : fs.readFileSync(file)
    const at = await new Promise((done, fail) => {
        const up = new tusClient.Upload(source, { endpoint: `${url}/apps/default/uploads`, retryDelays: RETRIES, onError: fail, onSuccess: () => done(up.url), ...options })
        up.start()
    })
    return digestOf(at)
}

// ---- in a browser ----------------------------------------------------------------------------------------------

// A page and what it needs, on an origin of its own.
async function serve(files) {
    const server = http.createServer((req, res) => {
        const what = files(req.url)
        if (!what) return res.writeHead(404).end()
        res.writeHead(200, { 'content-type': what.type })
        if (what.path) fs.createReadStream(what.path).pipe(res)
        else res.end(what.text)
    })
    await new Promise((done) => server.listen(0, '127.0.0.1', done))
    return server
}

export class Browser {
    async start() {
        const { chromium } = packageOf('web', 'playwright-core')
        const bundle = path.join(root, 'tests/clients/node_modules/tus-js-client/dist/tus.min.js')
        const page = { type: 'text/html', text: '<!doctype html><title>uploads</title><script src="/tus.js"></script>' }
        this.server = await serve((url) => ({ '/': page, '/tus.js': { type: 'text/javascript', path: bundle } })[url] || { type: 'application/octet-stream', path: this.file })
        this.profile = tempFolder()
        this.context = await chromium.launchPersistentContext(this.profile, { executablePath: CHROMIUM, args: FLAGS, headless: true })
        this.context.setDefaultTimeout(PATIENCE_MS)
        this.page = await this.context.newPage()
        await this.page.goto(`http://127.0.0.1:${this.server.address().port}/`)
        return this
    }

    async upload({ url, file }, options) {
        this.file = file
        const at = await this.page.evaluate(async ([endpoint, retryDelays, more]) => {
            const content = await fetch('/content', { cache: 'no-store' })
            const source = more.uploadLengthDeferred ? content.body.getReader() : await content.blob()
            return new Promise((done, fail) => {
                const up = new window.tus.Upload(source, { endpoint, retryDelays, onError: fail, onSuccess: () => done(up.url), storeFingerprintForResuming: false, ...more })
                up.start()
            })
        }, [`${url}/apps/default/uploads`, RETRIES, options])
        return digestOf(at, options.headers)
    }

    async end() {
        await this.context?.close()
        this.server?.close()
        fs.rmSync(this.profile, { recursive: true, force: true })
    }
}

// ---- curl and segue ----------------------------------------------------------------------------------------------

async function curl(...args) {
    const child = new Child('curl', ['-sS', '--max-time', String(PATIENCE_MS / 1000), ...args])
    child.process.stdin.end()
    return child.end()
}

const DRAFT = ['-H', 'Upload-Draft-Interop-Version: 8']
const COMPLETE = [...DRAFT, '-H', 'Upload-Complete: ?1', '-H', 'Expect:']
const last = (text, name) => [...text.matchAll(new RegExp(`^${name}: (.*)\r$`, 'gim'))].at(-1)?.[1]

// As one would type it: the place comes with the interim reply, and what is missing is sent from where HEAD says. Who was cut off before the place was
// told begins anew.
async function byDraft({ url, file }) {
    const size = fs.statSync(file).size
    const post = async () => (await curl('-i', ...COMPLETE, '-X', 'POST', '-T', file, `${url}/apps/default/uploads`)).stdout
    let said = await post()
    let place = last(said, 'Location')
    for (let i = 0; !last(said, 'Segue-Blob') && i < 100; i++) {
        if (i > 0) await sleep(50)
        if (!place) {
            said = await post()
            place = last(said, 'Location')
            continue
        }
        const offset = last((await curl('-I', ...DRAFT, url + place)).stdout, 'Upload-Offset')
        if (offset === undefined) continue
        const rest = Number(offset) < size ? ['-C', offset, '-H', 'Content-Range:', '-T', file] : ['-H', 'Content-Length: 0']
        said = (await curl('-i', ...COMPLETE, '-X', 'PATCH', '-H', `Upload-Offset: ${offset}`, '-H', 'Content-Type: application/partial-upload', ...rest, url + place)).stdout
    }
    return last(said, 'Segue-Blob')
}

async function byPost({ url, file }) {
    return JSON.parse((await curl('-X', 'POST', '-T', file, `${url}/apps/default/blobs`)).stdout).blob
}

async function byPut({ url, file, digest }) {
    return JSON.parse((await curl('-T', file, `${url}/apps/default/blobs/${digest}`)).stdout).blob
}

async function bySegue({ url, file, folder }) {
    const env = { ...process.env, SEGUE_URL: url, XDG_STATE_HOME: path.join(folder, 'state') }
    const { code, stdout, stderr } = await new Child(SEGUE, ['put', file, '--retry', '60'], { env }).end()
    assert.equal(code, 0, stderr)
    return stdout.trim()
}

// ---- all of them -------------------------------------------------------------------------------------------------

// [name, way]; a way takes contents from `least` bytes on. `browser` may be missing: then those are.
export function ways(browser) {
    const tus = (where, upload) => kinds.map(([name, options, least]) => [`tus-js-client in ${where}, ${name}`, {
        upload: (it) => upload(it, options), parts: options.parallelUploads ?? 0, least,
    }])
    return [
        ...tus('Node', inNode),
        ...(browser ? tus('Chromium', (it, options) => browser.upload(it, options)) : []),
        ['curl, the draft', { upload: byDraft, parts: 0, least: 0 }],
        ['segue put', { upload: bySegue, parts: 0, least: 0 }],
    ]
}

// Bodies that are sent at once: nobody can go on with them.
export const bodies = [['curl, PUT', { upload: byPut, parts: 0, least: 0 }], ['curl, POST', { upload: byPost, parts: 0, least: 0 }]]
