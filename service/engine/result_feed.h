// Stream columns live inside a result: a query's feed (rows.h) and the streams of the rows in its result as one feed (base/feed.h).
//
//      rows of the snapshot, each followed by its streams          the view's changes, then what its streams brought
//      snapshot ──────────────────────────────────────────> live ──────────────────────────────────────────────────> …
//
// Values are those of the query, and those of streams (streams.h) with `"stream"` (the column) and `"of"` (the row's id or key) before their members:
// PROTOCOL.md, "Stream columns". A row that comes, in a snapshot or as `added`, brings its stream from where it was asked for; one that goes takes
// it away without a word; in between each byte is told once, in the range of its commit.
//
// Equal subscriptions share one set of the streams in the result, found by path: a commit costs work for those that it touched, and a row whose
// stream is still costs nothing. Nothing is kept of a stream but that it is there, and which commit touched it last.
#ifndef SEGUE_RESULT_FEED_H
#define SEGUE_RESULT_FEED_H

#include "app.h"

#define RESULT_FOLLOW_END UINT64_MAX

struct result_follow {
    struct span column; // by its name in the result
    // The offset below which nothing is told. RESULT_FOLLOW_END: where the stream stood when the row came, that is as of the snapshot, or of the beginning
    // of the range that brought it.
    uint64_t start;
};

// Can these columns be followed? ERR_NO_SUCH_COLUMN, ERR_BAD_PARAMETER (no stream, or one of them twice), ERR_UNSUPPORTED_SQL (of grouped or distinct rows),
// ERR_TOO_MANY.
int result_feed_check(const struct query *q, const struct result_follow *follows, size_t count, struct problem *p);

// A reader of both, of at least one column. `at`: where it resumes. The errors of the check and of rows_attach; ERR_TOO_MANY: FOLLOWED_STREAMS_MAX of one
// result, or FOLLOWED_STREAMS_APP_MAX of all, for others than who resumes from the feed. The first reader's snapshot fills the set; where nobody else has, one
// that resumes goes through the result.
int result_feed_attach(struct app *a, struct query *q, const struct result_follow *follows, size_t count, bool resume, uint64_t at, struct feed_sub **out, struct problem *p);

// Streams that are followed so, in all results.
size_t result_feeds_streams(const struct app *a);

#endif
