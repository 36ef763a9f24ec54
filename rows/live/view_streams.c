// Views whose queries read the text of streams: no commit names the rows whose streams have grown, so who holds the streams says so.
#include "err.h"
#include "uuid.h"
#include "view_impl.h"

bool rows_follow_streams(const struct rows *r)
{
    return r->views.texts > 0;
}

static bool take_part(struct span *path, struct span *part)
{
    const uint8_t *slash = path->n > 0 ? memchr(path->p, '/', path->n) : NULL;
    size_t n = slash ? (size_t)(slash - path->p) : path->n;
    *part = span_sub(*path, 0, n);
    *path = span_sub(*path, n + (slash != NULL), path->n);
    return n > 0;
}

void rows_stream_changed(struct rows *r, struct db_txn *txn, struct span path, bool trimmed)
{
    struct span rows, table, id_text;
    struct uuid id;
    struct row_space room;
    if (!rows_follow_streams(r)) return;
    if (!take_part(&path, &rows) || !span_is(rows, "rows") || !take_part(&path, &table) || !take_part(&path, &id_text)) return;
    const struct table *t = schema_table(r->schema, table);
    if (!t || uuid_parse(&id, id_text) != 0 || row_current(r, txn, t, id, &room) != 0) return;
    if (!row_live(&room.row)) return; // its row went with it, or before it
    views_row(r, r->views.published, &(struct row_change){.table = t, .id = id, .old = &room.row, .new = &room.row, .grown = true, .trimmed = trimmed});
}
