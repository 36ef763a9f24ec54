#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "err.h"
#include "rows_rig.h"

#define ID1 "00000000-0000-0000-0000-000000000001"
#define HEX32 "abababababababababababababababababababababababababababababababab"

static const char schema[] =
    "create table notes (id uuid primary key, title text not null, n integer default 5, big bigint, x double precision,"
    " done boolean not null default false, at timestamptz default now(), tag uuid default gen_random_uuid(),"
    " data jsonb, body stream, file blob);";

static int setup(void **state)
{
    struct rows_rig *g = malloc(sizeof *g);
    rr_open(g);
    *state = g;
    return 0;
}

static int teardown(void **state)
{
    rr_close(*state);
    free(*state);
    return 0;
}

static void refused(struct rows_rig *g, int found, int err, const char *part)
{
    if (found != err || !strstr(problem_text(&g->p), part))
        fail_msg("gave %s: %s\n  expected %s: %s", err_wire(found), problem_text(&g->p), err_wire(err), part);
}

// ---- operations ----------------------------------------------------------------------------------------------------

static void inserted_row_reads_back_with_defaults(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, schema);
    rr_insert(g, "notes", 1, "{\"title\":\"a\"}");
    rr_expect(g, "select title, n, big, done, at, data, body, file from notes",
              "{\"id\":\"#1\",\"title\":\"a\",\"n\":5,\"big\":null,\"done\":false,\"at\":\"2023-11-14T22:13:20.002Z\",\"data\":null,"
              "\"body\":{\"stream\":\"rows/notes/#1/body\",\"offset\":52,\"closed\":false},\"file\":null}\n");
}

static void every_type_reads_back_as_written(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, schema);
    rr_insert(g, "notes", 1,
              "{\"title\":\"\\u00e4\\\"\",\"n\":-7,\"big\":\"9007199254740993\",\"x\":0.5,\"done\":true,\"at\":\"2024-02-29T23:59:59."
              "123456+01:00\","
              "\"tag\":\"ABCDEF00-0000-0000-0000-000000000001\",\"data\":{\"b\":[1,null],\"a\":\"x\"},\"file\":{\"blob\":\"" HEX32 "\"}}");
    rr_expect(g, "select title, n, big, x, done, at, tag, data, file from notes",
              "{\"id\":\"#1\",\"title\":\"\xc3\xa4\\\"\",\"n\":-7,\"big\":\"9007199254740993\",\"x\":0.5,\"done\":true,\"at\":\"2024-02-"
              "29T22:59:59.123456Z\","
              "\"tag\":\"abcdef00-0000-0000-0000-000000000001\",\"data\":{\"a\":\"x\",\"b\":[1,null]},"
              "\"file\":{\"blob\":\"" HEX32 "\",\"size\":171,\"type\":\"text/plain\"}}\n");
}

static void values_of_another_type_are_refused(void **state)
{
    static const struct {
        const char *json;
        int err;
    } cases[] = {
        {"{\"title\":1}", ERR_WRONG_TYPE},
        {"{\"title\":\"a\",\"n\":1.5}", ERR_WRONG_TYPE},
        {"{\"title\":\"a\",\"n\":3000000000}", ERR_BAD_VALUE},
        {"{\"title\":\"a\",\"n\":\"1\"}", ERR_WRONG_TYPE},
        {"{\"title\":\"a\",\"big\":\"x\"}", ERR_BAD_VALUE},
        {"{\"title\":\"a\",\"big\":\"9223372036854775808\"}", ERR_BAD_VALUE},
        {"{\"title\":\"a\",\"x\":\"1\"}", ERR_WRONG_TYPE},
        {"{\"title\":\"a\",\"done\":1}", ERR_WRONG_TYPE},
        {"{\"title\":\"a\",\"at\":\"2023-02-29T00:00:00Z\"}", ERR_BAD_VALUE},
        {"{\"title\":\"a\",\"at\":true}", ERR_WRONG_TYPE},
        {"{\"title\":\"a\",\"tag\":\"x\"}", ERR_BAD_VALUE},
        {"{\"title\":\"a\",\"body\":\"x\"}", ERR_WRONG_TYPE},
        {"{\"title\":\"a\",\"file\":\"" HEX32 "\"}", ERR_WRONG_TYPE},
        {"{\"title\":\"a\",\"file\":{\"blob\":\"ab\"}}", ERR_BAD_VALUE},
        {"{\"title\":\"a\",\"nope\":1}", ERR_NO_SUCH_COLUMN},
        {"{\"title\":null}", ERR_NOT_NULL},
        {"{\"n\":1}", ERR_NOT_NULL},
        {"{\"title\":\"a\",\"done\":null}", ERR_NOT_NULL},
    };
    struct rows_rig *g = *state;
    rr_publish(g, schema);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int err = rr_op1(g, ROW_INSERT, "notes", 1, cases[i].json);
        if (err != cases[i].err) fail_msg("%s gave %s, not %s", cases[i].json, err_wire(err), err_wire(cases[i].err));
    }
    rr_expect(g, "select title from notes", "");
}

static void unknown_tables_are_refused(void **state)
{
    struct rows_rig *g = *state;
    refused(g, rr_op1(g, ROW_INSERT, "notes", 1, "{}"), ERR_NO_SUCH_TABLE, "no table notes");
}

static void missing_blobs_are_refused(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, schema);
    refused(g,
            rr_op1(g, ROW_INSERT, "notes", 1,
                   "{\"title\":\"a\",\"file\":{\"blob\":\"ffababababababababababababababababababababababababababababababab\"}}"),
            ERR_BLOB_NOT_FOUND, "no such blob");
}

static void streams_come_and_go_with_their_rows(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, schema);
    rr_insert(g, "notes", 1, "{\"title\":\"a\",\"body\":null}");
    rr_update(g, "notes", 1, "{\"title\":\"b\"}");
    rr_delete(g, "notes", 1);
    buf_put_u8(&g->calls, 0);
    assert_string_equal((char *)g->calls.p, "+rows/notes/" ID1 "/body\n-rows/notes/" ID1 "/body\n");
}

static void an_id_may_stand_among_the_columns(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, schema);
    rr_insert(g, "notes", 0, "{\"title\":\"a\",\"id\":\"" ID1 "\"}");
    rr_expect(g, "select title from notes where id = '" ID1 "'", "{\"id\":\"#1\",\"title\":\"a\"}\n");
    refused(g, rr_op1(g, ROW_UPDATE, "notes", 2, "{\"id\":\"" ID1 "\"}"), ERR_BAD_VALUE, "two ids");
    refused(g, rr_op1(g, ROW_UPDATE, "notes", 0, "{\"title\":\"x\"}"), ERR_BAD_VALUE, "no id");
}

static void ids_and_defaults_follow_from_the_commit_alone(void **state)
{
    struct rows_rig *g = *state;
    char *found[2];
    rr_publish(g, schema);
    for (int i = 0; i < 2; i++) {
        struct buf effects;
        rr_commit(g);
        g->now_ms--;
        rr_begin(g);
        assert_int_equal(rr_op(g, ROW_INSERT, "notes", 0, "{\"title\":\"a\"}"), 0);
        assert_int_equal(rr_op(g, ROW_INSERT, "notes", 0, "{\"title\":\"a\"}"), 0);
        assert_int_equal(rows_decide_end(g->batch, &g->p), 0);
        buf_init(&effects, MIB);
        rows_decide_effects(g->batch, &effects);
        found[i] = malloc(effects.n * 2 + 1);
        hex_format(found[i], buf_span(&effects));
        found[i][effects.n * 2] = 0;
        buf_free(&effects);
        rr_drop(g);
    }
    assert_string_equal(found[0], found[1]);
    rr_insert(g, "notes", 0, "{\"title\":\"a\"}");
    rr_insert(g, "notes", 0, "{\"title\":\"a\"}");
    free(found[0]);
    free(found[1]);
    char *tags = rr_select(g, "select tag from notes");
    char *second = strchr(tags, '\n') + 1;
    assert_int_not_equal(strncmp(tags, second, (size_t)(second - tags)), 0); // two rows, two ids, two tags
    assert_int_equal(tags[strlen("{\"id\":\"") + 14], '7');                  // the version of the UUID
    free(tags);
}

static void updates_change_only_the_named_columns(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, schema);
    rr_insert(g, "notes", 1, "{\"title\":\"a\",\"n\":1,\"x\":2}");
    rr_update(g, "notes", 1, "{\"x\":null,\"title\":\"b\"}");
    rr_expect(g, "select title, n, x from notes", "{\"id\":\"#1\",\"title\":\"b\",\"n\":1,\"x\":null}\n");
    refused(g, rr_op1(g, ROW_UPDATE, "notes", 2, "{\"n\":1}"), ERR_NO_SUCH_ROW, "no row");
    refused(g, rr_op1(g, ROW_DELETE, "notes", 2, NULL), ERR_NO_SUCH_ROW, "no row");
    refused(g, rr_op1(g, ROW_INSERT, "notes", 1, "{\"title\":\"c\"}"), ERR_ROW_EXISTS, "has a row");
}

static void deleted_ids_are_not_used_again(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, schema);
    rr_insert(g, "notes", 1, "{\"title\":\"a\"}");
    rr_delete(g, "notes", 1);
    refused(g, rr_op1(g, ROW_INSERT, "notes", 1, "{\"title\":\"c\"}"), ERR_ROW_EXISTS, "deleted");
    refused(g, rr_op1(g, ROW_UPDATE, "notes", 1, "{\"title\":\"c\"}"), ERR_NO_SUCH_ROW, "no row");
    refused(g, rr_op1(g, ROW_DELETE, "notes", 1, NULL), ERR_NO_SUCH_ROW, "no row");
}

static void rows_past_the_limit_are_refused(void **state)
{
    struct rows_rig *g = *state;
    static char json[ROW_BYTES_MAX + 64] = "{\"title\":\"";
    const size_t n = strlen("{\"title\":\"");
    rr_publish(g, schema);
    memset(json + n, 'x', ROW_BYTES_MAX);
    strcpy(json + n + ROW_BYTES_MAX, "\"}");
    refused(g, rr_op1(g, ROW_INSERT, "notes", 1, json), ERR_TOO_LARGE, "at most");
    strcpy(json + n + ROW_BYTES_MAX - 1000, "\"}");
    rr_insert(g, "notes", 1, json);
}

// ---- batches -------------------------------------------------------------------------------------------------------

static void a_batch_sees_its_own_operations(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, schema);
    rr_commit(g);
    rr_begin(g);
    assert_int_equal(rr_op(g, ROW_INSERT, "notes", 1, "{\"title\":\"a\"}"), 0);
    assert_int_equal(rr_op(g, ROW_UPDATE, "notes", 1, "{\"title\":\"b\"}"), 0);
    assert_int_equal(rr_op(g, ROW_UPDATE, "notes", 1, "{\"title\":\"c\",\"n\":2}"), 0);
    assert_int_equal(rr_op(g, ROW_INSERT, "notes", 1, "{\"title\":\"d\"}"), ERR_ROW_EXISTS);
    assert_int_equal(rr_op(g, ROW_INSERT, "notes", 2, "{\"title\":\"e\"}"), 0);
    assert_int_equal(rr_op(g, ROW_DELETE, "notes", 2, NULL), 0);
    assert_int_equal(rr_op(g, ROW_UPDATE, "notes", 2, "{\"n\":1}"), ERR_NO_SUCH_ROW);
    assert_int_equal(rr_op(g, ROW_DELETE, "notes", 2, NULL), ERR_NO_SUCH_ROW);
    assert_int_equal(rr_end(g), 0);
    rr_expect(g, "select title, n from notes", "{\"id\":\"#1\",\"title\":\"c\",\"n\":2}\n");
    rr_expect_at(g, "select title, n from notes", g->seq - 1, "");
}

static void a_dropped_batch_changes_nothing(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, schema);
    rr_commit(g);
    rr_begin(g);
    assert_int_equal(rr_op(g, ROW_INSERT, "notes", 1, "{\"title\":\"a\"}"), 0);
    rr_drop(g);
    rr_expect(g, "select title from notes", "");
}

static void an_empty_batch_has_no_effects(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, schema);
    rr_commit(g);
    rr_begin(g);
    assert_int_equal(rr_end(g), 0);
    assert_int_equal(g->effects.n, 0);
}

static void a_schema_and_its_rows_may_share_a_batch(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, "create table a (x text);");
    rr_commit(g);
    rr_begin(g);
    assert_int_equal(rr_op(g, ROW_INSERT, "a", 1, "{\"x\":\"1\"}"), 0);
    assert_int_equal(rr_schema(g, "create table a (x text, y integer default 4); create table b (z text);"), 0);
    assert_int_equal(rr_op(g, ROW_UPDATE, "a", 1, "{\"x\":\"2\"}"), 0);
    assert_int_equal(rr_op(g, ROW_INSERT, "a", 2, "{\"y\":9}"), 0);
    assert_int_equal(rr_op(g, ROW_INSERT, "b", 3, "{\"z\":\"q\"}"), 0);
    assert_int_equal(rr_end(g), 0);
    rr_expect(g, "select * from a", "{\"id\":\"#1\",\"x\":\"2\",\"y\":4}\n{\"id\":\"#2\",\"x\":null,\"y\":9}\n");
    rr_expect(g, "select * from b", "{\"id\":\"#3\",\"z\":\"q\"}\n");
}

static void a_row_owns_its_stream_paths(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, schema);
    rr_insert(g, "notes", 1, "{\"title\":\"a\"}");
    rr_commit(g);
    rr_begin(g);
    struct problem *p = &g->p;
    assert_int_equal(rows_decide_stream(g->batch, SPAN_LIT("rows/notes/" ID1 "/body"), false, p), 0);
    assert_int_equal(rows_decide_stream(g->batch, SPAN_LIT("rows/notes/" ID1 "/title"), false, p), ERR_NO_SUCH_COLUMN);
    assert_int_equal(rows_decide_stream(g->batch, SPAN_LIT("rows/nope/" ID1 "/body"), false, p), ERR_NO_SUCH_TABLE);
    assert_int_equal(rows_decide_stream(g->batch, SPAN_LIT("rows/notes/00000000-0000-0000-0000-000000000002/body"), false, p),
                     ERR_NO_SUCH_ROW);
    static const char *const bad[] = {"",
                                      "rows",
                                      "rows/notes/" ID1,
                                      "rows/notes/" ID1 "/",
                                      "rows/notes/" ID1 "/body/",
                                      "rows/notes/" ID1 "/body/x",
                                      "rows/notes/x/body",
                                      "rowz/notes/" ID1 "/body",
                                      "rows//" ID1 "/body"};
    for (size_t i = 0; i + 1 < sizeof bad / sizeof *bad; i++)
        assert_int_equal(rows_decide_stream(g->batch, SPAN_STR(bad[i]), false, p), ERR_BAD_VALUE);
    assert_int_equal(rr_op(g, ROW_INSERT, "notes", 3, "{\"title\":\"b\"}"), 0);
    assert_int_equal(rows_decide_stream(g->batch, SPAN_LIT("rows/notes/00000000-0000-0000-0000-000000000003/body"), true, p), 0);
    assert_int_equal(rr_op(g, ROW_DELETE, "notes", 1, NULL), 0);
    assert_int_equal(rows_decide_stream(g->batch, SPAN_LIT("rows/notes/" ID1 "/body"), false, p), ERR_NO_SUCH_ROW);
    assert_int_equal(rr_end(g), 0);
}

static void what_the_host_does_not_know_shows_as_null(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, schema);
    rr_insert(g, "notes", 1, "{\"title\":\"a\",\"file\":{\"blob\":\"" HEX32 "\"}}");
    g->unknown = true;
    rr_expect(g, "select body, file from notes",
              "{\"id\":\"#1\",\"body\":{\"stream\":\"rows/notes/#1/body\",\"offset\":null,\"closed\":null},"
              "\"file\":{\"blob\":\"" HEX32 "\",\"size\":null,\"type\":null}}\n");
}

// ---- references ----------------------------------------------------------------------------------------------------

static const char family[] =
    "create table parents (name text); create table children (parent uuid references parents, other uuid references parents(id));";

static void references_must_exist_when_the_batch_is_done(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, family);
    refused(g, rr_op1(g, ROW_INSERT, "children", 2, "{\"parent\":\"" ID1 "\"}"), ERR_NO_SUCH_REFERENCE, "refers to parents");
    rr_commit(g);
    rr_begin(g);
    assert_int_equal(rr_op(g, ROW_INSERT, "children", 2, "{\"parent\":\"" ID1 "\"}"), 0);
    assert_int_equal(rr_op(g, ROW_INSERT, "parents", 1, NULL), 0); // the order within a batch does not matter
    assert_int_equal(rr_end(g), 0);
    refused(g, rr_op1(g, ROW_UPDATE, "children", 2, "{\"other\":\"00000000-0000-0000-0000-000000000009\"}"), ERR_NO_SUCH_REFERENCE,
            "other");
    rr_update(g, "children", 2, "{\"other\":\"" ID1 "\"}");
}

static void referenced_rows_cannot_be_deleted(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, family);
    rr_insert(g, "parents", 1, NULL);
    rr_insert(g, "children", 2, "{\"parent\":\"" ID1 "\",\"other\":\"" ID1 "\"}");
    refused(g, rr_op1(g, ROW_DELETE, "parents", 1, NULL), ERR_STILL_REFERENCED, "children refers to parents");
    rr_update(g, "children", 2, "{\"parent\":null}");
    refused(g, rr_op1(g, ROW_DELETE, "parents", 1, NULL), ERR_STILL_REFERENCED, "children refers to parents");
    rr_commit(g);
    rr_begin(g);
    assert_int_equal(rr_op(g, ROW_DELETE, "parents", 1, NULL), 0);
    assert_int_equal(rr_op(g, ROW_INSERT, "children", 3, "{\"parent\":\"" ID1 "\"}"), 0);
    assert_int_equal(rr_op(g, ROW_DELETE, "children", 2, NULL), 0);
    assert_int_equal(rr_end(g), ERR_NO_SUCH_REFERENCE);
    rr_commit(g);
    rr_begin(g);
    assert_int_equal(rr_op(g, ROW_DELETE, "parents", 1, NULL), 0);
    assert_int_equal(rr_op(g, ROW_UPDATE, "children", 2, "{\"other\":null}"), 0);
    assert_int_equal(rr_end(g), 0);
}

static void parent_and_child_may_be_deleted_together(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, family);
    rr_insert(g, "parents", 1, NULL);
    rr_insert(g, "children", 2, "{\"parent\":\"" ID1 "\"}");
    rr_commit(g);
    rr_begin(g);
    assert_int_equal(rr_op(g, ROW_DELETE, "parents", 1, NULL), 0);
    assert_int_equal(rr_op(g, ROW_DELETE, "children", 2, NULL), 0);
    assert_int_equal(rr_end(g), 0);
    rr_expect(g, "select * from children", "");
}

// ---- durability ----------------------------------------------------------------------------------------------------

static void everything_is_there_after_reopening(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, schema);
    rr_insert(g, "notes", 1, "{\"title\":\"a\"}");
    rr_update(g, "notes", 1, "{\"title\":\"b\"}");
    struct sha256 hash = rows_schema_hash(g->r);
    rr_reopen(g);
    struct sha256 again = rows_schema_hash(g->r);
    assert_true(sha256_equal(&hash, &again));
    rr_expect(g, "select title from notes", "{\"id\":\"#1\",\"title\":\"b\"}\n");
    rr_expect_at(g, "select title from notes", 2, "{\"id\":\"#1\",\"title\":\"a\"}\n");
    rr_insert(g, "notes", 2, "{\"title\":\"c\"}");
}

static struct sha256 state_hash(struct rows_rig *g)
{
    struct digest *d = digest_new();
    assert_int_equal(rows_hash(g->r, g->txn, d), 0);
    struct sha256 h = digest_final(d);
    digest_free(d);
    return h;
}

static void replayed_effects_make_the_same_state(void **state)
{
    struct rows_rig *g = *state, other;
    rr_open(&other);
    for (int step = 0; step < 5; step++) {
        rr_commit(g);
        rr_begin(g);
        if (step == 0) assert_int_equal(rr_schema(g, schema), 0);
        if (step == 1) assert_int_equal(rr_op(g, ROW_INSERT, "notes", 0, "{\"title\":\"a\"}"), 0);
        if (step == 2) assert_int_equal(rr_op(g, ROW_INSERT, "notes", 1, "{\"title\":\"b\"}"), 0);
        if (step == 3) assert_int_equal(rr_op(g, ROW_UPDATE, "notes", 1, "{\"n\":8}"), 0);
        if (step == 4) assert_int_equal(rr_op(g, ROW_DELETE, "notes", 1, NULL), 0);
        assert_int_equal(rr_end(g), 0);
        assert_int_equal(rows_apply(other.r, other.txn, &g->c, buf_span(&g->effects)), 0);
        struct sha256 a = state_hash(g), b = state_hash(&other);
        assert_true(sha256_equal(&a, &b));
    }
    rr_close(&other);
}

static void effects_that_do_not_fit_are_corrupt(void **state)
{
    struct rows_rig *g = *state;
    rr_publish(g, schema);
    rr_insert(g, "notes", 1, "{\"title\":\"a\"}");
    struct sha256 before = state_hash(g);
    struct span effects = buf_span(&g->effects);
    assert_int_equal(rows_apply(g->r, g->txn, &g->c, effects), ERR_CORRUPT); // a seq twice
    g->c.seq++;
    assert_int_equal(rows_apply(g->r, g->txn, &g->c, effects), ERR_CORRUPT); // a row of another seq
    for (size_t n = 1; n < effects.n; n++)
        assert_int_equal(rows_apply(g->r, g->txn, &g->c, span_sub(effects, 0, n)), ERR_CORRUPT);
    struct sha256 after = state_hash(g);
    assert_true(sha256_equal(&before, &after));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(inserted_row_reads_back_with_defaults),
        TEST(every_type_reads_back_as_written),
        TEST(values_of_another_type_are_refused),
        TEST(unknown_tables_are_refused),
        TEST(missing_blobs_are_refused),
        TEST(streams_come_and_go_with_their_rows),
        TEST(an_id_may_stand_among_the_columns),
        TEST(ids_and_defaults_follow_from_the_commit_alone),
        TEST(updates_change_only_the_named_columns),
        TEST(deleted_ids_are_not_used_again),
        TEST(rows_past_the_limit_are_refused),
        TEST(a_batch_sees_its_own_operations),
        TEST(a_dropped_batch_changes_nothing),
        TEST(an_empty_batch_has_no_effects),
        TEST(a_schema_and_its_rows_may_share_a_batch),
        TEST(a_row_owns_its_stream_paths),
        TEST(what_the_host_does_not_know_shows_as_null),
        TEST(references_must_exist_when_the_batch_is_done),
        TEST(referenced_rows_cannot_be_deleted),
        TEST(parent_and_child_may_be_deleted_together),
        TEST(everything_is_there_after_reopening),
        TEST(replayed_effects_make_the_same_state),
        TEST(effects_that_do_not_fit_are_corrupt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
