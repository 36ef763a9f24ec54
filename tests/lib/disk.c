// The calls themselves: each asks whether it must fail, passes on, and notes its success.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "disk_private.h"

struct disk_real disk_real;
pthread_mutex_t disk_lock = PTHREAD_MUTEX_INITIALIZER;
atomic_bool disk_armed;
atomic_bool disk_recording;
static pthread_once_t resolved = PTHREAD_ONCE_INIT;

static void find_calls(void)
{
#define REAL(name) disk_real.name = (__typeof__(disk_real.name))dlsym(RTLD_NEXT, #name)
    REAL(openat), REAL(writev), REAL(pwritev), REAL(pwritev2), REAL(fsync), REAL(fdatasync), REAL(msync), REAL(ftruncate);
    REAL(fallocate), REAL(posix_fallocate), REAL(renameat2), REAL(unlinkat), REAL(mkdirat), REAL(close), REAL(sendto);
    REAL(sendmsg), REAL(sendfile), REAL(statvfs);
#undef REAL
}

void disk_resolve(void)
{
    pthread_once(&resolved, find_calls);
}

__attribute__((constructor)) static void begin(void)
{
    disk_resolve();
    disk_fault_begin();
    disk_record_begin();
}

// This thread has the lock, or is about to: a call that comes now is a signal handler's (libuv writes to a pipe), and must
// not wait for it.
static _Thread_local bool inside;

static void hold(void)
{
    inside = true;
    pthread_mutex_lock(&disk_lock);
}

static void let_go(void)
{
    pthread_mutex_unlock(&disk_lock);
    inside = false;
}

// False: nothing is asked for, pass the call on.
static bool watched(void)
{
    disk_resolve();
    if (inside) return false;
    return atomic_load_explicit(&disk_armed, memory_order_relaxed) || atomic_load_explicit(&disk_recording, memory_order_relaxed);
}

// ---- paths -----------------------------------------------------------------------------------------------------

void disk_fd_path(int fd, char out[PATH_MAX])
{
    char link[64];
    snprintf(link, sizeof link, fd == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, out, PATH_MAX - 1);
    out[n > 0 ? n : 0] = '\0';
}

// The absolute path of a name that need not exist: its folder's real path and its last part.
static void name_path(int folder, const char *name, char out[PATH_MAX])
{
    char joined[2 * PATH_MAX], real_folder[PATH_MAX];
    if (name[0] == '/') {
        snprintf(joined, sizeof joined, "%s", name);
    } else {
        disk_fd_path(folder, real_folder);
        snprintf(joined, sizeof joined, "%s/%s", real_folder, name);
    }
    size_t n = strlen(joined);
    while (n > 1 && joined[n - 1] == '/')
        joined[--n] = '\0';
    char *slash = strrchr(joined, '/');
    *slash = '\0';
    if (realpath(slash == joined ? "/" : joined, real_folder) == NULL) {
        snprintf(real_folder, sizeof real_folder, "%.*s", PATH_MAX - 1, joined);
    }
    n = strlen(real_folder);
    if (n == 1) n = 0;
    snprintf(out, PATH_MAX, "%.*s/%s", (int)n, real_folder, slash + 1);
}

// ---- the calls: opening and closing ----------------------------------------------------------------------------

static int open_any(int folder, const char *name, int flags, mode_t mode)
{
    char path[PATH_MAX];
    struct stat st;
    if (!watched()) return disk_real.openat(folder, name, flags, mode);
    name_path(folder, name, path);
    hold();
    int fd = -1, errnum = disk_fault_hits(DISK_OPEN, path, NULL);
    if (errnum != 0) {
        errno = errnum;
    } else {
        bool existed = lstat(path, &st) == 0;
        fd = disk_real.openat(folder, name, flags, mode);
        if (fd >= 0) disk_note_open(fd, path, flags, existed);
    }
    let_go();
    return fd;
}

static mode_t mode_of(int flags, va_list ap)
{
    return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(ap, mode_t) : 0;
}

int open(const char *name, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = mode_of(flags, ap);
    va_end(ap);
    return open_any(AT_FDCWD, name, flags, mode);
}

int openat(int folder, const char *name, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = mode_of(flags, ap);
    va_end(ap);
    return open_any(folder, name, flags, mode);
}

int creat(const char *name, mode_t mode)
{
    return open_any(AT_FDCWD, name, O_WRONLY | O_CREAT | O_TRUNC, mode);
}

int close(int fd)
{
    if (watched()) {
        hold();
        disk_slot_forget(fd);
        let_go();
    }
    return disk_real.close(fd);
}

// ---- the calls: bytes ------------------------------------------------------------------------------------------

#define HERE ((off_t)-1) // an offset: at the descriptor's own position

static ssize_t write_real(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    if (offset == HERE) return disk_real.writev(fd, iov, count);
    return flags == 0 ? disk_real.pwritev(fd, iov, count, offset) : disk_real.pwritev2(fd, iov, count, offset, flags);
}

static ssize_t write_file(struct disk_slot *s, int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    ssize_t n = write_real(fd, iov, count, offset, flags);
    if (n <= 0) return n;
    int kept = errno;
    if (offset == HERE || s->append) {
        off_t end = offset == HERE ? lseek(fd, 0, SEEK_CUR) : HERE;
        struct stat st;
        if (end == HERE && fstat(fd, &st) == 0) end = st.st_size; // pwrite appends too where the file is O_APPEND
        offset = end - n;
    }
    bool synced = s->dsync || (flags & (RWF_DSYNC | RWF_SYNC)) != 0;
    disk_note_write(s, (uint64_t)offset, iov, count, (size_t)n, synced);
    errno = kept;
    return n;
}

// Runs a send: a blocking one without the lock. `call` is an expression that may use nothing but its own arguments.
#define SEND(s, fd, call, iov, count)                                                                                                      \
    __extension__({                                                                                                                        \
        bool blocking_ = (s)->blocking;                                                                                                    \
        if (blocking_) let_go();                                                                                                           \
        ssize_t n_ = (call);                                                                                                               \
        if (blocking_) {                                                                                                                   \
            hold();                                                                                                                        \
            (s) = disk_slot_of(fd);                                                                                                        \
        }                                                                                                                                  \
        if ((s) != NULL && (s)->kind == SLOT_SOCKET) disk_note_send((s), (iov), (count), n_);                                              \
        n_;                                                                                                                                \
    })

static size_t bytes_of(const struct iovec *iov, int count)
{
    size_t n = 0;
    for (int i = 0; i < count; i++)
        n += iov[i].iov_len;
    return n;
}

// Where a write would end. -1 where there is no such place: a socket, a pipe.
static off_t end_of(int fd, size_t n, off_t offset)
{
    int kept = errno;
    if (offset == HERE) offset = lseek(fd, 0, SEEK_CUR);
    errno = kept;
    return offset < 0 ? -1 : offset + (off_t)n;
}

static ssize_t write_any(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    if (!watched()) return write_real(fd, iov, count, offset, flags);
    hold();
    ssize_t n = -1;
    int errnum = disk_fault_hits_fd(DISK_WRITE, fd);
    if (errnum == 0) errnum = disk_quota_hits_fd(fd, end_of(fd, bytes_of(iov, count), offset));
    struct disk_slot *s = errnum == 0 ? disk_slot_of(fd) : NULL;
    if (errnum != 0) {
        errno = errnum;
    } else if (s == NULL) {
        let_go(); // a pipe or a terminal may block
        return write_real(fd, iov, count, offset, flags);
    } else if (s->kind == SLOT_SOCKET) {
        n = SEND(s, fd, write_real(fd, iov, count, offset, flags), iov, count);
    } else {
        n = write_file(s, fd, iov, count, offset, flags);
    }
    let_go();
    return n;
}

ssize_t write(int fd, const void *p, size_t n)
{
    return write_any(fd, &(struct iovec){(void *)p, n}, 1, HERE, 0);
}

ssize_t writev(int fd, const struct iovec *iov, int count)
{
    return write_any(fd, iov, count, HERE, 0);
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t offset)
{
    return write_any(fd, &(struct iovec){(void *)p, n}, 1, offset, 0);
}

ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t offset)
{
    return write_any(fd, iov, count, offset, 0);
}

ssize_t pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    if (offset == HERE && flags != 0 && !watched()) return disk_real.pwritev2(fd, iov, count, offset, flags);
    return write_any(fd, iov, count, offset, flags);
}

// ---- the calls: barriers and sizes -----------------------------------------------------------------------------

// With the lock held across the barrier nobody can write meanwhile: what is before it in the log is what it covers.
static int sync_any(int fd, int (*call)(int))
{
    if (!watched()) return call(fd);
    disk_slow_wait(fd);
    hold();
    int rc = -1, errnum = disk_fault_hits_fd(DISK_SYNC, fd);
    if (errnum != 0) {
        errno = errnum;
    } else {
        rc = call(fd);
        if (rc == 0) disk_note_sync(fd);
    }
    let_go();
    return rc;
}

int fsync(int fd)
{
    disk_resolve();
    return sync_any(fd, disk_real.fsync);
}

int fdatasync(int fd)
{
    disk_resolve();
    return sync_any(fd, disk_real.fdatasync);
}

int msync(void *p, size_t n, int flags)
{
    if (!watched()) return disk_real.msync(p, n, flags);
    hold();
    int errnum = disk_fault_hits(DISK_SYNC, "", NULL);
    let_go();
    if (errnum == 0) return disk_real.msync(p, n, flags);
    errno = errnum;
    return -1;
}

int ftruncate(int fd, off_t size)
{
    if (!watched()) return disk_real.ftruncate(fd, size);
    hold();
    int rc = -1, errnum = disk_fault_hits_fd(DISK_TRUNCATE, fd);
    if (errnum == 0) errnum = disk_quota_hits_fd(fd, size);
    if (errnum != 0) {
        errno = errnum;
    } else {
        rc = disk_real.ftruncate(fd, size);
        if (rc == 0) disk_note_size(fd);
    }
    let_go();
    return rc;
}

int fallocate(int fd, int mode, off_t offset, off_t n)
{
    if (!watched()) return disk_real.fallocate(fd, mode, offset, n);
    hold();
    int rc = -1, errnum = disk_fault_hits_fd(DISK_ALLOCATE, fd);
    if (errnum == 0) errnum = disk_quota_hits_fd(fd, offset + n);
    if (errnum != 0) {
        errno = errnum;
    } else {
        rc = disk_real.fallocate(fd, mode, offset, n);
        if (rc == 0 && (mode & FALLOC_FL_KEEP_SIZE) == 0) disk_note_size(fd);
    }
    let_go();
    return rc;
}

int posix_fallocate(int fd, off_t offset, off_t n)
{
    if (!watched()) return disk_real.posix_fallocate(fd, offset, n);
    hold();
    int errnum = disk_fault_hits_fd(DISK_ALLOCATE, fd);
    if (errnum == 0) errnum = disk_quota_hits_fd(fd, offset + n);
    if (errnum == 0) errnum = disk_real.posix_fallocate(fd, offset, n);
    if (errnum == 0) disk_note_size(fd);
    let_go();
    return errnum;
}

int statvfs(const char *path, struct statvfs *st)
{
    disk_resolve();
    int rc = disk_real.statvfs(path, st);
    if (rc != 0 || !watched()) return rc;
    hold();
    disk_quota_tell(path, st);
    let_go();
    return rc;
}

// ---- the calls: names ------------------------------------------------------------------------------------------

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags)
{
    char from_path[PATH_MAX], to_path[PATH_MAX];
    if (!watched()) return disk_real.renameat2(from_folder, from, to_folder, to, flags);
    name_path(from_folder, from, from_path);
    name_path(to_folder, to, to_path);
    hold();
    int rc = -1, errnum = disk_fault_hits(DISK_RENAME, from_path, to_path);
    if (errnum != 0) {
        errno = errnum;
    } else {
        struct stat target;
        bool replaced = lstat(to_path, &target) == 0 && S_ISREG(target.st_mode);
        rc = disk_real.renameat2(from_folder, from, to_folder, to, flags);
        if (rc == 0) disk_note_rename(from_path, to_path, replaced ? &target : NULL);
    }
    let_go();
    return rc;
}

int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    return renameat2(from_folder, from, to_folder, to, 0);
}

int rename(const char *from, const char *to)
{
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlinkat(int folder, const char *name, int flags)
{
    char path[PATH_MAX];
    struct stat st;
    if (!watched()) return disk_real.unlinkat(folder, name, flags);
    name_path(folder, name, path);
    hold();
    int rc = -1, errnum = disk_fault_hits(DISK_UNLINK, path, NULL);
    if (errnum != 0) {
        errno = errnum;
    } else {
        bool there = lstat(path, &st) == 0;
        rc = disk_real.unlinkat(folder, name, flags);
        if (rc == 0 && there) disk_note_remove(path, &st, (flags & AT_REMOVEDIR) != 0);
    }
    let_go();
    return rc;
}

int unlink(const char *name)
{
    return unlinkat(AT_FDCWD, name, 0);
}

int rmdir(const char *name)
{
    return unlinkat(AT_FDCWD, name, AT_REMOVEDIR);
}

int mkdirat(int folder, const char *name, mode_t mode)
{
    char path[PATH_MAX];
    if (!watched()) return disk_real.mkdirat(folder, name, mode);
    name_path(folder, name, path);
    hold();
    int rc = -1, errnum = disk_fault_hits(DISK_MKDIR, path, NULL);
    if (errnum != 0) {
        errno = errnum;
    } else {
        rc = disk_real.mkdirat(folder, name, mode);
        if (rc == 0) disk_note_mkdir(path);
    }
    let_go();
    return rc;
}

int mkdir(const char *name, mode_t mode)
{
    return mkdirat(AT_FDCWD, name, mode);
}

// ---- the calls: sockets ----------------------------------------------------------------------------------------

ssize_t sendto(int fd, const void *p, size_t n, int flags, const struct sockaddr *to, socklen_t to_n)
{
    struct iovec iov = {(void *)p, n};
    if (!watched() || !atomic_load(&disk_recording)) return disk_real.sendto(fd, p, n, flags, to, to_n);
    hold();
    struct disk_slot *s = disk_slot_of(fd);
    ssize_t rc;
    if (s == NULL)
        rc = disk_real.sendto(fd, p, n, flags, to, to_n);
    else
        rc = SEND(s, fd, disk_real.sendto(fd, p, n, flags, to, to_n), &iov, 1);
    let_go();
    return rc;
}

ssize_t send(int fd, const void *p, size_t n, int flags)
{
    return sendto(fd, p, n, flags, NULL, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
    if (!watched() || !atomic_load(&disk_recording)) return disk_real.sendmsg(fd, m, flags);
    hold();
    struct disk_slot *s = disk_slot_of(fd);
    ssize_t rc = s == NULL ? disk_real.sendmsg(fd, m, flags) : SEND(s, fd, disk_real.sendmsg(fd, m, flags), m->msg_iov, (int)m->msg_iovlen);
    let_go();
    return rc;
}

// The bytes never were in this process: they are read once more for the log.
static void sent_file(struct disk_slot *s, int in, off_t offset, size_t n)
{
    void *copy = malloc(n);
    if (copy == NULL || pread(in, copy, n, offset) != (ssize_t)n) abort();
    disk_note_send(s, &(struct iovec){copy, n}, 1, (ssize_t)n);
    free(copy);
}

ssize_t sendfile(int out, int in, off_t *offset, size_t n)
{
    if (!watched() || !atomic_load(&disk_recording)) return disk_real.sendfile(out, in, offset, n);
    hold();
    struct disk_slot *s = disk_slot_of(out);
    off_t from = offset != NULL ? *offset : lseek(in, 0, SEEK_CUR);
    ssize_t rc = disk_real.sendfile(out, in, offset, n);
    if (rc > 0 && s != NULL && s->kind == SLOT_SOCKET) sent_file(s, in, from, (size_t)rc);
    let_go();
    return rc;
}

// ---- the same calls under their other names --------------------------------------------------------------------

// off_t and off64_t are one type here.
_Static_assert(sizeof(off_t) == 8, "a 64-bit system");
#define ALIAS(to, from) extern __typeof__(from) to __attribute__((alias(#from)))
ALIAS(open64, open);
ALIAS(openat64, openat);
ALIAS(creat64, creat);
ALIAS(pwrite64, pwrite);
ALIAS(pwritev64, pwritev);
ALIAS(pwritev64v2, pwritev2);
ALIAS(ftruncate64, ftruncate);
ALIAS(fallocate64, fallocate);
ALIAS(posix_fallocate64, posix_fallocate);
ALIAS(sendfile64, sendfile);
