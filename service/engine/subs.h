// Subscriptions in the database: durable cursors over streams that wake workers (PROTOCOL.md, "subscriptions of workers"). A step of one
// is an operation of the service's own (BATCH_SUBSCRIPTION), alone in its batch.
//
//              wake                      done, release, lease over
//      IDLE ─────────> WAKING ──────────────────────────────> IDLE
//       │                │  ^  retry (the delivery failed)                 webhook: the lease runs from the wake on
//       │                v  │ attempt (its time has come)
//       │             RETRYING
//       └──claim──> HELD <──claim── WAKING                                 pull-wake: the lease runs from the claim on
//
// Every wake has the next generation and an id of its own; a step that names others is refused (ERR_FENCED) and changes nothing.
// A stream that a pattern matches needs no record: its cursor stands at where the stream was when the subscription was made (the start,
// for a stream that is younger), until something of it is acknowledged. Of a token only its hash is kept.
#ifndef SEGUE_SUBS_H
#define SEGUE_SUBS_H

#include "commit.h"
#include "digest.h"
#include "streams.h"

struct db_txn;

#define SUBS_TABLES "subs"
#define SUBS_TABLE_COUNT 1

enum sub_type { SUB_WEBHOOK = 1, SUB_PULL };
enum sub_where { SUB_IDLE, SUB_WAKING, SUB_HELD, SUB_RETRYING };

// A subscription as it stands. Spans point into the record.
struct sub {
    struct span id;
    uint64_t born; // the seq that made it: no other has it, even one of this id
    uint64_t created_ms;
    enum sub_type type;
    struct span pattern;     // empty: none
    struct span url;         // of a webhook
    struct span base;        // "scheme://host" under which its maker sees this service
    struct span wake_stream; // of pull-wake
    bool has_description;
    struct span description;
    uint64_t lease_ttl_ms;
    struct sha256 config; // hash of all that makes two requests for it equal
    uint64_t links;       // explicit ones

    enum sub_where state;
    uint64_t generation;     // of the last wake; 0: none yet
    struct uuid wake;        // its id
    struct sha256 token;     // of the secret that may answer for it
    uint64_t lease_ms;       // when the lease ends; 0: none runs
    uint64_t attempts;       // to deliver that failed in a row
    uint64_t next_attempt_ms; // 0: none is scheduled
    struct span holder;      // with SUB_HELD
};

void sub_encode(struct buf *out, const struct sub *s); // without its id
int sub_decode(struct span record, struct span id, struct sub *out); // ERR_CORRUPT

// ---- operations ----------------------------------------------------------------------------------------------------

enum sub_step {
    SUB_CREATE = 1,
    SUB_DELETE,
    SUB_LINK,
    SUB_UNLINK,
    SUB_FORGET, // the cursor of a stream that is gone, unless it was linked by name
    SUB_WAKE,
    SUB_ATTEMPT,
    SUB_RETRY,
    SUB_EXPIRE,
    SUB_CLAIM,
    SUB_ACK,
    SUB_RELEASE
};

struct sub_op {
    enum sub_step step;
    struct span id;
    // SUB_CREATE:
    enum sub_type type;
    struct span pattern, url, base, wake_stream, description;
    bool has_description;
    uint64_t lease_ttl_ms;
    // SUB_CREATE (sorted, each once), SUB_LINK, SUB_UNLINK, SUB_FORGET: paths, each with its length before it
    struct span paths;
    // From SUB_WAKE on: which wake is meant. With SUB_WAKE the generation is the one before, and `wake` the new id; a SUB_CLAIM that
    // finds no wake makes this one.
    uint64_t born, generation;
    struct uuid wake;
    struct sha256 token;
    struct span stream;  // SUB_WAKE, SUB_CLAIM: one with something new
    struct span event;   // SUB_WAKE of pull-wake: the message for its wake stream
    uint64_t jitter;     // SUB_WAKE, SUB_RETRY: of the pause before the next attempt, in thousandths: 800 to 1200
    struct span holder;  // SUB_CLAIM
    struct span acks;    // SUB_ACK: each a path with its length before it, and an offset as varint
    bool done;           // SUB_ACK
};
void sub_op_put(struct buf *out, const struct sub_op *op);
int sub_op_read(struct span text, struct sub_op *out); // ERR_CORRUPT

// ---- looking -------------------------------------------------------------------------------------------------------

// What a subscription asks of the streams: as of the batch being decided, or as of what is shown.
struct subs_host {
    void *ctx;
    bool (*find)(void *ctx, struct span path, struct stream_info *out); // living ones alone
    bool (*find_at)(void *ctx, struct span path, uint64_t seq, struct stream_info *out);
    int (*append)(void *ctx, struct span path, struct span message, struct problem *p); // deciding only
};

// 1: found, and *out lives until the next write to `txn`; 0: there is none; ERR_CORRUPT or the transaction's error.
int subs_find(struct db_txn *txn, int table, struct span id, struct sub *out);
// Each subscription in order of id, until `fn` says false. Must not write.
int subs_each(struct db_txn *txn, int table, bool (*fn)(void *ctx, const struct sub *s), void *ctx);

struct sub_cursor {
    bool linked;      // by its name, or by the pattern
    bool by_name;     // explicit
    bool exists;      // the stream
    uint64_t number;  // of the stream; 0: there is none
    uint64_t acked, tail;
    bool recorded;
};
static inline bool sub_cursor_pending(const struct sub_cursor *c)
{
    return c->linked && c->exists && c->tail > c->acked;
}
// Does its pattern mean this path? Its own wake stream is never meant.
bool sub_matches(const struct sub *s, struct span path);
// Where the subscription stands in the stream at `path`.
int subs_cursor(struct db_txn *txn, int table, const struct subs_host *host, const struct sub *s, struct span path, struct sub_cursor *out);
// Paths that are linked by name, in their order and behind `after` (empty: from the first), until `fn` says false. Must not write.
int subs_links(struct db_txn *txn, int table, const struct sub *s, struct span after, bool (*fn)(void *ctx, struct span path), void *ctx);

// ---- deciding, applying --------------------------------------------------------------------------------------------

// Decides one step: a pure function of the state, the operation and the commit's time. ERR_NO_SUCH_SUBSCRIPTION, ERR_SUBSCRIPTION_EXISTS (with another
// configuration), ERR_FENCED, ERR_ALREADY_CLAIMED, ERR_NOTHING_PENDING, ERR_BAD_OFFSET, ERR_BAD_REQUEST, ERR_TOO_MANY, ERR_RESERVED_PATH.
int subs_decide(struct db_txn *txn, int table, const struct subs_host *host, struct span op, const struct commit *c, struct buf *effects,
                struct problem *p);
// Takes effects into the database, and drops some of what deleted subscriptions left. ERR_CORRUPT.
int subs_apply(struct db_txn *txn, int table, struct span effects);

#endif
