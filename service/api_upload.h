// What the upload surface's two halves share: api_upload.c (POST, HEAD, DELETE) and api_upload_patch.c (PATCH).
#ifndef SEGUE_API_UPLOAD_H
#define SEGUE_API_UPLOAD_H

#include "api.h"
#include "holds.h"
#include "tus.h"

// A field's value, or a span without a pointer.
struct span upload_field(const struct request *r, const char *name);
// Reads and checks what every request on an upload has: the version and the id in the path. An id that is none is ERR_NO_SUCH_UPLOAD.
int upload_path_id(struct request *r, struct uuid *id, struct problem *p);
// May something be written now? ERR_BUSY, ERR_NO_SPACE, ERR_READ_ONLY.
int upload_may_write(struct app *a);
// A whole reply: an error with all that its code asks for.
void upload_reply_problem(struct request *r, struct problem *p, int err);
// Begins a reply that says where an upload stands. `digest`: of one that is done, or NULL; `seq`: of the commit that is answered, or 0.
void upload_reply_start(struct request *r, int status, uint64_t offset, const struct sha256 *digest, uint64_t seq);
// One operation of the blob store into a batch.
void upload_put_op(struct buf *batch, struct span op);
// The operation that links the finished blob, if the upload's `link` names a place. Everything is copied.
void upload_put_link(struct buf *batch, struct span link, const struct sha256 *digest);

#endif
