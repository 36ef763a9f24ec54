// Live views. The heart of it: whatever happens, a reader that applies the changes holds what a fresh query gives.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "err.h"
#include "rows_rig.h"
#include "store.h"

static const char schema[] = "create table t (a integer, b text, c boolean, body stream); create table other (x integer);";

static int setup(void **state)
{
    return rr_setup(state, schema);
}

struct reading {
    struct query *q;
    struct rows_reader reader;
};

static void begin(struct rows_rig *g, struct reading *r, const char *sql)
{
    r->q = rr_compile(g, sql);
    rr_attach(g, &r->reader, r->q, strstr(sql, "order by") != NULL);
    rr_snapshot(g, &r->reader, g->seq, 100);
}

static void end(struct reading *r)
{
    rr_detach(&r->reader);
    query_unref(r->q);
}

// Reads to `to` and compares what is held with a fresh query.
static void catch_up(struct rows_rig *g, struct reading *r, const char *sql, uint64_t to)
{
    uint64_t from = r->reader.seq;
    int err = rr_read(g, &r->reader, to);
    if (err) fail_msg("%s: (%llu, %llu] gave %s", sql, (unsigned long long)from, (unsigned long long)to, err_wire(err));
    char *held = rr_held(&r->reader), *fresh = rr_rows(g, r->q, to);
    if (strcmp(held, fresh) != 0)
        fail_msg("%s: after (%llu, %llu] the reader holds\n%s\nbut the query gives\n%s", sql, (unsigned long long)from,
                 (unsigned long long)to, held, fresh);
    free(held);
    free(fresh);
}

// What the reader was told since last asked.
static void expect_steps(struct rows_rig *g, struct reading *r, const char *steps)
{
    buf_clear(&r->reader.log);
    assert_int_equal(rr_read(g, &r->reader, g->seq), 0);
    buf_put_u8(&r->reader.log, 0);
    assert_string_equal((char *)r->reader.log.p, steps);
}

#define ID(n) "00000000-0000-0000-0000-00000000000" #n

// ---- what is said --------------------------------------------------------------------------------------------------

static void unordered_changes_have_no_positions(void **state)
{
    struct rows_rig *g = *state;
    struct reading r;
    begin(g, &r, "select a from t where a > 1");
    rr_insert(g, "t", 1, "{\"a\":2}");
    expect_steps(g, &r, "{\"added\":{\"id\":\"" ID(1) "\",\"a\":2}}\n");
    rr_update(g, "t", 1, "{\"a\":3}");
    expect_steps(g, &r, "{\"changed\":{\"id\":\"" ID(1) "\",\"a\":3}}\n");
    rr_update(g, "t", 1, "{\"a\":1}");
    expect_steps(g, &r, "{\"removed\":\"" ID(1) "\"}\n");
    rr_update(g, "t", 1, "{\"b\":\"x\"}");
    expect_steps(g, &r, "");
    end(&r);
}

static void ordered_changes_tell_positions(void **state)
{
    struct rows_rig *g = *state;
    struct reading r;
    rr_insert(g, "t", 1, "{\"a\":10}");
    rr_insert(g, "t", 2, "{\"a\":20}");
    begin(g, &r, "select a from t order by a desc");
    rr_insert(g, "t", 3, "{\"a\":15}");
    expect_steps(g, &r, "{\"added\":{\"id\":\"" ID(3) "\",\"a\":15},\"at\":1}\n");
    rr_update(g, "t", 1, "{\"a\":30}");
    expect_steps(g, &r, "{\"changed\":{\"id\":\"" ID(1) "\",\"a\":30},\"at\":0,\"was\":2}\n");
    rr_delete(g, "t", 2);
    expect_steps(g, &r, "{\"removed\":\"" ID(2) "\",\"was\":1}\n");
    end(&r);
}

static void a_row_entering_a_window_pushes_another_out(void **state)
{
    struct rows_rig *g = *state;
    struct reading r;
    rr_insert(g, "t", 1, "{\"a\":10}");
    rr_insert(g, "t", 2, "{\"a\":20}");
    rr_insert(g, "t", 3, "{\"a\":30}");
    begin(g, &r, "select a from t order by a limit 2");
    rr_insert(g, "t", 4, "{\"a\":5}");
    expect_steps(g, &r, "{\"removed\":\"" ID(2) "\",\"was\":1}\n{\"added\":{\"id\":\"" ID(4) "\",\"a\":5},\"at\":0}\n");
    rr_delete(g, "t", 1);
    expect_steps(g, &r, "{\"removed\":\"" ID(1) "\",\"was\":1}\n{\"added\":{\"id\":\"" ID(2) "\",\"a\":20},\"at\":1}\n");
    rr_update(g, "t", 3, "{\"a\":31}");
    expect_steps(g, &r, "");
    end(&r);
}

static void a_batch_is_one_version_of_a_row(void **state)
{
    struct rows_rig *g = *state;
    struct reading r;
    begin(g, &r, "select a from t");
    rr_commit(g);
    rr_begin(g);
    assert_int_equal(rr_op(g, ROW_INSERT, "t", 1, "{\"a\":1}"), 0);
    assert_int_equal(rr_op(g, ROW_UPDATE, "t", 1, "{\"a\":2}"), 0);
    assert_int_equal(rr_op(g, ROW_INSERT, "t", 2, "{\"a\":1}"), 0);
    assert_int_equal(rr_op(g, ROW_DELETE, "t", 2, NULL), 0);
    assert_int_equal(rr_end(g), 0);
    expect_steps(g, &r, "{\"added\":{\"id\":\"" ID(1) "\",\"a\":2}}\n");
    end(&r);
}

static void a_touched_stream_shows_its_row_as_changed(void **state)
{
    struct rows_rig *g = *state;
    struct reading r, sorted, late;
    rr_insert(g, "t", 1, "{\"a\":1}");
    begin(g, &r, "select a from t where a = 1");
    begin(g, &sorted, "select a from t order by a limit 3");
    uint64_t before = g->seq;
    rr_commit(g);
    rr_begin(g);
    assert_int_equal(rows_decide_stream(g->batch, SPAN_LIT("rows/t/" ID(1) "/body"), true, &g->p), 0);
    assert_int_equal(rr_end(g), 0);
    expect_steps(g, &r, "{\"changed\":{\"id\":\"" ID(1) "\",\"a\":1}}\n");
    expect_steps(g, &sorted, "{\"changed\":{\"id\":\"" ID(1) "\",\"a\":1},\"at\":0,\"was\":0}\n");
    begin(g, &late, "select a from t where a < 5"); // its view is younger than the change
    rr_snapshot(g, &late.reader, before, 100);
    expect_steps(g, &late, "{\"changed\":{\"id\":\"" ID(1) "\",\"a\":1}}\n");
    end(&r);
    end(&sorted);
    end(&late);
}

static void nothing_is_shown_before_it_is_published(void **state)
{
    struct rows_rig *g = *state;
    struct reading r;
    begin(g, &r, "select a from t");
    uint64_t visible = g->seq;
    for (int i = 1; i <= 2; i++) {
        rr_commit(g);
        rr_begin(g);
        assert_int_equal(rr_op(g, ROW_INSERT, "t", (unsigned)i, "{\"a\":1}"), 0);
        assert_int_equal(rows_decide_end(g->batch, &g->p), 0);
        buf_clear(&g->effects);
        rows_decide_effects(g->batch, &g->effects);
        rr_drop(g);
        assert_int_equal(rows_apply(g->r, g->txn, &g->c, buf_span(&g->effects)), 0);
        g->seq = g->c.seq;
        assert_int_equal(r.reader.woken, 0);
    }
    rows_publish(g->r, g->txn, visible + 1); // the first of the two
    assert_int_equal(r.reader.woken, visible + 1);
    catch_up(g, &r, "first", visible + 1);
    assert_int_equal(r.reader.n, 1);
    rows_publish(g->r, g->txn, visible + 2);
    assert_int_equal(r.reader.woken, visible + 2);
    catch_up(g, &r, "second", visible + 2);
    end(&r);
}

static void readers_are_woken_only_by_what_they_see(void **state)
{
    struct rows_rig *g = *state;
    struct reading r;
    begin(g, &r, "select a from t where a = 1");
    rr_insert(g, "other", 1, "{\"x\":1}");
    rr_insert(g, "t", 2, "{\"a\":2}");
    assert_int_equal(r.reader.woken, 0);
    rr_insert(g, "t", 3, "{\"a\":1}");
    assert_int_equal(r.reader.woken, g->seq);
    end(&r);
}

// ---- sharing -------------------------------------------------------------------------------------------------------

static void equal_queries_share_a_view(void **state)
{
    struct rows_rig *g = *state;
    struct reading r[4];
    begin(g, &r[0], "select a, b from t where a = 1 and b = 'x'");
    begin(g, &r[1], "select  a , b from t where b = 'x' and a = 1 and a = 1");
    assert_int_equal(rows_counts(g->r).views, 1);
    begin(g, &r[2], "select a, b from t where a = 1 and b = 'y'");
    begin(g, &r[3], "select b, a from t where a = 1 and b = 'x'");
    assert_int_equal(rows_counts(g->r).views, 3);
    assert_int_equal(rows_counts(g->r).subs, 4);
    for (int i = 0; i < 4; i++)
        end(&r[i]);
    assert_int_equal(rows_counts(g->r).views, 0);
}

static void the_same_in_other_words_shares_a_view(void **state)
{
    struct rows_rig *g = *state;
    static const char *const pairs[][2] = {
        {"select a from t where a > 1", "select a from t as x where 1 < x.a"},
        {"select a from t where a = 1 or a = 2 or b = 'x'", "select a from t where b = 'x' or a = 2 or a = 1 or a = 2"},
        {"select a from t where a in (1, 2, 3)", "select a from t where a in (3, 3, 1, 2)"},
        {"select a + 1 as n from t order by a desc limit 3", "select a+1 n from t order by a desc nulls first limit 3 offset 0"},
        {"select a from t where a >= 2 and a <= 5", "select a from t where 5 >= a and 2 <= a"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        struct reading r[2];
        begin(g, &r[0], pairs[i][0]);
        begin(g, &r[1], pairs[i][1]);
        if (rows_counts(g->r).views != 1) fail_msg("not one view: %s | %s", pairs[i][0], pairs[i][1]);
        end(&r[0]);
        end(&r[1]);
    }
    static const char *const others[] = {
        "select a from t where a > 1",         "select a from t where a >= 1",           "select a from t where a > 2",
        "select a as x from t where a > 1",    "select a from t where 1 > a",            "select a from t where a > 1 order by a",
        "select a from t where a > 1 limit 4", "select a from t where a > 1 limit 5",    "select a from t where a > 1 offset 4",
        "select a from t where a - 1 > 1",     "select a from t where a + 1 > 1",        "select a from t where 1 - a > 1",
        "select x as a from other where x > 1", "select a from t where a > 1 order by b", "select a from t where a > 1 or a > 2",
    };
    enum { OTHERS = sizeof others / sizeof *others };
    struct reading all[OTHERS];
    for (size_t i = 0; i < OTHERS; i++)
        begin(g, &all[i], others[i]);
    assert_int_equal(rows_counts(g->r).views, OTHERS);
    for (size_t i = 0; i < OTHERS; i++)
        end(&all[i]);
}

// What cannot be evaluated on a changed row ends the view, as it would end the query; who subscribes afterwards begins anew.
static void a_view_that_cannot_go_on_says_why(void **state)
{
    struct rows_rig *g = *state;
    struct reading r, shown, later;
    begin(g, &r, "select a from t where 10 / a > 1");
    begin(g, &shown, "select 10 / a as q from t"); // fails as it is encoded
    rr_insert(g, "t", 1, "{\"a\":2}");
    expect_steps(g, &r, "{\"added\":{\"id\":\"" ID(1) "\",\"a\":2}}\n");
    rr_insert(g, "t", 2, "{\"a\":0}");
    assert_int_equal(rr_read(g, &r.reader, g->seq), ERR_BAD_VALUE);
    assert_int_equal(rr_read(g, &shown.reader, g->seq), ERR_BAD_VALUE);
    rr_delete(g, "t", 2);
    assert_int_equal(rr_read(g, &r.reader, g->seq), ERR_BAD_VALUE);
    begin(g, &later, "select a from t where 10 / a > 1");
    assert_int_equal(later.reader.n, 1);
    end(&r);
    end(&shown);
    end(&later);
}

// What all ordered views keep of their rows is bounded together: one that would take more ends, and others go on.
static void views_share_a_bound(void **state)
{
    struct rows_rig *g = *state;
    struct reading set, list, joined;
    struct feed_sub *sub;
    begin(g, &set, "select a from t");
    begin(g, &list, "select a from t order by a");
    begin(g, &joined, "select t.a, other.x from t join other on other.x = t.a order by t.a");
    rr_insert(g, "t", 1, "{\"a\":1}");
    rr_insert(g, "other", 1, "{\"x\":1}");
    catch_up(g, &list, "list", g->seq);
    assert_int_equal(rr_read(g, &joined.reader, g->seq), 0);
    size_t others = VIEW_KEYS_BYTES_MAX - g->r->views.held;
    assert_in_range(g->r->views.held, 1, 1000);
    g->r->views.held += others; // as much as is allowed
    rr_insert(g, "t", 2, "{\"a\":2}");
    assert_int_equal(rr_read(g, &list.reader, g->seq), ERR_RESULT_TOO_LARGE);
    catch_up(g, &set, "set", g->seq);
    struct query *q = rr_compile(g, "select a from t order by a desc");
    g->r->views.held += VIEW_KEYS_BYTES_MAX - g->r->views.held; // what the list kept is free again
    assert_int_equal(rows_attach(g->r, g->txn, q, &sub, &g->p), ERR_RESULT_TOO_LARGE);
    query_unref(q);
    size_t counted = g->r->views.held;
    end(&joined);
    assert_true(g->r->views.held < counted);
    end(&set);
    end(&list);
    assert_in_range(g->r->views.held, others, VIEW_KEYS_BYTES_MAX);
    g->r->views.held = 0;
}

static void what_no_view_keeps_is_refused(void **state)
{
    struct rows_rig *g = *state;
    static const char *const texts[] = {"select a from t order by a limit 3 offset 100001", "select distinct body from t"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct query *q = rr_compile(g, texts[i]);
        struct feed_sub *sub;
        assert_int_equal(rows_attach(g->r, g->txn, q, &sub, &g->p), ERR_UNSUPPORTED_SQL);
        query_unref(q);
    }
    assert_int_equal(rows_counts(g->r).views, 0);
}

static void a_query_outlives_a_new_schema(void **state)
{
    struct rows_rig *g = *state;
    struct reading r;
    begin(g, &r, "select * from t where c is null");
    rr_publish(g, "create table aa (y text); create table other (x integer);"
                  "create table t (z integer not null default 3, a integer, b text, c boolean, body stream);");
    rr_insert(g, "t", 1, "{\"a\":1,\"b\":\"q\",\"z\":4}");
    expect_steps(g, &r,
                 "{\"added\":{\"id\":\"" ID(1) "\",\"a\":1,\"b\":\"q\",\"c\":null,\"body\":{\"stream\":\"rows/t/" ID(
                     1) "/body\",\"offset\":48,\"closed\":false}}}\n");
    end(&r);
}

// ---- falling behind ------------------------------------------------------------------------------------------------

static void changes_larger_than_the_ring_come_from_history(void **state)
{
    struct rows_rig *g = *state;
    struct reading set, list, window;
    begin(g, &set, "select a from t where a >= 0");
    begin(g, &list, "select a from t order by a desc");
    begin(g, &window, "select a from t order by a limit 50");
    rr_commit(g);
    rr_begin(g);
    for (unsigned i = 1; i <= VIEW_RING_CHANGES_MAX + 100; i++) {
        char json[32];
        snprintf(json, sizeof json, "{\"a\":%u}", i * 7919 % 1000);
        assert_int_equal(rr_op(g, ROW_INSERT, "t", i, json), 0);
    }
    assert_int_equal(rr_end(g), 0);
    assert_int_equal(set.reader.woken, g->seq);
    rr_update(g, "t", 5, "{\"a\":1}");
    catch_up(g, &set, "set", g->seq);
    catch_up(g, &list, "list", g->seq);
    catch_up(g, &window, "window", g->seq);
    rr_update(g, "t", 6, "{\"a\":1}");
    catch_up(g, &list, "list", g->seq);
    end(&set);
    end(&list);
    end(&window);
}

static void a_reader_behind_the_ring_catches_up_from_history(void **state)
{
    static char json[128 * KIB] = "{\"b\":\"";
    struct rows_rig *g = *state;
    struct reading set, list;
    size_t n = strlen(json);
    memset(json + n, 'x', 100 * KIB);
    strcpy(json + n + 100 * KIB, "\"}");
    begin(g, &set, "select b from t");
    begin(g, &list, "select b from t order by b, id desc");
    for (unsigned i = 1; i <= 2 * VIEW_RING_BYTES_MAX / (100 * KIB); i++)
        rr_insert(g, "t", i, json);
    catch_up(g, &set, "set", g->seq - 15);
    catch_up(g, &list, "list", g->seq - 15);
    catch_up(g, &set, "set", g->seq);
    catch_up(g, &list, "list", g->seq);
    end(&set);
    end(&list);
}

static void reach_stays_within_the_budget(void **state)
{
    struct rows_rig *g = *state;
    struct reading r;
    uint64_t reached;
    begin(g, &r, "select b from t");
    uint64_t from = g->seq;
    for (unsigned i = 1; i <= 10; i++)
        rr_insert(g, "t", i, "{\"b\":\"0123456789\"}");
    const struct feed_ops *ops = r.reader.sub->feed->ops;
    size_t one = strlen("{\"added\":{\"id\":\"" ID(1) "\",\"b\":\"0123456789\"}}");
    assert_int_equal(ops->reach(r.reader.sub, g->txn, from, g->seq, one * 3, &reached), 0);
    assert_int_equal(reached, from + 3);
    assert_int_equal(ops->reach(r.reader.sub, g->txn, from, g->seq, 1, &reached), 0);
    assert_int_equal(reached, from + 1);
    assert_int_equal(ops->reach(r.reader.sub, g->txn, from, g->seq, one * 100, &reached), 0);
    assert_int_equal(reached, g->seq);
    end(&r);
}

// ---- against fresh queries -----------------------------------------------------------------------------------------

static const char *const queries[] = {
    "select a, b from t",
    "select a, b from t where a > 3",
    "select b from t where a is null",
    "select a from t where c = true and a <> 4",
    "select a from t where id = '" ID(7) "'",
    "select a, b from t limit 4",
    "select a from t where a > 2 limit 3",
    "select a, b from t order by a",
    "select a, b from t order by a desc, b",
    "select a from t where c order by b desc nulls last, a",
    "select a from t order by id desc",
    "select a, b from t order by a limit 5",
    "select a, b from t order by b desc, a limit 3",
    "select a from t where a < 6 order by a desc limit 20",
    "select a from t order by a limit 0",
    "select a from t where c is not null order by c, a limit 1",
    "select a from t where a = 3 or b = '2' or c is null",
    "select a, b from t where a in (1, 5, 7) and not (b = '1' or b in ('2', '3'))",
    "select upper(b) || 'x' as x, a * 2 + 1 as y, case when a > 4 then 'much' when a > 2 then 'some' end as z from t where a between 2 and 7",
    "select a from t where b like '%1' or coalesce(a, 0) % 3 = 1",
    "select a, b from t order by coalesce(a, 100) % 4 desc, b",
    "select b from t where not c order by -a nulls first, length(b)",
    "select a, b from t order by a limit 3 offset 2",
    "select a, b from t where a > 2 order by b desc, a offset 3",
    "select a from t limit 2 offset 5",
    "select a from t order by a % 3, b limit 4 offset 25",
    "select a from t order by a desc limit 3 offset 0",
    "select a from t where (a = 1 and b = '1') or (a = 2 and b <> '1') or a > 6",
    "select a from t where b = any(array['1','4']) and c is distinct from true",
    "select a from t where a > 3 and a < 6 order by b",
    "select a from t where 4 <= a and 7 > a and b = '2'",
    "select a from t where c is not true and (a is null or a < 3)",
    "select id, a from t where id in ('" ID(3) "', '" ID(5) "', '" ID(7) "') and a <> 4",
};
enum { QUERIES = sizeof queries / sizeof *queries };

static uint64_t next_random(uint64_t *s)
{
    *s ^= *s << 13, *s ^= *s >> 7, *s ^= *s << 17;
    return *s;
}

struct table_model {
    unsigned live[4096], n, last_id;
    uint64_t random;
};

static void random_columns(struct table_model *m, char *json, size_t size)
{
    unsigned a = (unsigned)(next_random(&m->random) % 9), b = (unsigned)(next_random(&m->random) % 5);
    char number[16] = "null";
    if (a > 0) snprintf(number, sizeof number, "%u", a);
    snprintf(json, size, "{\"a\":%s,\"b\":\"%u\",\"c\":%s}", number, b, a % 3 == 0 ? "true" : a % 3 == 1 ? "false" : "null");
    if (next_random(&m->random) % 3 == 0) snprintf(json, size, "{\"b\":\"%u\"}", b);
}

static void random_operation(struct rows_rig *g, struct table_model *m, unsigned kind)
{
    char json[96];
    unsigned at = m->n > 0 ? (unsigned)(next_random(&m->random) % m->n) : 0;
    random_columns(m, json, sizeof json);
    if (kind < 3 || m->n == 0) {
        m->live[m->n++] = ++m->last_id;
        assert_int_equal(rr_op(g, ROW_INSERT, "t", m->last_id, json), 0);
    } else if (kind < 6) {
        assert_int_equal(rr_op(g, ROW_DELETE, "t", m->live[at], NULL), 0);
        m->live[at] = m->live[--m->n];
    } else {
        assert_int_equal(rr_op(g, ROW_UPDATE, "t", m->live[at], json), 0);
    }
}

// Mostly a few operations of all kinds; now and then many deletes or many inserts, so that windows run dry and overflow.
static void random_batch(struct rows_rig *g, struct table_model *m)
{
    uint64_t burst = next_random(&m->random) % 24;
    unsigned operations = burst < 2 ? 50 : 1 + (unsigned)(next_random(&m->random) % 8);
    rr_commit(g);
    rr_begin(g);
    while (operations-- > 0)
        random_operation(g, m, burst == 0 ? 0 : burst == 1 ? 5 : (unsigned)(next_random(&m->random) % 10));
    assert_int_equal(rr_end(g), 0);
}

// Each query has a reader that keeps up, one that lags by random ranges, and one that begins anew at a past seq now and then.
static void folded_changes_equal_a_fresh_query(uint64_t seed, struct rows_rig *g, int steps)
{
    static struct reading near[QUERIES], far[QUERIES];
    static struct table_model m;
    uint64_t first = g->seq;
    m = (struct table_model){.random = seed};
    for (int i = 0; i < QUERIES; i++) {
        begin(g, &near[i], queries[i]);
        begin(g, &far[i], queries[i]);
    }
    for (int step = 0; step < steps; step++) {
        random_batch(g, &m);
        for (int i = 0; i < QUERIES; i++) {
            catch_up(g, &near[i], queries[i], g->seq);
            uint64_t behind = g->seq - far[i].reader.seq, choice = next_random(&m.random) % 10;
            if (choice == 0) {
                catch_up(g, &far[i], queries[i], far[i].reader.seq + 1 + next_random(&m.random) % behind);
            } else if (choice == 1) {
                uint64_t reached = 0;
                const struct feed_ops *ops = far[i].reader.sub->feed->ops;
                assert_int_equal(ops->reach(far[i].reader.sub, g->txn, far[i].reader.seq, g->seq, next_random(&m.random) % 2000, &reached),
                                 0);
                assert_in_range(reached, far[i].reader.seq + 1, g->seq);
                catch_up(g, &far[i], queries[i], reached);
            } else if (choice == 2) {
                // Nobody holds the view for a moment: the next one's ring begins now, and what was before is in history alone.
                end(&far[i]);
                end(&near[i]);
                begin(g, &near[i], queries[i]);
                begin(g, &far[i], queries[i]);
                rr_snapshot(g, &far[i].reader, first + next_random(&m.random) % (g->seq - first), 300);
            }
        }
    }
    for (int i = 0; i < QUERIES; i++) {
        catch_up(g, &far[i], queries[i], g->seq);
        end(&near[i]);
        end(&far[i]);
    }
}

static void random_operations_1(void **state)
{
    folded_changes_equal_a_fresh_query(88172645463325252u, *state, 250);
}

static void random_operations_2(void **state)
{
    folded_changes_equal_a_fresh_query(1234567, *state, 250);
}

static void random_operations_3(void **state)
{
    folded_changes_equal_a_fresh_query(0xdeadbeefcafe, *state, 250);
}

// Where indexes give the order, and find the rows, views are filled by them.
static void random_operations_with_indexes(void **state)
{
    struct rows_rig *g = *state;
    bool wrote;
    rr_publish(g, "create table t (a integer, b text, c boolean, body stream); create table other (x integer);"
                  "create index t_a on t (a); create index t_ba on t (b desc, a); create index t_c on t (c, a desc) where c is not null;");
    while (rows_busy(g->r))
        assert_int_equal(rows_tick(g->r, g->txn, &wrote), 0);
    folded_changes_equal_a_fresh_query(424242, g, 250);
}

// A connection with many subscriptions comes back: all of them ask for the same commits, of which one concerns so many that it has no room in a round.
static void many_views_that_are_behind_catch_up(void **state)
{
    enum { VIEWS = 90 };
    static struct reading all[VIEWS];
    static char sql[VIEWS][120];
    static struct table_model m;
    struct rows_rig *g = *state;
    uint64_t first = g->seq;
    m = (struct table_model){.random = 20260107};
    for (int step = 0; step < 40; step++) {
        random_batch(g, &m);
        if (step != 20) continue;
        rr_commit(g);
        rr_begin(g);
        for (unsigned i = 0; i < 1000; i++) {
            char json[64];
            random_columns(&m, json, sizeof json);
            m.live[m.n++] = ++m.last_id;
            assert_int_equal(rr_op(g, ROW_INSERT, "t", m.last_id, json), 0);
        }
        assert_int_equal(rr_end(g), 0);
    }
    for (int i = 0; i < VIEWS; i++) {
        snprintf(sql[i], sizeof sql[i], "select a, b from t where a > %d or b = '%d' or a is null%s", i % 10 - 1, i / 10, i % 7 == 0 ? " order by b, a limit 9" : "");
        begin(g, &all[i], sql[i]);
        rr_snapshot(g, &all[i].reader, first, 300);
    }
    for (bool any = true; any;) {
        any = false;
        for (int i = 0; i < VIEWS; i++) {
            struct feed_sub *sub = all[i].reader.sub;
            uint64_t from = all[i].reader.seq, reached;
            if (from == g->seq) continue;
            assert_int_equal(sub->feed->ops->reach(sub, g->txn, from, g->seq, next_random(&m.random) % 20000, &reached), 0);
            assert_in_range(reached, from + 1, g->seq);
            catch_up(g, &all[i], sql[i], next_random(&m.random) % 4 == 0 ? from + 1 : reached);
            any = true;
        }
    }
    for (int i = 0; i < VIEWS; i++)
        end(&all[i]);
}

// A snapshot that is read in pieces while commits go on is still the one seq's.
static void a_snapshot_stays_at_its_seq(void **state)
{
    struct rows_rig *g = *state;
    static const char *const sql[] = {"select a from t", "select a from t order by a desc", "select a from t order by a limit 7"};
    for (unsigned i = 1; i <= 20; i++)
        rr_insert(g, "t", i, "{\"a\":1}");
    for (int k = 0; k < 3; k++) {
        struct query *q = rr_compile(g, sql[k]);
        char *expected = rr_rows(g, q, g->seq);
        struct rows_reader reader;
        uint64_t at = g->seq;
        rr_attach(g, &reader, q, k > 0);
        for (unsigned i = 1; i <= 3; i++)
            rr_update(g, "t", (unsigned)k * 3 + i, "{\"a\":0}");
        rr_delete(g, "t", 15 + (unsigned)k);
        rr_snapshot(g, &reader, at, 1);
        char *held = rr_held(&reader);
        assert_string_equal(held, expected);
        free(held);
        free(expected);
        rr_detach(&reader);
        query_unref(q);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rr_teardown)
    const struct CMUnitTest tests[] = {
        TEST(unordered_changes_have_no_positions),
        TEST(ordered_changes_tell_positions),
        TEST(a_row_entering_a_window_pushes_another_out),
        TEST(a_batch_is_one_version_of_a_row),
        TEST(a_touched_stream_shows_its_row_as_changed),
        TEST(nothing_is_shown_before_it_is_published),
        TEST(readers_are_woken_only_by_what_they_see),
        TEST(equal_queries_share_a_view),
        TEST(the_same_in_other_words_shares_a_view),
        TEST(a_view_that_cannot_go_on_says_why),
        TEST(views_share_a_bound),
        TEST(what_no_view_keeps_is_refused),
        TEST(a_query_outlives_a_new_schema),
        TEST(changes_larger_than_the_ring_come_from_history),
        TEST(a_reader_behind_the_ring_catches_up_from_history),
        TEST(reach_stays_within_the_budget),
        TEST(random_operations_1),
        TEST(random_operations_2),
        TEST(random_operations_3),
        TEST(random_operations_with_indexes),
        TEST(many_views_that_are_behind_catch_up),
        TEST(a_snapshot_stays_at_its_seq),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
