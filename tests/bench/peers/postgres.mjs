// PostgreSQL as people make live applications of it: a row and a NOTIFY in one transaction, and a listener who fetches the row. Durable, like ours.
import { spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { answers, eventually, folder, freePort, fresh, note, npmModules, start } from '../lib.mjs'

const BODY = 'x'.repeat(64) // with two ids a row of 100 bytes

// The folder of its programs, which Debian keeps off the path.
function programs() {
    const places = '/usr/lib/postgresql'
    const versions = fs.existsSync(places) ? fs.readdirSync(places).sort((a, b) => b - a) : []
    return versions.map((v) => path.join(places, v, 'bin')).find((dir) => fs.existsSync(path.join(dir, 'initdb')))
}

// It refuses to run as root: then it runs as the user that its package made.
function who() {
    if (process.getuid() !== 0) return {}
    const [, , uid, gid] = fs.readFileSync('/etc/passwd', 'utf8').split('\n').find((line) => line.startsWith('postgres:')).split(':')
    return { uid: Number(uid), gid: Number(gid) }
}

// The driver and the programs, or undefined, with a note.
export function postgresInstalled() {
    const modules = npmModules('pg'), bin = programs()
    if (!bin) note('postgresql is missing (make bench-deps installs it)')
    return modules && bin ? { modules, bin } : undefined
}

export async function postgres({ modules, bin }) {
    const data = fresh('postgres'), port = await freePort(), owner = who()
    fs.mkdirSync(data)
    if (owner.uid) {
        fs.chownSync(data, owner.uid, owner.gid)
        fs.chmodSync(folder, 0o711)
    }
    const made = spawnSync(path.join(bin, 'initdb'), ['-D', data, '-U', 'bench', '-A', 'trust', '-E', 'UTF8', '--locale=C'], owner)
    if (made.status !== 0) throw new Error(`initdb: ${made.stderr}`)
    const child = start(path.join(bin, 'postgres'), ['-D', data, '-p', String(port), '-c', 'listen_addresses=127.0.0.1', '-c', 'unix_socket_directories='], owner)
    await eventually('postgres', child, () => answers(port))
    const { default: pg } = await import(pathToFileURL(path.join(modules, 'pg/lib/index.js')))
    const connect = async () => {
        return eventually('a connection', child, () => {
            const client = new pg.Client({ host: '127.0.0.1', port, user: 'bench', database: 'postgres' }) // each tries but once
            return client.connect().then(() => client, () => undefined)
        })
    }
    return { child, connect, pid: child.pid }
}

// `count` rows one after the other, each seen by a second client before the next is written, who listens to `filters` rooms besides: milliseconds, each.
export async function postgresDelivery(server, { count, filters = 0 }) {
    const writer = await server.connect(), reader = await server.connect()
    await writer.query('create table item (id uuid primary key, room text, body text)')
    for (let i = 0; i < filters; i++) await reader.query(`listen room${i}`)
    await reader.query('listen room')
    let seen
    reader.on('notification', (n) => reader.query('select * from item where id = $1', [n.payload]).then(({ rows }) => seen(rows[0])))
    const times = []
    for (let i = 0; i < count; i++) {
        const id = randomUUID(), begin = performance.now()
        const there = new Promise((done) => { seen = done })
        await Promise.all([writer.query(`insert into item values ('${id}', 'room', '${BODY}'); notify room, '${id}'`), there])
        times.push(performance.now() - begin)
    }
    await Promise.all([writer.end(), reader.end()])
    return times
}

// A fresh client's load of so many rows: milliseconds.
export async function postgresFirstLoad(server, rows) {
    const writer = await server.connect()
    await writer.query(`create table load as select gen_random_uuid() as id, 'room' as room, repeat('x', 64) as body from generate_series(1, ${rows})`)
    const begin = performance.now()
    const reader = await server.connect()
    const got = await reader.query('select * from load')
    const took = performance.now() - begin
    if (got.rows.length !== rows) throw new Error(`postgres gave ${got.rows.length} rows`)
    await Promise.all([writer.end(), reader.end()])
    return took
}
