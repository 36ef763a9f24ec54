// The laws of merging: concurrent batches of several replicas, in random orders of arrival, in groups of random sizes, each sent again at
// random, come to one and the same state, which a model that knows no order foretells, and a preview of them, too. SEED=n runs one seed again.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "app_lab.h"
#include "err.h"
#include "file.h"
#include "hlc.h"
#include "json_read.h"
#include "json_write.h"

static const char schema[] = "create table t (run integer, l text default 'd', n counter, hi integer options (merge 'max') default 50,"
                             " lo integer options (merge 'min') default 50, tags text[] options (merge 'set'));";

enum { LWW = 1, COUNTER = 2, MAX = 4, MIN = 8, SET = 16, ALL = 31, DELETES = 32, UPSERTS = 64 };
enum { REPLICAS = 4, BATCHES = 5, OPS = 3, ORDERS = 8, ROWS = 4, LETTERS = 4 }; // row 4 is there only once it is upserted

// What one operation says of one row; -1 and NULL: nothing.
struct op {
    int row;
    bool delete;
    int l, n, hi, lo;
    bool tags, absolute;
    unsigned add, remove; // letters, as bits
};

struct batch {
    struct op ops[OPS];
    int count;
    uint64_t stamp;
};

struct scenario {
    unsigned what;
    struct batch batches[REPLICAS][BATCHES];
    uint64_t now;
};

static uint64_t state;

static unsigned dice(unsigned sides)
{
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (unsigned)(state >> 33) % sides;
}

static void make_op(struct op *o, unsigned what)
{
    *o = (struct op){.row = 1 + (int)dice(what & UPSERTS ? ROWS : ROWS - 1), .l = -1, .n = 0, .hi = -1, .lo = -1};
    if (what & DELETES && o->row == 3 && dice(12) == 0) o->delete = true;
    if (what & LWW && dice(2)) o->l = (int)dice(1000);
    if (what & COUNTER && dice(2)) o->n = (int)dice(100) - 40;
    if (what & MAX && dice(2)) o->hi = (int)dice(100);
    if (what & MIN && dice(2)) o->lo = (int)dice(100);
    o->tags = what & SET && dice(2);
    o->absolute = dice(4) == 0;
    o->add = dice(1 << LETTERS);
    o->remove = o->absolute ? 0 : dice(1 << LETTERS) & ~o->add;
}

// A replica's stamps go up, or stay; those of several are often equal.
static void make_scenario(struct scenario *s, unsigned what)
{
    *s = (struct scenario){.what = what, .now = hlc_stamp(clock_wall_ms(), 0)};
    for (int r = 0; r < REPLICAS; r++) {
        uint64_t stamp = s->now + dice(3);
        for (int b = 0; b < BATCHES; b++) {
            struct batch *batch = &s->batches[r][b];
            batch->stamp = stamp += dice(3);
            batch->count = 1 + (int)dice(OPS);
            for (int o = 0; o < batch->count; o++)
                make_op(&batch->ops[o], what);
            for (int o = 0; o < batch->count; o++)
                if (batch->ops[o].delete) batch->ops[0] = batch->ops[o], batch->count = 1; // nothing is written to what the batch itself deletes
        }
    }
}

// ---- the model -----------------------------------------------------------------------------------------------------

struct model_row {
    bool there, deleted;
    int l, n, hi, lo;       // -1: a default that nobody has written over
    uint64_t stamp;
    unsigned tags, ended;   // those that it began with; those of them that somebody has seen and ended
    unsigned added[REPLICAS];
    bool empty; // somebody said that it is empty, so it is not null
};

static void model_op(struct model_row *m, const struct op *o, int replica, uint64_t stamp)
{
    m->there = true;
    m->deleted |= o->delete;
    if (o->delete) return;
    if (o->l >= 0 && stamp >= m->stamp) m->l = o->l, m->stamp = stamp; // replicas come in the order of their ids
    m->n += o->n;
    if (o->hi >= 0 && (m->hi < 0 || o->hi > m->hi)) m->hi = o->hi;
    if (o->lo >= 0 && (m->lo < 0 || o->lo < m->lo)) m->lo = o->lo;
    if (!o->tags) return;
    unsigned gone = o->absolute ? ~0u : o->remove;
    m->ended |= gone | o->add;
    m->added[replica] = (m->added[replica] & ~gone) | o->add;
    m->empty |= o->absolute || o->add;
}

static void put_tags(struct buf *out, const struct model_row *m)
{
    unsigned tags = m->tags & ~m->ended;
    bool first = true;
    for (int r = 0; r < REPLICAS; r++)
        tags |= m->added[r];
    buf_put_str(out, "[");
    for (int k = 0; k < LETTERS; k++) {
        if (!(tags >> k & 1)) continue;
        buf_printf(out, "%s\"%c\"", first ? "" : ",", 'a' + k);
        first = false;
    }
    buf_put_str(out, "]");
}

static void foretell(const struct scenario *s, struct buf *out)
{
    struct model_row rows[ROWS + 1] = {{0}};
    for (int k = 1; k <= ROWS; k++)
        rows[k] = k < ROWS ? (struct model_row){.there = true, .l = -1, .hi = 50, .lo = 50, .tags = 3, .empty = true}
                           : (struct model_row){.l = -1, .hi = -1, .lo = -1};
    for (int r = 0; r < REPLICAS; r++)
        for (int b = 0; b < BATCHES; b++)
            for (int o = 0; o < s->batches[r][b].count; o++)
                model_op(&rows[s->batches[r][b].ops[o].row], &s->batches[r][b].ops[o], r, s->batches[r][b].stamp);
    for (int k = 1; k <= ROWS; k++) {
        const struct model_row *m = &rows[k];
        if (!m->there || m->deleted) continue;
        buf_printf(out, m->l < 0 ? "%d d" : "%d %d", k, m->l);
        buf_printf(out, " %d %d %d ", m->n, m->hi < 0 ? 50 : m->hi, m->lo < 0 ? 50 : m->lo);
        if (m->empty) put_tags(out, m);
        else buf_put_str(out, "null");
        buf_put_str(out, "\n");
    }
    buf_put_u8(out, 0);
}

// ---- the service ---------------------------------------------------------------------------------------------------

static void put_id(struct buf *out, int run, int row)
{
    buf_printf(out, "\"00000000-0000-0000-%04x-%012x\"", (unsigned)run, (unsigned)row);
}

static void put_letters(struct buf *out, unsigned letters)
{
    bool first = true;
    buf_put_str(out, "[");
    for (int k = 0; k < LETTERS; k++) {
        if (!(letters >> k & 1)) continue;
        buf_printf(out, "%s\"%c\"", first ? "" : ",", 'a' + k);
        first = false;
    }
    buf_put_str(out, "]");
}

static void put_op(struct buf *out, const struct op *o, int run)
{
    buf_printf(out, "{\"op\":\"%s\",\"table\":\"t\",\"id\":", o->delete ? "delete" : o->row == ROWS ? "upsert" : "update");
    put_id(out, run, o->row);
    if (o->delete) {
        buf_put_str(out, "}");
        return;
    }
    buf_printf(out, ",\"values\":{\"run\":%d", run);
    if (o->l >= 0) buf_printf(out, ",\"l\":\"%d\"", o->l);
    if (o->n != 0) buf_printf(out, ",\"n\":{\"increment\":%d}", o->n);
    if (o->hi >= 0) buf_printf(out, ",\"hi\":%d", o->hi);
    if (o->lo >= 0) buf_printf(out, ",\"lo\":%d", o->lo);
    if (o->tags && o->absolute) {
        buf_put_str(out, ",\"tags\":");
        put_letters(out, o->add);
    } else if (o->tags) {
        buf_put_str(out, ",\"tags\":{\"add\":");
        put_letters(out, o->add);
        buf_put_str(out, ",\"remove\":");
        put_letters(out, o->remove);
        buf_put_str(out, "}");
    }
    buf_put_str(out, "}}");
}

static char *batch_json(const struct scenario *s, int run, int replica, int n, uint64_t base)
{
    const struct batch *b = &s->batches[replica][n];
    struct buf out;
    buf_init(&out, 16 * KIB);
    buf_printf(&out, "{\"replica\":\"00000000-0000-0000-0000-00000000000%d\",\"counter\":%d,\"base\":%llu,\"stamp\":\"%llu\",\"ops\":[", replica + 1,
               run * BATCHES + n + 1, (unsigned long long)base, (unsigned long long)b->stamp);
    for (int i = 0; i < b->count; i++) {
        if (i > 0) buf_put_str(&out, ",");
        put_op(&out, &b->ops[i], run);
    }
    buf_put_str(&out, "]}");
    buf_put_u8(&out, 0);
    return (char *)out.p;
}

static void begin_run(struct app_lab *l, int run)
{
    for (int k = 1; k < ROWS; k++)
        assert_int_equal(lab_run(l, "{'stamp':1,'ops':[{'op':'insert','table':'t','id':'00000000-0000-0000-%04x-%012x','values':{'run':%d,'tags':['a','b']}}]}", (unsigned)run, (unsigned)k, run), 0);
}

// One batch more than once: the same name, the same fate, and nothing twice.
struct sent {
    struct lab_batch b;
    char *json;
};

static void send(struct app_lab *l, struct sent *sent, char *json)
{
    *sent = (struct sent){.json = json};
    assert_int_equal(lab_submit(l, &sent->b, json), 0);
}

static void take_answers(struct app_lab *l, struct sent *sent, int *n)
{
    app_turn(l->app);
    while (*n > 0) {
        struct sent *one = &sent[--*n];
        assert_true(one->b.done);
        if (one->b.fate.err) fail_msg("%s: %s", one->json, problem_text(&one->b.fate.problem));
        lab_batch_free(&one->b);
        free(one->json);
    }
}

static void run_order(struct app_lab *l, const struct scenario *s, int run)
{
    int next[REPLICAS] = {0}, left = REPLICAS * BATCHES, waiting = 0;
    struct sent sent[64];
    uint64_t base = app_visible(l->app);
    while (left > 0) {
        int r = (int)dice(REPLICAS);
        if (next[r] == BATCHES) continue;
        send(l, &sent[waiting++], batch_json(s, run, r, next[r]++, base));
        left--;
        while (dice(3) == 0 && waiting < 60) {
            int other = (int)dice(REPLICAS);
            if (next[other] > 0) send(l, &sent[waiting++], batch_json(s, run, other, (int)dice((unsigned)next[other]), base));
        }
        if (dice(2) || waiting >= 60 || left == 0) take_answers(l, sent, &waiting);
    }
}

static void put_value(struct buf *out, const struct jr *v);

static void put_row(struct buf *out, const struct jr *row)
{
    static const char *const names[] = {"l", "n", "hi", "lo", "tags"};
    struct span id = jr_str(jr_get(row, "id"));
    buf_printf(out, "%c", id.p[id.n - 1]);
    for (size_t k = 0; k < 5; k++)
        put_value(out, jr_get(row, names[k]));
    buf_put_str(out, "\n");
}

static void put_value(struct buf *out, const struct jr *v)
{
    if (jr_type(v) == JR_STRING) {
        buf_printf(out, " %.*s", SPAN_FMT(jr_str(v)));
        return;
    }
    buf_put_str(out, " ");
    assert_int_equal(jr_canonical(v, out), 0);
}

static void read_run(struct app_lab *l, int run, struct buf *out)
{
    struct buf rows;
    struct jr_tree *tree;
    char sql[100];
    buf_init(&rows, MIB);
    snprintf(sql, sizeof sql, "select l, n, hi, lo, tags from t where run = %d", run);
    assert_int_equal(lab_query(l, sql, app_visible(l->app), &rows), 0);
    assert_int_equal(jr_parse(&tree, buf_span(&rows), NULL), 0);
    for (size_t i = 0; i < jr_count(jr_root(tree)); i++) {
        const struct jr *row = jr_at(jr_root(tree), i);
        put_row(out, row);
    }
    buf_put_u8(out, 0);
    jr_free(tree);
    buf_free(&rows);
}

// ---- before anything was sent --------------------------------------------------------------------------------------

static void preview_batch(struct rows_pending *v, const char *json)
{
    struct batch_head head;
    struct batch_reader reader;
    struct batch_op op;
    struct buf encoded;
    struct problem p = PROBLEM_NONE;
    buf_init(&encoded, MIB);
    assert_int_equal(batch_from_json(SPAN_STR(json), &head, &encoded, &p), 0);
    struct commit c = {.arrival_ms = clock_wall_ms(), .base = head.base, .stamp = head.stamp, .writer = head.name.replica};
    struct rows_batch *b = rows_pending_begin(v, &c);
    assert_non_null(b);
    batch_reader_init(&reader, buf_span(&encoded));
    while (batch_read(&reader, &op) > 0)
        assert_int_equal(rows_decide_op(b, &op.row, NULL, &p), 0);
    batch_reader_free(&reader);
    assert_int_equal(rows_pending_end(v, 0, &p), 0);
    buf_free(&encoded);
}

// The rows as a preview of all batches, in an order of its own, shows them.
static void preview_run(struct app_lab *l, const struct scenario *s, int run, struct buf *out)
{
    int next[REPLICAS] = {0}, left = REPLICAS * BATCHES;
    struct rows_pending *v = rows_pending_new(app_rows(l->app), app_txn(l->app), app_visible(l->app));
    assert_non_null(v);
    while (left > 0) {
        int r = (int)dice(REPLICAS);
        if (next[r] == BATCHES) continue;
        char *json = batch_json(s, run, r, next[r]++, app_visible(l->app));
        preview_batch(v, json);
        free(json);
        left--;
    }
    for (int k = 1; k <= ROWS; k++) {
        struct buf json, id;
        struct jr_tree *tree;
        struct uuid row;
        struct jw w;
        buf_init(&json, MIB);
        buf_init(&id, 64);
        put_id(&id, run, k);
        assert_int_equal(uuid_parse(&row, span_sub(buf_span(&id), 1, UUID_TEXT)), 0);
        jw_init(&w, &json);
        assert_int_equal(rows_pending_row(v, SPAN_LIT("t"), row, &w, NULL), 0);
        assert_int_equal(jr_parse(&tree, buf_span(&json), NULL), 0);
        const struct jr *is = jr_get(jr_root(tree), "row");
        if (jr_type(is) == JR_OBJECT) put_row(out, is);
        jr_free(tree);
        buf_free(&id);
        buf_free(&json);
    }
    buf_put_u8(out, 0);
    rows_pending_free(v);
}

static void laws_hold(unsigned what)
{
    struct app_lab l;
    struct scenario *s = malloc(sizeof *s);
    struct buf expected, is;
    app_lab_init(&l);
    app_lab_open(&l);
    buf_init(&expected, MIB);
    buf_init(&is, MIB);
    assert_int_equal(lab_schema(&l, schema), 0);
    for (int run = 0; run < 3 * ORDERS; run++) {
        if (run % ORDERS == 0) make_scenario(s, what);
        buf_clear(&expected);
        buf_clear(&is);
        foretell(s, &expected);
        begin_run(&l, run);
        preview_run(&l, s, run, &is);
        assert_string_equal((char *)is.p, (char *)expected.p);
        buf_clear(&is);
        run_order(&l, s, run);
        read_run(&l, run, &is);
        assert_string_equal((char *)is.p, (char *)expected.p);
    }
    buf_free(&expected);
    buf_free(&is);
    free(s);
    app_lab_free(&l);
}

#define LAW(name, what)                                                                                                                    \
    static void name(void **unused)                                                                                                       \
    {                                                                                                                                      \
        (void)unused;                                                                                                                      \
        laws_hold(what);                                                                                                                   \
    }

LAW(last_writers_win_in_any_order, LWW)
LAW(counters_count_in_any_order, COUNTER)
LAW(the_greatest_stays_in_any_order, MAX)
LAW(the_least_stays_in_any_order, MIN)
LAW(sets_merge_in_any_order, SET)
LAW(deletes_win_in_any_order, ALL | DELETES)
LAW(upserts_of_one_row_meet_in_any_order, ALL | UPSERTS)
LAW(all_of_it_in_any_order, ALL | DELETES | UPSERTS)

int main(void)
{
    uint64_t seed = getenv("SEED") ? strtoull(getenv("SEED"), NULL, 10) : (uint64_t)time(NULL);
    printf("seed %llu\n", (unsigned long long)seed);
    state = seed * 2654435769u + 88172645463325252u;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(last_writers_win_in_any_order),
        cmocka_unit_test(counters_count_in_any_order),
        cmocka_unit_test(the_greatest_stays_in_any_order),
        cmocka_unit_test(the_least_stays_in_any_order),
        cmocka_unit_test(sets_merge_in_any_order),
        cmocka_unit_test(deletes_win_in_any_order),
        cmocka_unit_test(upserts_of_one_row_meet_in_any_order),
        cmocka_unit_test(all_of_it_in_any_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
