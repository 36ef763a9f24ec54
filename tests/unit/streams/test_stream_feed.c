#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "err.h"
#include "stream_rig.h"
#include "stream_store.h"

// A sink that writes down what it gets, one value after the other.
struct notes {
    struct feed_sink sink;
    struct buf text;
    struct bytes *last;
    int refuse; // after so many values; 0: never
};

static int note(struct feed_sink *sink, struct bytes *value)
{
    struct notes *n = (struct notes *)sink;
    if (n->refuse > 0 && --n->refuse == 0) return ERR_BUSY;
    buf_put_span(&n->text, bytes_span(value));
    buf_put_str(&n->text, " ");
    bytes_unref(n->last);
    n->last = bytes_ref(value);
    return 0;
}

static void notes_init(struct notes *n)
{
    *n = (struct notes){.sink.emit = note};
    buf_init(&n->text, 16 * MIB);
}

static void notes_free(struct notes *n)
{
    buf_free(&n->text);
    bytes_unref(n->last);
}

static void expect_notes(struct notes *n, const char *want)
{
    buf_put_u8(&n->text, 0);
    assert_int_equal(n->text.err, 0);
    assert_string_equal((const char *)n->text.p, want);
    buf_clear(&n->text);
}

static struct feed_sub *attach(struct rig *r, const char *path, uint64_t offset)
{
    struct feed_sub *sub;
    assert_int_equal(streams_attach(r->s, r->txn, SPAN_STR(path), offset, false, 0, &sub, NULL), 0);
    return sub;
}

static void changes(struct rig *r, struct feed_sub *sub, uint64_t from, uint64_t to, struct notes *n)
{
    assert_int_equal(sub->feed->ops->changes(sub, r->txn, from, to, &n->sink), 0);
}

static int snapshot(struct rig *r, struct feed_sub *sub, uint64_t at, size_t budget, struct notes *n, bool *done)
{
    return sub->feed->ops->snapshot(sub, r->txn, at, budget, &n->sink, done);
}

static void detach(struct feed_sub *sub)
{
    sub->feed->ops->detach(sub);
}

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

static void a_reader_may_wait_for_a_stream(void **state)
{
    struct rig *r = *state;
    struct notes n;
    bool done = false;
    notes_init(&n);
    rig_create1(r, "other");
    struct feed_sub *sub = attach(r, "a", 0);
    assert_int_equal(snapshot(r, sub, 1, 1000, &n, &done), 0);
    assert_true(done);
    expect_notes(&n, "");
    rig_append1(r, "other", "x");
    assert_int_equal(sub->changed, 0);
    rig_create1(r, "a");
    assert_int_equal(sub->changed, 3);
    rig_append1(r, "a", "hi");
    changes(r, sub, 1, 3, &n);
    expect_notes(&n, "{\"created\":true,\"type\":\"text/plain\"} ");
    changes(r, sub, 3, 4, &n);
    expect_notes(&n, "{\"offset\":2,\"text\":\"hi\"} ");
    changes(r, sub, 1, 4, &n);
    expect_notes(&n, "{\"created\":true,\"type\":\"text/plain\"} {\"offset\":2,\"text\":\"hi\"} ");
    detach(sub);
    notes_free(&n);
}

static void closing_and_deleting_are_told(void **state)
{
    struct rig *r = *state;
    struct notes n;
    notes_init(&n);
    rig_create1(r, "a");
    struct feed_sub *sub = attach(r, "a", 0);
    rig_append1(r, "a", "x");
    rig_shut1(r, "a");   // 3
    rig_delete1(r, "a"); // 4
    rig_create1(r, "a"); // 5
    rig_append1(r, "a", "new");
    changes(r, sub, 1, 3, &n);
    expect_notes(&n, "{\"offset\":1,\"text\":\"x\"} {\"closed\":true} ");
    changes(r, sub, 2, 3, &n);
    expect_notes(&n, "{\"closed\":true} ");
    changes(r, sub, 3, 4, &n);
    expect_notes(&n, "{\"deleted\":true} ");
    changes(r, sub, 4, 6, &n);
    expect_notes(&n, "{\"created\":true,\"type\":\"text/plain\"} {\"offset\":3,\"text\":\"new\"} ");
    changes(r, sub, 1, 6, &n);
    expect_notes(&n, "{\"deleted\":true} {\"created\":true,\"type\":\"text/plain\"} {\"offset\":3,\"text\":\"new\"} ");
    changes(r, sub, 6, 6, &n);
    expect_notes(&n, "");
    detach(sub);
    notes_free(&n);
}

static void a_snapshot_comes_in_pieces_and_ends_with_the_end(void **state)
{
    struct rig *r = *state;
    struct notes n;
    static char text[STREAM_ELEMENT_MAX * 2 + 100];
    bool done = false;
    notes_init(&n);
    memset(text, 'z', sizeof text - 1);
    rig_create1(r, "a");
    rig_append1(r, "a", text);
    rig_shut1(r, "a");
    rig_seal_all(r);
    struct feed_sub *sub = attach(r, "a", 10);
    int pieces = 0;
    while (!done) {
        size_t before = n.text.n;
        assert_int_equal(snapshot(r, sub, 3, 1000, &n, &done), 0);
        assert_true(n.text.n - before <= STREAM_ELEMENT_MAX + 200);
        pieces++;
    }
    assert_int_equal(pieces, 3);
    assert_true(span_starts(buf_span(&n.text), "{\"created\":true,\"type\":\"text/plain\"} {\"offset\":65546,\"text\":\"zzz"));
    buf_put_u8(&n.text, 0);
    assert_non_null(strstr((char *)n.text.p, "{\"offset\":131171,\"text\":\"zz"));
    assert_non_null(strstr((char *)n.text.p, "zz\"} {\"closed\":true} "));
    detach(sub);
    notes_free(&n);
}

static void a_value_that_the_sink_refuses_comes_again(void **state)
{
    struct rig *r = *state;
    struct notes n;
    bool done = false;
    notes_init(&n);
    rig_create1(r, "a");
    rig_append1(r, "a", "abc");
    rig_shut1(r, "a");
    struct feed_sub *sub = attach(r, "a", 0);
    for (int i = 1; i <= 3; i++) {
        n.refuse = i == 1 ? 1 : 2;
        assert_int_equal(snapshot(r, sub, 3, 1000, &n, &done), ERR_BUSY);
        assert_false(done);
    }
    n.refuse = 0;
    assert_int_equal(snapshot(r, sub, 3, 1000, &n, &done), 0);
    assert_true(done);
    expect_notes(&n, "{\"created\":true,\"type\":\"text/plain\"} {\"offset\":3,\"text\":\"abc\"} {\"closed\":true} ");
    detach(sub);
    notes_free(&n);
}

static void a_reader_begins_where_it_asked_to(void **state)
{
    struct rig *r = *state;
    struct notes n;
    struct feed_sub *sub;
    struct problem p = PROBLEM_NONE;
    bool done;
    notes_init(&n);
    rig_create1(r, "a");
    rig_append1(r, "a", "abc"); // 2
    rig_append1(r, "a", "def"); // 3
    sub = attach(r, "a", 4);
    assert_int_equal(snapshot(r, sub, 3, 1000, &n, &done), 0);
    expect_notes(&n, "{\"created\":true,\"type\":\"text/plain\"} {\"offset\":6,\"text\":\"ef\"} ");
    changes(r, sub, 1, 3, &n); // as far as it is concerned, nothing came before
    expect_notes(&n, "{\"offset\":6,\"text\":\"ef\"} ");
    detach(sub);
    assert_int_equal(streams_attach(r->s, r->txn, SPAN_LIT("a"), 7, false, 0, &sub, &p), ERR_BAD_OFFSET);
    assert_string_equal(p.text, "the stream ends at offset 6");
    assert_int_equal(streams_attach(r->s, r->txn, SPAN_LIT("none"), 1, false, 0, &sub, NULL), ERR_BAD_OFFSET);
    assert_int_equal(streams_attach(r->s, r->txn, SPAN_LIT(""), 0, false, 0, &sub, NULL), ERR_BAD_VALUE);
    assert_int_equal(streams_attach(r->s, r->txn, SPAN_LIT("a"), 0, true, 2, &sub, NULL), 0);
    changes(r, sub, 2, 3, &n);
    expect_notes(&n, "{\"offset\":6,\"text\":\"def\"} ");
    rig_delete1(r, "a"); // 4
    rig_create1(r, "a"); // 5
    rig_append1(r, "a", "zy");
    changes(r, sub, 4, 6, &n); // where it began says nothing about another stream
    expect_notes(&n, "{\"created\":true,\"type\":\"text/plain\"} {\"offset\":2,\"text\":\"zy\"} ");
    detach(sub);
    notes_free(&n);
}

static void bytes_that_are_no_text_come_in_base64(void **state)
{
    struct rig *r = *state;
    struct notes n;
    notes_init(&n);
    struct feed_sub *sub = attach(r, "a", 0);
    rig_create1(r, "a");
    rig_append1(r, "a", "\xff\xfe text");
    rig_append1(r, "a", "smile \xf0\x9f"); // a token that ends inside a character …
    rig_append1(r, "a", "\x98\x80 end");   // … and the one behind it
    rig_begin(r);
    assert_int_equal(rig_append(r, "a", SPAN_LIT("\0"), NULL), 0);
    rig_end(r);
    changes(r, sub, 1, 2, &n);
    expect_notes(&n, "{\"offset\":7,\"base64\":\"//4gdGV4dA==\"} ");
    changes(r, sub, 4, 5, &n);
    expect_notes(&n, "{\"offset\":22,\"base64\":\"AA==\"} ");
    changes(r, sub, 2, 3, &n);
    expect_notes(&n, "{\"offset\":13,\"text\":\"smile \"} {\"offset\":15,\"base64\":\"8J8=\"} ");
    changes(r, sub, 2, 4, &n);
    expect_notes(&n, "{\"offset\":21,\"text\":\"smile \xf0\x9f\x98\x80 end\"} ");
    detach(sub);
    notes_free(&n);
}

static void elements_are_cut_between_characters(void **state)
{
    struct rig *r = *state;
    struct notes n;
    struct buf text;
    notes_init(&n);
    buf_init(&text, 1 * MIB);
    buf_put_str(&text, "a"); // so that no cut at 64 KiB falls between two
    while (text.n < STREAM_ELEMENT_MAX + 1000)
        buf_put_str(&text, "\xf0\x9f\x98\x80");
    buf_put_u8(&text, 0);
    struct feed_sub *sub = attach(r, "a", 0);
    rig_create1(r, "a");
    rig_append1(r, "a", (const char *)text.p);
    changes(r, sub, 0, 2, &n);
    buf_put_u8(&n.text, 0);
    assert_non_null(strstr((char *)n.text.p, "{\"offset\":65533,\"text\":\"a\xf0\x9f"));
    assert_null(strstr((char *)n.text.p, "base64"));
    detach(sub);
    buf_free(&text);
    notes_free(&n);
}

static void readers_of_the_same_range_share_one_value(void **state)
{
    struct rig *r = *state;
    struct notes a, b;
    notes_init(&a);
    notes_init(&b);
    rig_create1(r, "a");
    struct feed_sub *one = attach(r, "a", 0), *two = attach(r, "a", 0);
    rig_append1(r, "a", "token");
    changes(r, one, 1, 2, &a);
    changes(r, two, 1, 2, &b);
    assert_ptr_equal(a.last, b.last);
    assert_ptr_equal(one->feed, two->feed);
    detach(one);
    detach(two);
    assert_int_equal(r->s->feeds.count, 0);
    notes_free(&a);
    notes_free(&b);
}

static void kept_values_are_bounded(void **state)
{
    struct rig *r = *state;
    struct notes n;
    static char text[STREAM_ELEMENT_MAX + 1];
    notes_init(&n);
    memset(text, 1, STREAM_ELEMENT_MAX); // each takes six bytes
    struct feed_sub *sub = attach(r, "a", 0);
    rig_create1(r, "a");
    for (uint64_t i = 0; i < 30; i++) {
        rig_append1(r, "a", text);
        changes(r, sub, i + 1, i + 2, &n);
        buf_clear(&n.text);
        assert_true(r->s->element_bytes > 0 && r->s->element_bytes <= STREAM_ELEMENTS_BYTES_MAX);
    }
    detach(sub);
    notes_free(&n);
}

static uint64_t reach(struct rig *r, struct feed_sub *sub, uint64_t from, uint64_t to, size_t budget)
{
    uint64_t reached = 0;
    assert_int_equal(sub->feed->ops->reach(sub, r->txn, from, to, budget, &reached), 0);
    return reached;
}

static void reach_stops_at_the_budget(void **state)
{
    struct rig *r = *state;
    rig_create1(r, "a"); // 1
    struct feed_sub *sub = attach(r, "a", 0);
    for (int i = 0; i < 10; i++)
        rig_append1(r, "a", "0123456789"); // 2 to 11
    for (int pass = 0; pass < 2; pass++) {
        assert_int_equal(reach(r, sub, 1, 11, 1000), 11);
        assert_int_equal(reach(r, sub, 1, 11, 100), 11);
        assert_int_equal(reach(r, sub, 1, 11, 99), 10);
        assert_int_equal(reach(r, sub, 1, 11, 50), 6);
        assert_int_equal(reach(r, sub, 4, 11, 25), 6);
        assert_int_equal(reach(r, sub, 4, 11, 3), 5); // one commit at least
        assert_int_equal(reach(r, sub, 4, 5, 0), 5);
        rig_seal_all(r);
    }
    rig_delete1(r, "a");                           // 12
    assert_int_equal(reach(r, sub, 1, 12, 3), 12); // of a deleted stream nothing is left to tell
    detach(sub);
}

static void a_touch_waits_until_it_is_published(void **state)
{
    struct rig *r = *state;
    struct buf effects;
    rig_create1(r, "a");
    struct feed_sub *sub = attach(r, "a", 0);
    static const uint8_t data[] = "xy";
    for (uint64_t i = 0; i < 2; i++) { // two commits applied before the first is durable
        struct commit c = {.seq = 2 + i, .group = 2 + i, .request = SPAN(data, 2)};
        struct streams_batch *b = streams_decide(r->s, r->txn, &c);
        buf_init(&effects, 100);
        assert_int_equal(streams_decide_append(b, &(struct stream_append){.path = SPAN_LIT("a"), .data = SPAN(data, 2)}, NULL, NULL), 0);
        streams_decide_effects(b, &effects);
        streams_batch_free(b);
        assert_int_equal(streams_apply(r->s, r->txn, &c, buf_span(&effects)), 0);
        buf_free(&effects);
    }
    assert_int_equal(sub->changed, 0);
    streams_publish(r->s, 2);
    assert_int_equal(sub->changed, 2);
    streams_publish(r->s, 2);
    assert_int_equal(sub->changed, 2);
    streams_publish(r->s, 3);
    assert_int_equal(sub->changed, 3);
    detach(sub);
}

static void a_reader_may_leave_before_it_is_told(void **state)
{
    struct rig *r = *state;
    rig_create1(r, "a");
    struct feed_sub *sub = attach(r, "a", 0), *other = attach(r, "b", 0);
    stream_feed_mark(r->s, SPAN_LIT("a"), 2);
    stream_feed_mark(r->s, SPAN_LIT("b"), 2);
    detach(sub);
    streams_publish(r->s, 2);
    assert_int_equal(other->changed, 2);
    detach(other);
}

static void append_messages(struct rig *r, const char *path, struct span messages)
{
    rig_begin(r);
    struct stream_append op = {.path = SPAN_STR(path), .data = rig_data(r, messages), .messages = true};
    assert_int_equal(streams_decide_append(r->batch, &op, NULL, NULL), 0);
    rig_end(r);
}

static void a_json_stream_is_told_in_whole_messages(void **state)
{
    struct rig *r = *state;
    struct notes n;
    struct feed_sub *sub;
    static uint8_t large[STREAM_ELEMENT_MAX * 2];
    notes_init(&n);
    rig_begin(r);
    assert_int_equal(rig_create(r, "j", "application/json", false), 0);
    rig_end(r);
    append_messages(r, "j", SPAN_LIT("{\"a\":1},\n2,\n"));
    sub = attach(r, "j", 0);
    changes(r, sub, 1, 2, &n);
    expect_notes(&n, "{\"offset\":12,\"messages\":[{\"a\":1},2]} ");
    memset(large, ' ', sizeof large);
    large[0] = large[sizeof large - 3] = '"';
    memcpy(large + sizeof large - 2, ",\n", 2);
    append_messages(r, "j", SPAN(large, sizeof large));
    append_messages(r, "j", SPAN_LIT("3,\n"));
    rig_seal_all(r);
    changes(r, sub, 2, 4, &n);
    assert_true(span_starts(buf_span(&n.text), "{\"offset\":131084,\"messages\":[\" "));
    buf_put_u8(&n.text, 0);
    assert_non_null(strstr((char *)n.text.p, "\"]} {\"offset\":131087,\"messages\":[3]} "));
    detach(sub);
    assert_int_equal(streams_attach(r->s, r->txn, SPAN_LIT("j"), 11, false, 0, &sub, NULL), ERR_BAD_OFFSET);
    notes_free(&n);
}

static void trim(struct rig *r, uint64_t before, const char *snapshot)
{
    rig_begin(r);
    assert_int_equal(streams_decide_trim(r->batch, SPAN_LIT("a"), before, false, rig_data(r, SPAN_STR(snapshot)), false, false, NULL, NULL), 0);
    rig_end(r);
}

static void who_lacks_what_was_trimmed_is_told(void **state)
{
    struct rig *r = *state;
    struct notes n;
    bool done;
    notes_init(&n);
    rig_create1(r, "a");
    rig_append1(r, "a", "one ");
    rig_append1(r, "a", "two ");
    struct feed_sub *sub = attach(r, "a", 0), *later = attach(r, "a", 6);
    trim(r, 4, "ONE ");
    for (int i = 0; i < 2; i++) {
        changes(r, sub, 1, 4, &n);
        expect_notes(&n, "{\"trimmed\":4} {\"snapshot\":true,\"text\":\"ONE \"} {\"offset\":8,\"text\":\"two \"} ");
        changes(r, sub, 3, 4, &n); // has it all
        expect_notes(&n, "");
        changes(r, later, 1, 4, &n); // began behind it
        expect_notes(&n, "{\"offset\":8,\"text\":\"o \"} ");
        assert_int_equal(snapshot(r, sub, 4, 1000, &n, &done), 0);
        expect_notes(&n, "{\"created\":true,\"type\":\"text/plain\"} {\"trimmed\":4} {\"snapshot\":true,\"text\":\"ONE \"} {\"offset\":8,\"text\":\"two \"} ");
        rig_seal_all(r);
        rig_commit(r);
    }
    trim(r, 8, "");
    changes(r, sub, 4, 5, &n);
    expect_notes(&n, "");
    changes(r, sub, 2, 5, &n);
    expect_notes(&n, "{\"trimmed\":8} ");
    detach(sub);
    detach(later);
    notes_free(&n);
}

// Its bytes are gone when the range is told that they came in: who reads on behind it would lack them without a word.
static void a_range_told_behind_a_trim_that_took_its_bytes_says_so(void **state)
{
    struct rig *r = *state;
    struct notes n;
    notes_init(&n);
    rig_create1(r, "a");
    rig_append1(r, "a", "one ");
    rig_append1(r, "a", "two ");
    struct feed_sub *sub = attach(r, "a", 0);
    trim(r, 8, "ALL ");
    changes(r, sub, 2, 3, &n);
    expect_notes(&n, "{\"trimmed\":8} {\"snapshot\":true,\"text\":\"ALL \"} ");
    changes(r, sub, 3, 4, &n);
    expect_notes(&n, "");
    detach(sub);
    notes_free(&n);
}

static void a_stream_is_told_to_who_is_not_attached(void **state)
{
    struct rig *r = *state;
    struct notes n;
    struct stream_place place = {0};
    struct span a = SPAN_LIT("a");
    uint64_t bytes;
    bool done = false;
    notes_init(&n);
    assert_int_equal(streams_tell_state(r->s, r->txn, a, 0, 0, &place, 1000, &n.sink, &done), 0);
    assert_true(done);
    rig_create1(r, "a");
    rig_append1(r, "a", "one ");
    rig_append1(r, "a", "two ");
    expect_notes(&n, "");
    assert_int_equal(streams_tell_state(r->s, r->txn, a, 2, 3, &place, 1000, &n.sink, &done), 0);
    expect_notes(&n, "{\"offset\":8,\"text\":\"e two \"} "); // and not that it was created
    assert_int_equal(streams_tell_state(r->s, r->txn, a, 99, 3, &place, 1000, &n.sink, &done), 0);
    expect_notes(&n, "");
    assert_int_equal(streams_tell_changes(r->s, r->txn, a, 6, 1, 3, &n.sink), 0);
    expect_notes(&n, "{\"offset\":8,\"text\":\"o \"} ");
    assert_int_equal(streams_tell_bytes(r->s, r->txn, a, 6, 1, 3, &bytes), 0);
    assert_int_equal(bytes, 2);
    rig_delete1(r, "a");
    rig_create1(r, "a");
    rig_append1(r, "a", "anew");
    assert_int_equal(streams_tell_changes(r->s, r->txn, a, 1, 3, 6, &n.sink), 0);
    expect_notes(&n, "{\"deleted\":true} {\"created\":true,\"type\":\"text/plain\"} {\"offset\":4,\"text\":\"new\"} ");
    notes_free(&n);
}

struct listener {
    struct stream_observer observer; // first
    struct buf heard;
    uint64_t seq;
};

static void hear(struct stream_observer *o, uint64_t seq, struct span path, uint64_t number)
{
    struct listener *l = (struct listener *)o;
    assert_true(number > 0 && seq >= l->seq);
    l->seq = seq;
    buf_put_span(&l->heard, path);
}

static bool count_each(void *ctx, struct span path, const struct stream_info *info)
{
    (void)info;
    buf_put_span(ctx, path);
    return true;
}

static void observers_hear_of_each_change_once(void **state)
{
    struct rig *r = *state;
    struct buf heard, place;
    buf_init(&heard, 1000);
    buf_init(&place, 1000);
    struct listener first = {.observer = {.changed = hear}}, second = first;
    buf_init(&first.heard, 1000);
    buf_init(&second.heard, 1000);
    streams_observe(r->s, &first.observer);
    streams_observe(r->s, &second.observer);
    rig_create1(r, "a");
    rig_begin(r);
    assert_int_equal(rig_append(r, "a", SPAN_LIT("x"), NULL), 0);
    assert_int_equal(rig_append(r, "a", SPAN_LIT("y"), NULL), 0);
    rig_end(r);
    rig_create1(r, "b");
    rig_delete1(r, "a");
    assert_true(span_is(buf_span(&first.heard), "aaba") && span_is(buf_span(&second.heard), "aaba"));
    streams_unobserve(r->s, &first.observer);
    rig_create1(r, "c");
    assert_true(span_is(buf_span(&first.heard), "aaba") && span_is(buf_span(&second.heard), "aabac"));
    assert_int_equal(second.seq, r->seq);
    size_t looked = 0, more;
    while ((more = streams_each(r->s, r->txn, &place, 2, count_each, &heard)) > 0)
        looked += more;
    assert_int_equal(looked, 3); // a, as of earlier, too
    assert_true(span_is(buf_span(&heard), "bc"));
    assert_false(streams_watched(r->s, SPAN_LIT("b")));
    struct feed_sub *sub = attach(r, "b", 0);
    assert_true(streams_watched(r->s, SPAN_LIT("b")));
    detach(sub);
    assert_false(streams_watched(r->s, SPAN_LIT("b")));
    streams_unobserve(r->s, &second.observer);
    buf_free(&first.heard);
    buf_free(&second.heard);
    buf_free(&heard);
    buf_free(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_reader_may_wait_for_a_stream, setup, teardown),
        cmocka_unit_test_setup_teardown(closing_and_deleting_are_told, setup, teardown),
        cmocka_unit_test_setup_teardown(a_snapshot_comes_in_pieces_and_ends_with_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(a_value_that_the_sink_refuses_comes_again, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reader_begins_where_it_asked_to, setup, teardown),
        cmocka_unit_test_setup_teardown(bytes_that_are_no_text_come_in_base64, setup, teardown),
        cmocka_unit_test_setup_teardown(elements_are_cut_between_characters, setup, teardown),
        cmocka_unit_test_setup_teardown(readers_of_the_same_range_share_one_value, setup, teardown),
        cmocka_unit_test_setup_teardown(kept_values_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(reach_stops_at_the_budget, setup, teardown),
        cmocka_unit_test_setup_teardown(a_touch_waits_until_it_is_published, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reader_may_leave_before_it_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(a_json_stream_is_told_in_whole_messages, setup, teardown),
        cmocka_unit_test_setup_teardown(who_lacks_what_was_trimmed_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(a_range_told_behind_a_trim_that_took_its_bytes_says_so, setup, teardown),
        cmocka_unit_test_setup_teardown(a_stream_is_told_to_who_is_not_attached, setup, teardown),
        cmocka_unit_test_setup_teardown(observers_hear_of_each_change_once, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
