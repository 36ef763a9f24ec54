// segue batch: one batch as it is written, with a name if it has none, so that it may be repeated.
#include "cli.h"
#include "err.h"
#include "json_read.h"
#include "limits.h"
#include "uuid.h"

static bool print_fate(const struct cli *c)
{
    struct jr_tree *tree = NULL;
    struct buf out;
    buf_init(&out, 2 * BATCH_BYTES_MAX);
    if (!c->options->json && jr_parse(&tree, http_body(c->http), NULL) == 0) {
        const struct jr *ids = jr_get(jr_root(tree), "ids");
        buf_printf(&out, "%.*s, seq %lld\n", SPAN_FMT(jr_str(jr_get(jr_root(tree), "fate"))),
                   (long long)jr_int(jr_get(jr_root(tree), "seq"), 0));
        for (size_t i = 0; i < jr_count(ids); i++)
            if (jr_type(jr_at(ids, i)) == JR_STRING) buf_printf(&out, "  %zu  %.*s\n", i, SPAN_FMT(jr_str(jr_at(ids, i))));
    } else {
        buf_put_span(&out, http_body(c->http));
        buf_put_u8(&out, '\n');
    }
    bool written = cli_write(buf_span(&out));
    jr_free(tree);
    buf_free(&out);
    return written;
}

// The body is sent as it is: only whether it names itself is looked at. What is wrong with it the service says better.
static bool names_itself(struct span body)
{
    struct jr_tree *tree = NULL;
    if (jr_parse(&tree, body, NULL) != 0) return false;
    bool named = jr_get(jr_root(tree), "replica") != NULL || jr_get(jr_root(tree), "key") != NULL;
    jr_free(tree);
    return named;
}

int cmd_batch(struct cli *c)
{
    char key[64], id[UUID_TEXT];
    struct buf body;
    buf_init(&body, BATCH_BYTES_MAX);
    int status = cli_read(&body, c->options->args[0]);
    if (status == CLI_DONE) {
        uuid_format(uuid_new(), id);
        snprintf(key, sizeof key, "Idempotency-Key: %.36s", id);
        const struct http_request request = {
            .method = "POST",
            .path = "batch",
            .headers = {"Content-Type: application/json", names_itself(buf_span(&body)) ? NULL : key},
            .has_body = true,
            .body = buf_span(&body),
        };
        // A problem's position is an operation's index here, or a byte of a body that is no JSON.
        status = cli_call(c, &request, SPAN_NONE);
    }
    if (status == CLI_DONE && !print_fate(c)) status = CLI_REFUSED;
    buf_free(&body);
    return status;
}
