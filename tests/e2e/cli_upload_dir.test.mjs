// segue put, get and sync of directories: what comes back is what was there, whatever breaks, and nothing lands anywhere else.
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { App } from './lib/http.mjs'
import { proxy } from './lib/proxy.mjs'
import { Child, eventually, SEGUE, service, sleep, tempFolder } from './lib/service.mjs'

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex')
const TYPE = 'application/vnd.segue.tree'

// Runs segue on behalf of one folder; names may be any bytes, so paths are Buffers.
function setup(t) {
    const folder = tempFolder(t)
    const at = (...names) => Buffer.concat([Buffer.from(folder), ...names.flatMap((name) => [Buffer.from('/'), Buffer.from(name)])])
    const start = (url, ...args) => new Child(SEGUE, args, { env: { ...process.env, SEGUE_URL: url, XDG_STATE_HOME: path.join(folder, 'state') } })
    const run = async (url, ...args) => {
        const { code, stdout, stderr } = await start(url, ...args).end()
        assert.equal(code, 0, stderr)
        return stdout.trim()
    }
    return { folder, at, start, run, dir: path.join(folder, 'dir') }
}

// Everything in a directory as one comparable text: names in hexadecimal, kinds, modes, contents.
function listing(root) {
    const lines = []
    const walk = (dir, name) => {
        for (const e of fs.readdirSync(dir, { encoding: 'buffer' }).sort(Buffer.compare)) {
            const full = Buffer.concat([dir, Buffer.from('/'), e]), shown = `${name}/${e.toString('hex')}`
            const st = fs.lstatSync(full)
            const what = st.isSymbolicLink() ? fs.readlinkSync(full, { encoding: 'buffer' }).toString('hex') : st.isFile() ? sha256(fs.readFileSync(full)) : 'directory'
            lines.push(`${shown} ${st.isSymbolicLink() ? '' : (st.mode & 0o7777).toString(8)} ${what}`)
            if (st.isDirectory()) walk(full, shown)
        }
    }
    walk(Buffer.from(root), '')
    return lines.join('\n')
}

function fillOdd(it) {
    const dir = (...names) => fs.mkdirSync(it.at('dir', ...names))
    const file = (bytes, mode, ...names) => { fs.writeFileSync(it.at('dir', ...names), bytes); fs.chmodSync(it.at('dir', ...names), mode) }
    dir(), dir('empty'), dir('a'), dir('a', 'ünï cödé 🎈'), dir('closed')
    file('', 0o600, 'void')
    file('x', 0o755, 'a', 'run me')
    file(randomBytes(70000), 0o644, 'a', 'ünï cödé 🎈', '100% "odd"\n\tname')
    file('latin', 0o640, Buffer.from([0xff, 0xe9, 0x25, 0x34, 0x31]))
    file('same', 0o644, 'a-'), file('same', 0o600, 'a', 'again'), file('same', 0o644, 'closed', 'in')
    file(randomBytes(5 << 20), 0o444, 'large')
    fs.symlinkSync('/etc/passwd', it.at('dir', 'absolute'))
    fs.symlinkSync('../../..', it.at('dir', 'a', 'above'))
    fs.symlinkSync('nothing\n here', it.at('dir', 'a', 'dangling'))
    fs.chmodSync(it.at('dir', 'closed'), 0o555)
}

test('a directory with everything odd comes back as it was, and has one digest', async (t) => {
    const s = await service(t)
    const it = setup(t)
    fillOdd(it)
    const tree = await it.run(s.url, 'put', it.dir)
    const out = path.join(it.folder, 'out')
    await it.run(s.url, 'get', tree, '-o', out)
    assert.equal(listing(out), listing(it.dir))
    assert.equal(await it.run(s.url, 'put', out), tree)
    const reply = await new App(s).request('GET', `/blobs/${tree}`)
    assert.equal(reply.headers['content-type'], TYPE)
    assert.equal(sha256(reply.body), tree)
    const lines = reply.body.toString().split('\n')
    assert.equal(lines[0], 'segue tree 1')
    assert.ok(lines.includes('l a/above ../../..') && lines.includes(`f 640 5 ${sha256('latin')} %FF%E9%2541`), reply.body.toString())
    // One other bit of a mode is another tree.
    fs.chmodSync(it.at('dir', 'void'), 0o640)
    assert.notEqual(await it.run(s.url, 'put', it.dir), tree)
    const json = JSON.parse(await it.run(s.url, 'put', it.dir, '--json'))
    assert.match(json.blob, /^[0-9a-f]{64}$/)
    fs.chmodSync(it.at('dir', 'closed'), 0o755) // so that the folder can be removed
    fs.chmodSync(it.at('out', 'closed'), 0o755)
})

test('what is in the way is replaced, what is right stays, what is not named stays', async (t) => {
    const s = await service(t)
    const it = setup(t)
    fs.mkdirSync(path.join(it.dir, 'sub'), { recursive: true })
    fs.writeFileSync(path.join(it.dir, 'right'), 'right')
    fs.writeFileSync(path.join(it.dir, 'sub/wrong'), 'wanted')
    fs.symlinkSync('right', path.join(it.dir, 'link'))
    const tree = await it.run(s.url, 'put', it.dir)
    const out = path.join(it.folder, 'out')
    fs.mkdirSync(path.join(out, 'sub'), { recursive: true })
    fs.writeFileSync(path.join(out, 'right'), 'right')
    fs.writeFileSync(path.join(out, 'sub/wrong'), 'others')
    fs.writeFileSync(path.join(out, 'link'), 'a file')
    fs.writeFileSync(path.join(out, 'mine'), 'mine')
    const { ino } = fs.statSync(path.join(out, 'right'))
    await it.run(s.url, 'get', tree, '-o', out)
    assert.equal(fs.statSync(path.join(out, 'right')).ino, ino)
    assert.equal(fs.readFileSync(path.join(out, 'sub/wrong'), 'utf8'), 'wanted')
    assert.equal(fs.readlinkSync(path.join(out, 'link')), 'right')
    assert.equal(fs.readFileSync(path.join(out, 'mine'), 'utf8'), 'mine')
    assert.ok(!fs.existsSync(path.join(out, '.segue-part')))
})

test('no tree and no link leads out of the directory', async (t) => {
    const s = await service(t)
    const app = new App(s)
    const it = setup(t)
    const bytes = Buffer.from('escaped')
    const sha = sha256(bytes)
    const outside = path.join(it.folder, 'outside')
    fs.mkdirSync(outside)
    assert.equal((await app.request('PUT', `/blobs/${sha}`, { body: bytes })).status, 201)
    const put = async (lines) => {
        const text = Buffer.from(`segue tree 1\n${lines}`)
        const { status } = await app.request('PUT', `/blobs/${sha256(text)}`, { body: text, headers: { 'content-type': TYPE } })
        assert.ok(status === 200 || status === 201)
        return sha256(text)
    }
    const file = `f 644 ${bytes.length} ${sha}`
    for (const lines of [`${file} ../outside/x\n`, `${file} ${outside}/x\n`, `d 755 ..\nd 755 ../outside\n${file} ../outside/x\n`, `l a ../outside\n${file} a/x\n`,
        `d 755 a\n${file} a/../../outside/x\n`, `l .segue-part ../outside\n${file} x\n`]) {
        const { code, stderr } = await it.start(s.url, 'get', await put(lines), '-o', path.join(it.folder, 'out')).end()
        assert.equal(code, 1)
        assert.match(stderr, /^segue: bad_value: the blob [0-9a-f]{64} is no tree\n$/)
    }
    // Links that lie about in the directory are not followed either: neither as a directory nor as a file nor as the place of parts.
    const good = await put(`d 755 a\n${file} a/x\n${file} y\n`)
    const from = (name) => { const out = fs.mkdtempSync(path.join(it.folder, 'out-')); fs.symlinkSync('../outside', path.join(out, name)); return out }
    for (const name of ['a', '.segue-part']) assert.equal((await it.start(s.url, 'get', good, '-o', from(name)).end()).code, 2)
    const out = fs.mkdtempSync(path.join(it.folder, 'out-'))
    fs.writeFileSync(path.join(outside, 'kept'), 'kept')
    fs.symlinkSync('../outside/kept', path.join(out, 'y'))
    await it.run(s.url, 'get', good, '-o', out)
    assert.equal(fs.readFileSync(path.join(out, 'y'), 'utf8'), 'escaped')
    assert.ok(fs.lstatSync(path.join(out, 'y')).isFile())
    assert.deepEqual(fs.readdirSync(outside), ['kept'])
    assert.equal(fs.readFileSync(path.join(outside, 'kept'), 'utf8'), 'kept')
    // What is no tree is said to be none.
    const { code, stderr } = await it.start(s.url, 'get', sha, '--tree', '-o', out).end()
    assert.deepEqual([code, stderr], [1, `segue: bad_value: the blob ${sha} is no tree\n`])
})

test('thousands of small files go over a few connections, and once', async (t) => {
    const s = await service(t)
    const it = setup(t)
    let total = 0
    for (let d = 0; d < 20; d++) {
        fs.mkdirSync(path.join(it.dir, `${d}`), { recursive: true })
        for (let f = 0; f < 100; f++) {
            const bytes = randomBytes(10 + 13 * f)
            total += bytes.length
            fs.writeFileSync(path.join(it.dir, `${d}/${f}.bin`), bytes)
        }
    }
    const p = await proxy(t, s)
    const tree = await it.run(p.url, 'put', it.dir)
    assert.ok(p.connections <= 9, `${p.connections} connections`)
    const first = p.up
    assert.ok(first < total + 2000 * 800, `${first} bytes for ${total}`)
    // A question and its answer for each, in one list, are all that it takes to learn that nothing is missing.
    assert.equal(await it.run(p.url, 'put', it.dir), tree)
    assert.ok(p.up - first < 2000 * 75, `${p.up - first} bytes for nothing new`)
    await it.run(p.url, 'get', tree, '-o', path.join(it.folder, 'out'))
    assert.ok(p.connections <= 19, `${p.connections} connections`)
    assert.equal(listing(path.join(it.folder, 'out')), listing(it.dir))
})

test('a tree keeps its files, until it is let go', async (t) => {
    const s = await service(t, { args: ['--blob-grace-ms', '200'] })
    const app = new App(s)
    const it = setup(t)
    fs.mkdirSync(it.dir)
    for (let i = 0; i < 5; i++) fs.writeFileSync(path.join(it.dir, `${i}`), randomBytes(20000))
    const tree = await it.run(s.url, 'put', it.dir)
    const loose = randomBytes(100)
    await app.request('PUT', `/blobs/${sha256(loose)}`, { body: loose })
    const usage = async () => (await app.request('GET', '/blob-usage')).json
    const gone = async (digest) => (await app.request('HEAD', `/blobs/${digest}`)).status === 404
    await eventually('what nobody keeps is gone', () => gone(sha256(loose)))
    await it.run(s.url, 'get', tree, '-o', path.join(it.folder, 'first'))
    assert.equal(listing(path.join(it.folder, 'first')), listing(it.dir))
    // Of two trees that share files, one goes: what the other has stays.
    const old = sha256(fs.readFileSync(path.join(it.dir, '0')))
    fs.writeFileSync(path.join(it.dir, '0'), randomBytes(20000))
    const next = await it.run(s.url, 'put', it.dir)
    assert.equal((await it.start(s.url, 'blobs', 'unpin', tree, '--tree').end()).code, 2)
    assert.equal((await it.start(s.url, 'blobs', 'unpin', tree, '--tree', '--keep', tree).end()).code, 2)
    assert.equal((await it.start(s.url, 'blobs', 'unpin', tree, '--tree', '--keep', '0'.repeat(64)).end()).code, 1)
    await it.run(s.url, 'blobs', 'unpin', tree, '--tree', '--keep', next)
    await eventually('the old one is gone', async () => (await gone(old)) && (await gone(tree)))
    const later = randomBytes(100) // a whole grace from here on
    await app.request('PUT', `/blobs/${sha256(later)}`, { body: later })
    await eventually('what came after that is gone', () => gone(sha256(later)))
    await it.run(s.url, 'get', next, '-o', path.join(it.folder, 'out'))
    assert.equal(listing(path.join(it.folder, 'out')), listing(it.dir))
    await it.run(s.url, 'blobs', 'unpin', next, '--tree', '--keep', 'none')
    await eventually('all is gone', async () => (await usage()).blobs === 0)
    // Pins of a tree that is not whole are refused.
    assert.equal(await it.run(s.url, 'put', it.dir), next)
    const one = sha256(fs.readFileSync(path.join(it.dir, '3')))
    await it.run(s.url, 'blobs', 'unpin', one)
    await eventually('one is gone', () => gone(one))
    const { code, stderr } = await it.start(s.url, 'blobs', 'pin', next, '--tree').end()
    assert.equal(code, 1)
    assert.match(stderr, /^segue: no_such_blob: /)
    assert.equal(await it.run(s.url, 'put', it.dir), next)
    await it.run(s.url, 'blobs', 'pin', next, '--tree')
})

test('sync tells what has changed, reads and sends nothing else, and trusts no time that is too young', async (t) => {
    const s = await service(t)
    const it = setup(t)
    fs.mkdirSync(path.join(it.dir, 'sub'), { recursive: true })
    const write = (name, bytes) => fs.writeFileSync(path.join(it.dir, name), bytes)
    write('big', randomBytes(12 << 20)), write('a', 'one'), write('sub/b', 'two')
    fs.symlinkSync('a', path.join(it.dir, 'l'))
    const p = await proxy(t, s)
    const sync = async () => (await it.run(p.url, 'sync', it.dir)).split('\n')
    const [first, ...rest] = (await sync()).reverse()
    assert.deepEqual(rest.reverse(), ['A a', 'A big', 'A l', 'A sub', 'A sub/b'])
    assert.equal(await it.run(p.url, 'put', it.dir), first)
    // The same size, and no later than the clock can tell.
    write('a', 'ONE')
    assert.deepEqual((await sync()).slice(0, -1), ['M a'])
    await sleep(2200)
    assert.equal((await sync()).length, 1) // now everything is known by its stamp
    // What is known is not read: a state that has another digest beside the right stamp is believed.
    const [name] = fs.readdirSync(path.join(it.folder, 'state/segue/trees')).filter((n) => !n.endsWith('.lock'))
    const state = path.join(it.folder, 'state/segue/trees', name)
    fs.writeFileSync(state, fs.readFileSync(state, 'utf8').replace(`${sha256('ONE')} a`, `${sha256('two')} a`))
    assert.deepEqual((await it.run(p.url, 'get', (await sync())[0])).split('\n')[1], `f 644 3 ${sha256('two')} a`)
    // A time that was set back is no disguise.
    const { atime, mtime } = fs.statSync(path.join(it.dir, 'a'))
    write('a', 'six')
    fs.utimesSync(path.join(it.dir, 'a'), atime, mtime)
    assert.deepEqual((await sync()).slice(0, -1), ['M a'])
    // Renamed, added, removed, another mode, another kind.
    const before = p.up
    fs.renameSync(path.join(it.dir, 'big'), path.join(it.dir, 'sub/big'))
    fs.chmodSync(path.join(it.dir, 'sub'), 0o700)
    fs.rmSync(path.join(it.dir, 'l'))
    fs.mkdirSync(path.join(it.dir, 'l'))
    write('new', 'new')
    assert.deepEqual((await sync()).slice(0, -1), ['D big', 'M l', 'A new', 'M sub', 'A sub/big'])
    assert.ok(p.up - before < 100000, `${p.up - before} bytes for a renamed file`)
    // A state that is damaged is none.
    fs.writeFileSync(state, 'segue sync 1\nnonsense')
    assert.deepEqual((await sync()).slice(0, -1), ['A a', 'A l', 'A new', 'A sub', 'A sub/b', 'A sub/big'])
    const lines = (await it.run(p.url, 'sync', it.dir, '--json')).split('\n')
    assert.deepEqual(Object.keys(JSON.parse(lines.at(-1))), ['blob', 'size'])
})

test('a row can name the tree, for everybody who follows it', async (t) => {
    const s = await service(t)
    const app = new App(s)
    const it = setup(t)
    fs.mkdirSync(it.dir)
    fs.writeFileSync(path.join(it.dir, 'a'), 'one')
    const id = '01890000-0000-7000-8000-000000000001'
    await app.schema('create table albums (title text, tree blob)')
    await app.batch([{ op: 'insert', table: 'albums', id }])
    const lines = (await it.run(s.url, 'sync', it.dir, '--link', `albums/${id}/tree`)).split('\n')
    const [row] = await app.rows('select tree from albums')
    assert.equal(row.tree.blob, lines.at(-1))
    assert.equal((await it.start(s.url, 'put', it.dir, '--link', 'albums').end()).code, 2)
    assert.equal((await it.start(s.url, 'put', path.join(it.dir, 'a'), '--link', `albums/${id}/nothing`).end()).code, 1)
})

// 40 files of 256 KiB, the last two of 9 MiB.
function fillLarge(it) {
    fs.mkdirSync(it.dir)
    for (let i = 0; i < 40; i++) fs.writeFileSync(path.join(it.dir, `${i}`), randomBytes(256 << 10))
    for (const name of ['x', 'y']) fs.writeFileSync(path.join(it.dir, name), randomBytes(9 << 20))
    return 28 << 20
}

test('a client that is killed goes on in its next run, in both directions', async (t) => {
    const s = await service(t)
    const it = setup(t)
    const size = fillLarge(it)
    const plan = []
    plan.rest = { stallUp: 5 << 20 }
    const p = await proxy(t, s, plan)
    const child = it.start(p.url, 'put', it.dir)
    await eventually('the middle', () => p.up > 12 << 20) // how many connections it opens, and so how much passes, depends on the pace
    child.signal('SIGKILL')
    await child.end()
    const before = p.up
    delete plan.rest
    const tree = await it.run(p.url, 'put', it.dir)
    assert.ok(p.up - before < size - (5 << 20), `${p.up - before} bytes in the second run`)
    const out = path.join(it.folder, 'out')
    const q = await proxy(t, s)
    const get = it.start(q.url, 'get', tree, '-o', out)
    await eventually('some of it', () => q.down > 6 << 20 || get.over)
    get.signal('SIGKILL')
    await get.end()
    const half = q.down
    await it.run(q.url, 'get', tree, '-o', out)
    assert.equal(listing(out), listing(it.dir))
    assert.ok(q.down - half < size + 100000 && fs.readdirSync(out).length === 42, `${q.down - half} bytes`)
})

test('a service that is killed in the middle is found again', async (t) => {
    const s = await service(t)
    const it = setup(t)
    fillLarge(it)
    const plan = []
    plan.rest = { stallUp: 2 << 20 }
    const p = await proxy(t, s, plan)
    const child = it.start(p.url, 'put', it.dir, '--retry', '60')
    await eventually('the middle', () => p.stalled && p.up > 8 << 20)
    await s.kill()
    delete plan.rest
    await s.start()
    const { code, stdout, stderr } = await child.end()
    assert.equal(code, 0, stderr)
    await it.run(s.url, 'get', stdout.trim(), '-o', path.join(it.folder, 'out'))
    assert.equal(listing(path.join(it.folder, 'out')), listing(it.dir))
    assert.equal((await it.start(s.url, 'blobs', 'check').end()).code, 0)
})

test('a file that changes meanwhile is an error, and no wrong tree', async (t) => {
    const s = await service(t)
    const it = setup(t)
    fillLarge(it)
    const plan = []
    plan.rest = { stallUp: 1 << 20 }
    const p = await proxy(t, s, plan)
    const child = it.start(p.url, 'put', it.dir)
    await eventually('the middle', () => p.stalled)
    fs.writeFileSync(path.join(it.dir, 'y'), randomBytes(9 << 20)) // the last one, which nobody has begun with
    p.release()
    const { code, stdout, stderr } = await child.end()
    assert.deepEqual([code, stdout], [1, ''])
    assert.equal(stderr, 'segue: digest_mismatch: y: it changed while it was being uploaded\n')
    fs.writeFileSync(path.join(it.dir, 'pipe'), '')
    assert.match(await it.run(p.url, 'put', it.dir), /^[0-9a-f]{64}$/)
})

test('what is no file is told and left out; what cannot be read is an error', async (t) => {
    const s = await service(t)
    const it = setup(t)
    fs.mkdirSync(it.dir)
    fs.writeFileSync(path.join(it.dir, 'a'), 'one')
    const alone = await it.run(s.url, 'put', it.dir)
    await new Child('mkfifo', [path.join(it.dir, 'pipe')]).end()
    const { code, stdout, stderr } = await it.start(s.url, 'put', it.dir).end()
    assert.deepEqual([code, stdout.trim(), stderr], [0, alone, 'segue: bad_value: pipe: left out, it is no file, directory or symbolic link\n'])
    for (const missing of [path.join(it.dir, 'nothing'), path.join(it.dir, 'a')]) assert.equal((await it.start(s.url, 'sync', missing).end()).code, 2)
    assert.equal((await it.start(s.url, 'put', it.dir, '--type', 'text/x').end()).code, 2)
})
