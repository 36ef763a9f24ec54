// The history checker on histories made by hand: it finds each anomaly and calls it by its name, and nothing in clean ones.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "checker.h"
#include "dice.h"

enum { X, Y, Z, LIST };

static struct history h;
static struct verdict v;

// Transactions that all ran at the same time, as far as clocks tell; each of a client of its own.
static void txn(enum outcome outcome)
{
    history_txn(&h, (uint32_t)h.count, outcome, 1, 2);
}

static void txn_at(uint32_t client, uint64_t began, uint64_t ended)
{
    history_txn(&h, client, TXN_COMMITTED, began, ended);
}

static void rewrites(uint32_t object, uint64_t from, uint64_t to)
{
    history_read(&h, object, from);
    history_write(&h, object, to);
}

// Only this was found, or nothing (ANOMALIES).
static void expect(enum anomaly a)
{
    bool clean = history_check(&h, &v);
    assert_int_equal(clean, a == ANOMALIES);
    for (int i = 0; i < ANOMALIES; i++) {
        if ((v.found[i] > 0) != (i == (int)a)) print_message("%s: %s\n", anomaly_name((enum anomaly)i), v.first[i]);
        assert_int_equal(v.found[i] > 0, i == (int)a);
    }
    history_free(&h);
}

#define LIST_OF(...) history_read_list(&h, LIST, (const uint64_t[]){__VA_ARGS__}, sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

static void clean_histories_pass(void **state)
{
    (void)state;
    expect(ANOMALIES);
    txn(TXN_COMMITTED), rewrites(X, 0, 1);
    txn(TXN_COMMITTED), rewrites(X, 1, 2), history_append(&h, LIST, 5);
    txn(TXN_COMMITTED), history_read(&h, X, 1);
    txn(TXN_ABORTED), rewrites(X, 1, 3);
    txn(TXN_UNKNOWN), rewrites(Y, 0, 4);
    txn(TXN_COMMITTED), history_read(&h, X, 2), history_read(&h, Y, 4), history_append(&h, LIST, 6);
    txn(TXN_COMMITTED), LIST_OF(5), history_read_range(&h, Z, 0);
    txn(TXN_COMMITTED), rewrites(Z, 0, 9), LIST_OF(5, 6);
    expect(ANOMALIES);
}

// As a system that runs one transaction after the other gives them, whatever they do.
static void serial_histories_pass(void **state)
{
    (void)state;
    struct dice d = {7};
    for (int round = 0; round < 200; round++) {
        uint64_t values[6] = {0}, list[64], n = 0, next = 1;
        for (uint64_t t = 0; t < 40; t++) {
            txn_at(dice_below(&d, 4), 10 * t + dice_below(&d, 4), 10 * t + 5 + dice_below(&d, 5));
            for (uint32_t o = 0; o < LIST; o++) {
                if (dice_chance(&d, 40)) history_read(&h, o, values[o]);
                else if (dice_chance(&d, 40)) history_read(&h, o, values[o]), history_write(&h, o, next), values[o] = next++;
            }
            if (dice_chance(&d, 50)) history_read_list(&h, LIST, list, n);
            if (dice_chance(&d, 50)) history_append(&h, LIST, next), list[n++] = next++;
        }
        expect(ANOMALIES);
    }
}

static void dirty_writes_are_found(void **state)
{
    (void)state;
    txn(TXN_COMMITTED), history_append(&h, LIST, 1), history_append(&h, LIST + 1, 2);
    txn(TXN_COMMITTED), history_append(&h, LIST, 3), history_append(&h, LIST + 1, 4);
    txn(TXN_COMMITTED), LIST_OF(1, 3);
    txn(TXN_COMMITTED), history_read_list(&h, LIST + 1, (const uint64_t[]){4, 2}, 2);
    expect(ANOMALY_DIRTY_WRITE);
}

static void aborted_reads_are_found(void **state)
{
    (void)state;
    txn(TXN_ABORTED), rewrites(X, 0, 1);
    txn(TXN_COMMITTED), history_read(&h, X, 1);
    expect(ANOMALY_ABORTED_READ);
    txn(TXN_ABORTED), history_append(&h, LIST, 1);
    txn(TXN_COMMITTED), LIST_OF(1);
    expect(ANOMALY_ABORTED_READ);
}

static void intermediate_reads_are_found(void **state)
{
    (void)state;
    txn(TXN_COMMITTED), rewrites(X, 0, 1), history_write(&h, X, 2);
    txn(TXN_COMMITTED), history_read(&h, X, 1);
    expect(ANOMALY_INTERMEDIATE_READ);
}

static void circular_information_flow_is_found(void **state)
{
    (void)state;
    txn(TXN_COMMITTED), rewrites(X, 0, 1), history_read(&h, Y, 2);
    txn(TXN_COMMITTED), rewrites(Y, 0, 2), history_read(&h, X, 1);
    expect(ANOMALY_CIRCULAR_READS);
}

static void lost_updates_are_found(void **state)
{
    (void)state;
    txn(TXN_COMMITTED), rewrites(X, 0, 1);
    txn(TXN_COMMITTED), rewrites(X, 0, 2);
    expect(ANOMALY_LOST_UPDATE);
    txn(TXN_COMMITTED), LIST_OF(), history_append(&h, LIST, 1);
    txn(TXN_COMMITTED), LIST_OF(), history_append(&h, LIST, 2);
    expect(ANOMALY_LOST_UPDATE);
}

static void read_skew_is_found(void **state)
{
    (void)state;
    txn(TXN_COMMITTED), rewrites(X, 0, 1), rewrites(Y, 0, 2);
    txn(TXN_COMMITTED), history_read(&h, X, 1), history_read(&h, Y, 0);
    expect(ANOMALY_READ_SKEW);
}

static void write_skew_is_found(void **state)
{
    (void)state;
    txn(TXN_COMMITTED), rewrites(X, 0, 1), history_read(&h, Y, 0);
    txn(TXN_COMMITTED), rewrites(Y, 0, 2), history_read(&h, X, 0);
    expect(ANOMALY_WRITE_SKEW);
    // Three, each of which saw what the next one wrote over.
    txn(TXN_COMMITTED), rewrites(X, 0, 1), history_read(&h, Y, 0);
    txn(TXN_COMMITTED), rewrites(Y, 0, 2), history_read(&h, Z, 0);
    txn(TXN_COMMITTED), rewrites(Z, 0, 3), history_read(&h, X, 0);
    expect(ANOMALY_WRITE_SKEW);
}

static void phantoms_are_found(void **state)
{
    (void)state;
    txn(TXN_COMMITTED), rewrites(X, 0, 1), history_read_range(&h, Y, 0);
    txn(TXN_COMMITTED), rewrites(Y, 0, 2), history_read_range(&h, X, 0);
    expect(ANOMALY_PHANTOM);
}

static void time_that_goes_back_is_found(void **state)
{
    (void)state;
    txn_at(1, 1, 2), rewrites(X, 0, 1);
    txn_at(2, 3, 4), history_read(&h, X, 0); // a stale read
    expect(ANOMALY_REAL_TIME);
    // Not if the two overlap, nor if nobody knows when the first one came to be.
    txn_at(1, 1, 3), rewrites(X, 0, 1);
    txn_at(2, 3, 4), history_read(&h, X, 0);
    expect(ANOMALIES);
    history_txn(&h, 1, TXN_UNKNOWN, 1, 0), rewrites(X, 0, 1);
    txn_at(2, 3, 4), history_read(&h, X, 0);
    expect(ANOMALIES);
    // Through others.
    txn_at(1, 1, 2), rewrites(X, 0, 1);
    txn_at(2, 1, 9), history_read(&h, X, 0), rewrites(Y, 0, 2);
    txn_at(3, 3, 4), rewrites(Z, 0, 3);
    txn_at(4, 5, 9), history_read(&h, Z, 0), rewrites(LIST, 0, 4);
    expect(ANOMALY_REAL_TIME);
}

static void a_client_that_forgets_its_own_write_is_found(void **state)
{
    (void)state;
    txn_at(1, 1, 9), rewrites(X, 0, 1);
    txn_at(1, 2, 9), history_read(&h, X, 0);
    expect(ANOMALY_REAL_TIME);
}

static void an_append_that_is_gone_is_found(void **state)
{
    (void)state;
    txn_at(1, 1, 2), history_append(&h, LIST, 1);
    txn_at(2, 3, 4), history_append(&h, LIST, 2);
    txn_at(3, 5, 6), LIST_OF(2);
    expect(ANOMALY_REAL_TIME);
}

static void torn_orders_are_found(void **state)
{
    (void)state;
    txn(TXN_COMMITTED), history_append(&h, LIST, 1);
    txn(TXN_COMMITTED), history_append(&h, LIST, 2);
    txn(TXN_COMMITTED), LIST_OF(1);
    txn(TXN_COMMITTED), LIST_OF(2);
    assert_false(history_check(&h, &v));
    assert_true(v.found[ANOMALY_TORN_ORDER] > 0);
    history_free(&h);
}

static void what_is_there_twice_or_comes_from_nowhere_is_found(void **state)
{
    (void)state;
    txn(TXN_COMMITTED), history_append(&h, LIST, 1);
    txn(TXN_COMMITTED), LIST_OF(1, 1);
    expect(ANOMALY_DOUBLE);
    txn(TXN_COMMITTED), history_read(&h, X, 77);
    expect(ANOMALY_GARBAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clean_histories_pass),
        cmocka_unit_test(serial_histories_pass),
        cmocka_unit_test(dirty_writes_are_found),
        cmocka_unit_test(aborted_reads_are_found),
        cmocka_unit_test(intermediate_reads_are_found),
        cmocka_unit_test(circular_information_flow_is_found),
        cmocka_unit_test(lost_updates_are_found),
        cmocka_unit_test(read_skew_is_found),
        cmocka_unit_test(write_skew_is_found),
        cmocka_unit_test(phantoms_are_found),
        cmocka_unit_test(time_that_goes_back_is_found),
        cmocka_unit_test(a_client_that_forgets_its_own_write_is_found),
        cmocka_unit_test(an_append_that_is_gone_is_found),
        cmocka_unit_test(torn_orders_are_found),
        cmocka_unit_test(what_is_there_twice_or_comes_from_nowhere_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
