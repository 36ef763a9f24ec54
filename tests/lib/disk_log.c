// Reading a log that disk.c wrote.
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk.h"

struct disk_log {
    const uint8_t *p;
    size_t n;
    size_t at;
};

struct disk_log *disk_log_open(const char *path)
{
    struct stat st;
    struct disk_log *log = calloc(1, sizeof *log);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool fine = log != NULL && fd >= 0 && fstat(fd, &st) == 0;
    if (fine && st.st_size > 0) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        fine = p != MAP_FAILED;
        if (fine) *log = (struct disk_log){.p = p, .n = (size_t)st.st_size};
    }
    if (fd >= 0) close(fd);
    if (fine) return log;
    free(log);
    return NULL;
}

bool disk_log_next(struct disk_log *log, struct disk_record *out)
{
    if (log->n - log->at < DISK_LOG_HEADER) return false;
    const uint8_t *p = log->p + log->at;
    struct disk_record r = {.kind = p[0], .bytes = p + DISK_LOG_HEADER};
    memcpy(&r.file, p + 1, 4);
    memcpy(&r.offset, p + 5, 8);
    memcpy(&r.length, p + 13, 4);
    if (log->n - log->at - DISK_LOG_HEADER < r.length) return false;
    log->at += DISK_LOG_HEADER + (size_t)r.length;
    *out = r;
    return true;
}

void disk_log_rewind(struct disk_log *log)
{
    log->at = 0;
}

void disk_log_close(struct disk_log *log)
{
    if (log == NULL) return;
    if (log->n > 0) munmap((void *)log->p, log->n);
    free(log);
}
