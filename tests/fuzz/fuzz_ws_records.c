// Any bytes as a binary message of many appends: what is counted is what comes, and all of it may go into a batch.
#include <assert.h>
#include <stdint.h>

#include "err.h"
#include "limits.h"
#include "utf8.h"
#include "ws_records.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ws_records r;
    struct ws_record one;
    if (size == 0 || data[0] != WS_RECORDS_MARK) return 0;
    int count = ws_records_begin(&r, SPAN(data, size));
    assert(count == ERR_BAD_REQUEST || (count > 0 && count <= WS_RECORDS_MAX));
    for (int i = 0; i < count; i++) {
        assert(ws_records_next(&r, &one));
        assert(one.path.n > 0 && one.path.n <= STREAM_PATH_MAX && utf8_valid(one.path));
        assert(one.data.n > 0 && one.data.n <= STREAM_APPEND_MAX);
    }
    assert(count < 0 || !ws_records_next(&r, &one));
    return 0;
}
