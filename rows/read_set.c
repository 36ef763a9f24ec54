#include "read_set.h"

#include <assert.h>
#include <stdlib.h>

#include "arena.h"
#include "cur.h"
#include "err.h"
#include "limits.h"

#define FORMAT 1
#define GROUP_BYTES 20       // of an encoded group's head, at most
#define ARENA_MAX (64 * MIB) // far beyond what twice READ_SET_MAX can need

enum { END_NEXT = 0, END_NONE = 1 };

struct read_set {
    struct read_range *ranges;
    size_t n, cap;
    struct read_group *groups;
    size_t group_count;
    struct arena *arena; // the bytes of all bounds
    size_t bytes;        // what this takes encoded: at most, and exactly once it is finished
    bool finished;
    int err;
};

struct read_set *read_set_new(void)
{
    struct read_set *s = calloc(1, sizeof *s);
    if (s) s->arena = arena_new(ARENA_MAX);
    if (s && !s->arena) {
        free(s);
        return NULL;
    }
    if (s) s->finished = true;
    return s;
}

void read_set_free(struct read_set *s)
{
    if (!s) return;
    arena_free(s->arena);
    free(s->groups);
    free(s->ranges);
    free(s);
}

// ---- ranges --------------------------------------------------------------------------------------------------------

// The least key above all others that are not above `k` is `k` and a zero byte, so one key alone is the range up to that.
static bool is_next(struct span k, struct span to)
{
    return to.n == k.n + 1 && to.p[k.n] == 0 && (k.n == 0 || memcmp(k.p, to.p, k.n) == 0);
}

// By ends: no end is above every other.
static int compare_ends(struct span a, struct span b)
{
    if (a.n == 0 || b.n == 0) return (a.n == 0) - (b.n == 0);
    return span_compare(a, b);
}

static int compare_groups(const struct read_range *a, const struct read_range *b)
{
    if (a->table != b->table) return a->table < b->table ? -1 : 1;
    return (a->index > b->index) - (a->index < b->index);
}

static int compare_ranges(const void *va, const void *vb)
{
    const struct read_range *a = va, *b = vb;
    int c = compare_groups(a, b);
    return c ? c : span_compare(a->from, b->from);
}

static bool is_whole_table(const struct read_range *r)
{
    return r->index == READ_TABLE_WHOLE && r->from.n == 0 && r->to.n == 0;
}

static size_t varint_bytes(uint64_t v)
{
    size_t n = 1;
    for (; v >= 0x80; v >>= 7)
        n++;
    return n;
}

static size_t range_bytes(const struct read_range *r)
{
    size_t n = varint_bytes(r->from.n) + r->from.n;
    if (r->to.n == 0 || is_next(r->from, r->to)) return n + 1;
    return n + varint_bytes(r->to.n + 1) + r->to.n;
}

bool read_range_row(const struct read_range *r, struct uuid *id)
{
    if (r->index != 0 || r->from.n != sizeof id->b || !is_next(r->from, r->to)) return false;
    memcpy(id->b, r->from.p, sizeof id->b);
    return true;
}

// ---- keeping the bound ---------------------------------------------------------------------------------------------

// Sorted ranges become disjoint ones that do not even meet.
static void merge_ranges(struct read_set *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) {
        struct read_range *last = n > 0 ? &s->ranges[n - 1] : NULL, *r = &s->ranges[i];
        if (last && last->table == r->table && is_whole_table(last)) continue; // index 0 comes first: the other indexes say no more
        if (last && compare_groups(last, r) == 0 && (last->to.n == 0 || span_compare(r->from, last->to) <= 0)) {
            if (compare_ends(r->to, last->to) > 0) last->to = r->to;
        } else {
            s->ranges[n++] = *r;
        }
    }
    s->n = n;
}

static size_t encoded_bytes(const struct read_set *s)
{
    size_t bytes = 1, groups = 0;
    for (size_t i = 0; i < s->n; groups++) {
        size_t first = i;
        for (; i < s->n && compare_groups(&s->ranges[first], &s->ranges[i]) == 0; i++)
            bytes += range_bytes(&s->ranges[i]);
        bytes += varint_bytes(s->ranges[first].table) + varint_bytes(s->ranges[first].index) + varint_bytes(i - first);
    }
    return bytes + varint_bytes(groups);
}

// Counts the table with the most bytes as read whole.
static void coarsen(struct read_set *s)
{
    uint32_t largest = 0;
    size_t most = 0, n = 0;
    for (size_t i = 0; i < s->n;) {
        size_t bytes = 0, first = i;
        for (; i < s->n && s->ranges[i].table == s->ranges[first].table; i++)
            bytes += range_bytes(&s->ranges[i]);
        if (bytes > most && !is_whole_table(&s->ranges[first])) {
            most = bytes;
            largest = s->ranges[first].table;
        }
    }
    assert(most > 0); // whole tables alone are far below the bound
    for (size_t i = 0; i < s->n; i++) {
        bool first = i == 0 || s->ranges[i - 1].table != s->ranges[i].table;
        if (s->ranges[i].table != largest) s->ranges[n++] = s->ranges[i];
        else if (first) s->ranges[n++] = (struct read_range){.table = largest, .index = READ_TABLE_WHOLE};
    }
    s->n = n;
}

// Puts the bounds that are still named into an arena of their own, so that memory follows what is kept.
static void repack(struct read_set *s)
{
    struct arena *fresh = arena_new(ARENA_MAX);
    if (!fresh) s->err = ERR_NOMEM;
    for (size_t i = 0; i < s->n && !s->err; i++) {
        struct read_range *r = &s->ranges[i];
        bool next = r->to.n > 0 && is_next(r->from, r->to);
        if (next) {
            if (!arena_copy_span(fresh, r->to, &r->to)) s->err = ERR_NOMEM;
            r->from = span_sub(r->to, 0, r->from.n);
        } else if (!arena_copy_span(fresh, r->from, &r->from) || !arena_copy_span(fresh, r->to, &r->to)) {
            s->err = ERR_NOMEM;
        }
    }
    if (s->err) {
        s->n = 0; // half of the bounds are of the other arena
        arena_free(fresh);
        return;
    }
    arena_free(s->arena);
    s->arena = fresh;
}

static void compact(struct read_set *s)
{
    if (s->n > 1) qsort(s->ranges, s->n, sizeof *s->ranges, compare_ranges);
    merge_ranges(s);
    while ((s->bytes = encoded_bytes(s)) > READ_SET_MAX) {
        coarsen(s);
        merge_ranges(s);
    }
    if (arena_used(s->arena) > READ_SET_MAX) repack(s);
}

// ---- recording -----------------------------------------------------------------------------------------------------

static bool reserve(struct read_set *s)
{
    if (s->err) return false;
    if (s->bytes > 2 * READ_SET_MAX) compact(s);
    if (s->err) return false;
    if (s->n < s->cap) return true;
    size_t cap = s->cap ? s->cap * 2 : 16;
    struct read_range *ranges = realloc(s->ranges, cap * sizeof *ranges);
    if (!ranges) {
        s->err = ERR_NOMEM;
        return false;
    }
    s->ranges = ranges;
    s->cap = cap;
    return true;
}

static void add(struct read_set *s, struct read_range r)
{
    s->ranges[s->n++] = r;
    s->bytes += range_bytes(&r) + GROUP_BYTES;
    s->finished = false;
}

// The key alone: both bounds share its bytes.
static void add_key(struct read_set *s, uint32_t table, uint32_t index, struct span key)
{
    uint8_t *p = arena_alloc(s->arena, key.n + 1);
    if (!p) {
        s->err = ERR_NOMEM;
        return;
    }
    if (key.n > 0) memcpy(p, key.p, key.n);
    add(s, (struct read_range){.table = table, .index = index, .from = SPAN(p, key.n), .to = SPAN(p, key.n + 1)});
}

void read_set_row(struct read_set *s, uint32_t table, struct uuid id)
{
    assert(s && table > 0);
    if (reserve(s)) add_key(s, table, 0, SPAN(id.b, sizeof id.b));
}

void read_set_range(struct read_set *s, uint32_t table, uint32_t index, struct span from, struct span to)
{
    struct read_range r = {.table = table, .index = index};
    assert(s && table > 0 && from.n < READ_KEY_MAX && to.n <= READ_KEY_MAX);
    if ((to.n > 0 && span_compare(from, to) >= 0) || !reserve(s)) return;
    if (to.n > 0 && is_next(from, to)) {
        add_key(s, table, index, from);
    } else if (arena_copy_span(s->arena, from, &r.from) && arena_copy_span(s->arena, to, &r.to)) {
        add(s, r);
    } else {
        s->err = ERR_NOMEM;
    }
}

void read_set_add(struct read_set *s, const struct read_set *other)
{
    assert(s && other && s != other);
    for (size_t i = 0; i < other->n; i++)
        read_set_range(s, other->ranges[i].table, other->ranges[i].index, other->ranges[i].from, other->ranges[i].to);
    if (other->err && !s->err) s->err = other->err;
}

static int make_groups(struct read_set *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        n += i == 0 || compare_groups(&s->ranges[i - 1], &s->ranges[i]) != 0;
    free(s->groups);
    s->group_count = 0;
    s->groups = calloc(n ? n : 1, sizeof *s->groups);
    if (!s->groups) return ERR_NOMEM;
    for (size_t i = 0; i < s->n; i++) {
        const struct read_range *r = &s->ranges[i];
        if (i == 0 || compare_groups(&s->ranges[i - 1], r) != 0)
            s->groups[s->group_count++] = (struct read_group){.table = r->table, .index = r->index, .ranges = r};
        s->groups[s->group_count - 1].n++;
    }
    return 0;
}

int read_set_finish(struct read_set *s)
{
    assert(s);
    if (s->err || (s->finished && s->groups)) return s->err;
    compact(s);
    if (!s->err) s->err = make_groups(s);
    s->finished = s->err == 0;
    return s->err;
}

// ---- asking --------------------------------------------------------------------------------------------------------

const struct read_group *read_set_groups(const struct read_set *s, size_t *n)
{
    assert(s && s->finished && !s->err);
    *n = s->group_count;
    return s->groups;
}

const struct read_group *read_set_table(const struct read_set *s, uint32_t table, size_t *n)
{
    assert(s && s->finished && !s->err);
    size_t low = 0, high = s->group_count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (s->groups[mid].table < table) low = mid + 1;
        else high = mid;
    }
    for (*n = 0; low + *n < s->group_count && s->groups[low + *n].table == table;)
        ++*n;
    return *n > 0 ? &s->groups[low] : NULL;
}

const struct read_range *read_group_find(const struct read_group *g, struct span key)
{
    size_t low = 0, high = g->n; // the ranges before `low` begin at or before the key
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (span_compare(g->ranges[mid].from, key) <= 0) low = mid + 1;
        else high = mid;
    }
    const struct read_range *r = low > 0 ? &g->ranges[low - 1] : NULL;
    return r && (r->to.n == 0 || span_compare(key, r->to) < 0) ? r : NULL;
}

// ---- as bytes ------------------------------------------------------------------------------------------------------

static void encode_range(const struct read_range *r, struct buf *out)
{
    buf_put_blob(out, r->from);
    if (r->to.n == 0) {
        buf_put_varint(out, END_NONE);
    } else if (is_next(r->from, r->to)) {
        buf_put_varint(out, END_NEXT);
    } else {
        buf_put_varint(out, r->to.n + 1);
        buf_put_span(out, r->to);
    }
}

void read_set_encode(const struct read_set *s, struct buf *out)
{
    assert(s && s->finished && !s->err);
    buf_put_u8(out, FORMAT);
    buf_put_varint(out, s->group_count);
    for (size_t i = 0; i < s->group_count; i++) {
        const struct read_group *g = &s->groups[i];
        buf_put_varint(out, g->table);
        buf_put_varint(out, g->index);
        buf_put_varint(out, g->n);
        for (size_t k = 0; k < g->n; k++)
            encode_range(&g->ranges[k], out);
    }
}

// `scratch` has room for a bound that is not in the bytes as it is.
static void decode_range(struct cur *c, struct read_range *r, uint8_t scratch[READ_KEY_MAX])
{
    r->from = cur_blob(c);
    uint64_t end = cur_varint(c);
    if (r->from.n >= READ_KEY_MAX || end > READ_KEY_MAX + 1) cur_fail(c);
    if (c->err) return;
    r->to = SPAN_NONE;
    if (end == END_NEXT) {
        if (r->from.n > 0) memcpy(scratch, r->from.p, r->from.n);
        scratch[r->from.n] = 0;
        r->to = SPAN(scratch, r->from.n + 1);
    } else if (end != END_NONE) {
        r->to = cur_span(c, end - 1);
        if (!c->err && (span_compare(r->from, r->to) >= 0 || is_next(r->from, r->to))) cur_fail(c);
    }
}

// Ascending, and with a gap: what meets would have been written as one.
static bool in_order(const struct read_range *last, const struct read_range *r)
{
    if (last->table == 0) return true;
    if (last->table == r->table && is_whole_table(last)) return false;
    if (compare_groups(last, r) != 0) return compare_groups(last, r) < 0;
    return last->to.n > 0 && span_compare(last->to, r->from) < 0;
}

// Reads all of it; with a set, records it too.
static int decode(struct span bytes, struct read_set *s)
{
    uint8_t room[2][READ_KEY_MAX];
    struct read_range last = {.table = 0};
    struct cur c;
    cur_init(&c, bytes);
    if (bytes.n > READ_SET_MAX || cur_u8(&c) != FORMAT) return ERR_CORRUPT;
    uint64_t groups = cur_varint(&c);
    for (uint64_t i = 0; i < groups && !c.err; i++) {
        uint64_t table = cur_varint(&c), index = cur_varint(&c), n = cur_varint(&c);
        if (table == 0 || table > UINT32_MAX || index > UINT32_MAX || n == 0) cur_fail(&c);
        for (uint64_t k = 0; k < n && !c.err; k++) {
            struct read_range r = {.table = (uint32_t)table, .index = (uint32_t)index};
            decode_range(&c, &r, room[k & 1]);
            if (!c.err && (!in_order(&last, &r) || (k == 0 && last.table > 0 && compare_groups(&last, &r) == 0))) cur_fail(&c);
            if (c.err) break;
            if (s) read_set_range(s, r.table, r.index, r.from, r.to);
            last = r;
        }
    }
    return cur_end(&c);
}

int read_set_decode(struct read_set *s, struct span bytes)
{
    assert(s);
    int err = decode(bytes, NULL);
    if (err) return err;
    err = decode(bytes, s);
    assert(err == 0);
    return s->err;
}
