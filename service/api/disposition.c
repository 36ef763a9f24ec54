#include "disposition.h"

#include <strings.h>

#include "utf8.h"

bool disposition_is_safe(struct span type)
{
    static const char *const safe[] = {"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp", "text/plain", "application/json"};
    size_t n = 0;
    while (n < type.n && type.p[n] != ';' && type.p[n] != ' ')
        n++;
    if (n > 6 && (strncasecmp((const char *)type.p, "audio/", 6) == 0 || strncasecmp((const char *)type.p, "video/", 6) == 0)) return true;
    for (size_t i = 0; i < sizeof safe / sizeof *safe; i++)
        if (strlen(safe[i]) == n && strncasecmp((const char *)type.p, safe[i], n) == 0) return true;
    return false;
}

// A name is no path: what stands before the last slash of either kind is left out.
static struct span last_segment(struct span s)
{
    for (size_t i = s.n; i > 0; i--)
        if (s.p[i - 1] == '/' || s.p[i - 1] == '\\') return span_sub(s, i, s.n);
    return s;
}

// What stands for itself between the quotes in every browser: neither quotes nor escapes, nor what looks like an escape.
static bool is_plain(uint8_t c)
{
    return c >= ' ' && c <= '~' && c != '"' && c != '%';
}

// attr-char of RFC 8187.
static bool is_attr(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c != 0 && strchr("!#$&+-.^_`|~", c) != NULL);
}

void disposition_put(struct buf *out, bool attachment, struct span filename)
{
    struct span name = last_segment(filename);
    name = span_sub(name, 0, utf8_cut(name, FILENAME_MAX_BYTES));
    bool plain = true;
    buf_put_str(out, attachment ? "attachment" : "inline");
    if (name.n == 0 || !utf8_valid(name)) return;
    buf_put_str(out, "; filename=\"");
    for (size_t i = 0; i < name.n; i++) {
        bool good = is_plain(name.p[i]);
        plain = plain && good;
        if (good || (name.p[i] & 0xc0) != 0x80) buf_put_u8(out, good ? name.p[i] : '_'); // one for each character
    }
    buf_put_str(out, "\"");
    if (plain) return;
    buf_put_str(out, "; filename*=UTF-8''");
    for (size_t i = 0; i < name.n; i++) {
        if (is_attr(name.p[i])) buf_put_u8(out, name.p[i]);
        else buf_printf(out, "%%%02X", name.p[i]);
    }
}
