#include "source.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "err.h"
#include "file.h"
#include "limits.h"

static int spool(struct source *s, int from)
{
    const char *folder = getenv("TMPDIR");
    int fd = open(folder != NULL ? folder : "/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) return err_from_errno(errno);
    s->fd = fd;
    s->spooled = true;
    for (;;) {
        uint8_t piece[64 * KIB];
        ssize_t n = read(from, piece, sizeof piece);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) return 0;
        int err = n < 0 ? err_from_errno(errno) : file_write(fd, SPAN(piece, (size_t)n), s->size);
        if (err != 0) return err;
        s->size += (uint64_t)n;
    }
}

int source_open(struct source *s, int fd)
{
    s->fd = fd;
    s->size = 0;
    s->spooled = false;
    if (fstat(fd, &s->then) != 0) return err_from_errno(errno);
    if (S_ISDIR(s->then.st_mode)) return err_from_errno(EISDIR);
    if (!S_ISREG(s->then.st_mode) || lseek(fd, 0, SEEK_CUR) != 0) return spool(s, fd);
    s->size = (uint64_t)s->then.st_size;
    return 0;
}

void source_close(struct source *s)
{
    if (s->spooled) file_close(s->fd);
}

int source_read(void *ctx, uint64_t offset, uint8_t *p, size_t n, size_t *got)
{
    const struct source *s = ctx;
    assert(offset <= s->size);
    if (n > s->size - offset) n = (size_t)(s->size - offset);
    *got = n;
    int err = n == 0 ? 0 : file_read(s->fd, p, n, offset);
    return err == ERR_CORRUPT ? ERR_DIGEST_MISMATCH : err;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

bool source_changed(const struct source *s)
{
    struct stat now;
    if (s->spooled) return false;
    return fstat(s->fd, &now) != 0 || now.st_size != s->then.st_size || !same_time(&now.st_mtim, &s->then.st_mtim);
}
