// The Durable Streams conformance suite: first on a fresh folder; then again on that folder, where the service is killed with -9 in the middle; then a
// last time on what the kill left. All that the first run wrote has to read byte for byte as before the kill, and what the killed run wrote has to
// read at least as far as it was read just before.
//
//   node tests/conformance/conformance.mjs            (SEGUED names the binary; ONLY=pattern runs those tests alone, once)
//
// The suite talks through a proxy that passes bytes on untouched and notes which streams are created: so what is compared is what the suite made.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { request } from '../e2e/lib/http.mjs'
import { Child, Service, eventually, root, tempFolder } from '../e2e/lib/service.mjs'

const HERE = path.join(root, 'tests/conformance')
const TESTS = 338 // of version 0.3.6, with subscriptions: fewer are not all
const LONG_POLL_MS = 500
const STREAMS_BEFORE_KILL = 150
const SUITE_MS = 600000

// ---- the proxy ---------------------------------------------------------------------------------------------------

class Proxy {
    constructor(s) {
        this.s = s
        this.created = new Set()
        this.server = net.createServer({ allowHalfOpen: true }, (client) => this.#connect(client))
    }

    async listen() {
        await new Promise((done) => this.server.listen(0, '127.0.0.1', done))
        this.url = `http://127.0.0.1:${this.server.address().port}`
        return this
    }

    #connect(client) {
        const service = net.connect({ port: this.s.port, host: '127.0.0.1', allowHalfOpen: true })
        client.on('data', (bytes) => {
            const line = /^PUT (\/apps\/\S+\/v1\/stream\/\S+) HTTP/.exec(bytes.toString('latin1'))
            if (line && !line[1].includes('/__ds/')) this.created.add(line[1])
        })
        for (const [from, to] of [[client, service], [service, client]]) {
            from.pipe(to)
            from.on('error', () => to.destroy())
            from.on('close', () => from.errored && to.destroy())
        }
    }

    // The paths created since the last call.
    take() {
        const paths = [...this.created]
        this.created.clear()
        return paths
    }

    close() { this.server.close() }
}

// ---- what streams hold -------------------------------------------------------------------------------------------

// All of a stream: what HEAD says of it and its bytes. Null: it is not there (deleted, expired).
async function contentOf(s, url) {
    const head = await request(s, 'HEAD', url)
    if (head.status !== 200) return null
    // What expires does so by the clock, whatever the kill does.
    if (head.headers['stream-ttl'] || head.headers['stream-expires-at']) return null
    const pieces = []
    for (let at = '-1'; ;) {
        const reply = await request(s, 'GET', `${url}?offset=${at}`)
        if (reply.status === 404 || reply.status === 410) return null // by its test, just now
        assert.equal(reply.status, 200, `${url}: ${reply.text}`)
        pieces.push(reply.body)
        at = reply.headers['stream-next-offset']
        if (reply.headers['stream-up-to-date'] === 'true') break
    }
    return { type: head.headers['content-type'], closed: head.headers['stream-closed'], next: head.headers['stream-next-offset'], body: Buffer.concat(pieces) }
}

async function contents(s, urls) {
    const found = new Map()
    for (const url of urls) {
        const content = await contentOf(s, url)
        if (content) found.set(url, content)
    }
    return found
}

async function assertSame(s, before, what) {
    for (const [url, content] of before) assert.deepEqual(await contentOf(s, url), content, `${url} is not what it was ${what}`)
}

// Streams that were being written may be longer, never shorter and never other; of an array of messages the end bracket is no content.
async function assertGrown(s, before) {
    for (const [url, content] of before) {
        const now = await contentOf(s, url)
        if (now === null) continue // deleted by its test between the look and the kill
        const kept = content.type.startsWith('application/json') ? content.body.subarray(0, -1) : content.body
        assert.deepEqual(now.body.subarray(0, kept.length), kept, `${url} lost what had been read before the kill`)
    }
}

// ---- the suite ---------------------------------------------------------------------------------------------------

function suite(url, folder) {
    const report = path.join(folder, 'report.json')
    const args = [path.join(HERE, 'node_modules/vitest/vitest.mjs'), 'run', '--root', HERE, '--reporter=default', '--reporter=json', `--outputFile.json=${report}`]
    if (process.env.ONLY) args.push('--testNamePattern', process.env.ONLY)
    const child = new Child(process.execPath, args, {
        cwd: HERE,
        env: { ...process.env, NO_COLOR: '1', CONFORMANCE_URL: `${url}/apps/default`, CONFORMANCE_LONG_POLL_MS: String(LONG_POLL_MS) },
    })
    return { child, report }
}

async function wholeSuite(url, folder, when) {
    const { child, report } = suite(url, folder)
    const late = setTimeout(() => child.signal('SIGKILL'), SUITE_MS)
    const { code, stdout, stderr } = await child.ended
    clearTimeout(late)
    const closing = stdout.split('\n').filter((line) => /^\s+(Test Files|Tests|Duration)\s/.test(line)).join('\n')
    const result = fs.existsSync(report) ? JSON.parse(fs.readFileSync(report, 'utf8')) : null
    const failed = result ? result.testResults.flatMap((f) => f.assertionResults).filter((a) => a.status === 'failed') : []
    if (code !== 0) {
        if (process.env.VERBOSE || !result) console.error(stdout, stderr)
        for (const a of failed) console.error(`FAILED ${a.ancestorTitles.join(' > ')} > ${a.title}\n    ${a.failureMessages.join('\n').split('\n').slice(0, 3).join('\n    ')}`)
    }
    console.log(`conformance, ${when}:\n${closing}`)
    assert.equal(code, 0, `the suite failed ${when}`)
    if (!process.env.ONLY) assert.deepEqual([result.numTotalTests, result.numPassedTests], [TESTS, TESTS], `not all of the suite ran ${when}`)
}

async function killedSuite(s, proxy, folder) {
    const { child } = suite(proxy.url, folder)
    await eventually(`${STREAMS_BEFORE_KILL} streams of a run`, () => proxy.created.size >= STREAMS_BEFORE_KILL || child.over)
    assert.ok(!child.over, 'the run was over before the kill')
    const midway = await contents(s, proxy.take())
    await s.kill()
    child.signal('SIGKILL') // what it says about a service that is gone is of no interest
    await child.ended
    return midway
}

const folder = tempFolder()
const s = new Service({ args: ['--long-poll-ms', String(LONG_POLL_MS), '--log-level', 'warn'] })
await s.start()
const proxy = await new Proxy(s).listen()
try {
    await wholeSuite(proxy.url, folder, 'on a fresh folder')
    const kept = await contents(s, proxy.take())
    if (!process.env.ONLY) {
        const midway = await killedSuite(s, proxy, folder)
        await s.start()
        await assertSame(s, kept, 'before the kill')
        await assertGrown(s, midway)
        await wholeSuite(proxy.url, folder, 'after a kill -9 in the middle of a run')
        await assertSame(s, kept, 'two runs ago')
        const bytes = [...kept.values()].reduce((sum, c) => sum + c.body.length, 0)
        console.log(`conformance: ${kept.size} streams with ${bytes} bytes read the same after the kill, ${midway.size} streams of the killed run lost nothing`)
    }
} finally {
    proxy.close()
    await s.end()
    fs.rmSync(folder, { recursive: true, force: true })
}
process.exit(0)
