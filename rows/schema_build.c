// From a parsed schema.sql to a numbered schema: every rule that is not grammar.
#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "schema.h"

struct build {
    struct schema *s;
    const struct schema *before;
    uint64_t arrival_ms;
    struct problem *p;
};

static bool name_fits(struct span name)
{
    if (name.n < 1 || name.n > NAME_MAX_BYTES) return false;
    for (size_t i = 0; i < name.n; i++) {
        uint8_t c = name.p[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && (i == 0 || c < '0' || c > '9')) return false;
    }
    return true;
}

static int bad_name(struct build *b, struct span name, int64_t position)
{
    return problem_set(b->p, ERR_BAD_SCHEMA, position, "the name \"%.*s\" is not 1 to %d letters, digits and _ that begin with no digit",
                       SPAN_FMT(name), NAME_MAX_BYTES);
}

static int not_additive(struct build *b, int64_t position, struct span table, struct span column, const char *what)
{
    return problem_set(b->p, ERR_SCHEMA_NOT_ADDITIVE, position, "%.*s.%.*s %s", SPAN_FMT(table), SPAN_FMT(column), what);
}

// ---- columns -------------------------------------------------------------------------------------------------------

static int check_id(struct build *b, const struct ast_column *c)
{
    if (c->type.kind != COL_UUID || c->type.array) return problem_set(b->p, ERR_BAD_SCHEMA, c->position, "id must be of type uuid");
    if (c->references) return problem_set(b->p, ERR_BAD_SCHEMA, c->position, "id cannot refer to another table");
    if (c->has_default && c->def.kind != AST_UUID)
        return problem_set(b->p, ERR_BAD_SCHEMA, c->position, "id can have no default but gen_random_uuid()");
    return 0;
}

static int build_constant(struct build *b, struct column *c, const struct ast_const *def)
{
    struct value_target target = {.type = &c->type, .source = VALUE_LITERAL, .column = c->name, .position = def->position};
    struct row_value v = {.kind = ROW_NULL};
    switch (def->kind) {
    case AST_NULL: return 0; // the same as none
    case AST_BOOL: v = (struct row_value){.kind = ROW_BOOL, .b = def->b}; break;
    case AST_INT: v = (struct row_value){.kind = ROW_INT, .i = def->i}; break;
    case AST_REAL: v = (struct row_value){.kind = ROW_REAL, .d = def->d}; break;
    case AST_TEXT: v = (struct row_value){.kind = ROW_TEXT, .s = def->text}; break;
    case AST_PARAM:
    case AST_NOW:
    case AST_UUID: return problem_set(b->p, ERR_BAD_SCHEMA, def->position, "%.*s: a default must be a constant", SPAN_FMT(c->name));
    }
    int err = value_convert(&c->def, &target, &v, b->s->arena, b->p);
    if (err) return err;
    if (c->type.kind == COL_INTEGER && (c->def.i < INT32_MIN || c->def.i > INT32_MAX))
        return problem_set(b->p, ERR_BAD_SCHEMA, def->position, "%.*s: the default is out of the range of integer", SPAN_FMT(c->name));
    c->has_default = DEFAULT_CONST;
    return 0;
}

static int build_default(struct build *b, struct column *c, const struct ast_column *in)
{
    c->def = c->fill = VALUE_NULL;
    if (!in->has_default) return 0;
    if (c->type.kind == COL_STREAM || c->type.kind == COL_BLOB)
        return problem_set(b->p, ERR_BAD_SCHEMA, in->position, "%.*s: a %s has no default", SPAN_FMT(c->name), col_type_name(c->type.kind));
    if (in->def.kind == AST_NOW && c->type.kind == COL_TIMESTAMPTZ) {
        c->has_default = DEFAULT_NOW;
        c->fill = (struct value){.i = (int64_t)b->arrival_ms * 1000};
        return 0;
    }
    if (in->def.kind == AST_UUID && c->type.kind == COL_UUID) {
        c->has_default = DEFAULT_UUID;
        return 0;
    }
    int err = build_constant(b, c, &in->def);
    c->fill = c->def;
    return err;
}

// References are resolved later, when all tables have numbers.
static int build_column(struct build *b, struct column *c, const struct ast_column *in)
{
    if (!name_fits(in->name)) return bad_name(b, in->name, in->position);
    if (in->primary_key) return problem_set(b->p, ERR_BAD_SCHEMA, in->position, "only id is the primary key");
    *c = (struct column){.type = TYPE(in->type.kind), .not_null = in->not_null};
    if (!arena_copy_span(b->s->arena, in->name, &c->name)) return ERR_NOMEM;
    return build_default(b, c, in);
}

static const struct ast_column *find_ast_column(const struct ast_table *t, struct span name)
{
    for (size_t i = 0; i < t->column_count; i++)
        if (span_equal(t->columns[i].name, name)) return &t->columns[i];
    return NULL;
}

// First the columns that the table had, at their old places, then the new ones as declared.
static int build_columns(struct build *b, struct table *t, const struct ast_table *in, const struct table *before)
{
    size_t old = before ? before->column_count : 0;
    if (in->column_count > COLUMNS_MAX)
        return problem_set(b->p, ERR_BAD_SCHEMA, in->position, "%.*s has more than %d columns", SPAN_FMT(in->name), COLUMNS_MAX);
    t->columns = arena_array(b->s->arena, in->column_count + old, sizeof *t->columns);
    if (!t->columns) return ERR_NOMEM;
    for (size_t i = 0; i < old; i++) {
        const struct ast_column *c = find_ast_column(in, before->columns[i].name);
        if (!c) return not_additive(b, in->position, in->name, before->columns[i].name, "is gone");
        int err = build_column(b, &t->columns[t->column_count++], c);
        if (err) return err;
        t->columns[i].fill = before->columns[i].fill;
        if (!value_copy(&t->columns[i].fill, &t->columns[i].type, &before->columns[i].fill, b->s->arena)) return ERR_NOMEM;
    }
    for (size_t i = 0; i < in->column_count; i++) {
        const struct ast_column *c = &in->columns[i];
        bool is_id = span_is(c->name, "id");
        if (find_ast_column(in, c->name) != c)
            return problem_set(b->p, ERR_BAD_SCHEMA, c->position, "%.*s has two columns named %.*s", SPAN_FMT(in->name), SPAN_FMT(c->name));
        if (!is_id && before && table_column(before, c->name) != COLUMN_NONE) continue;
        int err = is_id ? check_id(b, c) : build_column(b, &t->columns[t->column_count++], c);
        if (err) return err;
    }
    return 0;
}

// ---- tables --------------------------------------------------------------------------------------------------------

static const struct ast_table *find_ast_table(const struct ast_schema *ast, struct span name)
{
    for (size_t i = 0; i < ast->table_count; i++)
        if (span_equal(ast->tables[i].name, name)) return &ast->tables[i];
    return NULL;
}

static int build_table(struct build *b, const struct ast_table *in, const struct table *before)
{
    struct table *t = &b->s->tables[b->s->table_count++];
    t->no = (uint32_t)b->s->table_count;
    if (!name_fits(in->name)) return bad_name(b, in->name, in->position);
    if (!arena_copy_span(b->s->arena, in->name, &t->name)) return ERR_NOMEM;
    return build_columns(b, t, in, before);
}

static int build_tables(struct build *b, const struct ast_schema *ast)
{
    size_t old = b->before->table_count;
    if (ast->table_count > TABLES_MAX) return problem_set(b->p, ERR_BAD_SCHEMA, -1, "more than %d tables", TABLES_MAX);
    b->s->tables = arena_array(b->s->arena, ast->table_count + old, sizeof *b->s->tables);
    if (!b->s->tables) return ERR_NOMEM;
    for (size_t i = 0; i < old; i++) {
        const struct table *before = &b->before->tables[i];
        const struct ast_table *in = find_ast_table(ast, before->name);
        if (!in) return problem_set(b->p, ERR_SCHEMA_NOT_ADDITIVE, -1, "the table %.*s is gone", SPAN_FMT(before->name));
        int err = build_table(b, in, before);
        if (err) return err;
    }
    for (size_t i = 0; i < ast->table_count; i++) {
        const struct ast_table *in = &ast->tables[i];
        if (find_ast_table(ast, in->name) != in)
            return problem_set(b->p, ERR_BAD_SCHEMA, in->position, "two tables are named %.*s", SPAN_FMT(in->name));
        if (schema_table(b->before, in->name)) continue;
        int err = build_table(b, in, NULL);
        if (err) return err;
    }
    return 0;
}

static int resolve_reference(struct build *b, const struct ast_column *in, struct column *c)
{
    if (!in->references) return 0;
    if (in->type.kind != COL_UUID || in->type.array)
        return problem_set(b->p, ERR_BAD_SCHEMA, in->position, "%.*s: a reference must be of type uuid", SPAN_FMT(in->name));
    if (in->ref_column.n > 0 && !span_is(in->ref_column, "id"))
        return problem_set(b->p, ERR_BAD_SCHEMA, in->position, "%.*s: only id can be referred to", SPAN_FMT(in->name));
    for (size_t i = 0; i < b->s->table_count && !c->references; i++)
        if (span_equal(b->s->tables[i].name, in->ref_table)) c->references = b->s->tables[i].no;
    if (!c->references)
        return problem_set(b->p, ERR_BAD_SCHEMA, in->position, "%.*s refers to the table %.*s, which does not exist", SPAN_FMT(in->name),
                           SPAN_FMT(in->ref_table));
    return 0;
}

static int resolve_references(struct build *b, const struct ast_schema *ast)
{
    for (size_t i = 0; i < b->s->table_count; i++) {
        struct table *t = &b->s->tables[i];
        const struct ast_table *in = find_ast_table(ast, t->name);
        for (size_t k = 0; k < t->column_count; k++) {
            int err = resolve_reference(b, find_ast_column(in, t->columns[k].name), &t->columns[k]);
            if (err) return err;
        }
    }
    return 0;
}

// Says what schema_extends finds in words: it is asked again at the end and must agree.
static int check_growth(struct build *b, const struct ast_schema *ast)
{
    for (size_t i = 0; i < b->before->table_count; i++) {
        const struct table *before = &b->before->tables[i], *t = &b->s->tables[i];
        const struct ast_table *in = find_ast_table(ast, t->name);
        for (size_t k = 0; k < t->column_count; k++) {
            const struct column *c = &t->columns[k], *old = k < before->column_count ? &before->columns[k] : NULL;
            int64_t position = find_ast_column(in, c->name)->position;
            bool filled = !c->fill.null || c->type.kind == COL_STREAM;
            if (!old) {
                if (c->has_default == DEFAULT_UUID)
                    return not_additive(b, position, t->name, c->name, "is new: its default must be one value for the rows there are");
                if (c->not_null && !filled) return not_additive(b, position, t->name, c->name, "is new and not null: it needs a default");
                if (c->references && filled)
                    return not_additive(b, position, t->name, c->name, "is new and refers to rows: it cannot have a default");
            } else if (!type_same(&old->type, &c->type)) {
                return not_additive(b, position, t->name, c->name, "has another type");
            } else if (old->not_null != c->not_null || old->references != c->references || old->has_default != c->has_default ||
                       !value_equal(&c->type, &old->def, &c->def)) {
                return not_additive(b, position, t->name, c->name, "has other constraints or another default");
            }
        }
    }
    assert(schema_extends(b->s, b->before));
    return 0;
}

int schema_build(struct schema **out, const struct ast_schema *ast, const struct schema *before, uint64_t arrival_ms, struct problem *p)
{
    struct build b = {.s = schema_empty(), .before = before, .arrival_ms = arrival_ms, .p = p};
    assert(out && ast && before);
    if (!b.s) return ERR_NOMEM;
    b.s->version = before->version + 1;
    int err = build_tables(&b, ast);
    if (!err) err = resolve_references(&b, ast);
    if (!err) err = check_growth(&b, ast);
    if (!err) err = schema_finish(b.s);
    if (err == ERR_EXISTS) err = ERR_BAD_SCHEMA;
    if (err) {
        schema_unref(b.s);
        return err;
    }
    *out = b.s;
    return 0;
}
