#include "json_lines.h"

#include "err.h"
#include "limits.h"
#include "utf8.h"

// One pass without a tree and without recursion: what stays is copied in runs, white space between them is left out. The text is known to be UTF-8.
struct scan {
    const uint8_t *begin, *p, *end;
    const uint8_t *run;  // from here on nothing is copied yet
    struct buf *out;
    size_t count;
    size_t depth;
    uint64_t objects;    // a bit per level: an object, not an array
    bool flat;           // the top is an array: what is inside of it are the messages
    struct problem *problem;
};

_Static_assert(JSON_DEPTH_MAX <= 64, "a bit per level");

static int bad(struct scan *s, const char *what)
{
    size_t at = (size_t)(s->p - s->begin);
    return problem_set(s->problem, ERR_BAD_JSON, (int64_t)at, "%s at byte %zu", what, at);
}

static void flush(struct scan *s)
{
    buf_put(s->out, s->run, (size_t)(s->p - s->run));
    s->run = s->p;
}

static void skip_space(struct scan *s)
{
    if (s->p == s->end || *s->p > ' ') return;
    const uint8_t *p = s->p;
    while (p < s->end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
        p++;
    if (p == s->p) return;
    flush(s);
    s->p = s->run = p;
}

// A byte that is told apart from the text around it: it is not copied.
static void drop(struct scan *s)
{
    flush(s);
    s->run = ++s->p;
}

// ---- values without others inside -------------------------------------------------------------------------------

#define EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

// None of eight bytes is a quote, a backslash or a control character: each takes one off zero, or too much, and its high bit shows it. Bytes that have
// the bit of their own are never one of these.
static bool word_is_plain(const uint8_t *p)
{
    uint64_t w;
    memcpy(&w, p, sizeof w);
    uint64_t quote = w ^ EACH('"'), slash = w ^ EACH('\\');
    uint64_t hit = (quote - EACH(1)) | (slash - EACH(1)) | (w - EACH(0x20));
    return (hit & ~w & EACH(0x80)) == 0;
}

static bool is_hex(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static int escape(struct scan *s)
{
    static const char plain[] = "\"\\/bfnrt";
    s->p++;
    if (s->p == s->end) return bad(s, "the text ends");
    if (*s->p == 'u') {
        for (int i = 0; i < 4; i++) {
            s->p++;
            if (s->p == s->end || !is_hex(*s->p)) return bad(s, "an escape has no four hexadecimal digits");
        }
    } else if (*s->p == 0 || strchr(plain, *s->p) == NULL) {
        return bad(s, "an unknown escape");
    }
    s->p++;
    return 0;
}

static int string(struct scan *s)
{
    s->p++;
    for (;;) {
        while (s->end - s->p >= 8 && word_is_plain(s->p))
            s->p += 8;
        if (s->p == s->end) return bad(s, "the text ends");
        uint8_t c = *s->p;
        if (c == '"') {
            s->p++;
            return 0;
        }
        if (c < 0x20) return bad(s, "a control character stands");
        int err = 0;
        if (c == '\\') err = escape(s);
        else s->p++;
        if (err != 0) return err;
    }
}

static int digits(struct scan *s)
{
    const uint8_t *from = s->p;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
        s->p++;
    return s->p > from ? 0 : bad(s, "a digit is missing");
}

static int number(struct scan *s)
{
    if (*s->p == '-') s->p++;
    bool zero = s->p < s->end && *s->p == '0';
    if (zero) s->p++;
    int err = zero ? 0 : digits(s);
    if (err == 0 && s->p < s->end && *s->p == '.') {
        s->p++;
        err = digits(s);
    }
    if (err == 0 && s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
        s->p++;
        if (s->p < s->end && (*s->p == '+' || *s->p == '-')) s->p++;
        err = digits(s);
    }
    return err;
}

static int word(struct scan *s, const char *w)
{
    size_t n = strlen(w);
    if (!span_starts(SPAN(s->p, (size_t)(s->end - s->p)), w)) return bad(s, "something unexpected stands");
    s->p += n;
    return 0;
}

// ---- objects and arrays -----------------------------------------------------------------------------------------

static bool in_object(const struct scan *s)
{
    return s->depth > 0 && (s->objects >> (s->depth - 1) & 1) != 0;
}

// The outermost of the messages, or what holds them.
static bool at_message(const struct scan *s)
{
    return s->depth == (s->flat ? 1u : 0u);
}

static bool at_top_array(const struct scan *s)
{
    return s->flat && s->depth == 1;
}

static int key(struct scan *s)
{
    skip_space(s);
    if (s->p == s->end || *s->p != '"') return bad(s, "a member has no name");
    int err = string(s);
    skip_space(s);
    if (err == 0 && (s->p == s->end || *s->p != ':')) return bad(s, "a colon is missing");
    if (err == 0) s->p++;
    return err;
}

static void message_end(struct scan *s)
{
    flush(s);
    buf_put_str(s->out, JSON_LINE_END);
    s->count++;
}

// Takes closing brackets and one comma, if a value stands behind it. *more: it does.
static int behind_value(struct scan *s, bool *more)
{
    for (;;) {
        if (at_message(s)) message_end(s);
        skip_space(s);
        *more = false;
        if (s->depth == 0) return 0;
        if (s->p == s->end) return bad(s, "the text ends");
        if (*s->p == ',') {
            *more = true;
            if (at_top_array(s)) drop(s);
            else s->p++;
            return in_object(s) ? key(s) : 0;
        }
        if (*s->p != (in_object(s) ? '}' : ']')) return bad(s, "a comma or a bracket is missing");
        bool top = at_top_array(s);
        if (top) drop(s);
        else s->p++;
        s->depth--;
        if (!top) continue;
        skip_space(s);
        return 0;
    }
}

// Goes into an object or an array. *inside: a value stands next; else it was empty, and is a value itself.
static int open(struct scan *s, bool *inside)
{
    bool object = *s->p == '{', top = s->depth == 0 && !object;
    if (s->depth == JSON_DEPTH_MAX)
        return problem_set(s->problem, ERR_TOO_DEEP, s->p - s->begin, "the JSON is nested deeper than %d levels", JSON_DEPTH_MAX);
    uint64_t bit = UINT64_C(1) << s->depth++;
    s->objects = object ? s->objects | bit : s->objects & ~bit;
    s->flat = s->flat || top;
    if (top) drop(s);
    else s->p++;
    skip_space(s);
    *inside = s->p == s->end || *s->p != (object ? '}' : ']');
    if (*inside) return object ? key(s) : 0;
    if (top) drop(s);
    else s->p++;
    s->depth--;
    return 0;
}

// *inside: it began something that holds others, and the first of them stands next.
static int value(struct scan *s, bool *inside)
{
    *inside = false;
    skip_space(s);
    if (s->p == s->end) return bad(s, "the text ends");
    switch (*s->p) {
    case '"': return string(s);
    case '{':
    case '[': return open(s, inside);
    case 't': return word(s, "true");
    case 'f': return word(s, "false");
    case 'n': return word(s, "null");
    case '-':
    case '0' ... '9': return number(s);
    default: return bad(s, "something unexpected stands");
    }
}

static int scan(struct scan *s)
{
    bool more = true;
    while (more) {
        int err = value(s, &more);
        bool nothing = s->flat && s->depth == 0; // "[]"
        if (err == 0 && !more && !nothing) err = behind_value(s, &more);
        if (err != 0) return err;
    }
    skip_space(s);
    return s->p == s->end ? 0 : bad(s, "more stands behind the value");
}

int json_lines_put(struct buf *out, struct span json, size_t *count, struct problem *p)
{
    size_t valid = utf8_valid_prefix(json), before = out->n;
    if (valid < json.n) return problem_set(p, ERR_BAD_JSON, (int64_t)valid, "invalid UTF-8 at byte %zu", valid);
    if (json.n == 0) return problem_set(p, ERR_BAD_JSON, 0, "the text ends at byte 0");
    struct scan s = {.begin = json.p, .p = json.p, .end = json.p + json.n, .run = json.p, .out = out, .problem = p};
    int err = scan(&s);
    if (err == 0) err = out->err;
    if (err == 0) *count = s.count;
    else buf_truncate(out, before);
    return err;
}
