// A content that can be read at any place, as often as it takes to bring it to the service.
#ifndef SEGUE_C_SOURCE_H
#define SEGUE_C_SOURCE_H

#include "digest.h"

struct source {
    const char *name; // for people
    int fd;
    uint64_t size;
    bool spooled; // fd is an unnamed file of ours
};

// What the descriptor has from its beginning. What is no file, or is not at its beginning, is kept in an unnamed file: the digest comes
// before the content in a request. 0 or ERR_*; close it in both cases.
int source_open(struct source *s, int fd);
void source_close(struct source *s);

// For http_request: `ctx` is a struct source.
int source_read(void *ctx, uint64_t offset, uint8_t *p, size_t n, size_t *got);

int source_hash(const struct source *s, char hex[SHA256_HEX]);

#endif
