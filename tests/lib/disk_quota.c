// A disk of so many bytes: what a call would make larger than that fails with ENOSPC, and what is removed gives room again.
//
// Nothing is kept: how much is taken is counted anew, by the files' sizes, whenever something is about to grow. The folders of tests are small.
#include <errno.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "disk_private.h"

#define WALK_FDS 8

static struct {
    bool on;
    uint64_t bytes;
    char root[PATH_MAX];
    uint64_t taken; // of the walk
} quota;

void disk_quota_set(const char *root, uint64_t bytes)
{
    quota.on = root != NULL && realpath(root, quota.root) != NULL;
    quota.bytes = bytes;
}

bool disk_quota_asked(void)
{
    return quota.on;
}

static int add(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)path, (void)at;
    if (type == FTW_F) quota.taken += (uint64_t)st->st_size;
    return 0;
}

static uint64_t taken(void)
{
    quota.taken = 0;
    nftw(quota.root, add, WALK_FDS, FTW_PHYS);
    return quota.taken;
}

static bool is_below(const char *path)
{
    size_t n = strlen(quota.root);
    return strncmp(path, quota.root, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

int disk_quota_hits_fd(int fd, off_t end)
{
    char path[PATH_MAX];
    struct stat st;
    if (!quota.on || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || end <= st.st_size) return 0;
    disk_fd_path(fd, path);
    if (!is_below(path)) return 0;
    return taken() + (uint64_t)(end - st.st_size) > quota.bytes ? ENOSPC : 0;
}

void disk_quota_tell(const char *path, struct statvfs *st)
{
    char real[PATH_MAX];
    if (!quota.on || realpath(path, real) == NULL || !is_below(real)) return;
    uint64_t used = taken();
    st->f_bavail = st->f_bfree = used >= quota.bytes ? 0 : (quota.bytes - used) / st->f_frsize;
}
