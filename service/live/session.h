// A subscription session: several feeds of one app read as one, whole commits at a time. One protocol, whatever carries
// it: a carrier (server-sent events; WebSocket) gives the session a way to send, the session decides what.
//
//     open ─> subscribe … ─> start ─┬─ fresh ──> SNAPSHOT (pieces, as of one seq) ──> LIVE (ranges (from, to] that tile)
//                                   └─ cursor ──────────────────────────────────────^       │
//                                               ^───────── reset: too old, another journal ─┘
//
// What is subscribed to later has its snapshot beside the ranges, as of a seq of its own; when it has caught up, a range names it as live.
//
// The session keeps no queue of its own beyond the parts of one range: when its carrier is full it waits, its feeds keep what it missed, and it
// later takes the largest range that fits. Thread: the app's owner.
#ifndef SEGUE_SESSION_H
#define SEGUE_SESSION_H

#include "app.h"
#include "hub.h"

struct message;
struct session;

struct session_carrier {
    // Sends one message, a complete JSON object. `cursor`: the message's cursor, or NULL if it carries none. False: that was taken, but now wait for session_drain.
    bool (*send)(void *carrier, struct span message, const char *cursor);
    // The same for a message that others may get, too: what the carrier makes of it is kept in it. NULL: the carrier has no use for that.
    bool (*send_shared)(void *carrier, struct message *m);
    // A subscription is over, and the others go on: a range will name it among the ended. NULL: then the session is over.
    void (*lost)(void *carrier, const char *name, int err);
    // The session is over: the app is built again or goes away, or a feed failed. Called at most once, last; the carrier then closes the session, now or later.
    void (*end)(void *carrier, int err);
};

// On success the caller owns *out and closes it.
int session_open(struct session **out, struct hub *hub, struct app *app, const struct session_carrier *ops, void *carrier);
void session_close(struct session *s); // NULL is fine

// `name` is [A-Za-z0-9_-], 1 to 64 characters, unique in the session. ERR_TOO_MANY, ERR_BAD_PARAMETER, ERR_BUSY while the app recovers or when the session is over,
// or the store's refusal, which for a stream's offset comes from session_start if that is still to come.
int session_query(struct session *s, struct span name, struct span sql, const struct row_value *params, size_t param_count, struct problem *p);
// The same on a branch. Also ERR_NO_SUCH_BRANCH.
int session_branch_query(struct session *s, struct span name, struct span branch, struct span sql, const struct row_value *params, size_t param_count, struct problem *p);
// The same with operations laid over the state that nobody has committed (branch_feed.h).
struct live_preview;
int session_preview_query(struct session *s, struct span name, const struct live_preview *preview, struct span sql, const struct row_value *params, size_t param_count, struct problem *p);
// With streams of its result live, at least one column of them. Also the errors of result_feed.h.
struct result_follow;
int session_follow_query(struct session *s, struct span name, struct span sql, const struct row_value *params, size_t param_count, const struct result_follow *follows, size_t follow_count,
                         struct problem *p);
// A stream from `offset` on.
int session_stream(struct session *s, struct span name, struct span path, uint64_t offset, struct problem *p);
// The state of a resumable upload.
int session_upload(struct session *s, struct span name, struct uuid id, struct problem *p);

// Ends one; the next range says so, and nothing of a later one by its name comes before. ERR_BAD_PARAMETER: there is none of this name; ERR_TOO_MANY: too many
// ends wait to be told.
int session_unsubscribe(struct session *s, struct span name, struct problem *p);

// Begins to send: welcome, then snapshots, or with a cursor what was missed since. An empty cursor is none; one stands for the very
// subscriptions that were live when it was sent. ERR_BAD_CURSOR: nothing was sent.
int session_start(struct session *s, struct span cursor, struct problem *p);

// The carrier has room again.
void session_drain(struct session *s);

// Of a session that is over: the name of the subscription that it is over for, as its result cannot be told any more; NULL: of none. It lives until the session is closed.
const char *session_lost(const struct session *s);
// What a subscription or a session is over for, in words for who wrote the query.
const char *session_why(int err);

#endif
