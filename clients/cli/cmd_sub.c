// segue sub: follows queries, streams and uploads over one connection, and prints what is committed as it comes.
//
// A commit in parts is printed when its last part is here: what was collected of one that broke off is dropped, and comes again. A snapshot is printed piece by piece;
// where one breaks off before there is a cursor, the next one is begun by a reset.
#include <stdlib.h>

#include "cli.h"
#include "err.h"
#include "json_read.h"
#include "json_write.h"
#include "limits.h"
#include "sub_place.h"
#include "sub_print.h"

struct wanted {
    char name[64];
    enum segue_kind kind;
    const char *what; // SQL, path with an offset, or id
    bool live;
};

struct sub {
    struct cli *cli;
    struct wanted wanted[SUBSCRIPTIONS_MAX];
    size_t count;
    struct segue_subscription subscriptions[SUBSCRIPTIONS_MAX];
    struct segue_param params[CLI_LIST_MAX];
    struct segue_follow follows[CLI_LIST_MAX];
    struct buf out;
    struct sub_printer printer;
    struct buf cursor;      // to begin after; a string where it is not empty
    const char *place;      // the file that the cursor is kept in; NULL: none
    bool has_cursor, shown; // a cursor has come; or pieces before one
    bool welcomed;          // what a welcome has to tell was told
    int status;             // why a message was the last one
};

// ---- what is asked for -----------------------------------------------------------------------------------------

static bool is_name(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool letter = s[i] == '_' || (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z');
        if (!letter && (i == 0 || s[i] < '0' || s[i] > '9')) return false;
    }
    return n > 0;
}

static struct wanted *find_wanted(struct sub *s, struct span name)
{
    for (size_t i = 0; i < s->count; i++)
        if (span_is(name, s->wanted[i].name)) return &s->wanted[i];
    return NULL;
}

static const struct {
    const char *option;
    char letter; // of the names that are given to those without one: q1, q2 …
} kinds[] = {[SEGUE_QUERY] = {"query", 'q'}, [SEGUE_STREAM] = {"stream", 's'}, [SEGUE_UPLOAD] = {"upload", 'u'}};

// [NAME=]WHAT
static int add_wanted(struct sub *s, const char *arg, enum segue_kind kind, size_t number)
{
    char name[64];
    const char *equals = strchr(arg, '='), *what = arg;
    bool named = equals != NULL && is_name(arg, (size_t)(equals - arg));
    if (named) what = equals + 1;
    size_t n = named ? (size_t)(equals - arg) : 0;
    if (s->count == SUBSCRIPTIONS_MAX) return cli_usage("more than %d subscriptions", SUBSCRIPTIONS_MAX);
    if (n >= sizeof name) return cli_usage("the name of a subscription is longer than %zu bytes", sizeof name - 1);
    if (named)
        snprintf(name, sizeof name, "%.*s", (int)n, arg);
    else
        snprintf(name, sizeof name, "%c%zu", kinds[kind].letter, number);
    if (what[0] == 0) return cli_usage("--%s needs a value", kinds[kind].option);
    if (find_wanted(s, SPAN_STR(name)) != NULL) return cli_usage("two subscriptions are called %s", name);
    struct wanted *w = &s->wanted[s->count++];
    *w = (struct wanted){.kind = kind, .what = what};
    memcpy(w->name, name, sizeof name);
    return CLI_DONE;
}

static int add_all(struct sub *s)
{
    const struct cli_options *o = s->cli->options;
    const struct cli_list *const lists[] = {[SEGUE_QUERY] = &o->queries, [SEGUE_STREAM] = &o->streams, [SEGUE_UPLOAD] = &o->uploads};
    int status = CLI_DONE;
    for (enum segue_kind kind = SEGUE_QUERY; kind <= SEGUE_UPLOAD; kind++)
        for (size_t i = 0; i < lists[kind]->count && status == CLI_DONE; i++)
            status = add_wanted(s, lists[kind]->items[i], kind, i + 1);
    if (status == CLI_DONE && s->count == 0) return cli_usage("sub needs a --query, a --stream or an --upload");
    if (status == CLI_DONE && o->branch != NULL && o->queries.count == 0) return cli_usage("--branch is for a --query");
    if (o->once && o->cursor != NULL) return cli_usage("--once prints the present state, --cursor what came since: one of them");
    if (o->output != NULL && !o->json) return cli_usage("--output is for --json: what people read does not say where it ends");
    if (o->output != NULL && o->cursor != NULL) return cli_usage("--output goes on after the cursor in the file, --cursor after another: one of them");
    return status;
}

// Where an earlier run left off.
static int find_place(struct sub *s)
{
    const struct cli_options *o = s->cli->options;
    int status = CLI_DONE;
    if (o->output != NULL) {
        status = sub_place_open(o->output, &s->cursor);
    } else if (o->cursor != NULL && o->cursor[0] == '@') {
        s->place = o->cursor + 1;
        status = sub_place_read(s->place, &s->cursor);
    } else if (o->cursor != NULL) {
        buf_put_str(&s->cursor, o->cursor);
    }
    s->has_cursor = s->cursor.n > 0;
    if (s->has_cursor) buf_put_u8(&s->cursor, 0);
    return status == CLI_DONE && s->cursor.err != 0 ? cli_usage("the cursor is too long") : status;
}

// [NAME.]N=VALUE
static int read_param(struct sub *s, const char *arg, struct segue_param *out)
{
    const char *equals = strchr(arg, '='), *dot = strchr(arg, '.');
    if (dot != NULL && equals != NULL && dot > equals) dot = NULL;
    const char *number = dot == NULL ? arg : dot + 1;
    struct span name = dot == NULL ? SPAN_STR(s->wanted[0].name) : SPAN(arg, (size_t)(dot - arg));
    struct wanted *w = find_wanted(s, name);
    bool is_number = equals != NULL && number < equals && strspn(number, "0123456789") == (size_t)(equals - number);
    if (!is_number || equals - number > 9) return cli_usage("--param is [NAME.]N=VALUE, not %s", arg);
    if (w == NULL || w->kind != SEGUE_QUERY) return cli_usage("--param %s: there is no such query", arg);
    *out = (struct segue_param){.query = w->name, .number = (unsigned)strtoul(number, NULL, 10), .value = equals + 1};
    return CLI_DONE;
}

static int read_params(struct sub *s)
{
    const struct cli_list *params = &s->cli->options->params;
    int status = CLI_DONE;
    for (size_t i = 0; i < params->count && status == CLI_DONE; i++)
        status = read_param(s, params->items[i], &s->params[i]);
    return status;
}

// [NAME.]COLUMN[@WHERE]. A column may have a dot in its name: what stands before the first one has to be a query's.
static int read_with(struct sub *s, const char *arg, struct segue_follow *out)
{
    const char *dot = strchr(arg, '.');
    struct wanted *w = dot == NULL ? NULL : find_wanted(s, SPAN(arg, (size_t)(dot - arg)));
    const char *column = w == NULL ? arg : dot + 1;
    if (w == NULL) w = &s->wanted[0];
    if (w->kind != SEGUE_QUERY) return cli_usage("--with %s: there is no such query", arg);
    if (column[0] == 0 || column[0] == '@') return cli_usage("--with is [NAME.]COLUMN[@OFFSET|@end], not %s", arg);
    *out = (struct segue_follow){.query = w->name, .column = column};
    return CLI_DONE;
}

static int read_withs(struct sub *s)
{
    const struct cli_list *withs = &s->cli->options->withs;
    int status = CLI_DONE;
    for (size_t i = 0; i < withs->count && status == CLI_DONE; i++)
        status = read_with(s, withs->items[i], &s->follows[i]);
    return status;
}

// ---- messages --------------------------------------------------------------------------------------------------

// No message after this one is wanted.
static int stop(struct sub *s, int status)
{
    s->status = status;
    return ERR_CANCELED;
}

static int flush(struct sub *s)
{
    int err = s->out.err;
    if (err != 0) cli_fail(CLI_REFUSED, err, "a commit cannot be shown: %s", err_text(err));
    bool written = err == 0 && cli_write(buf_span(&s->out));
    buf_clear(&s->out);
    return written ? 0 : stop(s, CLI_REFUSED);
}

struct values_printer {
    struct sub *sub;
    int64_t seq;
    bool snapshot;
};

static int print_values(void *ctx, struct span name, const struct jr *values)
{
    const struct values_printer *v = ctx;
    return sub_print_values(&v->sub->printer, v->seq, name, values, v->snapshot);
}

static int print_commit(struct sub *s, const struct jr *m)
{
    const struct jr *snapshot = jr_get(m, "snapshot");
    struct values_printer of_snapshot = {s, jr_int(jr_get(m, "at"), 0), true};
    struct values_printer of_changes = {s, jr_int(jr_get(m, "to"), 0), false};
    int err = jr_each(snapshot, print_values, &of_snapshot);
    if (err == 0) err = jr_each(jr_get(m, "changes"), print_values, &of_changes);
    if (err != 0) {
        cli_fail(CLI_REFUSED, err, "a message cannot be shown: %s", err_text(err));
        return stop(s, CLI_REFUSED);
    }
    // Pieces of a snapshot are shown as they come, parts of a commit together.
    return snapshot != NULL || !jr_bool(jr_get(m, "more"), false) ? flush(s) : 0;
}

static void set_live(struct sub *s, const struct jr *names)
{
    for (size_t i = 0; i < jr_count(names); i++) {
        struct wanted *w = find_wanted(s, jr_str(jr_at(names, i)));
        if (w != NULL) w->live = true;
    }
}

static bool all_live(const struct sub *s)
{
    size_t live = 0;
    for (size_t i = 0; i < s->count; i++)
        live += s->wanted[i].live;
    return live == s->count;
}

static int take_commit(struct sub *s, const struct jr *m)
{
    int err = s->cli->options->json ? 0 : print_commit(s, m);
    set_live(s, jr_get(m, "live"));
    bool whole = !jr_bool(jr_get(m, "more"), false);
    if (err == 0 && s->cli->options->once && whole && all_live(s)) return stop(s, CLI_DONE);
    return err;
}

static void take_reset(struct sub *s, struct span reason)
{
    for (size_t i = 0; i < s->count; i++)
        s->wanted[i].live = false;
    if (s->cli->options->json) return;
    sub_print_break(&s->printer);
    buf_put_str(&s->out, "-- reset (");
    cli_put_clean(&s->out, reason);
    buf_put_str(&s->out, "): what was printed so far no longer stands; the state comes anew\n");
}

// The message as it is, on one line, with its cursor as one more member.
static void put_line(struct sub *s, struct span data, const char *cursor)
{
    struct jw w;
    for (size_t i = 0; i < data.n; i++)
        buf_put_u8(&s->out, data.p[i] == '\n' || data.p[i] == '\r' ? ' ' : data.p[i]);
    if (cursor != NULL && data.n > 2 && data.p[data.n - 1] == '}') {
        buf_truncate(&s->out, s->out.n - 1);
        buf_put_str(&s->out, ",\"cursor\":");
        jw_init(&w, &s->out);
        jw_cstr(&w, cursor);
        buf_put_u8(&s->out, '}');
    }
    buf_put_u8(&s->out, '\n');
}

// Parts of a range are held until its last one is here, so that who reads them never has a piece of one.
static int print_line(struct sub *s, struct span data, const char *cursor, const struct jr *m)
{
    bool part = jr_get(m, "changes") != NULL && jr_bool(jr_get(m, "more"), false);
    put_line(s, data, cursor);
    return part ? 0 : flush(s);
}

// Once, to whoever writes the queries, and beside the output: a connection that is made again says the same.
static void take_welcome(struct sub *s, const struct jr *m)
{
    const struct jr *all = jr_get(m, "subscriptions");
    for (size_t i = 0; i < s->count && !s->welcomed; i++)
        if (jr_bool(jr_get(jr_get(all, s->wanted[i].name), "scanned"), false))
            cli_note("scanned", "%s: no condition or index narrows which changes concern this query, so all of a table's are tried", s->wanted[i].name);
    s->welcomed = true;
}

static int take_message(struct sub *s, const struct jr *m)
{
    struct span type = jr_str(jr_get(m, "type"));
    if (span_is(type, "welcome") && !s->cli->options->json) take_welcome(s, m);
    if (span_is(type, "commit")) return take_commit(s, m);
    if (span_is(type, "reset")) take_reset(s, jr_str(jr_get(m, "reason")));
    if (span_is(type, "reset")) s->has_cursor = s->shown = false;
    return 0; // an error (which libsegue acts upon), or what a later service says to clients that know of it
}

static int on_message(void *ctx, const struct segue_message *message)
{
    struct sub *s = ctx;
    struct jr_tree *tree = NULL;
    struct problem p = PROBLEM_NONE;
    struct span data = SPAN(message->json, message->n);
    int err = 0;
    if (jr_parse(&tree, data, &p) != 0) {
        cli_fail(CLI_REFUSED, p.err, "a message of the service: %s", problem_text(&p));
        return stop(s, CLI_REFUSED);
    }
    if (s->cli->options->json) err = print_line(s, data, message->cursor, jr_root(tree));
    if (err == 0) err = take_message(s, jr_root(tree));
    if (jr_get(jr_root(tree), "snapshot") != NULL) s->shown = true;
    if (message->cursor != NULL) s->has_cursor = true;
    // What has been printed is behind: who dies before this prints it again.
    if (err == 0 && message->cursor != NULL && s->place != NULL && !sub_place_write(s->place, message->cursor)) err = stop(s, CLI_REFUSED);
    jr_free(tree);
    return err;
}

// Pieces of a snapshot have been printed, and there is nothing to come back to: it begins anew.
static void begin_anew(struct sub *s)
{
    if (s->cli->options->json) put_line(s, SPAN_LIT("{\"type\":\"reset\",\"reason\":\"cut_off\"}"), NULL);
    else take_reset(s, SPAN_LIT("cut_off"));
    s->shown = false;
    flush(s);
}

static void on_break(void *ctx, const char *why)
{
    struct sub *s = ctx;
    buf_clear(&s->out);
    if (!s->cli->options->json) cli_fail(0, ERR_UNREACHABLE, "the connection is gone (%s); trying to go on", why);
    if (s->shown && !s->has_cursor) begin_anew(s);
}

// ---- the command -----------------------------------------------------------------------------------------------

static int run(struct sub *s)
{
    struct cli *c = s->cli;
    for (size_t i = 0; i < s->count; i++)
        s->subscriptions[i] = (struct segue_subscription){
            .name = s->wanted[i].name, .what = s->wanted[i].what, .kind = s->wanted[i].kind, .branch = s->wanted[i].kind == SEGUE_QUERY ? c->options->branch : NULL};
    const struct segue_subscribe_options what = {
        .subscriptions = s->subscriptions,
        .count = s->count,
        .params = s->params,
        .param_count = c->options->params.count,
        .follows = s->follows,
        .follow_count = c->options->withs.count,
        .cursor = s->cursor.n > 0 ? (const char *)s->cursor.p : NULL,
        .on_message = on_message,
        .on_break = on_break,
        .ctx = s,
    };
    int result = segue_subscribe(c->segue, &what);
    // A place in an error is one in the query, where there is just one.
    if (result != SEGUE_CANCELED)
        return cli_ended(c, result, s->count == 1 && s->wanted[0].kind == SEGUE_QUERY ? SPAN_STR(s->wanted[0].what) : SPAN_NONE);
    sub_print_break(&s->printer);
    if (s->status == CLI_DONE && flush(s) != 0) return CLI_REFUSED;
    return s->status;
}

int cmd_sub(struct cli *c)
{
    static struct sub s;
    s.cli = c;
    buf_init(&s.out, 128 * MIB);
    buf_init(&s.cursor, 64 * KIB);
    int status = add_all(&s);
    sub_printer_init(&s.printer, &s.out, s.count == 1 && s.wanted[0].kind == SEGUE_STREAM);
    if (status == CLI_DONE) status = read_params(&s);
    if (status == CLI_DONE) status = read_withs(&s);
    if (status == CLI_DONE) status = find_place(&s);
    if (status == CLI_DONE) status = run(&s);
    sub_printer_free(&s.printer);
    buf_free(&s.out);
    buf_free(&s.cursor);
    return status;
}
