// Connections that break at a place, not at a time.
import net from 'node:net'

// A way to the service that is cut behind so many bytes of the client's, whatever the pace: nothing behind a place gets through before its break is done.
// `breaks` is [place, what], in their order. {url, left(), end()}
export async function cutAt(s, breaks) {
    const to = new URL(s.url), waiting = [...breaks], open = new Set(), broken = []
    let passed = 0
    const cut = async ([, what]) => { for (const socket of open) socket.destroy(); await what() }
    const server = net.createServer((client) => {
        const there = net.connect(Number(to.port), to.hostname)
        for (const socket of [client, there]) {
            open.add(socket)
            socket.on('error', () => {}).on('close', () => { open.delete(socket); client.destroy(); there.destroy() })
        }
        there.pipe(client)
        client.on('data', (piece) => {
            passed += piece.length
            if (waiting.length > 0 && passed >= waiting[0][0]) broken.push(cut(waiting.shift()))
            else if (!there.write(piece)) { client.pause(); there.once('drain', () => client.resume()) }
        })
    })
    await new Promise((done) => server.listen(0, '127.0.0.1', done))
    return {
        url: `http://127.0.0.1:${server.address().port}`,
        left: () => waiting.length,
        end: async () => { for (const socket of open) socket.destroy(); server.close(); await Promise.all(broken) },
    }
}
