// Cells of batches and rows, beside SQLite, which writes its log ahead, syncs each commit and has the same table and index.
import fs from 'node:fs'
import path from 'node:path'
import { bare, build, figure, fresh, KIB, load, note, once, segued, start } from '../lib.mjs'

export async function batch() {
    const floor = await once(bare, (s) => load('append', s, { kind: 'bare' }))
    const [one, many, large] = await once(segued, async (s) => [await load('batch', s), await load('batch', s, { connections: 64 }), await load('batch', s, { connections: 16, ops: 100 })])
    figure('p50_1/floor', one.p50_us, floor.p50_us, 'us')
    figure('rows_64x1/rows_1x1', many.rate, one.rate, 'rows/s')
    figure('rows_16x100/rows_64x1', large.rate * 100, many.rate, 'rows/s')
}

// Rows kept by an app's engine or by SQLite, in a process of their own: key=value lines.
async function rowsIn(kind, { rows, batch, ahead = 1, change = 'none' }) {
    const dir = fresh(kind)
    fs.mkdirSync(dir)
    const child = start(path.join(build, 'tests/bench/rows'), [kind, dir, rows, batch, ahead, change].map(String))
    if (await child.ended !== 0) throw new Error(`rows ${kind}: ${child.errors}`)
    fs.rmSync(dir, { recursive: true })
    const got = Object.fromEntries(child.text.trim().split('\n').map((line) => line.split('=')))
    if (got.skip) note(`${got.skip} (make bench-deps installs it)`)
    return got.skip ? undefined : Object.fromEntries(Object.entries(got).map(([k, v]) => [k, Number(v)]))
}

const BODY = 72 // bytes: with an id and three numbers a row of 100
const ROWS = Number(process.env.ROWS || 200000)

// Batches of 1,000: from inside the process one at a time, as SQLite's, and four that share a barrier; then by four connections.
export async function rows() {
    const size = { rows: ROWS, batch: 1000, change: 'n' }, wire = { bytes: BODY, ops: 1000, connections: 4, window: 1 }
    const ours = await rowsIn('ours', size), sqlite = await rowsIn('sqlite', size)
    const together = await rowsIn('ours', { ...size, ahead: 4 })
    const [http, ws] = await once(segued, async (s) => [await load('rows', s, { kind: 'http', ...wire }), await load('rows', s, { kind: 'ws', ...wire })])
    figure('insert/limit', ours.insert_rate, 100000, '/s')
    if (!sqlite) return
    figure('insert/sqlite', ours.insert_rate, sqlite.insert_rate, '/s')
    figure('insert_4/sqlite', together.insert_rate, sqlite.insert_rate, '/s')
    figure('insert_cpu/sqlite', ours.insert_us, sqlite.insert_us, 'us')
    figure('update/sqlite', ours.change_rate, sqlite.change_rate, '/s')
    figure('update_4/sqlite', together.change_rate, sqlite.change_rate, '/s')
    figure('update_cpu/sqlite', ours.change_us, sqlite.change_us, 'us')
    figure('http_4/sqlite', http.rate, sqlite.insert_rate, '/s')
    figure('ws_4/sqlite', ws.rate, sqlite.insert_rate, '/s')
}

// Batches of one row: of 64 connections that wait for each, and of 8 that do not.
export async function single_rows() {
    const one = { bytes: BODY, ops: 1, connections: 64, window: 1 }
    const sqlite = await rowsIn('sqlite', { rows: 10000, batch: 1 })
    const http = await once(segued, (s) => load('rows', s, { kind: 'http', ...one }))
    const ws = await once(segued, (s) => load('rows', s, { kind: 'ws', ...one }))
    const flow = await once(segued, (s) => load('rows', s, { kind: 'ws', ...one, connections: 8, window: 512 }))
    figure('ws_pipelined/limit', flow.rate, 40000, '/s')
    figure('ws_pipelined_cpu/limit', flow.cpu_us, 25, 'us')
    if (!sqlite) return
    figure('http_64/sqlite', http.rate, sqlite.insert_rate, '/s')
    figure('ws_64/sqlite', ws.rate, sqlite.insert_rate, '/s')
    figure('ws_pipelined/sqlite', flow.rate, sqlite.insert_rate, '/s')
}

// The same 10,000 rows as one batch and as 10,000. `book` is what is there for batches, not for what is in their rows.
export async function one_fate() {
    const many = 10000
    const wire = (ops, window) => once(segued, async (s) => {
        const run = await load('rows', s, { kind: 'ws', bytes: BODY, ops, count: many / ops, window })
        return { ms: run.took_ms, all: run.out_bytes + run.in_bytes, book: run.out_bytes + run.in_bytes - run.ops_bytes }
    })
    const one = await wire(many, 1), each = await wire(1, 1024)
    const oneKept = await rowsIn('ours', { rows: many, batch: many }), eachKept = await rowsIn('ours', { rows: many, batch: 1, ahead: 64 })
    figure('time/batches', one.ms, each.ms, 'ms')
    figure('wire/batches', one.all / KIB, each.all / KIB, 'KiB')
    figure('wire_book/batches', one.book / KIB, each.book / KIB, 'KiB')
    figure('journal/batches', oneKept.journal * many / KIB, eachKept.journal * many / KIB, 'KiB')
    figure('database/batches', oneKept.insert_bytes * many / KIB, eachKept.insert_bytes * many / KIB, 'KiB')
    figure('disk_book/batches', oneKept.book * many / KIB, eachKept.book * many / KIB, 'KiB')
}

// Bytes of a row with an index: as it was made, and behind one change: of a number, of a column of the index, of its text; ours with both versions.
export async function space() {
    const size = { rows: ROWS, batch: 1000 }
    for (const change of ['state', 'n', 'body']) {
        const ours = await rowsIn('ours', { ...size, change })
        note(`${change}: ${JSON.stringify(Object.fromEntries(['rows', 'row_index', 'row_history', 'row_commits'].map((k) => [k, ours[k]])))}`)
        for (const kind of ['sqlite', 'sqlite_rowid']) {
            const theirs = await rowsIn(kind, { ...size, change })
            if (!theirs) return
            if (change === 'state') figure(`made/${kind}`, ours.insert_bytes, theirs.insert_bytes, 'B')
            figure(`changed_${change}/${kind}`, ours.change_bytes, theirs.change_bytes, 'B')
        }
    }
}

// Reads from inside a process, beside half of what SQLite does over the same rows and indexes.
export async function reads() {
    const program = path.join(build, 'tests/bench/reads'), place = fresh('reads')
    if (!fs.existsSync(program)) return note('reads: libsqlite3-dev is missing')
    fs.mkdirSync(place)
    const child = start(program, [place, process.env.ROWS || '1000000'])
    if (await child.ended !== 0) throw new Error(`reads: ${child.errors}`)
    for (const [, name, ours, theirs] of child.text.matchAll(/name=(\S+) rate=(\d+) sqlite=(\d+)/g))
        figure(`${name}/half_of_sqlite`, Number(ours), Number(theirs) / 2, '/s')
    fs.rmSync(place, { recursive: true })
}
