// One and the same file by every way there is, each broken twice: the connection is cut, and the service is killed. What GET gives has the digest that sha256sum
// tells, and the file is stored once.
//
//   SIZE=256 node tests/uploads/broken.mjs        MiB; make uploads SIZE=256; ONLY=Chromium
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash, randomFillSync } from 'node:crypto'
import fs from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { performance } from 'node:perf_hooks'
import { cutAt } from '../e2e/lib/cut.mjs'
import { segue, Service, tempFolder } from '../e2e/lib/service.mjs'
import { Browser, ways } from './ways.mjs'

const MIB = 1 << 20
const SIZE = Number(process.env.SIZE || 32) * MIB
const ONLY = process.env.ONLY || ''

function makeFile(file) {
    const piece = Buffer.alloc(MIB)
    const out = fs.openSync(file, 'w')
    for (let at = 0; at < SIZE; at += MIB) fs.writeSync(out, randomFillSync(piece))
    fs.closeSync(out)
}

function digestOfBlob(s, digest) {
    return new Promise((done, fail) => {
        http.get(`${s.url}/apps/default/blobs/${digest}`, (res) => {
            const hash = createHash('sha256')
            assert.equal(res.statusCode, 200)
            res.on('data', (piece) => hash.update(piece)).on('error', fail)
            res.on('end', () => done(hash.digest('hex')))
        }).on('error', fail)
    })
}

async function usage(s) {
    const { code, stdout, stderr } = await segue(s, ['blobs', 'du', '--json'])
    assert.equal(code, 0, stderr)
    return JSON.parse(stdout)
}

async function assertStoredOnce(s, parts) {
    const du = await usage(s)
    const blobs = { blobs: du.blobs, logical: du.logical, deduplicated: du.deduplicated }
    // Parts are blobs too, and together they are the same bytes again.
    assert.deepEqual(blobs, { blobs: 1 + parts, logical: parts > 0 ? 2 * SIZE : SIZE, deduplicated: SIZE })
    assert.ok(du.stored < 1.01 * SIZE, `${du.stored} bytes stored`)
    return du
}

async function run(way, file, folder, digest) {
    const s = await new Service().start()
    try {
        const kill = async () => { await s.kill(); await s.start() }
        const cuts = await cutAt(s, [[SIZE / 4, async () => {}], [SIZE / 2, kill]])
        const stored = await way.upload({ url: cuts.url, file, folder, digest })
        await cuts.end()
        assert.equal(cuts.left(), 0, 'it was done before it was broken twice')
        assert.equal(stored, digest)
        assert.equal(await digestOfBlob(s, digest), digest)
        // What is told of use is what the database has: all there is, after a start.
        await s.stop()
        await s.start()
        return await assertStoredOnce(s, way.parts)
    } finally {
        await s.end()
    }
}

const folder = tempFolder()
const browser = await new Browser().start()
let failed = 0, passed = 0
try {
    const file = path.join(folder, 'content')
    makeFile(file)
    const digest = execFileSync('sha256sum', [file], { encoding: 'utf8' }).slice(0, 64)
    console.log(`${SIZE / MIB} MiB ${digest}`)
    for (const [name, way] of ways(browser).filter(([name]) => name.includes(ONLY))) {
        const begun = performance.now()
        try {
            const du = await run(way, file, folder, digest)
            passed++
            console.log(`ok      ${name}: ${((performance.now() - begun) / 1000).toFixed(1)} s, ${du.stored} bytes stored, ${du.garbage} of garbage`)
        } catch (e) {
            failed++
            console.log(`FAILED  ${name}: ${e.stack}`)
        }
    }
} finally {
    await browser.end()
    fs.rmSync(folder, { recursive: true, force: true })
}
console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed === 0 && passed > 0 ? 0 : 1
