// GET /apps, and GET, PUT and DELETE /apps/<app>: which apps there are, making one, dropping one. See apps.h for what that is. A request about an app that is there
// comes to its loop by itself; one that is to be made belongs to none yet, so its loop gets a letter.
#include <stdlib.h>

#include "api.h"
#include "apps.h"
#include "err.h"
#include "json_write.h"
#include "survey.h"

static void put_app(struct jw *w, const char *name, const char *state, const uint64_t *seq)
{
    jw_object(w);
    jw_key(w, "app"), jw_cstr(w, name);
    jw_key(w, "state"), jw_cstr(w, state);
    if (seq != NULL) jw_key(w, "seq"), jw_uint(w, *seq);
    jw_end(w);
}

static void reply_problem_of(struct request *r, int err, struct problem *p)
{
    problem_set(p, err, -1, "%s", err_text(err));
    reply_problem(r, p);
}

// ---- looking --------------------------------------------------------------------------------------------------------

static void apps_reply(struct request *r, const struct survey *survey)
{
    struct buf b;
    struct jw w;
    buf_init(&b, 256 * KIB);
    jw_init(&w, &b);
    jw_object(&w);
    jw_key(&w, "apps"), jw_array(&w);
    for (size_t i = 0; i < survey->app_count; i++) {
        const struct app_figures *f = &survey->apps[i];
        put_app(&w, f->name, app_figures_state(f), f->known ? &f->seq : NULL);
    }
    jw_end(&w);
    jw_end(&w);
    reply_json(r, 200, &b);
    buf_free(&b);
}

static void apps_get(struct request *r)
{
    survey_ask(r, false, apps_reply);
}

static void reply_app(struct request *r, int status, const char *name, enum app_state state, uint64_t seq)
{
    struct buf b;
    struct jw w;
    buf_init(&b, 4 * KIB);
    jw_init(&w, &b);
    put_app(&w, name, app_state_name(state), &seq);
    reply_json(r, status, &b);
    buf_free(&b);
}

static void app_get(struct request *r)
{
    struct app *app = server_app(r->server, r->path);
    if (app == NULL) reply_error(r, ERR_NO_SUCH_APP);
    else reply_app(r, 200, app_name(app), app_state(app), app_visible(app));
}

// ---- making ---------------------------------------------------------------------------------------------------------

// The way of one letter: to the loop that makes the app, and back.
struct making {
    struct letter letter; // first
    struct request *r;    // the asker's; NULL: nobody waits any more
    struct server *from, *to;
    char name[NAME_MAX_BYTES + 1];
    // The answer:
    int err;
    struct problem problem;
    bool created;
    enum app_state state;
    uint64_t seq;
};

static void make(struct making *m)
{
    struct apps *apps = server_apps(m->to);
    m->problem = PROBLEM_NONE;
    m->err = apps_create(apps, SPAN_STR(m->name), &m->created, &m->problem);
    if (m->err != 0) return;
    const struct app *app = apps_find(apps, SPAN_STR(m->name));
    m->state = app_state(app);
    m->seq = app_visible(app);
}

static void making_reply(struct making *m)
{
    if (m->err != 0) reply_problem_of(m->r, m->err, &m->problem);
    else reply_app(m->r, m->created ? 201 : 200, m->name, m->state, m->seq);
}

static void on_made(struct letter *l)
{
    struct making *m = (struct making *)l;
    if (m->r != NULL) {
        m->r->data = NULL;
        making_reply(m);
    }
    free(m);
}

static void on_make(struct letter *l)
{
    struct making *m = (struct making *)l;
    make(m);
    l->read = on_made;
    if (!mailbox_send(server_mailbox(m->from), l)) free(m); // who asked has ended
}

static void app_put(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    int err = apps_name_check(r->path, &p);
    if (err != 0) {
        reply_problem_of(r, err, &p);
        return;
    }
    struct making *m = calloc(1, sizeof *m);
    if (m == NULL) {
        reply_error(r, ERR_NOMEM);
        return;
    }
    *m = (struct making){.letter.read = on_make, .r = r, .from = r->server, .to = server_place(r->server, r->path)};
    memcpy(m->name, r->path.p, r->path.n);
    if (m->to == r->server) {
        make(m);
        making_reply(m);
        free(m);
        return;
    }
    r->data = m;
    if (mailbox_send(server_mailbox(m->to), &m->letter)) return;
    r->data = NULL;
    free(m);
    reply_error(r, ERR_SHUTTING_DOWN);
}

// The letter goes on: the app is made whether or not anybody still wants to know.
static void app_put_done(struct request *r)
{
    struct making *m = r->data;
    if (m != NULL) m->r = NULL;
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
    struct apps *apps = server_apps(r->server); // of an app that is there, those of its loop
    int err = apps == NULL ? ERR_NO_SUCH_APP : apps_drop(apps, r->path, &w->drop, &p);
    if (err != 0) reply_problem_of(r, err, &p);
}

static void app_delete_done(struct request *r)
{
    struct waiting *w = r->data;
    if (w == NULL) return;
    app_drop_remove(&w->drop);
    free(w);
}

const struct handler api_apps_get = {.begin = apps_get, .done = survey_done};
const struct handler api_app_get = {.begin = app_get};
const struct handler api_app_put = {.begin = app_put, .done = app_put_done};
const struct handler api_app_delete = {.begin = app_delete, .done = app_delete_done};
