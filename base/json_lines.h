// JSON texts as messages of a stream in JSON mode: each compact, on a line of its own.
#ifndef SEGUE_JSON_LINES_H
#define SEGUE_JSON_LINES_H

#include "buf.h"
#include "problem.h"

// Behind each message stand these two bytes. A compact text has no raw newline, so that messages are told apart by it, and "[", messages without the last
// two bytes, "]" is the array of them.
#define JSON_LINE_END ",\n"
#define JSON_LINE_END_BYTES 2

// Appends one JSON text (RFC 8259 in strict UTF-8) as messages: of an array its elements, one level and no more; else the text itself. White space between
// tokens goes; numbers, strings, the order of members and doubles among them stay byte for byte. *count: how many; 0 for "[]".
// ERR_BAD_JSON, ERR_TOO_DEEP (more than JSON_DEPTH_MAX levels) with the byte as position, and the buffer's errors; nothing is appended then.
int json_lines_put(struct buf *out, struct span json, size_t *count, struct problem *p);

#endif
