// Values of every type: converted, compared, ordered, stored and shown.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "arena.h"
#include "elements.h"
#include "err.h"
#include "limits.h"

static struct span mood_labels[] = {{(const uint8_t *)"sad", 3}, {(const uint8_t *)"ok", 2}, {(const uint8_t *)"happy", 5}};
static const struct labels mood = {.name = {(const uint8_t *)"mood", 4}, .labels = mood_labels, .count = 3};

static struct arena *arena;

static int make_arena(void **state)
{
    (void)state;
    arena = arena_new(16 * MIB);
    return arena ? 0 : -1;
}

static int drop_arena(void **state)
{
    (void)state;
    arena_free(arena);
    return 0;
}

static struct row_value text(const char *s)
{
    return (struct row_value){.kind = ROW_TEXT, .s = SPAN_STR(s)};
}

static struct row_value json(const char *s)
{
    return (struct row_value){.kind = ROW_JSON, .s = SPAN_STR(s)};
}

static int convert(struct value *out, const struct type *type, enum value_source source, struct row_value in, struct problem *p)
{
    struct value_target target = {.type = type, .source = source, .column = SPAN_LIT("c"), .position = 7};
    *p = PROBLEM_NONE;
    return value_convert(out, &target, &in, arena, p);
}

static struct value made(const struct type *type, enum value_source source, struct row_value in)
{
    struct value v;
    struct problem p;
    int err = convert(&v, type, source, in, &p);
    if (err) fail_msg("%s: %s", err_wire(err), problem_text(&p));
    return v;
}

static void expect_refused(const struct type *type, enum value_source source, struct row_value in, int expected, const char *said)
{
    struct value v;
    struct problem p;
    int err = convert(&v, type, source, in, &p);
    assert_int_equal(err, expected);
    assert_int_equal(p.position, 7);
    if (!strstr(p.text, said)) fail_msg("\"%s\" does not say \"%s\"", p.text, said);
}

static void expect_json(const struct type *type, const struct value *v, const char *expected)
{
    struct buf b;
    struct jw w;
    buf_init(&b, MIB);
    jw_init(&w, &b);
    value_json(&w, type, v);
    if (!span_is(buf_span(&b), expected)) fail_msg("%.*s, not %s", SPAN_FMT(buf_span(&b)), expected);
    buf_free(&b);
}

// The stored form gives the value again, and nothing shorter or longer does.
static void expect_stored(const struct type *type, const struct value *v)
{
    struct buf b;
    struct cur c;
    struct value again;
    buf_init(&b, MIB);
    value_encode(&b, type, v);
    cur_init(&c, buf_span(&b));
    value_decode(&c, type, &again);
    assert_int_equal(cur_end(&c), 0);
    assert_true(value_equal(type, v, &again));
    for (size_t n = 0; n < b.n; n++) {
        cur_init(&c, SPAN(b.p, n));
        value_decode(&c, type, &again);
        assert_int_equal(c.err, ERR_CORRUPT);
    }
    buf_free(&b);
}

// What value_text gives reads back as the same value.
static void expect_literal(const struct type *type, const struct value *v)
{
    struct buf b;
    buf_init(&b, MIB);
    value_text(&b, type, v);
    struct value again = made(type, VALUE_LITERAL, (struct row_value){.kind = ROW_TEXT, .s = buf_span(&b)});
    assert_true(value_equal(type, v, &again));
    buf_free(&b);
}

static int sign(int i)
{
    return (i > 0) - (i < 0);
}

static void expect_order(const struct type *type, const struct value *a, const struct value *b)
{
    struct buf ka, kb;
    buf_init(&ka, MIB);
    buf_init(&kb, MIB);
    for (int desc = 0; desc < 2; desc++) {
        buf_clear(&ka);
        buf_clear(&kb);
        value_order_key(&ka, type, a, desc, desc);
        value_order_key(&kb, type, b, desc, desc);
        int expected = a->null || b->null ? a->null - b->null : sign(value_compare(type, a, b));
        assert_int_equal(sign(span_compare(buf_span(&ka), buf_span(&kb))), desc ? -expected : expected);
        // Something behind the keys does not change their order.
        if (expected != 0) assert_false(ka.n < kb.n && memcmp(ka.p, kb.p, ka.n) == 0);
    }
    buf_free(&ka);
    buf_free(&kb);
}

static void expect_ascending(const struct type *type, const struct value *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < count; k++) {
            expect_order(type, &values[i], &values[k]);
            if (!values[i].null && !values[k].null)
                assert_int_equal(sign(value_compare(type, &values[i], &values[k])), (i > k) - (i < k));
        }
}

// ---- enums, bytes, counters ----------------------------------------------------------------------------------------

static void an_enum_is_compared_by_its_declaration(void **state)
{
    const struct type t = {.kind = COL_ENUM, .labels = &mood};
    struct value v[4] = {made(&t, VALUE_WRITTEN, text("sad")), made(&t, VALUE_LITERAL, text("ok")), made(&t, VALUE_PARAMETER, text("happy")),
                         VALUE_NULL};
    (void)state;
    assert_int_equal(v[2].i, 2);
    expect_ascending(&t, v, 4);
    for (int i = 0; i < 3; i++) {
        expect_stored(&t, &v[i]);
        expect_literal(&t, &v[i]);
    }
    expect_json(&t, &v[2], "\"happy\"");
    expect_refused(&t, VALUE_WRITTEN, text("Sad"), ERR_BAD_VALUE, "mood has no label 'Sad'");
    expect_refused(&t, VALUE_WRITTEN, (struct row_value){.kind = ROW_INT, .i = 1}, ERR_WRONG_TYPE, "of type mood");
}

static void a_label_that_is_not_declared_is_not_decoded(void **state)
{
    const struct type t = {.kind = COL_ENUM, .labels = &mood};
    struct value v;
    struct cur c;
    (void)state;
    cur_init(&c, SPAN_LIT("\3"));
    value_decode(&c, &t, &v);
    assert_int_equal(c.err, ERR_CORRUPT);
}

static void bytes_travel_as_base64_and_stand_in_sql_as_hexadecimal(void **state)
{
    struct value v[5] = {made(&TYPE(COL_BYTEA), VALUE_WRITTEN, text("")), made(&TYPE(COL_BYTEA), VALUE_LITERAL, text("\\x00")),
                         made(&TYPE(COL_BYTEA), VALUE_PARAMETER, text("AAA=")), made(&TYPE(COL_BYTEA), VALUE_PARAMETER, text("\\x0001")),
                         made(&TYPE(COL_BYTEA), VALUE_WRITTEN, text("/w=="))};
    (void)state;
    assert_int_equal(v[2].s.n, 2);
    expect_ascending(&TYPE(COL_BYTEA), v, 5);
    for (int i = 0; i < 5; i++) {
        expect_stored(&TYPE(COL_BYTEA), &v[i]);
        expect_literal(&TYPE(COL_BYTEA), &v[i]);
    }
    expect_json(&TYPE(COL_BYTEA), &v[3], "\"AAE=\"");
    expect_refused(&TYPE(COL_BYTEA), VALUE_WRITTEN, text("\\x00"), ERR_BAD_VALUE, "not base64");
    expect_refused(&TYPE(COL_BYTEA), VALUE_LITERAL, text("AAA="), ERR_BAD_VALUE, "hexadecimal");
    expect_refused(&TYPE(COL_BYTEA), VALUE_LITERAL, text("\\x0"), ERR_BAD_VALUE, "hexadecimal");
    expect_refused(&TYPE(COL_BYTEA), VALUE_LITERAL, text("\\x0g"), ERR_BAD_VALUE, "hexadecimal");
}

static void a_counter_is_a_bigint(void **state)
{
    struct value v = made(&TYPE(COL_COUNTER), VALUE_WRITTEN, text("9223372036854775807"));
    (void)state;
    assert_int_equal(v.i, INT64_MAX);
    expect_json(&TYPE(COL_COUNTER), &v, "\"9223372036854775807\"");
    expect_stored(&TYPE(COL_COUNTER), &v);
    expect_refused(&TYPE(COL_COUNTER), VALUE_WRITTEN, (struct row_value){.kind = ROW_REAL, .d = 0.5}, ERR_WRONG_TYPE, "of type counter");
}

static void integers_take_as_many_bytes_of_a_key_as_they_need(void **state)
{
    static const int64_t edges[] = {INT64_MIN, INT64_MIN + 1, INT32_MIN, -65537, -65536, -257, -256, -255, -2, -1, 0, 1, 255, 256, 65535, 65536,
                                    INT32_MAX, INT64_MAX - 1, INT64_MAX};
    struct value v[sizeof edges / sizeof *edges];
    struct buf b;
    (void)state;
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
        v[i] = (struct value){.i = edges[i]};
    expect_ascending(&TYPE(COL_BIGINT), v, sizeof edges / sizeof *edges);
    buf_init(&b, 64);
    value_order_key(&b, &TYPE(COL_BIGINT), &(struct value){.i = 0}, false, false);
    assert_int_equal(b.n, 1);
    value_order_key(&b, &TYPE(COL_BIGINT), &(struct value){.i = 1000}, false, false);
    assert_int_equal(b.n, 4);
    buf_free(&b);
}

// ---- arrays --------------------------------------------------------------------------------------------------------

static void arrays_of_every_scalar_read_back(void **state)
{
    static const struct {
        enum col_type kind;
        const char *json, *shown;
    } cases[] = {
        {COL_TEXT, "[]", NULL},
        {COL_TEXT, "[\"a\",\"\",\"b,\\\"{}\\\\ \"]", NULL},
        {COL_INTEGER, "[3,-1,3]", NULL},
        {COL_BIGINT, "[\"9223372036854775807\",0]", NULL},
        {COL_DOUBLE, "[1.5,-2]", "[1.5,-2.0]"},
        {COL_BOOLEAN, "[true,false]", NULL},
        {COL_TIMESTAMPTZ, "[0]", "[\"1970-01-01T00:00:00.000Z\"]"},
        {COL_UUID, "[\"01890000-0000-7000-8000-000000000000\"]", NULL},
        {COL_JSONB, "[{\"a\":[1]},\"x\",[]]", NULL},
        {COL_BYTEA, "[\"AAE=\",\"\"]", NULL},
        {COL_ENUM, "[\"ok\",\"sad\"]", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct type t = {.kind = cases[i].kind, .array = true, .labels = cases[i].kind == COL_ENUM ? &mood : NULL};
        struct value v = made(&t, VALUE_WRITTEN, json(cases[i].json));
        expect_json(&t, &v, cases[i].shown ? cases[i].shown : cases[i].json);
        expect_stored(&t, &v);
        expect_literal(&t, &v);
        struct value p = made(&t, VALUE_PARAMETER, text(cases[i].json));
        assert_true(value_equal(&t, &v, &p));
    }
}

static void array_constants_are_postgresqls(void **state)
{
    const struct type texts = {.kind = COL_TEXT, .array = true}, numbers = {.kind = COL_INTEGER, .array = true};
    (void)state;
    struct value v = made(&texts, VALUE_LITERAL, text("{ a b , \"c,d\" ,\"\\\"\\\\\",\"null\" }"));
    expect_json(&texts, &v, "[\"a b\",\"c,d\",\"\\\"\\\\\",\"null\"]");
    v = made(&texts, VALUE_LITERAL, text("{}"));
    expect_json(&texts, &v, "[]");
    v = made(&numbers, VALUE_LITERAL, text("{1,-2}"));
    expect_json(&numbers, &v, "[1,-2]");
    static const char *const bad[] = {"{", "{a", "{a,}", "{,}", "{a}}", "{a}b", "{\"a\"b}", "{{a}}", "{NULL}", "{\"a", "{a\\"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        expect_refused(&texts, VALUE_LITERAL, text(bad[i]), ERR_BAD_VALUE, "c: ");
    expect_refused(&texts, VALUE_LITERAL, text("[1]"), ERR_WRONG_TYPE, "of type text[]");
    expect_refused(&numbers, VALUE_LITERAL, text("{3000000000}"), ERR_BAD_VALUE, "out of the range");
}

static void an_element_that_does_not_fit_is_named(void **state)
{
    const struct type numbers = {.kind = COL_INTEGER, .array = true};
    (void)state;
    expect_refused(&numbers, VALUE_WRITTEN, json("[1,\"x\"]"), ERR_WRONG_TYPE, "c[2] is of type integer");
    expect_refused(&numbers, VALUE_WRITTEN, json("[null]"), ERR_BAD_VALUE, "cannot be null");
    expect_refused(&numbers, VALUE_WRITTEN, json("[[1]]"), ERR_WRONG_TYPE, "c[1]");
    expect_refused(&numbers, VALUE_WRITTEN, json("{\"a\":1}"), ERR_BAD_VALUE, "not a JSON array");
    expect_refused(&numbers, VALUE_WRITTEN, text("[1]"), ERR_WRONG_TYPE, "of type integer[]");
    struct buf b;
    buf_init(&b, MIB);
    buf_put_str(&b, "[0");
    for (int i = 0; i < ARRAY_ELEMENTS_MAX; i++)
        buf_put_str(&b, ",1");
    buf_put_str(&b, "]");
    expect_refused(&numbers, VALUE_WRITTEN, (struct row_value){.kind = ROW_JSON, .s = buf_span(&b)}, ERR_TOO_LARGE, "4096");
    buf_free(&b);
}

static void arrays_are_ordered_by_their_elements(void **state)
{
    const struct type numbers = {.kind = COL_INTEGER, .array = true}, texts = {.kind = COL_TEXT, .array = true};
    struct value n[] = {made(&numbers, VALUE_WRITTEN, json("[]")),    made(&numbers, VALUE_WRITTEN, json("[-70000,5]")),
                        made(&numbers, VALUE_WRITTEN, json("[0]")),   made(&numbers, VALUE_WRITTEN, json("[0,0]")),
                        made(&numbers, VALUE_WRITTEN, json("[0,1]")), made(&numbers, VALUE_WRITTEN, json("[300]")),
                        VALUE_NULL};
    struct value s[] = {made(&texts, VALUE_WRITTEN, json("[]")), made(&texts, VALUE_WRITTEN, json("[\"\"]")),
                        made(&texts, VALUE_WRITTEN, json("[\"\",\"\"]")), made(&texts, VALUE_WRITTEN, json("[\"a\"]")),
                        made(&texts, VALUE_WRITTEN, json("[\"a\",\"b\"]")), made(&texts, VALUE_WRITTEN, json("[\"ab\"]"))};
    (void)state;
    expect_ascending(&numbers, n, sizeof n / sizeof *n);
    expect_ascending(&texts, s, sizeof s / sizeof *s);
}

// ---- sets ----------------------------------------------------------------------------------------------------------

static void a_set_is_sorted_and_has_each_element_once(void **state)
{
    const struct type t = {.kind = COL_TEXT, .array = true, .set = true};
    struct value a = made(&t, VALUE_WRITTEN, json("[\"b\",\"a\",\"b\"]")), b = made(&t, VALUE_LITERAL, text("{a,b}"));
    (void)state;
    expect_json(&t, &a, "[\"a\",\"b\"]");
    assert_true(value_equal(&t, &a, &b));
    assert_int_equal(elements_count(&t, &a), 2);
    expect_stored(&t, &a);
}

static void a_set_knows_how_old_its_elements_are(void **state)
{
    const struct type t = {.kind = COL_INTEGER, .array = true, .set = true};
    struct value young = made(&t, VALUE_WRITTEN, json("[1,2]")), item, old;
    struct elements e;
    struct buf b;
    uint64_t behind;
    (void)state;
    buf_init(&b, MIB);
    elements_put(&b, &t, &(struct value){.i = 1}, 300);
    elements_put(&b, &t, &(struct value){.i = 2}, 0);
    old = (struct value){.s = buf_span(&b)};
    expect_stored(&t, &old);
    assert_int_equal(elements_oldest(&t, &old), 300);
    assert_int_equal(elements_oldest(&t, &young), 0);
    assert_int_equal(value_compare(&t, &young, &old), 0); // SQL sees the same elements
    assert_false(value_equal(&t, &young, &old));          // the store does not
    expect_order(&t, &young, &old);
    elements_open(&e, &t, &old);
    assert_true(elements_next(&e, &item, &behind));
    assert_true(item.i == 1 && behind == 300);
    assert_true(elements_next(&e, &item, &behind));
    assert_true(item.i == 2 && behind == 0);
    assert_false(elements_next(&e, &item, &behind));
    buf_free(&b);
}

static void a_set_out_of_order_is_not_decoded(void **state)
{
    const struct type set = {.kind = COL_INTEGER, .array = true, .set = true}, array = {.kind = COL_INTEGER, .array = true};
    static const char *const bad[] = {"\4\0\4\0\2", "\4\0\2\0\2"};
    struct value v;
    struct cur c;
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        cur_init(&c, SPAN(bad[i], 5));
        value_decode(&c, &set, &v);
        assert_int_equal(c.err, ERR_CORRUPT);
        cur_init(&c, SPAN(bad[i], 5));
        value_decode(&c, &array, &v);
        assert_int_equal(cur_end(&c), 0);
    }
}

// ---- random values -------------------------------------------------------------------------------------------------

static unsigned short chance[3] = {7, 1, 9};

static long below(long n)
{
    return nrand48(chance) % n;
}

// Few bytes, so that many are equal, or begin one another.
static struct span some_bytes(bool text)
{
    static const uint8_t bytes[] = {0, 1, 2, 'a', 'b', 0x7f, 0xfe, 0xff};
    size_t n = (size_t)below(4);
    uint8_t *p = arena_alloc(arena, n);
    for (size_t i = 0; i < n; i++)
        p[i] = text ? bytes[1 + below(5)] : bytes[below(8)];
    return SPAN(p, n);
}

static struct value random_scalar(enum col_type kind)
{
    static const int64_t integers[] = {INT64_MIN, -70000, -256, -255, -1, 0, 1, 255, 256, 70000, INT64_MAX};
    static const double doubles[] = {-1e300, -1.5, -1e-300, 0, 1e-300, 0.5, 1, 1e300};
    switch (kind) {
    case COL_TEXT: return (struct value){.s = some_bytes(true)};
    case COL_BYTEA: return (struct value){.s = some_bytes(false)};
    case COL_ENUM: return (struct value){.i = below(3)};
    case COL_BOOLEAN: return (struct value){.b = below(2)};
    case COL_DOUBLE: return (struct value){.d = doubles[below(8)]};
    case COL_UUID: return (struct value){.u = {{(uint8_t)(below(3) * 127), (uint8_t)below(3)}}};
    default: return (struct value){.i = integers[below(11)]};
    }
}

static struct value random_value(const struct type *type)
{
    struct buf b;
    struct value v;
    if (below(6) == 0) return VALUE_NULL;
    if (!type->array) return random_scalar(type->kind);
    buf_init(&b, MIB);
    for (long n = below(4); n > 0; n--) {
        struct value item = random_scalar(type->kind);
        elements_put(&b, type, &item, 0);
    }
    assert_true(arena_copy_span(arena, buf_span(&b), &v.s));
    buf_free(&b);
    v.null = false;
    return v;
}

static struct type random_type(void)
{
    static const enum col_type kinds[] = {COL_TEXT, COL_BYTEA, COL_ENUM, COL_BOOLEAN, COL_DOUBLE, COL_UUID, COL_BIGINT, COL_TIMESTAMPTZ};
    enum col_type kind = kinds[below(8)];
    return (struct type){.kind = kind, .array = below(3) == 0, .labels = kind == COL_ENUM ? &mood : NULL};
}

// What an index relies on: the keys of two columns, one behind the other, sort as the pairs do, whatever the direction of each.
static void keys_of_several_columns_sort_as_the_columns_do(void **state)
{
    struct buf k[2];
    (void)state;
    buf_init(&k[0], MIB);
    buf_init(&k[1], MIB);
    for (int round = 0; round < 20000; round++) {
        int expected = 0;
        buf_clear(&k[0]);
        buf_clear(&k[1]);
        for (int column = 0; column < 2; column++) {
            struct type type = random_type();
            struct value a = random_value(&type), b = below(3) ? random_value(&type) : a;
            bool desc = below(2), nulls_first = below(2);
            value_order_key(&k[0], &type, &a, desc, nulls_first);
            value_order_key(&k[1], &type, &b, desc, nulls_first);
            int order = a.null || b.null ? (a.null - b.null) * (nulls_first ? -1 : 1) : sign(value_compare(&type, &a, &b)) * (desc ? -1 : 1);
            if (expected == 0) expected = order;
        }
        if (sign(span_compare(buf_span(&k[0]), buf_span(&k[1]))) != expected) fail_msg("round %d", round);
    }
    buf_free(&k[0]);
    buf_free(&k[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_enum_is_compared_by_its_declaration),
        cmocka_unit_test(a_label_that_is_not_declared_is_not_decoded),
        cmocka_unit_test(bytes_travel_as_base64_and_stand_in_sql_as_hexadecimal),
        cmocka_unit_test(a_counter_is_a_bigint),
        cmocka_unit_test(integers_take_as_many_bytes_of_a_key_as_they_need),
        cmocka_unit_test(arrays_of_every_scalar_read_back),
        cmocka_unit_test(array_constants_are_postgresqls),
        cmocka_unit_test(an_element_that_does_not_fit_is_named),
        cmocka_unit_test(arrays_are_ordered_by_their_elements),
        cmocka_unit_test(a_set_is_sorted_and_has_each_element_once),
        cmocka_unit_test(a_set_knows_how_old_its_elements_are),
        cmocka_unit_test(a_set_out_of_order_is_not_decoded),
        cmocka_unit_test(keys_of_several_columns_sort_as_the_columns_do),
    };
    return cmocka_run_group_tests(tests, make_arena, drop_arena);
}
