#include "blob_row.h"

#include <stdio.h>

#include "err.h"
#include "json_read.h"
#include "tus.h"

struct one_row {
    struct feed_sink sink; // first
    struct bytes *json;
};

static int take_row(struct feed_sink *sink, struct bytes *value)
{
    struct one_row *row = (struct one_row *)sink;
    if (row->json == NULL) row->json = bytes_ref(value);
    return 0;
}

// A name that needs no quotes: what else a table may be called has no place in a path of three parts.
static bool is_plain(struct span name)
{
    for (size_t i = 0; i < name.n; i++) {
        uint8_t c = name.p[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && (i == 0 || c < '0' || c > '9')) return false;
    }
    return name.n > 0;
}

static int query_row(struct app *a, const struct tus_link *at, struct one_row *row)
{
    char sql[128], id[UUID_TEXT];
    struct row_value param = {.kind = ROW_TEXT, .s = SPAN(id, sizeof id)};
    struct query *q;
    struct query_run *run;
    bool done = false;
    uuid_format(at->id, id);
    int n = snprintf(sql, sizeof sql, "select * from \"%.*s\" where id = $1", SPAN_FMT(at->table));
    int err = query_compile(app_rows(a), SPAN(sql, (size_t)n), &param, 1, &q, NULL);
    if (err != 0) return err;
    err = query_open(app_rows(a), app_txn(a), q, app_visible(a), &run, NULL);
    while (err == 0 && !done) {
        err = query_next(run, app_txn(a), ROW_BYTES_MAX, &row->sink, &done);
        if (err != 0 || done) query_close(run);
    }
    query_unref(q);
    return err;
}

static int read_name(struct span json, struct span column, const struct sha256 *digest, struct buf *name)
{
    char key[NAME_MAX_BYTES + 1] = {0}, hex[SHA256_HEX];
    struct jr_tree *tree;
    int err = jr_parse(&tree, json, NULL);
    if (err != 0) return err;
    const struct jr *row = jr_root(tree);
    memcpy(key, column.p, column.n);
    hex_format(hex, SPAN(digest->b, SHA256_BYTES));
    struct span text = jr_str(jr_get(row, "filename"));
    if (text.n == 0) text = jr_str(jr_get(row, "name"));
    if (span_equal(jr_str(jr_get(jr_get(row, key), "blob")), SPAN(hex, sizeof hex))) buf_put_span(name, text);
    else err = ERR_NOT_FOUND;
    jr_free(tree);
    return err != 0 ? err : name->err;
}

int blob_row_name(struct app *a, struct span text, const struct sha256 *digest, struct buf *name)
{
    struct tus_link at;
    struct one_row row = {.sink.emit = take_row};
    if (tus_link(text, &at, NULL) != 0) return ERR_BAD_PARAMETER;
    if (app_txn(a) == NULL) return ERR_BUSY;
    if (!is_plain(at.table) || !is_plain(at.column)) return ERR_NOT_FOUND;
    int err = query_row(a, &at, &row);
    if (err == ERR_NO_SUCH_TABLE || (err == 0 && row.json == NULL)) err = ERR_NOT_FOUND;
    if (err == 0) err = read_name(bytes_span(row.json), at.column, digest, name);
    bytes_unref(row.json);
    return err;
}
