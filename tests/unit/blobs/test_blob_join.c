// Uploads that are made of others, those whose length is said later, and those whose time is over.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "blob_lab.h"
#include "db.h"
#include "err.h"

#define TTL_MS 1000

static int setup(void **state)
{
    struct blob_lab *lab = calloc(1, sizeof *lab);
    lab_open(lab);
    lab->now_ms = 1000;
    *state = lab;
    return 0;
}

static int teardown(void **state)
{
    lab_close(*state);
    free(*state);
    return 0;
}

static int create(struct blob_lab *lab, struct uuid id, const struct upload_new *make)
{
    struct buf op;
    buf_init(&op, 64 * KIB);
    blobs_upload_put_create(&op, id, make);
    int err = lab_upload_op(lab, buf_span(&op));
    buf_free(&op);
    return err;
}

static int set_length(struct blob_lab *lab, struct uuid id, uint64_t length)
{
    struct buf op;
    buf_init(&op, KIB);
    blobs_upload_put_length(&op, id, length);
    int err = lab_upload_op(lab, buf_span(&op));
    buf_free(&op);
    return err;
}

static void expire(struct blob_lab *lab, struct uuid id)
{
    struct buf op;
    buf_init(&op, KIB);
    blobs_upload_put_expire(&op, id);
    assert_int_equal(lab_upload_op(lab, buf_span(&op)), 0); // never an error: the sweep must not fail for one
    buf_free(&op);
}

static struct upload_info info_of(struct blob_lab *lab, struct uuid id)
{
    struct upload_info info;
    assert_true(blobs_upload_find(lab->blobs, lab->txn, id, &info));
    return info;
}

static void check(struct blob_lab *lab)
{
    uint64_t n;
    assert_int_equal(blobs_check(lab->blobs, lab->txn, &n), 0);
    assert_int_equal(blobs_mark(lab->blobs, lab->txn, &n), 0);
}

// ---- joining ------------------------------------------------------------------------------------------------------------

static void put_part(struct buf *parts, const struct sha256 *digest)
{
    struct uuid id = uuid_new();
    buf_put(parts, id.b, sizeof id.b);
    buf_put(parts, digest->b, sizeof digest->b);
}

// One step as far as its commit. True: it was the last.
static bool step(struct blob_lab *lab, struct blob_join *j, struct sha256 *digest)
{
    struct buf op;
    buf_init(&op, MIB);
    assert_int_equal(blobs_join_next(j, lab->txn), 0);
    assert_int_equal(blobs_join_read(j), 0);
    bool last = blobs_join_last(j);
    blobs_join_progress(j, &op);
    assert_int_equal(lab_upload_op(lab, buf_span(&op)), 0);
    if (last) {
        buf_clear(&op);
        blobs_join_complete(j, &op, digest);
        assert_int_equal(lab_upload_op(lab, buf_span(&op)), 0);
    } else {
        blobs_join_kept(j);
    }
    buf_free(&op);
    return last;
}

// Between any two steps the process may be another one.
static struct sha256 join(struct blob_lab *lab, struct uuid id)
{
    struct sha256 digest = {{0}};
    for (bool last = false; !last;) {
        struct blob_join *j;
        assert_int_equal(blobs_join_open(lab->blobs, lab->txn, id, &j), 0);
        last = step(lab, j, &digest);
        blobs_join_close(j);
        check(lab);
        lab_reopen(lab);
    }
    return digest;
}

static void parts_are_joined_by_reference(void **state)
{
    struct blob_lab *lab = *state;
    static const size_t ends[] = {1, 300000, 300010, 2 * MIB};
    uint8_t *p = random_content(2 * MIB, 7);
    struct buf parts, whole;
    buf_init(&parts, 16 * KIB);
    buf_init(&whole, 8 * MIB);
    // Each part twice: what is reused is no special case.
    for (size_t round = 0; round < 2; round++) {
        for (size_t i = 0, at = 0; i < sizeof ends / sizeof *ends; at = ends[i++]) {
            struct sha256 digest;
            assert_int_equal(lab_upload(lab, SPAN(p + at, ends[i] - at), &digest), 0);
            put_part(&parts, &digest);
            buf_put(&whole, p + at, ends[i] - at);
        }
    }
    uint64_t stored = blobs_pack_bytes(lab->blobs);
    struct uuid id = uuid_new();
    struct upload_new make = {.kind = UPLOAD_JOINED, .length = whole.n, .parts = buf_span(&parts)};
    assert_int_equal(create(lab, id, &make), 0);
    struct sha256 is = join(lab, id), to_be = sha256_of(buf_span(&whole));
    assert_true(sha256_equal(&is, &to_be));
    assert_int_equal(info_of(lab, id).state, UPLOAD_DONE);
    assert_true(lab_holds(lab, buf_span(&whole)));
    assert_int_equal(blobs_pack_bytes(lab->blobs), stored);
    struct blob_join *j;
    assert_int_equal(blobs_join_open(lab->blobs, lab->txn, id, &j), ERR_EXISTS);
    assert_int_equal(blobs_join_open(lab->blobs, lab->txn, uuid_new(), &j), ERR_NO_SUCH_UPLOAD);
    buf_free(&parts);
    buf_free(&whole);
    free(p);
}

static void parts_that_do_not_fit_are_refused(void **state)
{
    struct blob_lab *lab = *state;
    struct sha256 digest, unknown = sha256_of(SPAN_LIT("never stored"));
    uint8_t room[UPLOAD_PART_BYTES];
    struct buf parts = {.p = room, .cap = sizeof room, .max = sizeof room};
    assert_int_equal(lab_upload(lab, SPAN_LIT("a part"), &digest), 0);
    put_part(&parts, &digest);
    struct upload_new make = {.kind = UPLOAD_JOINED, .length = 5, .parts = buf_span(&parts)};
    assert_int_equal(create(lab, uuid_new(), &make), ERR_BAD_VALUE);
    make.kind = UPLOAD_WHOLE;
    make.length = 6;
    assert_int_equal(create(lab, uuid_new(), &make), ERR_BAD_VALUE);
    buf_clear(&parts);
    put_part(&parts, &unknown);
    make = (struct upload_new){.kind = UPLOAD_JOINED, .length = 6, .parts = buf_span(&parts)};
    assert_int_equal(create(lab, uuid_new(), &make), ERR_BLOB_NOT_FOUND);
}

// ---- what parts are kept by ---------------------------------------------------------------------------------------------

// Every step that is due a long time from now, each as a batch of its own, until there is none.
static void let_time_pass(struct blob_lab *lab)
{
    struct buf step;
    buf_init(&step, 4096);
    lab->now_ms += 1000000;
    for (size_t n = 0; n < 4;) {
        buf_clear(&step);
        bool due = blobs_step_due(lab->blobs, lab->txn, lab->now_ms, 1, n, &step);
        if (due) assert_int_equal(lab_step(lab, buf_span(&step)), 0);
        n = due ? 0 : n + 1;
    }
    buf_free(&step);
}

static bool is_stored(struct blob_lab *lab, const struct sha256 *digest)
{
    struct blob_info info;
    return blobs_find(lab->blobs, lab->txn, digest, &info);
}

static int drop(struct blob_lab *lab, struct uuid id)
{
    struct buf op;
    buf_init(&op, KIB);
    blobs_upload_put_drop(&op, id);
    int err = lab_upload_op(lab, buf_span(&op));
    buf_free(&op);
    return err;
}

// Two parts that nothing else keeps, as a list.
static void make_parts(struct blob_lab *lab, struct buf *parts, struct sha256 digests[2])
{
    assert_int_equal(lab_upload(lab, SPAN_LIT("one part, "), &digests[0]), 0);
    assert_int_equal(lab_upload(lab, SPAN_LIT("and another"), &digests[1]), 0);
    buf_init(parts, KIB);
    put_part(parts, &digests[0]);
    put_part(parts, &digests[1]);
}

static void what_is_joined_keeps_its_parts_until_it_is_done(void **state)
{
    struct blob_lab *lab = *state;
    struct sha256 digests[2];
    struct buf parts;
    make_parts(lab, &parts, digests);
    struct uuid id = uuid_new();
    assert_int_equal(create(lab, id, &(struct upload_new){.kind = UPLOAD_JOINED, .length = 21, .parts = buf_span(&parts)}), 0);
    let_time_pass(lab);
    assert_true(is_stored(lab, &digests[0]) && is_stored(lab, &digests[1]));
    struct sha256 is = join(lab, id), to_be = sha256_of(SPAN_LIT("one part, and another"));
    assert_true(sha256_equal(&is, &to_be));
    let_time_pass(lab);
    assert_false(is_stored(lab, &digests[0]) || is_stored(lab, &digests[1]));
    assert_true(lab_holds(lab, SPAN_LIT("one part, and another"))); // the upload keeps it
    assert_int_equal(drop(lab, id), 0);
    let_time_pass(lab);
    assert_false(is_stored(lab, &is));
    check(lab);
    buf_free(&parts);
}

static void what_is_joined_lets_go_of_its_parts_when_it_ends_early(void **state)
{
    struct blob_lab *lab = *state;
    for (int expires = 0; expires < 2; expires++) {
        struct sha256 digests[2];
        struct buf parts;
        make_parts(lab, &parts, digests);
        struct uuid id = uuid_new();
        struct upload_new make = {.kind = UPLOAD_JOINED, .length = 21, .parts = buf_span(&parts), .ttl_ms = TTL_MS};
        assert_int_equal(create(lab, id, &make), 0);
        let_time_pass(lab);
        assert_true(is_stored(lab, &digests[0]) && is_stored(lab, &digests[1]));
        if (expires) expire(lab, id);
        else assert_int_equal(drop(lab, id), 0);
        let_time_pass(lab);
        assert_false(is_stored(lab, &digests[0]) || is_stored(lab, &digests[1]));
        check(lab);
        buf_free(&parts);
    }
}

static int set_parts(struct blob_lab *lab, struct uuid id, uint64_t length, struct span parts)
{
    struct buf op;
    buf_init(&op, 64 * KIB);
    blobs_upload_put_parts(&op, id, length, parts);
    int err = lab_upload_op(lab, buf_span(&op));
    buf_free(&op);
    return err;
}

static void parts_may_be_done_later(void **state)
{
    struct blob_lab *lab = *state;
    struct sha256 digests[2];
    struct buf parts, early, other;
    make_parts(lab, &parts, digests);
    buf_init(&early, KIB);
    buf_put_span(&early, buf_span(&parts));
    memset(early.p + UPLOAD_PART_BYTES + 16, 0, SHA256_BYTES); // the second one is not done
    struct uuid id = uuid_new();
    struct upload_new make = {.kind = UPLOAD_JOINED, .length = 21, .parts = buf_span(&early)};
    assert_int_equal(create(lab, id, &make), ERR_BLOB_NOT_FOUND);
    make.length = UPLOAD_LENGTH_UNKNOWN;
    assert_int_equal(create(lab, id, &make), 0);
    struct blob_join *j;
    assert_int_equal(blobs_join_open(lab->blobs, lab->txn, id, &j), ERR_BUSY);
    assert_int_equal(set_length(lab, id, 21), ERR_UPLOAD_LENGTH); // it is the parts'
    // Not others, not without one of them, not with another length.
    buf_init(&other, KIB);
    put_part(&other, &digests[0]);
    put_part(&other, &digests[1]);
    assert_int_equal(set_parts(lab, id, 21, buf_span(&other)), ERR_BAD_VALUE);
    assert_int_equal(set_parts(lab, id, 21, span_sub(buf_span(&parts), 0, UPLOAD_PART_BYTES)), ERR_BAD_VALUE);
    assert_int_equal(set_parts(lab, id, 10, buf_span(&early)), ERR_BLOB_NOT_FOUND);
    assert_int_equal(set_parts(lab, id, 22, buf_span(&parts)), ERR_BAD_VALUE);
    lab_reopen(lab);
    assert_int_equal(set_parts(lab, id, 21, buf_span(&parts)), 0);
    assert_int_equal(set_parts(lab, id, 21, buf_span(&parts)), ERR_BAD_VALUE);
    let_time_pass(lab);
    assert_true(is_stored(lab, &digests[0]) && is_stored(lab, &digests[1]));
    struct sha256 is = join(lab, id), to_be = sha256_of(SPAN_LIT("one part, and another"));
    assert_true(sha256_equal(&is, &to_be));
    let_time_pass(lab);
    assert_false(is_stored(lab, &digests[0]) || is_stored(lab, &digests[1])); // each reference was given back once
    check(lab);
    buf_free(&parts);
    buf_free(&early);
    buf_free(&other);
}

// ---- lengths and time -------------------------------------------------------------------------------------------------

static void length_is_said_once_and_not_below_the_offset(void **state)
{
    struct blob_lab *lab = *state;
    struct uuid id = uuid_new(), known = uuid_new();
    assert_int_equal(create(lab, id, &(struct upload_new){.length = UPLOAD_LENGTH_UNKNOWN}), 0);
    assert_int_equal(create(lab, known, &(struct upload_new){.length = 5}), 0);
    assert_int_equal(set_length(lab, known, 5), ERR_UPLOAD_LENGTH);
    assert_int_equal(set_length(lab, id, BLOB_BYTES_MAX + 1), ERR_BAD_VALUE);
    assert_int_equal(set_length(lab, id, 100), 0);
    assert_true(info_of(lab, id).made.length == 100);
    assert_int_equal(set_length(lab, id, 100), ERR_UPLOAD_LENGTH);
    lab_reopen(lab);
    assert_true(info_of(lab, id).made.length == 100);
    assert_int_equal(set_length(lab, uuid_new(), 1), ERR_NO_SUCH_UPLOAD);
}

static void expiry_takes_the_bytes_and_then_the_name(void **state)
{
    struct blob_lab *lab = *state;
    struct uuid id = uuid_new(), for_ever = uuid_new();
    assert_int_equal(create(lab, id, &(struct upload_new){.length = 10, .ttl_ms = TTL_MS}), 0);
    assert_int_equal(create(lab, for_ever, &(struct upload_new){.length = 10}), 0);
    assert_int_equal(blobs_uploads_open(lab->blobs, lab->txn, false), 2);
    uint64_t made_ms = info_of(lab, id).changed_ms;
    lab->now_ms = made_ms + TTL_MS - 1;
    expire(lab, id);
    assert_int_equal(info_of(lab, id).state, UPLOAD_OPEN);
    lab->now_ms = made_ms + TTL_MS;
    expire(lab, id);
    expire(lab, for_ever);
    expire(lab, uuid_new());
    assert_int_equal(info_of(lab, id).state, UPLOAD_EXPIRED);
    assert_int_equal(info_of(lab, for_ever).state, UPLOAD_OPEN);
    assert_int_equal(blobs_uploads_open(lab->blobs, lab->txn, false), 1);
    lab_reopen(lab);
    lab->now_ms++;
    expire(lab, id); // it is remembered as long again
    assert_int_equal(info_of(lab, id).state, UPLOAD_EXPIRED);
    struct blob_upload *u;
    assert_int_equal(blobs_upload_resume(lab->blobs, lab->txn, id, &u), ERR_EXISTS);
    lab->now_ms = made_ms + 2 * TTL_MS;
    expire(lab, id);
    struct upload_info info;
    assert_false(blobs_upload_find(lab->blobs, lab->txn, id, &info));
    check(lab);
}

struct seen {
    struct uuid ids[20];
    size_t count;
};

static void see(void *ctx, const struct upload_info *i)
{
    struct seen *s = ctx;
    assert_true(s->count < 20);
    s->ids[s->count++] = i->id;
}

static void scan_sees_each_upload_once_a_round(void **state)
{
    struct blob_lab *lab = *state;
    struct uuid cursor = {{0}};
    struct seen s = {.count = 0};
    assert_int_equal(blobs_uploads_scan(lab->blobs, lab->txn, &cursor, 4, see, &s), 0);
    assert_int_equal(s.count, 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(create(lab, uuid_new(), &(struct upload_new){.length = 1}), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(blobs_uploads_scan(lab->blobs, lab->txn, &cursor, 4, see, &s), 0);
    assert_int_equal(s.count, 10);
    for (size_t i = 1; i < s.count; i++)
        assert_true(memcmp(s.ids[i - 1].b, s.ids[i].b, 16) < 0);
    struct uuid none = {{0}};
    assert_true(uuid_equal(cursor, none));
    assert_int_equal(blobs_uploads_scan(lab->blobs, lab->txn, &cursor, 4, see, &s), 0);
    assert_true(uuid_equal(s.ids[0], s.ids[10]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(parts_are_joined_by_reference, setup, teardown),
        cmocka_unit_test_setup_teardown(parts_that_do_not_fit_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_joined_keeps_its_parts_until_it_is_done, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_joined_lets_go_of_its_parts_when_it_ends_early, setup, teardown),
        cmocka_unit_test_setup_teardown(parts_may_be_done_later, setup, teardown),
        cmocka_unit_test_setup_teardown(length_is_said_once_and_not_below_the_offset, setup, teardown),
        cmocka_unit_test_setup_teardown(expiry_takes_the_bytes_and_then_the_name, setup, teardown),
        cmocka_unit_test_setup_teardown(scan_sees_each_upload_once_a_round, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
