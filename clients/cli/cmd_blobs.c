// segue blobs check, segue blobs du, segue blobs pin, segue blobs unpin
#include <string.h>

#include "cli.h"
#include "err.h"
#include "json_read.h"
#include "limits.h"

#define TEXT_MAX (4 * MIB)

static unsigned long long number(const struct jr *object, const char *name)
{
    return (unsigned long long)jr_int(jr_get(object, name), 0);
}

static bool print_answer(const struct cli *c, void (*print)(struct buf *out, const struct jr *answer), const struct jr *answer)
{
    struct buf out;
    buf_init(&out, TEXT_MAX);
    if (c->options->json) {
        buf_put_span(&out, cli_answer(c));
        buf_put_u8(&out, '\n');
    } else {
        print(&out, answer);
    }
    bool written = out.err == 0 && cli_write(buf_span(&out));
    buf_free(&out);
    return written;
}

// What is damaged is named by place and by who uses it.
static void print_check(struct buf *out, const struct jr *answer)
{
    const struct jr *damage = jr_get(answer, "damage"), *users = jr_get(answer, "users"), *index = jr_get(answer, "index");
    for (size_t i = 0; i < jr_count(index); i++) {
        const struct jr *e = jr_at(index, i);
        if (jr_get(e, "what") != NULL) buf_printf(out, "damaged: index, page %llu: %.*s\n", number(e, "page"), SPAN_FMT(jr_str(jr_get(e, "what"))));
        else buf_printf(out, "damaged: index, table %.*s, key %.*s\n", SPAN_FMT(jr_str(jr_get(e, "table"))), SPAN_FMT(jr_str(jr_get(e, "key"))));
    }
    for (size_t i = 0; i < jr_count(damage); i++) {
        const struct jr *d = jr_at(damage, i);
        buf_printf(out, "damaged: pack %llu, position %llu, chunk %.*s, %llu bytes\n", number(d, "pack"), number(d, "position"),
                   SPAN_FMT(jr_str(jr_get(d, "chunk"))), number(d, "length"));
    }
    for (size_t i = 0; i < jr_count(users); i++) {
        const struct jr *u = jr_at(users, i);
        buf_printf(out, "  in blob %.*s, bytes %llu to %llu\n", SPAN_FMT(jr_str(jr_get(u, "blob"))), number(u, "offset"),
                   number(u, "offset") + number(u, "length") - 1);
    }
    buf_printf(out, "%llu chunks, %llu bytes verified, %llu damaged, %llu wrong counts\n", number(answer, "chunks"), number(answer, "bytes"),
               number(answer, "damaged"), number(answer, "wrong_counts"));
}

static void print_usage(struct buf *out, const struct jr *answer)
{
    buf_printf(out, "blobs         %llu\n", number(answer, "blobs"));
    buf_printf(out, "logical       %llu\n", number(answer, "logical"));
    buf_printf(out, "deduplicated  %llu in %llu chunks\n", number(answer, "deduplicated"), number(answer, "chunks"));
    buf_printf(out, "stored        %llu\n", number(answer, "stored"));
    buf_printf(out, "garbage       %llu\n", number(answer, "garbage"));
}

static int ended(struct cli *c, int result, void (*print)(struct buf *out, const struct jr *answer))
{
    struct jr_tree *tree = NULL;
    int status = cli_ended(c, result, SPAN_NONE);
    if (status != CLI_DONE) return status;
    int err = jr_parse(&tree, cli_answer(c), NULL);
    if (err != 0) return cli_fail(CLI_REFUSED, err, "the service's answer cannot be read");
    const struct jr *answer = jr_root(tree);
    bool whole = number(answer, "damaged") == 0 && number(answer, "wrong_counts") == 0 && number(answer, "index_damaged") == 0;
    bool written = print_answer(c, print, answer);
    jr_free(tree);
    return written && whole ? CLI_DONE : CLI_REFUSED;
}

int cmd_blobs_check(struct cli *c)
{
    return ended(c, segue_blobs_check(c->segue), print_check);
}

int cmd_blobs_du(struct cli *c)
{
    return ended(c, segue_blobs_usage(c->segue), print_usage);
}

int cmd_blobs_pin(struct cli *c)
{
    const char *digest = c->options->args[0];
    return cli_ended(c, c->options->tree ? segue_tree_pin(c->segue, digest) : segue_blob_pin(c->segue, digest, true), SPAN_NONE);
}

// Who does not say which trees stay would let go of what they share, and not see it before it is gone.
int cmd_blobs_unpin(struct cli *c)
{
    const struct cli_options *o = c->options;
    bool none = o->keeps.count == 1 && strcmp(o->keeps.items[0], "none") == 0;
    if (!o->tree) return cli_ended(c, segue_blob_pin(c->segue, o->args[0], false), SPAN_NONE);
    if (o->keeps.count == 0) return cli_usage("--keep says which other trees stay with all their files; --keep none: no other has any of them");
    return cli_ended(c, segue_tree_unpin(c->segue, o->args[0], o->keeps.items, none ? 0 : o->keeps.count), SPAN_NONE);
}
