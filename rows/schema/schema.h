// A schema version in memory: immutable, refcounted, its tables and columns numbered for good.
//
// Schemas only grow: a table keeps its number (from 1) and a column its place, so stored rows are read by the current
// schema whatever version they were written in. `id` is no column of that list: it is part of a row's name.
#ifndef SEGUE_ROWS_SCHEMA_H
#define SEGUE_ROWS_SCHEMA_H

#include "value.h"

#define COLUMN_ID (-1)   // where a column number may mean `id`
#define COLUMN_NONE (-2) // no such column

enum default_kind { DEFAULT_NONE, DEFAULT_CONST, DEFAULT_NOW, DEFAULT_UUID };

// How concurrent writes to a cell become one value. a counter's is
// MERGE_COUNTER, a set's MERGE_SET.
enum merge_kind { MERGE_LWW, MERGE_COUNTER, MERGE_MAX, MERGE_MIN, MERGE_SET };

// What becomes of a row whose referred-to row is deleted.
enum ref_action { REF_RESTRICT, REF_CASCADE, REF_SET_NULL };

struct column {
    struct span name;
    struct type type;
    enum merge_kind merge;
    uint32_t born;       // the schema version that brought it; ascending
    bool not_null;       // always of a counter
    uint32_t references; // a table's number; 0: none
    enum ref_action on_delete;
    enum default_kind has_default;
    struct value def;  // of DEFAULT_CONST
    struct value fill; // what rows read that were written before the column was: the default as of its publication, or null
};

struct expr;

struct index_column {
    int column; // or COLUMN_ID
    bool desc;  // then nulls come first, else last
};

// An index, or a unique constraint: they are one thing.
struct index {
    uint32_t no; // of this table, from 1, never used again
    struct span name;
    bool unique;
    struct index_column *columns;
    size_t column_count;
    struct expr *where; // NULL: of all rows
};

struct check {
    struct span name; // of this table's
    struct expr *expr; // false for a row: refused
};

struct table {
    uint32_t no;
    struct span name;
    struct column *columns; // in the order in which they came to be
    size_t column_count;
    uint16_t *by_name; // the same, sorted by name
    struct index *indexes; // ascending by number
    size_t index_count;
    uint16_t *indexes_by_name;
    uint32_t index_last; // the highest number ever given
    struct check *checks; // by name
    size_t check_count;
};

struct schema {
    uint32_t refs;
    uint32_t version;     // 1 is the first published; 0: the empty one before it
    struct table *tables; // table `no` is tables[no - 1]
    size_t table_count;
    uint16_t *by_name;
    struct labels *enums; // in the order in which they came to be; columns point to them
    size_t enum_count;
    struct schema *successor; // schema_succeed
    struct sha256 hash; // of the canonical text
    struct arena *arena;
};

struct schema *schema_empty(void); // what stands before the first publication: no tables, the hash all zero. NULL: no memory
struct schema *schema_ref(struct schema *s);
void schema_unref(struct schema *s); // NULL is fine

const struct table *schema_table(const struct schema *s, struct span name); // NULL: none
const struct table *schema_table_no(const struct schema *s, uint64_t no);   // NULL: none
// A column's place, COLUMN_ID, or COLUMN_NONE.
int table_column(const struct table *t, struct span name);
// The name of a column by its place, COLUMN_ID too.
struct span table_column_name(const struct table *t, int column);
const struct index *table_index_no(const struct table *t, uint32_t no); // NULL: none, or dropped

// The same index: a schema that has both gives both one number.
bool index_same(const struct index *a, const struct index *b);

// Checks what was parsed and numbers it: what `before` has keeps its number. ERR_BAD_SCHEMA, ERR_SCHEMA_NOT_ADDITIVE, ERR_WRONG_TYPE, ERR_BAD_VALUE.
// `arrival_ms` is what now() means to the rows that a new column finds. The version is the one after `before`.
int schema_build(struct schema **out, const struct ast_schema *ast, const struct schema *before, uint64_t arrival_ms, struct problem *p);

// Gives a schema that was just built an earlier version: of two publications in one batch the second counts as the first.
void schema_renumber(struct schema *s, uint32_t version);

// Is `after` what `before` could grow to? Numbers and meanings kept, and what is new lets old rows be.
bool schema_extends(const struct schema *after, const struct schema *before);

// `after` extends `before`, and from now on rows are written by it. Who goes on by `before` finds in its enums what they are now; `after` stays for as long as that is there.
void schema_succeed(struct schema *before, struct schema *after);

// The canonical text: tables and columns by name, so that their order in the source makes no other schema.
void schema_sql(const struct schema *s, struct buf *out);
void schema_json(const struct schema *s, struct buf *out);

// The stored form; decoding is strict: ERR_CORRUPT.
void schema_encode(const struct schema *s, struct buf *out);
int schema_decode(struct schema **out, struct span bytes);

const char *merge_name(enum merge_kind merge); // as in options (merge '…')

// For the files of this module: sorts tables and columns by name, so that they are found. ERR_NOMEM, ERR_EXISTS: a name twice.
int schema_sort(struct schema *s);
int schema_sort_columns(struct schema *s, struct table *t); // of one table
// Then, when all is there: sorts the indexes and computes the hash. ERR_NOMEM, ERR_TOO_LARGE, ERR_EXISTS.
int schema_finish(struct schema *s);

#endif
