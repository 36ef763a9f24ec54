// Files and folders: thin calls that retry EINTR, carry short writes on, and translate errno. Any thread.
#ifndef SEGUE_FILE_H
#define SEGUE_FILE_H

#include <stdatomic.h>
#include <sys/uio.h>

#include "buf.h"

// Writes all of it at `offset`. ERR_NO_SPACE or ERR_IO; a part may have been written.
int file_write(int fd, struct span s, uint64_t offset);
int file_writev(int fd, struct iovec *iov, int count, uint64_t offset); // may change `iov`
// Reads exactly `n` bytes; ERR_CORRUPT where the file ends before.
int file_read(int fd, void *p, size_t n, uint64_t offset);
// The same without waiting for the disk: ERR_BUSY where the kernel does not have all of it in memory.
int file_read_now(int fd, void *p, size_t n, uint64_t offset);
// The barrier: returns when data and the size are on the disk (fdatasync).
int file_sync(int fd);
// Opens or creates; flags as of open(2), O_CLOEXEC is added; mode 0600. >= 0 is the descriptor. ERR_NOT_FOUND for
// a missing file, ERR_EXISTS under O_EXCL.
int file_open(const char *path, int flags);
// Another descriptor of the same open file. ERR_IO: no more can be had.
int file_dup(int fd);
void file_close(int fd); // -1 is fine
// A folder with its parents, mode 0700, each parent synced; an existing one is fine.
int dir_make(const char *path);
// Removes all that is in a folder, with folders in it, but not the folder: ERR_NOT_FOUND where there is none, ERR_CANCELED between two files
// once *stop is set (it may be NULL).
int dir_clear(const char *path, const atomic_bool *stop);
// Makes the names in a folder durable.
int dir_sync(const char *path);
int file_size(int fd, uint64_t *size);
// Replaces `path` as a whole: writes path.tmp, syncs it, renames it, syncs the folder.
int file_replace(const char *path, struct span content);
// Appends the whole file to `out`; ERR_NOT_FOUND where there is none; ERR_TOO_LARGE beyond out->max.
int file_slurp(struct buf *out, const char *path);

// Milliseconds since 1970, and monotonic microseconds. The only clocks in the project.
uint64_t clock_wall_ms(void);
uint64_t clock_mono_us(void);
uint64_t clock_thread_us(void); // processor time of the calling thread

#define TIME_TEXT 24 // characters, without a terminator
// Milliseconds since 1970 as RFC 3339 in UTC ("2026-11-22T10:00:00.000Z"). Years before 0 and after 9999 are
// written as the nearest time that can be.
void time_format(char text[TIME_TEXT], int64_t ms);

#endif
