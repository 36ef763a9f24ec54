#include "upload_keys.h"

#include <assert.h>
#include <endian.h>

#include "err.h"

#define OPS_MAX BATCH_OPS_MAX

static int get_version(struct cur *c)
{
    uint8_t version = cur_u8(c);
    if (c->err != 0) return c->err;
    return version == UPLOAD_FORMAT ? 0 : ERR_VERSION;
}

static void get_bytes(struct cur *c, void *to, size_t n)
{
    struct span s = cur_span(c, n);
    if (s.n == n) memcpy(to, s.p, n);
}

// ---- keys ------------------------------------------------------------------------------------------------------

struct upload_key upload_count_key(bool chunks)
{
    return (struct upload_key){.b = {chunks ? 'c' : 'n'}, .n = 1};
}

struct upload_key upload_head_key(struct uuid id)
{
    struct upload_key k = {.n = sizeof id.b};
    memcpy(k.b, id.b, sizeof id.b);
    return k;
}

bool upload_key_is_head(struct span key, struct uuid *id)
{
    if (key.n != sizeof id->b) return false;
    memcpy(id->b, key.p, sizeof id->b);
    return true;
}

void upload_count_encode(struct buf *out, uint32_t count)
{
    buf_put_u8(out, UPLOAD_FORMAT);
    buf_put_u32(out, count);
}

int upload_count_decode(struct span value, uint32_t *count)
{
    struct cur c;
    cur_init(&c, value);
    int err = get_version(&c);
    if (err != 0) return err;
    uint32_t n = cur_u32(&c);
    if (cur_end(&c) != 0) return ERR_CORRUPT;
    *count = n;
    return 0;
}

// ---- what heads and operations share -----------------------------------------------------------------------------

static void put_tail(struct buf *out, const struct chunk *tail)
{
    buf_put_u8(out, tail->place.length > 0);
    if (tail->place.length == 0) return;
    buf_put(out, tail->sha.b, SHA256_BYTES);
    blob_place_encode(out, &tail->place);
}

static void get_tail(struct cur *c, struct chunk *tail)
{
    uint8_t has = cur_u8(c);
    *tail = (struct chunk){0};
    if (has > 1) cur_fail(c);
    if (has != 1) return;
    get_bytes(c, tail->sha.b, SHA256_BYTES);
    struct span place = cur_span(c, PLACE_BYTES);
    if (c->err == 0 && blob_place_decode(place, &tail->place) != 0) cur_fail(c);
}

static void put_new(struct buf *out, const struct upload_new *n)
{
    buf_put_u8(out, (uint8_t)n->kind);
    buf_put_u64(out, n->length);
    buf_put_u64(out, n->ttl_ms);
    buf_put_blob(out, n->owner);
    buf_put_blob(out, n->metadata);
    buf_put_blob(out, n->type);
    buf_put_blob(out, n->link);
    buf_put_blob(out, n->parts);
}

static bool parts_fit(struct span parts)
{
    return parts.n % UPLOAD_PART_BYTES == 0 && parts.n <= UPLOAD_PARTS_MAX * UPLOAD_PART_BYTES;
}

static void get_new(struct cur *c, struct upload_new *n)
{
    uint8_t kind = cur_u8(c);
    n->length = cur_u64(c);
    n->ttl_ms = cur_u64(c);
    n->owner = cur_blob(c);
    n->metadata = cur_blob(c);
    n->type = cur_blob(c);
    n->link = cur_blob(c);
    n->parts = cur_blob(c);
    if (kind > UPLOAD_CHUNKS || !parts_fit(n->parts)) cur_fail(c);
    if (n->length > BLOB_BYTES_MAX && n->length != UPLOAD_LENGTH_UNKNOWN) cur_fail(c);
    if ((kind == UPLOAD_JOINED) != (n->parts.n > 0)) cur_fail(c);
    n->kind = (enum upload_kind)kind;
    if (n->owner.n > UPLOAD_OWNER_MAX || n->metadata.n > UPLOAD_METADATA_MAX || n->type.n > STREAM_TYPE_MAX || n->link.n > UPLOAD_LINK_MAX)
        cur_fail(c);
}

// ---- heads -----------------------------------------------------------------------------------------------------

void upload_head_encode(struct buf *out, const struct upload_head *h)
{
    const struct upload_info *i = &h->info;
    buf_put_u8(out, UPLOAD_FORMAT);
    buf_put_u8(out, (uint8_t)i->state);
    buf_put_u64(out, i->offset);
    buf_put_u64(out, h->chunks_end);
    buf_put_u64(out, i->created_ms);
    buf_put_u64(out, i->changed_ms);
    buf_put_u64(out, i->created_seq);
    buf_put_u64(out, i->changed_seq);
    put_new(out, &i->made);
    if (i->state == UPLOAD_DONE) {
        buf_put(out, i->digest.b, SHA256_BYTES);
        return;
    }
    if (i->state == UPLOAD_EXPIRED) return;
    buf_put_blob(out, h->state);
    put_tail(out, &h->tail);
}

static bool head_fits(const struct upload_head *h)
{
    const struct upload_info *i = &h->info;
    if (i->offset > i->made.length || i->offset > BLOB_BYTES_MAX || h->chunks_end > i->offset) return false;
    if (i->state == UPLOAD_DONE) return i->offset == i->made.length;
    if (i->state == UPLOAD_EXPIRED) return h->chunks_end == 0;
    return h->state.n <= DIGEST_STATE_MAX && i->offset - h->chunks_end == h->tail.place.length;
}

int upload_head_decode(struct span value, struct upload_head *h)
{
    struct upload_head read = {0};
    struct upload_info *i = &read.info;
    struct cur c;
    cur_init(&c, value);
    int err = get_version(&c);
    if (err != 0) return err;
    uint8_t state = cur_u8(&c);
    i->offset = cur_u64(&c);
    read.chunks_end = cur_u64(&c);
    i->created_ms = cur_u64(&c);
    i->changed_ms = cur_u64(&c);
    i->created_seq = cur_u64(&c);
    i->changed_seq = cur_u64(&c);
    get_new(&c, &i->made);
    if (state == UPLOAD_DONE) {
        get_bytes(&c, i->digest.b, SHA256_BYTES);
    } else if (state != UPLOAD_EXPIRED) {
        read.state = cur_blob(&c);
        get_tail(&c, &read.tail);
    }
    if (state < UPLOAD_OPEN || state > UPLOAD_EXPIRED) return ERR_CORRUPT;
    i->state = (enum upload_state)state;
    if (cur_end(&c) != 0 || !head_fits(&read)) return ERR_CORRUPT;
    i->id = h->info.id;
    *h = read;
    return 0;
}

// ---- operations ------------------------------------------------------------------------------------------------

void upload_op_encode(struct buf *out, const struct upload_op *op)
{
    buf_put_u8(out, UPLOAD_FORMAT);
    buf_put_u8(out, (uint8_t)op->kind);
    buf_put(out, op->id.b, sizeof op->id.b);
    switch (op->kind) {
    case UPLOAD_CREATE: put_new(out, &op->make); break;
    case UPLOAD_PROGRESS:
        buf_put_u64(out, op->progress.from);
        buf_put_u64(out, op->progress.at);
        buf_put_blob(out, op->progress.manifest);
        buf_put_blob(out, op->progress.state);
        put_tail(out, &op->progress.tail);
        break;
    case UPLOAD_COMPLETE: buf_put(out, op->digest.b, SHA256_BYTES); break;
    case UPLOAD_SET_LENGTH: buf_put_u64(out, op->length); break;
    case UPLOAD_SET_PARTS:
        buf_put_u64(out, op->length);
        buf_put_blob(out, op->parts);
        break;
    case UPLOAD_DROP:
    case UPLOAD_EXPIRE: break;
    }
}

// Goes back into header fields as it is.
static bool is_printable(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < ' ' || s.p[i] > '~') return false;
    return true;
}

static bool op_fits(const struct upload_op *op, struct manifest *m)
{
    if (op->kind == UPLOAD_CREATE) return is_printable(op->make.metadata) && is_printable(op->make.type);
    if (op->kind == UPLOAD_SET_PARTS && !parts_fit(op->parts)) return false;
    if (op->kind == UPLOAD_SET_LENGTH || op->kind == UPLOAD_SET_PARTS) return op->length <= BLOB_BYTES_MAX;
    if (op->kind != UPLOAD_PROGRESS) return true;
    uint64_t from = op->progress.from, at = op->progress.at;
    if (at > from || from > BLOB_BYTES_MAX || op->progress.state.n > DIGEST_STATE_MAX) return false;
    if (blob_manifest_decode(op->progress.manifest, m) != 0) return false;
    uint64_t end = at + m->size + op->progress.tail.place.length;
    return (end > from || (end == from && m->count > 0)) && end <= BLOB_BYTES_MAX; // a tail may become a chunk
}

int upload_op_decode(struct span s, struct upload_op *op, struct manifest *m)
{
    struct upload_op read = {0};
    struct cur c;
    cur_init(&c, s);
    if (get_version(&c) != 0) return ERR_BAD_VALUE;
    uint8_t kind = cur_u8(&c);
    get_bytes(&c, read.id.b, sizeof read.id.b);
    switch (kind) {
    case UPLOAD_CREATE: get_new(&c, &read.make); break;
    case UPLOAD_PROGRESS:
        read.progress.from = cur_u64(&c);
        read.progress.at = cur_u64(&c);
        read.progress.manifest = cur_blob(&c);
        read.progress.state = cur_blob(&c);
        get_tail(&c, &read.progress.tail);
        break;
    case UPLOAD_COMPLETE: get_bytes(&c, read.digest.b, SHA256_BYTES); break;
    case UPLOAD_SET_LENGTH: read.length = cur_u64(&c); break;
    case UPLOAD_SET_PARTS:
        read.length = cur_u64(&c);
        read.parts = cur_blob(&c);
        break;
    case UPLOAD_DROP:
    case UPLOAD_EXPIRE: break;
    default: cur_fail(&c);
    }
    read.kind = (enum upload_op_kind)kind;
    if (cur_end(&c) != 0 || !op_fits(&read, m)) return ERR_BAD_VALUE;
    *op = read;
    return 0;
}

// ---- effects ---------------------------------------------------------------------------------------------------

int upload_effects_open(struct cur *c, size_t *count)
{
    *count = 0;
    if (cur_left(c) == 0) return c->err; // a batch without uploads, as every one was before there were any
    uint64_t n = cur_varint(c);
    if (c->err != 0 || n > OPS_MAX || (n == 0 && cur_left(c) == 0)) return ERR_CORRUPT;
    *count = n;
    return 0;
}

int upload_effects_next(struct cur *c, struct upload_effect *e)
{
    e->at = cur_varint(c);
    e->n = cur_varint(c);
    return c->err;
}
