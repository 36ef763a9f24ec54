// The engine in one thread: what a turn promises, and what is left after every kind of end.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "app_lab.h"
#include "err.h"
#include "file.h"
#include "tmp.h"

#define ID1 "01890a5d-ac96-774b-bcce-000000000001"
#define ID2 "01890a5d-ac96-774b-bcce-000000000002"
#define SCHEMA "create table notes (title text not null, n bigint, body stream)"

static int setup(void **state)
{
    struct app_lab *l = calloc(1, sizeof *l);
    app_lab_init(l);
    app_lab_open(l);
    *state = l;
    return 0;
}

static int teardown(void **state)
{
    app_lab_free(*state);
    free(*state);
    return 0;
}

static void with_schema(struct app_lab *l)
{
    assert_int_equal(lab_schema(l, SCHEMA), 0);
}

// ---- a turn --------------------------------------------------------------------------------------------------------

static void a_batch_is_accepted_and_shown(void **state)
{
    struct app_lab *l = *state;
    with_schema(l);
    assert_int_equal(app_visible(l->app), 1);
    assert_int_equal(lab_run(l, "{'ops':[{'op':'insert','table':'notes','id':'" ID1 "','values':{'title':'a','n':1}},"
                                "{'op':'append','table':'notes','id':'" ID1 "','column':'body','text':'Hello'}]}"), 0);
    assert_int_equal(l->last.fate.seq, 2);
    assert_true(l->last.fate.journaled);
    assert_int_equal(app_visible(l->app), 2);
    assert_true(lab_rows_are(l, "select title, n from notes", "[{'id':'" ID1 "','title':'a','n':1}]"));
    assert_true(lab_stream_is(l, "rows/notes/" ID1 "/body", "Hello"));
    struct result r;
    struct span rest = l->last.fate.results;
    assert_int_equal(result_read(&rest, &r), 1);
    assert_int_equal(r.op, 1);
    assert_int_equal(r.offset, 5);
}

static void what_one_turn_takes_is_one_group(void **state)
{
    struct app_lab *l = *state;
    struct lab_batch b[20];
    with_schema(l);
    uint64_t groups = app_counts(l->app).groups;
    for (int i = 0; i < 20; i++) {
        char json[200];
        snprintf(json, sizeof json, "{'ops':[{'op':'insert','table':'notes','values':{'title':'%d'}}]}", i);
        assert_int_equal(lab_submit(l, &b[i], json), 0);
        assert_false(b[i].done); // never before the call returns
    }
    app_turn(l->app);
    assert_int_equal(app_counts(l->app).groups, groups + 1);
    for (int i = 0; i < 20; i++) {
        assert_true(b[i].done);
        assert_int_equal(b[i].fate.seq, 2 + (unsigned)i);
        lab_batch_free(&b[i]);
    }
    assert_int_equal(app_visible(l->app), 21);
}

static void a_batch_that_is_rejected_leaves_nothing(void **state)
{
    struct app_lab *l = *state;
    char before[65], after[65];
    with_schema(l);
    assert_int_equal(lab_run(l, "{'ops':[{'op':'create','stream':'s'}]}"), 0);
    lab_hash(l, before);
    assert_int_equal(lab_run(l, "{'ops':[{'op':'insert','table':'notes','id':'" ID1 "','values':{'title':'a'}},{'op':'append','stream':'s','text':'x'},"
                                "{'op':'create','stream':'t'},{'op':'update','table':'notes','id':'" ID2 "','values':{'n':1}}]}"), ERR_NO_SUCH_ROW);
    assert_true(l->last.fate.journaled);
    assert_int_equal(l->last.fate.problem.position, 3);
    assert_int_equal(app_visible(l->app), 2);
    lab_hash(l, after);
    assert_string_equal(before, after);
    assert_true(lab_rows_are(l, "select title from notes", "[]"));
    assert_true(lab_stream_is(l, "s", ""));
    assert_int_equal(app_counts(l->app).rejections, 1);
}

static void operations_see_the_ones_before_them(void **state)
{
    struct app_lab *l = *state;
    with_schema(l);
    assert_int_equal(lab_run(l, "{'ops':[{'op':'create','stream':'s'},{'op':'append','stream':'s','text':'ab','expect':0},{'op':'append','stream':'s','text':'c','expect':2},"
                                "{'op':'close','stream':'s'},{'op':'append','stream':'s','text':'d'}]}"), ERR_STREAM_CLOSED);
    assert_int_equal(l->last.fate.problem.position, 4);
    assert_int_equal(lab_run(l, "{'ops':[{'op':'append','table':'notes','id':'" ID1 "','column':'body','text':'a'},{'op':'insert','table':'notes','id':'" ID1 "','values':{'title':'a'}}]}"), ERR_NO_SUCH_ROW);
    assert_int_equal(lab_run(l, "{'ops':[{'op':'create','stream':'rows/x'}]}"), ERR_RESERVED_PATH);
    assert_int_equal(lab_run(l, "{'ops':[{'op':'insert','table':'notes','id':'" ID1 "','values':{'title':'a'}},{'op':'delete','table':'notes','id':'" ID1 "'},"
                                "{'op':'append','table':'notes','id':'" ID1 "','column':'body','text':'a'}]}"), ERR_NO_SUCH_ROW);
}

static void deleting_a_row_takes_its_stream_along(void **state)
{
    struct app_lab *l = *state;
    struct stream_info info;
    with_schema(l);
    assert_int_equal(lab_run(l, "{'ops':[{'op':'insert','table':'notes','id':'" ID1 "','values':{'title':'a'}}]}"), 0);
    assert_true(streams_find(app_streams(l->app), app_txn(l->app), SPAN_LIT("rows/notes/" ID1 "/body"), &info));
    assert_true(info.owned);
    assert_int_equal(lab_run(l, "{'ops':[{'op':'delete','table':'notes','id':'" ID1 "'}]}"), 0);
    assert_false(streams_find(app_streams(l->app), app_txn(l->app), SPAN_LIT("rows/notes/" ID1 "/body"), &info));
}

static void a_retry_gets_its_fate_and_applies_nothing(void **state)
{
    struct app_lab *l = *state;
    struct lab_batch twice;
    const char *json = "{'key':'k','ops':[{'op':'append','stream':'s','text':'x'}]}";
    assert_int_equal(lab_run(l, "{'ops':[{'op':'create','stream':'s'}]}"), 0);
    // Twice in one turn, and once more behind it.
    assert_int_equal(lab_submit(l, &twice, json), 0);
    assert_int_equal(lab_run(l, "%s", json), 0);
    assert_int_equal(twice.fate.seq, 2);
    assert_false(twice.fate.again);
    assert_true(l->last.fate.again);
    assert_int_equal(l->last.fate.seq, 2);
    lab_batch_free(&twice);
    assert_int_equal(lab_run(l, "%s", json), 0);
    assert_true(l->last.fate.again);
    assert_true(lab_stream_is(l, "s", "x"));
    assert_int_equal(lab_run(l, "{'key':'k','ops':[{'op':'append','stream':'s','text':'y'}]}"), ERR_NAME_REUSED);
    assert_false(l->last.fate.journaled);
    assert_int_equal(app_counts(l->app).retries, 2);
}

static void counters_go_on_in_one_turn(void **state)
{
    struct app_lab *l = *state;
    struct lab_batch b[3];
    const char *json[] = {"{'replica':'" ID1 "','counter':1,'ops':[{'op':'create','stream':'a'}]}", "{'replica':'" ID1 "','counter':3,'ops':[{'op':'create','stream':'c'}]}",
                          "{'replica':'" ID1 "','counter':2,'ops':[{'op':'drop','stream':'no'}]}"};
    for (int i = 0; i < 3; i++)
        assert_int_equal(lab_submit(l, &b[i], json[i]), 0);
    app_turn(l->app);
    assert_int_equal(b[0].fate.err, 0);
    assert_int_equal(b[1].fate.err, ERR_COUNTER_GAP);
    assert_int_equal(b[1].fate.expected, 2);
    assert_int_equal(b[2].fate.err, ERR_STREAM_NOT_FOUND);
    assert_true(b[2].fate.journaled);
    for (int i = 0; i < 3; i++)
        lab_batch_free(&b[i]);
    assert_int_equal(lab_run(l, "%s", json[1]), 0); // the rejection settled its counter
}

static void clocks_are_checked_by_arrival(void **state)
{
    struct app_lab *l = *state;
    uint64_t now = clock_wall_ms();
    assert_int_equal(lab_run(l, "{'stamp':'%llu','ops':[{'op':'create','stream':'a'}]}", (unsigned long long)((now + 2 * STAMP_AHEAD_MS_MAX) << 16)), ERR_STAMP_AHEAD);
    assert_int_equal(lab_run(l, "{'base':1,'ops':[{'op':'create','stream':'a'}]}"), ERR_BASE_AHEAD);
    assert_int_equal(lab_run(l, "{'stamp':'%llu','ops':[{'op':'create','stream':'a'}]}", (unsigned long long)((now + STAMP_AHEAD_MS_MAX / 2) << 16)), 0);
    assert_int_equal(lab_run(l, "{'base':1,'ops':[{'op':'drop','stream':'a'}]}"), 0);
}

static void too_many_waiting_are_refused(void **state)
{
    struct app_lab *l = *state;
    struct lab_batch *b = calloc(SUBMITTED_MAX + 1, sizeof *b);
    for (int i = 0; i < SUBMITTED_MAX; i++)
        assert_int_equal(lab_submit(l, &b[i], "{'ops':[{'op':'drop','stream':'s'}]}"), 0);
    assert_int_equal(lab_submit(l, &b[SUBMITTED_MAX], "{'ops':[{'op':'drop','stream':'s'}]}"), ERR_BUSY);
    // Closing answers them all.
    app_lab_close(l);
    for (int i = 0; i < SUBMITTED_MAX; i++) {
        assert_int_equal(b[i].calls, 1);
        assert_int_equal(b[i].fate.err, ERR_SHUTTING_DOWN);
        assert_false(b[i].fate.journaled);
        lab_batch_free(&b[i]);
    }
    free(b);
}

static void a_blob_is_there_for_its_row(void **state)
{
    struct app_lab *l = *state;
    struct sha256 digest;
    char hex[65] = {0};
    assert_int_equal(lab_schema(l, "create table files (content blob)"), 0);
    struct sha256 of = sha256_of(SPAN_LIT("content"));
    hex_format(hex, SPAN(of.b, SHA256_BYTES));
    assert_int_equal(lab_run(l, "{'ops':[{'op':'insert','table':'files','values':{'content':{'blob':'%s'}}}]}", hex), ERR_BLOB_NOT_FOUND);
    assert_int_equal(lab_blob(l, SPAN_LIT("content"), "text/plain", &digest), 0);
    assert_true(sha256_equal(&digest, &of));
    assert_int_equal(lab_run(l, "{'ops':[{'op':'insert','table':'files','id':'" ID1 "','values':{'content':{'blob':'%s'}}}]}", hex), 0);
    app_lab_reopen(l);
    struct blob_info info;
    assert_true(blobs_find(app_blobs(l->app), app_txn(l->app), &digest, &info));
    assert_int_equal(info.size, 7);
    uint64_t checked;
    assert_int_equal(blobs_check(app_blobs(l->app), app_txn(l->app), &checked), 0);
    assert_int_equal(checked, 1);
}

// ---- coming back ---------------------------------------------------------------------------------------------------

static void fates_and_rejections_are_given_again_after_a_start(void **state)
{
    struct app_lab *l = *state;
    with_schema(l);
    const char *yes = "{'replica':'" ID1 "','counter':1,'ops':[{'op':'insert','table':'notes','values':{'title':'a'}}]}";
    const char *no = "{'key':'no','ops':[{'op':'insert','table':'notes','values':{'n':1}}]}";
    uint8_t results[64];
    assert_int_equal(lab_run(l, "%s", yes), 0);
    size_t n = l->last.fate.results.n;
    memcpy(results, l->last.fate.results.p, n);
    assert_int_equal(lab_run(l, "%s", no), ERR_NOT_NULL);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(lab_run(l, "%s", yes), 0);
        assert_true(l->last.fate.again);
        assert_int_equal(l->last.fate.seq, 2);
        assert_true(span_equal(l->last.fate.results, SPAN(results, n)));
        assert_int_equal(lab_run(l, "%s", no), ERR_NOT_NULL);
        assert_true(l->last.fate.again && l->last.fate.journaled);
        assert_int_equal(l->last.fate.problem.position, 0);
        app_lab_reopen(l);
    }
    assert_int_equal(app_visible(l->app), 2);
}

static void run_workload(struct app_lab *l, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        int err = lab_workload(l, i);
        assert_true(err == 0 || l->last.fate.journaled);
    }
}

static void assert_same_state(struct app_lab *a, struct app_lab *b)
{
    char x[65], y[65];
    lab_hash(a, x);
    lab_hash(b, y);
    assert_string_equal(x, y);
    assert_int_equal(app_visible(a->app), app_visible(b->app));
}

static void a_start_changes_nothing(void **state)
{
    struct app_lab *l = *state;
    char before[65], after[65];
    assert_int_equal(lab_schema(l, lab_workload_schema), 0);
    for (unsigned i = 0; i < 5; i++) {
        run_workload(l, i * 20, i * 20 + 20);
        if (i % 2) lab_settle(l);
        lab_hash(l, before);
        uint64_t seq = app_visible(l->app);
        app_lab_reopen(l);
        lab_hash(l, after);
        assert_string_equal(before, after);
        assert_int_equal(app_visible(l->app), seq);
    }
}

static void a_killed_app_comes_back_the_same(void **state)
{
    struct app_lab *l = *state;
    assert_int_equal(lab_schema(l, lab_workload_schema), 0);
    for (unsigned i = 0; i < 72; i++) {
        run_workload(l, i, i + 1);
        if (i % 7 == 3) lab_settle(l);
        if (i % 11 == 5) lab_seal(l);
        if (i % 6 != 0) continue;
        struct app_lab copy;
        app_lab_fork(l, &copy);
        assert_same_state(l, &copy);
        run_workload(&copy, i + 1, i + 13); // and it goes on
        app_lab_free(&copy);
    }
}

// The database's last commits may be lost in a power cut, the journal's groups may not.
static void a_database_that_lost_its_last_commit_catches_up(void **state)
{
    struct app_lab *l = *state, copy;
    char *db = tmp_path(l->path, "db"), *old = tmp_path(l->folder, "older");
    assert_int_equal(lab_schema(l, lab_workload_schema), 0);
    bool have = false;
    for (unsigned i = 0; i < 60; i += 6) {
        run_workload(l, i, i + 6);
        if (i % 12) lab_seal(l);
        // The database as it was before the last commit, with everything else as it is now.
        if (have) folder_remove(old);
        folder_copy(db, old);
        have = true;
        assert_true(lab_commit_db(l));
        app_lab_init(&copy);
        copy.options = l->options;
        folder_copy(l->path, copy.path);
        char *to = tmp_path(copy.path, "db");
        folder_remove(to);
        folder_copy(old, to);
        free(to);
        app_lab_open(&copy);
        assert_same_state(l, &copy);
        app_lab_free(&copy);
    }
    free(db);
    free(old);
}

static void a_database_of_another_journal_is_refused(void **state)
{
    struct app_lab *l = *state, other;
    struct app *a;
    struct problem p = PROBLEM_NONE;
    with_schema(l);
    app_lab_init(&other);
    app_lab_open(&other);
    app_lab_close(&other);
    app_lab_close(l);
    char *mine = tmp_path(l->path, "db"), *theirs = tmp_path(other.path, "db");
    folder_remove(mine);
    folder_copy(theirs, mine);
    free(mine);
    free(theirs);
    assert_int_equal(app_open(&a, &l->options, &p), ERR_CORRUPT);
    assert_non_null(strstr(p.text, "journal"));
    app_lab_free(&other);
}

static void a_journal_without_its_beginning_is_refused(void **state)
{
    struct app_lab *l = *state;
    struct app *a;
    struct problem p = PROBLEM_NONE;
    assert_int_equal(lab_run(l, "{'ops':[{'op':'create','stream':'s'}]}"), 0);
    char *text = malloc(30001);
    memset(text, 'x', 30000);
    text[30000] = '\0';
    for (int i = 0; i < 30; i++)
        assert_int_equal(lab_run(l, "{'ops':[{'op':'append','stream':'s','text':'%s'}]}", text), 0);
    assert_int_equal(lab_run(l, "{'ops':[{'op':'close','stream':'s'}]}"), 0);
    assert_int_equal(lab_seal(l), 0);
    lab_settle(l);
    lab_settle(l);
    assert_int_equal(lab_run(l, "{'ops':[{'op':'create','stream':'t'}]}"), 0);
    lab_settle(l);
    free(text);
    app_lab_close(l);
    char *db = tmp_path(l->path, "db");
    folder_remove(db);
    free(db);
    assert_int_equal(app_open(&a, &l->options, &p), ERR_CORRUPT);
    assert_non_null(strstr(p.text, "goes on at group"));
}

// A token, its group and all around them: a path many times as long does not count, nor does a type that says what is so.
static void a_tokens_append_takes_few_bytes_of_the_journal(void **state)
{
    static const char *const appends[] = {
        "{'ops':[{'op':'append','stream':'rather/a/long/path/of/some/stream','text':' tok'}]}",
        "{'ops':[{'op':'append','stream':'rather/a/long/path/of/some/stream','text':' tok','expect':8}]}",
        "{'ops':[{'op':'append','stream':'json','messages':[1]}]}",
    };
    struct app_lab *l = *state, copy;
    assert_int_equal(lab_run(l, "{'ops':[{'op':'create','stream':'rather/a/long/path/of/some/stream'},{'op':'create','stream':'json','type':'application/json'}]}"), 0);
    assert_int_equal(lab_run(l, "{'ops':[{'op':'append','stream':'rather/a/long/path/of/some/stream','text':'some'}]}"), 0);
    assert_int_equal(lab_run(l, "{'ops':[{'op':'append','stream':'json','messages':[{'a':'b'}]}]}"), 0);
    for (size_t i = 0; i < sizeof appends / sizeof *appends; i++) {
        uint64_t before = app_counts(l->app).group_bytes;
        assert_int_equal(lab_run(l, "%s", appends[i]), 0);
        assert_in_range(app_counts(l->app).group_bytes - before, 24, 48);
    }
    app_lab_fork(l, &copy); // and it is all there when it comes back from the journal
    assert_same_state(l, &copy);
    assert_true(lab_stream_is(&copy, "rather/a/long/path/of/some/stream", "some tok tok"));
    app_lab_free(&copy);
}

static void sealing_lets_the_journal_forget(void **state)
{
    struct app_lab *l = *state;
    char text[8001], before[65], after[65];
    memset(text, 'y', 8000);
    text[8000] = '\0';
    assert_int_equal(lab_run(l, "{'ops':[{'op':'create','stream':'s'},{'op':'create','stream':'open'},{'op':'append','stream':'open','text':'kept'}]}"), 0);
    for (int i = 0; i < 90; i++)
        assert_int_equal(lab_run(l, "{'ops':[{'op':'append','stream':'s','text':'%s'}]}", text), 0);
    lab_settle(l);
    lab_settle(l);
    uint64_t live = app_counts(l->app).journal_live_bytes, disk = app_counts(l->app).journal_disk_bytes;
    assert_true(live > 90 * 8000); // nothing of it may go: the bytes are nowhere else
    assert_int_equal(lab_run(l, "{'ops':[{'op':'append','stream':'open','text':' on'},{'op':'close','stream':'open'},{'op':'close','stream':'s'}]}"), 0);
    lab_hash(l, before);
    assert_int_equal(lab_seal(l), 0);
    assert_true(app_counts(l->app).seals > 0);
    assert_int_equal(app_counts(l->app).unsealed_bytes, 0);
    lab_settle(l);
    lab_settle(l);
    assert_true(app_counts(l->app).journal_live_bytes < live / 2);
    assert_true(app_counts(l->app).journal_disk_bytes < disk / 2);
    lab_hash(l, after);
    assert_string_equal(before, after);
    struct app_lab copy;
    app_lab_fork(l, &copy);
    assert_same_state(l, &copy);
    assert_true(lab_stream_is(&copy, "open", "kept on"));
    app_lab_free(&copy);
}

static void a_quiet_stream_is_sealed(void **state)
{
    struct app_lab *l = *state;
    assert_int_equal(lab_run(l, "{'ops':[{'op':'create','stream':'s'},{'op':'append','stream':'s','text':'open, and quiet'}]}"), 0);
    assert_null(app_seal_begin(l->app)); // not yet: two seconds
    l->options.seal_quiet_ms = 1;
    app_lab_reopen(l);
    usleep(5000);
    assert_int_equal(lab_seal(l), 0);
    assert_int_equal(app_counts(l->app).unsealed_bytes, 0);
    assert_int_equal(lab_run(l, "{'ops':[{'op':'append','stream':'s','text':' no more'}]}"), 0);
    assert_true(lab_stream_is(l, "s", "open, and quiet no more"));
}

// ---- users, and what may be said while building again -----------------------------------------------------------------

struct visitor {
    struct app_user user; // first
    int asked, err;
    bool stays;
};

static void on_reset(struct app_user *u, int err)
{
    struct visitor *v = (struct visitor *)u;
    v->asked++;
    v->err = err;
    if (!v->stays) app_user_remove(u);
}

static void users_are_asked_once_each(void **state)
{
    struct app_lab *l = *state;
    struct visitor v[3] = {0};
    v[1].stays = true;
    for (int i = 0; i < 3; i++)
        app_user_add(l->app, &v[i].user, on_reset);
    app_dismiss(l->app);
    app_dismiss(l->app);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(v[i].asked, 1);
        assert_int_equal(v[i].err, ERR_SHUTTING_DOWN);
    }
    app_user_remove(&v[1].user);
    app_user_remove(&v[1].user); // twice is fine
}

static void a_discarded_app_lets_go_of_its_folder_when_its_last_user_has(void **state)
{
    struct app_lab *l = *state;
    struct visitor v = {.stays = true};
    struct lab_batch b;
    with_schema(l);
    app_user_add(l->app, &v.user, on_reset);
    assert_int_equal(lab_submit(l, &b, "{\"ops\":[{\"op\":\"create\",\"stream\":\"s\"}]}"), 0);
    app_discard(l->app);
    assert_int_equal(v.err, ERR_NO_SUCH_APP);
    assert_int_equal(b.fate.err, ERR_NO_SUCH_APP);
    assert_false(b.fate.journaled);
    lab_batch_free(&b);
    assert_null(app_txn(l->app));
    assert_int_equal(lab_submit(l, &b, "{\"ops\":[{\"op\":\"create\",\"stream\":\"s\"}]}"), ERR_NO_SUCH_APP);
    app_tick(l->app);
    assert_false(app_discarded(l->app));
    app_user_remove(&v.user);
    for (int i = 0; i < 3; i++)
        app_tick(l->app); // once would do, and it does not come back
    assert_true(app_discarded(l->app));
    assert_int_equal(app_state(l->app), APP_RECOVERING);
    assert_false(app_pending(l->app));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_batch_is_accepted_and_shown, setup, teardown),
        cmocka_unit_test_setup_teardown(what_one_turn_takes_is_one_group, setup, teardown),
        cmocka_unit_test_setup_teardown(a_batch_that_is_rejected_leaves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(operations_see_the_ones_before_them, setup, teardown),
        cmocka_unit_test_setup_teardown(deleting_a_row_takes_its_stream_along, setup, teardown),
        cmocka_unit_test_setup_teardown(a_retry_gets_its_fate_and_applies_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(counters_go_on_in_one_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(clocks_are_checked_by_arrival, setup, teardown),
        cmocka_unit_test_setup_teardown(too_many_waiting_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_blob_is_there_for_its_row, setup, teardown),
        cmocka_unit_test_setup_teardown(fates_and_rejections_are_given_again_after_a_start, setup, teardown),
        cmocka_unit_test_setup_teardown(a_start_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_killed_app_comes_back_the_same, setup, teardown),
        cmocka_unit_test_setup_teardown(a_database_that_lost_its_last_commit_catches_up, setup, teardown),
        cmocka_unit_test_setup_teardown(a_database_of_another_journal_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_journal_without_its_beginning_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_tokens_append_takes_few_bytes_of_the_journal, setup, teardown),
        cmocka_unit_test_setup_teardown(sealing_lets_the_journal_forget, setup, teardown),
        cmocka_unit_test_setup_teardown(a_quiet_stream_is_sealed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_discarded_app_lets_go_of_its_folder_when_its_last_user_has, setup, teardown),
        cmocka_unit_test_setup_teardown(users_are_asked_once_each, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
