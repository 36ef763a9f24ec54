#include "message.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

// Readers who are served in turns are at a few places at a time, under few names.
#define RANGES_KEPT 4

struct kept {
    struct message_range range; // its name is the one here
    char name[MESSAGE_NAME_MAX + 1];
    uint64_t to;
    struct message *message; // NULL: unused
};

struct shared {
    struct kept kept[RANGES_KEPT];
    unsigned next;
};

struct message *message_new(struct bytes *json)
{
    struct message *m = json == NULL ? NULL : calloc(1, sizeof *m);
    if (m == NULL) {
        bytes_unref(json);
        return NULL;
    }
    m->refs = 1;
    m->json = json;
    return m;
}

struct message *message_ref(struct message *m)
{
    m->refs++;
    return m;
}

void message_unref(struct message *m)
{
    if (m == NULL) return;
    assert(m->refs > 0);
    if (--m->refs > 0) return;
    for (int i = 0; i < MESSAGE_CARRIERS; i++)
        bytes_unref(m->wire[i].wire);
    bytes_unref(m->json);
    free(m);
}

static bool fits(const struct kept *k, const struct message_range *r)
{
    return k->message != NULL && k->range.from == r->from && k->range.told == r->told && k->range.visible == r->visible &&
           k->range.hash == r->hash && strcmp(k->name, r->name) == 0;
}

struct message *message_find(const struct feed *feed, const struct message_range *range, uint64_t *to)
{
    const struct shared *s = feed->shared;
    for (unsigned i = 0; s != NULL && i < RANGES_KEPT; i++) {
        if (!fits(&s->kept[i], range)) continue;
        *to = s->kept[i].to;
        return s->kept[i].message;
    }
    return NULL;
}

static void shared_free(void *p)
{
    struct shared *s = p;
    for (unsigned i = 0; i < RANGES_KEPT; i++)
        message_unref(s->kept[i].message);
    free(s);
}

void message_keep(struct feed *feed, const struct message_range *range, struct message *m, uint64_t to)
{
    if (feed->shared == NULL) feed->shared = calloc(1, sizeof(struct shared));
    struct shared *s = feed->shared;
    if (s == NULL) return; // the next one makes its own
    feed->shared_free = shared_free;
    struct kept *k = &s->kept[s->next++ % RANGES_KEPT];
    message_unref(k->message);
    *k = (struct kept){.range = *range, .to = to, .message = message_ref(m)};
    snprintf(k->name, sizeof k->name, "%s", range->name);
}
