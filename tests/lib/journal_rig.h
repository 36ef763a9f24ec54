// A journal in a temporary folder, for its tests: payloads that tell which group they are of, copies of its folder, damage.
#ifndef SEGUE_TEST_JOURNAL_RIG_H
#define SEGUE_TEST_JOURNAL_RIG_H

#include "journal.h"

#define JRIG_SEGMENT 16384 // bytes of a segment

struct jrig {
    char *folder; // temporary
    char *path;   // of the journal, in it
    struct journal *j;
};

// For cmocka: *state is the rig, with an empty journal open.
int jrig_setup(void **state);
int jrig_teardown(void **state);

// What a replay brought: [first, next), both 0 if nothing.
struct jrig_replay {
    uint64_t first, next;
    uint64_t fail_at; // this group's callback gives ERR_BAD_BATCH
};
// A journal_replay_fn that fails the test unless groups come in order with the payloads of jrig_append.
int jrig_replay_one(void *ctx, uint64_t group, struct span payload);

int jrig_try_open(struct journal **j, const char *path, uint64_t bytes, struct jrig_replay *r, struct problem *p);
void jrig_open(struct jrig *f, struct jrig_replay *r); // must succeed
void jrig_reopen(struct jrig *f, struct jrig_replay *r);
// Opens, closes, and tells which groups there are.
struct jrig_replay jrig_look(const char *path);

// A payload of `n` bytes.
int jrig_try_append(struct journal *j, size_t n, bool *unknown);
void jrig_append(struct journal *j, size_t n); // must succeed

// A copy of a flat folder; the caller gives it to tmp_remove.
char *jrig_copy(struct jrig *f, const char *from);
// The path of the `index`-th segment file from the end (0: the last). The caller frees it.
char *jrig_segment(const char *folder, int index);
// How many names of the folder have `part` in them.
int jrig_count_names(const char *folder, const char *part);
// Changes one byte; a second time changes it back.
void jrig_flip(const char *path, uint64_t offset);
// A number that changes with any name, content, inode or time of change in the folder.
uint64_t jrig_state(const char *folder);

#endif
