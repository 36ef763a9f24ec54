// The cut rule: README.md's test vectors, and what the rule is for.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "blob_lab.h"
#include "chunker.h"
#include "digest.h"

static void gear_table_follows_its_published_rule(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 256; i++) {
        char text[32];
        snprintf(text, sizeof text, "segue gear v1 %u", i);
        struct sha256 sha = sha256_of(SPAN_STR(text));
        uint64_t v = 0;
        for (int k = 7; k >= 0; k--)
            v = v << 8 | sha.b[k];
        assert_true(chunk_gear[i] == v);
    }
}

// The content of README.md's vectors: the hashes of "segue vector v1 0", "… 1", one behind the other.
static uint8_t *vector_content(size_t n)
{
    uint8_t *p = malloc(n);
    assert_non_null(p);
    for (size_t i = 0; i < n / SHA256_BYTES; i++) {
        char text[40];
        snprintf(text, sizeof text, "segue vector v1 %zu", i);
        struct sha256 sha = sha256_of(SPAN_STR(text));
        memcpy(p + i * SHA256_BYTES, sha.b, SHA256_BYTES);
    }
    return p;
}

static size_t cut_all(struct span s, size_t *lengths, size_t max)
{
    size_t count = 0;
    while (s.n > 0) {
        size_t n = blobs_cut(s);
        assert_true(n > 0 && n <= s.n && count < max);
        lengths[count++] = n;
        s = span_sub(s, n, s.n);
    }
    return count;
}

static void published_vector_is_cut_as_published(void **state)
{
    (void)state;
    static const size_t expected[] = {88471,  64233,  66164, 66866, 74142,  25037, 68043, 24725,
                                      151779, 111324, 84282, 31096, 101887, 49246, 41281};
    size_t lengths[64];
    uint8_t *p = vector_content(1 * MIB);
    size_t count = cut_all(SPAN(p, 1 * MIB), lengths, 64);
    assert_int_equal(count, sizeof expected / sizeof *expected);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(lengths[i], expected[i]);
    free(p);
}

static void equal_bytes_are_cut_at_the_maximum(void **state)
{
    (void)state;
    uint8_t *p = calloc(1, 1 * MIB);
    size_t lengths[64];
    size_t count = cut_all(SPAN(p, 1 * MIB), lengths, 64);
    assert_int_equal(count, 4);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(lengths[i], BLOB_CHUNK_MAX);
    free(p);
}

// The rule, word for word and without any cleverness.
static size_t cut_by_the_book(struct span s)
{
    for (size_t n = BLOB_CHUNK_MIN; n <= s.n && n < BLOB_CHUNK_MAX; n++) {
        uint64_t h = 0;
        for (size_t i = n - 64; i < n; i++)
            h = 2 * h + chunk_gear[s.p[i]];
        if (h >> (n < BLOB_CHUNK_AVG ? 47 : 49) == 0) return n;
    }
    return s.n < BLOB_CHUNK_MAX ? s.n : BLOB_CHUNK_MAX;
}

static void cuts_are_those_of_the_rule_by_the_book(void **state)
{
    (void)state;
    uint8_t *p = random_content(3 * MIB, 7);
    struct span s = SPAN(p, 3 * MIB);
    while (s.n > 0) {
        size_t n = blobs_cut(s);
        assert_int_equal(n, cut_by_the_book(s));
        s = span_sub(s, n, s.n);
    }
    free(p);
}

static void a_cut_needs_no_byte_behind_it(void **state)
{
    (void)state;
    uint8_t *p = random_content(1 * MIB, 9);
    size_t n = blobs_cut(SPAN(p, 1 * MIB));
    assert_int_equal(chunk_cut(SPAN(p, n), 0), n);
    assert_int_equal(chunk_cut(SPAN(p, n - 1), 0), 0);
    assert_int_equal(blobs_cut(SPAN(p, n - 1)), n - 1);
    // A search that goes on where an earlier one stopped finds the same.
    assert_int_equal(chunk_cut(SPAN(p, 1 * MIB), n), n);
    assert_int_equal(chunk_cut(SPAN(p, 1 * MIB), n - 1), n);
    free(p);
}

static void short_content_is_one_chunk(void **state)
{
    (void)state;
    uint8_t p[100] = {0};
    assert_int_equal(blobs_cut(SPAN_NONE), 0);
    assert_int_equal(blobs_cut(SPAN(p, 1)), 1);
    assert_int_equal(blobs_cut(SPAN(p, 100)), 100);
    assert_int_equal(chunk_cut(SPAN(p, 100), 0), 0);
}

static void lengths_keep_their_bounds_and_average(void **state)
{
    (void)state;
    size_t lengths[1024];
    uint8_t *p = random_content(16 * MIB, 11);
    size_t count = cut_all(SPAN(p, 16 * MIB), lengths, 1024);
    for (size_t i = 0; i + 1 < count; i++)
        assert_in_range(lengths[i], BLOB_CHUNK_MIN, BLOB_CHUNK_MAX);
    assert_in_range(16 * MIB / count, BLOB_CHUNK_AVG, BLOB_CHUNK_AVG * 3 / 2);
    free(p);
}

static void a_byte_put_in_front_keeps_nearly_all_chunks(void **state)
{
    (void)state;
    size_t n = 16 * MIB, count = 0, kept = 0, at = 0;
    uint8_t *p = random_content(n + 1, 13);
    uint8_t *ends = calloc(1, n + 1); // by end in the content without its first byte
    for (struct span s = SPAN(p + 1, n); s.n > 0; count++) {
        size_t len = blobs_cut(s);
        ends[at += len] = 1;
        s = span_sub(s, len, s.n);
    }
    at = 0;
    bool same_begin = false;
    for (struct span s = SPAN(p, n + 1); s.n > 0;) {
        size_t len = blobs_cut(s);
        at += len;
        kept += same_begin && ends[at - 1];
        same_begin = ends[at - 1];
        s = span_sub(s, len, s.n);
    }
    assert_true(kept * 100 >= count * 95);
    free(ends);
    free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gear_table_follows_its_published_rule), cmocka_unit_test(published_vector_is_cut_as_published),
        cmocka_unit_test(equal_bytes_are_cut_at_the_maximum),    cmocka_unit_test(cuts_are_those_of_the_rule_by_the_book),
        cmocka_unit_test(a_cut_needs_no_byte_behind_it),         cmocka_unit_test(short_content_is_one_chunk),
        cmocka_unit_test(lengths_keep_their_bounds_and_average), cmocka_unit_test(a_byte_put_in_front_keeps_nearly_all_chunks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
