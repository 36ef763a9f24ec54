// One message of the subscription protocol on its way to any number of readers: immutable, counted, framed once for each kind of
// carrier. And what the readers of a feed made of its last changes, for the next one who comes for the same. Thread: the app's owner.
#ifndef SEGUE_MESSAGE_H
#define SEGUE_MESSAGE_H

#include "feed.h"
#include "http.h"

#define MESSAGE_CURSOR_MAX 128
#define MESSAGE_NAME_MAX 64

#define MESSAGE_LARGE (16 * KIB) // from here on a message is not framed in memory of its own, but gathered with what frames it

enum message_carrier { MESSAGE_SSE, MESSAGE_WS, MESSAGE_CARRIERS };

struct message {
    unsigned refs;
    struct bytes *json;                        // a complete object
    char cursor[MESSAGE_CURSOR_MAX];           // empty: it carries none
    struct reply_frame wire[MESSAGE_CARRIERS]; // made by the first carrier that sends it
};

// Takes over the reference to `json`, also when it fails. NULL: no memory.
struct message *message_new(struct bytes *json);
struct message *message_ref(struct message *m);
void message_unref(struct message *m); // NULL is fine

// What a range looks like to a reader who has nothing else than this feed, under this name.
struct message_range {
    uint64_t from, told; // of the reader: where it is, and what it was told
    uint64_t visible;    // the newest commit
    uint64_t hash;       // of the subscription, for its cursor
    const char *name;
};
// The message that another reader was sent in this place, and where it led (*to). NULL: nobody was.
struct message *message_find(const struct feed *feed, const struct message_range *range, uint64_t *to);
// For the readers who come behind. Kept until it is pushed out or the feed's last reader leaves.
void message_keep(struct feed *feed, const struct message_range *range, struct message *m, uint64_t to);

#endif
