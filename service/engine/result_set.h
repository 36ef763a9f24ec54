// The streams of the rows in a live result: who is in it, and which of them were touched since when. For result_feed.c.
//
//      the view's changes ──> rows come and go ──> members, by key and by path
//      a commit's streams ──observer──> by path ──> members, the last touched first
//
// Thread: the app's owner.
#ifndef SEGUE_RESULT_SET_H
#define SEGUE_RESULT_SET_H

#include "app.h"
#include "buf.h"
#include "hash_table.h"

// ---- rows' names in what a query's feed emits ----------------------------------------------------------------------

enum row_step { STEP_ADDED, STEP_CHANGED, STEP_REMOVED };

// A change, and the id or key of its row, which lies inside. False: it is none.
bool row_step_read(struct span value, bool keyed, enum row_step *step, struct span *key);
// The same of a snapshot's value.
bool row_value_key(struct span value, bool keyed, struct span *key);

// What a range did to its rows, each once, in the order in which they came up.
struct row_trace {
    struct hash_node node;
    struct row_trace *next;
    bool was, is; // in the result before, and behind
    bool came;    // was added in between, at least once
    uint16_t n;
    uint8_t key[];
};
struct row_traces {
    struct feed_sink sink; // first: takes the values …
    struct feed_sink *out; // … and passes them on; NULL: no
    bool keyed;
    struct hash_table by_key;
    struct row_trace *first, **last;
};
int row_traces_init(struct row_traces *f, bool keyed, struct feed_sink *out); // ERR_NOMEM
void row_traces_free(struct row_traces *f);
const struct row_trace *row_traces_find(const struct row_traces *f, struct span key); // NULL: nothing happened to it
static inline struct span row_trace_key(const struct row_trace *f)
{
    return SPAN(f->key, f->n);
}

// ---- the streams of all results of an app --------------------------------------------------------------------------

struct result_set;

struct result_sets {
    struct stream_observer observer; // first
    struct app *app;
    struct hash_table by_path;
    size_t sets, streams;
};

// ---- the streams of one result -------------------------------------------------------------------------------------

struct result_member {
    struct hash_node by_path, by_key;
    struct result_set *set;
    struct result_member *newer, *older;
    uint64_t moved; // no commit behind this one has touched it; 0: none since the set was filled
    uint16_t column, key_n, path_n;
    uint8_t text[]; // key, path
};

struct result_column {
    struct rows_stream_column of;
    uint64_t start;
};

struct result_set {
    struct result_sets *all;
    const struct result_column *columns;
    size_t column_count;
    bool keyed;
    struct hash_table by_key;
    struct result_member *newest, *oldest;
    size_t count;
    uint64_t known_from; // for earlier commits `moved` says nothing yet
    void (*touched)(struct result_set *set, uint64_t seq); // a member was touched; several calls in one publishing
};

// The first set makes what all share, the last one frees it.
int result_set_open(struct result_set *set, struct app *a); // the other members are set; ERR_NOMEM
void result_set_close(struct result_set *set);

// A row comes: its streams may have been touched up to `seq`. ERR_TOO_MANY, ERR_NOMEM.
int result_set_add(struct result_set *set, struct span key, uint64_t seq);
// A row of the result as of `at` is found there now: which of its streams were touched since then is looked up.
int result_set_find(struct result_set *set, struct span key, uint64_t at);
bool result_set_has(const struct result_set *set, struct span key);
void result_set_remove(struct result_set *set, struct span key);
void result_set_clear(struct result_set *set);
// Finds out when each member was touched last, if somebody asks for commits from before the set was filled.
int result_set_learn(struct result_set *set, uint64_t from); // ERR_NOMEM, or the transaction's error

// Where the stream of this column of the row is. False: the row has none there (an outer join).
bool result_column_path(const struct result_column *c, struct span key, struct buf *out);

static inline struct span result_member_key(const struct result_member *m)
{
    return SPAN(m->text, m->key_n);
}
static inline struct span result_member_path(const struct result_member *m)
{
    return SPAN(m->text + m->key_n, m->path_n);
}

#endif
