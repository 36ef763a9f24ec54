// What the last run of segue_put_tree found, so that the next one reads and sends only what is other. One file for each service, app and
// directory; a run that cannot have it goes on without.
//
//    segue sync 1
//    <dev> <ino> <mtime> <ctime>     of each file of the tree, in its order; nanoseconds; zeros: it is to be read again
//    the tree's text
#ifndef SEGUE_C_TREE_STATE_H
#define SEGUE_C_TREE_STATE_H

#include "state.h"
#include "tree_walk.h"

struct tree_state {
    struct tree tree;  // of the last run; `note` as a walk's
    struct buf stamps; // struct stamp
    int lock;          // -1: nothing is remembered
    char path[STATE_PATH_MAX];
};

// Locks and reads. What cannot be read counts as nothing.
void tree_state_open(struct tree_state *t, const struct segue *s, const char *root);
// Forgets what was read and keeps this instead.
void tree_state_save(struct tree_state *t, const struct walk *w);
void tree_state_close(struct tree_state *t);

// The bytes of it. Pure.
void tree_state_encode(const struct walk *w, struct buf *out);
// ERR_BAD_VALUE, ERR_NOMEM; `t` is then as if nothing were remembered.
int tree_state_parse(struct tree_state *t, struct span text);

#endif
