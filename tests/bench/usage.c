#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "load.h"

// The number behind "name:" in /proc/PID/status, in bytes.
static uint64_t status_bytes(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    return at == NULL ? 0 : strtoull(at + strlen(name) + 1, NULL, 10) * 1024;
}

static bool slurp(int pid, const char *name, char *text, size_t n)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    FILE *f = fopen(path, "r");
    if (f == NULL) return false;
    text[fread(text, 1, n - 1, f)] = '\0';
    fclose(f);
    return true;
}

struct usage usage_of(int pid)
{
    char text[8192];
    struct usage u = {0};
    if (pid == 0) return u;
    clockid_t clock;
    struct timespec t;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) != 0) die("there is no process %d", pid);
    u.cpu_us = (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
    if (!slurp(pid, "status", text, sizeof text)) die("there is no process %d", pid);
    u.rss_bytes = status_bytes(text, "VmRSS");
    u.anon_bytes = status_bytes(text, "RssAnon");
    return u;
}

void print_usage(const struct load *load, const struct usage *before, uint64_t things)
{
    if (load->pid == 0) return;
    struct usage after = usage_of(load->pid);
    printf("cpu_us=%.2f\n", things == 0 ? 0.0 : (double)(after.cpu_us - before->cpu_us) / (double)things);
    printf("rss_kib=%llu\n", (unsigned long long)after.rss_bytes / 1024);
}
