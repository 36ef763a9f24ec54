#include "progress.h"

#include <stdio.h>
#include <unistd.h>

#include "file.h"
#include "limits.h"

#define SHOW_US 200000  // between two looks
#define SMALL (4 * MIB) // what is larger is worth a line however quick it was
#define BAR "##############################"
#define GAP "                              "

void progress_init(struct progress *p, int beside)
{
    *p = (struct progress){.terminal = isatty(STDERR_FILENO) == 1 && (beside < 0 || isatty(beside) != 1)};
}

// At the mean rate so far; empty where it says nothing.
static void format_left(const struct progress *p, double rate, char *text, size_t n)
{
    double seconds = rate > 0 ? (double)(p->size - p->done) / MIB / rate : 0;
    unsigned whole = seconds < 100.0 * 3600 ? (unsigned)(seconds + 0.5) : 0;
    text[0] = 0;
    if (whole >= 3600) snprintf(text, n, "%u:%02u:%02u left", whole / 3600, whole / 60 % 60, whole % 60);
    else if (whole > 0) snprintf(text, n, "%u:%02u left", whole / 60, whole % 60);
}

static int format_line(const struct progress *p, double rate, char *line, size_t n)
{
    int width = (int)sizeof BAR - 1;
    double mib = (double)p->done / MIB;
    if (p->size == 0) return snprintf(line, n, "\r%10.1f MiB %8.1f MiB/s", mib, rate);
    double part = p->done < p->size ? (double)p->done / (double)p->size : 1;
    int filled = (int)(width * part);
    char left[32] = "";
    if (p->done < p->size) format_left(p, rate, left, sizeof left);
    return snprintf(line, n, "\r[%.*s%.*s] %3d %% %13s %8.1f MiB/s", filled, BAR, width - filled, GAP, (int)(100 * part), left, rate);
}

static void show(struct progress *p, uint64_t now)
{
    char line[128];
    double seconds = (double)(now - p->began_us) / 1e6;
    uint64_t moved = p->done > p->began_at ? p->done - p->began_at : 0; // one that begins anew goes back
    int n = format_line(p, seconds > 0.01 ? (double)moved / seconds / MIB : 0, line, sizeof line);
    p->shown_us = now;
    p->open = true;
    if (write(STDERR_FILENO, line, (size_t)n) < 0) p->terminal = false;
}

void progress_take(void *ctx, uint64_t done, uint64_t size)
{
    struct progress *p = ctx;
    uint64_t now = clock_mono_us();
    if (!p->begun) {
        p->begun = true;
        p->began_us = p->shown_us = now;
        p->began_at = done;
    }
    p->done = done;
    p->size = size;
    if (p->terminal && now - p->shown_us >= SHOW_US) show(p, now);
}

void progress_end(struct progress *p)
{
    if (!p->terminal || (!p->open && p->done <= SMALL)) return;
    show(p, clock_mono_us());
    if (write(STDERR_FILENO, "\n", 1) < 0) p->terminal = false;
}
