#include "entry.h"

#include <assert.h>

#include "cur.h"
#include "err.h"
#include "hlc.h"

#define ENTRY_FORMAT 1

enum { FLAG_REPLICA = 1, FLAG_KEY = 2, FLAG_SEED = 4, FLAG_BASE_SAID = 8, FLAG_STAMP_SAID = 16, FLAG_EFFECTS = 32, FLAG_JOB = 64 };

static const uint8_t no_seed[16];

static uint8_t flags_of(const struct entry *e)
{
    uint8_t flags = 0;
    if (e->name.kind == BATCH_REPLICA) flags |= FLAG_REPLICA;
    if (e->name.kind == BATCH_KEY) flags |= FLAG_KEY;
    if (memcmp(e->commit.seed, no_seed, sizeof no_seed) != 0) flags |= FLAG_SEED;
    if (e->base_said != 0) flags |= FLAG_BASE_SAID;
    if (e->stamp_said != 0) flags |= FLAG_STAMP_SAID;
    if (e->rows.n + e->streams.n + e->blobs.n > 0) flags |= FLAG_EFFECTS;
    if (e->jobs.n > 0) flags |= FLAG_JOB;
    return flags;
}

static void put_head(struct buf *out, const struct entry *e, uint8_t flags)
{
    const struct commit *c = &e->commit;
    buf_put_u8(out, ENTRY_FORMAT);
    buf_put_u8(out, flags);
    buf_put_u8(out, (uint8_t)e->identity.kind);
    buf_put_varint(out, c->arrival_ms);
    // A stamp is close to the arrival: two or three bytes instead of ten.
    buf_put_svarint(out, (int64_t)(c->stamp - hlc_stamp(c->arrival_ms, 0)));
    buf_put_varint(out, c->base);
    if (flags & FLAG_REPLICA) {
        buf_put(out, e->name.replica.b, sizeof e->name.replica.b);
        buf_put_varint(out, e->name.counter);
    }
    if (flags & FLAG_KEY) buf_put_blob(out, SPAN_STR(e->name.key));
    if (flags & FLAG_SEED) buf_put(out, c->seed, sizeof c->seed);
    if (flags & FLAG_BASE_SAID) buf_put_varint(out, e->base_said);
    if (flags & FLAG_STAMP_SAID) buf_put_varint(out, e->stamp_said);
}

static void put_fate(struct buf *out, const struct entry *e, uint8_t flags)
{
    const struct fate *f = &e->fate;
    buf_put_varint(out, (uint64_t)-f->err);
    if (f->err != 0) {
        buf_put_svarint(out, f->problem.position);
        buf_put_blob(out, SPAN_STR(f->problem.text));
        return;
    }
    buf_put_varint(out, f->seq);
    buf_put_blob(out, f->results);
    if (flags & FLAG_EFFECTS) {
        buf_put_blob(out, e->rows);
        buf_put_blob(out, e->streams);
        buf_put_blob(out, e->blobs);
    }
    if (flags & FLAG_JOB) buf_put_blob(out, e->jobs);
}

// Bytes of the varint of `n`.
static size_t varint_size(uint64_t n)
{
    size_t size = 1;
    for (; n >= 0x80; n >>= 7)
        size++;
    return size;
}

void entry_put(struct buf *out, const struct entry *e)
{
    uint8_t flags = flags_of(e);
    size_t from = out->n;
    put_head(out, e, flags);
    buf_put_blob(out, e->commit.request);
    put_fate(out, e, flags);
    if (out->err != 0) return;
    // The length goes before what it measures: one move of a few bytes is cheaper than encoding twice.
    size_t n = out->n - from;
    size_t width = varint_size(n);
    if (buf_reserve(out, width) == NULL) return;
    memmove(out->p + from + width, out->p + from, n);
    out->n = from;
    buf_put_varint(out, n);
    assert(out->n == from + width);
    out->n += n;
}

static struct uuid get_uuid(struct cur *c)
{
    struct uuid id = {{0}};
    struct span s = cur_span(c, sizeof id.b);
    if (s.n == sizeof id.b) memcpy(id.b, s.p, sizeof id.b);
    return id;
}

static void get_identity(struct cur *c, struct identity *who)
{
    uint8_t kind = cur_u8(c);
    if (kind > IDENTITY_ADMIN) return cur_fail(c);
    *who = identity_of((enum identity_kind)kind);
}

static void get_name(struct cur *c, uint8_t flags, struct batch_name *name)
{
    if (flags & FLAG_REPLICA) {
        name->kind = BATCH_REPLICA;
        name->replica = get_uuid(c);
        name->counter = cur_varint(c);
    }
    if (flags & FLAG_KEY) {
        struct span key = cur_blob(c);
        if (key.n == 0 || key.n > BATCH_KEY_MAX || memchr(key.p, 0, key.n) != NULL || name->kind != BATCH_UNNAMED) return cur_fail(c);
        name->kind = BATCH_KEY;
        memcpy(name->key, key.p, key.n);
    }
}

static void get_head(struct cur *c, struct entry *e, uint8_t flags)
{
    struct commit *commit = &e->commit;
    get_identity(c, &e->identity);
    commit->arrival_ms = cur_varint(c);
    commit->stamp = hlc_stamp(commit->arrival_ms, 0) + (uint64_t)cur_svarint(c);
    commit->base = cur_varint(c);
    get_name(c, flags, &e->name);
    if (e->name.kind == BATCH_REPLICA) commit->writer = e->name.replica;
    if (flags & FLAG_SEED) {
        struct span seed = cur_span(c, sizeof commit->seed);
        if (seed.n == sizeof commit->seed) memcpy(commit->seed, seed.p, seed.n);
    }
    if (flags & FLAG_BASE_SAID) e->base_said = cur_varint(c);
    if (flags & FLAG_STAMP_SAID) e->stamp_said = cur_varint(c);
}

static void get_fate(struct cur *c, struct entry *e, uint8_t flags)
{
    struct fate *f = &e->fate;
    f->journaled = true;
    f->problem = PROBLEM_NONE;
    uint64_t err = cur_varint(c);
    if (err > 1000) return cur_fail(c);
    f->err = -(int)err;
    if (f->err != 0) {
        int64_t position = cur_svarint(c);
        struct span text = cur_blob(c);
        problem_set(&f->problem, f->err, position, "%.*s", SPAN_FMT(span_sub(text, 0, PROBLEM_TEXT_MAX - 1)));
        return;
    }
    f->seq = cur_varint(c);
    e->commit.seq = f->seq;
    f->results = cur_blob(c);
    if (flags & FLAG_EFFECTS) {
        e->rows = cur_blob(c);
        e->streams = cur_blob(c);
        e->blobs = cur_blob(c);
    }
    if (flags & FLAG_JOB) e->jobs = cur_blob(c);
}

int entry_read(struct span *rest, struct entry *out)
{
    if (rest->n == 0) return 0;
    struct cur all, c;
    cur_init(&all, *rest);
    cur_init(&c, cur_blob(&all));
    if (all.err != 0) return all.err;
    memset(out, 0, sizeof *out);
    uint8_t format = cur_u8(&c);
    uint8_t flags = cur_u8(&c);
    if (format != ENTRY_FORMAT || flags >= 2 * FLAG_JOB) cur_fail(&c);
    get_head(&c, out, flags);
    out->commit.request = cur_blob(&c);
    get_fate(&c, out, flags);
    if (cur_end(&c) != 0) return ERR_CORRUPT;
    *rest = SPAN(all.p, (size_t)(all.end - all.p));
    return 1;
}
