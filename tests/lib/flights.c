#include "flights.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_once_t started = PTHREAD_ONCE_INIT;
static struct app *flown; // lock: with the thread; NULL: it has none

static void *run(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&lock);
    for (;;) {
        if (flown != NULL) {
            app_flight_run(flown);
            flown = NULL;
            pthread_cond_broadcast(&changed);
        }
        pthread_cond_wait(&changed, &lock);
    }
    return NULL;
}

static void start(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, NULL) != 0) abort();
    pthread_detach(thread);
}

static bool thread_fly(void *host, struct app *a)
{
    (void)host;
    pthread_once(&started, start);
    pthread_mutex_lock(&lock);
    flown = a;
    pthread_cond_broadcast(&changed);
    while (flown != NULL)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    app_flight_end(a);
    return true;
}

static void nothing_to_land(void *host, struct app *a)
{
    (void)host, (void)a;
    abort();
}

void flights_thread(struct app_options *o)
{
    o->barrier = APP_BARRIER_THREAD;
    o->fly = thread_fly;
    o->land = nothing_to_land;
}

static bool hold_fly(void *host, struct app *a)
{
    (void)host, (void)a;
    return true;
}

static void hold_land(void *host, struct app *a)
{
    (void)host;
    app_flight_run(a);
    app_flight_end(a);
}

void flights_hold(struct app_options *o)
{
    o->barrier = APP_BARRIER_THREAD;
    o->fly = hold_fly;
    o->land = hold_land;
}
