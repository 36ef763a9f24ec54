// What an outbox keeps, where the disk fails, the process is killed or the power cut at any call, and where several use it at once.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "disk.h"
#include "err.h"
#include "file.h"
#include "image.h"
#include "limits.h"
#include "log.h"
#include "outbox_store.h"
#include "tmp.h"

static const struct outbox_bounds wide = {OUTBOX_BATCHES_MAX, OUTBOX_BYTES_MAX};

static struct outbox_store *opened(const char *path)
{
    struct outbox_store *st = NULL;
    assert_int_equal(outbox_store_open(&st, path), 0);
    return st;
}

static int put(struct outbox_store *st, const char *text, uint64_t *id)
{
    const struct outbox_item item = {.made_ms = 1000, .merges = true, .tag = SPAN_STR(text), .text = SPAN_STR(text)};
    return outbox_store_put(st, &item, wide, id);
}

static uint64_t puts_one(struct outbox_store *st, const char *text)
{
    uint64_t id = 0;
    assert_int_equal(put(st, text, &id), 0);
    return id;
}

static int settle(struct outbox_store *st, uint64_t id, enum outbox_state state, const char *answer)
{
    const struct outbox_fate fate = {.id = id, .state = state, .at = 0, .n = strlen(answer)};
    return outbox_store_settle(st, &fate, 1, SPAN_STR(answer));
}

static struct outbox_item item_of(struct outbox_store *st, uint64_t id, struct buf *room)
{
    struct outbox_item item;
    assert_int_equal(outbox_store_next_waiting(st, id - 1, &item, room), 0);
    assert_int_equal(item.id, id);
    return item;
}

static uint64_t counter_of(struct outbox_store *st, uint64_t id)
{
    struct buf room;
    buf_init(&room, MIB);
    uint64_t counter = item_of(st, id, &room).counter;
    buf_free(&room);
    return counter;
}

// ---- life ------------------------------------------------------------------------------------------------------

static void a_batch_and_its_fate_are_there_until_it_was_seen(void **state)
{
    char *folder = tmp_make(), *path = tmp_path(folder, "outbox");
    struct buf room;
    struct outbox_item item;
    struct outbox_head head;
    (void)state;
    buf_init(&room, MIB);
    struct outbox_store *st = opened(path);
    assert_int_equal(outbox_store_next_waiting(st, 0, &item, &room), ERR_NOT_FOUND);
    assert_int_equal(puts_one(st, "one"), 1);
    assert_int_equal(puts_one(st, "two"), 2);
    outbox_store_close(st);
    st = opened(path);
    item = item_of(st, 1, &room);
    assert_true(span_is(item.text, "one") && span_is(item.tag, "one"));
    assert_int_equal(item.counter, 0);
    assert_int_equal(settle(st, 1, OUTBOX_ACCEPTED, "{}"), 0);
    assert_int_equal(settle(st, 1, OUTBOX_ACCEPTED, "{}"), ERR_NOT_FOUND);
    outbox_store_close(st);
    st = opened(path);
    assert_int_equal(outbox_store_next_waiting(st, 0, &item, &room), 0);
    assert_int_equal(item.id, 2);
    assert_int_equal(outbox_store_next_settled(st, 0, &item, &room), 0);
    assert_true(item.id == 1 && item.state == OUTBOX_ACCEPTED && span_is(item.text, "{}") && span_is(item.tag, "one"));
    assert_int_equal(outbox_store_head(st, &head), 0);
    assert_true(head.count == 2 && head.waiting == 1 && head.bytes == 3 + 2 + 3 + 3);
    assert_int_equal(outbox_store_seen(st, 1), 0);
    assert_int_equal(outbox_store_seen(st, 1), ERR_NOT_FOUND);
    assert_int_equal(outbox_store_drop(st, 2), 0);
    assert_int_equal(outbox_store_head(st, &head), 0);
    assert_true(head.count == 0 && head.waiting == 0 && head.bytes == 0);
    assert_int_equal(puts_one(st, "three"), 3); // ids are not used again
    outbox_store_close(st);
    buf_free(&room);
    free(path);
    tmp_remove(folder);
}

static void names_are_given_in_order_and_no_counter_twice(void **state)
{
    char *folder = tmp_make();
    struct outbox_store *st = opened(folder);
    (void)state;
    for (int i = 0; i < 5; i++)
        puts_one(st, "some");
    assert_int_equal(outbox_store_name(st, 2, 0), 0);
    assert_true(counter_of(st, 1) == 1 && counter_of(st, 2) == 2 && counter_of(st, 3) == 0);
    assert_int_equal(outbox_store_drop(st, 2), ERR_EXISTS);
    assert_int_equal(outbox_store_drop(st, 3), 0);
    assert_int_equal(settle(st, 1, OUTBOX_REJECTED, "{}"), 0);
    outbox_store_close(st);
    st = opened(folder);
    assert_int_equal(outbox_store_name(st, 100, 0), 0);
    assert_true(counter_of(st, 2) == 2 && counter_of(st, 4) == 3 && counter_of(st, 5) == 4);
    outbox_store_close(st);
    tmp_remove(folder);
}

static void behind_one_that_cannot_be_sent_names_are_of_another_replica(void **state)
{
    char *folder = tmp_make();
    struct outbox_store *st = opened(folder);
    struct outbox_item first, later;
    struct buf room;
    (void)state;
    buf_init(&room, MIB);
    for (int i = 0; i < 4; i++)
        puts_one(st, "some");
    assert_int_equal(outbox_store_name(st, 3, 0), 0);
    assert_int_equal(outbox_store_refuse(st, 2, SPAN_LIT("{\"code\":\"bad_batch\"}")), 0);
    first = item_of(st, 1, &room);
    assert_int_equal(first.counter, 1); // it may have been settled: it keeps its name
    assert_int_equal(counter_of(st, 3), 0);
    assert_int_equal(outbox_store_name(st, 100, 0), 0);
    later = item_of(st, 3, &room);
    assert_int_equal(later.counter, 1);
    assert_int_equal(counter_of(st, 4), 2);
    assert_false(uuid_equal(first.replica, later.replica));
    assert_int_equal(outbox_store_next_settled(st, 0, &later, &room), 0);
    assert_true(later.id == 2 && later.state == OUTBOX_UNSENDABLE);
    outbox_store_close(st);
    buf_free(&room);
    tmp_remove(folder);
}

static void a_batch_is_made_when_it_is_put(void **state)
{
    char *folder = tmp_make();
    struct outbox_store *st = opened(folder);
    struct outbox_item a, b;
    struct buf room;
    uint64_t id;
    (void)state;
    buf_init(&room, MIB);
    puts_one(st, "nothing known");
    assert_int_equal(outbox_store_bind(st, uuid_new()), 0);
    assert_int_equal(outbox_store_know(st, 7, 0), 0);
    puts_one(st, "told of 7");
    assert_int_equal(outbox_store_know(st, 9, 5), 0);
    puts_one(st, "saw 5");
    const struct outbox_item says = {.made_ms = 1, .merges = true, .says_base = true, .says_stamp = true, .text = SPAN_LIT("x")};
    assert_int_equal(outbox_store_put(st, &says, wide, &id), 0);
    const struct outbox_item other = {.made_ms = 1, .text = SPAN_LIT("x")};
    assert_int_equal(outbox_store_put(st, &other, wide, &id), 0);
    a = item_of(st, 1, &room);
    assert_int_equal(a.base, 0);
    assert_int_equal(a.stamp, 1000ull << 16);
    b = item_of(st, 2, &room);
    assert_int_equal(b.base, 7);
    assert_true(b.stamp > a.stamp); // in one millisecond
    assert_int_equal(item_of(st, 3, &room).base, 5);
    for (id = 4; id <= 5; id++)
        assert_true(item_of(st, id, &room).base == 0 && item_of(st, id, &room).stamp == 0);
    // Who knew nothing has seen nothing, and that can be said once there is a first commit.
    assert_int_equal(outbox_store_name(st, 100, 9), 0);
    assert_int_equal(item_of(st, 1, &room).base, 1);
    assert_int_equal(item_of(st, 4, &room).base, 0);
    // Of another journal nothing is known.
    assert_int_equal(outbox_store_adopt(st), 0);
    assert_int_equal(counter_of(st, 3), 0);
    assert_int_equal(item_of(st, 3, &room).base, 5);
    assert_int_equal(outbox_store_bind(st, uuid_new()), 0);
    assert_int_equal(item_of(st, 3, &room).base, 0);
    outbox_store_close(st);
    buf_free(&room);
    tmp_remove(folder);
}

static void a_clock_that_was_put_right_is_followed(void **state)
{
    char *folder = tmp_make();
    struct outbox_store *st = opened(folder);
    const uint64_t now = 1000000000, times[] = {now, now - 5000, now + 3600000, now + 1};
    uint64_t stamps[4], id;
    struct buf room;
    (void)state;
    buf_init(&room, MIB);
    for (size_t i = 0; i < 4; i++) {
        const struct outbox_item item = {.made_ms = times[i], .merges = true, .text = SPAN_LIT("x")};
        assert_int_equal(outbox_store_put(st, &item, wide, &id), 0);
        stamps[i] = item_of(st, id, &room).stamp;
    }
    assert_true(stamps[1] > stamps[0]); // a little back: what was made later is later
    assert_int_equal(stamps[2] >> 16, times[2]);
    assert_int_equal(stamps[3] >> 16, times[3]);
    outbox_store_close(st);
    buf_free(&room);
    tmp_remove(folder);
}

static void at_a_bound_nothing_is_put(void **state)
{
    char *folder = tmp_make();
    struct outbox_store *st = opened(folder);
    const struct outbox_bounds two = {2, 100}, few = {100, 10};
    const struct outbox_item item = {.text = SPAN_LIT("12345")};
    uint64_t id;
    (void)state;
    assert_int_equal(outbox_store_put(st, &item, two, &id), 0);
    assert_int_equal(outbox_store_put(st, &item, two, &id), 0);
    assert_int_equal(outbox_store_put(st, &item, two, &id), ERR_TOO_MANY);
    assert_int_equal(outbox_store_put(st, &item, few, &id), ERR_TOO_MANY);
    assert_int_equal(settle(st, 1, OUTBOX_ACCEPTED, "{}"), 0);
    assert_int_equal(outbox_store_put(st, &item, two, &id), ERR_TOO_MANY); // its fate takes a place too
    assert_int_equal(outbox_store_seen(st, 1), 0);
    assert_int_equal(outbox_store_put(st, &item, two, &id), 0);
    assert_int_equal(id, 3);
    outbox_store_close(st);
    tmp_remove(folder);
}

static void fates_that_come_together_are_kept_together(void **state)
{
    char *folder = tmp_make();
    struct outbox_store *st = opened(folder);
    struct outbox_item item;
    struct outbox_fate fates[] = {{1, OUTBOX_ACCEPTED, 0, 3}, {2, OUTBOX_REJECTED, 3, 5}, {9, OUTBOX_ACCEPTED, 0, 3}};
    struct buf room;
    (void)state;
    buf_init(&room, MIB);
    for (int i = 0; i < 3; i++)
        puts_one(st, "some");
    assert_int_equal(outbox_store_settle(st, fates, 3, SPAN_LIT("onetwo..")), ERR_NOT_FOUND);
    assert_int_equal(outbox_store_next_settled(st, 0, &item, &room), ERR_NOT_FOUND); // all or none
    assert_int_equal(outbox_store_settle(st, fates, 2, SPAN_LIT("onetwo..")), 0);
    assert_int_equal(outbox_store_next_settled(st, 0, &item, &room), 0);
    assert_true(item.id == 1 && span_is(item.text, "one"));
    assert_int_equal(outbox_store_next_settled(st, 1, &item, &room), 0);
    assert_true(item.id == 2 && item.state == OUTBOX_REJECTED && span_is(item.text, "two.."));
    assert_int_equal(outbox_store_next_waiting(st, 0, &item, &room), 0);
    assert_int_equal(item.id, 3);
    outbox_store_close(st);
    buf_free(&room);
    tmp_remove(folder);
}

// ---- several at once -------------------------------------------------------------------------------------------

#define EACH 40

static void *put_many(void *path)
{
    struct outbox_store *st = opened(path);
    for (int i = 0; i < EACH; i++)
        puts_one(st, "from a thread");
    outbox_store_close(st);
    return NULL;
}

static void threads_and_processes_share_one(void **state)
{
    char *folder = tmp_make(), *path = tmp_path(folder, "outbox");
    pthread_t threads[3];
    pid_t children[2];
    struct outbox_head head;
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        children[i] = fork();
        if (children[i] == 0) _exit(put_many(path) == NULL ? 0 : 1);
    }
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, put_many, path), 0);
    for (size_t i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < 2; i++) {
        int status;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
    struct outbox_store *st = opened(path);
    assert_int_equal(outbox_store_head(st, &head), 0);
    assert_int_equal(head.waiting, 5 * EACH);
    assert_int_equal(puts_one(st, "the next"), 5 * EACH + 1);
    outbox_store_close(st);
    free(path);
    tmp_remove(folder);
}

static void one_at_a_time_sends(void **state)
{
    char *folder = tmp_make();
    struct outbox_store *a = opened(folder), *b = opened(folder);
    (void)state;
    int fd = outbox_store_lock_sender(a);
    assert_true(fd >= 0);
    assert_int_equal(outbox_store_lock_sender(b), -1);
    assert_int_equal(puts_one(b, "meanwhile"), 1);
    file_close(fd);
    fd = outbox_store_lock_sender(b);
    assert_true(fd >= 0);
    file_close(fd);
    outbox_store_close(a);
    outbox_store_close(b);
    tmp_remove(folder);
}

// ---- faults ----------------------------------------------------------------------------------------------------

// Into a pipe, or (-1) into the disk's log.
static int say(int told, uint8_t step)
{
    if (told < 0) disk_mark(&step, 1);
    return told < 0 || write(told, &step, 1) == 1 ? 0 : ERR_IO;
}

// One life of an outbox, step by step; after each step that succeeded its number is told. Stops at the first that fails.
#define STEPS 9
static int live(const char *path, int told)
{
    struct outbox_store *st = NULL;
    uint64_t id;
    uint8_t step = 0;
    int err = outbox_store_open(&st, path);
    while (err == 0 && step < STEPS) {
        switch (step) {
        case 0: err = put(st, "one", &id); break;
        case 1: err = put(st, "two", &id); break;
        case 2: err = outbox_store_bind(st, (struct uuid){{7}}); break;
        case 3: err = outbox_store_name(st, 1, 3); break;
        case 4: err = settle(st, 1, OUTBOX_ACCEPTED, "{\"seq\":4}"); break;
        case 5: err = put(st, "three", &id); break;
        case 6: err = outbox_store_name(st, 2, 3); break;
        case 7: err = outbox_store_seen(st, 1); break;
        case 8: err = outbox_store_refuse(st, 2, SPAN_LIT("{}")); break;
        }
        if (err == 0) err = say(told, ++step);
    }
    outbox_store_close(st);
    return err;
}

static bool waits(struct outbox_store *st, uint64_t id, struct outbox_item *item, struct buf *room)
{
    return outbox_store_next_waiting(st, id - 1, item, room) == 0 && item->id == id;
}

static bool is_settled(struct outbox_store *st, uint64_t id)
{
    struct outbox_item item;
    struct buf room;
    buf_init(&room, MIB);
    bool settled = outbox_store_next_settled(st, id - 1, &item, &room) == 0 && item.id == id;
    buf_free(&room);
    return settled;
}

// After `step` steps that were told: all that they promised stands, the next one is there or not, and names go on without one that was used. A power cut may bring
// back what was settled, or seen, until the next batch is put.
static void check_life(const char *path, int step, bool cut)
{
    struct outbox_store *st = opened(path);
    struct outbox_item one, two, three;
    struct outbox_head head;
    struct buf rooms[3];
    for (int i = 0; i < 3; i++)
        buf_init(&rooms[i], MIB);
    bool has_one = waits(st, 1, &one, &rooms[0]), has_two = waits(st, 2, &two, &rooms[1]), has_three = waits(st, 3, &three, &rooms[2]);
    assert_int_equal(outbox_store_head(st, &head), 0);
    assert_int_equal(head.waiting, has_one + has_two + has_three);
    assert_int_equal(head.count, head.waiting + is_settled(st, 1) + is_settled(st, 2));
    if (step >= 1 && step < 4) assert_true(has_one);
    if (step >= 2 && step < 8) assert_true(has_two);
    if (step >= 3) assert_true(head.bound && head.journal.b[0] == 7);
    if (step >= 4 && step < 5) assert_true(has_one ? one.counter == 1 && one.base == 1 : is_settled(st, 1));
    if (step >= 5 && step < 8) assert_true(has_one ? cut && step == 5 && one.counter == 1 : is_settled(st, 1) || step == 7);
    if (step >= 6) assert_true(has_three);
    if (step >= 7 && step < 8) assert_true(has_two ? two.counter == 2 && three.counter == 3 : is_settled(st, 2) && three.counter == 0);
    if (step >= 8) assert_false(has_one || (is_settled(st, 1) && !(cut && step == 8)));
    if (step >= 9) assert_true(!has_two && is_settled(st, 2) && three.counter == 0);
    assert_int_equal(outbox_store_name(st, 100, 3), 0);
    // Each replica's counters go up with the ids, so that none is there twice.
    struct outbox_item item, before = {.id = 0};
    while (outbox_store_next_waiting(st, before.id, &item, &rooms[0]) == 0) {
        assert_true(item.counter > 0 && span_is(item.text, item.id == 1 ? "one" : item.id == 2 ? "two" : "three"));
        assert_true(!uuid_equal(item.replica, before.replica) || item.counter == before.counter + 1);
        before = item;
    }
    if (step >= 6 && step < 8 && waits(st, 3, &three, &rooms[2])) assert_true(three.counter == 3 || three.counter == 1);
    outbox_store_close(st);
    for (int i = 0; i < 3; i++)
        buf_free(&rooms[i]);
}

// The child's life, with this fault; the number of the last step that it told, *over: that it came to its end without meeting the fault.
static int lead(const char *path, uint32_t nth, int errnum, bool *over)
{
    int told[2], status;
    uint8_t step = 0;
    assert_int_equal(pipe(told), 0);
    pid_t child = fork();
    if (child == 0) {
        log_set_level(LOG_ERROR);
        freopen("/dev/null", "w", stderr);
        disk_fail(DISK_WRITE | DISK_SYNC | DISK_RENAME | DISK_MKDIR | DISK_TRUNCATE, path, nth, errnum, 1);
        _exit(live(path, told[1]) == 0 && disk_failed() == 0 ? 0 : 1);
    }
    close(told[1]);
    while (read(told[0], &step, 1) == 1) {
    }
    close(told[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) || WTERMSIG(status) == SIGKILL);
    *over = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    return step;
}

static int every_call(int errnum)
{
    bool over = false;
    uint32_t nth = 0;
    while (!over) {
        char *folder = tmp_make(), *path = tmp_path(folder, "outbox");
        int step = lead(path, ++nth, errnum, &over);
        if (over) assert_int_equal(step, STEPS);
        check_life(path, step, false);
        free(path);
        tmp_remove(folder);
    }
    return (int)nth;
}

static void killed_at_any_call_it_keeps_what_it_said(void **state)
{
    (void)state;
    assert_true(every_call(DISK_KILL) > 2 * STEPS);
}

static void a_disk_that_fails_at_any_call_takes_nothing_that_was_kept(void **state)
{
    (void)state;
    assert_true(every_call(EIO) > 2 * STEPS);
    assert_true(every_call(ENOSPC) > 2 * STEPS);
}

// What the disk may hold after a power cut behind each call.
static void a_power_cut_takes_nothing_that_was_promised(void **state)
{
    char *folder = tmp_make(), *root = tmp_path(folder, "root"), *path = tmp_path(root, "outbox"), *log = tmp_path(folder, "log");
    struct disk_record r;
    int step = 0, built = 0;
    (void)state;
    assert_int_equal(dir_make(root), 0);
    assert_int_equal(disk_record(log, root), 0);
    assert_int_equal(live(path, -1), 0);
    disk_record_stop();
    struct image *m = image_open(log);
    assert_non_null(m);
    while (image_step(m, &r)) {
        if (r.kind == DISK_LOG_MARK) step = r.bytes[0];
        for (uint64_t seed = 1; seed <= 3; seed++) {
            char *copy = tmp_path(folder, "copy"), *box = tmp_path(copy, "outbox");
            assert_true(image_build(m, copy, seed, IMAGE_RANDOM, NULL));
            check_life(box, step, true);
            assert_int_equal(dir_clear(copy, NULL), 0);
            built++;
            free(box);
            free(copy);
        }
    }
    assert_int_equal(step, STEPS);
    assert_true(built > 6 * STEPS);
    image_close(m);
    free(log);
    free(path);
    free(root);
    tmp_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_and_its_fate_are_there_until_it_was_seen),
        cmocka_unit_test(names_are_given_in_order_and_no_counter_twice),
        cmocka_unit_test(behind_one_that_cannot_be_sent_names_are_of_another_replica),
        cmocka_unit_test(a_batch_is_made_when_it_is_put),
        cmocka_unit_test(a_clock_that_was_put_right_is_followed),
        cmocka_unit_test(at_a_bound_nothing_is_put),
        cmocka_unit_test(fates_that_come_together_are_kept_together),
        cmocka_unit_test(threads_and_processes_share_one),
        cmocka_unit_test(one_at_a_time_sends),
        cmocka_unit_test(killed_at_any_call_it_keeps_what_it_said),
        cmocka_unit_test(a_disk_that_fails_at_any_call_takes_nothing_that_was_kept),
        cmocka_unit_test(a_power_cut_takes_nothing_that_was_promised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
