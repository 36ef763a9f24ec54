// Any bytes as each of the header fields of streams: what is taken means one thing, and its own text reads back as the same.
#include <assert.h>

#include "err.h"
#include "stream_headers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_offset(struct span text)
{
    char own[STREAM_OFFSET_TEXT];
    uint64_t offset, again;
    int err = stream_offset_parse(text, &offset);
    assert(err == 0 || err == ERR_BAD_OFFSET);
    if (err != 0) return;
    stream_offset_text(offset, own);
    assert(stream_offset_parse(SPAN_STR(own), &again) == 0 && again == offset);
}

static void check_number(struct span text)
{
    uint64_t v;
    if (!stream_number_parse(text, STREAM_NUMBER_MAX, &v)) return;
    assert(v <= STREAM_NUMBER_MAX && text.n <= 16 && (text.p[0] != '0' || text.n == 1));
}

static void check_time(struct span text)
{
    char own[STREAM_TIME_TEXT];
    uint64_t ms, again;
    if (!stream_time_parse(text, &ms)) return;
    assert(ms > 0);
    stream_time_text(ms, own);
    // A zone or a leap second may lead into the year 10000, which has no text.
    assert(ms >= UINT64_C(253402300800000) || (stream_time_parse(SPAN_STR(own), &again) && again == ms));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = SPAN(data, size);
    bool has;
    uint64_t offset;
    check_offset(text);
    check_number(text);
    check_time(text);
    int err = stream_match_parse(text, &has, &offset);
    assert(err == 0 || err == ERR_BAD_OFFSET);
    (void)stream_type_is_json(text);
    (void)stream_etag_listed(text, "\"1:0:5\"");
    return 0;
}
