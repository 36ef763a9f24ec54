// What is packed on its way: answers and what is followed, in the coding that the request likes best. PROTOCOL.md, section 2.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import http from 'node:http'
import { test } from 'node:test'
import zlib from 'node:zlib'
import { chatService } from './lib/chat.mjs'
import { App, append, create, enc, insert } from './lib/http.mjs'
import { eventually, service, within } from './lib/service.mjs'

const LIMIT = 500 // HTTP_CODERS_MAX
const hasZstd = spawnSync('zstd', ['--version']).status === 0

function unzstd(bytes) {
    const run = spawnSync('zstd', ['-dc'], { input: bytes, maxBuffer: 64 << 20 })
    assert.equal(run.status, 0, String(run.stderr))
    return run.stdout
}

const decoded = (reply) => {
    const coding = reply.headers['content-encoding']
    return coding === 'gzip' ? zlib.gunzipSync(reply.body) : coding === 'zstd' ? unzstd(reply.body) : reply.body
}

// A reply that goes on: what came of it, in bytes and unpacked.
function follow(t, app, path, coding) {
    return within(new Promise((done, fail) => {
        const req = http.get(app.s.url + app.base + path, { headers: { 'accept-encoding': coding }, agent: false }, (res) => {
            const f = { res, text: '', bytes: 0, raw: [], end: () => req.destroy() }
            const out = res.headers['content-encoding'] === 'gzip' ? res.pipe(zlib.createGunzip()) : res
            res.on('data', (b) => { f.bytes += b.length; f.raw.push(b) })
            if (res.headers['content-encoding'] !== 'zstd') out.on('data', (b) => { f.text += b })
            out.on('error', () => {})
            f.has = (what) => eventually(`"${what}" in what was told`, () => f.text.includes(what))
            done(f)
        })
        req.on('error', fail)
        t.after(() => req.destroy())
    }), 'an answer')
}

async function notes(t, n) {
    const s = await service(t)
    const app = new App(s)
    await app.schema('create table notes (title text, n integer)')
    for (let at = 0; at < n; at += 5000) await app.batch(Array.from({ length: Math.min(5000, n - at) }, (_, i) => insert('notes', { title: `note number ${at + i}`, n: at + i })))
    return app
}

test('an answer comes in the coding that is liked best, and says what it varies by', async (t) => {
    const app = await notes(t, 400)
    const path = `/query?sql=${enc('select * from notes order by n')}`
    const plain = await app.request('GET', path)
    assert.equal(plain.headers['content-encoding'], undefined)
    assert.match(plain.headers.vary, /accept-encoding/i)
    for (const [accept, coding] of [['gzip', 'gzip'], ['gzip, deflate, br', 'gzip'], ['zstd', 'zstd'], ['gzip, zstd', 'zstd'], ['GZIP;q=0.8, zstd;q=0.2', 'gzip'], ['*', 'zstd'], ['*;q=0.1', 'zstd'],
        ['zstd;q=0, gzip;q=0.001', 'gzip'], ['identity', undefined], ['gzip;q=0', undefined], ['gzip;q=0.5, identity;q=0.9', undefined], ['br', undefined], ['gzip;q=0, *', 'zstd'], ['', undefined]]) {
        const reply = await app.request('GET', path, { headers: { 'accept-encoding': accept } })
        assert.equal(reply.status, 200)
        assert.equal(reply.headers['content-encoding'], coding, accept)
        assert.match(reply.headers.vary, /accept-encoding/i)
        if (coding) assert.ok(reply.body.length < plain.body.length / 2)
        if (coding !== 'zstd' || hasZstd) assert.deepEqual(decoded(reply), plain.body)
    }
    const small = await app.request('GET', `/query?sql=${enc('select n from notes limit 2')}`, { headers: { 'accept-encoding': 'gzip' } })
    assert.equal(small.headers['content-encoding'], undefined)
    assert.match(small.headers.vary, /accept-encoding/i)
    assert.equal((await fetch(app.s.url + app.base + path).then((r) => r.json())).rows.length, 400)
})

test('a large answer is packed as it goes', async (t) => {
    const app = await notes(t, 30000)
    const path = `/query?sql=${enc('select * from notes order by n')}`
    const plain = await app.request('GET', path)
    for (const coding of ['gzip', ...(hasZstd ? ['zstd'] : [])]) {
        const reply = await app.request('GET', path, { headers: { 'accept-encoding': coding } })
        assert.equal(reply.headers['content-encoding'], coding)
        assert.equal(reply.headers['content-length'], undefined)
        assert.ok(reply.body.length < plain.body.length / 3)
        assert.deepEqual(decoded(reply), plain.body)
    }
})

test('tokens are not held back by their packing', async (t) => {
    const { app } = await chatService(t)
    assert.equal((await app.request('PUT', app.stream('reply'), { headers: { 'content-type': 'text/plain' } })).status, 201)
    const ways = [['/subscribe?stream=reply', 'gzip'], [`${app.stream('reply')}?offset=-1&live=sse`, 'gzip']]
    const all = await Promise.all(ways.map(([path, coding]) => follow(t, app, path, coding)))
    for (const f of all) {
        assert.equal(f.res.headers['content-encoding'], 'gzip')
        assert.match(f.res.headers.vary, /accept-encoding/i)
    }
    for (let i = 0; i < 30; i++) {
        await app.batch([append('reply', `token${i};`)])
        await Promise.all(all.map((f) => f.has(`token${i};`))) // before the next is written
    }
    for (const f of all) assert.ok(f.bytes < f.text.length / 2, `${f.bytes} bytes for ${f.text.length}`)
})

test('a subscription is the same in each coding', async (t) => {
    const app = await notes(t, 20000)
    const path = `/subscribe?query.all=${enc('select * from notes')}`
    const rows = await app.rows('select * from notes')
    for (const coding of ['identity', 'gzip', ...(hasZstd ? ['zstd'] : [])]) {
        const f = await follow(t, app, path, coding)
        assert.equal(f.res.headers['content-encoding'], coding === 'identity' ? undefined : coding)
        // A frame that is cut off can be read as far as it was flushed.
        let text = ''
        const unpack = () => (coding === 'zstd' ? String(spawnSync('zstd', ['-dc'], { input: Buffer.concat(f.raw), maxBuffer: 64 << 20 }).stdout) : f.text)
        await eventually('it is live', () => (text = unpack()).includes('"live":["all"]'))
        f.end()
        const told = text.split('\n').filter((line) => line.startsWith('data: ')).map((line) => JSON.parse(line.slice(6)))
        const byId = (a, b) => (a.id < b.id ? -1 : 1)
        assert.deepEqual(told.flatMap((m) => m.snapshot?.all ?? []).sort(byId), rows.sort(byId))
        assert.deepEqual(told.at(-1).live, ['all'])
    }
})

test('a part of a stream has another tag in each coding', async (t) => {
    const { app } = await chatService(t)
    const text = 'All work and no play makes a dull stream. '.repeat(3000)
    const path = `${app.stream('s')}?offset=-1`
    assert.equal((await app.request('PUT', app.stream('s'), { headers: { 'content-type': 'text/plain' }, body: text })).status, 201)
    const tags = new Map()
    for (const coding of ['identity', 'gzip', 'zstd']) {
        const headers = { 'accept-encoding': coding }
        const reply = await app.request('GET', path, { headers })
        assert.equal(reply.headers['content-encoding'], coding === 'identity' ? undefined : coding)
        assert.match(reply.headers.vary, /accept-encoding/i)
        if (coding !== 'zstd' || hasZstd) assert.equal(String(decoded(reply)), text)
        tags.set(coding, reply.headers.etag)
        assert.equal((await app.request('GET', path, { headers: { ...headers, 'if-none-match': reply.headers.etag } })).status, 304)
        assert.equal(reply.headers['stream-next-offset'], (await app.request('GET', path)).headers['stream-next-offset'])
    }
    assert.equal(new Set(tags.values()).size, 3)
    assert.equal((await app.request('GET', path, { headers: { 'accept-encoding': 'gzip', 'if-none-match': tags.get('zstd') } })).status, 200)
    const head = await app.request('HEAD', app.stream('s'), { headers: { 'accept-encoding': 'gzip' } })
    assert.equal(head.status, 200)
    // What does not pack by its type goes as it is.
    await app.request('PUT', app.stream('b'), { headers: { 'content-type': 'image/png' }, body: text })
    assert.equal((await app.request('GET', `${app.stream('b')}?offset=-1`, { headers: { 'accept-encoding': 'gzip' } })).headers['content-encoding'], undefined)
})

test('only so many replies are packed at a time, and the others are told all the same', async (t) => {
    const { app } = await chatService(t)
    await app.batch([create('reply')])
    const all = []
    for (let i = 0; i < LIMIT + 10; i++) all.push(await follow(t, app, '/subscribe?stream=reply', 'gzip'))
    assert.equal(all.filter((f) => f.res.headers['content-encoding'] === 'gzip').length, LIMIT)
    await app.batch([append('reply', 'for all')])
    await Promise.all(all.map((f) => f.has('for all')))
    // A part of a stream would be packed piece by piece, too.
    const text = 'All work and no play makes a dull stream. '.repeat(3000)
    assert.equal((await app.request('PUT', app.stream('s'), { headers: { 'content-type': 'text/plain' }, body: text })).status, 201)
    const part = () => app.request('GET', `${app.stream('s')}?offset=-1`, { headers: { 'accept-encoding': 'gzip' } })
    const plain = await part()
    assert.equal(plain.headers['content-encoding'], undefined)
    assert.equal(String(plain.body), text)
    for (const f of all) f.end()
    // Who has left makes room.
    await eventually('room again', async () => {
        const f = await follow(t, app, '/subscribe?stream=reply', 'gzip')
        f.end()
        return f.res.headers['content-encoding'] === 'gzip'
    })
    assert.equal((await part()).headers['content-encoding'], 'gzip')
})
