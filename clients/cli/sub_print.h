// What a subscription brings, for people: a line for each change, a stream's text as it grows.
//
//   [12] q1 = 0192…  body=hello          a row of the snapshot
//   [13] q1 + 0192…  body=hi             added (~ changed, - removed)
//   [13] q2 = 4vX1y…  status=open  count=3   a row that a key names: a group's, or a joined one
//   [13] s1> The answer is 42            a stream's text; by itself where nothing else is subscribed to
//   [14] s1 closed
//   [15] q1 0192….body> The       a stream column that comes with its rows (--with)
#ifndef SEGUE_CLI_SUB_PRINT_H
#define SEGUE_CLI_SUB_PRINT_H

#include "json_read.h"

struct sub_printer {
    struct buf *out;
    bool bare;       // one stream and nothing else: no names in front of its text
    struct buf open; // whose text the unfinished line is; empty: nobody's
    bool at_line_start;
};

void sub_printer_init(struct sub_printer *p, struct buf *out, bool bare);
void sub_printer_free(struct sub_printer *p);

// The values of one subscription: of a snapshot, or the changes of a commit. 0 or ERR_*.
int sub_print_values(struct sub_printer *p, int64_t seq, struct span name, const struct jr *values, bool snapshot);

// Ends an unfinished line.
void sub_print_break(struct sub_printer *p);

#endif
