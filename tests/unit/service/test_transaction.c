// A batch that is a transaction: how it is said, what it is refused for, and that its fate is one like any other.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "app_lab.h"
#include "batch_reads.h"
#include "err.h"
#include "hlc.h"

#define A "01890a5d-ac96-774b-bcce-00000000000a"
#define B "01890a5d-ac96-774b-bcce-00000000000b"
#define SCHEMA "create table accounts (owner text, balance bigint not null)"

static int setup(void **state)
{
    struct app_lab *l = calloc(1, sizeof *l);
    app_lab_init(l);
    app_lab_open(l);
    assert_int_equal(lab_schema(l, SCHEMA), 0);
    assert_int_equal(lab_run(l, "{'ops':[{'op':'insert','table':'accounts','id':'" A "','values':{'balance':100}},{'op':'insert','table':'accounts','id':'" B "','values':{'balance':0}}]}"), 0);
    *state = l;
    return 0;
}

static int teardown(void **state)
{
    app_lab_free(*state);
    free(*state);
    return 0;
}

#define BALANCES "select balance from accounts"
#define BOTH(a, b) "[{'id':'" A "','balance':" #a "},{'id':'" B "','balance':" #b "}]"

// Moves 10 from A to B, of which both were read at `base`.
static int move_ten(struct app_lab *l, uint64_t base, const char *name)
{
    return lab_run(l, "{%s'mode':'transaction','base':%llu,'rows':[['accounts','" A "'],['accounts','" B "']],'ops':["
                      "{'op':'update','table':'accounts','id':'" A "','values':{'balance':90}},{'op':'update','table':'accounts','id':'" B "','values':{'balance':10}}]}",
                   name, (unsigned long long)base);
}

static struct rows_conflict only_conflict(struct app_lab *l)
{
    struct span rest = l->last.fate.results;
    struct result r, more;
    assert_int_equal(result_read(&rest, &r), 1);
    assert_int_equal(r.kind, RESULT_CONFLICT);
    assert_int_equal(result_read(&rest, &more), 0);
    return r.conflict;
}

// ---- deciding ------------------------------------------------------------------------------------------------------

static void what_was_read_stands_and_the_transaction_is_accepted(void **state)
{
    struct app_lab *l = *state;
    assert_int_equal(move_ten(l, 2, ""), 0);
    assert_int_equal(l->last.fate.seq, 3);
    assert_true(lab_rows_are(l, BALANCES, BOTH(90, 10)));
}

static void a_stale_read_is_a_rejection_that_names_the_row(void **state)
{
    struct app_lab *l = *state;
    struct uuid b;
    assert_int_equal(lab_run(l, "{'ops':[{'op':'update','table':'accounts','id':'" B "','values':{'balance':5}}]}"), 0);
    assert_int_equal(move_ten(l, 2, ""), ERR_CONFLICT);
    assert_true(l->last.fate.journaled);
    struct rows_conflict c = only_conflict(l);
    assert_int_equal(uuid_parse(&b, SPAN_LIT(B)), 0);
    assert_true(uuid_equal(c.id, b) && span_is(c.table, "accounts"));
    assert_int_equal(c.seq, 3);
    assert_int_equal(c.read, ROWS_READ_ROW);
    assert_true(lab_rows_are(l, BALANCES, BOTH(100, 5)));
    assert_int_equal(move_ten(l, 3, ""), 0);
}

static void of_two_in_one_turn_the_second_conflicts(void **state)
{
    struct app_lab *l = *state;
    struct lab_batch one, two;
    const char *json = "{\"mode\":\"transaction\",\"base\":2,\"rows\":[[\"accounts\",\"" A "\"]],\"ops\":[{\"op\":\"update\",\"table\":\"accounts\",\"id\":\"" A "\",\"values\":{\"balance\":1}}]}";
    assert_int_equal(lab_submit(l, &one, json), 0);
    assert_int_equal(lab_submit(l, &two, json), 0);
    app_turn(l->app);
    assert_int_equal(one.fate.err, 0);
    assert_int_equal(two.fate.err, ERR_CONFLICT);
    lab_batch_free(&one);
    lab_batch_free(&two);
}

static void the_fate_is_given_again_with_its_conflicts_also_after_a_restart(void **state)
{
    struct app_lab *l = *state;
    assert_int_equal(lab_run(l, "{'ops':[{'op':'update','table':'accounts','id':'" A "','values':{'balance':99}}]}"), 0);
    assert_int_equal(move_ten(l, 2, "'key':'move',"), ERR_CONFLICT);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(move_ten(l, 2, "'key':'move',"), ERR_CONFLICT);
        assert_true(l->last.fate.again);
        assert_int_equal(only_conflict(l).seq, 3);
        app_lab_reopen(l);
    }
    // Another base is another batch.
    assert_int_equal(move_ten(l, 3, "'key':'move',"), ERR_NAME_REUSED);
}

static void a_restart_between_begin_and_commit_changes_nothing(void **state)
{
    struct app_lab *l = *state;
    uint64_t base = app_visible(l->app);
    app_lab_reopen(l);
    assert_int_equal(move_ten(l, base, ""), 0);
    app_lab_reopen(l);
    assert_int_equal(move_ten(l, base, ""), ERR_CONFLICT);
}

static void a_transaction_shows_over_any_stamp(void **state)
{
    struct app_lab *l = *state;
    // A writer whose clock goes ahead, though not too far.
    uint64_t ahead = hlc_stamp(app_visible_ms(l->app) + STAMP_AHEAD_MS_MAX / 2, 0);
    assert_int_equal(lab_run(l, "{'stamp':'%llu','ops':[{'op':'update','table':'accounts','id':'" A "','values':{'balance':7}}]}", (unsigned long long)ahead), 0);
    app_lab_reopen(l);
    assert_int_equal(move_ten(l, 3, ""), 0);
    assert_true(lab_rows_are(l, BALANCES, BOTH(90, 10)));
    // What is stamped between the two is older than the transaction.
    assert_int_equal(lab_run(l, "{'stamp':'%llu','ops':[{'op':'update','table':'accounts','id':'" A "','values':{'balance':8}}]}", (unsigned long long)ahead), 0);
    assert_true(lab_rows_are(l, BALANCES, BOTH(90, 10)));
}

// As of its place in the order the row is gone: there is nothing to write to, and nobody is told otherwise.
static void a_blind_update_of_a_deleted_row_is_refused(void **state)
{
    struct app_lab *l = *state;
    assert_int_equal(lab_run(l, "{'ops':[{'op':'delete','table':'accounts','id':'" A "'}]}"), 0);
    assert_int_equal(lab_run(l, "{'mode':'transaction','base':2,'ops':[{'op':'update','table':'accounts','id':'" A "','values':{'balance':8}}]}"), ERR_NO_SUCH_ROW);
    assert_int_equal(lab_run(l, "{'base':2,'ops':[{'op':'update','table':'accounts','id':'" A "','values':{'balance':8}}]}"), 0);
}

static void a_base_of_zero_is_before_everything(void **state)
{
    struct app_lab *l = *state;
    assert_int_equal(lab_run(l, "{'mode':'transaction','base':0,'rows':[['accounts','" A "']],'ops':[]}"), ERR_CONFLICT);
    assert_int_equal(lab_run(l, "{'mode':'transaction','base':3,'rows':[['accounts','" A "']],'ops':[]}"), ERR_BASE_AHEAD);
    assert_int_equal(lab_run(l, "{'mode':'transaction','base':2,'rows':[['accounts','" A "']],'ops':[]}"), 0);
    assert_int_equal(lab_run(l, "{'mode':'transaction','base':2,'rows':[['nowhere','" A "']],'ops':[]}"), ERR_NO_SUCH_TABLE);
}

static void positions_count_operations_alone(void **state)
{
    struct app_lab *l = *state;
    assert_int_equal(lab_run(l, "{'mode':'transaction','base':2,'rows':[['accounts','" A "']],'ops':["
                                "{'op':'insert','table':'accounts','values':{'balance':1}},{'op':'insert','table':'accounts','values':{}}]}"), ERR_NOT_NULL);
    assert_int_equal(l->last.fate.problem.position, 1);
    assert_int_equal(lab_run(l, "{'mode':'transaction','base':2,'rows':[['accounts','" A "']],'ops':[{'op':'insert','table':'accounts','values':{'balance':1}}]}"), 0);
    struct span rest = l->last.fate.results;
    struct result r;
    assert_int_equal(result_read(&rest, &r), 1);
    assert_int_equal(r.op, 0);
    assert_int_equal(r.kind, RESULT_ID);
}

// ---- reservations --------------------------------------------------------------------------------------------------

static void submit_from(struct app_lab *l, struct lab_batch *b, uint64_t connection, const char *json)
{
    char *text = lab_json(json);
    assert_int_equal(lab_submit(l, b, text), 0);
    b->submission.connection = connection;
    free(text);
}

static int run_from(struct app_lab *l, uint64_t connection, const char *json)
{
    struct lab_batch b;
    submit_from(l, &b, connection, json);
    app_turn(l->app);
    assert_true(b.done);
    int err = b.fate.err;
    lab_batch_free(&b);
    return err;
}

#define STALE "{'mode':'transaction','base':1,'rows':[['accounts','" A "']],'ops':[]}"
#define FRESH "{'mode':'transaction','base':%llu,'rows':[['accounts','" A "']],'ops':[{'op':'update','table':'accounts','id':'" A "','values':{'balance':1}}]}"
#define OTHER(id, n) "{'ops':[{'op':'update','table':'accounts','id':'" id "','values':{'balance':" #n "}}]}"

// After three conflicts what client 1 read is its own for a moment.
static void with_reservation(struct app_lab *l)
{
    for (int i = 0; i < RESERVATION_CONFLICTS; i++)
        assert_int_equal(run_from(l, 1, STALE), ERR_CONFLICT);
}

static void after_three_conflicts_others_wait_for_the_next_try(void **state)
{
    struct app_lab *l = *state;
    struct lab_batch other, behind, elsewhere, own;
    char json[300];
    with_reservation(l);
    snprintf(json, sizeof json, FRESH, (unsigned long long)app_visible(l->app));
    submit_from(l, &other, 2, OTHER(A, 55));
    submit_from(l, &behind, 2, OTHER(B, 66)); // of the same writer: in its order
    submit_from(l, &elsewhere, 3, OTHER(B, 77));
    app_turn(l->app);
    assert_false(other.done);
    assert_false(behind.done);
    assert_true(elsewhere.done);
    submit_from(l, &own, 1, json);
    app_turn(l->app);
    assert_true(own.done);
    assert_int_equal(own.fate.err, 0);
    assert_true(other.done);
    assert_true(behind.done);
    assert_true(own.fate.seq < other.fate.seq && other.fate.seq < behind.fate.seq);
    assert_true(lab_rows_are(l, BALANCES, BOTH(55, 66)));
    lab_batch_free(&other), lab_batch_free(&behind), lab_batch_free(&elsewhere), lab_batch_free(&own);
}

static void a_reservation_ends_by_itself_and_holds_nobody_twice(void **state)
{
    struct app_lab *l = *state;
    struct lab_batch other;
    with_reservation(l);
    submit_from(l, &other, 2, OTHER(A, 55));
    app_turn(l->app);
    assert_false(other.done);
    assert_true(app_busy(l->app));
    // Its client is not heard of again. A clock that stands would be a loop without an end, and a failure.
    while (!other.done) {
        app_tick(l->app);
        if (app_pending(l->app)) app_turn(l->app);
    }
    assert_int_equal(other.fate.err, 0);
    lab_batch_free(&other);
}

static void no_more_wait_than_there_is_room_for_and_their_order_stays(void **state)
{
    struct app_lab *l = *state;
    const size_t n = RESERVATION_HELD_MAX + 1;
    struct lab_batch *many = calloc(n, sizeof *many);
    assert_non_null(many);
    with_reservation(l);
    for (size_t i = 0; i < n - 1; i++)
        submit_from(l, &many[i], 2, i == 0 ? OTHER(A, 55) : OTHER(B, 66));
    app_turn(l->app);
    assert_false(many[0].done || many[n - 2].done);
    submit_from(l, &many[n - 1], 2, OTHER(B, 77));
    app_turn(l->app);
    for (size_t i = 0; i < n; i++) {
        assert_true(many[i].done && many[i].fate.err == 0);
        assert_true(i == 0 || many[i - 1].fate.seq < many[i].fate.seq);
    }
    assert_true(lab_rows_are(l, BALANCES, BOTH(55, 77)));
    for (size_t i = 0; i < n; i++)
        lab_batch_free(&many[i]);
    free(many);
}

static void two_conflicts_reserve_nothing_and_success_begins_the_count_anew(void **state)
{
    struct app_lab *l = *state;
    char json[300];
    for (int i = 0; i < RESERVATION_CONFLICTS - 1; i++)
        assert_int_equal(run_from(l, 1, STALE), ERR_CONFLICT);
    snprintf(json, sizeof json, FRESH, (unsigned long long)app_visible(l->app));
    assert_int_equal(run_from(l, 1, json), 0);
    assert_int_equal(run_from(l, 1, STALE), ERR_CONFLICT);
    assert_int_equal(run_from(l, 4, STALE), ERR_CONFLICT); // each client for itself
    assert_int_equal(run_from(l, 2, OTHER(A, 3)), 0);
}

static void a_closing_app_holds_nothing_back(void **state)
{
    struct app_lab *l = *state;
    struct lab_batch other;
    with_reservation(l);
    submit_from(l, &other, 2, OTHER(A, 55));
    app_turn(l->app);
    assert_false(other.done);
    app_dismiss(l->app);
    assert_true(app_pending(l->app));
    app_turn(l->app);
    assert_true(other.done);
    assert_int_equal(other.fate.err, 0);
    lab_batch_free(&other);
    with_reservation(l);
    submit_from(l, &other, 2, OTHER(A, 56));
    app_turn(l->app);
    app_lab_close(l);
    assert_true(other.done);
    assert_int_equal(other.fate.err, ERR_SHUTTING_DOWN);
    lab_batch_free(&other);
    app_lab_open(l);
}

// ---- saying it -----------------------------------------------------------------------------------------------------

static void token_of(struct buf *out, uint64_t at, const char *from, const char *to)
{
    struct read_set *set = read_set_new();
    buf_init(out, 2 * READ_SET_MAX);
    read_set_range(set, 1, 0, SPAN_STR(from), SPAN_STR(to));
    assert_int_equal(read_set_finish(set), 0);
    reads_token_put(out, at, set);
    assert_int_equal(out->err, 0);
    read_set_free(set);
}

static void what_queries_read_is_joined(void **state)
{
    struct app_lab *l = *state;
    struct buf low, high;
    token_of(&low, 2, "", "\1\x89");
    token_of(&high, 2, "\2", "");
    // Neither covers the rows, whose ids begin with 0189.
    const char *json = "{'mode':'transaction','base':%d,'reads':['%.*s','%.*s'],'ops':[]}";
    assert_int_equal(lab_run(l, json, 0, SPAN_FMT(buf_span(&low)), SPAN_FMT(buf_span(&high))), 0);
    buf_free(&high);
    token_of(&high, 2, "\1\x89", "");
    assert_int_equal(lab_run(l, json, 0, SPAN_FMT(buf_span(&low)), SPAN_FMT(buf_span(&high))), ERR_CONFLICT);
    struct span rest = l->last.fate.results;
    struct result r;
    assert_int_equal(result_read(&rest, &r), 1);
    assert_int_equal(r.conflict.read, ROWS_READ_TABLE); // joined, they are all of it
    buf_free(&low);
    buf_free(&high);
}

static void what_is_not_a_transaction_is_malformed(void **state)
{
    (void)state;
    struct buf token, out;
    struct batch_head head;
    buf_init(&out, BATCH_BYTES_MAX);
    token_of(&token, 1, "a", "b");
    char late[400];
    snprintf(late, sizeof late, "{'mode':'transaction','base':2,'reads':['%.*s'],'ops':[]}", SPAN_FMT(buf_span(&token)));
    const char *const bad[] = {
        "{'mode':'serial','ops':[{'op':'drop','stream':'a'}]}",
        "{'mode':'merge','ops':[]}",
        "{'reads':[],'ops':[{'op':'drop','stream':'a'}]}",
        "{'rows':[],'ops':[{'op':'drop','stream':'a'}]}",
        "{'mode':'transaction','ops':[{'op':'drop','stream':'a'}]}",
        "{'mode':'transaction','base':1,'stamp':5,'ops':[{'op':'drop','stream':'a'}]}",
        "{'mode':'transaction','base':1,'reads':'x','ops':[]}",
        "{'mode':'transaction','base':1,'reads':['AAAA'],'ops':[]}",
        "{'mode':'transaction','base':1,'rows':[['accounts']],'ops':[]}",
        "{'mode':'transaction','base':1,'rows':[['accounts','x']],'ops':[]}",
        "{'mode':'transaction','base':1}",
        late,
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *json = lab_json(bad[i]);
        struct problem p = PROBLEM_NONE;
        buf_clear(&out);
        assert_int_equal(batch_from_json(SPAN_STR(json), &head, &out, &p), ERR_BAD_BATCH);
        free(json);
    }
    buf_free(&token);
    buf_free(&out);
}

static void tokens_are_strict(void **state)
{
    (void)state;
    struct buf token;
    struct read_set *set = read_set_new();
    uint64_t at = 0;
    token_of(&token, 300, "a", "b");
    assert_int_equal(reads_token_take(buf_span(&token), set, &at), 0);
    assert_int_equal(at, 300);
    for (size_t n = 0; n < token.n; n++)
        assert_int_equal(reads_token_take(SPAN(token.p, n), set, &at), ERR_BAD_VALUE);
    buf_put_str(&token, "AAAA");
    assert_int_equal(reads_token_take(buf_span(&token), set, &at), ERR_BAD_VALUE);
    buf_free(&token);
    read_set_free(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_read_stands_and_the_transaction_is_accepted, setup, teardown),
        cmocka_unit_test_setup_teardown(a_stale_read_is_a_rejection_that_names_the_row, setup, teardown),
        cmocka_unit_test_setup_teardown(of_two_in_one_turn_the_second_conflicts, setup, teardown),
        cmocka_unit_test_setup_teardown(the_fate_is_given_again_with_its_conflicts_also_after_a_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(a_restart_between_begin_and_commit_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_transaction_shows_over_any_stamp, setup, teardown),
        cmocka_unit_test_setup_teardown(a_blind_update_of_a_deleted_row_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_base_of_zero_is_before_everything, setup, teardown),
        cmocka_unit_test_setup_teardown(positions_count_operations_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(after_three_conflicts_others_wait_for_the_next_try, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reservation_ends_by_itself_and_holds_nobody_twice, setup, teardown),
        cmocka_unit_test_setup_teardown(no_more_wait_than_there_is_room_for_and_their_order_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(two_conflicts_reserve_nothing_and_success_begins_the_count_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(a_closing_app_holds_nothing_back, setup, teardown),
        cmocka_unit_test_setup_teardown(what_queries_read_is_joined, setup, teardown),
        cmocka_unit_test(what_is_not_a_transaction_is_malformed),
        cmocka_unit_test(tokens_are_strict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
