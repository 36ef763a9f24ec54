// What the tests of the SQL front share.
#ifndef SEGUE_SQL_HELP_H
#define SEGUE_SQL_HELP_H

#include "buf.h"
#include "err.h"
#include "limits.h"
#include "sql.h"

static inline struct ast_select *select_of(const char *sql)
{
    struct problem p = PROBLEM_NONE;
    struct ast_select *s = NULL;
    int err = sql_parse_select(SPAN_STR(sql), &s, &p);
    if (err != 0) fail_msg("%s: %s at %lld", sql, problem_text(&p), (long long)p.position);
    return s;
}

static inline void expect_problem(const struct problem *p, const char *sql, int err, int64_t position, const char *part)
{
    if (p->err != err || p->position != position || strstr(problem_text(p), part) == NULL)
        fail_msg("%s\n  gave %s at %lld: %s\n  expected %s at %lld: %s", sql, err_wire(p->err), (long long)p->position, problem_text(p),
                 err_wire(err), (long long)position, part);
}

// `part` is in the problem's text; the position is where `at` begins in the text (NULL: none).
static inline void select_refused(const char *sql, int err, const char *at, const char *part)
{
    struct problem p = PROBLEM_NONE;
    struct ast_select *s = NULL;
    assert_int_equal(sql_parse_select(SPAN_STR(sql), &s, &p), err);
    assert_null(s);
    expect_problem(&p, sql, err, at == NULL ? -1 : strstr(sql, at) - sql, part);
}

static inline void assert_span(struct span s, const char *text)
{
    if (!span_is(s, text)) fail_msg("\"%.*s\" is not \"%s\"", SPAN_FMT(s), text);
}

static inline void put_const(struct buf *b, const struct ast_const *c)
{
    switch (c->kind) {
    case AST_NULL: buf_put_str(b, "null"); break;
    case AST_BOOL: buf_put_str(b, c->b ? "true" : "false"); break;
    case AST_INT: buf_printf(b, "%lld", (long long)c->i); break;
    case AST_REAL: buf_printf(b, "%.17gr", c->d); break;
    case AST_TEXT: buf_printf(b, "'%.*s'", SPAN_FMT(c->text)); break;
    case AST_PARAM: buf_printf(b, "$%d", c->param); break;
    case AST_NOW: buf_put_str(b, "now"); break;
    case AST_UUID: buf_put_str(b, "uuid"); break;
    }
}

#endif
