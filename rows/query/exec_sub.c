// Selects within: run when an expression asks for them, and remembered while what they depend on stays.
#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "exec.h"
#include "show.h"

struct run_sub {
    const struct sub *sub;
    struct exec *x; // NULL: never asked for
    bool known;
    struct value value;
    struct buf text; // what the value points to; of an array what there is so far
    bool begun;
    struct key_set keys; // of SUB_IN
    bool has_null;
    size_t held;
};

int subs_new(struct run *run)
{
    size_t n = run->plan->sub_count;
    run->subs = n > 0 ? calloc(n, sizeof *run->subs) : NULL;
    if (n > 0 && !run->subs) return ERR_NOMEM;
    for (size_t i = 0; i < n; i++) {
        run->subs[i].sub = run->plan->subs[i];
        buf_init(&run->subs[i].text, QUERY_MEMORY_MAX);
        key_set_init(&run->subs[i].keys, QUERY_MEMORY_MAX);
    }
    return 0;
}

static void forget(struct run *run, struct run_sub *s)
{
    if (s->x) exec_reset(s->x);
    s->known = s->begun = s->has_null = false;
    buf_clear(&s->text);
    if (s->keys.n > 0) key_set_free(&s->keys);
    run_hold(run, s->held, 0);
    s->held = 0;
}

void subs_free(struct run *run)
{
    for (size_t i = 0; run->subs && i < run->plan->sub_count; i++) {
        struct run_sub *s = &run->subs[i];
        forget(run, s);
        exec_free(s->x);
        buf_free(&s->text);
        key_set_free(&s->keys);
    }
    free(run->subs);
    run->subs = NULL;
}

void run_forget(struct run *run, uint64_t slots)
{
    for (size_t i = 0; i < run->plan->sub_count; i++) {
        struct run_sub *s = &run->subs[i];
        if ((s->sub->uses & slots) && (s->known || s->begun)) forget(run, s);
    }
}

int subs_suspend(struct run *run)
{
    int err = 0;
    for (size_t i = 0; i < run->plan->sub_count && !err; i++)
        if (run->subs[i].x) err = exec_suspend(run->subs[i].x);
    return err;
}

int subs_resume(struct run *run)
{
    int err = 0;
    for (size_t i = 0; i < run->plan->sub_count && !err; i++)
        if (run->subs[i].x) err = exec_resume(run->subs[i].x);
    return err;
}

const struct key_set *sub_keys(const struct run *run, uint32_t no, bool *has_null)
{
    assert(run->subs[no].known);
    *has_null = run->subs[no].has_null;
    return &run->subs[no].keys;
}

// ---- what becomes of its rows --------------------------------------------------------------------------------------

// One column alone is its value; several are an object.
static int put_json(struct run *run, const struct select *s, struct buf *out)
{
    struct jw w;
    size_t before = out->n;
    jw_init(&w, out);
    int err = s->target_count == 1 ? show_target(&w, run, &s->targets[0]) : show_targets(&w, run, s);
    if (err) buf_truncate(out, before); // to be asked for again
    return err ? err : out->err;
}

static int take_scalar(struct run *run, struct run_sub *s, const struct select *sel, const struct type *type)
{
    struct value v;
    if (s->begun) return problem_set(&run->problem, ERR_BAD_VALUE, sel->position, "a select that stands for one value gives more than one row");
    if (sel->target_count > 1 || sel->targets[0].expr->type.kind == COL_STREAM || sel->targets[0].expr->type.kind == COL_BLOB) {
        int err = put_json(run, sel, &s->text);
        if (err) return err;
        s->value = (struct value){.s = buf_span(&s->text)};
        s->begun = true;
        return 0;
    }
    int err = run_eval(run, sel->targets[0].expr, &v);
    if (err) return err;
    if (!v.null && type_is_span(type)) {
        buf_put_span(&s->text, v.s);
        v.s = buf_span(&s->text);
    }
    s->value = v;
    s->begun = true;
    return s->text.err;
}

static int take_array(struct run *run, struct run_sub *s, const struct select *sel)
{
    size_t before = s->text.n;
    buf_put_u8(&s->text, s->begun ? ',' : '[');
    int err = s->text.err ? s->text.err : put_json(run, sel, &s->text);
    if (err) {
        buf_truncate(&s->text, before);
        return err;
    }
    s->begun = true;
    return 0;
}

static int take_key(struct run *run, struct run_sub *s, const struct select *sel)
{
    struct value v;
    struct buf key;
    const struct expr *e = sel->targets[0].expr;
    int err = run_eval(run, e, &v);
    if (err) return err;
    buf_init(&key, QUERY_MEMORY_MAX);
    value_key(&key, &e->type, &v);
    err = key.err ? key.err : key_set_add(&s->keys, buf_span(&key), NULL, NULL);
    buf_free(&key);
    s->has_null = s->has_null || v.null;
    s->begun = true;
    return err;
}

static int take(struct run *run, struct run_sub *s, bool *enough)
{
    const struct select *sel = s->sub->select;
    switch (s->sub->kind) {
    case SUB_EXISTS:
        s->value = (struct value){.b = true};
        *enough = true;
        return 0;
    case SUB_SCALAR: return take_scalar(run, s, sel, &sel->targets[0].expr->type);
    case SUB_ARRAY: return take_array(run, s, sel);
    case SUB_IN: return take_key(run, s, sel);
    }
    assert(!"a kind of select within");
    return ERR_INTERNAL;
}

static int end(struct run_sub *s)
{
    if (s->sub->kind == SUB_ARRAY) {
        buf_put_str(&s->text, s->begun ? "]" : "[]");
        s->value = (struct value){.s = buf_span(&s->text)};
    } else if (s->sub->kind == SUB_EXISTS) {
        s->value = (struct value){.b = false};
    } else if (s->sub->kind == SUB_SCALAR && !s->begun) {
        s->value = VALUE_NULL;
    }
    return s->text.err;
}

static int account(struct run *run, struct run_sub *s)
{
    size_t now = s->text.n + key_set_bytes(&s->keys), before = s->held;
    s->held = now;
    return run_hold(run, before, now);
}

int sub_advance(struct run *run, uint32_t no)
{
    struct run_sub *s = &run->subs[no];
    bool row = true, enough = false;
    int err = s->x || s->known ? 0 : exec_new(run, s->sub->select, &s->x);
    while (!err && !s->known) {
        err = exec_next(s->x, &row);
        if (!err && row) err = take(run, s, &enough);
        if (err) break;
        if (row) exec_taken(s->x);
        err = account(run, s);
        if (err || (row && !enough)) continue;
        if (!row) err = end(s);
        s->known = !err;
    }
    if (!err) exec_reset(s->x);
    return err == ERR_TOO_LARGE ? ERR_QUERY_TOO_EXPENSIVE : err;
}

// ---- for expressions -----------------------------------------------------------------------------------------------

static int in_value(const struct run_sub *s, const struct expr *e, const struct value *left, struct value *out)
{
    struct buf key;
    *out = (struct value){.b = e->negate};
    if (s->keys.n == 0) return 0; // of nothing even a null is told
    *out = VALUE_NULL;
    if (left->null) return 0;
    buf_init(&key, QUERY_MEMORY_MAX);
    value_key(&key, &e->args[0]->type, left);
    bool found = !key.err && key_set_find(&s->keys, buf_span(&key)) != SIZE_MAX;
    int err = key.err;
    buf_free(&key);
    if (found || !s->has_null) *out = (struct value){.b = found != e->negate};
    return err;
}

int sub_value(struct expr_env *env, const struct expr *e, const struct value *left, struct value *out)
{
    struct run *run = env->ctx;
    const struct sub *sub = e->sub;
    const struct run_sub *s = &run->subs[sub->no];
    if (!s->known) {
        run->needed = sub->no;
        return EXPR_NEEDS;
    }
    if (sub->kind == SUB_IN) return in_value(s, e, left, out);
    *out = s->value;
    return 0;
}
