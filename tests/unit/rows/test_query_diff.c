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
#include "query_dice.h"
#include "read_set.h"
#include "rows_rig.h"
#include "source.h"

#define QUERIES 60
#define RUNS_DEFAULT 25

static const char *const type_names[] = {"integer", "text", "double precision", "boolean", "uuid"};

struct lab {
    struct rows_rig g;
    sqlite3 *now, *then; // as of the last commit, and of g.seq when `then` was
    uint64_t then_seq;
    struct query_dice d;
    uint64_t seed;
    size_t compared, failed, rows; // results that were, those that were broken off, and rows of the former
};

// ---- schema and rows -----------------------------------------------------------------------------------------------

static void on_both(struct lab *l, const char *sql)
{
    char *message = NULL;
    if (sqlite3_exec(l->now, sql, NULL, NULL, &message) != SQLITE_OK) fail_msg("%s: %s", sql, message);
}

static void put_tables(struct lab *l, struct buf *sql)
{
    for (size_t t = 0; t < DICE_TABLES; t++) {
        buf_printf(sql, "create table t%zu (", t);
        for (size_t c = 0; c < l->d.tables[t].columns; c++)
            buf_printf(sql, "%sc%zu %s", c > 0 ? ", " : "", c, type_names[l->d.tables[t].kinds[c]]);
        buf_put_str(sql, ");\n");
    }
}

static void put_indexes(struct lab *l, struct buf *sql)
{
    for (size_t t = 0; t < DICE_TABLES; t++) {
        size_t columns = l->d.tables[t].columns;
        for (unsigned i = 0, n = (unsigned)dice(&l->d, 4); i < n; i++) {
            size_t first = dice(&l->d, columns), second = dice(&l->d, columns);
            buf_printf(sql, "create index t%zu_%u on t%zu (c%zu%s", t, i, t, first, one_in(&l->d, 3) ? " desc" : "");
            if (second != first && !one_in(&l->d, 3)) buf_printf(sql, ", c%zu%s", second, one_in(&l->d, 3) ? " desc" : "");
            buf_put_str(sql, ")");
            if (one_in(&l->d, 4)) buf_printf(sql, " where c%zu is not null", first);
            buf_put_str(sql, ";\n");
        }
    }
}

static void make_schema(struct lab *l, struct buf *tables, struct buf *indexes)
{
    for (size_t t = 0; t < DICE_TABLES; t++) {
        l->d.tables[t].columns = 2 + dice(&l->d, DICE_COLUMNS - 1);
        for (size_t c = 0; c < l->d.tables[t].columns; c++)
            l->d.tables[t].kinds[c] = c == 0 ? DICE_UUID : c == 1 ? DICE_INT : (enum dice_kind)dice(&l->d, DICE_KINDS);
    }
    put_tables(l, tables);
    put_indexes(l, indexes);
    buf_put_u8(tables, 0);
    // SQLite has the same tables with an id, and no indexes: it is to be right, not quick.
    for (size_t t = 0; t < DICE_TABLES; t++) {
        struct buf sql;
        buf_init(&sql, 4096);
        buf_printf(&sql, "create table t%zu (id text primary key", t);
        for (size_t c = 0; c < l->d.tables[t].columns; c++) {
            static const char *const types[] = {"integer", "text", "real", "integer", "text"};
            buf_printf(&sql, ", c%zu %s", c, types[l->d.tables[t].kinds[c]]);
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
    if (insert) dice_put_uuid(&sql, dice_row_id(t, row));
    for (size_t c = 0; c < l->d.tables[t].columns; c++) {
        if (!insert && !one_in(&l->d, 2)) continue;
        buf_clear(&value);
        if (one_in(&l->d, 5)) {
            buf_put_str(&value, "null");
        } else {
            dice_put_value(&l->d, &value, l->d.tables[t].kinds[c]);
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
        dice_put_uuid(&sql, dice_row_id(t, row));
        buf_put_u8(&sql, 0);
    }
    char name[4] = {'t', (char)('0' + t)};
    int err = rr_op(&l->g, insert ? ROW_INSERT : ROW_UPDATE, name, dice_row_id(t, row), (char *)json.p);
    if (err) fail_msg("%s: %s", json.p, problem_text(&l->g.p));
    on_both(l, (char *)sql.p);
    l->d.tables[t].there[row] = true;
    buf_free(&json);
    buf_free(&sql);
    buf_free(&value);
}

static void delete_row(struct lab *l, size_t t, size_t row)
{
    char sql[200], name[4] = {'t', (char)('0' + t)};
    assert_int_equal(rr_op(&l->g, ROW_DELETE, name, dice_row_id(t, row), NULL), 0);
    snprintf(sql, sizeof sql, "delete from t%zu where id = '00000000-0000-0000-0000-%012x'", t, dice_row_id(t, row));
    on_both(l, sql);
    l->d.tables[t].there[row] = false;
    l->d.tables[t].gone[row] = true;
}

static void commit_some(struct lab *l, size_t changes)
{
    rr_commit(&l->g);
    rr_begin(&l->g);
    for (size_t i = 0; i < changes; i++) {
        size_t t = dice(&l->d, DICE_TABLES), row = dice(&l->d, DICE_ROWS);
        if (l->d.tables[t].gone[row]) continue;
        if (l->d.tables[t].there[row] && one_in(&l->d, 8))
            delete_row(l, t, row);
        else
            change_row(l, t, row, !l->d.tables[t].there[row]);
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
    *l = (struct lab){.seed = seed, .d = {.chance = seed * 0x9e3779b97f4a7c15u + 1}};
    buf_init(&tables, MIB);
    buf_init(&indexes, MIB);
    buf_init(&l->d.sql, 64 * KIB);
    rr_open(&l->g);
    assert_int_equal(sqlite3_open(":memory:", &l->now), SQLITE_OK);
    sqlite3_exec(l->now, "pragma case_sensitive_like = on", NULL, NULL, NULL);
    make_schema(l, &tables, &indexes);
    bool later = one_in(&l->d, 3); // the indexes come to rows that are there, and to seqs that they cannot answer for
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
    buf_free(&l->d.sql);
    rr_close(&l->g);
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
    struct row_space *rows[DICE_TABLES][DICE_ROWS];
};

static const struct row *over_find(void *ctx, uint32_t table, struct uuid id)
{
    struct over *o = ctx;
    size_t row = id.b[15];
    assert_true(table >= 1 && table <= DICE_TABLES);
    if (row >= DICE_ROWS || uuid_compare(id, rr_id(dice_row_id(table - 1, row))) != 0) return NULL;
    struct row_space *r = o->rows[table - 1][row];
    return r && r->row.exists ? &r->row : NULL;
}

static const struct row *over_next(void *ctx, uint32_t table, const struct uuid *after, struct uuid *id)
{
    for (size_t row = after ? after->b[15] + 1u : 0; row < DICE_ROWS; row++) {
        *id = rr_id(dice_row_id(table - 1, row));
        const struct row *found = over_find(ctx, table, *id);
        if (found) return found;
    }
    return NULL;
}

static void over_make(struct over *o, struct lab *l)
{
    o->l = l;
    for (size_t t = 0; t < DICE_TABLES; t++)
        for (size_t row = 0; row < DICE_ROWS; row++) {
            o->rows[t][row] = malloc(sizeof *o->rows[t][row]);
            const struct table *table = schema_table_no(l->g.r->schema, t + 1);
            assert_int_equal(row_current(l->g.r, l->g.txn, table, rr_id(dice_row_id(t, row)), o->rows[t][row]), 0);
        }
}

static void over_free(struct over *o)
{
    for (size_t t = 0; t < DICE_TABLES; t++)
        for (size_t row = 0; row < DICE_ROWS; row++)
            free(o->rows[t][row]);
}

// ---- the comparison ------------------------------------------------------------------------------------------------

// False: it failed as a query may, where SQLite gives null or a number that is no whole one, or takes its time.
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
    if (err && err != ERR_BAD_VALUE && err != ERR_QUERY_TOO_EXPENSIVE) fail_msg("seed %llu: %s: %s: %s", (unsigned long long)l->seed, l->d.sql.p, err_wire(err), problem_text(query_problem(run)));
    query_close(run);
    return !err;
}

static void compare(struct lab *l, struct query *q, sqlite3 *db, uint64_t at, const struct overlay *overlay, const char *how, bool ordered)
{
    struct lines found = {.n = 0}, expected = {.n = 0};
    bool pieces = overlay == NULL && at == l->then_seq;
    bool whole = of_store(l, q, at, overlay, pieces ? 1 : MIB, false, &found);
    if (whole) {
        of_sqlite(l, db, (char *)l->d.sql.p, &expected);
        expect_same(l, (char *)l->d.sql.p, how, &found, &expected, ordered);
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
    dice_make_query(&l->d, &ordered);
    int err = query_compile(l->g.r, SPAN_STR((char *)l->d.sql.p), NULL, 0, &q, &p);
    if (err) fail_msg("seed %llu: %s\n%s at %lld: %s", (unsigned long long)l->seed, l->d.sql.p, err_wire(err), (long long)p.position, problem_text(&p));
    struct lines found = {.n = 0}, expected = {.n = 0};
    compare(l, q, l->now, l->g.seq, NULL, "now", ordered);
    compare(l, q, l->then, l->then_seq, NULL, "then, in pieces", ordered);
    over_make(&over, l);
    const struct overlay overlay = {.ctx = &over, .find = over_find, .next = over_next};
    compare(l, q, l->now, l->then_seq, &overlay, "now over then", ordered);
    over_free(&over);
    if (one_in(&l->d, 8) && of_store(l, q, l->then_seq, NULL, 1, true, &found)) {
        of_sqlite(l, l->then, (char *)l->d.sql.p, &expected);
        expect_same(l, (char *)l->d.sql.p, "then, while commits go on", &found, &expected, ordered);
    }
    free_lines(&found);
    free_lines(&expected);
    query_unref(q);
}

// ---- what was read -------------------------------------------------------------------------------------------------

// The result at g.seq, as one text; what was looked at is in *reads. NULL: it was too expensive.
static char *result_of(struct lab *l, struct query *q, struct read_set *reads)
{
    struct lines lines = {.n = 0};
    struct line_sink sink = {.sink.emit = take_line, .lines = &lines};
    struct query_source source = {.at = l->g.seq, .reads = reads};
    struct query_run *run;
    struct buf text;
    bool done = false;
    int err = 0;
    buf_init(&text, 16 * MIB);
    assert_int_equal(query_open_source(l->g.r, l->g.txn, q, &source, &run, &l->g.p), 0);
    while (!done && !err)
        err = query_next(run, l->g.txn, 1000, &sink.sink, &done);
    query_close(run);
    assert_true(err == 0 || err == ERR_QUERY_TOO_EXPENSIVE);
    put_lines(&text, &lines);
    free_lines(&lines);
    if (err) buf_free(&text);
    return err ? NULL : (char *)text.p;
}

static bool conflicts(struct lab *l, uint64_t base, const struct read_set *reads)
{
    struct rows_conflicts which;
    struct problem p = PROBLEM_NONE;
    rr_commit(&l->g);
    rr_begin(&l->g);
    int err = rows_decide_reads(l->g.batch, base, reads, &which, &p);
    rr_drop(&l->g);
    if (err && err != ERR_CONFLICT) fail_msg("%s: %s", err_wire(err), problem_text(&p));
    return err == ERR_CONFLICT;
}

// A commit after which the query gives something else must be a conflict with what the query has read. The other way round need not be.
static void one_read(struct lab *l, size_t *changed, size_t *free_of)
{
    bool ordered;
    struct query *q;
    dice_make_query(&l->d, &ordered);
    assert_int_equal(query_compile(l->g.r, SPAN_STR((char *)l->d.sql.p), NULL, 0, &q, &l->g.p), 0);
    struct read_set *reads = read_set_new();
    uint64_t base = l->g.seq;
    char *before = result_of(l, q, reads);
    assert_int_equal(read_set_finish(reads), 0);
    assert_false(conflicts(l, base, reads));
    commit_some(l, 1);
    char *after = result_of(l, q, NULL);
    bool differs = before && after && strcmp(before, after) != 0, told = conflicts(l, base, reads);
    if (differs && !told) fail_msg("seed %llu: %s\nwas changed, and what it read was not", (unsigned long long)l->seed, l->d.sql.p);
    *changed += differs;
    *free_of += !told;
    free(before);
    free(after);
    read_set_free(reads);
    query_unref(q);
}

static void what_a_query_reads_is_all_that_its_result_depends_on(void **state)
{
    const char *seed = getenv("SEED"), *runs = getenv("RUNS");
    uint64_t first = seed ? strtoull(seed, NULL, 10) : 1;
    size_t n = seed ? 1 : runs ? strtoul(runs, NULL, 10) : RUNS_DEFAULT, changed = 0, free_of = 0;
    (void)state;
    for (size_t i = 0; i < n; i++) {
        struct lab *l = malloc(sizeof *l);
        open_lab(l, first + i);
        for (size_t k = 0; k < QUERIES; k++)
            one_read(l, &changed, &free_of);
        close_lab(l);
        free(l);
    }
    print_message("%zu results changed, and each was a conflict; %zu commits were none\n", changed, free_of);
    assert_true(changed > 0 && free_of > 0);
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
    print_message("%zu results of %zu rows compared, %zu broken off\n", compared, rows, failed);
    assert_true(rows > compared && failed < compared / 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(queries_give_what_sqlite_gives),
        cmocka_unit_test(what_a_query_reads_is_all_that_its_result_depends_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
