// What a client makes of a subscription's messages: PROTOCOL.md, section 7, word for word, with every promise in it asserted.
//
//   take(message, id)   each message as it comes, with its cursor, if it has one
//   expect(name, …), leave(name), refused(name)   what was asked for, and asked to end, while the subscription runs
//   cut()               the connection is gone: parts of an unfinished range are forgotten
//
// State moves from commit to commit only: between two `take`s it is always what some seq shows.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'

// A row may have columns of these names, but it has an id or a key, too.
const isFollowed = (v) => typeof v.stream === 'string' && typeof v.of === 'string' && !('id' in v) && !('key' in v)

// A query's rows: a list where it has an order, else a set. A row's name is its id, or the key that a keyed query gives it.
export class QueryView {
    constructor(ordered) {
        this.kind = 'query'
        this.ordered = ordered
        this.keyed = false
        this.list = [] // {name, row}
        this.byName = new Map()
        this.follow = {} // where the streams of these columns begin
        this.streams = new Map() // by the row's name: {column: its stream}
    }

    get size() { return this.ordered ? this.list.length : this.byName.size }
    rows() { return this.ordered ? this.list.map((e) => e.row) : [...this.byName.values()] }

    // A row's stream in a followed column; of the only row, if there is but one.
    stream(column, name = [...this.streams.keys()][0]) { return this.streams.get(name)?.[column] }

    // It brings its streams; in a snapshot it says itself where they end.
    #come(name, row, snapshot) {
        const begins = (column, where) => (where !== 'end' ? where : snapshot ? row[column]?.offset : undefined)
        this.streams.set(name, Object.fromEntries(Object.entries(this.follow).map(([column, where]) => [column, new StreamView(begins(column, where), true, where === 'end' ? 0 : where)])))
    }

    #followed({ stream, of, ...value }) {
        assert.ok(this.streams.get(of)?.[stream], `a stream of ${of}, which is not in the result or not followed`)
        this.streams.get(of)[stream].change(value)
    }

    snapshot(value) {
        if (isFollowed(value)) return this.#followed(value)
        assert.equal(this.keyed, typeof value.key === 'string' && Object.keys(value).length === 2 && typeof value.row === 'object', JSON.stringify(value))
        const [name, row] = this.keyed ? [value.key, value.row] : [value.id, value]
        assert.ok(typeof name === 'string', 'a row has an id or a key')
        this.#come(name, row, true)
        if (this.ordered) this.list.push({ name, row })
        else this.#add(name, row)
    }

    #add(name, row) {
        assert.ok(!this.byName.has(name), `row ${name} is added and was there`)
        this.byName.set(name, row)
    }

    #nameOf(c) {
        assert.equal(['added', 'changed', 'removed'].filter((x) => x in c).length, 1, JSON.stringify(c))
        if ('removed' in c) return c.removed
        assert.equal(this.keyed, typeof c.key === 'string', JSON.stringify(c))
        return this.keyed ? c.key : (c.added ?? c.changed).id
    }

    change(c) {
        if (isFollowed(c)) return this.#followed(c)
        const name = this.#nameOf(c)
        if (c.added) this.#come(name, c.added, false)
        if (c.removed) this.streams.delete(name)
        if (this.ordered) return this.#changeAt(c, name)
        assert.ok(c.at === undefined && c.was === undefined, 'no places without an order')
        if (c.added) return this.#add(name, c.added)
        assert.ok(this.byName.has(name), `row ${name} is ${c.changed ? 'changed' : 'removed'} and was not there`)
        if (c.changed) this.byName.set(name, c.changed)
        else this.byName.delete(name)
    }

    #changeAt(c, name) {
        const row = c.added ?? c.changed
        if (!c.added) {
            assert.equal(this.list[c.was]?.name, name, `place ${c.was} had the row that is said to leave it`)
            this.list.splice(c.was, 1)
        } else {
            assert.ok(!this.list.some((e) => e.name === name), `row ${name} is added and was there`)
        }
        if (!row) return
        assert.ok(Number.isInteger(c.at) && c.at >= 0 && c.at <= this.list.length, `place ${c.at} of ${this.list.length}`)
        this.list.splice(c.at, 0, { name, row })
    }
}

// Messages as a JSON stream stores them, where whoever wrote them has written as JSON.stringify does: offsets count these bytes.
const storedMessages = (messages) => Buffer.from(messages.map((m) => `${JSON.stringify(m)},\n`).join(''))

// A stream's bytes, each exactly once. With `keep: false` only their number and hash. One that comes with a row is there from the beginning, and in
// its place another one would begin at `again`; where it begins its first bytes say, if nobody has.
class StreamView {
    constructor(offset, keep, again) {
        this.kind = 'stream'
        this.keep = keep
        this.begin = offset
        this.again = again
        this.#restart(offset)
        if (again !== undefined) this.exists = true
    }

    #restart(offset) {
        this.offset = offset
        this.exists = undefined
        this.closed = false
        this.pieces = []
        this.hash = createHash('sha256')
    }

    get bytes() { return Buffer.concat(this.pieces) }
    get text() { return this.bytes.toString('utf8') }
    get sha256() { return this.hash.copy().digest('hex') }

    snapshot(v) { this.change(v) }

    change(v) {
        if (v.created) {
            assert.ok(!this.exists, 'a stream is created once')
            assert.equal(typeof v.type, 'string')
            this.exists = true
            this.type = v.type
        } else if (v.deleted) {
            this.#restart(this.again ?? 0)
            this.exists = false
        } else if (v.closed) {
            assert.ok(!this.closed, 'a stream is closed once')
            this.closed = true
        } else {
            this.#append(v)
        }
    }

    #append(v) {
        assert.equal([v.text, v.base64, v.messages].filter((x) => x !== undefined).length, 1, JSON.stringify(v))
        const bytes = v.messages ? storedMessages(v.messages) : v.text !== undefined ? Buffer.from(v.text, 'utf8') : Buffer.from(v.base64, 'base64')
        assert.ok(!this.closed, 'nothing comes behind the end of a stream')
        this.offset ??= this.begin = v.offset - bytes.length
        assert.equal(v.offset - bytes.length, this.offset, 'each byte of a stream comes exactly once')
        this.exists = true
        this.offset = v.offset
        this.hash.update(bytes)
        if (this.keep) this.pieces.push(bytes)
    }
}

// A resumable upload's newest state.
class UploadView {
    constructor() {
        this.kind = 'upload'
        this.value = undefined
    }

    get offset() { return this.value?.done ? Infinity : this.value?.offset ?? 0 }
    snapshot(v) { this.change(v) }

    change(v) {
        assert.ok(v.deleted === true || v.done === true || v.offset <= v.length, JSON.stringify(v))
        assert.ok(v.deleted || !this.value?.done, 'nothing but a deletion comes behind the end of an upload')
        if (v.length !== undefined) assert.ok(v.offset >= this.offset, 'an offset that was told is never taken back')
        this.value = v
    }
}

export class Fold {
    // `ordered`: names of the queries that have an `order by`; `offsets`: of the streams that do not begin at 0.
    constructor({ ordered = [], offsets = {}, keep = true } = {}) {
        this.options = { ordered: new Set(ordered), offsets, keep }
        this.cursor = undefined
        this.commits = 0 // ranges applied
        this.resets = []
        this.welcomes = []
        this.#forget()
    }

    #forget() {
        this.views = {}
        this.seq = undefined  // the state is that of this commit
        this.at = undefined   // of the snapshot being taken
        this.pieces = new Set() // of whose snapshot a piece has come
        this.whole = new Set()
        this.live = new Set()
        this.parts = []
        this.cursor = undefined
        this.late = new Map()   // subscribed to meanwhile and not live: name -> [{view, at, whole}, …], for a name may be given up and taken again before the service hears of it
        this.leaving = []       // asked to end, and not told to have ended
    }

    #view(name, kind) {
        if (kind === 'query') return Object.assign(new QueryView(this.options.ordered.has(name)), { follow: this.follow?.[name] ?? {} })
        return kind === 'upload' ? new UploadView() : new StreamView(this.options.offsets[name] ?? 0, this.options.keep)
    }

    expect(name, kind, { ordered = false, offset = 0, follow = {} } = {}) {
        this.follow = { ...this.follow, [name]: follow }
        if (ordered) this.options.ordered.add(name)
        else this.options.ordered.delete(name)
        this.options.offsets[name] = offset
        this.kinds = { ...this.kinds, [name]: kind }
        this.names = [...(this.names || []), name]
        if (!this.late.has(name)) this.late.set(name, [])
        this.late.get(name).push({ view: this.#view(name, kind), at: undefined, whole: false })
    }

    // The one that the service speaks of, of those that were subscribed to under this name.
    #lateOf(name) { return this.late.get(name)?.[0] }

    // Also one that cannot go on: its branch is gone, and the next range says that it has ended.
    // What was asked for last under this name is not to be had; or, where nothing waits, what is live under it, or was to be, is over.
    refused(name) {
        if (this.late.get(name)?.pop() !== undefined) this.names = this.names.filter((n) => n !== name)
        else if (this.names?.includes(name)) this.leave(name)
    }

    leave(name) {
        this.names = this.names.filter((n) => n !== name)
        this.leaving.push(name)
    }

    // The connection is gone. Without a cursor there is nothing to come back to.
    cut() {
        this.parts = []
        this.live = new Set()
        this.late = new Map()
        this.leaving = []
        if (this.cursor === undefined) this.#forget()
    }

    get isLive() { return this.names !== undefined && this.names.every((name) => this.live.has(name) && !this.#lateOf(name)) && this.parts.length === 0 }

    take(m, id) {
        if (m.type === 'welcome') this.#welcome(m, id)
        else if (m.type === 'reset') this.#reset(m, id)
        else if (m.type === 'commit' && m.snapshot && this.#lateOf(Object.keys(m.snapshot)[0])) this.#lateSnapshot(m, id)
        else if (m.type === 'commit' && m.snapshot) this.#snapshot(m, id)
        else if (m.type === 'commit' && m.catchup) this.#catchup(m, id)
        else if (m.type === 'commit') this.#range(m, id)
        else assert.equal(m.type, 'error', JSON.stringify(m))
        return m
    }

    #welcome(m, id) {
        assert.equal(id, undefined, 'a welcome has no cursor')
        assert.equal(m.protocol, 1)
        this.welcomes.push(m)
        this.journal = m.journal
        this.names = Object.keys(m.subscriptions)
        this.kinds = Object.fromEntries(Object.entries(m.subscriptions).map(([name, s]) => [name, s.kind]))
        this.keyed = Object.fromEntries(Object.entries(m.subscriptions).map(([name, s]) => [name, s.keyed === true]))
        this.follow = Object.fromEntries(Object.entries(m.subscriptions).map(([name, s]) => [name, s.follow ?? {}]))
        if (this.cursor === undefined) this.#begin()
        for (const [name, view] of Object.entries(this.views))
            if (this.cursor !== undefined && view.kind === 'query') assert.equal(view.keyed, this.keyed[name], `${name} is keyed as before`)
    }

    #begin() {
        for (const name of this.names) {
            this.views[name] = this.#view(name, this.kinds[name])
        }
    }

    #reset(m, id) {
        assert.equal(id, undefined, 'a reset has no cursor')
        assert.match(m.reason, /^(too_old|other_journal|other_subscriptions|seq_ahead)$/)
        this.resets.push(m.reason)
        this.#forget()
        this.#begin()
    }

    #snapshot(m, id) {
        assert.equal(id, undefined, 'a piece of a snapshot has no cursor')
        assert.equal(this.seq, undefined, 'a snapshot comes before any range')
        this.at ??= m.at
        assert.equal(m.at, this.at, 'all snapshots are of one seq')
        const names = Object.keys(m.snapshot)
        assert.equal(names.length, 1, 'subscription by subscription')
        const [name] = names
        assert.ok(this.views[name] && !this.whole.has(name), `a piece of ${name}, which is whole or unknown`)
        if (this.pieces.has(name)) {
            assert.ok(m.keyed === undefined, 'only the first piece says that a result is keyed')
        } else {
            this.pieces.add(name)
            this.views[name].keyed = m.keyed === true
            if (this.keyed[name] !== undefined) assert.equal(m.keyed === true, this.keyed[name], 'the first piece says what the welcome said')
        }
        for (const value of m.snapshot[name]) this.views[name].snapshot(value)
        if (!m.more) this.whole.add(name)
    }

    // Beside the ranges, as of a seq of its own.
    #lateSnapshot(m, id) {
        assert.equal(id, undefined, 'a piece of a snapshot has no cursor')
        const [name] = Object.keys(m.snapshot)
        const late = this.#lateOf(name)
        assert.ok(!late.whole, `a piece of ${name}, which is whole`)
        assert.ok(!this.live.has(name), `${name} begins before its end was told`)
        if (late.at === undefined) late.view.keyed = m.keyed === true
        else assert.ok(m.keyed === undefined, 'the first piece says that a result is keyed')
        late.at ??= m.at
        assert.equal(m.at, late.at, 'all pieces of a snapshot are of one seq')
        for (const value of m.snapshot[name]) late.view.snapshot(value)
        if (!m.more) late.whole = true
    }

    #catchup(m, id) {
        assert.equal(id, undefined, 'catching up has no cursor')
        const [name] = Object.keys(m.catchup)
        const late = this.#lateOf(name)
        assert.ok(late.whole, `${name} catches up behind its snapshot`)
        assert.equal(m.from, late.at)
        assert.ok(m.at > m.from)
        for (const change of m.catchup[name]) late.view.change(change)
        if (!m.more) late.at = m.at
        this.catchups = (this.catchups || 0) + 1
    }

    #range(m, id) {
        const first = this.parts.length === 0
        assert.equal(m.part ?? 0, this.parts.length, 'parts are numbered from 0')
        if (first) {
            assert.equal(m.from, this.seq ?? this.at ?? this.welcomes.at(-1).seq, 'ranges tile: this one begins where the last one ended')
            assert.ok(m.to >= m.from, 'a range goes forwards')
            for (const name of m.ended || []) this.#ended(name)
            for (const name of m.live || []) this.#goLive(name, m.to)
        } else {
            assert.equal(m.from, this.parts[0].from)
            assert.equal(m.to, this.parts[0].to)
        }
        assert.match(m.time, /^\d{4}-\d\d-\d\dT[\d:.]+Z$/)
        for (const name of Object.keys(m.changes)) assert.ok(this.live.has(name), `${name} changes and is not live`)
        this.parts.push(m)
        assert.equal(id === undefined, m.more === true, 'the last part of a range, and only that, has a cursor')
        if (!m.more) this.#apply(m.to, id)
    }

    #ended(name) {
        const at = this.leaving.indexOf(name)
        assert.ok(at >= 0, `${name} ended and was not asked to`)
        this.leaving.splice(at, 1)
        if (!this.live.delete(name)) this.late.get(name)?.shift() // it ends before it was live
        delete this.views[name]
    }

    #goLive(name, to) {
        const late = this.#lateOf(name)
        assert.ok(!this.live.has(name), `${name} goes live once`)
        if (late) {
            assert.ok(late.whole && late.at <= to, `${name} goes live behind its snapshot`)
            this.views[name] = late.view
            this.late.get(name).shift()
        }
        assert.ok(late || this.seq !== undefined || this.whole.has(name), `${name} goes live behind its snapshot`)
        this.live.add(name)
    }

    // All parts of a range, in one step.
    #apply(to, id) {
        for (const part of this.parts)
            for (const [name, changes] of Object.entries(part.changes))
                for (const change of changes) this.views[name].change(change)
        this.parts = []
        this.seq = to
        this.cursor = id
        this.commits++
    }
}

// A row's `stream` value is what it was when the row was sent: its offset says nothing about now.
export function settled(row) {
    const out = {}
    for (const [key, value] of Object.entries(row))
        out[key] = value && typeof value === 'object' && 'stream' in value ? { stream: value.stream, closed: value.closed } : value
    return out
}

export const byId = (a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0)

// The folded state of a query is what a fresh query gives.
export function assertSameRows(view, rows) {
    const mine = view.rows().map(settled)
    const fresh = rows.map(settled)
    if (view.ordered) assert.deepEqual(mine, fresh)
    else if (view.keyed) assert.deepEqual(mine.map((row) => JSON.stringify(row)).sort(), fresh.map((row) => JSON.stringify(row)).sort())
    else assert.deepEqual(mine.sort(byId), fresh.sort(byId))
}
