// Starting and stopping the loops.
//
//      start:  lock the folder ─> keys ─> apps are spread over the loops (apps.h) ─> every loop opens its own, all at once
//              ─> listen ─> "listening on …"
//      stop:   SIGTERM: every loop is told (server_stop) and ends by itself ─> the threads are joined ─> exit. A second signal kills the process where it
//              stands: it is made for that.
//
// One loop does everything on the process's first thread. Of several none is there: it accepts, finds out from its head which app a connection's first request
// is for, and hands it on (conns.h); an app's work never keeps a connection for another app waiting. What names no app it answers by itself.
#include "daemon.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>

#include "apps.h"
#include "blob_link.h"
#include "err.h"
#include "file.h"
#include "log.h"
#include "server.h"
#include "webhook_sign.h"

#define STACK_BYTES (8 * MIB) // of a loop's thread: what the process's first has

// A loop on a thread of its own.
struct place {
    struct daemon *daemon;
    unsigned number;
    pthread_t thread;
    bool started; // there is a thread
    // lock:
    bool known; // whether it could be opened is
    int err;
    struct problem problem;
};

struct daemon {
    struct server_shared shared;
    struct auth *auth;
    struct blob_signer *signer;
    struct webhook_signer *webhooks;
    int lock_fd;
    struct place places[LOOPS_MAX];
    pthread_mutex_t lock;
    pthread_cond_t told;
    struct server *first; // that of this thread
    bool opened;          // it is
    uv_signal_t sigterm, sigint;
};

// ---- threads ----------------------------------------------------------------------------------------------------------

static void tell(struct place *at, struct server *s, int err, const struct problem *p)
{
    struct daemon *d = at->daemon;
    pthread_mutex_lock(&d->lock);
    d->shared.servers[at->number] = s;
    at->err = err;
    at->problem = *p;
    at->known = true;
    pthread_cond_signal(&d->told);
    pthread_mutex_unlock(&d->lock);
}

// A database belongs to the thread that opened it: this one opens, serves and closes.
static void *run_place(void *arg)
{
    struct place *at = arg;
    struct server *s = NULL;
    struct problem p = PROBLEM_NONE;
    int err = server_open(&s, &at->daemon->shared, at->number, true, &p);
    tell(at, s, err, &p);
    if (s != NULL) {
        server_run(s);
        server_close(s);
    }
    return NULL;
}

static int place_start(struct place *at)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    at->started = pthread_create(&at->thread, &attr, run_place, at) == 0;
    pthread_attr_destroy(&attr);
    return at->started ? 0 : ERR_NOMEM;
}

static int places_wait(struct daemon *d, struct problem *p)
{
    int err = 0;
    pthread_mutex_lock(&d->lock);
    for (unsigned i = 0; i < d->shared.loops; i++) {
        struct place *at = &d->places[i];
        while (at->started && !at->known)
            pthread_cond_wait(&d->told, &d->lock);
        if (err == 0 && at->err != 0) {
            err = at->err;
            *p = at->problem;
        }
    }
    pthread_mutex_unlock(&d->lock);
    return err;
}

static int places_start(struct daemon *d, struct problem *p)
{
    int err = 0;
    for (unsigned i = 0; i < d->shared.loops && err == 0; i++) {
        d->places[i].daemon = d;
        d->places[i].number = i;
        err = place_start(&d->places[i]);
    }
    int opening = places_wait(d, p);
    if (opening != 0) return opening;
    return err == 0 ? 0 : problem_set(p, err, -1, "no thread can be started");
}

static void places_stop(struct daemon *d)
{
    for (unsigned i = 0; i < d->shared.loops; i++)
        if (d->places[i].started && d->places[i].err == 0) server_stop(d->shared.servers[i]);
}

static void places_join(struct daemon *d)
{
    for (unsigned i = 0; i < d->shared.loops; i++)
        if (d->places[i].started) pthread_join(d->places[i].thread, NULL);
}

// ---- this thread ------------------------------------------------------------------------------------------------------

static void on_signal(uv_signal_t *handle, int signal)
{
    struct daemon *d = handle->data;
    log_info("daemon", "stopping", LF_INT("signal", signal));
    places_stop(d);
    server_stop(d->first);
    // From here on a signal does what signals do by themselves.
    uv_close((uv_handle_t *)&d->sigterm, NULL);
    uv_close((uv_handle_t *)&d->sigint, NULL);
}

static void signals_watch(struct daemon *d)
{
    uv_loop_t *loop = server_loop(d->first);
    uv_signal_init(loop, &d->sigterm);
    uv_signal_init(loop, &d->sigint);
    d->sigterm.data = d->sigint.data = d;
    uv_signal_start(&d->sigterm, on_signal, SIGTERM);
    uv_signal_start(&d->sigint, on_signal, SIGINT);
}

static void say_listening(const struct daemon *d)
{
    const char *host = d->shared.options->host;
    bool v6 = strchr(host, ':') != NULL;
    printf("listening on http://%s%s%s:%u\n", v6 ? "[" : "", host, v6 ? "]" : "", server_port(d->first));
    fflush(stdout);
}

// The first server serves apps too where it is the only one.
static int first_open(struct daemon *d, struct problem *p)
{
    struct server_shared *shared = &d->shared;
    bool alone = shared->loops == 1;
    int err = alone ? 0 : places_start(d, p);
    if (err != 0) return err;
    unsigned number = alone ? 0 : shared->loops;
    err = server_open(&d->first, shared, number, alone, p);
    shared->servers[number] = d->first;
    d->opened = err == 0;
    return err < 0 ? err : server_listen(d->first, p);
}

// ---- the process ------------------------------------------------------------------------------------------------------

// Two daemons in one folder would be two truths. The lock goes with the process, however that ends.
static int folder_lock(struct daemon *d, struct problem *p)
{
    const char *data = d->shared.options->data;
    char path[OPTION_PATH_MAX + 16];
    int err = dir_make(data);
    if (err < 0) return problem_set(p, err, -1, "the folder %.150s cannot be made", data);
    snprintf(path, sizeof path, "%s/lock", data);
    d->lock_fd = file_open(path, O_RDWR | O_CREAT);
    if (d->lock_fd < 0) return problem_set(p, d->lock_fd, -1, "%.150s cannot be opened", path);
    if (flock(d->lock_fd, LOCK_EX | LOCK_NB) == 0) return 0;
    return problem_set(p, ERR_EXISTS, -1, "another segued serves %.150s", data);
}

static int keys_open(struct daemon *d, struct problem *p)
{
    const struct options *o = d->shared.options;
    struct auth_options auth = {.dev = o->dev, .path = o->data};
    int err = auth_open(&d->auth, &auth);
    if (err < 0) return problem_set(p, err, -1, "the admin key in %.150s cannot be used", o->data);
    err = blob_signer_open(&d->signer, o->data, p);
    if (err == 0) err = webhook_signer_open(&d->webhooks, o->data, p);
    d->shared.auth = d->auth;
    d->shared.signer = d->signer;
    d->shared.webhooks = d->webhooks;
    return err;
}

static unsigned loops_of(const struct options *o)
{
    if (o->loops > 0) return (unsigned)o->loops;
    unsigned cores = uv_available_parallelism();
    return cores > LOOPS_AUTO_MAX ? LOOPS_AUTO_MAX : cores;
}

static int daemon_open(struct daemon *d, struct problem *p)
{
    int err = folder_lock(d, p);
    if (err == 0) err = keys_open(d, p);
    if (err < 0) return err;
    d->shared.loops = loops_of(d->shared.options);
    d->shared.count = d->shared.loops + (d->shared.loops > 1);
    err = directory_open(&d->shared.directory, d->shared.loops);
    if (err < 0) return problem_set(p, err, -1, "no memory");
    err = apps_spread(d->shared.options, d->shared.directory, d->shared.loops, p);
    return err < 0 ? err : first_open(d, p);
}

// The threads have not begun, or have ended.
static void daemon_close(struct daemon *d)
{
    for (unsigned i = 0; i < d->shared.count; i++)
        server_free(d->shared.servers[i]);
    directory_close(d->shared.directory);
    auth_close(d->auth);
    blob_signer_close(d->signer);
    webhook_signer_close(d->webhooks);
    file_close(d->lock_fd);
    pthread_cond_destroy(&d->told);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

int daemon_run(const struct options *options, struct problem *p)
{
    struct daemon *d = calloc(1, sizeof *d);
    if (d == NULL) return problem_set(p, ERR_NOMEM, -1, "no memory");
    d->shared.options = options;
    d->shared.started_us = clock_mono_us();
    d->lock_fd = -1;
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->told, NULL);
    signal(SIGPIPE, SIG_IGN);
    int err = daemon_open(d, p);
    if (err == 0) {
        signals_watch(d);
        say_listening(d);
    } else {
        places_stop(d);
        if (d->opened) server_stop(d->first);
    }
    if (d->first != NULL) server_run(d->first);
    places_join(d);
    if (d->first != NULL) server_close(d->first);
    daemon_close(d);
    if (err == 0) log_info("daemon", "stopped");
    return err;
}
