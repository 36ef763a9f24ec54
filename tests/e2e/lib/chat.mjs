// The chat of tests/fixtures/chat.sql, ready to be talked in.
import fs from 'node:fs'
import path from 'node:path'
import { randomUUID } from 'node:crypto'
import { App, insert } from './http.mjs'
import { root, service } from './service.mjs'

export const chatSchema = fs.readFileSync(path.join(root, 'tests/fixtures/chat.sql'), 'utf8')

export const bodyOf = (id) => `rows/messages/${id}/body`

// A service with the chat's schema and one chat: {s, app, chat}
export async function chatService(t, options) {
    const s = await service(t, options)
    const app = new App(s)
    await app.schema(chatSchema)
    const chat = randomUUID()
    await app.batch([insert('chats', { title: 'a chat' }, chat)])
    return { s, app, chat }
}

export const message = (chat, id, more = {}) => insert('messages', { chat, role: 'assistant', ...more }, id)
export const say = (id, text, more = {}) => ({ op: 'append', table: 'messages', id, column: 'body', text, ...more })
export const hush = (id) => ({ op: 'close', table: 'messages', id, column: 'body' })
