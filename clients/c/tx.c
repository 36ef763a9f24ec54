// Transactions: what was read is kept here as the tokens that the service gave, what is to be written as text, until both go in one batch.
#include <stdlib.h>

#include "client.h"
#include "err.h"
#include "json_read.h"
#include "json_write.h"
#include "limits.h"
#include "uuid.h"

struct segue_tx {
    struct segue *s;
    uint64_t base;
    struct buf reads; // tokens as JSON strings, between commas
    struct buf rows;  // [table, id] likewise
    struct buf ops;   // operations likewise
    char key[37];     // names the batch, so that a commit whose answer was lost is not done twice
};

void segue_tx_free(struct segue_tx *tx)
{
    if (tx == NULL) return;
    buf_free(&tx->reads);
    buf_free(&tx->rows);
    buf_free(&tx->ops);
    free(tx);
}

static bool read_base(struct segue *s, uint64_t *base)
{
    struct jr_tree *tree = NULL;
    if (jr_parse(&tree, http_body(s->http), NULL) != 0) return false;
    int64_t n = jr_int(jr_get(jr_root(tree), "base"), -1);
    jr_free(tree);
    *base = (uint64_t)n;
    return n >= 0;
}

int segue_tx_begin(struct segue *s, struct segue_tx **out)
{
    client_begin(s);
    const struct http_request request = {.method = "POST", .path = "begin", .has_body = true};
    int result = client_call(s, &request);
    if (result != SEGUE_OK) return result;
    struct segue_tx *tx = calloc(1, sizeof *tx);
    if (tx == NULL) return client_fail(s, SEGUE_REFUSED, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    tx->s = s;
    buf_init(&tx->reads, BATCH_BYTES_MAX);
    buf_init(&tx->rows, BATCH_BYTES_MAX);
    buf_init(&tx->ops, BATCH_BYTES_MAX);
    segue_id(tx->key);
    if (!read_base(s, &tx->base)) {
        segue_tx_free(tx);
        return client_fail(s, SEGUE_REFUSED, ERR_BAD_JSON, "the service's answer is not the base of a transaction");
    }
    *out = tx;
    return SEGUE_OK;
}

static void put_element(struct buf *list)
{
    if (list->n > 0) buf_put_u8(list, ',');
}

static int full(struct segue_tx *tx, const struct buf *b)
{
    return b->err == 0 ? SEGUE_OK : client_fail(tx->s, SEGUE_USAGE, b->err, "%s", err_text(b->err));
}

// ---- reading -------------------------------------------------------------------------------------------------------

static int keep_reads(struct segue_tx *tx)
{
    struct jr_tree *tree = NULL;
    struct jw w;
    int err = jr_parse(&tree, http_body(tx->s->http), NULL);
    struct span token = err == 0 ? jr_str(jr_get(jr_root(tree), "reads")) : SPAN_NONE;
    if (token.n > 0) {
        put_element(&tx->reads);
        jw_init(&w, &tx->reads);
        jw_str(&w, token);
    }
    jr_free(tree);
    if (token.n == 0) return client_fail(tx->s, SEGUE_REFUSED, ERR_BAD_JSON, "the service's answer does not say what was read");
    return full(tx, &tx->reads);
}

int segue_tx_query(struct segue_tx *tx, const char *sql, const char *const *params, size_t param_count)
{
    struct buf body;
    struct jw w;
    client_begin(tx->s);
    buf_init(&body, 2 * BATCH_BYTES_MAX);
    jw_init(&w, &body);
    jw_object(&w);
    jw_key(&w, "sql"), jw_cstr(&w, sql);
    jw_key(&w, "params"), jw_array(&w);
    for (size_t i = 0; i < param_count; i++)
        jw_cstr(&w, params[i]);
    jw_end(&w);
    jw_key(&w, "as_of"), jw_uint(&w, tx->base);
    jw_key(&w, "reads"), jw_bool(&w, true);
    if (tx->ops.n > 0) {
        buf_put_str(&body, ",\"ops\":[");
        buf_put_span(&body, buf_span(&tx->ops));
        buf_put_str(&body, "]");
    }
    jw_end(&w);
    int result = full(tx, &body);
    if (result == SEGUE_OK) result = client_post(tx->s, "query", buf_span(&body), NULL);
    buf_free(&body);
    return result == SEGUE_OK ? keep_reads(tx) : result;
}

int segue_tx_row(struct segue_tx *tx, const char *table, const char *id)
{
    struct jw w;
    client_begin(tx->s);
    put_element(&tx->rows);
    jw_init(&w, &tx->rows);
    jw_array(&w);
    jw_cstr(&w, table);
    jw_cstr(&w, id);
    jw_end(&w);
    return full(tx, &tx->rows);
}

// ---- writing -------------------------------------------------------------------------------------------------------

int segue_tx_write(struct segue_tx *tx, const char *ops, size_t n)
{
    client_begin(tx->s);
    put_element(&tx->ops);
    buf_put(&tx->ops, ops, n);
    return full(tx, &tx->ops);
}

int segue_tx_commit(struct segue_tx *tx)
{
    struct buf body;
    client_begin(tx->s);
    buf_init(&body, 4 * BATCH_BYTES_MAX);
    buf_printf(&body, "{\"mode\":\"transaction\",\"key\":\"%s\",\"base\":%llu,\"reads\":[", tx->key, (unsigned long long)tx->base);
    buf_put_span(&body, buf_span(&tx->reads));
    buf_put_str(&body, "],\"rows\":[");
    buf_put_span(&body, buf_span(&tx->rows));
    buf_put_str(&body, "],\"ops\":[");
    buf_put_span(&body, buf_span(&tx->ops));
    buf_put_str(&body, "]}");
    int result = full(tx, &body);
    if (result == SEGUE_OK) result = client_post(tx->s, "batch", buf_span(&body), NULL);
    buf_free(&body);
    // What it is refused for is more than an error has words for.
    tx->s->answered = tx->s->answered || tx->s->error.status != 0;
    return result;
}
