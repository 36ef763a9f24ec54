#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "db.h"
#include "err.h"
#include "stream_effects.h"
#include "stream_rig.h"

static int setup(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    rig_open(r);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    rig_close(*state);
    free(*state);
    return 0;
}

// A history with everything in it.
static void make_history(struct rig *r)
{
    rig_create1(r, "a");
    rig_append1(r, "a", "one ");
    rig_create1(r, "b");
    rig_append1(r, "b", "beta");
    rig_shut1(r, "b");
    rig_begin(r);
    assert_int_equal(rig_append(r, "a", SPAN_LIT("two "), NULL), 0);
    assert_int_equal(rig_append(r, "a", SPAN_LIT("three"), NULL), 0);
    assert_int_equal(rig_create(r, "c", "application/json", true), 0);
    rig_end(r);
    rig_delete1(r, "b");
    rig_create1(r, "b");
    rig_append1(r, "b", "again");
}

static void expect_history(struct rig *r)
{
    struct stream_info info;
    assert_true(rig_holds(r, "a", "one two three"));
    assert_true(rig_holds(r, "b", "again"));
    assert_true(rig_holds(r, "c", ""));
    assert_true(rig_find_at(r, "b", 5, &info));
    assert_true(info.closed);
    assert_int_equal(info.offset, 4);
    assert_int_equal(info.number, 2);
}

static void every_commit_point_recovers_to_the_same_state(void **state)
{
    (void)state;
    char whole[65];
    for (uint64_t point = 0; point <= 9; point++) {
        for (int seal = 0; seal < 3; seal++) { // never, before the commit, after it
            struct rig r;
            char hash[65];
            rig_open(&r);
            make_history(&r);
            assert_int_equal(r.seq, 9);
            uint64_t seq = r.seq;
            r.seq = point; // as if the process had stopped here …
            rig_crash(&r);
            if (seal == 1) rig_seal_all(&r);
            rig_commit(&r);
            if (seal == 2) rig_seal_all(&r);
            r.seq = seq; // … and the journal held more
            rig_crash(&r);
            expect_history(&r);
            rig_hash(&r, hash);
            if (point == 0 && seal == 0) memcpy(whole, hash, sizeof whole);
            assert_string_equal(hash, whole);
            rig_close(&r);
        }
    }
}

static void restoring_twice_takes_nothing_twice(void **state)
{
    struct rig *r = *state;
    make_history(r);
    rig_commit(r);
    rig_crash(r);
    uint64_t bytes = streams_unsealed_bytes(r->s);
    for (uint64_t i = 0; i < r->seq; i++)
        assert_int_equal(streams_restore(r->s, r->txn, &r->entries[i].c, r->entries[i].effects), 0);
    assert_int_equal(streams_unsealed_bytes(r->s), bytes);
    expect_history(r);
}

static void a_gap_in_the_journal_is_corruption(void **state)
{
    struct rig *r = *state;
    struct buf b;
    make_history(r);
    rig_commit(r);
    struct rig_entry *e = r->entries;
    uint64_t seq = r->seq;
    r->seq = 1; // only the first is there to restore
    rig_crash(r);
    r->seq = seq;
    assert_int_equal(streams_restore(r->s, r->txn, &e[5].c, e[5].effects), ERR_CORRUPT); // "two" without "one"
    buf_init(&b, 100);
    assert_int_equal(streams_read(r->s, r->txn, SPAN_LIT("a"), 0, 10, &b), ERR_CORRUPT);
    buf_free(&b);
}

static void effects_of_another_state_are_corruption(void **state)
{
    struct rig *r = *state;
    make_history(r);
    rig_begin(r);
    assert_int_equal(rig_append(r, "a", SPAN_LIT(" four"), NULL), 0);
    rig_end(r);
    const struct rig_entry *e = &r->entries[r->seq - 1];
    assert_int_equal(streams_apply(r->s, r->txn, &e->c, e->effects), ERR_CORRUPT); // the tail is behind it now
    for (uint64_t i = 0; i < 5; i++)
        assert_int_equal(streams_apply(r->s, r->txn, &r->entries[i].c, r->entries[i].effects), ERR_CORRUPT);
    struct commit c = e->c;
    c.request.n--;
    assert_int_equal(streams_apply(r->s, r->txn, &c, e->effects), ERR_CORRUPT); // data outside of the request
}

static void cut_effects_are_corruption(void **state)
{
    struct rig *r = *state;
    rig_create1(r, "a");
    rig_append1(r, "a", "one");
    rig_shut1(r, "a");
    for (uint64_t i = 0; i < 3; i++) {
        const struct rig_entry *e = &r->entries[i];
        for (size_t n = 1; n < e->effects.n; n++) {
            struct rig other;
            rig_open(&other);
            for (uint64_t j = 0; j < i; j++)
                assert_int_equal(streams_apply(other.s, other.txn, &r->entries[j].c, r->entries[j].effects), 0);
            int err = streams_apply(other.s, other.txn, &e->c, span_sub(e->effects, 0, n));
            assert_int_equal(err, n == 1 ? 0 : ERR_CORRUPT); // a version and no effects is whole
            rig_close(&other);
        }
    }
}

static void an_append_writes_nothing_to_the_database(void **state)
{
    struct rig *r = *state;
    rig_create1(r, "a");
    rig_commit(r);
    uint64_t before = db_dirty_bytes(r->txn);
    for (int i = 0; i < 500; i++)
        rig_append1(r, "a", "token ");
    assert_int_equal(db_dirty_bytes(r->txn), before);
    streams_flush(r->s, r->txn);
    assert_true(db_dirty_bytes(r->txn) > before);
}

static void effects_round_trip(void **state)
{
    (void)state;
    struct effect in[] = {
        {.kind = EFFECT_CREATE, .number = 1, .path = SPAN_LIT("p"), .type = SPAN_LIT("t/t"), .owned = true},
        {.kind = EFFECT_APPEND, .number = UINT64_MAX, .offset = 300, .at = 70000, .length = 1},
        {.kind = EFFECT_CLOSE, .number = 2, .offset = 5},
        {.kind = EFFECT_DELETE, .number = 3},
    };
    struct buf b;
    struct cur c;
    struct effect e;
    buf_init(&b, 1000);
    for (int i = 0; i < 4; i++)
        stream_effect_put(&b, &in[i]);
    stream_effects_begin(&c, buf_span(&b));
    for (int i = 0; i < 4; i++) {
        assert_true(stream_effects_next(&c, &e));
        assert_true(e.kind == in[i].kind && e.number == in[i].number && e.offset == in[i].offset && e.at == in[i].at &&
                    e.length == in[i].length);
        assert_true(span_equal(e.path, in[i].path) && span_equal(e.type, in[i].type) && e.owned == in[i].owned);
    }
    assert_false(stream_effects_next(&c, &e));
    assert_int_equal(c.err, 0);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_commit_point_recovers_to_the_same_state),
        cmocka_unit_test_setup_teardown(restoring_twice_takes_nothing_twice, setup, teardown),
        cmocka_unit_test_setup_teardown(a_gap_in_the_journal_is_corruption, setup, teardown),
        cmocka_unit_test_setup_teardown(effects_of_another_state_are_corruption, setup, teardown),
        cmocka_unit_test_setup_teardown(cut_effects_are_corruption, setup, teardown),
        cmocka_unit_test_setup_teardown(an_append_writes_nothing_to_the_database, setup, teardown),
        cmocka_unit_test(effects_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
