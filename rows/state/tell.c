#include "tell.h"

#include "err.h"
#include "show.h"

static void tell_id(struct jw *w, const char *key, struct uuid id)
{
    char text[UUID_TEXT];
    uuid_format(id, text);
    jw_key(w, key);
    jw_str(w, SPAN(text, UUID_TEXT));
}

void tell_commit(struct jw *w, struct rows *r, struct db_txn *txn, uint64_t seq)
{
    struct commit_head head;
    jw_key(w, "seq");
    jw_uint(w, seq);
    if (!commit_head_of(r, txn, seq, &head)) return;
    jw_key(w, "time");
    jw_time_ms(w, (int64_t)head.arrival_ms);
    if (head.author.n > 0) jw_key(w, "author"), jw_str(w, head.author);
    if (head.counter > 0) {
        tell_id(w, "replica", head.writer);
        jw_key(w, "counter");
        jw_uint(w, head.counter);
    }
    if (head.key.n > 0) jw_key(w, "key"), jw_str(w, head.key);
    jw_key(w, "mode");
    jw_cstr(w, head.transaction ? "transaction" : "merge");
}

void tell_row(struct jw *w, struct rows *r, struct db_txn *txn, const struct table *t, struct uuid id, const struct row *row, uint64_t seq)
{
    if (!row_live(row)) {
        jw_null(w);
        return;
    }
    jw_object(w);
    tell_id(w, "id", id);
    for (size_t i = 0; i < t->column_count; i++) {
        jw_key_span(w, t->columns[i].name);
        show_cell(w, r, txn, t, id, &t->columns[i], &row->cells[i].v, seq);
    }
    jw_end(w);
}

void tell_name(struct jw *w, const struct table *t, struct uuid id)
{
    jw_key(w, "table");
    jw_str(w, t->name);
    tell_id(w, "id", id);
}

int tell_table(struct rows *r, struct span name, const struct table **out, struct problem *p)
{
    *out = schema_table(r->schema, name);
    return *out ? 0 : problem_set(p, ERR_NO_SUCH_TABLE, -1, "there is no table %.*s", SPAN_FMT(name));
}
