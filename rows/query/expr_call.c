#include "expr_call.h"

#include <assert.h>
#include <math.h>

#include "elements.h"
#include "err.h"
#include "limits.h"
#include "utf8.h"

static int too_large(const struct expr *e, struct expr_env *env)
{
    return problem_set(env->p, ERR_TOO_LARGE, e->position, "the texts of one row's expressions take more memory than they may");
}

static int no_room(const struct expr *e, struct expr_env *env)
{
    return arena_full(env->scratch) ? too_large(e, env) : ERR_NOMEM;
}

static int null(struct value *out)
{
    *out = VALUE_NULL;
    return 0;
}

// ---- like ----------------------------------------------------------------------------------------------------------

static uint8_t fold(uint8_t c, bool any_case)
{
    return any_case && c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

static size_t character(struct span s, size_t at)
{
    size_t n = 1;
    while (at + n < s.n && (s.p[at + n] & 0xc0) == 0x80)
        n++;
    return n;
}

// Where a % was met last is all that has to be gone back to, so the time is at most the product of the lengths.
bool expr_like(struct span text, struct span pattern, bool any_case, bool *matches, size_t *steps)
{
    size_t t = 0, p = 0, star = SIZE_MAX, star_t = 0;
    for (size_t i = 0; i < pattern.n; i++) {
        if (pattern.p[i] != '\\') continue;
        if (++i == pattern.n) return false;
    }
    *matches = false;
    while (t < text.n || p < pattern.n) {
        if (++*steps > LIKE_STEPS_MAX) return false;
        uint8_t c = p < pattern.n ? pattern.p[p] : 0;
        if (p < pattern.n && c == '%') {
            star = ++p;
            star_t = t;
            continue;
        }
        if (t < text.n && p < pattern.n && c == '_') {
            t += character(text, t);
            p++;
            continue;
        }
        size_t escaped = p < pattern.n && c == '\\';
        if (t < text.n && p < pattern.n && fold(text.p[t], any_case) == fold(pattern.p[p + escaped], any_case)) {
            t++;
            p += 1 + escaped;
            continue;
        }
        if (star == SIZE_MAX || star_t >= text.n) return true;
        star_t += character(text, star_t);
        t = star_t;
        p = star;
    }
    *matches = true;
    return true;
}

// ---- texts ---------------------------------------------------------------------------------------------------------

int expr_concat(const struct expr *e, struct expr_env *env, struct value *out)
{
    struct value a, b;
    int err = expr_eval(e->args[0], env, &a);
    if (!err) err = expr_eval(e->args[1], env, &b);
    if (err) return err;
    if (a.null || b.null) return null(out);
    uint8_t *p = arena_alloc(env->scratch, a.s.n + b.s.n);
    if (!p) return no_room(e, env);
    if (a.s.n > 0) memcpy(p, a.s.p, a.s.n);
    if (b.s.n > 0) memcpy(p + a.s.n, b.s.p, b.s.n);
    *out = (struct value){.s = SPAN(p, a.s.n + b.s.n)};
    return 0;
}

static int change_case(const struct expr *e, struct expr_env *env, struct span s, char from, struct value *out)
{
    uint8_t *p = arena_alloc(env->scratch, s.n);
    if (!p) return no_room(e, env);
    for (size_t i = 0; i < s.n; i++)
        p[i] = s.p[i] >= from && s.p[i] <= from + 25 ? s.p[i] ^ 0x20 : s.p[i];
    *out = (struct value){.s = SPAN(p, s.n)};
    return 0;
}

static int64_t characters(struct span s)
{
    int64_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += (s.p[i] & 0xc0) != 0x80;
    return n;
}

// The text of a value as JSON has it, without the quotes of those that are written as strings.
static int to_text(const struct expr *e, struct expr_env *env, const struct type *from, const struct value *v, struct value *out)
{
    struct buf text;
    struct jw w;
    buf_init(&text, ROW_BYTES_MAX * 2);
    jw_init(&w, &text);
    value_json(&w, from, v);
    struct span s = buf_span(&text);
    int err = text.err;
    if (!err && from->kind != COL_JSONB && s.n >= 2 && s.p[0] == '"') s = span_sub(s, 1, s.n - 2);
    *out = (struct value){.null = false};
    if (!err && !arena_copy_span(env->scratch, s, &out->s)) err = no_room(e, env);
    buf_free(&text);
    return err == ERR_TOO_LARGE ? too_large(e, env) : err;
}

static bool is_double(const struct type *t)
{
    return t->kind == COL_DOUBLE && !t->array;
}

// To the nearest whole number, halves to the even one.
static int to_whole(const struct expr *e, struct expr_env *env, const struct value *v, struct value *out)
{
    double d = rint(v->d);
    bool fits = d >= -0x1p63 && d < 0x1p63 && (e->type.kind != COL_INTEGER || (d >= INT32_MIN && d <= INT32_MAX));
    if (!fits) return problem_set(env->p, ERR_BAD_VALUE, e->position, "a number does not fit its cast");
    *out = (struct value){.i = (int64_t)d};
    return 0;
}

int expr_cast(const struct expr *e, struct expr_env *env, struct value *out)
{
    struct value v;
    const struct type *from = &e->args[0]->type;
    int err = expr_eval(e->args[0], env, &v);
    if (err || v.null || type_same(from, &e->type)) {
        if (!err) *out = v;
        return err;
    }
    if (e->type.kind == COL_TEXT) return to_text(e, env, from, &v, out);
    if (is_double(from)) return to_whole(e, env, &v, out);
    if (!is_double(&e->type)) {
        if (e->type.kind == COL_INTEGER && (v.i < INT32_MIN || v.i > INT32_MAX))
            return problem_set(env->p, ERR_BAD_VALUE, e->position, "a number does not fit its cast");
        *out = v;
        return 0;
    }
    *out = (struct value){.d = (double)v.i};
    return 0;
}

// ---- arrays --------------------------------------------------------------------------------------------------------

int expr_elements(const struct expr *e, struct expr_env *env, struct value *out)
{
    struct buf b;
    struct value item;
    int err = 0;
    buf_init(&b, ROW_BYTES_MAX * 2);
    for (size_t i = 0; i < e->count && !err; i++) {
        err = expr_eval(e->args[i], env, &item);
        if (!err && item.null) err = problem_set(env->p, ERR_BAD_VALUE, e->args[i]->position, "an array holds no nulls");
        if (!err) elements_put(&b, &e->type, &item, 0);
        if (!err) err = b.err;
    }
    *out = (struct value){.null = false};
    if (!err && !arena_copy_span(env->scratch, buf_span(&b), &out->s)) err = no_room(e, env);
    buf_free(&b);
    return err == ERR_TOO_LARGE ? too_large(e, env) : err;
}

// ---- calls ---------------------------------------------------------------------------------------------------------

static int absolute(const struct expr *e, struct expr_env *env, struct value *v)
{
    if (is_double(&e->type)) {
        v->d = fabs(v->d);
    } else if (v->i == INT64_MIN) {
        return problem_set(env->p, ERR_BAD_VALUE, e->position, "a result is past 64 bits");
    } else {
        v->i = v->i < 0 ? -v->i : v->i;
    }
    return 0;
}

static int stream_text(const struct expr *e, struct expr_env *env, struct value *out)
{
    struct span text;
    const struct expr *column = e->args[0];
    if (!env->stream_text) return problem_set(env->p, ERR_UNSUPPORTED_SQL, e->position, "stream_text is not supported here");
    if (!env->rows[column->slot].row) return null(out);
    int err = env->stream_text(env, column, &text);
    if (!err) *out = (struct value){.s = text};
    return err;
}

int expr_call(const struct expr *e, struct expr_env *env, struct value *out)
{
    struct value v;
    if (e->op == CALL_STREAM_TEXT) return stream_text(e, env, out);
    int err = expr_eval(e->args[0], env, &v);
    if (err) return err;
    if (v.null) return null(out);
    switch ((enum expr_call)e->op) {
    case CALL_LOWER: return change_case(e, env, v.s, 'A', out);
    case CALL_UPPER: return change_case(e, env, v.s, 'a', out);
    case CALL_LENGTH: *out = (struct value){.i = characters(v.s)}; return 0;
    case CALL_CARDINALITY: *out = (struct value){.i = (int64_t)elements_count(&e->args[0]->type, &v)}; return 0;
    case CALL_ABS:
        err = absolute(e, env, &v);
        if (!err) *out = v;
        return err;
    case CALL_STREAM_TEXT: break;
    }
    assert(!"a call");
    return ERR_INTERNAL;
}
