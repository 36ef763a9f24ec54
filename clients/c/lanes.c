#include "lanes.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "client.h"
#include "err.h"

#define TICK_NS 100000000
#define LANES_WITHIN 2 // of a lane: connections and bodies in memory stay few

struct lane {
    struct lanes *all;
    struct segue *client;
    pthread_t thread;
    int result;
};

struct lanes {
    const struct lanes_work *work;
    pthread_mutex_t lock;
    pthread_cond_t changed; // a lane has ended
    size_t next, at_work;   // under the lock
    int failed;             // the lane that did first; -1: none
    struct lane lane[LANES_MAX];
};

static bool take(struct lanes *l, size_t *item)
{
    pthread_mutex_lock(&l->lock);
    bool more = l->failed < 0 && l->next < l->work->items;
    if (more) *item = l->next++;
    pthread_mutex_unlock(&l->lock);
    return more;
}

static void *lane_main(void *arg)
{
    struct lane *lane = arg;
    struct lanes *l = lane->all;
    size_t item;
    while (lane->result == SEGUE_OK && take(l, &item))
        lane->result = l->work->run(lane->client, l->work->ctx, item);
    pthread_mutex_lock(&l->lock);
    if (lane->result != SEGUE_OK && l->failed < 0) l->failed = (int)(lane - l->lane);
    l->at_work--;
    pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

// As many as there are items for, and as can be made: one is enough.
static size_t begin(struct lanes *l, struct segue *s)
{
    size_t n = 0;
    size_t most = s->is_lane ? LANES_WITHIN : l->work->lanes;
    while (n < most && n < l->work->lanes && n < l->work->items && n < LANES_MAX) {
        struct lane *lane = &l->lane[n];
        *lane = (struct lane){.all = l, .client = client_like(s)};
        if (lane->client == NULL) break;
        lane->client->is_lane = true;
        pthread_mutex_lock(&l->lock);
        l->at_work++;
        pthread_mutex_unlock(&l->lock);
        if (pthread_create(&lane->thread, NULL, lane_main, lane) != 0) {
            pthread_mutex_lock(&l->lock);
            l->at_work--;
            pthread_mutex_unlock(&l->lock);
            segue_free(lane->client);
            break;
        }
        n++;
    }
    return n;
}

static void wait_for_all(struct lanes *l)
{
    pthread_mutex_lock(&l->lock);
    while (l->at_work > 0) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += TICK_NS;
        if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
        pthread_cond_timedwait(&l->changed, &l->lock, &until);
        pthread_mutex_unlock(&l->lock);
        if (l->work->tick != NULL) l->work->tick(l->work->ctx);
        pthread_mutex_lock(&l->lock);
    }
    pthread_mutex_unlock(&l->lock);
}

static int run_threads(struct segue *s, struct lanes *l)
{
    size_t n = begin(l, s);
    if (n == 0) return client_fail(s, SEGUE_REFUSED, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    wait_for_all(l);
    for (size_t i = 0; i < n; i++)
        pthread_join(l->lane[i].thread, NULL);
    int result = l->failed >= 0 ? client_take_end(s, l->lane[l->failed].client, l->lane[l->failed].result) : SEGUE_OK;
    for (size_t i = 0; i < n; i++) {
        s->reached = s->reached || l->lane[i].client->reached;
        segue_free(l->lane[i].client);
    }
    return result;
}

int lanes_run(struct segue *s, const struct lanes_work *work)
{
    struct lanes l = {.work = work, .failed = -1};
    pthread_condattr_t attr;
    assert(work->run != NULL && work->lanes > 0);
    if (work->items == 0) return SEGUE_OK;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&l.changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&l.lock, NULL);
    int result = run_threads(s, &l);
    pthread_mutex_destroy(&l.lock);
    pthread_cond_destroy(&l.changed);
    return result;
}
