// The recorder and the power-cut simulator, and with them the journal and the database under it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "db.h"
#include "disk.h"
#include "err.h"
#include "file.h"
#include "image.h"
#include "journal.h"
#include "limits.h"
#include "log.h"
#include "tmp.h"

struct fix {
    char *folder;
    char *root; // recorded
    char *log;
    char *built;
};

static int setup(void **state)
{
    struct fix *f = calloc(1, sizeof *f);
    f->folder = tmp_make();
    f->root = tmp_path(f->folder, "root");
    f->log = tmp_path(f->folder, "log");
    f->built = tmp_path(f->folder, "built");
    assert_int_equal(mkdir(f->root, 0700), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fix *f = *state;
    disk_record_stop();
    free(f->root);
    free(f->log);
    free(f->built);
    tmp_remove(f->folder);
    free(f);
    return 0;
}

static void record(struct fix *f)
{
    assert_int_equal(disk_record(f->log, f->root), 0);
}

static struct image *replay(struct fix *f)
{
    disk_record_stop();
    struct image *m = image_open(f->log);
    assert_non_null(m);
    return m;
}

// Everything up to the end of the log.
static struct image *replay_all(struct fix *f)
{
    struct image *m = replay(f);
    assert_true(image_advance(m, UINT64_MAX));
    return m;
}

static void build(struct fix *f, struct image *m, uint64_t seed, enum image_mode mode, struct image_report *report)
{
    if (access(f->built, F_OK) == 0) tmp_remove(strdup(f->built));
    assert_true(image_build(m, f->built, seed, mode, report));
}

// The size of a file of the image, -1: there is none. `content` gets at most `n` bytes.
static long built(struct fix *f, const char *name, void *content, size_t n)
{
    char *path = tmp_path(f->built, name);
    int fd = open(path, O_RDONLY);
    struct stat st;
    free(path);
    if (fd < 0) return -1;
    assert_int_equal(fstat(fd, &st), 0);
    if (n > 0) assert_true(pread(fd, content, n, 0) >= 0);
    close(fd);
    return st.st_size;
}

static int create(struct fix *f, const char *name, int flags)
{
    char *path = tmp_path(f->root, name);
    int fd = open(path, O_RDWR | O_CREAT | flags, 0600);
    assert_true(fd >= 0);
    free(path);
    return fd;
}

static void put(int fd, char c, size_t n, off_t offset)
{
    char *bytes = malloc(n);
    memset(bytes, c, n);
    assert_int_equal(pwrite(fd, bytes, n, offset), n);
    free(bytes);
}

// ---- the rules -------------------------------------------------------------------------------------------------

static void a_file_needs_its_own_barrier_and_its_folders(void **state)
{
    struct fix *f = *state;
    char content[4] = "";
    record(f);
    int fd = create(f, "a", 0);
    put(fd, 'x', 3, 0);
    disk_mark("1", 1);
    assert_int_equal(fdatasync(fd), 0);
    disk_mark("2", 1);
    assert_int_equal(dir_sync(f->root), 0);
    close(fd);
    struct image *m = replay(f);
    struct disk_record r;
    while (image_step(m, &r)) {
        if (r.kind == DISK_LOG_MARK) {
            build(f, m, 1, IMAGE_NONE, NULL);
            assert_int_equal(built(f, "a", NULL, 0), -1);
            build(f, m, 1, IMAGE_ALL, NULL);
            assert_int_equal(built(f, "a", content, 3), 3);
            assert_string_equal(content, "xxx");
        }
    }
    assert_true(image_sane(m));
    build(f, m, 1, IMAGE_NONE, NULL);
    assert_int_equal(built(f, "a", content, 3), 3);
    assert_string_equal(content, "xxx");
    image_close(m);
}

static void each_sector_is_any_of_its_states_since_the_barrier(void **state)
{
    struct fix *f = *state;
    enum { SECTORS = 16, BYTES = SECTORS * 512 };
    char content[BYTES];
    int seen[SECTORS][3] = {{0}}, mixed = 0;
    struct image_report report;
    record(f);
    int fd = create(f, "data.mdb", 0);
    put(fd, 'a', BYTES, 0);
    assert_int_equal(fsync(fd), 0);
    assert_int_equal(dir_sync(f->root), 0);
    put(fd, 'b', BYTES, 0);
    put(fd, 'c', BYTES, 0);
    close(fd);
    struct image *m = replay_all(f);
    for (uint64_t seed = 0; seed < 300; seed++) {
        build(f, m, seed, IMAGE_RANDOM, &report);
        assert_int_equal(built(f, "data.mdb", content, BYTES), BYTES);
        uint64_t lost = 0;
        for (int s = 0; s < SECTORS; s++) {
            char *p = content + s * 512;
            assert_in_range(p[0], 'a', 'c');
            for (int i = 1; i < 512; i++)
                assert_int_equal(p[i], p[0]); // a sector is never torn itself
            seen[s][p[0] - 'a']++;
            mixed += s > 0 && p[0] != p[-1];
            lost += 512u * (uint64_t)('c' - p[0]);
        }
        assert_int_equal(report.unsynced_bytes[IMAGE_DB], 2 * BYTES);
        assert_int_equal(report.lost_bytes[IMAGE_DB], lost);
        assert_int_equal(report.unsynced_bytes[IMAGE_JOURNAL], 0);
    }
    for (int s = 0; s < SECTORS; s++) {
        for (int v = 0; v < 3; v++)
            assert_true(seen[s][v] > 8);
    }
    assert_true(mixed > 100);
    build(f, m, 0, IMAGE_NONE, &report);
    built(f, "data.mdb", content, BYTES);
    assert_int_equal(content[0], 'a');
    assert_int_equal(report.lost_bytes[IMAGE_DB], 2 * BYTES);
    build(f, m, 0, IMAGE_ALL, NULL);
    built(f, "data.mdb", content, BYTES);
    assert_int_equal(content[BYTES - 1], 'c');
    image_close(m);
}

static void the_same_seed_gives_the_same_image(void **state)
{
    struct fix *f = *state;
    char once[8192], again[8192];
    record(f);
    int fd = create(f, "a", 0);
    assert_int_equal(dir_sync(f->root), 0);
    put(fd, 'x', 8192, 0);
    assert_int_equal(fsync(fd), 0);
    put(fd, 'y', 8192, 0);
    close(fd);
    struct image *m = replay_all(f);
    for (uint64_t seed = 0; seed < 20; seed++) {
        build(f, m, seed, IMAGE_RANDOM, NULL);
        built(f, "a", once, sizeof once);
        build(f, m, seed, IMAGE_RANDOM, NULL);
        built(f, "a", again, sizeof again);
        assert_memory_equal(once, again, sizeof once);
    }
    image_close(m);
}

static void an_unsynced_size_is_any_it_had(void **state)
{
    struct fix *f = *state;
    int small = 0, middle = 0, large = 0;
    record(f);
    int fd = create(f, "a", 0);
    put(fd, 'x', 1000, 0);
    assert_int_equal(fsync(fd), 0);
    assert_int_equal(dir_sync(f->root), 0);
    assert_int_equal(ftruncate(fd, 5000), 0);
    assert_int_equal(posix_fallocate(fd, 0, 9000), 0);
    close(fd);
    struct image *m = replay_all(f);
    for (uint64_t seed = 0; seed < 100; seed++) {
        build(f, m, seed, IMAGE_RANDOM, NULL);
        long size = built(f, "a", NULL, 0);
        small += size == 1000, middle += size == 5000, large += size == 9000;
    }
    assert_int_equal(small + middle + large, 100);
    assert_true(small > 5 && middle > 5 && large > 5);
    image_close(m);
}

static void a_truncated_file_may_show_old_bytes_or_zeros(void **state)
{
    struct fix *f = *state;
    char content[2048];
    record(f);
    int fd = create(f, "a", 0);
    put(fd, 'x', 2048, 0);
    assert_int_equal(fsync(fd), 0);
    assert_int_equal(dir_sync(f->root), 0);
    close(fd);
    fd = create(f, "a", O_TRUNC);
    put(fd, 'y', 512, 1024);
    assert_int_equal(fsync(fd), 0);
    close(fd);
    struct image *m = replay_all(f);
    build(f, m, 3, IMAGE_RANDOM, NULL);
    assert_int_equal(built(f, "a", content, 2048), 1536);
    assert_int_equal(content[0], 0);
    assert_int_equal(content[1024], 'y');
    image_close(m);
}

static void a_dsync_write_is_durable_alone(void **state)
{
    struct fix *f = *state;
    char content[4096];
    int lost = 0;
    record(f);
    int fd = create(f, "a", 0), synced = create(f, "a", O_DSYNC);
    assert_int_equal(dir_sync(f->root), 0);
    put(fd, 'x', 4096, 0);
    put(synced, 'y', 600, 1024);
    close(synced);
    close(fd);
    struct image *m = replay_all(f);
    for (uint64_t seed = 0; seed < 50; seed++) {
        build(f, m, seed, IMAGE_RANDOM, NULL);
        assert_int_equal(built(f, "a", content, 4096), 4096);
        for (int i = 1024; i < 1624; i++)
            assert_int_equal(content[i], 'y');
        for (int i = 1624; i < 2048; i++)
            assert_int_equal(content[i], 'x'); // the same sector
        lost += content[0] == 0;
    }
    assert_in_range(lost, 5, 45);
    image_close(m);
}

static void a_folders_changes_happen_in_order(void **state)
{
    struct fix *f = *state;
    int count[5] = {0};
    record(f);
    for (int i = 0; i < 4; i++) {
        char name[2] = {(char)('a' + i), '\0'};
        close(create(f, name, 0));
    }
    struct image *m = replay_all(f);
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct image_report report;
        build(f, m, seed, IMAGE_RANDOM, &report);
        int n = 0;
        bool ended = false;
        for (int i = 0; i < 4; i++) {
            char name[2] = {(char)('a' + i), '\0'};
            bool there = built(f, name, NULL, 0) >= 0;
            assert_false(there && ended);
            ended = !there;
            n += there;
        }
        assert_int_equal(report.lost_names, 4 - n);
        count[n]++;
    }
    for (int i = 0; i < 5; i++)
        assert_true(count[i] > 0);
    image_close(m);
}

static void a_replaced_file_is_the_old_or_the_new_one_at_every_point(void **state)
{
    struct fix *f = *state;
    char *path = tmp_path(f->root, "deep/er/file"), *folder = tmp_path(f->root, "deep/er");
    char content[8];
    int old = 0, new = 0;
    assert_int_equal(dir_make(folder), 0);
    assert_int_equal(file_replace(path, SPAN_LIT("old")), 0);
    record(f); // begins with what is there
    assert_int_equal(file_replace(path, SPAN_LIT("newer")), 0);
    struct image *m = replay(f);
    struct disk_record r;
    bool found = false;
    while (image_step(m, &r)) {
        found = found || r.kind == DISK_LOG_CREATE;
        for (uint64_t seed = 0; found && seed < 20; seed++) {
            build(f, m, seed, IMAGE_RANDOM, NULL);
            long n = built(f, "deep/er/file", content, sizeof content);
            assert_true((n == 3 && memcmp(content, "old", 3) == 0) || (n == 5 && memcmp(content, "newer", 5) == 0));
            old += n == 3, new += n == 5;
        }
    }
    assert_true(image_sane(m));
    assert_true(old > 0 && new > 0);
    image_close(m);
    free(path);
    free(folder);
}

static void a_removed_or_moved_file_comes_back_until_its_folder_is_synced(void **state)
{
    struct fix *f = *state;
    char *a = tmp_path(f->root, "a"), *b = tmp_path(f->root, "b"), *sub = tmp_path(f->root, "sub"), *moved = tmp_path(f->root, "sub/b");
    close(create(f, "a", 0));
    close(create(f, "b", 0));
    assert_int_equal(mkdir(sub, 0700), 0);
    record(f);
    assert_int_equal(unlink(a), 0);
    assert_int_equal(rename(b, moved), 0);
    disk_mark("", 0);
    assert_int_equal(dir_sync(sub), 0); // the move is durable, and so is what came before it in the other folder
    struct image *m = replay(f);
    struct disk_record r;
    while (image_step(m, &r)) {
        if (r.kind != DISK_LOG_MARK) continue;
        for (uint64_t seed = 0; seed < 40; seed++) {
            build(f, m, seed, IMAGE_RANDOM, NULL);
            assert_int_equal((built(f, "b", NULL, 0) >= 0) + (built(f, "sub/b", NULL, 0) >= 0), 1);
            if (built(f, "a", NULL, 0) >= 0) assert_int_equal(built(f, "sub/b", NULL, 0), -1);
        }
        build(f, m, 0, IMAGE_NONE, NULL);
        assert_int_equal(built(f, "a", NULL, 0), 0);
        assert_int_equal(built(f, "b", NULL, 0), 0);
    }
    build(f, m, 0, IMAGE_NONE, NULL);
    assert_int_equal(built(f, "a", NULL, 0), -1);
    assert_int_equal(built(f, "b", NULL, 0), -1);
    assert_int_equal(built(f, "sub/b", NULL, 0), 0);
    image_close(m);
    free(a), free(b), free(sub), free(moved);
}

static void sends_stand_among_the_writes_in_order(void **state)
{
    struct fix *f = *state;
    int pair[2];
    char text[64] = "";
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    record(f);
    int fd = create(f, "a", 0);
    assert_int_equal(write(fd, "one", 3), 3);
    assert_int_equal(write(pair[0], "said ", 5), 5);
    assert_int_equal(fdatasync(fd), 0);
    struct iovec iov = {(char *)"again", 5};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    assert_int_equal(sendmsg(pair[0], &msg, 0), 5);
    assert_int_equal(send(pair[1], "other", 5, 0), 5);
    close(pair[0]);
    close(pair[1]);
    close(fd);
    disk_record_stop();
    struct disk_log *log = disk_log_open(f->log);
    struct disk_record r;
    while (disk_log_next(log, &r)) {
        char piece[64];
        int n = (int)r.length;
        if (r.kind == DISK_LOG_CREATE) strncat(text, "create,", sizeof text - strlen(text) - 1);
        if (r.kind == DISK_LOG_WRITE) strncat(text, "write,", sizeof text - strlen(text) - 1);
        if (r.kind == DISK_LOG_SYNC) strncat(text, "sync,", sizeof text - strlen(text) - 1);
        if (r.kind != DISK_LOG_SEND) continue;
        snprintf(piece, sizeof piece, "%u@%u:%.*s,", r.file, (unsigned)r.offset, n, (const char *)r.bytes);
        strncat(text, piece, sizeof text - strlen(text) - 1);
    }
    assert_string_equal(text, "create,write,1@0:said ,sync,1@5:again,2@0:other,");
    disk_log_close(log);
}

static void a_log_cut_anywhere_can_be_read(void **state)
{
    struct fix *f = *state;
    record(f);
    int fd = create(f, "a", 0);
    put(fd, 'x', 100, 0);
    close(fd);
    disk_record_stop();
    struct stat st;
    assert_int_equal(stat(f->log, &st), 0);
    for (off_t n = st.st_size - 1; n >= 0; n--) {
        assert_int_equal(truncate(f->log, n), 0);
        struct image *m = image_open(f->log);
        assert_true(image_advance(m, UINT64_MAX));
        assert_in_range(image_position(m), 0, 1);
        image_close(m);
    }
}

// ---- the stores ------------------------------------------------------------------------------------------------

static int replay_numbers(void *ctx, uint64_t group, struct span payload)
{
    uint64_t *last = ctx;
    if (*last != 0) assert_int_equal(group, *last + 1);
    *last = group;
    for (size_t i = 0; i < payload.n; i++)
        assert_int_equal(payload.p[i], (uint8_t)(group + i));
    return 0;
}

static int open_journal(struct journal **j, const char *folder, uint64_t *last, struct problem *p)
{
    char *path = tmp_path(folder, "journal");
    struct journal_options o = {.path = path, .segment_bytes = 8192};
    *last = 0;
    int err = journal_open(j, &o, replay_numbers, last, p);
    free(path);
    return err;
}

static int append_number(struct journal *j, size_t n)
{
    uint8_t bytes[4096];
    bool unknown;
    uint64_t group = journal_next_group(j);
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(group + i);
    return journal_append(j, SPAN(bytes, n), &unknown);
}

static uint32_t random_step(uint32_t *x)
{
    *x = *x * 1664525 + 1013904223;
    return *x >> 8;
}

// What an append acknowledged or an opening showed must stay from now on.
static void mark(const struct journal *j)
{
    uint64_t acked = journal_next_group(j) - 1;
    disk_mark(&acked, sizeof acked);
}

// Appends, prepares, recycles, restarts; after each step a mark says how far it was acknowledged.
static void journal_session(struct fix *f)
{
    struct journal *j;
    uint64_t last;
    record(f);
    for (int life = 0; life < 3; life++) {
        assert_int_equal(open_journal(&j, f->root, &last, NULL), 0);
        for (int i = 0; i < 12; i++) {
            assert_int_equal(append_number(j, (size_t)(i * 531 + life) % 3000), 0);
            mark(j);
            if (i % 2 == 0) journal_prepare(j);
            if (i == 8) journal_recycle(j, journal_next_group(j) - 4);
        }
        journal_close(j);
    }
}

// Cuts the power at every record, some ways each; every acknowledged group must be there. Gives the number of images in
// which it was not.
static int journal_cuts(struct fix *f, int ways)
{
    struct image *m = replay(f);
    struct disk_record r;
    uint64_t acked = 0;
    int bad = 0;
    while (image_step(m, &r)) {
        if (r.kind <= DISK_LOG_FOUND_DIR) continue;
        if (r.kind == DISK_LOG_MARK) memcpy(&acked, r.bytes, sizeof acked);
        for (int way = 0; way < ways; way++) {
            struct journal *j = NULL;
            struct problem p = PROBLEM_NONE;
            uint64_t last;
            build(f, m, (uint64_t)way, way == 0 ? IMAGE_NONE : IMAGE_RANDOM, NULL);
            int err = open_journal(&j, f->built, &last, &p);
            if (err != 0 || journal_next_group(j) <= acked || journal_next_group(j) > acked + 2) bad++;
            if (err == 0) assert_int_equal(append_number(j, 100), 0);
            journal_close(j);
        }
    }
    assert_true(image_sane(m));
    image_close(m);
    return bad;
}

static void every_acknowledged_group_survives_a_power_cut_anywhere(void **state)
{
    struct fix *f = *state;
    journal_session(f);
    assert_int_equal(journal_cuts(f, 4), 0);
}

static struct journal *reopened(struct fix *f, struct journal *j)
{
    uint64_t last;
    journal_close(j);
    assert_int_equal(open_journal(&j, f->root, &last, NULL), 0);
    mark(j);
    return j;
}

// A kill between write and barrier: the group is in the page cache alone, and an opening finds it there.
static void a_group_from_the_page_cache_is_durable_once_shown(void **state)
{
    struct fix *f = *state;
    uint64_t shown = 0;
    for (size_t n = 100; n <= 2500; n += 2400) { // the tail is copied whole, or the last group alone
        struct journal *j = NULL;
        record(f);
        disk_mark(&shown, sizeof shown);
        j = reopened(f, j);
        uint64_t next = journal_next_group(j);
        assert_int_equal(append_number(j, n), 0);
        mark(j);
        disk_fail(DISK_SYNC, "journal", 1, EIO, 1);
        assert_int_equal(append_number(j, n), ERR_IO);
        disk_fail_clear();
        j = reopened(f, j);
        assert_int_equal(journal_next_group(j), next + 2);
        shown = next + 1;
        journal_close(j);
        assert_int_equal(journal_cuts(f, 6), 0);
    }
}

// A kill after segments were renamed to spares, and before the folder's barrier.
static void a_spare_whose_name_may_not_last_is_safe_to_use(void **state)
{
    struct fix *f = *state;
    struct journal *j = NULL;
    record(f);
    j = reopened(f, j);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(append_number(j, 1000), 0);
        mark(j);
    }
    disk_fail(DISK_SYNC | DISK_UNLINK, "journal", 1, EIO, DISK_FOREVER);
    journal_recycle(j, 15);
    disk_fail_clear();
    j = reopened(f, j);
    journal_close(j);
    assert_int_equal(journal_cuts(f, 12), 0);
}

// One life in what the last power cut left: what was acknowledged before must be there, and what is acknowledged now
// counts from here on. Ends at a power cut somewhere in it.
static uint64_t next_life(struct fix *f, uint64_t acked, uint32_t *x)
{
    struct journal *j;
    uint64_t last;
    struct problem p = PROBLEM_NONE;
    record(f);
    int err = open_journal(&j, f->root, &last, &p);
    if (err != 0) fail_msg("journal_open: %s", p.text);
    assert_in_range(journal_next_group(j), acked + 1, acked + 2);
    mark(j);
    int steps = (int)(random_step(x) % 25);
    for (int i = 0; i < steps; i++) {
        assert_int_equal(append_number(j, random_step(x) % 4000), 0);
        uint64_t now = journal_next_group(j) - 1;
        mark(j);
        if (random_step(x) % 2 == 0) journal_prepare(j);
        if (random_step(x) % 8 == 0 && now > 2) journal_recycle(j, now - random_step(x) % 3);
    }
    journal_close(j);
    struct image *m = replay(f);
    struct disk_record r;
    uint64_t records = 0, found = 0; // what was there at the start comes first
    while (image_step(m, &r)) {
        records++;
        if (r.kind <= DISK_LOG_FOUND_DIR) found = records;
    }
    image_close(m);
    m = image_open(f->log);
    uint64_t cut = found + ((uint64_t)random_step(x) << 16 | random_step(x) % 65536) % (records - found + 1);
    while (image_position(m) < cut && image_step(m, &r)) {
        if (r.kind == DISK_LOG_MARK) memcpy(&acked, r.bytes, sizeof acked);
    }
    build(f, m, random_step(x), IMAGE_RANDOM, NULL);
    image_close(m);
    tmp_remove(strdup(f->root));
    assert_int_equal(rename(f->built, f->root), 0);
    return acked;
}

static void power_cut_after_power_cut_loses_nothing(void **state)
{
    struct fix *f = *state;
    const char *more = getenv("CUTS"); // SEED and CUTS for a long run
    const char *seed = getenv("SEED");
    uint32_t x = seed != NULL ? (uint32_t)atol(seed) : 1;
    uint64_t acked = 0;
    for (int i = 0; i < (more != NULL ? atoi(more) : 40); i++)
        acked = next_life(f, acked, &x);
    assert_true(acked > 20);
}

#ifdef SEGUE_BUGS
static void a_journal_without_barriers_is_found_out(void **state)
{
    struct fix *f = *state;
    setenv("SEGUE_BUG", "nosync", 1);
    journal_session(f);
    unsetenv("SEGUE_BUG");
    assert_true(journal_cuts(f, 4) > 10);
}
#endif

static const char *const tables[] = {"only"};

static int open_db(struct db **db, const char *folder)
{
    char *path = tmp_path(folder, "state");
    struct db_options o = {.path = path, .map_bytes = 16 * MIB, .tables = tables, .table_count = 1};
    *db = NULL;
    int err = db_open(db, &o);
    free(path);
    return err;
}

static void db_session(struct fix *f)
{
    struct db *db;
    record(f);
    assert_int_equal(open_db(&db, f->root), 0);
    for (uint32_t commit = 1; commit <= 12; commit++) {
        struct db_txn *t = db_begin_write(db);
        for (uint32_t i = 0; i < 40; i++) {
            uint32_t key = i * 7919 % 200;
            uint8_t value[300];
            memset(value, (int)commit, sizeof value);
            if ((i + commit) % 5 == 0)
                db_del(t, 0, SPAN(&key, sizeof key));
            else
                db_put(t, 0, SPAN(&key, sizeof key), SPAN(value, sizeof value));
        }
        db_put(t, 0, SPAN_LIT("commit"), SPAN(&commit, sizeof commit));
        assert_int_equal(db_commit(t), 0);
        if (commit == 6) assert_int_equal(db_sync(db), 0);
        disk_mark(&commit, sizeof commit);
        if (commit == 6) disk_mark("synced", 6);
    }
    db_close(db);
}

// The number of the commit that the state shows, 0 for none; and that it shows all of it and nothing else.
static uint32_t db_check(struct db *db)
{
    uint32_t commit = 0, seen = 0;
    struct span v;
    struct db_iter it;
    struct db_txn *t = db_begin_read(db);
    if (db_get(t, 0, SPAN_LIT("commit"), &v)) memcpy(&commit, v.p, sizeof commit);
    db_iter_init(&it, t, 0);
    for (bool more = db_iter_first(&it); more; more = db_iter_next(&it)) {
        if (it.key.n == 4 && it.value.p[0] > seen) seen = it.value.p[0];
        for (size_t i = 1; it.key.n == 4 && i < it.value.n; i++)
            assert_int_equal(it.value.p[i], it.value.p[0]);
    }
    assert_int_equal(db_txn_err(t), 0);
    db_iter_end(&it);
    db_abort(t);
    assert_int_equal(seen, commit);
    return commit;
}

static void the_database_loses_its_last_commit_at_most(void **state)
{
    struct fix *f = *state;
    struct disk_record r;
    uint32_t committed = 0, synced = 0;
    bool opened = false;
    int lost = 0;
    db_session(f);
    struct image *m = replay(f);
    while (image_step(m, &r)) {
        if (r.kind == DISK_LOG_MARK) {
            opened = true; // the first mark: the database has been made
            if (r.length == 4)
                memcpy(&committed, r.bytes, 4);
            else
                synced = committed;
        }
        for (uint64_t way = 0; opened && way < 5; way++) {
            struct db *db;
            build(f, m, way, way == 0 ? IMAGE_NONE : IMAGE_RANDOM, NULL);
            assert_int_equal(open_db(&db, f->built), 0);
            uint32_t shown = db_check(db);
            assert_true(shown + 1 >= committed && shown >= synced);
            assert_true(shown <= committed + 1);
            lost += shown < committed;
            db_close(db);
        }
    }
    assert_true(image_sane(m));
    assert_true(lost > 0); // MDB_NOMETASYNC: the simulator can show it
    image_close(m);
}

int main(void)
{
    log_set_level(LOG_ERROR);
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_file_needs_its_own_barrier_and_its_folders),
        T(each_sector_is_any_of_its_states_since_the_barrier),
        T(the_same_seed_gives_the_same_image),
        T(an_unsynced_size_is_any_it_had),
        T(a_truncated_file_may_show_old_bytes_or_zeros),
        T(a_dsync_write_is_durable_alone),
        T(a_folders_changes_happen_in_order),
        T(a_replaced_file_is_the_old_or_the_new_one_at_every_point),
        T(a_removed_or_moved_file_comes_back_until_its_folder_is_synced),
        T(sends_stand_among_the_writes_in_order),
        T(a_log_cut_anywhere_can_be_read),
        T(every_acknowledged_group_survives_a_power_cut_anywhere),
        T(a_group_from_the_page_cache_is_durable_once_shown),
        T(a_spare_whose_name_may_not_last_is_safe_to_use),
        T(power_cut_after_power_cut_loses_nothing),
#ifdef SEGUE_BUGS
        T(a_journal_without_barriers_is_found_out),
#endif
        T(the_database_loses_its_last_commit_at_most),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
