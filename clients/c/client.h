// What the calls of libsegue share: the client, how requests are repeated, and how calls end.
#ifndef SEGUE_C_CLIENT_H
#define SEGUE_C_CLIENT_H

#include "buf.h"
#include "http.h"
#include "segue.h"

struct segue {
    struct http *http;
    struct buf url, app, key; // strings
    bool has_key;
    double retry_s;
    const volatile sig_atomic_t *stop;
    bool reached;     // the service has answered once
    bool is_lane;     // one of several clients at work for another one
    bool answered;    // the last call has an answer to give
    char replica[36]; // the client's name in its batches
    uint64_t counter; // of the last one of them
    struct segue_error error;
    char code[64];
    struct buf detail;
};

// How long to wait between attempts, and when to stop.
struct backoff {
    uint64_t began_us; // of the first failure; 0: none
    unsigned wait_ms;
};

// Another client of the same app, for another thread. NULL: no memory.
struct segue *client_like(const struct segue *s);
// How a call of `from` ended is how one of `s` does; gives `result`, what it gave, back.
int client_take_end(struct segue *s, const struct segue *from, int result);

// Every public function begins with this: what the last call left is forgotten.
void client_begin(struct segue *s);

// Notes how the call ends and gives `result` back.
int client_fail(struct segue *s, int result, int err, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
// A request ended with this ERR_*: no answer.
int client_broken(struct segue *s, int err);
// The last answer is a refusal, and its body says why.
int client_refused(struct segue *s);
// An answer that came in another way is one.
int client_refuse(struct segue *s, int status, struct span body);
// How an attempt ends that is not repeated: broken by `err`, or refused by the last answer.
int client_end(struct segue *s, int err);
int client_canceled(struct segue *s);
bool client_stopped(const struct segue *s);

// Waits before the next attempt. False: the time for it is over, or the service was never reached and nobody said to wait for it.
// With `forever`, there is no end to it unless the options gave one.
bool client_backoff(const struct segue *s, struct backoff *b, bool forever);

// True for an answer that asks for the same request again later (busy, too many, fate unknown).
bool client_again(const struct segue *s);

// One attempt: http_send, and notes that the service was reached.
int client_send(struct segue *s, const struct http_request *request);
// Sends a request that may be repeated until there is an answer, whatever it says. SEGUE_OK: it is in s->http.
int client_ask(struct segue *s, const struct http_request *request);
// The same, and any answer but 2xx is a refusal.
int client_call(struct segue *s, const struct http_request *request);
// Sends a JSON body, whose answer is the call's.
int client_post(struct segue *s, const char *path, struct span body, const char *header);

// Percent-encoding (RFC 3986): all but unreserved characters, and '/' where it is kept.
void client_put_encoded(struct buf *out, struct span s, bool keep_slash);
// A terminator for a buffer whose content is used as a string.
const char *client_string(struct buf *b);

#endif
