// What the files that decide share: a batch's overlay over the store. It knows only the streams that the batch names, as copies.
#ifndef SEGUE_STREAM_DECIDE_H
#define SEGUE_STREAM_DECIDE_H

#include "stream_effects.h"
#include "stream_store.h"

// A producer as the batch would leave it. The id lives as long as the batch.
struct decided_writer {
    struct decided_writer *next;
    struct span id;
    struct stream_writer state;
};

// One path as the batch would leave it.
struct decided {
    struct hash_node node;
    bool exists;                // gone streams do
    struct stream_record rec;   // the path is filled in always
    bool has_seq;               // the batch has set a Stream-Seq:
    struct span seq;
    struct decided_writer *writers; // those that wrote in this batch …
    struct decided_writer first;    // … of which the first has its place here: most batches have no other
};

struct streams_batch {
    struct streams *s;
    struct db_txn *txn;
    const struct commit *c;
    uint64_t next_number;
    struct hash_table paths;
    struct buf effects;
};

// What an effect says of bytes is where they lie in the request.
static inline bool stream_in_request(const struct commit *c, struct span data)
{
    return data.n == 0 || (data.p >= c->request.p && data.n <= c->request.n && (size_t)(data.p - c->request.p) <= c->request.n - data.n);
}

// ---- the overlay (stream_decide.c) ---------------------------------------------------------------------------------

// What is at `path`; a fault of the store is an error.
int decided_get(struct streams_batch *b, struct span path, struct decided **out);
// The stream with this number, which must hold its path. ERR_CORRUPT where it does not; ERR_NO_SUCH_STREAM.
int decided_number(struct streams_batch *b, uint64_t number, struct decided **out);
// It is there for those who name it: neither gone nor past its deadline.
bool decided_lives(const struct streams_batch *b, const struct decided *d);
// The stream that must live for an operation to go on. ERR_STREAM_NOT_FOUND, ERR_STREAM_GONE, faults.
int decided_need(struct streams_batch *b, struct span path, struct decided **out, struct problem *p);
// Appends an effect. After an error it is not there.
int decided_effect(struct streams_batch *b, const struct effect *e, struct problem *p);
// Nothing of what a stream was is left for the next one at its path.
void decided_reset(struct decided *d);

// ---- the parts -----------------------------------------------------------------------------------------------------

// Deletes what exists, and every gone stream above it that nothing else reads; or makes it gone (stream_expiry.c).
int decided_delete(struct streams_batch *b, struct decided *d, struct problem *p);

// Fills in what a fork's creation says, from `op` and its source (stream_fork.c).
int decided_fork(struct streams_batch *b, const struct stream_create *op, struct effect *e, struct decided **source, struct problem *p);
// Is the fork that exists the one that is asked for?
int decided_same_fork(struct streams_batch *b, const struct decided *d, const struct stream_create *op, bool *same);

// Who writes, as the batch would leave it (stream_decide.c). Setting may fail for memory.
int decided_writer_find(struct streams_batch *b, struct decided *d, struct span id, struct stream_writer *out, bool *known);
int decided_writer_set(struct decided *d, struct span id, const struct stream_writer *state);
struct span decided_seq(struct streams_batch *b, const struct decided *d);

#endif
