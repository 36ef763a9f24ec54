#include "stream_care.h"

#include <assert.h>
#include <stdlib.h>

#include "batch.h"
#include "err.h"
#include "log.h"

#define SWEEP_MAX 256       // streams that one tick notes, and deletes, at most
#define SWEEP_AHEAD_MS 1500 // followed streams are noted this long before they would expire: longer than a tick

// A batch under way and the notes in it: until it is answered the state does not know of them.
struct care_flush {
    struct submission submission; // first
    struct stream_care *care;
    struct care_flush *next;
    struct care_note notes[CARE_NOTES_MAX];
    size_t count;
    bool expires; // it is a BATCH_EXPIRE
    struct buf encoded;
};

void stream_care_init(struct stream_care *c, struct app *a)
{
    *c = (struct stream_care){.app = a};
}

// ---- batches -----------------------------------------------------------------------------------------------------

static void flush_free(struct care_flush *f)
{
    struct care_flush **at = &f->care->flushes;
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    f->care->flush_count--;
    if (f->expires) f->care->expiring = false;
    buf_free(&f->encoded);
    free(f);
}

static void on_fate(struct submission *s, const struct fate *fate)
{
    struct care_flush *f = (struct care_flush *)s;
    if (fate->err != 0) log_warn("streams", f->expires ? "streams past their deadline stay for now" : "reads of expiring streams were not kept", LF_ERR(fate->err));
    flush_free(f);
}

// NULL: no memory, or too much under way.
static struct care_flush *flush_new(struct stream_care *c)
{
    struct care_flush *f = c->flush_count < CARE_FLUSHES_MAX ? malloc(sizeof *f) : NULL;
    if (f == NULL) return NULL;
    f->care = c;
    f->count = 0;
    f->expires = false;
    f->next = c->flushes;
    buf_init(&f->encoded, 64 * KIB);
    c->flushes = f;
    c->flush_count++;
    return f;
}

// False: not taken; it is gone.
static bool flush_submit(struct care_flush *f)
{
    f->submission = (struct submission){.identity = identity_of(IDENTITY_ADMIN), .request = buf_span(&f->encoded), .done = on_fate};
    if (f->encoded.err == 0 && app_submit(f->care->app, &f->submission) == 0) return true;
    flush_free(f);
    return false;
}

void stream_care_flush(struct stream_care *c)
{
    struct care_flush *f = c->count > 0 ? flush_new(c) : NULL;
    if (f == NULL) return; // the notes stay, and the next try takes them
    memcpy(f->notes, c->notes, c->count * sizeof c->notes[0]);
    f->count = c->count;
    for (size_t i = 0; i < f->count; i++) {
        struct batch_op op = {.kind = BATCH_TOUCH, .care = {.number = f->notes[i].number, .access_ms = f->notes[i].access_ms}};
        batch_put_op(&f->encoded, &op);
    }
    if (flush_submit(f)) c->count = 0;
}

// ---- notes -------------------------------------------------------------------------------------------------------

static struct care_note *find(struct care_note *notes, size_t count, uint64_t number)
{
    for (size_t i = 0; i < count; i++)
        if (notes[i].number == number) return &notes[i];
    return NULL;
}

static void note(struct stream_care *c, uint64_t number, uint64_t now_ms)
{
    struct care_note *n = find(c->notes, c->count, number);
    if (n == NULL && c->count == CARE_NOTES_MAX) stream_care_flush(c);
    if (n == NULL && c->count == CARE_NOTES_MAX) return; // nothing can be written anyway
    if (n == NULL) n = &c->notes[c->count++];
    *n = (struct care_note){number, now_ms};
}

void stream_care_note(struct stream_care *c, const struct stream_info *info, uint64_t now_ms)
{
    if (info->has_ttl) note(c, info->number, now_ms);
}

bool stream_care_past(const struct stream_care *c, const struct stream_info *info, uint64_t now_ms)
{
    uint64_t deadline = info->deadline_ms;
    if (deadline == 0 || now_ms < deadline) return false;
    if (!info->has_ttl) return true;
    const struct care_note *n = find((struct care_note *)c->notes, c->count, info->number);
    for (struct care_flush *f = c->flushes; n == NULL && f != NULL; f = f->next)
        n = find(f->notes, f->count, info->number);
    return n == NULL || n->access_ms >= deadline || now_ms >= n->access_ms + 1000 * info->ttl_s;
}

// ---- the sweep ---------------------------------------------------------------------------------------------------

// What was noted is submitted already, so it is judged first: those that it saves are not deleted.
static bool expire(struct stream_care *c, uint64_t now_ms)
{
    uint64_t numbers[SWEEP_MAX];
    if (c->expiring) return true;
    size_t count = streams_expired(app_streams(c->app), app_txn(c->app), NULL, now_ms, numbers, SWEEP_MAX);
    struct care_flush *f = count > 0 ? flush_new(c) : NULL;
    if (f == NULL) return false;
    f->expires = c->expiring = true;
    for (size_t i = 0; i < count; i++) {
        struct batch_op op = {.kind = BATCH_EXPIRE, .care = {.number = numbers[i]}};
        batch_put_op(&f->encoded, &op);
    }
    return flush_submit(f) && count == SWEEP_MAX;
}

// Goes through those whose time comes soon, some in each tick, and then anew: what was made meanwhile may stand before the place where it is. Those
// whose time is over are not looked at, however many wait to be deleted: they would keep it from those that can be saved.
static bool note_followed(struct stream_care *c, uint64_t now_ms)
{
    uint64_t numbers[SWEEP_MAX];
    struct db_txn *txn = app_txn(c->app);
    if (c->ahead.deadline_ms <= now_ms) c->ahead = (struct stream_due){.deadline_ms = now_ms + 1};
    size_t n = streams_expired(app_streams(c->app), txn, &c->ahead, now_ms + SWEEP_AHEAD_MS, numbers, SWEEP_MAX);
    for (size_t i = 0; i < n; i++)
        if (streams_watched_number(app_streams(c->app), txn, numbers[i])) note(c, numbers[i], now_ms);
    if (n < SWEEP_MAX) c->ahead = (struct stream_due){0};
    return n == SWEEP_MAX;
}

void stream_care_tick(struct stream_care *c, uint64_t now_ms)
{
    c->more = false;
    if (app_txn(c->app) == NULL || app_state(c->app) != APP_READY) return;
    c->more = note_followed(c, now_ms);
    stream_care_flush(c);
    c->more |= expire(c, now_ms);
}

bool stream_care_busy(const struct stream_care *c)
{
    return c->more;
}
