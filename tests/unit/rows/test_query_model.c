// Random queries of one table against a model that keeps every version of every row and looks through all of them: conditions in three
// values, orders that end with the id, limits, any seq, constants and parameters, whatever indexes there are. SEED=n repeats one table,
// RUNS=n makes more of them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "err.h"
#include "rows_rig.h"

#define ROWS 60
#define COMMITS 40
#define QUERIES 80
#define RUNS_DEFAULT 40
#define TERMS 6

enum { N, B, S, X, F, COLUMNS };
static const char *const names[] = {"n", "b", "s", "x", "f"};
static const char schema[] = "create table t (n integer, b bigint, s text, x double precision, f boolean);";

// A value of any column by its rank: of numbers it is the number (of x its half), of texts a place in this list.
static const char *const texts[] = {"", "a", "ab", "b", "c", "é"};
#define NONE INT32_MIN

struct version {
    uint64_t seq; // 0: there is none
    bool stands;
    int32_t cells[COLUMNS];
};

struct lab {
    struct rows_rig g;
    uint64_t chance, seed;
    struct version rows[ROWS][COMMITS + 2]; // oldest first
    size_t versions[ROWS];
};

static uint64_t dice(struct lab *l, uint64_t sides)
{
    l->chance ^= l->chance << 13;
    l->chance ^= l->chance >> 7;
    l->chance ^= l->chance << 17;
    return (l->chance * 0x9e3779b97f4a7c15u >> 16) % sides;
}

static int32_t any_value(struct lab *l, int column)
{
    if (dice(l, 6) == 0) return NONE;
    return column == S ? (int32_t)dice(l, 6) : column == F ? (int32_t)dice(l, 2) : (int32_t)dice(l, 9) - 3;
}

static void put_value(struct buf *b, int column, int32_t v, char quote)
{
    if (v == NONE) buf_put_str(b, "null");
    else if (column == S) buf_printf(b, "%c%s%c", quote, texts[v], quote);
    else if (column == F) buf_put_str(b, v ? "true" : "false");
    else if (column == X) buf_printf(b, "%.1f", v * 0.5);
    else buf_printf(b, "%d", v);
}

// ---- rows ----------------------------------------------------------------------------------------------------------

static const struct version *version_at(const struct lab *l, size_t row, uint64_t at)
{
    const struct version *found = NULL;
    for (size_t i = 0; i < l->versions[row]; i++)
        if (l->rows[row][i].seq <= at) found = &l->rows[row][i];
    return found && found->stands ? found : NULL;
}

static void change(struct lab *l, size_t row)
{
    struct version *before = l->versions[row] > 0 ? &l->rows[row][l->versions[row] - 1] : NULL;
    struct version next = {.seq = l->g.c.seq, .stands = true};
    struct buf json;
    if (before && !before->stands) return; // an id is used once
    if (before && before->seq == l->g.c.seq) return;
    bool gone = before && dice(l, 8) == 0;
    buf_init(&json, 1000);
    buf_put_str(&json, "{");
    for (int c = 0; c < COLUMNS && !gone; c++) {
        bool set = !before || dice(l, 2) == 0;
        next.cells[c] = set ? any_value(l, c) : before->cells[c];
        if (!set) continue;
        buf_printf(&json, "%s\"%s\":", json.n > 1 ? "," : "", names[c]);
        put_value(&json, c, next.cells[c], '"');
    }
    buf_put(&json, "}", 2);
    next.stands = !gone;
    int err = rr_op(&l->g, gone ? ROW_DELETE : before ? ROW_UPDATE : ROW_INSERT, "t", (unsigned)row + 1, gone ? NULL : (char *)json.p);
    if (err) fail_msg("%s: %s", json.p, problem_text(&l->g.p));
    l->rows[row][l->versions[row]++] = next;
    buf_free(&json);
}

static void commit(struct lab *l)
{
    bool wrote;
    rr_commit(&l->g);
    rr_begin(&l->g);
    for (size_t i = dice(l, 8) + 1; i-- > 0;)
        change(l, dice(l, ROWS));
    assert_int_equal(rr_end(&l->g), 0);
    while (rows_busy(l->g.r))
        assert_int_equal(rows_tick(l->g.r, l->g.txn, &wrote), 0);
}

static void publish_indexes(struct lab *l)
{
    struct buf sql;
    buf_init(&sql, 4096);
    buf_put_str(&sql, schema);
    for (size_t i = 0, n = dice(l, 5); i < n; i++) {
        size_t columns = 1 + dice(l, 3), first = dice(l, COLUMNS);
        buf_printf(&sql, "create index i%zu on t (", i);
        for (size_t k = 0; k < columns; k++)
            buf_printf(&sql, "%s%s%s", k > 0 ? ", " : "", names[(first + k) % COLUMNS], dice(l, 3) == 0 ? " desc" : "");
        buf_put_str(&sql, dice(l, 4) == 0 ? ") where n > 0;" : ");");
    }
    buf_put_u8(&sql, 0);
    rr_publish(&l->g, (char *)sql.p);
    buf_free(&sql);
}

// ---- queries -------------------------------------------------------------------------------------------------------

struct term {
    int column, op; // as ops below
    int32_t value, other;
    bool param;
};

struct question {
    struct term terms[TERMS];
    size_t n, split; // the terms before `split` all hold, or those from it on
    struct {
        int column; // COLUMNS: the id
        bool desc, nulls_first;
    } order[3];
    size_t order_count;
    int64_t limit, offset; // -1: none
};

enum { EQ, NE, LT, LE, GT, GE, IS_NULL, NOT_NULL, IN, BETWEEN, OPS };
static const char *const ops[] = {"=", "<>", "<", "<=", ">", ">=", "is null", "is not null"};

static void make_question(struct lab *l, struct question *q)
{
    *q = (struct question){.n = dice(l, TERMS), .limit = -1, .offset = -1};
    q->split = dice(l, 3) == 0 && q->n > 1 ? 1 + dice(l, q->n - 1) : q->n;
    for (size_t i = 0; i < q->n; i++) {
        int column = (int)dice(l, COLUMNS);
        q->terms[i] = (struct term){.column = column, .op = dice(l, 2) == 0 ? EQ : (int)dice(l, OPS), .param = dice(l, 3) == 0};
        q->terms[i].value = any_value(l, column);
        q->terms[i].other = any_value(l, column);
    }
    q->order_count = dice(l, 4);
    for (size_t i = 0; i < q->order_count; i++) {
        q->order[i].column = (int)dice(l, COLUMNS + 1);
        q->order[i].desc = dice(l, 2) == 0;
        q->order[i].nulls_first = dice(l, 4) == 0 ? !q->order[i].desc : q->order[i].desc;
    }
    if (dice(l, 2) == 0) q->limit = (int64_t)dice(l, 15);
    if (dice(l, 4) == 0) q->offset = (int64_t)dice(l, 5);
}

struct text {
    struct buf sql;
    struct row_value params[TERMS * 2];
    size_t n;
};

static void put_constant(struct text *t, const struct term *term, int32_t v)
{
    if (!term->param) {
        put_value(&t->sql, term->column, v, '\'');
        return;
    }
    struct row_value *p = &t->params[t->n++];
    *p = v == NONE            ? (struct row_value){.kind = ROW_NULL}
         : term->column == S  ? (struct row_value){.kind = ROW_TEXT, .s = SPAN_STR(texts[v])}
         : term->column == F  ? (struct row_value){.kind = ROW_BOOL, .b = v != 0}
         : term->column == X  ? (struct row_value){.kind = ROW_REAL, .d = v * 0.5}
                              : (struct row_value){.kind = ROW_INT, .i = v};
    buf_printf(&t->sql, "$%zu", t->n);
}

static void put_term(struct text *t, const struct term *term)
{
    buf_printf(&t->sql, "%s ", names[term->column]);
    if (term->op < IN) buf_put_str(&t->sql, ops[term->op]);
    if (term->op >= IN) buf_put_str(&t->sql, term->op == IN ? "in (" : "between ");
    if (term->op < IS_NULL || term->op >= IN) {
        buf_put_u8(&t->sql, ' ');
        put_constant(t, term, term->value);
    }
    if (term->op < IN) return;
    buf_put_str(&t->sql, term->op == IN ? ", " : " and ");
    put_constant(t, term, term->other);
    if (term->op == IN) buf_put_str(&t->sql, ")");
}

static void put_question(struct text *t, const struct question *q)
{
    t->n = 0;
    buf_init(&t->sql, 16 * KIB);
    buf_put_str(&t->sql, "select n from t");
    for (size_t i = 0; i < q->n; i++) {
        buf_put_str(&t->sql, i == 0 ? " where " : i == q->split ? " or " : " and ");
        put_term(t, &q->terms[i]);
    }
    for (size_t i = 0; i < q->order_count; i++)
        buf_printf(&t->sql, "%s%s%s nulls %s", i == 0 ? " order by " : ", ", q->order[i].column == COLUMNS ? "id" : names[q->order[i].column],
                   q->order[i].desc ? " desc" : "", q->order[i].nulls_first ? "first" : "last");
    if (q->limit >= 0) buf_printf(&t->sql, " limit %d", (int)q->limit);
    if (q->offset >= 0) buf_printf(&t->sql, " offset %d", (int)q->offset);
    buf_put_u8(&t->sql, 0);
    assert_int_equal(t->sql.err, 0);
}

// ---- the model -----------------------------------------------------------------------------------------------------

// 1, 0, or -1 for neither.
static int compare_as(int op, int32_t a, int32_t b)
{
    if (a == NONE || b == NONE) return -1;
    return op == EQ ? a == b : op == NE ? a != b : op == LT ? a < b : op == LE ? a <= b : op == GT ? a > b : a >= b;
}

static int term_holds(const struct term *t, const struct version *v)
{
    int32_t cell = v->cells[t->column];
    int a, b;
    switch (t->op) {
    case IS_NULL: return cell == NONE;
    case NOT_NULL: return cell != NONE;
    case IN:
        a = compare_as(EQ, cell, t->value), b = compare_as(EQ, cell, t->other);
        return a == 1 || b == 1 ? 1 : a < 0 || b < 0 ? -1 : 0;
    case BETWEEN:
        a = compare_as(GE, cell, t->value), b = compare_as(LE, cell, t->other);
        return a == 0 || b == 0 ? 0 : a < 0 || b < 0 ? -1 : 1;
    default: return compare_as(t->op, cell, t->value);
    }
}

static bool all_hold(const struct question *q, size_t from, size_t to, const struct version *v)
{
    for (size_t i = from; i < to; i++)
        if (term_holds(&q->terms[i], v) != 1) return false;
    return true;
}

static bool matches(const struct question *q, const struct version *v)
{
    return all_hold(q, 0, q->split, v) || (q->split < q->n && all_hold(q, q->split, q->n, v));
}

struct placed {
    size_t row;
    const struct version *v;
    const struct question *q;
};

static int compare_placed(const void *x, const void *y)
{
    const struct placed *a = x, *b = y;
    for (size_t i = 0; i < a->q->order_count; i++) {
        int c = a->q->order[i].column, sign = a->q->order[i].desc ? -1 : 1;
        int32_t left = c == COLUMNS ? (int32_t)a->row : a->v->cells[c], right = c == COLUMNS ? (int32_t)b->row : b->v->cells[c];
        if (left == right) continue;
        if (left == NONE || right == NONE) return (left == NONE) == a->q->order[i].nulls_first ? -1 : 1;
        return left < right ? -sign : sign;
    }
    return a->row < b->row ? -1 : a->row > b->row;
}

// The ids that the query must give, a line each.
static void expected_ids(const struct lab *l, const struct question *q, uint64_t at, struct buf *out)
{
    struct placed found[ROWS];
    size_t n = 0;
    for (size_t row = 0; row < ROWS; row++) {
        const struct version *v = version_at(l, row, at);
        if (v && matches(q, v)) found[n++] = (struct placed){row, v, q};
    }
    if (n > 0) qsort(found, n, sizeof *found, compare_placed);
    size_t from = q->offset > 0 ? (size_t)q->offset : 0;
    for (size_t i = from; i < n && (q->limit < 0 || i - from < (size_t)q->limit); i++)
        buf_printf(out, "%zu\n", found[i].row + 1);
    buf_put_u8(out, 0);
}

// ---- the comparison ------------------------------------------------------------------------------------------------

static void found_ids(struct lab *l, const struct text *t, uint64_t at, struct buf *out)
{
    struct query *q;
    struct problem p = PROBLEM_NONE;
    int err = query_compile(l->g.r, SPAN_STR((char *)t->sql.p), t->params, t->n, &q, &p);
    if (err) fail_msg("seed %llu: %s: %s", (unsigned long long)l->seed, t->sql.p, problem_text(&p));
    char *rows = rr_rows(&l->g, q, at), *rest = rows;
    for (char *line = strsep(&rest, "\n"); line && *line; line = strsep(&rest, "\n"))
        buf_printf(out, "%lu\n", strtoul(line + strlen("{\"id\":\"") + 24, NULL, 16));
    buf_put_u8(out, 0);
    free(rows);
    query_unref(q);
}

static void one_question(struct lab *l, size_t *ids)
{
    struct question q;
    struct text t;
    struct buf found, expected;
    make_question(l, &q);
    put_question(&t, &q);
    for (int i = 0; i < 3; i++) {
        uint64_t at = i == 0 ? l->g.seq : 1 + dice(l, l->g.seq);
        buf_init(&found, 16 * KIB);
        buf_init(&expected, 16 * KIB);
        found_ids(l, &t, at, &found);
        expected_ids(l, &q, at, &expected);
        if (strcmp((char *)found.p, (char *)expected.p) != 0)
            fail_msg("seed %llu: %s as of %llu of %llu gave\n%s\nnot\n%s", (unsigned long long)l->seed, t.sql.p, (unsigned long long)at,
                     (unsigned long long)l->g.seq, found.p, expected.p);
        *ids += expected.n;
        buf_free(&found);
        buf_free(&expected);
    }
    buf_free(&t.sql);
}

static void queries_give_what_looking_at_every_version_gives(void **state)
{
    const char *seed = getenv("SEED"), *runs = getenv("RUNS");
    uint64_t first = seed ? strtoull(seed, NULL, 10) : 1;
    size_t n = seed ? 1 : runs ? strtoul(runs, NULL, 10) : RUNS_DEFAULT, ids = 0;
    (void)state;
    print_message("seeds %llu to %llu, %d queries each, as of three seqs\n", (unsigned long long)first, (unsigned long long)(first + n - 1), QUERIES);
    for (size_t i = 0; i < n; i++) {
        struct lab *l = calloc(1, sizeof *l);
        l->seed = first + i;
        l->chance = l->seed * 0x9e3779b97f4a7c15u + 1;
        rr_open(&l->g);
        rr_publish(&l->g, schema);
        for (size_t k = 0; k < COMMITS; k++) {
            if (k == COMMITS / 3) publish_indexes(l);
            commit(l);
        }
        for (size_t k = 0; k < QUERIES; k++)
            one_question(l, &ids);
        rr_close(&l->g);
        free(l);
    }
    assert_true(ids > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(queries_give_what_looking_at_every_version_gives)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
