// The transcripts of PROTOCOL.md, played against the service as they stand there.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { llmService } from './lib/provider.mjs'
import { root } from './lib/service.mjs'
import { play, transcripts } from './lib/transcript.mjs'

const text = fs.readFileSync(path.join(root, 'service/PROTOCOL.md'), 'utf8')

for (const { title, steps } of transcripts(text))
    test(`transcript: ${title}`, async (t) => {
        const { s, provider } = await llmService(t, { schema: null })
        await play(t, s, steps, { provider: provider.url })
    })

test('a transcript that says something else than the service does fails', async (t) => {
    const { s } = await llmService(t, { schema: null })
    const tries = {
        'another status': 'ann > GET /apps/default/schema\nann < 404 …',
        'another body': 'ann > GET /apps\nann < 200 {"apps":[]}',
        'more than is said': 'ann > GET /apps',
        'one word for two things': 'ann > GET /apps\nann < 200 {"apps":[{"app":"$same","state":"$same",…',
    }
    for (const [what, body] of Object.entries(tries)) {
        const [{ steps }] = transcripts(`\`\`\`transcript ${what}\n${body}\n\`\`\`\n`)
        await assert.rejects(play(t, s, steps), assert.AssertionError, what)
    }
})
