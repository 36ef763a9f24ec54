// Stands between client and service; what passes is counted, and `plan` says after how many bytes each connection stalls or breaks, or how fast it is.
//
//   const p = await proxy(t, s, [{ stallUp: 6 << 20 }])   the first connection stops taking after 6 MiB; p.release(): none does any more
//   plan.rest is for the others; p.up, p.down, p.connections, p.stalled
import net from 'node:net'

export async function proxy(t, s, plan = []) {
    const waiting = new Set()
    const p = { up: 0, down: 0, connections: 0, stalled: false, released: false }
    const server = net.createServer((client) => {
        const step = plan[p.connections++] ?? plan.rest ?? {}
        const upstream = net.connect(s.port, '127.0.0.1')
        let up = 0, down = 0
        const cut = () => { client.destroy(); upstream.destroy(); waiting.delete(release) }
        const release = () => client.resume()
        for (const socket of [client, upstream]) socket.on('error', cut).on('close', cut)
        client.on('data', (bytes) => {
            up += bytes.length
            p.up += bytes.length
            upstream.write(bytes)
            if (up > (step.stallUp ?? Infinity) && !p.released) { p.stalled = true; waiting.add(release); client.pause() }
            if (step.upPerSecond) { client.pause(); setTimeout(() => client.resume(), 1000 * bytes.length / step.upPerSecond) }
            if (up > (step.breakUp ?? Infinity)) { client.pause(); setTimeout(cut, 50) }
        })
        upstream.on('data', (bytes) => {
            down += bytes.length
            p.down += bytes.length
            client.write(bytes)
            if (down > (step.breakDown ?? Infinity)) setTimeout(cut, 50)
        })
    })
    await new Promise((go) => server.listen(0, '127.0.0.1', go))
    t.after(() => new Promise((go) => { server.close(go); server.closeAllConnections?.() }))
    p.url = `http://127.0.0.1:${server.address().port}`
    p.release = () => { p.released = true; for (const go of waiting) go() }
    return p
}
