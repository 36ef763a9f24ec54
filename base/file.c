#include "file.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "err.h"

#define SLURP_STEP 65536
#define PIECES_MAX 1024 // of one pwritev: Linux takes no more (UIO_MAXIOV)

int file_write(int fd, struct span s, uint64_t offset)
{
    while (s.n > 0) {
        ssize_t n = pwrite(fd, s.p, s.n, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return err_from_errno(errno);
        if (n == 0) return ERR_IO; // no progress and no reason: better an error than a loop
        s = SPAN(s.p + n, s.n - (size_t)n);
        offset += (uint64_t)n;
    }
    return 0;
}

// Steps over `n` bytes that were written; returns how many of the pieces are finished.
static int advance(struct iovec *iov, int count, size_t n)
{
    int done = 0;
    while (done < count && n >= iov[done].iov_len)
        n -= iov[done++].iov_len;
    if (done < count) {
        iov[done].iov_base = (uint8_t *)iov[done].iov_base + n;
        iov[done].iov_len -= n;
    }
    return done;
}

int file_writev(int fd, struct iovec *iov, int count, uint64_t offset)
{
    int done = advance(iov, count, 0); // empty pieces in front would look like no progress
    while (done < count) {
        int step = count - done < PIECES_MAX ? count - done : PIECES_MAX;
        ssize_t n = pwritev(fd, iov + done, step, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return err_from_errno(errno);
        if (n == 0) return ERR_IO;
        done += advance(iov + done, count - done, (size_t)n);
        offset += (uint64_t)n;
    }
    return 0;
}

int file_read(int fd, void *p, size_t n, uint64_t offset)
{
    uint8_t *to = p;
    while (n > 0) {
        ssize_t got = pread(fd, to, n, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return err_from_errno(errno);
        if (got == 0) return ERR_CORRUPT;
        to += got;
        n -= (size_t)got;
        offset += (uint64_t)got;
    }
    return 0;
}

int file_read_now(int fd, void *p, size_t n, uint64_t offset)
{
    struct iovec iov = {.iov_base = p, .iov_len = n};
    ssize_t got = preadv2(fd, &iov, 1, (off_t)offset, RWF_NOWAIT);
    if (got == (ssize_t)n) return 0;
    // A file system that cannot say what it has in memory is one that has it all: there is no better guess.
    if (got < 0 && errno == EOPNOTSUPP) return file_read(fd, p, n, offset);
    return got < 0 && errno != EAGAIN && errno != EINTR ? err_from_errno(errno) : ERR_BUSY;
}

// An interrupted barrier has not failed and may be asked for again; a failed one may not, as the kernel can have
// dropped the pages. So only EINTR is retried.
int file_sync(int fd)
{
    int r;
    do
        r = fdatasync(fd);
    while (r != 0 && errno == EINTR);
    return r == 0 ? 0 : err_from_errno(errno);
}

static int open_error(int errnum)
{
    switch (errnum) {
    case ENOENT: return ERR_NOT_FOUND;
    case EEXIST: return ERR_EXISTS;
    default: return err_from_errno(errnum);
    }
}

int file_open(const char *path, int flags)
{
    int fd;
    do
        fd = open(path, flags | O_CLOEXEC, 0600);
    while (fd < 0 && errno == EINTR);
    return fd >= 0 ? fd : open_error(errno);
}

int file_dup(int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return copy >= 0 ? copy : err_from_errno(errno);
}

void file_close(int fd)
{
    // Nothing is retried: on Linux the descriptor is gone even where close reports EINTR.
    if (fd >= 0) close(fd);
}

int dir_sync(const char *path)
{
    int fd = file_open(path, O_RDONLY | O_DIRECTORY);
    if (fd < 0) return fd;
    int r;
    do
        r = fsync(fd);
    while (r != 0 && errno == EINTR);
    int err = r == 0 ? 0 : err_from_errno(errno);
    file_close(fd);
    return err;
}

// The folder that `path` lies in; `out` has room for strlen(path) + 2 bytes.
static void parent_of(char *out, const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    while (n > 0 && path[n - 1] != '/')
        n--;
    while (n > 1 && path[n - 1] == '/')
        n--;
    memcpy(out, n > 0 ? path : ".", n > 0 ? n : 1);
    out[n > 0 ? n : 1] = '\0';
}

// Makes one folder whose parent exists, and its name in the parent durable.
static int make_one(const char *path, char *parent)
{
    struct stat st;
    if (mkdir(path, 0700) == 0) {
        parent_of(parent, path);
        return dir_sync(parent);
    }
    if (errno != EEXIST) return err_from_errno(errno);
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? 0 : ERR_IO;
}

int dir_make(const char *path)
{
    size_t n = strlen(path);
    assert(n > 0);
    char *prefix = malloc(2 * (n + 2));
    if (prefix == NULL) return ERR_NOMEM;
    char *parent = prefix + n + 2;
    memcpy(prefix, path, n + 1);

    int err = 0;
    for (size_t i = 1; i <= n && err == 0; i++) {
        if (path[i] != '/' && path[i] != '\0') continue;
        prefix[i] = '\0';
        err = make_one(prefix, parent);
        prefix[i] = path[i];
    }
    free(prefix);
    return err;
}

#define CLEAR_DEPTH_MAX 32 // of folders in folders: each takes a descriptor

// Takes the folder's descriptor over.
static int clear_folder(int fd, const atomic_bool *stop, int depth)
{
    DIR *d = fdopendir(fd);
    int err = 0;
    if (d == NULL) {
        err = err_from_errno(errno);
        close(fd);
        return err;
    }
    for (struct dirent *e = readdir(d); e != NULL && err == 0; e = readdir(d)) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (stop != NULL && atomic_load(stop)) err = ERR_CANCELED;
        else if (unlinkat(fd, e->d_name, 0) == 0 || errno == ENOENT) continue; // what another one has removed is removed
        else if (errno != EISDIR && errno != EPERM) err = err_from_errno(errno);
        else {
            int inner = depth < CLEAR_DEPTH_MAX ? openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
            if (inner < 0 && errno == ENOENT) continue;
            err = inner < 0 ? ERR_IO : clear_folder(inner, stop, depth + 1);
            if (err == 0 && unlinkat(fd, e->d_name, AT_REMOVEDIR) != 0 && errno != ENOENT) err = err_from_errno(errno);
        }
    }
    closedir(d);
    return err;
}

int dir_clear(const char *path, const atomic_bool *stop)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT ? ERR_NOT_FOUND : err_from_errno(errno);
    return clear_folder(fd, stop, 0);
}

int file_size(int fd, uint64_t *size)
{
    struct stat st;
    if (fstat(fd, &st) != 0) return err_from_errno(errno);
    *size = (uint64_t)st.st_size;
    return 0;
}

// A whole new file that is on the disk before it gets a name that anyone looks at.
static int write_new(const char *path, struct span content)
{
    int fd = file_open(path, O_WRONLY | O_CREAT | O_TRUNC);
    if (fd < 0) return fd;
    int err = file_write(fd, content, 0);
    if (err == 0) err = file_sync(fd);
    file_close(fd);
    return err;
}

int file_replace(const char *path, struct span content)
{
    size_t n = strlen(path);
    char *tmp = malloc(n + sizeof ".tmp");
    if (tmp == NULL) return ERR_NOMEM;
    memcpy(tmp, path, n);
    memcpy(tmp + n, ".tmp", sizeof ".tmp");

    int err = write_new(tmp, content);
    if (err == 0 && rename(tmp, path) != 0) err = err_from_errno(errno);
    if (err != 0) {
        unlink(tmp);
    } else {
        parent_of(tmp, path);
        err = dir_sync(tmp);
    }
    free(tmp);
    return err;
}

// Reads on until the end. At the maximum one more byte is asked for: only the end itself is fine there.
static int slurp_fd(struct buf *out, int fd)
{
    for (;;) {
        size_t room = out->max - out->n;
        size_t want = room < SLURP_STEP ? room : SLURP_STEP;
        uint8_t beyond;
        uint8_t *to = want > 0 ? buf_reserve(out, want) : &beyond;
        if (to == NULL) return out->err;
        ssize_t n = read(fd, to, want > 0 ? want : 1);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return err_from_errno(errno);
        if (n == 0) return 0;
        if (want == 0) return ERR_TOO_LARGE;
        out->n += (size_t)n;
    }
}

int file_slurp(struct buf *out, const char *path)
{
    if (out->err != 0) return out->err;
    int fd = file_open(path, O_RDONLY);
    if (fd < 0) return fd;
    size_t before = out->n;
    int err = slurp_fd(out, fd);
    if (err != 0) buf_truncate(out, before);
    file_close(fd);
    return err;
}

uint64_t clock_wall_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

uint64_t clock_thread_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

uint64_t clock_mono_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

// Writes `v` as exactly `width` digits.
static char *put_digits(char *to, int64_t v, int width)
{
    for (int i = width - 1; i >= 0; i--, v /= 10)
        to[i] = (char)('0' + v % 10);
    return to + width;
}

// The date of a day number, by 400-year cycles of the Gregorian calendar counted from 1 March of the year 0, so that
// the leap day is the last of its year. Here and not by gmtime_r, which takes the C library's time zone lock.
static char *put_date(char *to, int64_t days)
{
    int64_t z = days + 719468;
    int64_t cycle = z / 146097;
    int64_t day = z % 146097;
    if (day < 0) {
        day += 146097;
        cycle--;
    }
    int64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    int64_t of_year = day - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * of_year + 2) / 153; // 0 is March
    int64_t of_month = of_year - (153 * month + 2) / 5 + 1;
    month = month < 10 ? month + 3 : month - 9;
    to = put_digits(to, cycle * 400 + year + (month <= 2), 4);
    *to++ = '-';
    to = put_digits(to, month, 2);
    *to++ = '-';
    return put_digits(to, of_month, 2);
}

void time_format(char text[TIME_TEXT], int64_t ms)
{
    // RFC 3339 has years of four digits.
    const int64_t first = INT64_C(-62167219200000), last = INT64_C(253402300799999);
    if (ms < first) ms = first;
    if (ms > last) ms = last;
    int64_t day_ms = INT64_C(86400000);
    int64_t days = ms >= 0 ? ms / day_ms : -((-ms + day_ms - 1) / day_ms);
    int64_t of_day = ms - days * day_ms;

    char *to = put_date(text, days);
    *to++ = 'T';
    to = put_digits(to, of_day / 3600000, 2);
    *to++ = ':';
    to = put_digits(to, of_day / 60000 % 60, 2);
    *to++ = ':';
    to = put_digits(to, of_day / 1000 % 60, 2);
    *to++ = '.';
    to = put_digits(to, of_day % 1000, 3);
    *to++ = 'Z';
    assert(to == text + TIME_TEXT);
}
