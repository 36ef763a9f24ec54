#include "entry.h"

#include <assert.h>

#include "cur.h"
#include "err.h"
#include "hlc.h"
#include "streams.h"

#define GROUP_FORMAT 6

// The first byte of an entry: who (an identity_kind), and which fields follow.
enum { WHO = 3, FLAG_NAME = 4, FLAG_SAID = 8, FLAG_TIME = 16, FLAG_SEQ = 32, FLAG_REFUSED = 64, FLAG_APPEND = 128 };
// A byte of each of these fields.
enum { NAME_REPLICA = 1, NAME_KEY = 2 };
enum { SAID_SEED = 1, SAID_BASE = 2, SAID_STAMP = 4 };
enum { EFFECTS_ROWS = 1, EFFECTS_STREAMS = 2, EFFECTS_BLOBS = 4, EFFECTS_JOBS = 8, EFFECTS_SUBS = 16, EFFECTS_BRANCHES = 32 };

static const uint8_t no_seed[16];

// ---- what is left out ----

// What the hybrid clock gives out where nothing else was observed.
static uint64_t stamp_expected(const struct entry_place *place, uint64_t arrival_ms)
{
    uint64_t least = hlc_stamp(arrival_ms, 0);
    return place->stamp >= least ? place->stamp + 1 : least;
}

// The seq before the entry, as far as the entry has to know it.
static uint64_t seq_before(const struct entry_place *place, const struct entry *e)
{
    if (e->fate.err == 0) return e->fate.seq - 1;
    return e->base_said != 0 ? place->seq : e->commit.base;
}

static void place_advance(struct entry_place *place, const struct entry *e, uint64_t before)
{
    place->arrival_ms = e->commit.arrival_ms;
    place->stamp = e->commit.stamp;
    place->seq = before + (e->fate.err == 0);
}

// Is the request one append to a stream by number?
static bool read_append(struct span request, struct batch_op *op)
{
    struct batch_reader r;
    struct batch_op more;
    batch_reader_init(&r, request);
    bool is = batch_read(&r, op) == 1 && op->kind == BATCH_APPEND_AT && op->stream.data.n > 0 && batch_read(&r, &more) == 0;
    batch_reader_free(&r);
    return is;
}

// What deciding such an append gives, if it is accepted at this offset: results, then effects.
static size_t make_append(uint8_t room[ENTRY_MADE_MAX], struct span request, const struct batch_op *op, uint64_t offset, struct span *results, struct span *effects)
{
    struct buf made = {.p = room, .cap = ENTRY_MADE_MAX, .max = ENTRY_MADE_MAX};
    struct span data = op->stream.data;
    result_put(&made, &(struct result){.kind = RESULT_OFFSET, .offset = offset + data.n});
    size_t n = made.n;
    streams_append_effects(&made, op->stream.number, offset, (uint64_t)(data.p - request.p), data.n);
    assert(made.err == 0);
    *results = SPAN(room, n);
    *effects = SPAN(room + n, made.n - n);
    return made.n;
}

// Can results and effects be left out? Then *offset is all that has to be kept.
static bool is_append(const struct entry *e, uint64_t *offset)
{
    uint8_t room[ENTRY_MADE_MAX];
    struct batch_op op;
    struct result r;
    struct span rest = e->fate.results, results, effects, request = e->commit.request;
    if (e->fate.err != 0 || e->rows.n + e->blobs.n + e->jobs.n + e->subs.n + e->branches.n > 0 || request.n == 0 || request.p[0] != BATCH_APPEND_AT || !read_append(request, &op)) return false;
    if (result_read(&rest, &r) != 1 || r.kind != RESULT_OFFSET || r.offset < op.stream.data.n) return false;
    *offset = r.offset - op.stream.data.n;
    make_append(room, request, &op, *offset, &results, &effects);
    return span_equal(results, e->fate.results) && span_equal(effects, e->streams);
}

// ---- writing ----

static void put_name(struct buf *out, const struct batch_name *name)
{
    if (name->kind == BATCH_REPLICA) {
        buf_put_u8(out, NAME_REPLICA);
        buf_put(out, name->replica.b, sizeof name->replica.b);
        buf_put_varint(out, name->counter);
    } else {
        buf_put_u8(out, NAME_KEY);
        buf_put_blob(out, SPAN_STR(name->key));
    }
}

static uint8_t said_of(const struct entry *e)
{
    bool seed = memcmp(e->commit.seed, no_seed, sizeof no_seed) != 0;
    return (uint8_t)((seed ? SAID_SEED : 0) | (e->base_said != 0 ? SAID_BASE : 0) | (e->stamp_said != 0 ? SAID_STAMP : 0));
}

static void put_said(struct buf *out, const struct entry *e, uint8_t said)
{
    buf_put_u8(out, said);
    if (said & SAID_SEED) buf_put(out, e->commit.seed, sizeof e->commit.seed);
    if (said & SAID_BASE) buf_put_varint(out, e->base_said);
    if (said & SAID_STAMP) buf_put_varint(out, e->stamp_said);
}

static void put_refusal(struct buf *out, const struct fate *f)
{
    buf_put_varint(out, (uint64_t)-f->err);
    buf_put_svarint(out, f->problem.position);
    buf_put_varint(out, f->problem.number);
    buf_put_blob(out, SPAN_STR(f->problem.text));
    buf_put_blob(out, f->results);
}

static void put_effects(struct buf *out, const struct entry *e)
{
    const struct span all[] = {e->rows, e->streams, e->blobs, e->jobs, e->subs, e->branches};
    uint8_t which = 0;
    buf_put_blob(out, e->fate.results);
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].n > 0) which |= (uint8_t)(1u << i);
    buf_put_u8(out, which);
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].n > 0) buf_put_blob(out, all[i]);
}

static void put_entry(struct buf *out, const struct entry_place *place, const struct entry *e, uint64_t before)
{
    uint64_t offset = 0, stamp = stamp_expected(place, e->commit.arrival_ms);
    uint8_t said = said_of(e), flags = (uint8_t)e->identity.kind;
    bool append = is_append(e, &offset);
    if (e->name.kind != BATCH_UNNAMED) flags |= FLAG_NAME;
    if (said != 0) flags |= FLAG_SAID;
    if (e->commit.arrival_ms != place->arrival_ms || (e->commit.stamp != stamp && e->stamp_said == 0)) flags |= FLAG_TIME;
    if (before != place->seq) flags |= FLAG_SEQ;
    if (e->fate.err != 0) flags |= FLAG_REFUSED;
    if (append) flags |= FLAG_APPEND;
    buf_put_u8(out, flags);
    if (flags & FLAG_NAME) put_name(out, &e->name);
    if (flags & FLAG_SAID) put_said(out, e, said);
    if (flags & FLAG_TIME) {
        buf_put_svarint(out, (int64_t)(e->commit.arrival_ms - place->arrival_ms));
        buf_put_svarint(out, e->stamp_said == 0 ? (int64_t)(e->commit.stamp - stamp) : 0);
    }
    if (flags & FLAG_SEQ) buf_put_varint(out, before);
    if (append) {
        buf_put_varint(out, offset);
        buf_put_span(out, e->commit.request);
        return;
    }
    buf_put_blob(out, e->commit.request);
    if (e->fate.err != 0) put_refusal(out, &e->fate);
    else put_effects(out, e);
}

// Bytes of the varint of `n`.
static size_t varint_size(uint64_t n)
{
    size_t size = 1;
    for (; n >= 0x80; n >>= 7)
        size++;
    return size;
}

static void put_group_head(struct buf *out, struct entry_place *place, const struct entry *e)
{
    *place = (struct entry_place){.begun = true, .arrival_ms = e->commit.arrival_ms};
    place->seq = seq_before(place, e);
    buf_put_u8(out, GROUP_FORMAT);
    buf_put_varint(out, place->arrival_ms);
    buf_put_varint(out, place->seq);
}

void entry_put(struct buf *out, struct entry_place *place, const struct entry *e)
{
    assert(e->stamp_said == 0 || e->commit.stamp == e->stamp_said);
    assert(e->base_said != 0 ? e->commit.base == e->base_said : e->fate.err != 0 || e->commit.base + 1 == e->fate.seq);
    if (!place->begun) put_group_head(out, place, e);
    uint64_t before = seq_before(place, e);
    size_t from = out->n;
    put_entry(out, place, e, before);
    place_advance(place, e, before);
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

// ---- reading ----

static struct uuid get_uuid(struct cur *c)
{
    struct uuid id = {{0}};
    struct span s = cur_span(c, sizeof id.b);
    if (s.n == sizeof id.b) memcpy(id.b, s.p, sizeof id.b);
    return id;
}

static void get_name(struct cur *c, struct batch_name *name)
{
    uint8_t kind = cur_u8(c);
    if (kind == NAME_REPLICA) {
        name->kind = BATCH_REPLICA;
        name->replica = get_uuid(c);
        name->counter = cur_varint(c);
    } else {
        struct span key = cur_blob(c);
        if (kind != NAME_KEY || key.n == 0 || key.n > BATCH_KEY_MAX || memchr(key.p, 0, key.n) != NULL) return cur_fail(c);
        name->kind = BATCH_KEY;
        memcpy(name->key, key.p, key.n);
    }
}

static void get_said(struct cur *c, struct entry *e)
{
    uint8_t said = cur_u8(c);
    if (said & SAID_SEED) {
        struct span seed = cur_span(c, sizeof e->commit.seed);
        if (seed.n == sizeof e->commit.seed) memcpy(e->commit.seed, seed.p, seed.n);
    }
    if (said & SAID_BASE) e->base_said = cur_varint(c);
    if (said & SAID_STAMP) e->stamp_said = cur_varint(c);
    if (said > (SAID_SEED | SAID_BASE | SAID_STAMP)) cur_fail(c);
}

static void get_head(struct cur *c, struct entry_place *place, struct entry *e, uint8_t flags)
{
    struct commit *commit = &e->commit;
    int64_t arrival = 0, stamp = 0;
    if ((flags & WHO) > IDENTITY_ADMIN) return cur_fail(c);
    e->identity = identity_of((enum identity_kind)(flags & WHO));
    if (flags & FLAG_NAME) get_name(c, &e->name);
    if (flags & FLAG_SAID) get_said(c, e);
    if (flags & FLAG_TIME) {
        arrival = cur_svarint(c);
        stamp = cur_svarint(c);
    }
    if (flags & FLAG_SEQ) place->seq = cur_varint(c);
    if (e->name.kind == BATCH_REPLICA) commit->writer = e->name.replica;
    commit->arrival_ms = place->arrival_ms + (uint64_t)arrival;
    commit->stamp = e->stamp_said != 0 ? e->stamp_said : stamp_expected(place, commit->arrival_ms) + (uint64_t)stamp;
    commit->base = e->base_said != 0 ? e->base_said : place->seq;
}

static void get_refusal(struct cur *c, struct fate *f)
{
    uint64_t err = cur_varint(c);
    if (err == 0 || err > 1000) return cur_fail(c);
    f->err = -(int)err;
    int64_t position = cur_svarint(c);
    uint64_t number = cur_varint(c);
    struct span text = cur_blob(c);
    problem_set(&f->problem, f->err, position, "%.*s", SPAN_FMT(span_sub(text, 0, PROBLEM_TEXT_MAX - 1)));
    problem_number(&f->problem, number);
    f->results = cur_blob(c);
}

static void get_append(struct cur *c, struct entry *e)
{
    struct batch_op op;
    uint64_t offset = cur_varint(c);
    e->commit.request = cur_span(c, cur_left(c));
    if (c->err != 0 || offset > INT64_MAX || !read_append(e->commit.request, &op)) return cur_fail(c);
    make_append(e->made, e->commit.request, &op, offset, &e->fate.results, &e->streams);
}

static void get_effects(struct cur *c, struct entry *e)
{
    struct span *all[] = {&e->rows, &e->streams, &e->blobs, &e->jobs, &e->subs, &e->branches};
    e->fate.results = cur_blob(c);
    uint8_t which = cur_u8(c);
    if (which > (EFFECTS_ROWS | EFFECTS_STREAMS | EFFECTS_BLOBS | EFFECTS_JOBS | EFFECTS_SUBS | EFFECTS_BRANCHES)) cur_fail(c);
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        if (which & (1u << i)) *all[i] = cur_blob(c);
}

static void get_entry(struct cur *c, struct entry_place *place, struct entry *e)
{
    uint8_t flags = cur_u8(c);
    get_head(c, place, e, flags);
    e->fate.journaled = true;
    e->fate.problem = PROBLEM_NONE;
    if ((flags & FLAG_APPEND) && (flags & FLAG_REFUSED)) return cur_fail(c);
    if ((flags & FLAG_APPEND) == 0) e->commit.request = cur_blob(c);
    e->commit.transaction = batch_is_transaction(e->commit.request);
    if (flags & FLAG_REFUSED) return get_refusal(c, &e->fate);
    e->fate.seq = e->commit.seq = place->seq + 1;
    if (flags & FLAG_APPEND) get_append(c, e);
    else get_effects(c, e);
}

void entry_reader_init(struct entry_reader *r, struct span payload)
{
    *r = (struct entry_reader){.rest = payload};
}

static int read_group_head(struct entry_reader *r)
{
    struct cur c;
    cur_init(&c, r->rest);
    if (cur_u8(&c) != GROUP_FORMAT) cur_fail(&c);
    r->place = (struct entry_place){.begun = true};
    r->place.arrival_ms = cur_varint(&c);
    r->place.seq = cur_varint(&c);
    if (c.err != 0 || cur_left(&c) == 0) return ERR_CORRUPT; // there is no group without an entry
    r->rest = SPAN(c.p, (size_t)(c.end - c.p));
    return 0;
}

int entry_read(struct entry_reader *r, struct entry *out)
{
    struct cur all, c;
    if (r->rest.n == 0) return 0;
    if (!r->place.begun && read_group_head(r) != 0) return ERR_CORRUPT;
    cur_init(&all, r->rest);
    cur_init(&c, cur_blob(&all));
    if (all.err != 0) return all.err;
    struct entry_place place = r->place;
    memset(out, 0, sizeof *out);
    get_entry(&c, &place, out);
    if (cur_end(&c) != 0) return ERR_CORRUPT;
    place_advance(&place, out, place.seq);
    r->place = place;
    r->rest = SPAN(all.p, (size_t)(all.end - all.p));
    return 1;
}
