#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "db.h"
#include "digest.h"
#include "err.h"
#include "fates.h"
#include "limits.h"
#include "tmp.h"

static const char *const tables[] = {FATES_TABLES};

struct lab {
    char *folder;
    struct db *db;
    struct db_txn *txn;
    uint64_t now_ms;
};

static const struct identity dev = {IDENTITY_ANONYMOUS_DEV, "dev"}, admin = {IDENTITY_ADMIN, "admin"};

static int setup(void **state)
{
    struct lab *l = calloc(1, sizeof *l);
    l->folder = tmp_make();
    l->now_ms = 1790000000000;
    assert_int_equal(db_open(&l->db, &(struct db_options){.path = l->folder, .map_bytes = 64 * MIB, .tables = tables, .table_count = FATES_TABLE_COUNT}), 0);
    l->txn = db_begin_write(l->db);
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

static struct checksum128 content(const char *text)
{
    return fates_content(SPAN_STR(text), 1, 2);
}

static struct batch_name replica(uint8_t which, uint64_t counter)
{
    struct batch_name n = {.kind = BATCH_REPLICA, .counter = counter};
    memset(n.replica.b, which, sizeof n.replica.b);
    return n;
}

static struct batch_name key(const char *text)
{
    struct batch_name n = {.kind = BATCH_KEY};
    strcpy(n.key, text);
    return n;
}

static int find(struct lab *l, struct batch_name name, const struct identity *who, const char *text, struct fate *out)
{
    return fates_find(l->txn, 0, &name, who, content(text), out);
}

static void settle(struct lab *l, struct batch_name name, const struct identity *who, const char *text, const struct fate *f)
{
    struct commit c = {.arrival_ms = l->now_ms};
    assert_int_equal(fates_settle(l->txn, 0, &name, who, content(text), &c, f), 0);
    assert_int_equal(db_txn_err(l->txn), 0);
}

static void accept(struct lab *l, struct batch_name name, const char *text, uint64_t seq)
{
    settle(l, name, &dev, text, &(struct fate){.seq = seq, .results = SPAN_STR(text)});
}

static void a_retry_gets_the_fate_again(void **state)
{
    struct lab *l = *state;
    struct fate f;
    assert_int_equal(find(l, replica(1, 1), &dev, "one", &f), 0);
    accept(l, replica(1, 1), "one", 12);
    assert_int_equal(find(l, replica(1, 1), &dev, "one", &f), 1);
    assert_int_equal(f.err, 0);
    assert_true(f.journaled && f.again);
    assert_int_equal(f.seq, 12);
    assert_true(span_is(f.results, "one"));
    struct fate no = {.err = ERR_STREAM_CLOSED, .problem = PROBLEM_NONE};
    problem_set(&no.problem, ERR_STREAM_CLOSED, 4, "closed at %d", 42);
    settle(l, replica(1, 2), &dev, "two", &no);
    assert_int_equal(find(l, replica(1, 2), &dev, "two", &f), 1);
    assert_int_equal(f.err, ERR_STREAM_CLOSED);
    assert_true(f.journaled && f.again);
    assert_int_equal(f.problem.position, 4);
    assert_string_equal(f.problem.text, "closed at 42");
    assert_int_equal(find(l, replica(1, 1), &dev, "one", &f), 1); // and the first one stands
}

static void a_gap_names_the_counter_that_is_next(void **state)
{
    struct lab *l = *state;
    struct fate f;
    assert_int_equal(find(l, replica(1, 2), &dev, "x", &f), ERR_COUNTER_GAP);
    assert_int_equal(f.err, ERR_COUNTER_GAP);
    assert_false(f.journaled);
    assert_int_equal(f.expected, 1);
    accept(l, replica(1, 1), "one", 1);
    assert_int_equal(find(l, replica(1, 9), &dev, "x", &f), ERR_COUNTER_GAP);
    assert_int_equal(f.expected, 2);
    assert_int_equal(find(l, replica(2, 1), &dev, "x", &f), 0); // another replica counts for itself
}

static void a_name_stands_for_its_content(void **state)
{
    struct lab *l = *state;
    struct fate f;
    accept(l, replica(1, 1), "one", 1);
    accept(l, key("k"), "one", 2);
    assert_int_equal(find(l, replica(1, 1), &dev, "other", &f), ERR_NAME_REUSED);
    assert_false(f.journaled);
    assert_int_equal(find(l, key("k"), &dev, "other", &f), ERR_NAME_REUSED);
    assert_int_equal(fates_find(l->txn, 0, &(struct batch_name){.kind = BATCH_KEY, .key = "k"}, &dev, fates_content(SPAN_LIT("one"), 1, 3), &f), ERR_NAME_REUSED);
    assert_int_equal(find(l, key("k"), &dev, "one", &f), 1);
}

static void a_replica_belongs_to_its_first_identity(void **state)
{
    struct lab *l = *state;
    struct fate f;
    accept(l, replica(1, 1), "one", 1);
    assert_int_equal(find(l, replica(1, 1), &admin, "one", &f), ERR_REPLICA_BOUND);
    assert_int_equal(find(l, replica(1, 2), &admin, "two", &f), ERR_REPLICA_BOUND);
    accept(l, key("k"), "one", 2);
    assert_int_equal(find(l, key("k"), &admin, "one", &f), 0); // a key is each identity's own
}

static void old_fates_expire_but_the_counter_is_never_forgotten(void **state)
{
    struct lab *l = *state;
    struct fate f;
    for (uint64_t i = 1; i <= FATES_PER_REPLICA_MAX; i++)
        accept(l, replica(1, i), "text", i);
    assert_int_equal(find(l, replica(1, 1), &dev, "text", &f), 1);
    accept(l, replica(1, FATES_PER_REPLICA_MAX + 1), "text", 9999);
    assert_int_equal(find(l, replica(1, 1), &dev, "text", &f), ERR_FATE_EXPIRED);
    assert_false(f.journaled);
    assert_int_equal(find(l, replica(1, 2), &dev, "text", &f), 1);
    assert_int_equal(f.seq, 2);
    assert_int_equal(find(l, replica(1, FATES_PER_REPLICA_MAX + 2), &dev, "text", &f), 0);
}

static size_t records(struct lab *l)
{
    struct db_iter it;
    size_t n = 0;
    db_iter_init(&it, l->txn, 0);
    for (bool more = db_iter_first(&it); more; more = db_iter_next(&it))
        n++;
    db_iter_end(&it);
    return n;
}

static void a_key_has_its_time_by_arrival(void **state)
{
    struct lab *l = *state;
    struct fate f;
    accept(l, key("a"), "x", 1);
    accept(l, key("b"), "x", 2);
    accept(l, key("c"), "x", 3);
    l->now_ms += FATE_KEY_MS_MAX;
    accept(l, key("d"), "x", 4); // exactly the time: still kept
    assert_int_equal(find(l, key("a"), &dev, "x", &f), 1);
    l->now_ms += 1;
    accept(l, key("e"), "x", 5); // two go for one that comes
    assert_int_equal(records(l), 2 * 3);
    accept(l, key("f"), "x", 6);
    assert_int_equal(find(l, key("a"), &dev, "y", &f), 0);
    assert_int_equal(find(l, key("b"), &dev, "y", &f), 0);
    assert_int_equal(find(l, key("c"), &dev, "y", &f), 0);
    assert_int_equal(find(l, key("d"), &dev, "x", &f), 1);
    assert_int_equal(records(l), 2 * 3);
}

static void no_name_leaves_nothing_behind(void **state)
{
    struct lab *l = *state;
    struct fate f;
    struct batch_name none = {.kind = BATCH_UNNAMED};
    assert_int_equal(find(l, none, &dev, "x", &f), 0);
    accept(l, none, "x", 1);
    assert_int_equal(find(l, none, &dev, "x", &f), 0);
    assert_int_equal(records(l), 0);
}

static void a_damaged_record_is_corrupt(void **state)
{
    struct lab *l = *state;
    struct fate f;
    struct db_iter it;
    uint8_t k[DB_KEY_MAX];
    accept(l, replica(1, 1), "one", 1);
    db_iter_init(&it, l->txn, 0);
    assert_true(db_iter_first(&it));
    size_t n = it.key.n;
    memcpy(k, it.key.p, n);
    db_iter_end(&it);
    assert_int_equal(k[0], 'f');
    db_put(l->txn, 0, SPAN(k, n), SPAN_LIT("\1bad"));
    assert_int_equal(find(l, replica(1, 1), &dev, "one", &f), ERR_CORRUPT);
    k[0] = 'r';
    db_put(l->txn, 0, SPAN(k, 17), SPAN_LIT("\1"));
    assert_int_equal(find(l, replica(1, 1), &dev, "one", &f), ERR_CORRUPT);
}

static void the_hash_knows_every_fate(void **state)
{
    struct lab *l = *state;
    struct sha256 hashes[3];
    struct digest *d = digest_new();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(db_hash(l->txn, 0, d), 0);
        hashes[i] = digest_final(d);
        accept(l, replica(1, (uint64_t)i + 1), "x", 1);
    }
    digest_free(d);
    assert_false(sha256_equal(&hashes[0], &hashes[1]));
    assert_false(sha256_equal(&hashes[1], &hashes[2]));
}

static void results_go_round(void **state)
{
    (void)state;
    struct buf b;
    struct result r;
    buf_init(&b, KIB);
    struct result id = {.op = 0, .kind = RESULT_ID}, offset = {.op = 300, .kind = RESULT_OFFSET, .offset = 1ull << 40};
    memset(id.id.b, 3, sizeof id.id.b);
    result_put(&b, &id);
    result_put(&b, &offset);
    struct span rest = buf_span(&b);
    assert_int_equal(result_read(&rest, &r), 1);
    assert_int_equal(r.kind, RESULT_ID);
    assert_true(uuid_equal(r.id, id.id));
    assert_int_equal(result_read(&rest, &r), 1);
    assert_int_equal(r.kind, RESULT_OFFSET);
    assert_int_equal(r.op, 300);
    assert_true(r.offset == 1ull << 40);
    assert_int_equal(result_read(&rest, &r), 0);
    rest = SPAN(b.p, 5);
    assert_int_equal(result_read(&rest, &r), ERR_CORRUPT);
    rest = SPAN_LIT("\0\5\1");
    assert_int_equal(result_read(&rest, &r), ERR_CORRUPT);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_retry_gets_the_fate_again, setup, teardown),
        cmocka_unit_test_setup_teardown(a_gap_names_the_counter_that_is_next, setup, teardown),
        cmocka_unit_test_setup_teardown(a_name_stands_for_its_content, setup, teardown),
        cmocka_unit_test_setup_teardown(a_replica_belongs_to_its_first_identity, setup, teardown),
        cmocka_unit_test_setup_teardown(old_fates_expire_but_the_counter_is_never_forgotten, setup, teardown),
        cmocka_unit_test_setup_teardown(a_key_has_its_time_by_arrival, setup, teardown),
        cmocka_unit_test_setup_teardown(no_name_leaves_nothing_behind, setup, teardown),
        cmocka_unit_test_setup_teardown(a_damaged_record_is_corrupt, setup, teardown),
        cmocka_unit_test_setup_teardown(the_hash_knows_every_fate, setup, teardown),
        cmocka_unit_test(results_go_round),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
