// Which blobs rows name: a key for each write of a digest to a cell, as long as some version that is kept has it.
//
//      rows   5, digest, table, column, id, seq of the cell   -> nothing
//
// So it is known, when history goes, which blobs no version names any more.
#ifndef SEGUE_ROWS_BLOB_NAMES_H
#define SEGUE_ROWS_BLOB_NAMES_H

#include "store.h"

// While a row is applied: what the new version names that the old one did not.
void blob_names_begin(struct rows *r, struct db_txn *txn, const struct table *t, struct uuid id, const struct row *old, const struct row *new);

// Calls for each name that goes with `was`, which `is` took the place of; `last`: nothing has come after `is` (what is deleted may
// have been restored since, with all its names).
int blob_names_ended(const struct table *t, struct uuid id, const struct row *was, const struct row *is, bool last,
                     int (*call)(void *ctx, const struct sha256 *digest, const struct key *name), void *ctx);

// Names that are to go, collected while deciding; then the digests that have no other.
struct blob_name {
    struct key key;
    struct sha256 digest;
};
struct blob_names {
    struct blob_name *list;
    size_t n, cap;
};
int blob_names_add(struct blob_names *names, const struct sha256 *digest, const struct key *key); // ERR_NOMEM
void blob_names_free(struct blob_names *names);
int blob_names_released(struct blob_names *names, struct rows *r, struct db_txn *txn, int (*call)(void *ctx, const struct sha256 *digest, struct problem *p),
                        void *ctx, struct problem *p);

#endif
