#include "http_select.h"

#include <strings.h>

#include "err.h"

#define GAP_MAX 128 // bytes between two parts that are cheaper sent than told apart: about what the head of a part takes

static struct span trim(struct span s)
{
    while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
        s = span_sub(s, 1, s.n);
    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

// The next member of a list with commas, trimmed; it may be empty. False: no more.
static bool next_member(struct span *list, uint8_t separator, struct span *out)
{
    if (list->p == NULL) return false;
    size_t n = 0;
    while (n < list->n && list->p[n] != separator)
        n++;
    *out = trim(span_sub(*list, 0, n));
    *list = n < list->n ? span_sub(*list, n + 1, list->n) : SPAN_NONE;
    return true;
}

// ---- ranges --------------------------------------------------------------------------------------------------------

// Digits up to the end of `s` or another character. A number beyond 64 bits is as far away as can be.
static bool take_number(struct span *s, uint64_t *out)
{
    size_t i = 0;
    *out = 0;
    for (; i < s->n && s->p[i] >= '0' && s->p[i] <= '9'; i++) {
        uint64_t digit = s->p[i] - '0';
        *out = *out > (UINT64_MAX - digit) / 10 ? UINT64_MAX : 10 * *out + digit;
    }
    *s = span_sub(*s, i, s->n);
    return i > 0;
}

// The last `n` bytes.
static bool parse_suffix(struct span s, uint64_t size, struct byte_range *out)
{
    uint64_t n;
    if (!take_number(&s, &n) || s.n != 0) return false;
    if (n > size) n = size;
    *out = (struct byte_range){.from = size - n, .n = n};
    return true;
}

// One part. False: malformed. One that cannot be satisfied has no bytes.
static bool parse_part(struct span s, uint64_t size, struct byte_range *out)
{
    uint64_t first, last = UINT64_MAX;
    if (s.n > 0 && s.p[0] == '-') return parse_suffix(span_sub(s, 1, s.n), size, out);
    if (!take_number(&s, &first) || s.n == 0 || s.p[0] != '-') return false;
    s = span_sub(s, 1, s.n);
    if (s.n > 0 && (!take_number(&s, &last) || s.n != 0 || last < first)) return false;
    uint64_t end = last >= size ? size : last + 1;
    *out = (struct byte_range){.from = first, .n = first < end ? end - first : 0};
    return true;
}

static bool is_near(const struct byte_range *a, const struct byte_range *b)
{
    uint64_t a_end = a->from + a->n, b_end = b->from + b->n;
    return a->from <= b_end + GAP_MAX && b->from <= a_end + GAP_MAX;
}

// Takes the part in; what it makes touch is joined at the place of the one that was asked for first.
static void add_part(struct byte_ranges *r, struct byte_range part)
{
    size_t at = r->count;
    for (size_t i = 0; i < r->count;) {
        struct byte_range *other = &r->at[i];
        if (i == at || !is_near(other, &part)) {
            i++;
            continue;
        }
        uint64_t end = other->from + other->n > part.from + part.n ? other->from + other->n : part.from + part.n;
        part.from = other->from < part.from ? other->from : part.from;
        part.n = end - part.from;
        if (at == r->count) {
            at = i++;
        } else {
            memmove(other, other + 1, (r->count - i - 1) * sizeof *other);
            r->count--;
        }
        i = i > at ? at + 1 : i;
        r->at[at] = part;
    }
    r->at[at] = part;
    if (at == r->count) r->count++;
}

int http_ranges_parse(struct span field, uint64_t size, struct byte_ranges *out)
{
    struct byte_ranges found = {.count = 0};
    struct span spec;
    size_t parts = 0;
    field = trim(field);
    if (field.n < 6 || strncasecmp((const char *)field.p, "bytes=", 6) != 0) return 0;
    field = span_sub(field, 6, field.n);
    while (next_member(&field, ',', &spec)) {
        struct byte_range part;
        if (spec.n == 0) continue;
        if (++parts > HTTP_RANGES_MAX || !parse_part(spec, size, &part)) return 0;
        if (part.n > 0) add_part(&found, part);
    }
    if (parts == 0) return 0;
    if (found.count == 0) return ERR_RANGE_NOT_SATISFIABLE;
    *out = found;
    return 1;
}

// ---- conditions ----------------------------------------------------------------------------------------------------

bool http_etag_listed(struct span list, struct span etag, bool strong)
{
    if (span_is(trim(list), "*")) return true;
    for (size_t i = 0; i < list.n;) {
        bool weak = list.p[i] == 'W' && i + 1 < list.n && list.p[i + 1] == '/';
        if (weak) i += 2;
        if (i >= list.n || list.p[i] != '"') {
            i += !weak;
            continue;
        }
        size_t n = 1;
        while (i + n < list.n && list.p[i + n] != '"')
            n++;
        if (i + n == list.n) return false;
        if (!(weak && strong) && span_equal(SPAN(list.p + i, n + 1), etag)) return true;
        i += n + 1;
    }
    return false;
}

// ---- codings and digests -------------------------------------------------------------------------------------------

// "q=0", "q=0.000" and the like.
static bool is_zero(struct span q)
{
    for (size_t i = 0; i < q.n; i++)
        if (q.p[i] >= '1' && q.p[i] <= '9') return false;
    return q.n > 0;
}

bool http_takes_coding(struct span accept, const char *coding)
{
    struct span item, part;
    size_t n = strlen(coding);
    while (next_member(&accept, ',', &item)) {
        next_member(&item, ';', &part);
        if (part.n != n || strncasecmp((const char *)part.p, coding, n) != 0) continue;
        while (next_member(&item, ';', &part))
            if (part.n > 2 && (part.p[0] | 0x20) == 'q' && part.p[1] == '=') return !is_zero(span_sub(part, 2, part.n));
        return true;
    }
    return false;
}

// "q=0.5" in thousandths; without one, or with a broken one, 1000.
static int quality(struct span params)
{
    struct span part;
    while (next_member(&params, ';', &part)) {
        if (part.n < 3 || (part.p[0] | 0x20) != 'q' || part.p[1] != '=') continue;
        int q = part.p[2] == '0' ? 0 : 1000;
        for (size_t i = 4, unit = 100; q < 1000 && i < part.n && part.p[i] >= '0' && part.p[i] <= '9'; i++, unit /= 10)
            q += (part.p[i] - '0') * (int)unit;
        return q;
    }
    return 1000;
}

enum coding http_choose_coding(struct span accept)
{
    // In the order of their enum; -1: not named.
    static const char *const names[] = {"identity", "gzip", "zstd"};
    int q[] = {-1, -1, -1}, others = -1;
    struct span item, part;
    while (next_member(&accept, ',', &item)) {
        next_member(&item, ';', &part);
        int likes = quality(item);
        if (span_is(part, "*")) others = likes;
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            if (part.n == strlen(names[i]) && strncasecmp((const char *)part.p, names[i], part.n) == 0) q[i] = likes;
    }
    // Who names some codings takes none at all only where nothing better is there: it stands behind them, unless it is named.
    enum coding best = CODING_NONE;
    int most = q[CODING_NONE] >= 0 ? q[CODING_NONE] : 0;
    for (int i = CODING_GZIP; i <= CODING_ZSTD; i++) {
        int likes = q[i] >= 0 ? q[i] : others;
        if (likes > 0 && likes >= most) most = likes, best = (enum coding)i;
    }
    return best;
}

bool http_type_packs(const char *type)
{
    struct span t = SPAN(type, strcspn(type, "; "));
    static const char *const whole[] = {"application/json", "application/sql", "application/xml", "application/javascript", "application/x-ndjson", "image/svg+xml"};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        if (span_is(t, whole[i])) return true;
    return span_starts(t, "text/") || (t.n > 5 && (memcmp(t.p + t.n - 5, "+json", 5) == 0));
}

bool http_wants_sha256(struct span want)
{
    struct span member;
    while (next_member(&want, ',', &member))
        if (span_starts(member, "sha-256=")) return !is_zero(span_sub(member, 8, member.n));
    return true;
}
