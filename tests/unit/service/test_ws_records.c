#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "buf.h"
#include "err.h"
#include "limits.h"
#include "ws_records.h"

static void put(struct buf *b, const char *path, const char *data)
{
    if (b->n == 0) buf_put_u8(b, WS_RECORDS_MARK);
    buf_put_u16(b, (uint16_t)strlen(path));
    buf_put_str(b, path);
    buf_put_u32(b, (uint32_t)strlen(data));
    buf_put_str(b, data);
}

static void records_come_one_after_the_other(void **state)
{
    (void)state;
    struct buf b;
    struct ws_records r;
    struct ws_record one;
    buf_init(&b, KIB);
    put(&b, "a", "first");
    put(&b, "", "second");
    put(&b, "b/c", "third");
    assert_int_equal(ws_records_begin(&r, buf_span(&b)), 3);
    assert_true(ws_records_next(&r, &one));
    assert_true(span_is(one.path, "a") && span_is(one.data, "first"));
    assert_true(ws_records_next(&r, &one));
    assert_true(span_is(one.path, "a") && span_is(one.data, "second"));
    assert_true(ws_records_next(&r, &one));
    assert_true(span_is(one.path, "b/c") && span_is(one.data, "third"));
    assert_false(ws_records_next(&r, &one));
    for (size_t n = 1; n < b.n; n++) {
        int got = ws_records_begin(&r, SPAN(b.p, n));
        assert_true(got == ERR_BAD_REQUEST || n == 1 + 12 || n == 1 + 12 + 12);
    }
    buf_free(&b);
}

static void what_cannot_be_is_refused_as_a_whole(void **state)
{
    (void)state;
    static const struct {
        const char *path, *data;
    } bad[] = {{"", "no path yet"}, {"a", ""}, {"\xff", "not UTF-8"}};
    struct buf b;
    struct ws_records r;
    buf_init(&b, MIB);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        buf_clear(&b);
        if (i > 0) put(&b, "good", "one");
        put(&b, bad[i].path, bad[i].data);
        assert_int_equal(ws_records_begin(&r, buf_span(&b)), ERR_BAD_REQUEST);
    }
    buf_clear(&b);
    for (int i = 0; i < WS_RECORDS_MAX; i++)
        put(&b, "a", "x");
    assert_int_equal(ws_records_begin(&r, buf_span(&b)), WS_RECORDS_MAX);
    put(&b, "a", "x");
    assert_int_equal(ws_records_begin(&r, buf_span(&b)), ERR_BAD_REQUEST);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_one_after_the_other),
        cmocka_unit_test(what_cannot_be_is_refused_as_a_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
