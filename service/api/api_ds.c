// /apps/<app>/v1/stream/__ds/…: subscriptions of workers by the Durable Streams protocol, and the keys of webhooks (PROTOCOL.md,
// "subscriptions of workers"). What a wake's token speaks for (callback, ack, release) is authorised by the token alone.
#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <strings.h>

#include "api.h"
#include "err.h"
#include "json_read.h"
#include "json_write.h"
#include "origin.h"
#include "stream_headers.h"
#include "subs_glob.h"
#include "subs_run.h"
#include "utf8.h"
#include "webhook_sign.h"
#include "webhook_url.h"

#define LIST_STREAMS 2000 // streams that a listing looks at before others have their turn
#define LIST_BYTES (8 * MIB) // what it says about these, with the longest paths

// One request. Lives until it and its submission are through.
struct ds {
    struct submission submission; // first
    struct request *r;            // NULL once the peer is gone
    struct subs_run *run;
    struct app *app;
    void (*accepted)(struct ds *d, const struct fate *f);
    struct jr_tree *tree;
    struct buf encoded, paths, acks;
    bool submitted;

    char id[SUB_ID_MAX + 1];
    struct span rest;   // of the path, behind the id
    struct sub_op op;
    char token[SUB_TOKEN_MAX]; // of a claim

    // A listing on its way:
    uint64_t born;
    enum { LIST_BY_NAME, LIST_BY_PATTERN, LIST_END } phase;
    struct buf after, resume; // where it stands
    struct buf piece;
    bool some, streaming;
};

static void ds_free(struct ds *d)
{
    jr_free(d->tree);
    buf_free(&d->encoded);
    buf_free(&d->paths);
    buf_free(&d->acks);
    buf_free(&d->after);
    buf_free(&d->resume);
    buf_free(&d->piece);
    explicit_bzero(d->token, sizeof d->token);
    free(d);
}

// ---- errors ---------------------------------------------------------------------------------------------------------

static void put_code(struct jw *w, int err)
{
    char code[64];
    size_t n = 0;
    for (const char *c = err_wire(err); *c != '\0' && n + 1 < sizeof code; c++)
        code[n++] = (char)toupper((unsigned char)*c);
    code[n] = '\0';
    jw_key(w, "code"), jw_cstr(w, code);
}

// A problem as everywhere here, and beside it the form that this protocol knows.
static void reply_ds_problem(struct request *r, const struct problem *p, const struct sub *holder)
{
    struct buf b;
    struct jw w;
    buf_init(&b, 8 * KIB);
    buf_put_u8(&b, '{');
    problem_members(&b, p);
    buf_put_str(&b, ",\"error\":");
    jw_init(&w, &b);
    jw_object(&w);
    put_code(&w, p->err);
    jw_key(&w, "message"), jw_cstr(&w, problem_text(p));
    if (holder != NULL) {
        jw_key(&w, "current_holder"), jw_str(&w, holder->holder);
        jw_key(&w, "generation"), jw_uint(&w, holder->generation);
    }
    jw_end(&w);
    buf_put_u8(&b, '}');
    if (b.err != 0) {
        reply_error(r, b.err);
    } else {
        reply_start(r, err_status(p->err));
        if (p->err == ERR_UNAUTHENTICATED) reply_header(r, "WWW-Authenticate", "Bearer");
        reply_body(r, "application/json", buf_span(&b));
    }
    buf_free(&b);
}

static void reply_refusal(struct ds *d, const struct problem *p)
{
    struct sub s;
    bool claimed = p->err == ERR_ALREADY_CLAIMED && app_sub(d->app, SPAN_STR(d->id), &s) == 1 && s.state == SUB_HELD;
    reply_ds_problem(d->r, p, claimed ? &s : NULL);
}

// ---- a step on its way ----------------------------------------------------------------------------------------------

static void on_fate(struct submission *s, const struct fate *f)
{
    struct ds *d = (struct ds *)s;
    d->submitted = false;
    // The engine is told even if the peer is not there any more.
    if (f->err == 0) subs_run_changed(d->run, d->app, SPAN_STR(d->id));
    if (d->r == NULL) {
        ds_free(d);
        return;
    }
    if (f->err == 0) d->accepted(d, f);
    else reply_refusal(d, &f->problem);
}

static int submit(struct ds *d, void (*accepted)(struct ds *d, const struct fate *f))
{
    struct buf text;
    int err = subs_run_expect(d->run, d->app);
    if (err != 0) return err;
    buf_init(&text, 4 * SUB_BODY_MAX);
    d->op.id = SPAN_STR(d->id);
    sub_op_put(&text, &d->op);
    if (text.err == 0) batch_put_op(&d->encoded, &(struct batch_op){.kind = BATCH_SUBSCRIPTION, .subscription = buf_span(&text)});
    err = text.err != 0 ? text.err : d->encoded.err;
    buf_free(&text);
    if (err != 0) return err;
    d->accepted = accepted;
    d->submission = (struct submission){.identity = d->r->identity, .request = buf_span(&d->encoded), .done = on_fate};
    err = app_submit(d->app, &d->submission);
    d->submitted = err == 0;
    return err;
}

static void reply_nothing(struct ds *d, const struct fate *f)
{
    (void)f;
    reply_start(d->r, 204);
    reply_body(d->r, NULL, SPAN_NONE);
}

// ---- who may --------------------------------------------------------------------------------------------------------

static int admit(struct ds *d, enum verb verb)
{
    const struct auth *auth = server_auth(d->r->server);
    struct span authorization = SPAN_NONE;
    request_header(d->r, "authorization", &authorization);
    int err = auth_identify(auth, authorization, &d->r->identity);
    return err == 0 ? may(auth, &d->r->identity, verb, SPAN_STR(app_name(d->app)), SPAN_STR(d->id)) : err;
}

static int bearer(const struct request *r, struct span *token)
{
    struct span value;
    if (!request_header(r, "authorization", &value) || value.n < 8 || strncasecmp((const char *)value.p, "Bearer ", 7) != 0) return ERR_UNAUTHENTICATED;
    *token = span_sub(value, 7, value.n);
    return 0;
}

// ---- reading what was asked -----------------------------------------------------------------------------------------

static int parse_body(struct ds *d, struct problem *p)
{
    int err = jr_parse(&d->tree, buf_span(&d->r->body), p);
    if (err == 0 && jr_type(jr_root(d->tree)) != JR_OBJECT) err = problem_set(p, ERR_BAD_REQUEST, -1, "the body is not a JSON object");
    return err;
}

static bool is_given(const struct jr *n)
{
    return jr_type(n) != JR_ABSENT && jr_type(n) != JR_NULL;
}

// Left out, null, or a text of at most `max` bytes.
static int get_text(const struct jr *object, const char *key, size_t max, struct span *out, struct problem *p)
{
    const struct jr *value = jr_get(object, key);
    *out = jr_str(value);
    if (!is_given(value) || (jr_type(value) == JR_STRING && out->n <= max)) return 0;
    return problem_set(p, ERR_BAD_REQUEST, -1, "\"%s\" is not a text of at most %zu bytes", key, max);
}

static int check_path(struct span path, struct problem *p)
{
    if (path.n == 0 || path.n > STREAM_PATH_MAX || !utf8_valid(path) || memchr(path.p, 0, path.n) != NULL)
        return problem_set(p, ERR_BAD_REQUEST, -1, "a stream's path is 1 to %d bytes of text", STREAM_PATH_MAX);
    if (span_is(path, "__ds") || span_starts(path, "__ds/")) return problem_set(p, ERR_BAD_REQUEST, -1, "streams under __ds/ are reserved");
    return 0;
}

static int compare_paths(const void *a, const void *b)
{
    return span_compare(*(const struct span *)a, *(const struct span *)b);
}

// The paths of "streams", sorted and each once, as an operation has them.
static int get_paths(struct ds *d, const struct jr *list, struct problem *p)
{
    size_t n = jr_count(list);
    if (jr_type(list) != JR_ARRAY) return problem_set(p, ERR_BAD_REQUEST, -1, "\"streams\" is not a list of paths");
    if (n > SUB_LINKS_MAX) return problem_set(p, ERR_BAD_REQUEST, -1, "a subscription names at most %d streams", SUB_LINKS_MAX);
    struct span *paths = calloc(n + 1, sizeof *paths);
    int err = paths == NULL ? ERR_NOMEM : 0;
    for (size_t i = 0; err == 0 && i < n; i++) {
        paths[i] = jr_str(jr_at(list, i));
        err = check_path(paths[i], p);
    }
    if (err == 0) qsort(paths, n, sizeof *paths, compare_paths);
    for (size_t i = 0; err == 0 && i < n; i++)
        if (i == 0 || !span_equal(paths[i - 1], paths[i])) buf_put_blob(&d->paths, paths[i]);
    free(paths);
    d->op.paths = buf_span(&d->paths);
    return err != 0 ? err : d->paths.err;
}

static int get_target(struct ds *d, const struct jr *root, struct problem *p)
{
    struct sub_op *op = &d->op;
    struct span type = jr_str(jr_get(root, "type"));
    const struct jr *webhook = jr_get(root, "webhook");
    int err = get_text(webhook, "url", SUB_URL_MAX, &op->url, p);
    if (err == 0) err = get_text(root, "wake_stream", STREAM_PATH_MAX, &op->wake_stream, p);
    if (err != 0) return err;
    op->type = span_is(type, "webhook") ? SUB_WEBHOOK : SUB_PULL;
    if (op->type == SUB_PULL && !span_is(type, "pull-wake")) return problem_set(p, ERR_BAD_REQUEST, -1, "\"type\" is webhook or pull-wake");
    if (op->type == SUB_WEBHOOK && op->wake_stream.n > 0) return problem_set(p, ERR_BAD_REQUEST, -1, "a webhook has no wake stream");
    if (op->type == SUB_WEBHOOK) return webhook_url_check(op->url, server_dev(d->r->server), p);
    if (is_given(webhook)) return problem_set(p, ERR_BAD_REQUEST, -1, "pull-wake calls nobody");
    if (span_starts(op->wake_stream, "rows/")) return problem_set(p, ERR_BAD_REQUEST, -1, "a row's stream is not a wake stream");
    return check_path(op->wake_stream, p);
}

static int get_config(struct ds *d, struct problem *p)
{
    struct sub_op *op = &d->op;
    struct subs_glob glob;
    const struct jr *root = jr_root(d->tree), *streams = jr_get(root, "streams"), *lease = jr_get(root, "lease_ttl_ms");
    int err = get_target(d, root, p);
    if (err == 0) err = get_text(root, "pattern", SUB_PATTERN_MAX, &op->pattern, p);
    if (err == 0) err = get_text(root, "description", SUB_TEXT_MAX, &op->description, p);
    if (err == 0 && is_given(streams)) err = get_paths(d, streams, p);
    if (err != 0) return err;
    op->has_description = is_given(jr_get(root, "description"));
    if (op->pattern.n == 0 && op->paths.n == 0) return problem_set(p, ERR_BAD_REQUEST, -1, "a subscription needs a pattern, or streams");
    if (op->pattern.n > 0 && subs_glob_init(&glob, op->pattern) != 0)
        return problem_set(p, ERR_BAD_REQUEST, -1, "the pattern is not one: ** stands for whole segments");
    int64_t ms = is_given(lease) ? jr_int(lease, -1) : SUB_LEASE_MS;
    if (ms < SUB_LEASE_MS_MIN || ms > SUB_LEASE_MS_MAX)
        return problem_set(p, ERR_BAD_REQUEST, -1, "a lease lasts %d to %d milliseconds", SUB_LEASE_MS_MIN, SUB_LEASE_MS_MAX);
    op->lease_ttl_ms = (uint64_t)ms;
    return 0;
}

// ---- showing one ----------------------------------------------------------------------------------------------------

static void put_text_or_null(struct jw *w, const char *key, bool given, struct span text)
{
    jw_key(w, key);
    if (given) jw_str(w, text);
    else jw_null(w);
}

static void put_webhook(struct ds *d, struct jw *w, const struct sub *s)
{
    struct buf url;
    jw_key(w, "webhook");
    if (s->type != SUB_WEBHOOK) {
        jw_null(w);
        return;
    }
    buf_init(&url, KIB);
    origin_put(d->r, &url);
    buf_printf(&url, "/apps/%s/v1/stream/__ds/jwks.json", app_name(d->app));
    jw_object(w);
    jw_key(w, "url"), jw_str(w, s->url);
    jw_key(w, "signing"), jw_object(w);
    jw_key(w, "alg"), jw_cstr(w, "ed25519");
    jw_key(w, "kid"), jw_cstr(w, webhook_signer_kid(subs_run_signer(d->run)));
    jw_key(w, "jwks_url"), jw_str(w, buf_span(&url));
    jw_end(w), jw_end(w);
    buf_free(&url);
}

// All but its streams, without the last brace: those come last, because there may be many.
static void put_head(struct ds *d, const struct sub *s, struct buf *out)
{
    struct jw w;
    jw_init(&w, out);
    jw_object(&w);
    jw_key(&w, "id"), jw_str(&w, s->id);
    jw_key(&w, "subscription_id"), jw_str(&w, s->id);
    jw_key(&w, "type"), jw_cstr(&w, s->type == SUB_WEBHOOK ? "webhook" : "pull-wake");
    put_text_or_null(&w, "pattern", s->pattern.n > 0, s->pattern);
    put_webhook(d, &w, s);
    put_text_or_null(&w, "wake_stream", s->wake_stream.n > 0, s->wake_stream);
    jw_key(&w, "lease_ttl_ms"), jw_uint(&w, s->lease_ttl_ms);
    jw_key(&w, "created_at"), jw_time_ms(&w, (int64_t)s->created_ms);
    jw_key(&w, "status"), jw_cstr(&w, s->next_attempt_ms != 0 ? "failed" : "active");
    if (s->next_attempt_ms != 0) jw_key(&w, "next_attempt_at"), jw_time_ms(&w, (int64_t)s->next_attempt_ms);
    jw_key(&w, "generation"), jw_uint(&w, s->generation);
    put_text_or_null(&w, "description", s->has_description, s->description);
    jw_end(&w);
    if (out->err == 0) buf_truncate(out, out->n - 1);
    buf_put_str(out, ",\"streams\":[");
}

struct listing {
    struct ds *d;
    const struct sub *s;
    size_t left;
    int err;
};

static void put_link(struct listing *l, struct span path, const struct sub_cursor *c)
{
    struct jw w;
    if (l->d->some) buf_put_u8(&l->d->piece, ',');
    jw_init(&w, &l->d->piece);
    sub_stream_json(&w, path, c, false);
    l->d->some = true;
}

static bool list_name(void *ctx, struct span path)
{
    struct listing *l = ctx;
    struct sub_cursor c;
    l->err = app_sub_cursor(l->d->app, l->s, path, &c);
    if (l->err != 0) return false;
    put_link(l, path, &c);
    buf_clear(&l->d->after);
    buf_put_span(&l->d->after, path);
    return --l->left > 0;
}

static bool list_stream(void *ctx, struct span path, const struct stream_info *info)
{
    struct listing *l = ctx;
    struct sub_cursor c;
    (void)info;
    if (!sub_matches(l->s, path)) return true;
    l->err = app_sub_cursor(l->d->app, l->s, path, &c);
    if (l->err == 0 && !c.by_name && c.exists) put_link(l, path, &c);
    return l->err == 0;
}

// Some more of the listing, at most *left streams of it. Each step looks anew: what happens meanwhile is told or not, but never told wrong.
static int list_step(struct ds *d, size_t *left)
{
    struct app *app = d->app;
    struct sub s;
    if (app_txn(app) == NULL || app_sub(app, SPAN_STR(d->id), &s) != 1 || s.born != d->born) return ERR_BUSY;
    struct listing l = {.d = d, .s = &s, .left = *left};
    if (d->phase == LIST_BY_NAME) {
        int err = app_sub_links(app, &s, buf_span(&d->after), list_name, &l);
        if (err != 0) return err;
        if (l.left > 0) d->phase = s.pattern.n > 0 ? LIST_BY_PATTERN : LIST_END;
    } else {
        size_t looked = streams_each(app_streams(app), app_txn(app), &d->resume, *left, list_stream, &l);
        l.left -= looked;
        if (looked == 0) d->phase = LIST_END;
    }
    *left = l.left;
    if (d->phase == LIST_END) buf_put_str(&d->piece, "]}");
    return l.err != 0 ? l.err : d->piece.err;
}

static void list_go(struct request *r)
{
    struct ds *d = r->data;
    if (d == NULL || !d->streaming || d->phase == LIST_END || reply_full(r)) return;
    int err = 0;
    for (size_t left = LIST_STREAMS; err == 0 && left > 0 && d->phase != LIST_END;) // a short one is whole at once
        err = list_step(d, &left);
    if (err != 0) {
        reply_break(r);
        return;
    }
    reply_write_span(r, buf_span(&d->piece));
    buf_clear(&d->piece);
    if (d->phase == LIST_END) reply_end(r);
    else if (!reply_full(r)) request_timer(r, 0, list_go);
}

static void reply_sub(struct ds *d, int status)
{
    struct request *r = d->r;
    struct sub s;
    int found = app_sub(r->app, SPAN_STR(d->id), &s);
    if (found != 1) {
        struct problem p = PROBLEM_NONE;
        int err = found == 0 ? ERR_NO_SUCH_SUBSCRIPTION : found;
        problem_set(&p, err, -1, "%s", err_text(err));
        reply_ds_problem(r, &p, NULL);
        return;
    }
    d->born = s.born;
    buf_clear(&d->piece);
    put_head(d, &s, &d->piece);
    reply_start(r, status);
    reply_header(r, "Cache-Control", "no-store");
    reply_stream(r, "application/json", -1);
    d->streaming = true;
    list_go(r);
}

// ---- PUT, GET, DELETE of one ----------------------------------------------------------------------------------------

static void created(struct ds *d, const struct fate *f)
{
    struct sub s;
    bool new = app_sub(d->app, SPAN_STR(d->id), &s) == 1 && s.born == f->seq;
    reply_sub(d, new ? 201 : 200);
}

static int sub_put(struct ds *d, struct problem *p)
{
    char room[ORIGIN_MAX];
    struct buf origin = {.p = (uint8_t *)room, .cap = sizeof room, .max = sizeof room};
    int err = parse_body(d, p);
    if (err == 0) err = get_config(d, p);
    if (err != 0) return err;
    origin_put(d->r, &origin);
    if (origin.n == 0) return problem_set(p, ERR_BAD_REQUEST, -1, "the Host of the request is no host");
    d->op.step = SUB_CREATE;
    d->op.base = buf_span(&origin);
    return submit(d, created);
}

static int sub_get(struct ds *d, struct problem *p)
{
    (void)p;
    reply_sub(d, 200);
    return 0;
}

static int find(struct ds *d, struct sub *s, struct problem *p)
{
    int found = app_sub(d->app, SPAN_STR(d->id), s);
    if (found == 0) return problem_set(p, ERR_NO_SUCH_SUBSCRIPTION, -1, "no subscription has this id");
    return found < 0 ? found : 0;
}

static int sub_delete(struct ds *d, struct problem *p)
{
    struct sub s;
    int err = find(d, &s, p);
    if (err != 0) return err;
    d->op.step = SUB_DELETE;
    return submit(d, reply_nothing);
}

// ---- links by name --------------------------------------------------------------------------------------------------

static int links_post(struct ds *d, struct problem *p)
{
    struct sub s;
    int err = find(d, &s, p);
    if (err == 0) err = parse_body(d, p);
    if (err == 0) err = get_paths(d, jr_get(jr_root(d->tree), "streams"), p);
    if (err != 0) return err;
    d->op.step = SUB_LINK;
    return submit(d, reply_nothing);
}

static int link_delete(struct ds *d, struct problem *p)
{
    struct sub s;
    int err = find(d, &s, p);
    if (err == 0) err = check_path(d->rest, p);
    if (err != 0) return err;
    buf_put_blob(&d->paths, d->rest);
    d->op.step = SUB_UNLINK;
    d->op.paths = buf_span(&d->paths);
    return d->paths.err != 0 ? d->paths.err : submit(d, reply_nothing);
}

// ---- wakes ----------------------------------------------------------------------------------------------------------

static int get_acks(struct ds *d, const struct jr *list, struct problem *p)
{
    uint64_t offset;
    if (is_given(list) && jr_type(list) != JR_ARRAY) return problem_set(p, ERR_BAD_REQUEST, -1, "\"acks\" is not a list");
    for (size_t i = 0; i < jr_count(list); i++) {
        struct span path = jr_str(jr_get(jr_at(list, i), "stream")), text = jr_str(jr_get(jr_at(list, i), "offset"));
        int err = check_path(path, p);
        if (err != 0) return err;
        if (stream_offset_parse(text, &offset) != 0) return problem_set(p, ERR_BAD_OFFSET, (int64_t)i, "an acknowledged offset is malformed");
        buf_put_blob(&d->acks, path);
        buf_put_varint(&d->acks, offset);
    }
    d->op.acks = buf_span(&d->acks);
    return d->acks.err;
}

// Which wake is meant, and by whom: judged here against what is shown, so that strangers leave no trace in the journal, and once more when it is decided.
static int get_wake(struct ds *d, enum sub_type type, struct problem *p)
{
    const struct jr *root = jr_root(d->tree);
    struct span id = jr_str(jr_get(root, "wake_id")), token;
    int64_t generation = jr_int(jr_get(root, "generation"), -1);
    struct sub s;
    if (bearer(d->r, &token) != 0) return ERR_UNAUTHENTICATED;
    int err = find(d, &s, p);
    if (err != 0) return err;
    if (s.type != type) return problem_set(p, ERR_BAD_REQUEST, -1, "wakes of this subscription are not answered here");
    if (id.n < 2 || generation < 1) return problem_set(p, ERR_BAD_REQUEST, -1, "\"wake_id\" and \"generation\" say which wake is meant");
    d->op.born = s.born;
    d->op.generation = (uint64_t)generation;
    d->op.token = sub_token_hash(token);
    bool known = span_starts(id, "w_") && uuid_parse(&d->op.wake, span_sub(id, 2, id.n)) == 0;
    if (!known || s.state == SUB_IDLE || d->op.generation != s.generation || !uuid_equal(d->op.wake, s.wake))
        return problem_set(p, ERR_FENCED, -1, "another wake is the current one: generation %llu", (unsigned long long)s.generation);
    return sha256_equal(&d->op.token, &s.token) ? 0 : ERR_UNAUTHENTICATED;
}

static void acked(struct ds *d, const struct fate *f)
{
    struct span path;
    struct buf b;
    struct jw w;
    (void)f;
    bool next = d->op.done && subs_run_pending(d->run, d->app, SPAN_STR(d->id), &path);
    buf_init(&b, KIB);
    jw_init(&w, &b);
    jw_object(&w);
    jw_key(&w, "ok"), jw_bool(&w, true);
    jw_key(&w, "next_wake"), jw_bool(&w, next);
    jw_end(&w);
    reply_json(d->r, 200, &b);
    buf_free(&b);
}

static int answer(struct ds *d, enum sub_type type, struct problem *p)
{
    int err = parse_body(d, p);
    if (err == 0) err = get_wake(d, type, p);
    if (err == 0) err = get_acks(d, jr_get(jr_root(d->tree), "acks"), p);
    if (err != 0) return err;
    d->op.step = SUB_ACK;
    d->op.done = jr_bool(jr_get(jr_root(d->tree), "done"), false);
    return submit(d, acked);
}

static int callback_post(struct ds *d, struct problem *p)
{
    return answer(d, SUB_WEBHOOK, p);
}

static int ack_post(struct ds *d, struct problem *p)
{
    return answer(d, SUB_PULL, p);
}

static int release_post(struct ds *d, struct problem *p)
{
    int err = parse_body(d, p);
    if (err == 0) err = get_wake(d, SUB_PULL, p);
    if (err != 0) return err;
    d->op.step = SUB_RELEASE;
    return submit(d, reply_nothing);
}

// Between its fate and now nothing else can have happened to it but its deletion: the token is known to nobody yet.
static void claimed(struct ds *d, const struct fate *f)
{
    struct sub s;
    struct buf b;
    struct jw w;
    char wake[SUB_WAKE_ID_TEXT];
    (void)f;
    if (app_sub(d->app, SPAN_STR(d->id), &s) != 1 || !sha256_equal(&s.token, &d->op.token)) {
        struct problem p = PROBLEM_NONE;
        problem_set(&p, ERR_FENCED, -1, "the subscription is another one now");
        reply_ds_problem(d->r, &p, NULL);
        return;
    }
    sub_wake_id(s.wake, wake);
    buf_init(&b, 4 * SUB_BODY_MAX);
    jw_init(&w, &b);
    jw_object(&w);
    jw_key(&w, "wake_id"), jw_str(&w, SPAN(wake, sizeof wake));
    jw_key(&w, "generation"), jw_uint(&w, s.generation);
    jw_key(&w, "token"), jw_cstr(&w, d->token);
    jw_key(&w, "lease_ttl_ms"), jw_uint(&w, s.lease_ttl_ms);
    jw_key(&w, "streams"), jw_array(&w);
    subs_run_snapshot(d->run, d->app, SPAN_STR(d->id), &w, NULL);
    jw_end(&w), jw_end(&w);
    if (b.err != 0) reply_error(d->r, b.err);
    else reply_json(d->r, 200, &b);
    buf_free(&b);
}

static int claim_post(struct ds *d, struct problem *p)
{
    struct sub s;
    struct sub_op *op = &d->op;
    int err = parse_body(d, p);
    if (err == 0) err = get_text(jr_root(d->tree), "worker", SUB_HOLDER_MAX, &op->holder, p);
    if (err == 0 && op->holder.n == 0) err = problem_set(p, ERR_BAD_REQUEST, -1, "\"worker\" says who claims");
    if (err == 0) err = subs_run_expect(d->run, d->app);
    if (err == 0) err = find(d, &s, p);
    if (err != 0) return err;
    bool found = subs_run_pending(d->run, d->app, SPAN_STR(d->id), &op->stream);
    // What cannot succeed is told at once, and leaves no trace in the journal.
    if (s.type == SUB_PULL && s.state == SUB_IDLE && !found) return problem_set(p, ERR_NOTHING_PENDING, -1, "there is nothing new for this subscription");
    op->step = SUB_CLAIM;
    op->wake = uuid_new();
    op->token = sub_token_new(d->token);
    return submit(d, claimed);
}

// ---- the keys -------------------------------------------------------------------------------------------------------

static void reply_jwks(struct request *r)
{
    struct buf b;
    buf_init(&b, KIB);
    webhook_signer_jwks(subs_run_signer(server_subs(r->server)), &b);
    reply_start(r, 200);
    reply_header(r, "Cache-Control", "public, max-age=300");
    reply_body(r, "application/jwk-set+json", buf_span(&b));
    buf_free(&b);
}

// ---- which of them --------------------------------------------------------------------------------------------------

struct ds_route {
    const char *below; // what follows the id; with a slash at its end, more follows
    enum method method;
    bool by_token;
    enum verb verb;
    int (*go)(struct ds *d, struct problem *p);
};

static const struct ds_route routes[] = {
    {"", METHOD_PUT, false, MAY_CONTROL_SUBSCRIPTIONS, sub_put},
    {"", METHOD_GET, false, MAY_CONTROL_SUBSCRIPTIONS, sub_get},
    {"", METHOD_DELETE, false, MAY_CONTROL_SUBSCRIPTIONS, sub_delete},
    {"/streams", METHOD_POST, false, MAY_CONTROL_SUBSCRIPTIONS, links_post},
    {"/streams/", METHOD_DELETE, false, MAY_CONTROL_SUBSCRIPTIONS, link_delete},
    {"/claim", METHOD_POST, false, MAY_CLAIM_WAKES, claim_post},
    {"/callback", METHOD_POST, true, 0, callback_post},
    {"/ack", METHOD_POST, true, 0, ack_post},
    {"/release", METHOD_POST, true, 0, release_post},
};

// Ids stand in addresses as they are.
static bool id_take(struct ds *d, struct span id)
{
    if (id.n == 0 || id.n > SUB_ID_MAX || span_is(id, ".") || span_is(id, "..")) return false;
    for (size_t i = 0; i < id.n; i++)
        if (!isalnum(id.p[i]) && (id.p[i] == 0 || strchr("-._~:@", id.p[i]) == NULL)) return false;
    memcpy(d->id, id.p, id.n);
    d->id[id.n] = '\0';
    return true;
}

static int dispatch(struct ds *d, struct problem *p)
{
    struct request *r = d->r;
    struct span below = span_sub(r->path, strlen("subscriptions/"), r->path.n);
    const uint8_t *slash = below.n > 0 ? memchr(below.p, '/', below.n) : NULL;
    size_t n = slash == NULL ? below.n : (size_t)(slash - below.p);
    bool there = false;
    if (!span_starts(r->path, "subscriptions/")) return ERR_NOT_FOUND;
    bool valid = id_take(d, span_sub(below, 0, n));
    below = span_sub(below, n, below.n);
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        const struct ds_route *route = &routes[i];
        size_t length = strlen(route->below);
        bool tailed = length > 0 && route->below[length - 1] == '/';
        if (tailed ? !span_starts(below, route->below) || below.n == length : !span_is(below, route->below)) continue;
        there = true;
        if (route->method != r->method) continue;
        d->rest = span_sub(below, length, below.n);
        int err = route->by_token ? 0 : admit(d, route->verb);
        if (err == 0 && !valid) err = problem_set(p, ERR_BAD_REQUEST, -1, "an id is 1 to %d of the letters and digits of ASCII and -._~:@", SUB_ID_MAX);
        if (err == 0 && app_txn(r->app) == NULL) err = ERR_BUSY;
        return err == 0 ? route->go(d, p) : err;
    }
    return there ? ERR_METHOD_NOT_ALLOWED : ERR_NOT_FOUND;
}

static void ds_begin(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    if (r->method == METHOD_GET && span_is(r->path, "jwks.json")) {
        reply_jwks(r);
        return;
    }
    struct ds *d = calloc(1, sizeof *d);
    if (d == NULL) {
        reply_error(r, ERR_NOMEM);
        return;
    }
    r->data = d;
    d->r = r;
    d->run = server_subs(r->server);
    d->app = r->app;
    buf_init(&d->encoded, 4 * SUB_BODY_MAX + KIB);
    buf_init(&d->paths, 2 * SUB_BODY_MAX);
    buf_init(&d->acks, 2 * SUB_BODY_MAX);
    buf_init(&d->after, STREAM_PATH_MAX);
    buf_init(&d->resume, 4 * KIB);
    buf_init(&d->piece, LIST_BYTES);
    int err = dispatch(d, &p);
    if (err == 0) return;
    problem_set(&p, err, -1, "%s", err_text(err));
    reply_refusal(d, &p);
}

static void ds_done(struct request *r)
{
    struct ds *d = r->data;
    if (d == NULL) return;
    d->r = NULL;
    if (!d->submitted) ds_free(d);
}

const struct handler api_ds = {.begin = ds_begin, .drain = list_go, .done = ds_done, .body_max = SUB_BODY_MAX};
