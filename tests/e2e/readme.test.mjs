// What README.md says to type works as it stands there: its `sh` blocks, in their order, in one shell.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { App } from './lib/http.mjs'
import { proxy } from './lib/proxy.mjs'
import { Child, eventually, root, SEGUE, service, tempFolder } from './lib/service.mjs'

const text = fs.readFileSync(path.join(root, 'README.md'), 'utf8')
const blocks = [...text.matchAll(/^```sh\n([^]*?)^```$/gm)].map((hit) => hit[1])

// Runs blocks as they stand there, but for where the service and its data are. Each command has to succeed; who follows in the background is asked to go at the end.
async function run(t, s, script, { url = s.url, folder = tempFolder(t) } = {}) {
    const bin = tempFolder(t)
    fs.writeFileSync(path.join(bin, 'curl'), `#!/bin/sh\nPATH=$\{PATH#*:}\nexec curl -sS --fail-with-body "$@"\n`, { mode: 0o755 })
    const adapted = script.replace(/^build\/segued .*&$/m, '') // the test has started one
        .replace(/\/tmp\/(segue\/)?/g, (_, data) => data ? `${s.data}/` : `${folder}/`) // first, for the others may bring one along
        .replaceAll('http://127.0.0.1:7420', s.url).replaceAll('build/segue ', `${SEGUE} `)
        .replace(/ &$/mg, ' & sleep 1') // a person is not that quick
    assert.ok(!adapted.includes('segued') && !adapted.includes('7420'))
    const prelude = `set -eu; export SEGUE_URL=${url} XDG_STATE_HOME=${folder}/state PATH=${bin}:$PATH\n`
    const ending = `\necho; echo the end of the blocks; sleep 0.5; kill $(jobs -p) || true; wait || true\n`
    const child = new Child('bash', ['-c', prelude + adapted + ending], { cwd: root })
    child.process.stdin.end()
    const { code, stdout, stderr } = await child.end()
    assert.equal(code, 0, stdout + stderr)
    return stdout
}

test('the first blocks of the README do what they say', async (t) => {
    const s = await service(t)
    const stdout = await run(t, s, blocks.slice(0, 2).join('\n'))
    // What the subscribers saw, as the README shows it, and what the answers were.
    const shown = /```\n(\[2\][^]*?)```/.exec(text)[1].trim().split('\n')
    for (const line of shown) assert.ok(stdout.includes(line.slice(4)), `${line}\n${stdout}`)
    for (const words of ['Hello from curl', '"text":"from curl"', '# Segue\n']) assert.ok(stdout.includes(words), `${words}\n${stdout}`)
    const app = new App(s)
    const rows = await eventually('both rows', async () => { const r = await app.rows('select status, file from messages order by id'); return r.length === 2 && r })
    assert.deepEqual(rows.map((r) => r.status), ['done', 'done'])
    assert.equal(rows[1].file.size, fs.statSync(path.join(root, 'README.md')).size)
})

test('its three ways to write do what they say', async (t) => {
    const s = await service(t)
    const stdout = await run(t, s, blocks[2])
    assert.equal([...stdout.matchAll(/^accepted, seq \d+$/mg)].length, 4, stdout)
    const rows = await new App(s, { name: 'bank' }).rows('select owner, balance from accounts order by owner')
    assert.deepEqual(rows.map((r) => [r.owner, r.balance]), [['Anna', 90], ['Robert', 10]])
})

test('one subscription tells of queries, a stream of their rows, a stream and an upload', async (t) => {
    const s = await service(t)
    const stdout = await run(t, s, blocks[3])
    const shown = /```\n(\[3\] film[^]*?)```/.exec(text)[1].trim().split('\n')
    for (const line of shown) assert.ok(stdout.includes(line), `${line}\n${stdout}`)
})

test('its uploads break and go on, and what is damaged is named and repaired', async (t) => {
    const s = await service(t)
    assert.equal(blocks.length, 9)
    const folder = tempFolder(t)
    // What segue sends goes no faster than 16 MiB a second, so that it is in the middle when the README kills it.
    const slow = await proxy(t, s, { rest: { upPerSecond: 16 << 20 } })
    const stdout = await run(t, s, `U=${s.url}/apps/default\n${blocks.slice(4, 8).join('\n')}`, { url: slow.url, folder })
    const film = fs.readFileSync(path.join(folder, 'film.bin'))
    assert.ok(slow.up < 2 * film.length - (8 << 20), `${slow.up} bytes: what the first run had sent was not sent again`)
    // Each of the two by curl was broken, went on behind its first bytes, and came to the same digest as segue's.
    assert.equal([...stdout.matchAll(/^broken$/mg)].length, 2, stdout)
    const digest = /^([0-9a-f]{64})$/m.exec(stdout)[1]
    assert.equal([...stdout.matchAll(new RegExp(`^Segue-Blob: ${digest}\r?$`, 'mg'))].length, 2, stdout)
    assert.ok((await new App(s).request('GET', `/blobs/${digest}`)).body.equals(film))
    assert.deepEqual(fs.readdirSync(path.join(folder, 'story-copy')).sort(), fs.readdirSync(path.join(root, 'tests/story')).sort())
    const report = /```\n(damaged: [^]*?)```/.exec(text)[1]
    const shape = (lines) => lines.replace(/[0-9a-f]{64}/g, '#').replace(/\d+/g, 'n')
    const damage = stdout.slice(stdout.indexOf('damaged: '))
    assert.ok(damage.startsWith('damaged: '), stdout)
    for (const line of new Set(report.trim().split('\n').map(shape))) assert.ok(shape(damage).split('\n').includes(line), `${line}\n${shape(damage)}`)
    assert.match(damage, /\n\d+ chunks, \d+ bytes verified, 0 damaged, 0 wrong counts\nblobs /)
})

test('what is written offline is kept, and sent', async (t) => {
    const s = await service(t)
    const stdout = await run(t, s, blocks[8])
    assert.match(stdout, /^kept, 1\n1 .* train  waiting, \d+ bytes\n1 .* train  accepted, seq 1\n/)
    assert.equal((await new App(s).readStream('diary')).bytes.toString(), 'From a train.\n')
})
