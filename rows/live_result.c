#include "live_result.h"

#include <assert.h>
#include <stdlib.h>

#include "checksum.h"
#include "err.h"
#include "json_write.h"
#include "query_live.h"
#include "query_run.h"
#include "view_diff.h"

#define STEP_BYTES (1 * MIB)
#define COMMITS_MAX 4096 // looked through for one that touched the table: past that it is taken for touched
#define ID_AT 7          // of a row's JSON: {"id":"
#define KEY_AT 8         // of a keyed one's: {"key":"
#define ROW_BEHIND 8     // its key: ","row":

int live_result_fit(struct query *q, struct problem *p)
{
    int err = query_make_live(q, p);
    if (err || !q->texts) return err;
    return problem_set(p, ERR_UNSUPPORTED_SQL, -1, "a live query on a branch does not read the text of streams");
}

// ---- taking --------------------------------------------------------------------------------------------------------

struct taker {
    struct feed_sink sink; // first
    struct live_result *out;
    bool keyed;
};

// Rows of one table have their id first.
static int name_row(struct live_row *row, struct span json)
{
    return uuid_parse(&row->id, span_sub(json, ID_AT, UUID_TEXT)) != 0 ? ERR_INTERNAL : 0;
}

// Keys are of letters, digits and what needs no escape.
static int name_keyed(struct live_row *row, struct span json)
{
    struct span key = span_sub(json, KEY_AT, SIZE_MAX);
    const uint8_t *end = key.n > 0 ? memchr(key.p, '"', key.n) : NULL;
    if (!end) return ERR_INTERNAL;
    key.n = (size_t)(end - key.p);
    struct checksum128 sum = checksum128(key, 0);
    memcpy(row->id.b, &sum, sizeof row->id.b);
    row->key = bytes_new(key);
    return row->key ? 0 : ERR_NOMEM;
}

static int take_row(struct feed_sink *sink, struct bytes *value)
{
    bool keyed = ((struct taker *)sink)->keyed;
    struct live_result *res = ((struct taker *)sink)->out;
    res->bytes += value->n;
    if (res->bytes > LIVE_RESULT_BYTES_MAX) return ERR_RESULT_TOO_LARGE;
    if (res->n == res->cap) {
        size_t cap = res->cap ? 2 * res->cap : 16;
        struct live_row *rows = realloc(res->rows, cap * sizeof *rows);
        if (!rows) return ERR_NOMEM;
        res->rows = rows;
        res->cap = cap;
    }
    struct live_row *row = &res->rows[res->n];
    row->key = NULL;
    int err = keyed ? name_keyed(row, bytes_span(value)) : name_row(row, bytes_span(value));
    if (err) return err;
    row->digest = checksum64(bytes_span(value), 0);
    row->json = bytes_ref(value);
    res->n++;
    return 0;
}

static int too_expensive(struct problem *p)
{
    return problem_set(p, ERR_QUERY_TOO_EXPENSIVE, -1, "this live query looks at more than %d rows or keys", LIVE_RESULT_SCAN_MAX);
}

int live_result_take(struct rows *r, struct db_txn *txn, struct query *q, const struct query_source *source, struct live_result *out, struct problem *p)
{
    struct taker taker = {.sink = {.emit = take_row}, .out = out, .keyed = query_keyed(q)};
    struct query_run *run = NULL;
    bool done = false;
    assert(out->n == 0);
    int err = query_open_source(r, txn, q, source, &run, p);
    while (!err && !done) {
        err = query_next(run, txn, STEP_BYTES, &taker.sink, &done);
        if (err && p && query_problem(run)->err) *p = *query_problem(run);
        if (!err && !done && run->run.looked_at > LIVE_RESULT_SCAN_MAX) err = too_expensive(p);
    }
    query_close(run);
    if (err) live_result_free(out);
    return err;
}

void live_result_slim(struct live_result *res)
{
    for (size_t i = 0; i < res->n; i++) {
        bytes_unref(res->rows[i].json);
        res->rows[i].json = NULL;
    }
}

void live_result_free(struct live_result *res)
{
    live_result_slim(res);
    for (size_t i = 0; i < res->n; i++)
        bytes_unref(res->rows[i].key);
    free(res->rows);
    *res = (struct live_result){.rows = NULL};
}

// ---- the difference ------------------------------------------------------------------------------------------------

struct place {
    struct uuid id;
    size_t index; // in the result
};

struct diff {
    const struct query *q;
    const struct live_result *before, *after;
    struct place *old, *new; // by id
    struct uuid *old_ids, *new_ids;
    struct id_set touched;
    struct view_ops ops;
};

static int compare_places(const void *a, const void *b)
{
    return uuid_compare(((const struct place *)a)->id, ((const struct place *)b)->id);
}

static bool list(const struct live_result *res, struct place **places, struct uuid **ids)
{
    *places = malloc((res->n + 1) * sizeof **places);
    *ids = malloc((res->n + 1) * sizeof **ids);
    if (!*places || !*ids) return false;
    for (size_t i = 0; i < res->n; i++) {
        (*places)[i] = (struct place){.id = res->rows[i].id, .index = i};
        (*ids)[i] = res->rows[i].id;
    }
    if (res->n > 1) qsort(*places, res->n, sizeof **places, compare_places);
    return true;
}

static const struct live_row *find(const struct live_result *res, const struct place *places, struct uuid id, size_t *index)
{
    const struct place key = {.id = id}, *found = res->n == 0 ? NULL : bsearch(&key, places, res->n, sizeof *places, compare_places);
    if (!found) return NULL;
    if (index) *index = found->index;
    return &res->rows[found->index];
}

// Rows that look the same and yet have changed places, ordered by a column that is not shown: those outside of a longest run of the others that kept their
// order count as changed. `was` has, in the new order, where the rows of `ids` stood.
static int touch_moved(struct diff *d, const size_t *was, const struct uuid *ids, size_t n)
{
    size_t *ends = malloc(2 * (n + 1) * sizeof *ends), *before = ends ? ends + n + 1 : NULL, length = 0;
    if (!ends) return ERR_NOMEM;
    for (size_t i = 0; i < n; i++) { // ends[k]: where a run of k + 1 ends at the earliest old place
        size_t low = 0, high = length;
        while (low < high) {
            size_t mid = low + (high - low) / 2;
            if (was[ends[mid]] < was[i]) low = mid + 1;
            else high = mid;
        }
        before[i] = low > 0 ? ends[low - 1] : SIZE_MAX;
        ends[low] = i;
        if (low == length) length++;
    }
    int err = 0;
    size_t kept = length > 0 ? ends[length - 1] : SIZE_MAX;
    for (size_t i = n; i-- > 0 && !err;) {
        if (i == kept) kept = before[i];
        else err = id_set_add(&d->touched, ids[i]);
    }
    free(ends);
    return err;
}

static int find_touched(struct diff *d)
{
    size_t n = d->after->n, same = 0;
    size_t *was = malloc((n + 1) * sizeof *was);
    struct uuid *ids = malloc((n + 1) * sizeof *ids);
    int err = was && ids ? 0 : ERR_NOMEM;
    for (size_t i = 0; i < n && !err; i++) {
        const struct live_row *row = &d->after->rows[i], *old = find(d->before, d->old, row->id, &was[same]);
        if (!old) continue;
        if (old->digest != row->digest) err = id_set_add(&d->touched, row->id);
        else ids[same++] = row->id;
    }
    if (!err) err = touch_moved(d, was, ids, same);
    free(ids);
    free(was);
    id_set_sort(&d->touched);
    return err;
}

// The row alone, of a value as snapshots have it.
static struct span row_of(const struct live_row *row)
{
    struct span json = bytes_span(row->json);
    return row->key ? span_sub(json, KEY_AT + row->key->n + ROW_BEHIND, json.n - KEY_AT - row->key->n - ROW_BEHIND - 1) : json;
}

static void put_op(struct diff *d, struct jw *w, const struct view_op *op)
{
    bool leaves = op->kind == VIEW_REMOVED;
    const struct live_row *row = leaves ? find(d->before, d->old, op->id, NULL) : find(d->after, d->new, op->id, NULL);
    struct span key = row->key ? bytes_span(row->key) : SPAN_NONE;
    view_op_begin(w, op, key);
    if (!leaves) jw_raw(w, row_of(row));
    view_op_end(w, op, key, query_ordered(d->q));
}

static int emit_op(struct diff *d, const struct view_op *op, struct feed_sink *sink)
{
    struct buf text;
    struct jw w;
    buf_init(&text, LIVE_RESULT_BYTES_MAX + KIB);
    jw_init(&w, &text);
    put_op(d, &w, op);
    struct bytes *value = text.err ? NULL : bytes_new(buf_span(&text));
    int err = text.err ? text.err : value ? sink->emit(sink, value) : ERR_NOMEM;
    bytes_unref(value);
    buf_free(&text);
    return err;
}

int live_result_diff(const struct query *q, const struct live_result *before, const struct live_result *after, struct feed_sink *sink)
{
    struct diff d = {.q = q, .before = before, .after = after};
    bool listed = list(before, &d.old, &d.old_ids);
    listed = list(after, &d.new, &d.new_ids) && listed;
    int err = listed ? find_touched(&d) : ERR_NOMEM;
    if (!err) err = view_diff(d.old_ids, before->n, d.new_ids, after->n, &d.touched, &d.ops);
    for (size_t i = 0; i < d.ops.n && !err; i++)
        err = emit_op(&d, &d.ops.ops[i], sink);
    view_ops_free(&d.ops);
    id_set_free(&d.touched);
    free(d.old), free(d.new);
    free(d.old_ids), free(d.new_ids);
    return err;
}

// ---- what was touched ----------------------------------------------------------------------------------------------

static int table_touched(struct rows *r, struct db_txn *txn, uint32_t table, uint64_t from, uint64_t to, bool *touched)
{
    struct id_set ids = {.ids = NULL};
    uint64_t reached;
    int err = touched_rows(r, txn, table, from, to, 1, COMMITS_MAX, &ids, &reached);
    *touched = !err && (ids.n > 0 || reached < to);
    id_set_free(&ids);
    return err;
}

int live_result_touched(struct rows *r, struct db_txn *txn, const struct query *q, uint64_t from, uint64_t to, bool *touched)
{
    const struct plan *plan = q->plan;
    int err = 0;
    *touched = false;
    for (size_t slot = 0; slot < plan->table_slots && !err && !*touched; slot++) {
        size_t same = 0;
        while (plan->tables[same] != plan->tables[slot])
            same++;
        if (same == slot) err = table_touched(r, txn, plan->tables[slot], from, to, touched);
    }
    return err;
}
