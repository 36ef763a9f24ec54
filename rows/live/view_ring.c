// What a commit does to a view waits here as steps until it is durable, then as JSON for the readers: encoded once, however many they are.
#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "show.h"
#include "view_impl.h"

// ---- pending -------------------------------------------------------------------------------------------------------

static void drop_ring(struct view *v, uint64_t seq);

static void link_dirty(struct view *v)
{
    v->dirty = true;
    v->dirty_prev = NULL;
    v->dirty_next = v->r->views.dirty;
    if (v->dirty_next) v->dirty_next->dirty_prev = v;
    v->r->views.dirty = v;
}

static void unlink_dirty(struct view *v)
{
    if (!v->dirty) return;
    if (v->dirty_prev) v->dirty_prev->dirty_next = v->dirty_next;
    else v->r->views.dirty = v->dirty_next;
    if (v->dirty_next) v->dirty_next->dirty_prev = v->dirty_prev;
    v->dirty = false;
}

void view_touch(struct view *v, uint64_t seq)
{
    assert(v->changed <= seq);
    v->changed = seq;
    if (!v->dirty) link_dirty(v);
}

void view_mark(struct view *v, uint64_t seq)
{
    view_touch(v, seq);
    v->pending_count = 0;
    drop_ring(v, seq);
}

static bool reserve(struct view *v)
{
    if (v->pending_count >= VIEW_RING_CHANGES_MAX) return false;
    if (v->pending_count < v->pending_cap) return true;
    size_t cap = v->pending_cap ? v->pending_cap * 2 : 8;
    struct view_pending *pending = realloc(v->pending, cap * sizeof *pending);
    if (!pending) return false;
    v->pending = pending;
    v->pending_cap = cap;
    return true;
}

// More steps than the ring could hold are not noted: who is behind this commit reads the difference from history.
void view_record(struct view *v, uint64_t seq, struct view_op op)
{
    view_touch(v, seq);
    if (seq <= v->ring_from) return;
    if (!reserve(v)) {
        view_mark(v, seq);
        return;
    }
    v->pending[v->pending_count++] = (struct view_pending){.seq = seq, .op = op};
}

// ---- ring ----------------------------------------------------------------------------------------------------------

static void evict_commit(struct view *v)
{
    uint64_t seq = v->ring[v->ring_head].seq;
    while (v->ring_count > 0 && v->ring[v->ring_head].seq == seq) {
        struct bytes *value = v->ring[v->ring_head].value;
        v->ring_bytes -= value->n;
        v->r->views.ring_bytes -= value->n;
        bytes_unref(value);
        v->ring_head++;
        v->ring_count--;
    }
    v->ring_from = seq;
}

static void drop_ring(struct view *v, uint64_t seq)
{
    while (v->ring_count > 0)
        evict_commit(v);
    v->ring_from = seq;
}

void view_ring_free(struct view *v)
{
    unlink_dirty(v);
    drop_ring(v, v->ring_from);
    free(v->ring);
    free(v->pending);
}

static bool ring_room(struct view *v)
{
    if (v->ring_head + v->ring_count < v->ring_cap) return true;
    if (v->ring_head > 0 && v->ring_head >= v->ring_cap / 2) {
        memmove(v->ring, v->ring + v->ring_head, v->ring_count * sizeof *v->ring);
        v->ring_head = 0;
        return true;
    }
    size_t cap = v->ring_cap ? v->ring_cap * 2 : 8;
    struct view_change *ring = realloc(v->ring, cap * sizeof *ring);
    if (!ring) return false;
    v->ring = ring;
    v->ring_cap = cap;
    return true;
}

static bool ring_over(const struct view *v)
{
    return v->ring_count > VIEW_RING_CHANGES_MAX || v->ring_bytes > VIEW_RING_BYTES_MAX || v->r->views.ring_bytes > VIEW_RINGS_BYTES_MAX;
}

// Takes the value over. A commit is in the ring with all its steps or with none.
static int ring_push(struct view *v, uint64_t seq, struct bytes *value)
{
    if (!ring_room(v)) {
        bytes_unref(value);
        return ERR_NOMEM;
    }
    v->ring[v->ring_head + v->ring_count++] = (struct view_change){.seq = seq, .value = value};
    v->ring_bytes += value->n;
    v->r->views.ring_bytes += value->n;
    while (v->ring_count > 0 && ring_over(v))
        evict_commit(v);
    return 0;
}

// The first kept change after `from`, as an index into ring + ring_head.
static size_t ring_after(const struct view *v, uint64_t from)
{
    size_t low = 0, high = v->ring_count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (v->ring[v->ring_head + mid].seq <= from) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

bool view_ring_covers(const struct view *v, uint64_t from)
{
    return from >= v->ring_from;
}

uint64_t view_ring_reach(const struct view *v, uint64_t from, uint64_t to, size_t budget)
{
    size_t bytes = 0;
    for (size_t i = ring_after(v, from); i < v->ring_count; i++) {
        const struct view_change *c = &v->ring[v->ring_head + i];
        if (c->seq > to) break;
        bytes += c->value->n;
        if (bytes > budget) return c->seq - 1 > from ? c->seq - 1 : from + 1;
    }
    return to;
}

int view_ring_changes(struct view *v, uint64_t from, uint64_t to, struct feed_sink *sink)
{
    int err = 0;
    for (size_t i = ring_after(v, from); i < v->ring_count && !err; i++) {
        const struct view_change *c = &v->ring[v->ring_head + i];
        if (c->seq > to) break;
        err = sink->emit(sink, c->value);
    }
    return err;
}

// ---- encoding ------------------------------------------------------------------------------------------------------

static int encode_row(struct view *v, struct db_txn *txn, uint64_t seq, const struct view_op *op, struct jw *w)
{
    struct row_space room;
    int err = row_at(v->r, txn, schema_table_no(v->r->schema, v->q->table), op->id, seq, &room);
    if (!err && !row_live(&room.row)) err = ERR_CORRUPT;
    return err ? err : show_row(w, v->r, txn, v->q, op->id, &room.row, seq);
}

static int encode(struct view *v, struct db_txn *txn, uint64_t seq, const struct view_op *op, struct jw *w)
{
    view_op_begin(w, op, SPAN_NONE);
    int err = op->kind == VIEW_REMOVED ? 0 : encode_row(v, txn, seq, op, w);
    if (err) return err;
    view_op_end(w, op, SPAN_NONE, query_ordered(v->q));
    return 0;
}

int view_encode(struct view *v, struct db_txn *txn, uint64_t seq, const struct view_op *op, struct bytes **out)
{
    struct buf text;
    struct jw w;
    buf_init(&text, QUERY_RESULT_MAX);
    jw_init(&w, &text);
    int err = encode(v, txn, seq, op, &w);
    if (!err) err = text.err;
    struct bytes *value = err ? NULL : bytes_new(buf_span(&text));
    buf_free(&text);
    if (err) return err;
    if (!value) return ERR_NOMEM;
    *out = value;
    return 0;
}

// ---- publish -------------------------------------------------------------------------------------------------------

static int publish_one(struct view *v, struct db_txn *txn, const struct view_pending *p)
{
    struct bytes *value;
    if (p->seq <= v->ring_from) return 0; // this commit's earlier steps were too large to keep
    int err = view_encode(v, txn, p->seq, &p->op, &value);
    return err ? err : ring_push(v, p->seq, value);
}

static void publish(struct view *v, struct db_txn *txn, uint64_t seq)
{
    size_t done = 0;
    int err = 0;
    for (; done < v->pending_count && v->pending[done].seq <= seq; done++) {
        if (!err) err = publish_one(v, txn, &v->pending[done]);
    }
    if (err) drop_ring(v, seq);
    v->pending_count -= done;
    if (done > 0 && v->pending_count > 0) memmove(v->pending, v->pending + done, v->pending_count * sizeof *v->pending);
}

static void tell(struct view *v, uint64_t seq)
{
    feed_touch(&v->feed, v->changed < seq ? v->changed : seq);
}

// Feeds are told only when every view is current: a reader that is woken may look at any of them.
void rows_publish(struct rows *r, struct db_txn *txn, uint64_t seq)
{
    struct view *told = r->views.dirty, *next;
    if (seq > r->views.published) {
        r->views.published_before = r->views.published;
        r->views.published = seq;
    }
    for (struct view *v = told; v; v = v->dirty_next)
        publish(v, txn, seq);
    r->views.dirty = NULL;
    for (struct view *v = told; v; v = next) {
        next = v->dirty_next;
        v->dirty = false;
        if (v->changed > seq) link_dirty(v);
        tell(v, seq);
    }
}
