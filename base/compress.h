// zstd and gzip. The only user of zstd.h and zlib.h. All functions: any thread.
#ifndef SEGUE_COMPRESS_H
#define SEGUE_COMPRESS_H

#include "buf.h"

// Appends one zstd frame that names its content's size. Level -1 to 19. ERR_TOO_LARGE (also the buffer's then) where it does
// not fit. Each thread that comes here keeps its contexts, some MiB, until it ends.
int zstd_pack(struct buf *out, struct span in, int level);

// Appends the content of exactly one frame, at most `max` bytes; ERR_TOO_LARGE beyond, and for a frame that names no size
// and wants more than 8 MiB of history. ERR_CORRUPT where it is not a whole valid frame. A failure appends nothing.
int zstd_unpack(struct buf *out, struct span in, size_t max);

// The same with one gzip member (RFC 1952). Level -1 (zlib's choice) to 9.
int gzip_pack(struct buf *out, struct span in, int level);
int gzip_unpack(struct buf *out, struct span in, size_t max);

// ---- as it goes out -------------------------------------------------------------------------------------------------

enum coding { CODING_NONE, CODING_GZIP, CODING_ZSTD };

// One gzip member or zstd frame that is made piece by piece, with a history of at most CODER_WINDOW bytes. One thread at a time.
#define CODER_WINDOW (64 * 1024)
struct coder;
struct coder *coder_new(enum coding coding); // NULL: no memory
void coder_free(struct coder *c);            // NULL is fine
// Each appends what there is to send; a failure is the buffer's error, or ERR_NOMEM.
int coder_put(struct coder *c, struct span in, struct buf *out); // perhaps nothing yet
int coder_flush(struct coder *c, struct buf *out);               // who has all until here can read all that was put
int coder_end(struct coder *c, struct buf *out);                 // the last of it

#endif
