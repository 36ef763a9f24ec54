// A superseded version of a row, as history keeps it: whole, or as what sets it apart from the next newer version; large ones packed.
//
//      kind and flag, [zstd of] a record                                                                    whole
//      kind and flag, [zstd of] varint schema version, varint columns,
//                     per column: varint places passed over, varint (seq - cell seq) * 2 + null, the value      a difference
//
// The seq is the key's. Now and then a version is kept whole though a difference were smaller, by chance that its seq decides: so
// to read one means to go through few others.
#ifndef SEGUE_ROWS_PAST_H
#define SEGUE_ROWS_PAST_H

#include "record.h"

// `record` is old's own; `new` is what takes its place.
void past_encode(struct buf *out, const struct table *t, const struct row *old, const struct row *new, struct span record);

// What is stored, unpacked into `room` where it has to be; *whole: a record. ERR_CORRUPT, ERR_NOMEM.
int past_open(struct span stored, struct arena *room, struct span *body, bool *whole);
// Turns the next newer version into the one that was made by commit `seq`. Values point into `body`. ERR_CORRUPT.
int past_apply(struct row_space *row, const struct table *t, uint64_t seq, struct span body);

#endif
