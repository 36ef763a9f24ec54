// The call of a job: made, made again while nothing was shown, resumed where the provider went on without us; and what comes of it.
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "err.h"
#include "file.h"
#include "json_read.h"
#include "json_write.h"
#include "llm_impl.h"
#include "uuid.h"

#define PARTING_MS 2000      // that an end waits for the provider to be told: nobody would tell it behind a restart
#define RESUMES_MAX 10       // in a row without an event between them: minutes, as a provider that is started again may need
#define PAUSE_MAX_MS 30000   // of our own choice
#define PAUSE_ASKED_MAX_MS 60000 // a provider that asks for more is not waited for

static uint64_t now_ms(void)
{
    return clock_mono_us() / 1000;
}

// ---- what comes -----------------------------------------------------------------------------------------------------

static void on_event(void *ctx, const struct llm_event *e)
{
    struct llm_job *j = ctx;
    if (e->kind == LLM_ERROR) {
        size_t n = e->code.n < sizeof j->error_code ? e->code.n : sizeof j->error_code - 1;
        if (n > 0) memcpy(j->error_code, e->code.p, n);
        j->error_code[n] = '\0';
    }
    // The beginning alone is taken back if the provider gives up right behind it.
    if (e->kind != LLM_START && e->kind != LLM_ERROR && e->kind != LLM_USAGE) {
        j->visible = true;
        if (j->first_ms == 0) j->first_ms = now_ms();
        call_first(j->call);
    }
    size_t before = j->out.n;
    if (j->record.form != LLM_FORM_RAW) j->writer.event(&j->writer, e, &j->out);
    if (j->out.err != 0) buf_truncate(&j->out, before); // half a message is none
}

// The provider goes on without us, and knows the response by its id. What is no id of theirs would be a path of somebody's choice.
static bool goes_on(const struct llm_job *j)
{
    const char *id = llm_parser_reply(j->parser)->id;
    if (!j->record.background || id[0] == '\0') return false;
    return strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == strlen(id);
}

static bool can_resume(const struct llm_job *j)
{
    return goes_on(j) && llm_parser_reply(j->parser)->has_sequence && j->record.form != LLM_FORM_UI;
}

void llm_reply_abandon(struct llm_job *j)
{
    if (j->abandoned || j->ending == 0 || j->ending == JOB_DONE || j->provider == NULL) return;
    if (!goes_on(j) || llm_parser_reply(j->parser)->ended) return;
    j->abandoned = true;
    j->parting_ms = now_ms() + PARTING_MS;
    llm_farewell(j);
}

static void check_size(struct llm_job *j)
{
    if (j->out.err != 0) llm_job_end(j, JOB_FAILED, j->out.err, "the reply cannot be kept");
    if (j->out_bytes > (j->record.form == LLM_FORM_RAW ? LLM_RAW_MAX : LLM_TEXT_MAX))
        llm_job_end(j, JOB_FAILED, ERR_TOO_LARGE, "the reply is longer than the limit");
}

// An answer that is no event stream: it is what it is.
static bool plain_data(struct llm_job *j, struct span piece)
{
    j->visible = true;
    if (j->first_ms == 0) j->first_ms = now_ms();
    call_first(j->call);
    buf_put_span(&j->out, piece);
    buf_put_span(&j->answer, piece);
    j->out_bytes += piece.n;
    check_size(j);
    if (j->ending == 0) llm_job_tick(j);
    return j->ending == 0;
}

// What a message has in one piece, a stream tells in two.
static void feed_message_end(struct llm_job *j)
{
    struct jr_tree *tree;
    struct buf event;
    struct jw w;
    if (jr_parse(&tree, buf_span(&j->answer), NULL) != 0) return;
    buf_init(&event, LLM_EVENT_MAX);
    buf_put_str(&event, "data: ");
    jw_init(&w, &event);
    jw_object(&w);
    jw_key(&w, "type"), jw_cstr(&w, "message_delta");
    jw_key(&w, "delta"), jw_object(&w);
    jw_key(&w, "stop_reason"), jr_write(jr_get(jr_root(tree), "stop_reason"), &w);
    jw_end(&w);
    jw_key(&w, "usage"), jr_write(jr_get(jr_root(tree), "usage"), &w);
    jw_end(&w);
    buf_put_str(&event, "\n\n");
    if (event.err == 0) llm_parser_feed(j->parser, buf_span(&event));
    buf_free(&event);
    jr_free(tree);
}

// Its usage, model and finish are known as those of the event that says the same. An answer too large for one keeps them to itself.
static void plain_end(struct llm_job *j)
{
    static const char *const around[][2] = {[LLM_CHAT] = {"data: ", "\n\n"},
                                            [LLM_RESPONSES] = {"data: {\"type\":\"response.completed\",\"response\":", "}\n\n"},
                                            [LLM_MESSAGES] = {"data: {\"type\":\"message_start\",\"message\":", "}\n\n"}};
    const char *const *event = around[j->record.api];
    if (j->answer.err != 0) return;
    for (size_t i = 0; i < j->answer.n; i++)
        if (j->answer.p[i] == '\n' || j->answer.p[i] == '\r') j->answer.p[i] = ' ';
    llm_parser_feed(j->parser, SPAN_STR(event[0]));
    llm_parser_feed(j->parser, buf_span(&j->answer));
    llm_parser_feed(j->parser, SPAN_STR(event[1]));
    if (j->record.api == LLM_MESSAGES) feed_message_end(j);
}

static bool on_data(void *ctx, struct span piece)
{
    struct llm_job *j = ctx;
    if (j->plain) return plain_data(j, piece);
    size_t before = j->out.n;
    bool was_resumable = can_resume(j);
    uint64_t sequence = llm_parser_reply(j->parser)->sequence;
    if (j->record.form == LLM_FORM_RAW) {
        buf_put_span(&j->out, piece);
        j->visible |= j->direct; // nothing of it is ever taken back
    }
    int err = llm_parser_feed(j->parser, piece);
    j->out_bytes += j->out.n - before;
    check_size(j);
    if (!was_resumable && can_resume(j)) j->progress_due = true;
    // An end waits for on_ended: it takes the rest of the bytes along.
    if (err != 0 || llm_parser_reply(j->parser)->ended || j->ending != 0) return false;
    if (llm_parser_reply(j->parser)->sequence != sequence) j->attempts = 0;
    llm_job_tick(j);
    return j->ending == 0;
}

static bool on_full(void *ctx)
{
    const struct llm_job *j = ctx;
    // Half an event of a raw reply, and what nobody may see yet, go into no batch: waiting for one would be for ever. They have bounds
    // of their own.
    size_t partial = j->record.form == LLM_FORM_RAW ? llm_parser_partial(j->parser) : 0;
    return j->visible && j->out.n - j->sending > LLM_BUFFER_MAX + partial;
}

// Those who wait tell it to their own clients.
static void tell_request_id(struct llm_job *j, struct span id)
{
    for (struct llm_waiter *w = j->waiters; w != NULL; w = w->next) {
        size_t n = id.n <= CALL_ID_MAX ? id.n : 0;
        if (n > 0) memcpy(w->request_id, id.p, n);
        w->request_id[n] = '\0';
    }
}

static bool on_head(void *ctx, const struct call_head *head)
{
    struct llm_job *j = ctx;
    j->status = (uint32_t)head->status;
    tell_request_id(j, head->request_id);
    if (head->status < 200 || head->status >= 300) return true; // on_ended gets the reason
    bool stream = head->type.n >= 17 && strncasecmp((const char *)head->type.p, "text/event-stream", 17) == 0;
    bool json = head->type.n >= 16 && strncasecmp((const char *)head->type.p, "application/json", 16) == 0;
    j->plain = j->type != NULL && json;
    if (j->type != NULL ? json : stream) return true;
    llm_job_end(j, JOB_FAILED, ERR_PROVIDER_MALFORMED, j->type != NULL ? "the provider's answer is not JSON" : "the provider's answer is not an event stream");
    return false;
}

// ---- again? ---------------------------------------------------------------------------------------------------------

static bool is_passing(const struct llm_job *j, const struct call_end *end)
{
    static const char *const codes[] = {"overloaded_error", "api_error", "rate_limit_error", "rate_limit_exceeded", "server_error"};
    if (end->status == 408 || end->status == 429 || end->status >= 500) return true;
    if (end->problem.err == ERR_PROVIDER_TIMEOUT && !end->sent) return true; // nobody was reached
    if (end->status != 0 && (end->status < 200 || end->status >= 300)) return false;
    if (llm_parser_problem(j->parser)->err == ERR_PROVIDER_ERROR) {
        for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
            if (strcmp(j->error_code, codes[i]) == 0) return true;
        return false;
    }
    return llm_parser_problem(j->parser)->err == 0 &&
           (end->problem.err == ERR_PROVIDER_UNREACHABLE || end->problem.err == ERR_PROVIDER_CUT || end->problem.err == 0);
}

// With a quarter more or less by chance, so that jobs that failed together do not come again together.
static uint64_t pause_ms(const struct llm_job *j, const struct call_end *end)
{
    uint64_t pause = j->llm->retry_ms << (j->attempts < 16 ? j->attempts : 16);
    if (pause > PAUSE_MAX_MS) pause = PAUSE_MAX_MS;
    pause = pause - pause / 4 + pause / 2 * uuid_new().b[15] / 255;
    return end->has_retry_after && end->retry_after_ms > pause ? end->retry_after_ms : pause;
}

static void come_again(struct llm_job *j, uint64_t pause)
{
    call_free(j->call);
    j->call = NULL;
    j->attempts++;
    j->due_ms = now_ms() + pause;
    j->llm->counts.retries++;
}

// Nothing of it was shown: all of it is forgotten.
static bool try_again(struct llm_job *j, const struct call_end *end)
{
    if (j->direct || j->visible || j->progress_kept || j->progress_due || j->ending != 0 || j->attempts >= j->llm->retries || !is_passing(j, end)) return false;
    uint64_t pause = pause_ms(j, end);
    if (pause > PAUSE_ASKED_MAX_MS || (end->has_retry_after && end->retry_after_ms > PAUSE_ASKED_MAX_MS)) return false;
    if (llm_reply_begin(j) != 0) return false;
    come_again(j, pause);
    return true;
}

// The provider went on: the rest is asked for, behind the last event that came.
static bool try_resume(struct llm_job *j, const struct call_end *end)
{
    const struct llm_reply *reply = llm_parser_reply(j->parser);
    bool broken = end->problem.err != 0 || (end->status >= 200 && end->status < 300) || end->status == 408 || end->status == 429 || end->status >= 500;
    if (!can_resume(j) || reply->ended || reply->complete || llm_parser_problem(j->parser)->err != 0 || j->ending != 0) return false;
    if (!broken || j->attempts >= RESUMES_MAX || end->problem.err == ERR_NOMEM) return false;
    // The half event behind it comes again.
    struct buf saved;
    buf_init(&saved, 32 * KIB);
    llm_parser_save(j->parser, &saved);
    size_t partial = llm_parser_partial(j->parser);
    struct llm_parser *parser = NULL;
    int err = saved.err != 0 ? saved.err : llm_parser_new(&parser, LLM_RESPONSES, on_event, j);
    if (err == 0) err = llm_parser_load(parser, buf_span(&saved));
    buf_free(&saved);
    if (err != 0) {
        llm_parser_free(parser);
        return false;
    }
    llm_parser_free(j->parser);
    j->parser = parser;
    if (j->record.form == LLM_FORM_RAW) buf_truncate(&j->out, j->out.n - (partial < j->out.n ? partial : j->out.n));
    come_again(j, pause_ms(j, end));
    return true;
}

// ---- the end --------------------------------------------------------------------------------------------------------

// The provider has the rest of a reply whose beginning is kept: however the way there ends, the reply broke off.
static bool lacks_rest(const struct llm_job *j)
{
    return j->record.background && (j->visible || j->progress_kept);
}

// A raw reply is what the provider said, also where it said no.
static void refused(struct llm_job *j, const struct call_end *end)
{
    char message[PROBLEM_TEXT_MAX], text[PROBLEM_TEXT_MAX + 32];
    size_t before = j->out.n;
    if (llm_error_message(end->body, message))
        snprintf(text, sizeof text, "status %d: %s", end->status, message);
    else
        snprintf(text, sizeof text, "the provider answered with status %d", end->status);
    if (j->record.form == LLM_FORM_RAW && !j->visible) buf_put_span(&j->out, end->body);
    llm_key_hide(j->provider, j->out.p + before, j->out.n - before);
    llm_job_end(j, lacks_rest(j) ? JOB_INTERRUPTED : JOB_FAILED, ERR_PROVIDER_REFUSED, text);
}

static void conclude(struct llm_job *j, const struct call_end *end)
{
    const struct problem *p = &end->problem, *said = llm_parser_problem(j->parser);
    if (p->err == 0 && (end->status < 200 || end->status >= 300))
        refused(j, end);
    else if (j->plain && p->err == 0)
        plain_end(j), llm_job_end(j, JOB_DONE, 0, "");
    else if (said->err != 0)
        llm_job_end(j, JOB_FAILED, said->err, problem_text(said));
    else if (llm_parser_reply(j->parser)->complete)
        llm_job_end(j, JOB_DONE, 0, "");
    else if (p->err == 0)
        llm_job_end(j, JOB_INTERRUPTED, ERR_PROVIDER_CUT, "the provider's stream ended before its reply did");
    else
        llm_job_end(j, p->err == ERR_PROVIDER_CUT || (p->err == ERR_PROVIDER_UNREACHABLE && lacks_rest(j)) ? JOB_INTERRUPTED : JOB_FAILED, p->err, problem_text(p));
}

static void on_ended(void *ctx, const struct call_end *end)
{
    struct llm_job *j = ctx;
    j->has_retry_after = end->has_retry_after;
    j->retry_after_ms = end->retry_after_ms;
    if (end->problem.err == 0) llm_parser_end(j->parser);
    // A finish reason without its [DONE] is an end, too.
    if (end->problem.err != 0 && llm_parser_reply(j->parser)->complete) llm_parser_end(j->parser);
    if (try_resume(j, end) || try_again(j, end)) {
        llm_job_tick(j);
        return;
    }
    conclude(j, end);
    llm_reply_drop(j);
    llm_job_tick(j);
    llm_queue_run(j->llm);
}

// ---- calling --------------------------------------------------------------------------------------------------------

int llm_reply_begin(struct llm_job *j)
{
    llm_parser_free(j->parser);
    j->parser = NULL;
    j->error_code[0] = '\0';
    buf_clear(&j->out);
    j->out_bytes = 0;
    llm_writer_free(&j->writer);
    int err = llm_writer_init(&j->writer, (enum llm_form)j->record.form, j->record.id);
    if (err == 0 && j->record.form == LLM_FORM_UI) llm_writer_ui_name(&j->writer, buf_span(&j->message));
    return err == 0 ? llm_parser_new(&j->parser, (enum llm_api)j->record.api, on_event, j) : err;
}

static int call_make(struct llm_job *j)
{
    static const char *const paths[] = {[LLM_CHAT] = "/chat/completions", [LLM_RESPONSES] = "/responses", [LLM_MESSAGES] = "/messages"};
    const struct llm_reply *reply = llm_parser_reply(j->parser);
    bool resume = can_resume(j);
    char path[LLM_WORD_MAX + 80];
    struct call_times times = j->llm->times;
    uint64_t used = now_ms() - j->called_ms; // the limit is for all calls of the job together
    times.total_ms = used < times.total_ms ? times.total_ms - used : 1;
    if (j->type != NULL) times.first_ms = times.total_ms; // an answer in one piece begins when all of it is made
    if (resume)
        snprintf(path, sizeof path, "/responses/%s?stream=true&starting_after=%llu", reply->id, (unsigned long long)reply->sequence);
    else
        snprintf(path, sizeof path, "%s", paths[j->record.api]);
    const char *headers[LLM_MORE_HEADERS_MAX];
    size_t n = 0;
    for (size_t at = 0; at < j->more.n; at += strlen((const char *)j->more.p + at) + 1)
        headers[n++] = (const char *)j->more.p + at;
    struct call_options options = {.method = resume ? "GET" : "POST",
                                   .headers = headers,
                                   .header_count = n,
                                   .body = resume ? SPAN_NONE : buf_span(&j->body),
                                   .times = times,
                                   .tells_first = true,
                                   .ctx = j,
                                   .head = on_head,
                                   .data = on_data,
                                   .full = on_full,
                                   .ended = on_ended};
    int err = llm_provider_call(&j->call, j->llm, j->provider, path, (enum llm_api)j->record.api, &options);
    if (err == 0) err = call_start(j->call);
    return err;
}

void llm_reply_call(struct llm_job *j)
{
    assert(j->call == NULL && j->has_slot);
    j->due_ms = 0;
    if (j->called_ms == 0) j->called_ms = now_ms();
    if (call_make(j) == 0) return;
    llm_job_end(j, JOB_FAILED, ERR_NOMEM, "the call could not be made");
    llm_reply_drop(j);
}

void llm_reply_drop(struct llm_job *j)
{
    llm_slot_give(j);
    call_free(j->call);
    j->call = NULL;
    j->due_ms = 0;
}
