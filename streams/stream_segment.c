#include "stream_segment.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bug.h"
#include "checksum.h"
#include "err.h"
#include "file.h"
#include "log.h"

#define SEGMENT_MAGIC 0x31736773u // "sgs1"
#define SEGMENT_HEAD 48u
#define SEGMENT_FLAG_CUT 1u
#define BOUND_BYTES_MAX 20u // two varints
#define SEGMENT_TOTAL_MAX (SEGMENT_HEAD + SEGMENT_BOUNDS_MAX * BOUND_BYTES_MAX + SEGMENT_RAW_MAX + 8u)

enum { CODEC_RAW = 0 };

static uint64_t segment_seed(uint32_t file, uint64_t position)
{
    return (uint64_t)file << 40 ^ position;
}

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

static void store_le(uint8_t *p, uint64_t v, int width)
{
    for (int i = 0; i < width; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

// ---- one record ----------------------------------------------------------------------------------------------------

static void encode_bounds(struct buf *out, const struct segment_source *src)
{
    uint64_t end = src->first, seq = 0, limit = src->first + src->raw;
    for (uint32_t i = 0; i < src->bound_count; i++) {
        const struct boundary *b = &src->bounds[i];
        uint64_t at = b->end < limit ? b->end : limit;
        assert(at > end && b->seq >= seq);
        buf_put_varint(out, at - end);
        buf_put_varint(out, b->seq - seq);
        end = at;
        seq = b->seq;
    }
    assert(end == limit);
}

static void encode_pad(struct buf *out, size_t n)
{
    static const uint8_t zeroes[8];
    buf_put(out, zeroes, n);
}

void stream_segment_encode(struct buf *out, const struct segment_source *src, uint32_t file, uint64_t start)
{
    assert(out->n % 8 == 0 && start % 8 == 0 && src->raw > 0 && src->bound_count > 0);
    size_t at = out->n;
    buf_put_u64(out, 0); // the checksum, when the rest is there
    buf_put_u32(out, SEGMENT_MAGIC);
    buf_put_u8(out, STREAM_FORMAT);
    buf_put_u8(out, CODEC_RAW);
    buf_put_u16(out, src->cut ? SEGMENT_FLAG_CUT : 0);
    buf_put_u64(out, src->number);
    buf_put_u64(out, src->first);
    buf_put_u32(out, src->raw);
    buf_put_u32(out, src->raw);
    buf_put_u32(out, src->bound_count);
    buf_put_u32(out, 0); // bytes of boundaries, when they are there
    encode_bounds(out, src);
    size_t bound_bytes = out->n - at - SEGMENT_HEAD;
    for (size_t i = 0; i < src->piece_count; i++)
        buf_put(out, src->pieces[i].bytes->p + src->pieces[i].at, src->pieces[i].n);
    encode_pad(out, round_up(out->n, 8) - out->n);
    if (out->err != 0) return;
    store_le(out->p + at + 44, bound_bytes, 4);
    store_le(out->p + at, checksum64(SPAN(out->p + at + 8, out->n - at - 8), segment_seed(file, start + at)), 8);
}

// The lengths in a header, which the checksum vouches for, still have to make sense together.
static int decode_body(struct cur *c, size_t total, uint32_t stored, uint32_t bound_bytes, uint8_t codec, struct segment_record *r)
{
    if (codec != CODEC_RAW || stored != r->raw) return ERR_CORRUPT;
    if (round_up((size_t)SEGMENT_HEAD + bound_bytes + stored, 8) != total) return ERR_CORRUPT;
    r->bounds = cur_span(c, bound_bytes);
    r->payload = cur_span(c, stored);
    return c->err;
}

int stream_segment_decode(struct span bytes, uint64_t number, const struct stream_index *ix, struct segment_record *out)
{
    struct cur c;
    cur_init(&c, bytes);
    uint64_t checksum = cur_u64(&c);
    if (c.err != 0 || checksum != checksum64(span_sub(bytes, 8, bytes.n), segment_seed(ix->file, ix->position))) return ERR_CORRUPT;
    uint32_t magic = cur_u32(&c);
    uint8_t version = cur_u8(&c), codec = cur_u8(&c);
    uint16_t flags = cur_u16(&c);
    struct segment_record r = {.number = cur_u64(&c), .cut = flags & SEGMENT_FLAG_CUT};
    r.first = cur_u64(&c);
    r.raw = cur_u32(&c);
    uint32_t stored = cur_u32(&c);
    r.bound_count = cur_u32(&c);
    uint32_t bound_bytes = cur_u32(&c);
    if (c.err != 0 || magic != SEGMENT_MAGIC) return ERR_CORRUPT;
    if (version != STREAM_FORMAT) return ERR_VERSION;
    if (r.number != number || r.first != ix->first || r.raw != ix->raw) return ERR_CORRUPT;
    int err = decode_body(&c, bytes.n, stored, bound_bytes, codec, &r);
    if (err == 0) *out = r;
    return err;
}

void stream_segment_bounds_init(struct segment_bounds *b, const struct segment_record *r)
{
    *b = (struct segment_bounds){.left = r->bound_count, .end = r->first, .limit = r->first + r->raw};
    cur_init(&b->c, r->bounds);
}

bool stream_segment_bounds_next(struct segment_bounds *b)
{
    if (b->left == 0) return false;
    b->left--;
    uint64_t n = cur_varint(&b->c);
    uint64_t seq = cur_varint(&b->c);
    if (n == 0 || n > b->limit - b->end) cur_fail(&b->c);
    if (b->c.err != 0) return false;
    b->end += n;
    b->seq += seq;
    return true;
}

// ---- writing -------------------------------------------------------------------------------------------------------

void stream_segment_name(char out[SEGMENT_NAME_MAX], const char *folder, uint32_t file)
{
    int n = snprintf(out, SEGMENT_NAME_MAX, "%s/%08x.seg", folder, file);
    assert(n > 0 && n < SEGMENT_NAME_MAX); // stream_segments_open refuses a longer folder
}

// What was written for nothing must not fill the disk.
void stream_segment_cut(const char *folder, uint32_t file, uint64_t position)
{
    char name[SEGMENT_NAME_MAX];
    stream_segment_name(name, folder, file);
    int failed = position == 0 ? unlink(name) : truncate(name, (off_t)position);
    if (failed != 0) log_warn("streams", "cannot take back a write", LF_STR("file", name));
}

int stream_segment_write(const char *folder, uint32_t file, uint64_t position, struct span bytes)
{
    char name[SEGMENT_NAME_MAX];
    stream_segment_name(name, folder, file);
    int fd = file_open(name, O_RDWR | O_CREAT | (position == 0 ? O_TRUNC : 0));
    if (fd < 0) return fd;
    int err = file_write(fd, bytes, position);
    if (err == 0 && !bug("stream_seal_unsynced")) err = file_sync(fd);
    if (err == 0 && position == 0) err = dir_sync(folder);
    file_close(fd);
    if (err != 0) stream_segment_cut(folder, file, position);
    return err;
}

// ---- opening -------------------------------------------------------------------------------------------------------

static bool segment_number_of(const char *name, uint32_t *file)
{
    if (strlen(name) != 12 || strcmp(name + 8, ".seg") != 0 || strspn(name, "0123456789abcdef") != 8) return false;
    *file = (uint32_t)strtoul(name, NULL, 16);
    return true;
}

// Files beyond the one that is written to are of sealings whose index a crash lost.
static int segments_remove_later(struct segments *g, uint32_t last)
{
    DIR *d = opendir(g->folder);
    if (d == NULL) return ERR_IO;
    bool removed = false;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        char name[SEGMENT_NAME_MAX];
        uint32_t file;
        if (!segment_number_of(e->d_name, &file) || file <= last) continue;
        stream_segment_name(name, g->folder, file);
        removed |= unlink(name) == 0;
    }
    closedir(d);
    return removed ? dir_sync(g->folder) : 0;
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

int stream_segments_open(struct segments *g, const char *folder, struct stream_alloc *a)
{
    *g = (struct segments){0};
    for (int i = 0; i < SEGMENT_FILES; i++)
        g->files[i].fd = -1;
    for (int i = 0; i < SEGMENT_RECORDS; i++)
        buf_init(&g->kept[i].bytes, SEGMENT_TOTAL_MAX);
    if (strlen(folder) + 16 > SEGMENT_NAME_MAX) return ERR_BAD_PARAMETER;
    g->folder = strdup(folder);
    if (g->folder == NULL) return ERR_NOMEM;
    int err = dir_make(folder);
    if (err == 0) err = segments_remove_later(g, a->file);
    return err != 0 ? err : segments_trim(g, a);
}

void stream_segments_close(struct segments *g)
{
    for (int i = 0; i < SEGMENT_FILES; i++)
        file_close(g->files[i].fd);
    for (int i = 0; i < SEGMENT_RECORDS; i++)
        buf_free(&g->kept[i].bytes);
    free(g->folder);
    *g = (struct segments){0};
}

// ---- reading -------------------------------------------------------------------------------------------------------

// The open file, or the one unused for longest, opened as this one.
static int segments_fd(struct segments *g, uint32_t file)
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

static int segments_load(struct segments *g, struct segment_kept *k, uint64_t number, const struct stream_index *ix)
{
    if (ix->total > SEGMENT_TOTAL_MAX) return ERR_CORRUPT;
    buf_clear(&k->bytes);
    int fd = segments_fd(g, ix->file);
    if (fd < 0) return ERR_CORRUPT; // indexed files are never removed
    uint8_t *p = buf_reserve(&k->bytes, ix->total);
    if (p == NULL) return ERR_NOMEM;
    int err = file_read(fd, p, ix->total, ix->position);
    if (err != 0) return err;
    err = stream_segment_decode(SPAN(p, ix->total), number, ix, &k->record);
    if (err != 0) return err;
    k->bytes.n = ix->total;
    k->file = ix->file;
    k->position = ix->position;
    return 0;
}

int stream_segments_read(struct segments *g, uint64_t number, const struct stream_index *ix, const struct segment_record **out)
{
    struct segment_kept *k = &g->kept[0];
    for (int i = 0; i < SEGMENT_RECORDS; i++) {
        struct segment_kept *at = &g->kept[i];
        if (at->bytes.n > 0 && at->file == ix->file && at->position == ix->position && at->record.number == number) {
            at->used = ++g->tick;
            *out = &at->record;
            return 0;
        }
        if (at->used < k->used) k = at;
    }
    int err = segments_load(g, k, number, ix);
    k->used = ++g->tick;
    if (err == ERR_CORRUPT)
        log_error("streams", "a sealed record does not verify", LF_UINT("stream", number), LF_UINT("offset", ix->first),
                  LF_UINT("file", ix->file), LF_UINT("position", ix->position));
    if (err == 0) *out = &k->record;
    return err;
}
