// The stored form of rows, and of the values and moments in them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "err.h"
#include "instant.h"
#include "record.h"
#include "sql.h"

static struct schema *grow(struct schema *before, const char *sql)
{
    struct ast_schema *ast;
    struct schema *s;
    assert_int_equal(sql_parse_schema(SPAN_STR(sql), &ast, NULL), 0);
    assert_int_equal(schema_build(&s, ast, before, 0, NULL), 0);
    sql_schema_free(ast);
    return s;
}

static struct schema *build(const char *sql)
{
    struct schema *before = schema_empty(), *s = grow(before, sql);
    schema_unref(before);
    return s;
}

static const char all_types[] =
    "create table t (a text, b integer, c bigint, d double precision, e boolean, f timestamptz, g uuid, h jsonb, i stream, j blob);";

static void fill_cells(struct row_space *r)
{
    r->row = (struct row){.exists = true, .seq = 300, .version = 1, .cells = r->cells, .count = 10};
    for (size_t i = 0; i < 10; i++)
        r->cells[i] = (struct cell){.seq = 300};
    r->cells[0].v.s = SPAN_LIT("h\xc3\xa4llo");
    r->cells[1].v.i = INT32_MIN;
    r->cells[2].v.i = INT64_MAX;
    r->cells[3].v.d = -1e300;
    r->cells[4].v.b = true;
    r->cells[5].v.i = INSTANT_MAX;
    r->cells[6].v.u = (struct uuid){{1, 2, 3}};
    r->cells[7].v.s = SPAN_LIT("{\"a\":1}");
    r->cells[9].v.h = (struct sha256){{9, 8}};
}

static void expect_same(const struct table *t, const struct row_space *r)
{
    struct row_space again;
    struct buf bytes;
    buf_init(&bytes, ROW_BYTES_MAX);
    record_encode(&bytes, t, &r->row);
    assert_int_equal(record_decode(&again, t, buf_span(&bytes)), 0);
    assert_int_equal(again.row.seq, r->row.seq);
    assert_int_equal(again.row.version, r->row.version);
    for (size_t i = 0; i < r->row.count; i++) {
        assert_int_equal(again.cells[i].seq, r->cells[i].seq);
        assert_true(value_equal(&t->columns[i].type, &again.cells[i].v, &r->cells[i].v));
    }
    for (size_t n = 0; n < bytes.n; n++)
        assert_int_equal(record_decode(&again, t, SPAN(bytes.p, n)), ERR_CORRUPT);
    buf_put_u8(&bytes, 0);
    assert_int_equal(record_decode(&again, t, buf_span(&bytes)), ERR_CORRUPT);
    buf_free(&bytes);
}

static void records_decode_to_themselves(void **state)
{
    struct schema *s = build(all_types);
    struct row_space r;
    (void)state;
    fill_cells(&r);
    expect_same(&s->tables[0], &r);
    r.cells[3].seq = 7;
    r.cells[9].v = r.cells[0].v = VALUE_NULL;
    r.cells[1].seq = 0;
    expect_same(&s->tables[0], &r);
    schema_unref(s);
}

static void a_seq_is_stored_once_where_all_cells_agree(void **state)
{
    struct schema *s = build(all_types);
    struct row_space r;
    struct buf one, many;
    (void)state;
    buf_init(&one, MIB);
    buf_init(&many, MIB);
    fill_cells(&r);
    record_encode(&one, &s->tables[0], &r.row);
    r.cells[5].seq = 299;
    record_encode(&many, &s->tables[0], &r.row);
    assert_int_equal(many.n, one.n - RECORD_SPARE + 1 + 2); // the other one, and ten times a bit
    buf_free(&one);
    buf_free(&many);
    schema_unref(s);
}

static void tombstones_hold_no_cells(void **state)
{
    struct schema *s = build(all_types);
    struct row_space r;
    struct buf bytes;
    bool deleted = false;
    uint64_t seq = 0;
    (void)state;
    buf_init(&bytes, MIB);
    record_encode(&bytes, &s->tables[0], &(struct row){.exists = true, .deleted = true, .seq = 5, .version = 1});
    assert_int_equal(bytes.n, 3);
    assert_int_equal(record_decode(&r, &s->tables[0], buf_span(&bytes)), 0);
    assert_true(r.row.deleted && r.row.count == 0);
    assert_int_equal(record_head(buf_span(&bytes), &deleted, &seq), 0);
    assert_true(deleted && seq == 5);
    buf_free(&bytes);
    schema_unref(s);
}

static void missing_columns_are_filled(void **state)
{
    struct schema *old = build("create table t (a text);");
    struct schema *s = grow(old, "create table t (a text, b integer default 6, c stream, d uuid);");
    struct row_space r;
    struct buf bytes;
    (void)state;
    buf_init(&bytes, MIB);
    r.row = (struct row){.exists = true, .seq = 9, .version = 1, .cells = r.cells, .count = 1};
    r.cells[0] = (struct cell){.v.s = SPAN_LIT("x"), .seq = 9};
    record_encode(&bytes, &old->tables[0], &r.row);
    assert_int_equal(record_decode(&r, &s->tables[0], buf_span(&bytes)), 0);
    assert_int_equal(r.row.count, 4);
    assert_int_equal(r.cells[1].v.i, 6);
    assert_int_equal(r.cells[1].seq, 0);
    assert_false(r.cells[2].v.null);
    assert_true(r.cells[3].v.null);
    buf_free(&bytes);
    schema_unref(old);
    schema_unref(s);
}

// The same row in a newer version has no fewer columns, and says so where the version does not.
static void a_record_says_its_columns_only_where_its_version_does_not(void **state)
{
    struct schema *old = build("create table t (a integer);"), *s = grow(old, "create table t (a integer, b integer);");
    struct row_space r;
    struct buf plain, more;
    (void)state;
    buf_init(&plain, MIB);
    buf_init(&more, MIB);
    r.row = (struct row){.exists = true, .seq = 9, .version = 2, .cells = r.cells, .count = 2};
    r.cells[0] = r.cells[1] = (struct cell){.v.i = 1, .seq = 9};
    record_encode(&plain, &s->tables[0], &r.row);
    assert_int_equal(plain.n, 3 + 2 + RECORD_SPARE);
    expect_same(&s->tables[0], &r);
    r.row.version = 1; // written and extended by one batch that published in between
    record_encode(&more, &s->tables[0], &r.row);
    assert_int_equal(more.n, plain.n + 1);
    expect_same(&s->tables[0], &r);
    buf_free(&plain);
    buf_free(&more);
    schema_unref(old);
    schema_unref(s);
}

static void seqs_of_cells_are_kept_however_they_lie(void **state)
{
    char sql[8000] = "create table t (c0 boolean";
    struct row_space r;
    unsigned short chance[3] = {1, 2, 3};
    (void)state;
    for (int i = 1; i < COLUMNS_MAX; i++)
        sprintf(sql + strlen(sql), ", c%d boolean", i);
    strcat(sql, ");");
    struct schema *s = build(sql);
    for (int round = 0; round < 60; round++) {
        long distinct = 1 + nrand48(chance) % (round < 30 ? 4 : COLUMNS_MAX);
        r.row = (struct row){.exists = true, .seq = 5000, .version = 1, .cells = r.cells, .count = COLUMNS_MAX};
        for (int i = 0; i < COLUMNS_MAX; i++)
            r.cells[i] = (struct cell){.v = {.null = nrand48(chance) % 8 == 0}, .seq = (uint64_t)(5000 - nrand48(chance) % distinct * 20)};
        expect_same(&s->tables[0], &r);
    }
    schema_unref(s);
}

// Whatever bytes are taken for a record, encoding it again gives them.
static void a_row_has_one_encoding(void **state)
{
    static const char sql[] = "create table t (a text, b integer, c boolean, d text[] options (merge 'set'), e bytea);";
    struct schema *s = build(sql), *wide = grow(s, "create table t (a text, b integer, c boolean, d text[] options (merge 'set'), e bytea, f uuid);");
    struct row_space r, again;
    struct buf bytes, back;
    size_t taken = 0;
    (void)state;
    buf_init(&bytes, MIB);
    buf_init(&back, MIB);
    r.row = (struct row){.exists = true, .seq = 7, .version = 1, .cells = r.cells, .count = 5};
    r.cells[0] = (struct cell){.v.s = SPAN_LIT("x"), .seq = 7};
    r.cells[1] = (struct cell){.v = VALUE_NULL, .seq = 3};
    r.cells[2] = (struct cell){.v.b = true, .seq = 3};
    r.cells[3] = (struct cell){.v.s = SPAN_LIT("\2\1a\0\1b"), .seq = 7};
    r.cells[4] = (struct cell){.v.s = SPAN_LIT("\0"), .seq = 6};
    record_encode(&bytes, &s->tables[0], &r.row);
    for (size_t i = 0; i < bytes.n; i++)
        for (int v = 0; v < 256; v++) {
            uint8_t was = bytes.p[i];
            bytes.p[i] = (uint8_t)v;
            if (record_decode(&again, &wide->tables[0], buf_span(&bytes)) == 0) {
                // What the record itself had: the rest was filled.
                while (again.row.count > 0 && again.cells[again.row.count - 1].seq == 0 && again.row.count > 5)
                    again.row.count--;
                buf_clear(&back);
                record_encode(&back, &wide->tables[0], &again.row);
                if (!span_equal(buf_span(&bytes), buf_span(&back))) fail_msg("byte %zu as %d", i, v);
                taken++;
            }
            bytes.p[i] = was;
        }
    assert_true(taken > 300);
    buf_free(&bytes);
    buf_free(&back);
    schema_unref(s);
    schema_unref(wide);
}

// ---- beside SQLite -------------------------------------------------------------------------------------------------

// What SQLite's file format takes for a row of these columns in a table b-tree: the lengths of payload and rowid, the header, the values.
static size_t sqlite_text(size_t n, size_t *header)
{
    *header += 2 * n + 13 < 128 ? 1 : 2;
    return n;
}

static size_t sqlite_integer(int64_t i, size_t *header)
{
    static const int bits[] = {7, 15, 23, 31, 47}, bytes[] = {1, 2, 3, 4, 6};
    *header += 1;
    if (i == 0 || i == 1) return 0;
    for (size_t k = 0; k < 5; k++)
        if (i >= -(INT64_C(1) << bits[k]) && i < INT64_C(1) << bits[k]) return (size_t)bytes[k];
    return 8;
}

static void a_record_is_as_small_as_sqlites(void **state)
{
    struct schema *s = build("create table t (title text, body text, at timestamptz, done boolean, rank integer);");
    char text[60];
    struct row_space r;
    struct buf bytes;
    (void)state;
    memset(text, 'x', sizeof text);
    buf_init(&bytes, MIB);
    r.row = (struct row){.exists = true, .seq = 1000000, .version = 1, .cells = r.cells, .count = 5};
    for (size_t i = 0; i < 5; i++)
        r.cells[i] = (struct cell){.seq = 1000000};
    r.cells[0].v.s = SPAN(text, 25);
    r.cells[1].v.s = SPAN(text, 60);
    r.cells[2].v.i = INT64_C(1795000000000000);
    r.cells[3].v.b = true;
    r.cells[4].v.i = 1000;
    record_encode(&bytes, &s->tables[0], &r.row);
    size_t header = 1, payload = sqlite_text(25, &header) + sqlite_text(60, &header) + sqlite_integer(INT64_C(1795000000000000), &header) +
                                 sqlite_integer(1, &header) + sqlite_integer(1000, &header);
    size_t theirs = 1 + 3 + header + payload; // the length of the payload, a rowid of a million rows
    // Their rows have no room for another seq.
    print_message("a row of %zu bytes of values: %zu here, %zu in SQLite\n", payload, bytes.n, theirs);
    assert_true(bytes.n - RECORD_SPARE <= theirs);
    buf_free(&bytes);
    schema_unref(s);
}

// ---- values --------------------------------------------------------------------------------------------------------

static void expect_order(enum col_type kind, const struct value *a, const struct value *b)
{
    for (int mode = 0; mode < 4; mode++) {
        bool desc = mode & 1, nulls_first = mode & 2;
        struct buf ka, kb;
        buf_init(&ka, MIB);
        buf_init(&kb, MIB);
        value_order_key(&ka, &TYPE(kind), a, desc, nulls_first);
        value_order_key(&kb, &TYPE(kind), b, desc, nulls_first);
        int expected = a->null || b->null ? (a->null == b->null       ? 0
                                             : a->null == nulls_first ? -1
                                                                      : 1)
                                          : value_compare(&TYPE(kind), a, b) * (desc ? -1 : 1);
        int found = span_compare(buf_span(&ka), buf_span(&kb));
        assert_true((expected > 0) == (found > 0) && (expected < 0) == (found < 0));
        assert_true(found == 0 || !(ka.n < kb.n && memcmp(ka.p, kb.p, ka.n) == 0)); // none begins another one
        buf_free(&ka);
        buf_free(&kb);
    }
}

static void order_keys_sort_as_values_do(void **state)
{
    static const double doubles[] = {-1e300, -1.5, -1e-300, 0, 1e-300, 1, 1.5, 1e300};
    static const int64_t integers[] = {INT64_MIN, -256, -1, 0, 1, 255, 256, INT64_MAX};
    static const char *const texts[] = {"", "a", "aa", "ab", "b", "\xc3\xa4", "a\x01", "\x01"};
    (void)state;
    for (int i = 0; i < 8; i++) {
        for (int k = 0; k < 8; k++) {
            expect_order(COL_DOUBLE, &(struct value){.d = doubles[i]}, &(struct value){.d = doubles[k]});
            expect_order(COL_BIGINT, &(struct value){.i = integers[i]}, &(struct value){.i = integers[k]});
            expect_order(COL_TEXT, &(struct value){.s = SPAN_STR(texts[i])}, &(struct value){.s = SPAN_STR(texts[k])});
        }
        expect_order(COL_TEXT, &VALUE_NULL, &(struct value){.s = SPAN_STR(texts[i])});
        expect_order(COL_DOUBLE, &(struct value){.d = doubles[i]}, &VALUE_NULL);
    }
    expect_order(COL_BOOLEAN, &(struct value){.b = false}, &(struct value){.b = true});
}

// ---- moments -------------------------------------------------------------------------------------------------------

static void moments_read_back(void **state)
{
    static const struct {
        const char *in, *out;
        int64_t us;
    } cases[] = {
        {"1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z", 0},
        {"1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z", -1},
        {"2024-02-29 12:00:00.5+02:30", "2024-02-29T09:30:00.500Z", 1709199000500000},
        {"2000-03-01t00:00:00.000001-00:00", "2000-03-01T00:00:00.000001Z", 951868800000001},
        {"0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z", INSTANT_MIN},
        {"9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999Z", INSTANT_MAX},
        {"1900-03-01T00:00:00Z", "1900-03-01T00:00:00.000Z", -2203891200000000},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[INSTANT_TEXT_MAX];
        int64_t us = 0;
        assert_int_equal(instant_parse(&us, SPAN_STR(cases[i].in)), 0);
        assert_int_equal(us, cases[i].us);
        size_t n = instant_format(us, text);
        if (!span_is(SPAN(text, n), cases[i].out)) fail_msg("%s became %.*s", cases[i].in, (int)n, text);
    }
}

static void what_is_no_moment_is_refused(void **state)
{
    static const char *const cases[] = {"",
                                        "2024",
                                        "2024-01-01",
                                        "2024-01-01T00:00:00",
                                        "2024-13-01T00:00:00Z",
                                        "2024-00-01T00:00:00Z",
                                        "2023-02-29T00:00:00Z",
                                        "1900-02-29T00:00:00Z",
                                        "2024-01-01T24:00:00Z",
                                        "2024-01-01T00:60:00Z",
                                        "2024-01-01T00:00:60Z",
                                        "2024-01-01T00:00:00.Z",
                                        "2024-01-01T00:00:00.1234567890Z",
                                        "2024-01-01T00:00:00+24:00",
                                        "2024-01-01T00:00:00+1",
                                        "2024-01-01T00:00:00Zx",
                                        "0001-01-01T00:00:00+00:01",
                                        "9999-12-31T23:59:59-00:01",
                                        "2024-1-01T00:00:00Z",
                                        " 2024-01-01T00:00:00Z"};
    int64_t us;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (instant_parse(&us, SPAN_STR(cases[i])) != ERR_BAD_VALUE) fail_msg("%s was taken", cases[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_decode_to_themselves), cmocka_unit_test(a_seq_is_stored_once_where_all_cells_agree),
        cmocka_unit_test(tombstones_hold_no_cells),     cmocka_unit_test(missing_columns_are_filled),
        cmocka_unit_test(a_record_says_its_columns_only_where_its_version_does_not),
        cmocka_unit_test(seqs_of_cells_are_kept_however_they_lie),
        cmocka_unit_test(a_row_has_one_encoding),
        cmocka_unit_test(a_record_is_as_small_as_sqlites),
        cmocka_unit_test(order_keys_sort_as_values_do), cmocka_unit_test(moments_read_back),
        cmocka_unit_test(what_is_no_moment_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
