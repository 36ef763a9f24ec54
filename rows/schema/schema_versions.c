#include "schema_versions.h"

#include <assert.h>

#include "err.h"
#include "store.h"

#define FORMAT 1

// ---- records -------------------------------------------------------------------------------------------------------

void schema_version_encode(struct buf *out, const struct schema_version *v)
{
    buf_put_u8(out, FORMAT);
    buf_put_varint(out, v->seq);
    buf_put_varint(out, v->arrival_ms);
    buf_put(out, v->hash.b, SHA256_BYTES);
    buf_put_span(out, v->schema);
}

int schema_version_decode(struct schema_version *out, struct span record)
{
    struct cur c;
    cur_init(&c, record);
    if (cur_u8(&c) != FORMAT) cur_fail(&c);
    struct schema_version v = {.seq = cur_varint(&c), .arrival_ms = cur_varint(&c)};
    struct span hash = cur_span(&c, SHA256_BYTES);
    if (c.err) return c.err;
    memcpy(v.hash.b, hash.p, SHA256_BYTES);
    v.schema = cur_span(&c, cur_left(&c));
    *out = v;
    return 0;
}

// ---- reading them --------------------------------------------------------------------------------------------------

// Stands at the last version below `before`; 0: at the last one of all.
static bool seek_version(struct db_iter *it, uint32_t before)
{
    struct key k = key_schema(before);
    return before == 0 ? db_iter_last(it) : db_iter_seek_before(it, key_span(&k));
}

static int show_version(const struct schema_version *v, bool json, struct buf *out)
{
    struct schema *s;
    int err = schema_decode(&s, v->schema);
    if (err) return err;
    if (json) {
        schema_json(s, out);
    } else {
        schema_sql(s, out);
    }
    schema_unref(s);
    return out->err;
}

// The newest of this hash: an index that goes and comes again gives two.
int rows_schema_read(struct rows *r, struct db_txn *txn, const struct sha256 *hash, bool json, struct buf *out)
{
    struct schema_version v;
    struct db_iter it;
    int err = ERR_NO_SUCH_SCHEMA;
    assert(r && txn && hash && out);
    db_iter_init(&it, txn, rows_table(r, TABLE_SCHEMAS));
    for (bool more = seek_version(&it, 0); more && err == ERR_NO_SUCH_SCHEMA; more = db_iter_prev(&it)) {
        int bad = schema_version_decode(&v, it.value);
        if (bad) err = bad;
        else if (sha256_equal(&v.hash, hash)) err = show_version(&v, json, out);
    }
    db_iter_end(&it);
    return db_txn_err(txn) ? db_txn_err(txn) : err;
}

static void put_version(struct jw *w, uint32_t version, const struct schema_version *v)
{
    char hex[SHA256_HEX];
    hex_format(hex, SPAN(v->hash.b, SHA256_BYTES));
    jw_object(w);
    jw_key(w, "version");
    jw_uint(w, version);
    jw_key(w, "hash");
    jw_str(w, SPAN(hex, SHA256_HEX));
    jw_key(w, "seq");
    jw_uint(w, v->seq);
    jw_key(w, "time");
    jw_time_ms(w, (int64_t)v->arrival_ms);
    jw_end(w);
}

int rows_schemas_json(struct rows *r, struct db_txn *txn, uint32_t before, size_t limit, struct buf *out)
{
    struct schema_version v;
    struct db_iter it;
    struct jw w;
    size_t n = 0;
    uint32_t last = 0;
    int err = 0;
    jw_init(&w, out);
    jw_object(&w);
    jw_key(&w, "schemas");
    jw_array(&w);
    db_iter_init(&it, txn, rows_table(r, TABLE_SCHEMAS));
    bool more = seek_version(&it, before);
    for (; more && n < limit && !err; more = db_iter_prev(&it), n++) {
        last = key_schema_parse(it.key);
        err = last ? schema_version_decode(&v, it.value) : ERR_CORRUPT;
        if (!err) put_version(&w, last, &v);
    }
    db_iter_end(&it);
    jw_end(&w);
    if (more) jw_key(&w, "before"), jw_uint(&w, last);
    jw_end(&w);
    if (db_txn_err(txn)) return db_txn_err(txn);
    return err ? err : out->err;
}
