#include "llm_parse.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cur.h"
#include "err.h"
#include "sse_field.h"

const char *llm_part_name(enum llm_part part)
{
    static const char *const names[] = {[LLM_TEXT] = "text", [LLM_REASONING] = "reasoning", [LLM_REFUSAL] = "refusal", [LLM_TOOL] = "tool"};
    assert(part <= LLM_TOOL);
    return names[part];
}

const char *llm_finish_name(enum llm_finish finish)
{
    static const char *const names[] = {[LLM_FINISH_NONE] = NULL,           [LLM_FINISH_STOP] = "stop",       [LLM_FINISH_LENGTH] = "length",
                                        [LLM_FINISH_TOOL] = "tool",         [LLM_FINISH_REFUSAL] = "refusal", [LLM_FINISH_PAUSE] = "pause",
                                        [LLM_FINISH_OTHER] = "other"};
    assert(finish <= LLM_FINISH_OTHER);
    return names[finish];
}

// ---- errors ---------------------------------------------------------------------------------------------------------

int llm_malformed(struct llm_parser *p, const char *what)
{
    p->reply.complete = false;
    return problem_set(&p->problem, ERR_PROVIDER_MALFORMED, -1, "the provider's stream: %s", what);
}

static struct span message_of(const struct jr *root)
{
    const struct jr *error = jr_get(root, "error");
    struct span message = jr_type(error) == JR_STRING ? jr_str(error) : jr_str(jr_get(error, "message"));
    return message.n > 0 ? message : jr_str(jr_get(root, "message"));
}

bool llm_error_message(struct span json, char out[PROBLEM_TEXT_MAX])
{
    struct jr_tree *tree;
    struct problem p = PROBLEM_NONE;
    if (jr_parse(&tree, json, NULL) != 0) return false;
    struct span message = message_of(jr_root(tree));
    // problem_set cuts at a character and lets no control characters through.
    if (message.n > 0) problem_set(&p, ERR_PROVIDER_REFUSED, -1, "%.*s", SPAN_FMT(message));
    jr_free(tree);
    if (message.n > 0) memcpy(out, p.text, sizeof p.text);
    return message.n > 0;
}

// ---- telling --------------------------------------------------------------------------------------------------------

static void tell(struct llm_parser *p, struct llm_event e)
{
    e.has_sequence = p->reply.has_sequence;
    e.sequence = p->reply.sequence;
    p->event(p->ctx, &e);
}

void llm_keep_word(char to[LLM_WORD_MAX], struct span word)
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

void llm_started(struct llm_parser *p, struct span id, struct span model)
{
    llm_keep_word(p->reply.id, id);
    llm_keep_word(p->reply.model, model);
    if (p->started || (p->reply.id[0] == '\0' && p->reply.model[0] == '\0')) return;
    p->started = true;
    tell(p, (struct llm_event){.kind = LLM_START, .id = SPAN_STR(p->reply.id), .model = SPAN_STR(p->reply.model)});
}

void llm_usage_told(struct llm_parser *p, const struct llm_usage *usage)
{
    p->reply.usage = *usage;
    if (p->reply.usage.total < 0) p->reply.usage.total = llm_sum(usage->input, usage->output);
    p->usage_told = true;
}

static void tell_usage(struct llm_parser *p)
{
    if (!p->usage_told) return;
    p->usage_told = false;
    tell(p, (struct llm_event){.kind = LLM_USAGE, .usage = p->reply.usage});
}

int llm_failed(struct llm_parser *p, struct span code, struct span message)
{
    if (message.n == 0) message = SPAN_LIT("the provider gave no reason");
    problem_set(&p->problem, ERR_PROVIDER_ERROR, -1, "%.*s", SPAN_FMT(message));
    p->reply.ended = true;
    p->reply.complete = false;
    llm_parts_end(p);
    tell_usage(p);
    tell(p, (struct llm_event){.kind = LLM_ERROR, .code = code, .message = SPAN_STR(p->problem.text)});
    return p->problem.err;
}

void llm_finished(struct llm_parser *p, enum llm_finish finish, struct span reason)
{
    p->reply.finish = finish;
    llm_keep_word(p->reply.reason, reason);
    p->reply.complete = p->reply.ended = true;
    llm_parts_end(p);
    tell_usage(p);
    tell(p, (struct llm_event){.kind = LLM_FINISH, .finish = finish, .reason = SPAN_STR(p->reply.reason)});
}

// ---- parts ----------------------------------------------------------------------------------------------------------

struct llm_parser_part *llm_part_find(struct llm_parser *p, uint8_t family, uint32_t outer, uint32_t inner)
{
    for (uint32_t i = p->part_count; i-- > 0;) {
        struct llm_parser_part *part = &p->parts[i];
        if (part->family == family && part->outer == outer && part->inner == inner) return part;
    }
    return NULL;
}

static struct llm_event part_event(struct llm_parser *p, enum llm_event_kind kind, const struct llm_parser_part *part)
{
    return (struct llm_event){.kind = kind, .index = (uint32_t)(part - p->parts), .part = (enum llm_part)part->part};
}

struct llm_parser_part *llm_part_begin(struct llm_parser *p, enum llm_part part, uint8_t family, uint32_t outer, uint32_t inner,
                                       struct span tool_id, struct span tool_name)
{
    if (p->part_count == LLM_PARTS_MAX) {
        llm_malformed(p, "a reply has more parts than the limit");
        return NULL;
    }
    struct llm_parser_part *new = &p->parts[p->part_count++];
    *new = (struct llm_parser_part){.part = (uint8_t)part, .family = family, .outer = outer, .inner = inner, .open = true};
    struct llm_event e = part_event(p, LLM_PART_BEGIN, new);
    e.tool_id = tool_id;
    e.tool_name = tool_name;
    tell(p, e);
    return new;
}

static void tell_data(struct llm_parser *p, enum llm_event_kind kind, struct llm_parser_part *part, struct span data)
{
    struct llm_event e = part_event(p, kind, part);
    if (data.n == 0 || !part->open) return;
    e.data = data;
    tell(p, e);
}

void llm_part_delta(struct llm_parser *p, struct llm_parser_part *part, struct span data)
{
    part->has_data |= data.n > 0;
    tell_data(p, LLM_PART_DELTA, part, data);
}

void llm_part_signature(struct llm_parser *p, struct llm_parser_part *part, struct span data)
{
    tell_data(p, LLM_PART_SIGNATURE, part, data);
}

void llm_part_end(struct llm_parser *p, struct llm_parser_part *part)
{
    if (!part->open) return;
    part->open = false;
    tell(p, part_event(p, LLM_PART_END, part));
}

void llm_parts_end(struct llm_parser *p)
{
    for (uint32_t i = 0; i < p->part_count; i++)
        llm_part_end(p, &p->parts[i]);
}

// ---- values ---------------------------------------------------------------------------------------------------------

int llm_text_of(struct llm_parser *p, const struct jr *object, const char *key, struct span *out)
{
    const struct jr *value = jr_get(object, key);
    *out = jr_str(value);
    if (value == NULL || jr_type(value) == JR_NULL || jr_type(value) == JR_STRING) return 0;
    p->reply.complete = false;
    return problem_set(&p->problem, ERR_PROVIDER_MALFORMED, -1, "the provider's stream: \"%s\" is not text", key);
}

int64_t llm_count_of(const struct jr *object, const char *key)
{
    int64_t n = jr_int(jr_get(object, key), -1);
    return n < 0 ? -1 : n;
}

int64_t llm_sum(int64_t a, int64_t b)
{
    if (a < 0 || b < 0) return -1;
    return a <= INT64_MAX - b ? a + b : INT64_MAX;
}

// ---- events ---------------------------------------------------------------------------------------------------------

static int take_json(struct llm_parser *p, const struct jr *root)
{
    if (jr_type(root) != JR_OBJECT) return llm_malformed(p, "an event is not an object");
    // Compatible providers send errors of their own shape, under any name.
    const struct jr *error = jr_get(root, "error");
    bool plain = p->api != LLM_RESPONSES && error != NULL && jr_type(error) != JR_NULL;
    if (p->is_error || plain || span_is(jr_str(jr_get(root, "type")), "error")) {
        struct span code = jr_str(jr_get(error, "type"));
        if (p->api != LLM_MESSAGES && jr_str(jr_get(error, "code")).n > 0) code = jr_str(jr_get(error, "code"));
        return llm_failed(p, code.n > 0 ? code : jr_str(jr_get(root, "code")), message_of(root));
    }
    return p->api == LLM_CHAT ? llm_parse_chat(p, root) : p->api == LLM_RESPONSES ? llm_parse_responses(p, root) : llm_parse_messages(p, root);
}

// The four digits of an escape \\uXXXX at `at`; 0: it is none.
static unsigned escape_at(struct span s, size_t at)
{
    unsigned n = 0;
    if (at + 6 > s.n || s.p[at] != '\\' || s.p[at + 1] != 'u') return 0;
    for (size_t i = at + 2; i < at + 6; i++) {
        uint8_t c = s.p[i] | 0x20;
        if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f')) return 0;
        n = 16 * n + (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return n;
}

// Some providers cut a reply between the two halves of a character. A half alone is no text: U+FFFD stands for it, as in every browser.
// False: there was none.
static bool mend_halves(struct buf *json)
{
    struct span s = buf_span(json);
    bool mended = false;
    for (size_t at = 0; at < s.n; at++) {
        if (s.p[at] != '\\') continue;
        unsigned first = escape_at(s, at), second = escape_at(s, at + 6);
        bool high = first >= 0xd800 && first < 0xdc00, low = first >= 0xdc00 && first < 0xe000;
        if (high && second >= 0xdc00 && second < 0xe000) {
            at += 11;
        } else if (high || low) {
            memcpy(json->p + at + 2, "fffd", 4);
            mended = true;
            at += 5;
        } else {
            at++; // what is escaped
        }
    }
    return mended;
}

static int take_event(struct llm_parser *p)
{
    struct jr_tree *tree;
    if (span_is(buf_span(&p->data), "[DONE]")) {
        // Some proxies end the other formats like this, too; it says nothing there.
        if (p->api == LLM_CHAT) llm_parse_chat_done(p);
        return 0;
    }
    int err = jr_parse(&tree, buf_span(&p->data), NULL);
    if (err != 0 && err != ERR_NOMEM && mend_halves(&p->data)) err = jr_parse(&tree, buf_span(&p->data), NULL);
    if (err == ERR_NOMEM) return problem_set(&p->problem, err, -1, "%s", err_text(err));
    if (err != 0) return llm_malformed(p, "an event is not JSON");
    err = take_json(p, jr_root(tree));
    jr_free(tree);
    return p->problem.err != 0 ? p->problem.err : err;
}

// ---- lines (WHATWG HTML, "Server-sent events") ----------------------------------------------------------------------

static int overflow(struct llm_parser *p, const struct buf *b, const char *what)
{
    return b->err == ERR_NOMEM ? problem_set(&p->problem, ERR_NOMEM, -1, "%s", err_text(ERR_NOMEM)) : llm_malformed(p, what);
}

static void take_field(struct llm_parser *p, struct span name, struct span value)
{
    if (span_is(name, "data")) {
        if (p->has_data) buf_put_u8(&p->data, '\n');
        buf_put_span(&p->data, value);
        p->has_data = true;
    } else if (span_is(name, "event")) {
        p->is_error = span_is(value, "error");
    }
}

// A whole line is in p->line. An empty one ends an event; one that begins with a colon is a comment.
static void take_line(struct llm_parser *p)
{
    struct span line = buf_span(&p->line);
    if (!p->begun && span_starts(line, "\xef\xbb\xbf")) line = span_sub(line, 3, line.n);
    p->begun = true;
    if (line.n > 0) {
        struct span name, value;
        sse_field_split(line, &name, &value);
        take_field(p, name, value);
        if (p->data.err != 0) overflow(p, &p->data, "an event is longer than the limit");
    } else {
        if (p->has_data) take_event(p);
        buf_clear(&p->data);
        p->has_data = p->is_error = false;
        p->partial = 0;
    }
    buf_clear(&p->line);
}

int llm_parser_feed(struct llm_parser *p, struct span piece)
{
    while (p->problem.err == 0 && !p->reply.ended && piece.n > 0) {
        if (p->after_cr && piece.p[0] == '\n') {
            // Belongs to the line before: an event that ended there ends behind it.
            p->partial += p->partial > 0;
            p->after_cr = false;
            piece = span_sub(piece, 1, piece.n);
            continue;
        }
        p->after_cr = false;
        size_t n = 0;
        while (n < piece.n && piece.p[n] != '\n' && piece.p[n] != '\r')
            n++;
        buf_put_span(&p->line, span_sub(piece, 0, n));
        if (p->line.err != 0) overflow(p, &p->line, "a line is longer than the limit");
        p->partial += n < piece.n ? n + 1 : n;
        if (p->problem.err != 0 || n == piece.n) break;
        p->after_cr = piece.p[n] == '\r';
        piece = span_sub(piece, n + 1, piece.n);
        take_line(p);
    }
    return p->problem.err;
}

bool llm_parser_end(struct llm_parser *p)
{
    // Some providers leave out the last line's end, or the empty line behind it.
    if (p->problem.err == 0 && !p->reply.ended && p->line.n > 0) take_line(p);
    if (p->problem.err == 0 && !p->reply.ended && p->has_data && p->api == LLM_CHAT && span_is(buf_span(&p->data), "[DONE]")) take_event(p);
    if (p->problem.err == 0 && !p->reply.ended && p->api == LLM_CHAT && p->reply.finish != LLM_FINISH_NONE) llm_parse_chat_done(p);
    return p->problem.err == 0 && p->reply.complete;
}

size_t llm_parser_partial(const struct llm_parser *p)
{
    return p->partial;
}

// ---- coming, staying, going -----------------------------------------------------------------------------------------

int llm_parser_new(struct llm_parser **out, enum llm_api api, void (*event)(void *ctx, const struct llm_event *e), void *ctx)
{
    struct llm_parser *p = calloc(1, sizeof *p);
    if (p == NULL) return ERR_NOMEM;
    p->api = api;
    p->event = event;
    p->ctx = ctx;
    p->problem = PROBLEM_NONE;
    p->reply.usage = LLM_USAGE_UNKNOWN;
    buf_init(&p->line, LLM_EVENT_MAX);
    buf_init(&p->data, LLM_EVENT_MAX);
    *out = p;
    return 0;
}

void llm_parser_free(struct llm_parser *p)
{
    if (p == NULL) return;
    buf_free(&p->line);
    buf_free(&p->data);
    free(p);
}

const struct llm_reply *llm_parser_reply(const struct llm_parser *p)
{
    return &p->reply;
}

const struct problem *llm_parser_problem(const struct llm_parser *p)
{
    return &p->problem;
}

void llm_parser_save(const struct llm_parser *p, struct buf *out)
{
    buf_put_u8(out, (uint8_t)p->started);
    buf_put_u8(out, (uint8_t)p->reply.has_sequence);
    buf_put_varint(out, p->reply.sequence);
    buf_put_blob(out, SPAN_STR(p->reply.id));
    buf_put_blob(out, SPAN_STR(p->reply.model));
    buf_put_varint(out, p->part_count);
    for (uint32_t i = 0; i < p->part_count; i++) {
        const struct llm_parser_part *part = &p->parts[i];
        buf_put_u8(out, (uint8_t)(part->part | part->family << 2 | part->open << 5 | part->has_data << 6));
        buf_put_varint(out, part->outer);
        buf_put_varint(out, part->inner);
    }
}

static void load_part(struct llm_parser_part *part, struct cur *c)
{
    uint8_t bits = cur_u8(c);
    uint64_t outer = cur_varint(c), inner = cur_varint(c);
    if (bits >> 7 != 0 || (bits >> 2 & 7) > 4 || outer > UINT32_MAX || inner > UINT32_MAX) cur_fail(c);
    *part = (struct llm_parser_part){.part = bits & 3,
                                     .family = bits >> 2 & 7,
                                     .open = bits >> 5 & 1,
                                     .has_data = bits >> 6 & 1,
                                     .outer = (uint32_t)outer,
                                     .inner = (uint32_t)inner};
}

int llm_parser_load(struct llm_parser *p, struct span saved)
{
    struct cur c;
    assert(!p->begun && p->part_count == 0);
    cur_init(&c, saved);
    p->started = cur_u8(&c) != 0;
    p->reply.has_sequence = cur_u8(&c) != 0;
    p->reply.sequence = cur_varint(&c);
    llm_keep_word(p->reply.id, cur_blob(&c));
    llm_keep_word(p->reply.model, cur_blob(&c));
    uint64_t n = cur_varint(&c);
    if (n > LLM_PARTS_MAX) cur_fail(&c);
    for (uint32_t i = 0; c.err == 0 && i < n; i++)
        load_part(&p->parts[p->part_count++], &c);
    return cur_end(&c) != 0 ? ERR_CORRUPT : 0;
}
