#include "stream_care.h"

#include <assert.h>
#include <stdlib.h>

#include "batch.h"
#include "err.h"
#include "log.h"

#define SWEEP_MAX 64        // streams looked at in one tick
#define SWEEP_AHEAD_MS 1500 // followed streams are noted this long before they would expire: longer than a tick

// A batch under way and the notes in it: until it is answered the state does not know of them.
struct care_flush {
    struct submission submission; // first
    struct stream_care *care;
    struct care_flush *next;
    struct care_note notes[CARE_NOTES_MAX];
    size_t count;
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
    buf_free(&f->encoded);
    free(f);
}

static void on_fate(struct submission *s, const struct fate *fate)
{
    if (fate->err != 0) log_warn("streams", "reads of expiring streams were not kept", LF_ERR(fate->err));
    flush_free((struct care_flush *)s);
}

// NULL: no memory, or too much under way.
static struct care_flush *flush_new(struct stream_care *c)
{
    struct care_flush *f = c->flush_count < CARE_FLUSHES_MAX ? malloc(sizeof *f) : NULL;
    if (f == NULL) return NULL;
    f->care = c;
    f->count = 0;
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

static void expire(struct stream_care *c, const uint64_t *numbers, size_t count)
{
    struct care_flush *f = count > 0 ? flush_new(c) : NULL;
    if (f == NULL) return;
    for (size_t i = 0; i < count; i++) {
        struct batch_op op = {.kind = BATCH_EXPIRE, .care = {.number = numbers[i]}};
        batch_put_op(&f->encoded, &op);
    }
    flush_submit(f);
}

void stream_care_tick(struct stream_care *c, uint64_t now_ms)
{
    uint64_t numbers[SWEEP_MAX];
    struct db_txn *txn = app_txn(c->app);
    if (txn == NULL || app_state(c->app) != APP_READY) return;
    size_t n = streams_expired(app_streams(c->app), txn, now_ms + SWEEP_AHEAD_MS, numbers, SWEEP_MAX);
    for (size_t i = 0; i < n; i++)
        if (streams_watched_number(app_streams(c->app), txn, numbers[i])) note(c, numbers[i], now_ms);
    stream_care_flush(c);
    if (c->flushes != NULL) return; // what is under way may save some of them
    n = streams_expired(app_streams(c->app), txn, now_ms, numbers, SWEEP_MAX);
    expire(c, numbers, n);
}
