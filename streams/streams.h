// Append-only byte streams of one app. This header is the table of contents of the folder.
//
// A stream is a path, a content type, bytes from offset 0 to its tail, and perhaps an end. Bytes are written once, to
// the journal, as part of their batch; the store keeps them in memory as shared tail buffers until they are sealed into
// segment files, and the journal may forget them only then (streams_unsealed_group).
//
//      decide (batch overlay) -> effects -> apply -> [journal barrier] -> publish -> … -> seal plan -> write -> done
//
// Threads: the app's owner, except streams_seal_write (any thread). Nothing here waits, but for reads of sealed files.
// Memory and database go together: after an aborted write transaction the store is closed, opened and recovered again.
// A stream whose media type is application/json is a JSON stream: its bytes are messages, each compact JSON text and ",\n" behind it, so that
// a message ends behind each newline. Only an append that says `messages` goes into one, and into no other stream.
// Limits: STREAM_* in base/limits.h. A path is 1 to STREAM_PATH_MAX bytes of UTF-8; the store takes any, the service reserves "rows/".
#ifndef SEGUE_STREAMS_H
#define SEGUE_STREAMS_H

#include "buf.h"
#include "commit.h"
#include "feed.h"
#include "limits.h"
#include "problem.h"

struct db;
struct db_txn;
struct digest;
struct streams;

#define STREAMS_TABLES "streams", "stream_index" // the database tables it needs, in this order
#define STREAMS_TABLE_COUNT 2

struct streams_options {
    int first_table;  // the index of the first of STREAMS_TABLES
    const char *path;  // folder of the segment files; made where it is missing
    uint64_t quiet_ms; // 0: STREAM_QUIET_MS
    uint64_t segment_bytes; // 0: STREAM_SEGMENT_BYTES
};

// Loads nothing but the allocation state: cost does not grow with the number of streams. Bytes of segment files behind
// the last indexed record are cut off (a sealing that a crash broke: the journal still has those bytes).
int streams_open(struct streams **out, const struct streams_options *options, struct db_txn *txn);
void streams_close(struct streams *s); // every sub has detached and no seal job is under way (asserted); NULL is fine

// ---- looking -------------------------------------------------------------------------------------------------------

struct stream_info {
    uint64_t number;      // never given twice
    uint64_t offset;      // the tail: bytes ever appended
    bool closed;
    bool owned;           // by a row
    uint64_t created_seq;
    uint64_t changed_seq; // the last commit that appended or closed
    uint64_t created_ms;  // arrival of its first batch
    uint64_t first;       // the earliest offset that is kept; 0 unless it was trimmed
    uint64_t trimmed_seq; // the commit that trimmed it last; 0: none
    bool json;
    bool gone;            // deleted, but forks still read it: its path stays taken
    bool has_ttl;
    bool has_snapshot;    // something stands for what was trimmed
    uint64_t ttl_s;       // without a read or write for this long it expires
    uint64_t expires_ms;  // as it was asked for; 0: not
    uint64_t deadline_ms; // when it expires as things stand; 0: never
    char type[STREAM_TYPE_MAX + 1];
};

// The stream at `path` as of now, gone ones too. False: there is none. A stream past its deadline is found: callers compare with their clock, and
// take it for absent.
bool streams_find(struct streams *s, struct db_txn *txn, struct span path, struct stream_info *out);
// The same as of an earlier commit: its offset and whether it was closed then. Also finds a stream deleted since. False, too, where that
// needs a sealed record which does not verify (logged).
bool streams_find_at(struct streams *s, struct db_txn *txn, struct span path, uint64_t seq, struct stream_info *out);

// Are these the same media type? Parameters and case do not matter.
bool stream_type_equal(struct span a, struct span b);
// Appends the path of the stream with this number, if it lives. False: it does not.
bool streams_path_of(struct streams *s, struct db_txn *txn, uint64_t number, struct buf *out);

// Appends bytes from `offset` on to `out`, at most `max`, perhaps fewer (not zero unless at the tail); whole appends are not kept together. Of a
// JSON stream whole messages, one at least, however large it is. ERR_NO_SUCH_STREAM, ERR_STREAM_GONE; ERR_BAD_OFFSET beyond the tail or inside a
// message; ERR_STREAM_TRIMMED below what is kept; ERR_CORRUPT where a sealed record does not verify.
int streams_read(struct streams *s, struct db_txn *txn, struct span path, uint64_t offset, size_t max, struct buf *out);
// The seq of the append that brought the byte at `offset`, which is below the tail; where a fork has it from its source, that of the source's append.
int streams_seq_at(struct streams *s, struct db_txn *txn, uint64_t number, uint64_t offset, uint64_t *seq);
// How far the bytes from `offset` on had come by commit `seq`, which is not before the one that brought that byte: beyond `offset`, behind an append,
// and perhaps only to where a fork's own bytes begin. Errors of both are those of streams_read.
int streams_reach_at(struct streams *s, struct db_txn *txn, uint64_t number, uint64_t offset, uint64_t seq, uint64_t *to);
// Appends what stands for the bytes that were trimmed; nothing where there is none. Errors as above.
int streams_snapshot(struct streams *s, struct db_txn *txn, struct span path, struct buf *out);

// An idempotent producer as a stream knows it: the highest (epoch, sequence) that was accepted.
struct stream_producer {
    uint64_t epoch, seq;
};
// False: the stream has had nothing of this producer.
bool streams_producer(struct streams *s, struct db_txn *txn, struct span path, struct span id, struct stream_producer *out);

// A place in the order of deadlines: before all streams with this deadline and this number or a higher one.
struct stream_due {
    uint64_t deadline_ms, number;
};
// Streams that will have expired at `until_ms`, from *from on: their numbers into `numbers`, at most `max`; returns how many. *from (NULL: the beginning)
// goes on behind the last of them. Costs what it finds, not what there is.
size_t streams_expired(struct streams *s, struct db_txn *txn, struct stream_due *from, uint64_t until_ms, uint64_t *numbers, size_t max);

// Walks over the living streams by path (shorter ones first), gone and past ones left out. `resume` holds the place: empty to begin, kept by the caller
// between calls. Looks at no more than `max` and returns at how many; 0: that was all. `fn` returns false to stop behind this one.
typedef bool streams_each_fn(void *ctx, struct span path, const struct stream_info *info);
size_t streams_each(struct streams *s, struct db_txn *txn, struct buf *resume, size_t max, streams_each_fn *fn, void *ctx);

// Somebody follows the stream at `path`, whether there is one or not.
bool streams_watched(struct streams *s, struct span path);
bool streams_watched_number(struct streams *s, struct db_txn *txn, uint64_t number);
// Hears of every stream that changes: embedded by whoever wants to.
struct stream_observer {
    struct stream_observer *next;
    // Called by streams_publish, once for each stream that the published commits, the last of them `seq`, created, appended to, trimmed, closed or deleted.
    // Must not come back into the store's publishing, nor begin or end observing.
    void (*changed)(struct stream_observer *o, uint64_t seq, struct span path, uint64_t number);
};
// From the next commit on, and no longer. Without observers a change costs nothing here.
void streams_observe(struct streams *s, struct stream_observer *o);
void streams_unobserve(struct streams *s, struct stream_observer *o); // it observes (asserted)

// A piece of a stream as it lies: for those who send much of it. Stands for `n` bytes of the stream.
struct stream_slice {
    uint64_t n;
    struct bytes *bytes; // a reference of the caller's: the piece is [at, at + length) of it; or NULL, and then …
    size_t at;
    int fd;              // … it is [position, position + length) of this file, which the caller closes; verified
    uint64_t position;
    size_t length;
    bool packed;         // the piece is a zstd frame of exactly these `n` bytes
};

#define STREAM_SLICE_MAX (1 * MIB)

// The slice from `offset` on, at most up to `to`; offset < to <= the tail. `packed`: frames of packed records are wanted, where they are
// not unpacked for it. ERR_NO_SUCH_STREAM where the stream or its bytes are gone since.
int streams_slice(struct streams *s, struct db_txn *txn, uint64_t number, uint64_t offset, uint64_t to, bool packed, struct stream_slice *out);
void streams_slice_free(struct stream_slice *slice); // what the caller has not taken over
// Where an answer that begins at `from` ends: at most `max` bytes on (more than STREAM_APPEND_MAX), and in a stream of messages behind
// one. The errors of streams_read.
int streams_page(struct streams *s, struct db_txn *txn, uint64_t number, uint64_t from, uint64_t max, uint64_t *to);

// ---- deciding ------------------------------------------------------------------------------------------------------

// The stream part of one batch being decided: sees the state and the batch's own earlier operations, changes neither.
struct streams_batch;
struct streams_batch *streams_decide(struct streams *s, struct db_txn *txn, const struct commit *c); // NULL: no memory
void streams_batch_free(struct streams_batch *b);                                                    // NULL is fine

#define STREAM_EXPIRES_MS_MAX UINT64_C(253402300799999) // the last instant of RFC 3339, which has years of four digits

// What a creation may say; all spans live as long as the batch, `data` lies inside c->request.
struct stream_create {
    struct span path, type;  // no type: application/octet-stream, or that of the fork's source
    bool owned;              // by a row
    bool closed;             // ended at once
    struct span data;        // the first append
    bool messages;           // `data` is messages
    bool has_ttl;
    uint64_t ttl_s;
    uint64_t expires_ms;     // 0: not said. Not together with a TTL
    struct span fork_of;     // the path of the stream whose bytes it begins with; empty: none
    bool has_fork_offset;    // else all it has
    uint64_t fork_offset;    // up to here …
    uint64_t fork_sub;       // … and so many bytes (messages of a JSON stream) of the append that follows
};

// Creates a stream; content, end, expiry and source come with it or not at all. What exists with the same settings (media type, expiry, closed or not,
// owner, source and what was asked of it) is no error and no change (*created tells), with others ERR_STREAM_EXISTS, as is one that is gone. One past its
// deadline is deleted first. *offset (may be NULL) is the tail. A fork shares the offsets of its source and inherits its expiry unless it says one, but
// neither producers nor the last Stream-Seq.
// ERR_BAD_VALUE, ERR_BAD_UTF8 for a path or type that cannot be; ERR_CONTENT_TYPE_MISMATCH for data of the wrong kind, or a type not the source's;
// ERR_STREAM_NOT_FOUND no source; ERR_FORK_SOURCE_GONE; ERR_BAD_FORK an offset beyond the source's, inside a message, too far into the next append, or too
// many forks of forks; ERR_TOO_LARGE. Refused operations leave the batch as it was, but for what was past its deadline.
int streams_decide_create(struct streams_batch *b, const struct stream_create *op, bool *created, uint64_t *offset, struct problem *p);

struct stream_append {
    struct span path, type; // type: empty, or its media type must be the stream's
    struct span data;       // inside c->request; of a JSON stream messages, and `messages` says so
    bool messages;
    bool close;             // ends the stream behind it
    bool has_expect;
    uint64_t expect;        // where the stream must end before
    struct span seq;        // Stream-Seq: must be above the last one, bytewise; empty: none
    struct span producer;   // an idempotent producer's id; empty: none
    uint64_t epoch, pseq;   // and its numbers
};

struct stream_appended {
    uint64_t offset;     // the tail behind it
    bool closed;
    bool duplicate;      // the producer had sent it before: nothing happened
    bool has_producer;
    uint64_t epoch, pseq; // the highest accepted of the producer
};

// Judged in this order (problem.number in parentheses): ERR_STREAM_NOT_FOUND (also past its deadline), ERR_STREAM_GONE; ERR_PRODUCER_FENCED (the epoch
// that holds); ERR_STREAM_CLOSED (the tail), but the producer's closing append again is a duplicate, and closing a closed stream without one no change;
// ERR_CONTENT_TYPE_MISMATCH if there is data; ERR_PRODUCER_EPOCH a new epoch not from 0, a duplicate, ERR_PRODUCER_GAP (the sequence that is next), ERR_TOO_MANY
// producers; ERR_STREAM_SEQ; ERR_OFFSET_MISMATCH (the tail); ERR_TOO_LARGE. Neither data nor close nor producer nor seq: no change. `out` may be NULL.
int streams_decide_append(struct streams_batch *b, const struct stream_append *op, struct stream_appended *out, struct problem *p);
// Closing a closed stream is no error and no change.
int streams_decide_close(struct streams_batch *b, struct span path, uint64_t *offset, struct problem *p);
// A stream that forks read becomes gone; with the last fork of a gone stream that one is deleted too, and so on up.
int streams_decide_delete(struct streams_batch *b, struct span path, struct problem *p);
// The stream begins at `before` from now on (a message's begin; not below where it begins already, not beyond the tail), or at its tail; `snapshot` (inside
// c->request; empty: none) stands for what was before. `close` ends it too. *offset (may be NULL) is the tail.
// ERR_BAD_OFFSET, ERR_STILL_REFERENCED while it has forks, ERR_STREAM_CLOSED (only with `close`: closed already is no change), ERR_TOO_LARGE.
int streams_decide_trim(struct streams_batch *b, struct span path, uint64_t before, bool to_tail, struct span snapshot, bool messages, bool close,
                        uint64_t *offset, struct problem *p);
// Somebody read the stream at `access_ms`: one with a TTL lives at least that long from there. Nothing for others, or where it is too late.
int streams_decide_touch(struct streams_batch *b, uint64_t number, uint64_t access_ms);
// Deletes the stream if its deadline has come by the batch's arrival; nothing otherwise.
int streams_decide_expire(struct streams_batch *b, uint64_t number);
// The stream as the batch would leave it; false: none, or gone, or past its deadline.
bool streams_decide_find(struct streams_batch *b, struct span path, struct stream_info *out);

// Appends the encoded effects of the whole batch: self-contained but for the bytes, which are ranges of c->request.
void streams_decide_effects(struct streams_batch *b, struct buf *effects);

// The same for a batch that is one append and nothing else: request[at, at + n) to a stream whose tail is at `offset`.
void streams_append_effects(struct buf *effects, uint64_t number, uint64_t offset, uint64_t at, uint64_t n);

// ---- applying ------------------------------------------------------------------------------------------------------

// Applies effects to memory and `txn`; deterministic; used live, in recovery and in replays. Streams that were only appended to cost no
// database write here: their directory records are written by streams_flush. ERR_CORRUPT: effects that do not fit the state. After that,
// ERR_NOMEM or the transaction's error the state may be half of a commit: the store is closed and recovered.
int streams_apply(struct streams *s, struct db_txn *txn, const struct commit *c, struct span effects);
// For commits that the database already holds: takes back into memory those bytes that are not sealed yet, in order.
int streams_restore(struct streams *s, struct db_txn *txn, const struct commit *c, struct span effects);
// Writes the directory records of changed streams; call before the database commits.
void streams_flush(struct streams *s, struct db_txn *txn);
// Everything applied is durable now: tells the feeds that commits up to `seq` touched.
void streams_publish(struct streams *s, uint64_t seq);

// ---- feed ----------------------------------------------------------------------------------------------------------

// A reader of the stream at `path`, which need not exist yet. It begins at `offset`; with `resume` it begins at where the stream stood at
// `at_seq` instead, and then needs no snapshot. ERR_BAD_OFFSET beyond the tail (0 where there is no stream), or inside a message. The sub's `wake` and `owner` are the caller's to fill. Values that the feed emits (PROTOCOL.md, "stream changes"):
//   {"offset":N,"text":"…"}    the bytes up to offset N, as text when they are valid UTF-8 without NUL …
//   {"offset":N,"base64":"…"}  … and else in base64
//   {"offset":N,"messages":[…]}  of a JSON stream: whole messages
//   {"trimmed":N}              bytes before N that the reader lacks are no longer kept (may be told twice) …
//   {"snapshot":true,"text"|"base64"|"messages":…}  … and this stands for all of them, if there is something
//   {"closed":true}  {"deleted":true}  {"created":true,"type":"…"}
// A snapshot of a stream that exists begins with `created`, whatever the offset, and ends with `closed` if it is; of none it is empty. In
// changes `created` and `deleted` stand for what happened in the range; a stream that came and went within it leaves no trace, and of one
// that is deleted in it the last bytes are not told. What comes after `created` begins at offset 0, but in a snapshot where the reader began.
// The same range is encoded once for all its readers.
int streams_attach(struct streams *s, struct db_txn *txn, struct span path, uint64_t offset, bool resume, uint64_t at_seq, struct feed_sub **out,
                   struct problem *p);

// The same for who follows very many streams, most of which are still, and hears of changes as an observer: nothing is kept for the stream. `start` is
// an offset of text or bytes, below which nothing is told of whatever stream is at `path`; it may lie beyond the tail.
struct stream_place { // how far a snapshot has got; all zero to begin
    uint64_t number, at;
};
// The next piece of the state as of `seq`, as feed_ops.snapshot has it, but without `created`.
int streams_tell_state(struct streams *s, struct db_txn *txn, struct span path, uint64_t start, uint64_t seq, struct stream_place *place, size_t budget,
                       struct feed_sink *sink, bool *done);
// As feed_ops.changes has it; and how many bytes of the stream that would tell.
int streams_tell_bytes(struct streams *s, struct db_txn *txn, struct span path, uint64_t start, uint64_t from, uint64_t to, uint64_t *bytes);
int streams_tell_changes(struct streams *s, struct db_txn *txn, struct span path, uint64_t start, uint64_t from, uint64_t to, struct feed_sink *sink);

// ---- sealing -------------------------------------------------------------------------------------------------------

struct streams_seal; // a job: bytes of many streams, gathered for one write

// What is due now: closed, quiet, grown; with `force` everything unsealed; where nothing is, live bytes of a
// file that is mostly dead. NULL: nothing, or a job is under way. Bounded in bytes.
struct streams_seal *streams_seal_plan(struct streams *s, struct db_txn *txn, uint64_t now_ms, bool force);
// Writes the job's records to its segment file and syncs. Any thread; touches the job alone.
int streams_seal_write(struct streams_seal *job);
// Takes the outcome back on the owner's thread: indexes the records in `txn` and lets go of memory; after a failure nothing has changed.
// ERR_CANCELED for a job that was never written. Frees the job.
void streams_seal_done(struct streams *s, struct db_txn *txn, struct streams_seal *job, int err);
// The oldest journal group with bytes that are not sealed; UINT64_MAX when there is none. As of the open transaction: the journal may forget
// groups below the value that was read when a commit was made only once that commit is durable.
uint64_t streams_unsealed_group(const struct streams *s);
uint64_t streams_unsealed_bytes(const struct streams *s);

// ---- giving back ---------------------------------------------------------------------------------------------------

// A bounded step of giving back what streams deleted for good and trimmed have on disk: purges their index entries, looks for files of
// which little or nothing lives. True: the transaction has changed, or waits for its commit; call again. Does nothing while a job is under way.
bool streams_reclaim(struct streams *s, struct db_txn *txn);
// A commit of the database succeeded: files that the one before gave up are removed. (A power cut may take back the last one.)
void streams_committed(struct streams *s);
// There is more to do for streams_seal_plan or streams_reclaim than what is unsealed.
bool streams_reclaiming(const struct streams *s);

// ---- checks --------------------------------------------------------------------------------------------------------

// Feeds the logical state (paths, types, bytes, ends, seqs; not where bytes lie) into `d`, in one order.
int streams_hash(struct streams *s, struct db_txn *txn, struct digest *d);

#endif
