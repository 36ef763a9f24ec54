// Fates in the database. Keys of the one table, by their first byte:
//   'r' replica                 -> format, identity kind, highest settled counter
//   'f' replica, counter (BE)   -> format, fate
//   'k' hash of identity + key  -> format, arrival, the key itself, fate
//   'x' arrival (BE), that hash -> nothing: the order in which keys have had their time
#include "fates.h"

#include "cur.h"
#include "db.h"
#include "err.h"

#define FATES_FORMAT 3
#define FATE_RECORD_MAX (ENTRY_BYTES_MAX)

// ---- results ----

enum { RESULT_KIND = 15, RESULT_CLOSED = 16, RESULT_NEW = 32, RESULT_DUPLICATE = 64 };

static void put_conflict(struct buf *out, const struct rows_conflict *c)
{
    buf_put_blob(out, c->table);
    buf_put(out, c->id.b, sizeof c->id.b);
    buf_put_varint(out, c->seq);
    buf_put_u8(out, (uint8_t)c->read);
    buf_put_blob(out, c->index);
}

void result_put(struct buf *out, const struct result *r)
{
    buf_put_varint(out, r->op);
    buf_put_u8(out, (uint8_t)(r->kind | (r->closed ? RESULT_CLOSED : 0) | (r->created ? RESULT_NEW : 0) | (r->duplicate ? RESULT_DUPLICATE : 0)));
    if (r->kind == RESULT_ID) {
        buf_put(out, r->id.b, sizeof r->id.b);
    } else if (r->kind == RESULT_PRODUCER) {
        buf_put_varint(out, r->epoch);
        buf_put_varint(out, r->seq);
    } else if (r->kind == RESULT_CONFLICT) {
        put_conflict(out, &r->conflict);
    } else {
        buf_put_varint(out, r->offset);
    }
}

static void result_read_id(struct cur *c, struct uuid *out)
{
    struct span id = cur_span(c, sizeof out->b);
    if (id.n == sizeof out->b) memcpy(out->b, id.p, id.n);
}

static void result_read_conflict(struct cur *c, struct rows_conflict *out)
{
    out->table = cur_blob(c);
    result_read_id(c, &out->id);
    out->seq = cur_varint(c);
    uint8_t read = cur_u8(c);
    out->index = cur_blob(c);
    if (read > ROWS_READ_TABLE) return cur_fail(c);
    out->read = (enum rows_read)read;
}

int result_read(struct span *rest, struct result *out)
{
    if (rest->n == 0) return 0;
    struct cur c;
    cur_init(&c, *rest);
    memset(out, 0, sizeof *out);
    out->op = (uint32_t)cur_varint(&c);
    uint8_t said = cur_u8(&c);
    out->closed = said & RESULT_CLOSED;
    out->created = said & RESULT_NEW;
    out->duplicate = said & RESULT_DUPLICATE;
    switch (said & RESULT_KIND) {
    case RESULT_ID: out->kind = RESULT_ID, result_read_id(&c, &out->id); break;
    case RESULT_CONFLICT: out->kind = RESULT_CONFLICT, result_read_conflict(&c, &out->conflict); break;
    case RESULT_OFFSET: out->kind = RESULT_OFFSET, out->offset = cur_varint(&c); break;
    case RESULT_CREATED: out->kind = RESULT_CREATED, out->offset = cur_varint(&c); break;
    case RESULT_PRODUCER:
        out->kind = RESULT_PRODUCER;
        out->epoch = cur_varint(&c);
        out->seq = cur_varint(&c);
        break;
    default: cur_fail(&c);
    }
    if (said >= 2 * RESULT_DUPLICATE) cur_fail(&c);
    if (c.err != 0) return c.err;
    *rest = SPAN(c.p, (size_t)(c.end - c.p));
    return 1;
}

struct checksum128 fates_content(struct span request, uint64_t base, uint64_t stamp)
{
    return checksum128(request, checksum64_two(SPAN(&base, sizeof base), SPAN(&stamp, sizeof stamp), 0));
}

// ---- keys ----

struct key {
    uint8_t b[32];
    size_t n;
};

static struct span key_span(const struct key *k)
{
    return SPAN(k->b, k->n);
}

static void key_put(struct key *k, const void *p, size_t n)
{
    memcpy(k->b + k->n, p, n);
    k->n += n;
}

static void key_put_u64(struct key *k, uint64_t v)
{
    for (int shift = 56; shift >= 0; shift -= 8)
        k->b[k->n++] = (uint8_t)(v >> shift);
}

static struct key replica_key(struct uuid replica)
{
    struct key k = {.b = {'r'}, .n = 1};
    key_put(&k, replica.b, sizeof replica.b);
    return k;
}

static struct key counter_key(struct uuid replica, uint64_t counter)
{
    struct key k = {.b = {'f'}, .n = 1};
    key_put(&k, replica.b, sizeof replica.b);
    key_put_u64(&k, counter);
    return k;
}

static struct key text_key(const char *text, const struct identity *who)
{
    struct checksum128 hash = checksum128(SPAN_STR(text), (uint64_t)who->kind);
    struct key k = {.b = {'k'}, .n = 1};
    key_put(&k, &hash, sizeof hash);
    return k;
}

static struct key expiry_key(uint64_t arrival_ms, const struct key *text)
{
    struct key k = {.b = {'x'}, .n = 1};
    key_put_u64(&k, arrival_ms);
    key_put(&k, text->b + 1, text->n - 1);
    return k;
}

// ---- fate records ----

static void put_fate(struct buf *out, struct checksum128 content, const struct fate *f)
{
    buf_put(out, &content, sizeof content);
    buf_put_varint(out, (uint64_t)-f->err);
    if (f->err == 0) {
        buf_put_varint(out, f->seq);
        buf_put_blob(out, f->results);
    } else {
        buf_put_svarint(out, f->problem.position);
        buf_put_varint(out, f->problem.number);
        buf_put_blob(out, SPAN_STR(f->problem.text));
        buf_put_blob(out, f->results);
    }
}

// 1 and the fate, ERR_NAME_REUSED for other content (NULL: whatever it was), ERR_CORRUPT.
static int get_fate(struct cur *c, const struct checksum128 *content, struct fate *out)
{
    struct span stored = cur_span(c, sizeof *content);
    uint64_t err = cur_varint(c);
    struct fate f = {.journaled = true, .again = true, .problem = PROBLEM_NONE, .err = -(int)err};
    if (err == 0) {
        f.seq = cur_varint(c);
        f.results = cur_blob(c);
    } else {
        int64_t position = cur_svarint(c);
        uint64_t number = cur_varint(c);
        struct span text = cur_blob(c);
        problem_set(&f.problem, f.err, position, "%.*s", SPAN_FMT(text));
        problem_number(&f.problem, number);
        f.results = cur_blob(c);
    }
    if (cur_end(c) != 0) return problem_set(&out->problem, ERR_CORRUPT, -1, "a stored fate is damaged");
    if (content != NULL && !span_equal(stored, SPAN(content, sizeof *content))) return problem_set(&out->problem, ERR_NAME_REUSED, -1, "another batch has had this name");
    *out = f;
    return 1;
}

static int find_replica(struct db_txn *txn, int table, const struct batch_name *name, const struct identity *who, const struct checksum128 *content, struct fate *out)
{
    struct key k = replica_key(name->replica);
    struct span value;
    uint64_t highest = 0;
    if (db_get(txn, table, key_span(&k), &value)) {
        struct cur c;
        cur_init(&c, value);
        uint8_t format = cur_u8(&c);
        uint8_t kind = cur_u8(&c);
        highest = cur_varint(&c);
        if (format != FATES_FORMAT || cur_end(&c) != 0) return problem_set(&out->problem, ERR_CORRUPT, -1, "a stored replica is damaged");
        if (kind != who->kind) return problem_set(&out->problem, ERR_REPLICA_BOUND, -1, "the replica belongs to another identity");
    }
    if (name->counter == highest + 1) return 0;
    if (name->counter > highest) {
        out->expected = highest + 1;
        return problem_set(&out->problem, ERR_COUNTER_GAP, -1, "the replica's next counter is %llu", (unsigned long long)highest + 1);
    }
    k = counter_key(name->replica, name->counter);
    if (!db_get(txn, table, key_span(&k), &value)) return problem_set(&out->problem, ERR_FATE_EXPIRED, -1, "counter %llu was settled, its fate is no longer kept", (unsigned long long)name->counter);
    struct cur c;
    cur_init(&c, value);
    if (cur_u8(&c) != FATES_FORMAT) cur_fail(&c);
    return get_fate(&c, content, out);
}

static int find_key(struct db_txn *txn, int table, const struct batch_name *name, const struct identity *who, const struct checksum128 *content, struct fate *out)
{
    struct key k = text_key(name->key, who);
    struct span value;
    if (!db_get(txn, table, key_span(&k), &value)) return 0;
    struct cur c;
    cur_init(&c, value);
    if (cur_u8(&c) != FATES_FORMAT) cur_fail(&c);
    cur_varint(&c); // arrival
    if (!span_is(cur_blob(&c), name->key)) cur_fail(&c);
    return get_fate(&c, content, out);
}

static int find(struct db_txn *txn, int table, const struct batch_name *name, const struct identity *who, const struct checksum128 *content, struct fate *out)
{
    *out = (struct fate){.problem = PROBLEM_NONE};
    int found = 0;
    if (name->kind == BATCH_REPLICA) found = find_replica(txn, table, name, who, content, out);
    if (name->kind == BATCH_KEY) found = find_key(txn, table, name, who, content, out);
    if (found < 0) out->err = found;
    return found;
}

int fates_find(struct db_txn *txn, int table, const struct batch_name *name, const struct identity *who, struct checksum128 content, struct fate *out)
{
    return find(txn, table, name, who, &content, out);
}

int fates_get(struct db_txn *txn, int table, const struct batch_name *name, const struct identity *who, struct fate *out)
{
    int found = find(txn, table, name, who, NULL, out);
    if (found != 0 && found != ERR_COUNTER_GAP) return found;
    struct fate none = {.err = ERR_NO_FATE, .problem = PROBLEM_NONE, .expected = out->expected != 0 ? out->expected : name->counter};
    problem_set(&none.problem, ERR_NO_FATE, -1, "%s", err_text(ERR_NO_FATE));
    *out = none;
    return ERR_NO_FATE;
}

// ---- settling ----

static void settle_replica(struct db_txn *txn, int table, const struct batch_name *name, const struct identity *who, struct span record)
{
    struct key k = counter_key(name->replica, name->counter);
    uint8_t highest[12] = {FATES_FORMAT, (uint8_t)who->kind};
    struct buf b;
    buf_init(&b, sizeof highest);
    buf_put(&b, highest, 2);
    buf_put_varint(&b, name->counter);
    db_put(txn, table, key_span(&k), record);
    k = replica_key(name->replica);
    if (b.err == 0) db_put(txn, table, key_span(&k), buf_span(&b));
    buf_free(&b);
    if (name->counter <= FATES_PER_REPLICA_MAX) return;
    k = counter_key(name->replica, name->counter - FATES_PER_REPLICA_MAX);
    db_del(txn, table, key_span(&k));
}

// Two for each one that comes: the number of kept keys shrinks back after a burst, and no step is long.
static void drop_old_keys(struct db_txn *txn, int table, uint64_t arrival_ms)
{
    for (int i = 0; i < 2; i++) {
        struct db_iter it;
        struct key x = {.b = {'x'}, .n = 1}, old = {.b = {'k'}, .n = 1};
        db_iter_init(&it, txn, table);
        bool found = db_iter_seek(&it, key_span(&x)) && it.key.n == 1 + 8 + 16 && it.key.p[0] == 'x';
        if (found) {
            struct cur c;
            cur_init(&c, span_sub(it.key, 1, 8));
            found = cur_u64_be(&c) + FATE_KEY_MS_MAX < arrival_ms;
            x.n = 0;
            key_put(&x, it.key.p, it.key.n);
            key_put(&old, it.key.p + 9, 16);
        }
        db_iter_end(&it);
        if (!found) return;
        db_del(txn, table, key_span(&old));
        db_del(txn, table, key_span(&x));
    }
}

static void settle_key(struct db_txn *txn, int table, const struct batch_name *name, const struct identity *who, const struct commit *c, struct span record)
{
    struct key k = text_key(name->key, who);
    struct key x = expiry_key(c->arrival_ms, &k);
    db_put(txn, table, key_span(&k), record);
    db_put(txn, table, key_span(&x), SPAN_LIT(""));
    drop_old_keys(txn, table, c->arrival_ms);
}

int fates_settle(struct db_txn *txn, int table, const struct batch_name *name, const struct identity *who, struct checksum128 content, const struct commit *c, const struct fate *f)
{
    if (name->kind == BATCH_UNNAMED) return 0;
    struct buf record;
    buf_init(&record, FATE_RECORD_MAX);
    buf_put_u8(&record, FATES_FORMAT);
    if (name->kind == BATCH_KEY) {
        buf_put_varint(&record, c->arrival_ms);
        buf_put_blob(&record, SPAN_STR(name->key));
    }
    put_fate(&record, content, f);
    int err = record.err;
    if (err == 0 && name->kind == BATCH_REPLICA) settle_replica(txn, table, name, who, buf_span(&record));
    else if (err == 0) settle_key(txn, table, name, who, c, buf_span(&record));
    buf_free(&record);
    return err;
}
