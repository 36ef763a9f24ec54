// What the files of this folder share: the store, its streams in memory, and how one is looked at.
//
// A stream is in memory ("hot") while it has something that the database and the segment files do not: bytes that are not sealed,
// or a directory record that is not flushed. Everything else is read where it lies, so memory follows the work, not the number of streams.
//
//      cold ──(apply: create, append, close, delete; restore)──> hot, dirty ──flush──> hot, clean ──sealed──> cold
//                                                                    └──────sealed──────> hot, dirty, no bytes ──flush──^
#ifndef SEGUE_STREAM_STORE_H
#define SEGUE_STREAM_STORE_H

#include "streams.h"

#include "db.h"
#include "stream_groups.h"
#include "stream_keys.h"
#include "stream_segments.h"
#include "hash_table.h"
#include "stream_tail.h"

#define STREAM_ELEMENT_MAX (64 * KIB)       // raw bytes in one value of a feed
#define STREAM_ELEMENTS_KEPT 1024u          // encoded values kept for the next reader; a power of two
#define STREAM_ELEMENTS_BYTES_MAX (4 * MIB) // and their bytes

struct stream_list {
    struct stream *first, *last;
};

struct stream {
    struct hash_node by_number;
    struct hash_node by_path; // linked while it lives
    struct stream_record rec;
    struct tail tail; // its end is rec.offset but while a recovery brings the bytes back
    bool dirty;       // rec is not what the database has
    struct stream *dirty_next;
    uint64_t deadline_ms;     // under which the database's index of deadlines has it; 0: it has not
    struct hash_table writers;     // producers it was written by since it is hot; no slots before the first
    struct hot_writer *writers_dirty;
    struct stream_seq *seq;   // the last Stream-Seq, if one came since it is hot
    bool told;                // in the list of those that the observer is to hear of
    struct stream *told_next;
    uint64_t told_first, told_last; // seqs
    struct stream_list *list; // which of the store's lists of unsealed streams it is in; NULL: it has no bytes here
    struct stream *prev, *next;
    uint64_t appended_ms; // arrival of the last append
};

// A producer of a hot stream. Those it does not know it finds in the database, so memory holds only who writes now.
struct hot_writer {
    struct hash_node node;
    struct hot_writer *dirty_next;
    bool dirty, kept; // kept: the database has a state of it
    struct stream_writer state;
    uint8_t id_n;
    uint8_t id[];
};

struct stream_seq {
    bool dirty;
    uint16_t n;
    uint8_t p[STREAM_SEQ_MAX];
};

// What a path's readers wait at, whether there is a stream or not.
struct stream_feed {
    struct feed feed;
    struct streams *s;
    struct hash_node node;
    struct stream_feed *touched_next;
    bool touched;                         // in the list of those to be told
    uint64_t touched_first, touched_last; // seqs
    uint16_t path_n;
    uint8_t path[STREAM_PATH_MAX];
};

// An encoded value: the bytes [from, …) of a stream, made for a reader who wanted `want` of them.
struct stream_element {
    uint64_t number, from; // number 0: unused
    uint32_t want, n;
    struct bytes *json;
};

// A file that was left behind with nothing in it that lives: removed when no commit that is lost can still point to it.
struct stream_leftover {
    uint32_t file;
    unsigned commits; // since
};

// A file that is mostly dead: what lives in it is copied, in steps.
struct stream_rewrite {
    bool active;
    uint32_t file;
    uint64_t position, length;
};

struct streams {
    int table, table_index;
    struct decided *spare; // of the last batch: nearly every batch needs one, and it is too large to come cheaply
    uint64_t seed; // of the hash tables: nobody chooses what collides
    uint64_t segment_bytes; // of a file before the next one is begun
    uint64_t quiet_ms; // without appends for this long, a stream is sealed
    struct stream_alloc alloc;
    bool alloc_dirty;
    struct hash_table by_number, by_path, feeds;
    struct stream *dirty;
    struct stream_list due;    // to be sealed at the next occasion: closed, deleted or grown
    struct stream_list active; // the others with bytes, the longest quiet first
    struct groups groups;
    uint64_t unsealed_bytes;
    bool sealing; // a job is under way
    struct segments segments;
    bool marked;        // streams may have something to give back
    bool look;          // at the files' counts, from `look_from` on
    uint32_t look_from;
    struct stream_leftover *leftovers;
    size_t leftover_count, leftover_cap;
    struct stream_rewrite rewrite;
    struct stream_feed *touched;
    struct stream_observer *observers;
    struct stream *told; // what they are to hear of
    struct stream_element *elements; // made with the first reader
    size_t element_bytes, element_hand;
    struct bytes *closed, *deleted; // the two values that are always the same
    struct buf scratch;             // a piece of a stream, raw
};

// ---- looking (stream_read.c) ---------------------------------------------------------------------------------------

// A stream, hot or cold. `rec` points into the hot stream or to `own`; so a view is not copied, and ends with the next apply or flush.
struct stream_view {
    const struct stream_record *rec;
    struct stream *hot;
    uint64_t sealed; // bytes below this offset are in segment files
    struct stream_record own;
};

// 0, ERR_NO_SUCH_STREAM, or a fault: the transaction's, or ERR_CORRUPT.
int stream_view_number(struct streams *s, struct db_txn *txn, uint64_t number, struct stream_view *out);
int stream_view_path(struct streams *s, struct db_txn *txn, struct span path, struct stream_view *out); // the one that lives
// The one that lived as of `seq`; it may be deleted since.
int stream_view_at(struct streams *s, struct db_txn *txn, struct span path, uint64_t seq, struct stream_view *out);

// The tail as of `seq`, not before its creation, and the seq of the last append until then (created_seq if none). Of one that
// was trimmed: never below its beginning.
int stream_offset_at(struct streams *s, struct db_txn *txn, const struct stream_view *v, uint64_t seq, uint64_t *offset, uint64_t *changed);
// The seq of the append that holds the byte at `offset`, which is below the tail.
int stream_seq_of(struct streams *s, struct db_txn *txn, const struct stream_view *v, uint64_t offset, uint64_t *seq);
// Appends bytes from `offset` on, at most `max`, perhaps fewer; none only if `max` is 0 or `offset` is the tail. This and the one before:
// ERR_NO_SUCH_STREAM where a deleted stream's bytes have been given back.
int stream_read_some(struct streams *s, struct db_txn *txn, const struct stream_view *v, uint64_t offset, size_t max, struct buf *out);
// The same of a JSON stream, in whole messages, from the begin of one: as many as fit, or one that does not.
int stream_read_messages(struct streams *s, struct db_txn *txn, const struct stream_view *v, uint64_t offset, size_t max, struct buf *out);
// Appends exactly [offset, offset + n), which exists.
int stream_read_all(struct streams *s, struct db_txn *txn, const struct stream_view *v, uint64_t offset, size_t n, struct buf *out);
// The view of the stream that holds the byte at `offset`, up the chain of forks; *limit is where its share ends. `up` is room for it.
int stream_view_holder(struct streams *s, struct db_txn *txn, const struct stream_view *v, uint64_t offset, struct stream_view *up,
                       const struct stream_view **out, uint64_t *limit);
// Where the sealed byte at `offset` lies, of the stream itself. ERR_NO_SUCH_STREAM where it has been given back.
int stream_sealed_at(struct streams *s, struct db_txn *txn, const struct stream_view *v, uint64_t offset, struct stream_index *out);
// The same, and ERR_CORRUPT where the index has a gap.
int stream_index_find(struct streams *s, struct db_txn *txn, uint64_t number, uint64_t offset, struct stream_index *out);

// The end of the append that holds the byte at `offset`, which is below the tail; not beyond what the stream has of it.
int stream_append_end(struct streams *s, struct db_txn *txn, const struct stream_view *v, uint64_t offset, uint64_t *end);
// What stands for a stream's trimmed bytes; nothing where there is none.
int stream_snapshot_read(struct streams *s, struct db_txn *txn, const struct stream_record *r, struct buf *out);
void stream_snapshot_write(struct streams *s, struct db_txn *txn, uint64_t number, struct span snapshot);
// May a JSON stream be cut at `offset`?
int stream_message_boundary(struct streams *s, struct db_txn *txn, const struct stream_view *v, uint64_t offset, bool *is);

void stream_info_fill(struct stream_info *out, const struct stream_record *r);

// ---- records (stream_record.c) -------------------------------------------------------------------------------------

struct effect;

// A new stream as its creation's effect says; of a fork, stream_record_inherit does the rest.
void stream_record_make(struct stream_record *r, const struct commit *c, const struct effect *e);
void stream_record_inherit(struct stream_record *r, const struct stream_record *source);
// It begins at `before` from now on.
void stream_record_trim(struct stream_record *r, const struct commit *c, uint64_t before, bool has_snapshot);
// A read or write puts the end of a stream with a TTL off.
void stream_record_slide(struct stream_record *r, uint64_t access_ms);
bool stream_record_expired(const struct stream_record *r, uint64_t now_ms);

// ---- who writes (stream_writers.c) ---------------------------------------------------------------------------------

// What the store knows of a producer, hot or cold. False: nothing (or the transaction has failed).
bool stream_writer_find(struct streams *s, struct db_txn *txn, uint64_t number, const struct stream *hot, struct span id,
                        struct stream_writer *out);
// Takes a state in; *added tells a producer that is new to the stream. ERR_NOMEM.
int stream_writer_set(struct streams *s, struct db_txn *txn, struct stream *st, struct span id, const struct stream_writer *state, bool *added);
// The last Stream-Seq; empty: none. The view lives until the next write.
struct span stream_seq_find(struct streams *s, struct db_txn *txn, uint64_t number, const struct stream *hot);
int stream_seq_set(struct stream *st, struct span seq);
// Writes what is not in the database; once the transaction holds, stream_writers_flushed says so.
void stream_writers_flush(struct streams *s, struct db_txn *txn, const struct stream *st);
void stream_writers_flushed(struct stream *st);
// A deleted stream has no writers.
void stream_writers_forget(struct streams *s, struct db_txn *txn, struct stream *st);
void stream_writers_free(struct stream *st);
// Feeds the state of a stream's writers into `d`.
int stream_writers_hash(struct streams *s, struct db_txn *txn, uint64_t number, const struct stream *hot, struct digest *d);

// ---- who watches (stream_observe.c) --------------------------------------------------------------------------------

// Commit `seq` changed a stream: the observer hears of it when it is published.
void stream_told_mark(struct streams *s, struct stream *st, uint64_t seq);
void stream_told_publish(struct streams *s, uint64_t seq);

// ---- hot streams (streams.c) ---------------------------------------------------------------------------------------

uint64_t stream_hash_path(const struct streams *s, struct span path);
struct stream *stream_hot_number(struct streams *s, uint64_t number);
struct stream *stream_hot_path(struct streams *s, struct span path);
// Takes a stream into memory; NULL: no memory. Its tail begins at `sealed`, without bytes.
struct stream *stream_hot_add(struct streams *s, const struct stream_record *rec, uint64_t sealed);
// It does not live any longer: its path is free.
void stream_hot_forget_path(struct streams *s, struct stream *st);
void stream_mark_dirty(struct streams *s, struct stream *st);
// Lets go of a stream that has nothing left which is only here.
void stream_settle(struct streams *s, struct stream *st);

void stream_list_remove(struct stream *st); // from the list it is in, if any
void stream_list_append(struct stream_list *list, struct stream *st);
// Puts a stream into the list where it belongs by its state, at the end.
void stream_enlist(struct streams *s, struct stream *st);

// Forgets unsealed bytes before `offset`, which are sealed or not wanted any more.
void stream_tail_forget(struct streams *s, struct stream *st, uint64_t offset);

// ---- giving back (stream_reclaim.c) ----------------------------------------------------------------------------------

// The stream was deleted for good, or trimmed: bytes of it are to be given back, in steps (streams_reclaim).
void stream_reclaim_mark(struct streams *s, struct db_txn *txn, uint64_t number);
// Takes a part out of the index, and its share out of its file's count.
void stream_index_drop(struct streams *s, struct db_txn *txn, uint64_t number, const struct stream_index *ix);
// A file is `length` bytes long now and `live` of the new ones are pointed to.
void stream_file_grow(struct streams *s, struct db_txn *txn, uint32_t file, uint64_t length, uint64_t live);
// The file's count is to be looked at: it changed, or the file is written to no more.
void stream_file_look(struct streams *s, uint32_t file);
// The file that is being emptied has been copied up to `position`.
void streams_rewritten(struct streams *s, uint64_t position);
// Files that nothing knows are leftovers, too. Called once, at the start.
int stream_leftovers_find(struct streams *s, struct db_txn *txn);

// ---- feeds (stream_feed.c) -----------------------------------------------------------------------------------------

// Commit `seq` changed what lives, or lived, at `path`.
void stream_feed_mark(struct streams *s, struct span path, uint64_t seq);
void stream_elements_free(struct streams *s);

// What it keeps of its own bytes begins here.
static inline uint64_t stream_start(const struct stream_record *r)
{
    return r->first > r->base ? r->first : r->base;
}

// Nobody can read it any more, but as of earlier seqs.
static inline bool stream_is_dead(const struct stream_record *r)
{
    return r->deleted_seq != 0;
}

static inline struct span stream_path(const struct stream_record *r)
{
    return SPAN(r->path, r->path_n);
}

#endif
