// A bit that flips anywhere in a database's pages is found: by the check of pages, or by the checksum of the one value that has it; or it lies where nobody
// reads, and all is as it was. Never does it kill who looks.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "buf.h"
#include "db.h"
#include "err.h"
#include "file.h"
#include "limits.h"
#include "log.h"
#include "tmp.h"

enum { SMALL, LARGE, TABLES };
static const char *const tables[] = {"small", "large"};

#define KEYS 3000
#define FLIPS 400
#define PAGE 4096

struct fix {
    char *folder;
    char *path;
    struct db *db;
    uint32_t versions[TABLES][KEYS]; // what each key's value was made from; 0: none
};

static struct db *open_db(const char *path)
{
    struct db *db = NULL;
    struct db_options o = {.path = path, .map_bytes = 256 * MIB, .tables = tables, .table_count = TABLES, .summed = 3};
    return db_open(&db, &o) == 0 ? db : NULL;
}

static struct span key_of(uint8_t room[40], uint32_t k)
{
    return SPAN(room, (size_t)snprintf((char *)room, 40, "%08x%0*u", k * 2654435761u, (int)(k % 25) + 1, k));
}

static size_t value_of(uint8_t *room, int table, uint32_t k, uint32_t version)
{
    size_t n = table == SMALL ? 1 + (k * 7 + version) % 200 : 1000 + (k * 131 + version * 17) % 9000;
    for (size_t i = 0; i < n; i++)
        room[i] = (uint8_t)(k + version * 31 + i * 7);
    return n;
}

static uint64_t next(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

// Puts and deletes over many transactions: there are branches, values of several pages, and free pages in long lists.
static void fill(struct fix *f)
{
    uint64_t seed = 11;
    uint8_t room[40], value[16 * KIB];
    for (uint32_t round = 1; round < 60; round++) {
        struct db_txn *t = db_begin_write(f->db);
        for (int i = 0; i < 200; i++) {
            int table = next(&seed) % 4 == 0 ? LARGE : SMALL;
            uint32_t k = (uint32_t)(next(&seed) % (table == LARGE ? KEYS / 10 : KEYS));
            bool gone = next(&seed) % 4 == 0;
            f->versions[table][k] = gone ? 0 : round;
            if (gone) db_del(t, table, key_of(room, k));
            else db_put(t, table, key_of(room, k), SPAN(value, value_of(value, table, k, round)));
        }
        assert_int_equal(db_commit(t), 0);
    }
    assert_int_equal(db_sync(f->db), 0);
}

static int setup(void **state)
{
    struct fix *f = calloc(1, sizeof *f);
    f->folder = tmp_make();
    f->path = tmp_path(f->folder, "db");
    f->db = open_db(f->path);
    assert_non_null(f->db);
    fill(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fix *f = *state;
    db_close(f->db);
    free(f->path);
    tmp_remove(f->folder);
    free(f);
    return 0;
}

static int check(struct db *db, uint64_t *damaged)
{
    struct db_txn *t = db_begin_read(db);
    int err = db_pages_check(t, damaged, NULL, NULL);
    db_abort(t);
    return err;
}

// Every key reads as it was written, or as damaged (*damaged); and so does a walk over all.
static bool reads_right(const struct fix *f, struct db *db, uint64_t *damaged)
{
    struct db_txn *t = db_begin_read(db);
    uint8_t room[40], value[16 * KIB];
    bool right = true;
    for (int table = 0; table < TABLES; table++) {
        struct db_iter it;
        size_t walked = 0, there = 0;
        for (uint32_t k = 0; k < KEYS; k++) {
            struct span is;
            bool found = db_get(t, table, key_of(room, k), &is);
            right = right && found == (f->versions[table][k] != 0);
            there += f->versions[table][k] != 0;
            *damaged += found && is.n == 0;
            if (found && is.n > 0) right = right && span_equal(is, SPAN(value, value_of(value, table, k, f->versions[table][k])));
        }
        db_iter_init(&it, t, table);
        for (bool more = db_iter_first(&it); more; more = db_iter_next(&it))
            walked++, *damaged += it.value.n == 0; // a key that flipped is met here alone
        db_iter_end(&it);
        right = right && walked == there;
    }
    right = right && db_txn_err(t) == 0;
    db_abort(t);
    return right;
}

// In a process of its own, as the next start would find it. 0: found; 1: nothing is wrong; else: something is, and nobody noticed.
static int look(const struct fix *f)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        uint64_t damaged = 0, unreadable = 0;
        log_set_level(LOG_ERROR);
        FILE *null = freopen("/dev/null", "w", stderr);
        struct db *db = null != NULL ? open_db(f->path) : NULL;
        if (db == NULL || check(db, &damaged) != 0 || damaged > 0) _exit(0);
        if (!reads_right(f, db, &unreadable)) _exit(unreadable > 0 ? 0 : 2);
        _exit(unreadable > 0 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

// ---- claims ------------------------------------------------------------------------------------------------------

static void sound_pages_are_sound(void **state)
{
    struct fix *f = *state;
    uint64_t damaged = 1, unreadable = 0;
    assert_int_equal(check(f->db, &damaged), 0);
    assert_int_equal(damaged, 0);
    assert_true(reads_right(f, f->db, &unreadable) && unreadable == 0);
}

// The snapshot's pages stay as they are while others commit.
static void pages_are_checked_while_others_write(void **state)
{
    struct fix *f = *state;
    uint64_t damaged = 1;
    struct db_txn *snapshot = db_begin_read(f->db);
    struct db_txn *t = db_begin_write(f->db);
    for (uint32_t k = 0; k < 500; k++)
        db_put(t, SMALL, key_of((uint8_t[40]){0}, k), SPAN_LIT("new"));
    assert_int_equal(db_commit(t), 0);
    assert_int_equal(db_pages_check(snapshot, &damaged, NULL, NULL), 0);
    assert_int_equal(damaged, 0);
    t = db_begin_write(f->db);
    db_put(t, SMALL, SPAN_LIT("k"), SPAN_LIT("newer"));
    assert_int_equal(db_commit(t), 0);
    assert_int_equal(db_pages_check(snapshot, &damaged, NULL, NULL), ERR_BUSY); // its meta page is another's now
    db_abort(snapshot);
}

static void any_bit_that_flips_is_found_or_does_no_harm(void **state)
{
    struct fix *f = *state;
    char *file = tmp_path(f->path, "data.mdb");
    struct buf data;
    uint64_t seed = 5;
    size_t found = 0;
    db_close(f->db);
    buf_init(&data, 256 * MIB);
    assert_int_equal(file_slurp(&data, file), 0);
    FILE *out = fopen(file, "r+b");
    assert_non_null(out);
    for (int i = 0; i < FLIPS; i++) {
        // Heads and offsets of nodes are few among all bytes: half of the flips are there.
        size_t at = 2 * PAGE + next(&seed) % (data.n - 2 * PAGE);
        if (i % 2 == 0) at = at / PAGE * PAGE + next(&seed) % 64;
        uint8_t flipped = data.p[at] ^ (uint8_t)(1u << next(&seed) % 8);
        assert_int_equal(fseek(out, (long)at, SEEK_SET), 0);
        assert_int_equal(fputc(flipped, out), flipped);
        fflush(out);
        int got = look(f);
        if (got > 1) fail_msg("byte %zu of page %zu: %d", at % PAGE, at / PAGE, got);
        found += got == 0;
        assert_int_equal(fseek(out, (long)at, SEEK_SET), 0);
        fputc(data.p[at], out);
        fflush(out);
    }
    fclose(out);
    assert_true(found > FLIPS / 4);
    assert_int_equal(look(f), 1);
    f->db = open_db(f->path);
    assert_non_null(f->db);
    buf_free(&data);
    free(file);
}

// The newer of the two meta pages.
static const uint8_t *meta_of(const struct buf *data, uint64_t *txn)
{
    uint64_t of[2];
    for (size_t i = 0; i < 2; i++)
        memcpy(&of[i], data->p + i * PAGE + 144, sizeof of[i]);
    *txn = of[1] > of[0] ? of[1] : of[0];
    return data->p + (of[1] > of[0] ? PAGE : 0);
}

// The first page that has one value, which fits into it.
static uint64_t overflow_page(const struct buf *data)
{
    for (uint64_t page = 2; page < data->n / PAGE; page++) {
        uint16_t flags;
        uint32_t count;
        memcpy(&flags, data->p + page * PAGE + 10, sizeof flags);
        memcpy(&count, data->p + page * PAGE + 12, sizeof count);
        if (flags == 4 && count == 1) return page;
    }
    fail_msg("no value has a page of its own");
    return 0;
}

// A table's tree lies in its node. One that says otherwise has but a number there, at the page's end.
static void tree_that_says_it_lies_elsewhere_is_named(void **state)
{
    struct fix *f = *state;
    char *file = tmp_path(f->path, "data.mdb");
    struct buf data;
    uint64_t txn, root, damaged = 0;
    buf_init(&data, 256 * MIB);
    assert_int_equal(file_slurp(&data, file), 0);
    memcpy(&root, meta_of(&data, &txn) + 128, sizeof root); // of the tables' tree
    uint64_t value = overflow_page(&data);
    uint8_t *page = data.p + root * PAGE, *node = page + PAGE - 17;
    const uint16_t at = PAGE - 17, head[4] = {48, 0, 3, 1};
    memcpy(page + 16, &at, sizeof at);
    memcpy(node, head, sizeof head);
    node[8] = 'a';
    memcpy(node + 9, &value, sizeof value);
    char *changed = tmp_path(f->folder, "changed");
    FILE *out = fopen(changed, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(data.p, 1, data.n, out), data.n);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(db_file_check(changed, PAGE, txn, &damaged, NULL, NULL), 0);
    assert_true(damaged > 0);
    buf_free(&data);
    free(changed);
    free(file);
}

int main(void)
{
    log_set_level(LOG_ERROR);
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(sound_pages_are_sound),
        T(pages_are_checked_while_others_write),
        T(any_bit_that_flips_is_found_or_does_no_harm),
        T(tree_that_says_it_lies_elsewhere_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
