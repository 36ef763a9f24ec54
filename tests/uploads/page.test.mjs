// A page of another origin, in Chromium, with a key: what the browser asks before it lets such requests out is answered so that it does.
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { cutAt } from '../e2e/lib/cut.mjs'
import { App } from '../e2e/lib/http.mjs'
import { service, tempFolder } from '../e2e/lib/service.mjs'
import { Browser } from './ways.mjs'

let browser
before(async () => { browser = await new Browser().start() })
after(() => browser?.end())

async function setup(t) {
    const s = await service(t, { dev: false })
    const key = fs.readFileSync(path.join(s.data, 'admin.key'), 'utf8').trim()
    const file = path.join(tempFolder(t), 'content')
    const bytes = randomBytes(8 << 20)
    fs.writeFileSync(file, bytes)
    return { s, key, file, bytes, digest: createHash('sha256').update(bytes).digest('hex') }
}

for (const [name, options] of [['tus', {}], ['tus, in parts', { parallelUploads: 2 }], ['the draft', { protocol: 'ietf-draft-05' }]]) {
    test(`a page uploads with a key, by ${name}, over a connection that breaks`, async (t) => {
        const it = await setup(t)
        const way = await cutAt(it.s, [[it.bytes.length / 2, async () => {}]])
        t.after(way.end)
        const headers = { authorization: `Bearer ${it.key}` }
        assert.equal(await browser.upload({ url: way.url, file: it.file }, { headers, metadata: { filename: 'grüße.bin', filetype: 'video/mp4' }, ...options }), it.digest)
        assert.equal(way.left(), 0)
        const got = await new App(it.s, { key: it.key }).request('GET', `/blobs/${it.digest}`)
        assert.ok(got.status === 200 && got.body.equals(it.bytes))
    })
}

test('a page without a key is refused, and told so', async (t) => {
    const it = await setup(t)
    await assert.rejects(browser.upload({ url: it.s.url, file: it.file }, { retryDelays: null }), /401|unauthorized/)
})
