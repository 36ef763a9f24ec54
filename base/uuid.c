#include "uuid.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "digest.h"
#include "err.h"
#include "file.h"

// Where the dashes stand in the text, and the bytes that each group of digits holds.
static const struct {
    size_t text, byte, n;
} groups[] = {{0, 0, 4}, {9, 4, 2}, {14, 6, 2}, {19, 8, 2}, {24, 10, 6}};

#define GROUPS (sizeof groups / sizeof groups[0])

struct uuid uuid_v7(uint64_t ms, const uint8_t random[10])
{
    assert(ms < UINT64_C(1) << 48);
    struct uuid u;
    for (int i = 0; i < 6; i++)
        u.b[i] = (uint8_t)(ms >> (40 - 8 * i));
    memcpy(u.b + 6, random, 10);
    u.b[6] = 0x70 | (u.b[6] & 0x0f); // version 7
    u.b[8] = 0x80 | (u.b[8] & 0x3f); // the variant of RFC 9562
    return u;
}

struct uuid uuid_new(void)
{
    uint8_t random[10];
    random_bytes(random, sizeof random);
    return uuid_v7(clock_wall_ms(), random);
}

void random_bytes(void *p, size_t n)
{
    uint8_t *to = p;
    while (n > 0) {
        ssize_t got = getrandom(to, n, 0);
        // Ids and keys made without randomness would be worse than no service.
        if (got <= 0 && errno != EINTR) abort();
        if (got <= 0) continue;
        to += got;
        n -= (size_t)got;
    }
}

int uuid_parse(struct uuid *u, struct span text)
{
    if (text.n != UUID_TEXT) return ERR_BAD_VALUE;
    struct uuid parsed;
    for (size_t i = 0; i < GROUPS; i++) {
        if (i > 0 && text.p[groups[i].text - 1] != '-') return ERR_BAD_VALUE;
        struct span digits = SPAN(text.p + groups[i].text, 2 * groups[i].n);
        if (hex_parse(parsed.b + groups[i].byte, groups[i].n, digits) != 0) return ERR_BAD_VALUE;
    }
    *u = parsed;
    return 0;
}

void uuid_format(struct uuid u, char text[UUID_TEXT])
{
    for (size_t i = 0; i < GROUPS; i++) {
        if (i > 0) text[groups[i].text - 1] = '-';
        hex_format(text + groups[i].text, SPAN(u.b + groups[i].byte, groups[i].n));
    }
}
