// The short form of a token's append. A request is journaled as it was asked for; but the path and the type of a stream are many times a token. So an unnamed
// batch that is one append to a stream that exists is turned into one by number before it is decided. Its decision is the same: it
// is made in the same state, and what was left out, the type, has been looked at in that state.
//
// A named batch is kept as it is: its content is bound to its name.
#include <assert.h>

#include "app_internal.h"

#define SHORTEN_MAX (4 * KIB) // of larger requests the path is a small part

static bool one_append(struct span request, struct batch_op *op)
{
    struct batch_reader r;
    struct batch_op more;
    batch_reader_init(&r, request);
    bool one = batch_read(&r, op) == 1 && op->kind == BATCH_APPEND && op->stream.data.n > 0 && batch_read(&r, &more) == 0;
    batch_reader_free(&r);
    return one;
}

// Is there nothing to it but where, what, of which kind, the type and the expected offset? Only then is the short form the same.
static bool plain(struct buf *scratch, struct span request, const struct batch_op *op)
{
    const struct batch_stream *s = &op->stream;
    struct batch_op bare = {.kind = BATCH_APPEND, .stream = {.path = s->path, .table = s->table, .column = s->column, .id = s->id, .type = s->type, .data = s->data}};
    bare.stream.messages = s->messages;
    bare.stream.has_expect = s->has_expect;
    bare.stream.expect = s->expect;
    buf_clear(scratch);
    batch_put_op(scratch, &bare);
    return span_equal(buf_span(scratch), request);
}

static bool find(struct app *a, const struct batch_stream *s, struct stream_info *info)
{
    uint8_t room[STREAM_PATH_MAX];
    struct buf made = {.p = room, .cap = sizeof room, .max = sizeof room};
    struct span path = s->path;
    if (path.n == 0) {
        rows_stream_path(&made, s->table, s->id, s->column);
        path = buf_span(&made);
    }
    return made.err == 0 && streams_find(a->streams, a->txn, path, info);
}

struct span app_shorten(struct app *a, const struct submission *s)
{
    struct batch_op op;
    struct stream_info info;
    if (s->name.kind != BATCH_UNNAMED || s->request.n > SHORTEN_MAX || s->request.p[0] != BATCH_APPEND) return s->request;
    if (!one_append(s->request, &op) || !plain(&a->shortened, s->request, &op) || !find(a, &op.stream, &info)) return s->request;
    if (op.stream.type.n > 0 && !stream_type_equal(op.stream.type, SPAN_STR(info.type))) return s->request;
    struct batch_op at = {.kind = BATCH_APPEND_AT, .stream = {.number = info.number, .data = op.stream.data}};
    at.stream.messages = op.stream.messages;
    at.stream.has_expect = op.stream.has_expect;
    at.stream.expect = op.stream.expect;
    buf_clear(&a->shortened);
    batch_put_op(&a->shortened, &at);
    return a->shortened.err == 0 ? buf_span(&a->shortened) : s->request;
}
