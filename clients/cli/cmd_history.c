// segue history, segue diff, segue fate, segue preview
#include <stdlib.h>

#include "cli.h"
#include "err.h"
#include "json_read.h"
#include "limits.h"

static bool parse_number(const char *text, uint64_t *out)
{
    uint64_t v = 0;
    size_t n = strlen(text);
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        v = v * 10 + (uint64_t)(text[i] - '0');
    }
    *out = v;
    return n > 0 && n <= 18;
}

static int print_answer(const struct cli *c)
{
    return cli_write(cli_answer(c)) && cli_write(SPAN_LIT("\n")) ? CLI_DONE : CLI_REFUSED;
}

// ---- one line for each version -------------------------------------------------------------------------------------

static void put_json(struct buf *out, const struct jr *v)
{
    struct buf text;
    buf_init(&text, 4 * MIB);
    if (jr_canonical(v, &text) == 0) cli_put_clean(out, buf_span(&text));
    buf_free(&text);
}

// A commit: "9  2026-11-22T10:00:00.000Z  dev  0190…/4"
static void put_commit(struct buf *out, const struct jr *v)
{
    struct span replica = jr_str(jr_get(v, "replica")), key = jr_str(jr_get(v, "key")), author = jr_str(jr_get(v, "author"));
    buf_printf(out, "%lld  %.*s", (long long)jr_int(jr_get(v, "seq"), 0), SPAN_FMT(jr_str(jr_get(v, "time"))));
    if (author.n > 0) buf_printf(out, "  %.*s", SPAN_FMT(author));
    if (replica.n > 0) buf_printf(out, "  %.*s/%lld", SPAN_FMT(replica), (long long)jr_int(jr_get(v, "counter"), 0));
    if (key.n > 0) buf_put_str(out, "  "), cli_put_clean(out, key);
    if (span_is(jr_str(jr_get(v, "mode")), "transaction")) buf_put_str(out, "  transaction");
}

static const struct jr *member(const struct jr *row, struct span name)
{
    char key[NAME_MAX_BYTES + 1];
    if (name.n > NAME_MAX_BYTES) return NULL;
    memcpy(key, name.p, name.n);
    key[name.n] = '\0';
    return jr_get(row, key);
}

static void put_version(struct buf *out, const struct jr *v)
{
    const struct jr *wrote = jr_get(v, "wrote"), *row = jr_get(v, "row");
    put_commit(out, v);
    buf_put_str(out, jr_bool(jr_get(v, "deleted"), false) ? "\n    deleted\n" : "\n");
    for (size_t i = 0; i < jr_count(wrote); i++) {
        struct span name = jr_str(jr_at(wrote, i));
        buf_printf(out, "    %.*s = ", SPAN_FMT(name));
        put_json(out, member(row, name));
        buf_put_u8(out, '\n');
    }
}

// One page; *at is where the next one begins, 0 behind the last.
static int print_versions(const struct cli *c, uint64_t *at)
{
    struct jr_tree *tree = NULL;
    struct buf out;
    int err = jr_parse(&tree, cli_answer(c), NULL);
    if (err != 0) return cli_fail(CLI_UNREACHABLE, err, "the answer is not JSON");
    const struct jr *list = jr_get(jr_root(tree), "versions");
    buf_init(&out, 64 * MIB);
    for (size_t i = 0; i < jr_count(list); i++) {
        if (c->options->json) jr_canonical(jr_at(list, i), &out), buf_put_u8(&out, '\n');
        else put_version(&out, jr_at(list, i));
    }
    *at = (uint64_t)jr_int(jr_get(jr_root(tree), "next"), 0);
    bool written = out.err == 0 && cli_write(buf_span(&out));
    jr_free(tree);
    buf_free(&out);
    return written ? CLI_DONE : CLI_REFUSED;
}

int cmd_history(struct cli *c)
{
    uint64_t at = 0;
    if (c->options->as_of != NULL && !parse_number(c->options->as_of, &at)) return cli_usage("--as-of takes the number of a commit");
    do {
        int status = cli_ended(c, segue_history(c->segue, c->options->args[0], c->options->args[1], at), SPAN_NONE);
        if (status == CLI_DONE) status = print_versions(c, &at);
        if (status != CLI_DONE) return status;
    } while (at > 0);
    return CLI_DONE;
}

// ---- differences ---------------------------------------------------------------------------------------------------

// "+ notes 0199… {…}", "- …", and of a row that changed its columns.
static void put_difference(struct buf *out, const struct jr *row)
{
    const struct jr *was = jr_get(row, "was"), *is = jr_get(row, "is"), *changed = jr_get(row, "changed");
    const char *sign = jr_type(was) == JR_NULL ? "+" : jr_type(is) == JR_NULL ? "-" : "~";
    buf_printf(out, "%s %.*s %.*s", sign, SPAN_FMT(jr_str(jr_get(row, "table"))), SPAN_FMT(jr_str(jr_get(row, "id"))));
    if (jr_count(changed) == 0) {
        buf_put_u8(out, ' ');
        put_json(out, jr_type(is) == JR_NULL ? was : is);
    }
    buf_put_u8(out, '\n');
    for (size_t i = 0; i < jr_count(changed); i++) {
        struct span name = jr_str(jr_at(changed, i));
        buf_printf(out, "    %.*s: ", SPAN_FMT(name));
        put_json(out, member(was, name));
        buf_put_str(out, " -> ");
        put_json(out, member(is, name));
        buf_put_u8(out, '\n');
    }
}

static int print_differences(const struct cli *c)
{
    struct jr_tree *tree = NULL;
    struct buf out;
    int err = jr_parse(&tree, cli_answer(c), NULL);
    if (err != 0) return cli_fail(CLI_UNREACHABLE, err, "the answer is not JSON");
    const struct jr *rows = jr_get(jr_root(tree), "rows");
    buf_init(&out, 2 * QUERY_RESULT_MAX);
    for (size_t i = 0; i < jr_count(rows); i++) {
        if (c->options->json) jr_canonical(jr_at(rows, i), &out), buf_put_u8(&out, '\n');
        else put_difference(&out, jr_at(rows, i));
    }
    bool written = out.err == 0 && cli_write(buf_span(&out));
    jr_free(tree);
    buf_free(&out);
    return written ? CLI_DONE : CLI_REFUSED;
}

int cmd_diff(struct cli *c)
{
    uint64_t from, to;
    const char *table = c->options->arg_count > 2 ? c->options->args[2] : NULL;
    if (!parse_number(c->options->args[0], &from) || !parse_number(c->options->args[1], &to))
        return cli_usage("diff takes the numbers of two commits");
    int status = cli_ended(c, segue_diff(c->segue, from, to, table), SPAN_NONE);
    return status == CLI_DONE ? print_differences(c) : status;
}

// ---- fates and previews --------------------------------------------------------------------------------------------

int cmd_fate(struct cli *c)
{
    uint64_t counter = 0;
    if (c->options->arg_count > 1 && (!parse_number(c->options->args[1], &counter) || counter == 0))
        return cli_usage("a counter is a number from 1");
    int status = cli_ended(c, segue_fate(c->segue, c->options->args[0], counter), SPAN_NONE);
    return status == CLI_DONE ? print_answer(c) : status;
}

int cmd_preview(struct cli *c)
{
    struct buf json;
    buf_init(&json, BATCH_BYTES_MAX);
    int status = cli_read(&json, c->options->args[0]);
    if (status == CLI_DONE) status = cli_ended(c, segue_preview(c->segue, (const char *)json.p, json.n), buf_span(&json));
    if (status == CLI_DONE) status = print_answer(c);
    buf_free(&json);
    return status;
}
