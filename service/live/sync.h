// The client's half of the subscription protocol (PROTOCOL.md, "WebSocket"): its messages in, the service's messages out. Knows nothing of frames or sockets;
// what the service tells of its own accord is a session's business (session.h), which server-sent events carry just the same.
//
//      open ─> hello ─> subscribe, unsubscribe, batch, append, ping … ─> ending ──the last fate is told──> end
//
// Flow: what is submitted is answered when it is durable; at most WS_WINDOW (and WS_WINDOW_BYTES) are on their way, then sync_busy says to read
// nothing more. So does a carrier that is full. What a connection submitted is answered before the commit that contains it is told on it.
// Thread: the app's owner.
#ifndef SEGUE_SYNC_H
#define SEGUE_SYNC_H

#include "app.h"
#include "hub.h"
#include "ws_frames.h"

struct message;
struct sync;

struct sync_carrier {
    // Sends one message, a complete JSON text. False: that was taken, but now wait for sync_drain.
    bool (*send)(void *carrier, struct span message);
    // The same for a message of subscriptions, which others may get, too: what the carrier makes of it is kept in it. NULL: it has no use for that.
    bool (*send_shared)(void *carrier, struct message *m);
    // Everything was said: close with this code. Called at most once, last, perhaps from within the call that brought it about; the carrier calls sync_close later.
    void (*end)(void *carrier, enum ws_code code, const char *reason);
    // sync_busy is no longer so, or may not be: come back with sync_retry, from the loop.
    void (*resume)(void *carrier);
};

struct sync_options {
    struct app *app;
    struct hub *hub;
    const struct auth *auth;
    struct identity identity;
    uint64_t connection; // its number, from 1: what came over it stays in its order
};

// On success the caller owns *out and closes it. ERR_BUSY while the app recovers.
int sync_open(struct sync **out, const struct sync_options *options, const struct sync_carrier *ops, void *carrier);
// What was submitted goes on without it.
void sync_close(struct sync *s); // NULL is fine

// One message. Not while busy; dropped once ending.
void sync_text(struct sync *s, struct span text);
void sync_binary(struct sync *s, struct span bytes);

bool sync_busy(const struct sync *s);
void sync_retry(struct sync *s);
// The carrier has room again.
void sync_drain(struct sync *s);
// A message of subscriptions as this protocol writes it: with its cursor inside.
void sync_put_message(struct buf *out, const struct message *m);
// What stands behind the first bytes of its JSON there; returns how many those are.
size_t sync_put_tail(struct buf *out, const struct message *m);
// The client has said hello.
bool sync_begun(const struct sync *s);

// Takes nothing more; ends when the last fate is told, with an error message before it if `p` is not NULL.
void sync_end(struct sync *s, enum ws_code code, const char *reason, const struct problem *p);

#endif
