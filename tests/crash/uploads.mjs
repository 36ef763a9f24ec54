// A client of the crash runs that uploads in pieces: bodies that break anywhere, and an offset that was told is never taken back.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import http from 'node:http'
import { insert } from '../e2e/lib/http.mjs'
import { sleep } from '../e2e/lib/service.mjs'
import { Subscriber } from '../e2e/lib/sse.mjs'
import { Client, exchange } from './workload.mjs'

const TUS = { 'tus-resumable': '1.0.0' }
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex')

// One upload after the other. Each is followed, and half of them end in a row.
export class TusClient extends Client {
    constructor(world, name) {
        super(world, name)
        this.made = 0
        this.finished = [] // {digest, bytes, deleted}
        this.upload = undefined
    }

    tus(method, path, headers, body) { return exchange(this.world.s, this.agent, method, path, body, { ...TUS, ...headers }) }

    async step() {
        if (!this.upload) return this.begin()
        if (this.upload.unsure && !(await this.look())) return false
        if (!this.upload || this.upload.unsure) return true
        if (this.upload.done) return this.finish()
        return this.random.chance(60) ? this.piece() : this.broken()
    }

    async begin() {
        const bytes = this.random.bytes(4 * (1 + this.random.below(this.random.chance(20) ? 500000 : 40000)))
        const row = this.random.chance(50) ? this.random.uuid() : undefined
        if (row) {
            const reply = await this.ask('POST', '/batch', JSON.stringify({ key: row, ops: [insert('files', { name: this.name }, row)] }))
            if (reply.lost) return false
            if (reply.status !== 200) return reply.status === 503
        }
        const link = row ? { 'segue-link': `files/${row}/file` } : {}
        const reply = await this.tus('POST', '/apps/default/uploads', { 'upload-length': String(bytes.length), ...link })
        if (reply.lost) return false // nobody knows its id: it stays open
        if (reply.status === 503) return true
        assert.equal(reply.status, 201, reply.text)
        const path = reply.headers.location
        // told: what was acknowledged; sent: what may have been kept
        this.upload = { path, bytes, digest: sha256(bytes), row, told: 0, sent: 0, unsure: false, done: false, ending: false }
        const queries = row ? { row: ['select file from files where id = $1', row] } : {}
        this.follower = new Subscriber(this.world.app, { uploads: { up: path.split('/').at(-1) }, queries })
        this.following = this.follower.open().catch(() => {})
        this.made++
        return true
    }

    headers(offset) { return { 'upload-offset': String(offset), 'content-type': 'application/offset+octet-stream' } }

    async piece() {
        const u = this.upload
        const to = Math.min(u.bytes.length, u.told + 1 + this.random.below(400000))
        u.sent = Math.max(u.sent, to)
        const reply = await this.tus('PATCH', u.path, this.headers(u.told), u.bytes.subarray(u.told, to))
        if (reply.lost || reply.status === 503 || reply.status === 409) {
            u.unsure = true
            return !reply.lost
        }
        assert.equal(reply.status, 204, reply.text)
        assert.equal(Number(reply.headers['upload-offset']), to)
        this.tell(to, reply.headers['segue-blob'])
        return true
    }

    tell(offset, blob) {
        const u = this.upload
        assert.ok(offset >= u.told && offset <= u.sent, `an offset between what was told and what was sent: ${u.told} <= ${offset} <= ${u.sent}`)
        assert.equal(blob, offset === u.bytes.length ? u.digest : undefined, 'its blob is told with its last byte')
        u.told = offset
        u.done = blob !== undefined
    }

    // A body of which a part comes slowly, and then the connection goes.
    async broken() {
        const u = this.upload
        const rest = u.bytes.length - u.told
        const to = u.told + this.random.below(rest)
        u.sent = Math.max(u.sent, to)
        u.unsure = true
        await new Promise((done) => {
            const headers = { ...TUS, ...this.headers(u.told), 'content-length': rest }
            const req = http.request(this.world.s.url + u.path, { method: 'PATCH', agent: false, headers }, (res) => res.resume())
            req.on('error', () => {}).on('close', done)
            req.flushHeaders()
            this.dribble(req, u.told, to).catch(() => req.destroy())
        })
        this.world.counts.patchesBroken++
        return true
    }

    async dribble(req, from, to) {
        const pieces = 1 + this.random.below(4)
        for (let i = 0; i < pieces && !req.destroyed; i++) {
            const at = (n) => from + Math.floor(((to - from) * n) / pieces)
            req.write(this.upload.bytes.subarray(at(i), at(i + 1)))
            await sleep(this.random.below(15))
        }
        req.destroy()
    }

    // How far it came. False: the connection is gone.
    async look() {
        const u = this.upload
        const reply = await this.tus('HEAD', u.path)
        if (reply.lost) return false
        if (reply.status === 503) return true
        if (reply.status === 404 && u.ending) return this.end()
        assert.equal(reply.status, 200, `${u.path} is there`)
        u.ending = false // its deletion did not come to be
        if (Number(reply.headers['upload-offset']) > u.told) this.world.counts.uploadsKept++
        this.tell(Number(reply.headers['upload-offset']), reply.headers['segue-blob'])
        u.unsure = false
        return true
    }

    // Its end was told. Some are deleted; the blob stays.
    async finish() {
        const u = this.upload
        if (this.random.chance(40)) {
            u.ending = u.unsure = true
            const reply = await this.tus('DELETE', u.path)
            if (reply.lost) return false
            if (reply.status === 503) return true
            assert.equal(reply.status, 204, reply.text)
        }
        return this.end()
    }

    end() {
        const { bytes, digest, path, row, ending } = this.upload
        this.check()
        this.finished.push({ bytes, digest, path, row, deleted: ending })
        this.follower.cut()
        this.upload = this.follower = undefined
        return true
    }

    // What the follower was told is at most what there is, and never goes back: the fold asserts that.
    check() {
        const f = this.follower
        if (!f) return
        if (f.failure) throw f.failure
        const view = f.fold.views.up
        if (view?.value && !view.value.deleted && this.upload.sent < this.upload.bytes.length) assert.ok(view.offset <= this.upload.sent, 'told what was not sent')
    }

    // Behind a restart: the promises of the upload at hand, and all bytes of some that are done.
    async verify() {
        const { app } = this.world
        await this.following
        if (this.upload) await this.verifyOpen()
        const recent = this.finished.filter((u) => !u.checked || this.random.chance(5))
        for (const u of recent) {
            const blob = await app.request('GET', `/blobs/${u.digest}`)
            assert.equal(blob.status, 200, `the blob of ${u.path}`)
            assert.ok(blob.body.equals(u.bytes), 'an upload that is done has its bytes')
            const head = await app.request('HEAD', `/uploads/${u.path.split('/').at(-1)}`, { headers: TUS })
            if (u.deleted) assert.equal(head.status, 404)
            else assert.equal(head.headers['segue-blob'], u.digest)
            if (u.row) assert.deepEqual(await this.linked(u), [u.digest])
            u.checked = true
        }
    }

    async linked(u) { return (await this.world.app.rows('select file from files where id = $1', [u.row])).map((r) => r.file?.blob) }

    async verifyOpen() {
        const u = this.upload
        const f = this.follower
        const view = f.fold.views.up
        const shown = !view?.value || view.value.deleted ? 0 : view.value.done ? u.bytes.length : view.value.offset
        if (!u.ending) {
            u.unsure = true
            assert.ok(await this.look(), 'the service is there')
            assert.ok(u.told >= shown, `a follower was shown ${shown}, and it is at ${u.told}`)
            this.world.counts.uploadsResumed++
        }
        if (f.over) await f.reopen()
        await f.until('the upload\'s state', (fold) => fold.isLive && (u.ending || (u.done ? fold.views.up.value?.done : fold.views.up.offset === u.told)))
        this.check()
        // Nobody sees the row's blob without the upload's end.
        if (u.row) assert.deepEqual(await this.linked(u), [u.done ? u.digest : undefined])
    }
}
