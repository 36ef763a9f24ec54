#include "result_feed.h"

#include <assert.h>
#include <stdlib.h>

#include "app_internal.h"
#include "err.h"
#include "file.h"
#include "json_write.h"
#include "result_set.h"

// What one range told, for the next reader who is at the same place.
struct told_range {
    uint64_t from, to; // the same: nothing is kept
    struct bytes **values;
    size_t count, cap, bytes;
};
#define TOLD_BYTES_MAX (64 * KIB)
#define TOLD_VALUES_MAX 256

#define FILL_US 500000 // that the set may take to be filled at once

struct result_feed {
    struct feed feed; // first
    struct result_feed *next, *stale_next;
    struct app *app;
    struct query *q;
    struct feed_sub *rows; // hears of the result for all readers
    struct result_column columns[FOLLOW_COLUMNS_MAX];
    size_t column_count;
    struct result_set set; // of the streams in the result as of …
    uint64_t at;           // … this commit
    bool stale;            // rows have changed since: it is among the stale
    bool complete;         // the set is: until then nobody reads ranges
    struct result_sub *builder; // whose snapshot fills it
    struct told_range told_range;
    uint64_t begun;        // when it was made
    uint64_t told;         // who was told of what, in one publishing
    int err;               // sticky
};

struct result_sub {
    struct feed_sub sub; // first
    // A snapshot under way: the rows that were read and not sent, from `next` on, and behind the row of this key its streams.
    struct feed_sub *rows; // its reader
    uint64_t at;
    struct bytes **pending;
    size_t next, count, cap;
    bool rows_done;
    struct bytes *row; // whose streams come now; NULL: none's
    struct span key;   // lies in it
    size_t column;
    struct stream_place place;
};

static struct result_feed *feed_of(struct feed_sub *sub)
{
    return (struct result_feed *)sub->feed;
}

// ---- a stream's values in a result ---------------------------------------------------------------------------------

// Passes a stream's values on with what they are about in front.
struct about {
    struct feed_sink sink; // first
    struct feed_sink *out;
    struct buf text; // the front, and behind it the value
    size_t front;
    size_t sent;
};

static int about_emit(struct feed_sink *sink, struct bytes *value)
{
    struct about *a = (struct about *)sink;
    buf_truncate(&a->text, a->front);
    buf_put_str(&a->text, ",");
    buf_put_span(&a->text, span_sub(bytes_span(value), 1, SIZE_MAX)); // its members
    struct bytes *whole = a->text.err != 0 ? NULL : bytes_new(buf_span(&a->text));
    if (whole == NULL) return ERR_NOMEM;
    int err = a->out->emit(a->out, whole);
    a->sent += whole->n;
    bytes_unref(whole);
    return err;
}

static void about_init(struct about *a, const struct result_column *c, struct span key, struct feed_sink *out)
{
    struct jw w;
    *a = (struct about){.sink = {.emit = about_emit}, .out = out};
    buf_init(&a->text, 8 * BATCH_BYTES_MAX);
    jw_init(&w, &a->text);
    jw_object(&w);
    jw_key(&w, "stream"), jw_str(&w, c->of.name);
    jw_key(&w, "of"), jw_str(&w, key);
    a->front = a->text.n;
}

static void about_free(struct about *a)
{
    buf_free(&a->text);
}

// ---- the set -------------------------------------------------------------------------------------------------------

struct filler {
    struct feed_sink sink; // first
    struct result_feed *f;
};

static int fill_one(struct feed_sink *sink, struct bytes *value)
{
    struct result_feed *f = ((struct filler *)sink)->f;
    struct span key;
    if (!row_value_key(bytes_span(value), f->set.keyed, &key)) return ERR_CORRUPT;
    return result_set_add(&f->set, key, 0);
}

static void stale_in(struct result_feed *f)
{
    if (f->stale) return;
    f->stale = true;
    f->stale_next = f->app->result_feeds_stale;
    f->app->result_feeds_stale = f;
}

static void stale_out(struct result_feed *f)
{
    struct result_feed **at = &f->app->result_feeds_stale;
    while (f->stale && *at != f)
        at = &(*at)->stale_next;
    if (f->stale) *at = f->stale_next;
    f->stale = false;
}

// From here on who is touched is told. Readers whose snapshot is older find that out by reading on.
static void completed(struct result_feed *f)
{
    f->complete = true;
    for (struct feed_sub *sub = f->feed.subs; sub != NULL; sub = sub->next)
        if (sub->changed < app_visible(f->app)) sub->changed = app_visible(f->app);
}

// Anew, from the result as it is. What takes longer than the app may wait is better filled by a snapshot, in steps: the readers begin again.
static int fill(struct result_feed *f, struct db_txn *txn)
{
    struct filler filler = {.sink = {.emit = fill_one}, .f = f};
    bool done = false;
    int err = 0;
    result_set_clear(&f->set);
    stale_out(f);
    f->builder = NULL;
    f->at = f->set.known_from = app_visible(f->app);
    uint64_t end_us = clock_mono_us() + FILL_US;
    while (err == 0 && !done)
        err = clock_mono_us() > end_us ? ERR_TOO_OLD : f->rows->feed->ops->snapshot(f->rows, txn, f->at, PART_BYTES_MAX, &filler.sink, &done);
    if (err == 0) completed(f);
    return err;
}

static int settle(struct result_feed *f, const struct row_traces *traces, uint64_t seq)
{
    int err = 0;
    for (const struct row_trace *t = traces->first; t != NULL && err == 0; t = t->next) {
        struct span key = row_trace_key(t);
        if (t->came || !t->is) result_set_remove(&f->set, key);
        if (t->came && t->is) err = result_set_add(&f->set, key, seq);
    }
    return err;
}

static int trace(struct result_feed *f, struct db_txn *txn, uint64_t from, uint64_t to, struct feed_sink *out, struct row_traces *traces)
{
    int err = row_traces_init(traces, f->set.keyed, out);
    if (err == 0 && from < to) err = f->rows->feed->ops->changes(f->rows, txn, from, to, &traces->sink);
    if (err != 0) row_traces_free(traces);
    return err;
}

static int go_on(struct result_feed *f, struct db_txn *txn, uint64_t to)
{
    struct row_traces traces;
    int err = trace(f, txn, f->at, to, NULL, &traces);
    if (err != 0) return err;
    err = settle(f, &traces, to);
    f->at = to;
    stale_out(f);
    row_traces_free(&traces);
    return err;
}

// To the result as it is.
static int advance(struct result_feed *f, struct db_txn *txn)
{
    uint64_t to = app_visible(f->app);
    if (f->err != 0) return f->err;
    if (f->complete && !f->stale) f->at = to;
    if (f->complete && f->at == to) {
        stale_out(f);
        return 0;
    }
    int err = f->complete ? go_on(f, txn, to) : ERR_TOO_OLD;
    if (err == ERR_TOO_OLD) err = fill(f, txn);
    if (err == 0) return 0;
    // Half of a set would leave streams out without a word. Who subscribes again gets another feed.
    result_set_clear(&f->set);
    stale_out(f);
    f->err = err;
    return err;
}

static void on_touched(struct result_set *set, uint64_t seq)
{
    struct result_feed *f = (struct result_feed *)((char *)set - offsetof(struct result_feed, set));
    if (f->told == seq) return;
    f->told = seq;
    feed_touch(&f->feed, seq);
}

static void on_rows(struct feed_sub *sub)
{
    struct result_feed *f = sub->owner;
    stale_in(f);
    feed_touch(&f->feed, sub->changed);
}

// ---- snapshot ------------------------------------------------------------------------------------------------------

struct keeper {
    struct feed_sink sink; // first
    struct result_sub *s;
};

static int keep_row(struct feed_sink *sink, struct bytes *value)
{
    struct result_sub *s = ((struct keeper *)sink)->s;
    if (s->count == s->cap) {
        size_t cap = s->cap == 0 ? 64 : 2 * s->cap;
        struct bytes **pending = realloc(s->pending, cap * sizeof(struct bytes *));
        if (pending == NULL) return ERR_NOMEM;
        s->pending = pending;
        s->cap = cap;
    }
    s->pending[s->count++] = bytes_ref(value);
    return 0;
}

static void snapshot_drop(struct result_sub *s)
{
    while (s->next < s->count)
        bytes_unref(s->pending[s->next++]);
    bytes_unref(s->row);
    free(s->pending);
    s->pending = NULL;
    s->row = NULL;
    s->next = s->count = s->cap = 0;
    s->rows_done = false;
}

static void snapshot_end(struct result_sub *s)
{
    snapshot_drop(s);
    if (s->rows != NULL) s->rows->feed->ops->detach(s->rows);
    s->rows = NULL;
}

// The first reader's snapshot fills the set as it goes. What has become of its rows meanwhile is made up for at the end.
static int build_end(struct result_feed *f, struct result_sub *s, struct db_txn *txn)
{
    if (f->builder != s) return advance(f, txn);
    f->builder = NULL;
    f->at = f->set.known_from = s->at;
    completed(f);
    stale_in(f);
    return advance(f, txn);
}

static void build_drop(struct result_feed *f, const struct result_sub *s)
{
    if (f->builder == s) result_set_clear(&f->set);
}

static int next_row(struct result_feed *f, struct result_sub *s, struct feed_sink *sink, size_t *sent)
{
    s->row = s->pending[s->next++];
    s->column = 0;
    s->place = (struct stream_place){0};
    *sent += s->row->n;
    if (!row_value_key(bytes_span(s->row), f->set.keyed, &s->key)) return ERR_CORRUPT;
    int err = f->builder == s ? result_set_find(&f->set, s->key, s->at) : 0;
    return err != 0 ? err : sink->emit(sink, s->row);
}

// A piece of the stream that the row has in its next column; behind the last one the row is done.
static int next_piece(struct result_feed *f, struct result_sub *s, struct db_txn *txn, size_t budget, struct feed_sink *sink, size_t *sent)
{
    uint8_t room[STREAM_PATH_MAX];
    struct buf path = {.p = room, .cap = sizeof room, .max = sizeof room};
    struct about about;
    bool done = true;
    int err = 0;
    const struct result_column *c = &f->columns[s->column];
    if (result_column_path(c, s->key, &path)) {
        about_init(&about, c, s->key, sink);
        err = streams_tell_state(f->app->streams, txn, buf_span(&path), c->start, s->at, &s->place, budget, &about.sink, &done);
        *sent += about.sent;
        about_free(&about);
    }
    if (err != 0 || !done) return err;
    if (++s->column < f->column_count) return 0;
    bytes_unref(s->row);
    s->row = NULL;
    return 0;
}

static int more_rows(struct result_sub *s, struct db_txn *txn, size_t budget)
{
    struct keeper k = {.sink = {.emit = keep_row}, .s = s};
    s->next = s->count = 0;
    return s->rows->feed->ops->snapshot(s->rows, txn, s->at, budget, &k.sink, &s->rows_done);
}

static int snapshot(struct feed_sub *sub, struct db_txn *txn, uint64_t at, size_t budget, struct feed_sink *sink, bool *done)
{
    struct result_sub *s = (struct result_sub *)sub;
    struct result_feed *f = feed_of(sub);
    size_t sent = 0;
    int err = 0;
    assert(s->rows != NULL);
    if (s->at != at) snapshot_drop(s), build_drop(f, s);
    s->at = at;
    bool fetched = false; // a run may look for long without finding anything
    while (err == 0 && sent < budget) {
        if (s->row != NULL) err = next_piece(f, s, txn, budget - sent, sink, &sent);
        else if (s->next < s->count) err = next_row(f, s, sink, &sent);
        else if (s->rows_done || fetched) break;
        else err = more_rows(s, txn, budget), fetched = true;
    }
    if (err != 0) return err;
    *done = s->rows_done && s->row == NULL && s->next == s->count;
    if (!*done) return 0;
    snapshot_end(s);
    return build_end(f, s, txn);
}

// ---- ranges --------------------------------------------------------------------------------------------------------

// What the streams that moved have for a reader at `from`, up to `to`: counted until it is more than `budget`.
static int bytes_between(struct result_feed *f, struct db_txn *txn, uint64_t from, uint64_t to, size_t budget, uint64_t *bytes)
{
    int err = 0;
    *bytes = 0;
    for (const struct result_member *m = f->set.newest; m != NULL && m->moved > from && *bytes <= budget && err == 0; m = m->older) {
        uint64_t n = 0;
        err = streams_tell_bytes(f->app->streams, txn, result_member_path(m), f->columns[m->column].start, from, to, &n);
        *bytes += n;
    }
    return err;
}

static int reach(struct feed_sub *sub, struct db_txn *txn, uint64_t from, uint64_t to, size_t budget, uint64_t *reached)
{
    struct result_feed *f = feed_of(sub);
    uint64_t bytes = 0;
    assert(from < to);
    int err = advance(f, txn);
    if (err == 0) err = result_set_learn(&f->set, from);
    if (err == 0) err = f->rows->feed->ops->reach(f->rows, txn, from, to, budget, &to);
    if (err == 0) err = bytes_between(f, txn, from, to, budget, &bytes);
    while (err == 0 && bytes > budget && to > from + 1) {
        to = from + (to - from) / 2;
        err = bytes_between(f, txn, from, to, budget, &bytes);
    }
    if (err == 0) *reached = to;
    return err;
}

// What one range tells of streams.
struct range {
    struct result_feed *f;
    struct db_txn *txn;
    uint64_t from, to;
    struct feed_sink *out;
    const struct row_traces *rows;
    uint64_t brought; // bytes of streams whose rows came
};

// Where a row's stream begins for those to whom the row comes in this range.
static uint64_t start_of(const struct range *r, const struct result_column *c, struct span path, const struct stream_info *now)
{
    struct stream_info then;
    if (c->start != RESULT_FOLLOW_END) return c->start;
    bool known = streams_find_at(r->f->app->streams, r->txn, path, r->from, &then);
    return known && then.number == now->number ? then.offset : 0;
}

// What is longer than a range may be is better sent in pieces, as a snapshot.
static int tell_whole(struct range *r, const struct result_column *c, struct span key, struct span path)
{
    struct streams *s = r->f->app->streams;
    struct stream_place place = {0};
    struct stream_info now;
    struct about about;
    bool done;
    if (!streams_find_at(s, r->txn, path, r->to, &now)) return 0;
    uint64_t start = start_of(r, c, path, &now);
    if (now.offset > start) r->brought += now.offset - start;
    if (r->brought > FOLLOW_BROUGHT_MAX) return ERR_TOO_OLD;
    about_init(&about, c, key, r->out);
    int err = streams_tell_state(s, r->txn, path, start, r->to, &place, SIZE_MAX, &about.sink, &done);
    about_free(&about);
    return err;
}

static int tell_moved(struct range *r, const struct result_column *c, struct span key, struct span path)
{
    struct about about;
    uint64_t start = c->start != RESULT_FOLLOW_END ? c->start : 0; // who has the row has had it all since
    about_init(&about, c, key, r->out);
    int err = streams_tell_changes(r->f->app->streams, r->txn, path, start, r->from, r->to, &about.sink);
    about_free(&about);
    return err;
}

static int tell_row(struct range *r, struct span key, int (*tell)(struct range *r, const struct result_column *c, struct span key, struct span path))
{
    uint8_t room[STREAM_PATH_MAX];
    struct buf path = {.p = room, .cap = sizeof room, .max = sizeof room};
    int err = 0;
    for (size_t i = 0; i < r->f->column_count && err == 0; i++)
        if (result_column_path(&r->f->columns[i], key, &path)) err = tell(r, &r->f->columns[i], key, buf_span(&path));
    return err;
}

static int tell_those_that_came(struct range *r)
{
    int err = 0;
    for (const struct row_trace *t = r->rows->first; t != NULL && err == 0; t = t->next)
        if (t->came && t->is) err = tell_row(r, row_trace_key(t), tell_whole);
    return err;
}

// The set is of the present, which may be behind the range: `since` is what became of its rows from there on.
static int tell_those_that_stayed(struct range *r, const struct row_traces *since)
{
    int err = 0;
    for (const struct result_member *m = r->f->set.newest; m != NULL && m->moved > r->from && err == 0; m = m->older) {
        struct span key = result_member_key(m);
        const struct row_trace *here = row_traces_find(r->rows, key), *later = row_traces_find(since, key);
        if ((here != NULL && here->came) || (later != NULL && !later->was)) continue;
        err = tell_moved(r, &r->f->columns[m->column], key, result_member_path(m));
    }
    for (const struct row_trace *t = since->first; t != NULL && err == 0; t = t->next) {
        const struct row_trace *here = row_traces_find(r->rows, row_trace_key(t));
        if (!t->was || t->is || (here != NULL && here->came)) continue;
        err = tell_row(r, row_trace_key(t), tell_moved);
    }
    return err;
}

static int tell_streams(struct range *r)
{
    struct row_traces since;
    int err = result_set_learn(&r->f->set, r->from);
    bool later = r->f->rows->changed > r->to || r->to < r->f->begun;
    if (err == 0) err = trace(r->f, r->txn, later ? r->to : r->f->at, r->f->at, NULL, &since);
    if (err != 0) return err;
    err = tell_those_that_came(r);
    if (err == 0) err = tell_those_that_stayed(r, &since);
    row_traces_free(&since);
    return err;
}

static int tell_range(struct result_feed *f, struct db_txn *txn, uint64_t from, uint64_t to, struct feed_sink *sink)
{
    struct row_traces rows;
    int err = trace(f, txn, from, to, sink, &rows);
    if (err != 0) return err;
    err = tell_streams(&(struct range){.f = f, .txn = txn, .from = from, .to = to, .out = sink, .rows = &rows});
    row_traces_free(&rows);
    return err;
}

// ---- one range for several readers ---------------------------------------------------------------------------------

static void told_range_drop(struct told_range *r)
{
    for (size_t i = 0; i < r->count; i++)
        bytes_unref(r->values[i]);
    free(r->values);
    *r = (struct told_range){.from = 0};
}

struct recorder {
    struct feed_sink sink; // first
    struct feed_sink *out;
    struct told_range range;
    bool over; // it is more than is kept
};

static bool record_room(struct told_range *r)
{
    if (r->count < r->cap) return true;
    size_t cap = r->cap == 0 ? 8 : 2 * r->cap;
    struct bytes **values = realloc(r->values, cap * sizeof(struct bytes *));
    if (values == NULL) return false;
    r->values = values;
    r->cap = cap;
    return true;
}

static int record(struct feed_sink *sink, struct bytes *value)
{
    struct recorder *k = (struct recorder *)sink;
    struct told_range *r = &k->range;
    k->over = k->over || r->count == TOLD_VALUES_MAX || r->bytes + value->n > TOLD_BYTES_MAX || !record_room(r);
    if (!k->over) {
        r->values[r->count++] = bytes_ref(value);
        r->bytes += value->n;
    }
    return k->out->emit(k->out, value);
}

// Readers who have other subscriptions beside this one do not share messages, but what those are made of.
static int tell_and_keep(struct result_feed *f, struct db_txn *txn, uint64_t from, uint64_t to, struct feed_sink *sink)
{
    struct recorder k = {.sink = {.emit = record}, .out = sink, .range = {.from = from, .to = to}};
    int err = tell_range(f, txn, from, to, &k.sink);
    if (err != 0 || k.over) told_range_drop(&k.range);
    told_range_drop(&f->told_range);
    f->told_range = k.range;
    return err;
}

static int tell_again(const struct told_range *r, struct feed_sink *sink)
{
    int err = 0;
    for (size_t i = 0; i < r->count && err == 0; i++)
        err = sink->emit(sink, r->values[i]);
    return err;
}

static int changes(struct feed_sub *sub, struct db_txn *txn, uint64_t from, uint64_t to, struct feed_sink *sink)
{
    struct result_feed *f = feed_of(sub);
    assert(from <= to);
    int err = from == to ? 0 : advance(f, txn);
    if (err != 0 || from == to) return err;
    assert(to <= f->at);
    if (f->told_range.from == from && f->told_range.to == to) return tell_again(&f->told_range, sink);
    bool alone = f->feed.subs->next == NULL;
    return alone ? tell_range(f, txn, from, to, sink) : tell_and_keep(f, txn, from, to, sink);
}

// ---- attaching -----------------------------------------------------------------------------------------------------

static void feed_free(struct result_feed *f)
{
    for (struct result_feed **at = &f->app->result_feeds; *at != NULL; at = &(*at)->next) {
        if (*at != f) continue;
        *at = f->next;
        break;
    }
    stale_out(f);
    told_range_drop(&f->told_range);
    if (f->set.all != NULL) result_set_close(&f->set);
    if (f->rows != NULL) f->rows->feed->ops->detach(f->rows);
    query_unref(f->q);
    free(f);
}

static void detach(struct feed_sub *sub)
{
    struct result_feed *f = feed_of(sub);
    snapshot_end((struct result_sub *)sub);
    build_drop(f, (struct result_sub *)sub);
    if (f->builder == (struct result_sub *)sub) f->builder = NULL;
    feed_unlink(sub);
    if (f->feed.subs == NULL) feed_free(f);
    free(sub);
}

static const struct feed_ops ops = {
    .kind = "query",
    .snapshot = snapshot,
    .reach = reach,
    .changes = changes,
    .detach = detach,
};

int result_feed_check(const struct query *q, const struct result_follow *follows, size_t count, struct problem *p)
{
    struct rows_stream_column c;
    int err = count > FOLLOW_COLUMNS_MAX ? problem_set(p, ERR_TOO_MANY, -1, "a subscription follows at most %d columns", FOLLOW_COLUMNS_MAX) : 0;
    for (size_t i = 0; i < count && err == 0; i++) {
        for (size_t k = 0; k < i && err == 0; k++)
            if (span_equal(follows[k].column, follows[i].column)) err = problem_set(p, ERR_BAD_PARAMETER, -1, "the column %.*s is followed twice", SPAN_FMT(span_sub(follows[i].column, 0, NAME_MAX_BYTES)));
        if (err == 0) err = query_stream_column(q, follows[i].column, &c, p);
    }
    return err;
}

// Readers of one view who follow the same have one feed. (Of equal queries the view is the same.)
static struct result_feed *feed_find(struct app *a, const struct feed *view, const struct result_follow *follows, size_t count)
{
    for (struct result_feed *f = a->result_feeds; f != NULL; f = f->next) {
        bool same = f->rows->feed == view && f->column_count == count && f->err == 0;
        for (size_t i = 0; i < count && same; i++)
            same = span_equal(f->columns[i].of.name, follows[i].column) && f->columns[i].start == follows[i].start;
        if (same) return f;
    }
    return NULL;
}

static int feed_new(struct app *a, struct query *q, const struct result_follow *follows, size_t count, struct result_feed **out, struct problem *p)
{
    struct result_feed *f = calloc(1, sizeof *f);
    if (f == NULL) return ERR_NOMEM;
    *f = (struct result_feed){.feed = {.ops = &ops}, .app = a, .q = query_ref(q), .column_count = count};
    int err = rows_attach(a->rows, a->txn, q, &f->rows, p);
    for (size_t i = 0; i < count && err == 0; i++) {
        f->columns[i].start = follows[i].start;
        err = query_stream_column(q, follows[i].column, &f->columns[i].of, p);
    }
    f->set.columns = f->columns;
    f->set.column_count = count;
    f->set.keyed = query_keyed(q);
    f->set.touched = on_touched;
    f->begun = app_visible(a);
    if (err == 0) err = result_set_open(&f->set, a);
    if (err != 0) {
        feed_free(f);
        return err;
    }
    f->rows->owner = f;
    f->rows->wake = on_rows;
    f->next = a->result_feeds;
    a->result_feeds = f;
    *out = f;
    return 0;
}

int result_feed_attach(struct app *a, struct query *q, const struct result_follow *follows, size_t count, bool resume, uint64_t at, struct feed_sub **out, struct problem *p)
{
    struct result_sub *s = calloc(1, sizeof *s);
    struct result_feed *f = NULL;
    (void)at; // a reader's place is its own: nothing is kept of it here
    assert(count > 0);
    if (s == NULL) return ERR_NOMEM;
    int err = result_feed_check(q, follows, count, p);
    if (err == 0) err = rows_attach(a->rows, a->txn, q, &s->rows, p);
    if (err == 0) f = feed_find(a, s->rows->feed, follows, count);
    if (err == 0 && f == NULL) err = feed_new(a, q, follows, count, &f, p);
    bool begins = err == 0 && !f->complete && !resume && f->builder == NULL;
    if (err == 0 && resume) err = advance(f, a->txn);
    if (err != 0 || resume) snapshot_end(s);
    if (err != 0) {
        if (f != NULL && f->feed.subs == NULL) feed_free(f);
        free(s);
        if (err == ERR_TOO_MANY) problem_set(p, err, -1, "a result in which streams are followed has at most %d, and all of an app %d", FOLLOWED_STREAMS_MAX, FOLLOWED_STREAMS_APP_MAX);
        return err;
    }
    if (begins) f->builder = s;
    feed_link(&f->feed, &s->sub);
    *out = &s->sub;
    return 0;
}

// The streams of rows that have come are followed from the very commit that brought them: before those of that commit are told of.
void result_feeds_publish(struct app *a)
{
    while (a->result_feeds_stale != NULL) { // behind this it is not among them any more
        if (a->result_feeds_stale->complete) advance(a->result_feeds_stale, a->txn); // what goes wrong its readers meet
        else stale_out(a->result_feeds_stale);
    }
}

size_t result_feeds_streams(const struct app *a)
{
    return a->result_sets == NULL ? 0 : a->result_sets->streams;
}
