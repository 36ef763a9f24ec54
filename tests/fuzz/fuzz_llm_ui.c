// Any JSON as what a chat's transport posts: in each provider's format it is refused with a sentence, or becomes one JSON object that asks
// for a stream.
#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "json_read.h"
#include "limits.h"
#include "llm_ui_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(enum llm_api api, const struct jr *body)
{
    struct problem p = PROBLEM_NONE;
    struct jr_tree *made;
    struct buf out;
    buf_init(&out, 8 * MIB);
    int err = llm_ui_request(&out, api, body, &p);
    if (err != 0) {
        assert(err == ERR_NOMEM || err == ERR_TOO_LARGE || (err == ERR_BAD_REQUEST && problem_text(&p)[0] != '\0'));
        buf_free(&out);
        return;
    }
    // What was deep before may be too deep now.
    err = jr_parse(&made, buf_span(&out), &p);
    assert(err == 0 || err == ERR_TOO_DEEP);
    if (err == 0) {
        assert(jr_type(jr_root(made)) == JR_OBJECT && jr_bool(jr_get(jr_root(made), "stream"), false));
        assert(jr_type(jr_get(jr_root(made), api == LLM_RESPONSES ? "input" : "messages")) == JR_ARRAY);
        jr_free(made);
    }
    buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct jr_tree *tree;
    if (jr_parse(&tree, SPAN(data, size), NULL) != 0) return 0;
    for (int api = LLM_CHAT; api <= LLM_MESSAGES; api++)
        check((enum llm_api)api, jr_root(tree));
    llm_ui_continued(jr_root(tree));
    jr_free(tree);
    return 0;
}
