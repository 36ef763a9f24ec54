// segue tx: a transaction, one step a line: {"query":SQL,"params":[…]} is answered at once, {"row":[table,id]} counts as read, and an operation
// ({"op":"insert",…}) is kept. The end of the input commits.
#include <stdlib.h>

#include "cli.h"
#include "err.h"
#include "json_read.h"
#include "limits.h"
#include "table.h"

struct conversation {
    struct cli *c;
    struct segue_tx *tx;
    size_t line; // from 1
};

static int bad_line(const struct conversation *v, const char *what)
{
    return cli_fail(CLI_USAGE, ERR_USAGE, "line %zu: %s", v->line, what);
}

// ---- steps ---------------------------------------------------------------------------------------------------------

// A parameter is read as what it is compared with, so all of them go as text.
static int take_params(const struct conversation *v, const struct jr *list, struct buf *texts, const char *params[QUERY_PARAMS_MAX])
{
    size_t n = jr_count(list), at[QUERY_PARAMS_MAX];
    if ((list != NULL && jr_type(list) != JR_ARRAY) || n > QUERY_PARAMS_MAX) return bad_line(v, "\"params\" is no array, or too long");
    for (size_t i = 0; i < n; i++) {
        const struct jr *p = jr_at(list, i);
        at[i] = texts->n;
        if (jr_type(p) == JR_STRING) buf_put_span(texts, jr_str(p));
        else if (jr_canonical(p, texts) != 0) return bad_line(v, "a parameter is too large");
        buf_put_u8(texts, 0);
    }
    if (texts->err != 0) return bad_line(v, "the parameters are too large");
    for (size_t i = 0; i < n; i++)
        params[i] = (const char *)texts->p + at[i];
    return CLI_DONE;
}

static int query(const struct conversation *v, const struct jr *step)
{
    const char *params[QUERY_PARAMS_MAX];
    struct buf texts, sql;
    buf_init(&texts, BATCH_BYTES_MAX);
    buf_init(&sql, SQL_QUERY_MAX + 1);
    buf_put_span(&sql, jr_str(jr_get(step, "query")));
    buf_put_u8(&sql, 0);
    int status = sql.err != 0 ? bad_line(v, "the query is too long") : take_params(v, jr_get(step, "params"), &texts, params);
    if (status == CLI_DONE)
        status = cli_ended(v->c, segue_tx_query(v->tx, (const char *)sql.p, params, jr_count(jr_get(step, "params"))), span_sub(buf_span(&sql), 0, sql.n - 1));
    if (status == CLI_DONE) status = cli_print_list(v->c, "rows", table_put);
    buf_free(&texts);
    buf_free(&sql);
    return status;
}

static int row(const struct conversation *v, const struct jr *name)
{
    char table[NAME_MAX_BYTES + 1] = "", id[64] = "";
    struct span t = jr_str(jr_at(name, 0)), i = jr_str(jr_at(name, 1));
    if (jr_type(name) != JR_ARRAY || jr_count(name) != 2 || t.n == 0 || t.n >= sizeof table || i.n == 0 || i.n >= sizeof id) return bad_line(v, "\"row\" is [table, id]");
    memcpy(table, t.p, t.n);
    memcpy(id, i.p, i.n);
    return cli_ended(v->c, segue_tx_row(v->tx, table, id), SPAN_NONE);
}

static int step(const struct conversation *v, struct span line)
{
    struct jr_tree *tree = NULL;
    struct problem p = PROBLEM_NONE;
    if (jr_parse(&tree, line, &p) != 0) return bad_line(v, problem_text(&p));
    const struct jr *s = jr_root(tree);
    int status;
    if (jr_get(s, "query") != NULL) status = query(v, s);
    else if (jr_get(s, "row") != NULL) status = row(v, jr_get(s, "row"));
    else if (jr_get(s, "op") != NULL) status = cli_ended(v->c, segue_tx_write(v->tx, (const char *)line.p, line.n), SPAN_NONE);
    else status = bad_line(v, "there is no \"query\", \"row\" or \"op\" in it");
    jr_free(tree);
    return status;
}

// ---- all of them ---------------------------------------------------------------------------------------------------

static int read_steps(struct conversation *v, FILE *in)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    int status = CLI_DONE;
    while (status == CLI_DONE && (n = getline(&line, &cap, in)) >= 0) {
        v->line++;
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r' || line[n - 1] == ' '))
            n--;
        if (n > (ssize_t)BATCH_BYTES_MAX) status = bad_line(v, "it is too long");
        else if (n > 0) status = step(v, SPAN(line, (size_t)n));
    }
    free(line);
    return status;
}

// Who lost the race is told by which rows.
static void tell_conflicts(const struct cli *c)
{
    struct jr_tree *tree = NULL;
    if (jr_parse(&tree, cli_answer(c), NULL) != 0) return;
    const struct jr *list = jr_get(jr_root(tree), "conflicts");
    for (size_t i = 0; i < jr_count(list); i++) {
        const struct jr *r = jr_at(list, i);
        fprintf(stderr, "  %.*s %.*s, changed by commit %lld\n", SPAN_FMT(jr_str(jr_get(r, "table"))), SPAN_FMT(jr_str(jr_get(r, "id"))), (long long)jr_int(jr_get(r, "seq"), 0));
    }
    jr_free(tree);
}

int cmd_tx(struct cli *c)
{
    struct conversation v = {.c = c};
    const char *path = c->options->args[0];
    FILE *in = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    if (in == NULL) return cli_fail(CLI_USAGE, ERR_NOT_FOUND, "%s: cannot be read", path);
    int status = cli_ended(c, segue_tx_begin(c->segue, &v.tx), SPAN_NONE);
    if (status == CLI_DONE) status = read_steps(&v, in);
    if (status == CLI_DONE) {
        int result = segue_tx_commit(v.tx);
        status = cli_ended(c, result, SPAN_NONE);
        if (result == SEGUE_REFUSED) tell_conflicts(c);
        if (status == CLI_DONE && !cli_print_fate(c)) status = CLI_REFUSED;
    }
    segue_tx_free(v.tx);
    if (in != stdin) fclose(in);
    return status;
}
