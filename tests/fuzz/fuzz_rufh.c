// Any bytes as the draft's header fields: a line each, the first letter says which field. What is taken has to be what the contract says, and what is
// not a structured field is not half taken.
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "fuzz_lines.h"
#include "rufh.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_items(struct span value)
{
    uint64_t n = UINT64_MAX;
    bool b = false, c = false;
    bool number = rufh_integer(value, &n), boolean = rufh_boolean(value, &b);
    assert(number == (n <= UINT64_C(999999999999999)));
    assert(!number || !boolean);
    assert(rufh_complete(value, SPAN_NONE, &c) == boolean && c == b);
    assert(rufh_complete(SPAN_NONE, value, &c) == boolean && (!boolean || c == !b));
    unsigned v = rufh_version(value);
    assert(v == 0 || (number && n == v && (v == 3 || v == 5 || v == 6 || v == 8)));
}

static void try_digests(struct span value)
{
    struct rufh_digests d, again;
    memset(&d, 0x5a, sizeof d);
    memcpy(&again, &d, sizeof d);
    if (!rufh_digests(value, &d)) {
        assert(memcmp(&d, &again, sizeof d) == 0);
        return;
    }
    assert((d.kinds & ~(unsigned)(DIGEST_SHA256 | DIGEST_SHA512)) == 0);
}

static void try_line(uint8_t field, struct span value)
{
    struct sha256 promise;
    switch (field) {
    case 'i': try_items(value); break;
    case 'd': try_digests(value); break;
    case 'm': rufh_promise(value, &promise); break;
    case 't': rufh_is_body_type(value); break;
    default: break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_lines(data, size, try_line);
    return 0;
}
