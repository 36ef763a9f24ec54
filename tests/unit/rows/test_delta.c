// The difference of two states beside brute force: all joined rows before and after, looked up as a whole. Random tables, queries and commits; SEED=n repeats
// one of them, RUNS=n makes more. And queries by hand, for what chance seldom comes to.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "delta.h"
#include "err.h"
#include "query.h"
#include "query_dice.h"
#include "rows_rig.h"
#include "show.h"

#define QUERIES 25
#define RANGES 4
#define RUNS_DEFAULT 12
#define ROWS 9 // of a table, about

static const char *const type_names[] = {"integer", "text", "double precision", "boolean", "uuid"};

struct lab {
    struct rows_rig g;
    struct query_dice d;
    uint64_t seed;
    size_t compared, failed, told; // ranges; those where a query failed as it may; joined rows that were told
};

// ---- rows ----------------------------------------------------------------------------------------------------------

static void put_schema(struct lab *l, struct buf *sql)
{
    for (size_t t = 0; t < DICE_TABLES; t++) {
        l->d.tables[t].columns = 2 + dice(&l->d, DICE_COLUMNS - 1);
        buf_printf(sql, "create table t%zu (", t);
        for (size_t c = 0; c < l->d.tables[t].columns; c++) {
            l->d.tables[t].kinds[c] = c == 0 ? DICE_UUID : c == 1 ? DICE_INT : (enum dice_kind)dice(&l->d, DICE_KINDS);
            buf_printf(sql, "%sc%zu %s", c > 0 ? ", " : "", c, type_names[l->d.tables[t].kinds[c]]);
        }
        buf_put_str(sql, ");\n");
        if (one_in(&l->d, 2)) buf_printf(sql, "create index t%zu_i on t%zu (c0, c1);\n", t, t);
    }
    buf_put_u8(sql, 0);
}

static void put_json(struct buf *json, struct span value)
{
    for (size_t i = 0; i < value.n; i++)
        buf_put_u8(json, value.p[i] == '\'' ? '"' : value.p[i]);
}

static void write_row(struct lab *l, size_t t, size_t row, bool insert)
{
    struct buf json, value;
    char name[4] = {'t', (char)('0' + t)};
    buf_init(&json, 4096);
    buf_init(&value, 256);
    for (size_t c = 0; c < l->d.tables[t].columns; c++) {
        if (!insert && !one_in(&l->d, 2)) continue;
        buf_clear(&value);
        // Ids of rows that are there, so that rows meet.
        if (l->d.tables[t].kinds[c] == DICE_UUID) dice_put_uuid(&value, dice_row_id(dice(&l->d, DICE_TABLES), dice(&l->d, ROWS)));
        else dice_put_value(&l->d, &value, l->d.tables[t].kinds[c]);
        buf_printf(&json, "%s\"c%zu\":", json.n > 0 ? "," : "{", c);
        if (one_in(&l->d, 5)) buf_put_str(&json, "null");
        else put_json(&json, buf_span(&value));
    }
    buf_put(&json, json.n > 0 ? "}" : "{}", json.n > 0 ? 2 : 3);
    int err = rr_op(&l->g, insert ? ROW_INSERT : ROW_UPDATE, name, dice_row_id(t, row), (char *)json.p);
    if (err) fail_msg("%s: %s", json.p, problem_text(&l->g.p));
    l->d.tables[t].there[row] = true;
    buf_free(&json);
    buf_free(&value);
}

static void commit_some(struct lab *l, size_t changes)
{
    bool met[DICE_TABLES][ROWS] = {{false}};
    rr_commit(&l->g);
    rr_begin(&l->g);
    for (size_t i = 0; i < changes; i++) {
        size_t t = dice(&l->d, DICE_TABLES), row = dice(&l->d, ROWS);
        char name[4] = {'t', (char)('0' + t)};
        bool *there = &l->d.tables[t].there[row], *gone = &l->d.tables[t].gone[row];
        if (met[t][row]) continue;
        met[t][row] = true;
        if (*there && one_in(&l->d, 5)) {
            assert_int_equal(rr_op(&l->g, ROW_DELETE, name, dice_row_id(t, row), NULL), 0);
            *there = false;
            *gone = true;
        } else if (*gone) {
            assert_int_equal(rr_op(&l->g, ROW_RESTORE, name, dice_row_id(t, row), NULL), 0);
            *there = true;
            *gone = false;
        } else {
            write_row(l, t, row, !*there);
        }
    }
    assert_int_equal(rr_end(&l->g), 0);
}

// ---- joined rows ---------------------------------------------------------------------------------------------------

struct told {
    char *key, *text;
};

struct list {
    struct delta_sink sink; // first
    const struct plan *plan;
    struct told *rows[2]; // by side
    size_t n[2];
};

static int compare_told(const void *a, const void *b)
{
    return strcmp(((const struct told *)a)->key, ((const struct told *)b)->key);
}

static void sort_list(struct list *l)
{
    for (size_t side = 0; side < 2; side++)
        if (l->n[side] > 1) qsort(l->rows[side], l->n[side], sizeof *l->rows[side], compare_told);
}

static void free_list(struct list *l)
{
    for (size_t side = 0; side < 2; side++) {
        for (size_t i = 0; i < l->n[side]; i++) {
            free(l->rows[side][i].key);
            free(l->rows[side][i].text);
        }
        free(l->rows[side]);
    }
}

static int put_value(struct buf *out, struct run *run, const struct expr *e)
{
    struct value v;
    int err = run_eval(run, e, &v);
    if (!err) value_key(out, &e->type, &v);
    return err;
}

// What the top select makes of the row: its columns, or what is grouped by and aggregated.
static int describe(struct buf *out, struct run *run, const struct select *top)
{
    struct jw w;
    struct buf values;
    int err = 0;
    jw_init(&w, out);
    if (!top->grouped) {
        err = show_targets(&w, run, top);
        for (size_t i = 0; i < top->order_count && !err; i++) {
            struct value v;
            err = run_eval(run, top->order[i].expr, &v);
        }
        return err;
    }
    buf_init(&values, MIB);
    for (size_t i = 0; i < top->group_count && !err; i++)
        err = put_value(&values, run, top->group[i]);
    for (size_t i = 0; i < top->aggregate_count && !err; i++)
        if (top->aggregates[i].arg) err = put_value(&values, run, top->aggregates[i].arg);
    for (size_t i = 0; i < values.n; i++)
        buf_printf(out, "%02x", values.p[i]);
    buf_free(&values);
    return err;
}

static int take(struct delta_sink *sink, enum delta_side side, struct span key, struct run *run)
{
    struct list *l = (struct list *)sink;
    struct buf text;
    buf_init(&text, MIB);
    int err = describe(&text, run, l->plan->top);
    if (!err) {
        l->rows[side] = realloc(l->rows[side], (l->n[side] + 1) * sizeof *l->rows[side]);
        struct told *told = &l->rows[side][l->n[side]++];
        told->key = malloc(2 * key.n + 1);
        for (size_t i = 0; i < key.n; i++)
            snprintf(told->key + 2 * i, 3, "%02x", key.p[i]);
        told->text = strndup(text.n > 0 ? (char *)text.p : "", text.n);
    }
    buf_free(&text);
    return err;
}

static int brute_force(struct rows_rig *g, struct query *q, const struct row_source *state, enum delta_side side, struct list *out)
{
    const struct select *top = q->plan->top;
    struct plan *all;
    struct run run;
    struct buf key;
    bool row;
    assert_int_equal(plan_joined(g->r, q->plan, top->levels, top->level_count, top->where, top->where_count, UINT64_MAX, &all, NULL), 0);
    assert_int_equal(run_open(&run, all, state, q->params), 0);
    buf_init(&key, KIB);
    int err = run_begin_step(&run, g->txn, QUERY_SCAN_MAX);
    for (;;) {
        if (!err) err = run_next(&run, &row);
        if (err || !row) break;
        buf_clear(&key);
        delta_key(q->plan, &run, &key);
        err = take(&out->sink, side, buf_span(&key), &run);
        run_taken(&run);
    }
    buf_free(&key);
    run_close(&run);
    plan_unref(all);
    return err;
}

static int difference(struct rows_rig *g, struct query *q, struct delta *d, const struct delta_states *states, uint64_t from, uint64_t to, struct list *out)
{
    struct delta_rows rows = {.rows = NULL};
    struct problem p = PROBLEM_NONE;
    size_t budget = QUERY_SCAN_MAX;
    uint64_t reached;
    for (uint32_t t = 1; schema_table_no(g->r->schema, t); t++) {
        struct id_set ids = {.ids = NULL};
        assert_int_equal(touched_rows(g->r, g->txn, t, from, to, SIZE_MAX, SIZE_MAX, &ids, &reached), 0);
        for (size_t i = 0; i < ids.n; i++)
            assert_int_equal(delta_rows_add_table(&rows, q->plan, t, ids.ids[i]), 0);
        id_set_free(&ids);
    }
    int err = delta_run(d, states, &rows, &budget, &out->sink, &p);
    assert_true(budget <= QUERY_SCAN_MAX);
    delta_rows_free(&rows);
    return err;
}

// ---- the comparison ------------------------------------------------------------------------------------------------

static const struct told *find(const struct list *l, size_t side, const char *key)
{
    struct told wanted = {.key = (char *)key};
    return l->n[side] == 0 ? NULL : bsearch(&wanted, l->rows[side], l->n[side], sizeof wanted, compare_told);
}

// Everything told stands so in its state, once; and what is not told is the same in both.
static void expect_difference(const struct list *all, const struct list *told, const char *sql, uint64_t seed, uint64_t from, uint64_t to)
{
    for (size_t side = 0; side < 2; side++) {
        for (size_t i = 0; i < told->n[side]; i++) {
            const struct told *row = &told->rows[side][i], *same = find(all, side, row->key);
            if (!same || strcmp(same->text, row->text) != 0)
                fail_msg("seed %llu: %s: (%llu, %llu]: %s, %s is told, and is %s", (unsigned long long)seed, sql, (unsigned long long)from,
                         (unsigned long long)to, side ? "after" : "before", row->text, same ? same->text : "not there");
            if (i > 0 && strcmp(row->key, row[-1].key) == 0) fail_msg("%s: told twice", sql);
        }
        for (size_t i = 0; i < all->n[side]; i++) {
            const struct told *row = &all->rows[side][i], *other = find(all, !side, row->key);
            bool same = other && strcmp(other->text, row->text) == 0;
            if (!find(told, side, row->key) && (!same || find(told, !side, row->key)))
                fail_msg("seed %llu: %s: (%llu, %llu]: %s, %s %s is not told; the other state has %s", (unsigned long long)seed, sql,
                         (unsigned long long)from, (unsigned long long)to, side ? "after" : "before", row->key, row->text, other ? other->text : "none");
        }
    }
}

// The state now is that of the store, or with `overlay` what lies over it as it was.
static bool compare(struct rows_rig *g, struct query *q, struct delta *d, const char *sql, uint64_t seed, uint64_t from, const struct overlay *overlay,
                    size_t *told_rows)
{
    struct row_source before = {.r = g->r, .txn = g->txn, .at = from}, after = {.r = g->r, .txn = g->txn, .at = overlay ? from : g->seq, .overlay = overlay};
    struct delta_states states = {.before = before, .after = after, .params = q->params};
    struct list all = {.sink = {.row = take}, .plan = q->plan}, told = all;
    if (from == g->seq) return true;
    int err = brute_force(g, q, &before, DELTA_BEFORE, &all);
    if (!err) err = brute_force(g, q, &after, DELTA_AFTER, &all);
    if (!err) err = difference(g, q, d, &states, from, g->seq, &told);
    if (err && err != ERR_BAD_VALUE && err != EXEC_MORE && err != ERR_QUERY_TOO_EXPENSIVE) fail_msg("%s: %s", sql, err_wire(err));
    sort_list(&all);
    sort_list(&told);
    if (!err) expect_difference(&all, &told, sql, seed, from, g->seq);
    *told_rows += told.n[0] + told.n[1];
    free_list(&all);
    free_list(&told);
    return !err;
}

// ---- rows that lie over the store ----------------------------------------------------------------------------------

// Every row as of now.
struct over {
    struct row_space rows[DICE_TABLES][ROWS];
};

static const struct row *over_find(void *ctx, uint32_t table, struct uuid id)
{
    struct over *o = ctx;
    size_t row = id.b[15];
    if (row >= ROWS || uuid_compare(id, rr_id(dice_row_id(table - 1, row))) != 0) return NULL;
    return o->rows[table - 1][row].row.exists ? &o->rows[table - 1][row].row : NULL;
}

static const struct row *over_next(void *ctx, uint32_t table, const struct uuid *after, struct uuid *id)
{
    for (size_t row = after ? after->b[15] + 1u : 0; row < ROWS; row++) {
        *id = rr_id(dice_row_id(table - 1, row));
        const struct row *found = over_find(ctx, table, *id);
        if (found) return found;
    }
    return NULL;
}

static struct over *over_now(struct rows_rig *g)
{
    struct over *o = malloc(sizeof *o);
    assert_non_null(o);
    for (size_t t = 0; t < DICE_TABLES; t++)
        for (size_t row = 0; row < ROWS; row++)
            assert_int_equal(row_current(g->r, g->txn, schema_table_no(g->r->schema, (uint32_t)t + 1), rr_id(dice_row_id(t, row)), &o->rows[t][row]), 0);
    return o;
}

// ---- by chance -----------------------------------------------------------------------------------------------------

static void try_query(struct lab *l)
{
    bool ordered;
    struct query *q;
    struct delta *d;
    dice_make_query(&l->d, &ordered);
    const char *sql = (char *)l->d.sql.p;
    char *text = strdup(sql);
    if (query_compile(l->g.r, SPAN_STR(text), NULL, 0, &q, &l->g.p) == 0) {
        int err = delta_new(l->g.r, q->plan, &d, &l->g.p);
        if (err) fail_msg("%s: %s", text, problem_text(&l->g.p));
        for (size_t i = 0; i < RANGES; i++) {
            uint64_t from = l->g.seq;
            for (size_t commits = 1 + dice(&l->d, 3); commits-- > 0;)
                commit_some(l, 1 + dice(&l->d, 3));
            bool done = compare(&l->g, q, d, text, l->seed, from, NULL, &l->told);
            if (done && i == 0) {
                struct over *o = over_now(&l->g);
                compare(&l->g, q, d, text, l->seed, from, &(struct overlay){.ctx = o, .find = over_find, .next = over_next}, &l->told);
                free(o);
            }
            l->compared += done;
            l->failed += !done;
        }
        delta_free(d);
        query_unref(q);
    }
    free(text);
}

static void run_seed(uint64_t seed, struct lab *sum)
{
    struct lab l = {.seed = seed, .d = {.chance = seed * 0x9e3779b97f4a7c15u + 1}};
    struct buf sql;
    rr_open(&l.g);
    buf_init(&l.d.sql, 64 * KIB);
    buf_init(&sql, 64 * KIB);
    put_schema(&l, &sql);
    rr_publish(&l.g, (char *)sql.p);
    for (size_t i = 0; i < 3; i++)
        commit_some(&l, 10);
    for (size_t i = 0; i < QUERIES; i++)
        try_query(&l);
    sum->compared += l.compared;
    sum->failed += l.failed;
    sum->told += l.told;
    buf_free(&sql);
    buf_free(&l.d.sql);
    rr_close(&l.g);
}

static void any_difference_is_told_of_any_query(void **state)
{
    const char *seed = getenv("SEED"), *runs = getenv("RUNS");
    struct lab sum = {.compared = 0};
    (void)state;
    uint64_t first = seed ? strtoull(seed, NULL, 10) : 1, n = seed ? 1 : runs ? strtoull(runs, NULL, 10) : RUNS_DEFAULT;
    for (uint64_t i = 0; i < n; i++)
        run_seed(first + i, &sum);
    if (!seed) {
        assert_true(sum.compared > 20 * n && sum.told > sum.compared / 4);
        assert_true(sum.failed * 3 < sum.compared);
    }
}

// ---- by hand -------------------------------------------------------------------------------------------------------

static const char hand_schema[] = "create table u (name text, boss uuid, on_duty boolean not null default false);"
                                  "create table m (u uuid not null, text text, n integer);"
                                  "create table tag (m uuid not null, word text, by uuid);";

static const char *const by_hand[] = {
    "select m.text, u.name from m join u on u.id = m.u",
    "select m.text, u.name from m left join u on u.id = m.u",
    "select m.text, u.name from m left join u on u.id = m.u and u.on_duty",
    "select m.text from m left join u on u.id = m.u where u.id is null",
    "select m.text, b.name from m join u on u.id = m.u left join u b on b.id = u.boss",
    "select m.text, b.name from m left join u on u.id = m.u left join u b on b.id = u.boss",
    "select m.text, b.name from m left join u on u.id = m.u left join u b on b.id = u.boss where b.name is null or b.on_duty",
    "select m.text, u.name from m cross join u where m.n > 2",
    "select m.text, t.word from m left join u on u.id = m.u join tag t on t.m = m.id and (t.by = u.id or u.id is null)",
    "select u.name, array(select m.text from m where m.u = u.id order by m.n, m.id limit 2) as ms from u",
    "select u.name, array(select m.text, array(select word from tag where tag.m = m.id order by word, tag.id) as tags from m where m.u = u.id "
    "order by m.n, m.id) as ms from u",
    "select m.text, array(select r.name from u r where r.boss = u.id order by r.id) as under from m left join u on u.id = m.u",
    "select m.text from m where exists (select 1 from tag where tag.m = m.id and tag.word = 'a')",
    "select m.text from m where not exists (select 1 from tag where tag.m = m.id)",
    "select m.text from m where m.id in (select m from tag where word = 'a')",
    "select m.text from m where m.id not in (select m from tag)",
    "select m.text from m where m.u in (select boss from u where on_duty)",
    "select m.text from m where m.u not in (select boss from u where on_duty)",
    "select m.text, m.u in (select boss from u) as bossy from m",
    "select u.name, (select count(*) from m where m.u = u.id) as n, (select max(n) from m where m.u = u.id) as top from u",
    "select u.name from u where (select count(*) from m where m.u = u.id) > 1",
    "select m.text from m where exists (select 1 from u where u.on_duty and u.name = 'a')",
    "select m.text from m where exists (select 1 from tag where tag.m = m.id and exists (select 1 from u where u.id = tag.by and u.on_duty))",
    "select m.text from m where exists (select 1 from tag left join u on u.id = tag.by where tag.m = m.id and u.id is null)",
    "select m.text, t.word from m left join tag t on t.m = m.id and exists (select 1 from u where u.id = t.by and u.on_duty)",
    "select m.text from m left join tag t on t.m = m.id and exists (select 1 from u where u.id = t.by) where t.id is null",
    "select m.text, u.name from m, u where m.u = u.id and u.id in (select by from tag where tag.m = m.id)",
    "select m.text from m where m.n > (select avg(n) from m o where o.u = m.u)",
    "select m.text from m where m.u in (select id from u order by name, id limit 2)",
    "select u.on_duty, count(*) as n from m join u on u.id = m.u group by u.on_duty",
    "select m.u, (select name from u where u.id = m.u) as name, count(*) as n from m group by m.u",
    "select u.id, u.name, (select count(*) from tag where tag.by = u.id) as tags, count(m.id) as n from u left join m on m.u = u.id group by u.id",
    "select distinct u.name from m join u on u.id = m.u",
};

#define IDS 6

static void write_by_hand(struct rows_rig *g, uint64_t *chance)
{
    static const char *const tables[] = {"u", "m", "tag"};
    static const char *const words[] = {"a", "b", "c"};
    struct query_dice d = {.chance = *chance};
    int err = 0;
    char json[200];
    rr_commit(g);
    rr_begin(g);
    for (size_t i = 1 + dice(&d, 2); i-- > 0 && !err;) {
        size_t t = dice(&d, 3);
        unsigned id = (unsigned)(0x10 * (t + 1) + dice(&d, IDS)), u = (unsigned)(0x10 + dice(&d, IDS)), m = (unsigned)(0x20 + dice(&d, IDS));
        const char *word = words[dice(&d, 3)];
        char of[3][200];
        snprintf(of[0], sizeof of[0], "{\"name\":\"%s\",\"boss\":\"00000000-0000-0000-0000-0000000000%02x\",\"on_duty\":%s}", word, u, one_in(&d, 2) ? "true" : "false");
        snprintf(of[1], sizeof of[1], "{\"u\":\"00000000-0000-0000-0000-0000000000%02x\",\"text\":\"%s\",\"n\":%d}", u, word, (int)dice(&d, 5));
        snprintf(of[2], sizeof of[2], "{\"m\":\"00000000-0000-0000-0000-0000000000%02x\",\"word\":\"%s\",\"by\":\"00000000-0000-0000-0000-0000000000%02x\"}", m, word, u);
        snprintf(json, sizeof json, "%s", t == 0 && one_in(&d, 4) ? "{\"boss\":null}" : t == 2 && one_in(&d, 4) ? "{\"by\":null,\"m\":\"00000000-0000-0000-0000-000000000021\"}" : of[t]);
        bool drop = one_in(&d, 3);
        err = rr_op(g, drop ? ROW_DELETE : ROW_UPSERT, tables[t], id, drop ? NULL : json);
        if (err && i == 0) err = rr_op(g, ROW_RESTORE, tables[t], id, NULL);
    }
    if (err) rr_drop(g);
    else assert_int_equal(rr_end(g), 0);
    *chance = d.chance;
}

static void differences_are_told_of_queries_by_hand(void **state)
{
    struct rows_rig *g = *state;
    uint64_t chance = 4711;
    for (size_t i = 0; i < sizeof by_hand / sizeof *by_hand; i++) {
        struct query *q = rr_compile(g, by_hand[i]);
        struct delta *d;
        size_t told = 0;
        if (delta_new(g->r, q->plan, &d, &g->p) != 0) fail_msg("%s: %s", by_hand[i], problem_text(&g->p));
        for (size_t range = 0; range < 100; range++) {
            uint64_t from = g->seq;
            for (size_t n = 1 + range % 3; n-- > 0;)
                write_by_hand(g, &chance);
            if (!compare(g, q, d, by_hand[i], 0, from, NULL, &told)) fail_msg("%s: it failed", by_hand[i]);
        }
        if (told < 6) fail_msg("%s: hardly anything was told", by_hand[i]);
        delta_free(d);
        query_unref(q);
    }
}

// By its key, in the state where it stands, and not in one where it does not.
static void a_joined_row_is_looked_up_by_its_key(void **state)
{
    static const char *const sql[] = {"select m.text, u.name from m join u on u.id = m.u", "select m.text, t.word from m left join tag t on t.m = m.id"};
    struct rows_rig *g = *state;
    uint64_t chance = 17;
    for (size_t i = 0; i < 60; i++)
        write_by_hand(g, &chance);
    for (size_t i = 0; i < 2; i++) {
        struct query *q = rr_compile(g, sql[i]);
        struct row_source now = {.r = g->r, .txn = g->txn, .at = g->seq}, never = {.r = g->r, .txn = g->txn, .at = 1};
        struct list all = {.sink = {.row = take}, .plan = q->plan};
        struct delta *d;
        assert_int_equal(delta_new(g->r, q->plan, &d, &g->p), 0);
        assert_int_equal(brute_force(g, q, &now, DELTA_AFTER, &all), 0);
        assert_true(all.n[DELTA_AFTER] > 2);
        for (size_t k = 0; k < all.n[DELTA_AFTER]; k++) {
            struct list found = {.sink = {.row = take}, .plan = q->plan};
            struct buf key;
            size_t budget = 100;
            bool stands;
            buf_init(&key, KIB);
            for (const char *hex = all.rows[DELTA_AFTER][k].key; *hex; hex += 2) {
                unsigned byte;
                assert_int_equal(sscanf(hex, "%2x", &byte), 1);
                buf_put_u8(&key, (uint8_t)byte);
            }
            assert_int_equal(delta_look_up(d, &now, q->params, buf_span(&key), &budget, &found.sink, &stands, &g->p), 0);
            assert_true(stands && found.n[DELTA_AFTER] == 1);
            assert_string_equal(found.rows[DELTA_AFTER][0].text, all.rows[DELTA_AFTER][k].text);
            assert_int_equal(delta_look_up(d, &never, q->params, buf_span(&key), &budget, &found.sink, &stands, &g->p), 0);
            assert_false(stands);
            buf_free(&key);
            free_list(&found);
        }
        delta_free(d);
        free_list(&all);
        query_unref(q);
    }
}

// Whatever the size of the tables: a point or two for each row that is touched, or joined to it.
static void a_difference_costs_what_was_touched(void **state)
{
    static const char *const sql[] = {
        "select m.text, u.name from m join u on u.id = m.u",
        "select m.text, u.name from m left join u on u.id = m.u where m.n >= 0 order by m.n limit 10",
        "select u.name from u where exists (select 1 from m where m.u = u.id and m.n > 3)",
        "select u.name, array(select text from m where m.u = u.id and m.n < 5 order by n, id) as few from u",
    };
    struct rows_rig *g = *state;
    char json[512];
    snprintf(json, sizeof json, "%s create index m_u on m (u, n);", hand_schema);
    rr_publish(g, json);
    for (unsigned i = 0; i < 2000; i++) {
        snprintf(json, sizeof json, "{\"u\":\"00000000-0000-0000-0000-%012x\",\"text\":\"t\",\"n\":%u}", 0x100 + i % 200, i / 200);
        if (i < 200) rr_insert(g, "u", 0x100 + i, "{\"name\":\"somebody\"}");
        rr_insert(g, "m", 0x10000 + i, json);
    }
    bool wrote;
    while (rows_busy(g->r))
        assert_int_equal(rows_tick(g->r, g->txn, &wrote), 0);
    for (size_t i = 0; i < sizeof sql / sizeof *sql; i++) {
        struct query *q = rr_compile(g, sql[i]);
        struct delta *d;
        struct delta_rows rows = {.rows = NULL};
        struct delta_states states = {.before = {.r = g->r, .txn = g->txn, .at = g->seq}, .params = q->params};
        struct list told = {.sink = {.row = take}, .plan = q->plan};
        size_t budget = 60;
        assert_int_equal(delta_new(g->r, q->plan, &d, &g->p), 0);
        rr_update(g, "m", 0x10000 + 400 + (unsigned)i, "{\"n\":4,\"text\":\"other\"}");
        states.after = (struct row_source){.r = g->r, .txn = g->txn, .at = g->seq};
        assert_int_equal(delta_rows_add_table(&rows, q->plan, schema_table(g->r->schema, SPAN_LIT("m"))->no, rr_id(0x10000 + 400 + (unsigned)i)), 0);
        if (delta_run(d, &states, &rows, &budget, &told.sink, &g->p) != 0) fail_msg("%s: %s", sql[i], problem_text(&g->p));
        assert_true(told.n[DELTA_BEFORE] + told.n[DELTA_AFTER] == 2);
        budget = 3;
        assert_int_equal(delta_run(d, &states, &rows, &budget, &told.sink, &g->p), ERR_QUERY_TOO_EXPENSIVE);
        delta_rows_free(&rows);
        free_list(&told);
        delta_free(d);
        query_unref(q);
    }
}

static int setup(void **state)
{
    return rr_setup(state, hand_schema);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rr_teardown)
    const struct CMUnitTest tests[] = {
        TEST(differences_are_told_of_queries_by_hand),
        TEST(a_joined_row_is_looked_up_by_its_key),
        TEST(a_difference_costs_what_was_touched),
        cmocka_unit_test(any_difference_is_told_of_any_query),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
