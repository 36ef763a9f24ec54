#include "stream_groups.h"

#include <assert.h>
#include <stdlib.h>

#include "err.h"

// Room for one more at the back: what the front has freed is used again before memory is asked for.
static int groups_room(struct groups *g)
{
    if (g->head + g->n < g->cap) return 0;
    if (g->head > g->cap / 2) {
        memmove(g->p, g->p + g->head, g->n * sizeof *g->p);
        g->head = 0;
        return 0;
    }
    size_t cap = g->cap == 0 ? 64 : g->cap * 2;
    struct group_count *p = realloc(g->p, cap * sizeof *p);
    if (p == NULL) return ERR_NOMEM;
    g->p = p;
    g->cap = cap;
    return 0;
}

int stream_groups_add(struct groups *g, uint64_t group)
{
    struct group_count *last = g->n == 0 ? NULL : &g->p[g->head + g->n - 1];
    assert(last == NULL || last->group <= group);
    if (last != NULL && last->group == group) {
        last->appends++;
        return 0;
    }
    int err = groups_room(g);
    if (err != 0) return err;
    g->p[g->head + g->n++] = (struct group_count){group, 1};
    return 0;
}

void stream_groups_drop(struct groups *g, uint64_t group)
{
    size_t lo = g->head, hi = g->head + g->n;
    while (lo < hi) { // the first counter that is not below `group`
        size_t mid = lo + (hi - lo) / 2;
        if (g->p[mid].group < group)
            lo = mid + 1;
        else
            hi = mid;
    }
    assert(lo < g->head + g->n && g->p[lo].group == group && g->p[lo].appends > 0);
    g->p[lo].appends--;
    while (g->n > 0 && g->p[g->head].appends == 0) {
        g->head++;
        g->n--;
    }
    if (g->n == 0) g->head = 0;
}

uint64_t stream_groups_oldest(const struct groups *g)
{
    return g->n == 0 ? UINT64_MAX : g->p[g->head].group;
}

void stream_groups_free(struct groups *g)
{
    free(g->p);
    *g = (struct groups){0};
}
