// Which records were read and found whole since the store was opened, so that they need not be hashed again each time they are
// read. A table of fixed size: what it has no room for is forgotten, and verified again when it is read next. Any thread.
#ifndef SEGUE_BLOB_VERIFIED_H
#define SEGUE_BLOB_VERIFIED_H

#include <stdatomic.h>

#include "blob_keys.h"

struct verified {
    atomic_ullong *slots; // the kernel gives memory for them as they are used
};

int verified_init(struct verified *v); // ERR_NOMEM
void verified_free(struct verified *v);
bool verified_has(const struct verified *v, const struct place *place);
void verified_add(struct verified *v, const struct place *place);
void verified_forget(struct verified *v, const struct place *place); // it was found damaged

#endif
