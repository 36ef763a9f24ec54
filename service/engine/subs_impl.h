// What the two halves of the subscriptions' store share: subs.c (records, looking) and subs_decide.c (deciding, applying).
#ifndef SEGUE_SUBS_IMPL_H
#define SEGUE_SUBS_IMPL_H

#include "subs.h"

struct sub_key {
    uint8_t b[1 + 8 + STREAM_PATH_MAX];
    size_t n;
};
static inline struct span sub_key_span(const struct sub_key *k)
{
    return SPAN(k->b, k->n);
}
struct sub_key sub_key_of(struct span id);
struct sub_key sub_key_born(uint8_t kind, uint64_t born); // 'd', or what all of its links begin with
struct sub_key sub_key_link(uint64_t born, struct span path);

struct sub_link {
    bool by_name;
    uint64_t number, acked;
};
void sub_link_encode(struct buf *out, const struct sub_link *l);
int sub_link_decode(struct span record, struct sub_link *out);

#endif
