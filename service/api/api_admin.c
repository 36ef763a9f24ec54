// GET /healthz and GET /metrics.
#include "api.h"
#include "err.h"
#include "json_write.h"
#include "metrics.h"
#include "survey.h"

#define ADMIN_BYTES_MAX (16 * MIB)

// The state that is furthest from ready speaks for all; that of a busy loop's apps is not known.
static const struct app_figures *worst_app(const struct survey *survey)
{
    static const int badness[] = {[APP_READY] = 0, [APP_FULL] = 1, [APP_READ_ONLY] = 2, [APP_RECOVERING] = 4};
    const struct app_figures *worst = NULL;
    int most = 0;
    for (size_t i = 0; i < survey->app_count; i++) {
        const struct app_figures *f = &survey->apps[i];
        int bad = f->known ? badness[f->state] : 3;
        if (bad > most) worst = f, most = bad;
    }
    return worst;
}

static void apps_put(struct jw *w, const struct survey *survey)
{
    jw_key(w, "apps");
    jw_object(w);
    for (size_t i = 0; i < survey->app_count; i++) {
        const struct app_figures *f = &survey->apps[i];
        jw_key(w, f->name);
        jw_object(w);
        jw_key(w, "state"), jw_cstr(w, app_figures_state(f));
        if (f->known) jw_key(w, "seq"), jw_uint(w, f->seq);
        jw_end(w);
    }
    jw_end(w);
}

// Anybody may know whether the service is well; which apps there are is for those who may read the metrics.
static void healthz_reply(struct request *r, const struct survey *survey)
{
    const struct app_figures *worst = worst_app(survey);
    struct buf json;
    struct jw w;
    buf_init(&json, ADMIN_BYTES_MAX);
    jw_init(&w, &json);
    jw_object(&w);
    jw_key(&w, "status");
    jw_cstr(&w, worst == NULL ? app_state_name(APP_READY) : app_figures_state(worst));
    if (may(server_auth(r->server), &r->identity, MAY_READ_METRICS, SPAN_NONE, SPAN_NONE) == 0) apps_put(&w, survey);
    jw_end(&w);
    reply_json(r, worst == NULL ? 200 : 503, &json);
    buf_free(&json);
}

static void healthz_begin(struct request *r)
{
    survey_ask(r, false, healthz_reply);
}

static void metrics_reply(struct request *r, const struct survey *survey)
{
    struct buf text;
    buf_init(&text, ADMIN_BYTES_MAX);
    metrics_write(&text, survey, server_uptime_ms(r->server));
    if (text.err < 0) {
        reply_error(r, text.err);
    } else {
        reply_start(r, 200);
        reply_may_code(r);
        reply_body(r, "text/plain; version=0.0.4; charset=utf-8", buf_span(&text));
    }
    buf_free(&text);
}

static void metrics_begin(struct request *r)
{
    survey_ask(r, true, metrics_reply);
}

const struct handler api_healthz_get = {.begin = healthz_begin, .done = survey_done};
const struct handler api_metrics_get = {.begin = metrics_begin, .done = survey_done};
