#include "interests.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

#include "checksum.h"
#include "err.h"
#include "exec.h"
#include "hash_table.h"
#include "interests_cover.h"
#include "interests_range.h"

#define COLUMNS_EQUAL_MAX 6            // of one shape; further ones narrow nothing
#define SHAPES_MAX 256                 // of one table, each of which is looked up for a changed row: interests of more are scanned
#define FURTHER_ENTRIES_MAX (512 * KIB) // of all interests, beside each one's first: those with more alternatives are scanned then
#define COVER_BYTES_MAX (16 * MIB)     // while an interest is added
#define KEY_BYTES_MAX (ROW_BYTES_MAX + KIB)
#define POINT_BYTES sizeof(range_point)
#define NO_RANGE (COLUMN_ID - 1)

// The part of a table's interests that compare the same columns in the same way.
struct shape {
    struct shape *next;
    uint64_t no; // no other shape of this index ever has it
    int equal[COLUMNS_EQUAL_MAX]; // ascending
    size_t equal_count;
    int range; // a column, or NO_RANGE
    size_t buckets;
    uint32_t table;
};

// The entries of one shape whose values of `equal` have one hash.
struct bucket {
    struct hash_node node;
    struct shape *shape; // NULL: those of a table that are scanned
    struct interest_entry *entries;
    struct range *ranges; // of a shape with a range, in place of `entries`
};

struct interest_entry {
    struct interest *of;
    struct interest_entry *sibling; // of the same interest
    struct bucket *in;
    struct interest_entry *next, *prev; // of a bucket's list
};

// The entry of a shape with a range.
struct range_entry {
    struct interest_entry entry; // first
    struct range range;
};

struct by_table {
    struct shape *shapes;
    size_t shape_count;
    struct bucket scanned;
};

struct interests {
    struct by_table **tables; // by their numbers; NULL: nobody is interested
    size_t table_count;
    struct hash_table buckets;
    struct interests_counts counts;
    uint64_t shape_nos, nos, random;
    struct buf key;
    struct arena *arena;
    struct interest **found; // has room for all there are
    size_t found_count, found_cap;
    bool finding;
};

struct interests *interests_new(void)
{
    struct interests *x = calloc(1, sizeof *x);
    if (!x) return NULL;
    x->random = 88172645463325252u;
    buf_init(&x->key, KEY_BYTES_MAX);
    x->arena = arena_new(COVER_BYTES_MAX);
    if (x->arena && hash_table_init(&x->buckets) == 0) return x;
    arena_free(x->arena);
    free(x);
    return NULL;
}

void interests_free(struct interests *x)
{
    if (!x) return;
    assert(x->counts.all == 0 && x->counts.entries == 0 && x->buckets.count == 0 && x->counts.shapes == 0);
    hash_table_free(&x->buckets);
    buf_free(&x->key);
    arena_free(x->arena);
    for (size_t i = 0; i < x->table_count; i++)
        free(x->tables[i]);
    free(x->tables);
    free(x->found);
    free(x);
}

struct interests_counts interests_counts(const struct interests *x)
{
    return x->counts;
}

// ---- keys ----------------------------------------------------------------------------------------------------------

static uint64_t next_random(struct interests *x)
{
    x->random ^= x->random << 13, x->random ^= x->random >> 7, x->random ^= x->random << 17;
    return x->random;
}

// The beginning of the value's order key. Long texts are cut before they are written.
static range_point point_of(struct interests *x, const struct type *type, struct value v)
{
    uint8_t bytes[POINT_BYTES] = {0};
    range_point point = 0;
    if (type_is_span(type) && v.s.n > POINT_BYTES) v.s.n = POINT_BYTES;
    buf_clear(&x->key);
    value_order_key(&x->key, type, &v, false, false);
    memcpy(bytes, x->key.p, x->key.n < POINT_BYTES ? x->key.n : POINT_BYTES);
    for (size_t i = 0; i < POINT_BYTES; i++)
        point = point << 8 | bytes[i];
    return point;
}

static const struct value *value_of(const struct row_change *c, const struct row *row, int column, struct value *id)
{
    *id = (struct value){.u = c->id};
    assert(column < (int)row->count);
    return column == COLUMN_ID ? id : &row->cells[column].v;
}

static struct type type_of(const struct table *t, int column)
{
    return column == COLUMN_ID ? TYPE(COL_UUID) : t->columns[column].type;
}

// Of whole numbers of any type the same number has the same key.
static void put_equal(struct interests *x, const struct type *type, const struct value *v)
{
    value_key(&x->key, type, v);
}

// ---- tables and shapes ---------------------------------------------------------------------------------------------

// NULL: no memory.
static struct by_table *obtain_table(struct interests *x, uint32_t table)
{
    if (table >= x->table_count) {
        struct by_table **tables = realloc(x->tables, (table + 1) * sizeof(struct by_table *));
        if (!tables) return NULL;
        for (size_t i = x->table_count; i <= table; i++)
            tables[i] = NULL;
        x->tables = tables;
        x->table_count = table + 1;
    }
    if (!x->tables[table]) x->tables[table] = calloc(1, sizeof(struct by_table));
    return x->tables[table];
}

static bool same_shape(const struct shape *a, const struct shape *b)
{
    return a->equal_count == b->equal_count && a->range == b->range && memcmp(a->equal, b->equal, a->equal_count * sizeof *a->equal) == 0;
}

// NULL: no memory.
static struct shape *obtain_shape(struct interests *x, struct by_table *t, const struct shape *wanted)
{
    for (struct shape *s = t->shapes; s; s = s->next)
        if (same_shape(s, wanted)) return s;
    struct shape *s = malloc(sizeof *s);
    if (!s) return NULL;
    *s = *wanted;
    s->no = ++x->shape_nos;
    s->buckets = 0;
    s->next = t->shapes;
    t->shapes = s;
    t->shape_count++;
    x->counts.shapes++;
    return s;
}

static void drop_shape(struct interests *x, struct shape *s)
{
    struct by_table *t = x->tables[s->table];
    struct shape **at = &t->shapes;
    if (s->buckets > 0) return;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    t->shape_count--;
    x->counts.shapes--;
    free(s);
}

// ---- buckets -------------------------------------------------------------------------------------------------------

static struct bucket *find_bucket(const struct interests *x, const struct shape *s, uint64_t hash)
{
    struct hash_node *n = hash_table_first(&x->buckets, hash);
    for (; n; n = hash_table_more(n)) {
        struct bucket *b = HASH_OWNER(n, struct bucket, node);
        if (b->shape == s) return b;
    }
    return NULL;
}

static struct bucket *obtain_bucket(struct interests *x, struct shape *s, uint64_t hash)
{
    struct bucket *b = find_bucket(x, s, hash);
    if (b) return b;
    b = calloc(1, sizeof *b);
    if (!b) return NULL;
    b->shape = s;
    s->buckets++;
    hash_table_insert(&x->buckets, &b->node, hash);
    return b;
}

static void drop_bucket(struct interests *x, struct bucket *b)
{
    if (!b->shape || b->entries || b->ranges) return;
    hash_table_remove(&x->buckets, &b->node);
    b->shape->buckets--;
    drop_shape(x, b->shape);
    free(b);
}

static bool has_range(const struct bucket *b)
{
    return b->shape && b->shape->range != NO_RANGE;
}

static struct range_entry *range_entry_of(struct interest_entry *e)
{
    return (struct range_entry *)e;
}

static void put_in_bucket(struct interests *x, struct bucket *b, struct interest_entry *e)
{
    e->in = b;
    if (has_range(b)) {
        range_insert(&b->ranges, &range_entry_of(e)->range, next_random(x));
        return;
    }
    e->prev = NULL;
    e->next = b->entries;
    if (e->next) e->next->prev = e;
    b->entries = e;
}

static void take_from_bucket(struct interests *x, struct interest_entry *e)
{
    struct bucket *b = e->in;
    if (has_range(b)) {
        range_remove(&b->ranges, &range_entry_of(e)->range);
    } else {
        if (e->prev) e->prev->next = e->next;
        else b->entries = e->next;
        if (e->next) e->next->prev = e->prev;
    }
    drop_bucket(x, b);
}

// ---- adding --------------------------------------------------------------------------------------------------------

// An alternative taken apart.
struct taken {
    struct shape shape;
    const struct atom *equal[COLUMNS_EQUAL_MAX]; // of its columns
    struct range range;
};

static void take_equal(struct taken *t, const struct atom *atom)
{
    struct shape *s = &t->shape;
    size_t at = 0;
    while (at < s->equal_count && s->equal[at] < atom->column)
        at++;
    bool there = at < s->equal_count && s->equal[at] == atom->column;
    if (there || s->equal_count == COLUMNS_EQUAL_MAX) return;
    memmove(s->equal + at + 1, s->equal + at, (s->equal_count - at) * sizeof *s->equal);
    memmove(t->equal + at + 1, t->equal + at, (s->equal_count - at) * sizeof(const struct atom *));
    s->equal[at] = atom->column;
    t->equal[at] = atom;
    s->equal_count++;
}

static struct range meet_of(struct interests *x, const struct alternative *alternative, int column)
{
    struct range out = {.low = 0, .high = ~(range_point)0};
    for (size_t i = 0; i < alternative->count; i++) {
        const struct atom *atom = &alternative->atoms[i];
        if (!atom->range || atom->column != column) continue;
        range_point low = atom->has_low ? point_of(x, &atom->type, atom->low) : 0;
        range_point high = atom->has_high ? point_of(x, &atom->type, atom->high) : out.high;
        if (low > out.low) out.low = low;
        if (high < out.high) out.high = high;
    }
    return out;
}

static bool bounded(const struct range *r)
{
    return r->low > 0 && r->high < ~(range_point)0;
}

static bool takes(const struct taken *t, int column)
{
    for (size_t i = 0; i < t->shape.equal_count; i++)
        if (t->shape.equal[i] == column) return true;
    return false;
}

// One range: the first that is bounded on both sides, else the first.
static void take_range(struct interests *x, struct taken *t, const struct alternative *alternative)
{
    for (size_t i = 0; i < alternative->count; i++) {
        int column = alternative->atoms[i].column;
        if (!alternative->atoms[i].range || takes(t, column)) continue;
        struct range r = meet_of(x, alternative, column);
        if (t->shape.range != NO_RANGE && (bounded(&t->range) || !bounded(&r))) continue;
        t->shape.range = column;
        t->range = r;
    }
}

static void take_apart(struct interests *x, uint32_t table, const struct alternative *alternative, struct taken *t)
{
    *t = (struct taken){.shape = {.range = NO_RANGE, .table = table}};
    for (size_t i = 0; i < alternative->count; i++)
        if (!alternative->atoms[i].range) take_equal(t, &alternative->atoms[i]);
    take_range(x, t, alternative);
}

static uint64_t hash_taken(struct interests *x, const struct shape *s, const struct taken *t)
{
    buf_clear(&x->key);
    for (size_t i = 0; i < s->equal_count; i++)
        put_equal(x, &t->equal[i]->type, &t->equal[i]->equal);
    return checksum64(buf_span(&x->key), s->no);
}

static struct interest_entry *new_entry(struct interests *x, struct interest *i, bool range)
{
    struct interest_entry *e = calloc(1, range ? sizeof(struct range_entry) : sizeof *e);
    if (!e) return NULL;
    e->of = i;
    e->sibling = i->entries;
    i->entries = e;
    x->counts.entries++;
    return e;
}

static int add_entry(struct interests *x, struct interest *i, const struct taken *t)
{
    struct shape *s = obtain_shape(x, x->tables[i->table], &t->shape);
    struct bucket *b = s ? obtain_bucket(x, s, hash_taken(x, s, t)) : NULL;
    struct interest_entry *e = b ? new_entry(x, i, s->range != NO_RANGE) : NULL;
    if (!e) {
        if (b) drop_bucket(x, b);
        else if (s) drop_shape(x, s);
        return ERR_NOMEM;
    }
    if (s->range != NO_RANGE) range_entry_of(e)->range = t->range;
    put_in_bucket(x, b, e);
    return 0;
}

static bool shape_fits(const struct by_table *t, const struct shape *wanted)
{
    if (t->shape_count < SHAPES_MAX) return true;
    for (const struct shape *s = t->shapes; s; s = s->next)
        if (same_shape(s, wanted)) return true;
    return false;
}

// True: every alternative has its entry. Else there are none, and all is to be scanned.
static int add_cover(struct interests *x, struct interest *i, const struct cover *cover, bool *fits)
{
    int err = 0;
    *fits = true;
    for (size_t k = 0; k < cover->count && !err && *fits; k++) {
        struct taken t;
        take_apart(x, i->table, &cover->alternatives[k], &t);
        *fits = shape_fits(x->tables[i->table], &t.shape);
        if (*fits) err = add_entry(x, i, &t);
    }
    return err;
}

static void remove_entries(struct interests *x, struct interest *i)
{
    while (i->entries) {
        struct interest_entry *e = i->entries;
        i->entries = e->sibling;
        x->counts.entries--;
        take_from_bucket(x, e);
        free(e);
    }
}

// A few clients with long lists could take all memory there is.
static bool has_room(const struct interests *x, const struct cover *cover)
{
    return cover->count < 2 || x->counts.entries + cover->count < x->counts.all + FURTHER_ENTRIES_MAX;
}

static int add_scanned(struct interests *x, struct interest *i)
{
    struct interest_entry *e = new_entry(x, i, false);
    if (!e) return ERR_NOMEM;
    put_in_bucket(x, &x->tables[i->table]->scanned, e);
    return 0;
}

// Does one of the conditions depend on the row alone?
static bool narrows(const struct interest *i, struct expr *const *conditions, size_t count)
{
    for (size_t k = 0; k < count; k++)
        if (conditions[k]->uses == UINT64_C(1) << i->slot && !conditions[k]->subs && !conditions[k]->slots) return true;
    return false;
}

// So that finding never needs memory.
static int make_room(struct interests *x)
{
    if (x->counts.all < x->found_cap) return 0;
    size_t cap = x->found_cap > 0 ? 2 * x->found_cap : 64;
    struct interest **found = realloc(x->found, cap * sizeof(struct interest *));
    if (!found) return ERR_NOMEM;
    x->found = found;
    x->found_cap = cap;
    return 0;
}

int interests_add(struct interests *x, struct interest *i, struct expr *const *conditions, size_t count, const struct value *params)
{
    assert(x && i && i->hear);
    bool fits = false;
    i->scanned = false;
    i->entries = NULL;
    i->found_at = 0;
    int err = make_room(x);
    if (!err && !obtain_table(x, i->table)) err = ERR_NOMEM;
    const struct cover *cover = err ? NULL : cover_conditions(x->arena, i->slot, conditions, count, params);
    if (cover && has_room(x, cover)) err = add_cover(x, i, cover, &fits);
    if (err || !fits) remove_entries(x, i);
    if (!err && !fits) err = add_scanned(x, i);
    arena_clear(x->arena);
    if (err) return err;
    i->scanned = !fits && narrows(i, conditions, count);
    i->no = ++x->nos;
    x->counts.all++;
    x->counts.scanned += i->scanned;
    return 0;
}

void interests_remove(struct interests *x, struct interest *i)
{
    assert(x->counts.all > 0);
    if (x->finding && i->found_at < x->found_count && x->found[i->found_at] == i) x->found[i->found_at] = NULL;
    remove_entries(x, i);
    x->counts.all--;
    x->counts.scanned -= i->scanned;
}

// ---- finding -------------------------------------------------------------------------------------------------------

static void note(struct interests *x, struct interest *i)
{
    if (i->found_at < x->found_count && x->found[i->found_at] == i) return;
    assert(x->found_count < x->found_cap);
    i->found_at = (uint32_t)x->found_count;
    x->found[x->found_count++] = i;
}

static void note_list(struct interests *x, const struct interest_entry *e)
{
    for (; e; e = e->next)
        note(x, e->of);
}

static void note_range(void *ctx, struct range *n)
{
    const struct range_entry *e = (const struct range_entry *)(const void *)((const char *)n - offsetof(struct range_entry, range));
    note(ctx, e->entry.of);
}

static uint64_t hash_row(struct interests *x, const struct shape *s, const struct row_change *c, const struct row *row)
{
    struct value id;
    buf_clear(&x->key);
    for (size_t i = 0; i < s->equal_count; i++) {
        struct type type = type_of(c->table, s->equal[i]);
        put_equal(x, &type, value_of(c, row, s->equal[i], &id));
    }
    return checksum64(buf_span(&x->key), s->no);
}

static void find_in_shape(struct interests *x, const struct shape *s, const struct row_change *c, const struct row *row)
{
    struct value id;
    const struct bucket *b = find_bucket(x, s, hash_row(x, s, c, row));
    if (!b) return;
    if (s->range == NO_RANGE) {
        note_list(x, b->entries);
        return;
    }
    struct type type = type_of(c->table, s->range);
    const struct value *v = value_of(c, row, s->range, &id);
    if (!v->null) range_find(b->ranges, point_of(x, &type, *v), note_range, x); // of a null no comparison is true
}

static void find_in_table(struct interests *x, const struct by_table *t, const struct row_change *c)
{
    note_list(x, t->scanned.entries);
    for (const struct shape *s = t->shapes; s; s = s->next) {
        if (row_live(c->old)) find_in_shape(x, s, c, c->old);
        if (row_live(c->new) && c->new != c->old) find_in_shape(x, s, c, c->new);
    }
}

bool interests_in(const struct interests *x, uint32_t table)
{
    const struct by_table *t = table < x->table_count ? x->tables[table] : NULL;
    return t && (t->shapes || t->scanned.entries);
}

uint64_t interests_last(const struct interests *x)
{
    return x->nos;
}

// How many there are in x->found.
static size_t begin_finding(struct interests *x, const struct row_change *c)
{
    assert(!x->finding);
    x->finding = true;
    x->found_count = 0;
    if (interests_in(x, c->table->no)) find_in_table(x, x->tables[c->table->no], c);
    return x->found_count;
}

static void end_finding(struct interests *x)
{
    x->found_count = 0;
    x->finding = false;
}

void interests_find(struct interests *x, uint64_t seq, const struct row_change *c)
{
    size_t count = begin_finding(x, c);
    for (size_t k = 0; k < count; k++)
        if (x->found[k]) x->found[k]->hear(x->found[k], seq, c);
    end_finding(x);
}

void interests_each(struct interests *x, const struct row_change *c, void (*fn)(void *ctx, struct interest *i), void *ctx)
{
    size_t count = begin_finding(x, c);
    for (size_t k = 0; k < count; k++)
        fn(ctx, x->found[k]);
    end_finding(x);
}
