#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "err.h"
#include "file.h"
#include "tmp.h"

struct fixture {
    char *folder;
    char *path; // of a file in it that is not made yet
};

static int set_up(void **state)
{
    struct fixture *f = malloc(sizeof *f);
    f->folder = tmp_make();
    f->path = tmp_path(f->folder, "file");
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    free(f->path);
    tmp_remove(f->folder);
    free(f);
    return 0;
}

static void what_is_written_at_an_offset_is_read_there(void **state)
{
    struct fixture *f = *state;
    int fd = file_open(f->path, O_RDWR | O_CREAT);
    assert_true(fd >= 0);
    assert_int_equal(file_write(fd, SPAN_LIT("world"), 6), 0);
    assert_int_equal(file_write(fd, SPAN_LIT("hello "), 0), 0);
    assert_int_equal(file_write(fd, SPAN_NONE, 0), 0);
    assert_int_equal(file_sync(fd), 0);
    char text[11];
    assert_int_equal(file_read(fd, text, sizeof text, 0), 0);
    assert_memory_equal(text, "hello world", 11);
    uint64_t size;
    assert_int_equal(file_size(fd, &size), 0);
    assert_int_equal(size, 11);
    file_close(fd);
}

static void a_read_past_the_end_is_corrupt(void **state)
{
    struct fixture *f = *state;
    int fd = file_open(f->path, O_RDWR | O_CREAT);
    assert_int_equal(file_write(fd, SPAN_LIT("abc"), 0), 0);
    char text[4];
    assert_int_equal(file_read(fd, text, 4, 0), ERR_CORRUPT);
    assert_int_equal(file_read(fd, text, 1, 3), ERR_CORRUPT);
    assert_int_equal(file_read(fd, text, 0, 3), 0);
    file_close(fd);
}

static void writev_takes_empty_pieces_and_more_than_the_kernel_does(void **state)
{
    struct fixture *f = *state;
    enum { PIECES = 3000 };
    struct iovec iov[PIECES];
    static const uint8_t digits[] = "0123456789";
    size_t total = 0;
    for (int i = 0; i < PIECES; i++) {
        iov[i] = (struct iovec){(void *)digits, (size_t)(i % 11)}; // every eleventh is empty, the first too
        total += iov[i].iov_len;
    }
    int fd = file_open(f->path, O_RDWR | O_CREAT);
    assert_int_equal(file_writev(fd, iov, PIECES, 5), 0);
    uint64_t size;
    assert_int_equal(file_size(fd, &size), 0);
    assert_int_equal(size, 5 + total);
    uint8_t *back = malloc(total);
    assert_int_equal(file_read(fd, back, total, 5), 0);
    for (size_t i = 0, at = 0; i < PIECES; at += i % 11, i++)
        assert_memory_equal(back + at, digits, i % 11);
    free(back);
    file_close(fd);
}

static void writing_to_a_full_disk_is_no_space(void **state)
{
    (void)state;
    int fd = file_open("/dev/full", O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(file_write(fd, SPAN_LIT("abc"), 0), ERR_NO_SPACE);
    char text[] = "abc";
    struct iovec iov = {text, 3};
    assert_int_equal(file_writev(fd, &iov, 1, 0), ERR_NO_SPACE);
    file_close(fd);
}

static void a_bad_descriptor_is_an_io_error(void **state)
{
    (void)state;
    char c;
    uint64_t size = 42;
    assert_int_equal(file_write(-1, SPAN_LIT("abc"), 0), ERR_IO);
    assert_int_equal(file_read(-1, &c, 1, 0), ERR_IO);
    assert_int_equal(file_sync(-1), ERR_IO);
    assert_int_equal(file_size(-1, &size), ERR_IO);
    assert_int_equal(size, 42);
    file_close(-1);
}

static void open_tells_missing_and_existing_apart(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(file_open(f->path, O_RDONLY), ERR_NOT_FOUND);
    int fd = file_open(f->path, O_WRONLY | O_CREAT | O_EXCL);
    assert_true(fd >= 0);
    assert_int_equal(file_open(f->path, O_WRONLY | O_CREAT | O_EXCL), ERR_EXISTS);
    assert_int_equal(file_open(f->folder, O_WRONLY), ERR_IO);
    file_close(fd);
}

static void files_are_private_and_not_inherited(void **state)
{
    struct fixture *f = *state;
    int fd = file_open(f->path, O_WRONLY | O_CREAT);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_mode & 0777 & ~0600, 0);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    file_close(fd);
}

static bool is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static void dir_make_makes_parents_and_takes_what_exists(void **state)
{
    struct fixture *f = *state;
    char *deep = tmp_path(f->folder, "a/b//c/");
    assert_int_equal(dir_make(deep), 0);
    assert_true(is_dir(deep));
    assert_int_equal(dir_make(deep), 0);
    assert_int_equal(dir_make(f->folder), 0);
    assert_int_equal(dir_make("/"), 0);
    assert_int_equal(dir_make("."), 0);
    free(deep);
}

static void dir_make_works_with_a_relative_path(void **state)
{
    struct fixture *f = *state;
    int here = file_open(".", O_RDONLY | O_DIRECTORY);
    assert_int_equal(chdir(f->folder), 0);
    assert_int_equal(dir_make("x/y"), 0);
    assert_true(is_dir("x/y"));
    assert_int_equal(fchdir(here), 0);
    file_close(here);
}

static void clearing_a_folder_leaves_it_empty_and_follows_no_link(void **state)
{
    struct fixture *f = *state;
    char *deep = tmp_path(f->folder, "x/y/z"), *file = tmp_path(f->folder, "x/y/file"), *link = tmp_path(f->folder, "x/link"), *x = tmp_path(f->folder, "x");
    char *kept = tmp_path(f->folder, "kept");
    atomic_bool stop = true;
    assert_int_equal(dir_make(deep), 0);
    assert_int_equal(dir_make(kept), 0);
    assert_int_equal(file_replace(f->path, SPAN_LIT("beside it")), 0);
    assert_int_equal(file_replace(file, SPAN_LIT("text")), 0);
    assert_int_equal(symlink(kept, link), 0);
    assert_int_equal(dir_clear(x, &stop), ERR_CANCELED);
    assert_int_equal(access(file, F_OK), 0);
    assert_int_equal(dir_clear(x, NULL), 0);
    assert_int_equal(rmdir(x), 0); // it is there, and empty
    assert_int_equal(access(kept, F_OK), 0);
    assert_int_equal(access(f->path, F_OK), 0);
    assert_int_equal(dir_clear(x, NULL), ERR_NOT_FOUND);
    assert_int_equal(dir_clear(f->path, NULL), ERR_IO);
    free(deep), free(file), free(link), free(x), free(kept);
}

static void dir_make_does_not_take_a_file_for_a_folder(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(file_replace(f->path, SPAN_LIT("x")), 0);
    assert_int_equal(dir_make(f->path), ERR_IO);
    char *below = tmp_path(f->path, "below");
    assert_int_equal(dir_make(below), ERR_IO);
    free(below);
}

static void dir_sync_needs_a_folder(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(dir_sync(f->folder), 0);
    assert_int_equal(dir_sync(f->path), ERR_NOT_FOUND);
}

static void replace_leaves_the_new_content_and_no_other_file(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(file_replace(f->path, SPAN_LIT("a long first content")), 0);
    assert_int_equal(file_replace(f->path, SPAN_LIT("second")), 0);
    struct buf b;
    buf_init(&b, 100);
    assert_int_equal(file_slurp(&b, f->path), 0);
    assert_true(span_is(buf_span(&b), "second"));
    buf_free(&b);
    char *tmp = tmp_path(f->folder, "file.tmp");
    assert_int_equal(access(tmp, F_OK), -1);
    free(tmp);
}

static void a_replace_that_fails_leaves_the_old_content(void **state)
{
    struct fixture *f = *state;
    // A folder in the place of the temporary file makes writing it fail; a folder in the place of the file, renaming it.
    assert_int_equal(file_replace(f->path, SPAN_LIT("old")), 0);
    char *tmp = tmp_path(f->folder, "file.tmp");
    assert_int_equal(mkdir(tmp, 0700), 0);
    assert_int_equal(file_replace(f->path, SPAN_LIT("new")), ERR_IO);
    assert_int_equal(rmdir(tmp), 0);
    struct buf b;
    buf_init(&b, 100);
    assert_int_equal(file_slurp(&b, f->path), 0);
    assert_true(span_is(buf_span(&b), "old"));
    buf_free(&b);

    assert_int_equal(unlink(f->path), 0);
    assert_int_equal(mkdir(f->path, 0700), 0);
    assert_int_equal(file_replace(f->path, SPAN_LIT("new")), ERR_IO);
    assert_int_equal(access(tmp, F_OK), -1);
    free(tmp);
}

static void slurp_appends_up_to_the_maximum(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(file_replace(f->path, SPAN_LIT("0123456789")), 0);
    struct buf b;
    buf_init(&b, 13);
    buf_put_str(&b, "abc");
    assert_int_equal(file_slurp(&b, f->path), 0);
    assert_true(span_is(buf_span(&b), "abc0123456789"));
    buf_free(&b);
}

static void slurp_beyond_the_maximum_is_refused_and_leaves_the_buffer(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(file_replace(f->path, SPAN_LIT("0123456789")), 0);
    struct buf b;
    buf_init(&b, 12);
    buf_put_str(&b, "abc");
    assert_int_equal(file_slurp(&b, f->path), ERR_TOO_LARGE);
    assert_true(span_is(buf_span(&b), "abc"));
    buf_free(&b);
}

static void slurp_takes_a_file_larger_than_one_step(void **state)
{
    struct fixture *f = *state;
    struct buf b, back;
    buf_init(&b, 200000);
    for (int i = 0; i < 50000; i++)
        buf_put_u32(&b, (uint32_t)i);
    assert_int_equal(file_replace(f->path, buf_span(&b)), 0);
    buf_init(&back, 200000);
    assert_int_equal(file_slurp(&back, f->path), 0);
    assert_true(span_equal(buf_span(&back), buf_span(&b)));
    buf_free(&b);
    buf_free(&back);
}

static void slurp_of_a_missing_file_is_not_found(void **state)
{
    struct fixture *f = *state;
    struct buf b;
    buf_init(&b, 10);
    assert_int_equal(file_slurp(&b, f->path), ERR_NOT_FOUND);
    assert_int_equal(b.err, 0);
    assert_int_equal(file_slurp(&b, f->folder), ERR_IO);
    buf_free(&b);
}

static void the_monotonic_clock_goes_on(void **state)
{
    (void)state;
    uint64_t before = clock_mono_us();
    usleep(2000);
    assert_true(clock_mono_us() - before >= 2000);
    assert_true(clock_wall_ms() > UINT64_C(1700000000000));
}

static void expect_time(int64_t ms, const char *want)
{
    char text[TIME_TEXT + 1] = "";
    time_format(text, ms);
    assert_string_equal(text, want);
}

static void times_are_rfc_3339(void **state)
{
    (void)state;
    expect_time(0, "1970-01-01T00:00:00.000Z");
    expect_time(-1, "1969-12-31T23:59:59.999Z");
    expect_time(INT64_C(951782400000), "2000-02-29T00:00:00.000Z");
    expect_time(INT64_C(951868799999), "2000-02-29T23:59:59.999Z");
    expect_time(INT64_C(951868800000), "2000-03-01T00:00:00.000Z");
    expect_time(INT64_C(1795341600007), "2026-11-22T10:00:00.007Z");
    expect_time(INT64_C(4107542399000), "2100-02-28T23:59:59.000Z");
    expect_time(INT64_C(4107542400000), "2100-03-01T00:00:00.000Z");
}

static void times_beyond_four_digit_years_are_clamped(void **state)
{
    (void)state;
    expect_time(INT64_MIN, "0000-01-01T00:00:00.000Z");
    expect_time(INT64_MAX, "9999-12-31T23:59:59.999Z");
}

static void times_agree_with_the_c_library(void **state)
{
    (void)state;
    for (int64_t day = -700000; day < 2900000; day += 37) {
        time_t t = (time_t)(day * 86400 + 12345);
        struct tm tm;
        char want[64];
        assert_non_null(gmtime_r(&t, &tm));
        snprintf(want, sizeof want, "%04d-%02d-%02dT%02d:%02d:%02d.678Z", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
                 tm.tm_min, tm.tm_sec);
        expect_time((int64_t)t * 1000 + 678, want);
    }
}

int main(void)
{
#define WITH_FOLDER(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(what_is_written_at_an_offset_is_read_there),
        WITH_FOLDER(a_read_past_the_end_is_corrupt),
        WITH_FOLDER(writev_takes_empty_pieces_and_more_than_the_kernel_does),
        cmocka_unit_test(writing_to_a_full_disk_is_no_space),
        cmocka_unit_test(a_bad_descriptor_is_an_io_error),
        WITH_FOLDER(open_tells_missing_and_existing_apart),
        WITH_FOLDER(files_are_private_and_not_inherited),
        WITH_FOLDER(dir_make_makes_parents_and_takes_what_exists),
        WITH_FOLDER(dir_make_works_with_a_relative_path),
        WITH_FOLDER(dir_make_does_not_take_a_file_for_a_folder),
        WITH_FOLDER(clearing_a_folder_leaves_it_empty_and_follows_no_link),
        WITH_FOLDER(dir_sync_needs_a_folder),
        WITH_FOLDER(replace_leaves_the_new_content_and_no_other_file),
        WITH_FOLDER(a_replace_that_fails_leaves_the_old_content),
        WITH_FOLDER(slurp_appends_up_to_the_maximum),
        WITH_FOLDER(slurp_beyond_the_maximum_is_refused_and_leaves_the_buffer),
        WITH_FOLDER(slurp_takes_a_file_larger_than_one_step),
        WITH_FOLDER(slurp_of_a_missing_file_is_not_found),
        cmocka_unit_test(the_monotonic_clock_goes_on),
        cmocka_unit_test(times_are_rfc_3339),
        cmocka_unit_test(times_beyond_four_digit_years_are_clamped),
        cmocka_unit_test(times_agree_with_the_c_library),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
