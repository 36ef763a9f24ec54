// Schemas over a connection: publish, schema, schemas (PROTOCOL.md, "WebSocket"). A publication is a batch like any other; the others are answered at once.
#include "err.h"
#include "json_read.h"
#include "sync_impl.h"

#define LISTED 1000 // schemas in one answer

static int may_do(struct sync *s, enum verb verb)
{
    return may(s->options.auth, &s->options.identity, verb, SPAN_STR(app_name(s->options.app)), SPAN_NONE);
}

static void say_refused(struct sync *s, const char *tag, int err, struct problem *p)
{
    problem_set(p, err, -1, "%s", err_text(err));
    sync_say_error(s, tag[0] != '\0' ? "id" : NULL, SPAN_STR(tag), p);
}

// A message of this type whose other members are those of `object`, a JSON object's text.
static void say_object(struct sync *s, const char *type, const char *tag, struct span object)
{
    struct buf b;
    buf_init(&b, object.n + 256);
    buf_printf(&b, "{\"type\":\"%s\"", type);
    if (tag[0] != '\0') buf_printf(&b, ",\"id\":%s", tag);
    buf_put_u8(&b, ',');
    buf_put_span(&b, span_sub(object, 1, object.n));
    sync_say(s, &b);
}

void sync_take_publish(struct sync *s, const struct jr *message, struct span text)
{
    (void)text;
    static const char *const known[] = {"type", "id", "sql", NULL};
    struct problem p = PROBLEM_NONE;
    struct span sql = jr_str(jr_get(message, "sql"));
    struct call *call = sync_call_new(s);
    if (call == NULL) return;
    int err = sync_get_tag(message, call->tag, &p);
    if (err == 0) err = sync_check_members(message, known, &p);
    if (err == 0) err = may_do(s, MAY_PUBLISH_SCHEMA);
    if (err == 0 && sql.n == 0) err = problem_set(&p, ERR_BAD_SQL, 0, "\"sql\" is empty; it should be the SQL text of the schema");
    if (err == 0) err = rows_schema_check(sql, &p);
    if (err == 0) batch_put_op(&call->encoded, &(struct batch_op){.kind = BATCH_SCHEMA, .schema = sql});
    if (err == 0) err = call->encoded.err;
    if (err != 0) {
        sync_call_fail(s, call, err, &p);
        return;
    }
    call->submission = (struct submission){.identity = s->options.identity, .connection = s->options.connection, .request = buf_span(&call->encoded)};
    sync_submit(s, call);
}

// As SQL: {"hash","sql"}.
static int put_sql(struct buf *out, const struct rows *r, const struct sha256 *hash, struct span sql)
{
    struct sha256 current = rows_schema_hash(r);
    char hex[SHA256_HEX];
    struct jw w;
    hex_format(hex, SPAN(hash != NULL ? hash->b : current.b, SHA256_BYTES));
    jw_init(&w, out);
    jw_object(&w);
    jw_key(&w, "hash"), jw_str(&w, SPAN(hex, SHA256_HEX));
    jw_key(&w, "sql"), jw_str(&w, sql);
    jw_end(&w);
    return out->err;
}

static int read_schema(struct sync *s, const struct sha256 *hash, bool json, struct buf *out, struct db_txn *txn)
{
    struct rows *r = app_rows(s->options.app);
    struct buf sql;
    int err = 0;
    if (json && hash == NULL) rows_schema_json(r, out);
    if (json) return hash != NULL ? rows_schema_read(r, txn, hash, true, out) : out->err;
    buf_init(&sql, 8 * SQL_SCHEMA_MAX);
    if (hash != NULL) err = rows_schema_read(r, txn, hash, false, &sql);
    else rows_schema_sql(r, &sql);
    if (err == 0) err = sql.err;
    if (err == 0) err = put_sql(out, r, hash, buf_span(&sql));
    buf_free(&sql);
    return err;
}

void sync_take_schema(struct sync *s, const struct jr *message, struct span text)
{
    (void)text;
    static const char *const known[] = {"type", "id", "hash", "as", NULL};
    struct problem p = PROBLEM_NONE;
    const struct jr *named = jr_get(message, "hash"), *as = jr_get(message, "as");
    struct db_txn *txn = app_txn(s->options.app);
    char tag[WS_TAG_MAX + 1] = "";
    struct sha256 hash;
    struct buf b;
    bool sql = span_is(jr_str(as), "sql");
    buf_init(&b, 16 * SQL_SCHEMA_MAX);
    int err = sync_get_tag(message, tag, &p);
    if (err == 0) err = sync_check_members(message, known, &p);
    if (err == 0) err = may_do(s, MAY_READ_APP);
    if (err == 0 && txn == NULL) err = ERR_BUSY;
    if (err == 0 && as != NULL && !sql && !span_is(jr_str(as), "json")) err = problem_set(&p, ERR_BAD_PARAMETER, -1, "\"as\" is \"json\" or \"sql\"");
    if (err == 0 && named != NULL && hex_parse(hash.b, SHA256_BYTES, jr_str(named)) != 0)
        err = problem_set(&p, ERR_BAD_PARAMETER, -1, "\"hash\" is not 64 hexadecimal digits");
    if (err == 0) err = read_schema(s, named != NULL ? &hash : NULL, !sql, &b, txn);
    if (err == 0) say_object(s, "schema", tag, buf_span(&b));
    else say_refused(s, tag, err, &p);
    buf_free(&b);
}

void sync_take_schemas(struct sync *s, const struct jr *message, struct span text)
{
    (void)text;
    static const char *const known[] = {"type", "id", "before", NULL};
    struct problem p = PROBLEM_NONE;
    const struct jr *before = jr_get(message, "before");
    struct db_txn *txn = app_txn(s->options.app);
    char tag[WS_TAG_MAX + 1] = "";
    struct buf b;
    buf_init(&b, MIB);
    int64_t version = jr_int(before, 0);
    int err = sync_get_tag(message, tag, &p);
    if (err == 0) err = sync_check_members(message, known, &p);
    if (err == 0) err = may_do(s, MAY_READ_APP);
    if (err == 0 && txn == NULL) err = ERR_BUSY;
    if (err == 0 && before != NULL && (version < 1 || version > UINT32_MAX)) err = problem_set(&p, ERR_BAD_PARAMETER, -1, "\"before\" is not a version");
    if (err == 0) err = rows_schemas_json(app_rows(s->options.app), txn, (uint32_t)version, LISTED, &b);
    if (err == 0) say_object(s, "schemas", tag, buf_span(&b));
    else say_refused(s, tag, err, &p);
    buf_free(&b);
}
