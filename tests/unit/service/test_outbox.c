#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka.h needs the four above.
#include <cmocka.h>

#include <unistd.h>

#include <stdio.h>
#include <stdlib.h>

#include "buf.h"
#include "outbox.h"

// Takes `n` bytes off the front, in the way of a socket.
static void take(struct outbox *o, struct buf *out, size_t n)
{
    struct iovec iov[7];
    int count = outbox_gather(o, iov, 7);
    size_t taken = 0;
    for (int i = 0; i < count && taken < n; i++) {
        size_t part = iov[i].iov_len < n - taken ? iov[i].iov_len : n - taken;
        buf_put(out, iov[i].iov_base, part);
        taken += part;
    }
    outbox_consume(o, taken);
}

static void bytes_come_out_as_they_went_in(void **state)
{
    (void)state;
    struct outbox o = {0};
    struct buf in, out;
    buf_init(&in, 1 << 24);
    buf_init(&out, 1 << 24);
    srandom(7);
    for (int i = 0; i < 5000; i++) {
        uint8_t piece[3000];
        size_t n = (size_t)random() % (i % 3 == 0 ? sizeof piece : 50);
        for (size_t k = 0; k < n; k++)
            piece[k] = (uint8_t)random();
        buf_put(&in, piece, n);
        if (i % 2 == 0) {
            assert_true(outbox_copy(&o, SPAN(piece, n)));
        } else {
            struct bytes *b = bytes_new(SPAN(piece, n));
            assert_true(outbox_share(&o, b));
            bytes_unref(b);
        }
        assert_int_equal(o.n, in.n - out.n);
        if (i % 5 == 0) take(&o, &out, (size_t)random() % 12000);
    }
    while (o.n > 0)
        take(&o, &out, 100000);
    assert_true(span_equal(buf_span(&in), buf_span(&out)));
    assert_int_equal(o.count, 0);
    outbox_free(&o);
    buf_free(&in);
    buf_free(&out);
}

static void large_pieces_are_shared_and_let_go(void **state)
{
    (void)state;
    struct outbox o = {0};
    struct bytes *b = bytes_alloc(100000);
    memset(b->p, 'x', b->n);
    assert_true(outbox_share(&o, b));
    struct iovec iov;
    assert_int_equal(outbox_gather(&o, &iov, 1), 1);
    assert_ptr_equal(iov.iov_base, b->p);
    assert_int_equal(atomic_load(&b->refs), 2);
    outbox_consume(&o, 99999);
    assert_int_equal(atomic_load(&b->refs), 2);
    outbox_consume(&o, 1);
    assert_int_equal(atomic_load(&b->refs), 1);
    assert_true(outbox_share(&o, b));
    outbox_free(&o);
    assert_int_equal(atomic_load(&b->refs), 1);
    bytes_unref(b);
}

static void what_was_gathered_stays_in_place_while_more_comes(void **state)
{
    (void)state;
    struct outbox o = {0};
    assert_true(outbox_copy(&o, SPAN_LIT("first")));
    struct iovec iov;
    outbox_gather(&o, &iov, 1);
    for (int i = 0; i < 1000; i++)
        assert_true(outbox_copy(&o, SPAN_LIT("more and more")));
    assert_memory_equal(iov.iov_base, "first", 5);
    assert_int_equal(iov.iov_len, 5);
    assert_int_equal(o.n, 5 + 13000);
    assert_true(o.count < 20); // small copies share pages
    outbox_free(&o);
}

static void a_piece_of_a_file_waits_between_others(void **state)
{
    (void)state;
    struct outbox o = {0};
    struct iovec iov[4];
    FILE *f = tmpfile();
    fputs("0123456789", f);
    fflush(f);
    assert_true(outbox_copy(&o, SPAN_LIT("before")));
    assert_true(outbox_file(&o, dup(fileno(f)), 2, 7));
    assert_true(outbox_copy(&o, SPAN_LIT("behind")));
    assert_int_equal(o.n, 19);
    assert_null(outbox_first_file(&o));
    assert_int_equal(outbox_gather(&o, iov, 4), 1);
    outbox_consume(&o, 6);
    assert_int_equal(outbox_first_file(&o)->from, 2);
    outbox_consume(&o, 1); // sent
    assert_int_equal(outbox_first_file(&o)->from, 3);
    assert_true(outbox_load(&o, 2));
    assert_int_equal(outbox_gather(&o, iov, 4), 1);
    assert_memory_equal(iov[0].iov_base, "34", 2);
    outbox_consume(&o, 2);
    assert_true(outbox_load(&o, 100));
    assert_int_equal(outbox_gather(&o, iov, 4), 2);
    assert_memory_equal(iov[0].iov_base, "5678", 4);
    assert_memory_equal(iov[1].iov_base, "behind", 6);
    outbox_consume(&o, 10);
    assert_int_equal(o.n, 0);
    assert_true(outbox_file(&o, dup(fileno(f)), 9, 5)); // more than there is
    assert_false(outbox_load(&o, 5));
    outbox_free(&o);
    fclose(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_come_out_as_they_went_in),
        cmocka_unit_test(large_pieces_are_shared_and_let_go),
        cmocka_unit_test(what_was_gathered_stays_in_place_while_more_comes),
        cmocka_unit_test(a_piece_of_a_file_waits_between_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
