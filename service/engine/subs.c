// Keys of the one table, by their first byte:
//   's' id             -> format, configuration, where it stands
//   'l' born (BE) path -> format, by name?, the stream's number, what is acknowledged
//   'd' born (BE)      -> nothing: links of this deleted one may be left
//   'n'                -> how many subscriptions there are
#include <assert.h>

#include "cur.h"
#include "db.h"
#include "err.h"
#include "subs_glob.h"
#include "subs_impl.h"

#define SUBS_FORMAT 1

// ---- keys ----

_Static_assert(sizeof((struct sub_key *)0)->b <= DB_KEY_MAX && SUB_ID_MAX < STREAM_PATH_MAX, "keys have to fit");

static void key_put(struct sub_key *k, struct span s)
{
    assert(s.n <= sizeof k->b - k->n);
    if (s.n > 0) memcpy(k->b + k->n, s.p, s.n);
    k->n += s.n;
}

struct sub_key sub_key_of(struct span id)
{
    struct sub_key k = {.b = {'s'}, .n = 1};
    key_put(&k, id);
    return k;
}

struct sub_key sub_key_born(uint8_t kind, uint64_t born)
{
    struct sub_key k = {.b = {kind}, .n = 1};
    for (int shift = 56; shift >= 0; shift -= 8)
        k.b[k.n++] = (uint8_t)(born >> shift);
    return k;
}

struct sub_key sub_key_link(uint64_t born, struct span path)
{
    struct sub_key k = sub_key_born('l', born);
    key_put(&k, path);
    return k;
}

// ---- records ----

static void get_bytes(struct cur *c, void *to, size_t n)
{
    struct span s = cur_span(c, n);
    if (s.n == n) memcpy(to, s.p, n);
}

void sub_encode(struct buf *out, const struct sub *s)
{
    buf_put_u8(out, SUBS_FORMAT);
    buf_put_u8(out, (uint8_t)s->type);
    buf_put_varint(out, s->born);
    buf_put_varint(out, s->created_ms);
    buf_put_blob(out, s->pattern);
    buf_put_blob(out, s->url);
    buf_put_blob(out, s->base);
    buf_put_blob(out, s->wake_stream);
    buf_put_u8(out, s->has_description);
    buf_put_blob(out, s->description);
    buf_put_varint(out, s->lease_ttl_ms);
    buf_put(out, s->config.b, SHA256_BYTES);
    buf_put_varint(out, s->links);
    buf_put_u8(out, (uint8_t)s->state);
    buf_put_varint(out, s->generation);
    buf_put(out, s->wake.b, sizeof s->wake.b);
    buf_put(out, s->token.b, SHA256_BYTES);
    buf_put_varint(out, s->lease_ms);
    buf_put_varint(out, s->attempts);
    buf_put_varint(out, s->next_attempt_ms);
    buf_put_blob(out, s->holder);
}

int sub_decode(struct span record, struct span id, struct sub *out)
{
    struct cur c;
    struct sub s = {.id = id};
    cur_init(&c, record);
    uint8_t format = cur_u8(&c), type = cur_u8(&c);
    if (format != SUBS_FORMAT || type < SUB_WEBHOOK || type > SUB_PULL) cur_fail(&c);
    s.type = (enum sub_type)type;
    s.born = cur_varint(&c);
    s.created_ms = cur_varint(&c);
    s.pattern = cur_blob(&c);
    s.url = cur_blob(&c);
    s.base = cur_blob(&c);
    s.wake_stream = cur_blob(&c);
    s.has_description = cur_u8(&c) != 0;
    s.description = cur_blob(&c);
    s.lease_ttl_ms = cur_varint(&c);
    get_bytes(&c, s.config.b, SHA256_BYTES);
    s.links = cur_varint(&c);
    uint8_t state = cur_u8(&c);
    if (state > SUB_RETRYING) cur_fail(&c);
    s.state = (enum sub_where)state;
    s.generation = cur_varint(&c);
    get_bytes(&c, s.wake.b, sizeof s.wake.b);
    get_bytes(&c, s.token.b, SHA256_BYTES);
    s.lease_ms = cur_varint(&c);
    s.attempts = cur_varint(&c);
    s.next_attempt_ms = cur_varint(&c);
    s.holder = cur_blob(&c);
    if (id.n == 0 || id.n > SUB_ID_MAX || s.pattern.n > SUB_PATTERN_MAX || s.wake_stream.n > STREAM_PATH_MAX) cur_fail(&c);
    if (cur_end(&c) != 0) return ERR_CORRUPT;
    *out = s;
    return 0;
}

void sub_link_encode(struct buf *out, const struct sub_link *l)
{
    buf_put_u8(out, SUBS_FORMAT);
    buf_put_u8(out, l->by_name);
    buf_put_varint(out, l->number);
    buf_put_varint(out, l->acked);
}

int sub_link_decode(struct span record, struct sub_link *out)
{
    struct cur c;
    cur_init(&c, record);
    uint8_t format = cur_u8(&c), by_name = cur_u8(&c);
    struct sub_link l = {.by_name = by_name == 1, .number = cur_varint(&c), .acked = cur_varint(&c)};
    if (format != SUBS_FORMAT || by_name > 1 || cur_end(&c) != 0) return ERR_CORRUPT;
    *out = l;
    return 0;
}

// ---- operations ----

static bool names_paths(enum sub_step step)
{
    return step <= SUB_FORGET && step != SUB_DELETE;
}

void sub_op_put(struct buf *out, const struct sub_op *op)
{
    buf_put_u8(out, (uint8_t)op->step);
    buf_put_blob(out, op->id);
    if (op->step == SUB_CREATE) {
        buf_put_u8(out, (uint8_t)op->type);
        buf_put_blob(out, op->pattern);
        buf_put_blob(out, op->url);
        buf_put_blob(out, op->base);
        buf_put_blob(out, op->wake_stream);
        buf_put_u8(out, op->has_description);
        buf_put_blob(out, op->description);
        buf_put_varint(out, op->lease_ttl_ms);
    }
    if (names_paths(op->step)) buf_put_blob(out, op->paths);
    if (op->step < SUB_WAKE) return;
    buf_put_varint(out, op->born);
    buf_put_varint(out, op->generation);
    buf_put(out, op->wake.b, sizeof op->wake.b);
    buf_put(out, op->token.b, SHA256_BYTES);
    buf_put_blob(out, op->stream);
    buf_put_blob(out, op->event);
    buf_put_varint(out, op->jitter);
    buf_put_blob(out, op->holder);
    buf_put_blob(out, op->acks);
    buf_put_u8(out, op->done);
}

static void get_config(struct cur *c, struct sub_op *op)
{
    uint8_t type = cur_u8(c);
    if (type < SUB_WEBHOOK || type > SUB_PULL) return cur_fail(c);
    op->type = (enum sub_type)type;
    op->pattern = cur_blob(c);
    op->url = cur_blob(c);
    op->base = cur_blob(c);
    op->wake_stream = cur_blob(c);
    op->has_description = cur_u8(c) != 0;
    op->description = cur_blob(c);
    op->lease_ttl_ms = cur_varint(c);
    if (op->pattern.n > SUB_PATTERN_MAX || op->url.n > SUB_URL_MAX || op->wake_stream.n > STREAM_PATH_MAX) cur_fail(c);
}

static void get_wake(struct cur *c, struct sub_op *op)
{
    op->born = cur_varint(c);
    op->generation = cur_varint(c);
    get_bytes(c, op->wake.b, sizeof op->wake.b);
    get_bytes(c, op->token.b, SHA256_BYTES);
    op->stream = cur_blob(c);
    op->event = cur_blob(c);
    op->jitter = cur_varint(c);
    op->holder = cur_blob(c);
    op->acks = cur_blob(c);
    op->done = cur_u8(c) != 0;
    bool pauses = op->step == SUB_WAKE || op->step == SUB_RETRY;
    if (op->stream.n > STREAM_PATH_MAX || (pauses && (op->jitter < 800 || op->jitter > 1200))) cur_fail(c);
}

int sub_op_read(struct span text, struct sub_op *out)
{
    struct cur c;
    struct sub_op op = {0};
    cur_init(&c, text);
    uint8_t step = cur_u8(&c);
    if (step < SUB_CREATE || step > SUB_RELEASE) cur_fail(&c);
    op.step = (enum sub_step)step;
    op.id = cur_blob(&c);
    if (op.id.n == 0 || op.id.n > SUB_ID_MAX) cur_fail(&c);
    if (c.err == 0 && op.step == SUB_CREATE) get_config(&c, &op);
    if (c.err == 0 && names_paths(op.step)) op.paths = cur_blob(&c);
    if (c.err == 0 && op.step >= SUB_WAKE) get_wake(&c, &op);
    if (cur_end(&c) != 0) return ERR_CORRUPT;
    *out = op;
    return 0;
}

// ---- looking ----

int subs_find(struct db_txn *txn, int table, struct span id, struct sub *out)
{
    if (id.n == 0 || id.n > SUB_ID_MAX) return 0;
    struct sub_key k = sub_key_of(id);
    struct span record;
    if (!db_get(txn, table, sub_key_span(&k), &record)) return db_txn_err(txn);
    int err = sub_decode(record, id, out);
    return err == 0 ? 1 : err;
}

int subs_each(struct db_txn *txn, int table, bool (*fn)(void *ctx, const struct sub *s), void *ctx)
{
    struct db_iter it;
    struct sub s;
    int err = 0;
    db_iter_init(&it, txn, table);
    for (bool more = db_iter_seek(&it, SPAN_LIT("s")); more && it.key.p[0] == 's'; more = db_iter_next(&it)) {
        err = sub_decode(it.value, span_sub(it.key, 1, it.key.n), &s);
        if (err != 0 || !fn(ctx, &s)) break;
    }
    db_iter_end(&it);
    return err != 0 ? err : db_txn_err(txn);
}

static int link_find(struct db_txn *txn, int table, const struct sub *s, struct span path, struct sub_link *out, bool *found)
{
    struct sub_key k = sub_key_link(s->born, path);
    struct span record;
    *found = db_get(txn, table, sub_key_span(&k), &record);
    return *found ? sub_link_decode(record, out) : db_txn_err(txn);
}

bool sub_matches(const struct sub *s, struct span path)
{
    struct subs_glob glob;
    // Its own wakes must not wake it.
    if (s->pattern.n == 0 || (s->wake_stream.n > 0 && span_equal(path, s->wake_stream))) return false;
    return subs_glob_init(&glob, s->pattern) == 0 && subs_glob_match(&glob, path);
}

// Where the stream ended when the subscription was made.
static uint64_t base_of(const struct subs_host *host, const struct sub *s, struct span path, const struct stream_info *now)
{
    struct stream_info then;
    if (now->created_seq > s->born) return 0;
    if (now->changed_seq <= s->born) return now->offset;
    if (host->find_at(host->ctx, path, s->born, &then) && then.number == now->number) return then.offset;
    return 0; // damaged: rather once more than never
}

int subs_cursor(struct db_txn *txn, int table, const struct subs_host *host, const struct sub *s, struct span path, struct sub_cursor *out)
{
    struct stream_info info = {0};
    struct sub_link l = {0};
    struct sub_cursor c = {0};
    if (path.n == 0 || path.n > STREAM_PATH_MAX) return *out = c, 0;
    int err = link_find(txn, table, s, path, &l, &c.recorded);
    if (err != 0) return err;
    c.by_name = l.by_name;
    c.linked = l.by_name || sub_matches(s, path);
    c.exists = c.linked && host->find(host->ctx, path, &info);
    if (c.exists) {
        c.number = info.number;
        c.tail = info.offset;
        // A record of another number is of a stream that was deleted since; this one is new.
        c.acked = !c.recorded ? base_of(host, s, path, &info) : l.number == info.number ? l.acked : 0;
    }
    *out = c;
    return 0;
}

int subs_links(struct db_txn *txn, int table, const struct sub *s, struct span after, bool (*fn)(void *ctx, struct span path), void *ctx)
{
    struct db_iter it;
    struct sub_link l;
    int err = 0;
    struct sub_key k = sub_key_link(s->born, after), all = sub_key_born('l', s->born);
    db_iter_init(&it, txn, table);
    bool more = db_iter_seek(&it, sub_key_span(&k));
    if (more && after.n > 0 && span_equal(it.key, sub_key_span(&k))) more = db_iter_next(&it);
    for (; more && it.key.n > all.n && memcmp(it.key.p, all.b, all.n) == 0; more = db_iter_next(&it)) {
        err = sub_link_decode(it.value, &l);
        if (err != 0) break;
        if (l.by_name && !fn(ctx, span_sub(it.key, all.n, it.key.n))) break;
    }
    db_iter_end(&it);
    return err != 0 ? err : db_txn_err(txn);
}
