// segue put and segue get with large contents: over broken connections, and over runs of the program.
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { App, request } from './lib/http.mjs'
import { proxy } from './lib/proxy.mjs'
import { Child, eventually, SEGUE, service, tempFolder } from './lib/service.mjs'

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex')
const SIZE = 9 << 20

function setup(t) {
    const folder = tempFolder(t)
    const file = path.join(folder, 'film.bin')
    const bytes = randomBytes(SIZE)
    fs.writeFileSync(file, bytes)
    const states = path.join(folder, 'state', 'segue', 'uploads')
    const run = (url, ...args) => new Child(SEGUE, args, { env: { ...process.env, SEGUE_URL: url, XDG_STATE_HOME: path.join(folder, 'state') } })
    return { folder, file, bytes, digest: sha256(bytes), run, states: () => fs.existsSync(states) ? fs.readdirSync(states) : [] }
}

async function assertDone(child, digest) {
    const { code, stdout, stderr } = await child.end()
    assert.equal(code, 0, stderr)
    if (digest) assert.equal(stdout.trim(), digest)
}

test('a large file is put, once', async (t) => {
    const s = await service(t)
    const it = setup(t)
    const p = await proxy(t, s)
    await assertDone(it.run(p.url, 'put', it.file, '--type', 'video/x'), it.digest)
    const reply = await new App(s).request('GET', `/blobs/${it.digest}`)
    assert.ok(reply.body.equals(it.bytes))
    assert.equal(reply.headers['content-type'], 'video/x')
    assert.deepEqual(it.states(), [])
    const before = p.up
    const again = it.run(p.url, 'put', it.file, '--json')
    const { stdout } = await again.end()
    assert.deepEqual(JSON.parse(stdout), { blob: it.digest, size: SIZE })
    assert.ok(p.up - before < 50000, `${p.up - before} bytes for a blob that is stored`) // its chunks' names, twice
})

test('a connection that breaks costs what was on its way', async (t) => {
    const s = await service(t)
    const it = setup(t)
    const p = await proxy(t, s, [{ breakUp: 3 << 20 }, { breakUp: 3 << 20 }])
    await assertDone(it.run(p.url, 'put', it.file), it.digest)
    assert.ok(p.connections >= 3)
    assert.ok(p.up < SIZE + (4 << 20), `${p.up} bytes for ${SIZE}`)
    assert.deepEqual(it.states(), [])
})

test('a service that is killed in the middle is found again', async (t) => {
    const s = await service(t)
    const it = setup(t)
    const p = await proxy(t, s, [{ stallUp: 6 << 20 }])
    const child = it.run(p.url, 'put', it.file, '--retry', '60')
    await eventually('the middle', () => p.stalled)
    await s.kill()
    await s.start()
    await assertDone(child, it.digest)
    assert.ok((await new App(s).request('GET', `/blobs/${it.digest}`)).body.equals(it.bytes))
})

test('a client that is killed goes on in its next run', async (t) => {
    const s = await service(t)
    const it = setup(t)
    const p = await proxy(t, s, [{ stallUp: 6 << 20 }])
    const child = it.run(p.url, 'put', it.file)
    await eventually('the middle', () => p.stalled)
    child.signal('SIGKILL')
    await child.end()
    assert.equal(it.states().length, 1)
    const first = p.up
    await assertDone(it.run(p.url, 'put', it.file), it.digest)
    assert.ok(p.up - first < SIZE - (1 << 20), `${p.up - first} bytes in the second run`)
    assert.deepEqual(it.states(), [])
    // A state that names an upload that is gone is no hindrance.
    const stalling = await proxy(t, s, [{ stallUp: 5 << 20 }])
    const other = path.join(it.folder, 'other.bin')
    const bytes = randomBytes(7 << 20)
    fs.writeFileSync(other, bytes)
    const cut = it.run(stalling.url, 'put', other)
    await eventually('the middle', () => stalling.stalled)
    cut.signal('SIGKILL')
    await cut.end()
    const [state] = it.states()
    const id = fs.readFileSync(path.join(it.folder, 'state', 'segue', 'uploads', state), 'utf8')
    await eventually('the deletion', async () => (await request(s, 'DELETE', `/apps/default/uploads/${id}`, { headers: { 'tus-resumable': '1.0.0' } })).status === 204)
    await assertDone(it.run(stalling.url, 'put', other), sha256(bytes))
})

test('get goes on with what an earlier run left', async (t) => {
    const s = await service(t)
    const it = setup(t)
    await assertDone(it.run(s.url, 'put', it.file), it.digest)
    const out = path.join(it.folder, 'out')
    const get = async (p) => {
        await assertDone(it.run(p.url, 'get', it.digest, '-o', out))
        assert.ok(fs.readFileSync(out).equals(it.bytes))
        assert.ok(!fs.existsSync(`${out}.part`))
    }
    // Half of it is there; then all of it; then something else.
    for (const [part, least, most] of [[it.bytes.subarray(0, SIZE / 2), SIZE / 2, SIZE / 2 + 10000], [it.bytes, 0, 10000], [randomBytes(1000), SIZE, 2 * SIZE + 10000],
        [randomBytes(SIZE + 5), SIZE, SIZE + 10000]]) {
        fs.writeFileSync(`${out}.part`, part)
        const p = await proxy(t, s)
        await get(p)
        assert.ok(p.down >= least && p.down <= most, `${p.down} bytes, of ${least} to ${most}`)
    }
    // A connection that is lost for good leaves its part.
    const broken = await proxy(t, s, Array.from({ length: 100 }, () => ({ breakDown: 100000 })))
    const lost = it.run(broken.url, 'get', it.digest, '-o', `${out}2`, '--retry', '0.2')
    await eventually('a part', () => fs.existsSync(`${out}2.part`) && fs.statSync(`${out}2.part`).size > 0)
    lost.signal('SIGKILL')
    await lost.end()
    assert.ok(fs.existsSync(`${out}2.part`))
    await assertDone(it.run(s.url, 'get', it.digest, '-o', `${out}2`))
    assert.ok(fs.readFileSync(`${out}2`).equals(it.bytes))
    const none = await it.run(s.url, 'get', '0'.repeat(64), '-o', `${out}3`).end()
    assert.equal(none.code, 1)
    assert.ok(!fs.existsSync(`${out}3.part`))
})

test('of a file that has changed, what has changed is sent', async (t) => {
    const s = await service(t)
    const it = setup(t)
    const p = await proxy(t, s)
    await assertDone(it.run(p.url, 'put', it.file), it.digest)
    const bytes = Buffer.concat([randomBytes(10), it.bytes.subarray(0, 4 << 20), randomBytes(1000), it.bytes.subarray((4 << 20) + 7), it.bytes.subarray(0, 3 << 20)])
    fs.writeFileSync(it.file, bytes)
    const before = p.up
    await assertDone(it.run(p.url, 'put', it.file, '--type', 'video/x'), sha256(bytes))
    assert.ok(p.up - before < 2 << 20, `${p.up - before} bytes`)
    const reply = await new App(s).request('GET', `/blobs/${sha256(bytes)}`)
    assert.ok(reply.body.equals(bytes))
    assert.equal(reply.headers['content-type'], 'video/x')
})

test('a content that repeats itself is sent once, over connections that break', async (t) => {
    const s = await service(t)
    const it = setup(t)
    const p = await proxy(t, s, [{ breakUp: 2 << 20 }, { breakUp: 3 << 20 }])
    const part = randomBytes(6 << 20)
    const bytes = Buffer.concat([part, part, Buffer.alloc(20 << 20), part])
    fs.writeFileSync(it.file, bytes)
    await assertDone(it.run(p.url, 'put', it.file), sha256(bytes))
    assert.ok(p.connections >= 3)
    assert.ok(p.up < 20 << 20, `${p.up} bytes`)
    assert.ok((await new App(s).request('GET', `/blobs/${sha256(bytes)}`)).body.equals(bytes))
})

test('chunks that are missing go over several connections, and a killed run has sent none in vain', async (t) => {
    const s = await service(t)
    const it = setup(t)
    const first = randomBytes(1 << 20)
    const bytes = Buffer.concat([first, randomBytes(40 << 20)])
    fs.writeFileSync(it.file, bytes)
    assert.equal((await new App(s).request('PUT', `/blobs/${sha256(first)}`, { body: first })).status, 201)
    // The client's own connection asks; of the others each stalls in its third body.
    const plan = [{}]
    plan.rest = { stallUp: 9 << 20 }
    const p = await proxy(t, s, plan)
    const child = it.run(p.url, 'put', it.file)
    await eventually('all of them', () => p.up > 33 << 20)
    assert.ok(p.connections >= 5, `${p.connections} connections`)
    child.signal('SIGKILL')
    await child.end()
    const before = p.up
    plan.rest = {}
    await assertDone(it.run(p.url, 'put', it.file), sha256(bytes))
    assert.ok(p.up - before < 28 << 20, `${p.up - before} bytes in the second run`)
    assert.ok((await new App(s).request('GET', `/blobs/${sha256(bytes)}`)).body.equals(bytes))
})

test('a list of chunks that is long comes in pages, and goes on where a connection broke', async (t) => {
    const s = await service(t)
    const it = setup(t)
    const first = randomBytes(1 << 20)
    const part = randomBytes(96 << 20)
    const bytes = Buffer.concat([first, part, first, part]) // more than 2048 chunks, half of them sent
    fs.writeFileSync(it.file, bytes)
    assert.equal((await new App(s).request('PUT', `/blobs/${sha256(first)}`, { body: first })).status, 201)
    // What the client's own connection asks has some 200 KB; so it breaks in the pages.
    const p = await proxy(t, s, [{ breakUp: 300 << 10 }])
    await assertDone(it.run(p.url, 'put', it.file, '--type', 'video/x'), sha256(bytes))
    assert.ok(p.up < 100 << 20, `${p.up} bytes`)
    const reply = await new App(s).request('HEAD', `/blobs/${sha256(bytes)}`)
    assert.equal(reply.headers['content-length'], String(bytes.length))
    assert.equal(reply.headers['content-type'], 'video/x')
    const tail = await new App(s).request('GET', `/blobs/${sha256(bytes)}`, { headers: { range: 'bytes=-100000' } })
    assert.ok(tail.body.equals(bytes.subarray(-100000)))
})

for (const [how, known] of [['as an upload', false], ['by its chunks', true]]) {
    test(`a file that changes while it is sent ${how} is an error, and no blob`, async (t) => {
        const s = await service(t)
        const app = new App(s)
        const it = setup(t)
        const bytes = randomBytes(known ? 40 << 20 : SIZE) // more bodies than are read at once
        const first = bytes.subarray(0, 1 << 20)
        fs.writeFileSync(it.file, bytes)
        if (known) assert.equal((await app.request('PUT', `/blobs/${sha256(first)}`, { body: first })).status, 201)
        const plan = [known ? {} : { stallUp: 1 << 20 }]
        plan.rest = { stallUp: 1 << 20 }
        const p = await proxy(t, s, plan)
        const child = it.run(p.url, 'put', it.file)
        await eventually('the middle', () => p.stalled)
        fs.writeFileSync(it.file, randomBytes(bytes.length))
        p.release()
        const { code, stderr } = await child.end()
        assert.equal(code, 1, stderr)
        assert.match(stderr, /^segue: digest_mismatch: .*film\.bin: it changed while it was being uploaded\n$/)
        assert.equal((await app.request('GET', `/blobs/${sha256(bytes)}`)).status, 404)
        assert.deepEqual(it.states(), [])
    })
}

test('what comes through a pipe is stored as a file is', async (t) => {
    const s = await service(t)
    const it = setup(t)
    for (const bytes of [it.bytes, Buffer.alloc(0), Buffer.from('a few words')]) {
        const child = it.run(s.url, 'put', '-', '--type', 'text/x')
        child.process.stdin.end(bytes)
        await assertDone(child, sha256(bytes))
        const reply = await new App(s).request('GET', `/blobs/${sha256(bytes)}`)
        assert.ok(reply.body.equals(bytes))
        assert.equal(reply.headers['content-type'], 'text/x')
    }
})
