// Pack files: where records go, what an opening makes of what it finds, descriptors, barriers.
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "blob_keys.h"
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
    return packs_open(&f->packs, f->path);
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
    assert_int_equal(packs_open(&f->packs, f->path), 0);
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
