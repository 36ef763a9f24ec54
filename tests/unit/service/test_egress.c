// Frames that go aside: each is told of once, what a socket does not take is said, and an end waits for all.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "egress.h"

#define PEERS 300

struct peer {
    struct egress_frame frame; // first
    int ours, theirs;
    int dones, again; // puts itself again so often
    struct egress *egress;
};

struct rig {
    uv_loop_t loop;
    struct egress *egress;
    struct peer peers[PEERS];
};

static void on_done(struct egress_frame *f)
{
    struct peer *p = (struct peer *)f;
    assert_false(f->away);
    p->dones++;
    if (p->again-- <= 0) return;
    egress_put(p->egress, f, p->ours, f->bytes, 0, f->bytes->n);
    egress_flush(p->egress);
}

static int setup(void **state)
{
    struct rig *rig = calloc(1, sizeof *rig);
    uv_loop_init(&rig->loop);
    if (egress_open(&rig->egress, &rig->loop, 2, on_done) != 0) abort();
    for (int i = 0; i < PEERS; i++) {
        int fds[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) != 0) abort();
        rig->peers[i] = (struct peer){.ours = fds[0], .theirs = fds[1], .egress = rig->egress};
    }
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;
    egress_close(rig->egress);
    uv_run(&rig->loop, UV_RUN_DEFAULT);
    if (uv_loop_close(&rig->loop) != 0) abort();
    for (int i = 0; i < PEERS; i++)
        close(rig->peers[i].ours), close(rig->peers[i].theirs);
    free(rig);
    return 0;
}

static void put(struct rig *rig, int i, struct bytes *b)
{
    egress_put(rig->egress, &rig->peers[i].frame, rig->peers[i].ours, b, 0, b->n);
}

// All that one peer can read now.
static size_t take(int fd, char *out, size_t room)
{
    size_t n = 0;
    for (ssize_t got; n < room && (got = read(fd, out + n, room - n)) > 0;)
        n += (size_t)got;
    return n;
}

static void every_frame_is_sent_and_told_once(void **state)
{
    struct rig *rig = *state;
    struct bytes *b = bytes_new(SPAN_LIT("0123456789"));
    for (int i = 0; i < PEERS; i++) {
        rig->peers[i].again = i % 3;
        put(rig, i, b);
    }
    assert_int_equal(uv_run(&rig->loop, UV_RUN_NOWAIT), 0); // nothing is away before the flush
    assert_int_equal(rig->peers[0].dones, 0);
    egress_flush(rig->egress);
    uv_run(&rig->loop, UV_RUN_DEFAULT); // comes back when none is away any more
    for (int i = 0; i < PEERS; i++) {
        char text[64];
        assert_int_equal(rig->peers[i].dones, 1 + i % 3);
        assert_int_equal(rig->peers[i].frame.taken, 10);
        assert_int_equal(take(rig->peers[i].theirs, text, sizeof text), 10 * (1 + i % 3));
    }
    assert_int_equal(atomic_load(&b->refs), 1);
    bytes_unref(b);
}

static void what_a_socket_does_not_take_is_said(void **state)
{
    struct rig *rig = *state;
    static char text[4 * 1024 * 1024];
    memset(text, 'x', sizeof text);
    struct bytes *large = bytes_new(SPAN(text, sizeof text)), *small = bytes_new(SPAN_LIT("more"));
    put(rig, 0, large); // more than fits
    close(rig->peers[1].theirs);
    rig->peers[1].theirs = -1;
    put(rig, 1, small); // nobody is there
    egress_flush(rig->egress);
    uv_run(&rig->loop, UV_RUN_DEFAULT);
    size_t fits = rig->peers[0].frame.taken;
    assert_true(fits > 0 && fits < sizeof text);
    assert_int_equal(rig->peers[0].frame.err, 0);
    assert_int_equal(rig->peers[1].frame.err, EPIPE);
    put(rig, 0, small); // now it is full
    egress_flush(rig->egress);
    uv_run(&rig->loop, UV_RUN_DEFAULT);
    assert_int_equal(rig->peers[0].frame.taken, 0);
    assert_int_equal(rig->peers[0].frame.err, 0);
    assert_int_equal(take(rig->peers[0].theirs, text, sizeof text), fits);
    bytes_unref(large);
    bytes_unref(small);
}

static void an_end_waits_for_what_is_away(void **state)
{
    struct rig *rig = *state;
    struct bytes *b = bytes_new(SPAN_LIT("0123456789"));
    for (int i = 0; i < PEERS; i++)
        put(rig, i, b);
    egress_close(rig->egress); // flushes, too
    rig->egress = NULL;
    for (int i = 0; i < PEERS; i++) {
        char text[64];
        assert_int_equal(rig->peers[i].dones, 1);
        assert_int_equal(take(rig->peers[i].theirs, text, sizeof text), 10);
    }
    bytes_unref(b);
}

static void only_what_a_burst_has_beyond_a_few_goes_aside(void **state)
{
    struct rig *rig = *state;
    for (int turn = 0; turn < 3; turn++) {
        for (int i = 0; i < EGRESS_BURST / 2; i++)
            assert_int_equal(egress_takes(rig->egress), turn == 2);
        egress_flush(rig->egress); // a burst goes on over turns that have frames
    }
    egress_flush(rig->egress); // this one had none
    assert_false(egress_takes(rig->egress));
    egress_flush(NULL);
    egress_close(NULL);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(every_frame_is_sent_and_told_once),
        TEST(what_a_socket_does_not_take_is_said),
        TEST(an_end_waits_for_what_is_away),
        TEST(only_what_a_burst_has_beyond_a_few_goes_aside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
