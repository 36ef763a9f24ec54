#include "subs_run.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

#include "err.h"
#include "file.h"
#include "json_write.h"
#include "log.h"
#include "stream_headers.h"
#include "subs_run_impl.h"
#include "webhook_sign.h"

#define RECORD_MAX (16 * KIB)
#define OP_MAX (8 * MIB)
#define REFUSED_MS 200      // after a step that was refused
#define RECENT_MAX 100000   // changed streams of one group that are kept; beyond, all are looked at
#define SWEEP_STREAMS 2000  // looked at in one step …
#define LOOKS_MAX 50000u    // … and how often a stream is held against a subscription, before others have their turn
#define SWEEP_MS 5          // between two steps
#define EXPECT_MS 60000     // after which one that was to be made has been, or will not be
#define TOKEN_BYTES 32

// A step on its way. Lives until it is answered, whatever becomes of the subscription meanwhile.
struct sub_step_run {
    struct submission submission; // first
    struct follow *f;             // NULL: nobody waits
    struct buf batch;
    enum sub_step step;
    char token[SUB_TOKEN_MAX];
};

// ---- words ----------------------------------------------------------------------------------------------------------

void sub_wake_id(struct uuid wake, char text[SUB_WAKE_ID_TEXT])
{
    text[0] = 'w';
    text[1] = '_';
    uuid_format(wake, text + 2);
}

struct sha256 sub_token_hash(struct span token)
{
    return sha256_of(token);
}

struct sha256 sub_token_new(char token[SUB_TOKEN_MAX])
{
    uint8_t secret[TOKEN_BYTES];
    random_bytes(secret, sizeof secret);
    hex_format(token, SPAN(secret, sizeof secret));
    token[2 * TOKEN_BYTES] = '\0';
    explicit_bzero(secret, sizeof secret);
    return sub_token_hash(SPAN_STR(token));
}

void sub_stream_json(struct jw *w, struct span path, const struct sub_cursor *c, bool pending)
{
    char text[STREAM_OFFSET_TEXT];
    jw_object(w);
    jw_key(w, "path"), jw_str(w, path);
    jw_key(w, "link_type"), jw_cstr(w, c->by_name ? "explicit" : "glob");
    stream_offset_text(c->acked, text);
    jw_key(w, "acked_offset"), jw_cstr(w, text);
    if (pending) {
        stream_offset_text(c->tail, text);
        jw_key(w, "tail_offset"), jw_cstr(w, text);
        jw_key(w, "has_pending"), jw_bool(w, sub_cursor_pending(c));
    }
    jw_end(w);
}

// ---- what has something new -----------------------------------------------------------------------------------------

static void pending_add(struct follow *f, struct span path)
{
    if (path_set_add(&f->pending, path) != 0) f->missed = true;
}

// Is there really something new in the one at this place? What has none is let go.
static bool pending_check(struct follow *f, size_t i, struct sub_cursor *c)
{
    if (app_sub_cursor(f->app->app, &f->sub, path_set_at(&f->pending, i), c) == 0 && sub_cursor_pending(c)) return true;
    path_set_remove_at(&f->pending, i);
    return false;
}

// One of them. Where none is left but some were missed, all streams are looked at again.
static bool pending_pick(struct follow *f, struct span *path)
{
    struct sub_cursor c;
    while (f->pending.count > 0) {
        if (!pending_check(f, f->pending.count - 1, &c)) continue;
        *path = path_set_at(&f->pending, f->pending.count - 1);
        return true;
    }
    if (f->missed) f->app->sweeping = true;
    return false;
}

void follow_snapshot(struct follow *f, struct jw *w, struct buf *acks)
{
    struct sub_cursor c;
    size_t told = 0;
    for (size_t i = 0; i < f->pending.count && told < SUB_WAKE_STREAMS_MAX;) {
        if (!pending_check(f, i, &c)) continue; // another is at this place now
        struct span path = path_set_at(&f->pending, i++);
        sub_stream_json(w, path, &c, true);
        if (acks != NULL) buf_put_blob(acks, path), buf_put_varint(acks, c.tail);
        told++;
    }
}

// ---- coming and going -----------------------------------------------------------------------------------------------

static void arm(struct subs_run *r, uint64_t at_ms);

static bool same_wake(const struct sub *a, const struct sub *b)
{
    return a->born == b->born && a->generation == b->generation && uuid_equal(a->wake, b->wake) && (a->state == SUB_IDLE) == (b->state == SUB_IDLE);
}

static void follow_free(struct follow *f)
{
    struct follow **place = &f->app->first;
    while (*place != f)
        place = &(*place)->next;
    *place = f->next;
    if (f->step != NULL) f->step->f = NULL;
    delivery_detach(f);
    path_set_free(&f->names);
    path_set_free(&f->pending);
    buf_free(&f->record);
    buf_free(&f->acks);
    explicit_bzero(f->token, sizeof f->token);
    free(f);
}

static bool add_name(void *ctx, struct span path)
{
    struct follow *f = ctx;
    if (path_set_add(&f->names, path) != 0) f->missed = true;
    pending_add(f, path); // whether it has something new is asked when it matters
    return true;
}

// A copy of the record as it is shown now. The links by name are read again: they are few, and change seldom.
static int follow_take(struct follow *f, const struct sub *s)
{
    struct follow old = *f;
    uint8_t id[SUB_ID_MAX];
    memcpy(id, s->id.p, s->id.n);
    struct buf record;
    buf_init(&record, RECORD_MAX);
    sub_encode(&record, s);
    size_t at = record.n;
    buf_put(&record, id, s->id.n);
    struct sub new;
    struct subs_glob glob = {0};
    int err = record.err != 0 ? record.err : sub_decode(SPAN(record.p, at), SPAN(record.p + at, s->id.n), &new);
    if (err == 0 && new.pattern.n > 0 && subs_glob_init(&glob, new.pattern) != 0) err = ERR_CORRUPT;
    if (err != 0) {
        buf_free(&record);
        return err;
    }
    bool linked = old.sub.born != s->born || old.sub.links != s->links;
    f->sub = new;
    f->glob = glob;
    f->record = record;
    if (!same_wake(&old.sub, &f->sub)) {
        // An earlier wake's answer has nobody to tell.
        delivery_detach(f);
        f->undelivered = false;
        f->outcome = OUTCOME_NONE;
        buf_free(&f->acks);
    }
    buf_free(&old.record);
    if (linked) {
        path_set_free(&f->names);
        app_sub_links(f->app->app, &f->sub, SPAN_NONE, add_name, f);
    }
    return 0;
}

static struct follow *follow_find(struct follow_app *fa, struct span id)
{
    struct follow *f = fa->first;
    while (f != NULL && !span_equal(f->sub.id, id))
        f = f->next;
    return f;
}

static struct follow *follow_new(struct follow_app *fa, const struct sub *s)
{
    struct follow *f = calloc(1, sizeof *f);
    if (f == NULL) return NULL;
    f->app = fa;
    path_set_init(&f->names, SUB_LINKS_MAX);
    path_set_init(&f->pending, SUB_PENDING_MAX);
    buf_init(&f->acks, OP_MAX);
    f->next = fa->first;
    fa->first = f;
    if (follow_take(f, s) == 0) return f;
    follow_free(f);
    return NULL;
}

// As it is shown now, or gone. NULL: gone, or it cannot be looked at.
static struct follow *follow_refresh(struct follow_app *fa, struct span id)
{
    struct sub s;
    struct follow *f = follow_find(fa, id);
    int found = app_sub(fa->app, id, &s);
    if (found < 0) return NULL; // the app is built again: everything is taken up anew
    if (f != NULL && (found == 0 || (f->sub.born != s.born && f->sub.born != 0))) {
        follow_free(f);
        f = NULL;
    }
    if (found == 0) return NULL;
    if (f == NULL) return follow_new(fa, &s);
    if (follow_take(f, &s) == 0) return f;
    follow_free(f);
    fa->loaded = false; // memory: it is taken up again by a tick
    return NULL;
}

// ---- steps ----------------------------------------------------------------------------------------------------------

static void on_fate(struct submission *s, const struct fate *fate)
{
    struct sub_step_run *t = (struct sub_step_run *)s;
    struct follow *f = t->f;
    if (f != NULL) {
        uint8_t id[SUB_ID_MAX];
        struct follow_app *fa = f->app;
        struct span name = SPAN(id, f->sub.id.n);
        memcpy(id, f->sub.id.p, f->sub.id.n);
        f->step = NULL;
        if (fate->err != 0) f->not_before_ms = clock_wall_ms() + REFUSED_MS;
        f = follow_refresh(fa, name);
        struct sha256 hash = sub_token_hash(SPAN_STR(t->token));
        if (f != NULL && fate->err == 0 && (t->step == SUB_WAKE || t->step == SUB_ATTEMPT) && f->sub.state == SUB_WAKING &&
            f->sub.type == SUB_WEBHOOK && sha256_equal(&hash, &f->sub.token)) {
            memcpy(f->token, t->token, sizeof f->token);
            f->undelivered = true;
        }
        if (f != NULL) follow_tick(f);
    }
    explicit_bzero(t->token, sizeof t->token);
    buf_free(&t->batch);
    free(t);
}

// A step that the app does not take now is made again by a later tick: what it follows from has not changed. False: that happened.
static bool step_submit(struct follow_app *fa, struct follow *f, const struct sub_op *op, const char *token)
{
    struct sub_step_run *t = calloc(1, sizeof *t);
    struct buf text;
    if (t == NULL) return false;
    buf_init(&text, OP_MAX);
    buf_init(&t->batch, OP_MAX + KIB);
    sub_op_put(&text, op);
    if (text.err == 0) batch_put_op(&t->batch, &(struct batch_op){.kind = BATCH_SUBSCRIPTION, .subscription = buf_span(&text)});
    bool ok = text.err == 0 && t->batch.err == 0;
    buf_free(&text);
    t->step = op->step;
    if (token != NULL) memcpy(t->token, token, strlen(token) + 1);
    t->submission = (struct submission){.identity = identity_of(IDENTITY_NOBODY), .request = buf_span(&t->batch), .done = on_fate};
    if (ok && app_submit(fa->app, &t->submission) == 0) {
        t->f = f;
        if (f != NULL) f->step = t;
        return true;
    }
    buf_free(&t->batch);
    free(t);
    if (f != NULL) f->not_before_ms = clock_wall_ms() + REFUSED_MS;
    return false;
}

static struct sub_op op_of(const struct follow *f, enum sub_step step)
{
    const struct sub *s = &f->sub;
    return (struct sub_op){.step = step, .id = s->id, .born = s->born, .generation = s->generation, .wake = s->wake, .token = s->token};
}

// 800 to 1200 thousandths.
static uint64_t jitter(void)
{
    uint16_t random;
    random_bytes(&random, sizeof random);
    return 800 + random % 401;
}

static void put_event(struct buf *out, const struct follow *f, struct span path)
{
    struct jw w;
    jw_init(&w, out);
    jw_object(&w);
    jw_key(&w, "type"), jw_cstr(&w, "wake");
    jw_key(&w, "subscription_id"), jw_str(&w, f->sub.id);
    jw_key(&w, "stream"), jw_str(&w, path);
    jw_key(&w, "generation"), jw_uint(&w, f->sub.generation + 1);
    jw_key(&w, "ts"), jw_uint(&w, clock_wall_ms());
    jw_end(&w);
    buf_put_str(out, ",\n"); // as a message stands in a JSON stream
}

static void step_wake(struct follow *f, struct span path)
{
    char token[SUB_TOKEN_MAX] = "";
    struct sub_op op = op_of(f, SUB_WAKE);
    struct buf event;
    buf_init(&event, 8 * KIB);
    op.wake = uuid_new();
    op.token = (struct sha256){{0}}; // of pull-wake: the claim brings one
    op.stream = path;
    op.jitter = jitter();
    if (f->sub.type == SUB_WEBHOOK) op.token = sub_token_new(token);
    else put_event(&event, f, path);
    op.event = buf_span(&event);
    if (event.err == 0) step_submit(f->app, f, &op, token);
    buf_free(&event);
    explicit_bzero(token, sizeof token);
}

// The token stays the same while it is known: who got it by a delivery that seemed to fail may still answer.
static void step_attempt(struct follow *f)
{
    char token[SUB_TOKEN_MAX];
    struct sub_op op = op_of(f, SUB_ATTEMPT);
    struct sha256 known = sub_token_hash(SPAN_STR(f->token));
    if (sha256_equal(&known, &f->sub.token)) memcpy(token, f->token, sizeof token);
    else op.token = sub_token_new(token);
    step_submit(f->app, f, &op, token);
    explicit_bzero(token, sizeof token);
}

static void step_simple(struct follow *f, enum sub_step step)
{
    struct sub_op op = op_of(f, step);
    op.jitter = jitter();
    step_submit(f->app, f, &op, NULL);
}

static void step_done(struct follow *f)
{
    struct sub_op op = op_of(f, SUB_ACK);
    op.acks = buf_span(&f->acks);
    op.done = true;
    step_submit(f->app, f, &op, NULL);
}

// ---- the story of one -----------------------------------------------------------------------------------------------

// A delivery that could not begin waits for a place, but not beyond its lease.
static void deliver(struct follow *f)
{
    if (f->app->run->stopping) return;
    int err = delivery_begin(f);
    if (err == 0) f->undelivered = false;
    else if (err != ERR_BUSY) f->outcome = OUTCOME_FAILED, f->undelivered = false;
}

static void webhook_tick(struct follow *f, uint64_t now)
{
    if (f->delivery != NULL) return;
    if (f->undelivered && now >= f->sub.lease_ms) f->outcome = OUTCOME_FAILED, f->undelivered = false;
    if (f->undelivered) deliver(f);
    if (f->outcome == OUTCOME_DONE) step_done(f);
    else if (f->outcome == OUTCOME_FAILED) step_simple(f, SUB_RETRY);
    else if (f->delivery == NULL && !f->undelivered && now >= f->sub.lease_ms) step_simple(f, SUB_EXPIRE);
}

static void next_step(struct follow *f, uint64_t now)
{
    struct span path;
    switch (f->sub.state) {
    case SUB_IDLE:
        if (now >= f->sub.next_attempt_ms && pending_pick(f, &path)) step_wake(f, path);
        break;
    case SUB_WAKING:
        if (f->sub.type == SUB_WEBHOOK) webhook_tick(f, now);
        break;
    case SUB_HELD:
        if (now >= f->sub.lease_ms) step_simple(f, SUB_EXPIRE);
        break;
    case SUB_RETRYING:
        if (now >= f->sub.next_attempt_ms) step_attempt(f);
        break;
    }
}

// When has it to be looked at again, if nothing happens before? 0: nothing is waited for.
static uint64_t wakes_at(const struct follow *f, uint64_t now)
{
    const struct sub *s = &f->sub;
    uint64_t at = 0;
    if (f->step != NULL) return 0;
    switch (s->state) {
    case SUB_IDLE: at = f->pending.count > 0 ? s->next_attempt_ms : 0; break;
    case SUB_WAKING: at = s->type == SUB_WEBHOOK && f->delivery == NULL ? s->lease_ms : 0; break;
    case SUB_HELD: at = s->lease_ms; break;
    case SUB_RETRYING: at = s->next_attempt_ms; break;
    }
    return f->not_before_ms > now && f->not_before_ms > at ? f->not_before_ms : at;
}

static void on_landed(struct app_wait *w)
{
    struct follow_app *fa = (struct follow_app *)((char *)w - offsetof(struct follow_app, landed));
    for (struct follow *f = fa->first; f != NULL; f = f->next)
        follow_tick(f);
}

// All of the app's are looked at when it has landed.
static bool is_waiting(struct follow_app *fa)
{
    return app_wait(fa->app, &fa->landed, on_landed);
}

void follow_tick(struct follow *f)
{
    struct subs_run *r = f->app->run;
    uint64_t now = clock_wall_ms();
    if (r->stopping || is_waiting(f->app) || app_txn(f->app->app) == NULL) return;
    if (f->step == NULL && now >= f->not_before_ms) next_step(f, now);
    uint64_t at = wakes_at(f, now);
    if (at != 0) arm(r, at);
}

void follows_tick(struct subs_run *r)
{
    for (size_t i = 0; i < r->app_count; i++)
        for (struct follow *f = r->apps[i]->first; f != NULL; f = f->next)
            follow_tick(f);
}

// ---- time -----------------------------------------------------------------------------------------------------------

static void on_timer(uv_timer_t *timer)
{
    struct subs_run *r = timer->data;
    r->armed_ms = 0;
    subs_run_tick(r);
}

// Wall time, as leases are: where somebody sets the clock, the service's tick looks, too.
static void arm(struct subs_run *r, uint64_t at_ms)
{
    uint64_t now = clock_wall_ms(), ms = at_ms > now ? at_ms - now : 1;
    if (r->armed_ms != 0 && r->armed_ms <= at_ms) return;
    r->armed_ms = at_ms > now ? at_ms : now + 1;
    uv_timer_start(r->timer, on_timer, ms, 0);
}

// ---- what changes ---------------------------------------------------------------------------------------------------

static void on_changed(struct stream_observer *o, uint64_t seq, struct span path, uint64_t number)
{
    struct follow_app *fa = (struct follow_app *)(void *)((char *)o - offsetof(struct follow_app, observer));
    (void)seq, (void)number;
    if (path_set_add(&fa->recent, path) != 0) fa->recent_full = true;
}

static bool means(const struct follow *f, struct span path)
{
    if (path_set_has(&f->names, path)) return true;
    return f->sub.pattern.n > 0 && subs_glob_match(&f->glob, path) && !span_equal(path, f->sub.wake_stream);
}

// The cursor of a stream that was deleted is of no use any more.
static void forget(struct follow *f, struct span path, const struct sub_cursor *c)
{
    struct buf paths;
    if (!c->recorded || c->by_name || c->exists) return;
    struct sub_op op = op_of(f, SUB_FORGET);
    buf_init(&paths, KIB);
    buf_put_blob(&paths, path);
    op.paths = buf_span(&paths);
    if (paths.err == 0) step_submit(f->app, NULL, &op, NULL);
    buf_free(&paths);
}

static void take_change(struct follow *f, struct span path)
{
    struct sub_cursor c;
    if (!means(f, path) || app_sub_cursor(f->app->app, &f->sub, path, &c) != 0) return;
    if (sub_cursor_pending(&c)) pending_add(f, path);
    else forget(f, path, &c);
}

static struct follow_app *app_find(struct subs_run *r, struct app *app)
{
    if (r == NULL) return NULL; // the service is being opened
    for (size_t i = 0; i < r->app_count; i++)
        if (r->apps[i]->app == app) return r->apps[i];
    return NULL;
}

// How many streams, at most `max`, can be held against all subscriptions in one go.
static size_t share(const struct follow_app *fa, size_t max)
{
    size_t n = 1;
    for (const struct follow *f = fa->first; f != NULL; f = f->next)
        n++;
    return LOOKS_MAX / n < max ? LOOKS_MAX / n : max;
}

void subs_run_visible(struct subs_run *r, struct app *app)
{
    struct follow_app *fa = app_find(r, app);
    if (fa == NULL || !fa->loaded || (fa->recent.count == 0 && !fa->recent_full) || app_txn(app) == NULL) return;
    if (fa->recent.count > share(fa, RECENT_MAX)) { // looking at all, some at a time, keeps nobody waiting
        path_set_free(&fa->recent);
        fa->recent_full = true;
    }
    for (struct follow *f = fa->first; f != NULL; f = f->next) {
        for (size_t i = 0; i < fa->recent.count; i++)
            take_change(f, path_set_at(&fa->recent, i));
        if (fa->recent_full) f->missed = true;
        if (f->step == NULL && (f->pending.count > 0 || f->missed)) follow_tick(f);
    }
    path_set_free(&fa->recent);
    fa->recent_full = false;
}

// ---- looking at all streams -----------------------------------------------------------------------------------------

static bool sweep_one(void *ctx, struct span path, const struct stream_info *info)
{
    struct follow_app *fa = ctx;
    for (struct follow *f = fa->first; f != NULL; f = f->next)
        if (info->changed_seq > f->sub.born) take_change(f, path);
    return true;
}

static void sweep(struct follow_app *fa)
{
    if (fa->resume.n == 0)
        for (struct follow *f = fa->first; f != NULL; f = f->next)
            f->missed = false; // what does not fit from here on is missed again
    size_t looked = streams_each(app_streams(fa->app), app_txn(fa->app), &fa->resume, share(fa, SWEEP_STREAMS), sweep_one, fa);
    if (looked > 0) {
        arm(fa->run, clock_wall_ms() + SWEEP_MS);
        return;
    }
    fa->sweeping = false;
    buf_clear(&fa->resume);
    for (struct follow *f = fa->first; f != NULL; f = f->next)
        follow_tick(f);
}

// Without subscriptions a change costs nothing.
static void stop_observing(struct follow_app *fa)
{
    if (!fa->observed || fa->first != NULL || clock_wall_ms() - fa->expect_ms < EXPECT_MS) return;
    streams_unobserve(app_streams(fa->app), &fa->observer);
    fa->observed = false;
}

// ---- apps -----------------------------------------------------------------------------------------------------------

static void app_drop(struct follow_app *fa)
{
    while (fa->first != NULL)
        follow_free(fa->first);
    if (fa->observed && app_streams(fa->app) != NULL) streams_unobserve(app_streams(fa->app), &fa->observer);
    path_set_free(&fa->recent);
    buf_free(&fa->resume);
    app_wait_drop(&fa->landed);
    app_user_remove(&fa->user);
    fa->observed = fa->loaded = fa->sweeping = fa->recent_full = false;
}

static void on_reset(struct app_user *u, int err)
{
    (void)err;
    app_drop((struct follow_app *)u);
}

struct load {
    struct follow_app *fa;
    bool failed;
};

static bool load_one(void *ctx, const struct sub *s)
{
    struct load *l = ctx;
    l->failed = follow_find(l->fa, s->id) == NULL && follow_new(l->fa, s) == NULL;
    return !l->failed;
}

// Everything that an earlier run knew is found again: which wake is where, from the records; what has changed, by looking.
static void app_load(struct follow_app *fa)
{
    if (fa->user.app == NULL) app_user_add(fa->app, &fa->user, on_reset);
    struct load l = {.fa = fa};
    if (app_subs_each(fa->app, load_one, &l) != 0 || l.failed) return; // a tick tries again
    fa->loaded = true;
    if (fa->first == NULL) return;
    fa->sweeping = true;
    if (!fa->observed) streams_observe(app_streams(fa->app), &fa->observer);
    fa->observed = true;
    for (struct follow *f = fa->first; f != NULL; f = f->next)
        follow_tick(f);
}

static struct follow_app *app_take(struct subs_run *r, struct app *app)
{
    struct follow_app *fa = app_find(r, app);
    if (fa != NULL) return fa;
    struct follow_app **apps = realloc(r->apps, (r->app_count + 1) * sizeof(struct follow_app *));
    if (apps != NULL) r->apps = apps;
    fa = apps != NULL ? calloc(1, sizeof *fa) : NULL;
    if (fa == NULL) return NULL;
    *fa = (struct follow_app){.run = r, .app = app, .observer = {.changed = on_changed}};
    path_set_init(&fa->recent, RECENT_MAX);
    buf_init(&fa->resume, 4 * KIB);
    return r->apps[r->app_count++] = fa;
}

int subs_run_expect(struct subs_run *r, struct app *app)
{
    struct follow_app *fa = app_take(r, app);
    if (fa == NULL) return ERR_NOMEM;
    if (app_txn(app) == NULL || r->stopping) return ERR_BUSY;
    if (!fa->loaded) app_load(fa);
    if (!fa->loaded) return ERR_BUSY;
    if (!fa->observed) streams_observe(app_streams(app), &fa->observer);
    fa->observed = true;
    fa->expect_ms = clock_wall_ms();
    return 0;
}

void subs_run_changed(struct subs_run *r, struct app *app, struct span id)
{
    struct follow_app *fa = app_find(r, app);
    struct follow *f = fa != NULL && fa->loaded ? follow_refresh(fa, id) : NULL;
    if (f != NULL) follow_tick(f);
}

static struct follow *find(struct subs_run *r, struct app *app, struct span id)
{
    struct follow_app *fa = app_find(r, app);
    return fa != NULL && fa->loaded ? follow_find(fa, id) : NULL;
}

bool subs_run_pending(struct subs_run *r, struct app *app, struct span id, struct span *path)
{
    struct follow *f = find(r, app, id);
    return f != NULL && pending_pick(f, path);
}

void subs_run_snapshot(struct subs_run *r, struct app *app, struct span id, struct jw *w, struct buf *acks)
{
    struct follow *f = find(r, app, id);
    if (f != NULL) follow_snapshot(f, w, acks);
}

// ---- the engine -----------------------------------------------------------------------------------------------------

void subs_run_tick(struct subs_run *r)
{
    struct app *app;
    if (r->stopping) return;
    for (size_t i = 0; (app = server_app_at(r->server, i)) != NULL; i++) {
        struct follow_app *fa = app_take(r, app);
        if (fa == NULL || app_in_flight(app) || app_txn(app) == NULL) continue;
        if (!fa->loaded) app_load(fa);
        if (fa->loaded && fa->sweeping) sweep(fa);
        stop_observing(fa);
        for (struct follow *f = fa->first; f != NULL; f = f->next)
            follow_tick(f);
    }
}

int subs_run_open(struct subs_run **out, struct server *server, struct problem *p)
{
    struct subs_run *r = calloc(1, sizeof *r);
    uv_timer_t *timer = calloc(1, sizeof *timer);
    int err = r == NULL || timer == NULL || uv_timer_init(server_loop(server), timer) != 0 ? ERR_NOMEM : 0;
    if (err != 0) {
        free(timer);
        free(r);
        return problem_set(p, err, -1, "subscriptions cannot be served: %s", err_text(err));
    }
    timer->data = r;
    r->timer = timer;
    r->server = server;
    r->signer = server_webhooks(server);
    *out = r;
    return 0;
}

void subs_run_stop(struct subs_run *r)
{
    r->stopping = true;
    uv_timer_stop(r->timer);
}

static void on_timer_closed(uv_handle_t *handle)
{
    free(handle);
}

void subs_run_close(struct subs_run *r)
{
    if (r == NULL) return;
    for (size_t i = 0; i < r->app_count; i++) {
        app_drop(r->apps[i]);
        free(r->apps[i]);
    }
    deliveries_free(r);
    uv_close((uv_handle_t *)r->timer, on_timer_closed);
    free(r->apps);
    free(r);
}

const struct webhook_signer *subs_run_signer(const struct subs_run *r)
{
    return r->signer;
}
