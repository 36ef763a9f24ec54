// Any bytes as a body of chunks: what is counted is what comes, in bounds, and all of the body is in them.
#include <assert.h>
#include <stdint.h>

#include "chunk_frames.h"
#include "err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span rest = SPAN(data, size);
    size_t count = 0, bytes = 0;
    int err = chunk_frames_count(rest, &count);
    assert(err == ERR_BAD_REQUEST || (err == 0 && count > 0));
    for (size_t i = 0; i < count; i++) {
        struct blob_given one = chunk_frames_next(&rest);
        assert(one.content.n > 0 && one.content.n <= BLOB_CHUNK_MAX);
        assert(one.content.p >= data && one.content.p + one.content.n <= data + size);
        bytes += CHUNK_FRAME_HEAD + one.content.n;
    }
    assert(err != 0 || (rest.n == 0 && bytes == size));
    return 0;
}
