#include "tree_walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "err.h"

#define RACY_NS 2000000000ll // the coarsest clock of a file system that is met: FAT's

static int64_t ns_of(const struct timespec *t)
{
    return (int64_t)t->tv_sec * 1000000000 + t->tv_nsec;
}

struct stamp stamp_of(const struct stat *st)
{
    return (struct stamp){(uint64_t)st->st_dev, (uint64_t)st->st_ino, ns_of(&st->st_mtim), ns_of(&st->st_ctim)};
}

bool stamp_equal(const struct stamp *a, const struct stamp *b)
{
    return a->ino != 0 && a->dev == b->dev && a->ino == b->ino && a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns;
}

void stamp_settle(struct stamp *s, int64_t began_ns)
{
    if (s->mtime_ns >= began_ns - RACY_NS || s->ctime_ns >= began_ns - RACY_NS) *s = (struct stamp){0};
}

static int walk_into(struct walk *w, int fd, size_t n);

// The path is w->path, and its last name is in the directory `fd`.
static int add_link(struct walk *w, int fd, const char *name)
{
    char target[TREE_PATH_MAX + 1];
    ssize_t n = readlinkat(fd, name, target, sizeof target);
    if (n < 0) return err_from_errno(errno);
    if ((size_t)n == sizeof target) return ERR_BAD_VALUE;
    target[n] = 0;
    return tree_add(&w->tree, &(struct tree_entry){.kind = TREE_LINK, .path = w->path, .target = target});
}

static int add_dir(struct walk *w, int fd, const char *name, const struct stat *st, size_t n)
{
    int err = tree_add(&w->tree, &(struct tree_entry){.kind = TREE_DIR, .mode = st->st_mode & 0777, .path = w->path});
    if (err != 0) return err;
    int inner = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return inner < 0 ? err_from_errno(errno) : walk_into(w, inner, n);
}

static int add_file(struct walk *w, const struct stat *st)
{
    struct stamp stamp = stamp_of(st);
    struct tree_entry e = {.kind = TREE_FILE, .mode = st->st_mode & 0777, .size = (uint64_t)st->st_size, .path = w->path};
    e.note = w->stamps.n / sizeof stamp;
    buf_put(&w->stamps, &stamp, sizeof stamp);
    w->bytes += e.size;
    return w->stamps.err != 0 ? w->stamps.err : tree_add(&w->tree, &e);
}

static int add_name(struct walk *w, int fd, const char *name, size_t n)
{
    struct stat st;
    int len = snprintf(w->path + n, sizeof w->path - n, "%s%s", n > 0 ? "/" : "", name);
    if (n == 0 && strcmp(name, TREE_PART) == 0) return 0; // what a fetch left behind
    if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) return errno == ENOENT ? 0 : err_from_errno(errno); // gone since
    if (S_ISREG(st.st_mode)) return add_file(w, &st);
    if (S_ISLNK(st.st_mode)) return add_link(w, fd, name);
    if (S_ISDIR(st.st_mode)) return add_dir(w, fd, name, &st, n + (size_t)len);
    if (w->on_skip != NULL) w->on_skip(w->ctx, w->path);
    return 0;
}

// The directory is closed with it.
static int walk_into(struct walk *w, int fd, size_t n)
{
    DIR *dir = fdopendir(fd);
    int err = 0;
    if (dir == NULL) {
        err = err_from_errno(errno);
        close(fd);
        return err;
    }
    for (errno = 0; err == 0; errno = 0) {
        const struct dirent *e = readdir(dir);
        if (e == NULL) {
            if (errno != 0) err = err_from_errno(errno);
            break;
        }
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) err = add_name(w, dirfd(dir), e->d_name, n);
        if (err == 0) w->path[n] = 0; // an error keeps the path where it was met
    }
    closedir(dir);
    return err;
}

struct stamp *walk_stamp(const struct walk *w, const struct tree_entry *e)
{
    return (struct stamp *)w->stamps.p + e->note;
}

int walk_dir(struct walk *w, int root)
{
    tree_init(&w->tree);
    buf_init(&w->stamps, TREE_BYTES_MAX);
    w->bytes = 0;
    w->path[0] = 0;
    int fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int err = fd < 0 ? err_from_errno(errno) : walk_into(w, fd, 0);
    if (err == 0) tree_sort(&w->tree);
    return err;
}

void walk_free(struct walk *w)
{
    tree_free(&w->tree);
    buf_free(&w->stamps);
}
