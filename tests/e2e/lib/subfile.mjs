// What a file that `segue sub --json -o FILE` writes to says, folded: over any number of runs it is one history without a gap or a repeat.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { Fold } from './fold.mjs'

export class SubFile {
    constructor(file, options) {
        this.file = file
        this.fold = new Fold(options)
        this.done = 0 // bytes that were folded: up to a line with a cursor, behind which the next run may cut
        this.runs = 0
    }

    // All that stands there for good.
    take() {
        if (!fs.existsSync(this.file)) return this.fold
        const fd = fs.openSync(this.file)
        const rest = Buffer.alloc(Math.max(0, fs.fstatSync(fd).size - this.done))
        const n = rest.length > 0 ? fs.readSync(fd, rest, 0, rest.length, this.done) : 0
        fs.closeSync(fd)
        const lines = rest.subarray(0, n).toString('utf8').split('\n').slice(0, -1)
        const last = lines.findLastIndex((l) => l.includes(',"cursor":"'))
        for (const line of lines.slice(0, last + 1)) this.#line(line)
        this.done += lines.slice(0, last + 1).reduce((sum, l) => sum + Buffer.byteLength(l) + 1, 0)
        return this.fold
    }

    #line(line) {
        const { cursor, ...m } = JSON.parse(line)
        if (m.type === 'welcome') {
            if (this.runs++ > 0) this.fold.cut()
        } else if (m.type === 'reset' && m.reason === 'cut_off') {
            assert.equal(this.fold.cursor, undefined, 'with a cursor nothing begins anew')
            return this.fold.cut()
        } else if (m.type === 'error') {
            return undefined
        }
        return this.fold.take(m, cursor)
    }
}
