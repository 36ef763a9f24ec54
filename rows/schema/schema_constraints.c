// Every rule of a schema that is not grammar: enums, references, indexes, checks.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "err.h"
#include "expr.h"
#include "schema_build.h"

static int bad_schema(struct build *b, int64_t position, struct span table, struct span name, const char *what)
{
    return problem_set(b->p, ERR_BAD_SCHEMA, position, "%.*s.%.*s %s", SPAN_FMT(table), SPAN_FMT(name), what);
}

// A column that a condition names and the table does not have contradicts the schema, as elsewhere in it.
static int build_condition(struct build *b, const struct table *t, const struct ast_expr *ast, struct expr **out)
{
    int err = expr_compile_check(b->s->arena, t, ast, out, b->p);
    if (err != ERR_NO_SUCH_COLUMN) return err;
    if (b->p) b->p->err = ERR_BAD_SCHEMA;
    return ERR_BAD_SCHEMA;
}

// ---- enums ---------------------------------------------------------------------------------------------------------

static const struct ast_enum *find_ast_enum(const struct build *b, struct span name)
{
    for (size_t i = 0; i < b->ast->enum_count; i++)
        if (span_equal(b->ast->enums[i].name, name)) return &b->ast->enums[i];
    return NULL;
}

static int build_labels(struct build *b, struct labels *out, const struct ast_enum *in)
{
    out->labels = arena_array(b->s->arena, in->label_count, sizeof *out->labels);
    if (!out->labels) return ERR_NOMEM;
    for (size_t i = 0; i < in->label_count; i++) {
        struct span label = in->labels[i];
        if (label.n < 1 || label.n > NAME_MAX_BYTES)
            return problem_set(b->p, ERR_BAD_SCHEMA, in->position, "a label of %.*s is not of 1 to %d bytes", SPAN_FMT(in->name), NAME_MAX_BYTES);
        if (labels_find(out, label) >= 0)
            return problem_set(b->p, ERR_BAD_SCHEMA, in->position, "%.*s has the label '%.*s' twice", SPAN_FMT(in->name), SPAN_FMT(label));
        if (!arena_copy_span(b->s->arena, label, &out->labels[out->count])) return ERR_NOMEM;
        out->count++;
    }
    return 0;
}

static int build_enum(struct build *b, const struct ast_enum *in, const struct labels *before)
{
    struct labels *out = &b->s->enums[b->s->enum_count++];
    int err = build_name(b, in->name, in->position);
    if (err) return err;
    if (find_ast_enum(b, in->name) != in)
        return problem_set(b->p, ERR_BAD_SCHEMA, in->position, "two types are named %.*s", SPAN_FMT(in->name));
    if (!arena_copy_span(b->s->arena, in->name, &out->name)) return ERR_NOMEM;
    err = build_labels(b, out, in);
    for (size_t i = 0; !err && before && i < before->count; i++)
        if (i >= out->count || !span_equal(out->labels[i], before->labels[i]))
            err = problem_set(b->p, ERR_SCHEMA_NOT_ADDITIVE, in->position, "%.*s: the label '%.*s' is gone or has moved: new ones come last",
                              SPAN_FMT(in->name), SPAN_FMT(before->labels[i]));
    return err;
}

static const struct labels *find_enum(const struct schema *s, struct span name)
{
    for (size_t i = 0; i < s->enum_count; i++)
        if (span_equal(s->enums[i].name, name)) return &s->enums[i];
    return NULL;
}

int build_enums(struct build *b)
{
    size_t old = b->before->enum_count;
    if (b->ast->enum_count > ENUMS_MAX) return problem_set(b->p, ERR_BAD_SCHEMA, -1, "more than %d types", ENUMS_MAX);
    b->s->enums = arena_array(b->s->arena, b->ast->enum_count + old, sizeof *b->s->enums);
    if (!b->s->enums) return ERR_NOMEM;
    for (size_t i = 0; i < old; i++) {
        const struct labels *before = &b->before->enums[i];
        const struct ast_enum *in = find_ast_enum(b, before->name);
        if (!in) return problem_set(b->p, ERR_SCHEMA_NOT_ADDITIVE, -1, "the type %.*s is gone", SPAN_FMT(before->name));
        int err = build_enum(b, in, before);
        if (err) return err;
    }
    for (size_t i = 0; i < b->ast->enum_count; i++) {
        if (find_enum(b->before, b->ast->enums[i].name) && find_ast_enum(b, b->ast->enums[i].name) == &b->ast->enums[i]) continue;
        int err = build_enum(b, &b->ast->enums[i], NULL);
        if (err) return err;
    }
    return 0;
}

// ---- references ----------------------------------------------------------------------------------------------------

static int build_reference(struct build *b, const struct ast_column *in, struct column *c)
{
    if (!in->references) return 0;
    if (in->type.kind != COL_UUID || in->type.array)
        return problem_set(b->p, ERR_BAD_SCHEMA, in->position, "%.*s: a reference must be of type uuid", SPAN_FMT(in->name));
    if (in->ref_column.n > 0 && !span_is(in->ref_column, "id"))
        return problem_set(b->p, ERR_BAD_SCHEMA, in->position, "%.*s: only id can be referred to", SPAN_FMT(in->name));
    if (in->on_delete == ACTION_SET_NULL && in->not_null)
        return problem_set(b->p, ERR_BAD_SCHEMA, in->position, "%.*s is not null and cannot be set to null", SPAN_FMT(in->name));
    for (size_t i = 0; i < b->s->table_count && !c->references; i++)
        if (span_equal(b->s->tables[i].name, in->ref_table)) c->references = b->s->tables[i].no;
    if (!c->references)
        return problem_set(b->p, ERR_BAD_SCHEMA, in->position, "%.*s refers to the table %.*s, which does not exist", SPAN_FMT(in->name),
                           SPAN_FMT(in->ref_table));
    c->on_delete = in->on_delete == ACTION_CASCADE ? REF_CASCADE : in->on_delete == ACTION_SET_NULL ? REF_SET_NULL : REF_RESTRICT;
    return 0;
}

int build_references(struct build *b)
{
    for (size_t i = 0; i < b->s->table_count; i++) {
        struct table *t = &b->s->tables[i];
        const struct ast_table *in = build_ast_table(b, t->name);
        for (size_t k = 0; k < t->column_count; k++)
            for (size_t n = 0; n < in->column_count; n++) {
                if (!span_equal(in->columns[n].name, t->columns[k].name)) continue;
                int err = build_reference(b, &in->columns[n], &t->columns[k]);
                if (err) return err;
            }
    }
    return 0;
}

// ---- names that nobody gave ----------------------------------------------------------------------------------------

// table_column_…_suffix, as PostgreSQL names it, and a number behind where that is taken.
static int derive_name(struct build *b, struct buf *out, struct span table, const struct span *parts, size_t count, const char *suffix,
                       int64_t position)
{
    buf_clear(out);
    buf_put_span(out, table);
    for (size_t i = 0; i < count; i++) {
        buf_put_u8(out, '_');
        buf_put_span(out, parts[i]);
    }
    buf_put_u8(out, '_');
    buf_put_str(out, suffix);
    if (out->err) return out->err;
    if (out->n + 3 <= NAME_MAX_BYTES) return 0; // with room for a number
    return problem_set(b->p, ERR_BAD_SCHEMA, position, "the name %.*s would be too long: give it one", SPAN_FMT(buf_span(out)));
}

// ---- indexes -------------------------------------------------------------------------------------------------------

static bool index_name_taken(const struct build *b, struct span name)
{
    for (size_t i = 0; i < b->s->table_count; i++)
        for (size_t k = 0; k < b->s->tables[i].index_count; k++)
            if (span_equal(b->s->tables[i].indexes[k].name, name)) return true;
    return false;
}

static int name_index(struct build *b, const struct table *t, const struct ast_index *in, struct index *out)
{
    struct span parts[INDEX_COLUMNS_MAX];
    struct buf name;
    if (in->name.n > 0) {
        int err = build_name(b, in->name, in->position);
        if (err) return err;
        if (index_name_taken(b, in->name))
            return problem_set(b->p, ERR_BAD_SCHEMA, in->position, "two indexes are named %.*s", SPAN_FMT(in->name));
        return arena_copy_span(b->s->arena, in->name, &out->name) ? 0 : ERR_NOMEM;
    }
    for (size_t i = 0; i < in->column_count; i++)
        parts[i] = in->columns[i].name;
    buf_init(&name, KIB * 4);
    int err = derive_name(b, &name, t->name, parts, in->column_count, in->unique ? "key" : "idx", in->position);
    size_t bare = name.n;
    for (int n = 1; !err && index_name_taken(b, buf_span(&name)); n++) {
        buf_truncate(&name, bare);
        buf_printf(&name, "%d", n);
    }
    if (!err && name.err) err = name.err;
    if (!err && !arena_copy_span(b->s->arena, buf_span(&name), &out->name)) err = ERR_NOMEM;
    buf_free(&name);
    return err;
}

static int build_index_columns(struct build *b, const struct table *t, const struct ast_index *in, struct index *out)
{
    if (in->column_count > INDEX_COLUMNS_MAX)
        return problem_set(b->p, ERR_BAD_SCHEMA, in->position, "more than %d columns of one index", INDEX_COLUMNS_MAX);
    out->columns = arena_array(b->s->arena, in->column_count, sizeof *out->columns);
    if (!out->columns) return ERR_NOMEM;
    for (size_t i = 0; i < in->column_count; i++) {
        const struct ast_index_column *c = &in->columns[i];
        int at = table_column(t, c->name);
        if (at == COLUMN_NONE) return bad_schema(b, c->position, t->name, c->name, "does not exist");
        if (at != COLUMN_ID && !type_ordered(&t->columns[at].type))
            return bad_schema(b, c->position, t->name, c->name, "is of a type that has no order, and cannot be in an index");
        for (size_t k = 0; k < i; k++)
            if (out->columns[k].column == at) return bad_schema(b, c->position, t->name, c->name, "is twice in an index");
        out->columns[out->column_count++] = (struct index_column){.column = at, .desc = c->desc};
    }
    return 0;
}

// An index that was there keeps its number.
static void number_index(struct table *t, const struct table *before, struct index *ix)
{
    for (size_t i = 0; before && i < before->index_count; i++)
        if (index_same(ix, &before->indexes[i])) ix->no = before->indexes[i].no;
    if (ix->no == 0) ix->no = ++t->index_last;
}

static int by_index_no(const void *a, const void *b)
{
    const struct index *x = a, *y = b;
    return (x->no > y->no) - (x->no < y->no);
}

static int build_index(struct build *b, struct table *t, const struct ast_index *in, const struct table *before)
{
    struct index ix = {.unique = in->unique};
    if (t->index_count == INDEXES_MAX)
        return problem_set(b->p, ERR_BAD_SCHEMA, in->position, "more than %d indexes of %.*s", INDEXES_MAX, SPAN_FMT(t->name));
    int err = build_index_columns(b, t, in, &ix);
    if (!err) err = name_index(b, t, in, &ix);
    if (!err && in->where) err = build_condition(b, t, in->where, &ix.where);
    if (err) return err;
    number_index(t, before, &ix);
    t->indexes[t->index_count++] = ix;
    return 0;
}

// Those with names first, so that a name that is derived gives way.
static int build_table_indexes(struct build *b, struct table *t)
{
    const struct table *before = schema_table_no(b->before, t->no);
    size_t count = 0;
    for (size_t i = 0; i < b->ast->index_count; i++)
        count += span_equal(b->ast->indexes[i].table, t->name);
    t->index_last = before ? before->index_last : 0;
    t->indexes = arena_array(b->s->arena, count, sizeof *t->indexes);
    if (!t->indexes) return ERR_NOMEM;
    for (int derived = 0; derived < 2; derived++)
        for (size_t i = 0; i < b->ast->index_count; i++) {
            const struct ast_index *in = &b->ast->indexes[i];
            if (!span_equal(in->table, t->name) || (in->name.n == 0) != derived) continue;
            int err = build_index(b, t, in, before);
            if (err) return err;
        }
    qsort(t->indexes, t->index_count, sizeof *t->indexes, by_index_no);
    return 0;
}

int build_indexes(struct build *b)
{
    for (size_t i = 0; i < b->ast->index_count; i++)
        if (!schema_table(b->s, b->ast->indexes[i].table))
            return problem_set(b->p, ERR_BAD_SCHEMA, b->ast->indexes[i].position, "there is no table %.*s",
                               SPAN_FMT(b->ast->indexes[i].table));
    for (size_t i = 0; i < b->s->table_count; i++) {
        int err = build_table_indexes(b, &b->s->tables[i]);
        if (err) return err;
    }
    return 0;
}

// ---- checks --------------------------------------------------------------------------------------------------------

static bool check_name_taken(const struct table *t, struct span name)
{
    for (size_t i = 0; i < t->check_count; i++)
        if (span_equal(t->checks[i].name, name)) return true;
    return false;
}

static int name_check(struct build *b, struct table *t, const struct ast_check *in, struct check *out)
{
    struct buf name;
    if (in->name.n > 0) {
        int err = build_name(b, in->name, in->position);
        if (err) return err;
        if (check_name_taken(t, in->name))
            return bad_schema(b, in->position, t->name, in->name, "is the name of two checks");
        return arena_copy_span(b->s->arena, in->name, &out->name) ? 0 : ERR_NOMEM;
    }
    buf_init(&name, KIB);
    int err = derive_name(b, &name, t->name, &in->column, in->column.n > 0, "check", in->position);
    size_t bare = name.n;
    for (int n = 1; !err && check_name_taken(t, buf_span(&name)); n++) {
        buf_truncate(&name, bare);
        buf_printf(&name, "%d", n);
    }
    if (!err && name.err) err = name.err;
    if (!err && !arena_copy_span(b->s->arena, buf_span(&name), &out->name)) err = ERR_NOMEM;
    buf_free(&name);
    return err;
}

static int by_check_name(const void *a, const void *b)
{
    const struct check *x = a, *y = b;
    return span_compare(x->name, y->name);
}

static int build_table_checks(struct build *b, struct table *t)
{
    const struct ast_table *in = build_ast_table(b, t->name);
    t->checks = arena_array(b->s->arena, in->check_count, sizeof *t->checks);
    if (!t->checks) return ERR_NOMEM;
    for (int derived = 0; derived < 2; derived++)
        for (size_t i = 0; i < in->check_count; i++) {
            struct check check = {.expr = NULL};
            if ((in->checks[i].name.n == 0) != derived) continue;
            int err = name_check(b, t, &in->checks[i], &check);
            if (!err) err = build_condition(b, t, in->checks[i].expr, &check.expr);
            if (err) return err;
            t->checks[t->check_count++] = check;
        }
    qsort(t->checks, t->check_count, sizeof *t->checks, by_check_name);
    return 0;
}

int build_checks(struct build *b)
{
    for (size_t i = 0; i < b->s->table_count; i++) {
        int err = build_table_checks(b, &b->s->tables[i]);
        if (err) return err;
    }
    return 0;
}
