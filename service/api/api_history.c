// What has been: GET /apps/<app>/history/<table>/<id>?at=&limit= and GET /apps/<app>/diff?from=&to=&table=
#include "api.h"
#include "err.h"

#define LIMIT 100 // versions where none is said

// A number from 0. 1: found, 0: absent, or ERR_BAD_PARAMETER.
static int get_number(struct request *r, const char *name, uint64_t *out, struct problem *p)
{
    struct buf scratch;
    struct span text;
    uint64_t v = 0;
    buf_init(&scratch, HTTP_TARGET_MAX);
    int found = request_param(r, name, &scratch, &text);
    bool bad = found < 0 || (found == 1 && (text.n == 0 || text.n > 18));
    for (size_t i = 0; found == 1 && !bad && i < text.n; i++) {
        bad = text.p[i] < '0' || text.p[i] > '9';
        v = 10 * v + (text.p[i] - '0');
    }
    buf_free(&scratch);
    if (bad) return problem_set(p, ERR_BAD_PARAMETER, -1, "\"%s\" is not a number", name);
    if (found == 1) *out = v;
    return found;
}

// A seq that was given out.
static int get_seq(struct request *r, const char *name, uint64_t *out, struct problem *p)
{
    uint64_t visible = app_visible(r->app);
    int found = get_number(r, name, out, p);
    if (found == 1 && *out > visible) return problem_set(p, ERR_SEQ_AHEAD, -1, "the last commit is %llu", (unsigned long long)visible);
    return found;
}

static void answer(struct request *r, struct buf *b, int err, struct problem *p)
{
    if (err == 0) err = b->err;
    if (err == ERR_TOO_LARGE) err = ERR_RESULT_TOO_LARGE;
    if (err == 0) {
        reply_json(r, 200, b);
        return;
    }
    problem_set(p, err, -1, "%s", err_text(err));
    reply_problem(r, p);
}

// <table>/<id>, as the path ends.
static int get_row(struct request *r, struct span *table, struct uuid *id, struct problem *p)
{
    const uint8_t *slash = memchr(r->path.p, '/', r->path.n);
    if (slash == NULL) return problem_set(p, ERR_NOT_FOUND, -1, "the path ends in a table's name and a row's id");
    *table = span_sub(r->path, 0, (size_t)(slash - r->path.p));
    if (uuid_parse(id, span_sub(r->path, table->n + 1, r->path.n)) != 0) return problem_set(p, ERR_NOT_FOUND, -1, "the path does not end in a row's id");
    return 0;
}

static void history_begin(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    struct db_txn *txn = app_txn(r->app);
    struct span table;
    struct uuid id;
    struct buf b;
    uint64_t at = app_visible(r->app), limit = LIMIT;
    buf_init(&b, QUERY_RESULT_MAX);
    int err = txn == NULL ? ERR_BUSY : get_row(r, &table, &id, &p);
    if (err == 0 && get_seq(r, "at", &at, &p) < 0) err = p.err;
    if (err == 0 && get_number(r, "limit", &limit, &p) < 0) err = p.err;
    if (err == 0 && (limit < 1 || limit > HISTORY_VERSIONS_MAX))
        err = problem_set(&p, ERR_BAD_PARAMETER, -1, "\"limit\" is a number from 1 to %d", HISTORY_VERSIONS_MAX);
    if (err == 0) err = rows_history(app_rows(r->app), txn, table, id, at, limit, &b, &p);
    answer(r, &b, err, &p);
    buf_free(&b);
}

static void diff_begin(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    struct db_txn *txn = app_txn(r->app);
    struct span table = SPAN_NONE;
    struct buf b, name;
    uint64_t from = 0, to = app_visible(r->app);
    buf_init(&b, QUERY_RESULT_MAX);
    buf_init(&name, HTTP_TARGET_MAX);
    int err = txn == NULL ? ERR_BUSY : 0;
    int found = err == 0 ? get_seq(r, "from", &from, &p) : 1;
    if (found == 0) problem_set(&p, ERR_BAD_PARAMETER, -1, "\"from\" is missing");
    if (err == 0 && get_seq(r, "to", &to, &p) >= 0 && from > to) problem_set(&p, ERR_BAD_PARAMETER, -1, "\"from\" is after \"to\"");
    if (err == 0 && request_param(r, "table", &name, &table) < 0) problem_set(&p, ERR_BAD_PARAMETER, -1, "\"table\" is broken");
    if (err == 0) err = p.err;
    if (err == 0) err = rows_diff(app_rows(r->app), txn, table, from, to, &b, &p);
    answer(r, &b, err, &p);
    buf_free(&name);
    buf_free(&b);
}

const struct handler api_history_get = {.begin = history_begin};
const struct handler api_diff_get = {.begin = diff_begin};
