// What the threads of several loops have for each other: letters, in the order of their sending. Nothing else goes from one loop's thread to another's.
// A box is as full as those who send let it be: each connection has one letter on its way at most, or its request has one to each loop.
#ifndef SEGUE_MAILBOX_H
#define SEGUE_MAILBOX_H

#include <stdbool.h>
#include <uv.h>

struct mailbox;

// The sender's; from a sending that worked on it is the receiver's.
struct letter {
    void (*read)(struct letter *l); // on the thread of the mailbox's loop, once
    struct letter *next;
};

// Thread: the loop's. While it is open the loop stays alive. ERR_NOMEM.
int mailbox_open(struct mailbox **out, uv_loop_t *loop);
// Any thread, until mailbox_free. False: closed; the letter is still the sender's.
bool mailbox_send(struct mailbox *m, struct letter *l);
// Thread: the loop's. Reads what has come; then no letter is taken any more.
void mailbox_close(struct mailbox *m);
// Nobody can send any more, and the loop has run empty behind mailbox_close. NULL is fine.
void mailbox_free(struct mailbox *m);

#endif
