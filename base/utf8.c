#include "utf8.h"

#define HIGH_BITS UINT64_C(0x8080808080808080)

static bool is_tail(uint8_t c)
{
    return (c & 0xc0) == 0x80;
}

// The second byte's range is what keeps out overlong forms, surrogates and what lies beyond U+10FFFF.
static bool second_fits(uint8_t lead, uint8_t second)
{
    switch (lead) {
    case 0xe0: return second >= 0xa0 && second <= 0xbf;
    case 0xed: return second >= 0x80 && second <= 0x9f;
    case 0xf0: return second >= 0x90 && second <= 0xbf;
    case 0xf4: return second >= 0x80 && second <= 0x8f;
    default: return is_tail(second);
    }
}

size_t utf8_char(struct span s)
{
    if (s.n == 0) return 0;
    uint8_t c = s.p[0];
    if (c < 0x80) return 1;
    if (c < 0xc2 || c > 0xf4) return 0;
    size_t n = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    if (s.n < n || !second_fits(c, s.p[1])) return 0;
    for (size_t i = 2; i < n; i++)
        if (!is_tail(s.p[i])) return 0;
    return n;
}

size_t utf8_valid_prefix(struct span s)
{
    size_t i = 0;
    while (i < s.n) {
        // Most text is ASCII: eight bytes at a time while none has its high bit set.
        uint64_t word;
        while (s.n - i >= sizeof word) {
            memcpy(&word, s.p + i, sizeof word);
            if ((word & HIGH_BITS) != 0) break;
            i += sizeof word;
        }
        if (i == s.n) break;
        size_t n = utf8_char(SPAN(s.p + i, s.n - i));
        if (n == 0) break;
        i += n;
    }
    return i;
}

bool utf8_valid(struct span s)
{
    return utf8_valid_prefix(s) == s.n;
}

size_t utf8_cut(struct span s, size_t max)
{
    if (s.n <= max) return s.n;
    // Only a character that begins at most 3 bytes before the cut can reach over it.
    for (size_t back = 0; back <= 3 && back <= max; back++) {
        size_t i = max - back;
        if (is_tail(s.p[i])) continue;
        return utf8_char(SPAN(s.p + i, s.n - i)) > back ? i : max;
    }
    return max;
}
