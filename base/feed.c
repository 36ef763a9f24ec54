#include "feed.h"

#include <assert.h>

void feed_link(struct feed *feed, struct feed_sub *sub)
{
    sub->feed = feed;
    sub->prev = NULL;
    sub->next = feed->subs;
    if (sub->next != NULL) sub->next->prev = sub;
    feed->subs = sub;
}

void feed_unlink(struct feed_sub *sub)
{
    assert(sub->feed != NULL);
    assert(sub->prev != NULL || sub->feed->subs == sub);
    if (sub->prev != NULL)
        sub->prev->next = sub->next;
    else
        sub->feed->subs = sub->next;
    if (sub->next != NULL) sub->next->prev = sub->prev;
    if (sub->feed->subs == NULL && sub->feed->shared != NULL) {
        sub->feed->shared_free(sub->feed->shared);
        sub->feed->shared = NULL;
    }
    sub->next = sub->prev = NULL;
    sub->feed = NULL;
}

void feed_touch(struct feed *feed, uint64_t seq)
{
    for (struct feed_sub *sub = feed->subs; sub != NULL; sub = sub->next) {
        assert(sub->changed <= seq);
        sub->changed = seq;
        if (sub->wake != NULL) sub->wake(sub);
    }
}
