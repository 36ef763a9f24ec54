// Any bytes as what subscriptions of workers take from outside: the first letter says what they are. p: a pattern, a NUL and a path; u: the
// address of a webhook; o: an operation as the journal has it.
#include <assert.h>
#include <stdint.h>

#include "err.h"
#include "limits.h"
#include "subs.h"
#include "subs_glob.h"
#include "webhook_url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// What matches by stars alone is matched by everything that means more.
static void try_pattern(struct span text)
{
    struct subs_glob g, all, one;
    const uint8_t *nul = text.n > 0 ? memchr(text.p, 0, text.n) : NULL;
    size_t n = nul == NULL ? text.n : (size_t)(nul - text.p);
    struct span pattern = span_sub(text, 0, n), path = span_sub(text, n + 1, STREAM_PATH_MAX);
    int err = subs_glob_init(&all, SPAN_LIT("**"));
    assert(err == 0 && subs_glob_match(&all, path));
    err = subs_glob_init(&g, pattern);
    assert(err == 0 || err == ERR_BAD_VALUE);
    if (err != 0) return;
    assert(pattern.n > 0 && pattern.n <= SUB_PATTERN_MAX);
    if (memchr(pattern.p, '*', pattern.n) == NULL) assert(subs_glob_match(&g, path) == span_equal(pattern, path));
    err = subs_glob_init(&one, SPAN_LIT("*"));
    assert(err == 0);
    if (span_is(pattern, "*")) assert(subs_glob_match(&g, path) == subs_glob_match(&one, path));
    (void)subs_glob_match(&g, path);
}

static void try_url(struct span url)
{
    struct problem p = PROBLEM_NONE;
    int strict = webhook_url_check(url, false, NULL), dev = webhook_url_check(url, true, &p);
    assert(strict == 0 || strict == ERR_WEBHOOK_URL_REJECTED);
    assert(dev == p.err);
    assert(strict != 0 || dev == 0); // development allows more, never less
    if (dev != 0) return;
    assert(url.n <= SUB_URL_MAX && memchr(url.p, '#', url.n) == NULL && memchr(url.p, '\r', url.n) == NULL && memchr(url.p, '\n', url.n) == NULL);
    if (strict == 0) assert((url.p[4] | 32) == 's');
}

static void try_op(struct span text)
{
    struct sub_op op;
    struct buf again;
    int err = sub_op_read(text, &op);
    assert(err == 0 || err == ERR_CORRUPT);
    if (err != 0) return;
    buf_init(&again, MIB);
    sub_op_put(&again, &op);
    assert(again.err != 0 || again.n == text.n); // one way to write it, but for what counts as true
    buf_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    struct span rest = SPAN(data + 1, size - 1);
    switch (data[0]) {
    case 'p': try_pattern(rest); break;
    case 'u': try_url(rest); break;
    case 'o': try_op(rest); break;
    default: break;
    }
    return 0;
}
