// Where `segue sub` left off, for its next run: a cursor in a file of its own, or the file that it writes to, whose last whole line with a cursor says it.
#ifndef SEGUE_CLI_SUB_PLACE_H
#define SEGUE_CLI_SUB_PLACE_H

#include "buf.h"

// Reads the cursor that a file keeps into `cursor`: empty where there is no file, or nothing in it. CLI_DONE, else the reason has been told.
int sub_place_read(const char *path, struct buf *cursor);
// Replaces it as a whole. False: it does not work, and the reason has been told.
bool sub_place_write(const char *path, const char *cursor);

// Opens, or makes, the file that an earlier run may have written to, as standard output; one run at a time. It is cut behind its last line that bears a cursor, which is
// put into `cursor`: what stood behind is of no whole range, and comes anew. A file that no run wrote is refused. CLI_DONE, else the reason has been told.
int sub_place_open(const char *path, struct buf *cursor);

#endif
