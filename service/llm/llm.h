// LLM jobs at work: calls to providers whose replies go into streams.
//
//      POST ─> [batch: row or stream, columns, job] ─durable─> begin ─> QUEUED ─a place is free─> CONNECTING ─> STREAMING ─> ENDING ─[one batch]─> over
//                                                                           └─────────────────────────^ v           └──────────^
//                                                                                               asked again, while nothing was shown
//
//      bytes:  what came while a batch was on its way goes into the next one; when LLM_BUFFER_MAX bytes wait, the provider waits, too
//      again:  refusals that pass (408, 429, 5xx, overloaded) and connections that fail, before the first byte that a reader could see,
//              at most llm-retries times, with a growing pause or the one that the provider asks for; never after
//      end:    the rest of the bytes, the close of the stream, the row's status and usage, and the job's state are one batch
//      ends:   done; failed (provider, time, target gone); cancelled (llm_cancel); interrupted (the reply broke off, or the service did)
//
// A job is durable before its call is made, and is never left alive: when an app has been opened (at the start, or again), the jobs in
// it that nobody works on are swept (llm_sweep.c): those of a provider that goes on without us are resumed behind the last event whose
// bytes are durable; those that are to be asked again are, into a fork of their stream; all others end as interrupted.
// Thread: the loop's.
#ifndef SEGUE_LLM_H
#define SEGUE_LLM_H

#include "app.h"
#include "llm_event.h"
#include "options.h"
#include "server.h"

struct llm;
struct llm_job;

// ERR_USAGE: a provider's key is not where it should be, with its name in `p`.
int llm_open(struct llm **out, struct server *server, const struct options *options, struct problem *p);
// The service stops: what runs ends as interrupted, unless the next start can resume it or ask again, and so does what still begins. Before
// app_dismiss.
void llm_stop(struct llm *l);
// Drops what is left; the loop gives back the rest. Before the apps are closed. NULL is fine.
void llm_close(struct llm *l);
// Pauses that are over, batches that could not be submitted, jobs that nobody works on. True: there may be more of those right now.
bool llm_tick(struct llm *l);

// The provider of this name, or the first one for an empty name; NULL: there is none. The text lives as long as the engine. `api`, where
// not NULL: how it is spoken to unless a job says otherwise.
const char *llm_provider(const struct llm *l, struct span name, enum llm_api *api);

// A job that is about to be made: all it needs is taken now, so that an accepted one can begin. `record` has id, identity, provider, api
// (0: the provider's), form, background, and its target: a path, or a row's column. `body` is the whole request of the provider.
// Both are copied. ERR_TOO_MANY, ERR_TOKENS_SPENT, ERR_NO_SUCH_PROVIDER, ERR_NOMEM.
int llm_job_new(struct llm_job **out, struct llm *l, struct app *app, const struct job *record, struct span body, struct problem *p);
void llm_job_free(struct llm_job *j); // one that has not begun; NULL is fine
#define LLM_MORE_HEADERS_MAX 4
// What some callers have beside: all of it is copied. Before llm_job_batch. ERR_NOMEM.
struct llm_job_more {
    const char *const *headers; // for the provider, "Name: value"
    size_t header_count;
    bool direct;         // the caller tries again by himself what fails before its first byte
    const char *type;    // LLM_FORM_RAW: of a stream that holds an answer which is no event stream; static. NULL: an event stream is wanted
    struct span message; // LLM_FORM_UI: the id of the message that this one goes on with; empty: the job's
};
int llm_job_more(struct llm_job *j, const struct llm_job_more *more);
// As which it will be made: JOB_CONNECTING, or JOB_QUEUED where others have to end first.
enum job_state llm_job_state(const struct llm_job *j);
// Appends the operations that make it: its stream, where the target is a path, and the job. What else is in the batch is the caller's.
void llm_job_batch(const struct llm_job *j, struct buf *batch);
// Its batch was accepted: makes the call as soon as it may. The engine owns it from here on.
void llm_job_begin(struct llm_job *j);

// Told once when a job is over, or the app has to be built again: look at its record then. Removed by being told.
struct llm_waiter {
    struct llm_waiter *next, **place;
    void (*over)(struct llm_waiter *w);
    // Filled while it waits: what the provider called its answer; that it refused, and said when to come again.
    char request_id[CALL_ID_MAX + 1];
    bool has_retry_after;
    uint64_t retry_after_ms;
};
void llm_waiter_remove(struct llm_waiter *w); // not waiting: fine
// Waits for the end of a live job. ERR_NO_SUCH_JOB: nobody works on one of this id.
int llm_wait(struct llm *l, struct app *app, struct uuid id, struct llm_waiter *w);
// Ends a live job as cancelled, its connection closed at once; one that is ending already goes on to its end. `w` waits for it.
// ERR_NO_SUCH_JOB, ERR_JOB_ENDED, ERR_BUSY, ERR_NOMEM: `w` does not wait.
int llm_cancel(struct llm *l, struct app *app, struct uuid id, struct llm_waiter *w);

// A call to a provider that is no job: its URL, key and times are the engine's, all else is in `options`. `path` follows the base URL.
struct call;
struct call_options;
int llm_call(struct call **out, struct llm *l, struct span provider, const char *path, struct call_options *options);
// Strikes out the provider's key in what it answered.
void llm_hide_key(const struct llm *l, struct span provider, struct buf *text);

struct llm_counts {
    uint64_t begun, done, failed, cancelled, interrupted, retries, resumed;
    uint64_t tokens; // of jobs that have ended, as far as they were told
    uint64_t calls, queued, connecting, streaming; // now
};
struct llm_counts llm_counts(const struct llm *l);

#endif
