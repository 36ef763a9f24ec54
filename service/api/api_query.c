// GET and POST /apps/<app>/query: a select, answered as of one commit, in pieces as the socket takes them.
//
//   GET  ?sql=…&p1=…&p2=…&as_of=<seq>&reads=1   parameters are texts, read as the type that they are compared with
//   POST {"sql":"…","params":[…],"as_of":n,"reads":true,"ops":[…]}    with operations that nobody has sent yet laid over it
//
// The status is told with the first rows, so what goes wrong before is a problem of its own. A long search takes turns with all else.
#include <stdio.h>
#include <stdlib.h>

#include "api.h"
#include "batch_reads.h"
#include "err.h"
#include "file.h"
#include "json_read.h"
#include "json_write.h"
#include "log.h"
#include "preview.h"

struct result_stream {
    struct app_user user; // first
    struct request *r;
    struct query *query;
    struct query_run *run;
    struct read_set *reads; // what it looks at, to be told at its end; NULL: nobody asked
    struct rows_preview *preview; // what lies over the state; NULL: nothing
    uint64_t at;
    bool explain;                 // the rows are counted, and how it went is told
    bool begun;                   // the reply has
    bool any;                     // a row was sent
    bool done;                    // the last row was
    bool ended;                   // its reply was all one piece
};

#define TURN_US 20000 // of work in one turn of the loop

// What is asked, gathered from either form.
struct question {
    struct span sql;
    struct row_value params[QUERY_PARAMS_MAX];
    size_t param_count;
    uint64_t at;
    bool reads, explain, at_said;
    struct span branch; // empty: none
    struct buf ops; // encoded
};

static void let_go(struct result_stream *q)
{
    query_close(q->run);
    query_unref(q->query);
    q->run = NULL;
    q->query = NULL;
    read_set_free(q->reads);
    rows_preview_free(q->preview);
    q->reads = NULL;
    q->preview = NULL;
    app_user_remove(&q->user);
}

static void on_reset(struct app_user *u, int err)
{
    struct result_stream *q = (struct result_stream *)u;
    bool whole = q->done;
    let_go(q);
    if (whole) return;
    if (q->begun)
        reply_break(q->r); // an answer cut short must not look whole
    else
        reply_error(q->r, err);
}

// ---- sending ----

struct piece {
    struct feed_sink sink; // first
    struct buf b;
    struct result_stream *q;
};

static int emit_text(struct feed_sink *sink, struct span value)
{
    struct piece *k = (struct piece *)sink;
    if (k->q->explain) return 0;
    buf_put_str(&k->b, k->q->any ? ",\n" : "\n");
    buf_put_span(&k->b, value);
    k->q->any = true;
    return k->b.err;
}

static int emit(struct feed_sink *sink, struct bytes *value)
{
    return emit_text(sink, bytes_span(value));
}

static void put_explained(struct result_stream *q, struct buf *b)
{
    struct jw w;
    buf_put_str(b, ",\"explain\":");
    jw_init(&w, b);
    query_explain(q->run, &w);
}

// The end of the answer. What was looked at is known when the run is closed.
static int put_end(struct result_stream *q, struct buf *b)
{
    buf_put_str(b, q->explain ? "]" : "\n]");
    if (q->explain) put_explained(q, b);
    if (q->reads != NULL) {
        query_close(q->run);
        q->run = NULL;
        int err = read_set_finish(q->reads);
        if (err != 0) return err;
        buf_put_str(b, ",\"reads\":\"");
        reads_token_put(b, q->at, q->reads);
        buf_put_str(b, "\"");
    }
    buf_put_str(b, "}\n");
    return b->err;
}

static void reply_fields(struct request *r, struct result_stream *q)
{
    q->begun = true;
    reply_start(r, 200);
    reply_header(r, "Cache-Control", "no-store");
    reply_may_code(r);
}

// The first piece stands in `b`, behind the answer's head; most answers are no more than that.
static void reply_first(struct request *r, struct result_stream *q, struct buf *b)
{
    reply_fields(r, q);
    if (q->done) {
        reply_body(r, "application/json", buf_span(b));
        return;
    }
    reply_stream(r, "application/json", -1);
    reply_write_span(r, buf_span(b));
}

static void break_off(struct request *r, struct result_stream *q, int err)
{
    struct problem p = PROBLEM_NONE;
    if (q->run != NULL && query_problem(q->run)->err == err) p = *query_problem(q->run);
    problem_set(&p, err, -1, "%s", err_text(err));
    let_go(q);
    if (!q->begun) {
        reply_problem(r, &p);
        return;
    }
    log_warn("query", "a result broke off", LF_UINT("request", request_id(r)), LF_ERR(err));
    reply_break(r);
}

// The next piece; *room: the reader takes more.
static int send_piece(struct request *r, struct result_stream *q, bool *room)
{
    struct piece k = {.sink = {.emit = emit}, .q = q};
    bool first = !q->begun;
    buf_init(&k.b, PART_BYTES_MAX + 4 * ROW_BYTES_MAX + 2 * READ_SET_MAX);
    if (first) buf_printf(&k.b, "{\"seq\":%llu,\"rows\":[", (unsigned long long)q->at);
    size_t head = k.b.n;
    // A new schema's rows have more columns than those that lie over the store.
    bool whole = q->preview == NULL || rows_preview_current(q->preview);
    int err = !whole ? ERR_CANCELED : query_next(q->run, app_txn(r->app), PART_BYTES_MAX, &k.sink, &q->done);
    if (err == 0 && q->done) err = put_end(q, &k.b);
    if (err == 0) err = k.b.err;
    if (err == 0 && k.b.n > head && first) reply_first(r, q, &k.b);
    else if (err == 0 && k.b.n > head) reply_write_span(r, buf_span(&k.b));
    *room = !q->begun || !reply_full(r);
    q->ended = first && q->begun && q->done;
    buf_free(&k.b);
    return err;
}

static void send_more(struct request *r)
{
    struct result_stream *q = r->data;
    uint64_t since = clock_mono_us();
    bool room = !q->begun || !reply_full(r);
    while (room && q->run != NULL && !q->done) {
        int err = send_piece(r, q, &room);
        if (err != 0) {
            break_off(r, q, err);
            return;
        }
        if (!q->done && room && clock_mono_us() - since > TURN_US) {
            request_timer(r, 0, send_more);
            return;
        }
    }
    if (!q->done) return;
    let_go(q);
    if (!q->ended) reply_end(r);
}

// What lies over the state: a branch, and operations over that.
static int lay_over(struct request *r, struct result_stream *q, const struct question *a, uint64_t *at, struct problem *p)
{
    struct branch b;
    int err = a->branch.n > 0 ? app_branch(r->app, a->branch, &b) : 0;
    if (err == 0 && a->branch.n > 0) {
        *at = app_branch_at(r->app, &b);
        err = app_branch_preview(r->app, &b, &q->preview, p);
    } else if (err == 0) {
        q->preview = rows_preview_new(app_rows(r->app), app_txn(r->app), *at, *at, app_visible_ms(r->app));
        if (q->preview == NULL) err = ERR_NOMEM;
    }
    return err == 0 && a->ops.n > 0 ? batch_preview(q->preview, app_txn(r->app), buf_span(&a->ops), p) : err;
}

// Fills in what the answer is made of. What is there after a failure is still to be let go of.
static int open_run(struct request *r, struct result_stream *q, const struct question *a, struct problem *p)
{
    struct rows *rows = app_rows(r->app);
    struct db_txn *txn = app_txn(r->app);
    struct query_source source = {.at = a->at};
    int err = query_compile(rows, a->sql, a->params, a->param_count, &q->query, p);
    if (err == 0 && a->reads) source.reads = q->reads = read_set_new();
    if (err == 0 && a->reads && q->reads == NULL) err = ERR_NOMEM;
    if (err == 0 && (a->ops.n > 0 || a->branch.n > 0)) {
        err = lay_over(r, q, a, &source.at, p);
        if (err == 0) source.overlay = rows_preview_overlay(q->preview);
        if (err == 0 && source.overlay == NULL) err = ERR_NOMEM;
    }
    q->at = source.at;
    return err == 0 ? query_open_source(rows, txn, q->query, &source, &q->run, p) : err;
}

static int answer(struct request *r, const struct question *a, struct problem *p)
{
    if (a->branch.n > 0 && a->at_said) return problem_set(p, ERR_BAD_PARAMETER, -1, "a branch says itself which seq it lies over");
    if (a->at > app_visible(r->app)) return problem_set(p, ERR_SEQ_AHEAD, -1, "the last commit is %llu", (unsigned long long)app_visible(r->app));
    struct result_stream *q = calloc(1, sizeof *q);
    if (q == NULL) return ERR_NOMEM;
    int err = open_run(r, q, a, p);
    if (err != 0) {
        let_go(q);
        free(q);
        return err;
    }
    app_user_add(r->app, &q->user, on_reset);
    q->r = r;
    q->explain = a->explain;
    r->data = q;
    send_more(r);
    return 0;
}

// ---- asking ----

static int parse_seq(struct span text, uint64_t *out)
{
    uint64_t v = 0;
    if (text.n == 0 || text.n > 18) return ERR_BAD_PARAMETER;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9') return ERR_BAD_PARAMETER;
        v = 10 * v + (text.p[i] - '0');
    }
    *out = v;
    return 0;
}

// A copy of the decoded parameter in `arena`, whose memory does not move because it is reserved at once.
static int copy_param(struct request *r, const char *name, struct buf *arena, struct span *out)
{
    struct buf scratch;
    struct span value;
    buf_init(&scratch, HTTP_TARGET_MAX);
    int found = request_param(r, name, &scratch, &value);
    if (found == 1) {
        *out = SPAN(arena->p + arena->n, value.n);
        buf_put_span(arena, value);
        if (arena->err != 0) found = arena->err;
    }
    buf_free(&scratch);
    return found;
}

static int ask_flag(struct request *r, const char *name, struct buf *arena, bool *out, struct problem *p)
{
    struct span text;
    int found = copy_param(r, name, arena, &text);
    *out = found == 1 && span_is(text, "1");
    if (found == 0 || *out || (found == 1 && span_is(text, "0"))) return 0;
    return problem_set(p, ERR_BAD_PARAMETER, -1, "\"%s\" is 0 or 1", name);
}

static int ask_get(struct request *r, struct question *a, struct buf *arena, struct problem *p)
{
    struct span text;
    if (buf_reserve(arena, HTTP_TARGET_MAX) == NULL) return ERR_NOMEM;
    int found = copy_param(r, "sql", arena, &a->sql);
    if (found <= 0) return problem_set(p, found < 0 ? found : ERR_BAD_PARAMETER, -1, "the parameter \"sql\" is missing or broken");
    for (a->param_count = 0; a->param_count < QUERY_PARAMS_MAX; a->param_count++) {
        char name[16];
        snprintf(name, sizeof name, "p%zu", a->param_count + 1);
        found = copy_param(r, name, arena, &text);
        if (found < 0) return problem_set(p, found, -1, "the parameter \"%s\" is broken", name);
        if (found == 0) break;
        a->params[a->param_count] = (struct row_value){.kind = ROW_TEXT, .s = text};
    }
    found = copy_param(r, "as_of", arena, &text);
    if (found < 0 || (found == 1 && parse_seq(text, &a->at) != 0)) return problem_set(p, ERR_BAD_PARAMETER, -1, "\"as_of\" is not a seq");
    a->at_said = found == 1;
    found = copy_param(r, "branch", arena, &a->branch);
    if (found < 0 || (found == 1 && a->branch.n == 0)) return problem_set(p, ERR_BAD_PARAMETER, -1, "\"branch\" is a name");
    found = ask_flag(r, "reads", arena, &a->reads, p);
    return found != 0 ? found : ask_flag(r, "explain", arena, &a->explain, p);
}

static int ask_post(const struct jr *root, size_t body, struct question *a, struct buf *arena, struct problem *p)
{
    const struct jr *params = jr_get(root, "params"), *at = jr_get(root, "as_of");
    a->sql = jr_str(jr_get(root, "sql"));
    if (a->sql.n == 0) return problem_set(p, ERR_BAD_REQUEST, -1, "\"sql\" is missing");
    if (params != NULL && jr_type(params) != JR_ARRAY) return problem_set(p, ERR_BAD_REQUEST, -1, "\"params\" is not an array");
    if (at != NULL && (jr_type(at) != JR_INT || jr_int(at, -1) < 0)) return problem_set(p, ERR_BAD_REQUEST, -1, "\"as_of\" is not a seq");
    if (at != NULL) a->at = (uint64_t)jr_int(at, 0);
    a->at_said = at != NULL;
    a->branch = jr_str(jr_get(root, "branch"));
    if (jr_get(root, "branch") != NULL && a->branch.n == 0) return problem_set(p, ERR_BAD_REQUEST, -1, "\"branch\" is a name");
    const struct jr *reads = jr_get(root, "reads");
    if (reads != NULL && jr_type(reads) != JR_BOOL) return problem_set(p, ERR_BAD_REQUEST, -1, "\"reads\" is true or false");
    a->reads = jr_bool(reads, false);
    const struct jr *explain = jr_get(root, "explain");
    if (explain != NULL && jr_type(explain) != JR_BOOL) return problem_set(p, ERR_BAD_REQUEST, -1, "\"explain\" is true or false");
    a->explain = jr_bool(explain, false);
    size_t count;
    bool inserts;
    int bad = batch_ops_from_json(jr_get(root, "ops"), body, true, &count, &inserts, &a->ops, p);
    if (bad != 0) return bad;
    a->param_count = jr_count(params);
    if (a->param_count > QUERY_PARAMS_MAX) return problem_set(p, ERR_TOO_LARGE, -1, "a query has at most %d parameters", QUERY_PARAMS_MAX);
    if (buf_reserve(arena, arena->max) == NULL) return ERR_NOMEM;
    for (size_t i = 0; i < a->param_count; i++) {
        int err = batch_value_from_json(jr_at(params, i), arena, &a->params[i]);
        if (err != 0) return err;
    }
    return 0;
}

static int ask(struct request *r, struct question *a, struct buf *arena, struct jr_tree **tree, struct problem *p)
{
    if (app_txn(r->app) == NULL) return ERR_BUSY;
    a->at = app_visible(r->app);
    if (r->method != METHOD_POST) return ask_get(r, a, arena, p);
    int err = jr_parse(tree, buf_span(&r->body), p);
    return err != 0 ? err : ask_post(jr_root(*tree), r->body.n, a, arena, p);
}

static void query_begin(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    struct jr_tree *tree = NULL;
    struct question *a = calloc(1, sizeof *a);
    struct buf arena;
    buf_init(&arena, 4 * HTTP_TARGET_MAX);
    if (a != NULL) buf_init(&a->ops, 2 * BATCH_BYTES_MAX);
    int err = a == NULL ? ERR_NOMEM : ask(r, a, &arena, &tree, &p);
    if (err == 0) err = answer(r, a, &p);
    if (err != 0) {
        problem_set(&p, err, -1, "%s", err_text(err));
        reply_problem(r, &p);
    }
    jr_free(tree);
    buf_free(&arena);
    if (a != NULL) buf_free(&a->ops);
    free(a);
}

static void query_done(struct request *r)
{
    struct result_stream *q = r->data;
    if (q == NULL) return;
    let_go(q);
    free(q);
}

const struct handler api_query_get = {.begin = query_begin, .drain = send_more, .done = query_done};
const struct handler api_query_post = {.begin = query_begin, .drain = send_more, .done = query_done, .body_max = BATCH_BYTES_MAX};
