// Resumable uploads: an offset that was committed keeps its bytes whatever broke behind it, the result is the blob that one
// piece would have made, and nothing but the next step is taken.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "blob_lab.h"
#include "chunk_lanes.h"
#include "db.h"
#include "disk.h"
#include "err.h"
#include "feed.h"
#include "file.h"
#include "upload_keys.h"

static int setup(void **state)
{
    struct blob_lab *lab = calloc(1, sizeof *lab);
    lab_open(lab);
    *state = lab;
    return 0;
}

static int teardown(void **state)
{
    disk_fail_clear();
    lab_close(*state);
    free(*state);
    return 0;
}

// ---- batches of operations ---------------------------------------------------------------------------------------

// Decides and applies these operations, which lie one behind the other, as one batch. An accepted one is published.
static int run_ops(struct blob_lab *lab, const struct span *ops, size_t count)
{
    struct buf request, effects;
    size_t at = 0;
    buf_init(&request, 8 * MIB);
    buf_init(&effects, 64 * KIB);
    for (size_t i = 0; i < count; i++)
        buf_put_span(&request, ops[i]);
    assert_int_equal(request.err, 0);
    struct commit c = {.seq = lab->seq + 1, .arrival_ms = 1000 * (lab->seq + 1), .request = buf_span(&request)};
    struct blobs_batch *d = blobs_decide(lab->blobs, lab->txn, &c);
    int err = 0;
    for (size_t i = 0; i < count && err == 0; i++) {
        struct problem p = PROBLEM_NONE;
        err = blobs_decide_upload(d, SPAN(request.p + at, ops[i].n), &p);
        assert_int_equal(p.err, err);
        at += ops[i].n;
    }
    if (err == 0) blobs_decide_effects(d, &effects);
    blobs_batch_free(d);
    if (err == 0) {
        assert_int_equal(blobs_apply(lab->blobs, lab->txn, &c, buf_span(&effects)), 0);
        lab->seq++;
        blobs_publish(lab->blobs, lab->seq);
    }
    buf_free(&request);
    buf_free(&effects);
    return err;
}

static int run_op(struct blob_lab *lab, struct buf *op)
{
    struct span s = buf_span(op);
    return run_ops(lab, &s, 1);
}

static int create(struct blob_lab *lab, struct uuid id, uint64_t length)
{
    struct upload_new make = {.length = length, .owner = SPAN_LIT("\1me"), .metadata = SPAN_LIT("filename d29ybGQ="), .type = SPAN_LIT("image/png")};
    struct buf op;
    buf_init(&op, 8 * KIB);
    blobs_upload_put_create(&op, id, &make);
    int err = run_op(lab, &op);
    buf_free(&op);
    return err;
}

static int drop(struct blob_lab *lab, struct uuid id)
{
    struct buf op;
    buf_init(&op, 8 * KIB);
    blobs_upload_put_drop(&op, id);
    int err = run_op(lab, &op);
    buf_free(&op);
    return err;
}

static uint64_t offset_of(struct blob_lab *lab, struct uuid id)
{
    struct upload_info info;
    assert_true(blobs_upload_find(lab->blobs, lab->txn, id, &info));
    return info.offset;
}

static struct blob_upload *take_up(struct blob_lab *lab, struct uuid id)
{
    struct blob_upload *u;
    assert_int_equal(blobs_upload_resume(lab->blobs, lab->txn, id, &u), 0);
    assert_int_equal(blobs_upload_load(u), 0);
    return u;
}

// A window that ends in a pause, up to its barrier.
static int pause_at(struct blob_lab *lab, struct blob_upload *u, struct span data)
{
    blobs_upload_pause(u);
    int err = lab_feed(lab, u, data, false);
    return err == 0 ? blobs_upload_sync(u) : err;
}

static int commit_pause(struct blob_lab *lab, struct blob_upload *u)
{
    struct buf op;
    buf_init(&op, 8 * MIB);
    blobs_upload_progress(u, &op);
    int err = op.n > 0 ? run_op(lab, &op) : 0;
    if (err == 0) blobs_upload_kept(u);
    buf_free(&op);
    return err;
}

static int commit_last(struct blob_lab *lab, struct blob_upload *u, struct sha256 *digest)
{
    struct buf a, b;
    buf_init(&a, 8 * MIB);
    buf_init(&b, 8 * KIB);
    blobs_upload_progress(u, &a);
    blobs_upload_complete(u, &b, digest);
    const struct span ops[] = {buf_span(&a), buf_span(&b)};
    int err = run_ops(lab, ops, 2);
    buf_free(&a);
    buf_free(&b);
    return err;
}

// One request: these bytes in windows, and then a pause, or the end.
static void patch(struct blob_lab *lab, struct uuid id, struct span content, size_t from, size_t to)
{
    struct blob_upload *u = take_up(lab, id);
    struct sha256 digest;
    for (size_t at = from;;) {
        struct span data = SPAN(content.p + at, to - at < BLOB_WINDOW ? to - at : BLOB_WINDOW);
        at += data.n;
        if (at < to) {
            assert_int_equal(lab_feed(lab, u, data, false), 0);
        } else if (to < content.n) {
            assert_int_equal(pause_at(lab, u, data), 0);
            assert_int_equal(commit_pause(lab, u), 0);
            break;
        } else {
            assert_int_equal(lab_feed(lab, u, data, true), 0);
            assert_int_equal(commit_last(lab, u, &digest), 0);
            break;
        }
    }
    blobs_upload_close(u);
}

static void check(struct blob_lab *lab)
{
    uint64_t checked;
    assert_int_equal(blobs_check(lab->blobs, lab->txn, &checked), 0);
}

// ---- one result --------------------------------------------------------------------------------------------------

static void pieces_make_the_blob_that_one_piece_makes(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 3 * MIB + 12345;
    uint8_t *p = random_content(n, 1);
    struct span content = SPAN(p, n);
    struct uuid id = uuid_new();
    struct upload_info info;
    struct sha256 digest = sha256_of(content);
    assert_int_equal(create(lab, id, n), 0);
    static const size_t ends[] = {1, 2, 100000, 100001, 262144, 1500000, 3 * MIB + 12344, 3 * MIB + 12345};
    for (size_t i = 0, at = 0; i < sizeof ends / sizeof *ends; at = ends[i++]) {
        patch(lab, id, content, at, ends[i]);
        assert_int_equal(offset_of(lab, id), ends[i]);
        check(lab);
        if (i % 2 == 0) lab_reopen(lab);
    }
    assert_true(blobs_upload_find(lab->blobs, lab->txn, id, &info));
    assert_int_equal(info.state, UPLOAD_DONE);
    assert_true(sha256_equal(&info.digest, &digest));
    assert_true(lab_holds(lab, content));
    struct blob_info blob;
    assert_true(blobs_find(lab->blobs, lab->txn, &digest, &blob));
    assert_string_equal(blob.type, "image/png");
    // The chunks are those of the published rule: the same content in one piece stores nothing.
    uint64_t bytes = blobs_pack_bytes(lab->blobs);
    assert_int_equal(lab_upload(lab, content, NULL), 0);
    assert_int_equal(blobs_pack_bytes(lab->blobs), bytes);
    free(p);
}

static void metadata_and_times_are_kept(void **state)
{
    struct blob_lab *lab = *state;
    struct uuid id = uuid_new();
    struct upload_info info;
    assert_int_equal(create(lab, id, 10), 0);
    patch(lab, id, SPAN("0123456789", 10), 0, 4);
    lab_reopen(lab);
    assert_true(blobs_upload_find(lab->blobs, lab->txn, id, &info));
    assert_int_equal(info.state, UPLOAD_OPEN);
    assert_int_equal(info.made.length, 10);
    assert_int_equal(info.offset, 4);
    assert_true(span_is(info.made.metadata, "filename d29ybGQ="));
    assert_true(span_is(info.made.owner, "\1me"));
    assert_int_equal(info.created_seq, 1);
    assert_int_equal(info.changed_seq, 2);
    assert_int_equal(info.created_ms, 1000);
    assert_int_equal(info.changed_ms, 2000);
}

static void upload_of_a_stored_blob_completes_without_storing_it_again(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 700 * KIB;
    uint8_t *p = random_content(n, 2);
    struct uuid id = uuid_new();
    assert_int_equal(lab_upload(lab, SPAN(p, n), NULL), 0);
    uint64_t bytes = blobs_pack_bytes(lab->blobs);
    assert_int_equal(create(lab, id, n), 0);
    patch(lab, id, SPAN(p, n), 0, n);
    assert_int_equal(blobs_pack_bytes(lab->blobs), bytes);
    assert_true(lab_holds(lab, SPAN(p, n)));
    check(lab);
    free(p);
}

static void chunks_of_an_unfinished_upload_are_shared(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 2 * MIB;
    uint8_t *p = random_content(n, 3);
    struct uuid a = uuid_new(), b = uuid_new();
    assert_int_equal(create(lab, a, n), 0);
    assert_int_equal(create(lab, b, n), 0);
    patch(lab, a, SPAN(p, n), 0, n - 1);
    uint64_t bytes = blobs_pack_bytes(lab->blobs);
    patch(lab, b, SPAN(p, n), 0, n - 1);
    assert_in_range(blobs_pack_bytes(lab->blobs) - bytes, 0, BLOB_CHUNK_MAX + KIB); // its tail alone
    // One that is dropped takes nothing away from the other.
    assert_int_equal(drop(lab, a), 0);
    patch(lab, b, SPAN(p, n), n - 1, n);
    assert_true(lab_holds(lab, SPAN(p, n)));
    check(lab);
    free(p);
}

static void upload_of_nothing_is_complete_at_once(void **state)
{
    struct blob_lab *lab = *state;
    struct uuid id = uuid_new();
    struct sha256 nothing = sha256_of(SPAN_NONE);
    struct upload_info info;
    struct buf op;
    assert_int_equal(create(lab, id, 0), 0);
    buf_init(&op, 8 * KIB);
    blobs_upload_put_complete(&op, id, &nothing);
    assert_int_equal(run_op(lab, &op), 0);
    assert_true(blobs_upload_find(lab->blobs, lab->txn, id, &info));
    assert_int_equal(info.state, UPLOAD_DONE);
    assert_true(lab_holds(lab, SPAN_NONE));
    assert_int_equal(run_op(lab, &op), ERR_UPLOAD_OFFSET);
    buf_free(&op);
}

// ---- what is not the next step ------------------------------------------------------------------------------------

static void steps_that_are_not_the_next_are_refused(void **state)
{
    struct blob_lab *lab = *state;
    struct uuid id = uuid_new(), other = uuid_new();
    struct blob_upload *u;
    struct buf op;
    uint8_t *p = random_content(200000, 4);
    buf_init(&op, 1 * MIB);
    assert_int_equal(blobs_upload_resume(lab->blobs, lab->txn, id, &u), ERR_NO_SUCH_UPLOAD);
    assert_int_equal(drop(lab, id), ERR_NO_SUCH_UPLOAD);
    assert_int_equal(create(lab, id, 200000), 0);
    assert_int_equal(create(lab, id, 200000), ERR_EXISTS);
    assert_int_equal(create(lab, other, BLOB_BYTES_MAX + 1), ERR_BAD_VALUE);

    // The same progress twice.
    u = take_up(lab, id);
    assert_int_equal(pause_at(lab, u, SPAN(p, 150000)), 0);
    blobs_upload_progress(u, &op);
    assert_int_equal(run_op(lab, &op), 0);
    assert_int_equal(run_op(lab, &op), ERR_UPLOAD_OFFSET);
    blobs_upload_close(u);
    assert_int_equal(offset_of(lab, id), 150000);

    // More than the whole; and too early an end.
    u = take_up(lab, id);
    assert_int_equal(pause_at(lab, u, SPAN(p, 50001)), 0);
    buf_clear(&op);
    blobs_upload_progress(u, &op);
    assert_int_equal(run_op(lab, &op), ERR_TOO_LARGE);
    blobs_upload_close(u);
    struct sha256 any = {{1}};
    buf_clear(&op);
    blobs_upload_put_complete(&op, id, &any);
    assert_int_equal(run_op(lab, &op), ERR_UPLOAD_OFFSET);
    assert_int_equal(offset_of(lab, id), 150000);

    // A last chunk that is short, in the middle.
    u = take_up(lab, id);
    assert_int_equal(lab_feed(lab, u, SPAN(p, 1000), true), 0);
    buf_clear(&op);
    blobs_upload_progress(u, &op);
    assert_int_equal(run_op(lab, &op), ERR_BAD_VALUE);
    blobs_upload_close(u);

    patch(lab, id, SPAN(p, 200000), 150000, 200000);
    assert_int_equal(blobs_upload_resume(lab->blobs, lab->txn, id, &u), ERR_EXISTS);
    assert_true(lab_holds(lab, SPAN(p, 200000)));
    buf_free(&op);
    free(p);
}

static void dropped_upload_leaves_no_record(void **state)
{
    struct blob_lab *lab = *state;
    struct uuid id = uuid_new(), done = uuid_new();
    struct upload_info info;
    struct db_iter it;
    uint8_t *p = random_content(1 * MIB, 5);
    assert_int_equal(create(lab, id, 1 * MIB), 0);
    for (size_t at = 0; at < 900000; at += 100000)
        patch(lab, id, SPAN(p, 1 * MIB), at, at + 100000);
    assert_int_equal(create(lab, done, 5), 0);
    assert_int_equal(blobs_uploads_open(lab->blobs, lab->txn, false), 2);
    patch(lab, done, SPAN("hello", 5), 0, 5);
    assert_int_equal(blobs_uploads_open(lab->blobs, lab->txn, false), 1);
    assert_int_equal(drop(lab, id), 0);
    assert_int_equal(blobs_uploads_open(lab->blobs, lab->txn, false), 0);
    assert_int_equal(drop(lab, done), 0);
    assert_int_equal(blobs_uploads_open(lab->blobs, lab->txn, false), 0);
    assert_false(blobs_upload_find(lab->blobs, lab->txn, id, &info));
    assert_true(lab_holds(lab, SPAN("hello", 5))); // the blob stays
    size_t keys = 0;
    db_iter_init(&it, lab->txn, 2);
    for (bool more = db_iter_first(&it); more; more = db_iter_next(&it))
        keys++;
    db_iter_end(&it);
    assert_int_equal(keys, 1); // the count
    free(p);
}

static void operations_that_make_no_sense_are_refused(void **state)
{
    struct blob_lab *lab = *state;
    struct uuid id = uuid_new();
    struct buf op;
    struct upload_op read;
    struct manifest m;
    buf_init(&op, 8 * KIB);
    blobs_upload_put_drop(&op, id);
    for (size_t n = 0; n < op.n; n++)
        assert_int_equal(upload_op_decode(SPAN(op.p, n), &read, &m), ERR_BAD_VALUE);
    buf_put_u8(&op, 0);
    assert_int_equal(run_op(lab, &op), ERR_BAD_VALUE); // something trails
    buf_clear(&op);
    blobs_upload_put_create(&op, id, &(struct upload_new){.length = 1, .metadata = SPAN_LIT("a\nb")});
    assert_int_equal(run_op(lab, &op), ERR_BAD_VALUE);
    buf_clear(&op);
    upload_op_encode(&op, &(struct upload_op){.kind = (enum upload_op_kind)9, .id = id});
    assert_int_equal(run_op(lab, &op), ERR_BAD_VALUE);
    buf_free(&op);
}

static void effects_of_a_damaged_journal_are_corrupt(void **state)
{
    struct blob_lab *lab = *state;
    struct buf op, effects;
    buf_init(&op, 8 * KIB);
    buf_init(&effects, 8 * KIB);
    blobs_upload_put_drop(&op, uuid_new());
    static const uint64_t places[][2] = {{0, 0}, {0, 17}, {1, 18}, {UINT64_MAX, 18}, {0, UINT64_MAX}, {0, 18}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        buf_clear(&effects);
        blob_effects_begin(&effects, 0);
        buf_put_varint(&effects, 1);
        buf_put_varint(&effects, places[i][0]);
        buf_put_varint(&effects, places[i][1]);
        struct commit c = {.seq = 1, .request = buf_span(&op)};
        assert_int_equal(blobs_apply(lab->blobs, lab->txn, &c, buf_span(&effects)), ERR_CORRUPT); // the last one: no such upload
    }
    buf_free(&op);
    buf_free(&effects);
}

// ---- breaks ------------------------------------------------------------------------------------------------------

static void failed_barrier_moves_no_offset(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 1 * MIB;
    uint8_t *p = random_content(n, 6);
    struct uuid id = uuid_new();
    assert_int_equal(create(lab, id, n), 0);
    patch(lab, id, SPAN(p, n), 0, 300000);
    static const unsigned faults[] = {DISK_WRITE, DISK_SYNC};
    for (size_t i = 0; i < 2; i++) {
        struct blob_upload *u = take_up(lab, id);
        disk_fail(faults[i], ".pack", 1, EIO, 1);
        assert_int_equal(pause_at(lab, u, SPAN(p + 300000, 200000)), ERR_IO);
        assert_int_equal(disk_failed(), 1);
        disk_fail_clear();
        assert_int_equal(blobs_upload_write(u), ERR_IO); // sticky
        blobs_upload_close(u);
        assert_int_equal(offset_of(lab, id), 300000);
    }
    patch(lab, id, SPAN(p, n), 300000, n);
    assert_true(lab_holds(lab, SPAN(p, n)));
    check(lab);
    free(p);
}

static void damaged_tail_is_found_before_a_byte_is_added(void **state)
{
    struct blob_lab *lab = *state;
    struct uuid id = uuid_new();
    struct blob_upload *u;
    uint64_t checked;
    uint8_t *p = random_content(5000, 7);
    assert_int_equal(create(lab, id, 10000), 0);
    patch(lab, id, SPAN(p, 10000 / 2), 0, 0 + 4000);
    char *path = lab_pack_path(lab, 1);
    int fd = file_open(path, 2);
    assert_true(fd >= 0);
    assert_int_equal(file_write(fd, SPAN("x", 1), RECORD_HEAD_BYTES + 5), 0);
    file_close(fd);
    free(path);
    assert_int_equal(blobs_upload_resume(lab->blobs, lab->txn, id, &u), 0);
    assert_int_equal(blobs_upload_load(u), ERR_CORRUPT);
    blobs_upload_close(u);
    assert_int_equal(blobs_check(lab->blobs, lab->txn, &checked), ERR_CORRUPT);
    free(p);
}

static uint64_t next(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407); // Knuth's MMIX
    return *seed >> 33;
}

// An upload that breaks at random places, in all the ways there are, against a model of what was committed.
static void model_one(struct blob_lab *lab, uint64_t seed, bool text)
{
    size_t n = 1 + next(&seed) % (3 * MIB), kept = 0;
    uint8_t *p = text ? text_content(n, seed) : random_content(n, seed);
    struct uuid id = uuid_new();
    bool done = false;
    assert_int_equal(create(lab, id, n), 0);
    while (!done) {
        assert_int_equal(offset_of(lab, id), kept);
        struct blob_upload *u = take_up(lab, id);
        size_t at = kept;
        for (unsigned windows = (unsigned)(next(&seed) % 4);; windows--) {
            size_t want = next(&seed) % 3 == 0 ? next(&seed) % 100 : next(&seed) % BLOB_WINDOW;
            if (want > n - at) want = n - at;
            struct span data = SPAN(p + at, want);
            at += want;
            unsigned how = (unsigned)(next(&seed) % 8);
            if (at == n && how > 1) {
                struct sha256 digest, expected = sha256_of(SPAN(p, n));
                assert_int_equal(lab_feed(lab, u, data, true), 0);
                assert_int_equal(commit_last(lab, u, &digest), 0);
                assert_true(sha256_equal(&digest, &expected));
                done = true;
                break;
            }
            if (how == 0 || windows == 0) break; // the request breaks: what came since the last pause is gone
            if (how == 1 || at == n) {           // the disk breaks
                disk_fail(next(&seed) % 2 == 0 ? DISK_WRITE : DISK_SYNC, ".pack", 1, ENOSPC, 1);
                int err = pause_at(lab, u, data);
                uint32_t failed = disk_failed();
                disk_fail_clear();
                if (failed > 0) assert_int_equal(err, ERR_NO_SPACE);
                break;
            }
            if (how < 5) {
                assert_int_equal(pause_at(lab, u, data), 0);
                assert_int_equal(commit_pause(lab, u), 0);
                kept = at;
            } else {
                assert_int_equal(lab_feed(lab, u, data, false), 0);
            }
        }
        blobs_upload_close(u);
        if (next(&seed) % 3 == 0) lab_reopen(lab);
        if (next(&seed) % 8 == 0) check(lab);
    }
    assert_true(lab_holds(lab, SPAN(p, n)));
    free(p);
}

static void random_breaks_never_lose_what_was_committed(void **state)
{
    struct blob_lab *lab = *state;
    for (uint64_t seed = 1; seed <= 12; seed++)
        model_one(lab, seed, seed % 3 == 0);
    check(lab);
    assert_int_equal(blobs_uploads_open(lab->blobs, lab->txn, false), 0);
}

// ---- the feed ----------------------------------------------------------------------------------------------------

struct reader {
    struct feed_sink sink; // first
    struct buf text;       // what was emitted, a line each
};

static int take(struct feed_sink *sink, struct bytes *value)
{
    struct reader *r = (struct reader *)sink;
    buf_put_span(&r->text, bytes_span(value));
    buf_put_u8(&r->text, '\n');
    return 0;
}

static void assert_emits(struct reader *r, struct feed_sub *sub, uint64_t from, uint64_t to, const char *expected)
{
    buf_clear(&r->text);
    assert_int_equal(sub->feed->ops->changes(sub, NULL, from, to, &r->sink), 0);
    buf_put_u8(&r->text, 0);
    assert_string_equal((char *)r->text.p, expected);
}

static void feed_tells_the_newest_state_of_each_range(void **state)
{
    struct blob_lab *lab = *state;
    struct uuid id = uuid_new();
    struct feed_sub *sub, *late;
    struct reader r = {.sink = {.emit = take}};
    bool done = false;
    char last[160], hex[SHA256_HEX + 1] = {0};
    struct sha256 digest = sha256_of(SPAN("0123456789", 10));
    hex_format(hex, SPAN(digest.b, SHA256_BYTES));
    snprintf(last, sizeof last, "{\"done\":true,\"blob\":\"%s\"}\n", hex);
    buf_init(&r.text, 64 * KIB);

    assert_int_equal(create(lab, id, 10), 0); // seq 1
    patch(lab, id, SPAN("0123456789", 10), 0, 2);
    assert_int_equal(blobs_attach_upload(lab->blobs, lab->txn, id, false, &sub), 0);
    patch(lab, id, SPAN("0123456789", 10), 2, 5); // 3
    patch(lab, id, SPAN("0123456789", 10), 5, 6); // 4
    assert_int_equal(sub->changed, 4);

    // The snapshot is of its seq, though newer states are there.
    assert_int_equal(sub->feed->ops->snapshot(sub, NULL, 2, 1000, &r.sink, &done), 0);
    assert_true(done);
    buf_put_u8(&r.text, 0);
    assert_string_equal((char *)r.text.p, "{\"offset\":2,\"length\":10}\n");
    assert_emits(&r, sub, 2, 3, "{\"offset\":5,\"length\":10}\n");
    assert_emits(&r, sub, 2, 4, "{\"offset\":6,\"length\":10}\n");
    assert_emits(&r, sub, 4, 4, "");

    patch(lab, id, SPAN("0123456789", 10), 6, 10); // 5
    assert_emits(&r, sub, 3, 4, "{\"offset\":6,\"length\":10}\n");
    assert_emits(&r, sub, 4, 5, last);
    assert_int_equal(drop(lab, id), 0); // 6
    assert_emits(&r, sub, 4, 5, last);
    assert_emits(&r, sub, 5, 6, "{\"deleted\":true}\n");

    // Who resumes is told that it is gone; who begins is told nothing.
    sub->feed->ops->detach(sub);
    assert_int_equal(blobs_attach_upload(lab->blobs, lab->txn, id, true, &late), 0);
    assert_emits(&r, late, 4, 6, "{\"deleted\":true}\n");
    assert_emits(&r, late, 6, 7, "");
    late->feed->ops->detach(late);
    assert_int_equal(blobs_attach_upload(lab->blobs, lab->txn, id, false, &late), 0);
    assert_emits(&r, late, 6, 7, "");
    late->feed->ops->detach(late);
    buf_free(&r.text);
}

// What one reader of a feed is told of a range is given to others at its place: it must be what they would be told.
static void readers_at_one_place_are_told_the_same(void **state)
{
    struct blob_lab *lab = *state;
    struct uuid id = uuid_new();
    struct feed_sub *subs[3];
    struct reader r[3];
    uint8_t *p = random_content(100, 9);
    for (int i = 0; i < 3; i++) {
        r[i] = (struct reader){.sink = {.emit = take}};
        buf_init(&r[i].text, 64 * KIB);
    }
    assert_int_equal(blobs_attach_upload(lab->blobs, lab->txn, id, false, &subs[0]), 0); // before there is one
    assert_int_equal(create(lab, id, 100), 0);
    for (size_t at = 0; at < 40; at++)
        patch(lab, id, SPAN(p, 100), at, at + 1);
    assert_int_equal(blobs_attach_upload(lab->blobs, lab->txn, id, true, &subs[1]), 0); // one that resumes
    for (size_t at = 40; at < 90; at++)
        patch(lab, id, SPAN(p, 100), at, at + 1);
    assert_int_equal(blobs_attach_upload(lab->blobs, lab->txn, id, false, &subs[2]), 0); // and one that begins late
    assert_int_equal(drop(lab, id), 0);
    for (uint64_t from = 0; from < lab->seq; from++) {
        for (uint64_t to = from + 1; to <= lab->seq; to++) {
            for (int i = 0; i < 3; i++) {
                buf_clear(&r[i].text);
                assert_int_equal(subs[i]->feed->ops->changes(subs[i], NULL, from, to, &r[i].sink), 0);
            }
            for (int i = 1; i < 3; i++)
                assert_true(span_equal(buf_span(&r[i].text), buf_span(&r[0].text)));
        }
    }
    for (int i = 0; i < 3; i++) {
        subs[i]->feed->ops->detach(subs[i]);
        buf_free(&r[i].text);
    }
    free(p);
}

static void reader_far_behind_gets_the_newest_state_at_last(void **state)
{
    struct blob_lab *lab = *state;
    struct uuid id = uuid_new();
    struct feed_sub *sub;
    struct reader r = {.sink = {.emit = take}};
    uint8_t *p = random_content(300, 8);
    buf_init(&r.text, 64 * KIB);
    assert_int_equal(create(lab, id, 300), 0);
    assert_int_equal(blobs_attach_upload(lab->blobs, lab->txn, id, false, &sub), 0);
    for (size_t at = 0; at < 200; at++)
        patch(lab, id, SPAN(p, 300), at, at + 1); // seq at + 2
    assert_emits(&r, sub, 1, 50, "");
    assert_emits(&r, sub, 50, 201, "{\"offset\":200,\"length\":300}\n");
    assert_emits(&r, sub, 190, 195, "{\"offset\":194,\"length\":300}\n");
    sub->feed->ops->detach(sub);
    buf_free(&r.text);
    free(p);
}

// Nobody goes on with the body of one request: what lies behind the last cut is not written before it is a chunk.
static void upload_of_one_request_writes_no_byte_twice(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 4 * BLOB_WINDOW + 12345;
    uint8_t *content = random_content(n, 77);
    struct sha256 digest, whole = sha256_of(SPAN(content, n));
    struct uuid id = uuid_new();
    struct upload_new make = {.kind = UPLOAD_ONCE, .length = n};
    struct upload_info info;
    struct blob_upload *u;
    struct buf op;
    uint64_t before = blobs_pack_bytes(lab->blobs), checked;
    buf_init(&op, MIB);
    assert_int_equal(blobs_upload_open(lab->blobs, &u), 0);
    blobs_upload_adopt_once(u, id);
    blobs_upload_put_create(&op, id, &make);
    assert_int_equal(lab_upload_op(lab, buf_span(&op)), 0);
    for (size_t at = 0; at < n; at += BLOB_WINDOW) {
        bool last = at + BLOB_WINDOW >= n;
        if (!last) blobs_upload_pause(u);
        assert_int_equal(lab_feed(lab, u, span_sub(SPAN(content, n), at, BLOB_WINDOW), last), 0);
        if (!last) assert_int_equal(blobs_upload_sync(u), 0);
        buf_clear(&op);
        blobs_upload_progress(u, &op);
        assert_int_equal(op.err, 0);
        assert_int_equal(lab_upload_op(lab, buf_span(&op)), 0);
        assert_true(blobs_upload_find(lab->blobs, lab->txn, id, &info));
        if (last) assert_int_equal(info.offset, n);
        else if (chunk_lanes_fast()) assert_in_range(info.offset, at + BLOB_WINDOW - BLOB_CHUNK_MAX + 1, at + BLOB_WINDOW);
        if (last) continue;
        blobs_upload_kept(u);
        assert_int_equal(blobs_check(lab->blobs, lab->txn, &checked), 0);
    }
    buf_clear(&op);
    blobs_upload_complete(u, &op, &digest);
    assert_int_equal(lab_upload_op(lab, buf_span(&op)), 0);
    blobs_upload_close(u);
    assert_true(sha256_equal(&digest, &whole));
    assert_true(lab_holds(lab, SPAN(content, n)));
    // Heads of records, and whole pages for those of a window.
    if (chunk_lanes_fast()) assert_in_range(blobs_pack_bytes(lab->blobs) - before, n, n + 5 * 3 * 4096 + 100 * 64);
    buf_free(&op);
    free(content);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pieces_make_the_blob_that_one_piece_makes, setup, teardown),
        cmocka_unit_test_setup_teardown(upload_of_one_request_writes_no_byte_twice, setup, teardown),
        cmocka_unit_test_setup_teardown(metadata_and_times_are_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(upload_of_a_stored_blob_completes_without_storing_it_again, setup, teardown),
        cmocka_unit_test_setup_teardown(chunks_of_an_unfinished_upload_are_shared, setup, teardown),
        cmocka_unit_test_setup_teardown(upload_of_nothing_is_complete_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(steps_that_are_not_the_next_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(dropped_upload_leaves_no_record, setup, teardown),
        cmocka_unit_test_setup_teardown(operations_that_make_no_sense_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(effects_of_a_damaged_journal_are_corrupt, setup, teardown),
        cmocka_unit_test_setup_teardown(failed_barrier_moves_no_offset, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged_tail_is_found_before_a_byte_is_added, setup, teardown),
        cmocka_unit_test_setup_teardown(random_breaks_never_lose_what_was_committed, setup, teardown),
        cmocka_unit_test_setup_teardown(feed_tells_the_newest_state_of_each_range, setup, teardown),
        cmocka_unit_test_setup_teardown(readers_at_one_place_are_told_the_same, setup, teardown),
        cmocka_unit_test_setup_teardown(reader_far_behind_gets_the_newest_state_at_last, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
