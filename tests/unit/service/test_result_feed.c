// Stream columns live inside results: whatever is written, read in whatever ranges and resumed wherever, what a reader folds is the query and its
// streams read afresh; a commit wakes those whom it concerns.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "app_lab.h"
#include "base64.h"
#include "err.h"
#include "json_read.h"
#include "result_feed.h"

#define ROW "01890a5d-ac96-774b-bcce-%012u"
#define IDS 12
#define READERS 9

struct followed {
    char column[16];
    bool exists, closed;
    uint64_t begin, offset; // what was told is [begin, offset)
    struct buf bytes;
};

struct known_row {
    char key[160];
    char *json;
    struct followed streams[2];
    size_t stream_count;
};

struct reader {
    const char *sql;
    struct result_follow follows[2];
    size_t follow_count;
    struct feed_sub *sub;
    bool keyed;
    bool whole;  // the snapshot is
    bool unread; // since it was attached
    uint64_t at, from;
    size_t wakes, values, pieces;
    struct known_row rows[2 * IDS];
    size_t row_count;
};

struct stage {
    struct app_lab lab;
    struct reader readers[READERS];
    size_t reader_count;
    uint64_t dice;
    size_t resets;
};

static const char schema[] = "create table t (n bigint, a text, body stream, think stream); create index t_n on t (n);"
                             "create table u (t uuid references t on delete set null, k bigint); create index u_t on u (t)";

static int setup(void **state)
{
    struct stage *s = calloc(1, sizeof *s);
    app_lab_init(&s->lab);
    s->lab.options.seal_quiet_ms = 1; // streams are sealed as soon as somebody looks
    app_lab_open(&s->lab);
    assert_int_equal(lab_schema(&s->lab, schema), 0);
    *state = s;
    return 0;
}

static unsigned roll(struct stage *s, unsigned n)
{
    s->dice ^= s->dice << 13;
    s->dice ^= s->dice >> 7;
    s->dice ^= s->dice << 17;
    return (unsigned)(s->dice % n);
}

static struct streams *streams_of(struct stage *s)
{
    return app_streams(s->lab.app);
}

static struct db_txn *txn_of(struct stage *s)
{
    return app_txn(s->lab.app);
}

// ---- a reader ------------------------------------------------------------------------------------------------------

static struct known_row *row_of(struct reader *r, struct span key)
{
    for (size_t i = 0; i < r->row_count; i++)
        if (span_is(key, r->rows[i].key)) return &r->rows[i];
    return NULL;
}

static void row_forget(struct reader *r, struct known_row *row)
{
    free(row->json);
    for (size_t i = 0; i < row->stream_count; i++)
        buf_free(&row->streams[i].bytes);
    r->row_count--;
    memmove(row, row + 1, (size_t)(r->rows + r->row_count - row) * sizeof *row);
}

static void forget(struct reader *r)
{
    while (r->row_count > 0)
        row_forget(r, &r->rows[0]);
}

static void detach(struct reader *r)
{
    if (r->sub != NULL) r->sub->feed->ops->detach(r->sub);
    r->sub = NULL;
}

static int teardown(void **state)
{
    struct stage *s = *state;
    for (size_t i = 0; i < s->reader_count; i++) {
        detach(&s->readers[i]);
        forget(&s->readers[i]);
    }
    assert_int_equal(result_feeds_streams(s->lab.app), 0);
    app_lab_free(&s->lab);
    free(s);
    return 0;
}

static void on_wake(struct feed_sub *sub)
{
    struct reader *r = sub->owner;
    r->wakes++;
}

static struct reader *reader_new(struct stage *s, const char *sql, const char *column, uint64_t start)
{
    struct reader *r = &s->readers[s->reader_count++];
    *r = (struct reader){.sql = sql, .follows = {{.column = SPAN_STR(column), .start = start}}, .follow_count = 1};
    return r;
}

static int attach(struct stage *s, struct reader *r, bool resume, struct problem *p)
{
    struct query *q;
    assert_int_equal(query_compile(app_rows(s->lab.app), SPAN_STR(r->sql), NULL, 0, &q, p), 0);
    if (!resume) {
        forget(r);
        r->at = app_visible(s->lab.app);
    }
    r->keyed = query_keyed(q);
    int err = result_feed_attach(s->lab.app, q, r->follows, r->follow_count, resume, r->at, &r->sub, p);
    query_unref(q);
    if (err != 0) return err;
    r->sub->owner = r;
    r->sub->wake = on_wake;
    r->whole = resume;
    r->unread = true;
    r->from = r->at;
    return 0;
}

// ---- folding -------------------------------------------------------------------------------------------------------

struct fold {
    struct feed_sink sink; // first
    struct stage *s;
    struct reader *r;
    bool snapshot;
    size_t values;
};

static char *text_of(const struct jr *n)
{
    struct buf b;
    buf_init(&b, MIB);
    assert_int_equal(jr_canonical(n, &b), 0);
    buf_put_u8(&b, 0);
    return (char *)b.p;
}

static const struct result_follow *follow_of(const struct reader *r, const char *column)
{
    for (size_t i = 0; i < r->follow_count; i++)
        if (span_is(r->follows[i].column, column)) return &r->follows[i];
    return NULL;
}

// As the row itself names it. False: it is null.
static bool path_of(struct buf *path, const struct known_row *row, const char *column)
{
    struct jr_tree *tree;
    assert_int_equal(jr_parse(&tree, SPAN_STR(row->json), NULL), 0);
    struct span named = jr_str(jr_get(jr_get(jr_root(tree), column), "stream"));
    buf_clear(path);
    buf_put_span(path, named);
    jr_free(tree);
    return path->n > 0;
}

// Where the documents say that its stream begins for a row that comes.
static uint64_t begin_of(struct fold *f, const struct known_row *row, const struct result_follow *follow, uint64_t from)
{
    struct stream_info now, then;
    struct buf path;
    uint64_t begin = 0;
    if (follow->start != RESULT_FOLLOW_END) return follow->start;
    buf_init(&path, KIB);
    char column[16];
    snprintf(column, sizeof column, "%.*s", SPAN_FMT(follow->column));
    bool is = path_of(&path, row, column) && streams_find_at(streams_of(f->s), txn_of(f->s), buf_span(&path), f->r->at, &now);
    bool was = is && streams_find_at(streams_of(f->s), txn_of(f->s), buf_span(&path), from, &then);
    if (is && was && is == was && now.number == then.number) begin = then.offset;
    buf_free(&path);
    return begin;
}

static void row_comes(struct fold *f, struct span key, const struct jr *row)
{
    struct reader *r = f->r;
    assert_null(row_of(r, key));
    assert_true(r->row_count < 2 * IDS);
    struct known_row *k = &r->rows[r->row_count++];
    *k = (struct known_row){.json = text_of(row), .stream_count = r->follow_count};
    memcpy(k->key, key.p, key.n);
    for (size_t i = 0; i < r->follow_count; i++) {
        struct followed *s = &k->streams[i];
        snprintf(s->column, sizeof s->column, "%.*s", SPAN_FMT(r->follows[i].column));
        s->exists = true;
        s->begin = s->offset = begin_of(f, k, &r->follows[i], f->snapshot ? r->at : r->from);
        buf_init(&s->bytes, MIB);
    }
}

static void fold_bytes(struct followed *s, const struct jr *v)
{
    size_t before = s->bytes.n;
    assert_true(s->exists && !s->closed);
    if (jr_get(v, "text") != NULL) buf_put_span(&s->bytes, jr_str(jr_get(v, "text")));
    else assert_int_equal(base64_decode(&s->bytes, jr_str(jr_get(v, "base64"))), 0);
    assert_true(s->bytes.n > before);
    s->offset += s->bytes.n - before;
    assert_int_equal(jr_int(jr_get(v, "offset"), -1), s->offset); // each byte once
}

static void fold_stream(struct fold *f, const struct jr *v)
{
    struct known_row *row = row_of(f->r, jr_str(jr_get(v, "of")));
    struct span column = jr_str(jr_get(v, "stream"));
    assert_non_null(row); // its row is there
    struct followed *s = NULL;
    for (size_t i = 0; i < row->stream_count; i++)
        if (span_is(column, row->streams[i].column)) s = &row->streams[i];
    assert_non_null(s);
    if (jr_get(v, "deleted") != NULL) {
        assert_true(s->exists);
        s->exists = s->closed = false;
    } else if (jr_get(v, "created") != NULL) {
        const struct result_follow *follow = follow_of(f->r, s->column);
        assert_false(s->exists);
        s->exists = true;
        s->begin = s->offset = follow->start == RESULT_FOLLOW_END ? 0 : follow->start;
        buf_clear(&s->bytes);
    } else if (jr_get(v, "closed") != NULL) {
        assert_true(s->exists && !s->closed);
        s->closed = true;
    } else if (jr_get(v, "trimmed") != NULL) {
        uint64_t first = (uint64_t)jr_int(jr_get(v, "trimmed"), -1);
        if (first > s->offset) { // what it had was all before; may be told twice
            s->begin = s->offset = first;
            buf_clear(&s->bytes);
        }
    } else if (jr_get(v, "snapshot") == NULL) {
        fold_bytes(s, v);
    }
}

static int fold_one(struct feed_sink *sink, struct bytes *value)
{
    struct fold *f = (struct fold *)sink;
    struct jr_tree *tree;
    assert_int_equal(jr_parse(&tree, bytes_span(value), NULL), 0);
    const struct jr *v = jr_root(tree), *added = jr_get(v, "added"), *changed = jr_get(v, "changed"), *removed = jr_get(v, "removed");
    bool keyed = f->r->keyed, stream = jr_type(jr_get(v, "stream")) == JR_STRING && jr_get(v, "of") != NULL;
    f->values++;
    if (stream) {
        fold_stream(f, v);
    } else if (f->snapshot) {
        row_comes(f, jr_str(jr_get(v, keyed ? "key" : "id")), keyed ? jr_get(v, "row") : v);
    } else if (added != NULL) {
        row_comes(f, jr_str(keyed ? jr_get(v, "key") : jr_get(added, "id")), added);
    } else {
        struct known_row *row = row_of(f->r, jr_str(removed != NULL ? removed : keyed ? jr_get(v, "key") : jr_get(changed, "id")));
        assert_non_null(row);
        if (removed != NULL) row_forget(f->r, row);
        else free(row->json), row->json = text_of(changed);
    }
    jr_free(tree);
    return 0;
}

// ---- checking ------------------------------------------------------------------------------------------------------

// A row's stream value says where its stream was when the row was told.
static void without_offsets(char *json)
{
    static const char member[] = "\"offset\":";
    for (char *at = json; (at = strstr(at, member)) != NULL;) {
        char *digits = at + sizeof member - 1;
        size_t n = strspn(digits, "0123456789");
        memmove(digits, digits + n, strlen(digits + n) + 1);
        at = digits;
    }
}

static void check_stream(struct stage *s, const struct reader *r, const struct known_row *row, const struct followed *f)
{
    struct stream_info info, now;
    struct buf path, all;
    buf_init(&path, KIB);
    buf_init(&all, MIB);
    if (!path_of(&path, row, f->column)) {
        assert_int_equal(f->bytes.n, 0);
        buf_free(&path);
        return;
    }
    assert_true(streams_find_at(streams_of(s), txn_of(s), buf_span(&path), r->at, &info));
    assert_true(f->exists);
    assert_int_equal(f->closed, info.closed);
    bool same = streams_find(streams_of(s), txn_of(s), buf_span(&path), &now) && now.number == info.number;
    bool forgotten = !same || now.trimmed_seq > r->at; // what was deleted or trimmed since is not known any more
    if (f->begin > info.offset) assert_int_equal(f->bytes.n, 0); // asked for from further on
    else if (!forgotten) assert_int_equal(f->offset, info.offset);
    if (!forgotten && now.first <= f->begin && f->begin < info.offset) {
        while (f->begin + all.n < now.offset) // a piece at a time
            assert_int_equal(streams_read(streams_of(s), txn_of(s), buf_span(&path), f->begin + all.n, MIB, &all), 0);
        assert_true(span_equal(buf_span(&f->bytes), span_sub(buf_span(&all), 0, info.offset - f->begin)));
    }
    buf_free(&path);
    buf_free(&all);
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void check(struct stage *s, struct reader *r)
{
    struct buf fresh;
    struct jr_tree *tree;
    buf_init(&fresh, MIB);
    assert_int_equal(lab_query(&s->lab, r->sql, r->at, &fresh), 0);
    assert_int_equal(jr_parse(&tree, buf_span(&fresh), NULL), 0);
    assert_int_equal(jr_count(jr_root(tree)), r->row_count);
    char *mine[2 * IDS], *others[2 * IDS];
    for (size_t i = 0; i < r->row_count; i++) {
        mine[i] = strdup(r->rows[i].json);
        others[i] = text_of(jr_at(jr_root(tree), i));
        without_offsets(mine[i]);
        without_offsets(others[i]);
    }
    qsort(mine, r->row_count, sizeof *mine, compare_texts);
    qsort(others, r->row_count, sizeof *others, compare_texts);
    for (size_t i = 0; i < r->row_count; i++) {
        assert_string_equal(mine[i], others[i]);
        free(mine[i]);
        free(others[i]);
        for (size_t k = 0; k < r->rows[i].stream_count; k++)
            check_stream(s, r, &r->rows[i], &r->rows[i].streams[k]);
    }
    jr_free(tree);
    buf_free(&fresh);
}

// ---- reading -------------------------------------------------------------------------------------------------------

static void read_snapshot(struct stage *s, struct reader *r, size_t budget)
{
    struct fold f = {.sink = {.emit = fold_one}, .s = s, .r = r, .snapshot = true};
    bool done = false;
    assert_int_equal(r->sub->feed->ops->snapshot(r->sub, txn_of(s), r->at, budget, &f.sink, &done), 0);
    r->pieces++;
    r->whole = done;
    if (done) check(s, r);
}

static void read_range(struct stage *s, struct reader *r, uint64_t to)
{
    struct fold f = {.sink = {.emit = fold_one}, .s = s, .r = r};
    uint64_t from = r->at;
    r->from = from;
    r->at = to; // what is told is as of here
    bool silent = !r->unread && r->sub->changed <= from;
    int err = r->sub->feed->ops->changes(r->sub, txn_of(s), from, to, &f.sink);
    if (err == ERR_TOO_OLD) {
        s->resets++;
        detach(r);
        assert_int_equal(attach(s, r, false, NULL), 0);
        return;
    }
    assert_int_equal(err, 0);
    if (silent) assert_int_equal(f.values, 0); // nobody was woken for nothing, and for something everybody
    r->values += f.values;
    if (to == app_visible(s->lab.app)) r->unread = false;
    check(s, r);
}

static void read_on(struct stage *s, struct reader *r)
{
    uint64_t visible = app_visible(s->lab.app), to = visible;
    if (!r->whole) {
        read_snapshot(s, r, 1 + roll(s, 600));
        return;
    }
    if (r->at == visible) return;
    if (roll(s, 2) == 0) {
        assert_int_equal(r->sub->feed->ops->reach(r->sub, txn_of(s), r->at, visible, 1 + roll(s, 500), &to), 0);
        assert_true(to > r->at && to <= visible);
    }
    if (roll(s, 3) == 0) to = r->at + 1 + roll(s, (unsigned)(to - r->at)); // another feed of the connection reaches less far
    read_range(s, r, to);
}

static void catch_up(struct stage *s, struct reader *r)
{
    while (!r->whole)
        read_snapshot(s, r, 1 + roll(s, 600));
    if (r->at < app_visible(s->lab.app)) read_range(s, r, app_visible(s->lab.app));
    if (!r->whole) catch_up(s, r);
}

// ---- writing -------------------------------------------------------------------------------------------------------

static void put_stream_op(struct stage *s, struct buf *b, const char *op, unsigned id, const char *more)
{
    buf_printf(b, "{\"op\":\"%s\",\"table\":\"t\",\"id\":\"" ROW "\",\"column\":\"%s\"%s}", op, id, roll(s, 3) == 0 ? "think" : "body", more);
}

static void put_op(struct stage *s, struct buf *b)
{
    char more[64];
    unsigned id = roll(s, IDS);
    switch (roll(s, 14)) {
    case 0:
    case 1: buf_printf(b, "{\"op\":\"upsert\",\"table\":\"t\",\"id\":\"" ROW "\",\"values\":{\"n\":%u}}", id, roll(s, 9)); break;
    case 2: buf_printf(b, "{\"op\":\"update\",\"table\":\"t\",\"id\":\"" ROW "\",\"values\":{\"a\":\"%u\"}}", id, roll(s, 99)); break;
    case 3: buf_printf(b, "{\"op\":\"%s\",\"table\":\"t\",\"id\":\"" ROW "\"}", roll(s, 3) == 0 ? "delete" : "restore", id); break;
    case 4: put_stream_op(s, b, "close", id, ""); break;
    case 5:
        snprintf(more, sizeof more, ",\"before\":%u", roll(s, 9));
        put_stream_op(s, b, "trim", id, roll(s, 4) == 0 ? more : ",\"tail\":true,\"text\":\"gone\"");
        break;
    case 6: put_stream_op(s, b, "append", id, ",\"base64\":\"4oI=\""); break; // two thirds of a character
    case 7: buf_printf(b, "{\"op\":\"upsert\",\"table\":\"u\",\"id\":\"" ROW "\",\"values\":{\"t\":\"" ROW "\",\"k\":%u}}", 100 + id, roll(s, IDS), roll(s, 9)); break;
    case 8: buf_printf(b, "{\"op\":\"%s\",\"table\":\"u\",\"id\":\"" ROW "\"}", roll(s, 2) == 0 ? "delete" : "restore", 100 + id); break;
    default:
        snprintf(more, sizeof more, ",\"text\":\"token %u \"", roll(s, 1000));
        put_stream_op(s, b, "append", id, more);
    }
}

static char *batch(struct stage *s)
{
    struct buf b;
    buf_init(&b, 64 * KIB);
    buf_put_str(&b, "{\"ops\":[");
    for (unsigned i = 0, n = 1 + roll(s, 3); i < n; i++) {
        if (i > 0) buf_put_str(&b, ",");
        put_op(s, &b);
    }
    buf_put_str(&b, "]}");
    buf_put_u8(&b, 0);
    assert_int_equal(b.err, 0);
    return (char *)b.p;
}

// Several commits, some of them in one group. Many batches are refused, and change nothing.
static void write_some(struct stage *s, unsigned n)
{
    struct lab_batch batches[8];
    assert_true(n <= 8);
    for (unsigned i = 0; i < n; i++) {
        char *json = batch(s);
        assert_int_equal(lab_submit(&s->lab, &batches[i], json), 0);
        free(json);
        if (roll(s, 2) == 0) app_turn(s->lab.app);
    }
    app_turn(s->lab.app);
    for (unsigned i = 0; i < n; i++)
        lab_batch_free(&batches[i]);
}

static void start_anew(struct stage *s)
{
    for (size_t i = 0; i < s->reader_count; i++)
        detach(&s->readers[i]);
    app_lab_reopen(&s->lab);
    for (size_t i = 0; i < s->reader_count; i++)
        assert_int_equal(attach(s, &s->readers[i], s->readers[i].whole, NULL), 0);
}

static void folded_is_what_a_fresh_look_gives(struct stage *s, uint64_t seed, int rounds)
{
    size_t wakes = 0, values = 0, pieces = 0;
    s->dice = seed;
    print_message("seed %llu\n", (unsigned long long)seed);
    reader_new(s, "select n, body from t where n < 5", "body", 0);
    reader_new(s, "select n, body, think from t where n < 5", "body", 7)->follows[1] = (struct result_follow){.column = SPAN_LIT("think"), .start = 0};
    s->readers[1].follow_count = 2;
    reader_new(s, "select n, body from t where n < 5", "body", 0); // shares the first one's
    reader_new(s, "select n, body from t where n < 5", "body", RESULT_FOLLOW_END);
    reader_new(s, "select a, think from t order by n", "think", 0);
    reader_new(s, "select a, body from t order by n, id limit 3", "body", 0);
    reader_new(s, "select body from t order by n desc limit 4", "body", RESULT_FOLLOW_END);
    reader_new(s, "select u.k, t.n, t.body from u join t on t.id = u.t where t.n < 7", "body", 0);
    reader_new(s, "select u.k, t.think from u left join t on t.id = u.t order by u.k", "think", RESULT_FOLLOW_END);
    write_some(s, 8);
    for (size_t i = 0; i < s->reader_count; i++)
        assert_int_equal(attach(s, &s->readers[i], false, NULL), 0);
    for (int i = 0; i < rounds; i++) {
        write_some(s, roll(s, 5));
        for (size_t k = 0; k < s->reader_count; k++)
            if (roll(s, 3) > 0) read_on(s, &s->readers[k]);
        struct reader *r = &s->readers[roll(s, (unsigned)s->reader_count)];
        unsigned what = roll(s, 24);
        if (what == 0) detach(r), assert_int_equal(attach(s, r, r->whole, NULL), 0);
        if (what == 1) detach(r), assert_int_equal(attach(s, r, false, NULL), 0);
        if (what == 2) app_tick(s->lab.app), lab_seal(&s->lab);
        if (i % 97 == 96) start_anew(s);
    }
    for (size_t i = 0; i < s->reader_count; i++) {
        catch_up(s, &s->readers[i]);
        wakes += s->readers[i].wakes;
        values += s->readers[i].values;
        pieces += s->readers[i].pieces;
    }
    assert_true(wakes > 100 && values > 300 && pieces > 14); // it was no idle talk
    assert_int_equal(s->resets, 0);
}

// SEGUE_SEED=7 runs one.
static void random_writes_are_folded(void **state)
{
    const char *seed = getenv("SEGUE_SEED");
    folded_is_what_a_fresh_look_gives(*state, seed != NULL ? strtoull(seed, NULL, 10) : 1, 400);
}

static void other_random_writes_are_folded(void **state)
{
    folded_is_what_a_fresh_look_gives(*state, 0x9e3779b97f4a7c15, 400);
}

static int refused(struct stage *s, const char *sql, const char *column)
{
    struct reader r = {.sql = sql, .follows = {{.column = SPAN_STR(column)}}, .follow_count = 1};
    struct problem p = PROBLEM_NONE;
    int err = attach(s, &r, false, &p);
    assert_true(err != 0 && p.err == err && p.text[0] != '\0');
    return err;
}

static void what_is_no_stream_of_a_row_is_refused(void **state)
{
    struct stage *s = *state;
    assert_int_equal(refused(s, "select n, body from t", "a"), ERR_NO_SUCH_COLUMN);
    assert_int_equal(refused(s, "select n, body from t", "n"), ERR_BAD_PARAMETER);
    assert_int_equal(refused(s, "select n, count(*) as c from t group by n", "n"), ERR_UNSUPPORTED_SQL);
    assert_int_equal(refused(s, "select distinct body from t", "body"), ERR_UNSUPPORTED_SQL);
    struct reader *twice = reader_new(s, "select body from t", "body", 0);
    twice->follows[1] = twice->follows[0];
    twice->follow_count = 2;
    assert_int_equal(attach(s, twice, false, NULL), ERR_BAD_PARAMETER);
    assert_int_equal(result_feeds_streams(s->lab.app), 0);
}

static int drop_value(struct feed_sink *sink, struct bytes *value)
{
    (void)sink, (void)value;
    return 0;
}

static int changes(struct stage *s, struct reader *r)
{
    struct feed_sink sink = {.emit = drop_value};
    return r->sub->feed->ops->changes(r->sub, txn_of(s), r->at, app_visible(s->lab.app), &sink);
}

// Attached, with its snapshot read and nothing folded.
static int begin(struct stage *s, struct reader *r)
{
    struct feed_sink sink = {.emit = drop_value};
    bool done = false;
    int err = attach(s, r, false, NULL);
    while (err == 0 && !done)
        err = r->sub->feed->ops->snapshot(r->sub, txn_of(s), r->at, 4096, &sink, &done);
    return err;
}

// `count` rows with n = 1, from the id `from` on.
static void insert_rows(struct stage *s, unsigned from, unsigned count)
{
    struct lab_batch b;
    struct buf json;
    buf_init(&json, BATCH_BYTES_MAX);
    buf_put_str(&json, "{\"ops\":[");
    for (unsigned i = 0; i < count; i++)
        buf_printf(&json, "%s{\"op\":\"insert\",\"table\":\"t\",\"id\":\"" ROW "\",\"values\":{\"n\":1}}", i == 0 ? "" : ",", from + i);
    buf_put_str(&json, "]}");
    buf_put_u8(&json, 0);
    assert_int_equal(lab_submit(&s->lab, &b, (char *)json.p), 0);
    app_turn(s->lab.app);
    assert_int_equal(b.fate.err, 0);
    lab_batch_free(&b);
    buf_free(&json);
}

static void equal_subscriptions_share_one_set(void **state)
{
    struct stage *s = *state;
    insert_rows(s, 0, 10);
    struct reader *a = reader_new(s, "select n, body from t where n = 1", "body", 0), *b = reader_new(s, "select n, body from t where n = 1", "body", 0);
    struct reader *c = reader_new(s, "select n, body from t where n = 1", "body", RESULT_FOLLOW_END);
    assert_int_equal(begin(s, a), 0);
    assert_int_equal(begin(s, b), 0);
    assert_int_equal(result_feeds_streams(s->lab.app), 10);
    assert_ptr_equal(a->sub->feed, b->sub->feed);
    assert_int_equal(begin(s, c), 0);
    assert_int_equal(result_feeds_streams(s->lab.app), 20);
    detach(a);
    detach(c);
    insert_rows(s, 10, 1);
    assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'delete','table':'t','id':'" ROW "'},{'op':'update','table':'t','id':'" ROW "','values':{'n':2}}]}", 3, 4), 0);
    assert_int_equal(result_feeds_streams(s->lab.app), 9);
    assert_true(b->wakes > 0 && a->wakes == 0);
}

static void a_first_reader_who_takes_nothing_keeps_nobody_waiting(void **state)
{
    struct stage *s = *state;
    insert_rows(s, 0, 10);
    struct reader *slow = reader_new(s, "select n, body from t where n = 1", "body", 0), *quick = reader_new(s, slow->sql, "body", 0);
    assert_int_equal(attach(s, slow, false, NULL), 0);
    assert_int_equal(attach(s, quick, false, NULL), 0);
    read_snapshot(s, slow, 1);
    catch_up(s, quick);
    quick->wakes = 0;
    assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'append','table':'t','id':'" ROW "','column':'body','text':'hello'}]}", 7), 0);
    assert_int_equal(quick->wakes, 1);
    catch_up(s, quick);
    assert_false(slow->whole);
    catch_up(s, slow); // and misses nothing itself
    assert_int_equal(slow->at, quick->at);
}

static void more_streams_than_can_be_followed_are_refused(void **state)
{
    struct stage *s = *state;
    insert_rows(s, 0, FOLLOWED_STREAMS_MAX);
    struct reader *r = reader_new(s, "select n, body from t where n = 1", "body", 0);
    assert_int_equal(begin(s, r), 0);
    assert_int_equal(result_feeds_streams(s->lab.app), FOLLOWED_STREAMS_MAX);
    insert_rows(s, FOLLOWED_STREAMS_MAX, 1);
    assert_int_equal(changes(s, r), ERR_TOO_MANY); // it could not go on unnoticed
    struct reader *other = reader_new(s, r->sql, "body", 0), *resumed = reader_new(s, r->sql, "body", 0);
    assert_int_equal(begin(s, other), ERR_TOO_MANY);
    resumed->at = app_visible(s->lab.app);
    assert_int_equal(attach(s, resumed, true, NULL), ERR_TOO_MANY);
    struct reader *few = reader_new(s, "select n, body from t where n = 1 order by n limit 5", "body", 0);
    assert_int_equal(begin(s, few), 0);
}

// A range is put together in memory; a snapshot goes in pieces.
static void long_streams_that_come_in_a_range_are_left_to_a_snapshot(void **state)
{
    struct stage *s = *state;
    static char text[3 * 1024 * 1024];
    memset(text, 'x', sizeof text - 1);
    struct reader *r = reader_new(s, "select n, body from t where n = 2", "body", 0), *end = reader_new(s, "select n, body from t where n = 2", "body", RESULT_FOLLOW_END);
    assert_int_equal(begin(s, r), 0);
    assert_int_equal(begin(s, end), 0);
    insert_rows(s, 1, 1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'append','table':'t','id':'" ROW "','column':'body','text':'%s'}]}", 1, text), 0);
    r->at = end->at = app_visible(s->lab.app);
    assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'update','table':'t','id':'" ROW "','values':{'n':2}}]}", 1), 0);
    assert_int_equal(changes(s, r), ERR_TOO_OLD);
    assert_int_equal(changes(s, end), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(random_writes_are_folded, setup, teardown),
        cmocka_unit_test_setup_teardown(other_random_writes_are_folded, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_stream_of_a_row_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(equal_subscriptions_share_one_set, setup, teardown),
        cmocka_unit_test_setup_teardown(a_first_reader_who_takes_nothing_keeps_nobody_waiting, setup, teardown),
        cmocka_unit_test_setup_teardown(more_streams_than_can_be_followed_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(long_streams_that_come_in_a_range_are_left_to_a_snapshot, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
