// Deciding a batch's stream operations: an overlay over the store that knows only the streams this batch names. It holds copies,
// so the store is never changed; what was decided leaves as effects (stream_effects.h).
#include <assert.h>
#include <stdlib.h>
#include <strings.h>

#include "err.h"
#include "stream_effects.h"
#include "stream_store.h"
#include "utf8.h"

#define TYPE_DEFAULT "application/octet-stream"

// One path as the batch would leave it.
struct decided {
    struct table_node node;
    bool exists;
    struct stream_record rec; // the path is filled in always
};

struct streams_batch {
    struct streams *s;
    struct db_txn *txn;
    const struct commit *c;
    uint64_t next_number;
    struct table paths;
    struct buf effects;
};

struct streams_batch *streams_decide(struct streams *s, struct db_txn *txn, const struct commit *c)
{
    struct streams_batch *b = malloc(sizeof *b);
    if (b == NULL) return NULL;
    *b = (struct streams_batch){.s = s, .txn = txn, .c = c, .next_number = s->alloc.next_number};
    buf_init(&b->effects, ENTRY_BYTES_MAX);
    if (stream_table_init(&b->paths) != 0) {
        free(b);
        return NULL;
    }
    return b;
}

void streams_batch_free(struct streams_batch *b)
{
    if (b == NULL) return;
    for (struct table_node *n; (n = stream_table_take(&b->paths)) != NULL;)
        free(TABLE_OWNER(n, struct decided, node));
    stream_table_free(&b->paths);
    buf_free(&b->effects);
    free(b);
}

// ---- the overlay ---------------------------------------------------------------------------------------------------

static struct decided *decided_lookup(struct streams_batch *b, struct span path, uint64_t hash)
{
    for (struct table_node *n = stream_table_first(&b->paths, hash); n != NULL; n = stream_table_more(n)) {
        struct decided *d = TABLE_OWNER(n, struct decided, node);
        if (span_equal(stream_path(&d->rec), path)) return d;
    }
    return NULL;
}

// Copies what the store has at `path`, if anything.
static int decided_load(struct streams_batch *b, struct span path, struct decided *d)
{
    struct stream_view v;
    int err = stream_view_path(b->s, b->txn, path, &v);
    if (err != 0 && err != ERR_NO_SUCH_STREAM) return err;
    d->exists = err == 0;
    if (d->exists) d->rec = *v.rec;
    d->rec.path_n = (uint16_t)path.n;
    memcpy(d->rec.path, path.p, path.n);
    return 0;
}

static int decided_get(struct streams_batch *b, struct span path, struct decided **out)
{
    assert(path.n > 0 && path.n <= STREAM_PATH_MAX);
    uint64_t hash = stream_hash_path(b->s, path);
    *out = decided_lookup(b, path, hash);
    if (*out != NULL) return 0;
    struct decided *d = malloc(sizeof *d);
    if (d == NULL) return ERR_NOMEM;
    memset(d, 0, sizeof *d);
    int err = decided_load(b, path, d);
    if (err != 0) {
        free(d);
        return err;
    }
    stream_table_insert(&b->paths, &d->node, hash);
    *out = d;
    return 0;
}

// The stream that must exist for an operation to go on.
static int decided_need(struct streams_batch *b, struct span path, struct decided **out, struct problem *p)
{
    bool possible = path.n > 0 && path.n <= STREAM_PATH_MAX;
    int err = possible ? decided_get(b, path, out) : 0;
    if (err != 0) return problem_set(p, err, -1, "%s", err_text(err));
    if (!possible || !(*out)->exists) return problem_set(p, ERR_STREAM_NOT_FOUND, -1, "there is no stream \"%.*s\"", SPAN_FMT(path));
    return 0;
}

// Appends an effect. After an error the effects are as before: the operation did not happen.
static int decided_effect(struct streams_batch *b, const struct effect *e, struct problem *p)
{
    size_t before = b->effects.n;
    stream_effect_put(&b->effects, e);
    if (b->effects.err == 0) return 0;
    int err = b->effects.err == ERR_TOO_LARGE ? ERR_BATCH_TOO_LARGE : b->effects.err;
    buf_truncate(&b->effects, before);
    return problem_set(p, err, -1, "%s", err_text(err));
}

// Content types are compared without regard to case (RFC 9110, section 8.3.1).
static bool type_equal(const struct stream_record *r, struct span type)
{
    return r->type_n == type.n && strncasecmp(r->type, (const char *)type.p, type.n) == 0;
}

// ---- the operations ------------------------------------------------------------------------------------------------

static int check_names(struct span path, struct span type, struct problem *p)
{
    if (path.n == 0 || path.n > STREAM_PATH_MAX)
        return problem_set(p, ERR_BAD_VALUE, -1, "a stream path has 1 to %d bytes", STREAM_PATH_MAX);
    if (type.n > STREAM_TYPE_MAX) return problem_set(p, ERR_BAD_VALUE, -1, "a content type has at most %d bytes", STREAM_TYPE_MAX);
    if (!utf8_valid(path) || !utf8_valid(type)) return problem_set(p, ERR_BAD_UTF8, -1, "a stream path and a content type are UTF-8");
    return 0;
}

static void decided_create(struct streams_batch *b, struct decided *d, struct span type, bool owned)
{
    struct stream_record *r = &d->rec;
    r->number = b->next_number++;
    r->offset = 0;
    r->created_seq = r->changed_seq = b->c->seq;
    r->created_ms = b->c->arrival_ms;
    r->closed_seq = r->deleted_seq = 0;
    r->owned = owned;
    r->type_n = (uint8_t)type.n;
    memcpy(r->type, type.p, type.n);
    r->type[type.n] = '\0';
    d->exists = true;
}

int streams_decide_create(struct streams_batch *b, struct span path, struct span type, bool owned, bool *created, struct problem *p)
{
    struct decided *d;
    if (type.n == 0) type = SPAN_LIT(TYPE_DEFAULT);
    int err = check_names(path, type, p);
    if (err != 0) return err;
    err = decided_get(b, path, &d);
    if (err != 0) return problem_set(p, err, -1, "%s", err_text(err));
    if (d->exists && (!type_equal(&d->rec, type) || d->rec.owned != owned))
        return problem_set(p, ERR_STREAM_EXISTS, -1, "the stream \"%.*s\" exists with other settings", SPAN_FMT(path));
    if (!d->exists) {
        struct effect e = {.kind = EFFECT_CREATE, .number = b->next_number, .path = path, .type = type, .owned = owned};
        err = decided_effect(b, &e, p);
        if (err != 0) return err;
        decided_create(b, d, type, owned);
        *created = true;
        return 0;
    }
    *created = false;
    return 0;
}

static int check_append(const struct decided *d, struct span type, struct span data, const uint64_t *expected, struct problem *p)
{
    const struct stream_record *r = &d->rec;
    if (r->closed_seq != 0) return problem_set(p, ERR_STREAM_CLOSED, -1, "the stream \"%.*s\" is closed", SPAN_FMT(stream_path(r)));
    if (type.n > 0 && !type_equal(r, type))
        return problem_set(p, ERR_CONTENT_TYPE_MISMATCH, -1, "the stream's content type is %s", r->type);
    if (expected != NULL && *expected != r->offset)
        return problem_set(p, ERR_OFFSET_MISMATCH, -1, "the stream ends at offset %llu, not %llu", (unsigned long long)r->offset,
                           (unsigned long long)*expected);
    if (data.n > STREAM_APPEND_MAX) return problem_set(p, ERR_TOO_LARGE, -1, "an append has at most %u bytes", STREAM_APPEND_MAX);
    return 0;
}

int streams_decide_append(struct streams_batch *b, struct span path, struct span type, struct span data, const uint64_t *expected,
                          uint64_t *offset, struct problem *p)
{
    struct span request = b->c->request;
    assert(data.n == 0 || (data.p >= request.p && data.n <= request.n && (size_t)(data.p - request.p) <= request.n - data.n));
    struct decided *d;
    int err = decided_need(b, path, &d, p);
    if (err == 0) err = check_append(d, type, data, expected, p);
    if (err == 0 && data.n > 0) {
        struct effect e = {.kind = EFFECT_APPEND,
                           .number = d->rec.number,
                           .offset = d->rec.offset,
                           .at = (uint64_t)(data.p - request.p),
                           .length = data.n};
        err = decided_effect(b, &e, p);
    }
    if (err != 0) return err;
    if (data.n > 0) d->rec.changed_seq = b->c->seq;
    d->rec.offset += data.n;
    if (offset != NULL) *offset = d->rec.offset;
    return 0;
}

int streams_decide_close(struct streams_batch *b, struct span path, uint64_t *offset, struct problem *p)
{
    struct decided *d;
    int err = decided_need(b, path, &d, p);
    if (err == 0 && d->rec.closed_seq == 0) {
        struct effect e = {.kind = EFFECT_CLOSE, .number = d->rec.number, .offset = d->rec.offset};
        err = decided_effect(b, &e, p);
        if (err == 0) d->rec.closed_seq = d->rec.changed_seq = b->c->seq;
    }
    if (err == 0 && offset != NULL) *offset = d->rec.offset;
    return err;
}

int streams_decide_delete(struct streams_batch *b, struct span path, struct problem *p)
{
    struct decided *d;
    int err = decided_need(b, path, &d, p);
    if (err != 0) return err;
    struct effect e = {.kind = EFFECT_DELETE, .number = d->rec.number};
    err = decided_effect(b, &e, p);
    if (err == 0) d->exists = false;
    return err;
}

bool streams_decide_find(struct streams_batch *b, struct span path, struct stream_info *out)
{
    struct decided *d;
    if (path.n == 0 || path.n > STREAM_PATH_MAX) return false;
    if (decided_get(b, path, &d) != 0 || !d->exists) return false;
    stream_info_fill(out, &d->rec);
    return true;
}

void streams_decide_effects(struct streams_batch *b, struct buf *effects)
{
    buf_put_span(effects, buf_span(&b->effects));
}
