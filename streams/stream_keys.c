#include "stream_keys.h"

#include <assert.h>

#include "cur.h"
#include "err.h"

enum { KEY_ALLOC = 'a', KEY_NUMBER = 'n', KEY_PATH = 'p', KEY_DEADLINE = 'd', KEY_WRITER = 'w', KEY_SEQ = 'q', KEY_SNAPSHOT = 's', KEY_FILE = 'f', KEY_RECLAIM = 'r' };

// Most streams have none of these, so their records carry no room for them.
enum {
    RECORD_OWNED = 1,
    RECORD_TTL = 2,
    RECORD_EXPIRES = 4,
    RECORD_FORK = 8,
    RECORD_FORK_OFFSET = 16,
    RECORD_INHERITS = 32,
    RECORD_TRIMMED = 64,
    RECORD_SNAPSHOT = 128,
    RECORD_REFS = 256, // forks below it
    RECORD_WRITERS = 512,
};

// ---- writing into fixed bytes: these records are bounded, so nothing can fail --------------------------------------

static void put(struct stream_bytes *b, const void *p, size_t n)
{
    assert(b->n + n <= sizeof b->p);
    memcpy(b->p + b->n, p, n);
    b->n += n;
}

static void put_le(struct stream_bytes *b, uint64_t v, int width)
{
    assert(b->n + (size_t)width <= sizeof b->p);
    for (int i = 0; i < width; i++)
        b->p[b->n++] = (uint8_t)(v >> (8 * i));
}

static void put_be(struct stream_bytes *b, uint64_t v, int width)
{
    assert(b->n + (size_t)width <= sizeof b->p);
    for (int i = width - 1; i >= 0; i--)
        b->p[b->n++] = (uint8_t)(v >> (8 * i));
}

// ---- keys ----------------------------------------------------------------------------------------------------------

static void key_begin(struct stream_bytes *k, uint8_t kind)
{
    k->n = 0;
    put(k, &kind, 1);
}

void stream_key_alloc(struct stream_bytes *k)
{
    key_begin(k, KEY_ALLOC);
}

void stream_key_number(struct stream_bytes *k, uint64_t number)
{
    key_begin(k, KEY_NUMBER);
    put_be(k, number, 8);
}

// The length comes before the path so that no path's keys lie among another's, whatever bytes they have.
void stream_key_path(struct stream_bytes *k, struct span path, uint64_t created_seq, uint64_t number)
{
    assert(path.n > 0 && path.n <= STREAM_PATH_MAX);
    key_begin(k, KEY_PATH);
    put_be(k, path.n, 2);
    put(k, path.p, path.n);
    put_be(k, created_seq, 8);
    put_be(k, number, 8);
}

void stream_key_index(struct stream_bytes *k, uint64_t number, uint64_t first)
{
    k->n = 0;
    put_be(k, number, 8);
    put_be(k, first, 8);
}

void stream_key_file(struct stream_bytes *k, uint32_t file)
{
    key_begin(k, KEY_FILE);
    put_be(k, file, 4);
}

void stream_key_reclaim(struct stream_bytes *k, uint64_t number)
{
    key_begin(k, KEY_RECLAIM);
    put_be(k, number, 8);
}

void stream_key_deadline(struct stream_bytes *k, uint64_t deadline_ms, uint64_t number)
{
    key_begin(k, KEY_DEADLINE);
    put_be(k, deadline_ms, 8);
    put_be(k, number, 8);
}

void stream_key_writer(struct stream_bytes *k, uint64_t number, struct span id)
{
    assert(id.n <= STREAM_PRODUCER_ID_MAX);
    key_begin(k, KEY_WRITER);
    put_be(k, number, 8);
    put(k, id.p, id.n);
}

void stream_key_seq(struct stream_bytes *k, uint64_t number)
{
    key_begin(k, KEY_SEQ);
    put_be(k, number, 8);
}

void stream_key_snapshot(struct stream_bytes *k, uint64_t number)
{
    key_begin(k, KEY_SNAPSHOT);
    put_be(k, number, 8);
}

bool stream_key_deadline_parse(struct span key, uint64_t *deadline_ms, uint64_t *number)
{
    struct cur c;
    cur_init(&c, key);
    if (cur_u8(&c) != KEY_DEADLINE) return false;
    *deadline_ms = cur_u64_be(&c);
    *number = cur_u64_be(&c);
    return cur_end(&c) == 0;
}

bool stream_key_writer_parse(struct span key, uint64_t *number, struct span *id)
{
    struct cur c;
    cur_init(&c, key);
    if (cur_u8(&c) != KEY_WRITER) return false;
    *number = cur_u64_be(&c);
    *id = cur_span(&c, cur_left(&c));
    return c.err == 0 && id->n <= STREAM_PRODUCER_ID_MAX;
}

bool stream_key_path_parse(struct span key, struct span *path, uint64_t *created_seq, uint64_t *number)
{
    struct cur c;
    cur_init(&c, key);
    if (cur_u8(&c) != KEY_PATH) return false;
    uint16_t n = cur_u16_be(&c);
    *path = cur_span(&c, n);
    *created_seq = cur_u64_be(&c);
    *number = cur_u64_be(&c);
    return cur_end(&c) == 0;
}

bool stream_key_index_parse(struct span key, uint64_t *number, uint64_t *first)
{
    struct cur c;
    cur_init(&c, key);
    *number = cur_u64_be(&c);
    *first = cur_u64_be(&c);
    return cur_end(&c) == 0;
}

bool stream_key_file_parse(struct span key, uint32_t *file)
{
    struct cur c;
    cur_init(&c, key);
    if (cur_u8(&c) != KEY_FILE) return false;
    *file = cur_u32_be(&c);
    return cur_end(&c) == 0;
}

bool stream_key_reclaim_parse(struct span key, uint64_t *number)
{
    struct cur c;
    cur_init(&c, key);
    if (cur_u8(&c) != KEY_RECLAIM) return false;
    *number = cur_u64_be(&c);
    return cur_end(&c) == 0;
}

// ---- records -------------------------------------------------------------------------------------------------------

static void record_begin(struct stream_bytes *v)
{
    v->n = 0;
    put_le(v, STREAM_FORMAT, 1);
}

void stream_alloc_encode(struct stream_bytes *v, const struct stream_alloc *a)
{
    record_begin(v);
    put_le(v, a->next_number, 8);
    put_le(v, a->file, 4);
    put_le(v, a->position, 8);
}

static unsigned record_flags(const struct stream_record *r)
{
    unsigned flags = 0;
    if (r->owned) flags |= RECORD_OWNED;
    if (r->has_ttl) flags |= RECORD_TTL;
    if (r->expires_ms != 0) flags |= RECORD_EXPIRES;
    if (r->source != 0) flags |= RECORD_FORK;
    if (r->has_fork_offset) flags |= RECORD_FORK_OFFSET;
    if (r->inherits) flags |= RECORD_INHERITS;
    if (r->trimmed_seq != 0) flags |= RECORD_TRIMMED;
    if (r->has_snapshot) flags |= RECORD_SNAPSHOT;
    if (r->refs != 0 || r->gone_seq != 0) flags |= RECORD_REFS;
    if (r->producers != 0) flags |= RECORD_WRITERS;
    return flags;
}

static void record_encode_more(struct stream_bytes *v, const struct stream_record *r, unsigned flags)
{
    if (flags & RECORD_TTL) {
        put_le(v, r->ttl_s, 8);
        put_le(v, r->deadline_ms, 8);
    }
    if (flags & RECORD_EXPIRES) put_le(v, r->expires_ms, 8);
    if (flags & RECORD_FORK) {
        put_le(v, r->source, 8);
        put_le(v, r->base, 8);
        put_le(v, r->fork_offset, 8);
        put_le(v, r->fork_sub, 8);
        put_le(v, r->depth, 1);
    }
    if (flags & RECORD_TRIMMED) {
        put_le(v, r->first, 8);
        put_le(v, r->trimmed_seq, 8);
        put_le(v, r->trimmed_changed, 8);
    }
    if (flags & RECORD_REFS) {
        put_le(v, r->refs, 4);
        put_le(v, r->gone_seq, 8);
    }
    if (flags & RECORD_WRITERS) put_le(v, r->producers, 4);
}

void stream_record_encode(struct stream_bytes *v, const struct stream_record *r)
{
    unsigned flags = record_flags(r);
    record_begin(v);
    put_le(v, flags, 2);
    put_le(v, r->number, 8);
    put_le(v, r->offset, 8);
    put_le(v, r->created_seq, 8);
    put_le(v, r->created_ms, 8);
    put_le(v, r->changed_seq, 8);
    put_le(v, r->closed_seq, 8);
    put_le(v, r->deleted_seq, 8);
    record_encode_more(v, r, flags);
    put_le(v, r->type_n, 1);
    put(v, r->type, r->type_n);
    put_le(v, r->path_n, 2);
    put(v, r->path, r->path_n);
}

// Varints: there is one of these for each kilobyte-long stream, and it counts among what a token costs.
static void put_varint(struct stream_bytes *b, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        put_le(b, v | 0x80, 1);
    put_le(b, v, 1);
}

void stream_index_encode(struct stream_bytes *v, const struct stream_index *ix)
{
    assert(ix->position % 8 == 0 && ix->last_seq >= ix->first_seq);
    record_begin(v);
    put_varint(v, ix->raw);
    put_varint(v, ix->total);
    put_varint(v, ix->file);
    put_varint(v, ix->position / 8);
    put_varint(v, ix->first_seq);
    put_varint(v, ix->last_seq - ix->first_seq);
    put_varint(v, ix->share);
}

void stream_file_encode(struct stream_bytes *v, const struct stream_file *f)
{
    record_begin(v);
    put_le(v, f->length, 8);
    put_le(v, f->live, 8);
}

void stream_path_encode(struct stream_bytes *v)
{
    record_begin(v);
}

void stream_writer_encode(struct stream_bytes *v, const struct stream_writer *w)
{
    record_begin(v);
    put_le(v, w->closing, 1);
    put_le(v, w->epoch, 8);
    put_le(v, w->seq, 8);
}

void stream_seq_encode(struct stream_bytes *v, struct span seq)
{
    record_begin(v);
    put(v, seq.p, seq.n);
}

static int record_open(struct cur *c, struct span v)
{
    cur_init(c, v);
    uint8_t format = cur_u8(c);
    if (c->err != 0) return ERR_CORRUPT;
    return format == STREAM_FORMAT ? 0 : ERR_VERSION;
}

int stream_alloc_decode(struct span v, struct stream_alloc *out)
{
    struct cur c;
    int err = record_open(&c, v);
    if (err != 0) return err;
    struct stream_alloc a = {.next_number = cur_u64(&c), 0};
    a.file = cur_u32(&c);
    a.position = cur_u64(&c);
    if (cur_end(&c) != 0) return ERR_CORRUPT;
    *out = a;
    return 0;
}

static void record_decode_text(struct cur *c, struct stream_record *r)
{
    r->type_n = cur_u8(c);
    struct span type = cur_span(c, r->type_n);
    r->path_n = cur_u16(c);
    struct span path = cur_span(c, r->path_n);
    if (c->err != 0 || type.n > STREAM_TYPE_MAX || path.n == 0 || path.n > STREAM_PATH_MAX) {
        cur_fail(c);
        return;
    }
    memcpy(r->type, type.p, type.n);
    r->type[type.n] = '\0';
    memcpy(r->path, path.p, path.n);
}

static void record_decode_more(struct cur *c, struct stream_record *r, unsigned flags)
{
    if (flags & RECORD_TTL) {
        r->ttl_s = cur_u64(c);
        r->deadline_ms = cur_u64(c);
    }
    if (flags & RECORD_EXPIRES) r->deadline_ms = r->expires_ms = cur_u64(c);
    if (flags & RECORD_FORK) {
        r->source = cur_u64(c);
        r->base = cur_u64(c);
        r->fork_offset = cur_u64(c);
        r->fork_sub = cur_u64(c);
        r->depth = cur_u8(c);
    }
    if (flags & RECORD_TRIMMED) {
        r->first = cur_u64(c);
        r->trimmed_seq = cur_u64(c);
        r->trimmed_changed = cur_u64(c);
    }
    if (flags & RECORD_REFS) {
        r->refs = cur_u32(c);
        r->gone_seq = cur_u64(c);
    }
    if (flags & RECORD_WRITERS) r->producers = cur_u32(c);
}

int stream_record_decode(struct span v, struct stream_record *out)
{
    struct cur c;
    int err = record_open(&c, v);
    if (err != 0) return err;
    memset(out, 0, sizeof *out);
    unsigned flags = cur_u16(&c);
    out->owned = flags & RECORD_OWNED;
    out->has_ttl = flags & RECORD_TTL;
    out->has_fork_offset = flags & RECORD_FORK_OFFSET;
    out->has_snapshot = flags & RECORD_SNAPSHOT;
    out->inherits = flags & RECORD_INHERITS;
    out->number = cur_u64(&c);
    out->offset = cur_u64(&c);
    out->created_seq = cur_u64(&c);
    out->created_ms = cur_u64(&c);
    out->changed_seq = cur_u64(&c);
    out->closed_seq = cur_u64(&c);
    out->deleted_seq = cur_u64(&c);
    record_decode_more(&c, out, flags);
    record_decode_text(&c, out);
    out->json = stream_type_json(SPAN(out->type, out->type_n));
    return cur_end(&c);
}

int stream_writer_decode(struct span v, struct stream_writer *out)
{
    struct cur c;
    int err = record_open(&c, v);
    if (err != 0) return err;
    out->closing = cur_u8(&c) != 0;
    out->epoch = cur_u64(&c);
    out->seq = cur_u64(&c);
    return cur_end(&c);
}

int stream_text_decode(struct span v, struct span *out)
{
    struct cur c;
    int err = record_open(&c, v);
    if (err == 0) *out = cur_span(&c, cur_left(&c));
    return err;
}

int stream_index_decode(struct span v, struct stream_index *out)
{
    struct cur c;
    int err = record_open(&c, v);
    if (err != 0) return err;
    uint64_t raw = cur_varint(&c), total = cur_varint(&c), file = cur_varint(&c);
    out->position = cur_varint(&c) * 8;
    out->first_seq = cur_varint(&c);
    out->last_seq = out->first_seq + cur_varint(&c);
    uint64_t share = cur_varint(&c);
    if (raw > UINT32_MAX || total > UINT32_MAX || file > UINT32_MAX || share > UINT32_MAX) return ERR_CORRUPT;
    out->raw = (uint32_t)raw;
    out->total = (uint32_t)total;
    out->file = (uint32_t)file;
    out->share = (uint32_t)share;
    return cur_end(&c);
}

int stream_file_decode(struct span v, struct stream_file *out)
{
    struct cur c;
    int err = record_open(&c, v);
    if (err != 0) return err;
    out->length = cur_u64(&c);
    out->live = cur_u64(&c);
    return cur_end(&c);
}
