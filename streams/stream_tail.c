#include "stream_tail.h"

#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "limits.h"

#define CHUNK_FIRST 256u       // a stream of a few tokens stays small …
#define CHUNK_GROWN (64 * KIB) // … and a long one does not allocate often

void stream_tail_init(struct tail *t, uint64_t start)
{
    *t = (struct tail){.start = start, .end = start};
}

void stream_tail_free(struct tail *t)
{
    for (size_t i = 0; i < t->chunk_count; i++)
        bytes_unref(t->chunks[i].bytes);
    free(t->chunks);
    free(t->bounds);
    stream_tail_init(t, t->end);
}

// Room for one more element in an array that doubles.
static int array_room(void **p, size_t *cap, size_t count, size_t size)
{
    if (count < *cap) return 0;
    size_t grown = *cap == 0 ? 4 : *cap * 2;
    void *q = realloc(*p, grown * size);
    if (q == NULL) return ERR_NOMEM;
    *p = q;
    *cap = grown;
    return 0;
}

static size_t tail_room(const struct tail *t)
{
    if (t->chunk_count == 0) return 0;
    const struct tail_chunk *last = &t->chunks[t->chunk_count - 1];
    return last->bytes->n - last->n;
}

// The size of the next chunk: twice the last one within bounds, and all of `rest`, so that an append needs one at most.
static size_t tail_next_size(const struct tail *t, size_t rest)
{
    size_t n = t->chunk_count == 0 ? CHUNK_FIRST : t->chunks[t->chunk_count - 1].bytes->n * 2;
    if (n > CHUNK_GROWN) n = CHUNK_GROWN;
    return rest > n ? rest : n;
}

static void tail_fill(struct tail *t, struct span data)
{
    if (data.n == 0) return;
    struct tail_chunk *last = &t->chunks[t->chunk_count - 1];
    memcpy(last->bytes->p + last->n, data.p, data.n);
    last->n += data.n;
    t->end += data.n;
}

int stream_tail_append(struct tail *t, struct span data, uint64_t seq, uint64_t group)
{
    assert(data.n > 0);
    size_t room = tail_room(t), here = data.n < room ? data.n : room;
    struct bytes *more = NULL;
    if (array_room((void **)&t->bounds, &t->bound_cap, t->bound_count, sizeof *t->bounds) != 0) return ERR_NOMEM;
    if (array_room((void **)&t->chunks, &t->chunk_cap, t->chunk_count, sizeof *t->chunks) != 0) return ERR_NOMEM;
    if (here < data.n && (more = bytes_alloc(tail_next_size(t, data.n - here))) == NULL) return ERR_NOMEM;
    tail_fill(t, span_sub(data, 0, here));
    if (more != NULL) t->chunks[t->chunk_count++] = (struct tail_chunk){.bytes = more, .start = t->end};
    tail_fill(t, span_sub(data, here, data.n));
    t->bounds[t->bound_count++] = (struct boundary){.end = t->end, .seq = seq, .group = group};
    return 0;
}

// The chunk that holds the byte at `offset`, which is below the end.
static size_t tail_chunk_at(const struct tail *t, uint64_t offset)
{
    size_t lo = 0, hi = t->chunk_count;
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (t->chunks[mid].start <= offset)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

void stream_tail_read(const struct tail *t, uint64_t offset, size_t max, struct buf *out)
{
    assert(offset >= t->start && offset <= t->end);
    if (offset == t->end) return;
    for (size_t i = tail_chunk_at(t, offset); i < t->chunk_count && max > 0; i++) {
        const struct tail_chunk *c = &t->chunks[i];
        struct span part = span_sub(SPAN(c->bytes->p, c->n), offset - c->start, max);
        buf_put_span(out, part);
        offset += part.n;
        max -= part.n;
    }
}

size_t stream_tail_pieces(const struct tail *t, uint64_t from, uint64_t to, struct tail_piece *out)
{
    assert(t->start <= from && from < to && to <= t->end);
    size_t count = 0;
    for (size_t i = tail_chunk_at(t, from); from < to; i++) {
        const struct tail_chunk *c = &t->chunks[i];
        size_t at = from - c->start, n = c->n - at;
        if (n > to - from) n = to - from;
        out[count++] = (struct tail_piece){.bytes = bytes_ref(c->bytes), .at = at, .n = n};
        from += n;
    }
    return count;
}

struct tail_piece stream_tail_piece(const struct tail *t, uint64_t offset)
{
    assert(offset >= t->start && offset < t->end);
    const struct tail_chunk *c = &t->chunks[tail_chunk_at(t, offset)];
    size_t at = offset - c->start;
    return (struct tail_piece){.bytes = bytes_ref(c->bytes), .at = at, .n = c->n - at};
}

void stream_tail_drop(struct tail *t, uint64_t offset)
{
    assert(offset >= t->start && offset <= t->end);
    if (offset == t->end) return stream_tail_free(t); // leaves an empty tail that goes on at the end
    size_t gone = stream_tail_bounds_to_offset(t, offset), chunk = tail_chunk_at(t, offset);
    t->bound_count -= gone;
    memmove(t->bounds, t->bounds + gone, t->bound_count * sizeof *t->bounds);
    for (size_t i = 0; i < chunk; i++)
        bytes_unref(t->chunks[i].bytes);
    t->chunk_count -= chunk;
    memmove(t->chunks, t->chunks + chunk, t->chunk_count * sizeof *t->chunks);
    t->start = offset;
}

size_t stream_tail_bounds_to_seq(const struct tail *t, uint64_t seq)
{
    size_t lo = 0, hi = t->bound_count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (t->bounds[mid].seq <= seq)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

size_t stream_tail_bounds_to_offset(const struct tail *t, uint64_t offset)
{
    size_t lo = 0, hi = t->bound_count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (t->bounds[mid].end <= offset)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}
