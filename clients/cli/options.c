#include "options.h"

#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "limits.h"

static const struct cli_command commands[] = {
    {"schema push", "FILE|-", 1, 1, cmd_schema_push, "publish a schema (SQL)"},
    {"schema show", "[HASH]", 0, 1, cmd_schema_show, "print the schema, or the one of this hash (as JSON with --json)"},
    {"schema list", "", 0, 0, cmd_schema_list, "print the schemas that were published, the newest first"},
    {"app list", "", 0, 0, cmd_app_list, "list the service's apps"},
    {"app create", "NAME", 1, 1, cmd_app_create, "make an app; one that is there is fine"},
    {"app drop", "NAME", 1, 1, cmd_app_drop, "drop an app and all that is in it; its subscribers are told"},
    {"batch", "FILE|-", 1, 1, cmd_batch, "send one batch (JSON) and wait for its fate"},
    {"outbox list", "", 0, 0, cmd_outbox_list, "print the batches that wait in the outbox"},
    {"outbox send", "", 0, 0, cmd_outbox_send, "send what waits, and print the fates, which are forgotten then; the status is 1 if not all were accepted"},
    {"outbox fates", "", 0, 0, cmd_outbox_fates, "print the fates that were not seen"},
    {"outbox seen", "ID…|all", 1, 4000, cmd_outbox_seen, "forget fates that have been seen"},
    {"outbox drop", "ID…", 1, 4000, cmd_outbox_drop, "take batches out that were not sent yet"},
    {"outbox adopt", "", 0, 0, cmd_outbox_adopt, "let what waits be for the service that answers next, under new names; what it has already, it will have twice"},
    {"tx", "FILE|-", 1, 1, cmd_tx, "a transaction, a step a line: {\"query\":SQL,\"params\":[…]}, {\"row\":[TABLE,ID]}, or an operation; the end commits"},
    {"branch list", "", 0, 0, cmd_branch_list, "list the app's branches"},
    {"branch create", "NAME", 1, 1, cmd_branch_create, "make a branch; write to it with batch --branch, read it with query --branch, follow it with sub --branch"},
    {"branch diff", "NAME", 1, 1, cmd_branch_diff, "print the rows that it changes, as they were and as they are"},
    {"branch merge", "NAME", 1, 1, cmd_branch_merge, "commit all that was written to it as one batch, or as one transaction"},
    {"branch drop", "NAME", 1, 1, cmd_branch_drop, "forget it"},
    {"query", "SQL [PARAM…]", 1, 1 + QUERY_PARAMS_MAX, cmd_query,
     "run a select; each PARAM ($1, $2, …) is read as the type that it is compared with"},
    {"fate", "KEY|REPLICA COUNTER", 1, 2, cmd_fate, "print what became of a batch, by its name"},
    {"history", "TABLE ID", 2, 2, cmd_history, "print what a row has been, the newest first, and who wrote what; from the last commit, or --as-of"},
    {"diff", "FROM TO [TABLE]", 2, 3, cmd_diff, "print the rows that differ between two commits"},
    {"preview", "FILE|-", 1, 1, cmd_preview, "print what rows would be if pending batches came (JSON: rows, batches)"},
    {"sub", "", 0, 0, cmd_sub, "subscribe to queries, streams and uploads over one connection, and print what is committed as it comes"},
    {"stream create", "PATH", 1, 1, cmd_stream_create, "create a stream"},
    {"stream append", "PATH", 1, 1, cmd_stream_append, "append standard input as it comes, each piece exactly once"},
    {"stream close", "PATH", 1, 1, cmd_stream_close, "close a stream"},
    {"stream tail", "PATH", 1, 1, cmd_stream_tail, "write a stream to standard output until its end"},
    {"ask", "PROMPT|-", 1, 1, cmd_ask, "let the service ask a language model, and follow the reply into its row; Ctrl-C cancels it"},
    {"put", "FILE|DIR|-", 1, 1, cmd_put, "store a file, or a directory as a tree, and print its digest"},
    {"sync", "DIR", 1, 1, cmd_sync, "store what has changed in a directory since the last time, tell what that is, and print the tree's digest"},
    {"blobs check", "", 0, 0, cmd_blobs_check, "read and verify everything that blobs are stored in; what is damaged is named, and the status is 1"},
    {"blobs du", "", 0, 0, cmd_blobs_du, "bytes of all blobs: logical, deduplicated, stored, and garbage"},
    {"blobs pin", "DIGEST", 1, 1, cmd_blobs_pin, "keep a blob that no row names (with --tree: and its files)"},
    {"blobs unpin", "DIGEST", 1, 1, cmd_blobs_unpin, "no longer (with --tree: and its files, but for those of the trees that --keep names)"},
    {"get", "DIGEST", 1, 1, cmd_get, "read a blob, or a tree into a directory, and check that it is what its digest says"},
};
#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

enum kind { FLAG, TEXT, LIST };

struct option {
    const char *name; // --name
    char letter;      // -x, or 0
    enum kind kind;
    const char *value;    // as help shows it
    size_t offset;        // in struct cli_options
    const char *commands; // names of commands, between commas; NULL: all
    const char *help;
};
#define AT(field) offsetof(struct cli_options, field)

static const struct option options[] = {
    {"url", 0, TEXT, "URL", AT(url), NULL, "the service (SEGUE_URL, else http://127.0.0.1:7420)"},
    {"app", 0, TEXT, "NAME", AT(app), NULL, "the app (default: default)"},
    {"key", 0, TEXT, "KEY", AT(key), NULL, "the key (SEGUE_KEY, which other users of the machine cannot see)"},
    {"json", 0, FLAG, NULL, AT(json), NULL, "print for programs: JSON, one value a line"},
    {"retry", 0, TEXT, "SECONDS", AT(retry), NULL, "how long to go on trying when the service cannot be reached"},
    {"help", 'h', FLAG, NULL, AT(help), NULL, "print this help, or that of a command"},
    {"version", 0, FLAG, NULL, AT(version), NULL, "print the version"},
    {"as-of", 0, TEXT, "N", AT(as_of), ",query,history,", "the state as of commit N"},
    {"explain", 0, FLAG, NULL, AT(explain), ",query,", "print the plan and what it looked at, not the rows"},
    {"branch", 0, TEXT, "NAME", AT(branch), ",query,batch,sub,", "write to this branch, read it, or follow it"},
    {"offline", 0, FLAG, NULL, AT(offline), ",batch,", "keep it in the outbox, which `segue outbox send` sends"},
    {"tag", 0, TEXT, "TEXT", AT(tag), ",batch,", "with --offline: a word that comes back with the fate"},
    {"outbox", 0, TEXT, "DIR", AT(outbox), ",batch,outbox list,outbox send,outbox fates,outbox seen,outbox drop,outbox adopt,", "the outbox (default: one for each service and app, in ~/.local/state/segue)"},
    {"peek", 0, FLAG, NULL, AT(peek), ",outbox send,", "print the fates, but do not forget them"},
    {"at", 0, TEXT, "N", AT(at), ",branch create,", "begin at the state as of commit N (default: the last)"},
    {"live", 0, FLAG, NULL, AT(live), ",branch create,", "follow what others commit"},
    {"transaction", 0, FLAG, NULL, AT(transaction), ",branch merge,", "only if nobody else has changed the rows that it writes"},
    {"query", 0, LIST, "[NAME=]SQL", AT(queries), ",sub,", "a live query; may be given several times"},
    {"stream", 0, LIST, "[NAME=]PATH[@OFFSET]", AT(streams), ",sub,", "a stream; may be given several times"},
    {"upload", 0, LIST, "[NAME=]ID", AT(uploads), ",sub,", "an upload's progress; may be given several times"},
    {"param", 0, LIST, "[NAME.]N=VALUE", AT(params), ",sub,", "parameter $N of a live query (the first one, if not named)"},
    {"with", 0, LIST, "[NAME.]COLUMN[@OFFSET|@end]", AT(withs), ",sub,", "a stream column of a live query (the first one, if not named), whose bytes come with its rows"},
    {"cursor", 0, TEXT, "CURSOR|@FILE", AT(cursor), ",sub,", "go on after this cursor (the member `cursor` that --json prints), or the one that is kept in a file"},
    {"once", 0, FLAG, NULL, AT(once), ",sub,", "stop when the present state has been printed"},
    {"provider", 0, TEXT, "NAME", AT(provider), ",ask,", "one that the service is configured with (default: its first)"},
    {"api", 0, TEXT, "KIND", AT(api), ",ask,", "the kind of provider: chat, responses or messages (default: chat)"},
    {"model", 0, TEXT, "NAME", AT(model), ",ask,", "the provider's name of the model"},
    {"system", 0, TEXT, "TEXT", AT(system), ",ask,", "instructions that go before the prompt"},
    {"table", 0, TEXT, "NAME", AT(table), ",ask,", "the table of the reply's row (default: messages)"},
    {"column", 0, TEXT, "NAME", AT(column), ",ask,", "the stream column that the reply goes into (default: body)"},
    {"id", 0, TEXT, "ID", AT(id), ",ask,", "the id of the new row (default: the service makes one)"},
    {"row", 0, TEXT, "ID", AT(row), ",ask,", "a row that is there already (default: a new one)"},
    {"set", 0, LIST, "COLUMN=TEXT", AT(sets), ",ask,", "a column of the new row; may be given several times"},
    {"status", 0, TEXT, "COLUMN", AT(status_column), ",ask,", "a text column that tells how the reply stands"},
    {"usage", 0, TEXT, "COLUMN", AT(usage_column), ",ask,", "a jsonb column that gets the tokens used"},
    {"type", 0, TEXT, "TYPE", AT(type), ",stream create,stream append,put,",
     "the content type (append: create the stream if it is not there)"},
    {"close", 0, FLAG, NULL, AT(close), ",stream append,", "close the stream at the end of the input"},
    {"offset", 0, TEXT, "N", AT(offset), ",stream tail,", "begin at this offset (default: the beginning)"},
    {"follow", 'f', FLAG, NULL, AT(follow), ",stream tail,", "go on until the stream is closed (the default)"},
    {"no-follow", 0, FLAG, NULL, AT(no_follow), ",stream tail,", "stop at what is there now"},
    {"output", 'o', TEXT, "FILE", AT(output), ",get,sub,", "write to a file (get: it appears when it is complete, and a tree is a directory; sub: with --json); what is there of it is gone on with"},
    {"tree", 0, FLAG, NULL, AT(tree), ",get,blobs pin,blobs unpin,", "the blob is a tree, also if its type does not say so; pins: its files as well"},
    {"keep", 0, LIST, "TREE|none", AT(keeps), ",blobs unpin,", "with --tree: another tree, whose files stay pinned; may be given several times"},
    {"link", 0, TEXT, "TABLE/ID/COLUMN", AT(link), ",put,sync,", "a row that is there, whose blob column is to name it"},
    {"range", 0, TEXT, "A-B", AT(range), ",get,", "bytes A to B, both included (A- and -N as in HTTP); not checked against the digest"},
};
#define OPTION_COUNT (sizeof options / sizeof options[0])

// ---- commands --------------------------------------------------------------------------------------------------

const struct cli_command *cli_command_find(const char *const *args, size_t count, size_t *words)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        const char *name = commands[i].name, *space = strchr(name, ' ');
        size_t first = space == NULL ? strlen(name) : (size_t)(space - name);
        if (count == 0 || strlen(args[0]) != first || strncmp(args[0], name, first) != 0) continue;
        if (space != NULL && (count < 2 || strcmp(args[1], space + 1) != 0)) continue;
        *words = space == NULL ? 1 : 2;
        return &commands[i];
    }
    return NULL;
}

// The first word of commands of two.
static bool is_group(const char *word)
{
    size_t n = strlen(word);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strncmp(commands[i].name, word, n) == 0 && commands[i].name[n] == ' ') return true;
    return false;
}

// ---- reading ---------------------------------------------------------------------------------------------------

static bool is_for(const struct option *o, const struct cli_command *command)
{
    char name[32];
    if (o->commands == NULL) return true;
    if (command == NULL) return false;
    snprintf(name, sizeof name, ",%s,", command->name);
    return strstr(o->commands, name) != NULL;
}

static const struct option *find_option(struct span name, char letter)
{
    for (size_t i = 0; i < OPTION_COUNT; i++)
        if ((letter != 0 && options[i].letter == letter) || (letter == 0 && span_is(name, options[i].name))) return &options[i];
    return NULL;
}

static int set_option(struct cli_options *o, const struct option *option, const char *value)
{
    char *field = (char *)o + option->offset;
    if (option->kind == FLAG) {
        *(bool *)field = true;
    } else if (option->kind == TEXT) {
        *(const char **)field = value;
    } else {
        struct cli_list *list = (struct cli_list *)field;
        if (list->count == CLI_LIST_MAX) return cli_usage("--%s is given more than %d times", option->name, CLI_LIST_MAX);
        list->items[list->count++] = value;
    }
    return CLI_DONE;
}

// An option at argv[*i], whose value may be the next argument.
static int read_option(struct cli_options *o, const struct option **found, int argc, char **argv, int *i)
{
    const char *arg = argv[*i], *value = NULL;
    const struct option *option;
    if (arg[1] == '-') {
        const char *equals = strchr(arg, '=');
        struct span name = SPAN(arg + 2, equals != NULL ? (size_t)(equals - arg) - 2 : strlen(arg + 2));
        option = find_option(name, 0);
        value = equals != NULL ? equals + 1 : NULL;
    } else {
        option = find_option(SPAN_NONE, arg[1]);
        if (option != NULL && arg[2] != 0) value = arg + 2;
    }
    if (option == NULL) return cli_usage("there is no option %s", arg);
    *found = option;
    if (option->kind == FLAG && value != NULL) return cli_usage("--%s takes no value", option->name);
    if (option->kind != FLAG && value == NULL) {
        if (*i + 1 >= argc) return cli_usage("--%s needs a value: %s", option->name, option->value);
        value = argv[++*i];
    }
    return set_option(o, option, value);
}

// "-" is a file, and -5 is a number: neither is an option.
static bool is_option(const char *arg)
{
    return arg[0] == '-' && arg[1] != 0 && (arg[1] < '0' || arg[1] > '9') && arg[1] != '.';
}

static bool is_number(const char *s)
{
    char *end;
    double v = strtod(s, &end);
    return end != s && *end == 0 && v >= 0 && v < 1e9;
}

static int check_values(const struct cli_options *o)
{
    if (strncmp(o->url, "http://", 7) != 0 && strncmp(o->url, "https://", 8) != 0)
        return cli_usage("--url begins with http:// or https://");
    bool named = o->app[0] != 0 && strlen(o->app) <= NAME_MAX_BYTES;
    for (const char *c = o->app; *c != 0; c++)
        named = named && (strchr("-_", *c) != NULL || (*c >= '0' && *c <= '9') || ((*c | 0x20) >= 'a' && (*c | 0x20) <= 'z'));
    if (!named) return cli_usage("%s is no name of an app", o->app);
    if (o->retry != NULL && !is_number(o->retry)) return cli_usage("--retry is a number of seconds");
    if (o->follow && o->no_follow) return cli_usage("--follow and --no-follow exclude each other");
    return CLI_DONE;
}

static int check_command(struct cli_options *o, const struct cli_command *command, const struct option *const *given, size_t given_count,
                         size_t words)
{
    if (command == NULL && o->arg_count == 0) return CLI_DONE;
    bool group = command == NULL && is_group(o->args[0]);
    if (group && o->help && o->arg_count == 1) return CLI_DONE;
    if (group) return cli_usage("there is no command %s%s%s; `segue help %s` lists them", o->args[0], o->arg_count > 1 ? " " : "", o->arg_count > 1 ? o->args[1] : "", o->args[0]);
    if (command == NULL) return cli_usage("there is no command %s; `segue help` lists them", o->args[0]);
    o->args += words;
    o->arg_count -= words;
    for (size_t i = 0; i < given_count; i++)
        if (!is_for(given[i], command)) return cli_usage("--%s is no option of `segue %s`", given[i]->name, command->name);
    if (o->help) return CLI_DONE;
    if (o->arg_count < command->args_min || o->arg_count > command->args_max)
        return cli_usage("it is: segue %s%s%s", command->name, command->args[0] != 0 ? " " : "", command->args);
    return CLI_DONE;
}

int cli_options_read(struct cli_options *o, const struct cli_command **command, int argc, char **argv)
{
    static const char *args[4 * KIB];
    static const struct option *given[4 * KIB];
    size_t given_count = 0, words = 0;
    const char *url = getenv("SEGUE_URL");
    *o = (struct cli_options){
        .url = url != NULL ? url : "http://127.0.0.1:7420", .app = "default", .key = getenv("SEGUE_KEY"), .args = args};
    if (argc > (int)(sizeof args / sizeof args[0])) return cli_usage("there are too many arguments");
    bool only_args = false;
    for (int i = 1; i < argc; i++) {
        if (!only_args && strcmp(argv[i], "--") == 0) {
            only_args = true;
        } else if (only_args || !is_option(argv[i])) {
            args[o->arg_count++] = argv[i];
        } else {
            int status = read_option(o, &given[given_count], argc, argv, &i);
            if (status != CLI_DONE) return status;
            given_count++;
        }
    }
    if (o->arg_count > 0 && strcmp(args[0], "help") == 0) {
        o->help = true;
        o->args++;
        o->arg_count--;
    }
    *command = cli_command_find(o->args, o->arg_count, &words);
    int status = check_command(o, *command, given, given_count, words);
    return status != CLI_DONE ? status : check_values(o);
}

// ---- help ------------------------------------------------------------------------------------------------------

static void put_options(struct buf *out, const struct cli_command *command)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const struct option *o = &options[i];
        char left[64];
        if (command == NULL ? o->commands != NULL : o->commands == NULL || !is_for(o, command)) continue;
        snprintf(left, sizeof left, "--%s%s%s%s%c", o->name, o->value != NULL ? " " : "", o->value != NULL ? o->value : "",
                 o->letter != 0 ? ", -" : "", o->letter);
        buf_printf(out, "  %-32s %s\n", left, o->help);
    }
}

static void help_of_command(const struct cli_command *command, struct buf *out)
{
    size_t before;
    buf_printf(out, "segue %s%s%s\n  %s\n", command->name, command->args[0] != 0 ? " " : "", command->args, command->help);
    before = out->n;
    buf_put_str(out, "\nOptions:\n");
    size_t title = out->n;
    put_options(out, command);
    if (out->n == title) buf_truncate(out, before);
    buf_put_str(out, "\nOptions of every command: segue help\n");
}

static void put_commands(struct buf *out, const char *group)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        char left[64];
        size_t n = group != NULL ? strlen(group) : 0;
        if (group != NULL && (strncmp(commands[i].name, group, n) != 0 || commands[i].name[n] != ' ')) continue;
        snprintf(left, sizeof left, "%s %s", commands[i].name, commands[i].args);
        // The dots of SQL [PARAM…] are three bytes and one column.
        buf_printf(out, "  %-*s %s\n", strstr(left, "…") != NULL ? 26 : 24, left, commands[i].help);
    }
}

void cli_help(const struct cli_command *command, const char *group, struct buf *out)
{
    if (command != NULL) {
        help_of_command(command, out);
        return;
    }
    if (group == NULL) buf_put_str(out, "segue [OPTION…] COMMAND\n  speaks to Segue, the service that syncs rows, files and LLM token streams\n\n");
    buf_put_str(out, "Commands:\n");
    put_commands(out, group);
    if (group == NULL) {
        buf_put_str(out, "\nOptions:\n");
        put_options(out, NULL);
    }
    buf_put_str(out, "\nOptions of a command: segue help COMMAND\n");
    if (group == NULL) buf_put_str(out, "Exit status: 0 done, 1 refused by the service, 2 wrong usage, 3 service unreachable\n");
}
