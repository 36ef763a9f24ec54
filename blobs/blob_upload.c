// Uploads. One window goes through the stages like this; chunk_table.h says how uploads share what they store.
//
//      window buffer:  [ chunk | chunk | chunk | rest ]     chunk: cuts what is whole, hashes it, packs what gets smaller
//      pieces:           new     known   new                place: known, or a place in a pack
//      pack:             [ record | record ] one write      write: new ones that lie side by side go out together
//
// The rest stays in the buffer and begins the next window. An error is sticky: the first one is what every later stage returns.
#include <assert.h>
#include <stdlib.h>

#include "blob_store.h"
#include "chunk_lanes.h"
#include "compress.h"
#include "crew.h"
#include "db.h"
#include "err.h"
#include "pack.h"

#define WINDOW_MAX CHUNK_SCAN_MAX // a window behind what is left of the one before
#define PIECES_MAX (WINDOW_MAX / BLOB_CHUNK_MIN + 1)
#define PACKED_MAX (WINDOW_MAX + WINDOW_MAX / 16 + 64 * KIB) // room for the trial that ends up larger than its chunk
#define PACK_LEVEL 1
#define PACK_LEVEL_SMALL 5 // of chunks below BLOB_CHUNK_AVG, which small files are: there are few of their bytes, and many of them
#define WHOLE_OFFER_MIN (64 * KIB) // fewer bytes are hashed at once: a helper would take longer to wake
#define PROBE_BYTES 4096         // packed on trial, from a chunk's middle
#define SAVING_MIN(n) ((n) / 16) // bytes that packing must save, or the chunk is kept raw

enum stage { STAGE_FED, STAGE_PLACED, STAGE_WRITTEN, STAGE_SYNCED };

// One chunk of the window.
struct piece {
    struct chunk chunk; // its pack and position are set by place
    size_t at;          // of its bytes in the window
    size_t packed_at;   // of its payload in `packed`, where the codec is not raw
    uint64_t sum;
    uint8_t head[RECORD_HEAD_BYTES];
    struct placed *placed; // the upload's list holds the reference
    bool write;            // nobody was known to have written it when it was placed
    bool ours;             // its place was made for it in this window
};

struct blob_upload {
    struct blobs *b;
    int err;
    enum stage stage; // the one that was done last; an upload begins as if it had written
    bool last;        // everything has been taken
    bool alone;       // it is one chunk for certain
    struct buf window;
    size_t cut;        // bytes at its front that are in pieces
    struct chunk_scan scan; // the chunks behind it
    size_t hashed;          // bytes at its front that are in `whole`, where `lanes`
    bool lanes;             // `whole` is made beside the chunks' digests, else by a helper
    struct buf packed; // payloads of compressed pieces
    struct piece pieces[PIECES_MAX];
    size_t piece_count;
    struct pack *fresh_pack; // where the window's new records go, one behind the other; borrowed from `packs`; NULL: there are none
    uint64_t fresh_at;
    size_t fresh_bytes;
    struct digest *chunk;      // of the chunk that is being hashed
    struct digest *whole;      // while `hashing` is on offer, a helper's
    struct crew_task hashing;
    struct span taken; // the window's new bytes, for it
    struct crew_task writing; // of the batch, where a window follows; what it needs is here, as `pieces` are the next window's then
    uint8_t *batch;           // NULL: there is none
    struct pack *batch_pack;
    uint64_t batch_at;
    size_t batch_bytes;
    struct placed *batch_placed[PIECES_MAX];
    size_t batch_count;
    int batch_err;
    struct sha256 digest;
    uint64_t size;
    struct buf chunks; // struct placed *: every chunk so far, in order, each with a reference
    struct buf packs;  // struct pack *: those that a barrier is owed to, each once, each with a reference
    // Of a resumable one:
    bool resumable;
    struct uuid id;
    uint64_t kept;      // the offset of its last progress
    uint64_t chunks_at; // where `chunks` begin: those before are committed, and none of ours any more
    struct chunk stored_tail; // to be read back by load; length 0: none
    struct pack *stored_in;   // a reference until then: the file stays, should the tail be moved
    bool pause;         // this window ends in one
    bool once;          // nobody else goes on with it
    struct piece tail;  // the rest of the window behind the last cut; length 0: none
    struct pack *tail_pack; // borrowed from `packs`
};

static int upload_fail(struct blob_upload *u, int err)
{
    assert(err != 0);
    if (u->err == 0) u->err = err;
    return u->err;
}

int blobs_upload_open(struct blobs *b, struct blob_upload **out)
{
    if (b->uploads >= UPLOADS_MAX) return ERR_TOO_MANY;
    struct blob_upload *u = calloc(1, sizeof *u);
    if (u == NULL) return ERR_NOMEM;
    u->whole = digest_new();
    u->chunk = digest_new();
    if (u->whole == NULL || u->chunk == NULL) {
        digest_free(u->whole);
        digest_free(u->chunk);
        free(u);
        return ERR_NOMEM;
    }
    u->lanes = chunk_lanes_fast();
    u->b = b;
    u->stage = STAGE_WRITTEN;
    buf_init(&u->window, WINDOW_MAX);
    buf_init(&u->packed, PACKED_MAX);
    buf_init(&u->chunks, BLOB_CHUNKS_MAX * sizeof(struct placed *));
    buf_init(&u->packs, BLOB_CHUNKS_MAX * sizeof(struct pack *));
    b->uploads++;
    *out = u;
    return 0;
}

// The buffers hold pointers; their memory is malloc's, so it is aligned for them.
static size_t pointer_count(const struct buf *b)
{
    return b->n / sizeof(void *);
}

static void *pointer_at(const struct buf *b, size_t i)
{
    void *p;
    memcpy(&p, b->p + i * sizeof p, sizeof p);
    return p;
}

static int write_end(struct blob_upload *u);

void blobs_upload_close(struct blob_upload *u)
{
    if (u == NULL) return;
    crew_join(u->b->crew, &u->hashing);
    write_end(u); // what is still being written keeps the owner no longer than one window takes
    for (size_t i = 0; i < pointer_count(&u->chunks); i++)
        chunk_table_unref(&u->b->chunks, pointer_at(&u->chunks, i));
    for (size_t i = 0; i < pointer_count(&u->packs); i++)
        pack_unref(pointer_at(&u->packs, i));
    pack_unref(u->stored_in);
    buf_free(&u->window);
    buf_free(&u->packed);
    buf_free(&u->chunks);
    buf_free(&u->packs);
    digest_free(u->whole);
    digest_free(u->chunk);
    assert(u->b->uploads > 0);
    u->b->uploads--;
    free(u);
}

// ---- chunk -----------------------------------------------------------------------------------------------------

// Whether packing is worth a try: media and archives do not get smaller, and a small piece tells.
static int probe(struct blob_upload *u, struct span content, bool *worth)
{
    struct span middle = span_sub(content, content.n > PROBE_BYTES ? (content.n - PROBE_BYTES) / 2 : 0, PROBE_BYTES);
    size_t before = u->packed.n;
    int err = zstd_pack(&u->packed, middle, PACK_LEVEL);
    if (err != 0) return err;
    *worth = u->packed.n - before + SAVING_MIN(middle.n) <= middle.n;
    buf_truncate(&u->packed, before);
    return 0;
}

// Packs a chunk where that helps. Equal content must give equal bytes: nothing but the content decides here.
static int pack_piece(struct blob_upload *u, struct piece *piece, struct span content)
{
    struct place *place = &piece->chunk.place;
    place->codec = CODEC_RAW;
    place->stored = place->length;
    bool worth = false;
    int err = probe(u, content, &worth);
    if (err != 0 || !worth) return err;

    piece->packed_at = u->packed.n;
    err = zstd_pack(&u->packed, content, content.n < BLOB_CHUNK_AVG ? PACK_LEVEL_SMALL : PACK_LEVEL);
    if (err != 0) return err;
    size_t n = u->packed.n - piece->packed_at;
    if (n + SAVING_MIN(content.n) > content.n) {
        buf_truncate(&u->packed, piece->packed_at);
        return 0;
    }
    place->codec = CODEC_ZSTD;
    place->stored = (uint32_t)n;
    return 0;
}

static struct span piece_payload(const struct blob_upload *u, const struct piece *piece)
{
    const uint8_t *p = piece->chunk.place.codec == CODEC_RAW ? u->window.p + piece->at : u->packed.p + piece->packed_at;
    return SPAN(p, piece->chunk.place.stored);
}

// The hash of bytes at the window's cut, which the hash over the whole takes in with them, unless it has some of them from a pause.
static struct sha256 hash_content(struct blob_upload *u, struct span content)
{
    if (!u->lanes || u->alone) return sha256_of(content);
    size_t had = u->hashed > u->cut ? u->hashed - u->cut : 0;
    if (had > content.n) had = content.n;
    digest_update(u->chunk, span_sub(content, 0, had));
    chunk_lanes_update(u->whole, u->chunk, span_sub(content, had, content.n), &u->scan, buf_span(&u->window));
    u->hashed += content.n - had;
    return digest_final(u->chunk);
}

static int take_piece(struct blob_upload *u, size_t n)
{
    assert(u->piece_count < PIECES_MAX);
    struct piece *piece = &u->pieces[u->piece_count++];
    struct span content = SPAN(u->window.p + u->cut, n);
    *piece = (struct piece){.at = u->cut, .chunk.place.length = (uint32_t)n};
    piece->chunk.sha = hash_content(u, content);
    int err = pack_piece(u, piece, content);
    if (err != 0) return err;
    piece->sum = blob_record_encode(piece->head, &piece->chunk, piece_payload(u, piece));
    u->cut += n;
    return 0;
}

// The rest as a record of its own, which counts until the next progress and is garbage then.
static int take_tail(struct blob_upload *u)
{
    u->tail = (struct piece){0};
    size_t n = u->window.n - u->cut;
    // A running digest that is a helper's is that of all bytes: then they have to be there.
    if (!u->pause || n == 0 || (u->once && u->lanes)) return 0;
    assert(n < BLOB_CHUNK_MAX);
    struct span content = SPAN(u->window.p + u->cut, n);
    u->tail.at = u->cut;
    u->tail.chunk = (struct chunk){.sha = hash_content(u, content), .place.length = (uint32_t)n};
    int err = pack_piece(u, &u->tail, content);
    if (err == 0) blob_record_encode(u->tail.head, &u->tail.chunk, piece_payload(u, &u->tail));
    return err;
}

// What has been looked through already waits where more will come, to be hashed while that is: never more than the longest chunk, for
// beside the hashing of a chunk as much is looked through, and otherwise never further than the end of the next one.
static bool is_early(const struct blob_upload *u)
{
    return u->lanes && !u->last && !u->pause && u->window.n - u->scan.at < SHA256_BLOCK;
}

static int cut_window(struct blob_upload *u)
{
    int err = 0;
    while (err == 0 && (u->scan.count > 0 || chunk_scan_seek(&u->scan, buf_span(&u->window))) && !is_early(u))
        err = take_piece(u, chunk_scan_pop(&u->scan) - u->cut);
    return err == 0 && u->last && u->window.n > u->cut ? take_piece(u, u->window.n - u->cut) : err;
}

static void hash_taken(void *arg)
{
    struct blob_upload *u = arg;
    digest_update(u->whole, u->taken);
}

// The hash over the whole is as much work as those of the chunks together: where it is not made with them a helper does it beside
// them, and beside the write.
static void hash_begin(struct blob_upload *u)
{
    if (u->lanes || u->alone) return;
    if (u->taken.n >= WHOLE_OFFER_MIN) crew_offer(u->b->crew, &u->hashing, hash_taken, u);
    else hash_taken(u);
}

// The digest of all. Content of one chunk has been hashed already.
static void hash_end(struct blob_upload *u)
{
    if (u->piece_count == 1 && u->pieces[0].chunk.place.length == u->size) {
        u->digest = u->pieces[0].chunk.sha;
        return;
    }
    crew_join(u->b->crew, &u->hashing);
    u->digest = digest_final(u->whole);
}

// The window's room is free again but for the rest.
static void window_begin(struct blob_upload *u)
{
    crew_join(u->b->crew, &u->hashing); // it reads the window
    buf_consume(&u->window, u->cut);
    buf_clear(&u->packed);
    chunk_scan_shift(&u->scan, u->cut);
    u->hashed = u->hashed > u->cut ? u->hashed - u->cut : 0;
    u->cut = 0;
    u->piece_count = 0;
}

static int take_given(struct blob_upload *u, const struct blob_given *given)
{
    buf_put_span(&u->window, given->content);
    if (u->window.err != 0) return u->window.err;
    u->scan.start = u->scan.at = u->window.n; // nothing is sought in it
    int err = take_piece(u, given->content.n);
    if (err != 0) return err;
    return sha256_equal(&u->pieces[u->piece_count - 1].chunk.sha, &given->sha) ? 0 : ERR_CHECKSUM;
}

int blobs_upload_give(struct blob_upload *u, const struct blob_given *given, size_t count, size_t *taken)
{
    size_t n = 0;
    if (u->err != 0) return u->err;
    assert(u->resumable && u->stage == STAGE_WRITTEN && u->window.n == u->cut);
    window_begin(u);
    while (n < count && n < PIECES_MAX && u->window.n + given[n].content.n <= BLOB_WINDOW) {
        assert(given[n].content.n > 0 && given[n].content.n <= BLOB_CHUNK_MAX);
        int err = take_given(u, &given[n++]);
        if (err != 0) return upload_fail(u, err);
    }
    u->taken = buf_span(&u->window);
    u->size += u->window.n;
    u->pause = n == count;
    hash_begin(u); // the check of open uploads compares it
    *taken = n;
    u->stage = STAGE_FED;
    return 0;
}

int blobs_upload_chunk(struct blob_upload *u, struct span data, bool last)
{
    assert(data.n <= BLOB_WINDOW);
    if (u->err != 0) return u->err;
    assert((u->stage == STAGE_WRITTEN || u->stage == STAGE_SYNCED) && !u->last);
    if (data.n > BLOB_BYTES_MAX - u->size) return upload_fail(u, ERR_TOO_LARGE);

    window_begin(u);
    u->last = last;
    if (u->stage == STAGE_SYNCED) u->pause = false; // it was the window before
    buf_put_span(&u->window, data);
    if (u->window.err != 0) return upload_fail(u, u->window.err);
    u->taken = SPAN(u->window.p + u->window.n - data.n, data.n);
    u->size += data.n;
    u->alone = last && u->size == data.n && data.n <= BLOB_CHUNK_MIN;
    hash_begin(u);
    int err = cut_window(u);
    if (err == 0) err = take_tail(u);
    if (err != 0) return upload_fail(u, err);
    if (last) hash_end(u);
    u->stage = STAGE_FED;
    return 0;
}

// ---- place -----------------------------------------------------------------------------------------------------

// A chunk in the table may be relied on if it is written, or if this upload can write the very same record.
static bool usable(const struct placed *p, const struct piece *piece)
{
    if (p->pack == NULL) return true;
    return !pack_failed(p->pack) && (atomic_load(&p->written) || p->sum == piece->sum);
}

// The most that the window's records may take.
static size_t window_bytes(const struct blob_upload *u)
{
    size_t n = 0;
    for (size_t i = 0; i < u->piece_count; i++)
        n += blob_record_bytes(u->pieces[i].chunk.place.stored);
    return n;
}

// The barrier will be owed to this pack. The list is short: a pack holds thousands of chunks.
static int owe_barrier(struct blob_upload *u, struct pack *pack)
{
    for (size_t i = pointer_count(&u->packs); i-- > 0;)
        if (pointer_at(&u->packs, i) == pack) return 0;
    buf_put(&u->packs, &pack, sizeof pack);
    if (u->packs.err != 0) return u->packs.err;
    pack_ref(pack);
    return 0;
}

// In a pack, but without a position: those of the window are given together, when it is known how many it needs.
static struct placed *place_new(struct blob_upload *u, struct piece *piece)
{
    if (u->fresh_pack == NULL) {
        struct pack *pack = packs_next(u->b->packs, window_bytes(u));
        if (pack == NULL || owe_barrier(u, pack) != 0) {
            pack_unref(pack);
            return NULL;
        }
        pack_unref(pack);
        u->fresh_pack = pack;
    }
    piece->chunk.place.pack = pack_number(u->fresh_pack);
    struct placed *p = chunk_table_add(&u->b->chunks, &piece->chunk, pack_ref(u->fresh_pack), piece->sum);
    piece->ours = p != NULL;
    if (p != NULL) u->fresh_bytes += blob_record_bytes(piece->chunk.place.stored);
    return p;
}

// Before anybody else looks at the table, also where placing has failed: it names no place that is none.
static void give_positions(struct blob_upload *u)
{
    if (u->fresh_pack == NULL) return;
    uint64_t at = u->fresh_at = packs_take(u->b->packs, u->fresh_bytes);
    for (size_t i = 0; i < u->piece_count; i++) {
        struct piece *piece = &u->pieces[i];
        if (!piece->ours) continue;
        piece->chunk.place.position = piece->placed->chunk.place.position = at;
        at += blob_record_bytes(piece->chunk.place.stored);
    }
}

// What the upload shall rely on for this piece, with a reference: from the table, from the database, or new.
static int find_or_place(struct blob_upload *u, struct db_txn *txn, struct piece *piece, struct placed **out)
{
    struct blobs *b = u->b;
    struct placed *p = chunk_table_find(&b->chunks, &piece->chunk.sha);
    if (p != NULL && usable(p, piece)) {
        p->refs++;
        *out = p;
        return 0;
    }
    // What is known to be damaged is stored anew, and the commit puts the new place in the stead of the other.
    struct chunk stored = {.sha = piece->chunk.sha, .known = true};
    int err = chunk_is_going(b, &stored.sha) ? ERR_NOT_FOUND : chunk_place_find(b, txn, &stored.sha, &stored.place);
    if (err != 0 && err != ERR_NOT_FOUND && err != ERR_CORRUPT) return err;
    p = err == 0 ? chunk_table_add(&b->chunks, &stored, NULL, 0) : place_new(u, piece);
    if (p == NULL) return ERR_NOMEM;
    *out = p;
    return 0;
}

static bool is_in_window(const struct blob_upload *u, const struct piece *before)
{
    for (const struct piece *p = u->pieces; p < before; p++)
        if (p->placed == before->placed) return true;
    return false;
}

static int place_piece(struct blob_upload *u, struct db_txn *txn, struct piece *piece)
{
    struct placed *p;
    if (buf_reserve(&u->chunks, sizeof p) == NULL) return u->chunks.err;
    int err = find_or_place(u, txn, piece, &p);
    if (err != 0) return err;
    buf_put(&u->chunks, &p, sizeof p);
    piece->placed = p;
    piece->write = !atomic_load(&p->written) && !is_in_window(u, piece);
    return p->pack != NULL ? owe_barrier(u, p->pack) : 0;
}

// Always a place of its own: nobody shares a tail.
static int place_tail(struct blob_upload *u)
{
    struct place *place = &u->tail.chunk.place;
    if (place->length == 0) return 0;
    u->tail_pack = packs_place(u->b->packs, blob_record_bytes(place->stored), &place->position);
    if (u->tail_pack == NULL) return ERR_NOMEM;
    place->pack = pack_number(u->tail_pack);
    int err = owe_barrier(u, u->tail_pack);
    pack_unref(u->tail_pack);
    return err;
}

int blobs_upload_place(struct blob_upload *u, struct db_txn *txn)
{
    if (u->err != 0) return u->err;
    assert(u->stage == STAGE_FED);
    int err = 0;
    u->fresh_pack = NULL;
    u->fresh_bytes = 0;
    for (size_t i = 0; i < u->piece_count && err == 0; i++)
        err = place_piece(u, txn, &u->pieces[i]);
    give_positions(u);
    if (err == 0) err = place_tail(u);
    if (err != 0) return upload_fail(u, err);
    u->stage = STAGE_PLACED;
    return 0;
}

// ---- write -----------------------------------------------------------------------------------------------------

static void write_batch(void *arg)
{
    struct blob_upload *u = arg;
    u->batch_err = pack_write_batch(u->batch_pack, u->batch, u->batch_bytes, u->batch_at);
    for (size_t i = 0; i < u->batch_count && u->batch_err == 0; i++)
        atomic_store(&u->batch_placed[i]->written, true);
}

// Waits for the batch that is being written, if one is: how that ended.
static int write_end(struct blob_upload *u)
{
    if (u->batch == NULL) return 0;
    crew_join(u->b->crew, &u->writing);
    packs_batch_done(u->b->packs, u->batch);
    u->batch = NULL;
    return u->batch_err;
}

// The window's new records in one piece of memory, in whole pages: a copy costs less than what the page cache would. A
// helper writes them while the next window is cut and hashed.
static int write_pages(struct blob_upload *u)
{
    bool many;
    uint8_t *batch = u->batch = packs_batch_memory(u->b->packs, &many);
    if (batch == NULL) return ERR_NOMEM;
    size_t n = u->batch_count = 0;
    for (size_t i = 0; i < u->piece_count; i++) {
        struct piece *piece = &u->pieces[i];
        if (!piece->ours) continue;
        struct span payload = piece_payload(u, piece);
        size_t room = blob_record_bytes((uint32_t)payload.n);
        memcpy(batch + n, piece->head, RECORD_HEAD_BYTES);
        memcpy(batch + n + RECORD_HEAD_BYTES, payload.p, payload.n);
        memset(batch + n + RECORD_HEAD_BYTES + payload.n, 0, room - RECORD_HEAD_BYTES - payload.n);
        n += room;
        u->batch_placed[u->batch_count++] = piece->placed;
    }
    assert(n == u->fresh_bytes);
    u->batch_pack = u->fresh_pack;
    u->batch_at = u->fresh_at;
    u->batch_bytes = n;
    crew_offer(u->b->crew, &u->writing, write_batch, u);
    return many || u->last || u->pause ? write_end(u) : 0; // so that memory is bounded by threads, not by uploads
}

static int record_iov(struct blob_upload *u, struct piece *piece, struct iovec iov[3])
{
    static const uint8_t zeros[RECORD_ALIGN];
    struct span payload = piece_payload(u, piece);
    size_t padding = blob_record_bytes((uint32_t)payload.n) - RECORD_HEAD_BYTES - payload.n;
    iov[0] = (struct iovec){piece->head, RECORD_HEAD_BYTES};
    iov[1] = (struct iovec){(void *)payload.p, payload.n}; // writing only reads it
    iov[2] = (struct iovec){(void *)zeros, padding};
    return 3;
}

// Few bytes: through the page cache, for the barrier to write.
static int write_few(struct blob_upload *u)
{
    struct iovec iov[3 * PIECES_MAX];
    int count = 0;
    for (size_t i = 0; i < u->piece_count; i++)
        if (u->pieces[i].ours) count += record_iov(u, &u->pieces[i], iov + count);
    int err = pack_write(u->fresh_pack, iov, count, u->fresh_at);
    for (size_t i = 0; i < u->piece_count && err == 0; i++)
        if (u->pieces[i].ours) atomic_store(&u->pieces[i].placed->written, true);
    return err;
}

static int write_fresh(struct blob_upload *u)
{
    int err = write_end(u);
    if (err != 0 || u->fresh_pack == NULL) return err;
    return u->fresh_bytes >= PACK_BATCH_MIN ? write_pages(u) : write_few(u);
}

// A record that another upload has placed, and has not written: it may never do so.
static int write_again(struct blob_upload *u, struct piece *piece)
{
    struct iovec iov[3];
    int count = record_iov(u, piece, iov);
    int err = pack_write_again(piece->placed->pack, iov, count, piece->placed->chunk.place.position);
    if (err == 0) atomic_store(&piece->placed->written, true);
    return err;
}

static int write_tail(struct blob_upload *u)
{
    struct iovec iov[3];
    if (u->tail.chunk.place.length == 0) return 0;
    int count = record_iov(u, &u->tail, iov);
    return pack_write(u->tail_pack, iov, count, u->tail.chunk.place.position);
}

int blobs_upload_write(struct blob_upload *u)
{
    if (u->err != 0) return u->err;
    assert(u->stage == STAGE_PLACED);
    int err = write_fresh(u);
    for (size_t i = 0; i < u->piece_count && err == 0; i++) {
        struct piece *piece = &u->pieces[i];
        if (piece->write && !piece->ours && !atomic_load(&piece->placed->written)) err = write_again(u, piece);
    }
    if (err == 0) err = write_tail(u);
    if (err != 0) return upload_fail(u, err);
    u->stage = STAGE_WRITTEN;
    return 0;
}

// ---- the end ---------------------------------------------------------------------------------------------------

int blobs_upload_sync(struct blob_upload *u)
{
    if (u->err != 0) return u->err;
    assert(u->stage == STAGE_WRITTEN && (u->last || u->pause));
    crew_join(u->b->crew, &u->hashing); // a progress keeps its state
    for (size_t i = 0; i < pointer_count(&u->packs); i++) {
        int err = pack_sync(pointer_at(&u->packs, i));
        if (err != 0) return upload_fail(u, err);
    }
    u->stage = STAGE_SYNCED;
    return 0;
}

// A chunk that the index had was found damaged since it was relied on: the bytes that came with this upload are to come again, and repair it.
static bool relies_on_damage(const struct blob_upload *u)
{
    for (size_t i = 0; i < pointer_count(&u->chunks); i++) {
        const struct placed *p = pointer_at(&u->chunks, i);
        if (p->pack == NULL && !p->listed) return true;
    }
    return false;
}

void blobs_upload_result(struct blob_upload *u, struct sha256 *digest, uint64_t *size, struct buf *manifest)
{
    assert(u->err == 0 && u->stage == STAGE_SYNCED);
    size_t count = pointer_count(&u->chunks);
    blob_manifest_begin(manifest, u->size, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        const struct placed *p = pointer_at(&u->chunks, i);
        blob_manifest_put(manifest, &p->chunk);
    }
    if (relies_on_damage(u)) manifest->err = ERR_BUSY;
    *digest = u->digest;
    *size = u->size;
}

bool blobs_upload_brought(const struct blob_upload *u)
{
    for (size_t i = 0; i < pointer_count(&u->chunks); i++)
        if (((const struct placed *)pointer_at(&u->chunks, i))->pack != NULL) return true;
    return false;
}

// ---- resumable uploads -------------------------------------------------------------------------------------------

int blobs_upload_resume(struct blobs *b, struct db_txn *txn, struct uuid id, struct blob_upload **out)
{
    struct upload_head head;
    struct blob_upload *u;
    int err;
    if (!upload_head_find(b, txn, id, &head, &err)) return err != 0 ? err : ERR_NO_SUCH_UPLOAD;
    if (head.info.state != UPLOAD_OPEN) return ERR_EXISTS;
    err = blobs_upload_open(b, &u);
    if (err != 0) return err;
    if ((head.info.offset > 0 || head.state.n > 0) && digest_restore(u->whole, head.state) != 0) {
        blobs_upload_close(u);
        return ERR_CORRUPT;
    }
    u->resumable = true;
    u->id = id;
    u->size = u->kept = head.info.offset;
    u->chunks_at = head.chunks_end;
    u->stored_tail = head.tail;
    if (head.tail.place.length > 0) u->stored_in = packs_get(b->packs, head.tail.place.pack);
    if (head.tail.place.length > 0 && u->stored_in == NULL) {
        blobs_upload_close(u);
        return ERR_NOMEM;
    }
    *out = u;
    return 0;
}

void blobs_upload_adopt(struct blob_upload *u, struct uuid id)
{
    assert(!u->resumable && u->kept == 0);
    u->resumable = true;
    u->id = id;
}

void blobs_upload_adopt_once(struct blob_upload *u, struct uuid id)
{
    blobs_upload_adopt(u, id);
    u->once = true;
}

int blobs_upload_load(struct blob_upload *u)
{
    if (u->err != 0) return u->err;
    assert(u->resumable && u->window.n == 0 && u->stage == STAGE_WRITTEN);
    if (u->stored_tail.place.length == 0) return 0;
    struct buf record;
    buf_init(&record, RECORD_HEAD_BYTES + BLOB_CHUNK_MAX);
    int err = chunk_read(u->b, &u->stored_tail, &record, &u->window);
    buf_free(&record);
    pack_unref(u->stored_in);
    u->stored_in = NULL;
    if (err == 0 && u->window.n >= BLOB_CHUNK_MAX) err = ERR_CORRUPT; // what is that long has a cut in it
    u->hashed = u->window.n;
    return err == 0 ? 0 : upload_fail(u, err);
}

void blobs_upload_pause(struct blob_upload *u)
{
    assert(u->resumable && !u->last && (u->err != 0 || u->stage != STAGE_FED));
    if (u->stage == STAGE_SYNCED) u->stage = STAGE_WRITTEN; // so that the next window does not take it for the pause before
    u->pause = true;
}

// Of what is in records: all, or what was cut.
static uint64_t stored_end(const struct blob_upload *u)
{
    return u->size - (u->window.n - u->cut) + u->tail.chunk.place.length;
}

void blobs_upload_progress(struct blob_upload *u, struct buf *op)
{
    assert(u->err == 0 && u->stage == STAGE_SYNCED && u->resumable);
    bool rest_ends = u->last && u->chunks_at < u->size; // what was a tail is a chunk now
    uint64_t rest = u->last ? 0 : u->tail.chunk.place.length, end = stored_end(u);
    if (end == u->kept && !rest_ends) return;
    size_t count = pointer_count(&u->chunks);
    uint8_t state[DIGEST_STATE_MAX];
    struct buf manifest;
    buf_init(&manifest, ENTRY_BYTES_MAX / 4);
    blob_manifest_begin(&manifest, end - rest - u->chunks_at, (uint32_t)count);
    for (size_t i = 0; i < count; i++)
        blob_manifest_put(&manifest, &((const struct placed *)pointer_at(&u->chunks, i))->chunk);
    struct upload_op progress = {.kind = UPLOAD_PROGRESS,
                                 .id = u->id,
                                 .progress = {.from = u->kept,
                                              .at = u->chunks_at,
                                              .manifest = buf_span(&manifest),
                                              .state = SPAN(state, u->last ? 0 : digest_save(u->whole, state))}};
    if (rest > 0) progress.progress.tail = u->tail.chunk;
    upload_op_encode(op, &progress);
    if (op->err == 0) op->err = manifest.err != 0 ? manifest.err : relies_on_damage(u) ? ERR_BUSY : 0;
    buf_free(&manifest);
}

void blobs_upload_kept(struct blob_upload *u)
{
    assert(u->err == 0 && u->stage == STAGE_SYNCED && !u->last);
    for (size_t i = 0; i < pointer_count(&u->chunks); i++)
        chunk_table_unref(&u->b->chunks, pointer_at(&u->chunks, i));
    for (size_t i = 0; i < pointer_count(&u->packs); i++)
        pack_unref(pointer_at(&u->packs, i));
    buf_clear(&u->chunks);
    buf_clear(&u->packs);
    u->kept = stored_end(u);
    u->chunks_at = u->kept - u->tail.chunk.place.length;
}

uint64_t blobs_upload_size(const struct blob_upload *u)
{
    return u->size;
}

void blobs_upload_complete(struct blob_upload *u, struct buf *op, struct sha256 *digest)
{
    assert(u->err == 0 && u->stage == STAGE_SYNCED && u->last && u->resumable);
    blobs_upload_put_complete(op, u->id, &u->digest);
    *digest = u->digest;
}
