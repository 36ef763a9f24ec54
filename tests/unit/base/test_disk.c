#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "disk.h"
#include "file.h"
#include "tmp.h"

struct fix {
    char *folder;
    char *path;
};

static int setup(void **state)
{
    struct fix *f = calloc(1, sizeof *f);
    f->folder = tmp_make();
    f->path = tmp_path(f->folder, "file");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fix *f = *state;
    disk_fail_clear();
    disk_record_stop();
    free(f->path);
    tmp_remove(f->folder);
    free(f);
    return 0;
}

static void the_nth_matching_call_fails_and_no_other(void **state)
{
    struct fix *f = *state;
    int fd = open(f->path, O_RDWR | O_CREAT, 0600), null = open("/dev/null", O_WRONLY);
    disk_fail(DISK_WRITE, "file", 2, ENOSPC, 2);
    assert_int_equal(write(null, "x", 1), 1); // another path
    assert_int_equal(pwrite(fd, "a", 1, 0), 1);
    assert_int_equal(fsync(fd), 0); // another kind
    assert_int_equal(disk_failed(), 0);
    assert_int_equal(write(fd, "b", 1), -1);
    assert_int_equal(errno, ENOSPC);
    assert_int_equal(pwrite(fd, "b", 1, 0), -1);
    assert_int_equal(pwrite(fd, "c", 1, 0), 1);
    assert_int_equal(disk_failed(), 2);
    assert_int_equal(disk_calls(), 4);
    char c;
    assert_int_equal(pread(fd, &c, 1, 0), 1);
    assert_int_equal(c, 'c');
    close(fd);
    close(null);
}

static void each_kind_of_call_can_fail(void **state)
{
    struct fix *f = *state;
    char *other = tmp_path(f->folder, "other");
    int fd = open(f->path, O_RDWR | O_CREAT, 0600);
    static const unsigned ops[] = {DISK_OPEN, DISK_WRITE, DISK_SYNC, DISK_TRUNCATE, DISK_ALLOCATE, DISK_RENAME, DISK_UNLINK, DISK_MKDIR};
    for (unsigned i = 0; i < 8; i++) {
        disk_fail(ops[i], f->folder, 1, EROFS, 1);
        errno = 0;
        int rc = 0;
        if (ops[i] == DISK_OPEN) rc = open(other, O_RDONLY);
        if (ops[i] == DISK_WRITE) rc = (int)write(fd, "x", 1);
        if (ops[i] == DISK_SYNC) rc = fdatasync(fd);
        if (ops[i] == DISK_TRUNCATE) rc = ftruncate(fd, 10);
        if (ops[i] == DISK_ALLOCATE) rc = fallocate(fd, 0, 0, 10);
        if (ops[i] == DISK_RENAME) rc = rename(f->path, other);
        if (ops[i] == DISK_UNLINK) rc = unlink(f->path);
        if (ops[i] == DISK_MKDIR) rc = mkdir(other, 0700);
        assert_int_equal(rc, -1);
        assert_int_equal(errno, EROFS);
    }
    disk_fail(DISK_ALLOCATE, "", 1, ENOSPC, 1);
    assert_int_equal(posix_fallocate(fd, 0, 10), ENOSPC);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, 0); // not one of them happened
    close(fd);
    free(other);
}

static void *write_many(void *fd)
{
    for (int i = 0; i < 500; i++) {
        if (pwrite(*(int *)fd, "12345678", 8, i * 8) != 8 || (i % 100 == 0 && fdatasync(*(int *)fd) != 0)) abort();
    }
    return NULL;
}

static void threads_are_recorded_whole(void **state)
{
    struct fix *f = *state;
    char *root = tmp_path(f->folder, "root"), name[64];
    pthread_t threads[4];
    int fds[4];
    assert_int_equal(mkdir(root, 0700), 0);
    assert_int_equal(disk_record(f->path, root), 0);
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%d", i);
        char *path = tmp_path(root, name);
        fds[i] = open(path, O_RDWR | O_CREAT, 0600);
        free(path);
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, &fds[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL), close(fds[i]);
    disk_record_stop();
    struct disk_log *log = disk_log_open(f->path);
    struct disk_record r;
    uint64_t next[5] = {0};
    int syncs = 0;
    while (disk_log_next(log, &r)) {
        syncs += r.kind == DISK_LOG_SYNC;
        if (r.kind != DISK_LOG_WRITE) continue;
        assert_in_range(r.file, 1, 4);
        assert_int_equal(r.offset, next[r.file]);
        assert_memory_equal(r.bytes, "12345678", 8);
        next[r.file] += 8;
    }
    for (int i = 1; i < 5; i++)
        assert_int_equal(next[i], 4000);
    assert_int_equal(syncs, 20);
    disk_log_close(log);
    free(root);
}

static void nothing_outside_of_the_root_is_recorded(void **state)
{
    struct fix *f = *state;
    char *root = tmp_path(f->folder, "root"), *rootlike = tmp_path(f->folder, "root2");
    assert_int_equal(mkdir(root, 0700), 0);
    assert_int_equal(disk_record(f->path, root), 0);
    int fd = open(rootlike, O_RDWR | O_CREAT, 0600);
    assert_int_equal(write(fd, "x", 1), 1);
    assert_int_equal(fsync(fd), 0);
    close(fd);
    assert_int_equal(unlink(rootlike), 0);
    disk_record_stop();
    struct stat st;
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_size, 0);
    free(root);
    free(rootlike);
}

// ---- the environment: this program runs itself -----------------------------------------------------------------

static void put_file(const char *path, const char *text)
{
    FILE *out = fopen(path, "w");
    fputs(text, out);
    fclose(out);
}

// argv: child, a file to write, a control file or "-". Exit status: bit per step that failed.
static int child(char **argv)
{
    int failed = 0, fd = open(argv[2], O_RDWR | O_CREAT, 0600);
    static const char *const controls[] = {"", "write+sync:data:1:EIO:-1\n", "write:elsewhere:1:5:1\n", "write:data:1:28:1\n", NULL};
    for (int i = 0; i < 5; i++) {
        if (argv[3][0] != '-' && controls[i] != NULL) put_file(argv[3], controls[i]);
        if (argv[3][0] != '-' && controls[i] == NULL) unlink(argv[3]);
        errno = 0;
        if (write(fd, "x", 1) != 1) failed |= 1 << i;
    }
    close(fd);
    return failed;
}

static int run_child(const char *data, const char *control)
{
    pid_t pid = fork();
    if (pid == 0) {
        execl("/proc/self/exe", "test_disk", "child", data, control, (char *)NULL);
        _exit(255);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void the_environment_asks_for_a_fault(void **state)
{
    struct fix *f = *state;
    char *data = tmp_path(f->folder, "data");
    setenv("SEGUE_DISK_FAULT", "write:data:3:ENOSPC:2", 1);
    assert_int_equal(run_child(data, "-"), 4 | 8);
    unsetenv("SEGUE_DISK_FAULT");
    assert_int_equal(run_child(data, "-"), 0);
    free(data);
}

static void a_control_file_switches_faults_while_the_program_runs(void **state)
{
    struct fix *f = *state;
    char *data = tmp_path(f->folder, "data"), *control = tmp_path(f->folder, "control");
    setenv("SEGUE_DISK_CONTROL", control, 1);
    assert_int_equal(run_child(data, control), 2 | 8);
    unsetenv("SEGUE_DISK_CONTROL");
    free(data);
    free(control);
}

static void the_environment_asks_for_a_recording(void **state)
{
    struct fix *f = *state;
    char *root = tmp_path(f->folder, "root"), *data = tmp_path(root, "data");
    assert_int_equal(mkdir(root, 0700), 0);
    setenv("SEGUE_DISK_RECORD", f->path, 1);
    setenv("SEGUE_DISK_ROOT", root, 1);
    assert_int_equal(run_child(data, "-"), 0);
    unsetenv("SEGUE_DISK_RECORD");
    unsetenv("SEGUE_DISK_ROOT");
    struct disk_log *log = disk_log_open(f->path);
    struct disk_record r;
    assert_true(disk_log_next(log, &r) && r.kind == DISK_LOG_CREATE && r.length == 4 && memcmp(r.bytes, "data", 4) == 0);
    for (uint64_t i = 0; i < 5; i++)
        assert_true(disk_log_next(log, &r) && r.kind == DISK_LOG_WRITE && r.offset == i);
    assert_false(disk_log_next(log, &r));
    disk_log_close(log);
    free(root);
    free(data);
}

static void a_slow_disk_takes_its_time_and_is_well_again(void **state)
{
    struct fix *f = *state;
    int fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    disk_slow(30, f->path);
    uint64_t began = clock_mono_us();
    assert_int_equal(fdatasync(fd), 0);
    assert_true(clock_mono_us() - began >= 30000);
    disk_slow(10000000, "/elsewhere/"); // a test that met it would hang
    assert_int_equal(fsync(fd), 0);
    disk_slow(0, "");
    close(fd);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "child") == 0) return child(argv);
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(the_nth_matching_call_fails_and_no_other),
        T(each_kind_of_call_can_fail),
        T(threads_are_recorded_whole),
        T(nothing_outside_of_the_root_is_recorded),
        T(the_environment_asks_for_a_fault),
        T(a_control_file_switches_faults_while_the_program_runs),
        T(a_slow_disk_takes_its_time_and_is_well_again),
        T(the_environment_asks_for_a_recording),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
