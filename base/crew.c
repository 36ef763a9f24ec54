#include "crew.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#define CREW_MIN 2 // one may be waiting for the disk

enum state { NOT_OFFERED, QUEUED, RUNNING, DONE };

struct crew {
    pthread_mutex_t lock;
    pthread_cond_t wanted; // a task was queued, or the end has come
    pthread_cond_t done;   // a task has run
    struct crew_task *first, **last;
    pthread_t helpers[CREW_MAX];
    int count, limit;
    int idle; // waiting, and not yet woken for a task
    bool ending;
};

struct crew *crew_new(void)
{
    struct crew *c = calloc(1, sizeof *c);
    if (c == NULL) return NULL;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    c->limit = processors < CREW_MIN ? CREW_MIN : processors > CREW_MAX ? CREW_MAX : (int)processors;
    c->last = &c->first;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->wanted, NULL);
    pthread_cond_init(&c->done, NULL);
    return c;
}

void crew_free(struct crew *c)
{
    if (c == NULL) return;
    assert(c->first == NULL);
    pthread_mutex_lock(&c->lock);
    c->ending = true;
    pthread_cond_broadcast(&c->wanted);
    pthread_mutex_unlock(&c->lock);
    for (int i = 0; i < c->count; i++)
        pthread_join(c->helpers[i], NULL);
    pthread_cond_destroy(&c->done);
    pthread_cond_destroy(&c->wanted);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static void unqueue(struct crew *c, struct crew_task *t)
{
    struct crew_task **at = &c->first;
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    if (c->last == &t->next) c->last = at;
}

// With the lock held, which is let go meanwhile.
static void run_task(struct crew *c, struct crew_task *t)
{
    unqueue(c, t);
    t->state = RUNNING;
    pthread_mutex_unlock(&c->lock);
    t->run(t->arg);
    pthread_mutex_lock(&c->lock);
    t->state = DONE;
    pthread_cond_broadcast(&c->done);
}

static void *help(void *arg)
{
    struct crew *c = arg;
    pthread_mutex_lock(&c->lock);
    while (!c->ending) {
        if (c->first != NULL) {
            run_task(c, c->first);
            continue;
        }
        c->idle++;
        pthread_cond_wait(&c->wanted, &c->lock);
        c->idle--;
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

// One that cannot be started is done without. Signals are for other threads.
static void start_helper(struct crew *c)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&c->helpers[c->count], NULL, help, c) == 0) c->count++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void crew_offer(struct crew *c, struct crew_task *t, void (*run)(void *), void *arg)
{
    pthread_mutex_lock(&c->lock);
    assert(t->state == NOT_OFFERED);
    *t = (struct crew_task){.run = run, .arg = arg, .state = QUEUED};
    *c->last = t;
    c->last = &t->next;
    if (c->idle == 0 && c->count < c->limit) start_helper(c);
    pthread_cond_signal(&c->wanted);
    pthread_mutex_unlock(&c->lock);
}

void crew_join(struct crew *c, struct crew_task *t)
{
    pthread_mutex_lock(&c->lock);
    if (t->state == QUEUED) run_task(c, t);
    while (t->state == RUNNING)
        pthread_cond_wait(&c->done, &c->lock);
    t->state = NOT_OFFERED;
    pthread_mutex_unlock(&c->lock);
}
