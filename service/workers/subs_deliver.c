// A webhook on its way: the body says which streams have something new, up to where; the same snapshot is acknowledged when the answer is
// {"done":true}. A delivery never lasts longer than the lease that began with it.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "call.h"
#include "err.h"
#include "file.h"
#include "json_read.h"
#include "json_write.h"
#include "log.h"
#include "subs_run_impl.h"
#include "webhook_sign.h"

#define BODY_MAX (4 * MIB) // of a wake: as many streams as one tells of, with the longest paths

struct delivery {
    struct subs_run *run;
    struct follow *f; // NULL: nobody waits for the outcome any more
    struct delivery *next, *prev;
    struct call *call;
    struct buf acks;   // what the body told
    struct buf answer; // as far as it is looked at
    int status;
};

static void delivery_free(struct delivery *d)
{
    if (d->f != NULL) d->f->delivery = NULL;
    if (d->prev != NULL) d->prev->next = d->next;
    else if (d->run->deliveries == d) d->run->deliveries = d->next;
    if (d->next != NULL) d->next->prev = d->prev;
    d->run->delivering--;
    call_free(d->call);
    buf_free(&d->acks);
    buf_free(&d->answer);
    free(d);
}

void delivery_detach(struct follow *f)
{
    if (f->delivery == NULL) return;
    f->delivery->f = NULL;
    f->delivery = NULL;
}

void deliveries_free(struct subs_run *r)
{
    while (r->deliveries != NULL)
        delivery_free(r->deliveries);
}

struct subs_counts subs_run_counts(const struct subs_run *r)
{
    struct subs_counts counts = r->counts;
    counts.delivering = r->delivering;
    for (size_t i = 0; i < r->app_count; i++)
        for (const struct follow *f = r->apps[i]->first; f != NULL; f = f->next)
            counts.subscriptions++;
    return counts;
}

// ---- the answer -----------------------------------------------------------------------------------------------------

static bool on_head(void *ctx, const struct call_head *head)
{
    struct delivery *d = ctx;
    d->status = head->status;
    return true;
}

// An answer that is longer says nothing that we know: the rest is not read.
static bool on_data(void *ctx, struct span piece)
{
    struct delivery *d = ctx;
    buf_put_span(&d->answer, piece);
    return d->answer.err == 0;
}

static bool says_done(const struct delivery *d)
{
    struct jr_tree *tree;
    if (d->answer.err != 0 || d->answer.n == 0 || jr_parse(&tree, buf_span(&d->answer), NULL) != 0) return false;
    bool done = jr_bool(jr_get(jr_root(tree), "done"), false);
    jr_free(tree);
    return done;
}

static void on_ended(void *ctx, const struct call_end *end)
{
    struct delivery *d = ctx;
    struct subs_run *r = d->run;
    struct follow *f = d->f;
    bool too_long = d->answer.err != 0;
    bool taken = d->status >= 200 && d->status < 300 && (end->problem.err == 0 || too_long);
    *(taken ? &r->counts.delivered : &r->counts.undelivered) += 1;
    if (f != NULL && !taken)
        log_info("webhook", "a delivery failed", LF_STR("app", app_name(f->app->app)), LF_SPAN("subscription", f->sub.id),
                 LF_UINT("generation", f->sub.generation), LF_UINT("status", (uint64_t)(end->status > 0 ? end->status : 0)), LF_ERR(end->problem.err));
    if (f != NULL) {
        f->outcome = !taken ? OUTCOME_FAILED : says_done(d) ? OUTCOME_DONE : OUTCOME_NONE;
        buf_clear(&f->acks);
        buf_put_span(&f->acks, buf_span(&d->acks));
        if (f->acks.err != 0) f->outcome = OUTCOME_FAILED;
    }
    delivery_free(d);
    if (f != NULL) follow_tick(f);
    follows_tick(r); // one more has a place
}

// ---- the request ----------------------------------------------------------------------------------------------------

static void put_body(struct follow *f, struct buf *out, struct buf *acks)
{
    const struct sub *s = &f->sub;
    char wake[SUB_WAKE_ID_TEXT];
    struct buf url;
    struct jw w;
    sub_wake_id(s->wake, wake);
    buf_init(&url, 4 * KIB);
    buf_printf(&url, "%.*s/apps/%s/v1/stream/__ds/subscriptions/%.*s/callback", SPAN_FMT(s->base), app_name(f->app->app), SPAN_FMT(s->id));
    jw_init(&w, out);
    jw_object(&w);
    jw_key(&w, "subscription_id"), jw_str(&w, s->id);
    jw_key(&w, "wake_id"), jw_str(&w, SPAN(wake, sizeof wake));
    jw_key(&w, "generation"), jw_uint(&w, s->generation);
    jw_key(&w, "streams"), jw_array(&w);
    follow_snapshot(f, &w, acks);
    jw_end(&w);
    jw_key(&w, "callback_url"), jw_str(&w, buf_span(&url));
    jw_key(&w, "callback_token"), jw_cstr(&w, f->token);
    jw_end(&w);
    if (url.err != 0 && out->err == 0) out->err = url.err;
    buf_free(&url);
}

static int make_call(struct delivery *d, struct span body)
{
    struct follow *f = d->f;
    uint64_t now = clock_wall_ms(), total = f->sub.lease_ms > now ? f->sub.lease_ms - now : 1;
    char url[SUB_URL_MAX + 1];
    struct buf signature;
    buf_init(&signature, KIB);
    buf_put_str(&signature, "Webhook-Signature: ");
    int err = webhook_sign(d->run->signer, now / 1000, body, &signature);
    buf_put_u8(&signature, 0);
    if (err == 0) err = signature.err;
    if (err == 0) {
        assert(f->sub.url.n < sizeof url);
        memcpy(url, f->sub.url.p, f->sub.url.n);
        url[f->sub.url.n] = '\0';
        if (total > WEBHOOK_MS_MAX) total = WEBHOOK_MS_MAX;
        const char *const headers[] = {"Content-Type: application/json", (const char *)signature.p};
        struct call_options options = {
            .method = "POST",
            .url = url,
            .headers = headers,
            .header_count = 2,
            .body = body,
            .times = {.connect_ms = total < WEBHOOK_CONNECT_MS ? total : WEBHOOK_CONNECT_MS, .first_ms = total, .idle_ms = total, .total_ms = total},
            .reach = server_dev(d->run->server) ? REACH_PUBLIC_OR_LOOPBACK : REACH_PUBLIC,
            .ctx = d,
            .head = on_head,
            .data = on_data,
            .ended = on_ended};
        err = call_new(&d->call, server_calls(d->run->server), &options);
    }
    buf_free(&signature);
    return err == 0 ? call_start(d->call) : err;
}

int delivery_begin(struct follow *f)
{
    struct subs_run *r = f->app->run;
    struct buf body;
    assert(f->delivery == NULL);
    if (r->delivering >= WEBHOOKS_MAX) return ERR_BUSY;
    struct delivery *d = calloc(1, sizeof *d);
    if (d == NULL) return ERR_NOMEM;
    *d = (struct delivery){.run = r, .f = f, .next = r->deliveries};
    buf_init(&d->acks, BODY_MAX);
    buf_init(&d->answer, WEBHOOK_ANSWER_MAX);
    buf_init(&body, BODY_MAX);
    if (d->next != NULL) d->next->prev = d;
    r->deliveries = d;
    r->delivering++;
    f->delivery = d;
    put_body(f, &body, &d->acks);
    int err = body.err != 0 ? body.err : d->acks.err != 0 ? d->acks.err : make_call(d, buf_span(&body));
    buf_free(&body);
    if (err != 0) delivery_free(d);
    return err;
}
