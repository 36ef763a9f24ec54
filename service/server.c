// Starting, the turn, stopping.
//
//      start:   lock the folder ─> key ─> apps (each recovers from its journal) ─> listen ─> "listening on …"
//      turn:    (prepare: does an app wait? then poll does not)  poll: sockets fill the apps' queues
//               check: each app's turn ─> its readers ─> connections write
//      stop:    SIGTERM: no new connection or request; users of the apps are asked to go; replies finish
//               ─> the last connection has gone, or STOP_MS_MAX is over ─> everything is closed ─> the loop runs empty
//               ─> databases commit and sync ─> exit.  A second signal ends the process where it stands: it is made for that.
#include "apps.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "blob_link.h"
#include "bug.h"
#include "err.h"
#include "file.h"
#include "call.h"
#include "lane.h"
#include "llm.h"
#include "log.h"
#include "routes.h"
#include "subs_run.h"

#define TICK_BUSY_MS 10 // between two looks at an app that has work due
#define TICK_QUIET_MS 500
#define LANE_THREADS 2 // for reads of blobs
#define SETTLE_ROUNDS_MAX 64 // what is left then waits for a tick

struct server {
    const struct options *options;
    uv_loop_t loop;
    uv_prepare_t prepare;
    uv_timer_t tick, stop;
    uv_signal_t sigterm, sigint;
    struct conns *conns;
    struct auth *auth;
    struct blob_signer *signer;
    struct lane *lane;
    struct calls *calls;
    struct llm *llm;
    struct subs_run *subs;
    struct apps *apps;
    int lock_fd;
    uint64_t tick_ms;
    uint64_t started_us;
    bool stopping, closed;
};

// ---- what others may ask --------------------------------------------------------------------------------------------

uv_loop_t *server_loop(struct server *s)
{
    return &s->loop;
}

const struct auth *server_auth(const struct server *s)
{
    return s->auth;
}

struct conns *server_conns(struct server *s)
{
    return s->conns;
}

struct calls *server_calls(struct server *s)
{
    return s->calls;
}

struct llm *server_llm(struct server *s)
{
    return s->llm;
}

struct subs_run *server_subs(struct server *s)
{
    return s->subs;
}

struct lane *server_lane(struct server *s)
{
    return s->lane;
}

const struct blob_signer *server_signer(const struct server *s)
{
    return s->signer;
}

bool server_dev(const struct server *s)
{
    return s->options->dev;
}

const char *server_public_url(const struct server *s)
{
    return s->options->public_url;
}

const char *server_allow_origin(const struct server *s)
{
    return s->options->allow_origin;
}

int64_t server_long_poll_ms(const struct server *s)
{
    return (int64_t)s->options->long_poll_ms;
}

uint64_t server_sse_ms(const struct server *s)
{
    return s->options->sse_ms;
}

int64_t server_heartbeat_ms(const struct server *s)
{
    return (int64_t)s->options->heartbeat_ms;
}

uint64_t server_uptime_ms(const struct server *s)
{
    return (clock_mono_us() - s->started_us) / 1000;
}

struct apps *server_apps(struct server *s)
{
    return s->apps;
}

struct app *server_app_at(struct server *s, size_t i)
{
    return apps_at(s->apps, i);
}

struct app *server_app(struct server *s, struct span name)
{
    return apps_find(s->apps, name);
}

struct hub *server_hub(struct server *s, struct app *app)
{
    return apps_hub(s->apps, app);
}

struct upload_care *server_uploads(struct server *s, struct app *app)
{
    return apps_uploads(s->apps, app);
}

struct holds *server_holds(struct server *s, struct app *app)
{
    return &server_uploads(s, app)->holds;
}

struct stream_care *server_care(struct server *s, struct app *app)
{
    return apps_care(s->apps, app);
}

// ---- the turn -----------------------------------------------------------------------------------------------------

static void on_visible(struct server *s, struct app *app, struct hub *hub)
{
    subs_run_visible(s->subs, app);
    // The planted bugs that speak too early have to be heard early.
    if (!bug("publish_before_barrier") && !bug("ack_before_journal")) return;
    hub_run(hub);
    conns_flush(s->conns);
}

// Requests that were held come in this turn. What the tick did not find is looked at now: the next one may find the app in flight again.
static void on_landed(struct server *s, struct app *app, bool ticked)
{
    (void)app;
    if (s->conns != NULL) conns_release(s->conns);
    if (!ticked || s->stopping) return;
    llm_tick(s->llm);
    subs_run_tick(s->subs);
}

static bool is_held(void *ctx, const struct request *r)
{
    (void)ctx;
    return r->app != NULL && app_in_flight(r->app);
}

static void flush(void *ctx)
{
    struct server *s = ctx;
    conns_flush(s->conns);
}

static void turn(void *ctx)
{
    struct server *s = ctx;
    apps_turn(s->apps, flush, s);
}

static void on_tick(uv_timer_t *timer)
{
    struct server *s = timer->data;
    apps_tick(s->apps);
    calls_tick(s->calls);
    llm_tick(s->llm);
    subs_run_tick(s->subs);
}

static uint64_t quiet_ms(const struct server *s)
{
    uint64_t ms = s->options->seal_quiet_ms < TICK_QUIET_MS ? s->options->seal_quiet_ms : TICK_QUIET_MS;
    return ms < TICK_BUSY_MS ? TICK_BUSY_MS : ms;
}

static void stop_end(struct server *s);

// Before the loop waits: is there a reason not to wait, or to wait for less?
static void on_prepare(uv_prepare_t *prepare)
{
    struct server *s = prepare->data;
    if (apps_pending(s->apps)) conns_wake(s->conns);
    uint64_t ms = apps_busy(s->apps) ? TICK_BUSY_MS : quiet_ms(s);
    if (ms != s->tick_ms) uv_timer_start(&s->tick, on_tick, ms, ms);
    s->tick_ms = ms;
    if (s->stopping && conns_count(s->conns) == 0) stop_end(s);
}

// ---- starting and stopping ------------------------------------------------------------------------------------------

// No connection is left, or time is up.
static void stop_end(struct server *s)
{
    if (s->closed) return;
    s->closed = true;
    apps_finish(s->apps);
    conns_close(s->conns);
    llm_close(s->llm);
    subs_run_close(s->subs);
    calls_close(s->calls);
    lane_close(s->lane);
    uv_close((uv_handle_t *)&s->prepare, NULL);
    uv_close((uv_handle_t *)&s->tick, NULL);
    uv_close((uv_handle_t *)&s->stop, NULL);
    uv_close((uv_handle_t *)&s->sigterm, NULL);
    uv_close((uv_handle_t *)&s->sigint, NULL);
}

static void on_stop_late(uv_timer_t *timer)
{
    struct server *s = timer->data;
    log_warn("server", "connections are cut", LF_UINT("count", conns_count(s->conns)));
    stop_end(s);
}

static void on_signal(uv_signal_t *handle, int signal)
{
    struct server *s = handle->data;
    if (s->stopping) _exit(128 + signal);
    s->stopping = true;
    log_info("server", "stopping", LF_INT("signal", signal), LF_UINT("connections", conns_count(s->conns)));
    conns_stop(s->conns);
    llm_stop(s->llm);
    subs_run_stop(s->subs);
    apps_stop(s->apps);
    uv_timer_start(&s->stop, on_stop_late, STOP_MS_MAX, 0);
}

static void handles_init(struct server *s)
{
    uv_prepare_init(&s->loop, &s->prepare);
    uv_timer_init(&s->loop, &s->tick);
    uv_timer_init(&s->loop, &s->stop);
    uv_signal_init(&s->loop, &s->sigterm);
    uv_signal_init(&s->loop, &s->sigint);
    s->prepare.data = s->tick.data = s->stop.data = s->sigterm.data = s->sigint.data = s;
    uv_prepare_start(&s->prepare, on_prepare);
    uv_signal_start(&s->sigterm, on_signal, SIGTERM);
    uv_signal_start(&s->sigint, on_signal, SIGINT);
}

// Two daemons in one folder would be two truths. The lock goes with the process, however that ends.
static int folder_lock(struct server *s, struct problem *p)
{
    char path[OPTION_PATH_MAX + 16];
    int err = dir_make(s->options->data);
    if (err < 0) return problem_set(p, err, -1, "the folder %.150s cannot be made", s->options->data);
    snprintf(path, sizeof path, "%s/lock", s->options->data);
    s->lock_fd = file_open(path, O_RDWR | O_CREAT);
    if (s->lock_fd < 0) return problem_set(p, s->lock_fd, -1, "%.150s cannot be opened", path);
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) == 0) return 0;
    return problem_set(p, ERR_EXISTS, -1, "another segued serves %.150s", s->options->data);
}

// Jobs that an earlier run left alive are ended before anybody can ask for them. In an app that takes no writes yet they wait for a tick.
static void jobs_settle(struct server *s)
{
    for (int rounds = 0; rounds < SETTLE_ROUNDS_MAX && llm_tick(s->llm); rounds++)
        turn(s);
}

static int server_open(struct server *s, struct problem *p)
{
    int err = folder_lock(s, p);
    if (err < 0) return err;
    struct auth_options auth = {.dev = s->options->dev, .path = s->options->data};
    err = auth_open(&s->auth, &auth);
    if (err < 0) return problem_set(p, err, -1, "the admin key in %.150s cannot be used", s->options->data);
    err = blob_signer_open(&s->signer, s->options->data, p);
    if (err < 0) return err;
    struct apps_options apps = {.server = s, .options = s->options, .loop = &s->loop, .visible = on_visible, .landed = on_landed};
    err = apps_open(&s->apps, &apps, p);
    if (err < 0) return err;
    err = lane_open(&s->lane, &s->loop, LANE_THREADS);
    if (err < 0) return problem_set(p, err, -1, "no thread can be started");
    err = calls_open(&s->calls, &s->loop);
    if (err < 0) return problem_set(p, err, -1, "calls cannot be made");
    err = llm_open(&s->llm, s, s->options, p);
    if (err < 0) return err;
    err = subs_run_open(&s->subs, s, s->options, p);
    if (err < 0) return err;
    struct conns_options conns = {
        .loop = &s->loop, .server = s, .limits = CONN_LIMITS, .dispatch = routes_dispatch, .turn = turn, .held = is_held, .ctx = s};
    err = conns_open(&s->conns, &conns);
    if (err < 0) return problem_set(p, err, -1, "no memory");
    jobs_settle(s);
    return conns_listen(s->conns, s->options->host, s->options->port, p);
}

// What was opened before opening failed, handed back to the loop.
static void server_abandon(struct server *s)
{
    apps_ground(s->apps);
    if (s->conns != NULL) conns_close(s->conns);
    llm_close(s->llm);
    subs_run_close(s->subs);
    calls_close(s->calls);
    lane_close(s->lane);
    uv_run(&s->loop, UV_RUN_DEFAULT);
}

static void say_listening(const struct server *s)
{
    bool v6 = strchr(s->options->host, ':') != NULL;
    printf("listening on http://%s%s%s:%u\n", v6 ? "[" : "", s->options->host, v6 ? "]" : "", conns_port(s->conns));
    fflush(stdout);
}

int server_run(const struct options *options, struct problem *p)
{
    struct server s = {.options = options, .lock_fd = -1, .started_us = clock_mono_us()};
    if (uv_loop_init(&s.loop) < 0) return problem_set(p, ERR_IO, -1, "the loop cannot be made");
    signal(SIGPIPE, SIG_IGN);
    int err = server_open(&s, p);
    if (err == 0) {
        handles_init(&s);
        say_listening(&s);
        uv_run(&s.loop, UV_RUN_DEFAULT);
    } else {
        server_abandon(&s);
    }
    apps_close(s.apps);
    auth_close(s.auth);
    blob_signer_close(s.signer);
    file_close(s.lock_fd);
    int left = uv_loop_close(&s.loop);
    assert(left == 0);
    if (err == 0) log_info("server", "stopped");
    return err;
}
