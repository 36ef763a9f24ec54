// The outbox against a stand-in that answers what a service seldom does: busy in the middle, fates that were forgotten, answers that are none.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import http from 'node:http'
import path from 'node:path'
import { test } from 'node:test'
import { segue, tempFolder } from './lib/service.mjs'

const JOURNAL = '0190a5d0-0000-7000-8000-000000000001'

// A server's frame, unmasked.
function frame(payload, opcode = 1) {
    const data = Buffer.from(payload), n = data.length
    const head = n < 126 ? [0x80 | opcode, n] : [0x80 | opcode, 126, n >> 8, n & 255]
    return Buffer.concat([Buffer.from(head), data])
}

// Calls back for each message of a client: frames of any length, masked as they must be.
function reader(onMessage, onPong) {
    let rest = Buffer.alloc(0)
    return (piece) => {
        rest = Buffer.concat([rest, piece])
        for (;;) {
            if (rest.length < 2) return
            assert.ok(rest[1] & 0x80, 'a client masks')
            let n = rest[1] & 0x7f, at = 2
            if (n === 126) { if (rest.length < 4) return; n = rest.readUInt16BE(2); at = 4 }
            if (n === 127) { if (rest.length < 10) return; n = Number(rest.readBigUInt64BE(2)); at = 10 }
            if (rest.length < at + 4 + n) return
            const key = rest.subarray(at, at + 4), data = Buffer.from(rest.subarray(at + 4, at + 4 + n)), opcode = rest[0] & 15
            for (let i = 0; i < n; i++) data[i] ^= key[i & 3]
            rest = rest.subarray(at + 4 + n)
            if (opcode === 1) onMessage(JSON.parse(data.toString()))
            if (opcode === 10) onPong(data.toString())
        }
    }
}

// `script(c, m, n)`: what to do about message m of connection n (from 1); c has say(message), raw(bytes), cut(), and what was seen: sent, pongs.
async function standIn(t, script, { upgrade } = {}) {
    const all = { connections: 0, batches: [], pongs: [] }
    const server = http.createServer((req, res) => res.writeHead(404).end())
    server.on('upgrade', (req, socket) => {
        const n = ++all.connections
        socket.on('error', () => {})
        if (upgrade && upgrade(socket, n)) return
        const accept = createHash('sha1').update(`${req.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
        // The welcome comes with the answer: who reads on reads it there.
        socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`)
        const c = { n, sent: [], say: (m) => socket.write(frame(JSON.stringify(m))), raw: (bytes) => socket.write(bytes), cut: () => socket.destroy(), pongs: all.pongs }
        socket.on('data', reader((m) => {
            if (m.type === 'hello') return c.say({ type: 'welcome', protocol: 1, app: 'default', journal: JOURNAL, seq: 40, subscriptions: {} })
            if (m.type === 'batch') { c.sent.push(m); all.batches.push(m) }
            script(c, m, n)
        }, (text) => all.pongs.push(text)))
    })
    await new Promise((done) => server.listen(0, '127.0.0.1', done))
    t.after(() => { server.closeAllConnections?.(); server.close() })
    const s = { url: `http://127.0.0.1:${server.address().port}` }
    const folder = path.join(tempFolder(t), 'outbox')
    const run = (args, input = '') => segue(s, [...args, '--outbox', folder], input)
    const put = async (i) => assert.equal((await run(['batch', '-', '--offline'], JSON.stringify({ ops: [{ op: 'append', stream: 's', text: `${i};` }] }))).code, 0)
    all.put = async (n, atOnce = 1) => { for (let i = 0; i < n; i += atOnce) await Promise.all(Array.from({ length: Math.min(atOnce, n - i) }, (_, k) => put(i + k))) }
    all.send = async (...args) => {
        const { code, stdout, stderr } = await run(['outbox', 'send', '--json', '--retry', '20', ...args])
        return { code, stderr, fates: stdout.split('\n').filter(Boolean).map((l) => JSON.parse(l)) }
    }
    all.waiting = async () => (await run(['outbox', 'list', '--json'])).stdout.split('\n').filter(Boolean).length
    return all
}

let seq = 100
const accept = (c, m) => c.say({ type: 'fate', id: m.id, fate: 'accepted', seq: seq++ })
const names = (batches) => batches.map((m) => `${m.replica} ${m.counter} ${JSON.stringify([m.base, m.stamp, m.ops])}`)

test('busy in the middle: the same batches come again under the same names', async (t) => {
    const peer = await standIn(t, (c, m, n) => {
        if (n === 1 && m.id === 3) c.say({ type: 'error', id: 3, code: 'busy', detail: 'later' })
        else if (n === 1 && m.id > 3) c.say({ type: 'error', id: m.id, code: 'counter_gap', detail: 'a gap', expected: 3 })
        else accept(c, m)
    })
    await peer.put(6)
    const { code, fates } = await peer.send()
    assert.equal(code, 0)
    assert.deepEqual(fates.map((f) => [f.id, f.fate]), [1, 2, 3, 4, 5, 6].map((id) => [id, 'accepted']))
    assert.equal(peer.connections, 2)
    const again = peer.batches.slice(6)
    assert.equal(again[0].id, 3, 'what has its fate is not sent again')
    assert.deepEqual(names(again), names(peer.batches.slice(2, 6)))
    assert.deepEqual(peer.batches.slice(0, 6).map((m) => m.counter), [1, 2, 3, 4, 5, 6])
    assert.ok(peer.batches.every((m) => m.base === 1 && Number.isInteger(m.stamp)))
})

test('a connection that breaks in the middle of a fate, and one whose fates are out of order', async (t) => {
    const peer = await standIn(t, (c, m, n) => {
        if (n === 1 && m.id === 2) { c.raw(frame(JSON.stringify({ type: 'fate', id: 2, fate: 'accepted', seq: 7 })).subarray(0, 9)); setTimeout(() => c.cut(), 50) }
        else if (n === 2 && m.id === 2) return
        else if (n === 2 && m.id === 3) { accept(c, m); accept(c, c.sent[0]) }
        else accept(c, m)
    })
    await peer.put(3)
    const { code, fates } = await peer.send()
    assert.equal(code, 0)
    assert.deepEqual(fates.map((f) => f.id), [1, 2, 3])
    assert.equal(peer.connections, 3)
})

test('a fate that the service has forgotten is told as that, and holds nothing up', async (t) => {
    const peer = await standIn(t, (c, m) => (m.id === 2 ? c.say({ type: 'error', id: 2, code: 'fate_expired', detail: 'too long ago' }) : accept(c, m)))
    await peer.put(3)
    const { code, fates } = await peer.send()
    assert.equal(code, 1)
    assert.deepEqual(fates.map((f) => [f.id, f.fate]).sort(), [[1, 'accepted'], [2, 'expired'], [3, 'accepted']])
})

test('a batch that cannot be read is asked about: it may have been settled before', async (t) => {
    const peer = await standIn(t, (c, m, n) => {
        if (m.type === 'fate') return c.say({ type: 'fate', id: m.id, fate: 'accepted', seq: 77, again: true })
        if (n === 1 && m.id === 2) return c.say({ type: 'error', id: 2, code: 'bad_batch', detail: 'what is that?', position: 0 })
        if (n === 1 && m.id === 3) return c.say({ type: 'error', id: 3, code: 'counter_gap', detail: 'a gap', expected: 2 })
        accept(c, m)
    })
    await peer.put(3)
    const { code, fates } = await peer.send()
    assert.equal(code, 0)
    assert.deepEqual(fates.map((f) => [f.id, f.fate, f.counter]), [[1, 'accepted', 1], [2, 'accepted', 2], [3, 'accepted', 3]])
    assert.equal(fates[1].answer.seq, 77)
    assert.equal(new Set(peer.batches.map((m) => m.replica)).size, 1)
})

test('where it was not, those behind it go under another replica', async (t) => {
    const peer = await standIn(t, (c, m) => {
        if (m.type === 'fate') return c.say({ type: 'error', id: m.id, code: 'no_fate', detail: 'none', expected: m.counter })
        if (m.id === 2) return c.say({ type: 'error', id: 2, code: 'bad_batch', detail: 'what is that?', position: 0 })
        if (c.n === 1 && m.id === 3) return c.say({ type: 'error', id: 3, code: 'counter_gap', detail: 'a gap', expected: 2 })
        accept(c, m)
    })
    await peer.put(3)
    const { fates } = await peer.send()
    assert.deepEqual(fates.map((f) => [f.id, f.fate, f.counter]), [[1, 'accepted', 1], [2, 'unsendable', 2], [3, 'accepted', 1]])
    assert.notEqual(fates[2].replica, fates[0].replica)
})

for (const together of [false, true])
    test(`a service that has lost batches which it had settled is no place to send more${together ? ', also if that comes together with a fate' : ''}`, async (t) => {
        const held = [] // until both can be written at once
        const peer = await standIn(t, (c, m) => {
            if (m.id === 1) accept({ ...c, say: (fate) => (together ? held.push(frame(JSON.stringify(fate))) : c.say(fate)) }, m)
            if (m.id === 2) c.raw(Buffer.concat([...held, frame(JSON.stringify({ type: 'error', id: 2, code: 'counter_gap', detail: 'the next is 1', expected: 1 }))]))
        })
        await peer.put(2)
        const { code, stderr, fates } = await peer.send()
        assert.equal(code, 1)
        assert.match(stderr, /^segue: counter_gap: /)
        assert.equal(fates.length, 1)
        assert.equal(await peer.waiting(), 1)
    })

test('an answer that is no WebSocket, a refusal, and a service that has too much to do', async (t) => {
    const answers = ['SSH-2.0-other\r\n\r\n', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi', 'HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: nobody\r\n\r\n',
        'HTTP/1.1 503 Service Unavailable\r\nContent-Length: 15\r\n\r\n{"code":"busy"}']
    const peer = await standIn(t, (c, m) => accept(c, m), { upgrade: (socket, n) => n <= answers.length && (socket.end(answers[n - 1]), true) })
    await peer.put(1)
    const { code, fates } = await peer.send()
    assert.equal(code, 0)
    assert.deepEqual([fates.length, peer.connections], [1, 5])
    const refusing = await standIn(t, () => {}, { upgrade: (socket) => (socket.end('HTTP/1.1 404 Not Found\r\nContent-Length: 45\r\n\r\n{"code":"no_such_app","detail":"there is no"}'), true) })
    await refusing.put(1)
    const refused = await refusing.send()
    assert.deepEqual([refused.code, refused.stderr, refusing.connections], [1, 'segue: no_such_app: there is no\n', 1])
    const silent = await refusing.send('--retry', '0')
    assert.equal(silent.code, 1)
})

test('no more is on its way than the window holds, and pings are answered', async (t) => {
    let most = 0, timer
    const peer = await standIn(t, (c) => {
        most = Math.max(most, c.sent.length - (c.answered || 0))
        clearTimeout(timer)
        // When nothing more comes: the window is full.
        timer = setTimeout(() => {
            c.raw(frame('are you there?', 9))
            for (const m of c.sent.slice(c.answered || 0)) accept(c, m)
            c.answered = c.sent.length
        }, 200)
    })
    await peer.put(270, 15)
    const { code, fates } = await peer.send()
    assert.equal(code, 0)
    assert.equal(fates.length, 270)
    assert.equal(most, 256)
    assert.ok(peer.pongs.includes('are you there?'))
})
