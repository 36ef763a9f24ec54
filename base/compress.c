#include "compress.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "err.h"

#define STEP_FIRST 4096
#define WINDOW_LOG_MAX 23     // 8 MiB of history at most for a frame that does not name its size (RFC 8878, 3.1.1.1.2)
#define GZIP_WINDOW (15 + 16) // zlib's way to ask for a gzip header and trailer
#define GZIP_PIECE (1u << 30) // zlib counts in 32 bits

// ---- zstd ------------------------------------------------------------------------------------------------------

// Contexts are large and slow to make, so each thread keeps its own until it ends.
struct contexts {
    ZSTD_CCtx *pack;
    ZSTD_DCtx *unpack;
};

static pthread_key_t contexts_key;
static pthread_once_t contexts_once = PTHREAD_ONCE_INIT;

static void free_contexts(void *p)
{
    struct contexts *c = p;
    ZSTD_freeCCtx(c->pack);
    ZSTD_freeDCtx(c->unpack);
    free(c);
}

static void make_key(void)
{
    int r = pthread_key_create(&contexts_key, free_contexts);
    assert(r == 0);
}

// This thread's, or NULL when memory is exhausted.
static struct contexts *get_contexts(void)
{
    pthread_once(&contexts_once, make_key);
    struct contexts *c = pthread_getspecific(contexts_key);
    if (c != NULL) return c;
    c = malloc(sizeof *c);
    if (c == NULL) return NULL;
    *c = (struct contexts){.pack = ZSTD_createCCtx(), .unpack = ZSTD_createDCtx()};
    if (c->pack != NULL && c->unpack != NULL && pthread_setspecific(contexts_key, c) == 0) return c;
    free_contexts(c);
    return NULL;
}

static int zstd_error(size_t code)
{
    switch (ZSTD_getErrorCode(code)) {
    case ZSTD_error_memory_allocation: return ERR_NOMEM;
    case ZSTD_error_dstSize_tooSmall:
    case ZSTD_error_frameParameter_windowTooLarge: return ERR_TOO_LARGE;
    default: return ERR_CORRUPT;
    }
}

int zstd_pack(struct buf *out, struct span in, int level)
{
    assert(level >= -1 && level <= 19);
    if (out->err != 0) return out->err;
    struct contexts *c = get_contexts();
    if (c == NULL) return ERR_NOMEM;

    // The bound may not fit where the frame itself would.
    size_t bound = ZSTD_compressBound(in.n);
    size_t room = out->max - out->n < bound ? out->max - out->n : bound;
    uint8_t *to = buf_reserve(out, room);
    if (to == NULL) return out->err;
    size_t n = ZSTD_compressCCtx(c->pack, to, room, in.p, in.n, level);
    if (ZSTD_isError(n)) return out->err = zstd_error(n);
    out->n += n;
    return 0;
}

// Unpacks in steps of doubling room, as `known`, the size that the frame names, may be unknown (0), or a lie. Where
// neither input nor output moves on, the room is used up, or the frame is broken.
static int unpack_frame(ZSTD_DCtx *d, struct buf *out, struct span in, size_t max, size_t known)
{
    ZSTD_inBuffer from = {in.p, in.n, 0};
    size_t done = 0;
    size_t step = known > 0 ? known : STEP_FIRST;
    for (;;) {
        if (step > max - done) step = max - done;
        uint8_t *to = buf_reserve(out, step);
        if (to == NULL) return out->err;
        ZSTD_outBuffer piece = {to, step, 0};
        size_t before = from.pos;
        size_t r = ZSTD_decompressStream(d, &piece, &from);
        if (ZSTD_isError(r)) return zstd_error(r);
        out->n += piece.pos;
        done += piece.pos;
        if (r == 0) return from.pos == in.n ? 0 : ERR_CORRUPT;
        if (piece.pos == 0 && from.pos == before) return done == max ? ERR_TOO_LARGE : ERR_CORRUPT;
        step = done > STEP_FIRST ? done : STEP_FIRST;
    }
}

// All at once, which is faster than in steps: a frame that lies about its size fails.
static int unpack_known(ZSTD_DCtx *d, struct buf *out, struct span in, size_t known)
{
    uint8_t *to = buf_reserve(out, known);
    if (to == NULL) return out->err;
    size_t n = ZSTD_decompressDCtx(d, to, known, in.p, in.n);
    if (ZSTD_isError(n)) return zstd_error(n) == ERR_NOMEM ? ERR_NOMEM : ERR_CORRUPT;
    if (n != known) return ERR_CORRUPT;
    out->n += n;
    return 0;
}

int zstd_unpack(struct buf *out, struct span in, size_t max)
{
    if (out->err != 0) return out->err;
    unsigned long long size = ZSTD_getFrameContentSize(in.p, in.n);
    if (size == ZSTD_CONTENTSIZE_ERROR) return ERR_CORRUPT;
    if (size != ZSTD_CONTENTSIZE_UNKNOWN && size > max) return ERR_TOO_LARGE;
    // One frame and nothing behind it; a skippable frame has no content and is none of ours.
    if (ZSTD_findFrameCompressedSize(in.p, in.n) != in.n || in.p[0] != (ZSTD_MAGICNUMBER & 0xff)) return ERR_CORRUPT;

    struct contexts *c = get_contexts();
    if (c == NULL) return ERR_NOMEM;
    if (size != ZSTD_CONTENTSIZE_UNKNOWN) return unpack_known(c->unpack, out, in, (size_t)size);
    ZSTD_DCtx_reset(c->unpack, ZSTD_reset_session_only);
    ZSTD_DCtx_setParameter(c->unpack, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
    size_t before = out->n;
    int err = unpack_frame(c->unpack, out, in, max, size == ZSTD_CONTENTSIZE_UNKNOWN ? 0 : (size_t)size);
    if (err != 0) buf_truncate(out, before);
    return err;
}

// ---- gzip ------------------------------------------------------------------------------------------------------

typedef int gzip_turn(z_streamp z, int flush); // zlib's deflate or inflate

// Runs a zlib stream over the whole of `in`, appending at most `max` bytes in steps of doubling room. Ends where the
// stream does; where neither side moves on, the room is used up, or the input is cut short.
static int run_gzip(z_stream *z, gzip_turn *turn, struct buf *out, struct span in, size_t max)
{
    size_t done = 0;
    for (;;) {
        size_t step = done > STEP_FIRST ? done : STEP_FIRST;
        if (step > max - done) step = max - done;
        if (step > GZIP_PIECE) step = GZIP_PIECE;
        size_t given = in.n < GZIP_PIECE ? in.n : GZIP_PIECE;
        z->next_out = buf_reserve(out, step);
        if (z->next_out == NULL) return out->err;
        z->avail_out = (uInt)step;
        z->next_in = (uint8_t *)in.p; // zlib's type has no const, it only reads
        z->avail_in = (uInt)given;

        int r = turn(z, given == in.n ? Z_FINISH : Z_NO_FLUSH);
        size_t took = given - z->avail_in, made = step - z->avail_out;
        in = SPAN(in.p + took, in.n - took);
        out->n += made;
        done += made;
        if (r == Z_STREAM_END) return in.n == 0 ? 0 : ERR_CORRUPT;
        if (r == Z_MEM_ERROR) return ERR_NOMEM;
        if (r != Z_OK && r != Z_BUF_ERROR) return ERR_CORRUPT;
        if (took == 0 && made == 0) return done == max ? ERR_TOO_LARGE : ERR_CORRUPT;
    }
}

int gzip_pack(struct buf *out, struct span in, int level)
{
    assert(level >= -1 && level <= 9);
    if (out->err != 0) return out->err;
    z_stream z = {0};
    int r = deflateInit2(&z, level, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY);
    if (r != Z_OK) return ERR_NOMEM; // the parameters are right, so it can be nothing else
    size_t before = out->n;
    int err = run_gzip(&z, deflate, out, in, out->max - out->n);
    deflateEnd(&z);
    if (err == 0) return 0;
    buf_truncate(out, before);
    return out->err = err;
}

int gzip_unpack(struct buf *out, struct span in, size_t max)
{
    if (out->err != 0) return out->err;
    z_stream z = {0};
    if (inflateInit2(&z, GZIP_WINDOW) != Z_OK) return ERR_NOMEM;
    size_t before = out->n;
    int err = run_gzip(&z, inflate, out, in, max);
    inflateEnd(&z);
    if (err != 0) buf_truncate(out, before);
    return err;
}

// ---- as it goes out -------------------------------------------------------------------------------------------------

#define CODER_ROOM 4096   // of output asked for at a time
#define CODER_GZIP_LEVEL 1
#define CODER_ZSTD_LEVEL 1
#define CODER_WINDOW_LOG 16
#define CODER_GZIP_WINDOW (14 + 16) // 16 KiB of history: with its tables 128 KiB
#define CODER_GZIP_MEMORY 7

struct coder {
    enum coding coding;
    z_stream gzip;
    ZSTD_CCtx *zstd;
};

static bool zstd_begin(struct coder *c)
{
    c->zstd = ZSTD_createCCtx();
    if (c->zstd == NULL) return false;
    size_t level = ZSTD_CCtx_setParameter(c->zstd, ZSTD_c_compressionLevel, CODER_ZSTD_LEVEL);
    size_t window = ZSTD_CCtx_setParameter(c->zstd, ZSTD_c_windowLog, CODER_WINDOW_LOG);
    size_t table = ZSTD_CCtx_setParameter(c->zstd, ZSTD_c_hashLog, CODER_WINDOW_LOG - 2);
    assert(!ZSTD_isError(level) && !ZSTD_isError(window) && !ZSTD_isError(table));
    return true;
}

struct coder *coder_new(enum coding coding)
{
    _Static_assert(1 << CODER_WINDOW_LOG <= CODER_WINDOW, "");
    struct coder *c = calloc(1, sizeof *c);
    assert(coding != CODING_NONE);
    if (c == NULL) return NULL;
    c->coding = coding;
    bool made = coding == CODING_ZSTD ? zstd_begin(c) : deflateInit2(&c->gzip, CODER_GZIP_LEVEL, Z_DEFLATED, CODER_GZIP_WINDOW, CODER_GZIP_MEMORY, Z_DEFAULT_STRATEGY) == Z_OK;
    if (made) return c;
    free(c);
    return NULL;
}

void coder_free(struct coder *c)
{
    if (c == NULL) return;
    if (c->coding == CODING_ZSTD) ZSTD_freeCCtx(c->zstd);
    else deflateEnd(&c->gzip);
    free(c);
}

static int zstd_step(struct coder *c, struct span in, ZSTD_EndDirective what, struct buf *out)
{
    ZSTD_inBuffer from = {in.p, in.n, 0};
    for (;;) {
        uint8_t *to = buf_reserve(out, CODER_ROOM);
        if (to == NULL) return out->err;
        ZSTD_outBuffer piece = {to, out->cap - out->n, 0};
        size_t left = ZSTD_compressStream2(c->zstd, &piece, &from, what);
        if (ZSTD_isError(left)) return out->err = zstd_error(left);
        out->n += piece.pos;
        if (from.pos == from.size && (left == 0 || what == ZSTD_e_continue)) return 0;
    }
}

// Where output is left over there is more of it to come, but at the end of the member.
static int gzip_step(struct coder *c, struct span in, int what, struct buf *out)
{
    z_stream *z = &c->gzip;
    int r = Z_OK;
    assert(in.n <= GZIP_PIECE);
    z->next_in = (Bytef *)in.p;
    z->avail_in = (uInt)in.n;
    do {
        uint8_t *to = buf_reserve(out, CODER_ROOM);
        if (to == NULL) return out->err;
        size_t room = out->cap - out->n < GZIP_PIECE ? out->cap - out->n : GZIP_PIECE;
        z->next_out = to;
        z->avail_out = (uInt)room;
        r = deflate(z, what);
        assert(r != Z_STREAM_ERROR);
        out->n += room - z->avail_out;
    } while (z->avail_out == 0 || (what == Z_FINISH && r != Z_STREAM_END));
    return 0;
}

static int coder_step(struct coder *c, struct span in, ZSTD_EndDirective zstd, int gzip, struct buf *out)
{
    if (out->err != 0) return out->err;
    return c->coding == CODING_ZSTD ? zstd_step(c, in, zstd, out) : gzip_step(c, in, gzip, out);
}

int coder_put(struct coder *c, struct span in, struct buf *out)
{
    return in.n == 0 ? out->err : coder_step(c, in, ZSTD_e_continue, Z_NO_FLUSH, out);
}

int coder_flush(struct coder *c, struct buf *out)
{
    return coder_step(c, SPAN_NONE, ZSTD_e_flush, Z_SYNC_FLUSH, out);
}

int coder_end(struct coder *c, struct buf *out)
{
    return coder_step(c, SPAN_NONE, ZSTD_e_end, Z_FINISH, out);
}
