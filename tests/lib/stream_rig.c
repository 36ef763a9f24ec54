#include "stream_rig.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "db.h"
#include "digest.h"
#include "err.h"
#include "tmp.h"

#define RIG_REQUEST_MAX (8 * MIB)

static const char *const tables[] = {STREAMS_TABLES};

// A setting-up that fails is no test result: it ends the program.
static void must(int err)
{
    if (err != 0) {
        fprintf(stderr, "rig: %s\n", err_text(err));
        abort();
    }
}

static void rig_open_store(struct rig *r)
{
    struct streams_options options = {.first_table = 0, .path = r->segments};
    r->txn = db_begin_write(r->db);
    must(streams_open(&r->s, &options, r->txn));
}

void rig_open(struct rig *r)
{
    *r = (struct rig){.folder = tmp_make(), .now_ms = 1000000};
    r->segments = tmp_path(r->folder, "streams");
    char *path = tmp_path(r->folder, "db");
    struct db_options options = {.path = path, .map_bytes = 256 * MIB, .tables = tables, .table_count = STREAMS_TABLE_COUNT};
    must(db_open(&r->db, &options));
    free(path);
    r->request = malloc(RIG_REQUEST_MAX);
    assert(r->request != NULL);
    rig_open_store(r);
}

void rig_close(struct rig *r)
{
    streams_close(r->s);
    db_abort(r->txn);
    db_close(r->db);
    for (uint64_t i = 0; i < r->seq; i++)
        free(r->entries[i].request);
    free(r->entries);
    free(r->request);
    free(r->segments);
    tmp_remove(r->folder);
}

void rig_commit(struct rig *r)
{
    streams_flush(r->s, r->txn);
    must(db_commit(r->txn));
    r->committed = r->seq;
    r->txn = db_begin_write(r->db);
}

void rig_crash(struct rig *r)
{
    db_abort(r->txn);
    streams_close(r->s);
    rig_open_store(r);
    for (uint64_t i = 0; i < r->seq; i++) {
        const struct rig_entry *e = &r->entries[i];
        must(e->c.seq <= r->committed ? streams_restore(r->s, r->txn, &e->c, e->effects) : streams_apply(r->s, r->txn, &e->c, e->effects));
    }
    streams_publish(r->s, r->seq);
}

// ---- batches -------------------------------------------------------------------------------------------------------

void rig_begin(struct rig *r)
{
    r->c = (struct commit){.seq = r->seq + 1, .group = r->group + 1, .arrival_ms = r->now_ms, .request = SPAN(r->request, 0)};
    r->batch = streams_decide(r->s, r->txn, &r->c);
    assert(r->batch != NULL);
}

int rig_create(struct rig *r, const char *path, const char *type, bool owned)
{
    bool created;
    struct problem p = PROBLEM_NONE;
    int err = streams_decide_create(r->batch, &(struct stream_create){.path = SPAN_STR(path), .type = SPAN_STR(type), .owned = owned}, &created, NULL, &p);
    assert(err == p.err);
    return err;
}

struct span rig_data(struct rig *r, struct span data)
{
    assert(r->c.request.n + data.n <= RIG_REQUEST_MAX);
    uint8_t *at = r->request + r->c.request.n;
    if (data.n > 0) memcpy(at, data.p, data.n);
    r->c.request.n += data.n;
    return SPAN(at, data.n);
}

int rig_append(struct rig *r, const char *path, struct span data, const uint64_t *expected)
{
    struct problem p = PROBLEM_NONE;
    struct stream_append op = {.path = SPAN_STR(path), .data = rig_data(r, data), .has_expect = expected != NULL};
    if (expected != NULL) op.expect = *expected;
    int err = streams_decide_append(r->batch, &op, NULL, &p);
    assert(err == p.err);
    return err;
}

int rig_shut(struct rig *r, const char *path)
{
    return streams_decide_close(r->batch, SPAN_STR(path), NULL, NULL);
}

int rig_delete(struct rig *r, const char *path)
{
    return streams_decide_delete(r->batch, SPAN_STR(path), NULL);
}

bool rig_decided(struct rig *r, const char *path, struct stream_info *out)
{
    return streams_decide_find(r->batch, SPAN_STR(path), out);
}

static struct rig_entry *rig_entry_new(struct rig *r)
{
    if (r->seq == r->entry_cap) {
        r->entry_cap = r->entry_cap == 0 ? 64 : r->entry_cap * 2;
        r->entries = realloc(r->entries, r->entry_cap * sizeof *r->entries);
        assert(r->entries != NULL);
    }
    return &r->entries[r->seq++];
}

void rig_end(struct rig *r)
{
    struct buf effects;
    buf_init(&effects, ENTRY_BYTES_MAX);
    streams_decide_effects(r->batch, &effects);
    must(effects.err);
    struct rig_entry *e = rig_entry_new(r);
    size_t n = r->c.request.n;
    *e = (struct rig_entry){.c = r->c, .request = malloc(n + effects.n + 1)};
    assert(e->request != NULL);
    memcpy(e->request, r->request, n);
    if (effects.n > 0) memcpy(e->request + n, effects.p, effects.n);
    e->c.request = SPAN(e->request, n);
    e->effects = SPAN(e->request + n, effects.n);
    buf_free(&effects);
    rig_drop(r);
    r->group++;
    must(streams_apply(r->s, r->txn, &e->c, e->effects));
    streams_publish(r->s, r->seq);
}

void rig_drop(struct rig *r)
{
    streams_batch_free(r->batch);
    r->batch = NULL;
}

void rig_create1(struct rig *r, const char *path)
{
    rig_begin(r);
    must(rig_create(r, path, "text/plain", false));
    rig_end(r);
}

void rig_append1(struct rig *r, const char *path, const char *text)
{
    rig_begin(r);
    must(rig_append(r, path, SPAN_STR(text), NULL));
    rig_end(r);
}

void rig_shut1(struct rig *r, const char *path)
{
    rig_begin(r);
    must(rig_shut(r, path));
    rig_end(r);
}

void rig_delete1(struct rig *r, const char *path)
{
    rig_begin(r);
    must(rig_delete(r, path));
    rig_end(r);
}

// ---- sealing and looking -------------------------------------------------------------------------------------------

bool rig_seal(struct rig *r, bool force)
{
    struct streams_seal *job = streams_seal_plan(r->s, r->txn, r->now_ms, force);
    if (job == NULL) return false;
    int err = streams_seal_write(job);
    streams_seal_done(r->s, r->txn, job, err);
    must(err);
    return true;
}

void rig_seal_all(struct rig *r)
{
    while (rig_seal(r, true))
        ;
    assert(streams_unsealed_bytes(r->s) == 0);
}

bool rig_find(struct rig *r, const char *path, struct stream_info *out)
{
    return streams_find(r->s, r->txn, SPAN_STR(path), out);
}

bool rig_find_at(struct rig *r, const char *path, uint64_t seq, struct stream_info *out)
{
    return streams_find_at(r->s, r->txn, SPAN_STR(path), seq, out);
}

int rig_read(struct rig *r, const char *path, uint64_t offset, size_t max, struct buf *out)
{
    for (;;) {
        size_t before = out->n;
        int err = streams_read(r->s, r->txn, SPAN_STR(path), offset, max, out);
        if (err != 0 || out->n == before) return err;
        assert(out->n - before <= max);
        offset += out->n - before;
    }
}

bool rig_holds(struct rig *r, const char *path, const char *text)
{
    struct buf b;
    struct stream_info info;
    buf_init(&b, 64 * MIB);
    int err = rig_read(r, path, 0, 7, &b);
    bool same = err == 0 && span_equal(buf_span(&b), SPAN_STR(text)) && rig_find(r, path, &info) && info.offset == strlen(text);
    buf_free(&b);
    return same;
}

void rig_hash(struct rig *r, char out[65])
{
    struct digest *d = digest_new();
    assert(d != NULL);
    must(streams_hash(r->s, r->txn, d));
    struct sha256 sum = digest_final(d);
    digest_free(d);
    hex_format(out, SPAN(sum.b, sizeof sum.b));
    out[64] = '\0';
}
