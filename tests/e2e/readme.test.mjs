// What README.md says to type works as it stands there: its `sh` blocks, in their order, in one shell.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { App } from './lib/http.mjs'
import { Child, eventually, root, SEGUE, service, tempFolder } from './lib/service.mjs'

test('the blocks of the README do what they say', async (t) => {
    const s = await service(t)
    const text = fs.readFileSync(path.join(root, 'README.md'), 'utf8')
    const blocks = [...text.matchAll(/^```sh\n([^]*?)^```$/gm)].map((hit) => hit[1])
    assert.equal(blocks.length, 2)
    const script = blocks.join('\n').replace(/^build\/segued .*&$/m, '') // the test has started one
        .replaceAll('http://127.0.0.1:7420', s.url).replaceAll('build/segue ', `${SEGUE} `)
        .replace(/ &$/mg, ' & sleep 1') // a person is not that quick
    assert.ok(!script.includes('segued') && !script.includes('7420'))
    // Each command has to succeed; who follows in the background is asked to go at the end.
    const bin = tempFolder(t)
    fs.writeFileSync(path.join(bin, 'curl'), `#!/bin/sh\nPATH=$\{PATH#*:}\nexec curl -sS --fail-with-body "$@"\n`, { mode: 0o755 })
    const prelude = `set -eu; export SEGUE_URL=${s.url} PATH=${bin}:$PATH\n`
    const ending = `\necho; echo the end of the blocks; sleep 0.5; kill $(jobs -p) || true; wait || true\n`
    const child = new Child('bash', ['-c', prelude + script + ending], { cwd: root })
    child.process.stdin.end()
    const { code, stdout, stderr } = await child.end()
    assert.equal(code, 0, stdout + stderr)
    // What the subscribers saw, as the README shows it, and what the answers were.
    const shown = /```\n(\[2\][^]*?)```/.exec(text)[1].trim().split('\n')
    for (const line of shown) assert.ok(stdout.includes(line.slice(4)), `${line}\n${stdout}`)
    for (const words of ['Hello from curl', '"text":"from curl"', '# Segue\n', 'Upload-Offset: 500', 'Segue-Blob: ']) assert.ok(stdout.includes(words), `${words}\n${stdout}`)
    const app = new App(s)
    const rows = await eventually('both rows', async () => { const r = await app.rows('select status, file from messages order by id'); return r.length === 2 && r })
    assert.deepEqual(rows.map((r) => r.status), ['done', 'done'])
    assert.equal(rows[1].file.size, fs.statSync(path.join(root, 'README.md')).size)
})
