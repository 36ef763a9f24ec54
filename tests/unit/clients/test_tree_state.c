// What the last run found: it comes back as it was, and is trusted only where a change could not have gone unseen.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "err.h"
#include "tree_state.h"

static void make(struct walk *w)
{
    static const struct stamp stamps[] = {{1, 2, 3, 4}, {0, 0, 0, 0}};
    *w = (struct walk){.bytes = 0};
    tree_init(&w->tree);
    buf_init(&w->stamps, 4096);
    buf_put(&w->stamps, stamps, sizeof stamps);
    // The first in order has the second stamp.
    assert_int_equal(tree_add(&w->tree, &(struct tree_entry){.kind = TREE_FILE, .mode = 0644, .size = 5, .path = (char *)"b", .note = 0}), 0);
    assert_int_equal(tree_add(&w->tree, &(struct tree_entry){.kind = TREE_FILE, .mode = 0600, .size = 6, .path = (char *)"a", .note = 1}), 0);
    assert_int_equal(tree_add(&w->tree, &(struct tree_entry){.kind = TREE_DIR, .mode = 0755, .path = (char *)"c"}), 0);
    tree_sort(&w->tree);
}

static void forget(struct tree_state *t)
{
    tree_free(&t->tree);
    buf_free(&t->stamps);
}

static void a_state_comes_back(void **state)
{
    struct walk w;
    struct tree_state t;
    struct buf text;
    (void)state;
    make(&w);
    buf_init(&text, 4096);
    tree_state_encode(&w, &text);
    assert_int_equal(tree_state_parse(&t, buf_span(&text)), 0);
    assert_int_equal(t.tree.count, 3);
    assert_string_equal(t.tree.at[1].path, "b");
    const struct stamp *stamps = (const struct stamp *)t.stamps.p;
    assert_true(stamp_equal(&stamps[t.tree.at[1].note], walk_stamp(&w, &w.tree.at[1])));
    assert_false(stamp_equal(&stamps[t.tree.at[0].note], walk_stamp(&w, &w.tree.at[0]))); // zero is never known
    forget(&t);
    // Cut anywhere it is nothing, or everything but the last lines of the tree.
    for (size_t n = 0; n < text.n; n++) {
        int err = tree_state_parse(&t, SPAN(text.p, n));
        assert_true(err == ERR_BAD_VALUE || t.tree.count < 3);
        assert_true(err == 0 || (t.tree.count == 0 && t.stamps.n == 0));
        forget(&t);
    }
    buf_free(&text);
    walk_free(&w);
}

static void what_changed_while_it_was_read_is_read_again(void **state)
{
    const int64_t began = 1000000000000, second = 1000000000;
    struct stamp old = {1, 2, began - 10 * second, began - 3 * second}, written = {1, 2, began - second, began - 3 * second},
                 touched = {1, 2, began - 10 * second, began + second}, zero = {0};
    (void)state;
    struct stamp s = old;
    stamp_settle(&s, began);
    assert_true(stamp_equal(&s, &old));
    stamp_settle(&written, began);
    stamp_settle(&touched, began);
    assert_false(stamp_equal(&written, &written) || stamp_equal(&touched, &touched) || stamp_equal(&zero, &zero));
    struct stamp other = old;
    other.ctime_ns++; // whoever sets the time of the content back cannot set this one
    assert_false(stamp_equal(&old, &other));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_state_comes_back), cmocka_unit_test(what_changed_while_it_was_read_is_read_again)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
