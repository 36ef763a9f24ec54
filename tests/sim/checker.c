#include "checker.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph.h"

#define NOBODY UINT32_MAX
#define EDGES_LOOKED_AT 400 // of one part, for a way back: enough to name what is wrong with it

static const char *const names[ANOMALIES] = {
    [ANOMALY_DIRTY_WRITE] = "dirty write (G0)",
    [ANOMALY_ABORTED_READ] = "aborted read (G1a)",
    [ANOMALY_INTERMEDIATE_READ] = "intermediate read (G1b)",
    [ANOMALY_CIRCULAR_READS] = "circular information flow (G1c)",
    [ANOMALY_LOST_UPDATE] = "lost update",
    [ANOMALY_READ_SKEW] = "read skew (G-single)",
    [ANOMALY_WRITE_SKEW] = "write skew (G2)",
    [ANOMALY_PHANTOM] = "phantom (G2 of a range)",
    [ANOMALY_REAL_TIME] = "real time violated",
    [ANOMALY_TORN_ORDER] = "incompatible orders",
    [ANOMALY_DOUBLE] = "written once, there twice",
    [ANOMALY_GARBAGE] = "a value that nobody wrote",
};

const char *anomaly_name(enum anomaly a)
{
    return names[a];
}

void verdict_add(struct verdict *v, enum anomaly a, const char *fmt, ...)
{
    va_list args;
    if (v->found[a]++ > 0) return;
    va_start(args, fmt);
    vsnprintf(v->first[a], FINDING_MAX, fmt, args);
    va_end(args);
}

// ---- who wrote what ----------------------------------------------------------------------------------------------------

// A value of an object, and who has to do with it. Value 0: as it was before anybody wrote.
struct version {
    bool used;
    uint32_t object;
    uint64_t value;
    uint32_t writer;   // NOBODY
    bool intermediate; // its writer wrote the object again
    uint32_t next;     // who read it and wrote over it; NOBODY
};

struct check {
    const struct history *h;
    struct verdict *v;
    struct version *versions; // by hash
    size_t mask;
    bool *seen;               // of each transaction: somebody saw what it wrote
    struct { const struct act *read; } *longest; // of each list, by object
    uint32_t objects;
    struct graph g;
};

static struct version *version_of(struct check *c, uint32_t object, uint64_t value)
{
    uint64_t hash = (value * 0x9e3779b97f4a7c15u) ^ ((uint64_t)object * 0xc2b2ae3d27d4eb4fu);
    for (size_t i = (size_t)(hash ^ hash >> 29);; i++) {
        struct version *at = &c->versions[i & c->mask];
        if (at->used && (at->object != object || at->value != value)) continue;
        if (!at->used) *at = (struct version){.used = true, .object = object, .value = value, .writer = NOBODY, .next = NOBODY};
        return at;
    }
}

static const struct act *act_of(const struct check *c, const struct txn *t, size_t i)
{
    return &c->h->acts[t->first + i];
}

static uint64_t last_of(const struct check *c, const struct act *list)
{
    return list->n == 0 ? 0 : c->h->values[list->at + list->n - 1];
}

static bool is_write(const struct act *a)
{
    return a->kind == ACT_WRITE || a->kind == ACT_APPEND;
}

static bool committed(const struct check *c, uint32_t t)
{
    return c->h->txns[t].outcome == TXN_COMMITTED || (c->h->txns[t].outcome == TXN_UNKNOWN && c->seen[t]);
}

// The last write of a transaction to an object is what others may see.
static void note_writes(struct check *c, uint32_t at)
{
    const struct txn *t = &c->h->txns[at];
    for (size_t i = 0; i < t->n; i++) {
        const struct act *a = act_of(c, t, i);
        if (!is_write(a)) continue;
        struct version *version = version_of(c, a->object, a->value);
        assert(version->writer == NOBODY); // each value is written once: the caller's promise
        version->writer = at;
        for (size_t k = i + 1; k < t->n && a->kind == ACT_WRITE; k++)
            version->intermediate |= is_write(act_of(c, t, k)) && act_of(c, t, k)->object == a->object;
    }
}

// ---- what was seen -----------------------------------------------------------------------------------------------------

static void saw(struct check *c, uint32_t reader, uint32_t object, uint64_t value)
{
    const struct version *version = version_of(c, object, value);
    if (value == 0) return;
    if (version->writer == NOBODY) {
        verdict_add(c->v, ANOMALY_GARBAGE, "T%u saw %llu in object %u", reader, (unsigned long long)value, object);
        return;
    }
    c->seen[version->writer] |= version->writer != reader;
    if (c->h->txns[version->writer].outcome == TXN_ABORTED)
        verdict_add(c->v, ANOMALY_ABORTED_READ, "T%u saw %llu in object %u, which T%u wrote and was refused", reader, (unsigned long long)value, object, version->writer);
    if (version->intermediate && version->writer != reader)
        verdict_add(c->v, ANOMALY_INTERMEDIATE_READ, "T%u saw %llu in object %u, which T%u wrote over itself", reader, (unsigned long long)value, object, version->writer);
}

static void saw_list(struct check *c, uint32_t reader, const struct act *a)
{
    const uint64_t *values = c->h->values + a->at;
    const struct act *longest = c->longest[a->object].read;
    size_t common = longest == NULL ? 0 : longest->n < a->n ? longest->n : a->n;
    for (size_t i = 0; i < a->n; i++)
        saw(c, reader, a->object, values[i]);
    for (size_t i = 1; i < a->n; i++)
        for (size_t k = 0; k < i; k++)
            if (values[i] == values[k]) verdict_add(c->v, ANOMALY_DOUBLE, "T%u saw %llu twice in list %u", reader, (unsigned long long)values[i], a->object);
    if (common > 0 && memcmp(values, c->h->values + longest->at, common * sizeof *values) != 0)
        verdict_add(c->v, ANOMALY_TORN_ORDER, "what T%u saw of list %u neither begins nor goes on what was seen before", reader, a->object);
    if (longest == NULL || a->n > longest->n) c->longest[a->object].read = a;
}

static void note_reads(struct check *c, uint32_t at)
{
    const struct txn *t = &c->h->txns[at];
    for (size_t i = 0; i < t->n; i++) {
        const struct act *a = act_of(c, t, i);
        if (a->kind == ACT_READ_LIST) saw_list(c, at, a);
        else if (!is_write(a)) saw(c, at, a->object, a->value);
    }
}

// ---- who came before whom ----------------------------------------------------------------------------------------------

// Who read the object and wrote over it is the next one behind the version that it read.
static void note_next(struct check *c, uint32_t at)
{
    const struct txn *t = &c->h->txns[at];
    for (size_t i = 0; i < t->n; i++) {
        const struct act *a = act_of(c, t, i);
        bool writes = false;
        for (size_t k = 0; k < t->n && !is_write(a); k++)
            writes |= is_write(act_of(c, t, k)) && act_of(c, t, k)->object == a->object;
        if (!writes) continue;
        struct version *read = version_of(c, a->object, a->kind == ACT_READ_LIST ? last_of(c, a) : a->value);
        if (read->next == NOBODY) read->next = at;
        else if (read->next != at)
            verdict_add(c->v, ANOMALY_LOST_UPDATE, "T%u and T%u both read object %u at %llu and wrote over it", read->next, at, a->object, (unsigned long long)read->value);
    }
}

static void order_read(struct check *c, uint32_t reader, const struct act *a, uint64_t value)
{
    const struct version *read = version_of(c, a->object, value);
    enum edge_kind rw = a->kind == ACT_READ_RANGE && value == 0 ? EDGE_RW_RANGE : EDGE_RW;
    bool overwrites = false;
    for (const struct txn *t = &c->h->txns[reader]; !overwrites && read->next != reader && a < c->h->acts + t->first + t->n; a++)
        overwrites = is_write(a) && a->object == read->object; // then it is the other half of a lost update
    if (read->writer != NOBODY && committed(c, read->writer)) graph_edge(&c->g, read->writer, reader, EDGE_WR, read->object);
    if (read->writer != NOBODY && committed(c, read->writer) && read->next != NOBODY) graph_edge(&c->g, read->writer, read->next, EDGE_WW, read->object);
    if (read->next != NOBODY && !overwrites) graph_edge(&c->g, reader, read->next, rw, read->object);
}

// Behind what a reader of a list saw comes what the longest read saw next.
static void order_list(struct check *c, uint32_t reader, const struct act *a)
{
    const struct act *longest = c->longest[a->object].read;
    const struct version *last = version_of(c, a->object, last_of(c, a));
    if (last->writer != NOBODY && committed(c, last->writer)) graph_edge(&c->g, last->writer, reader, EDGE_WR, a->object);
    if (longest->n <= a->n) return;
    uint32_t next = version_of(c, a->object, c->h->values[longest->at + a->n])->writer;
    if (next != NOBODY && committed(c, next)) graph_edge(&c->g, reader, next, EDGE_RW, a->object);
}

static void order_longest(struct check *c, uint32_t object)
{
    const struct act *longest = c->longest[object].read;
    for (size_t i = 1; longest != NULL && i < longest->n; i++) {
        uint32_t from = version_of(c, object, c->h->values[longest->at + i - 1])->writer, to = version_of(c, object, c->h->values[longest->at + i])->writer;
        if (from != NOBODY && to != NOBODY && committed(c, from) && committed(c, to)) graph_edge(&c->g, from, to, EDGE_WW, object);
    }
}

// A committed value that the longest read does not have comes behind it.
static void order_append(struct check *c, uint32_t writer, const struct act *a)
{
    const struct act *longest = c->longest[a->object].read;
    if (longest == NULL) return;
    for (size_t i = 0; i < longest->n; i++)
        if (c->h->values[longest->at + i] == a->value) return;
    uint32_t reader = 0;
    while (c->h->txns[reader].first + c->h->txns[reader].n <= (size_t)(longest - c->h->acts))
        reader++;
    if (committed(c, reader)) graph_edge(&c->g, reader, writer, EDGE_RW, a->object);
}

static void order_txn(struct check *c, uint32_t at)
{
    const struct txn *t = &c->h->txns[at];
    for (size_t i = 0; i < t->n; i++) {
        const struct act *a = act_of(c, t, i);
        if (a->kind == ACT_READ_LIST) order_list(c, at, a);
        else if (a->kind == ACT_APPEND) order_append(c, at, a);
        else if (a->kind != ACT_WRITE) order_read(c, at, a, a->value);
    }
}

// ---- time --------------------------------------------------------------------------------------------------------------

struct end {
    uint64_t at;
    uint32_t txn;
};

static int by_end(const void *a, const void *b)
{
    const struct end *x = a, *y = b;
    return (x->at > y->at) - (x->at < y->at);
}

// A node for each end, in order, keeps this linear: a transaction comes behind all whose end was before it began.
static uint32_t order_time(struct check *c)
{
    uint32_t n = 0, first = (uint32_t)c->h->count;
    struct end *ends = malloc((c->h->count + 1) * sizeof *ends);
    if (ends == NULL) abort();
    for (uint32_t t = 0; t < c->h->count; t++)
        if (c->h->txns[t].outcome == TXN_COMMITTED) ends[n++] = (struct end){c->h->txns[t].ended, t};
    qsort(ends, n, sizeof *ends, by_end);
    for (uint32_t i = 0; i < n; i++) {
        graph_edge(&c->g, ends[i].txn, first + i, EDGE_TIME, 0);
        if (i > 0) graph_edge(&c->g, first + i - 1, first + i, EDGE_TIME, 0);
    }
    for (uint32_t t = 0; t < c->h->count; t++) {
        uint32_t low = 0, high = n;
        while (low < high) {
            uint32_t mid = (low + high) / 2;
            if (ends[mid].at < c->h->txns[t].began) low = mid + 1;
            else high = mid;
        }
        if (low > 0 && committed(c, t)) graph_edge(&c->g, first + low - 1, t, EDGE_TIME, 0);
    }
    free(ends);
    return first + n;
}

static void order_clients(struct check *c)
{
    for (uint32_t t = 1; t < c->h->count; t++) {
        for (uint32_t was = t; was-- > 0;) {
            if (c->h->txns[was].client != c->h->txns[t].client || !committed(c, was)) continue;
            if (committed(c, t)) graph_edge(&c->g, was, t, EDGE_PROCESS, 0);
            break;
        }
    }
}

// ---- cycles ------------------------------------------------------------------------------------------------------------

static const char *kind_name(enum edge_kind k)
{
    switch (k) {
    case EDGE_WW: return "ww";
    case EDGE_WR: return "wr";
    case EDGE_RW: return "rw";
    case EDGE_RW_RANGE: return "rw of a range";
    case EDGE_PROCESS: return "process";
    case EDGE_TIME: return "time";
    }
    return "?";
}

static void tell(struct check *c, enum anomaly a, const uint32_t *way, size_t n)
{
    char text[FINDING_MAX];
    int used = 0;
    for (size_t i = 0; i < n && used < FINDING_MAX - 60; i++) {
        const struct edge *e = &c->g.edges[way[i]];
        if (e->from < c->h->count) used += snprintf(text + used, sizeof text - (size_t)used, "T%u ", e->from);
        if (e->kind == EDGE_TIME && e->to >= c->h->count) continue;
        if (e->kind >= EDGE_PROCESS) used += snprintf(text + used, sizeof text - (size_t)used, "-%s-> ", kind_name(e->kind));
        else used += snprintf(text + used, sizeof text - (size_t)used, "-%s %u-> ", kind_name(e->kind), e->object);
    }
    if (n > 0) snprintf(text + used, sizeof text - (size_t)used, "T%u", c->g.edges[way[0]].from);
    verdict_add(c->v, a, "%s", text);
}

// One cycle of each part, which no weaker kind of cycle has been found in.
static void find_cycles(struct check *c, unsigned kinds, enum anomaly a, bool *blamed)
{
    graph_parts(&c->g, kinds);
    for (uint32_t n = 0; n < c->g.nodes; n++) {
        uint32_t part = c->g.part[n], *way;
        if (c->g.size[part] < 2 || n >= c->h->count) continue;
        bool known = false;
        for (uint32_t k = 0; k < c->g.nodes; k++)
            if (c->g.part[k] == part) known |= blamed[k], blamed[k] = true;
        if (known) continue;
        size_t length = graph_way(&c->g, n, n, kinds, &way);
        tell(c, a, way, length);
        free(way);
    }
}

// Cycles with rw in them: how many there must be, and whether one of them is about what a search did not find.
static void find_skews(struct check *c, bool *blamed)
{
    const unsigned flow = EDGE_WW | EDGE_WR, all = flow | EDGE_RW | EDGE_RW_RANGE;
    unsigned looked = 0;
    graph_parts(&c->g, all);
    for (size_t i = 0; i < c->g.count && looked < EDGES_LOOKED_AT; i++) {
        const struct edge *e = &c->g.edges[i];
        uint32_t *way, *back;
        if ((e->kind & (EDGE_RW | EDGE_RW_RANGE)) == 0 || c->g.part[e->from] != c->g.part[e->to]) continue;
        looked++;
        blamed[e->from] = blamed[e->to] = true;
        size_t n = graph_way(&c->g, e->to, e->from, flow, &back);
        bool single = n > 0;
        if (!single) free(back), n = graph_way(&c->g, e->to, e->from, flow | EDGE_RW, &back);
        if (n == 0) free(back), n = graph_way(&c->g, e->to, e->from, all, &back);
        bool range = e->kind == EDGE_RW_RANGE;
        way = malloc((n + 1) * sizeof *way);
        if (way == NULL) abort();
        way[0] = (uint32_t)i;
        for (size_t k = 0; k < n; k++) {
            way[k + 1] = back[k];
            range |= c->g.edges[back[k]].kind == EDGE_RW_RANGE;
        }
        tell(c, range ? ANOMALY_PHANTOM : single ? ANOMALY_READ_SKEW : ANOMALY_WRITE_SKEW, way, n + 1);
        free(way);
        free(back);
    }
}

static void find_all(struct check *c)
{
    bool *blamed = calloc(c->g.nodes + 1, sizeof *blamed);
    if (blamed == NULL) abort();
    find_cycles(c, EDGE_WW, ANOMALY_DIRTY_WRITE, blamed);
    find_cycles(c, EDGE_WW | EDGE_WR, ANOMALY_CIRCULAR_READS, blamed);
    find_skews(c, blamed);
    find_cycles(c, EDGE_WW | EDGE_WR | EDGE_RW | EDGE_RW_RANGE | EDGE_PROCESS | EDGE_TIME, ANOMALY_REAL_TIME, blamed);
    free(blamed);
}

// ---- the whole ---------------------------------------------------------------------------------------------------------

static void each(struct check *c, void (*fn)(struct check *c, uint32_t at), bool all)
{
    for (uint32_t t = 0; t < c->h->count; t++)
        if (all || committed(c, t)) fn(c, t);
}

static void prepare(struct check *c)
{
    size_t room = 64, most = 2 * (c->h->act_count + c->h->value_count);
    while (room < 2 * most)
        room *= 2;
    for (size_t i = 0; i < c->h->act_count; i++)
        if (c->h->acts[i].object >= c->objects) c->objects = c->h->acts[i].object + 1;
    c->mask = room - 1;
    c->versions = calloc(room, sizeof *c->versions);
    c->seen = calloc(c->h->count + 1, sizeof *c->seen);
    c->longest = calloc(c->objects + 1, sizeof *c->longest);
    if (c->versions == NULL || c->seen == NULL || c->longest == NULL) abort();
}

bool history_check(const struct history *h, struct verdict *v)
{
    struct check c = {.h = h, .v = v};
    *v = (struct verdict){.found = {0}};
    prepare(&c);
    each(&c, note_writes, true);
    each(&c, note_reads, false); // what a refused one saw is nobody's concern
    each(&c, note_next, false);
    each(&c, order_txn, false);
    for (uint32_t o = 0; o < c.objects; o++)
        order_longest(&c, o);
    order_clients(&c);
    graph_close(&c.g, order_time(&c));
    find_all(&c);
    graph_free(&c.g);
    free(c.versions);
    free(c.seen);
    free(c.longest);
    for (int a = 0; a < ANOMALIES; a++)
        if (v->found[a] > 0) return false;
    return true;
}
