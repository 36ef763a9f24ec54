// The engine's inside. Between llm.c, llm_provider.c, llm_job.c, llm_reply.c, llm_queue.c and llm_sweep.c alone.
#ifndef SEGUE_LLM_IMPL_H
#define SEGUE_LLM_IMPL_H

#include "call.h"
#include "llm.h"

struct llm_provider {
    char name[NAME_MAX_BYTES + 1];
    char *base; // URL, without a slash at its end
    char *key;  // NULL: none
    enum llm_api api;
};

struct llm_job {
    struct submission submission; // first
    struct llm *llm;
    struct llm_job *next, *prev;
    struct app *app;
    size_t place; // of the app in llm->apps
    struct app_user user;
    struct job record;
    struct buf kept; // what the record points into
    struct llm_waiter *waiters;

    // The call, made again while nothing was shown.
    const struct llm_provider *provider;
    struct call *call;  // NULL: none, or over
    struct buf body;    // of the request
    struct buf more;    // further headers, each with a NUL behind it
    const char *type;   // of a stream for an answer that is no event stream; NULL: it has to be one
    struct buf message; // the id of a UI message
    bool direct;        // somebody waits who tries again by himself: we do not
    bool plain;         // the answer is no event stream
    struct buf answer;  // then: as much of it as an event may have
    bool has_retry_after;
    uint64_t retry_after_ms;
    uint32_t attempts;  // since the last success
    uint64_t due_ms;    // when it is to be made (again); 0: not
    bool has_slot;      // counts among the app's calls
    uint32_t status;    // of the last answer
    uint64_t asked_ms, called_ms, first_ms; // monotonic; 0: not yet, or in another process
    uint64_t looked_ms; // when its stream was last looked at

    // The reply.
    struct llm_parser *parser;
    struct llm_writer writer;
    struct buf out;      // its stored form: came, and is not yet durable
    size_t sending;      // of that, in the batch
    uint64_t out_bytes;  // of the whole reply
    bool visible;        // what a reader could see has come
    bool progress_due;   // the provider's id is known, and not yet durable
    bool progress_kept;  // it is
    char error_code[LLM_WORD_MAX];

    struct buf batch; // made, perhaps on its way
    enum { BATCH_NONE, BATCH_STEP, BATCH_END } made;
    enum job_state made_state;
    bool on_its_way;

    enum job_state ending; // 0: not yet
    struct problem why;
    bool end_told; // to the writer
    // What of the target is left to be ended with the job: less after each rejection.
    enum { END_WHOLE, END_WITHOUT_BYTES, END_WITHOUT_COLUMNS, END_CLOSE_ALONE, END_JOB_ALONE } end_level;
    bool begun, leaving;
    struct llm_farewell *farewell; // on its way; the end waits for it a little
    bool abandoned;                // it was sent
    uint64_t parting_ms;           // until then
    struct llm_job *heir; // asks again in a fork, made by the batch that ends this one
};

// What an app has of the engine's.
struct llm_app {
    struct app *app;
    size_t calls, jobs; // places taken; jobs that have not ended
    uint64_t swept;     // its recoveries + 1 when all its live jobs were known to be worked on; 0: not since
};

// A cancellation on its way to a provider.
struct llm_farewell {
    struct llm *llm;
    struct llm_job *job; // NULL: it is over
    struct llm_farewell *next;
    struct call *call;
};

struct llm {
    struct server *server;
    struct call_times times;
    uint64_t retries, retry_ms, jobs_max, tokens_day;
    struct llm_provider providers[LLM_PROVIDERS_MAX];
    size_t provider_count;
    struct llm_job *first, *last; // in the order of their making
    struct llm_farewell *farewells;
    bool stopping;
    struct llm_counts counts;
    struct llm_app *apps;
    size_t app_count;
};

// ---- llm_provider.c ----
int llm_provider_add(struct llm *l, const struct option_provider *o, struct problem *p);
void llm_providers_free(struct llm *l);
const struct llm_provider *llm_provider_find(const struct llm *l, struct span name);
// A call to base + path, with the provider's key. `options` has the rest, further headers among it; url and list are made here.
int llm_provider_call(struct call **out, struct llm *l, const struct llm_provider *provider, const char *path, enum llm_api api,
                      struct call_options *options);
// Tells the provider that nobody wants this response any more. The job is ticked when it has answered.
void llm_farewell(struct llm_job *j);
void llm_farewells_free(struct llm *l);
// Strikes out the provider's key where it stands in `text`.
void llm_key_hide(const struct llm_provider *provider, uint8_t *text, size_t n);

// ---- llm_job.c: a job's life and its batches ----
int llm_job_alloc(struct llm_job **out, struct llm *l, struct app *app, const struct job *record, struct problem *p);
void llm_job_link(struct llm_job *j); // it is in the engine's hands now
struct llm_job *llm_job_find(const struct llm *l, const struct app *app, struct uuid id);
// Decides how the job ends, once.
void llm_job_end(struct llm_job *j, enum job_state state, int err, const char *text);
void llm_job_interrupt(struct llm_job *j, int err);
// Makes the next batch, if there is something to say, and submits it.
void llm_job_tick(struct llm_job *j);
void llm_waiters_tell(struct llm_job *j);
// Ends one whose stream is closed or gone, though nothing comes that could be refused there: nobody pays for what nobody gets.
void llm_job_look(struct llm_job *j);

// ---- llm_reply.c: the call ----
// A parser, and a writer in its first state. ERR_NOMEM.
int llm_reply_begin(struct llm_job *j);
// Makes the call now; a failure ends the job.
void llm_reply_call(struct llm_job *j);
void llm_reply_drop(struct llm_job *j); // ends the call, gives back the place
// Once, for a job that ends: what the provider makes in the background without us is called off.
void llm_reply_abandon(struct llm_job *j);

// ---- llm_queue.c: who may call ----
size_t llm_app_place(struct llm *l, struct app *app); // SIZE_MAX: no memory
bool llm_slot_take(struct llm_job *j);
void llm_slot_give(struct llm_job *j);
// Begins the calls that may begin, in the order of their jobs.
void llm_queue_run(struct llm *l);

// ---- llm_sweep.c ----
bool llm_sweep_apps(struct llm *l);
void llm_sweep_again(struct llm_job *j); // somebody has to look at this app's live jobs again
// A live job that nobody works on, to be ended or resumed.
int llm_job_adopt(struct llm *l, struct app *app, struct uuid id, struct llm_job **out);

#endif
