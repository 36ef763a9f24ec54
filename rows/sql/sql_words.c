#include "sql_words.h"

#include <stdlib.h>

// PostgreSQL's words that are not free: some are no names, some are none where a type or an expression stands.
static const char *const keywords[] = {
    "all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric", "authorization", "between", "bigint", "binary",
    "bit", "boolean", "both", "case", "cast", "char", "character", "check", "coalesce", "collate", "collation", "column",
    "concurrently", "constraint", "create", "cross", "current_catalog", "current_date", "current_role", "current_schema",
    "current_time", "current_timestamp", "current_user", "dec", "decimal", "default", "deferrable", "desc", "distinct", "do", "else",
    "end", "except", "exists", "extract", "false", "fetch", "float", "for", "foreign", "freeze", "from", "full", "grant", "greatest",
    "group", "grouping", "having", "ilike", "in", "initially", "inner", "inout", "int", "integer", "intersect", "interval", "into",
    "is", "isnull", "join", "lateral", "leading", "least", "left", "like", "limit", "localtime", "localtimestamp", "national",
    "natural", "nchar", "none", "normalize", "not", "notnull", "null", "nullif", "numeric", "offset", "on", "only", "or", "order",
    "out", "outer", "overlaps", "overlay", "placing", "position", "precision", "primary", "real", "references", "returning", "right",
    "row", "select", "session_user", "setof", "similar", "smallint", "some", "substring", "symmetric", "system_user", "table",
    "tablesample", "then", "time", "timestamp", "to", "trailing", "treat", "trim", "true", "union", "unique", "user", "using", "values",
    "varchar", "variadic", "verbose", "when", "where", "window", "with", "xmlattributes", "xmlconcat", "xmlelement", "xmlexists",
    "xmlforest", "xmlnamespaces", "xmlparse", "xmlpi", "xmlroot", "xmlserialize", "xmltable",
};

static int compare_word(const void *key, const void *word)
{
    return span_compare(*(const struct span *)key, SPAN_STR(*(const char *const *)word));
}

static bool needs_quotes(struct span name)
{
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] >= 'A' && name.p[i] <= 'Z') return true;
    return bsearch(&name, keywords, sizeof keywords / sizeof *keywords, sizeof *keywords, compare_word) != NULL;
}

static void put_quoted(struct buf *out, struct span s, uint8_t quote)
{
    buf_put_u8(out, quote);
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == quote) buf_put_u8(out, quote);
        buf_put_u8(out, s.p[i]);
    }
    buf_put_u8(out, quote);
}

void sql_put_name(struct buf *out, struct span name)
{
    if (needs_quotes(name)) {
        put_quoted(out, name, '"');
    } else {
        buf_put_span(out, name);
    }
}

void sql_put_text(struct buf *out, struct span s)
{
    put_quoted(out, s, '\'');
}

void sql_put_type(struct buf *out, const struct type *type)
{
    if (type->labels) {
        sql_put_name(out, type->labels->name);
    } else {
        buf_put_str(out, col_type_name(type->kind));
    }
    if (type->array) buf_put_str(out, "[]");
}
