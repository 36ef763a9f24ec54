#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "compress.h"
#include "err.h"
#include "file.h"
#include "stream_rig.h"
#include "stream_store.h"

static int setup(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    rig_open(r);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    rig_close(*state);
    free(*state);
    return 0;
}

// 0: text, 1: what does not pack.
static void put(struct rig *r, const char *path, size_t n, int kind, uint32_t x, struct buf *want)
{
    static const char words[] = "all work and no play makes jack a dull boy, said the king to the queen. ";
    uint8_t *p = malloc(n);
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525 + 1013904223;
        p[i] = kind == 0 ? (uint8_t)words[(i + (x >> 31)) % (sizeof words - 1)] : (uint8_t)(x >> 24);
    }
    rig_begin(r);
    assert_int_equal(rig_append(r, path, SPAN(p, n), NULL), 0);
    rig_end(r);
    if (want != NULL) buf_put(want, p, n);
    free(p);
}

struct counts {
    int files, packed, copies, slices;
};

// Takes the stream apart from `from` on and puts it together again.
static struct counts walk(struct rig *r, const char *path, uint64_t from, bool packed, struct buf *out)
{
    struct counts c = {0};
    struct stream_info info;
    assert_true(rig_find(r, path, &info));
    while (from < info.offset) {
        struct stream_slice slice;
        assert_int_equal(streams_slice(r->s, r->txn, info.number, from, info.offset, packed, &slice), 0);
        assert_true(slice.n > 0 && slice.n <= STREAM_SLICE_MAX);
        struct buf piece;
        buf_init(&piece, 2 * MIB);
        if (slice.fd >= 0) {
            assert_int_equal(file_read(slice.fd, buf_reserve(&piece, slice.length), slice.length, slice.position), 0);
            piece.n = slice.length;
            c.files++;
        } else {
            buf_put(&piece, slice.bytes->p + slice.at, slice.length);
            c.copies++;
        }
        if (slice.packed) {
            assert_true(packed);
            assert_int_equal(zstd_unpack(out, buf_span(&piece), slice.n), 0);
            c.packed++;
        } else {
            assert_int_equal(slice.length, slice.n);
            buf_put_span(out, buf_span(&piece));
        }
        from += slice.n;
        c.slices++;
        buf_free(&piece);
        streams_slice_free(&slice);
    }
    assert_int_equal(out->err, 0);
    return c;
}

static void check(struct rig *r, const char *path, uint64_t from, bool packed, const struct buf *want, struct counts *c)
{
    struct buf out;
    buf_init(&out, 16 * MIB);
    *c = walk(r, path, from, packed, &out);
    assert_true(span_equal(buf_span(&out), span_sub(buf_span(want), from, want->n)));
    buf_free(&out);
}

static void bytes_are_given_as_they_lie(void **state)
{
    struct rig *r = *state;
    struct buf want;
    struct counts c;
    buf_init(&want, 16 * MIB);
    rig_create1(r, "a");
    put(r, "a", 3 * MIB, 0, 1, &want);
    rig_seal_all(r);
    put(r, "a", 2 * MIB, 1, 2, &want);
    rig_seal_all(r);
    put(r, "a", 300000, 0, 3, &want); // in the tail
    check(r, "a", 0, true, &want, &c);
    assert_int_equal(c.packed, 3);
    assert_int_equal(c.files, 5);
    check(r, "a", 0, false, &want, &c);
    assert_int_equal(c.packed, 0);
    assert_int_equal(c.files, 2);
    check(r, "a", 1 * MIB + 5, true, &want, &c); // begins inside a record
    assert_int_equal(c.packed, 1);
    check(r, "a", 4 * MIB + 5, false, &want, &c);
    assert_int_equal(c.files, 1);
    check(r, "a", want.n - 1, true, &want, &c);
    assert_int_equal(c.slices, 1);
    buf_free(&want);
}

static void where_descriptors_run_out_bytes_are_copied(void **state)
{
    struct rig *r = *state;
    struct buf want;
    struct counts c;
    struct rlimit all, none;
    buf_init(&want, 16 * MIB);
    rig_create1(r, "a");
    put(r, "a", 1 * MIB, 0, 1, &want);
    put(r, "a", 1 * MIB, 1, 2, &want);
    rig_seal_all(r);
    check(r, "a", 0, true, &want, &c); // the store has its file open
    assert_int_equal(c.files, 2);
    int next = fcntl(0, F_DUPFD_CLOEXEC, 0);
    close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &all), 0);
    none = all;
    none.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    check(r, "a", 0, true, &want, &c);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &all), 0);
    assert_int_equal(c.files, 0);
    buf_free(&want);
}

static void small_streams_that_share_a_record_are_copied(void **state)
{
    struct rig *r = *state;
    struct buf want;
    struct counts c;
    buf_init(&want, 16 * MIB);
    rig_create1(r, "a");
    rig_create1(r, "b");
    put(r, "b", 1000, 0, 1, NULL);
    put(r, "a", 1000, 0, 2, &want);
    rig_seal_all(r);
    check(r, "a", 0, true, &want, &c);
    assert_int_equal(c.files, 0);
    buf_free(&want);
}

static void what_does_not_verify_is_not_sent(void **state)
{
    struct rig *r = *state;
    struct stream_slice slice;
    struct stream_info info;
    char name[SEGMENT_NAME_MAX];
    rig_create1(r, "a");
    put(r, "a", 1 * MIB, 1, 1, NULL);
    rig_seal_all(r);
    stream_segment_name(name, r->segments, 0);
    int fd = file_open(name, 2);
    assert_int_equal(file_write(fd, SPAN_LIT("damage"), 5000), 0);
    file_close(fd);
    assert_true(rig_find(r, "a", &info));
    assert_int_equal(streams_slice(r->s, r->txn, info.number, 0, info.offset, false, &slice), ERR_CORRUPT);
}

static void a_file_that_is_given_back_is_still_readable_by_who_has_a_slice(void **state)
{
    struct rig *r = *state;
    struct stream_slice slice;
    struct stream_info info;
    uint8_t byte;
    rig_create1(r, "a");
    for (int i = 0; i < 17; i++) {
        put(r, "a", 4 * MIB, 1, 1, NULL);
        rig_seal_all(r);
    }
    assert_true(rig_find(r, "a", &info));
    assert_int_equal(streams_slice(r->s, r->txn, info.number, 0, info.offset, false, &slice), 0);
    rig_delete1(r, "a");
    for (int i = 0; i < 20; i++) {
        streams_reclaim(r->s, r->txn);
        rig_commit(r);
        streams_committed(r->s);
    }
    assert_int_equal(file_read(slice.fd, &byte, 1, slice.position), 0);
    streams_slice_free(&slice);
    assert_int_equal(streams_slice(r->s, r->txn, info.number, 0, info.offset, false, &slice), ERR_NO_SUCH_STREAM);
}

static void a_page_of_messages_ends_behind_one(void **state)
{
    struct rig *r = *state;
    struct stream_info info;
    uint64_t to;
    rig_begin(r);
    assert_int_equal(rig_create(r, "j", "application/json", false), 0);
    rig_end(r);
    for (int i = 0; i < 3; i++) {
        struct stream_append op = {.path = SPAN_LIT("j"), .messages = true};
        struct stream_appended done;
        rig_begin(r);
        op.data = rig_data(r, SPAN_LIT("{\"a\":1},\n[2],\n"));
        assert_int_equal(streams_decide_append(r->batch, &op, &done, NULL), 0);
        rig_end(r);
        if (i == 0) rig_seal_all(r);
    }
    assert_true(rig_find(r, "j", &info));
    assert_int_equal(info.offset, 42);
    assert_int_equal(streams_page(r->s, r->txn, info.number, 0, 1000, &to), 0);
    assert_int_equal(to, 42);
    assert_int_equal(streams_page(r->s, r->txn, info.number, 0, 27, &to), 0);
    assert_int_equal(to, 23);
    assert_int_equal(streams_page(r->s, r->txn, info.number, 9, 12, &to), 0);
    assert_int_equal(to, 14);
    assert_int_equal(streams_page(r->s, r->txn, info.number, 10, 12, &to), ERR_BAD_OFFSET);
    assert_int_equal(streams_page(r->s, r->txn, info.number, 43, 12, &to), ERR_BAD_OFFSET);
}

static void a_forks_slices_come_from_its_sources(void **state)
{
    struct rig *r = *state;
    struct buf want;
    struct counts c;
    bool created;
    struct stream_create op = {.path = SPAN_LIT("fork"), .fork_of = SPAN_LIT("a"), .has_fork_offset = true, .fork_offset = 3 * MIB / 2};
    buf_init(&want, 16 * MIB);
    rig_create1(r, "a");
    put(r, "a", 1 * MIB, 1, 1, &want);
    put(r, "a", 1 * MIB, 0, 2, &want);
    rig_seal_all(r);
    rig_begin(r);
    assert_int_equal(streams_decide_create(r->batch, &op, &created, NULL, NULL), 0);
    rig_end(r);
    buf_truncate(&want, 3 * MIB / 2);
    put(r, "a", 1000, 0, 3, NULL); // not the fork's
    put(r, "fork", 200000, 1, 4, &want);
    rig_seal_all(r);
    put(r, "fork", 1000, 1, 5, &want);
    check(r, "fork", 0, true, &want, &c);
    assert_int_equal(c.files, 2);
    assert_int_equal(c.packed, 0); // of the one that packs, the fork has a part
    check(r, "fork", 12345, false, &want, &c);
    buf_free(&want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bytes_are_given_as_they_lie, setup, teardown),
        cmocka_unit_test_setup_teardown(where_descriptors_run_out_bytes_are_copied, setup, teardown),
        cmocka_unit_test_setup_teardown(small_streams_that_share_a_record_are_copied, setup, teardown),
        cmocka_unit_test_setup_teardown(what_does_not_verify_is_not_sent, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_that_is_given_back_is_still_readable_by_who_has_a_slice, setup, teardown),
        cmocka_unit_test_setup_teardown(a_page_of_messages_ends_behind_one, setup, teardown),
        cmocka_unit_test_setup_teardown(a_forks_slices_come_from_its_sources, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
