// Any bytes as an answer to an upgrade: what is given out lies in the text, and more bytes behind a whole answer do not change what it says.
#include <assert.h>
#include <stdint.h>

#include "ws_answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void lies_in(struct span part, struct span text)
{
    assert(part.n == 0 || (part.p >= text.p && part.p + part.n <= text.p + text.n));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ws_answer whole, early;
    struct span text = SPAN(data, size);
    if (!ws_answer_read(&whole, text)) return 0;
    assert(whole.head_n >= 4 && whole.head_n <= size && whole.status >= 0 && whole.status <= 999);
    lies_in(whole.accept, text);
    lies_in(whole.body, text);
    for (size_t n = 0; n < size; n++) {
        if (!ws_answer_read(&early, span_sub(text, 0, n))) continue;
        assert(early.head_n == whole.head_n && early.status == whole.status && span_equal(early.accept, whole.accept));
        assert(whole.status < 300 || early.body.n <= whole.body.n);
        n += 64; // it is whole from here on: some of the rest will do
    }
    return 0;
}
