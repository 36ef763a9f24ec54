// The statements of a schema: CREATE TYPE … AS ENUM, CREATE TABLE, CREATE INDEX.
#include <assert.h>

#include "sql_expr.h"

static const char clash[] = "a column has the same kind of constraint twice, or null and not null";

// A schema being read. Unique constraints stand inside tables, and are indexes all the same.
struct reading {
    const struct sql_reader *r;
    struct ast_schema *schema;
    size_t index_room;
};

static struct ast_index *add_index(struct reading *s)
{
    struct ast_schema *schema = s->schema;
    if (schema->index_count == s->index_room) {
        size_t room = s->index_room ? s->index_room * 2 : 16;
        struct ast_index *indexes = arena_array(s->r->arena, room, sizeof *indexes);
        if (indexes == NULL) return NULL;
        if (schema->index_count > 0) memcpy(indexes, schema->indexes, schema->index_count * sizeof *indexes);
        schema->indexes = indexes;
        s->index_room = room;
    }
    return &schema->indexes[schema->index_count++];
}

// ---- constraints -----------------------------------------------------------------------------------------------

static int read_action(const struct sql_reader *r, const struct jr *node, int64_t position, enum ast_action *out)
{
    bool restricts = sql_is(node, "fk_del_action", "a") || sql_is(node, "fk_del_action", "r");
    bool cascades = sql_is(node, "fk_del_action", "c"), nulls = sql_is(node, "fk_del_action", "n");
    if (!restricts && !cascades && !nulls) return sql_unsupported(r, position, "ON DELETE SET DEFAULT is");
    *out = cascades ? ACTION_CASCADE : nulls ? ACTION_SET_NULL : ACTION_RESTRICT;
    return 0;
}

static int read_reference(const struct sql_reader *r, const struct jr *node, int64_t position, struct ast_column *out)
{
    static const struct sql_member members[] = {
        {"contype", NULL},
        {"location", NULL},
        {"pktable", NULL},
        {"pk_attrs", NULL},
        {"fk_attrs", NULL},
        {"fk_matchtype", NULL},
        {"fk_upd_action", NULL},
        {"fk_del_action", NULL},
        {"initially_valid", NULL},
        {"conname", "names of these constraints are"},
        {"fk_del_set_cols", "ON DELETE of named columns is"},
        {"skip_validation", "NOT VALID is"},
        {"deferrable", "DEFERRABLE is"},
        {"initdeferred", "DEFERRABLE is"},
        SQL_MEMBERS_END,
    };
    int64_t table_position;
    const struct jr *keys = jr_get(node, "pk_attrs");
    int err = sql_members(r, node, members, position);
    if (err != 0) return err;
    if (out->references) return sql_bad(r, position, clash);
    if (!sql_is(node, "fk_matchtype", "s")) return sql_unsupported(r, position, "MATCH FULL and MATCH PARTIAL are");
    if (!sql_is(node, "fk_upd_action", "a")) return sql_unsupported(r, position, "ON UPDATE is");
    if (jr_count(keys) > 1) return sql_bad(r, position, "a column refers to one column");
    err = read_action(r, node, position, &out->on_delete);
    if (err == 0) err = sql_table_name(r, jr_get(node, "pktable"), &out->ref_table, &table_position);
    if (err == 0 && jr_count(keys) == 1) err = sql_text(r, sql_name_at(keys, 0), &out->ref_column);
    out->references = true;
    return err;
}

static int read_default(const struct sql_reader *r, const struct jr *node, int64_t position, struct ast_column *out)
{
    static const struct sql_member members[] = {
        {"contype", NULL}, {"location", NULL}, {"raw_expr", NULL}, {"conname", "names of these constraints are"}, SQL_MEMBERS_END,
    };
    int err = sql_members(r, node, members, position);
    if (err != 0) return err;
    if (out->has_default) return sql_bad(r, position, clash);
    out->has_default = true;
    return sql_constant(r, jr_get(node, "raw_expr"), true, &out->def);
}

// NOT NULL, NULL, PRIMARY KEY beside a column.
static int set_once(const struct sql_reader *r, const struct jr *node, int64_t position, bool *flag, bool other)
{
    static const struct sql_member members[] = {
        {"contype", NULL}, {"location", NULL}, {"conname", "names of these constraints are"}, SQL_MEMBERS_END};
    int err = sql_members(r, node, members, position);
    if (err != 0) return err;
    if (*flag || other) return sql_bad(r, position, clash);
    *flag = true;
    return 0;
}

// `column` is that beside which it stands; empty: the table's.
static int read_check(const struct sql_reader *r, const struct jr *node, int64_t position, struct span column, struct ast_table *t)
{
    static const struct sql_member members[] = {
        {"contype", NULL},
        {"location", NULL},
        {"raw_expr", NULL},
        {"conname", NULL},
        {"initially_valid", NULL},
        {"is_no_inherit", "NO INHERIT is"},
        {"skip_validation", "NOT VALID is"},
        SQL_MEMBERS_END,
    };
    struct ast_expr *expr;
    int err = sql_members(r, node, members, position);
    if (err != 0) return err;
    if (t->check_count == CHECKS_MAX) return problem_set(r->p, ERR_BAD_SCHEMA, position, "more than %d checks of one table", CHECKS_MAX);
    if (t->checks == NULL) t->checks = arena_array(r->arena, CHECKS_MAX, sizeof *t->checks);
    if (t->checks == NULL) return sql_nomem(r);
    struct ast_check *check = &t->checks[t->check_count++];
    check->position = position;
    check->column = column;
    err = sql_text(r, jr_str(jr_get(node, "conname")), &check->name);
    if (err == 0) err = sql_expr(r, jr_get(node, "raw_expr"), &expr);
    if (err == 0) check->expr = expr;
    return err;
}

static int read_keys(const struct sql_reader *r, const struct jr *keys, int64_t position, struct ast_index *out)
{
    out->column_count = jr_count(keys);
    out->columns = arena_array(r->arena, out->column_count, sizeof *out->columns);
    if (out->columns == NULL) return sql_nomem(r);
    for (size_t i = 0; i < out->column_count; i++) {
        out->columns[i].position = position;
        int err = sql_text(r, sql_name_at(keys, i), &out->columns[i].name);
        if (err != 0) return err;
    }
    return 0;
}

static int read_unique(struct reading *s, const struct jr *node, int64_t position, struct span column, const struct ast_table *t)
{
    static const struct sql_member members[] = {
        {"contype", NULL},
        {"location", NULL},
        {"conname", NULL},
        {"keys", NULL},
        {"deferrable", "DEFERRABLE is"},
        {"initdeferred", "DEFERRABLE is"},
        {"including", "INCLUDE is"},
        {"nulls_not_distinct", "NULLS NOT DISTINCT is"},
        {"options", "WITH is"},
        {"indexname", "USING INDEX is"},
        {"indexspace", "USING INDEX TABLESPACE is"},
        SQL_MEMBERS_END,
    };
    int err = sql_members(s->r, node, members, position);
    if (err != 0) return err;
    struct ast_index *index = add_index(s);
    if (index == NULL) return sql_nomem(s->r);
    *index = (struct ast_index){.table = t->name, .unique = true, .position = position};
    err = sql_text(s->r, jr_str(jr_get(node, "conname")), &index->name);
    if (err != 0 || column.n == 0) return err != 0 ? err : read_keys(s->r, jr_get(node, "keys"), position, index);
    index->columns = arena_array(s->r->arena, 1, sizeof *index->columns);
    if (index->columns == NULL) return sql_nomem(s->r);
    index->columns[0] = (struct ast_index_column){.name = column, .position = position};
    index->column_count = 1;
    return 0;
}

static int refuse_constraint(const struct sql_reader *r, struct span type, int64_t position)
{
    static const struct sql_member refused[] = {
        {"CONSTR_IDENTITY", "IDENTITY is"}, {"CONSTR_GENERATED", "GENERATED is"}, {"CONSTR_EXCLUSION", "EXCLUDE is"}, SQL_MEMBERS_END,
    };
    for (const struct sql_member *m = refused; m->key != NULL; m++)
        if (span_is(type, m->key)) return sql_unsupported(r, position, m->refused);
    return sql_unsupported(r, position, "this constraint (DEFERRABLE or the like) is");
}

// Beside a column.
static int read_constraint(struct reading *s, const struct jr *node, bool *null, struct ast_column *out, struct ast_table *t)
{
    const struct sql_reader *r = s->r;
    struct span kind;
    const struct jr *c = sql_node(node, &kind);
    int64_t position = jr_int(jr_get(c, "location"), out->position);
    if (!span_is(kind, "Constraint")) return sql_refuse(r, node, position);
    struct span type = jr_str(jr_get(c, "contype"));
    if (span_is(type, "CONSTR_DEFAULT")) return read_default(r, c, position, out);
    if (span_is(type, "CONSTR_FOREIGN")) return read_reference(r, c, position, out);
    if (span_is(type, "CONSTR_CHECK")) return read_check(r, c, position, out->name, t);
    if (span_is(type, "CONSTR_UNIQUE")) return read_unique(s, c, position, out->name, t);
    if (span_is(type, "CONSTR_NOTNULL")) return set_once(r, c, position, &out->not_null, *null);
    if (span_is(type, "CONSTR_NULL")) return set_once(r, c, position, null, out->not_null);
    if (span_is(type, "CONSTR_PRIMARY")) return set_once(r, c, position, &out->primary_key, false);
    return refuse_constraint(r, type, position);
}

// The one column of a table that a constraint of the whole table names.
static int find_column(const struct sql_reader *r, const struct jr *names, int64_t position, const struct ast_table *t, struct ast_column **out)
{
    struct span name = sql_name_at(names, 0);
    if (jr_count(names) != 1) return sql_unsupported(r, position, "a key or a reference of several columns is");
    for (size_t i = 0; i < t->column_count; i++) {
        if (!span_equal(t->columns[i].name, name)) continue;
        *out = &t->columns[i];
        return 0;
    }
    return problem_set(r->p, ERR_BAD_SQL, position, "the table %.*s has no column %.*s", SPAN_FMT(t->name), SPAN_FMT(name));
}

// PRIMARY KEY (id): `id` need not be written as a column.
static int read_primary(const struct sql_reader *r, const struct jr *node, int64_t position)
{
    static const struct sql_member members[] = {
        {"contype", NULL}, {"location", NULL}, {"keys", NULL}, {"conname", "names of these constraints are"}, SQL_MEMBERS_END,
    };
    const struct jr *keys = jr_get(node, "keys");
    int err = sql_members(r, node, members, position);
    if (err != 0) return err;
    if (jr_count(keys) == 1 && span_is(sql_name_at(keys, 0), "id")) return 0;
    return problem_set(r->p, ERR_BAD_SCHEMA, position, "only id is the primary key");
}

// Of the whole table; its columns are read.
static int read_table_constraint(struct reading *s, const struct jr *c, struct ast_table *t)
{
    struct ast_column *column = NULL;
    int64_t position = jr_int(jr_get(c, "location"), t->position);
    struct span type = jr_str(jr_get(c, "contype"));
    if (span_is(type, "CONSTR_CHECK")) return read_check(s->r, c, position, SPAN_NONE, t);
    if (span_is(type, "CONSTR_UNIQUE")) return read_unique(s, c, position, SPAN_NONE, t);
    if (span_is(type, "CONSTR_PRIMARY")) return read_primary(s->r, c, position);
    if (!span_is(type, "CONSTR_FOREIGN")) return refuse_constraint(s->r, type, position);
    int err = find_column(s->r, jr_get(c, "fk_attrs"), position, t, &column);
    return err != 0 ? err : read_reference(s->r, c, position, column);
}

// ---- columns ---------------------------------------------------------------------------------------------------

// options (merge 'max'): PostgreSQL's own grammar for what a column is told.
static int read_options(const struct sql_reader *r, const struct jr *options, struct ast_column *out)
{
    static const struct sql_member members[] = {{"defname", NULL}, {"arg", NULL}, {"defaction", NULL}, {"location", NULL}, SQL_MEMBERS_END};
    for (size_t i = 0; i < jr_count(options); i++) {
        struct span kind;
        const struct jr *option = sql_node(jr_at(options, i), &kind);
        int64_t position = jr_int(jr_get(option, "location"), out->position);
        int err = sql_members(r, option, members, position);
        if (err != 0) return err;
        if (!sql_is(option, "defname", "merge"))
            return problem_set(r->p, ERR_UNSUPPORTED_SQL, position, "the option %.*s is not supported (merge is)",
                               SPAN_FMT(jr_str(jr_get(option, "defname"))));
        if (out->merge.n > 0) return sql_bad(r, position, "a column has the option merge twice");
        err = sql_text(r, jr_str(jr_get(jr_get(jr_get(option, "arg"), "String"), "sval")), &out->merge);
        if (err != 0) return err;
        if (out->merge.n == 0) return sql_bad(r, position, "the option merge says nothing");
        out->merge_position = position;
    }
    return 0;
}

static int read_column(struct reading *s, const struct jr *node, struct ast_column *out, struct ast_table *t)
{
    static const struct sql_member members[] = {
        {"colname", NULL},
        {"typeName", NULL},
        {"is_local", NULL},
        {"constraints", NULL},
        {"location", NULL},
        {"collClause", "COLLATE is"},
        {"compression", "COMPRESSION is"},
        {"fdwoptions", NULL},
        SQL_MEMBERS_END,
    };
    const struct sql_reader *r = s->r;
    bool null = false;
    const struct jr *constraints = jr_get(node, "constraints");
    out->position = jr_int(jr_get(node, "location"), 0);
    int err = sql_members(r, node, members, out->position);
    if (err == 0) err = sql_text(r, jr_str(jr_get(node, "colname")), &out->name);
    if (err == 0) err = sql_type(r, jr_get(node, "typeName"), out->position, &out->type);
    if (err == 0) err = read_options(r, jr_get(node, "fdwoptions"), out);
    for (size_t i = 0; i < jr_count(constraints) && err == 0; i++)
        err = read_constraint(s, jr_at(constraints, i), &null, out, t);
    return err;
}

// ---- tables ----------------------------------------------------------------------------------------------------

static int too_many_columns(const struct sql_reader *r, const struct ast_table *t)
{
    return problem_set(r->p, ERR_BAD_SCHEMA, t->position, "the table %.*s has more than %d columns", SPAN_FMT(t->name), COLUMNS_MAX);
}

// First the columns, then what is said of the table as a whole.
static int read_elements(struct reading *s, const struct jr *elements, struct ast_table *out)
{
    size_t count = jr_count(elements);
    out->columns = arena_array(s->r->arena, count < COLUMNS_MAX ? count : COLUMNS_MAX, sizeof *out->columns);
    if (out->columns == NULL) return sql_nomem(s->r);
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < count; i++) {
            struct span kind;
            const struct jr *element = sql_node(jr_at(elements, i), &kind);
            bool column = span_is(kind, "ColumnDef");
            int err = 0;
            if (!column && !span_is(kind, "Constraint")) return sql_refuse(s->r, jr_at(elements, i), out->position);
            if (pass == 0 && column && out->column_count == COLUMNS_MAX) return too_many_columns(s->r, out);
            if (pass == 0 && column) err = read_column(s, element, &out->columns[out->column_count++], out);
            if (pass == 1 && !column) err = read_table_constraint(s, element, out);
            if (err != 0) return err;
        }
    return 0;
}

static int read_table(struct reading *s, const struct jr *node, int64_t position, struct ast_table *out)
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
    const struct sql_reader *r = s->r;
    position = sql_position(jr_get(node, "relation"), position);
    int err = sql_members(r, node, members, position);
    if (err != 0) return err;
    if (!sql_is(node, "oncommit", "ONCOMMIT_NOOP")) return sql_unsupported(r, position, "ON COMMIT is");
    err = sql_table_name(r, jr_get(node, "relation"), &out->name, &out->position);
    return err != 0 ? err : read_elements(s, jr_get(node, "tableElts"), out);
}

// ---- enums -----------------------------------------------------------------------------------------------------

static int read_enum(const struct sql_reader *r, const struct jr *node, int64_t position, struct ast_enum *out)
{
    static const struct sql_member members[] = {{"typeName", NULL}, {"vals", NULL}, SQL_MEMBERS_END};
    const struct jr *names = jr_get(node, "typeName"), *labels = jr_get(node, "vals");
    out->position = position;
    int err = sql_members(r, node, members, position);
    if (err != 0) return err;
    if (jr_count(names) != 1) return sql_unsupported(r, position, "names of schemas in front of a type are");
    if (jr_count(labels) > ENUM_LABELS_MAX) return problem_set(r->p, ERR_BAD_SCHEMA, position, "more than %d labels", ENUM_LABELS_MAX);
    out->labels = arena_array(r->arena, jr_count(labels), sizeof *out->labels);
    if (out->labels == NULL) return sql_nomem(r);
    out->label_count = jr_count(labels);
    err = sql_text(r, sql_name_at(names, 0), &out->name);
    if (err == 0 && sql_type_taken(out->name))
        return problem_set(r->p, ERR_BAD_SCHEMA, position, "%.*s is the name of a type that is always there", SPAN_FMT(out->name));
    for (size_t i = 0; i < out->label_count && err == 0; i++)
        err = sql_text(r, sql_name_at(labels, i), &out->labels[i]);
    return err;
}

// ---- indexes ---------------------------------------------------------------------------------------------------

static int read_index_column(const struct sql_reader *r, const struct jr *node, int64_t position, struct ast_index_column *out)
{
    static const struct sql_member members[] = {
        {"name", NULL},
        {"ordering", NULL},
        {"nulls_ordering", NULL},
        {"expr", "an index of expressions is"},
        {"collation", "COLLATE is"},
        {"opclass", "operator classes are"},
        {"opclassopts", "operator classes are"},
        SQL_MEMBERS_END,
    };
    int err = sql_members(r, node, members, position);
    if (err != 0) return err;
    bool desc = sql_is(node, "ordering", "SORTBY_DESC"), plain = sql_is(node, "nulls_ordering", "SORTBY_NULLS_DEFAULT");
    // An index is read from either end, so that nulls stand where each end has them by PostgreSQL's default.
    if (!plain && !sql_is(node, "nulls_ordering", desc ? "SORTBY_NULLS_FIRST" : "SORTBY_NULLS_LAST"))
        return sql_unsupported(r, position, desc ? "NULLS LAST behind DESC in an index is" : "NULLS FIRST without DESC in an index is");
    out->desc = desc;
    out->position = position;
    return sql_text(r, jr_str(jr_get(node, "name")), &out->name);
}

static int read_index(struct reading *s, const struct jr *node, int64_t position)
{
    static const struct sql_member members[] = {
        {"idxname", NULL},
        {"relation", NULL},
        {"accessMethod", NULL},
        {"indexParams", NULL},
        {"whereClause", NULL},
        {"unique", NULL},
        {"indexIncludingParams", "INCLUDE is"},
        {"nulls_not_distinct", "NULLS NOT DISTINCT is"},
        {"concurrent", "CONCURRENTLY is"},
        {"options", "WITH is"},
        {"tableSpace", "TABLESPACE is"},
        {"if_not_exists", "IF NOT EXISTS (a schema is the whole of what there is) is"},
        SQL_MEMBERS_END,
    };
    const struct sql_reader *r = s->r;
    const struct jr *columns = jr_get(node, "indexParams"), *where = jr_get(node, "whereClause");
    struct ast_index *out = add_index(s);
    struct ast_expr *expr = NULL;
    if (out == NULL) return sql_nomem(r);
    position = sql_position(jr_get(node, "relation"), position);
    int err = sql_members(r, node, members, position);
    if (err != 0) return err;
    if (!sql_is(node, "accessMethod", "btree")) return sql_unsupported(r, position, "USING is");
    *out = (struct ast_index){.unique = jr_bool(jr_get(node, "unique"), false), .column_count = jr_count(columns)};
    out->columns = arena_array(r->arena, out->column_count, sizeof *out->columns);
    if (out->columns == NULL) return sql_nomem(r);
    err = sql_table_name(r, jr_get(node, "relation"), &out->table, &out->position);
    if (err == 0) err = sql_text(r, jr_str(jr_get(node, "idxname")), &out->name);
    for (size_t i = 0; i < out->column_count && err == 0; i++) {
        struct span kind;
        err = read_index_column(r, sql_node(jr_at(columns, i), &kind), out->position, &out->columns[i]);
    }
    if (err == 0 && where != NULL) err = sql_expr(r, where, &expr);
    out->where = expr;
    return err;
}

// ---- the schema ------------------------------------------------------------------------------------------------

// A statement's place as the parser has it begins right behind the one before: the white space between is not meant.
static int64_t statement_position(const struct sql_reader *r, const struct jr *statement)
{
    int64_t at = jr_int(jr_get(statement, "stmt_location"), 0);
    while (at >= 0 && (size_t)at < r->text.n && r->text.p[at] != 0 && strchr(" \t\r\n\f\v", r->text.p[at]) != NULL)
        at++;
    return at;
}

static bool is_declared(const struct ast_schema *schema, struct span type)
{
    for (size_t i = 0; i < schema->enum_count; i++)
        if (span_equal(schema->enums[i].name, type)) return true;
    return false;
}

// Types are known by the whole text, wherever they are declared in it.
static int check_types(const struct sql_reader *r, const struct ast_schema *schema)
{
    for (size_t i = 0; i < schema->table_count; i++)
        for (size_t k = 0; k < schema->tables[i].column_count; k++) {
            const struct ast_column *c = &schema->tables[i].columns[k];
            if (c->type.kind == COL_ENUM && !is_declared(schema, c->type.name)) return sql_no_type(r, &c->type);
            if (c->has_default && c->def.cast.kind == COL_ENUM && !is_declared(schema, c->def.cast.name)) return sql_no_type(r, &c->def.cast);
        }
    return 0;
}

static int read_statement(struct reading *s, const struct jr *statement, int64_t position)
{
    struct ast_schema *schema = s->schema;
    struct span kind;
    const struct jr *node = sql_node(statement, &kind);
    if (span_is(kind, "CreateEnumStmt")) return read_enum(s->r, node, position, &schema->enums[schema->enum_count++]);
    if (span_is(kind, "IndexStmt")) return read_index(s, node, position);
    if (!span_is(kind, "CreateStmt")) return sql_refuse(s->r, statement, position);
    if (schema->table_count == TABLES_MAX) return problem_set(s->r->p, ERR_BAD_SCHEMA, -1, "the schema has more than %d tables", TABLES_MAX);
    return read_table(s, node, position, &schema->tables[schema->table_count++]);
}

int sql_read_schema(const struct sql_reader *r, const struct jr *statements, struct ast_schema *out)
{
    struct reading s = {.r = r, .schema = out};
    size_t count = jr_count(statements);
    out->tables = arena_array(r->arena, count < TABLES_MAX ? count : TABLES_MAX, sizeof *out->tables);
    out->enums = arena_array(r->arena, count, sizeof *out->enums);
    if (out->tables == NULL || out->enums == NULL) return sql_nomem(r);
    for (size_t i = 0; i < count; i++) {
        const struct jr *statement = jr_at(statements, i);
        int err = read_statement(&s, jr_get(statement, "stmt"), statement_position(r, statement));
        if (err != 0) return err;
    }
    return check_types(r, out);
}
