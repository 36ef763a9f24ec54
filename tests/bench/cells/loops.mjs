// Cells of several event loops, and of disks that keep one waiting.
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { build, figure, load, note, once, seconds, segued } from '../lib.mjs'

const with_loops = (n) => () => segued(['--loops', String(n)])

async function make(s, name) {
    const reply = await fetch(`${s.url}/apps/${name}`, { method: 'PUT' })
    if (!reply.ok) throw new Error(`PUT /apps/${name}: ${reply.status}`)
}

// Small requests on a connection one after the other, to the apps by turns: microseconds of the median one. `fresh`: each on a connection of its own.
async function turns(s, apps, { fresh = false } = {}) {
    const port = new URL(`${s.url}/`).port, took = []
    const connect = async () => {
        const socket = net.connect(port, '127.0.0.1').setNoDelay(true)
        await new Promise((done, fail) => socket.on('connect', done).on('error', fail))
        return socket
    }
    let socket = fresh ? undefined : await connect()
    const until = process.hrtime.bigint() + BigInt(Math.round(Number(seconds) * 1e9))
    for (let i = 0; process.hrtime.bigint() < until; i++) {
        const begin = process.hrtime.bigint()
        if (fresh) socket = await connect()
        await new Promise((done) => {
            socket.once('data', done)
            socket.write(`GET /apps/${apps[i % apps.length]} HTTP/1.1\r\nHost: bench\r\n\r\n`)
        })
        took.push(Number(process.hrtime.bigint() - begin) / 1e3)
        if (fresh) socket.destroy()
    }
    socket.destroy()
    return took.sort((a, b) => a - b)[took.length >> 1]
}

// Two apps, each with writers that wait for each append: on a loop each, beside both on one.
async function busy() {
    for (const connections of [1, 16, 64]) {
        const sums = []
        for (const n of [1, 2]) {
            const runs = await once(with_loops(n), async (s) => {
                await make(s, 'other')
                return Promise.all(['default', 'other'].map((app) => load('append', s, { app, connections })))
            })
            sums.push({ rate: runs[0].rate + runs[1].rate, p99: Math.max(runs[0].p99_us, runs[1].p99_us) })
        }
        figure(`two_apps_${connections}/one_loop`, sums[1].rate, sums[0].rate, '/s')
        figure(`two_apps_${connections}_p99/one_loop`, sums[1].p99, sums[0].p99, 'us')
    }
}

// An app whose batches have 5,000 rows each, and one whose writer waits for each append of 100 bytes: how late that one's are.
async function slow() {
    const beside = async (n) => once(with_loops(n), async (s) => {
        await make(s, 'slow')
        const heavy = load('batch', s, { app: 'slow', ops: 5000, seconds: Number(seconds) + 1 })
        const [quick] = await Promise.all([load('append', s), heavy])
        return quick
    })
    const alone = await once(with_loops(2), (s) => load('append', s)), same = await beside(1), other = await beside(2)
    figure('beside_slow_p50/alone', other.p50_us, alone.p50_us, 'us')
    figure('beside_slow_p99/alone', other.p99_us, alone.p99_us, 'us')
    figure('beside_slow_p50/one_loop', other.p50_us, same.p50_us, 'us')
    figure('beside_slow_p99/one_loop', other.p99_us, same.p99_us, 'us')
}

// What it costs one app that there are several, and a client that goes from app to app.
async function cost() {
    const runs = []
    for (const n of [1, 2]) {
        runs.push(await once(with_loops(n), async (s) => {
            await make(s, 'other')
            const one = await load('append', s), many = await load('append', s, { connections: 64 })
            return { one, many, kept: await turns(s, ['default']), changing: await turns(s, ['default', 'other']), fresh: await turns(s, ['other'], { fresh: true }) }
        }))
    }
    const [one, two] = runs
    figure('one_app_p50_1/one_loop', two.one.p50_us, one.one.p50_us, 'us')
    figure('one_app_cpu_64/one_loop', two.many.cpu_us, one.many.cpu_us, 'us')
    figure('one_app_rate_64/one_loop', two.many.rate, one.many.rate, '/s')
    figure('other_app/same_app', two.changing, two.kept, 'us')
    figure('new_connection/one_loop', two.fresh, one.fresh, 'us')
}

export async function loops() {
    await busy()
    await slow()
    await cost()
}

// One loop, whose app waits for the disk on the loop or by a thread: what that costs on a quick disk; and on one whose barriers take some milliseconds more, what it
// costs, and how late the writer of another app is, whose disk is quick.
export async function barrier() {
    const way = (where, env) => () => segued(['--loops', '1', '--barrier', where], env)
    const both = async (fn, env) => [await once(way('loop', env), fn), await once(way('thread', env), fn)]
    for (const connections of [1, 64]) {
        const [loop, thread] = await both((s) => load('append', s, { connections }))
        figure(`quick_p50_${connections}/loop`, thread.p50_us, loop.p50_us, 'us')
        figure(`quick_rate_${connections}/loop`, thread.rate, loop.rate, '/s')
        figure(`quick_cpu_${connections}/loop`, thread.cpu_us, loop.cpu_us, 'us')
    }
    const so = path.join(build, 'tests/lib/disk.so')
    if (!fs.existsSync(so)) return note(`${so} is missing (make all)`)
    const slowly = (ms) => ({ LD_PRELOAD: so, SEGUE_DISK_FAULT: `slow:${ms}:/apps/slow/` })
    for (const ms of [1, 2, 5]) {
        const [loop, thread] = await both(async (s) => {
            await make(s, 'slow')
            const alone = await load('append', s, { app: 'slow' })
            const heavy = load('append', s, { app: 'slow', seconds: Number(seconds) + 1 })
            const [quick] = await Promise.all([load('append', s), heavy])
            return { alone, quick }
        }, slowly(ms))
        figure(`slow_${ms}ms_p50/loop`, thread.alone.p50_us, loop.alone.p50_us, 'us')
        figure(`beside_${ms}ms_p50/loop`, thread.quick.p50_us, loop.quick.p50_us, 'us')
        figure(`beside_${ms}ms_p99/loop`, thread.quick.p99_us, loop.quick.p99_us, 'us')
        figure(`beside_${ms}ms_rate/loop`, thread.quick.rate, loop.quick.rate, '/s')
    }
}
