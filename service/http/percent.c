#include "percent.h"

#include "err.h"
#include "utf8.h"

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int percent_decode(struct buf *out, struct span s, bool plus_is_space)
{
    size_t from = out->n;
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        if (c == '+' && plus_is_space) c = ' ';
        if (c == '%') {
            if (s.n - i < 3) return ERR_BAD_PARAMETER;
            int high = hex_value(s.p[i + 1]), low = hex_value(s.p[i + 2]);
            if (high < 0 || low < 0 || (high == 0 && low == 0)) return ERR_BAD_PARAMETER;
            c = (uint8_t)(high << 4 | low);
            i += 2;
        }
        buf_put_u8(out, c);
    }
    if (out->err < 0) return out->err;
    return utf8_valid(SPAN(out->p + from, out->n - from)) ? 0 : ERR_BAD_PARAMETER;
}

void percent_encode(struct buf *out, struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.' || c == '_' || c == '~';
        if (plain) buf_put_u8(out, c);
        else buf_printf(out, "%%%02X", c);
    }
}
