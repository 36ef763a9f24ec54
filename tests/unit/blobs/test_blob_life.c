// The life of blobs and of their bytes: references, steps, garbage, damage and its repair.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "blob_lab.h"
#include "blob_store.h"
#include "db.h"
#include "disk.h"
#include "err.h"
#include "pack.h"

#define GRACE_MS 1000

static int setup(void **state)
{
    struct blob_lab *lab = calloc(1, sizeof *lab);
    lab_open(lab);
    lab->now_ms = 100000;
    *state = lab;
    return 0;
}

static int teardown(void **state)
{
    lab_close(*state);
    free(*state);
    return 0;
}

// ---- helpers -----------------------------------------------------------------------------------------------------

// Every step that is due, each as a batch of its own, until there is none.
static size_t run_steps(struct blob_lab *lab)
{
    size_t count = 0;
    for (bool any = true; any;) {
        any = false;
        for (size_t n = 0; n < 8; n++) {
            struct buf step;
            buf_init(&step, 4096);
            if (blobs_step_due(lab->blobs, lab->txn, lab->now_ms, GRACE_MS, n, &step)) {
                assert_int_equal(lab_step(lab, buf_span(&step)), 0);
                any = true;
                count++;
            }
            buf_free(&step);
        }
    }
    return count;
}

static void commit(struct blob_lab *lab)
{
    assert_int_equal(db_commit(lab->txn), 0);
    lab->txn = db_begin_write(lab->db);
    blobs_committed(lab->blobs);
}

// What the service does in the background, for long enough that everything has happened.
static void run_work(struct blob_lab *lab)
{
    const struct blobs_pace pace = {.compact_bytes_s = 1 << 30};
    for (int i = 0; i < 200; i++) {
        lab->now_ms += 1000;
        struct blobs_work *w = blobs_work_plan(lab->blobs, lab->txn, &pace, lab->now_ms);
        if (w != NULL) {
            blobs_work_run(w);
            blobs_work_done(lab->blobs, lab->txn, w);
        }
        blobs_tend(lab->blobs, lab->txn);
        commit(lab);
    }
}

static void assert_sound(struct blob_lab *lab)
{
    uint64_t checked;
    assert_int_equal(blobs_check(lab->blobs, lab->txn, &checked), 0);
}

static void set_pin(struct blob_lab *lab, const struct sha256 *digest, bool pinned)
{
    struct buf step;
    buf_init(&step, 4096);
    blobs_step_put_pin(&step, digest, pinned);
    assert_int_equal(lab_step(lab, buf_span(&step)), 0);
    buf_free(&step);
}

static bool exists(struct blob_lab *lab, const struct sha256 *digest)
{
    struct blob_info info;
    return blobs_find(lab->blobs, lab->txn, digest, &info);
}

static bool has_pack(struct blob_lab *lab, unsigned number)
{
    char *path = lab_pack_path(lab, number);
    bool there = access(path, F_OK) == 0;
    free(path);
    return there;
}

// Where a chunk lies, and a bit of its payload the other way round.
static struct chunk_entry entry_of(struct blob_lab *lab, const struct sha256 *sha)
{
    struct chunk_entry e;
    assert_int_equal(chunk_entry_find(lab->blobs, lab->txn, sha, &e), 0);
    return e;
}

static void flip(struct blob_lab *lab, struct place place)
{
    char *path = lab_pack_path(lab, place.pack);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)(place.position + RECORD_HEAD_BYTES + 5), SEEK_SET), 0);
    int c = fgetc(f);
    assert_int_equal(fseek(f, -1, SEEK_CUR), 0);
    fputc(c ^ 1, f);
    fclose(f);
    free(path);
}

static int read_all(struct blob_lab *lab, const struct sha256 *digest, uint64_t n)
{
    struct buf out;
    buf_init(&out, 64 * MIB);
    int err = lab_read(lab, digest, 0, n, BLOB_WINDOW, &out);
    buf_free(&out);
    return err;
}

// ---- claims ------------------------------------------------------------------------------------------------------

static void blob_without_references_goes_after_its_grace(void **state)
{
    struct blob_lab *lab = *state;
    struct sha256 digest;
    uint8_t *p = random_content(300000, 1);
    assert_int_equal(lab_upload(lab, SPAN(p, 300000), &digest), 0);
    lab->now_ms += GRACE_MS - 1;
    assert_int_equal(run_steps(lab), 0);
    assert_true(exists(lab, &digest));
    lab->now_ms += 1;
    assert_true(run_steps(lab) > 0);
    assert_false(exists(lab, &digest));
    assert_sound(lab);
    struct blobs_usage u = {0};
    assert_int_equal(blobs_usage(lab->blobs, lab->txn, &u), 0);
    assert_true(u.blobs == 0 && u.chunks == 0 && u.stored == 0);
    free(p);
}

static void pinned_blob_stays_until_it_is_let_go(void **state)
{
    struct blob_lab *lab = *state;
    struct sha256 digest;
    assert_int_equal(lab_upload(lab, SPAN_LIT("keep me"), &digest), 0);
    set_pin(lab, &digest, true);
    lab->now_ms += 100 * GRACE_MS;
    assert_int_equal(run_steps(lab), 0);
    set_pin(lab, &digest, false);
    assert_int_equal(run_steps(lab), 0); // its grace begins now
    lab->now_ms += GRACE_MS;
    run_steps(lab);
    assert_false(exists(lab, &digest));
    assert_sound(lab);
}

static void blob_that_a_row_has_named_stays(void **state)
{
    struct blob_lab *lab = *state;
    struct sha256 digest;
    assert_int_equal(lab_upload(lab, SPAN_LIT("linked"), &digest), 0);
    assert_int_equal(lab_link(lab, &digest), 0);
    lab->now_ms += 100 * GRACE_MS;
    assert_int_equal(run_steps(lab), 0);
    assert_true(exists(lab, &digest));
    assert_sound(lab);
}

static void blob_that_came_again_has_its_grace_again(void **state)
{
    struct blob_lab *lab = *state;
    struct sha256 digest;
    assert_int_equal(lab_upload(lab, SPAN_LIT("again"), &digest), 0);
    lab->now_ms += GRACE_MS - 1;
    assert_int_equal(lab_upload(lab, SPAN_LIT("again"), NULL), 0);
    lab->now_ms += GRACE_MS - 1;
    run_steps(lab);
    assert_true(exists(lab, &digest));
    lab->now_ms += 1;
    run_steps(lab);
    assert_false(exists(lab, &digest));
}

static void shared_chunks_outlive_one_of_their_blobs(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 2 * MIB;
    struct sha256 whole, part;
    uint8_t *p = random_content(n, 2);
    assert_int_equal(lab_upload(lab, SPAN(p, n), &whole), 0);
    assert_int_equal(lab_upload(lab, SPAN(p, n / 2), &part), 0);
    set_pin(lab, &part, true);
    lab->now_ms += GRACE_MS;
    run_steps(lab);
    assert_false(exists(lab, &whole));
    assert_true(lab_holds(lab, SPAN(p, n / 2)));
    assert_sound(lab);
    free(p);
}

// A list of many pages is swept a few at a time; what is swept already and what is not yet stay consistent.
static void sweeping_goes_in_steps_and_counts_stay_right(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 48 * MIB;
    struct sha256 digest;
    uint8_t *p = random_content(n, 3);
    assert_int_equal(lab_upload(lab, SPAN(p, n), &digest), 0);
    lab->now_ms += GRACE_MS;
    struct buf step;
    size_t sweeps = 0;
    buf_init(&step, 4096);
    assert_true(blobs_step_due(lab->blobs, lab->txn, lab->now_ms, GRACE_MS, 2, &step));
    assert_int_equal(lab_step(lab, buf_span(&step)), 0);
    assert_false(exists(lab, &digest));
    for (;; sweeps++) {
        assert_sound(lab);
        buf_clear(&step);
        if (!blobs_step_due(lab->blobs, lab->txn, lab->now_ms, GRACE_MS, 0, &step)) break;
        assert_int_equal(lab_step(lab, buf_span(&step)), 0);
    }
    assert_true(sweeps >= 2);
    buf_free(&step);
    free(p);
}

// Who has begun to read a blob reads it to its end, though its time has come.
static void blob_that_goes_is_read_to_its_end(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 8 * MIB;
    struct sha256 digest;
    struct blob_reader *r;
    struct buf out;
    uint8_t *p = random_content(n, 4);
    buf_init(&out, 2 * n);
    assert_int_equal(lab_upload(lab, SPAN(p, n), &digest), 0);
    assert_int_equal(blobs_reader_open(lab->blobs, lab->txn, &digest, 0, n, &r), 0);
    assert_int_equal(blobs_reader_next(r, lab->txn, 64 * KIB), 0);
    lab->now_ms += GRACE_MS;
    assert_int_equal(run_steps(lab), 1);
    assert_false(exists(lab, &digest));
    run_work(lab);
    for (;;) {
        assert_int_equal(blobs_reader_read(r, &out), 0);
        if (blobs_reader_done(r)) break;
        assert_int_equal(blobs_reader_next(r, lab->txn, 64 * KIB), 0);
    }
    blobs_reader_close(r);
    assert_true(span_equal(buf_span(&out), SPAN(p, n)));
    assert_true(run_steps(lab) > 1);
    assert_sound(lab);
    struct db_iter it;
    db_iter_init(&it, lab->txn, lab->blobs->table_chunks);
    assert_false(db_iter_first(&it)); // nothing is left of it
    db_iter_end(&it);
    buf_free(&out);
    free(p);
}

// What an upload under way was told is there stays until it is over.
static void free_chunk_that_an_upload_relies_on_stays(void **state)
{
    struct blob_lab *lab = *state;
    struct blob_upload *u;
    struct sha256 digest;
    assert_int_equal(lab_upload(lab, SPAN_LIT("relied on"), &digest), 0);
    assert_int_equal(blobs_upload_open(lab->blobs, &u), 0);
    assert_int_equal(lab_feed(lab, u, SPAN_LIT("relied on"), true), 0);
    lab->now_ms += GRACE_MS;
    run_steps(lab);
    assert_false(exists(lab, &digest));
    assert_int_equal(lab_commit(lab, u, ""), 0);
    blobs_upload_close(u);
    assert_true(lab_holds(lab, SPAN_LIT("relied on")));
    assert_sound(lab);
}

static void manifest_that_relies_on_a_chunk_that_is_gone_is_refused(void **state)
{
    struct blob_lab *lab = *state;
    struct blob_upload *u;
    struct sha256 digest;
    struct buf manifest;
    uint64_t size;
    assert_int_equal(lab_upload(lab, SPAN_LIT("gone"), NULL), 0);
    assert_int_equal(blobs_upload_open(lab->blobs, &u), 0);
    assert_int_equal(lab_feed(lab, u, SPAN_LIT("gone"), true), 0);
    buf_init(&manifest, 4096);
    blobs_upload_result(u, &digest, &size, &manifest);
    blobs_upload_close(u); // nobody holds the chunk any more
    lab->now_ms += GRACE_MS;
    run_steps(lab);
    assert_int_equal(lab_store(lab, &digest, SPAN_NONE, buf_span(&manifest)), ERR_BAD_VALUE);
    assert_false(exists(lab, &digest));
    buf_free(&manifest);
}

// The step was made before the upload came, and is decided behind it.
static void chunk_that_is_being_forgotten_is_stored_anew(void **state)
{
    struct blob_lab *lab = *state;
    struct blob_upload *u;
    struct buf step;
    buf_init(&step, 4096);
    assert_int_equal(lab_upload(lab, SPAN_LIT("going"), NULL), 0);
    lab->now_ms += GRACE_MS;
    for (size_t n = 2; n != 1; n = n == 2 ? 0 : 1) { // its end and the sweep
        buf_clear(&step);
        assert_true(blobs_step_due(lab->blobs, lab->txn, lab->now_ms, GRACE_MS, n, &step));
        assert_int_equal(lab_step(lab, buf_span(&step)), 0);
    }
    buf_clear(&step);
    assert_true(blobs_step_due(lab->blobs, lab->txn, lab->now_ms, GRACE_MS, 1, &step));
    assert_int_equal(blobs_upload_open(lab->blobs, &u), 0);
    assert_int_equal(lab_feed(lab, u, SPAN_LIT("going"), true), 0);
    assert_int_equal(lab_step(lab, buf_span(&step)), 0);
    assert_int_equal(lab_commit(lab, u, ""), 0);
    blobs_upload_close(u);
    assert_true(lab_holds(lab, SPAN_LIT("going")));
    assert_sound(lab);
    buf_free(&step);
}

static void dropped_and_replaced_uploads_leave_nothing(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 3 * MIB;
    uint8_t *p = random_content(n, 4);
    struct uuid id = uuid_new();
    assert_int_equal(lab_upload_piece(lab, id, SPAN(p, n), 0, n / 2), 0);
    assert_sound(lab);
    struct buf op;
    buf_init(&op, 4096);
    blobs_upload_put_drop(&op, id);
    assert_int_equal(lab_upload_op(lab, buf_span(&op)), 0);
    run_steps(lab);
    assert_sound(lab);
    struct blobs_usage u = {0};
    assert_int_equal(blobs_usage(lab->blobs, lab->txn, &u), 0);
    assert_int_equal(u.chunks, 0);
    buf_free(&op);
    free(p);
}

static void garbage_is_copied_out_of_and_its_file_deleted(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 6 * MIB;
    uint8_t *p = random_content(n, 5), *q = random_content(n / 4, 6);
    assert_int_equal(lab_upload(lab, SPAN(p, n), NULL), 0);
    struct sha256 keep;
    assert_int_equal(lab_upload(lab, SPAN(q, n / 4), &keep), 0);
    set_pin(lab, &keep, true);
    commit(lab);
    lab->now_ms += GRACE_MS;
    run_steps(lab);
    assert_true(has_pack(lab, 1));
    run_work(lab);
    assert_false(has_pack(lab, 1));
    assert_true(blobs_pack_bytes(lab->blobs) < n / 2);
    assert_true(lab_holds(lab, SPAN(q, n / 4)));
    assert_sound(lab);
    lab_reopen(lab);
    assert_true(lab_holds(lab, SPAN(q, n / 4)));
    assert_sound(lab);
    free(p);
    free(q);
}

// The disk is full, or fails, at each write and each barrier of a compaction in turn: nothing is lost, and it is done when there is room again.
static void compaction_that_meets_a_full_disk_is_done_later(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 5 * MIB;
    for (uint32_t nth = 1; nth < 40; nth += 3) {
        uint8_t *p = random_content(n, 100 + nth), *q = random_content(n / 4, 200 + nth);
        struct sha256 keep = sha256_of(SPAN(q, n / 4));
        assert_int_equal(lab_upload(lab, SPAN(p, n), NULL), 0);
        assert_int_equal(lab_upload(lab, SPAN(q, n / 4), NULL), 0);
        set_pin(lab, &keep, true);
        lab->now_ms += GRACE_MS;
        run_steps(lab);
        disk_fail(DISK_WRITE | DISK_SYNC, ".pack", nth, nth % 2 == 0 ? ENOSPC : EIO, 1);
        run_work(lab);
        disk_fail_clear();
        assert_true(lab_holds(lab, SPAN(q, n / 4)));
        assert_sound(lab);
        run_work(lab);
        assert_true(lab_holds(lab, SPAN(q, n / 4)));
        assert_true(blobs_pack_bytes(lab->blobs) < n);
        set_pin(lab, &keep, false);
        lab->now_ms += GRACE_MS;
        run_steps(lab);
        run_work(lab);
        assert_sound(lab);
        free(p);
        free(q);
    }
}

static void file_stays_while_somebody_reads_from_it(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 4 * MIB;
    uint8_t *p = random_content(n, 7);
    assert_int_equal(lab_upload(lab, SPAN(p, n), NULL), 0);
    struct pack *k = packs_get(lab->blobs->packs, 1);
    lab->now_ms += GRACE_MS;
    run_steps(lab);
    run_work(lab);
    assert_true(has_pack(lab, 1));
    pack_unref(k);
    run_work(lab);
    assert_false(has_pack(lab, 1));
    free(p);
}

// Bytes [0, n/2) of an upload and what garbage lies around its tail.
static struct uuid idle_upload(struct blob_lab *lab, struct span content)
{
    struct uuid id = uuid_new();
    uint8_t *garbage = random_content(8 * MIB, 40);
    assert_int_equal(lab_upload(lab, SPAN(garbage, 8 * MIB), NULL), 0);
    assert_int_equal(lab_upload_piece(lab, id, content, 0, content.n / 2), 0);
    lab->now_ms += GRACE_MS;
    run_steps(lab);
    free(garbage);
    return id;
}

static void finish_upload(struct blob_lab *lab, struct uuid id, struct span content)
{
    struct sha256 digest;
    struct blob_upload *u;
    struct buf op;
    buf_init(&op, MIB);
    assert_int_equal(blobs_upload_resume(lab->blobs, lab->txn, id, &u), 0);
    assert_int_equal(blobs_upload_load(u), 0);
    assert_int_equal(lab_feed(lab, u, span_sub(content, content.n / 2, content.n), true), 0);
    blobs_upload_progress(u, &op);
    assert_int_equal(lab_upload_op(lab, buf_span(&op)), 0);
    buf_clear(&op);
    blobs_upload_complete(u, &op, &digest);
    assert_int_equal(lab_upload_op(lab, buf_span(&op)), 0);
    blobs_upload_close(u);
    buf_free(&op);
    assert_true(lab_holds(lab, content));
}

// Its tail is a few KiB: they move, and the rest of the pack is given back although the upload stays for days.
static void idle_uploads_tail_moves_and_its_pack_goes(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 1 * MIB;
    uint8_t *p = random_content(n, 41);
    struct uuid id = idle_upload(lab, SPAN(p, n));
    run_work(lab);
    assert_false(has_pack(lab, 1));
    assert_true(blobs_pack_bytes(lab->blobs) < n);
    assert_sound(lab);
    run_work(lab); // what is left is no garbage: it is not moved again
    assert_true(has_pack(lab, 2));
    lab_reopen(lab);
    assert_sound(lab);
    finish_upload(lab, id, SPAN(p, n));
    assert_sound(lab);
    free(p);
}

// Between the moment when an upload goes on and the moment when its tail is read, the tail moves.
static void tail_that_moves_under_an_upload_is_read_where_it_was(void **state)
{
    struct blob_lab *lab = *state;
    struct blob_upload *u;
    size_t n = 1 * MIB;
    uint8_t *p = random_content(n, 42);
    struct uuid id = idle_upload(lab, SPAN(p, n));
    const struct blobs_pace pace = {.compact_bytes_s = 1 << 30};
    struct blobs_work *w = NULL;
    for (int i = 0; i < 10 && w == NULL; i++)
        w = blobs_work_plan(lab->blobs, lab->txn, &pace, lab->now_ms += 1000);
    assert_non_null(w);
    assert_int_equal(blobs_upload_resume(lab->blobs, lab->txn, id, &u), 0);
    blobs_work_run(w);
    assert_true(blobs_work_done(lab->blobs, lab->txn, w));
    run_work(lab);
    assert_true(has_pack(lab, 1)); // somebody has yet to read it
    assert_int_equal(blobs_upload_load(u), 0);
    blobs_upload_close(u);
    run_work(lab);
    assert_false(has_pack(lab, 1));
    finish_upload(lab, id, SPAN(p, n));
    assert_sound(lab);
    free(p);
}

// A step of a join looks places up, and reads them later.
static void file_stays_while_its_chunks_are_joined(void **state)
{
    struct blob_lab *lab = *state;
    struct span keep = SPAN_LIT("listed");
    struct blob_join *j;
    struct sha256 digest;
    struct buf list;
    size_t n = 4 * MIB;
    uint8_t *p = random_content(n, 8);
    buf_init(&list, BLOB_LISTED_BYTES);
    assert_int_equal(lab_upload(lab, keep, &digest), 0);
    set_pin(lab, &digest, true);
    assert_int_equal(lab_upload(lab, SPAN(p, n), NULL), 0);
    buf_put(&list, digest.b, SHA256_BYTES);
    buf_put_u32(&list, (uint32_t)keep.n);
    assert_int_equal(blobs_join_open_listed(lab->blobs, uuid_new(), keep.n, buf_span(&list), &j), 0);
    assert_int_equal(blobs_join_next(j, lab->txn), 0);
    lab->now_ms += GRACE_MS;
    run_steps(lab);
    run_work(lab);
    assert_true(has_pack(lab, 1));
    assert_int_equal(blobs_join_read(j), 0);
    blobs_join_close(j);
    run_work(lab);
    assert_false(has_pack(lab, 1));
    assert_true(lab_holds(lab, keep));
    assert_sound(lab);
    buf_free(&list);
    free(p);
}

static void damage_is_remembered_and_repaired_by_the_same_bytes(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 1 * MIB;
    struct sha256 digest;
    uint8_t *p = random_content(n, 8);
    assert_int_equal(lab_upload(lab, SPAN(p, n), &digest), 0);
    size_t first = blobs_cut(SPAN(p, n));
    struct sha256 sha = sha256_of(SPAN(p, first));
    flip(lab, entry_of(lab, &sha).place);
    assert_int_equal(read_all(lab, &digest, n), ERR_CORRUPT);
    assert_true(blobs_tend(lab->blobs, lab->txn));
    assert_true(entry_of(lab, &sha).damaged);
    assert_int_equal(read_all(lab, &digest, n), ERR_CORRUPT);
    assert_int_equal(lab_upload(lab, SPAN(p, n), NULL), 0); // one chunk is stored anew
    assert_false(entry_of(lab, &sha).damaged);
    assert_true(lab_holds(lab, SPAN(p, n)));
    assert_sound(lab);
    free(p);
}

static void audit_names_a_flipped_byte_and_who_uses_it(void **state)
{
    struct blob_lab *lab = *state;
    size_t n = 1 * MIB;
    struct sha256 digest;
    struct blobs_audit *a;
    uint8_t *p = random_content(n, 9);
    assert_int_equal(lab_upload(lab, SPAN(p, n), &digest), 0);
    size_t first = blobs_cut(SPAN(p, n));
    struct sha256 sha = sha256_of(SPAN(p, first));
    flip(lab, entry_of(lab, &sha).place);
    for (int round = 0; round < 2; round++) {
        int err;
        const struct blobs_damage *list;
        size_t listed;
        assert_int_equal(blobs_audit_open(lab->blobs, &a), 0);
        while (blobs_audit_plan(a, lab->txn, 100000)) {
            blobs_audit_run(a);
            blobs_audit_done(a, lab->txn, &err);
            assert_int_equal(err, 0);
        }
        assert_int_equal(blobs_audit_damage(a, &list, &listed), round == 0);
        if (round == 0) {
            assert_true(sha256_equal(&list[0].chunk, &sha) && list[0].pack == 1);
            flip(lab, entry_of(lab, &sha).place); // and back: the second round finds it whole
        }
        assert_true(entry_of(lab, &sha).damaged == (round == 0));
        blobs_audit_close(a);
    }
    assert_true(lab_holds(lab, SPAN(p, n)));
    free(p);
}

// What is found damaged while an upload relies on it is not acknowledged as stored: the next try of the same bytes repairs it.
static void upload_that_relies_on_what_is_found_damaged_is_refused(void **state)
{
    struct blob_lab *lab = *state;
    struct span content = SPAN_LIT("found damaged");
    struct sha256 digest, sha = sha256_of(content);
    struct blob_upload *u;
    assert_int_equal(lab_upload(lab, content, &digest), 0);
    assert_int_equal(blobs_upload_open(lab->blobs, &u), 0);
    assert_int_equal(lab_feed(lab, u, content, true), 0);
    flip(lab, entry_of(lab, &sha).place);
    assert_int_equal(read_all(lab, &digest, content.n), ERR_CORRUPT);
    assert_true(blobs_tend(lab->blobs, lab->txn));
    assert_int_equal(lab_commit(lab, u, ""), ERR_BUSY);
    blobs_upload_close(u);
    assert_int_equal(lab_upload(lab, content, NULL), 0);
    assert_false(entry_of(lab, &sha).damaged);
    assert_true(lab_holds(lab, content));
    assert_sound(lab);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(blob_without_references_goes_after_its_grace),
        T(pinned_blob_stays_until_it_is_let_go),
        T(blob_that_a_row_has_named_stays),
        T(blob_that_came_again_has_its_grace_again),
        T(shared_chunks_outlive_one_of_their_blobs),
        T(sweeping_goes_in_steps_and_counts_stay_right),
        T(blob_that_goes_is_read_to_its_end),
        T(free_chunk_that_an_upload_relies_on_stays),
        T(manifest_that_relies_on_a_chunk_that_is_gone_is_refused),
        T(chunk_that_is_being_forgotten_is_stored_anew),
        T(dropped_and_replaced_uploads_leave_nothing),
        T(garbage_is_copied_out_of_and_its_file_deleted),
        T(compaction_that_meets_a_full_disk_is_done_later),
        T(file_stays_while_somebody_reads_from_it),
        T(file_stays_while_its_chunks_are_joined),
        T(idle_uploads_tail_moves_and_its_pack_goes),
        T(tail_that_moves_under_an_upload_is_read_where_it_was),
        T(damage_is_remembered_and_repaired_by_the_same_bytes),
        T(upload_that_relies_on_what_is_found_damaged_is_refused),
        T(audit_names_a_flipped_byte_and_who_uses_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
