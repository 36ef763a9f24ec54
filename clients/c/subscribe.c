// Subscriptions: one connection for all queries, streams and uploads; whatever breaks it, it goes on after the last cursor.
//
//   connect ──► welcome ──► snapshot pieces ──► live commits ──► …
//      ▲                                             │
//      └──── back off, Last-Event-ID: the cursor ◄───┘ broken, silent for too long, or ended
#include <stdio.h>

#include "client.h"
#include "err.h"
#include "json_read.h"
#include "limits.h"
#include "sse.h"

#define SILENCE_S (3 * HEARTBEAT_MS / 1000)
#define CURSOR_MAX (16 * KIB)

struct subscriber {
    struct segue *client;
    const struct segue_subscribe_options *what;
    struct buf path;
    struct sse sse;
    struct buf cursor; // of the last message that had one; a string once there is one
    struct backoff backoff;
    bool done;
    int result;
};

// ---- what is asked for -----------------------------------------------------------------------------------------

static const char *const kinds[] = {[SEGUE_QUERY] = "query.", [SEGUE_STREAM] = "stream.", [SEGUE_UPLOAD] = "upload."};

static void put_path(struct buf *path, const struct segue_subscribe_options *what)
{
    buf_put_str(path, "subscribe");
    for (size_t i = 0; i < what->count; i++) {
        const struct segue_subscription *w = &what->subscriptions[i];
        buf_put_str(path, i == 0 ? "?" : "&");
        buf_put_str(path, kinds[w->kind]);
        client_put_encoded(path, SPAN_STR(w->name), false);
        buf_put_u8(path, '=');
        client_put_encoded(path, SPAN_STR(w->what), true);
        if (w->branch == NULL) continue;
        buf_put_str(path, "&branch.");
        client_put_encoded(path, SPAN_STR(w->name), false);
        buf_put_u8(path, '=');
        client_put_encoded(path, SPAN_STR(w->branch), false);
    }
    for (size_t i = 0; i < what->param_count; i++) {
        const struct segue_param *p = &what->params[i];
        buf_put_str(path, "&p.");
        client_put_encoded(path, SPAN_STR(p->query), false);
        buf_printf(path, ".%u=", p->number);
        client_put_encoded(path, SPAN_STR(p->value), false);
    }
    for (size_t i = 0; i < what->follow_count; i++) {
        buf_put_str(path, "&follow.");
        client_put_encoded(path, SPAN_STR(what->follows[i].query), false);
        buf_put_u8(path, '=');
        client_put_encoded(path, SPAN_STR(what->follows[i].column), true);
    }
    buf_put_u8(path, 0);
}

// ---- messages --------------------------------------------------------------------------------------------------

static int stop(struct subscriber *s, int result)
{
    s->done = true;
    s->result = result;
    return ERR_CANCELED;
}

// An error ends the subscription, but for what another attempt may mend: that is left to the end of the connection. One that names a query would come again.
static int take_error(struct subscriber *s, const struct jr *m)
{
    char code[64];
    snprintf(code, sizeof code, "%.*s", SPAN_FMT(span_sub(jr_str(jr_get(m, "code")), 0, sizeof code - 1)));
    int status = err_status(err_from_wire(code));
    struct span name = jr_str(jr_get(m, "name"));
    if (status == 503 || (status == 429 && name.n == 0)) return 0;
    struct segue *c = s->client;
    int result = client_fail(c, SEGUE_REFUSED, ERR_INTERNAL, "%.*s%s%.*s", SPAN_FMT(span_sub(name, 0, 64)), name.n > 0 ? ": " : "", SPAN_FMT(span_sub(jr_str(jr_get(m, "detail")), 0, 2000)));
    snprintf(c->code, sizeof c->code, "%s", code); // a later service's code may be none that is known here
    return stop(s, result);
}

// Messages are the caller's to read: only one that may be an error is looked into.
static int look_for_error(struct subscriber *s, struct span data)
{
    struct jr_tree *tree = NULL;
    if (memmem(data.p, data.n, "\"error\"", 7) == NULL || jr_parse(&tree, data, NULL) != 0) return 0;
    int err = span_is(jr_str(jr_get(jr_root(tree), "type")), "error") ? take_error(s, jr_root(tree)) : 0;
    jr_free(tree);
    return err;
}

// A service that greets, and goes away again, has not got anybody on.
static bool is_progress(struct span data)
{
    return !span_starts(data, "{\"type\":\"welcome\"") && !span_starts(data, "{\"type\":\"error\"");
}

static int on_event(void *ctx, struct span data, struct span id)
{
    struct subscriber *s = ctx;
    bool has_cursor = s->sse.named && id.n > 0; // of its own: the last one named stands for other events too
    if (is_progress(data)) s->backoff = (struct backoff){0};
    struct buf cursor;
    buf_init(&cursor, CURSOR_MAX);
    buf_put_span(&cursor, id);
    buf_put_u8(&cursor, 0);
    int err = cursor.err;
    const struct segue_message message = {.json = (const char *)data.p, .n = data.n, .cursor = has_cursor ? (const char *)cursor.p : NULL};
    if (err == 0 && s->what->on_message(s->what->ctx, &message) != 0) err = stop(s, client_canceled(s->client));
    if (err == 0) err = look_for_error(s, data);
    if (err == 0 && has_cursor) {
        buf_clear(&s->cursor);
        buf_put_span(&s->cursor, buf_span(&cursor));
        err = s->cursor.err;
    }
    buf_free(&cursor);
    return err;
}

// ---- the connection --------------------------------------------------------------------------------------------

static int on_body(void *ctx, struct span piece)
{
    struct subscriber *s = ctx;
    s->client->reached = true;
    int err = sse_feed(&s->sse, piece, on_event, s);
    if (err != 0 && !s->done) err = stop(s, client_broken(s->client, err));
    return err;
}

static int connect_once(struct subscriber *s)
{
    struct buf header;
    buf_init(&header, CURSOR_MAX + KIB);
    buf_put_str(&header, "Last-Event-ID: ");
    buf_put_span(&header, buf_span(&s->cursor));
    const struct http_request request = {
        .method = "GET",
        .path = (const char *)s->path.p,
        .headers = {"Accept: text/event-stream", s->cursor.n > 1 ? client_string(&header) : NULL},
        .on_body = on_body,
        .ctx = s,
        .stop = s->client->stop,
        .silence_s = SILENCE_S,
    };
    sse_restart(&s->sse);
    int err = header.err != 0 ? header.err : client_send(s->client, &request);
    buf_free(&header);
    return err;
}

// After an attempt that is over: SEGUE_OK to make another one, after a while.
static int after_break(struct subscriber *s, int err)
{
    struct segue *c = s->client;
    int status = http_status(c->http);
    if (err != 0 && err != ERR_UNREACHABLE) return client_broken(c, err);
    bool refused = err == 0 && (status < 200 || status > 299);
    if (refused && !client_again(c)) return client_refused(c);
    if (s->backoff.began_us == 0 && c->reached && s->what->on_break != NULL)
        s->what->on_break(s->what->ctx, err != 0 ? http_error(c->http) : "ended by the service");
    if (client_backoff(c, &s->backoff, true)) return SEGUE_OK;
    return refused ? client_refused(c) : client_broken(c, ERR_UNREACHABLE);
}

static int run(struct subscriber *s)
{
    for (;;) {
        if (client_stopped(s->client)) return client_canceled(s->client);
        int err = connect_once(s);
        if (s->done) return s->result;
        int result = after_break(s, err);
        if (result != SEGUE_OK) return result;
    }
}

int segue_subscribe(struct segue *client, const struct segue_subscribe_options *what)
{
    struct subscriber s = {.client = client, .what = what};
    client_begin(client);
    buf_init(&s.path, HTTP_TARGET_MAX);
    buf_init(&s.cursor, CURSOR_MAX);
    sse_init(&s.sse);
    put_path(&s.path, what);
    if (what->cursor != NULL) {
        buf_put_str(&s.cursor, what->cursor);
        buf_put_u8(&s.cursor, 0);
    }
    int result = SEGUE_OK;
    if (s.path.err != 0)
        result = client_fail(client, SEGUE_USAGE, ERR_USAGE, "the subscriptions are longer than %u bytes together", HTTP_TARGET_MAX);
    if (s.cursor.err != 0) result = client_fail(client, SEGUE_USAGE, ERR_USAGE, "the cursor is too long");
    if (result == SEGUE_OK) result = run(&s);
    sse_free(&s.sse);
    buf_free(&s.cursor);
    buf_free(&s.path);
    return result;
}
