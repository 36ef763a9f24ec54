#include "options.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "file.h"
#include "limits.h"

#define CONFIG_BYTES_MAX (64 * KIB)

enum kind { FLAG, TEXT, URL, NUMBER, LISTEN, LEVEL, BARRIER, PROVIDER };

struct option {
    const char *name;
    enum kind kind;
    const char *otherwise; // the default, as it would be written; NULL: none
    uint64_t min, max;     // of a number
    size_t target;         // offset in struct options
    bool line_only;        // not in the file
    const char *argument, *help;
};

#define AT(member) offsetof(struct options, member)

static const struct option table[] = {
    {"data", TEXT, NULL, 0, 0, AT(data), false, "DIR", "the folder of all data; made where it is missing"},
    {"listen", LISTEN, "127.0.0.1:7420", 0, 0, AT(host), false, "HOST:PORT", "a numeric address or localhost; port 0 takes a free one"},
    {"dev", FLAG, NULL, 0, 0, AT(dev), false, NULL, "everybody may do everything; on a loopback address only"},
    {"allow-origin", TEXT, NULL, 0, 0, AT(allow_origin), false, "ORIGIN,…",
     "pages of these origins may open a WebSocket, beside the service's own; with --dev, all of this machine may"},
    {"public-url", URL, NULL, 0, 0, AT(public_url), false, "URL",
     "the address under which clients and webhooks see the service, up to the host and port; else what a client calls it"},
    {"egress", NUMBER, "0", 0, EGRESS_THREADS_MAX, AT(egress), false, "N", "threads of each loop that help to write what many subscribers get at once; 0: the loop writes all"},
    {"loops", NUMBER, "0", 0, LOOPS_MAX, AT(loops), false, "N", "threads that serve apps, each its own; 0: one for each core, four at most"},
    {"config", TEXT, NULL, 0, 0, AT(config), true, "FILE", "lines of `name = value` with the names of this list; # begins a comment"},
    {"log-level", LEVEL, "info", 0, 0, AT(log_level), false, "LEVEL", "error, warn, info or debug"},
    {"db-map-bytes", NUMBER, "68719476736", MIB, UINT64_C(1) << 46, AT(db_map_bytes), false, "N",
     "address space reserved for one app's database"},
    {"journal-segment-bytes", NUMBER, "33554432", 64 * KIB, UINT64_C(1) << 32, AT(journal_segment_bytes), false, "N",
     "size of a journal segment, a multiple of 4096"},
    {"journal-keep-all", FLAG, NULL, 0, 0, AT(journal_keep_all), false, NULL, "never recycle the journal"},
    {"barrier", BARRIER, "auto", 0, 0, AT(barrier), false, "WHERE", "loop: the loop waits for the journal's disk; thread: a thread of the app's does; auto: that where the disk is slow"},
    {"long-poll-ms", NUMBER, "30000", 10, 600000, AT(long_poll_ms), false, "N", "how long a long-poll waits"},
    {"stream-segment-bytes", NUMBER, "67108864", 4096, 1ull << 31, AT(stream_segment_bytes), false, "N", "a file of sealed stream bytes before the next one is begun"},
    {"blob-pack-bytes", NUMBER, "1073741824", 2 * MIB, 1024 * MIB, AT(blob_pack_bytes), false, "N", "a file of blobs' bytes before the next one is begun"},
    {"seal-quiet-ms", NUMBER, "2000", 1, 3600000, AT(seal_quiet_ms), false, "N", "a stream without appends this long is sealed"},
    {"sse-ms", NUMBER, "60000", 0, 86400000, AT(sse_ms), false, "N", "how long a reader follows a stream before it has to connect again; 0: for ever"},
    {"heartbeat-ms", NUMBER, "15000", 10, 600000, AT(heartbeat_ms), false, "N", "silence on a subscription before a sign of life"},
    {"history-ms", NUMBER, "2592000000", 0, UINT64_C(1) << 50, AT(history_ms), false, "N", "how long rows can be read as they were, at least"},
    {"history-commits", NUMBER, "100000", 0, UINT64_C(1) << 50, AT(history_commits), false, "N", "and for how many commits"},
    {"blob-grace-ms", NUMBER, "86400000", 0, UINT64_C(1) << 50, AT(blob_grace_ms), false, "N", "how long a blob lives that no row, pin or upload keeps"},
    {"blob-compact-bytes", NUMBER, "67108864", 0, UINT64_C(1) << 40, AT(blob_compact_bytes), false, "N",
     "bytes a second that are copied out of packs that are mostly garbage; 0: none"},
    {"blob-rebuild", FLAG, NULL, 0, 0, AT(blob_rebuild), false, NULL, "make the index of blobs' chunks anew from the pack files before anything else: they are all read"},
    {"blob-scrub-bytes", NUMBER, "1048576", 0, UINT64_C(1) << 40, AT(blob_scrub_bytes), false, "N",
     "bytes a second of stored chunks that are read and verified in the background; 0: none"},
    {"upload-ttl-ms", NUMBER, "604800000", 0, UINT64_C(1) << 50, AT(upload_ttl_ms), false, "N", "an upload that does not change is kept this long; 0: for ever"},
    {"llm-provider", PROVIDER, NULL, 0, 0, AT(providers), false, "\"NAME URL [KEY] [KIND]\"",
     "a provider of LLM replies: its base URL, the environment variable or the file (with a slash in its name) that has its key, and "
     "chat, responses or messages; for each one again"},
    {"llm-connect-ms", NUMBER, "10000", 10, 600000, AT(llm_connect_ms), false, "N", "how long a provider may take to be reached"},
    {"llm-first-ms", NUMBER, "120000", 10, 3600000, AT(llm_first_ms), false, "N", "from the request to the first token of its answer"},
    {"llm-idle-ms", NUMBER, "60000", 10, 3600000, AT(llm_idle_ms), false, "N", "between two bytes of its answer"},
    {"llm-total-ms", NUMBER, "3600000", 10, 86400000, AT(llm_total_ms), false, "N", "for the whole of it"},
    {"llm-retries", NUMBER, "2", 0, 10, AT(llm_retries), false, "N", "how often a call is made again that failed before its first token"},
    {"llm-retry-ms", NUMBER, "500", 1, 30000, AT(llm_retry_ms), false, "N", "the pause before the first of them; each further one is twice as long"},
    {"llm-jobs", NUMBER, "64", 1, LLM_JOBS_MAX, AT(llm_jobs), false, "N", "calls of one app at once; further jobs are queued"},
    {"llm-tokens-day", NUMBER, "0", 0, UINT64_C(1) << 50, AT(llm_tokens_day), false, "N",
     "tokens that the jobs of one app may use on a day (UTC); 0: as many as they like"},
    {"help", FLAG, NULL, 0, 0, AT(help), true, NULL, "shows this text"},
    {"version", FLAG, NULL, 0, 0, AT(version), true, NULL, "shows the version"},
};
#define TABLE_COUNT (sizeof table / sizeof table[0])

static const struct option *find(struct span name)
{
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        if (span_is(name, table[i].name)) return &table[i];
    }
    return NULL;
}

// ---- values -------------------------------------------------------------------------------------------------------

static int set_flag(bool *to, struct span value)
{
    if (!span_is(value, "true") && !span_is(value, "false")) return ERR_USAGE;
    *to = span_is(value, "true");
    return 0;
}

static int set_text(char *to, size_t cap, struct span value)
{
    if (value.n == 0 || value.n >= cap || memchr(value.p, 0, value.n) != NULL) return ERR_USAGE;
    memcpy(to, value.p, value.n);
    to[value.n] = '\0';
    return 0;
}

// Scheme and authority; a slash at the end is not kept.
static int set_url(char *to, struct span value)
{
    if (!span_starts(value, "http://") && !span_starts(value, "https://")) return ERR_USAGE;
    while (value.n > 0 && value.p[value.n - 1] == '/')
        value.n--;
    for (size_t i = 0; i < value.n; i++)
        if (value.p[i] <= ' ' || value.p[i] > '~' || value.p[i] == '"' || value.p[i] == '\\') return ERR_USAGE;
    return value.n < 10 ? ERR_USAGE : set_text(to, sizeof((struct options *)0)->public_url, value);
}

static int set_number(uint64_t *to, struct span value, uint64_t min, uint64_t max)
{
    uint64_t n = 0;
    if (value.n == 0 || value.n > 18) return ERR_USAGE;
    for (size_t i = 0; i < value.n; i++) {
        if (!isdigit(value.p[i])) return ERR_USAGE;
        n = n * 10 + (value.p[i] - '0');
    }
    if (n < min || n > max) return ERR_USAGE;
    *to = n;
    return 0;
}

// HOST:PORT, [HOST]:PORT for version 6, with localhost for 127.0.0.1: names that need looking up are not ours to guess.
static int set_listen(struct options *o, struct span value)
{
    size_t colon = value.n;
    while (colon > 0 && value.p[colon - 1] != ':')
        colon--;
    if (colon == 0) return ERR_USAGE;
    struct span host = span_sub(value, 0, colon - 1), port = span_sub(value, colon, value.n);
    if (host.n >= 2 && host.p[0] == '[' && host.p[host.n - 1] == ']') host = span_sub(host, 1, host.n - 2);
    if (span_is(host, "localhost")) host = SPAN_LIT("127.0.0.1");
    char text[sizeof o->host];
    uint64_t number;
    uint8_t address[16];
    if (set_text(text, sizeof text, host) < 0 || set_number(&number, port, 0, UINT16_MAX) < 0) return ERR_USAGE;
    if (inet_pton(AF_INET, text, address) != 1 && inet_pton(AF_INET6, text, address) != 1) return ERR_USAGE;
    memcpy(o->host, text, sizeof text);
    o->port = (uint16_t)number;
    return 0;
}

static int set_barrier(enum app_barrier *to, struct span value)
{
    static const char *const words[] = {[APP_BARRIER_AUTO] = "auto", [APP_BARRIER_LOOP] = "loop", [APP_BARRIER_THREAD] = "thread"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (!span_is(value, words[i])) continue;
        *to = (enum app_barrier)i;
        return 0;
    }
    return ERR_USAGE;
}

static int set_level(enum log_level *to, struct span value)
{
    char word[16];
    return set_text(word, sizeof word, value) < 0 ? ERR_USAGE : log_level_parse(to, word);
}

// The next word, taken off the front.
static struct span take_word(struct span *rest)
{
    while (rest->n > 0 && isspace(rest->p[0]))
        *rest = span_sub(*rest, 1, rest->n);
    size_t n = 0;
    while (n < rest->n && !isspace(rest->p[n]))
        n++;
    struct span word = span_sub(*rest, 0, n);
    *rest = span_sub(*rest, n, rest->n);
    return word;
}

static bool is_provider_name(struct span name)
{
    for (size_t i = 0; i < name.n; i++)
        if (!isalnum(name.p[i]) && name.p[i] != '-' && name.p[i] != '_') return false;
    return name.n > 0;
}

// NAME URL [KEY] [KIND]. One of the same name takes the place of an earlier one, so that the command line wins over the file.
static int set_provider(struct options *o, struct span value)
{
    struct option_provider new = {0};
    struct span name = take_word(&value), url = take_word(&value), key = take_word(&value), kind = take_word(&value);
    new.api = LLM_CHAT;
    if (kind.n > 0 ? !llm_api_parse(&new.api, kind) : llm_api_parse(&new.api, key)) {
        if (kind.n > 0) return ERR_USAGE;
        key = SPAN_NONE; // it was the kind
    }
    if (take_word(&value).n > 0 || !is_provider_name(name) || set_text(new.name, sizeof new.name, name) < 0) return ERR_USAGE;
    if (!span_starts(url, "http://") && !span_starts(url, "https://")) return ERR_USAGE;
    if (set_text(new.url, sizeof new.url, url) < 0) return ERR_USAGE;
    if (key.n > 0 && set_text(new.key_env, sizeof new.key_env, key) < 0) return ERR_USAGE;
    size_t at = 0;
    while (at < o->provider_count && strcmp(o->providers[at].name, new.name) != 0)
        at++;
    if (at == LLM_PROVIDERS_MAX) return ERR_USAGE;
    o->providers[at] = new;
    if (at == o->provider_count) o->provider_count++;
    return 0;
}

static int set(struct options *o, const struct option *option, struct span value, struct problem *p)
{
    void *to = (char *)o + option->target;
    int err = ERR_USAGE;
    switch (option->kind) {
    case FLAG: err = set_flag(to, value); break;
    case TEXT: err = set_text(to, OPTION_PATH_MAX, value); break;
    case URL: err = set_url(to, value); break;
    case NUMBER: err = set_number(to, value, option->min, option->max); break;
    case LISTEN: err = set_listen(o, value); break;
    case LEVEL: err = set_level(to, value); break;
    case BARRIER: err = set_barrier(to, value); break;
    case PROVIDER: err = set_provider(o, value); break;
    }
    if (err == 0) return 0;
    if (option->kind != NUMBER)
        return problem_set(p, ERR_USAGE, -1, "%s cannot be \"%.*s\"", option->name, SPAN_FMT(span_sub(value, 0, 80)));
    return problem_set(p, ERR_USAGE, -1, "%s must be a number from %llu to %llu", option->name, (unsigned long long)option->min,
                       (unsigned long long)option->max);
}

static void set_defaults(struct options *o)
{
    memset(o, 0, sizeof *o);
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        if (table[i].otherwise == NULL) continue;
        int err = set(o, &table[i], SPAN_STR(table[i].otherwise), NULL);
        assert(err == 0);
    }
}

// ---- the file -----------------------------------------------------------------------------------------------------

static struct span trim(struct span s)
{
    while (s.n > 0 && isspace(s.p[0]))
        s = span_sub(s, 1, s.n);
    while (s.n > 0 && isspace(s.p[s.n - 1]))
        s.n--;
    return s;
}

static int set_line(struct options *o, struct span line, int number, struct problem *p)
{
    const uint8_t *comment = line.n == 0 ? NULL : memchr(line.p, '#', line.n);
    if (comment != NULL) line.n = (size_t)(comment - line.p);
    line = trim(line);
    if (line.n == 0) return 0;
    const uint8_t *equals = memchr(line.p, '=', line.n);
    if (equals == NULL) return problem_set(p, ERR_USAGE, -1, "%s line %d is not `name = value`", o->config, number);
    size_t n = (size_t)(equals - line.p);
    struct span name = trim(span_sub(line, 0, n));
    const struct option *option = find(name);
    if (option == NULL || option->line_only)
        return problem_set(p, ERR_USAGE, -1, "%s line %d: there is no \"%.*s\"", o->config, number, SPAN_FMT(name));
    return set(o, option, trim(span_sub(line, n + 1, line.n)), p);
}

static int set_file(struct options *o, struct problem *p)
{
    struct buf text;
    buf_init(&text, CONFIG_BYTES_MAX);
    int err = file_slurp(&text, o->config);
    if (err < 0) {
        buf_free(&text);
        return problem_set(p, ERR_USAGE, -1, "%s cannot be read: %s", o->config, err_text(err));
    }
    struct span rest = buf_span(&text);
    for (int number = 1; err == 0 && rest.n > 0; number++) {
        const uint8_t *end = memchr(rest.p, '\n', rest.n);
        size_t n = end == NULL ? rest.n : (size_t)(end - rest.p);
        err = set_line(o, span_sub(rest, 0, n), number, p);
        rest = span_sub(rest, n + 1, rest.n);
    }
    buf_free(&text);
    return err;
}

// ---- the command line ---------------------------------------------------------------------------------------------

// Sets all of the line, or `only` that option of it.
static int set_arguments(struct options *o, int argc, char *const *argv, const char *only, struct problem *p)
{
    for (int i = 1; i < argc; i++) {
        struct span word = SPAN_STR(argv[i]);
        const char *equals = strchr(argv[i], '=');
        struct span name = span_sub(word, 2, equals == NULL ? word.n : (size_t)(equals - argv[i]) - 2);
        const struct option *option = span_starts(word, "--") ? find(name) : NULL;
        if (option == NULL) return problem_set(p, ERR_USAGE, -1, "there is no \"%.80s\"", argv[i]);
        struct span value = SPAN_LIT("true");
        if (option->kind == FLAG && equals != NULL) return problem_set(p, ERR_USAGE, -1, "--%s takes no value", option->name);
        if (option->kind != FLAG) {
            if (equals == NULL && i + 1 == argc) return problem_set(p, ERR_USAGE, -1, "--%s needs a value", option->name);
            const char *text = equals != NULL ? equals + 1 : argv[++i];
            value = SPAN_STR(text);
        }
        if (only != NULL && strcmp(option->name, only) != 0) continue;
        int err = set(o, option, value, p);
        if (err < 0) return err;
    }
    return 0;
}

static bool is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, host, &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static int check(const struct options *o, struct problem *p)
{
    if (o->help || o->version) return 0;
    if (o->data[0] == '\0') return problem_set(p, ERR_USAGE, -1, "--data is needed");
    if (o->dev && !is_loopback(o->host))
        return problem_set(p, ERR_USAGE, -1, "--dev lets everybody do everything, so it listens on a loopback address only, not on %s",
                           o->host);
    if (o->journal_segment_bytes % 4096 != 0) return problem_set(p, ERR_USAGE, -1, "journal-segment-bytes must be a multiple of 4096");
    return 0;
}

int options_parse(struct options *out, int argc, char *const *argv, struct problem *p)
{
    struct options o;
    set_defaults(&o);
    int err = set_arguments(&o, argc, argv, "config", p);
    if (err == 0 && o.config[0] != '\0') err = set_file(&o, p);
    if (err == 0) err = set_arguments(&o, argc, argv, NULL, p);
    if (err == 0) err = check(&o, p);
    if (err == 0) *out = o;
    return err;
}

void options_help(struct buf *out)
{
    buf_put_str(out, "segued --data DIR [options]\n\nServes the apps of a data folder over HTTP.\n\n");
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        char head[64];
        snprintf(head, sizeof head, "--%s%s%s", table[i].name, table[i].argument == NULL ? "" : " ",
                 table[i].argument == NULL ? "" : table[i].argument);
        buf_printf(out, "  %-26s  %s", head, table[i].help);
        if (table[i].otherwise != NULL) buf_printf(out, " (%s)", table[i].otherwise);
        buf_put_str(out, "\n");
    }
}
