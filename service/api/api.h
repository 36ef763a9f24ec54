// The API surfaces: one api_*.c per path of PROTOCOL.md, each handler named in routes.c.
#ifndef SEGUE_API_H
#define SEGUE_API_H

#include "app.h"
#include "http.h"
#include "server.h"
#include "session.h"

extern const struct handler api_schema_get, api_schema_put, api_schemas_get;
extern const struct handler api_batch_post;
extern const struct handler api_begin_post;
extern const struct handler api_fate_get, api_history_get, api_diff_get, api_preview_post;
extern const struct handler api_query_get, api_query_post;
extern const struct handler api_subscribe_get;
extern const struct handler api_sync_get;
extern const struct handler api_stream_put, api_stream_post, api_stream_patch, api_stream_delete, api_stream_get, api_stream_head;
extern const struct handler api_blob_put, api_blob_get, api_blob_head, api_blob_sign;
extern const struct handler api_chunks_missing, api_chunks_post, api_chunks_blob, api_chunks_page;
extern const struct handler api_blob_pin, api_blob_pins, api_blob_check, api_blob_usage;
extern const struct handler api_upload_post, api_upload_head, api_upload_patch, api_upload_delete;
extern const struct handler api_upload_content_get;
// POST, PUT and PATCH of the IETF's draft, and a POST that makes a blob.
extern const struct handler api_resumable;
// Who handles a request that several protocols share a path for: `handler`, or the draft's.
const struct handler *resumable_handler(const struct request *r, const struct handler *handler);
// Does a request on an upload speak the draft rather than tus: it has no Tus-Resumable, and it has what the draft has, or needs nothing of either (HEAD, DELETE)?
bool upload_is_draft(const struct request *r);
void draft_options(struct request *r);    // its fields of the reply to OPTIONS
extern const char upload_fields[];        // of every reply of tus
void upload_options(struct request *r);   // further fields of the reply to OPTIONS there
extern const struct handler api_llm_post, api_llm_get, api_llm_delete;
extern const struct handler api_ds; // asks itself who may
extern const struct handler api_llm_proxy_post, api_llm_proxy_get, api_llm_proxy_delete;
extern const struct handler api_branches_get, api_branch_get, api_branch_put, api_branch_delete, api_branch_diff, api_branch_merge;
extern const struct handler api_apps_get, api_app_get, api_app_put, api_app_delete;
extern const struct handler api_healthz_get, api_metrics_get;

// Branches: their list; {"branch","at","changes"} of one as members, after a failure half of it; the members of steps.
struct jr;
struct jw;
int branches_json(struct jw *w, struct app *app);
int branch_diff_members(struct jw *w, struct app *app, const struct branch *branch, struct problem *p);
int branch_create_members(const struct jr *body, struct batch_branch *step, struct problem *p);
int branch_merge_members(const struct jr *body, struct batch_branch *step, struct problem *p);
// The name of a batch by its Idempotency-Key. ERR_BAD_BATCH: it has another one, or the key is none.
int batch_name_from_header(struct request *r, struct batch_name *name, struct problem *p);
// The JSON of an accepted batch's fate, and its members for those who add their own.
void fate_json(struct buf *out, const struct fate *f, size_t ops);
struct jw;
size_t fate_ops(const struct fate *f); // where nobody knows how many operations the batch had: those up to the last that has a result
void fate_members(struct jw *w, const struct fate *f, size_t ops);
// Which rows a transaction met that were changed meanwhile, as an array.
void fate_conflicts(struct jw *w, const struct fate *f);
// The reply to a rejected batch, or one that met an error.
void reply_fate_problem(struct request *r, const struct fate *f);
// The reply to a batch of so many operations, with `status` where it was accepted.
void reply_fate(struct request *r, const struct fate *f, size_t ops, int status);

#endif
