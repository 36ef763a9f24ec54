// The groups of a live query, each with what its aggregates have come to, as of one state; and *shifts*, what they are in another state, found from the joined
// rows in which the two differ. A shift keeps the groups that it meets, and leaves the state as it is until it is applied.
//
// A distinct result that is not grouped is one of groups, too: by all that it shows, with nothing tallied.
#ifndef SEGUE_ROWS_GROUP_STATE_H
#define SEGUE_ROWS_GROUP_STATE_H

#include "exec.h"
#include "hash_table.h"
#include "tally.h"

struct group_row;

struct group {
    struct hash_node node;
    uint64_t no;             // its own, for as long as the state is there
    uint64_t rows;           // joined rows in it
    struct group_row *shows; // the owner's: the row of the result that it makes; NULL: none
    struct tally *tallies;   // of each aggregate
    uint32_t key_n;
    uint8_t key[];           // what is grouped by, as value_key writes it
};

// How often a value of a distinct aggregate is in its group; in a shift, how much more often.
struct counted;

struct group_state {
    struct rows *r;
    struct hash_table groups, counted;
    uint64_t last_no;
    size_t bytes; // of memory; all states' are in r->views.group_bytes
};

// What is grouped by.
size_t group_by(const struct select *s, size_t i, const struct expr **e); // how many; the i-th, if there is one

int group_state_init(struct group_state *g, struct rows *r); // ERR_NOMEM
// Its owner holds more memory for it, or less.
void group_state_hold(struct group_state *g, size_t before, size_t now);
void group_state_free(struct group_state *g, const struct select *s);

struct shifted {
    struct hash_node node;
    struct group *base; // in the state; NULL: it is not there
    struct group *now;  // in the other state; without rows it may be none at all
};

struct group_shift {
    struct group_state *of;
    const struct select *s;
    struct hash_table groups, counted;
    struct shifted **all; // in the order in which they were met
    size_t n, cap;
    size_t bytes;
    struct buf key;
};

int group_shift_init(struct group_shift *shift, struct group_state *of, const struct select *s); // ERR_NOMEM
void group_shift_free(struct group_shift *shift);

// The joined row at hand in `run` is in the other state, or (remove) it is in the state. Rows go before others come. ERR_QUERY_TOO_EXPENSIVE past QUERY_MEMORY_MAX,
// or VIEW_GROUPS_BYTES_MAX of all states; EXEC_MORE (then the row has not been counted), ERR_BAD_VALUE and what else evaluating says, ERR_NOMEM.
int group_shift_row(struct group_shift *shift, struct run *run, bool remove);
// Meets a group though no row of it comes or goes.
int group_shift_meet(struct group_shift *shift, struct span key, struct shifted **out);
// What is grouped by, of the joined row at hand.
int group_key(const struct select *s, struct run *run, struct buf *out);

// Does a tally not know its best? Then all of the group's joined rows are to be gone through: group_tally_again for each, between the other two.
bool group_is_lost(const struct group *g, const struct select *s);
void group_again_begin(struct group *g, const struct select *s);
int group_tally_again(struct group *g, const struct select *s, struct run *run); // as group_shift_row
void group_again_end(struct group *g, const struct select *s);

// The state becomes the other one. Of each group met, `base` is then the one that stands in it; NULL: it has no rows any more.
void group_shift_apply(struct group_shift *shift);

#endif
