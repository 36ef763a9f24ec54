// Resumable uploads through the journal: what was answered outlives kill -9, what was not is not shown, and deciding again comes to
// the same.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "app_lab.h"
#include "blob_lab.h"
#include "disk.h"
#include "err.h"
#include "journal.h"
#include "log.h"
#include "tmp.h"

#define CONTENT_BYTES (1 * MIB)

struct stage {
    struct app_lab lab;
    uint8_t *content;
    struct uuid id;
};

static int run(struct app_lab *l, const struct span *ops, size_t count)
{
    struct batch_op list[3];
    for (size_t i = 0; i < count; i++)
        list[i] = (struct batch_op){.kind = BATCH_UPLOAD, .upload = ops[i]};
    return lab_ops(l, list, count, NULL);
}

static int setup(void **state)
{
    struct stage *s = calloc(1, sizeof *s);
    struct buf op;
    log_set_level(LOG_ERROR);
    app_lab_init(&s->lab);
    s->lab.options.journal_keep_all = true;
    app_lab_open(&s->lab);
    s->content = random_content(CONTENT_BYTES, 1);
    s->id = uuid_new();
    buf_init(&op, 8 * KIB);
    blobs_upload_put_create(&op, s->id, &(struct upload_new){.length = CONTENT_BYTES});
    struct span span = buf_span(&op);
    assert_int_equal(run(&s->lab, &span, 1), 0);
    buf_free(&op);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct stage *s = *state;
    disk_fail_clear();
    app_lab_free(&s->lab);
    free(s->content);
    free(s);
    return 0;
}

// One PATCH: its fate.
static int patch(struct stage *s, size_t from, size_t to)
{
    struct app *a = s->lab.app;
    struct blob_upload *u;
    struct sha256 digest;
    struct buf ops[2];
    bool last = to == CONTENT_BYTES;
    int err = blobs_upload_resume(app_blobs(a), app_txn(a), s->id, &u);
    if (err != 0) return err;
    err = blobs_upload_load(u);
    if (err == 0 && !last) blobs_upload_pause(u);
    if (err == 0) err = blobs_upload_chunk(u, SPAN(s->content + from, to - from), last);
    if (err == 0) err = blobs_upload_place(u, app_txn(a));
    if (err == 0) err = blobs_upload_write(u);
    if (err == 0) err = blobs_upload_sync(u);
    buf_init(&ops[0], 1 * MIB);
    buf_init(&ops[1], 1 * KIB);
    if (err == 0) blobs_upload_progress(u, &ops[0]);
    if (err == 0 && last) blobs_upload_complete(u, &ops[1], &digest);
    blobs_upload_close(u);
    const struct span spans[] = {buf_span(&ops[0]), buf_span(&ops[1])};
    if (err == 0) err = run(&s->lab, spans, last ? 2 : 1);
    buf_free(&ops[0]);
    buf_free(&ops[1]);
    return err;
}

static uint64_t offset_of(struct stage *s, struct app *a)
{
    struct upload_info info;
    assert_true(blobs_upload_find(app_blobs(a), app_txn(a), s->id, &info));
    return info.offset;
}

static void answered_offset_outlives_kill(void **state)
{
    struct stage *s = *state;
    static const size_t ends[] = {0, 1, 30000, 300000, 300001, 900000, CONTENT_BYTES};
    for (size_t i = 1; i < sizeof ends / sizeof *ends; i++) {
        struct app_lab copy;
        uint64_t checked;
        assert_int_equal(patch(s, ends[i - 1], ends[i]), 0);
        if (i % 2 == 0) assert_true(lab_commit_db(&s->lab));
        app_lab_fork(&s->lab, &copy);
        assert_int_equal(offset_of(s, copy.app), ends[i]);
        assert_int_equal(blobs_check(app_blobs(copy.app), app_txn(copy.app), &checked), 0);
        assert_int_equal(checked, ends[i] == CONTENT_BYTES);
        app_lab_free(&copy);
    }
    struct sha256 digest = sha256_of(SPAN(s->content, CONTENT_BYTES));
    struct blob_info info;
    assert_true(blobs_find(app_blobs(s->lab.app), app_txn(s->lab.app), &digest, &info));
}

static void progress_that_was_not_journaled_is_not_shown(void **state)
{
    struct stage *s = *state;
    assert_int_equal(patch(s, 0, 100000), 0);
    disk_fail(DISK_WRITE | DISK_ALLOCATE, "/journal/", 1, ENOSPC, DISK_FOREVER);
    int err = patch(s, 100000, 200000);
    assert_int_not_equal(err, 0);
    disk_fail_clear();
    assert_true(lab_recover(&s->lab));
    uint64_t offset = offset_of(s, s->lab.app);
    assert_true(offset == 100000 || (err == ERR_FATE_UNKNOWN && offset == 200000));
    assert_int_equal(patch(s, offset, CONTENT_BYTES), 0);
    uint64_t checked;
    assert_int_equal(blobs_check(app_blobs(s->lab.app), app_txn(s->lab.app), &checked), 0);
}

static int redecide_group(void *ctx, uint64_t group, struct span payload)
{
    struct problem p = PROBLEM_NONE;
    (void)group;
    int err = app_redecide(((struct app_lab *)ctx)->app, payload, &p);
    if (err != 0) print_message("%s\n", p.text);
    return err;
}

static void journal_with_uploads_is_decided_again_to_the_same(void **state)
{
    struct stage *s = *state;
    struct app_lab fresh;
    struct journal *j;
    struct problem p = PROBLEM_NONE;
    char was[65], is[65];
    struct buf op;
    assert_int_equal(patch(s, 0, 1000), 0);
    assert_int_equal(patch(s, 1000, 600000), 0);
    assert_int_equal(patch(s, 600000, CONTENT_BYTES), 0);
    buf_init(&op, 8 * KIB);
    blobs_upload_put_create(&op, uuid_new(), &(struct upload_new){.length = 5});
    struct span create = buf_span(&op);
    assert_int_equal(run(&s->lab, &create, 1), 0);
    assert_int_equal(run(&s->lab, &create, 1), ERR_EXISTS); // a rejection is decided again, too
    buf_free(&op);
    lab_hash(&s->lab, was);
    app_lab_close(&s->lab);

    app_lab_init(&fresh);
    app_lab_open(&fresh);
    char *path = tmp_path(s->lab.path, "journal");
    assert_int_equal(journal_open(&j, &(struct journal_options){.path = path, .segment_bytes = LAB_SEGMENT, .read_only = true}, redecide_group, &fresh, &p), 0);
    journal_close(j);
    free(path);
    lab_hash(&fresh, is);
    assert_string_equal(is, was);
    app_lab_free(&fresh);
    app_lab_open(&s->lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(answered_offset_outlives_kill, setup, teardown),
        cmocka_unit_test_setup_teardown(progress_that_was_not_journaled_is_not_shown, setup, teardown),
        cmocka_unit_test_setup_teardown(journal_with_uploads_is_decided_again_to_the_same, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
