// Clients of the jobs campaign, in a process that may be killed at any moment:
//
//      node client.mjs URL
//
// Each line of standard input is something to do, which is done until it has succeeded, however often the service goes away; what
// comes of it is a line of standard output, written before anything else happens. Whoever starts the next process says how far this one got.
//
//      {"do":"submit",key,body}                       {"is":"submitted",key,status,said}
//      {"do":"cancel",key,path}                       {"is":"cancelled",key,status}
//      {"do":"follow",id,kind,stream,offset,json}     {"is":"got",id,from,to,data}…  {"is":"end",id,offset}
//      {"do":"dropin",id,key,path,body,name,offset}   the same, and {"is":"made",id,key,job}
//      {"do":"chat",id,key,path,body,stream,offset}   the same, and {"is":"again",id,data} for a message's beginning that was there before
//
// Kinds of followers: sse and poll (Durable Streams), subscribe and ws (Segue's own).
import http from 'node:http'
import { createInterface } from 'node:readline'
import { App, enc } from '../e2e/lib/http.mjs'
import { sleep } from '../e2e/lib/service.mjs'
import { SseParser, Subscriber } from '../e2e/lib/sse.mjs'
import { SyncPeer } from '../e2e/lib/ws.mjs'

const url = process.argv[2]
const s = { url, port: Number(new URL(url).port) }
const app = new App(s)
const PAUSE_MS = 30 // before the service is tried again

const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`)
const plain = (offset) => Number(offset.split('_').at(-1))
const textOf = (body) => Buffer.concat(body).toString()

// One exchange; `piece` sees the body as it comes. {lost: true} where it broke off.
function exchange(method, path, { body, headers = {}, head = () => {}, piece } = {}) {
    return new Promise((done) => {
        const req = http.request(`${url}${app.base}${path}`, { method, headers, agent: false }, (res) => {
            const kept = []
            head(res)
            res.on('data', (p) => (piece && res.statusCode === 200 ? piece(p, res) : kept.push(p)))
            res.on('error', () => {})
            res.on('close', () => done({ lost: !res.complete, status: res.statusCode, headers: res.headers, text: textOf(kept) }))
        })
        req.on('error', () => done({ lost: true }))
        req.end(body)
    })
}

// Until there is an answer that is one.
async function insist(method, path, options) {
    for (;;) {
        const reply = await exchange(method, path, options)
        if (!reply.lost && reply.status !== 503 && reply.status !== 429) return reply
        await sleep(PAUSE_MS)
    }
}

async function submit({ key, body }) {
    const reply = await insist('POST', '/llm/jobs', { body })
    say({ is: 'submitted', key, status: reply.status, said: JSON.parse(reply.text) })
}

async function cancel({ key, path }) {
    const reply = await insist('DELETE', path)
    say({ is: 'cancelled', key, status: reply.status })
}

// ---- followers ------------------------------------------------------------------------------------------------------

// A place in a stream, and what was got up to it.
class Place {
    constructor({ id, offset, json }) {
        this.id = id
        this.json = json
        this.offset = offset
        this.over = false
    }

    // An answer's text as it is stored: the messages of an array stand in the stream with their commas.
    stored(text) { return this.json && text !== '' && text !== '[]' ? `${text.slice(1, -1)},\n` : this.json ? '' : text }

    got(data, to) {
        if (to === this.offset) return
        say({ is: 'got', id: this.id, from: this.offset, to, data })
        this.offset = to
    }

    end() {
        this.over = true
        say({ is: 'end', id: this.id, offset: this.offset })
    }
}

// What stands between two control events is taken when the second one says where it ends.
async function sse(place, stream) {
    let pending = ''
    let req
    const parser = new SseParser(({ event, data }) => {
        if (event === 'data') { pending += place.stored(data); return }
        const control = JSON.parse(data)
        place.got(pending, plain(control.streamNextOffset))
        pending = ''
        if (control.streamClosed) place.end()
    })
    req = await exchange('GET', `${app.stream(stream)}?offset=${place.offset}&live=sse`, { piece: (p) => parser.feed(p) })
    return req.status
}

async function poll(place, stream) {
    const reply = await exchange('GET', `${app.stream(stream)}?offset=${place.offset}&live=long-poll`)
    if (reply.lost || (reply.status !== 200 && reply.status !== 204)) return reply.status
    place.got(place.stored(reply.text), plain(reply.headers['stream-next-offset']))
    if (reply.headers['stream-closed'] === 'true' && (reply.status === 204 || reply.headers['stream-up-to-date'] === 'true')) place.end()
    return reply.status
}

// Segue's own, over either carrier: what the fold has made of the messages.
function watch(place, fold, offset) {
    const take = fold.take.bind(fold)
    fold.take = (m, id) => {
        take(m, id)
        const view = fold.views.text
        if (!view || place.over) return m
        if (view.offset > place.offset) place.got(view.bytes.subarray(place.offset - offset).toString(), view.offset)
        if (view.closed && view.offset === place.offset) place.end()
        return m
    }
}

async function fold(place, stream, kind) {
    const begin = place.offset
    const what = { streams: { text: begin ? `${stream}@${begin}` : stream } }
    const peer = kind === 'ws' ? new SyncPeer(app, what) : new Subscriber(app, what)
    watch(place, peer.fold, begin)
    while (!place.over) {
        await peer.reopen()
        await peer.until('the end', () => place.over).catch((e) => { if (peer.failure) throw peer.failure; if (!/ended before/.test(e.message)) throw e })
        peer.cut()
    }
}

async function follow(order) {
    const place = new Place(order)
    if (order.kind === 'ws' || order.kind === 'subscribe') return fold(place, order.stream, order.kind)
    for (; !place.over;) {
        const status = await (order.kind === 'sse' ? sse : poll)(place, order.stream)
        if (status !== undefined && ![200, 204, 404, 503].includes(status)) throw new Error(`${order.kind} of ${order.stream} at ${place.offset}: ${status}`)
        if (!place.over && status !== 200 && status !== 204) await sleep(PAUSE_MS)
    }
}

// ---- drop-in --------------------------------------------------------------------------------------------------------

// Asks, reads, and comes back with a cursor: as an application would that wants the whole answer. A refusal that passes is asked again
// under the same name. Over when the job has ended and its bytes are here.
async function dropin(order) {
    const place = new Place(order)
    while (!place.over) {
        let job
        const headers = { 'content-type': 'application/json', 'segue-stream': enc(order.name), ...(place.offset ? { 'segue-cursor': String(place.offset) } : {}) }
        const reply = await exchange('POST', order.path, {
            body: order.body,
            headers,
            head: (res) => { job = res.headers['segue-job']; if (job) say({ is: 'made', id: order.id, key: order.key, job }) },
            piece: (p) => place.got(p.toString('base64'), place.offset + p.length),
        })
        if (reply.status === 401 || (!reply.lost && reply.status === 200)) return place.end()
        if (job && reply.status === 200) await endOf(job, place) // it broke off: the service did, or the provider
        await sleep(PAUSE_MS)
    }
}

// The job has ended, and all of its stream was read: there is nothing to come back for.
async function endOf(job, place) {
    const reply = await exchange('GET', `/llm/jobs/${job}`)
    if (reply.lost || reply.status !== 200) return
    const said = JSON.parse(reply.text)
    if (!said.ended) return
    const head = await exchange('HEAD', app.stream(said.stream))
    if (!head.lost && head.status === 200 && place.offset > 0 && plain(head.headers['stream-next-offset']) === place.offset) place.end()
}

// ---- UI messages ----------------------------------------------------------------------------------------------------

// As a page does that is loaded again: a chat's running message from its beginning. What ended meanwhile is read from its stream. Only a
// message that was never made is posted (again): another post would take its place.
async function chat(order) {
    const place = new Place(order)
    while (!place.over) {
        let at = 0
        const options = {
            head: (res) => { if (res.headers['segue-job']) say({ is: 'made', id: order.id, key: order.key, job: res.headers['segue-job'] }) },
            piece: (p) => {
                const known = Math.min(p.length, Math.max(0, place.offset - at))
                if (known > 0) say({ is: 'again', id: order.id, from: at, data: p.subarray(0, known).toString('base64') })
                at += p.length
                if (known < p.length) place.got(p.subarray(known).toString('base64'), at)
            },
        }
        const running = await exchange('GET', `${order.path}/${order.key}/stream`, options)
        if (!running.lost && running.status === 204) await ofEnded(order, place, options)
        if (!place.over) await sleep(PAUSE_MS)
    }
}

async function ofEnded(order, place, options) {
    const reply = await exchange('GET', `${app.stream(order.stream)}?offset=${place.offset}`)
    if (reply.lost) return
    if (reply.status === 404) return exchange('POST', order.path, { ...options, body: order.body, headers: { 'content-type': 'application/json' } })
    if (reply.status !== 200 || reply.headers['stream-closed'] !== 'true') return
    place.got(Buffer.from(reply.text).toString('base64'), plain(reply.headers['stream-next-offset']))
    place.end()
}

const deeds = { submit, cancel, follow, dropin, chat }
process.on('unhandledRejection', (e) => { say({ is: 'broken', text: e.stack }); process.exit(1) })
createInterface({ input: process.stdin }).on('line', (line) => {
    const order = JSON.parse(line)
    deeds[order.do](order)
})
