// HTTP requests, one at a time over one connection that is kept, never through a proxy. With socket.c the only user of curl/curl.h.
#ifndef SEGUE_C_HTTP_H
#define SEGUE_C_HTTP_H

#include <signal.h>

#include "buf.h"

struct http;

#define HTTP_REQUEST_HEADERS_MAX 8

struct http_request {
    const char *method;
    const char *path;                              // what follows /apps/<app>/, encoded, with its query
    bool of_service;                               // it follows http://host:port/ instead
    const char *headers[HTTP_REQUEST_HEADERS_MAX]; // "Name: value"; up to the first NULL
    bool has_body;
    struct span body;
    // A body from a source instead: gives the bytes at `offset`, 0 or an ERR_*.
    int (*read)(void *ctx, uint64_t offset, uint8_t *p, size_t n, size_t *got);
    uint64_t read_size;
    // Takes the pieces of a 2xx answer's body as they come; non-zero ends the request with ERR_CANCELED. NULL: it is collected.
    int (*on_body)(void *ctx, struct span piece);
    void *ctx;
    // Looked at while the request is under way, set by a signal: not 0 ends it with ERR_CANCELED. NULL: nothing ends it.
    const volatile sig_atomic_t *stop;
    unsigned silence_s; // seconds without a byte after which the connection counts as lost; 0: 60
};

// `url`: http://host:port; `key` may be NULL. NULL: no memory, or they are not fit for a request.
struct http *http_new(const char *url, const char *app, const char *key);
void http_free(struct http *h); // NULL is fine

// 0: an answer has come, whatever its status, and it is complete. ERR_UNREACHABLE: no connection, or it broke (http_error says how).
// ERR_CANCELED, ERR_TOO_LARGE (a collected body), ERR_BAD_REQUEST (a header with control characters).
int http_send(struct http *h, const struct http_request *request);

// Of the last answer, until the next request; on_body may ask as well.
int http_status(const struct http *h);                           // 0: none came
struct span http_header(const struct http *h, const char *name); // empty: not there
struct span http_body(const struct http *h);                     // what was collected; a NUL behind it
const char *http_error(const struct http *h);
bool http_connected(const struct http *h); // a connection was made, so the request may have arrived

#endif
