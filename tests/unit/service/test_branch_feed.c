// Live queries on branches, read through sessions: what is folded is what a fresh query on the branch gives, whatever was written where.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "err.h"
#include "session_peer.h"

#define ROW "01890a5d-ac96-774b-bcce-%012u"
#define IDS 24

struct stage {
    struct app_lab lab;
    struct hub hub;
    struct session_peer peer;
    uint64_t dice;
};

static int setup(void **state)
{
    struct stage *s = calloc(1, sizeof *s);
    app_lab_init(&s->lab);
    app_lab_wake(&s->lab, &s->hub);
    app_lab_open(&s->lab);
    assert_int_equal(lab_schema(&s->lab, "create table t (a text, n bigint, c counter, at timestamptz default now()); create table u (a text); create index t_n on t (n)"), 0);
    session_peer_init(&s->peer, &s->lab, &s->hub);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct stage *s = *state;
    session_peer_free(&s->peer);
    app_lab_free(&s->lab);
    free(s);
    return 0;
}

static int step(struct stage *s, enum branch_step what, const char *name, bool live)
{
    return lab_ops(&s->lab, &(struct batch_op){.kind = BATCH_BRANCH, .branch = {.step = what, .name = SPAN_STR(name), .live = live}}, 1, NULL);
}

static void start(struct stage *s, const char *cursor)
{
    assert_int_equal(session_peer_start(&s->peer, cursor), 0);
    hub_run(&s->hub);
}

// xorshift: the same rolls for the same seed.
static unsigned roll(struct stage *s, unsigned n)
{
    s->dice ^= s->dice << 13;
    s->dice ^= s->dice >> 7;
    s->dice ^= s->dice << 17;
    return (unsigned)(s->dice % n);
}

// On a branch or on main (""). Ids of the two are of different rows where rows are made, so that a live branch fits for ever. Many are refused, and change nothing.
static void write_something(struct stage *s, const char *branch)
{
    char where[40] = "";
    if (branch[0] != '\0') snprintf(where, sizeof where, "'branch':'%s',", branch);
    unsigned first = branch[0] == '\0' ? 0 : branch[0] == 'f' ? IDS : 2 * IDS, any = roll(s, 2) ? first : 0;
    switch (roll(s, 6)) {
    case 0:
    case 1: lab_run(&s->lab, "{%s'ops':[{'op':'insert','table':'t','id':'" ROW "','values':{'a':'i','n':%u}}]}", where, first + roll(s, IDS), roll(s, 9)); break;
    case 2: lab_run(&s->lab, "{%s'ops':[{'op':'update','table':'t','id':'" ROW "','values':{'a':'u%u'}}]}", where, any + roll(s, IDS), roll(s, 99)); break;
    // Moves in an order, and in a window, that do not show it.
    case 3: lab_run(&s->lab, "{%s'ops':[{'op':'upsert','table':'t','id':'" ROW "','values':{'n':%u,'c':{'increment':1}}}]}", where, any + roll(s, IDS), roll(s, 9)); break;
    case 4: lab_run(&s->lab, "{%s'ops':[{'op':'insert','table':'u','values':{'a':'x'}}]}", where); break;
    default:
        // Of its own alone: what a live branch writes to stays on main.
        lab_run(&s->lab, "{%s'ops':[{'op':'delete','table':'t','id':'" ROW "'},{'op':'restore','table':'t','id':'" ROW "'}]}", where, first + roll(s, IDS), first + roll(s, IDS));
    }
}

// As of the range that was told last, and now: nothing has changed since.
static void check_all(struct stage *s)
{
    session_peer_drain(&s->peer, -1);
    session_peer_check(&s->peer);
    uint64_t told = s->peer.to;
    s->peer.to = app_visible(s->lab.app);
    session_peer_check(&s->peer);
    s->peer.to = told;
}

static void folded_is_what_a_fresh_query_gives(struct stage *s, uint64_t seed)
{
    s->dice = seed;
    print_message("seed %llu\n", (unsigned long long)seed);
    assert_int_equal(step(s, BRANCH_CREATE, "frozen", false), 0);
    assert_int_equal(step(s, BRANCH_CREATE, "live", true), 0);
    session_peer_branch(&s->peer, "all", "frozen", "select * from t");
    session_peer_branch(&s->peer, "all_live", "live", "select * from t");
    session_peer_branch(&s->peer, "hidden", "live", "select a from t order by n");
    session_peer_branch(&s->peer, "window", "live", "select a, c from t where n > 2 order by n desc limit 5");
    session_peer_branch(&s->peer, "some", "frozen", "select a, n from t where n < 5 order by a, n limit 7");
    session_peer_branch(&s->peer, "nested", "live", "select a, (select count(*) from u where u.a = t.a or t.n > 5) as us from t where exists (select 1 from t o where o.n = t.n and o.id <> t.id)");
    session_peer_branch(&s->peer, "grouped", "live", "select a, count(*) as rows, sum(n) as n from t group by a having count(*) > 1");
    session_peer_branch(&s->peer, "joined", "frozen", "select t.a, t.n, o.n as other from t left join t o on o.a = t.a and o.n > t.n order by t.n desc");
    session_peer_query(&s->peer, "main", "select * from t order by n");
    start(s, NULL);
    for (int i = 0; i < 300; i++) {
        write_something(s, (const char *const[]){"", "frozen", "live"}[roll(s, 3)]);
        unsigned what = roll(s, 12);
        if (what == 0) s->peer.room = 1 + (int)roll(s, 3); // reads slowly
        if (what == 1) session_peer_stop(&s->peer);
        if (what > 1) continue;
        for (unsigned n = roll(s, 5); n > 0; n--)
            write_something(s, (const char *const[]){"", "frozen", "live"}[roll(s, 3)]);
        if (what == 1) start(s, NULL);
        check_all(s);
    }
    check_all(s);
    assert_int_equal(s->peer.resets, 0); // a reader resumes on a branch like anywhere else
    assert_int_equal(s->peer.ends, 0);
    assert_true(s->peer.subs[0].row_count > 3 && s->peer.subs[2].row_count > 3 && s->peer.subs[3].row_count > 3);
}

static void random_writes_are_folded(void **state)
{
    folded_is_what_a_fresh_query_gives(*state, 1);
}

static void other_random_writes_are_folded(void **state)
{
    folded_is_what_a_fresh_query_gives(*state, 0x9e3779b97f4a7c15);
}

static void a_frozen_branch_is_not_told_of_main(void **state)
{
    struct stage *s = *state;
    assert_int_equal(step(s, BRANCH_CREATE, "f", false), 0);
    session_peer_branch(&s->peer, "q", "f", "select a from t");
    start(s, NULL);
    s->peer.room = -1;
    size_t before = s->peer.messages;
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'insert','table':'t','values':{'a':'m'}}]}"), 0);
    assert_int_equal(s->peer.messages, before);
    assert_int_equal(lab_run(&s->lab, "{'branch':'f','ops':[{'op':'insert','table':'t','values':{'a':'b'}}]}"), 0);
    assert_int_equal(s->peer.messages, before + 1);
    assert_int_equal(s->peer.subs[0].row_count, 1);
    session_peer_check(&s->peer);
}

static void a_branch_that_is_gone_ends_the_session(void **state)
{
    struct stage *s = *state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(step(s, BRANCH_CREATE, "b", i), 0);
        if (i == 0) session_peer_branch(&s->peer, "q", "b", "select a from t");
        start(s, "");
        session_peer_drain(&s->peer, -1);
        assert_int_equal(lab_run(&s->lab, "{'branch':'b','ops':[{'op':'insert','table':'t','values':{'a':'b'}}]}"), 0);
        assert_int_equal(s->peer.ends, 0);
        assert_int_equal(step(s, i == 0 ? BRANCH_MERGE : BRANCH_DROP, "b", false), 0);
        assert_int_equal(s->peer.ends, 1);
        assert_int_equal(s->peer.ended, ERR_NO_SUCH_BRANCH);
        session_peer_stop(&s->peer);
        assert_int_equal(session_peer_start(&s->peer, NULL), ERR_NO_SUCH_BRANCH);
    }
}

static void another_branch_of_this_name_is_another_subscription(void **state)
{
    struct stage *s = *state;
    char cursor[128];
    assert_int_equal(step(s, BRANCH_CREATE, "b", false), 0);
    session_peer_branch(&s->peer, "q", "b", "select a from t");
    start(s, NULL);
    session_peer_drain(&s->peer, -1);
    snprintf(cursor, sizeof cursor, "%s", s->peer.cursor);
    session_peer_stop(&s->peer);
    assert_int_equal(step(s, BRANCH_DROP, "b", false), 0);
    assert_int_equal(step(s, BRANCH_CREATE, "b", true), 0);
    start(s, cursor);
    session_peer_drain(&s->peer, -1);
    assert_int_equal(s->peer.resets, 1);
    assert_string_equal(s->peer.reset, "other_subscriptions");
    session_peer_check(&s->peer);
}

static void what_a_live_branch_no_longer_fits_ends_it_too(void **state)
{
    struct stage *s = *state;
    char id[40];
    snprintf(id, sizeof id, ROW, 7);
    assert_int_equal(step(s, BRANCH_CREATE, "b", true), 0);
    assert_int_equal(lab_run(&s->lab, "{'branch':'b','ops':[{'op':'insert','table':'t','id':'%s','values':{'a':'mine'}}]}", id), 0);
    session_peer_branch(&s->peer, "q", "b", "select a from t");
    start(s, NULL);
    session_peer_drain(&s->peer, -1);
    assert_int_equal(s->peer.ends, 0);
    assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'insert','table':'t','id':'%s','values':{'a':'theirs'}}]}", id), 0);
    assert_int_equal(s->peer.ends, 1);
    assert_int_equal(s->peer.ended, ERR_ROW_EXISTS);
}

static void what_is_more_than_it_can_tell_is_refused(void **state)
{
    struct stage *s = *state;
    struct session *session;
    struct problem p = PROBLEM_NONE;
    static const struct session_carrier none = {.send = NULL};
    assert_int_equal(step(s, BRANCH_CREATE, "b", false), 0);
    assert_int_equal(session_open(&session, &s->hub, s->lab.app, &none, NULL), 0);
    assert_int_equal(session_branch_query(session, SPAN_LIT("q"), SPAN_LIT("nowhere"), SPAN_LIT("select a from t"), NULL, 0, &p), ERR_NO_SUCH_BRANCH);
    for (int i = 0; i <= BRANCH_SUBSCRIPTIONS_MAX; i++) {
        char name[16];
        p = PROBLEM_NONE;
        snprintf(name, sizeof name, "n%d", i);
        assert_int_equal(session_branch_query(session, SPAN_STR(name), SPAN_LIT("b"), SPAN_LIT("select a from t"), NULL, 0, &p), 0);
    }
    assert_int_equal(session_start(session, SPAN_NONE, &p), ERR_TOO_MANY);
    session_close(session);
}

// A result grows past what is told in one turn.
static void a_result_that_grows_too_large_says_so(void **state)
{
    struct stage *s = *state;
    char *text = malloc(600 * 1024 + 1);
    memset(text, 'x', 600 * 1024);
    text[600 * 1024] = '\0';
    assert_int_equal(step(s, BRANCH_CREATE, "b", true), 0);
    session_peer_branch(&s->peer, "q", "b", "select a from t order by n");
    start(s, NULL);
    session_peer_drain(&s->peer, -1);
    for (int i = 0; i < 20 && s->peer.ends == 0; i++)
        assert_int_equal(lab_run(&s->lab, "{'ops':[{'op':'insert','table':'t','values':{'a':'%s'}}]}", text), 0);
    assert_int_equal(s->peer.ended, ERR_RESULT_TOO_LARGE);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(random_writes_are_folded, setup, teardown),
        cmocka_unit_test_setup_teardown(other_random_writes_are_folded, setup, teardown),
        cmocka_unit_test_setup_teardown(a_frozen_branch_is_not_told_of_main, setup, teardown),
        cmocka_unit_test_setup_teardown(a_branch_that_is_gone_ends_the_session, setup, teardown),
        cmocka_unit_test_setup_teardown(another_branch_of_this_name_is_another_subscription, setup, teardown),
        cmocka_unit_test_setup_teardown(what_a_live_branch_no_longer_fits_ends_it_too, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_more_than_it_can_tell_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_result_that_grows_too_large_says_so, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
