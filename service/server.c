// Starting, the turn, stopping of one loop.
//
//      start:   apps (each recovers from its journal) ─> engines ─> connections
//      turn:    (prepare: does an app wait? then poll does not)  poll: sockets fill the apps' queues, letters of other loops are read
//               check: each app's turn ─> its readers ─> connections write
//      stop:    no new connection or request; users of the apps are asked to go; replies finish
//               ─> the last connection has gone, or STOP_MS_MAX is over ─> everything is closed ─> the loop runs empty
//               ─> databases commit and sync
#include "apps.h"

#include <assert.h>
#include <stdlib.h>

#include "blob_link.h"
#include "bug.h"
#include "call.h"
#include "err.h"
#include "file.h"
#include "lane.h"
#include "llm.h"
#include "log.h"
#include "routes.h"
#include "subs_run.h"

#define TICK_BUSY_MS 10 // between two looks at an app that has work due
#define TICK_QUIET_MS 500
#define LANE_THREADS 2 // for reads of blobs
#define POOL_THREADS 4 // for long work
#define SETTLE_ROUNDS_MAX 64 // what is left then waits for a tick
#define LOAD_MS 500          // between two looks at how much the thread has worked

struct server {
    struct server_shared *shared;
    unsigned number;
    uv_loop_t loop;
    uv_prepare_t prepare;
    uv_timer_t tick, stop;
    struct mailbox *mailbox;
    struct letter stop_letter;
    struct conns *conns;
    struct lane *lane, *pool;
    struct calls *calls;
    struct llm *llm;
    struct subs_run *subs;
    struct apps *apps;
    uint64_t tick_ms;
    uint64_t load_at_us, load_cpu_us; // when the load was last looked at
    atomic_uint load;                 // thousandths of a core, of late
    bool opened, stopping, closed;
};

// ---- what others may ask --------------------------------------------------------------------------------------------

uv_loop_t *server_loop(struct server *s)
{
    return &s->loop;
}

const struct auth *server_auth(const struct server *s)
{
    return s->shared->auth;
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

struct lane *server_pool(struct server *s)
{
    return s->pool;
}

const struct blob_signer *server_signer(const struct server *s)
{
    return s->shared->signer;
}

const struct webhook_signer *server_webhooks(const struct server *s)
{
    return s->shared->webhooks;
}

bool server_dev(const struct server *s)
{
    return s->shared->options->dev;
}

const char *server_public_url(const struct server *s)
{
    return s->shared->options->public_url;
}

const char *server_allow_origin(const struct server *s)
{
    return s->shared->options->allow_origin;
}

int64_t server_long_poll_ms(const struct server *s)
{
    return (int64_t)s->shared->options->long_poll_ms;
}

uint64_t server_sse_ms(const struct server *s)
{
    return s->shared->options->sse_ms;
}

int64_t server_heartbeat_ms(const struct server *s)
{
    return (int64_t)s->shared->options->heartbeat_ms;
}

uint64_t server_uptime_ms(const struct server *s)
{
    return (clock_mono_us() - s->shared->started_us) / 1000;
}

struct apps *server_apps(struct server *s)
{
    return s->apps;
}

struct app *server_app_at(struct server *s, size_t i)
{
    return s->apps != NULL ? apps_at(s->apps, i) : NULL;
}

struct app *server_app(struct server *s, struct span name)
{
    return s->apps != NULL ? apps_find(s->apps, name) : NULL;
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

unsigned server_number(const struct server *s)
{
    return s->number;
}

unsigned server_loops(const struct server *s)
{
    return s->shared->loops;
}

struct server *server_at(struct server *s, unsigned number)
{
    return number < s->shared->count ? s->shared->servers[number] : NULL;
}

struct directory *server_directory(struct server *s)
{
    return s->shared->directory;
}

struct mailbox *server_mailbox(struct server *s)
{
    return s->mailbox;
}

struct server *server_place(struct server *s, struct span name)
{
    unsigned loads[LOOPS_MAX];
    for (unsigned i = 0; i < s->shared->loops; i++)
        loads[i] = atomic_load_explicit(&s->shared->servers[i]->load, memory_order_relaxed);
    return s->shared->servers[directory_place(s->shared->directory, name, loads)];
}

uint64_t server_cpu_us(void)
{
    return clock_thread_us();
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
    if (s->apps != NULL) apps_turn(s->apps, flush, s);
}

// What the thread did in the last while, half of it told by what it did before: a new app goes where least is done.
static void load_look(struct server *s)
{
    uint64_t now = clock_mono_us(), cpu = clock_thread_us(), passed = now - s->load_at_us;
    if (passed < LOAD_MS * 1000) return;
    unsigned done = (unsigned)((cpu - s->load_cpu_us) * 1000 / passed);
    atomic_store_explicit(&s->load, (atomic_load_explicit(&s->load, memory_order_relaxed) + done) / 2, memory_order_relaxed);
    s->load_at_us = now;
    s->load_cpu_us = cpu;
}

static void on_tick(uv_timer_t *timer)
{
    struct server *s = timer->data;
    load_look(s);
    if (s->apps == NULL) return;
    apps_tick(s->apps);
    calls_tick(s->calls);
    llm_tick(s->llm);
    subs_run_tick(s->subs);
}

static uint64_t quiet_ms(const struct server *s)
{
    uint64_t seal = s->shared->options->seal_quiet_ms, ms = seal < TICK_QUIET_MS ? seal : TICK_QUIET_MS;
    return ms < TICK_BUSY_MS ? TICK_BUSY_MS : ms;
}

static void stop_end(struct server *s);

// Before the loop waits: is there a reason not to wait, or to wait for less?
static void on_prepare(uv_prepare_t *prepare)
{
    struct server *s = prepare->data;
    if (s->apps != NULL && apps_pending(s->apps)) conns_wake(s->conns);
    uint64_t ms = s->apps != NULL && apps_busy(s->apps) ? TICK_BUSY_MS : quiet_ms(s);
    if (ms != s->tick_ms) uv_timer_start(&s->tick, on_tick, ms, ms);
    s->tick_ms = ms;
    if (s->stopping && conns_count(s->conns) == 0) stop_end(s);
}

// ---- connections of other loops ---------------------------------------------------------------------------------------------

// Another loop's requests are those on its apps; who names no app that is there is answered by whoever hears it.
static void *elsewhere(void *ctx, struct span path)
{
    struct server *s = ctx;
    struct span name = routes_app(path);
    if (name.n == 0 || server_app(s, name) != NULL) return NULL;
    int loop = directory_find(s->shared->directory, name);
    return loop < 0 || (unsigned)loop == s->number ? NULL : s->shared->servers[loop];
}

static void on_arrived(struct letter *l)
{
    struct conn_moved *m = (struct conn_moved *)l;
    conns_adopt(((struct server *)m->to)->conns, m);
}

static void hand(void *ctx, struct conn_moved *m)
{
    (void)ctx;
    m->letter.read = on_arrived;
    if (!mailbox_send(((struct server *)m->to)->mailbox, &m->letter)) conn_moved_drop(m); // the service stops
}

// ---- stopping ---------------------------------------------------------------------------------------------------------------

// Hands back to the loop what was opened, in an order in which nothing asks for what is gone.
static void give_back(struct server *s)
{
    apps_ground(s->apps);
    if (s->conns != NULL) conns_close(s->conns);
    if (s->mailbox != NULL) mailbox_close(s->mailbox); // behind the last request: what is answered now nobody waits for
    llm_close(s->llm);
    subs_run_close(s->subs);
    calls_close(s->calls);
    lane_close(s->lane);
}

// No connection is left, or time is up.
static void stop_end(struct server *s)
{
    if (s->closed) return;
    s->closed = true;
    if (s->apps != NULL) apps_finish(s->apps);
    give_back(s);
    uv_close((uv_handle_t *)&s->prepare, NULL);
    uv_close((uv_handle_t *)&s->tick, NULL);
    uv_close((uv_handle_t *)&s->stop, NULL);
}

static void on_stop_late(uv_timer_t *timer)
{
    struct server *s = timer->data;
    log_warn("server", "connections are cut", LF_UINT("loop", s->number), LF_UINT("count", conns_count(s->conns)));
    stop_end(s);
}

static void on_stop(struct letter *l)
{
    struct server *s = (struct server *)((char *)l - offsetof(struct server, stop_letter));
    s->stopping = true;
    log_info("server", "stopping", LF_UINT("loop", s->number), LF_UINT("connections", conns_count(s->conns)));
    conns_stop(s->conns);
    if (s->apps != NULL) {
        llm_stop(s->llm);
        subs_run_stop(s->subs);
        apps_stop(s->apps);
    }
    uv_timer_start(&s->stop, on_stop_late, STOP_MS_MAX, 0);
}

void server_stop(struct server *s)
{
    s->stop_letter.read = on_stop;
    bool sent = mailbox_send(s->mailbox, &s->stop_letter);
    assert(sent);
}

// ---- starting ---------------------------------------------------------------------------------------------------------------

static void handles_init(struct server *s)
{
    uv_prepare_init(&s->loop, &s->prepare);
    uv_timer_init(&s->loop, &s->tick);
    uv_timer_init(&s->loop, &s->stop);
    s->prepare.data = s->tick.data = s->stop.data = s;
    uv_prepare_start(&s->prepare, on_prepare);
}

// Jobs that an earlier run left alive are ended before anybody can ask for them. In an app that takes no writes yet they wait for a tick.
static void jobs_settle(struct server *s)
{
    for (int rounds = 0; rounds < SETTLE_ROUNDS_MAX && llm_tick(s->llm); rounds++)
        turn(s);
}

static int open_apps(struct server *s, struct problem *p)
{
    const struct options *o = s->shared->options;
    int err = lane_open(&s->pool, &s->loop, POOL_THREADS);
    if (err == 0) err = lane_open(&s->lane, &s->loop, LANE_THREADS);
    if (err < 0) return problem_set(p, err, -1, "no thread can be started");
    struct apps_options apps = {
        .server = s, .number = s->number, .directory = s->shared->directory, .options = o, .loop = &s->loop, .pool = s->pool, .visible = on_visible, .landed = on_landed};
    err = apps_open(&s->apps, &apps, p);
    if (err < 0) return err;
    err = calls_open(&s->calls, &s->loop);
    if (err < 0) return problem_set(p, err, -1, "calls cannot be made");
    err = llm_open(&s->llm, s, o, p);
    return err < 0 ? err : subs_run_open(&s->subs, s, p);
}

static int open_conns(struct server *s, struct problem *p)
{
    struct conns_options conns = {.loop = &s->loop, .server = s, .limits = CONN_LIMITS, .dispatch = routes_dispatch, .turn = turn, .held = is_held, .ctx = s, .egress = (unsigned)s->shared->options->egress, .total = &s->shared->connections};
    conns.limits.bodies /= s->shared->loops; // one loop's slow bodies do not take the memory of another's
    if (s->shared->count > 1) {
        conns.elsewhere = elsewhere;
        conns.hand = hand;
    }
    int err = conns_open(&s->conns, &conns);
    return err < 0 ? problem_set(p, err, -1, "no memory") : 0;
}

int server_open(struct server **out, struct server_shared *shared, unsigned number, bool apps, struct problem *p)
{
    struct server *s = calloc(1, sizeof *s);
    if (s == NULL) return problem_set(p, ERR_NOMEM, -1, "no memory");
    if (uv_loop_init(&s->loop) < 0) {
        free(s);
        return problem_set(p, ERR_IO, -1, "the loop cannot be made");
    }
    s->shared = shared;
    s->number = number;
    *out = s;
    int err = mailbox_open(&s->mailbox, &s->loop);
    if (err < 0) return problem_set(p, err, -1, "no memory");
    if (apps) err = open_apps(s, p);
    if (err == 0) err = open_conns(s, p);
    if (err < 0) return err;
    if (apps) jobs_settle(s);
    handles_init(s);
    s->opened = true;
    return 0;
}

int server_listen(struct server *s, struct problem *p)
{
    return conns_listen(s->conns, s->shared->options->host, s->shared->options->port, p);
}

uint16_t server_port(const struct server *s)
{
    return conns_port(s->conns);
}

void server_run(struct server *s)
{
    if (!s->opened) give_back(s);
    uv_run(&s->loop, UV_RUN_DEFAULT);
    lane_close(s->pool); // not before: what it still did may have had more for it to do
    uv_run(&s->loop, UV_RUN_DEFAULT);
}

void server_close(struct server *s)
{
    apps_close(s->apps);
    int left = uv_loop_close(&s->loop);
    assert(left == 0);
}

void server_free(struct server *s)
{
    if (s == NULL) return;
    mailbox_free(s->mailbox);
    free(s);
}
