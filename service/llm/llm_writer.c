// The forms in which a reply is stored that are made here: plain text, and typed messages.
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "json_write.h"
#include "llm_event.h"

static void text_event(struct llm_writer *w, const struct llm_event *e, struct buf *out)
{
    (void)w;
    // A refusal is what the model answered: people have to see it.
    if (e->kind == LLM_PART_DELTA && (e->part == LLM_TEXT || e->part == LLM_REFUSAL)) buf_put_span(out, e->data);
}

void llm_writer_text(struct llm_writer *w)
{
    *w = (struct llm_writer){.event = text_event, .type = "text/plain; charset=utf-8"};
}

// ---- messages -------------------------------------------------------------------------------------------------------

static void put_count(struct jw *w, const char *key, int64_t n)
{
    jw_key(w, key);
    n >= 0 ? jw_int(w, n) : jw_null(w);
}

static void put_word(struct jw *w, const char *key, struct span word)
{
    jw_key(w, key);
    word.n > 0 ? jw_str(w, word) : jw_null(w);
}

static void put_usage(struct jw *w, const struct llm_usage *u)
{
    jw_key(w, "known"), jw_bool(w, llm_usage_known(u));
    put_count(w, "input", u->input);
    put_count(w, "output", u->output);
    put_count(w, "total", u->total);
    put_count(w, "cached", u->cached);
    put_count(w, "reasoning", u->reasoning);
}

// Tool calls that are open: their end tells the whole of them, so that nobody acts on half a call, wherever he began to read. One that
// began before a restart is not here any more, nor one for which there was no room: its end tells nothing of it.
struct open_call {
    uint32_t index;
    struct buf arguments;
    char id[LLM_WORD_MAX], name[LLM_WORD_MAX];
};

struct open_calls {
    struct open_call *list;
    size_t count;
};

static struct open_call *call_find(struct llm_writer *w, uint32_t index)
{
    struct open_calls *calls = w->own;
    for (size_t i = 0; calls != NULL && i < calls->count; i++)
        if (calls->list[i].index == index) return &calls->list[i];
    return NULL;
}

static void call_begin(struct llm_writer *w, const struct llm_event *e)
{
    struct open_calls *calls = w->own != NULL ? w->own : (w->own = calloc(1, sizeof *calls));
    struct open_call *list = NULL;
    if (calls == NULL || e->tool_id.n >= LLM_WORD_MAX || e->tool_name.n >= LLM_WORD_MAX) return;
    list = realloc(calls->list, (calls->count + 1) * sizeof *list);
    if (list == NULL) return;
    calls->list = list;
    struct open_call *new = &list[calls->count++];
    *new = (struct open_call){.index = e->index};
    buf_init(&new->arguments, LLM_ARGUMENTS_MAX);
    if (e->tool_id.n > 0) memcpy(new->id, e->tool_id.p, e->tool_id.n);
    if (e->tool_name.n > 0) memcpy(new->name, e->tool_name.p, e->tool_name.n);
}

static void call_end(struct llm_writer *w, struct open_call *call)
{
    struct open_calls *calls = w->own;
    buf_free(&call->arguments);
    *call = calls->list[--calls->count];
}

static void calls_free(struct llm_writer *w)
{
    struct open_calls *calls = w->own;
    while (calls != NULL && calls->count > 0)
        call_end(w, &calls->list[0]);
    if (calls != NULL) free(calls->list);
    free(calls);
    w->own = NULL;
}

static const char *type_of(const struct llm_event *e)
{
    static const char *const names[] = {[LLM_START] = "start",         [LLM_PART_BEGIN] = "begin", [LLM_PART_DELTA] = "delta",
                                        [LLM_PART_SIGNATURE] = "signature", [LLM_PART_END] = "end",     [LLM_USAGE] = "usage",
                                        [LLM_FINISH] = "finish",       [LLM_ERROR] = "error",      [LLM_END] = "closed"};
    return names[e->kind];
}

static void put_call(struct jw *w, struct llm_writer *writer, uint32_t index)
{
    struct open_call *call = call_find(writer, index);
    if (call == NULL || call->arguments.err != 0) return;
    put_word(w, "id", SPAN_STR(call->id));
    jw_key(w, "name"), jw_cstr(w, call->name);
    jw_key(w, "arguments"), jw_str(w, buf_span(&call->arguments));
}

static void put_part(struct jw *w, struct llm_writer *writer, const struct llm_event *e)
{
    jw_key(w, "index"), jw_uint(w, e->index);
    jw_key(w, "part"), jw_cstr(w, llm_part_name(e->part));
    if (e->kind == LLM_PART_DELTA) jw_key(w, "text"), jw_str(w, e->data);
    if (e->kind == LLM_PART_SIGNATURE) jw_key(w, "signature"), jw_str(w, e->data);
    if (e->kind == LLM_PART_END && e->part == LLM_TOOL) put_call(w, writer, e->index);
    if (e->kind != LLM_PART_BEGIN || e->part != LLM_TOOL) return;
    put_word(w, "id", e->tool_id);
    jw_key(w, "name"), jw_str(w, e->tool_name);
}

static void put_members(struct jw *w, struct llm_writer *writer, const struct llm_event *e)
{
    switch (e->kind) {
    case LLM_START:
        put_word(w, "id", e->id);
        put_word(w, "model", e->model);
        break;
    case LLM_PART_BEGIN:
    case LLM_PART_DELTA:
    case LLM_PART_SIGNATURE:
    case LLM_PART_END: put_part(w, writer, e); break;
    case LLM_USAGE: put_usage(w, &e->usage); break;
    case LLM_FINISH:
        jw_key(w, "finish"), jw_cstr(w, llm_finish_name(e->finish));
        put_word(w, "reason", e->reason);
        break;
    case LLM_END:
        jw_key(w, "state"), jw_cstr(w, e->state);
        if (e->code.n == 0) break;
        // fall through
    case LLM_ERROR:
        put_word(w, "code", e->code);
        put_word(w, "message", e->message);
        break;
    }
}

static void keep_call(struct llm_writer *w, const struct llm_event *e)
{
    struct open_call *call = call_find(w, e->index);
    if (e->kind == LLM_PART_BEGIN) call_begin(w, e);
    if (e->kind == LLM_PART_DELTA && call != NULL) buf_put_span(&call->arguments, e->data);
    if (e->kind == LLM_PART_END && call != NULL) call_end(w, call);
}

static void message_event(struct llm_writer *writer, const struct llm_event *e, struct buf *out)
{
    struct jw w;
    bool of_call = e->kind >= LLM_PART_BEGIN && e->kind <= LLM_PART_END && e->part == LLM_TOOL;
    jw_init(&w, out);
    jw_object(&w);
    jw_key(&w, "type"), jw_cstr(&w, type_of(e));
    put_members(&w, writer, e);
    jw_end(&w);
    buf_put(out, ",\n", 2);
    if (of_call) keep_call(writer, e);
}

void llm_writer_messages(struct llm_writer *w)
{
    *w = (struct llm_writer){.event = message_event, .free = calls_free, .json = true, .type = "application/json"};
}

// ---- forms ----------------------------------------------------------------------------------------------------------

// The bytes come past it.
static void no_event(struct llm_writer *w, const struct llm_event *e, struct buf *out)
{
    (void)w, (void)e, (void)out;
}

int llm_writer_init(struct llm_writer *w, enum llm_form form, struct uuid id)
{
    *w = (struct llm_writer){.event = no_event, .type = "text/event-stream"};
    if (form == LLM_FORM_UI) return llm_writer_ui(w, id);
    if (form == LLM_FORM_TEXT) llm_writer_text(w);
    if (form == LLM_FORM_MESSAGES) llm_writer_messages(w);
    return 0;
}

void llm_writer_free(struct llm_writer *w)
{
    if (w->free != NULL) w->free(w);
    *w = (struct llm_writer){.event = no_event};
}
