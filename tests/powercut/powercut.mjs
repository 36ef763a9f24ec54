// Power cuts, simulated: records what the real segued writes, syncs, renames and sends under a mixed load, then has
// `check` cut the power at POINTS points of it. See check.c for what must hold at each of them.
//
//   node tests/powercut/powercut.mjs [POINTS]     SEED=n picks another run; BUG=name plants a bug that must be found; ONLY=blobs: a load
//                                                 of blobs that come and go, so that packs are emptied
import { spawnSync } from 'node:child_process'
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { App, append, close, create, insert, remove, request, update } from '../e2e/lib/http.mjs'
import { Provider, jobOf, post } from '../e2e/lib/provider.mjs'
import { Service, preload, root, sleep } from '../e2e/lib/service.mjs'
import { subscribe } from '../e2e/lib/sse.mjs'

const POINTS = Number(process.argv[2] || process.env.POINTS || 5000)
const CHECK = path.resolve(process.env.CHECK || path.join(root, 'build/tests/powercut/check'))
const DISK = path.resolve(process.env.DISK || path.join(root, 'build/tests/lib/disk.so'))
const BLOBS = process.env.ONLY === 'blobs'
const PER_ROUND = Math.min(BLOBS ? 500 : 1000, POINTS)
const ROUND_MS = Number(process.env.ROUND_MS || (BLOBS ? 4000 : 2500))
let state = BigInt(process.env.SEED || 1)

// A small generator of its own, so that a seed means the same load again (as far as a real daemon allows).
function random(n) {
    state = (state * 6364136223846793005n + 1442695040888963407n) & 0xffffffffffffffffn
    return Number((state >> 33n) % BigInt(n))
}
const text = (n) => Array.from({ length: n }, () => 'abcdefghij klmnop.\n'[random(19)]).join('')
const bytes = (n) => Buffer.from(Array.from({ length: n }, () => random(256)))

const SCHEMA = `create table chats (title text not null);
create table messages (chat uuid references chats, body stream, note text default 'new', n integer, file blob);
create table shared (owner integer unique, n counter, hi integer options (merge 'max'), lo integer options (merge 'min'), tags text[] options (merge 'set'));
create index shared_hi on shared (hi desc, owner);`

// One writer: batches of every kind, one after the other, as fast as they are answered.
async function writer(app, over) {
    const replica = randomUUID()
    const rows = [], free = []
    let counter = 0
    const send = async (ops, named = true) => {
        const reply = await app.send(named ? { replica, counter: ++counter, ops } : { key: randomUUID(), ops })
        if (![200, 409, 422].includes(reply.status)) throw new Error(`${reply.status} ${reply.text}`)
        return reply.status === 200
    }
    for (let i = 0; !over(); i++) {
        const pick = random(20)
        const row = rows[random(rows.length || 1)]
        if (pick < 5 || !row) {
            const id = randomUUID()
            if (await send([insert('messages', { n: i, note: text(random(200)) }, id), { op: 'append', table: 'messages', id, column: 'body', text: text(1 + random(40)) }])) rows.push(id)
        } else if (pick < 12) {
            await send([{ op: 'append', table: 'messages', id: row, column: 'body', text: text(1 + random(pick === 11 ? 6000 : 12)) }], pick < 11)
        } else if (pick < 14) {
            await send([update('messages', row, { n: i }), { op: 'append', table: 'messages', id: row, column: 'body', text: 'x' }])
        } else if (pick === 14) {
            await send([{ op: 'close', table: 'messages', id: row, column: 'body' }, update('messages', row, { note: 'closed' })])
            rows.splice(rows.indexOf(row), 1)
        } else if (pick === 15) {
            await send([remove('messages', row)], false)
            rows.splice(rows.indexOf(row), 1)
        } else if (pick === 16) {
            if (random(3) === 0) await ask(app)
            else await send([insert('messages', { chat: randomUUID() })]) // refers to nothing: rejected
        } else if (pick === 17) {
            const name = `free/${replica}/${i}`
            await send([create(name, 'text/plain'), append(name, text(random(2000))), close(name)])
            if (random(2) === 0) free.push(name)
            // Some are trimmed, some deleted: what they have on disk is given back, and files that are emptied go.
            const one = free[random(free.length || 1)]
            if (one && random(3) === 0) await send([{ op: 'trim', stream: one, tail: true, text: 'what it was' }], false)
            else if (one && random(2) === 0 && await send([{ op: 'drop', stream: one }], false)) free.splice(free.indexOf(one), 1)
        } else if (pick === 18) {
            await sleep(random(60)) // lets the database commit, the streams go quiet
        } else if (random(2) === 0) {
            await (random(2) === 0 ? merge : transact)(app, send)
        } else if (random(3) === 0) {
            await streams(app, send, `full/${replica}/${i}`)
        } else if (random(3) === 0) {
            await subscription(app, replica)
        } else if (random(2) === 0) {
            await upload(app, bytes(1 + random(200000)))
        } else {
            const body = random(4) === 0 ? bytes(40000 + random(90000)) : Buffer.from(text(500 + random(3000)))
            const digest = createHash('sha256').update(body).digest('hex')
            const reply = await app.request('PUT', `/blobs/${digest}`, { body })
            if (![200, 201].includes(reply.status)) throw new Error(`${reply.status} ${reply.text}`)
            await send([update('messages', row, { file: { blob: digest } })])
        }
    }
}

const SHARED = Array.from({ length: 6 }, (_, i) => `01890a5d-ac96-774b-bcce-${String(i).padStart(12, '0')}`)
const tags = (n) => Array.from({ length: n }, (_, i) => 'abcdefgh'[(i * 3 + random(3)) % 8]).filter((t, i, all) => all.indexOf(t) === i)

// Rows that all writers change, delete and bring back; some batches break a constraint, or a row is gone.
async function merge(app, send) {
    const values = () => ({ n: { increment: random(9) - 3 }, hi: random(1000), lo: random(1000), tags: { add: tags(random(4)), remove: [] } })
    for (let k = 0; k < 4; k++) {
        const ops = [SHARED[random(6)], SHARED[random(6)]].filter((id, i, all) => all.indexOf(id) === i).map((id) => {
            const pick = random(8)
            if (pick === 0) return remove('shared', id)
            if (pick === 1) return { op: 'restore', table: 'shared', id }
            if (pick === 2) return update('shared', id, { tags: tags(3), owner: random(30) })
            return { op: 'upsert', table: 'shared', id, values: values() }
        })
        await send(ops, random(2) === 0)
    }
}

// Reads by a query and by name, and writes what follows from it, or finds that it is not so any more.
async function transact(app, send) {
    for (let k = 0; k < 3; k++) {
        const reply = await app.ask({ sql: 'select hi, owner from shared where hi >= $1 order by hi desc limit 2', params: [random(1000)], reads: true })
        if (reply.status !== 200) throw new Error(`${reply.status} ${reply.text}`)
        const { seq, rows, reads } = reply.json
        if (random(3) === 0) await merge(app, send)
        const ops = rows.map((row) => update('shared', row.id, { hi: (row.hi || 0) + 1 }))
        const sent = await app.send({ key: randomUUID(), mode: 'transaction', base: seq, reads: [reads], rows: [['shared', SHARED[random(6)]]], ops })
        if (![200, 409, 422].includes(sent.status)) throw new Error(`${sent.status} ${sent.text}`)
    }
}

// Blobs that come and go quickly: garbage is made all the time, and packs are emptied.
async function keeper(app, over) {
    const kept = []
    const ask = async (method, path, body, fine) => {
        const reply = await app.request(method, path, { body })
        if (![200, 201, ...fine].includes(reply.status)) throw new Error(`${reply.status} ${reply.text}`)
        return reply.status
    }
    const common = randomBytes(200000)
    while (!over()) {
        const pick = random(12)
        if (pick < 2 && kept.length > 0) await ask('DELETE', `/blob-pins/${kept.splice(random(kept.length), 1)[0]}`, undefined, [404])
        else if (pick === 2) await upload(app, randomBytes(1 + random(400000)), true) // a tail would keep its pack from being emptied
        else if (pick === 3) await sleep(random(40))
        else {
            const body = Buffer.concat([common.subarray(0, random(3) === 0 ? random(200000) : 0), randomBytes(1 + random(300000))])
            const digest = createHash('sha256').update(body).digest('hex')
            await ask('PUT', `/blobs/${digest}`, body, [])
            if (random(5) === 0 && await ask('PUT', `/blob-pins/${digest}`, undefined, [404]) === 200) kept.push(digest)
        }
    }
}

// An upload in pieces; some are left as they are.
async function upload(app, content, ends = false) {
    const tus = (method, path, headers, body) => request(app.s, method, path, { headers: { 'tus-resumable': '1.0.0', ...headers }, body })
    const made = await tus('POST', `${app.base}/uploads`, { 'upload-length': String(content.length) })
    if (made.status !== 201) throw new Error(`${made.status} ${made.text}`)
    for (let at = 0; at < content.length && random(8) > 0;) {
        const piece = content.subarray(at, at + 1 + random(90000))
        const reply = await tus('PATCH', made.headers.location, { 'upload-offset': String(at), 'content-type': 'application/offset+octet-stream' }, piece)
        if (reply.status !== 204) throw new Error(`${reply.status} ${reply.text}`)
        at += piece.length
    }
    if (ends) await tus('DELETE', made.headers.location)
}

// Messages, producers, sequences, deadlines and forks, whose source may go first.
async function streams(app, send, path) {
    const json = random(2) === 0
    const data = (n) => (json ? { messages: Array.from({ length: n }, (_, k) => ({ k, text: text(random(60)) })) } : { text: text(20 * n) })
    const producer = (seq, epoch = 0) => ({ producer: { id: `p${random(3)}`, epoch, seq } })
    await send([{ ...create(path, json ? 'application/json' : 'text/plain'), ...data(2), ...(random(3) === 0 && { ttl: 1 + random(2) }) }])
    for (let n = 0; n < 1 + random(4); n++) await send([{ op: 'append', stream: path, ...data(1 + random(3)), ...producer(random(2)), ...(random(3) === 0 && { seq: String(n) }) }], false)
    if (random(3) === 0) await send([json ? { op: 'trim', stream: path, tail: true, messages: [{ was: 'more' }] } : { op: 'trim', stream: path, before: 10 + random(20) }], false)
    await send([{ ...create(`${path}/fork`), fork: { from: path } }, { op: 'append', stream: `${path}/fork`, ...data(1), ...producer(0, 1) }], false)
    if (random(3) === 0) await send([{ ...create(`${path}/fork/fork`), fork: { from: `${path}/fork` } }])
    if (random(2) === 0) await send([{ op: 'drop', stream: path }])
    if (random(2) === 0) await send([{ op: 'drop', stream: `${path}/fork` }], false)
}

// A worker's cursor: made, claimed, moved on, let go.
async function subscription(app, replica) {
    const id = `worker-${replica}`
    const base = `/v1/stream/__ds/subscriptions/${id}`
    const ask = async (method, at, body, token) => {
        const headers = { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) }
        const reply = await app.request(method, base + at, { headers, body: body && JSON.stringify(body) })
        if (reply.status >= 500) throw new Error(`${reply.status} ${reply.text}`)
        return reply
    }
    await ask('PUT', '', { type: 'pull-wake', pattern: `full/${replica}/**`, wake_stream: `wake/${replica}`, lease_ttl_ms: 1000 })
    const claim = await ask('POST', '/claim', { worker: 'w' })
    if (claim.status !== 200) return
    const { token, wake_id, generation, streams: some } = claim.json
    const acks = some.filter(() => random(2) === 0).map((s) => ({ stream: s.path, offset: s.tail_offset ?? s.offset }))
    if (random(3) > 0) await ask('POST', '/ack', { wake_id, generation, acks, done: random(2) === 0 }, token)
    if (random(6) === 0) await ask('DELETE', '')
}

// Models in every format, and what becomes of them: a row's text, or a stream in one of the forms.
const models = [['happy', 'chat'], ['paced', 'chat'], ['unicode', 'chat'], ['slow', 'chat'], ['too-many', 'chat'], ['chat-tool', 'chat'],
    ['messages-tool', 'messages'], ['messages-recovers', 'messages'], ['responses-tool', 'responses'], ['responses-background', 'responses']]

// A reply that comes token by token, in batches of the service's own; some are never at their end.
async function ask(app) {
    const [model, api] = models[random(models.length)]
    const row = api === 'chat' && model !== 'chat-tool' && random(2) === 0
    const manner = { api, form: ['text', 'messages', 'raw', 'ui'][random(4)], ...(model === 'responses-background' ? { background: true } : random(2) === 0 && { on_restart: 'fork' }) }
    const reply = await post(app, row ? jobOf(model, { status: 'note', usage: undefined })
        : { ...manner, request: { model, [api === 'responses' ? 'input' : 'messages']: [{ role: 'user', content: 'Why?' }] }, target: { stream: `replies/${randomUUID()}` } })
    if (![202, 429].includes(reply.status)) throw new Error(`${reply.status} ${reply.text}`)
}

let emptied = 0
let gone = 0

async function record(data, log, first) {
    const s = new Service({ data, args: ['--journal-segment-bytes', '262144', '--seal-quiet-ms', '150', '--stream-segment-bytes', '8192', '--log-level', BLOBS ? 'info' : 'error', ...(BLOBS ? ['--blob-grace-ms', '50', '--blob-compact-bytes', '500000000', '--blob-pack-bytes', '2097152'] : []), '--llm-provider', `stand-in ${provider.url}/v1 MADE_UP_KEY`] })
    await s.start({ LD_PRELOAD: preload(DISK), SEGUE_DISK_RECORD: log, SEGUE_DISK_ROOT: data, MADE_UP_KEY: 'made-up-key', ...(process.env.BUG ? { SEGUE_BUG: process.env.BUG } : {}) })
    const app = new App(s)
    if (first) await app.schema(SCHEMA)
    const cleanups = []
    await subscribe({ after: (fn) => cleanups.push(fn) }, app, { queries: { first: 'select * from messages order by n limit 20', all: 'select * from messages' } })
    const end = Date.now() + ROUND_MS
    let killed = false
    // Blobs stop coming before the end: what is copied then has no barrier but its own.
    const over = () => killed || Date.now() > (BLOBS ? end - ROUND_MS / 2 : end)
    const work = [1, 2, 3, 4].map(() => (BLOBS ? keeper : writer)(app, over).catch((e) => { if (!killed) throw e }))
    await sleep(ROUND_MS - 50)
    killed = true
    emptied += (s.child.stderr.match(/a pack is emptied/g) || []).length
    gone += (s.child.stderr.match(/an empty pack is gone/g) || []).length
    await s.kill() // in the middle of it: the next round on this folder recovers from its journal
    await Promise.all(work)
    for (const fn of cleanups) await fn()
}

function check(logs, points, seed) {
    const r = spawnSync(CHECK, ['--points', points, '--seed', seed, '--scratch', fs.existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir(), ...logs].map(String), { encoding: 'utf8', maxBuffer: 1 << 26 })
    process.stderr.write(r.stderr)
    if (r.signal) console.log(`the check died of ${r.signal}`)
    const counts = /checked (\d+) passed, (\d+) failed/.exec(r.stdout)
    const lost = /journal (\d+), lmdb (\d+), packs (\d+)/.exec(r.stdout)
    process.stdout.write(r.stdout)
    return { passed: counts ? Number(counts[1]) : 0, failed: counts ? Number(counts[2]) : points, lost: lost ? lost.slice(1).map(Number) : [0, 0, 0] }
}

const provider = await new Provider().start()
const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'segue-powercut-'))
const total = { passed: 0, failed: 0, lost: [0, 0, 0] }
console.log(`power cuts: ${POINTS} points, seed ${state}${process.env.BUG ? `, planted bug ${process.env.BUG}` : ''}`)
try {
    for (let round = 0, left = POINTS, logs = [], data; left > 0; round++) {
        // Every other round goes on where the one before was killed, so that recovery is cut as well.
        if (round % 2 === 0) {
            data = fs.mkdtempSync(path.join(scratch, 'data-'))
            logs = []
        }
        const log = path.join(scratch, `log-${round}`)
        await record(data, log, round % 2 === 0)
        logs.push(log)
        const points = Math.min(PER_ROUND, left)
        const seen = check(logs, points, Number(process.env.SEED || 1) * 1000 + round)
        left -= points
        total.passed += seen.passed
        total.failed += seen.failed
        total.lost = total.lost.map((n, i) => n + seen.lost[i])
    }
    const [journal, lmdb, packs] = total.lost
    if (BLOBS) console.log(`${emptied} packs were emptied of what lived in them, ${gone} files of packs went`)
    console.log(`images that lost unsynced bytes in the journal: ${journal}, in LMDB: ${lmdb}, in packs: ${packs}`)
    if (POINTS >= 1000 && [journal, lmdb, packs].includes(0)) {
        console.log('a campaign in which one of them never lost anything has proved nothing about it')
        total.failed++
    }
    if (BLOBS && POINTS >= 1000 && Math.min(emptied, gone) < POINTS / 250) {
        console.log('a campaign in which packs are seldom emptied has proved nothing about that')
        total.failed++
    }
    if (process.env.BUG) console.log(`the planted bug ${process.env.BUG} was ${total.failed > 0 ? 'found' : 'NOT found'}`)
    console.log(`${total.passed} passed, ${total.failed} failed`)
} finally {
    await provider.end()
    fs.rmSync(scratch, { recursive: true, force: true })
}
process.exitCode = total.failed === 0 ? 0 : 1
