// Any bytes as a provider's stream, in the format that the first byte names: however they are cut into pieces, the same events come out,
// and the same end for the same reason. Events keep to their order, texts are UTF-8, and messages are JSON.
#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "json_read.h"
#include "llm_event.h"
#include "utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct run {
    struct llm_parser *parser;
    struct llm_writer writer;
    struct buf text;
    bool open[LLM_PARTS_MAX];
    uint32_t parts;
    int starts, ends; // of the reply
    int err;
    bool complete;
};

static void check_part(struct run *r, const struct llm_event *e)
{
    if (e->kind == LLM_PART_BEGIN) {
        assert(e->index == r->parts && r->parts < LLM_PARTS_MAX);
        r->open[r->parts++] = true;
        assert((e->part == LLM_TOOL) == (e->tool_name.n > 0));
        return;
    }
    assert(e->index < r->parts && r->open[e->index]);
    if (e->kind == LLM_PART_END)
        r->open[e->index] = false;
    else
        assert(e->data.n > 0 && utf8_valid(e->data));
}

static void on_event(void *ctx, const struct llm_event *e)
{
    struct run *r = ctx;
    struct jr_tree *tree;
    size_t before = r->text.n;
    assert(r->ends == 0 && e->kind != LLM_END);
    r->starts += e->kind == LLM_START;
    r->ends += e->kind == LLM_FINISH || e->kind == LLM_ERROR;
    assert(r->starts <= 1);
    if (e->kind >= LLM_PART_BEGIN && e->kind <= LLM_PART_END) check_part(r, e);
    for (uint32_t i = 0; r->ends > 0 && i < r->parts; i++)
        assert(!r->open[i]);
    r->writer.event(&r->writer, e, &r->text);
    assert(r->text.err == 0 && r->text.n > before + 2);
    int err = jr_parse(&tree, span_sub(buf_span(&r->text), before, r->text.n - before - 2), NULL);
    assert(err == 0);
    jr_free(tree);
}

// Pieces of 1 to 256 bytes by a cheap generator; `seed` 0: all at once.
static void run_once(struct run *r, enum llm_api api, struct span bytes, uint32_t seed)
{
    *r = (struct run){.err = 0};
    buf_init(&r->text, 64u << 20);
    llm_writer_messages(&r->writer);
    int err = llm_parser_new(&r->parser, api, on_event, r);
    assert(err == 0);
    while (bytes.n > 0) {
        seed = seed == 0 ? 0 : seed * 1664525u + 1013904223u;
        size_t n = seed == 0 ? bytes.n : 1 + (seed >> 24);
        r->err = llm_parser_feed(r->parser, span_sub(bytes, 0, n));
        bytes = span_sub(bytes, n, bytes.n);
    }
    r->complete = llm_parser_end(r->parser);
    assert((r->err == ERR_PROVIDER_ERROR || r->complete) == (r->ends > 0) || r->err == ERR_PROVIDER_MALFORMED);
    assert(r->err == 0 || r->err == ERR_PROVIDER_ERROR || r->err == ERR_PROVIDER_MALFORMED);
}

static void check_saving(const struct run *r)
{
    struct llm_parser *again;
    struct buf saved, twice;
    buf_init(&saved, 64 * KIB);
    buf_init(&twice, 64 * KIB);
    llm_parser_save(r->parser, &saved);
    int err = llm_parser_new(&again, LLM_RESPONSES, on_event, NULL);
    if (err == 0) err = llm_parser_load(again, buf_span(&saved));
    assert(err == 0 && saved.err == 0);
    llm_parser_save(again, &twice);
    assert(span_equal(buf_span(&saved), buf_span(&twice)));
    llm_parser_free(again);
    buf_free(&saved);
    buf_free(&twice);
}

static void run_free(struct run *r)
{
    llm_parser_free(r->parser);
    llm_writer_free(&r->writer);
    buf_free(&r->text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run whole, pieces;
    char message[PROBLEM_TEXT_MAX];
    if (size == 0) return 0;
    enum llm_api api = data[0] == 'r' ? LLM_RESPONSES : data[0] == 'm' ? LLM_MESSAGES : LLM_CHAT;
    struct span bytes = SPAN(data + 1, size - 1);
    run_once(&whole, api, bytes, 0);
    run_once(&pieces, api, bytes, 1 + (size > 1 ? data[1] : 0));
    assert(span_equal(buf_span(&whole.text), buf_span(&pieces.text)));
    assert(whole.err == pieces.err && whole.complete == pieces.complete);
    check_saving(&whole);
    if (llm_error_message(bytes, message)) assert(utf8_valid(SPAN_STR(message)));
    run_free(&whole);
    run_free(&pieces);
    return 0;
}
