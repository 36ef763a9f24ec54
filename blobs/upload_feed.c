// What a reader of an upload is told is its state, not its history: a range gets the newest state that it covers, and none
// where nothing changed. A feed keeps the states of the last POINTS commits that touched it since its first reader came. A
// reader that is further behind than that is told nothing until its range reaches a state that is known; the newest one always is.
#include "upload_feed.h"

#include <assert.h>
#include <stdlib.h>

#include "blob_store.h"
#include "err.h"
#include "feed.h"
#include "json_write.h"

#define POINTS 64

// The state that the commit `seq` left.
struct point {
    uint64_t seq;
    bool exists, done;
    uint64_t offset, length;
    struct sha256 digest;
};

struct upload_feed {
    struct feed feed; // first
    struct upload_feeds *set;
    struct upload_feed *next; // of its slot
    struct upload_feed *touched_next;
    bool touched;
    struct uuid id;
    struct point points[POINTS]; // the newest is number count - 1, at that modulo POINTS
    uint64_t count;
};

struct upload_sub {
    struct feed_sub sub; // first
    // It resumes, and may know of an upload that is gone since an unknown commit: that it is told once, unlike others at its place. Those are not
    // told anything there, so nothing is kept that this one could be given instead; and to be told of a deletion twice does no harm.
    bool unsure;
};

// ---- the set ---------------------------------------------------------------------------------------------------

static struct upload_feed **slot_of(struct upload_feeds *f, struct uuid id)
{
    return &f->slots[id.b[sizeof id.b - 1] % UPLOAD_FEED_SLOTS]; // the last byte of an id is random
}

static struct upload_feed *find(struct upload_feeds *f, struct uuid id)
{
    struct upload_feed *feed = *slot_of(f, id);
    while (feed != NULL && !uuid_equal(feed->id, id))
        feed = feed->next;
    return feed;
}

static void add_point(struct upload_feed *feed, uint64_t seq, const struct upload_info *info)
{
    bool again = feed->count > 0 && feed->points[(feed->count - 1) % POINTS].seq == seq; // twice in one batch
    if (!again) feed->count++;
    struct point *p = &feed->points[(feed->count - 1) % POINTS];
    *p = (struct point){.seq = seq, .exists = info != NULL && info->state != UPLOAD_EXPIRED};
    if (!p->exists) return;
    p->done = info->state == UPLOAD_DONE;
    p->offset = info->offset;
    p->length = info->made.length;
    p->digest = info->digest;
}

void upload_feeds_note(struct upload_feeds *f, struct uuid id, uint64_t seq, const struct upload_info *info)
{
    struct upload_feed *feed = find(f, id);
    if (feed == NULL) return;
    add_point(feed, seq, info);
    if (feed->touched) return;
    feed->touched = true;
    feed->touched_next = f->touched;
    f->touched = feed;
}

void upload_feeds_publish(struct upload_feeds *f, uint64_t seq)
{
    while (f->touched != NULL) {
        struct upload_feed *feed = f->touched;
        f->touched = feed->touched_next;
        feed->touched = false;
        feed_touch(&feed->feed, seq); // waking only marks
    }
}

void upload_feeds_check_empty(const struct upload_feeds *f)
{
    for (size_t i = 0; i < UPLOAD_FEED_SLOTS; i++)
        assert(f->slots[i] == NULL);
}

static void remove_feed(struct upload_feed *feed)
{
    struct upload_feed **at = slot_of(feed->set, feed->id);
    while (*at != feed)
        at = &(*at)->next;
    *at = feed->next;
    for (at = &feed->set->touched; *at != NULL && *at != feed;)
        at = &(*at)->touched_next;
    if (*at == feed) *at = feed->touched_next;
    free(feed);
}

// ---- reading ---------------------------------------------------------------------------------------------------

// The newest state of commits up to `seq`; NULL: none is kept.
static const struct point *state_at(const struct upload_feed *feed, uint64_t seq)
{
    uint64_t first = feed->count > POINTS ? feed->count - POINTS : 0;
    for (uint64_t i = feed->count; i > first; i--)
        if (feed->points[(i - 1) % POINTS].seq <= seq) return &feed->points[(i - 1) % POINTS];
    return NULL;
}

static void put_state(struct jw *w, const struct point *p)
{
    char hex[SHA256_HEX];
    jw_object(w);
    if (!p->exists) {
        jw_key(w, "deleted"), jw_bool(w, true);
    } else if (p->done) {
        hex_format(hex, SPAN(p->digest.b, SHA256_BYTES));
        jw_key(w, "done"), jw_bool(w, true);
        jw_key(w, "blob"), jw_str(w, SPAN(hex, SHA256_HEX));
    } else {
        jw_key(w, "offset"), jw_uint(w, p->offset);
        if (p->length != UPLOAD_LENGTH_UNKNOWN) jw_key(w, "length"), jw_uint(w, p->length);
    }
    jw_end(w);
}

static int emit(struct feed_sink *sink, const struct point *p)
{
    struct buf out;
    struct jw w;
    buf_init(&out, 256);
    jw_init(&w, &out);
    put_state(&w, p);
    struct bytes *value = buf_take(&out);
    buf_free(&out);
    if (value == NULL) return ERR_NOMEM;
    int err = sink->emit(sink, value);
    bytes_unref(value);
    return err;
}

static int feed_snapshot(struct feed_sub *sub, struct db_txn *txn, uint64_t at, size_t budget, struct feed_sink *sink, bool *done)
{
    (void)txn, (void)budget;
    const struct point *p = state_at((struct upload_feed *)sub->feed, at);
    if (p == NULL) return ERR_TOO_OLD;
    int err = p->exists ? emit(sink, p) : 0;
    if (err == 0) *done = true;
    return err;
}

static int feed_reach(struct feed_sub *sub, struct db_txn *txn, uint64_t from, uint64_t to, size_t budget, uint64_t *reached)
{
    (void)sub, (void)txn, (void)from, (void)budget;
    *reached = to;
    return 0;
}

static int feed_changes(struct feed_sub *sub, struct db_txn *txn, uint64_t from, uint64_t to, struct feed_sink *sink)
{
    (void)txn;
    struct upload_sub *u = (struct upload_sub *)sub;
    const struct point *p = state_at((struct upload_feed *)sub->feed, to);
    if (p == NULL) return 0;
    bool tell = p->seq > from || (u->unsure && !p->exists);
    int err = tell ? emit(sink, p) : 0;
    if (err == 0) u->unsure = false;
    return err;
}

static void feed_detach(struct feed_sub *sub)
{
    struct upload_feed *feed = (struct upload_feed *)sub->feed;
    feed_unlink(sub);
    free(sub);
    if (feed->feed.subs == NULL) remove_feed(feed);
}

static const struct feed_ops ops = {.kind = "upload", .snapshot = feed_snapshot, .reach = feed_reach, .changes = feed_changes, .detach = feed_detach};

static int make_feed(struct blobs *b, struct db_txn *txn, struct uuid id, struct upload_feed **out)
{
    struct upload_head head;
    int err;
    bool exists = upload_head_find(b, txn, id, &head, &err);
    if (err != 0) return err;
    struct upload_feed *feed = calloc(1, sizeof *feed);
    if (feed == NULL) return ERR_NOMEM;
    feed->feed.ops = &ops;
    feed->set = &b->feeds;
    feed->id = id;
    add_point(feed, exists ? head.info.changed_seq : 0, exists ? &head.info : NULL);
    struct upload_feed **at = slot_of(&b->feeds, id);
    feed->next = *at;
    *at = feed;
    *out = feed;
    return 0;
}

int blobs_attach_upload(struct blobs *b, struct db_txn *txn, struct uuid id, bool resume, struct feed_sub **out)
{
    struct upload_sub *sub = calloc(1, sizeof *sub);
    if (sub == NULL) return ERR_NOMEM;
    struct upload_feed *feed = find(&b->feeds, id);
    int err = feed == NULL ? make_feed(b, txn, id, &feed) : 0;
    if (err != 0) {
        free(sub);
        return err;
    }
    sub->unsure = resume;
    feed_link(&feed->feed, &sub->sub);
    *out = &sub->sub;
    return 0;
}
