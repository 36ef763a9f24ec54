#include "metrics.h"

#include <stddef.h>

#include "llm.h"
#include "server.h"
#include "subs_run.h"

struct metric {
    const char *name, *type, *help;
    size_t at; // of a uint64_t in its struct
};

#define CONNS(member) offsetof(struct conns_counts, member)
static const struct metric of_conns[] = {
    {"segue_connections_accepted_total", "counter", "connections taken", CONNS(accepted)},
    {"segue_connections_refused_total", "counter", "connections beyond the limit", CONNS(refused)},
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

static void write_service(struct buf *out, struct server *s)
{
    const struct conns_counts *counts = conns_counts(server_conns(s));
    head(out, "segue_build_info", "gauge", "the version, as a label");
    buf_printf(out, "segue_build_info{version=\"%s\"} 1\n", SEGUE_VERSION);
    head(out, "segue_uptime_seconds", "gauge", "seconds since the start");
    buf_printf(out, "segue_uptime_seconds %llu.%03u\n", (unsigned long long)(server_uptime_ms(s) / 1000),
               (unsigned)(server_uptime_ms(s) % 1000));
    one(out, "segue_connections", "gauge", "open connections", conns_count(server_conns(s)));
    for (size_t i = 0; i < sizeof of_conns / sizeof of_conns[0]; i++)
        one(out, of_conns[i].name, of_conns[i].type, of_conns[i].help, value_at(counts, &of_conns[i]));
    head(out, "segue_replies_total", "counter", "replies begun, by the first digit of their status");
    for (int class = 2; class <= 5; class ++)
        buf_printf(out, "segue_replies_total{status=\"%dxx\"} %llu\n", class, (unsigned long long)counts->statuses[class]);
}

static void write_engines(struct buf *out, struct server *s)
{
    struct llm_counts counts = llm_counts(server_llm(s));
    struct subs_counts subs = subs_run_counts(server_subs(s));
    for (size_t i = 0; i < sizeof of_subs / sizeof of_subs[0]; i++)
        one(out, of_subs[i].name, of_subs[i].type, of_subs[i].help, value_at(&subs, &of_subs[i]));
    for (size_t i = 0; i < sizeof of_llm / sizeof of_llm[0]; i++)
        one(out, of_llm[i].name, of_llm[i].type, of_llm[i].help, value_at(&counts, &of_llm[i]));
}

// One family at a time with all its apps: the format wants them together. App names need no escaping.
static void write_apps(struct buf *out, struct server *s)
{
    struct app *app;
    head(out, "segue_app_ready", "gauge", "1 while the app takes writes");
    for (size_t i = 0; (app = server_app_at(s, i)) != NULL; i++)
        buf_printf(out, "segue_app_ready{app=\"%s\"} %d\n", app_name(app), app_state(app) == APP_READY);
    head(out, "segue_seq", "gauge", "the last commit that is shown");
    for (size_t i = 0; (app = server_app_at(s, i)) != NULL; i++)
        buf_printf(out, "segue_seq{app=\"%s\"} %llu\n", app_name(app), (unsigned long long)app_visible(app));
    for (size_t m = 0; m < sizeof of_app / sizeof of_app[0]; m++) {
        head(out, of_app[m].name, of_app[m].type, of_app[m].help);
        for (size_t i = 0; (app = server_app_at(s, i)) != NULL; i++) {
            struct app_counts counts = app_counts(app);
            buf_printf(out, "%s{app=\"%s\"} %llu\n", of_app[m].name, app_name(app), (unsigned long long)value_at(&counts, &of_app[m]));
        }
    }
}

void metrics_write(struct buf *out, struct server *s)
{
    write_service(out, s);
    write_engines(out, s);
    write_apps(out, s);
}
