// What is on its way, what is said, and how it ends. What a client says is read in sync_messages.c.
#include <assert.h>
#include <stdlib.h>

#include "api.h"
#include "err.h"
#include "message.h"
#include "sync_impl.h"

// ---- saying --------------------------------------------------------------------------------------------------------------

// What had to be said and could not be put together is an end: silence would be worse.
void sync_say(struct sync *s, struct buf *message)
{
    if (s->over) {
        buf_free(message);
        return;
    }
    if (message->err != 0) {
        s->over = true;
        s->ops->end(s->carrier, WS_INTERNAL, "out_of_memory");
    } else if (!s->ops->send(s->carrier, buf_span(message))) {
        s->full = true;
    }
    buf_free(message);
}

#define REPLY_MAX (ENTRY_BYTES_MAX + 64 * KIB) // a fate with its ids

void sync_message_begin(struct buf *b, struct jw *w, const char *type)
{
    buf_init(b, REPLY_MAX);
    jw_init(w, b);
    jw_object(w);
    jw_key(w, "type"), jw_cstr(w, type);
}

static void put_problem(struct jw *w, const struct problem *p)
{
    jw_key(w, "code"), jw_cstr(w, err_wire(p->err));
    jw_key(w, "detail"), jw_cstr(w, problem_text(p));
    if (p->position >= 0) jw_key(w, "position"), jw_int(w, p->position);
}

void sync_say_error(struct sync *s, const char *key, struct span value, const struct problem *p)
{
    struct buf b;
    struct jw w;
    sync_message_begin(&b, &w, "error");
    if (key != NULL) jw_key(&w, key), jw_raw(&w, value);
    put_problem(&w, p);
    jw_end(&w);
    sync_say(s, &b);
}

void sync_say_name_error(struct sync *s, struct span name, const struct problem *p)
{
    struct buf text;
    struct jw w;
    buf_init(&text, 8 * KIB);
    jw_init(&w, &text);
    jw_str(&w, span_sub(name, 0, 256));
    sync_say_error(s, "name", buf_span(&text), p);
    buf_free(&text);
}

// One message for all that were settled since the last one.
static void say_acks(struct sync *s)
{
    hub_drop(&s->acks);
    if (s->over || s->settled == s->told) return;
    struct buf b;
    assert(s->settled > s->told);
    s->told = s->settled;
    buf_init(&b, 128);
    buf_printf(&b, "{\"type\":\"fate\",\"upto\":%llu}", (unsigned long long)s->told);
    sync_say(s, &b);
}

static void on_acks(struct hub_item *item)
{
    say_acks((struct sync *)((char *)item - offsetof(struct sync, acks)));
}

// ---- ending --------------------------------------------------------------------------------------------------------------

static void end_if_due(struct sync *s)
{
    if (!s->ending || s->over || s->calls > 0 || s->held != NULL) return;
    say_acks(s);
    if (s->problem.err != 0) sync_say_error(s, NULL, SPAN_NONE, &s->problem);
    app_user_remove(&s->user);
    if (s->over) return;
    s->over = true;
    s->ops->end(s->carrier, s->code, s->reason);
}

void sync_call_free(struct call *call)
{
    buf_free(&call->encoded);
    free(call);
}

static void held_free(struct sync *s)
{
    for (struct call *call; (call = s->held) != NULL;) {
        s->held = (struct call *)call->submission.next;
        sync_call_free(call);
    }
}

void sync_end(struct sync *s, enum ws_code code, const char *reason, const struct problem *p)
{
    if (s->ending || s->over) return;
    s->ending = true;
    s->code = code;
    snprintf(s->reason, sizeof s->reason, "%s", reason);
    if (p != NULL) s->problem = *p;
    sync_tx_close(s);
    held_free(s); // nobody has them: no fate will come
    end_if_due(s);
}

void sync_end_with(struct sync *s, int err)
{
    struct problem p = PROBLEM_NONE;
    problem_set(&p, err, -1, "%s", err_text(err));
    sync_end(s, err == ERR_SHUTTING_DOWN ? WS_GOING_AWAY : err == ERR_BUSY ? WS_RESTART : err == ERR_NO_SUCH_APP ? WS_POLICY : WS_INTERNAL, err_wire(err), &p);
}

static void on_reset(struct app_user *user, int err)
{
    struct sync *s = (struct sync *)((char *)user - offsetof(struct sync, user));
    sync_tx_close(s);
    sync_end_with(s, err);
}

// ---- the session's carrier -----------------------------------------------------------------------------------------------

size_t sync_put_tail(struct buf *out, const struct message *m)
{
    struct span json = bytes_span(m->json);
    assert(json.n > 0 && json.p[json.n - 1] == '}');
    if (m->cursor[0] != '\0') buf_printf(out, ",\"cursor\":\"%s\"", m->cursor);
    buf_put_str(out, "}");
    return json.n - 1;
}

void sync_put_message(struct buf *out, const struct message *m)
{
    struct buf tail;
    buf_init(&tail, MESSAGE_CURSOR_MAX + 32);
    buf_put_span(out, span_sub(bytes_span(m->json), 0, sync_put_tail(&tail, m)));
    buf_put_span(out, buf_span(&tail));
    buf_free(&tail);
}

static bool on_session_send(void *carrier, struct message *m)
{
    struct sync *s = carrier;
    struct buf b;
    say_acks(s); // what was submitted here is answered before it is told
    if (s->ops->send_shared != NULL) {
        if (!s->over && !s->ops->send_shared(s->carrier, m)) s->full = true;
        return !s->full;
    }
    buf_init(&b, m->json->n + 256);
    sync_put_message(&b, m);
    sync_say(s, &b);
    return !s->full;
}

static void on_session_end(void *carrier, int err)
{
    sync_end_with(carrier, err);
}

static void on_session_lost(void *carrier, const char *name, int err)
{
    struct problem p = PROBLEM_NONE;
    problem_set(&p, err, -1, "%s", session_why(err));
    sync_say_name_error(carrier, SPAN_STR(name), &p);
}

const struct session_carrier sync_session_carrier = {.send_shared = on_session_send, .lost = on_session_lost, .end = on_session_end};

// ---- submitting ----------------------------------------------------------------------------------------------------------

void sync_say_fate(struct sync *s, const struct call *call, const struct fate *f)
{
    struct buf b;
    struct jw w;
    sync_message_begin(&b, &w, f->err == 0 || f->journaled ? "fate" : "error");
    if (call->append > 0) jw_key(&w, "append"), jw_uint(&w, call->append);
    if (call->tag[0] != '\0') jw_key(&w, "id"), jw_raw(&w, SPAN_STR(call->tag));
    if (f->err == 0) {
        fate_members(&w, f, call->ops);
    } else {
        if (f->journaled) jw_key(&w, "fate"), jw_cstr(&w, "rejected");
        if (f->journaled && f->again) jw_key(&w, "again"), jw_bool(&w, true);
        put_problem(&w, &f->problem);
        if (f->err == ERR_CONFLICT) jw_key(&w, "conflicts"), fate_conflicts(&w, f);
        if (f->expected != 0) jw_key(&w, "expected"), jw_uint(&w, f->expected);
    }
    jw_end(&w);
    sync_say(s, &b);
}

static void settle_append(struct sync *s, const struct call *call, bool in_turn)
{
    assert(s->appends_open > 0);
    s->appends_open--;
    // One that goes no further overtakes those on their way: it is counted with a later one of these, or when none is left.
    if (in_turn) s->settled = call->append;
    if (s->appends_open == 0) s->settled = s->appends;
    hub_wake_answer(s->options.hub, &s->acks);
}

static void tell(struct sync *s, const struct call *call, const struct fate *f, bool in_turn)
{
    if (call->append == 0 || f->err != 0) sync_say_fate(s, call, f);
    if (call->append > 0) settle_append(s, call, in_turn);
}

static void on_fate(struct submission *submission, const struct fate *f)
{
    struct call *call = (struct call *)submission;
    struct sync *s = call->sync;
    bool busy = sync_busy(s);
    s->calls--;
    s->bytes -= call->encoded.n;
    if (!s->closed) tell(s, call, f, true);
    sync_call_free(call);
    if (s->closed && s->calls == 0) {
        free(s);
        return;
    }
    if (s->closed) return;
    end_if_due(s);
    if (busy && !sync_busy(s)) s->ops->resume(s->carrier);
}

void sync_call_fail(struct sync *s, struct call *call, int err, struct problem *p)
{
    struct fate f = {.err = err, .problem = *p};
    problem_set(&f.problem, err, -1, "%s", err_text(err));
    tell(s, call, &f, false);
    sync_call_free(call);
}

// Where too many are waiting for a turn of the app this one waits here, and so do all behind it, in their order.
static void hold(struct sync *s, struct call *call)
{
    call->submission.next = NULL;
    if (s->held == NULL) s->held = call;
    else s->held_last->submission.next = &call->submission;
    s->held_last = call;
}

// False: the app takes no more now.
static bool submit(struct sync *s, struct call *call)
{
    struct problem p = PROBLEM_NONE;
    int err = app_submit(s->options.app, &call->submission);
    if (err == ERR_BUSY && app_txn(s->options.app) != NULL) return false;
    if (err != 0) {
        sync_call_fail(s, call, err, &p);
        return true;
    }
    s->calls++;
    s->bytes += call->encoded.n;
    return true;
}

void sync_submit(struct sync *s, struct call *call)
{
    call->submission.done = on_fate;
    if (s->held == NULL && submit(s, call)) return;
    hold(s, call);
    s->ops->resume(s->carrier);
}

void sync_retry(struct sync *s)
{
    while (s->held != NULL) {
        struct call *call = s->held;
        struct submission *next = call->submission.next;
        if (!submit(s, call)) {
            call->submission.next = next;
            s->ops->resume(s->carrier);
            break;
        }
        s->held = (struct call *)next;
    }
    end_if_due(s);
}

// ---- life ------------------------------------------------------------------------------------------------------------------

int sync_open(struct sync **out, const struct sync_options *options, const struct sync_carrier *ops, void *carrier)
{
    if (app_txn(options->app) == NULL) return ERR_BUSY;
    struct sync *s = calloc(1, sizeof *s);
    if (s == NULL) return ERR_NOMEM;
    s->options = *options;
    s->ops = ops;
    s->carrier = carrier;
    s->problem = PROBLEM_NONE;
    s->acks.run = on_acks;
    s->more.run = sync_query_turn;
    app_user_add(options->app, &s->user, on_reset);
    *out = s;
    return 0;
}

void sync_close(struct sync *s)
{
    if (s == NULL) return;
    assert(!s->closed);
    s->over = s->closed = true;
    session_close(s->session);
    s->session = NULL;
    sync_tx_close(s);
    app_user_remove(&s->user);
    hub_drop(&s->acks);
    held_free(s);
    if (s->calls == 0) free(s);
}

bool sync_busy(const struct sync *s)
{
    return s->held != NULL || s->query != NULL || s->full || s->calls >= WS_WINDOW || s->bytes >= WS_WINDOW_BYTES;
}

void sync_drain(struct sync *s)
{
    s->full = false;
    if (sync_query_go_on(s) && s->full) return;
    if (s->session != NULL && !s->over) session_drain(s->session);
}

bool sync_begun(const struct sync *s)
{
    return s->session != NULL;
}
