#include "egress.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "err.h"
#include "limits.h"

#define SLICE 64 // frames that a thread takes at a time: the lock is worth them, and others find work, too

struct list {
    struct egress_frame *first, **end;
    size_t n;
};

struct egress {
    uv_async_t woken; // keeps the loop alive while frames are away
    void (*done)(struct egress_frame *f);
    struct list put;   // the loop's
    size_t away;       // the loop's: with the threads
    unsigned burst;    // the loop's
    bool used;         // the loop's: this turn had frames
    pthread_t threads[EGRESS_THREADS_MAX];
    unsigned thread_count;
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct list waiting, sent; // lock
    bool stop;                 // lock
};

static void list_add(struct list *l, struct egress_frame *f)
{
    if (l->first == NULL) l->end = &l->first;
    f->next = NULL;
    *l->end = f;
    l->end = &f->next;
    l->n++;
}

static void list_join(struct list *l, struct list *from)
{
    if (from->first == NULL) return;
    if (l->first == NULL) l->end = &l->first;
    *l->end = from->first;
    l->end = from->end;
    l->n += from->n;
    *from = (struct list){0};
}

static struct list list_take(struct list *l, size_t max)
{
    struct list taken = {0};
    for (struct egress_frame *f = l->first; f != NULL && taken.n < max; f = l->first) {
        l->first = f->next;
        l->n--;
        list_add(&taken, f);
    }
    return taken;
}

// ---- the threads ---------------------------------------------------------------------------------------------------

static void frame_send(struct egress_frame *f)
{
    ssize_t n = send(f->fd, f->bytes->p + f->from, f->n, MSG_DONTWAIT | MSG_NOSIGNAL);
    f->taken = n > 0 ? (size_t)n : 0;
    f->err = n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR ? errno : 0;
}

static void *run_thread(void *arg)
{
    struct egress *e = arg;
    pthread_mutex_lock(&e->lock);
    for (;;) {
        struct list mine = list_take(&e->waiting, SLICE);
        if (mine.first == NULL && e->stop) break; // nothing is left unsent
        if (mine.first == NULL) {
            pthread_cond_wait(&e->work, &e->lock);
            continue;
        }
        pthread_mutex_unlock(&e->lock);
        for (struct egress_frame *f = mine.first; f != NULL; f = f->next)
            frame_send(f);
        pthread_mutex_lock(&e->lock);
        bool first = e->sent.first == NULL; // else the loop is awake, or about to be
        list_join(&e->sent, &mine);
        if (first) uv_async_send(&e->woken);
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

// ---- the loop ------------------------------------------------------------------------------------------------------

static void sent_call(struct egress *e)
{
    pthread_mutex_lock(&e->lock);
    struct list sent = list_take(&e->sent, SIZE_MAX);
    pthread_mutex_unlock(&e->lock);
    assert(sent.n <= e->away);
    e->away -= sent.n;
    for (struct egress_frame *f = sent.first, *next; f != NULL; f = next) {
        struct bytes *bytes = f->bytes;
        next = f->next; // it may be put again at once
        f->away = false;
        e->done(f);
        bytes_unref(bytes);
    }
}

static void on_woken(uv_async_t *handle)
{
    struct egress *e = handle->data;
    sent_call(e);
    if (e->away == 0) uv_unref((uv_handle_t *)&e->woken);
}

int egress_open(struct egress **out, uv_loop_t *loop, unsigned threads, void (*done)(struct egress_frame *f))
{
    assert(threads > 0 && threads <= EGRESS_THREADS_MAX);
    struct egress *e = calloc(1, sizeof *e);
    if (e == NULL) return ERR_NOMEM;
    e->done = done;
    e->woken.data = e;
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->work, NULL);
    if (uv_async_init(loop, &e->woken, on_woken) != 0) {
        free(e);
        return ERR_NOMEM;
    }
    uv_unref((uv_handle_t *)&e->woken);
    *out = e;
    while (e->thread_count < threads && pthread_create(&e->threads[e->thread_count], NULL, run_thread, e) == 0)
        e->thread_count++;
    return e->thread_count > 0 ? 0 : ERR_NOMEM;
}

bool egress_takes(struct egress *e)
{
    e->used = true;
    return ++e->burst > EGRESS_BURST;
}

void egress_put(struct egress *e, struct egress_frame *f, int fd, struct bytes *bytes, size_t from, size_t n)
{
    assert(!f->away && from <= bytes->n && n <= bytes->n - from);
    *f = (struct egress_frame){.bytes = bytes_ref(bytes), .from = from, .n = n, .fd = fd, .away = true};
    list_add(&e->put, f);
}

void egress_flush(struct egress *e)
{
    if (e == NULL) return;
    if (!e->used) e->burst = 0;
    e->used = false;
    if (e->put.first == NULL) return;
    if (e->away == 0) uv_ref((uv_handle_t *)&e->woken);
    e->away += e->put.n;
    bool many = e->put.n > SLICE;
    pthread_mutex_lock(&e->lock);
    list_join(&e->waiting, &e->put);
    if (many) pthread_cond_broadcast(&e->work);
    else pthread_cond_signal(&e->work);
    pthread_mutex_unlock(&e->lock);
}

static void on_closed(uv_handle_t *handle)
{
    struct egress *e = handle->data;
    pthread_cond_destroy(&e->work);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

void egress_close(struct egress *e)
{
    if (e == NULL) return;
    egress_flush(e);
    pthread_mutex_lock(&e->lock);
    e->stop = true;
    pthread_cond_broadcast(&e->work);
    pthread_mutex_unlock(&e->lock);
    for (unsigned i = 0; i < e->thread_count; i++)
        pthread_join(e->threads[i], NULL);
    sent_call(e);
    assert(e->away == 0 && e->put.first == NULL);
    uv_close((uv_handle_t *)&e->woken, on_closed);
}
