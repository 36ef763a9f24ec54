// What the commands of `segue` share: the options, the client that speaks to the service, and how things end.
#ifndef SEGUE_CLI_H
#define SEGUE_CLI_H

#include <stdio.h>

#include "buf.h"
#include "http.h"

// How the program ends. Commands return one of these.
enum { CLI_DONE = 0, CLI_REFUSED = 1, CLI_USAGE = 2, CLI_UNREACHABLE = 3 };

#define CLI_VERSION "0.1.0"
#define CLI_LIST_MAX 256 // times an option may be given

struct cli_list {
    const char *items[CLI_LIST_MAX];
    size_t count;
};

// Filled by options.c from its table. Strings are the program's arguments or environment.
struct cli_options {
    const char *url, *app, *key;
    bool json, help, version;
    const char *retry; // seconds
    const char *as_of;
    struct cli_list queries, streams, params;
    const char *cursor;
    bool once;
    const char *type;
    bool close;
    const char *offset;
    bool follow, no_follow;
    const char *output, *range;
    const char *provider, *model, *system, *table, *column, *id, *row, *status_column, *usage_column;
    struct cli_list sets;
    const char **args; // what follows the command
    size_t arg_count;
};

// ---- the client --------------------------------------------------------------------------------------------------

struct cli {
    const struct cli_options *options;
    struct http *http;
    bool reached; // the service has answered once
};

// How long to wait between attempts, and when to stop.
struct backoff {
    uint64_t began_us; // of the first failure; 0: none
    unsigned wait_ms;
};

// Waits before the next attempt. False: the time for it is over, or the service was never reached and nobody said to wait for it.
// With `forever`, there is no end to it unless --retry gave one.
bool cli_backoff(const struct cli *c, struct backoff *b, bool forever);

// True for an answer that asks for the same request again later (busy, too many, fate unknown).
bool cli_again(const struct cli *c);

// Sends a request that may be repeated, until it is answered for good. CLI_DONE: a 2xx answer is in c->http. Otherwise the reason has been told.
// `text` is what a position in the answer's problem is a place of; it may be empty.
int cli_call(struct cli *c, const struct http_request *request, struct span text);

// ---- telling -----------------------------------------------------------------------------------------------------

// "segue: <code>: <detail>" on standard error; gives `status` back.
int cli_fail(int status, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int cli_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int cli_unreachable(const struct cli *c);
// Tells the problem that is the last answer's body: CLI_REFUSED.
int cli_refused(const struct cli *c, struct span text);

// Standard output, at once and whole. False: nobody reads it any more.
bool cli_write(struct span s);

// Text for a terminal: control characters but newline and tab become '?'.
void cli_put_clean(struct buf *out, struct span s);

// The whole of a file, or of standard input for "-". CLI_DONE, else the reason has been told.
int cli_read(struct buf *out, const char *path);

// Percent-encoding (RFC 3986): all but unreserved characters, and '/' where it is kept.
void cli_put_encoded(struct buf *out, struct span s, bool keep_slash);
// A terminator for a buffer whose content is used as a string.
const char *cli_string(struct buf *b);

// ---- batches -----------------------------------------------------------------------------------------------------

// Writes of one run of the program: a replica of its own with a counter, so that a repeated batch is never applied twice.
struct cli_writer {
    struct cli *cli;
    char replica[36];
    uint64_t counter;
};
void cli_writer_init(struct cli_writer *w, struct cli *c);
// Sends one batch with these operations (the inside of the JSON array) and waits for its fate.
int cli_writer_send(struct cli_writer *w, struct span ops);

struct cli_tail {
    const char *path, *offset; // "-1" is the beginning
    bool follow;               // until it is closed; else up to what is there now
    bool silent;               // only waits
    const volatile sig_atomic_t *stop; // not 0: that is enough, CLI_DONE. May be NULL
};
// Writes a stream to standard output, whole answers at a time, over as many connections as it takes.
int cli_tail(struct cli *c, const struct cli_tail *what);

// ---- commands ----------------------------------------------------------------------------------------------------

int cmd_schema_push(struct cli *c);
int cmd_schema_show(struct cli *c);
int cmd_batch(struct cli *c);
int cmd_query(struct cli *c);
int cmd_sub(struct cli *c);
int cmd_stream_create(struct cli *c);
int cmd_stream_append(struct cli *c);
int cmd_stream_close(struct cli *c);
int cmd_stream_tail(struct cli *c);
int cmd_ask(struct cli *c);
int cmd_put(struct cli *c);
int cmd_get(struct cli *c);

#endif
