#include "llm_tail.h"

#include "err.h"
#include "server.h"

static struct span path_of(const struct llm_tail *t)
{
    return SPAN(t->path, t->path_n);
}

void llm_tail_close(struct llm_tail *t)
{
    if (t->state == TAIL_SHUT) return;
    if (t->sub != NULL) t->sub->feed->ops->detach(t->sub);
    t->sub = NULL;
    hub_drop(&t->woken);
    app_user_remove(&t->user);
    t->state = TAIL_SHUT;
}

// `err`: what to say where nothing was said yet.
static void finish(struct llm_tail *t, int err)
{
    bool sending = t->state == TAIL_SEND;
    struct request *r = t->r;
    bool whole = sending && err == 0 && t->whole(t);
    llm_tail_close(t);
    t->state = TAIL_OVER;
    if (!sending)
        reply_error(r, err);
    else if (whole)
        reply_end(r);
    else
        reply_cut(r);
}

static void on_reset(struct app_user *u, int err)
{
    finish((struct llm_tail *)u, err);
}

static void on_wake(struct feed_sub *sub)
{
    struct llm_tail *t = sub->owner;
    hub_wake(t->hub, &t->woken);
}

static void on_woken(struct hub_item *item)
{
    llm_tail_look((struct llm_tail *)((char *)item - offsetof(struct llm_tail, woken)));
}

int llm_tail_open(struct llm_tail *t, struct request *r, struct span path, uint64_t offset)
{
    struct stream_info info;
    struct app *app = r->app;
    *t = (struct llm_tail){.r = r, .hub = server_hub(r->server, app), .woken = {.run = on_woken}, .offset = offset, .path_n = path.n};
    if (app_txn(app) == NULL) return ERR_BUSY;
    if (path.n > STREAM_PATH_MAX || !streams_find(app_streams(app), app_txn(app), path, &info)) return ERR_NO_SUCH_STREAM;
    if (info.json) return ERR_CONTENT_TYPE_MISMATCH;
    memcpy(t->path, path.p, path.n);
    t->number = info.number;
    int err = streams_attach(app_streams(app), app_txn(app), path_of(t), offset, false, 0, &t->sub, NULL);
    if (err != 0) return err;
    t->sub->wake = on_wake;
    t->sub->owner = t;
    app_user_add(app, &t->user, on_reset);
    t->state = TAIL_WAIT;
    return 0;
}

// One piece. False: nothing more can be sent now, or at all.
static bool send_piece(struct llm_tail *t, const struct stream_info *info)
{
    struct buf piece;
    struct app *app = t->r->app;
    if (t->offset == info->offset) {
        if (info->closed) finish(t, 0);
        return false;
    }
    if (reply_queued(t->r) >= HTTP_OUTBOX_MAX) return false; // drain goes on
    buf_init(&piece, STREAM_READ_MAX);
    int err = streams_read(app_streams(app), app_txn(app), path_of(t), t->offset, PART_BYTES_MAX, &piece);
    if (err == 0) err = piece.err;
    if (err == 0) {
        t->offset += piece.n;
        reply_write_span(t->r, buf_span(&piece));
    }
    buf_free(&piece);
    if (err != 0) finish(t, err);
    return err == 0;
}

void llm_tail_look(struct llm_tail *t)
{
    struct stream_info info;
    struct app *app = t->r->app;
    if (!llm_tail_is_open(t) || app_txn(app) == NULL) return;
    if (!streams_find(app_streams(app), app_txn(app), path_of(t), &info) || info.number != t->number) {
        finish(t, ERR_NO_SUCH_STREAM); // deleted
        return;
    }
    if (t->state == TAIL_WAIT && t->begin(t, &info)) t->state = TAIL_SEND;
    while (t->state == TAIL_SEND && send_piece(t, &info))
        continue;
}

void llm_tail_drain(struct llm_tail *t)
{
    if (t->state == TAIL_SEND) llm_tail_look(t);
}
