// libsegue: a client of Segue in C. The only public header; `pkg-config --libs --static segue` names what to link.
//
// A `struct segue` speaks to one app of one service, over one connection that is kept, and over a few more while it brings or
// fetches files. One thread at a time uses it; several of them are independent of each other. Callbacks come on the thread that called. Every call blocks until it is done, and goes on by itself over broken connections:
//
//   * what may have arrived and whose answer was lost is sent again under the same name, so that it is applied once
//   * a subscription goes on after its cursor, a stream at its offset, a file at the byte where it broke off
//
// Strings that are given are read during the call alone. Strings that are given back live until the next call on the same
// `struct segue`, unless it says otherwise.
#ifndef SEGUE_SEGUE_H
#define SEGUE_SEGUE_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SEGUE_VERSION "0.1.0"

// ---- the client ------------------------------------------------------------------------------------------------

struct segue;

struct segue_options {
    const char *url; // http://host:port; NULL: http://127.0.0.1:7420
    const char *app; // NULL: default
    const char *key; // NULL: none is sent
    // How many seconds to go on trying when the service cannot be reached, or asks to come again. 0: one that was never reached ends
    // the call at once; one that was is tried for 30 seconds, by segue_subscribe and segue_stream_tail without end. Negative: never again.
    double retry_s;
    // Looked at while segue_subscribe, segue_stream_tail and what puts and gets files are under way: not 0 ends them, within
    // seconds, with SEGUE_CANCELED. A signal handler may set it. It has to outlive the client. NULL: nothing ends them.
    const volatile sig_atomic_t *stop;
};

// Connects to nothing yet. `options` may be NULL. NULL: no memory, or url, app and key are not fit for a request.
struct segue *segue_new(const struct segue_options *options);
void segue_free(struct segue *s); // NULL is fine

// ---- how calls end ---------------------------------------------------------------------------------------------

// What every call returns.
enum {
    SEGUE_OK = 0,
    SEGUE_REFUSED = 1,     // by the service, or the machine failed
    SEGUE_USAGE = 2,       // an argument or a file is not fit; nothing was sent
    SEGUE_UNREACHABLE = 3, // no connection, or it broke and the time to try again is over
    SEGUE_CANCELED = 4,    // `stop` was set, or a callback gave non-zero back
};

struct segue_error {
    int result;         // SEGUE_*, of the last call
    int status;         // of HTTP, where the service refused; else 0
    const char *code;   // a wire code of service/PROTOCOL.md ("row_exists"), which programs may compare; "ok"
    const char *detail; // a sentence for people; may hold characters that do not belong on a terminal
    int64_t position;   // a byte of the SQL or JSON that was sent, or an operation's index; -1: none
};

// Never NULL; lives as long as the client and tells of its last call.
const struct segue_error *segue_error(const struct segue *s);

// The body of the service's last answer, usually JSON as PROTOCOL.md has it, with a NUL behind it. `n` may be NULL. Of calls that
// say so; empty otherwise.
const char *segue_answer(const struct segue *s, size_t *n);

// A new id (UUIDv7), for rows and jobs: 36 characters and a NUL.
void segue_id(char text[37]);

// ---- apps ------------------------------------------------------------------------------------------------------

// Of the service, whatever app the client speaks to. Names have a-z, 0-9, '-' and '_'. The answers: {"app", "state", "seq"}, of the list {"apps": […]},
// of a drop nothing. One that is there already is fine. A dropped app's subscribers are told, and all of it is gone.
int segue_app_list(struct segue *s);
int segue_app_create(struct segue *s, const char *name);
int segue_app_drop(struct segue *s, const char *name);

// ---- rows ------------------------------------------------------------------------------------------------------

// Publishes a schema (SQL). The answer: {"seq", "hash", "changed"}.
int segue_schema_put(struct segue *s, const char *sql, size_t n);
// The answer: the schema as SQL, or as JSON.
int segue_schema_get(struct segue *s, bool as_json);
// The same of any schema that was published, by its hash.
int segue_schema_get_old(struct segue *s, const char *hash, bool as_json);
// The answer: {"schemas": [{"version", "hash", "seq", "time"}], "before"?}, the newest first. `before`: those before this version; 0: all.
int segue_schemas(struct segue *s, unsigned before);

// Sends a batch as it is, {"ops": […]}, and waits until it is durable. One that does not name itself ("replica" and "counter", or
// "key") gets a key. The answer: {"fate", "seq", "ids"}.
int segue_batch(struct segue *s, const char *json, size_t n);

// The same with the operations alone, `{…},{…}`: what is between the brackets of "ops". Named by the client's own replica.
int segue_write(struct segue *s, const char *ops, size_t n);

struct segue_query_options {
    const char *sql;
    const char *const *params; // $1, $2 …: texts, read as the types that they are compared with
    size_t param_count;
    const uint64_t *as_of; // the state as of this commit; NULL: now
    bool explain;          // no rows, but how the service goes about it
    const char *branch;    // what this branch makes of it; NULL: none. Not together with as_of
};
// The answer: {"rows": […], "seq"}, to be explained {"rows": [], "seq", "explain": {"plan": […], "rows": n, "looked_at": n}}.
int segue_query(struct segue *s, const struct segue_query_options *what);

// ---- transactions ----------------------------------------------------------------------------------------------

// Reads are of one state, the one in which it began, with what it has written laid over it; it is committed only if nothing that
// it read was changed meanwhile, by whomever. Until then nobody sees anything of it, and the service keeps nothing of it: one may be
// begun, lie about for days, and be committed over another connection.
struct segue_tx;

// On success *out is the caller's, used with this client alone and freed before it.
int segue_tx_begin(struct segue *s, struct segue_tx **out);
void segue_tx_free(struct segue_tx *tx); // without a commit nothing has happened; NULL is fine
// The answer: {"rows": […], "seq"}. Parameters as in segue_query.
int segue_tx_query(struct segue_tx *tx, const char *sql, const char *const *params, size_t param_count);
// A row that was read in another way, or was found missing: it counts as read.
int segue_tx_row(struct segue_tx *tx, const char *table, const char *id);
// Operations, `{…},{…}`, as in segue_write. An insert that is to be updated or referred to later on names its id.
int segue_tx_write(struct segue_tx *tx, const char *ops, size_t n);
// Waits for its fate. The answer is as of segue_batch. SEGUE_REFUSED with the code "conflict": something was changed; the answer's "conflicts" are
// rows. Begin again then. Called again it is the same batch, and gets the same fate.
int segue_tx_commit(struct segue_tx *tx);

// What became of a batch: by its replica and counter, or (counter 0) by its key. The answer: as of segue_batch.
int segue_fate(struct segue *s, const char *name, uint64_t counter);
// What a row has been, the newest first, from the commit `at` (0: the last one) backwards. The answer: {"columns", "versions": […], "next"?}.
int segue_history(struct segue *s, const char *table, const char *id, uint64_t at);
// The rows that differ between two commits, `to` being the last one where it is 0; of one table, or (NULL) of all. The answer: {"from", "to", "rows": […]}.
int segue_diff(struct segue *s, uint64_t from, uint64_t to, const char *table);
// What rows would be if pending batches came: {"rows": [[table, id], …], "batches": […]}. The answer: {"seq", "batches", "rows"}.
int segue_preview(struct segue *s, const char *json, size_t n);

// ---- branches --------------------------------------------------------------------------------------------------

// A branch lies over a state of the app's rows, and is no part of it until it is merged. It is written to by a batch with the member "branch", and
// read by a query that names it. The answers are as PROTOCOL.md has them.
int segue_branch_list(struct segue *s);
// `at`: the seq that it starts from; NULL: the last. `live`: it follows what others commit.
int segue_branch_create(struct segue *s, const char *name, const uint64_t *at, bool live);
int segue_branch_diff(struct segue *s, const char *name);
// As one batch, or as a transaction, which is refused ("conflict") if a row that it writes was changed meanwhile. Then the branch is gone.
int segue_branch_merge(struct segue *s, const char *name, bool transaction);
int segue_branch_drop(struct segue *s, const char *name);

// ---- the outbox ------------------------------------------------------------------------------------------------

// Batches that are kept on the disk until their fates have been seen: made while there is no connection, sent when there is one, each applied once, in the order
// in which they were put. A rejected one does not hold up those behind it.
//
//   put ──> waiting ──> sent, answered ──> accepted, rejected … ──> seen: gone
//              └ drop: gone
//
// An outbox is a folder, for one app of one service. It may be open as often as one likes, in one process and in several: they share it. A `struct
// segue_outbox` and its client are used by one thread at a time, as everything here; for a thread that sends and another one that puts, open it twice, each
// with a client of its own. One at a time sends.
//
// What segue_outbox_put has taken survives a kill and a power cut. What is wrong with the machine, the network or the service (no connection, no room, busy,
// stopping) is no fate: the same batch is sent again under the same name, which the service gives the same fate.
struct segue_outbox;

struct segue_outbox_options {
    const char *path;     // a folder, which is made; NULL: one for this service and app below ${XDG_STATE_HOME:-~/.local/state}/segue/outboxes/
    unsigned batches_max; // that wait, or whose fates were not seen; 0: 10,000. At a bound segue_outbox_put is refused with "too_many"
    uint64_t bytes_max;   // of them; 0: 64 MiB
};

// Connects to nothing. `options` may be NULL. On success *out is the caller's, and is closed before its client is freed.
int segue_outbox_open(struct segue *s, const struct segue_outbox_options *options, struct segue_outbox **out);
void segue_outbox_close(struct segue_outbox *o); // NULL is fine

struct segue_outbox_batch {
    const char *json; // {"ops": […]}, with "base", "stamp", "branch", or "mode", "reads" and "rows", but without a name: that the outbox gives
    size_t n;
    const char *tag; // at most 64 bytes that come back with the fate; NULL: none
};

// Keeps a batch; *id is its number in this outbox, counted from 1. It is made now: unless it says so itself it carries the stamp of this machine's clock, and
// as its base the last commit that the program has seen (segue_outbox_saw), or else the last one that the service had told this outbox of. A clock that is a minute ahead of the
// service's has the batch rejected when it arrives ("stamp_ahead"). An error other than SEGUE_USAGE and "too_many" leaves open whether it is kept:
// segue_outbox_waiting tells.
int segue_outbox_put(struct segue_outbox *o, const struct segue_outbox_batch *batch, uint64_t *id);

// The program has seen the app's state as of this commit (an answer's "seq", a commit message's "to"): what it makes from now on is made in its knowledge.
int segue_outbox_saw(struct segue_outbox *o, uint64_t seq);

enum segue_fate_kind {
    SEGUE_WAITING,    // none yet
    SEGUE_ACCEPTED,   // `seq` is its commit
    SEGUE_REJECTED,   // `code`, `detail` and `position` say why: for good
    SEGUE_UNSENDABLE, // the service cannot read it (`code`, …): nothing came of it, and nothing would
    SEGUE_EXPIRED,    // it was settled so long ago that the service does not know how: after a copy of this folder had sent it
};

// Its strings live until the next call on the same outbox.
struct segue_outbox_entry {
    uint64_t id;
    const char *tag;      // "": none
    const char *replica;  // its name at the service: where `counter` is not 0
    uint64_t counter;     // 0: it has no name yet, and was never sent
    uint64_t made_ms;     // since 1970
    enum segue_fate_kind fate;
    uint64_t seq;
    const char *code; // of `service/PROTOCOL.md`; "ok"
    const char *detail;
    int64_t position; // an operation's index; -1: none
    const char *json; // the answer, as of segue_batch; of one that waits the batch, without its braces
    size_t n;
};

struct segue_outbox_send_options {
    // Each fate as it comes: it is kept already. The outbox may be used in it, but not to send. Not 0 ends the call with SEGUE_CANCELED. May be NULL.
    int (*on_fate)(void *ctx, const struct segue_outbox_entry *entry);
    void *ctx;
};
// Sends all that waits, what is put meanwhile too, and waits for the fates. Broken connections and a service that is busy are tried again as in every call. SEGUE_REFUSED
// ends it with everything kept: the key is none ("unauthenticated"), or
//   "busy"           another one sends from this outbox
//   "other_journal"  this is another service than the one that it has sent to, or that one was restored from a backup: segue_outbox_adopt
//   "name_reused", "counter_gap", "replica_bound"  a copy of this folder has sent something else, or this one was restored: segue_outbox_adopt
int segue_outbox_send(struct segue_outbox *o, const struct segue_outbox_send_options *options); // `options` may be NULL

// The first fate behind that of `after` (0: the first) that was not seen; entry->id is 0 where there is none.
int segue_outbox_fate(struct segue_outbox *o, uint64_t after, struct segue_outbox_entry *entry);
// It has been seen, and is forgotten. SEGUE_USAGE: there is none of this id. (A power cut may bring it back.)
int segue_outbox_seen(struct segue_outbox *o, uint64_t id);
// The first one behind `after` that waits; entry->id is 0 where there is none.
int segue_outbox_waiting(struct segue_outbox *o, uint64_t after, struct segue_outbox_entry *entry);
// One that waits is not to be sent. SEGUE_REFUSED ("exists"): it has a name, so it may have been sent. SEGUE_USAGE: it does not wait.
int segue_outbox_drop(struct segue_outbox *o, uint64_t id);

// All that waits is for whatever service answers next, under new names. What the service has applied of it without having told so it will apply again.
int segue_outbox_adopt(struct segue_outbox *o);

// ---- subscriptions ---------------------------------------------------------------------------------------------

enum segue_kind { SEGUE_QUERY, SEGUE_STREAM, SEGUE_UPLOAD };

struct segue_subscription {
    const char *name; // a word; what the messages call it
    const char *what; // a select; or a stream's path, with "@OFFSET" behind it where it does not begin at 0; or an upload's id
    enum segue_kind kind;
    const char *branch; // what this branch makes of the query; NULL: none. Merged or dropped, it ends the call with "no_such_branch"
};

// The value of $number in the query of that name.
struct segue_param {
    const char *query;
    unsigned number;
    const char *value;
};

// A stream column of that query's result, whose bytes come with it (PROTOCOL.md, "Stream columns").
struct segue_follow {
    const char *query;
    const char *column; // with "@OFFSET" or "@end" behind it where it does not begin at 0
};

struct segue_message {
    const char *json; // as PROTOCOL.md has it: welcome, commit, reset, error, and what later services say. No NUL behind it
    size_t n;
    const char *cursor; // that begins with this message: everything up to here has come. NULL: none
};

struct segue_subscribe_options {
    const struct segue_subscription *subscriptions;
    size_t count;
    const struct segue_param *params;
    size_t param_count;
    const struct segue_follow *follows;
    size_t follow_count;
    const char *cursor; // go on after it; NULL: with a snapshot
    // Each message, in order. Not 0 ends the call with SEGUE_CANCELED. During the call the client is not to be used.
    int (*on_message)(void *ctx, const struct segue_message *message);
    // The connection is gone and will be made again, once for each time: parts of a commit ("more") whose last part has not come are
    // to be dropped, they come anew. Everything else goes on. May be NULL.
    void (*on_break)(void *ctx, const char *why);
    void *ctx;
};
// Follows queries (on branches, too), streams and uploads over one connection until a callback or `stop` ends it, or the service refuses to go on: also where one of
// the queries is over (PROTOCOL.md, "Ends"), whose name begins the error's detail. The others can be asked for anew without it.
int segue_subscribe(struct segue *s, const struct segue_subscribe_options *what);

// ---- streams ---------------------------------------------------------------------------------------------------

#define SEGUE_APPEND_MAX ((size_t)512 * 1024) // bytes of one append

// `type`: NULL: application/octet-stream. One that exists with the same type is fine.
int segue_stream_create(struct segue *s, const char *path, const char *type);
// All of it, once, and durable when the call returns.
int segue_stream_append(struct segue *s, const char *path, const void *p, size_t n);
int segue_stream_close(struct segue *s, const char *path);

struct segue_tail_options {
    const char *path;
    const char *offset; // NULL: the beginning
    bool follow;        // until the stream is closed; else up to what is there now
    // The bytes, each once. Not 0 ends the call with SEGUE_CANCELED. NULL: they are not wanted, only the end is waited for.
    int (*write)(void *ctx, const void *p, size_t n);
    void *ctx;
};
int segue_stream_tail(struct segue *s, const struct segue_tail_options *what);

// ---- files -----------------------------------------------------------------------------------------------------

struct segue_blob {
    char digest[65]; // SHA-256, hexadecimal
    uint64_t size;
};

// How far it is, in bytes; `size` is 0 while it is not known. Called often.
typedef void segue_progress(void *ctx, uint64_t done, uint64_t size);

struct segue_put_options {
    int fd;                   // stays the caller's. What is no regular file at its beginning is read to its end first, into $TMPDIR
    const char *name;         // of the file: for errors, and for the service where the upload is a resumable one
    const char *type;         // NULL: application/octet-stream
    segue_progress *progress; // may be NULL
    void *ctx;
};
// Stores a content. Above 4 MiB only the chunks that the service lacks are sent, if it has any; else by a resumable upload. A call that ended in the middle is
// gone on with by the next one, also by another process (${XDG_STATE_HOME:-~/.local/state}/segue/uploads/ keeps which it was).
// *blob is written on success.
int segue_put(struct segue *s, const struct segue_put_options *what, struct segue_blob *blob);

struct segue_get_options {
    const char *digest; // 64 hexadecimal digits
    const char *range;  // "5-9", "5-" or "-5" as in HTTP; NULL: the whole, which is checked against the digest
    // A file that appears when it is complete and right. Until then it is PATH.part, which the next call goes on with.
    const char *path;
    // Where there is no path: the bytes as they come. Not 0 ends the call with SEGUE_CANCELED.
    int (*write)(void *ctx, const void *p, size_t n);
    segue_progress *progress; // may be NULL
    void *ctx;
};
int segue_get(struct segue *s, const struct segue_get_options *what);

// ---- directories -----------------------------------------------------------------------------------------------

// A directory is stored as its files and a text that names them, the tree, which is a blob of this type; clients/c/README.md has its format.
// Kept are names, contents, symbolic links, permissions and empty directories; not times and owners.
#define SEGUE_TREE_TYPE "application/vnd.segue.tree"

struct segue_put_tree_options {
    const char *path;
    // What was there is remembered on this machine: the next call reads and sends only what has changed since.
    bool remember;
    // With `remember`, behind the success: what has been added ('A'), modified ('M') or deleted ('D') since the last call. May be NULL.
    void (*on_change)(void *ctx, char change, const char *path);
    void (*on_skip)(void *ctx, const char *path); // what is no file, directory or link, and is left out. May be NULL
    segue_progress *progress;                     // of the bytes of all files; may be NULL
    void *ctx;
};
// Stores a directory, over several connections; what the service has of it is not sent. The tree and all of its files are pinned
// (segue_tree_unpin lets them go). Equal directories are equal trees. A file that changes meanwhile ends the call. *tree is written on success.
int segue_put_tree(struct segue *s, const struct segue_put_tree_options *what, struct segue_blob *tree);

struct segue_get_tree_options {
    const char *digest;
    const char *path;         // a directory, which is made if it is not there
    segue_progress *progress; // may be NULL
    void *ctx;
};
// Makes what the tree says in the directory, and touches nothing outside of it, whatever the tree or the directory has. Files that are there with
// the right content stay; others of these names are replaced; what the tree does not name stays. A call that ended in the middle is gone
// on with by the next one.
int segue_get_tree(struct segue *s, const struct segue_get_tree_options *what);

// Pins a tree and its files. SEGUE_REFUSED: it is not whole any more.
int segue_tree_pin(struct segue *s, const char *digest);
// Lets a tree and its files go, but for those that these other trees have: the service does not know which trees share a file.
int segue_tree_unpin(struct segue *s, const char *digest, const char *const *keep, size_t keep_count);

// Whether a blob was stored as a tree.
int segue_is_tree(struct segue *s, const char *digest, bool *is);

// For who looks after a service. The answers are those of PROTOCOL.md, section 9: reads and verifies every chunk, which takes as long as the
// disk does; sums; and whether a blob is kept although no row names it.
int segue_blobs_check(struct segue *s);
int segue_blobs_usage(struct segue *s);
int segue_blob_pin(struct segue *s, const char *digest, bool pinned);

// ---- LLM jobs --------------------------------------------------------------------------------------------------

// Makes a job, {"job", "request", "target", …} as PROTOCOL.md has it; with an id of the caller's ("job") it is made once. It goes on
// without the caller. The answer names the stream that the reply goes into: segue_stream_tail follows it.
int segue_job_make(struct segue *s, const char *json, size_t n);
// The answer: the job's record.
int segue_job_get(struct segue *s, const char *id);
int segue_job_cancel(struct segue *s, const char *id);

#ifdef __cplusplus
}
#endif

#endif
