// Those who follow one stream by its HTTP surface: woken as one, served in turns, from frames that are made once.
//
//      (asks) ─> waiting ── served: one frame ──┬─ there is more ─> waiting, behind the others
//                  ^                            └─ else ──────────> idle
//                  └──── the stream changed: all idle ones ────────────┘
//
// A reader is a place in the stream and keeps no bytes. While its socket is full it is passed over; what the stream has when the
// socket is empty again comes in one larger piece. Thread: the app's owner.
#ifndef SEGUE_CROWD_H
#define SEGUE_CROWD_H

#include "app.h"
#include "http.h"
#include "hub.h"
#include "stream_frame.h"

struct crowd;
struct crowd_reader;

struct crowd_ops {
    // Sends what there is, one frame at most. True: there is more, and room for it. May leave the crowd.
    bool (*serve)(struct crowd_reader *reader, const struct stream_info *info);
    // The stream is there no more, or cannot be read: `err` says why. The reader has left the crowd.
    void (*over)(struct crowd_reader *reader, int err);
};

// Embedded in what follows; zeroed at first.
struct crowd_reader {
    const struct crowd_ops *ops;
    struct crowd *crowd; // NULL: it has left, or never came
    struct crowd_reader *next, *prev;
};

// Joins those who follow the stream that `info` is of. It is served when the stream changes next; before that when it asks.
int crowd_join(struct crowd_reader *reader, struct hub *hub, struct app *app, struct span path, const struct stream_info *info);
void crowd_leave(struct crowd_reader *reader); // one that is not in a crowd is fine
// To be served, in its turn.
void crowd_ask(struct crowd_reader *reader);

// The stream at `path` if it is still the one of this number. ERR_NO_SUCH_STREAM, also past its deadline; ERR_STREAM_GONE.
int crowd_look(struct app *app, struct span path, uint64_t number, struct stream_info *out);

// What a reader at `from` is told next: data, if there is any, and where that leads.
struct crowd_piece {
    uint64_t from, next;
    uint64_t cursor;
    bool up_to_date; // nothing is left behind it
    bool more;       // there is before `to`, right away
    struct reply_frame frame;
};

// The piece of [from, to) as of `info`, the newest; made now, or for another reader before. `to` is the tail, or behind an append before it. It lives until
// the next call. Errors are those of streams_read.
int crowd_piece(struct crowd_reader *reader, const struct stream_info *info, uint64_t from, uint64_t to, uint64_t cursor, const struct crowd_piece **out);
// Says something random that is the same for all of the crowd, so that they stay alike.
uint32_t crowd_jitter(const struct crowd_reader *reader);

#endif
