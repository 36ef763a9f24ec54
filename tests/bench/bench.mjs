// make bench: runs the cells, each beside a peer or a physical limit in the same run, and prints one line per figure:
//
//   <cell> <figure> <ours> <reference> <ratio> <unit>        figure: what/beside what; ratio: ours by reference
//
// Machines differ and days differ: only ratios of one run are worth quoting. Every figure is the median of ROUNDS rounds in which ours and
// the reference take turns. Nothing here needs the network; peers that are not installed are said to be missing.
//
//   B=build ONLY=append ROUNDS=3 SECONDS=2 node tests/bench/bench.mjs
import fs from 'node:fs'
import path from 'node:path'
import * as files from './cells/files.mjs'
import * as filters from './cells/filters.mjs'
import * as live from './cells/live.mjs'
import * as loops from './cells/loops.mjs'
import { begin, end, folder, lines, root, running } from './lib.mjs'
import * as rows from './cells/rows.mjs'
import * as streams from './cells/streams.mjs'

const rounds = Number(process.env.ROUNDS || 3)
const table = path.join(root, 'build/bench.tsv')

const cells = { ...streams, ...rows, ...filters, ...files, ...loops, ...live }
const ONCE = ['idle', 'reads', 'tokens', 'tails', 'dedup', 'space'] // long, and of bytes more than of time

function wanted() {
    const only = process.env.ONLY
    if (!only) return Object.keys(cells)
    if (!cells[only]) throw new Error(`there is no cell ${only}: ${Object.keys(cells).join(' ')}`)
    return [only]
}

// The table keeps the figures of cells that were not run now.
function keep(cell, made) {
    const old = fs.existsSync(table) ? fs.readFileSync(table, 'utf8').split('\n').filter((line) => line && !line.startsWith(`${cell}\t`)) : []
    fs.writeFileSync(table, [...old, ...made].join('\n') + '\n')
}

async function run() {
    for (const cell of wanted()) {
        begin()
        for (let i = 0; i < (ONCE.includes(cell) ? 1 : rounds); i++) await cells[cell]()
        const made = lines(cell)
        for (const line of made) console.log(line.replaceAll('\t', ' '))
        keep(cell, made)
    }
}

try {
    await run()
} catch (e) {
    console.error(e.message)
    process.exitCode = 1
} finally {
    await Promise.all([...running].map(end))
    fs.rmSync(folder, { recursive: true, force: true })
}