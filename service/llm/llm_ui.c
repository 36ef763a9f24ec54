#include "llm_ui.h"

#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "json_read.h"
#include "json_write.h"

void llm_ui_init(struct llm_ui *u, struct buf *out)
{
    *u = (struct llm_ui){.out = out};
}

void llm_ui_free(struct llm_ui *u)
{
    for (size_t i = 0; i < u->call_count; i++)
        buf_free(&u->calls[i].input);
    free(u->calls);
    u->calls = NULL;
    u->call_count = 0;
}

int llm_ui_err(const struct llm_ui *u)
{
    return u->err != 0 ? u->err : u->out->err;
}

// ---- chunks ---------------------------------------------------------------------------------------------------------

static void chunk_begin(struct jw *w, struct buf *out, const char *type)
{
    buf_put_str(out, "data: ");
    jw_init(w, out);
    jw_object(w);
    jw_key(w, "type"), jw_cstr(w, type);
}

static void chunk_end(struct jw *w)
{
    jw_end(w);
    buf_put_str(w->out, "\n\n");
}

// A chunk with at most one further member.
static void put_chunk(struct buf *out, const char *type, const char *key, struct span value)
{
    struct jw w;
    chunk_begin(&w, out, type);
    if (key != NULL) jw_key(&w, key), jw_str(&w, value);
    chunk_end(&w);
}

static void put_part(struct llm_ui *u, const char *type, const struct span *delta)
{
    struct jw w;
    char id[24];
    struct buf text = {.p = (uint8_t *)id, .cap = sizeof id, .max = sizeof id};
    buf_printf(&text, "%llu", (unsigned long long)u->parts);
    chunk_begin(&w, u->out, type);
    jw_key(&w, "id"), jw_str(&w, buf_span(&text));
    if (delta != NULL) jw_key(&w, "delta"), jw_str(&w, *delta);
    chunk_end(&w);
}

void llm_ui_begin(struct llm_ui *u, struct span message)
{
    assert(!u->begun);
    u->begun = true;
    put_chunk(u->out, "start", "messageId", message);
    put_chunk(u->out, "start-step", NULL, SPAN_NONE);
}

// ---- text and reasoning ---------------------------------------------------------------------------------------------

void llm_ui_part_end(struct llm_ui *u)
{
    if (u->open == LLM_UI_NOTHING) return;
    put_part(u, u->open == LLM_UI_TEXT ? "text-end" : "reasoning-end", NULL);
    u->open = LLM_UI_NOTHING;
}

void llm_ui_text(struct llm_ui *u, struct span delta)
{
    if (delta.n == 0) return;
    assert(u->begun && !u->over);
    if (u->open != LLM_UI_TEXT) {
        llm_ui_part_end(u);
        u->parts++;
        u->open = LLM_UI_TEXT;
        put_part(u, "text-start", NULL);
    }
    put_part(u, "text-delta", &delta);
}

void llm_ui_reasoning(struct llm_ui *u, struct span delta)
{
    if (delta.n == 0) return;
    assert(u->begun && !u->over);
    if (u->open != LLM_UI_REASONING) {
        llm_ui_part_end(u);
        u->parts++;
        u->open = LLM_UI_REASONING;
        put_part(u, "reasoning-start", NULL);
    }
    put_part(u, "reasoning-delta", &delta);
}

// ---- calls of tools -------------------------------------------------------------------------------------------------

static struct llm_ui_call *call_find(const struct llm_ui *u, uint64_t index)
{
    for (size_t i = 0; i < u->call_count; i++)
        if (u->calls[i].index == index) return &u->calls[i];
    return NULL;
}

static struct llm_ui_call *call_add(struct llm_ui *u)
{
    if (u->call_count == LLM_UI_CALLS_MAX) {
        u->err = ERR_TOO_MANY;
        return NULL;
    }
    if (u->calls == NULL) u->calls = calloc(LLM_UI_CALLS_MAX, sizeof *u->calls);
    if (u->calls == NULL) {
        u->err = ERR_NOMEM;
        return NULL;
    }
    return &u->calls[u->call_count++];
}

// False: longer than we keep words.
static bool keep_word(char to[LLM_UI_WORD_MAX], struct span word)
{
    if (word.n >= LLM_UI_WORD_MAX) return false;
    memcpy(to, word.p, word.n);
    to[word.n] = '\0';
    return true;
}

static void put_call(const struct llm_ui_call *c, struct jw *w, struct buf *out, const char *type)
{
    chunk_begin(w, out, type);
    jw_key(w, "toolCallId"), jw_cstr(w, c->id);
    jw_key(w, "toolName"), jw_cstr(w, c->name);
}

void llm_ui_call(struct llm_ui *u, uint64_t index, struct span id, struct span name)
{
    struct jw w;
    assert(u->begun && !u->over);
    if (u->err != 0 || id.n == 0 || name.n == 0 || call_find(u, index) != NULL) return;
    struct llm_ui_call *c = call_add(u);
    if (c == NULL) return;
    c->index = index;
    buf_init(&c->input, LLM_UI_INPUT_MAX);
    if (!keep_word(c->id, id) || !keep_word(c->name, name)) {
        u->err = ERR_TOO_LARGE;
        return;
    }
    llm_ui_part_end(u);
    put_call(c, &w, u->out, "tool-input-start");
    chunk_end(&w);
}

void llm_ui_call_delta(struct llm_ui *u, uint64_t index, struct span json)
{
    struct jw w;
    struct llm_ui_call *c = call_find(u, index);
    if (u->err != 0 || c == NULL || c->ended || json.n == 0) return;
    buf_put_span(&c->input, json);
    u->err = c->input.err;
    chunk_begin(&w, u->out, "tool-input-delta");
    jw_key(&w, "toolCallId"), jw_cstr(&w, c->id);
    jw_key(&w, "inputTextDelta"), jw_str(&w, json);
    chunk_end(&w);
}

static void call_end(struct llm_ui *u, struct llm_ui_call *c)
{
    struct jw w;
    struct jr_tree *tree;
    // A tool without arguments may be called with nothing at all.
    struct span input = c->input.n > 0 ? buf_span(&c->input) : SPAN_LIT("{}");
    if (c->ended) return;
    c->ended = true;
    bool good = jr_parse(&tree, input, NULL) == 0;
    put_call(c, &w, u->out, good ? "tool-input-available" : "tool-input-error");
    jw_key(&w, "input");
    if (good) {
        jr_free(tree);
        // White space may be a line's end, which would end ours.
        for (size_t i = 0; i < c->input.n; i++)
            if (c->input.p[i] == '\n' || c->input.p[i] == '\r') c->input.p[i] = ' ';
        jw_raw(&w, input);
    } else {
        jw_str(&w, input);
        jw_key(&w, "errorText"), jw_cstr(&w, "the model's input for this tool is no JSON");
    }
    chunk_end(&w);
    buf_free(&c->input);
}

void llm_ui_call_end(struct llm_ui *u, uint64_t index)
{
    struct llm_ui_call *c = call_find(u, index);
    if (u->err == 0 && c != NULL) call_end(u, c);
}

// ---- ends -----------------------------------------------------------------------------------------------------------

static void put_done(struct buf *out)
{
    buf_put_str(out, "data: [DONE]\n\n");
}

// The word of the SDK for why a model stopped.
static const char *finish_word(enum llm_finish finish)
{
    static const char *const words[] = {[LLM_FINISH_STOP] = "stop",
                                        [LLM_FINISH_LENGTH] = "length",
                                        [LLM_FINISH_TOOL] = "tool-calls",
                                        [LLM_FINISH_REFUSAL] = "content-filter",
                                        [LLM_FINISH_PAUSE] = "stop"};
    const char *word = (size_t)finish < sizeof words / sizeof *words ? words[finish] : NULL;
    return word != NULL ? word : "other";
}

// `cut`: the inputs of calls that run are not known to be whole, and are left as they are.
static void close_parts(struct llm_ui *u, bool cut)
{
    assert(u->begun && !u->over);
    u->over = true;
    llm_ui_part_end(u);
    for (size_t i = 0; !cut && i < u->call_count; i++)
        call_end(u, &u->calls[i]);
}

void llm_ui_finish(struct llm_ui *u, enum llm_finish finish, struct span metadata)
{
    struct jw w;
    close_parts(u, false);
    put_chunk(u->out, "finish-step", NULL, SPAN_NONE);
    chunk_begin(&w, u->out, "finish");
    // Some providers of calls say "stop" all the same; a client that goes on by itself looks at this word.
    if (finish == LLM_FINISH_STOP && u->call_count > 0) finish = LLM_FINISH_TOOL;
    jw_key(&w, "finishReason"), jw_cstr(&w, finish_word(finish));
    if (metadata.n > 0) jw_key(&w, "messageMetadata"), jw_raw(&w, metadata);
    chunk_end(&w);
    put_done(u->out);
}

void llm_ui_error(struct llm_ui *u, struct span text)
{
    close_parts(u, true);
    llm_ui_close(u->out, text);
}

void llm_ui_abort(struct llm_ui *u, struct span reason)
{
    close_parts(u, true);
    put_chunk(u->out, "abort", "reason", reason);
    put_done(u->out);
}

void llm_ui_close(struct buf *out, struct span error)
{
    put_chunk(out, "error", "errorText", error);
    put_done(out);
}
