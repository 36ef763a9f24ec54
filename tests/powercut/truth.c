#include "truth.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "app.h"
#include "err.h"
#include "journal_segment.h"

struct group {
    uint8_t *payload;
    size_t n;
};

struct truth {
    bool seeded;
    uint64_t seed;
    uint64_t *lives; // by file: the seed of the groups that its header promises, 0 before it has one
    uint32_t files;
    int fd; // room in memory for one group, to be read as if from a segment
    struct group *groups; // by number
    uint64_t count;       // the greatest number
    struct truth_state *states;
};

struct truth *truth_new(void)
{
    struct truth *t = calloc(1, sizeof *t);
    if (t == NULL) return NULL;
    t->fd = memfd_create("group", MFD_CLOEXEC);
    return t;
}

void truth_free(struct truth *t)
{
    if (t == NULL) return;
    for (uint64_t i = 0; t->groups != NULL && i <= t->count; i++)
        free(t->groups[i].payload);
    free(t->groups);
    free(t->lives);
    free(t->states);
    close(t->fd);
    free(t);
}

static bool keep(struct truth *t, uint64_t number, struct span payload)
{
    if (number == 0 || number > 10000000) return false;
    if (number > t->count || t->groups == NULL) {
        struct group *groups = realloc(t->groups, (number + 1) * sizeof *groups);
        if (groups == NULL) return false;
        uint64_t from = t->groups == NULL ? 0 : t->count + 1;
        memset(groups + from, 0, (number + 1 - from) * sizeof *groups);
        t->groups = groups;
        t->count = number;
    }
    // A group that is written again: a copy of the tail, or another one in the place of one that was never told of.
    struct group *g = &t->groups[number];
    free(g->payload);
    g->payload = malloc(payload.n + 1);
    if (g->payload == NULL) return false;
    memcpy(g->payload, payload.p, payload.n);
    g->n = payload.n;
    return true;
}

static uint64_t *life_of(struct truth *t, uint32_t file)
{
    if (file >= t->files) {
        uint32_t files = file + 64;
        uint64_t *lives = realloc(t->lives, files * sizeof *lives);
        if (lives == NULL) abort();
        memset(lives + t->files, 0, (files - t->files) * sizeof *lives);
        t->lives = lives;
        t->files = files;
    }
    return &t->lives[file];
}

static bool take_group(struct truth *t, struct span bytes, uint64_t seed)
{
    struct group_header h = {0};
    struct buf payload;
    bool ok = ftruncate(t->fd, 0) == 0 && pwrite(t->fd, bytes.p, bytes.n, 0) == (ssize_t)bytes.n;
    buf_init(&payload, GROUP_BUF_MAX);
    if (ok && group_read(t->fd, 0, bytes.n, seed, &h, &payload) == 0) ok = keep(t, h.number, buf_span(&payload));
    buf_free(&payload);
    return ok;
}

// A copied tail comes before its segment's header, and is passed over: it was taken where it stood first.
static bool take_write(struct truth *t, const struct disk_record *r)
{
    struct journal_file file;
    struct segment_header h;
    struct span bytes = SPAN(r->bytes, r->length);
    if (r->length == JOURNAL_FILE_BYTES && journal_file_decode(&file, bytes) == 0) {
        t->seed = journal_file_seed(&file);
        t->seeded = true;
    } else if (t->seeded && r->offset == 0 && segment_header_decode(&h, bytes, t->seed) == 0) {
        *life_of(t, r->file) = segment_seed(h.life, t->seed);
    } else if (t->seeded && r->offset >= SECTOR_BYTES && *life_of(t, r->file) != 0) {
        return take_group(t, bytes, *life_of(t, r->file));
    }
    return true;
}

bool truth_read(struct truth *t, const char *log)
{
    struct disk_log *l = disk_log_open(log);
    struct disk_record r;
    bool ok = l != NULL;
    while (ok && disk_log_next(l, &r))
        if (r.kind == DISK_LOG_WRITE || r.kind == DISK_LOG_WRITE_SYNC || r.kind == DISK_LOG_FOUND_DATA) ok = take_write(t, &r);
    disk_log_close(l);
    return ok && t->seeded;
}

static bool decide_all(struct truth *t, struct app *a)
{
    for (uint64_t i = 0; i <= t->count; i++) {
        struct problem p = PROBLEM_NONE;
        if (i > 0 && t->groups[i].payload == NULL) return fprintf(stderr, "group %llu was never written\n", (unsigned long long)i), false;
        int err = i == 0 ? 0 : app_redecide(a, SPAN(t->groups[i].payload, t->groups[i].n), &p);
        if (err == 0) err = app_state_hash(a, &t->states[i].hash);
        if (err != 0) return fprintf(stderr, "group %llu: %s\n", (unsigned long long)i, p.err != 0 ? problem_text(&p) : err_text(err)), false;
        t->states[i].seq = app_visible(a);
    }
    return true;
}

bool truth_decide(struct truth *t, const char *folder)
{
    struct app *a;
    struct problem p = PROBLEM_NONE;
    t->states = calloc(t->count + 1, sizeof *t->states);
    if (t->states == NULL || t->groups == NULL) return false;
    int err = app_open(&a, &(struct app_options){.name = "truth", .path = folder, .journal_segment_bytes = 64 * KIB}, &p);
    if (err != 0) return fprintf(stderr, "no empty app: %s\n", problem_text(&p)), false;
    bool ok = decide_all(t, a);
    app_close(a);
    return ok;
}

uint64_t truth_groups(const struct truth *t)
{
    return t->count;
}

const struct truth_state *truth_at(const struct truth *t, uint64_t group)
{
    return group <= t->count ? &t->states[group] : NULL;
}

// ---- what was told ----

#define TAIL_MAX 64 // a pattern and its number may come in two sends

struct told_socket {
    uint32_t file;
    size_t n;
    char tail[TAIL_MAX];
};

static struct told_socket *socket_of(struct told *t, uint32_t file)
{
    for (size_t i = 0; i < t->count; i++)
        if (t->sockets[i].file == file) return &t->sockets[i];
    struct told_socket *sockets = realloc(t->sockets, (t->count + 1) * sizeof *sockets);
    if (sockets == NULL) abort();
    t->sockets = sockets;
    sockets[t->count] = (struct told_socket){.file = file};
    return &sockets[t->count++];
}

static void find_seqs(struct told *t, const char *text, size_t n, const char *pattern)
{
    size_t width = strlen(pattern);
    for (const char *at = text; (at = memmem(at, n - (size_t)(at - text), pattern, width)) != NULL;) {
        uint64_t seq = 0;
        at += width;
        const char *end = at;
        for (; end < text + n && *end >= '0' && *end <= '9'; end++)
            seq = 10 * seq + (uint64_t)(*end - '0');
        // A number that touches the end may go on in the next send, where it is found whole.
        if (end < text + n && seq > t->seq) t->seq = seq;
    }
}

void told_send(struct told *t, const struct disk_record *r)
{
    struct told_socket *s = socket_of(t, r->file);
    size_t n = s->n + r->length;
    char *text = malloc(n + 1);
    if (text == NULL) abort();
    memcpy(text, s->tail, s->n);
    memcpy(text + s->n, r->bytes, r->length);
    find_seqs(t, text, n, "\"fate\":\"accepted\",\"seq\":");
    find_seqs(t, text, n, ",\"to\":");
    find_seqs(t, text, n, ",\"seq\":"); // of a stored blob; anywhere else it is a seq too
    find_seqs(t, text, n, "Segue-Seq: "); // of an upload's offset
    s->n = n < TAIL_MAX ? n : TAIL_MAX;
    memcpy(s->tail, text + n - s->n, s->n);
    free(text);
}

void told_free(struct told *t)
{
    free(t->sockets);
    *t = (struct told){0};
}
