#include "pack.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "blob_keys.h"
#include "bug.h"
#include "err.h"
#include "file.h"
#include "limits.h"
#include "log.h"

#define SPARE_MAX 4 // more batches are seldom written at the same time
#define PACK_FILES_BYTES_MAX (64 * MIB) // of the list of packs: four million
#define NAME_ROOM 24 // "4294967295.pack" and its end

struct pack {
    struct packs *packs;
    struct pack *next; // packs->open
    uint32_t number;
    uint32_t refs; // packs->lock
    uint64_t idle; // packs->lock; when the last reference went, by packs->clock
    pthread_mutex_t lock;
    atomic_int fd;         // -1 until first used, then fixed; set with the lock. Who has it does not wait for a barrier
    int direct;            // lock; past the page cache: -1 until first used
    bool cached;           // lock; the file system does not take that
    pthread_rwlock_t pages; // batches share it; who writes into their pages has it alone
    bool named;            // lock; the file's name is known to be durable
    uint64_t synced;       // lock; how many of `written` the last barrier covers
    atomic_ullong written; // writes that have returned
    atomic_int failed;     // the error of a failed barrier, for good
};

struct packs {
    char *path;
    uint64_t pack_bytes; // of one pack, at most
    pthread_mutex_t lock;
    struct pack *open; // lock
    uint32_t idle;     // lock; those of them without a reference
    uint64_t clock;    // lock
    uint8_t *spare[SPARE_MAX]; // lock; memory of batches, for the next ones
    size_t spare_count;        // lock
    size_t batches;            // lock; being written
    // The owner's: where the next record goes. `current` is NULL until something is placed.
    struct pack *current;
    uint32_t number;
    uint64_t end;
    uint64_t before; // bytes of all packs but this one
    struct buf files; // struct pack_file: those that take no more, in order of their numbers
};

struct pack_file {
    uint32_t number;
    uint64_t size;
};

// ---- opening ---------------------------------------------------------------------------------------------------

// The number in "0012.pack"; 0 for the name of anything else.
static uint32_t parse_name(const char *name)
{
    char again[NAME_ROOM];
    uint64_t v = 0;
    for (const char *p = name; *p >= '0' && *p <= '9' && v < UINT32_MAX; p++)
        v = v * 10 + (uint64_t)(*p - '0');
    if (v >= UINT32_MAX) return 0;
    snprintf(again, sizeof again, "%04u.pack", (unsigned)v);
    return strcmp(name, again) == 0 ? (uint32_t)v : 0;
}

static char *path_of(const struct packs *p, uint32_t number)
{
    char *path;
    return asprintf(&path, "%s/%04u.pack", p->path, (unsigned)number) < 0 ? NULL : path;
}

static int measure(const struct packs *p, uint32_t number, uint64_t *size)
{
    char *path = path_of(p, number);
    if (path == NULL) return ERR_NOMEM;
    int fd = file_open(path, O_RDONLY);
    free(path);
    if (fd < 0) return fd;
    int err = file_size(fd, size);
    file_close(fd);
    return err;
}

static struct pack_file *file_at(const struct packs *p, size_t i)
{
    return &((struct pack_file *)(void *)p->files.p)[i]; // malloc's memory
}

static size_t file_count(const struct packs *p)
{
    return p->files.n / sizeof(struct pack_file);
}

static int add_file(struct packs *p, uint32_t number, uint64_t size)
{
    struct pack_file f = {.number = number, .size = size};
    size_t i = file_count(p);
    buf_put(&p->files, &f, sizeof f);
    if (p->files.err != 0) return p->files.err;
    for (; i > 0 && file_at(p, i - 1)->number > number; i--)
        *file_at(p, i) = *file_at(p, i - 1);
    *file_at(p, i) = f;
    return 0;
}

// Takes one file found in the folder into account; the one of the highest number goes on being filled.
static int take_file(struct packs *p, uint32_t number)
{
    uint64_t size = 0;
    int err = measure(p, number, &size);
    if (err != 0) return err;
    if (number < p->number) {
        p->before += size;
        return add_file(p, number, size);
    }
    p->before += p->end;
    if (p->number > 0) err = add_file(p, p->number, p->end);
    p->number = number;
    p->end = size;
    return err;
}

static int scan_folder(struct packs *p)
{
    DIR *d = opendir(p->path);
    if (d == NULL) return err_from_errno(errno);
    int err = 0;
    while (err == 0) {
        errno = 0;
        struct dirent *e = readdir(d);
        if (e == NULL && errno != 0) err = err_from_errno(errno);
        if (e == NULL) break;
        uint32_t number = parse_name(e->d_name);
        if (number > 0) err = take_file(p, number);
    }
    closedir(d);
    // The end is rounded up, never down: a record that a power cut tore may lie there.
    p->end = blob_record_align(p->end);
    if (p->number == 0) p->number = 1;
    return err;
}

int packs_open(struct packs **out, const char *path, uint64_t bytes)
{
    assert(bytes == 0 || (bytes >= PACK_BYTES_MIN && bytes <= BLOB_PACK_BYTES));
    int err = dir_make(path);
    if (err != 0) return err;
    struct packs *p = calloc(1, sizeof *p);
    if (p == NULL) return ERR_NOMEM;
    pthread_mutex_init(&p->lock, NULL);
    buf_init(&p->files, PACK_FILES_BYTES_MAX);
    p->pack_bytes = bytes == 0 ? BLOB_PACK_BYTES : bytes;
    p->path = strdup(path);
    err = p->path == NULL ? ERR_NOMEM : scan_folder(p);
    if (err != 0) {
        packs_close(p);
        return err;
    }
    *out = p;
    return 0;
}

static void pack_free(struct pack *k)
{
    file_close(k->fd);
    file_close(k->direct);
    pthread_rwlock_destroy(&k->pages);
    pthread_mutex_destroy(&k->lock);
    free(k);
}

void packs_close(struct packs *p)
{
    if (p == NULL) return;
    pack_unref(p->current);
    while (p->open != NULL) {
        struct pack *k = p->open;
        assert(k->refs == 0);
        p->open = k->next;
        pack_free(k);
    }
    while (p->spare_count > 0)
        free(p->spare[--p->spare_count]);
    pthread_mutex_destroy(&p->lock);
    buf_free(&p->files);
    free(p->path);
    free(p);
}

// ---- handles ---------------------------------------------------------------------------------------------------

static struct pack *pack_new(struct packs *p, uint32_t number)
{
    struct pack *k = calloc(1, sizeof *k);
    if (k == NULL) return NULL;
    k->packs = p;
    k->number = number;
    k->fd = k->direct = -1;
    pthread_mutex_init(&k->lock, NULL);
    pthread_rwlock_init(&k->pages, NULL);
    k->next = p->open;
    p->open = k;
    p->idle++; // the caller's reference takes it out again
    return k;
}

// With packs->lock held.
static struct pack *ref_locked(struct pack *k)
{
    if (k->refs++ == 0) k->packs->idle--;
    return k;
}

struct pack *packs_get(struct packs *p, uint32_t number)
{
    pthread_mutex_lock(&p->lock);
    struct pack *k = p->open;
    while (k != NULL && k->number != number)
        k = k->next;
    if (k == NULL) k = pack_new(p, number);
    if (k != NULL) ref_locked(k);
    pthread_mutex_unlock(&p->lock);
    return k;
}

struct pack *pack_ref(struct pack *k)
{
    pthread_mutex_lock(&k->packs->lock);
    assert(k->refs > 0);
    ref_locked(k);
    pthread_mutex_unlock(&k->packs->lock);
    return k;
}

// Takes the pack that has been idle the longest out of the list. With packs->lock held, and at least one idle.
static struct pack *take_oldest(struct packs *p)
{
    struct pack **oldest = NULL;
    for (struct pack **at = &p->open; *at != NULL; at = &(*at)->next)
        if ((*at)->refs == 0 && (oldest == NULL || (*at)->idle < (*oldest)->idle)) oldest = at;
    assert(oldest != NULL);
    struct pack *k = *oldest;
    *oldest = k->next;
    p->idle--;
    return k;
}

void pack_unref(struct pack *k)
{
    if (k == NULL) return;
    struct packs *p = k->packs;
    struct pack *evicted = NULL;
    pthread_mutex_lock(&p->lock);
    assert(k->refs > 0);
    if (--k->refs == 0) {
        k->idle = ++p->clock;
        p->idle++;
        if (p->idle > PACKS_IDLE_MAX) evicted = take_oldest(p);
    }
    pthread_mutex_unlock(&p->lock);
    if (evicted != NULL) pack_free(evicted);
}

uint32_t pack_number(const struct pack *k)
{
    return k->number;
}

// The descriptor, opened now if need be; `create` for writers. Readers of a file that is there may come first, so they open
// it for writing too, but where the file system is read-only.
static int pack_fd(struct pack *k, bool create)
{
    int known = atomic_load(&k->fd);
    if (known >= 0) return known;
    pthread_mutex_lock(&k->lock);
    if (k->fd < 0) {
        char *path = path_of(k->packs, k->number);
        int fd = path == NULL ? ERR_NOMEM : file_open(path, create ? O_RDWR | O_CREAT : O_RDWR);
        if (fd < 0 && path != NULL && !create && (errno == EROFS || errno == EACCES)) fd = file_open(path, O_RDONLY);
        free(path);
        if (fd < 0) {
            pthread_mutex_unlock(&k->lock);
            return fd;
        }
        k->fd = fd;
    }
    int fd = k->fd;
    pthread_mutex_unlock(&k->lock);
    return fd;
}

// ---- placing ---------------------------------------------------------------------------------------------------

// Leaves the current pack for a new one: it is full, or a barrier on it failed.
static void roll(struct packs *p)
{
    pack_unref(p->current);
    p->current = NULL;
    p->before += p->end;
    if (p->end > 0) add_file(p, p->number, p->end); // without memory for it, it is found by the next start
    p->end = 0;
    p->number++;
}

static uint64_t page_align(uint64_t n)
{
    return (n + PACK_PAGE - 1) / PACK_PAGE * PACK_PAGE;
}

// Makes the pack with room for `n` more bytes the current one. False: no memory.
static bool make_room(struct packs *p, size_t n)
{
    if (p->end + n > p->pack_bytes || (p->current != NULL && pack_failed(p->current))) roll(p);
    if (p->current == NULL) p->current = packs_get(p, p->number);
    return p->current != NULL;
}

struct pack *packs_place(struct packs *p, size_t n, uint64_t *position)
{
    assert(n % RECORD_ALIGN == 0 && n <= p->pack_bytes);
    if (!make_room(p, n)) return NULL;
    *position = p->end;
    p->end += n;
    return pack_ref(p->current);
}

struct pack *packs_next(struct packs *p, size_t n)
{
    assert(n <= PACK_BATCH_MAX - 2 * PACK_PAGE);
    return make_room(p, n + 2 * PACK_PAGE) ? pack_ref(p->current) : NULL;
}

uint64_t packs_take(struct packs *p, size_t n)
{
    assert(p->current != NULL && n % RECORD_ALIGN == 0);
    uint64_t position = n < PACK_BATCH_MIN ? p->end : page_align(p->end);
    p->end = n < PACK_BATCH_MIN ? position + n : page_align(position + n);
    assert(p->end <= p->pack_bytes);
    return position;
}

// ---- reclaiming ------------------------------------------------------------------------------------------------

bool packs_file_after(const struct packs *p, uint32_t after, uint32_t *number, uint64_t *size)
{
    size_t low = 0, high = file_count(p);
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (file_at(p, middle)->number <= after) low = middle + 1;
        else high = middle;
    }
    if (low == file_count(p)) return false;
    *number = file_at(p, low)->number;
    *size = file_at(p, low)->size;
    return true;
}

uint32_t packs_current(const struct packs *p, uint64_t *size)
{
    *size = p->end;
    return p->number;
}

void packs_roll(struct packs *p)
{
    roll(p);
}

bool packs_in_use(struct packs *p, uint32_t number)
{
    pthread_mutex_lock(&p->lock);
    struct pack *k = p->open;
    while (k != NULL && k->number != number)
        k = k->next;
    bool used = k != NULL && k->refs > 0;
    pthread_mutex_unlock(&p->lock);
    return used;
}

// Takes the handle of an idle pack out of the list; *busy where it has references.
static struct pack *take_idle(struct packs *p, uint32_t number, bool *busy)
{
    pthread_mutex_lock(&p->lock);
    struct pack **at = &p->open;
    while (*at != NULL && (*at)->number != number)
        at = &(*at)->next;
    struct pack *k = *at;
    *busy = k != NULL && k->refs > 0;
    if (k != NULL && !*busy) {
        *at = k->next;
        p->idle--;
    }
    pthread_mutex_unlock(&p->lock);
    return *busy ? NULL : k;
}

static void forget_file(struct packs *p, uint32_t number)
{
    size_t n = file_count(p);
    for (size_t i = 0; i < n; i++) {
        if (file_at(p, i)->number != number) continue;
        p->before -= file_at(p, i)->size;
        memmove(file_at(p, i), file_at(p, i + 1), (n - i - 1) * sizeof(struct pack_file));
        buf_truncate(&p->files, p->files.n - sizeof(struct pack_file));
        return;
    }
}

int packs_remove(struct packs *p, uint32_t number)
{
    bool busy;
    assert(number != p->number);
    struct pack *k = take_idle(p, number, &busy);
    if (busy) return ERR_BUSY;
    if (k != NULL) pack_free(k);
    char *path = path_of(p, number);
    if (path == NULL) return ERR_NOMEM;
    int err = unlink(path) == 0 || errno == ENOENT ? 0 : err_from_errno(errno);
    free(path);
    if (err == 0) forget_file(p, number);
    return err;
}

uint64_t packs_bytes(const struct packs *p)
{
    return p->before + p->end;
}

// ---- input and output ------------------------------------------------------------------------------------------

// Logs a fault of the disk. That the folder is gone is one too, not an answer to a client.
static int fault(const struct pack *k, const char *what, int err)
{
    if (err == ERR_NOT_FOUND) err = ERR_IO;
    log_error("blobs", what, LF_UINT("pack", k->number), LF_ERR(err));
    return err;
}

int pack_write(struct pack *k, struct iovec *iov, int count, uint64_t position)
{
    int fd = pack_fd(k, true);
    int err = fd < 0 ? fd : file_writev(fd, iov, count, position);
    if (err != 0) return fault(k, "cannot write to a pack", err);
    atomic_fetch_add(&k->written, 1);
    return 0;
}

uint8_t *packs_batch_memory(struct packs *p, bool *many)
{
    uint8_t *batch = NULL;
    pthread_mutex_lock(&p->lock);
    if (p->spare_count > 0) batch = p->spare[--p->spare_count];
    p->batches++;
    *many = p->batches > SPARE_MAX;
    pthread_mutex_unlock(&p->lock);
    if (batch == NULL) batch = aligned_alloc(PACK_PAGE, PACK_BATCH_MAX);
    if (batch == NULL) packs_batch_done(p, NULL);
    return batch;
}

void packs_batch_done(struct packs *p, uint8_t *batch)
{
    pthread_mutex_lock(&p->lock);
    bool keep = batch != NULL && p->spare_count < SPARE_MAX;
    p->batches--;
    if (keep) p->spare[p->spare_count++] = batch;
    pthread_mutex_unlock(&p->lock);
    if (!keep) free(batch);
}

// The descriptor for batches: past the page cache, but where the file system says EINVAL to that. `k->fd` is there.
static int batch_fd(struct pack *k)
{
    pthread_mutex_lock(&k->lock);
    int fd = k->cached ? k->fd : k->direct;
    if (fd < 0) {
        char *path = path_of(k->packs, k->number);
        fd = path == NULL ? ERR_NOMEM : file_open(path, O_WRONLY | O_DIRECT);
        k->cached = fd < 0 && path != NULL && errno == EINVAL;
        free(path);
        if (fd >= 0) k->direct = fd;
        if (k->cached) fd = k->fd;
    }
    pthread_mutex_unlock(&k->lock);
    return fd;
}

static int leave_direct(struct pack *k)
{
    pthread_mutex_lock(&k->lock);
    k->cached = true; // the other descriptor stays open: a write may be on it
    int fd = k->fd;
    pthread_mutex_unlock(&k->lock);
    return fd;
}

// With k->pages held. EINVAL of a write tells a file system whose pages are larger, or that took a part of it only.
static int write_pages(struct pack *k, struct span s, uint64_t position)
{
    int fd = batch_fd(k);
    if (fd < 0) return fd;
    int err = file_write(fd, s, position);
    return err != 0 && errno == EINVAL ? file_write(leave_direct(k), s, position) : err;
}

int pack_write_batch(struct pack *k, uint8_t *batch, size_t n, uint64_t position)
{
    size_t all = page_align(n);
    assert(n > 0 && all <= PACK_BATCH_MAX && position % PACK_PAGE == 0);
    memset(batch + n, 0, all - n);
    int err = pack_fd(k, true); // makes the file
    if (err >= 0) {
        pthread_rwlock_rdlock(&k->pages);
        err = write_pages(k, SPAN(batch, all), position);
        pthread_rwlock_unlock(&k->pages);
    }
    if (err != 0) return fault(k, "cannot write to a pack", err);
    atomic_fetch_add(&k->written, 1);
    return 0;
}

int pack_write_again(struct pack *k, struct iovec *iov, int count, uint64_t position)
{
    pthread_rwlock_wrlock(&k->pages);
    int err = pack_write(k, iov, count, position);
    pthread_rwlock_unlock(&k->pages);
    return err;
}

int pack_read(struct pack *k, void *to, size_t n, uint64_t position)
{
    int fd = pack_fd(k, false);
    int err = fd < 0 ? fd : file_read(fd, to, n, position);
    if (err == ERR_NOT_FOUND) err = ERR_CORRUPT;
    return err == 0 || err == ERR_CORRUPT ? err : fault(k, "cannot read a pack", err); // damage is told by who knows what is damaged
}

int pack_open(struct pack *k)
{
    int fd = pack_fd(k, false);
    if (fd == ERR_NOT_FOUND) return ERR_CORRUPT;
    return fd >= 0 ? fd : fault(k, "cannot open a pack", fd);
}

// With the pack's lock held: so the one caller that is told of a failure has recorded it before another's barrier begins.
static int sync_locked(struct pack *k)
{
    uint64_t covers = atomic_load(&k->written);
    int err = file_sync(k->fd);
    if (err == 0 && !k->named) err = dir_sync(k->packs->path);
    if (err != 0) {
        err = fault(k, "a pack's barrier failed, it takes no more", err);
        atomic_store(&k->failed, err);
        return err;
    }
    k->named = true;
    k->synced = covers;
    return 0;
}

int pack_sync(struct pack *k)
{
    if (bug("skip_pack_sync")) return 0;
    uint64_t target = atomic_load(&k->written);
    pthread_mutex_lock(&k->lock);
    int err = atomic_load(&k->failed);
    if (err == 0 && k->synced < target) err = sync_locked(k);
    pthread_mutex_unlock(&k->lock);
    return err;
}

bool pack_failed(const struct pack *k)
{
    return atomic_load(&k->failed) != 0;
}
