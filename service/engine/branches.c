// Branches in the database. Keys of the one table, by their first byte:
//   'b' name                  -> format, number, base, live, created, writes, operations, bytes
//   'w' number, index (BE)    -> seq, arrival, encoded operations of one write
// Effects: steps one after the other, each its kind and what it needs.
#include "branches.h"

#include <assert.h>

#include "cur.h"
#include "db.h"
#include "err.h"

#define FORMAT 2

struct branch_key {
    uint8_t b[1 + NAME_MAX_BYTES + 1];
    size_t n;
};

static struct span key_span(const struct branch_key *k)
{
    return SPAN(k->b, k->n);
}

static struct branch_key name_key(struct span name)
{
    struct branch_key k = {.b = {'b'}, .n = 1};
    assert(name.n <= NAME_MAX_BYTES);
    if (name.n > 0) memcpy(k.b + 1, name.p, name.n);
    k.n += name.n;
    return k;
}

static void put_be(struct branch_key *k, uint64_t v)
{
    for (int shift = 56; shift >= 0; shift -= 8)
        k->b[k->n++] = (uint8_t)(v >> shift);
}

static struct branch_key write_key(uint64_t no, uint64_t index)
{
    struct branch_key k = {.b = {'w'}, .n = 1};
    put_be(&k, no);
    put_be(&k, index);
    return k;
}

bool branch_name_valid(struct span name)
{
    if (name.n == 0 || name.n > NAME_MAX_BYTES) return false;
    for (size_t i = 0; i < name.n; i++) {
        uint8_t c = name.p[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && (i == 0 || (c != '-' && c != '_' && c != '.'))) return false;
    }
    return true;
}

// ---- reading -------------------------------------------------------------------------------------------------------

static int read_branch(struct span key, struct span record, struct branch *out)
{
    struct cur c;
    struct span name = span_sub(key, 1, key.n);
    if (!branch_name_valid(name)) return ERR_CORRUPT;
    cur_init(&c, record);
    if (cur_u8(&c) != FORMAT) cur_fail(&c);
    struct branch b = {.no = cur_varint(&c), .base = cur_varint(&c)};
    uint8_t live = cur_u8(&c);
    b.created_ms = cur_varint(&c);
    b.writes = cur_varint(&c);
    b.ops = cur_varint(&c);
    b.bytes = cur_varint(&c);
    if (live > 1) cur_fail(&c);
    b.live = live;
    memcpy(b.name, name.p, name.n);
    if (cur_end(&c) != 0) return ERR_CORRUPT;
    *out = b;
    return 0;
}

int branches_find(struct db_txn *txn, int table, struct span name, struct branch *out)
{
    struct span record;
    if (!branch_name_valid(name)) return 0;
    struct branch_key k = name_key(name);
    if (!db_get(txn, table, key_span(&k), &record)) return db_txn_err(txn);
    int err = read_branch(key_span(&k), record, out);
    return err == 0 ? 1 : err;
}

int branches_each(struct db_txn *txn, int table, bool (*fn)(void *ctx, const struct branch *b), void *ctx)
{
    struct branch_key first = name_key(SPAN_NONE);
    struct branch b;
    struct db_iter it;
    int err = 0;
    db_iter_init(&it, txn, table);
    for (bool more = db_iter_seek(&it, key_span(&first)); more && err == 0 && it.key.p[0] == 'b'; more = db_iter_next(&it)) {
        err = read_branch(it.key, it.value, &b);
        if (err == 0 && !fn(ctx, &b)) break;
    }
    db_iter_end(&it);
    return err != 0 ? err : db_txn_err(txn);
}

int branch_write_at(struct db_txn *txn, int table, const struct branch *b, uint64_t index, struct branch_write *out)
{
    struct branch_key k = write_key(b->no, index);
    struct span record;
    struct cur c;
    if (!db_get(txn, table, key_span(&k), &record)) return db_txn_err(txn) != 0 ? db_txn_err(txn) : ERR_CORRUPT;
    cur_init(&c, record);
    out->seq = cur_varint(&c);
    out->arrival_ms = cur_varint(&c);
    out->ops = cur_blob(&c);
    return cur_end(&c);
}

int branch_rewind(struct db_txn *txn, int table, struct branch *b, uint64_t seq)
{
    struct branch_write w;
    for (; b->writes > 0; b->writes--) {
        int err = branch_write_at(txn, table, b, b->writes - 1, &w);
        if (err != 0 || w.seq <= seq) return err;
    }
    return 0;
}

// ---- deciding ------------------------------------------------------------------------------------------------------

enum { EFFECT_CREATE = 1, EFFECT_WRITE, EFFECT_DROP };

static bool count_one(void *ctx, const struct branch *b)
{
    (void)b;
    return ++*(size_t *)ctx < BRANCHES_MAX;
}

int branches_decide_create(struct db_txn *txn, int table, const struct batch_branch *op, const struct commit *c, struct buf *effects, struct problem *p)
{
    struct branch b;
    size_t count = 0;
    if (!branch_name_valid(op->name)) return problem_set(p, ERR_BAD_VALUE, -1, "a branch's name has 1 to %d letters, digits, '-', '_' and '.', a letter or digit first", NAME_MAX_BYTES);
    uint64_t base = op->has_base ? op->base : c->seq - 1;
    if (base >= c->seq) return problem_set(p, ERR_BASE_AHEAD, -1, "seq %llu has not been given out", (unsigned long long)base);
    int found = branches_find(txn, table, op->name, &b);
    if (found != 0) return found < 0 ? found : problem_set(p, ERR_BRANCH_EXISTS, -1, "there is a branch %.*s", SPAN_FMT(op->name));
    int err = branches_each(txn, table, count_one, &count);
    if (err != 0) return err;
    if (count >= BRANCHES_MAX) return problem_set(p, ERR_TOO_MANY, -1, "an app has at most %d branches", BRANCHES_MAX);
    buf_put_u8(effects, EFFECT_CREATE);
    buf_put_blob(effects, op->name);
    buf_put_varint(effects, base);
    buf_put_u8(effects, op->live);
    return 0;
}

int branches_decide_write(const struct branch *b, struct span ops, size_t count, struct buf *effects, struct problem *p)
{
    if (b->ops + count > BATCH_OPS_MAX || b->bytes + ops.n > BATCH_BYTES_MAX)
        return problem_set(p, ERR_BATCH_TOO_LARGE, -1, "a branch may hold %d operations and %u bytes: what one batch may", BATCH_OPS_MAX, BATCH_BYTES_MAX);
    buf_put_u8(effects, EFFECT_WRITE);
    buf_put_blob(effects, SPAN_STR(b->name));
    buf_put_varint(effects, count);
    buf_put_blob(effects, ops);
    return 0;
}

void branches_decide_drop(const struct branch *b, struct buf *effects)
{
    buf_put_u8(effects, EFFECT_DROP);
    buf_put_blob(effects, SPAN_STR(b->name));
}

// ---- applying ------------------------------------------------------------------------------------------------------

static void put_branch(struct db_txn *txn, int table, const struct branch *b)
{
    uint8_t room[128];
    struct buf record = {.p = room, .cap = sizeof room, .max = sizeof room};
    struct branch_key k = name_key(SPAN_STR(b->name));
    buf_put_u8(&record, FORMAT);
    buf_put_varint(&record, b->no);
    buf_put_varint(&record, b->base);
    buf_put_u8(&record, b->live);
    buf_put_varint(&record, b->created_ms);
    buf_put_varint(&record, b->writes);
    buf_put_varint(&record, b->ops);
    buf_put_varint(&record, b->bytes);
    assert(record.err == 0);
    db_put(txn, table, key_span(&k), buf_span(&record));
}

static int apply_create(struct db_txn *txn, int table, const struct commit *c, struct span name, uint64_t base, bool live)
{
    struct branch b = {.no = c->seq, .base = base, .live = live, .created_ms = c->arrival_ms}, was;
    int found = branches_find(txn, table, name, &was);
    if (found != 0 || !branch_name_valid(name) || base >= c->seq) return found < 0 ? found : ERR_CORRUPT;
    memcpy(b.name, name.p, name.n);
    put_branch(txn, table, &b);
    return 0;
}

static int put_write(struct db_txn *txn, int table, const struct branch_key *k, const struct branch_write *w)
{
    struct buf record;
    buf_init(&record, w->ops.n + KIB);
    buf_put_varint(&record, w->seq);
    buf_put_varint(&record, w->arrival_ms);
    buf_put_blob(&record, w->ops);
    if (record.err == 0) db_put(txn, table, key_span(k), buf_span(&record));
    buf_free(&record);
    return record.err;
}

static int apply_write(struct db_txn *txn, int table, const struct commit *c, struct span name, uint64_t count, struct span ops)
{
    struct branch b;
    int found = branches_find(txn, table, name, &b);
    if (found <= 0 || count == 0 || ops.n == 0 || count > BATCH_OPS_MAX) return found < 0 ? found : ERR_CORRUPT;
    struct branch_key k = write_key(b.no, b.writes);
    int err = put_write(txn, table, &k, &(struct branch_write){.seq = c->seq, .arrival_ms = c->arrival_ms, .ops = ops});
    if (err != 0) return err;
    b.writes++;
    b.ops += count;
    b.bytes += ops.n;
    put_branch(txn, table, &b);
    return 0;
}

static int apply_drop(struct db_txn *txn, int table, struct span name)
{
    struct branch b;
    int found = branches_find(txn, table, name, &b);
    if (found <= 0) return found < 0 ? found : ERR_CORRUPT;
    for (uint64_t i = 0; i < b.writes; i++) {
        struct branch_key k = write_key(b.no, i);
        db_del(txn, table, key_span(&k));
    }
    struct branch_key k = name_key(name);
    db_del(txn, table, key_span(&k));
    return 0;
}

int branches_apply(struct db_txn *txn, int table, const struct commit *c, struct span effects)
{
    struct cur cur;
    int err = 0;
    cur_init(&cur, effects);
    while (err == 0 && cur_left(&cur) > 0) {
        uint8_t kind = cur_u8(&cur);
        struct span name = cur_blob(&cur), ops = SPAN_NONE;
        uint64_t number = kind == EFFECT_DROP ? 0 : cur_varint(&cur);
        uint8_t live = kind == EFFECT_CREATE ? cur_u8(&cur) : 0;
        if (kind == EFFECT_WRITE) ops = cur_blob(&cur);
        if (cur.err != 0 || live > 1) return ERR_CORRUPT;
        if (kind == EFFECT_CREATE) err = apply_create(txn, table, c, name, number, live);
        else if (kind == EFFECT_WRITE) err = apply_write(txn, table, c, name, number, ops);
        else err = kind == EFFECT_DROP ? apply_drop(txn, table, name) : ERR_CORRUPT;
    }
    if (err == 0) err = cur_end(&cur);
    return err != 0 ? err : db_txn_err(txn);
}
