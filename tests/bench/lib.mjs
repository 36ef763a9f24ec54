// What all cells need: processes that are started and ended, what is measured and beside what, figures.
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..')
export const build = path.resolve(root, process.env.B || 'build')
export const seconds = process.env.SECONDS || '2'
export const KIB = 1024, MIB = 1024 * 1024, GIB = 1024 * MIB

// On the disk that holds the project: a temporary folder may be memory, where nothing has to be synced.
export const folder = fs.mkdtempSync(path.join(build, 'bench-data-'))
export const text = path.join(root, 'service/PROTOCOL.md') // words for content that has to compress as text does
export const note = (text) => console.error(`# ${text}`)

// ---- processes: each is known by its id, and ended by it ----------------------------------------------------------

export const running = new Set()

export function start(command, args, options = {}) {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options })
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

export async function end(child) {
    if (child.code === undefined) child.kill('SIGTERM')
    await child.ended
}

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms))

export async function eventually(what, child, fn) {
    for (let i = 0; i < 1000; i++) {
        const got = await fn()
        if (got) return got
        if (child.code !== undefined) throw new Error(`${what} ended: ${child.errors}`)
        await sleep(10)
    }
    throw new Error(`waited in vain for ${what}`)
}

export const listening = (what, child) => eventually(what, child, () => /listening on (?:http:\/\/)?(\S+)/.exec(child.text)?.[1])

export async function freePort() {
    const server = net.createServer().listen(0, '127.0.0.1')
    await new Promise((done) => server.on('listening', done))
    const { port } = server.address()
    await new Promise((done) => server.close(done))
    return port
}

export const answers = (port) => new Promise((done) => {
    const socket = net.connect(port, '127.0.0.1')
    socket.on('connect', () => { socket.destroy(); done(true) }).on('error', () => done(false))
})

export function installed(command) {
    const places = [...(process.env.PATH || '').split(':'), '/usr/sbin']
    const found = places.map((p) => path.join(p, command)).find((p) => fs.existsSync(p))
    if (!found) note(`${command} is missing: the floor stands alone (make bench-deps installs it)`)
    return found
}

// ---- what is measured: our service, the bare server, peers ---------------------------------------------------------

let folders = 0
export const fresh = (name) => path.join(folder, `${name}-${folders++}`)

export async function segued(args = [], env = {}) {
    const data = fresh('segue')
    const child = start(path.join(build, 'segued'), ['--dev', '--data', data, '--listen', '127.0.0.1:0', '--log-level', 'error', ...args], { env: { ...process.env, ...env } })
    return { child, data, url: `http://${await listening('segued', child)}`, pid: child.pid }
}

export async function bare(readers = 0) {
    const child = start(path.join(build, 'tests/bench/load'), ['bare', '--dir', folder, '--readers', String(readers)])
    return { child, url: `http://${await listening('the bare server', child)}`, pid: child.pid }
}

export async function redis(command) {
    const dir = fresh('redis'), port = await freePort()
    fs.mkdirSync(dir)
    const child = start(command, ['--port', String(port), '--bind', '127.0.0.1', '--dir', dir, '--appendonly', 'yes', '--appendfsync', 'always', '--save', ''])
    await eventually('redis', child, () => answers(port))
    return { child, url: `http://127.0.0.1:${port}`, pid: child.pid }
}

// The reference implementation, with files. Its package is installed by make bench-deps.
export async function npmServer(modules) {
    const port = await freePort()
    const child = start(process.execPath, [path.join(root, 'tests/bench/peers/durable_streams.mjs'), modules, fresh('npm'), String(port)])
    await listening('the npm server', child)
    return { child, url: `http://127.0.0.1:${port}`, pid: child.pid }
}

// The tus project's server, with files. From the same packages.
export async function tusServer(modules) {
    const port = await freePort(), data = fresh('tus')
    fs.mkdirSync(data)
    const child = start(process.execPath, [path.join(root, 'tests/bench/peers/tus.mjs'), modules, data, String(port)])
    await listening('the tus server', child)
    return { child, data, url: `http://127.0.0.1:${port}`, pid: child.pid }
}

// Where packages from npm are if this one is among them, or undefined, with a note.
export function npmModules(name) {
    const modules = path.join(root, 'build/bench-npm/node_modules')
    if (fs.existsSync(path.join(modules, name))) return modules
    note(`${name} is missing (make bench-deps installs it)`)
}

export async function sendfile(bytes) {
    const child = start(path.join(build, 'tests/bench/load'), ['sendfile', '--bytes', String(bytes), '--text', text])
    return { child, url: `http://${await listening('the plain server', child)}`, pid: child.pid }
}

export async function nginx(command) {
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
export async function load(command, server, options = {}) {
    const all = { url: server.url, pid: server.pid, seconds, ...options }
    const child = start(path.join(build, 'tests/bench/load'), [command, ...Object.entries(all).flatMap(([k, v]) => [`--${k}`, String(v)])])
    if (await child.ended !== 0) throw new Error(`load ${command} ${JSON.stringify(options)}: ${child.errors}`)
    return Object.fromEntries(child.text.trim().split('\n').map((line) => {
        const at = line.indexOf('=')
        const value = line.slice(at + 1)
        return [line.slice(0, at), Number.isNaN(Number(value)) ? value : Number(value)]
    }))
}

export async function once(begin, fn) {
    const server = await begin()
    try {
        return await fn(server)
    } finally {
        await end(server.child)
    }
}

// What the disk gives to plain synced writes of this size: how many a second, each written and synced by itself.
export function diskRate(bytes, step = bytes) {
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
export async function plain(kind, streams, rate, bytes) {
    const dir = fresh(kind)
    fs.mkdirSync(dir)
    const child = start(path.join(build, 'tests/bench/plain'), [kind, dir, streams, rate, seconds, bytes].map(String))
    if (await child.ended !== 0) throw new Error(`plain ${kind}: ${child.errors}`)
    fs.rmSync(dir, { recursive: true })
    return Object.fromEntries(child.text.trim().split('\n').map((line) => line.split('=')))
}

export async function metric(server, name) {
    const body = await (await fetch(`${server.url}/metrics`)).text()
    return Number(new RegExp(`^${name}\\{[^}]*\\} (\\S+)`, 'm').exec(body)?.[1] ?? NaN)
}

// Bytes that a folder takes on the disk.
export function diskBytes(dir) {
    return fs.readdirSync(dir, { withFileTypes: true }).reduce((sum, e) => {
        const name = path.join(dir, e.name)
        return sum + (e.isDirectory() ? diskBytes(name) : fs.statSync(name).blocks * 512)
    }, 0)
}

// ---- figures: collected over the rounds -----------------------------------------------------------------------------

let figures

export function begin() {
    figures = new Map()
}

export function figure(name, ours, reference, unit) {
    if (!figures.has(name)) figures.set(name, { ours: [], reference: [], unit })
    const f = figures.get(name)
    f.ours.push(ours)
    f.reference.push(reference)
}

const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)]
const short = (x) => (x >= 100 ? x.toFixed(0) : x >= 1 ? x.toFixed(2) : x.toPrecision(3))

export function lines(cell) {
    return [...figures].map(([name, f]) => {
        // Rounds differ by more than ours and the reference do within one: the ratio is taken in each.
        const ratio = median(f.ours.map((x, i) => x / f.reference[i]))
        return [cell, name, short(median(f.ours)), short(median(f.reference)), ratio.toFixed(2), f.unit].join('\t')
    })
}

export const SETTLE_MS = 6000 // until quiet streams are sealed, the database is written and the journal has let go

export function usage(pid) {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ')
    const peak = /VmHWM:\s+(\d+)/.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))[1]
    return { cpu: (Number(stat[11]) + Number(stat[12])) / 100, rss: Number(peak) / 1024 }
}
