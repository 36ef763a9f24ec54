// GET /healthz and GET /metrics.
#include "api.h"
#include "err.h"
#include "json_write.h"
#include "metrics.h"

#define ADMIN_BYTES_MAX (16 * MIB)

// The state that is furthest from ready speaks for all.
static enum app_state worst_state(struct server *s)
{
    static const int badness[] = {[APP_READY] = 0, [APP_FULL] = 1, [APP_READ_ONLY] = 2, [APP_RECOVERING] = 3};
    enum app_state worst = APP_READY;
    struct app *app;
    for (size_t i = 0; (app = server_app_at(s, i)) != NULL; i++) {
        if (badness[app_state(app)] > badness[worst]) worst = app_state(app);
    }
    return worst;
}

static void apps_put(struct jw *w, struct server *s)
{
    struct app *app;
    jw_key(w, "apps");
    jw_object(w);
    for (size_t i = 0; (app = server_app_at(s, i)) != NULL; i++) {
        jw_key(w, app_name(app));
        jw_object(w);
        jw_key(w, "state");
        jw_cstr(w, app_state_name(app_state(app)));
        jw_key(w, "seq");
        jw_uint(w, app_visible(app));
        jw_end(w);
    }
    jw_end(w);
}

// Anybody may know whether the service is well; which apps there are is for those who may read the metrics.
static void healthz_begin(struct request *r)
{
    enum app_state worst = worst_state(r->server);
    struct buf json;
    struct jw w;
    buf_init(&json, ADMIN_BYTES_MAX);
    jw_init(&w, &json);
    jw_object(&w);
    jw_key(&w, "status");
    jw_cstr(&w, app_state_name(worst));
    if (may(server_auth(r->server), &r->identity, MAY_READ_METRICS, SPAN_NONE, SPAN_NONE) == 0) apps_put(&w, r->server);
    jw_end(&w);
    reply_json(r, worst == APP_READY ? 200 : 503, &json);
    buf_free(&json);
}

static void metrics_begin(struct request *r)
{
    struct buf text;
    buf_init(&text, ADMIN_BYTES_MAX);
    metrics_write(&text, r->server);
    if (text.err < 0) {
        reply_error(r, text.err);
    } else {
        reply_start(r, 200);
        reply_body(r, "text/plain; version=0.0.4; charset=utf-8", buf_span(&text));
    }
    buf_free(&text);
}

const struct handler api_healthz_get = {.begin = healthz_begin};
const struct handler api_metrics_get = {.begin = metrics_begin};
