// A client's end of /apps/<app>/sync: the upgrade to WebSocket (RFC 6455), and messages of text. The only user of wslay.h in libsegue.
//
//   ws_open ──> ws_send_text, ws_step … ──> ws_close
//
// One thread.
#ifndef SEGUE_C_WS_H
#define SEGUE_C_WS_H

#include "client.h"

struct ws;

// Connects and upgrades. 0: *out is the caller's. ERR_BAD_REQUEST: the service refused, *status is its answer's and `body` (which is cleared before) what it
// says. ERR_UNREACHABLE: no connection, no answer, or one that is no WebSocket's; `body` says how. ERR_CANCELED: the client was stopped. ERR_USAGE: its app or key is not
// fit for a request.
int ws_open(struct ws **out, const struct segue *s, int *status, struct buf *body);
void ws_close(struct ws *w); // says goodbye where that goes at once; NULL is fine

// Queues a message. 0 or ERR_NOMEM.
int ws_send_text(struct ws *w, struct span text);
// Bytes of messages that are queued.
size_t ws_queued(const struct ws *w);

// Waits at most `timeout_ms` for something to come or to go, and does it. Calls back for each message that has come. Non-zero of it is given back; else 0, or
// ERR_UNREACHABLE: the connection is over.
int ws_step(struct ws *w, int timeout_ms, int (*on_text)(void *ctx, struct span text), void *ctx);

#endif
