// What many subscribers get at once is written by threads beside the loop (--egress): each gets all of it, once and in order, whoever is slow, leaves or comes back.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { App, append, create, insert } from './lib/http.mjs'
import { eventually, service } from './lib/service.mjs'
import { Subscriber } from './lib/sse.mjs'

const CROWD = 60

const aside = async (app) => Number(/segue_frames_aside_total (\d+)/.exec(await app.metrics())[1])

async function crowdOf(t, app, n) {
    const subs = Array.from({ length: n }, () => new Subscriber(app, { queries: { q: 'select k, text from n' }, streams: { log: 'log' } }))
    for (const sub of subs) {
        await sub.open()
        t.after(() => sub.cut())
    }
    for (const sub of subs) await sub.until('the snapshot', (f) => f.isLive)
    return subs
}

async function begin(t, args) {
    const s = await service(t, { args })
    const app = new App(s)
    await app.schema('create table n (k integer, text text)')
    await app.batch([create('log', 'text/plain')])
    return { s, app }
}

async function settled(app, subs, text) {
    const rows = (await app.rows('select k, text from n order by k')).map((r) => r.k)
    for (const sub of subs) {
        await sub.until('all of it', (f) => f.views.log.offset === text.length && f.views.q.size === rows.length)
        assert.equal(sub.fold.views.log.text, text)
        assert.deepEqual(sub.fold.views.q.rows().map((r) => r.k).sort((a, b) => a - b), rows)
    }
}

test('a crowd gets everything once and in order, written aside', async (t) => {
    const { app } = await begin(t, ['--egress', '2'])
    const subs = await crowdOf(t, app, CROWD)
    const before = await aside(app)
    let text = ''
    for (let k = 0; k < 40; k++) {
        const piece = `<${k}${'.'.repeat(k * 20)}>`
        text += piece
        await app.batch([insert('n', { k, text: 'x'.repeat(k * 10) }), append('log', piece)])
    }
    await settled(app, subs, text)
    assert.ok(await aside(app) > before)
})

test('who reads slowly, leaves or comes back changes nothing for the others', async (t) => {
    const { s, app } = await begin(t, ['--egress', '1'])
    const subs = await crowdOf(t, app, CROWD)
    const slow = subs.slice(0, 10), restless = subs.slice(10, 20)
    for (const sub of slow) sub.res.pause()
    let text = ''
    const big = 'y'.repeat(30000) // more than a socket that nobody reads takes, soon
    for (let k = 0; k < 150; k++) {
        text += `${k};${big}\n`
        await app.batch([insert('n', { k }), append('log', `${k};${big}\n`)])
        if (k % 10 !== 5) continue
        const sub = restless[(k / 10 | 0) % restless.length]
        sub.cut()
        await sub.open()
    }
    await settled(app, subs.slice(10), text)
    for (const sub of slow) sub.res.resume()
    await settled(app, slow, text)
    // All go at once, in the middle of what they are told; the service ends in order behind this.
    const last = app.batch([append('log', big)])
    for (const sub of subs) sub.cut()
    await last
    await eventually('they are gone', async () => /segue_connections [1-3]\n/.test(await app.metrics()))
    assert.equal(await s.stop(), 0)
})

test('a stop and a kill find frames aside, and lose nothing that a cursor does not bring', async (t) => {
    const { s, app } = await begin(t, ['--egress', '2'])
    const subs = await crowdOf(t, app, CROWD)
    let k = 0, text = ''
    for (const end of ['kill', 'stop']) {
        const writing = (async () => {
            for (;;) {
                const reply = await app.send({ key: `k${k}`, ops: [insert('n', { k }), append('log', `${k};`)] }).catch(() => undefined)
                if (reply?.status !== 200) return
                text += `${k++};`
            }
        })()
        await subs[0].until('some of it', (f) => f.views.log.offset > text.length / 2 && text.length > 100)
        await s[end]()
        await writing
        await s.start()
        const again = await app.send({ key: `k${k}`, ops: [insert('n', { k }), append('log', `${k};`)] })
        assert.equal(again.json.fate, 'accepted')
        text += `${k++};`
        for (const sub of subs) await sub.open()
        await settled(app, subs, text)
    }
})
