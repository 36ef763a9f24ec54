// libsegue from outside: the programs of clients/c/README.md, word for word, and what is seen of the archive.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { App, create } from './lib/http.mjs'
import { Child, eventually, root, service, tempFolder } from './lib/service.mjs'

const LIBSEGUE = path.resolve(process.env.LIBSEGUE || path.join(root, 'build/libsegue.a'))
const words = (s) => s.trim().split(/\s+/)
const CC = words(process.env.LIBSEGUE_CC || 'gcc')
const LIBS = words(process.env.LIBSEGUE_LIBS || '-lcurl -ljansson -lcrypto')

// The header is found as it is after an installation: alone.
function compile(folder, text) {
    const source = path.join(folder, 'program.c')
    const program = path.join(folder, 'program')
    fs.writeFileSync(source, text)
    fs.copyFileSync(path.join(root, 'clients/c/segue.h'), path.join(folder, 'segue.h'))
    const [cc, ...flags] = CC
    execFileSync(cc, [...flags, '-std=c11', '-Wall', '-Wextra', '-Werror', '-pedantic', `-I${folder}`, source, LIBSEGUE, ...LIBS, '-o', program])
    return program
}

const run = (program, url, args = []) => new Child(program, args, { env: { ...process.env, SEGUE_URL: url } })

const programs = [...fs.readFileSync(path.join(root, 'clients/c/README.md'), 'utf8').matchAll(/```c\n([^]*?)```/g)].map((hit) => hit[1])

test('the program of the README runs', async (t) => {
    const s = await service(t)
    const program = compile(tempFolder(t), programs[0])
    const { code, stdout, stderr } = await run(program, s.url).end()
    assert.equal(code, 0, stderr)
    assert.equal(stderr, '')
    const [hello, ...messages] = stdout.trim().split('\n')
    assert.equal(hello, 'Hello from C')
    assert.equal(JSON.parse(messages[0]).type, 'welcome')
    assert.match(messages.join('\n'), /"title":"from C"/)
    const rows = await new App(s).rows('select title from notes')
    assert.deepEqual(rows.map((r) => r.title), ['from C'])
    const again = await run(program, 'http://127.0.0.1:1').end()
    assert.equal(again.code, 1)
    assert.match(again.stderr, /^unreachable: /)
})

test('its outbox keeps notes while there is no service', async (t) => {
    const s = await service(t)
    const folder = tempFolder(t)
    const program = compile(folder, programs[1])
    await new App(s).schema('create table notes (title text not null check (length(title) < 10));')
    await s.stop()
    const note = (...args) => new Child(program, args, { env: { ...process.env, SEGUE_URL: s.url, XDG_STATE_HOME: folder } }).end()
    const away = await note('one', 'two, which is long')
    assert.deepEqual([away.code, away.stdout], [3, ''])
    assert.match(away.stderr, /^unreachable: .*; kept for later\n$/)
    await s.start()
    const { code, stdout, stderr } = await note('three')
    assert.equal(code, 0, stderr)
    assert.match(stdout, /^one: seq 2\ntwo, which is long: check_failed, .*\nthree: seq 3\n$/)
    assert.deepEqual((await new App(s).rows('select title from notes')).map((r) => r.title).sort(), ['one', 'three'])
    assert.deepEqual((await note()).stdout, '', 'a fate that was seen is not told again')
})

const errors = `
#include <segue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void progress(void *ctx, uint64_t done, uint64_t size)
{
    uint64_t *last = ctx;
    if (size != 0 && done <= size) *last = done;
}

static void tell(const struct segue *s, int end)
{
    const struct segue_error *e = segue_error(s);
    printf("%d %d %d %s %lld\\n", end, e->result, e->status, e->code, (long long)e->position);
}

int main(int argc, char **argv)
{
    struct segue *s = segue_new(&(struct segue_options){.url = getenv("SEGUE_URL")});
    struct segue_blob blob;
    uint64_t put = 0, got = 0, ahead = 1000000;
    FILE *f = argc > 2 ? fopen(argv[1], "rb") : NULL;
    if (s == NULL || f == NULL) return 1;
    tell(s, segue_query(s, &(struct segue_query_options){.sql = "select nothing from nowhere"}));
    tell(s, segue_query(s, &(struct segue_query_options){.sql = "select 1", .as_of = &ahead}));
    tell(s, segue_stream_append(s, "none", "x", 1));
    // After a refusal the client's writes go on.
    tell(s, segue_stream_create(s, "some", "text/plain"));
    tell(s, segue_stream_create(s, "some", "text/plain"));
    tell(s, segue_stream_append(s, "some", "x", SEGUE_APPEND_MAX + 1));
    tell(s, segue_stream_create(s, "", NULL));
    tell(s, segue_get(s, &(struct segue_get_options){.digest = "no digest", .path = argv[2]}));
    tell(s, segue_put(s, &(struct segue_put_options){.fd = fileno(f), .name = argv[1], .progress = progress, .ctx = &put}, &blob));
    tell(s, segue_get(s, &(struct segue_get_options){.digest = blob.digest, .path = argv[2], .progress = progress, .ctx = &got}));
    printf("%s %llu %llu\\n", blob.digest, (unsigned long long)put, (unsigned long long)got);
    fclose(f);
    segue_free(s);
    return 0;
}
`

test('calls say how they ended, and files say how far they are', async (t) => {
    const s = await service(t)
    const folder = tempFolder(t)
    const program = compile(folder, `#define _GNU_SOURCE\n${errors}`)
    const [from, to] = ['from', 'to'].map((name) => path.join(folder, name))
    const bytes = randomBytes(5 << 20)
    fs.writeFileSync(from, bytes)
    const { code, stdout, stderr } = await run(program, s.url, [from, to]).end()
    assert.equal(code, 0, stderr)
    const lines = stdout.trim().split('\n')
    const digest = createHash('sha256').update(bytes).digest('hex')
    assert.match(lines[0], /^1 1 4\d\d no_such_table \d+$/)
    assert.match(lines[1], /^1 1 4\d\d /)
    assert.match(lines[2], /^1 1 409 stream_not_found /)
    assert.deepEqual(lines.slice(3), ['0 0 0 ok -1', '0 0 0 ok -1', '2 2 0 too_large -1', '2 2 0 usage -1', '2 2 0 usage -1', '0 0 0 ok -1', '0 0 0 ok -1',
        `${digest} ${bytes.length} ${bytes.length}`])
    assert.ok(fs.readFileSync(to).equals(bytes))
})

const stopping = `
#include <segue.h>
#include <stdio.h>
#include <stdlib.h>

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    stop = number;
}

static int on_message(void *ctx, const struct segue_message *m)
{
    if (m->cursor != NULL) fputs("live\\n", ctx);
    fflush(ctx);
    return 0;
}

int main(void)
{
    struct segue *s = segue_new(&(struct segue_options){.url = getenv("SEGUE_URL"), .stop = &stop});
    struct segue_subscription notes = {.name = "some", .what = "some", .kind = SEGUE_STREAM};
    signal(SIGTERM, on_signal);
    int end = segue_subscribe(s, &(struct segue_subscribe_options){.subscriptions = &notes, .count = 1, .on_message = on_message, .ctx = stdout});
    printf("%d %s\\n", end, segue_error(s)->code);
    // The flag is still set: what may not be called off goes on, what may ends at once.
    printf("%d\\n", segue_stream_append(s, "some", "x", 1));
    printf("%d\\n", segue_stream_tail(s, &(struct segue_tail_options){.path = "some", .follow = true}));
    segue_free(s);
    return 0;
}
`

test('a signal ends what follows, and nothing else', async (t) => {
    const s = await service(t)
    await new App(s).batch([create('some', 'text/plain')])
    const child = run(compile(tempFolder(t), `#define _GNU_SOURCE\n${stopping}`), s.url)
    await eventually('the present', () => child.stdout.includes('live'))
    child.signal('SIGTERM')
    const { stdout } = await child.end()
    assert.deepEqual(stdout.trim().split('\n'), ['live', '4 canceled', '0', '4'])
})

test('nothing but the header\'s names is seen of the archive', () => {
    const header = fs.readFileSync(path.join(root, 'clients/c/segue.h'), 'utf8')
    const names = execFileSync('nm', ['--extern-only', '--defined-only', LIBSEGUE], { encoding: 'utf8' }).split('\n')
        .map((line) => line.trim().split(' ')[2]).filter(Boolean)
    assert.ok(names.includes('segue_new'))
    for (const name of names) assert.match(header, new RegExp(`\\b${name}\\(`))
})
