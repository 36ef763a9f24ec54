// Where to look in an index: from what expressions are worth to ranges of keys.
#include <assert.h>

#include "elements.h"
#include "err.h"
#include "exec.h"

#define PREFIX_MAX (INDEX_KEY_MAX + sizeof(struct uuid)) // no row's key is longer

// The bytes of one column's value. Of the rows by id: the id itself.
static void put_value(struct buf *out, const struct table *t, const struct index *ix, size_t place, const struct value *v)
{
    if (ix) {
        index_key_value(out, t, ix, place, v);
    } else {
        buf_put(out, v->u.b, sizeof v->u.b);
    }
}

// The least bytes that no key which begins with `key` reaches; empty where there are none.
static void past(struct buf *key)
{
    while (key->n > 0 && key->p[key->n - 1] == 0xff)
        buf_truncate(key, key->n - 1);
    if (key->n > 0) key->p[key->n - 1]++;
}

// Sorted keys have at least as many bytes behind them as an id.
static const uint8_t tail[sizeof(struct uuid)];

static int put_each(struct ranges *r, const struct table *t, const struct index *ix, size_t place, const struct value *v)
{
    struct buf key;
    bool dropped;
    if (v->null) return 0; // equal to nothing
    buf_init(&key, PREFIX_MAX - r->prefix.n); // behind the prefix
    put_value(&key, t, ix, place, v);
    buf_put(&key, tail, sizeof tail);
    int err = key.err == ERR_TOO_LARGE ? 0 : key.err; // longer than any row's
    if (!key.err) err = sort_keys_collect(&r->each, buf_span(&key), SIZE_MAX, &dropped);
    buf_free(&key);
    return err;
}

static struct span each_at(const struct ranges *r, size_t i)
{
    struct span key = sort_key_span(r->each.keys[i]);
    return span_sub(key, 0, key.n - sizeof tail);
}

// The values that `in`, `any` or a select within names, in the order of their keys, each once.
static int list_in(struct ranges *r, struct run *run, const struct expr *e, const struct table *t, const struct index *ix, size_t place)
{
    struct value v, item;
    struct elements all;
    int err = 0;
    for (size_t i = 1; e->kind == EX_IN && i < e->count && !err; i++) {
        err = run_eval(run, e->args[i], &v);
        if (!err) err = put_each(r, t, ix, place, &v);
    }
    if (e->kind != EX_ANY) return err;
    err = run_eval(run, e->args[1], &v);
    if (err || v.null) return err;
    elements_open(&all, &e->args[1]->type, &v);
    while (!err && elements_next(&all, &item, NULL))
        err = put_each(r, t, ix, place, &item);
    return err;
}

static int list_sub(struct ranges *r, struct run *run, const struct expr *e, const struct table *t, const struct index *ix, size_t place)
{
    const struct sub *sub = e->sub;
    const struct type *type = &sub->select->targets[0].expr->type;
    bool has_null;
    int err = sub_advance(run, sub->no);
    if (err) return err;
    const struct key_set *keys = sub_keys(run, sub->no, &has_null);
    for (size_t i = 0; i < keys->n && !err; i++) {
        struct cur c;
        struct value v;
        cur_init(&c, key_set_at(keys, i));
        bool null = cur_u8(&c) == 0;
        if (null) continue;
        value_decode(&c, type, &v);
        err = c.err ? c.err : put_each(r, t, ix, place, &v);
    }
    return err;
}

static int begin_each(struct ranges *r, struct run *run, const struct expr *e, const struct table *t, const struct index *ix, size_t place)
{
    bool dropped;
    sort_keys_free(&r->each); // of an attempt that had to wait
    int err = e->kind == EX_SUB ? list_sub(r, run, e, t, ix, place) : list_in(r, run, e, t, ix, place);
    if (err) return err;
    sort_keys_finish(&r->each, SIZE_MAX, &dropped);
    return 0;
}

int ranges_begin(struct ranges *r, struct run *run, const struct level *level, const struct table *t, const struct index *ix)
{
    const struct access *a = &level->access;
    struct sort_keys each = r->each;
    buf_free(&r->prefix);
    *r = (struct ranges){.each = each};
    buf_init(&r->prefix, PREFIX_MAX);
    for (size_t i = 0; i < a->equal_count; i++) {
        struct value v = VALUE_NULL;
        int err = a->equal[i] ? run_eval(run, a->equal[i], &v) : 0;
        if (err) return err;
        r->empty = r->empty || (a->equal[i] && v.null);
        if (!r->empty) put_value(&r->prefix, t, ix, i, &v);
    }
    if (r->prefix.err == ERR_NOMEM) return ERR_NOMEM;
    r->empty = r->empty || r->prefix.err != 0;
    if (r->empty || !a->each) return 0;
    return begin_each(r, run, a->each, t, ix, a->equal_count);
}

// ---- one range -----------------------------------------------------------------------------------------------------

// Keys that begin with the prefix, and then with a value at or past this one: a bound of the range in the order of the values.
static int put_bound(struct buf *out, struct run *run, const struct expr *e, bool behind, bool upper, const struct table *t,
                     const struct index *ix, size_t place, bool *empty)
{
    struct value v;
    struct buf key;
    int err = run_eval(run, e, &v);
    if (err) return err;
    *empty = v.null;
    if (v.null) return 0;
    buf_init(&key, ROW_BYTES_MAX * 4);
    put_value(&key, t, ix, place, &v);
    bool cut = key.n > PREFIX_MAX - out->n; // no row's key is so long: what is cut off decides nothing that the filters do not
    buf_put_span(out, span_sub(buf_span(&key), 0, PREFIX_MAX - out->n));
    err = key.err;
    buf_free(&key);
    if (cut ? upper : behind) past(out);
    return err ? err : out->err;
}

// Nulls stand at one end of a column, and a comparison holds of none.
static void put_null_bound(struct buf *out, bool behind, const struct table *t, const struct index *ix, size_t place)
{
    index_key_value(out, t, ix, place, &VALUE_NULL);
    if (behind) past(out);
}

// A column that descends has its low bound at the end of its keys.
static int range_bounds(struct run *run, const struct access *a, const struct table *t, const struct index *ix, struct buf *from,
                        struct buf *to, bool *empty)
{
    size_t place = a->equal_count;
    bool desc = ix && ix->columns[place].desc;
    const struct expr *first = desc ? a->high : a->low, *last = desc ? a->low : a->high;
    bool first_open = desc ? a->high_open : a->low_open, last_open = desc ? a->low_open : a->high_open;
    int err = 0;
    if (first) {
        err = put_bound(from, run, first, first_open, false, t, ix, place, empty);
    } else if (desc) {
        put_null_bound(from, true, t, ix, place);
    }
    if (err || *empty) return err;
    if (last) {
        err = put_bound(to, run, last, !last_open, true, t, ix, place, empty);
    } else if (ix && !desc) {
        put_null_bound(to, false, t, ix, place);
    } else {
        past(to);
    }
    return err;
}

static int put_range(struct ranges *r, struct run *run, const struct access *a, const struct table *t, const struct index *ix,
                     struct buf *from, struct buf *to, bool *empty)
{
    buf_clear(from);
    buf_clear(to);
    buf_put_span(from, buf_span(&r->prefix));
    buf_put_span(to, buf_span(&r->prefix));
    if (a->each) {
        buf_put_span(from, each_at(r, r->at));
        buf_put_span(to, each_at(r, r->at));
        past(to);
    } else if (a->low || a->high) {
        int err = range_bounds(run, a, t, ix, from, to, empty);
        if (err) return err;
    } else {
        past(to);
    }
    return from->err ? from->err : to->err;
}

int ranges_next(struct ranges *r, struct run *run, const struct level *level, const struct table *t, const struct index *ix,
                struct buf *from, struct buf *to, bool *more)
{
    const struct access *a = &level->access;
    size_t count = a->each ? r->each.n : 1;
    bool empty = false;
    while (a->each && r->at > 0 && r->at < count && span_equal(each_at(r, r->at), each_at(r, r->at - 1)))
        r->at++;
    *more = !r->empty && r->at < count;
    if (!*more) return 0;
    int err = put_range(r, run, a, t, ix, from, to, &empty);
    if (err) return err;
    r->at++;
    *more = !empty;
    return 0;
}

void ranges_free(struct ranges *r)
{
    buf_free(&r->prefix);
    sort_keys_free(&r->each);
    *r = (struct ranges){.at = 0};
}
