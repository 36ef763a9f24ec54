// What the commands of `segue` share: the options, the client of libsegue, and how things end.
#ifndef SEGUE_CLI_H
#define SEGUE_CLI_H

#include <stdio.h>

#include "buf.h"
#include "segue.h"

// How the program ends. Commands return one of these.
enum { CLI_DONE = SEGUE_OK, CLI_REFUSED = SEGUE_REFUSED, CLI_USAGE = SEGUE_USAGE, CLI_UNREACHABLE = SEGUE_UNREACHABLE };

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
    const char *as_of, *at, *branch;
    bool explain, live, transaction;
    bool offline, peek;
    const char *outbox, *tag;
    struct cli_list queries, streams, uploads, params, withs;
    const char *cursor;
    bool once;
    const char *type;
    bool close;
    const char *offset;
    bool follow, no_follow;
    const char *output, *range, *link;
    bool tree;
    struct cli_list keeps;
    const char *provider, *api, *model, *system, *table, *column, *id, *row, *status_column, *usage_column;
    struct cli_list sets;
    const char **args; // what follows the command
    size_t arg_count;
};

struct cli {
    const struct cli_options *options;
    struct segue *segue;
};

// Set by the signals that cli_catch_signals catches: libsegue looks at it.
extern volatile sig_atomic_t cli_interrupted;
// From here on SIGINT and SIGTERM are noted; the next one ends the program, whatever the service does.
void cli_catch_signals(void);

// ---- telling -----------------------------------------------------------------------------------------------------

// "segue: <code>: <detail>" on standard error; gives `status` back.
int cli_fail(int status, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int cli_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
// The same line for what is no error: `word` stands in the place of the code.
void cli_note(const char *word, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// How a call of libsegue ended is told, if it did not end well, and given back. `text` is what a position in the error is a place of;
// it may be empty. A call that was canceled was so by a function of ours, which told why: CLI_REFUSED.
int cli_ended(const struct cli *c, int result, struct span text);
// The last answer's JSON.
struct span cli_answer(const struct cli *c);
// Prints the list under `key` in it: an element a line as JSON, or as `put` does.
struct jr;
int cli_print_list(const struct cli *c, const char *key, int (*put)(const struct jr *list, struct buf *out));

// Standard output, at once and whole. False: nobody reads it any more.
bool cli_write(struct span s);

// Text for a terminal: control characters but newline and tab become '?'.
void cli_put_clean(struct buf *out, struct span s);

// The whole of a file, or of standard input for "-". CLI_DONE, else the reason has been told.
int cli_read(struct buf *out, const char *path);

// The last answer, which is a batch's fate. False: nobody reads it any more.
bool cli_print_fate(const struct cli *c);
// Puts a batch into the outbox.
int cli_put_offline(struct cli *c, struct span batch);
// What put and sync print at their end.
int cli_print_blob(const struct cli *c, const struct segue_blob *blob);
// Lets the row of --link name it, where that is given.
int cli_link(struct cli *c, const struct segue_blob *blob);
// put and get of directories; with `remember`, sync.
int cli_put_tree(struct cli *c, const char *path, bool remember);
int cli_get_tree(struct cli *c);

// For segue_tail_options and segue_get_options: standard output.
int cli_take_bytes(void *ctx, const void *p, size_t n);

// ---- commands ----------------------------------------------------------------------------------------------------

int cmd_app_list(struct cli *c);
int cmd_app_create(struct cli *c);
int cmd_app_drop(struct cli *c);
int cmd_schema_push(struct cli *c);
int cmd_schema_show(struct cli *c);
int cmd_schema_list(struct cli *c);
int cmd_batch(struct cli *c);
int cmd_outbox_list(struct cli *c);
int cmd_outbox_send(struct cli *c);
int cmd_outbox_fates(struct cli *c);
int cmd_outbox_seen(struct cli *c);
int cmd_outbox_drop(struct cli *c);
int cmd_outbox_adopt(struct cli *c);
int cmd_branch_list(struct cli *c);
int cmd_branch_create(struct cli *c);
int cmd_branch_diff(struct cli *c);
int cmd_branch_merge(struct cli *c);
int cmd_branch_drop(struct cli *c);
int cmd_tx(struct cli *c);
int cmd_query(struct cli *c);
int cmd_fate(struct cli *c);
int cmd_history(struct cli *c);
int cmd_diff(struct cli *c);
int cmd_preview(struct cli *c);
int cmd_sub(struct cli *c);
int cmd_stream_create(struct cli *c);
int cmd_stream_append(struct cli *c);
int cmd_stream_close(struct cli *c);
int cmd_stream_tail(struct cli *c);
int cmd_ask(struct cli *c);
int cmd_put(struct cli *c);
int cmd_get(struct cli *c);
int cmd_sync(struct cli *c);
int cmd_blobs_check(struct cli *c);
int cmd_blobs_du(struct cli *c);
int cmd_blobs_pin(struct cli *c);
int cmd_blobs_unpin(struct cli *c);

#endif
