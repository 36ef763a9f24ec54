#include "lazy_view.h"

#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "file.h"
#include "query_run.h"
#include "view_history.h"

#define NOTES_MAX 4096          // touched rows noted by a view that nobody reads
#define NOTES_ALL_MAX (1 << 20) // by all views of an app: past that none notes more than …
#define NOTES_LEAST 64          // … this
#define STRAIN_MAX 5            // times that a difference may take half as long

// ---- steps ---------------------------------------------------------------------------------------------------------

int lazy_steps_add(struct lazy_steps *steps, struct bytes *value)
{
    int err = value->n > QUERY_RESULT_MAX - steps->bytes ? ERR_RESULT_TOO_LARGE : 0;
    if (!err && steps->n == steps->cap) {
        size_t cap = steps->cap ? steps->cap * 2 : 8;
        struct bytes **values = realloc(steps->values, cap * sizeof(struct bytes *));
        if (values) steps->values = values;
        if (values) steps->cap = cap;
        if (!values) err = ERR_NOMEM;
    }
    if (err) {
        bytes_unref(value);
        return err;
    }
    steps->values[steps->n++] = value;
    steps->bytes += value->n;
    return 0;
}

static void free_steps(struct lazy_steps *steps)
{
    for (size_t i = 0; i < steps->n; i++)
        bytes_unref(steps->values[i]);
    free(steps->values);
    *steps = (struct lazy_steps){.values = NULL};
}

static int emit(const struct lazy_steps *steps, struct feed_sink *sink)
{
    int err = 0;
    for (size_t i = 0; i < steps->n && !err; i++)
        err = sink->emit(sink, steps->values[i]);
    return err;
}

// ---- opening and closing -------------------------------------------------------------------------------------------

static int listen(struct lazy_view *l)
{
    const struct plan *plan = l->plan;
    int err = 0;
    l->interests = calloc(plan->table_slots, sizeof *l->interests);
    if (!l->interests) return ERR_NOMEM;
    for (uint32_t i = 0; i < plan->table_slots && !err; i++) {
        struct expr *const *conditions;
        size_t count;
        if (!delta_reads(l->delta, i)) continue;
        delta_conditions(l->delta, i, &conditions, &count);
        err = view_listen(&l->v, &l->interests[l->interest_count], plan->tables[i], i, conditions, count);
        if (!err) l->interest_count++;
    }
    return err;
}

int lazy_open(struct view *v, const struct lazy_ops *ops)
{
    struct lazy_view *l = lazy_view_of(v);
    l->ops = ops;
    l->plan = plan_ref(v->q->plan);
    l->params = v->q->params;
    l->settled = v->r->seq;
    // What streams have become by commits of which the rows know nothing is not known of those before.
    if (v->q->texts && v->r->views.published > l->settled) l->settled = v->r->views.published;
    if (v->q->texts) l->lost = l->settled;
    l->ring_from = l->noted_from = l->settled;
    bool scans = false;
    int err = delta_share(v->r, l->plan, &l->delta, NULL);
    if (!err) err = delta_scans(l->delta, &scans, NULL);
    if (!err) err = listen(l);
    v->scanned = v->scanned || scans;
    v->texts = !err && v->q->texts;
    v->r->views.texts += v->texts;
    if (err) lazy_close(v);
    return err;
}

static void drop_oldest(struct lazy_view *l)
{
    struct lazy_kept *kept = &l->ring[l->ring_head++];
    l->ring_count--;
    l->ring_bytes -= kept->steps.bytes;
    l->v.r->views.ring_bytes -= kept->steps.bytes;
    l->ring_from = kept->last;
    free_steps(&kept->steps);
}

static void drop_ring(struct lazy_view *l, uint64_t seq)
{
    while (l->ring_count > 0)
        drop_oldest(l);
    l->ring_from = seq;
}

void lazy_close(struct view *v)
{
    struct lazy_view *l = lazy_view_of(v);
    for (size_t i = 0; i < l->interest_count; i++)
        interests_remove(v->r->views.interests, &l->interests[i]);
    drop_ring(l, l->ring_from);
    free(l->interests);
    free(l->ring);
    v->r->views.notes -= l->note_cap;
    free(l->notes);
    delta_free(l->delta);
    plan_unref(l->plan);
    arena_free(l->arena);
    v->r->views.texts -= v->texts;
}

// ---- plans ---------------------------------------------------------------------------------------------------------

int lazy_plan_for(struct lazy_view *l, uint64_t at)
{
    struct rows *r = l->v.r;
    struct plan *plan = NULL;
    struct arena *arena = NULL;
    struct value *params = NULL;
    struct delta *delta = NULL;
    if (plan_holds(l->plan, r, at)) return 0;
    int err = query_plan_for(r, l->v.q, at, &plan, &arena, &params, NULL);
    if (!err) err = delta_share(r, plan, &delta, NULL);
    if (err) {
        plan_unref(plan);
        arena_free(arena);
        return err;
    }
    delta_free(l->delta);
    plan_unref(l->plan);
    arena_free(l->arena);
    l->plan = plan;
    l->arena = arena;
    l->params = params;
    l->delta = delta;
    return 0;
}

int lazy_difference(struct lazy_view *l, const struct lazy_range *range, size_t *budget, struct delta_sink *sink)
{
    struct delta_states states = {.before = {.r = l->v.r, .txn = range->txn, .at = range->from}, .after = {.r = l->v.r, .txn = range->txn, .at = range->to}};
    int err = lazy_plan_for(l, range->from);
    states.params = l->params;
    states.end_us = lazy_deadline(l);
    return err ? err : delta_run(l->delta, &states, range->rows, budget, sink, NULL);
}

// ---- time ----------------------------------------------------------------------------------------------------------

// Views are many, and each difference holds up all of the app: together they have ALL_US, which come back by a quarter of the time that goes by. Who needs no more
// than LEAST_US has that in any case, whatever others do.
#define ALL_US UINT64_C(1000000)
#define COMES_BACK 4
#define LEAST_US UINT64_C(5000)

uint64_t lazy_deadline(const struct lazy_view *l)
{
    const struct rows *r = l->v.r;
    uint64_t most = r->views.difference_us, us = most >> l->strain, left = ALL_US - (r->views.spent_us < ALL_US ? r->views.spent_us : ALL_US);
    uint64_t least = most < LEAST_US ? most : LEAST_US;
    if (us > left) us = left;
    return view_deadline(us > least ? us : least);
}

static void spend(struct rows *r, uint64_t begin_us)
{
    uint64_t now = clock_mono_us(), back = (now - r->views.spent_at_us) / COMES_BACK;
    r->views.spent_us -= back < r->views.spent_us ? back : r->views.spent_us;
    r->views.spent_us += now - begin_us;
    r->views.spent_at_us = now;
}

// ---- notes ---------------------------------------------------------------------------------------------------------

static void drop_notes(struct lazy_view *l)
{
    l->v.r->views.notes -= l->note_cap;
    free(l->notes);
    l->notes = NULL;
    l->note_count = l->note_cap = 0;
}

// Readers who never read cost each view of theirs little, but they may have very many.
static bool notes_full(const struct lazy_view *l)
{
    if (l->note_count < l->note_cap) return false;
    return l->note_count >= NOTES_MAX || (l->note_count >= NOTES_LEAST && l->v.r->views.notes >= NOTES_ALL_MAX);
}

static int note(struct lazy_view *l, uint64_t seq, uint32_t slot, struct uuid id)
{
    if (notes_full(l)) { // who reads looks through the commits instead
        l->note_count = 0;
        l->noted_from = seq;
    }
    if (l->note_count == l->note_cap) {
        size_t cap = l->note_cap ? l->note_cap * 2 : 8;
        struct lazy_note *notes = realloc(l->notes, cap * sizeof *notes);
        if (!notes) return ERR_NOMEM;
        l->v.r->views.notes += cap - l->note_cap;
        l->notes = notes;
        l->note_cap = cap;
    }
    size_t at = l->note_count++;
    while (at > 0 && l->notes[at - 1].seq > seq)
        at--;
    memmove(l->notes + at + 1, l->notes + at, (l->note_count - 1 - at) * sizeof *l->notes);
    l->notes[at] = (struct lazy_note){.seq = seq, .row = {.slot = slot, .id = id}};
    return 0;
}

// A stream has grown by one or more of the commits that were just published, nobody says which: it counts from the first of them to the last. What a stream
// has lost cannot be compared with any more.
static int note_grown(struct lazy_view *l, uint64_t seq, uint32_t slot, const struct row_change *c)
{
    uint64_t before = l->v.r->views.published_before, first = (before > l->settled ? before : l->settled) + 1;
    if (!delta_reads_text(l->delta, slot)) return 0;
    view_touch(&l->v, seq);
    if (c->trimmed) l->noted_from = seq;
    int err = first < seq ? note(l, first, slot, c->id) : 0;
    return err ? err : note(l, seq, slot, c->id);
}

// Do the conditions on the slot's row alone hold? Where that cannot be told, the difference will see.
static bool may_count(const struct lazy_view *l, uint32_t slot, struct uuid id, const struct row *row)
{
    struct expr_row rows[EXPR_TABLES_MAX] = {[0] = {.row = NULL}};
    struct problem p = PROBLEM_NONE;
    struct expr_env env = {.rows = rows, .params = l->params, .scratch = l->v.r->scratch, .p = &p};
    struct expr *const *conditions;
    size_t count;
    bool may = row_live(row);
    rows[slot] = (struct expr_row){.id = id, .row = row};
    delta_conditions(l->delta, slot, &conditions, &count);
    for (size_t i = 0; i < count && may; i++) {
        struct value value;
        arena_clear(env.scratch);
        may = expr_eval(conditions[i], &env, &value) != 0 || (!value.null && value.b);
    }
    return may;
}

int lazy_row(struct view *v, struct interest *heard, uint64_t seq, const struct row_change *c)
{
    struct lazy_view *l = lazy_view_of(v);
    if (c->grown) return note_grown(l, seq, heard->slot, c);
    if (!delta_concerns(l->delta, heard->slot, c->old, c->new)) return 0;
    if (!may_count(l, heard->slot, c->id, c->old) && !may_count(l, heard->slot, c->id, c->new)) return 0;
    view_touch(v, seq);
    // Its streams go with it: what their text made of it before cannot be found out any more.
    if (v->q->texts_decide && delta_reads_text(l->delta, heard->slot) && row_live(c->old) && !row_live(c->new)) l->noted_from = seq;
    return note(l, seq, heard->slot, c->id);
}

static size_t notes_to(const struct lazy_view *l, uint64_t to)
{
    size_t n = 0;
    while (n < l->note_count && l->notes[n].seq <= to)
        n++;
    return n;
}

static void forget_notes(struct lazy_view *l, uint64_t to)
{
    size_t n = notes_to(l, to);
    l->note_count -= n;
    if (n > 0 && l->note_count > 0) memmove(l->notes, l->notes + n, l->note_count * sizeof *l->notes);
    if (l->note_count == 0 && l->note_cap > NOTES_LEAST) drop_notes(l);
}

// ---- touched rows --------------------------------------------------------------------------------------------------

struct touched {
    const struct plan *plan;
    struct delta_rows *rows;
};

static int add_touched(void *ctx, uint64_t seq, const struct commit_rows *row)
{
    struct touched *t = ctx;
    (void)seq;
    return delta_rows_add_table(t->rows, t->plan, row->table, row->id);
}

struct heard {
    struct delta_rows *rows;
    uint32_t slot;
};

static int add_heard(void *ctx, struct uuid id)
{
    const struct heard *h = ctx;
    return delta_rows_add(h->rows, h->slot, id);
}

// What the interests would have heard of. *reached, 0: that is not known.
static int from_interests(struct lazy_view *l, struct db_txn *txn, uint64_t from, uint64_t to, size_t rows_max, struct delta_rows *rows, uint64_t *reached)
{
    int err = 0;
    uint64_t one = to;
    *reached = to;
    for (size_t i = 0; i < l->interest_count && *reached > 0 && !err; i++) {
        err = view_history_of(l->v.r, txn, &l->interests[i], from, *reached, rows_max, NULL, NULL, &one);
        *reached = one;
    }
    for (size_t i = 0; i < l->interest_count && *reached > 0 && !err; i++) {
        err = view_history_of(l->v.r, txn, &l->interests[i], from, *reached, SIZE_MAX, add_heard, &(struct heard){rows, l->interests[i].slot}, &one);
        if (one != *reached) *reached = 0;
    }
    return err;
}

static int from_commits(struct lazy_view *l, struct db_txn *txn, uint64_t from, uint64_t to, size_t rows_max, size_t commits_max,
                        struct delta_rows *rows, uint64_t *reached)
{
    struct touched touched = {.plan = l->plan, .rows = rows};
    int err = from_interests(l, txn, from, to, rows_max, rows, reached);
    if (err || *reached == to || (*reached > 0 && commits_max < SIZE_MAX)) return err;
    delta_rows_free(rows);
    return touched_each(l->v.r, txn, from, to, &rows->n, rows_max, commits_max, add_touched, &touched, reached);
}

static int from_notes(const struct lazy_view *l, size_t n, struct delta_rows *rows)
{
    int err = 0;
    for (size_t i = 0; i < n && !err; i++)
        err = delta_rows_add(rows, l->notes[i].row.slot, l->notes[i].row.id);
    return err;
}

// ---- the ring ------------------------------------------------------------------------------------------------------

static bool ring_room(struct lazy_view *l)
{
    if (l->ring_head + l->ring_count < l->ring_cap) return true;
    if (l->ring_head > 0 && l->ring_head >= l->ring_cap / 2) {
        memmove(l->ring, l->ring + l->ring_head, l->ring_count * sizeof *l->ring);
        l->ring_head = 0;
        return true;
    }
    size_t cap = l->ring_cap ? l->ring_cap * 2 : 8;
    struct lazy_kept *ring = realloc(l->ring, cap * sizeof *ring);
    if (!ring) return false;
    l->ring = ring;
    l->ring_cap = cap;
    return true;
}

// The newest range is kept whatever its size: somebody is about to read it. Where all rings together are too large it goes behind that reader.
static bool ring_over(const struct lazy_view *l)
{
    if (l->ring_count < 2) return false;
    return l->ring_count > VIEW_RING_CHANGES_MAX || l->ring_bytes > VIEW_RING_BYTES_MAX || l->v.r->views.ring_bytes > VIEW_RINGS_BYTES_MAX;
}

// Takes the steps over. A range in which nothing changed in the end is kept, too: there may be readers within it.
static int keep(struct lazy_view *l, uint64_t first, uint64_t last, struct lazy_steps *steps)
{
    if (!ring_room(l)) return ERR_NOMEM;
    l->ring[l->ring_head + l->ring_count++] = (struct lazy_kept){.first = first, .last = last, .steps = *steps};
    l->ring_bytes += steps->bytes;
    l->v.r->views.ring_bytes += steps->bytes;
    *steps = (struct lazy_steps){.values = NULL};
    while (ring_over(l))
        drop_oldest(l);
    return 0;
}

// The first range that leads further than this seq; the end of the ring where there is none.
static size_t range_after(const struct lazy_view *l, uint64_t from)
{
    size_t low = 0, high = l->ring_count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (l->ring[l->ring_head + mid].last <= from) low = mid + 1;
        else high = mid;
    }
    return l->ring_head + low;
}

static size_t ring_end(const struct lazy_view *l)
{
    return l->ring_head + l->ring_count;
}

// Do ranges lead from one of these states to the other?
static bool ring_leads(const struct lazy_view *l, uint64_t from, uint64_t to)
{
    size_t i = range_after(l, from);
    if (from < l->ring_from || to > l->settled) return false;
    if (i < ring_end(l) && l->ring[i].first <= from) return false;
    while (i < ring_end(l) && l->ring[i].last <= to)
        i++;
    return i == ring_end(l) || l->ring[i].first > to;
}

bool lazy_stands_at(const struct lazy_view *l, uint64_t seq)
{
    return seq >= l->ring_from && seq <= l->settled && range_after(l, seq) == ring_end(l);
}

// ---- computing -----------------------------------------------------------------------------------------------------

static bool begins_again(int err)
{
    return err == ERR_QUERY_TOO_EXPENSIVE || err == ERR_RESULT_TOO_LARGE || err == ERR_BAD_VALUE || err == ERR_TOO_OLD || err == ERR_CANCELED;
}

static void lose(struct lazy_view *l, uint64_t to)
{
    drop_ring(l, to);
    forget_notes(l, to);
    l->settled = l->lost = to;
    l->ops->lose(l);
}

static int touched_until(struct lazy_view *l, struct db_txn *txn, uint64_t to, struct delta_rows *rows, uint64_t *first, uint64_t *last)
{
    uint64_t reached;
    size_t n = notes_to(l, to);
    *first = l->settled + 1;
    *last = to;
    if (l->settled < l->noted_from && l->v.texts) return ERR_TOO_OLD; // of streams the commits say nothing
    if (l->settled < l->noted_from) {
        int err = from_commits(l, txn, l->settled, to, QUERY_SCAN_MAX, SIZE_MAX, rows, &reached);
        return !err && reached < to ? ERR_TOO_OLD : err;
    }
    if (n > 0) *first = l->notes[0].seq;
    if (n > 0) *last = l->notes[n - 1].seq;
    return from_notes(l, n, rows);
}

static int compute(struct lazy_view *l, struct db_txn *txn, uint64_t to, struct delta_rows *rows)
{
    struct lazy_steps steps = {.values = NULL};
    uint64_t first, last;
    int err = touched_until(l, txn, to, rows, &first, &last);
    if (!err && rows->n > 0) err = rows_not_too_old(l->v.r, first - 1, NULL);
    if (!err && rows->n > 0) {
        const struct lazy_range range = {.txn = txn, .from = first - 1, .to = to, .rows = rows};
        err = l->ops->advance(l, &range, &steps);
        if (!err) err = keep(l, first, last, &steps);
        free_steps(&steps);
    }
    return err;
}

// Brings the view to this seq. ERR_TOO_OLD: all who are behind it begin again.
static int settle(struct lazy_view *l, struct db_txn *txn, uint64_t to)
{
    struct delta_rows rows = {.rows = NULL};
    if (to <= l->settled) return 0;
    uint64_t begin_us = clock_mono_us();
    int err = compute(l, txn, to, &rows);
    delta_rows_free(&rows);
    spend(l->v.r, begin_us);
    // Where each commit asks for more than can be done, what is tried in vain should cost little beside the snapshots.
    if (err == ERR_QUERY_TOO_EXPENSIVE) l->strain += l->strain < STRAIN_MAX;
    else if (!err) l->strain -= l->strain > 0;
    if (begins_again(err)) {
        lose(l, to);
        return ERR_TOO_OLD;
    }
    if (err) return err;
    forget_notes(l, to);
    l->settled = to;
    return 0;
}

// Of a reader whom the ring does not serve.
static int catch_up(struct lazy_view *l, struct db_txn *txn, uint64_t from, uint64_t to, struct feed_sink *sink)
{
    struct delta_rows rows = {.rows = NULL};
    struct lazy_steps steps = {.values = NULL};
    uint64_t reached = to;
    if (l->v.texts) return ERR_TOO_OLD;
    uint64_t begin_us = clock_mono_us();
    int err = from_commits(l, txn, from, to, QUERY_SCAN_MAX, SIZE_MAX, &rows, &reached);
    if (!err && reached < to) err = ERR_TOO_OLD; // so much has changed that a snapshot is less work
    const struct lazy_range range = {.txn = txn, .from = from, .to = to, .rows = &rows};
    if (!err && rows.n > 0) err = l->ops->catch_up(l, &range, &steps);
    if (!err) err = emit(&steps, sink);
    free_steps(&steps);
    delta_rows_free(&rows);
    spend(l->v.r, begin_us);
    return begins_again(err) ? ERR_TOO_OLD : err;
}

int lazy_changes(struct view *v, struct db_txn *txn, uint64_t from, uint64_t to, struct feed_sink *sink)
{
    struct lazy_view *l = lazy_view_of(v);
    if (from < l->lost) return ERR_TOO_OLD;
    int err = settle(l, txn, from); // where this reader stands a range ends
    if (!err || err == ERR_TOO_OLD) err = settle(l, txn, to);
    if (err && err != ERR_TOO_OLD) v->err = err;
    if (err) return err;
    if (!ring_leads(l, from, to)) return catch_up(l, txn, from, to, sink);
    for (size_t i = range_after(l, from); i < ring_end(l) && l->ring[i].last <= to && !err; i++)
        err = emit(&l->ring[i].steps, sink);
    if (v->r->views.ring_bytes > VIEW_RINGS_BYTES_MAX) drop_ring(l, l->settled);
    return err;
}

// ---- reach ---------------------------------------------------------------------------------------------------------

static int history_reach(struct lazy_view *l, struct db_txn *txn, uint64_t from, uint64_t to, size_t rows_max, uint64_t *reached)
{
    struct delta_rows rows = {.rows = NULL};
    int err = from_commits(l, txn, from, to, rows_max, REACH_COMMITS_MAX, &rows, reached);
    delta_rows_free(&rows);
    return err;
}

// Only to where ranges end: who is within one leaves the ring.
static uint64_t ring_reach(const struct lazy_view *l, uint64_t from, uint64_t to, size_t budget)
{
    size_t bytes = 0;
    for (size_t i = range_after(l, from); i < ring_end(l) && l->ring[i].first <= to; i++) {
        const struct lazy_kept *kept = &l->ring[i];
        bool begun = kept->first <= from; // from history up to its end, and on from there by the ring
        bytes += kept->steps.bytes;
        if (kept->last > to) return begun || kept->first - 1 == from ? to : kept->first - 1;
        if (begun || (bytes > budget && (bytes == kept->steps.bytes || kept->first - 1 <= from))) return kept->last;
        if (bytes > budget) return kept->first - 1;
    }
    return to;
}

static uint64_t notes_reach(const struct lazy_view *l, uint64_t from, uint64_t to, size_t rows_max)
{
    size_t n = 0;
    for (size_t i = 0; i < l->note_count && l->notes[i].seq <= to; i++) {
        if (l->notes[i].seq <= from || ++n <= rows_max) continue;
        return l->notes[i].seq - 1 > from ? l->notes[i].seq - 1 : from + 1;
    }
    return to;
}

int lazy_reach(struct view *v, struct db_txn *txn, uint64_t from, uint64_t to, size_t budget, uint64_t *reached)
{
    struct lazy_view *l = lazy_view_of(v);
    size_t rows_max = budget / CHANGE_BYTES + 1 < REACH_ROWS_MAX ? budget / CHANGE_BYTES + 1 : REACH_ROWS_MAX;
    if (from < l->lost) return ERR_TOO_OLD;
    if (from < l->ring_from || (l->settled < l->noted_from && to > l->settled)) return history_reach(l, txn, from, to, rows_max, reached);
    uint64_t by_ring = ring_reach(l, from, to, budget);
    *reached = by_ring < to ? by_ring : notes_reach(l, from, to, rows_max);
    return 0;
}
