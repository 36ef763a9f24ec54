// The life of blobs: PROTOCOL.md, section 9, "What keeps a blob" and "Looking after them".
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { createHash, randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { App, assertProblem } from './lib/http.mjs'
import { eventually, segue, service, tempFolder } from './lib/service.mjs'

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex')
const put = (app, bytes) => app.request('PUT', `/blobs/${sha256(bytes)}`, { body: bytes })
const usage = async (app) => (await app.request('GET', '/blob-usage')).json
const quiet = ['--blob-scrub-bytes', '0']

test('a blob that nothing keeps goes after its grace, a pinned one stays until it is let go', async (t) => {
    const app = new App(await service(t, { args: ['--blob-grace-ms', '300'] }))
    const [pinned, loose] = [randomBytes(300000), randomBytes(4000000)]
    assert.equal((await put(app, pinned)).status, 201)
    assert.equal((await app.request('PUT', `/blob-pins/${sha256(pinned)}`)).status, 200)
    assert.equal((await put(app, loose)).status, 201)
    await eventually('the loose one is gone', async () => (await app.request('HEAD', `/blobs/${sha256(loose)}`)).status === 404)
    assert.ok((await app.request('GET', `/blobs/${sha256(pinned)}`)).body.equals(pinned))
    await eventually('its bytes are gone', async () => (await usage(app)).garbage < 1000000)
    assert.ok((await app.request('GET', `/blobs/${sha256(pinned)}`)).body.equals(pinned))
    assert.equal((await app.request('DELETE', `/blob-pins/${sha256(pinned)}`)).status, 200)
    await eventually('the other one is gone', async () => (await usage(app)).blobs === 0)
    assertProblem(await app.request('PUT', `/blob-pins/${sha256(pinned)}`), 404, 'no_such_blob')
})

test('blobs are pinned in lists, and those that are not there are told', async (t) => {
    const app = new App(await service(t, { args: ['--blob-grace-ms', '300'] }))
    const all = Array.from({ length: 5 }, () => randomBytes(1000))
    for (const bytes of all.slice(0, 4)) assert.equal((await put(app, bytes)).status, 201)
    const names = [all[4], all[0], all[1], all[1]].map(sha256)
    const pins = (json) => app.request('POST', '/blob-pins', { body: JSON.stringify(json) })
    const first = await pins({ blobs: names, pinned: true })
    assert.equal(first.status, 200)
    assert.deepEqual(first.json.missing, [0])
    assert.deepEqual((await pins({ blobs: names, pinned: true })).json.missing, [0])
    assert.deepEqual((await pins({ blobs: [], pinned: true })).json, { missing: [] })
    assert.deepEqual((await pins({ blobs: [names[0]], pinned: false })).json, { missing: [0] })
    await eventually('the others are gone', async () => (await usage(app)).blobs === 2)
    assert.deepEqual((await pins({ blobs: names, pinned: false })).json.missing, [0])
    await eventually('these too', async () => (await usage(app)).blobs === 0)
    assertProblem(await pins({ blobs: ['nonsense'], pinned: true }), 422, 'bad_value')
    assertProblem(await pins({ blobs: names }), 422, 'bad_value')
    assertProblem(await pins({ blobs: Array(4097).fill(names[0]), pinned: true }), 413, 'too_large')
    assertProblem(await pins([]), 422, 'bad_value')
})

test('a byte flipped by hand is named, its range fails alone, and the same bytes repair it', async (t) => {
    const s = await service(t, { args: [...quiet] })
    const app = new App(s)
    const bytes = randomBytes(3000000)
    const file = path.join(tempFolder(t), 'file')
    fs.writeFileSync(file, bytes)
    assert.equal((await segue(s, ['put', file])).stdout.trim(), sha256(bytes))
    assert.equal((await segue(s, ['blobs', 'check'])).code, 0)
    await s.stop()
    const pack = path.join(s.data, 'apps/default/packs/0001.pack')
    const flip = () => {
        const f = fs.openSync(pack, 'r+')
        const one = Buffer.alloc(1)
        fs.readSync(f, one, 0, 1, 1000)
        one[0] ^= 1
        fs.writeSync(f, one, 0, 1, 1000)
        fs.closeSync(f)
    }
    flip()
    await s.start()
    const check = await segue(s, ['blobs', 'check'])
    assert.equal(check.code, 1)
    assert.match(check.stdout, /^damaged: pack 1, position 0, chunk [0-9a-f]{64}, \d+ bytes\n {2}in blob ([0-9a-f]{64}), bytes (\d+) to (\d+)\n\d+ chunks, 3000000 bytes verified, 1 damaged, 0 wrong counts\n$/)
    const [, blob, from, to] = /in blob ([0-9a-f]+), bytes (\d+) to (\d+)/.exec(check.stdout)
    assert.equal(blob, sha256(bytes))
    const range = (a, b) => app.request('GET', `/blobs/${blob}`, { headers: { range: `bytes=${a}-${b}` } })
    await assert.rejects(range(from, to).then((r) => assert.equal(r.status, 206)))
    const behind = await range(Number(to) + 1, bytes.length - 1)
    assert.ok(behind.body.equals(bytes.subarray(Number(to) + 1)), 'every other range works')
    assert.equal((await segue(s, ['put', file])).code, 0)
    assert.ok((await app.request('GET', `/blobs/${blob}`)).body.equals(bytes), 'it is repaired')
    assert.equal((await segue(s, ['blobs', 'check'])).code, 0)
    const du = (await segue(s, ['blobs', 'du'])).stdout
    assert.match(du, /^blobs {9}1\nlogical {7}3000000\ndeduplicated {2}3000000 in \d+ chunks\nstored {8}\d+\ngarbage {7}\d+\n$/)
})

test('the scrub finds a flipped byte by itself', async (t) => {
    const s = await service(t, { args: ['--blob-scrub-bytes', '100000000'] })
    const app = new App(s)
    const bytes = randomBytes(500000)
    await put(app, bytes)
    await s.stop()
    const pack = path.join(s.data, 'apps/default/packs/0001.pack')
    const content = fs.readFileSync(pack)
    content[2000] ^= 1
    fs.writeFileSync(pack, content)
    await s.start()
    await eventually('it is told', () => s.child.stderr.includes('a damaged chunk is not served any more'))
    assert.equal((await put(app, bytes)).status, 200)
    assert.ok((await app.request('GET', `/blobs/${sha256(bytes)}`)).body.equals(bytes))
})

// Seven bits a byte, the lowest first.
function varint(n) {
    const bytes = []
    for (; n > 127; n >>>= 7) bytes.push(n & 127 | 128)
    return Buffer.from([...bytes, n])
}

// Wherever these bytes lie in the file, the byte `at` of what follows them is another one.
function flipBehind(file, bytes, at) {
    const content = fs.readFileSync(file)
    let found = 0
    for (let i = content.indexOf(bytes); i >= 0; i = content.indexOf(bytes, i + 1), found++) content[i + bytes.length + at] ^= 0x10
    assert.ok(found > 0)
    fs.writeFileSync(file, content)
}

test('a bit of the index that flips is named, and what needs it is refused', async (t) => {
    const s = await service(t, { args: [...quiet] })
    const app = new App(s)
    const [small, other] = [randomBytes(9000), randomBytes(2000000)] // one chunk, and many
    for (const bytes of [small, other]) assert.equal((await put(app, bytes)).status, 201)
    assert.equal((await app.request('PUT', `/blob-pins/${sha256(small)}`)).status, 200)
    await s.stop()
    // The digest of a blob of one chunk is its chunk's, too: its head (version, pinned and with a list of its own, size) and its chunk's entry (version, codec,
    // length) are hit.
    for (const flags of [2 + 4, 0])
        flipBehind(path.join(s.data, 'apps/default/db/data.mdb'), Buffer.concat([Buffer.from(sha256(small), 'hex'), Buffer.from([3, flags]), varint(small.length)]), 1)
    await s.start()
    const check = await segue(s, ['blobs', 'check'])
    assert.equal(check.code, 1)
    assert.match(check.stdout, new RegExp(`^damaged: index, table blob_chunks, key ${sha256(small)}$`, 'm'))
    assert.match(check.stdout, new RegExp(`^damaged: index, table blobs, key ${sha256(small)}$`, 'm'))
    assertProblem(await app.request('GET', `/blobs/${sha256(small)}`), 500, 'corrupt')
    assertProblem(await put(app, small), 500, 'corrupt')
    assert.ok((await app.request('GET', `/blobs/${sha256(other)}`)).body.equals(other), 'every other blob works')
    assert.match(s.child.stderr, /an entry is damaged/)
})

test('entries of chunks are made anew from the packs', async (t) => {
    const s = await service(t, { args: [...quiet] })
    const app = new App(s)
    const bytes = randomBytes(3000000)
    assert.equal((await put(app, bytes)).status, 201)
    await s.stop()
    // What an entry says of its chunk's place is where the first record lies: pack 1, position 0, behind codec and length, as noise is stored raw.
    const pack = fs.readFileSync(path.join(s.data, 'apps/default/packs/0001.pack'))
    const [length, sha] = [pack.readUInt32LE(8), pack.subarray(16, 48)]
    assert.equal(pack[5], 0)
    flipBehind(path.join(s.data, 'apps/default/db/data.mdb'), Buffer.concat([sha, Buffer.from([3, 0]), varint(length)]), 1)
    await s.start()
    assert.match((await segue(s, ['blobs', 'check'])).stdout, new RegExp(`^damaged: index, table blob_chunks, key ${sha.toString('hex')}$`, 'm'))
    await assert.rejects(app.request('GET', `/blobs/${sha256(bytes)}`).then((r) => assert.equal(r.status, 200)))
    await s.stop()
    s.options.args.push('--blob-rebuild')
    await s.start()
    assert.ok((await app.request('GET', `/blobs/${sha256(bytes)}`)).body.equals(bytes))
    assert.equal((await segue(s, ['blobs', 'check'])).code, 0)
})

// Pages of the database have no checksums: where one is no part of a tree any more, the check names it before anything trusts it.
test('a page of the index that is damaged is named', async (t) => {
    const s = await service(t, { args: [...quiet] })
    const app = new App(s)
    for (let i = 0; i < 40; i++) assert.equal((await put(app, randomBytes(200000 + i))).status, 201)
    await eventually('it is in the database', async () => (await segue(s, ['blobs', 'check'])).code === 0)
    const file = path.join(s.data, 'apps/default/db/data.mdb')
    await s.stop()
    // The order of two keys of a leaf: the offsets of its first two nodes change places. Of each leaf with chunks in it, as some are of older states.
    const content = fs.readFileSync(file)
    let hit = 0
    for (let at = 2 * 4096; at < content.length; at += 4096) {
        const count = (content.readUInt16LE(at + 12) - 16) / 2
        if (content.readUInt16LE(at + 10) !== 2 || count < 10 || content.readUInt16LE(at + content.readUInt16LE(at + 16) + 6) !== 32) continue
        const [a, b] = [content.readUInt16LE(at + 16), content.readUInt16LE(at + 18)]
        content.writeUInt16LE(b, at + 16)
        content.writeUInt16LE(a, at + 18)
        hit++
    }
    assert.ok(hit > 0)
    fs.writeFileSync(file, content)
    await s.start()
    const check = await segue(s, ['blobs', 'check'])
    assert.equal(check.code, 1)
    assert.match(check.stdout, /^damaged: index, page \d+: its keys are not in order$/m)
})
