// Letters between threads: each is read once, in the order of sending, on the thread of the box; a closed box takes none.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>

#include "mailbox.h"

#define SENDERS 4
#define LETTERS 5000

struct box {
    uv_loop_t loop;
    struct mailbox *mailbox;
    pthread_t thread;
    int last[SENDERS], read;
    atomic_int refused;
};

struct note {
    struct letter letter; // first
    struct box *box;
    int sender, number;
};

struct sender {
    pthread_t thread;
    struct box *box;
    int number;
    struct note notes[LETTERS];
};

static void box_open(struct box *b)
{
    *b = (struct box){.read = 0};
    assert_int_equal(uv_loop_init(&b->loop), 0);
    assert_int_equal(mailbox_open(&b->mailbox, &b->loop), 0);
    b->thread = pthread_self();
    for (int i = 0; i < SENDERS; i++)
        b->last[i] = -1;
}

static void box_free(struct box *b)
{
    assert_int_equal(uv_loop_close(&b->loop), 0);
    mailbox_free(b->mailbox);
}

static void on_read(struct letter *l)
{
    struct note *n = (struct note *)l;
    assert_true(pthread_equal(pthread_self(), n->box->thread));
    assert_int_equal(n->number, n->box->last[n->sender] + 1);
    n->box->last[n->sender]++;
    n->box->read++;
}

static void *send_all(void *arg)
{
    struct sender *s = arg;
    for (int i = 0; i < LETTERS; i++) {
        s->notes[i] = (struct note){.letter.read = on_read, .box = s->box, .sender = s->number, .number = i};
        if (!mailbox_send(s->box->mailbox, &s->notes[i].letter)) atomic_fetch_add(&s->box->refused, 1);
    }
    return NULL;
}

static struct sender *senders_start(struct box *b)
{
    struct sender *s = calloc(SENDERS, sizeof *s);
    assert_non_null(s);
    for (int i = 0; i < SENDERS; i++) {
        s[i].box = b;
        s[i].number = i;
        assert_int_equal(pthread_create(&s[i].thread, NULL, send_all, &s[i]), 0);
    }
    return s;
}

static void senders_end(struct sender *s)
{
    for (int i = 0; i < SENDERS; i++)
        pthread_join(s[i].thread, NULL);
    free(s);
}

static void letters_of_many_threads_are_read_once_and_in_order(void **state)
{
    (void)state;
    struct box b;
    box_open(&b);
    struct sender *s = senders_start(&b);
    while (b.read < SENDERS * LETTERS)
        uv_run(&b.loop, UV_RUN_ONCE);
    mailbox_close(b.mailbox);
    uv_run(&b.loop, UV_RUN_DEFAULT);
    senders_end(s);
    assert_int_equal(b.read, SENDERS * LETTERS);
    assert_int_equal(atomic_load(&b.refused), 0);
    box_free(&b);
}

static void a_box_that_closes_reads_what_it_took_and_takes_no_more(void **state)
{
    (void)state;
    struct box b;
    box_open(&b);
    struct sender *s = senders_start(&b);
    while (b.read < LETTERS)
        uv_run(&b.loop, UV_RUN_ONCE);
    mailbox_close(b.mailbox); // while the others still send
    uv_run(&b.loop, UV_RUN_DEFAULT);
    senders_end(s);
    assert_int_equal(b.read + atomic_load(&b.refused), SENDERS * LETTERS);
    struct note late = {.letter.read = on_read, .box = &b};
    assert_false(mailbox_send(b.mailbox, &late.letter));
    box_free(&b);
    mailbox_free(NULL);
}

// A letter that is answered by another one to the same box, as loops with one app each do.
static void on_again(struct letter *l)
{
    struct note *n = (struct note *)l;
    if (++n->number < 100) assert_true(mailbox_send(n->box->mailbox, l));
    else n->box->read++;
}

static void a_letter_may_be_sent_again_when_it_is_read(void **state)
{
    (void)state;
    struct box b;
    box_open(&b);
    struct note n = {.letter.read = on_again, .box = &b};
    assert_true(mailbox_send(b.mailbox, &n.letter));
    assert_int_equal(n.number, 0); // never before the loop's next turn
    while (b.read == 0)
        uv_run(&b.loop, UV_RUN_ONCE);
    mailbox_close(b.mailbox);
    uv_run(&b.loop, UV_RUN_DEFAULT);
    assert_int_equal(n.number, 100);
    box_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(letters_of_many_threads_are_read_once_and_in_order),
        cmocka_unit_test(a_box_that_closes_reads_what_it_took_and_takes_no_more),
        cmocka_unit_test(a_letter_may_be_sent_again_when_it_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
