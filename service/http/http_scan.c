// One function per state, one byte at a time; long runs (target, values, content) are skipped in bulk.
//
//      START ─> METHOD ─> TARGET ─> VERSION ─> LINE_LF ─┐
//                                                       v
//               ┌──────────────────────────────── FIELD_START ──CR──> HEAD_LF ─> (head done) LENGTH, CHUNK_SIZE or DONE
//               │                                       │                └─ in trailers: DONE
//               └─ VALUE_LF <─ VALUE <─ VALUE_SPACE <─ NAME
//
//      CHUNK_SIZE ─> CHUNK_EXT ─> CHUNK_LF ─> CHUNK_DATA ─> DATA_CR ─> DATA_LF ─> CHUNK_SIZE …; size 0 ─> FIELD_START (trailers)
#include "http_scan.h"

#include <assert.h>
#include <ctype.h>
#include <strings.h>

#include "err.h"
#include "limits.h"

enum {
    START,
    START_LF,
    METHOD,
    TARGET,
    VERSION,
    LINE_LF,
    FIELD_START,
    NAME,
    VALUE_SPACE,
    VALUE,
    VALUE_LF,
    HEAD_LF,
    LENGTH,
    CHUNK_SIZE,
    CHUNK_EXT,
    CHUNK_LF,
    CHUNK_DATA,
    DATA_CR,
    DATA_LF,
    DONE,
    STATES
};

// The fields that decide where a message ends, or that the scan has to judge for another reason.
enum { FIELD_OTHER, FIELD_LENGTH, FIELD_ENCODING, FIELD_HOST, FIELD_EXPECT };

typedef int step_fn(struct http_scan *s, uint8_t c, struct problem *p);

void http_scan_init(struct http_scan *s)
{
    *s = (struct http_scan){.content_length = -1, .body_max = UINT64_MAX};
}

static int refuse(struct problem *p, const char *why)
{
    return problem_set(p, ERR_BAD_REQUEST, -1, "%s", why);
}

static bool is_token(uint8_t c)
{
    static const bool token[256] = {
        ['0' ... '9'] = true, ['A' ... 'Z'] = true, ['a' ... 'z'] = true, ['!'] = true, ['#'] = true, ['$'] = true,
        ['%'] = true,         ['&'] = true,         ['\''] = true,        ['*'] = true, ['+'] = true, ['-'] = true,
        ['.'] = true,         ['^'] = true,         ['_'] = true,         ['`'] = true, ['|'] = true, ['~'] = true};
    return token[c];
}

static bool is_text(uint8_t c)
{
    return (c >= 0x20 && c != 0x7f) || c == '\t';
}

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? c + 32 : c;
}

// ---- request line ----------------------------------------------------------------------------------------------

static int step_method(struct http_scan *s, uint8_t c, struct problem *p);

// One empty line is forgiven: some clients end a body with a CRLF that they do not count.
static int step_start(struct http_scan *s, uint8_t c, struct problem *p)
{
    s->begun = true;
    if (c == '\r') {
        if (s->blank_lines++ > 0) return refuse(p, "more than one empty line before a request");
        s->state = START_LF;
        return SCAN_MORE;
    }
    s->state = METHOD;
    return step_method(s, c, p);
}

static int step_start_lf(struct http_scan *s, uint8_t c, struct problem *p)
{
    if (c != '\n') return refuse(p, "a CR without its LF");
    s->state = START;
    return SCAN_MORE;
}

static int method_find(struct http_scan *s, struct problem *p)
{
    static const struct {
        const char *name;
        enum method method;
    } methods[] = {{"GET", METHOD_GET},       {"HEAD", METHOD_HEAD},   {"POST", METHOD_POST},      {"PUT", METHOD_PUT},
                   {"DELETE", METHOD_DELETE}, {"PATCH", METHOD_PATCH}, {"OPTIONS", METHOD_OPTIONS}};
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (!span_is(SPAN(s->name, s->name_n), methods[i].name)) continue;
        s->method = methods[i].method;
        return 0;
    }
    return problem_set(p, ERR_NOT_IMPLEMENTED, -1, "the method %.*s is not supported", (int)s->name_n, s->name);
}

static int step_method(struct http_scan *s, uint8_t c, struct problem *p)
{
    if (c == ' ' && s->name_n > 0) {
        s->line_n = 0;
        s->state = TARGET;
        return method_find(s, p);
    }
    if (!is_token(c)) return refuse(p, "the request line does not begin with a method");
    if (s->name_n == SCAN_METHOD_MAX) return problem_set(p, ERR_NOT_IMPLEMENTED, -1, "no method is that long");
    s->name[s->name_n++] = (char)c;
    return SCAN_MORE;
}

static bool is_target(uint8_t c)
{
    return c > 0x20 && c < 0x7f && c != '#';
}

static int step_target(struct http_scan *s, uint8_t c, struct problem *p)
{
    if (c == ' ' && s->line_n > 0) {
        s->value_n = 0;
        s->state = VERSION;
        return SCAN_MORE;
    }
    if (!is_target(c))
        return refuse(p, c == '#' ? "a fragment in the request target" : "a byte in the request target that must be escaped");
    if (s->line_n == HTTP_TARGET_MAX) return problem_set(p, ERR_URI_TOO_LONG, -1, "the limit is %u bytes", HTTP_TARGET_MAX);
    s->line_n++;
    return SCAN_MORE;
}

static int version_check(struct http_scan *s, struct problem *p)
{
    const char *v = s->value;
    bool shaped = s->value_n == 8 && memcmp(v, "HTTP/", 5) == 0 && isdigit((uint8_t)v[5]) && v[6] == '.' && isdigit((uint8_t)v[7]);
    if (!shaped) return refuse(p, "the request line does not end with an HTTP version");
    if (v[5] != '1' || v[7] > '1') return problem_set(p, ERR_BAD_VERSION, -1, "%.8s is not spoken here", v);
    s->minor = (uint8_t)(v[7] - '0');
    s->state = LINE_LF;
    return SCAN_MORE;
}

static int step_version(struct http_scan *s, uint8_t c, struct problem *p)
{
    if (c == '\r') return version_check(s, p);
    if (s->value_n == 8) return refuse(p, "the request line does not end with an HTTP version");
    s->value[s->value_n++] = (char)c;
    return SCAN_MORE;
}

static int step_line_lf(struct http_scan *s, uint8_t c, struct problem *p)
{
    if (c != '\n') return refuse(p, "a CR without its LF");
    s->state = FIELD_START;
    return SCAN_MORE;
}

// ---- fields ----------------------------------------------------------------------------------------------------

static int step_name(struct http_scan *s, uint8_t c, struct problem *p);

static int step_field_start(struct http_scan *s, uint8_t c, struct problem *p)
{
    if (c == '\r') {
        s->state = HEAD_LF;
        return SCAN_MORE;
    }
    if (c == ' ' || c == '\t') return refuse(p, "a folded header line");
    if (c == ':') return refuse(p, "a header field without a name");
    if (++s->field_count > HTTP_HEADER_COUNT_MAX)
        return problem_set(p, ERR_HEADERS_TOO_LARGE, -1, "the limit is %d fields", HTTP_HEADER_COUNT_MAX);
    s->name_n = 0;
    s->value_n = 0;
    s->state = NAME;
    return step_name(s, c, p);
}

static int field_find(const struct http_scan *s)
{
    struct span name = SPAN(s->name, s->name_n);
    if (span_is(name, "content-length")) return FIELD_LENGTH;
    if (span_is(name, "transfer-encoding")) return FIELD_ENCODING;
    if (span_is(name, "host")) return FIELD_HOST;
    return span_is(name, "expect") ? FIELD_EXPECT : FIELD_OTHER;
}

static int step_name(struct http_scan *s, uint8_t c, struct problem *p)
{
    if (c == ':') {
        s->field = (uint8_t)field_find(s);
        if (s->trailers && s->field != FIELD_OTHER) return refuse(p, "a trailer that may only be a header");
        s->state = VALUE_SPACE;
        return SCAN_MORE;
    }
    if (!is_token(c))
        return refuse(p, c == ' ' || c == '\t' ? "white space before a header's colon" : "a byte in a header's name that may not be there");
    if (s->name_n < SCAN_NAME_MAX) s->name[s->name_n++] = (char)lower(c);
    return SCAN_MORE;
}

static int length_check(struct http_scan *s, struct problem *p)
{
    if (s->content_length >= 0) return refuse(p, "Content-Length is given twice");
    // 18 digits always fit, and no body is that long.
    if (s->value_n == 0 || s->value_n > 18) return refuse(p, "Content-Length is not a number of 1 to 18 digits");
    int64_t n = 0;
    for (size_t i = 0; i < s->value_n; i++) {
        if (!isdigit((uint8_t)s->value[i])) return refuse(p, "Content-Length is not a number");
        n = n * 10 + (s->value[i] - '0');
    }
    s->content_length = n;
    return SCAN_MORE;
}

static int host_check(struct http_scan *s, struct problem *p)
{
    if (s->hosts++ > 0) return refuse(p, "Host is given twice");
    if (s->value_n == SCAN_VALUE_MAX) return refuse(p, "Host is too long");
    for (size_t i = 0; i < s->value_n; i++) {
        uint8_t c = (uint8_t)s->value[i];
        if (!isalnum(c) && (c >= 0x80 || strchr("-._~!$&'()*+;=%:[]", c) == NULL)) return refuse(p, "Host is malformed");
    }
    return SCAN_MORE;
}

static bool value_is(const struct http_scan *s, const char *word)
{
    return s->value_n == strlen(word) && strncasecmp(s->value, word, s->value_n) == 0;
}

// A field's value is complete: what it means for the message.
static int field_check(struct http_scan *s, struct problem *p)
{
    while (s->value_n > 0 && (s->value[s->value_n - 1] == ' ' || s->value[s->value_n - 1] == '\t'))
        s->value_n--;
    switch (s->field) {
    case FIELD_LENGTH: return length_check(s, p);
    case FIELD_HOST: return host_check(s, p);
    case FIELD_ENCODING:
        if (s->chunked) return refuse(p, "Transfer-Encoding is given twice");
        if (!value_is(s, "chunked")) return refuse(p, "the only transfer coding taken is chunked");
        s->chunked = true;
        return SCAN_MORE;
    case FIELD_EXPECT:
        if (s->minor == 0) return SCAN_MORE; // RFC 9110, 10.1.1: to be ignored from a 1.0 client
        if (!value_is(s, "100-continue")) return problem_set(p, ERR_EXPECTATION_FAILED, -1, "only 100-continue can be expected");
        s->expect_continue = true;
        return SCAN_MORE;
    default: return SCAN_MORE;
    }
}

static int step_value(struct http_scan *s, uint8_t c, struct problem *p)
{
    if (c == '\r') {
        s->state = VALUE_LF;
        return field_check(s, p);
    }
    if (!is_text(c)) return refuse(p, c == '\n' ? "a bare LF" : "a control character in a header's value");
    if (s->field != FIELD_OTHER && s->value_n < SCAN_VALUE_MAX) s->value[s->value_n++] = (char)c;
    return SCAN_MORE;
}

static int step_value_space(struct http_scan *s, uint8_t c, struct problem *p)
{
    if (c == ' ' || c == '\t') return SCAN_MORE;
    s->state = VALUE;
    return step_value(s, c, p);
}

// ---- the end of the head, and of the trailers ---------------------------------------------------------------------

static int head_end(struct http_scan *s, struct problem *p)
{
    if (s->minor == 1 && s->hosts == 0) return refuse(p, "Host is missing");
    if (s->chunked && s->content_length >= 0) return refuse(p, "both Content-Length and Transfer-Encoding");
    if (s->chunked && s->minor == 0) return refuse(p, "Transfer-Encoding in HTTP/1.0");
    s->left = s->content_length > 0 ? (uint64_t)s->content_length : 0;
    s->state = s->chunked ? CHUNK_SIZE : s->left > 0 ? LENGTH : DONE;
    s->line_n = 0;
    return SCAN_HEAD;
}

static int step_head_lf(struct http_scan *s, uint8_t c, struct problem *p)
{
    if (c != '\n') return refuse(p, "a CR without its LF");
    if (!s->trailers) return head_end(s, p);
    s->state = DONE;
    return SCAN_END;
}

// ---- chunks ----------------------------------------------------------------------------------------------------

static int hex_digit(uint8_t c)
{
    if (isdigit(c)) return c - '0';
    c = lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int too_large(const struct http_scan *s, struct problem *p)
{
    return problem_set(p, ERR_TOO_LARGE, -1, "the limit is %llu bytes", (unsigned long long)s->body_max);
}

static int step_chunk_size(struct http_scan *s, uint8_t c, struct problem *p)
{
    int digit = hex_digit(c);
    if (digit < 0) {
        if (s->line_n == 0 || (c != ';' && c != '\r')) return refuse(p, "a chunk size that is not a hexadecimal number");
        s->state = c == ';' ? CHUNK_EXT : CHUNK_LF;
        return SCAN_MORE;
    }
    if (s->line_n == 16) return refuse(p, "a chunk size of more than 16 digits");
    s->chunk = s->chunk << 4 | (uint64_t)digit;
    s->line_n++;
    return s->chunk > s->body_max - s->body_n ? too_large(s, p) : SCAN_MORE;
}

static int step_chunk_ext(struct http_scan *s, uint8_t c, struct problem *p)
{
    if (c == '\r') {
        s->state = CHUNK_LF;
        return SCAN_MORE;
    }
    if (!is_text(c)) return refuse(p, c == '\n' ? "a bare LF" : "a control character in a chunk extension");
    if (++s->line_n >= HTTP_CHUNK_LINE_MAX) return refuse(p, "a chunk line longer than the limit");
    return SCAN_MORE;
}

static int step_chunk_lf(struct http_scan *s, uint8_t c, struct problem *p)
{
    if (c != '\n') return refuse(p, "a CR without its LF");
    s->trailers = s->chunk == 0;
    s->state = s->trailers ? FIELD_START : CHUNK_DATA;
    s->section_n = 0;
    s->field_count = 0;
    s->left = s->chunk;
    s->body_n += s->chunk;
    s->chunk = 0;
    s->line_n = 0;
    return SCAN_MORE;
}

static int step_data_cr(struct http_scan *s, uint8_t c, struct problem *p)
{
    if (c != '\r') return refuse(p, "a chunk that does not end where it said");
    s->state = DATA_LF;
    return SCAN_MORE;
}

static int step_data_lf(struct http_scan *s, uint8_t c, struct problem *p)
{
    if (c != '\n') return refuse(p, "a chunk that does not end where it said");
    s->state = CHUNK_SIZE;
    return SCAN_MORE;
}

// ---- driving ---------------------------------------------------------------------------------------------------

static step_fn *const steps[STATES] = {
    [START] = step_start,
    [START_LF] = step_start_lf,
    [METHOD] = step_method,
    [TARGET] = step_target,
    [VERSION] = step_version,
    [LINE_LF] = step_line_lf,
    [FIELD_START] = step_field_start,
    [NAME] = step_name,
    [VALUE_SPACE] = step_value_space,
    [VALUE] = step_value,
    [VALUE_LF] = step_line_lf,
    [HEAD_LF] = step_head_lf,
    [CHUNK_SIZE] = step_chunk_size,
    [CHUNK_EXT] = step_chunk_ext,
    [CHUNK_LF] = step_chunk_lf,
    [DATA_CR] = step_data_cr,
    [DATA_LF] = step_data_lf,
};

static bool in_section(const struct http_scan *s)
{
    return s->state >= FIELD_START && s->state <= HEAD_LF;
}

static uint32_t section_max(const struct http_scan *s)
{
    return s->trailers ? HTTP_TRAILER_MAX : HTTP_HEADERS_MAX;
}

// Counts a byte of a field section before it is looked at, so that the limit is met at the same byte however the input is cut.
static int section_count(struct http_scan *s, struct problem *p)
{
    if (!in_section(s)) return 0;
    uint32_t max = section_max(s);
    if (++s->section_n > max) return problem_set(p, ERR_HEADERS_TOO_LARGE, -1, "the limit is %u bytes", max);
    return 0;
}

// Bytes at the front of `in` that only have to be of the right kind: most of a target, a name, a value. Taken
// together, up to the byte that ends them, is wrong, or would meet a limit: that one is a step's.
static size_t run(struct http_scan *s, struct span in)
{
    if (s->state != TARGET && s->state != NAME && s->state != VALUE) return 0;
    size_t n = 0, room = s->state == TARGET ? HTTP_TARGET_MAX - s->line_n : section_max(s) - s->section_n;
    if (in.n < room) room = in.n;
    if (s->state == TARGET) {
        while (n < room && is_target(in.p[n]))
            n++;
        s->line_n += (uint32_t)n;
        return n;
    }
    if (s->state == NAME) {
        for (; n < room && is_token(in.p[n]); n++)
            if (s->name_n < SCAN_NAME_MAX) s->name[s->name_n++] = (char)lower(in.p[n]);
    } else {
        while (n < room && is_text(in.p[n]))
            n++;
        size_t kept = s->field == FIELD_OTHER ? 0 : (size_t)SCAN_VALUE_MAX - s->value_n;
        if (kept > n) kept = n;
        memcpy(s->value + s->value_n, in.p, kept);
        s->value_n += (uint16_t)kept;
    }
    s->section_n += (uint32_t)n;
    return n;
}

static int content(struct http_scan *s, struct span in, size_t *used)
{
    size_t n = in.n < s->left ? in.n : (size_t)s->left;
    *used = n;
    s->left -= n;
    if (s->left == 0) s->state = s->state == LENGTH ? DONE : DATA_CR;
    return SCAN_BODY;
}

int http_scan_next(struct http_scan *s, struct span in, size_t *used, struct problem *p)
{
    *used = 0;
    if (s->err < 0) return problem_set(p, s->err, -1, "the request was refused before");
    if (s->state == DONE) return SCAN_END;
    while (*used < in.n) {
        if (s->state == LENGTH || s->state == CHUNK_DATA) return *used > 0 ? SCAN_MORE : content(s, in, used);
        assert(s->state < STATES && steps[s->state] != NULL);
        *used += run(s, SPAN(in.p + *used, in.n - *used));
        if (*used == in.n) break;
        int event = section_count(s, p);
        if (event == 0) event = steps[s->state](s, in.p[*used], p);
        if (event < 0) return s->err = event;
        (*used)++;
        if (event != SCAN_MORE) return event;
    }
    return SCAN_MORE;
}
