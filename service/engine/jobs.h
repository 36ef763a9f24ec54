// LLM jobs in the database: what was asked of whom, into which stream, and how it stands. A job's steps are operations of the
// service's own batches (BATCH_JOB), so that a job and its row are never told apart: the commit that ends the job closes the stream
// and sets the row's columns.
//
//      QUEUED ──> CONNECTING ──> STREAMING ──> DONE | FAILED | CANCELLED | INTERRUPTED
//         └────────────┴──────────────────────────^
//
// The record never has a key of a provider in it, nor the prompt: only what a restart needs to end the job, or to resume it. A job that
// is to be asked again after a restart is the exception: its request is kept beside it until it ends.
//
// Tokens that jobs have used are counted by the day of their end (UTC), as state: a restart forgets nothing.
#ifndef SEGUE_JOBS_H
#define SEGUE_JOBS_H

#include "auth.h"
#include "batch.h"
#include "commit.h"

struct db_txn;

#define JOBS_TABLES "jobs"
#define JOBS_TABLE_COUNT 1

struct job {
    struct uuid id;
    enum job_state state;
    struct identity identity; // who asked
    // Arrival of the batches: made, its call begun, its first token, its end; 0: not yet.
    uint64_t created_ms, begun_ms, first_ms, ended_ms;
    uint8_t api, form; // enum llm_api, enum llm_form
    bool background, fork;
    struct span provider;
    struct span path; // empty: the column of a row
    struct span table, column, status_column, usage_column;
    struct uuid row;
    struct sha256 request;
    uint64_t start; // offset at which its stream began
    struct span progress;
    int err; // of an end other than JOB_DONE
    struct span text, usage, finish;
    uint64_t tokens;
    uint32_t status;
    struct span successor; // with its job
    struct uuid heir;
};

// "queued", "connecting", "streaming", "done", …: what a row's status column is given, too.
const char *job_state_name(enum job_state state);
static inline bool job_is_live(enum job_state state)
{
    return state <= JOB_STREAMING;
}
// Appends the path of the stream that the job writes.
void job_path(struct buf *out, const struct job *j);

// The record as it is stored, and back: spans then point into `record`. ERR_CORRUPT.
void job_encode(struct buf *out, const struct job *j);
int job_decode(struct span record, struct uuid id, struct job *out);

// 1: found, and *out lives until the next write to `txn`; 0: there is no such job; negative: ERR_CORRUPT or the transaction's error.
int jobs_find(struct db_txn *txn, int table, struct uuid id, struct job *out);
// Ids of jobs that have not ended, at most `max`: their number. They come in no particular order.
size_t jobs_live(struct db_txn *txn, int table, struct uuid *out, size_t max);

// The live job that writes the stream at this path. False: there is none.
bool jobs_writing(struct db_txn *txn, int table, struct span path, struct uuid *out);

// Decides one step: a pure function of the state, the operation, the asker and the arrival. Appends the effect. That the stream is
// there and open is the caller's to check. ERR_JOB_EXISTS (this id, or a live job with that stream), ERR_NO_SUCH_JOB, ERR_JOB_ENDED.
int jobs_decide(struct db_txn *txn, int table, const struct batch_job *op, const struct identity *who, const struct commit *c,
                struct buf *effects, struct problem *p);
// Takes effects into the database, and drops ended jobs that have had their time. ERR_CORRUPT, ERR_NOMEM.
int jobs_apply(struct db_txn *txn, int table, const struct commit *c, struct span effects);

// Tokens of the jobs that ended on the day of `now_ms`.
uint64_t jobs_tokens(struct db_txn *txn, int table, uint64_t now_ms);
// Appends the request of a live job that is to be asked again. False: it has none.
bool jobs_ask(struct db_txn *txn, int table, struct uuid id, struct buf *out);

#endif
