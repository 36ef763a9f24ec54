#include "rufh.h"

#include <strings.h>

#include "base64.h"
#include "err.h"

#define DIGITS_MAX 15
#define DECIMAL_DIGITS_MAX 12

// ---- structured fields ---------------------------------------------------------------------------------------------

// What is left of a field; every reader takes its part off the front, and says false where there is none.
struct sf {
    const uint8_t *p, *end;
};

enum sf_kind { SF_INTEGER, SF_BOOLEAN, SF_BYTES, SF_OTHER };

struct sf_item {
    enum sf_kind kind;
    int64_t integer;
    bool boolean;
    struct span text; // of bytes: the base64
};

static bool sf_more(const struct sf *s)
{
    return s->p < s->end;
}

static bool sf_take(struct sf *s, char c)
{
    if (!sf_more(s) || *s->p != (uint8_t)c) return false;
    s->p++;
    return true;
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_lower(uint8_t c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_alpha(uint8_t c)
{
    return is_lower(c) || (c >= 'A' && c <= 'Z');
}

// Spaces, and where lists have them tabs, too.
static void sf_skip(struct sf *s, bool tabs)
{
    while (sf_more(s) && (*s->p == ' ' || (tabs && *s->p == '\t')))
        s->p++;
}

static bool sf_key(struct sf *s, struct span *key)
{
    const uint8_t *from = s->p;
    if (!sf_more(s) || !(is_lower(*s->p) || *s->p == '*')) return false;
    while (sf_more(s) && (is_lower(*s->p) || is_digit(*s->p) || memchr("_-.*", *s->p, 4) != NULL))
        s->p++;
    *key = SPAN(from, (size_t)(s->p - from));
    return true;
}

static size_t sf_digits(struct sf *s, size_t max, int64_t *v)
{
    size_t n = 0;
    for (; sf_more(s) && is_digit(*s->p) && n <= max; n++)
        *v = 10 * *v + (*s->p++ - '0');
    return n;
}

// An Integer, or a Decimal, whose value nobody here wants.
static bool sf_number(struct sf *s, struct sf_item *item)
{
    int64_t v = 0, fraction = 0;
    bool negative = sf_take(s, '-');
    size_t n = sf_digits(s, DIGITS_MAX, &v);
    if (n == 0 || n > DIGITS_MAX) return false;
    *item = (struct sf_item){.kind = SF_INTEGER, .integer = negative ? -v : v};
    if (!sf_take(s, '.')) return true;
    item->kind = SF_OTHER;
    size_t more = sf_digits(s, 3, &fraction);
    return n <= DECIMAL_DIGITS_MAX && more >= 1 && more <= 3;
}

static bool sf_boolean(struct sf *s, struct sf_item *item)
{
    if (!sf_take(s, '?') || !sf_more(s) || (*s->p != '0' && *s->p != '1')) return false;
    *item = (struct sf_item){.kind = SF_BOOLEAN, .boolean = *s->p++ == '1'};
    return true;
}

static bool sf_bytes(struct sf *s, struct sf_item *item)
{
    if (!sf_take(s, ':')) return false;
    const uint8_t *from = s->p, *at = memchr(from, ':', (size_t)(s->end - from));
    if (at == NULL) return false;
    *item = (struct sf_item){.kind = SF_BYTES, .text = SPAN(from, (size_t)(at - from))};
    for (const uint8_t *c = from; c < at; c++)
        if (!is_alpha(*c) && !is_digit(*c) && memchr("+/=", *c, 3) == NULL) return false;
    s->p = at + 1;
    return true;
}

// A String, or, behind a '%', a Display String.
static bool sf_string(struct sf *s)
{
    bool display = sf_take(s, '%');
    if (!sf_take(s, '"')) return false;
    while (sf_more(s)) {
        uint8_t c = *s->p++;
        if (c == '"') return true;
        if (c < ' ' || c > '~') return false;
        if (!display && c == '\\' && !sf_take(s, '"') && !sf_take(s, '\\')) return false;
        if (!display || c != '%') continue;
        for (int i = 0; i < 2; i++, s->p++)
            if (!sf_more(s) || !(is_digit(*s->p) || (*s->p >= 'a' && *s->p <= 'f'))) return false;
    }
    return false;
}

static bool sf_token(struct sf *s)
{
    if (!sf_more(s) || !(is_alpha(*s->p) || *s->p == '*')) return false;
    while (sf_more(s) && *s->p != 0 && (is_alpha(*s->p) || is_digit(*s->p) || strchr("!#$%&'*+-.^_`|~:/", *s->p) != NULL))
        s->p++;
    return true;
}

static bool sf_bare(struct sf *s, struct sf_item *item)
{
    *item = (struct sf_item){.kind = SF_OTHER};
    if (!sf_more(s)) return false;
    switch (*s->p) {
    case '?': return sf_boolean(s, item);
    case ':': return sf_bytes(s, item);
    case '"':
    case '%': return sf_string(s);
    case '@': { // a Date is an Integer behind it
        s->p++;
        bool date = sf_number(s, item) && item->kind == SF_INTEGER;
        item->kind = SF_OTHER;
        return date;
    }
    default: return is_digit(*s->p) || *s->p == '-' ? sf_number(s, item) : sf_token(s);
    }
}

static bool sf_parameters(struct sf *s)
{
    struct sf_item ignored;
    struct span key;
    while (sf_take(s, ';')) {
        sf_skip(s, false);
        if (!sf_key(s, &key)) return false;
        if (sf_take(s, '=') && !sf_bare(s, &ignored)) return false;
    }
    return true;
}

static bool sf_item(struct sf *s, struct sf_item *item)
{
    return sf_bare(s, item) && sf_parameters(s);
}

static bool sf_inner_list(struct sf *s)
{
    struct sf_item ignored;
    if (!sf_take(s, '(')) return false;
    for (;;) {
        sf_skip(s, false);
        if (sf_take(s, ')')) return sf_parameters(s);
        if (!sf_item(s, &ignored)) return false;
        if (!sf_more(s) || (*s->p != ' ' && *s->p != ')')) return false;
    }
}

// One member of a Dictionary, and the comma behind it. False: it is none.
static bool sf_member(struct sf *s, struct span *key, struct sf_item *item)
{
    *item = (struct sf_item){.kind = SF_BOOLEAN, .boolean = true};
    if (!sf_key(s, key)) return false;
    bool valued = sf_take(s, '=');
    if (!valued && !sf_parameters(s)) return false;
    if (valued && sf_more(s) && *s->p == '(') {
        item->kind = SF_OTHER;
        if (!sf_inner_list(s)) return false;
    } else if (valued && !sf_item(s, item)) {
        return false;
    }
    sf_skip(s, true);
    if (!sf_more(s)) return true;
    if (!sf_take(s, ',')) return false;
    sf_skip(s, true);
    return sf_more(s); // nothing may be behind the last comma
}

// A whole field that is one Item.
static bool sf_alone(struct span field, struct sf_item *item)
{
    if (field.p == NULL) return false;
    struct sf s = {.p = field.p, .end = field.p + field.n};
    sf_skip(&s, false);
    if (!sf_item(&s, item)) return false;
    sf_skip(&s, false);
    return !sf_more(&s);
}

// ---- fields --------------------------------------------------------------------------------------------------------

bool rufh_integer(struct span field, uint64_t *out)
{
    struct sf_item item;
    if (!sf_alone(field, &item) || item.kind != SF_INTEGER || item.integer < 0) return false;
    *out = (uint64_t)item.integer;
    return true;
}

bool rufh_boolean(struct span field, bool *out)
{
    struct sf_item item;
    if (!sf_alone(field, &item) || item.kind != SF_BOOLEAN) return false;
    *out = item.boolean;
    return true;
}

unsigned rufh_version(struct span field)
{
    uint64_t v = 0;
    if (!rufh_integer(field, &v)) return 0;
    return v == 3 || v == 5 || v == 6 || v == 8 ? (unsigned)v : 0;
}

bool rufh_complete(struct span complete, struct span incomplete, bool *out)
{
    bool v;
    if (rufh_boolean(complete, out)) return true;
    if (!rufh_boolean(incomplete, &v)) return false;
    *out = !v;
    return true;
}

static bool take_digest(struct span text, uint8_t *to, size_t n)
{
    uint8_t room[DIGEST_BYTES_MAX + 3];
    struct buf bytes = {.p = room, .cap = sizeof room, .max = sizeof room};
    if (base64_decode(&bytes, text) != 0 || bytes.n != n) return false;
    memcpy(to, bytes.p, n);
    return true;
}

// Of two members with one key the last one counts, as everywhere in a Dictionary.
static bool take_member(struct span key, const struct sf_item *item, struct rufh_digests *out)
{
    bool is_256 = span_is(key, "sha-256");
    if (!is_256 && !span_is(key, "sha-512")) return true;
    if (item->kind != SF_BYTES) return false;
    out->kinds |= is_256 ? DIGEST_SHA256 : DIGEST_SHA512;
    return is_256 ? take_digest(item->text, out->sha256, SHA256_BYTES) : take_digest(item->text, out->sha512, DIGEST_BYTES_MAX);
}

bool rufh_digests(struct span field, struct rufh_digests *out)
{
    struct rufh_digests d = {0};
    if (field.p == NULL) return false;
    struct sf s = {.p = field.p, .end = field.p + field.n};
    sf_skip(&s, false);
    while (s.end > s.p && s.end[-1] == ' ')
        s.end--;
    while (sf_more(&s)) {
        struct sf_item item;
        struct span key;
        if (!sf_member(&s, &key, &item) || !take_member(key, &item, &d)) return false;
    }
    *out = d;
    return true;
}

bool rufh_is_body_type(struct span type)
{
    size_t n = sizeof RUFH_BODY_TYPE - 1;
    if (type.n < n || strncasecmp((const char *)type.p, RUFH_BODY_TYPE, n) != 0) return false;
    return type.n == n || type.p[n] == ';' || type.p[n] == ' ' || type.p[n] == '\t';
}

// ---- what travels with the upload ------------------------------------------------------------------------------------

bool rufh_promise(struct span metadata, struct sha256 *out)
{
    static const char key[] = RUFH_PROMISE_KEY " ";
    size_t at = 0, n = sizeof key - 1;
    while (at < metadata.n) {
        const uint8_t *comma = memchr(metadata.p + at, ',', metadata.n - at);
        struct span pair = span_sub(metadata, at, comma == NULL ? metadata.n : (size_t)(comma - metadata.p) - at);
        at += pair.n + 1;
        while (pair.n > 0 && pair.p[0] == ' ')
            pair = span_sub(pair, 1, pair.n);
        if (span_starts(pair, key)) return take_digest(span_sub(pair, n, pair.n), out->b, SHA256_BYTES);
    }
    return false;
}
