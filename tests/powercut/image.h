// What a disk may hold after a power cut: replays a log of disk.h up to some record, and builds the folder as it could
// then be found.
//
// The rules: what a barrier covered is there. Of the rest, each 512-byte sector of a file is any of its states since the
// last barrier (with some of the writes to it, in order), each by itself; the size is any that the file had since; the
// names of a folder (created, renamed, removed) are as after any number of its changes since its own last barrier, in
// order. A file's barrier says nothing about its name. This is more than ext4 will do to a program, and no
// less than a disk with a cache may.
//
// A log begins with what was there when it began (FOUND records): a cut makes sense only behind them.
//
// Positions are given in increasing order: the durable state is kept in memory and only goes forward.
#ifndef SEGUE_TEST_IMAGE_H
#define SEGUE_TEST_IMAGE_H

#include "disk.h"

struct image;

enum image_class { IMAGE_JOURNAL, IMAGE_DB, IMAGE_PACKS, IMAGE_OTHER, IMAGE_CLASSES };

enum image_mode {
    IMAGE_RANDOM, // as the seed has it
    IMAGE_NONE,   // nothing that no barrier covered
    IMAGE_ALL,    // everything: a kill, not a power cut
};

// What was at stake, and what of it an image does not have. A sector with one of two later writes has lost one write.
struct image_report {
    uint64_t unsynced_bytes[IMAGE_CLASSES]; // by the file's path
    uint64_t lost_bytes[IMAGE_CLASSES];
    uint32_t unsynced_names; // creations, renames, removals
    uint32_t lost_names;
};

// NULL if the log cannot be read.
struct image *image_open(const char *log);
void image_close(struct image *m); // NULL is fine

// Takes one record in; false at the end. `out` may be NULL.
bool image_step(struct image *m, struct disk_record *out);
// Takes records in until `position` of them are (or all); false: the log makes no sense (a name that never was).
bool image_advance(struct image *m, uint64_t position);
uint64_t image_position(const struct image *m);
bool image_sane(const struct image *m);

// Builds one possible disk into `folder`, which must be empty or missing. The same position, seed and mode give the
// same image. False: it cannot be written. `report` may be NULL.
bool image_build(struct image *m, const char *folder, uint64_t seed, enum image_mode mode, struct image_report *report);

#endif
