#include "json_write.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base64.h"
#include "file.h"
#include "utf8.h"

// A level's state. Level 0 is the place of the one value itself.
#define LEVEL_OBJECT 1
#define LEVEL_USED 2

#define REPLACEMENT "\xef\xbf\xbd" // U+FFFD

void jw_init(struct jw *w, struct buf *out)
{
    w->out = out;
    w->depth = 0;
    w->after_key = false;
    w->state[0] = 0;
}

// What has to stand between the thing before and a value.
static inline void before_value(struct jw *w)
{
    uint8_t *state = &w->state[w->depth];
    if (*state & LEVEL_OBJECT) {
        assert(w->after_key); // a member needs a name
        w->after_key = false;
        return;
    }
    assert(w->depth > 0 || *state == 0); // one value, and no more
    if (*state & LEVEL_USED) buf_put_u8(w->out, ',');
    *state |= LEVEL_USED;
}

static void open_level(struct jw *w, char bracket, uint8_t state)
{
    before_value(w);
    assert(w->depth + 1 < JW_DEPTH_MAX);
    buf_put_u8(w->out, (uint8_t)bracket);
    w->state[++w->depth] = state;
}

void jw_object(struct jw *w)
{
    open_level(w, '{', LEVEL_OBJECT);
}

void jw_array(struct jw *w)
{
    open_level(w, '[', 0);
}

void jw_end(struct jw *w)
{
    assert(w->depth > 0 && !w->after_key);
    buf_put_u8(w->out, w->state[w->depth] & LEVEL_OBJECT ? '}' : ']');
    w->depth--;
}

bool jw_done(const struct jw *w)
{
    return w->depth == 0 && w->state[0] == LEVEL_USED;
}

// ---- strings ---------------------------------------------------------------------------------------------------

// What stands after the backslash, 'u' for a code of four digits; 0: the byte stands for itself, or begins a
// character of more bytes.
static const char escapes[256] = {
    'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'b', 't', 'n', 'u', 'f', 'r', 'u', 'u', 'u', 'u', 'u',
    'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', ['"'] = '"', ['\\'] = '\\',
};

typedef int8_t sixteen __attribute__((vector_size(16)));

// True where none of sixteen bytes is a control character, a quote, a backslash or beyond ASCII (which is below zero here).
static inline bool is_plain(const uint8_t *p)
{
    sixteen v;
    uint64_t found[2];
    memcpy(&v, p, sizeof v);
    sixteen other = (v < ' ') | (v == '"') | (v == '\\');
    memcpy(found, &other, sizeof found);
    return (found[0] | found[1]) == 0;
}

// Length of what `s` begins with that can be copied as it is.
static size_t plain_run(struct span s)
{
    size_t i = 0;
    while (i < s.n) {
        if (s.n - i >= sizeof(sixteen) && is_plain(s.p + i)) {
            i += sizeof(sixteen);
            continue;
        }
        uint8_t c = s.p[i];
        if (escapes[c] != 0) break;
        size_t n = c < 0x80 ? 1 : utf8_char(SPAN(s.p + i, s.n - i));
        if (n == 0) break;
        i += n;
    }
    return i;
}

static void put_special(struct buf *out, uint8_t c)
{
    static const char hex[] = "0123456789abcdef";
    char kind = escapes[c];
    if (kind == 0) {
        buf_put(out, REPLACEMENT, sizeof REPLACEMENT - 1);
    } else if (kind == 'u') {
        char code[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
        buf_put(out, code, sizeof code);
    } else {
        char two[2] = {'\\', kind};
        buf_put(out, two, sizeof two);
    }
}

static void put_string(struct buf *out, struct span s)
{
    // No byte becomes less than one, so this asks for nothing that is not needed, and mostly for all that is.
    if (s.n > SIZE_MAX - 2 || buf_reserve(out, s.n + 2) == NULL) return;
    buf_put_u8(out, '"');
    while (s.n > 0) {
        size_t n = plain_run(s);
        buf_put(out, s.p, n);
        if (n < s.n) put_special(out, s.p[n++]);
        s = SPAN(s.p + n, s.n - n);
    }
    buf_put_u8(out, '"');
}

void jw_key_span(struct jw *w, struct span key)
{
    uint8_t *state = &w->state[w->depth];
    assert(*state & LEVEL_OBJECT);
    assert(!w->after_key);
    if (*state & LEVEL_USED) buf_put_u8(w->out, ',');
    *state |= LEVEL_USED;
    put_string(w->out, key);
    buf_put_u8(w->out, ':');
    w->after_key = true;
}

void jw_key(struct jw *w, const char *key)
{
    jw_key_span(w, SPAN_STR(key));
}

void jw_str(struct jw *w, struct span s)
{
    before_value(w);
    put_string(w->out, s);
}

void jw_plain(struct jw *w, struct span s)
{
    before_value(w);
    uint8_t *to = buf_reserve(w->out, s.n + 2);
    if (to == NULL) return;
    to[0] = to[s.n + 1] = '"';
    memcpy(to + 1, s.p, s.n);
    w->out->n += s.n + 2;
}

void jw_cstr(struct jw *w, const char *s)
{
    jw_str(w, SPAN_STR(s));
}

void jw_base64(struct jw *w, struct span s)
{
    before_value(w);
    buf_put_u8(w->out, '"');
    base64_encode(w->out, s);
    buf_put_u8(w->out, '"');
}

void jw_raw(struct jw *w, struct span json)
{
    assert(json.n > 0);
    before_value(w);
    buf_put_span(w->out, json);
}

void jw_time_ms(struct jw *w, int64_t ms)
{
    char text[TIME_TEXT];
    time_format(text, ms);
    jw_str(w, SPAN(text, sizeof text));
}

// ---- numbers and words -----------------------------------------------------------------------------------------

void jw_null(struct jw *w)
{
    before_value(w);
    buf_put(w->out, "null", 4);
}

void jw_bool(struct jw *w, bool v)
{
    before_value(w);
    buf_put(w->out, v ? "true" : "false", v ? 4 : 5);
}

static void put_uint(struct buf *out, uint64_t v, bool negative)
{
    size_t n = negative ? 2 : 1;
    for (uint64_t left = v; left >= 10; left /= 10)
        n++;
    uint8_t *to = buf_reserve(out, n);
    if (to == NULL) return;
    out->n += n;
    if (negative) to[0] = '-';
    for (; n > (negative ? 1u : 0u); v /= 10)
        to[--n] = (uint8_t)('0' + v % 10);
}

void jw_int(struct jw *w, int64_t v)
{
    before_value(w);
    put_uint(w->out, v < 0 ? 0 - (uint64_t)v : (uint64_t)v, v < 0);
}

void jw_uint(struct jw *w, uint64_t v)
{
    before_value(w);
    put_uint(w->out, v, false);
}

// 15 digits always survive a normal double, so fewer are never longer than what "%.15g" leaves of its zeros; 17 are
// always enough. A subnormal has fewer digits to tell, so there the search begins at one.
static void put_double(struct buf *out, double v)
{
    char text[40];
    int digits = fabs(v) < DBL_MIN && v != 0 ? 1 : 15;
    do
        snprintf(text, sizeof text, "%.*g", digits, v);
    while (digits++ < 17 && strtod(text, NULL) != v);
    char *exponent = strchr(text, 'e');
    if (exponent != NULL && exponent[2] == '0') memmove(exponent + 2, exponent + 3, strlen(exponent + 2)); // "e-07" is longer than "e-7"
    buf_put_str(out, text);
    // "3" would come back as an integer.
    if (strpbrk(text, ".e") == NULL) buf_put(out, ".0", 2);
}

void jw_double(struct jw *w, double v)
{
    before_value(w);
    if (!isfinite(v)) {
        buf_put(w->out, "null", 4);
    } else if (fabs(v) < 1e15 && v == (double)(int64_t)v && !(v == 0 && signbit(v))) {
        put_uint(w->out, (uint64_t)fabs(v), v < 0); // a whole number needs no search
        buf_put(w->out, ".0", 2);
    } else {
        put_double(w->out, v);
    }
}
