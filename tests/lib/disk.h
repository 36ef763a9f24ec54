// The disk between a program and its test: fails chosen calls, and records all of them in one order.
//
// disk.c defines the file and socket calls of libc and passes them on. Linked into a test, its definitions are also
// what LMDB and libuv call; as a preloaded tests/lib/disk.so it does the same to the real daemon. While neither a
// fault nor a recording is asked for, a call is passed on at once. Thread safe.
//
// For a preloaded one, the environment asks:
//   SEGUE_DISK_FAULT=op:substring:nth:errno:count   as disk_fail below; op is a word (or several, joined by '+') of
//                        open write sync truncate allocate rename unlink mkdir all; errno is a number or a name such as EIO, or KILL
//   SEGUE_DISK_CONTROL=path   a file with one such line; looked at again whenever it changes. Empty or gone: no fault. Or `quota:bytes`: the files
//                        below SEGUE_DISK_ROOT take so many bytes together, and no more (as disk_quota). Or `slow:ms:substring`: as disk_slow; or
//                        `hold:file:substring`: such a barrier makes `file.held`, and takes as long as `file` is there
//   SEGUE_DISK_RECORD=path    the log to write
//   SEGUE_DISK_ROOT=folder    what is recorded as files: everything below. It must exist
//
// Not seen: calls that libc makes itself (fopen, fwrite, opendir, remove), mmapped writes, links, io_uring, copy_file_range.
#ifndef SEGUE_TEST_DISK_H
#define SEGUE_TEST_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum disk_op {
    DISK_OPEN = 1,      // open and its kin
    DISK_WRITE = 2,     // write, writev, pwrite, pwritev, pwritev2 on files
    DISK_SYNC = 4,      // fsync, fdatasync, msync, of files and folders
    DISK_TRUNCATE = 8,  // ftruncate
    DISK_ALLOCATE = 16, // fallocate, posix_fallocate
    DISK_RENAME = 32,
    DISK_UNLINK = 64,
    DISK_MKDIR = 128,
    DISK_ALL = 255,
};

#define DISK_FOREVER UINT32_MAX
#define DISK_KILL (-1) // no errno: the process is killed (SIGKILL) where the call would have been made

// From now on counts the calls of these kinds whose absolute path has `substring` in it (a rename: either of its
// paths), and fails number `nth` (from 1) and the next, `count` in all, with `errnum`, without doing anything.
void disk_fail(unsigned ops, const char *substring, uint32_t nth, int errnum, uint32_t count);
void disk_fail_clear(void);
uint32_t disk_calls(void);  // matching calls since disk_fail
uint32_t disk_failed(void); // and how many of them were failed

// From now on the files below `root` cannot take more than so many bytes together: ENOSPC. Deleting gives room. NULL: no such bound.
void disk_quota(const char *root, uint64_t bytes);

// From now on a barrier of a file or folder whose absolute path has `substring` in it takes so much longer; others do not wait for it. 0: none does.
void disk_slow(uint32_t ms, const char *substring);

// ---- the log ---------------------------------------------------------------------------------------------------
//
// A log is a sequence of records: u8 kind, u32 file, u64 offset, u32 length (packed, little endian), and `length` bytes.
// Paths are relative to the root ("" is the root itself). Files are numbered from 1 as they are first seen, sockets
// likewise and apart. Only calls that succeeded are in it, with the bytes that they took. No two recorded calls overlap, so
// the order of the log is the order of events (except that a send on a blocking socket is noted when it returns). So
// what was sent before a barrier's record had been sent before that barrier ended.
enum disk_kind {
    DISK_LOG_FOUND = 1,      // file; offset: size; bytes: path. Was there before the recording: durable, as all FOUND_* are
    DISK_LOG_FOUND_DATA = 2, // file, offset, bytes: its content
    DISK_LOG_FOUND_DIR = 3,  // bytes: path
    DISK_LOG_CREATE = 4,     // file; bytes: path
    DISK_LOG_WRITE = 5,      // file, offset, bytes
    DISK_LOG_WRITE_SYNC = 6, // the same through O_DSYNC: a write and a barrier for it alone
    DISK_LOG_SIZE = 7,       // file; offset: its new size (ftruncate, fallocate, O_TRUNC)
    DISK_LOG_SYNC = 8,       // file: a barrier for all its writes and its size
    DISK_LOG_RENAME = 9,     // bytes: old path, NUL, new path
    DISK_LOG_UNLINK = 10,    // bytes: path
    DISK_LOG_MKDIR = 11,     // bytes: path
    DISK_LOG_RMDIR = 12,     // bytes: path
    DISK_LOG_DIR_SYNC = 13,  // bytes: path; a barrier for the names in it
    DISK_LOG_SOCKET = 14,    // file: a socket seen for the first time; offset: its peer's port, 0 if it has none
    DISK_LOG_SEND = 15,      // file: a socket; offset: bytes sent on it before; bytes: what was sent
    DISK_LOG_MARK = 16,      // bytes: disk_mark
};
#define DISK_LOG_HEADER 17

// Begins to record what happens below `root` (which exists) into the file `log` (replaced). What is there already goes
// in front as FOUND records. 0, or a negative errno.
int disk_record(const char *log, const char *root);
void disk_record_stop(void);
// Puts a note of the test's own into the log.
void disk_mark(const void *bytes, size_t n);

struct disk_record {
    enum disk_kind kind;
    uint32_t file;
    uint64_t offset;
    uint32_t length;
    const uint8_t *bytes; // lives as long as the log is open
};

struct disk_log;
// Maps a log that nobody writes any more; NULL if it cannot be read. A record that a killed process left half written
// ends the log.
struct disk_log *disk_log_open(const char *path);
bool disk_log_next(struct disk_log *log, struct disk_record *out); // false at the end
void disk_log_rewind(struct disk_log *log);
void disk_log_close(struct disk_log *log); // NULL is fine

#endif
