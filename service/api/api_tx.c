// POST /apps/<app>/begin: the seq that a transaction reads at. Nothing is kept for it: reading is asking as of that seq, and committing is a batch.
#include "api.h"
#include "err.h"
#include "json_write.h"

static void begin_begin(struct request *r)
{
    struct buf b;
    struct jw w;
    if (app_txn(r->app) == NULL) {
        reply_error(r, ERR_BUSY);
        return;
    }
    buf_init(&b, 256);
    jw_init(&w, &b);
    jw_object(&w);
    jw_key(&w, "base"), jw_uint(&w, app_visible(r->app));
    jw_end(&w);
    reply_json(r, 200, &b);
    buf_free(&b);
}

const struct handler api_begin_post = {.begin = begin_begin};
