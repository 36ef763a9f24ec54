// What groups show: their values are put where the query's expressions look for them, and having, order and targets evaluated.
#include <assert.h>
#include <stdlib.h>

#include "checksum.h"
#include "err.h"
#include "group_view.h"
#include "show.h"

void group_seen_free(struct group_seen *seen)
{
    buf_free(&seen->place);
    buf_free(&seen->values);
    bytes_unref(seen->json);
    *seen = (struct group_seen){.is = false};
}

int group_look_open(struct group_look *look, struct group_view *g, const struct row_source *src, size_t budget)
{
    *look = (struct group_look){.g = g};
    int err = run_open(&look->run, g->l.plan, src, g->l.params);
    if (err) return err;
    look->open = true;
    return run_begin_step(&look->run, src->txn, budget);
}

void group_look_close(struct group_look *look, size_t *budget)
{
    if (!look->open) return;
    *budget -= look->run.given - look->run.budget;
    run_close(&look->run);
    look->open = false;
}

// ---- values --------------------------------------------------------------------------------------------------------

static int put_values(struct group_look *look, const struct group *group)
{
    const struct select *s = group_select(look->g);
    struct run *run = &look->run;
    struct cur c;
    int err = 0;
    run_forget(run, s->own);
    cur_init(&c, SPAN(group->key, group->key_n));
    for (size_t i = 0; i < s->group_count; i++) {
        struct value *v = &run->slots[s->group_slot + i];
        *v = VALUE_NULL;
        if (cur_u8(&c) == 1) value_decode(&c, &s->group[i]->type, v);
    }
    for (size_t i = 0; i < s->aggregate_count && !err; i++)
        err = tally_result(&group->tallies[i], &s->aggregates[i], &run->slots[s->aggregates[i].slot], &run->problem);
    return err ? err : cur_end(&c);
}

static int has_row(struct group_look *look, const struct group *group, bool *has)
{
    const struct select *s = group_select(look->g);
    struct value v;
    *has = group->rows > 0 || (s->grouped && s->group_count == 0);
    if (!*has || !s->grouped) return 0;
    int err = put_values(look, group);
    if (err || !s->having) return err;
    err = run_eval(&look->run, s->having, &v);
    *has = !err && !v.null && v.b;
    return err;
}

// Of a grouped and distinct result: what a row shows, as value_key writes it.
static int distinct_values(struct group_look *look, struct buf *out)
{
    const struct select *s = group_select(look->g);
    int err = 0;
    for (size_t i = 0; i < s->target_count && !err; i++) {
        struct value v;
        err = run_eval(&look->run, s->targets[i].expr, &v);
        if (!err) value_key(out, &s->targets[i].expr->type, &v);
    }
    return err ? err : out->err;
}

static int decode_values(const struct select *s, struct span values, struct value **out)
{
    struct cur c;
    *out = calloc(s->target_count + 1, sizeof **out);
    if (!*out) return ERR_NOMEM;
    cur_init(&c, values);
    for (size_t i = 0; i < s->target_count; i++) {
        (*out)[i] = VALUE_NULL;
        if (cur_u8(&c) == 1) value_decode(&c, &s->targets[i].expr->type, &(*out)[i]);
    }
    return cur_end(&c);
}

// ---- places --------------------------------------------------------------------------------------------------------

static int put_place(struct group_look *look, const struct value *values, struct group_seen *seen)
{
    const struct select *s = group_select(look->g);
    for (size_t i = 0; i < s->order_count; i++) {
        const struct order_term *o = &s->order[i];
        struct value v;
        int err = 0;
        if (values) v = values[look->g->order[i]];
        else err = run_eval(&look->run, o->expr, &v);
        if (err) return err;
        value_order_key(&seen->place, &o->expr->type, &v, o->desc, o->nulls_first);
    }
    buf_put(&seen->place, seen->id.b, sizeof seen->id.b);
    return seen->place.err;
}

// ---- JSON ----------------------------------------------------------------------------------------------------------

static void show_distinct(struct jw *w, struct group_look *look, const struct value *values)
{
    const struct select *s = group_select(look->g);
    jw_object(w);
    for (size_t i = 0; i < s->target_count; i++) {
        jw_key_span(w, s->targets[i].name);
        show_value(w, look->run.src.r, look->run.src.txn, &s->targets[i].expr->type, &values[i]);
    }
    jw_end(w);
}

static int show_group(struct group_look *look, const struct value *values, struct bytes **json)
{
    struct buf text;
    struct jw w;
    int err = 0;
    buf_init(&text, QUERY_RESULT_MAX);
    jw_init(&w, &text);
    if (values) show_distinct(&w, look, values);
    else err = show_targets(&w, &look->run, group_select(look->g));
    if (!err) err = text.err;
    *json = err ? NULL : bytes_new(buf_span(&text));
    buf_free(&text);
    return !err && !*json ? ERR_NOMEM : err;
}

// ---- looking -------------------------------------------------------------------------------------------------------

static void name(struct group_seen *seen, struct span values)
{
    _Static_assert(RUN_DIGEST_BYTES == sizeof seen->id.b, "a row goes by its digest");
    run_digest(values, seen->id.b);
}

static int see(struct group_look *look, const struct group *group, struct group_seen *out)
{
    const struct select *s = group_select(look->g);
    struct value *values = NULL;
    struct span shown = SPAN(group->key, group->key_n);
    int err = 0;
    if (s->distinct && s->grouped) {
        err = distinct_values(look, &out->values);
        shown = buf_span(&out->values);
    }
    if (!err && s->distinct) err = decode_values(s, shown, &values);
    if (!err) name(out, shown);
    if (!err && group_listed(look->g)) err = put_place(look, values, out);
    if (!err) err = show_group(look, values, &out->json);
    free(values);
    if (!err) out->digest = checksum64(bytes_span(out->json), 0);
    return err;
}

int group_look(struct group_look *look, const struct group *group, struct group_seen *out)
{
    *out = (struct group_seen){.is = false};
    buf_init(&out->place, QUERY_SORT_MAX);
    buf_init(&out->values, QUERY_MEMORY_MAX);
    int err = has_row(look, group, &out->is);
    if (!err && out->is) err = see(look, group, out);
    if (err) group_seen_free(out);
    return err == EXEC_MORE ? ERR_QUERY_TOO_EXPENSIVE : err;
}

int group_look_row(struct group_look *look, const struct group_row *row, struct bytes **json)
{
    const struct select *s = group_select(look->g);
    struct value *values = NULL;
    int err = 0;
    if (group_shows_key(look->g)) err = decode_values(s, SPAN(row->of->key, row->of->key_n), &values);
    else if (s->distinct) err = decode_values(s, SPAN(row->values, row->values_n), &values);
    else err = put_values(look, row->of);
    if (!err) err = show_group(look, values, json);
    free(values);
    return err == EXEC_MORE ? ERR_QUERY_TOO_EXPENSIVE : err;
}
