// Rows as a table for people.
#ifndef SEGUE_CLI_TABLE_H
#define SEGUE_CLI_TABLE_H

#include "json_read.h"

// Appends an array of objects: a column for each member, in the order in which they first appear. Long values are cut. 0 or ERR_*.
int table_put(const struct jr *rows, struct buf *out);

// The same for programs: an element a line, as JSON.
int table_put_lines(const struct jr *rows, struct buf *out);

// A value in a line: text as it is, all else as JSON; no control characters. `max`: columns of the terminal, then it is cut; 0: none.
int table_put_value(const struct jr *value, size_t max, struct buf *out);

#endif
