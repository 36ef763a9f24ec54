// HTTP framing over raw sockets: PROTOCOL.md, section 2. What can be read in two ways is refused, and nothing else is.
import assert from 'node:assert/strict'
import net from 'node:net'
import { test } from 'node:test'
import { App, assertProblem, create, Raw } from './lib/http.mjs'
import { service, sleep, within } from './lib/service.mjs'

const HOST = 'Host: x\r\n'
const GET = `GET /healthz HTTP/1.1\r\n${HOST}`
const POST = `POST /apps/default/batch HTTP/1.1\r\n${HOST}`

test('a request with two readings is refused, and its connection closed', async (t) => {
    const s = await service(t)
    const smuggled = 'GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n'
    const refused = {
        'Content-Length and Transfer-Encoding': `${POST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
        'and the other way round': `${POST}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n`,
        'two lengths': `${POST}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello`,
        'two lengths in one': `${POST}Content-Length: 5, 6\r\n\r\nhello`,
        'a length with a sign': `${POST}Content-Length: +5\r\n\r\nhello`,
        'a length that is none': `${POST}Content-Length: 5x\r\n\r\nhello`,
        'an empty length': `${POST}Content-Length:\r\n\r\n`,
        'a length beyond all numbers': `${POST}Content-Length: 99999999999999999999\r\n\r\n`,
        'a bare LF behind the request line': `GET /healthz HTTP/1.1\n${HOST}\r\n`,
        'a bare LF behind a header': `${GET}X: y\n\r\n`,
        'a bare LF for the empty line': `${GET}\n`,
        'a bare CR': `${GET}X: y\rZ: z\r\n\r\n`,
        'a folded line': `${GET}X: y\r\n z\r\n\r\n`,
        'a folded first line': `GET /healthz HTTP/1.1\r\n ${HOST}\r\n`,
        'white space before the colon': `${GET}Content-Length : 5\r\n\r\nhello`,
        'a header without a name': `${GET}: y\r\n\r\n`,
        'a header without a colon': `${GET}nonsense\r\n\r\n`,
        'a NUL in a header': `${GET}X: a\0b\r\n\r\n`,
        'white space in the target': `GET /health z HTTP/1.1\r\n${HOST}\r\n`,
        'two spaces': `GET  /healthz HTTP/1.1\r\n${HOST}\r\n`,
        'a tab': `GET\t/healthz HTTP/1.1\r\n${HOST}\r\n`,
        'a target that is not a path': `GET healthz HTTP/1.1\r\n${HOST}\r\n`,
        'another coding': `${POST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`,
        'chunked twice': `${POST}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
        'identity': `${POST}Transfer-Encoding: identity\r\n\r\n`,
        'almost chunked': `${POST}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`,
        'chunked in 1.0': `POST /apps/default/batch HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
        'a chunk size that is none': `${POST}Transfer-Encoding: chunked\r\n\r\nxyz\r\n`,
        'a chunk size with 0x': `${POST}Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n`,
        'a chunk size with a sign': `${POST}Transfer-Encoding: chunked\r\n\r\n-1\r\n`,
        'a chunk size with white space': `${POST}Transfer-Encoding: chunked\r\n\r\n 5\r\nhello\r\n0\r\n\r\n`,
        'a chunk that is longer than it said': `${POST}Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n`,
        'a bare LF behind a chunk size': `${POST}Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n`,
        'no Host': 'GET /healthz HTTP/1.1\r\n\r\n',
        'two Hosts': `${GET}Host: y\r\n\r\n`,
        'no method': `/healthz HTTP/1.1\r\n${HOST}\r\n`,
        'not HTTP at all': '{"ops":[]}\r\n\r\n',
        'a TLS hello': '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
    }
    for (const [what, bytes] of Object.entries(refused)) {
        const raw = new Raw(s)
        raw.send(Buffer.from(bytes + smuggled, 'latin1'))
        const reply = await raw.reply().catch((e) => assert.fail(`${what}: ${e.message}`))
        assertProblem(reply, 400, 'bad_request')
        assert.equal(reply.headers.connection, 'close', what)
        await raw.assertClosed()
        assert.equal(raw.input.length, 0, `${what}: nothing behind it is answered`)
    }
    const raw = new Raw(s)
    await raw.assertAlive()
    raw.destroy()
})

test('what is too large, too new or not spoken has its own status', async (t) => {
    const s = await service(t)
    const refused = [
        [`GET /${'a'.repeat(33 * 1024)} HTTP/1.1\r\n${HOST}\r\n`, 414, 'uri_too_long'],
        [`${GET}X: ${'y'.repeat(33 * 1024)}\r\n\r\n`, 431, 'headers_too_large'],
        [`${GET}${'X: y\r\n'.repeat(101)}\r\n`, 431, 'headers_too_large'],
        [`${POST}Content-Length: 5000000\r\n\r\n`, 413, 'too_large'],
        [`${POST}Transfer-Encoding: chunked\r\n\r\n500000\r\n`, 413, 'too_large'],
        [`${POST}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n`, 413, 'too_large'],
        [`${POST}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n`, 413, 'too_large'],
        [`GET /healthz HTTP/2.0\r\n${HOST}\r\n`, 505, 'bad_http_version'],
        [`GET /healthz HTTP/1.2\r\n${HOST}\r\n`, 505, 'bad_http_version'],
        [`BREW /healthz HTTP/1.1\r\n${HOST}\r\n`, 501, 'not_implemented'],
        [`${POST}Expect: miracles\r\nContent-Length: 2\r\n\r\n`, 417, 'expectation_failed'],
    ]
    for (const [bytes, status, code] of refused) {
        const raw = new Raw(s)
        raw.send(bytes)
        assertProblem(await raw.reply(), status, code)
        raw.destroy()
    }
})

test('a refusal that leaves no doubt where the next request begins leaves the connection open', async (t) => {
    const s = await service(t)
    const raw = new Raw(s)
    const refused = [
        ['GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n', 404, 'not_found'],
        ['GET /apps/default/nowhere HTTP/1.1\r\nHost: x\r\n\r\n', 404, 'not_found'],
        ['GET /apps/nobody/schema HTTP/1.1\r\nHost: x\r\n\r\n', 404, 'no_such_app'],
        ['DELETE /apps/default/schema HTTP/1.1\r\nHost: x\r\n\r\n', 405, 'method_not_allowed'],
        ['POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc', 405, 'method_not_allowed'],
        [`${POST}Content-Length: 3\r\n\r\nabc`, 400, 'bad_json'],
        [`${POST}Transfer-Encoding: chunked\r\n\r\n3;x="y"\r\nabc\r\n0\r\nTrailer: t\r\n\r\n`, 400, 'bad_json'],
        ['GET /apps/default/query?sql=%ZZ HTTP/1.1\r\nHost: x\r\n\r\n', 400, 'bad_parameter'],
        ['GET /apps/default/query?sql=a&sql=b HTTP/1.1\r\nHost: x\r\n\r\n', 400, 'bad_parameter'],
    ]
    for (const [bytes, status, code] of refused) {
        raw.send(bytes)
        const reply = await raw.reply()
        assertProblem(reply, status, code)
        if (status === 405) assert.match(reply.headers.allow, /GET/)
        await raw.assertAlive()
    }
    raw.destroy()
})

test('pipelined requests are answered in their order, however they arrive', async (t) => {
    const s = await service(t)
    await new App(s).batch([create('x')])
    const one = (i) => `GET /apps/default/v1/stream/x?offset=${i} HTTP/1.1\r\nHost: x\r\n\r\n`
    const body = JSON.stringify({ ops: [{ op: 'append', stream: 'x', text: 'y' }] })
    const all = Array.from({ length: 50 }, (_, i) => (i % 5 === 0 ? `${POST}Content-Length: ${body.length}\r\n\r\n${body}` : one(Math.floor(i / 5)))).join('')
    for (const size of [all.length, 1000, 7]) {
        const raw = new Raw(s)
        for (let at = 0; at < all.length; at += size) {
            raw.send(all.slice(at, at + size))
            if (size === 7 && at % 700 === 0) await sleep(1)
        }
        for (let i = 0; i < 50; i++) assert.equal((await raw.reply()).status, 200, `reply ${i} of pieces of ${size}`)
        raw.destroy()
    }
    assert.equal((await new App(s).readStream('x')).bytes.length, 30)
})

test('a slow request is one as well, a byte at a time', async (t) => {
    const s = await service(t)
    const raw = new Raw(s)
    raw.socket.setNoDelay(true)
    for (const c of `${POST}Transfer-Encoding: chunked\r\n\r\n5\r\n{"op"\r\n1\r\n:\r\n0\r\n\r\n`) {
        raw.send(c)
        await sleep(1)
    }
    assertProblem(await raw.reply(), 400, 'bad_json')
    await raw.assertAlive()
    raw.destroy()
})

test('Expect: 100-continue is answered before the body', async (t) => {
    const s = await service(t)
    const body = JSON.stringify({ ops: [create('expected')] })
    const raw = new Raw(s)
    raw.send(`${POST}Expect: 100-continue\r\nContent-Length: ${body.length}\r\n\r\n`)
    assert.equal(await raw.line(), 'HTTP/1.1 100 Continue')
    assert.equal(await raw.line(), '')
    raw.send(body)
    assert.equal((await raw.reply()).status, 200)
    raw.destroy()
    // What is refused by its head alone is refused before any body.
    const large = new Raw(s)
    large.send(`${POST}Expect: 100-continue\r\nContent-Length: 500000000\r\n\r\n`)
    assertProblem(await large.reply(), 413, 'too_large')
    large.destroy()
})

test('HTTP/1.0 and Connection: close end with the reply', async (t) => {
    const s = await service(t)
    for (const bytes of ['GET /healthz HTTP/1.0\r\n\r\n', `${GET}Connection: close\r\n\r\n`, `${GET}connection: foo, CLOSE\r\n\r\n`]) {
        const raw = new Raw(s)
        raw.send(bytes)
        assert.equal((await raw.reply()).status, 200)
        await raw.assertClosed()
    }
    // A client that has ended its own side still gets its answer.
    const half = new Raw(s)
    half.send(`${GET}\r\n`).finish()
    assert.equal((await half.reply()).status, 200)
    await half.assertClosed()
})

test('HEAD says what GET would, without a body, and the connection goes on', async (t) => {
    const s = await service(t)
    const raw = new Raw(s)
    raw.send(`GET /apps/default/schema HTTP/1.1\r\n${HOST}\r\n`)
    const got = await raw.reply()
    raw.send(`HEAD /apps/default/schema HTTP/1.1\r\n${HOST}\r\n`)
    const head = await raw.reply({ head: true })
    assert.deepEqual([head.status, head.headers['content-length'], head.headers['content-type']], [200, got.headers['content-length'], got.headers['content-type']])
    raw.send(`HEAD /nowhere HTTP/1.1\r\n${HOST}\r\n`)
    assert.equal((await raw.reply({ head: true })).status, 404)
    await raw.assertAlive()
    raw.destroy()
})

test('OPTIONS and CORS: a page of another origin may ask', async (t) => {
    const s = await service(t)
    const raw = new Raw(s)
    raw.send(`OPTIONS /apps/default/batch HTTP/1.1\r\n${HOST}Origin: http://example.org\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization,idempotency-key\r\n\r\n`)
    const asked = await raw.reply()
    assert.equal(asked.status, 204)
    assert.equal(asked.headers['access-control-allow-origin'], '*')
    assert.match(asked.headers['access-control-allow-methods'], /POST/)
    assert.match(asked.headers['access-control-allow-headers'], /Authorization/i)
    assert.match(asked.headers['access-control-allow-headers'], /Idempotency-Key/i)
    raw.send(`GET /nowhere HTTP/1.1\r\n${HOST}Origin: http://example.org\r\n\r\n`)
    const reply = await raw.reply()
    assert.equal(reply.headers['access-control-allow-origin'], '*')
    assert.equal(reply.headers['x-content-type-options'], 'nosniff')
    assert.ok(Date.parse(reply.headers.date) > 0)
    raw.destroy()
})

test('hundreds of connections that do nothing, or half of something, disturb nobody', async (t) => {
    const s = await service(t)
    const sockets = Array.from({ length: 300 }, (_, i) => {
        const socket = net.connect(s.port, '127.0.0.1').on('error', () => {})
        if (i % 3 === 1) socket.write('GET /healthz HT')
        if (i % 3 === 2) socket.write(`${POST}Content-Length: 100\r\n\r\n{"ops"`)
        return socket
    })
    await Promise.all(sockets.map((c) => within(new Promise((go) => c.once('connect', go)), 'a connection')))
    const app = new App(s)
    await app.batch([create('a')])
    sockets.forEach((c, i) => (i % 2 ? c.destroy() : c.end()))
    assert.equal((await app.request('GET', '/schema')).status, 200)
})
