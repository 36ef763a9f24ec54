// One Chromium for a test file, and a page of clients/web opened from the disk, as a developer opens it.
import fs from 'node:fs'
import path from 'node:path'
import { after, before } from 'node:test'
import { pathToFileURL } from 'node:url'
import { chromium } from 'playwright-core'
import { PATIENCE_MS, root, tempFolder } from '../e2e/lib/service.mjs'

const CHROMIUM = process.env.CHROMIUM || '/usr/bin/chromium'
const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']

let browser
let profile
before(async () => {
    profile = tempFolder()
    browser = await chromium.launchPersistentContext(profile, { executablePath: CHROMIUM, args: FLAGS, headless: true })
    browser.setDefaultTimeout(PATIENCE_MS)
})
after(async () => {
    await browser?.close()
    fs.rmSync(profile, { recursive: true, force: true })
})

// A new page, and its address with these parameters; what fails in it is in `failures`. Gone with the test.
export async function newPage(t, file, params) {
    const page = await browser.newPage()
    t.after(() => page.close())
    page.failures = []
    page.on('pageerror', (e) => page.failures.push(String(e)))
    const address = pathToFileURL(path.join(root, 'clients/web', file))
    address.search = new URLSearchParams(params)
    return { page, address: address.href }
}
