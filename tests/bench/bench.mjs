// make bench: runs the cells, each beside a peer or a physical limit in the same run, and prints one line per figure:
//
//   <cell> <figure> <ours> <reference> <ratio> <unit>        figure: what/beside what; ratio: ours by reference
//
// Machines differ and days differ: only ratios of one run are worth quoting. Every figure is the median of ROUNDS rounds in which ours and
// the reference take turns. Nothing here needs the network; peers that are not installed are said to be missing.
//
//   B=build ONLY=append ROUNDS=3 SECONDS=2 node tests/bench/bench.mjs
import { spawn } from 'node:child_process'
import { createHash, randomFillSync } from 'node:crypto'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..')
const build = path.resolve(root, process.env.B || 'build')
const rounds = Number(process.env.ROUNDS || 3)
const seconds = process.env.SECONDS || '2'
const table = path.join(root, 'build/bench.tsv')
const KIB = 1024, MIB = 1024 * 1024, GIB = 1024 * MIB

// On the disk that holds the project: a temporary folder may be memory, where nothing has to be synced.
const folder = fs.mkdtempSync(path.join(build, 'bench-data-'))
const text = path.join(root, 'service/PROTOCOL.md') // words for content that has to compress as text does
const note = (text) => console.error(`# ${text}`)

// ---- processes: each is known by its id, and ended by it ----------------------------------------------------------

const running = new Set()

function start(command, args) {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    child.text = ''
    child.stdout.setEncoding('utf8').on('data', (s) => { child.text += s })
    child.stderr.setEncoding('utf8').on('data', (s) => { child.errors = (child.errors || '') + s })
    child.ended = new Promise((done) => {
        child.on('error', (e) => { child.errors = e.message; done(-1) })
        child.on('close', (code) => done(code))
    })
    running.add(child)
    child.ended.then((code) => { child.code = code; running.delete(child) })
    return child
}

async function end(child) {
    if (child.code === undefined) child.kill('SIGTERM')
    await child.ended
}

const sleep = (ms) => new Promise((done) => setTimeout(done, ms))

async function eventually(what, child, fn) {
    for (let i = 0; i < 1000; i++) {
        const got = await fn()
        if (got) return got
        if (child.code !== undefined) throw new Error(`${what} ended: ${child.errors}`)
        await sleep(10)
    }
    throw new Error(`waited in vain for ${what}`)
}

const listening = (what, child) => eventually(what, child, () => /listening on (?:http:\/\/)?(\S+)/.exec(child.text)?.[1])

async function freePort() {
    const server = net.createServer().listen(0, '127.0.0.1')
    await new Promise((done) => server.on('listening', done))
    const { port } = server.address()
    await new Promise((done) => server.close(done))
    return port
}

const answers = (port) => new Promise((done) => {
    const socket = net.connect(port, '127.0.0.1')
    socket.on('connect', () => { socket.destroy(); done(true) }).on('error', () => done(false))
})

function installed(command) {
    const places = [...(process.env.PATH || '').split(':'), '/usr/sbin']
    const found = places.map((p) => path.join(p, command)).find((p) => fs.existsSync(p))
    if (!found) note(`${command} is missing: the floor stands alone (make bench-deps installs it)`)
    return found
}

// ---- what is measured: our service, the bare server, peers ---------------------------------------------------------

let folders = 0
const fresh = (name) => path.join(folder, `${name}-${folders++}`)

async function segued() {
    const data = fresh('segue')
    const child = start(path.join(build, 'segued'), ['--dev', '--data', data, '--listen', '127.0.0.1:0', '--log-level', 'error'])
    return { child, data, url: `http://${await listening('segued', child)}`, pid: child.pid }
}

async function bare(readers = 0) {
    const child = start(path.join(build, 'tests/bench/load'), ['bare', '--dir', folder, '--readers', String(readers)])
    return { child, url: `http://${await listening('the bare server', child)}`, pid: child.pid }
}

async function redis(command) {
    const dir = fresh('redis'), port = await freePort()
    fs.mkdirSync(dir)
    const child = start(command, ['--port', String(port), '--bind', '127.0.0.1', '--dir', dir, '--appendonly', 'yes', '--appendfsync', 'always', '--save', ''])
    await eventually('redis', child, () => answers(port))
    return { child, url: `http://127.0.0.1:${port}`, pid: child.pid }
}

// The reference implementation, with files. Its package is installed by make bench-deps.
async function npmServer(modules) {
    const port = await freePort()
    const child = start(process.execPath, [path.join(root, 'tests/bench/npm_server.mjs'), modules, fresh('npm'), String(port)])
    await listening('the npm server', child)
    return { child, url: `http://127.0.0.1:${port}`, pid: child.pid }
}

// The tus project's server, with files. From the same packages.
async function tusServer(modules) {
    const port = await freePort(), data = fresh('tus')
    fs.mkdirSync(data)
    const child = start(process.execPath, [path.join(root, 'tests/bench/tus_server.mjs'), modules, data, String(port)])
    await listening('the tus server', child)
    return { child, data, url: `http://127.0.0.1:${port}`, pid: child.pid }
}

function tusModules() {
    const modules = path.join(root, 'build/bench-npm/node_modules')
    if (fs.existsSync(path.join(modules, '@tus/server'))) return modules
    note('@tus/server is missing (make bench-deps installs it)')
}

async function sendfile(bytes) {
    const child = start(path.join(build, 'tests/bench/load'), ['sendfile', '--bytes', String(bytes), '--text', text])
    return { child, url: `http://${await listening('the plain server', child)}`, pid: child.pid }
}

async function nginx(command) {
    const dir = fresh('nginx'), port = await freePort(), conf = path.join(dir, 'nginx.conf')
    fs.mkdirSync(path.join(dir, 'files'), { recursive: true })
    fs.writeFileSync(conf, `daemon off; master_process off; pid ${dir}/pid; error_log ${dir}/error.log;
        events { worker_connections 1024; }
        http { access_log off; sendfile on; client_max_body_size 0; client_body_temp_path ${dir}/tmp; proxy_temp_path ${dir}/t1; fastcgi_temp_path ${dir}/t2;
               uwsgi_temp_path ${dir}/t3; scgi_temp_path ${dir}/t4; keepalive_requests 1000000;
               server { listen 127.0.0.1:${port}; root ${dir}/files; location / { dav_methods PUT; } } }\n`)
    const child = start(command, ['-c', conf, '-p', dir, '-e', path.join(dir, 'error.log')])
    await eventually('nginx', child, () => answers(port))
    return { child, url: `http://127.0.0.1:${port}`, pid: child.pid, files: path.join(dir, 'files') }
}

// One run of the load generator: its key=value lines.
async function load(command, server, options = {}) {
    const all = { url: server.url, pid: server.pid, seconds, ...options }
    const child = start(path.join(build, 'tests/bench/load'), [command, ...Object.entries(all).flatMap(([k, v]) => [`--${k}`, String(v)])])
    if (await child.ended !== 0) throw new Error(`load ${command} ${JSON.stringify(options)}: ${child.errors}`)
    return Object.fromEntries(child.text.trim().split('\n').map((line) => {
        const at = line.indexOf('=')
        const value = line.slice(at + 1)
        return [line.slice(0, at), Number.isNaN(Number(value)) ? value : Number(value)]
    }))
}

async function once(begin, fn) {
    const server = await begin()
    try {
        return await fn(server)
    } finally {
        await end(server.child)
    }
}

// What the disk gives to plain synced writes of this size: how many a second, each written and synced by itself.
function diskRate(bytes, step = bytes) {
    const file = fresh('disk'), fd = fs.openSync(file, 'w'), block = Buffer.alloc(step, 0x61)
    const begin = process.hrtime.bigint(), limit = BigInt(Number(seconds) * 1e9)
    let done = 0
    for (; process.hrtime.bigint() - begin < limit && done * bytes < 1024 * MIB; done++) {
        for (let at = 0; at < bytes; at += step) fs.writeSync(fd, block, 0, step, done * bytes + at)
        fs.fdatasyncSync(fd)
    }
    const took = Number(process.hrtime.bigint() - begin) / 1e9
    fs.closeSync(fd)
    fs.rmSync(file)
    return done / took
}

// Tokens into a plain file or SQLite, in a process of their own: key=value lines.
async function plain(kind, streams, rate, bytes) {
    const dir = fresh(kind)
    fs.mkdirSync(dir)
    const child = start(path.join(build, 'tests/bench/plain'), [kind, dir, streams, rate, seconds, bytes].map(String))
    if (await child.ended !== 0) throw new Error(`plain ${kind}: ${child.errors}`)
    fs.rmSync(dir, { recursive: true })
    return Object.fromEntries(child.text.trim().split('\n').map((line) => line.split('=')))
}

async function metric(server, name) {
    const body = await (await fetch(`${server.url}/metrics`)).text()
    return Number(new RegExp(`^${name}\\{[^}]*\\} (\\S+)`, 'm').exec(body)?.[1] ?? NaN)
}

// Bytes that a folder takes on the disk.
function diskBytes(dir) {
    return fs.readdirSync(dir, { withFileTypes: true }).reduce((sum, e) => {
        const name = path.join(dir, e.name)
        return sum + (e.isDirectory() ? diskBytes(name) : fs.statSync(name).blocks * 512)
    }, 0)
}

// ---- figures: collected over the rounds -----------------------------------------------------------------------------

let figures

function figure(name, ours, reference, unit) {
    if (!figures.has(name)) figures.set(name, { ours: [], reference: [], unit })
    const f = figures.get(name)
    f.ours.push(ours)
    f.reference.push(reference)
}

const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)]
const short = (x) => (x >= 100 ? x.toFixed(0) : x >= 1 ? x.toFixed(2) : x.toPrecision(3))

function lines(cell) {
    return [...figures].map(([name, f]) => {
        // Rounds differ by more than ours and the reference do within one: the ratio is taken in each.
        const ratio = median(f.ours.map((x, i) => x / f.reference[i]))
        return [cell, name, short(median(f.ours)), short(median(f.reference)), ratio.toFixed(2), f.unit].join('\t')
    })
}

// ---- the cells ------------------------------------------------------------------------------------------------------

async function append() {
    const peer = installed('redis-server')
    const many = { connections: 64 }
    const floor1 = await once(bare, (s) => load('append', s, { kind: 'bare' }))
    const floor64 = await once(bare, (s) => load('append', s, { kind: 'bare', ...many }))
    const [ours1, ours64] = await once(segued, async (s) => [await load('append', s), await load('append', s, many)])
    figure('p50_1/floor', ours1.p50_us, floor1.p50_us, 'us')
    figure('p99_1/floor', ours1.p99_us, floor1.p99_us, 'us')
    figure('rate_64/floor', ours64.rate, floor64.rate, '/s')
    figure('rate_64/rate_1', ours64.rate, ours1.rate, '/s')
    figure('floor_64/floor_1', floor64.rate, floor1.rate, '/s')
    const modules = path.join(root, 'build/bench-npm/node_modules')
    if (fs.existsSync(path.join(modules, '@durable-streams/server'))) {
        const npm64 = await once(() => npmServer(modules), (s) => load('append', s, many))
        figure('rate_64/npm', ours64.rate, npm64.rate, '/s')
    } else {
        note('@durable-streams/server is missing (make bench-deps installs it)')
    }
    if (!peer) return
    const [peer1, peer64] = await once(() => redis(peer), async (s) => [await load('append', s, { kind: 'redis' }), await load('append', s, { kind: 'redis', ...many })])
    figure('p50_1/redis', ours1.p50_us, peer1.p50_us, 'us')
    figure('rate_64/redis', ours64.rate, peer64.rate, '/s')
    figure('cpu_64/redis', ours64.cpu_us, peer64.cpu_us, 'us')
}

// One connection that does not wait. The limit is what we ask of ourselves.
async function append_pipelined() {
    const peer = installed('redis-server')
    const flow = { kind: 'ws', rate: 0, text }
    const ours = await once(segued, (s) => load('pipeline', s, flow))
    figure('rate/limit', ours.rate, 250000, '/s')
    if (!peer) return
    const theirs = await once(() => redis(peer), (s) => load('pipeline', s, { ...flow, kind: 'redis' }))
    figure('rate/redis', ours.rate, theirs.rate, '/s')
    figure('cpu/redis', ours.cpu_us, theirs.cpu_us, 'us')
}

const SETTLE_MS = 6000 // until quiet streams are sealed, the database is written and the journal has let go

// One token of 4 bytes an append, 100 a second into each stream: what it takes of the disk, and what else would.
async function tokens() {
    for (const streams of [1, 100, 10000]) {
        const ours = await once(segued, async (s) => {
            const app = path.join(s.data, 'apps/default')
            const kept = () => diskBytes(path.join(app, 'streams')) + diskBytes(path.join(app, 'db'))
            const empty = kept()
            const run = await load('pipeline', s, { kind: 'ws', bytes: 4, streams, rate: 100, text, seconds: Number(seconds) * 3 })
            const commits = await metric(s, 'segue_commits_total'), journal = await metric(s, 'segue_group_bytes_total')
            await sleep(SETTLE_MS)
            return { rate: run.rate, journal: journal / commits, sealed: (kept() - empty) / commits, live: await metric(s, 'segue_journal_live_bytes') }
        })
        figure(`journal_${streams}/limit`, ours.journal, 48, 'B')
        figure(`journal_kept_${streams}/segment`, ours.live / MIB, 32, 'MiB')
        figure(`sealed_${streams}/limit`, ours.sealed, 2.5, 'B')
        figure(`rate_${streams}/wanted`, ours.rate, streams * 100, '/s')
        for (const kind of ['log', 'sqlite']) {
            const theirs = await plain(kind, streams, 100, 4)
            if (theirs.skip) continue
            figure(`journal_${streams}/${kind}`, ours.journal, Number(theirs.written), 'B')
            figure(`rate_${streams}/${kind}`, ours.rate, Number(theirs.rate), '/s')
        }
    }
}

// Ten tokens a second into each of 10,000 streams, each followed by a connection of its own, for a minute.
async function tails() {
    const crowd = { kind: 'ws', bytes: 4, streams: 10000, readers: 10000, text }
    const ours = await once(segued, (s) => load('pipeline', s, { ...crowd, rate: 10, seconds: process.env.SECONDS || 60 }))
    figure('rate/wanted', ours.rate, 100000, '/s')
    figure('ack_p99/second', ours.p99_us / 1e3, 1000, 'ms')
    figure('behind/second', ours.behind_ms, 1000, 'ms')
    const most = await once(segued, (s) => load('pipeline', s, { ...crowd, rate: 100 }))
    figure('most/wanted', most.rate, 100000, '/s')
    figure('most_cpu/core', most.cpu_us * most.rate / 1e6, 1, 'cores')
}

async function catchup() {
    for (const [name, bytes] of [['10MiB', 10 * MIB], ['100MB', 100e6]]) {
        const ours = await once(segued, (s) => load('catchup', s, { bytes, text }))
        const floor = await once(() => sendfile(bytes), (s) => load('catchup', s, { kind: 'sendfile', bytes }))
        figure(`${name}/sendfile`, ours.rate, floor.rate, 'MB/s')
    }
}

// At a rate: how late each message is. Saturated, by eight writers that append again when they are answered: how many reach their readers in all;
// what the bare server hands out then, a frame for each message and reader, is what the machine gives to one who does not coalesce.
async function fanout() {
    const crowd = { readers: 1000 }, loads = { 50: { rate: 50 }, 250: { rate: 250 }, all: { rate: 0, connections: 8 } }
    for (const [name, how] of Object.entries(loads)) {
        const floor = await once(() => bare(crowd.readers), (s) => load('fanout', s, { kind: 'bare', ...crowd, ...how, connections: 1 }))
        for (const kind of ['ds', 'sse', 'ws']) {
            const ours = await once(segued, (s) => load('fanout', s, { kind, ...crowd, ...how }))
            if (name === 'all') figure(`${kind}_saturated/floor`, ours.rate, floor.rate, '/s')
            if (name === 'all') continue
            figure(`${kind}_${name}_p50/floor`, ours.p50_us / 1e3, floor.p50_us / 1e3, 'ms')
            figure(`${kind}_${name}_p99/floor`, ours.p99_us / 1e3, floor.p99_us / 1e3, 'ms')
            figure(`${kind}_${name}_cpu/floor`, ours.cpu_us, floor.cpu_us, 'us')
        }
    }
}

async function batch() {
    const floor = await once(bare, (s) => load('append', s, { kind: 'bare' }))
    const [one, many, large] = await once(segued, async (s) => [await load('batch', s), await load('batch', s, { connections: 64 }), await load('batch', s, { connections: 16, ops: 100 })])
    figure('p50_1/floor', one.p50_us, floor.p50_us, 'us')
    figure('rows_64x1/rows_1x1', many.rate, one.rate, 'rows/s')
    figure('rows_16x100/rows_64x1', large.rate * 100, many.rate, 'rows/s')
}

// ---- rows beside SQLite, which writes its log ahead, syncs each commit and has the same table and index ----

// Rows kept by an app's engine or by SQLite, in a process of their own: key=value lines.
async function rowsIn(kind, { rows, batch, ahead = 1, change = 'none' }) {
    const dir = fresh(kind)
    fs.mkdirSync(dir)
    const child = start(path.join(build, 'tests/bench/rows'), [kind, dir, rows, batch, ahead, change].map(String))
    if (await child.ended !== 0) throw new Error(`rows ${kind}: ${child.errors}`)
    fs.rmSync(dir, { recursive: true })
    const got = Object.fromEntries(child.text.trim().split('\n').map((line) => line.split('=')))
    if (got.skip) note(`${got.skip} (make bench-deps installs it)`)
    return got.skip ? undefined : Object.fromEntries(Object.entries(got).map(([k, v]) => [k, Number(v)]))
}

const BODY = 72 // bytes: with an id and three numbers a row of 100
const ROWS = Number(process.env.ROWS || 200000)

// Batches of 1,000: from inside the process one at a time, as SQLite's, and four that share a barrier; then by four connections.
async function rows() {
    const size = { rows: ROWS, batch: 1000, change: 'n' }, wire = { bytes: BODY, ops: 1000, connections: 4, window: 1 }
    const ours = await rowsIn('ours', size), sqlite = await rowsIn('sqlite', size)
    const together = await rowsIn('ours', { ...size, ahead: 4 })
    const [http, ws] = await once(segued, async (s) => [await load('rows', s, { kind: 'http', ...wire }), await load('rows', s, { kind: 'ws', ...wire })])
    figure('insert/limit', ours.insert_rate, 100000, '/s')
    if (!sqlite) return
    figure('insert/sqlite', ours.insert_rate, sqlite.insert_rate, '/s')
    figure('insert_4/sqlite', together.insert_rate, sqlite.insert_rate, '/s')
    figure('insert_cpu/sqlite', ours.insert_us, sqlite.insert_us, 'us')
    figure('update/sqlite', ours.change_rate, sqlite.change_rate, '/s')
    figure('update_4/sqlite', together.change_rate, sqlite.change_rate, '/s')
    figure('update_cpu/sqlite', ours.change_us, sqlite.change_us, 'us')
    figure('http_4/sqlite', http.rate, sqlite.insert_rate, '/s')
    figure('ws_4/sqlite', ws.rate, sqlite.insert_rate, '/s')
}

// Batches of one row: of 64 connections that wait for each, and of 8 that do not.
async function single_rows() {
    const one = { bytes: BODY, ops: 1, connections: 64, window: 1 }
    const sqlite = await rowsIn('sqlite', { rows: 10000, batch: 1 })
    const http = await once(segued, (s) => load('rows', s, { kind: 'http', ...one }))
    const ws = await once(segued, (s) => load('rows', s, { kind: 'ws', ...one }))
    const flow = await once(segued, (s) => load('rows', s, { kind: 'ws', ...one, connections: 8, window: 512 }))
    figure('ws_pipelined/limit', flow.rate, 40000, '/s')
    figure('ws_pipelined_cpu/limit', flow.cpu_us, 25, 'us')
    if (!sqlite) return
    figure('http_64/sqlite', http.rate, sqlite.insert_rate, '/s')
    figure('ws_64/sqlite', ws.rate, sqlite.insert_rate, '/s')
    figure('ws_pipelined/sqlite', flow.rate, sqlite.insert_rate, '/s')
}

// The same 10,000 rows as one batch and as 10,000. `book` is what is there for batches, not for what is in their rows.
async function one_fate() {
    const many = 10000
    const wire = (ops, window) => once(segued, async (s) => {
        const run = await load('rows', s, { kind: 'ws', bytes: BODY, ops, count: many / ops, window })
        return { ms: run.took_ms, all: run.out_bytes + run.in_bytes, book: run.out_bytes + run.in_bytes - run.ops_bytes }
    })
    const one = await wire(many, 1), each = await wire(1, 1024)
    const oneKept = await rowsIn('ours', { rows: many, batch: many }), eachKept = await rowsIn('ours', { rows: many, batch: 1, ahead: 64 })
    figure('time/batches', one.ms, each.ms, 'ms')
    figure('wire/batches', one.all / KIB, each.all / KIB, 'KiB')
    figure('wire_book/batches', one.book / KIB, each.book / KIB, 'KiB')
    figure('journal/batches', oneKept.journal * many / KIB, eachKept.journal * many / KIB, 'KiB')
    figure('database/batches', oneKept.insert_bytes * many / KIB, eachKept.insert_bytes * many / KIB, 'KiB')
    figure('disk_book/batches', oneKept.book * many / KIB, eachKept.book * many / KIB, 'KiB')
}

// Bytes of a row with an index: as it was made, and behind one change: of a number, of a column of the index, of its text; ours with both versions.
async function space() {
    const size = { rows: ROWS, batch: 1000 }
    for (const change of ['state', 'n', 'body']) {
        const ours = await rowsIn('ours', { ...size, change })
        note(`${change}: ${JSON.stringify(Object.fromEntries(['rows', 'row_index', 'row_history', 'row_commits'].map((k) => [k, ours[k]])))}`)
        for (const kind of ['sqlite', 'sqlite_rowid']) {
            const theirs = await rowsIn(kind, { ...size, change })
            if (!theirs) return
            if (change === 'state') figure(`made/${kind}`, ours.insert_bytes, theirs.insert_bytes, 'B')
            figure(`changed_${change}/${kind}`, ours.change_bytes, theirs.change_bytes, 'B')
        }
    }
}

// ---- files ----

// A stage of an upload alone: its rate.
async function stage(...args) {
    const child = start(path.join(build, 'tests/bench/stages'), args.map(String))
    if (await child.ended !== 0) throw new Error(`stages ${args}: ${child.errors}`)
    return Number(/rate=(\S+)/.exec(child.text)[1])
}

async function chunking() {
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

function usage(pid) {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ')
    const peak = /VmHWM:\s+(\d+)/.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))[1]
    return { cpu: (Number(stat[11]) + Number(stat[12])) / 100, rss: Number(peak) / 1024 }
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
async function upload() {
    const modules = tusModules(), peer = installed('nginx')
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
async function small_uploads() {
    const modules = tusModules(), peer = installed('nginx')
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

async function dedup() {
    await dedupInserts()
    await dedupTree()
}

// A file that is in memory, and 4 KiB from anywhere in it.
async function get() {
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

// Reads from inside a process, beside half of what SQLite does over the same rows and indexes.
async function reads() {
    const program = path.join(build, 'tests/bench/reads'), place = fresh('reads')
    if (!fs.existsSync(program)) return note('reads: libsqlite3-dev is missing')
    fs.mkdirSync(place)
    const child = start(program, [place, process.env.ROWS || '1000000'])
    if (await child.ended !== 0) throw new Error(`reads: ${child.errors}`)
    for (const [, name, ours, theirs] of child.text.matchAll(/name=(\S+) rate=(\d+) sqlite=(\d+)/g))
        figure(`${name}/half_of_sqlite`, Number(ours), Number(theirs) / 2, '/s')
    fs.rmSync(place, { recursive: true })
}

async function idle() {
    for (const kind of ['sse', 'ws']) {
        const ours = await once(segued, (s) => load('idle', s, { kind, readers: 10000 }))
        if (ours.skip) {
            note(`idle ${kind}: ${ours.skip}`)
            continue
        }
        if (kind === 'sse') figure('process/limit', ours.process_kib, 20 * KIB, 'KiB')
        figure(`${kind}_subscriber/limit`, ours.subscriber_bytes, 16 * KIB, 'B')
    }
}

// ---- running ----------------------------------------------------------------------------------------------------------

const cells = { append, append_pipelined, tokens, tails, catchup, fanout, batch, rows, single_rows, one_fate, reads, space, chunking, upload, small_uploads, dedup, get, idle }
const ONCE = ['idle', 'reads', 'tokens', 'tails', 'dedup', 'space'] // long, and of bytes more than of time

function wanted() {
    const only = process.env.ONLY
    if (!only) return Object.keys(cells)
    if (!cells[only]) throw new Error(`there is no cell ${only}: ${Object.keys(cells).join(' ')}`)
    return [only]
}

// The table keeps the figures of cells that were not run now.
function keep(cell, made) {
    const old = fs.existsSync(table) ? fs.readFileSync(table, 'utf8').split('\n').filter((line) => line && !line.startsWith(`${cell}\t`)) : []
    fs.writeFileSync(table, [...old, ...made].join('\n') + '\n')
}

async function run() {
    for (const cell of wanted()) {
        figures = new Map()
        for (let i = 0; i < (ONCE.includes(cell) ? 1 : rounds); i++) await cells[cell]()
        const made = lines(cell)
        for (const line of made) console.log(line.replaceAll('\t', ' '))
        keep(cell, made)
    }
}

try {
    await run()
} catch (e) {
    console.error(e.message)
    process.exitCode = 1
} finally {
    await Promise.all([...running].map(end))
    fs.rmSync(folder, { recursive: true, force: true })
}
