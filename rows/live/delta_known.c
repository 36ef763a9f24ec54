// What can be told of one table's row alone: the conditions on it, and what follows from others. Of `m.room = r.id and r.id = $1` it follows that
// m.room = $1; without that every view of one room would hear of the messages of all rooms.
#include <assert.h>

#include "delta_impl.h"
#include "err.h"

#define KNOWN_MAX 64 // columns; of more, less is told

struct field {
    uint32_t slot;
    int column;
};

// A column that has to be equal to what is known before any row is: a constant or a parameter.
struct known {
    struct field of;
    struct expr *value;
    struct type compared;
};

struct gather {
    struct delta *d;
    struct known all[KNOWN_MAX];
    size_t n;
};

static const struct known *find(const struct gather *g, struct field of)
{
    for (size_t i = 0; i < g->n; i++)
        if (g->all[i].of.slot == of.slot && g->all[i].of.column == of.column) return &g->all[i];
    return NULL;
}

static bool add(struct gather *g, struct field of, struct expr *value, struct type compared)
{
    if (g->n == KNOWN_MAX || find(g, of)) return false;
    g->all[g->n++] = (struct known){.of = of, .value = value, .compared = compared};
    return true;
}

static struct field field_of(const struct expr *e)
{
    return (struct field){.slot = e->slot, .column = e->column};
}

static bool is_fixed(const struct expr *e)
{
    return e->kind == EX_CONST || e->kind == EX_PARAM;
}

// `may`: slots of which this condition may tell something; a left join's ON tells of its right side, and of nothing else.
static bool learn(struct gather *g, const struct expr *e, uint64_t may)
{
    bool more = false;
    if (e->kind != EX_COMPARE || e->op != OP_EQ) return false;
    for (size_t side = 0; side < 2; side++) {
        struct expr *a = e->args[side], *b = e->args[1 - side];
        if (a->kind != EX_COLUMN || !(may >> a->slot & 1)) continue;
        const struct known *known = b->kind == EX_COLUMN ? find(g, field_of(b)) : NULL;
        if (is_fixed(b)) more = add(g, field_of(a), b, e->compared) || more;
        if (known) more = add(g, field_of(a), known->value, known->compared) || more;
    }
    return more;
}

static bool learn_place(struct gather *g, const struct delta_place *place)
{
    const struct select *s = place->s;
    uint64_t inner = 0;
    bool more = false;
    for (size_t i = 0; i < s->level_count; i++)
        if (!s->levels[i].left) inner |= UINT64_C(1) << s->levels[i].slot;
    for (size_t i = 0; i < s->where_count; i++)
        more = learn(g, s->where[i], inner) || more;
    for (size_t i = 0; i < s->level_count; i++)
        for (size_t k = 0; k < s->levels[i].on_count; k++)
            more = learn(g, s->levels[i].on[k], UINT64_C(1) << s->levels[i].slot) || more;
    return more;
}

// A select within knows what those around it do, and they know nothing of it.
static void learn_all(struct gather *g)
{
    for (bool more = true; more;) {
        more = false;
        for (size_t i = 0; i < g->d->place_count; i++)
            more = learn_place(g, &g->d->places[i]) || more;
    }
}

// ---- conditions ----------------------------------------------------------------------------------------------------

static bool reads_stream(const struct expr *e)
{
    bool reads = e->kind == EX_CALL && e->op == CALL_STREAM_TEXT;
    for (size_t i = 0; i < e->count && !reads; i++)
        reads = reads_stream(e->args[i]);
    return reads;
}

static int take_said(struct delta *d, uint32_t no, size_t room)
{
    struct delta_slot *slot = &d->slots[no];
    const struct select *s = d->places[slot->place].s;
    struct expr **all = slot->level.left ? slot->level.on : s->where;
    size_t count = slot->level.left ? slot->level.on_count : s->where_count;
    slot->conditions = arena_array(d->arena, count + room, sizeof *slot->conditions);
    if (!slot->conditions) return ERR_NOMEM;
    for (size_t i = 0; i < count; i++) {
        const struct expr *e = all[i];
        if (e->uses == UINT64_C(1) << no && !e->subs && !delta_has_slots(e) && !reads_stream(e)) slot->conditions[slot->condition_count++] = all[i];
    }
    return 0;
}

static bool is_said(const struct delta_slot *slot, const struct known *known)
{
    for (size_t i = 0; i < slot->condition_count; i++) {
        const struct expr *e = slot->conditions[i];
        if (e->kind != EX_COMPARE || e->op != OP_EQ) continue;
        for (size_t side = 0; side < 2; side++)
            if (e->args[side]->kind == EX_COLUMN && e->args[side]->column == known->of.column && is_fixed(e->args[1 - side])) return true;
    }
    return false;
}

static int take_known(struct delta *d, const struct known *known)
{
    struct delta_slot *slot = &d->slots[known->of.slot];
    const struct table *t = schema_table_no(d->plan->schema, d->plan->tables[known->of.slot]);
    if (is_said(slot, known)) return 0;
    struct expr *column = arena_alloc(d->arena, sizeof *column);
    if (!column) return ERR_NOMEM;
    *column = (struct expr){.kind = EX_COLUMN, .position = -1, .slot = known->of.slot, .column = known->of.column};
    column->type = known->of.column == COLUMN_ID ? TYPE(COL_UUID) : t->columns[known->of.column].type;
    column->uses = UINT64_C(1) << known->of.slot;
    struct expr *e = delta_make_equal(d->arena, column, known->value, known->compared);
    if (!e) return ERR_NOMEM;
    slot->conditions[slot->condition_count++] = e;
    return 0;
}

int delta_take_conditions(struct delta *d)
{
    struct gather g = {.d = d};
    int err = 0;
    learn_all(&g);
    for (uint32_t i = 0; i < d->plan->table_slots && !err; i++)
        if (delta_reads(d, i)) err = take_said(d, i, g.n);
    for (size_t i = 0; i < g.n && !err; i++)
        err = take_known(d, &g.all[i]);
    return err;
}
