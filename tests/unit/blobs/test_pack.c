// Pack files: where records go, what an opening makes of what it finds, descriptors, barriers.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "blob_keys.h"
#include "disk.h"
#include "err.h"
#include "file.h"
#include "log.h"
#include "pack.h"
#include "tmp.h"

struct fixture {
    char *folder;
    char *path;
    struct packs *packs;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->folder = tmp_make();
    f->path = tmp_path(f->folder, "packs");
    log_set_level(LOG_ERROR);
    *state = f;
    return packs_open(&f->packs, f->path, 0);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    packs_close(f->packs);
    free(f->path);
    tmp_remove(f->folder);
    free(f);
    return 0;
}

static void reopen(struct fixture *f)
{
    packs_close(f->packs);
    f->packs = NULL;
    assert_int_equal(packs_open(&f->packs, f->path, 0), 0);
}

static void make_file(struct fixture *f, const char *name, off_t size)
{
    char *path = tmp_path(f->path, name);
    int fd = file_open(path, O_RDWR | O_CREAT);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, size), 0); // sparse
    file_close(fd);
    free(path);
}

// Where the next record of `n` bytes goes.
static void assert_next(struct fixture *f, size_t n, uint32_t number, uint64_t position)
{
    uint64_t at;
    struct pack *k = packs_place(f->packs, n, &at);
    assert_non_null(k);
    assert_int_equal(pack_number(k), number);
    assert_int_equal(at, position);
    pack_unref(k);
}

static int write_text(struct pack *k, const char *text, uint64_t position)
{
    struct iovec iov = {.iov_base = (void *)text, .iov_len = strlen(text)};
    return pack_write(k, &iov, 1, position);
}

static void places_follow_one_another_and_are_never_given_twice(void **state)
{
    struct fixture *f = *state;
    assert_next(f, 64, 1, 0);
    assert_next(f, 8, 1, 64);
    assert_next(f, 128, 1, 72);
    assert_int_equal(packs_bytes(f->packs), 200);
}

static void written_bytes_read_back_in_another_process(void **state)
{
    struct fixture *f = *state;
    uint64_t at;
    char text[9] = "";
    struct pack *k = packs_place(f->packs, 8, &at);
    assert_int_equal(write_text(k, "contents", at), 0);
    assert_int_equal(pack_sync(k), 0);
    pack_unref(k);
    reopen(f);
    k = packs_get(f->packs, 1);
    assert_int_equal(pack_read(k, text, 8, 0), 0);
    assert_string_equal(text, "contents");
    assert_int_equal(pack_read(k, text, 8, 1), ERR_CORRUPT);
    pack_unref(k);
}

static void appending_goes_on_behind_the_end_of_the_last_pack(void **state)
{
    struct fixture *f = *state;
    make_file(f, "0001.pack", 1000);
    make_file(f, "0003.pack", 1001); // with garbage at its end
    make_file(f, "0002.pack", 500);
    reopen(f);
    assert_int_equal(packs_bytes(f->packs), 1000 + 500 + 1008);
    assert_next(f, 64, 3, 1008);
}

static void files_that_are_no_packs_are_left_alone(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"0009.pack.tmp", "notes", "009.pack", "00009.pack", "0000.pack", "99999999999.pack", "x9.pack"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        make_file(f, names[i], 1000);
    reopen(f);
    assert_int_equal(packs_bytes(f->packs), 0);
    assert_next(f, 64, 1, 0);
}

static void full_pack_is_followed_by_the_next(void **state)
{
    struct fixture *f = *state;
    make_file(f, "0004.pack", BLOB_PACK_BYTES - 128);
    reopen(f);
    assert_next(f, 64, 4, BLOB_PACK_BYTES - 128);
    assert_next(f, 64, 4, BLOB_PACK_BYTES - 64);
    assert_next(f, 64, 5, 0);
    assert_next(f, 64, 5, 64);
    assert_int_equal(packs_bytes(f->packs), BLOB_PACK_BYTES + 128);
}

static void pack_number_beyond_four_digits_is_found_again(void **state)
{
    struct fixture *f = *state;
    make_file(f, "12345.pack", 80);
    reopen(f);
    assert_next(f, 8, 12345, 80);
}

static void missing_pack_reads_as_damage_and_is_not_made(void **state)
{
    struct fixture *f = *state;
    char byte;
    struct pack *k = packs_get(f->packs, 7);
    assert_int_equal(pack_read(k, &byte, 1, 0), ERR_CORRUPT);
    pack_unref(k);
    char *path = tmp_path(f->path, "0007.pack");
    assert_int_not_equal(access(path, F_OK), 0);
    free(path);
}

static int open_descriptors(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

static void idle_descriptors_are_bounded(void **state)
{
    struct fixture *f = *state;
    char name[24], byte;
    int before = open_descriptors();
    for (uint32_t i = 1; i <= 3 * PACKS_IDLE_MAX; i++) {
        snprintf(name, sizeof name, "%04u.pack", (unsigned)i);
        make_file(f, name, 8);
        struct pack *k = packs_get(f->packs, i);
        assert_int_equal(pack_read(k, &byte, 1, 0), 0);
        pack_unref(k);
    }
    assert_in_range(open_descriptors() - before, 1, PACKS_IDLE_MAX);
    // One that was closed meanwhile opens again.
    struct pack *k = packs_get(f->packs, 1);
    assert_int_equal(pack_read(k, &byte, 1, 0), 0);
    pack_unref(k);
}

static void failed_barrier_is_never_made_good(void **state)
{
    struct fixture *f = *state;
    uint64_t at;
    struct pack *k = packs_place(f->packs, 8, &at);
    assert_int_equal(write_text(k, "contents", at), 0);

    char *away = tmp_path(f->folder, "away"); // the folder's own barrier fails while it has another name
    assert_int_equal(rename(f->path, away), 0);
    assert_int_equal(pack_sync(k), ERR_IO);
    assert_int_equal(rename(away, f->path), 0);
    free(away);

    assert_true(pack_failed(k));
    assert_int_equal(pack_sync(k), ERR_IO);
    pack_unref(k);
    assert_next(f, 8, 2, 0);
    assert_int_equal(packs_bytes(f->packs), 16);
}

static void barrier_covers_what_was_written_before_it(void **state)
{
    struct fixture *f = *state;
    uint64_t at;
    struct pack *k = packs_place(f->packs, 8, &at);
    assert_int_equal(pack_sync(k), 0); // nothing written: nothing to do, not even a file
    assert_int_equal(write_text(k, "contents", at), 0);
    assert_int_equal(pack_sync(k), 0);
    assert_int_equal(pack_sync(k), 0);
    pack_unref(k);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

// ---- batches ---------------------------------------------------------------------------------------------------

// Takes and writes a batch whose bytes are all `letter`; where it lies.
static uint64_t write_letters(struct fixture *f, size_t n, char letter, struct pack **out)
{
    *out = packs_next(f->packs, n);
    assert_non_null(*out);
    uint64_t at = packs_take(f->packs, n);
    bool many;
    uint8_t *batch = packs_batch_memory(f->packs, &many);
    assert_non_null(batch);
    memset(batch, letter, n);
    assert_int_equal(pack_write_batch(*out, batch, n, at), 0);
    packs_batch_done(f->packs, batch);
    return at;
}

static void assert_letters(struct pack *k, uint64_t at, size_t n, char letter)
{
    char *p = malloc(n);
    assert_int_equal(pack_read(k, p, n, at), 0);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(p[i], letter);
    free(p);
}

static void batch_shares_no_page_with_what_is_not_one(void **state)
{
    struct fixture *f = *state;
    struct pack *k, *small;
    uint64_t position;
    size_t n = PACK_BATCH_MIN + 8;
    small = packs_place(f->packs, 16, &position);
    assert_int_equal(write_text(small, "small and before", position), 0);
    uint64_t at = write_letters(f, n, 'a', &k);
    assert_int_equal(at, PACK_PAGE);
    assert_next(f, 8, 1, PACK_PAGE + PACK_BATCH_MIN + PACK_PAGE);
    assert_int_equal(pack_sync(k), 0);
    assert_letters(k, at, n, 'a');
    assert_letters(k, at + n, PACK_PAGE - 8, 0);
    char text[16];
    assert_int_equal(pack_read(small, text, 16, position), 0);
    assert_memory_equal(text, "small and before", 16);
    pack_unref(small);
    pack_unref(k);
}

static void few_bytes_follow_one_another_without_a_gap(void **state)
{
    struct fixture *f = *state;
    for (uint64_t i = 0; i < 3; i++) {
        struct pack *k = packs_next(f->packs, PACK_BATCH_MIN);
        assert_int_equal(packs_take(f->packs, 24), 24 * i);
        pack_unref(k);
    }
}

static void file_system_without_direct_writes_gets_the_others(void **state)
{
    struct fixture *f = *state;
    struct pack *k;
    size_t n = 2 * PACK_BATCH_MIN;
    disk_fail(DISK_OPEN, f->path, 2, EINVAL, 1); // after the one that makes the file
    uint64_t a = write_letters(f, n, 'a', &k);
    pack_unref(k);
    assert_int_equal(disk_failed(), 1);
    disk_fail_clear();
    uint64_t b = write_letters(f, n, 'b', &k);
    assert_letters(k, a, n, 'a');
    assert_letters(k, b, n, 'b');
    pack_unref(k);
}

static void refused_direct_write_is_made_through_the_cache(void **state)
{
    struct fixture *f = *state;
    struct pack *k;
    size_t n = 2 * PACK_BATCH_MIN;
    disk_fail(DISK_WRITE, f->path, 1, EINVAL, 1);
    uint64_t a = write_letters(f, n, 'a', &k);
    assert_int_equal(disk_failed(), 1);
    disk_fail_clear();
    assert_letters(k, a, n, 'a');
    pack_unref(k);
}

static void batches_beyond_a_few_are_said_to_be_many(void **state)
{
    struct fixture *f = *state;
    uint8_t *batches[6];
    bool many;
    for (size_t i = 0; i < 6; i++) {
        batches[i] = packs_batch_memory(f->packs, &many);
        assert_non_null(batches[i]);
        assert_int_equal(many, i >= 4);
    }
    for (size_t i = 0; i < 6; i++)
        packs_batch_done(f->packs, batches[i]);
    batches[0] = packs_batch_memory(f->packs, &many);
    assert_false(many);
    packs_batch_done(f->packs, batches[0]);
}

struct writer {
    struct pack *pack;
    uint64_t at;
    int err;
};

static void *write_one_record_often(void *arg)
{
    struct writer *w = arg;
    char text[1000];
    memset(text, 'a', sizeof text);
    for (int i = 0; i < 300 && w->err == 0; i++) {
        struct iovec iov = {.iov_base = text, .iov_len = sizeof text};
        w->err = pack_write_again(w->pack, &iov, 1, w->at + 5000);
    }
    return NULL;
}

// Two who write the same bytes to the same place, one past the cache and in whole pages, the other a record amid them.
static void record_written_again_harms_no_neighbour(void **state)
{
    struct fixture *f = *state;
    size_t n = 2 * PACK_BATCH_MIN;
    struct pack *k = packs_next(f->packs, n);
    struct writer w = {.pack = k, .at = packs_take(f->packs, n)};
    bool many;
    uint8_t *batch = packs_batch_memory(f->packs, &many);
    pthread_t thread;
    memset(batch, 'a', n);
    assert_int_equal(pthread_create(&thread, NULL, write_one_record_often, &w), 0);
    for (int i = 0; i < 50; i++)
        assert_int_equal(pack_write_batch(k, batch, n, w.at), 0);
    pthread_join(thread, NULL);
    assert_int_equal(w.err, 0);
    assert_letters(k, w.at, n, 'a');
    packs_batch_done(f->packs, batch);
    pack_unref(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(places_follow_one_another_and_are_never_given_twice),
        T(written_bytes_read_back_in_another_process),
        T(appending_goes_on_behind_the_end_of_the_last_pack),
        T(files_that_are_no_packs_are_left_alone),
        T(full_pack_is_followed_by_the_next),
        T(pack_number_beyond_four_digits_is_found_again),
        T(missing_pack_reads_as_damage_and_is_not_made),
        T(idle_descriptors_are_bounded),
        T(failed_barrier_is_never_made_good),
        T(barrier_covers_what_was_written_before_it),
        T(batch_shares_no_page_with_what_is_not_one),
        T(few_bytes_follow_one_another_without_a_gap),
        T(file_system_without_direct_writes_gets_the_others),
        T(refused_direct_write_is_made_through_the_cache),
        T(batches_beyond_a_few_are_said_to_be_many),
        T(record_written_again_harms_no_neighbour),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
