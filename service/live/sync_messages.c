// The messages of a client, one function each: PROTOCOL.md, "WebSocket", in its words.
#include <assert.h>
#include <stdlib.h>

#include "api.h"
#include "branch_feed.h"
#include "err.h"
#include "json_read.h"
#include "result_feed.h"
#include "sync_impl.h"
#include "ws_records.h"

// ---- batches and appends ---------------------------------------------------------------------------------------------------

struct call *sync_call_new(struct sync *s)
{
    struct call *call = calloc(1, sizeof *call);
    if (call == NULL) {
        sync_end_with(s, ERR_NOMEM);
        return NULL;
    }
    call->sync = s;
    buf_init(&call->encoded, 2 * BATCH_BYTES_MAX);
    return call;
}

// What a client did against the protocol, named by the error.
static void refuse(struct sync *s, enum ws_code code, const struct problem *p)
{
    sync_end(s, code, err_wire(p->err), p);
}

static int may_write(struct sync *s, struct span object)
{
    return may(s->options.auth, &s->options.identity, MAY_WRITE_BATCH, SPAN_STR(app_name(s->options.app)), object);
}

// A string or a whole number that comes back with the answer. Empty where there is none.
int sync_get_tag(const struct jr *message, char tag[WS_TAG_MAX + 1], struct problem *p)
{
    const struct jr *id = jr_get(message, "id");
    struct buf b;
    if (id == NULL) return 0;
    buf_init(&b, WS_TAG_MAX);
    int err = jr_type(id) == JR_STRING || jr_type(id) == JR_INT ? jr_canonical(id, &b) : ERR_BAD_BATCH;
    if (err == 0) memcpy(tag, b.p, b.n);
    buf_free(&b);
    return err == 0 ? 0 : problem_set(p, ERR_BAD_BATCH, -1, "\"id\" is a string or a whole number of at most %d bytes of JSON", WS_TAG_MAX);
}

static void take_batch(struct sync *s, const struct jr *message, struct span text)
{
    struct problem p = PROBLEM_NONE;
    struct batch_head head = {0};
    struct call *call = sync_call_new(s);
    if (call == NULL) return;
    int err = sync_get_tag(message, call->tag, &p);
    if (err == 0) err = may_write(s, SPAN_NONE);
    if (err == 0) err = batch_from_message(message, text.n, &head, &call->encoded, &p);
    if (err != 0) {
        sync_call_fail(s, call, err, &p);
        return;
    }
    call->ops = head.ops;
    call->submission = (struct submission){.name = head.name, .identity = s->options.identity, .base = head.base, .stamp = head.stamp, .inserts = head.inserts, .connection = s->options.connection,
                                           .request = buf_span(&call->encoded)};
    sync_submit(s, call);
}

static void append(struct sync *s, const struct jr *message, const struct span *data)
{
    struct problem p = PROBLEM_NONE;
    struct call *call = sync_call_new(s);
    if (call == NULL) return;
    call->append = ++s->appends;
    s->appends_open++;
    call->ops = 1;
    int err = may_write(s, jr_str(jr_get(message, "stream")));
    if (err == 0) err = batch_append_from_message(message, data, &call->encoded, &p);
    if (err != 0) {
        sync_call_fail(s, call, err, &p);
        return;
    }
    call->submission = (struct submission){.identity = s->options.identity, .connection = s->options.connection, .request = buf_span(&call->encoded)};
    sync_submit(s, call);
}

// A record needs no tree of JSON: where, what, nothing else.
static void append_record(struct sync *s, const struct ws_record *record)
{
    struct problem p = PROBLEM_NONE;
    struct batch_op op = {.kind = BATCH_APPEND, .stream = {.path = record->path, .data = record->data}};
    struct call *call = sync_call_new(s);
    if (call == NULL) return;
    call->append = ++s->appends;
    s->appends_open++;
    call->ops = 1;
    int err = may_write(s, record->path);
    if (err == 0) batch_put_op(&call->encoded, &op);
    if (err == 0) err = call->encoded.err;
    if (err != 0) {
        sync_call_fail(s, call, err, &p);
        return;
    }
    call->submission = (struct submission){.identity = s->options.identity, .connection = s->options.connection, .request = buf_span(&call->encoded)};
    sync_submit(s, call);
}

static void take_records(struct sync *s, struct span message)
{
    struct problem p = PROBLEM_NONE;
    struct ws_records records;
    struct ws_record record;
    int count = ws_records_begin(&records, message);
    if (count < 0 || s->session == NULL) {
        problem_set(&p, ERR_BAD_REQUEST, -1, count < 0 ? "the records of a binary message are malformed" : "hello comes first");
        refuse(s, count < 0 ? WS_UNSUPPORTED : WS_POLICY, &p);
        return;
    }
    while (!s->ending && !s->over && ws_records_next(&records, &record))
        append_record(s, &record);
}

static void take_append(struct sync *s, const struct jr *message, struct span text)
{
    (void)text;
    append(s, message, NULL);
}

// ---- subscribing ---------------------------------------------------------------------------------------------------------

struct members {
    const char *const *known;
    struct problem *p;
};

static int check_member(void *ctx, struct span key, const struct jr *value)
{
    (void)value;
    struct members *m = ctx;
    for (const char *const *known = m->known; *known != NULL; known++)
        if (span_is(key, *known)) return 0;
    return problem_set(m->p, ERR_BAD_REQUEST, -1, "there is no member \"%.*s\" in it", SPAN_FMT(span_sub(key, 0, 60)));
}

// A misspelt member would silently mean less than its writer meant.
int sync_check_members(const struct jr *object, const char *const *known, struct problem *p)
{
    return jr_each(object, check_member, &(struct members){known, p});
}

int sync_get_params(const struct jr *list, struct buf *scratch, struct row_value params[QUERY_PARAMS_MAX], size_t *count, struct problem *p)
{
    *count = jr_count(list);
    if (list != NULL && jr_type(list) != JR_ARRAY) return problem_set(p, ERR_BAD_PARAMETER, -1, "\"params\" is an array");
    if (*count > QUERY_PARAMS_MAX) return problem_set(p, ERR_BAD_PARAMETER, -1, "a query has at most %d parameters", QUERY_PARAMS_MAX);
    // The parameters point into the scratch, which must not move.
    int err = *count > 0 && buf_reserve(scratch, scratch->max) == NULL ? ERR_NOMEM : 0;
    for (size_t i = 0; i < *count && err == 0; i++)
        err = batch_value_from_json(jr_at(list, i), scratch, &params[i]);
    return err;
}

struct follows {
    struct result_follow list[FOLLOW_COLUMNS_MAX];
    size_t count;
    struct problem *p;
};

static int take_follow(void *ctx, struct span column, const struct jr *where)
{
    struct follows *f = ctx;
    bool end = jr_type(where) == JR_STRING && span_is(jr_str(where), "end");
    if (f->count == FOLLOW_COLUMNS_MAX) return problem_set(f->p, ERR_TOO_MANY, -1, "a query follows at most %d columns", FOLLOW_COLUMNS_MAX);
    if (!end && (jr_type(where) != JR_INT || jr_int(where, -1) < 0)) return problem_set(f->p, ERR_BAD_OFFSET, -1, "a stream is followed from an offset, a whole number from 0, or from its \"end\"");
    f->list[f->count++] = (struct result_follow){.column = column, .start = end ? RESULT_FOLLOW_END : (uint64_t)jr_int(where, 0)};
    return 0;
}

static int take_follows(const struct jr *spec, struct follows *f)
{
    const struct jr *follow = jr_get(spec, "follow");
    if (follow == NULL) return 0;
    if (jr_type(follow) != JR_OBJECT || jr_count(follow) == 0) return problem_set(f->p, ERR_BAD_PARAMETER, -1, "\"follow\" is an object, where to begin under the name of each column");
    if (jr_get(spec, "branch") != NULL) return problem_set(f->p, ERR_BAD_PARAMETER, -1, "streams have no branches: in a result on one they are not followed");
    return jr_each(follow, take_follow, f);
}

static int add_preview(struct sync *s, struct span name, const struct jr *spec, size_t text_bytes, const struct row_value *params, size_t count, struct problem *p)
{
    struct live_preview preview;
    struct buf ops;
    if (jr_get(spec, "branch") != NULL || jr_get(spec, "follow") != NULL)
        return problem_set(p, ERR_BAD_PARAMETER, -1, "a \"preview\" lies over the state itself, and has no streams to \"follow\"");
    buf_init(&ops, ENTRY_BYTES_MAX / 2);
    int err = live_preview_from_json(jr_get(spec, "preview"), text_bytes, &ops, &preview, p);
    if (err == 0) err = session_preview_query(s->session, name, &preview, jr_str(jr_get(spec, "query")), params, count, p);
    buf_free(&ops);
    return err;
}

static int add_query(struct sync *s, struct span name, const struct jr *spec, size_t text_bytes, struct problem *p)
{
    struct follows follows = {.p = p};
    struct row_value params[QUERY_PARAMS_MAX];
    struct buf scratch;
    size_t count;
    const struct jr *branch = jr_get(spec, "branch");
    if (jr_type(jr_get(spec, "query")) != JR_STRING) return problem_set(p, ERR_BAD_PARAMETER, -1, "\"query\" is a string");
    if (branch != NULL && jr_str(branch).n == 0) return problem_set(p, ERR_BAD_PARAMETER, -1, "\"branch\" is a name");
    buf_init(&scratch, SYNC_PARAMS_BYTES);
    int err = sync_get_params(jr_get(spec, "params"), &scratch, params, &count, p);
    struct span sql = jr_str(jr_get(spec, "query"));
    if (err == 0) err = take_follows(spec, &follows);
    if (err == 0 && jr_get(spec, "preview") != NULL) err = add_preview(s, name, spec, text_bytes, params, count, p);
    else if (err == 0 && follows.count > 0) err = session_follow_query(s->session, name, sql, params, count, follows.list, follows.count, p);
    else if (err == 0) err = session_branch_query(s->session, name, jr_str(branch), sql, params, count, p);
    buf_free(&scratch);
    return err;
}

static int add_stream(struct sync *s, struct span name, const struct jr *spec, struct problem *p)
{
    const struct jr *offset = jr_get(spec, "offset");
    if (jr_type(jr_get(spec, "stream")) != JR_STRING) return problem_set(p, ERR_BAD_PARAMETER, -1, "\"stream\" is a path");
    if (offset != NULL && (jr_type(offset) != JR_INT || jr_int(offset, -1) < 0)) return problem_set(p, ERR_BAD_OFFSET, -1, "\"offset\" is a whole number from 0");
    return session_stream(s->session, name, jr_str(jr_get(spec, "stream")), (uint64_t)jr_int(offset, 0), p);
}

static int add_upload(struct sync *s, struct span name, const struct jr *spec, struct problem *p)
{
    struct uuid id;
    if (uuid_parse(&id, jr_str(jr_get(spec, "upload"))) != 0) return problem_set(p, ERR_BAD_PARAMETER, -1, "\"upload\" is not a UUID");
    return session_upload(s->session, name, id, p);
}

// {"query":…,"params":…,"branch":…,"follow":…,"preview":…}, {"stream":…,"offset":…} or {"upload":…}
static int add(struct sync *s, struct span name, const struct jr *spec, size_t text_bytes, struct problem *p)
{
    static const char *const of_query[] = {"params", "branch", "follow", "preview"};
    bool query = jr_get(spec, "query") != NULL, stream = jr_get(spec, "stream") != NULL, upload = jr_get(spec, "upload") != NULL;
    if (query + stream + upload != 1) return problem_set(p, ERR_BAD_PARAMETER, -1, "a subscription has a \"query\", a \"stream\" or an \"upload\"");
    for (size_t i = 0; i < sizeof of_query / sizeof *of_query && !query; i++)
        if (jr_get(spec, of_query[i]) != NULL) return problem_set(p, ERR_BAD_PARAMETER, -1, "\"%s\" is a query's", of_query[i]);
    if (!stream && jr_get(spec, "offset") != NULL) return problem_set(p, ERR_BAD_PARAMETER, -1, "\"offset\" is a stream's");
    int err = may(s->options.auth, &s->options.identity, MAY_SUBSCRIBE, SPAN_STR(app_name(s->options.app)), jr_str(jr_get(spec, "stream")));
    if (err != 0) return err;
    return query ? add_query(s, name, spec, text_bytes, p) : stream ? add_stream(s, name, spec, p) : add_upload(s, name, spec, p);
}

static void say_name_error(struct sync *s, struct span name, int err, struct problem *p)
{
    problem_set(p, err, -1, "%s", err_text(err));
    sync_say_name_error(s, name, p);
}

static void take_subscribe(struct sync *s, const struct jr *message, struct span text)
{
    static const char *const known[] = {"type", "name", "query", "params", "branch", "follow", "preview", "stream", "offset", "upload", NULL};
    struct problem p = PROBLEM_NONE;
    struct span name = jr_str(jr_get(message, "name"));
    int err = sync_check_members(message, known, &p);
    if (err == 0) err = add(s, name, message, text.n, &p);
    if (err != 0) say_name_error(s, name, err, &p);
}

static void take_unsubscribe(struct sync *s, const struct jr *message, struct span text)
{
    (void)text;
    static const char *const known[] = {"type", "name", NULL};
    struct problem p = PROBLEM_NONE;
    struct span name = jr_str(jr_get(message, "name"));
    int err = sync_check_members(message, known, &p);
    if (err == 0) err = session_unsubscribe(s->session, name, &p);
    if (err != 0) say_name_error(s, name, err, &p);
}

// ---- hello, ping -----------------------------------------------------------------------------------------------------------

struct hello {
    struct sync *s;
    struct problem *p;
    size_t text_bytes;
    struct span name; // of the one that failed
};

static int add_of_hello(void *ctx, struct span name, const struct jr *spec)
{
    static const char *const known[] = {"query", "params", "branch", "follow", "preview", "stream", "offset", "upload", NULL};
    struct hello *h = ctx;
    h->name = name;
    int err = sync_check_members(spec, known, h->p);
    return err != 0 ? err : add(h->s, name, spec, h->text_bytes, h->p);
}

static int begin(struct sync *s, const struct jr *message, struct hello *h)
{
    static const char *const known[] = {"type", "protocol", "cursor", "subscribe", NULL};
    const struct jr *cursor = jr_get(message, "cursor"), *all = jr_get(message, "subscribe");
    int err = sync_check_members(message, known, h->p);
    if (err != 0) return err;
    if (jr_int(jr_get(message, "protocol"), 0) != 1) return problem_set(h->p, ERR_BAD_REQUEST, -1, "\"protocol\" is 1 here");
    if (cursor != NULL && jr_type(cursor) != JR_STRING) return problem_set(h->p, ERR_BAD_CURSOR, -1, "\"cursor\" is a string");
    if (all != NULL && jr_type(all) != JR_OBJECT) return problem_set(h->p, ERR_BAD_PARAMETER, -1, "\"subscribe\" is an object, a subscription under each name");
    err = session_open(&s->session, s->options.hub, s->options.app, &sync_session_carrier, s);
    if (err == 0) err = jr_each(all, add_of_hello, h);
    if (err == 0) h->name = SPAN_NONE;
    return err != 0 ? err : session_start(s->session, jr_str(cursor), h->p);
}

// All of it, or an end: half of what a client subscribes to would go with no cursor of its.
static void take_hello(struct sync *s, const struct jr *message, struct span text)
{
    struct problem p = PROBLEM_NONE;
    struct hello h = {.s = s, .p = &p, .text_bytes = text.n};
    int err = begin(s, message, &h);
    if (err == 0) return;
    if (err == ERR_BUSY) {
        sync_end_with(s, err);
        return;
    }
    problem_set(&p, err, -1, "%s", err_text(err));
    if (h.name.n > 0) say_name_error(s, h.name, err, &p), sync_end(s, WS_POLICY, err_wire(err), NULL);
    else refuse(s, WS_POLICY, &p);
}

static void take_ping(struct sync *s, const struct jr *message, struct span text)
{
    (void)text;
    static const char *const known[] = {"type", "id", NULL};
    struct problem p = PROBLEM_NONE;
    char tag[WS_TAG_MAX + 1] = "";
    struct buf b;
    struct jw w;
    int err = sync_check_members(message, known, &p);
    if (err == 0) err = sync_get_tag(message, tag, &p);
    if (err != 0) {
        sync_say_error(s, NULL, SPAN_NONE, &p);
        return;
    }
    sync_message_begin(&b, &w, "pong");
    if (tag[0] != '\0') jw_key(&w, "id"), jw_raw(&w, SPAN_STR(tag));
    jw_end(&w);
    sync_say(s, &b);
}

// What became of a batch, by its name: told as to who sent it.
static void take_fate(struct sync *s, const struct jr *message, struct span text)
{
    (void)text;
    static const char *const known[] = {"type", "id", "replica", "counter", "key", NULL};
    struct problem p = PROBLEM_NONE;
    struct call call = {.ops = 0};
    struct batch_name name;
    struct fate f;
    int err = sync_check_members(message, known, &p);
    if (err == 0) err = sync_get_tag(message, call.tag, &p);
    if (err == 0) err = batch_name_from_message(message, &name, &p);
    if (err != 0) {
        sync_say_error(s, call.tag[0] != '\0' ? "id" : NULL, SPAN_STR(call.tag), &p);
        return;
    }
    if (app_fate(s->options.app, &name, &s->options.identity, &f) > 0) call.ops = fate_ops(&f);
    sync_say_fate(s, &call, &f);
}

// ---- messages --------------------------------------------------------------------------------------------------------------

static const struct {
    const char *type;
    void (*take)(struct sync *s, const struct jr *message, struct span text);
} kinds[] = {
    {"hello", take_hello}, {"subscribe", take_subscribe}, {"unsubscribe", take_unsubscribe},
    {"batch", take_batch}, {"append", take_append},       {"ping", take_ping},
    {"fate", take_fate},
    {"branch", sync_take_branch}, {"branches", sync_take_branches},
    {"publish", sync_take_publish}, {"schema", sync_take_schema}, {"schemas", sync_take_schemas},
    {"begin", sync_take_begin}, {"query", sync_take_query}, {"write", sync_take_write}, {"commit", sync_take_commit}, {"abort", sync_take_abort},
};

static void dispatch(struct sync *s, const struct jr *message, struct span text)
{
    struct problem p = PROBLEM_NONE;
    struct span type = jr_str(jr_get(message, "type"));
    bool hello = span_is(type, "hello");
    if (hello != (s->session == NULL)) {
        problem_set(&p, ERR_BAD_REQUEST, -1, hello ? "hello was said before" : "hello comes first");
        refuse(s, WS_POLICY, &p);
        return;
    }
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (!span_is(type, kinds[i].type)) continue;
        kinds[i].take(s, message, text);
        return;
    }
    problem_set(&p, ERR_BAD_REQUEST, -1, "there is no message of the type \"%.*s\"", SPAN_FMT(span_sub(type, 0, 60)));
    refuse(s, WS_POLICY, &p);
}

// The tree of a message, or NULL: then the connection ends.
static struct jr_tree *parse(struct sync *s, struct span text, enum ws_code code)
{
    struct problem p = PROBLEM_NONE;
    struct jr_tree *tree;
    int err = jr_parse(&tree, text, &p);
    if (err == 0 && jr_type(jr_root(tree)) == JR_OBJECT) return tree;
    if (err == 0) jr_free(tree);
    problem_set(&p, ERR_BAD_JSON, -1, "a message is a JSON object");
    refuse(s, err == ERR_NOMEM ? WS_INTERNAL : code, &p);
    return NULL;
}

void sync_text(struct sync *s, struct span text)
{
    if (s->ending || s->over) return;
    assert(s->held == NULL);
    struct jr_tree *tree = parse(s, text, WS_BAD_DATA);
    if (tree == NULL) return;
    dispatch(s, jr_root(tree), text);
    jr_free(tree);
}

// A line of JSON that says where, and behind it the bytes; or records.
void sync_binary(struct sync *s, struct span bytes)
{
    struct problem p = PROBLEM_NONE;
    if (s->ending || s->over) return;
    assert(s->held == NULL);
    if (bytes.n > 0 && bytes.p[0] == WS_RECORDS_MARK) {
        take_records(s, bytes);
        return;
    }
    struct span head = span_sub(bytes, 0, WS_HEADER_MAX);
    const uint8_t *end = head.n == 0 ? NULL : memchr(head.p, '\n', head.n);
    if (end == NULL || s->session == NULL) {
        problem_set(&p, ERR_BAD_REQUEST, -1, end == NULL ? "a binary message begins with a line of JSON, or is records" : "hello comes first");
        refuse(s, end == NULL ? WS_UNSUPPORTED : WS_POLICY, &p);
        return;
    }
    size_t n = (size_t)(end - bytes.p);
    struct jr_tree *tree = parse(s, span_sub(bytes, 0, n), WS_UNSUPPORTED);
    if (tree == NULL) return;
    struct span data = span_sub(bytes, n + 1, bytes.n);
    append(s, jr_root(tree), &data);
    jr_free(tree);
}
