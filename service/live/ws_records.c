#include "ws_records.h"

#include "cur.h"
#include "err.h"
#include "limits.h"
#include "utf8.h"

static bool take(struct ws_records *r, struct ws_record *out)
{
    struct cur c;
    cur_init(&c, r->rest);
    struct span path = cur_span(&c, cur_u16(&c));
    out->data = cur_span(&c, cur_u32(&c));
    if (c.err != 0) return false;
    if (path.n > 0) r->path = path;
    out->path = r->path;
    r->rest = SPAN(c.p, (size_t)(c.end - c.p));
    return true;
}

static bool good(const struct ws_record *record, const struct ws_record *before)
{
    if (record->path.n == 0 || record->path.n > STREAM_PATH_MAX || record->data.n == 0 || record->data.n > STREAM_APPEND_MAX) return false;
    return record->path.p == before->path.p || utf8_valid(record->path);
}

int ws_records_begin(struct ws_records *r, struct span message)
{
    struct ws_record record, before = {SPAN_NONE, SPAN_NONE};
    struct ws_records all = {.rest = span_sub(message, 1, message.n)};
    int count = 0;
    *r = all;
    for (; all.rest.n > 0; count++, before = record)
        if (count == WS_RECORDS_MAX || !take(&all, &record) || !good(&record, &before)) return ERR_BAD_REQUEST;
    return count > 0 ? count : ERR_BAD_REQUEST;
}

bool ws_records_next(struct ws_records *r, struct ws_record *out)
{
    return r->rest.n > 0 && take(r, out);
}
