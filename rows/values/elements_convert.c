// From a JSON array, or the content of an SQL array constant, to the elements of a value.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "elements.h"
#include "err.h"
#include "json_read.h"
#include "limits.h"

#define SCRATCH_MAX (2 * BATCH_BYTES_MAX)

// One array being read.
struct reading {
    const struct value_target *target;
    struct type item;
    struct arena *arena; // of this reading alone
    struct buf text;     // of one element
    struct value *items;
    size_t count, cap;
    struct problem *p;
};

static int bad(const struct reading *r, const char *what)
{
    return problem_set(r->p, ERR_BAD_VALUE, r->target->position, "%.*s: %s", SPAN_FMT(r->target->column), what);
}

static int add(struct reading *r, enum value_source source, const struct row_value *in)
{
    char name[NAME_MAX_BYTES + 16];
    if (in->kind == ROW_NULL) return bad(r, "an element cannot be null");
    if (r->count == ARRAY_ELEMENTS_MAX)
        return problem_set(r->p, ERR_TOO_LARGE, r->target->position, "%.*s: more than %d elements", SPAN_FMT(r->target->column),
                           ARRAY_ELEMENTS_MAX);
    if (r->count == r->cap) {
        size_t cap = r->cap ? r->cap * 2 : 16;
        struct value *items = realloc(r->items, cap * sizeof *items);
        if (!items) return ERR_NOMEM;
        r->items = items;
        r->cap = cap;
    }
    int n = snprintf(name, sizeof name, "%.*s[%zu]", SPAN_FMT(span_sub(r->target->column, 0, NAME_MAX_BYTES)), r->count + 1);
    struct value_target target = {.type = &r->item, .source = source, .column = SPAN(name, n), .position = r->target->position};
    struct value *v = &r->items[r->count];
    int err = value_convert(v, &target, in, r->arena, r->p);
    if (err) return err;
    if (r->item.kind == COL_INTEGER && (v->i < INT32_MIN || v->i > INT32_MAX)) return bad(r, "an element is out of the range of integer");
    r->count++;
    return 0;
}

// ---- JSON ----------------------------------------------------------------------------------------------------------

static int add_json(struct reading *r, const struct jr *json)
{
    struct row_value v = {.kind = ROW_NULL};
    switch (jr_type(json)) {
    case JR_ABSENT:
    case JR_NULL: break;
    case JR_BOOL: v = (struct row_value){.kind = ROW_BOOL, .b = jr_bool(json, false)}; break;
    case JR_INT: v = (struct row_value){.kind = ROW_INT, .i = jr_int(json, 0)}; break;
    case JR_REAL: v = (struct row_value){.kind = ROW_REAL, .d = jr_real(json, 0)}; break;
    case JR_STRING: v = (struct row_value){.kind = ROW_TEXT, .s = jr_str(json)}; break;
    case JR_ARRAY:
    case JR_OBJECT: {
        buf_clear(&r->text);
        int err = jr_canonical(json, &r->text);
        if (err) return err;
        v = (struct row_value){.kind = ROW_JSON, .s = buf_span(&r->text)};
    }
    }
    return add(r, VALUE_WRITTEN, &v);
}

static int read_json(struct reading *r, struct span text)
{
    struct jr_tree *tree;
    int err = 0;
    if (jr_parse(&tree, text, NULL)) return bad(r, "not valid JSON");
    const struct jr *array = jr_root(tree);
    if (jr_type(array) != JR_ARRAY) err = bad(r, "not a JSON array");
    for (size_t i = 0; i < jr_count(array) && !err; i++)
        err = add_json(r, jr_at(array, i));
    jr_free(tree);
    return err;
}

// ---- SQL -----------------------------------------------------------------------------------------------------------

// The text of an element says what it is; only truth values and numbers are read as a parameter's text is.
static int add_text(struct reading *r, bool quoted)
{
    struct row_value v = {.kind = ROW_TEXT, .s = buf_span(&r->text)};
    bool plain = r->item.kind == COL_DOUBLE || r->item.kind == COL_BOOLEAN;
    if (r->text.err) return r->text.err;
    if (!quoted && v.s.n == 0) return bad(r, "an element is missing");
    if (!quoted && v.s.n == 4 && strncasecmp((const char *)v.s.p, "null", 4) == 0) v.kind = ROW_NULL;
    return add(r, plain ? VALUE_PARAMETER : VALUE_LITERAL, &v);
}

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

// Reads one element's text into r->text; *at stands behind it.
static int read_element(struct reading *r, struct span s, size_t *at, bool *quoted)
{
    size_t i = *at;
    buf_clear(&r->text);
    *quoted = i < s.n && s.p[i] == '"';
    if (*quoted) i++;
    for (;; i++) {
        if (i >= s.n) return bad(r, "an array constant ends early");
        uint8_t c = s.p[i];
        if (*quoted ? c == '"' : c == ',' || c == '}') break;
        if (!*quoted && (c == '"' || c == '{')) return bad(r, "an array constant has one dimension, and quotes around whole elements");
        if (c == '\\' && ++i >= s.n) return bad(r, "an array constant ends early");
        buf_put_u8(&r->text, s.p[i]);
    }
    while (!*quoted && r->text.n > 0 && is_space(r->text.p[r->text.n - 1]))
        r->text.n--;
    *at = i + *quoted;
    return 0;
}

static size_t skip_space(struct span s, size_t at)
{
    while (at < s.n && is_space(s.p[at]))
        at++;
    return at;
}

// {a, "b c", d}
static int read_literal(struct reading *r, struct span s)
{
    size_t at = skip_space(s, 1);
    bool quoted;
    assert(s.n > 0 && s.p[0] == '{');
    bool more = at >= s.n || s.p[at] != '}';
    while (more) {
        int err = read_element(r, s, &at, &quoted);
        if (!err) err = add_text(r, quoted);
        if (err) return err;
        at = skip_space(s, at);
        more = at < s.n && s.p[at] == ',';
        if (more) at = skip_space(s, at + 1);
    }
    if (at >= s.n || s.p[at] != '}' || skip_space(s, at + 1) < s.n) return bad(r, "an array constant is {element, …}");
    return 0;
}

// ---- the value -----------------------------------------------------------------------------------------------------

static int by_value(const void *a, const void *b, void *item)
{
    return value_compare(item, a, b);
}

static int finish(struct reading *r, struct value *out, struct arena *a)
{
    const struct type *type = r->target->type;
    if (type->set && r->count > 1) qsort_r(r->items, r->count, sizeof *r->items, by_value, &r->item);
    buf_clear(&r->text);
    for (size_t i = 0; i < r->count; i++)
        if (!type->set || i == 0 || value_compare(&r->item, &r->items[i - 1], &r->items[i]) != 0)
            elements_put(&r->text, type, &r->items[i], 0);
    if (r->text.err) return r->text.err;
    return arena_copy_span(a, buf_span(&r->text), &out->s) ? 0 : ERR_NOMEM;
}

static int wrong_type(const struct value_target *t, struct problem *p)
{
    char text[TYPE_TEXT_MAX];
    return problem_set(p, ERR_WRONG_TYPE, t->position, "%.*s is of type %s, this value is not", SPAN_FMT(t->column),
                       type_text(t->type, text));
}

int elements_convert(struct value *out, const struct value_target *target, const struct row_value *in, struct arena *a, struct problem *p)
{
    bool json = in->kind == ROW_JSON || (in->kind == ROW_TEXT && target->source == VALUE_PARAMETER && in->s.n > 0 && in->s.p[0] == '[');
    bool literal = !json && in->kind == ROW_TEXT && target->source != VALUE_WRITTEN && in->s.n > 0 && in->s.p[0] == '{';
    assert(target->type->array);
    if (!json && !literal) return wrong_type(target, p);
    struct reading r = {.target = target, .item = type_of_element(target->type), .arena = arena_new(SCRATCH_MAX), .p = p};
    if (!r.arena) return ERR_NOMEM;
    buf_init(&r.text, SCRATCH_MAX);
    int err = json ? read_json(&r, in->s) : read_literal(&r, in->s);
    if (!err) err = finish(&r, out, a);
    buf_free(&r.text);
    arena_free(r.arena);
    free(r.items);
    return err;
}
