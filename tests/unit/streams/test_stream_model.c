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
    int stream; // index below; -1: none that a reader sees
    uint64_t offset;
    bool closed;
};

// What is true of a path now, beside that.
struct more {
    int gone;      // the stream that still holds the path, for its forks; -1: none
    int source;    // of the stream there (gone or not): index; -1: none
    uint64_t ttl_ms, deadline_ms; // 0: none
    uint64_t first;
    uint64_t epoch, seq; // of the one producer
    bool produced;
    char order; // the last Stream-Seq; 0: none
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
    struct more more[PATHS];
    struct buf bytes[STREAMS];
    int refs[STREAMS]; // forks of each
    int place[STREAMS]; // the path of each
    int above[STREAMS]; // and its source; -1: none
    int streams;
    struct reader readers[READERS];
    struct reader *reading; // the one that the sink feeds
    struct streams_seal *job;
    bool trims; // readers of trimmed streams lack bytes: those runs have no readers
};

static uint32_t roll(struct model *m, uint32_t n)
{
    m->random = m->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(m->random >> 33) % n;
}

// ---- writing -------------------------------------------------------------------------------------------------------

// The clock of a batch is that of its begin.
static bool lives(const struct model *m, int path)
{
    const struct more *x = &m->more[path];
    return m->next[path].stream >= 0 && (x->deadline_ms == 0 || m->r.c.arrival_ms < x->deadline_ms);
}

static void slide(struct model *m, int path)
{
    struct more *x = &m->more[path];
    if (x->ttl_ms != 0 && m->r.c.arrival_ms + x->ttl_ms > x->deadline_ms) x->deadline_ms = m->r.c.arrival_ms + x->ttl_ms;
}

// A stream goes; what nothing reads any more goes with it.
static void truth_delete(struct model *m, int path)
{
    int stream = m->next[path].stream >= 0 ? m->next[path].stream : m->more[path].gone;
    m->next[path] = (struct truth){.stream = -1};
    m->more[path] = (struct more){.gone = m->refs[stream] > 0 ? stream : -1, .source = m->above[stream]};
    if (m->refs[stream] > 0 || m->above[stream] < 0) return;
    int source = m->above[stream];
    m->refs[source]--;
    if (m->refs[source] == 0 && m->more[m->place[source]].gone == source) truth_delete(m, m->place[source]);
}

static void truth_create(struct model *m, int path, int source, uint64_t base)
{
    int stream = m->streams++;
    buf_init(&m->bytes[stream], 64 * MIB);
    m->place[stream] = path;
    m->above[stream] = source;
    if (source >= 0) {
        buf_put(&m->bytes[stream], m->bytes[source].p, base);
        m->refs[source]++;
    }
    m->next[path] = (struct truth){.stream = stream, .offset = base};
    m->more[path] = (struct more){.gone = -1, .source = source, .first = source >= 0 ? m->more[m->place[source]].first : 0};
}

// The error of creating at a path that is taken or not, `same` if what is there is what is asked for.
static int create_error(struct model *m, int path, bool same)
{
    bool there = lives(m, path);
    if (!there && m->next[path].stream >= 0 && m->refs[m->next[path].stream] > 0) return ERR_STREAM_EXISTS;
    if (!there && m->next[path].stream >= 0) truth_delete(m, path); // its time was over, and it made room
    if (m->more[path].gone >= 0) return ERR_STREAM_EXISTS;
    return there && !same ? ERR_STREAM_EXISTS : 0;
}

static void do_create(struct model *m, int path)
{
    struct stream_create op = {.path = SPAN_STR(paths[path]), .type = SPAN_LIT("text/plain"), .has_ttl = roll(m, 4) == 0};
    struct more *x = &m->more[path];
    bool created = false;
    if (op.has_ttl) op.ttl_s = 1 + roll(m, 20);
    bool same = x->source < 0 && !m->next[path].closed && x->ttl_ms == op.ttl_s * 1000;
    if (op.has_ttl && x->ttl_ms == 0) same = false;
    int err = streams_decide_create(m->r.batch, &op, &created, NULL, NULL);
    assert_int_equal(err, create_error(m, path, same));
    assert_int_equal(created, err == 0 && !lives(m, path));
    if (!created) return;
    truth_create(m, path, -1, 0);
    x->ttl_ms = op.ttl_s * 1000;
    slide(m, path);
}

static void do_fork(struct model *m, int path, int of)
{
    const struct truth *t = &m->next[of];
    struct stream_create op = {.path = SPAN_STR(paths[path]), .fork_of = SPAN_STR(paths[of]), .has_fork_offset = true};
    bool created = false;
    if (path == of || lives(m, path) || !lives(m, of)) return; // the unit tests have those
    op.fork_offset = m->more[of].first + roll(m, (uint32_t)(t->offset - m->more[of].first) + 1);
    struct stream_info info;
    bool stored = rig_find(&m->r, paths[of], &info) && info.number == (uint64_t)t->stream + 1 && op.fork_offset <= info.offset;
    if (!stored) op.fork_offset = t->offset; // bytes of this very batch are forked at their end
    int want = create_error(m, path, false), source = m->next[of].stream;
    if (source < 0) return; // the room that was made was the source's
    int err = streams_decide_create(m->r.batch, &op, &created, NULL, NULL);
    if (err == ERR_BAD_FORK) return; // too deep
    assert_int_equal(err, want);
    if (err != 0) return;
    assert_true(created);
    uint64_t ttl_ms = m->more[of].ttl_ms;
    truth_create(m, path, source, op.fork_offset);
    m->more[path].ttl_ms = ttl_ms;
    slide(m, path);
}

// The producer, or the sequence, that an append is given, and what must come of it.
static int write_error(struct model *m, int path, struct stream_append *op)
{
    struct more *x = &m->more[path];
    if (roll(m, 4) == 0) {
        op->producer = SPAN_LIT("p");
        op->epoch = x->epoch + (roll(m, 8) == 0);
        op->pseq = op->epoch > x->epoch ? roll(m, 10) / 9 : x->produced ? x->seq + roll(m, 3) : roll(m, 2);
        if (!x->produced) return op->pseq == 0 ? 0 : ERR_PRODUCER_GAP;
        if (op->epoch > x->epoch) return op->pseq == 0 ? 0 : ERR_PRODUCER_EPOCH;
        return op->pseq > x->seq + 1 ? ERR_PRODUCER_GAP : op->pseq <= x->seq ? 1 : 0; // 1: had it
    }
    if (roll(m, 8) > 0) return 0;
    static const char letters[] = "abcdefgh";
    size_t at = roll(m, 8);
    op->seq = SPAN(letters + at, 1);
    return letters[at] > x->order ? 0 : ERR_STREAM_SEQ;
}

static void write_done(struct model *m, int path, const struct stream_append *op)
{
    struct truth *t = &m->next[path];
    struct more *x = &m->more[path];
    buf_put_span(&m->bytes[t->stream], op->data);
    t->offset += op->data.n;
    t->closed = op->close;
    if (op->producer.n > 0) {
        x->produced = true;
        x->epoch = op->epoch;
        x->seq = op->pseq;
    }
    if (op->seq.n > 0) x->order = (char)op->seq.p[0];
    if (op->data.n + op->producer.n + op->seq.n > 0 || op->close) slide(m, path);
}

static int missing(const struct model *m, int path)
{
    return m->more[path].gone >= 0 ? ERR_STREAM_GONE : lives(m, path) ? 0 : ERR_STREAM_NOT_FOUND;
}

static void do_append(struct model *m, int path)
{
    static const char *const tokens[] = {"token ", "\xf0\x9f\x98\x80", "\xf0\x9f", "\x98\x80", "\xff", "\n\"quoted\"", ""};
    static char large[200000];
    struct stream_append op = {.path = SPAN_STR(paths[path]), .close = roll(m, 40) == 0};
    struct stream_appended done = {0};
    const char *token = tokens[roll(m, 7)];
    struct span data = SPAN_STR(token);
    if (roll(m, 10) == 0) {
        memset(large, 'a' + (int)roll(m, 26), sizeof large);
        data = SPAN(large, roll(m, sizeof large));
    }
    op.data = rig_data(&m->r, data);
    int want = write_error(m, path, &op);
    if (m->next[path].closed) want = op.close && op.data.n == 0 && op.producer.n == 0 ? 1 : ERR_STREAM_CLOSED;
    if (missing(m, path) != 0) want = missing(m, path);
    int err = streams_decide_append(m->r.batch, &op, &done, NULL);
    if (want == ERR_STREAM_CLOSED && err == 0) { // what closed it, again
        assert_true(done.duplicate && op.epoch == m->more[path].epoch && op.pseq == m->more[path].seq);
        return;
    }
    if (want == ERR_STREAM_CLOSED && err == ERR_PRODUCER_FENCED) return;
    assert_int_equal(err, want == 1 ? 0 : want);
    if (err != 0) return;
    assert_int_equal(done.duplicate, want == 1 && op.producer.n > 0);
    if (want == 0) write_done(m, path, &op);
}

static void do_delete(struct model *m, int path)
{
    int want = missing(m, path);
    assert_int_equal(rig_delete(&m->r, paths[path]), want);
    if (want == 0) truth_delete(m, path);
}

// What the service does on its own: streams that were read, and those whose time is over.
static void do_care(struct model *m, int path)
{
    struct stream_info info;
    if (!rig_find(&m->r, paths[path], &info)) return;
    bool known = m->next[path].stream >= 0 && info.number == (uint64_t)m->next[path].stream + 1, alive = lives(m, path);
    if (roll(m, 2) == 0) {
        assert_int_equal(streams_decide_touch(m->r.batch, info.number, m->r.c.arrival_ms), 0);
        if (known && alive) slide(m, path);
    } else {
        assert_int_equal(streams_decide_expire(m->r.batch, info.number), 0);
        if (known && !alive) truth_delete(m, path);
    }
}

static void do_trim(struct model *m, int path)
{
    struct truth *t = &m->next[path];
    struct more *x = &m->more[path];
    int want = missing(m, path);
    uint64_t before = want == 0 ? x->first + roll(m, (uint32_t)(t->offset - x->first) + 1) : 0;
    if (want == 0 && m->refs[t->stream] > 0) want = ERR_STILL_REFERENCED;
    assert_int_equal(streams_decide_trim(m->r.batch, SPAN_STR(paths[path]), before, false, rig_data(&m->r, SPAN_LIT("before")), false, false, NULL, NULL), want);
    if (want != 0) return;
    x->first = before;
    slide(m, path);
}

static void do_one(struct model *m)
{
    int path = (int)roll(m, PATHS), kind = (int)roll(m, 40);
    if (kind < 5 && m->streams < STREAMS)
        do_create(m, path);
    else if (kind < 8 && m->streams < STREAMS)
        do_fork(m, path, (int)roll(m, PATHS));
    else if (kind < 34)
        do_append(m, path);
    else if (kind < 36)
        do_delete(m, path);
    else if (kind < 39)
        do_care(m, path);
    else if (m->trims)
        do_trim(m, path);
}

static void do_batch(struct model *m)
{
    rig_begin(&m->r);
    for (uint32_t i = roll(m, 4); i < 4; i++)
        do_one(m);
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
    bool part = roll(m, 3) == 0 && rig_find(&m->r, paths[rd->path], &info) && !info.gone;
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

static void check_producer(struct model *m, int path)
{
    struct stream_producer p;
    const struct more *x = &m->more[path];
    assert_int_equal(streams_producer(m->r.s, m->r.txn, SPAN_STR(paths[path]), SPAN_LIT("p"), &p), x->produced);
    if (x->produced) assert_true(p.epoch == x->epoch && p.seq == x->seq);
}

static void check_path(struct model *m, int path)
{
    struct stream_info info;
    const struct truth *t = &m->truth[m->r.seq][path];
    struct buf b;
    bool found = rig_find(&m->r, paths[path], &info);
    assert_int_equal(found, t->stream >= 0 || m->more[path].gone >= 0);
    if (!found) return;
    assert_int_equal(info.gone, t->stream < 0);
    if (info.gone) return;
    assert_int_equal(info.deadline_ms, m->more[path].deadline_ms);
    assert_int_equal(info.first, m->more[path].first);
    check_producer(m, path);
    buf_init(&b, 64 * MIB);
    uint64_t from = info.first + roll(m, (uint32_t)(t->offset - info.first) + 1);
    assert_int_equal(rig_read(&m->r, paths[path], from, 1 + roll(m, 200000), &b), 0);
    assert_int_equal(from + b.n, t->offset);
    if (b.n > 0) assert_memory_equal(b.p, m->bytes[t->stream].p + from, b.n);
    buf_free(&b);
    for (uint64_t seq = 0; seq <= m->r.seq; seq += 1 + roll(m, 20)) {
        t = &m->truth[seq][path];
        assert_int_equal(rig_find_at(&m->r, paths[path], seq, &info), t->stream >= 0);
        if (t->stream < 0) continue;
        assert_int_equal(info.number, t->stream + 1);
        // What ended below the beginning is said to end there, however its bytes lie; with a deleted stream its offsets may be forgotten.
        bool lives = m->truth[m->r.seq][path].stream == t->stream;
        if (m->trims && !lives) continue;
        uint64_t first = lives ? m->more[path].first : 0;
        assert_int_equal(info.offset, t->offset > first ? t->offset : first);
        assert_int_equal(info.closed, t->closed);
    }
}

// With everything flushed the index of deadlines knows each stream whose time is over, and no other.
static void do_commit(struct model *m)
{
    uint64_t numbers[PATHS + 1];
    size_t want = 0;
    rig_commit(&m->r);
    for (int i = 0; i < PATHS; i++)
        want += m->next[i].stream >= 0 && m->more[i].deadline_ms != 0 && m->r.now_ms >= m->more[i].deadline_ms;
    assert_int_equal(streams_expired(m->r.s, m->r.txn, NULL, m->r.now_ms, numbers, PATHS + 1), want);
    for (size_t i = 0; i < want; i++) {
        bool known = false;
        for (int k = 0; k < PATHS; k++)
            known |= m->next[k].stream >= 0 && (uint64_t)m->next[k].stream + 1 == numbers[i];
        assert_true(known);
    }
}

static void model_step(struct model *m)
{
    uint32_t what = roll(m, 100);
    m->r.now_ms += roll(m, 300);
    if (what < 40 && m->r.seq < STEPS)
        do_batch(m);
    else if (what < 80)
        m->trims ? (void)streams_reclaim(m->r.s, m->r.txn) : do_reader(m);
    else if (what < 88)
        do_seal(m);
    else if (what < 92)
        do_commit(m);
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
    m->trims = seed % 3 == 0;
    for (int i = 0; i < PATHS; i++)
        m->truth[0][i].stream = m->next[i].stream = m->more[i].gone = m->more[i].source = -1;
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
