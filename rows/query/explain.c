// How a query goes about it, and what that cost: for whoever wonders why it is slow.
#include <stdio.h>

#include "query_run.h"

static const struct table *table_of(const struct query_run *run, const struct level *level)
{
    return schema_table_no(run->run.src.r->schema, level->table);
}

static void show_access(struct jw *w, const struct table *t, const struct level *level)
{
    static const char *const kinds[] = {[ACCESS_SCAN] = "scan", [ACCESS_POINT] = "point", [ACCESS_INDEX] = "index"};
    const struct access *a = &level->access;
    const struct index *ix = a->index != 0 ? table_index(t, a->index) : NULL;
    jw_key(w, "by");
    jw_cstr(w, kinds[a->kind]);
    if (a->kind == ACCESS_INDEX) {
        jw_key(w, "index");
        if (ix) {
            jw_str(w, ix->name);
        } else {
            jw_cstr(w, "id");
        }
    }
    if (a->equal_count > 0 && a->kind == ACCESS_INDEX) {
        jw_key(w, "equal");
        jw_uint(w, a->equal_count);
    }
    if (a->each) {
        jw_key(w, "each");
        jw_bool(w, true);
    }
    if (a->low || a->high) {
        jw_key(w, "range");
        jw_cstr(w, a->low && a->high ? "both" : a->low ? "from" : "to");
    }
    if (a->desc) {
        jw_key(w, "backwards");
        jw_bool(w, true);
    }
}

static void show_level(struct jw *w, const struct query_run *run, const struct level *level)
{
    const struct table *t = table_of(run, level);
    const struct level_stats *stats = &run->run.stats[level->slot];
    jw_object(w);
    jw_key(w, "table");
    jw_str(w, t->name);
    if (!span_equal(t->name, level->name)) {
        jw_key(w, "as");
        jw_str(w, level->name);
    }
    if (level->left) {
        jw_key(w, "left");
        jw_bool(w, true);
    }
    show_access(w, t, level);
    jw_key(w, "filters");
    jw_uint(w, level->filter_count + level->on_count);
    jw_key(w, "opened");
    jw_uint(w, stats->opened);
    jw_key(w, "looked_at");
    jw_uint(w, stats->looked_at);
    jw_key(w, "rows");
    jw_uint(w, stats->rows);
    jw_end(w);
}

static void show_select(struct jw *w, const struct query_run *run, const struct select *s, const char *kind)
{
    jw_object(w);
    jw_key(w, "select");
    jw_cstr(w, kind);
    jw_key(w, "tables");
    jw_array(w);
    for (size_t i = 0; i < s->level_count; i++)
        show_level(w, run, &s->levels[i]);
    jw_end(w);
    jw_key(w, "grouped");
    jw_bool(w, s->grouped);
    jw_key(w, "sorted");
    jw_bool(w, !s->any_order && (s->grouped ? s->order_count > 0 : !s->sorted));
    jw_end(w);
}

void query_explain(const struct query_run *run, struct jw *w)
{
    static const char *const kinds[] = {[SUB_EXISTS] = "exists", [SUB_SCALAR] = "value", [SUB_ARRAY] = "array", [SUB_IN] = "in"};
    jw_object(w);
    jw_key(w, "plan");
    jw_array(w);
    show_select(w, run, run->plan->top, "result");
    for (size_t i = 0; i < run->plan->sub_count; i++)
        show_select(w, run, run->plan->subs[i]->select, kinds[run->plan->subs[i]->kind]);
    jw_end(w);
    jw_key(w, "rows");
    jw_uint(w, run->emitted);
    jw_key(w, "looked_at");
    jw_uint(w, run->run.looked_at);
    jw_end(w);
}
