// What the daemon can be told, on its command line or in a file of the same names. One table in options.c is all there is to it.
#ifndef SEGUE_OPTIONS_H
#define SEGUE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "app.h"
#include "buf.h"
#include "limits.h"
#include "llm_event.h"
#include "log.h"
#include "problem.h"

#define SEGUE_VERSION "0.1.0"
#define OPTION_PATH_MAX 4000

// A provider of LLM completions, as `llm-provider` names it.
struct option_provider {
    char name[NAME_MAX_BYTES + 1];
    char url[512];     // its base: what /chat/completions, /responses or /messages follows
    char key_env[256]; // the environment variable that has its key, or with a slash in it a file; empty: none is sent
    enum llm_api api;  // how it is spoken to
};

struct options {
    char data[OPTION_PATH_MAX];
    char config[OPTION_PATH_MAX];
    char host[64]; // numeric
    uint16_t port; // 0: a free one
    bool dev;
    char public_url[256]; // empty: not said
    char allow_origin[OPTION_PATH_MAX]; // a list with commas; empty: none
    enum log_level log_level;
    uint64_t egress;
    uint64_t loops; // 0: as many as pay on this machine
    uint64_t db_map_bytes;
    uint64_t journal_segment_bytes, stream_segment_bytes, blob_pack_bytes;
    bool blob_rebuild;
    bool journal_keep_all;
    enum app_barrier barrier;
    uint64_t long_poll_ms, sse_ms, seal_quiet_ms, heartbeat_ms;
    struct option_provider providers[LLM_PROVIDERS_MAX];
    size_t provider_count;
    uint64_t upload_ttl_ms;
    uint64_t history_ms, history_commits;
    uint64_t blob_grace_ms, blob_compact_bytes, blob_scrub_bytes;
    uint64_t llm_connect_ms, llm_first_ms, llm_idle_ms, llm_total_ms;
    uint64_t llm_retries, llm_retry_ms, llm_jobs, llm_tokens_day;
    bool help, version;
};

// The command line wins over the file, the file over the defaults. ERR_USAGE with a sentence that names the option.
int options_parse(struct options *out, int argc, char *const *argv, struct problem *p);

// The text of --help.
void options_help(struct buf *out);

#endif
