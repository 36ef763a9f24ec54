// A real `segued` for one test: its own temporary folder, a free port, gone when the test is over.
//
//   const s = await service(t)            started, ended with SIGTERM behind the test, which must end it with status 0
//   await s.kill(); await s.start()       kill -9, and again on the same data and port
//
// SEGUED and SEGUE name the binaries, so that the sanitizer builds run the same tests; SEGUED_ARGS are flags for every service (--barrier thread).
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../..')
export const SEGUED = path.resolve(process.env.SEGUED || path.join(root, 'build/segued'))
export const SEGUE = path.resolve(process.env.SEGUE || path.join(root, 'build/segue'))

// Generous: a loaded machine with a sanitizer is slow, and a wait that is met costs nothing.
export const PATIENCE_MS = Number(process.env.PATIENCE_MS || 60000)

const everywhere = (process.env.SEGUED_ARGS || '').split(' ').filter(Boolean)

const sanitizer = fs.existsSync(SEGUED) ? /=> (\S*\/lib([at])san\S*)/.exec(execFileSync('ldd', [SEGUED], { encoding: 'utf8' })) : null

// A sanitizer keeps its own books about every byte: bounds on memory are that much wider.
export const memoryFactor = sanitizer ? 5 : 1

// What LD_PRELOAD has to say so that `library` stands between segued and libc. A sanitizer's runtime insists on being first, and
// then calls on to the next: to the library.
export function preload(library) {
    return sanitizer ? `${sanitizer[1]}:${library}` : library
}

export function tempFolder(t) {
    const folder = fs.mkdtempSync(path.join(process.env.TMPDIR || os.tmpdir(), 'segue-e2e-'))
    if (t) t.after(() => fs.rmSync(folder, { recursive: true, force: true }))
    return folder
}

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms))

// Waits for `fn` to give something true, looking every few milliseconds.
export async function eventually(what, fn, ms = PATIENCE_MS) {
    const end = Date.now() + ms
    for (;;) {
        const got = await fn()
        if (got) return got
        if (Date.now() > end) assert.fail(`waited ${ms} ms in vain: ${what}`)
        await sleep(10)
    }
}

export function within(promise, what, ms = PATIENCE_MS) {
    let timer
    const late = new Promise((_, fail) => { timer = setTimeout(() => fail(new Error(`waited ${ms} ms in vain: ${what}`)), ms) })
    return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

// A test that is called off takes its children along.
const living = new Set()
process.on('exit', () => { for (const child of living) child.kill('SIGKILL') })
for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => process.exit(1))

// A child process whose output is kept: {code, signal, stdout, stderr} once it has ended.
export class Child {
    constructor(command, args, options = {}) {
        this.stdout = ''
        this.stderr = ''
        this.over = false
        this.process = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], ...options })
        living.add(this.process)
        this.process.stdin.on('error', () => {})
        this.process.stdout.setEncoding('utf8').on('data', (s) => { this.stdout += s })
        this.process.stderr.setEncoding('utf8').on('data', (s) => { this.stderr += s })
        this.ended = new Promise((done, fail) => {
            this.process.on('error', fail)
            this.process.on('close', (code, signal) => {
                this.over = true
                living.delete(this.process)
                done({ code, signal, stdout: this.stdout, stderr: this.stderr })
            })
        })
        this.ended.catch(() => {})
    }

    get pid() { return this.process.pid }
    signal(name) { this.process.kill(name) }
    end() { return within(this.ended, `the end of ${this.process.spawnargs.join(' ')}\n${this.stderr}`) }
}

export class Service {
    // `dev: false` asks for keys; `args` are further flags; `env` further environment (a preloaded library); `data` a folder of the test's own, which it removes behind the
    // service: what is to happen after a test happens in the order in which it was asked for.
    constructor(options = {}) {
        this.options = { dev: true, args: [], env: {}, ...options }
        this.data = options.data || tempFolder()
        this.ownsData = !options.data
        this.port = 0
        this.stderr = ''
    }

    get url() { return `http://127.0.0.1:${this.port}` }
    get pid() { return this.child.pid }
    get running() { return this.child !== undefined && !this.child.over }

    async start(env = {}) {
        // Freed memory that a sanitizer keeps for a while is not what tests of memory ask about.
        const args = ['--data', this.data, '--listen', `127.0.0.1:${this.port}`, ...(this.options.dev ? ['--dev'] : []), ...everywhere, ...this.options.args]
        this.child = new Child(SEGUED, args, { env: { ASAN_OPTIONS: 'quarantine_size_mb=4', ...process.env, ...this.options.env, ...env } })
        this.asked = false // to end
        const child = this.child
        const said = eventually('listening on …', () => /listening on http:\/\/[^:\s]+:(\d+)/.exec(child.stdout) || (child.over && 'over'))
        const hit = await Promise.race([said, child.ended.then(() => 'over')])
        const again = hit === 'over' && /listening on http:\/\/[^:\s]+:(\d+)/.exec(child.stdout)
        if (hit === 'over' && !again) assert.fail(`segued did not start:\n${child.stdout}${child.stderr}`)
        this.port = Number((again || hit)[1])
        return this
    }

    // kill -9, at once.
    async kill() {
        if (!this.running) return
        this.asked = true
        this.child.signal('SIGKILL')
        await this.child.end()
        this.#checkStderr()
    }

    // SIGTERM; gives the exit status back.
    async stop() {
        if (!this.running) return this.child?.process.exitCode
        this.asked = true
        this.child.signal('SIGTERM')
        const { code, signal } = await this.child.end()
        this.#checkStderr()
        return signal || code
    }

    // A sanitizer's report or a failed assertion is a failure of whatever test met it.
    #checkStderr() {
        const report = /(Sanitizer|runtime error:|Assertion .* failed|bug:)[^]*/.exec(this.child.stderr)
        assert.equal(report && report[0].slice(0, 4000), null)
    }

    // Behind a test: no process, no folder.
    async end() {
        try {
            if (this.child?.over && !this.asked) assert.fail(`segued went away by itself:\n${this.child.stderr.slice(-6000)}`)
            if (this.running) assert.equal(await this.stop(), 0, `segued ended badly:\n${this.child.stderr.slice(-4000)}`)
            else if (this.child) this.#checkStderr()
        } finally {
            if (this.running) this.child.signal('SIGKILL')
            if (this.ownsData) fs.rmSync(this.data, { recursive: true, force: true })
        }
    }

    // Resident memory of the process, in bytes.
    rss() {
        const status = fs.readFileSync(`/proc/${this.pid}/status`, 'utf8')
        return 1024 * Number(/VmRSS:\s+(\d+)/.exec(status)[1])
    }
}

export async function service(t, options) {
    const s = new Service(options)
    t.after(() => s.end())
    return s.start()
}

// Runs the command line client to its end.
export function segue(s, args, input = '', env = {}) {
    const child = new Child(SEGUE, args, { env: { ...process.env, SEGUE_URL: s.url, ...env } })
    child.process.stdin.end(input)
    return child.end()
}
