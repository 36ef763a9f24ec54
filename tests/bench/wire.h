// What servers answer, as far as a load generator has to know: where a reply ends, and whether it is a good one.
#ifndef SEGUE_BENCH_WIRE_H
#define SEGUE_BENCH_WIRE_H

#include <stdbool.h>

#include "buf.h"

// Bytes of the complete HTTP reply at the front of `in`, 0 while it is incomplete; its status when the head is there. -1: not HTTP.
long http_reply(struct span in, int *status);
// Bytes of the head alone, of a reply whose body never ends; 0 while it is incomplete.
size_t http_head(struct span in, int *status);
// A RESP reply of one line or one bulk string. -1: an error reply.
long resp_reply(struct span in);

// A text frame of a client: final, masked (RFC 6455).
void ws_put_text(struct buf *out, struct span text);
void ws_put_binary(struct buf *out, struct span bytes);
// The server's frame at the front of `in`: its bytes in all, or 0 while it is incomplete; -1: the connection is being closed.
long ws_frame(struct span in, int *opcode, struct span *payload);
void ws_put_pong(struct buf *out, struct span payload);

// Each message of the load carries when it was sent. STAMP_BYTES bytes that JSON, SSE and RESP leave as they are.
#define STAMP_BYTES 22
void stamp_put(uint8_t *to, uint64_t ns);
// The next stamp at or behind *at, which moves past it. When there is none yet, *at moves to where the search has to go on.
bool stamp_next(struct span in, size_t *at, uint64_t *ns);

#endif
