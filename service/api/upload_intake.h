// The one engine that takes the body of a request into an upload, whatever protocol names it: plain PUT, tus, the IETF draft.
//
//      who asks                    engine
//      ────────                    ──────
//      intake_begin ─────────────> waits for the upload (the newest request wins), makes it where `make` says so
//                  <── begun ───── it is ours, at this offset; the body is let in (100 Continue goes out now if it is waited for)
//      intake_body … ────────────> windows ─> pool: cut, hash, write ─> every UPLOAD_PROGRESS_BYTES or _MS: sync, one batch
//                  <── kept ────── the offset that is durable now, as often as it moves while more is to come
//      intake_body_end ──────────> the last window ─> sync ─> one batch: progress, and completion with it
//                  <── ended ───── once: how it ended; reply from there
//      intake_leave                from the handler's `done`: what has arrived is saved without anybody being told
//
// Callbacks may come from within any of these calls, intake_begin among them (*out is set before), and none comes after
// intake_leave. What ends an intake early: a newer request for the same upload (ERR_UPLOAD_TAKEN), the service's stop
// (ERR_SHUTTING_DOWN), a body that is too long (ERR_TOO_LARGE). What arrived is saved before `ended` tells of it, but where the
// body has a digest of its own (nothing of it is kept unless all of it is right) or is too long. Where the app is built again
// (ERR_BUSY) what came since the last `kept` is lost. Thread: the loop's.
#ifndef SEGUE_UPLOAD_INTAKE_H
#define SEGUE_UPLOAD_INTAKE_H

#include "app.h"
#include "http.h"
#include "server.h"

struct intake;

enum intake_end {
    INTAKE_AT_LENGTH, // the upload is done when it has its length (tus)
    INTAKE_AT_END,    // the end of the body is the end of the upload, and so is its length; a length that was said must fit: ERR_UPLOAD_LENGTH
    INTAKE_NEVER,     // more will come, even where the length is reached
};

struct intake_state {
    uint64_t offset;              // durable
    uint64_t length;              // UPLOAD_LENGTH_UNKNOWN: not said yet
    uint64_t seq;                 // of the last commit that this request made; 0: none
    bool exists;                  // with `make`: it was made. A `once` that was small never is
    bool done;                    // complete; by this request or before it
    struct sha256 digest;         // of one that is done
    uint64_t size;                // of one that is done
    bool stored_before;           // `once`: the blob was there already
    uint64_t expires_ms;          // of one that is not done; 0: never
    const struct problem *problem; // `ended` only: why not everything was taken; NULL: it was
};

struct intake_plan {
    struct uuid id;
    const struct upload_new *make; // makes it, with this; NULL: it is there. Copied
    bool make_first;               // in a commit of its own before `begun`, so that its address can be told; else with what is stored first
    bool once;                     // with `make`: nobody can go on with it, it is dropped where it ends without being done
    enum intake_end end;
    bool has_offset;
    uint64_t offset;               // where the body goes; else ERR_UPLOAD_OFFSET
    bool has_length;
    uint64_t length;               // of the whole, which may have been unknown until now: else ERR_UPLOAD_LENGTH
    const struct sha256 *promised; // of the whole where it is done with this body: else ERR_DIGEST_MISMATCH, and it is not done. Copied
    unsigned digests;              // enum digest_kind, of this body: the values come by intake_expect, before its end
    uint64_t body_max;             // bytes of this body, ERR_TOO_LARGE beyond; 0: no limit but the upload's
    // Called with `ctx`. `begun` and `kept` may be NULL.
    void *ctx;
    void (*begun)(void *ctx, const struct intake_state *s);
    void (*kept)(void *ctx, const struct intake_state *s);
    void (*ended)(void *ctx, const struct intake_state *s);
};

// Takes over r's backpressure (request_pause, request_resume) and its timer. On an error there is no intake, and nobody is
// called: ERR_BUSY, ERR_NO_SPACE, ERR_READ_ONLY, ERR_TOO_MANY, ERR_NOMEM.
int intake_begin(struct request *r, const struct intake_plan *plan, struct intake **out);
void intake_body(struct intake *u, struct span piece);
// Where the body's next bytes may be put, so that they need not be copied: see handler.body_room.
uint8_t *intake_room(struct intake *u, size_t *n);
// What the body's digest must be: else ERR_CHECKSUM. Of kinds that were announced in the plan at least one must be given before the end.
void intake_expect(struct intake *u, enum digest_kind kind, struct span value);
void intake_body_end(struct intake *u);
// Nothing more is wanted: `ended` tells of `err` when what arrived is saved.
void intake_stop(struct intake *u, int err);
// The request is gone, or has its reply: exactly once, by whoever began it. NULL is fine.
void intake_leave(struct intake *u);

#endif
