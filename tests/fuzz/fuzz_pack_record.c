// Any bytes as a record of a pack: what is read of it is the content that its hash names, or it is damaged.
//
//   0, record                                  as it is
//   1, codec u8, length u32, payload           in a record that is right as far as it can be: its content is what must be read
#include <assert.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "blob_store.h"
#include "compress.h"
#include "err.h"
#include "pack.h"
#include "tmp.h"

#define MOST (RECORD_HEAD_BYTES + BLOB_CHUNK_MAX)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct blobs blobs; // as much of a store as the reading of a chunk needs
static char *folder;
static int fd = -1;

static void close_store(void)
{
    packs_close(blobs.packs);
    verified_free(&blobs.verified);
    close(fd);
    tmp_remove(folder);
}

static void open_store(void)
{
    folder = tmp_make();
    char *path = tmp_path(folder, "0001.pack");
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    free(path);
    int err = packs_open(&blobs.packs, folder, 0);
    if (err == 0) err = verified_init(&blobs.verified);
    assert(err == 0 && fd >= 0);
    atexit(close_store);
}

static void put(struct span record)
{
    int cut = ftruncate(fd, 0);
    ssize_t n = pwrite(fd, record.p, record.n, 0);
    assert(cut == 0 && n == (ssize_t)record.n);
}

static int read_chunk(const struct chunk *chunk, struct buf *content)
{
    struct buf record;
    buf_init(&record, MOST);
    int err = chunk_read(&blobs, chunk, &record, content);
    buf_free(&record);
    assert(err == 0 || err == ERR_CORRUPT);
    if (err != 0) return err;
    struct sha256 is = sha256_of(buf_span(content));
    assert(content->n == chunk->place.length && sha256_equal(&is, &chunk->sha));
    return 0;
}

static void try_as_it_is(struct span record)
{
    struct chunk chunk;
    struct buf content;
    int err = blob_record_head_decode(record, &chunk);
    assert(err == 0 || err == ERR_CORRUPT || err == ERR_VERSION);
    if (err != 0) return;
    assert(chunk.place.length > 0 && chunk.place.length <= BLOB_CHUNK_MAX && chunk.place.stored <= chunk.place.length);
    chunk.place.pack = 1;
    buf_init(&content, BLOB_CHUNK_MAX);
    put(record);
    read_chunk(&chunk, &content);
    buf_free(&content);
}

static void try_in_a_record(struct span input)
{
    struct chunk chunk = {.place = {.pack = 1}};
    struct buf content, record;
    struct cur c;
    cur_init(&c, input);
    chunk.place.codec = cur_u8(&c) % 2;
    uint32_t length = cur_u32(&c);
    struct span payload = cur_span(&c, cur_left(&c));
    bool raw = chunk.place.codec == CODEC_RAW;
    chunk.place.stored = (uint32_t)payload.n;
    chunk.place.length = raw ? (uint32_t)payload.n : length;
    if (c.err != 0 || payload.n == 0 || chunk.place.length > BLOB_CHUNK_MAX || (!raw && payload.n >= length)) return;
    buf_init(&content, BLOB_CHUNK_MAX);
    buf_init(&record, MOST);
    int err = 0;
    if (raw) buf_put_span(&content, payload);
    else err = zstd_unpack(&content, payload, length);
    assert(content.n <= chunk.place.length);
    bool whole = err == 0 && content.n == chunk.place.length;
    if (whole) chunk.sha = sha256_of(buf_span(&content));
    blob_record_encode(buf_reserve(&record, MOST), &chunk, payload);
    record.n = RECORD_HEAD_BYTES;
    buf_put_span(&record, payload);
    assert(record.err == 0);
    put(buf_span(&record));
    err = read_chunk(&chunk, &content);
    assert((err == 0) == whole);
    buf_free(&content);
    buf_free(&record);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (fd < 0) open_store();
    if (size == 0 || size > MOST) return 0;
    if (data[0] % 2 == 0) try_as_it_is(SPAN(data + 1, size - 1));
    else try_in_a_record(SPAN(data + 1, size - 1));
    return 0;
}
