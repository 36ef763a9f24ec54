#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "message.h"

static struct feed feed;
static struct feed_sub subs[2];

static int setup(void **state)
{
    (void)state;
    feed = (struct feed){0};
    for (int i = 0; i < 2; i++) {
        subs[i] = (struct feed_sub){0};
        feed_link(&feed, &subs[i]);
    }
    return 0;
}

// The last reader takes along what was kept: the sanitizer builds say if anything is left.
static int teardown(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++)
        feed_unlink(&subs[i]);
    assert_null(feed.shared);
    return 0;
}

static struct message *message_of(const char *text)
{
    struct message *m = message_new(bytes_new(SPAN_STR(text)));
    assert_non_null(m);
    return m;
}

static struct message_range range_at(uint64_t from)
{
    return (struct message_range){.from = from, .told = from, .visible = 100, .hash = 7, .name = "s"};
}

// Keeps a message for `from` that leads to `to`; only the feed has it then.
static void keep(uint64_t from, uint64_t to, const char *text)
{
    struct message_range range = range_at(from);
    struct message *m = message_of(text);
    message_keep(&feed, &range, m, to);
    message_unref(m);
}

static bool found(struct message_range range, uint64_t to, const char *text)
{
    uint64_t got;
    const struct message *m = message_find(&feed, &range, &got);
    return m != NULL && got == to && span_is(bytes_span(m->json), text);
}

static void one_without_its_text_is_none(void **state)
{
    (void)state;
    assert_null(message_new(NULL));
    message_unref(NULL);
    struct message *m = message_of("{}");
    assert_int_equal(m->refs, 1);
    assert_ptr_equal(message_ref(m), m);
    message_unref(m);
    assert_true(span_is(bytes_span(m->json), "{}"));
    message_unref(m);
}

static void what_one_was_sent_is_found_by_the_next_in_its_place(void **state)
{
    (void)state;
    uint64_t to = 5;
    struct message_range range = range_at(10);
    assert_null(message_find(&feed, &range, &to));
    keep(10, 20, "ten");
    keep(20, 30, "twenty");
    assert_true(found(range_at(10), 20, "ten"));
    assert_true(found(range_at(20), 30, "twenty"));
    assert_true(found(range_at(10), 20, "ten")); // as often as it is asked for
}

static void whoever_is_in_another_place_finds_nothing(void **state)
{
    (void)state;
    uint64_t to = 5;
    struct message_range others[5];
    keep(10, 20, "ten");
    for (int i = 0; i < 5; i++)
        others[i] = range_at(10);
    others[0].from++;
    others[1].told--;
    others[2].visible++;
    others[3].hash++;
    others[4].name = "S";
    for (int i = 0; i < 5; i++)
        assert_null(message_find(&feed, &others[i], &to));
    assert_int_equal(to, 5); // written only where there is one
}

static void a_name_is_kept_though_its_owner_goes(void **state)
{
    (void)state;
    char name[MESSAGE_NAME_MAX + 1];
    memset(name, 'n', MESSAGE_NAME_MAX);
    name[MESSAGE_NAME_MAX] = '\0';
    struct message_range range = range_at(10), same = range_at(10);
    struct message *m = message_of("long");
    range.name = name;
    message_keep(&feed, &range, m, 11);
    message_unref(m);
    name[0] = 'x';
    assert_false(found(range, 11, "long"));
    name[0] = 'n';
    same.name = name;
    assert_true(found(same, 11, "long"));
}

static void the_oldest_is_pushed_out(void **state)
{
    (void)state;
    char text[8];
    uint64_t to;
    for (uint64_t i = 0; i < 40; i++) {
        snprintf(text, sizeof text, "%llu", (unsigned long long)i);
        keep(i, i + 1, text);
        assert_true(found(range_at(i), i + 1, text));
        if (i > 0) assert_true(found(range_at(i - 1), i, (snprintf(text, sizeof text, "%llu", (unsigned long long)i - 1), text)));
    }
    struct message_range first = range_at(0);
    assert_null(message_find(&feed, &first, &to));
}

static void what_a_reader_holds_outlives_what_is_kept(void **state)
{
    (void)state;
    uint64_t to;
    struct message_range range = range_at(1);
    keep(1, 2, "held");
    struct message *m = message_ref(message_find(&feed, &range, &to));
    for (uint64_t i = 2; i < 20; i++)
        keep(i, i + 1, "other");
    assert_null(message_find(&feed, &range, &to));
    assert_int_equal(m->refs, 1);
    assert_true(span_is(bytes_span(m->json), "held"));
    message_unref(m);
}

static void nothing_is_kept_behind_the_last_reader(void **state)
{
    (void)state;
    uint64_t to;
    struct message_range range = range_at(1);
    keep(1, 2, "x");
    feed_unlink(&subs[0]);
    assert_true(found(range, 2, "x"));
    feed_unlink(&subs[1]);
    assert_null(message_find(&feed, &range, &to));
    feed_link(&feed, &subs[0]); // a new one begins with nothing
    feed_link(&feed, &subs[1]);
    assert_null(message_find(&feed, &range, &to));
    keep(1, 2, "y");
    assert_true(found(range, 2, "y"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_without_its_text_is_none, setup, teardown),
        cmocka_unit_test_setup_teardown(what_one_was_sent_is_found_by_the_next_in_its_place, setup, teardown),
        cmocka_unit_test_setup_teardown(whoever_is_in_another_place_finds_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_name_is_kept_though_its_owner_goes, setup, teardown),
        cmocka_unit_test_setup_teardown(the_oldest_is_pushed_out, setup, teardown),
        cmocka_unit_test_setup_teardown(what_a_reader_holds_outlives_what_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_is_kept_behind_the_last_reader, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
