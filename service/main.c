// segued: the service.
#include <stdio.h>
#include <sys/resource.h>

#include "daemon.h"
#include "err.h"
#include "log.h"
#include "options.h"

// Every connection is a descriptor; what the system lets us have, we take.
static void descriptors_raise(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static int show_help(void)
{
    struct buf text;
    buf_init(&text, 64 * 1024);
    options_help(&text);
    fwrite(text.p, 1, text.n, stdout);
    buf_free(&text);
    return 0;
}

// 0: stopped in order; 1: could not start, with the reason on standard error; 2: wrong usage.
int main(int argc, char **argv)
{
    static struct options options;
    struct problem p = PROBLEM_NONE;
    if (options_parse(&options, argc, argv, &p) < 0) {
        fprintf(stderr, "segued: %s\nsegued --help shows the options\n", problem_text(&p));
        return 2;
    }
    if (options.help) return show_help();
    if (options.version) return puts("segued " SEGUE_VERSION) < 0;
    log_set_level(options.log_level);
    descriptors_raise();
    if (daemon_run(&options, &p) == 0) return 0;
    fprintf(stderr, "segued: %s\n", problem_text(&p));
    return 1;
}
