// Giving space back. What was deleted for good or trimmed is marked; a mark is worked off in steps:
//
//      marked stream ──> its index entries go, their shares leave their files' counts ──┬─> a file of which nothing lives: forgotten by the
//                                                                                       │   database, removed two commits later
//                                                                                       └─> a file that is mostly dead: what lives in it is
//                                                                                           copied by seal jobs, which empties it
//
// The last commit may be lost in a power cut (db.h), the one before it cannot: so a file is removed only when a commit has followed the
// one that no longer knows it. A crash before leaves a file that nothing knows, which the next start finds in the folder.
#include <assert.h>
#include <stdlib.h>
#include <unistd.h>

#include "bug.h"
#include "err.h"
#include "log.h"
#include "stream_store.h"

#define PURGE_MAX 256u     // index entries that one step takes out
#define LOOK_MAX 64u       // files whose counts one step looks at
#define LIVE_PART 4u       // a file of which less than the fourth part lives is emptied
#define LEFTOVER_COMMITS 2 // the commit that forgets a file, and one more

// ---- counts --------------------------------------------------------------------------------------------------------

static bool file_get(struct streams *s, struct db_txn *txn, uint32_t file, struct stream_file *out)
{
    struct stream_bytes key;
    struct span value;
    stream_key_file(&key, file);
    return db_get(txn, s->table, stream_bytes_span(&key), &value) && stream_file_decode(value, out) == 0;
}

static void file_put(struct streams *s, struct db_txn *txn, uint32_t file, const struct stream_file *f)
{
    struct stream_bytes key, value;
    stream_key_file(&key, file);
    stream_file_encode(&value, f);
    db_put(txn, s->table, stream_bytes_span(&key), stream_bytes_span(&value));
}

static bool mostly_dead(const struct stream_file *f)
{
    return f->live < f->length / LIVE_PART;
}

void stream_file_grow(struct streams *s, struct db_txn *txn, uint32_t file, uint64_t length, uint64_t live)
{
    struct stream_file f = {0};
    file_get(s, txn, file, &f);
    f.length = length;
    f.live += live;
    file_put(s, txn, file, &f);
}

void stream_file_look(struct streams *s, uint32_t file)
{
    if (!s->look || file < s->look_from) s->look_from = file;
    s->look = true;
}

void stream_index_drop(struct streams *s, struct db_txn *txn, uint64_t number, const struct stream_index *ix)
{
    struct stream_bytes key;
    struct stream_file f;
    stream_key_index(&key, number, ix->first);
    db_del(txn, s->table_index, stream_bytes_span(&key));
    if (!file_get(s, txn, ix->file, &f)) return;
    f.live -= ix->share < f.live ? ix->share : f.live;
    file_put(s, txn, ix->file, &f);
    bool emptying = s->rewrite.active && s->rewrite.file == ix->file;
    if (mostly_dead(&f) && (f.live == 0 || !emptying)) stream_file_look(s, ix->file);
}

// ---- marks ---------------------------------------------------------------------------------------------------------

void stream_reclaim_mark(struct streams *s, struct db_txn *txn, uint64_t number)
{
    struct stream_bytes key, value;
    stream_key_reclaim(&key, number);
    stream_path_encode(&value);
    db_put(txn, s->table, stream_bytes_span(&key), stream_bytes_span(&value));
    s->marked = true;
}

static bool mark_first(struct streams *s, struct db_txn *txn, uint64_t *number)
{
    struct stream_bytes key;
    struct db_iter it;
    stream_key_reclaim(&key, 0);
    db_iter_init(&it, txn, s->table);
    bool found = db_iter_seek(&it, stream_bytes_span(&key)) && stream_key_reclaim_parse(it.key, number);
    db_iter_end(&it);
    return found;
}

// The first part of the stream, if all of it lies before `keep`.
static bool purge_next(struct streams *s, struct db_txn *txn, uint64_t number, uint64_t keep, struct stream_index *out)
{
    struct stream_bytes key;
    struct db_iter it;
    uint64_t of;
    stream_key_index(&key, number, 0);
    db_iter_init(&it, txn, s->table_index);
    bool found = db_iter_seek(&it, stream_bytes_span(&key)) && stream_key_index_parse(it.key, &of, &out->first) && of == number &&
                 stream_index_decode(it.value, out) == 0 && (keep == UINT64_MAX || out->first + out->raw <= keep);
    db_iter_end(&it);
    return found;
}

// True: all of it is given back, which may have taken less than the step.
static bool purge(struct streams *s, struct db_txn *txn, uint64_t number, unsigned *left)
{
    struct stream_view v;
    struct stream_index ix;
    if (stream_view_number(s, txn, number, &v) != 0) return true;
    uint64_t keep = stream_is_dead(v.rec) ? UINT64_MAX : stream_start(v.rec);
    for (; *left > 0; --*left) {
        if (!purge_next(s, txn, number, keep, &ix)) return true;
        stream_index_drop(s, txn, number, &ix);
    }
    return false;
}

// What was not sealed yet need not be.
static void drop_tail(struct streams *s, uint64_t number)
{
    struct stream *st = stream_hot_number(s, number);
    if (st == NULL) return;
    uint64_t keep = stream_is_dead(&st->rec) ? st->tail.end : stream_start(&st->rec);
    stream_tail_forget(s, st, keep < st->tail.end ? keep : st->tail.end);
    stream_settle(s, st);
}

static bool purge_marked(struct streams *s, struct db_txn *txn)
{
    bool did = false;
    uint64_t number;
    for (unsigned left = PURGE_MAX; left > 0; left--) {
        struct stream_bytes key;
        if (!mark_first(s, txn, &number)) {
            s->marked = false;
            return did;
        }
        did = true;
        if (!purge(s, txn, number, &left)) return true;
        drop_tail(s, number);
        stream_key_reclaim(&key, number);
        db_del(txn, s->table, stream_bytes_span(&key));
        if (left == 0 || db_txn_err(txn) != 0) return true;
    }
    return true;
}

// ---- files ---------------------------------------------------------------------------------------------------------

// False: no memory, and the file stays until the next start.
static bool leftover_add(struct streams *s, uint32_t file)
{
    if (s->leftover_count == s->leftover_cap) {
        size_t cap = s->leftover_cap == 0 ? 8 : s->leftover_cap * 2;
        struct stream_leftover *p = realloc(s->leftovers, cap * sizeof *p);
        if (p == NULL) return false;
        s->leftovers = p;
        s->leftover_cap = cap;
    }
    s->leftovers[s->leftover_count++] = (struct stream_leftover){.file = file};
    return true;
}

static void leftover_remove(struct streams *s, uint32_t file)
{
    char name[SEGMENT_NAME_MAX];
    stream_segments_forget(&s->segments, file);
    stream_segment_name(name, s->segments.folder, file);
    if (unlink(name) != 0) log_warn("streams", "cannot remove a file", LF_STR("file", name));
}

// What the count of one file asks for. False: it has to be looked at again later.
static bool look_at(struct streams *s, struct db_txn *txn, uint32_t file, const struct stream_file *f, bool *did)
{
    struct stream_bytes key;
    if (file == s->alloc.file || !mostly_dead(f)) return true; // the one that is written to grows on
    if (f->live > 0) {
        if (s->rewrite.active) return s->rewrite.file == file;
        s->rewrite = (struct stream_rewrite){.active = true, .file = file, .length = f->length};
        return true;
    }
    if (s->rewrite.file == file) s->rewrite.active = false;
    stream_key_file(&key, file);
    db_del(txn, s->table, stream_bytes_span(&key));
    if (bug("stream_file_removed_early")) leftover_remove(s, file);
    else if (!leftover_add(s, file)) log_warn("streams", "a file stays until the next start", LF_UINT("file", file));
    return *did = true;
}

static bool look_at_files(struct streams *s, struct db_txn *txn)
{
    bool did = false;
    for (unsigned i = 0; i < LOOK_MAX; i++) {
        struct stream_bytes key;
        struct db_iter it;
        struct stream_file f;
        uint32_t file;
        stream_key_file(&key, s->look_from);
        db_iter_init(&it, txn, s->table);
        bool found = db_iter_seek(&it, stream_bytes_span(&key)) && stream_key_file_parse(it.key, &file) && stream_file_decode(it.value, &f) == 0;
        db_iter_end(&it);
        s->look = found;
        if (!found || !look_at(s, txn, file, &f, &did)) return did; // goes on here when the one file is empty
        s->look_from = file + 1;
    }
    return did;
}

void streams_rewritten(struct streams *s, uint64_t position)
{
    s->rewrite.position = position;
    if (position >= s->rewrite.length) s->rewrite.active = false; // what does not verify stays, and the file with it
}

struct leftovers {
    struct streams *s;
    struct db_txn *txn;
    int err;
};

static void leftover_find(void *ctx, uint32_t file)
{
    struct leftovers *l = ctx;
    struct stream_file f;
    if (file >= l->s->alloc.file || file_get(l->s, l->txn, file, &f)) return;
    if (!leftover_add(l->s, file)) l->err = ERR_NOMEM;
}

int stream_leftovers_find(struct streams *s, struct db_txn *txn)
{
    struct leftovers l = {.s = s, .txn = txn};
    int err = stream_segments_each(s->segments.folder, leftover_find, &l);
    return err != 0 ? err : l.err;
}

void streams_committed(struct streams *s)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->leftover_count; i++) {
        struct stream_leftover *l = &s->leftovers[i];
        if (++l->commits < LEFTOVER_COMMITS || s->sealing) s->leftovers[kept++] = *l; // a job may be reading it
        else leftover_remove(s, l->file);
    }
    s->leftover_count = kept;
}

// ---- the step ------------------------------------------------------------------------------------------------------

bool streams_reclaiming(const struct streams *s)
{
    return s->marked || s->leftover_count > 0 || s->rewrite.active || s->look;
}

bool streams_reclaim(struct streams *s, struct db_txn *txn)
{
    bool did = s->leftover_count > 0;
    if (s->sealing) return did;
    if (s->marked) did |= purge_marked(s, txn);
    if (s->look && !s->marked) did |= look_at_files(s, txn);
    return did;
}
