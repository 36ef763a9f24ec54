// Starting, the turn, stopping.
//
//      start:   lock the folder ─> key ─> apps (each recovers from its journal) ─> listen ─> "listening on …"
//      turn:    (prepare: does an app wait? then poll does not)  poll: sockets fill the apps' queues
//               check: each app's turn ─> its readers ─> connections write
//      stop:    SIGTERM: no new connection or request; users of the apps are asked to go; replies finish
//               ─> the last connection has gone, or STOP_MS_MAX is over ─> everything is closed ─> the loop runs empty
//               ─> databases commit and sync ─> exit.  A second signal ends the process where it stands: it is made for that.
#include "server.h"

#include <assert.h>
#include <dirent.h>
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
#include "blob_care.h"
#include "routes.h"
#include "subs_run.h"

#define TICK_BUSY_MS 10 // between two looks at an app that has work due
#define TICK_QUIET_MS 500
#define READERS_PER_TURN 64 // of one app: then its sockets are looked at again, and what came meanwhile goes out with the rest
#define SETTLE_ROUNDS_MAX 64 // what is left then waits for a tick

struct server_app {
    struct server *server;
    struct app *app;
    struct hub hub;
    struct upload_care uploads;
    struct stream_care care;
    struct blob_care blobs;
    uv_work_t seal_work;
    struct streams_seal *seal; // on the pool
    int seal_err;
};

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
    struct server_app **apps;
    size_t app_count;
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

struct app *server_app_at(struct server *s, size_t i)
{
    return i < s->app_count ? s->apps[i]->app : NULL;
}

struct app *server_app(struct server *s, struct span name)
{
    for (size_t i = 0; i < s->app_count; i++) {
        if (span_is(name, app_name(s->apps[i]->app))) return s->apps[i]->app;
    }
    return NULL;
}

struct hub *server_hub(struct server *s, struct app *app)
{
    for (size_t i = 0; i < s->app_count; i++) {
        if (s->apps[i]->app == app) return &s->apps[i]->hub;
    }
    assert(!"an app of another server");
    return NULL;
}

struct upload_care *server_uploads(struct server *s, struct app *app)
{
    for (size_t i = 0; i < s->app_count; i++) {
        if (s->apps[i]->app == app) return &s->apps[i]->uploads;
    }
    assert(!"an app of another server");
    return NULL;
}

struct holds *server_holds(struct server *s, struct app *app)
{
    return &server_uploads(s, app)->holds;
}

struct stream_care *server_care(struct server *s, struct app *app)
{
    for (size_t i = 0; i < s->app_count; i++) {
        if (s->apps[i]->app == app) return &s->apps[i]->care;
    }
    assert(!"an app of another server");
    return NULL;
}

// ---- apps ---------------------------------------------------------------------------------------------------------

static void on_visible(void *host, struct app *app)
{
    struct server_app *sa = host;
    subs_run_visible(sa->server->subs, app);
    // The planted bugs that speak too early have to be heard early.
    if (!bug("publish_before_barrier") && !bug("ack_before_journal")) return;
    hub_run(&sa->hub);
    conns_flush(sa->server->conns);
}

// Names are folders: lower-case letters, digits, '-' and '_', a letter or digit first.
static bool app_name_valid(const char *name)
{
    size_t n = strlen(name);
    return n > 0 && n <= NAME_MAX_BYTES && name[0] != '-' && name[0] != '_' && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") == n;
}

static int app_add(struct server *s, const char *name, struct problem *p)
{
    struct server_app **apps = realloc(s->apps, (s->app_count + 1) * sizeof(struct server_app *));
    if (apps == NULL) return ERR_NOMEM;
    s->apps = apps;
    struct server_app *sa = calloc(1, sizeof *sa);
    if (sa == NULL) return ERR_NOMEM;
    char path[OPTION_PATH_MAX + NAME_MAX_BYTES + 16];
    snprintf(path, sizeof path, "%s/apps/%s", s->options->data, name);
    sa->server = s;
    struct app_options options = {.name = name,
                                  .path = path,
                                  .db_map_bytes = s->options->db_map_bytes,
                                  .journal_segment_bytes = s->options->journal_segment_bytes,
                                  .journal_keep_all = s->options->journal_keep_all,
                                  .seal_quiet_ms = s->options->seal_quiet_ms,
                                  .stream_segment_bytes = s->options->stream_segment_bytes,
                                  .blob_rebuild = s->options->blob_rebuild,
                                  .blob_pack_bytes = s->options->blob_pack_bytes,
                                  .host = sa,
                                  .visible = on_visible};
    int err = app_open(&sa->app, &options, p);
    if (err < 0) {
        free(sa);
        return problem_set(p, err, -1, "the app %s cannot be opened: %s", name, err_text(err));
    }
    stream_care_init(&sa->care, sa->app);
    struct blobs_pace pace = {.compact_bytes_s = s->options->blob_compact_bytes, .scrub_bytes_s = s->options->blob_scrub_bytes};
    blob_care_init(&sa->blobs, &s->loop, sa->app, s->options->blob_grace_ms, &pace);
    upload_care_init(&sa->uploads, s, sa->app, s->options->upload_ttl_ms);
    s->apps[s->app_count++] = sa;
    log_info("server", "app opened", LF_STR("app", name), LF_UINT("seq", app_visible(sa->app)));
    return 0;
}

// `default` first, then every folder that could be an app's.
static int apps_open(struct server *s, struct problem *p)
{
    char path[OPTION_PATH_MAX + 16];
    int err = app_add(s, "default", p);
    if (err < 0) return err;
    snprintf(path, sizeof path, "%s/apps", s->options->data);
    DIR *d = opendir(path);
    if (d == NULL) return problem_set(p, ERR_IO, -1, "%s cannot be read", path);
    for (struct dirent *e = readdir(d); err == 0 && e != NULL; e = readdir(d)) {
        if (e->d_type == DT_DIR && app_name_valid(e->d_name) && server_app(s, SPAN_STR(e->d_name)) == NULL) err = app_add(s, e->d_name, p);
    }
    closedir(d);
    return err;
}

static void apps_close(struct server *s)
{
    for (size_t i = 0; i < s->app_count; i++) {
        assert(s->apps[i]->seal == NULL);
        app_close(s->apps[i]->app);
        upload_care_free(&s->apps[i]->uploads);
        free(s->apps[i]);
    }
    free(s->apps);
}

// ---- the turn -----------------------------------------------------------------------------------------------------

static void turn(void *ctx)
{
    struct server *s = ctx;
    for (size_t i = 0; i < s->app_count; i++) {
        struct server_app *sa = s->apps[i];
        upload_care_turn(&sa->uploads); // its barrier is on its way beside that of the journal
        if (app_pending(sa->app)) app_turn(sa->app);
        if (sa->hub.first == NULL) continue;
        conns_flush(s->conns); // answers go before what they have woken
        hub_run_some(&sa->hub, READERS_PER_TURN);
    }
}

// Work on the pool ------------------------------------------------------------------------------------------------------

static void on_seal_work(uv_work_t *work)
{
    struct server_app *sa = work->data;
    sa->seal_err = streams_seal_write(sa->seal);
}

static void on_seal_done(uv_work_t *work, int status)
{
    struct server_app *sa = work->data;
    struct streams_seal *seal = sa->seal;
    sa->seal = NULL;
    app_seal_end(sa->app, seal, status < 0 ? ERR_CANCELED : sa->seal_err);
}

static void seal_begin(struct server_app *sa)
{
    if (sa->seal != NULL || sa->server->stopping) return;
    sa->seal = app_seal_begin(sa->app);
    if (sa->seal == NULL) return;
    sa->seal_work.data = sa;
    int status = uv_queue_work(&sa->server->loop, &sa->seal_work, on_seal_work, on_seal_done);
    if (status < 0) on_seal_done(&sa->seal_work, status);
}

static void on_tick(uv_timer_t *timer)
{
    struct server *s = timer->data;
    for (size_t i = 0; i < s->app_count; i++) {
        app_tick(s->apps[i]->app);
        if (!s->stopping) stream_care_tick(&s->apps[i]->care, clock_wall_ms());
        if (!s->stopping) blob_care_tick(&s->apps[i]->blobs, clock_wall_ms());
        if (!s->stopping) upload_care_tick(&s->apps[i]->uploads, clock_wall_ms());
        seal_begin(s->apps[i]);
    }
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
    bool pending = false, busy = false;
    for (size_t i = 0; i < s->app_count; i++) {
        pending = pending || app_pending(s->apps[i]->app) || upload_care_pending(&s->apps[i]->uploads) || s->apps[i]->hub.first != NULL;
        busy = busy || app_busy(s->apps[i]->app) || stream_care_busy(&s->apps[i]->care) || blob_care_busy(&s->apps[i]->blobs);
    }
    if (pending) conns_wake(s->conns);
    uint64_t ms = busy ? TICK_BUSY_MS : quiet_ms(s);
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
    for (size_t i = 0; i < s->app_count; i++) {
        stream_care_flush(&s->apps[i]->care); // a stop in order loses no read
        upload_care_last(&s->apps[i]->uploads);
        while (app_pending(s->apps[i]->app) && app_state(s->apps[i]->app) == APP_READY)
            app_turn(s->apps[i]->app);
    }
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
    for (size_t i = 0; i < s->app_count; i++)
        app_dismiss(s->apps[i]->app);
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
    err = apps_open(s, p);
    if (err < 0) return err;
    err = lane_open(&s->lane, &s->loop);
    if (err < 0) return problem_set(p, err, -1, "no thread can be started");
    err = calls_open(&s->calls, &s->loop);
    if (err < 0) return problem_set(p, err, -1, "calls cannot be made");
    err = llm_open(&s->llm, s, s->options, p);
    if (err < 0) return err;
    err = subs_run_open(&s->subs, s, s->options, p);
    if (err < 0) return err;
    struct conns_options conns = {
        .loop = &s->loop, .server = s, .limits = CONN_LIMITS, .dispatch = routes_dispatch, .turn = turn, .ctx = s};
    err = conns_open(&s->conns, &conns);
    if (err < 0) return problem_set(p, err, -1, "no memory");
    jobs_settle(s);
    return conns_listen(s->conns, s->options->host, s->options->port, p);
}

// What was opened before opening failed, handed back to the loop.
static void server_abandon(struct server *s)
{
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
    apps_close(&s);
    auth_close(s.auth);
    blob_signer_close(s.signer);
    file_close(s.lock_fd);
    int left = uv_loop_close(&s.loop);
    assert(left == 0);
    if (err == 0) log_info("server", "stopped");
    return err;
}
