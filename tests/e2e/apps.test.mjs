// Several apps in one service: made, dropped, each by itself. PROTOCOL.md, section 2, "Apps".
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { App, append, assertProblem, create, insert, request } from './lib/http.mjs'
import { eventually, service } from './lib/service.mjs'
import { follow } from './lib/ws.mjs'
import { subscribe } from './lib/sse.mjs'

const SQL = 'create table notes (text text)'
const make = (s, name) => request(s, 'PUT', `/apps/${name}`)
const drop = (s, name) => request(s, 'DELETE', `/apps/${name}`)
const names = async (s) => (await request(s, 'GET', '/apps')).json.apps.map((a) => a.app).sort()

test('apps come and go, and know nothing of each other', async (t) => {
    const s = await service(t)
    assert.deepEqual(await names(s), ['default'])
    const made = await make(s, 'shop')
    assert.deepEqual([made.status, made.json], [201, { app: 'shop', state: 'ready', seq: 0 }])
    assert.equal((await make(s, 'shop')).status, 200)
    const shop = new App(s, { name: 'shop' }), other = new App(s)
    await shop.schema(SQL)
    await shop.batch([insert('notes', { text: 'in the shop' })])
    assertProblem(await other.ask({ sql: 'select * from notes' }), 422, 'no_such_table')
    assert.deepEqual((await request(s, 'GET', '/apps/shop')).json, { app: 'shop', state: 'ready', seq: 2 })
    assert.deepEqual(await names(s), ['default', 'shop'])
    const gone = await drop(s, 'shop')
    assert.deepEqual([gone.status, gone.text], [204, ''])
    assertProblem(await shop.ask({ sql: 'select * from notes' }), 404, 'no_such_app')
    assertProblem(await drop(s, 'shop'), 404, 'no_such_app')
    assertProblem(await request(s, 'GET', '/apps/shop'), 404, 'no_such_app')
    assert.deepEqual(await names(s), ['default'])
    // The name is free again, and nothing of what had it is left.
    assert.equal((await make(s, 'shop')).status, 201)
    assert.deepEqual((await shop.request('GET', '/schema')).json.tables, [])
})

test('apps survive kill -9, dropped ones do not, and their files go', async (t) => {
    const s = await service(t)
    const folder = path.join(s.data, 'apps')
    for (const name of ['a', 'b', 'c']) {
        assert.equal((await make(s, name)).status, 201)
        const app = new App(s, { name })
        await app.schema(SQL)
        await app.batch([insert('notes', { text: name })])
    }
    assert.equal((await drop(s, 'b')).status, 204)
    await s.kill()
    assert.deepEqual(fs.readdirSync(folder).sort(), ['a', 'c', 'default'])
    await s.start()
    assert.deepEqual(await names(s), ['a', 'c', 'default'])
    assert.deepEqual((await new App(s, { name: 'c' }).rows('select text from notes')).map((r) => r.text), ['c'])
    await eventually('what was dropped is removed', () => fs.readdirSync(path.join(s.data, 'dropped')).length === 0)
    assert.equal((await drop(s, 'a')).status, 204)
    await eventually('what was dropped is removed', () => fs.readdirSync(path.join(s.data, 'dropped')).length === 0)
})

test('subscribers of a dropped app are told, and readers of others are not', async (t) => {
    const s = await service(t)
    await make(s, 'shop')
    const shop = new App(s, { name: 'shop' }), other = new App(s)
    for (const app of [shop, other]) {
        await app.schema(SQL)
        await app.batch([create('log', 'text/plain')])
    }
    const peers = await Promise.all([shop, other].map((app) => follow(t, app, { queries: { q: 'select * from notes' } })))
    const events = await subscribe(t, shop, { queries: { q: 'select * from notes' } })
    const poll = shop.request('GET', '/v1/stream/log?offset=0&live=long-poll').catch((e) => e)
    await shop.batch([insert('notes', { text: 'hello' })])
    await peers[0].until('the first row', (f) => f.views.q.size === 1)
    assert.equal((await drop(s, 'shop')).status, 204)
    const told = await peers[0].answer('why it ends', (a) => a.type === 'error')
    assert.equal(told.code, 'no_such_app')
    await eventually('the end of the events', () => events.over)
    await poll
    await other.batch([append('log', 'still here'), insert('notes', { text: 'too' })])
    await peers[1].until('the row', (f) => f.views.q.size === 1)
})

test('names that are none, the default app, and what is below no app', async (t) => {
    const s = await service(t)
    for (const name of ['Shop', '-shop', '_shop', 'sh%2Fop', 'sh.op', 'x'.repeat(64)]) {
        const reply = await make(s, name)
        assert.ok(reply.status === 400 || reply.status === 404, `${name}: ${reply.status}`)
    }
    assertProblem(await drop(s, 'default'), 403, 'forbidden')
    assert.equal((await request(s, 'POST', '/apps/shop')).status, 405)
    assert.equal((await request(s, 'GET', '/apps/default/nothing')).status, 404)
    assert.deepEqual(await names(s), ['default'])
})

test('only who has the key makes and drops apps', async (t) => {
    const s = await service(t, { dev: false })
    for (const [method, where] of [['PUT', '/apps/shop'], ['DELETE', '/apps/default'], ['GET', '/apps'], ['GET', '/apps/default']])
        assertProblem(await request(s, method, where), 401, 'unauthenticated')
    const key = fs.readFileSync(path.join(s.data, 'admin.key'), 'utf8').trim()
    assert.equal((await request(s, 'PUT', '/apps/shop', { headers: { authorization: `Bearer ${key}` } })).status, 201)
})

test('apps are made and dropped while others are written to', async (t) => {
    const s = await service(t)
    const app = new App(s)
    await app.schema(SQL)
    let stop = false
    const writing = (async () => {
        let n = 0
        while (!stop) await app.batch([insert('notes', { text: `${n++}` })])
        return n
    })()
    for (let i = 0; i < 5; i++) {
        const name = `x${i % 2}`
        assert.equal((await make(s, name)).status, 201)
        const x = new App(s, { name })
        await x.schema(SQL)
        const late = Array.from({ length: 20 }, () => x.send({ ops: [insert('notes', { text: 'late' })] }))
        assert.equal((await drop(s, name)).status, 204)
        // Each of these was accepted before, or is told that the app is gone.
        for (const reply of await Promise.all(late)) assert.ok(reply.status === 200 || reply.json.code === 'no_such_app', reply.text)
    }
    stop = true
    const n = await writing
    assert.equal((await app.rows('select text from notes')).length, n)
})
