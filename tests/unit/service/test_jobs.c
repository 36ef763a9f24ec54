#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka.h needs the four above.
#include <cmocka.h>

#include <stdlib.h>

#include "app_lab.h"
#include "db.h"
#include "err.h"
#include "journal.h"
#include "llm_event.h"
#include "tmp.h"

static const char schema[] = "create table messages (body stream, other stream, status text, usage jsonb);";

static struct uuid uuid(uint8_t fill)
{
    struct uuid u;
    memset(u.b, fill, sizeof u.b);
    return u;
}

static int setup(void **state)
{
    struct app_lab *l = calloc(1, sizeof *l);
    app_lab_init(l);
    l->options.journal_keep_all = true;
    app_lab_open(l);
    assert_int_equal(lab_schema(l, schema), 0);
    *state = l;
    return 0;
}

static int teardown(void **state)
{
    struct app_lab *l = *state;
    app_lab_free(l);
    free(l);
    return 0;
}

// ---- steps ----

static struct batch_op insert_row(struct uuid row)
{
    return (struct batch_op){.kind = BATCH_INSERT, .row = {.kind = ROW_INSERT, .table = SPAN_LIT("messages"), .has_id = true, .id = row}};
}

static struct batch_op new_job(struct uuid id, struct uuid row, const char *column)
{
    return (struct batch_op){.kind = BATCH_JOB,
                             .job = {.id = id,
                                     .make = true,
                                     .state = JOB_CONNECTING,
                                     .api = LLM_CHAT,
                                     .form = LLM_FORM_TEXT,
                                     .provider = SPAN_LIT("someone"),
                                     .table = SPAN_LIT("messages"),
                                     .row = row,
                                     .column = SPAN_STR(column),
                                     .status_column = SPAN_LIT("status"),
                                     .usage_column = SPAN_LIT("usage"),
                                     .request = sha256_of(SPAN_LIT("asked"))}};
}

static struct batch_op step(struct uuid id, enum job_state to)
{
    struct batch_op op = {.kind = BATCH_JOB, .job = {.id = id, .state = to}};
    if (to != JOB_STREAMING && to != JOB_DONE) op.job.err = ERR_PROVIDER_CUT, op.job.text = SPAN_LIT("it broke off");
    if (to == JOB_DONE) op.job.usage = SPAN_LIT("{\"total_tokens\":3}"), op.job.finish = SPAN_LIT("stop");
    return op;
}

static int run(struct app_lab *l, struct batch_op op)
{
    return lab_ops(l, &op, 1, NULL);
}

// A row and a job that writes to its body.
static void make(struct app_lab *l, struct uuid id, struct uuid row)
{
    const struct batch_op ops[] = {insert_row(row), new_job(id, row, "body")};
    assert_int_equal(lab_ops(l, ops, 2, NULL), 0);
}

static struct job find(struct app_lab *l, struct uuid id)
{
    struct job j;
    assert_int_equal(app_job(l->app, id, &j), 1);
    return j;
}

static size_t live(struct app_lab *l)
{
    struct uuid ids[8];
    return app_jobs_live(l->app, ids, 8);
}

// ---- claims ----

static void a_job_is_what_was_asked(void **state)
{
    struct app_lab *l = *state;
    make(l, uuid(1), uuid(2));
    struct job j = find(l, uuid(1));
    assert_int_equal(j.state, JOB_CONNECTING);
    assert_true(span_is(j.provider, "someone") && span_is(j.table, "messages") && span_is(j.column, "body"));
    assert_true(span_is(j.status_column, "status") && span_is(j.usage_column, "usage"));
    assert_true(uuid_equal(j.row, uuid(2)));
    assert_true(j.created_ms > 0);
    assert_int_equal(j.ended_ms, 0);
    assert_int_equal(live(l), 1);
}

static void every_state_has_its_name(void **state)
{
    (void)state;
    for (int a = JOB_QUEUED; a <= JOB_INTERRUPTED; a++)
        for (int b = JOB_QUEUED; b < a; b++)
            assert_string_not_equal(job_state_name((enum job_state)a), job_state_name((enum job_state)b));
}

static void a_job_ends_once(void **state)
{
    struct app_lab *l = *state;
    make(l, uuid(1), uuid(2));
    assert_int_equal(run(l, step(uuid(1), JOB_STREAMING)), 0);
    assert_int_equal(run(l, step(uuid(1), JOB_STREAMING)), ERR_JOB_ENDED);
    assert_int_equal(find(l, uuid(1)).state, JOB_STREAMING);
    assert_int_equal(run(l, step(uuid(1), JOB_DONE)), 0);
    struct job j = find(l, uuid(1));
    assert_int_equal(j.state, JOB_DONE);
    assert_true(j.ended_ms >= j.created_ms && span_is(j.usage, "{\"total_tokens\":3}") && span_is(j.finish, "stop"));
    assert_int_equal(live(l), 0);
    for (int to = JOB_STREAMING; to <= JOB_INTERRUPTED; to++)
        assert_int_equal(run(l, step(uuid(1), (enum job_state)to)), ERR_JOB_ENDED);
    assert_int_equal(find(l, uuid(1)).state, JOB_DONE);
}

static void a_job_may_end_before_its_first_text(void **state)
{
    struct app_lab *l = *state;
    make(l, uuid(1), uuid(2));
    assert_int_equal(run(l, step(uuid(1), JOB_INTERRUPTED)), 0);
    struct job j = find(l, uuid(1));
    assert_int_equal(j.err, ERR_PROVIDER_CUT);
    assert_true(span_is(j.text, "it broke off"));
}

static void a_job_that_is_not_there_has_no_steps(void **state)
{
    struct app_lab *l = *state;
    struct job j;
    assert_int_equal(run(l, step(uuid(9), JOB_DONE)), ERR_NO_SUCH_JOB);
    assert_int_equal(app_job(l->app, uuid(9), &j), 0);
}

static void an_id_is_used_once(void **state)
{
    struct app_lab *l = *state;
    make(l, uuid(1), uuid(2));
    assert_int_equal(run(l, new_job(uuid(1), uuid(2), "other")), ERR_JOB_EXISTS);
    assert_int_equal(run(l, step(uuid(1), JOB_DONE)), 0);
    assert_int_equal(run(l, new_job(uuid(1), uuid(2), "other")), ERR_JOB_EXISTS);
}

static void a_stream_has_one_live_job(void **state)
{
    struct app_lab *l = *state;
    make(l, uuid(1), uuid(2));
    assert_int_equal(run(l, new_job(uuid(3), uuid(2), "body")), ERR_JOB_EXISTS);
    assert_int_equal(run(l, new_job(uuid(3), uuid(2), "other")), 0);
    assert_int_equal(run(l, step(uuid(1), JOB_FAILED)), 0);
    assert_int_equal(run(l, new_job(uuid(4), uuid(2), "body")), 0);
    assert_int_equal(live(l), 2);
}

static void a_target_must_be_an_open_stream_of_a_row(void **state)
{
    struct app_lab *l = *state;
    assert_int_equal(run(l, new_job(uuid(1), uuid(2), "body")), ERR_NO_SUCH_ROW);
    assert_int_equal(run(l, insert_row(uuid(2))), 0);
    assert_int_equal(run(l, new_job(uuid(1), uuid(2), "status")), ERR_NO_SUCH_COLUMN);
    assert_int_equal(run(l, (struct batch_op){.kind = BATCH_CLOSE,
                                              .stream = {.table = SPAN_LIT("messages"), .id = uuid(2), .column = SPAN_LIT("body")}}),
                     0);
    assert_int_equal(run(l, new_job(uuid(1), uuid(2), "body")), ERR_STREAM_CLOSED);
    assert_int_equal(live(l), 0);
}

static void a_rejected_batch_makes_no_job(void **state)
{
    struct app_lab *l = *state;
    const struct batch_op ops[] = {insert_row(uuid(2)), new_job(uuid(1), uuid(2), "body"), insert_row(uuid(2))};
    struct job j;
    assert_int_equal(lab_ops(l, ops, 3, NULL), ERR_ROW_EXISTS);
    assert_int_equal(app_job(l->app, uuid(1), &j), 0);
    assert_int_equal(live(l), 0);
}

static void a_batch_has_one_step(void **state)
{
    struct app_lab *l = *state;
    make(l, uuid(1), uuid(2));
    const struct batch_op ops[] = {step(uuid(1), JOB_STREAMING), step(uuid(1), JOB_DONE)};
    assert_int_equal(lab_ops(l, ops, 2, NULL), ERR_BAD_BATCH);
    assert_int_equal(find(l, uuid(1)).state, JOB_CONNECTING);
}

static void a_job_can_end_though_its_row_is_gone(void **state)
{
    struct app_lab *l = *state;
    make(l, uuid(1), uuid(2));
    assert_int_equal(run(l, (struct batch_op){.kind = BATCH_DELETE,
                                              .row = {.kind = ROW_DELETE, .table = SPAN_LIT("messages"), .has_id = true, .id = uuid(2)}}),
                     0);
    assert_int_equal(run(l, step(uuid(1), JOB_FAILED)), 0);
    assert_int_equal(live(l), 0);
}

static void jobs_are_part_of_the_state_and_survive_kill_9(void **state)
{
    struct app_lab *l = *state, copy;
    char before[65], after[65], copied[65];
    lab_hash(l, before);
    make(l, uuid(1), uuid(2));
    make(l, uuid(3), uuid(4));
    assert_int_equal(run(l, step(uuid(3), JOB_CANCELLED)), 0);
    lab_hash(l, after);
    assert_string_not_equal(before, after);
    app_lab_fork(l, &copy);
    lab_hash(&copy, copied);
    assert_string_equal(after, copied);
    assert_int_equal(find(&copy, uuid(1)).state, JOB_CONNECTING);
    assert_int_equal(find(&copy, uuid(3)).state, JOB_CANCELLED);
    assert_int_equal(live(&copy), 1);
    app_lab_free(&copy);
    app_lab_reopen(l);
    lab_hash(l, copied);
    assert_string_equal(after, copied);
}

static int redecide_group(void *ctx, uint64_t group, struct span payload)
{
    struct problem p = PROBLEM_NONE;
    (void)group;
    int err = app_redecide(ctx, payload, &p);
    if (err != 0) print_message("%s\n", problem_text(&p));
    return err;
}

static void jobs_are_decided_the_same_again(void **state)
{
    struct app_lab *l = *state, fresh;
    char was[65], is[65];
    make(l, uuid(1), uuid(2));
    assert_int_equal(run(l, step(uuid(1), JOB_STREAMING)), 0);
    assert_int_equal(run(l, new_job(uuid(3), uuid(2), "body")), ERR_JOB_EXISTS);
    assert_int_equal(run(l, step(uuid(1), JOB_DONE)), 0);
    lab_hash(l, was);
    app_lab_close(l);
    app_lab_init(&fresh);
    app_lab_open(&fresh);
    struct journal *j;
    struct problem p = PROBLEM_NONE;
    char *path = tmp_path(l->path, "journal");
    assert_int_equal(journal_open(&j, &(struct journal_options){.path = path, .segment_bytes = LAB_SEGMENT, .read_only = true},
                                  redecide_group, fresh.app, &p),
                     0);
    journal_close(j);
    free(path);
    lab_hash(&fresh, is);
    assert_string_equal(was, is);
    app_lab_free(&fresh);
    app_lab_open(l);
}

// ---- the store alone ----

static const char *const tables[] = {JOBS_TABLES};

struct store {
    char *folder;
    struct db *db;
    struct db_txn *txn;
    uint64_t now_ms;
};

static struct store store_open(void)
{
    struct store s = {.folder = tmp_make(), .now_ms = 1790000000000};
    assert_int_equal(
        db_open(&s.db, &(struct db_options){.path = s.folder, .map_bytes = 64 * MIB, .tables = tables, .table_count = JOBS_TABLE_COUNT}),
        0);
    s.txn = db_begin_write(s.db);
    return s;
}

static void store_close(struct store *s)
{
    db_abort(s->txn);
    db_close(s->db);
    tmp_remove(s->folder);
}

static void store_step(struct store *s, const struct batch_op *op)
{
    struct commit c = {.arrival_ms = s->now_ms};
    struct identity who = identity_of(IDENTITY_ADMIN);
    struct problem p = PROBLEM_NONE;
    struct buf effects;
    buf_init(&effects, MIB);
    assert_int_equal(jobs_decide(s->txn, 0, &op->job, &who, &c, &effects, &p), 0);
    assert_int_equal(jobs_apply(s->txn, 0, &c, buf_span(&effects)), 0);
    assert_int_equal(db_txn_err(s->txn), 0);
    buf_free(&effects);
}

static void ended_jobs_are_dropped_after_their_time(void **state)
{
    (void)state;
    struct store s = store_open();
    struct job j;
    for (uint8_t i = 1; i <= 3; i++) {
        struct batch_op new = new_job(uuid(i), uuid(100 + i), "body"), end = step(uuid(i), JOB_FAILED);
        store_step(&s, &new);
        if (i != 2) store_step(&s, &end); // the second one lives on
        s.now_ms++;
    }
    assert_int_equal(jobs_find(s.txn, 0, uuid(1), &j), 1);
    assert_int_equal(j.identity.kind, IDENTITY_ADMIN);
    s.now_ms += LLM_JOB_KEPT_MS + 10;
    struct batch_op new = new_job(uuid(9), uuid(9), "body"), end = step(uuid(9), JOB_DONE);
    store_step(&s, &new);
    store_step(&s, &end);
    assert_int_equal(jobs_find(s.txn, 0, uuid(1), &j), 0);
    assert_int_equal(jobs_find(s.txn, 0, uuid(3), &j), 0);
    assert_int_equal(jobs_find(s.txn, 0, uuid(2), &j), 1);
    assert_int_equal(jobs_find(s.txn, 0, uuid(9), &j), 1);
    store_close(&s);
}

static struct batch_op queued(struct uuid id, const char *path)
{
    struct batch_op op = new_job(id, uuid(0), "");
    op.job.state = JOB_QUEUED;
    op.job.path = SPAN_STR(path);
    op.job.table = op.job.column = op.job.status_column = op.job.usage_column = SPAN_NONE;
    return op;
}

static void a_queued_job_passes_every_state_once_and_keeps_what_a_resumption_needs(void **state)
{
    (void)state;
    struct store s = store_open();
    struct job j;
    struct batch_op new = queued(uuid(1), "replies/1"), next = step(uuid(1), JOB_CONNECTING);
    store_step(&s, &new);
    assert_int_equal(jobs_find(s.txn, 0, uuid(1), &j), 1);
    assert_true(j.state == JOB_QUEUED && j.begun_ms == 0 && span_is(j.path, "replies/1"));
    s.now_ms++;
    store_step(&s, &next);
    s.now_ms++;
    next = step(uuid(1), JOB_STREAMING);
    next.job.progress = SPAN_LIT("here");
    store_step(&s, &next);
    next.job.progress = SPAN_LIT("there");
    store_step(&s, &next); // the same state, further on
    assert_int_equal(jobs_find(s.txn, 0, uuid(1), &j), 1);
    assert_true(span_is(j.progress, "there") && j.begun_ms == s.now_ms - 1 && j.first_ms == s.now_ms);
    next = step(uuid(1), JOB_FAILED);
    next.job.status = 503;
    next.job.successor = SPAN_LIT("replies/2");
    next.job.heir = uuid(2);
    store_step(&s, &next);
    assert_int_equal(jobs_find(s.txn, 0, uuid(1), &j), 1);
    assert_true(j.progress.n == 0 && j.status == 503 && span_is(j.successor, "replies/2") && uuid_compare(j.heir, uuid(2)) == 0);
    store_close(&s);
}

static void tokens_are_counted_by_the_day(void **state)
{
    (void)state;
    struct store s = store_open();
    uint64_t day = 86400000;
    for (uint8_t i = 1; i <= 3; i++) {
        struct batch_op new = queued(uuid(i), "replies/1"), end = step(uuid(i), JOB_DONE);
        end.job.tokens = i;
        if (i == 3) s.now_ms += day;
        store_step(&s, &new);
        store_step(&s, &end);
        assert_int_equal(jobs_tokens(s.txn, 0, s.now_ms), i == 3 ? 3 : i * (i + 1) / 2);
    }
    assert_int_equal(jobs_tokens(s.txn, 0, s.now_ms - day), 0);
    assert_int_equal(jobs_tokens(s.txn, 0, s.now_ms + day), 0);
    store_close(&s);
}

static void a_request_is_kept_until_its_job_ends(void **state)
{
    (void)state;
    struct store s = store_open();
    struct batch_op new = queued(uuid(1), "replies/1"), end = step(uuid(1), JOB_INTERRUPTED);
    struct buf ask;
    buf_init(&ask, KIB);
    new.job.fork = true;
    new.job.ask = SPAN_LIT("{\"model\":\"m\"}");
    store_step(&s, &new);
    assert_true(jobs_ask(s.txn, 0, uuid(1), &ask));
    assert_true(span_is(buf_span(&ask), "{\"model\":\"m\"}"));
    store_step(&s, &end);
    assert_false(jobs_ask(s.txn, 0, uuid(1), &ask));
    buf_free(&ask);
    store_close(&s);
}

static void damaged_effects_and_records_are_found(void **state)
{
    (void)state;
    struct store s = store_open();
    struct commit c = {.arrival_ms = s.now_ms};
    struct identity who = identity_of(IDENTITY_ADMIN);
    struct batch_op new = new_job(uuid(1), uuid(2), "body");
    struct buf effects;
    struct job j;
    buf_init(&effects, MIB);
    assert_int_equal(jobs_decide(s.txn, 0, &new.job, &who, &c, &effects, NULL), 0);
    for (size_t n = 1; n < effects.n; n++)
        assert_int_equal(jobs_apply(s.txn, 0, &c, SPAN(effects.p, n)), ERR_CORRUPT);
    struct span record = SPAN(effects.p + 17, effects.n - 18); // behind the id and a length of one byte, before the request that it has not
    assert_int_equal(job_decode(record, uuid(1), &j), 0);
    for (size_t n = 0; n < record.n; n++)
        assert_int_equal(job_decode(SPAN(record.p, n), uuid(1), &j), ERR_CORRUPT);
    effects.p[17] = 99; // another format
    assert_int_equal(jobs_apply(s.txn, 0, &c, buf_span(&effects)), ERR_CORRUPT);
    buf_free(&effects);
    store_close(&s);
}

// Every field of an operation comes back as it went in.
static void steps_survive_encoding(void **state)
{
    (void)state;
    const struct batch_op ops[] = {new_job(uuid(1), uuid(2), "body"), step(uuid(1), JOB_STREAMING), step(uuid(1), JOB_DONE),
                                   step(uuid(1), JOB_INTERRUPTED)};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        struct buf b;
        struct batch_reader r;
        struct batch_op op;
        buf_init(&b, 4 * KIB);
        batch_put_op(&b, &ops[i]);
        batch_reader_init(&r, buf_span(&b));
        assert_int_equal(batch_read(&r, &op), 1);
        const struct batch_job *was = &ops[i].job, *is = &op.job;
        assert_int_equal(op.kind, BATCH_JOB);
        assert_true(uuid_equal(was->id, is->id) && was->state == is->state && uuid_equal(was->row, is->row) &&
                    sha256_equal(&was->request, &is->request));
        assert_true(span_equal(was->provider, is->provider) && span_equal(was->table, is->table) && span_equal(was->column, is->column));
        assert_true(span_equal(was->status_column, is->status_column) && span_equal(was->usage_column, is->usage_column));
        assert_true(was->err == is->err && span_equal(was->text, is->text) && span_equal(was->usage, is->usage) &&
                    span_equal(was->finish, is->finish));
        assert_int_equal(batch_read(&r, &op), 0);
        batch_reader_init(&r, SPAN(b.p, b.n - 1));
        assert_int_equal(batch_read(&r, &op), ERR_CORRUPT);
        batch_reader_free(&r);
        buf_free(&b);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_job_is_what_was_asked),
        cmocka_unit_test(every_state_has_its_name),
        T(a_job_ends_once),
        T(a_job_may_end_before_its_first_text),
        T(a_job_that_is_not_there_has_no_steps),
        T(an_id_is_used_once),
        T(a_stream_has_one_live_job),
        T(a_target_must_be_an_open_stream_of_a_row),
        T(a_rejected_batch_makes_no_job),
        T(a_batch_has_one_step),
        T(a_job_can_end_though_its_row_is_gone),
        T(jobs_are_part_of_the_state_and_survive_kill_9),
        T(jobs_are_decided_the_same_again),
        cmocka_unit_test(ended_jobs_are_dropped_after_their_time),
        cmocka_unit_test(a_queued_job_passes_every_state_once_and_keeps_what_a_resumption_needs),
        cmocka_unit_test(tokens_are_counted_by_the_day),
        cmocka_unit_test(a_request_is_kept_until_its_job_ends),
        cmocka_unit_test(damaged_effects_and_records_are_found),
        cmocka_unit_test(steps_survive_encoding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
