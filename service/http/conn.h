// The inside of a connection, for conns.c, conn.c, request.c and reply.c. Nobody else includes this.
//
//            ┌───────────────────────── kept alive ─────────────────────────┐
//            v                                                              │
//          HEAD ──head──> BODY ──end──> REPLY ──reply ended──> (done) ──────┤
//            │              │ reply ended before the body                   │
//            │              └──> (done) ──> DISCARD: the body is dropped ───┘
//            │ malformed, too late, last reply, peer has ended              │ too much of it
//            └──────────────────────> LINGER <──────────────────────────────┘
//                                        │ outbox empty: FIN; then input is dropped until the peer's FIN, a bound or a deadline
//                                        v
//        REPLY ── upgraded ──> RAW: bytes both ways ── reply ended ──> LINGER
//         HEAD ── another set's head ──> MOVING: until what was told is out ──> CLOSED here, HEAD there, where that head comes first
//          any ── peer gone, reply broken ──> CLOSED (done is called; freed when libuv lets go)
//
// Where what a handler would look at is not to be looked at (conns_options.held), all but `done` waits: a connection that has come to that is in a list of its own.
// One thing happens at a time: handlers are called from conn_take (input) and conn_tick (the turn), never from within a call
// of theirs; what they ask for takes effect when they have returned.
#ifndef SEGUE_CONN_H
#define SEGUE_CONN_H

#include "compress.h"
#include "conns.h"
#include "egress.h"
#include "http_parse.h"
#include "outbox.h"
#include "wheel.h"

enum conn_state { CONN_HEAD, CONN_BODY, CONN_REPLY, CONN_RAW, CONN_DISCARD, CONN_MOVING, CONN_LINGER, CONN_CLOSED };
enum reply_state { REPLY_NONE, REPLY_FIELDS, REPLY_PIECES, REPLY_ENDED };

struct conn {
    uv_tcp_t tcp;
    struct conns *set;
    struct conn *next, *prev; // of the set
    struct conn *marked_next; // of those with something to do
    bool marked;
    struct conn *held_next, **held_at; // of those whose handler may not be called; NULL: it is none of them
    uint64_t id, requests;

    enum conn_state state;
    struct http_parse *parse;
    struct buf inbox; // came in and may not be looked at yet; while there is any, the socket is not read
    void *to;         // CONN_MOVING: where
    bool adopted;     // the head that it came with has not been looked at
    bool reading;
    bool eof;       // the peer has ended its side
    bool paused;    // by the handler
    bool old;       // HTTP/1.0
    bool expect;    // the peer waits for a 100 before it sends the body
    bool last;      // no request after this one
    bool broken;    // to be cut at the next turn
    bool shut;      // FIN is sent
    size_t dropped; // bytes read for nothing
    size_t body_n;  // bytes collected of the request's body
    uint64_t body_left; // that have not come, of a body whose length was said

    struct request *request; // NULL between requests, and once its reply has ended
    struct buf text;         // request_text
    bool begin_due, timer_due; // the handler was held when it should have been called
    void (*timer_fn)(struct request *r);
    struct wheel_entry timer;
    struct wheel_entry deadline;
    uint64_t read_ms, send_ms; // of the last progress

    enum reply_state reply;
    struct buf fields; // of the reply, until they are complete
    bool chunked, bodiless;
    int64_t left; // bytes of the announced length; -1: not announced
    enum coding coding;  // that its body may come in
    struct coder *coder; // what packs it; NULL: it goes as it is
    bool unflushed;      // what was put into it last may still be in there
    size_t packed_n;     // bytes put since it was flushed
    struct outbox out;
    bool full_told; // the producer waits for drain
    bool frames;    // and it writes frames: it waits until nothing is queued
    struct egress_frame frame; // while it is away, nothing else is written
    bool writing;   // a uv_write is on its way
    size_t writing_n;
    size_t writing_seen; // of it, still in libuv's queue when last looked
    uv_write_t write_req;
    uv_shutdown_t shutdown_req;
};

struct conns {
    struct conns_options options;
    uv_tcp_t listener;
    uv_check_t check;
    uv_idle_t idle;
    uv_timer_t timer;
    struct wheel wheel;
    struct conn *first;
    struct conn *marked, **marked_end; // in the order of marking: answers of a turn are marked before what it wakes
    struct conn *held, **held_end;
    struct egress *egress; // NULL: the loop writes all
    uint32_t count;
    uint64_t next_id;
    size_t body_n;     // of all connections
    int handles;       // that libuv still holds, connections included
    uint64_t armed_ms; // when the timer will fire; UINT64_MAX: it will not
    bool stalled;      // an accepted socket could not be taken for want of memory
    bool stopping, closing;
    struct conns_counts counts;
    uint8_t *scratch; // limits.read bytes: what one read takes
    char date[HTTP_DATE]; // of the second `date_s`
    uint64_t date_s;
};

// conn.c ----------------------------------------------------------------------------------------------------------------

// Takes an accepted socket over. False: no memory.
bool conn_open(struct conns *cs);
// Takes over what another set had, and `m`.
void conn_adopt(struct conns *cs, struct conn_moved *m);
// Looks after everything that is to be done; the connection may be closed after.
void conn_tick(struct conn *c);
// The same, once, at the end of this turn or at the next.
void conn_mark(struct conn *c);
// Its handler may not be called now; then it is called, or conn_tick, once it may.
bool conn_is_held(const struct conn *c);
void conn_hold(struct conn *c);
// Gives the socket what it takes of these at once, if nothing waits before them. Returns how much that was.
size_t conn_write(struct conn *c, const struct span *list, unsigned count);
// Hands a frame to other threads, if they take it and nothing waits before it. `conn_on_sent` is what happens then.
bool conn_write_aside(struct conn *c, struct bytes *b, size_t from, size_t n);
void conn_on_sent(struct egress_frame *f);
// Ends it now: the request is done, the socket is closed.
void conn_cut(struct conn *c);
// To be cut, but not from within a handler's call.
void conn_break(struct conn *c);

// reply.c ---------------------------------------------------------------------------------------------------------------

// What a packed reply was given in this turn is brought to its reader.
void reply_flush(struct conn *c);
// Its packing is over, finished or not.
void reply_uncode(struct conn *c);

// conns.c ---------------------------------------------------------------------------------------------------------------

uint64_t conns_now(const struct conns *cs); // milliseconds of the loop
void conns_set(struct conns *cs, struct wheel_entry *e, uint64_t due_ms, void (*fire)(struct wheel_entry *e));
void conns_link(struct conns *cs, struct conn *c);
void conns_unlink(struct conns *cs, struct conn *c);
void conns_total(atomic_uint *total, unsigned by); // NULL: nobody counts
void conns_handle_closed(struct conns *cs); // one of its handles is gone

#endif
