#include "row_keys.h"

#include <assert.h>

#include "err.h"
#include "hlc.h"

#define FORMAT 2

enum { SPACE_ROW = 1, SPACE_REFERENCE = 2, SPACE_HORIZON = 3, SPACE_INDEX_STATE = 3, SPACE_BLOB_NAME = 5 };

// ---- numbers that sort ---------------------------------------------------------------------------------------------

// Below 240: that byte. Else 239 and how many bytes follow, and these, the highest first. Never begins with more than 247.
enum { NUMBER_ONE_BYTE = 240 };

static size_t number_put(uint8_t *to, uint64_t v)
{
    size_t n = 1;
    if (v < NUMBER_ONE_BYTE) {
        to[0] = (uint8_t)v;
        return 1;
    }
    while (n < 8 && v >> n * 8)
        n++;
    to[0] = (uint8_t)(NUMBER_ONE_BYTE - 1 + n);
    for (size_t i = 0; i < n; i++)
        to[1 + i] = (uint8_t)(v >> (n - 1 - i) * 8);
    return n + 1;
}

// Takes a number off the front of *key; false: there is none, or it could be shorter.
static bool number_take(struct span *key, uint64_t *v)
{
    if (key->n == 0) return false;
    size_t n = key->p[0] < NUMBER_ONE_BYTE ? 0 : (size_t)key->p[0] - (NUMBER_ONE_BYTE - 1);
    if (n > 8 || key->n < n + 1) return false;
    *v = n ? 0 : key->p[0];
    for (size_t i = 1; i <= n; i++)
        *v = *v << 8 | key->p[i];
    *key = span_sub(*key, n + 1, key->n);
    return n == 0 || (n == 1 ? *v >= NUMBER_ONE_BYTE : *v >> (n - 1) * 8 != 0);
}

static bool take_number32(struct span *key, uint32_t *v)
{
    uint64_t wide;
    if (!number_take(key, &wide) || wide > UINT32_MAX) return false;
    *v = (uint32_t)wide;
    return true;
}

static void put(struct key *k, uint64_t v)
{
    assert(k->n + 9 <= sizeof k->b);
    k->n += number_put(k->b + k->n, v);
}

static void put_id(struct key *k, struct uuid id)
{
    assert(k->n + sizeof id.b <= sizeof k->b);
    memcpy(k->b + k->n, id.b, sizeof id.b);
    k->n += sizeof id.b;
}

static struct uuid get_id(const uint8_t *p)
{
    struct uuid id;
    memcpy(id.b, p, sizeof id.b);
    return id;
}

static bool take_id(struct span *key, struct uuid *id)
{
    if (key->n < sizeof id->b) return false;
    *id = get_id(key->p);
    *key = span_sub(*key, sizeof id->b, key->n);
    return true;
}

// ---- rows ----------------------------------------------------------------------------------------------------------

struct key key_row_table(uint32_t table)
{
    struct key k = {.n = 0};
    put(&k, SPACE_ROW);
    put(&k, table);
    return k;
}

struct key key_row(uint32_t table, struct uuid id)
{
    struct key k = key_row_table(table);
    put_id(&k, id);
    return k;
}

bool key_row_parse(struct span key, uint32_t table, struct uuid *id)
{
    uint64_t space;
    uint32_t no;
    struct uuid found;
    if (!number_take(&key, &space) || space != SPACE_ROW || !take_number32(&key, &no) || no != table) return false;
    if (!take_id(&key, &found) || key.n > 0) return false;
    *id = found;
    return true;
}

struct key key_references_to(uint32_t table, struct uuid id)
{
    struct key k = {.n = 0};
    put(&k, SPACE_REFERENCE);
    put(&k, table);
    put_id(&k, id);
    return k;
}

struct key key_reference(const struct reference *ref)
{
    struct key k = key_references_to(ref->table, ref->id);
    put(&k, ref->from_table);
    put(&k, ref->from_column);
    put_id(&k, ref->from_id);
    return k;
}

bool key_reference_parse(struct span key, struct reference *ref)
{
    uint64_t space, column;
    if (!number_take(&key, &space) || space != SPACE_REFERENCE || !take_number32(&key, &ref->table) || !take_id(&key, &ref->id)) return false;
    if (!take_number32(&key, &ref->from_table) || !number_take(&key, &column) || column > UINT16_MAX) return false;
    ref->from_column = (uint16_t)column;
    return take_id(&key, &ref->from_id) && key.n == 0;
}

struct key key_history(uint32_t table, struct uuid id, uint64_t seq)
{
    struct key k = {.n = 0};
    put(&k, table);
    put_id(&k, id);
    put(&k, seq);
    return k;
}

bool key_history_parse(struct span key, uint32_t table, struct uuid id, uint64_t *seq)
{
    uint32_t no;
    struct uuid found;
    if (!take_number32(&key, &no) || no != table || !take_id(&key, &found) || !uuid_equal(found, id)) return false;
    return number_take(&key, seq) && key.n == 0;
}

struct key key_commit(uint64_t seq)
{
    struct key k = {.n = 0};
    put(&k, seq);
    return k;
}

uint64_t key_commit_parse(struct span key)
{
    uint64_t seq;
    return number_take(&key, &seq) && key.n == 0 ? seq : 0;
}

struct key key_blob_names(const struct sha256 *digest)
{
    struct key k = {.n = 0};
    put(&k, SPACE_BLOB_NAME);
    memcpy(k.b + k.n, digest->b, SHA256_BYTES);
    k.n += SHA256_BYTES;
    return k;
}

struct key key_blob_name(const struct sha256 *digest, uint32_t table, uint16_t column, struct uuid id, uint64_t seq)
{
    struct key k = key_blob_names(digest);
    put(&k, table);
    put(&k, column);
    put_id(&k, id);
    put(&k, seq);
    return k;
}

struct key key_horizon(void)
{
    struct key k = {.n = 0};
    put(&k, SPACE_HORIZON);
    return k;
}

struct key key_schema(uint32_t version)
{
    struct key k = {.n = 0};
    put(&k, version);
    return k;
}

uint32_t key_schema_parse(struct span key)
{
    uint32_t version;
    return take_number32(&key, &version) && key.n == 0 ? version : 0;
}

// ---- indexes -------------------------------------------------------------------------------------------------------

struct index_key key_index(enum index_space space, uint32_t table, uint32_t index)
{
    struct index_key k = {.n = 0};
    k.b[k.n++] = (uint8_t)space;
    k.n += number_put(k.b + k.n, table);
    k.n += number_put(k.b + k.n, index);
    return k;
}

void key_index_columns(struct index_key *k, struct span columns)
{
    assert(columns.n <= INDEX_KEY_MAX && k->n + columns.n <= sizeof k->b);
    if (columns.n > 0) memcpy(k->b + k->n, columns.p, columns.n);
    k->n += columns.n;
}

void key_index_id(struct index_key *k, struct uuid id)
{
    assert(k->n + sizeof id.b <= sizeof k->b);
    memcpy(k->b + k->n, id.b, sizeof id.b);
    k->n += sizeof id.b;
}

// As few bytes as it needs, and how many those are: so it is found from the end, where the columns' length is not known.
void key_index_died(struct index_key *k, uint64_t died)
{
    uint8_t n = 1;
    while (n < 8 && died >> n * 8)
        n++;
    assert(k->n + n + 1 <= sizeof k->b);
    for (uint8_t i = 0; i < n; i++)
        k->b[k->n++] = (uint8_t)(died >> (n - 1 - i) * 8);
    k->b[k->n++] = n;
}

bool key_index_parse(struct span key, size_t skip, enum index_space space, struct span *columns, struct uuid *id, uint64_t *died)
{
    struct span rest = span_sub(key, skip, key.n);
    uint64_t seq = 0;
    if (key.n < skip) return false;
    if (space == INDEX_PAST) {
        size_t n = rest.n > 0 ? rest.p[rest.n - 1] : 0;
        if (n < 1 || n > 8 || rest.n < n + 1) return false;
        for (size_t i = rest.n - 1 - n; i < rest.n - 1; i++)
            seq = seq << 8 | rest.p[i];
        rest.n -= n + 1;
    }
    if (rest.n < sizeof id->b) return false;
    *columns = span_sub(rest, 0, rest.n - sizeof id->b);
    *id = get_id(rest.p + columns->n);
    *died = seq;
    return true;
}

struct key key_index_states(void)
{
    struct key k = {.n = 0};
    put(&k, SPACE_INDEX_STATE);
    return k;
}

struct key key_index_state(uint32_t table, uint32_t index)
{
    struct key k = key_index_states();
    put(&k, table);
    put(&k, index);
    return k;
}

bool key_index_state_parse(struct span key, uint32_t *table, uint32_t *index)
{
    uint64_t space;
    return number_take(&key, &space) && space == SPACE_INDEX_STATE && take_number32(&key, table) && take_number32(&key, index) && key.n == 0;
}

// ---- commits -------------------------------------------------------------------------------------------------------

enum { COMMIT_SCHEMA = 1, COMMIT_TRANSACTION = 2, COMMIT_WRITER = 4, COMMIT_KEY = 8, COMMIT_AUTHOR = 16, COMMIT_FLAGS = 31 };
enum { OTHER_TABLE = 16 }; // in the place of how many bytes an id shares

static uint8_t commit_flags(const struct commit_head *h)
{
    bool writer = h->counter > 0 || !uuid_equal(h->writer, (struct uuid){{0}});
    return (uint8_t)((h->schema ? COMMIT_SCHEMA : 0) | (h->transaction ? COMMIT_TRANSACTION : 0) | (writer ? COMMIT_WRITER : 0) |
                     (h->key.n > 0 ? COMMIT_KEY : 0) | (h->author.n > 0 ? COMMIT_AUTHOR : 0));
}

// The stamp is most often the arrival's own, or close to it.
void commit_record_begin(struct buf *out, const struct commit_head *head)
{
    uint8_t flags = commit_flags(head);
    buf_put_u8(out, FORMAT);
    buf_put_u8(out, flags);
    buf_put_varint(out, head->arrival_ms);
    buf_put_svarint(out, (int64_t)(head->stamp - hlc_stamp(head->arrival_ms, 0)));
    if (flags & COMMIT_WRITER) {
        buf_put(out, head->writer.b, sizeof head->writer.b);
        buf_put_varint(out, head->counter);
    }
    if (flags & COMMIT_KEY) buf_put_blob(out, head->key);
    if (flags & COMMIT_AUTHOR) buf_put_blob(out, head->author);
    buf_put_varint(out, head->touched);
}

void commit_record_row(struct buf *out, struct commit_rows *last, uint32_t table, struct uuid id)
{
    uint8_t shared = 0;
    assert(table > 0);
    if (table == last->table) {
        while (shared < sizeof id.b - 1 && id.b[shared] == last->id.b[shared])
            shared++;
        buf_put_u8(out, shared);
    } else {
        buf_put_u8(out, OTHER_TABLE);
        buf_put_varint(out, table);
    }
    buf_put(out, id.b + shared, sizeof id.b - shared);
    *last = (struct commit_rows){.table = table, .id = id};
}

int commit_record_read(struct cur *c, struct span record, struct commit_head *head)
{
    cur_init(c, record);
    if (cur_u8(c) != FORMAT) cur_fail(c);
    uint8_t flags = cur_u8(c);
    if (flags > COMMIT_FLAGS) cur_fail(c);
    *head = (struct commit_head){
        .schema = flags & COMMIT_SCHEMA, .transaction = flags & COMMIT_TRANSACTION, .arrival_ms = cur_varint(c)};
    head->stamp = hlc_stamp(head->arrival_ms, 0) + (uint64_t)cur_svarint(c);
    if (flags & COMMIT_WRITER) {
        struct span writer = cur_span(c, sizeof head->writer.b);
        if (!c->err) head->writer = get_id(writer.p);
        head->counter = cur_varint(c);
    }
    if (flags & COMMIT_KEY) head->key = cur_blob(c);
    if (flags & COMMIT_AUTHOR) head->author = cur_blob(c);
    head->touched = cur_varint(c);
    if (head->touched > cur_left(c)) cur_fail(c);
    return c->err;
}

void commit_record_next(struct cur *c, struct commit_rows *last)
{
    uint8_t shared = cur_u8(c);
    struct commit_rows next = *last;
    if (shared == OTHER_TABLE) {
        uint64_t no = cur_varint(c);
        if (no < 1 || no > UINT32_MAX) cur_fail(c);
        next.table = (uint32_t)no;
        shared = 0;
    }
    if (shared >= sizeof next.id.b || next.table == 0) cur_fail(c);
    struct span rest = cur_span(c, c->err ? 0 : sizeof next.id.b - shared);
    if (c->err) return;
    memcpy(next.id.b + shared, rest.p, rest.n);
    *last = next;
}

int commit_record_each(struct span record, struct commit_head *head, int (*fn)(void *ctx, const struct commit_rows *row), void *ctx)
{
    struct commit_rows row = {.table = 0};
    struct cur c;
    int err = commit_record_read(&c, record, head);
    for (uint64_t i = 0; !err && i < head->touched; i++) {
        commit_record_next(&c, &row);
        err = c.err ? c.err : fn(ctx, &row);
    }
    return err ? err : cur_end(&c);
}
