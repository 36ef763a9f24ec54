#include "upload_care.h"

#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "log.h"
#include "server.h"
#include "upload_join.h"

#define GATHER_TURNS 16 // of the loop, at most, that somebody waits for others to share the barrier
#define LOOK_MAX 64     // uploads in one tick
#define LOOK_MS 100     // and not before
#define LOOK_FIRST 4    // of those that come first: each may have many parts
#define OPS_BYTES_MAX (64 * KIB)
#define PARTS_BYTES_MAX (UPLOAD_PARTS_MAX * UPLOAD_PART_BYTES + 64)

void upload_care_init(struct upload_care *c, struct server *s, struct app *a, uint64_t ttl_ms)
{
    *c = (struct upload_care){.server = s, .app = a, .ttl_ms = ttl_ms};
    c->waiting_end = &c->waiting;
    buf_init(&c->encoded, OPS_BYTES_MAX);
}

bool upload_care_quiet(const struct upload_care *c)
{
    return c->waiting == NULL && c->round == NULL && !c->submitted && c->joins == NULL;
}

void upload_care_free(struct upload_care *c)
{
    assert(upload_care_quiet(c));
    buf_free(&c->encoded);
}

// ---- the barrier -------------------------------------------------------------------------------------------------------

static void round_begin(struct upload_care *c);

// The first one's barrier covers what the others wrote before it, so theirs cost nothing.
static void sync_work(struct pool_job *w)
{
    struct upload_care *c = w->data;
    for (struct care_sync *s = c->round; s != NULL; s = s->next)
        s->err = blobs_upload_sync(s->upload);
}

static void on_sync_work(struct pool_job *w)
{
    struct upload_care *c = w->data;
    struct care_sync *s = c->round;
    c->round = NULL;
    if (c->last && c->waiting != NULL) round_begin(c);
    while (s != NULL) {
        struct care_sync *next = s->next; // `done` may free this one
        s->done(s);
        s = next;
    }
}

static void round_begin(struct upload_care *c)
{
    c->turns = 0;
    c->round = c->waiting;
    c->waiting = NULL;
    c->waiting_end = &c->waiting;
    c->sync_work.data = c;
    pool_submit(&c->sync_work, server_pool(c->server), c->app, sync_work, on_sync_work);
}

void upload_care_sync(struct upload_care *c, struct care_sync *s)
{
    s->next = NULL;
    *c->waiting_end = s;
    c->waiting_end = &s->next;
    c->joined = true;
    if (c->last && c->round == NULL) round_begin(c);
}

bool upload_care_pending(const struct upload_care *c)
{
    return c->waiting != NULL && c->round == NULL;
}

// Whoever sends many small uploads at once is answered at once, too, and the next ones come within microseconds of one another: a barrier for the
// first of them would keep all others waiting. Who is alone waits for one look at the sockets.
void upload_care_turn(struct upload_care *c)
{
    bool wait = c->joined && c->turns < GATHER_TURNS;
    c->joined = false;
    if (!upload_care_pending(c)) return;
    if (wait) c->turns++;
    else round_begin(c);
}

void upload_care_last(struct upload_care *c)
{
    c->last = true;
    if (upload_care_pending(c)) round_begin(c);
}

// ---- the look at all uploads -----------------------------------------------------------------------------------------

struct look {
    struct upload_care *care;
    uint64_t now_ms;
};

static void put(struct upload_care *c, void (*encode)(struct buf *op, struct uuid id), struct uuid id)
{
    uint8_t room[64];
    struct buf op = {.p = room, .cap = sizeof room, .max = sizeof room};
    encode(&op, id);
    assert(op.err == 0);
    batch_put_op(&c->encoded, &(struct batch_op){.kind = BATCH_UPLOAD, .upload = buf_span(&op)});
}

// All parts with their digests, and the length of the whole. ERR_BUSY: one is not done; ERR_NO_SUCH_UPLOAD, ERR_TOO_LARGE: this never ends well.
static int finish_parts(struct upload_care *c, const struct upload_info *i, struct buf *out, uint64_t *length)
{
    bool waits = false;
    *length = 0;
    for (size_t at = 0; at < i->made.parts.n; at += UPLOAD_PART_BYTES) {
        struct upload_info part;
        struct uuid id;
        memcpy(id.b, i->made.parts.p + at, sizeof id.b);
        if (!blobs_upload_find(app_blobs(c->app), app_txn(c->app), id, &part) || part.state == UPLOAD_EXPIRED) return ERR_NO_SUCH_UPLOAD;
        waits = waits || part.state != UPLOAD_DONE;
        *length += part.offset;
        if (*length > BLOB_BYTES_MAX) return ERR_TOO_LARGE;
        buf_put(out, id.b, sizeof id.b);
        buf_put(out, part.digest.b, sizeof part.digest.b);
    }
    return out->err != 0 ? out->err : waits ? ERR_BUSY : 0;
}

// One that was made before its parts were done: it can be joined when they are, and is gone when one of them is.
static void look_at_parts(struct upload_care *c, const struct upload_info *i)
{
    struct buf parts, op;
    uint64_t length;
    if (c->encoded.max - c->encoded.n < PARTS_BYTES_MAX + 4 * KIB) return; // next time round, with room for others behind it
    buf_init(&parts, PARTS_BYTES_MAX);
    buf_init(&op, PARTS_BYTES_MAX);
    int err = finish_parts(c, i, &parts, &length);
    if (err == ERR_NO_SUCH_UPLOAD || err == ERR_TOO_LARGE) {
        put(c, blobs_upload_put_drop, i->id);
    } else if (err == 0) {
        blobs_upload_put_parts(&op, i->id, length, buf_span(&parts));
        if (op.err == 0) batch_put_op(&c->encoded, &(struct batch_op){.kind = BATCH_UPLOAD, .upload = buf_span(&op)});
    }
    buf_free(&op);
    buf_free(&parts);
}

static void look_at(void *ctx, const struct upload_info *i)
{
    struct look *l = ctx;
    struct upload_care *c = l->care;
    if (holds_taken(&c->holds, i->id)) return; // whoever has it changes it
    if (blobs_upload_past(i, l->now_ms) && i->made.kind == UPLOAD_CHUNKS)
        put(c, blobs_upload_put_drop, i->id); // nobody was told its name
    else if (blobs_upload_past(i, l->now_ms) && (i->state != UPLOAD_EXPIRED || l->now_ms >= i->changed_ms + i->made.ttl_ms))
        put(c, blobs_upload_put_expire, i->id);
    else if (i->state == UPLOAD_OPEN && i->made.kind == UPLOAD_ONCE)
        put(c, blobs_upload_put_drop, i->id); // its request ended with an earlier run, or in a way that let nothing be written
    else if (i->state == UPLOAD_OPEN && i->made.kind == UPLOAD_JOINED && i->made.length == UPLOAD_LENGTH_UNKNOWN)
        upload_care_first(c, i->id), look_at_parts(c, i);
    else if (i->state == UPLOAD_OPEN && i->made.kind == UPLOAD_JOINED && l->now_ms >= c->joins_from_ms && app_state(c->app) == APP_READY)
        upload_care_join(c, i->id);
}

// Some of them, in turn, until one has something to be done; those that are done or gone are let go of.
static void look_at_first(struct look *l)
{
    struct upload_care *c = l->care;
    size_t looks = c->first_count < LOOK_FIRST ? c->first_count : LOOK_FIRST;
    for (; looks > 0 && c->encoded.n == 0; looks--) {
        struct upload_info info;
        size_t at = c->first_next++ % c->first_count;
        if (blobs_upload_find(app_blobs(c->app), app_txn(c->app), c->first[at], &info) && info.state == UPLOAD_OPEN) look_at(l, &info);
        else c->first[at] = c->first[--c->first_count];
        if (c->first_count == 0) return;
    }
}

static void on_fate(struct submission *s, const struct fate *f)
{
    struct upload_care *c = (struct upload_care *)((char *)s - offsetof(struct upload_care, submission));
    c->submitted = false;
    if (f->err == 0) return;
    c->first_count = 0; // it may be one of these, which is not to hold up all others: its turn comes
    log_warn("uploads", "what is over was not cleared away; it is tried again", LF_STR("app", app_name(c->app)), LF_ERR(f->err));
}

void upload_care_tick(struct upload_care *c, uint64_t now_ms)
{
    struct look l = {c, now_ms};
    if (c->submitted || app_txn(c->app) == NULL || !app_may_free(c->app)) return;
    if (now_ms >= c->looked_ms && now_ms - c->looked_ms < LOOK_MS) return;
    c->looked_ms = now_ms;
    buf_clear(&c->encoded);
    look_at_first(&l);
    int err = 0; // none is to be met twice in a batch
    if (c->encoded.n == 0) err = blobs_uploads_scan(app_blobs(c->app), app_txn(c->app), &c->cursor, LOOK_MAX, look_at, &l);
    if (err != 0) log_warn("uploads", "uploads cannot be looked through", LF_STR("app", app_name(c->app)), LF_ERR(err));
    if (err != 0 || c->encoded.n == 0 || c->encoded.err != 0) return;
    c->submission = (struct submission){.identity = identity_of(IDENTITY_ADMIN), .request = buf_span(&c->encoded), .frees = true, .done = on_fate};
    c->submitted = app_submit(c->app, &c->submission) == 0;
}

void upload_care_first(struct upload_care *c, struct uuid id)
{
    for (size_t i = 0; i < c->first_count; i++)
        if (uuid_equal(c->first[i], id)) return;
    if (c->first_count < CARE_FIRST_MAX) c->first[c->first_count++] = id;
}

void upload_care_join(struct upload_care *c, struct uuid id)
{
    upload_care_first(c, id);
    upload_join_begin(c, id);
}
