// Branches as they are looked at: what was written to one, laid over what it lies on.
#include "app_internal.h"
#include "batch_reads.h"
#include "err.h"
#include "preview.h"

int app_branch_lay(struct app *a, const struct branch *b, struct rows_preview *v, struct problem *p)
{
    struct branch_write w;
    int err = 0;
    for (uint64_t i = 0; i < b->writes && err == 0; i++) {
        err = branch_write_at(a->txn, TABLE_BRANCHES, b, i, &w);
        if (err != 0) break;
        rows_preview_time(v, w.arrival_ms); // whenever it is looked at
        err = batch_preview(v, a->txn, w.ops, p);
    }
    return err;
}

int app_branch(struct app *a, struct span name, struct branch *out)
{
    if (app_txn(a) == NULL) return ERR_BUSY;
    int found = branches_find(a->txn, TABLE_BRANCHES, name, out);
    return found == 0 ? ERR_NO_SUCH_BRANCH : found < 0 ? found : 0;
}

int app_branches_each(struct app *a, bool (*fn)(void *ctx, const struct branch *b), void *ctx)
{
    return app_txn(a) == NULL ? ERR_BUSY : branches_each(a->txn, TABLE_BRANCHES, fn, ctx);
}

uint64_t app_branch_at(const struct app *a, const struct branch *b)
{
    return b->live ? a->visible_seq : b->base;
}

int app_branch_preview_at(struct app *a, const struct branch *b, uint64_t seq, struct rows_preview **out, struct problem *p)
{
    struct branch then = *b;
    int err = branch_rewind(a->txn, TABLE_BRANCHES, &then, seq);
    if (err != 0) return err;
    struct rows_preview *v = rows_preview_new(a->rows, a->txn, b->live ? seq : b->base, b->base, a->commit_ms);
    err = v == NULL ? ERR_NOMEM : app_branch_lay(a, &then, v, p);
    if (err == 0) *out = v;
    else rows_preview_free(v);
    return err;
}

int app_branch_preview(struct app *a, const struct branch *b, struct rows_preview **out, struct problem *p)
{
    return app_branch_preview_at(a, b, a->visible_seq, out, p);
}

int app_branch_rows(struct app *a, const struct branch *b, struct read_set *set)
{
    struct batch_reader reader;
    struct batch_op op;
    struct branch_write w;
    int err = 0, got = 0;
    for (uint64_t i = 0; i < b->writes && err == 0; i++) {
        err = branch_write_at(a->txn, TABLE_BRANCHES, b, i, &w);
        if (err != 0) break;
        batch_reader_init(&reader, w.ops);
        while ((got = batch_read(&reader, &op)) > 0) {
            uint32_t table = rows_table_number(a->rows, op.row.table);
            if (table > 0 && op.row.has_id) read_set_row(set, table, op.row.id);
        }
        batch_reader_free(&reader);
        err = got;
    }
    return err == 0 ? read_set_finish(set) : err;
}
