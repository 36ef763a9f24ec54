// Any bytes as a provider's stream: however they are cut into pieces, the same text, the same end and the same reason come out; the
// text is UTF-8, and nothing is kept beyond its bounds.
#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "json_read.h"
#include "llm_sse.h"
#include "utf8.h"

#define TEXT_MAX (8u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct run {
    struct llm_sse sse;
    struct buf text;
    int err;
    bool complete;
};

static void run_free(struct run *r)
{
    llm_sse_free(&r->sse);
    buf_free(&r->text);
}

// Pieces of 1 to 256 bytes by a cheap generator; `seed` 0: all at once.
static void run_once(struct run *r, struct span bytes, uint32_t seed)
{
    buf_init(&r->text, TEXT_MAX);
    llm_sse_init(&r->sse, &r->text);
    r->err = 0;
    while (bytes.n > 0) {
        seed = seed == 0 ? 0 : seed * 1664525u + 1013904223u;
        size_t n = seed == 0 ? bytes.n : 1 + (seed >> 24);
        r->err = llm_sse_feed(&r->sse, span_sub(bytes, 0, n));
        bytes = span_sub(bytes, n, bytes.n);
    }
    r->complete = llm_sse_end(&r->sse);
}

static void check_usage(const struct run *r)
{
    struct buf usage, canonical;
    struct jr_tree *tree;
    buf_init(&usage, 4 * KIB);
    buf_init(&canonical, 4 * KIB);
    llm_sse_usage(&r->sse, &usage);
    assert(usage.err == 0 && (usage.n > 0) == r->sse.has_usage);
    if (usage.n > 0) {
        int err = jr_parse(&tree, buf_span(&usage), NULL);
        assert(err == 0);
        jr_canonical(jr_root(tree), &canonical);
        assert(span_equal(buf_span(&usage), buf_span(&canonical)));
        jr_free(tree);
    }
    buf_free(&usage);
    buf_free(&canonical);
}

static void check(const struct run *r)
{
    assert(utf8_valid(buf_span(&r->text)));
    assert(r->sse.line.cap <= 2 * LLM_EVENT_MAX && r->sse.data.cap <= 2 * LLM_EVENT_MAX);
    assert(utf8_valid(SPAN_STR(r->sse.finish)) && utf8_valid(SPAN_STR(r->sse.model)));
    if (r->err != 0) {
        assert(r->err == ERR_PROVIDER_ERROR || r->err == ERR_PROVIDER_MALFORMED);
        assert(!r->complete && r->sse.problem.err == r->err && utf8_valid(SPAN_STR(problem_text(&r->sse.problem))));
    }
    check_usage(r);
}

static void check_same(const struct run *a, const struct run *b)
{
    assert(span_equal(buf_span(&a->text), buf_span(&b->text)));
    assert(a->err == b->err && a->complete == b->complete && a->sse.done == b->sse.done && a->sse.has_usage == b->sse.has_usage);
    assert(strcmp(a->sse.finish, b->sse.finish) == 0 && strcmp(a->sse.model, b->sse.model) == 0);
    assert(strcmp(a->sse.problem.text, b->sse.problem.text) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run whole, pieces;
    char message[PROBLEM_TEXT_MAX];
    uint32_t seed = 1 + (size > 0 ? data[0] : 0);
    run_once(&whole, SPAN(data, size), 0);
    run_once(&pieces, SPAN(data, size), seed);
    check(&whole);
    check(&pieces);
    check_same(&whole, &pieces);
    if (llm_error_message(SPAN(data, size), message)) assert(utf8_valid(SPAN_STR(message)));
    run_free(&whole);
    run_free(&pieces);
    return 0;
}
