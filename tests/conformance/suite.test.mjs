// The protocol's own suite against the service at CONFORMANCE_URL. Not for `node --test`: conformance.mjs has vitest run it.
import { runConformanceTests } from '@durable-streams/server-conformance-tests'

runConformanceTests({ baseUrl: process.env.CONFORMANCE_URL, subscriptions: true, longPollTimeoutMs: Number(process.env.CONFORMANCE_LONG_POLL_MS) })
