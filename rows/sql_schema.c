// CREATE TABLE statements of the parser's tree.
#include <assert.h>

#include "sql_tree.h"

static const char clash[] = "a column has the same kind of constraint twice, or null and not null";

// ---- columns ---------------------------------------------------------------------------------------------------

static int read_reference(const struct sql_reader *r, const struct jr *node, int64_t position, struct ast_column *out)
{
    int64_t table_position;
    const struct jr *keys = jr_get(node, "pk_attrs");
    if (out->references) return sql_bad(r, position, clash);
    if (!sql_is(node, "fk_matchtype", "s")) return sql_unsupported(r, position, "MATCH FULL and MATCH PARTIAL are");
    if (!sql_is(node, "fk_upd_action", "a")) return sql_unsupported(r, position, "ON UPDATE is");
    if (!sql_is(node, "fk_del_action", "a")) return sql_unsupported(r, position, "ON DELETE is");
    if (!jr_bool(jr_get(node, "initially_valid"), false)) return sql_unsupported(r, position, "NOT VALID is");
    if (jr_count(keys) > 1) return sql_bad(r, position, "a column refers to one column");
    int err = sql_table_name(r, jr_get(node, "pktable"), &out->ref_table, &table_position);
    if (err == 0 && jr_count(keys) == 1) err = sql_text(r, sql_name_at(keys, 0), &out->ref_column);
    out->references = true;
    return err;
}

static int read_default(const struct sql_reader *r, const struct jr *node, int64_t position, struct ast_column *out)
{
    if (out->has_default) return sql_bad(r, position, clash);
    out->has_default = true;
    return sql_constant(r, jr_get(node, "raw_expr"), true, &out->def);
}

static int set_once(const struct sql_reader *r, int64_t position, bool *flag, bool other)
{
    if (*flag || other) return sql_bad(r, position, clash);
    *flag = true;
    return 0;
}

// Which members a constraint may have follows from its type.
static const struct sql_member bare_members[] = {
    {"contype", NULL}, {"location", NULL}, {"conname", "names of constraints are"}, SQL_MEMBERS_END};
static const struct sql_member default_members[] = {
    {"contype", NULL}, {"location", NULL}, {"raw_expr", NULL}, {"conname", "names of constraints are"}, SQL_MEMBERS_END,
};
static const struct sql_member foreign_members[] = {
    {"contype", NULL},
    {"location", NULL},
    {"pktable", NULL},
    {"pk_attrs", NULL},
    {"fk_matchtype", NULL},
    {"fk_upd_action", NULL},
    {"fk_del_action", NULL},
    {"initially_valid", NULL},
    {"conname", "names of constraints are"},
    {"fk_del_set_cols", "ON DELETE is"},
    SQL_MEMBERS_END,
};

static int refuse_constraint(const struct sql_reader *r, struct span type, int64_t position)
{
    static const struct sql_member refused[] = {
        {"CONSTR_UNIQUE", "UNIQUE is"},       {"CONSTR_CHECK", "CHECK is"},       {"CONSTR_IDENTITY", "IDENTITY is"},
        {"CONSTR_GENERATED", "GENERATED is"}, {"CONSTR_EXCLUSION", "EXCLUDE is"}, SQL_MEMBERS_END,
    };
    for (const struct sql_member *m = refused; m->key != NULL; m++)
        if (span_is(type, m->key)) return sql_unsupported(r, position, m->refused);
    return sql_unsupported(r, position, "this constraint (DEFERRABLE or the like) is");
}

static int read_constraint(const struct sql_reader *r, const struct jr *node, bool *null, struct ast_column *out)
{
    struct span kind;
    const struct jr *c = sql_node(node, &kind);
    int64_t position = jr_int(jr_get(c, "location"), out->position);
    if (!span_is(kind, "Constraint")) return sql_refuse(r, node, position);
    struct span type = jr_str(jr_get(c, "contype"));
    bool is_default = span_is(type, "CONSTR_DEFAULT"), is_foreign = span_is(type, "CONSTR_FOREIGN");
    bool is_not_null = span_is(type, "CONSTR_NOTNULL"), is_null = span_is(type, "CONSTR_NULL"),
         is_primary = span_is(type, "CONSTR_PRIMARY");
    if (!is_default && !is_foreign && !is_not_null && !is_null && !is_primary) return refuse_constraint(r, type, position);

    int err = sql_members(r, c, is_default ? default_members : is_foreign ? foreign_members : bare_members, position);
    if (err != 0) return err;
    if (is_default) return read_default(r, c, position, out);
    if (is_foreign) return read_reference(r, c, position, out);
    if (is_not_null) return set_once(r, position, &out->not_null, *null);
    if (is_null) return set_once(r, position, null, out->not_null);
    return set_once(r, position, &out->primary_key, false);
}

static int read_column(const struct sql_reader *r, const struct jr *node, struct ast_column *out)
{
    static const struct sql_member members[] = {
        {"colname", NULL},
        {"typeName", NULL},
        {"is_local", NULL},
        {"constraints", NULL},
        {"location", NULL},
        {"collClause", "COLLATE is"},
        {"compression", "COMPRESSION is"},
        {"fdwoptions", "OPTIONS is"},
        SQL_MEMBERS_END,
    };
    bool null = false;
    const struct jr *constraints = jr_get(node, "constraints");
    out->position = jr_int(jr_get(node, "location"), 0);
    int err = sql_members(r, node, members, out->position);
    if (err == 0) err = sql_text(r, jr_str(jr_get(node, "colname")), &out->name);
    if (err == 0) err = sql_type(r, jr_get(node, "typeName"), out->position, &out->type);
    for (size_t i = 0; i < jr_count(constraints) && err == 0; i++)
        err = read_constraint(r, jr_at(constraints, i), &null, out);
    return err;
}

// ---- tables ----------------------------------------------------------------------------------------------------

static int read_columns(const struct sql_reader *r, const struct jr *elements, struct ast_table *out)
{
    size_t count = jr_count(elements);
    if (count > COLUMNS_MAX)
        return problem_set(r->p, ERR_BAD_SCHEMA, out->position, "the table %.*s has more than %d columns", SPAN_FMT(out->name),
                           COLUMNS_MAX);
    out->columns = arena_array(r->arena, count, sizeof *out->columns);
    if (out->columns == NULL) return sql_nomem(r);
    for (size_t i = 0; i < count; i++) {
        struct span kind;
        const struct jr *element = sql_node(jr_at(elements, i), &kind);
        if (!span_is(kind, "ColumnDef")) return sql_refuse(r, jr_at(elements, i), out->position);
        int err = read_column(r, element, &out->columns[i]);
        if (err != 0) return err;
    }
    out->column_count = count;
    return 0;
}

static int read_table(const struct sql_reader *r, const struct jr *node, int64_t position, struct ast_table *out)
{
    static const struct sql_member members[] = {
        {"relation", NULL},
        {"tableElts", NULL},
        {"oncommit", NULL},
        {"inhRelations", "INHERITS is"},
        {"partbound", "PARTITION OF is"},
        {"partspec", "PARTITION BY is"},
        {"ofTypename", "CREATE TABLE OF is"},
        {"constraints", "table constraints are"},
        {"options", "WITH is"},
        {"tablespacename", "TABLESPACE is"},
        {"accessMethod", "USING is"},
        {"if_not_exists", "IF NOT EXISTS (a schema is the whole of what there is) is"},
        SQL_MEMBERS_END,
    };
    position = sql_position(jr_get(node, "relation"), position);
    int err = sql_members(r, node, members, position);
    if (err != 0) return err;
    if (!sql_is(node, "oncommit", "ONCOMMIT_NOOP")) return sql_unsupported(r, position, "ON COMMIT is");
    err = sql_table_name(r, jr_get(node, "relation"), &out->name, &out->position);
    return err != 0 ? err : read_columns(r, jr_get(node, "tableElts"), out);
}

// A statement's place as the parser has it begins right behind the one before: the white space between is not meant.
static int64_t statement_position(const struct sql_reader *r, const struct jr *statement)
{
    int64_t at = jr_int(jr_get(statement, "stmt_location"), 0);
    while (at >= 0 && (size_t)at < r->text.n && r->text.p[at] != 0 && strchr(" \t\r\n\f\v", r->text.p[at]) != NULL)
        at++;
    return at;
}

int sql_read_schema(const struct sql_reader *r, const struct jr *statements, struct ast_schema *out)
{
    size_t count = jr_count(statements);
    if (count > TABLES_MAX) return problem_set(r->p, ERR_BAD_SCHEMA, -1, "the schema has more than %d tables", TABLES_MAX);
    out->tables = arena_array(r->arena, count, sizeof *out->tables);
    if (out->tables == NULL) return sql_nomem(r);
    for (size_t i = 0; i < count; i++) {
        struct span kind;
        const struct jr *statement = jr_get(jr_at(statements, i), "stmt");
        int64_t position = statement_position(r, jr_at(statements, i));
        const struct jr *table = sql_node(statement, &kind);
        if (!span_is(kind, "CreateStmt")) return sql_refuse(r, statement, position);
        int err = read_table(r, table, position, &out->tables[i]);
        if (err != 0) return err;
    }
    out->table_count = count;
    return 0;
}
