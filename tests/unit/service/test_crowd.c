// Those who follow one stream, without sockets: who is served when, and with what.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "app_lab.h"
#include "crowd.h"
#include "err.h"

#define READERS 6

struct reader {
    struct crowd_reader reader; // first
    uint64_t offset;
    bool full, leaves;
    int served, over;
    int err;                   // why it is over
    const struct bytes *wire;  // of the last piece; not to be looked into
    struct buf text;
};

static struct app_lab lab;
static struct hub hub;
static struct reader readers[READERS];

static bool serve(struct crowd_reader *reader, const struct stream_info *info)
{
    struct reader *r = (struct reader *)reader;
    const struct crowd_piece *piece;
    r->served++;
    if (r->full || r->offset == info->offset) return false;
    assert_int_equal(crowd_piece(reader, info, r->offset, info->offset, 9, &piece), 0);
    buf_put(&r->text, piece->frame.wire->p + piece->frame.from, piece->frame.n);
    r->offset = piece->next;
    r->wire = piece->frame.wire;
    bool more = piece->more;
    if (r->leaves) crowd_leave(reader);
    return more && !r->leaves;
}

static void over(struct crowd_reader *reader, int err)
{
    struct reader *r = (struct reader *)reader;
    assert_null(reader->crowd);
    r->over++;
    r->err = err;
}

static const struct crowd_ops ops = {.serve = serve, .over = over};

static int setup(void **state)
{
    (void)state;
    hub = (struct hub){0};
    app_lab_init(&lab);
    app_lab_open(&lab);
    assert_int_equal(lab_run(&lab, "{'ops':[{'op':'create','stream':'s','type':'text/plain'}]}"), 0);
    for (int i = 0; i < READERS; i++) {
        readers[i] = (struct reader){.reader = {.ops = &ops}};
        buf_init(&readers[i].text, 8 * MIB);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (int i = 0; i < READERS; i++) {
        crowd_leave(&readers[i].reader);
        buf_free(&readers[i].text);
    }
    assert_null(hub.first); // a crowd takes its mark along
    app_lab_free(&lab);
    return 0;
}

static struct stream_info stream(void)
{
    struct stream_info info;
    assert_true(streams_find(app_streams(lab.app), app_txn(lab.app), SPAN_LIT("s"), &info));
    return info;
}

static void join(struct reader *r)
{
    struct stream_info info = stream();
    assert_int_equal(crowd_join(&r->reader, &hub, lab.app, SPAN_LIT("s"), &info), 0);
    assert_non_null(r->reader.crowd);
}

static void join_all(void)
{
    for (int i = 0; i < READERS; i++)
        join(&readers[i]);
}

static void write(const char *text)
{
    assert_int_equal(lab_run(&lab, "{'ops':[{'op':'append','stream':'s','text':'%s'}]}", text), 0);
}

static bool told(struct reader *r, const char *text)
{
    buf_put_u8(&r->text, 0);
    bool is = strstr((const char *)r->text.p, text) != NULL;
    buf_truncate(&r->text, r->text.n - 1);
    return is;
}

static int all_served(void)
{
    int n = 0;
    for (int i = 0; i < READERS; i++)
        n += readers[i].served;
    return n;
}

static void all_get_the_same_frame_once(void **state)
{
    (void)state;
    join_all();
    hub_run(&hub);
    assert_int_equal(all_served(), 0); // nothing has changed
    write("news");
    assert_int_equal(all_served(), 0); // waking only marks
    hub_run(&hub);
    for (int i = 0; i < READERS; i++) {
        assert_int_equal(readers[i].served, 1);
        assert_true(told(&readers[i], "data:news\n"));
        assert_true(told(&readers[i], "\"upToDate\":true"));
        assert_ptr_equal(readers[i].wire, readers[0].wire);
    }
    hub_run(&hub);
    assert_int_equal(all_served(), READERS);
}

static void readers_are_served_in_turns(void **state)
{
    (void)state;
    join_all();
    write("one ");
    hub_run_some(&hub, 2);
    assert_in_range(all_served(), 1, 3);
    write("two");
    for (int i = 0; i < READERS; i++)
        hub_run_some(&hub, 2);
    assert_null(hub.first);
    for (int i = 0; i < READERS; i++) {
        assert_int_equal(readers[i].offset, 7);
        assert_in_range(readers[i].served, 1, 2);
    }
    assert_true(told(&readers[READERS - 1], "data:one two\n")); // who waited gets both at once
}

static void one_that_asks_is_served_without_news(void **state)
{
    (void)state;
    write("history");
    join_all();
    crowd_ask(&readers[2].reader);
    crowd_ask(&readers[2].reader);
    hub_run(&hub);
    assert_int_equal(all_served(), 1);
    assert_true(told(&readers[2], "data:history\n"));
}

static void a_full_one_keeps_nobody_waiting(void **state)
{
    (void)state;
    join_all();
    readers[0].full = true;
    write("a");
    hub_run(&hub);
    write("b");
    hub_run(&hub);
    assert_int_equal(readers[0].offset, 0);
    assert_int_equal(readers[1].offset, 2);
    readers[0].full = false;
    crowd_ask(&readers[0].reader);
    hub_run(&hub);
    assert_true(told(&readers[0], "data:ab\n")); // in one larger piece
}

static void one_may_leave_while_it_is_served(void **state)
{
    (void)state;
    join_all();
    for (int i = 0; i < READERS; i += 2)
        readers[i].leaves = true;
    write("x");
    hub_run(&hub);
    for (int i = 0; i < READERS; i++)
        assert_int_equal(readers[i].reader.crowd == NULL, i % 2 == 0);
    write("y");
    hub_run(&hub);
    for (int i = 0; i < READERS; i++)
        assert_int_equal(readers[i].offset, i % 2 == 0 ? 1 : 2);
    for (int i = 1; i < READERS; i += 2)
        readers[i].leaves = true;
    write("z"); // the last one takes the crowd along
    hub_run(&hub);
    write("!");
    hub_run(&hub);
    assert_false(streams_watched(app_streams(lab.app), SPAN_LIT("s")));
    assert_int_equal(readers[1].offset, 3);
}

static void all_are_told_that_the_stream_is_gone(void **state)
{
    (void)state;
    join_all();
    assert_int_equal(lab_run(&lab, "{'ops':[{'op':'drop','stream':'s'}]}"), 0);
    hub_run(&hub);
    for (int i = 0; i < READERS; i++) {
        assert_int_equal(readers[i].over, 1);
        assert_int_equal(readers[i].err, ERR_NO_SUCH_STREAM);
        assert_int_equal(readers[i].served, 0);
    }
}

static void the_next_stream_of_a_path_has_a_crowd_of_its_own(void **state)
{
    (void)state;
    join(&readers[0]);
    join(&readers[1]);
    assert_ptr_equal(readers[0].reader.crowd, readers[1].reader.crowd);
    assert_int_equal(lab_run(&lab, "{'ops':[{'op':'drop','stream':'s'},{'op':'create','stream':'s','type':'text/plain'}]}"), 0);
    join(&readers[2]); // before the others have heard of it
    assert_ptr_not_equal(readers[2].reader.crowd, readers[0].reader.crowd);
    hub_run(&hub);
    assert_int_equal(readers[0].err, ERR_NO_SUCH_STREAM);
    assert_int_equal(readers[1].err, ERR_NO_SUCH_STREAM);
    assert_int_equal(readers[2].over, 0);
    write("new");
    hub_run(&hub);
    assert_true(told(&readers[2], "data:new\n"));
    join(&readers[3]);
    assert_ptr_equal(readers[3].reader.crowd, readers[2].reader.crowd);
}

static void all_are_sent_away_when_the_app_is(void **state)
{
    (void)state;
    join_all();
    write("x"); // some wait, with the mark set
    app_dismiss(lab.app);
    for (int i = 0; i < READERS; i++) {
        assert_int_equal(readers[i].over, 1);
        assert_int_equal(readers[i].err, ERR_SHUTTING_DOWN);
    }
    hub_run(&hub);
    assert_int_equal(all_served(), 0);
}

static void long_history_comes_in_pieces(void **state)
{
    (void)state;
    char *text = malloc(3 * PART_BYTES_MAX + 1);
    memset(text, 'h', 3 * PART_BYTES_MAX);
    text[3 * PART_BYTES_MAX] = '\0';
    write(text);
    free(text);
    join_all();
    for (int i = 0; i < READERS; i++)
        crowd_ask(&readers[i].reader);
    hub_run(&hub);
    for (int i = 0; i < READERS; i++) {
        assert_int_equal(readers[i].offset, 3 * PART_BYTES_MAX);
        assert_in_range(readers[i].served, 3, 8);
    }
}

// ---- pieces that end before the tail -----------------------------------------------------------------------------------

static const struct crowd_piece *piece_of(struct reader *r, uint64_t from, uint64_t to)
{
    const struct crowd_piece *piece;
    struct stream_info info = stream();
    assert_int_equal(crowd_piece(&r->reader, &info, from, to, 9, &piece), 0);
    assert_int_equal(piece->from, from);
    buf_clear(&r->text);
    buf_put(&r->text, piece->frame.wire->p + piece->frame.from, piece->frame.n);
    return piece;
}

static void a_piece_ends_where_it_is_asked_to(void **state)
{
    (void)state;
    struct reader *r = &readers[0];
    write("one ");
    write("two ");
    write("three");
    join(r);
    const struct crowd_piece *piece = piece_of(r, 0, 4);
    assert_true(piece->next == 4 && !piece->more && !piece->up_to_date);
    assert_true(told(r, "data:one \n") && !told(r, "upToDate"));
    piece = piece_of(r, 0, 8); // what was made for another end is another
    assert_true(piece->next == 8 && told(r, "data:one two \n"));
    const struct bytes *wire = piece->frame.wire;
    assert_ptr_equal(piece_of(r, 0, 8)->frame.wire, wire);
    piece = piece_of(r, 8, 13);
    assert_true(piece->next == 13 && piece->up_to_date && told(r, "\"upToDate\":true"));
    piece = piece_of(r, 4, 4);
    assert_true(piece->next == 4 && !told(r, "event: data"));
}

static void a_piece_cut_by_its_size_serves_all_who_want_more(void **state)
{
    (void)state;
    struct reader *r = &readers[0];
    char *text = malloc(PART_BYTES_MAX + 101);
    memset(text, 'h', PART_BYTES_MAX + 100);
    text[PART_BYTES_MAX + 100] = '\0';
    write(text);
    free(text);
    write("more");
    join(r);
    const struct crowd_piece *piece = piece_of(r, 0, PART_BYTES_MAX + 100);
    assert_true(piece->more && piece->next == PART_BYTES_MAX);
    const struct bytes *wire = piece->frame.wire;
    assert_ptr_equal(piece_of(r, 0, PART_BYTES_MAX + 104)->frame.wire, wire);
    piece = piece_of(r, 0, PART_BYTES_MAX); // but not one who wants no more than that
    assert_true(!piece->more && piece->next == PART_BYTES_MAX);
}

static void a_closed_stream_has_its_end_in_the_last_piece_alone(void **state)
{
    (void)state;
    struct reader *r = &readers[0];
    write("one ");
    assert_int_equal(lab_run(&lab, "{'ops':[{'op':'append','stream':'s','text':'two'},{'op':'close','stream':'s'}]}"), 0);
    join(r);
    piece_of(r, 0, 4);
    assert_false(told(r, "streamClosed"));
    const struct crowd_piece *piece = piece_of(r, 4, 7);
    assert_true(piece->up_to_date && told(r, "\"streamClosed\":true"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_get_the_same_frame_once, setup, teardown),
        cmocka_unit_test_setup_teardown(readers_are_served_in_turns, setup, teardown),
        cmocka_unit_test_setup_teardown(one_that_asks_is_served_without_news, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_one_keeps_nobody_waiting, setup, teardown),
        cmocka_unit_test_setup_teardown(one_may_leave_while_it_is_served, setup, teardown),
        cmocka_unit_test_setup_teardown(all_are_told_that_the_stream_is_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(the_next_stream_of_a_path_has_a_crowd_of_its_own, setup, teardown),
        cmocka_unit_test_setup_teardown(all_are_sent_away_when_the_app_is, setup, teardown),
        cmocka_unit_test_setup_teardown(long_history_comes_in_pieces, setup, teardown),
        cmocka_unit_test_setup_teardown(a_piece_ends_where_it_is_asked_to, setup, teardown),
        cmocka_unit_test_setup_teardown(a_piece_cut_by_its_size_serves_all_who_want_more, setup, teardown),
        cmocka_unit_test_setup_teardown(a_closed_stream_has_its_end_in_the_last_piece_alone, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
