// Live queries over rows that lie over the store, as feeds (base/feed.h) with changes in the form that views give them (rows.h): on a branch; and a live
// preview, on the state as it is with some operations laid over it that nobody has committed.
//
// A branch's rows are made of what was written to it, and no commit says what it changes in them. Of a result without groups, order and limit the rows that
// were touched, on the branch or under it, say what is different (live_difference.h), and nothing is kept of it; others run again over the state that is asked for,
// are kept as ids and digests, and compared. What a branch was at any seq is known for as long as it is there, so a reader resumes like any other.
#ifndef SEGUE_BRANCH_FEED_H
#define SEGUE_BRANCH_FEED_H

#include "app.h"
#include "live_preview.h"

// A reader of the query on the branch, which has to be this very one (branch.no). `at`: where it begins, with a snapshot as of there unless it resumes.
// ERR_UNSUPPORTED_SQL, ERR_QUERY_TOO_EXPENSIVE, ERR_RESULT_TOO_LARGE, ERR_TOO_MANY, ERR_NO_SUCH_BRANCH, ERR_TOO_OLD, or that of the operation that does not
// fit any more. All but the first and ERR_TOO_MANY may come from the feed later, too: the branch was merged or dropped, or the result has grown.
int branch_feed_attach(struct app *a, struct query *q, struct span branch, uint64_t no, bool resume, uint64_t at, struct feed_sub **out, struct problem *p);
// A reader of what the query would give if these were merged next, whatever is next; `ops` are copied. Errors are those of a branch, and that of the operation
// that does not fit, now or later.
int preview_feed_attach(struct app *a, struct query *q, const struct live_preview *preview, bool resume, uint64_t at, struct feed_sub **out, struct problem *p);

#endif
