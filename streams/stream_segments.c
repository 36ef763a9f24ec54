#include "stream_segments.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "err.h"
#include "file.h"
#include "log.h"

// ---- opening -------------------------------------------------------------------------------------------------------

static bool segment_number_of(const char *name, uint32_t *file)
{
    if (strlen(name) != 12 || strcmp(name + 8, ".seg") != 0 || strspn(name, "0123456789abcdef") != 8) return false;
    *file = (uint32_t)strtoul(name, NULL, 16);
    return true;
}

int stream_segments_each(const char *folder, void (*fn)(void *ctx, uint32_t file), void *ctx)
{
    DIR *d = opendir(folder);
    if (d == NULL) return ERR_IO;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        uint32_t file;
        if (segment_number_of(e->d_name, &file)) fn(ctx, file);
    }
    closedir(d);
    return 0;
}

struct later {
    const struct segments *g;
    uint32_t last;
    bool removed;
};

static void remove_later(void *ctx, uint32_t file)
{
    struct later *l = ctx;
    char name[SEGMENT_NAME_MAX];
    if (file <= l->last) return;
    stream_segment_name(name, l->g->folder, file);
    l->removed |= unlink(name) == 0;
}

// Files beyond the one that is written to are of sealings whose index a crash lost.
static int segments_remove_later(struct segments *g, uint32_t last)
{
    struct later l = {.g = g, .last = last};
    int err = stream_segments_each(g->folder, remove_later, &l);
    return err != 0 || !l.removed ? err : dir_sync(g->folder);
}

static int segments_trim(struct segments *g, struct stream_alloc *a)
{
    char name[SEGMENT_NAME_MAX];
    uint64_t size = 0;
    stream_segment_name(name, g->folder, a->file);
    if (a->position == 0) return unlink(name), 0; // a file is made anew at its first record
    int fd = file_open(name, O_RDWR);
    int err = fd < 0 ? fd : file_size(fd, &size);
    if (err == 0 && size > a->position && ftruncate(fd, (off_t)a->position) != 0) err = ERR_IO;
    file_close(fd);
    if (err == 0 && size >= a->position) return 0;
    log_error("streams", "a segment file is not as it was left", LF_STR("file", name), LF_UINT("size", size),
              LF_UINT("indexed", a->position));
    a->file++;
    a->position = 0;
    return 0;
}

int stream_segments_init(struct segments *g, const char *folder)
{
    *g = (struct segments){0};
    for (int i = 0; i < SEGMENT_FILES; i++)
        g->files[i].fd = -1;
    for (int i = 0; i < SEGMENT_RECORDS; i++) {
        buf_init(&g->kept[i].bytes, SEGMENT_TOTAL_MAX);
        buf_init(&g->kept[i].directory_room, SEGMENT_DIRECTORY_MAX);
        buf_init(&g->kept[i].payload_room, SEGMENT_RAW_MAX);
    }
    if (strlen(folder) + 16 > SEGMENT_NAME_MAX) return ERR_BAD_PARAMETER;
    g->folder = strdup(folder);
    return g->folder == NULL ? ERR_NOMEM : 0;
}

int stream_segments_open(struct segments *g, const char *folder, struct stream_alloc *a)
{
    int err = stream_segments_init(g, folder);
    if (err == 0) err = dir_make(folder);
    if (err == 0) err = segments_remove_later(g, a->file);
    return err != 0 ? err : segments_trim(g, a);
}

void stream_segments_close(struct segments *g)
{
    if (g->folder == NULL) return;
    for (int i = 0; i < SEGMENT_FILES; i++)
        file_close(g->files[i].fd);
    for (int i = 0; i < SEGMENT_RECORDS; i++) {
        buf_free(&g->kept[i].bytes);
        buf_free(&g->kept[i].directory_room);
        buf_free(&g->kept[i].payload_room);
    }
    free(g->seen);
    free(g->folder);
    *g = (struct segments){0};
}

// ---- files ---------------------------------------------------------------------------------------------------------

// The open file, or the one unused for longest, opened as this one.
int stream_segments_fd(struct segments *g, uint32_t file)
{
    struct segment_file *f = &g->files[0];
    for (int i = 0; i < SEGMENT_FILES; i++) {
        struct segment_file *at = &g->files[i];
        if (at->fd >= 0 && at->file == file) {
            at->used = ++g->tick;
            return at->fd;
        }
        if (at->used < f->used) f = at;
    }
    char name[SEGMENT_NAME_MAX];
    stream_segment_name(name, g->folder, file);
    file_close(f->fd);
    *f = (struct segment_file){.fd = file_open(name, O_RDONLY), .file = file, .used = ++g->tick};
    int fd = f->fd;
    if (fd < 0) f->fd = -1;
    return fd;
}

void stream_segments_forget(struct segments *g, uint32_t file)
{
    for (int i = 0; i < SEGMENT_FILES; i++) {
        if (g->files[i].fd < 0 || g->files[i].file != file) continue;
        file_close(g->files[i].fd);
        g->files[i] = (struct segment_file){.fd = -1};
    }
    for (int i = 0; i < SEGMENT_RECORDS; i++)
        if (g->kept[i].file == file) g->kept[i].set = false;
    for (size_t i = 0; g->seen != NULL && i < SEGMENT_SEEN; i++)
        if (g->seen[i].file == file) g->seen[i].set = false;
}

// ---- records -------------------------------------------------------------------------------------------------------

static int segments_load(struct segments *g, struct segment_kept *k, uint32_t file, uint64_t position, uint32_t total)
{
    k->set = false;
    if (total > SEGMENT_TOTAL_MAX) return ERR_CORRUPT;
    buf_clear(&k->bytes);
    int fd = stream_segments_fd(g, file);
    if (fd < 0) return fd == ERR_NOT_FOUND ? ERR_CORRUPT : fd; // indexed files are never removed
    uint8_t *p = buf_reserve(&k->bytes, total);
    if (p == NULL) return ERR_NOMEM;
    int err = file_read(fd, p, total, position);
    if (err != 0) return err;
    k->bytes.n = total;
    err = stream_segment_decode(SPAN(p, total), file, position, &k->block);
    if (err == 0) err = stream_segment_directory(&k->block, &k->directory_room, &k->directory);
    if (err != 0) return err;
    k->payload = SPAN_NONE;
    k->file = file;
    k->position = position;
    k->set = true;
    return 0;
}

static int segments_kept(struct segments *g, uint32_t file, uint64_t position, uint32_t total, struct segment_kept **out)
{
    struct segment_kept *k = &g->kept[0];
    for (int i = 0; i < SEGMENT_RECORDS; i++) {
        struct segment_kept *at = &g->kept[i];
        if (at->set && at->file == file && at->position == position) {
            at->used = ++g->tick;
            *out = at;
            return 0;
        }
        if (at->used < k->used) k = at;
    }
    int err = segments_load(g, k, file, position, total);
    k->used = ++g->tick;
    *out = k;
    return err;
}

int stream_segments_block(struct segments *g, uint32_t file, uint64_t position, uint32_t total, const struct segment_kept **out)
{
    struct segment_kept *k;
    int err = segments_kept(g, file, position, total, &k);
    if (err == 0) *out = k;
    return err;
}

// Finds the part in the directory; the bytes only where they are wanted.
static int segments_part(struct segments *g, uint64_t number, const struct stream_index *ix, bool bytes)
{
    struct segment_kept *k;
    struct segment_parts parts;
    struct segment_record *r = &g->record;
    int err = segments_kept(g, ix->file, ix->position, ix->total, &k);
    if (err != 0) return err;
    stream_segment_parts_init(&parts, &k->block, k->directory);
    do {
        if (!stream_segment_parts_next(&parts, r)) return ERR_CORRUPT;
    } while (r->number != number || r->first != ix->first);
    if (r->raw != ix->raw) return ERR_CORRUPT;
    if (!bytes) return 0;
    if (k->payload.p == NULL) err = stream_segment_payload(&k->block, &k->payload_room, &k->payload);
    if (err == 0) r->payload = span_sub(k->payload, r->at, r->raw);
    return err;
}

static int segments_find(struct segments *g, uint64_t number, const struct stream_index *ix, bool bytes, const struct segment_record **out)
{
    int err = segments_part(g, number, ix, bytes);
    if (err == ERR_CORRUPT)
        log_error("streams", "a sealed record does not verify", LF_UINT("stream", number), LF_UINT("offset", ix->first),
                  LF_UINT("file", ix->file), LF_UINT("position", ix->position));
    if (err == 0) *out = &g->record;
    return err;
}

int stream_segments_read(struct segments *g, uint64_t number, const struct stream_index *ix, const struct segment_record **out)
{
    return segments_find(g, number, ix, true, out);
}

int stream_segments_bounds(struct segments *g, uint64_t number, const struct stream_index *ix, const struct segment_record **out)
{
    return segments_find(g, number, ix, false, out);
}

static struct segment_seen *seen_at(struct segments *g, const struct stream_index *ix)
{
    if (g->seen == NULL) g->seen = calloc(SEGMENT_SEEN, sizeof *g->seen);
    uint64_t hash = (ix->position / 8 + ((uint64_t)ix->file << 32)) * 0x9e3779b97f4a7c15u;
    return g->seen == NULL ? NULL : &g->seen[(hash >> 40) % SEGMENT_SEEN];
}

bool stream_segments_alone(struct segments *g, uint64_t number, const struct stream_index *ix, struct segment_seen *out)
{
    struct segment_seen *seen = seen_at(g, ix);
    const struct segment_record *r;
    struct segment_kept *k;
    if (seen == NULL || ix->raw < SEGMENT_SHARED_RAW) return false; // smaller ones share records
    if (!seen->set || seen->file != ix->file || seen->position != ix->position) {
        if (stream_segments_bounds(g, number, ix, &r) != 0 || segments_kept(g, ix->file, ix->position, ix->total, &k) != 0) return false;
        if (k->block.parts != 1) return false;
        *seen = (struct segment_seen){.set = true, .codec = k->block.codec, .file = ix->file, .position = ix->position};
        seen->payload_at = (uint32_t)(k->block.payload.p - k->bytes.p);
        seen->payload = (uint32_t)k->block.payload.n;
    }
    *out = *seen;
    return true;
}
