// A model test: random batches, sealings, commits and crashes, with readers that come and go, against a plain list of what happened.
// Each seed is a run of its own; SEGUE_SEED names one to run alone.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base64.h"
#include "err.h"
#include "json_read.h"
#include "stream_rig.h"

#define PATHS 4
#define READERS 6
#define STEPS 400
#define SEQS (STEPS + 1)
#define STREAMS 200

static const char *const paths[PATHS] = {"a", "ab", "rows/messages/1/body", "\xc3\xa9"};

// What is true of a path as of a seq.
struct truth {
    int stream; // index below; -1: none
    uint64_t offset;
    bool closed;
};

struct reader {
    struct feed_sub *sub; // NULL: not there
    int path;
    bool live;   // its snapshot is done
    uint64_t at; // the seq that its state is of, or will be
    bool exists, closed;
    uint64_t place; // of the bytes it has
};

struct model {
    struct rig r;
    uint64_t random;
    struct truth truth[SEQS][PATHS];
    struct truth next[PATHS]; // the batch being made
    struct buf bytes[STREAMS];
    int streams;
    struct reader readers[READERS];
    struct reader *reading; // the one that the sink feeds
    struct streams_seal *job;
};

static uint32_t roll(struct model *m, uint32_t n)
{
    m->random = m->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(m->random >> 33) % n;
}

// ---- writing -------------------------------------------------------------------------------------------------------

static void do_create(struct model *m, int path)
{
    struct truth *t = &m->next[path];
    int err = rig_create(&m->r, paths[path], "text/plain", false);
    assert_int_equal(err, t->stream >= 0 && t->closed ? ERR_STREAM_EXISTS : 0); // it would be an open one
    if (t->stream >= 0 || m->streams == STREAMS) return;
    *t = (struct truth){.stream = m->streams++};
    buf_init(&m->bytes[t->stream], 64 * MIB);
}

static void do_append(struct model *m, int path)
{
    static const char *const tokens[] = {"token ", "\xf0\x9f\x98\x80", "\xf0\x9f", "\x98\x80", "\xff", "\n\"quoted\"", ""};
    static char large[200000];
    struct truth *t = &m->next[path];
    const char *token = tokens[roll(m, 7)];
    struct span data = SPAN_STR(token);
    if (roll(m, 10) == 0) {
        memset(large, 'a' + (int)roll(m, 26), sizeof large);
        data = SPAN(large, roll(m, sizeof large));
    }
    int err = rig_append(&m->r, paths[path], data, NULL);
    assert_int_equal(err, t->stream < 0 ? ERR_STREAM_NOT_FOUND : t->closed ? ERR_STREAM_CLOSED : 0);
    if (err != 0) return;
    buf_put_span(&m->bytes[t->stream], data);
    t->offset += data.n;
}

static void do_batch(struct model *m)
{
    rig_begin(&m->r);
    for (uint32_t i = roll(m, 4); i < 4; i++) {
        int path = (int)roll(m, PATHS), kind = (int)roll(m, 20);
        struct truth *t = &m->next[path];
        if (kind < 3) {
            if (m->streams < STREAMS) do_create(m, path);
        } else if (kind < 18) {
            do_append(m, path);
        } else if (kind < 19) {
            assert_int_equal(rig_shut(&m->r, paths[path]), t->stream < 0 ? ERR_STREAM_NOT_FOUND : 0);
            t->closed = t->stream >= 0;
        } else {
            assert_int_equal(rig_delete(&m->r, paths[path]), t->stream < 0 ? ERR_STREAM_NOT_FOUND : 0);
            *t = (struct truth){.stream = -1};
        }
    }
    rig_end(&m->r);
    memcpy(m->truth[m->r.seq], m->next, sizeof m->next);
}

// ---- reading -------------------------------------------------------------------------------------------------------

static void reader_bytes(struct model *m, struct reader *rd, uint64_t to, struct span got)
{
    const struct buf *all = &m->bytes[m->truth[rd->at][rd->path].stream];
    assert_true(rd->exists && !rd->closed);
    assert_true(got.n > 0 && got.n <= 64 * KIB && to >= got.n && to <= all->n);
    if (rd->place == UINT64_MAX) rd->place = to - got.n; // began at an offset
    assert_int_equal(to - got.n, rd->place);
    assert_memory_equal(all->p + rd->place, got.p, got.n);
    rd->place = to;
}

// A client that does what the values say.
static int reader_take(struct feed_sink *sink, struct bytes *value)
{
    (void)sink;
    extern struct model *current;
    struct model *m = current;
    struct reader *rd = m->reading;
    struct jr_tree *tree;
    assert_int_equal(jr_parse(&tree, bytes_span(value), NULL), 0);
    const struct jr *v = jr_root(tree);
    if (jr_bool(jr_get(v, "created"), false)) {
        assert_false(rd->exists);
        rd->exists = true;
        rd->closed = false;
        if (rd->place != UINT64_MAX) rd->place = 0;
    } else if (jr_bool(jr_get(v, "deleted"), false)) {
        assert_true(rd->exists);
        rd->exists = rd->closed = false;
        rd->place = 0;
    } else if (jr_bool(jr_get(v, "closed"), false)) {
        assert_true(rd->exists && !rd->closed);
        rd->closed = true;
    } else {
        struct buf raw;
        buf_init(&raw, 1 * MIB);
        if (jr_type(jr_get(v, "text")) == JR_STRING)
            buf_put_span(&raw, jr_str(jr_get(v, "text")));
        else
            assert_int_equal(base64_decode(&raw, jr_str(jr_get(v, "base64"))), 0);
        reader_bytes(m, rd, (uint64_t)jr_int(jr_get(v, "offset"), -1), buf_span(&raw));
        buf_free(&raw);
    }
    jr_free(tree);
    return 0;
}

struct model *current;

static void reader_check(const struct model *m, const struct reader *rd)
{
    const struct truth *t = &m->truth[rd->at][rd->path];
    assert_int_equal(rd->exists, t->stream >= 0);
    assert_int_equal(rd->closed, t->stream >= 0 && t->closed);
    if (rd->exists && rd->place != UINT64_MAX) assert_int_equal(rd->place, t->offset);
}

static void reader_attach(struct model *m, struct reader *rd)
{
    struct stream_info info;
    rd->path = (int)roll(m, PATHS);
    uint64_t offset = 0;
    bool part = roll(m, 3) == 0 && rig_find(&m->r, paths[rd->path], &info);
    if (part) offset = roll(m, (uint32_t)info.offset + 1);
    int err = streams_attach(m->r.s, m->r.txn, SPAN_STR(paths[rd->path]), offset, false, 0, &rd->sub, NULL);
    assert_int_equal(err, 0);
    rd->live = rd->exists = rd->closed = false;
    rd->at = m->r.seq;
    rd->place = part && offset < info.offset ? offset : part ? UINT64_MAX : 0;
}

// Leaves, and comes back as a client with a cursor would.
static void reader_resume(struct model *m, struct reader *rd)
{
    rd->sub->feed->ops->detach(rd->sub);
    int err = streams_attach(m->r.s, m->r.txn, SPAN_STR(paths[rd->path]), 0, true, rd->at, &rd->sub, NULL);
    assert_int_equal(err, 0);
}

static void reader_pump(struct model *m, struct reader *rd)
{
    struct feed_sink sink = {.emit = reader_take};
    const struct feed_ops *ops = rd->sub->feed->ops;
    m->reading = rd;
    if (!rd->live) {
        uint64_t began = rd->place;
        bool first = !rd->exists;
        if (first) rd->place = UINT64_MAX; // its first bytes tell where it is
        assert_int_equal(ops->snapshot(rd->sub, m->r.txn, rd->at, 1 + roll(m, 100000), &sink, &rd->live), 0);
        if (first && rd->place == UINT64_MAX) rd->place = began;
        if (rd->live) reader_check(m, rd);
    } else if (rd->at < m->r.seq) {
        uint64_t from = rd->at, to;
        assert_int_equal(ops->reach(rd->sub, m->r.txn, from, m->r.seq, 1 + roll(m, 300000), &to), 0);
        assert_true(to > from && to <= m->r.seq);
        rd->at = to;
        assert_int_equal(ops->changes(rd->sub, m->r.txn, from, to, &sink), 0);
        reader_check(m, rd);
    }
}

static void do_reader(struct model *m)
{
    struct reader *rd = &m->readers[roll(m, READERS)];
    uint32_t what = roll(m, 40);
    if (rd->sub == NULL) {
        reader_attach(m, rd);
    } else if (what == 0) {
        rd->sub->feed->ops->detach(rd->sub);
        rd->sub = NULL;
    } else if (what == 1 && rd->live && rd->place != UINT64_MAX) {
        reader_resume(m, rd);
    } else {
        reader_pump(m, rd);
    }
}

// ---- keeping -------------------------------------------------------------------------------------------------------

static void do_seal(struct model *m)
{
    if (m->job == NULL) {
        m->job = streams_seal_plan(m->r.s, m->r.txn, m->r.now_ms, roll(m, 3) > 0);
        return;
    }
    int err = streams_seal_write(m->job);
    assert_int_equal(err, 0);
    streams_seal_done(m->r.s, m->r.txn, m->job, roll(m, 5) == 0 ? ERR_IO : 0);
    m->job = NULL;
}

static void do_crash(struct model *m)
{
    char before[65], after[65];
    if (m->job != NULL) streams_seal_done(m->r.s, m->r.txn, m->job, ERR_CANCELED);
    m->job = NULL;
    for (int i = 0; i < READERS; i++) {
        if (m->readers[i].sub != NULL) m->readers[i].sub->feed->ops->detach(m->readers[i].sub);
        m->readers[i].sub = NULL;
    }
    rig_hash(&m->r, before);
    rig_crash(&m->r);
    rig_hash(&m->r, after);
    assert_string_equal(before, after);
}

static void check_path(struct model *m, int path)
{
    struct stream_info info;
    const struct truth *t = &m->truth[m->r.seq][path];
    struct buf b;
    bool found = rig_find(&m->r, paths[path], &info);
    assert_int_equal(found, t->stream >= 0);
    if (!found) return;
    buf_init(&b, 64 * MIB);
    uint64_t from = roll(m, (uint32_t)t->offset + 1);
    assert_int_equal(rig_read(&m->r, paths[path], from, 1 + roll(m, 200000), &b), 0);
    assert_int_equal(from + b.n, t->offset);
    if (b.n > 0) assert_memory_equal(b.p, m->bytes[t->stream].p + from, b.n);
    buf_free(&b);
    for (uint64_t seq = 0; seq <= m->r.seq; seq += 1 + roll(m, 20)) {
        t = &m->truth[seq][path];
        assert_int_equal(rig_find_at(&m->r, paths[path], seq, &info), t->stream >= 0);
        if (t->stream < 0) continue;
        assert_int_equal(info.number, t->stream + 1);
        assert_int_equal(info.offset, t->offset);
        assert_int_equal(info.closed, t->closed);
    }
}

static void model_step(struct model *m)
{
    uint32_t what = roll(m, 100);
    m->r.now_ms += roll(m, 300);
    if (what < 40 && m->r.seq < STEPS)
        do_batch(m);
    else if (what < 80)
        do_reader(m);
    else if (what < 88)
        do_seal(m);
    else if (what < 92)
        rig_commit(&m->r);
    else if (what < 93)
        do_crash(m);
    else
        check_path(m, (int)roll(m, PATHS));
}

static void model_run(uint64_t seed)
{
    struct model *m = current = calloc(1, sizeof *m);
    rig_open(&m->r);
    m->random = seed;
    for (int i = 0; i < PATHS; i++)
        m->truth[0][i].stream = m->next[i].stream = -1;
    for (int i = 0; i < 2 * STEPS; i++)
        model_step(m);
    for (int i = 0; i < READERS; i++) // all readers arrive
        while (m->readers[i].sub != NULL && (!m->readers[i].live || m->readers[i].at < m->r.seq))
            reader_pump(m, &m->readers[i]);
    do_crash(m);
    rig_seal_all(&m->r);
    for (int i = 0; i < PATHS; i++)
        check_path(m, i);
    for (int i = 0; i < m->streams; i++)
        buf_free(&m->bytes[i]);
    rig_close(&m->r);
    free(m);
}

static void random_histories_are_told_as_they_were(void **state)
{
    (void)state;
    const char *one = getenv("SEGUE_SEED");
    for (uint64_t seed = one != NULL ? strtoull(one, NULL, 10) : 1; seed <= 25; seed++) {
        fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
        model_run(seed);
        if (one != NULL) break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_histories_are_told_as_they_were)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
