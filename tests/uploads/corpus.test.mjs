// One corpus through every way there is, into one service: whatever way a content came, it has the digest that sha256sum tells, and is stored once.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { App, Raw, request } from '../e2e/lib/http.mjs'
import { segue, service, tempFolder } from '../e2e/lib/service.mjs'
import { BODY, TUS } from '../e2e/lib/tus.mjs'
import { bodies, Browser, ways } from './ways.mjs'

const [MIN, AVG, MAX] = [16384, 65536, 262144] // of a chunk
const WINDOW = 1 << 19 // what the engine takes into a stage at once

const text = (n) => Buffer.from(Array.from({ length: Math.ceil(n / 40) }, (_, i) => `line ${String(i).padStart(10)} of a text with a rhyme\n`).join('')).subarray(0, n)

// A content for each thing that the ways could do in their own manner.
function corpus() {
    const part = randomBytes(700000)
    const sizes = [0, 1, 2, 63, 64, 65, MIN - 1, MIN, MIN + 1, AVG - 1, AVG, AVG + 1, MAX - 1, MAX, MAX + 1, WINDOW - 1, WINDOW, WINDOW + 1, 3 * MAX + 17, 3500000]
    return [
        ...sizes.map((n) => [`${n} random bytes`, randomBytes(n)]),
        ...[MIN - 1, MAX + 1, 3000000].map((n) => [`${n} bytes of text`, text(n)]),
        ...[MIN, MAX, MAX + 1, 2000000].map((n) => [`${n} zeros`, Buffer.alloc(n)]),
        ['a content that repeats itself', Buffer.concat([part, part, part.subarray(0, 300000), part])],
        ['text and noise in turns', Buffer.concat(Array.from({ length: 12 }, (_, i) => i % 2 ? randomBytes(100000) : text(90000 + i)))],
        ['zeros around a little', Buffer.concat([Buffer.alloc(MAX + 5), randomBytes(10), Buffer.alloc(3 * MAX)])],
    ]
}

// What has no client of its own: a body with a checksum, in tus's creation; a chunked one whose checksum comes behind it; and one of the draft's with a digest.
const sha = (bytes, how) => createHash('sha256').update(bytes).digest(how)
const withChecksum = async ({ url, bytes }) => {
    const headers = { ...TUS, 'upload-length': String(bytes.length), 'content-type': BODY, 'upload-checksum': `sha256 ${sha(bytes, 'base64')}` }
    return (await request({ url }, 'POST', '/apps/default/uploads', { headers, body: bytes })).headers['segue-blob']
}

const withTrailer = async ({ url, s, bytes }) => {
    const made = await request({ url }, 'POST', '/apps/default/uploads', { headers: { ...TUS, 'upload-defer-length': '1' } })
    const raw = new Raw(s)
    raw.send(`PATCH ${made.headers.location} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nContent-Type: ${BODY}\r\nUpload-Offset: 0\r\nUpload-Length: ${bytes.length}\r\n` +
        'Transfer-Encoding: chunked\r\nTrailer: Upload-Checksum\r\n\r\n')
    for (let at = 0; at < bytes.length; at += 300007) {
        const piece = bytes.subarray(at, at + 300007)
        raw.send(`${piece.length.toString(16)}\r\n`).send(piece).send('\r\n')
    }
    raw.send(`0\r\nUpload-Checksum: sha1 ${createHash('sha1').update(bytes).digest('base64')}\r\n\r\n`)
    const reply = await raw.reply()
    raw.destroy()
    return reply.headers['segue-blob']
}

const withDigest = async ({ url, bytes }) => {
    const headers = { 'upload-complete': '?1', 'content-digest': `sha-512=:${createHash('sha512').update(bytes).digest('base64')}:`, 'repr-digest': `sha-256=:${sha(bytes, 'base64')}:` }
    return (await request({ url }, 'POST', '/apps/default/uploads', { headers, body: bytes })).headers['segue-blob']
}

const others = [['tus, a checksum', withChecksum], ['tus, a checksum behind a chunked body', withTrailer], ['the draft, digests', withDigest]]

let browser
before(async () => { browser = await new Browser().start() })
after(() => browser?.end())

async function usage(s) {
    const { code, stdout, stderr } = await segue(s, ['blobs', 'du', '--json'])
    assert.equal(code, 0, stderr)
    const { blobs, logical, deduplicated, stored } = JSON.parse(stdout)
    return { blobs, logical, deduplicated, stored }
}

test('one corpus by every way: the same digests, and stored once', { timeout: 600000 }, async (t) => {
    const s = await service(t)
    const folder = tempFolder(t)
    const all = [...ways(browser), ...bodies, ...others.map(([name, upload]) => [name, { upload, parts: 0, least: 0 }])]
    // Parts are blobs of their own, cut where the client cuts: they are stored once for all who make the same ones.
    const alike = [all.filter(([, way]) => way.parts === 0), all.filter(([, way]) => way.parts > 0)]
    const contents = corpus().map(([what, bytes], i) => {
        const file = path.join(folder, String(i))
        fs.writeFileSync(file, bytes)
        return { what, bytes, file, digest: execFileSync('sha256sum', [file], { encoding: 'utf8' }).slice(0, 64) }
    })
    const put = async (it, [name, way]) => assert.equal(await way.upload({ ...it, s, url: s.url, folder }), it.digest, `${it.what}, by ${name}`)
    // Every way has its turn to bring what is not there yet; then all others come with the same.
    const turns = contents.map((it, i) => alike.map((group) => {
        const able = group.filter(([, way]) => it.bytes.length >= way.least)
        return { it, first: able[i % able.length], rest: able.filter((_, n) => n !== i % able.length) }
    })).flat()
    for (const { it, first } of turns) await put(it, first)
    await s.stop()
    await s.start()
    const once = await usage(s)
    for (const { it, rest } of turns) for (const way of rest) await put(it, way)
    await s.stop()
    await s.start()
    assert.deepEqual(await usage(s), once)
    for (const { what, bytes, digest } of contents) {
        const got = await new App(s).request('GET', `/blobs/${digest}`)
        assert.ok(got.status === 200 && got.body.equals(bytes), what)
    }
    const { code, stdout } = await segue(s, ['blobs', 'check'])
    assert.equal(code, 0, stdout)
})
