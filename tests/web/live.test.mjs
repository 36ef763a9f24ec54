// clients/web/live.html in a real browser: queries with live stream columns, a bare stream and an upload over one WebSocket, through restarts of the service.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { chatService, hush, message, say } from '../e2e/lib/chat.mjs'
import { append, close, create, update } from '../e2e/lib/http.mjs'
import { eventually } from '../e2e/lib/service.mjs'
import { Tus, idOf, sha256 } from '../e2e/lib/tus.mjs'
import { newPage } from './browser.mjs'

// A page from the disk; `heard` has the messages of each of its connections.
async function open(t, s, what) {
    const { page, address } = await newPage(t, 'live.html', { service: s.url, app: 'default', ...what })
    page.heard = []
    page.on('websocket', (ws) => {
        const messages = []
        page.heard.push(messages)
        ws.on('framereceived', (f) => messages.push(JSON.parse(f.payload)))
    })
    await page.goto(address)
    await page.waitForSelector('#state[data-state=live]')
    return page
}

const shows = (page, selector, want) => page.waitForFunction(([q, w]) => document.querySelector(q)?.textContent === w, [selector, want])
const texts = (page, view) => page.$$eval(`#view-${view} tr[data-row]`, (rows) => rows.map((tr) => tr.querySelector('td.text').textContent))

// Applied once, whatever becomes of the service meanwhile: the key names it.
async function surely(app, ops) {
    const key = randomUUID()
    await eventually('a batch is accepted', async () => {
        const reply = await app.send({ key, ops }).catch(() => undefined)
        assert.ok(reply === undefined || reply.status === 200 || reply.status === 503, reply?.text)
        return reply?.status === 200
    })
}

test('queries with their streams, a bare stream and an upload go on through kill -9, each byte once, over one connection at a time', async (t) => {
    const { s, app, chat } = await chatService(t)
    const [first, second, later] = [randomUUID(), randomUUID(), randomUUID()].sort()
    const film = Buffer.from(Array.from({ length: 300000 }, (_, i) => i % 251))
    const tus = new Tus(app)
    const upload = await tus.create(film.length)
    await app.batch([message(chat, first), message(chat, second), create('log', 'text/plain'), say(first, 'It ')])
    const page = await open(t, s, {
        'query.open': 'select id, status, body from messages where status = $1', 'p.open.1': 'streaming', 'follow.open': 'body@0',
        'query.all': 'select m.body, c.title, m.id from messages m join chats c on c.id = m.chat order by m.id', 'follow.all': 'body',
        'stream.log': 'log', 'upload.film': idOf(upload),
    })
    const told = { [first]: 'It ', [second]: '', [later]: '', log: '' }
    const tell = async (id, text, more = []) => {
        await surely(app, [id === 'log' ? append('log', text) : say(id, text), ...more])
        told[id] += text
    }
    let again = Promise.resolve()
    for (let i = 0; i < 90; i++) {
        if (i % 25 === 20) { // in the midst of what is written and told
            await again
            again = s.kill().then(() => s.start())
        }
        await tell([first, second, 'log'][i % 3], `${i} grüße €🦀 `)
        if (i === 30) await surely(app, [message(chat, later)])
        if (i > 30 && i % 10 === 0) await tell(later, `late ${i} `)
        if (i % 30 === 29) {
            const at = await eventually('where the upload is', () => tus.offset(upload).catch(() => undefined).then((n) => (n === undefined ? undefined : { n })))
            await tus.patch(upload, at.n, film.subarray(at.n, at.n + 100000)).catch(() => {}) // a kill may cut it off
        }
    }
    await again
    for (let at; (at = await tus.offset(upload)) < film.length;) await tus.patch(upload, at, film.subarray(at))
    await tell(first, 'is done.', [hush(first), update('messages', first, { status: 'done' })])
    await surely(app, [close('log')])

    // What is shown is what was written.
    await page.waitForFunction((id) => document.querySelectorAll('#view-open tr[data-row]').length === 2 && !document.querySelector(`#view-open tr[data-row="${id}"]`), first)
    await shows(page, '#view-log .text.closed', told.log)
    await page.waitForFunction((digest) => document.querySelector('#view-film p.closed')?.textContent === `done: ${digest}`, sha256(film))
    await shows(page, '#view-all td.text.closed', told[first])
    assert.deepEqual(await texts(page, 'all'), [first, second, later].map((id) => told[id]))
    assert.deepEqual((await texts(page, 'open')).sort(), [told[second], told[later]].sort())
    assert.deepEqual(page.failures, [])

    // And came once: what all connections told of a stream, one behind the other, are its bytes.
    const messages = page.heard.flat()
    assert.ok(page.heard.filter((of) => of.length > 0).length >= 2, 'it connected again')
    assert.ok(!messages.some((m) => m.type === 'reset'), 'nothing began anew')
    assert.ok(!page.heard.slice(1).flat().some((m) => m.snapshot), 'nothing was sent again')
    const all = messages.flatMap((m) => [...(m.snapshot?.all ?? []), ...(m.changes?.all ?? [])])
    for (const id of [first, second, later]) {
        const text = all.filter((v) => v.stream === 'body' && v.of.startsWith(id)).map((v) => Buffer.from(v.base64 ?? v.text ?? '', v.base64 ? 'base64' : 'utf8'))
        assert.equal(Buffer.concat(text).toString(), told[id])
    }
})

test('a reload goes on where the page was', async (t) => {
    const { s, app, chat } = await chatService(t)
    const id = randomUUID()
    await app.batch([message(chat, id), say(id, 'once upon a time ')])
    const page = await open(t, s, { 'query.q': 'select body from messages', 'follow.q': 'body' })
    await shows(page, '#view-q td.text', 'once upon a time ')
    page.heard.length = 0
    await page.reload()
    await app.batch([say(id, 'there was a stream')])
    await shows(page, '#view-q td.text', 'once upon a time there was a stream')
    assert.ok(!JSON.stringify(page.heard).includes('once upon'), 'no byte twice')
    assert.deepEqual(page.failures, [])
})

test('a query that cannot be evaluated any more is said to be over, and the others go on, also over a restart', async (t) => {
    const { s, app, chat } = await chatService(t)
    const page = await open(t, s, { 'query.all': 'select title from chats order by id', 'query.odd': "select 1 / (case when title = 'odd' then 0 else 1 end) as x from chats" })
    await app.batch([update('chats', chat, { title: 'odd' })])
    await page.waitForFunction(() => document.querySelector('#view-odd .over')?.textContent.startsWith('Over: bad_value'))
    await s.kill()
    await s.start()
    await surely(app, [update('chats', chat, { title: 'even' })])
    await page.waitForFunction(() => document.querySelector('#view-all')?.textContent.includes('even'))
    assert.ok(!page.heard.flat().some((m) => m.type === 'reset'), 'the cursor stands for those that are left')
    assert.deepEqual(page.failures, [])
})
