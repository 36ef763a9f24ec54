// GET /apps, and GET, PUT and DELETE /apps/<app>: which apps there are, making one, dropping one. See apps.h for what that is.
#include <stdlib.h>

#include "api.h"
#include "apps.h"
#include "err.h"
#include "json_write.h"

static void put_app(struct jw *w, struct app *app)
{
    jw_object(w);
    jw_key(w, "app"), jw_cstr(w, app_name(app));
    jw_key(w, "state"), jw_cstr(w, app_state_name(app_state(app)));
    jw_key(w, "seq"), jw_uint(w, app_visible(app));
    jw_end(w);
}

static void reply_problem_of(struct request *r, int err, struct problem *p)
{
    problem_set(p, err, -1, "%s", err_text(err));
    reply_problem(r, p);
}

// ---- looking --------------------------------------------------------------------------------------------------------

static void apps_get(struct request *r)
{
    struct apps *apps = server_apps(r->server);
    struct app *app;
    struct buf b;
    struct jw w;
    buf_init(&b, 256 * KIB);
    jw_init(&w, &b);
    jw_object(&w);
    jw_key(&w, "apps"), jw_array(&w);
    for (size_t i = 0; (app = apps_at(apps, i)) != NULL; i++)
        put_app(&w, app);
    jw_end(&w);
    jw_end(&w);
    reply_json(r, 200, &b);
    buf_free(&b);
}

static void reply_app(struct request *r, int status, struct app *app)
{
    struct buf b;
    struct jw w;
    buf_init(&b, 4 * KIB);
    jw_init(&w, &b);
    put_app(&w, app);
    reply_json(r, status, &b);
    buf_free(&b);
}

static void app_get(struct request *r)
{
    struct app *app = apps_find(server_apps(r->server), r->path);
    if (app == NULL) reply_error(r, ERR_NO_SUCH_APP);
    else reply_app(r, 200, app);
}

// ---- making ---------------------------------------------------------------------------------------------------------

static void app_put(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    struct apps *apps = server_apps(r->server);
    bool created;
    int err = apps_create(apps, r->path, &created, &p);
    if (err != 0) reply_problem_of(r, err, &p);
    else reply_app(r, created ? 201 : 200, apps_find(apps, r->path));
}

// ---- dropping -------------------------------------------------------------------------------------------------------

struct waiting {
    struct app_drop drop; // first
    struct request *r;
};

static void on_dropped(struct app_drop *d, int err)
{
    struct request *r = ((struct waiting *)d)->r;
    if (err != 0) {
        reply_error(r, err);
        return;
    }
    reply_start(r, 204);
    reply_body(r, NULL, SPAN_NONE);
}

static void app_delete(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    struct waiting *w = calloc(1, sizeof *w);
    if (w == NULL) {
        reply_error(r, ERR_NOMEM);
        return;
    }
    r->data = w;
    w->r = r;
    w->drop.done = on_dropped;
    int err = apps_drop(server_apps(r->server), r->path, &w->drop, &p);
    if (err != 0) reply_problem_of(r, err, &p);
}

static void app_delete_done(struct request *r)
{
    struct waiting *w = r->data;
    if (w == NULL) return;
    app_drop_remove(&w->drop);
    free(w);
}

const struct handler api_apps_get = {.begin = apps_get};
const struct handler api_app_get = {.begin = app_get};
const struct handler api_app_put = {.begin = app_put};
const struct handler api_app_delete = {.begin = app_delete, .done = app_delete_done};
