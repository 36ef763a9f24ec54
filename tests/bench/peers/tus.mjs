// The tus project's own server for Node, with its files: node tus.mjs MODULES DIR PORT
import http from 'node:http'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

const [modules, directory, port] = process.argv.slice(2)
const from = async (name) => import(pathToFileURL(path.join(modules, name, 'dist/index.js')))
const { Server } = await from('@tus/server')
const { FileStore } = await from('@tus/file-store')
const tus = new Server({ path: '/files', datastore: new FileStore({ directory }) })
const server = http.createServer((req, res) => tus.handle(req, res))
server.requestTimeout = 0
server.listen(Number(port), '127.0.0.1', () => console.log(`listening on 127.0.0.1:${port}`))
process.on('SIGTERM', () => process.exit(0))
