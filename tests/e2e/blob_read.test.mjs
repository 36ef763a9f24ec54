// Reading blobs as a web server gives out files: PROTOCOL.md, section 9.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import zlib from 'node:zlib'
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { App, assertProblem, enc, insert, request } from './lib/http.mjs'
import { service, sleep } from './lib/service.mjs'

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex')
const at = (digest) => `/blobs/${digest}`

async function stored(t, bytes, { type = 'application/octet-stream', ...options } = {}) {
    const s = await service(t, options)
    const key = options.dev === false ? fs.readFileSync(path.join(s.data, 'admin.key'), 'utf8').trim() : undefined
    const app = new App(s, { key })
    const digest = sha256(bytes)
    const reply = await app.request('PUT', at(digest), { headers: { 'content-type': type }, body: bytes })
    assert.equal(reply.status, 201, reply.text)
    return { s, app, digest, get: (headers = {}, query = '') => app.request('GET', at(digest) + query, { headers }) }
}

// The parts of a multipart/byteranges body: [{type, range, body}].
function parts(reply) {
    const [, boundary] = /^multipart\/byteranges; boundary=(\S+)$/.exec(reply.headers['content-type'])
    const text = reply.body.toString('latin1')
    assert.equal(Number(reply.headers['content-length']), reply.body.length)
    assert.ok(text.startsWith(`--${boundary}\r\n`) && text.endsWith(`\r\n--${boundary}--\r\n`))
    return ('\r\n' + text).split(`\r\n--${boundary}`).slice(1, -1).map((part) => {
        const end = part.indexOf('\r\n\r\n')
        return { head: part.slice(0, end), body: Buffer.from(part.slice(end + 4), 'latin1') }
    })
}

test('several ranges come as parts, those that overlap as one', async (t) => {
    const bytes = randomBytes(900000)
    const { get, digest } = await stored(t, bytes, { type: 'image/png' })
    for (let round = 0; round < 2; round++) {
        const reply = await get({ range: 'bytes=0-99,400000-599999,-5' })
        assert.equal(reply.status, 206)
        assert.equal(reply.headers['content-range'], undefined)
        const found = parts(reply)
        const wanted = [[0, 100], [400000, 600000], [899995, 900000]]
        assert.equal(found.length, wanted.length)
        wanted.forEach(([from, to], i) => {
            assert.match(found[i].head, /^\r\nContent-Type: image\/png\r\n/)
            assert.ok(found[i].head.includes(`Content-Range: bytes ${from}-${to - 1}/900000`))
            assert.ok(found[i].body.equals(bytes.subarray(from, to)))
        })
    }
    const one = await get({ range: 'bytes=0-99,50-149,120-200' })
    assert.equal(one.headers['content-range'], 'bytes 0-200/900000')
    assert.ok(one.body.equals(bytes.subarray(0, 201)))
    const many = await get({ range: 'bytes=' + Array.from({ length: 100 }, (_, i) => `${i * 1000}-${i * 1000}`) })
    assert.deepEqual([many.status, many.body.length], [200, 900000])
    assert.deepEqual([(await get({ range: 'bytes=0-0,9000-9000', 'if-range': `"${digest}"` })).status, (await get({ range: 'bytes=0-0', 'if-range': `W/"${digest}"` })).status], [206, 200])
})

test('conditions', async (t) => {
    const { get, app, digest } = await stored(t, randomBytes(5000))
    const tag = `"${digest}"`
    for (const [headers, status] of [[{ 'if-match': tag }, 200], [{ 'if-match': '*' }, 200], [{ 'if-match': `"x", ${tag}` }, 200],
        [{ 'if-none-match': `W/${tag}` }, 304], [{ 'if-none-match': '*' }, 304], [{ 'if-none-match': '"x"' }, 200], [{ 'if-none-match': digest }, 200],
        [{ 'if-match': tag, 'if-none-match': tag }, 304], [{ 'if-none-match': tag, range: 'bytes=0-1' }, 304], [{ range: 'bytes=9999-', 'if-range': '"x"' }, 200]])
        assert.equal((await get(headers)).status, status, JSON.stringify(headers))
    for (const headers of [{ 'if-match': '"x"' }, { 'if-match': `W/${tag}` }]) assertProblem(await get(headers), 412, 'precondition_failed')
    const same = await get({ 'if-none-match': tag })
    assert.deepEqual([same.headers.etag, same.headers['content-length'], same.body.length], [tag, undefined, 0])
    assert.match(same.headers['cache-control'], /immutable/)
    // HEAD says what GET of the whole would.
    const [head, whole] = [await app.request('HEAD', at(digest), { headers: { range: 'bytes=0-9' } }), await get()]
    assert.equal(head.status, 200)
    for (const name of ['content-length', 'content-type', 'etag', 'cache-control', 'accept-ranges', 'repr-digest', 'content-disposition', 'vary'])
        assert.equal(head.headers[name], whole.headers[name], name)
    assert.equal((await app.request('HEAD', at(digest), { headers: { 'if-none-match': tag } })).status, 304)
})

test('the digest of what is represented', async (t) => {
    const bytes = randomBytes(5000)
    const { get } = await stored(t, bytes)
    const digest = `sha-256=:${createHash('sha256').update(bytes).digest('base64')}:`
    assert.equal((await get()).headers['repr-digest'], digest)
    assert.equal((await get({ range: 'bytes=0-0' })).headers['repr-digest'], digest)
    assert.equal((await get({ 'want-repr-digest': 'sha-512=3, sha-256=10' })).headers['repr-digest'], digest)
    assert.equal((await get({ 'want-repr-digest': 'sha-256=0' })).headers['repr-digest'], undefined)
})

test('type, name and manner', async (t) => {
    const { get } = await stored(t, Buffer.from('<script>alert(1)</script>'), { type: 'text/html' })
    const html = await get()
    assert.deepEqual([html.headers['content-type'], html.headers['content-disposition'], html.headers['content-security-policy'], html.headers['x-content-type-options']],
        ['text/html', 'attachment', 'sandbox', 'nosniff'])
    const forced = await get({}, '?disposition=inline')
    assert.match(forced.headers['content-disposition'], /^attachment/)
    const text = await get({}, `?type=${enc('text/plain; charset=utf-8')}&filename=${enc('../nähe.txt')}`)
    assert.equal(text.headers['content-type'], 'text/plain; charset=utf-8')
    assert.equal(text.headers['content-disposition'], 'inline; filename="n_he.txt"; filename*=UTF-8\'\'n%C3%A4he.txt')
    assert.equal(text.headers['content-security-policy'], undefined)
    assert.equal((await get({}, '?type=image/png')).headers['content-disposition'], undefined)
    assert.equal((await get({}, '?type=image/png&disposition=attachment')).headers['content-disposition'], 'attachment')
    for (const bad of ['?type=x', '?type=', `?type=${enc('a/b\r\nX: y')}`, '?disposition=x', '?filename=a&filename=b', '?filename=%ff'])
        assertProblem(await get({}, bad), 400, 'bad_parameter')
})

test('the name that an upload brought', async (t) => {
    const { s, app, get, digest } = await stored(t, Buffer.from('content'), { type: 'image/png' })
    const tus = { 'tus-resumable': '1.0.0' }
    const made = await app.request('POST', '/uploads', { headers: { ...tus, 'upload-length': '7', 'upload-metadata': `filetype aW1hZ2UvcG5n,filename ${Buffer.from('ö.png').toString('base64')}` } })
    assert.equal(made.status, 201, made.text)
    const id = made.headers.location.split('/').at(-1)
    assertProblem(await get({}, `?upload=${id}`), 404, 'no_such_upload')
    const done = await request(s, 'PATCH', made.headers.location, { headers: { ...tus, 'upload-offset': '0', 'content-type': 'application/offset+octet-stream' }, body: 'content' })
    assert.equal(done.headers['segue-blob'], digest)
    assert.equal((await get({}, `?upload=${id}`)).headers['content-disposition'], 'inline; filename="_.png"; filename*=UTF-8\'\'%C3%B6.png')
    assertProblem(await get({}, '?upload=x'), 404, 'no_such_upload')
})

test('the name that a row has for it', async (t) => {
    const { s, app, get, digest } = await stored(t, Buffer.from('content'), { type: 'image/png' })
    await app.schema('create table files (filename text, picture blob, other blob)')
    const [id, nameless] = [randomUUID(), randomUUID()]
    await app.batch([insert('files', { filename: 'row "1".png', picture: { blob: digest } }, id), insert('files', { picture: { blob: digest } }, nameless)])
    const from = (row) => get({}, `?row=${enc(row)}`)
    assert.equal((await from(`files/${id}/picture`)).headers['content-disposition'], 'inline; filename="row _1_.png"; filename*=UTF-8\'\'row%20%221%22.png')
    assert.equal((await from(`files/${nameless}/picture`)).headers['content-disposition'], undefined)
    for (const row of [`files/${id}/other`, `files/${id}/none`, `files/${randomUUID()}/picture`, `none/${id}/picture`, `fi"les/${id}/picture`])
        assertProblem(await from(row), 404, 'not_found')
    for (const row of ['files', 'files/x/picture', '//']) assertProblem(await from(row), 400, 'bad_parameter')
    const { url } = (await app.request('POST', at(digest) + '/sign', { body: '{"seconds":60}' })).json
    assert.equal((await request(s, 'GET', `${url}&row=${enc(`files/${id}/picture`)}`)).headers['content-disposition'], undefined)
})

const unzstd = zlib.zstdDecompressSync || ((bytes) => execFileSync('zstd', ['-dc'], { input: bytes, maxBuffer: 1 << 28 }))
let canUnzstd = true
try { unzstd(Buffer.from('28b52ffd2000010000', 'hex')) } catch { canUnzstd = false }

test('a packed blob goes out packed to those who take it', async (t) => {
    const text = Buffer.from(Array.from({ length: 60000 }, (_, i) => `line ${i} of a text that packs\n`).join(''))
    const mixed = Buffer.concat([text, randomBytes(400000), text.subarray(0, 100000)])
    const { get, app, digest } = await stored(t, mixed, { type: 'text/plain' })
    for (let round = 0; round < 2; round++) {
        const coded = await get({ 'accept-encoding': 'gzip, zstd' })
        assert.deepEqual([coded.status, coded.headers['content-encoding'], coded.headers.etag, coded.headers['repr-digest']], [200, 'zstd', `"${digest}-zstd"`, undefined])
        assert.match(coded.headers.vary, /Accept-Encoding/)
        assert.ok(coded.body.length < mixed.length / 2, `${coded.body.length} of ${mixed.length}`)
        if (canUnzstd) assert.ok(unzstd(coded.body).equals(mixed))
        else t.diagnostic('nothing here takes zstd apart')
        const plain = await get({ 'accept-encoding': 'zstd;q=0' })
        assert.equal(plain.headers['content-encoding'], undefined)
        assert.ok(plain.body.equals(mixed))
        const range = await get({ 'accept-encoding': 'zstd', range: 'bytes=100000-199999' })
        assert.deepEqual([range.status, range.headers['content-encoding']], [206, undefined])
        assert.ok(range.body.equals(mixed.subarray(100000, 200000)))
    }
    const head = await app.request('HEAD', at(digest), { headers: { 'accept-encoding': 'zstd' } })
    assert.deepEqual([head.headers['content-encoding'], head.headers['content-length'], head.headers.etag], ['zstd', undefined, `"${digest}-zstd"`])
    assert.equal((await get({ 'accept-encoding': 'zstd', 'if-none-match': `"${digest}-zstd"` })).status, 304)
    assert.equal((await get({ 'accept-encoding': 'zstd', 'if-none-match': `"${digest}"` })).status, 304)
})

test('what does not pack goes out as it is, however the client asks', async (t) => {
    const bytes = randomBytes(300000)
    const { get, digest } = await stored(t, bytes)
    const reply = await get({ 'accept-encoding': 'zstd' })
    assert.deepEqual([reply.headers['content-encoding'], reply.headers.etag, reply.headers['content-length']], [undefined, `"${digest}"`, '300000'])
    assert.ok(reply.body.equals(bytes))
})

test('a damaged chunk fails the ranges that need it, and no others', async (t) => {
    const bytes = randomBytes(2 << 20)
    const { s, get } = await stored(t, bytes)
    await s.stop()
    damage(s.data, bytes.subarray(1000000, 1000032))
    await s.start()
    for (let round = 0; round < 3; round++) {
        assertProblem(await get({ range: 'bytes=1000000-1000001' }), 500, 'corrupt')
        assert.ok((await get({ range: 'bytes=0-499999' })).body.equals(bytes.subarray(0, 500000)))
        assert.ok((await get({ range: 'bytes=1400000-' })).body.equals(bytes.subarray(1400000)))
        await assert.rejects(get(), /broke off|hang up|aborted|ECONNRESET/)
    }
    assert.match(s.child.stderr, /a chunk is damaged/)
})

// Turns a bit where these bytes lie in a pack.
function damage(folder, needle) {
    const files = fs.readdirSync(folder, { recursive: true }).map((name) => path.join(folder, name)).filter((name) => name.endsWith('.pack'))
    let hits = 0
    for (const name of files) {
        const content = fs.readFileSync(name)
        const found = content.indexOf(needle)
        if (found < 0) continue
        content[found] ^= 1
        fs.writeFileSync(name, content)
        hits++
    }
    assert.equal(hits, 1)
}

test('who may read, and who may keep it', async (t) => {
    const open = await stored(t, randomBytes(100))
    assert.match((await open.get()).headers['cache-control'], /^public, max-age=31536000, immutable$/)
    const { s, get, digest } = await stored(t, randomBytes(100), { dev: false })
    assert.match((await get()).headers['cache-control'], /^private, max-age=31536000, immutable$/)
    assertProblem(await request(s, 'GET', `/apps/default/blobs/${digest}`), 401, 'unauthenticated')
    const preflight = await request(s, 'OPTIONS', `/apps/default/blobs/${digest}`, { headers: { origin: 'http://a', 'access-control-request-method': 'GET' } })
    assert.match(preflight.headers['access-control-allow-headers'], /Range.*If-Range|If-Range.*Range/)
    assert.equal((await get()).headers['access-control-allow-origin'], '*')
})

test('a signed link is enough, as it was signed and until it ends', async (t) => {
    const bytes = randomBytes(1000)
    const { s, app, get, digest } = await stored(t, bytes, { dev: false })
    const sign = (body, path = at(digest) + '/sign') => app.request('POST', path, { body: JSON.stringify(body) })
    const made = await sign({ seconds: 60, filename: 'ä b.bin', disposition: 'attachment', type: 'image/png' })
    assert.equal(made.status, 200, made.text)
    assert.ok(Date.parse(made.json.expires) > Date.now() + 50000)
    const { url } = made.json
    for (const method of ['GET', 'HEAD']) {
        const reply = await request(s, method, url)
        assert.equal(reply.status, 200, reply.text)
        assert.equal(reply.headers['content-type'], 'image/png')
        assert.equal(reply.headers['content-disposition'], 'attachment; filename="_ b.bin"; filename*=UTF-8\'\'%C3%A4%20b.bin')
        const [, age] = /^private, max-age=(\d+), immutable$/.exec(reply.headers['cache-control'])
        assert.ok(Number(age) <= 60)
    }
    assert.ok((await request(s, 'GET', url)).body.equals(bytes))
    assert.equal((await request(s, 'GET', url, { headers: { range: 'bytes=1-2' } })).status, 206)
    const altered = [url.replace('expires=', 'expires=9'), url.replace('image', 'video'), url.replace(digest, sha256('x')), url.replace(/key=./, 'key=x'),
        url.slice(0, -1) + (url.endsWith('0') ? '1' : '0'), url.slice(0, -1), url + '0', url.replace('&disposition=attachment', ''), url + '&type=text/plain',
        url.replace(/expires=\d+&/, ''), `/apps/default/blobs/${digest}?sig=`, url.replace('default', 'other')]
    for (const one of altered) assertProblem(await request(s, 'GET', one), 403, 'forbidden')
    assertProblem(await request(s, 'PUT', url, { body: bytes }), 401, 'unauthenticated')
    assertProblem(await request(s, 'POST', url, { body: '{}' }), 405, 'method_not_allowed')
    // It holds over a start; another folder's service has another key.
    await s.kill()
    await s.start()
    assert.equal((await request(s, 'GET', url)).status, 200)
    assert.equal(fs.statSync(path.join(s.data, 'link.key')).mode & 0o777, 0o600)
    const short = (await sign({ seconds: 1 })).json.url
    await sleep(2100)
    assertProblem(await request(s, 'GET', short), 403, 'forbidden')
    for (const bad of [{}, { seconds: 0 }, { seconds: 1e9 }, { seconds: 5, more: 1 }, { seconds: 5, type: 'x' }, { seconds: 5, disposition: 'x' }, { seconds: 5, filename: '' }, []])
        assertProblem(await sign(bad), 400, 'bad_request')
    assertProblem(await sign({ seconds: 5 }, at(sha256('none')) + '/sign'), 404, 'no_such_blob')
    assertProblem(await sign({ seconds: 5 }, at(digest)), 405, 'method_not_allowed')
    assertProblem(await request(s, 'POST', `/apps/default${at(digest)}/sign`, { body: '{"seconds":5}' }), 401, 'unauthenticated')
    assert.equal((await get()).status, 200)
})
