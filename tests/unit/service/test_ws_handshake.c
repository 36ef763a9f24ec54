#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "err.h"
#include "ws_handshake.h"

static void the_answer_to_a_key_is_the_standards(void **state)
{
    (void)state;
    char text[WS_ACCEPT_TEXT];
    assert_int_equal(ws_accept(SPAN_LIT("dGhlIHNhbXBsZSBub25jZQ=="), text), 0); // the example of RFC 6455
    assert_memory_equal(text, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", WS_ACCEPT_TEXT);
}

static void what_is_no_key_is_refused(void **state)
{
    (void)state;
    static const char *const keys[] = {"", "short", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZSE=", "dGhlIHNhbXBsZSBub25jZS!!", "dGhlIHNhbXBsZSBub25jZXh4", "dGhlIHNhbXBsZSBub25jZQ==dGhlIHNhbXBsZSBub25jZQ=="};
    char text[WS_ACCEPT_TEXT];
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        assert_int_equal(ws_accept(SPAN_STR(keys[i]), text), ERR_BAD_REQUEST);
}

static void words_are_found_in_lists(void **state)
{
    (void)state;
    assert_true(ws_list_has(SPAN_LIT("Upgrade"), "upgrade"));
    assert_true(ws_list_has(SPAN_LIT("keep-alive , \tUpgrade"), "upgrade"));
    assert_false(ws_list_has(SPAN_LIT("keep-alive"), "upgrade"));
    assert_false(ws_list_has(SPAN_LIT("upgraded, an upgrade"), "upgrade"));
    assert_false(ws_list_has(SPAN_LIT(""), "upgrade"));
    assert_false(ws_list_has(SPAN_LIT(",,"), "upgrade"));
}

static bool allowed(const char *origin, bool dev)
{
    return ws_origin_allowed(SPAN_STR(origin), SPAN_LIT("sync.example:7420"), SPAN_LIT("https://app.example, http://other.example:8080"), dev);
}

static void origins_are_the_own_or_named(void **state)
{
    (void)state;
    static const char *const may[] = {"", "http://sync.example:7420", "https://SYNC.example:7420", "https://app.example", "http://other.example:8080"};
    static const char *const may_not[] = {"http://sync.example", "http://sync.example:7421", "https://app.example.evil", "https://evil/app.example", "http://app.example",
                                          "null", "file://", "http://localhost", "http://127.0.0.1:7420", "sync.example:7420", "http://", "x"};
    for (size_t i = 0; i < sizeof may / sizeof *may; i++)
        assert_true(allowed(may[i], false));
    for (size_t i = 0; i < sizeof may_not / sizeof *may_not; i++)
        assert_false(allowed(may_not[i], false));
}

static void a_developers_service_takes_pages_of_its_machine(void **state)
{
    (void)state;
    static const char *const may[] = {"null", "file://", "http://localhost", "http://LOCALHOST:3000", "http://127.0.0.1:7420", "https://127.9.9.9", "http://[::1]", "http://[::1]:80"};
    static const char *const may_not[] = {"http://localhost.evil", "http://127.evil.example", "http://127.0.0.1.evil", "http://127.0.0.1.1", "http://128.0.0.1", "http://[::1", "http://[::1].evil",
                                          "http://evil", "nullx"};
    for (size_t i = 0; i < sizeof may / sizeof *may; i++)
        assert_true(allowed(may[i], true));
    for (size_t i = 0; i < sizeof may_not / sizeof *may_not; i++)
        assert_false(allowed(may_not[i], true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_answer_to_a_key_is_the_standards), cmocka_unit_test(what_is_no_key_is_refused),      cmocka_unit_test(words_are_found_in_lists),
        cmocka_unit_test(origins_are_the_own_or_named),         cmocka_unit_test(a_developers_service_takes_pages_of_its_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
