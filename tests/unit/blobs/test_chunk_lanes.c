// Two digests and the search for chunks in one pass: the same as each by itself, whatever the lengths and where the blocks begin.
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "blob_lab.h"
#include "blobs.h"
#include "chunk_lanes.h"

static uint32_t chance(uint32_t *at, uint32_t below)
{
    *at = *at * 1664525 + 1013904223;
    return (uint32_t)((uint64_t)*at * below >> 32);
}

// All of the content as an upload would, with pieces of any length instead of chunks; the ends that were found must be those of blobs_cut.
static void assert_one_pass_agrees(struct span s, uint32_t seed)
{
    struct digest *whole = digest_new(), *chunk = digest_new();
    struct chunk_scan scan = {0};
    size_t cut = 0;
    for (size_t at = 0, n; at < s.n; at += n) {
        n = chance(&seed, chance(&seed, 2) ? 300 : 100000);
        struct span content = span_sub(s, at, n);
        n = content.n;
        size_t had = chance(&seed, 100);
        digest_update(chunk, span_sub(content, 0, had));
        digest_update(whole, span_sub(content, 0, had));
        chunk_lanes_update(whole, chunk, span_sub(content, had, n), &scan, s);
        struct sha256 is = digest_final(chunk), expected = sha256_of(content);
        assert_true(sha256_equal(&is, &expected));
        assert_true(scan.at <= s.n);
    }
    struct sha256 is = digest_final(whole), expected = sha256_of(s);
    assert_true(sha256_equal(&is, &expected));
    while (scan.count > 0 || chunk_scan_seek(&scan, s)) {
        size_t end = chunk_scan_pop(&scan);
        assert_int_equal(end - cut, blobs_cut(span_sub(s, cut, s.n)));
        cut = end;
    }
    if (cut < s.n) assert_int_equal(s.n - cut, blobs_cut(span_sub(s, cut, s.n)));
    digest_free(whole);
    digest_free(chunk);
}

static void all_content_passes(uint32_t seed)
{
    size_t n = CHUNK_SCAN_MAX - 100; // from an odd address on
    uint8_t *random = random_content(n + 1, seed), *text = text_content(n, seed), *zero = calloc(1, n);
    assert_non_null(zero);
    for (uint32_t i = 0; i < 8; i++) {
        assert_one_pass_agrees(SPAN(random + i % 2, n), seed + i);
        assert_one_pass_agrees(SPAN(random, chance(&seed, 5000)), seed + i);
        assert_one_pass_agrees(SPAN(text, n), seed + i);
        assert_one_pass_agrees(SPAN(zero, n), seed + i);
    }
    free(random);
    free(text);
    free(zero);
}

static void one_pass_agrees_with_three(void **state)
{
    (void)state;
    all_content_passes(1);
}

static void so_it_does_where_the_processor_has_no_such_instructions(void **state)
{
    (void)state;
    chunk_lanes_off = true;
    all_content_passes(2);
    chunk_lanes_off = false;
}

// Bytes every one of which is a candidate: nothing but the bounds decides, and the list of ends has room for what they allow.
static void content_that_is_all_candidates_is_cut_at_the_minimum(void **state)
{
    (void)state;
    struct chunk_scan scan = {0};
    for (size_t at = 1; at <= CHUNK_SCAN_MAX; at++)
        chunk_scan_found(&scan, at, 0);
    assert_int_equal(scan.count, CHUNK_SCAN_MAX / BLOB_CHUNK_MIN);
    for (size_t i = 1; i <= CHUNK_SCAN_MAX / BLOB_CHUNK_MIN; i++)
        assert_int_equal(chunk_scan_pop(&scan), i * BLOB_CHUNK_MIN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_pass_agrees_with_three),
        cmocka_unit_test(so_it_does_where_the_processor_has_no_such_instructions),
        cmocka_unit_test(content_that_is_all_candidates_is_cut_at_the_minimum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
