// Any bytes as what a transaction has read: what is taken is written back as the same bytes, and finds its own keys.
#include <assert.h>

#include "err.h"
#include "limits.h"
#include "read_set.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_group(const struct read_group *g)
{
    assert(g->n > 0);
    for (size_t i = 0; i < g->n; i++) {
        const struct read_range *r = &g->ranges[i];
        struct uuid id;
        assert(read_group_find(g, r->from) == r);
        assert(r->to.n == 0 || read_group_find(g, r->to) == NULL);
        assert(!read_range_row(r, &id) || r->from.n == sizeof id.b);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct read_set *s = read_set_new();
    struct buf again;
    size_t n;
    assert(s);
    int err = read_set_decode(s, SPAN(data, size));
    assert(err == 0 || err == ERR_CORRUPT);
    assert(read_set_finish(s) == 0);
    const struct read_group *g = read_set_groups(s, &n);
    assert(err == 0 || n == 0);
    for (size_t i = 0; i < n; i++)
        check_group(&g[i]);
    buf_init(&again, READ_SET_MAX);
    read_set_encode(s, &again);
    assert(again.err == 0);
    assert(err != 0 || span_equal(buf_span(&again), SPAN(data, size)));
    buf_free(&again);
    read_set_free(s);
    return 0;
}
