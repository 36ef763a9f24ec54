// @durable-streams/client, unmodified: what it writes and reads is what the protocol promises, over restarts, too.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DurableStream, DurableStreamError, FetchError, IdempotentProducer, StaleEpochError, stream } from '@durable-streams/client'
import { eventually, service, sleep, within } from '../e2e/lib/service.mjs'

const urlOf = (s, path) => `${s.url}/apps/default/v1/stream/${path}`
const numbers = (from, to) => Array.from({ length: to - from }, (_, i) => from + i)

async function allOf(url) {
    const res = await stream({ url, offset: '-1', live: false })
    return res.json()
}

test('a stream is made, appended to, read, closed and deleted', async (t) => {
    const s = await service(t)
    const url = urlOf(s, 'plain')
    const handle = await DurableStream.create({ url, contentType: 'text/plain' })
    await handle.append('high ')
    await handle.append('water')
    const head = await DurableStream.head({ url })
    assert.equal(head.exists, true)
    assert.match(head.contentType, /^text\/plain/)
    const res = await stream({ url, offset: '-1', live: false })
    assert.equal(await res.text(), 'high water')
    const { finalOffset } = await handle.close({ body: '.' })
    assert.ok(finalOffset > head.offset)
    const closed = await stream({ url, offset: head.offset, live: false })
    assert.equal(await closed.text(), '.')
    assert.equal(closed.streamClosed, true)
    await assert.rejects(handle.append('more'), (e) => e instanceof DurableStreamError || e instanceof FetchError)
    await DurableStream.delete({ url })
    await assert.rejects(stream({ url, offset: '-1', live: false }), (e) => e.status === 404)
})

test('a JSON stream keeps its messages apart', async (t) => {
    const s = await service(t)
    const url = urlOf(s, 'json')
    const handle = await DurableStream.create({ url, contentType: 'application/json' })
    await handle.append(JSON.stringify({ n: 1 }))
    await Promise.all([2, 3, 4].map((n) => handle.append(JSON.stringify({ n }))))
    assert.deepEqual((await allOf(url)).map((m) => m.n).sort(), [1, 2, 3, 4])
})

for (const live of ['sse', 'long-poll']) {
    test(`a reader by ${live} gets what comes, once, and the end`, async (t) => {
        const s = await service(t)
        const url = urlOf(s, `live-${live}`)
        const handle = await DurableStream.create({ url, contentType: 'application/json' })
        await handle.append(JSON.stringify({ n: 0 }))
        const seen = []
        const res = await stream({ url, offset: '-1', live })
        res.subscribeJson(async (batch) => { for (const item of batch.items) seen.push(item.n) })
        for (const n of numbers(1, 20)) await handle.append(JSON.stringify({ n }))
        await eventually('all of them', () => seen.length === 20)
        await handle.close()
        await within(res.closed, 'the end of the reading')
        assert.deepEqual(seen, numbers(0, 20))
    })
}

test('binary content comes through SSE byte for byte', async (t) => {
    const s = await service(t)
    const url = urlOf(s, 'bytes')
    const handle = await DurableStream.create({ url, contentType: 'application/octet-stream' })
    const bytes = Uint8Array.from({ length: 1024 }, (_, i) => (i * 7) & 255)
    await handle.append(bytes.slice(0, 300))
    const pieces = []
    const res = await stream({ url, offset: '-1', live: 'sse' })
    res.subscribeBytes(async (chunk) => { pieces.push(Buffer.from(chunk.data)) })
    await handle.append(bytes.slice(300))
    await handle.close()
    await within(res.closed, 'the end of the reading')
    assert.deepEqual(Buffer.concat(pieces), Buffer.from(bytes))
})

test('an idempotent producer writes everything once, in order', async (t) => {
    const s = await service(t)
    const url = urlOf(s, 'produced')
    const handle = await DurableStream.create({ url, contentType: 'application/json' })
    const failures = []
    // Every answer is lost on its way, once: what is sent again is not there twice.
    let asked = 0
    const lossy = async (...args) => {
        await fetch(...args)
        asked++
        return fetch(...args)
    }
    const producer = new IdempotentProducer(handle, 'tides', { lingerMs: 0, maxBatchBytes: 64, fetch: lossy, onError: (e) => failures.push(e) })
    for (const n of numbers(0, 60)) producer.append(JSON.stringify({ n }))
    await within(producer.flush(), 'the flush')
    assert.deepEqual(failures, [])
    assert.deepEqual((await allOf(url)).map((m) => m.n), numbers(0, 60))
    assert.ok(asked > 3)
    await producer.close(JSON.stringify({ n: 60 }))
    assert.deepEqual((await allOf(url)).map((m) => m.n), numbers(0, 61))
})

test('a producer of an older epoch is fenced', async (t) => {
    const s = await service(t)
    const url = urlOf(s, 'fenced')
    const handle = await DurableStream.create({ url, contentType: 'application/json' })
    const failures = []
    const old = new IdempotentProducer(handle, 'p', { epoch: 1, onError: (e) => failures.push(e) })
    const young = new IdempotentProducer(handle, 'p', { epoch: 2 })
    old.append(JSON.stringify({ n: 1 }))
    await old.flush()
    young.append(JSON.stringify({ n: 2 }))
    await young.flush()
    old.append(JSON.stringify({ n: 3 }))
    await old.flush().catch((e) => failures.push(e))
    assert.ok(failures.some((e) => e instanceof StaleEpochError && e.currentEpoch === 2), String(failures))
    assert.deepEqual((await allOf(url)).map((m) => m.n), [1, 2])
})

for (const live of ['sse', 'long-poll']) {
    test(`a reader by ${live} and a producer go on over kill -9`, async (t) => {
        const s = await service(t)
        const url = urlOf(s, `restart-${live}`)
        const handle = await DurableStream.create({ url, contentType: 'application/json' })
        // A producer leaves trying again to its fetch.
        const patient = async (...args) => {
            for (;;) {
                try { return await fetch(...args) } catch { await sleep(20) }
            }
        }
        const backoffOptions = { initialDelay: 20, maxDelay: 200, multiplier: 1.5 }
        const producer = new IdempotentProducer(await DurableStream.connect({ url, backoffOptions }), 'p', { lingerMs: 0, maxInFlight: 1, fetch: patient })
        const seen = []
        let at
        const follow = async (offset) => {
            const res = await stream({ url, offset, live, backoffOptions, onError: () => ({}) })
            res.subscribeJson(async (batch) => { for (const item of batch.items) seen.push(item.n); at = batch.offset })
            return res
        }
        let reader = await follow('-1')
        for (const n of numbers(0, 10)) producer.append(JSON.stringify({ n }))
        await producer.flush()
        await eventually('the first ten', () => seen.length === 10)
        reader.closed.catch(() => {})
        reader.cancel()
        await s.kill()
        producer.append(JSON.stringify({ n: 10 }))
        await s.start()
        reader = await follow(at)
        for (const n of numbers(11, 20)) producer.append(JSON.stringify({ n }))
        await within(producer.flush(), 'the flush behind the restart')
        await producer.close()
        await within(reader.closed, 'the end of the reading')
        assert.deepEqual(seen, numbers(0, 20))
        assert.deepEqual((await allOf(url)).map((m) => m.n), numbers(0, 20))
    })
}
