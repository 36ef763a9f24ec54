// Branches: steps that are batches like any other, and what is kept of them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "app_lab.h"
#include "db.h"
#include "err.h"
#include "json_write.h"
#include "preview.h"
#include "tmp.h"

#define A "01890a5d-ac96-774b-bcce-00000000000a"
#define B "01890a5d-ac96-774b-bcce-00000000000b"

static int setup(void **state)
{
    struct app_lab *l = calloc(1, sizeof *l);
    app_lab_init(l);
    app_lab_open(l);
    assert_int_equal(lab_schema(l, "create table t (a text, n counter)"), 0);
    assert_int_equal(lab_run(l, "{'ops':[{'op':'insert','table':'t','id':'" A "','values':{'a':'x','n':1}}]}"), 0);
    *state = l;
    return 0;
}

static int teardown(void **state)
{
    app_lab_free(*state);
    free(*state);
    return 0;
}

static int step(struct app_lab *l, enum branch_step what, const char *name, uint64_t base, bool live)
{
    return lab_ops(l, &(struct batch_op){.kind = BATCH_BRANCH, .branch = {.step = what, .name = SPAN_STR(name), .has_base = true, .base = base, .live = live}}, 1, NULL);
}

static struct branch look(struct app_lab *l, const char *name)
{
    struct branch b;
    assert_int_equal(app_branch(l->app, SPAN_STR(name), &b), 0);
    return b;
}

// Rows that the branch changes.
static size_t changes(struct app_lab *l, const char *name)
{
    struct branch b = look(l, name);
    struct rows_preview *v;
    struct problem p = PROBLEM_NONE;
    struct buf out;
    struct jw w;
    size_t n = 0;
    assert_int_equal(app_branch_preview(l->app, &b, &v, &p), 0);
    buf_init(&out, MIB);
    jw_init(&w, &out);
    assert_int_equal(rows_preview_diff(v, app_txn(l->app), &w), 0);
    assert_true(jw_done(&w));
    for (size_t i = 0; i + 8 < out.n; i++)
        n += memcmp(out.p + i, "\"table\":", 8) == 0;
    buf_free(&out);
    rows_preview_free(v);
    return n;
}

static void a_branch_is_kept_until_it_is_merged(void **state)
{
    struct app_lab *l = *state;
    struct branch b;
    assert_int_equal(step(l, BRANCH_CREATE, "b", 2, false), 0);
    assert_int_equal(lab_run(l, "{'branch':'b','ops':[{'op':'update','table':'t','id':'" A "','values':{'a':'y','n':{'increment':5}}},{'op':'insert','table':'t','values':{'a':'new'}}]}"), 0);
    struct span rest = l->last.fate.results;
    struct result r;
    assert_int_equal(result_read(&rest, &r), 1);
    assert_int_equal(r.op, 1);
    assert_int_equal(r.kind, RESULT_ID);
    assert_int_equal(changes(l, "b"), 2);
    app_lab_reopen(l);
    assert_int_equal(changes(l, "b"), 2);
    b = look(l, "b");
    assert_int_equal(b.writes, 1);
    assert_int_equal(b.ops, 2);
    assert_int_equal(lab_run(l, "{'ops':[{'op':'update','table':'t','id':'" A "','values':{'n':{'increment':100}}}]}"), 0);
    assert_int_equal(step(l, BRANCH_MERGE, "b", 0, false), 0);
    assert_int_equal(app_branch(l->app, SPAN_LIT("b"), &b), ERR_NO_SUCH_BRANCH);
    assert_true(lab_rows_are(l, "select a, n from t where id = '" A "'", "[{'id':'" A "','a':'y','n':106}]"));
}

static void a_name_may_be_used_again_and_finds_nothing_of_before(void **state)
{
    struct app_lab *l = *state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(step(l, BRANCH_CREATE, "b", 2, false), 0);
        assert_int_equal(changes(l, "b"), 0);
        assert_int_equal(step(l, BRANCH_CREATE, "b", 2, false), ERR_BRANCH_EXISTS);
        assert_int_equal(lab_run(l, "{'branch':'b','ops':[{'op':'delete','table':'t','id':'" A "'}]}"), 0);
        assert_int_equal(changes(l, "b"), 1);
        assert_int_equal(step(l, BRANCH_DROP, "b", 0, false), 0);
    }
    assert_int_equal(step(l, BRANCH_DROP, "b", 0, false), ERR_NO_SUCH_BRANCH);
}

static void a_refused_merge_leaves_the_branch(void **state)
{
    struct app_lab *l = *state;
    assert_int_equal(step(l, BRANCH_CREATE, "b", 2, false), 0);
    assert_int_equal(lab_run(l, "{'branch':'b','ops':[{'op':'update','table':'t','id':'" A "','values':{'a':'y'}}]}"), 0);
    assert_int_equal(lab_run(l, "{'ops':[{'op':'update','table':'t','id':'" A "','values':{'a':'z'}}]}"), 0);
    assert_int_equal(step(l, BRANCH_COMMIT, "b", 0, false), ERR_CONFLICT);
    assert_int_equal(changes(l, "b"), 1);
    assert_int_equal(step(l, BRANCH_MERGE, "b", 0, false), 0);
    assert_true(lab_rows_are(l, "select a from t", "[{'id':'" A "','a':'y'}]"));
}

static void a_branch_holds_no_more_than_a_batch(void **state)
{
    struct app_lab *l = *state;
    struct buf json;
    buf_init(&json, BATCH_BYTES_MAX);
    assert_int_equal(step(l, BRANCH_CREATE, "b", 2, false), 0);
    buf_put_str(&json, "{'branch':'b','ops':[");
    for (int i = 0; i < BATCH_OPS_MAX / 2; i++)
        buf_printf(&json, "%s{'op':'insert','table':'t','values':{}}", i ? "," : "");
    buf_put_str(&json, "]}");
    assert_int_equal(lab_run(l, "%.*s", SPAN_FMT(buf_span(&json))), 0);
    assert_int_equal(lab_run(l, "%.*s", SPAN_FMT(buf_span(&json))), 0);
    assert_int_equal(lab_run(l, "{'branch':'b','ops':[{'op':'insert','table':'t','values':{}}]}"), ERR_BATCH_TOO_LARGE);
    assert_int_equal(look(l, "b").ops, BATCH_OPS_MAX);
    buf_free(&json);
}

static int forget(struct app_lab *l, uint64_t upto)
{
    return lab_ops(l, &(struct batch_op){.kind = BATCH_HORIZON, .horizon = upto}, 1, NULL);
}

// Whoever moves the horizon may not have known of the branch.
static void a_branch_keeps_the_history_that_it_stands_on(void **state)
{
    struct app_lab *l = *state;
    assert_int_equal(step(l, BRANCH_CREATE, "old", 2, false), 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(lab_run(l, "{'ops':[{'op':'update','table':'t','id':'" A "','values':{'a':'%d'}}]}", i), 0);
    assert_int_equal(forget(l, app_visible(l->app) - 1), 0);
    assert_int_equal(rows_horizon(app_rows(l->app)), 2);
    assert_int_equal(changes(l, "old"), 0);
    assert_int_equal(step(l, BRANCH_DROP, "old", 0, false), 0);
    assert_int_equal(forget(l, 5), 0);
    assert_int_equal(rows_horizon(app_rows(l->app)), 5);
    assert_int_equal(step(l, BRANCH_CREATE, "old", 2, false), ERR_TOO_OLD);
    assert_int_equal(step(l, BRANCH_CREATE, "new", 5, false), 0);
}

static void there_is_a_limit_to_branches(void **state)
{
    struct app_lab *l = *state;
    char name[20];
    for (int i = 0; i < BRANCHES_MAX; i++) {
        snprintf(name, sizeof name, "b%d", i);
        assert_int_equal(step(l, BRANCH_CREATE, name, 0, i % 2), 0);
    }
    assert_int_equal(step(l, BRANCH_CREATE, "more", 0, false), ERR_TOO_MANY);
    assert_int_equal(step(l, BRANCH_DROP, "b7", 0, false), 0);
    assert_int_equal(step(l, BRANCH_CREATE, "more", 0, false), 0);
    assert_int_equal(step(l, BRANCH_CREATE, "-no", 0, false), ERR_BAD_VALUE);
    assert_int_equal(step(l, BRANCH_CREATE, "ahead", 100000, false), ERR_BASE_AHEAD);
}

// Effects that a damaged journal might hold: refused, whatever they say.
static void damaged_effects_are_refused(void **state)
{
    (void)state;
    static const char *const tables[] = {BRANCHES_TABLES};
    char *folder = tmp_make();
    struct db *db;
    struct buf effects;
    struct problem p = PROBLEM_NONE;
    struct commit c = {.seq = 9};
    assert_int_equal(db_open(&db, &(struct db_options){.path = folder, .map_bytes = 16 * MIB, .tables = tables, .table_count = 1}), 0);
    struct db_txn *txn = db_begin_write(db);
    buf_init(&effects, KIB);
    assert_int_equal(branches_decide_create(txn, 0, &(struct batch_branch){.name = SPAN_LIT("b"), .has_base = true, .base = 3}, &c, &effects, &p), 0);
    for (size_t n = 1; n < effects.n; n++)
        assert_int_equal(branches_apply(txn, 0, &c, SPAN(effects.p, n)), ERR_CORRUPT);
    assert_int_equal(branches_apply(txn, 0, &c, buf_span(&effects)), 0);
    assert_int_equal(branches_apply(txn, 0, &c, buf_span(&effects)), ERR_CORRUPT); // it is there
    struct branch b;
    assert_int_equal(branches_find(txn, 0, SPAN_LIT("b"), &b), 1);
    assert_int_equal(b.no, 9);
    buf_clear(&effects);
    assert_int_equal(branches_decide_write(&b, SPAN_LIT("ops"), 1, &effects, &p), 0);
    for (size_t n = 1; n < effects.n; n++)
        assert_int_equal(branches_apply(txn, 0, &c, SPAN(effects.p, n)), ERR_CORRUPT);
    assert_int_equal(branches_apply(txn, 0, &c, buf_span(&effects)), 0);
    struct branch_write w;
    assert_int_equal(branch_write_at(txn, 0, &b, 0, &w), 0);
    assert_true(span_is(w.ops, "ops"));
    assert_int_equal(w.seq, 9);
    assert_int_equal(branch_write_at(txn, 0, &b, 1, &w), ERR_CORRUPT);
    db_abort(txn);
    db_close(db);
    buf_free(&effects);
    tmp_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_branch_is_kept_until_it_is_merged, setup, teardown),
        cmocka_unit_test_setup_teardown(a_name_may_be_used_again_and_finds_nothing_of_before, setup, teardown),
        cmocka_unit_test_setup_teardown(a_refused_merge_leaves_the_branch, setup, teardown),
        cmocka_unit_test_setup_teardown(a_branch_holds_no_more_than_a_batch, setup, teardown),
        cmocka_unit_test_setup_teardown(a_branch_keeps_the_history_that_it_stands_on, setup, teardown),
        cmocka_unit_test_setup_teardown(there_is_a_limit_to_branches, setup, teardown),
        cmocka_unit_test(damaged_effects_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
