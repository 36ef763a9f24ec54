// segue ask: the service asks a language model, the reply goes into a row, and is written here as it comes. The job has an id of our
// making, so that a request whose answer was lost can be sent again without asking twice; and it goes on without us: only Ctrl-C ends it.
#include "cli.h"
#include "err.h"
#include "json_read.h"
#include "json_write.h"
#include "limits.h"

struct ask {
    struct cli *cli;
    char job[37];
    struct buf stream; // that the reply goes into
};

// ---- the job ---------------------------------------------------------------------------------------------------------

static void put_message(struct jw *j, const char *role, struct span content)
{
    jw_object(j);
    jw_key(j, "role"), jw_cstr(j, role);
    jw_key(j, "content"), jw_str(j, content);
    jw_end(j);
}

static void put_name(struct jw *j, const char *key, const char *value)
{
    if (value != NULL) jw_key(j, key), jw_cstr(j, value);
}

#define TOKENS_MAX 4096 // of an answer, in the one format that has to be told

static bool speaks(const struct cli_options *o, const char *api)
{
    return o->api != NULL && strcmp(o->api, api) == 0;
}

// The same question in each of the formats.
static void put_request(struct jw *j, const struct cli_options *o, struct span prompt)
{
    bool responses = speaks(o, "responses"), messages = speaks(o, "messages");
    jw_key(j, "request"), jw_object(j);
    put_name(j, "model", o->model);
    if (responses) put_name(j, "instructions", o->system);
    if (messages) put_name(j, "system", o->system);
    if (messages) jw_key(j, "max_tokens"), jw_int(j, TOKENS_MAX);
    jw_key(j, responses ? "input" : "messages"), jw_array(j);
    if (!responses && !messages && o->system != NULL) put_message(j, "system", SPAN_STR(o->system));
    put_message(j, "user", prompt);
    jw_end(j);
    jw_end(j);
}

static int put_insert(struct jw *j, const struct cli_options *o)
{
    jw_key(j, "insert"), jw_object(j);
    for (size_t i = 0; i < o->sets.count; i++) {
        const char *set = o->sets.items[i], *equals = strchr(set, '=');
        if (equals == NULL || equals == set) return cli_usage("--set is COLUMN=TEXT");
        jw_key_span(j, SPAN(set, (size_t)(equals - set)));
        jw_cstr(j, equals + 1);
    }
    jw_end(j);
    return CLI_DONE;
}

static int put_job(const struct ask *a, struct span prompt, struct buf *body)
{
    const struct cli_options *o = a->cli->options;
    struct jw j;
    jw_init(&j, body);
    jw_object(&j);
    put_name(&j, "job", a->job);
    put_name(&j, "provider", o->provider);
    put_name(&j, "api", o->api);
    put_request(&j, o, prompt);
    jw_key(&j, "target"), jw_object(&j);
    put_name(&j, "table", o->table != NULL ? o->table : "messages");
    put_name(&j, "column", o->column != NULL ? o->column : "body");
    put_name(&j, "id", o->row != NULL ? o->row : o->id);
    jw_end(&j);
    put_name(&j, "status", o->status_column);
    put_name(&j, "usage", o->usage_column);
    int status = o->row == NULL ? put_insert(&j, o) : CLI_DONE;
    if (status != CLI_DONE) return status;
    jw_end(&j);
    return body->err == 0 ? CLI_DONE : cli_fail(CLI_USAGE, body->err, "the prompt is too long");
}

// Keeps what the answer says of the job's stream.
static int take_made(struct ask *a)
{
    struct jr_tree *tree = NULL;
    if (jr_parse(&tree, cli_answer(a->cli), NULL) == 0) buf_put_span(&a->stream, jr_str(jr_get(jr_root(tree), "stream")));
    jr_free(tree);
    if (a->stream.n > 0 && a->stream.err == 0) return CLI_DONE;
    return cli_fail(CLI_REFUSED, ERR_INTERNAL, "the service did not say where the reply goes");
}

static int make(struct ask *a, struct span prompt)
{
    struct buf body;
    buf_init(&body, LLM_REQUEST_MAX);
    int status = put_job(a, prompt, &body);
    if (status == CLI_DONE) status = cli_ended(a->cli, segue_job_make(a->cli->segue, (const char *)body.p, body.n), SPAN_NONE);
    if (status == CLI_DONE) status = take_made(a);
    buf_free(&body);
    return status;
}

// ---- its end ---------------------------------------------------------------------------------------------------------

// The stream is closed, and with it the job has ended: one batch did both. Says how.
static int tell_end(struct ask *a)
{
    struct cli *c = a->cli;
    struct jr_tree *tree = NULL;
    if (c->options->json) {
        bool written = cli_write(cli_answer(c)) && cli_write(SPAN_LIT("\n"));
        if (!written) return CLI_REFUSED;
    }
    if (jr_parse(&tree, cli_answer(c), NULL) != 0) return cli_fail(CLI_REFUSED, ERR_INTERNAL, "the service's answer is not JSON");
    const struct jr *job = jr_root(tree), *error = jr_get(job, "error");
    struct span state = jr_str(jr_get(job, "state")), code = jr_str(jr_get(error, "code"));
    int status = CLI_DONE;
    if (!span_is(state, "done")) {
        char wire[64];
        snprintf(wire, sizeof wire, "%.*s", SPAN_FMT(span_sub(code, 0, sizeof wire - 1)));
        status = cli_fail(CLI_REFUSED, err_from_wire(wire), "the reply is %.*s: %.*s", SPAN_FMT(state),
                          SPAN_FMT(jr_str(jr_get(error, "detail"))));
    }
    jr_free(tree);
    return status;
}

static int follow(struct ask *a)
{
    struct cli *c = a->cli;
    char stream[STREAM_PATH_MAX + 1];
    snprintf(stream, sizeof stream, "%.*s", SPAN_FMT(buf_span(&a->stream)));
    // With --json there is one value: the job, when it is over.
    const struct segue_tail_options what = {.path = stream, .follow = true, .write = c->options->json ? NULL : cli_take_bytes};
    int result = segue_stream_tail(c->segue, &what);
    if (result != SEGUE_OK && !cli_interrupted) return cli_ended(c, result, SPAN_NONE);
    result = cli_interrupted ? segue_job_cancel(c->segue, a->job) : segue_job_get(c->segue, a->job);
    int status = cli_ended(c, result, SPAN_NONE);
    if (!c->options->json && status == CLI_DONE && !cli_write(SPAN_LIT("\n"))) status = CLI_REFUSED;
    return status == CLI_DONE ? tell_end(a) : status;
}

static int read_prompt(const struct cli_options *o, struct buf *prompt)
{
    if (strcmp(o->args[0], "-") == 0) return cli_read(prompt, "-");
    buf_put_str(prompt, o->args[0]);
    return prompt->err == 0 ? CLI_DONE : cli_usage("the prompt is too long");
}

int cmd_ask(struct cli *c)
{
    struct ask a = {.cli = c};
    struct buf prompt;
    buf_init(&prompt, LLM_REQUEST_MAX);
    buf_init(&a.stream, STREAM_PATH_MAX);
    segue_id(a.job);
    int status = c->options->row != NULL && (c->options->sets.count > 0 || c->options->id != NULL)
                     ? cli_usage("--set and --id are for a new row")
                     : read_prompt(c->options, &prompt);
    if (status == CLI_DONE) {
        cli_catch_signals();
        status = make(&a, buf_span(&prompt));
    }
    if (status == CLI_DONE) status = follow(&a);
    buf_free(&prompt);
    buf_free(&a.stream);
    return status;
}
