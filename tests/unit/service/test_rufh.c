// What the fields of the IETF's draft say: structured fields, strictly.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "rufh.h"

#define COUNT(list) (sizeof(list) / sizeof *(list))
#define EMPTY_256 "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"
#define EMPTY_512 "sha-512=:z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==:"

static void integers_have_up_to_15_digits(void **state)
{
    (void)state;
    uint64_t n = 7;
    static const char *const bad[] = {"", "-1", "+1", "1.0", "1.", "0x1", "1e3", "1,1", "1 1", "?1", "\"1\"", ":MQ==:", "1234567890123456", "1;", "1;A=1", "1; =1", "1;a=", "\t1", "@1"};
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_false(rufh_integer(SPAN_STR(bad[i]), &n));
    assert_false(rufh_integer(SPAN_NONE, &n));
    assert_int_equal(n, 7);
    assert_true(rufh_integer(SPAN_LIT("123456789012345"), &n));
    assert_true(n == UINT64_C(123456789012345));
    assert_true(rufh_integer(SPAN_LIT("  000 "), &n));
    assert_int_equal(n, 0);
    assert_true(rufh_integer(SPAN_LIT("-0"), &n));
    assert_true(rufh_integer(SPAN_LIT("5;a; b=?0;c=\"x\\\"\";*d=tok/en;e=:AA==:;f=-1.125;g=@-9;h=%\"a%c3%bc\""), &n));
    assert_int_equal(n, 5);
}

static void booleans_are_one_or_nought(void **state)
{
    (void)state;
    bool b = true;
    static const char *const bad[] = {"", "1", "0", "true", "?2", "?", "?1 ?1", "?1, ?1", "?01", "?1;", "? 1"};
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_false(rufh_boolean(SPAN_STR(bad[i]), &b));
    assert_true(b);
    assert_true(rufh_boolean(SPAN_LIT("?0"), &b));
    assert_false(b);
    assert_true(rufh_boolean(SPAN_LIT("?1;why=because"), &b));
    assert_true(b);
}

static void completeness_has_two_names(void **state)
{
    (void)state;
    bool b;
    assert_false(rufh_complete(SPAN_NONE, SPAN_NONE, &b));
    assert_true(rufh_complete(SPAN_LIT("?1"), SPAN_NONE, &b) && b);
    assert_true(rufh_complete(SPAN_NONE, SPAN_LIT("?1"), &b) && !b);
    assert_true(rufh_complete(SPAN_NONE, SPAN_LIT("?0"), &b) && b);
    assert_true(rufh_complete(SPAN_LIT("yes"), SPAN_LIT("?0"), &b) && b);
    assert_true(rufh_complete(SPAN_LIT("?0"), SPAN_LIT("?0"), &b) && !b);
}

static void four_versions_are_spoken(void **state)
{
    (void)state;
    static const unsigned spoken[] = {0, 0, 0, 3, 0, 5, 6, 0, 8, 0};
    for (unsigned v = 0; v < COUNT(spoken); v++) {
        char text[2] = {(char)('0' + v), 0};
        assert_int_equal(rufh_version(SPAN_STR(text)), spoken[v]);
    }
    assert_int_equal(rufh_version(SPAN_NONE), 0);
    assert_int_equal(rufh_version(SPAN_LIT("6, 8")), 0);
}

static void digests_are_a_dictionary(void **state)
{
    (void)state;
    struct rufh_digests d;
    struct sha256 none = sha256_of(SPAN_NONE);
    assert_true(rufh_digests(SPAN_LIT(EMPTY_256), &d));
    assert_int_equal(d.kinds, DIGEST_SHA256);
    assert_memory_equal(d.sha256, none.b, SHA256_BYTES);
    assert_true(rufh_digests(SPAN_LIT(EMPTY_512 " ,\t" EMPTY_256), &d));
    assert_int_equal(d.kinds, DIGEST_SHA256 | DIGEST_SHA512);
    assert_int_equal(d.sha512[0], 0xcf);
    assert_true(rufh_digests(SPAN_LIT("md5=:AA==:;x=1, list=(a \"b\";c 1.5 ?0);d, flag, flag;p, unixsum=30637"), &d));
    assert_int_equal(d.kinds, 0);
    // The last of two with one name counts.
    assert_true(rufh_digests(SPAN_LIT("sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:, " EMPTY_256), &d));
    assert_memory_equal(d.sha256, none.b, SHA256_BYTES);
    static const char *const bad[] = {EMPTY_256 ",", "," EMPTY_256, EMPTY_256 " " EMPTY_512, "sha-256", "sha-256=x", "sha-256=:AAAA:", "sha-256=::", "SHA-256=:AAAA:", "a=(b", "a=(b,c)", "a=(1\"b\")", "a= 1", "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU:", "a=\"\\x\"", "a=%\"%C3\""};
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_false(rufh_digests(SPAN_STR(bad[i]), &d));
    assert_false(rufh_digests(SPAN_NONE, &d));
}

static void promise_is_a_pair_of_the_metadata(void **state)
{
    (void)state;
    struct sha256 d, none = sha256_of(SPAN_NONE);
    assert_true(rufh_promise(SPAN_LIT("filename YQ==,repr-digest 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="), &d));
    assert_true(sha256_equal(&d, &none));
    assert_true(rufh_promise(SPAN_LIT("repr-digest 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=, x"), &d));
    static const char *const none_there[] = {"", ",", "repr-digest", "repr-digest ", "repr-digest AAAA", "xrepr-digest 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "a YQ=="};
    for (size_t i = 0; i < COUNT(none_there); i++)
        assert_false(rufh_promise(SPAN_STR(none_there[i]), &d));
}

static void body_type_is_taken_in_any_case_and_with_parameters(void **state)
{
    (void)state;
    assert_true(rufh_is_body_type(SPAN_LIT("application/partial-upload")));
    assert_true(rufh_is_body_type(SPAN_LIT("Application/Partial-Upload ; x=y")));
    assert_false(rufh_is_body_type(SPAN_LIT("application/partial-uploads")));
    assert_false(rufh_is_body_type(SPAN_LIT("application/offset+octet-stream")));
    assert_false(rufh_is_body_type(SPAN_NONE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_have_up_to_15_digits),
        cmocka_unit_test(booleans_are_one_or_nought),
        cmocka_unit_test(completeness_has_two_names),
        cmocka_unit_test(four_versions_are_spoken),
        cmocka_unit_test(digests_are_a_dictionary),
        cmocka_unit_test(promise_is_a_pair_of_the_metadata),
        cmocka_unit_test(body_type_is_taken_in_any_case_and_with_parameters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
