// Resumable uploads (tus): what `segue put` does with a large content, over broken connections and runs of the program.
#ifndef SEGUE_CLI_UPLOAD_H
#define SEGUE_CLI_UPLOAD_H

#include "cli.h"
#include "digest.h"

// A content that can be read at any place.
struct source {
    const char *name; // for people
    int fd;
    uint64_t size;
};
// For http_request: `ctx` is a struct source.
int source_read(void *ctx, uint64_t offset, uint8_t *p, size_t n, size_t *got);

// Brings the content to the service, which has it as a blob then; `hex` is its digest. Which upload it was is kept in a state file
// until it is done, so that the next run goes on. CLI_DONE, or the reason has been told.
int upload_source(struct cli *c, struct source *s, const char hex[SHA256_HEX]);

#endif
