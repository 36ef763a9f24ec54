// The command line client against a stand-in service that misbehaves as told: what a good service rarely does, a client
// has to bear all the same. Run: node --test tests/e2e/cli_faults.test.mjs (SEGUE names the program).
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

const SEGUE = process.env.SEGUE ?? "build/segue";

// A service whose every request goes to `handle(request, response, body)`.
async function standIn(t, handle) {
    const requests = [];
    const server = createServer(async (req, res) => {
        const pieces = [];
        try {
            for await (const piece of req) pieces.push(piece);
        } catch {
            return; // the client went away
        }
        const body = Buffer.concat(pieces);
        requests.push({ method: req.method, url: req.url, headers: req.headers, body, socket: req.socket });
        handle(req, res, body, requests.length);
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    t.after(() => {
        server.closeAllConnections();
        server.close();
    });
    return { url: `http://127.0.0.1:${server.address().port}`, requests };
}

function start(url, args, env = {}) {
    const child = spawn(SEGUE, ["--url", url, ...args], { env: { ...process.env, SEGUE_KEY: "k1", ...env } });
    const run = { child, out: "", err: "", bytes: [] };
    child.stdout.on("data", (d) => ((run.out += d), run.bytes.push(d)));
    child.stderr.on("data", (d) => (run.err += d));
    run.ended = new Promise((resolve) => child.on("close", (status) => resolve({ ...run, status, bytes: Buffer.concat(run.bytes) })));
    return run;
}

function segue(url, args, input, env) {
    const run = start(url, args, env);
    run.child.stdin.on("error", () => {}); // it may have ended before it read
    run.child.stdin.end(input ?? "");
    return run.ended;
}

function json(res, status, value, type = "application/json") {
    res.writeHead(status, { "Content-Type": type });
    res.end(JSON.stringify(value));
}

const problem = (res, status, code, more = {}) =>
    json(res, status, { type: "about:blank", title: code, status, code, detail: `it is ${code}`, ...more }, "application/problem+json");

function folder(t) {
    const path = mkdtempSync(join(tmpdir(), "segue-cli-"));
    t.after(() => rmSync(path, { recursive: true }));
    return path;
}

const event = (message, id) => `${id === undefined ? "" : `id: ${id}\n`}data: ${JSON.stringify(message)}\n\n`;
const NOWHERE = "http://127.0.0.1:1";

test("wrong usage is told and ends with 2", async () => {
    const wrong = [[], ["nonsense"], ["schema"], ["query"], ["sub"], ["--nonsense", "query", "x"], ["query", "--close", "x"], ["get", "xyz"],
        ["--url", "ftp://x", "schema", "show"], ["sub", "--query", "a=x", "--query", "a=y"], ["sub", "--once", "--cursor", "c", "--query", "x"],
        ["sub", "--query", "x", "--param", "2"], ["sub", "--query", "x", "--param", "q9.1=2"], ["query", "x", "--as-of", "-1"],
        ["--app", "a/b", "schema", "show"], ["stream", "tail", "x", "--follow", "--no-follow"], ["put", "/nonexistent"], ["schema", "push"]];
    for (const args of wrong) {
        const run = await segue(NOWHERE, args);
        assert.equal(run.status, 2, `${args.join(" ")}: ${run.err}`);
        assert.match(run.err, /^segue: [a-z_]+: .+\n$/);
        assert.equal(run.out, "");
    }
});

test("help comes from the tables and names every command and option", async () => {
    const all = await segue(NOWHERE, ["--help"]);
    assert.equal(all.status, 0);
    for (const word of ["schema push", "schema show", "batch", "query", "sub", "stream append", "stream tail", "put", "get", "--url", "--json"])
        assert.ok(all.out.includes(word), word);
    const sub = await segue(NOWHERE, ["help", "sub"]);
    for (const word of ["--query", "--stream", "--cursor", "--once", "--param"]) assert.ok(sub.out.includes(word), word);
    assert.ok(!sub.out.includes("--range"));
    assert.match((await segue(NOWHERE, ["--version"])).out, /^segue \d+\.\d+\.\d+\n$/);
});

test("a service that is not there ends with 3 at once", async () => {
    const began = Date.now();
    for (const args of [["schema", "show"], ["sub", "--query", "select * from t"], ["stream", "tail", "x"], ["batch", "-"], ["get", "0".repeat(64)]]) {
        const run = await segue(NOWHERE, args, "{}");
        assert.equal(run.status, 3, run.err);
        assert.match(run.err, /^segue: unreachable: /);
    }
    assert.ok(Date.now() - began < 5000);
});

test("a refusal is told with its code, its words and its place", async (t) => {
    const service = await standIn(t, (req, res) => problem(res, 400, "bad_sql", { position: 9 }));
    const run = await segue(service.url, ["schema", "push", "-"], "ab\ncd äx\ny");
    assert.equal(run.status, 1);
    assert.equal(run.err, "segue: bad_sql: it is bad_sql (line 3, column 1)\n".replace("line 3, column 1", "line 2, column 6"));
    assert.equal(service.requests[0].headers.authorization, "Bearer k1");
    assert.equal(service.requests[0].url, "/apps/default/schema");
});

test("a refusal that is no problem document is told by its status", async (t) => {
    const service = await standIn(t, (req, res) => res.writeHead(500).end("\x1b[31mboom"));
    const run = await segue(service.url, ["schema", "show"]);
    assert.deepEqual([run.status, run.err], [1, "segue: http_500: the service answered with status 500\n"]);
});

test("schema push and show", async (t) => {
    const service = await standIn(t, (req, res, body) => {
        if (req.method === "PUT") return json(res, 200, { seq: 3, hash: "abc", changed: true, got: body.toString() });
        return req.headers.accept === "application/sql" ? res.end("create table t ()") : json(res, 200, { tables: [] });
    });
    assert.equal((await segue(service.url, ["schema", "push", "-"], "create table t ()")).out, "published, seq 3, schema abc\n");
    assert.equal((await segue(service.url, ["schema", "show"])).out, "create table t ()\n");
    assert.equal((await segue(service.url, ["--json", "schema", "show"])).out, '{"tables":[]}\n');
});

test("a batch keeps its name over a lost answer and a busy service", async (t) => {
    const service = await standIn(t, (req, res, body, n) => {
        if (n === 1) return req.socket.destroy();
        if (n === 2) return problem(res, 503, "fate_unknown");
        if (n === 3) return res.writeHead(200, { "Content-Length": 100 }).write('{"fate":', () => req.socket.destroy());
        json(res, 200, { fate: "accepted", seq: 7, ids: ["u1", null] });
    });
    const run = await segue(service.url, ["batch", "-"], '{"ops":[]}');
    assert.deepEqual([run.status, run.out, run.err], [0, "accepted, seq 7\n  0  u1\n", ""]);
    const keys = new Set(service.requests.map((r) => r.headers["idempotency-key"]));
    assert.equal(keys.size, 1);
    assert.match([...keys][0], /^[0-9a-f-]{36}$/);
    assert.ok(service.requests.every((r) => r.body.toString() === '{"ops":[]}'));
});

test("a batch that names itself gets no key, and its rejection is final", async (t) => {
    const service = await standIn(t, (req, res) => problem(res, 409, "row_exists", { position: 2, fate: "rejected" }));
    const run = await segue(service.url, ["batch", "-"], '{"replica":"r","counter":1,"ops":[]}');
    assert.deepEqual([run.status, run.err], [1, "segue: row_exists: it is row_exists (at 2)\n"]);
    assert.equal(service.requests.length, 1);
    assert.equal(service.requests[0].headers["idempotency-key"], undefined);
});

test("query prints a table for people and lines for programs", async (t) => {
    const rows = [{ id: "a1", body: "hi\nthere", n: 5, s: null }, { id: "b2", body: "x".repeat(80), n: -12, s: { offset: 3 } }];
    const service = await standIn(t, (req, res) => json(res, 200, { seq: 9, rows }));
    const args = ["query", "select * from t where n > $1", "-5", "text", "--as-of", "9"];
    const people = await segue(service.url, args);
    assert.equal(people.status, 0, people.err);
    const lines = people.out.split("\n");
    assert.match(lines[0], /^id  body +n  s$/);
    assert.match(lines[2], /^a1  hi there +5  $/);
    assert.match(lines[3], /^b2  x{59}…  -12  {"offset":3}$/);
    assert.equal(lines[4], "(2 rows, seq 9)");
    assert.equal(service.requests[0].url, "/apps/default/query?sql=select%20%2A%20from%20t%20where%20n%20%3E%20%241&p1=-5&p2=text&as_of=9");
    const programs = await segue(service.url, ["--json", ...args]);
    assert.deepEqual(programs.out.trim().split("\n").map((l) => JSON.parse(l)), rows);
});

test("sub resumes after the last whole commit, and drops what broke off", async (t) => {
    const service = await standIn(t, (req, res, body, n) => {
        res.writeHead(200, { "Content-Type": "text/event-stream" });
        if (n === 1) {
            res.write(event({ type: "welcome", subscriptions: {} }));
            res.write(event({ type: "commit", snapshot: { q: [{ id: "a", body: "one", done: null }] }, at: 4, more: true }));
            res.write(event({ type: "commit", snapshot: { q: [{ id: "b", body: "two" }] }, at: 4 }));
            res.write(event({ type: "commit", from: 4, to: 4, live: ["q"], changes: {} }, "c4"));
            res.write(": quiet\n\n");
            res.write(event({ type: "commit", from: 4, to: 5, changes: { q: [{ removed: "a" }] }, part: 0, more: true }), () => setTimeout(() => req.socket.destroy(), 50));
        } else {
            res.write(event({ type: "commit", from: 4, to: 5, changes: { q: [{ removed: "a" }] }, part: 0, more: true }));
            res.write(event({ type: "commit", from: 4, to: 5, changes: { q: [{ added: { id: "c", n: 1 } }, { changed: { id: "b", body: "2\x1b" } }] }, part: 1 }, "c5"));
            res.write(event({ type: "error", code: "forbidden", detail: "no more" }));
        }
    });
    const run = await segue(service.url, ["sub", "--query", "q=select * from t where a=$1", "--param", "q.1=ä b"]);
    assert.equal(run.status, 1);
    assert.equal(run.out, "[4] q = a  body=one  done=null\n[4] q = b  body=two\n[5] q - a\n[5] q + c  n=1\n[5] q ~ b  body=2?\n");
    assert.match(run.err, /^segue: unreachable: the connection is gone .*\nsegue: forbidden: no more\n$/);
    assert.equal(service.requests[0].headers["last-event-id"], undefined);
    assert.equal(service.requests[1].headers["last-event-id"], "c4");
    assert.equal(service.requests[0].url, "/apps/default/subscribe?query.q=select%20%2A%20from%20t%20where%20a%3D%241&p.q.1=%C3%A4%20b");
});

test("sub that is cut off behind a welcome goes on from where it was", async (t) => {
    const service = await standIn(t, (req, res, body, n) => {
        res.writeHead(200, { "Content-Type": "text/event-stream" });
        res.write(event({ type: "welcome", subscriptions: {} }), () => n < 3 && setTimeout(() => req.socket.destroy(), 20));
        if (n === 3) res.write(event({ type: "commit", from: 4, to: 5, live: ["s1"], changes: {} }, "c5") + event({ type: "error", code: "forbidden", detail: "no more" }));
    });
    const run = await segue(service.url, ["sub", "--json", "--stream", "s", "--cursor", "c4"]);
    assert.equal(run.status, 1);
    assert.deepEqual(service.requests.map((r) => r.headers["last-event-id"]), ["c4", "c4", "c4"]);
    assert.deepEqual(run.out.trim().split("\n").map((l) => JSON.parse(l).cursor), [undefined, undefined, undefined, "c5", undefined]);
});

test("sub that is cut off in its first snapshot says that it begins anew", async (t) => {
    const service = await standIn(t, (req, res, body, n) => {
        res.writeHead(200, { "Content-Type": "text/event-stream" });
        res.write(event({ type: "welcome", subscriptions: {} }));
        res.write(event({ type: "commit", snapshot: { q1: [{ id: "a" }] }, at: 4, more: true }), () => n === 1 && setTimeout(() => req.socket.destroy(), 20));
        if (n === 2) res.write(event({ type: "error", code: "forbidden", detail: "no more" }));
    });
    const run = await segue(service.url, ["sub", "--json", "--query", "select * from t"]);
    assert.deepEqual(run.out.trim().split("\n").map((l) => JSON.parse(l)).map((m) => m.reason ?? (m.snapshot ? "piece" : m.type)), ["welcome", "piece", "cut_off", "welcome", "piece", "error"]);
});

test("sub prints a stream's text as it grows", async (t) => {
    let say;
    const service = await standIn(t, (req, res) => {
        res.writeHead(200, { "Content-Type": "text/event-stream" });
        say = (m, id) => res.write(event(m, id));
        say({ type: "commit", snapshot: { s1: [{ offset: 0, text: "Hel" }] }, at: 1 });
    });
    const run = start(service.url, ["sub", "--stream", "chat/1@0"]);
    const seen = async (text) => {
        for (let i = 0; i < 200 && run.out !== text; i++) await new Promise((r) => setTimeout(r, 10));
        assert.equal(run.out, text);
    };
    await seen("Hel");
    say({ type: "commit", from: 1, to: 2, live: ["s1"], changes: { s1: [{ offset: 3, text: "lo " }] } }, "2");
    await seen("Hello ");
    say({ type: "commit", from: 2, to: 3, changes: { s1: [{ offset: 6, base64: Buffer.from("wörld").toString("base64") }, { closed: true }] } }, "3");
    await seen("Hello wörld\n[3] s1 closed\n");
    run.child.kill();
    await run.ended;
    assert.equal(service.requests[0].url, "/apps/default/subscribe?stream.s1=chat/1%400");
});

test("sub --once ends with the snapshot, and --json prints messages with their cursors", async (t) => {
    const messages = [
        { type: "welcome" },
        { type: "commit", snapshot: { q1: [{ id: "a" }] }, at: 4 },
        { type: "commit", from: 4, to: 4, live: ["q1"], changes: {} },
        { type: "commit", from: 4, to: 5, live: ["s1"], changes: {}, more: true },
    ];
    const service = await standIn(t, (req, res) => {
        res.writeHead(200, { "Content-Type": "text/event-stream" });
        for (const m of messages) res.write(event(m));
        // Carriage returns, a message over two lines, pieces of single bytes.
        const rest = 'id: c5\r\ndata: {"type":"commit","from":4,\r\ndata: "to":5,"changes":{}}\r\n\r\n';
        let i = 0;
        const next = () => i < rest.length && res.write(rest[i++], next);
        next();
    });
    const run = await segue(service.url, ["--json", "sub", "--once", "--query", "select * from t", "--stream", "x"]);
    assert.equal(run.status, 0, run.err);
    const lines = run.out.trim().split("\n").map((l) => JSON.parse(l));
    assert.deepEqual(lines, [...messages, { type: "commit", from: 4, to: 5, changes: {}, cursor: "c5" }]);
});

test("sub that is refused says so and does not try again", async (t) => {
    const service = await standIn(t, (req, res) => problem(res, 422, "no_such_table", { position: 14 }));
    const run = await segue(service.url, ["sub", "--query", "select * from t"]);
    assert.deepEqual([run.status, run.err], [1, "segue: no_such_table: it is no_such_table (line 1, column 15)\n"]);
    assert.equal(service.requests.length, 1);
});

test("append sends each piece at once and in order, once, over one connection", async (t) => {
    const applied = [];
    let counter = 0;
    const service = await standIn(t, (req, res, body, n) => {
        const batch = JSON.parse(body);
        if (batch.counter === counter + 1) {
            applied.push(batch.ops[0]);
            counter++;
        } else assert.equal(batch.counter, counter);
        if (n === 3) return req.socket.destroy(); // applied, but the answer is lost
        json(res, 200, { fate: "accepted", seq: n, ids: [null] });
    });
    const run = start(service.url, ["stream", "append", "a/b c", "--type", "text/plain", "--close"]);
    const pieces = ["one ", "two ", "dr\u00e4i", Buffer.from([0xff, 0x00]), "nul\0"];
    for (const [i, piece] of pieces.entries()) {
        run.child.stdin.write(piece);
        for (let k = 0; k < 200 && applied.length < i + 2; k++) await new Promise((r) => setTimeout(r, 10));
        assert.equal(applied.length, i + 2);
    }
    run.child.stdin.end();
    const end = await run.ended;
    assert.equal(end.status, 0, end.err);
    const stream = "a/b c";
    assert.deepEqual(applied, [
        { op: "create", stream, type: "text/plain" },
        { op: "append", stream, text: "one " },
        { op: "append", stream, text: "two " },
        { op: "append", stream, text: "dräi" },
        { op: "append", stream, base64: "/wA=" },
        { op: "append", stream, base64: Buffer.from("nul\0").toString("base64") },
        { op: "close", stream },
    ]);
    assert.equal(new Set(service.requests.map((r) => JSON.parse(r.body).replica)).size, 1);
    assert.equal(new Set(service.requests.map((r) => r.socket)).size, 2);
});

test("tail goes on at the exact byte and ends with the stream", async (t) => {
    const content = Buffer.from("Hello, \xff\x00 world", "latin1");
    const service = await standIn(t, (req, res, body, n) => {
        const url = new URL(req.url, "http://x");
        const from = Math.max(0, Number(url.searchParams.get("offset")));
        const piece = content.subarray(from, from + 6);
        if (n === 2) return res.writeHead(200, { "Content-Length": 6, "Stream-Next-Offset": from + 6 }).write(piece.subarray(0, 3), () => setTimeout(() => req.socket.destroy(), 20));
        if (n === 4) return problem(res, 503, "busy");
        const end = from + piece.length === content.length;
        const head = { "Stream-Next-Offset": String(from + piece.length) };
        if (end || n === 1) head["Stream-Up-To-Date"] = "true";
        if (end) head["Stream-Closed"] = "true";
        if (n === 5) return res.writeHead(204, { "Stream-Next-Offset": from, "Stream-Up-To-Date": "true" }).end();
        res.writeHead(200, head).end(piece);
    });
    const run = await segue(service.url, ["stream", "tail", "x/y"]);
    assert.equal(run.status, 0, run.err);
    assert.deepEqual(run.bytes, content);
    assert.equal(service.requests[0].url, "/apps/default/v1/stream/x/y?offset=-1");
    assert.match(service.requests[1].url, /offset=6&live=long-poll/);
    const some = await segue(service.url, ["stream", "tail", "x/y", "--no-follow", "--offset", "10"]);
    assert.deepEqual([some.status, some.bytes.toString("latin1")], [0, content.subarray(10).toString("latin1")]);
});

test("put sends the digest's content, again from its beginning when it broke", async (t) => {
    const content = Buffer.alloc(300000, "abcdefg");
    const digest = createHash("sha256").update(content).digest("hex");
    const service = await standIn(t, (req, res, body, n) => (n === 1 ? req.socket.destroy() : json(res, 201, { blob: digest, size: body.length, seq: 1 })));
    const run = await segue(service.url, ["put", "-", "--type", "image/png"], content);
    assert.deepEqual([run.status, run.out], [0, `${digest}\n`]);
    const last = service.requests.at(-1);
    assert.deepEqual([last.url, last.headers["content-type"], last.body.equals(content)], [`/apps/default/blobs/${digest}`, "image/png", true]);
});

test("get resumes, verifies, and leaves no file that is not right", async (t) => {
    const content = Buffer.alloc(500000, "0123456789");
    const digest = createHash("sha256").update(content).digest("hex");
    const dir = folder(t);
    let gets = 0;
    const service = await standIn(t, (req, res) => {
        if (req.method === "HEAD") return res.writeHead(200, { "Content-Length": content.length }).end(); // is it a tree?
        gets++;
        const range = /^bytes=(\d*)-(\d*)$/.exec(req.headers.range ?? "");
        const from = range ? Number(range[1]) : 0, to = range?.[2] ? Number(range[2]) + 1 : content.length;
        const head = { "Content-Length": to - from };
        if (range) head["Content-Range"] = `bytes ${from}-${to - 1}/${content.length}`;
        res.writeHead(range ? 206 : 200, head);
        if (gets <= 2) res.write(content.subarray(from, from + 100000), () => setTimeout(() => req.socket.destroy(), 50));
        else res.end(content.subarray(from, to));
    });
    const file = join(dir, "x");
    const run = await segue(service.url, ["get", digest, "-o", file]);
    assert.equal(run.status, 0, run.err);
    assert.ok(readFileSync(file).equals(content));
    assert.deepEqual(service.requests.filter((r) => r.method === "GET").map((r) => r.headers.range), [undefined, "bytes=100000-", "bytes=200000-"]);
    const part = await segue(service.url, ["get", digest, "--range", "5-9"]);
    assert.deepEqual([part.status, part.out], [0, "56789"]);
    const wrong = await segue(service.url, ["get", "0".repeat(64), "-o", join(dir, "y")]);
    assert.equal(wrong.status, 1);
    assert.match(wrong.err, /^segue: digest_mismatch: /);
    assert.deepEqual(readdirSync(dir), ["x"]);
});

test("a key cannot smuggle in a header, and output that cannot be written is an error", async (t) => {
    const service = await standIn(t, (req, res) => res.end("create table t ()"));
    const smuggled = await segue(service.url, ["schema", "show"], "", { SEGUE_KEY: "a\r\nX-Evil: 1" });
    assert.equal(smuggled.status, 1);
    assert.equal(service.requests.length, 0);
    const run = spawn("sh", ["-c", `${SEGUE} --url ${service.url} schema show > /dev/full`]);
    assert.equal(await new Promise((resolve) => run.on("close", resolve)), 1);
});
