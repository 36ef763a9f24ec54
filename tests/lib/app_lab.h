// An app in a temporary folder, driven in one thread without sockets: batches in as JSON, fates out. For tests of service/.
#ifndef SEGUE_APP_LAB_H
#define SEGUE_APP_LAB_H

#include "app.h"
#include "hub.h"

#define LAB_SEGMENT (64 * 1024) // of the journal: small, so that tests fill several

// A batch on its way, and what it was answered.
struct lab_batch {
    struct submission submission; // first
    struct buf request;
    bool done;
    int calls;       // of `done`: must be one
    struct app *app;
    bool readable;   // was there a transaction to read through when it was answered?
    struct fate fate; // its results point into `results`
    struct buf results;
};

struct app_lab {
    char *folder;
    char *path; // the app's folder
    struct app_options options;
    struct app *app;
    struct lab_batch last; // of lab_run and its kin
};

// With SEGUE_LAB_FLIGHTS in the environment its disk is waited for by a thread (flights.h). Options may be changed between init and open. Opening must succeed.
void app_lab_init(struct app_lab *l);
void app_lab_open(struct app_lab *l);
// Before it is opened: runs the hub's woken readers whenever the app has something to show, as the server does.
void app_lab_wake(struct app_lab *l, struct hub *hub);
void app_lab_close(struct app_lab *l); // the app alone
void app_lab_free(struct app_lab *l);  // and the folder
void app_lab_reopen(struct app_lab *l);

// Copies a folder with all in it, as it is at this moment. `to` must not be there.
void folder_copy(const char *from, const char *to);
void folder_remove(const char *path);
// What kill -9 at this moment would leave: another lab on a copy, opened.
void app_lab_fork(struct app_lab *l, struct app_lab *copy);

// Text with ' for " as JSON; the caller frees it.
char *lab_json(const char *text);

// Submits; a refusal is the result, and *b is unused then. Free it when it is done.
int lab_submit(struct app_lab *l, struct lab_batch *b, const char *json);
void lab_batch_free(struct lab_batch *b);
// Submits, turns, and gives the fate's error; l->last holds the whole fate until the next one.
int lab_run(struct app_lab *l, const char *json, ...) __attribute__((format(printf, 2, 3)));
int lab_schema(struct app_lab *l, const char *sql);
// Stores content as a blob, in a batch.
int lab_blob(struct app_lab *l, struct span content, const char *type, struct sha256 *digest);
// A batch made by the caller of operations of any kind.
int lab_ops(struct app_lab *l, const struct batch_op *ops, size_t count, const char *key);

// Runs sealing until nothing is due, or a job failed: its error.
int lab_seal(struct app_lab *l);
// As if the database had been dirty for long: false if it was not, or the commit failed.
bool lab_commit_db(struct app_lab *l);
// Commits the database, and lets the journal forget what it may.
void lab_settle(struct app_lab *l);
// Ticks until the app is READY. False: it did not get there.
bool lab_recover(struct app_lab *l);

// The rows of a query, one JSON array.
int lab_query(struct app_lab *l, const char *sql, uint64_t at, struct buf *out);
// The same on a branch, as it was then.
int lab_branch_query(struct app_lab *l, const char *branch, const char *sql, uint64_t at, struct buf *out);
bool lab_rows_are(struct app_lab *l, const char *sql, const char *rows);
// All of a stream from the beginning.
int lab_stream(struct app_lab *l, const char *path, struct buf *out);
bool lab_stream_is(struct app_lab *l, const char *path, const char *text);
// The state hash as 64 hexadecimal characters, with a terminator.
void lab_hash(struct app_lab *l, char out[65]);

// One of a row of batches that use everything: rows, streams, blobs, names, rejections. Same `i`, same batch. Needs lab_workload_schema.
extern const char lab_workload_schema[];
int lab_workload(struct app_lab *l, unsigned i);

#endif
