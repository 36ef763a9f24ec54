// A reply as a UI message stream: the events of llm_event.h, told to llm_ui.h.
#include <stdlib.h>

#include "err.h"
#include "json_write.h"
#include "llm_event.h"
#include "llm_ui.h"

struct ui {
    struct llm_ui ui;
    struct llm_usage usage;
    enum llm_finish finish;
    char message[LLM_UI_WORD_MAX], model[LLM_WORD_MAX];
};

// ---- ends -----------------------------------------------------------------------------------------------------------

static void put_metadata(const struct ui *x, struct buf *out)
{
    struct jw w;
    jw_init(&w, out);
    jw_object(&w);
    if (x->model[0] != '\0') jw_key(&w, "model"), jw_cstr(&w, x->model);
    if (llm_usage_known(&x->usage)) {
        jw_key(&w, "usage"), jw_object(&w);
        jw_key(&w, "inputTokens"), jw_int(&w, x->usage.input);
        jw_key(&w, "outputTokens"), jw_int(&w, x->usage.output);
        if (x->usage.total >= 0) jw_key(&w, "totalTokens"), jw_int(&w, x->usage.total);
        jw_end(&w);
    }
    jw_end(&w);
}

static void finish(struct ui *x)
{
    struct buf metadata;
    buf_init(&metadata, 4 * KIB);
    put_metadata(x, &metadata);
    llm_ui_finish(&x->ui, x->finish, buf_span(&metadata));
    buf_free(&metadata);
}

static void end(struct ui *x, const struct llm_event *e)
{
    if (x->ui.over) return;
    if (strcmp(e->state, "done") == 0)
        finish(x);
    else if (strcmp(e->state, "cancelled") == 0)
        llm_ui_abort(&x->ui, e->message);
    else
        llm_ui_error(&x->ui, e->message);
}

// ---- parts ----------------------------------------------------------------------------------------------------------

static void begin_part(struct ui *x, const struct llm_event *e)
{
    char room[32];
    struct buf id = {.p = (uint8_t *)room, .cap = sizeof room, .max = sizeof room};
    if (e->part != LLM_TOOL) return; // its first delta opens it
    buf_printf(&id, "call_%u", e->index);
    llm_ui_call(&x->ui, e->index, e->tool_id.n > 0 ? e->tool_id : buf_span(&id), e->tool_name);
}

static void delta(struct ui *x, const struct llm_event *e)
{
    if (e->part == LLM_TOOL)
        llm_ui_call_delta(&x->ui, e->index, e->data);
    else if (e->part == LLM_REASONING)
        llm_ui_reasoning(&x->ui, e->data);
    else
        llm_ui_text(&x->ui, e->data); // a refusal is text that people have to see
}

static void take(struct ui *x, const struct llm_event *e)
{
    switch (e->kind) {
    case LLM_START:
        if (e->model.n < sizeof x->model) memcpy(x->model, e->model.p, e->model.n), x->model[e->model.n] = '\0';
        break;
    case LLM_PART_BEGIN: begin_part(x, e); break;
    case LLM_PART_DELTA: delta(x, e); break;
    case LLM_PART_SIGNATURE: break; // a chat's history does not go back with it
    case LLM_PART_END:
        if (e->part == LLM_TOOL)
            llm_ui_call_end(&x->ui, e->index);
        else
            llm_ui_part_end(&x->ui);
        break;
    case LLM_USAGE: x->usage = e->usage; break;
    case LLM_FINISH: x->finish = e->finish; break;
    case LLM_ERROR: break; // the job's end tells it
    case LLM_END: end(x, e); break;
    }
}

// ---- the writer -----------------------------------------------------------------------------------------------------

static void ui_event(struct llm_writer *w, const struct llm_event *e, struct buf *out)
{
    struct ui *x = w->own;
    x->ui.out = out;
    if (!x->ui.begun && e->kind == LLM_END && strcmp(e->state, "interrupted") == 0) { // another process has begun it
        llm_ui_close(out, e->message);
        return;
    }
    if (!x->ui.begun) llm_ui_begin(&x->ui, SPAN_STR(x->message));
    take(x, e);
    // The job sees to it that a message which could not be written is none.
    if (x->ui.err != 0 && out->err == 0) out->err = x->ui.err;
}

static void ui_free(struct llm_writer *w)
{
    struct ui *x = w->own;
    llm_ui_free(&x->ui);
    free(x);
}

void llm_writer_ui_name(struct llm_writer *w, struct span message)
{
    struct ui *x = w->own;
    if (message.n == 0 || message.n >= sizeof x->message) return;
    memcpy(x->message, message.p, message.n);
    x->message[message.n] = '\0';
}

int llm_writer_ui(struct llm_writer *w, struct uuid id)
{
    struct ui *x = calloc(1, sizeof *x);
    char name[UUID_TEXT];
    if (x == NULL) return ERR_NOMEM;
    llm_ui_init(&x->ui, NULL);
    x->usage = LLM_USAGE_UNKNOWN;
    *w = (struct llm_writer){.event = ui_event, .free = ui_free, .own = x, .type = "text/event-stream"};
    uuid_format(id, name);
    llm_writer_ui_name(w, SPAN(name, UUID_TEXT));
    return 0;
}
