// Any text: what is taken as messages is compact, each message taken again is itself, and the tree parser takes everything that this one takes but for what
// it refuses on purpose; what it takes, this one takes.
#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "json_lines.h"
#include "json_read.h"
#include "utf8.h"

#define OUT_MAX (8u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_message(struct span message)
{
    struct buf again;
    size_t count;
    buf_init(&again, OUT_MAX);
    // In brackets, so that an array is one message here, too.
    struct buf wrapped;
    buf_init(&wrapped, OUT_MAX);
    buf_put_str(&wrapped, "[");
    buf_put_span(&wrapped, message);
    buf_put_str(&wrapped, "]");
    int err = json_lines_put(&again, buf_span(&wrapped), &count, NULL);
    assert(err == ERR_TOO_DEEP || (err == 0 && count == 1));
    if (err == 0) {
        assert(again.n == message.n + JSON_LINE_END_BYTES);
        assert(span_equal(SPAN(again.p, message.n), message));
    }
    buf_free(&wrapped);
    buf_free(&again);
}

static void check_messages(struct span lines, size_t count)
{
    assert(utf8_valid(lines));
    while (lines.n > 0) {
        const uint8_t *end = memchr(lines.p, '\n', lines.n);
        assert(end != NULL && end > lines.p && end[-1] == ',' && count > 0);
        size_t n = (size_t)(end - lines.p) - 1;
        check_message(SPAN(lines.p, n));
        lines = span_sub(lines, n + JSON_LINE_END_BYTES, lines.n);
        count--;
    }
    assert(count == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = SPAN(data, size);
    struct problem p = PROBLEM_NONE;
    struct buf out;
    struct jr_tree *tree = NULL;
    size_t count = 0;
    buf_init(&out, OUT_MAX);
    buf_put_str(&out, "before");
    int err = json_lines_put(&out, text, &count, &p);
    assert(out.n >= 6 && memcmp(out.p, "before", 6) == 0);
    if (err == 0) {
        check_messages(span_sub(buf_span(&out), 6, out.n), count);
    } else {
        assert(err == ERR_BAD_JSON || err == ERR_TOO_DEEP);
        assert(p.err == err && p.position >= 0 && (size_t)p.position <= size && out.n == 6);
        assert(jr_parse(&tree, text, NULL) != 0); // what a tree is made of is JSON
        tree = NULL;
    }
    jr_free(tree);
    buf_free(&out);
    return 0;
}
