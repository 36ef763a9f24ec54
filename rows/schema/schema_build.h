// From a parsed schema.sql to a numbered schema: what the files that do it share.
#ifndef SEGUE_ROWS_SCHEMA_BUILD_H
#define SEGUE_ROWS_SCHEMA_BUILD_H

#include "schema.h"

struct build {
    struct schema *s;
    const struct schema *before;
    const struct ast_schema *ast;
    uint64_t arrival_ms;
    struct problem *p;
};

// ERR_BAD_SCHEMA where the name is none that a thing may have.
int build_name(struct build *b, struct span name, int64_t position);

const struct ast_table *build_ast_table(const struct build *b, struct span name);

// Before the columns: what `before` has keeps its place, and its labels are a beginning of what is declared now.
int build_enums(struct build *b);
// When all tables have numbers.
int build_references(struct build *b);
// When columns can be found by their names.
int build_indexes(struct build *b);
int build_checks(struct build *b);

#endif
