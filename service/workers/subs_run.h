// Subscriptions at work: who has something new is woken, by webhook or by a message in its wake stream; leases that are over are ended;
// deliveries that failed are tried again when their time has come.
//
//      streams_observe ─> changed paths ─> those that they match: pending ─> IDLE: [wake] ─durable─┬─ pull-wake: its workers claim
//                                                                                                   └─ webhook: deliver
//      deliver ─> 2xx {"done":true}: [ack of what was told]      ─> 2xx: the callback or the lease's end goes on
//              └> anything else, or nothing: [retry] ─ 1 to 60 s ─> [attempt] ─> deliver
//
// Each [step] is a batch, so that a crash loses none, and is fenced by the wake that it means. In memory is only what can be found again:
// which streams have changed. After a start, and where more changed than is kept, all streams are looked at, some at a time.
// Thread: the loop's.
#ifndef SEGUE_SUBS_RUN_H
#define SEGUE_SUBS_RUN_H

#include "app.h"
#include "options.h"
#include "server.h"

struct subs_run;
struct webhook_signer;

#define SUB_WAKE_ID_TEXT (2 + UUID_TEXT)

int subs_run_open(struct subs_run **out, struct server *server, struct problem *p);
// No new wake, no new delivery. Before app_dismiss.
void subs_run_stop(struct subs_run *r);
// Before the calls are closed. NULL is fine.
void subs_run_close(struct subs_run *r);
// Takes up apps that were opened, goes on looking at streams.
void subs_run_tick(struct subs_run *r);
// A group of this app was published and answered.
void subs_run_visible(struct subs_run *r, struct app *app);

const struct webhook_signer *subs_run_signer(const struct subs_run *r);

struct subs_counts {
    uint64_t delivered, undelivered;    // webhooks whose target took them, or did not
    uint64_t delivering, subscriptions; // now
};
struct subs_counts subs_run_counts(const struct subs_run *r);

// A subscription is about to be made: from now on changes are heard. ERR_BUSY, ERR_NOMEM.
int subs_run_expect(struct subs_run *r, struct app *app);
// A step of this subscription was accepted: it is looked at again, now.
void subs_run_changed(struct subs_run *r, struct app *app, struct span id);

// A stream with something new for it, to live until the next call here: false, there is none.
bool subs_run_pending(struct subs_run *r, struct app *app, struct span id, struct span *path);
// Appends the elements of "streams" of a wake or a claim (with their commas); with `acks`, what acknowledges all of them, as in a sub_op.
struct jw;
void subs_run_snapshot(struct subs_run *r, struct app *app, struct span id, struct jw *w, struct buf *acks);

// One element of "streams"; `pending`: with what a wake tells beside the cursor.
void sub_stream_json(struct jw *w, struct span path, const struct sub_cursor *c, bool pending);
// "w_…", without a terminator.
void sub_wake_id(struct uuid wake, char text[SUB_WAKE_ID_TEXT]);
// A fresh token, and what is kept of it.
#define SUB_TOKEN_MAX 65
struct sha256 sub_token_new(char token[SUB_TOKEN_MAX]);
struct sha256 sub_token_hash(struct span token);

#endif
