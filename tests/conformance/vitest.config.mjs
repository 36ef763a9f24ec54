// One file, one worker: the suite's own order, and its concurrent tests as it wants them.
import { defineConfig } from 'vitest/config'

export default defineConfig({ test: { include: ['suite.test.mjs'], fileParallelism: false, watch: false } })
