// Every rule of a schema that is not grammar: columns, tables, and what a schema may grow to.
#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "schema_build.h"

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

int build_name(struct build *b, struct span name, int64_t position)
{
    if (name_fits(name)) return 0;
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

static bool cast_fits(const struct ast_type *cast, const struct type *type)
{
    if (cast->kind == 0) return true;
    return cast->kind == type->kind && cast->array == type->array && (!type->labels || span_equal(cast->name, type->labels->name));
}

static int build_constant(struct build *b, struct column *c, const struct ast_const *def)
{
    struct value_target target = {.type = &c->type, .source = VALUE_LITERAL, .column = c->name, .position = def->position};
    struct row_value v = {.kind = ROW_NULL};
    char text[TYPE_TEXT_MAX];
    if (!cast_fits(&def->cast, &c->type))
        return problem_set(b->p, ERR_WRONG_TYPE, def->position, "%.*s is of type %s, its default is not", SPAN_FMT(c->name),
                           type_text(&c->type, text));
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
    if (c->type.kind == COL_INTEGER && !c->type.array && (c->def.i < INT32_MIN || c->def.i > INT32_MAX))
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
    if (in->def.kind == AST_NOW && c->type.kind == COL_TIMESTAMPTZ && !c->type.array) {
        c->has_default = DEFAULT_NOW;
        c->fill = (struct value){.i = (int64_t)b->arrival_ms * 1000};
        return 0;
    }
    if (in->def.kind == AST_UUID && c->type.kind == COL_UUID && !c->type.array) {
        c->has_default = DEFAULT_UUID;
        return 0;
    }
    int err = build_constant(b, c, &in->def);
    c->fill = c->def;
    return err;
}

static int build_type(struct build *b, struct column *c, const struct ast_column *in)
{
    c->type = (struct type){.kind = in->type.kind, .array = in->type.array};
    for (size_t i = 0; in->type.kind == COL_ENUM && i < b->s->enum_count; i++)
        if (span_equal(b->s->enums[i].name, in->type.name)) c->type.labels = &b->s->enums[i];
    assert(!c->type.labels == (in->type.kind != COL_ENUM)); // the SQL front has looked
    return 0;
}

static int bad_merge(struct build *b, const struct ast_column *in, const char *what)
{
    return problem_set(b->p, ERR_BAD_SCHEMA, in->merge_position, "%.*s: %s", SPAN_FMT(in->name), what);
}

static int build_merge(struct build *b, struct column *c, const struct ast_column *in)
{
    bool counter = c->type.kind == COL_COUNTER;
    enum merge_kind m = MERGE_LWW;
    while (in->merge.n > 0 && m <= MERGE_SET && !span_is(in->merge, merge_name(m)))
        m++;
    if (m > MERGE_SET) return bad_merge(b, in, "the merges are lww, max, min, set and counter");
    if (in->merge.n == 0 && counter) m = MERGE_COUNTER;
    if ((m == MERGE_COUNTER) != counter) return bad_merge(b, in, "the merge of a counter is counter, and no other column's is");
    if ((m == MERGE_MAX || m == MERGE_MIN) && !type_ordered(&c->type)) return bad_merge(b, in, "max and min are of types that have an order");
    if (m == MERGE_SET && !(c->type.array && type_ordered(&c->type))) return bad_merge(b, in, "a set is an array of a type that has an order");
    if (in->merge.n > 0 && c->type.kind == COL_STREAM) return bad_merge(b, in, "a stream has no merge");
    c->merge = m;
    c->type.set = m == MERGE_SET;
    return 0;
}

// A counter is a number from the first: what is added to null would be lost.
static void settle_counter(struct column *c)
{
    if (c->merge != MERGE_COUNTER) return;
    c->not_null = true;
    if (c->has_default == DEFAULT_CONST) return;
    c->has_default = DEFAULT_CONST;
    c->def = c->fill = (struct value){.i = 0};
}

// References are resolved later, when all tables have numbers.
static int build_column(struct build *b, struct column *c, const struct ast_column *in)
{
    int err = build_name(b, in->name, in->position);
    if (err) return err;
    if (in->primary_key) return problem_set(b->p, ERR_BAD_SCHEMA, in->position, "only id is the primary key");
    *c = (struct column){.born = b->s->version, .not_null = in->not_null};
    if (!arena_copy_span(b->s->arena, in->name, &c->name)) return ERR_NOMEM;
    err = build_type(b, c, in);
    if (!err) err = build_merge(b, c, in);
    if (!err) err = build_default(b, c, in);
    if (!err) settle_counter(c);
    return err;
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
        t->columns[i].born = before->columns[i].born;
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

const struct ast_table *build_ast_table(const struct build *b, struct span name)
{
    for (size_t i = 0; i < b->ast->table_count; i++)
        if (span_equal(b->ast->tables[i].name, name)) return &b->ast->tables[i];
    return NULL;
}

static int build_table(struct build *b, const struct ast_table *in, const struct table *before)
{
    struct table *t = &b->s->tables[b->s->table_count++];
    t->no = (uint32_t)b->s->table_count;
    int err = build_name(b, in->name, in->position);
    if (err) return err;
    if (!arena_copy_span(b->s->arena, in->name, &t->name)) return ERR_NOMEM;
    return build_columns(b, t, in, before);
}

static int build_tables(struct build *b)
{
    const struct ast_schema *ast = b->ast;
    size_t old = b->before->table_count;
    if (ast->table_count > TABLES_MAX) return problem_set(b->p, ERR_BAD_SCHEMA, -1, "more than %d tables", TABLES_MAX);
    b->s->tables = arena_array(b->s->arena, ast->table_count + old, sizeof *b->s->tables);
    if (!b->s->tables) return ERR_NOMEM;
    for (size_t i = 0; i < old; i++) {
        const struct table *before = &b->before->tables[i];
        const struct ast_table *in = build_ast_table(b, before->name);
        if (!in) return problem_set(b->p, ERR_SCHEMA_NOT_ADDITIVE, -1, "the table %.*s is gone", SPAN_FMT(before->name));
        int err = build_table(b, in, before);
        if (err) return err;
    }
    for (size_t i = 0; i < ast->table_count; i++) {
        const struct ast_table *in = &ast->tables[i];
        if (build_ast_table(b, in->name) != in)
            return problem_set(b->p, ERR_BAD_SCHEMA, in->position, "two tables are named %.*s", SPAN_FMT(in->name));
        if (schema_table(b->before, in->name)) continue;
        int err = build_table(b, in, NULL);
        if (err) return err;
    }
    return 0;
}

static int check_old_column(struct build *b, const struct table *t, const struct column *c, const struct column *old, int64_t position)
{
    if (!type_same(&old->type, &c->type) && old->type.set == c->type.set) return not_additive(b, position, t->name, c->name, "has another type");
    if (old->merge != c->merge) return not_additive(b, position, t->name, c->name, "merges otherwise");
    if (old->not_null != c->not_null || old->references != c->references || old->on_delete != c->on_delete ||
        old->has_default != c->has_default || !value_equal(&c->type, &old->def, &c->def))
        return not_additive(b, position, t->name, c->name, "has other constraints or another default");
    return 0;
}

static int check_new_column(struct build *b, const struct table *t, const struct column *c, int64_t position)
{
    bool filled = !c->fill.null || c->type.kind == COL_STREAM;
    if (c->has_default == DEFAULT_UUID)
        return not_additive(b, position, t->name, c->name, "is new: its default must be one value for the rows there are");
    if (c->not_null && !filled) return not_additive(b, position, t->name, c->name, "is new and not null: it needs a default");
    if (c->references && filled)
        return not_additive(b, position, t->name, c->name, "is new and refers to rows: it cannot have a default");
    return 0;
}

// Says what schema_extends finds in words: it is asked again at the end and must agree.
static int check_growth(struct build *b)
{
    for (size_t i = 0; i < b->before->table_count; i++) {
        const struct table *before = &b->before->tables[i], *t = &b->s->tables[i];
        const struct ast_table *in = build_ast_table(b, t->name);
        for (size_t k = 0; k < t->column_count; k++) {
            const struct column *c = &t->columns[k];
            int64_t position = find_ast_column(in, c->name)->position;
            int err = k < before->column_count ? check_old_column(b, t, c, &before->columns[k], position)
                                               : check_new_column(b, t, c, position);
            if (err) return err;
        }
    }
    assert(schema_extends(b->s, b->before));
    return 0;
}

// What is stored must read back: canonical expressions may be longer than those that were written.
static int check_stored(struct build *b)
{
    struct buf bytes;
    struct schema *again = NULL;
    buf_init(&bytes, ENTRY_BYTES_MAX);
    schema_encode(b->s, &bytes);
    int err = bytes.err ? bytes.err : schema_decode(&again, buf_span(&bytes));
    buf_free(&bytes);
    if (!err && !sha256_equal(&again->hash, &b->s->hash)) err = ERR_CORRUPT;
    schema_unref(again);
    if (err == ERR_CORRUPT || err == ERR_TOO_LARGE)
        return problem_set(b->p, ERR_BAD_SCHEMA, -1, "the schema is too long, or has an expression that is");
    return err;
}

static int build_all(struct build *b)
{
    int err = build_enums(b);
    if (!err) err = build_tables(b);
    if (!err) err = build_references(b);
    if (!err) err = schema_sort(b->s);
    if (!err) err = build_indexes(b);
    if (!err) err = build_checks(b);
    if (!err) err = check_growth(b);
    if (!err) err = schema_finish(b->s);
    return err ? err : check_stored(b);
}

int schema_build(struct schema **out, const struct ast_schema *ast, const struct schema *before, uint64_t arrival_ms, struct problem *p)
{
    struct build b = {.s = schema_empty(), .before = before, .ast = ast, .arrival_ms = arrival_ms, .p = p};
    assert(out && ast && before);
    if (!b.s) return ERR_NOMEM;
    b.s->version = before->version + 1;
    int err = build_all(&b);
    if (err == ERR_EXISTS) err = ERR_BAD_SCHEMA;
    if (err == ERR_NOMEM && arena_full(b.s->arena)) {
        if (p) *p = PROBLEM_NONE; // it may have said that there was no memory
        err = problem_set(p, ERR_BAD_SCHEMA, -1, "the schema takes more memory than any may");
    }
    if (err) {
        schema_unref(b.s);
        return err;
    }
    *out = b.s;
    return 0;
}
