#include "model.h"

static bool concerns(const struct cell_write *w, uint32_t row, uint64_t at)
{
    return w->op.row == row && w->seq <= at;
}

static bool later(const struct cell_write *a, const struct cell_write *b)
{
    if (a->stamp != b->stamp) return a->stamp > b->stamp;
    if (a->writer != b->writer) return a->writer > b->writer;
    return a->seq > b->seq;
}

// Had the writer of `a` seen what `b` did?
static bool had_seen(const struct cell_write *a, const struct cell_write *b)
{
    return b->seq <= a->base || (a->writer != 0 && a->writer == b->writer && b->seq < a->seq);
}

// Letters whose additions, as far as its writer had seen them, are over: those taken away, and those added anew.
static unsigned ended(const struct cell_op *op)
{
    return op->absolute ? ~0u : op->remove | op->add;
}

static bool stands(const struct cell_write *writes, size_t count, const struct cell_write *add, unsigned letter, uint64_t at)
{
    for (size_t i = 0; i < count; i++) {
        const struct cell_write *w = &writes[i];
        if (!concerns(w, add->op.row, at) || w == add || !w->op.has_tags || !(ended(&w->op) & letter) || !had_seen(w, add)) continue;
        return false;
    }
    return true;
}

static void add_write(struct cell_row *r, const struct cell_write *w, const struct cell_write **last)
{
    const struct cell_op *op = &w->op;
    if (op->has_l && (*last == 0 || later(w, *last))) r->l = op->l, *last = w, r->has_l = true;
    if (op->has_n) r->n += op->n;
    if (op->has_hi && (!r->has_hi || op->hi > r->hi)) r->hi = op->hi, r->has_hi = true;
    if (op->has_lo && (!r->has_lo || op->lo < r->lo)) r->lo = op->lo, r->has_lo = true;
}

struct cell_row model_row(const struct cell_write *writes, size_t count, uint32_t row, uint64_t at)
{
    struct cell_row r = {.there = row < MODEL_UNBORN};
    const struct cell_write *last = 0;
    bool deleted = false;
    for (size_t i = 0; i < count; i++) {
        const struct cell_write *w = &writes[i];
        if (!concerns(w, row, at)) continue;
        r.there = true;
        deleted |= w->op.delete;
        add_write(&r, w, &last);
        for (unsigned letter = 1; w->op.has_tags && letter < 1u << MODEL_LETTERS; letter <<= 1)
            if (w->op.add & letter && stands(writes, count, w, letter, at)) r.tags |= letter;
    }
    r.there = r.there && !deleted;
    return r;
}
