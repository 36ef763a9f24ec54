// Happy path of opening: read the names and headers, walk the groups (all but the last are given to the caller as
// they verify), copy the tail to a fresh segment, raise the epoch, give the caller the last group.
//
// Why the last group waits, and why there is a copy: a group is written only after the barrier of the one before, so
// the last one alone can be in the page cache only (killed between write and barrier), or be one whose barrier
// failed. Another fdatasync would not help with the latter: the kernel may have marked its pages clean. Written
// anew, to another file, and synced there, it is durable, and only then shown to anyone.
//
// A crash anywhere in opening leaves a folder that opens again. The fresh segment has another name until it is whole
// and synced; then one rename makes it the last segment, and what it holds is no longer read from the one before.
// Every opening begins a fresh segment with a checksum seed of its own: so the remains of another attempt at a number never verify.
//
// Measured on a preallocated file of this class of machine: pwrite and fdatasync take 31 to 34 us, an O_DSYNC or
// RWF_DSYNC write the same within the noise. The pair is used, as it shows which of the two failed.
#include "journal.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bug.h"
#include "err.h"
#include "file.h"
#include "journal_segment.h"
#include "limits.h"
#include "log.h"

#define SPARES_MAX 2
#define FILL_STEP (1 * MIB)
#define COPY_WHOLE_PART 8  // a last segment filled to less than this part is copied whole, so that restarts do not pile up segments
#define SEGMENT_ALIGN 4096 // of a segment's size
#define FILE_NAME "JOURNAL"
#define FILL_NAME "fill.tmp"   // a spare being made, a step at a time
#define FRESH_NAME "fresh.tmp" // a segment being made at once

struct segment {
    uint64_t number;
    uint64_t epoch;
    uint64_t first;    // number of its first group; its last is the one before the next segment's first
    uint64_t previous; // checksum of the group before that
    uint64_t life;     // see segment_header
    uint64_t seed;     // of its groups' checksums
    uint64_t end;      // offset behind its last group
    uint64_t bytes;    // of the file
};

struct journal {
    char path[PATH_MAX];
    uint64_t segment_bytes;
    bool keep_all;
    bool read_only;
    struct journal_file file;
    uint64_t seed;
    int err; // sticky: a write or a barrier failed

    struct segment *segments; // in order; the last one is being written
    size_t count, room;
    int fd;            // of the last segment; -1 when read only
    uint64_t next;     // number of the next group
    uint64_t previous; // checksum of the last group
    uint64_t written;  // bytes of the groups appended here

    bool spare[SPARES_MAX];   // "<i>.spare" has segment_bytes, written all over, and is no part of the journal
    struct segment_fill fill; // of FILL_NAME
    bool fill_refused;        // preparing failed: no further try before something changes
};

struct path {
    char s[PATH_MAX + SEGMENT_NAME_BYTES + 1];
};

static struct path path_in(const struct journal *j, const char *name)
{
    struct path path;
    snprintf(path.s, sizeof path.s, "%s/%s", j->path, name);
    return path;
}

static struct path segment_path(const struct journal *j, uint64_t number)
{
    char name[SEGMENT_NAME_BYTES];
    segment_name(name, number);
    return path_in(j, name);
}

static struct path spare_path(const struct journal *j, int i)
{
    char name[] = "0.spare";
    name[0] = (char)('0' + i);
    return path_in(j, name);
}

static struct segment *last_segment(const struct journal *j)
{
    assert(j->count > 0);
    return &j->segments[j->count - 1];
}

static int segments_reserve(struct journal *j)
{
    if (j->count < j->room) return 0;
    size_t room = j->room == 0 ? 16 : 2 * j->room;
    struct segment *p = reallocarray(j->segments, room, sizeof *p);
    if (p == NULL) return ERR_NOMEM;
    j->segments = p;
    j->room = room;
    return 0;
}

// ---- room for a further segment --------------------------------------------------------------------------------

// A file that is written all over and is not yet part of the journal.
struct room {
    int fd;
    uint64_t bytes;
    struct path path;
};

static void room_drop(struct room *r)
{
    file_close(r->fd);
    unlink(r->path.s);
    r->fd = -1;
}

static void fill_drop(struct journal *j)
{
    if (j->fill.fd < 0) return;
    file_close(j->fill.fd);
    unlink(path_in(j, FILL_NAME).s);
    j->fill = (struct segment_fill){.fd = -1};
}

// Fills to the end whatever was begun, and syncs it.
static int room_fill(struct room *r, struct segment_fill *fill)
{
    int err = segment_fill_step(fill, fill->bytes);
    if (err == 0) err = file_sync(fill->fd);
    r->fd = fill->fd;
    r->bytes = fill->bytes;
    if (err != 0) room_drop(r);
    return err;
}

static int room_from_spare(struct journal *j, int i, struct room *r)
{
    r->path = spare_path(j, i);
    r->bytes = j->segment_bytes;
    j->spare[i] = false;
    r->fd = file_open(r->path.s, O_RDWR);
    return r->fd < 0 ? r->fd : 0;
}

// Room for `need` bytes of groups: a spare, else the one in the making, else a new file. A failure leaves none behind.
static int room_take(struct journal *j, uint64_t need, struct room *r)
{
    uint64_t bytes = SECTOR_BYTES + need;
    if (bytes <= j->segment_bytes) {
        for (int i = 0; i < SPARES_MAX; i++) {
            if (j->spare[i]) return room_from_spare(j, i, r);
        }
        if (j->fill.fd >= 0) {
            struct segment_fill fill = j->fill;
            j->fill = (struct segment_fill){.fd = -1};
            r->path = path_in(j, FILL_NAME);
            return room_fill(r, &fill);
        }
        bytes = j->segment_bytes;
    }
    struct segment_fill fill;
    bytes = (bytes + SEGMENT_ALIGN - 1) / SEGMENT_ALIGN * SEGMENT_ALIGN;
    r->path = path_in(j, FRESH_NAME);
    int err = segment_fill_begin(&fill, r->path.s, bytes);
    return err != 0 ? err : room_fill(r, &fill);
}

// Makes `r` the last segment, which begins with group s->first and already holds groups up to s->end. *published tells
// after a failure whether the name may have been changed; if not, `r` is gone. After success the journal owns r->fd.
static int room_publish(struct journal *j, struct room *r, struct segment s, bool *published)
{
    uint8_t sector[SECTOR_BYTES];
    struct segment_header h = {.id = j->file.id, .number = s.number, .epoch = s.epoch, .first = s.first, .previous = s.previous, .life = s.life};
    struct path path = segment_path(j, s.number);
    assert(j->count < j->room);
    *published = false;
    segment_header_encode(sector, &h, j->seed);
    int err = file_write(r->fd, SPAN(sector, sizeof sector), 0);
    if (err == 0) err = file_sync(r->fd);
    if (err == 0 && rename(r->path.s, path.s) != 0) err = err_from_errno(errno);
    if (err != 0) {
        room_drop(r);
        return err;
    }
    *published = true;
    err = dir_sync(j->path);
    if (err != 0) {
        file_close(r->fd);
        return err;
    }
    s.bytes = r->bytes;
    j->segments[j->count++] = s;
    file_close(j->fd);
    j->fd = r->fd;
    return 0;
}

static void spares_drop(struct journal *j)
{
    for (int i = 0; i < SPARES_MAX; i++) {
        if (j->spare[i]) unlink(spare_path(j, i).s);
        j->spare[i] = false;
    }
}

// Takes segments [from, to) out of the journal: their files become spares, or are removed. The folder is synced before
// a spare can be used, or a power cut could bring an old name back with a new header in the file.
static void segments_release(struct journal *j, size_t from, size_t to)
{
    bool renamed = false;
    assert(from <= to && to < j->count);
    if (from == to) return;
    for (size_t i = from; i < to; i++) {
        struct path path = segment_path(j, j->segments[i].number);
        int free = j->segments[i].bytes != j->segment_bytes ? SPARES_MAX : 0;
        while (free < SPARES_MAX && j->spare[free])
            free++;
        if (free < SPARES_MAX && rename(path.s, spare_path(j, free).s) == 0) {
            j->spare[free] = renamed = true;
        } else if (unlink(path.s) != 0) {
            // It is found again at the next start, and is harmless there.
            log_warn("journal", "cannot remove a segment", LF_STR("path", path.s), LF_ERRNO(errno));
        }
    }
    memmove(j->segments + from, j->segments + to, (j->count - to) * sizeof *j->segments);
    j->count -= to - from;
    if (renamed && dir_sync(j->path) != 0) {
        log_warn("journal", "cannot sync the folder, spare segments are given up", LF_STR("path", j->path));
        spares_drop(j);
    }
}

// ---- opening: names and headers --------------------------------------------------------------------------------

static int segment_compare(const void *a, const void *b)
{
    const struct segment *x = a, *y = b;
    return (x->number > y->number) - (x->number < y->number);
}

static int name_note(struct journal *j, const char *name)
{
    uint64_t number;
    if (segment_name_parse(&number, name)) {
        int err = segments_reserve(j);
        if (err == 0) j->segments[j->count++] = (struct segment){.number = number};
        return err;
    }
    for (int i = 0; i < SPARES_MAX; i++) {
        char spare[] = "0.spare";
        spare[0] = (char)('0' + i);
        if (strcmp(name, spare) == 0) j->spare[i] = true;
    }
    return 0;
}

static int names_list(struct journal *j, struct problem *p)
{
    DIR *d = opendir(j->path);
    if (d == NULL) {
        int err = errno == ENOENT ? ERR_NOT_FOUND : err_from_errno(errno);
        return problem_set(p, err, -1, "cannot list %s: %s", j->path, strerror(errno));
    }
    int err = 0;
    struct dirent *e;
    while (err == 0 && (errno = 0, e = readdir(d)) != NULL)
        err = name_note(j, e->d_name);
    if (err == 0 && errno != 0) err = problem_set(p, err_from_errno(errno), -1, "cannot list %s: %s", j->path, strerror(errno));
    closedir(d);
    if (j->count > 0) qsort(j->segments, j->count, sizeof *j->segments, segment_compare);
    return err;
}

// Removes what a killed process left in the making, and spares of another size. Then syncs the folder: whatever
// names are seen now may be in the cache only, and a spare must not come back as the segment that it was.
static int leftovers_clear(struct journal *j)
{
    unlink(path_in(j, FILL_NAME).s);
    unlink(path_in(j, FRESH_NAME).s);
    for (int i = 0; i < SPARES_MAX; i++) {
        uint64_t bytes = 0;
        if (!j->spare[i]) continue;
        int fd = file_open(spare_path(j, i).s, O_RDONLY);
        if (fd >= 0 && file_size(fd, &bytes) == 0 && bytes == j->segment_bytes) {
            file_close(fd);
            continue;
        }
        file_close(fd);
        unlink(spare_path(j, i).s);
        j->spare[i] = false;
    }
    return dir_sync(j->path);
}

static int file_save(const struct journal *j, const struct journal_file *f)
{
    uint8_t bytes[JOURNAL_FILE_BYTES];
    journal_file_encode(bytes, f);
    return file_replace(path_in(j, FILE_NAME).s, SPAN(bytes, sizeof bytes));
}

static int file_create(struct journal *j, struct problem *p)
{
    if (j->count > 0) return problem_set(p, ERR_CORRUPT, -1, "%s has segments but no file " FILE_NAME, j->path);
    if (j->read_only) return problem_set(p, ERR_NOT_FOUND, -1, "%s has no journal", j->path);
    j->file = (struct journal_file){.id = uuid_new()};
    random_bytes(j->file.secret, sizeof j->file.secret);
    int err = file_save(j, &j->file);
    return err == 0 ? 0 : problem_set(p, err, -1, "cannot make a journal in %s", j->path);
}

static int file_load(struct journal *j, struct problem *p)
{
    struct buf content;
    buf_init(&content, 2 * JOURNAL_FILE_BYTES);
    int err = file_slurp(&content, path_in(j, FILE_NAME).s);
    if (err == ERR_NOT_FOUND) {
        err = file_create(j, p);
    } else {
        if (err == ERR_TOO_LARGE) err = ERR_CORRUPT;
        if (err == 0) err = journal_file_decode(&j->file, buf_span(&content));
        if (err == 0 && j->count == 0 && j->file.epoch > 0) err = ERR_CORRUPT; // not even the segment it began with
        if (err != 0) problem_set(p, err, -1, "%s/" FILE_NAME ": %s", j->path, j->count == 0 ? "the segments are gone" : err_text(err));
    }
    buf_free(&content);
    j->seed = journal_file_seed(&j->file);
    return err;
}

static int damaged(const struct segment *s, uint64_t offset, struct problem *p, const char *what)
{
    return problem_set(p, ERR_CORRUPT, -1, "segment %012" PRIu64 ".seg, byte %" PRIu64 ": %s", s->number, offset, what);
}

// A published segment's header was synced before its name: so a bad one is damage, never a crash's trace.
static int headers_read(struct journal *j, struct problem *p)
{
    for (size_t i = 0; i < j->count; i++) {
        struct segment *s = &j->segments[i];
        struct segment_header h;
        int fd;
        int err = segment_open(segment_path(j, s->number).s, j->seed, &fd, &s->bytes, &h);
        if (err == ERR_CORRUPT) return damaged(s, 0, p, "the header does not verify");
        if (err != 0) return problem_set(p, err, -1, "cannot read segment %012" PRIu64 ".seg: %s", s->number, err_text(err));
        file_close(fd);
        if (!uuid_equal(h.id, j->file.id) || h.number != s->number) return damaged(s, 0, p, "the header is another segment's");
        if (h.epoch > j->file.epoch + 1) return damaged(s, 0, p, "the header is of a later epoch than " FILE_NAME);
        if (h.first == 0 || (i > 0 && h.first < s[-1].first)) return damaged(s, 0, p, "the header's first group is out of order");
        if (i > 0 && h.epoch < s[-1].epoch) return damaged(s, 0, p, "the header's epoch is out of order");
        s->epoch = h.epoch;
        s->first = h.first;
        s->previous = h.previous;
        s->life = h.life;
        s->seed = segment_seed(h.life, j->seed);
        s->end = SECTOR_BYTES;
    }
    return 0;
}

// ---- opening: groups -------------------------------------------------------------------------------------------

struct walk {
    journal_replay_fn *fn;
    void *ctx;
    struct problem *p;
    bool holding; // a group that has verified and has not been given to the caller
    struct group_header held;
    uint64_t held_at;       // its offset
    uint64_t held_previous; // checksum of the group before it
    struct buf held_payload;
    struct buf payload; // of the group being read
};

static int held_deliver(struct walk *w)
{
    if (!w->holding) return 0;
    w->holding = false;
    int rc = w->fn == NULL ? 0 : w->fn(w->ctx, w->held.number, buf_span(&w->held_payload));
    return rc == 0 ? 0 : problem_set(w->p, rc, -1, "group %" PRIu64 " cannot be replayed", w->held.number);
}

static void held_set(struct walk *w, const struct group_header *h, uint64_t at, uint64_t previous)
{
    struct buf payload = w->held_payload;
    w->held_payload = w->payload;
    w->payload = payload;
    w->held = *h;
    w->held_at = at;
    w->held_previous = previous;
    w->holding = true;
}

// Takes the group at s->end if it is the next one. ERR_NOT_FOUND: it is not.
static int group_take(struct journal *j, struct walk *w, struct segment *s, int fd)
{
    struct group_header h = {.number = j->next};
    int err = group_read(fd, s->end, s->bytes, s->seed, &h, &w->payload);
    if (err != 0) return err;
    if (h.number != j->next) return ERR_NOT_FOUND;
    err = held_deliver(w);
    if (err != 0) return err;
    held_set(w, &h, s->end, j->previous);
    s->end += group_bytes(h.length);
    j->next++;
    j->previous = h.checksum;
    return 0;
}

// No group verifies at s->end of the last segment: that is the end, unless a later one is behind it. What is left in the file from an earlier
// life of it never verifies here.
static int end_check(struct journal *j, struct walk *w, const struct segment *s, int fd)
{
    uint64_t found;
    int err = group_find(fd, s->end, s->bytes, s->seed, j->next, &w->payload, &found);
    if (err == ERR_NOT_FOUND) return 0;
    if (err != 0) return err;
    return damaged(s, s->end, w->p, "no group verifies here, but a later one does");
}

static int segment_walk(struct journal *j, struct walk *w, size_t i)
{
    struct segment *s = &j->segments[i];
    bool last = i + 1 == j->count;
    uint64_t limit = last ? UINT64_MAX : s[1].first; // from there on the next segment's word counts
    struct segment_header h;
    int fd = -1, err = 0;
    if (s->first != j->next || s->previous != j->previous) return damaged(s, 0, w->p, "it does not continue the segment before");
    if (s->first == limit) return 0;
    err = segment_open(segment_path(j, s->number).s, j->seed, &fd, &s->bytes, &h);
    while (err == 0 && j->next < limit)
        err = group_take(j, w, s, fd);
    if (err == ERR_NOT_FOUND && j->next < limit) {
        err = last ? end_check(j, w, s, fd) : damaged(s, s->end, w->p, "no group verifies here, but the next segment begins behind it");
    }
    // The caller may show groups that were read from here: nothing is copied when reading only, so at least ask.
    if (err == 0 && last && j->read_only) err = file_sync(fd);
    file_close(fd);
    return err;
}

static int groups_walk(struct journal *j, struct walk *w)
{
    int err = 0;
    j->next = j->count > 0 ? j->segments[0].first : 1;
    j->previous = j->count > 0 ? j->segments[0].previous : 0;
    for (size_t i = 0; i < j->count && err == 0; i++)
        err = segment_walk(j, w, i);
    if (err != 0) problem_set(w->p, err, -1, "cannot read the journal in %s: %s", j->path, err_text(err));
    return err;
}

// ---- opening: the fresh segment --------------------------------------------------------------------------------

static struct segment segment_begin(const struct journal *j, uint64_t number, uint64_t epoch)
{
    struct segment s = {.number = number, .epoch = epoch, .first = j->next, .previous = j->previous, .end = SECTOR_BYTES};
    random_bytes(&s.life, sizeof s.life);
    s.seed = segment_seed(s.life, j->seed);
    return s;
}

// What of the last segment is copied: from which offset on, and which group that is.
static struct segment tail_begin(const struct journal *j, const struct walk *w, uint64_t *from)
{
    const struct segment *last = j->count == 0 ? NULL : last_segment(j);
    struct segment s = segment_begin(j, last == NULL ? 1 : last->number + 1, j->file.epoch + 1);
    *from = SECTOR_BYTES;
    if (last == NULL) return s;
    if (last->end - SECTOR_BYTES <= j->segment_bytes / COPY_WHOLE_PART) {
        s.first = last->first;
        s.previous = last->previous;
    } else {
        s.first = w->held.number;
        s.previous = w->held_previous;
        *from = w->held_at;
    }
    return s;
}

// Group by group, verified once more, so that the copy is never worse than what it replaces.
static int tail_copy(struct journal *j, struct walk *w, uint64_t from, struct room *r, struct segment *s)
{
    const struct segment *last = j->count == 0 ? NULL : last_segment(j);
    struct group_header h = {.number = s->first};
    if (last == NULL || from == last->end) return 0;
    int fd = file_open(segment_path(j, last->number).s, O_RDONLY);
    int err = fd < 0 ? fd : 0;
    while (err == 0 && from < last->end) {
        err = group_read(fd, from, last->bytes, last->seed, &h, &w->payload);
        if (err == 0) err = group_write(r->fd, s->end, &h, buf_span(&w->payload), s->seed);
        if (err != 0) break;
        from += group_bytes(h.length);
        s->end += group_bytes(h.length);
        j->previous = h.checksum; // the copy's: what comes behind it continues the copy
        h.number++;
    }
    file_close(fd);
    return err == ERR_NOT_FOUND ? ERR_IO : err;
}

static int tail_renew(struct journal *j, struct walk *w)
{
    uint64_t from;
    bool published;
    struct room r;
    struct segment s = tail_begin(j, w, &from);
    int err = segments_reserve(j);
    if (err == 0) err = room_take(j, j->count == 0 ? 0 : last_segment(j)->end - from, &r);
    if (err != 0) return err;
    err = tail_copy(j, w, from, &r, &s);
    if (err != 0) {
        room_drop(&r);
        return err;
    }
    if (j->count > 0) last_segment(j)->end = from;
    return room_publish(j, &r, s, &published);
}

static int epoch_raise(struct journal *j)
{
    struct journal_file raised = j->file;
    raised.epoch++;
    int err = file_save(j, &raised);
    if (err == 0) j->file = raised;
    return err;
}

// Segments that have no group left of their own: the copy holds all, or a crash came between a copy and this.
static void superseded_release(struct journal *j)
{
    for (size_t i = j->count - 1; i-- > 0;) {
        if (j->segments[i].first == j->segments[i + 1].first) segments_release(j, i, i + 1);
    }
}

static int recover(struct journal *j, struct walk *w)
{
    int err = names_list(j, w->p);
    if (err == 0 && !j->read_only) err = leftovers_clear(j);
    if (err == 0) err = file_load(j, w->p);
    if (err == 0) err = headers_read(j, w->p);
    if (err == 0) err = groups_walk(j, w);
    if (err != 0) return problem_set(w->p, err, -1, "cannot open the journal in %s", j->path);
    if (!j->read_only) {
        err = tail_renew(j, w);
        if (err == 0) err = epoch_raise(j);
        if (err != 0) return problem_set(w->p, err, -1, "cannot begin a new segment in %s: %s", j->path, err_text(err));
        superseded_release(j);
    }
    return held_deliver(w);
}

int journal_open(struct journal **out, const struct journal_options *options, journal_replay_fn *fn, void *ctx, struct problem *p)
{
    assert(options->path != NULL && options->segment_bytes % SEGMENT_ALIGN == 0);
    if (strlen(options->path) >= PATH_MAX) return problem_set(p, ERR_USAGE, -1, "the journal's path is too long");
    struct journal *j = calloc(1, sizeof *j);
    if (j == NULL) return problem_set(p, ERR_NOMEM, -1, "no memory for a journal");
    snprintf(j->path, sizeof j->path, "%s", options->path);
    j->segment_bytes = options->segment_bytes == 0 ? JOURNAL_SEGMENT_BYTES : options->segment_bytes;
    j->keep_all = options->keep_all;
    j->read_only = options->read_only;
    j->fd = j->fill.fd = -1;

    struct walk w = {.fn = fn, .ctx = ctx, .p = p};
    buf_init(&w.payload, GROUP_BUF_MAX);
    buf_init(&w.held_payload, GROUP_BUF_MAX);
    int err = j->read_only ? 0 : dir_make(j->path);
    err = err == 0 ? recover(j, &w) : problem_set(p, err, -1, "cannot make the folder %s", j->path);
    buf_free(&w.payload);
    buf_free(&w.held_payload);
    if (err != 0) {
        journal_close(j);
        return err;
    }
    *out = j;
    return 0;
}

void journal_close(struct journal *j)
{
    if (j == NULL) return;
    fill_drop(j);
    file_close(j->fd);
    free(j->segments);
    free(j);
}

struct uuid journal_id(const struct journal *j)
{
    return j->file.id;
}

uint64_t journal_epoch(const struct journal *j)
{
    return j->file.epoch;
}

uint64_t journal_first_group(const struct journal *j)
{
    return j->count == 0 ? j->next : j->segments[0].first;
}

uint64_t journal_next_group(const struct journal *j)
{
    return j->next;
}

// ---- writing ---------------------------------------------------------------------------------------------------

// From here on nobody knows what is on the disk: only opening again can tell.
static int fail(struct journal *j, int err, bool *fate_unknown)
{
    j->err = err == ERR_NO_SPACE ? ERR_NO_SPACE : ERR_IO;
    *fate_unknown = true;
    log_error("journal", "a write failed, no more are tried", LF_STR("path", j->path), LF_UINT("group", j->next), LF_ERR(j->err));
    return j->err;
}

// Goes on to a further segment with room for `need` bytes of groups.
static int segment_next(struct journal *j, uint64_t need, bool *fate_unknown)
{
    struct room r;
    struct segment *last = last_segment(j);
    struct segment s = segment_begin(j, last->number + 1, j->file.epoch);
    bool published = false;
    int err = segments_reserve(j);
    if (err != 0) return ERR_NO_SPACE; // of memory, but otherwise the same: nothing was written, try again
    err = room_take(j, need, &r);
    if (err == 0) err = room_publish(j, &r, s, &published);
    if (err == ERR_NO_SPACE && !published) {
        log_error("journal", "no room for a further segment", LF_STR("path", j->path), LF_UINT("group", j->next), LF_ERR(err));
        return err;
    }
    if (err != 0) return fail(j, err, fate_unknown);
    j->fill_refused = false;
    return 0;
}

int journal_append(struct journal *j, struct span payload, bool *fate_unknown)
{
    uint64_t need = group_bytes(payload.n);
    int err = 0;
    assert(payload.n <= GROUP_BYTES_MAX);
    *fate_unknown = false;
    if (j->read_only) return ERR_READ_ONLY;
    if (j->err != 0) {
        *fate_unknown = true;
        return j->err;
    }
    if (last_segment(j)->bytes - last_segment(j)->end < need) err = segment_next(j, need, fate_unknown);
    if (err != 0) return err;
    struct segment *s = last_segment(j);
    struct group_header h = {.number = j->next};
    err = group_write(j->fd, s->end, &h, payload, s->seed);
    if (err == 0 && !bug("nosync")) err = file_sync(j->fd);
    if (err != 0) return fail(j, err, fate_unknown);
    s->end += need;
    j->written += need;
    j->next++;
    j->previous = h.checksum;
    return 0;
}

// One step of the filling, synced, so that no step leaves the next one a backlog.
static int fill_step(struct journal *j)
{
    int err = segment_fill_step(&j->fill, FILL_STEP);
    if (err == 0) err = file_sync(j->fill.fd);
    if (err != 0 || j->fill.done < j->fill.bytes) return err;
    if (rename(path_in(j, FILL_NAME).s, spare_path(j, 0).s) != 0) return err_from_errno(errno);
    file_close(j->fill.fd);
    j->fill = (struct segment_fill){.fd = -1};
    j->spare[0] = true;
    return 0;
}

static bool spare_ready(const struct journal *j)
{
    for (int i = 0; i < SPARES_MAX; i++) {
        if (j->spare[i]) return true;
    }
    return false;
}

bool journal_wants_room(const struct journal *j)
{
    if (j->read_only || j->err != 0 || j->fill_refused || spare_ready(j)) return false;
    return j->fill.fd >= 0 || last_segment(j)->end >= last_segment(j)->bytes / 2;
}

bool journal_prepare(struct journal *j)
{
    int err;
    if (!journal_wants_room(j)) return false;
    if (j->fill.fd >= 0) {
        err = fill_step(j);
    } else {
        err = segment_fill_begin(&j->fill, path_in(j, FILL_NAME).s, j->segment_bytes);
        if (err != 0) j->fill.fd = -1;
    }
    if (err != 0) {
        log_warn("journal", "cannot prepare a segment", LF_STR("path", j->path), LF_ERR(err));
        fill_drop(j);
        j->fill_refused = true;
    }
    return j->fill.fd >= 0;
}

void journal_recycle(struct journal *j, uint64_t group)
{
    size_t n = 0;
    if (j->read_only || j->keep_all || j->err != 0) return;
    while (n + 1 < j->count && (j->segments[n + 1].first - 1 <= group || bug("recycle_early")))
        n++;
    if (n == 0) return;
    segments_release(j, 0, n);
    j->fill_refused = false;
}

uint64_t journal_live_bytes(const struct journal *j)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < j->count; i++)
        bytes += j->segments[i].end - SECTOR_BYTES;
    return bytes;
}

uint64_t journal_written_bytes(const struct journal *j)
{
    return j->written;
}

uint64_t journal_disk_bytes(const struct journal *j)
{
    uint64_t bytes = j->fill.fd >= 0 ? j->fill.bytes : 0;
    for (size_t i = 0; i < j->count; i++)
        bytes += j->segments[i].bytes;
    for (int i = 0; i < SPARES_MAX; i++)
        bytes += j->spare[i] ? j->segment_bytes : 0;
    return bytes;
}
