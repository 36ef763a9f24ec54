// What README.md shows of tus-js-client, as it stands there: killed in the middle, and run again.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { App } from '../e2e/lib/http.mjs'
import { proxy } from '../e2e/lib/proxy.mjs'
import { Child, eventually, root, service, tempFolder } from '../e2e/lib/service.mjs'
import { assertBlob } from '../e2e/lib/tus.mjs'

const SIZE = 48 << 20

test('the upload of the README goes on in its next run, over a kill of the service too', async (t) => {
    const s = await service(t)
    const folder = tempFolder(t)
    const plan = { rest: { stallUp: 20 << 20 } }
    const p = await proxy(t, s, plan)
    const [, block] = /^```js\n([^`]*'tus-js-client'[^`]*)^```$/m.exec(fs.readFileSync(path.join(root, 'README.md'), 'utf8'))
    const program = path.join(folder, 'upload.mjs')
    fs.writeFileSync(program, block.replaceAll('http://127.0.0.1:7420', p.url).replaceAll('/tmp/', `${folder}/`))
    fs.symlinkSync(path.join(root, 'tests/clients/node_modules'), path.join(folder, 'node_modules'))
    const bytes = randomBytes(SIZE)
    fs.writeFileSync(path.join(folder, 'film.bin'), bytes)
    const run = () => new Child(process.execPath, [program], { cwd: folder })

    const first = run()
    await eventually('the middle', () => p.stalled)
    first.signal('SIGKILL')
    await first.end()
    const [begun] = Object.values(JSON.parse(fs.readFileSync(path.join(folder, 'film.uploads'), 'utf8')))
    p.stalled = false
    const second = run()
    await eventually('the middle again', () => p.stalled)
    delete plan.rest
    await s.kill()
    await s.start()
    const { code, stdout, stderr } = await second.end()
    assert.equal(code, 0, stderr)
    assert.equal(stdout, `stored ${begun.uploadUrl}\n`)
    await assertBlob(new App(s), bytes, 'video/mp4')
})
