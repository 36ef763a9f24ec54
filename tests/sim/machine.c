#include "machine.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "disk.h"
#include "image.h"
#include "tmp.h"

#define BEGINS_MS 1893456000000 // 2030-01-01: the wall clock at machine_boot

static struct {
    bool on;
    uint64_t us;
    int64_t wall_ms; // how far it was set
    struct dice random;
    char *home, *folder, *log;
    unsigned disks;
} machine;

// ---- the calls that the whole program makes ----------------------------------------------------------------------------

int clock_gettime(clockid_t clock, struct timespec *t)
{
    if (!machine.on) return (int)syscall(SYS_clock_gettime, clock, t);
    int64_t us = (int64_t)machine.us + (clock == CLOCK_REALTIME ? (BEGINS_MS + machine.wall_ms) * 1000 : 0);
    *t = (struct timespec){.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
    return 0;
}

ssize_t getrandom(void *p, size_t n, unsigned flags)
{
    if (!machine.on) return syscall(SYS_getrandom, p, n, flags);
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)p)[i] = (uint8_t)dice_next(&machine.random);
    return (ssize_t)n;
}

double machine_real_s(void)
{
    struct timespec t;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

// ---- the disk ----------------------------------------------------------------------------------------------------------

static char *numbered(const char *what)
{
    char name[32];
    snprintf(name, sizeof name, "%s%u", what, machine.disks);
    return tmp_path(machine.home, name);
}

static void begin_disk(bool make)
{
    machine.folder = numbered("disk");
    machine.log = numbered("log");
    if (make && mkdir(machine.folder, 0700) != 0) abort();
}

static void begin_log(void)
{
    if (disk_record(machine.log, machine.folder) != 0) abort();
}

void machine_boot(uint64_t seed)
{
    assert(!machine.on);
    machine.home = tmp_make();
    machine.random.state = seed ^ 0x6d616368696e65;
    machine.on = true;
    begin_disk(true);
    begin_log();
}

void machine_end(void)
{
    disk_record_stop();
    free(machine.folder);
    free(machine.log);
    tmp_remove(machine.home);
    machine.on = false;
}

const char *machine_folder(void)
{
    return machine.folder;
}

void machine_mark(void)
{
    disk_mark("", 0);
}

void machine_cut(void)
{
    disk_record_stop();
}

// The record at which the power went off: the last one, or any behind the last mark.
static uint64_t last_moment(struct dice *d, bool since_mark)
{
    struct disk_log *log = disk_log_open(machine.log);
    struct disk_record r;
    uint64_t records = 0, mark = 0;
    assert(log != NULL);
    while (disk_log_next(log, &r)) {
        records++;
        if (r.kind == DISK_LOG_MARK) mark = records;
    }
    disk_log_close(log);
    return since_mark ? mark + dice_below(d, (uint32_t)(records - mark + 1)) : records;
}

void machine_restore(struct dice *d, bool since_mark)
{
    char *was = machine.folder, *log = machine.log;
    uint64_t moment = last_moment(d, since_mark);
    struct image *m = image_open(log);
    enum image_mode mode = dice_chance(d, 20) ? IMAGE_NONE : dice_chance(d, 20) ? IMAGE_ALL : IMAGE_RANDOM;
    machine.disks++;
    begin_disk(false);
    if (m == NULL || !image_advance(m, moment) || !image_build(m, machine.folder, dice_next(d), mode, NULL)) abort();
    image_close(m);
    tmp_remove(was);
    unlink(log);
    free(log);
    begin_log();
}

uint64_t machine_us(void)
{
    return machine.us;
}

void machine_go_to(uint64_t us)
{
    assert(us >= machine.us);
    machine.us = us;
}

void machine_set_wall(int64_t ms)
{
    machine.wall_ms += ms;
}
