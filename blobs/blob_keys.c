#include "blob_keys.h"

#include <assert.h>
#include <endian.h>

#include "checksum.h"
#include "err.h"

#define RECORD_MAGIC 0x4b504753u // "SGPK"
#define RECORD_SEED 1            // the seed of records' checksums, of format 1
#define RECORD_SUMMED (RECORD_HEAD_BYTES - 8)
#define MANIFEST_HEAD_BYTES (1 + 8 + 4)
#define CODEC_KNOWN 0x80         // beside the codec of a manifest's entry
#define HEAD_LINKED 1
#define HEAD_PINNED 2
#define HEAD_OWN_PAGES 4
#define HEAD_FLAGS_MAX 7
#define CHUNK_DAMAGED 0x80       // beside the codec of a chunk's entry
#define POSITION_MAX (UINT64_C(1) << 40) // far above any pack, far below overflow

static struct sha256 get_sha(struct cur *c)
{
    struct sha256 sha = {{0}};
    struct span s = cur_span(c, SHA256_BYTES);
    if (s.n == SHA256_BYTES) memcpy(sha.b, s.p, s.n);
    return sha;
}

// What this version wrote, or another one did.
static int get_version_of(struct cur *c, uint8_t wanted)
{
    uint8_t version = cur_u8(c);
    if (c->err != 0) return c->err;
    return version == wanted ? 0 : ERR_VERSION;
}

static int get_version(struct cur *c)
{
    return get_version_of(c, BLOB_FORMAT);
}

static struct uuid get_uuid(struct cur *c)
{
    struct uuid u = {{0}};
    struct span s = cur_span(c, sizeof u.b);
    if (s.n == sizeof u.b) memcpy(u.b, s.p, s.n);
    return u;
}

// ---- tables ----------------------------------------------------------------------------------------------------

struct blob_key blob_head_key(const struct sha256 *digest)
{
    struct blob_key k = {.n = SHA256_BYTES};
    memcpy(k.b, digest->b, SHA256_BYTES);
    return k;
}

static void key_put(struct blob_key *k, const void *p, size_t n)
{
    assert(n <= sizeof k->b - k->n);
    memcpy(k->b + k->n, p, n);
    k->n += n;
}

static void key_put_u64(struct blob_key *k, uint64_t v)
{
    v = htobe64(v); // so that keys sort by it
    key_put(k, &v, sizeof v);
}

struct blob_key blob_page_key(struct uuid pages, uint64_t offset)
{
    struct blob_key k = {.n = 0};
    key_put(&k, pages.b, sizeof pages.b);
    key_put_u64(&k, offset);
    return k;
}

bool blob_key_is_head(struct span key, struct sha256 *digest)
{
    if (key.n != SHA256_BYTES) return false;
    memcpy(digest->b, key.p, SHA256_BYTES);
    return true;
}

bool blob_key_is_page(struct span key, struct uuid *pages, uint64_t *offset)
{
    struct cur c;
    cur_init(&c, key);
    *pages = get_uuid(&c);
    *offset = cur_u64_be(&c);
    return cur_end(&c) == 0;
}

struct uuid blob_pages_id(uint64_t seq, uint64_t number)
{
    struct uuid u;
    seq = htobe64(seq); // far below the milliseconds that an upload's id begins with
    number = htobe64(number);
    memcpy(u.b, &seq, 8);
    memcpy(u.b + 8, &number, 8);
    return u;
}

// The number under which the commit that made the blob keeps its list; false: it is an upload's.
static bool pages_number(const struct blob_info *info, uint64_t *number)
{
    memcpy(number, info->pages.b + 8, 8);
    *number = be64toh(*number);
    struct uuid own = blob_pages_id(info->created_seq, *number);
    return memcmp(own.b, info->pages.b, sizeof own.b) == 0;
}

struct blob_key life_blob_key(const struct blob_info *info)
{
    struct blob_key k = {.n = 0};
    key_put(&k, LIFE_BLOB, 1);
    key_put_u64(&k, info->free_ms);
    key_put_u64(&k, info->created_seq);
    key_put(&k, info->digest.b, SHA256_BYTES);
    return k;
}

struct blob_key life_chunk_key(uint64_t free_ms, const struct sha256 *sha)
{
    struct blob_key k = {.n = 0};
    key_put(&k, LIFE_CHUNK, 1);
    key_put_u64(&k, free_ms);
    key_put(&k, sha->b, SHA256_BYTES);
    return k;
}

struct blob_key life_trash_key(struct uuid pages)
{
    struct blob_key k = {.n = 0};
    key_put(&k, "d", 1);
    key_put(&k, pages.b, sizeof pages.b);
    return k;
}

struct blob_key life_pack_key(uint32_t pack)
{
    struct blob_key k = {.n = 0};
    key_put(&k, "p", 1);
    pack = htobe32(pack);
    key_put(&k, &pack, sizeof pack);
    return k;
}

struct blob_key life_tick_key(void)
{
    struct blob_key k = {.n = 0};
    key_put(&k, "t", 1);
    return k;
}

bool life_key_is_blob(struct span key, uint64_t *free_ms, struct sha256 *digest)
{
    struct cur c;
    cur_init(&c, key);
    bool is = cur_u8(&c) == (uint8_t)LIFE_BLOB[0];
    *free_ms = cur_u64_be(&c);
    cur_u64_be(&c);
    *digest = get_sha(&c);
    return cur_end(&c) == 0 && is;
}

bool life_key_is_chunk(struct span key, uint64_t *free_ms, struct sha256 *sha)
{
    struct cur c;
    cur_init(&c, key);
    bool is = cur_u8(&c) == (uint8_t)LIFE_CHUNK[0];
    *free_ms = cur_u64_be(&c);
    *sha = get_sha(&c);
    return cur_end(&c) == 0 && is;
}

bool life_key_is_trash(struct span key, struct uuid *pages)
{
    struct cur c;
    cur_init(&c, key);
    bool is = cur_u8(&c) == 'd';
    *pages = get_uuid(&c);
    return cur_end(&c) == 0 && is;
}

bool life_key_is_pack(struct span key, uint32_t *pack)
{
    uint32_t be;
    if (key.n != 1 + sizeof be || key.p[0] != 'p') return false;
    memcpy(&be, key.p + 1, sizeof be);
    *pack = be32toh(be);
    return true;
}

// Millions of small blobs have little but this: numbers take the bytes they need, and what most heads have alike takes none.
void blob_head_encode(struct buf *out, const struct blob_info *info)
{
    uint64_t number;
    bool own = pages_number(info, &number);
    buf_put_u8(out, BLOB_HEAD_FORMAT);
    buf_put_u8(out, (uint8_t)(info->linked * HEAD_LINKED | info->pinned * HEAD_PINNED | own * HEAD_OWN_PAGES));
    buf_put_varint(out, info->size);
    buf_put_varint(out, info->created_seq);
    buf_put_blob(out, strcmp(info->type, TYPE_DEFAULT) == 0 ? SPAN_LIT("") : SPAN_STR(info->type));
    if (own) buf_put_varint(out, number);
    else buf_put(out, info->pages.b, sizeof info->pages.b);
    buf_put_varint(out, info->uploads);
    buf_put_varint(out, info->free_ms);
}

int blob_head_decode(struct span value, struct blob_info *info)
{
    struct cur c;
    cur_init(&c, value);
    int err = get_version_of(&c, BLOB_HEAD_FORMAT);
    if (err != 0) return err;
    uint8_t flags = cur_u8(&c);
    uint64_t size = cur_varint(&c);
    uint64_t created_seq = cur_varint(&c);
    struct span type = cur_blob(&c);
    struct uuid pages = (flags & HEAD_OWN_PAGES) != 0 ? blob_pages_id(created_seq, cur_varint(&c)) : get_uuid(&c);
    uint64_t uploads = cur_varint(&c);
    uint64_t free_ms = cur_varint(&c);
    if (cur_end(&c) != 0 || size > BLOB_BYTES_MAX || type.n > STREAM_TYPE_MAX || flags > HEAD_FLAGS_MAX || uploads > UINT32_MAX) return ERR_CORRUPT;
    if (type.n == 0) type = SPAN_LIT(TYPE_DEFAULT);
    info->size = size;
    info->created_seq = created_seq;
    info->pages = pages;
    info->linked = (flags & HEAD_LINKED) != 0;
    info->pinned = (flags & HEAD_PINNED) != 0;
    info->uploads = (uint32_t)uploads;
    info->free_ms = free_ms;
    memset(info->type, 0, sizeof info->type);
    memcpy(info->type, type.p, type.n);
    return 0;
}

void blob_page_begin(struct buf *out)
{
    buf_put_u8(out, BLOB_FORMAT);
}

void blob_page_put(struct buf *out, const struct sha256 *sha, uint32_t length)
{
    buf_put(out, sha->b, SHA256_BYTES);
    buf_put_u32(out, length);
}

int blob_page_decode(struct span value, size_t *count)
{
    struct cur c;
    cur_init(&c, value);
    int err = get_version(&c);
    if (err != 0) return err;
    size_t n = cur_left(&c);
    if (n == 0 || n % PAGE_ENTRY_BYTES != 0 || n / PAGE_ENTRY_BYTES > PAGE_CHUNKS) return ERR_CORRUPT;
    *count = n / PAGE_ENTRY_BYTES;
    return 0;
}

void blob_page_at(struct span value, size_t i, struct sha256 *sha, uint32_t *length)
{
    struct cur c;
    cur_init(&c, span_sub(value, 1 + i * PAGE_ENTRY_BYTES, PAGE_ENTRY_BYTES));
    *sha = get_sha(&c);
    *length = cur_u32(&c);
    assert(cur_end(&c) == 0);
}

static bool codec_fits(uint8_t codec, uint32_t length, uint32_t stored)
{
    if (length == 0 || length > BLOB_CHUNK_MAX || stored == 0) return false;
    return (codec == CODEC_RAW && stored == length) || (codec == CODEC_ZSTD && stored < length);
}

static bool place_fits(const struct place *p)
{
    return codec_fits(p->codec, p->length, p->stored) && p->pack > 0 && p->position < POSITION_MAX && p->position % RECORD_ALIGN == 0;
}

static void put_place(struct buf *out, const struct place *p)
{
    buf_put_u8(out, p->codec);
    buf_put_u32(out, p->length);
    buf_put_u32(out, p->stored);
    buf_put_u32(out, p->pack);
    buf_put_u64(out, p->position);
}

static struct place get_place(struct cur *c)
{
    struct place p;
    p.codec = cur_u8(c);
    p.length = cur_u32(c);
    p.stored = cur_u32(c);
    p.pack = cur_u32(c);
    p.position = cur_u64(c);
    return p;
}

void blob_place_encode(struct buf *out, const struct place *place)
{
    assert(place_fits(place));
    buf_put_u8(out, BLOB_FORMAT);
    put_place(out, place);
}

int blob_place_decode(struct span value, struct place *place)
{
    struct cur c;
    cur_init(&c, value);
    int err = get_version(&c);
    if (err != 0) return err;
    struct place p = get_place(&c);
    if (cur_end(&c) != 0 || !place_fits(&p)) return ERR_CORRUPT;
    *place = p;
    return 0;
}

void chunk_entry_encode(struct buf *out, const struct chunk_entry *e)
{
    const struct place *p = &e->place;
    assert(place_fits(p));
    buf_put_u8(out, BLOB_HEAD_FORMAT);
    buf_put_u8(out, (uint8_t)(p->codec | e->damaged * CHUNK_DAMAGED));
    buf_put_varint(out, p->length);
    if (p->codec != CODEC_RAW) buf_put_varint(out, p->stored);
    buf_put_varint(out, p->pack);
    buf_put_varint(out, p->position / RECORD_ALIGN);
    buf_put_varint(out, e->refs);
    buf_put_varint(out, e->free_ms);
}

static uint32_t get_small(struct cur *c)
{
    uint64_t v = cur_varint(c);
    if (v > UINT32_MAX) c->err = ERR_CORRUPT;
    return (uint32_t)v;
}

int chunk_entry_decode(struct span value, struct chunk_entry *e)
{
    struct cur c;
    cur_init(&c, value);
    int err = get_version_of(&c, BLOB_HEAD_FORMAT);
    if (err != 0) return err;
    uint8_t flags = cur_u8(&c);
    struct chunk_entry read = {.place.codec = flags & ~CHUNK_DAMAGED, .damaged = (flags & CHUNK_DAMAGED) != 0};
    read.place.length = get_small(&c);
    read.place.stored = read.place.codec == CODEC_RAW ? read.place.length : get_small(&c);
    read.place.pack = get_small(&c);
    uint64_t position = cur_varint(&c);
    read.place.position = position < POSITION_MAX / RECORD_ALIGN ? position * RECORD_ALIGN : POSITION_MAX;
    read.refs = get_small(&c);
    read.free_ms = cur_varint(&c);
    if (cur_end(&c) != 0 || !place_fits(&read.place)) return ERR_CORRUPT;
    *e = read;
    return 0;
}

void pack_count_encode(struct buf *out, const struct pack_count *c)
{
    buf_put_u8(out, BLOB_FORMAT);
    buf_put_u64(out, c->live);
    buf_put_u32(out, c->tails);
}

int pack_count_decode(struct span value, struct pack_count *count)
{
    struct cur c;
    cur_init(&c, value);
    int err = get_version(&c);
    if (err != 0) return err;
    struct pack_count read = {.live = cur_u64(&c)};
    read.tails = cur_u32(&c);
    if (cur_end(&c) != 0) return ERR_CORRUPT;
    *count = read;
    return 0;
}

// ---- steps -----------------------------------------------------------------------------------------------------

void blob_step_encode(struct buf *out, const struct blob_step *s)
{
    buf_put_u8(out, BLOB_FORMAT);
    buf_put_u8(out, (uint8_t)s->kind);
    switch (s->kind) {
    case STEP_PIN:
    case STEP_UNPIN: buf_put(out, s->digest.b, SHA256_BYTES); break;
    case STEP_EXPIRE:
        buf_put(out, s->digest.b, SHA256_BYTES);
        buf_put_u64(out, s->before_ms);
        break;
    case STEP_SWEEP: buf_put(out, s->pages.b, sizeof s->pages.b); break;
    case STEP_FORGET:
        assert(s->chunks.n % SHA256_BYTES == 0 && s->chunks.n / SHA256_BYTES <= STEP_FORGET_MAX);
        buf_put_u8(out, (uint8_t)(s->chunks.n / SHA256_BYTES));
        buf_put_span(out, s->chunks);
        break;
    }
}

int blob_step_decode(struct span value, struct blob_step *s)
{
    struct cur c;
    struct blob_step read = {0};
    cur_init(&c, value);
    if (get_version(&c) != 0) return ERR_BAD_VALUE;
    uint8_t kind = cur_u8(&c), count = 0;
    switch (kind) {
    case STEP_PIN:
    case STEP_UNPIN: read.digest = get_sha(&c); break;
    case STEP_EXPIRE:
        read.digest = get_sha(&c);
        read.before_ms = cur_u64(&c);
        break;
    case STEP_SWEEP: read.pages = get_uuid(&c); break;
    case STEP_FORGET:
        count = cur_u8(&c);
        read.chunks = cur_span(&c, (size_t)count * SHA256_BYTES);
        if (count == 0 || count > STEP_FORGET_MAX) cur_fail(&c);
        break;
    default: cur_fail(&c);
    }
    if (cur_end(&c) != 0) return ERR_BAD_VALUE;
    read.kind = (enum blob_step_kind)kind;
    *s = read;
    return 0;
}

// ---- manifests and effects -------------------------------------------------------------------------------------

void blob_manifest_begin(struct buf *out, uint64_t size, uint32_t count)
{
    buf_put_u8(out, BLOB_FORMAT);
    buf_put_u64(out, size);
    buf_put_u32(out, count);
}

void blob_manifest_put(struct buf *out, const struct chunk *chunk)
{
    assert(place_fits(&chunk->place));
    struct place place = chunk->place;
    place.codec |= chunk->known ? CODEC_KNOWN : 0;
    buf_put(out, chunk->sha.b, SHA256_BYTES);
    put_place(out, &place);
}

void blob_manifest_at(const struct manifest *m, uint32_t i, struct chunk *chunk)
{
    assert(i < m->count);
    struct cur c;
    cur_init(&c, span_sub(m->entries, (size_t)i * MANIFEST_ENTRY_BYTES, MANIFEST_ENTRY_BYTES));
    chunk->sha = get_sha(&c);
    chunk->place = get_place(&c);
    chunk->known = (chunk->place.codec & CODEC_KNOWN) != 0;
    chunk->place.codec &= (uint8_t)~CODEC_KNOWN;
    assert(cur_end(&c) == 0);
}

// Every chunk is one that cutting could have made, and together they are the blob.
static bool chunks_fit(const struct manifest *m)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < m->count; i++) {
        struct chunk chunk;
        blob_manifest_at(m, i, &chunk);
        if (!place_fits(&chunk.place)) return false;
        if (i + 1 < m->count && chunk.place.length < BLOB_CHUNK_MIN) return false;
        sum += chunk.place.length;
    }
    return sum == m->size;
}

int blob_manifest_decode(struct span s, struct manifest *m)
{
    struct cur c;
    cur_init(&c, s);
    if (get_version(&c) != 0) return ERR_BAD_VALUE;
    struct manifest read;
    read.size = cur_u64(&c);
    read.count = cur_u32(&c);
    if (c.err != 0 || read.size > BLOB_BYTES_MAX || read.count > BLOB_CHUNKS_MAX) return ERR_BAD_VALUE;
    read.entries = cur_span(&c, (size_t)read.count * MANIFEST_ENTRY_BYTES);
    if (cur_end(&c) != 0 || !chunks_fit(&read)) return ERR_BAD_VALUE;
    *m = read;
    return 0;
}

void blob_effects_begin(struct buf *out, size_t count)
{
    buf_put_u8(out, BLOB_FORMAT);
    buf_put_varint(out, count);
}

void blob_effects_put(struct buf *out, const struct blob_effect *e)
{
    buf_put(out, e->digest.b, SHA256_BYTES);
    buf_put_blob(out, e->type);
    buf_put_varint(out, e->at);
    buf_put_varint(out, e->n);
}

int blob_effects_open(struct cur *c, size_t *count)
{
    int err = get_version(c);
    if (err != 0) return err;
    uint64_t n = cur_varint(c);
    if (c->err != 0 || n > BATCH_BLOBS_MAX) return ERR_CORRUPT;
    *count = n;
    return 0;
}

int blob_effects_next(struct cur *c, struct blob_effect *e)
{
    e->digest = get_sha(c);
    e->type = cur_blob(c);
    e->at = cur_varint(c);
    e->n = cur_varint(c);
    return c->err != 0 || e->type.n > STREAM_TYPE_MAX ? ERR_CORRUPT : 0;
}

// ---- pack records ----------------------------------------------------------------------------------------------

static uint64_t record_sum(const uint8_t *head, struct span payload)
{
    return checksum64_two(SPAN(head, RECORD_SUMMED), payload, RECORD_SEED);
}

uint64_t blob_record_encode(uint8_t head[RECORD_HEAD_BYTES], const struct chunk *chunk, struct span payload)
{
    assert(codec_fits(chunk->place.codec, chunk->place.length, chunk->place.stored) && payload.n == chunk->place.stored);
    uint32_t magic = htole32(RECORD_MAGIC), length = htole32(chunk->place.length), stored = htole32(chunk->place.stored);
    memcpy(head, &magic, 4);
    head[4] = BLOB_FORMAT;
    head[5] = chunk->place.codec;
    head[6] = head[7] = 0;
    memcpy(head + 8, &length, 4);
    memcpy(head + 12, &stored, 4);
    memcpy(head + 16, chunk->sha.b, SHA256_BYTES);
    uint64_t sum = record_sum(head, payload);
    uint64_t sum_le = htole64(sum);
    memcpy(head + RECORD_SUMMED, &sum_le, 8);
    return sum;
}

int blob_record_head_decode(struct span head, struct chunk *chunk)
{
    struct cur c;
    cur_init(&c, span_sub(head, 0, RECORD_HEAD_BYTES));
    if (cur_u32(&c) != RECORD_MAGIC) return ERR_CORRUPT;
    int err = get_version(&c);
    if (err != 0) return err;
    struct chunk read = {.place.codec = cur_u8(&c)};
    uint16_t zero = cur_u16(&c);
    read.place.length = cur_u32(&c);
    read.place.stored = cur_u32(&c);
    read.sha = get_sha(&c);
    cur_u64(&c); // the checksum: blob_record_verify
    if (cur_end(&c) != 0 || zero != 0 || !codec_fits(read.place.codec, read.place.length, read.place.stored)) return ERR_CORRUPT;
    *chunk = read;
    return 0;
}

bool blob_record_verify(struct span head, struct span payload)
{
    assert(head.n >= RECORD_HEAD_BYTES);
    uint64_t sum;
    memcpy(&sum, head.p + RECORD_SUMMED, sizeof sum);
    return le64toh(sum) == record_sum(head.p, payload);
}
