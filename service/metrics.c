#include "metrics.h"

#include <stddef.h>

#include "options.h"
#include "survey.h"

struct metric {
    const char *name, *type, *help;
    size_t at; // of a uint64_t in its struct
};

#define CONNS(member) offsetof(struct conns_counts, member)
static const struct metric of_conns[] = {
    {"segue_connections_accepted_total", "counter", "connections taken", CONNS(accepted)},
    {"segue_connections_refused_total", "counter", "connections beyond the limit", CONNS(refused)},
    {"segue_connections_moved_total", "counter", "connections handed to the loop of the app that a request names", CONNS(moved)},
    {"segue_frames_aside_total", "counter", "writes to sockets by threads beside the loop", CONNS(frames_aside)},
    {"segue_requests_total", "counter", "requests begun", CONNS(requests)},
    {"segue_bad_requests_total", "counter", "requests that could not be understood", CONNS(bad_requests)},
    {"segue_timeouts_total", "counter", "connections that met a deadline", CONNS(timeouts)},
    {"segue_received_bytes_total", "counter", "bytes from sockets", CONNS(bytes_in)},
    {"segue_sent_bytes_total", "counter", "bytes to sockets", CONNS(bytes_out)},
};

#define LLM(member) offsetof(struct llm_counts, member)
static const struct metric of_llm[] = {
    {"segue_llm_calls", "gauge", "calls to LLM providers under way", LLM(calls)},
    {"segue_llm_jobs_queued", "gauge", "LLM jobs that wait for a place", LLM(queued)},
    {"segue_llm_jobs_connecting", "gauge", "LLM jobs that wait for their first token", LLM(connecting)},
    {"segue_llm_jobs_streaming", "gauge", "LLM jobs whose reply comes", LLM(streaming)},
    {"segue_llm_tokens_total", "counter", "tokens that ended LLM jobs have used, as far as they were told", LLM(tokens)},
    {"segue_llm_retries_total", "counter", "calls to LLM providers that were made again", LLM(retries)},
    {"segue_llm_jobs_resumed_total", "counter", "LLM jobs that went on after a restart", LLM(resumed)},
    {"segue_llm_jobs_begun_total", "counter", "LLM jobs whose call was made", LLM(begun)},
    {"segue_llm_jobs_done_total", "counter", "LLM jobs that ended with a complete reply", LLM(done)},
    {"segue_llm_jobs_failed_total", "counter", "LLM jobs that failed", LLM(failed)},
    {"segue_llm_jobs_cancelled_total", "counter", "LLM jobs that were cancelled", LLM(cancelled)},
    {"segue_llm_jobs_interrupted_total", "counter", "LLM jobs whose reply broke off", LLM(interrupted)},
};

#define SUBS(member) offsetof(struct subs_counts, member)
static const struct metric of_subs[] = {
    {"segue_subscriptions", "gauge", "subscriptions of workers to streams", SUBS(subscriptions)},
    {"segue_webhooks_delivering", "gauge", "webhooks on their way", SUBS(delivering)},
    {"segue_webhooks_delivered_total", "counter", "webhooks that their target took", SUBS(delivered)},
    {"segue_webhooks_undelivered_total", "counter", "webhooks that their target did not take", SUBS(undelivered)},
};

#define APP(member) offsetof(struct app_counts, member)
static const struct metric of_app[] = {
    {"segue_commits_total", "counter", "batches accepted since the start", APP(commits)},
    {"segue_rejections_total", "counter", "batches rejected since the start", APP(rejections)},
    {"segue_retries_total", "counter", "batches that had their fate already", APP(retries)},
    {"segue_groups_total", "counter", "journal groups: barriers", APP(groups)},
    {"segue_group_bytes_total", "counter", "bytes that journal groups took", APP(group_bytes)},
    {"segue_db_commits_total", "counter", "commits of the database", APP(db_commits)},
    {"segue_seals_total", "counter", "sealings of stream bytes", APP(seals)},
    {"segue_recoveries_total", "counter", "times that the app was built again from its journal", APP(recoveries)},
    {"segue_reservations_total", "counter", "transactions that got what they read reserved after conflicts", APP(reservations)},
    {"segue_held_batches_total", "counter", "batches that waited for a reservation", APP(held)},
    {"segue_barrier_mean_microseconds", "gauge", "running mean of journal barriers", APP(barrier_us)},
    {"segue_barrier_on_thread", "gauge", "1 while the disk is waited for by a thread of the app's", APP(slow)},
    {"segue_flights_total", "counter", "waits for the disk by that thread", APP(flights)},
    {"segue_journal_live_bytes", "gauge", "bytes of the journal that are still needed", APP(journal_live_bytes)},
    {"segue_journal_disk_bytes", "gauge", "bytes of the journal on disk", APP(journal_disk_bytes)},
    {"segue_unsealed_bytes", "gauge", "stream bytes that only the journal has", APP(unsealed_bytes)},
    {"segue_pack_bytes", "gauge", "bytes of blob packs", APP(pack_bytes)},
    {"segue_live_queries", "gauge", "different live queries that are kept current", APP(live_queries)},
    {"segue_live_readers", "gauge", "readers of live queries, those of equal ones counted each", APP(live_readers)},
    {"segue_live_scanned", "gauge", "tables of live queries of which every changed row is tried, for want of an equality or a range", APP(live_scanned)},
};

static uint64_t value_at(const void *counts, const struct metric *m)
{
    uint64_t v;
    memcpy(&v, (const char *)counts + m->at, sizeof v);
    return v;
}

static void head(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void one(struct buf *out, const char *name, const char *type, const char *help, uint64_t value)
{
    head(out, name, type, help);
    buf_printf(out, "%s %llu\n", name, (unsigned long long)value);
}

// ---- sums over the loops --------------------------------------------------------------------------------------------------

// Every figure of a loop is a number that adds up.
static uint64_t sum_at(const struct survey *survey, size_t part, size_t at)
{
    uint64_t sum = 0, v;
    for (size_t i = 0; i < survey->loop_count; i++) {
        if (!survey->loops[i].answered) continue;
        memcpy(&v, (const char *)&survey->loops[i] + part + at, sizeof v);
        sum += v;
    }
    return sum;
}

static void write_sums(struct buf *out, const struct survey *survey, const struct metric *metrics, size_t n, size_t part)
{
    for (size_t i = 0; i < n; i++)
        one(out, metrics[i].name, metrics[i].type, metrics[i].help, sum_at(survey, part, metrics[i].at));
}
#define SUMS(metrics, member) metrics, sizeof metrics / sizeof metrics[0], offsetof(struct loop_figures, member)

static void write_service(struct buf *out, const struct survey *survey, uint64_t uptime_ms)
{
    uint64_t connections = 0;
    for (size_t i = 0; i < survey->loop_count; i++)
        connections += survey->loops[i].connections;
    head(out, "segue_build_info", "gauge", "the version, as a label");
    buf_printf(out, "segue_build_info{version=\"%s\"} 1\n", SEGUE_VERSION);
    head(out, "segue_uptime_seconds", "gauge", "seconds since the start");
    buf_printf(out, "segue_uptime_seconds %llu.%03u\n", (unsigned long long)(uptime_ms / 1000), (unsigned)(uptime_ms % 1000));
    one(out, "segue_connections", "gauge", "open connections", connections);
    write_sums(out, survey, SUMS(of_conns, conns));
    head(out, "segue_replies_total", "counter", "replies begun, by the first digit of their status");
    for (int class = 2; class <= 5; class ++)
        buf_printf(out, "segue_replies_total{status=\"%dxx\"} %llu\n", class,
                   (unsigned long long)sum_at(survey, offsetof(struct loop_figures, conns), offsetof(struct conns_counts, statuses[class])));
}

static void write_engines(struct buf *out, const struct survey *survey)
{
    write_sums(out, survey, SUMS(of_subs, subs));
    write_sums(out, survey, SUMS(of_llm, llm));
}

// ---- each loop, each app ----------------------------------------------------------------------------------------------------

static void write_loops(struct buf *out, const struct survey *survey)
{
    head(out, "segue_loop_busy", "gauge", "1 where a loop did not answer in time: its figures are missing everywhere");
    for (size_t i = 0; i < survey->loop_count; i++)
        buf_printf(out, "segue_loop_busy{loop=\"%u\"} %d\n", survey->loops[i].number, !survey->loops[i].answered);
    head(out, "segue_loop_cpu_seconds_total", "counter", "processor time of a loop's own thread");
    for (size_t i = 0; i < survey->loop_count; i++) {
        const struct loop_figures *f = &survey->loops[i];
        if (f->answered) buf_printf(out, "segue_loop_cpu_seconds_total{loop=\"%u\"} %llu.%06u\n", f->number, (unsigned long long)(f->cpu_us / 1000000), (unsigned)(f->cpu_us % 1000000));
    }
    head(out, "segue_loop_connections", "gauge", "open connections of a loop");
    for (size_t i = 0; i < survey->loop_count; i++)
        if (survey->loops[i].answered) buf_printf(out, "segue_loop_connections{loop=\"%u\"} %u\n", survey->loops[i].number, survey->loops[i].connections);
}

static void write_app(struct buf *out, const struct survey *survey, const struct metric *m)
{
    head(out, m->name, m->type, m->help);
    for (size_t i = 0; i < survey->app_count; i++) {
        const struct app_figures *f = &survey->apps[i];
        if (f->known) buf_printf(out, "%s{app=\"%s\"} %llu\n", m->name, f->name, (unsigned long long)value_at(&f->counts, m));
    }
}

// One family at a time with all its apps: the format wants them together. App names need no escaping.
static void write_apps(struct buf *out, const struct survey *survey)
{
    head(out, "segue_app_ready", "gauge", "1 while the app takes writes");
    for (size_t i = 0; i < survey->app_count; i++)
        buf_printf(out, "segue_app_ready{app=\"%s\"} %d\n", survey->apps[i].name, survey->apps[i].known && survey->apps[i].state == APP_READY);
    head(out, "segue_app_loop", "gauge", "the loop that serves the app");
    for (size_t i = 0; i < survey->app_count; i++)
        buf_printf(out, "segue_app_loop{app=\"%s\"} %u\n", survey->apps[i].name, survey->apps[i].loop);
    head(out, "segue_seq", "gauge", "the last commit that is shown");
    for (size_t i = 0; i < survey->app_count; i++)
        if (survey->apps[i].known) buf_printf(out, "segue_seq{app=\"%s\"} %llu\n", survey->apps[i].name, (unsigned long long)survey->apps[i].seq);
    for (size_t m = 0; m < sizeof of_app / sizeof of_app[0]; m++)
        write_app(out, survey, &of_app[m]);
}

void metrics_write(struct buf *out, const struct survey *survey, uint64_t uptime_ms)
{
    write_service(out, survey, uptime_ms);
    write_engines(out, survey);
    write_loops(out, survey);
    write_apps(out, survey);
}
