#include "lane.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "err.h"

struct lane_list {
    struct lane_job *first, **end;
};

struct lane {
    uv_async_t woken; // keeps the loop alive while jobs are under way
    pthread_t threads[LANE_THREADS_MAX];
    int thread_count, thread_max; // the loop's
    size_t under_way; // the loop's
    bool closing;     // the loop's
    pthread_mutex_t lock;
    pthread_cond_t work, came;
    struct lane_list waiting, done; // lock
    bool stop;                      // lock
};

static void put(struct lane_list *list, struct lane_job *j)
{
    if (list->first == NULL) list->end = &list->first;
    j->next = NULL;
    *list->end = j;
    list->end = &j->next;
}

static struct lane_job *take(struct lane_list *list)
{
    struct lane_job *j = list->first;
    if (j != NULL) list->first = j->next;
    return j;
}

// ---- the threads ---------------------------------------------------------------------------------------------------

static void *run_thread(void *arg)
{
    struct lane *l = arg;
    pthread_mutex_lock(&l->lock);
    while (!l->stop) {
        struct lane_job *j = take(&l->waiting);
        if (j == NULL) {
            pthread_cond_wait(&l->work, &l->lock);
            continue;
        }
        pthread_mutex_unlock(&l->lock);
        j->run(j);
        pthread_mutex_lock(&l->lock);
        put(&l->done, j);
        pthread_cond_signal(&l->came);
        uv_async_send(&l->woken);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static void threads_stop(struct lane *l)
{
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    for (int i = 0; i < l->thread_count; i++)
        pthread_join(l->threads[i], NULL);
}

// ---- the loop ------------------------------------------------------------------------------------------------------

static void on_closed(uv_handle_t *handle)
{
    struct lane *l = handle->data;
    pthread_cond_destroy(&l->work);
    pthread_cond_destroy(&l->came);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

static void end(struct lane *l)
{
    threads_stop(l);
    uv_close((uv_handle_t *)&l->woken, on_closed);
}

// One signal may stand for several jobs.
static void done_call(struct lane *l)
{
    for (;;) {
        pthread_mutex_lock(&l->lock);
        struct lane_job *j = take(&l->done);
        pthread_mutex_unlock(&l->lock);
        if (j == NULL) break;
        l->under_way--;
        j->done(j);
    }
}

static void on_woken(uv_async_t *handle)
{
    struct lane *l = handle->data;
    done_call(l);
    if (l->under_way > 0) return;
    if (l->closing && !l->stop) end(l);
    else uv_unref((uv_handle_t *)&l->woken);
}

// Where every thread has something to do, one more is begun.
static void thread_add(struct lane *l)
{
    bool busy = l->under_way >= (size_t)l->thread_count;
    if (busy && l->thread_count < l->thread_max && pthread_create(&l->threads[l->thread_count], NULL, run_thread, l) == 0) l->thread_count++;
}

int lane_open(struct lane **out, uv_loop_t *loop, int threads)
{
    assert(threads > 0 && threads <= LANE_THREADS_MAX);
    struct lane *l = calloc(1, sizeof *l);
    if (l == NULL) return ERR_NOMEM;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->work, NULL);
    pthread_cond_init(&l->came, NULL);
    l->woken.data = l;
    if (uv_async_init(loop, &l->woken, on_woken) != 0) {
        free(l);
        return ERR_NOMEM;
    }
    uv_unref((uv_handle_t *)&l->woken);
    l->thread_max = threads;
    thread_add(l);
    if (l->thread_count == 0) {
        end(l);
        return ERR_NOMEM;
    }
    *out = l;
    return 0;
}

void lane_submit(struct lane *l, struct lane_job *j)
{
    assert(!l->stop);
    thread_add(l);
    if (l->under_way++ == 0) uv_ref((uv_handle_t *)&l->woken);
    pthread_mutex_lock(&l->lock);
    put(&l->waiting, j);
    pthread_cond_signal(&l->work);
    pthread_mutex_unlock(&l->lock);
}

void lane_wait(struct lane *l)
{
    if (l->under_way == 0) return;
    pthread_mutex_lock(&l->lock);
    while (l->done.first == NULL)
        pthread_cond_wait(&l->came, &l->lock);
    pthread_mutex_unlock(&l->lock);
    done_call(l);
}

void lane_close(struct lane *l)
{
    if (l == NULL) return;
    l->closing = true;
    if (l->under_way == 0) end(l);
}
