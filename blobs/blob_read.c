// Reading and verifying one chunk.
#include "blob_store.h"
#include "compress.h"
#include "err.h"
#include "log.h"
#include "pack.h"

// ---- one chunk -------------------------------------------------------------------------------------------------

static void log_damage(const struct chunk *chunk, const char *what)
{
    char hex[SHA256_HEX];
    hex_format(hex, SPAN(chunk->sha.b, SHA256_BYTES));
    log_error("blobs", "a chunk is damaged", LF_STR("what", what), LF_UINT("pack", chunk->place.pack),
              LF_UINT("position", chunk->place.position), LF_SPAN("chunk", SPAN(hex, sizeof hex)));
}

static int read_record(struct blobs *b, const struct chunk *chunk, struct buf *record)
{
    size_t n = RECORD_HEAD_BYTES + chunk->place.stored;
    buf_clear(record);
    uint8_t *to = buf_reserve(record, n);
    if (to == NULL) return record->err;
    struct pack *pack = packs_get(b->packs, chunk->place.pack);
    if (pack == NULL) return ERR_NOMEM;
    int err = pack_read(pack, to, n, chunk->place.position);
    pack_unref(pack);
    if (err == 0) record->n = n;
    return err;
}

// The record is the one that the place promises.
static bool is_same(const struct chunk *a, const struct chunk *b)
{
    return sha256_equal(&a->sha, &b->sha) && a->place.codec == b->place.codec && a->place.length == b->place.length &&
           a->place.stored == b->place.stored;
}

static int unpack_record(const struct chunk *chunk, struct span record, struct buf *content, const char **what)
{
    struct span head = span_sub(record, 0, RECORD_HEAD_BYTES);
    struct span payload = span_sub(record, RECORD_HEAD_BYTES, record.n);
    struct chunk found;
    *what = "head";
    if (blob_record_head_decode(head, &found) != 0 || !is_same(&found, chunk)) return ERR_CORRUPT;
    *what = "checksum";
    if (!blob_record_verify(head, payload)) return ERR_CORRUPT;
    *what = "content";
    buf_clear(content);
    if (found.place.codec == CODEC_RAW) {
        buf_put_span(content, payload);
    } else {
        int err = zstd_unpack(content, payload, found.place.length);
        if (err != 0) return err == ERR_NOMEM ? ERR_NOMEM : ERR_CORRUPT;
    }
    if (content->err != 0) return content->err;
    struct sha256 sha = sha256_of(buf_span(content));
    return content->n == found.place.length && sha256_equal(&sha, &chunk->sha) ? 0 : ERR_CORRUPT;
}

int chunk_read(struct blobs *b, const struct chunk *chunk, struct buf *scratch, struct buf *content)
{
    const char *what = "missing";
    int err = read_record(b, chunk, scratch);
    if (err == 0) err = unpack_record(chunk, buf_span(scratch), content, &what);
    if (err == 0) verified_add(&b->verified, &chunk->place);
    if (err != ERR_CORRUPT) return err;
    verified_forget(&b->verified, &chunk->place);
    log_damage(chunk, what);
    damage_note(b, chunk);
    return err;
}
