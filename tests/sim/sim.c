// Simulates worlds (world.h) one after the other, each in a process of its own, by seeds that count up:
//
//   sim --seed N --seconds S     until S seconds are over; --worlds N: so many. --bug NAME: until what that planted mistake does is found
//
// Ends in "N passed, 0 failed". A seed that fails is printed, with what was found, and replays exactly.
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "err.h"
#include "log.h"
#include "machine.h"
#include "tmp.h"
#include "world.h"

#define FAILURES_MAX 3
#define SAID_MAX 2000 // of what a failed one logged

// What each planted mistake must be found as.
static const struct {
    const char *bug, *finding;
} planted[] = {
    {"no_read_set", "write skew (G2)"},
    {"no_phantom_check", "phantom (G2 of a range)"},
    {"own_rows_unread", "lost update"},
    {"no_dedup", "applied twice"},
    {"half_batch", "half a batch"},
    {"lww_by_arrival", "divergence"},
    {"nosync", "commit lost"},
    {"ack_before_journal", "commit lost"},
    {"publish_before_barrier", "commit lost"},
};

// What happened, in one world or in all.
struct counts {
    uint64_t batches, accepted, refused, conflicts, crashes, flown, faults, horizons, branches, lost, retries, again;
};

struct report {
    bool whole; // the world came to its end
    struct finding findings[16];
    size_t finding_count;
    struct counts counts;
    uint64_t trace;
};

static struct report *report; // shared with the process that simulates

static void fill_report(const struct world *w)
{
    memcpy(report->findings, w->findings, sizeof w->findings);
    report->finding_count = w->finding_count;
    report->trace = w->trace;
    report->counts = (struct counts){.batches = w->task_count, .conflicts = w->conflicts, .crashes = w->crashes, .flown = w->flown, .faults = w->faults, .horizons = w->horizons, .branches = w->branches, .lost = w->lost, .retries = w->retries, .again = w->again};
    for (size_t i = 0; i < w->task_count; i++) {
        report->counts.accepted += w->tasks[i]->has_fate && w->tasks[i]->err == 0;
        report->counts.refused += w->tasks[i]->has_fate && w->tasks[i]->err != 0;
    }
    report->whole = true;
}

// What the engine logs is of interest where something went wrong: the end of it.
static void show_end(FILE *said)
{
    char line[1000];
    long n = fseek(said, 0, SEEK_END) == 0 ? ftell(said) : 0;
    fseek(said, n > SAID_MAX ? n - SAID_MAX : 0, SEEK_SET);
    while (fgets(line, sizeof line, said) != NULL)
        printf("  | %s", line);
}

static void simulate(uint64_t seed)
{
    int status;
    *report = (struct report){.whole = false};
    fflush(NULL);
    FILE *said = tmpfile();
    char *room = tmp_make(); // so that one that dies leaves nothing
    pid_t pid = said == NULL ? -1 : fork();
    if (pid == 0) {
        struct world w;
        dup2(fileno(said), STDERR_FILENO);
        setenv("TMPDIR", room, 1);
        free(room);
        world_run(&w, seed);
        fill_report(&w);
        world_free(&w);
        exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid) exit(1);
    if (status != 0 || report->finding_count > 0) show_end(said);
    fclose(said);
    tmp_remove(room);
    if (status == 0 && report->whole) return;
    struct finding *f = &report->findings[report->finding_count++ % 16];
    snprintf(f->kind, sizeof f->kind, "it dies");
    snprintf(f->text, sizeof f->text, WIFSIGNALED(status) ? "signal %d" : "exit %d", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

static bool found(const char *kind)
{
    for (size_t i = 0; i < report->finding_count; i++)
        if (strcmp(report->findings[i].kind, kind) == 0) return true;
    return false;
}

static void tell(uint64_t seed, const char *bug)
{
    printf("seed %llu failed, after %llu batches and %llu crashes; again: make sim SEED=%llu WORLDS=1%s%s\n", (unsigned long long)seed, (unsigned long long)report->counts.batches, (unsigned long long)report->counts.crashes,
           (unsigned long long)seed, bug == NULL ? "" : " BUG=", bug == NULL ? "" : bug);
    for (size_t i = 0; i < report->finding_count; i++)
        printf("  %s: %s\n", report->findings[i].kind, report->findings[i].text);
}

struct campaign {
    uint64_t seed, worlds, passed, failed;
    double seconds;
    const char *bug, *expected;
    struct counts counts;
    bool found;
};

static void add_up(struct campaign *c)
{
    uint64_t *sum = (uint64_t *)&c->counts;
    const uint64_t *one = (const uint64_t *)&report->counts;
    for (size_t i = 0; i < sizeof c->counts / sizeof *sum; i++)
        sum[i] += one[i];
}

static void one(struct campaign *c, uint64_t seed)
{
    simulate(seed);
    add_up(c);
    c->passed += report->finding_count == 0;
    c->failed += report->finding_count > 0;
    c->found = c->expected != NULL && found(c->expected);
    if (c->worlds == 1) printf("what happened, as a number: %016llx\n", (unsigned long long)report->trace);
    if (report->finding_count > 0 && (c->bug == NULL || c->found)) tell(seed, c->bug);
}

// The first world again: all that happened must be the same, to the microsecond.
static void check_replay(struct campaign *c, uint64_t trace)
{
    simulate(c->seed);
    if (report->trace == trace && report->whole) return;
    c->failed++;
    printf("seed %llu does not replay: something in the engine, or in the simulation, does not follow from the seed\n", (unsigned long long)c->seed);
}

static void say_counts(struct campaign *c, double s)
{
    const struct counts *n = &c->counts;
    uint64_t worlds = c->passed + c->failed;
#define N(x) (unsigned long long)n->x
    printf("%llu worlds in %.0f s (%.1f/s): %llu batches, %llu accepted, %llu refused (%llu conflicts)\n", (unsigned long long)worlds, s, (double)worlds / (s > 0 ? s : 1), N(batches), N(accepted), N(refused), N(conflicts));
    printf("%llu crashes, %llu waits for the disk in flight, %llu faults of it, history forgotten %llu times, %llu steps of branches; %llu messages lost, %llu batches sent again, %llu fates told again\n", N(crashes), N(flown), N(faults), N(horizons), N(branches), N(lost), N(retries), N(again));
    if (c->bug != NULL || worlds < 30 || (n->conflicts > 0 && n->crashes > 0 && n->flown > 0 && n->faults > 0 && n->horizons > 0 && n->branches > 0 && n->retries > 0)) return;
    printf("a campaign in which one of these never happens has proved nothing about it\n");
    c->failed++;
#undef N
}

static void run(struct campaign *c)
{
    double began = machine_real_s();
    for (uint64_t i = 0; !c->found && (c->worlds == 0 || i < c->worlds); i++) {
        if (c->worlds == 0 && i > 0 && machine_real_s() - began >= c->seconds) break;
        one(c, c->seed + i);
        if (c->bug == NULL && c->failed >= FAILURES_MAX) break;
        if (i == 0 && c->bug == NULL && c->failed == 0) check_replay(c, report->trace);
    }
    say_counts(c, machine_real_s() - began);
}

static void plant(struct campaign *c)
{
    if (c->bug == NULL) return;
    for (size_t i = 0; i < sizeof planted / sizeof *planted; i++)
        if (strcmp(planted[i].bug, c->bug) == 0) c->expected = planted[i].finding;
    if (c->expected != NULL) {
        setenv("SEGUE_BUG", c->bug, 1);
        return;
    }
    fprintf(stderr, "there is no planted bug %s; there are:", c->bug);
    for (size_t i = 0; i < sizeof planted / sizeof *planted; i++)
        fprintf(stderr, " %s", planted[i].bug);
    fprintf(stderr, "\n");
    exit(2);
}

static struct campaign read_options(int argc, char **argv)
{
    static const struct option options[] = {{"seed", 1, 0, 's'}, {"seconds", 1, 0, 't'}, {"worlds", 1, 0, 'w'}, {"bug", 1, 0, 'b'}, {0}};
    struct campaign c = {.seconds = 10};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (o) {
        case 's': c.seed = strtoull(optarg, NULL, 10); break;
        case 't': c.seconds = atof(optarg); break;
        case 'w': c.worlds = strtoull(optarg, NULL, 10); break;
        case 'b': c.bug = optarg; break;
        default: exit(2);
        }
    }
    return c;
}

int main(int argc, char **argv)
{
    struct campaign c = read_options(argc, argv);
    report = mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (report == MAP_FAILED) return 1;
    plant(&c);
    if (getenv("TMPDIR") == NULL && access("/dev/shm", W_OK) == 0) setenv("TMPDIR", "/dev/shm", 1); // memory, where there is such a place
    log_set_level(LOG_ERROR);
    printf("sim: SEED=%llu%s%s\n", (unsigned long long)c.seed, c.bug == NULL ? "" : ", planted bug ", c.bug == NULL ? "" : c.bug);
    run(&c);
    if (c.bug != NULL) printf(c.found ? "the planted bug %s was found: %s\n" : "the planted bug %s was NOT found as %s\n", c.bug, c.expected);
    printf("%llu passed, %llu failed\n", (unsigned long long)c.passed, (unsigned long long)c.failed);
    return c.failed > 0 || c.bug != NULL ? 1 : 0;
}
