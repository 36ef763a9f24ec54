// A reply as a UI message stream: the events of llm_event.h, told to llm_ui.h.
#include <stdlib.h>

#include "err.h"
#include "llm_event.h"
#include "llm_ui.h"

struct ui {
    struct llm_ui ui;
    char message[UUID_TEXT];
    struct span finish; // points into `reason`
    char reason[LLM_WORD_MAX];
    bool finished;
};

static void ui_part(struct llm_ui *u, const struct llm_event *e)
{
    bool tool = e->part == LLM_TOOL;
    if (e->kind == LLM_PART_BEGIN && tool)
        llm_ui_call(u, e->index, e->tool_id, e->tool_name);
    else if (e->kind == LLM_PART_DELTA && tool)
        llm_ui_call_delta(u, e->index, e->data);
    else if (e->kind == LLM_PART_END && tool)
        llm_ui_call_end(u, e->index);
    else if (e->kind == LLM_PART_DELTA && e->part == LLM_REASONING)
        llm_ui_reasoning(u, e->data);
    else if (e->kind == LLM_PART_DELTA)
        llm_ui_text(u, e->data); // a refusal is text that people have to see
}

static void ui_end(struct ui *own, const struct llm_event *e, struct buf *out)
{
    bool cancelled = strcmp(e->state, "cancelled") == 0;
    if (!own->ui.begun && !cancelled && strcmp(e->state, "interrupted") == 0)
        llm_ui_close(out, e->message);
    else if (own->finished && strcmp(e->state, "done") == 0)
        llm_ui_finish(&own->ui, own->finish, SPAN_NONE);
    else if (cancelled)
        llm_ui_abort(&own->ui, e->message);
    else
        llm_ui_error(&own->ui, e->message);
}

static void ui_event(struct llm_writer *w, const struct llm_event *e, struct buf *out)
{
    struct ui *own = w->own;
    own->ui.out = out;
    bool beginning = e->kind != LLM_END || strcmp(e->state, "interrupted") != 0;
    if (!own->ui.begun && beginning) llm_ui_begin(&own->ui, SPAN(own->message, UUID_TEXT));
    if (e->kind >= LLM_PART_BEGIN && e->kind <= LLM_PART_END) ui_part(&own->ui, e);
    if (e->kind == LLM_FINISH) {
        size_t n = e->reason.n < sizeof own->reason ? e->reason.n : sizeof own->reason;
        if (n > 0) memcpy(own->reason, e->reason.p, n);
        own->finish = SPAN(own->reason, n);
        own->finished = true;
    }
    if (e->kind == LLM_END) ui_end(own, e, out);
    if (llm_ui_err(&own->ui) != 0 && out->err == 0) out->err = llm_ui_err(&own->ui);
}

static void ui_free(struct llm_writer *w)
{
    struct ui *own = w->own;
    llm_ui_free(&own->ui);
    free(own);
}

int llm_writer_ui(struct llm_writer *w, struct uuid id)
{
    struct ui *own = calloc(1, sizeof *own);
    if (own == NULL) return ERR_NOMEM;
    llm_ui_init(&own->ui, NULL);
    uuid_format(id, own->message);
    *w = (struct llm_writer){.event = ui_event, .free = ui_free, .own = own, .type = "text/event-stream"};
    return 0;
}
