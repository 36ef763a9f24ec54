// A directory as a text: one for each, and nothing of it leads out of where it is made.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "err.h"
#include "tree.h"

#define HEAD "segue tree 1\n"
#define SHA "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void expect_text(struct tree *t, const char *text)
{
    struct buf out;
    buf_init(&out, TREE_BYTES_MAX);
    tree_sort(t);
    tree_encode(t, &out);
    assert_int_equal(out.err, 0);
    assert_int_equal(out.n, strlen(text));
    assert_memory_equal(out.p, text, out.n);
    buf_free(&out);
}

static void add(struct tree *t, enum tree_kind kind, const char *path)
{
    struct tree_entry e = {.kind = kind, .mode = kind == TREE_LINK ? 0 : kind == TREE_DIR ? 0755 : 0640, .path = (char *)path};
    if (kind == TREE_LINK) e.target = (char *)"/etc/%passwd";
    if (kind == TREE_FILE) e.size = 12, hex_parse(e.sha.b, SHA256_BYTES, SPAN_LIT(SHA));
    assert_int_equal(tree_add(t, &e), 0);
}

static void things_come_in_one_order(void **state)
{
    struct tree t;
    (void)state;
    tree_init(&t);
    add(&t, TREE_FILE, "a-b");
    add(&t, TREE_FILE, "a/z");
    add(&t, TREE_DIR, "a");
    add(&t, TREE_LINK, "a b\n\xc3\xbc");
    add(&t, TREE_FILE, "a\x01");
    expect_text(&t, HEAD "d 755 a\nf 640 12 " SHA " a/z\nf 640 12 " SHA " a%01\nl a%20b%0A%C3%BC /etc/%25passwd\nf 640 12 " SHA " a-b\n");
    tree_free(&t);
}

static void what_is_read_is_what_was_written(void **state)
{
    static const char text[] = HEAD "d 000 a\nd 777 a/b\nl a/b/c ..\nf 640 0 " SHA " a/x\nl b a%2Fb\n";
    static const char good[] = HEAD "d 000 a\nd 777 a/b\nl a/b/c ..\nf 640 0 " SHA " a/x\nl b a/b\n";
    struct tree t;
    (void)state;
    assert_int_equal(tree_parse(&t, SPAN_STR(text)), ERR_BAD_VALUE); // '/' is plain
    tree_free(&t);
    assert_int_equal(tree_parse(&t, SPAN_STR(good)), 0);
    assert_int_equal(t.count, 5);
    assert_string_equal(t.at[2].target, "..");
    expect_text(&t, good);
    tree_free(&t);
    assert_int_equal(tree_parse(&t, SPAN_LIT(HEAD)), 0);
    assert_int_equal(t.count, 0);
    tree_free(&t);
}

static void nothing_leads_out_of_it(void **state)
{
    static const char *const bad[] = {
        "d 755 ..\n", "d 755 .\n", "d 755 /\n", "d 755 /a\n", "d 755 a/\n", "d 755 \n", "d 755 a\nd 755 a/..\n", "d 755 a\nd 755 a//b\n",
        "d 755 %2E%2E\n", "d 755 a%00\n",
        "f 644 1 " SHA " a/b\n",                             // in nothing
        "l a /etc\nf 644 1 " SHA " a/b\n",                   // through a link
        "f 644 1 " SHA " a\nf 644 1 " SHA " a/b\n",          // in a file
        "d 755 a\nd 755 b\nf 644 1 " SHA " a/b\n",           // behind its directory's end
        "d 755 a\nd 755 a\n", "l a b\nl a c\n", "d 755 b\nd 755 a\n", // twice, in another order
        "d 755 .segue-part\n", "l .segue-part /etc\n",
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct tree t;
        struct buf text;
        buf_init(&text, 4096);
        buf_put_str(&text, HEAD);
        buf_put_str(&text, bad[i]);
        assert_int_equal(tree_parse(&t, buf_span(&text)), ERR_BAD_VALUE);
        tree_free(&t);
        buf_free(&text);
    }
}

static void one_spelling_alone_is_taken(void **state)
{
    static const char *const bad[] = {
        "", "segue tree 2\n", HEAD "\n", HEAD "d 755 a", HEAD "d 75 a\n", HEAD "d 0755 a\n", HEAD "d 789 a\n", HEAD "x 755 a\n", HEAD "d  755 a\n",
        HEAD "d 755 a b\n", HEAD "d 755 %41\n", HEAD "d 755 %c3\n", HEAD "d 755 %C\n", HEAD "d 755 %\n", HEAD "d 755 \xc3\xbc\n", HEAD "l a\n", HEAD "l a \n",
        HEAD "f 644 01 " SHA " a\n", HEAD "f 644  " SHA " a\n", HEAD "f 644 -1 " SHA " a\n", HEAD "f 644 9999999999999999999 " SHA " a\n",
        HEAD "f 644 1 0123 a\n", HEAD "f 644 1 0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef a\n",
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct tree t;
        assert_int_equal(tree_parse(&t, SPAN_STR(bad[i])), ERR_BAD_VALUE);
        tree_free(&t);
    }
}

static void what_no_tree_can_have_is_not_added(void **state)
{
    struct tree t;
    char deep[TREE_DEPTH_MAX * 2 + 2];
    char wide[300];
    (void)state;
    tree_init(&t);
    for (size_t i = 0; i < sizeof deep; i++)
        deep[i] = i % 2 == 0 ? 'd' : '/';
    deep[sizeof deep - 1] = 0; // one name more than may be
    memset(wide, 'w', sizeof wide);
    wide[256] = 0;
    assert_int_equal(tree_add(&t, &(struct tree_entry){.kind = TREE_DIR, .path = deep}), ERR_BAD_VALUE);
    assert_int_equal(tree_add(&t, &(struct tree_entry){.kind = TREE_DIR, .path = wide}), ERR_BAD_VALUE);
    assert_int_equal(tree_add(&t, &(struct tree_entry){.kind = TREE_LINK, .path = (char *)"a", .target = (char *)""}), ERR_BAD_VALUE);
    assert_int_equal(tree_add(&t, &(struct tree_entry){.kind = TREE_DIR, .path = (char *)"a", .mode = 01755}), ERR_BAD_VALUE);
    deep[sizeof deep - 3] = 0;
    wide[255] = 0;
    assert_int_equal(tree_add(&t, &(struct tree_entry){.kind = TREE_DIR, .path = deep}), 0);
    assert_int_equal(tree_add(&t, &(struct tree_entry){.kind = TREE_DIR, .path = wide}), 0);
    tree_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(things_come_in_one_order), cmocka_unit_test(what_is_read_is_what_was_written), cmocka_unit_test(nothing_leads_out_of_it),
        cmocka_unit_test(one_spelling_alone_is_taken), cmocka_unit_test(what_no_tree_can_have_is_not_added),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
