// Cuts the power of a recorded run at many points, and looks at what comes up:
//
//   check --points N --seed S --scratch FOLDER LOG … LAST_LOG      the app is apps/default of the recorded root
//
// At each point one possible disk is built (image.h) and opened. It must come up by itself, hold every commit that anybody
// had been told of before that moment, and be, as a whole, exactly the state behind one group of the run (truth.h): nothing
// missing, nothing invented, nothing half, fates and history included; every chunk of every blob must verify. Now and then it must
// also take a further batch and still know it after being opened again.
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "app_internal.h"
#include "err.h"
#include "image.h"
#include "log.h"
#include "tmp.h"
#include "truth.h"

#define FAILURES_SHOWN 8
#define CONTINUE_EVERY 16
#define WHAT_MAX 400 // bytes of a finding

struct campaign {
    uint64_t points, seed;
    const char *scratch;
    const char *const *logs;
    int log_count;
    struct truth *truth;
    struct told told;
    uint64_t passed, failed;
    uint64_t lost[IMAGE_CLASSES], lost_names; // images that lost something of it
    char folder[512], app_path[600];
    char *what; // shared with the process that looks at an image
};

// splitmix64: the points and the images must be the same for the same seed everywhere.
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int open_app(struct campaign *c, struct app **a, struct problem *p)
{
    return app_open(a, &(struct app_options){.name = "default", .path = c->app_path, .journal_segment_bytes = 256 * KIB}, p);
}

static void complain(struct campaign *c, uint64_t position, uint64_t seed, const char *what)
{
    if (c->failed++ < FAILURES_SHOWN) fprintf(stderr, "  record %llu, image %llx: %s\n", (unsigned long long)position, (unsigned long long)seed, what);
}

static void clear(const struct campaign *c)
{
    if (access(c->folder, F_OK) == 0) tmp_remove(strdup(c->folder));
}

// ---- one image ----

static bool compare(struct campaign *c, struct app *a, char *what, size_t room)
{
    struct sha256 hash;
    uint64_t checked, group = a->applied_group, seq = app_visible(a);
    const struct truth_state *state = truth_at(c->truth, group);
    if (seq < c->told.seq) return snprintf(what, room, "commit %llu was told of, the app ends at %llu", (unsigned long long)c->told.seq, (unsigned long long)seq), false;
    if (state == NULL || state->seq != seq) return snprintf(what, room, "group %llu with commit %llu was never written", (unsigned long long)group, (unsigned long long)seq), false;
    int err = app_state_hash(a, &hash);
    if (err != 0) return snprintf(what, room, "its state cannot be read: %s", err_text(err)), false;
    if (!sha256_equal(&hash, &state->hash)) return snprintf(what, room, "its state is not the one behind group %llu", (unsigned long long)group), false;
    err = blobs_check(app_blobs(a), app_txn(a), &checked);
    if (err != 0) return snprintf(what, room, "a blob is damaged: %s", err_text(err)), false;
    return true;
}

static void on_fate(struct submission *s, const struct fate *f)
{
    uint64_t *seq = (uint64_t *)(s + 1);
    *seq = f->err == 0 ? f->seq : UINT64_MAX;
}

// Life goes on: a further batch, and what is there of it behind one more start.
static bool goes_on(struct campaign *c, struct app **a, char *what, size_t room)
{
    struct {
        struct submission submission;
        uint64_t seq;
    } one = {.submission = {.done = on_fate}};
    uint64_t before = app_visible(*a);
    struct buf request;
    buf_init(&request, KIB);
    batch_put_op(&request, &(struct batch_op){.kind = BATCH_CREATE, .stream = {.path = SPAN_LIT("behind/the/cut")}});
    one.submission.request = buf_span(&request);
    int err = app_submit(*a, &one.submission);
    if (err == 0) app_turn(*a);
    buf_free(&request);
    if (err != 0 || one.seq != before + 1) return snprintf(what, room, "it takes no further batch"), false;
    app_close(*a);
    *a = NULL;
    struct problem p = PROBLEM_NONE;
    if (open_app(c, a, &p) != 0) return snprintf(what, room, "it does not open a second time: %s", problem_text(&p)), false;
    struct stream_info info;
    if (app_visible(*a) != before + 1 || !streams_find(app_streams(*a), app_txn(*a), SPAN_LIT("behind/the/cut"), &info)) return snprintf(what, room, "it forgot a further batch"), false;
    return true;
}

static bool check_disk(struct campaign *c, char *what, size_t room)
{
    struct app *a = NULL;
    struct problem p = PROBLEM_NONE;
    bool ok = open_app(c, &a, &p) == 0;
    if (!ok) snprintf(what, room, "it does not open: %s", problem_text(&p));
    if (ok) ok = compare(c, a, what, room);
    if (ok && (c->passed + c->failed) % CONTINUE_EVERY == 0) ok = goes_on(c, &a, what, room);
    app_close(a);
    return ok;
}

// In a process of its own: a damaged database may well kill whoever reads it, and that is one failure, not the end of the
// campaign. What it logs is not shown, what it found is.
static void check_image(struct campaign *c, struct image *m, uint64_t seed)
{
    struct image_report report;
    int status;
    clear(c);
    if (!image_build(m, c->folder, seed, IMAGE_RANDOM, &report)) {
        complain(c, image_position(m), seed, "the image cannot be built");
        return;
    }
    for (int i = 0; i < IMAGE_CLASSES; i++)
        c->lost[i] += report.lost_bytes[i] > 0;
    c->lost_names += report.lost_names > 0;
    snprintf(c->what, WHAT_MAX, "the app dies of it");
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, STDERR_FILENO);
        _exit(check_disk(c, c->what, WHAT_MAX) ? 0 : 1);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid) exit(1);
    if (status == 0) c->passed++;
    else complain(c, image_position(m), seed, c->what);
}

// ---- all of them ----

static int by_position(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

// A third of the points anywhere, a third right behind something was sent, where promises are broken, and a third right before a
// barrier, where the most is at stake.
static uint64_t *choose_points(struct campaign *c, const char *log)
{
    struct disk_log *l = disk_log_open(log);
    struct disk_record r;
    uint64_t records = 0, sends = 0, syncs = 0, state = c->seed, *points = malloc((c->points + 1) * sizeof *points);
    uint64_t found = 0; // what was there before: the power is cut behind that
    while (l != NULL && disk_log_next(l, &r)) {
        records++;
        if (r.kind <= DISK_LOG_FOUND_DIR) found = records;
    }
    uint64_t *sent = malloc((records + 1) * sizeof *sent), *synced = malloc((records + 1) * sizeof *synced);
    if (l == NULL || sent == NULL || synced == NULL || points == NULL || records == 0) exit(1);
    disk_log_rewind(l);
    for (uint64_t i = 0; disk_log_next(l, &r); i++) {
        if (r.kind == DISK_LOG_SEND) sent[sends++] = i + 1;
        if (r.kind == DISK_LOG_SYNC || r.kind == DISK_LOG_DIR_SYNC) synced[syncs++] = i;
    }
    disk_log_close(l);
    for (uint64_t i = 0; i < c->points; i++) {
        points[i] = found + next_random(&state) % (records - found) + 1;
        if (i % 3 == 1 && sends > 0) points[i] = sent[next_random(&state) % sends];
        if (i % 3 == 2 && syncs > 0) points[i] = synced[next_random(&state) % syncs];
    }
    qsort(points, c->points, sizeof *points, by_position);
    free(sent);
    free(synced);
    return points;
}

static bool run(struct campaign *c)
{
    const char *last = c->logs[c->log_count - 1];
    uint64_t *points = choose_points(c, last), state = c->seed ^ 0x5eedu;
    struct image *m = image_open(last);
    struct disk_record r;
    if (m == NULL) return fprintf(stderr, "%s cannot be read\n", last), false;
    for (uint64_t i = 0; i < c->points; i++) {
        while (image_position(m) < points[i] && image_step(m, &r))
            if (r.kind == DISK_LOG_SEND) told_send(&c->told, &r);
        check_image(c, m, next_random(&state));
    }
    bool sane = image_sane(m);
    image_close(m);
    free(points);
    clear(c);
    return sane || (fprintf(stderr, "%s makes no sense\n", last), false);
}

static bool find_truth(struct campaign *c)
{
    c->truth = truth_new();
    for (int i = 0; i < c->log_count; i++)
        if (!truth_read(c->truth, c->logs[i])) return fprintf(stderr, "%s has no journal in it\n", c->logs[i]), false;
    clear(c);
    bool ok = truth_decide(c->truth, c->folder);
    clear(c);
    return ok;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"points", required_argument, NULL, 'p'}, {"seed", required_argument, NULL, 's'}, {"scratch", required_argument, NULL, 'd'}, {0}};
    struct campaign c = {.points = 100, .seed = 1, .scratch = "/tmp"};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == 'p') c.points = strtoull(optarg, NULL, 10);
        else if (o == 's') c.seed = strtoull(optarg, NULL, 10);
        else if (o == 'd') c.scratch = optarg;
        else return 2;
    }
    c.logs = (const char *const *)argv + optind;
    c.log_count = argc - optind;
    if (c.log_count == 0) return fprintf(stderr, "which log?\n"), 2;
    log_set_level(LOG_ERROR);
    c.what = mmap(NULL, WHAT_MAX, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (c.what == MAP_FAILED) return 1;
    snprintf(c.folder, sizeof c.folder, "%s/image-%d", c.scratch, (int)getpid());
    snprintf(c.app_path, sizeof c.app_path, "%s/apps/default", c.folder);
    if (!find_truth(&c) || !run(&c)) return 1;
    printf("groups %llu, told %llu; images that lost unsynced bytes: journal %llu, lmdb %llu, packs %llu, other %llu; names %llu\n", (unsigned long long)truth_groups(c.truth),
           (unsigned long long)c.told.seq, (unsigned long long)c.lost[IMAGE_JOURNAL], (unsigned long long)c.lost[IMAGE_DB], (unsigned long long)c.lost[IMAGE_PACKS],
           (unsigned long long)c.lost[IMAGE_OTHER], (unsigned long long)c.lost_names);
    printf("checked %llu passed, %llu failed\n", (unsigned long long)c.passed, (unsigned long long)c.failed);
    truth_free(c.truth);
    told_free(&c.told);
    return c.failed == 0 ? 0 : 1;
}
