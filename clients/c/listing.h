// Naming a blob by the list of its chunks, once the service has them (PROTOCOL.md, "Delta uploads"): in one list, or in pages.
#ifndef SEGUE_C_LISTING_H
#define SEGUE_C_LISTING_H

#include "cuts.h"
#include "tus.h"

#define LISTING_PAGE_CHUNKS 2048 // a longer list comes in pages: some 128 MiB, which the service reads before it answers

struct listing {
    struct segue *client;
    const struct segue_put_options *what;
    const struct source *source;
    const struct cuts *cuts;
    // Nothing had to be sent, so the blob is perhaps there. One list is answered at once then, where something keeps it; where nothing does, its
    // grace begins anew: who stores it may rely on that.
    bool is_old;
    struct tus at; // an upload that pages have moved forward; zero at first
};

// *again: the service does not have all of them any more. Call it again when they are there: what was listed stays so. Gives what a call gives.
int listing_name(struct listing *l, bool *again);

// A digest as a JSON string.
void listing_put_hash(struct buf *out, const struct sha256 *sha);

#endif
