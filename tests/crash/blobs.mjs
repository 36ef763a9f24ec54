// kill -9 at any moment of uploading, packing and reclaiming. What was promised is there: an upload's offset, a pinned blob, a blob that
// a row has named. Everything else goes: behind the last kill of a folder garbage is what a pack may hold of it, and no more.
//
//   RUNS=200 SEED=7 node tests/crash/blobs.mjs
//
// The check of the service itself must agree after each start: no damaged chunk, no wrong count.
//
// Some folders live on a small disk, which is full from time to time, at any moment of the same: then what is refused says so (507), nothing that
// was promised is gone, what is let go gives room, and with room all goes on.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { performance } from 'node:perf_hooks'
import { App, insert, request } from '../e2e/lib/http.mjs'
import fs from 'node:fs'
import path from 'node:path'
import { eventually, preload, root, Service, sleep, tempFolder } from '../e2e/lib/service.mjs'
import { Client, exchange, Random, recover, schema } from './workload.mjs'

const RUNS = Number(process.env.RUNS || 200)
const SEED = Number(process.env.SEED || (Date.now() & 0x7fffffff))
const KILLS_PER_FOLDER = Math.min(20, Math.ceil(RUNS / 4))
const GRACE_MS = 100
const PACK_BYTES = 4 << 20 // many of them, so that one is emptied all the time
const DISK = path.resolve(process.env.DISK_SO || path.join(root, 'build/tests/lib/disk.so'))
const REFUSED = [503, 507] // for now, or until there is room
const GARBAGE_MAX = PACK_BYTES + (3 << 20) // of the pack that is being filled, and of those that are not worth the work yet
const TUS = { 'tus-resumable': '1.0.0' }

const counts = { kills: 0, early: 0, stored: 0, bytes: 0, pinned: 0, let_go: 0, gone: 0, linked: 0, uploads: 0, resumed: 0, reads: 0, packs: 0, packsGone: 0, aimed: 0, garbageMax: 0, full: 0, noSpace: 0, appFull: 0, freed: 0 }
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex')

// Stores blobs, keeps some, lets others go, and knows which must be there.
class Keeper extends Client {
    constructor(world, name) {
        super(world, name)
        this.kept = []    // {digest, bytes, row}: pinned or linked, acknowledged
        this.unsure = []  // pins that were not answered, either way
        this.upload = undefined
        this.shared = this.random.bytes(600000) // what many blobs have in common
    }

    // Some are made of pieces that others have, too.
    content() {
        const fresh = this.random.bytes(4 * (1 + this.random.below(this.random.chance(25) ? 400000 : 30000)))
        return this.random.chance(40) ? Buffer.concat([this.shared.subarray(0, 4 * this.random.below(150000)), fresh]) : fresh
    }

    async step() {
        const dice = this.random.below(100)
        if (this.upload || dice < 25) return this.go_on()
        if (dice < 48 && this.kept.some((b) => !b.row)) return this.letGo()
        if (dice < 54 && this.kept.length > 0) return this.read(this.kept[this.random.below(this.kept.length)])
        if (dice < 58) { await sleep(this.random.below(40)); return true }
        return this.store()
    }

    refused(reply) {
        if (reply.status === 507) counts.noSpace++
        return REFUSED.includes(reply.status)
    }

    async store() {
        const bytes = this.content()
        const digest = sha256(bytes)
        const reply = await this.ask('PUT', `/blobs/${digest}`, bytes)
        if (reply.lost) return false
        if (this.refused(reply)) return true
        assert.ok(reply.status === 201 || reply.status === 200, reply.text)
        counts.stored++
        counts.bytes += bytes.length
        if (this.random.chance(30)) return true // nobody keeps it
        return this.random.chance(20) ? this.link({ digest, bytes }) : this.pin({ digest, bytes })
    }

    // It may have gone between its storing and this: then that is the answer.
    async pin(blob) {
        this.unsure.push(blob)
        const reply = await this.ask('PUT', `/blob-pins/${blob.digest}`)
        if (reply.lost) return false
        if (this.refused(reply)) return true
        this.unsure.pop()
        assert.ok(reply.status === 200 || reply.status === 404, reply.text)
        if (reply.status === 404) return true
        counts.pinned++
        this.kept.push(blob)
        return true
    }

    async link(blob) {
        const row = this.random.uuid()
        const reply = await this.ask('POST', '/batch', JSON.stringify({ key: row, ops: [insert('files', { name: this.name, file: { blob: blob.digest } }, row)] }))
        if (reply.lost) return false
        if (this.refused(reply) || reply.status === 422) return true
        assert.equal(reply.status, 200, reply.text)
        counts.linked++
        this.kept.push({ ...blob, row })
        return true
    }

    async letGo() {
        const pinned = this.kept.filter((b) => !b.row)
        const blob = pinned[this.random.below(pinned.length)]
        this.kept.splice(this.kept.indexOf(blob), 1)
        const reply = await this.ask('DELETE', `/blob-pins/${blob.digest}`)
        const ok = !reply.lost && reply.status === 200
        if (ok) counts.let_go++
        else this.unsure.push(blob)
        if (ok && this.world.isFull) counts.freed++
        return !reply.lost
    }

    async read(blob) {
        const reply = await this.world.app.request('GET', `/blobs/${blob.digest}`).catch(() => undefined)
        if (!reply || !this.world.running) return false
        if (this.refused(reply)) return true
        assert.equal(reply.status, 200, `a kept blob is there: ${reply.text.slice(0, 200)}`)
        if (reply.body.length === blob.bytes.length) assert.ok(reply.body.equals(blob.bytes), 'a kept blob is what was stored')
        counts.reads++
        return true
    }

    // ---- an upload in pieces ----

    tus(method, path, headers, body) { return exchange(this.world.s, this.agent, method, path, body, { ...TUS, ...headers }) }

    async go_on() {
        const u = this.upload
        if (!u) return this.begin()
        if (u.unsure) return this.look()
        if (this.random.chance(5)) return this.drop()
        const to = Math.min(u.bytes.length, u.told + 1 + this.random.below(500000))
        u.unsure = true
        const headers = { 'upload-offset': String(u.told), 'content-type': 'application/offset+octet-stream' }
        const reply = await this.tus('PATCH', u.path, headers, u.bytes.subarray(u.told, to))
        if (reply.lost) return false
        if (this.refused(reply) || reply.status === 409) return true
        assert.equal(reply.status, 204, reply.text)
        return this.told(Number(reply.headers['upload-offset']))
    }

    async begin() {
        const bytes = this.content()
        const reply = await this.tus('POST', '/apps/default/uploads', { 'upload-length': String(bytes.length) })
        if (reply.lost) return false
        if (this.refused(reply)) return true
        assert.equal(reply.status, 201, reply.text)
        this.upload = { path: reply.headers.location, bytes, told: 0, unsure: false }
        return true
    }

    async look() {
        const u = this.upload
        const reply = await this.tus('HEAD', u.path)
        if (reply.lost) return false
        if (this.refused(reply)) return true
        if (u.dropping && reply.status === 404) { this.upload = undefined; return true }
        assert.equal(reply.status, 200, `an upload is there: ${reply.status}`)
        u.dropping = false
        return this.told(Number(reply.headers['upload-offset']))
    }

    // An upload that is done keeps its blob until it is dropped.
    async told(offset) {
        const u = this.upload
        assert.ok(offset >= u.told, `an offset is never taken back: ${offset} < ${u.told}`)
        if (u.verify && offset > 0) counts.resumed++
        u.told = offset
        u.unsure = u.verify = false
        if (offset < u.bytes.length) return true
        const blob = { digest: sha256(u.bytes), bytes: u.bytes }
        if (!u.done) counts.uploads++
        u.done = true
        if (this.random.chance(50) && !u.pinned) { u.pinned = true; return this.pin(blob) }
        return this.drop()
    }

    async drop() {
        const u = this.upload
        u.unsure = u.dropping = true
        const reply = await this.tus('DELETE', u.path)
        if (reply.lost) return false
        if (this.refused(reply)) return true
        assert.ok(reply.status === 204 || reply.status === 404, reply.text)
        this.upload = undefined
        return true
    }

    // ---- behind a start ----

    async readAll() {
        for (const blob of this.kept) {
            const reply = await this.world.app.request('GET', `/blobs/${blob.digest}`)
            assert.equal(reply.status, 200, `a kept blob is there: ${reply.text.slice(0, 200)}`)
            assert.ok(reply.body.equals(blob.bytes), 'a kept blob is what was stored')
        }
    }

    async verify() {
        for (const blob of this.unsure.splice(0)) await this.pin(blob)
        await this.readAll()
        if (this.upload) this.upload.unsure = this.upload.verify = true
        if (this.upload) await this.look()
    }

    async end() {
        if (this.upload) { this.upload.unsure = false; await this.drop() }
        for (const blob of this.kept.filter((b) => !b.row)) assert.equal((await this.ask('DELETE', `/blob-pins/${blob.digest}`)).status, 200)
        this.kept = this.kept.filter((b) => b.row)
    }
}

class World {
    constructor(random, small) {
        this.random = random
        const args = ['--blob-grace-ms', String(GRACE_MS), '--blob-scrub-bytes', '50000000', '--blob-compact-bytes', '500000000', '--journal-segment-bytes', '1048576', '--log-level', 'info']
        args.push('--blob-pack-bytes', String(PACK_BYTES))
        this.small = small
        this.isFull = false
        const data = tempFolder()
        this.control = `${data}.disk`
        const env = this.small ? { LD_PRELOAD: preload(DISK), SEGUE_DISK_CONTROL: this.control, SEGUE_DISK_ROOT: data } : {}
        this.s = new Service({ args, data, env })
        this.app = new App(this.s)
        this.running = false
    }

    // No more than `room` bytes beyond what is there now; undefined: as many as there are.
    setRoom(room) {
        const taken = () => fs.readdirSync(this.s.data, { recursive: true }).reduce((n, name) => {
            const st = fs.statSync(path.join(this.s.data, name), { throwIfNoEntry: false })
            return n + (st?.isFile() ? st.size : 0)
        }, 0)
        this.isFull = room !== undefined
        fs.writeFileSync(`${this.control}.new`, this.isFull ? `quota:${taken() + room}\n` : '')
        fs.renameSync(`${this.control}.new`, this.control)
    }

    // The disk gets full and gets room again, some times over, until the world stops.
    async fillNowAndThen() {
        while (this.running) {
            await sleep(this.random.below(400))
            if (!this.running) break
            this.setRoom(this.random.below(this.random.chance(50) ? 100000 : 3000000))
            counts.full++
            await sleep(50 + this.random.below(400))
            if (this.running && this.random.chance(50)) this.setRoom()
        }
    }

    async begin() {
        await this.s.start()
        await this.app.schema(schema)
        this.clients = ['a', 'b', 'c'].map((name) => new Keeper(this, name))
    }

    async workUntilKilled(ms) {
        this.running = true
        const work = this.clients.map((c) => c.run())
        for (const w of work) w.catch(() => {}) // it is told below, with its run
        const filling = this.small ? this.fillNowAndThen() : undefined
        await this.moment(this.small ? 300 + ms : ms)
        await this.kill()
        await Promise.all([...work, filling])
    }

    // Any moment; or one soon behind the beginning or the end of a pack's being emptied, if there is one in time.
    async moment(ms) {
        const word = this.random.chance(70) ? ['a pack is emptied', 'an empty pack is gone'][this.random.below(2)] : undefined
        const end = performance.now() + (word ? 1200 : ms)
        while (performance.now() < end) {
            await sleep(word ? 1 : ms)
            if (!word || !this.s.child.stderr.includes(word)) continue
            counts.aimed++
            await sleep(this.random.chance(50) ? 0 : this.random.below(60))
            break
        }
    }

    async kill() {
        this.running = false
        counts.kills++
        counts.packs += (this.s.child.stderr.match(/a pack is emptied/g) || []).length
        counts.packsGone += (this.s.child.stderr.match(/an empty pack is gone/g) || []).length
        counts.appFull += (this.s.child.stderr.match(/a write failed; .*err=no_space/g) || []).length
        await this.s.kill()
    }

    // On a disk that is still full half of the time: what was promised can be read from it. Then there is room.
    async recover() {
        if (await recover(this.s, this.random, 60)) counts.early++
        if (!this.isFull) return
        for (const client of this.clients) await client.readAll()
        this.setRoom()
        await eventually('the service takes writes again', async () => (await request(this.s, 'GET', '/healthz')).status === 200)
    }

    async verify() {
        for (const client of this.clients) await client.verify()
        await this.check()
    }

    async check() {
        const report = await this.app.request('POST', '/blob-check')
        assert.equal(report.status, 200, report.text)
        assert.deepEqual([report.json.damaged, report.json.wrong_counts], [0, 0], report.text.slice(0, 1000))
    }

    async usage() { return (await this.app.request('GET', '/blob-usage')).json }

    // Everybody lets go: what no row has named goes, and so does the garbage.
    async end() {
        for (const client of this.clients || []) await client.end()
        if (this.clients) {
            const linked = new Set(this.clients.flatMap((c) => c.kept.map((b) => b.digest)))
            await eventually('all that nobody keeps is gone', async () => (await this.usage()).blobs <= linked.size + 3)
            await eventually('garbage is gone', async () => {
                const { garbage, stored } = await this.usage()
                return garbage <= GARBAGE_MAX + stored
            })
            counts.garbageMax = Math.max(counts.garbageMax, (await this.usage()).garbage)
            await this.check()
            for (const client of this.clients) await client.verify()
        }
        for (const c of this.clients || []) c.agent.destroy()
        await this.s.end()
        fs.rmSync(this.s.data, { recursive: true, force: true })
        fs.rmSync(this.control, { force: true })
    }
}

async function main() {
    const random = new Random(SEED)
    const began = performance.now()
    let passed = 0
    let failed = 0
    let world
    let folders = 0
    const bug = process.env.SEGUE_BUG
    console.log(`crash: ${RUNS} runs, SEED=${SEED}${bug ? `, planted bug ${bug}` : ''}`)
    for (let run = 0; run < RUNS; run++) {
        try {
            if (!world) {
                world = new World(random, folders++ % 2 === 1)
                await world.begin()
            }
            await world.workUntilKilled(20 + random.below(random.chance(40) ? 1500 : 300))
            await world.recover()
            await world.verify()
            passed++
        } catch (e) {
            failed++
            console.log(`run ${run + 1} failed (SEED=${SEED}): ${e.stack}\n${world.s.child?.stderr.slice(-2000)}`)
        }
        if (failed > 0 || (run + 1) % KILLS_PER_FOLDER === 0 || run + 1 === RUNS) {
            const end = failed > 0 ? world.s.end() : world.end()
            await end.catch((e) => { failed++; console.log(`the end of run ${run + 1} failed: ${e.stack}\n${world.s.child?.stderr.slice(-2000)}`) })
            world = undefined
        }
        if (failed >= 3) break
    }
    console.log(`${counts.kills} kills in ${((performance.now() - began) / 1000).toFixed(0)} s, ${counts.early} more during recovery`)
    console.log(`${counts.stored} blobs stored, ${(counts.bytes / 1e6).toFixed(0)} MB; ${counts.pinned} pinned, ${counts.let_go} let go, ${counts.linked} named by rows; ${counts.reads} read meanwhile`)
    console.log(`${counts.uploads} uploads done, ${counts.resumed} of them went on behind a kill; ${counts.packs} packs emptied, ${counts.packsGone} files of packs gone, ${counts.aimed} kills beside that; at most ${(counts.garbageMax / 1e6).toFixed(1)} MB of garbage at an end`)
    console.log(`${counts.full} times a disk was full: ${counts.noSpace} requests refused for it, ${counts.appFull} times nothing more could be written, ${counts.freed} pins let go meanwhile`)
    if (RUNS >= 100 && !bug) try {
        assert.ok(counts.packs >= RUNS / 4 && counts.packsGone >= RUNS / 4, 'packs are emptied all the time')
        assert.ok(counts.noSpace >= RUNS / 10, 'disks are full now and then')
    } catch (e) { failed++; console.log(`a campaign like this has proved nothing: ${e.message}`) }
    if (bug) console.log(failed > 0 ? `the planted bug ${bug} was found` : `the planted bug ${bug} was NOT found`)
    console.log(`${passed} passed, ${failed} failed`)
    process.exitCode = failed > 0 ? 1 : 0
}

await main()
