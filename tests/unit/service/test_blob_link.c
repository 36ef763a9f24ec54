// Links that speak for themselves: what is signed cannot be altered, and ends.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "blob_link.h"
#include "err.h"
#include "file.h"
#include "limits.h"
#include "log.h"
#include "tmp.h"

struct lab {
    char *folder;
    struct blob_signer *signer;
};

static int setup(void **state)
{
    struct lab *lab = calloc(1, sizeof *lab);
    lab->folder = tmp_make();
    assert_int_equal(blob_signer_open(&lab->signer, lab->folder, NULL), 0);
    *state = lab;
    return 0;
}

static int teardown(void **state)
{
    struct lab *lab = *state;
    blob_signer_close(lab->signer);
    tmp_remove(lab->folder);
    free(lab);
    return 0;
}

static const struct blob_link link_a = {
    .app = {(const uint8_t *)"default", 7}, .digest = {{1, 2, 3}}, .expires_s = 2000, .filename = {(const uint8_t *)"a b", 3}, .type = {(const uint8_t *)"x/y", 3}};

// Key and signature of a link as it is written.
struct signed_by {
    char key[8], sig[SHA256_HEX];
};

static struct signed_by sign(const struct blob_signer *s, const struct blob_link *l)
{
    struct signed_by by;
    struct buf b;
    buf_init(&b, 4 * KIB);
    blob_link_put(s, l, &b);
    assert_int_equal(b.err, 0);
    const char *mark = "&key=12345678&sig=";
    size_t tail = strlen(mark) + SHA256_HEX;
    assert_true(b.n > tail);
    memcpy(by.key, b.p + b.n - tail + 5, sizeof by.key);
    memcpy(by.sig, b.p + b.n - SHA256_HEX, SHA256_HEX);
    buf_free(&b);
    return by;
}

static int check(const struct blob_signer *s, const struct blob_link *l, const struct signed_by *by, uint64_t now)
{
    return blob_link_check(s, l, SPAN(by->key, sizeof by->key), SPAN(by->sig, sizeof by->sig), now, NULL);
}

static void link_is_written_as_promised(void **state)
{
    struct lab *lab = *state;
    struct buf b;
    buf_init(&b, 4 * KIB);
    blob_link_put(lab->signer, &link_a, &b);
    const char *start = "/apps/default/blobs/0102030000000000000000000000000000000000000000000000000000000000?expires=2000&filename=a%20b&type=x%2Fy&key=";
    assert_true(span_starts(buf_span(&b), start));
    buf_free(&b);
}

static void link_holds_until_it_ends(void **state)
{
    struct lab *lab = *state;
    struct signed_by by = sign(lab->signer, &link_a);
    assert_int_equal(check(lab->signer, &link_a, &by, 0), 0);
    assert_int_equal(check(lab->signer, &link_a, &by, 1999), 0);
    assert_int_equal(check(lab->signer, &link_a, &by, 2000), ERR_FORBIDDEN);
}

static void altered_link_is_refused(void **state)
{
    struct lab *lab = *state;
    struct signed_by by = sign(lab->signer, &link_a), other = by;
    struct blob_link l = link_a;
    l.app = SPAN_LIT("other"), assert_int_equal(check(lab->signer, &l, &by, 0), ERR_FORBIDDEN), l = link_a;
    l.digest.b[31] = 1, assert_int_equal(check(lab->signer, &l, &by, 0), ERR_FORBIDDEN), l = link_a;
    l.expires_s++, assert_int_equal(check(lab->signer, &l, &by, 0), ERR_FORBIDDEN), l = link_a;
    l.disposition = SPAN_LIT("inline"), assert_int_equal(check(lab->signer, &l, &by, 0), ERR_FORBIDDEN), l = link_a;
    // The same bytes, cut elsewhere.
    l.filename = SPAN_LIT("a bx"), l.type = SPAN_LIT("/y"), assert_int_equal(check(lab->signer, &l, &by, 0), ERR_FORBIDDEN), l = link_a;
    for (size_t i = 0; i < SHA256_HEX; i++) {
        other.sig[i] ^= 1;
        assert_int_equal(check(lab->signer, &l, &other, 0), ERR_FORBIDDEN);
        other.sig[i] ^= 1;
    }
    other.key[0] ^= 1;
    assert_int_equal(check(lab->signer, &l, &other, 0), ERR_FORBIDDEN);
    assert_int_equal(blob_link_check(lab->signer, &l, SPAN(by.key, 8), SPAN(by.sig, SHA256_HEX - 1), 0, NULL), ERR_FORBIDDEN);
    assert_int_equal(blob_link_check(lab->signer, &l, SPAN_NONE, SPAN_NONE, 0, NULL), ERR_FORBIDDEN);
}

static void key_stays_over_a_start_and_is_ones_own(void **state)
{
    struct lab *lab = *state;
    struct signed_by by = sign(lab->signer, &link_a);
    struct blob_signer *again;
    struct stat st;
    char path[4096];
    assert_int_equal(blob_signer_open(&again, lab->folder, NULL), 0);
    assert_int_equal(check(again, &link_a, &by, 0), 0);
    blob_signer_close(again);
    snprintf(path, sizeof path, "%s/link.key", lab->folder);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(file_replace(path, SPAN_LIT("not a key\n")), 0);
    assert_int_equal(blob_signer_open(&again, lab->folder, NULL), ERR_USAGE);
    remove(path);
    assert_int_equal(blob_signer_open(&again, lab->folder, NULL), 0);
    assert_int_equal(check(again, &link_a, &by, 0), ERR_FORBIDDEN);
    blob_signer_close(again);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(link_is_written_as_promised),
        T(link_holds_until_it_ends),
        T(altered_link_is_refused),
        T(key_stays_over_a_start_and_is_ones_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
