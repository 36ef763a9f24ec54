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
#include <sys/stat.h>
#include <unistd.h>

#include "disk.h"
#include "err.h"
#include "file.h"
#include "journal_rig.h"
#include "journal_segment.h"
#include "limits.h"
#include "log.h"
#include "tmp.h"

// The seed of the groups of a segment file.
static uint64_t seed_of(const char *folder, const char *segment)
{
    struct buf content;
    struct journal_file file;
    struct segment_header h;
    uint8_t sector[SECTOR_BYTES];
    char *name = tmp_path(folder, "JOURNAL");
    buf_init(&content, 4096);
    assert_int_equal(file_slurp(&content, name), 0);
    assert_int_equal(journal_file_decode(&file, buf_span(&content)), 0);
    int fd = open(segment, O_RDONLY);
    assert_int_equal(pread(fd, sector, sizeof sector, 0), sizeof sector);
    close(fd);
    assert_int_equal(segment_header_decode(&h, SPAN(sector, sizeof sector), journal_file_seed(&file)), 0);
    buf_free(&content);
    free(name);
    return segment_seed(h.life, journal_file_seed(&file));
}

// Where the groups of a segment file end.
static uint64_t end_of(const char *folder, const char *segment)
{
    struct buf payload;
    struct stat st;
    struct group_header h = {0};
    uint64_t end = SECTOR_BYTES, seed = seed_of(folder, segment);
    int fd = open(segment, O_RDONLY);
    assert_int_equal(fstat(fd, &st), 0);
    buf_init(&payload, GROUP_BUF_MAX);
    while (group_read(fd, end, (uint64_t)st.st_size, seed, &h, &payload) == 0)
        end += group_bytes(h.length);
    buf_free(&payload);
    close(fd);
    return end;
}

// ---- the plain life --------------------------------------------------------------------------------------------

static void groups_come_back_in_order(void **state)
{
    struct jrig *f = *state;
    struct jrig_replay r;
    struct uuid id = journal_id(f->j);
    assert_int_equal(journal_next_group(f->j), 1);
    assert_int_equal(journal_first_group(f->j), 1);
    for (size_t i = 0; i < 100; i++)
        jrig_append(f->j, i * 37 % 5000);
    assert_int_equal(journal_next_group(f->j), 101);
    jrig_reopen(f, &r);
    assert_int_equal(r.first, 1);
    assert_int_equal(r.next, 101);
    assert_int_equal(journal_next_group(f->j), 101);
    assert_true(uuid_equal(journal_id(f->j), id));
    jrig_append(f->j, 100);
    jrig_reopen(f, &r);
    assert_int_equal(r.next, 102);
}

static void an_empty_journal_opens_again(void **state)
{
    struct jrig *f = *state;
    struct jrig_replay r;
    for (int i = 0; i < 5; i++) {
        jrig_reopen(f, &r);
        assert_int_equal(r.next, 0);
        assert_int_equal(journal_next_group(f->j), 1);
    }
    jrig_append(f->j, 0);
    jrig_reopen(f, &r);
    assert_int_equal(r.next, 2);
}

static void the_epoch_is_raised_by_each_opening(void **state)
{
    struct jrig *f = *state;
    struct jrig_replay r;
    uint64_t epoch = journal_epoch(f->j);
    for (uint64_t i = 1; i < 4; i++) {
        jrig_reopen(f, &r);
        assert_int_equal(journal_epoch(f->j), epoch + i);
    }
}

static void an_append_is_one_write_and_one_barrier(void **state)
{
    struct jrig *f = *state;
    disk_fail(DISK_WRITE, "", DISK_FOREVER, EIO, 1);
    jrig_append(f->j, 3000);
    assert_int_equal(disk_calls(), 1);
    disk_fail(DISK_SYNC, "", DISK_FOREVER, EIO, 1);
    jrig_append(f->j, 3000);
    assert_int_equal(disk_calls(), 1);
}

static void a_prepared_segment_costs_the_append_no_filling(void **state)
{
    struct jrig *f = *state;
    assert_false(journal_prepare(f->j)); // less than half full
    while (journal_disk_bytes(f->j) < 2 * JRIG_SEGMENT) {
        if (!journal_prepare(f->j)) jrig_append(f->j, 400);
    }
    while (journal_prepare(f->j))
        continue;
    int segments = jrig_count_names(f->path, ".seg");
    assert_int_equal(jrig_count_names(f->path, ".spare"), 1);
    disk_fail(DISK_ALLOCATE, "", DISK_FOREVER, EIO, 1);
    while (jrig_count_names(f->path, ".seg") == segments)
        jrig_append(f->j, 400);
    assert_int_equal(disk_calls(), 0);
    assert_int_equal(jrig_count_names(f->path, ".spare"), 0);
    for (int i = 0; i < 40; i++)
        jrig_append(f->j, 400); // and nothing is prepared any more: it is made on the way
    assert_true(disk_calls() > 0);
}

static void the_callers_error_stops_the_opening(void **state)
{
    struct jrig *f = *state;
    struct jrig_replay r = {.fail_at = 3};
    struct problem p = PROBLEM_NONE;
    struct journal *j = NULL;
    struct journal_options o = {.path = f->path, .segment_bytes = JRIG_SEGMENT};
    for (int i = 0; i < 5; i++)
        jrig_append(f->j, 100);
    journal_close(f->j);
    f->j = NULL;
    assert_int_equal(journal_open(&j, &o, jrig_replay_one, &r, &p), ERR_BAD_BATCH);
    assert_null(j);
    assert_int_equal(r.next, 3);
    r = (struct jrig_replay){.fail_at = 5}; // the last one, which comes after the copy
    assert_int_equal(journal_open(&j, &o, jrig_replay_one, &r, &p), ERR_BAD_BATCH);
    jrig_open(f, &r);
    assert_int_equal(r.next, 6);
}

static void a_group_larger_than_a_segment_fits(void **state)
{
    struct jrig *f = *state;
    struct jrig_replay r;
    jrig_append(f->j, 100);
    jrig_append(f->j, 5 * JRIG_SEGMENT);
    jrig_append(f->j, 100);
    jrig_append(f->j, JRIG_SEGMENT - SECTOR_BYTES - GROUP_HEADER_BYTES); // exactly a segment
    jrig_append(f->j, JRIG_SEGMENT - SECTOR_BYTES - GROUP_HEADER_BYTES + 1);
    jrig_reopen(f, &r);
    assert_int_equal(r.next, 6);
    jrig_append(f->j, GROUP_BYTES_MAX);
    jrig_reopen(f, &r);
    assert_int_equal(r.first, 1);
    assert_int_equal(r.next, 7);
    jrig_append(f->j, 100);
    jrig_reopen(f, &r);
    assert_int_equal(r.next, 8);
    journal_recycle(f->j, 6); // what was made larger is no spare
    assert_true(journal_disk_bytes(f->j) <= 4 * JRIG_SEGMENT);
}

static void reading_only_touches_nothing(void **state)
{
    struct jrig *f = *state;
    struct journal *j = NULL;
    struct jrig_replay r = {0};
    struct problem p = PROBLEM_NONE;
    struct journal_options o = {.path = f->path, .segment_bytes = JRIG_SEGMENT, .read_only = true};
    bool unknown = true;
    for (int i = 0; i < 50; i++)
        jrig_append(f->j, 1000);
    journal_close(f->j);
    f->j = NULL;
    uint64_t before = jrig_state(f->path);
    assert_int_equal(journal_open(&j, &o, jrig_replay_one, &r, &p), 0);
    assert_int_equal(r.next, 51);
    assert_int_equal(journal_append(j, SPAN_LIT("x"), &unknown), ERR_READ_ONLY);
    assert_false(unknown);
    assert_false(journal_prepare(j));
    journal_recycle(j, 40);
    journal_close(j);
    assert_int_equal(jrig_state(f->path), before);
    char *missing = tmp_path(f->folder, "missing");
    o.path = missing;
    assert_int_equal(journal_open(&j, &o, jrig_replay_one, &r, &p), ERR_NOT_FOUND);
    assert_int_not_equal(access(missing, F_OK), 0);
    free(missing);
}

// ---- recycling -------------------------------------------------------------------------------------------------

static void recycling_keeps_what_is_needed(void **state)
{
    struct jrig *f = *state;
    struct jrig_replay r;
    for (int i = 0; i < 200; i++)
        jrig_append(f->j, 1000);
    uint64_t live = journal_live_bytes(f->j), disk = journal_disk_bytes(f->j);
    assert_int_equal(live, 200 * 1020);
    journal_recycle(f->j, 100);
    assert_in_range(journal_first_group(f->j), 85, 101);
    assert_true(journal_live_bytes(f->j) <= live - 84 * 1020);
    assert_true(journal_disk_bytes(f->j) < disk);
    assert_int_equal(jrig_count_names(f->path, ".spare"), 2); // no more than that are kept
    jrig_reopen(f, &r);
    assert_in_range(r.first, 85, 101);
    assert_int_equal(r.next, 201);
    journal_recycle(f->j, 200);
    jrig_append(f->j, 10);
    jrig_reopen(f, &r);
    assert_int_equal(r.next, 202);
    journal_recycle(f->j, 0);
    jrig_reopen(f, &r);
    assert_int_equal(r.next, 202);
}

static void keep_all_keeps_all(void **state)
{
    struct jrig *f = *state;
    struct jrig_replay r = {0};
    struct journal_options o = {.path = f->path, .segment_bytes = JRIG_SEGMENT, .keep_all = true};
    journal_close(f->j);
    assert_int_equal(journal_open(&f->j, &o, jrig_replay_one, &r, NULL), 0);
    for (int i = 0; i < 100; i++)
        jrig_append(f->j, 1000);
    journal_recycle(f->j, 90);
    assert_int_equal(journal_first_group(f->j), 1);
    jrig_reopen(f, &r);
    assert_int_equal(r.first, 1);
}

#ifdef SEGUE_BUGS
static void the_planted_bug_recycles_too_early(void **state)
{
    struct jrig *f = *state;
    for (int i = 0; i < 100; i++)
        jrig_append(f->j, 1000);
    setenv("SEGUE_BUG", "recycle_early", 1);
    journal_recycle(f->j, 1);
    unsetenv("SEGUE_BUG");
    assert_true(journal_first_group(f->j) > 80);
}
#endif

static void restarts_do_not_pile_up_segments(void **state)
{
    struct jrig *f = *state;
    struct jrig_replay r;
    for (int i = 0; i < 30; i++) {
        jrig_append(f->j, 100);
        jrig_reopen(f, &r);
        assert_int_equal(r.next, i + 2);
    }
    // Groups of 30 x 120 bytes are a quarter of a segment; each is copied until it is an eighth full.
    assert_true(journal_disk_bytes(f->j) <= 13 * JRIG_SEGMENT);
    struct stat st;
    for (int i = 0; i < 30; i++)
        jrig_reopen(f, &r);
    assert_true(journal_disk_bytes(f->j) <= 13 * JRIG_SEGMENT);
    assert_int_equal(stat(f->path, &st), 0);
}

// Appends, restarts, recycles and tears at random, and keeps count of what must be there.
static void stale_groups_are_never_replayed(void **state)
{
    struct jrig *f = *state;
    struct jrig_replay r;
    uint32_t x = 12345;
    uint64_t recycled = 0;
    for (int step = 0; step < 1500; step++) {
        x = x * 1664525 + 1013904223;
        uint32_t dice = x >> 24;
        uint64_t next = journal_next_group(f->j);
        if (dice < 200) {
            jrig_append(f->j, (x >> 8) % 3000);
        } else if (dice < 225) {
            while (journal_prepare(f->j))
                continue;
        } else if (dice < 240 && next > 5) {
            uint64_t group = next - 1 - (x >> 8) % 5;
            if (group > recycled) recycled = group;
            journal_recycle(f->j, group);
        } else if (dice < 248) {
            jrig_reopen(f, &r);
            assert_int_equal(r.next == 0 ? journal_next_group(f->j) : r.next, next);
            assert_true(r.next == 0 || r.first <= recycled + 1);
        } else {
            // A torn group: an append some byte of which did not arrive.
            jrig_append(f->j, 600);
            journal_close(f->j);
            char *last = jrig_segment(f->path, 0);
            jrig_flip(last, end_of(f->path, last) - 320);
            free(last);
            f->j = NULL;
            jrig_open(f, &r);
            assert_int_equal(journal_next_group(f->j), next);
        }
    }
    assert_true(journal_next_group(f->j) > 800);
}

// ---- damage ----------------------------------------------------------------------------------------------------

#define SMALL (20 + 700)    // bytes that a group of 700 takes
#define LARGE (20 + 2900)

// Five groups in the last segment; tells where the fifth begins.
static uint64_t five_groups(struct jrig *f)
{
    for (int i = 0; i < 4; i++)
        jrig_append(f->j, 700);
    jrig_append(f->j, 2900);
    journal_close(f->j);
    f->j = NULL;
    return SECTOR_BYTES + 4 * SMALL;
}

// Of each sector that it touches what was there before: of the first one, the end of the group before it.
static void a_torn_last_group_is_dropped_and_no_other(void **state)
{
    struct jrig *f = *state;
    uint64_t from = five_groups(f), end = from + LARGE;
    for (uint64_t sector = from / SECTOR_BYTES * SECTOR_BYTES; sector < end; sector += SECTOR_BYTES) {
        for (int how = 0; how < 3; how++) {
            char *copy = jrig_copy(f, f->path), *last = jrig_segment(copy, 0);
            uint64_t at = sector < from ? from : sector, n = sector + SECTOR_BYTES - at;
            uint8_t zeros[SECTOR_BYTES] = {0};
            if (n > end - at) n = end - at;
            if (how == 0) assert_int_equal(truncate(last, (off_t)at), 0);
            if (how == 1) jrig_flip(last, at + n / 2);
            if (how == 2) {
                int fd = open(last, O_RDWR);
                assert_int_equal(pwrite(fd, zeros, n, (off_t)at), n);
                close(fd);
            }
            struct jrig_replay r = jrig_look(copy);
            assert_int_equal(r.first, 1);
            assert_int_equal(r.next, 5);
            r = jrig_look(copy); // and it stays so
            assert_int_equal(r.next, 5);
            free(last);
            tmp_remove(copy);
        }
    }
    assert_int_equal(jrig_look(f->path).next, 6);
}

static void every_flipped_byte_of_a_group_is_noticed(void **state)
{
    struct jrig *f = *state;
    uint64_t from = five_groups(f);
    char *last = jrig_segment(f->path, 0);
    struct journal_options o = {.path = f->path, .segment_bytes = JRIG_SEGMENT, .read_only = true};
    for (uint64_t i = 0; i < GROUP_HEADER_BYTES + 2900; i += i < 80 ? 1 : 97) {
        struct jrig_replay r = {0};
        struct journal *j = NULL;
        jrig_flip(last, from + i);
        assert_int_equal(journal_open(&j, &o, jrig_replay_one, &r, NULL), 0);
        assert_int_equal(r.next, 5);
        journal_close(j);
        jrig_flip(last, from + i);
    }
    free(last);
    assert_int_equal(jrig_look(f->path).next, 6);
}

static void assert_damaged(const char *path, const char *words)
{
    struct jrig_replay r;
    struct journal *j;
    struct problem p = PROBLEM_NONE;
    uint64_t before = jrig_state(path);
    assert_int_equal(jrig_try_open(&j, path, JRIG_SEGMENT, &r, &p), ERR_CORRUPT);
    assert_null(j);
    assert_int_equal(p.err, ERR_CORRUPT);
    if (strstr(p.text, words) == NULL) fail_msg("\"%s\" is not in \"%s\"", words, p.text);
    assert_int_equal(jrig_state(path), before); // the evidence is left alone
}

static void damage_before_the_end_is_reported_not_skipped(void **state)
{
    struct jrig *f = *state;
    five_groups(f);
    for (uint64_t group = 0; group < 4; group++) {
        char *copy = jrig_copy(f, f->path), *last = jrig_segment(copy, 0);
        char words[64];
        uint64_t at = SECTOR_BYTES + group * SMALL;
        jrig_flip(last, at + 600);
        snprintf(words, sizeof words, "%s, byte %llu", strrchr(last, '/') + 1, (unsigned long long)at);
        assert_damaged(copy, words);
        free(last);
        tmp_remove(copy);
    }
}

static void damage_in_a_copied_tail_is_reported(void **state)
{
    struct jrig *f = *state;
    struct jrig_replay r;
    jrig_append(f->j, 100);
    jrig_append(f->j, 100);
    jrig_reopen(f, &r); // now these two are at the front of a segment of a later epoch
    journal_close(f->j);
    f->j = NULL;
    char *last = jrig_segment(f->path, 0);
    jrig_flip(last, SECTOR_BYTES + 100);
    free(last);
    assert_damaged(f->path, "byte 512");
}

static void damage_in_an_earlier_segment_is_reported(void **state)
{
    struct jrig *f = *state;
    for (int i = 0; i < 50; i++)
        jrig_append(f->j, 1000); // five segments or so
    journal_close(f->j);
    f->j = NULL;
    char *copy = jrig_copy(f, f->path), *name = jrig_segment(copy, 2);
    jrig_flip(name, SECTOR_BYTES + 1020 * 3 + 10); // in its header
    assert_damaged(copy, strrchr(name, '/') + 1);
    free(name);
    tmp_remove(copy);

    copy = jrig_copy(f, f->path), name = jrig_segment(copy, 2);
    jrig_flip(name, 40); // the segment's header
    assert_damaged(copy, "byte 0");
    free(name);
    tmp_remove(copy);

    copy = jrig_copy(f, f->path), name = jrig_segment(copy, 2);
    assert_int_equal(unlink(name), 0);
    assert_damaged(copy, ".seg");
    free(name);
    tmp_remove(copy);

    copy = jrig_copy(f, f->path), name = jrig_segment(copy, 1);
    assert_int_equal(truncate(name, 5000), 0);
    assert_damaged(copy, strrchr(name, '/') + 1);
    free(name);
    tmp_remove(copy);
}

static void a_lost_last_group_is_noticed_when_a_later_segment_was_begun(void **state)
{
    struct jrig *f = *state;
    struct jrig_replay r;
    int segments = jrig_count_names(f->path, ".seg");
    while (jrig_count_names(f->path, ".seg") == segments)
        jrig_append(f->j, 1000);
    journal_close(f->j);
    f->j = NULL;
    char *last = jrig_segment(f->path, 0), *before = jrig_segment(f->path, 1);
    int fd = open(last, O_RDWR);
    static uint8_t zeros[1020];
    assert_int_equal(pwrite(fd, zeros, sizeof zeros, SECTOR_BYTES), sizeof zeros); // its only group: torn
    close(fd);
    char *copy = jrig_copy(f, f->path);
    struct journal *j;
    assert_int_equal(jrig_try_open(&j, copy, JRIG_SEGMENT, &r, NULL), 0);
    journal_close(j);
    tmp_remove(copy);
    jrig_flip(before, SECTOR_BYTES + 1020 * 9 + 700); // and the one before it: that had been acknowledged
    assert_damaged(f->path, strrchr(before, '/') + 1);
    free(last);
    free(before);
}

static void damage_of_the_file_journal_is_reported(void **state)
{
    struct jrig *f = *state;
    five_groups(f);
    for (uint64_t i = 0; i < JOURNAL_FILE_BYTES; i += 5) {
        struct jrig_replay r;
        struct journal *j;
        char *copy = jrig_copy(f, f->path), *name = tmp_path(copy, "JOURNAL");
        jrig_flip(name, i);
        int err = jrig_try_open(&j, copy, JRIG_SEGMENT, &r, NULL);
        assert_true(err == ERR_CORRUPT || (err == ERR_VERSION && i >= 8 && i < 12));
        free(name);
        tmp_remove(copy);
    }
    char *copy = jrig_copy(f, f->path), *name = tmp_path(copy, "JOURNAL");
    unlink(name);
    assert_damaged(copy, "no file JOURNAL");
    free(name);
    tmp_remove(copy);
    copy = jrig_copy(f, f->path), name = jrig_segment(copy, 0);
    unlink(name);
    assert_damaged(copy, "the segments are gone");
    free(name);
    tmp_remove(copy);
}

static void bytes_of_a_user_do_not_pose_as_groups(void **state)
{
    struct jrig *f = *state;
    struct jrig_replay r;
    uint8_t planted[8 * 120] = {0};
    bool unknown;
    jrig_append(f->j, 100);
    jrig_append(f->j, 100);
    // Inside of the payload: a real group of this journal, and ones made with another secret that have numbers to come.
    char *last = jrig_segment(f->path, 0), *forged = tmp_path(f->folder, "forged");
    int fd = open(last, O_RDONLY);
    assert_int_equal(pread(fd, planted, 120, SECTOR_BYTES), 120);
    close(fd);
    fd = open(forged, O_RDWR | O_CREAT, 0600);
    for (uint64_t i = 1; i < 8; i++) {
        struct group_header h = {.number = 2 + i};
        assert_int_equal(group_write(fd, SECTOR_BYTES, &h, SPAN_LIT("forged"), 4711), 0);
        assert_int_equal(pread(fd, planted + i * 120, 28, SECTOR_BYTES), 28);
    }
    close(fd);
    assert_int_equal(journal_append(f->j, SPAN(planted, sizeof planted), &unknown), 0);
    journal_close(f->j);
    f->j = NULL;
    jrig_flip(last, SECTOR_BYTES + 2 * 120 + 14); // the planted group's own header: so every place in it is searched
    assert_int_equal(jrig_try_open(&f->j, f->path, JRIG_SEGMENT, &r, NULL), 0);
    assert_int_equal(r.next, 3);
    free(last);
    free(forged);
}

// A group with this journal's own secret, put behind the last one: it verifies by itself.
static void put_group(struct jrig *f, uint64_t number, uint64_t offset, bool other_life)
{
    char *last = jrig_segment(f->path, 0);
    uint64_t seed = seed_of(f->path, last) + other_life;
    int fd = open(last, O_RDWR);
    assert_int_equal(group_write(fd, offset, &(struct group_header){.number = number}, SPAN_LIT("another"), seed), 0);
    close(fd);
    free(last);
}

static void only_the_groups_successor_is_taken(void **state)
{
    struct jrig *f = *state;
    uint64_t end = five_groups(f) + LARGE;
    put_group(f, 5, end, false); // a stale one: the end
    assert_int_equal(jrig_look(f->path).next, 6);
    end = SECTOR_BYTES + LARGE; // the fresh segment has a copy of the last group alone
    put_group(f, 6, end, true); // left behind by an earlier life of the file
    assert_int_equal(jrig_look(f->path).next, 6);
    for (unsigned gap = 0; gap < 12; gap += 4) {
        put_group(f, gap == 0 ? 7 : 6, end + gap, false); // one that skips a number, or that stands elsewhere
        char words[32];
        snprintf(words, sizeof words, "byte %llu", (unsigned long long)end);
        assert_damaged(f->path, words);
    }
}

static void a_search_finds_a_group_at_any_place(void **state)
{
    struct jrig *f = *state;
    char *name = tmp_path(f->folder, "file");
    struct buf payload;
    int fd = open(name, O_RDWR | O_CREAT, 0600);
    buf_init(&payload, GROUP_BUF_MAX);
    assert_true(fd >= 0);
    for (uint64_t at = 255 * KIB; at < 257 * KIB; at += 36) { // around the end of the first piece that it reads
        uint64_t found = 0;
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(group_write(fd, SECTOR_BYTES + at, &(struct group_header){.number = 9}, SPAN_LIT("here"), 7), 0);
        uint64_t size = SECTOR_BYTES + at + group_bytes(4);
        assert_int_equal(group_find(fd, SECTOR_BYTES, size, 7, 9, &payload, &found), 0);
        assert_int_equal(found, SECTOR_BYTES + at);
        assert_int_equal(group_find(fd, SECTOR_BYTES, size, 7, 10, &payload, &found), ERR_NOT_FOUND);
        assert_int_equal(group_find(fd, SECTOR_BYTES, size, 8, 9, &payload, &found), ERR_NOT_FOUND);
    }
    close(fd);
    buf_free(&payload);
    free(name);
}

static void a_real_later_group_behind_damage_is_found_by_the_search(void **state)
{
    struct jrig *f = *state;
    five_groups(f);
    char *last = jrig_segment(f->path, 0);
    int fd = open(last, O_RDWR);
    static uint8_t zeros[4 * SMALL];
    assert_int_equal(pwrite(fd, zeros, sizeof zeros, SECTOR_BYTES), sizeof zeros); // four groups gone, the fifth is there
    close(fd);
    free(last);
    assert_damaged(f->path, "a later one does");
}

int main(void)
{
    log_set_level(LOG_ERROR);
#define T(name) cmocka_unit_test_setup_teardown(name, jrig_setup, jrig_teardown)
    const struct CMUnitTest tests[] = {
        T(groups_come_back_in_order),
        T(an_empty_journal_opens_again),
        T(the_epoch_is_raised_by_each_opening),
        T(an_append_is_one_write_and_one_barrier),
        T(a_prepared_segment_costs_the_append_no_filling),
        T(the_callers_error_stops_the_opening),
        T(a_group_larger_than_a_segment_fits),
        T(reading_only_touches_nothing),
        T(recycling_keeps_what_is_needed),
        T(keep_all_keeps_all),
#ifdef SEGUE_BUGS
        T(the_planted_bug_recycles_too_early),
#endif
        T(restarts_do_not_pile_up_segments),
        T(stale_groups_are_never_replayed),
        T(a_torn_last_group_is_dropped_and_no_other),
        T(every_flipped_byte_of_a_group_is_noticed),
        T(damage_before_the_end_is_reported_not_skipped),
        T(damage_in_a_copied_tail_is_reported),
        T(damage_in_an_earlier_segment_is_reported),
        T(a_lost_last_group_is_noticed_when_a_later_segment_was_begun),
        T(damage_of_the_file_journal_is_reported),
        T(bytes_of_a_user_do_not_pose_as_groups),
        T(only_the_groups_successor_is_taken),
        T(a_search_finds_a_group_at_any_place),
        T(a_real_later_group_behind_damage_is_found_by_the_search),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
