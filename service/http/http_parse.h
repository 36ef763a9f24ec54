// HTTP/1.x requests out of bytes: the strict scan (http_scan.h), then the parser library. The only user of http_parser.h.
//
// A pull parser: the caller hands in what it has and gets one event at a time, so it can stop between any two. The library
// is a second opinion: it finds the fields, and a request on whose end or content it disagrees with the scan is refused.
#ifndef SEGUE_HTTP_PARSE_H
#define SEGUE_HTTP_PARSE_H

#include "http.h"

struct http_parse;

struct http_head {
    enum method method;
    uint8_t minor;   // of HTTP/1.x
    bool keep_alive; // what the client asks for, by version and Connection
    bool chunked;
    bool expect_continue;
    int64_t content_length; // -1: not given
    struct span path;       // raw; begins with '/', or is "*"
    struct span query;      // raw, without the '?'
};

enum parse_event {
    PARSE_MORE,  // all input was taken, more is needed
    PARSE_HEAD,  // the head is complete: http_parse_head
    PARSE_PIECE, // a piece of decoded body
    PARSE_END,   // the request is complete; what is left of the input is the next one's
};

// NULL when memory is exhausted.
struct http_parse *http_parse_new(void);
void http_parse_free(struct http_parse *h); // NULL is fine

// Forgets the request; what was got from it becomes invalid.
void http_parse_reset(struct http_parse *h);

// The next event, or a negative error (sticky until reset) with its sentence in `p`. `*in` is cut to what was not used. `*piece` lives as
// long as the input.
int http_parse_next(struct http_parse *h, struct span *in, struct span *piece, struct problem *p);

// A byte of a request has arrived.
bool http_parse_begun(const struct http_parse *h);

// Valid from PARSE_HEAD on, as are the fields, until reset.
const struct http_head *http_parse_head(const struct http_parse *h);

// From PARSE_HEAD on: a chunked body may not be longer.
void http_parse_body_max(struct http_parse *h, uint64_t max);

// The value of a header field, `name` in lower case; several of one name are joined by ", ". False: absent.
bool http_parse_field(const struct http_parse *h, const char *name, struct span *value);
// The same of a trailer behind a chunked body, from PARSE_END until reset; the first one of that name.
bool http_parse_trailer(const struct http_parse *h, const char *name, struct span *value);

#endif
