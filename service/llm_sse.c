#include "llm_sse.h"

#include <stdio.h>

#include "err.h"
#include "json_read.h"
#include "json_write.h"
#include "sse_field.h"

void llm_sse_init(struct llm_sse *s, struct buf *text)
{
    *s = (struct llm_sse){.text = text, .problem = PROBLEM_NONE};
    buf_init(&s->line, LLM_EVENT_MAX);
    buf_init(&s->data, LLM_EVENT_MAX);
}

void llm_sse_free(struct llm_sse *s)
{
    buf_free(&s->line);
    buf_free(&s->data);
}

// ---- errors --------------------------------------------------------------------------------------------------------

static int malformed(struct llm_sse *s, const char *what)
{
    return problem_set(&s->problem, ERR_PROVIDER_MALFORMED, -1, "the provider's stream: %s", what);
}

// A buffer of ours did not take it all.
static int overflow(struct llm_sse *s, const struct buf *b, const char *what)
{
    return b->err == ERR_NOMEM ? problem_set(&s->problem, ERR_NOMEM, -1, "%s", err_text(ERR_NOMEM)) : malformed(s, what);
}

static struct span message_of(const struct jr *root)
{
    const struct jr *error = jr_get(root, "error");
    struct span message = jr_type(error) == JR_STRING ? jr_str(error) : jr_str(jr_get(error, "message"));
    return message.n > 0 ? message : jr_str(jr_get(root, "message"));
}

static int take_error(struct llm_sse *s, const struct jr *root)
{
    struct span message = message_of(root);
    if (message.n == 0) message = SPAN_LIT("the provider gave no reason");
    return problem_set(&s->problem, ERR_PROVIDER_ERROR, -1, "%.*s", SPAN_FMT(message));
}

// ---- chunks --------------------------------------------------------------------------------------------------------

// A short word, cut where a character begins; control characters have no place in it.
static void keep_word(char to[LLM_WORD_MAX], struct span word)
{
    struct problem p = PROBLEM_NONE;
    _Static_assert(LLM_WORD_MAX <= PROBLEM_TEXT_MAX, "problem_set cuts longer text");
    if (word.n == 0) return;
    if (word.n >= LLM_WORD_MAX) {
        word.n = LLM_WORD_MAX - 1;
        while (word.n > 0 && (word.p[word.n] & 0xc0) == 0x80)
            word.n--;
    }
    problem_set(&p, ERR_INTERNAL, -1, "%.*s", SPAN_FMT(word));
    memcpy(to, p.text, LLM_WORD_MAX);
}

static int take_text(struct llm_sse *s, const struct jr *text)
{
    if (text == NULL || jr_type(text) == JR_NULL) return 0;
    if (jr_type(text) != JR_STRING) return malformed(s, "a delta's content is not text");
    buf_put_span(s->text, jr_str(text));
    return s->text->err == 0 ? 0 : problem_set(&s->problem, s->text->err, -1, "%s", err_text(s->text->err));
}

// Only the first choice is asked for.
static int take_choice(struct llm_sse *s, const struct jr *choice)
{
    if (jr_type(choice) != JR_OBJECT) return malformed(s, "a choice is not an object");
    if (jr_int(jr_get(choice, "index"), 0) != 0) return 0;
    const struct jr *delta = jr_get(choice, "delta");
    int err = take_text(s, jr_get(delta, "content"));
    // A refusal is what the model answered: people have to see it.
    if (err == 0) err = take_text(s, jr_get(delta, "refusal"));
    if (err == 0) keep_word(s->finish, jr_str(jr_get(choice, "finish_reason")));
    return err;
}

static void take_usage(struct llm_sse *s, const struct jr *usage)
{
    if (jr_type(usage) != JR_OBJECT) return;
    int64_t prompt = jr_int(jr_get(usage, "prompt_tokens"), -1), completion = jr_int(jr_get(usage, "completion_tokens"), -1);
    if (prompt < 0 || completion < 0) return; // unknown stays unknown
    int64_t sum = prompt <= INT64_MAX - completion ? prompt + completion : INT64_MAX;
    s->has_usage = true;
    s->prompt_tokens = prompt;
    s->completion_tokens = completion;
    s->total_tokens = jr_int(jr_get(usage, "total_tokens"), -1);
    if (s->total_tokens < 0) s->total_tokens = sum;
}

static int take_chunk(struct llm_sse *s, const struct jr *root)
{
    const struct jr *error = jr_get(root, "error"), *choices = jr_get(root, "choices");
    if (jr_type(root) != JR_OBJECT) return malformed(s, "a chunk is not an object");
    if (s->is_error || (error != NULL && jr_type(error) != JR_NULL)) return take_error(s, root);
    if (choices != NULL && jr_type(choices) != JR_ARRAY) return malformed(s, "choices is not an array");
    keep_word(s->model, jr_str(jr_get(root, "model")));
    take_usage(s, jr_get(root, "usage"));
    int err = 0;
    for (size_t i = 0; err == 0 && i < jr_count(choices); i++)
        err = take_choice(s, jr_at(choices, i));
    return err;
}

static int take_event(struct llm_sse *s)
{
    struct jr_tree *tree;
    struct problem p = PROBLEM_NONE;
    if (span_is(buf_span(&s->data), "[DONE]")) {
        s->done = true;
        return 0;
    }
    int err = jr_parse(&tree, buf_span(&s->data), &p);
    if (err == ERR_NOMEM) return problem_set(&s->problem, err, -1, "%s", err_text(err));
    if (err != 0) return malformed(s, "an event is not JSON");
    err = take_chunk(s, jr_root(tree));
    jr_free(tree);
    return err;
}

// ---- lines (WHATWG HTML, "Server-sent events") ---------------------------------------------------------------------

static void take_field(struct llm_sse *s, struct span name, struct span value)
{
    if (span_is(name, "data")) {
        if (s->has_data) buf_put_u8(&s->data, '\n');
        buf_put_span(&s->data, value);
        s->has_data = true;
    } else if (span_is(name, "event")) {
        s->is_error = span_is(value, "error");
    }
}

// A whole line is in s->line. An empty one ends an event; one that begins with a colon is a comment.
static int take_line(struct llm_sse *s)
{
    struct span line = buf_span(&s->line);
    int err = 0;
    if (!s->begun && span_starts(line, "\xef\xbb\xbf")) line = span_sub(line, 3, line.n);
    s->begun = true;
    if (line.n > 0) {
        struct span name, value;
        sse_field_split(line, &name, &value);
        take_field(s, name, value);
    } else {
        if (s->has_data) err = take_event(s);
        buf_clear(&s->data);
        s->has_data = s->is_error = false;
    }
    if (err == 0 && s->data.err != 0) err = overflow(s, &s->data, "an event is longer than the limit");
    buf_clear(&s->line);
    return err;
}

int llm_sse_feed(struct llm_sse *s, struct span piece)
{
    while (s->problem.err == 0 && !s->done && piece.n > 0) {
        if (s->after_cr && piece.p[0] == '\n') piece = span_sub(piece, 1, piece.n);
        s->after_cr = false;
        size_t n = 0;
        while (n < piece.n && piece.p[n] != '\n' && piece.p[n] != '\r')
            n++;
        buf_put_span(&s->line, span_sub(piece, 0, n));
        if (s->line.err != 0) overflow(s, &s->line, "a line is longer than the limit");
        if (s->problem.err != 0 || n == piece.n) break;
        s->after_cr = piece.p[n] == '\r';
        piece = span_sub(piece, n + 1, piece.n);
        take_line(s);
    }
    return s->problem.err;
}

bool llm_sse_end(struct llm_sse *s)
{
    // Some providers leave out the last line's end, or the empty line behind it.
    if (s->problem.err == 0 && !s->done && s->line.n > 0) take_line(s);
    if (s->problem.err == 0 && s->has_data && span_is(buf_span(&s->data), "[DONE]")) s->done = true;
    return llm_sse_complete(s);
}

bool llm_sse_complete(const struct llm_sse *s)
{
    return s->problem.err == 0 && (s->done || s->finish[0] != '\0');
}

// ---- usage ---------------------------------------------------------------------------------------------------------

void llm_sse_usage(const struct llm_sse *s, struct buf *out)
{
    struct jw w;
    if (!s->has_usage) return;
    jw_init(&w, out);
    jw_object(&w);
    jw_key(&w, "completion_tokens"), jw_int(&w, s->completion_tokens);
    jw_key(&w, "finish_reason");
    if (s->finish[0] != '\0')
        jw_cstr(&w, s->finish);
    else
        jw_null(&w);
    jw_key(&w, "model");
    if (s->model[0] != '\0')
        jw_cstr(&w, s->model);
    else
        jw_null(&w);
    jw_key(&w, "prompt_tokens"), jw_int(&w, s->prompt_tokens);
    jw_key(&w, "total_tokens"), jw_int(&w, s->total_tokens);
    jw_end(&w);
}
