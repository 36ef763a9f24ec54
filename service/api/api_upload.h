// What the upload surface's parts share: api_upload.c (HEAD, DELETE), api_upload_post.c (POST) and api_upload_patch.c (PATCH, and a POST's body).
#ifndef SEGUE_API_UPLOAD_H
#define SEGUE_API_UPLOAD_H

#include "api.h"
#include "holds.h"
#include "tus.h"
#include "upload_intake.h"

// A field's value, or a span without a pointer.
struct span upload_field(const struct request *r, const char *name);
// Reads and checks what every request on an upload has: the version and the id in the path. An id that is none is ERR_NO_SUCH_UPLOAD.
int upload_path_id(struct request *r, struct uuid *id, struct problem *p);
// The draft's side of what both share (api_resumable.c): the check of a request without a body, and the replies.
int draft_check_bare(const struct request *r, struct problem *p);
void draft_reply_info(struct request *r, const struct upload_info *info);
void draft_reply_problem(struct request *r, struct problem *p);
// May something be written now? ERR_BUSY, ERR_NO_SPACE, ERR_READ_ONLY.
int upload_may_write(struct app *a);
// May one more be made? ERR_TOO_MANY.
int upload_has_room(struct app *a, struct problem *p);
// What an upload belongs to, for those who ask later: the kind of identity and its name.
struct span upload_owner(const struct identity *who, uint8_t room[UPLOAD_OWNER_MAX]);
// Segue-Link, where it is given, is checked: its form, and that this request may have it written. ERR_BAD_REQUEST, ERR_FORBIDDEN.
int upload_read_link(struct request *r, struct span *link, struct problem *p);
// A whole reply: an error with all that its code asks for.
void upload_reply_problem(struct request *r, struct problem *p, int err);
// Begins a reply that says where an upload stands; the caller adds to it, and ends it with reply_body.
void upload_reply_state(struct request *r, int status, const struct intake_state *s);
void upload_reply_location(struct request *r, struct uuid id);
// Where the parts of an upload lead, as far as that is known: the sum of their lengths. False: one has none yet, or is gone.
bool upload_parts_length(struct app *a, struct span parts, uint64_t *out);
// One operation of the blob store into a batch.
void upload_put_op(struct buf *batch, struct span op);
// The operation that links the finished blob, if the upload's `link` names a place. Everything is copied.
void upload_put_link(struct buf *batch, struct span link, const struct sha256 *digest);

// The body of a PATCH or of a POST: reads the fields that say what it is, and takes it into the upload that `plan` names (id; make, or offset).
// The reply comes from there; ERR_*: nothing was begun.
int upload_take_body(struct request *r, struct intake_plan *plan, struct problem *p);
void upload_body(struct request *r, struct span piece);
uint8_t *upload_body_room(struct request *r, size_t *n);
void upload_body_end(struct request *r);

// A request's data, where it has a body that is taken; api_upload_post.c keeps its own beside it.
struct upload_call {
    struct request *r; // NULL once it is gone
    struct intake *intake;
    struct uuid id;
    bool created; // it is a POST
    bool trailer; // the checksum comes behind the body
};

#endif
