// Many appends in one binary message: the byte 1, then records.
//
//   u16 n | path of n bytes | u32 n | n bytes      integers little endian; a path of 0 bytes is that of the record before
//
// PROTOCOL.md, "WebSocket".
#ifndef SEGUE_WS_RECORDS_H
#define SEGUE_WS_RECORDS_H

#include <stdbool.h>

#include "span.h"

#define WS_RECORDS_MARK 1

struct ws_record {
    struct span path, data;
};

struct ws_records {
    struct span rest, path;
};

// Looks through a whole message, so that none of it is taken if some of it cannot be. How many records there are, or ERR_BAD_REQUEST: cut off, none, more than
// WS_RECORDS_MAX, no path, no bytes, or beyond a limit.
int ws_records_begin(struct ws_records *r, struct span message);
// The next record of a message that was looked through; false at its end.
bool ws_records_next(struct ws_records *r, struct ws_record *out);

#endif
