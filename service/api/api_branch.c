// /apps/<app>/branches: branches of an app's rows (PROTOCOL.md, "Branches"). Writing to one and reading it are batches and queries that name it.
#include <stdlib.h>

#include "api.h"
#include "branches.h"
#include "err.h"
#include "json_read.h"
#include "json_write.h"
#include "preview.h"

#define BODY_MAX (4 * KIB)
#define DIFF_MAX (64 * MIB) // a row may be large, and each is told twice

static void put_branch(struct jw *w, struct app *app, const struct branch *b)
{
    jw_object(w);
    jw_key(w, "branch"), jw_cstr(w, b->name);
    jw_key(w, "base"), jw_uint(w, b->base);
    jw_key(w, "live"), jw_bool(w, b->live);
    jw_key(w, "at"), jw_uint(w, app_branch_at(app, b));
    jw_key(w, "created"), jw_time_ms(w, (int64_t)b->created_ms);
    jw_key(w, "batches"), jw_uint(w, b->writes);
    jw_key(w, "ops"), jw_uint(w, b->ops);
    jw_key(w, "bytes"), jw_uint(w, b->bytes);
    jw_end(w);
}

static void reply_failure(struct request *r, int err, struct problem *p)
{
    problem_set(p, err, -1, "%s", err_text(err));
    reply_problem(r, p);
}

// ---- looking -------------------------------------------------------------------------------------------------------

struct list {
    struct jw *w;
    struct app *app;
};

static bool list_one(void *ctx, const struct branch *b)
{
    struct list *l = ctx;
    put_branch(l->w, l->app, b);
    return true;
}

int branches_json(struct jw *w, struct app *app)
{
    struct list l = {.w = w, .app = app};
    jw_array(w);
    int err = app_branches_each(app, list_one, &l);
    jw_end(w);
    return err;
}

static void branches_get(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    struct buf b;
    struct jw w;
    buf_init(&b, MIB);
    jw_init(&w, &b);
    jw_object(&w);
    jw_key(&w, "branches");
    int err = branches_json(&w, r->app);
    jw_end(&w);
    if (err == 0) err = b.err;
    if (err != 0) reply_failure(r, err, &p);
    else reply_json(r, 200, &b);
    buf_free(&b);
}

int branch_diff_members(struct jw *w, struct app *app, const struct branch *branch, struct problem *p)
{
    struct rows_preview *v = NULL;
    int err = app_branch_preview(app, branch, &v, p);
    if (err != 0) return err;
    jw_key(w, "branch"), jw_cstr(w, branch->name);
    jw_key(w, "at"), jw_uint(w, app_branch_at(app, branch));
    jw_key(w, "changes");
    err = rows_preview_diff(v, app_txn(app), w);
    rows_preview_free(v);
    return err;
}

static int reply_diff(struct request *r, const struct branch *branch, struct problem *p)
{
    struct buf b;
    struct jw w;
    buf_init(&b, DIFF_MAX);
    jw_init(&w, &b);
    jw_object(&w);
    int err = branch_diff_members(&w, r->app, branch, p);
    if (err == 0) jw_end(&w);
    if (err == 0) err = b.err == ERR_TOO_LARGE ? ERR_RESULT_TOO_LARGE : b.err;
    if (err == 0) reply_json(r, 200, &b);
    buf_free(&b);
    return err;
}

static void branch_get(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    struct branch branch;
    struct buf b;
    struct jw w;
    int err = app_branch(r->app, r->path, &branch);
    if (err != 0) {
        reply_failure(r, err, &p);
        return;
    }
    buf_init(&b, 4 * KIB);
    jw_init(&w, &b);
    put_branch(&w, r->app, &branch);
    reply_json(r, 200, &b);
    buf_free(&b);
}

static void diff_get(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    struct branch branch;
    int err = app_branch(r->app, r->path, &branch);
    if (err == 0) err = reply_diff(r, &branch, &p);
    if (err != 0) reply_failure(r, err, &p);
}

// ---- steps ---------------------------------------------------------------------------------------------------------

// A step on its way. Lives until both its request and its submission are through.
struct call {
    struct submission submission; // first
    struct request *r;            // NULL once the peer is gone
    struct buf encoded;
    int status; // of the reply to an accepted one
    bool submitted;
};

static void call_free(struct call *call)
{
    buf_free(&call->encoded);
    free(call);
}

static void on_fate(struct submission *s, const struct fate *f)
{
    struct call *call = (struct call *)s;
    struct request *r = call->r;
    call->submitted = false;
    if (r == NULL) {
        call_free(call);
        return;
    }
    reply_fate(r, f, 0, call->status);
}

static void step_done(struct request *r)
{
    struct call *call = r->data;
    if (call == NULL) return;
    call->r = NULL;
    if (!call->submitted) call_free(call);
}

static int submit(struct request *r, struct call *call, struct problem *p)
{
    if (call->encoded.err != 0) return call->encoded.err;
    call->submission.identity = r->identity;
    call->submission.request = buf_span(&call->encoded);
    call->submission.connection = request_connection(r);
    call->submission.done = on_fate;
    int err = batch_name_from_header(r, &call->submission.name, p);
    if (err == 0) err = app_submit(r->app, &call->submission);
    call->submitted = err == 0;
    return err;
}

static void put_step(struct call *call, const struct batch_branch *step)
{
    batch_put_op(&call->encoded, &(struct batch_op){.kind = BATCH_BRANCH, .branch = *step});
}

// The members of a step's body, which may be empty.
static int read_body(struct request *r, struct jr_tree **tree, struct problem *p)
{
    if (r->body.n == 0) return 0;
    int err = jr_parse(tree, buf_span(&r->body), p);
    if (err == 0 && jr_type(jr_root(*tree)) != JR_OBJECT) err = problem_set(p, ERR_BAD_REQUEST, -1, "the body is a JSON object");
    return err;
}

int branch_create_members(const struct jr *body, struct batch_branch *step, struct problem *p)
{
    const struct jr *at = jr_get(body, "at"), *live = jr_get(body, "live");
    if (at != NULL && (jr_type(at) != JR_INT || jr_int(at, -1) < 0)) return problem_set(p, ERR_BAD_REQUEST, -1, "\"at\" is a seq");
    if (live != NULL && jr_type(live) != JR_BOOL) return problem_set(p, ERR_BAD_REQUEST, -1, "\"live\" is true or false");
    step->step = BRANCH_CREATE;
    step->has_base = at != NULL;
    step->base = (uint64_t)jr_int(at, 0);
    step->live = jr_bool(live, false);
    return 0;
}

int branch_merge_members(const struct jr *body, struct batch_branch *step, struct problem *p)
{
    struct span mode = jr_str(jr_get(body, "mode"));
    bool transaction = span_is(mode, "transaction");
    if (jr_get(body, "mode") != NULL && !transaction && !span_is(mode, "merge")) return problem_set(p, ERR_BAD_REQUEST, -1, "\"mode\" is \"merge\" or \"transaction\"");
    step->step = transaction ? BRANCH_COMMIT : BRANCH_MERGE;
    return 0;
}

static int begin_create(struct request *r, struct call *call, const struct jr *body, struct problem *p)
{
    struct batch_branch step = {.name = r->path};
    if (!branch_name_valid(r->path)) return problem_set(p, ERR_BAD_PARAMETER, -1, "a branch's name has 1 to %d letters, digits, '-', '_' and '.', a letter or digit first", NAME_MAX_BYTES);
    int err = branch_create_members(body, &step, p);
    if (err != 0) return err;
    call->status = 201;
    put_step(call, &step);
    return submit(r, call, p);
}

static int begin_merge(struct request *r, struct call *call, const struct jr *body, struct problem *p)
{
    struct batch_branch step = {.name = r->path};
    int err = branch_merge_members(body, &step, p);
    if (err != 0) return err;
    put_step(call, &step);
    call->submission.inserts = true;
    return submit(r, call, p);
}

static int begin_drop(struct request *r, struct call *call, const struct jr *body, struct problem *p)
{
    (void)body;
    put_step(call, &(struct batch_branch){.step = BRANCH_DROP, .name = r->path});
    return submit(r, call, p);
}

static void step_begin(struct request *r, int (*begin)(struct request *r, struct call *call, const struct jr *body, struct problem *p))
{
    struct problem p = PROBLEM_NONE;
    struct jr_tree *tree = NULL;
    struct call *call = calloc(1, sizeof *call);
    int err = call == NULL ? ERR_NOMEM : 0;
    if (err == 0) {
        r->data = call;
        call->r = r;
        call->status = 200;
        buf_init(&call->encoded, MIB);
        err = app_txn(r->app) == NULL ? ERR_BUSY : r->path.n > NAME_MAX_BYTES ? ERR_NO_SUCH_BRANCH : read_body(r, &tree, &p);
    }
    if (err == 0) err = begin(r, call, jr_root(tree), &p);
    jr_free(tree);
    if (err != 0) reply_failure(r, err, &p);
}

static void branch_put(struct request *r)
{
    step_begin(r, begin_create);
}

static void branch_delete(struct request *r)
{
    step_begin(r, begin_drop);
}

static void merge_post(struct request *r)
{
    step_begin(r, begin_merge);
}

const struct handler api_branches_get = {.begin = branches_get};
const struct handler api_branch_get = {.begin = branch_get};
const struct handler api_branch_put = {.begin = branch_put, .done = step_done, .body_max = BODY_MAX};
const struct handler api_branch_delete = {.begin = branch_delete, .done = step_done};
const struct handler api_branch_diff = {.begin = diff_get};
const struct handler api_branch_merge = {.begin = merge_post, .done = step_done, .body_max = BODY_MAX};
