// Which views the commits of some while ago concern, for readers who are behind what views keep: a connection that comes back has up to SUBSCRIPTIONS_MAX of them, and
// all ask for the same commits. Those are gone through once, each changed row by way of the index of interests, as it did when it was applied; who is concerned by
// what is remembered for those who ask next.
//
// A round has room for so many commits and rows; the next one begins where a reader stands then. Two are remembered, of all views of the store.
#ifndef SEGUE_ROWS_VIEW_HISTORY_H
#define SEGUE_ROWS_VIEW_HISTORY_H

#include "interests.h"
#include "store.h"

struct view_history;

struct view_history *view_history_new(void); // NULL: no memory
void view_history_free(struct view_history *h); // NULL is fine

// Gives what `i` would have heard in (from, to], oldest first, until that were `hits_max` or a round is over. *reached: the last seq that was taken in whole, at
// least from + 1; 0: nothing is known, for a commit is larger than a round: whoever asks has to look himself. `fn` may be NULL. ERR_TOO_OLD, ERR_NOMEM, ERR_CORRUPT, what `fn`
// returned, or the transaction's error.
int view_history_of(struct rows *r, struct db_txn *txn, const struct interest *i, uint64_t from, uint64_t to, size_t hits_max, int (*fn)(void *ctx, struct uuid id),
                    void *ctx, uint64_t *reached);

#endif
