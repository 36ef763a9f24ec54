// Live queries that read the text of streams are told of those that grow: between the stream store and the row store, which do not know each other.
#ifndef SEGUE_ENGINE_ROW_TEXTS_H
#define SEGUE_ENGINE_ROW_TEXTS_H

#include "streams.h"

struct app;

struct row_texts {
    struct stream_observer observer; // first
    struct app *app;
    bool observes;
};

// Before a turn decides: the streams are observed while there is such a query, and cost nothing else.
void row_texts_watch(struct app *a);
// Behind streams_publish: what it has told of becomes visible.
void row_texts_publish(struct app *a);
// The stores are about to be closed.
void row_texts_leave(struct app *a);

#endif
