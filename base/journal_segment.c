#include "journal_segment.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "checksum.h"
#include "err.h"
#include "file.h"
#include "limits.h"

#define JOURNAL_MAGIC 0x4c4e4a4555474553ull // "SEGUEJNL"
#define SEGMENT_MAGIC 0x4745534555474553ull // "SEGUESEG"
#define HEADER_BYTES 72                     // of a segment's first sector; the rest is zeros
#define READ_AHEAD 4096                     // most groups are read with one call
#define SCAN_BYTES (256 * KIB)
#define HEAD_BYTES 12             // of a group: what its own check covers, and that check
#define NUMBERS_AHEAD (1u << 31) // numbers further on than this are ones from before

static void put32(uint8_t *p, uint32_t v)
{
    v = htole32(v);
    memcpy(p, &v, sizeof v);
}

static void put64(uint8_t *p, uint64_t v)
{
    v = htole64(v);
    memcpy(p, &v, sizeof v);
}

static uint32_t get32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return le32toh(v);
}

static uint64_t get64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return le64toh(v);
}

// ---- the file JOURNAL ------------------------------------------------------------------------------------------

void journal_file_encode(uint8_t out[JOURNAL_FILE_BYTES], const struct journal_file *f)
{
    memset(out, 0, JOURNAL_FILE_BYTES);
    put64(out, JOURNAL_MAGIC);
    put32(out + 8, JOURNAL_VERSION);
    memcpy(out + 16, f->id.b, 16);
    memcpy(out + 32, f->secret, 16);
    put64(out + 48, f->epoch);
    put64(out + 56, checksum64(SPAN(out, 56), 0));
}

int journal_file_decode(struct journal_file *out, struct span bytes)
{
    const uint8_t *p = bytes.p;
    if (bytes.n < 12 || get64(p) != JOURNAL_MAGIC) return ERR_CORRUPT;
    if (get32(p + 8) != JOURNAL_VERSION) return ERR_VERSION;
    if (bytes.n != JOURNAL_FILE_BYTES || get64(p + 56) != checksum64(SPAN(p, 56), 0)) return ERR_CORRUPT;
    memcpy(out->id.b, p + 16, 16);
    memcpy(out->secret, p + 32, 16);
    out->epoch = get64(p + 48);
    return 0;
}

uint64_t journal_file_seed(const struct journal_file *f)
{
    return checksum64(SPAN(f->secret, sizeof f->secret), 0);
}

// ---- headers of segments ---------------------------------------------------------------------------------------

void segment_header_encode(uint8_t out[SECTOR_BYTES], const struct segment_header *h, uint64_t seed)
{
    memset(out, 0, SECTOR_BYTES);
    put64(out, SEGMENT_MAGIC);
    put32(out + 8, JOURNAL_VERSION);
    memcpy(out + 16, h->id.b, 16);
    put64(out + 32, h->number);
    put64(out + 40, h->epoch);
    put64(out + 48, h->first);
    put64(out + 56, h->previous);
    put64(out + 64, h->life);
    put64(out + HEADER_BYTES, checksum64(SPAN(out, HEADER_BYTES), seed));
}

int segment_header_decode(struct segment_header *out, struct span bytes, uint64_t seed)
{
    const uint8_t *p = bytes.p;
    if (bytes.n < SECTOR_BYTES || get64(p) != SEGMENT_MAGIC) return ERR_CORRUPT;
    if (get32(p + 8) != JOURNAL_VERSION) return ERR_VERSION;
    if (get64(p + HEADER_BYTES) != checksum64(SPAN(p, HEADER_BYTES), seed)) return ERR_CORRUPT;
    memcpy(out->id.b, p + 16, 16);
    out->number = get64(p + 32);
    out->epoch = get64(p + 40);
    out->first = get64(p + 48);
    out->previous = get64(p + 56);
    out->life = get64(p + 64);
    return 0;
}

void segment_name(char out[SEGMENT_NAME_BYTES], uint64_t number)
{
    assert(number <= SEGMENT_NUMBER_MAX);
    snprintf(out, SEGMENT_NAME_BYTES, "%012" PRIu64 ".seg", number);
}

bool segment_name_parse(uint64_t *number, const char *name)
{
    uint64_t v = 0;
    if (strlen(name) != 16 || strcmp(name + 12, ".seg") != 0) return false;
    for (int i = 0; i < 12; i++) {
        if (name[i] < '0' || name[i] > '9') return false;
        v = v * 10 + (uint64_t)(name[i] - '0');
    }
    *number = v;
    return true;
}

int segment_open(const char *path, uint64_t seed, int *fd, uint64_t *bytes, struct segment_header *h)
{
    uint8_t sector[SECTOR_BYTES];
    int opened = file_open(path, O_RDONLY);
    if (opened < 0) return opened;
    int err = file_size(opened, bytes);
    if (err == 0) err = file_read(opened, sector, sizeof sector, 0);
    if (err == 0) err = segment_header_decode(h, SPAN(sector, sizeof sector), seed);
    if (err != 0) {
        file_close(opened);
        return err;
    }
    *fd = opened;
    return 0;
}

// ---- groups ----------------------------------------------------------------------------------------------------

uint64_t segment_seed(uint64_t life, uint64_t seed)
{
    uint8_t bytes[8];
    put64(bytes, life);
    return checksum64(SPAN(bytes, sizeof bytes), seed);
}

uint64_t group_bytes(uint64_t length)
{
    return (GROUP_HEADER_BYTES + length + GROUP_ALIGN - 1) / GROUP_ALIGN * GROUP_ALIGN;
}

// The length and the number have a check of their own, so that a search need not trust a length, nor hash a payload, because
// some user's bytes have the look of a header.
static uint32_t head_check(const uint8_t *p, uint64_t seed)
{
    return (uint32_t)(checksum64(SPAN(p, 8), seed) >> 32);
}

static void group_header_encode(uint8_t out[GROUP_HEADER_BYTES], struct group_header *h, struct span payload, uint64_t seed)
{
    put32(out, (uint32_t)h->length);
    put32(out + 4, (uint32_t)h->number);
    put32(out + 8, head_check(out, seed));
    h->checksum = checksum64_two(SPAN(out, HEAD_BYTES), payload, seed);
    put64(out + HEAD_BYTES, h->checksum);
}

static bool group_header_decode(struct group_header *h, const uint8_t *p, uint64_t seed)
{
    h->length = get32(p);
    h->number += get32(p + 4) - (uint32_t)h->number;
    h->checksum = get64(p + HEAD_BYTES);
    return h->length <= GROUP_BYTES_MAX && get32(p + 8) == head_check(p, seed);
}

int group_write(int fd, uint64_t offset, struct group_header *h, struct span payload, uint64_t seed)
{
    static const uint8_t zeros[GROUP_ALIGN];
    uint8_t head[GROUP_HEADER_BYTES];
    assert(offset % GROUP_ALIGN == 0 && offset >= SECTOR_BYTES);
    assert(payload.n <= GROUP_BYTES_MAX);
    h->length = payload.n;
    group_header_encode(head, h, payload, seed);
    size_t padding = group_bytes(payload.n) - sizeof head - payload.n;
    struct iovec iov[3] = {{head, sizeof head}, {(void *)payload.p, payload.n}, {(void *)zeros, padding}};
    return file_writev(fd, iov, 3, offset);
}

int group_read(int fd, uint64_t offset, uint64_t file_bytes, uint64_t seed, struct group_header *h, struct buf *payload)
{
    uint8_t head[READ_AHEAD];
    if (offset > file_bytes || file_bytes - offset < GROUP_HEADER_BYTES) return ERR_NOT_FOUND;
    size_t n = file_bytes - offset < sizeof head ? (size_t)(file_bytes - offset) : sizeof head;
    int err = file_read(fd, head, n, offset);
    if (err != 0) return err;
    if (!group_header_decode(h, head, seed) || group_bytes(h->length) > file_bytes - offset) return ERR_NOT_FOUND;
    buf_clear(payload);
    uint8_t *p = buf_reserve(payload, h->length + 1); // one more, so that an empty payload has an address too
    if (p == NULL) return ERR_NOMEM;
    size_t have = h->length < n - GROUP_HEADER_BYTES ? h->length : n - GROUP_HEADER_BYTES;
    memcpy(p, head + GROUP_HEADER_BYTES, have);
    if (have < h->length) err = file_read(fd, p + have, h->length - have, offset + GROUP_HEADER_BYTES + have);
    if (err != 0) return err;
    payload->n = h->length;
    return checksum64_two(SPAN(head, HEAD_BYTES), buf_span(payload), seed) == h->checksum ? 0 : ERR_NOT_FOUND;
}

// Two comparisons before any hashing: nearly every place fails them.
static bool may_be_later(const uint8_t *p, uint64_t number, uint64_t seed)
{
    return get32(p + 4) - (uint32_t)number < NUMBERS_AHEAD && get32(p) <= GROUP_BYTES_MAX && get32(p + 8) == head_check(p, seed);
}

// Offset in the piece of the next place worth reading as a group; `n` when there is none.
static size_t piece_scan(const uint8_t *piece, size_t at, size_t n, uint64_t number, uint64_t seed)
{
    for (; at + GROUP_HEADER_BYTES <= n; at += GROUP_ALIGN) {
        if (may_be_later(piece + at, number, seed)) return at;
    }
    return n;
}

int group_find(int fd, uint64_t offset, uint64_t file_bytes, uint64_t seed, uint64_t number, struct buf *payload, uint64_t *found)
{
    uint8_t *piece = malloc(SCAN_BYTES);
    int err = piece == NULL ? ERR_NOMEM : ERR_NOT_FOUND;
    while (err == ERR_NOT_FOUND && offset < file_bytes && file_bytes - offset >= GROUP_HEADER_BYTES) {
        size_t n = file_bytes - offset < SCAN_BYTES ? (size_t)(file_bytes - offset) : SCAN_BYTES;
        int read = file_read(fd, piece, n, offset);
        if (read != 0) err = read;
        for (size_t at = 0; err == ERR_NOT_FOUND && (at = piece_scan(piece, at, n, number, seed)) < n; at += GROUP_ALIGN) {
            struct group_header h = {.number = number};
            err = group_read(fd, offset + at, file_bytes, seed, &h, payload);
            if (err == 0) *found = offset + at;
        }
        offset += (n - GROUP_HEADER_BYTES) / GROUP_ALIGN * GROUP_ALIGN + GROUP_ALIGN; // a header may lie across the pieces
    }
    free(piece);
    return err;
}

// ---- filling ---------------------------------------------------------------------------------------------------

// Zeros are really written: space that is merely reserved costs a metadata change at the first write into it,
// and so a slower barrier.
int segment_fill_begin(struct segment_fill *f, const char *path, uint64_t bytes)
{
    assert(bytes > 0 && bytes % SECTOR_BYTES == 0);
    int fd = file_open(path, O_RDWR | O_CREAT | O_TRUNC);
    if (fd < 0) return fd;
    int rc;
    do
        rc = fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)bytes);
    while (rc != 0 && errno == EINTR);
    if (rc != 0 && errno != EOPNOTSUPP && errno != ENOSYS) {
        int err = err_from_errno(errno);
        file_close(fd);
        unlink(path);
        return err;
    }
    *f = (struct segment_fill){.fd = fd, .bytes = bytes};
    return 0;
}

int segment_fill_step(struct segment_fill *f, uint64_t bytes)
{
    static const uint8_t zeros[MIB];
    assert(f->fd >= 0 && f->done <= f->bytes);
    uint64_t end = bytes < f->bytes - f->done ? f->done + bytes : f->bytes;
    while (f->done < end) {
        size_t n = end - f->done < sizeof zeros ? (size_t)(end - f->done) : sizeof zeros;
        int err = file_write(f->fd, SPAN(zeros, n), f->done);
        if (err != 0) return err;
        f->done += n;
    }
    return 0;
}
