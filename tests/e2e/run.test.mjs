// `make run` without a terminal: the story is told whole and ends with status 0.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { Child, root, SEGUED, tempFolder } from './lib/service.mjs'

const story = (t, bin, env = {}) => {
    const child = new Child(path.join(root, 'tests/story/run.sh'), [bin], { env: { ...process.env, ...env } })
    child.process.stdin.end()
    return child.end()
}

test('the story is whole, and cleans up behind itself', async (t) => {
    const TMPDIR = tempFolder(t)
    const { code, stdout, stderr } = await story(t, path.dirname(SEGUED), { TMPDIR })
    assert.equal(code, 0, stderr)
    const pids = [...stdout.matchAll(/^segue\w?(?: sub)?, process (\d+)/gm)].map((m) => Number(m[1]))
    assert.equal(new Set(pids).size, 2, 'service and subscriber are processes of their own')
    for (const pid of pids) assert.throws(() => process.kill(pid, 0), /ESRCH/)
    assert.deepEqual(fs.readdirSync(TMPDIR), [])
    // What the subscriber saw, in the order of the story.
    const order = ['chats = ', 'status=connecting', 'reply created', 'status=streaming', 'reply> Good', 'high tide', 'status=done', 'reply closed', 'the reply is cancelled', 'attachment={"blob"', 'killed -9 with', 'which is what sha256sum says', 'byte for byte', 'That was the story.']
    let at = 0
    for (const words of order) {
        const found = stdout.indexOf(words, at)
        assert.ok(found >= 0, `"${words}" is in its place:\n${stdout}`)
        at = found
    }
    const seen = stdout.slice(stdout.indexOf('reply> '), stdout.indexOf('6. Another')).replace(/\n\[\d+\] reply> /g, '\n')
    assert.match(seen, /Good question\. A tide is the sea answering the moon/)
})

test('a story that goes wrong ends with another status', async (t) => {
    const bin = tempFolder(t)
    fs.writeFileSync(path.join(bin, 'segued'), '#!/bin/sh\nexit 1\n', { mode: 0o755 })
    fs.copyFileSync(path.join(bin, 'segued'), path.join(bin, 'segue'))
    assert.notEqual((await story(t, bin)).code, 0)
})
