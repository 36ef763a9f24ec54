#include "base64.h"

#include "err.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static uint8_t *put_four(uint8_t *to, uint32_t bits)
{
    for (int shift = 18; shift >= 0; shift -= 6)
        *to++ = (uint8_t)alphabet[bits >> shift & 63];
    return to;
}

void base64_encode(struct buf *out, struct span s)
{
    size_t blocks = s.n / 3 + (s.n % 3 != 0);
    uint8_t *to = buf_reserve(out, 4 * blocks);
    if (to == NULL) return;
    out->n += 4 * blocks;

    size_t i = 0;
    for (; s.n - i >= 3; i += 3)
        to = put_four(to, (uint32_t)s.p[i] << 16 | (uint32_t)s.p[i + 1] << 8 | s.p[i + 2]);
    size_t rest = s.n - i;
    if (rest == 0) return;
    to = put_four(to, (uint32_t)s.p[i] << 16 | (rest == 2 ? (uint32_t)s.p[i + 1] << 8 : 0));
    to[-1] = '=';
    if (rest == 1) to[-2] = '=';
}

// The character's six bits, or 64 for one outside the alphabet.
static uint32_t six_bits(uint8_t c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26u;
    if (c >= '0' && c <= '9') return c - '0' + 52u;
    return c == '+' ? 62 : c == '/' ? 63 : 64;
}

// Decodes 4 characters of which the last `pad` are padding into 3 - pad bytes.
static bool take_four(uint8_t *to, const uint8_t *text, size_t pad)
{
    uint32_t bits = 0;
    for (size_t i = 0; i < 4; i++) {
        uint32_t six = i < 4 - pad ? six_bits(text[i]) : 0;
        if (six == 64) return false;
        bits = bits << 6 | six;
    }
    // Bits beyond the content must be zero, so that equal bytes have one text only.
    if ((bits & ((1u << 8 * pad) - 1)) != 0) return false;
    for (size_t i = 0; i < 3 - pad; i++)
        to[i] = (uint8_t)(bits >> (16 - 8 * i));
    return true;
}

int base64_decode(struct buf *out, struct span text)
{
    if (text.n % 4 != 0) return ERR_BAD_VALUE;
    if (text.n == 0) return out->err;
    size_t pad = text.p[text.n - 1] != '=' ? 0 : text.p[text.n - 2] != '=' ? 1 : 2;
    size_t n = text.n / 4 * 3 - pad;
    uint8_t *to = buf_reserve(out, n);
    if (to == NULL) return out->err;

    for (size_t i = 0; i < text.n; i += 4, to += 3)
        if (!take_four(to, text.p + i, i + 4 == text.n ? pad : 0)) return ERR_BAD_VALUE;
    out->n += n;
    return 0;
}

void base64url_encode(struct buf *out, struct span s)
{
    size_t from = out->n;
    base64_encode(out, s);
    while (out->n > from && out->p[out->n - 1] == '=')
        out->n--;
    for (size_t i = from; i < out->n; i++) {
        if (out->p[i] == '+') out->p[i] = '-';
        if (out->p[i] == '/') out->p[i] = '_';
    }
}

int base64url_decode(struct buf *out, struct span text)
{
    struct buf standard;
    int err = 0;
    buf_init(&standard, text.n + 3);
    for (size_t i = 0; i < text.n && err == 0; i++) {
        uint8_t c = text.p[i];
        if (c == '+' || c == '/' || c == '=') err = ERR_BAD_VALUE;
        buf_put_u8(&standard, c == '-' ? '+' : c == '_' ? '/' : c);
    }
    while (standard.n % 4 != 0 && standard.err == 0)
        buf_put_u8(&standard, '=');
    if (err == 0 && text.n % 4 == 1) err = ERR_BAD_VALUE;
    if (err == 0) err = standard.err;
    if (err == 0) err = base64_decode(out, buf_span(&standard));
    buf_free(&standard);
    return err;
}
