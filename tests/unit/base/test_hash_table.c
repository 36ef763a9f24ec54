// The intrusive hash table: what is in it is found and taken, whatever came and went.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hash_table.h"

#define N 500

struct thing {
    struct hash_node node;
    bool in;
};

static uint64_t chance = 88172645463325252u;

static uint64_t dice(uint64_t sides)
{
    chance ^= chance << 13, chance ^= chance >> 7, chance ^= chance << 17;
    return chance % sides;
}

static bool is_found(const struct hash_table *t, const struct thing *thing, uint64_t hash)
{
    for (struct hash_node *n = hash_table_first(t, hash); n; n = hash_table_more(n))
        if (n == &thing->node) return true;
    return false;
}

static void what_is_in_is_found_and_taken(void **state)
{
    static struct thing things[N];
    struct hash_table t;
    size_t count = 0;
    (void)state;
    assert_int_equal(hash_table_init(&t), 0);
    for (int round = 0; round < 100000; round++) {
        struct thing *thing = &things[dice(N)];
        uint64_t hash = (uint64_t)(thing - things) % 200 * 0x9e3779b97f4a7c15u; // some have the same one
        assert_true(is_found(&t, thing, hash) == thing->in);
        if (dice(4) == 0) {
            struct hash_node *n = hash_table_take(&t);
            assert_true((n != NULL) == (count > 0));
            if (n) HASH_OWNER(n, struct thing, node)->in = false, count--;
        } else if (thing->in) {
            hash_table_remove(&t, &thing->node);
            thing->in = false;
            count--;
        } else {
            hash_table_insert(&t, &thing->node, hash);
            thing->in = true;
            count++;
        }
        assert_int_equal(t.count, count);
        if (dice(2000) == 0)
            for (struct hash_node *n; (n = hash_table_take(&t)); count--)
                HASH_OWNER(n, struct thing, node)->in = false;
    }
    while (hash_table_take(&t))
        count--;
    assert_int_equal(count, 0);
    hash_table_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_in_is_found_and_taken)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
