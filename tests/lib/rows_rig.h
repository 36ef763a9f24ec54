// A row store in a temporary folder that plays the app's part: it decides, applies and publishes batches. For tests of rows/.
#ifndef SEGUE_ROWS_RIG_H
#define SEGUE_ROWS_RIG_H

#include "db.h"
#include "json_write.h"
#include "rows.h"

struct rows_rig {
    char *folder;
    struct db *db;
    struct db_txn *txn;
    struct rows *r;
    struct rows_host host;
    uint64_t seq, now_ms; // the last commit's; each batch comes one millisecond after the one before
    struct commit c;      // of the batch being made; may be changed between rr_commit and rr_begin
    struct rows_batch *batch;
    struct buf effects; // of the last batch that ended
    struct problem p;   // of the last refusal
    struct buf calls;   // what the host was told while deciding, a line each: "+path", "-path", "@hex", "~hex" (released)
    bool unknown;       // the host knows no stream and no blob when asked to show one
};

void rr_open(struct rows_rig *g);
void rr_close(struct rows_rig *g);
// Of a cmocka test: a rig with this schema as its state; and its end.
int rr_setup(void **state, const char *schema);
int rr_teardown(void **state);
// Commits, closes and opens everything again.
void rr_reopen(struct rows_rig *g);

// The n-th id.
struct uuid rr_id(unsigned n);

// A batch: commit (fills g->c), begin, operations, end (applies and publishes) or drop.
void rr_commit(struct rows_rig *g);
void rr_begin(struct rows_rig *g);
// The columns are a JSON object, or NULL. What decide returned.
int rr_op(struct rows_rig *g, enum row_op_kind kind, const char *table, unsigned id, const char *json);
int rr_schema(struct rows_rig *g, const char *sql);
// 0, or what rows_decide_end returned; the batch is over either way.
int rr_end(struct rows_rig *g);
int rr_end_unpublished(struct rows_rig *g); // the same, but that nothing is published
void rr_drop(struct rows_rig *g);

// One operation, or one schema, as a batch of its own; what was decided.
int rr_op1(struct rows_rig *g, enum row_op_kind kind, const char *table, unsigned id, const char *json);
int rr_schema1(struct rows_rig *g, const char *sql);
// These must succeed.
void rr_insert(struct rows_rig *g, const char *table, unsigned id, const char *json);
void rr_update(struct rows_rig *g, const char *table, unsigned id, const char *json);
void rr_delete(struct rows_rig *g, const char *table, unsigned id);
void rr_publish(struct rows_rig *g, const char *sql);

struct query *rr_compile(struct rows_rig *g, const char *sql); // must succeed
// The result as of `at`, one row a line; the text is freed by the caller. Read in small pieces.
char *rr_rows(struct rows_rig *g, struct query *q, uint64_t at);
char *rr_select_at(struct rows_rig *g, const char *sql, uint64_t at);
char *rr_select(struct rows_rig *g, const char *sql);
// Runs a query to its end: what query_next said at last, its words in *p; the rows, one a line, in *out, which the caller frees.
int rr_run(struct rows_rig *g, struct query *q, uint64_t at, struct buf *out, struct problem *p);
// Runs it, and then writes how it went about it.
void rr_explain(struct rows_rig *g, struct query *q, uint64_t at, struct jw *w);

// A result read bit by bit, with room for commits in between.
struct rr_pieces {
    struct query_run *run;
    bool done;
    struct buf rows; // one a line, ended by a NUL
};
void rr_pieces_open(struct rows_rig *g, struct rr_pieces *pieces, struct query *q, uint64_t at);
bool rr_pieces_next(struct rows_rig *g, struct rr_pieces *pieces, size_t budget); // false: there was no more
void rr_pieces_close(struct rr_pieces *pieces);

// The query's result is this text; ids are written #n. Ends the test if not.
void rr_expect(struct rows_rig *g, const char *sql, const char *rows);
void rr_expect_at(struct rows_rig *g, const char *sql, uint64_t at, const char *rows);

// ---- a reader of a feed --------------------------------------------------------------------------------------------

// What a client holds: rows as JSON, in order, changed by what the feed says.
struct rows_reader {
    struct feed_sub *sub;
    uint64_t seq;
    bool ordered, keyed;
    char **rows, **names; // what each is called: its id, or its key
    size_t n, cap;
    size_t changes; // steps taken so far
    struct buf log; // those steps, one a line
    uint64_t woken;
};
void rr_attach(struct rows_rig *g, struct rows_reader *reader, struct query *q, bool ordered);
// It goes, and what it holds stays with it; it comes back. A reader that was never there is zero, but for `ordered` and `keyed`.
void rr_leave(struct rows_reader *reader);
int rr_return(struct rows_rig *g, struct rows_reader *reader, struct query *q); // what rows_attach returned
// A snapshot as of `at`, in small pieces; what it held before is gone. The first must succeed.
void rr_snapshot(struct rows_rig *g, struct rows_reader *reader, uint64_t at, size_t budget);
int rr_try_snapshot(struct rows_rig *g, struct rows_reader *reader, uint64_t at, size_t budget);
// Reads the range and takes its steps; what `changes` returned.
int rr_read(struct rows_rig *g, struct rows_reader *reader, uint64_t to);
// All rows, one a line; without an order by id or key. Freed by the caller.
char *rr_held(const struct rows_reader *reader);
void rr_detach(struct rows_reader *reader);

#endif
