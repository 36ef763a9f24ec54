#include "text.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "link.h"

#define WORD_MAX 40

static char *slurp(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL || fseek(f, 0, SEEK_END) != 0) die("cannot read %s", path);
    long size = ftell(f);
    char *p = malloc((size_t)size + 1);
    rewind(f);
    if (p == NULL || fread(p, 1, (size_t)size, f) != (size_t)size) die("cannot read %s", path);
    fclose(f);
    *n = (size_t)size;
    p[size] = '\0';
    return p;
}

// A token may begin anywhere: where every byte is a character, each token is text.
static bool ascii(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((uint8_t)p[i] >= 0x80) return false;
    return true;
}

// Words are taken at random places, so each comes as often as it does in the text, and no sentence comes twice.
uint8_t *text_make(const char *path, size_t n)
{
    size_t size, at = 0;
    char *source = slurp(path, &size);
    uint8_t *out = malloc(n + WORD_MAX + 1);
    uint64_t x = 88172645463325252u;
    if (out == NULL || size < 1000) die("%s is no text to take words from", path);
    while (at < n) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        const char *p = source + x % (size - WORD_MAX);
        p += strcspn(p, " \n");
        p += strspn(p, " \n");
        size_t word = strcspn(p, " \n");
        if (word == 0 || word >= WORD_MAX || !ascii(p, word)) continue;
        memcpy(out + at, p, word);
        at += word;
        out[at++] = ' ';
    }
    free(source);
    return out;
}
