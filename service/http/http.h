// HTTP/1.1 as the API surfaces see it: a request, its body, a reply. RFC 9110 and 9112; where the parser library is lax, a
// scan ahead of it is strict (service/http/http_scan.c). One thread: the loop's.
//
// Life of a request, and who calls what on a handler:
//
//      head ──> begin ─┬─ collected body: begin is called once all of it is in r->body
//                      └─ streamed body: body … body, body_end        (request_pause / request_resume: backpressure)
//      reply_start, reply_header …, then reply_body, or reply_stream with reply_write … reply_end
//      drain: after reply_write said "full", the outbox has room again
//      raw:   after reply_upgrade the connection is another protocol's: its bytes come here, and reply_write writes bytes as they are
//      done:  exactly once, last, whatever happened (sent, peer gone, service stopping): release r->data here
//
// A reply may come in any later turn of the loop. Pipelined requests of a connection are handled one after the other. After `done`
// the request is gone. Between a peer's leaving and `done` nothing is called; reply calls on a dead request are harmless no-ops.
#ifndef SEGUE_HTTP_H
#define SEGUE_HTTP_H

#include "auth.h"
#include "buf.h"
#include "compress.h"
#include "problem.h"

struct app;
struct request;
struct server;

enum method { METHOD_GET = 1, METHOD_HEAD = 2, METHOD_POST = 4, METHOD_PUT = 8, METHOD_DELETE = 16, METHOD_PATCH = 32, METHOD_OPTIONS = 64 };

struct handler {
    void (*begin)(struct request *r);
    void (*body)(struct request *r, struct span piece); // NULL: the body is collected
    void (*body_end)(struct request *r);                // streamed only
    // May be NULL: where the socket shall put the next of a body, at most *n bytes, which is set to how many fit; NULL: anywhere. What came
    // there is what `body` is called with next. The place is used before anything else happens.
    uint8_t *(*body_room)(struct request *r, size_t *n);
    void (*drain)(struct request *r);                   // may be NULL
    // After reply_upgrade: takes bytes off the front of `in` and returns how many; the rest comes again after request_resume, or with more. Also called, perhaps with
    // nothing, in a turn that looks at the connection. While anything is left the socket is not read.
    size_t (*raw)(struct request *r, struct span in);
    void (*done)(struct request *r);                    // may be NULL
    uint64_t body_max;                                  // bytes of decoded body; beyond: 413, before anything more is read
};

struct request {
    struct server *server;
    struct app *app;           // of /apps/<app>/…, else NULL
    const struct handler *handler;
    enum method method;
    struct span path;          // percent-decoded, for routes with a tail: what follows the route (a stream's path, a digest)
    struct span query;         // raw, without the '?'
    struct identity identity;  // checked
    struct buf body;           // collected body
    int64_t content_length;    // -1: not given (chunked or none)
    const char *fields;        // whole header lines that every reply to it has; NULL: none
    void *data;                // the handler's
    void *timed;               // of whoever set the timer in the handler's stead
    struct conn *conn;         // the connection's own
};

// ---- reading -------------------------------------------------------------------------------------------------------

// A header field's value without surrounding white space; several of one name are joined by ", ". Name in lower case. False: absent.
bool request_header(const struct request *r, const char *name, struct span *value);

// The same of a trailer behind a chunked body, in `body_end`; several of one name are not joined, the first one counts.
bool request_trailer(const struct request *r, const char *name, struct span *value);

// Walks the query string: percent-decoded (and '+' as space) names and values into `scratch`, in order. Start with *at = 0. False: no more.
// ERR_BAD_PARAMETER through *err for broken escapes, NULs or invalid UTF-8.
bool request_param_next(const struct request *r, size_t *at, struct buf *scratch, struct span *name, struct span *value, int *err);
// The one parameter of this name, decoded into `scratch`. 1: found, 0: absent, negative: ERR_BAD_PARAMETER (given twice, broken).
int request_param(const struct request *r, const char *name, struct buf *scratch, struct span *value);

// Streamed bodies: stops reading from the socket, and goes on. Counted once: pausing twice is pausing. After an upgrade resuming has `raw` called in the next turn.
void request_pause(struct request *r);
void request_resume(struct request *r);

// Calls `fn` once after `ms`, unless the reply has ended or the request is done before; one timer per request, a new call replaces it, ms < 0 stops it.
void request_timer(struct request *r, int64_t ms, void (*fn)(struct request *r));

// Was it made over HTTP/1.1, so that the connection may be upgraded?
bool request_may_upgrade(const struct request *r);

// A number for logs: connection and request.
uint64_t request_id(const struct request *r);
// Of its connection, from 1; those of other times are other numbers.
uint64_t request_connection(const struct request *r);

// A time as header fields have it: "Sun, 06 Nov 1994 08:49:37 GMT".
#define HTTP_DATE 40
void http_date(uint64_t ms, char text[HTTP_DATE]);

// ---- replying ------------------------------------------------------------------------------------------------------

// An answer ahead of the reply (1xx but 101), with `fields` as whole lines. Nothing goes out where the peer cannot take it: over HTTP/1.0, where the
// reply has begun, or while too much of what was told is still waiting for its reader.
void reply_interim(struct request *r, int status, struct span fields);

// Status line and the standard fields (Date, X-Content-Type-Options, CORS). Asserts that no reply was started.
void reply_start(struct request *r, int status);
// `name` as it is to be written. Values are checked for CR, LF and NUL (asserts: escape outside bytes first).
void reply_header(struct request *r, const char *name, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
// After reply_start, for a body of text or JSON that is not a part and has no coding yet: it may come in the one that the request likes best, and every answer
// to such a request says that it varies by that. A whole body is packed if that is worth it; of one in pieces, what is written in one turn of the loop can be read
// when the turn is over, however small. At most HTTP_CODERS_MAX replies are packed at a time; the others go out as they are.
void reply_may_code(struct request *r);
// The same with a coding that was chosen by the caller, who has said so in its ETag and in Vary: not refused.
void reply_code(struct request *r, enum coding coding);
// May one more reply be packed? Whoever chooses a coding asks this first.
bool reply_code_room(void);
// The whole body at once, with Content-Length; ends the reply. For HEAD the body's length is told and nothing sent.
void reply_body(struct request *r, const char *type, struct span body);
// A body in pieces: of known length, or -1 (chunked for HTTP/1.1, until close for 1.0).
void reply_stream(struct request *r, const char *type, int64_t length);
// Ends the fields of a 101: the connection speaks another protocol from here on (handler.raw), until reply_end closes it. For requests without a body over HTTP/1.1.
// HTTP's time-outs end with it, but for the one of a reader that takes nothing.
void reply_upgrade(struct request *r);
// Queues a piece (a reference is taken). True: go on; false: full, wait for drain. What is queued in one turn goes out in one gathered write.
bool reply_write(struct request *r, struct bytes *piece);
bool reply_write_span(struct request *r, struct span piece); // copies
// A piece that many replies get, with chunked framing around it already: made once.
struct reply_frame {
    struct bytes *wire; // NULL: none
    size_t from, n;     // where the piece itself lies in it
};
// False: no memory. The caller drops the reference to `wire`.
bool reply_frame_make(struct reply_frame *out, struct span piece);
// Writes a piece of a reply of unknown length. It goes to the socket at once if nothing is queued before it. False: the
// socket is full; wait for drain, which then comes when all is on its way. So a slow reader has one frame queued at most.
bool reply_write_frame(struct request *r, const struct reply_frame *frame);
// The same of n bytes of a piece, from `from` on, with a few bytes before and behind it: gathered, so that a large piece is copied nowhere.
bool reply_write_around(struct request *r, struct span head, struct bytes *piece, size_t from, size_t n, struct span tail);
// A part of a piece; and a piece of a file, of which `fd` is taken over: it goes to the socket without coming through this process.
bool reply_write_part(struct request *r, struct bytes *piece, size_t from, size_t n);
bool reply_write_file(struct request *r, int fd, uint64_t position, size_t n);
// A write has said "full", and drain has not come yet.
bool reply_full(const struct request *r);
// Bytes queued and not yet taken by the socket.
size_t reply_queued(const struct request *r);
void reply_end(struct request *r);
// What was told is all there is, and it is not whole: what is queued goes out, then the connection ends without the end that the reply should have.
void reply_cut(struct request *r);
// The reply cannot be finished as announced (a chunk turned out corrupt): cuts the connection.
void reply_break(struct request *r);

// application/problem+json from a problem or a bare error; with its table's status. If a reply has begun, reply_break.
// Problems of reading that leave the position in the stream of requests unknown close the connection after the reply.
void reply_problem(struct request *r, const struct problem *p);
void reply_error(struct request *r, int err);
// The same with another status than the table's, and fields that `fields` adds (it may be NULL).
void reply_problem_with(struct request *r, const struct problem *p, int status, void (*fields)(struct request *r, const struct problem *p, void *ctx), void *ctx);
// The members of a problem without its braces, for those who add their own.
void problem_members(struct buf *out, const struct problem *p);
// The same of a problem that others have given a type to (a URI).
void problem_members_typed(struct buf *out, const struct problem *p, const char *type, int status);
// A complete JSON text as reply.
void reply_json(struct request *r, int status, struct buf *json);

#endif
