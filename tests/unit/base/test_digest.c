#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>

#include "digest.h"
#include "err.h"

static void expect_digest(struct sha256 sum, const char *hex)
{
    char text[SHA256_HEX + 1] = "";
    hex_format(text, SPAN(sum.b, SHA256_BYTES));
    assert_string_equal(text, hex);
}

// FIPS 180-2's examples.
#define OF_NOTHING "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define OF_ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define OF_MILLION_A "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"

static void known_digests_come_out(void **state)
{
    (void)state;
    expect_digest(sha256_of(SPAN_NONE), OF_NOTHING);
    expect_digest(sha256_of(SPAN_LIT("")), OF_NOTHING);
    expect_digest(sha256_of(SPAN_LIT("abc")), OF_ABC);
}

static void updates_add_up(void **state)
{
    (void)state;
    char thousand[1000];
    memset(thousand, 'a', sizeof thousand);
    struct digest *d = digest_new();
    digest_update(d, SPAN_NONE);
    for (int i = 0; i < 1000; i++)
        digest_update(d, SPAN(thousand, sizeof thousand));
    expect_digest(digest_final(d), OF_MILLION_A);
    digest_free(d);
}

static void final_begins_anew(void **state)
{
    (void)state;
    struct digest *d = digest_new();
    expect_digest(digest_final(d), OF_NOTHING);
    digest_update(d, SPAN_LIT("a"));
    digest_update(d, SPAN_LIT("bc"));
    expect_digest(digest_final(d), OF_ABC);
    expect_digest(digest_final(d), OF_NOTHING);
    digest_free(d);
    digest_free(NULL);
}

static void *digest_abc(void *sum)
{
    *(struct sha256 *)sum = sha256_of(SPAN_LIT("abc"));
    return NULL;
}

static void threads_digest_at_the_same_time(void **state)
{
    (void)state;
    pthread_t threads[4];
    struct sha256 sums[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, digest_abc, &sums[i]), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        expect_digest(sums[i], OF_ABC);
    }
}

static void equality_looks_at_every_byte(void **state)
{
    (void)state;
    struct sha256 a = sha256_of(SPAN_LIT("abc")), b = a;
    assert_true(sha256_equal(&a, &b));
    b.b[SHA256_BYTES - 1] ^= 1;
    assert_false(sha256_equal(&a, &b));
}

static void hexadecimal_comes_back_in_either_case(void **state)
{
    (void)state;
    uint8_t all[256], back[256];
    char text[512];
    for (int i = 0; i < 256; i++)
        all[i] = (uint8_t)i;
    hex_format(text, SPAN(all, sizeof all));
    assert_memory_equal(text + 2 * 0xab, "abacad", 6);
    assert_int_equal(hex_parse(back, sizeof back, SPAN(text, sizeof text)), 0);
    assert_memory_equal(back, all, sizeof all);
    assert_int_equal(hex_parse(back, 3, SPAN_LIT("aBCdEF")), 0);
    assert_memory_equal(back, "\xab\xcd\xef", 3);
    assert_int_equal(hex_parse(back, 0, SPAN_NONE), 0);
}

static void other_characters_and_lengths_are_refused(void **state)
{
    (void)state;
    uint8_t out[4] = {42};
    static const char *const bad[] = {"", "0", "00112", "0011223", "001122334455", "0011223g", "0011 233", "00x12233", "-0112233"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(hex_parse(out, 4, SPAN_STR(bad[i])), ERR_BAD_VALUE);
    assert_int_equal(out[0], 42);
    // Every single character: only 22 of 256 are digits.
    int taken = 0;
    for (int c = 0; c < 256; c++) {
        uint8_t text[2] = {'0', (uint8_t)c};
        taken += hex_parse(out, 1, SPAN(text, 2)) == 0;
    }
    assert_int_equal(taken, 22);
}

static void secrets_are_equal_when_all_of_them_is(void **state)
{
    (void)state;
    assert_true(secret_equal(SPAN_LIT("secret"), SPAN_LIT("secret")));
    assert_false(secret_equal(SPAN_LIT("secret"), SPAN_LIT("secreT")));
    assert_false(secret_equal(SPAN_LIT("secret"), SPAN_LIT("Secret")));
    assert_false(secret_equal(SPAN_LIT("secret"), SPAN_LIT("secre")));
    assert_true(secret_equal(SPAN_NONE, SPAN_LIT("")));
}

static void saved_digest_goes_on_where_it_was(void **state)
{
    (void)state;
    uint8_t content[300], saved[DIGEST_STATE_MAX];
    struct digest *a = digest_new(), *b = digest_new();
    struct sha256 whole, got;
    for (size_t i = 0; i < sizeof content; i++)
        content[i] = (uint8_t)(i * 7);
    whole = sha256_of(SPAN(content, sizeof content));
    for (size_t cut = 0; cut <= sizeof content; cut++) {
        digest_update(a, SPAN(content, cut));
        size_t n = digest_save(a, saved);
        assert_int_equal(n, 40 + cut % 64);
        digest_update(b, SPAN_LIT("something else"));
        assert_int_equal(digest_restore(b, SPAN(saved, n)), 0);
        digest_update(b, SPAN(content + cut, sizeof content - cut));
        got = digest_final(b);
        assert_true(sha256_equal(&got, &whole));
        digest_final(a);
    }
    digest_free(a);
    digest_free(b);
}

static void bytes_that_are_no_saved_digest_are_refused(void **state)
{
    (void)state;
    uint8_t saved[DIGEST_STATE_MAX + 64] = {0};
    struct digest *d = digest_new();
    digest_update(d, SPAN_LIT("abc"));
    struct sha256 before = sha256_of(SPAN_LIT("abc"));
    size_t n = digest_save(d, saved);
    for (size_t k = 0; k <= sizeof saved; k++)
        if (k != n) assert_int_equal(digest_restore(d, SPAN(saved, k)), ERR_BAD_VALUE);
    memset(saved + 32, 0xff, 8); // a length that no content has
    assert_int_equal(digest_restore(d, SPAN(saved, 40 + 63)), ERR_BAD_VALUE);
    struct sha256 after = digest_final(d);
    assert_true(sha256_equal(&before, &after)); // it is as it was
    digest_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_digests_come_out),
        cmocka_unit_test(updates_add_up),
        cmocka_unit_test(final_begins_anew),
        cmocka_unit_test(threads_digest_at_the_same_time),
        cmocka_unit_test(equality_looks_at_every_byte),
        cmocka_unit_test(saved_digest_goes_on_where_it_was),
        cmocka_unit_test(bytes_that_are_no_saved_digest_are_refused),
        cmocka_unit_test(hexadecimal_comes_back_in_either_case),
        cmocka_unit_test(other_characters_and_lengths_are_refused),
        cmocka_unit_test(secrets_are_equal_when_all_of_them_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
