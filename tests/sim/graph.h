// A directed graph whose edges have kinds, for finding out whether "came before" has a cycle.
#ifndef SEGUE_TEST_GRAPH_H
#define SEGUE_TEST_GRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum edge_kind { EDGE_WW = 1, EDGE_WR = 2, EDGE_RW = 4, EDGE_RW_RANGE = 8, EDGE_PROCESS = 16, EDGE_TIME = 32 };

struct edge {
    uint32_t from, to;
    enum edge_kind kind;
    uint32_t object;
};

struct graph {
    uint32_t nodes;
    struct edge *edges; // by `from`, behind graph_close
    size_t count, cap;
    uint32_t *begin; // nodes + 1
    uint32_t *part;  // behind graph_parts
    uint32_t *size;  // of each part
};

void graph_free(struct graph *g);
void graph_edge(struct graph *g, uint32_t from, uint32_t to, enum edge_kind kind, uint32_t object);
// No more edges. Needed before what follows.
void graph_close(struct graph *g, uint32_t nodes);
// Strongly connected parts over edges of these kinds (Tarjan): nodes of one part reach each other. Linear.
void graph_parts(struct graph *g, unsigned kinds);
// The shortest way over edges of these kinds, inside the part of `from`, as indexes of edges; 0: there is none. Where from is to, the shortest cycle.
size_t graph_way(const struct graph *g, uint32_t from, uint32_t to, unsigned kinds, uint32_t **way);

#endif
