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

// The rule a byte at a time: the reference for much content.
static size_t cut_in_one_lane(struct span s)
{
    uint64_t h = 0;
    for (size_t i = 0; i < s.n && i + 1 < BLOB_CHUNK_MAX; i++) {
        h = 2 * h + chunk_gear[s.p[i]];
        size_t n = i + 1;
        if (n >= BLOB_CHUNK_MIN && h >> (n < BLOB_CHUNK_AVG ? 47 : 49) == 0) return n;
    }
    return s.n < BLOB_CHUNK_MAX ? s.n : BLOB_CHUNK_MAX;
}

// Cuts in pieces of `step` bytes, too, as an upload does.
static void assert_lanes_agree(struct span s, size_t step)
{
    while (s.n > 0) {
        size_t expected = cut_in_one_lane(s), n = 0, from = 0, given = 0;
        assert_int_equal(blobs_cut(s), expected);
        while (n == 0 && given < s.n) {
            given = given + step < s.n ? given + step : s.n;
            n = chunk_cut(SPAN(s.p, given), from);
            from = given + 1;
        }
        assert_int_equal(n > 0 ? n : s.n, expected);
        s = span_sub(s, expected, s.n);
    }
}

static void lanes_cut_as_one_lane_does(void **state)
{
    (void)state;
    uint8_t *random = random_content(8 * MIB, 17), *text = text_content(4 * MIB, 18), *zero = calloc(1, 2 * MIB), *vector = vector_content(1 * MIB);
    assert_non_null(zero);
    assert_lanes_agree(SPAN(random, 8 * MIB), 10007);
    assert_lanes_agree(SPAN(random + 1, 8 * MIB - 1), 65536);
    assert_lanes_agree(SPAN(text, 4 * MIB), 30011);
    assert_lanes_agree(SPAN(zero, 2 * MIB), 50021);
    assert_lanes_agree(SPAN(vector, 1 * MIB), 8191);
    free(random);
    free(text);
    free(zero);
    free(vector);
}

// Several lanes find something at once, or one behind another: what decides is the place, not who is first.
static void of_many_candidates_the_first_place_counts(void **state)
{
    (void)state;
    uint8_t mark[CHUNK_GEAR_BYTES], *p = random_content(1 * MIB, 19);
    size_t n = blobs_cut(SPAN(p, 1 * MIB));
    assert_true(n < BLOB_CHUNK_AVG * 4);
    memcpy(mark, p + n - sizeof mark, sizeof mark); // these 64 bytes make a candidate wherever they stand
    unsigned at = 1;
    for (int round = 0; round < 2000; round++) {
        uint8_t *s = p + BLOB_CHUNK_MIN;
        uint8_t kept[4][sizeof mark];
        size_t places[4], length = 300 * KIB;
        for (int i = 0; i < 4; i++) {
            at = at * 1664525 + 1013904223;
            places[i] = BLOB_CHUNK_MIN - 100 + at % (round % 2 ? 20000 : 240000);
            memcpy(kept[i], s + places[i], sizeof mark);
            memcpy(s + places[i], mark, sizeof mark);
        }
        assert_int_equal(blobs_cut(SPAN(s, length)), cut_in_one_lane(SPAN(s, length)));
        for (int i = 4; i-- > 0;)
            memcpy(s + places[i], kept[i], sizeof mark);
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
        cmocka_unit_test(lanes_cut_as_one_lane_does),            cmocka_unit_test(of_many_candidates_the_first_place_counts),
        cmocka_unit_test(a_cut_needs_no_byte_behind_it),         cmocka_unit_test(short_content_is_one_chunk),
        cmocka_unit_test(lengths_keep_their_bounds_and_average), cmocka_unit_test(a_byte_put_in_front_keeps_nearly_all_chunks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
