// Cells of appends, tokens and those who follow.
import fs from 'node:fs'
import path from 'node:path'
import { bare, diskBytes, figure, installed, KIB, load, metric, MIB, npmModules, npmServer, once, plain, redis, seconds, segued, sendfile, SETTLE_MS, sleep, text } from '../lib.mjs'

export async function append() {
    const peer = installed('redis-server')
    const many = { connections: 64 }
    const floor1 = await once(bare, (s) => load('append', s, { kind: 'bare' }))
    const floor64 = await once(bare, (s) => load('append', s, { kind: 'bare', ...many }))
    const [ours1, ours64] = await once(segued, async (s) => [await load('append', s), await load('append', s, many)])
    figure('p50_1/floor', ours1.p50_us, floor1.p50_us, 'us')
    figure('p99_1/floor', ours1.p99_us, floor1.p99_us, 'us')
    figure('rate_64/floor', ours64.rate, floor64.rate, '/s')
    figure('rate_64/rate_1', ours64.rate, ours1.rate, '/s')
    figure('floor_64/floor_1', floor64.rate, floor1.rate, '/s')
    const modules = npmModules('@durable-streams/server')
    if (modules) {
        const npm64 = await once(() => npmServer(modules), (s) => load('append', s, many))
        figure('rate_64/npm', ours64.rate, npm64.rate, '/s')
    }
    if (!peer) return
    const [peer1, peer64] = await once(() => redis(peer), async (s) => [await load('append', s, { kind: 'redis' }), await load('append', s, { kind: 'redis', ...many })])
    figure('p50_1/redis', ours1.p50_us, peer1.p50_us, 'us')
    figure('rate_64/redis', ours64.rate, peer64.rate, '/s')
    figure('cpu_64/redis', ours64.cpu_us, peer64.cpu_us, 'us')
}

// One connection that does not wait. The limit is what we ask of ourselves.
export async function append_pipelined() {
    const peer = installed('redis-server')
    const flow = { kind: 'ws', rate: 0, text }
    const ours = await once(segued, (s) => load('pipeline', s, flow))
    figure('rate/limit', ours.rate, 250000, '/s')
    if (!peer) return
    const theirs = await once(() => redis(peer), (s) => load('pipeline', s, { ...flow, kind: 'redis' }))
    figure('rate/redis', ours.rate, theirs.rate, '/s')
    figure('cpu/redis', ours.cpu_us, theirs.cpu_us, 'us')
}

// One token of 4 bytes an append, 100 a second into each stream: what it takes of the disk, and what else would.
export async function tokens() {
    for (const streams of [1, 100, 10000]) {
        const ours = await once(segued, async (s) => {
            const app = path.join(s.data, 'apps/default')
            const kept = () => diskBytes(path.join(app, 'streams')) + diskBytes(path.join(app, 'db'))
            const empty = kept()
            const run = await load('pipeline', s, { kind: 'ws', bytes: 4, streams, rate: 100, text, seconds: Number(seconds) * 3 })
            const commits = await metric(s, 'segue_commits_total'), journal = await metric(s, 'segue_group_bytes_total')
            await sleep(SETTLE_MS)
            return { rate: run.rate, journal: journal / commits, sealed: (kept() - empty) / commits, live: await metric(s, 'segue_journal_live_bytes') }
        })
        figure(`journal_${streams}/limit`, ours.journal, 48, 'B')
        figure(`journal_kept_${streams}/segment`, ours.live / MIB, 32, 'MiB')
        figure(`sealed_${streams}/limit`, ours.sealed, 2.5, 'B')
        figure(`rate_${streams}/wanted`, ours.rate, streams * 100, '/s')
        for (const kind of ['log', 'sqlite']) {
            const theirs = await plain(kind, streams, 100, 4)
            if (theirs.skip) continue
            figure(`journal_${streams}/${kind}`, ours.journal, Number(theirs.written), 'B')
            figure(`rate_${streams}/${kind}`, ours.rate, Number(theirs.rate), '/s')
        }
    }
}

// Ten tokens a second into each of 10,000 streams, each followed by a connection of its own, for a minute.
export async function tails() {
    const crowd = { kind: 'ws', bytes: 4, streams: 10000, readers: 10000, text }
    const ours = await once(segued, (s) => load('pipeline', s, { ...crowd, rate: 10, seconds: process.env.SECONDS || 60 }))
    figure('rate/wanted', ours.rate, 100000, '/s')
    figure('ack_p99/second', ours.p99_us / 1e3, 1000, 'ms')
    figure('behind/second', ours.behind_ms, 1000, 'ms')
    const most = await once(segued, (s) => load('pipeline', s, { ...crowd, rate: 100 }))
    figure('most/wanted', most.rate, 100000, '/s')
    figure('most_cpu/core', most.cpu_us * most.rate / 1e6, 1, 'cores')
}

export async function catchup() {
    for (const [name, bytes] of [['10MiB', 10 * MIB], ['100MB', 100e6]]) {
        const ours = await once(segued, (s) => load('catchup', s, { bytes, text }))
        const floor = await once(() => sendfile(bytes), (s) => load('catchup', s, { kind: 'sendfile', bytes }))
        figure(`${name}/sendfile`, ours.rate, floor.rate, 'MB/s')
    }
}

// At a rate: how late each message is. Saturated, by eight writers that append again when they are answered: how many reach their readers in all;
// what the bare server hands out then, a frame for each message and reader, is what the machine gives to one who does not coalesce.
export async function fanout() {
    const crowd = { readers: 1000 }, loads = { 50: { rate: 50 }, 250: { rate: 250 }, all: { rate: 0, connections: 8 } }
    for (const [name, how] of Object.entries(loads)) {
        const floor = await once(() => bare(crowd.readers), (s) => load('fanout', s, { kind: 'bare', ...crowd, ...how, connections: 1 }))
        for (const kind of ['ds', 'sse', 'ws', 'row']) {
            const ours = await once(segued, (s) => load('fanout', s, { kind, ...crowd, ...how }))
            if (name === 'all') figure(`${kind}_saturated/floor`, ours.rate, floor.rate, '/s')
            if (name === 'all') continue
            figure(`${kind}_${name}_p50/floor`, ours.p50_us / 1e3, floor.p50_us / 1e3, 'ms')
            figure(`${kind}_${name}_p99/floor`, ours.p99_us / 1e3, floor.p99_us / 1e3, 'ms')
            figure(`${kind}_${name}_cpu/floor`, ours.cpu_us, floor.cpu_us, 'us')
        }
    }
}

export async function idle() {
    for (const kind of ['sse', 'ws']) {
        const ours = await once(segued, (s) => load('idle', s, { kind, readers: 10000 }))
        if (ours.skip) {
            note(`idle ${kind}: ${ours.skip}`)
            continue
        }
        if (kind === 'sse') figure('process/limit', ours.process_kib, 20 * KIB, 'KiB')
        figure(`${kind}_subscriber/limit`, ours.subscriber_bytes, 16 * KIB, 'B')
    }
}
