// Reading what is still being uploaded: PROTOCOL.md, section 9.
import assert from 'node:assert/strict'
import http from 'node:http'
import { createHash, randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { App, assertProblem, request } from './lib/http.mjs'
import { eventually, service, within } from './lib/service.mjs'

const TUS = { 'tus-resumable': '1.0.0' }
const META = { 'upload-metadata': `filetype ${Buffer.from('video/mp4').toString('base64')}` }

async function begun(t, fields) {
    const s = await service(t)
    const app = new App(s)
    const made = await app.request('POST', '/uploads', { headers: { ...TUS, ...META, ...fields } })
    assert.equal(made.status, 201, made.text)
    const at = made.headers.location
    const patch = (offset, body, more = {}) => request(s, 'PATCH', at, { headers: { ...TUS, 'content-type': 'application/offset+octet-stream', 'upload-offset': String(offset), ...more }, body })
    const get = (headers = {}, query = '') => request(s, 'GET', `${at}/content${query}`, { headers })
    return { s, app, at, patch, get }
}

// A reader that follows: what it has, and how it ends.
function follower(s, path, headers = {}) {
    const f = { pieces: [], n: 0 }
    f.head = new Promise((done, fail) => {
        http.get(s.url + path, { headers, agent: false }, (res) => {
            f.ended = new Promise((over) => res.on('end', () => over(res.complete ? 'whole' : 'cut')).on('error', () => over('cut')).on('close', () => over(res.complete ? 'whole' : 'cut')))
            res.on('data', (piece) => { f.pieces.push(piece); f.n += piece.length })
            done(res)
        }).on('error', fail)
    })
    f.body = () => Buffer.concat(f.pieces)
    f.has = (n) => eventually(`${n} bytes`, () => f.n >= n)
    return f
}

test('an upload under way is read up to its offset, as it is durable', async (t) => {
    const bytes = randomBytes(900000)
    const { patch, get, s, at } = await begun(t, { 'upload-length': '900000' })
    const none = await get()
    assert.deepEqual([none.status, none.body.length, none.headers['upload-offset'], none.headers['upload-length']], [200, 0, '0', '900000'])
    assertProblem(await get({ range: 'bytes=0-9' }), 416, 'range_not_satisfiable')
    for (const [from, to] of [[0, 10], [10, 300000], [300000, 700000]]) {
        assert.equal((await patch(from, bytes.subarray(from, to))).status, 204)
        for (let round = 0; round < 2; round++) {
            const reply = await get()
            assert.deepEqual([reply.status, reply.headers['content-type'], reply.headers['upload-offset'], reply.headers['cache-control'], reply.headers['tus-resumable']],
                [200, 'video/mp4', String(to), 'no-store', undefined])
            assert.ok(reply.body.equals(bytes.subarray(0, to)))
        }
    }
    const range = async (field, status, from, to) => {
        const reply = await get({ range: field })
        assert.equal(reply.status, status, field)
        if (status !== 206) return assert.equal(reply.headers['content-range'], 'bytes */900000')
        assert.equal(reply.headers['content-range'], `bytes ${from}-${to - 1}/900000`)
        return assert.ok(reply.body.equals(bytes.subarray(from, to)), field)
    }
    await range('bytes=100-199', 206, 100, 200)
    await range('bytes=600000-', 206, 600000, 700000)
    await range('bytes=699990-800000', 206, 699990, 700000)
    await range('bytes=700000-', 416)
    await range('bytes=-10', 416)
    await range('bytes=900000-', 416)
    await s.kill()
    await s.start()
    assert.ok((await get()).body.equals(bytes.subarray(0, 700000)))
    const head = await request(s, 'HEAD', `${at}/content`)
    assert.deepEqual([head.status, head.headers['content-length']], [200, '700000'])
    await patch(700000, bytes.subarray(700000))
    assert.ok((await get()).body.equals(bytes))
    await range('bytes=-10', 206, 899990, 900000)
    await request(s, 'DELETE', at, { headers: TUS })
    assertProblem(await get(), 404, 'no_such_upload')
})

test('a reader that follows gets what comes, and the end', async (t) => {
    const bytes = randomBytes(3 << 20)
    const { patch, get, s, at } = await begun(t, { 'upload-length': String(bytes.length) })
    const early = follower(s, `${at}/content?follow`)
    const head = await within(early.head, 'the head, before any byte')
    assert.deepEqual([head.statusCode, head.headers['transfer-encoding'], head.headers['content-type']], [200, 'chunked', 'video/mp4'])
    const part = follower(s, `${at}/content?follow`, { range: 'bytes=1000000-2999999' })
    const steps = [0, 5, 70000, 70001, 1500000, 2000000, bytes.length]
    for (let i = 1; i < steps.length; i++) {
        assert.equal((await patch(steps[i - 1], bytes.subarray(steps[i - 1], steps[i]))).status, 204)
        await early.has(steps[i])
        if (i === 3) {
            const late = follower(s, `${at}/content?follow`)
            await late.head
            t.after(() => 0)
            early.late = late
        }
    }
    assert.equal(await within(early.ended, 'the end'), 'whole')
    assert.ok(early.body().equals(bytes))
    assert.equal(await within(early.late.ended, 'the end'), 'whole')
    assert.ok(early.late.body().equals(bytes))
    const told = await part.head
    assert.deepEqual([told.statusCode, told.headers['content-range'], told.headers['content-length']], [206, `bytes 1000000-2999999/${bytes.length}`, '2000000'])
    assert.equal(await within(part.ended, 'the end of the part'), 'whole')
    assert.ok(part.body().equals(bytes.subarray(1000000, 3000000)))
    assert.ok((await get({}, '?follow')).body.equals(bytes))
})

test('a body that arrives slowly is followed while it arrives', async (t) => {
    const bytes = randomBytes(24 << 20)
    const { patch, s, at } = await begun(t, { 'upload-length': String(bytes.length) })
    const f = follower(s, `${at}/content?follow`)
    await f.head
    let seen = 0
    async function* body() {
        for (let i = 0; i < 24; i++) {
            yield bytes.subarray(i << 20, (i + 1) << 20)
            if (i === 15) { await f.has(4 << 20); seen = f.n }
        }
    }
    assert.equal((await patch(0, body(), { 'content-length': String(bytes.length) })).status, 204)
    assert.ok(seen >= 4 << 20)
    assert.equal(await within(f.ended, 'the end'), 'whole')
    assert.equal(createHash('sha256').update(f.body()).digest('hex'), createHash('sha256').update(bytes).digest('hex'))
})

test('one without a length, one that is dropped, one that is killed', async (t) => {
    const bytes = randomBytes(200000)
    const { patch, get, s, at, app } = await begun(t, { 'upload-defer-length': '1' })
    await patch(0, bytes.subarray(0, 100000))
    const reply = await get({ range: 'bytes=10-19' })
    assert.deepEqual([reply.status, reply.headers['content-range'], reply.headers['upload-length']], [206, 'bytes 10-19/*', undefined])
    const f = follower(s, `${at}/content?follow`)
    await f.has(100000)
    await patch(100000, bytes.subarray(100000), { 'upload-length': '200000' })
    assert.equal(await within(f.ended, 'the end'), 'whole')
    assert.ok(f.body().equals(bytes))
    const again = (await app.request('POST', '/uploads', { headers: { ...TUS, 'upload-length': '100' } })).headers.location
    const cut = follower(s, `${again}/content?follow`)
    await cut.head
    assert.equal((await request(s, 'DELETE', again, { headers: TUS })).status, 204)
    assert.equal(await within(cut.ended, 'the cut'), 'cut')
    const third = (await app.request('POST', '/uploads', { headers: { ...TUS, 'upload-length': '100' } })).headers.location
    const gone = follower(s, `${third}/content?follow`)
    await gone.head
    await s.stop()
    assert.equal(await within(gone.ended, 'the stop'), 'cut')
    await s.start()
    for (const path of ['x/content', '00000000-0000-7000-8000-000000000000/content']) assertProblem(await app.request('GET', `/uploads/${path}`), 404, 'no_such_upload')
    assertProblem(await app.request('PUT', '/uploads/x/content', { body: '' }), 405, 'method_not_allowed')
})
