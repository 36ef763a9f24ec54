#include "stream_segment.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "bug.h"
#include "checksum.h"
#include "compress.h"
#include "err.h"
#include "file.h"
#include "log.h"

#define SEGMENT_MAGIC 0x32736773u // "sgs2"
#define SEGMENT_FLAG_PACKED 1u    // the directory is
#define SEGMENT_LEVEL 1
#define PACK_MIN 64u            // fewer bytes are not tried
#define SAMPLE_BYTES (4 * KIB)  // a long payload is tried at three places first
#define SAMPLED_FROM (64 * KIB)

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

// ---- writing a record ----------------------------------------------------------------------------------------------

void stream_segment_writer_init(struct segment_writer *w)
{
    *w = (struct segment_writer){0};
    buf_init(&w->payload, SEGMENT_RAW_MAX);
    buf_init(&w->table, SEGMENT_DIRECTORY_MAX);
    buf_init(&w->lengths, SEGMENT_DIRECTORY_MAX);
    buf_init(&w->seqs, SEGMENT_DIRECTORY_MAX);
    buf_init(&w->work, SEGMENT_TOTAL_MAX);
}

void stream_segment_writer_free(struct segment_writer *w)
{
    buf_free(&w->payload);
    buf_free(&w->table);
    buf_free(&w->lengths);
    buf_free(&w->seqs);
    buf_free(&w->work);
}

static void writer_clear(struct segment_writer *w)
{
    buf_clear(&w->payload);
    buf_clear(&w->table);
    buf_clear(&w->lengths);
    buf_clear(&w->seqs);
    buf_clear(&w->work);
    w->parts = 0;
    w->last_number = w->last_seq = 0;
}

void stream_segment_part_begin(struct segment_writer *w, uint64_t number, uint64_t first)
{
    w->number = number;
    w->first = w->end = first;
    w->first_seq = w->seq = 0;
    w->count = 0;
    w->payload_at = w->payload.n;
    w->lengths_at = w->lengths.n;
    w->seqs_at = w->seqs.n;
}

void stream_segment_part_bytes(struct segment_writer *w, struct span s)
{
    buf_put_span(&w->payload, s);
}

void stream_segment_part_append(struct segment_writer *w, uint64_t end, uint64_t seq)
{
    assert(end > w->end && seq >= w->seq);
    if (w->count == 0) w->first_seq = w->seq = seq;
    buf_put_varint(&w->lengths, end - w->end);
    buf_put_varint(&w->seqs, seq - w->seq);
    w->end = end;
    w->seq = seq;
    w->count++;
}

static int writer_err(const struct segment_writer *w)
{
    const struct buf *all[] = {&w->payload, &w->table, &w->lengths, &w->seqs, &w->work};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]->err != 0) return all[i]->err;
    return 0;
}

void stream_segment_part_end(struct segment_writer *w, bool cut)
{
    if (writer_err(w) != 0) return;
    size_t raw = w->payload.n - w->payload_at;
    assert(w->count > 0 && raw > 0 && w->end == w->first + raw);
    buf_put_svarint(&w->table, (int64_t)(w->number - w->last_number));
    buf_put_varint(&w->table, w->first);
    buf_put_varint(&w->table, raw);
    buf_put_varint(&w->table, w->count);
    buf_put_varint(&w->table, cut);
    buf_put_varint(&w->table, w->lengths.n - w->lengths_at);
    buf_put_varint(&w->table, w->seqs.n - w->seqs_at);
    buf_put_svarint(&w->table, (int64_t)(w->first_seq - w->last_seq));
    w->last_number = w->number;
    w->last_seq = w->first_seq;
    w->parts++;
}

// Does packing pay? An eighth at least: less is not worth the unpacking.
static bool pays(size_t packed, size_t raw)
{
    return packed < raw - raw / 8;
}

// A few samples tell what is random or packed already, for a hundredth of the work.
static bool seems_packable(struct buf *work, struct span s)
{
    if (s.n < SAMPLED_FROM) return s.n >= PACK_MIN;
    size_t packed = 0;
    for (size_t i = 0; i < 3; i++) {
        buf_clear(work);
        if (zstd_pack(work, span_sub(s, (s.n - SAMPLE_BYTES) / 2 * i, SAMPLE_BYTES), SEGMENT_LEVEL) != 0) return false;
        packed += work->n;
    }
    return pays(packed, 3u * SAMPLE_BYTES);
}

// Appends `s` packed, where that pays, or as it is. True: packed.
static bool put_packed(struct buf *out, struct buf *work, struct span s)
{
    if (seems_packable(work, s)) {
        buf_clear(work);
        if (zstd_pack(work, s, SEGMENT_LEVEL) == 0 && pays(work->n, s.n)) return buf_put_span(out, buf_span(work)), true;
    }
    buf_put_span(out, s);
    return false;
}

int stream_segment_encode(struct segment_writer *w, struct buf *out, uint32_t file, uint64_t start)
{
    assert(out->n % 8 == 0 && start % 8 == 0);
    if (writer_err(w) != 0) return writer_err(w);
    assert(w->parts > 0 && w->parts <= SEGMENT_PARTS_MAX);
    static const uint8_t zeroes[SEGMENT_HEAD];
    size_t at = out->n, raw = w->payload.n;
    buf_put(out, zeroes, sizeof zeroes);
    buf_put_span(&w->table, buf_span(&w->lengths));
    buf_put_span(&w->table, buf_span(&w->seqs));
    if (w->table.err != 0) return w->table.err;
    size_t directory_raw = w->table.n;
    bool packed = put_packed(out, &w->work, buf_span(&w->table));
    size_t directory = out->n - at - SEGMENT_HEAD;
    uint8_t codec = put_packed(out, &w->work, buf_span(&w->payload)) ? SEGMENT_ZSTD : SEGMENT_PLAIN;
    size_t payload = out->n - at - SEGMENT_HEAD - directory;
    buf_put(out, zeroes, round_up(out->n, 8) - out->n);
    if (out->err != 0) return out->err;
    uint8_t *p = out->p + at;
    store_le(p + 8, SEGMENT_MAGIC, 4);
    p[12] = STREAM_FORMAT;
    p[13] = codec;
    store_le(p + 14, packed ? SEGMENT_FLAG_PACKED : 0, 2);
    store_le(p + 16, raw, 4);
    store_le(p + 20, payload, 4);
    store_le(p + 24, directory_raw, 4);
    store_le(p + 28, directory, 4);
    store_le(p + 32, w->parts, 4);
    store_le(p, checksum64(SPAN(p + 8, out->n - at - 8), segment_seed(file, start + at)), 8);
    writer_clear(w);
    return 0;
}

// ---- writing to a file ---------------------------------------------------------------------------------------------

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

// ---- reading a record ----------------------------------------------------------------------------------------------

struct segment_head {
    uint64_t checksum;
    uint32_t magic;
    uint8_t version, codec;
    uint16_t flags;
    uint32_t raw, stored, directory_raw, directory, parts;
};

static int head_read(struct cur *c, struct segment_head *h)
{
    *h = (struct segment_head){.checksum = cur_u64(c)};
    h->magic = cur_u32(c);
    h->version = cur_u8(c);
    h->codec = cur_u8(c);
    h->flags = cur_u16(c);
    h->raw = cur_u32(c);
    h->stored = cur_u32(c);
    h->directory_raw = cur_u32(c);
    h->directory = cur_u32(c);
    h->parts = cur_u32(c);
    cur_u32(c);
    return c->err != 0 || h->magic != SEGMENT_MAGIC ? ERR_CORRUPT : 0;
}

static size_t head_total(const struct segment_head *h)
{
    return round_up((size_t)SEGMENT_HEAD + h->directory + h->stored, 8);
}

// The lengths, which the checksum vouches for, still have to make sense together.
static bool head_sane(const struct segment_head *h)
{
    return h->raw > 0 && h->raw <= SEGMENT_RAW_MAX && h->directory_raw <= SEGMENT_DIRECTORY_MAX && h->parts > 0 && h->parts <= SEGMENT_PARTS_MAX &&
           h->codec <= SEGMENT_ZSTD && (h->codec == SEGMENT_ZSTD || h->stored == h->raw) &&
           ((h->flags & SEGMENT_FLAG_PACKED) != 0 || h->directory == h->directory_raw);
}

int stream_segment_length(struct span head, uint32_t *total)
{
    struct cur c;
    struct segment_head h;
    cur_init(&c, head);
    if (head_read(&c, &h) != 0 || head_total(&h) > SEGMENT_TOTAL_MAX) return ERR_CORRUPT;
    *total = (uint32_t)head_total(&h);
    return 0;
}

int stream_segment_decode(struct span bytes, uint32_t file, uint64_t position, struct segment_block *out)
{
    struct cur c;
    struct segment_head h;
    cur_init(&c, bytes);
    int err = head_read(&c, &h);
    if (err != 0) return err;
    if (h.checksum != checksum64(span_sub(bytes, 8, bytes.n), segment_seed(file, position))) return ERR_CORRUPT;
    if (h.version != STREAM_FORMAT) return ERR_VERSION;
    if (!head_sane(&h) || head_total(&h) != bytes.n) return ERR_CORRUPT;
    *out = (struct segment_block){.codec = h.codec, .packed = (h.flags & SEGMENT_FLAG_PACKED) != 0, .parts = h.parts, .raw = h.raw, .directory_raw = h.directory_raw};
    out->directory = cur_span(&c, h.directory);
    out->payload = cur_span(&c, h.stored);
    return c.err;
}

static int unpack(struct span stored, bool packed, uint32_t raw, struct buf *room, struct span *out)
{
    *out = stored;
    if (!packed) return 0;
    buf_clear(room);
    int err = zstd_unpack(room, stored, raw);
    if (err != 0) return err == ERR_NOMEM ? err : ERR_CORRUPT;
    *out = buf_span(room);
    return room->n == raw ? 0 : ERR_CORRUPT;
}

int stream_segment_directory(const struct segment_block *b, struct buf *room, struct span *out)
{
    return unpack(b->directory, b->packed, b->directory_raw, room, out);
}

int stream_segment_payload(const struct segment_block *b, struct buf *room, struct span *out)
{
    return unpack(b->payload, b->codec == SEGMENT_ZSTD, b->raw, room, out);
}

// ---- parts and boundaries ------------------------------------------------------------------------------------------

// The columns' lengths are the sums of what the parts say, so the table is walked once before.
void stream_segment_parts_init(struct segment_parts *p, const struct segment_block *b, struct span directory)
{
    struct cur c;
    uint64_t lengths = 0, seqs = 0;
    *p = (struct segment_parts){.left = b->parts, .raw = b->raw};
    cur_init(&c, directory);
    for (uint32_t i = 0; i < b->parts && c.err == 0; i++) {
        for (int k = 0; k < 5; k++)
            cur_varint(&c);
        lengths += cur_varint(&c);
        seqs += cur_varint(&c);
        cur_varint(&c);
        if (lengths > directory.n || seqs > directory.n) cur_fail(&c);
    }
    size_t table = directory.n - cur_left(&c);
    if (c.err != 0 || lengths + seqs != directory.n - table) {
        p->err = ERR_CORRUPT;
        return;
    }
    cur_init(&p->c, span_sub(directory, 0, table));
    cur_init(&p->lengths, span_sub(directory, table, lengths));
    cur_init(&p->seqs, span_sub(directory, table + lengths, seqs));
}

bool stream_segment_parts_next(struct segment_parts *p, struct segment_record *out)
{
    if (p->err != 0 || p->left == 0) return false;
    p->left--;
    struct cur *c = &p->c;
    struct segment_record r = {.number = p->number + (uint64_t)cur_svarint(c), .at = p->at};
    r.first = cur_varint(c);
    uint64_t raw = cur_varint(c), count = cur_varint(c);
    r.cut = cur_varint(c) != 0;
    r.lengths = cur_span(&p->lengths, cur_varint(c));
    r.seqs = cur_span(&p->seqs, cur_varint(c));
    r.first_seq = p->first_seq + (uint64_t)cur_svarint(c);
    if (c->err != 0 || p->lengths.err != 0 || p->seqs.err != 0 || raw == 0 || raw > p->raw - p->at || count == 0 || count > raw) {
        p->err = ERR_CORRUPT;
        return false;
    }
    r.raw = (uint32_t)raw;
    r.bound_count = (uint32_t)count;
    p->at += raw;
    p->number = r.number;
    p->first_seq = r.first_seq;
    *out = r;
    return true;
}

void stream_segment_bounds_init(struct segment_bounds *b, const struct segment_record *r)
{
    *b = (struct segment_bounds){.left = r->bound_count, .end = r->first, .seq = r->first_seq, .limit = r->first + r->raw};
    cur_init(&b->lengths, r->lengths);
    cur_init(&b->seqs, r->seqs);
}

bool stream_segment_bounds_next(struct segment_bounds *b)
{
    if (b->left == 0) return false;
    b->left--;
    uint64_t n = cur_varint(&b->lengths);
    uint64_t seq = cur_varint(&b->seqs);
    if (n == 0 || n > b->limit - b->end) cur_fail(&b->lengths);
    if (stream_segment_bounds_err(b) != 0) return false;
    b->end += n;
    b->seq += seq;
    return true;
}
