#include "journal_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk.h"
#include "err.h"
#include "file.h"
#include "tmp.h"

// ---- payloads that tell which group they are of ----------------------------------------------------------------

static uint8_t *payload_make(uint64_t group, size_t n)
{
    uint8_t *p = malloc(n + 1);
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(group * 31 + i * 7 + (i >> 8));
    if (n >= 16) {
        uint64_t n64 = n;
        memcpy(p, &group, 8);
        memcpy(p + 8, &n64, 8);
    }
    return p;
}

int jrig_replay_one(void *ctx, uint64_t group, struct span payload)
{
    struct jrig_replay *r = ctx;
    if (group == r->fail_at) return ERR_BAD_BATCH;
    if (r->next != 0) assert_int_equal(group, r->next);
    if (r->next == 0) r->first = group;
    r->next = group + 1;
    uint8_t *expect = payload_make(group, payload.n);
    if (payload.n > 0) assert_memory_equal(payload.p, expect, payload.n);
    free(expect);
    return 0;
}

// ---- opening ---------------------------------------------------------------------------------------------------

int jrig_try_open(struct journal **j, const char *path, uint64_t bytes, struct jrig_replay *r, struct problem *p)
{
    struct journal_options o = {.path = path, .segment_bytes = bytes};
    struct problem unused = PROBLEM_NONE;
    memset(r, 0, sizeof *r);
    *j = NULL;
    return journal_open(j, &o, jrig_replay_one, r, p != NULL ? p : &unused);
}

void jrig_open(struct jrig *f, struct jrig_replay *r)
{
    struct problem p = PROBLEM_NONE;
    int err = jrig_try_open(&f->j, f->path, JRIG_SEGMENT, r, &p);
    if (err != 0) fail_msg("journal_open: %s: %s", err_wire(err), p.text);
}

void jrig_reopen(struct jrig *f, struct jrig_replay *r)
{
    journal_close(f->j);
    jrig_open(f, r);
}

struct jrig_replay jrig_look(const char *path)
{
    struct jrig_replay r;
    struct journal *j;
    struct problem p = PROBLEM_NONE;
    int err = jrig_try_open(&j, path, JRIG_SEGMENT, &r, &p);
    if (err != 0) fail_msg("journal_open: %s: %s", err_wire(err), p.text);
    assert_int_equal(journal_next_group(j), r.next == 0 ? journal_first_group(j) : r.next);
    journal_close(j);
    return r;
}

int jrig_try_append(struct journal *j, size_t n, bool *unknown)
{
    uint8_t *p = payload_make(journal_next_group(j), n);
    int err = journal_append(j, SPAN(p, n), unknown);
    free(p);
    return err;
}

void jrig_append(struct journal *j, size_t n)
{
    bool unknown = true;
    assert_int_equal(jrig_try_append(j, n, &unknown), 0);
    assert_false(unknown);
}

int jrig_setup(void **state)
{
    struct jrig *f = calloc(1, sizeof *f);
    struct jrig_replay r;
    f->folder = tmp_make();
    f->path = tmp_path(f->folder, "app/journal");
    jrig_open(f, &r);
    assert_int_equal(r.next, 0);
    *state = f;
    return 0;
}

int jrig_teardown(void **state)
{
    struct jrig *f = *state;
    disk_fail_clear();
    journal_close(f->j);
    free(f->path);
    tmp_remove(f->folder);
    free(f);
    return 0;
}

// ---- looking at files ------------------------------------------------------------------------------------------

// Copies a flat folder.
static void copy_folder(const char *from, const char *to)
{
    struct dirent *e;
    DIR *d = opendir(from);
    assert_non_null(d);
    assert_int_equal(mkdir(to, 0700), 0);
    while ((e = readdir(d)) != NULL) {
        if (e->d_name[0] == '.') continue;
        struct buf content;
        buf_init(&content, 1u << 30);
        char *a = tmp_path(from, e->d_name), *b = tmp_path(to, e->d_name);
        assert_int_equal(file_slurp(&content, a), 0);
        FILE *out = fopen(b, "wb");
        assert_int_equal(fwrite(content.p, 1, content.n, out), content.n);
        fclose(out);
        buf_free(&content);
        free(a);
        free(b);
    }
    closedir(d);
}

char *jrig_copy(struct jrig *f, const char *from)
{
    static int number;
    char name[32];
    snprintf(name, sizeof name, "copy%d", number++);
    char *to = tmp_path(f->folder, name);
    copy_folder(from, to);
    return to;
}

char *jrig_segment(const char *folder, int index)
{
    char names[256][32];
    int n = 0;
    struct dirent *e;
    DIR *d = opendir(folder);
    while ((e = readdir(d)) != NULL) {
        if (strstr(e->d_name, ".seg") != NULL) snprintf(names[n++], 32, "%.31s", e->d_name);
    }
    closedir(d);
    qsort(names, (size_t)n, sizeof *names, (int (*)(const void *, const void *))strcmp);
    assert_true(index < n);
    return tmp_path(folder, names[n - 1 - index]);
}

int jrig_count_names(const char *folder, const char *part)
{
    int n = 0;
    struct dirent *e;
    DIR *d = opendir(folder);
    while ((e = readdir(d)) != NULL)
        n += strstr(e->d_name, part) != NULL;
    closedir(d);
    return n;
}

void jrig_flip(const char *path, uint64_t offset)
{
    int fd = open(path, O_RDWR);
    uint8_t b;
    assert_int_equal(pread(fd, &b, 1, (off_t)offset), 1);
    b ^= 0x55;
    assert_int_equal(pwrite(fd, &b, 1, (off_t)offset), 1);
    close(fd);
}

uint64_t jrig_state(const char *folder)
{
    uint64_t sum = 0;
    struct dirent *e;
    DIR *d = opendir(folder);
    while ((e = readdir(d)) != NULL) {
        struct buf content;
        struct stat st;
        if (e->d_name[0] == '.') continue;
        char *path = tmp_path(folder, e->d_name);
        buf_init(&content, 1u << 30);
        assert_int_equal(file_slurp(&content, path), 0);
        assert_int_equal(stat(path, &st), 0);
        uint64_t one = (uint64_t)st.st_mtim.tv_nsec + (uint64_t)st.st_ino;
        for (size_t i = 0; i < content.n; i++)
            one = one * 1099511628211u + content.p[i];
        for (const char *c = e->d_name; *c != '\0'; c++)
            one = one * 31 + (uint8_t)*c;
        sum += one;
        buf_free(&content);
        free(path);
    }
    closedir(d);
    return sum;
}
