// The recorder: what is written into the log.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "disk_private.h"

#define FDS_MAX 65536
#define PIECE_MAX (1u << 20) // of FOUND_DATA

static struct {
    int fd;
    char root[PATH_MAX];
    struct disk_slot slots[FDS_MAX];
    struct known {
        dev_t dev;
        ino_t ino; // 0: its name is gone
    } * files;     // file id - 1 is the index
    uint32_t file_count, file_room, socket_count;
} rec = {.fd = -1};

// A log with a hole would prove nothing: better none.
static void log_write(const void *p, size_t n)
{
    static char text[] = "disk: cannot write the log\n";
    struct iovec iov = {(void *)p, n}, last_words = {text, sizeof text - 1};
    while (iov.iov_len > 0) {
        ssize_t written = disk_real.writev(rec.fd, &iov, 1);
        if (written <= 0 && disk_real.writev(STDERR_FILENO, &last_words, 1) != 0) abort();
        iov.iov_base = (char *)iov.iov_base + written;
        iov.iov_len -= (size_t)written;
    }
}

static void put(enum disk_kind kind, uint32_t file, uint64_t offset, const struct iovec *iov, int count, size_t length)
{
    uint8_t head[DISK_LOG_HEADER];
    uint32_t n32 = (uint32_t)length;
    int kept = errno;
    head[0] = (uint8_t)kind;
    memcpy(head + 1, &file, 4);
    memcpy(head + 5, &offset, 8);
    memcpy(head + 13, &n32, 4);
    log_write(head, sizeof head);
    for (int i = 0; i < count && length > 0; i++) {
        size_t part = iov[i].iov_len < length ? iov[i].iov_len : length;
        log_write(iov[i].iov_base, part);
        length -= part;
    }
    errno = kept;
}

static void put_bytes(enum disk_kind kind, uint32_t file, uint64_t offset, const void *p, size_t n)
{
    struct iovec iov = {(void *)p, n};
    put(kind, file, offset, &iov, 1, n);
}

static void put_path(enum disk_kind kind, uint32_t file, uint64_t offset, const char *relative)
{
    put_bytes(kind, file, offset, relative, strlen(relative));
}

// The part of an absolute path below the root; NULL if it is not there.
static const char *below_root(const char *path)
{
    size_t n = strlen(rec.root);
    if (strncmp(path, rec.root, n) != 0) return NULL;
    if (path[n] == '\0') return path + n;
    return path[n] == '/' ? path + n + 1 : NULL;
}

static uint32_t file_new(dev_t dev, ino_t ino)
{
    if (rec.file_count == rec.file_room) {
        rec.file_room = rec.file_room == 0 ? 256 : 2 * rec.file_room;
        rec.files = reallocarray(rec.files, rec.file_room, sizeof *rec.files);
        if (rec.files == NULL) abort();
    }
    rec.files[rec.file_count] = (struct known){dev, ino};
    return ++rec.file_count;
}

static uint32_t file_find(dev_t dev, ino_t ino)
{
    for (uint32_t i = rec.file_count; i > 0; i--) {
        if (rec.files[i - 1].ino == ino && rec.files[i - 1].dev == dev) return i;
    }
    return 0;
}

static uint32_t found_put(int fd, const struct stat *st, const char *relative)
{
    uint32_t id = file_new(st->st_dev, st->st_ino);
    char *piece = malloc(PIECE_MAX);
    if (piece == NULL) abort();
    put_path(DISK_LOG_FOUND, id, (uint64_t)st->st_size, relative);
    for (off_t at = 0; at < st->st_size;) {
        ssize_t n = pread(fd, piece, PIECE_MAX, at);
        if (n <= 0) break;
        put_bytes(DISK_LOG_FOUND_DATA, id, (uint64_t)at, piece, (size_t)n);
        at += n;
    }
    free(piece);
    return id;
}

static void tree_put(const char *path)
{
    struct dirent *e;
    DIR *d = opendir(path);
    while (d != NULL && (e = readdir(d)) != NULL) {
        char child[2 * PATH_MAX];
        struct stat st;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        snprintf(child, sizeof child, "%s/%s", path, e->d_name);
        if (lstat(child, &st) != 0) continue;
        if (S_ISDIR(st.st_mode)) {
            put_path(DISK_LOG_FOUND_DIR, 0, 0, below_root(child));
            tree_put(child);
        } else if (S_ISREG(st.st_mode)) {
            int fd = disk_real.openat(AT_FDCWD, child, O_RDONLY | O_CLOEXEC);
            if (fd < 0) continue;
            found_put(fd, &st, below_root(child));
            disk_real.close(fd);
        }
    }
    if (d != NULL) closedir(d);
}

static void slot_socket(struct disk_slot *s, int fd)
{
    struct sockaddr_storage peer = {0};
    socklen_t n = sizeof peer;
    uint64_t port = 0;
    if (getpeername(fd, (struct sockaddr *)&peer, &n) == 0) {
        if (peer.ss_family == AF_INET) port = ntohs(((struct sockaddr_in *)&peer)->sin_port);
        if (peer.ss_family == AF_INET6) port = ntohs(((struct sockaddr_in6 *)&peer)->sin6_port);
    }
    s->kind = SLOT_SOCKET;
    s->id = ++rec.socket_count;
    s->blocking = (fcntl(fd, F_GETFL) & O_NONBLOCK) == 0;
    put_bytes(DISK_LOG_SOCKET, s->id, port, "", 0);
}

static void slot_file(struct disk_slot *s, int fd, const struct stat *st)
{
    char path[PATH_MAX];
    disk_fd_path(fd, path);
    const char *relative = below_root(path);
    s->kind = SLOT_OTHER;
    if (relative == NULL) return;
    if (S_ISDIR(st->st_mode)) {
        s->kind = SLOT_DIR;
        return;
    }
    int flags = fcntl(fd, F_GETFL);
    s->kind = SLOT_FILE;
    s->dsync = (flags & O_DSYNC) != 0; // O_SYNC has that bit too
    s->append = (flags & O_APPEND) != 0;
    s->id = file_find(st->st_dev, st->st_ino);
    if (s->id != 0) return;
    // A file that came to be by a call that is not seen here: take it as it is now.
    char proc[64];
    snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
    int readable = disk_real.openat(AT_FDCWD, proc, O_RDONLY | O_CLOEXEC);
    s->id = found_put(readable, st, relative);
    if (readable >= 0) disk_real.close(readable);
}

// Checked against fstat at every use: a number that libc closed and gave out again has another inode.
struct disk_slot *disk_slot_of(int fd)
{
    struct stat st;
    int kept = errno;
    if (rec.fd < 0 || fd < 0 || fd >= FDS_MAX || fd == rec.fd || fstat(fd, &st) != 0) {
        errno = kept;
        return NULL;
    }
    struct disk_slot *s = &rec.slots[fd];
    if (s->kind == SLOT_NONE || s->dev != st.st_dev || s->ino != st.st_ino) {
        *s = (struct disk_slot){.dev = st.st_dev, .ino = st.st_ino, .kind = SLOT_OTHER};
        if (S_ISSOCK(st.st_mode)) slot_socket(s, fd);
        if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) slot_file(s, fd, &st);
    }
    errno = kept;
    return s->kind == SLOT_OTHER ? NULL : s;
}

int disk_record(const char *log, const char *root)
{
    disk_resolve();
    pthread_mutex_lock(&disk_lock);
    memset(rec.slots, 0, sizeof rec.slots);
    rec.file_count = rec.socket_count = 0;
    int err = realpath(root, rec.root) == NULL ? -errno : 0;
    if (err == 0) rec.fd = disk_real.openat(AT_FDCWD, log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    if (err == 0 && rec.fd < 0) err = -errno;
    if (err == 0) tree_put(rec.root);
    atomic_store(&disk_recording, err == 0);
    pthread_mutex_unlock(&disk_lock);
    return err;
}

void disk_record_stop(void)
{
    pthread_mutex_lock(&disk_lock);
    atomic_store(&disk_recording, false);
    if (rec.fd >= 0) disk_real.close(rec.fd);
    rec.fd = -1;
    free(rec.files);
    rec.files = NULL;
    rec.file_room = rec.file_count = 0;
    pthread_mutex_unlock(&disk_lock);
}

void disk_mark(const void *bytes, size_t n)
{
    pthread_mutex_lock(&disk_lock);
    if (rec.fd >= 0) put_bytes(DISK_LOG_MARK, 0, 0, bytes, n);
    pthread_mutex_unlock(&disk_lock);
}

void disk_record_begin(void)
{
    const char *log = getenv("SEGUE_DISK_RECORD"), *root = getenv("SEGUE_DISK_ROOT");
    if (log == NULL || root == NULL) return;
    int err = disk_record(log, root);
    if (err == 0) return;
    fprintf(stderr, "disk: cannot record %s into %s: %s\n", root, log, strerror(-err));
    abort();
}

// ---- notes -----------------------------------------------------------------------------------------------------

void disk_slot_forget(int fd)
{
    if (fd >= 0 && fd < FDS_MAX) rec.slots[fd].kind = SLOT_NONE;
}

// Was it a birth or a truncation?
void disk_note_open(int fd, const char *path, int flags, bool existed)
{
    struct stat st;
    disk_slot_forget(fd);
    const char *relative = rec.fd < 0 ? NULL : below_root(path);
    if (relative == NULL || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) return;
    if (!existed) {
        put_path(DISK_LOG_CREATE, file_new(st.st_dev, st.st_ino), 0, relative);
    } else if ((flags & O_TRUNC) != 0) {
        struct disk_slot *s = disk_slot_of(fd);
        if (s != NULL) put_bytes(DISK_LOG_SIZE, s->id, 0, "", 0);
    }
}

void disk_note_write(struct disk_slot *s, uint64_t offset, const struct iovec *iov, int count, size_t n, bool synced)
{
    put(synced ? DISK_LOG_WRITE_SYNC : DISK_LOG_WRITE, s->id, offset, iov, count, n);
}

void disk_note_sync(int fd)
{
    char path[PATH_MAX];
    struct disk_slot *s = disk_slot_of(fd);
    if (s == NULL || s->kind == SLOT_SOCKET) return;
    if (s->kind == SLOT_FILE) {
        put_bytes(DISK_LOG_SYNC, s->id, 0, "", 0);
        return;
    }
    disk_fd_path(fd, path);
    if (below_root(path) != NULL) put_path(DISK_LOG_DIR_SYNC, 0, 0, below_root(path));
}

void disk_note_size(int fd)
{
    struct stat st;
    struct disk_slot *s = disk_slot_of(fd);
    if (s != NULL && s->kind == SLOT_FILE && fstat(fd, &st) == 0) put_bytes(DISK_LOG_SIZE, s->id, (uint64_t)st.st_size, "", 0);
}

// A file whose last name is gone: its inode number may come back as another file.
static void name_lost(const struct stat *st)
{
    uint32_t id = file_find(st->st_dev, st->st_ino);
    if (id > 0 && st->st_nlink <= 1) rec.files[id - 1].ino = 0;
}

void disk_note_rename(const char *from, const char *to, const struct stat *replaced)
{
    char both[2 * PATH_MAX];
    if (rec.fd < 0) return;
    if (replaced != NULL) name_lost(replaced);
    const char *a = below_root(from), *b = below_root(to);
    if (a == NULL || b == NULL) return;
    int n = snprintf(both, sizeof both, "%s%c%s", a, '\0', b);
    put_bytes(DISK_LOG_RENAME, 0, 0, both, (size_t)n);
}

void disk_note_remove(const char *path, const struct stat *st, bool folder)
{
    if (rec.fd < 0 || below_root(path) == NULL) return;
    if (!folder) name_lost(st);
    put_path(folder ? DISK_LOG_RMDIR : DISK_LOG_UNLINK, 0, 0, below_root(path));
}

void disk_note_mkdir(const char *path)
{
    if (rec.fd >= 0 && below_root(path) != NULL) put_path(DISK_LOG_MKDIR, 0, 0, below_root(path));
}

void disk_note_send(struct disk_slot *s, const struct iovec *iov, int count, ssize_t n)
{
    if (n <= 0) return;
    put(DISK_LOG_SEND, s->id, s->sent, iov, count, (size_t)n);
    s->sent += (uint64_t)n;
}
