// Sending what an outbox has, over a WebSocket: many batches on their way at once, and their fates in their order.
//
//   connect ──> hello ──> welcome: the journal is the right one ──> batches within a window ──> fates, kept ──> … nothing waits: done
//      ▲                                                                  │
//      └──── back off, all without a fate once more, by its name ◄────────┘ broken, busy, no room, stopping
//
// A batch that the service cannot read has no fate, and its counter stays the next one. So it is asked for by its name, for it may have been settled by a service
// that could read it; where it was not, it is put aside, and those behind it, which cannot have been settled either, go on under another replica.
#include <assert.h>
#include <stdio.h>

#include "bug.h"
#include "err.h"
#include "file.h"
#include "json_read.h"
#include "json_write.h"
#include "limits.h"
#include "outbox_impl.h"
#include "ws.h"

#define STEP_MS 100
#define ANSWER_MAX (4 * MIB)

// How a connection ends, beside a broken one.
enum { END_AGAIN = 1, END_ANEW, END_NOW };

struct flying {
    uint64_t id;
    size_t bytes;
};

struct sender {
    struct segue_outbox *o;
    struct segue *s;
    const struct segue_outbox_send_options *what;
    struct backoff backoff;
    struct outbox_head head;
    struct buf room, message;
    // Of this connection:
    struct ws *ws;
    bool welcome;
    uint64_t sent; // the last id
    struct flying flying[OUTBOX_WINDOW];
    size_t count, bytes;
    struct outbox_fate landed[OUTBOX_WINDOW]; // fates that have come and are not kept yet: together they cost what one does
    size_t landed_count;
    struct buf answers; // theirs
    uint64_t suspect;  // one that cannot be read, and is asked about; 0: none
    struct buf refusal; // what was said of it
    int result;        // of the call, behind END_NOW
};

// ---- ends ------------------------------------------------------------------------------------------------------

static int end_now(struct sender *t, int result)
{
    t->result = result;
    return END_NOW;
}

static int end_with(struct sender *t, const char *code, struct span detail)
{
    int result = client_fail(t->s, SEGUE_REFUSED, ERR_INTERNAL, "%.*s", SPAN_FMT(span_sub(detail, 0, 2000)));
    snprintf(t->s->code, sizeof t->s->code, "%s", code); // not each is in this library's table
    return end_now(t, result);
}

static int end_of_store(struct sender *t, int err)
{
    return end_now(t, outbox_fail(t->o, err));
}

// ---- fates -----------------------------------------------------------------------------------------------------

static void land(struct sender *t, uint64_t id)
{
    for (size_t i = 0; i < t->count; i++) {
        if (t->flying[i].id != id) continue;
        t->bytes -= t->flying[i].bytes;
        memmove(&t->flying[i], &t->flying[i + 1], (t->count - i - 1) * sizeof t->flying[0]);
        t->count--;
        return;
    }
}

static int tell(struct sender *t, uint64_t id)
{
    struct segue_outbox_entry entry;
    struct outbox_item item;
    if (t->what->on_fate == NULL) return 0;
    int err = outbox_store_next_settled(t->o->store, id - 1, &item, &t->room);
    if (err == ERR_NOT_FOUND || (err == 0 && item.id != id)) return 0; // another one has seen it already
    if (err != 0) return end_of_store(t, err);
    int result = outbox_show(t->o, &item, &entry);
    if (result != SEGUE_OK) return end_now(t, result);
    return t->what->on_fate(t->what->ctx, &entry) == 0 ? 0 : end_now(t, client_canceled(t->s));
}

static int put_member(void *ctx, struct span key, const struct jr *value)
{
    struct jw *w = ctx;
    if (span_is(key, "type") || span_is(key, "id") || span_is(key, "again")) return 0;
    jw_key_span(w, key);
    jr_write(value, w);
    return 0;
}

// Appends what the message says of the batch, without what made it a message: as an answer over HTTP has it.
static int put_answer(const struct jr *m, struct buf *out)
{
    struct jw w;
    jw_init(&w, out);
    jw_object(&w);
    jr_each(m, put_member, &w);
    jw_end(&w);
    return out->err;
}

// What has come is kept, and told. Also where the connection is over: it would come again, but why.
static int keep_landed(struct sender *t)
{
    size_t count = t->landed_count;
    if (count == 0) return 0;
    t->landed_count = 0;
    int err = outbox_store_settle(t->o->store, t->landed, count, buf_span(&t->answers));
    if (err != 0) return end_of_store(t, err);
    t->backoff = (struct backoff){0};
    int end = 0;
    for (size_t i = 0; i < count && end == 0; i++)
        end = tell(t, t->landed[i].id);
    return end;
}

static int settle(struct sender *t, uint64_t id, enum outbox_state state, const struct jr *m)
{
    int end = t->landed_count == OUTBOX_WINDOW || t->answers.n > OUTBOX_WINDOW_BYTES ? keep_landed(t) : 0;
    if (end != 0) return end;
    if (t->landed_count == 0) buf_clear(&t->answers);
    size_t at = t->answers.n;
    int err = put_answer(m, &t->answers);
    if (err != 0) return end_of_store(t, err);
    t->landed[t->landed_count++] = (struct outbox_fate){.id = id, .state = state, .at = at, .n = t->answers.n - at};
    land(t, id);
    return 0;
}

// It has no fate, and will not have one.
static int put_aside(struct sender *t)
{
    int end = keep_landed(t);
    if (end != 0) return end;
    int err = outbox_store_refuse(t->o->store, t->suspect, buf_span(&t->refusal));
    if (err != 0) return end_of_store(t, err);
    t->backoff = (struct backoff){0};
    end = tell(t, t->suspect);
    return end != 0 ? end : END_ANEW;
}

static int take_fate(struct sender *t, const struct jr *m)
{
    const struct jr *tag = jr_get(m, "id");
    bool asked = span_is(jr_str(tag), "suspect") && t->suspect != 0;
    uint64_t id = asked ? t->suspect : (uint64_t)jr_int(tag, 0);
    if (!asked && (t->count == 0 || t->flying[0].id != id)) return END_AGAIN; // they come in their order: this is no service's
    int end = settle(t, id, span_is(jr_str(jr_get(m, "fate")), "accepted") ? OUTBOX_ACCEPTED : OUTBOX_REJECTED, m);
    if (end == 0 && asked) end = END_ANEW; // those behind it were answered with a gap
    return end;
}

// ---- errors ----------------------------------------------------------------------------------------------------

// Errors that say nothing of the batch, and that another try does not mend.
static bool is_final(int err)
{
    static const int these[] = {ERR_UNAUTHENTICATED, ERR_FORBIDDEN, ERR_NO_SUCH_APP, ERR_COUNTER_GAP, ERR_NAME_REUSED, ERR_REPLICA_BOUND};
    for (size_t i = 0; i < sizeof these / sizeof *these; i++)
        if (err == these[i]) return true;
    int status = err_status(err);
    return status >= 500 && status != 503 && status != 507;
}

static bool is_passing(int err)
{
    int status = err_status(err);
    return status == 503 || status == 507 || status == 429 || status == 408;
}

static int ask_about(struct sender *t, uint64_t id, const struct jr *m)
{
    struct outbox_item item;
    char replica[UUID_TEXT];
    buf_clear(&t->refusal);
    int err = put_answer(m, &t->refusal);
    if (err == 0) err = outbox_store_next_waiting(t->o->store, id - 1, &item, &t->room);
    if (err != 0) return end_of_store(t, err);
    uuid_format(item.replica, replica);
    buf_clear(&t->message);
    buf_printf(&t->message, "{\"type\":\"fate\",\"id\":\"suspect\",\"replica\":\"%.36s\",\"counter\":%llu}", replica, (unsigned long long)item.counter);
    t->suspect = id;
    err = t->message.err != 0 ? t->message.err : ws_send_text(t->ws, buf_span(&t->message));
    return err == 0 ? 0 : end_of_store(t, err);
}

static int take_error(struct sender *t, const struct jr *m)
{
    char code[64];
    // Fates that came before it first: a program that is told of one may ask something of the client, which forgets its last error then.
    int kept = keep_landed(t);
    if (kept != 0) return kept;
    snprintf(code, sizeof code, "%.*s", SPAN_FMT(span_sub(jr_str(jr_get(m, "code")), 0, sizeof code - 1)));
    const struct jr *tag = jr_get(m, "id");
    int err = err_from_wire(code);
    if (t->suspect != 0 && span_is(jr_str(tag), "suspect") && err == ERR_NO_FATE) return put_aside(t);
    if (is_passing(err)) return end_with(t, code, jr_str(jr_get(m, "detail"))), END_AGAIN; // told if the time to try again is over
    uint64_t id = span_is(jr_str(tag), "suspect") ? t->suspect : (uint64_t)jr_int(tag, 0);
    if (t->suspect != 0 && id != t->suspect) return 0; // the gap that it makes
    if (err == ERR_COUNTER_GAP && t->count > 0 && id != t->flying[0].id) return END_AGAIN; // of one that failed
    if (id != 0 && err == ERR_FATE_EXPIRED) {
        int end = settle(t, id, OUTBOX_EXPIRED, m);
        return end == 0 && id == t->suspect ? END_ANEW : end;
    }
    if (id == 0 || t->suspect != 0 || is_final(err)) return end_with(t, code, jr_str(jr_get(m, "detail")));
    return ask_about(t, id, m);
}

// ---- the connection --------------------------------------------------------------------------------------------

static int take_welcome(struct sender *t, const struct jr *m)
{
    struct uuid journal;
    if (uuid_parse(&journal, jr_str(jr_get(m, "journal"))) != 0) return END_AGAIN;
    int err = 0;
    if (t->head.bound && !uuid_equal(t->head.journal, journal))
        return end_with(t, "other_journal", SPAN_LIT("this is another service than the one that the outbox has sent to, or it was restored from a backup"));
    if (!t->head.bound) err = outbox_store_bind(t->o->store, journal);
    t->head.bound = true;
    t->head.journal = journal;
    t->head.told_seq = (uint64_t)jr_int(jr_get(m, "seq"), 0);
    if (err == 0) err = outbox_store_know(t->o->store, t->head.told_seq, 0);
    t->welcome = true;
    return err == 0 ? 0 : end_of_store(t, err);
}

static int on_text(void *ctx, struct span text)
{
    struct sender *t = ctx;
    struct jr_tree *tree = NULL;
    if (jr_parse(&tree, text, NULL) != 0) return END_AGAIN;
    const struct jr *m = jr_root(tree);
    struct span type = jr_str(jr_get(m, "type"));
    int end = 0;
    if (span_is(type, "welcome"))
        end = take_welcome(t, m);
    else if (span_is(type, "fate"))
        end = take_fate(t, m);
    else if (span_is(type, "error"))
        end = take_error(t, m);
    else if (span_is(type, "commit"))
        t->head.told_seq = (uint64_t)jr_int(jr_get(m, "to"), (int64_t)t->head.told_seq);
    jr_free(tree); // what a later service says beside these is not for this library
    return end;
}

static int send_batch(struct sender *t, const struct outbox_item *item)
{
    struct buf *m = &t->message;
    char replica[UUID_TEXT];
    uuid_format(item->replica, replica);
    buf_clear(m);
    buf_printf(m, "{\"type\":\"batch\",\"id\":%llu,\"replica\":\"%.36s\",\"counter\":%llu,", (unsigned long long)item->id, replica, (unsigned long long)item->counter);
    if (item->base != 0) buf_printf(m, "\"base\":%llu,", (unsigned long long)item->base);
    if (item->stamp != 0) buf_printf(m, "\"stamp\":%llu,", (unsigned long long)item->stamp);
    buf_put_span(m, item->text);
    buf_put_u8(m, '}');
    int err = m->err != 0 ? m->err : ws_send_text(t->ws, buf_span(m));
    if (err != 0) return end_of_store(t, err);
    t->flying[t->count++] = (struct flying){item->id, m->n};
    t->bytes += m->n;
    t->sent = item->id;
    return 0;
}

// Sends on while the window is open. When nothing waits any more, all is done.
static int fill(struct sender *t)
{
    struct outbox_item item;
    while (t->suspect == 0 && t->count < OUTBOX_WINDOW && t->bytes < OUTBOX_WINDOW_BYTES) {
        int err = outbox_store_next_waiting(t->o->store, t->sent, &item, &t->room);
        if (err == ERR_NOT_FOUND) return t->count == 0 ? end_now(t, SEGUE_OK) : 0;
        if (err == 0 && item.counter == 0) {
            err = outbox_store_name(t->o->store, OUTBOX_WINDOW, t->head.told_seq);
            if (err == 0) continue;
        }
        if (err != 0) return end_of_store(t, err);
        if (t->count > 0 && t->bytes + item.text.n > OUTBOX_WINDOW_BYTES) return 0;
        int end = send_batch(t, &item);
        if (end != 0) return end;
    }
    return 0;
}

static int talk(struct sender *t)
{
    int end = ws_send_text(t->ws, SPAN_LIT("{\"type\":\"hello\",\"protocol\":1}"));
    if (end != 0) return end_of_store(t, end);
    while (end == 0) {
        if (client_stopped(t->s)) return end_now(t, client_canceled(t->s));
        if (t->welcome) end = fill(t);
        if (end == 0) end = ws_step(t->ws, STEP_MS, on_text, t);
        int kept = keep_landed(t);
        if (kept != 0) return kept;
    }
    return end < 0 ? END_AGAIN : end;
}

static int connect_once(struct sender *t)
{
    int status, end;
    struct segue *s = t->s;
    t->welcome = false;
    t->sent = t->count = t->bytes = t->suspect = t->landed_count = 0;
    int err = ws_open(&t->ws, s, &status, &t->message);
    if (err == 0 || err == ERR_BAD_REQUEST) s->reached = true;
    if (err == 0) {
        end = talk(t);
        ws_close(t->ws);
        t->ws = NULL;
        if (t->welcome) outbox_store_know(t->o->store, t->head.told_seq, 0); // a failure of it costs nothing: what is about to fail says more
        if (end == END_AGAIN && s->error.result == SEGUE_OK) client_fail(s, SEGUE_UNREACHABLE, ERR_UNREACHABLE, "the connection broke");
        return end;
    }
    struct span said = buf_span(&t->message);
    if (err == ERR_BAD_REQUEST) {
        client_refuse(s, status, said);
        return status == 503 || status == 429 || status == 408 ? END_AGAIN : end_now(t, SEGUE_REFUSED);
    }
    if (err == ERR_CANCELED) return end_now(t, client_canceled(s));
    if (err != ERR_UNREACHABLE) return end_now(t, client_fail(s, SEGUE_USAGE, err, "%s", err_text(err)));
    client_fail(s, SEGUE_UNREACHABLE, err, "%.*s", SPAN_FMT(said));
    return END_AGAIN;
}

static int run(struct sender *t)
{
    for (;;) {
        if (client_stopped(t->s)) return client_canceled(t->s);
        int err = outbox_store_head(t->o->store, &t->head);
        if (err != 0) return outbox_fail(t->o, err);
        if (t->head.waiting == 0) return SEGUE_OK;
        int end = connect_once(t);
        if (end == END_NOW) return t->result;
        if (bug("outbox_renames")) outbox_store_adopt(t->o->store);
        if (end == END_AGAIN && !client_backoff(t->s, &t->backoff, false)) return t->s->error.result;
        client_begin(t->s);
    }
}

int segue_outbox_send(struct segue_outbox *o, const struct segue_outbox_send_options *options)
{
    static const struct segue_outbox_send_options none;
    struct sender t = {.o = o, .s = o->client, .what = options != NULL ? options : &none};
    client_begin(o->client);
    int fd = outbox_store_lock_sender(o->store);
    if (fd < 0) return client_fail(o->client, SEGUE_REFUSED, ERR_BUSY, "another one sends from this outbox");
    buf_init(&t.room, 2 * BATCH_BYTES_MAX);
    buf_init(&t.message, 2 * BATCH_BYTES_MAX);
    buf_init(&t.refusal, ANSWER_MAX);
    buf_init(&t.answers, OUTBOX_WINDOW_BYTES + 2 * ANSWER_MAX);
    int result = run(&t);
    buf_free(&t.room);
    buf_free(&t.message);
    buf_free(&t.refusal);
    buf_free(&t.answers);
    file_close(fd);
    return result;
}
