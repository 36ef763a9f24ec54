// The durable side of resumable uploads: looking, deciding, applying, and the check. A chunk that a progress brings gets its
// place in the table of chunks at once, so that whatever else has the same bytes shares it, and a completed upload becomes a
// blob by handing its pages over: no chunk is looked at again.
#include <assert.h>
#include <stdlib.h>

#include "blob_store.h"
#include "db.h"
#include "err.h"
#include "log.h"

#define HEAD_MAX (UPLOAD_METADATA_MAX + UPLOAD_PARTS_MAX * UPLOAD_PART_BYTES + 2 * KIB) // of an encoded head
#define PAGE_MAX (1 + PAGE_CHUNKS * PAGE_ENTRY_BYTES)

// An upload as the batch would leave it.
struct upload_change {
    struct upload_head head;
    bool exists;
};

// ---- looking ---------------------------------------------------------------------------------------------------

bool upload_head_find(struct blobs *b, struct db_txn *txn, struct uuid id, struct upload_head *out, int *err)
{
    struct upload_key key = upload_head_key(id);
    struct span value;
    *err = 0;
    if (!db_get(txn, b->table_uploads, upload_key_span(&key), &value)) {
        *err = db_txn_err(txn);
        return false;
    }
    *err = upload_head_decode(value, out);
    if (*err != 0) return false;
    out->info.id = id;
    return true;
}

bool upload_tail_is(struct blobs *b, struct db_txn *txn, struct uuid id, const struct place *at, struct upload_head *out, int *err)
{
    if (!upload_head_find(b, txn, id, out, err)) return false;
    const struct place *tail = &out->tail.place;
    return out->info.state == UPLOAD_OPEN && tail->length > 0 && tail->pack == at->pack && tail->position == at->position;
}

bool blobs_upload_find(struct blobs *b, struct db_txn *txn, struct uuid id, struct upload_info *out)
{
    struct upload_head head;
    int err;
    bool found = upload_head_find(b, txn, id, &head, &err);
    if (found) *out = head.info;
    return found;
}

int upload_tail_move(struct blobs *b, struct db_txn *txn, struct uuid id, const struct place *from, const struct place *to)
{
    struct upload_head head;
    struct upload_key key = upload_head_key(id);
    struct buf value;
    int err;
    if (!upload_tail_is(b, txn, id, from, &head, &err)) return err;
    err = tail_count(b, txn, &head.tail, -1);
    if (err == 0 && !upload_tail_is(b, txn, id, from, &head, &err) && err == 0) err = ERR_CORRUPT; // what a head points to does not outlive a write
    if (err != 0) return err;
    struct chunk moved = {.sha = head.tail.sha, .place = *to};
    head.tail = moved;
    buf_init(&value, HEAD_MAX);
    upload_head_encode(&value, &head);
    err = value.err;
    if (err == 0) db_put(txn, b->table_uploads, upload_key_span(&key), buf_span(&value));
    buf_free(&value);
    return err != 0 ? err : tail_count(b, txn, &moved, +1);
}

uint32_t blobs_uploads_open(struct blobs *b, struct db_txn *txn, bool chunks)
{
    struct upload_key key = upload_count_key(chunks);
    struct span value;
    uint32_t n = 0;
    if (db_get(txn, b->table_uploads, upload_key_span(&key), &value) && upload_count_decode(value, &n) != 0) n = 0;
    return n;
}

// The smallest id behind this one; all zero behind the last.
static struct uuid id_after(struct uuid id)
{
    for (size_t i = sizeof id.b; i-- > 0;)
        if (++id.b[i] != 0) break;
    return id;
}

int blobs_uploads_scan(struct blobs *b, struct db_txn *txn, struct uuid *cursor, size_t max, void (*fn)(void *ctx, const struct upload_info *i), void *ctx)
{
    struct db_iter it;
    bool more = true;
    db_iter_init(&it, txn, b->table_uploads);
    for (size_t i = 0; i < max && more; i++) {
        struct upload_head head = {0};
        struct uuid from = id_after(*cursor); // pages lie behind their head
        more = db_iter_seek(&it, SPAN(from.b, sizeof from.b));
        while (more && !upload_key_is_head(it.key, &head.info.id))
            more = db_iter_next(&it); // the count, or a page of one that is gone
        if (!more) break;
        if (upload_head_decode(it.value, &head) == 0) fn(ctx, &head.info); // the check names one that cannot be read
        *cursor = head.info.id;
    }
    db_iter_end(&it);
    if (!more) *cursor = (struct uuid){0};
    return db_txn_err(txn);
}

// ---- operations ------------------------------------------------------------------------------------------------

void blobs_upload_put_create(struct buf *op, struct uuid id, const struct upload_new *make)
{
    upload_op_encode(op, &(struct upload_op){.kind = UPLOAD_CREATE, .id = id, .make = *make});
}

void blobs_upload_put_complete(struct buf *op, struct uuid id, const struct sha256 *digest)
{
    upload_op_encode(op, &(struct upload_op){.kind = UPLOAD_COMPLETE, .id = id, .digest = *digest});
}

void blobs_upload_put_drop(struct buf *op, struct uuid id)
{
    upload_op_encode(op, &(struct upload_op){.kind = UPLOAD_DROP, .id = id});
}

void blobs_upload_put_length(struct buf *op, struct uuid id, uint64_t length)
{
    upload_op_encode(op, &(struct upload_op){.kind = UPLOAD_SET_LENGTH, .id = id, .length = length});
}

void blobs_upload_put_parts(struct buf *op, struct uuid id, uint64_t length, struct span parts)
{
    upload_op_encode(op, &(struct upload_op){.kind = UPLOAD_SET_PARTS, .id = id, .length = length, .parts = parts});
}

void blobs_upload_put_expire(struct buf *op, struct uuid id)
{
    upload_op_encode(op, &(struct upload_op){.kind = UPLOAD_EXPIRE, .id = id});
}

// ---- what operations do to a head, while deciding and while applying ------------------------------------------------

static void head_create(struct upload_head *h, const struct upload_op *op, const struct commit *c)
{
    *h = (struct upload_head){.info = {.id = op->id, .state = UPLOAD_OPEN, .made = op->make, .created_ms = c->arrival_ms, .created_seq = c->seq}};
}

static void head_progress(struct upload_head *h, const struct upload_op *op, const struct manifest *m)
{
    h->chunks_end = op->progress.at + m->size;
    h->info.offset = h->chunks_end + op->progress.tail.place.length;
    h->tail = op->progress.tail;
    h->state = op->progress.state;
}

static void head_complete(struct upload_head *h, const struct upload_op *op)
{
    h->info.state = UPLOAD_DONE;
    h->info.digest = op->digest;
}

static bool length_fits(const struct upload_head *h, uint64_t length)
{
    return h->info.state == UPLOAD_OPEN && h->info.made.kind != UPLOAD_JOINED && h->info.made.length == UPLOAD_LENGTH_UNKNOWN && length >= h->info.offset;
}

// The same parts in the same order, of which some were not done.
static bool parts_fit(const struct upload_head *h, struct span parts)
{
    struct span were = h->info.made.parts;
    if (h->info.state != UPLOAD_OPEN || h->info.made.kind != UPLOAD_JOINED || h->info.made.length != UPLOAD_LENGTH_UNKNOWN || were.n != parts.n) return false;
    for (size_t at = 0; at < parts.n; at += UPLOAD_PART_BYTES)
        if (memcmp(were.p + at, parts.p + at, sizeof h->info.id.b) != 0) return false;
    return true;
}

// The digest of the part at this place of a list; false: it is not done.
static bool part_digest(struct span parts, size_t at, struct sha256 *out)
{
    static const struct sha256 none;
    memcpy(out->b, parts.p + at + sizeof((struct uuid *)0)->b, sizeof out->b);
    return !sha256_equal(out, &none);
}

static void head_expire(struct upload_head *h)
{
    h->info.state = UPLOAD_EXPIRED;
    h->chunks_end = 0;
    h->tail = (struct chunk){0};
    h->state = SPAN_NONE;
}

static bool progress_fits(const struct upload_head *h, const struct upload_op *op)
{
    return h->info.state == UPLOAD_OPEN && h->info.offset == op->progress.from && h->chunks_end == op->progress.at;
}

static bool complete_fits(const struct upload_head *h)
{
    return h->info.state == UPLOAD_OPEN && h->chunks_end == h->info.made.length;
}

// ---- deciding --------------------------------------------------------------------------------------------------

void uploads_batch_free(struct blobs_batch *d)
{
    free(d->uploads);
    buf_free(&d->upload_effects);
}

// The upload as the operations before left it, or as it is stored. Linear: a batch touches one.
static int change_of(struct blobs_batch *d, struct uuid id, struct upload_change **out)
{
    for (size_t i = 0; i < d->upload_count; i++) {
        *out = &d->uploads[i];
        if (uuid_equal((*out)->head.info.id, id)) return 0;
    }
    struct upload_change *more = realloc(d->uploads, (d->upload_count + 1) * sizeof *more);
    if (more == NULL) return ERR_NOMEM;
    d->uploads = more;
    *out = &more[d->upload_count];
    int err;
    bool exists = upload_head_find(d->b, d->txn, id, &(*out)->head, &err);
    if (err != 0) return err;
    (*out)->exists = exists;
    (*out)->head.info.id = id;
    d->upload_count++;
    return 0;
}

// The parts are blobs, and together as long as was said; or some are not done, and nothing was.
static int check_parts(struct blobs_batch *d, struct span parts, uint64_t length, struct problem *p)
{
    uint64_t sum = 0;
    for (size_t at = 0; at < parts.n; at += UPLOAD_PART_BYTES) {
        struct sha256 digest;
        struct blob_info part;
        if (!part_digest(parts, at, &digest) && length == UPLOAD_LENGTH_UNKNOWN) continue;
        if (!blobs_decide_find(d, &digest, &part)) return problem_set(p, ERR_BLOB_NOT_FOUND, -1, "a part is not stored");
        sum += part.size;
    }
    if (parts.n > 0 && length != UPLOAD_LENGTH_UNKNOWN && sum != length) return problem_set(p, ERR_BAD_VALUE, -1, "the parts are not as long as was said");
    return 0;
}

static bool is_chunks(const struct upload_head *h)
{
    return h->info.made.kind == UPLOAD_CHUNKS;
}

// Bodies of chunks do not take the places of uploads that somebody may have to go on with.
static int check_room(struct blobs_batch *d, bool chunks, struct problem *p)
{
    int64_t max = chunks ? CHUNKS_BODIES_MAX : UPLOADS_OPEN_MAX;
    if ((int64_t)blobs_uploads_open(d->b, d->txn, chunks) + d->uploads_opened[chunks] < max) return 0;
    return problem_set(p, ERR_TOO_MANY, -1, chunks ? "%d bodies of chunks are kept" : "%d uploads are not done", (int)max);
}

static int decide_create(struct blobs_batch *d, struct upload_change *u, const struct upload_op *op, struct problem *p)
{
    if (u->exists || pages_exist(d->b, d->txn, op->id)) return problem_set(p, ERR_EXISTS, -1, "an upload has this id");
    struct blob_info checked = {0};
    int err = check_room(d, op->make.kind == UPLOAD_CHUNKS, p);
    if (err == 0) err = blob_set_type(&checked, op->make.type, p);
    if (err == 0) err = check_parts(d, op->make.parts, op->make.length, p);
    if (err != 0) return err;
    head_create(&u->head, op, d->commit);
    u->exists = true;
    d->uploads_opened[is_chunks(&u->head)]++;
    return 0;
}

// Only a blob's last chunk is shorter than the rule allows; chunks of an UPLOAD_CHUNKS are of many blobs.
static bool ends_early(const struct manifest *m, const struct upload_head *h)
{
    struct chunk last;
    if (m->count == 0 || h->info.made.kind == UPLOAD_JOINED || h->info.made.kind == UPLOAD_CHUNKS) return false;
    blob_manifest_at(m, m->count - 1, &last);
    return last.place.length < BLOB_CHUNK_MIN && h->chunks_end < h->info.made.length;
}

static int decide_progress(struct blobs_batch *d, struct upload_change *u, const struct upload_op *op, const struct manifest *m, struct problem *p)
{
    if (!progress_fits(&u->head, op))
        return problem_set(p, ERR_UPLOAD_OFFSET, -1, "the upload is at offset %llu", (unsigned long long)u->head.info.offset);
    head_progress(&u->head, op, m);
    if (u->head.info.offset > u->head.info.made.length) return problem_set(p, ERR_TOO_LARGE, -1, "these are more bytes than the upload was to have");
    if (op->progress.state.n == 0 && u->head.chunks_end < u->head.info.made.length) return problem_set(p, ERR_BAD_VALUE, -1, "the digest's state is missing");
    int err = manifest_check_known(d->b, d->txn, m);
    if (err == ERR_CORRUPT) return problem_set(p, err, -1, "the index of chunks is damaged");
    if (err != 0)
        return problem_set(p, ERR_BAD_VALUE, -1, "a chunk that the progress relies on is gone: send it again");
    if (ends_early(m, &u->head)) return problem_set(p, ERR_BAD_VALUE, -1, "a chunk in the middle is too short");
    return 0;
}

static int decide_complete(struct blobs_batch *d, struct upload_change *u, const struct upload_op *op, struct problem *p)
{
    const struct upload_info *info = &u->head.info;
    if (info->made.kind == UPLOAD_CHUNKS) return problem_set(p, ERR_BAD_VALUE, -1, "chunks are no blob");
    if (!complete_fits(&u->head)) return problem_set(p, ERR_UPLOAD_OFFSET, -1, "the upload is at offset %llu", (unsigned long long)info->offset);
    struct sha256 empty = sha256_of(SPAN_NONE);
    if ((info->made.length == 0) != sha256_equal(&op->digest, &empty)) return problem_set(p, ERR_BAD_VALUE, -1, "the digest does not fit the size");
    struct stored s = {.info = {.digest = op->digest, .size = info->made.length, .created_seq = d->commit->seq}, .uploaded = true};
    int err = blob_set_type(&s.info, info->made.type, p);
    if (err == 0) err = blob_batch_add(d, &s, p);
    if (err != 0) return err;
    head_complete(&u->head, op);
    d->uploads_opened[is_chunks(&u->head)]--;
    return 0;
}

static int decide_parts(struct blobs_batch *d, struct upload_change *u, const struct upload_op *op, struct problem *p)
{
    if (!parts_fit(&u->head, op->parts)) return problem_set(p, ERR_BAD_VALUE, -1, "these are not the upload's parts");
    int err = check_parts(d, op->parts, op->length, p);
    if (err != 0) return err;
    u->head.info.made.parts = op->parts;
    u->head.info.made.length = op->length;
    return 0;
}

// One that has lost its bytes already is forgotten after the same time again.
static bool is_remembered(const struct upload_head *h, uint64_t now_ms)
{
    return h->info.state == UPLOAD_EXPIRED && now_ms < h->info.changed_ms + h->info.made.ttl_ms;
}

// *nothing: there is nothing to be done.
static void decide_expire(struct blobs_batch *d, struct upload_change *u, bool *nothing)
{
    *nothing = !u->exists || !blobs_upload_past(&u->head.info, d->commit->arrival_ms) || is_remembered(&u->head, d->commit->arrival_ms);
    if (*nothing) return;
    bool open = u->head.info.state == UPLOAD_OPEN;
    d->uploads_opened[is_chunks(&u->head)] -= open;
    u->exists = open;
    head_expire(&u->head);
}

static int decide_op(struct blobs_batch *d, const struct upload_op *op, const struct manifest *m, bool *nothing, struct problem *p)
{
    struct upload_change *u;
    int err = change_of(d, op->id, &u);
    if (err != 0) return problem_set(p, err, -1, "%s", err_text(err));
    if (op->kind == UPLOAD_CREATE) return decide_create(d, u, op, p);
    if (op->kind == UPLOAD_EXPIRE) {
        decide_expire(d, u, nothing);
        return 0;
    }
    if (!u->exists) return problem_set(p, ERR_NO_SUCH_UPLOAD, -1, "%s", err_text(ERR_NO_SUCH_UPLOAD));
    if (op->kind == UPLOAD_PROGRESS) return decide_progress(d, u, op, m, p);
    if (op->kind == UPLOAD_COMPLETE) return decide_complete(d, u, op, p);
    if (op->kind == UPLOAD_SET_PARTS) return decide_parts(d, u, op, p);
    if (op->kind == UPLOAD_SET_LENGTH) {
        if (!length_fits(&u->head, op->length)) return problem_set(p, ERR_UPLOAD_LENGTH, -1, "%s", err_text(ERR_UPLOAD_LENGTH));
        u->head.info.made.length = op->length;
        return 0;
    }
    d->uploads_opened[is_chunks(&u->head)] -= u->head.info.state == UPLOAD_OPEN;
    u->exists = false;
    return 0;
}

int blobs_decide_upload(struct blobs_batch *d, struct span op, struct problem *p)
{
    struct span request = d->commit->request;
    assert(op.n <= request.n && op.p >= request.p && op.p + op.n <= request.p + request.n);
    struct upload_op read;
    struct manifest m = {0};
    if (upload_op_decode(op, &read, &m) != 0) return problem_set(p, ERR_BAD_VALUE, -1, "the operation on an upload is not valid");
    bool nothing = false;
    int err = decide_op(d, &read, &m, &nothing, p);
    if (err != 0 || nothing) return err;
    struct upload_effect e = {.at = (uint64_t)(op.p - request.p), .n = op.n};
    buf_put(&d->upload_effects, &e, sizeof e);
    return d->upload_effects.err;
}

void uploads_decide_effects(struct blobs_batch *d, struct buf *effects)
{
    size_t count = d->upload_effects.n / sizeof(struct upload_effect);
    buf_put_varint(effects, count);
    for (size_t i = 0; i < count; i++) {
        struct upload_effect e;
        memcpy(&e, d->upload_effects.p + i * sizeof e, sizeof e);
        buf_put_varint(effects, e.at);
        buf_put_varint(effects, e.n);
    }
}

// ---- applying --------------------------------------------------------------------------------------------------

// What applying one operation works with. The head's spans point into `kept` or into the request, never into the database,
// whose values do not outlive a write.
struct applying {
    struct blobs *b;
    struct db_txn *txn;
    const struct commit *commit;
    struct upload_head head;
    struct buf kept;    // the head as it was
    struct buf scratch; // what is being written
    struct buf page;
    int64_t opened[2]; // of chunks beside
};

static int keep_head(struct applying *a, struct uuid id)
{
    struct upload_key key = upload_head_key(id);
    struct span value;
    if (!db_get(a->txn, a->b->table_uploads, upload_key_span(&key), &value)) {
        int err = db_txn_err(a->txn);
        return err != 0 ? err : ERR_CORRUPT; // it was there when this was decided
    }
    buf_clear(&a->kept);
    buf_put_span(&a->kept, value);
    if (a->kept.err != 0) return a->kept.err == ERR_NOMEM ? ERR_NOMEM : ERR_CORRUPT;
    int err = upload_head_decode(buf_span(&a->kept), &a->head);
    a->head.info.id = id;
    return err;
}

static int put_head(struct applying *a)
{
    struct upload_info *info = &a->head.info;
    struct upload_key key = upload_head_key(info->id);
    info->changed_ms = a->commit->arrival_ms;
    info->changed_seq = a->commit->seq;
    buf_clear(&a->scratch);
    upload_head_encode(&a->scratch, &a->head);
    if (a->scratch.err != 0) return a->scratch.err == ERR_NOMEM ? ERR_NOMEM : ERR_CORRUPT;
    db_put(a->txn, a->b->table_uploads, upload_key_span(&key), buf_span(&a->scratch));
    upload_feeds_note(&a->b->feeds, info->id, a->commit->seq, info);
    return db_txn_err(a->txn);
}

// A blob has a reference more, or less, whose owner is an upload. It is there: what has a reference is not swept, so all else is damage.
static int refer(struct applying *a, const struct sha256 *digest, bool more)
{
    struct blob_info info;
    int err;
    if (!blob_head_find(a->b, a->txn, digest, &info, &err)) return err != 0 ? err : ERR_CORRUPT;
    if (!more && info.uploads == 0) return ERR_CORRUPT;
    if (more) info.uploads++;
    else info.uploads--;
    return blob_settle(a->b, a->txn, &info, a->commit->arrival_ms);
}

// An upload that is being joined keeps its parts' blobs, whatever becomes of the uploads that brought them.
static int refer_parts(struct applying *a, struct span parts, bool more)
{
    int err = 0;
    for (size_t at = 0; at < parts.n && err == 0; at += UPLOAD_PART_BYTES) {
        struct sha256 digest;
        if (part_digest(parts, at, &digest)) err = refer(a, &digest, more);
    }
    return err;
}

static int apply_create(struct applying *a, const struct upload_op *op)
{
    head_create(&a->head, op, a->commit);
    a->opened[is_chunks(&a->head)]++;
    int err = refer_parts(a, op->make.parts, true);
    return err != 0 ? err : put_head(a);
}

static int apply_parts(struct applying *a, const struct upload_op *op)
{
    struct span were = a->head.info.made.parts;
    if (!parts_fit(&a->head, op->parts)) return ERR_CORRUPT;
    int err = refer_parts(a, op->parts, true);
    if (err == 0) err = refer_parts(a, were, false);
    a->head.info.made.parts = op->parts;
    a->head.info.made.length = op->length;
    return err != 0 ? err : put_head(a);
}

static int apply_progress(struct applying *a, const struct upload_op *op, const struct manifest *m)
{
    if (!progress_fits(&a->head, op)) return ERR_CORRUPT;
    uint64_t at = a->head.chunks_end;
    int err = tail_count(a->b, a->txn, &a->head.tail, -1);
    head_progress(&a->head, op, m);
    if (a->head.info.offset > a->head.info.made.length) return ERR_CORRUPT;
    if (err == 0) err = tail_count(a->b, a->txn, &a->head.tail, +1);
    for (uint32_t i = 0; i < m->count && err == 0; i++) {
        struct chunk chunk;
        blob_manifest_at(m, i, &chunk);
        if (i % PAGE_CHUNKS == 0) {
            struct blob_key key = blob_page_key(op->id, at);
            blob_page_build(&a->page, m, i, &at);
            err = a->page.err;
            if (err == 0) db_put(a->txn, a->b->table_pages, blob_key_span(&key), buf_span(&a->page));
        }
        if (err == 0) err = chunk_ref(a->b, a->txn, &chunk);
    }
    return err != 0 ? err : put_head(a);
}

static int apply_complete(struct applying *a, const struct upload_op *op)
{
    struct blob_info known, info = {.digest = op->digest, .size = a->head.info.made.length, .created_seq = a->commit->seq, .pages = op->id};
    if (!complete_fits(&a->head) || blob_set_type(&info, a->head.info.made.type, NULL) != 0) return ERR_CORRUPT;
    // The upload's chunk list becomes the blob's, as it is; if there is one already, it is not needed.
    bool there = blobs_find(a->b, a->txn, &op->digest, &known);
    if (there) pages_discard(a->b, a->txn, op->id);
    else known = info;
    known.uploads++;
    int err = blob_settle(a->b, a->txn, &known, a->commit->arrival_ms);
    if (err == 0) err = refer_parts(a, a->head.info.made.parts, false);
    if (err != 0) return err;
    head_complete(&a->head, op);
    a->opened[is_chunks(&a->head)]--;
    return put_head(a);
}

// Of an open one.
static int discard_bytes(struct applying *a)
{
    pages_discard(a->b, a->txn, a->head.info.id);
    int err = refer_parts(a, a->head.info.made.parts, false);
    return err != 0 ? err : tail_count(a->b, a->txn, &a->head.tail, -1);
}

static int apply_drop(struct applying *a)
{
    struct upload_key key = upload_head_key(a->head.info.id);
    bool open = a->head.info.state == UPLOAD_OPEN;
    int err = open ? discard_bytes(a) : a->head.info.state == UPLOAD_DONE ? refer(a, &a->head.info.digest, false) : 0;
    if (err != 0) return err;
    db_del(a->txn, a->b->table_uploads, upload_key_span(&key));
    a->opened[is_chunks(&a->head)] -= open;
    upload_feeds_note(&a->b->feeds, a->head.info.id, a->commit->seq, NULL);
    return db_txn_err(a->txn);
}

static int apply_length(struct applying *a, const struct upload_op *op)
{
    if (!length_fits(&a->head, op->length)) return ERR_CORRUPT;
    a->head.info.made.length = op->length;
    return put_head(a);
}

// The first time it loses its bytes, the second time it is forgotten.
static int apply_expire(struct applying *a)
{
    if (a->head.info.state != UPLOAD_OPEN) return apply_drop(a);
    int err = discard_bytes(a);
    if (err != 0) return err;
    head_expire(&a->head);
    a->opened[is_chunks(&a->head)]--;
    return put_head(a);
}

static int apply_op(struct applying *a, const struct upload_effect *e)
{
    struct span request = a->commit->request;
    struct upload_op op;
    struct manifest m = {0};
    if (e->at > request.n || e->n > request.n - e->at) return ERR_CORRUPT;
    if (upload_op_decode(SPAN(request.p + e->at, e->n), &op, &m) != 0) return ERR_CORRUPT;
    if (op.kind == UPLOAD_CREATE) return apply_create(a, &op);
    int err = keep_head(a, op.id);
    if (err != 0) return err;
    if (op.kind == UPLOAD_PROGRESS) return apply_progress(a, &op, &m);
    if (op.kind == UPLOAD_SET_LENGTH) return apply_length(a, &op);
    if (op.kind == UPLOAD_SET_PARTS) return apply_parts(a, &op);
    if (op.kind == UPLOAD_EXPIRE) return apply_expire(a);
    return op.kind == UPLOAD_COMPLETE ? apply_complete(a, &op) : apply_drop(a);
}

static void count_opened(struct applying *a, bool chunks)
{
    struct upload_key key = upload_count_key(chunks);
    int64_t n = (int64_t)blobs_uploads_open(a->b, a->txn, chunks) + a->opened[chunks];
    if (a->opened[chunks] == 0) return;
    buf_clear(&a->scratch);
    upload_count_encode(&a->scratch, n > 0 ? (uint32_t)n : 0);
    if (a->scratch.err == 0) db_put(a->txn, a->b->table_uploads, upload_key_span(&key), buf_span(&a->scratch));
}

int uploads_apply(struct blobs *b, struct db_txn *txn, const struct commit *c, struct cur *effects)
{
    size_t count = 0;
    int err = upload_effects_open(effects, &count);
    if (err != 0 || count == 0) return err;
    struct applying a = {.b = b, .txn = txn, .commit = c};
    buf_init(&a.kept, HEAD_MAX);
    buf_init(&a.scratch, HEAD_MAX > PAGE_MAX ? HEAD_MAX : PAGE_MAX);
    buf_init(&a.page, PAGE_MAX);
    for (size_t i = 0; i < count && err == 0; i++) {
        struct upload_effect e;
        err = upload_effects_next(effects, &e);
        if (err == 0) err = apply_op(&a, &e);
    }
    if (err == 0) count_opened(&a, false);
    if (err == 0) count_opened(&a, true);
    buf_free(&a.kept);
    buf_free(&a.scratch);
    buf_free(&a.page);
    return err;
}

// ---- checks ----------------------------------------------------------------------------------------------------

int uploads_hash(struct blobs *b, struct db_txn *txn, struct digest *d)
{
    struct db_iter it;
    struct buf line;
    int err = 0;
    buf_init(&line, HEAD_MAX);
    db_iter_init(&it, txn, b->table_uploads);
    for (bool more = db_iter_first(&it); more && err == 0; more = db_iter_next(&it)) {
        struct upload_head head = {0};
        if (!upload_key_is_head(it.key, &head.info.id)) continue;
        err = upload_head_decode(it.value, &head);
        if (err != 0) break;
        head.tail = (struct chunk){0}; // where it lies is no state
        buf_clear(&line);
        buf_put(&line, head.info.id.b, sizeof head.info.id.b);
        upload_head_encode(&line, &head);
        err = line.err;
        digest_update(d, buf_span(&line));
    }
    db_iter_end(&it);
    buf_free(&line);
    return err != 0 ? err : db_txn_err(txn);
}

struct checking {
    struct blobs *b;
    struct db_txn *txn;
    struct digest *content;
    struct buf record, bytes;
    bool damaged;
};

static int check_read(struct checking *c, const struct chunk *chunk)
{
    int err = chunk_read(c->b, chunk, &c->record, &c->bytes);
    if (err == 0) digest_update(c->content, buf_span(&c->bytes));
    return err;
}

static int check_chunks(struct checking *c, const struct upload_head *h)
{
    int err = 0;
    uint64_t at = 0;
    while (at < h->chunks_end && err == 0) {
        struct blob_key key = blob_page_key(h->info.id, at);
        struct span value;
        size_t count = 0;
        if (!db_get(c->txn, c->b->table_pages, blob_key_span(&key), &value)) return ERR_CORRUPT;
        err = blob_page_decode(value, &count);
        for (size_t i = 0; i < count && err == 0; i++) {
            struct chunk chunk;
            uint32_t length;
            blob_page_at(value, i, &chunk.sha, &length);
            err = chunk_place_find(c->b, c->txn, &chunk.sha, &chunk.place);
            if (err == 0) err = chunk.place.length == length ? check_read(c, &chunk) : ERR_CORRUPT;
            at += length;
        }
    }
    return err == 0 && at != h->chunks_end ? ERR_CORRUPT : err;
}

// Everything up to the offset is there, and the running digest is that of it.
static int check_upload(struct checking *c, const struct upload_head *h)
{
    uint8_t is[DIGEST_STATE_MAX];
    digest_final(c->content); // begins anew
    int err = check_chunks(c, h);
    if (err == 0 && h->tail.place.length > 0) err = check_read(c, &h->tail);
    size_t n = digest_save(c->content, is);
    if (err == 0 && h->state.n > 0 && !span_equal(h->state, SPAN(is, n))) err = ERR_CORRUPT;
    if (err != ERR_CORRUPT && err != ERR_VERSION && err != ERR_NOT_FOUND) return err;
    char id[UUID_TEXT];
    uuid_format(h->info.id, id);
    log_error("blobs", "an upload is damaged", LF_SPAN("upload", SPAN(id, UUID_TEXT)), LF_UINT("offset", h->info.offset));
    c->damaged = true;
    return 0;
}

int uploads_check(struct blobs *b, struct db_txn *txn)
{
    struct checking c = {.b = b, .txn = txn, .content = digest_new()};
    struct db_iter it;
    int err = 0;
    if (c.content == NULL) return ERR_NOMEM;
    buf_init(&c.record, RECORD_HEAD_BYTES + BLOB_CHUNK_MAX);
    buf_init(&c.bytes, BLOB_CHUNK_MAX);
    db_iter_init(&it, txn, b->table_uploads);
    for (bool more = db_iter_first(&it); more && err == 0; more = db_iter_next(&it)) {
        struct upload_head head = {0};
        if (!upload_key_is_head(it.key, &head.info.id)) continue;
        if (upload_head_decode(it.value, &head) != 0) c.damaged = true;
        else if (head.info.state == UPLOAD_OPEN) err = check_upload(&c, &head);
    }
    db_iter_end(&it);
    buf_free(&c.record);
    buf_free(&c.bytes);
    digest_free(c.content);
    if (err == 0) err = db_txn_err(txn);
    return err == 0 && c.damaged ? ERR_CORRUPT : err;
}
