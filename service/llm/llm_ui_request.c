#include "llm_ui_request.h"

#include "err.h"
#include "json_read.h"
#include "json_write.h"

#define MAX_TOKENS 4096 // of an answer in the one format that has to be told

// One message being written.
struct writer {
    struct jw w;
    enum llm_api api;
    struct span role;
    struct problem *p;
};

static int refuse(struct writer *x, const char *what)
{
    return problem_set(x->p, ERR_BAD_REQUEST, -1, "%s", what);
}

static void put(struct jw *w, const char *key, const char *value)
{
    jw_key(w, key), jw_cstr(w, value);
}

static void put_span(struct jw *w, const char *key, struct span value)
{
    jw_key(w, key), jw_str(w, value);
}

// ---- parts ----------------------------------------------------------------------------------------------------------

static struct span part_type(const struct jr *part)
{
    return jr_str(jr_get(part, "type"));
}

static bool is_step(const struct jr *part)
{
    return span_is(part_type(part), "step-start");
}

static bool is_text(const struct jr *part)
{
    return span_is(part_type(part), "text") && jr_str(jr_get(part, "text")).n > 0;
}

static bool is_file(const struct jr *part)
{
    return span_is(part_type(part), "file");
}

// A call whose input is complete. What a user has not answered yet, or what broke off, is not told.
static bool is_call(const struct jr *part)
{
    struct span state = jr_str(jr_get(part, "state"));
    bool tool = span_starts(part_type(part), "tool-") || span_is(part_type(part), "dynamic-tool");
    return tool && (span_is(state, "output-available") || span_is(state, "output-error"));
}

static struct span call_name(const struct jr *part)
{
    struct span type = part_type(part);
    return span_is(type, "dynamic-tool") ? jr_str(jr_get(part, "toolName")) : span_sub(type, 5, type.n);
}

static struct span call_id(const struct jr *part)
{
    return jr_str(jr_get(part, "toolCallId"));
}

static bool call_failed(const struct jr *part)
{
    return span_is(jr_str(jr_get(part, "state")), "output-error");
}

// A JSON value as text within a string: arguments, outputs. Text itself stays as it is where `plain`.
static int put_as_text(struct writer *x, const struct jr *value, bool plain)
{
    struct buf text;
    struct jw w;
    if (plain && jr_type(value) == JR_STRING) {
        jw_str(&x->w, jr_str(value));
        return 0;
    }
    buf_init(&text, x->w.out->max);
    jw_init(&w, &text);
    jr_write(value, &w);
    jw_str(&x->w, buf_span(&text));
    int err = text.err;
    buf_free(&text);
    return err;
}

static int put_output(struct writer *x, const struct jr *part)
{
    return put_as_text(x, jr_get(part, call_failed(part) ? "errorText" : "output"), true);
}

static int put_input(struct writer *x, const struct jr *part)
{
    const struct jr *input = jr_get(part, "input");
    if (input != NULL && jr_type(input) != JR_NULL) return put_as_text(x, input, false);
    jw_cstr(&x->w, "{}");
    return 0;
}

// ---- files ----------------------------------------------------------------------------------------------------------

static bool is_image(const struct jr *part)
{
    return span_starts(jr_str(jr_get(part, "mediaType")), "image/");
}

static bool is_pdf(const struct jr *part)
{
    return span_is(jr_str(jr_get(part, "mediaType")), "application/pdf");
}

static struct span file_name(const struct jr *part)
{
    struct span name = jr_str(jr_get(part, "filename"));
    return name.n > 0 ? name : SPAN_LIT("file.pdf");
}

// data:<type>;base64,<data>: the data; empty for another URL.
static struct span data_of(struct span url)
{
    static const char mark[] = ";base64,";
    if (!span_starts(url, "data:")) return SPAN_NONE;
    const uint8_t *at = memmem(url.p, url.n, mark, sizeof mark - 1);
    if (at == NULL) return SPAN_NONE;
    return span_sub(url, (size_t)(at - url.p) + sizeof mark - 1, url.n);
}

static void put_chat_file(struct jw *w, const struct jr *part)
{
    bool image = is_image(part);
    jw_object(w);
    put(w, "type", image ? "image_url" : "file");
    jw_key(w, image ? "image_url" : "file"), jw_object(w);
    if (!image) put_span(w, "filename", file_name(part));
    put_span(w, image ? "url" : "file_data", jr_str(jr_get(part, "url")));
    jw_end(w);
    jw_end(w);
}

static void put_responses_file(struct jw *w, const struct jr *part)
{
    struct span url = jr_str(jr_get(part, "url"));
    bool image = is_image(part), data = span_starts(url, "data:");
    jw_object(w);
    put(w, "type", image ? "input_image" : "input_file");
    if (!image && data) put_span(w, "filename", file_name(part));
    put_span(w, image ? "image_url" : data ? "file_data" : "file_url", url);
    jw_end(w);
}

static void put_messages_file(struct jw *w, const struct jr *part)
{
    struct span url = jr_str(jr_get(part, "url")), data = data_of(url);
    jw_object(w);
    put(w, "type", is_image(part) ? "image" : "document");
    jw_key(w, "source"), jw_object(w);
    put(w, "type", data.n > 0 ? "base64" : "url");
    if (data.n > 0) put_span(w, "media_type", jr_str(jr_get(part, "mediaType")));
    put_span(w, data.n > 0 ? "data" : "url", data.n > 0 ? data : url);
    jw_end(w);
    jw_end(w);
}

static int put_file(struct writer *x, const struct jr *part)
{
    struct span url = jr_str(jr_get(part, "url"));
    if (!span_is(x->role, "user")) return 0; // what a model made is not told to it again
    if (!is_image(part) && !is_pdf(part)) return refuse(x, "a file part is neither an image nor a PDF");
    if (url.n == 0) return refuse(x, "a file part has no url");
    if (span_starts(url, "data:") && data_of(url).n == 0) return refuse(x, "a file part's data URL is not in base64");
    if (!span_starts(url, "data:") && !is_image(part) && x->api == LLM_CHAT)
        return refuse(x, "a PDF has to be a data URL for this provider");
    if (x->api == LLM_CHAT)
        put_chat_file(&x->w, part);
    else if (x->api == LLM_RESPONSES)
        put_responses_file(&x->w, part);
    else
        put_messages_file(&x->w, part);
    return 0;
}

// ---- content --------------------------------------------------------------------------------------------------------

static const char *text_type(const struct writer *x)
{
    return x->api != LLM_RESPONSES ? "text" : span_is(x->role, "assistant") ? "output_text" : "input_text";
}

static void put_text_block(struct writer *x, const struct jr *part)
{
    jw_object(&x->w);
    put(&x->w, "type", text_type(x));
    put_span(&x->w, "text", jr_str(jr_get(part, "text")));
    jw_end(&x->w);
}

static size_t count_parts(const struct jr *parts, size_t from, size_t to, bool (*is)(const struct jr *part))
{
    size_t n = 0;
    for (size_t i = from; i < to; i++)
        if (is(jr_at(parts, i))) n++;
    return n;
}

// Texts and files from `from` to `to`, as blocks of the array that is open.
static int put_blocks(struct writer *x, const struct jr *parts, size_t from, size_t to)
{
    int err = 0;
    for (size_t i = from; err == 0 && i < to; i++) {
        const struct jr *part = jr_at(parts, i);
        if (is_text(part)) put_text_block(x, part);
        if (is_file(part)) err = put_file(x, part);
    }
    return err;
}

// Texts alone, as one string: what every provider takes.
static int put_plain(struct writer *x, const struct jr *parts, size_t from, size_t to)
{
    struct buf text;
    buf_init(&text, x->w.out->max);
    for (size_t i = from; i < to; i++)
        if (is_text(jr_at(parts, i))) buf_put_span(&text, jr_str(jr_get(jr_at(parts, i), "text")));
    jw_str(&x->w, buf_span(&text));
    int err = text.err;
    buf_free(&text);
    return err;
}

static int put_content(struct writer *x, const struct jr *parts, size_t from, size_t to)
{
    jw_key(&x->w, "content");
    if (count_parts(parts, from, to, is_file) == 0 && x->api == LLM_CHAT) return put_plain(x, parts, from, to);
    jw_array(&x->w);
    int err = put_blocks(x, parts, from, to);
    jw_end(&x->w);
    return err;
}

static int put_message(struct writer *x, const struct jr *parts, size_t from, size_t to)
{
    size_t files = span_is(x->role, "user") ? count_parts(parts, from, to, is_file) : 0;
    if (count_parts(parts, from, to, is_text) + files == 0) return 0;
    jw_object(&x->w);
    put_span(&x->w, "role", x->role);
    int err = put_content(x, parts, from, to);
    jw_end(&x->w);
    return err;
}

// ---- an assistant's step, with its calls ----------------------------------------------------------------------------

static int put_chat_call(struct writer *x, const struct jr *part)
{
    struct jw *w = &x->w;
    jw_object(w);
    put_span(w, "id", call_id(part));
    put(w, "type", "function");
    jw_key(w, "function"), jw_object(w);
    put_span(w, "name", call_name(part));
    jw_key(w, "arguments");
    int err = put_input(x, part);
    jw_end(w);
    jw_end(w);
    return err;
}

static int put_chat_step(struct writer *x, const struct jr *parts, size_t from, size_t to)
{
    struct jw *w = &x->w;
    jw_object(w);
    put(w, "role", "assistant");
    jw_key(w, "content");
    int err = put_plain(x, parts, from, to);
    jw_key(w, "tool_calls"), jw_array(w);
    for (size_t i = from; err == 0 && i < to; i++)
        if (is_call(jr_at(parts, i))) err = put_chat_call(x, jr_at(parts, i));
    jw_end(w);
    jw_end(w);
    for (size_t i = from; err == 0 && i < to; i++) {
        const struct jr *part = jr_at(parts, i);
        if (!is_call(part)) continue;
        jw_object(w);
        put(w, "role", "tool");
        put_span(w, "tool_call_id", call_id(part));
        jw_key(w, "content");
        err = put_output(x, part);
        jw_end(w);
    }
    return err;
}

static int put_responses_step(struct writer *x, const struct jr *parts, size_t from, size_t to)
{
    struct jw *w = &x->w;
    int err = put_message(x, parts, from, to);
    for (size_t i = from; err == 0 && i < to; i++) {
        const struct jr *part = jr_at(parts, i);
        if (!is_call(part)) continue;
        jw_object(w);
        put(w, "type", "function_call");
        put_span(w, "call_id", call_id(part));
        put_span(w, "name", call_name(part));
        jw_key(w, "arguments");
        err = put_input(x, part);
        jw_end(w);
        jw_object(w);
        put(w, "type", "function_call_output");
        put_span(w, "call_id", call_id(part));
        jw_key(w, "output");
        if (err == 0) err = put_output(x, part);
        jw_end(w);
    }
    return err;
}

static void put_tool_use(struct jw *w, const struct jr *part)
{
    const struct jr *input = jr_get(part, "input");
    jw_object(w);
    put(w, "type", "tool_use");
    put_span(w, "id", call_id(part));
    put_span(w, "name", call_name(part));
    jw_key(w, "input");
    if (jr_type(input) == JR_OBJECT)
        jr_write(input, w);
    else
        jw_raw(w, SPAN_LIT("{}"));
    jw_end(w);
}

static int put_tool_result(struct writer *x, const struct jr *part)
{
    struct jw *w = &x->w;
    jw_object(w);
    put(w, "type", "tool_result");
    put_span(w, "tool_use_id", call_id(part));
    jw_key(w, "content");
    int err = put_output(x, part);
    if (call_failed(part)) jw_key(w, "is_error"), jw_bool(w, true);
    jw_end(w);
    return err;
}

static int put_messages_step(struct writer *x, const struct jr *parts, size_t from, size_t to)
{
    struct jw *w = &x->w;
    jw_object(w);
    put(w, "role", "assistant");
    jw_key(w, "content"), jw_array(w);
    int err = put_blocks(x, parts, from, to);
    for (size_t i = from; i < to; i++)
        if (is_call(jr_at(parts, i))) put_tool_use(w, jr_at(parts, i));
    jw_end(w);
    jw_end(w);
    jw_object(w);
    put(w, "role", "user");
    jw_key(w, "content"), jw_array(w);
    for (size_t i = from; err == 0 && i < to; i++)
        if (is_call(jr_at(parts, i))) err = put_tool_result(x, jr_at(parts, i));
    jw_end(w);
    jw_end(w);
    return err;
}

static int put_step(struct writer *x, const struct jr *parts, size_t from, size_t to)
{
    if (count_parts(parts, from, to, is_call) == 0) return put_message(x, parts, from, to);
    return x->api == LLM_CHAT        ? put_chat_step(x, parts, from, to)
           : x->api == LLM_RESPONSES ? put_responses_step(x, parts, from, to)
                                           : put_messages_step(x, parts, from, to);
}

// ---- messages -------------------------------------------------------------------------------------------------------

static int check_message(struct writer *x, const struct jr *message)
{
    const struct jr *parts = jr_get(message, "parts");
    if (jr_type(message) != JR_OBJECT) return refuse(x, "a message is not an object");
    x->role = jr_str(jr_get(message, "role"));
    if (!span_is(x->role, "user") && !span_is(x->role, "assistant") && !span_is(x->role, "system"))
        return refuse(x, "a message's role is user, assistant or system");
    if (jr_type(parts) != JR_ARRAY) return refuse(x, "a message has no parts");
    for (size_t i = 0; i < jr_count(parts); i++) {
        const struct jr *part = jr_at(parts, i);
        if (part_type(part).n == 0) return refuse(x, "a part has no type");
        if (is_call(part) && (call_id(part).n == 0 || call_name(part).n == 0)) return refuse(x, "a call of a tool has no id or name");
    }
    return 0;
}

static int put_ui_message(struct writer *x, const struct jr *message)
{
    int err = check_message(x, message);
    if (err != 0) return err;
    const struct jr *parts = jr_get(message, "parts");
    size_t n = jr_count(parts), from = 0;
    if (span_is(x->role, "system") && x->api == LLM_MESSAGES) return 0; // told apart from messages
    for (size_t i = 0; err == 0 && i <= n; i++) {
        if (i < n && !is_step(jr_at(parts, i))) continue;
        err = put_step(x, parts, from, i);
        from = i + 1;
    }
    return err;
}

// This format has the system's words beside the messages. A body's own `system` goes before.
static void put_system(struct writer *x, const struct jr *body, const struct jr *messages)
{
    size_t told = 0;
    for (size_t i = 0; i < jr_count(messages); i++) {
        const struct jr *message = jr_at(messages, i), *parts = jr_get(message, "parts");
        if (!span_is(jr_str(jr_get(message, "role")), "system")) continue;
        x->role = SPAN_LIT("system");
        for (size_t k = 0; k < jr_count(parts); k++) {
            if (!is_text(jr_at(parts, k))) continue;
            if (told++ == 0) jw_key(&x->w, "system"), jw_array(&x->w);
            put_text_block(x, jr_at(parts, k));
        }
    }
    if (told > 0) jw_end(&x->w);
    const struct jr *own = jr_get(body, "system");
    if (told == 0 && own != NULL) jw_key(&x->w, "system"), jr_write(own, &x->w);
}

// ---- the request ----------------------------------------------------------------------------------------------------

static int put_member(void *ctx, struct span key, const struct jr *value)
{
    struct writer *x = ctx;
    static const char *const ours[] = {"id", "messages", "trigger", "messageId", "stream", "stream_options", "input"};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (span_is(key, ours[i])) return 0;
    if (x->api == LLM_MESSAGES && span_is(key, "system")) return 0;
    jw_key_span(&x->w, key);
    jr_write(value, &x->w);
    return 0;
}

int llm_ui_request(struct buf *out, enum llm_api api, const struct jr *body, struct problem *p)
{
    struct writer x = {.api = api, .p = p};
    const struct jr *messages = jr_get(body, "messages");
    if (jr_type(messages) != JR_ARRAY || jr_count(messages) == 0) return refuse(&x, "\"messages\" is not an array of UI messages");
    if (jr_str(jr_get(body, "model")).n == 0) return refuse(&x, "\"model\" is missing: the transport's body has to name it");
    jw_init(&x.w, out);
    jw_object(&x.w);
    jr_each(body, put_member, &x);
    if (api == LLM_MESSAGES && jr_get(body, "max_tokens") == NULL) jw_key(&x.w, "max_tokens"), jw_int(&x.w, MAX_TOKENS);
    if (api == LLM_MESSAGES) put_system(&x, body, messages);
    jw_key(&x.w, api == LLM_RESPONSES ? "input" : "messages"), jw_array(&x.w);
    int err = 0;
    for (size_t i = 0; err == 0 && i < jr_count(messages); i++)
        err = put_ui_message(&x, jr_at(messages, i));
    if (err != 0) return err; // what was written so far is nobody's
    jw_end(&x.w);
    jw_key(&x.w, "stream"), jw_bool(&x.w, true);
    if (api == LLM_CHAT) jw_key(&x.w, "stream_options"), jw_raw(&x.w, SPAN_LIT("{\"include_usage\":true}"));
    jw_end(&x.w);
    return out->err;
}

struct span llm_ui_continued(const struct jr *body)
{
    const struct jr *messages = jr_get(body, "messages");
    const struct jr *last = jr_at(messages, jr_count(messages) - 1);
    if (jr_count(messages) == 0 || !span_is(jr_str(jr_get(last, "role")), "assistant")) return SPAN_NONE;
    return jr_str(jr_get(last, "id"));
}
