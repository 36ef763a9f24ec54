// Requests as bytes: scan and parser. However the input is cut, the outcome has to be the same.
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include "checksum.h"
#include "err.h"
#include "http_parse.h"

#define BODY_MAX 5000

// Everything that a caller sees, as a hash.
struct outcome {
    uint64_t hash;
    size_t requests, body;
    int err;
};

static void note(struct outcome *o, struct span s)
{
    o->hash = checksum64(s, o->hash);
}

static void note_head(struct outcome *o, struct http_parse *h)
{
    static const char *const names[] = {"host", "a", "connection", "content-length", "transfer-encoding", "expect"};
    const struct http_head *head = http_parse_head(h);
    uint8_t bits[] = {(uint8_t)head->method, head->minor, head->keep_alive, head->chunked, head->expect_continue};
    note(o, SPAN(bits, sizeof bits));
    note(o, head->path);
    note(o, head->query);
    note(o, SPAN(&head->content_length, sizeof head->content_length));
    assert(head->path.n > 0 && !(head->chunked && head->content_length >= 0));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct span value;
        if (http_parse_field(h, names[i], &value)) note(o, value);
    }
    http_parse_body_max(h, BODY_MAX);
}

// Goes on until the piece is used up. False: refused.
static bool take(struct outcome *o, struct http_parse *h, struct span in, struct buf *body)
{
    for (;;) {
        struct span piece;
        struct problem p = PROBLEM_NONE;
        size_t before = in.n;
        int event = http_parse_next(h, &in, &piece, &p);
        assert(in.n <= before);
        if (event < 0) {
            assert(p.err == event && p.text[0] != '\0');
            o->err = event;
            return false;
        }
        if (event == PARSE_MORE) return true;
        if (event == PARSE_HEAD) note_head(o, h);
        if (event == PARSE_PIECE) buf_put_span(body, piece);
        if (event != PARSE_END) continue;
        o->requests++;
        o->body += body->n;
        note(o, buf_span(body));
        buf_clear(body);
        http_parse_reset(h);
    }
}

// `seed` 0: in one piece.
static struct outcome run(struct span in, uint32_t seed)
{
    struct outcome o = {0};
    struct http_parse *h = http_parse_new();
    struct buf body;
    buf_init(&body, 1 << 20);
    while (in.n > 0) {
        size_t n = in.n;
        if (seed != 0) {
            seed = seed * 1664525u + 1013904223u;
            n = 1 + (seed >> 16) % (seed >> 31 ? 4 : 60);
        }
        struct span piece = span_sub(in, 0, n);
        // A copy of its own size, so that a sanitizer sees a read past it.
        uint8_t *copy = malloc(piece.n);
        memcpy(copy, piece.p, piece.n);
        bool on = take(&o, h, SPAN(copy, piece.n), &body);
        free(copy);
        if (!on) break;
        in = span_sub(in, piece.n, in.n);
    }
    note(&o, buf_span(&body));
    buf_free(&body);
    http_parse_free(h);
    return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3) return 0;
    uint32_t seed = (uint32_t)(data[0] | data[1] << 8) | 1;
    struct span in = SPAN(data + 2, size - 2);
    struct outcome whole = run(in, 0), cut = run(in, seed);
    assert(whole.hash == cut.hash && whole.err == cut.err && whole.requests == cut.requests && whole.body == cut.body);
    assert(whole.requests <= in.n / 16); // "GET / HTTP/1.0" and two line ends
    assert(whole.body <= in.n);
    return 0;
}
