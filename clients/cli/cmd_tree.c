// segue sync, and what segue put and segue get do with directories.
#include <stdio.h>

#include "cli.h"
#include "err.h"
#include "json_write.h"
#include "limits.h"
#include "progress.h"

struct telling {
    struct cli *cli;
    struct progress progress;
    struct buf changes; // lines
};

// ---- what is told ----------------------------------------------------------------------------------------------------

static void take_progress(void *ctx, uint64_t done, uint64_t size)
{
    struct telling *t = ctx;
    progress_take(&t->progress, done, size);
}

static void take_skip(void *ctx, const char *path)
{
    (void)ctx;
    cli_fail(0, ERR_BAD_VALUE, "%s: left out, it is no file, directory or symbolic link", path);
}

// A line for each, whatever the name has.
static void take_change(void *ctx, char change, const char *path)
{
    struct telling *t = ctx;
    struct buf *out = &t->changes;
    struct jw w;
    if (t->cli->options->json) {
        jw_init(&w, out);
        jw_object(&w);
        jw_key(&w, "change"), jw_str(&w, SPAN(&change, 1));
        jw_key(&w, "path"), jw_cstr(&w, path);
        jw_end(&w);
    } else {
        buf_printf(out, "%c ", change);
        for (const char *p = path; *p != 0; p++)
            if (*p == '\n' || *p == '\t') buf_put_u8(out, '?');
            else buf_put_u8(out, (uint8_t)*p);
    }
    buf_put_u8(out, '\n');
}

static bool print_changes(struct telling *t)
{
    struct buf clean;
    buf_init(&clean, t->changes.max);
    cli_put_clean(&clean, buf_span(&t->changes));
    bool written = clean.err == 0 && t->changes.err == 0 && cli_write(buf_span(&clean));
    buf_free(&clean);
    return written;
}

// ---- a row that names it ---------------------------------------------------------------------------------------------

// "TABLE/ID/COLUMN": the row's column becomes the blob, as everybody who follows the row sees.
int cli_link(struct cli *c, const struct segue_blob *blob)
{
    char table[100], id[40], column[100];
    int end = 0;
    struct buf op;
    struct jw w;
    if (c->options->link == NULL) return CLI_DONE;
    if (sscanf(c->options->link, "%99[^/]/%39[^/]/%99[^/]%n", table, id, column, &end) != 3 || c->options->link[end] != 0)
        return cli_usage("--link is TABLE/ID/COLUMN");
    buf_init(&op, 4 * KIB);
    jw_init(&w, &op);
    jw_object(&w);
    jw_key(&w, "op"), jw_str(&w, SPAN_LIT("update"));
    jw_key(&w, "table"), jw_str(&w, SPAN_STR(table));
    jw_key(&w, "id"), jw_str(&w, SPAN_STR(id));
    jw_key(&w, "values"), jw_object(&w);
    jw_key(&w, column), jw_object(&w);
    jw_key(&w, "blob"), jw_str(&w, SPAN_STR(blob->digest));
    jw_end(&w), jw_end(&w), jw_end(&w);
    int result = segue_write(c->segue, (const char *)op.p, op.n);
    buf_free(&op);
    return cli_ended(c, result, SPAN_NONE);
}

// ---- directories -----------------------------------------------------------------------------------------------------

int cli_put_tree(struct cli *c, const char *path, bool remember)
{
    struct telling t = {.cli = c};
    struct segue_blob tree;
    progress_init(&t.progress, -1);
    buf_init(&t.changes, 256 * MIB);
    const struct segue_put_tree_options what = {
        .path = path, .remember = remember, .on_change = take_change, .on_skip = take_skip, .progress = take_progress, .ctx = &t};
    int result = segue_put_tree(c->segue, &what, &tree);
    progress_end(&t.progress);
    int status = cli_ended(c, result, SPAN_NONE);
    if (status == CLI_DONE) status = cli_link(c, &tree);
    if (status == CLI_DONE && remember && !print_changes(&t)) status = CLI_REFUSED;
    buf_free(&t.changes);
    return status == CLI_DONE ? cli_print_blob(c, &tree) : status;
}

int cli_get_tree(struct cli *c)
{
    struct telling t = {.cli = c};
    if (c->options->output == NULL) return cli_usage("-o says which directory the tree goes into");
    progress_init(&t.progress, -1);
    const struct segue_get_tree_options what = {
        .digest = c->options->args[0], .path = c->options->output, .progress = take_progress, .ctx = &t};
    int result = segue_get_tree(c->segue, &what);
    progress_end(&t.progress);
    return cli_ended(c, result, SPAN_NONE);
}

int cmd_sync(struct cli *c)
{
    return cli_put_tree(c, c->options->args[0], true);
}
