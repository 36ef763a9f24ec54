// The body of an answer that gives out parts of blobs or uploads, one behind the other. What was verified and is in the kernel's memory goes from
// the pack file to the socket; all else is read and verified on a lane of the service first, a plan at a time.
//
//      owner's ops.open ─> plan ─┬─ a piece as it lies ───────────┬─> ops.tell before the first byte of a part ─> reply ─> … next part
//                                ├─ lane: read and verify ────────┘                                        no more parts: ops.end, done
//                                └─ nothing there yet (an upload): waits for blob_send_go
//
// Status and fields are told when the first bytes are at hand: damage there is an answer of its own (`corrupt`), not a connection cut. Damage later
// cuts it. While the socket takes what was read, the lane reads on, one plan ahead. Thread: the loop's.
#ifndef SEGUE_BLOB_SEND_H
#define SEGUE_BLOB_SEND_H

#include "app.h"
#include "http.h"
#include "lane.h"
#include "server.h"

struct blob_send;

struct blob_send_ops {
    // Opens the next part. 1: *out; 0: there is none; negative: an error.
    int (*open)(struct blob_send *s, struct blob_reader **out);
    // Bytes of a part will follow: sends what stands before them; with `first`, status and fields.
    void (*tell)(struct blob_send *s, bool first);
    void (*end)(struct blob_send *s); // what stands behind the last part, before the reply's end; may be NULL
    void (*release)(struct blob_send *s); // lets go of what it holds of the app's stores, perhaps more than once; may be NULL
    void (*free)(struct blob_send *s);
};

// The first member of the owner's struct, zeroed before.
struct blob_send {
    struct app_user user;
    const struct blob_send_ops *ops;
    struct request *r; // NULL once the peer is gone
    struct blob_reader *reader;
    struct buf read; // what the lane has read
    bool told;       // the reply's fields
    bool part_told;
    bool working; // on the lane
    bool ready;   // it has read, or failed with `err`, and that was not sent or told
    bool over;
    int err;
    struct lane_job work;
    struct app_wait wait;
};

// Begins; the answer is under way, or has been sent, or refused with a problem, when it returns. The owner is freed by ops.free, from within blob_send_done or
// later. Sets r->data.
void blob_send_begin(struct blob_send *s, struct request *r, const struct blob_send_ops *ops);
void blob_send_go(struct blob_send *s);    // the socket has room, or the upload more bytes
void blob_send_done(struct request *r);    // the handler's `done`; fine where nothing was begun
void blob_send_drain(struct request *r);   // the handler's `drain`

#endif
