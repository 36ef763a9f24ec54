// Cells of uploads and blobs.
import { spawn } from 'node:child_process'
import { createHash, randomFillSync } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { build, diskBytes, diskRate, end, figure, folder, fresh, GIB, installed, KIB, listening, load, MIB, nginx, note, npmModules, once, segued, SETTLE_MS, sleep, start, tusServer, usage } from '../lib.mjs'

// A stage of an upload alone: its rate.
async function stage(...args) {
    const child = start(path.join(build, 'tests/bench/stages'), args.map(String))
    if (await child.ended !== 0) throw new Error(`stages ${args}: ${child.errors}`)
    return Number(/rate=(\S+)/.exec(child.text)[1])
}

export async function chunking() {
    const copy = await stage('copy'), cut = await stage('cut'), hash = await stage('hash'), both = await stage('cut_hash')
    figure('cut/limit', cut, 2, 'GB/s')
    figure('cut/memcpy', cut, copy, 'GB/s')
    figure('cut_hash/limit', both, 0.85, 'GB/s')
    figure('cut_hash/hash', both, hash, 'GB/s')
}

// A file that does not compress: its path and what names it.
function noiseFile(bytes) {
    const name = fresh('noise'), fd = fs.openSync(name, 'w'), hash = createHash('sha256')
    for (let at = 0; at < bytes; at += MIB) {
        const block = randomFillSync(Buffer.alloc(Math.min(MIB, bytes - at)))
        fs.writeSync(fd, block)
        hash.update(block)
    }
    fs.fdatasyncSync(fd) // or writing it is measured, too
    fs.closeSync(fd)
    return { name, bytes: fs.statSync(name).size, sha: hash.digest('hex') }
}

// One upload by curl, as anybody would: MB/s, and what it took of the server.
async function curl(server, file, args) {
    const before = server.pid ? usage(server.pid) : { cpu: 0 }
    const child = start('curl', ['-sS', '--fail', '-o', '/dev/null', '-w', '%{time_total} %{http_code}', ...args])
    if (await child.ended !== 0) throw new Error(`curl ${args}: ${child.errors}`)
    const seconds = Number(child.text.split(' ')[0])
    const after = server.pid ? usage(server.pid) : before
    return { rate: file.bytes / seconds / 1e6, cpu: (after.cpu - before.cpu) * GIB / file.bytes, rss: after.rss }
}

const put = (server, file) => curl(server, file, ['-T', file.name, `${server.url}/apps/default/blobs/${file.sha}`])

async function patch(server, file, create) {
    const made = await fetch(create, { method: 'POST', headers: { 'Tus-Resumable': '1.0.0', 'Upload-Length': String(file.bytes) } })
    const place = new URL(made.headers.get('location'), create).href
    return curl(server, file, ['-X', 'PATCH', '-T', file.name, '-H', 'Tus-Resumable: 1.0.0', '-H', 'Upload-Offset: 0', '-H', 'Content-Type: application/offset+octet-stream', place])
}

// What the slowest stage of an upload gives alone, all in MB/s: receiving, cutting and hashing, writing with a barrier.
async function slowestStage(file) {
    const child = start(path.join(build, 'tests/bench/stages'), ['receive', String(file.bytes)])
    const url = `http://${await listening('receive', child)}`
    await curl({}, file, ['-T', file.name, url])
    await child.ended
    const rates = { receive: Number(/rate=(\S+)/.exec(child.text)[1]), cut_hash: await stage('cut_hash') * 1000, disk: await stage('disk', folder, file.bytes) }
    note(`stages alone, MB/s: ${JSON.stringify(rates)}`)
    return Math.min(...Object.values(rates))
}

// One file over loopback, sync on. The tus server neither syncs nor hashes; nginx does not sync.
export async function upload() {
    const modules = npmModules('@tus/server'), peer = installed('nginx')
    const file = noiseFile(Number(process.env.BYTES || GIB))
    const ours = await once(segued, (s) => put(s, file))
    const tus = await once(segued, (s) => patch(s, file, `${s.url}/apps/default/uploads`))
    const stages = await slowestStage(file)
    figure('put/slowest_stage', ours.rate, stages, 'MB/s')
    figure('tus/slowest_stage', tus.rate, stages, 'MB/s')
    figure('put_cpu/limit', ours.cpu, 2.5, 's/GiB')
    figure('tus_cpu/limit', tus.cpu, 2.5, 's/GiB')
    figure('put_rss/limit', ours.rss, 64, 'MiB')
    figure('tus_rss/limit', tus.rss, 64, 'MiB')
    if (modules) {
        const theirs = await once(() => tusServer(modules), (s) => patch(s, file, `${s.url}/files`))
        figure('put/tus_server', ours.rate, theirs.rate, 'MB/s')
        figure('tus/tus_server', tus.rate, theirs.rate, 'MB/s')
        figure('tus_cpu/tus_server', tus.cpu, theirs.cpu, 's/GiB')
        figure('tus_rss/tus_server', tus.rss, theirs.rss, 'MiB')
    }
    if (peer) {
        const theirs = await once(() => nginx(peer), (s) => curl(s, file, ['-T', file.name, `${s.url}/file`]))
        figure('put/nginx', ours.rate, theirs.rate, 'MB/s')
        figure('put_cpu/nginx', ours.cpu, theirs.cpu, 's/GiB')
    }
    fs.rmSync(file.name)
}

// As many as go through in the time: 16 KiB each, from 16 connections.
export async function small_uploads() {
    const modules = npmModules('@tus/server'), peer = installed('nginx')
    const small = { bytes: 16 * KIB, connections: 16 }
    const [puts, tus] = await once(segued, async (s) => [
        await load('upload', s, small),
        await load('upload', { ...s, url: `${s.url}/apps/default/uploads` }, { kind: 'tus', ...small }),
    ])
    figure('put/disk', puts.rate, diskRate(16 * KIB), '/s')
    if (modules) {
        const theirs = await once(() => tusServer(modules), (s) => load('upload', { ...s, url: `${s.url}/files` }, { kind: 'tus', ...small }))
        figure('put/tus_server', puts.rate, theirs.rate, '/s')
        figure('tus/tus_server', tus.rate, theirs.rate, '/s')
        figure('tus_cpu/tus_server', tus.cpu_us, theirs.cpu_us, 'us')
    }
    if (!peer) return
    const theirs = await once(() => nginx(peer), (s) => load('upload', s, { kind: 'put', ...small }))
    figure('put/nginx', puts.rate, theirs.rate, '/s')
}

// What a service keeps of its files: packs and database; not the journal, which lets go of what both have.
const stored = (s) => diskBytes(path.join(s.data, 'apps/default/packs')) + diskBytes(path.join(s.data, 'apps/default/db'))

// A file of 1 GiB, and the same with 100 pieces put in at scattered places, together 10 MiB.
async function dedupInserts() {
    const bytes = Number(process.env.BYTES || GIB), inserts = 100, each = Math.floor(bytes / GIB * 10 * MIB / inserts)
    const first = noiseFile(bytes)
    const fd = fs.openSync(first.name, 'r'), step = Math.floor(bytes / inserts)
    const name = fresh('noise'), out = fs.openSync(name, 'w'), hash = createHash('sha256')
    const write = (part) => { fs.writeSync(out, part); hash.update(part) }
    for (let i = 0; i < inserts; i++) {
        const block = Buffer.alloc(i + 1 < inserts ? step : bytes - i * step), cut = Math.floor(Math.random() * block.length)
        fs.readSync(fd, block, 0, block.length, i * step)
        write(block.subarray(0, cut))
        write(randomFillSync(Buffer.alloc(each)))
        write(block.subarray(cut))
    }
    fs.closeSync(fd)
    fs.closeSync(out)
    const second = { name, bytes: fs.statSync(name).size, sha: hash.digest('hex') }
    await once(segued, async (s) => {
        await put(s, first)
        await sleep(SETTLE_MS)
        const before = stored(s)
        await put(s, second)
        await sleep(SETTLE_MS)
        const fresh = stored(s) - before
        figure('inserts_new/limit', fresh / MIB, 25 * bytes / GIB, 'MiB')
        figure('inserts_share/limit', fresh / second.bytes * 100, 3, '%')
    })
    fs.rmSync(first.name)
    fs.rmSync(name)
}

// Regular files below a folder.
function filesBelow(dir) {
    return fs.readdirSync(dir, { withFileTypes: true }).flatMap((e) => {
        const name = path.join(dir, e.name)
        return e.isDirectory() ? filesBelow(name) : e.isFile() ? [name] : []
    })
}

async function putAll(server, files) {
    const waiting = [...files]
    const one = async () => {
        for (let name; (name = waiting.pop());) {
            const body = fs.readFileSync(name)
            const sha = createHash('sha256').update(body).digest('hex')
            const answer = await fetch(`${server.url}/apps/default/blobs/${sha}`, { method: 'PUT', body, headers: { 'Content-Type': 'text/plain' } })
            if (!answer.ok) throw new Error(`${name}: ${answer.status} ${await answer.text()}`)
            await answer.arrayBuffer()
        }
    }
    await Promise.all(Array.from({ length: 16 }, one))
}

async function restic(command, repository, ...args) {
    const child = spawn(command, ['-q', '--no-cache', '-r', repository, ...args], { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, RESTIC_PASSWORD: 'bench' } })
    let errors = ''
    child.stderr.setEncoding('utf8').on('data', (s) => { errors += s })
    if (await new Promise((done) => child.on('close', done)) !== 0) throw new Error(`restic ${args}: ${errors}`)
}

// A source tree of several thousand files, the headers that any machine has that can build this; then a changed version: a line in every tenth file.
async function dedupTree() {
    const tree = fresh('tree'), command = installed('restic')
    fs.cpSync('/usr/include', tree, { recursive: true, dereference: false })
    const files = filesBelow(tree)
    const change = () => files.filter((_, i) => i % 10 === 0).forEach((name) => {
        const text = fs.readFileSync(name)
        fs.writeFileSync(name, Buffer.concat([text.subarray(0, text.length / 2), Buffer.from('\n/* another version */\n'), text.subarray(text.length / 2)]))
    })
    const ours = [], theirs = []
    const server = await segued(), repository = fresh('restic')
    const empty = stored(server)
    try {
        if (command) await restic(command, repository, 'init')
        for (let version = 0; version < 2; version++) {
            if (version > 0) change()
            await putAll(server, files)
            await sleep(SETTLE_MS)
            ours.push((stored(server) - empty) / MIB)
            if (command) await restic(command, repository, 'backup', tree)
            if (command) theirs.push(diskBytes(repository) / MIB)
        }
    } finally {
        await end(server.child)
    }
    const plain = files.reduce((sum, name) => sum + fs.statSync(name).size, 0) / MIB
    note(`${files.length} files`)
    figure('tree/plain', ours[0], plain, 'MiB')
    if (command) figure('tree/restic', ours[0], theirs[0], 'MiB')
    if (command) figure('tree_changed/restic', ours[1], theirs[1], 'MiB')
    fs.rmSync(tree, { recursive: true })
}

export async function dedup() {
    await dedupInserts()
    await dedupTree()
}

// A file that is in memory, and 4 KiB from anywhere in it.
export async function get() {
    const peer = installed('nginx'), file = noiseFile(Number(process.env.BYTES || GIB))
    const read = async (s, url) => {
        const parts = { size: file.bytes, bytes: 4 * KIB }
        return [await load('download', { ...s, url }, { size: file.bytes }), await load('get', { ...s, url }, { ...parts, connections: 16 }), await load('get', { ...s, url }, parts)]
    }
    const [whole, many, one] = await once(segued, async (s) => {
        await put(s, file)
        return read(s, `${s.url}/apps/default/blobs/${file.sha}`)
    })
    if (peer) {
        const [whole2, many2, one2] = await once(() => nginx(peer), (s) => {
            fs.linkSync(file.name, path.join(s.files, 'noise'))
            return read(s, `${s.url}/noise`)
        })
        figure('whole/nginx', whole.rate, whole2.rate, 'MB/s')
        figure('whole_cpu/nginx', whole.cpu_us / 1e6 * GIB / file.bytes, whole2.cpu_us / 1e6 * GIB / file.bytes, 's/GiB')
        figure('4KiB_16/nginx', many.rate, many2.rate, '/s')
        figure('4KiB_p50_1/nginx', one.p50_us, one2.p50_us, 'us')
    }
    fs.rmSync(file.name)
}
