// Garbage and damage: what the machine does with its packs, beside the state.
//
//      a pack, more than half of it garbage, nobody at work in it
//        ─> gather: the index and the uploads are walked, some thousand entries a time; the victim's live chunks and tails are noted, and
//           sorted by position
//        ─> copy: a few at a time; owner: places for them in the current pack ─> pool: read, verify, write, sync ─> owner: index moved
//        ─> nothing lives in it any more ─> two commits later, when nobody reads from it: the file is deleted
//
// A start forgets all of this and finds the same garbage again. A chunk that cannot be copied is damaged: it is marked and stays where
// it is, and so does its pack, until the same bytes come again or nobody names them.
#include <assert.h>
#include <stdlib.h>

#include "blob_store.h"
#include "bug.h"
#include "db.h"
#include "err.h"
#include "log.h"
#include "pack.h"

#define GATHER_ENTRIES 4096   // of the index that are looked at in one go
#define COPY_CHUNKS_MAX 64    // of one piece of work
#define COPY_BYTES (2 * MIB)  // and their bytes, about
#define SCRUB_BYTES (1 * MIB)
#define ROLL_BYTES_MIN (1 * MIB) // a current pack with less garbage goes on being filled
#define DEAD_MAX 16              // files that wait for their end
#define STUCK_MAX 64             // packs that are let alone until the next start
#define LOOK_MS 100              // between two looks for a victim
#define RETRY_MS 10000           // behind a fault of the disk
#define SCRUB_PAUSE_MS 3600000   // from the end of a scrub to the next one's beginning
#define VICTIM_BYTES_MAX (64 * MIB) // of the list of a victim's chunks

// A chunk that lives in the victim, or the tail of an open upload.
struct victim_chunk {
    struct sha256 sha;
    uint64_t position;
    struct uuid upload; // whose tail it is
    bool tail;
};

struct blob_works {
    uint64_t commits; // of the database since the start
    struct {
        uint32_t pack;
        uint64_t commits; // when nothing lived in it any more
    } dead[DEAD_MAX];
    size_t dead_count;
    uint64_t ticks;
    uint32_t stuck[STUCK_MAX];
    size_t stuck_count;
    bool working; // on the pool
    // The compaction under way.
    uint32_t victim; // 0: none
    bool gathered;
    bool begun;
    bool tails;        // the walk is at the uploads
    struct blob_key at; // where it goes on, once begun
    struct buf chunks; // struct victim_chunk
    size_t next;       // of them to be copied
    uint64_t compact_due_ms, look_due_ms;
    uint64_t copy_due_ms; // there was no room for a copy, or no disk
    // The scrub.
    struct blobs_audit *scrub;
    uint64_t scrub_due_ms;
};

struct copied {
    struct chunk chunk; // where it lies
    struct place place; // and is to lie
    struct pack *to;
    struct uuid upload; // whose tail it is
    bool tail;
    int err;
};

struct blobs_work {
    struct blobs *b;
    bool scrub; // else a copy
    struct pack *from;
    struct copied list[COPY_CHUNKS_MAX];
    size_t count;
    int err;
};

int works_open(struct blobs *b)
{
    b->works = calloc(1, sizeof *b->works);
    if (b->works == NULL) return ERR_NOMEM;
    buf_init(&b->works->chunks, VICTIM_BYTES_MAX);
    pthread_mutex_init(&b->damage.lock, NULL);
    return 0;
}

void works_close(struct blobs *b)
{
    assert(!b->works->working);
    blobs_audit_close(b->works->scrub);
    buf_free(&b->works->chunks);
    pthread_mutex_destroy(&b->damage.lock);
    free(b->works);
}

// ---- damage ----------------------------------------------------------------------------------------------------

void damage_note(struct blobs *b, const struct chunk *chunk)
{
    pthread_mutex_lock(&b->damage.lock);
    if (b->damage.count < DAMAGE_MAX) b->damage.list[b->damage.count++] = *chunk;
    pthread_mutex_unlock(&b->damage.lock);
}

static bool take_damage(struct blobs *b, struct chunk *out)
{
    pthread_mutex_lock(&b->damage.lock);
    bool any = b->damage.count > 0;
    if (any) *out = b->damage.list[--b->damage.count];
    pthread_mutex_unlock(&b->damage.lock);
    return any;
}

static void log_mark(const struct chunk *chunk, bool damaged)
{
    char hex[SHA256_HEX];
    hex_format(hex, SPAN(chunk->sha.b, SHA256_BYTES));
    log_warn("blobs", damaged ? "a damaged chunk is not served any more; uploading its bytes again repairs it" : "a chunk is whole again",
             LF_SPAN("chunk", SPAN(hex, sizeof hex)), LF_UINT("pack", chunk->place.pack), LF_UINT("position", chunk->place.position));
}

bool chunk_mark(struct blobs *b, struct db_txn *txn, const struct chunk *chunk, bool damaged, int *err)
{
    struct chunk_entry was, is;
    *err = chunk_entry_find(b, txn, &chunk->sha, &was);
    bool there = *err == 0 && was.place.pack == chunk->place.pack && was.place.position == chunk->place.position;
    if (*err == ERR_NOT_FOUND) *err = 0; // it went meanwhile, or it is a tail
    if (!there || was.damaged == damaged) return false;
    is = was;
    is.damaged = damaged;
    *err = chunk_entry_move(b, txn, &chunk->sha, &was, &is);
    if (*err != 0) return false;
    if (damaged) chunk_table_unlist(&b->chunks, &chunk->sha);
    log_mark(chunk, damaged);
    return true;
}

// ---- files without anything that lives -------------------------------------------------------------------------------

static bool is_listed(const struct blob_works *w, uint32_t pack)
{
    for (size_t i = 0; i < w->dead_count; i++)
        if (w->dead[i].pack == pack) return true;
    return false;
}

static bool is_stuck(const struct blob_works *w, uint32_t pack)
{
    for (size_t i = 0; i < w->stuck_count; i++)
        if (w->stuck[i] == pack) return true;
    return false;
}

// A commit that writes nothing is none, and only a next one makes the one before certain.
static void write_tick(struct blobs *b, struct db_txn *txn)
{
    struct blob_key key = life_tick_key();
    buf_clear(&b->entry);
    buf_put_u8(&b->entry, BLOB_FORMAT);
    buf_put_u64(&b->entry, ++b->works->ticks);
    if (b->entry.err == 0) db_put(txn, b->table_life, blob_key_span(&key), buf_span(&b->entry));
}

static bool is_dead(struct blobs *b, struct db_txn *txn, uint32_t pack)
{
    struct pack_count c;
    return pack_count_find(b, txn, pack, &c) == 0 && db_txn_err(txn) == 0 && c.live == 0 && c.tails == 0;
}

static void bury(struct blobs *b, size_t i)
{
    struct blob_works *w = b->works;
    uint32_t pack = w->dead[i].pack;
    int err = packs_remove(b->packs, pack);
    if (err == ERR_BUSY) return; // a reader is not through
    w->dead[i] = w->dead[--w->dead_count];
    if (err != 0) log_warn("blobs", "the file of an empty pack stays", LF_UINT("pack", pack), LF_ERR(err));
    else log_info("blobs", "an empty pack is gone", LF_UINT("pack", pack));
}

static bool tend_dead(struct blobs *b, struct db_txn *txn)
{
    struct blob_works *w = b->works;
    bool waiting = false;
    for (size_t i = w->dead_count; i-- > 0;) {
        uint64_t since = w->commits - w->dead[i].commits;
        if (!is_dead(b, txn, w->dead[i].pack)) w->dead[i] = w->dead[--w->dead_count];
        else if (since >= 2) bury(b, i);
        else waiting = true;
    }
    if (waiting) write_tick(b, txn);
    return waiting;
}

bool blobs_tend(struct blobs *b, struct db_txn *txn)
{
    struct chunk chunk;
    bool written = false;
    int err = 0;
    while (err == 0 && take_damage(b, &chunk))
        written |= chunk_mark(b, txn, &chunk, true, &err);
    if (b->works->dead_count > 0) written |= tend_dead(b, txn);
    return written;
}

bool blobs_tending(const struct blobs *b)
{
    return b->works->dead_count > 0 || b->works->victim != 0;
}

void blobs_committed(struct blobs *b)
{
    b->works->commits++;
}

// ---- choosing a victim -------------------------------------------------------------------------------------------------

static void note_dead(struct blob_works *w, uint32_t pack)
{
    if (w->dead_count == DEAD_MAX || is_listed(w, pack)) return;
    w->dead[w->dead_count].pack = pack;
    w->dead[w->dead_count++].commits = w->commits;
}

// A current pack that is mostly garbage is closed, so that it can be a victim.
static void roll_current(struct blobs *b, struct db_txn *txn)
{
    uint64_t size;
    struct pack_count c;
    uint32_t number = packs_current(b->packs, &size);
    if (pack_count_find(b, txn, number, &c) != 0 || c.live > size) return;
    if (size - c.live >= ROLL_BYTES_MIN && size - c.live > size / 2) packs_roll(b->packs);
}

// The one with the least to copy: where room is short it is the one that can be emptied. `no_copies`: none, what nothing lives in is noted.
static void choose(struct blobs *b, struct db_txn *txn, bool no_copies)
{
    struct blob_works *w = b->works;
    uint32_t pack = 0;
    uint64_t size, live = 0, bytes = 0;
    roll_current(b, txn);
    while (packs_file_after(b->packs, pack, &pack, &size)) {
        struct pack_count c;
        if (pack_count_find(b, txn, pack, &c) != 0) continue;
        if (size / 2 < c.live || is_listed(w, pack) || packs_in_use(b->packs, pack)) continue;
        if (c.live == 0) {
            note_dead(w, pack);
            continue;
        }
        if (no_copies || is_stuck(w, pack) || (w->victim != 0 && c.live >= live)) continue;
        w->victim = pack;
        bytes = size;
        live = c.live;
    }
    if (w->victim == 0 || no_copies) return;
    log_info("blobs", "a pack is emptied", LF_UINT("pack", w->victim), LF_UINT("bytes", bytes), LF_UINT("live", live));
    w->gathered = w->begun = w->tails = false;
    w->next = 0;
    buf_clear(&w->chunks);
}

static void leave_victim(struct blob_works *w, bool stuck)
{
    if (stuck && w->stuck_count < STUCK_MAX) w->stuck[w->stuck_count++] = w->victim;
    w->victim = 0;
    buf_clear(&w->chunks);
}

static int by_position(const void *a, const void *b)
{
    uint64_t x = ((const struct victim_chunk *)a)->position, y = ((const struct victim_chunk *)b)->position;
    return x < y ? -1 : x > y;
}

static size_t victim_count(const struct blob_works *w)
{
    return w->chunks.n / sizeof(struct victim_chunk);
}

static int gather_chunk(struct blob_works *w, struct span key, struct span value)
{
    struct chunk_entry e;
    struct victim_chunk v = {.tail = false};
    // One that cannot be read is counted still: its pack stays.
    if (key.n != SHA256_BYTES || chunk_entry_decode(value, &e) != 0 || e.place.pack != w->victim || e.damaged) return 0;
    memcpy(v.sha.b, key.p, SHA256_BYTES);
    v.position = e.place.position;
    buf_put(&w->chunks, &v, sizeof v);
    return w->chunks.err;
}

static int gather_tail(struct blob_works *w, struct span key, struct span value)
{
    struct upload_head head = {0};
    if (!upload_key_is_head(key, &head.info.id)) return 0;
    if (upload_head_decode(value, &head) != 0 || head.info.state != UPLOAD_OPEN || head.tail.place.length == 0 || head.tail.place.pack != w->victim) return 0;
    struct victim_chunk v = {.sha = head.tail.sha, .position = head.tail.place.position, .upload = head.info.id, .tail = true};
    buf_put(&w->chunks, &v, sizeof v);
    return w->chunks.err;
}

static int key_keep(struct blob_key *at, struct span key)
{
    if (key.n > sizeof at->b) return ERR_CORRUPT;
    memcpy(at->b, key.p, key.n);
    at->n = key.n;
    return 0;
}

// The chunks, then the uploads.
static void gather(struct blobs *b, struct db_txn *txn)
{
    struct blob_works *w = b->works;
    struct db_iter it;
    int err = 0, left = GATHER_ENTRIES;
    db_iter_init(&it, txn, w->tails ? b->table_uploads : b->table_chunks);
    bool more = w->begun ? db_iter_seek(&it, blob_key_span(&w->at)) : db_iter_first(&it);
    for (; more && err == 0 && left > 0; left--) {
        err = w->tails ? gather_tail(w, it.key, it.value) : gather_chunk(w, it.key, it.value);
        more = db_iter_next(&it);
    }
    if (more && err == 0) err = key_keep(&w->at, it.key);
    db_iter_end(&it);
    w->begun = more;
    w->gathered = !more && w->tails;
    w->tails = w->tails || !more;
    if (err != 0) leave_victim(w, true);
    else if (w->gathered) qsort(w->chunks.p, victim_count(w), sizeof(struct victim_chunk), by_position);
}

// ---- copying -----------------------------------------------------------------------------------------------------------

// 1: it still lies where it was noted; 0: it does not.
static int find_live(struct blobs *b, struct db_txn *txn, const struct victim_chunk *v, struct place *out)
{
    struct place noted = {.pack = b->works->victim, .position = v->position};
    struct chunk_entry e = {.damaged = false};
    struct upload_head head;
    int err;
    if (v->tail) {
        if (!upload_tail_is(b, txn, v->upload, &noted, &head, &err)) return err;
        *out = head.tail.place;
        return 1;
    }
    err = chunk_entry_find(b, txn, &v->sha, &e);
    if (err != 0) return err == ERR_NOT_FOUND ? 0 : err;
    *out = e.place;
    return !e.damaged && e.place.pack == noted.pack && e.place.position == noted.position;
}

static int plan_one(struct blobs *b, struct db_txn *txn, const struct victim_chunk *v, struct blobs_work *w, size_t *bytes)
{
    struct place at;
    int err = find_live(b, txn, v, &at);
    if (err != 1) return err; // it has changed since it was noted
    struct copied *c = &w->list[w->count];
    *c = (struct copied){.chunk = {.sha = v->sha, .place = at}, .place = at, .upload = v->upload, .tail = v->tail};
    c->to = packs_place(b->packs, blob_record_bytes(at.stored), &c->place.position);
    if (c->to == NULL) return ERR_NOMEM;
    c->place.pack = pack_number(c->to);
    w->count++;
    *bytes += blob_record_bytes(at.stored);
    return 0;
}

static struct blobs_work *work_new(struct blobs *b)
{
    struct blobs_work *w = calloc(1, sizeof *w);
    if (w == NULL) return NULL;
    w->b = b;
    b->works->working = true;
    return w;
}

static struct blobs_work *plan_copy(struct blobs *b, struct db_txn *txn, uint64_t pace, uint64_t now_ms)
{
    struct blob_works *s = b->works;
    if (s->next == victim_count(s)) {
        bool dead = is_dead(b, txn, s->victim);
        if (dead) note_dead(s, s->victim);
        leave_victim(s, !dead);
        return NULL;
    }
    struct blobs_work *w = work_new(b);
    size_t bytes = 0;
    if (w == NULL) return NULL;
    while (w->err == 0 && w->count < COPY_CHUNKS_MAX && bytes < COPY_BYTES && s->next < victim_count(s)) {
        struct victim_chunk v;
        memcpy(&v, s->chunks.p + s->next++ * sizeof v, sizeof v);
        w->err = plan_one(b, txn, &v, w, &bytes);
    }
    w->from = packs_get(b->packs, s->victim);
    if (w->from == NULL) w->err = ERR_NOMEM;
    s->compact_due_ms = now_ms + bytes * 1000 / pace;
    return w;
}

static int copy_one(struct copied *c, struct blobs *b, struct buf *record, struct buf *content)
{
    static const uint8_t zeros[RECORD_ALIGN];
    int err = chunk_read(b, &c->chunk, record, content); // damage is noted by it
    if (err != 0) return err;
    size_t padding = blob_record_bytes(c->place.stored) - record->n;
    struct iovec iov[] = {{record->p, record->n}, {(void *)zeros, padding}}; // writing only reads them
    return pack_write(c->to, iov, 2, c->place.position);
}

static void run_copy(struct blobs_work *w)
{
    struct buf record, content;
    struct pack *synced = NULL;
    buf_init(&record, RECORD_HEAD_BYTES + BLOB_CHUNK_MAX);
    buf_init(&content, BLOB_CHUNK_MAX);
    for (size_t i = 0; i < w->count && w->err == 0; i++) {
        w->list[i].err = copy_one(&w->list[i], w->b, &record, &content);
        if (w->list[i].err != ERR_CORRUPT) w->err = w->list[i].err;
    }
    buf_free(&record);
    buf_free(&content);
    for (size_t i = 0; i < w->count && w->err == 0; i++) {
        if (w->list[i].to == synced || w->list[i].err != 0 || bug("compact_no_barrier")) continue;
        synced = w->list[i].to;
        w->err = pack_sync(synced);
    }
}

// The index moves to where the bytes are known to be.
static int move_index(struct blobs *b, struct db_txn *txn, const struct copied *c)
{
    struct chunk_entry was, is;
    if (c->tail) return upload_tail_move(b, txn, c->upload, &c->chunk.place, &c->place);
    int err = chunk_entry_find(b, txn, &c->chunk.sha, &was);
    if (err == ERR_NOT_FOUND) return 0;
    if (err != 0 || was.place.pack != c->chunk.place.pack || was.place.position != c->chunk.place.position) return err;
    is = was;
    is.place = c->place;
    return chunk_entry_move(b, txn, &c->chunk.sha, &was, &is);
}

static bool done_copy(struct blobs *b, struct db_txn *txn, struct blobs_work *w)
{
    bool written = false;
    for (size_t i = 0; i < w->count && w->err == 0 && txn != NULL; i++) {
        if (w->list[i].err != 0) continue;
        w->err = move_index(b, txn, &w->list[i]);
        written = true;
    }
    for (size_t i = 0; i < w->count; i++)
        pack_unref(w->list[i].to);
    pack_unref(w->from);
    if (bug("reclaim_bytes_first") && b->works->next == victim_count(b->works)) {
        note_dead(b->works, b->works->victim);
        bury(b, b->works->dead_count - 1);
    }
    if (w->err != 0) {
        log_warn("blobs", "a pack was not emptied", LF_UINT("pack", b->works->victim), LF_ERR(w->err));
        leave_victim(b->works, false);
        b->works->copy_due_ms = b->works->look_due_ms + RETRY_MS; // there may be room then
    }
    return written;
}

// ---- all of it -----------------------------------------------------------------------------------------------------------

static struct blobs_work *plan_scrub(struct blobs *b, struct db_txn *txn, uint64_t pace, uint64_t now_ms)
{
    struct blob_works *s = b->works;
    if (s->scrub == NULL && blobs_audit_open(b, &s->scrub) != 0) return NULL;
    bool any = blobs_audit_plan(s->scrub, txn, SCRUB_BYTES);
    struct blobs_work *w = any ? work_new(b) : NULL;
    if (w != NULL) {
        w->scrub = true;
        s->scrub_due_ms = now_ms + SCRUB_BYTES * 1000 / pace;
        return w;
    }
    blobs_audit_close(s->scrub); // it is through
    s->scrub = NULL;
    s->scrub_due_ms = now_ms + SCRUB_PAUSE_MS;
    return NULL;
}

static struct blobs_work *plan_compact(struct blobs *b, struct db_txn *txn, const struct blobs_pace *pace, uint64_t now_ms)
{
    struct blob_works *s = b->works;
    bool no_copies = pace->no_copies || now_ms < s->copy_due_ms;
    if (no_copies && s->victim != 0) leave_victim(s, false);
    if (s->victim == 0 && now_ms >= s->look_due_ms) {
        choose(b, txn, no_copies);
        s->look_due_ms = now_ms + LOOK_MS;
    }
    if (no_copies) return NULL;
    if (s->victim != 0 && !s->gathered) gather(b, txn);
    return s->victim != 0 && s->gathered ? plan_copy(b, txn, pace->compact_bytes_s, now_ms) : NULL;
}

struct blobs_work *blobs_work_plan(struct blobs *b, struct db_txn *txn, const struct blobs_pace *pace, uint64_t now_ms)
{
    struct blob_works *s = b->works;
    struct blobs_work *w = NULL;
    if (s->working) return NULL;
    if (pace->compact_bytes_s > 0 && now_ms >= s->compact_due_ms) w = plan_compact(b, txn, pace, now_ms);
    if (w == NULL && pace->scrub_bytes_s > 0 && now_ms >= s->scrub_due_ms) w = plan_scrub(b, txn, pace->scrub_bytes_s, now_ms);
    return w;
}

void blobs_work_run(struct blobs_work *w)
{
    if (w->scrub) blobs_audit_run(w->b->works->scrub);
    else run_copy(w);
}

bool blobs_work_done(struct blobs *b, struct db_txn *txn, struct blobs_work *w)
{
    bool written;
    int err;
    b->works->working = false;
    if (w->scrub) written = blobs_audit_done(b->works->scrub, txn, &err);
    else written = done_copy(b, txn, w);
    free(w);
    return written;
}
