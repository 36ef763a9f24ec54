// The opening of a WebSocket (RFC 6455, section 4): what of it can be judged without a connection.
#ifndef SEGUE_WS_HANDSHAKE_H
#define SEGUE_WS_HANDSHAKE_H

#include "span.h"

#define WS_ACCEPT_TEXT 28 // characters of Sec-WebSocket-Accept

// Does a field's comma-separated list hold this word, in whatever case?
bool ws_list_has(struct span list, const char *word);

// The answer to a client's Sec-WebSocket-Key, without a terminator. ERR_BAD_REQUEST: it is not base64 of 16 bytes.
int ws_accept(struct span key, char text[WS_ACCEPT_TEXT]);

// May a page of this origin connect? Browsers send a page's origin and let it open a WebSocket to anyone, so the service is who has to ask. A client without an
// origin is no browser. Else: the service's own (`host` is the request's), one of the comma-separated `allowed`, and with `dev` pages from files and from
// loopback addresses.
bool ws_origin_allowed(struct span origin, struct span host, struct span allowed, bool dev);

#endif
