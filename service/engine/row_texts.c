#include "row_texts.h"

#include "app_internal.h"

static void on_stream(struct stream_observer *o, uint64_t seq, struct span path, uint64_t number)
{
    struct app *a = ((struct row_texts *)o)->app;
    struct stream_info info;
    (void)seq, (void)number;
    if (!span_starts(path, "rows/") || !rows_follow_streams(a->rows)) return;
    bool found = streams_find(a->streams, a->txn, path, &info);
    rows_stream_changed(a->rows, a->txn, path, !found || info.first > 0);
}

void row_texts_leave(struct app *a)
{
    struct row_texts *t = &a->row_texts;
    if (t->observes) streams_unobserve(a->streams, &t->observer);
    t->observes = false;
}

void row_texts_watch(struct app *a)
{
    struct row_texts *t = &a->row_texts;
    bool wanted = rows_follow_streams(a->rows);
    if (wanted == t->observes) return;
    if (!wanted) {
        row_texts_leave(a);
        return;
    }
    *t = (struct row_texts){.observer.changed = on_stream, .app = a, .observes = true};
    streams_observe(a->streams, &t->observer);
}

void row_texts_publish(struct app *a)
{
    if (!a->row_texts.observes) return;
    rows_publish(a->rows, a->txn, a->visible_seq);
    result_feeds_publish(a);
}
