// clients/web/tail.html in a real browser: two tabs, one on each carrier, follow a reply while it grows.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { bodyOf, chatService, hush, message, say } from '../e2e/lib/chat.mjs'
import { update } from '../e2e/lib/http.mjs'
import { sleep } from '../e2e/lib/service.mjs'
import { newPage } from './browser.mjs'

async function tab(t, s, what, carrier) {
    const { page, address } = await newPage(t, 'tail.html', { service: s.url, app: 'default', carrier, ...what })
    await page.goto(address)
    await live(page)
    return page
}

const live = (page) => page.waitForSelector('#state[data-state=live]')
const text = (page) => page.textContent('#text')
const hasText = (page, want) => page.waitForFunction((w) => document.getElementById('text').textContent === w, want)
const closed = (page) => page.waitForSelector('#text.closed')

// A chat, a message whose reply is to come, and two tabs that look at it.
async function chatInTwoTabs(t) {
    const { s, app, chat } = await chatService(t)
    const id = randomUUID()
    await app.batch([message(chat, id)])
    const what = { query: 'select id, status from messages', stream: bodyOf(id) }
    const [left, right] = [await tab(t, s, what, 'events'), await tab(t, s, what, 'websocket')]
    return { s, app, id, left, right, what }
}

for (const reloaded of ['left', 'right']) {
    test(`a reply grows in two tabs, the ${reloaded} one is reloaded in the middle, and both end with the same text`, async (t) => {
        const two = await chatInTwoTabs(t)
        const { app, id, left, right } = two
        const words = Array.from({ length: 120 }, (_, i) => `${i} grüße €🦀 `)
        let told = ''
        for (const [i, word] of words.entries()) {
            await app.batch([say(id, word)])
            told += word
            if (i % 20 === 10) await hasText(left, told) // it grows before our eyes
            if (i === 60) {
                await hasText(two[reloaded], told)
                // The reply goes on while nobody in that tab listens.
                const back = two[reloaded].reload()
                await app.batch([say(id, 'meanwhile ')])
                told += 'meanwhile '
                await back
            }
        }
        await app.batch([hush(id), update('messages', id, { status: 'done' })])
        for (const page of [left, right]) {
            await closed(page)
            await hasText(page, told)
            assert.match(await page.textContent('#rows'), /done/)
            assert.deepEqual(page.failures, [])
        }
    })
}

test('a reload goes on from the cursor: what was there is not sent again', async (t) => {
    const { app, id, right, s } = await chatInTwoTabs(t)
    await app.batch([say(id, 'once upon a time ')])
    await hasText(right, 'once upon a time ')
    const heard = []
    right.on('websocket', (ws) => ws.on('framereceived', (f) => heard.push(JSON.parse(f.payload))))
    await right.reload()
    await app.batch([say(id, 'there was a stream')])
    await hasText(right, 'once upon a time there was a stream')
    assert.ok(heard.length > 0 && !heard.some((m) => m.snapshot), 'no snapshot')
    assert.ok(!JSON.stringify(heard).includes('once upon'), 'no byte twice')
    assert.ok(s)
})

test('both tabs come back by themselves when the service was away', async (t) => {
    const { s, app, id, left, right } = await chatInTwoTabs(t)
    await app.batch([say(id, 'before ')])
    await hasText(left, 'before ')
    await s.kill()
    await left.waitForSelector('#state[data-state=away]')
    await right.waitForSelector('#state[data-state=away]')
    await s.start()
    await app.batch([say(id, 'and behind'), hush(id)])
    for (const page of [left, right]) {
        await hasText(page, 'before and behind')
        await closed(page)
    }
    await sleep(0)
})

test('characters that arrive in pieces are shown whole', async (t) => {
    const { app, id, left, right } = await chatInTwoTabs(t)
    for (const b of Buffer.from('ein €-Zeichen und ein 🦀')) await app.batch([{ op: 'append', table: 'messages', id, column: 'body', base64: Buffer.from([b]).toString('base64') }])
    await app.batch([hush(id)])
    for (const page of [left, right]) {
        await closed(page)
        await hasText(page, 'ein €-Zeichen und ein 🦀')
    }
})
