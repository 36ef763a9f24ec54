#include "wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define LINE_MAX_BYTES 32

size_t http_head(struct span in, int *status)
{
    const uint8_t *end = in.n < 12 ? NULL : memmem(in.p, in.n, "\r\n\r\n", 4);
    if (end == NULL) return 0;
    *status = (in.p[9] - '0') * 100 + (in.p[10] - '0') * 10 + (in.p[11] - '0');
    return (size_t)(end - in.p) + 4;
}

// A number in ASCII; it ends at the first other character.
static size_t number(const uint8_t *p, const uint8_t *end, unsigned base)
{
    size_t n = 0;
    for (; p < end; p++) {
        unsigned digit = *p >= '0' && *p <= '9'                 ? *p - (unsigned)'0'
                         : (*p | 32) >= 'a' && (*p | 32) <= 'f' ? (*p | 32) - (unsigned)'a' + 10
                                                                : 99;
        if (digit >= base) break;
        n = n * base + digit;
    }
    return n;
}

// The value of a field in a head, or NULL.
static const uint8_t *field(struct span head, const char *name)
{
    size_t n = strlen(name);
    for (const uint8_t *p = head.p, *end = head.p + head.n; p != NULL && p + n + 3 < end; p = memchr(p, '\n', (size_t)(end - p))) {
        if (*p == '\n') p++;
        if (strncasecmp((const char *)p, name, n) == 0 && p[n] == ':') return p + n + 1 + (p[n + 1] == ' ');
    }
    return NULL;
}

static long chunked(struct span in, size_t at)
{
    for (;;) {
        const uint8_t *line = memmem(in.p + at, in.n - at, "\r\n", 2);
        if (line == NULL) return 0;
        size_t n = number(in.p + at, line, 16);
        at = (size_t)(line - in.p) + 2 + n + 2;
        if (at > in.n) return 0;
        if (n == 0) return (long)at;
    }
}

long http_reply(struct span in, int *status)
{
    size_t head = http_head(in, status);
    if (in.n >= 5 && memcmp(in.p, "HTTP/", 5) != 0) return -1;
    if (head == 0) return 0;
    struct span fields = span_sub(in, 0, head);
    if (*status == 204 || *status == 304) return (long)head;
    if (field(fields, "transfer-encoding") != NULL) return chunked(in, head);
    const uint8_t *length = field(fields, "content-length");
    size_t all = head + (length == NULL ? 0 : number(length, in.p + head, 10));
    return all <= in.n ? (long)all : 0;
}

long resp_reply(struct span in)
{
    const uint8_t *line = in.n == 0 ? NULL : memmem(in.p, in.n, "\r\n", 2);
    if (line == NULL) return 0;
    size_t n = (size_t)(line - in.p) + 2;
    if (in.p[0] == '-') return -1;
    if (in.p[0] == '$') n += number(in.p + 1, line, 10) + 2;
    return n <= in.n ? (long)n : 0;
}

// ---- WebSocket ----

// The mask keeps proxies from being fooled; against loopback any will do.
static void ws_put(struct buf *out, uint8_t opcode, struct span payload)
{
    static const uint8_t mask[4] = {0x5a, 0xc3, 0x17, 0x88};
    uint8_t head[2] = {(uint8_t)(0x80 | opcode), (uint8_t)(0x80 | (payload.n < 126 ? payload.n : payload.n < 65536 ? 126 : 127))};
    buf_put(out, head, sizeof head);
    if (payload.n >= 126 && payload.n < 65536)
        buf_put_u16_be(out, (uint16_t)payload.n);
    else if (payload.n >= 65536)
        buf_put_u64_be(out, payload.n);
    buf_put(out, mask, sizeof mask);
    uint8_t *to = buf_reserve(out, payload.n);
    if (to == NULL) return;
    for (size_t i = 0; i < payload.n; i++)
        to[i] = payload.p[i] ^ mask[i % 4];
    out->n += payload.n;
}

void ws_put_text(struct buf *out, struct span text)
{
    ws_put(out, 1, text);
}

void ws_put_binary(struct buf *out, struct span bytes)
{
    ws_put(out, 2, bytes);
}

void ws_put_pong(struct buf *out, struct span payload)
{
    ws_put(out, 10, payload);
}

long ws_frame(struct span in, int *opcode, struct span *payload)
{
    if (in.n < 2) return 0;
    size_t head = 2, n = in.p[1] & 0x7f;
    if (n == 126) head = 4;
    if (n == 127) head = 10;
    if (in.n < head) return 0;
    if (head > 2) n = 0;
    for (size_t i = 2; i < head; i++)
        n = n << 8 | in.p[i];
    *opcode = in.p[0] & 15;
    if (*opcode == 8) return -1;
    if (in.n - head < n) return 0;
    *payload = span_sub(in, head, n);
    return (long)(head + n);
}

// ---- stamps ----

void stamp_put(uint8_t *to, uint64_t ns)
{
    to[0] = '~', to[1] = 'T';
    for (int i = 20; i >= 2; i--, ns /= 10)
        to[i] = (uint8_t)('0' + ns % 10);
    to[21] = '~';
}

bool stamp_next(struct span in, size_t *at, uint64_t *ns)
{
    const uint8_t *p = in.n <= *at ? NULL : memmem(in.p + *at, in.n - *at, "~T", 2);
    if (p == NULL || (size_t)(in.p + in.n - p) < STAMP_BYTES) {
        // The last byte may be the first of a stamp.
        if (p != NULL)
            *at = (size_t)(p - in.p);
        else if (in.n > *at + 1)
            *at = in.n - 1;
        return false;
    }
    *ns = 0;
    for (int i = 2; i <= 20; i++)
        *ns = *ns * 10 + (p[i] - '0');
    *at = (size_t)(p - in.p) + STAMP_BYTES;
    return true;
}
