#include "branch_feed.h"

#include <assert.h>
#include <stdlib.h>

#include "app_internal.h"
#include "err.h"
#include "live_result.h"
#include "preview.h"

struct branch_feed {
    struct feed feed; // first
    struct feed_sub sub;
    struct branch_feed *next, *prev; // of the app
    struct app *app;
    struct query *q;
    char name[NAME_MAX_BYTES + 1];
    uint64_t no;
    bool live;
    struct live_result state; // as of state_at: of a snapshot under way with its JSON
    uint64_t state_at;
    size_t sent; // rows of the snapshot
};

static struct branch_feed *feed_of(struct feed_sub *sub)
{
    return (struct branch_feed *)sub->feed;
}

// The branch as it is, if it is still the one that was subscribed to.
static int look(const struct branch_feed *f, struct branch *out)
{
    int err = app_branch(f->app, SPAN_STR(f->name), out);
    return err == 0 && out->no != f->no ? ERR_NO_SUCH_BRANCH : err;
}

static int take(struct branch_feed *f, const struct branch *b, uint64_t seq, struct live_result *out, struct problem *p)
{
    struct rows_preview *v = NULL;
    struct query_source source = {.at = b->live ? seq : b->base};
    int err = app_branch_preview_at(f->app, b, seq, &v, p);
    if (err != 0) return err;
    source.overlay = rows_preview_overlay(v);
    err = source.overlay == NULL ? ERR_NOMEM : live_result_take(app_rows(f->app), app_txn(f->app), f->q, &source, out, p);
    rows_preview_free(v);
    return err;
}

// Has any commit in (from, to] to do with the result?
static int touched(struct branch_feed *f, const struct branch *b, uint64_t from, uint64_t to, bool *out)
{
    struct branch then = *b, now = *b;
    *out = false;
    if (from == to) return 0;
    int err = branch_rewind(f->app->txn, TABLE_BRANCHES, &then, from);
    if (err == 0) err = branch_rewind(f->app->txn, TABLE_BRANCHES, &now, to);
    *out = then.writes != now.writes;
    if (err != 0 || *out || !b->live) return err;
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
    if (*done) live_result_slim(&f->state);
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
    bool any = false;
    int err = touched(f, b, f->state_at < from ? f->state_at : from, f->state_at < from ? from : f->state_at, &any);
    if (err == 0 && any) err = take(f, b, from, &res, NULL);
    if (err != 0) return err;
    if (any) live_result_slim(&res), set_state(f, &res, from);
    else f->state_at = from;
    return 0;
}

static int changes(struct feed_sub *sub, struct db_txn *txn, uint64_t from, uint64_t to, struct feed_sink *sink)
{
    struct branch_feed *f = feed_of(sub);
    struct live_result res = {.rows = NULL};
    struct branch b;
    bool any = false;
    (void)txn;
    int err = look(f, &b);
    if (err == 0) err = go_to(f, &b, from);
    if (err == 0) err = touched(f, &b, from, to, &any);
    if (err != 0 || !any) return err;
    err = take(f, &b, to, &res, NULL);
    if (err == 0) err = live_result_diff(f->q, &f->state, &res, sink);
    live_result_slim(&res);
    if (err == 0) set_state(f, &res, to);
    else live_result_free(&res);
    return err;
}

static void feed_free(struct branch_feed *f)
{
    live_result_free(&f->state);
    query_unref(f->q);
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
static int begin(struct branch_feed *f, struct span branch, uint64_t no, bool resume, uint64_t at, struct problem *p)
{
    struct branch b;
    int err = app_branch(f->app, branch, &b);
    if (err == 0 && b.no != no) err = ERR_NO_SUCH_BRANCH;
    if (err == 0) err = take(f, &b, at, &f->state, p);
    if (err != 0) return err;
    if (resume) live_result_slim(&f->state);
    memcpy(f->name, b.name, sizeof f->name);
    f->no = no;
    f->live = b.live;
    f->state_at = at;
    return 0;
}

int branch_feed_attach(struct app *a, struct query *q, struct span branch, uint64_t no, bool resume, uint64_t at, struct feed_sub **out, struct problem *p)
{
    int err = live_result_fit(q, p);
    if (err != 0) return err;
    if (a->branch_feed_count == BRANCH_SUBSCRIPTIONS_MAX) return problem_set(p, ERR_TOO_MANY, -1, "an app has at most %d subscriptions to branches", BRANCH_SUBSCRIPTIONS_MAX);
    struct branch_feed *f = calloc(1, sizeof *f);
    if (f == NULL) return ERR_NOMEM;
    f->app = a;
    f->q = query_ref(q);
    f->feed.ops = &ops;
    err = begin(f, branch, no, resume, at, p);
    if (err != 0) return feed_free(f), err;
    f->next = a->branch_feeds;
    if (f->next != NULL) f->next->prev = f;
    a->branch_feeds = f;
    a->branch_feed_count++;
    feed_link(&f->feed, &f->sub);
    *out = &f->sub;
    return 0;
}

// A frozen branch hears only of steps of branches, and nobody of what leaves rows and branches as they were.
void branch_feeds_publish(struct app *a)
{
    for (struct branch_feed *f = a->branch_feeds; f != NULL; f = f->next)
        if (a->branches_changed || (f->live && a->rows_changed)) feed_touch(&f->feed, a->visible_seq);
    a->branches_changed = a->rows_changed = false;
}
