#include "sort_keys.h"

#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "limits.h"

#define SLACK 64 // keys beyond those kept before a collection is cut back

void sort_keys_free(struct sort_keys *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->keys[i]);
    free(s->keys);
    *s = (struct sort_keys){.keys = NULL};
}

static int reserve(struct sort_keys *s)
{
    if (s->n < s->cap) return 0;
    size_t cap = s->cap ? s->cap * 2 : 16;
    struct sort_key **keys = realloc(s->keys, cap * sizeof(struct sort_key *));
    if (!keys) return ERR_NOMEM;
    s->keys = keys;
    s->cap = cap;
    return 0;
}

static int make(struct sort_keys *s, struct span key, struct sort_key **out)
{
    assert(key.n >= sizeof(struct uuid) && key.n <= UINT32_MAX);
    if (key.n > QUERY_SORT_MAX - s->bytes) return ERR_QUERY_TOO_EXPENSIVE;
    struct sort_key *k = malloc(sizeof *k + key.n);
    if (!k) return ERR_NOMEM;
    k->n = (uint32_t)key.n;
    memcpy(k->b, key.p, key.n);
    s->bytes += key.n;
    *out = k;
    return 0;
}

static void drop(struct sort_keys *s, struct sort_key *k)
{
    s->bytes -= k->n;
    free(k);
}

static int compare(const void *a, const void *b)
{
    return span_compare(sort_key_span(*(struct sort_key *const *)a), sort_key_span(*(struct sort_key *const *)b));
}

void sort_keys_finish(struct sort_keys *s, size_t keep, bool *dropped)
{
    if (s->n > 1) qsort(s->keys, s->n, sizeof(struct sort_key *), compare);
    if (s->n > keep) *dropped = true;
    while (s->n > keep)
        drop(s, s->keys[--s->n]);
}

// Cutting back only when twice as many are there keeps the work per key that of a sort, however few are kept.
int sort_keys_collect(struct sort_keys *s, struct span key, size_t keep, bool *dropped)
{
    if (keep <= QUERY_SCAN_MAX && s->n >= keep * 2 + SLACK) sort_keys_finish(s, keep, dropped);
    int err = reserve(s);
    if (!err) err = make(s, key, &s->keys[s->n]);
    if (err == ERR_QUERY_TOO_EXPENSIVE && s->n > keep) {
        sort_keys_finish(s, keep, dropped);
        err = make(s, key, &s->keys[s->n]);
    }
    if (!err) s->n++;
    return err;
}

size_t sort_keys_find(const struct sort_keys *s, struct span key, bool *found)
{
    size_t low = 0, high = s->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int c = span_compare(key, sort_key_span(s->keys[mid]));
        if (c == 0) {
            *found = true;
            return mid;
        }
        if (c < 0) {
            high = mid;
        } else {
            low = mid + 1;
        }
    }
    *found = false;
    return low;
}

int sort_keys_insert(struct sort_keys *s, size_t at, struct span key)
{
    struct sort_key *k;
    assert(at <= s->n);
    int err = reserve(s);
    if (!err) err = make(s, key, &k);
    if (err) return err;
    memmove(s->keys + at + 1, s->keys + at, (s->n - at) * sizeof(struct sort_key *));
    s->keys[at] = k;
    s->n++;
    return 0;
}

void sort_keys_remove(struct sort_keys *s, size_t at)
{
    assert(at < s->n);
    drop(s, s->keys[at]);
    memmove(s->keys + at, s->keys + at + 1, (s->n - at - 1) * sizeof(struct sort_key *));
    s->n--;
}
