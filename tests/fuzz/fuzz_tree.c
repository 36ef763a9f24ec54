// Any bytes as a tree's text: what is taken is what would be written, and everything in it lies in a directory that came before.
#include <assert.h>
#include <stdint.h>

#include "err.h"
#include "tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// The slow way, which knows nothing of the parser's.
static void lies_in_a_directory(const struct tree *t, size_t i)
{
    const char *path = t->at[i].path, *slash = strrchr(path, '/');
    bool found = slash == NULL;
    for (size_t k = 0; k < i && !found; k++)
        found = t->at[k].kind == TREE_DIR && strlen(t->at[k].path) == (size_t)(slash - path) && memcmp(t->at[k].path, path, (size_t)(slash - path)) == 0;
    assert(found && path[0] != '/' && tree_path_ok(SPAN_STR(path)));
    for (size_t k = 0; k < i; k++)
        assert(strcmp(t->at[k].path, path) != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tree t;
    struct buf out;
    int err = tree_parse(&t, SPAN(data, size));
    assert(err == 0 || err == ERR_BAD_VALUE);
    buf_init(&out, TREE_BYTES_MAX);
    if (err == 0) {
        tree_sort(&t); // is one already
        tree_encode(&t, &out);
        assert(span_equal(buf_span(&out), SPAN(data, size)));
        for (size_t i = 0; i < t.count; i++)
            lies_in_a_directory(&t, i);
    }
    buf_free(&out);
    tree_free(&t);
    return 0;
}
