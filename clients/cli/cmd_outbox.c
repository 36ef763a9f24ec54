// segue batch --offline, and segue outbox: batches that are kept on this machine until the service has told their fates.
#include <stdlib.h>

#include "cli.h"
#include "err.h"
#include "file.h"
#include "json_write.h"
#include "limits.h"

static int open_outbox(struct cli *c, struct segue_outbox **out)
{
    const struct segue_outbox_options options = {.path = c->options->outbox};
    return cli_ended(c, segue_outbox_open(c->segue, &options, out), SPAN_NONE);
}

// ---- entries ---------------------------------------------------------------------------------------------------

static const char *const fates[] = {"waiting", "accepted", "rejected", "unsendable", "expired"};

static void put_json(struct buf *out, const struct segue_outbox_entry *e)
{
    struct jw w;
    jw_init(&w, out);
    jw_object(&w);
    jw_key(&w, "id"), jw_uint(&w, e->id);
    jw_key(&w, "fate"), jw_cstr(&w, fates[e->fate]);
    if (e->tag[0] != 0) jw_key(&w, "tag"), jw_cstr(&w, e->tag);
    jw_key(&w, "made"), jw_time_ms(&w, (int64_t)e->made_ms);
    if (e->counter != 0) jw_key(&w, "replica"), jw_cstr(&w, e->replica), jw_key(&w, "counter"), jw_uint(&w, e->counter);
    jw_key(&w, e->fate == SEGUE_WAITING ? "batch" : "answer");
    if (e->fate != SEGUE_WAITING) {
        jw_raw(&w, SPAN(e->json, e->n));
        jw_end(&w);
    } else {
        // Its members are kept as they came, over several lines maybe.
        buf_put_str(out, "{");
        for (size_t i = 0; i < e->n; i++)
            buf_put_u8(out, (uint8_t)(e->json[i] == '\n' || e->json[i] == '\r' ? ' ' : e->json[i]));
        buf_put_str(out, "}}");
    }
    buf_put_u8(out, '\n');
}

static void put_line(struct buf *out, const struct segue_outbox_entry *e)
{
    char time[TIME_TEXT];
    time_format(time, (int64_t)e->made_ms);
    buf_printf(out, "%llu  %.*s  ", (unsigned long long)e->id, TIME_TEXT, time);
    if (e->tag[0] != 0) cli_put_clean(out, SPAN_STR(e->tag)), buf_put_str(out, "  ");
    buf_put_str(out, fates[e->fate]);
    if (e->fate == SEGUE_ACCEPTED) buf_printf(out, ", seq %llu", (unsigned long long)e->seq);
    if (e->fate == SEGUE_WAITING) buf_printf(out, ", %zu bytes%s", e->n, e->counter != 0 ? ", may have been sent" : "");
    if (e->fate > SEGUE_ACCEPTED) {
        buf_printf(out, ", %s: ", e->code);
        cli_put_clean(out, SPAN_STR(e->detail));
        if (e->position >= 0) buf_printf(out, " (operation %lld)", (long long)e->position);
    }
    buf_put_u8(out, '\n');
}

static bool print_entry(const struct cli *c, const struct segue_outbox_entry *e)
{
    struct buf out;
    buf_init(&out, 4 * BATCH_BYTES_MAX);
    if (c->options->json) put_json(&out, e);
    else put_line(&out, e);
    bool written = out.err == 0 && cli_write(buf_span(&out));
    buf_free(&out);
    return written;
}

// ---- commands --------------------------------------------------------------------------------------------------

int cli_put_offline(struct cli *c, struct span batch)
{
    struct segue_outbox *o;
    uint64_t id;
    char line[64];
    int status = open_outbox(c, &o);
    if (status != CLI_DONE) return status;
    const struct segue_outbox_batch what = {.json = (const char *)batch.p, .n = batch.n, .tag = c->options->tag};
    status = cli_ended(c, segue_outbox_put(o, &what, &id), batch);
    segue_outbox_close(o);
    if (status != CLI_DONE) return status;
    snprintf(line, sizeof line, c->options->json ? "{\"id\":%llu}\n" : "kept, %llu\n", (unsigned long long)id);
    return cli_write(SPAN_STR(line)) ? CLI_DONE : CLI_REFUSED;
}

typedef int next_entry(struct segue_outbox *o, uint64_t after, struct segue_outbox_entry *e);

static int print_all(struct cli *c, next_entry *next)
{
    struct segue_outbox *o;
    struct segue_outbox_entry e = {0};
    int status = open_outbox(c, &o);
    if (status != CLI_DONE) return status;
    for (;;) {
        status = cli_ended(c, next(o, e.id, &e), SPAN_NONE);
        if (status != CLI_DONE || e.id == 0) break;
        if (!print_entry(c, &e)) {
            status = CLI_REFUSED;
            break;
        }
    }
    segue_outbox_close(o);
    return status;
}

int cmd_outbox_list(struct cli *c)
{
    return print_all(c, segue_outbox_waiting);
}

int cmd_outbox_fates(struct cli *c)
{
    return print_all(c, segue_outbox_fate);
}

struct sending {
    struct cli *cli;
    struct segue_outbox *outbox;
    bool refused; // one was
    bool failed;  // to be printed or forgotten
};

// Forgotten once it has been written: who reads it has it then.
static bool show(struct sending *s, const struct segue_outbox_entry *e)
{
    uint64_t id = e->id;
    if (e->fate != SEGUE_ACCEPTED) s->refused = true;
    s->failed = !print_entry(s->cli, e);
    if (!s->failed && !s->cli->options->peek) s->failed = cli_ended(s->cli, segue_outbox_seen(s->outbox, id), SPAN_NONE) != CLI_DONE;
    return !s->failed;
}

static int on_fate(void *ctx, const struct segue_outbox_entry *e)
{
    return show(ctx, e) ? 0 : -1;
}

// What an earlier run was told and did not show.
static int show_old(struct sending *s)
{
    struct segue_outbox_entry e = {0};
    for (uint64_t after = 0;; after = e.id) {
        int status = cli_ended(s->cli, segue_outbox_fate(s->outbox, after, &e), SPAN_NONE);
        if (status != CLI_DONE || e.id == 0) return status;
        if (!show(s, &e)) return CLI_REFUSED;
    }
}

int cmd_outbox_send(struct cli *c)
{
    struct sending s = {.cli = c};
    int status = open_outbox(c, &s.outbox);
    if (status != CLI_DONE) return status;
    cli_catch_signals();
    status = show_old(&s);
    if (status == CLI_DONE) {
        int result = segue_outbox_send(s.outbox, &(struct segue_outbox_send_options){.on_fate = on_fate, .ctx = &s});
        status = s.failed ? CLI_REFUSED : cli_ended(c, result, SPAN_NONE);
        if (status != CLI_DONE && strcmp(segue_error(c->segue)->code, "other_journal") == 0)
            cli_note("outbox", "nothing was sent; `segue outbox adopt` lets this service have what waits, `segue outbox drop` forgets it");
    }
    segue_outbox_close(s.outbox);
    return status == CLI_DONE && s.refused ? CLI_REFUSED : status;
}

static bool read_id(const char *arg, uint64_t *id)
{
    char *end;
    *id = strtoull(arg, &end, 10);
    return arg[0] >= '0' && arg[0] <= '9' && *end == 0;
}

static int for_each_id(struct cli *c, int (*act)(struct segue_outbox *o, uint64_t id))
{
    struct segue_outbox *o;
    uint64_t id;
    for (size_t i = 0; i < c->options->arg_count; i++)
        if (!read_id(c->options->args[i], &id)) return cli_usage("%s is no number of a batch", c->options->args[i]);
    int status = open_outbox(c, &o);
    if (status != CLI_DONE) return status;
    for (size_t i = 0; i < c->options->arg_count && status == CLI_DONE; i++) {
        read_id(c->options->args[i], &id);
        status = cli_ended(c, act(o, id), SPAN_NONE);
    }
    segue_outbox_close(o);
    return status;
}

static int forget_all(struct cli *c)
{
    struct segue_outbox *o;
    struct segue_outbox_entry e = {0};
    int status = open_outbox(c, &o);
    if (status != CLI_DONE) return status;
    do {
        status = cli_ended(c, segue_outbox_fate(o, 0, &e), SPAN_NONE);
        if (status == CLI_DONE && e.id != 0) status = cli_ended(c, segue_outbox_seen(o, e.id), SPAN_NONE);
    } while (status == CLI_DONE && e.id != 0);
    segue_outbox_close(o);
    return status;
}

int cmd_outbox_seen(struct cli *c)
{
    bool all = c->options->arg_count == 1 && strcmp(c->options->args[0], "all") == 0;
    return all ? forget_all(c) : for_each_id(c, segue_outbox_seen);
}

int cmd_outbox_drop(struct cli *c)
{
    return for_each_id(c, segue_outbox_drop);
}

int cmd_outbox_adopt(struct cli *c)
{
    struct segue_outbox *o;
    int status = open_outbox(c, &o);
    if (status != CLI_DONE) return status;
    status = cli_ended(c, segue_outbox_adopt(o), SPAN_NONE);
    segue_outbox_close(o);
    return status;
}
