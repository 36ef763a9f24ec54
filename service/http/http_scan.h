// A strict reading of HTTP/1.1 framing, ahead of the parser library, which is lax where request smuggling lives.
//
// Works on bytes as they arrive: the outcome does not depend on where the input was cut. Refused here are, among others:
// Content-Length together with Transfer-Encoding, either of them twice, any transfer coding but `chunked`, bare CR or LF,
// folded lines, white space before a colon, control characters, a 1.1 request without exactly one Host, odd chunk sizes.
// The whole list is tests/unit/service/test_http_scan.c.
#ifndef SEGUE_HTTP_SCAN_H
#define SEGUE_HTTP_SCAN_H

#include "http.h"

#define SCAN_NAME_MAX 24   // longer than any field name that the scan understands
#define SCAN_VALUE_MAX 256 // and than the values of those fields
#define SCAN_METHOD_MAX 16

struct http_scan {
    // What was found; complete when SCAN_HEAD was returned.
    enum method method;
    uint8_t minor; // of HTTP/1.x
    bool chunked;
    bool expect_continue;
    int64_t content_length; // -1: not given

    uint64_t body_max; // of a chunked body; the caller may lower it after SCAN_HEAD
    bool begun;        // a byte of the request has arrived

    // Private from here on.
    uint8_t state;
    uint8_t field; // which understood field the line is
    uint8_t blank_lines;
    bool trailers;
    uint8_t hosts;
    uint8_t seen;       // bits of fields that may come once
    int err;            // sticky
    uint32_t line_n;    // bytes of the present line, or of the method or target
    uint32_t section_n; // bytes of the field section
    uint32_t field_count;
    uint64_t left;   // body bytes before the next framing byte
    uint64_t body_n; // of a chunked body so far, as announced
    uint64_t chunk;  // the size being read
    uint8_t name_n;
    uint16_t value_n;
    char name[SCAN_NAME_MAX];
    char value[SCAN_VALUE_MAX];
};

enum scan_event {
    SCAN_MORE, // the bytes used were framing; go on with the rest
    SCAN_HEAD, // they end with the end of the head
    SCAN_BODY, // they are content
    SCAN_END,  // they end the message
};

// Ready for the next request.
void http_scan_init(struct http_scan *s);

// Takes the next bytes: an event, or a negative error (sticky) with its sentence in `p`. `*used` is always less than or equal to
// in.n; with SCAN_MORE and an empty rest more input is needed.
int http_scan_next(struct http_scan *s, struct span in, size_t *used, struct problem *p);

#endif
