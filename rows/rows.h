// The versioned row store of one app. This header is the table of contents of the folder.
//
// A table's rows have an `id` (UUID) and typed columns. Current rows are one compact record each; superseded versions stay in
// history by seq, so that anything can be read as of a commit. Concurrent writes merge per column by hybrid-clock stamp
// (last writer wins; equal stamps: the greater writer id); delete wins over a concurrent update.
//
//      decide (batch overlay) -> effects -> apply -> [journal barrier] -> publish (views, feeds)
//
// Threads: the app's owner for everything. Nothing here waits. The store knows nothing of streams and blobs but what its host tells it.
#ifndef SEGUE_ROWS_H
#define SEGUE_ROWS_H

#include "buf.h"
#include "commit.h"
#include "digest.h"
#include "feed.h"
#include "limits.h"
#include "problem.h"

struct jw;
struct db_txn;
struct jw;
struct read_set;
struct rows;

#define ROWS_TABLES "rows", "row_history", "row_commits", "schemas", "row_index" // the database tables it needs, in this order
#define ROWS_TABLE_COUNT 5

// What rows need to know of the stores beside them. All calls on the owner's thread, during a call of this store.
struct rows_host {
    void *ctx;
    // While deciding. A `stream` column of a new row: its stream comes to be; of a deleted row: it goes.
    int (*stream_create)(void *ctx, struct span path, struct problem *p);
    int (*stream_delete)(void *ctx, struct span path, struct problem *p);
    // A `blob` column is given this digest: 0, or ERR_BLOB_NOT_FOUND.
    int (*blob_known)(void *ctx, const struct sha256 *digest, struct problem *p);
    // A version of a row that the batch makes names it, as the one before did not.
    int (*blob_link)(void *ctx, const struct sha256 *digest, struct problem *p);
    // No version of any row names it any more. NULL: nobody wants to know.
    int (*blob_release)(void *ctx, const struct sha256 *digest, struct problem *p);
    // While showing a row as of `seq`. False: not known (shown as null members).
    bool (*stream_at)(void *ctx, struct db_txn *txn, struct span path, uint64_t seq, uint64_t *offset, bool *closed);
    // Appends the stream's present bytes, of those that stood at `seq`; nothing where there is none. May be NULL: it cannot be asked. ERR_TOO_LARGE, or a fault.
    int (*stream_text)(void *ctx, struct db_txn *txn, struct span path, uint64_t seq, struct buf *out);
    bool (*blob_at)(void *ctx, struct db_txn *txn, const struct sha256 *digest, uint64_t *size, char type[STREAM_TYPE_MAX + 1]);
};

struct rows_options {
    int first_table;
    const struct rows_host *host; // outlives the store
};

int rows_open(struct rows **out, const struct rows_options *options, struct db_txn *txn);
void rows_close(struct rows *r); // every sub has detached, every query is closed; NULL is fine

// The path of the stream that a `stream` column owns: rows/<table>/<id>/<column>. Appends to `out`.
void rows_stream_path(struct buf *out, struct span table, struct uuid id, struct span column);

// ---- schema --------------------------------------------------------------------------------------------------------

// The current schema: the SHA-256 of its canonical form (all zero before the first), and its canonical SQL text.
struct sha256 rows_schema_hash(const struct rows *r);
void rows_schema_sql(const struct rows *r, struct buf *out);
// {"hash":"…","enums":[{"name","labels"}],"tables":[{"name","columns":[{"name","type","merge"?,"not_null","default"?,"references"?,"on_delete"?}],
// "indexes":[{"name","unique","columns":[{"name","desc"}],"where"?}],"checks":[{"name","check"}]}]}
void rows_schema_json(const struct rows *r, struct buf *out);
// Any version that was published, as SQL or as JSON. ERR_NO_SUCH_SCHEMA.
int rows_schema_read(struct rows *r, struct db_txn *txn, const struct sha256 *hash, bool json, struct buf *out);
// Those before the version `before` (0: all), the newest first, at most `limit`, with the next `before` where there are more:
// {"schemas":[{"version","hash","seq","time"}],"before"?}
int rows_schemas_json(struct rows *r, struct db_txn *txn, uint32_t before, size_t limit, struct buf *out);

// ---- operations as they come: before a column's type is known ------------------------------------------------------

enum row_value_kind { ROW_NULL, ROW_BOOL, ROW_INT, ROW_REAL, ROW_TEXT, ROW_JSON };

struct row_value {
    enum row_value_kind kind;
    union {
        bool b;
        int64_t i;
        double d;
        struct span s; // ROW_TEXT: UTF-8; ROW_JSON: canonical JSON text of an object or array
    };
};

struct row_column {
    struct span name;
    struct row_value value;
};

// An upsert is an insert where no row stands, else an update. A restore brings back what a delete took away.
enum row_op_kind { ROW_INSERT, ROW_UPDATE, ROW_DELETE, ROW_UPSERT, ROW_RESTORE };

struct row_op {
    enum row_op_kind kind;
    struct span table;
    bool has_id; // an insert without one gets one made of the commit's seed and arrival
    struct uuid id;
    const struct row_column *columns; // insert, update, upsert; a column that is not named keeps its value, or gets its default. A counter's or
                                      // a set's value may be a change: ROW_JSON {"increment": n}, {"add": [], "remove": []}
    size_t column_count;
};

// ---- deciding ------------------------------------------------------------------------------------------------------

// The row part of one batch being decided: sees the state and the batch's own earlier operations, changes neither.
struct rows_batch;
// `host` may differ from the store's own in its ctx: its decide calls concern this batch. NULL: no memory.
struct rows_batch *rows_decide(struct rows *r, struct db_txn *txn, const struct commit *c, const struct rows_host *host);
void rows_batch_free(struct rows_batch *b); // NULL is fine

// Its operations were written by somebody who had seen this seq, not the commit's base. Before any of them.
void rows_decide_base(struct rows_batch *b, uint64_t base);

// A row that a commit changed although a transaction had read it, or where it might have been.
struct rows_conflict {
    struct span table; // of the schema
    struct uuid id;
    uint64_t seq; // the first commit that changed it
    enum rows_read { ROWS_READ_ROW, ROWS_READ_RANGE, ROWS_READ_TABLE } read;
    struct span index; // of a range that is not of ids; of the schema
};
struct rows_conflicts {
    struct rows_conflict list[ROWS_CONFLICTS_MAX];
    size_t n;
};

// The batch is a transaction that read this at `base` (read_set.h, finished). Before any operation. ERR_CONFLICT and *out: some of the rows that were changed since;
// ERR_BASE_AHEAD; ERR_TOO_OLD where the changes since are no longer kept, or too many.
int rows_decide_reads(struct rows_batch *b, uint64_t base, const struct read_set *reads, struct rows_conflicts *out, struct problem *p);
// Would these effects, decided in this state and not applied, change what was read? Before rows_apply. ERR_CORRUPT, ERR_NOMEM, or the transaction's error.
int rows_effects_meet(struct rows *r, struct db_txn *txn, struct span effects, const struct read_set *reads, bool *meet);
// The number of a table, for a read set; 0: there is none of this name.
uint32_t rows_table_number(const struct rows *r, struct span name);

// ERR_NO_SUCH_TABLE, ERR_NO_SUCH_COLUMN, ERR_WRONG_TYPE, ERR_BAD_VALUE, ERR_NOT_NULL, ERR_ROW_EXISTS, ERR_NO_SUCH_ROW, ERR_TOO_LARGE, ERR_TOO_OLD (what a
// restore, or a merge, needs is below the horizon), or the host's. What is written to a row that was deleted by a commit that the writer had not
// seen (seq > base) is accepted and changes nothing: delete wins. *id (may be NULL) is the row's.
int rows_decide_op(struct rows_batch *b, const struct row_op *op, struct uuid *id, struct problem *p);
// Is this stream path one that a row owns, as the batch would leave it? For rows/<table>/<id>/<column>: 0, or ERR_NO_SUCH_ROW / _TABLE / _COLUMN / ERR_BAD_VALUE.
// With `touch`, readers of the row are told of it as changed (its stream closes), though no cell is.
int rows_decide_stream(struct rows_batch *b, struct span path, bool touch, struct problem *p);
// Publishes a schema: ERR_BAD_SQL, ERR_UNSUPPORTED_SQL (with the position in the text), ERR_BAD_SCHEMA, ERR_SCHEMA_NOT_ADDITIVE. The same schema again is no change.
int rows_decide_schema(struct rows_batch *b, struct span sql, struct problem *p);
// The constraints that concern the batch as a whole: references in both directions. Call once, at the end.
int rows_decide_end(struct rows_batch *b, struct problem *p);
// The stamp of its writes: that of the commit, but of a transaction one above all that it writes over.
uint64_t rows_decide_stamp(const struct rows_batch *b);
// Appends the encoded effects: complete new records, self-contained.
void rows_decide_effects(struct rows_batch *b, struct buf *effects);

// Checks a schema without publishing it; any thread.
int rows_schema_check(struct span sql, struct problem *p);

// ---- applying ------------------------------------------------------------------------------------------------------

// Deterministic; used live, in recovery and in replays. Views are advanced, but nothing is shown before rows_publish. ERR_CORRUPT: effects that do not fit the state.
int rows_apply(struct rows *r, struct db_txn *txn, const struct commit *c, struct span effects);
// Everything applied is durable now: makes view changes visible, tells their feeds.
void rows_publish(struct rows *r, struct db_txn *txn, uint64_t seq);

// Does a view read the text of streams? Then it is to be told of each that the commits just published have changed: behind rows_publish, which is called
// again behind that. `trimmed`: the stream does not have all of its bytes any more.
bool rows_follow_streams(const struct rows *r);
void rows_stream_changed(struct rows *r, struct db_txn *txn, struct span path, bool trimmed);

// Work that belongs to no batch, some of it: a new index is filled, a dropped one is emptied. Call it soon again while rows_busy.
int rows_tick(struct rows *r, struct db_txn *txn, bool *wrote);
bool rows_busy(const struct rows *r);

// ---- the horizon ---------------------------------------------------------------------------------------------------

// The oldest seq that can be read: ERR_TOO_OLD below. 0: all that was is kept.
uint64_t rows_horizon(const struct rows *r);
int rows_not_too_old(const struct rows *r, uint64_t at, struct problem *p); // 0 or ERR_TOO_OLD
// How far the horizon may go now: *reached is the last of the next commits up to `upto` that came before `before_ms`; 0: none.
int rows_horizon_due(struct rows *r, struct db_txn *txn, uint64_t upto, uint64_t before_ms, uint64_t *reached);
// Moves it there, or a bounded part of the way: a batch of its own.
int rows_decide_horizon(struct rows_batch *b, uint64_t upto, struct problem *p);

// ---- queries -------------------------------------------------------------------------------------------------------

// A compiled select with its parameters: immutable, refcounted. README.md, "Queries", says what SQL it may be. Rows of one table that
// are neither grouped nor distinct have their `id` first, asked for or not, and come by it without an `order by` and where what they are
// ordered by is equal; other rows are what the text says, and nothing more.
struct query;
// Stays valid when a later schema is published (schemas only grow). Parameters are bound here. Texts met before are not parsed again.
int query_compile(struct rows *r, struct span sql, const struct row_value *params, size_t param_count, struct query **out, struct problem *p);
struct query *query_ref(struct query *q);
// Do its rows have no `id` of their own, because they are joined, grouped or distinct? Then a live result names each by a key ("feed", below).
bool query_keyed(const struct query *q);
// A stream column of its result: whose table's rows the streams belong to, and where in a row's name (id, or key) the id of such a row stands.
struct rows_stream_column {
    struct span name, table, column; // as long as the query lives
    size_t piece;                    // of a key; 0 of an id
};
// ERR_NO_SUCH_COLUMN; ERR_BAD_PARAMETER: the column is no stream; ERR_UNSUPPORTED_SQL: rows are grouped or distinct, and nobody knows whose streams they show.
int query_stream_column(const struct query *q, struct span name, struct rows_stream_column *out, struct problem *p);
void query_unref(struct query *q); // NULL is fine

// Reads a result in pieces as of one seq; holds no transaction between calls, so commits may come between pieces.
struct query_run;
struct overlay;
struct read_set;
struct query_source {
    uint64_t at; // the seq; that it is given out and visible is the caller's to know, for not every commit comes by here
    const struct overlay *overlay; // rows that lie over the stored ones (source.h), or NULL
    struct read_set *reads;        // is told everything that was looked at or looked for, by the time of query_close; or NULL
};
int query_open_source(struct rows *r, struct db_txn *txn, struct query *q, const struct query_source *source, struct query_run **out,
                      struct problem *p);
// The same of the store alone.
int query_open(struct rows *r, struct db_txn *txn, struct query *q, uint64_t at, struct query_run **out, struct problem *p);
// Emits the next rows, each one JSON object, about `budget` bytes; none at times, while it is still looking. *done: that was all.
// ERR_QUERY_TOO_EXPENSIVE, ERR_RESULT_TOO_LARGE, ERR_BAD_VALUE (a division by zero, a sum past 64 bits), ERR_CANCELED (its index was dropped).
int query_next(struct query_run *run, struct db_txn *txn, size_t budget, struct feed_sink *sink, bool *done);
const struct problem *query_problem(const struct query_run *run); // of the call that failed, in words; its err may be 0
// {"plan":[…],"rows":n,"looked_at":n}: how the run goes to its tables, and what each has done so far.
void query_explain(const struct query_run *run, struct jw *w);
void query_close(struct query_run *run); // NULL is fine

// ---- feed ----------------------------------------------------------------------------------------------------------

// A reader of the query's live view; equal queries share one view. The sub's `wake` and `owner` are the caller's to fill. The snapshot's values
// are rows; the values of changes, which a client applies one after the other (PROTOCOL.md, "row changes"):
//   {"added":{row},"at":i}  {"changed":{row},"at":i,"was":j}  {"removed":"id","was":j}
// with positions where the query has an `order by`; without, no "at" and "was". A row that enters a limited window pushes another out: both are said.
// Of a keyed query (query_keyed) the snapshot's values are {"key":k,"row":{row}}, and changes name their row by its key:
//   {"added":{row},"key":k,"at":i}  {"changed":{row},"key":k,"at":i,"was":j}  {"removed":k,"was":j}
// The same joined rows, or the same group, have the same key for as long as the query is the same: the ids of the tables' rows in the order of the text,
// joined by "." (nothing where a left join found none), or a digest of what is grouped by, or of a distinct row's values. Equal rows come by their keys.
// "was" is where the row stood in the list as the steps before have left it, "at" where it stands once this step is done.
// A query that reads the text of streams (stream_text) follows them where rows_stream_changed is called; who is behind begins again.
// ERR_UNSUPPORTED_SQL: with its selects within, a query goes through QUERY_TABLES_MAX tables at most. ERR_TOO_OLD from the feed: also where a commit, or all that have come since the reader was here last, touched more than can
// be compared.
// ERR_BAD_VALUE: also later, from the feed, where a changed row cannot be evaluated.
// ERR_QUERY_TOO_EXPENSIVE, ERR_RESULT_TOO_LARGE: also later, from the feed, where an ordered result grows past its bounds.
int rows_attach(struct rows *r, struct db_txn *txn, struct query *q, struct feed_sub **out, struct problem *p);
// Of a query that somebody is attached to: is every changed row of one of its tables tried against it, because its conditions there have neither an equality nor a
// range that an index could find it by? Or are all rows of a table gone through to find what a row joined to them changes?
bool rows_scanned(const struct rows *r, const struct query *q);

// ---- history -------------------------------------------------------------------------------------------------------

// {"table","id","columns":{column:{who wrote it}|null},"versions":[{who made it,"wrote":[column],"row":{…}} or with "deleted"],"next"?}: what the row has been
// up to `at`, the newest first, at most `max` versions; "next" is the `at` of the rest. ERR_NO_SUCH_TABLE, ERR_NOT_FOUND.
int rows_history(struct rows *r, struct db_txn *txn, struct span table, struct uuid id, uint64_t at, size_t max, struct buf *out,
                 struct problem *p);
// {"from","to","rows":[{"table","id","was":row|null,"is":row|null,"changed"?:[column]}]}: the rows that `from` and `to` (not before it) have different, of one
// table or (empty) of all. ERR_NO_SUCH_TABLE, ERR_RESULT_TOO_LARGE, ERR_QUERY_TOO_EXPENSIVE.
int rows_diff(struct rows *r, struct db_txn *txn, struct span table, uint64_t from, uint64_t to, struct buf *out, struct problem *p);

// What pending batches would make of rows, one batch after the other, without applying anything.
struct rows_pending;
// `host` is asked for blobs alone. NULL: no memory.
struct rows_pending *rows_pending_new(struct rows *r, struct db_txn *txn, uint64_t seq);
void rows_pending_free(struct rows_pending *v); // NULL is fine
// The next batch: its operations go to rows_decide_op; then rows_pending_end says whether it would be accepted (`err`: what an operation met). The commit's
// seq is filled in. NULL: no memory, or PREVIEW_BATCHES_MAX.
struct rows_batch *rows_pending_begin(struct rows_pending *v, const struct commit *c);
int rows_pending_end(struct rows_pending *v, int err, struct problem *p);
// {"table","id","row":{…}|null,"columns":{column:{who wrote it}|{"batch":n}|null},"versions":[those]}: the merged row, who wrote each value, and the
// commits and pending batches (from 0) that its values come from. ERR_NO_SUCH_TABLE.
int rows_pending_row(struct rows_pending *v, struct span table, struct uuid id, struct jw *w, struct problem *p);

// ---- checks --------------------------------------------------------------------------------------------------------

// Feeds the logical state (schemas, current rows, history, commits) into `d`, in one order.
int rows_hash(struct rows *r, struct db_txn *txn, struct digest *d);

// Counts for metrics.
struct rows_counts {
    uint64_t views, subs;
    uint64_t scanned; // tables of views each of whose changed rows is tried, as rows_scanned says
};
struct rows_counts rows_counts(const struct rows *r);

#endif
