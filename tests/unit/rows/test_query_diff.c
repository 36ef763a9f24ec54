// The same random schemas, rows and queries for the row store and for SQLite; and, of one table, for a model that knows nothing but the
// versions of its rows. Results are compared as of now, as of an earlier seq, read in small pieces while commits go on, and with rows laid
// over the store. SEED=n repeats one schema with its queries; RUNS=n makes more of them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

#include "err.h"
#include "json_read.h"
#include "json_write.h"
#include "rows_rig.h"
#include "source.h"

#define TABLES 3
#define COLUMNS 5
#define ROWS 40 // ids of a table
#define QUERIES 60
#define RUNS_DEFAULT 50

enum kind { INT, TEXT, REAL, BOOL, UUID, KINDS };
static const char *const type_names[] = {"integer", "text", "double precision", "boolean", "uuid"};

struct table_model {
    enum kind kinds[COLUMNS];
    size_t columns;
    bool there[ROWS], gone[ROWS]; // stands; was deleted, so the id is not used again
};

struct lab {
    struct rows_rig g;
    sqlite3 *now, *then; // as of the last commit, and of g.seq when `then` was
    uint64_t then_seq;
    struct table_model tables[TABLES];
    uint64_t chance;
    uint64_t seed;
    struct buf sql; // the query being made
    unsigned depth;
    size_t compared, failed, rows; // results that were, those that a value broke off, and rows of the former
};

// ---- chance --------------------------------------------------------------------------------------------------------

static uint64_t dice(struct lab *l, uint64_t sides)
{
    l->chance ^= l->chance << 13;
    l->chance ^= l->chance >> 7;
    l->chance ^= l->chance << 17;
    return (l->chance * 0x9e3779b97f4a7c15u >> 16) % sides;
}

static bool one_in(struct lab *l, unsigned n)
{
    return dice(l, n) == 0;
}

// ---- values --------------------------------------------------------------------------------------------------------

static void put_uuid(struct buf *b, unsigned n)
{
    buf_printf(b, "'00000000-0000-0000-0000-%012x'", n);
}

static unsigned row_id(size_t table, size_t row)
{
    return (unsigned)(0x100 * (table + 1) + row);
}

// As SQL that both read. Of INT and REAL never more than one token, so that a sign is a constant's own.
static void put_value(struct lab *l, struct buf *b, enum kind kind)
{
    static const char *const texts[] = {"''", "'a'", "'b'", "'ab'", "'Ba'", "'é'", "'a b'"};
    switch (kind) {
    case INT: buf_printf(b, "%d", (int)dice(l, 9) - 2); return;
    case TEXT: buf_put_str(b, texts[dice(l, 7)]); return;
    case REAL: buf_printf(b, "%.1f", ((int)dice(l, 11) - 4) * 0.5); return;
    case BOOL: buf_put_str(b, one_in(l, 2) ? "true" : "false"); return;
    case UUID: put_uuid(b, row_id(dice(l, TABLES), dice(l, ROWS))); return;
    case KINDS: break;
    }
    fail();
}

// ---- schema and rows -----------------------------------------------------------------------------------------------

static void on_both(struct lab *l, const char *sql)
{
    char *message = NULL;
    if (sqlite3_exec(l->now, sql, NULL, NULL, &message) != SQLITE_OK) fail_msg("%s: %s", sql, message);
}

static void put_tables(struct lab *l, struct buf *sql)
{
    for (size_t t = 0; t < TABLES; t++) {
        buf_printf(sql, "create table t%zu (", t);
        for (size_t c = 0; c < l->tables[t].columns; c++)
            buf_printf(sql, "%sc%zu %s", c > 0 ? ", " : "", c, type_names[l->tables[t].kinds[c]]);
        buf_put_str(sql, ");\n");
    }
}

static void put_indexes(struct lab *l, struct buf *sql)
{
    for (size_t t = 0; t < TABLES; t++) {
        size_t columns = l->tables[t].columns;
        for (unsigned i = 0, n = (unsigned)dice(l, 4); i < n; i++) {
            size_t first = dice(l, columns), second = dice(l, columns);
            buf_printf(sql, "create index t%zu_%u on t%zu (c%zu%s", t, i, t, first, one_in(l, 3) ? " desc" : "");
            if (second != first && !one_in(l, 3)) buf_printf(sql, ", c%zu%s", second, one_in(l, 3) ? " desc" : "");
            buf_put_str(sql, ")");
            if (one_in(l, 4)) buf_printf(sql, " where c%zu is not null", first);
            buf_put_str(sql, ";\n");
        }
    }
}

static void make_schema(struct lab *l, struct buf *tables, struct buf *indexes)
{
    for (size_t t = 0; t < TABLES; t++) {
        l->tables[t].columns = 2 + dice(l, COLUMNS - 1);
        for (size_t c = 0; c < l->tables[t].columns; c++)
            l->tables[t].kinds[c] = c == 0 ? UUID : c == 1 ? INT : (enum kind)dice(l, KINDS);
    }
    put_tables(l, tables);
    put_indexes(l, indexes);
    buf_put_u8(tables, 0);
    // SQLite has the same tables with an id, and no indexes: it is to be right, not quick.
    for (size_t t = 0; t < TABLES; t++) {
        struct buf sql;
        buf_init(&sql, 4096);
        buf_printf(&sql, "create table t%zu (id text primary key", t);
        for (size_t c = 0; c < l->tables[t].columns; c++) {
            static const char *const types[] = {"integer", "text", "real", "integer", "text"};
            buf_printf(&sql, ", c%zu %s", c, types[l->tables[t].kinds[c]]);
        }
        buf_put(&sql, ") without rowid", sizeof ") without rowid");
        on_both(l, (char *)sql.p);
        buf_free(&sql);
    }
}

// What SQL says, as JSON: quotes are others, and nothing else is.
static void put_json(struct buf *json, struct span value)
{
    for (size_t i = 0; i < value.n; i++)
        buf_put_u8(json, value.p[i] == '\'' ? '"' : value.p[i]);
}

static void change_row(struct lab *l, size_t t, size_t row, bool insert)
{
    struct buf json, sql, value;
    buf_init(&json, 4096);
    buf_init(&sql, 4096);
    buf_init(&value, 256);
    buf_put_str(&json, "{");
    buf_printf(&sql, insert ? "insert into t%zu values (" : "update t%zu set id = id", t);
    if (insert) put_uuid(&sql, row_id(t, row));
    for (size_t c = 0; c < l->tables[t].columns; c++) {
        if (!insert && !one_in(l, 2)) continue;
        buf_clear(&value);
        if (one_in(l, 5)) {
            buf_put_str(&value, "null");
        } else {
            put_value(l, &value, l->tables[t].kinds[c]);
        }
        buf_printf(&json, "%s\"c%zu\":", json.n > 1 ? "," : "", c);
        put_json(&json, buf_span(&value));
        if (insert) {
            buf_put_str(&sql, ", ");
        } else {
            buf_printf(&sql, ", c%zu = ", c);
        }
        buf_put_span(&sql, buf_span(&value));
    }
    buf_put(&json, "}", 2);
    if (insert) {
        buf_put(&sql, ")", 2);
    } else {
        buf_put_str(&sql, " where id = ");
        put_uuid(&sql, row_id(t, row));
        buf_put_u8(&sql, 0);
    }
    char name[4] = {'t', (char)('0' + t)};
    int err = rr_op(&l->g, insert ? ROW_INSERT : ROW_UPDATE, name, row_id(t, row), (char *)json.p);
    if (err) fail_msg("%s: %s", json.p, problem_text(&l->g.p));
    on_both(l, (char *)sql.p);
    l->tables[t].there[row] = true;
    buf_free(&json);
    buf_free(&sql);
    buf_free(&value);
}

static void delete_row(struct lab *l, size_t t, size_t row)
{
    char sql[200], name[4] = {'t', (char)('0' + t)};
    assert_int_equal(rr_op(&l->g, ROW_DELETE, name, row_id(t, row), NULL), 0);
    snprintf(sql, sizeof sql, "delete from t%zu where id = '00000000-0000-0000-0000-%012x'", t, row_id(t, row));
    on_both(l, sql);
    l->tables[t].there[row] = false;
    l->tables[t].gone[row] = true;
}

static void commit_some(struct lab *l, size_t changes)
{
    rr_commit(&l->g);
    rr_begin(&l->g);
    for (size_t i = 0; i < changes; i++) {
        size_t t = dice(l, TABLES), row = dice(l, ROWS);
        if (l->tables[t].gone[row]) continue;
        if (l->tables[t].there[row] && one_in(l, 8))
            delete_row(l, t, row);
        else
            change_row(l, t, row, !l->tables[t].there[row]);
    }
    assert_int_equal(rr_end(&l->g), 0);
    bool wrote;
    while (rows_busy(l->g.r))
        assert_int_equal(rows_tick(l->g.r, l->g.txn, &wrote), 0);
}

static void publish(struct lab *l, const struct buf *tables, const struct buf *indexes)
{
    struct buf sql;
    buf_init(&sql, MIB);
    buf_put_str(&sql, (const char *)tables->p);
    if (indexes) buf_put_span(&sql, buf_span(indexes));
    buf_put_u8(&sql, 0);
    rr_publish(&l->g, (char *)sql.p);
    buf_free(&sql);
}

static void copy_now(struct lab *l)
{
    assert_int_equal(sqlite3_open(":memory:", &l->then), SQLITE_OK);
    sqlite3_backup *b = sqlite3_backup_init(l->then, "main", l->now, "main");
    assert_non_null(b);
    assert_int_equal(sqlite3_backup_step(b, -1), SQLITE_DONE);
    sqlite3_backup_finish(b);
    sqlite3_exec(l->then, "pragma case_sensitive_like = on", NULL, NULL, NULL);
    l->then_seq = l->g.seq;
}

static void open_lab(struct lab *l, uint64_t seed)
{
    struct buf tables, indexes;
    *l = (struct lab){.seed = seed, .chance = seed * 0x9e3779b97f4a7c15u + 1};
    buf_init(&tables, MIB);
    buf_init(&indexes, MIB);
    buf_init(&l->sql, 64 * KIB);
    rr_open(&l->g);
    assert_int_equal(sqlite3_open(":memory:", &l->now), SQLITE_OK);
    sqlite3_exec(l->now, "pragma case_sensitive_like = on", NULL, NULL, NULL);
    make_schema(l, &tables, &indexes);
    bool later = one_in(l, 3); // the indexes come to rows that are there, and to seqs that they cannot answer for
    publish(l, &tables, later ? NULL : &indexes);
    for (size_t i = 0; i < 4; i++)
        commit_some(l, 30);
    copy_now(l);
    if (later) publish(l, &tables, &indexes);
    for (size_t i = 0; i < 3; i++)
        commit_some(l, 15);
    buf_free(&tables);
    buf_free(&indexes);
}

static void close_lab(struct lab *l)
{
    sqlite3_close(l->now);
    sqlite3_close(l->then);
    buf_free(&l->sql);
    rr_close(&l->g);
}

// ---- queries -------------------------------------------------------------------------------------------------------

struct visible {
    char alias;
    size_t table;
};

struct scope {
    struct visible tables[8];
    size_t n;
};

static void put_expr(struct lab *l, const struct scope *s, enum kind kind, unsigned depth);

static bool put_column(struct lab *l, const struct scope *s, enum kind kind)
{
    for (int tries = 0; tries < 6; tries++) {
        const struct visible *v = &s->tables[dice(l, s->n)];
        if (kind == UUID && one_in(l, 2)) {
            buf_printf(&l->sql, "%c.id", v->alias);
            return true;
        }
        size_t c = dice(l, l->tables[v->table].columns);
        if (l->tables[v->table].kinds[c] != kind) continue;
        buf_printf(&l->sql, "%c.c%zu", v->alias, c);
        return true;
    }
    return false;
}

static void put(struct lab *l, const char *s)
{
    buf_put_str(&l->sql, s);
}

static void put_operator(struct lab *l, const struct scope *s, enum kind kind, const char *op, unsigned depth)
{
    put(l, "(");
    put_expr(l, s, kind, depth);
    put(l, op);
    put_expr(l, s, kind, depth);
    put(l, ")");
}

static struct scope within(struct lab *l, const struct scope *s)
{
    struct scope inner = *s;
    inner.tables[inner.n] = (struct visible){.alias = (char)('a' + l->depth++), .table = dice(l, TABLES)};
    inner.n++;
    return inner;
}

// from t as x where something that concerns the row around it, most of the time
static void put_from_within(struct lab *l, const struct scope *inner, unsigned depth)
{
    const struct visible *own = &inner->tables[inner->n - 1];
    struct scope alone = {.tables = {*own}, .n = 1};
    buf_printf(&l->sql, " from t%zu %c where ", own->table, own->alias);
    if (one_in(l, 4)) {
        put_expr(l, &alone, BOOL, depth);
        return;
    }
    buf_printf(&l->sql, "%c.c%d = ", own->alias, one_in(l, 2) ? 1 : 0);
    enum kind kind = l->sql.p[l->sql.n - 4] == '1' ? INT : UUID;
    put_expr(l, inner, kind, 0);
    if (!one_in(l, 2)) return;
    put(l, " and ");
    put_expr(l, inner, BOOL, depth);
}

static void put_select_within(struct lab *l, const struct scope *s, enum kind kind, unsigned depth)
{
    struct scope inner = within(l, s);
    if (kind == BOOL) {
        bool exists = one_in(l, 2);
        put(l, exists ? "exists (select 1" : "(");
        if (!exists) {
            put_expr(l, s, INT, 0);
            put(l, one_in(l, 3) ? " not in (select " : " in (select ");
            buf_printf(&l->sql, "%c.c1", inner.tables[inner.n - 1].alias);
        }
        put_from_within(l, &inner, depth);
        put(l, exists ? ")" : "))");
        return;
    }
    buf_printf(&l->sql, "(select %s(", kind == INT && one_in(l, 2) ? "count" : one_in(l, 2) ? "min" : "max");
    if (!put_column(l, &(struct scope){.tables = {inner.tables[inner.n - 1]}, .n = 1}, kind)) put_value(l, &l->sql, kind);
    put(l, ")");
    put_from_within(l, &inner, depth);
    put(l, ")");
}

static void put_condition(struct lab *l, const struct scope *s, unsigned depth)
{
    static const char *const comparisons[] = {" = ", " <> ", " < ", " <= ", " > ", " >= "};
    enum kind kind = (enum kind)dice(l, KINDS);
    switch (dice(l, 12)) {
    case 0:
    case 1:
    case 2: put_operator(l, s, kind, comparisons[dice(l, 6)], depth - 1); return;
    case 3: put_operator(l, s, BOOL, one_in(l, 2) ? " and " : " or ", depth - 1); return;
    case 4:
        put(l, "(not ");
        put_expr(l, s, BOOL, depth - 1);
        put(l, ")");
        return;
    case 5:
        put(l, "(");
        put_expr(l, s, kind, depth - 1);
        put(l, one_in(l, 2) ? " is null)" : " is not null)");
        return;
    case 6:
        put(l, "(");
        put_expr(l, s, kind, depth - 1);
        put(l, one_in(l, 3) ? " not in (" : " in (");
        for (unsigned i = 0, n = 1 + (unsigned)dice(l, 4); i < n; i++) {
            if (i > 0) put(l, ", ");
            put_value(l, &l->sql, kind);
        }
        put(l, "))");
        return;
    case 7:
        put(l, "(");
        put_expr(l, s, kind, depth - 1);
        put(l, one_in(l, 3) ? " not between " : " between ");
        put_value(l, &l->sql, kind);
        put(l, " and ");
        put_value(l, &l->sql, kind);
        put(l, ")");
        return;
    case 8:
        put(l, "(");
        put_expr(l, s, TEXT, depth - 1);
        put(l, one_in(l, 3) ? " not like " : " like ");
        put(l, (const char *const[]){"'a%'", "'%b'", "'_'", "'%'", "'%a%'"}[dice(l, 5)]);
        put(l, ")");
        return;
    case 9: put_operator(l, s, kind, one_in(l, 2) ? " is distinct from " : " is not distinct from ", depth - 1); return;
    case 10:
        put(l, "(");
        put_expr(l, s, BOOL, depth - 1);
        put(l, (const char *const[]){" is true)", " is not true)", " is false)", " is not false)"}[dice(l, 4)]);
        return;
    default:
        if (l->depth < 20 && s->n < 6) {
            put_select_within(l, s, BOOL, depth - 1);
            return;
        }
        put_operator(l, s, kind, comparisons[dice(l, 6)], depth - 1);
    }
}

static void put_case(struct lab *l, const struct scope *s, enum kind kind, unsigned depth)
{
    put(l, "case when ");
    put_expr(l, s, BOOL, depth - 1);
    put(l, " then ");
    put_expr(l, s, kind, depth - 1);
    if (!one_in(l, 3)) {
        put(l, " else ");
        put_expr(l, s, kind, depth - 1);
    }
    put(l, " end");
}

// Every kind has what it can be made of; one that is not to be had of a table is a constant. Of a UUID that constant is a text, which
// only becomes one right beside a column.
static void put_expr(struct lab *l, const struct scope *s, enum kind kind, unsigned depth)
{
    static const char *const signs[] = {" + ", " - ", " * "};
    unsigned what = (unsigned)dice(l, 10);
    if (depth == 0 || what < 3 || kind == UUID) {
        if (one_in(l, 5) || !put_column(l, s, kind)) put_value(l, &l->sql, kind);
        return;
    }
    if (kind == BOOL) {
        put_condition(l, s, depth);
    } else if (what == 3) {
        put_case(l, s, kind, depth);
    } else if (what == 4) {
        put(l, "coalesce(");
        put_expr(l, s, kind, depth - 1);
        put(l, ", ");
        put_expr(l, s, kind, depth - 1);
        put(l, ")");
    } else if (what == 5 && l->depth < 20 && s->n < 6) {
        put_select_within(l, s, kind, depth - 1);
    } else if (kind == TEXT) {
        if (one_in(l, 2)) {
            put_operator(l, s, TEXT, " || ", depth - 1);
        } else {
            put(l, one_in(l, 2) ? "lower(" : "upper(");
            put_expr(l, s, TEXT, depth - 1);
            put(l, ")");
        }
    } else if (kind == INT && one_in(l, 4)) {
        put(l, "length(");
        put_expr(l, s, TEXT, depth - 1);
        put(l, ")");
    } else if (kind == INT && one_in(l, 4)) {
        put(l, "(");
        put_expr(l, s, INT, depth - 1);
        put(l, one_in(l, 2) ? " / nullif(" : " % nullif(");
        put_expr(l, s, INT, depth - 1);
        put(l, ", 0))");
    } else if (kind == INT || kind == REAL) {
        put_operator(l, s, kind, signs[dice(l, 3)], depth - 1);
    } else if (!put_column(l, s, kind)) {
        put_value(l, &l->sql, kind);
    }
}

static struct scope put_from(struct lab *l)
{
    struct scope s = {.n = 0};
    size_t n = one_in(l, 2) ? 1 : 1 + dice(l, 3);
    put(l, " from ");
    for (size_t i = 0; i < n; i++) {
        bool left = i > 0 && one_in(l, 3), cross = i > 0 && !left && one_in(l, 5);
        if (i > 0) put(l, left ? " left join " : cross ? " cross join " : " join ");
        s.tables[s.n] = (struct visible){.alias = (char)('a' + l->depth++), .table = dice(l, TABLES)};
        buf_printf(&l->sql, "t%zu %c", s.tables[s.n].table, s.tables[s.n].alias);
        s.n++;
        if (i == 0 || cross) continue;
        put(l, " on ");
        if (one_in(l, 4)) {
            put_expr(l, &s, BOOL, 2);
        } else {
            buf_printf(&l->sql, "%c.%s = %c.%s", s.tables[dice(l, i)].alias, one_in(l, 2) ? "c0" : "id", s.tables[i].alias,
                       one_in(l, 2) ? "c0" : "id");
        }
    }
    return s;
}

static void put_order_limit(struct lab *l, size_t targets, bool *ordered)
{
    *ordered = !one_in(l, 3);
    if (!*ordered) return;
    for (size_t i = 0; i < targets; i++)
        buf_printf(&l->sql, "%s%zu%s", i == 0 ? " order by " : ", ", i + 1,
                   (const char *const[]){" nulls last", " desc nulls first", " nulls first", " desc nulls last"}[dice(l, 4)]);
    if (!one_in(l, 3)) return;
    buf_printf(&l->sql, " limit %d", (int)dice(l, 12));
    if (one_in(l, 2)) buf_printf(&l->sql, " offset %d", (int)dice(l, 6));
}

static void put_list(struct lab *l, const struct scope *s, size_t targets)
{
    for (size_t i = 0; i < targets; i++) {
        if (i > 0) put(l, ", ");
        put_expr(l, s, (enum kind)dice(l, KINDS), 2);
        buf_printf(&l->sql, " as x%zu", i);
    }
}

static void put_aggregate(struct lab *l, const struct scope *s)
{
    static const char *const names[] = {"count(", "sum(", "avg(", "min(", "max(", "count(distinct ", "sum(distinct "};
    size_t which = dice(l, 8);
    if (which == 7) {
        put(l, "count(*)");
        return;
    }
    put(l, names[which]);
    put_expr(l, s, one_in(l, 2) ? INT : REAL, 1);
    put(l, ")");
}

// A list, then the tables: the text is put together in the other order than it is made in.
static void make_query(struct lab *l, bool *ordered)
{
    struct buf from, grouped;
    size_t targets = 1 + dice(l, 3), groups = 0;
    bool group = one_in(l, 4);
    buf_init(&from, 64 * KIB);
    buf_init(&grouped, 64 * KIB);
    buf_clear(&l->sql);
    l->depth = 0;
    struct scope s = put_from(l);
    if (!one_in(l, 4)) {
        put(l, " where ");
        put_expr(l, &s, BOOL, 3);
        for (size_t i = dice(l, 3); i-- > 0;) {
            put(l, " and ");
            put_expr(l, &s, BOOL, 1);
        }
    }
    buf_put_span(&from, buf_span(&l->sql));
    buf_clear(&l->sql);
    bool distinct = !group && one_in(l, 6);
    put(l, distinct ? "select distinct " : "select ");
    if (!group) {
        put_list(l, &s, targets);
    } else {
        groups = dice(l, 3);
        size_t begin = l->sql.n;
        for (size_t i = 0; i < groups; i++) {
            begin = l->sql.n;
            put_expr(l, &s, (enum kind)dice(l, KINDS), 1);
            buf_printf(&grouped, "%s%zu", i > 0 ? ", " : " group by ", i + 1);
            buf_printf(&l->sql, " as x%zu, ", i);
        }
        (void)begin;
        targets += groups;
        for (size_t i = groups; i < targets; i++) {
            if (i > groups) put(l, ", ");
            put_aggregate(l, &s);
            buf_printf(&l->sql, " as x%zu", i);
        }
    }
    buf_put_span(&l->sql, buf_span(&from));
    buf_put_span(&l->sql, buf_span(&grouped));
    if (group && one_in(l, 3)) {
        put(l, " having ");
        put_aggregate(l, &s);
        put(l, one_in(l, 2) ? " > 1" : " is not null");
    }
    put_order_limit(l, targets, ordered);
    buf_put_u8(&l->sql, 0);
    assert_int_equal(l->sql.err, 0);
    buf_free(&from);
    buf_free(&grouped);
}

// ---- results -------------------------------------------------------------------------------------------------------

struct lines {
    char **lines;
    size_t n;
};

static void add_line(struct lines *lines, struct buf *line)
{
    lines->lines = realloc(lines->lines, (lines->n + 1) * sizeof *lines->lines);
    buf_put_u8(line, 0);
    lines->lines[lines->n++] = strdup((char *)line->p);
    buf_clear(line);
}

static int compare_lines(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void free_lines(struct lines *lines)
{
    for (size_t i = 0; i < lines->n; i++)
        free(lines->lines[i]);
    free(lines->lines);
    *lines = (struct lines){.n = 0};
}

static void put_number(struct buf *line, double d)
{
    buf_printf(line, "|%.12g", d == 0 ? 0 : d);
}

static int put_member(void *ctx, struct span key, const struct jr *v)
{
    struct buf *line = ctx;
    if (span_is(key, "id")) return 0; // of rows of one table, asked for or not
    switch (jr_type(v)) {
    case JR_BOOL: put_number(line, jr_bool(v, false)); break;
    case JR_INT:
    case JR_REAL: put_number(line, jr_real(v, 0)); break;
    case JR_STRING: buf_printf(line, "|'%.*s", SPAN_FMT(jr_str(v))); break;
    default: buf_put_str(line, "|~");
    }
    return 0;
}

static void take_row(struct lines *lines, struct span json)
{
    struct jr_tree *tree;
    struct buf line;
    buf_init(&line, MIB);
    assert_int_equal(jr_parse(&tree, json, NULL), 0);
    jr_each(jr_root(tree), put_member, &line);
    add_line(lines, &line);
    jr_free(tree);
    buf_free(&line);
}

static void of_sqlite(struct lab *l, sqlite3 *db, const char *sql, struct lines *lines)
{
    sqlite3_stmt *st;
    struct buf line;
    int rc;
    buf_init(&line, MIB);
    if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK) fail_msg("seed %llu: %s\n%s", (unsigned long long)l->seed, sql, sqlite3_errmsg(db));
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        for (int i = 0; i < sqlite3_column_count(st); i++) {
            int type = sqlite3_column_type(st, i);
            if (type == SQLITE_NULL) buf_put_str(&line, "|~");
            if (type == SQLITE_TEXT) buf_printf(&line, "|'%s", sqlite3_column_text(st, i));
            if (type == SQLITE_INTEGER || type == SQLITE_FLOAT) put_number(&line, sqlite3_column_double(st, i));
        }
        add_line(lines, &line);
    }
    if (rc != SQLITE_DONE) fail_msg("seed %llu: %s\n%s", (unsigned long long)l->seed, sql, sqlite3_errmsg(db));
    sqlite3_finalize(st);
    buf_free(&line);
}

static void put_lines(struct buf *out, const struct lines *lines)
{
    for (size_t i = 0; i < lines->n; i++)
        buf_printf(out, "%s\n", lines->lines[i]);
    buf_put_u8(out, 0);
}

static void expect_same(struct lab *l, const char *sql, const char *how, struct lines *found, struct lines *expected, bool ordered)
{
    struct buf a, b;
    buf_init(&a, 16 * MIB);
    buf_init(&b, 16 * MIB);
    if (!ordered) {
        qsort(found->lines, found->n, sizeof *found->lines, compare_lines);
        qsort(expected->lines, expected->n, sizeof *expected->lines, compare_lines);
    }
    put_lines(&a, found);
    put_lines(&b, expected);
    if (strcmp((char *)a.p, (char *)b.p) != 0) {
        fprintf(stderr, "%s\ngave\n%s\nand SQLite\n%s\n", sql, a.p, b.p); // too long for a message
        fail_msg("seed %llu, %s: %zu rows, and SQLite gives %zu", (unsigned long long)l->seed, how, found->n, expected->n);
    }
    buf_free(&a);
    buf_free(&b);
}

struct line_sink {
    struct feed_sink sink;
    struct lines *lines;
};

static int take_line(struct feed_sink *sink, struct bytes *value)
{
    take_row(((struct line_sink *)sink)->lines, bytes_span(value));
    return 0;
}

// ---- rows that lie over the store ----------------------------------------------------------------------------------

// Every row as of now, over the store as of then.
struct over {
    struct lab *l;
    struct row_space *rows[TABLES][ROWS];
};

static const struct row *over_find(void *ctx, uint32_t table, struct uuid id)
{
    struct over *o = ctx;
    size_t row = id.b[15];
    assert_true(table >= 1 && table <= TABLES);
    if (row >= ROWS || uuid_compare(id, rr_id(row_id(table - 1, row))) != 0) return NULL;
    struct row_space *r = o->rows[table - 1][row];
    return r && r->row.exists ? &r->row : NULL;
}

static const struct row *over_next(void *ctx, uint32_t table, const struct uuid *after, struct uuid *id)
{
    for (size_t row = after ? after->b[15] + 1u : 0; row < ROWS; row++) {
        *id = rr_id(row_id(table - 1, row));
        const struct row *found = over_find(ctx, table, *id);
        if (found) return found;
    }
    return NULL;
}

static void over_make(struct over *o, struct lab *l)
{
    o->l = l;
    for (size_t t = 0; t < TABLES; t++)
        for (size_t row = 0; row < ROWS; row++) {
            o->rows[t][row] = malloc(sizeof *o->rows[t][row]);
            const struct table *table = schema_table_no(l->g.r->schema, t + 1);
            assert_int_equal(row_current(l->g.r, l->g.txn, table, rr_id(row_id(t, row)), o->rows[t][row]), 0);
        }
}

static void over_free(struct over *o)
{
    for (size_t t = 0; t < TABLES; t++)
        for (size_t row = 0; row < ROWS; row++)
            free(o->rows[t][row]);
}

// ---- the comparison ------------------------------------------------------------------------------------------------

// False: it failed as a query may, where SQLite gives null or a number that is no whole one.
static bool of_store(struct lab *l, struct query *q, uint64_t at, const struct overlay *overlay, size_t budget, bool commits, struct lines *lines)
{
    struct line_sink sink = {.sink.emit = take_line, .lines = lines};
    struct query_source source = {.at = at, .overlay = overlay};
    struct query_run *run;
    bool done = false;
    assert_int_equal(query_open_source(l->g.r, l->g.txn, q, &source, &run, &l->g.p), 0);
    int err = 0;
    for (size_t step = 0; !err && !done; step++) {
        err = query_next(run, l->g.txn, budget, &sink.sink, &done);
        if (commits && step < 3) commit_some(l, 4);
    }
    if (err && err != ERR_BAD_VALUE) fail_msg("seed %llu: %s: %s: %s", (unsigned long long)l->seed, l->sql.p, err_wire(err), problem_text(query_problem(run)));
    query_close(run);
    return !err;
}

static void compare(struct lab *l, struct query *q, sqlite3 *db, uint64_t at, const struct overlay *overlay, const char *how, bool ordered)
{
    struct lines found = {.n = 0}, expected = {.n = 0};
    bool pieces = overlay == NULL && at == l->then_seq;
    bool whole = of_store(l, q, at, overlay, pieces ? 1 : MIB, false, &found);
    if (whole) {
        of_sqlite(l, db, (char *)l->sql.p, &expected);
        expect_same(l, (char *)l->sql.p, how, &found, &expected, ordered);
    }
    l->compared += whole;
    l->failed += !whole;
    l->rows += found.n;
    free_lines(&found);
    free_lines(&expected);
}

static void one_query(struct lab *l)
{
    bool ordered;
    struct query *q;
    struct problem p = PROBLEM_NONE;
    struct over over;
    make_query(l, &ordered);
    int err = query_compile(l->g.r, SPAN_STR((char *)l->sql.p), NULL, 0, &q, &p);
    if (err) fail_msg("seed %llu: %s\n%s at %lld: %s", (unsigned long long)l->seed, l->sql.p, err_wire(err), (long long)p.position, problem_text(&p));
    struct lines found = {.n = 0}, expected = {.n = 0};
    compare(l, q, l->now, l->g.seq, NULL, "now", ordered);
    compare(l, q, l->then, l->then_seq, NULL, "then, in pieces", ordered);
    over_make(&over, l);
    const struct overlay overlay = {.ctx = &over, .find = over_find, .next = over_next};
    compare(l, q, l->now, l->then_seq, &overlay, "now over then", ordered);
    over_free(&over);
    if (one_in(l, 8) && of_store(l, q, l->then_seq, NULL, 1, true, &found)) {
        of_sqlite(l, l->then, (char *)l->sql.p, &expected);
        expect_same(l, (char *)l->sql.p, "then, while commits go on", &found, &expected, ordered);
    }
    free_lines(&found);
    free_lines(&expected);
    query_unref(q);
}

static void queries_give_what_sqlite_gives(void **state)
{
    const char *seed = getenv("SEED"), *runs = getenv("RUNS");
    uint64_t first = seed ? strtoull(seed, NULL, 10) : 1;
    size_t n = seed ? 1 : runs ? strtoul(runs, NULL, 10) : RUNS_DEFAULT, compared = 0, failed = 0, rows = 0;
    (void)state;
    print_message("seeds %llu to %llu, %d queries each, every one asked three ways\n", (unsigned long long)first,
                  (unsigned long long)(first + n - 1), QUERIES);
    for (size_t i = 0; i < n; i++) {
        struct lab *l = malloc(sizeof *l);
        open_lab(l, first + i);
        for (size_t k = 0; k < QUERIES; k++)
            one_query(l);
        compared += l->compared;
        failed += l->failed;
        rows += l->rows;
        close_lab(l);
        free(l);
    }
    print_message("%zu results of %zu rows compared, %zu broken off by a value\n", compared, rows, failed);
    assert_true(rows > compared && failed < compared / 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(queries_give_what_sqlite_gives)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
