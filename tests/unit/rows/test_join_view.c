// Live views of joined rows and of rows with selects within: what is said, what is shared, and what is given up. That readers hold what a fresh query gives, whatever
// happens, is test_live_diff's.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "err.h"
#include "file.h"
#include "lazy_view.h"
#include "rows_rig.h"

static const char schema[] = "create table u (name text, age integer);"
                             "create table m (u uuid not null, text text, n integer, log stream);"
                             "create table tag (m uuid not null, word text); create index m_u on m (u); create index m_n on m (n);";

#define ID(n) "00000000-0000-0000-0000-0000000000" #n
#define SAID "select m.text, u.name from m join u on u.id = m.u"

static int setup(void **state)
{
    int err = rr_setup(state, schema);
    rr_insert(*state, "u", 0x11, "{\"name\":\"ann\",\"age\":30}");
    rr_insert(*state, "u", 0x12, "{\"name\":\"ben\"}");
    rr_insert(*state, "m", 0x21, "{\"u\":\"" ID(11) "\",\"text\":\"one\",\"n\":1}");
    rr_insert(*state, "m", 0x22, "{\"u\":\"" ID(12) "\",\"text\":\"two\",\"n\":2}");
    return err;
}

struct reading {
    struct query *q;
    struct rows_reader reader;
};

static void attach(struct rows_rig *g, struct reading *r, const char *sql)
{
    r->q = rr_compile(g, sql);
    rr_attach(g, &r->reader, r->q, query_ordered(r->q));
}

static void begin(struct rows_rig *g, struct reading *r, const char *sql)
{
    attach(g, r, sql);
    rr_snapshot(g, &r->reader, g->seq, 100);
}

static void end(struct reading *r)
{
    rr_detach(&r->reader);
    query_unref(r->q);
}

static void expect_steps(struct rows_rig *g, struct reading *r, const char *steps)
{
    buf_clear(&r->reader.log);
    assert_int_equal(rr_read(g, &r->reader, g->seq), 0);
    buf_put_u8(&r->reader.log, 0);
    assert_string_equal((char *)r->reader.log.p, steps);
}

// Reads on, and then holds what somebody who comes now is shown.
static void expect_fresh(struct rows_rig *g, struct reading *r)
{
    struct rows_reader other;
    assert_int_equal(rr_read(g, &r->reader, g->seq), 0);
    rr_attach(g, &other, r->q, r->reader.ordered);
    rr_snapshot(g, &other, g->seq, 1000);
    char *held = rr_held(&r->reader), *fresh = rr_held(&other);
    rr_detach(&other);
    assert_string_equal(held, fresh);
    free(held);
    free(fresh);
}

static struct lazy_view *view_of(struct reading *r)
{
    return (struct lazy_view *)r->reader.sub->feed;
}

// ---- what is said --------------------------------------------------------------------------------------------------

static void joined_rows_are_told_by_their_keys(void **state)
{
    struct rows_rig *g = *state;
    struct reading r;
    begin(g, &r, SAID);
    rr_insert(g, "m", 0x23, "{\"u\":\"" ID(12) "\",\"text\":\"three\"}");
    expect_steps(g, &r, "{\"added\":{\"text\":\"three\",\"name\":\"ben\"},\"key\":\"" ID(23) "." ID(12) "\"}\n");
    rr_update(g, "u", 0x11, "{\"name\":\"Ann\"}");
    expect_steps(g, &r, "{\"changed\":{\"text\":\"one\",\"name\":\"Ann\"},\"key\":\"" ID(21) "." ID(11) "\"}\n");
    rr_update(g, "m", 0x22, "{\"u\":\"" ID(11) "\"}");
    expect_steps(g, &r, "{\"removed\":\"" ID(22) "." ID(12) "\"}\n{\"added\":{\"text\":\"two\",\"name\":\"Ann\"},\"key\":\"" ID(22) "." ID(11) "\"}\n");
    end(&r);
}

static void rows_with_selects_within_go_by_their_id(void **state)
{
    struct rows_rig *g = *state;
    struct reading r;
    begin(g, &r, "select text from m where exists (select 1 from tag where tag.m = m.id) order by n");
    rr_insert(g, "tag", 0x31, "{\"m\":\"" ID(22) "\",\"word\":\"x\"}");
    expect_steps(g, &r, "{\"added\":{\"id\":\"" ID(22) "\",\"text\":\"two\"},\"at\":0}\n");
    rr_insert(g, "tag", 0x32, "{\"m\":\"" ID(22) "\",\"word\":\"y\"}");
    rr_insert(g, "tag", 0x33, "{\"m\":\"" ID(21) "\",\"word\":\"x\"}");
    expect_steps(g, &r, "{\"added\":{\"id\":\"" ID(21) "\",\"text\":\"one\"},\"at\":0}\n");
    rr_delete(g, "tag", 0x32);
    expect_steps(g, &r, "");
    rr_delete(g, "tag", 0x31);
    expect_steps(g, &r, "{\"removed\":\"" ID(22) "\",\"was\":1}\n");
    end(&r);
}

static void a_left_join_says_when_its_row_of_nulls_comes_and_goes(void **state)
{
    struct rows_rig *g = *state;
    struct reading r;
    begin(g, &r, "select m.text, t.word from m left join tag t on t.m = m.id where m.n = 1");
    rr_insert(g, "tag", 0x31, "{\"m\":\"" ID(21) "\",\"word\":\"x\"}");
    expect_steps(g, &r, "{\"removed\":\"" ID(21) ".\"}\n{\"added\":{\"text\":\"one\",\"word\":\"x\"},\"key\":\"" ID(21) "." ID(31) "\"}\n");
    rr_delete(g, "tag", 0x31);
    expect_steps(g, &r, "{\"removed\":\"" ID(21) "." ID(31) "\"}\n{\"added\":{\"text\":\"one\",\"word\":null},\"key\":\"" ID(21) ".\"}\n");
    end(&r);
}

static void a_row_that_others_have_left_the_window_to_is_told_whole(void **state)
{
    struct rows_rig *g = *state;
    struct reading r;
    begin(g, &r, "select m.text, u.name from m join u on u.id = m.u order by m.n limit 1");
    rr_delete(g, "m", 0x21);
    expect_steps(g, &r, "{\"removed\":\"" ID(21) "." ID(11) "\",\"was\":0}\n"
                        "{\"added\":{\"text\":\"two\",\"name\":\"ben\"},\"key\":\"" ID(22) "." ID(12) "\",\"at\":0}\n");
    end(&r);
}

static void a_closed_stream_is_a_change_of_the_rows_that_show_it(void **state)
{
    struct rows_rig *g = *state;
    struct reading shows, not;
    begin(g, &shows, "select u.name, m.log from m join u on u.id = m.u where m.n = 1");
    begin(g, &not, SAID);
    rr_commit(g);
    rr_begin(g);
    assert_int_equal(rows_decide_stream(g->batch, SPAN_LIT("rows/m/" ID(21) "/log"), true, &g->p), 0);
    assert_int_equal(rr_end(g), 0);
    assert_true(shows.reader.woken == g->seq && not.reader.woken == 0);
    assert_int_equal(rr_read(g, &shows.reader, g->seq), 0); // the rig's streams show the same for ever
    expect_steps(g, &not, "");
    end(&shows);
    end(&not);
}

// ---- what costs nothing --------------------------------------------------------------------------------------------

static void a_commit_that_changes_nothing_of_it_wakes_nobody(void **state)
{
    struct rows_rig *g = *state;
    struct reading r;
    begin(g, &r, SAID " where m.n > 1 and u.name <> 'x'");
    rr_update(g, "u", 0x12, "{\"age\":40}"); // a column that is not looked at
    assert_int_equal(r.reader.woken, 0);
    rr_update(g, "m", 0x21, "{\"text\":\"uno\"}"); // a row that is none of it, before and after
    assert_int_equal(r.reader.woken, 0);
    rr_insert(g, "tag", 0x31, "{\"m\":\"" ID(22) "\",\"word\":\"x\"}");
    assert_int_equal(r.reader.woken, 0);
    rr_update(g, "u", 0x12, "{\"name\":\"Ben\"}");
    assert_int_equal(r.reader.woken, g->seq);
    expect_steps(g, &r, "{\"changed\":{\"text\":\"two\",\"name\":\"Ben\"},\"key\":\"" ID(22) "." ID(12) "\"}\n");
    end(&r);
}

// What is said of one table holds of those that are joined to it: who follows one user's messages hears nothing of the others'.
static void a_constant_is_carried_over_joins(void **state)
{
    static const char *const sql[] = {
        SAID " where u.id = '" ID(11) "'",
        "select u.name, m.text from u left join m on m.u = u.id where u.id = '" ID(11) "'",
        "select u.name, array(select text from m where m.u = u.id order by n, id) as said from u where u.id = '" ID(11) "'",
        "select u.name, t.word from u join m on m.u = u.id join tag t on t.m = m.id where '" ID(11) "' = m.u",
    };
    struct rows_rig *g = *state;
    struct reading readers[4];
    for (size_t i = 0; i < 4; i++)
        begin(g, &readers[i], sql[i]);
    rr_insert(g, "m", 0x23, "{\"u\":\"" ID(12) "\",\"text\":\"three\"}");
    rr_update(g, "m", 0x22, "{\"text\":\"zwei\"}");
    rr_update(g, "u", 0x12, "{\"name\":\"Ben\"}");
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(readers[i].reader.woken, 0);
    rr_update(g, "m", 0x22, "{\"u\":\"" ID(11) "\"}");
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(readers[i].reader.woken, g->seq);
        expect_fresh(g, &readers[i]);
        end(&readers[i]);
    }
}

static void who_has_no_index_to_join_by_is_told(void **state)
{
    struct rows_rig *g = *state;
    struct reading with, without, within;
    begin(g, &with, SAID);
    begin(g, &without, "select m.text, t.word from m join tag t on t.m = m.id");
    begin(g, &within, "select text, array(select word from tag where tag.m = m.id) as words from m");
    assert_false(rows_scanned(g->r, with.q));
    assert_true(rows_scanned(g->r, without.q));
    assert_true(rows_scanned(g->r, within.q));
    end(&with);
    end(&without);
    end(&within);
}

struct holding {
    struct feed_sink sink; // first
    struct bytes *last;
    size_t n;
};

static int hold(struct feed_sink *sink, struct bytes *value)
{
    struct holding *h = (struct holding *)sink;
    h->last = value;
    h->n++;
    return 0;
}

static void a_change_is_made_once_for_all_readers(void **state)
{
    struct rows_rig *g = *state;
    struct reading readers[3];
    struct bytes *first = NULL;
    for (size_t i = 0; i < 3; i++)
        begin(g, &readers[i], i == 1 ? "select m.text, u.name from m, u where u.id = m.u" : SAID);
    assert_ptr_equal(readers[0].reader.sub->feed, readers[1].reader.sub->feed);
    uint64_t from = g->seq;
    rr_update(g, "u", 0x11, "{\"name\":\"Ann\"}");
    for (size_t i = 0; i < 3; i++) {
        struct holding h = {.sink = {.emit = hold}};
        struct feed_sub *sub = readers[i].reader.sub;
        assert_int_equal(sub->feed->ops->changes(sub, g->txn, from, g->seq, &h.sink), 0);
        assert_int_equal(h.n, 1);
        if (i > 0) assert_ptr_equal(h.last, first);
        first = h.last;
    }
    for (size_t i = 0; i < 3; i++)
        end(&readers[i]);
}

static void queries_that_differ_in_parameters_alone_share_their_plans(void **state)
{
    struct rows_rig *g = *state;
    struct feed_sub *subs[2];
    for (int64_t i = 0; i < 2; i++) {
        struct row_value param = {.kind = ROW_INT, .i = i};
        struct query *q;
        assert_int_equal(query_compile(g->r, SPAN_LIT(SAID " where m.n = $1"), &param, 1, &q, &g->p), 0);
        assert_int_equal(rows_attach(g->r, g->txn, q, &subs[i], &g->p), 0);
        query_unref(q);
    }
    assert_ptr_not_equal(subs[0]->feed, subs[1]->feed);
    assert_ptr_equal(lazy_view_of((struct view *)subs[0]->feed)->delta, lazy_view_of((struct view *)subs[1]->feed)->delta);
    for (size_t i = 0; i < 2; i++)
        subs[i]->feed->ops->detach(subs[i]);
}

// ---- who stands where ----------------------------------------------------------------------------------------------

// Of many commits one range is made, and a reader within it is told from history; from the range's end on it goes with the others.
static void a_reader_within_a_range_gets_there_by_itself(void **state)
{
    struct rows_rig *g = *state;
    struct reading early, within, late;
    begin(g, &early, SAID);
    rr_insert(g, "m", 0x23, "{\"u\":\"" ID(11) "\",\"text\":\"three\"}");
    begin(g, &within, SAID);
    rr_delete(g, "m", 0x21);
    rr_insert(g, "m", 0x24, "{\"u\":\"" ID(12) "\",\"text\":\"four\"}");
    expect_fresh(g, &early); // one range, over all three
    assert_int_equal(view_of(&early)->ring_count, 1);
    uint64_t reached = 0;
    struct feed_sub *sub = within.reader.sub;
    rr_update(g, "u", 0x11, "{\"name\":\"Ann\"}");
    assert_int_equal(sub->feed->ops->reach(sub, g->txn, within.reader.seq, g->seq, 1000, &reached), 0);
    assert_int_equal(reached, g->seq - 1);
    assert_int_equal(rr_read(g, &within.reader, reached), 0);
    begin(g, &late, SAID);
    expect_fresh(g, &within);
    expect_fresh(g, &early);
    rr_update(g, "u", 0x12, "{\"name\":\"Ben\"}");
    expect_fresh(g, &late);
    expect_fresh(g, &within);
    end(&early);
    end(&within);
    end(&late);
}

// A range ends where somebody who asks first stands.
static void a_reader_that_asks_first_divides_the_range(void **state)
{
    struct rows_rig *g = *state;
    struct reading early, within;
    begin(g, &early, SAID);
    rr_insert(g, "m", 0x23, "{\"u\":\"" ID(11) "\",\"text\":\"three\"}");
    begin(g, &within, SAID);
    rr_delete(g, "m", 0x23);
    expect_steps(g, &within, "{\"removed\":\"" ID(23) "." ID(11) "\"}\n");
    expect_steps(g, &early, "{\"added\":{\"text\":\"three\",\"name\":\"ann\"},\"key\":\"" ID(23) "." ID(11) "\"}\n{\"removed\":\"" ID(23) "." ID(11) "\"}\n");
    end(&early);
    end(&within);
}

static void more_touched_rows_than_are_noted_are_found_in_the_commits(void **state)
{
    static const char *const sql[] = {SAID, SAID " order by m.n, u.name", SAID " order by m.n desc limit 2"};
    struct rows_rig *g = *state;
    struct reading readers[3], late;
    for (size_t i = 0; i < 3; i++)
        begin(g, &readers[i], sql[i]);
    size_t others = (size_t)1 << 30; // that other views have noted, in the end
    for (unsigned i = 0; i < 5000; i++) {
        char json[64];
        snprintf(json, sizeof json, "{\"n\":%u}", i % 7);
        rr_update(g, "m", 0x21 + i % 2, json);
    }
    rr_insert(g, "m", 0x23, "{\"u\":\"" ID(11) "\",\"text\":\"three\",\"n\":3}");
    attach(g, &late, sql[0]);
    assert_in_range(view_of(&late)->note_count, 1, 4096);
    assert_in_range(view_of(&readers[1])->note_count, 100, 4096);
    end(&late);
    for (size_t i = 0; i < 3; i++) {
        expect_fresh(g, &readers[i]);
        rr_update(g, "u", 0x11, "{\"name\":\"Ann\"}");
        expect_fresh(g, &readers[i]);
    }
    g->r->views.notes += others;
    for (unsigned i = 0; i < 300; i++)
        rr_update(g, "m", 0x21 + i % 2, i % 3 ? "{\"n\":8}" : "{\"n\":2}");
    for (size_t i = 0; i < 3; i++) {
        assert_in_range(view_of(&readers[i])->note_count, i > 0, 64);
        expect_fresh(g, &readers[i]);
        end(&readers[i]);
    }
    assert_int_equal(g->r->views.notes, others);
}

// ---- the text of streams -------------------------------------------------------------------------------------------

// What streams hold as of a seq: each word is told of in the commit that has it.
static struct {
    char path[100];
    uint64_t seq;
    const char *word;
} said[16];
static size_t said_count;

static int stream_text(void *ctx, struct db_txn *txn, struct span path, uint64_t seq, struct buf *out)
{
    (void)ctx, (void)txn;
    for (size_t i = 0; i < said_count; i++)
        if (said[i].seq <= seq && span_is(path, said[i].path)) buf_put_str(out, said[i].word);
    return 0;
}

static void say(struct rows_rig *g, unsigned id, const char *word)
{
    rr_commit(g); // a commit that is none of the rows'
    snprintf(said[said_count].path, sizeof said->path, "rows/m/00000000-0000-0000-0000-%012x/log", id);
    said[said_count].seq = g->seq = g->c.seq;
    said[said_count++].word = word;
}

static void show_said(struct rows_rig *g, size_t from, bool trimmed)
{
    rows_publish(g->r, g->txn, g->seq);
    for (size_t i = from; i < said_count; i++)
        rows_stream_changed(g->r, g->txn, SPAN_STR(said[i].path), trimmed);
    rows_publish(g->r, g->txn, g->seq);
}

static void the_text_of_streams_is_followed(void **state)
{
    struct rows_rig *g = *state;
    struct reading shows, asks, counts, not;
    g->host.stream_text = stream_text;
    said_count = 0;
    assert_false(rows_follow_streams(g->r));
    begin(g, &shows, "select stream_text(log) as log from m");
    begin(g, &asks, "select m.text, u.name from m join u on u.id = m.u where stream_text(m.log) like '%fin' order by length(stream_text(m.log))");
    begin(g, &counts, "select sum(length(stream_text(log))) as n from m");
    begin(g, &not, "select text, log from m");
    assert_true(rows_follow_streams(g->r));
    say(g, 0x21, "a ");
    show_said(g, 0, false);
    assert_int_equal(not.reader.woken, 0);
    expect_steps(g, &shows, "{\"changed\":{\"id\":\"" ID(21) "\",\"log\":\"a \"}}\n");
    expect_steps(g, &asks, "");
    say(g, 0x21, "b ");
    say(g, 0x22, "fin");
    say(g, 0x21, "fin");
    show_said(g, 1, false); // a group of three commits
    expect_fresh(g, &asks);
    assert_int_equal(asks.reader.n, 2);
    expect_fresh(g, &shows);
    expect_fresh(g, &counts);
    rr_delete(g, "m", 0x22); // and its stream with it
    said[2].word = "";
    expect_fresh(g, &shows);
    assert_int_equal(rr_read(g, &asks.reader, g->seq), ERR_TOO_OLD);
    assert_int_equal(rr_read(g, &counts.reader, g->seq), ERR_TOO_OLD);
    rr_snapshot(g, &asks.reader, g->seq, 100);
    rr_snapshot(g, &counts.reader, g->seq, 100);
    say(g, 0x21, "fin");
    show_said(g, 4, false);
    expect_fresh(g, &shows);
    expect_fresh(g, &asks);
    expect_fresh(g, &counts);
    assert_int_equal(asks.reader.n, 1);
    end(&shows);
    end(&asks);
    end(&counts);
    end(&not);
    assert_false(rows_follow_streams(g->r));
}

// Bytes that were appended as they arrived.
static void a_character_that_comes_in_pieces_is_waited_for(void **state)
{
    static const struct {
        const char *piece, *length;
    } steps[] = {{"a\xe2", "1"}, {"\x82", "1"}, {"\xac", "2"}, {"\xf0\x9f\x98", "2"}, {"\x80", "3"}, {"\xc3", "3"}, {"b", NULL}};
    struct rows_rig *g = *state;
    struct reading r;
    g->host.stream_text = stream_text;
    said_count = 0;
    begin(g, &r, "select length(stream_text(log)) as n from m where text = 'one'");
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        char *text;
        uint64_t before = g->seq;
        say(g, 0x21, steps[i].piece);
        show_said(g, said_count - 1, false);
        assert_true(g->seq > before);
        assert_int_equal(rr_read(g, &r.reader, g->seq), steps[i].length ? 0 : ERR_TOO_OLD); // no text at all: nothing to be told
        if (!steps[i].length) break;
        text = rr_held(&r.reader);
        assert_non_null(strstr(text, "\"n\":"));
        assert_int_equal(strncmp(strstr(text, "\"n\":") + 4, steps[i].length, 1), 0);
        free(text);
    }
    end(&r);
}

// No commit names the rows of streams, so nothing is known of what one has missed; and what a stream has lost cannot be compared with.
static void who_is_behind_of_a_streams_text_begins_again(void **state)
{
    struct rows_rig *g = *state;
    struct reading first, late, trimmed;
    g->host.stream_text = stream_text;
    said_count = 0;
    begin(g, &first, "select stream_text(log) as log from m");
    uint64_t before = g->seq;
    say(g, 0x21, "a ");
    show_said(g, 0, false);
    expect_fresh(g, &first);
    begin(g, &trimmed, "select length(stream_text(log)) as log from m");
    attach(g, &late, "select text, stream_text(log) as log from m");
    late.reader.seq = before;
    assert_int_equal(rr_read(g, &late.reader, g->seq), ERR_TOO_OLD);
    say(g, 0x21, "b");
    show_said(g, 1, true);
    assert_int_equal(rr_read(g, &trimmed.reader, g->seq), ERR_TOO_OLD);
    rr_snapshot(g, &trimmed.reader, g->seq, 100);
    say(g, 0x22, "c");
    show_said(g, 2, false);
    expect_fresh(g, &trimmed);
    end(&first);
    end(&late);
    end(&trimmed);
}

// ---- what is given up ----------------------------------------------------------------------------------------------

static void write_many(struct rows_rig *g, enum row_op_kind kind, const char *table, unsigned first, unsigned n, const char *format)
{
    char json[100];
    rr_commit(g);
    rr_begin(g);
    for (unsigned i = 0; i < n; i++) {
        snprintf(json, sizeof json, format, i, i);
        assert_int_equal(rr_op(g, kind, table, first + i, json), 0);
    }
    assert_int_equal(rr_end(g), 0);
}

// Without an index each touched tag is looked for among all rows of m, in both states.
static void too_large_a_difference_is_a_fresh_snapshot(void **state)
{
    static const char *const sql[] = {"select m.text, t.word from m join tag t on t.word = m.text", "select m.text, t.word from m join tag t on t.word = m.text order by t.word, m.n"};
    struct rows_rig *g = *state;
    struct reading readers[2];
    write_many(g, ROW_INSERT, "m", 0x10000, 4000, "{\"u\":\"" ID(11) "\",\"text\":\"t%u\",\"n\":%u}");
    write_many(g, ROW_INSERT, "tag", 0x20000, 200, "{\"m\":\"" ID(21) "\",\"word\":\"t%u\"}");
    for (size_t i = 0; i < 2; i++)
        begin(g, &readers[i], sql[i]);
    write_many(g, ROW_UPDATE, "tag", 0x20000, 200, "{\"word\":\"t1%u\"}");
    for (size_t i = 0; i < 2; i++) {
        struct rows_reader *reader = &readers[i].reader;
        uint64_t reached;
        assert_int_equal(rr_read(g, reader, g->seq), ERR_TOO_OLD);
        assert_int_equal(rr_read(g, reader, g->seq), ERR_TOO_OLD); // and at once: nobody tries again
        assert_int_equal(reader->sub->feed->ops->reach(reader->sub, g->txn, reader->seq, g->seq, 1000, &reached), ERR_TOO_OLD);
        rr_snapshot(g, reader, g->seq, 1000);
    }
    rr_delete(g, "tag", 0x20000 + 7);
    rr_update(g, "m", 0x10000 + 4, "{\"text\":\"t16\"}");
    for (size_t i = 0; i < 2; i++) {
        expect_fresh(g, &readers[i]);
        end(&readers[i]);
    }
}

static void move_horizon(struct rows_rig *g, uint64_t upto)
{
    while (rows_horizon(g->r) < upto) {
        rr_commit(g);
        rr_begin(g);
        assert_int_equal(rows_decide_horizon(g->batch, upto, &g->p), 0);
        assert_int_equal(rr_end(g), 0);
    }
}

// What was noted and not read in time cannot be compared any more; who stands behind the horizon goes on.
static void what_lies_below_the_horizon_is_a_fresh_snapshot(void **state)
{
    static const char *const sql[] = {SAID, SAID " order by m.n", SAID " order by m.n limit 2"};
    struct rows_rig *g = *state;
    for (size_t i = 0; i < 3; i++) {
        struct reading behind, beyond;
        begin(g, &behind, sql[i]);
        rr_update(g, "u", 0x11, "{\"name\":\"first\"}");
        rr_update(g, "u", 0x11, "{\"name\":\"second\"}");
        begin(g, &beyond, sql[i]);
        move_horizon(g, g->seq);
        rr_update(g, "m", 0x21, "{\"n\":5}");
        expect_fresh(g, &beyond);
        assert_int_equal(rr_read(g, &behind.reader, g->seq), ERR_TOO_OLD);
        rr_snapshot(g, &behind.reader, g->seq, 100);
        rr_update(g, "m", 0x21, "{\"n\":1}");
        expect_fresh(g, &behind);
        expect_fresh(g, &beyond);
        end(&behind);
        end(&beyond);
    }
}

// What fails for one row fails for who asks afresh, too: that is what the reader is made to do.
static void a_row_that_cannot_be_evaluated_is_a_fresh_snapshot(void **state)
{
    struct rows_rig *g = *state;
    struct reading r;
    begin(g, &r, "select 6 / m.n as q, u.name from m join u on u.id = m.u");
    rr_update(g, "m", 0x21, "{\"n\":0}");
    assert_int_equal(rr_read(g, &r.reader, g->seq), ERR_TOO_OLD);
    rr_update(g, "m", 0x21, "{\"n\":3}");
    assert_int_equal(rr_read(g, &r.reader, g->seq), ERR_TOO_OLD);
    rr_snapshot(g, &r.reader, g->seq, 100);
    rr_update(g, "m", 0x21, "{\"n\":2}");
    expect_steps(g, &r, "{\"changed\":{\"q\":3,\"name\":\"ann\"},\"key\":\"" ID(21) "." ID(11) "\"}\n");
    end(&r);
}

static void a_dropped_index_is_done_without(void **state)
{
    struct rows_rig *g = *state;
    struct reading r, window;
    begin(g, &r, SAID);
    begin(g, &window, SAID " order by m.n limit 2");
    rr_update(g, "u", 0x11, "{\"name\":\"Ann\"}");
    expect_fresh(g, &r);
    rr_publish(g, "create table u (name text, age integer); create table m (u uuid not null, text text, n integer, log stream, more text);"
                  "create table tag (m uuid not null, word text);");
    bool wrote;
    while (rows_busy(g->r))
        assert_int_equal(rows_tick(g->r, g->txn, &wrote), 0);
    rr_update(g, "u", 0x11, "{\"name\":\"anna\"}");
    rr_insert(g, "m", 0x23, "{\"u\":\"" ID(11) "\",\"text\":\"three\",\"n\":0,\"more\":\"x\"}");
    rr_delete(g, "m", 0x21);
    expect_fresh(g, &r);
    expect_fresh(g, &window);
    end(&r);
    end(&window);
}

// Joins without an index: a commit may ask for more than is good for all others.
static void what_takes_too_long_is_a_fresh_snapshot(void **state)
{
    struct rows_rig *g = *state;
    struct reading r, groups;
    for (unsigned i = 0; i < 200; i++)
        rr_insert(g, "u", 0x100 + i, "{\"name\":\"x\",\"age\":5}");
    begin(g, &r, "select m.text, u.name from m join u on u.age > m.n order by u.name, m.n");
    begin(g, &groups, "select m.text, count(*) from m join u on u.age > m.n group by m.text");
    for (unsigned i = 0; i < 3; i++) {
        g->r->views.difference_us = 1;
        rr_update(g, "m", 0x21, i % 2 ? "{\"n\":1}" : "{\"n\":3}");
        assert_int_equal(rr_read(g, &r.reader, g->seq), ERR_TOO_OLD);
        assert_int_equal(rr_read(g, &groups.reader, g->seq), ERR_TOO_OLD);
        g->r->views.difference_us = 0;
        rr_snapshot(g, &r.reader, g->seq, 100);
        rr_snapshot(g, &groups.reader, g->seq, 100);
        expect_fresh(g, &r);
        expect_fresh(g, &groups);
    }
    assert_int_equal(view_of(&r)->strain, 3);
    for (unsigned i = 0; i < 4; i++) { // by and by it is trusted again
        rr_update(g, "m", 0x22, i % 2 ? "{\"n\":1}" : "{\"n\":3}");
        expect_fresh(g, &r);
        expect_fresh(g, &groups);
    }
    assert_int_equal(view_of(&r)->strain, 0);
    end(&r);
    end(&groups);
}

// Many views that are each just fast enough could hold up the app all the same.
static void all_differences_together_have_their_time(void **state)
{
    struct rows_rig *g = *state;
    struct reading r;
    begin(g, &r, SAID);
    g->r->views.difference_us = 200000;
    uint64_t before = clock_mono_us();
    assert_true(lazy_deadline(view_of(&r)) >= before + 200000);
    g->r->views.spent_us = 900000;
    assert_true(lazy_deadline(view_of(&r)) <= clock_mono_us() + 100000);
    g->r->views.spent_us = 30000000; // whoever needs little has that much
    before = clock_mono_us();
    assert_true(lazy_deadline(view_of(&r)) >= before + 1000);
    assert_true(lazy_deadline(view_of(&r)) <= clock_mono_us() + 10000);
    g->r->views.spent_at_us = clock_mono_us() - 1000000000; // long ago
    rr_update(g, "u", 0x11, "{\"name\":\"Ann\"}");
    expect_fresh(g, &r);
    assert_in_range(g->r->views.spent_us, 0, 29999999);
    end(&r);
}

static void what_takes_too_long_to_fill_is_refused(void **state)
{
    struct rows_rig *g = *state;
    struct reading r;
    struct feed_sub *sub;
    for (unsigned i = 0; i < 200; i++)
        rr_insert(g, "u", 0x100 + i, "{\"name\":\"x\",\"age\":5}");
    static const char *const queries[] = {"select m.text, u.name from m join u on u.age > m.n order by m.text", "select name from u order by name"};
    for (size_t i = 0; i < 2; i++) {
        g->r->views.fill_us = 1;
        struct query *q = rr_compile(g, queries[i]);
        assert_int_equal(rows_attach(g->r, g->txn, q, &sub, &g->p), ERR_QUERY_TOO_EXPENSIVE);
        query_unref(q);
        g->r->views.fill_us = 0;
        begin(g, &r, queries[i]);
        end(&r);
    }
}

// What a select within shows is what it is ordered by, and so on: a text that stands there once is gone through once, or it would take for ever.
static void selects_within_selects_are_gone_through_once(void **state)
{
    enum { NESTED = 25 };
    static const char *const ends[] = {"order by x, x desc, x limit 1", "where t.n = 1 order by x, x desc, x limit 1"};
    struct rows_rig *g = *state;
    for (size_t k = 0; k < sizeof ends / sizeof *ends; k++) {
        struct buf sql;
        struct query *q;
        struct feed_sub *sub;
        buf_init(&sql, 16 * KIB);
        for (unsigned i = 0; i < NESTED; i++)
            buf_put_str(&sql, i == 0 ? "select id, (" : "select (");
        buf_put_str(&sql, "select n from m limit 1");
        for (unsigned i = NESTED; i > 0; i--)
            buf_printf(&sql, ") as x from m t %s", ends[k]);
        int err = query_compile(g->r, buf_span(&sql), NULL, 0, &q, &g->p);
        if (err) fail_msg("%s: %s", ends[k], problem_text(&g->p));
        err = rows_attach(g->r, g->txn, q, &sub, &g->p);
        if (err == 0) sub->feed->ops->detach(sub);
        assert_true(err == 0 || err == ERR_UNSUPPORTED_SQL);
        query_unref(q);
        buf_free(&sql);
    }
}

// The same where what they speak of is grouped further out, and stands for each group's value there.
static void selects_within_groups_are_gone_through_once(void **state)
{
    enum { NESTED = 22 };
    struct rows_rig *g = *state;
    struct buf sql;
    buf_init(&sql, 16 * KIB);
    buf_put_str(&sql, "select o.n, (");
    for (unsigned i = 0; i < NESTED; i++)
        buf_put_str(&sql, "select (");
    buf_put_str(&sql, "select o.n from m limit 1");
    for (unsigned i = NESTED; i > 0; i--)
        buf_put_str(&sql, ") as x from m t order by x, x desc, x limit 1");
    buf_printf(&sql, ") as y from m o group by o.n%c", 0);
    rr_expect(g, (char *)sql.p, "{\"n\":1,\"y\":1}\n{\"n\":2,\"y\":2}\n");
    buf_free(&sql);
}

static void too_many_tables_at_once_are_refused(void **state)
{
    struct rows_rig *g = *state;
    struct buf sql;
    struct query *q;
    struct feed_sub *sub;
    buf_init(&sql, 16 * KIB);
    buf_put_str(&sql, "select a.text from m a where exists (select 1 from tag t0");
    for (unsigned i = 1; i < 16; i++)
        buf_printf(&sql, " join tag t%u on t%u.m = t%u.m", i, i, i - 1);
    buf_put_str(&sql, " where t0.m = a.id)");
    assert_int_equal(query_compile(g->r, buf_span(&sql), NULL, 0, &q, &g->p), 0);
    assert_int_equal(rows_attach(g->r, g->txn, q, &sub, &g->p), ERR_UNSUPPORTED_SQL);
    query_unref(q);
    buf_free(&sql);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rr_teardown)
    const struct CMUnitTest tests[] = {
        TEST(joined_rows_are_told_by_their_keys),
        TEST(rows_with_selects_within_go_by_their_id),
        TEST(a_left_join_says_when_its_row_of_nulls_comes_and_goes),
        TEST(a_row_that_others_have_left_the_window_to_is_told_whole),
        TEST(a_closed_stream_is_a_change_of_the_rows_that_show_it),
        TEST(a_commit_that_changes_nothing_of_it_wakes_nobody),
        TEST(a_constant_is_carried_over_joins),
        TEST(who_has_no_index_to_join_by_is_told),
        TEST(a_change_is_made_once_for_all_readers),
        TEST(queries_that_differ_in_parameters_alone_share_their_plans),
        TEST(a_reader_within_a_range_gets_there_by_itself),
        TEST(a_reader_that_asks_first_divides_the_range),
        TEST(more_touched_rows_than_are_noted_are_found_in_the_commits),
        TEST(the_text_of_streams_is_followed),
        TEST(a_character_that_comes_in_pieces_is_waited_for),
        TEST(who_is_behind_of_a_streams_text_begins_again),
        TEST(too_large_a_difference_is_a_fresh_snapshot),
        TEST(what_lies_below_the_horizon_is_a_fresh_snapshot),
        TEST(a_row_that_cannot_be_evaluated_is_a_fresh_snapshot),
        TEST(a_dropped_index_is_done_without),
        TEST(what_takes_too_long_is_a_fresh_snapshot),
        TEST(all_differences_together_have_their_time),
        TEST(what_takes_too_long_to_fill_is_refused),
        TEST(selects_within_selects_are_gone_through_once),
        TEST(selects_within_groups_are_gone_through_once),
        TEST(too_many_tables_at_once_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
