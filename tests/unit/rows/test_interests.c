// The index of interests beside trying every interest's conditions on every row: nobody who is concerned may be passed over, and nobody hears twice.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "err.h"
#include "interests.h"
#include "query_live.h"
#include "rows_rig.h"

static const char schema[] = "create type mood as enum ('sad', 'calm', 'glad');"
                             "create table t (a integer, b text, c boolean, d double precision, e bigint, f mood, g uuid, h timestamptz);"
                             "create table other (a integer);";

static int setup(void **state)
{
    return rr_setup(state, schema);
}

static uint64_t next_random(uint64_t *s)
{
    *s ^= *s << 13, *s ^= *s >> 7, *s ^= *s << 17;
    return *s;
}

static unsigned dice(uint64_t *s, unsigned sides)
{
    return (unsigned)(next_random(s) >> 20) % sides;
}

// ---- listeners -----------------------------------------------------------------------------------------------------

struct listener {
    struct interest i; // first
    struct query *q;
    unsigned heard;
    bool there, fresh; // fresh: added while somebody heard
};

struct world {
    struct rows_rig *g;
    struct interests *x;
    struct arena *scratch;
    uint64_t random;
};

static void open_world(struct world *w, struct rows_rig *g, uint64_t seed)
{
    *w = (struct world){.g = g, .x = interests_new(), .scratch = arena_new(MIB), .random = seed};
    assert_non_null(w->x);
    assert_non_null(w->scratch);
}

static void close_world(struct world *w)
{
    struct interests_counts counts = interests_counts(w->x);
    assert_int_equal(counts.all + counts.scanned + counts.entries + counts.shapes, 0);
    interests_free(w->x);
    arena_free(w->scratch);
}

static void hear(struct interest *i, uint64_t seq, const struct row_change *c)
{
    (void)seq, (void)c;
    ((struct listener *)i)->heard++;
}

static void listen_with(struct world *w, struct listener *l, void (*heard)(struct interest *, uint64_t, const struct row_change *))
{
    const struct select *s = l->q->plan->top;
    l->i = (struct interest){.hear = heard, .owner = w, .table = s->levels[0].table, .slot = s->levels[0].slot};
    assert_int_equal(interests_add(w->x, &l->i, s->where, s->where_count, l->q->params), 0);
    l->there = true;
}

static void listen_to(struct world *w, struct listener *l, const char *sql)
{
    l->q = rr_compile(w->g, sql);
    listen_with(w, l, hear);
}

static void leave(struct world *w, struct listener *l)
{
    interests_remove(w->x, &l->i);
    l->there = false;
}

static void forget(struct world *w, struct listener *l)
{
    if (l->there) leave(w, l);
    query_unref(l->q);
    *l = (struct listener){.q = NULL};
}

static bool matches(struct world *w, const struct listener *l, struct uuid id, const struct row *row)
{
    struct query_row at;
    bool is = false;
    query_row_open(&at, l->q, w->scratch, id, row);
    assert_int_equal(query_row_matches(&at, l->q, &is), 0);
    arena_clear(w->scratch);
    return is;
}

static bool concerned(struct world *w, const struct listener *l, const struct row_change *c)
{
    return matches(w, l, c->id, c->old) || matches(w, l, c->id, c->new);
}

// ---- rows ----------------------------------------------------------------------------------------------------------

#define ROWS 120

static struct row_space rows[ROWS + 1]; // the last one does not stand

static const struct table *table_t(struct world *w)
{
    return schema_table(w->g->r->schema, SPAN_LIT("t"));
}

static size_t put_value(struct world *w, char *out, size_t n, const char *name, const char *text)
{
    if (dice(&w->random, 5) == 0) return 0;
    return (size_t)snprintf(out, n, ",\"%s\":%s", name, text);
}

static const char *const texts[] = {"", "x", "y", "a long text, longer than a point", "a long text, longer than another"};
static const char *const moods[] = {"sad", "calm", "glad"};

static void random_row(struct world *w, char *json, size_t size)
{
    char text[80];
    size_t n = (size_t)snprintf(json, size, "{\"a\":%u", dice(&w->random, 12));
    snprintf(text, sizeof text, "\"%s\"", texts[dice(&w->random, 5)]);
    n += put_value(w, json + n, size - n, "b", text);
    n += put_value(w, json + n, size - n, "c", dice(&w->random, 2) ? "true" : "false");
    snprintf(text, sizeof text, "%d.5", (int)dice(&w->random, 12) - 6);
    n += put_value(w, json + n, size - n, "d", text);
    snprintf(text, sizeof text, "%lld", (long long)(dice(&w->random, 6) << 20) - (2 << 20));
    n += put_value(w, json + n, size - n, "e", text);
    snprintf(text, sizeof text, "\"%s\"", moods[dice(&w->random, 3)]);
    n += put_value(w, json + n, size - n, "f", text);
    snprintf(text, sizeof text, "\"00000000-0000-0000-0000-00000000000%u\"", dice(&w->random, 6));
    n += put_value(w, json + n, size - n, "g", text);
    snprintf(text, sizeof text, "\"2026-01-0%uT00:00:00Z\"", 1 + dice(&w->random, 9));
    n += put_value(w, json + n, size - n, "h", text);
    if (dice(&w->random, 6) == 0) n = (size_t)snprintf(json, size, "{\"a\":null");
    snprintf(json + n, size - n, "}");
}

static void make_rows(struct world *w)
{
    for (unsigned i = 0; i < ROWS; i++) {
        char json[400];
        random_row(w, json, sizeof json);
        rr_insert(w->g, "t", i + 1, json);
    }
    rr_commit(w->g);
    for (unsigned i = 0; i < ROWS; i++)
        assert_int_equal(row_current(w->g->r, w->g->txn, table_t(w), rr_id(i + 1), &rows[i]), 0);
    assert_int_equal(row_current(w->g->r, w->g->txn, table_t(w), rr_id(ROWS + 1), &rows[ROWS]), 0);
}

// What a row was, and what it is: often alike, at times none.
static struct row_change random_change(struct world *w)
{
    unsigned old = dice(&w->random, ROWS + 20), new = dice(&w->random, ROWS + 20);
    struct row_change c = {.table = table_t(w), .id = rr_id(1 + dice(&w->random, ROWS))};
    c.old = &rows[old < ROWS ? old : ROWS].row;
    c.new = dice(&w->random, 4) == 0 ? c.old : &rows[new < ROWS ? new : ROWS].row;
    return c;
}

// ---- conditions ----------------------------------------------------------------------------------------------------

static void put_constant(struct world *w, struct buf *out, char column)
{
    char text[80];
    if (dice(&w->random, 25) == 0) {
        buf_put_str(out, "null");
        return;
    }
    switch (column) {
    case 'a': snprintf(text, sizeof text, "%u", dice(&w->random, 12)); break;
    case 'b': snprintf(text, sizeof text, "'%s'", texts[dice(&w->random, 5)]); break;
    case 'c': snprintf(text, sizeof text, "%s", dice(&w->random, 2) ? "true" : "false"); break;
    case 'd': snprintf(text, sizeof text, "%d.5", (int)dice(&w->random, 12) - 6); break;
    case 'e': snprintf(text, sizeof text, "%lld", (long long)(dice(&w->random, 6) << 20) - (2 << 20)); break;
    case 'f': snprintf(text, sizeof text, "'%s'", moods[dice(&w->random, 3)]); break;
    case 'g':
    case 'i': snprintf(text, sizeof text, "'00000000-0000-0000-0000-0000000000%02x'", dice(&w->random, column == 'i' ? ROWS : 6)); break;
    default: snprintf(text, sizeof text, "'2026-01-0%uT00:00:00Z'", 1 + dice(&w->random, 9)); break;
    }
    buf_put_str(out, text);
}

static const char *column_name(char column)
{
    static char name[2];
    name[0] = column;
    return column == 'i' ? "id" : name;
}

static void put_list(struct world *w, struct buf *out, char column)
{
    unsigned n = 1 + dice(&w->random, 4);
    for (unsigned i = 0; i < n; i++) {
        if (i > 0) buf_put_str(out, ", ");
        put_constant(w, out, column);
    }
}

static void put_comparison(struct world *w, struct buf *out)
{
    static const char *const ops[] = {" = ", " = ", " = ", " <> ", " < ", " <= ", " > ", " >= ", " is distinct from ", " is not distinct from "};
    char column = "aaabbcdefghi"[dice(&w->random, 12)];
    bool turn = dice(&w->random, 4) == 0;
    if (turn) put_constant(w, out, column);
    else buf_put_str(out, column_name(column));
    buf_put_str(out, ops[dice(&w->random, 10)]);
    if (turn) buf_put_str(out, column_name(column));
    else put_constant(w, out, column);
}

static void put_simple(struct world *w, struct buf *out)
{
    char column = "abdefgh"[dice(&w->random, 7)];
    const char *name = column_name(column);
    switch (dice(&w->random, 12)) {
    case 0: buf_put_str(out, name), buf_put_str(out, " is null"); return;
    case 1: buf_put_str(out, name), buf_put_str(out, " is not null"); return;
    case 2: buf_put_str(out, name), buf_put_str(out, " in ("), put_list(w, out, column), buf_put_str(out, ")"); return;
    case 3: buf_put_str(out, name), buf_put_str(out, " not in ("), put_list(w, out, column), buf_put_str(out, ")"); return;
    case 4:
    case 5:
        buf_put_str(out, name), buf_put_str(out, dice(&w->random, 4) ? " between " : " not between ");
        put_constant(w, out, column), buf_put_str(out, " and "), put_constant(w, out, column);
        return;
    case 6: buf_put_str(out, "c is "), buf_put_str(out, dice(&w->random, 2) ? "not " : ""), buf_put_str(out, dice(&w->random, 2) ? "true" : "false"); return;
    case 7: buf_put_str(out, dice(&w->random, 2) ? "c" : "c is unknown"); return;
    case 8: {
        static const char *const others[] = {"a % 3 = 1", "b like 'a%'", "b not like 'x%'", "b like 'a long text, longer than a_other'", "b like '%x'", "b like 'y'"};
        buf_put_str(out, others[dice(&w->random, 6)]);
        return;
    }
    case 9: buf_put_str(out, dice(&w->random, 2) ? "a = any(array[1, 4, 9])" : "b <> all(array['x', 'y'])"); return;
    case 10: buf_put_str(out, dice(&w->random, 2) ? "e > a" : "d < 2"); return;
    default: buf_put_str(out, dice(&w->random, 2) ? "a = 2 + 3" : "a between 1 + 1 and 2 * 4"); return;
    }
}

static void put_condition(struct world *w, struct buf *out, unsigned depth)
{
    unsigned kind = depth == 0 ? 9 : dice(&w->random, 10);
    if (kind < 5) {
        buf_put_str(out, "(");
        put_condition(w, out, depth - 1);
        buf_put_str(out, kind < 3 ? " and " : " or ");
        put_condition(w, out, depth - 1);
        buf_put_str(out, ")");
    } else if (kind == 5) {
        buf_put_str(out, "not (");
        put_condition(w, out, depth - 1);
        buf_put_str(out, ")");
    } else if (kind < 9) {
        put_comparison(w, out);
    } else {
        put_simple(w, out);
    }
}

static void listen_at_random(struct world *w, struct listener *l)
{
    struct buf sql;
    buf_init(&sql, 8 * KIB);
    buf_put_str(&sql, "select a from t where ");
    put_condition(w, &sql, dice(&w->random, 4));
    buf_put_u8(&sql, 0);
    assert_int_equal(sql.err, 0);
    listen_to(w, l, (const char *)sql.p);
    buf_free(&sql);
}

static void check_change(struct world *w, struct listener *all, size_t n, const struct row_change *c, uint64_t *needless)
{
    for (size_t i = 0; i < n; i++)
        all[i].heard = 0;
    interests_find(w->x, 1, c);
    for (size_t i = 0; i < n; i++) {
        bool must = all[i].there && concerned(w, &all[i], c);
        if (all[i].heard > 1) fail_msg("%.*s heard %u times", (int)all[i].q->sql.n, (const char *)all[i].q->sql.p, all[i].heard);
        if (must && all[i].heard == 0) fail_msg("%.*s heard nothing", (int)all[i].q->sql.n, (const char *)all[i].q->sql.p);
        if (!all[i].there) assert_int_equal(all[i].heard, 0);
        if (all[i].heard && !all[i].i.scanned && !must) ++*needless;
    }
}

static void random_conditions(struct rows_rig *g, uint64_t seed)
{
    enum { LISTENERS = 400 };
    static struct listener all[LISTENERS];
    struct world w;
    uint64_t needless = 0;
    open_world(&w, g, seed);
    make_rows(&w);
    for (size_t i = 0; i < LISTENERS; i++)
        listen_at_random(&w, &all[i]);
    for (int step = 0; step < 600; step++) {
        struct row_change c = random_change(&w);
        check_change(&w, all, LISTENERS, &c, &needless);
        for (int k = 0; k < 3; k++) {
            struct listener *l = &all[dice(&w.random, LISTENERS)];
            forget(&w, l);
            listen_at_random(&w, l);
        }
    }
    assert_in_range(interests_counts(w.x).scanned, 1, LISTENERS - 1);
    print_message("seed %llu: %llu of 400 scanned, %llu shapes, %.1f heard needlessly a change\n", (unsigned long long)seed,
                  (unsigned long long)interests_counts(w.x).scanned, (unsigned long long)interests_counts(w.x).shapes, (double)needless / 600);
    for (size_t i = 0; i < LISTENERS; i++)
        forget(&w, &all[i]);
    close_world(&w);
}

static void nobody_who_is_concerned_is_passed_over(void **state)
{
    random_conditions(*state, 88172645463325252u);
}

static void nor_with_other_conditions(void **state)
{
    random_conditions(*state, 0xdeadbeefcafe);
}

// ---- adding and removing while finding -----------------------------------------------------------------------------

enum { CROWD = 200 };
static struct listener crowd[CROWD];

static void hear_and_meddle(struct interest *i, uint64_t seq, const struct row_change *c)
{
    struct world *w = i->owner;
    struct listener *l = (struct listener *)i, *other = &crowd[dice(&w->random, CROWD)];
    (void)seq, (void)c;
    assert_true(l->there && !l->fresh);
    l->heard++;
    if (dice(&w->random, 3) == 0) return;
    if (other->there) {
        leave(w, other);
    } else if (other->heard == 0) {
        listen_with(w, other, hear_and_meddle);
        other->fresh = true;
    }
}

static void interests_come_and_go_while_others_hear(void **state)
{
    struct world w;
    open_world(&w, *state, 4711);
    make_rows(&w);
    for (size_t i = 0; i < CROWD; i++) {
        listen_at_random(&w, &crowd[i]);
        crowd[i].i.hear = hear_and_meddle;
    }
    for (int step = 0; step < 2000; step++) {
        struct row_change c = random_change(&w);
        bool must[CROWD];
        for (size_t i = 0; i < CROWD; i++) {
            crowd[i].heard = 0;
            crowd[i].fresh = false;
            must[i] = crowd[i].there && concerned(&w, &crowd[i], &c);
        }
        interests_find(w.x, 1, &c);
        for (size_t i = 0; i < CROWD; i++) {
            assert_in_range(crowd[i].heard, 0, 1);
            if (must[i] && crowd[i].there && !crowd[i].fresh) assert_int_equal(crowd[i].heard, 1);
        }
        for (size_t i = 0; i < CROWD; i++)
            if (!crowd[i].there && dice(&w.random, 2) == 0) listen_with(&w, &crowd[i], hear_and_meddle);
    }
    for (size_t i = 0; i < CROWD; i++)
        forget(&w, &crowd[i]);
    close_world(&w);
}

// ---- what is indexed -----------------------------------------------------------------------------------------------

static void what_says_something_of_columns_is_not_scanned(void **state)
{
    static const struct {
        const char *where;
        int entries; // 0: scanned; -1: never
    } cases[] = {
        {"a = 1", 1},
        {"a = 1 and b = 'x' and c", 1},
        {"not c", 1},
        {"a is null", 1},
        {"a in (1, 2, 3)", 3},
        {"a = any(array[1, 2])", 2},
        {"a = 1 or b = 'x'", 2},
        {"(a = 1 and b = 'x') or (a = 2 and b = 'y' and c)", 2},
        {"a in (1, 2) and b in ('x', 'y', 'z')", 2},
        {"a in (1, 2) and (b = 'x' or b like 'y%')", 2},
        {"a > 3", 1},
        {"a between 3 and 5 and c", 1},
        {"a < 3 or a > 5", 2},
        {"not (a < 3 or b = 'x')", 1},
        {"a = 2 * 3 - 1", 1},
        {"a = 1 and a % 2 = 0", 1},
        {"c is not distinct from null", 1},
        {"h >= '2026-01-01T00:00:00Z' and b = 'x'", 1},
        {"b like 'x%'", 1},
        {"b like 'x'", 1},
        {"not (b not like 'a long text, longer%')", 1},
        {"b like null", -1},
        {"a = null", -1},
        {"a in (null)", -1},
        {"false and a > 3", -1},
        {"a = 1 and b > null", -1},
        {"a <> 1", 0},
        {"a is not null", 0},
        {"a = 1 or b like '%x'", 0},
        {"b like '_x'", 0},
        {"b like '\\%x'", 0},
        {"b ilike 'x%'", 0},
        {"b not like 'x%'", 0},
        {"a + 1 = 2", 0},
        {"a = e", 0},
        {"not (a = 1 and b = 'x')", 0},
        {"c is not true", 0},
    };
    struct world w;
    open_world(&w, *state, 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct listener l = {.q = NULL};
        char sql[160];
        snprintf(sql, sizeof sql, "select a from t where %s", cases[i].where);
        listen_to(&w, &l, sql);
        struct interests_counts counts = interests_counts(w.x);
        int entries = counts.scanned ? 0 : counts.entries == 0 ? -1 : (int)counts.entries;
        if (entries != cases[i].entries) fail_msg("%s: %d entries, not %d", cases[i].where, entries, cases[i].entries);
        assert_int_equal(l.i.scanned, cases[i].entries == 0);
        forget(&w, &l);
    }
    close_world(&w);
}

// Whom every row concerns is no loss.
static void who_wants_all_rows_is_not_scanned(void **state)
{
    struct world w;
    struct listener all = {.q = NULL}, true_one = {.q = NULL};
    uint64_t needless = 0;
    open_world(&w, *state, 7);
    make_rows(&w);
    listen_to(&w, &all, "select a from t");
    listen_to(&w, &true_one, "select a from t where true");
    assert_false(all.i.scanned || true_one.i.scanned);
    assert_int_equal(interests_counts(w.x).scanned, 0);
    struct row_change c = random_change(&w);
    check_change(&w, &all, 1, &c, &needless);
    forget(&w, &all);
    forget(&w, &true_one);
    close_world(&w);
}

// A parameter's value counts, as it is given: the same text is one shape.
static void parameters_are_arguments(void **state)
{
    struct world w;
    struct listener all[4] = {{.q = NULL}};
    const struct row_value params[][1] = {{{.kind = ROW_INT, .i = 1}}, {{.kind = ROW_INT, .i = 2}}, {{.kind = ROW_INT, .i = 1}}, {{.kind = ROW_NULL}}};
    uint64_t needless = 0;
    open_world(&w, *state, 99);
    make_rows(&w);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(query_compile(w.g->r, SPAN_LIT("select b from t where a = $1"), params[i], 1, &all[i].q, &w.g->p), 0);
        listen_with(&w, &all[i], hear);
    }
    assert_int_equal(interests_counts(w.x).shapes, 1);
    assert_int_equal(interests_counts(w.x).entries, 3);
    for (int step = 0; step < 300; step++) {
        struct row_change c = random_change(&w);
        check_change(&w, all, 4, &c, &needless);
    }
    assert_int_equal(needless, 0);
    for (size_t i = 0; i < 4; i++)
        forget(&w, &all[i]);
    close_world(&w);
}

// More shapes than a table looks up: those beyond are scanned, and hear all the same.
static void shapes_are_bounded(void **state)
{
    enum { MANY = 400 };
    static const char names[] = "abcdefgh";
    static struct listener all[MANY];
    struct world w;
    uint64_t needless = 0;
    open_world(&w, *state, 5);
    make_rows(&w);
    for (unsigned i = 0; i < MANY; i++) {
        char sql[400];
        size_t n = (size_t)snprintf(sql, sizeof sql, "select a from t where a %c 1", i & 256 ? '=' : '>');
        for (unsigned k = 0; k < 8; k++)
            if (i >> k & 1) n += (size_t)snprintf(sql + n, sizeof sql - n, " and %c is null", names[k]);
        listen_to(&w, &all[i], sql);
    }
    assert_in_range(interests_counts(w.x).shapes, 60, 256);
    for (int step = 0; step < 100; step++) {
        struct row_change c = random_change(&w);
        check_change(&w, all, MANY, &c, &needless);
    }
    for (unsigned i = 0; i < MANY; i++)
        forget(&w, &all[i]);
    close_world(&w);
}

// Long lists take memory until there is too much of it; then they are scanned, and hear all the same. Whoever has one value has its place.
static void lists_are_bounded(void **state)
{
    enum { LISTS = 620, LONG = 900 };
    static struct listener all[LISTS], one;
    struct world w;
    uint64_t needless = 0;
    struct buf sql;
    open_world(&w, *state, 6);
    make_rows(&w);
    buf_init(&sql, 64 * KIB);
    for (unsigned i = 0; i < LISTS; i++) {
        buf_clear(&sql);
        buf_printf(&sql, "select a from t where a in (%u", i);
        for (unsigned k = 1; k < LONG; k++)
            buf_printf(&sql, ",%u", i + k);
        buf_printf(&sql, ")%c", 0);
        listen_to(&w, &all[i], (char *)sql.p);
    }
    listen_to(&w, &one, "select a from t where a = 7");
    struct interests_counts counts = interests_counts(w.x);
    assert_in_range(counts.entries, 500000, 526000);
    assert_in_range(counts.scanned, 1, LISTS - 1);
    assert_false(one.i.scanned);
    for (int step = 0; step < 20; step++) {
        struct row_change c = random_change(&w);
        check_change(&w, all, LISTS, &c, &needless);
    }
    for (unsigned i = 0; i < LISTS; i++)
        forget(&w, &all[i]);
    forget(&w, &one);
    buf_free(&sql);
    close_world(&w);
}

// ---- many ----------------------------------------------------------------------------------------------------------

enum { MANY = 100000 };

static struct listener *many_of(struct world *w, const char *format, long long spread)
{
    struct listener *all = calloc(MANY, sizeof *all);
    assert_non_null(all);
    size_t before = mallinfo2().uordblks;
    for (long long i = 0; i < MANY; i++) {
        const struct row_value params[] = {{.kind = ROW_INT, .i = i * spread}, {.kind = ROW_INT, .i = i * spread + spread - 1}};
        assert_int_equal(query_compile(w->g->r, SPAN_STR(format), params, strstr(format, "$2") ? 2 : 1, &all[i].q, &w->g->p), 0);
    }
    size_t queries = mallinfo2().uordblks;
    for (size_t i = 0; i < MANY; i++)
        listen_with(w, &all[i], hear);
    size_t bytes = (mallinfo2().uordblks - queries) / MANY + sizeof(struct interest);
    print_message("%s: %zu bytes an interest, %zu a query\n", format, bytes, (queries - before) / MANY);
    assert_in_range(bytes, 1, 320);
    assert_int_equal(interests_counts(w->x).scanned, 0);
    return all;
}

static void expect_one(struct world *w, struct listener *all, long long e, long long which)
{
    struct row_space old = rows[ROWS], new = rows[0];
    const struct table *t = table_t(w);
    for (size_t i = 0; i < t->column_count; i++)
        if (span_is(t->columns[i].name, "e")) new.cells[i].v = (struct value){.i = e};
    new.row.cells = new.cells;
    old.row.cells = old.cells;
    uint64_t heard = 0;
    interests_find(w->x, 1, &(struct row_change){.table = t, .id = rr_id(1), .old = &old.row, .new = &new.row});
    for (size_t i = 0; i < MANY; i++) {
        if (all[i].heard) assert_int_equal(i, which);
        heard += all[i].heard;
        all[i].heard = 0;
    }
    assert_int_equal(heard, 1);
}

static void of_many_one_hears(struct rows_rig *g, const char *format, long long spread)
{
    struct world w;
    open_world(&w, g, 3);
    make_rows(&w);
    struct listener *all = many_of(&w, format, spread);
    for (long long i = 0; i < 20; i++) {
        long long which = dice(&w.random, MANY);
        expect_one(&w, all, which * spread, which);
        expect_one(&w, all, which * spread + spread - 1, which);
    }
    for (size_t i = 0; i < MANY; i += 2) // gaps first, then the rest from behind
        forget(&w, &all[i]);
    for (size_t i = MANY; i-- > 0;)
        if (all[i].q) forget(&w, &all[i]);
    free(all);
    close_world(&w);
}

static void of_many_equalities_one_hears(void **state)
{
    of_many_one_hears(*state, "select a from t where e = $1", 1);
}

static void of_many_ranges_one_hears(void **state)
{
    of_many_one_hears(*state, "select a from t where e between $1 and $2", 1000);
}

static void of_many_ranges_below_an_equality_one_hears(void **state)
{
    of_many_one_hears(*state, "select a from t where e >= $1 and e <= $2 and id = '00000000-0000-0000-0000-000000000001'", 10);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rr_teardown)
    const struct CMUnitTest tests[] = {
        TEST(nobody_who_is_concerned_is_passed_over),
        TEST(nor_with_other_conditions),
        TEST(interests_come_and_go_while_others_hear),
        TEST(what_says_something_of_columns_is_not_scanned),
        TEST(who_wants_all_rows_is_not_scanned),
        TEST(parameters_are_arguments),
        TEST(shapes_are_bounded),
        TEST(lists_are_bounded),
        TEST(of_many_equalities_one_hears),
        TEST(of_many_ranges_one_hears),
        TEST(of_many_ranges_below_an_equality_one_hears),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
