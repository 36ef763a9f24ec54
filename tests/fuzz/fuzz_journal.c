// Any bytes behind a valid segment header: opening gives the groups that verify or says what is wrong, and what it gave once it
// gives again.
//
// A checksum stops nearly all inputs at the door, so the first byte may ask to mend them: 1: the checksums of what would be
// groups, one behind the other, 2: their numbers too, 4: the second half is a further segment, whose first group is
// the second byte.
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checksum.h"
#include "err.h"
#include "file.h"
#include "journal.h"
#include "journal_segment.h"
#include "limits.h"
#include "log.h"

#define SEGMENT_BYTES 4096
#define INPUT_MAX (64 * KIB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[256];

static void folder_remove(void)
{
    rmdir(folder);
}

static void folder_make(void)
{
    const char *root = getenv("TMPDIR");
    if (root == NULL) root = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(folder, sizeof folder, "%s/segue-fuzz-XXXXXX", root);
    if (mkdtemp(folder) == NULL) abort();
    atexit(folder_remove);
    log_set_level(LOG_ERROR);
}

static void folder_clear(void)
{
    static const char *const fixed[] = {"JOURNAL", "JOURNAL.tmp", "0.spare", "1.spare", "fill.tmp", "fresh.tmp"};
    char path[512], name[SEGMENT_NAME_BYTES];
    for (unsigned i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, fixed[i]);
        unlink(path);
    }
    for (uint64_t n = 1; n <= 12; n++) {
        segment_name(name, n);
        snprintf(path, sizeof path, "%s/%s", folder, name);
        unlink(path);
    }
}

static void mend(uint8_t *p, size_t n, bool numbers, uint64_t seed)
{
    uint32_t number = 1, length, check;
    uint64_t sum;
    for (size_t at = 0; at + GROUP_HEADER_BYTES <= n; at += group_bytes(length), number++) {
        uint8_t *h = p + at;
        memcpy(&length, h, 4);
        if (length > n - at - GROUP_HEADER_BYTES) break;
        if (numbers) memcpy(h + 4, &number, 4);
        check = (uint32_t)(checksum64(SPAN(h, 8), seed) >> 32);
        memcpy(h + 8, &check, 4);
        sum = checksum64_two(SPAN(h, 12), SPAN(h + GROUP_HEADER_BYTES, length), seed);
        memcpy(h + 12, &sum, 8);
    }
}

static void segment_put(const struct journal_file *f, uint64_t number, uint64_t first, const uint8_t *p, size_t n)
{
    char path[512], name[SEGMENT_NAME_BYTES];
    uint8_t sector[SECTOR_BYTES];
    struct segment_header h = {.id = f->id, .number = number, .epoch = 3, .first = first};
    segment_name(name, number);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    segment_header_encode(sector, &h, journal_file_seed(f));
    int fd = file_open(path, O_WRONLY | O_CREAT | O_TRUNC);
    if (fd < 0 || file_write(fd, SPAN(sector, sizeof sector), 0) != 0 || file_write(fd, SPAN(p, n), sizeof sector) != 0) abort();
    file_close(fd);
}

static int replay(void *ctx, uint64_t group, struct span payload)
{
    uint64_t *sum = ctx; // number of groups and a checksum of all
    assert(sum[0] == 0 || group == sum[2] + 1);
    sum[0]++;
    sum[1] = checksum64(payload, sum[1] ^ group);
    sum[2] = group;
    return 0;
}

static int open_once(struct journal **j, uint64_t sum[3])
{
    struct journal_options o = {.path = folder, .segment_bytes = SEGMENT_BYTES};
    struct problem p = PROBLEM_NONE;
    memset(sum, 0, 3 * sizeof *sum);
    int err = journal_open(j, &o, replay, sum, &p);
    assert(err == p.err && (err == 0 || p.text[0] != '\0'));
    assert(err == 0 || err == ERR_CORRUPT);
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct journal_file f = {.secret = "sixteen bytes!!", .epoch = 3};
    uint8_t file[JOURNAL_FILE_BYTES];
    char path[512];
    struct journal *j = NULL;
    uint64_t sum[3], again[3];
    bool unknown;
    if (size < 2 || size > INPUT_MAX) return 0;
    if (folder[0] == '\0') folder_make();

    size_t n = size - 2, half = (data[0] & 4) != 0 ? n / 2 / SECTOR_BYTES * SECTOR_BYTES : n;
    uint8_t *content = malloc(n + 1);
    if (content == NULL) abort();
    memcpy(content, data + 2, n);
    if ((data[0] & 3) != 0) mend(content, n, (data[0] & 2) != 0, segment_seed(0, journal_file_seed(&f)));
    journal_file_encode(file, &f);
    snprintf(path, sizeof path, "%s/JOURNAL", folder);
    if (file_replace(path, SPAN(file, sizeof file)) != 0) abort();
    segment_put(&f, 1, 1, content, half);
    if ((data[0] & 4) != 0) segment_put(&f, 2, data[1], content + half, n - half);
    free(content);

    if (open_once(&j, sum) == 0) {
        journal_close(j);
        assert(open_once(&j, again) == 0 && memcmp(sum, again, sizeof sum) == 0);
        assert(journal_append(j, SPAN_LIT("next"), &unknown) == 0);
        journal_close(j);
        assert(open_once(&j, again) == 0 && again[0] == sum[0] + 1);
        journal_close(j);
    }
    folder_clear();
    return 0;
}
