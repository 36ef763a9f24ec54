// tus-js-client, unmodified: plain, in chunks, parallel, with a length that it says at the end, and speaking the IETF's draft. Each upload is broken twice: the client lets its
// connection go, and the service is killed.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import path from 'node:path'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import * as tusClient from 'tus-js-client'
import { cutAt } from '../e2e/lib/cut.mjs'
import { App } from '../e2e/lib/http.mjs'
import { service, tempFolder } from '../e2e/lib/service.mjs'
import { assertBlob, sha256, Tus } from '../e2e/lib/tus.mjs'

const SIZE = 64 << 20

// Uploads `bytes`, and does each of `breaks`, [place, what], when the service has acknowledged or the client sent that much. The finished upload.
function upload(s, source, options, breaks = [], before = async () => {}) {
    return new Promise((done, fail) => {
        const waiting = [...breaks], broken = []
        const up = new tusClient.Upload(source, {
            endpoint: `${s.url}/apps/default/uploads`,
            retryDelays: [0, 50, 100, 200, 400, 800, 1600, 3200],
            metadata: { filename: 'film.mp4', filetype: 'video/mp4' },
            onError: fail,
            onSuccess: () => Promise.all(broken.concat(waiting.length > 0 ? Promise.reject(new Error('it was done before it was broken')) : [])).then(() => done(up), fail),
            onProgress: (sent) => { if (waiting.length > 0 && sent >= waiting[0][0]) broken.push(waiting.shift()[1](up)) },
            ...options,
        })
        before(up).then(() => up.start(), fail)
    })
}

const letGo = async (up) => { await up.abort(); up.start() }
const killed = (s) => async () => { await s.kill(); await s.start() }

async function assertStored(s, up, bytes) {
    const tus = new Tus(new App(s))
    assert.equal(await tus.digest(new URL(up.url).pathname), sha256(bytes))
    await assertBlob(tus.app, bytes, 'video/mp4')
}

for (const [name, options] of [
    ['in one request', {}],
    ['in chunks', { chunkSize: 3 << 20 }],
    ['with its bytes in the creation', { uploadDataDuringCreation: true }],
    ['by POST alone', { overridePatchMethod: true }],
    ...['ietf-draft-03', 'ietf-draft-05'].flatMap((protocol) => [
        [`of ${protocol}`, { protocol }],
        [`of ${protocol}, in chunks`, { protocol, chunkSize: 3 << 20 }],
        [`of ${protocol}, with its bytes in the creation`, { protocol, uploadDataDuringCreation: true }],
    ]),
]) {
    test(`an upload ${name}, broken twice, is what it was to be`, { timeout: 60000 }, async (t) => {
        const s = await service(t)
        const bytes = randomBytes(SIZE)
        const way = await cutAt(s, [[SIZE / 8, async () => {}], [SIZE / 4, killed(s)]])
        t.after(way.end)
        const up = await upload(s, bytes, { ...options, endpoint: `${way.url}/apps/default/uploads` })
        assert.equal(way.left(), 0)
        await assertStored(s, up, bytes)
    })
}

test('an upload that the client lets go of, and takes up again', { timeout: 60000 }, async (t) => {
    const s = await service(t)
    const bytes = randomBytes(SIZE)
    await assertStored(s, await upload(s, bytes, { chunkSize: 3 << 20 }, [[SIZE / 8, letGo], [SIZE / 4, killed(s)]]), bytes)
})

for (const [name, options] of [['in parallel', { parallelUploads: 4 }], ['in parallel, in chunks', { parallelUploads: 3, chunkSize: 1 << 20 }]]) {
    test(`an upload ${name}, broken twice, is what it was to be`, { timeout: 60000 }, async (t) => {
        const s = await service(t)
        const bytes = randomBytes(SIZE)
        // A parallel upload that was aborted tells no error any more: another object goes on, by the addresses that were written down.
        const stored = { ...options, urlStorage: new tusClient.FileUrlStorage(path.join(tempFolder(t), 'urls')) }
        await new Promise((done, fail) => { upload(s, bytes, stored, [[SIZE / 8, killed(s)], [SIZE / 4, async (up) => { await up.abort(); done() }]]).catch(fail) })
        const up = await upload(s, bytes, stored, [], async (again) => {
            const [before] = await again.findPreviousUploads()
            assert.equal(before.parallelUploadUrls.length, options.parallelUploads)
            again.resumeFromPreviousUpload(before)
        })
        await assertStored(s, up, bytes)
    })
}

test('an upload whose length is not known before its end', { timeout: 60000 }, async (t) => {
    const s = await service(t)
    const bytes = randomBytes(SIZE - 12345) // the client asks nothing further where the last chunk is a full one
    async function* pieces() { for (let at = 0; at < bytes.length; at += 300000) yield bytes.subarray(at, at + 300000) }
    const up = await upload(s, Readable.from(pieces(), { objectMode: false }), { uploadLengthDeferred: true, chunkSize: 2 << 20 }, [[SIZE / 3, killed(s)]])
    await assertStored(s, up, bytes)
})

test('another process goes on where one has stopped, and ends what it began', { timeout: 60000 }, async (t) => {
    const s = await service(t)
    const bytes = randomBytes(SIZE)
    const url = await new Promise((done, fail) => {
        upload(s, bytes, { chunkSize: 2 << 20 }, [[SIZE / 2, async (up) => { await up.abort(); done(up.url) }]]).catch(fail)
    })
    await killed(s)()
    const up = await upload(s, bytes, { uploadUrl: url })
    assert.equal(up.url, url)
    await assertStored(s, up, bytes)
    const other = await upload(s, randomBytes(100000), {})
    await tusClient.Upload.terminate(other.url)
    assert.equal((await new Tus(new App(s)).head(new URL(other.url).pathname)).status, 404)
})
