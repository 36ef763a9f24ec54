// Deciding is a pure function of the state and the entry: a journal decided again in an empty folder comes to the same fates, effects
// and state. And a journal of an earlier build, kept as a fixture, still opens to the state it was written with.
//
// The fixture is made anew by SEGUE_MAKE_GOLDEN=1 (see the_golden_journal_still_opens): only with a new version of the format, beside the old one.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "app_lab.h"
#include "entry.h"
#include "err.h"
#include "file.h"
#include "journal.h"
#include "tmp.h"

#define WORK 60
#define GOLDEN "tests/fixtures/golden-v1"
#define GOLDEN_WORK 36

// The payloads of a journal's groups.
struct groups {
    struct buf *list;
    size_t count;
};

static int keep_group(void *ctx, uint64_t group, struct span payload)
{
    struct groups *g = ctx;
    assert_int_equal(group, g->count + 1);
    g->list = realloc(g->list, (g->count + 1) * sizeof *g->list);
    buf_init(&g->list[g->count], GROUP_BYTES_MAX);
    buf_put_span(&g->list[g->count++], payload);
    return 0;
}

static struct groups groups_of(const char *app_path)
{
    struct groups g = {0};
    struct journal *j;
    struct problem p = PROBLEM_NONE;
    char *path = tmp_path(app_path, "journal");
    int err = journal_open(&j, &(struct journal_options){.path = path, .segment_bytes = LAB_SEGMENT, .read_only = true}, keep_group, &g, &p);
    if (err != 0) print_message("%s\n", p.text);
    assert_int_equal(err, 0);
    journal_close(j);
    free(path);
    return g;
}

static void groups_free(struct groups *g)
{
    for (size_t i = 0; i < g->count; i++)
        buf_free(&g->list[i]);
    free(g->list);
}

struct stage {
    struct app_lab lab; // closed
    struct groups groups;
    char hash[65];
};

// The workload's fates, in its rounds of twelve.
static void work(struct app_lab *l, unsigned i)
{
    static const int fates[12] = {0, 0, 0, 0, ERR_NOT_NULL, ERR_NO_SUCH_TABLE, 0, 0, 0, 0, 0, ERR_STREAM_CLOSED};
    int err = lab_workload(l, i);
    if (err != (i % 36 == 35 ? 0 : fates[i % 12])) print_message("batch %u: %s (%s)\n", i, err_wire(err), l->last.fate.problem.text);
    assert_int_equal(err, i % 36 == 35 ? 0 : fates[i % 12]);
}

static int setup(void **state)
{
    struct stage *s = calloc(1, sizeof *s);
    app_lab_init(&s->lab);
    s->lab.options.journal_keep_all = true;
    app_lab_open(&s->lab);
    assert_int_equal(lab_schema(&s->lab, lab_workload_schema), 0);
    for (unsigned i = 0; i < WORK; i++) {
        work(&s->lab, i);
        if (i % 10 == 9) assert_int_equal(lab_seal(&s->lab), 0);
        if (i % 8 == 7) lab_settle(&s->lab);
        if (i % 20 == 19) app_lab_reopen(&s->lab);
    }
    assert_true(rows_horizon(app_rows(s->lab.app)) > 0); // the workload moved it
    lab_hash(&s->lab, s->hash);
    app_lab_close(&s->lab);
    s->groups = groups_of(s->lab.path);
    assert_true(s->groups.count > WORK);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct stage *s = *state;
    groups_free(&s->groups);
    app_lab_free(&s->lab);
    free(s);
    return 0;
}

static void a_journal_decided_again_comes_to_the_same(void **state)
{
    struct stage *s = *state;
    struct app_lab fresh;
    struct problem p = PROBLEM_NONE;
    char hash[65];
    app_lab_init(&fresh);
    app_lab_open(&fresh);
    for (size_t i = 0; i < s->groups.count; i++) {
        int err = app_redecide(fresh.app, buf_span(&s->groups.list[i]), &p);
        if (err != 0) print_message("group %zu: %s\n", i + 1, p.text);
        assert_int_equal(err, 0);
    }
    lab_hash(&fresh, hash);
    assert_string_equal(hash, s->hash);
    app_lab_free(&fresh);
}

// ---- one thing is changed ------------------------------------------------------------------------------------------

// What is changed in an entry. False: it has no such thing.
typedef bool change_fn(struct entry *e, uint8_t *room);

static bool flip(struct span *s, uint8_t *room)
{
    if (s->n == 0 || s->n > MIB) return false;
    memcpy(room, s->p, s->n);
    room[s->n / 2] ^= 4;
    s->p = room;
    return true;
}

static bool flip_rows(struct entry *e, uint8_t *room)
{
    return flip(&e->rows, room);
}

static bool flip_streams(struct entry *e, uint8_t *room)
{
    return flip(&e->streams, room);
}

static bool flip_blobs(struct entry *e, uint8_t *room)
{
    return flip(&e->blobs, room);
}

static bool flip_jobs(struct entry *e, uint8_t *room)
{
    return flip(&e->jobs, room);
}

static bool flip_results(struct entry *e, uint8_t *room)
{
    return flip(&e->fate.results, room);
}

static bool flip_position(struct entry *e, uint8_t *room)
{
    (void)room;
    if (e->fate.err != 0) e->fate.problem.position++;
    return e->fate.err != 0;
}

static bool drop_effects(struct entry *e, uint8_t *room)
{
    (void)room;
    bool any = e->rows.n + e->streams.n + e->blobs.n > 0;
    e->rows = e->streams = e->blobs = SPAN_NONE;
    return any;
}

static bool flip_fate(struct entry *e, uint8_t *room)
{
    (void)room;
    if (e->fate.err == 0) return false;
    e->fate.err = e->fate.problem.err = ERR_ROW_EXISTS;
    return true;
}

// Decides all groups again, the entry that `change` can change for the `skip`-th time being changed. False: there was none.
static bool decide_changed(const struct stage *s, change_fn *change, size_t skip)
{
    struct app_lab fresh;
    struct problem p = PROBLEM_NONE;
    uint8_t *room = malloc(MIB);
    int err = 0;
    bool changed = false;
    char seq[40];
    app_lab_init(&fresh);
    app_lab_open(&fresh);
    for (size_t i = 0; i < s->groups.count && !changed; i++) {
        struct buf group;
        struct entry e;
        struct entry_place place = {0};
        struct entry_reader reader;
        entry_reader_init(&reader, buf_span(&s->groups.list[i]));
        buf_init(&group, GROUP_BYTES_MAX);
        while (entry_read(&reader, &e) == 1) {
            struct entry was = e;
            if (!changed && change(&e, room)) {
                changed = skip == 0;
                if (!changed) e = was;
                if (!changed) skip--;
            }
            entry_put(&group, &place, &e);
        }
        snprintf(seq, sizeof seq, "commit %llu", (unsigned long long)app_visible(fresh.app));
        err = app_redecide(fresh.app, buf_span(&group), &p);
        buf_free(&group);
        if (!changed) assert_int_equal(err, 0);
    }
    if (changed) {
        assert_int_equal(err, ERR_CORRUPT);
        assert_non_null(strstr(p.text, seq)); // it says where
    }
    app_lab_free(&fresh);
    free(room);
    return changed;
}

static void one_changed_effect_makes_it_fail(void **state)
{
    static change_fn *const changes[] = {flip_rows, flip_streams, flip_blobs, flip_jobs, flip_results, flip_position, flip_fate, drop_effects};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        assert_true(decide_changed(*state, changes[i], 0));
        decide_changed(*state, changes[i], 2);
        decide_changed(*state, changes[i], 7);
    }
}

static void a_damaged_entry_makes_it_fail(void **state)
{
    struct stage *s = *state;
    struct app_lab fresh;
    struct problem p = PROBLEM_NONE;
    app_lab_init(&fresh);
    app_lab_open(&fresh);
    struct span whole = buf_span(&s->groups.list[0]);
    assert_int_equal(app_redecide(fresh.app, span_sub(whole, 0, whole.n - 1), &p), ERR_CORRUPT);
    assert_non_null(strstr(p.text, "commit 0"));
    app_lab_free(&fresh);
}

// ---- the golden journal --------------------------------------------------------------------------------------------

static void golden_file(char path[300], const char *name)
{
    snprintf(path, 300, "%s/%s", GOLDEN, name);
}

static void keep_folder(const struct app_lab *l, const char *name)
{
    char to[300];
    char *from = tmp_path(l->path, name);
    golden_file(to, name);
    folder_copy(from, to);
    free(from);
}

static void make_golden(void)
{
    struct app_lab l;
    char hash[65], path[300];
    app_lab_init(&l);
    l.options.journal_keep_all = true;
    app_lab_open(&l);
    assert_int_equal(lab_schema(&l, lab_workload_schema), 0);
    for (unsigned i = 0; i < GOLDEN_WORK; i++)
        work(&l, i);
    lab_hash(&l, hash);
    uint64_t seq = app_visible(l.app);
    app_lab_close(&l);
    assert_int_equal(mkdir(GOLDEN, 0755), 0);
    keep_folder(&l, "journal");
    keep_folder(&l, "packs");
    golden_file(path, "state.txt");
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "seq %llu\nhash %s\n", (unsigned long long)seq, hash);
    fclose(f);
    app_lab_free(&l);
}

static void golden_open(struct app_lab *l, unsigned long long *seq, char hash[65])
{
    static const char *const folders[] = {"journal", "packs"};
    char path[300];
    app_lab_init(l);
    mkdir(l->path, 0700);
    for (size_t i = 0; i < 2; i++) {
        char *to = tmp_path(l->path, folders[i]);
        golden_file(path, folders[i]);
        folder_copy(path, to);
        free(to);
    }
    golden_file(path, "state.txt");
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "seq %llu\nhash %64s", seq, hash), 2);
    fclose(f);
    app_lab_open(l);
}

static void the_golden_journal_still_opens(void **state)
{
    (void)state;
    struct app_lab l;
    unsigned long long seq;
    char expected[65], hash[65];
    uint64_t checked;
    if (getenv("SEGUE_MAKE_GOLDEN") != NULL) make_golden();
    golden_open(&l, &seq, expected);
    lab_hash(&l, hash);
    assert_string_equal(hash, expected);
    assert_int_equal(app_visible(l.app), seq);
    // Some of what is in it, as the workload made it.
    assert_true(lab_rows_are(&l, "select title from chats order by title limit 1", "[{'id':'01890a5d-ac96-774b-bcce-000001000000','title':'chat 0'}]"));
    assert_true(lab_rows_are(&l, "select status, done, tokens, score, meta from messages where score > 0.1 order by id limit 1",
                             "[{'id':'01890a5d-ac96-774b-bcce-000002000001','status':'done','done':true,'tokens':9,'score':0.25,'meta':{'n':[1,1.5]}}]"));
    assert_true(lab_stream_is(&l, "rows/messages/01890a5d-ac96-774b-bcce-000002000001/body", "Hello, token 2, token 3"));
    assert_int_equal(blobs_check(app_blobs(l.app), app_txn(l.app), &checked), 0);
    assert_int_equal(checked, GOLDEN_WORK / 12);
    // Fates stand: of a replica, of a key, and a rejection.
    assert_int_equal(lab_workload(&l, 0), 0);
    assert_true(l.last.fate.again);
    assert_int_equal(lab_workload(&l, 1), 0);
    assert_true(l.last.fate.again);
    assert_int_equal(lab_workload(&l, 5), ERR_NO_SUCH_TABLE);
    assert_true(l.last.fate.again);
    app_lab_free(&l);
}

static void the_golden_journal_is_decided_the_same(void **state)
{
    (void)state;
    struct app_lab l, fresh;
    struct problem p = PROBLEM_NONE;
    unsigned long long seq;
    char expected[65], hash[65];
    golden_open(&l, &seq, expected);
    app_lab_close(&l);
    struct groups g = groups_of(l.path);
    app_lab_init(&fresh);
    app_lab_open(&fresh);
    for (size_t i = 0; i < g.count; i++)
        assert_int_equal(app_redecide(fresh.app, buf_span(&g.list[i]), &p), 0);
    lab_hash(&fresh, hash);
    assert_string_equal(hash, expected);
    groups_free(&g);
    app_lab_free(&fresh);
    app_lab_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_journal_decided_again_comes_to_the_same, setup, teardown),
        cmocka_unit_test_setup_teardown(one_changed_effect_makes_it_fail, setup, teardown),
        cmocka_unit_test_setup_teardown(a_damaged_entry_makes_it_fail, setup, teardown),
        cmocka_unit_test(the_golden_journal_still_opens),
        cmocka_unit_test(the_golden_journal_is_decided_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
