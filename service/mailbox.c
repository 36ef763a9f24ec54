#include "mailbox.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "err.h"

struct mailbox {
    uv_async_t woken;
    bool gone; // the loop's: libuv has let go
    pthread_mutex_t lock;
    struct letter *first, **end; // lock
    bool closed;                 // lock
};

static struct letter *take_all(struct mailbox *m, bool close)
{
    pthread_mutex_lock(&m->lock);
    struct letter *l = m->first;
    m->first = NULL;
    m->end = &m->first;
    // Closed only where nothing is left: a letter that was taken is read.
    if (close && l == NULL) m->closed = true;
    pthread_mutex_unlock(&m->lock);
    return l;
}

static bool read_all(struct mailbox *m, bool close)
{
    struct letter *l = take_all(m, close);
    bool any = l != NULL;
    while (l != NULL) {
        struct letter *next = l->next;
        l->read(l);
        l = next;
    }
    return any;
}

// What comes while these are read has its own signal: sockets are looked at between.
static void on_woken(uv_async_t *handle)
{
    read_all(handle->data, false);
}

int mailbox_open(struct mailbox **out, uv_loop_t *loop)
{
    struct mailbox *m = calloc(1, sizeof *m);
    if (m == NULL) return ERR_NOMEM;
    m->end = &m->first;
    m->woken.data = m;
    if (uv_async_init(loop, &m->woken, on_woken) != 0) {
        free(m);
        return ERR_NOMEM;
    }
    pthread_mutex_init(&m->lock, NULL);
    *out = m;
    return 0;
}

bool mailbox_send(struct mailbox *m, struct letter *l)
{
    l->next = NULL;
    pthread_mutex_lock(&m->lock);
    bool open = !m->closed, first = m->first == NULL;
    if (open) {
        *m->end = l;
        m->end = &l->next;
        // With the lock: the handle is not closed before it is used.
        if (first) uv_async_send(&m->woken);
    }
    pthread_mutex_unlock(&m->lock);
    return open;
}

static void on_closed(uv_handle_t *handle)
{
    ((struct mailbox *)handle->data)->gone = true;
}

void mailbox_close(struct mailbox *m)
{
    while (read_all(m, true))
        continue;
    uv_close((uv_handle_t *)&m->woken, on_closed);
}

void mailbox_free(struct mailbox *m)
{
    if (m == NULL) return;
    assert(m->gone && m->first == NULL);
    pthread_mutex_destroy(&m->lock);
    free(m);
}
