#include "history.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void *grown(void *p, size_t *cap, size_t need, size_t each)
{
    if (need <= *cap) return p;
    while (*cap < need)
        *cap = *cap == 0 ? 64 : 2 * *cap;
    p = reallocarray(p, *cap, each);
    if (p == NULL) abort();
    return p;
}

void history_free(struct history *h)
{
    free(h->txns);
    free(h->acts);
    free(h->values);
    *h = (struct history){0};
}

void history_txn(struct history *h, uint32_t client, enum outcome outcome, uint64_t began, uint64_t ended)
{
    assert(outcome == TXN_UNKNOWN || began <= ended);
    h->txns = grown(h->txns, &h->cap, h->count + 1, sizeof *h->txns);
    h->txns[h->count++] = (struct txn){.client = client, .outcome = outcome, .began = began, .ended = outcome == TXN_UNKNOWN ? UINT64_MAX : ended, .first = h->act_count};
}

static void add(struct history *h, struct act a)
{
    assert(h->count > 0);
    h->acts = grown(h->acts, &h->act_cap, h->act_count + 1, sizeof *h->acts);
    h->acts[h->act_count++] = a;
    h->txns[h->count - 1].n++;
}

void history_read(struct history *h, uint32_t object, uint64_t value)
{
    add(h, (struct act){.kind = ACT_READ, .object = object, .value = value});
}

void history_read_range(struct history *h, uint32_t object, uint64_t value)
{
    add(h, (struct act){.kind = ACT_READ_RANGE, .object = object, .value = value});
}

void history_read_list(struct history *h, uint32_t object, const uint64_t *values, size_t n)
{
    h->values = grown(h->values, &h->value_cap, h->value_count + n, sizeof *h->values);
    if (n > 0) memcpy(h->values + h->value_count, values, n * sizeof *values);
    add(h, (struct act){.kind = ACT_READ_LIST, .object = object, .at = h->value_count, .n = n});
    h->value_count += n;
}

void history_write(struct history *h, uint32_t object, uint64_t value)
{
    assert(value != 0);
    add(h, (struct act){.kind = ACT_WRITE, .object = object, .value = value});
}

void history_append(struct history *h, uint32_t object, uint64_t value)
{
    assert(value != 0);
    add(h, (struct act){.kind = ACT_APPEND, .object = object, .value = value});
}
