// Clients of the live campaign that are programs of their own, and are killed: one with an outbox, and `segue sub`.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { spawn } from 'node:child_process'
import { insert, remove } from '../e2e/lib/http.mjs'
import { eventually, root, SEGUE, sleep, within } from '../e2e/lib/service.mjs'
import { SubFile } from '../e2e/lib/subfile.mjs'
import { Random } from './workload.mjs'

const OUTBOXER = path.resolve(process.env.OUTBOXER || path.join(root, 'build/tests/crash/outboxer'))

// A child whose lines are taken as they come; kill -9 ends it, and nothing else may.
class Program {
    begin(command, args, env) {
        const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, ...env } })
        let rest = '', errors = ''
        this.child = child
        child.asked = false
        child.stdin.on('error', () => {})
        child.stdout.setEncoding('utf8').on('data', (text) => {
            const lines = (rest + text).split('\n')
            rest = lines.pop()
            for (const line of lines) this.#take(line)
        })
        child.stderr.setEncoding('utf8').on('data', (text) => { errors = (errors + text).slice(-4000) })
        child.ended = new Promise((done) => child.on('close', (code, signal) => {
            child.over = true
            if (!child.asked) this.failure ??= new Error(`${this.name} went away by itself (${code ?? signal}): ${errors}`)
            done()
        }))
    }

    #take(line) {
        try {
            this.line(line)
        } catch (e) {
            this.failure ??= e
        }
    }

    line() {}

    async kill() {
        this.child.asked = true
        this.child.kill('SIGKILL')
        await within(this.child.ended, `the end of ${this.name}`)
    }

    check() { if (this.failure) throw this.failure }
}

// What it was told stands: a batch that was kept is applied once or rejected, and its fate is told until it was seen.
export class OutboxClient extends Program {
    constructor(world, name, folder) {
        super()
        this.world = world
        this.name = name
        this.random = new Random(world.random.below(2 ** 31))
        this.folder = path.join(folder, `outbox-${name}`)
        this.batches = new Map() // by their tags
        this.names = new Map()   // replica and counter -> tag
        this.mine = []           // rows of accepted batches that still stand: {tag, id}
    }

    async start() {
        this.listed = { tags: new Set(), whole: false }
        this.begin(OUTBOXER, [this.folder], { SEGUE_URL: this.world.s.url })
        this.say('look')
        await this.until('its list', () => this.listed.whole)
    }

    async until(what, fn) {
        await eventually(`${what} of ${this.name}`, () => { this.check(); return this.child.over || fn() })
        return !this.child.over
    }

    say(line) { this.child.stdin.write(`${line}\n`) }

    // What it lists behind a kill, against what it had said before.
    compare() {
        this.listed.whole = true
        for (const b of this.batches.values()) {
            const there = this.listed.tags.has(b.tag)
            if (b.forgot) assert.ok(!there, `${b.tag} was seen, and is there again`)
            else if (b.kept && !b.forgetting) assert.ok(there, `${b.tag} was kept, and is gone`)
            if (b.forgetting && !there) b.forgot = true
            b.forgetting = b.forgot
            if (b.kept || b.lost) continue
            b.kept = there
            b.lost = !there // it never was put: nothing may come of it
            this.world.counts[there ? 'unsurePut' : 'unsureLost']++
        }
    }

    line(line) {
        const [word, tag, id, name, ...answer] = line.split(' ')
        if (word === 'ready') return this.compare()
        if (word === 'forgot') return this.forgot(Number(tag))
        assert.ok(['kept', 'waiting', 'fate'].includes(word), line)
        const b = this.batches.get(tag)
        assert.ok(b && !b.lost, `something of ${tag}, which was not put`)
        assert.equal(b.id ?? Number(id), Number(id), `${tag} keeps its id`)
        b.id = Number(id)
        if (word === 'kept') b.kept = true
        if (word !== 'kept' && !this.listed.whole) this.listed.tags.add(tag)
        if (word === 'fate') this.fate(b, name, JSON.parse(answer.join(' ')))
    }

    fate(b, name, answer) {
        b.kept = true
        assert.ok(!b.forgot, `${b.tag} was seen, and is told again`)
        if (b.answer) return assert.deepEqual(answer, b.answer, `the fate of ${b.tag} stands`)
        b.answer = answer
        assert.ok(!this.names.has(name) || this.names.get(name) === b.tag, `${b.tag} and ${this.names.get(name)} have one name`)
        this.names.set(name, b.tag)
        const expected = b.kind === 'good' ? ['accepted', undefined] : b.kind === 'spoiled' ? ['rejected', 'not_null'] : [undefined, 'bad_batch']
        assert.deepEqual([answer.fate, answer.code], expected, `${b.tag}: ${JSON.stringify(answer)}`)
        this.world.counts[b.kind]++
        if (b.kind === 'good') for (const id of answer.ids.slice(0, b.k)) this.mine.push({ tag: b.tag, id })
        if (this.random.chance(60) && this.listed?.whole) this.seen(b)
    }

    seen(b) {
        b.forgetting = true
        this.say(`seen ${b.id}`)
    }

    forgot(id) {
        const b = [...this.batches.values()].find((x) => x.id === id)
        assert.ok(b?.forgetting)
        b.forgot = true
    }

    make() {
        const tag = `${this.name}.${this.batches.size + 1}`
        const dice = this.random.below(100)
        const b = { tag, kind: dice < 6 ? 'spoiled' : dice < 9 ? 'unreadable' : 'good', k: 1 + this.random.below(3), room: this.random.below(this.world.rooms.length), hits: 1 + this.random.below(5) }
        const room = this.world.rooms[b.room]
        const ops = Array.from({ length: b.k }, (_, n) => insert('posts', { tag, n, owner: this.name, room, score: this.random.below(1000) }))
        ops.push({ op: 'update', table: 'rooms', id: room, values: { hits: { increment: b.hits } } }, { op: 'append', stream: 'all', text: `${tag};` },
            { op: 'append', table: 'rooms', id: room, column: 'body', text: `${tag}${'.'.repeat(this.random.below(80))};` })
        if (this.mine.length > 30 && b.kind === 'good') b.removes = this.mine.splice(this.random.below(20), 1)[0]
        if (b.removes) ops.push(remove('posts', b.removes.id))
        if (b.kind === 'spoiled') ops.push(insert('posts', { n: 1 }))
        if (b.kind === 'unreadable') ops.push({ op: 'nonsense' })
        b.body = JSON.stringify({ ops })
        this.batches.set(tag, b)
        return b
    }

    async run() {
        while (this.world.running) {
            if (this.restarting || this.child.over) { await sleep(2); continue }
            const some = Array.from({ length: 1 + this.random.below(4) }, () => this.make())
            const child = this.child
            for (const b of some) this.say(`put ${b.tag} ${b.body}`)
            await eventually('they are kept', () => this.failure || child.over || child !== this.child || some.every((b) => b.kept))
            if (this.failure) return
            await sleep(this.random.below(12))
        }
    }

    // Killed, and begun again at once, while the world goes on.
    restart() {
        if (this.restarting) return
        this.world.counts.outboxKills++
        this.restarting = this.kill().then(() => this.start()).catch((e) => { this.failure ??= e }).finally(() => { this.restarting = undefined })
    }

    // Everything that was kept has its fate.
    async settle() {
        await this.restarting
        this.check()
        assert.ok(await this.until('all fates', () => [...this.batches.values()].every((b) => b.answer || b.lost)), `${this.name} is there`)
        // In the order in which they were put.
        const seqs = [...this.batches.values()].filter((b) => b.answer?.seq).sort((a, b) => a.id - b.id).map((b) => b.answer.seq)
        assert.ok(seqs.every((seq, i) => i === 0 || seq > seqs[i - 1]), `${this.name} is in order`)
    }

    accepted() { return [...this.batches.values()].filter((b) => b.answer?.fate === 'accepted') }
}

// `segue sub --json -o FILE`: over any number of its deaths the file is one history.
export class SubProgram extends Program {
    constructor(world, name, folder, what) {
        super()
        this.world = world
        this.name = name
        this.what = what
        this.file = new SubFile(path.join(folder, `${name}.jsonl`), { ordered: Object.entries(what.queries).filter(([, sql]) => /order by/i.test(sql)).map(([n]) => n) })
    }

    start() {
        const args = ['sub', '--json', '--retry', '1000000', '-o', this.file.file]
        for (const [option, all] of [['--query', this.what.queries], ['--stream', this.what.streams], ['--upload', this.what.uploads]])
            for (const [name, spec] of Object.entries(all || {})) args.push(option, `${name}=${spec}`)
        for (const [name, columns] of Object.entries(this.what.follow || {}))
            for (const [column, where] of Object.entries(columns)) args.push('--with', `${name}.${column}@${where}`)
        this.begin(SEGUE, args, { SEGUE_URL: this.world.s.url })
    }

    get fold() { return this.file.take() }

    restart() {
        if (this.restarting) return
        this.world.counts.subKills++
        this.restarting = this.kill().then(() => { this.file.take(); this.start() }).catch((e) => { this.failure ??= e }).finally(() => { this.restarting = undefined })
    }

    async until(what, fn) {
        await this.restarting
        await eventually(`${what} in ${this.name}`, () => { this.check(); return fn(this.fold) })
    }

    bytes() { return fs.existsSync(this.file.file) ? fs.statSync(this.file.file).size : 0 }
}
