// GET /apps/<app>/subscribe: a session carried by server-sent events (WHATWG HTML, "Server-sent events"), so that curl and a
// browser's EventSource can follow an app with nothing else.
//
//   ?query=SQL  ?query.NAME=SQL  p.NAME.1=VALUE  follow.NAME=COLUMN@WHERE  branch=BRANCH  branch.NAME=BRANCH  preview.NAME=JSON  ?stream=PATH  ?stream.NAME=PATH@OFFSET  ?upload.NAME=ID  cursor=CURSOR
//
// Each message is one event: its JSON as `data`, its cursor, if it carries one, as `id`. EventSource gives the last id back as
// Last-Event-ID when it connects again, and the session goes on from there.
#include <stdio.h>
#include <stdlib.h>

#include "api.h"
#include "branch_feed.h"
#include "err.h"
#include "json_read.h"
#include "json_write.h"
#include "message.h"
#include "result_feed.h"

struct sse {
    struct session *session;
    struct request *r;
    bool over;
    size_t branches; // parameters branch.NAME that a query had use for
    size_t previews; // the same of preview.NAME
    size_t follows;  // the same of follow.NAME
    size_t params;   // the same of p.NAME.N
};

// ---- the carrier ----

static void heartbeat(struct request *r)
{
    // A comment: keeps proxies from closing the connection, and finds out that the peer is gone.
    reply_write_span(r, SPAN_LIT(":\n\n"));
    request_timer(r, server_heartbeat_ms(r->server), heartbeat);
}

static bool frame_make(struct message *m, struct reply_frame *out)
{
    struct buf b;
    buf_init(&b, m->json->n + 256);
    if (m->cursor[0] != '\0') buf_printf(&b, "id: %s\n", m->cursor);
    buf_put_str(&b, "data: ");
    buf_put_span(&b, bytes_span(m->json)); // JSON text has no line breaks of its own
    buf_put_str(&b, "\n\n");
    bool made = b.err == 0 && reply_frame_make(out, buf_span(&b));
    buf_free(&b);
    return made;
}

static bool send_frame(struct sse *sse, struct message *m)
{
    struct reply_frame *frame = &m->wire[MESSAGE_SSE];
    if (frame->wire != NULL || frame_make(m, frame)) return reply_write_frame(sse->r, frame);
    reply_break(sse->r);
    return true;
}

static bool send_large(struct sse *sse, struct message *m)
{
    char head[MESSAGE_CURSOR_MAX + 32];
    bool has = m->cursor[0] != '\0';
    int n = snprintf(head, sizeof head, "%s%s%sdata: ", has ? "id: " : "", m->cursor, has ? "\n" : "");
    return reply_write_around(sse->r, SPAN(head, (size_t)n), m->json, 0, m->json->n, SPAN_LIT("\n\n"));
}

static bool sse_send(void *carrier, struct message *m)
{
    struct sse *sse = carrier;
    bool room = m->json->n >= MESSAGE_LARGE ? send_large(sse, m) : send_frame(sse, m);
    request_timer(sse->r, server_heartbeat_ms(sse->r->server), heartbeat);
    return room;
}

static void sse_end(void *carrier, int err)
{
    struct sse *sse = carrier;
    const char *lost = session_lost(sse->session);
    struct buf b;
    struct jw w;
    sse->over = true;
    buf_init(&b, 4 * KIB);
    buf_put_str(&b, "data: ");
    jw_init(&w, &b);
    jw_object(&w);
    jw_key(&w, "type"), jw_cstr(&w, "error");
    if (lost != NULL) jw_key(&w, "name"), jw_cstr(&w, lost);
    jw_key(&w, "code"), jw_cstr(&w, err_wire(err));
    jw_key(&w, "detail"), jw_cstr(&w, session_why(err));
    jw_end(&w);
    buf_put_str(&b, "\n\n");
    reply_write_span(sse->r, buf_span(&b));
    buf_free(&b);
    reply_end(sse->r);
}

static const struct session_carrier sse_carrier = {.send_shared = sse_send, .end = sse_end};

// ---- the parameters ----

// "query" and "query.NAME" alike; the name of one that has none is its letter and its number.
static bool names(struct span param, const char *kind, char letter, size_t number, char name[80])
{
    size_t n = strlen(kind);
    if (!span_starts(param, kind)) return false;
    struct span rest = span_sub(param, n, SIZE_MAX);
    if (rest.n == 0) return snprintf(name, 80, "%c%zu", letter, number) > 0;
    if (rest.p[0] != '.' || rest.n > 70) return false;
    return snprintf(name, 80, "%.*s", (int)rest.n - 1, (const char *)rest.p + 1) >= 0;
}

// The branch that a query reads: its own, or that of all of them. 1: there is one.
static int branch_of(struct sse *sse, const char *name, struct buf *room, struct span *out, struct problem *p)
{
    char param[96];
    snprintf(param, sizeof param, "branch.%s", name);
    int found = request_param(sse->r, param, room, out);
    if (found == 1) sse->branches++;
    if (found == 0) found = request_param(sse->r, "branch", room, out);
    return found == 1 && out->n == 0 ? problem_set(p, ERR_BAD_PARAMETER, -1, "the branch of the query \"%s\" has no name", name) : found;
}

// NAME, NAME@OFFSET or NAME@end: takes what stands behind the last '@' off, if it is one of these.
static uint64_t take_where(struct span *value, bool ends)
{
    size_t at = value->n;
    uint64_t offset = 0;
    if (ends && value->n >= 4 && memcmp(value->p + value->n - 4, "@end", 4) == 0) {
        value->n -= 4;
        return RESULT_FOLLOW_END;
    }
    while (at > 0 && value->p[at - 1] >= '0' && value->p[at - 1] <= '9' && value->n - at < 18)
        at--;
    if (at == value->n || at == 0 || value->p[at - 1] != '@') return 0;
    for (size_t i = at; i < value->n; i++)
        offset = 10 * offset + (value->p[i] - '0');
    value->n = at - 1;
    return offset;
}

struct follows {
    struct result_follow list[FOLLOW_COLUMNS_MAX];
    size_t count;
    struct buf room; // of the names
};

// Each follow.NAME of this query, one column each.
static int take_follows(struct sse *sse, const char *name, struct follows *f, struct problem *p)
{
    char wanted[96];
    struct span param, value;
    size_t at = 0;
    int broken = 0;
    snprintf(wanted, sizeof wanted, "follow.%s", name);
    if (buf_reserve(&f->room, f->room.max) == NULL) return ERR_NOMEM; // names must not move
    while (request_param_next(sse->r, &at, &f->room, &param, &value, &broken)) {
        if (!span_is(param, wanted)) {
            buf_truncate(&f->room, (size_t)(param.p - f->room.p));
            continue;
        }
        if (f->count == FOLLOW_COLUMNS_MAX) return problem_set(p, ERR_TOO_MANY, -1, "a query follows at most %d columns", FOLLOW_COLUMNS_MAX);
        size_t n = value.n;
        uint64_t start = take_where(&value, true);
        if (n > 0 && value.n == n && memchr(value.p, '@', n) != NULL) // a column with one in its name is followed by a place, too
            return problem_set(p, ERR_BAD_OFFSET, -1, "behind the last @ of \"%.*s\" stands an offset or \"end\"", SPAN_FMT(span_sub(value, 0, NAME_MAX_BYTES)));
        f->list[f->count++] = (struct result_follow){.column = value, .start = start};
        sse->follows++;
    }
    return broken;
}

// 1: the query has a preview, and is subscribed to with it.
static int subscribe_preview(struct sse *sse, const char *name, struct span sql, const struct row_value *params, size_t count, struct problem *p)
{
    struct live_preview preview;
    struct jr_tree *tree = NULL;
    struct buf room, ops;
    struct span json;
    char param[96];
    snprintf(param, sizeof param, "preview.%s", name);
    buf_init(&room, HTTP_TARGET_MAX);
    buf_init(&ops, HTTP_TARGET_MAX);
    int found = request_param(sse->r, param, &room, &json);
    int err = found == 1 ? jr_parse(&tree, json, p) : found;
    if (found == 1 && err == 0) err = live_preview_from_json(jr_root(tree), json.n, &ops, &preview, p);
    if (found == 1 && err == 0) err = session_preview_query(sse->session, SPAN_STR(name), &preview, sql, params, count, p);
    sse->previews += found == 1;
    jr_free(tree);
    buf_free(&ops);
    buf_free(&room);
    return err != 0 ? err : found;
}

// With streams of its result, or without.
static int subscribe_query(struct sse *sse, const char *name, struct span branch, struct span sql, const struct row_value *params, size_t count, struct problem *p)
{
    struct follows follows = {.count = 0};
    buf_init(&follows.room, 2 * HTTP_TARGET_MAX);
    int err = take_follows(sse, name, &follows, p);
    int previewed = err == 0 && follows.count == 0 && branch.n == 0 ? subscribe_preview(sse, name, sql, params, count, p) : 0;
    if (previewed != 0) err = previewed < 0 ? previewed : 0;
    else if (err == 0 && follows.count > 0 && branch.n > 0) err = problem_set(p, ERR_BAD_PARAMETER, -1, "streams have no branches: in a result on one they are not followed");
    else if (err == 0 && follows.count > 0) err = session_follow_query(sse->session, SPAN_STR(name), sql, params, count, follows.list, follows.count, p);
    else if (err == 0) err = session_branch_query(sse->session, SPAN_STR(name), branch, sql, params, count, p);
    buf_free(&follows.room);
    return err;
}

static int add_query(struct sse *sse, const char *name, struct span sql, struct problem *p)
{
    struct row_value params[QUERY_PARAMS_MAX];
    struct buf scratch[QUERY_PARAMS_MAX];
    size_t count = 0;
    int found = 1;
    while (found == 1 && count < QUERY_PARAMS_MAX) {
        char param[128];
        struct span value;
        snprintf(param, sizeof param, "p.%s.%zu", name, count + 1);
        buf_init(&scratch[count], HTTP_TARGET_MAX);
        found = request_param(sse->r, param, &scratch[count], &value);
        if (found == 1) params[count] = (struct row_value){.kind = ROW_TEXT, .s = value};
        if (found == 1) count++;
        else buf_free(&scratch[count]);
    }
    struct buf room;
    struct span branch = SPAN_NONE;
    sse->params += count;
    buf_init(&room, HTTP_TARGET_MAX);
    if (found >= 0) found = branch_of(sse, name, &room, &branch, p);
    int err = found < 0 ? problem_set(p, found, -1, "a parameter of the query \"%s\" is broken", name) : subscribe_query(sse, name, branch, sql, params, count, p);
    buf_free(&room);
    while (count > 0)
        buf_free(&scratch[--count]);
    return err;
}

// PATH or PATH@OFFSET: only digits behind the last '@' are an offset.
static int add_stream(struct sse *sse, const char *name, struct span value, struct problem *p)
{
    uint64_t offset = take_where(&value, false);
    return session_stream(sse->session, SPAN_STR(name), value, offset, p);
}

static int add_upload(struct sse *sse, const char *name, struct span value, struct problem *p)
{
    struct uuid id;
    if (uuid_parse(&id, value) != 0) return problem_set(p, ERR_BAD_PARAMETER, -1, "the upload \"%s\" is named by a UUID", name);
    return session_upload(sse->session, SPAN_STR(name), id, p);
}

static int add_all(struct sse *sse, struct problem *p)
{
    struct buf scratch;
    struct span param, value;
    size_t at = 0, queries = 0, streams = 0, uploads = 0, branches = 0, follows = 0, previews = 0, params = 0;
    char name[80];
    int err = 0, broken = 0;
    buf_init(&scratch, 2 * HTTP_TARGET_MAX);
    while (err == 0 && request_param_next(sse->r, &at, &scratch, &param, &value, &broken)) {
        if (names(param, "query", 'q', queries + 1, name)) queries++, err = add_query(sse, name, value, p);
        else if (names(param, "stream", 's', streams + 1, name)) streams++, err = add_stream(sse, name, value, p);
        else if (names(param, "upload", 'u', uploads + 1, name)) uploads++, err = add_upload(sse, name, value, p);
        else if (span_starts(param, "branch.")) branches++;
        else if (span_starts(param, "follow.")) follows++;
        else if (span_starts(param, "preview.")) previews++;
        else if (span_starts(param, "p.")) params++;
        else if (!span_is(param, "cursor") && !span_is(param, "branch"))
            err = problem_set(p, ERR_BAD_PARAMETER, -1, "there is no parameter \"%.*s\"", SPAN_FMT(span_sub(param, 0, 60)));
    }
    buf_free(&scratch);
    if (err == 0 && broken != 0) err = problem_set(p, broken, -1, "a parameter is broken");
    // What reads the app instead would look as if it were the branch.
    if (err == 0 && branches != sse->branches) err = problem_set(p, ERR_BAD_PARAMETER, -1, "a branch is named for a query that is not there");
    if (err == 0 && previews != sse->previews) err = problem_set(p, ERR_BAD_PARAMETER, -1, "a preview is of a query, without a branch and without columns that are followed");
    if (err == 0 && follows != sse->follows) err = problem_set(p, ERR_BAD_PARAMETER, -1, "columns are followed of a query that is not there");
    if (err == 0 && params != sse->params) err = problem_set(p, ERR_BAD_PARAMETER, -1, "a value is given for a query that is not there, or one before it is missing: p.NAME.1, p.NAME.2, …");
    if (err == 0 && queries + streams + uploads == 0) err = problem_set(p, ERR_BAD_PARAMETER, -1, "name at least one query=…, stream=… or upload=…");
    return err;
}

static int start(struct sse *sse, struct problem *p)
{
    struct span cursor = SPAN_NONE;
    struct buf scratch;
    buf_init(&scratch, HTTP_TARGET_MAX);
    // A browser that connects again asks with the old address: what it says in its header is newer.
    int found = request_header(sse->r, "last-event-id", &cursor) ? 1 : request_param(sse->r, "cursor", &scratch, &cursor);
    int err = found < 0 ? found : session_start(sse->session, cursor, p);
    buf_free(&scratch);
    return err;
}

// ---- the handler ----

static void subscribe_begin(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    struct sse *sse = calloc(1, sizeof *sse);
    r->data = sse;
    int err = sse == NULL ? ERR_NOMEM : app_txn(r->app) == NULL ? ERR_BUSY : 0;
    if (err == 0) {
        sse->r = r;
        err = session_open(&sse->session, server_hub(r->server, r->app), r->app, &sse_carrier, sse);
    }
    if (err == 0) err = add_all(sse, &p);
    if (err == 0) err = start(sse, &p);
    if (err != 0) {
        problem_set(&p, err, -1, "%s", err_text(err));
        reply_problem(r, &p);
        return;
    }
    reply_start(r, 200);
    reply_header(r, "Cache-Control", "no-store");
    reply_header(r, "X-Accel-Buffering", "no");
    reply_may_code(r);
    reply_stream(r, "text/event-stream", -1);
    reply_write_span(r, SPAN_LIT("retry: 500\n\n"));
    session_drain(sse->session);
}

static void subscribe_drain(struct request *r)
{
    struct sse *sse = r->data;
    if (!sse->over) session_drain(sse->session);
}

static void subscribe_done(struct request *r)
{
    struct sse *sse = r->data;
    if (sse == NULL) return;
    session_close(sse->session);
    free(sse);
}

const struct handler api_subscribe_get = {.begin = subscribe_begin, .drain = subscribe_drain, .done = subscribe_done};
