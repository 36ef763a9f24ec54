#include "outbox.h"

#include <assert.h>
#include <stdlib.h>

#include "file.h"

#define PAGE_BYTES 1000 // of a page for small copies: with its head, what malloc still serves from its quick lists
#define SHARE_MIN 512   // smaller shared pieces are cheaper copied than gathered

static struct outbox_piece *piece_at(const struct outbox *o, uint32_t i)
{
    return &o->pieces[(o->first + i) % o->cap];
}

static struct outbox_piece *last(const struct outbox *o)
{
    return piece_at(o, o->count - 1);
}

static void piece_free(struct outbox_piece *p)
{
    bytes_unref(p->bytes);
    file_close(p->fd);
}

void outbox_free(struct outbox *o)
{
    for (uint32_t i = 0; i < o->count; i++)
        piece_free(piece_at(o, i));
    free(o->pieces);
    *o = (struct outbox){0};
}

static bool ring_grow(struct outbox *o)
{
    if (o->count < o->cap) return true;
    uint32_t cap = o->cap == 0 ? 4 : o->cap * 2;
    struct outbox_piece *pieces = malloc(cap * sizeof *pieces);
    if (pieces == NULL) return false;
    for (uint32_t i = 0; i < o->count; i++)
        pieces[i] = *piece_at(o, i);
    free(o->pieces);
    o->pieces = pieces;
    o->first = 0;
    o->cap = cap;
    return true;
}

// Takes over the reference.
static bool piece_add(struct outbox *o, struct bytes *b, size_t from, size_t n)
{
    if (!ring_grow(o)) return false;
    o->count++;
    *last(o) = (struct outbox_piece){.bytes = b, .fd = -1, .from = from, .n = n};
    o->n += n;
    return true;
}

bool outbox_share_part(struct outbox *o, struct bytes *b, size_t from, size_t n)
{
    assert(from <= b->n && n <= b->n - from);
    if (n == 0) return true;
    if (!piece_add(o, b, from, n)) return false;
    bytes_ref(b);
    o->page = false;
    return true;
}

bool outbox_share_first(struct outbox *o, struct bytes *b, size_t from, size_t n)
{
    assert(from <= b->n && n > 0 && n <= b->n - from);
    if (!ring_grow(o)) return false;
    o->first = (o->first + o->cap - 1) % o->cap;
    o->count++;
    *piece_at(o, 0) = (struct outbox_piece){.bytes = bytes_ref(b), .fd = -1, .from = from, .n = n};
    o->n += n;
    return true;
}

bool outbox_share(struct outbox *o, struct bytes *b)
{
    if (b->n < SHARE_MIN) return outbox_copy(o, bytes_span(b));
    return outbox_share_part(o, b, 0, b->n);
}

bool outbox_file(struct outbox *o, int fd, uint64_t position, size_t n)
{
    assert(fd >= 0 && n > 0);
    if (!piece_add(o, NULL, position, n)) {
        file_close(fd);
        return false;
    }
    last(o)->fd = fd;
    o->page = false;
    return true;
}

const struct outbox_piece *outbox_first_file(const struct outbox *o)
{
    return o->count > 0 && piece_at(o, 0)->bytes == NULL ? piece_at(o, 0) : NULL;
}

bool outbox_load(struct outbox *o, size_t max)
{
    assert(outbox_first_file(o) != NULL);
    struct outbox_piece *p = piece_at(o, 0);
    size_t n = p->n < max ? p->n : max;
    struct bytes *b = bytes_alloc(n);
    if (b == NULL || file_read(p->fd, b->p, n, p->from) != 0 || !ring_grow(o)) {
        bytes_unref(b);
        return false;
    }
    p = piece_at(o, 0); // which may have moved
    p->from += n;
    p->n -= n;
    if (p->n == 0) {
        piece_free(p);
    } else {
        o->first = (o->first + o->cap - 1) % o->cap;
        o->count++;
    }
    *piece_at(o, 0) = (struct outbox_piece){.bytes = b, .fd = -1, .n = n};
    return true;
}

// Fills the page at the end; bytes that a write in flight looks at lie before it and do not move.
static struct span page_fill(struct outbox *o, struct span s)
{
    if (!o->page || o->count == 0) return s;
    struct outbox_piece *p = last(o);
    size_t used = p->from + p->n;
    size_t n = s.n < p->bytes->n - used ? s.n : p->bytes->n - used;
    if (n > 0) memcpy(p->bytes->p + used, s.p, n);
    p->n += n;
    o->n += n;
    return span_sub(s, n, s.n);
}

bool outbox_copy(struct outbox *o, struct span s)
{
    s = page_fill(o, s);
    if (s.n == 0) return true;
    struct bytes *page = bytes_alloc(s.n > PAGE_BYTES ? s.n : PAGE_BYTES);
    if (page == NULL) return false;
    if (!piece_add(o, page, 0, s.n)) {
        bytes_unref(page);
        return false;
    }
    memcpy(page->p, s.p, s.n);
    o->page = true;
    return true;
}

int outbox_gather(const struct outbox *o, struct iovec *iov, int max)
{
    int n = 0;
    for (; n < max && (uint32_t)n < o->count; n++) {
        struct outbox_piece *p = piece_at(o, (uint32_t)n);
        if (p->bytes == NULL) break;
        iov[n] = (struct iovec){.iov_base = p->bytes->p + p->from, .iov_len = p->n};
    }
    return n;
}

void outbox_consume(struct outbox *o, size_t n)
{
    assert(n <= o->n);
    o->n -= n;
    while (o->count > 0 && n >= piece_at(o, 0)->n) {
        n -= piece_at(o, 0)->n;
        piece_free(piece_at(o, 0));
        o->first = (o->first + 1) % o->cap;
        o->count--;
    }
    if (o->count == 0)
        o->page = false;
    else
        piece_at(o, 0)->from += n, piece_at(o, 0)->n -= n;
}
