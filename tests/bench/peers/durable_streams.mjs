// The Durable Streams project's own server for Node, with its files: node durable_streams.mjs MODULES DIR PORT
import path from 'node:path'
import { pathToFileURL } from 'node:url'

const [modules, dataDir, port] = process.argv.slice(2)
const { DurableStreamTestServer } = await import(pathToFileURL(path.join(modules, '@durable-streams/server/dist/index.js')))
const server = new DurableStreamTestServer({ port: Number(port), host: '127.0.0.1', dataDir })
console.log(`listening on ${await server.start()}`)
process.on('SIGTERM', () => process.exit(0))
