#include "sql_tree.h"

#include <assert.h>

// ---- refusing --------------------------------------------------------------------------------------------------

int sql_unsupported(const struct sql_reader *r, int64_t position, const char *subject)
{
    return problem_set(r->p, ERR_UNSUPPORTED_SQL, position, "%s not supported yet", subject);
}

int sql_bad(const struct sql_reader *r, int64_t position, const char *sentence)
{
    return problem_set(r->p, ERR_BAD_SQL, position, "%s", sentence);
}

int sql_nomem(const struct sql_reader *r)
{
    return problem_set(r->p, ERR_NOMEM, -1, "%s", err_text(ERR_NOMEM));
}

// Kinds of nodes in the words of SQL; the rest are told by the parser's own name for them.
static const struct sql_member kinds[] = {
    {"InsertStmt", "INSERT (use a batch) is"},
    {"UpdateStmt", "UPDATE (use a batch) is"},
    {"DeleteStmt", "DELETE (use a batch) is"},
    {"SelectStmt", "SELECT is here"},
    {"CreateStmt", "CREATE TABLE is here"},
    {"CreateTableAsStmt", "CREATE TABLE AS is"},
    {"AlterTableStmt", "ALTER TABLE (publish the whole new schema) is"},
    {"DropStmt", "DROP is"},
    {"IndexStmt", "CREATE INDEX is here"},
    {"ViewStmt", "CREATE VIEW is"},
    {"CreateEnumStmt", "CREATE TYPE is here"},
    {"CompositeTypeStmt", "CREATE TYPE but for enums is"},
    {"CreateRangeStmt", "CREATE TYPE but for enums is"},
    {"DefineStmt", "CREATE TYPE but for enums is"},
    {"CreateDomainStmt", "CREATE DOMAIN is"},
    {"AlterEnumStmt", "ALTER TYPE (publish the whole new schema) is"},
    {"CreatePolicyStmt", "CREATE POLICY is"},
    {"CreateFunctionStmt", "CREATE FUNCTION is"},
    {"CreateTrigStmt", "CREATE TRIGGER is"},
    {"CreateExtensionStmt", "CREATE EXTENSION is"},
    {"CommentStmt", "COMMENT ON is"},
    {"TransactionStmt", "BEGIN and COMMIT are"},
    {"JoinExpr", "joins are"},
    {"RangeSubselect", "subqueries are"},
    {"RangeFunction", "functions in FROM are"},
    {"SubLink", "subqueries are"},
    {"FuncCall", "function calls are"},
    {"SQLValueFunction", "function calls are"},
    {"CoalesceExpr", "COALESCE is"},
    {"MinMaxExpr", "GREATEST and LEAST are"},
    {"CaseExpr", "CASE is"},
    {"NullIfExpr", "NULLIF is"},
    {"A_ArrayExpr", "arrays are"},
    {"A_Indirection", "subscripts and fields are"},
    {"RowExpr", "row values are"},
    {"CollateClause", "COLLATE is"},
    {"A_Expr", "expressions here are"},
    {"BoolExpr", "conditions here are"},
    {"NullTest", "conditions here are"},
    {"BooleanTest", "conditions here are"},
    {"A_Const", "a constant here is"},
    {"ParamRef", "a parameter here is"},
    {"ColumnRef", "a column's name here is"},
    {"TypeCast", "a cast here is"},
    {"Constraint", "this constraint here is"},
    {"TableLikeClause", "LIKE in a table is"},
    SQL_MEMBERS_END,
};

int sql_refuse(const struct sql_reader *r, const struct jr *node, int64_t position)
{
    struct span kind;
    const struct jr *members = sql_node(node, &kind);
    position = sql_position(members, position);
    for (const struct sql_member *k = kinds; k->key != NULL; k++)
        if (span_is(kind, k->key)) return sql_unsupported(r, position, k->refused);
    return problem_set(r->p, ERR_UNSUPPORTED_SQL, position, "%.*s is not supported yet", SPAN_FMT(kind));
}

// ---- nodes and members -----------------------------------------------------------------------------------------

static int take_first(void *ctx, struct span key, const struct jr *value)
{
    (void)value;
    *(struct span *)ctx = key;
    return 1;
}

const struct jr *sql_node(const struct jr *node, struct span *kind)
{
    char key[64];
    *kind = SPAN_NONE;
    if (jr_count(node) != 1 || jr_each(node, take_first, kind) != 1 || kind->n >= sizeof key) return NULL;
    memcpy(key, kind->p, kind->n);
    key[kind->n] = 0;
    return jr_get(node, key);
}

static int find_location(void *ctx, struct span key, const struct jr *value)
{
    int64_t *found = ctx;
    if (span_is(key, "location")) *found = jr_int(value, -1);
    return *found >= 0;
}

static int find_position(void *ctx, struct span key, const struct jr *value)
{
    (void)key;
    int64_t *found = ctx;
    *found = sql_position(value, -1);
    return *found >= 0;
}

// A node's own location comes before those of its parts. A location of 0 is left out of the tree. Recursion is bounded by
// what jr_parse let in.
int64_t sql_position(const struct jr *node, int64_t otherwise)
{
    int64_t found = -1;
    if (jr_each(node, find_location, &found) != 0) return found;
    if (jr_each(node, find_position, &found) != 0) return found;
    for (size_t i = 0; jr_type(node) == JR_ARRAY && i < jr_count(node) && found < 0; i++)
        found = sql_position(jr_at(node, i), -1);
    return found >= 0 ? found : otherwise;
}

struct member_check {
    const struct sql_reader *r;
    const struct sql_member *members;
    int64_t position;
};

static int check_member(void *ctx, struct span key, const struct jr *value)
{
    const struct member_check *c = ctx;
    const struct sql_member *m = c->members;
    while (m->key != NULL && !span_is(key, m->key))
        m++;
    if (m->key != NULL && m->refused == NULL) return 0;
    int64_t position = sql_position(value, c->position);
    if (m->key != NULL) return sql_unsupported(c->r, position, m->refused);
    return problem_set(c->r->p, ERR_UNSUPPORTED_SQL, position, "this use of SQL (%.*s) is not supported yet", SPAN_FMT(key));
}

int sql_members(const struct sql_reader *r, const struct jr *node, const struct sql_member *members, int64_t position)
{
    struct member_check c = {r, members, position};
    return jr_each(node, check_member, &c);
}

bool sql_is(const struct jr *node, const char *key, const char *value)
{
    return span_is(jr_str(jr_get(node, key)), value);
}

// ---- names -----------------------------------------------------------------------------------------------------

int sql_text(const struct sql_reader *r, struct span s, struct span *out)
{
    return arena_copy_span(r->arena, s, out) ? 0 : sql_nomem(r);
}

struct span sql_name_at(const struct jr *names, size_t i)
{
    return jr_str(jr_get(jr_get(jr_at(names, i), "String"), "sval"));
}

int sql_aliased_table(const struct sql_reader *r, const struct jr *node, struct span *name, int64_t *position)
{
    static const struct sql_member members[] = {
        {"relname", NULL},
        {"inh", NULL},
        {"relpersistence", NULL},
        {"location", NULL},
        {"catalogname", "names of databases and schemas in front of a table are"},
        {"schemaname", "names of schemas in front of a table are"},
        {"alias", NULL},
        SQL_MEMBERS_END,
    };
    int64_t at = jr_int(jr_get(node, "location"), 0);
    int err = sql_members(r, node, members, at);
    if (err != 0) return err;
    if (!jr_bool(jr_get(node, "inh"), false)) return sql_unsupported(r, at, "ONLY is");
    if (sql_is(node, "relpersistence", "t")) return sql_unsupported(r, at, "TEMPORARY is");
    if (!sql_is(node, "relpersistence", "p")) return sql_unsupported(r, at, "UNLOGGED is");
    *position = at;
    return sql_text(r, jr_str(jr_get(node, "relname")), name);
}

int sql_table_name(const struct sql_reader *r, const struct jr *node, struct span *name, int64_t *position)
{
    const struct jr *alias = jr_get(node, "alias");
    if (alias != NULL) return sql_unsupported(r, jr_int(jr_get(node, "location"), 0), "aliases are");
    return sql_aliased_table(r, node, name, position);
}

// ---- types -----------------------------------------------------------------------------------------------------

static const struct {
    const char *name;
    enum col_type type;
} types[] = {
    {"text", COL_TEXT},
    {"int4", COL_INTEGER},
    {"int8", COL_BIGINT},
    {"float8", COL_DOUBLE},
    {"double", COL_DOUBLE},
    {"bool", COL_BOOLEAN},
    {"timestamptz", COL_TIMESTAMPTZ},
    {"uuid", COL_UUID},
    {"jsonb", COL_JSONB},
    {"stream", COL_STREAM},
    {"blob", COL_BLOB},
    {"bytea", COL_BYTEA},
    {"counter", COL_COUNTER},
};

bool sql_type_taken(struct span name)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (span_is(name, types[i].name)) return true;
    return false;
}

int sql_no_type(const struct sql_reader *r, const struct ast_type *type)
{
    if (span_is(type->name, "textdoc")) return sql_unsupported(r, type->position, "the type textdoc is");
    return problem_set(r->p, ERR_UNSUPPORTED_SQL, type->position,
                       "the type %.*s is not supported (text, integer, bigint, double precision, boolean, timestamptz, uuid, jsonb, bytea, "
                       "counter, stream, blob and enums are)",
                       SPAN_FMT(type->name));
}

// The parser's list has an entry for each dimension, with its bound where there is one.
static int read_dimensions(const struct sql_reader *r, const struct jr *bounds, struct ast_type *out)
{
    if (jr_count(bounds) > 1) return sql_unsupported(r, out->position, "arrays of more than one dimension are");
    out->array = jr_count(bounds) == 1;
    if (!out->array) return 0;
    if (jr_get(jr_get(jr_at(bounds, 0), "Integer"), "ival") != NULL) return sql_unsupported(r, out->position, "the length of an array type is");
    if (type_element(out->kind)) return 0;
    return problem_set(r->p, ERR_UNSUPPORTED_SQL, out->position, "arrays of %s are not supported yet", col_type_name(out->kind));
}

int sql_type(const struct sql_reader *r, const struct jr *node, int64_t position, struct ast_type *out)
{
    static const struct sql_member members[] = {
        {"names", NULL},
        {"typemod", NULL},
        {"location", NULL},
        {"arrayBounds", NULL},
        {"typmods", "a length or precision of a type is"},
        {"setof", "SETOF is"},
        {"pct_type", "%TYPE is"},
        SQL_MEMBERS_END,
    };
    struct ast_type type = {.kind = COL_ENUM, .position = sql_position(node, position)};
    int err = sql_members(r, node, members, type.position);
    if (err != 0) return err;
    const struct jr *names = jr_get(node, "names");
    size_t count = jr_count(names);
    bool own = count == 2 && span_is(sql_name_at(names, 0), "pg_catalog");
    if (jr_int(jr_get(node, "typemod"), 0) != -1) return sql_unsupported(r, type.position, "a length or precision of a type is");
    if (count > 2 || (count == 2 && !own)) return sql_unsupported(r, type.position, "names of schemas in front of a type are");
    type.name = sql_name_at(names, count - 1);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (span_is(type.name, types[i].name)) type.kind = types[i].type;
    if (own && type.kind == COL_ENUM) return sql_no_type(r, &type);
    err = read_dimensions(r, jr_get(node, "arrayBounds"), &type);
    if (err == 0) err = sql_text(r, type.name, &type.name);
    if (err == 0) *out = type;
    return err;
}
