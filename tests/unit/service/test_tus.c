// What tus's header fields say, and whose turn it is at an upload.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "blobs.h"
#include "err.h"
#include "holds.h"
#include "tus.h"

// ---- fields --------------------------------------------------------------------------------------------------------

static void only_one_version_is_spoken(void **state)
{
    (void)state;
    struct problem p = PROBLEM_NONE;
    assert_int_equal(tus_check_version(SPAN_LIT("1.0.0"), NULL), 0);
    assert_int_equal(tus_check_version(SPAN_NONE, &p), ERR_TUS_VERSION);
    assert_int_equal(p.err, ERR_TUS_VERSION);
    assert_int_equal(tus_check_version(SPAN_LIT(""), NULL), ERR_TUS_VERSION);
    assert_int_equal(tus_check_version(SPAN_LIT("1.0.0, 1.0.0"), NULL), ERR_TUS_VERSION);
    assert_int_equal(tus_check_version(SPAN_LIT("1.0.1"), NULL), ERR_TUS_VERSION);
}

static void body_type_is_taken_in_any_case_and_with_parameters(void **state)
{
    (void)state;
    assert_int_equal(tus_check_type(SPAN_LIT("application/offset+octet-stream"), NULL), 0);
    assert_int_equal(tus_check_type(SPAN_LIT("Application/Offset+Octet-Stream ; x=y"), NULL), 0);
    static const char *const other[] = {"", ";", "application/octet-stream", "application/offset+octet-stream2", "xapplication/offset+octet-stream"};
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        assert_int_equal(tus_check_type(SPAN_STR(other[i]), NULL), ERR_UNSUPPORTED_MEDIA_TYPE);
    assert_int_equal(tus_check_type(SPAN_NONE, NULL), ERR_UNSUPPORTED_MEDIA_TYPE);
}

static void numbers_are_digits_and_nothing_else(void **state)
{
    (void)state;
    uint64_t n = 7;
    static const char *const bad[] = {"", "-1", "+1", " 1", "1 ", "1.0", "0x1", "1e3", "1,1", "9999999999999999999", "1234567890123456789"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(tus_number(SPAN_STR(bad[i]), "x", &n, NULL), ERR_BAD_REQUEST);
    assert_int_equal(tus_number(SPAN_NONE, "x", &n, NULL), ERR_BAD_REQUEST);
    assert_int_equal(n, 7);
    assert_int_equal(tus_number(SPAN_LIT("0"), "x", &n, NULL), 0);
    assert_int_equal(n, 0);
    assert_int_equal(tus_number(SPAN_LIT("999999999999999999"), "x", &n, NULL), 0);
    assert_true(n == UINT64_C(999999999999999999));
}

static void length_is_given_once_and_fits(void **state)
{
    (void)state;
    uint64_t n = 7;
    assert_int_equal(tus_length(SPAN_LIT("17592186044416"), SPAN_NONE, &n, NULL), 0);
    assert_true(n == BLOB_BYTES_MAX);
    assert_int_equal(tus_length(SPAN_LIT("17592186044417"), SPAN_NONE, &n, NULL), ERR_TOO_LARGE);
    assert_int_equal(tus_length(SPAN_NONE, SPAN_NONE, &n, NULL), ERR_BAD_REQUEST);
    assert_int_equal(tus_length(SPAN_LIT("1"), SPAN_LIT("1"), &n, NULL), ERR_BAD_REQUEST);
    assert_int_equal(tus_length(SPAN_NONE, SPAN_LIT("2"), &n, NULL), ERR_BAD_REQUEST);
    assert_int_equal(tus_length(SPAN_NONE, SPAN_LIT(""), &n, NULL), ERR_BAD_REQUEST);
    assert_true(n == BLOB_BYTES_MAX);
    assert_int_equal(tus_length(SPAN_NONE, SPAN_LIT("1"), &n, NULL), 0);
    assert_true(n == UPLOAD_LENGTH_UNKNOWN);
}

static void checksum_is_of_a_kind_that_is_offered(void **state)
{
    (void)state;
    struct tus_checksum c;
    assert_int_equal(tus_checksum(SPAN_LIT("sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0="), &c, NULL), 0);
    assert_int_equal(c.kind, DIGEST_SHA1);
    assert_int_equal(c.n, SHA1_BYTES);
    assert_int_equal(c.value[0], 0x2a);
    assert_int_equal(tus_checksum(SPAN_LIT(" sha256  47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU= "), &c, NULL), 0);
    assert_int_equal(c.kind, DIGEST_SHA256);
    assert_int_equal(c.n, SHA256_BYTES);
    const char *const bad[] = {"", "sha1", "sha1 ", "sha1 AAAA", "md5 XrY7u+Ae7tCTyyK7j1rNww==", "SHA1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "sha256 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
                               "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0", "sha1,Kq5sNclPz7QV2+lfQIuc6R7oRu0="};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(tus_checksum(SPAN_STR(bad[i]), &c, NULL), ERR_BAD_REQUEST);
    assert_int_equal(c.kind, DIGEST_SHA256);
}

static void list_names_a_field_in_any_case(void **state)
{
    (void)state;
    assert_true(tus_lists(SPAN_LIT("Upload-Checksum"), "upload-checksum"));
    assert_true(tus_lists(SPAN_LIT("ETag , upload-CHECKSUM"), "upload-checksum"));
    assert_false(tus_lists(SPAN_LIT("Upload-Checksums"), "upload-checksum"));
    assert_false(tus_lists(SPAN_NONE, "upload-checksum"));
}

static void parts_are_uploads_of_this_app(void **state)
{
    (void)state;
    const char *a = "/apps/default/uploads/00000000-0000-4000-8000-00000000000a";
    char text[400];
    struct tus_concat c;
    struct uuid id;
    struct span base = SPAN_LIT("/apps/default/uploads");
    snprintf(text, sizeof text, "final;%s https://example.com/behind/a/proxy%s  http://localhost:7420%s", a, a, a);
    assert_int_equal(tus_concat(SPAN_STR(text), &c, NULL), 0);
    assert_true(c.final);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(tus_concat_next(&c, base, &id, NULL), 1);
        assert_int_equal(id.b[15], 0x0a);
    }
    assert_int_equal(tus_concat_next(&c, base, &id, NULL), 0);
    const char *const bad[] = {"/apps/other/uploads/00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000a", "/apps/default/uploads/",
                               "http://host", "/apps/default/uploads/00000000-0000-4000-8000-00000000000g", "apps/default/uploads/00000000-0000-4000-8000-00000000000a"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(text, sizeof text, "final;%s", bad[i]);
        assert_int_equal(tus_concat(SPAN_STR(text), &c, NULL), 0);
        assert_int_equal(tus_concat_next(&c, base, &id, NULL), ERR_BAD_REQUEST);
    }
    assert_int_equal(tus_concat(SPAN_LIT(" partial "), &c, NULL), 0);
    assert_false(c.final);
    const char *const none[] = {"", "final", "final;", "final; ", "partial;", "Partial", "whole"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        assert_int_equal(tus_concat(SPAN_STR(none[i]), &c, NULL), ERR_BAD_REQUEST);
}

static void metadata_gives_the_content_type(void **state)
{
    (void)state;
    char type[STREAM_TYPE_MAX + 1];
    assert_int_equal(tus_metadata(SPAN_LIT("filename d29ybGQ=,filetype aW1hZ2UvcG5n,flag"), type, NULL), 0);
    assert_string_equal(type, "image/png");
    assert_int_equal(tus_metadata(SPAN_LIT(" filetype aW1hZ2UvcG5n , a , b YQ=="), type, NULL), 0);
    assert_string_equal(type, "image/png");
    // What is no type is left alone: it is the client's own business.
    assert_int_equal(tus_metadata(SPAN_LIT("filetype AAEC"), type, NULL), 0);
    assert_string_equal(type, "");
    assert_int_equal(tus_metadata(SPAN_LIT("filetype cG5n"), type, NULL), 0);
    assert_string_equal(type, "");
    assert_int_equal(tus_metadata(SPAN_NONE, type, NULL), 0);
    assert_int_equal(tus_metadata(SPAN_LIT("  "), type, NULL), 0);
}

static void broken_metadata_is_refused(void **state)
{
    (void)state;
    char type[STREAM_TYPE_MAX + 1], many[1024] = "k0";
    static const char *const bad[] = {",", "a,", ",a", "a,,b", "a a", "a YQ", "a YQ= =", "a YR==", "a  YQ==", "a,a", "a YQ==,a", "a\tb", "\xc3\xa4 YQ=="};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(tus_metadata(SPAN_STR(bad[i]), type, NULL), ERR_BAD_REQUEST);
    size_t n = 2;
    for (int i = 1; i < 64; i++)
        n += (size_t)snprintf(many + n, sizeof many - n, ",k%d", i);
    assert_int_equal(tus_metadata(SPAN(many, n), type, NULL), 0);
    n += (size_t)snprintf(many + n, sizeof many - n, ",more");
    assert_int_equal(tus_metadata(SPAN(many, n), type, NULL), ERR_BAD_REQUEST);
    char *large = malloc(UPLOAD_METADATA_MAX + 1);
    memset(large, 'k', UPLOAD_METADATA_MAX + 1);
    assert_int_equal(tus_metadata(SPAN(large, UPLOAD_METADATA_MAX), type, NULL), 0);
    assert_int_equal(tus_metadata(SPAN(large, UPLOAD_METADATA_MAX + 1), type, NULL), ERR_BAD_REQUEST);
    free(large);
}

static void link_names_a_table_a_row_and_a_column(void **state)
{
    (void)state;
    struct tus_link l;
    assert_int_equal(tus_link(SPAN_LIT("messages/0199f6a0-0000-7000-8000-000000000001/file"), &l, NULL), 0);
    assert_true(span_is(l.table, "messages") && span_is(l.column, "file"));
    assert_int_equal(l.id.b[15], 1);
    static const char *const bad[] = {"", "/", "//", "messages", "messages/x/file", "messages/0199f6a0-0000-7000-8000-000000000001",
                                      "messages/0199f6a0-0000-7000-8000-000000000001/", "/0199f6a0-0000-7000-8000-000000000001/file"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(tus_link(SPAN_STR(bad[i]), &l, NULL), ERR_BAD_REQUEST);
}

// ---- holds ---------------------------------------------------------------------------------------------------------

struct holder {
    struct hold hold; // first
    int grants, stops;
    bool yields;        // lets go as soon as it is asked to
    bool quick;         // lets go as soon as it is granted
    struct holder *along; // and so does this one behind it, whether it was granted or not
};

static int granting; // at once

static void on_grant(struct hold *h)
{
    struct holder *holder = (struct holder *)h;
    assert_int_equal(granting++, 0);
    holder->grants++;
    if (holder->quick) hold_release(h);
    if (holder->along != NULL) hold_release(&holder->along->hold);
    granting--;
}

static void on_stop(struct hold *h)
{
    struct holder *holder = (struct holder *)h;
    holder->stops++;
    if (holder->yields) hold_release(h);
}

static struct holder holder_make(void)
{
    return (struct holder){.hold = {.grant = on_grant, .stop = on_stop}};
}

static void holder_is_asked_and_newcomer_waits(void **state)
{
    (void)state;
    struct holds set = {0};
    struct uuid id = {{1}}, other = {{2}};
    struct holder a = holder_make(), b = holder_make(), c = holder_make();
    hold_take(&set, &a.hold, id);
    hold_take(&set, &c.hold, other);
    assert_int_equal(a.grants + c.grants, 2); // one does not disturb the other
    assert_int_equal(a.stops, 0);
    hold_take(&set, &b.hold, id);
    assert_int_equal(a.stops, 1);
    assert_int_equal(b.grants, 0);
    assert_true(hold_contended(&a.hold));
    assert_false(hold_contended(&b.hold));
    assert_false(hold_contended(&c.hold));
    hold_release(&a.hold);
    assert_int_equal(b.grants, 1);
    hold_release(&a.hold); // again is fine
    hold_release(&c.hold);
    hold_release(&b.hold);
    assert_null(set.first);
    assert_null(set.last);
}

static void those_that_wait_are_granted_in_their_order(void **state)
{
    (void)state;
    struct holds set = {0};
    struct uuid id = {{1}};
    struct holder h[5];
    for (size_t i = 0; i < 5; i++)
        h[i] = holder_make();
    h[2].quick = true;
    for (size_t i = 0; i < 5; i++)
        hold_take(&set, &h[i].hold, id);
    assert_int_equal(h[0].stops, 4);
    hold_release(&h[1].hold); // gives up waiting
    hold_release(&h[0].hold);
    assert_int_equal(h[1].grants, 0);
    assert_int_equal(h[2].grants, 1);
    assert_int_equal(h[3].grants, 1); // because the one before was quick
    assert_int_equal(h[4].grants, 0);
    hold_release(&h[3].hold);
    assert_int_equal(h[4].grants, 1);
    hold_release(&h[4].hold);
    assert_null(set.first);
}

// However many there are, the stack does not grow with them.
static void those_that_let_go_at_once_are_granted_one_behind_the_other(void **state)
{
    (void)state;
    enum { COUNT = 10000 };
    struct holds set = {0};
    struct uuid id = {{1}};
    struct holder *h = calloc(COUNT, sizeof *h);
    for (size_t i = 0; i < COUNT; i++) {
        h[i] = holder_make();
        h[i].quick = i > 0;
        hold_take(&set, &h[i].hold, id);
    }
    hold_release(&h[0].hold);
    for (size_t i = 0; i < COUNT; i++)
        assert_int_equal(h[i].grants, 1);
    assert_null(set.first);
    free(h);
}

static void one_that_leaves_before_it_was_told_is_not_told(void **state)
{
    (void)state;
    struct holds set = {0};
    struct uuid id = {{1}};
    struct holder a = holder_make(), b = holder_make(), c = holder_make(), d = holder_make();
    b.quick = true;
    b.along = &c; // it was granted by then
    hold_take(&set, &a.hold, id);
    hold_take(&set, &b.hold, id);
    hold_take(&set, &c.hold, id);
    hold_take(&set, &d.hold, id);
    hold_release(&a.hold);
    assert_int_equal(b.grants, 1);
    assert_int_equal(c.grants, 0);
    assert_int_equal(d.grants, 1);
    hold_release(&d.hold);
    assert_null(set.first);
    assert_null(set.due);
}

static void holder_that_yields_at_once_makes_room_within_the_taking(void **state)
{
    (void)state;
    struct holds set = {0};
    struct uuid id = {{1}};
    struct holder a = holder_make(), b = holder_make();
    a.yields = true;
    hold_take(&set, &a.hold, id);
    hold_take(&set, &b.hold, id);
    assert_int_equal(b.grants, 1);
    hold_release(&b.hold);
    assert_null(set.first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_one_version_is_spoken),
        cmocka_unit_test(body_type_is_taken_in_any_case_and_with_parameters),
        cmocka_unit_test(numbers_are_digits_and_nothing_else),
        cmocka_unit_test(length_is_given_once_and_fits),
        cmocka_unit_test(checksum_is_of_a_kind_that_is_offered),
        cmocka_unit_test(list_names_a_field_in_any_case),
        cmocka_unit_test(parts_are_uploads_of_this_app),
        cmocka_unit_test(metadata_gives_the_content_type),
        cmocka_unit_test(broken_metadata_is_refused),
        cmocka_unit_test(link_names_a_table_a_row_and_a_column),
        cmocka_unit_test(holder_is_asked_and_newcomer_waits),
        cmocka_unit_test(those_that_wait_are_granted_in_their_order),
        cmocka_unit_test(those_that_let_go_at_once_are_granted_one_behind_the_other),
        cmocka_unit_test(one_that_leaves_before_it_was_told_is_not_told),
        cmocka_unit_test(holder_that_yields_at_once_makes_room_within_the_taking),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
