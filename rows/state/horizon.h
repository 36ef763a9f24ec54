// The horizon: the oldest seq that can still be read. What only earlier ones need is dropped, a bounded share in each batch of the
// service: commits up to it, versions and entries of indexes that were over by then, tombstones that are that old.
//
//      rows   3   -> format version, varint seq, u64 the greatest stamp of the commits that are gone
#ifndef SEGUE_ROWS_HORIZON_H
#define SEGUE_ROWS_HORIZON_H

#include "store.h"

int horizon_load(struct rows *r, struct db_txn *txn);

// How far one step goes towards `upto`: *reached is the last commit that it takes in, at least one; *reached == the horizon: there is none.
int horizon_reach(struct rows *r, struct db_txn *txn, uint64_t upto, uint64_t *reached);
// Drops what the seqs from `upto` on do not need, which horizon_reach has given. ERR_CORRUPT, ERR_NOMEM, or the transaction's error.
int horizon_apply(struct rows *r, struct db_txn *txn, uint64_t upto);

#endif
