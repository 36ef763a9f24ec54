// Reading the parser's tree: what the schema's and the query's readers share. Private to the SQL front.
//
// The rule of all readers: a node's every member is either read or refused (sql_members), and a member that is not known
// here is refused too, so that a newer parser cannot slip anything past them. Functions that give an int have recorded a problem when it is not 0.
#ifndef SEGUE_ROWS_SQL_TREE_H
#define SEGUE_ROWS_SQL_TREE_H

#include "arena.h"
#include "ast.h"
#include "err.h"
#include "json_read.h"
#include "limits.h"
#include "problem.h"

struct sql_reader {
    struct span text;
    struct arena *arena; // what the ast points to
    struct problem *p;
};

// A member of a node. `refused`: NULL where the caller reads it, else the beginning of "… not supported yet" ("DISTINCT is").
struct sql_member {
    const char *key;
    const char *refused;
};
#define SQL_MEMBERS_END                                                                                                                    \
    {                                                                                                                                      \
        NULL, NULL                                                                                                                         \
    }

// ERR_UNSUPPORTED_SQL for the first member that is refused or not listed. `position` stands where the member has none of its own.
int sql_members(const struct sql_reader *r, const struct jr *node, const struct sql_member *members, int64_t position);

// A node is {"Kind": {members}}: the members, and the kind's name.
const struct jr *sql_node(const struct jr *node, struct span *kind);

// The first position within a node, or `otherwise`.
int64_t sql_position(const struct jr *node, int64_t otherwise);

// ERR_UNSUPPORTED_SQL: this kind of node, in the words of SQL.
int sql_refuse(const struct sql_reader *r, const struct jr *node, int64_t position);

// "<subject> not supported yet"; ERR_BAD_SQL with a sentence; ERR_NOMEM.
int sql_unsupported(const struct sql_reader *r, int64_t position, const char *subject);
int sql_bad(const struct sql_reader *r, int64_t position, const char *sentence);
int sql_nomem(const struct sql_reader *r);

// A member that must have this very value where the syntax has others.
bool sql_is(const struct jr *node, const char *key, const char *value);

// A copy of a string in the arena.
int sql_text(const struct sql_reader *r, struct span s, struct span *out);

// The name at place `i` of a list of names; empty where it is something else.
struct span sql_name_at(const struct jr *names, size_t i);

// A table's name alone: no schema, no alias, not ONLY, not temporary. `node` is a RangeVar's members.
int sql_table_name(const struct sql_reader *r, const struct jr *node, struct span *name, int64_t *position);
// The same, but that an alias may stand with it, which is the caller's to read.
int sql_aliased_table(const struct sql_reader *r, const struct jr *node, struct span *name, int64_t *position);

// A type's name, an enum's too: whether there is such an enum only a schema knows. `node` is a TypeName's members.
int sql_type(const struct sql_reader *r, const struct jr *node, int64_t position, struct ast_type *out);

// Is it the name of a type that is always there?
bool sql_type_taken(struct span name);
// ERR_UNSUPPORTED_SQL: no type has this name.
int sql_no_type(const struct sql_reader *r, const struct ast_type *type);

// A constant; in a default also now() and gen_random_uuid(), elsewhere also $n.
int sql_constant(const struct sql_reader *r, const struct jr *node, bool in_default, struct ast_const *out);

// What becomes of a statement's tree; `statements` is the parser's list.
int sql_read_schema(const struct sql_reader *r, const struct jr *statements, struct ast_schema *out);
int sql_read_select(const struct sql_reader *r, const struct jr *statements, struct ast_select *out);

#endif
