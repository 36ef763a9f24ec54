// The disk fails, at every call in turn: what was acknowledged is there afterwards, nothing is there by half, what was not acknowledged
// is there as a whole or not at all, and the app takes writes again once the disk is well.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "app_lab.h"
#include "disk.h"
#include "err.h"

#define BATCHES 6
#define SCHEMA "create table notes (title text not null, body stream, image blob)"

// What a writer was told of each of its batches: 0: nothing but errors, else the seq.
struct acks {
    uint64_t seq[BATCHES];
};

static const char *note_id(unsigned k)
{
    static char id[40];
    snprintf(id, sizeof id, "01890a5d-ac96-774b-bcce-%012u", k);
    return id;
}

// One batch over rows, streams of rows and a free stream, by a key: so that half of it would show.
static int note(struct app_lab *l, unsigned k)
{
    return lab_run(l, "{'key':'note-%u','ops':[{'op':'insert','table':'notes','id':'%s','values':{'title':'n%u'}},{'op':'append','stream':'s','text':'<%u>'},"
                      "{'op':'append','table':'notes','id':'%s','column':'body','text':'<%u>'},{'op':'close','table':'notes','id':'%s','column':'body'}]}",
                   k, note_id(k), k, k, note_id(k), k, note_id(k));
}

static size_t count_of(struct span text, const char *what)
{
    size_t n = 0, length = strlen(what);
    for (size_t i = 0; i + length <= text.n; i++)
        n += memcmp(text.p + i, what, length) == 0;
    return n;
}

// Is the batch there? All of it, or none.
static bool there(struct app_lab *l, unsigned k, struct span all, struct span rows)
{
    char text[64], path[64];
    struct stream_info info;
    snprintf(text, sizeof text, "<%u>", k);
    size_t appended = count_of(all, text);
    snprintf(path, sizeof path, "rows/notes/%s/body", note_id(k));
    bool owned = streams_find(app_streams(l->app), app_txn(l->app), SPAN_STR(path), &info);
    snprintf(text, sizeof text, "\"n%u\"", k);
    size_t inserted = count_of(rows, text);
    assert_true(appended <= 1);
    assert_int_equal(inserted, appended);
    assert_int_equal(owned, appended);
    if (owned) assert_true(info.closed && info.offset == 3);
    return appended == 1;
}

static void check(struct app_lab *l, const struct acks *acks, bool everything)
{
    struct buf all, rows;
    buf_init(&all, MIB);
    buf_init(&rows, MIB);
    assert_int_equal(lab_stream(l, "s", &all), 0);
    assert_int_equal(lab_query(l, "select title from notes", app_visible(l->app), &rows), 0);
    for (unsigned k = 0; k < BATCHES; k++) {
        bool is = there(l, k, buf_span(&all), buf_span(&rows));
        assert_true(is || acks->seq[k] == 0);
        assert_true(is || !everything);
    }
    buf_free(&all);
    buf_free(&rows);
}

static bool may_be_told(int err)
{
    static const int told[] = {ERR_NO_SPACE, ERR_FATE_UNKNOWN, ERR_IO, ERR_BUSY, ERR_READ_ONLY};
    for (size_t i = 0; i < sizeof told / sizeof *told; i++)
        if (err == told[i]) return true;
    return false;
}

static void send_note(struct app_lab *l, unsigned k, struct acks *acks)
{
    int err = note(l, k);
    if (err != 0 && !may_be_told(err)) print_message("note %u: %s\n", k, err_wire(err));
    assert_true(err == 0 || may_be_told(err));
    if (err != 0 && l->last.calls > 0) assert_false(l->last.readable); // memory is ahead of the disk: nobody may look
    if (err != 0) return;
    assert_true(acks->seq[k] == 0 || acks->seq[k] == l->last.fate.seq); // one fate for ever
    acks->seq[k] = l->last.fate.seq;
}

// Everything that writes to the disk: turns, blobs, seals, commits, recycling.
static void work(struct app_lab *l, struct acks *acks)
{
    struct sha256 digest;
    for (unsigned k = 0; k < BATCHES; k++) {
        send_note(l, k, acks);
        char text[20001] = {0};
        memset(text, 'a' + (int)k, sizeof text - 1);
        int err = lab_blob(l, SPAN_STR(text), "text/plain", &digest);
        assert_true(err == 0 || may_be_told(err));
        err = lab_run(l, "{'ops':[{'op':'create','stream':'bulk-%u'},{'op':'append','stream':'bulk-%u','text':'%s'},{'op':'close','stream':'bulk-%u'}]}", k, k, text, k); // fills journal segments
        assert_true(err == 0 || may_be_told(err));
        if (k % 3 == 1) lab_seal(l);
        if (k % 2 == 1) lab_commit_db(l);
        app_tick(l->app);
    }
}

// With one fault; false: it was too late to strike.
static bool round_with(unsigned ops, const char *where, uint32_t nth, int errnum, uint32_t count)
{
    struct app_lab l, copy;
    struct acks acks = {0};
    char before[65], after[65];
    app_lab_init(&l);
    app_lab_open(&l);
    assert_int_equal(lab_schema(&l, SCHEMA), 0);
    assert_int_equal(lab_run(&l, "{'ops':[{'op':'create','stream':'s'}]}"), 0);
    disk_fail(ops, where, nth, errnum, count);
    work(&l, &acks);
    bool struck = disk_failed() > 0;
    if (app_txn(l.app) != NULL) check(&l, &acks, false); // reads go on
    disk_fail_clear();
    assert_true(lab_recover(&l));
    check(&l, &acks, false);
    lab_hash(&l, before);
    app_lab_fork(&l, &copy);
    lab_hash(&copy, after);
    assert_string_equal(before, after);
    app_lab_free(&copy);
    for (unsigned k = 0; k < BATCHES; k++) {
        send_note(&l, k, &acks);
        assert_int_not_equal(acks.seq[k], 0);
    }
    check(&l, &acks, true);
    assert_int_equal(lab_seal(&l), 0);
    lab_settle(&l);
    app_lab_reopen(&l);
    check(&l, &acks, true);
    uint64_t checked;
    assert_int_equal(blobs_check(app_blobs(l.app), app_txn(l.app), &checked), 0);
    app_lab_free(&l);
    return struck;
}

static void every_call(unsigned ops, const char *where, uint32_t count)
{
    static const int errnums[] = {EIO, ENOSPC};
    for (size_t i = 0; i < sizeof errnums / sizeof *errnums; i++) {
        uint32_t nth = 1;
        while (round_with(ops, where, nth, errnums[i], count))
            nth++;
        assert_true(nth > 1); // there was such a call
    }
}

static void every_write_of_the_journal_may_fail(void **state)
{
    (void)state;
    every_call(DISK_WRITE, "/journal/", 1);
}

static void every_sync_of_the_journal_may_fail(void **state)
{
    (void)state;
    every_call(DISK_SYNC, "/journal", 1);
}

static void every_other_call_on_the_journal_may_fail(void **state)
{
    (void)state;
    every_call(DISK_OPEN | DISK_TRUNCATE | DISK_ALLOCATE | DISK_RENAME | DISK_UNLINK, "/journal/", 1);
}

static void every_write_of_the_database_may_fail(void **state)
{
    (void)state;
    every_call(DISK_WRITE, "data.mdb", 1);
}

static void every_sync_of_the_database_may_fail(void **state)
{
    (void)state;
    every_call(DISK_SYNC, "data.mdb", 1);
}

static void every_call_on_stream_segments_may_fail(void **state)
{
    (void)state;
    every_call(DISK_OPEN | DISK_WRITE | DISK_SYNC | DISK_TRUNCATE, "/streams", 1);
}

static void every_call_on_packs_may_fail(void **state)
{
    (void)state;
    every_call(DISK_OPEN | DISK_WRITE | DISK_SYNC | DISK_TRUNCATE, "/packs", 1);
}

static void the_disk_may_stay_bad_for_long(void **state)
{
    (void)state;
    static const uint32_t begins[] = {1, 2, 3, 5, 8, 13, 21, 34, 55};
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++) {
        round_with(DISK_WRITE | DISK_SYNC, "/app/", begins[i], EIO, DISK_FOREVER);
        round_with(DISK_WRITE | DISK_SYNC, "/app/", begins[i], ENOSPC, DISK_FOREVER);
        round_with(DISK_WRITE | DISK_ALLOCATE, "/app/", begins[i], ENOSPC, DISK_FOREVER);
    }
}

static void a_full_disk_refuses_writes_and_serves_reads(void **state)
{
    (void)state;
    struct app_lab l;
    app_lab_init(&l);
    app_lab_open(&l);
    assert_int_equal(lab_schema(&l, SCHEMA), 0);
    assert_int_equal(lab_run(&l, "{'ops':[{'op':'create','stream':'s'},{'op':'append','stream':'s','text':'kept'}]}"), 0);
    disk_fail(DISK_WRITE | DISK_ALLOCATE, "/app/", 1, ENOSPC, DISK_FOREVER);
    int err = lab_run(&l, "{'ops':[{'op':'append','stream':'s','text':'lost'}]}");
    assert_true(err == ERR_NO_SPACE || err == ERR_FATE_UNKNOWN);
    assert_int_equal(app_state(l.app), APP_RECOVERING);
    assert_null(app_txn(l.app));
    assert_int_equal(lab_run(&l, "{'ops':[{'op':'append','stream':'s','text':'lost'}]}"), ERR_BUSY);
    for (int i = 0; i < 5; i++) {
        app_tick(l.app);
        assert_true(app_state(l.app) == APP_READ_ONLY || app_state(l.app) == APP_FULL);
        err = lab_run(&l, "{'ops':[{'op':'append','stream':'s','text':'lost'}]}");
        assert_true(err == ERR_NO_SPACE || err == ERR_READ_ONLY);
        assert_true(lab_stream_is(&l, "s", "kept"));
    }
    disk_fail_clear();
    assert_true(lab_recover(&l));
    assert_int_equal(lab_run(&l, "{'ops':[{'op':'append','stream':'s','text':' on'}]}"), 0);
    assert_true(lab_stream_is(&l, "s", "kept on"));
    app_lab_free(&l);
}

// Opening fails, or opens for reading only; either way nothing is lost by it.
static bool open_with(struct app_lab *l, uint32_t nth, int errnum, const char *hash)
{
    struct app_lab copy;
    struct problem p = PROBLEM_NONE;
    char after[65];
    app_lab_init(&copy);
    copy.options = l->options;
    copy.options.path = copy.path;
    folder_copy(l->path, copy.path);
    disk_fail(DISK_ALL, "/app", nth, errnum, 1);
    int err = app_open(&copy.app, &copy.options, &p);
    bool struck = disk_failed() > 0;
    disk_fail_clear();
    if (err != 0) assert_int_not_equal(err, ERR_CORRUPT);
    if (err != 0) app_lab_open(&copy);
    lab_hash(&copy, after);
    assert_string_equal(hash, after);
    assert_true(lab_recover(&copy));
    lab_hash(&copy, after);
    assert_string_equal(hash, after);
    app_lab_reopen(&copy);
    lab_hash(&copy, after);
    assert_string_equal(hash, after);
    app_lab_free(&copy);
    return struck;
}

static void every_call_while_opening_may_fail(void **state)
{
    (void)state;
    struct app_lab l;
    char hash[65];
    app_lab_init(&l);
    app_lab_open(&l);
    assert_int_equal(lab_schema(&l, lab_workload_schema), 0);
    for (unsigned i = 0; i < 24; i++)
        lab_workload(&l, i);
    lab_commit_db(&l);
    lab_seal(&l);
    for (unsigned i = 24; i < 36; i++)
        lab_workload(&l, i);
    lab_hash(&l, hash);
    // Killed here; the copies are what was left.
    uint32_t nth = 1;
    while (open_with(&l, nth, EIO, hash) && open_with(&l, nth, ENOSPC, hash))
        nth++;
    assert_true(nth > 10);
    app_lab_free(&l);
}

int main(void)
{
    // Hundreds of starts with all their barriers: what is tested is what the program makes of a failure, not the disk.
    if (getenv("TMPDIR") == NULL && access("/dev/shm", W_OK) == 0) setenv("TMPDIR", "/dev/shm", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_write_of_the_journal_may_fail),
        cmocka_unit_test(every_sync_of_the_journal_may_fail),
        cmocka_unit_test(every_other_call_on_the_journal_may_fail),
        cmocka_unit_test(every_write_of_the_database_may_fail),
        cmocka_unit_test(every_sync_of_the_database_may_fail),
        cmocka_unit_test(every_call_on_stream_segments_may_fail),
        cmocka_unit_test(every_call_on_packs_may_fail),
        cmocka_unit_test(the_disk_may_stay_bad_for_long),
        cmocka_unit_test(a_full_disk_refuses_writes_and_serves_reads),
        cmocka_unit_test(every_call_while_opening_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
