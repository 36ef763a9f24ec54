// Transactions over a connection: begin, query, write, commit, abort (PROTOCOL.md, "WebSocket"). What the service keeps of one is what it read and what it
// is to write; nobody else knows of it until it is a batch like any other.
//
//      begin ─> base ── query: the state as of the base, what was written laid over it, and a note of all that was looked at
//                    ── write: kept, and checked one by one
//                    ── commit: [transaction: base, reads, operations] ─> its fate        abort, or the connection's end: forgotten
#include <assert.h>
#include <stdlib.h>

#include "batch_reads.h"
#include "err.h"
#include "file.h"
#include "json_read.h"
#include "preview.h"
#include "sync_impl.h"

#define TURN_US 20000 // of a query's work in one turn of the loop

struct sync_tx {
    struct sync_tx *next;
    uint64_t no, base, begun_ms;
    struct read_set *reads;
    struct buf ops; // encoded
    size_t count;
    bool inserts;
    struct rows_preview *preview; // of these operations; NULL: to be made
};

struct sync_query {
    struct query *query;
    struct query_run *run;
    const struct sync_tx *tx; // NULL: of none
    struct rows_preview *preview; // of a branch; NULL: of none
    uint64_t at;
    char tag[WS_TAG_MAX + 1];
};

// ---- what is known here --------------------------------------------------------------------------------------------

static void tx_free(struct sync_tx *tx)
{
    rows_preview_free(tx->preview);
    read_set_free(tx->reads);
    buf_free(&tx->ops);
    free(tx);
}

static void tx_drop(struct sync *s, struct sync_tx *tx)
{
    struct sync_tx **place = &s->txs;
    while (*place != tx)
        place = &(*place)->next;
    *place = tx->next;
    s->tx_count--;
    tx_free(tx);
}

static void query_free(struct sync_query *q)
{
    query_close(q->run);
    query_unref(q->query);
    rows_preview_free(q->preview);
    free(q);
}

static void query_drop(struct sync *s)
{
    struct sync_query *q = s->query;
    s->query = NULL;
    hub_drop(&s->more);
    if (q == NULL) return;
    query_free(q);
}

void sync_tx_close(struct sync *s)
{
    query_drop(s);
    while (s->txs != NULL)
        tx_drop(s, s->txs);
}

static int tx_find(struct sync *s, const struct jr *message, struct sync_tx **out, struct problem *p)
{
    const struct jr *no = jr_get(message, "tx");
    for (struct sync_tx *tx = s->txs; tx != NULL; tx = tx->next) {
        if (jr_type(no) != JR_INT || (uint64_t)jr_int(no, 0) != tx->no) continue;
        *out = tx;
        return 0;
    }
    return problem_set(p, ERR_BAD_PARAMETER, -1, "\"tx\" is not the number of a transaction that was begun here");
}

static void say_failure(struct sync *s, const char *tag, int err, struct problem *p)
{
    problem_set(p, err, -1, "%s", err_text(err));
    sync_say_error(s, tag[0] != '\0' ? "id" : NULL, SPAN_STR(tag), p);
}

static void answer_begin(struct buf *b, struct jw *w, const char *type, const char *tag, const struct sync_tx *tx)
{
    sync_message_begin(b, w, type);
    if (tag[0] != '\0') jw_key(w, "id"), jw_raw(w, SPAN_STR(tag));
    if (tx != NULL) jw_key(w, "tx"), jw_uint(w, tx->no);
}

static int may_do(struct sync *s, enum verb verb)
{
    int err = may(s->options.auth, &s->options.identity, verb, SPAN_STR(app_name(s->options.app)), SPAN_NONE);
    return err == 0 && app_txn(s->options.app) == NULL ? ERR_BUSY : err;
}

// ---- begin ---------------------------------------------------------------------------------------------------------

static int begin(struct sync *s, struct sync_tx **out, struct problem *p)
{
    if (s->tx_count >= CONNECTION_TRANSACTIONS_MAX) return problem_set(p, ERR_TOO_MANY, -1, "a connection has at most %d transactions", CONNECTION_TRANSACTIONS_MAX);
    struct sync_tx *tx = calloc(1, sizeof *tx);
    if (tx == NULL) return ERR_NOMEM;
    buf_init(&tx->ops, BATCH_BYTES_MAX);
    tx->reads = read_set_new();
    if (tx->reads == NULL) {
        tx_free(tx);
        return ERR_NOMEM;
    }
    tx->base = app_visible(s->options.app);
    tx->begun_ms = app_visible_ms(s->options.app);
    tx->no = ++s->tx_last;
    tx->next = s->txs;
    s->txs = tx;
    s->tx_count++;
    *out = tx;
    return 0;
}

void sync_take_begin(struct sync *s, const struct jr *message, struct span text)
{
    (void)text;
    static const char *const known[] = {"type", "id", NULL};
    struct problem p = PROBLEM_NONE;
    struct sync_tx *tx = NULL;
    char tag[WS_TAG_MAX + 1] = "";
    struct buf b;
    struct jw w;
    int err = sync_get_tag(message, tag, &p);
    if (err == 0) err = sync_check_members(message, known, &p);
    if (err == 0) err = may_do(s, MAY_QUERY);
    if (err == 0) err = begin(s, &tx, &p);
    if (err != 0) {
        say_failure(s, tag, err, &p);
        return;
    }
    answer_begin(&b, &w, "begun", tag, tx);
    jw_key(&w, "base"), jw_uint(&w, tx->base);
    jw_end(&w);
    sync_say(s, &b);
}

// ---- write ---------------------------------------------------------------------------------------------------------

// The rows that this transaction would leave, of the schema as it is now. They may take much memory, so a connection has those of one of its transactions.
static int preview_make(struct sync *s, struct sync_tx *tx, struct problem *p)
{
    for (struct sync_tx *other = s->txs; other != NULL; other = other->next) {
        if (other == tx) continue;
        rows_preview_free(other->preview);
        other->preview = NULL;
    }
    if (tx->preview != NULL && rows_preview_current(tx->preview)) return 0;
    rows_preview_free(tx->preview);
    tx->preview = rows_preview_new(app_rows(s->options.app), app_txn(s->options.app), tx->base, tx->base, tx->begun_ms);
    int err = tx->preview == NULL ? ERR_NOMEM : batch_preview(tx->preview, app_txn(s->options.app), buf_span(&tx->ops), p);
    if (err == 0) return 0;
    rows_preview_free(tx->preview);
    tx->preview = NULL;
    return err;
}

static int write_ops(struct sync *s, struct sync_tx *tx, const struct jr *message, struct span text, struct buf *ops, struct problem *p)
{
    size_t count;
    bool inserts;
    int err = batch_ops_from_json(jr_get(message, "ops"), text.n, true, &count, &inserts, ops, p);
    if (err == 0 && (count == 0 || tx->count + count > BATCH_OPS_MAX || tx->ops.n + ops->n > tx->ops.max))
        err = problem_set(p, count == 0 ? ERR_BAD_BATCH : ERR_TOO_LARGE, -1, "a transaction has 1 to %d operations, and %u bytes of them", BATCH_OPS_MAX, BATCH_BYTES_MAX);
    if (err == 0) err = preview_make(s, tx, p);
    if (err != 0) return err;
    err = batch_preview(tx->preview, app_txn(s->options.app), buf_span(ops), p);
    if (err == 0) buf_put_span(&tx->ops, buf_span(ops));
    if (err == 0) err = tx->ops.err;
    if (err != 0) { // what was laid over is half of it
        rows_preview_free(tx->preview);
        tx->preview = NULL;
        return err;
    }
    tx->count += count;
    tx->inserts |= inserts;
    return 0;
}

static void put_ids(struct jw *w, struct span ops)
{
    struct batch_reader reader;
    struct batch_op op;
    char id[UUID_TEXT];
    jw_key(w, "ids"), jw_array(w);
    batch_reader_init(&reader, ops);
    while (batch_read(&reader, &op) > 0) {
        bool named = op.kind == BATCH_INSERT && op.row.has_id;
        if (named) uuid_format(op.row.id, id), jw_str(w, SPAN(id, UUID_TEXT));
        else jw_null(w);
    }
    batch_reader_free(&reader);
    jw_end(w);
}

void sync_take_write(struct sync *s, const struct jr *message, struct span text)
{
    static const char *const known[] = {"type", "id", "tx", "ops", NULL};
    struct problem p = PROBLEM_NONE;
    struct sync_tx *tx = NULL;
    char tag[WS_TAG_MAX + 1] = "";
    struct buf ops, b;
    struct jw w;
    buf_init(&ops, 2 * BATCH_BYTES_MAX);
    int err = sync_get_tag(message, tag, &p);
    if (err == 0) err = sync_check_members(message, known, &p);
    if (err == 0) err = may_do(s, MAY_WRITE_BATCH);
    if (err == 0) err = tx_find(s, message, &tx, &p);
    if (err == 0) err = write_ops(s, tx, message, text, &ops, &p);
    if (err == 0) {
        answer_begin(&b, &w, "written", tag, tx);
        put_ids(&w, buf_span(&ops));
        jw_end(&w);
        sync_say(s, &b);
    } else {
        say_failure(s, tag, err, &p);
    }
    buf_free(&ops);
}

// ---- query ---------------------------------------------------------------------------------------------------------

struct piece {
    struct feed_sink sink; // first
    struct jw w;
};

static int emit(struct feed_sink *sink, struct bytes *value)
{
    struct piece *k = (struct piece *)sink;
    jw_raw(&k->w, bytes_span(value));
    return k->w.out->err;
}

// One message of rows. *done: it was the last.
static int say_rows(struct sync *s, struct sync_query *q, bool *done)
{
    struct piece k = {.sink = {.emit = emit}};
    struct buf b;
    answer_begin(&b, &k.w, "rows", q->tag, q->tx);
    jw_key(&k.w, "seq"), jw_uint(&k.w, q->at);
    jw_key(&k.w, "rows"), jw_array(&k.w);
    int err = query_next(q->run, app_txn(s->options.app), PART_BYTES_MAX, &k.sink, done);
    if (err != 0) {
        buf_free(&b);
        return err;
    }
    jw_end(&k.w);
    if (!*done) jw_key(&k.w, "more"), jw_bool(&k.w, true);
    jw_end(&k.w);
    sync_say(s, &b);
    return 0;
}

static void query_run_on(struct sync *s)
{
    struct sync_query *q = s->query;
    uint64_t since = clock_mono_us();
    bool done = false;
    int err = 0;
    while (err == 0 && !done && !s->full && !s->over) {
        if (clock_mono_us() - since > TURN_US) {
            hub_later(s->options.hub, &s->more);
            return;
        }
        // A new schema's rows have more columns than those that lie over the store.
        const struct rows_preview *over = q->tx != NULL ? q->tx->preview : q->preview;
        bool whole = over == NULL || rows_preview_current(over);
        err = whole ? say_rows(s, q, &done) : ERR_CANCELED;
    }
    if (err == 0 && !done && !s->over) return;
    if (err != 0) {
        struct problem p = *query_problem(q->run);
        if (p.err == 0) p = PROBLEM_NONE;
        say_failure(s, q->tag, err, &p);
    }
    query_drop(s);
}

void sync_query_turn(struct hub_item *item)
{
    struct sync *s = (struct sync *)((char *)item - offsetof(struct sync, more));
    if (!s->full) sync_query_go_on(s); // else it goes on where there is room
}

bool sync_query_go_on(struct sync *s)
{
    if (s->query == NULL) return false;
    query_run_on(s);
    if (s->query == NULL && !s->over) s->ops->resume(s->carrier);
    return true;
}

static int query_start(struct sync *s, const struct jr *message, struct sync_query *q, struct sync_tx *tx, struct problem *p)
{
    struct rows *rows = app_rows(s->options.app);
    struct row_value params[QUERY_PARAMS_MAX];
    struct query_source source = {.at = app_visible(s->options.app)};
    struct buf scratch;
    size_t count;
    const struct jr *at = jr_get(message, "as_of");
    if (jr_type(jr_get(message, "sql")) != JR_STRING) return problem_set(p, ERR_BAD_PARAMETER, -1, "\"sql\" is a string");
    if (at != NULL && (tx != NULL || jr_type(at) != JR_INT || jr_int(at, -1) < 0)) return problem_set(p, ERR_BAD_PARAMETER, -1, "\"as_of\" is a seq, and of no transaction");
    if (at != NULL && (uint64_t)jr_int(at, 0) > source.at) return ERR_SEQ_AHEAD;
    if (at != NULL) source.at = (uint64_t)jr_int(at, 0);
    if (tx != NULL) {
        source.at = tx->base;
        source.reads = tx->reads;
        int err = tx->count > 0 ? preview_make(s, tx, p) : 0;
        if (err == 0 && tx->count > 0) source.overlay = rows_preview_overlay(tx->preview);
        if (err == 0 && tx->count > 0 && source.overlay == NULL) err = ERR_NOMEM;
        if (err != 0) return err;
    }
    if (jr_get(message, "branch") != NULL) {
        struct branch b;
        if (tx != NULL || at != NULL) return problem_set(p, ERR_BAD_PARAMETER, -1, "a branch is read by itself");
        int err = app_branch(s->options.app, jr_str(jr_get(message, "branch")), &b);
        if (err == 0) err = app_branch_preview(s->options.app, &b, &q->preview, p);
        if (err != 0) return err;
        source.at = app_branch_at(s->options.app, &b);
        source.overlay = rows_preview_overlay(q->preview);
        if (source.overlay == NULL) return ERR_NOMEM;
    }
    buf_init(&scratch, SYNC_PARAMS_BYTES);
    int err = sync_get_params(jr_get(message, "params"), &scratch, params, &count, p);
    if (err == 0) err = query_compile(rows, jr_str(jr_get(message, "sql")), params, count, &q->query, p);
    if (err == 0) err = query_open_source(rows, app_txn(s->options.app), q->query, &source, &q->run, p);
    buf_free(&scratch);
    q->tx = tx;
    q->at = source.at;
    return err;
}

void sync_take_query(struct sync *s, const struct jr *message, struct span text)
{
    (void)text;
    static const char *const known[] = {"type", "id", "tx", "branch", "sql", "params", "as_of", NULL};
    struct problem p = PROBLEM_NONE;
    struct sync_tx *tx = NULL;
    struct sync_query *q = calloc(1, sizeof *q);
    assert(s->query == NULL);
    if (q == NULL) {
        sync_end_with(s, ERR_NOMEM);
        return;
    }
    int err = sync_get_tag(message, q->tag, &p);
    if (err == 0) err = sync_check_members(message, known, &p);
    if (err == 0) err = may_do(s, MAY_QUERY);
    if (err == 0 && jr_get(message, "tx") != NULL) err = tx_find(s, message, &tx, &p);
    if (err == 0) err = query_start(s, message, q, tx, &p);
    if (err == 0) {
        s->query = q;
        query_run_on(s);
        return;
    }
    say_failure(s, q->tag, err, &p);
    query_free(q);
}

// ---- the end -------------------------------------------------------------------------------------------------------

static int build(struct sync_tx *tx, const struct jr *message, struct span text, struct call *call, struct problem *p)
{
    struct batch_name name;
    struct buf more;
    size_t count = 0;
    bool inserts = false;
    buf_init(&more, 2 * BATCH_BYTES_MAX);
    int err = batch_name_from_json(message, &name, p);
    if (err == 0) err = batch_reads_from_set(message, tx->reads, tx->base, &call->encoded, p);
    if (err == 0) err = batch_ops_from_json(jr_get(message, "ops"), text.n, false, &count, &inserts, &more, p);
    if (err == 0 && tx->count + count > BATCH_OPS_MAX) err = problem_set(p, ERR_TOO_LARGE, -1, "a batch may have %d operations", BATCH_OPS_MAX);
    if (err == 0) {
        buf_put_span(&call->encoded, buf_span(&tx->ops));
        buf_put_span(&call->encoded, buf_span(&more));
        err = call->encoded.err;
    }
    buf_free(&more);
    call->ops = tx->count + count;
    call->submission = (struct submission){.name = name, .inserts = inserts || tx->inserts, .request = buf_span(&call->encoded)};
    return err;
}

void sync_take_commit(struct sync *s, const struct jr *message, struct span text)
{
    static const char *const known[] = {"type", "id", "tx", "ops", "rows", "replica", "counter", "key", NULL};
    struct problem p = PROBLEM_NONE;
    struct sync_tx *tx = NULL;
    struct call *call = sync_call_new(s);
    if (call == NULL) return;
    int err = sync_get_tag(message, call->tag, &p);
    if (err == 0) err = sync_check_members(message, known, &p);
    if (err == 0) err = may_do(s, MAY_WRITE_BATCH);
    if (err == 0) err = tx_find(s, message, &tx, &p);
    if (err == 0) err = build(tx, message, text, call, &p);
    if (err != 0) { // it goes on: nothing of this message was meant
        sync_call_fail(s, call, err, &p);
        return;
    }
    tx_drop(s, tx);
    call->submission.identity = s->options.identity;
    call->submission.connection = s->options.connection;
    sync_submit(s, call);
}

void sync_take_abort(struct sync *s, const struct jr *message, struct span text)
{
    (void)text;
    static const char *const known[] = {"type", "id", "tx", NULL};
    struct problem p = PROBLEM_NONE;
    struct sync_tx *tx = NULL;
    char tag[WS_TAG_MAX + 1] = "";
    struct buf b;
    struct jw w;
    int err = sync_get_tag(message, tag, &p);
    if (err == 0) err = sync_check_members(message, known, &p);
    if (err == 0) err = tx_find(s, message, &tx, &p);
    if (err != 0) {
        say_failure(s, tag, err, &p);
        return;
    }
    answer_begin(&b, &w, "aborted", tag, tx);
    jw_end(&w);
    tx_drop(s, tx);
    sync_say(s, &b);
}
