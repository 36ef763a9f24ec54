#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "app_lab.h"
#include "db.h"
#include "digest.h"
#include "err.h"
#include "file.h"
#include "limits.h"
#include "seq_times.h"
#include "tmp.h"

#define BEGIN_MS 1790000000000u

static const char *const tables[] = {SEQ_TIMES_TABLES};

struct lab {
    char *folder;
    struct db *db;
    struct db_txn *txn;
    struct seq_times times;
};

static int setup(void **state)
{
    struct lab *l = calloc(1, sizeof *l);
    l->folder = tmp_make();
    assert_int_equal(db_open(&l->db, &(struct db_options){.path = l->folder, .map_bytes = 256 * MIB, .tables = tables, .table_count = SEQ_TIMES_TABLE_COUNT}), 0);
    l->txn = db_begin_write(l->db);
    assert_int_equal(seq_times_load(&l->times, l->txn, 0), 0);
    *state = l;
    return 0;
}

static int teardown(void **state)
{
    struct lab *l = *state;
    db_abort(l->txn);
    db_close(l->db);
    tmp_remove(l->folder);
    free(l);
    return 0;
}

static void note(struct lab *l, uint64_t seq, uint64_t ms)
{
    struct commit c = {.seq = seq, .arrival_ms = BEGIN_MS + ms};
    assert_int_equal(seq_times_note(&l->times, l->txn, 0, &c), 0);
}

static struct seq_time find(struct lab *l, uint64_t seq, uint64_t span_ms)
{
    struct seq_time t;
    assert_int_equal(seq_times_find(l->txn, 0, seq, span_ms, &t), 0);
    return t;
}

static void assert_time(struct lab *l, uint64_t seq, uint64_t span_ms, uint64_t ms, uint64_t next)
{
    struct seq_time t = find(l, seq, span_ms);
    assert_true(t.known);
    assert_int_equal(t.ms, BEGIN_MS + ms);
    assert_int_equal(t.next, next);
}

static size_t chunks(struct lab *l)
{
    struct db_iter it;
    size_t n = 0;
    db_iter_init(&it, l->txn, 0);
    for (bool more = db_iter_first(&it); more; more = db_iter_next(&it))
        n++;
    db_iter_end(&it);
    return n;
}

static struct sha256 hash(struct lab *l)
{
    struct digest *d = digest_new();
    assert_int_equal(db_hash(l->txn, 0, d), 0);
    struct sha256 out = digest_final(d);
    digest_free(d);
    return out;
}

static void nothing_is_known_before_the_first_mark(void **state)
{
    struct lab *l = *state;
    struct seq_time t = find(l, 5, 1);
    assert_false(t.known);
    assert_int_equal(t.next, UINT64_MAX);
    note(l, 7, 0);
    t = find(l, 5, 1);
    assert_false(t.known);
    assert_int_equal(t.next, 7);
    assert_time(l, 7, 1, 0, UINT64_MAX);
    assert_time(l, 900, 1, 0, UINT64_MAX);
}

static void a_mark_is_made_when_enough_time_has_passed(void **state)
{
    struct lab *l = *state;
    note(l, 1, 0);
    note(l, 2, SEQ_TIME_MS - 1);
    struct sha256 before = hash(l);
    note(l, 3, SEQ_TIME_MS - 1);
    struct sha256 same = hash(l);
    assert_memory_equal(&before, &same, sizeof same); // nothing was written
    note(l, 5, SEQ_TIME_MS);
    note(l, 9, 3 * SEQ_TIME_MS);
    assert_int_equal(chunks(l), 1);
    assert_time(l, 1, 1, 0, 5);
    assert_time(l, 4, 1, 0, 5);
    assert_time(l, 5, 1, SEQ_TIME_MS, 9);
    assert_time(l, 8, 1, SEQ_TIME_MS, 9);
    assert_time(l, 9, 1, 3 * SEQ_TIME_MS, UINT64_MAX);
}

static void a_span_skips_the_marks_within_it(void **state)
{
    struct lab *l = *state;
    for (uint64_t i = 0; i < 10; i++)
        note(l, 10 + i, 100 * i);
    assert_time(l, 10, 100, 0, 11);
    assert_time(l, 10, 101, 0, 12);
    assert_time(l, 10, 500, 0, 15);
    assert_time(l, 13, 500, 300, 18);
    assert_time(l, 10, 901, 0, UINT64_MAX);
}

static void many_marks_are_small_and_all_are_found(void **state)
{
    struct lab *l = *state;
    const uint64_t n = 20000;
    for (uint64_t i = 0; i < n; i++)
        note(l, 1 + 3 * i, SEQ_TIME_MS * i);
    assert_true(chunks(l) * 1000 < 3 * n); // a byte for the seq, one for the time, and what a chunk begins with
    for (uint64_t i = 0; i + 1 < n; i += i % 7 + 1) {
        assert_time(l, 1 + 3 * i, 1, SEQ_TIME_MS * i, 4 + 3 * i);
        assert_time(l, 3 + 3 * i, 1, SEQ_TIME_MS * i, 4 + 3 * i);
    }
    assert_time(l, 1, SEQ_TIME_MS * 15000, 0, 1 + 3 * 15000); // over many chunks
}

static void what_a_start_loads_goes_on_alike(void **state)
{
    struct lab *l = *state;
    struct sha256 without, with;
    for (uint64_t i = 0; i < 2000; i++)
        note(l, i + 1, 17 * i);
    without = hash(l);
    db_abort(l->txn);
    l->txn = db_begin_write(l->db);
    assert_int_equal(seq_times_load(&l->times, l->txn, 0), 0); // what was not committed is not known either
    assert_false(l->times.any);
    for (uint64_t i = 0; i < 2000; i++) {
        note(l, i + 1, 17 * i);
        if (i % 5 == 0) assert_int_equal(seq_times_load(&l->times, l->txn, 0), 0);
    }
    with = hash(l);
    assert_memory_equal(&without, &with, sizeof with);
}

static void what_is_too_old_goes_in_steps(void **state)
{
    struct lab *l = *state;
    uint64_t seq = 1, ms = 0, begun = 0;
    while (chunks(l) < 12)
        note(l, seq++, ms += SEQ_TIME_MS);
    note(l, seq++, ms += SEQ_TIME_KEPT_MS / 2);
    uint64_t young = seq - 1;
    assert_time(l, 1, 1, SEQ_TIME_MS, 2); // none of it is too old
    ms += SEQ_TIME_KEPT_MS / 2;           // and now all but that one
    while (begun < 8) {
        struct seq_time first = find(l, 1, 1), was = find(l, young, 1);
        size_t before = chunks(l);
        note(l, seq++, ms += SEQ_TIME_KEPT_MS / 20000);
        size_t is = chunks(l);
        begun += find(l, 1, 1).next != first.next || is != before;
        assert_true(is + 1 >= before && is <= before + 1); // one begins, two go at most
        assert_true(was.known && find(l, young, 1).known);
    }
    assert_false(find(l, 1, 1).known);
    assert_true(find(l, 1, 1).next > 1);
    assert_true(chunks(l) <= 10); // the eight, that of the young one, and the one before
}

static void what_is_damaged_is_said(void **state)
{
    struct lab *l = *state;
    struct seq_time t;
    const uint8_t key[8] = {0, 0, 0, 0, 0, 0, 0, 9}, cut[] = {1, 5, 0x80}, later[] = {9, 5};
    struct commit c = {.seq = 20, .arrival_ms = BEGIN_MS};
    db_put(l->txn, 0, SPAN(key, sizeof key), SPAN(cut, sizeof cut));
    assert_int_equal(seq_times_find(l->txn, 0, 10, 1, &t), ERR_CORRUPT);
    assert_int_equal(seq_times_load(&l->times, l->txn, 0), ERR_CORRUPT);
    assert_int_equal(seq_times_note(&l->times, l->txn, 0, &c), ERR_CORRUPT);
    db_put(l->txn, 0, SPAN(key, sizeof key), SPAN(later, sizeof later));
    assert_int_equal(seq_times_find(l->txn, 0, 10, 1, &t), ERR_VERSION);
    assert_int_equal(seq_times_load(&l->times, l->txn, 0), ERR_VERSION);
}

// ---- in an app ---------------------------------------------------------------------------------------------------------

// Commits of a moment are one mark; those of another are another. Returns the seq of the last.
static uint64_t work(struct app_lab *l, const char *word)
{
    assert_int_equal(lab_run(l, "{'ops':[{'op':'append','stream':'s','text':'%s'}]}", word), 0);
    return app_visible(l->app);
}

static void until_later(struct app_lab *l)
{
    uint64_t ms = app_visible_ms(l->app);
    while (clock_wall_ms() < ms + SEQ_TIME_MS)
        usleep(5000);
}

static void a_recovered_app_knows_the_same_times(void **state)
{
    (void)state;
    struct app_lab l, copy;
    struct seq_time t, u;
    char before[65], after[65];
    app_lab_init(&l);
    app_lab_open(&l);
    assert_int_equal(lab_run(&l, "{'ops':[{'op':'create','stream':'s','type':'text/plain'}]}"), 0);
    uint64_t made = app_visible(l.app);
    until_later(&l);
    uint64_t first = work(&l, "a");
    uint64_t first_ms = app_visible_ms(l.app);
    lab_settle(&l);
    until_later(&l);
    uint64_t second = work(&l, "b");
    uint64_t second_ms = app_visible_ms(l.app);
    lab_hash(&l, before);
    app_lab_fork(&l, &copy); // killed: the second is in the journal alone
    lab_hash(&copy, after);
    assert_string_equal(before, after);
    struct app_lab *both[] = {&l, &copy};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(app_seq_time(both[i]->app, first, 1, &t), 0);
        assert_int_equal(app_seq_time(both[i]->app, second, 1, &u), 0);
        assert_true(t.known && u.known);
        assert_int_equal(t.ms, first_ms);
        assert_int_equal(u.ms, second_ms);
        assert_int_equal(t.next, second);
        assert_int_equal(app_seq_time(both[i]->app, made, 1, &t), 0);
        assert_int_equal(t.next, first);
    }
    app_lab_free(&copy);
    app_lab_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_is_known_before_the_first_mark, setup, teardown),
        cmocka_unit_test_setup_teardown(a_mark_is_made_when_enough_time_has_passed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_span_skips_the_marks_within_it, setup, teardown),
        cmocka_unit_test_setup_teardown(many_marks_are_small_and_all_are_found, setup, teardown),
        cmocka_unit_test_setup_teardown(what_a_start_loads_goes_on_alike, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_too_old_goes_in_steps, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_damaged_is_said, setup, teardown),
        cmocka_unit_test(a_recovered_app_knows_the_same_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
