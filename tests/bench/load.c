// load: makes load on a server over loopback and tells how it bore it. See README.md; the commands are those of usage().
#include "load.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>

static const char usage_text[] =
    "load append --url U --kind segue|redis|bare   appends of --bytes in a closed loop\n"
    "load batch  --url U                           batches of --ops rows of --bytes\n"
    "load rows   --url U --kind http|ws             batches of --ops rows of --bytes, --window of them on their way on each connection;\n"
    "                                              until the time is up or --count batches are settled\n"
    "load pipeline --url U --kind ws|redis         appends of --bytes to --streams, --window of them on their way; --rate a second of each;\n"
    "                                              --readers follow the first streams\n"
    "load catchup --url U --kind segue|sendfile    a stream of --bytes, read from its beginning\n"
    "load sendfile --bytes N                       a server of a file of so many bytes\n"
    "load stream --bytes N                         a server that writes so many bytes to whoever comes\n"
    "load upload --url U --kind segue|put          uploads of --bytes\n"
    "load get    --url U                           --bytes from anywhere in the file of --size that U names, in a closed loop\n"
    "load download --url U                         the whole of the file of --size that U names, again and again\n"
    "load fanout --url U --kind sse|ds|ws|bare     --readers of one stream, appended to --rate times a second; at 0 by --connections in a closed loop;\n"
    "                    row|row_ws                of a query, one row of which is updated; --stuck more subscribe and never read\n"
    "load filters --url U --kind equal|range|scan  --readers live queries over --connections, each with a filter of its own, and rows written --rate times a\n"
    "                                              second, each of which concerns one; at 0 each row when the one before has come\n"
    "load first  --url U --kind sse|ws|stream       a table of --count rows (100,000), subscribed to on a fresh connection each time\n"
    "load idle   --url U --kind sse|ws             memory of --readers, each of a stream of its own; needs --pid\n"
    "load bare   --dir D                           the least server, for --readers and one writer\n"
    "others: --connections N (1)  --seconds S (2)  --pid P (the service's, for its memory and processor time)  --app NAME (default; of append, batch, rows)\n";

void print_latency(const struct histogram *h)
{
    static const struct {
        const char *name;
        double share;
    } points[] = {{"p50_us", .5}, {"p90_us", .9}, {"p99_us", .99}, {"p999_us", .999}};
    printf("count=%llu\n", (unsigned long long)h->count);
    for (size_t i = 0; i < sizeof points / sizeof *points; i++)
        printf("%s=%.1f\n", points[i].name, (double)histogram_quantile(h, points[i].share) / 1e3);
    printf("max_us=%.1f\n", (double)h->max / 1e3);
}

// http://HOST:PORT/PREFIX, all behind the port optional.
static void url_parse(struct load *load, const char *url)
{
    unsigned port = 0;
    load->prefix[0] = '\0';
    if (sscanf(url, "http://%63[^:/]:%u%127s", load->host, &port, load->prefix) < 2 || port == 0 || port > 65535)
        die("%s is not http://HOST:PORT", url);
    load->port = (uint16_t)port;
    size_t n = strlen(load->prefix);
    if (n > 0 && load->prefix[n - 1] == '/') load->prefix[n - 1] = '\0';
}

static void option(struct load *load, const char *name, const char *value)
{
    if (strcmp(name, "--url") == 0)
        url_parse(load, value);
    else if (strcmp(name, "--kind") == 0)
        load->kind = value;
    else if (strcmp(name, "--app") == 0)
        load->app = value;
    else if (strcmp(name, "--connections") == 0)
        load->connections = (uint32_t)strtoul(value, NULL, 10);
    else if (strcmp(name, "--readers") == 0)
        load->readers = (uint32_t)strtoul(value, NULL, 10);
    else if (strcmp(name, "--streams") == 0)
        load->streams = (uint32_t)strtoul(value, NULL, 10);
    else if (strcmp(name, "--window") == 0)
        load->window = (uint32_t)strtoul(value, NULL, 10);
    else if (strcmp(name, "--stuck") == 0)
        load->stuck = (uint32_t)strtoul(value, NULL, 10);
    else if (strcmp(name, "--ops") == 0)
        load->ops = (uint32_t)strtoul(value, NULL, 10);
    else if (strcmp(name, "--bytes") == 0)
        load->bytes = strtoull(value, NULL, 10);
    else if (strcmp(name, "--size") == 0)
        load->size = strtoull(value, NULL, 10);
    else if (strcmp(name, "--count") == 0)
        load->count = strtoull(value, NULL, 10);
    else if (strcmp(name, "--seconds") == 0)
        load->seconds = strtod(value, NULL);
    else if (strcmp(name, "--rate") == 0)
        load->rate = strtod(value, NULL);
    else if (strcmp(name, "--pid") == 0)
        load->pid = (int)strtol(value, NULL, 10);
    else if (strcmp(name, "--text") == 0)
        load->text = value;
    else if (strcmp(name, "--dir") == 0)
        load->dir = value;
    else
        die("there is no option %s\n%s", name, usage_text);
}

// Every reader is a descriptor.
static void descriptors_raise(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv)
{
    struct load load = {.kind = "segue", .app = "default", .connections = 1, .ops = 1, .streams = 1, .window = 4096, .bytes = 100, .seconds = 2, .rate = 50, .dir = ".", .text = "README.md"};
    if (argc < 2 || argc % 2 != 0) die("%s", usage_text);
    load.command = argv[1];
    for (int i = 2; i + 1 < argc; i += 2)
        option(&load, argv[i], argv[i + 1]);
    signal(SIGPIPE, SIG_IGN);
    descriptors_raise();
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (strcmp(load.command, "bare") == 0)
        bare_serve(&load);
    else if (strcmp(load.command, "sendfile") == 0)
        sendfile_serve(&load);
    else if (strcmp(load.command, "stream") == 0)
        stream_serve(&load);
    else if (load.port == 0)
        die("--url is missing\n%s", usage_text);
    else if (strcmp(load.command, "fanout") == 0)
        load_fanout(&load);
    else if (strcmp(load.command, "catchup") == 0)
        load_catchup(&load);
    else if (strcmp(load.command, "download") == 0)
        load_download(&load);
    else if (strcmp(load.command, "pipeline") == 0)
        load_pipeline(&load);
    else if (strcmp(load.command, "rows") == 0)
        load_rows(&load);
    else if (strcmp(load.command, "filters") == 0)
        load_filters(&load);
    else if (strcmp(load.command, "first") == 0)
        load_first(&load);
    else if (strcmp(load.command, "idle") == 0)
        load_idle(&load);
    else
        load_closed(&load);
    return 0;
}
