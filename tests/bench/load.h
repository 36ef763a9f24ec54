// The load generator's parts. One thread, one epoll: `load COMMAND --NAME VALUE …` prints `key=value` lines.
#ifndef SEGUE_BENCH_LOAD_H
#define SEGUE_BENCH_LOAD_H

#include "histogram.h"
#include "link.h"

struct load {
    const char *command, *kind;
    const char *app; // of append, batch and rows
    char host[64];
    char prefix[128]; // of --url: what stands before the paths made here
    uint16_t port;
    uint32_t connections, readers, stuck, ops, streams, window;
    uint64_t bytes; // of one append, row or upload
    uint64_t size;  // of the file that is read
    uint64_t count; // of batches of rows; 0: as many as go through in the time
    double seconds, rate;
    int pid;         // of the service, for its memory and processor time; 0: not asked
    const char *text; // a file whose words content is made of
    const char *dir; // for the bare server's file
    int epoll;
};

// closed.c: each connection sends its next request when the last one is answered.
void load_closed(struct load *load);
// pipeline.c: one connection with many appends on their way.
void load_pipeline(struct load *load);
// batches.c: batches of rows, over connections that wait for each or do not.
void load_rows(struct load *load);
// readers.c: many readers of one stream and a writer; many readers and silence.
void load_fanout(struct load *load);
void load_idle(struct load *load);
// filters.c: many live queries, each with a filter of its own, and a writer of rows.
void load_filters(struct load *load);
// bare.c: the least that a durable server has to do, as a server; ends when its writer leaves.
void bare_serve(const struct load *load);

// catchup.c: one reader of a whole stream of --bytes; a server that does the same with sendfile.
void load_catchup(struct load *load);
void sendfile_serve(const struct load *load);

// first.c: a fresh subscriber of a table of --count rows.
void load_first(struct load *load);
void stream_serve(const struct load *load);

// download.c: one connection that reads a whole file.
void load_download(struct load *load);

// usage.c: of a process: processor time in microseconds, resident bytes.
struct usage {
    uint64_t cpu_us, rss_bytes, anon_bytes;
};
struct usage usage_of(int pid);

void print_latency(const struct histogram *h);
// What the service took since `before`, per thing done.
void print_usage(const struct load *load, const struct usage *before, uint64_t things);

#endif
