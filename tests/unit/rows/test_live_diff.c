// Random queries of random tables that are followed while random batches come. Each query has several readers, who read at times of their own, in ranges of their
// own, leave, and come back by their cursor; whenever one is at a seq, what it holds is what the query gives when it is run afresh as of that seq, in the same
// order and in the same bytes. SEED=n repeats one world, RUNS=n makes more of them, DURATION_S=n as many as there is time for. Of a world that goes wrong, as much is left out
// as can be, and the rest is printed.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "err.h"
#include "file.h"
#include "live_script.h"
#include "query.h"

#define RUNS_DEFAULT 150
#define PARTS_MAX (LIVE_BATCHES * 16)
#define PATIENCE_S 300 // of one world: it hangs

// Near reads each commit, far lags and comes and goes, late begins at an earlier seq.
enum { NEAR, FAR, LATE, READERS };

struct live_reader {
    struct rows_reader r;
    bool holds;      // something, as of r.seq
    uint64_t unread; // attached at this seq, and nothing read since: whether the feed was touched says nothing yet
};

struct followed {
    const struct live_query *text;
    struct query *q, *plain; // followed; and one that nobody follows
    struct live_reader readers[READERS];
    bool skipped;
    char *fresh; // as of fresh_at
    uint64_t fresh_at;
};

// What all worlds came to, in memory that the children share.
struct totals {
    uint64_t rounds, checks, changes, resets, resumes, followed, skipped;
    uint64_t skipped_grouped, skipped_joined, skipped_within, skipped_other;
};
static struct totals *totals;

struct world {
    struct rows_rig g;
    const struct live_script *s;
    struct followed queries[LIVE_QUERIES];
};

// ---- chance --------------------------------------------------------------------------------------------------------

// From what was decided with the script alone, so that the same things happen whatever is left out of it.
static uint64_t chance(const struct live_batch *b, size_t query, size_t reader, unsigned what)
{
    uint64_t x = b->dice + query * 0x9e3779b97f4a7c15u + reader * 0xc2b2ae3d27d4eb4fu + what * 0x165667b19e3779f9u;
    x ^= x >> 31, x *= 0x7fb5d329728ea185u, x ^= x >> 27, x *= 0x81dadef4bc2dd44du, x ^= x >> 33;
    return x;
}

// ---- what should be held -------------------------------------------------------------------------------------------

static int compare_lines(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// The lines of a text in their order as bytes; the text is taken over.
static char *sorted(char *text)
{
    size_t n = 0, length = strlen(text);
    for (const char *c = text; *c; c++)
        n += *c == '\n';
    char **lines = malloc((n + 1) * sizeof *lines), *rest = text, *out = malloc(length + 1), *end = out;
    assert_true(lines && out);
    for (size_t i = 0; i < n; i++)
        lines[i] = strsep(&rest, "\n");
    if (n > 1) qsort(lines, n, sizeof *lines, compare_lines);
    for (size_t i = 0; i < n; i++)
        end += sprintf(end, "%s\n", lines[i]);
    *end = 0;
    free(lines);
    free(text);
    return out;
}

static char *run_text(struct world *w, struct query *q, uint64_t at, int *err)
{
    struct buf rows;
    struct problem p;
    *err = rr_run(&w->g, q, at, &rows, &p);
    buf_put_u8(&rows, 0);
    assert_int_equal(rows.err, 0);
    char *text = strdup((char *)rows.p);
    buf_free(&rows);
    return text;
}

static char *fresh_text(struct world *w, struct followed *f, uint64_t at)
{
    int err;
    char *text = run_text(w, f->q, at, &err);
    if (err) fail_msg("%s: as of %llu, run afresh: %s", f->text->sql, (unsigned long long)at, err_wire(err));
    return f->text->ordered ? text : sorted(text);
}

// With their names, as a run of a keyed query gives them, or alone.
static char *held_text(const struct followed *f, const struct rows_reader *r, bool names)
{
    struct buf text;
    buf_init(&text, 64 * MIB);
    for (size_t i = 0; i < r->n; i++) {
        if (r->keyed && names) buf_printf(&text, "{\"key\":\"%s\",\"row\":%s}\n", r->names[i], r->rows[i]);
        else buf_printf(&text, "%s\n", r->rows[i]);
    }
    buf_put_u8(&text, 0);
    assert_int_equal(text.err, 0);
    char *out = strdup((char *)text.p);
    buf_free(&text);
    return f->text->ordered && names ? out : sorted(out);
}

static void expect_same(const struct followed *f, const struct live_reader *reader, const char *what, const char *held, const char *expected)
{
    static const char *const names[] = {"near", "far", "late"};
    if (strcmp(held, expected) == 0) return;
    fail_msg("%s\n  as of %llu the reader %s holds\n%s\n  and %s gives\n%s", f->text->sql, (unsigned long long)reader->r.seq, names[reader - f->readers], held, what,
             expected);
}

static void check(struct world *w, struct followed *f, const struct live_reader *reader)
{
    char *held = held_text(f, &reader->r, true);
    if (!f->fresh || f->fresh_at != reader->r.seq) {
        free(f->fresh);
        f->fresh = fresh_text(w, f, reader->r.seq);
        f->fresh_at = reader->r.seq;
    }
    expect_same(f, reader, "the query, run afresh,", held, f->fresh);
    free(held);
    totals->checks++;
}

// Beside the same query as somebody asks it once.
static void check_plain(struct world *w, struct followed *f, const struct live_reader *reader)
{
    int err;
    if (!f->text->total) return;
    char *held = held_text(f, &reader->r, false), *plain = sorted(run_text(w, f->plain, reader->r.seq, &err));
    assert_int_equal(err, 0);
    expect_same(f, reader, "the query, asked once,", held, plain);
    free(held);
    free(plain);
}

// ---- readers -------------------------------------------------------------------------------------------------------

static void leave(struct live_reader *reader)
{
    if (reader->r.sub) rr_leave(&reader->r);
}

static void snapshot(struct world *w, struct followed *f, struct live_reader *reader, uint64_t at, size_t budget)
{
    int err = rr_try_snapshot(&w->g, &reader->r, at, budget);
    if (err) fail_msg("%s\n  a snapshot as of %llu: %s", f->text->sql, (unsigned long long)at, err_wire(err));
    reader->holds = true;
}

// Is it there, now? It may be that nobody can follow such a query yet.
static bool come(struct world *w, struct followed *f, struct live_reader *reader)
{
    if (f->skipped || reader->r.sub) return !f->skipped;
    reader->r.ordered = f->text->ordered;
    reader->r.keyed = query_keyed(f->q);
    if (!reader->r.log.max) buf_init(&reader->r.log, 64 * MIB);
    w->g.p = PROBLEM_NONE;
    int err = rr_return(&w->g, &reader->r, f->q);
    if (err && err != ERR_UNSUPPORTED_SQL) fail_msg("%s\n  cannot be followed: %s", f->text->sql, err_wire(err));
    f->skipped = err != 0;
    reader->unread = w->g.seq;
    totals->resumes += !err && reader->holds;
    return !err;
}

static void read_to(struct world *w, struct followed *f, struct live_reader *reader, uint64_t to)
{
    uint64_t from = reader->r.seq;
    if (from == to) return;
    // As a session does it: a feed that was not touched since is not read.
    bool untouched = !reader->unread && reader->r.sub->changed <= from;
    int err = untouched ? 0 : rr_read(&w->g, &reader->r, to);
    if (to == w->g.seq) reader->unread = 0;
    reader->r.seq = to;
    totals->changes += reader->r.changes;
    reader->r.changes = 0;
    buf_clear(&reader->r.log);
    if (!err) return;
    if (err != ERR_TOO_OLD || from >= rows_horizon(w->g.r))
        fail_msg("%s\n  (%llu, %llu] gave %s", f->text->sql, (unsigned long long)from, (unsigned long long)to, err_wire(err));
    snapshot(w, f, reader, w->g.seq, 200);
    totals->resets++;
}

static void near(struct world *w, struct followed *f, struct live_reader *reader, uint64_t dice)
{
    if (!come(w, f, reader)) return;
    if (!reader->holds) snapshot(w, f, reader, w->g.seq, dice % 300);
    read_to(w, f, reader, w->g.seq);
    check(w, f, reader);
    if (dice % 4 == 0) check_plain(w, f, reader);
}

static void read_some(struct world *w, struct followed *f, struct live_reader *reader, uint64_t dice)
{
    uint64_t from = reader->r.seq, reached = w->g.seq;
    if (from == w->g.seq) return;
    if (dice % 3 == 0) {
        int err = reader->r.sub->feed->ops->reach(reader->r.sub, w->g.txn, from, w->g.seq, dice % 2000, &reached);
        if (err == ERR_TOO_OLD && from < rows_horizon(w->g.r)) reached = w->g.seq;
        else if (err) fail_msg("%s\n  how far from %llu: %s", f->text->sql, (unsigned long long)from, err_wire(err));
        assert_in_range(reached, from + 1, w->g.seq);
    } else if (dice % 3 == 1) {
        reached = from + 1 + dice / 3 % (w->g.seq - from);
    }
    read_to(w, f, reader, reached);
    if (reader->r.seq >= rows_horizon(w->g.r)) check(w, f, reader);
}

static void far(struct world *w, struct followed *f, struct live_reader *reader, uint64_t dice)
{
    if (!reader->r.sub && dice % 3 != 0) return;
    if (!come(w, f, reader)) return;
    if (!reader->holds) snapshot(w, f, reader, w->g.seq, dice % 300);
    if (dice / 3 % 5 == 0) leave(reader);
    else if (dice / 3 % 5 < 3) read_some(w, f, reader, dice / 15);
}

static void late(struct world *w, struct followed *f, struct live_reader *reader, uint64_t dice)
{
    uint64_t oldest = rows_horizon(w->g.r) > 0 ? rows_horizon(w->g.r) : 1;
    if (!reader->r.sub) {
        if (dice % 5 != 0 || !come(w, f, reader)) return;
        snapshot(w, f, reader, oldest + dice / 5 % (w->g.seq - oldest + 1), dice % 700);
        check(w, f, reader);
        return;
    }
    if (dice % 7 < 4) read_some(w, f, reader, dice / 7);
    if (dice % 7 == 6) leave(reader);
}

// ---- a world -------------------------------------------------------------------------------------------------------

static struct query *compile(struct world *w, const char *sql)
{
    struct query *q = rr_compile(&w->g, sql);
    return q;
}

static void count_skipped(const struct followed *f)
{
    const struct plan *plan = f->q->plan;
    totals->skipped++;
    if (plan->top->grouped || plan->top->distinct) totals->skipped_grouped++;
    else if (plan->top->level_count > 1) totals->skipped_joined++;
    else if (plan->sub_count > 0) totals->skipped_within++;
    else totals->skipped_other++;
}

static void after_batch(struct world *w, const struct live_batch *b, size_t i)
{
    struct followed *f = &w->queries[i];
    if (chance(b, i, READERS, 0) % 12 == 0) // its view goes with them
        for (size_t k = 0; k < READERS; k++)
            leave(&f->readers[k]);
    for (size_t n = 0, first = chance(b, i, READERS, 1) % READERS; n < READERS && !f->skipped; n++) {
        size_t k = (first + n) % READERS;
        static void (*const steps[])(struct world *, struct followed *, struct live_reader *, uint64_t) = {near, far, late};
        steps[k](w, f, &f->readers[k], chance(b, i, k, 2));
    }
}

static void run_world(const struct live_script *s)
{
    struct world *w = calloc(1, sizeof *w);
    w->s = s;
    rr_open(&w->g);
    rr_publish(&w->g, s->schema);
    for (size_t i = 0; i < LIVE_QUERIES; i++) {
        struct followed *f = &w->queries[i];
        f->text = &s->queries[i];
        f->q = compile(w, f->text->sql);
        f->plain = compile(w, f->text->sql);
        f->skipped = f->text->left_out;
    }
    for (size_t n = 0; n < LIVE_BATCHES; n++) {
        const struct live_batch *b = &s->batches[n];
        if (b->left_out) continue;
        for (size_t i = 0; i < LIVE_QUERIES * READERS && b->kind == LIVE_RESTART; i++)
            leave(&w->queries[i / READERS].readers[i % READERS]);
        live_batch_apply(b, &w->g);
        for (size_t i = 0; i < LIVE_QUERIES && !b->unpublished; i++)
            after_batch(w, b, i);
        totals->rounds++;
    }
    for (size_t i = 0; i < LIVE_QUERIES; i++) {
        struct followed *f = &w->queries[i];
        totals->followed += !f->skipped;
        if (f->skipped && !f->text->left_out) count_skipped(f);
        for (size_t k = 0; k < READERS; k++)
            if (f->readers[k].r.log.max) rr_detach(&f->readers[k].r);
        query_unref(f->q);
        query_unref(f->plain);
        free(f->fresh);
    }
    assert_int_equal(rows_counts(w->g.r).views, 0);
    rr_close(&w->g);
    free(w);
}

// In a process of its own, which may fail, fall or hang.
static bool world_holds(const struct live_script *s, bool tell)
{
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int nowhere = tell ? 2 : open("/dev/null", O_WRONLY);
        dup2(nowhere, 1);
        dup2(nowhere, 2);
        alarm(PATIENCE_S);
        run_world(s);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// ---- leaving out ---------------------------------------------------------------------------------------------------

// Leaves out as many of these as can be, in halves first.
static void thin(struct live_script *s, bool **parts, size_t n)
{
    for (size_t step = n; step > 0; step /= 2) {
        for (size_t from = 0; from < n; from += step) {
            bool before[PARTS_MAX], any = false;
            for (size_t i = from; i < n && i < from + step; i++) {
                before[i] = *parts[i];
                any |= !before[i];
                *parts[i] = true;
            }
            if (!any || !world_holds(s, false)) continue;
            for (size_t i = from; i < n && i < from + step; i++)
                *parts[i] = before[i];
        }
    }
}

static void minimize(struct live_script *s)
{
    bool *parts[PARTS_MAX], *queries[LIVE_QUERIES];
    for (size_t i = 0; i < LIVE_QUERIES; i++)
        queries[i] = &s->queries[i].left_out;
    thin(s, queries, LIVE_QUERIES);
    for (int again = 0; again < 2; again++) {
        size_t n = 0;
        for (size_t i = 0; i < LIVE_BATCHES; i++)
            parts[n++] = &s->batches[i].left_out;
        thin(s, parts, n);
        n = 0;
        for (size_t i = 0; i < LIVE_BATCHES; i++)
            for (size_t k = 0; k < s->batches[i].op_count && !s->batches[i].left_out; k++)
                parts[n++] = &s->batches[i].ops[k].left_out;
        thin(s, parts, n);
    }
}

static void one_world(uint64_t seed)
{
    struct live_script *s = live_script_new(seed);
    if (!world_holds(s, false)) {
        print_message("seed %llu fails; leaving out what it does not take …\n", (unsigned long long)seed);
        minimize(s);
        fprintf(stderr, "---- SEED=%llu, what is left of it:\n", (unsigned long long)seed);
        live_script_print(s, stderr);
        fprintf(stderr, "----\n");
        world_holds(s, true);
        fail_msg("seed %llu", (unsigned long long)seed);
    }
    live_script_free(s);
}

static void readers_hold_what_the_query_gives(void **state)
{
    const char *seed = getenv("SEED"), *runs = getenv("RUNS"), *seconds = getenv("DURATION_S");
    uint64_t first = seed ? strtoull(seed, NULL, 10) : 1, n = runs ? strtoul(runs, NULL, 10) : seed ? 1 : RUNS_DEFAULT;
    uint64_t end_us = seconds ? clock_mono_us() + strtoull(seconds, NULL, 10) * 1000000 : 0;
    (void)state;
    totals = mmap(NULL, sizeof *totals, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(totals != MAP_FAILED);
    if (seconds) n = 0;
    for (uint64_t i = 0; i < n || clock_mono_us() < end_us; i++) {
        one_world(first + i);
        if (seconds) n = i + 1;
    }
    print_message("worlds %llu, rounds %llu, followed %llu, checks %llu, changes %llu, returns by cursor %llu, resets %llu\n", (unsigned long long)n,
                  (unsigned long long)totals->rounds, (unsigned long long)totals->followed, (unsigned long long)totals->checks, (unsigned long long)totals->changes,
                  (unsigned long long)totals->resumes, (unsigned long long)totals->resets);
    print_message("not supported: %llu (grouped or distinct %llu, joined %llu, selects within %llu, other %llu)\n", (unsigned long long)totals->skipped,
                  (unsigned long long)totals->skipped_grouped, (unsigned long long)totals->skipped_joined, (unsigned long long)totals->skipped_within,
                  (unsigned long long)totals->skipped_other);
    assert_true(totals->checks > 0 && totals->changes > 0 && totals->resumes > 0);
    assert_int_equal(totals->skipped, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(readers_hold_what_the_query_gives)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
