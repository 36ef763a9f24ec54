// A batch in its encoded form: what a writer asked for, before anything is checked against the state. This is what the
// journal keeps as the request, and what deciding reads.
#ifndef SEGUE_BATCH_H
#define SEGUE_BATCH_H

#include "digest.h"
#include "rows.h"

enum batch_op_kind {
    BATCH_INSERT = 1,
    BATCH_UPDATE = 2,
    BATCH_DELETE = 3,
    BATCH_CREATE = 4, // a stream
    BATCH_APPEND = 5,
    BATCH_CLOSE = 6,
    BATCH_DROP = 7,
    BATCH_BLOB = 8,   // the service's own: a finished upload
    BATCH_SCHEMA = 9, // the service's own: alone in its batch
    BATCH_JOB = 10,   // the service's own: a step of an LLM job, one in a batch
    BATCH_APPEND_AT = 16, // the service's own short form of an append: by the stream's number
    BATCH_UPLOAD = 11, // the service's own: a step of a resumable upload, in the blob store's words
    BATCH_TRIM = 12,   // a stream's begin
    BATCH_TOUCH = 13,  // the service's own: a stream was read
    BATCH_EXPIRE = 14, // the service's own: a stream's time is over
    BATCH_BLOB_STEP = 17, // the service's own: a step in a blob's life, in the blob store's words
    BATCH_UPSERT = 18,
    BATCH_RESTORE = 19,
    BATCH_READS = 20, // what a transaction has read: first in its batch, and what makes it one
    BATCH_HORIZON = 21, // the service's own: how far back history reaches; alone in its batch
    BATCH_BRANCH = 22, // a step of a branch
    BATCH_SUBSCRIPTION = 15, // the service's own: a step of a subscription, in the words of subs.h, one in a batch
};

// What is done to a stream, found by its path or as the column of a row. Members not said are zero, and take no room.
struct batch_stream {
    struct span path; // empty: by row
    struct span table, column;
    struct uuid id;
    uint64_t number;  // BATCH_APPEND_AT: this alone says where
    struct span type; // content type; empty: not said
    struct span data; // of an append, a new stream's content, a trim's snapshot
    bool messages;    // `data` is JSON messages
    bool close;       // the operation ends the stream, or makes an ended one
    bool has_expect;
    uint64_t expect;  // the offset at which the stream must end; of a trim, where it is to begin
    struct span seq;  // a writer's own sequence
    struct span producer; // an idempotent producer's id …
    uint64_t epoch, pseq; // … and numbers
    // Of a new stream:
    bool has_ttl;
    uint64_t ttl_s;
    uint64_t expires_ms;
    struct span fork_of;
    bool has_fork_offset;
    uint64_t fork_offset, fork_sub;
    bool to_tail; // of a trim: all that there is
};

// A step that the service takes on a stream by its number.
struct batch_care {
    uint64_t number;
    uint64_t access_ms; // of a touch
};

struct batch_blob {
    struct sha256 digest;
    struct span type;
    struct span manifest;
};

// States of an LLM job, by their number in the journal. The first three are alive, the others its end.
enum job_state { JOB_QUEUED = 1, JOB_CONNECTING, JOB_STREAMING, JOB_DONE, JOB_FAILED, JOB_CANCELLED, JOB_INTERRUPTED };

struct batch_job {
    struct uuid id;
    enum job_state state; // what it becomes, or stays: then it keeps what `progress` says
    bool make;            // it is new; the state is one of the first two
    // With `make`:
    uint8_t api, form;         // enum llm_api, enum llm_form
    bool background;           // the provider goes on without us, and can be asked for the rest
    bool fork;                 // after a restart it is asked again, into a fork of its stream
    struct span provider;
    struct span path;          // of the stream that it writes; empty: the column of a row
    struct span table, column;
    struct uuid row;
    struct span status_column, usage_column; // empty: none
    struct sha256 request;                   // binds the id to what was asked
    struct span ask;                         // with `fork`: the request itself
    uint64_t start;                          // offset at which the stream began
    // With another live state:
    struct span progress; // what a resumption needs; empty: as before
    // With an end:
    int err; // why; 0 with JOB_DONE
    struct span text, usage, finish;
    uint64_t tokens; // used, as far as known
    uint32_t status; // of the provider's last answer; 0: none came
    struct span successor; // path of the fork in which it is asked again; empty: it is not
    struct uuid heir;      // the job that does
};

// What a transaction has read, and when.
struct batch_reads {
    uint64_t base;   // the seq that it read at; 0: before the first commit
    struct span set; // a read set, encoded (read_set.h); empty: none
    struct span rows; // and rows by name: batch_reads_row
};

// A step of a branch (branches.h).
enum branch_step { BRANCH_CREATE = 1, BRANCH_WRITE, BRANCH_DROP, BRANCH_MERGE, BRANCH_COMMIT }; // the last: merge it as a transaction

struct batch_branch {
    enum branch_step step;
    struct span name;
    bool has_base;   // BRANCH_CREATE: the seq that it is made at, else the one before its own …
    uint64_t base;
    bool live;       // … and whether it follows the state
    struct span ops; // BRANCH_WRITE: encoded operations
};

struct batch_op {
    enum batch_op_kind kind;
    union {
        struct batch_branch branch;
        struct batch_reads reads;
        struct row_op row;
        struct batch_stream stream;
        struct batch_blob blob;
        struct span schema;
        struct batch_job job;
        struct span upload;
        struct span step;
        struct span subscription;
        struct batch_care care;
        uint64_t horizon;
    };
};

// Is it an operation on a row?
static inline bool batch_op_is_row(enum batch_op_kind kind)
{
    return kind <= BATCH_DELETE || kind == BATCH_UPSERT || kind == BATCH_RESTORE;
}

// ---- encoding ------------------------------------------------------------------------------------------------------

// Appends one operation. Spans must fit their limits (asserted); values are as in rows.h.
void batch_put_op(struct buf *out, const struct batch_op *op);

// A row of batch_reads.rows, put and taken off the front. 1: a row, 0: the end, ERR_CORRUPT.
void batch_put_reads_row(struct buf *out, struct span table, struct uuid id);
int batch_reads_row(struct span *rows, struct span *table, struct uuid *id);
// Is the encoded batch a transaction?
bool batch_is_transaction(struct span request);

// The name by which a writer knows its batch.
struct batch_name {
    enum { BATCH_UNNAMED, BATCH_REPLICA, BATCH_KEY } kind;
    struct uuid replica;
    uint64_t counter; // from 1
    char key[BATCH_KEY_MAX + 1];
};

// A batch as it comes over the wire (PROTOCOL.md, "batch").
struct batch_head {
    struct batch_name name;
    uint64_t base;  // 0: not said, or a transaction's, which is in the encoded form
    uint64_t stamp; // 0: not said
    size_t ops;
    bool inserts;   // among them inserts
    bool transaction;
};

// Reads a batch's JSON into `head` and encoded operations. ERR_BAD_JSON, ERR_BAD_BATCH, ERR_TOO_LARGE, with the byte's or the operation's position; the service's own
// operations are not taken.
int batch_from_json(struct span json, struct batch_head *head, struct buf *out, struct problem *p);

struct jr;
// The same of a message that is a batch with "type" and "id" beside its members; `text_bytes` is the length of its text.
int batch_from_message(const struct jr *message, size_t text_bytes, struct batch_head *head, struct buf *out, struct problem *p);
// Operations alone, an array or NULL, as encoded operations. With `give_ids` inserts that name no id get one now, so that its sender can be told.
int batch_ops_from_json(const struct jr *ops, size_t text_bytes, bool give_ids, size_t *count, bool *inserts, struct buf *out, struct problem *p);
// The name among a batch's members: "replica" and "counter", "key", or nothing.
int batch_name_from_json(const struct jr *batch, struct batch_name *name, struct problem *p);
// The name alone, which must be there.
int batch_name_from_message(const struct jr *message, struct batch_name *name, struct problem *p);
// A message that is one append: where and what, perhaps "expect". `data` not NULL: the bytes came beside it. Positions count as in a batch of one operation.
int batch_append_from_message(const struct jr *message, const struct span *data, struct buf *out, struct problem *p);

// One JSON value as a neutral value; texts point into the tree, canonical JSON of objects and arrays is appended to `scratch` (which must not move: reserve first,
// or keep it until the value is encoded). ERR_TOO_LARGE.
int batch_value_from_json(const struct jr *json, struct buf *scratch, struct row_value *out);

// ---- decoding ------------------------------------------------------------------------------------------------------

struct batch_reader {
    struct span rest;
    struct row_column *columns; // of the operation read last
    size_t column_cap;
};

void batch_reader_init(struct batch_reader *r, struct span request);
// 1: an operation, which lives until the next call; 0: the end; ERR_CORRUPT or ERR_NOMEM.
int batch_read(struct batch_reader *r, struct batch_op *out);
void batch_reader_free(struct batch_reader *r);

#endif
