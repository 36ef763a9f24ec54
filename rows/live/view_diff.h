// From one list of rows to another, as the steps that a client applies one after the other.
#ifndef SEGUE_ROWS_VIEW_DIFF_H
#define SEGUE_ROWS_VIEW_DIFF_H

#include "store.h"

enum view_op_kind { VIEW_ADDED, VIEW_CHANGED, VIEW_REMOVED };

// `was`: where the row stood in the list as the steps before have left it; `at`: where it stands once this step is done.
struct view_op {
    enum view_op_kind kind;
    struct uuid id;
    uint32_t at, was;
};

struct view_ops {
    struct view_op *ops;
    size_t n, cap;
};
int view_ops_add(struct view_ops *out, struct view_op op); // ERR_NOMEM
void view_ops_free(struct view_ops *ops);

// A step as clients see it: the row, as JSON, is written between the two; a removed one has none. `key`: of a keyed query, the row's; else none, and rows go by
// their id. `ordered`: the query says where rows stand.
struct jw;
void view_op_begin(struct jw *w, const struct view_op *op, struct span key);
void view_op_end(struct jw *w, const struct view_op *op, struct span key, bool ordered);

// A row in `touched` (sorted) that is in both lists has changed, and may have moved; all other rows of both keep their order
// among themselves (ERR_CORRUPT where they do not). Removals come first, so the list is never longer than the longer of the two.
int view_diff(const struct uuid *before, size_t before_count, const struct uuid *after, size_t after_count, const struct id_set *touched,
              struct view_ops *out);

#endif
