#include "seq_times.h"

#include <assert.h>

#include "buf.h"
#include "cur.h"
#include "db.h"
#include "err.h"
#include "limits.h"

#define FORMAT 1
#define CHUNK_BYTES_MAX 1000 // four of them fill a page of the database
#define MARK_BYTES_MAX 20    // two varints
#define DROPPED_AT_ONCE 2    // for each chunk that is begun: what is kept shrinks back after a burst, and no step is long

struct key {
    uint8_t b[8];
};

static struct key key_of(uint64_t seq)
{
    struct key k;
    for (int i = 0; i < 8; i++)
        k.b[i] = (uint8_t)(seq >> (56 - 8 * i));
    return k;
}

static struct span key_span(const struct key *k)
{
    return SPAN(k->b, sizeof k->b);
}

// ---- reading a chunk ---------------------------------------------------------------------------------------------------

struct chunk {
    struct cur rest;
    uint64_t seq, ms; // the mark read last
};

// At its first mark.
static int chunk_open(struct chunk *k, struct span key, struct span value)
{
    struct cur c;
    cur_init(&c, key);
    k->seq = cur_u64_be(&c);
    if (cur_end(&c) != 0) return ERR_CORRUPT;
    cur_init(&k->rest, value);
    uint8_t format = cur_u8(&k->rest);
    k->ms = cur_varint(&k->rest);
    if (k->rest.err != 0) return ERR_CORRUPT;
    return format == FORMAT ? 0 : ERR_VERSION;
}

// 1: at the next mark, 0: that was the last, or ERR_CORRUPT.
static int chunk_next(struct chunk *k)
{
    if (cur_left(&k->rest) == 0) return 0;
    k->seq += cur_varint(&k->rest);
    k->ms += cur_varint(&k->rest);
    return k->rest.err == 0 ? 1 : ERR_CORRUPT;
}

static int chunk_to_end(struct chunk *k)
{
    int got;
    while ((got = chunk_next(k)) == 1)
        ;
    return got;
}

// The last chunk: 1 and its last mark, and its value; 0: there is none.
static int last_chunk(struct db_txn *txn, int table, struct chunk *k, struct key *key, struct span *value)
{
    struct db_iter it;
    db_iter_init(&it, txn, table);
    bool found = db_iter_last(&it);
    int err = found ? chunk_open(k, it.key, it.value) : db_txn_err(txn);
    if (found && err == 0) {
        *key = key_of(k->seq);
        *value = it.value;
        err = chunk_to_end(k);
    }
    db_iter_end(&it);
    return err != 0 ? err : found;
}

int seq_times_load(struct seq_times *t, struct db_txn *txn, int table)
{
    struct chunk k;
    struct key key;
    struct span value;
    int got = last_chunk(txn, table, &k, &key, &value);
    if (got < 0) return got;
    *t = (struct seq_times){.any = got == 1, .last_ms = got == 1 ? k.ms : 0};
    return 0;
}

// ---- marking -----------------------------------------------------------------------------------------------------------

// A chunk goes when the one behind it begins before what is kept: so whatever is younger stays.
static int drop_first(struct db_txn *txn, int table, uint64_t now_ms, bool *dropped)
{
    struct db_iter it;
    struct chunk k;
    struct key first = {{0}};
    int err = 0;
    *dropped = false;
    db_iter_init(&it, txn, table);
    if (db_iter_first(&it) && it.key.n == sizeof first.b) {
        memcpy(first.b, it.key.p, sizeof first.b);
        if (db_iter_next(&it)) {
            err = chunk_open(&k, it.key, it.value);
            *dropped = err == 0 && k.ms + SEQ_TIME_KEPT_MS < now_ms;
        }
    }
    db_iter_end(&it);
    if (*dropped) db_del(txn, table, key_span(&first));
    return err;
}

static int drop_old(struct db_txn *txn, int table, uint64_t now_ms)
{
    int err = 0;
    bool more = true;
    for (int i = 0; i < DROPPED_AT_ONCE && more && err == 0; i++)
        err = drop_first(txn, table, now_ms, &more);
    return err;
}

static int chunk_begin(struct db_txn *txn, int table, const struct commit *c)
{
    uint8_t room[1 + MARK_BYTES_MAX];
    struct buf b = {.p = room, .cap = sizeof room, .max = sizeof room};
    struct key key = key_of(c->seq);
    buf_put_u8(&b, FORMAT);
    buf_put_varint(&b, c->arrival_ms);
    assert(b.err == 0);
    db_put(txn, table, key_span(&key), buf_span(&b));
    return drop_old(txn, table, c->arrival_ms);
}

static void chunk_extend(struct db_txn *txn, int table, const struct key *key, const struct chunk *last, struct span value, const struct commit *c)
{
    uint8_t room[CHUNK_BYTES_MAX + MARK_BYTES_MAX]; // a value that is read is not there any more when it is written
    struct buf b = {.p = room, .cap = sizeof room, .max = sizeof room};
    buf_put_span(&b, value);
    buf_put_varint(&b, c->seq - last->seq);
    buf_put_varint(&b, c->arrival_ms - last->ms);
    assert(b.err == 0);
    db_put(txn, table, key_span(key), buf_span(&b));
}

static int mark(struct db_txn *txn, int table, const struct commit *c)
{
    struct chunk last;
    struct key key;
    struct span value;
    int got = last_chunk(txn, table, &last, &key, &value);
    if (got < 0) return got;
    if (got == 0 || value.n > CHUNK_BYTES_MAX) return chunk_begin(txn, table, c);
    if (last.seq >= c->seq || last.ms > c->arrival_ms) return ERR_CORRUPT;
    chunk_extend(txn, table, &key, &last, value, c);
    return 0;
}

int seq_times_note(struct seq_times *t, struct db_txn *txn, int table, const struct commit *c)
{
    if (t->any && c->arrival_ms < t->last_ms + SEQ_TIME_MS) return 0;
    int err = mark(txn, table, c);
    if (err != 0) return err;
    *t = (struct seq_times){.any = true, .last_ms = c->arrival_ms};
    return db_txn_err(txn);
}

// ---- finding -----------------------------------------------------------------------------------------------------------

// The next mark, in this chunk or the one behind it. 1, 0: there is none, or an error.
static int next_mark(struct db_iter *it, struct chunk *k)
{
    int got = chunk_next(k);
    if (got != 0) return got;
    if (!db_iter_next(it)) return 0;
    int err = chunk_open(k, it->key, it->value);
    return err != 0 ? err : 1;
}

// From the first mark of a chunk, which is not above `seq`.
static int find_from(struct db_iter *it, struct chunk *k, uint64_t seq, uint64_t span_ms, struct seq_time *out)
{
    int got = 1;
    *out = (struct seq_time){.known = true, .next = UINT64_MAX};
    for (; got == 1 && k->seq <= seq; got = next_mark(it, k))
        out->ms = k->ms;
    for (; got == 1 && k->ms - out->ms < span_ms; got = next_mark(it, k))
        ;
    if (got == 1) out->next = k->seq;
    return got < 0 ? got : 0;
}

int seq_times_find(struct db_txn *txn, int table, uint64_t seq, uint64_t span_ms, struct seq_time *out)
{
    struct db_iter it;
    struct chunk k;
    struct key above = key_of(seq + 1);
    int err = 0;
    assert(seq < UINT64_MAX && span_ms > 0);
    *out = (struct seq_time){.next = UINT64_MAX};
    db_iter_init(&it, txn, table);
    if (db_iter_seek_before(&it, key_span(&above))) {
        err = chunk_open(&k, it.key, it.value);
        if (err == 0) err = find_from(&it, &k, seq, span_ms, out);
    } else if (db_iter_first(&it)) {
        err = chunk_open(&k, it.key, it.value);
        if (err == 0) out->next = k.seq;
    }
    db_iter_end(&it);
    return err != 0 ? err : db_txn_err(txn);
}
