// What segue put and segue get show on a terminal, and that they show it nowhere else. script(1) makes the terminal.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { Child, SEGUE, service, tempFolder } from './lib/service.mjs'

const SIZE = 6 << 20
const line = /\r\[#+ *\] +\d+ % +(\d+:\d\d left +)?\d+\.\d MiB\/s/

// A bare chroot may have no pseudo-terminals at all.
const skip = spawnSync('script', ['-qec', 'true', '/dev/null']).status !== 0 && 'no terminal can be made here'

test('put and get draw a bar on a terminal, and only there', { skip }, async (t) => {
    const s = await service(t)
    const folder = tempFolder(t)
    const [from, to] = ['from', 'to'].map((name) => path.join(folder, name))
    const bytes = randomBytes(SIZE)
    const digest = createHash('sha256').update(bytes).digest('hex')
    const env = { ...process.env, SEGUE_URL: s.url, XDG_STATE_HOME: folder }
    fs.writeFileSync(from, bytes)
    const onTerminal = async (command) => {
        const { code, stdout } = await new Child('script', ['-qec', command, '/dev/null'], { env }).end()
        assert.equal(code, 0, stdout)
        return stdout
    }

    const put = await onTerminal(`'${SEGUE}' put '${from}'`)
    assert.match(put, line)
    assert.match(put, /\r\[#{30}\] 100 % .*MiB\/s\r\n/)
    assert.match(put, new RegExp(`\n${digest}\r\n`))
    assert.match(await onTerminal(`'${SEGUE}' get ${digest} -o '${to}'`), /\r\[#{30}\] 100 % .*MiB\/s\r\n/)
    assert.ok(fs.readFileSync(to).equals(bytes))
    // Of a directory it is the sum of all files; the second time there is nothing to send, and it is at its end at once.
    const dir = path.join(folder, 'dir')
    fs.mkdirSync(dir)
    for (const name of ['a', 'b']) fs.writeFileSync(path.join(dir, name), randomBytes(SIZE))
    for (const command of ['put', 'put', 'sync']) assert.match(await onTerminal(`'${SEGUE}' ${command} '${dir}'`), /\r\[#{30}\] 100 % .*MiB\/s\r\n/)
    // Content that goes to the terminal itself has no bar in it; a small file is over before anybody sees one.
    assert.ok(!(await onTerminal(`'${SEGUE}' get ${digest}`)).includes('100 %'))
    fs.writeFileSync(from, 'small')
    assert.ok(!(await onTerminal(`'${SEGUE}' put '${from}'`)).includes('%'))

    const piped = await new Child(SEGUE, ['get', digest, '-o', to], { env }).end()
    assert.deepEqual([piped.code, piped.stdout, piped.stderr], [0, '', ''])
})
