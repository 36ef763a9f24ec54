// The rows of a result that groups make, and what of them differs between two states.
#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "group_view.h"

static uint64_t hash_of(struct uuid id)
{
    uint64_t hash; // a digest's bytes are as good as any
    memcpy(&hash, id.b, sizeof hash);
    return hash;
}

struct group_row *group_row_find(const struct group_view *g, struct uuid id)
{
    for (struct hash_node *n = hash_table_first(&g->rows, hash_of(id)); n; n = hash_table_more(n)) {
        struct group_row *row = HASH_OWNER(n, struct group_row, node);
        if (uuid_equal(row->id, id)) return row;
    }
    return NULL;
}

void group_rows_free(struct group_view *g)
{
    for (struct hash_node *n = hash_table_take(&g->rows); n; n = hash_table_take(&g->rows))
        free(HASH_OWNER(n, struct group_row, node));
    hash_table_free(&g->rows);
    sort_keys_free(&g->list);
}

// ---- what may differ -----------------------------------------------------------------------------------------------

// A group's row comes to be in a state, or is in it no more; both where it stays.
struct turn {
    struct uuid id;
    bool is_from;
    int by;
    const struct group_seen *seen;
};

static void put_turns(const struct group_image *image, bool is_from, struct turn *turns, size_t *n)
{
    for (size_t i = 0; image && i < image->shift.n; i++) {
        const struct group *base = image->shift.all[i]->base;
        const struct group_seen *seen = &image->seen[i];
        if (base && base->shows) turns[(*n)++] = (struct turn){.id = base->shows->id, .is_from = is_from, .by = -1};
        if (seen->is) turns[(*n)++] = (struct turn){.id = seen->id, .is_from = is_from, .by = 1, .seen = seen};
    }
}

static int compare_turns(const void *a, const void *b)
{
    return uuid_compare(((const struct turn *)a)->id, ((const struct turn *)b)->id);
}

static void take_turn(struct group_touch *t, const struct turn *turn)
{
    *(turn->is_from ? &t->from_refs : &t->to_refs) += turn->by;
    if (turn->seen) *(turn->is_from ? &t->from : &t->to) = turn->seen;
}

int group_touches_find(struct group_view *g, const struct group_image *from, const struct group_image *to, struct group_touches *out)
{
    size_t most = 2 * ((from ? from->shift.n : 0) + (to ? to->shift.n : 0)), n = 0;
    struct turn *turns = malloc((most + 1) * sizeof *turns);
    *out = (struct group_touches){.all = malloc((most + 1) * sizeof *out->all)};
    if (!turns || !out->all) {
        free(turns);
        return ERR_NOMEM;
    }
    put_turns(from, true, turns, &n);
    put_turns(to, false, turns, &n);
    if (n > 1) qsort(turns, n, sizeof *turns, compare_turns);
    for (size_t i = 0; i < n; i++) {
        if (out->n == 0 || !uuid_equal(out->all[out->n - 1].id, turns[i].id)) {
            struct group_row *row = group_row_find(g, turns[i].id);
            int64_t refs = row ? row->refs : 0;
            out->all[out->n++] = (struct group_touch){.id = turns[i].id, .row = row, .from_refs = refs, .to_refs = refs};
        }
        take_turn(&out->all[out->n - 1], &turns[i]);
    }
    free(turns);
    return 0;
}

struct span group_place_from(const struct group_touch *t)
{
    return t->from ? buf_span(&t->from->place) : t->row->place;
}

struct span group_place_to(const struct group_touch *t)
{
    return t->to ? buf_span(&t->to->place) : t->row->place;
}

bool group_touch_changes(const struct group_touch *t)
{
    if (t->from_refs <= 0 || t->to_refs <= 0) return false;
    uint64_t from = t->from ? t->from->digest : t->row->digest, to = t->to ? t->to->digest : t->row->digest;
    return from != to || !span_equal(group_place_from(t), group_place_to(t));
}

// ---- applying ------------------------------------------------------------------------------------------------------

static size_t row_bytes(const struct group_row *row)
{
    return sizeof *row + row->values_n + row->place.n;
}

static struct group_row *row_new(struct group_view *g, const struct group_touch *t)
{
    const struct buf *values = &t->to->values;
    struct group_row *row = calloc(1, sizeof *row + values->n);
    if (!row) return NULL;
    row->id = t->id;
    row->values_n = (uint32_t)values->n;
    if (values->n > 0) memcpy(row->values, values->p, values->n);
    hash_table_insert(&g->rows, &row->node, hash_of(row->id));
    group_state_hold(&g->state, 0, row_bytes(row));
    return row;
}

static void unlist(struct group_view *g, struct group_row *row)
{
    bool found;
    if (row->place.n == 0) return;
    size_t at = sort_keys_find(&g->list, row->place, &found);
    assert(found);
    group_state_hold(&g->state, row->place.n, 0);
    sort_keys_remove(&g->list, at);
    row->place = SPAN_NONE;
}

static int list(struct group_view *g, struct group_row *row, struct span place)
{
    bool found;
    size_t at = sort_keys_find(&g->list, place, &found);
    assert(!found);
    int err = sort_keys_insert(&g->list, at, place);
    if (err) return err;
    row->place = sort_key_span(g->list.keys[at]);
    group_state_hold(&g->state, 0, row->place.n);
    return 0;
}

// `later`: all rows are put into the list at once.
static int apply_touch(struct group_view *g, const struct group_touch *t, bool later)
{
    struct group_row *row = t->row;
    if (t->to_refs <= 0 && !row) return 0; // it came and went
    if (t->to_refs <= 0) {
        unlist(g, row);
        group_state_hold(&g->state, row_bytes(row), 0);
        hash_table_remove(&g->rows, &row->node);
        free(row);
        return 0;
    }
    if (!row) row = row_new(g, t);
    if (!row) return ERR_NOMEM;
    row->refs = (uint32_t)t->to_refs;
    if (!t->to) return 0;
    row->digest = t->to->digest;
    if (later || !group_listed(g) || span_equal(row->place, buf_span(&t->to->place))) return 0;
    unlist(g, row);
    return list(g, row, buf_span(&t->to->place));
}

// Into an empty list, which is sorted once.
static int list_all(struct group_view *g, const struct group_touches *touches)
{
    bool dropped = false;
    int err = 0;
    for (size_t i = 0; i < touches->n && !err; i++)
        if (touches->all[i].to_refs > 0) err = sort_keys_collect(&g->list, buf_span(&touches->all[i].to->place), SIZE_MAX, &dropped);
    sort_keys_finish(&g->list, SIZE_MAX, &dropped);
    for (size_t i = 0; i < g->list.n && !err; i++) {
        struct group_row *row = group_row_find(g, sort_key_id(g->list.keys[i]));
        row->place = sort_key_span(g->list.keys[i]);
        group_state_hold(&g->state, 0, row->place.n);
    }
    return err;
}

int group_rows_apply(struct group_view *g, struct group_image *to, const struct group_touches *touches)
{
    int err = 0;
    bool at_once = group_listed(g) && g->rows.count == 0;
    group_shift_apply(&to->shift);
    for (size_t i = 0; i < touches->n && !err; i++)
        err = apply_touch(g, &touches->all[i], at_once);
    if (!err && at_once) err = list_all(g, touches);
    for (size_t i = 0; i < to->shift.n && !err; i++) {
        struct group *group = to->shift.all[i]->base;
        if (!group) continue;
        group->shows = to->seen[i].is ? group_row_find(g, to->seen[i].id) : NULL;
        if (group->shows) group->shows->of = group;
    }
    return !err && !g->l.v.q->has_limit && g->rows.count > QUERY_ROWS_MAX ? ERR_RESULT_TOO_LARGE : err;
}
