// A content that can be read at any place, as often as it takes to bring it to the service.
#ifndef SEGUE_C_SOURCE_H
#define SEGUE_C_SOURCE_H

#include <sys/stat.h>

#include "digest.h"

struct source {
    const char *name; // for people
    int fd;
    uint64_t size;
    bool spooled;     // fd is an unnamed file of ours
    struct stat then; // what it was when it was opened
};

// What the descriptor has from its beginning. What is no file, or is not at its beginning, is kept in an unnamed file: the digest comes
// before the content in a request. 0 or ERR_*; close it in both cases.
int source_open(struct source *s, int fd);
void source_close(struct source *s);

// For http_request: `ctx` is a struct source. ERR_DIGEST_MISMATCH: the file has become shorter.
int source_read(void *ctx, uint64_t offset, uint8_t *p, size_t n, size_t *got);

// Whether the file was written to since: what was read of it may never have been its content.
bool source_changed(const struct source *s);

#endif
