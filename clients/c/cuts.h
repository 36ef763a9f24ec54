// A content as the chunks that the service would cut it into (blobs/README.md, "The cut rule"), and the digest of the whole: read once.
#ifndef SEGUE_C_CUTS_H
#define SEGUE_C_CUTS_H

#include "source.h"

struct piece {
    struct sha256 sha;
    uint64_t at;
    uint32_t length;
    bool same;    // as one before it
    bool missing; // as far as the service has said
};

struct cuts {
    struct piece *at;
    size_t count, room;
    uint64_t distinct; // bytes of those that are not the same as one before
    char hex[SHA256_HEX];
};

// ERR_NOMEM, or what reading met; `c` is to be freed in all cases.
int cuts_make(struct cuts *c, struct source *source);
void cuts_free(struct cuts *c);

#endif
