// Branches over a connection: branch, branches (PROTOCOL.md, "WebSocket"). A step is a batch like any other; the others are answered at once. Writing to a
// branch is a batch that names it, reading it a query that does.
#include "api.h"
#include "err.h"
#include "json_read.h"
#include "sync_impl.h"

static void say_refused(struct sync *s, const char *tag, int err, struct problem *p)
{
    problem_set(p, err, -1, "%s", err_text(err));
    sync_say_error(s, tag[0] != '\0' ? "id" : NULL, SPAN_STR(tag), p);
}

static int may_do(struct sync *s, enum verb verb)
{
    int err = may(s->options.auth, &s->options.identity, verb, SPAN_STR(app_name(s->options.app)), SPAN_NONE);
    return err == 0 && app_txn(s->options.app) == NULL ? ERR_BUSY : err;
}

static void answer_begin(struct buf *b, struct jw *w, const char *type, const char *tag)
{
    sync_message_begin(b, w, type);
    if (tag[0] != '\0') jw_key(w, "id"), jw_raw(w, SPAN_STR(tag));
}

void sync_take_branches(struct sync *s, const struct jr *message, struct span text)
{
    (void)text;
    static const char *const known[] = {"type", "id", NULL};
    struct problem p = PROBLEM_NONE;
    char tag[WS_TAG_MAX + 1] = "";
    struct buf b;
    struct jw w;
    int err = sync_get_tag(message, tag, &p);
    if (err == 0) err = sync_check_members(message, known, &p);
    if (err == 0) err = may_do(s, MAY_QUERY);
    if (err == 0) {
        answer_begin(&b, &w, "branches", tag);
        jw_key(&w, "branches");
        err = branches_json(&w, s->options.app);
        if (err != 0) buf_free(&b);
    }
    if (err != 0) {
        say_refused(s, tag, err, &p);
        return;
    }
    jw_end(&w);
    sync_say(s, &b);
}

static void take_diff(struct sync *s, const struct jr *message)
{
    struct problem p = PROBLEM_NONE;
    struct branch branch;
    char tag[WS_TAG_MAX + 1] = "";
    struct buf b;
    struct jw w;
    int err = sync_get_tag(message, tag, &p);
    if (err == 0) err = may_do(s, MAY_QUERY);
    if (err == 0) err = app_branch(s->options.app, jr_str(jr_get(message, "name")), &branch);
    if (err == 0) {
        answer_begin(&b, &w, "branch", tag);
        err = branch_diff_members(&w, s->options.app, &branch, &p);
        if (err == 0 && b.err != 0) err = ERR_RESULT_TOO_LARGE;
        if (err != 0) buf_free(&b);
    }
    if (err != 0) {
        say_refused(s, tag, err, &p);
        return;
    }
    jw_end(&w);
    sync_say(s, &b);
}

static int read_step(const struct jr *message, struct batch_branch *step, struct problem *p)
{
    struct span what = jr_str(jr_get(message, "step"));
    step->name = jr_str(jr_get(message, "name"));
    if (!branch_name_valid(step->name)) return problem_set(p, ERR_BAD_PARAMETER, -1, "\"name\" is not a branch's");
    if (span_is(what, "create")) return branch_create_members(message, step, p);
    if (span_is(what, "merge")) return branch_merge_members(message, step, p);
    step->step = BRANCH_DROP;
    return span_is(what, "drop") ? 0 : problem_set(p, ERR_BAD_PARAMETER, -1, "\"step\" is create, diff, merge or drop");
}

void sync_take_branch(struct sync *s, const struct jr *message, struct span text)
{
    (void)text;
    static const char *const known[] = {"type", "id", "step", "name", "at", "live", "mode", "replica", "counter", "key", NULL};
    struct problem p = PROBLEM_NONE;
    struct batch_branch step = {.step = BRANCH_DROP};
    struct batch_name name = {.kind = BATCH_UNNAMED};
    if (span_is(jr_str(jr_get(message, "step")), "diff")) {
        take_diff(s, message);
        return;
    }
    struct call *call = sync_call_new(s);
    if (call == NULL) return;
    int err = sync_get_tag(message, call->tag, &p);
    if (err == 0) err = sync_check_members(message, known, &p);
    if (err == 0) err = may_do(s, MAY_WRITE_BATCH);
    if (err == 0) err = batch_name_from_json(message, &name, &p);
    if (err == 0) err = read_step(message, &step, &p);
    if (err == 0) batch_put_op(&call->encoded, &(struct batch_op){.kind = BATCH_BRANCH, .branch = step});
    if (err == 0) err = call->encoded.err;
    if (err != 0) {
        sync_call_fail(s, call, err, &p);
        return;
    }
    call->submission = (struct submission){.name = name, .identity = s->options.identity, .connection = s->options.connection, .request = buf_span(&call->encoded)};
    call->submission.inserts = step.step == BRANCH_MERGE || step.step == BRANCH_COMMIT;
    sync_submit(s, call);
}
