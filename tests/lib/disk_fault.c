// Which call fails.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "disk_private.h"

static struct {
    unsigned ops;
    char substring[256];
    uint32_t nth, count, calls, failed;
    int errnum;
    uint32_t slow_ms;
    char slow_substring[256];
    char gate[256]; // or as long as this file is there
    const char *control; // NULL: none
    struct stat seen;    // of the control file when it was last read
} fault;

static void fault_set(unsigned ops, const char *substring, uint32_t nth, int errnum, uint32_t count)
{
    fault.ops = ops;
    snprintf(fault.substring, sizeof fault.substring, "%s", substring);
    fault.nth = nth;
    fault.errnum = errnum;
    fault.count = count;
    fault.calls = fault.failed = 0;
}

static unsigned ops_parse(char *words)
{
    static const char *const names[] = {"open", "write", "sync", "truncate", "allocate", "rename", "unlink", "mkdir"};
    unsigned ops = 0;
    char *save = NULL;
    for (char *w = strtok_r(words, "+", &save); w != NULL; w = strtok_r(NULL, "+", &save)) {
        if (strcmp(w, "all") == 0) ops |= DISK_ALL;
        for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
            if (strcmp(w, names[i]) == 0) ops |= 1u << i;
        }
    }
    return ops;
}

static int errno_parse(const char *word)
{
    static const struct {
        const char *name;
        int number;
    } names[] = {{"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT}, {"ENOMEM", ENOMEM}, {"EROFS", EROFS}, {"EMFILE", EMFILE}, {"KILL", DISK_KILL}};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(word, names[i].name) == 0) return names[i].number;
    }
    return atoi(word);
}

static void slow_set(uint32_t ms, const char *gate, const char *substring)
{
    fault.slow_ms = ms;
    snprintf(fault.gate, sizeof fault.gate, "%s", gate);
    snprintf(fault.slow_substring, sizeof fault.slow_substring, "%s", substring);
}

// "slow:ms:substring", "hold:file:substring".
static void slow_parse(char *line)
{
    char *rest = line;
    const char *word = strsep(&rest, ":"), *how = strsep(&rest, ":");
    bool slow = strcmp(word, "slow") == 0 && rest != NULL, hold = strcmp(word, "hold") == 0 && rest != NULL;
    slow_set(slow ? (uint32_t)atol(how) : 0, hold ? how : "", slow || hold ? rest : "");
}

// "op:substring:nth:errno:count"; anything that is not that clears the fault.
static void fault_parse(const char *line)
{
    char copy[512], *field[5], *rest = copy;
    snprintf(copy, sizeof copy, "%s", line);
    copy[strcspn(copy, "\n")] = '\0';
    bool quota = strncmp(copy, "quota:", 6) == 0;
    disk_quota_set(quota ? getenv("SEGUE_DISK_ROOT") : NULL, quota ? strtoull(copy + 6, NULL, 10) : 0);
    char slow[512];
    snprintf(slow, sizeof slow, "%s", copy);
    slow_parse(slow);
    int n = 0;
    while (n < 5 && rest != NULL)
        field[n++] = strsep(&rest, ":");
    if (n < 5) {
        fault_set(0, "", 0, 0, 0);
        return;
    }
    long count = atol(field[4]);
    fault_set(ops_parse(field[0]), field[1], (uint32_t)atol(field[2]), errno_parse(field[3]), count < 0 ? DISK_FOREVER : (uint32_t)count);
}

static void control_read(void)
{
    struct stat st;
    char line[512] = "";
    if (fault.control == NULL) return;
    if (stat(fault.control, &st) != 0) memset(&st, 0, sizeof st);
    if (st.st_ino == fault.seen.st_ino && st.st_size == fault.seen.st_size && st.st_mtim.tv_sec == fault.seen.st_mtim.tv_sec &&
        st.st_mtim.tv_nsec == fault.seen.st_mtim.tv_nsec) {
        return;
    }
    fault.seen = st;
    int fd = disk_real.openat(AT_FDCWD, fault.control, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        // Past a sanitizer, which may have something to say about the descriptor: to say it it opens files, and waits for the lock that is held here.
        ssize_t n = syscall(SYS_read, fd, line, sizeof line - 1);
        line[n > 0 ? n : 0] = '\0';
        disk_real.close(fd);
    }
    fault_parse(line);
}

int disk_fault_hits(unsigned op, const char *path, const char *other)
{
    if (!atomic_load_explicit(&disk_armed, memory_order_relaxed)) return 0;
    int kept = errno;
    control_read();
    errno = kept;
    if ((fault.ops & op) == 0) return 0;
    if (strstr(path, fault.substring) == NULL && (other == NULL || strstr(other, fault.substring) == NULL)) return 0;
    fault.calls++;
    if (fault.calls < fault.nth || fault.calls - fault.nth >= fault.count) return 0;
    fault.failed++;
    if (fault.errnum == DISK_KILL) raise(SIGKILL);
    return fault.errnum;
}

int disk_fault_hits_fd(unsigned op, int fd)
{
    char path[PATH_MAX];
    if (!atomic_load_explicit(&disk_armed, memory_order_relaxed)) return 0;
    disk_fd_path(fd, path);
    return disk_fault_hits(op, path, NULL);
}

static void wait_at(const char *gate)
{
    struct stat st;
    char held[PATH_MAX];
    snprintf(held, sizeof held, "%s.held", gate);
    int fd = disk_real.openat(AT_FDCWD, held, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd >= 0) disk_real.close(fd);
    while (stat(gate, &st) == 0)
        usleep(1000);
}

void disk_slow_wait(int fd)
{
    char path[PATH_MAX], gate[sizeof fault.gate] = "";
    uint32_t ms = 0;
    int kept = errno;
    disk_fd_path(fd, path);
    pthread_mutex_lock(&disk_lock);
    control_read();
    if (strstr(path, fault.slow_substring) != NULL) {
        ms = fault.slow_ms;
        memcpy(gate, fault.gate, sizeof gate);
    }
    pthread_mutex_unlock(&disk_lock);
    if (ms > 0) usleep(ms * 1000);
    if (gate[0] != '\0') wait_at(gate);
    errno = kept;
}

void disk_slow(uint32_t ms, const char *substring)
{
    disk_resolve();
    pthread_mutex_lock(&disk_lock);
    slow_set(ms, "", substring);
    pthread_mutex_unlock(&disk_lock);
    atomic_store(&disk_armed, true);
}

void disk_fail(unsigned ops, const char *substring, uint32_t nth, int errnum, uint32_t count)
{
    disk_resolve();
    pthread_mutex_lock(&disk_lock);
    fault_set(ops, substring, nth, errnum, count);
    pthread_mutex_unlock(&disk_lock);
    atomic_store(&disk_armed, true);
}

void disk_quota(const char *root, uint64_t bytes)
{
    disk_resolve();
    pthread_mutex_lock(&disk_lock);
    disk_quota_set(root, bytes);
    pthread_mutex_unlock(&disk_lock);
    atomic_store(&disk_armed, root != NULL || fault.control != NULL);
}

void disk_fail_clear(void)
{
    pthread_mutex_lock(&disk_lock);
    atomic_store(&disk_armed, fault.control != NULL || disk_quota_asked());
    fault_set(0, "", 0, 0, 0);
    pthread_mutex_unlock(&disk_lock);
}

uint32_t disk_calls(void)
{
    pthread_mutex_lock(&disk_lock);
    uint32_t n = fault.calls;
    pthread_mutex_unlock(&disk_lock);
    return n;
}

uint32_t disk_failed(void)
{
    pthread_mutex_lock(&disk_lock);
    uint32_t n = fault.failed;
    pthread_mutex_unlock(&disk_lock);
    return n;
}

void disk_fault_begin(void)
{
    const char *line = getenv("SEGUE_DISK_FAULT");
    fault.control = getenv("SEGUE_DISK_CONTROL");
    if (line != NULL) fault_parse(line);
    atomic_store(&disk_armed, line != NULL || fault.control != NULL);
}
