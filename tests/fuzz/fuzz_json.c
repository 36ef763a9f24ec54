// Any text: what parses has a canonical text that parses to the same, and whatever bytes are written as a string, a JSON
// parser takes it and reads back the same text.
#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "json_read.h"
#include "json_write.h"
#include "utf8.h"

#define OUT_MAX (8u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_problem(const struct problem *p, int err, size_t size)
{
    assert(err == ERR_BAD_JSON || err == ERR_TOO_DEEP);
    assert(p->err == err);
    assert(p->position >= 0 && (size_t)p->position <= size);
    assert(utf8_valid(SPAN_STR(p->text)));
}

static void check_parse(struct span text)
{
    struct jr_tree *tree, *again;
    struct problem p = PROBLEM_NONE;
    int err = jr_parse(&tree, text, &p);
    if (err != 0) {
        check_problem(&p, err, text.n);
        return;
    }
    struct buf first, second;
    buf_init(&first, OUT_MAX);
    buf_init(&second, OUT_MAX);
    err = jr_canonical(jr_root(tree), &first);
    assert(err == 0);
    err = jr_parse(&again, buf_span(&first), &p);
    assert(err == 0);
    err = jr_canonical(jr_root(again), &second);
    assert(err == 0);
    assert(span_equal(buf_span(&first), buf_span(&second)));
    jr_free(tree);
    jr_free(again);
    buf_free(&first);
    buf_free(&second);
}

static void check_string(struct span text)
{
    struct buf out;
    struct jw w;
    struct jr_tree *tree;
    buf_init(&out, OUT_MAX);
    jw_init(&w, &out);
    jw_str(&w, text);
    assert(out.err == 0 && jw_done(&w));
    assert(utf8_valid(buf_span(&out)));

    bool has_nul = text.n > 0 && memchr(text.p, 0, text.n) != NULL;
    int err = jr_parse(&tree, buf_span(&out), NULL);
    assert(err == (has_nul ? ERR_BAD_JSON : 0)); // a NUL can be written, and is refused by ours
    if (err == 0) {
        if (utf8_valid(text)) assert(span_equal(jr_str(jr_root(tree)), text));
        jr_free(tree);
    }
    buf_free(&out);
}

static void check_double(struct span text)
{
    double v, back;
    if (text.n < sizeof v) return;
    memcpy(&v, text.p, sizeof v);
    struct buf out;
    struct jw w;
    struct jr_tree *tree;
    buf_init(&out, 100);
    jw_init(&w, &out);
    jw_double(&w, v);
    int err = jr_parse(&tree, buf_span(&out), NULL);
    assert(err == 0);
    back = jr_real(jr_root(tree), 0);
    if (jr_type(jr_root(tree)) != JR_NULL) assert(memcmp(&back, &v, sizeof v) == 0);
    jr_free(tree);
    buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = SPAN(data, size);
    check_parse(text);
    check_string(text);
    check_double(text);
    return 0;
}
