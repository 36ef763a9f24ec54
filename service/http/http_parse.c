// The head is collected as it is scanned, and parsed in one go when it is complete: so the library sees only heads that the
// scan found good, and names and values are views of one piece of memory that lives as long as the request. The body goes
// through the library as it comes.
//
// A client that sends one request after the other often sends the same head: then what was found out about the one before holds, byte for byte,
// and neither the scan nor the library looks at it again.
#include "http_parse.h"

#include <assert.h>
#include <http_parser.h>
#include <stdlib.h>
#include <strings.h>

#include "err.h"
#include "http_scan.h"
#include "limits.h"

#define LINE_MAX_BYTES 64 // the request line but for its target, and an empty line before it
#define JOINED_MAX (HTTP_HEADERS_MAX + 2 * HTTP_HEADER_COUNT_MAX)
#define TEXT_KEPT 4096 // memory that an idle connection may keep
#define RAW_KEPT 1024  // bytes of a head that is compared with the next one

// Offsets into `text`.
struct part {
    uint32_t from, n;
};

struct field {
    struct part name, value;
};

struct http_parse {
    struct http_scan scan;
    http_parser parser;
    struct http_head head;
    struct buf text;   // the raw head, then the joined values
    struct buf fields; // of struct field
    struct buf trailers; // lines "name:value\n", as they came
    bool trailer_value;  // the last thing the library told of them was a value
    struct part target;
    struct span piece; // of the present call
    bool head_done, end_done;
    bool value_last; // the last thing the library told was a value
    int err;         // sticky
    // The last head: as it came, from a connection's second on, and where it left the scan and the library.
    struct buf raw;
    struct http_scan scan_then;
    http_parser parser_then;
    bool end_then;
    bool known;      // text, fields and head are those of `raw`
    bool again;      // and the next request may begin with the same
    bool not_first;
};

struct http_parse *http_parse_new(void)
{
    struct http_parse *h = calloc(1, sizeof *h);
    if (h == NULL) return NULL;
    buf_init(&h->text, LINE_MAX_BYTES + HTTP_TARGET_MAX + HTTP_HEADERS_MAX + JOINED_MAX);
    buf_init(&h->fields, HTTP_HEADER_COUNT_MAX * sizeof(struct field));
    buf_init(&h->raw, RAW_KEPT);
    buf_init(&h->trailers, HTTP_TRAILER_MAX + KIB);
    http_parse_reset(h);
    return h;
}

void http_parse_free(struct http_parse *h)
{
    if (h == NULL) return;
    buf_free(&h->text);
    buf_free(&h->fields);
    buf_free(&h->raw);
    buf_free(&h->trailers);
    free(h);
}

static void head_forget(struct http_parse *h)
{
    http_parser_init(&h->parser, HTTP_REQUEST);
    h->parser.data = h;
    if (h->text.cap > TEXT_KEPT) buf_free(&h->text);
    buf_clear(&h->text);
    buf_clear(&h->fields);
    h->target = (struct part){0};
    h->value_last = h->known = h->again = false;
}

void http_parse_reset(struct http_parse *h)
{
    http_scan_init(&h->scan);
    h->not_first = h->not_first || h->head_done;
    h->again = h->known;
    h->head_done = h->end_done = h->trailer_value = false;
    if (h->trailers.cap > 0) buf_free(&h->trailers); // rare
    h->err = 0;
    if (!h->again) head_forget(h);
}

// Keeps a good head for the next request. A connection that asks once and then listens does not pay for it.
static void head_keep(struct http_parse *h, struct span raw)
{
    buf_clear(&h->raw);
    if (!h->not_first || raw.n > RAW_KEPT) return;
    buf_put_span(&h->raw, raw);
}

// Does the request begin with the head of the one before?
static bool head_again(struct http_parse *h, struct span *in)
{
    h->again = false;
    if (in->n < h->raw.n || memcmp(in->p, h->raw.p, h->raw.n) != 0) return false;
    *in = span_sub(*in, h->raw.n, in->n);
    h->scan = h->scan_then;
    h->parser = h->parser_then;
    h->end_done = h->end_then;
    h->head_done = true;
    return true;
}

bool http_parse_begun(const struct http_parse *h)
{
    return h->scan.begun;
}

const struct http_head *http_parse_head(const struct http_parse *h)
{
    assert(h->head_done);
    return &h->head;
}

void http_parse_body_max(struct http_parse *h, uint64_t max)
{
    h->scan.body_max = max;
}

// ---- what the library tells --------------------------------------------------------------------------------------

// A part may be told in several pieces; they are neighbours.
static void part_add(struct http_parse *h, struct part *part, const char *at, size_t n)
{
    uint32_t from = (uint32_t)((const uint8_t *)at - h->text.p);
    if (part->n == 0) part->from = from;
    assert(part->from + part->n == from && from + n <= h->text.n);
    part->n += (uint32_t)n;
}

static int on_url(http_parser *parser, const char *at, size_t n)
{
    struct http_parse *h = parser->data;
    part_add(h, &h->target, at, n);
    return 0;
}

static struct field *field_at(const struct http_parse *h, size_t i)
{
    return (struct field *)h->fields.p + i;
}

static size_t field_count(const struct http_parse *h)
{
    return h->fields.n / sizeof(struct field);
}

// What the scan has passed is kept for whoever asks at the end.
static int trailer_name(struct http_parse *h, const char *at, size_t n)
{
    if (h->trailer_value) buf_put_u8(&h->trailers, '\n');
    h->trailer_value = false;
    buf_put(&h->trailers, at, n);
    return h->trailers.err < 0;
}

static int trailer_value(struct http_parse *h, const char *at, size_t n)
{
    if (!h->trailer_value) buf_put_u8(&h->trailers, ':');
    h->trailer_value = true;
    buf_put(&h->trailers, at, n);
    return h->trailers.err < 0;
}

static int on_field(http_parser *parser, const char *at, size_t n)
{
    struct http_parse *h = parser->data;
    if (h->head_done) return trailer_name(h, at, n);
    if (h->value_last || field_count(h) == 0) buf_put(&h->fields, &(struct field){0}, sizeof(struct field));
    if (h->fields.err < 0) return 1;
    h->value_last = false;
    part_add(h, &field_at(h, field_count(h) - 1)->name, at, n);
    return 0;
}

static int on_value(http_parser *parser, const char *at, size_t n)
{
    struct http_parse *h = parser->data;
    if (h->head_done) return trailer_value(h, at, n);
    h->value_last = true;
    part_add(h, &field_at(h, field_count(h) - 1)->value, at, n);
    return 0;
}

static int on_head(http_parser *parser)
{
    struct http_parse *h = parser->data;
    h->head_done = true;
    // An Upgrade is ignored: this service speaks nothing that it could change to here.
    parser->upgrade = 0;
    return 0;
}

static int on_body(http_parser *parser, const char *at, size_t n)
{
    struct http_parse *h = parser->data;
    if (h->piece.n > 0) return 1; // the scan cuts at content's edges, so there is one piece per call
    h->piece = SPAN(at, n);
    return 0;
}

static int on_end(http_parser *parser)
{
    struct http_parse *h = parser->data;
    h->end_done = true;
    return 0;
}

// Hands bytes that the scan has passed to the library. False: it disagrees.
static bool parser_take(struct http_parse *h, struct span s)
{
    static const http_parser_settings settings = {
        .on_url = on_url,
        .on_header_field = on_field,
        .on_header_value = on_value,
        .on_headers_complete = on_head,
        .on_body = on_body,
        .on_message_complete = on_end,
    };
    h->piece = SPAN_NONE;
    if (s.n == 0) return true; // zero bytes mean the end of the connection to the library
    size_t n = http_parser_execute(&h->parser, &settings, (const char *)s.p, s.n);
    return n == s.n && HTTP_PARSER_ERRNO(&h->parser) == HPE_OK;
}

// ---- a complete head ---------------------------------------------------------------------------------------------

static struct span part_span(const struct http_parse *h, struct part part)
{
    return SPAN(h->text.p + part.from, part.n);
}

// What follows the authority of an absolute target ("http://host/path" as sent to proxies). False: not a target we take.
static bool authority_strip(struct span *target)
{
    if (target->n < 8 || strncasecmp((const char *)target->p, "http://", 7) != 0) return false;
    size_t i = 7;
    while (i < target->n && target->p[i] != '/' && target->p[i] != '?') {
        if (target->p[i++] == '@') return false;
    }
    if (i == 7) return false;
    *target = span_sub(*target, i, target->n);
    return true;
}

static int target_split(struct http_parse *h, struct problem *p)
{
    struct span t = part_span(h, h->target);
    bool star = h->head.method == METHOD_OPTIONS && span_is(t, "*");
    if (!star && (t.n == 0 || t.p[0] != '/') && !authority_strip(&t))
        return problem_set(p, ERR_BAD_REQUEST, -1, "the request target is not a path");
    const uint8_t *mark = t.n == 0 ? NULL : memchr(t.p, '?', t.n);
    size_t n = mark == NULL ? t.n : (size_t)(mark - t.p);
    h->head.path = n == 0 ? SPAN_LIT("/") : span_sub(t, 0, n);
    h->head.query = mark == NULL ? SPAN_NONE : span_sub(t, n + 1, t.n);
    return 0;
}

static void field_tidy(struct http_parse *h, struct field *f)
{
    for (uint32_t i = 0; i < f->name.n; i++) {
        uint8_t *c = h->text.p + f->name.from + i;
        if (*c >= 'A' && *c <= 'Z') *c += 32;
    }
    while (f->value.n > 0 && strchr(" \t", h->text.p[f->value.from]) != NULL)
        f->value.from++, f->value.n--;
    while (f->value.n > 0 && strchr(" \t", h->text.p[f->value.from + f->value.n - 1]) != NULL)
        f->value.n--;
}

// Joins the values of later fields of the same name to those of field `i`, and takes their names away.
static void field_join(struct http_parse *h, size_t i)
{
    struct field *f = field_at(h, i);
    bool joined = false;
    for (size_t k = i + 1; k < field_count(h); k++) {
        struct field *later = field_at(h, k);
        if (later->name.n == 0 || !span_equal(part_span(h, f->name), part_span(h, later->name))) continue;
        if (!joined) {
            // Room first: what is put must not lie in memory that moves while it is put.
            if (buf_reserve(&h->text, f->value.n) == NULL) return;
            uint32_t from = (uint32_t)h->text.n;
            buf_put_span(&h->text, part_span(h, f->value));
            f->value.from = from;
            joined = true;
        }
        if (buf_reserve(&h->text, later->value.n + 2u) == NULL) return;
        buf_put_str(&h->text, ", ");
        buf_put_span(&h->text, part_span(h, later->value));
        f->value.n += later->value.n + 2;
        later->name.n = 0;
    }
}

bool http_parse_field(const struct http_parse *h, const char *name, struct span *value)
{
    for (size_t i = 0; i < field_count(h); i++) {
        const struct field *f = field_at(h, i);
        if (f->name.n == 0 || !span_is(part_span(h, f->name), name)) continue;
        *value = part_span(h, f->value);
        return true;
    }
    return false;
}

bool http_parse_trailer(const struct http_parse *h, const char *name, struct span *value)
{
    size_t n = strlen(name);
    struct span rest = buf_span(&h->trailers);
    while (rest.n > 0) {
        const uint8_t *nl = memchr(rest.p, '\n', rest.n);
        struct span line = span_sub(rest, 0, nl == NULL ? rest.n : (size_t)(nl - rest.p));
        rest = span_sub(rest, line.n + 1, rest.n);
        if (line.n <= n || line.p[n] != ':' || strncasecmp((const char *)line.p, name, n) != 0) continue;
        struct span v = span_sub(line, n + 1, line.n);
        while (v.n > 0 && strchr(" \t", v.p[0]) != NULL)
            v = span_sub(v, 1, v.n);
        while (v.n > 0 && strchr(" \t", v.p[v.n - 1]) != NULL)
            v.n--;
        *value = v;
        return true;
    }
    return false;
}

// Does a comma-separated list hold this word?
static bool list_has(struct span list, const char *word)
{
    size_t n = strlen(word);
    for (size_t i = 0; i < list.n;) {
        size_t from = i;
        while (i < list.n && list.p[i] != ',')
            i++;
        size_t to = i++;
        while (from < to && strchr(" \t", list.p[from]) != NULL)
            from++;
        while (to > from && strchr(" \t", list.p[to - 1]) != NULL)
            to--;
        if (to - from == n && strncasecmp((const char *)list.p + from, word, n) == 0) return true;
    }
    return false;
}

static bool keep_alive(const struct http_parse *h)
{
    struct span connection;
    if (!http_parse_field(h, "connection", &connection)) return h->scan.minor == 1;
    if (list_has(connection, "close")) return false;
    return h->scan.minor == 1 || list_has(connection, "keep-alive");
}

static int head_finish(struct http_parse *h, struct problem *p)
{
    head_keep(h, buf_span(&h->text));
    bool agreed = parser_take(h, buf_span(&h->text)) && h->head_done;
    if (!agreed) return problem_set(p, ERR_BAD_REQUEST, -1, "the request's head does not parse");
    for (size_t i = 0; i < field_count(h); i++)
        field_tidy(h, field_at(h, i));
    for (size_t i = 0; i < field_count(h); i++) {
        if (field_at(h, i)->name.n > 0) field_join(h, i);
    }
    if (h->text.err < 0) return problem_set(p, h->text.err, -1, "no memory for the request's head");
    h->head = (struct http_head){.method = h->scan.method,
                                 .minor = h->scan.minor,
                                 .keep_alive = keep_alive(h),
                                 .chunked = h->scan.chunked,
                                 .expect_continue = h->scan.expect_continue,
                                 .content_length = h->scan.content_length};
    int err = target_split(h, p);
    if (err < 0) return err;
    h->known = h->not_first && h->raw.n > 0 && h->raw.err == 0;
    h->scan_then = h->scan;
    h->parser_then = h->parser;
    h->end_then = h->end_done;
    return PARSE_HEAD;
}

// ---- driving ---------------------------------------------------------------------------------------------------

// One event of the scan, checked against the library.
static int step(struct http_parse *h, struct span *in, struct span *piece, struct problem *p)
{
    size_t used;
    int event = http_scan_next(&h->scan, *in, &used, p);
    // What came before the fault is judged first, or the finding would depend on where the input was cut.
    if (event < 0 && h->head_done && !parser_take(h, span_sub(*in, 0, used))) {
        if (p != NULL) *p = PROBLEM_NONE;
        return problem_set(p, ERR_BAD_REQUEST, -1, "the request's body does not parse");
    }
    if (event < 0) return event;
    struct span took = span_sub(*in, 0, used);
    *in = span_sub(*in, used, in->n);
    if (!h->head_done) {
        buf_put_span(&h->text, took);
        if (h->text.err < 0) return problem_set(p, h->text.err, -1, "no memory for the request's head");
        return event == SCAN_HEAD ? head_finish(h, p) : PARSE_MORE;
    }
    bool agreed = parser_take(h, took);
    if (event == SCAN_BODY)
        agreed = agreed && h->piece.p == took.p && h->piece.n == took.n;
    else
        agreed = agreed && h->piece.n == 0 && h->end_done == (event == SCAN_END);
    if (!agreed) return problem_set(p, ERR_BAD_REQUEST, -1, "the request's body does not parse");
    *piece = took;
    return event == SCAN_BODY ? PARSE_PIECE : event == SCAN_END ? PARSE_END : PARSE_MORE;
}

int http_parse_next(struct http_parse *h, struct span *in, struct span *piece, struct problem *p)
{
    if (h->err < 0) return problem_set(p, h->err, -1, "the request was refused before");
    if (h->again && in->n > 0) {
        if (head_again(h, in)) return PARSE_HEAD;
        head_forget(h);
    }
    int event;
    do {
        event = step(h, in, piece, p);
    } while (event == PARSE_MORE && in->n > 0);
    if (event < 0) h->err = event;
    return event;
}
