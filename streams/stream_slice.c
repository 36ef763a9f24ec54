// Pieces of a stream as they lie: shared chunks of the tail, parts of segment files, frames.
#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "err.h"
#include "file.h"
#include "stream_store.h"

#define FILE_SLICE_MIN (32 * KIB) // less is copied: sending a piece of a file is a system call of its own
#define BOUNDARY_WINDOW (64 * KIB)
#define COPY_SLICE_MAX (96 * KIB) // of what is unpacked: it waits in memory for a reader, however slow; and malloc need not ask the kernel

void streams_slice_free(struct stream_slice *slice)
{
    bytes_unref(slice->bytes);
    slice->bytes = NULL;
    file_close(slice->fd);
    slice->fd = -1;
}

static int slice_file(struct segments *g, const struct segment_seen *seen, size_t at, size_t length, struct stream_slice *out)
{
    int fd = stream_segments_fd(g, seen->file);
    if (fd < 0) return fd;
    fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) return ERR_IO;
    out->fd = fd;
    out->position = seen->position + seen->payload_at + at;
    out->length = length;
    return 0;
}

// Unpacked, or too little to be worth more.
static int slice_copy(struct streams *s, uint64_t number, const struct stream_index *ix, size_t at, size_t n, struct stream_slice *out)
{
    const struct segment_record *r;
    int err = stream_segments_read(&s->segments, number, ix, &r);
    if (err != 0) return err;
    if (n > COPY_SLICE_MAX) n = COPY_SLICE_MAX;
    out->n = n;
    out->bytes = bytes_new(span_sub(r->payload, at, n));
    out->length = n;
    return out->bytes == NULL ? ERR_NOMEM : 0;
}

static int slice_sealed(struct streams *s, struct db_txn *txn, const struct stream_view *v, uint64_t offset, uint64_t to, bool packed, struct stream_slice *out)
{
    struct stream_index ix;
    struct segment_seen seen;
    int err = stream_sealed_at(s, txn, v, offset, &ix);
    if (err != 0) return err;
    size_t at = offset - ix.first, n = ix.raw - at;
    if (n > to - offset) n = to - offset;
    out->n = n;
    bool alone = (packed || n >= FILE_SLICE_MIN) && stream_segments_alone(&s->segments, v->rec->number, &ix, &seen);
    bool raw = alone && seen.codec == SEGMENT_PLAIN && n >= FILE_SLICE_MIN;
    bool frame = alone && packed && seen.codec == SEGMENT_ZSTD && n == ix.raw;
    if (raw && slice_file(&s->segments, &seen, at, n, out) == 0) return 0;
    if (frame && slice_file(&s->segments, &seen, 0, seen.payload, out) == 0) return out->packed = true, 0;
    return slice_copy(s, v->rec->number, &ix, at, n, out); // also where descriptors have run out
}

static int slice_tail(const struct stream_view *v, uint64_t offset, uint64_t to, struct stream_slice *out)
{
    if (v->hot == NULL || offset >= v->hot->tail.end) return stream_is_dead(v->rec) ? ERR_NO_SUCH_STREAM : ERR_CORRUPT;
    struct tail_piece piece = stream_tail_piece(&v->hot->tail, offset);
    out->bytes = piece.bytes;
    out->at = piece.at;
    out->length = piece.n < to - offset ? piece.n : (size_t)(to - offset);
    out->n = out->length;
    return 0;
}

int streams_slice(struct streams *s, struct db_txn *txn, uint64_t number, uint64_t offset, uint64_t to, bool packed, struct stream_slice *out)
{
    struct stream_view v, up;
    const struct stream_view *holder;
    uint64_t limit;
    *out = (struct stream_slice){.fd = -1};
    int err = stream_view_number(s, txn, number, &v);
    if (err != 0) return err;
    assert(offset < to);
    if (to > v.rec->offset) return ERR_BAD_OFFSET; // asked for across a recovery, perhaps
    if (offset < v.rec->first) return ERR_STREAM_TRIMMED;
    err = stream_view_holder(s, txn, &v, offset, &up, &holder, &limit);
    if (err != 0) return err;
    if (to > limit) to = limit;
    if (to - offset > STREAM_SLICE_MAX) to = offset + STREAM_SLICE_MAX;
    return offset < holder->sealed ? slice_sealed(s, txn, holder, offset, to, packed, out) : slice_tail(holder, offset, to, out);
}

// ---- pages ---------------------------------------------------------------------------------------------------------

// The end of the last message in (from, to], where `to` lies anywhere: found from behind, as a newline is in no other place.
static int last_message(struct streams *s, struct db_txn *txn, const struct stream_view *v, uint64_t from, uint64_t *to)
{
    struct buf window;
    int err = 0;
    uint64_t end = *to;
    const uint8_t *newline = NULL;
    buf_init(&window, BOUNDARY_WINDOW);
    while (err == 0 && newline == NULL && end > from) {
        uint64_t at = end - from > BOUNDARY_WINDOW ? end - BOUNDARY_WINDOW : from;
        buf_clear(&window);
        err = stream_read_all(s, txn, v, at, end - at, &window);
        if (err == 0) newline = memrchr(window.p, '\n', window.n);
        if (newline != NULL) *to = at + (uint64_t)(newline + 1 - window.p);
        end = at;
    }
    buf_free(&window);
    return err != 0 ? err : newline == NULL ? ERR_CORRUPT : 0;
}

int streams_page(struct streams *s, struct db_txn *txn, uint64_t number, uint64_t from, uint64_t max, uint64_t *to)
{
    struct stream_view v;
    bool is = true;
    int err = stream_view_number(s, txn, number, &v);
    if (err != 0) return err;
    if (v.rec->gone_seq != 0) return ERR_STREAM_GONE;
    if (from > v.rec->offset) return ERR_BAD_OFFSET;
    if (from < v.rec->first) return ERR_STREAM_TRIMMED;
    if (v.rec->json) err = stream_message_boundary(s, txn, &v, from, &is);
    if (err != 0 || !is) return err != 0 ? err : ERR_BAD_OFFSET;
    uint64_t end = v.rec->offset - from > max ? from + max : v.rec->offset;
    if (v.rec->json && end < v.rec->offset) err = last_message(s, txn, &v, from, &end);
    if (err == 0) *to = end;
    return err;
}
