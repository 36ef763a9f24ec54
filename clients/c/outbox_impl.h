// What the two files of the outbox share: outbox.c keeps, outbox_send.c sends.
#ifndef SEGUE_C_OUTBOX_IMPL_H
#define SEGUE_C_OUTBOX_IMPL_H

#include "client.h"
#include "outbox_store.h"

struct segue_outbox {
    struct segue *client;
    struct outbox_store *store;
    struct outbox_bounds bounds;
    char replica[UUID_TEXT + 1]; // what the entry that was given out last refers to
    struct buf room, tag, text, code, detail;
};

// A call ended with this error of the store.
int outbox_fail(struct segue_outbox *o, int err);

// The item as the program sees it.
int outbox_show(struct segue_outbox *o, const struct outbox_item *item, struct segue_outbox_entry *out);

#endif
