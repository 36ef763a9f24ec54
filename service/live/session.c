// The pump: see session.h for the life of a session and PROTOCOL.md, "subscriptions", for its messages.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "branch_feed.h"
#include "bug.h"
#include "checksum.h"
#include "err.h"
#include "log.h"
#include "session_impl.h"

// A connection makes so much at a time, then others have their turn: else one that takes a large snapshot as fast as it comes would keep them all waiting.
#define TURN_BYTES (2 * PART_BYTES_MAX)
#define STEP_BYTES_MIN (4 * KIB) // what a step counts for that finds little: looking takes time, too

// ---- opening ----

static void on_reset(struct app_user *user, int err);
static void on_woken(struct hub_item *item);
static void send(struct session *s, struct message *m);

int session_open(struct session **out, struct hub *hub, struct app *app, const struct session_carrier *ops, void *carrier)
{
    struct session *s = calloc(1, sizeof *s);
    if (s == NULL) return ERR_NOMEM;
    s->app = app;
    s->hub = hub;
    s->ops = ops;
    s->carrier = carrier;
    buf_init(&s->ended, SUBSCRIPTIONS_MAX * (NAME_MAX_SUB + 3));
    app_user_add(app, &s->user, on_reset);
    s->woken.run = on_woken;
    *out = s;
    return 0;
}

// ---- lines ----

static void line_leave(struct subscription *sub)
{
    struct sub_list *l = sub->in;
    if (l == NULL) return;
    if (sub->prev != NULL) sub->prev->next = sub->next;
    else l->first = sub->next;
    if (sub->next != NULL) sub->next->prev = sub->prev;
    else l->last = sub->prev;
    sub->next = sub->prev = NULL;
    sub->in = NULL;
}

// Behind the others. Who is in it already keeps its place.
static void line_join(struct sub_list *l, struct subscription *sub)
{
    if (sub->in == l) return;
    line_leave(sub);
    sub->in = l;
    sub->prev = l->last;
    if (l->last != NULL) l->last->next = sub;
    else l->first = sub;
    l->last = sub;
}

static void become(struct subscription *sub, enum sub_state state)
{
    struct session *s = sub->session;
    if (sub->state == SUB_LIVE) s->live_hash -= sub->hash;
    if (state == SUB_LIVE) s->live_hash += sub->hash;
    sub->state = state;
    if (state == SUB_APART) line_leave(sub);
    else line_join(state == SUB_SNAPSHOT || state == SUB_BEHIND ? &s->aside : &s->touched, sub);
}

static void detach(struct subscription *sub)
{
    become(sub, SUB_APART);
    if (sub->feed != NULL) sub->feed->feed->ops->detach(sub->feed);
    sub->feed = NULL;
}

static void let_go_of(struct subscription *sub)
{
    detach(sub);
    query_unref(sub->query);
    sub->query = NULL;
}

static void sub_free(struct subscription *sub)
{
    let_go_of(sub);
    free((void *)sub->path.p);
    free(sub->follows);
    free(sub->preview);
    free(sub);
}

static void let_go(struct session *s)
{
    for (size_t i = 0; i < s->count; i++)
        let_go_of(s->subs[i]);
    session_drop_parts(s);
    app_user_remove(&s->user);
}

void session_close(struct session *s)
{
    if (s == NULL) return;
    assert(!s->pumping);
    let_go(s);
    hub_drop(&s->woken);
    for (size_t i = 0; i < s->count; i++)
        sub_free(s->subs[i]);
    buf_free(&s->ended);
    free(s->subs);
    free(s);
}

static void over(struct session *s, int err)
{
    if (s->state == SESSION_OVER) return;
    s->state = SESSION_OVER;
    let_go(s);
    s->ops->end(s->carrier, err);
}

static void on_reset(struct app_user *user, int err)
{
    over((struct session *)((char *)user - offsetof(struct session, user)), err);
}

// ---- subscribing ----

static void on_wake(struct feed_sub *feed)
{
    struct subscription *sub = feed->owner;
    if (sub->state == SUB_LIVE) line_join(&sub->session->touched, sub);
    hub_wake(sub->session->hub, &sub->session->woken);
}

static int attach(struct subscription *sub, bool resume, uint64_t at, struct problem *p)
{
    struct session *s = sub->session;
    struct db_txn *txn = app_txn(s->app);
    int err = sub->is_upload       ? blobs_attach_upload(app_blobs(s->app), txn, sub->upload, resume, &sub->feed)
              : sub->branch_no != 0 ? branch_feed_attach(s->app, sub->query, sub->path, sub->branch_no, resume, at, &sub->feed, p)
              : sub->preview != NULL ? preview_feed_attach(s->app, sub->query, sub->preview, resume, at, &sub->feed, p)
              : sub->follow_count > 0 ? result_feed_attach(s->app, sub->query, sub->follows, sub->follow_count, resume, at, &sub->feed, p)
              : sub->query != NULL ? rows_attach(app_rows(s->app), txn, sub->query, &sub->feed, p)
                                   : streams_attach(app_streams(s->app), txn, sub->path, sub->offset, resume, at, &sub->feed, p);
    if (err != 0) return err;
    sub->feed->wake = on_wake;
    sub->feed->owner = sub;
    sub->unread = true;
    sub->at = at;
    sub->begun = false;
    become(sub, resume ? SUB_READY : SUB_SNAPSHOT);
    return 0;
}

static bool name_ok(struct span name)
{
    if (name.n == 0 || name.n > NAME_MAX_SUB) return false;
    for (size_t i = 0; i < name.n; i++) {
        uint8_t c = name.p[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
        if (!ok) return false;
    }
    return true;
}

// Room for one more. Most sessions have one or two of the many that they may have, and there are thousands of sessions.
static int subs_grow(struct session *s)
{
    if (s->count < s->cap) return 0;
    size_t cap = s->cap == 0 ? 1 : 2 * s->cap;
    struct subscription **subs = realloc(s->subs, cap * sizeof *subs);
    if (subs == NULL) return ERR_NOMEM;
    s->subs = subs;
    s->cap = cap;
    return 0;
}

static size_t find(const struct session *s, struct span name)
{
    uint64_t hash = checksum64(name, 1);
    size_t i = 0;
    while (i < s->count && (s->subs[i]->name_hash != hash || !span_is(name, s->subs[i]->name)))
        i++;
    return i;
}

// One that counts only once `added` has taken it in; else its maker frees it.
static int sub_new(struct session *s, struct span name, struct subscription **out, struct problem *p)
{
    if (s->state == SESSION_OVER || app_txn(s->app) == NULL) return ERR_BUSY;
    if (s->count == SUBSCRIPTIONS_MAX) return problem_set(p, ERR_TOO_MANY, -1, "one connection may have %d subscriptions", SUBSCRIPTIONS_MAX);
    if (!name_ok(name)) return problem_set(p, ERR_BAD_PARAMETER, -1, "a subscription's name is 1 to %d letters, digits, - and _", NAME_MAX_SUB);
    if (find(s, name) < s->count) return problem_set(p, ERR_BAD_PARAMETER, -1, "two subscriptions are called %.*s", SPAN_FMT(name));
    struct subscription *sub = subs_grow(s) == 0 ? calloc(1, sizeof *sub) : NULL;
    if (sub == NULL) return ERR_NOMEM;
    sub->session = s;
    sub->hash = sub->name_hash = checksum64(name, 1);
    memcpy(sub->name, name.p, name.n);
    *out = sub;
    return 0;
}

// Takes the subscription over, whatever comes of it: `err` is what became of making it. In a session that runs, its snapshot begins: beside the ranges of
// the others.
static int added(struct session *s, struct subscription *sub, int err, struct problem *p)
{
    if (err == 0 && s->state != SESSION_NEW) err = attach(sub, false, app_visible(s->app), p);
    if (err != 0) {
        sub_free(sub);
        return err;
    }
    s->subs[s->count++] = sub;
    if (s->state != SESSION_NEW) hub_wake(s->hub, &s->woken);
    return 0;
}

static uint64_t value_hash(const struct row_value *v, uint64_t seed)
{
    if (v->kind == ROW_TEXT || v->kind == ROW_JSON) return checksum64(v->s, seed + (uint64_t)v->kind);
    uint64_t bits = 0;
    if (v->kind == ROW_BOOL) bits = v->b;
    else if (v->kind != ROW_NULL) memcpy(&bits, &v->i, sizeof bits); // integer or real, eight bytes either way
    return checksum64(SPAN(&bits, sizeof bits), seed + (uint64_t)v->kind);
}

static uint64_t query_hash(uint64_t hash, struct span sql, const struct row_value *params, size_t param_count)
{
    hash = checksum64(sql, hash);
    for (size_t i = 0; i < param_count; i++)
        hash = value_hash(&params[i], hash);
    return hash;
}

static int copy_path(struct subscription *sub, struct span path)
{
    uint8_t *copy = malloc(path.n);
    if (copy == NULL) return ERR_NOMEM;
    memcpy(copy, path.p, path.n);
    sub->path = SPAN(copy, path.n);
    return 0;
}

static int on_branch(struct subscription *sub, struct span branch, struct problem *p)
{
    struct branch b;
    int err = app_branch(sub->session->app, branch, &b);
    if (err != 0) return problem_set(p, err, -1, "there is no branch %.*s", SPAN_FMT(span_sub(branch, 0, NAME_MAX_BYTES)));
    sub->branch_no = b.no;
    return copy_path(sub, branch);
}

int session_branch_query(struct session *s, struct span name, struct span branch, struct span sql, const struct row_value *params, size_t param_count, struct problem *p)
{
    struct subscription *sub;
    int err = sub_new(s, name, &sub, p);
    if (err != 0) return err;
    err = query_compile(app_rows(s->app), sql, params, param_count, &sub->query, p);
    if (err == 0 && branch.n > 0) err = on_branch(sub, branch, p);
    sub->hash = query_hash(sub->hash + (sub->branch_no << 8), sql, params, param_count); // a branch's number: another one of this name is another subscription
    return added(s, sub, err, p);
}

static int copy_preview(struct subscription *sub, const struct live_preview *preview)
{
    struct live_preview *copy = malloc(sizeof *copy + preview->ops.n);
    if (copy == NULL) return ERR_NOMEM;
    *copy = *preview;
    copy->ops.p = memcpy(copy + 1, preview->ops.p, preview->ops.n);
    sub->preview = copy;
    sub->hash = checksum64(copy->ops, sub->hash + copy->base + 3);
    return 0;
}

int session_preview_query(struct session *s, struct span name, const struct live_preview *preview, struct span sql, const struct row_value *params, size_t param_count, struct problem *p)
{
    struct subscription *sub;
    int err = sub_new(s, name, &sub, p);
    if (err != 0) return err;
    err = query_compile(app_rows(s->app), sql, params, param_count, &sub->query, p);
    sub->hash = query_hash(sub->hash, sql, params, param_count);
    if (err == 0) err = copy_preview(sub, preview);
    return added(s, sub, err, p);
}

static int by_column(const void *a, const void *b)
{
    return span_compare(((const struct result_follow *)a)->column, ((const struct result_follow *)b)->column);
}

// In one block, and in one order, in whatever order they were asked for.
static int copy_follows(struct subscription *sub, const struct result_follow *follows, size_t count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += follows[i].column.n;
    struct result_follow *copy = malloc(count * sizeof *copy + bytes);
    if (copy == NULL) return ERR_NOMEM;
    uint8_t *names = (uint8_t *)(copy + count);
    for (size_t i = 0; i < count; i++) {
        struct span column = follows[i].column;
        memcpy(names, column.p, column.n);
        copy[i] = (struct result_follow){.column = SPAN(names, column.n), .start = follows[i].start};
        names += column.n;
    }
    qsort(copy, count, sizeof *copy, by_column);
    sub->follows = copy;
    sub->follow_count = count;
    for (size_t i = 0; i < count; i++)
        sub->hash = checksum64(copy[i].column, sub->hash + copy[i].start + 1);
    return 0;
}

int session_follow_query(struct session *s, struct span name, struct span sql, const struct row_value *params, size_t param_count, const struct result_follow *follows, size_t follow_count,
                         struct problem *p)
{
    struct subscription *sub;
    assert(follow_count > 0);
    int err = sub_new(s, name, &sub, p);
    if (err != 0) return err;
    err = query_compile(app_rows(s->app), sql, params, param_count, &sub->query, p);
    if (err == 0) err = result_feed_check(sub->query, follows, follow_count, p);
    sub->hash = query_hash(sub->hash, sql, params, param_count);
    if (err == 0) err = copy_follows(sub, follows, follow_count);
    return added(s, sub, err, p);
}

int session_query(struct session *s, struct span name, struct span sql, const struct row_value *params, size_t param_count, struct problem *p)
{
    return session_branch_query(s, name, SPAN_NONE, sql, params, param_count, p);
}

int session_stream(struct session *s, struct span name, struct span path, uint64_t offset, struct problem *p)
{
    struct subscription *sub;
    int err = sub_new(s, name, &sub, p);
    if (err != 0) return err;
    bool fits = path.n > 0 && path.n <= STREAM_PATH_MAX;
    err = fits ? copy_path(sub, path) : problem_set(p, ERR_BAD_PARAMETER, -1, "a stream's path has 1 to %d bytes", STREAM_PATH_MAX);
    sub->offset = offset;
    sub->hash = checksum64(path, sub->hash + 1); // not what a query of the same text makes of it
    return added(s, sub, err, p);
}

int session_upload(struct session *s, struct span name, struct uuid id, struct problem *p)
{
    struct subscription *sub;
    int err = sub_new(s, name, &sub, p);
    if (err != 0) return err;
    sub->is_upload = true;
    sub->upload = id;
    sub->hash = checksum64(SPAN(id.b, sizeof id.b), sub->hash + 2); // nor what a query or a stream would
    return added(s, sub, 0, p);
}

// Takes one out, without a word.
static void leave(struct session *s, size_t at)
{
    sub_free(s->subs[at]);
    s->count--;
    memmove(s->subs + at, s->subs + at + 1, (s->count - at) * sizeof *s->subs);
}

int session_unsubscribe(struct session *s, struct span name, struct problem *p)
{
    size_t at = find(s, name), n = s->ended.n;
    if (s->state == SESSION_OVER) return ERR_BUSY;
    if (at == s->count) return problem_set(p, ERR_BAD_PARAMETER, -1, "no subscription is called %.*s", SPAN_FMT(span_sub(name, 0, NAME_MAX_SUB)));
    buf_printf(&s->ended, "%s\"%s\"", n == 0 ? "" : ",", s->subs[at]->name);
    if (s->ended.err != 0) { // a client that reads nothing and goes on like this
        buf_truncate(&s->ended, n);
        s->ended.err = 0;
        return problem_set(p, ERR_TOO_MANY, -1, "too many subscriptions have ended that were not told yet");
    }
    leave(s, at);
    if (s->state != SESSION_NEW) hub_wake(s->hub, &s->woken);
    return 0;
}

// ---- snapshots ----

static int begin_snapshot(struct session *s, bool losing, struct problem *p)
{
    s->state = SESSION_SNAPSHOT;
    s->sent = s->told = app_visible(s->app);
    for (size_t i = 0; i < s->count; i++) {
        struct subscription *sub = s->subs[i];
        int err = attach(sub, false, s->sent, p);
        if (losing) sub->lost = err;
        if (err != 0 && (!losing || s->ops->lost == NULL)) return err;
        sub->awaited = true;
    }
    return 0;
}

// What was known of the client's state no longer helps. What cannot begin again as it did, for its offset is that of another stream, is over.
static int restart(struct session *s, const char *reason)
{
    buf_clear(&s->ended);
    for (size_t i = 0; i < s->count; i++)
        detach(s->subs[i]);
    int err = session_put_reset(s, reason);
    if (err == 0) err = begin_snapshot(s, true, NULL);
    for (size_t i = s->count; i > 0 && err == 0; i--) {
        if (s->subs[i - 1]->lost == 0) continue;
        s->ops->lost(s->carrier, s->subs[i - 1]->name, s->subs[i - 1]->lost);
        leave(s, i - 1);
    }
    return err;
}

// The first that is not yet where the others are. Until those are ready with which the session began, they alone are looked at: they are the first in line.
static struct subscription *beside(struct session *s)
{
    struct subscription *sub = s->aside.first;
    return sub != NULL && (sub->awaited || s->state == SESSION_LIVE) ? sub : NULL;
}

// Joins if what it lacks fits into a range; else it is told of a part of that, by itself.
static int catch_up(struct session *s, struct subscription *sub)
{
    uint64_t reached = s->sent;
    if (sub->at < s->sent && sub->feed->changed <= sub->at) sub->at = s->sent; // nothing of it has changed since
    // It may be ahead, too: this session reads slowly.
    int err = sub->at >= s->sent ? 0 : sub_note(sub, sub->feed->feed->ops->reach(sub->feed, app_txn(s->app), sub->at, s->sent, COMMIT_BYTES_MAX, &reached));
    if (err != 0) return err;
    if (reached >= s->sent) {
        become(sub, SUB_READY);
        return 0;
    }
    err = session_put_catchup(s, sub, reached);
    if (err == 0) sub->at = reached;
    return err;
}

static int step_beside(struct session *s, struct subscription *sub)
{
    bool done = false;
    if (sub->state == SUB_BEHIND) return catch_up(s, sub);
    size_t before = s->made;
    int err = session_put_snapshot(s, sub, &done);
    if (done) become(sub, SUB_BEHIND);
    else if (s->made < before + PART_BYTES_MAX) s->made = before + PART_BYTES_MAX; // it looked at so much that it was cut short
    return err;
}

// ---- ranges ----

// In `touched` stay those of whom the range after `sent` may tell something.
static void settle(struct session *s)
{
    for (struct subscription *sub = s->touched.first, *next; sub != NULL; sub = next) {
        next = sub->next;
        if (!sub_touched(s, sub)) line_leave(sub);
    }
}

static int range_end(struct session *s, uint64_t *to)
{
    size_t busy = 0;
    for (struct subscription *sub = s->touched.first; sub != NULL; sub = sub->next)
        busy += sub_touched(s, sub);
    for (struct subscription *sub = s->touched.first; sub != NULL && *to > s->sent + 1; sub = sub->next) {
        uint64_t from = sub->state == SUB_READY && sub->at > s->sent ? sub->at : s->sent;
        if (from >= *to || !sub_touched(s, sub)) continue;
        uint64_t reached = *to;
        int err = sub_note(sub, sub->feed->feed->ops->reach(sub->feed, app_txn(s->app), from, *to, COMMIT_BYTES_MAX / busy, &reached));
        if (err != 0) return err;
        assert(reached > from && reached <= *to);
        *to = reached;
    }
    return 0;
}

// Whether the range after `sent` looks the same to whoever else has this one feed under this name, and is at this place.
static bool is_like_others(const struct session *s, struct message_range *out)
{
    const struct subscription *sub = s->count == 1 ? s->subs[0] : NULL;
    if (sub == NULL || sub->state != SUB_LIVE || s->ended.n > 0 || s->parts != NULL) return false;
    *out = (struct message_range){.from = s->sent, .told = s->told, .visible = app_visible(s->app), .hash = sub->hash, .name = sub->name};
    return true;
}

static bool take_shared(struct session *s)
{
    struct message_range range;
    uint64_t to;
    struct message *m = is_like_others(s, &range) ? message_find(s->subs[0]->feed->feed, &range, &to) : NULL;
    if (m == NULL) return false;
    if (to == range.visible) s->subs[0]->unread = false;
    s->sent = s->told = to;
    send(s, m);
    return true;
}

// Who is ready and not ahead of it goes live with the range up to `to`.
static void begin_joining(struct session *s, uint64_t to)
{
    for (struct subscription *sub = s->touched.first; sub != NULL; sub = sub->next) {
        sub->joining = sub->state == SUB_READY && sub->at <= to;
        if (sub->joining) become(sub, SUB_LIVE);
    }
}

static void end_joining(struct session *s, uint64_t to, bool told)
{
    bool all = to == app_visible(s->app);
    for (struct subscription *sub = s->touched.first; sub != NULL; sub = sub->next) {
        if (sub->joining && !told) become(sub, SUB_READY);
        if (told && sub->state == SUB_LIVE) sub->awaited = false;
        if (told && sub->state == SUB_LIVE && all) sub->unread = false;
        sub->joining = false;
    }
}

static int take_range(struct session *s)
{
    struct message_range range;
    uint64_t to = app_visible(s->app);
    bool told = false, alike = is_like_others(s, &range);
    int err = range_end(s, &to);
    if (err != 0) return err;
    begin_joining(s, to);
    err = session_put_range(s, to, &told);
    end_joining(s, to, err == 0);
    if (err != 0) return err;
    if (told) s->told = to;
    buf_clear(&s->ended);
    s->sent = to;
    settle(s);
    if (alike && told && s->parts == s->parts_last) message_keep(s->subs[0]->feed->feed, &range, s->parts->message, to);
    return 0;
}

// ---- the pump ----

static bool has_range(struct session *s)
{
    uint64_t visible = app_visible(s->app);
    if (s->state != SESSION_LIVE) return false;
    if (s->ended.n > 0) return true;
    for (struct subscription *sub = s->touched.first, *next; sub != NULL; sub = next) {
        next = sub->next;
        if (sub->state == SUB_READY || (s->sent < visible && sub_touched(s, sub))) return true;
        if (!sub_touched(s, sub)) line_leave(sub);
    }
    s->sent = visible;
    return false;
}

static bool has_more(struct session *s)
{
    return s->state == SESSION_SNAPSHOT || has_range(s) || (s->state == SESSION_LIVE && beside(s) != NULL);
}

// One of them cannot go on. What was made in this step goes away with it, and is made again for the others.
static int lose(struct session *s, int err)
{
    size_t i = 0;
    while (i < s->count && s->subs[i]->lost == 0)
        i++;
    if (i == s->count || s->ops->lost == NULL) return err;
    char name[NAME_MAX_SUB + 1];
    memcpy(name, s->subs[i]->name, sizeof name);
    session_drop_parts(s);
    s->ops->lost(s->carrier, name, s->subs[i]->lost);
    return session_unsubscribe(s, SPAN_STR(name), NULL);
}

// Ranges and pieces of snapshots take turns: neither waits for the end of the other. An end is told before anything of a new subscription, which may have the same name.
static int step(struct session *s)
{
    if (s->state == SESSION_SNAPSHOT && beside(s) == NULL) s->state = SESSION_LIVE;
    struct subscription *sub = beside(s);
    bool range = has_range(s);
    bool aside = sub != NULL && (!range || (s->beside_next && s->ended.n == 0));
    s->made += STEP_BYTES_MIN;
    int err = aside ? step_beside(s, sub) : range && !take_shared(s) ? take_range(s) : 0;
    s->beside_next = !aside;
    if (err != ERR_TOO_OLD) return err != 0 ? lose(s, err) : 0;
    session_drop_parts(s);
    return restart(s, "too_old");
}

static void send(struct session *s, struct message *m)
{
    if (s->ops->send_shared != NULL) s->full = !s->ops->send_shared(s->carrier, m);
    else s->full = !s->ops->send(s->carrier, bytes_span(m->json), m->cursor[0] != '\0' ? m->cursor : NULL);
}

static bool send_parts(struct session *s)
{
    while (s->parts != NULL && !s->full) {
        struct part *p = s->parts;
        s->parts = p->next;
        if (s->parts == NULL) s->parts_last = NULL;
        send(s, p->message);
        message_unref(p->message);
        free(p);
    }
    return s->parts == NULL;
}

static void pump(struct session *s)
{
    if (s->pumping || s->state == SESSION_NEW || s->state == SESSION_OVER || app_txn(s->app) == NULL) return;
    int err = 0;
    s->pumping = true;
    s->made = 0;
    while (err == 0 && s->state != SESSION_OVER && !s->full && (!send_parts(s) || has_more(s))) {
        if (s->full || s->parts != NULL) continue;
        if (s->made >= TURN_BYTES) {
            hub_later(s->hub, &s->woken);
            break;
        }
        err = step(s);
    }
    s->pumping = false;
    if (err == 0 || s->state == SESSION_OVER) return;
    // A branch that was merged is no fault.
    if (err != ERR_NO_SUCH_BRANCH) log_warn("session", "a subscription failed", LF_STR("app", app_name(s->app)), LF_ERR(err));
    over(s, err);
}

const char *session_lost(const struct session *s)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->subs[i]->lost != 0) return s->subs[i]->name;
    return NULL;
}

const char *session_why(int err)
{
    return err == ERR_BAD_VALUE ? "the query cannot be evaluated on what was committed; asked once, it says where" : err_text(err);
}

void session_drain(struct session *s)
{
    s->full = false;
    pump(s);
}

static void on_woken(struct hub_item *item)
{
    pump((struct session *)((char *)item - offsetof(struct session, woken)));
}

// ---- starting ----

// Takes one field of a cursor, up to the next dot, off its front.
static struct span field(struct span *rest)
{
    const uint8_t *dot = rest->n == 0 ? NULL : memchr(rest->p, '.', rest->n);
    size_t n = dot == NULL ? rest->n : (size_t)(dot - rest->p);
    struct span f = SPAN(rest->p, n);
    *rest = span_sub(*rest, dot == NULL ? n : n + 1, SIZE_MAX);
    return f;
}

static int number(struct span s, int base, uint64_t *out)
{
    char text[24] = {0};
    char *end;
    if (s.n == 0 || s.n >= sizeof text || s.p[0] == '-' || s.p[0] == '+' || s.p[0] == ' ') return ERR_BAD_CURSOR;
    memcpy(text, s.p, s.n);
    *out = strtoull(text, &end, base);
    return *end == '\0' ? 0 : ERR_BAD_CURSOR;
}

static int parse_cursor(struct span cursor, struct uuid *journal, uint64_t *seq, uint64_t *hash)
{
    struct span version = field(&cursor), id = field(&cursor), at = field(&cursor), set = field(&cursor);
    if (!span_is(version, "1") || cursor.n != 0 || uuid_parse(journal, id) != 0) return ERR_BAD_CURSOR;
    int err = number(at, 10, seq);
    return err != 0 ? err : number(set, 16, hash);
}

static int resume(struct session *s, uint64_t seq, struct problem *p)
{
    s->state = SESSION_LIVE;
    s->sent = s->told = seq;
    if (bug("skip_range") && seq < app_visible(s->app)) s->sent = ++seq;
    for (size_t i = 0; i < s->count; i++) {
        int err = attach(s->subs[i], true, seq, p);
        if (err != 0) return err;
    }
    return 0;
}

int session_start(struct session *s, struct span cursor, struct problem *p)
{
    struct uuid journal;
    uint64_t seq, hash;
    assert(s->state == SESSION_NEW);
    if (app_txn(s->app) == NULL) return ERR_BUSY;
    if (cursor.n > 0 && parse_cursor(cursor, &journal, &seq, &hash) != 0) return problem_set(p, ERR_BAD_CURSOR, -1, "this is not a cursor of this service");
    uint64_t set = 0;
    for (size_t i = 0; i < s->count; i++)
        set += s->subs[i]->hash;
    const char *reason = NULL;
    if (cursor.n > 0 && !uuid_equal(journal, app_journal_id(s->app))) reason = "other_journal";
    else if (cursor.n > 0 && seq > app_visible(s->app)) reason = "seq_ahead";
    else if (cursor.n > 0 && hash != set) reason = "other_subscriptions";
    int err = reason != NULL ? session_put_reset(s, reason) : 0;
    if (err != 0) return err;
    err = cursor.n > 0 && reason == NULL ? resume(s, seq, p) : begin_snapshot(s, false, p);
    if (err == ERR_TOO_OLD) err = restart(s, "too_old");
    if (err == 0) err = session_put_welcome(s); // in front: what it says of subscriptions is known now
    if (err != 0) return err;
    hub_wake(s->hub, &s->woken);
    return 0;
}
