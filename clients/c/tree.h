// A directory as a text, which is stored as a blob of the type SEGUE_TREE_TYPE. Pure; any thread.
//
//    segue tree 1
//    d 755 photos                                   a directory: mode, path
//    f 644 48213 4b68…e1 photos/a%20sunset.jpg      a file: mode, size, SHA-256 of its content, path
//    l latest photos/a%20sunset.jpg                 a symbolic link: path, what it says
//
// There is one text for a tree, so that equal directories have equal digests: a line for each thing, in the order of the paths, where '/' comes
// before every other byte (so a directory stands right before what is in it); a mode is three octal digits; of a path every byte but '!' to '~'
// without '%' is written as %XX, in upper case. What is in a directory comes behind it; nothing is in what is none. So whoever
// makes these things one after the other, in a directory of his own, never leaves it.
#ifndef SEGUE_C_TREE_H
#define SEGUE_C_TREE_H

#include "buf.h"
#include "digest.h"

#define TREE_BYTES_MAX ((size_t)64 * 1024 * 1024) // of the text
#define TREE_PATH_MAX 4000                        // bytes of a path, or of what a link says
#define TREE_DEPTH_MAX 200
#define TREE_PART ".segue-part" // the name at the top that is kept for trees which are being fetched: no tree has it

enum tree_kind { TREE_DIR = 'd', TREE_FILE = 'f', TREE_LINK = 'l' };

struct tree_entry {
    enum tree_kind kind;
    unsigned mode; // permissions, 0 to 0777; a link has none
    uint64_t size; // of a file …
    struct sha256 sha;
    char *path;   // strings of the tree's
    char *target; // of a link; else NULL
    size_t note;  // the caller's own; the text does not have it
};

struct tree {
    struct tree_entry *at;
    size_t count, room;
};

void tree_init(struct tree *t);
void tree_free(struct tree *t);

// Whether a tree can have this: a relative path without "." and "..", and not TREE_PART.
bool tree_path_ok(struct span path);

// Adds a copy, wherever it belongs: tree_sort puts them in order. ERR_BAD_VALUE: no such path or target; ERR_NOMEM.
int tree_add(struct tree *t, const struct tree_entry *e);
void tree_sort(struct tree *t);
// The order of the text: below 0, 0 or above as of memcmp.
int tree_compare(const char *a, const char *b);

// Of a tree in order. The buffer's error tells whether it fit.
void tree_encode(const struct tree *t, struct buf *out);
// Takes nothing but what tree_encode writes. ERR_BAD_VALUE, ERR_NOMEM; `t` is to be freed in both cases.
int tree_parse(struct tree *t, struct span text);

#endif
