#include "subs_glob.h"

#include "err.h"
#include "limits.h"
#include "utf8.h"

// The segment that begins at `from`: without its slash.
static struct span segment_at(struct span s, size_t from)
{
    const uint8_t *slash = from < s.n ? memchr(s.p + from, '/', s.n - from) : NULL;
    return span_sub(s, from, slash == NULL ? s.n : (size_t)(slash - (s.p + from)));
}

// Where the next one begins: beyond s.n + 1 where this was the last.
static size_t segment_next(struct span s, size_t from)
{
    size_t next = from + segment_at(s, from).n + 1;
    return next <= s.n ? next : s.n + 1;
}

int subs_glob_init(struct subs_glob *g, struct span text)
{
    if (text.n == 0 || text.n > SUB_PATTERN_MAX || !utf8_valid(text)) return ERR_BAD_VALUE;
    for (size_t at = 0; at <= text.n; at = segment_next(text, at)) {
        struct span segment = segment_at(text, at);
        if (segment.n != 2 && memmem(segment.p, segment.n, "**", 2) != NULL) return ERR_BAD_VALUE;
        if (memchr(segment.p, 0, segment.n) != NULL) return ERR_BAD_VALUE;
    }
    const uint8_t *star = memchr(text.p, '*', text.n);
    *g = (struct subs_glob){.text = text, .prefix = star == NULL ? text.n : (size_t)(star - text.p)};
    // "a/**" also matches "a": the slash before two stars is not needed.
    if (star != NULL && g->prefix > 0 && span_starts(span_sub(text, g->prefix, 2), "**")) g->prefix--;
    return 0;
}

// Going back to the last star alone is enough: whatever an earlier one could take in its place, the last one can take, too.
static bool segment_match(struct span pattern, struct span s)
{
    size_t p = 0, i = 0, star = SIZE_MAX, mark = 0;
    if (span_is(pattern, "*")) return s.n > 0;
    while (i < s.n) {
        if (p < pattern.n && pattern.p[p] == '*') {
            star = p++;
            mark = i;
        } else if (p < pattern.n && pattern.p[p] == s.p[i]) {
            p++;
            i++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            i = ++mark;
        } else {
            return false;
        }
    }
    while (p < pattern.n && pattern.p[p] == '*')
        p++;
    return p == pattern.n;
}

// The same one level up, where the star is "**" and the letters are segments.
bool subs_glob_match(const struct subs_glob *g, struct span path)
{
    struct span text = g->text;
    size_t p = 0, i = 0, star = SIZE_MAX, mark = 0;
    if (path.n < g->prefix || memcmp(path.p, text.p, g->prefix) != 0) return false;
    while (i <= path.n) {
        bool more = p <= text.n;
        struct span segment = more ? segment_at(text, p) : SPAN_NONE;
        if (more && span_is(segment, "**")) {
            star = p;
            p = segment_next(text, p);
            mark = i;
        } else if (more && segment_match(segment, segment_at(path, i))) {
            p = segment_next(text, p);
            i = segment_next(path, i);
        } else if (star != SIZE_MAX) {
            p = segment_next(text, star);
            i = mark = segment_next(path, mark);
        } else {
            return false;
        }
    }
    while (p <= text.n && span_is(segment_at(text, p), "**"))
        p = segment_next(text, p);
    return p > text.n;
}
