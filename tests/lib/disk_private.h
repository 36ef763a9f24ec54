// What disk.c (the calls), disk_fault.c and disk_record.c share.
//
// One lock covers faults and recorder; while recording it is held across each recorded call, so that the log's order is the
// order of events. Only a send on a blocking socket is made outside of it, as it may wait for a peer in this very
// process; it is logged once it has returned.
#ifndef SEGUE_TEST_DISK_PRIVATE_H
#define SEGUE_TEST_DISK_PRIVATE_H

#include <linux/limits.h> // base/limits.h stands in the way of <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>

#include "disk.h"

// The calls as the next library has them.
struct disk_real {
    int (*openat)(int, const char *, int, ...);
    ssize_t (*writev)(int, const struct iovec *, int);
    ssize_t (*pwritev)(int, const struct iovec *, int, off_t);
    ssize_t (*pwritev2)(int, const struct iovec *, int, off_t, int);
    int (*fsync)(int);
    int (*fdatasync)(int);
    int (*msync)(void *, size_t, int);
    int (*ftruncate)(int, off_t);
    int (*fallocate)(int, int, off_t, off_t);
    int (*posix_fallocate)(int, off_t, off_t);
    int (*renameat2)(int, const char *, int, const char *, unsigned);
    int (*unlinkat)(int, const char *, int);
    int (*mkdirat)(int, const char *, mode_t);
    int (*close)(int);
    ssize_t (*sendto)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
    ssize_t (*sendmsg)(int, const struct msghdr *, int);
    ssize_t (*sendfile)(int, int, off_t *, size_t);
    int (*statvfs)(const char *, struct statvfs *);
};
extern struct disk_real disk_real;
extern pthread_mutex_t disk_lock;
extern atomic_bool disk_armed; // there is a fault, or a control file that may bring one
extern atomic_bool disk_recording;

// Finds the real calls; once, any thread.
void disk_resolve(void);

// The path of an open descriptor ("" if it has none), or of the working folder (AT_FDCWD).
void disk_fd_path(int fd, char out[PATH_MAX]);

// ---- faults: all under the lock --------------------------------------------------------------------------------

void disk_fault_begin(void); // from the environment
// The errno that this call must fail with, or 0. `other` is a second path, or NULL.
int disk_fault_hits(unsigned op, const char *path, const char *other);
int disk_fault_hits_fd(unsigned op, int fd);

// Without the lock: takes as long as a barrier of this descriptor is to take more.
void disk_slow_wait(int fd);

// ---- the quota: all under the lock ------------------------------------------------------------------------------

void disk_quota_set(const char *root, uint64_t bytes); // NULL: none
bool disk_quota_asked(void);
// ENOSPC where the file must not grow up to `end`, or 0.
int disk_quota_hits_fd(int fd, off_t end);
// What is free, where the path lies below the root.
void disk_quota_tell(const char *path, struct statvfs *st);

// ---- the recorder: all under the lock --------------------------------------------------------------------------

// What a descriptor stands for.
struct disk_slot {
    dev_t dev;
    ino_t ino;
    enum { SLOT_NONE, SLOT_OTHER, SLOT_FILE, SLOT_DIR, SLOT_SOCKET } kind;
    uint32_t id;
    bool dsync; // a file opened with O_DSYNC or O_SYNC
    bool append;
    bool blocking; // a socket
    uint64_t sent;
};

void disk_record_begin(void); // from the environment
// NULL: not recording, or of no interest.
struct disk_slot *disk_slot_of(int fd);
void disk_slot_forget(int fd);

// Each notes a call that has succeeded; none does anything while not recording. errno is kept.
void disk_note_open(int fd, const char *path, int flags, bool existed);
void disk_note_write(struct disk_slot *s, uint64_t offset, const struct iovec *iov, int count, size_t n, bool synced);
void disk_note_sync(int fd);
void disk_note_size(int fd);
void disk_note_rename(const char *from, const char *to, const struct stat *replaced);
void disk_note_remove(const char *path, const struct stat *st, bool folder);
void disk_note_mkdir(const char *path);
void disk_note_send(struct disk_slot *s, const struct iovec *iov, int count, ssize_t n);

#endif
