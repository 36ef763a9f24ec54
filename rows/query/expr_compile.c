// From a parsed expression to a typed one.
#include <assert.h>

#include "elements.h"
#include "err.h"
#include "expr.h"
#include "limits.h"

#define COMMON_MAX SQL_RUN_MAX // expressions side by side: no text that is let in has more words

// ---- refusing and making -------------------------------------------------------------------------------------------

static int no_room(const struct expr_compile *c)
{
    if (!arena_full(c->arena)) return ERR_NOMEM;
    return problem_set(c->p, ERR_TOO_LARGE, -1, "the compiled SQL takes more memory than it may");
}

static int unsupported(const struct expr_compile *c, int64_t position, const char *subject)
{
    return problem_set(c->p, ERR_UNSUPPORTED_SQL, position, "%s not supported here", subject);
}

static int wrong_type(const struct expr_compile *c, int64_t position, const char *sentence)
{
    return problem_set(c->p, ERR_WRONG_TYPE, position, "%s", sentence);
}

static int make(const struct expr_compile *c, enum expr_kind kind, int64_t position, size_t args, struct expr **out)
{
    struct expr *e = arena_alloc(c->arena, sizeof *e);
    if (!e) return no_room(c);
    e->kind = kind;
    e->position = position;
    e->args = arena_array(c->arena, args, sizeof *e->args);
    if (!e->args) return no_room(c);
    e->count = args;
    *out = e;
    return 0;
}

// What follows from the arguments, once all are there.
static int finish(struct expr *e, struct expr **out)
{
    for (size_t i = 0; i < e->count; i++) {
        e->uses |= e->args[i]->uses;
        e->subs = e->subs || e->args[i]->subs;
        e->slots = e->slots || e->args[i]->slots;
    }
    *out = e;
    return 0;
}

static int cast_to(const struct expr_compile *c, struct expr *arg, struct type type, struct expr **out)
{
    struct expr *e;
    int err = make(c, EX_CAST, arg->position, 1, &e);
    if (err) return err;
    e->type = type;
    e->args[0] = arg;
    return finish(e, out);
}

// ---- types ---------------------------------------------------------------------------------------------------------

static bool is_whole(const struct type *t)
{
    return !t->array && (t->kind == COL_INTEGER || t->kind == COL_BIGINT || t->kind == COL_COUNTER);
}

static bool is_number(const struct type *t)
{
    return is_whole(t) || (!t->array && t->kind == COL_DOUBLE);
}

static bool is_kind(const struct type *t, enum col_type kind)
{
    return !t->array && t->kind == kind;
}

// The type in which two meet; false: they do not.
static bool meet(struct type *into, const struct type *other)
{
    if (type_same(into, other)) return true;
    if (!is_number(into) || !is_number(other)) return false;
    *into = TYPE(is_whole(into) && is_whole(other) ? COL_BIGINT : COL_DOUBLE);
    return true;
}

static int do_not_meet(const struct expr_compile *c, int64_t position, const struct type *a, const struct type *b)
{
    char left[TYPE_TEXT_MAX], right[TYPE_TEXT_MAX];
    return problem_set(c->p, ERR_WRONG_TYPE, position, "%s and %s do not go together", type_text(a, left), type_text(b, right));
}

// A type that was written out. An enum is one that a column in sight is of.
static int named_type(const struct expr_compile *c, const struct ast_expr *ast, struct type *out)
{
    *out = (struct type){.kind = ast->type.kind, .array = ast->type.array};
    if (ast->type.kind != COL_ENUM) return 0;
    for (const struct expr_scope *s = c->scope; s; s = s->outer)
        for (size_t i = 0; i < s->count; i++)
            for (size_t k = 0; k < s->tables[i].table->column_count; k++) {
                const struct type *t = &s->tables[i].table->columns[k].type;
                if (t->kind != COL_ENUM || !span_equal(t->labels->name, ast->type.name)) continue;
                out->labels = t->labels;
                return 0;
            }
    return problem_set(c->p, ERR_UNSUPPORTED_SQL, ast->position, "the type %.*s is not supported here", SPAN_FMT(ast->type.name));
}

// ---- constants -----------------------------------------------------------------------------------------------------

static bool untyped(const struct ast_expr *ast)
{
    return ast->kind == AX_CONST;
}

static struct type type_of_const(const struct ast_const *v)
{
    return TYPE(v->kind == AST_INT ? COL_BIGINT : v->kind == AST_REAL ? COL_DOUBLE : v->kind == AST_BOOL ? COL_BOOLEAN : COL_TEXT);
}

static struct row_value plain(const struct ast_const *v)
{
    switch (v->kind) {
    case AST_BOOL: return (struct row_value){.kind = ROW_BOOL, .b = v->b};
    case AST_INT: return (struct row_value){.kind = ROW_INT, .i = v->i};
    case AST_REAL: return (struct row_value){.kind = ROW_REAL, .d = v->d};
    case AST_TEXT: return (struct row_value){.kind = ROW_TEXT, .s = v->text};
    default: return (struct row_value){.kind = ROW_NULL};
    }
}

static int compile_const(struct expr_compile *c, const struct ast_expr *ast, const struct type *want, struct expr **out)
{
    struct expr *e;
    const struct ast_const *v = &ast->value;
    int err = make(c, v->kind == AST_PARAM ? EX_PARAM : EX_CONST, v->position, 0, &e);
    if (err) return err;
    if (v->kind == AST_PARAM) {
        if (!c->param) return unsupported(c, v->position, "parameters are");
        err = c->param(c, v->param, v->position, want, e);
        return err ? err : finish(e, out);
    }
    struct row_value given = plain(v);
    e->type = want ? *want : type_of_const(v);
    struct value_target target = {
        .type = &e->type, .source = VALUE_LITERAL, .column = c->beside.n > 0 ? c->beside : SPAN_LIT("what stands here"), .position = v->position};
    err = value_convert(&e->value, &target, &given, c->arena, c->p);
    if (err == ERR_NOMEM) return no_room(c);
    return err ? err : finish(e, out);
}

// ---- several of one type -------------------------------------------------------------------------------------------

// What gives the constants beside it their type, and its name to their problems.
struct common {
    struct type type;
    bool known;
    struct span beside;
};

static int compile_typed(struct expr_compile *c, struct ast_expr *const *asts, size_t n, struct expr **out, struct common *common)
{
    for (size_t i = 0; i < n; i++) {
        if (untyped(asts[i])) continue;
        int err = expr_compile(c, asts[i], NULL, &out[i]);
        if (err) return err;
        struct type before = common->type;
        if (!common->known) common->type = out[i]->type;
        if (common->known && !meet(&common->type, &out[i]->type)) return do_not_meet(c, asts[i]->position, &before, &out[i]->type);
        if (common->beside.n == 0 && out[i]->kind == EX_COLUMN) common->beside = out[i]->name;
        common->known = true;
    }
    return 0;
}

// Only constants and parameters: each says what it is, and texts and nulls are whatever the others are.
static int compile_untyped(struct expr_compile *c, struct ast_expr *const *asts, size_t n, struct common *common)
{
    for (size_t i = 0; i < n; i++) {
        struct expr *alone;
        if (asts[i]->value.kind == AST_TEXT || asts[i]->value.kind == AST_NULL) continue;
        int err = compile_const(c, asts[i], NULL, &alone);
        if (err) return err;
        struct type before = common->type;
        if (!common->known) common->type = alone->type;
        if (common->known && !meet(&common->type, &alone->type)) return do_not_meet(c, asts[i]->position, &before, &alone->type);
        common->known = true;
    }
    if (!common->known) common->type = TYPE(COL_TEXT);
    return 0;
}

static bool has_fraction(struct ast_expr *const *asts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (untyped(asts[i]) && asts[i]->value.kind == AST_REAL) return true;
    return false;
}

// Compiles all to one type: that of those that have one, else `want`, else what the constants are.
static int compile_common(struct expr_compile *c, struct ast_expr *const *asts, size_t n, const struct type *want, bool widens,
                          struct expr **out, struct type *type)
{
    struct common common = {.known = false};
    assert(n <= COMMON_MAX);
    int err = compile_typed(c, asts, n, out, &common);
    if (!err && widens && common.known && is_whole(&common.type) && has_fraction(asts, n)) common.type = TYPE(COL_DOUBLE);
    if (!err && !common.known && want) common = (struct common){.type = *want, .known = true, .beside = c->beside};
    if (!err && !common.known) err = compile_untyped(c, asts, n, &common);
    struct span beside = c->beside;
    c->beside = common.beside;
    for (size_t i = 0; i < n && !err; i++) {
        if (untyped(asts[i])) {
            err = compile_const(c, asts[i], &common.type, &out[i]);
        } else if (is_kind(&common.type, COL_DOUBLE) && !is_kind(&out[i]->type, COL_DOUBLE)) {
            err = cast_to(c, out[i], common.type, &out[i]);
        }
    }
    c->beside = beside;
    *type = common.type;
    return err;
}

// ---- names ---------------------------------------------------------------------------------------------------------

static int found_column(const struct expr_compile *c, const struct ast_expr *ast, const struct expr_table *t, int column, struct expr **out)
{
    struct expr *e;
    int err = make(c, EX_COLUMN, ast->position, 0, &e);
    if (err) return err;
    assert(t->slot < EXPR_TABLES_MAX);
    e->slot = t->slot;
    e->column = column;
    e->type = column == COLUMN_ID ? TYPE(COL_UUID) : t->table->columns[column].type;
    e->uses = UINT64_C(1) << t->slot;
    if (!arena_copy_span(c->arena, ast->name, &e->name) || !arena_copy_span(c->arena, t->name, &e->table_name)) return no_room(c);
    *out = e;
    return 0;
}

static int no_column(const struct expr_compile *c, const struct ast_expr *ast, const struct expr_table *t)
{
    if (!t && c->scope && c->scope->count == 1) t = &c->scope->tables[0];
    if (!t) return problem_set(c->p, ERR_NO_SUCH_COLUMN, ast->position, "no table here has a column %.*s", SPAN_FMT(ast->name));
    return problem_set(c->p, ERR_NO_SUCH_COLUMN, ast->position, "%.*s has no column %.*s", SPAN_FMT(t->name), SPAN_FMT(ast->name));
}

static int compile_column(struct expr_compile *c, const struct ast_expr *ast, struct expr **out)
{
    for (const struct expr_scope *s = c->scope; s; s = s->outer) {
        const struct expr_table *found = NULL;
        int column = COLUMN_NONE;
        for (size_t i = 0; i < s->count; i++) {
            const struct expr_table *t = &s->tables[i];
            if (ast->table.n > 0 && !span_equal(ast->table, t->name)) continue;
            int at = table_column(t->table, ast->name);
            if (at == COLUMN_NONE && ast->table.n > 0) return no_column(c, ast, t);
            if (at == COLUMN_NONE) continue;
            if (found) return problem_set(c->p, ERR_BAD_SQL, ast->position, "%.*s is a column of several tables", SPAN_FMT(ast->name));
            found = t;
            column = at;
        }
        if (found) return found_column(c, ast, found, column, out);
    }
    if (ast->table.n == 0) return no_column(c, ast, NULL);
    return problem_set(c->p, ERR_BAD_SQL, ast->position, "%.*s is not a table of this query", SPAN_FMT(ast->table));
}

// ---- conditions ----------------------------------------------------------------------------------------------------

int expr_compile_condition(struct expr_compile *c, const struct ast_expr *ast, struct expr **out)
{
    struct expr *e;
    const struct type boolean = TYPE(COL_BOOLEAN);
    struct span beside = c->beside;
    c->beside = SPAN_LIT("a condition");
    int err = expr_compile(c, ast, &boolean, &e);
    c->beside = beside;
    if (err) return err;
    if (!is_kind(&e->type, COL_BOOLEAN)) return wrong_type(c, ast->position, "a condition is true or false, this is not");
    *out = e;
    return 0;
}

static int compile_junction(struct expr_compile *c, const struct ast_expr *ast, struct expr **out)
{
    struct expr *e;
    enum expr_kind kind = ast->kind == AX_AND ? EX_AND : ast->kind == AX_OR ? EX_OR : ast->kind == AX_NOT ? EX_NOT : EX_IS_TRUTH;
    int err = make(c, kind, ast->position, ast->count, &e);
    for (size_t i = 0; i < ast->count && !err; i++)
        err = expr_compile_condition(c, ast->args[i], &e->args[i]);
    if (err) return err;
    e->type = TYPE(COL_BOOLEAN);
    e->op = ast->op;
    e->negate = ast->negate;
    return finish(e, out);
}

static int compile_null_test(struct expr_compile *c, const struct ast_expr *ast, struct expr **out)
{
    struct expr *e;
    int err = make(c, EX_IS_NULL, ast->position, 1, &e);
    if (!err) err = expr_compile(c, ast->args[0], NULL, &e->args[0]);
    if (err) return err;
    e->type = TYPE(COL_BOOLEAN);
    e->negate = ast->negate;
    return finish(e, out);
}

// ---- comparisons ---------------------------------------------------------------------------------------------------

static bool needs_order(int op)
{
    return op == OP_LT || op == OP_LE || op == OP_GT || op == OP_GE;
}

// May values of this type be compared so? The problem names the column where it is one.
static int check_comparable(const struct expr_compile *c, const struct expr *e, int op)
{
    struct span name = e->kind == EX_COLUMN ? e->name : SPAN_LIT("this");
    if (e->type.kind == COL_STREAM)
        return problem_set(c->p, ERR_UNSUPPORTED_SQL, e->position, "%.*s is a stream and has no value to compare", SPAN_FMT(name));
    if (needs_order(op) && !type_ordered(&e->type))
        return problem_set(c->p, ERR_UNSUPPORTED_SQL, e->position, "%.*s has no order, only = and <>", SPAN_FMT(name));
    return 0;
}

// What is not a constant is checked before a constant is made like it.
static int check_sides(struct expr_compile *c, const struct ast_expr *ast, int op)
{
    for (size_t i = 0; i < ast->count; i++) {
        struct expr *side;
        if (ast->args[i]->kind != AX_COLUMN) continue;
        int err = compile_column(c, ast->args[i], &side);
        if (!err) err = check_comparable(c, side, op);
        if (err) return err;
    }
    return 0;
}

static int compile_comparison(struct expr_compile *c, const struct ast_expr *ast, enum expr_kind kind, struct expr **out)
{
    struct expr *e;
    int op = kind == EX_COMPARE ? ast->op : (int)OP_EQ;
    int err = check_sides(c, ast, op);
    if (!err) err = make(c, kind, ast->position, ast->count, &e);
    if (!err) err = compile_common(c, ast->args, ast->count, NULL, false, e->args, &e->compared);
    for (size_t i = 0; i < ast->count && !err; i++)
        err = check_comparable(c, e->args[i], op);
    if (err) return err;
    e->type = TYPE(COL_BOOLEAN);
    e->op = op;
    e->negate = ast->negate;
    return finish(e, out);
}

static int element_types(const struct expr_compile *c, const struct expr *e, const struct type *left, const struct type *array)
{
    struct type item = type_of_element(array), both = *left;
    if (type_same(left, &item) || (is_whole(left) && is_whole(&item))) return 0;
    return meet(&both, &item) ? wrong_type(c, e->position, "whole numbers and double precision do not meet in an array")
                              : do_not_meet(c, e->position, left, array);
}

static int compile_any(struct expr_compile *c, const struct ast_expr *ast, struct expr **out)
{
    struct expr *e;
    struct type hint;
    const struct ast_expr *left = ast->args[0], *right = ast->args[1];
    int err = make(c, EX_ANY, ast->position, 2, &e);
    if (err) return err;
    if (untyped(right) || right->kind == AX_ELEMENTS) {
        err = expr_compile(c, left, NULL, &e->args[0]);
        if (err) return err;
        hint = (struct type){.kind = e->args[0]->type.kind, .array = true, .labels = e->args[0]->type.labels};
        if (e->args[0]->type.array || !type_element(hint.kind)) return wrong_type(c, left->position, "no array has elements of this type");
        err = expr_compile(c, right, &hint, &e->args[1]);
    } else {
        err = expr_compile(c, right, NULL, &e->args[1]);
        if (err) return err;
        if (!e->args[1]->type.array) return wrong_type(c, right->position, "ANY takes an array");
        hint = type_of_element(&e->args[1]->type);
        err = expr_compile(c, left, &hint, &e->args[0]);
    }
    if (err) return err;
    if (!e->args[1]->type.array) return wrong_type(c, right->position, "ANY takes an array");
    err = element_types(c, e, &e->args[0]->type, &e->args[1]->type);
    if (err) return err;
    e->type = TYPE(COL_BOOLEAN);
    e->compared = type_of_element(&e->args[1]->type);
    e->op = ast->op;
    e->negate = ast->negate;
    return finish(e, out);
}

static int compile_like(struct expr_compile *c, const struct ast_expr *ast, struct expr **out)
{
    struct expr *e;
    const struct type text = TYPE(COL_TEXT);
    int err = make(c, EX_LIKE, ast->position, 2, &e);
    for (size_t i = 0; i < 2 && !err; i++) {
        err = expr_compile(c, ast->args[i], &text, &e->args[i]);
        if (!err && !is_kind(&e->args[i]->type, COL_TEXT)) err = wrong_type(c, ast->args[i]->position, "LIKE is for text");
    }
    if (err) return err;
    e->type = TYPE(COL_BOOLEAN);
    e->op = ast->op;
    e->negate = ast->negate;
    return finish(e, out);
}

// ---- operators -----------------------------------------------------------------------------------------------------

static int compile_arith(struct expr_compile *c, const struct ast_expr *ast, const struct type *want, struct expr **out)
{
    struct expr *e;
    const struct type *hint = want && is_number(want) ? want : NULL;
    int err = make(c, ast->kind == AX_MINUS ? EX_MINUS : EX_ARITH, ast->position, ast->count, &e);
    if (!err) err = compile_common(c, ast->args, ast->count, hint, true, e->args, &e->type);
    if (err) return err;
    if (!is_number(&e->type)) return wrong_type(c, ast->position, "this operator is for numbers");
    if (ast->op == '%' && !is_whole(&e->type)) return wrong_type(c, ast->position, "% is for whole numbers");
    if (is_whole(&e->type)) e->type = TYPE(COL_BIGINT);
    e->op = ast->op;
    return finish(e, out);
}

// Anything that has one text may be cast to it.
static bool has_text(const struct type *t)
{
    return !t->array && t->kind != COL_STREAM && t->kind != COL_BLOB && t->kind != COL_BYTEA;
}

static int compile_concat(struct expr_compile *c, const struct ast_expr *ast, struct expr **out)
{
    struct expr *e;
    const struct type text = TYPE(COL_TEXT);
    int err = make(c, EX_CONCAT, ast->position, 2, &e);
    for (size_t i = 0; i < 2 && !err; i++) {
        const struct ast_expr *a = ast->args[i];
        bool number = untyped(a) && a->value.kind != AST_TEXT && a->value.kind != AST_PARAM && a->value.kind != AST_NULL;
        err = expr_compile(c, a, number ? NULL : &text, &e->args[i]);
        if (err || is_kind(&e->args[i]->type, COL_TEXT)) continue;
        if (!has_text(&e->args[i]->type)) return wrong_type(c, a->position, "|| is for text and what has one");
        err = cast_to(c, e->args[i], text, &e->args[i]);
    }
    if (err) return err;
    e->type = text;
    return finish(e, out);
}

static int compile_elements(struct expr_compile *c, const struct ast_expr *ast, const struct type *want, struct expr **out)
{
    struct expr *e;
    struct type item;
    bool hinted = want && want->array;
    struct type hint = hinted ? type_of_element(want) : TYPE(COL_TEXT);
    int err = make(c, EX_ELEMENTS, ast->position, ast->count, &e);
    if (!err) err = compile_common(c, ast->args, ast->count, hinted ? &hint : NULL, !hinted, e->args, &item);
    if (err) return err;
    if (item.array || !type_element(item.kind)) return wrong_type(c, ast->position, "no array has elements of this type");
    e->type = (struct type){.kind = item.kind, .array = true, .labels = item.labels};
    return finish(e, out);
}

static int compile_contains(struct expr_compile *c, const struct ast_expr *ast, struct expr **out)
{
    struct expr *e;
    size_t first = untyped(ast->args[0]) || ast->args[0]->kind == AX_ELEMENTS; // the one that gives the other its type
    int err = make(c, EX_CONTAINS, ast->position, 2, &e);
    if (!err) err = expr_compile(c, ast->args[first], NULL, &e->args[first]);
    if (err) return err;
    struct type *t = &e->args[first]->type;
    struct type hint = {.kind = t->kind, .array = true, .labels = t->labels};
    if (!t->array) return wrong_type(c, ast->args[first]->position, "@> and <@ are for arrays");
    err = expr_compile(c, ast->args[1 - first], &hint, &e->args[1 - first]);
    if (err) return err;
    struct type other = e->args[1 - first]->type, item = type_of_element(&other);
    if (!other.array) return wrong_type(c, ast->args[1 - first]->position, "@> and <@ are for arrays");
    struct type own = type_of_element(t);
    if (!type_same(&own, &item) && !(is_whole(&own) && is_whole(&item))) return do_not_meet(c, ast->position, t, &other);
    e->type = TYPE(COL_BOOLEAN);
    return finish(e, out);
}

static bool castable(const struct type *from, const struct type *to)
{
    if (type_same(from, to)) return true;
    if (is_number(from) && is_number(to)) return true;
    return is_kind(to, COL_TEXT) && has_text(from);
}

static int compile_cast(struct expr_compile *c, const struct ast_expr *ast, struct expr **out)
{
    struct expr *e;
    struct type to;
    const struct ast_expr *arg = ast->args[0];
    bool text = untyped(arg) && (arg->value.kind == AST_TEXT || arg->value.kind == AST_PARAM || arg->value.kind == AST_NULL);
    int err = named_type(c, ast, &to);
    if (!err) err = expr_compile(c, arg, text || arg->kind == AX_ELEMENTS ? &to : NULL, &e);
    if (err) return err;
    if (!castable(&e->type, &to)) {
        char a[TYPE_TEXT_MAX], b[TYPE_TEXT_MAX];
        return problem_set(c->p, ERR_UNSUPPORTED_SQL, ast->position, "a cast of %s to %s is not supported", type_text(&e->type, a),
                           type_text(&to, b));
    }
    if (!type_same(&e->type, &to)) return cast_to(c, e, to, out);
    *out = e;
    return 0;
}

// ---- case and calls ------------------------------------------------------------------------------------------------

static int compile_case(struct expr_compile *c, const struct ast_expr *ast, const struct type *want, struct expr **out)
{
    struct expr *e, **results;
    struct ast_expr **asts;
    size_t whens = ast->count / 2, n = whens + ast->count % 2;
    int err = make(c, EX_CASE, ast->position, ast->count, &e);
    if (err) return err;
    asts = arena_array(c->arena, n, sizeof *asts);
    results = arena_array(c->arena, n, sizeof *results);
    if (!asts || !results) return no_room(c);
    for (size_t i = 0; i < n; i++)
        asts[i] = ast->args[i < whens ? 2 * i + 1 : 2 * i];
    for (size_t i = 0; i < whens && !err; i++)
        err = expr_compile_condition(c, ast->args[2 * i], &e->args[2 * i]);
    if (!err) err = compile_common(c, asts, n, want, true, results, &e->type);
    if (err) return err;
    for (size_t i = 0; i < n; i++)
        e->args[i < whens ? 2 * i + 1 : 2 * i] = results[i];
    return finish(e, out);
}

static int check_scalar(const struct expr_compile *c, const struct ast_expr *ast, const struct type *t)
{
    if (t->kind != COL_STREAM && t->kind != COL_BLOB) return 0;
    return wrong_type(c, ast->position, "streams and blobs are not values to choose from");
}

static int compile_choice(struct expr_compile *c, const struct ast_expr *ast, enum expr_kind kind, int op, const struct type *want,
                          struct expr **out)
{
    struct expr *e;
    int err = make(c, kind, ast->position, ast->count, &e);
    if (!err) err = compile_common(c, ast->args, ast->count, want, true, e->args, &e->type);
    if (!err) err = check_scalar(c, ast, &e->type);
    if (err) return err;
    if (kind == EX_EXTREME && !type_ordered(&e->type)) return wrong_type(c, ast->position, "values of this type have no order");
    e->op = op;
    return finish(e, out);
}

static const struct {
    const char *name;
    enum expr_call call;
    enum col_type takes, gives; // `takes` 0: looked at by the caller
} calls[] = {
    {"lower", CALL_LOWER, COL_TEXT, COL_TEXT},
    {"upper", CALL_UPPER, COL_TEXT, COL_TEXT},
    {"length", CALL_LENGTH, COL_TEXT, COL_BIGINT},
    {"char_length", CALL_LENGTH, COL_TEXT, COL_BIGINT},
    {"abs", CALL_ABS, 0, 0},
    {"cardinality", CALL_CARDINALITY, 0, COL_BIGINT},
    {"stream_text", CALL_STREAM_TEXT, COL_STREAM, COL_TEXT},
};

static int compile_known_call(struct expr_compile *c, const struct ast_expr *ast, size_t i, struct expr **out)
{
    struct expr *e;
    const struct type text = TYPE(COL_TEXT);
    if (ast->count != 1) return problem_set(c->p, ERR_BAD_SQL, ast->position, "%s takes one value", calls[i].name);
    int err = make(c, EX_CALL, ast->position, 1, &e);
    if (!err) err = expr_compile(c, ast->args[0], calls[i].takes == COL_TEXT ? &text : NULL, &e->args[0]);
    if (err) return err;
    const struct type *t = &e->args[0]->type;
    bool fits = calls[i].call == CALL_ABS           ? is_number(t)
                : calls[i].call == CALL_CARDINALITY ? t->array
                                                    : is_kind(t, calls[i].takes);
    if (!fits) return problem_set(c->p, ERR_WRONG_TYPE, ast->args[0]->position, "%s does not take a value of this type", calls[i].name);
    if (calls[i].call == CALL_STREAM_TEXT && e->args[0]->kind != EX_COLUMN) return unsupported(c, ast->position, "stream_text of anything but a column is");
    e->type = calls[i].call == CALL_ABS ? TYPE(is_whole(t) ? COL_BIGINT : COL_DOUBLE) : TYPE(calls[i].gives);
    e->op = (int)calls[i].call;
    return finish(e, out);
}

static bool aggregate_name(struct span name)
{
    static const char *const names[] = {"count", "sum", "min", "max", "avg"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (span_is(name, names[i])) return true;
    return false;
}

static int compile_aggregate(struct expr_compile *c, const struct ast_expr *ast, struct expr **out)
{
    struct expr *e;
    if (!c->aggregate)
        return problem_set(c->p, ERR_BAD_SQL, ast->position, "%.*s is an aggregate, which cannot stand here", SPAN_FMT(ast->name));
    int err = make(c, EX_SLOT, ast->position, 0, &e);
    if (!err) err = c->aggregate(c, ast, e);
    if (err) return err;
    e->slots = true;
    *out = e;
    return 0;
}

static int compile_call(struct expr_compile *c, const struct ast_expr *ast, const struct type *want, struct expr **out)
{
    if (aggregate_name(ast->name)) return compile_aggregate(c, ast, out);
    if (ast->star || ast->distinct) return unsupported(c, ast->position, "* and DISTINCT in this call are");
    if (ast->count > 0 && span_is(ast->name, "coalesce")) return compile_choice(c, ast, EX_COALESCE, 0, want, out);
    if (ast->count > 0 && span_is(ast->name, "greatest")) return compile_choice(c, ast, EX_EXTREME, '>', want, out);
    if (ast->count > 0 && span_is(ast->name, "least")) return compile_choice(c, ast, EX_EXTREME, '<', want, out);
    if (ast->count == 2 && span_is(ast->name, "nullif")) return compile_choice(c, ast, EX_NULLIF, 0, want, out);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (span_is(ast->name, calls[i].name)) return compile_known_call(c, ast, i, out);
    if (span_is(ast->name, "now")) return unsupported(c, ast->position, "now(), which would make a result depend on more than commits, is");
    return problem_set(c->p, ERR_UNSUPPORTED_SQL, ast->position, "the function %.*s is not supported", SPAN_FMT(ast->name));
}

static int compile_select(struct expr_compile *c, const struct ast_expr *ast, struct expr **out)
{
    struct expr *e;
    if (!c->select) return unsupported(c, ast->position, "a select within is");
    int err = make(c, EX_SUB, ast->position, ast->count, &e);
    if (!err && ast->count > 0) err = expr_compile(c, ast->args[0], NULL, &e->args[0]);
    if (!err) err = c->select(c, ast, e);
    if (err) return err;
    e->negate = ast->negate;
    e->subs = true;
    e->origin = ast;
    return finish(e, out);
}

// ---- all of them ---------------------------------------------------------------------------------------------------

// Recursion is as deep as the text's tree, which is bounded where it is read.
int expr_compile(struct expr_compile *c, const struct ast_expr *ast, const struct type *want, struct expr **out)
{
    switch (ast->kind) {
    case AX_CONST: return compile_const(c, ast, want, out);
    case AX_COLUMN: return compile_column(c, ast, out);
    case AX_STAR: return unsupported(c, ast->position, "* is");
    case AX_AND:
    case AX_OR:
    case AX_NOT:
    case AX_IS_TRUTH: return compile_junction(c, ast, out);
    case AX_COMPARE: return compile_comparison(c, ast, EX_COMPARE, out);
    case AX_IN: return compile_comparison(c, ast, EX_IN, out);
    case AX_IS_NULL: return compile_null_test(c, ast, out);
    case AX_ANY: return compile_any(c, ast, out);
    case AX_LIKE: return compile_like(c, ast, out);
    case AX_ARITH:
    case AX_MINUS: return compile_arith(c, ast, want, out);
    case AX_CONCAT: return compile_concat(c, ast, out);
    case AX_CONTAINS: return compile_contains(c, ast, out);
    case AX_ELEMENTS: return compile_elements(c, ast, want, out);
    case AX_CASE: return compile_case(c, ast, want, out);
    case AX_CALL: return compile_call(c, ast, want, out);
    case AX_CAST: return compile_cast(c, ast, out);
    case AX_EXISTS:
    case AX_SCALAR:
    case AX_ARRAY:
    case AX_IN_SELECT: return compile_select(c, ast, out);
    }
    assert(!"a kind of expression");
    return ERR_INTERNAL;
}

int expr_compile_check(struct arena *a, const struct table *t, const struct ast_expr *ast, struct expr **out, struct problem *p)
{
    const struct expr_table table = {.name = t->name, .table = t};
    const struct expr_scope scope = {.tables = &table, .count = 1};
    struct expr_compile c = {.arena = a, .scope = &scope, .p = p};
    return expr_compile_condition(&c, ast, out);
}
