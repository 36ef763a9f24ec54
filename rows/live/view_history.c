#include "view_history.h"

#include <assert.h>
#include <stdlib.h>

#include "err.h"

#define ROUNDS 2
#define ROUND_ROWS_MAX 4096
#define ROUND_COMMITS_MAX 16384
#define ROUND_HITS_MAX 65536 // views times rows that concern them

struct hit {
    const struct interest *of; // by its address alone: it may be gone
    uint64_t seq;
    struct uuid id;
};

struct round {
    uint64_t from, to;  // the same where not even one commit had room
    uint64_t listeners; // the last interest that was there; 0: no round
    struct hit *hits;   // sorted
    size_t count, cap;
};

struct view_history {
    struct round rounds[ROUNDS];
    size_t next; // to be made anew
};

struct view_history *view_history_new(void)
{
    return calloc(1, sizeof(struct view_history));
}

void view_history_free(struct view_history *h)
{
    for (size_t i = 0; h && i < ROUNDS; i++)
        free(h->rounds[i].hits);
    free(h);
}

// ---- making a round ------------------------------------------------------------------------------------------------

struct making {
    struct rows *r;
    struct db_txn *txn;
    struct round *round;
    size_t rows;
    uint64_t seq; // of the commit at hand
    struct uuid id;
    int err;
    struct row_space old, new;
};

static void add_hit(void *ctx, struct interest *i)
{
    struct making *m = ctx;
    struct round *round = m->round;
    if (!m->err && round->count == ROUND_HITS_MAX) m->err = ERR_TOO_LARGE;
    if (!m->err && round->count == round->cap) {
        size_t cap = round->cap ? 2 * round->cap : 64;
        struct hit *hits = realloc(round->hits, cap * sizeof *hits);
        if (hits) round->hits = hits, round->cap = cap;
        else m->err = ERR_NOMEM;
    }
    if (!m->err) round->hits[round->count++] = (struct hit){.of = i, .seq = m->seq, .id = m->id};
}

static int add_row(void *ctx, uint64_t seq, const struct commit_rows *row)
{
    struct making *m = ctx;
    if (!interests_in(m->r->views.interests, row->table)) return 0;
    if (m->rows >= ROUND_ROWS_MAX && seq != m->seq) return ERR_TOO_LARGE;
    const struct table *t = schema_table_no(m->r->schema, row->table);
    m->rows++;
    m->seq = seq;
    m->id = row->id;
    int err = row_at(m->r, m->txn, t, row->id, seq - 1, &m->old);
    if (!err) err = row_at(m->r, m->txn, t, row->id, seq, &m->new);
    if (err) return err;
    interests_each(m->r->views.interests, &(struct row_change){.table = t, .id = row->id, .old = &m->old.row, .new = &m->new.row}, add_hit, m);
    return m->err;
}

static int compare_hits(const void *a, const void *b)
{
    const struct hit *x = a, *y = b;
    if (x->of != y->of) return (uintptr_t)x->of < (uintptr_t)y->of ? -1 : 1;
    return (x->seq > y->seq) - (x->seq < y->seq);
}

// What does not fit any more ends the round before its commit.
static int go_through(struct making *m, uint64_t from, uint64_t to, uint64_t *reached)
{
    const size_t none = 0;
    int err = touched_each(m->r, m->txn, from, to, &none, SIZE_MAX, ROUND_COMMITS_MAX, add_row, m, reached);
    if (err != ERR_TOO_LARGE) return err;
    if (m->err) { // in the midst of it: what it had added goes
        while (m->round->count > 0 && m->round->hits[m->round->count - 1].seq == m->seq)
            m->round->count--;
        *reached = m->seq - 1;
    } else {
        *reached = m->seq;
    }
    return 0;
}

static int make_round(struct rows *r, struct db_txn *txn, uint64_t from, uint64_t to, struct round **out)
{
    struct view_history *h = r->views.history;
    struct round *round = &h->rounds[h->next];
    struct making m = {.r = r, .txn = txn, .round = round};
    uint64_t reached = from;
    *round = (struct round){.hits = round->hits, .cap = round->cap};
    int err = go_through(&m, from, to, &reached);
    if (err) return err;
    h->next = (h->next + 1) % ROUNDS;
    round->from = from;
    round->to = reached;
    round->listeners = interests_last(r->views.interests);
    if (round->count > 1) qsort(round->hits, round->count, sizeof *round->hits, compare_hits);
    *out = round;
    return 0;
}

// ---- asking --------------------------------------------------------------------------------------------------------

static bool answers(const struct round *round, const struct interest *i, uint64_t from)
{
    return i->no <= round->listeners && (from == round->from || (from > round->from && from < round->to));
}

static int find_round(struct rows *r, struct db_txn *txn, const struct interest *i, uint64_t from, uint64_t to, struct round **out)
{
    int err = rows_not_too_old(r, from, NULL);
    if (err) return err;
    for (size_t k = 0; k < ROUNDS; k++) {
        *out = &r->views.history->rounds[k];
        if (answers(*out, i, from)) return 0;
    }
    return make_round(r, txn, from, to, out);
}

// The first hit of the interest behind a seq.
static size_t first_hit(const struct round *round, const struct interest *i, uint64_t from)
{
    const struct hit key = {.of = i, .seq = from + 1};
    size_t low = 0, high = round->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (compare_hits(&round->hits[mid], &key) < 0) low = mid + 1;
        else high = mid;
    }
    return low;
}

int view_history_of(struct rows *r, struct db_txn *txn, const struct interest *i, uint64_t from, uint64_t to, size_t hits_max, int (*fn)(void *ctx, struct uuid id),
                    void *ctx, uint64_t *reached)
{
    struct round *round;
    size_t given = 0;
    assert(from < to);
    int err = find_round(r, txn, i, from, to, &round);
    if (err) return err;
    *reached = round->to < to ? round->to : to;
    if (*reached <= from) {
        *reached = 0;
        return 0;
    }
    for (size_t k = first_hit(round, i, from); k < round->count && round->hits[k].of == i && round->hits[k].seq <= *reached && !err; k++) {
        const struct hit *hit = &round->hits[k];
        if (given >= hits_max && hit->seq - 1 > from && hit->seq != round->hits[k - 1].seq) {
            *reached = hit->seq - 1;
            break;
        }
        given++;
        err = fn ? fn(ctx, hit->id) : 0;
    }
    return err;
}
