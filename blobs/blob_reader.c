// Reading ranges. The owner plans: it finds the page by the offset in its key, and each chunk's place and pack; what is planned is then given out as it
// lies, or read and verified on any thread, without the database.
//
// An upload is planned the same way: its pages up to the last cut, then its tail; and from the moment when it is done, the blob that it became.
#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "blob_store.h"
#include "compress.h"
#include "db.h"
#include "err.h"
#include "file.h"
#include "log.h"
#include "pack.h"

#define PLAN_CHUNKS_MAX 32 // of one call, however large its budget
#define COPY_MAX (32 * KIB) // a shorter piece is cheaper copied than sent from its file
#define RAW_LEVEL -1       // of a chunk that is stored as it is and has to be a frame: it did not pack when it was stored

// A chunk of the plan, and the part of it that is wanted.
struct planned {
    struct chunk chunk;
    struct pack *pack; // a reference; its file is open unless it is missing
    int fd;            // the pack's; negative: why it is not open
    uint32_t from, to;
};

struct blob_reader {
    struct blobs *b;
    struct blob_reader *next; // b->reading.lock
    bool upload; // of one that is not done as far as is known
    bool coded;
    struct uuid pages; // an upload's are named as it is
    uint64_t at; // what follows the plan
    uint64_t end;
    size_t plan_count;
    size_t plan_next; // the first one that has not been given out
    struct planned plan[PLAN_CHUNKS_MAX];
};

// ---- opening and closing -------------------------------------------------------------------------------------------

static int open_at(struct blobs *b, uint64_t offset, uint64_t end, struct blob_reader **out)
{
    struct blob_reader *r = malloc(sizeof *r);
    if (r == NULL) return ERR_NOMEM;
    memset(r, 0, offsetof(struct blob_reader, plan));
    r->b = b;
    r->at = offset;
    r->end = end;
    atomic_fetch_add(&b->readers, 1);
    pthread_mutex_lock(&b->reading.lock);
    r->next = b->reading.first;
    b->reading.first = r;
    pthread_mutex_unlock(&b->reading.lock);
    *out = r;
    return 0;
}

int blobs_reader_open(struct blobs *b, struct db_txn *txn, const struct sha256 *digest, uint64_t offset, uint64_t length,
                      struct blob_reader **out)
{
    struct blob_info info;
    int err;
    if (!blob_head_find(b, txn, digest, &info, &err)) return err != 0 ? err : ERR_NO_SUCH_BLOB;
    if (offset > info.size || length > info.size - offset) return ERR_RANGE_NOT_SATISFIABLE;
    err = open_at(b, offset, offset + length, out);
    if (err == 0) (*out)->pages = info.pages;
    return err;
}

int blobs_reader_open_upload(struct blobs *b, struct db_txn *txn, struct uuid id, uint64_t offset, uint64_t length, struct blob_reader **out)
{
    struct upload_head head;
    int err;
    if (!upload_head_find(b, txn, id, &head, &err)) return err != 0 ? err : ERR_NO_SUCH_UPLOAD;
    err = open_at(b, offset, length > UINT64_MAX - offset ? UINT64_MAX : offset + length, out);
    if (err != 0) return err;
    (*out)->upload = true;
    (*out)->pages = id;
    return 0;
}

static void plan_drop(struct blob_reader *r)
{
    for (size_t i = 0; i < r->plan_count; i++)
        pack_unref(r->plan[i].pack);
    r->plan_next = r->plan_count = 0;
}

static void unlist(struct blobs *b, struct blob_reader *r)
{
    pthread_mutex_lock(&b->reading.lock);
    struct blob_reader **at = &b->reading.first;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    pthread_mutex_unlock(&b->reading.lock);
}

// Whose list it is only the owner changes, in `next`.
bool pages_are_read(struct blobs *b, struct uuid pages)
{
    pthread_mutex_lock(&b->reading.lock);
    struct blob_reader *r = b->reading.first;
    while (r != NULL && !uuid_equal(r->pages, pages))
        r = r->next;
    pthread_mutex_unlock(&b->reading.lock);
    return r != NULL;
}

void blobs_reader_close(struct blob_reader *r)
{
    if (r == NULL) return;
    unlist(r->b, r);
    plan_drop(r);
    atomic_fetch_sub(&r->b->readers, 1);
    free(r);
}

void blobs_reader_code(struct blob_reader *r)
{
    r->coded = true;
}

bool blobs_reader_packed(const struct blob_reader *r)
{
    return r->plan_next < r->plan_count && r->plan[r->plan_next].chunk.place.codec != CODEC_RAW;
}

bool blobs_reader_planned(const struct blob_reader *r)
{
    return r->plan_next < r->plan_count;
}

bool blobs_reader_done(const struct blob_reader *r)
{
    return r->at >= r->end && r->plan_next == r->plan_count;
}

// ---- planning ------------------------------------------------------------------------------------------------------

// Plans a chunk that lies from `start` on, or what the range has of it.
static int plan_place(struct blob_reader *r, const struct chunk *chunk, uint64_t start)
{
    uint32_t length = chunk->place.length;
    uint64_t end = r->end - start < length ? r->end - start : length;
    struct planned *p = &r->plan[r->plan_count];
    *p = (struct planned){.chunk = *chunk, .from = (uint32_t)(r->at - start), .to = (uint32_t)end};
    p->pack = packs_get(r->b->packs, chunk->place.pack);
    if (p->pack == NULL) return ERR_NOMEM;
    p->fd = pack_open(p->pack); // a missing one is told by who reads it
    r->plan_count++;
    r->at = start + end;
    return 0;
}

// One that ends before the range is passed over.
static int plan_chunk(struct blob_reader *r, struct db_txn *txn, const struct sha256 *sha, uint64_t start, uint32_t length)
{
    struct chunk chunk = {.sha = *sha};
    if (start + length <= r->at) return 0;
    int err = chunk_place_find(r->b, txn, sha, &chunk.place);
    if (err != 0) return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
    if (chunk.place.length != length) return ERR_CORRUPT;
    return plan_place(r, &chunk, start);
}

// Plans from the page that holds r->at, and lies from `start` on, until it, the range, the plan or `until` ends.
static int plan_page(struct blob_reader *r, struct db_txn *txn, uint64_t until, uint64_t start, struct span value)
{
    struct sha256 sha;
    size_t count;
    int err = blob_page_decode(value, &count);
    uint64_t before = r->at;
    for (size_t i = 0; err == 0 && i < count && r->at < until && r->plan_count < PLAN_CHUNKS_MAX; i++) {
        uint32_t length;
        blob_page_at(value, i, &sha, &length);
        err = plan_chunk(r, txn, &sha, start, length);
        start += length;
    }
    return err == 0 && r->at == before ? ERR_CORRUPT : err; // a page that does not reach the place it is sought for
}

static int plan_next_page(struct blob_reader *r, struct db_txn *txn, uint64_t until)
{
    struct blob_key after = blob_page_key(r->pages, r->at + 1);
    struct uuid pages;
    struct db_iter it;
    uint64_t start;
    int err = ERR_CORRUPT;
    db_iter_init(&it, txn, r->b->table_pages);
    if (db_iter_seek_before(&it, blob_key_span(&after)) && blob_key_is_page(it.key, &pages, &start) && uuid_equal(pages, r->pages))
        err = plan_page(r, txn, until, start, it.value);
    db_iter_end(&it);
    return db_txn_err(txn) != 0 ? db_txn_err(txn) : err;
}

static int plan_pages(struct blob_reader *r, struct db_txn *txn, uint64_t until)
{
    int err = 0;
    while (err == 0 && r->at < until && r->plan_count < PLAN_CHUNKS_MAX)
        err = plan_next_page(r, txn, until);
    return err;
}

// The tail lies behind the last page. What is not durable yet is not planned.
static int plan_upload(struct blob_reader *r, struct db_txn *txn, const struct upload_head *h, uint64_t until)
{
    if (until > h->info.offset) until = h->info.offset;
    int err = plan_pages(r, txn, until < h->chunks_end ? until : h->chunks_end);
    if (err != 0 || r->at < h->chunks_end || r->at >= until || r->plan_count == PLAN_CHUNKS_MAX) return err;
    return plan_place(r, &h->tail, h->chunks_end);
}

// An upload that has become a blob is read as that: it may share the chunk list of one that was there.
static int plan_any(struct blob_reader *r, struct db_txn *txn, size_t budget)
{
    struct upload_head head = {0};
    struct blob_info info;
    int err = 0;
    if (r->upload && !upload_head_find(r->b, txn, r->pages, &head, &err)) return err != 0 ? err : ERR_NO_SUCH_UPLOAD;
    if (r->upload && head.info.state == UPLOAD_EXPIRED) return ERR_NO_SUCH_UPLOAD;
    if (r->upload && head.info.state == UPLOAD_DONE) {
        if (!blob_head_find(r->b, txn, &head.info.digest, &info, &err)) return err != 0 ? err : ERR_NO_SUCH_BLOB;
        r->upload = false;
        r->pages = info.pages;
        if (r->end > info.size) r->end = info.size;
    }
    if (r->at >= r->end) return 0;
    uint64_t until = budget < r->end - r->at ? r->at + budget : r->end;
    return r->upload ? plan_upload(r, txn, &head, until) : plan_pages(r, txn, until);
}

int blobs_reader_next(struct blob_reader *r, struct db_txn *txn, size_t budget)
{
    assert(r->plan_next == r->plan_count);
    plan_drop(r);
    int err = plan_any(r, txn, budget == 0 ? 1 : budget);
    // What lies before the damage is whole: the next call meets it again.
    if (err == ERR_CORRUPT && r->plan_count > 0) return 0;
    if (err == ERR_CORRUPT || err == ERR_VERSION) log_error("blobs", "a blob is damaged here", LF_UINT("offset", r->at), LF_ERR(err));
    if (err != 0) plan_drop(r);
    return err;
}

// ---- giving out ----------------------------------------------------------------------------------------------------

// Where the bytes of a planned chunk lie as they are wanted. False: they do not, or it has to be verified first.
static bool as_it_lies(const struct blob_reader *r, const struct planned *p, uint64_t *position, size_t *n)
{
    const struct place *place = &p->chunk.place;
    if (p->fd < 0 || r->coded != (place->codec != CODEC_RAW) || !verified_has(&r->b->verified, place)) return false;
    *position = place->position + RECORD_HEAD_BYTES + (r->coded ? 0 : p->from);
    *n = r->coded ? place->stored : p->to - p->from;
    return true;
}

bool blobs_reader_verified(const struct blob_reader *r)
{
    uint64_t position;
    size_t n;
    return r->plan_next < r->plan_count && as_it_lies(r, &r->plan[r->plan_next], &position, &n);
}

static int piece_copy(const struct planned *p, struct blob_piece *out)
{
    out->bytes = bytes_alloc(out->n);
    if (out->bytes == NULL) return ERR_NOMEM;
    int err = file_read_now(p->fd, out->bytes->p, out->n, out->position);
    if (err == 0) return 1;
    bytes_unref(out->bytes);
    out->bytes = NULL;
    return err == ERR_BUSY ? 0 : err;
}

// Many readers at slow sockets hold many descriptors. The rest of them is for connections and packs: from there on bytes are copied. The lowest
// free number is what is handed out, so it tells how many there are.
static bool is_scarce(int fd)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) == 0 && (rlim_t)fd >= limit.rlim_cur / 2;
}

// Sending from a file waits where the kernel has to read it. Its end tells: what is read ahead or let go is so in longer runs than a chunk.
static int piece_of_file(const struct planned *p, struct blob_piece *out)
{
    uint8_t byte;
    int err = file_read_now(p->fd, &byte, 1, out->position + out->n - 1);
    if (err != 0) return err == ERR_BUSY ? 0 : err;
    out->fd = file_dup(p->fd);
    if (out->fd < 0 || !is_scarce(out->fd)) return out->fd >= 0;
    file_close(out->fd);
    out->fd = -1;
    return 0;
}

int blobs_reader_piece(struct blob_reader *r, struct blob_piece *out)
{
    struct blob_piece piece = {.fd = -1};
    if (r->plan_next == r->plan_count) return 0;
    const struct planned *p = &r->plan[r->plan_next];
    if (!as_it_lies(r, p, &piece.position, &piece.n)) return 0;
    int got = piece.n <= COPY_MAX ? piece_copy(p, &piece) : piece_of_file(p, &piece);
    if (got != 1) return got;
    r->plan_next++;
    *out = piece;
    return 1;
}

static int read_planned(struct blob_reader *r, const struct planned *p, struct buf *record, struct buf *content, struct buf *out)
{
    int err = chunk_read(r->b, &p->chunk, record, content);
    if (err != 0) return err;
    if (!r->coded)
        buf_put_span(out, span_sub(buf_span(content), p->from, p->to - p->from));
    else if (p->chunk.place.codec == CODEC_RAW)
        err = zstd_pack(out, buf_span(content), RAW_LEVEL);
    else
        buf_put_span(out, span_sub(buf_span(record), RECORD_HEAD_BYTES, p->chunk.place.stored));
    return err != 0 ? err : out->err;
}

// The memory for a chunk is kept for one call only: a reader waits for its socket most of the time.
int blobs_reader_read(struct blob_reader *r, struct buf *out)
{
    struct buf record, content;
    int err = 0;
    buf_init(&record, RECORD_HEAD_BYTES + BLOB_CHUNK_MAX);
    buf_init(&content, BLOB_CHUNK_MAX);
    while (err == 0 && r->plan_next < r->plan_count)
        err = read_planned(r, &r->plan[r->plan_next++], &record, &content, out);
    buf_free(&record);
    buf_free(&content);
    return err;
}
