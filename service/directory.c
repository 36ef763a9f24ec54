#include "directory.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "err.h"

struct entry {
    char name[NAME_MAX_BYTES + 1];
    unsigned loop;
};

struct directory {
    unsigned loops;
    pthread_mutex_t lock;
    struct entry entries[APPS_MAX]; // lock, as the rest
    size_t n;
    unsigned dropped;
};

int directory_open(struct directory **out, unsigned loops)
{
    assert(loops >= 1 && loops <= LOOPS_MAX);
    struct directory *d = calloc(1, sizeof *d);
    if (d == NULL) return ERR_NOMEM;
    d->loops = loops;
    pthread_mutex_init(&d->lock, NULL);
    *out = d;
    return 0;
}

void directory_close(struct directory *d)
{
    if (d == NULL) return;
    pthread_mutex_destroy(&d->lock);
    free(d);
}

static struct entry *find(struct directory *d, struct span name)
{
    for (size_t i = 0; i < d->n; i++)
        if (span_is(name, d->entries[i].name)) return &d->entries[i];
    return NULL;
}

int directory_find(struct directory *d, struct span name)
{
    pthread_mutex_lock(&d->lock);
    const struct entry *e = find(d, name);
    int loop = e != NULL ? (int)e->loop : -1;
    pthread_mutex_unlock(&d->lock);
    return loop;
}

static size_t count_of(const struct directory *d, unsigned loop)
{
    size_t n = 0;
    for (size_t i = 0; i < d->n; i++)
        n += d->entries[i].loop == loop;
    return n;
}

// Loads that differ by less than a tenth of a core are equal.
static int lightest(const struct directory *d, const unsigned *loads)
{
    unsigned best = 0;
    size_t best_count = count_of(d, 0);
    for (unsigned i = 1; i < d->loops; i++) {
        unsigned load = loads[i] / 100, least = loads[best] / 100;
        size_t count = count_of(d, i);
        if (load > least || (load == least && count >= best_count)) continue;
        best = i;
        best_count = count;
    }
    return (int)best;
}

int directory_place(struct directory *d, struct span name, const unsigned *loads)
{
    pthread_mutex_lock(&d->lock);
    const struct entry *e = find(d, name);
    int loop = e != NULL ? (int)e->loop : lightest(d, loads);
    pthread_mutex_unlock(&d->lock);
    return loop;
}

static int enter(struct directory *d, struct span name, unsigned loop)
{
    const struct entry *e = find(d, name);
    if (e != NULL) return e->loop == loop ? 0 : ERR_BUSY;
    if (d->n == APPS_MAX) return ERR_TOO_MANY;
    struct entry *new = &d->entries[d->n++];
    *new = (struct entry){.loop = loop};
    memcpy(new->name, name.p, name.n);
    return 0;
}

int directory_enter(struct directory *d, struct span name, unsigned loop)
{
    assert(name.n > 0 && name.n <= NAME_MAX_BYTES && loop < d->loops);
    pthread_mutex_lock(&d->lock);
    int err = enter(d, name, loop);
    pthread_mutex_unlock(&d->lock);
    return err;
}

void directory_leave(struct directory *d, struct span name)
{
    pthread_mutex_lock(&d->lock);
    struct entry *e = find(d, name);
    if (e != NULL) memmove(e, e + 1, (size_t)(d->entries + --d->n - e) * sizeof *e);
    pthread_mutex_unlock(&d->lock);
}

bool directory_next(struct directory *d, unsigned loop, size_t *at, char name[NAME_MAX_BYTES + 1])
{
    pthread_mutex_lock(&d->lock);
    while (*at < d->n && d->entries[*at].loop != loop)
        (*at)++;
    bool more = *at < d->n;
    if (more) memcpy(name, d->entries[(*at)++].name, NAME_MAX_BYTES + 1);
    pthread_mutex_unlock(&d->lock);
    return more;
}

int directory_drop(struct directory *d)
{
    pthread_mutex_lock(&d->lock);
    int err = d->dropped == APPS_DROPPED_MAX ? ERR_TOO_MANY : 0;
    d->dropped += err == 0;
    pthread_mutex_unlock(&d->lock);
    return err;
}
