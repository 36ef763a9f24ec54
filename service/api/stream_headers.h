// The words in the header fields of streams (PROTOCOL.md, "streams"), read strictly: what could be meant in two ways is refused.
#ifndef SEGUE_STREAM_HEADERS_H
#define SEGUE_STREAM_HEADERS_H

#include "buf.h"
#include "problem.h"

// Offsets on this surface are opaque to clients: two groups of 16 digits, so that texts sort as their numbers do. The first group is 0: room for what
// a later version may need to tell apart.
#define STREAM_OFFSET_TEXT 40
void stream_offset_text(uint64_t offset, char text[STREAM_OFFSET_TEXT]);
// Takes what was given out, and the plain number of bytes as batches and subscriptions have it. ERR_BAD_OFFSET.
int stream_offset_parse(struct span text, uint64_t *out);

// A decimal without sign, point or leading zero, at most `max`. False: it is none.
bool stream_number_parse(struct span text, uint64_t max, uint64_t *out);
#define STREAM_NUMBER_MAX ((UINT64_C(1) << 53) - 1) // what every client's numbers can hold

// An instant of RFC 3339 with its zone, in milliseconds since 1970; what lies before is 1, the first of them that means something. False: it is none.
bool stream_time_parse(struct span text, uint64_t *ms);
#define STREAM_TIME_TEXT 32
void stream_time_text(uint64_t ms, char text[STREAM_TIME_TEXT]);

// The media type of a content type (before the ';') is application/json, in any case.
bool stream_type_is_json(struct span type);

// Does a list of entity tags (If-None-Match) name this one? Weak comparison; "*" names all.
bool stream_etag_listed(struct span list, const char *etag);

// If-Match on an append: the offset at which the stream has to end, in quotes or bare; "*" asks for nothing more than the stream. ERR_BAD_OFFSET.
int stream_match_parse(struct span text, bool *has, uint64_t *offset);

#endif
