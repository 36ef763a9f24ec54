#include "source.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
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
    struct stat st;
    s->fd = fd;
    s->size = 0;
    s->spooled = false;
    if (fstat(fd, &st) != 0) return err_from_errno(errno);
    if (!S_ISREG(st.st_mode) || lseek(fd, 0, SEEK_CUR) != 0) return spool(s, fd);
    s->size = (uint64_t)st.st_size;
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
    return n == 0 ? 0 : file_read(s->fd, p, n, offset);
}

int source_hash(const struct source *s, char hex[SHA256_HEX])
{
    uint8_t *piece = malloc(BLOB_WINDOW);
    struct digest *d = digest_new();
    int err = d == NULL || piece == NULL ? ERR_NOMEM : 0;
    for (uint64_t at = 0; at < s->size && err == 0;) {
        size_t got;
        err = source_read((void *)s, at, piece, BLOB_WINDOW, &got);
        if (err == 0) digest_update(d, SPAN(piece, got));
        at += got;
    }
    if (err == 0) {
        struct sha256 sum = digest_final(d);
        hex_format(hex, SPAN(sum.b, SHA256_BYTES));
    }
    digest_free(d);
    free(piece);
    return err;
}
