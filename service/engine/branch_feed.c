#include "branch_feed.h"

#include <assert.h>
#include <stdlib.h>

#include "app_internal.h"
#include "batch_reads.h"
#include "err.h"
#include "live_difference.h"
#include "live_result.h"
#include "preview.h"

struct branch_feed {
    struct feed feed; // first
    struct feed_sub sub;
    struct branch_feed *next, *prev; // of the app
    struct app *app;
    struct query *q;
    struct bytes *ops; // of a preview; NULL: a branch's
    uint64_t base, now_ms;
    char name[NAME_MAX_BYTES + 1];
    uint64_t no;
    bool live; // commits to the app concern it
    bool tells; // its difference follows from the rows that were touched: nothing is kept of it behind the snapshot
    struct live_result state; // as of state_at: of a snapshot under way with its JSON
    uint64_t state_at;
    size_t sent; // rows of the snapshot
};

static struct branch_feed *feed_of(struct feed_sub *sub)
{
    return (struct branch_feed *)sub->feed;
}

// The branch as it is, if it is still the one that was subscribed to. A preview has none.
static int look(const struct branch_feed *f, struct branch *out)
{
    if (f->ops != NULL) return 0;
    int err = app_branch(f->app, SPAN_STR(f->name), out);
    return err == 0 && out->no != f->no ? ERR_NO_SUCH_BRANCH : err;
}

static int lay_ops(struct branch_feed *f, uint64_t seq, struct rows_preview **out, struct problem *p)
{
    struct app *a = f->app;
    struct rows_preview *v = rows_preview_new(app_rows(a), app_txn(a), seq, f->base > 0 && f->base < seq ? f->base : seq, f->now_ms);
    int err = v == NULL ? ERR_NOMEM : batch_preview(v, app_txn(a), bytes_span(f->ops), p);
    if (err == 0) *out = v;
    else rows_preview_free(v);
    return err;
}

// What the query reads as of a commit. The caller frees *v, after a failure too.
static int lay(struct branch_feed *f, const struct branch *b, uint64_t seq, struct rows_preview **v, struct query_source *out, struct problem *p)
{
    int err = f->ops != NULL ? lay_ops(f, seq, v, p) : app_branch_preview_at(f->app, b, seq, v, p);
    if (err != 0) return err;
    *out = (struct query_source){.at = f->live ? seq : b->base, .overlay = rows_preview_overlay(*v)};
    return out->overlay == NULL ? ERR_NOMEM : 0;
}

static int take(struct branch_feed *f, const struct branch *b, uint64_t seq, struct live_result *out, struct problem *p)
{
    struct rows_preview *v = NULL;
    struct query_source source;
    int err = lay(f, b, seq, &v, &source, p);
    if (err == 0) err = live_result_take(app_rows(f->app), app_txn(f->app), f->q, &source, out, p);
    rows_preview_free(v);
    return err;
}

// Was the branch written to?
static int written(struct branch_feed *f, const struct branch *b, uint64_t from, uint64_t to, bool *out)
{
    struct branch then = *b, now = *b;
    int err = branch_rewind(f->app->txn, TABLE_BRANCHES, &then, from);
    if (err == 0) err = branch_rewind(f->app->txn, TABLE_BRANCHES, &now, to);
    *out = then.writes != now.writes;
    return err;
}

// Has any commit in (from, to] to do with the result? *laid: one to what lies over the store.
static int touched(struct branch_feed *f, const struct branch *b, uint64_t from, uint64_t to, bool *out, bool *laid)
{
    int err = 0;
    *out = *laid = false;
    if (from == to) return 0;
    if (f->ops == NULL) err = written(f, b, from, to, laid);
    *out = *laid;
    if (err != 0 || *out || !f->live) return err;
    return live_result_touched(app_rows(f->app), app_txn(f->app), f->q, from, to, out);
}

static void set_state(struct branch_feed *f, struct live_result *res, uint64_t seq)
{
    live_result_free(&f->state);
    f->state = *res;
    f->state_at = seq;
}

// ---- the feed ------------------------------------------------------------------------------------------------------

static int snapshot(struct feed_sub *sub, struct db_txn *txn, uint64_t at, size_t budget, struct feed_sink *sink, bool *done)
{
    struct branch_feed *f = feed_of(sub);
    struct branch b;
    size_t bytes = 0;
    int err = look(f, &b);
    (void)txn;
    assert(at == f->state_at);
    for (; f->sent < f->state.n && bytes < budget && err == 0; f->sent++) {
        struct bytes *json = f->state.rows[f->sent].json;
        bytes += json->n;
        err = sink->emit(sink, json);
    }
    *done = err == 0 && f->sent == f->state.n;
    if (*done && f->tells) live_result_free(&f->state);
    else if (*done) live_result_slim(&f->state);
    return err;
}

// A result is small: all of it may change in one range.
static int reach(struct feed_sub *sub, struct db_txn *txn, uint64_t from, uint64_t to, size_t budget, uint64_t *reached)
{
    struct branch b;
    (void)txn, (void)from, (void)budget;
    *reached = to;
    return look(feed_of(sub), &b);
}

// What a range was made for and did not go out may have led the state beyond `from`.
static int go_to(struct branch_feed *f, const struct branch *b, uint64_t from)
{
    struct live_result res = {.rows = NULL};
    bool any, laid;
    int err = touched(f, b, f->state_at < from ? f->state_at : from, f->state_at < from ? from : f->state_at, &any, &laid);
    if (err == 0 && any) err = take(f, b, from, &res, NULL);
    if (err != 0) return err;
    if (any) live_result_slim(&res), set_state(f, &res, from);
    else f->state_at = from;
    return 0;
}

// From what is kept to what the query gives now.
static int compare_kept(struct branch_feed *f, const struct branch *b, uint64_t to, struct feed_sink *sink)
{
    struct live_result res = {.rows = NULL};
    int err = take(f, b, to, &res, NULL);
    if (err == 0) err = live_result_diff(f->q, &f->state, &res, sink);
    live_result_slim(&res);
    if (err == 0) set_state(f, &res, to);
    else live_result_free(&res);
    return err;
}

// Both looked up: more rows may differ than are gone through one by one.
static int compare_whole(struct branch_feed *f, const struct branch *b, uint64_t from, uint64_t to, struct feed_sink *sink)
{
    struct live_result then = {.rows = NULL}, now = {.rows = NULL};
    int err = take(f, b, from, &then, NULL);
    if (err == 0) err = take(f, b, to, &now, NULL);
    if (err == 0) err = live_result_diff(f->q, &then, &now, sink);
    live_result_free(&then);
    live_result_free(&now);
    return err;
}

static int tell_difference(struct branch_feed *f, const struct branch *b, uint64_t from, uint64_t to, bool laid, struct feed_sink *sink)
{
    struct rows_preview *then = NULL, *now = NULL;
    struct live_states states = {.laid = laid};
    int err = lay(f, b, from, &then, &states.before, NULL);
    if (err == 0) err = lay(f, b, to, &now, &states.after, NULL);
    if (err == 0) err = live_difference(app_rows(f->app), app_txn(f->app), f->q, &states, sink);
    rows_preview_free(then);
    rows_preview_free(now);
    return err == ERR_QUERY_TOO_EXPENSIVE || err == ERR_RESULT_TOO_LARGE ? compare_whole(f, b, from, to, sink) : err;
}

static int changes(struct feed_sub *sub, struct db_txn *txn, uint64_t from, uint64_t to, struct feed_sink *sink)
{
    struct branch_feed *f = feed_of(sub);
    struct branch b;
    bool any = false, laid = false;
    (void)txn;
    int err = look(f, &b);
    if (err == 0 && !f->tells) err = go_to(f, &b, from);
    if (err == 0) err = touched(f, &b, from, to, &any, &laid);
    if (err != 0 || !any) return err;
    return f->tells ? tell_difference(f, &b, from, to, laid, sink) : compare_kept(f, &b, to, sink);
}

static void feed_free(struct branch_feed *f)
{
    live_result_free(&f->state);
    query_unref(f->q);
    bytes_unref(f->ops);
    free(f);
}

static void detach(struct feed_sub *sub)
{
    struct branch_feed *f = feed_of(sub);
    struct app *a = f->app;
    feed_unlink(sub);
    if (f->prev != NULL) f->prev->next = f->next;
    else a->branch_feeds = f->next;
    if (f->next != NULL) f->next->prev = f->prev;
    a->branch_feed_count--;
    feed_free(f);
}

static const struct feed_ops ops = {
    .kind = "query",
    .snapshot = snapshot,
    .reach = reach,
    .changes = changes,
    .detach = detach,
};

// ---- attaching -----------------------------------------------------------------------------------------------------

// The first result is looked up at once: what cannot be told is refused before anything is.
static int begin(struct branch_feed *f, const struct branch *b, bool resume, uint64_t at, struct problem *p)
{
    int err = take(f, b, at, &f->state, p);
    if (err == 0 && resume) live_result_slim(&f->state);
    f->state_at = at;
    return err;
}

static int on_branch(struct branch_feed *f, struct span branch, uint64_t no, struct branch *b)
{
    int err = app_branch(f->app, branch, b);
    if (err == 0 && b->no != no) err = ERR_NO_SUCH_BRANCH;
    if (err != 0) return err;
    memcpy(f->name, b->name, sizeof f->name);
    f->no = no;
    f->live = b->live;
    return 0;
}

static int feed_new(struct app *a, struct query *q, struct branch_feed **out, struct problem *p)
{
    int err = live_result_fit(q, p);
    if (err != 0) return err;
    if (a->branch_feed_count == BRANCH_SUBSCRIPTIONS_MAX) return problem_set(p, ERR_TOO_MANY, -1, "an app has at most %d subscriptions to branches and previews", BRANCH_SUBSCRIPTIONS_MAX);
    struct branch_feed *f = calloc(1, sizeof *f);
    if (f == NULL) return ERR_NOMEM;
    f->app = a;
    f->q = query_ref(q);
    f->tells = live_difference_tells(q);
    f->feed.ops = &ops;
    *out = f;
    return 0;
}

static void feed_add(struct branch_feed *f, struct feed_sub **out)
{
    struct app *a = f->app;
    f->next = a->branch_feeds;
    if (f->next != NULL) f->next->prev = f;
    a->branch_feeds = f;
    a->branch_feed_count++;
    feed_link(&f->feed, &f->sub);
    *out = &f->sub;
}

int branch_feed_attach(struct app *a, struct query *q, struct span branch, uint64_t no, bool resume, uint64_t at, struct feed_sub **out, struct problem *p)
{
    struct branch_feed *f;
    struct branch b;
    int err = feed_new(a, q, &f, p);
    if (err != 0) return err;
    err = on_branch(f, branch, no, &b);
    if (err == 0) err = begin(f, &b, resume, at, p);
    if (err == 0) feed_add(f, out);
    else feed_free(f);
    return err;
}

int preview_feed_attach(struct app *a, struct query *q, const struct live_preview *preview, bool resume, uint64_t at, struct feed_sub **out, struct problem *p)
{
    struct branch_feed *f;
    int err = feed_new(a, q, &f, p);
    if (err != 0) return err;
    f->live = true;
    f->ops = bytes_new(preview->ops);
    f->base = preview->base;
    f->now_ms = preview->now_ms;
    err = f->ops != NULL ? begin(f, NULL, resume, at, p) : ERR_NOMEM;
    if (err == 0) feed_add(f, out);
    else feed_free(f);
    return err;
}

// A frozen branch hears only of steps of branches, and nobody of what leaves rows and branches as they were.
void branch_feeds_publish(struct app *a)
{
    for (struct branch_feed *f = a->branch_feeds; f != NULL; f = f->next)
        if (a->branches_changed || (f->live && a->rows_changed)) feed_touch(&f->feed, a->visible_seq);
    a->branches_changed = a->rows_changed = false;
}
