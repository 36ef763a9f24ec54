#include "graph.h"

#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX

static void *room_for(size_t n, size_t each)
{
    void *p = calloc(n + 1, each);
    if (p == NULL) abort();
    return p;
}

void graph_free(struct graph *g)
{
    free(g->edges);
    free(g->begin);
    free(g->part);
    free(g->size);
    *g = (struct graph){0};
}

void graph_edge(struct graph *g, uint32_t from, uint32_t to, enum edge_kind kind, uint32_t object)
{
    if (from == to) return;
    if (g->count == g->cap) {
        g->cap = g->cap == 0 ? 256 : 2 * g->cap;
        g->edges = reallocarray(g->edges, g->cap, sizeof *g->edges);
        if (g->edges == NULL) abort();
    }
    g->edges[g->count++] = (struct edge){from, to, kind, object};
}

static int by_from(const void *a, const void *b)
{
    const struct edge *x = a, *y = b;
    if (x->from != y->from) return x->from < y->from ? -1 : 1;
    if (x->to != y->to) return x->to < y->to ? -1 : 1;
    return (x->kind > y->kind) - (x->kind < y->kind);
}

void graph_close(struct graph *g, uint32_t nodes)
{
    g->nodes = nodes;
    if (g->count > 1) qsort(g->edges, g->count, sizeof *g->edges, by_from);
    g->begin = room_for(nodes + 1, sizeof *g->begin);
    g->part = room_for(nodes, sizeof *g->part);
    g->size = room_for(nodes, sizeof *g->size);
    for (size_t i = 0; i < g->count; i++)
        g->begin[g->edges[i].from + 1]++;
    for (uint32_t n = 0; n < nodes; n++)
        g->begin[n + 1] += g->begin[n];
}

// ---- Tarjan, without recursion: histories are long ---------------------------------------------------------------------

struct tarjan {
    struct graph *g;
    unsigned kinds;
    uint32_t *index, *low, *next; // index 0: not met; next: the edge to go on with
    uint32_t *open, open_count;   // met, and of no part yet
    uint32_t *path, depth;
    bool *is_open;
    uint32_t met, parts;
};

static void meet(struct tarjan *t, uint32_t n)
{
    t->index[n] = t->low[n] = ++t->met;
    t->next[n] = t->g->begin[n];
    t->open[t->open_count++] = n;
    t->is_open[n] = true;
    t->path[t->depth++] = n;
}

static void part_done(struct tarjan *t, uint32_t n)
{
    uint32_t member;
    do {
        member = t->open[--t->open_count];
        t->is_open[member] = false;
        t->g->part[member] = t->parts;
        t->g->size[t->parts]++;
    } while (member != n);
    t->parts++;
}

static void go_on(struct tarjan *t)
{
    uint32_t n = t->path[t->depth - 1];
    while (t->next[n] < t->g->begin[n + 1]) {
        const struct edge *e = &t->g->edges[t->next[n]++];
        if ((e->kind & t->kinds) == 0) continue;
        if (t->index[e->to] == 0) {
            meet(t, e->to);
            return;
        }
        if (t->is_open[e->to] && t->index[e->to] < t->low[n]) t->low[n] = t->index[e->to];
    }
    t->depth--;
    if (t->depth > 0 && t->low[n] < t->low[t->path[t->depth - 1]]) t->low[t->path[t->depth - 1]] = t->low[n];
    if (t->low[n] == t->index[n]) part_done(t, n);
}

void graph_parts(struct graph *g, unsigned kinds)
{
    struct tarjan t = {.g = g, .kinds = kinds};
    t.index = room_for(g->nodes, sizeof *t.index);
    t.low = room_for(g->nodes, sizeof *t.low);
    t.next = room_for(g->nodes, sizeof *t.next);
    t.open = room_for(g->nodes, sizeof *t.open);
    t.path = room_for(g->nodes, sizeof *t.path);
    t.is_open = room_for(g->nodes, sizeof *t.is_open);
    memset(g->size, 0, g->nodes * sizeof *g->size);
    for (uint32_t n = 0; n < g->nodes; n++) {
        if (t.index[n] != 0) continue;
        meet(&t, n);
        while (t.depth > 0)
            go_on(&t);
    }
    free(t.index);
    free(t.low);
    free(t.next);
    free(t.open);
    free(t.path);
    free(t.is_open);
}

// ---- ways --------------------------------------------------------------------------------------------------------------

size_t graph_way(const struct graph *g, uint32_t from, uint32_t to, unsigned kinds, uint32_t **way)
{
    uint32_t *by = malloc((g->nodes + 1) * sizeof *by), *queue = room_for(g->nodes, sizeof *queue), head = 0, tail = 0;
    if (by == NULL) abort();
    memset(by, 0xff, (g->nodes + 1) * sizeof *by); // NONE: the edge by which a node was reached
    queue[tail++] = from;
    while (head < tail && by[to] == NONE) {
        uint32_t n = queue[head++];
        for (uint32_t i = g->begin[n]; i < g->begin[n + 1]; i++) {
            const struct edge *e = &g->edges[i];
            if ((e->kind & kinds) == 0 || by[e->to] != NONE || g->part[e->to] != g->part[from]) continue;
            by[e->to] = i;
            if (e->to != from) queue[tail++] = e->to;
        }
    }
    size_t n = 0;
    uint32_t at = to;
    while (by[to] != NONE && (n == 0 || at != from)) {
        queue[n++] = by[at]; // the queue has done its work, and a way is no longer than there are nodes
        at = g->edges[by[at]].from;
    }
    for (size_t i = 0; i < n / 2; i++) {
        uint32_t kept = queue[i];
        queue[i] = queue[n - 1 - i];
        queue[n - 1 - i] = kept;
    }
    free(by);
    *way = queue;
    return n;
}
