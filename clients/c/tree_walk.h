// What lies in a directory.
#ifndef SEGUE_C_TREE_WALK_H
#define SEGUE_C_TREE_WALK_H

#include <sys/stat.h>

#include "tree.h"

// By which a file is known again without reading it. All zero: it is not.
struct stamp {
    uint64_t dev, ino;
    int64_t mtime_ns, ctime_ns;
};
struct stamp stamp_of(const struct stat *st);
bool stamp_equal(const struct stamp *a, const struct stamp *b); // false where one is zero

// A file that was changed at about the time when it was read may be changed again within one tick of the file system's clock, and look the
// same: its stamp becomes zero, so that it is read again. `began_ns`: before which nothing of it was read, since 1970.
void stamp_settle(struct stamp *s, int64_t began_ns);

struct walk {
    struct tree tree;  // in order; `note` of a file's entry is the place of its stamp. Digests are not known
    struct buf stamps; // struct stamp, one for each file
    uint64_t bytes;    // of all files
    void (*on_skip)(void *ctx, const char *path); // what is no file, directory or link; may be NULL
    void *ctx;
    char path[TREE_PATH_MAX + 300]; // where an error was met
};

// The stamp of a file's entry.
struct stamp *walk_stamp(const struct walk *w, const struct tree_entry *e);

// `root` is a directory's descriptor. ERR_BAD_VALUE: a tree cannot have this path. `w` is to be freed in all cases.
int walk_dir(struct walk *w, int root);
void walk_free(struct walk *w);

#endif
