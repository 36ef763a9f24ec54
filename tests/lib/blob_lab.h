// A blob store in a temporary folder, with a database under it and one open write transaction, for tests of blobs/.
#ifndef SEGUE_BLOB_LAB_H
#define SEGUE_BLOB_LAB_H

#include "blobs.h"

struct blob_lab {
    char *folder;
    char *packs; // the folder of the pack files
    struct db *db;
    struct blobs *blobs;
    struct db_txn *txn;
    uint64_t seq;    // of the last commit
    uint64_t now_ms; // at which batches arrive; the test's
};

void lab_open(struct blob_lab *lab);
void lab_close(struct blob_lab *lab);
// The store of a lab whose store was closed.
void lab_open_again(struct blob_lab *lab);
// Commits and comes back as a new process would.
void lab_reopen(struct blob_lab *lab);
char *lab_pack_path(const struct blob_lab *lab, unsigned number); // the caller frees it

// Bytes that do not pack, the same ones for the same seed; and words that do. The caller frees them.
uint8_t *random_content(size_t n, uint64_t seed);
uint8_t *text_content(size_t n, uint64_t seed);

// One window through all of its stages, the barrier behind the last one.
int lab_feed(struct blob_lab *lab, struct blob_upload *u, struct span data, bool last);
// All of `content` in windows of `window` bytes.
int lab_feed_all(struct blob_lab *lab, struct blob_upload *u, struct span content, size_t window);
// Decides and applies the finished upload as a batch of its own.
int lab_commit(struct blob_lab *lab, struct blob_upload *u, const char *type);
// Decides and applies any manifest.
int lab_store(struct blob_lab *lab, const struct sha256 *digest, struct span type, struct span manifest);
// Any step of a blob's life; a row's first link to a blob; any operation on a resumable upload.
int lab_step(struct blob_lab *lab, struct span step);
int lab_link(struct blob_lab *lab, const struct sha256 *digest);
int lab_upload_op(struct blob_lab *lab, struct span op);
// Makes the upload (from 0) and brings the bytes in [from, to) in one progress, then lets it go.
int lab_upload_piece(struct blob_lab *lab, struct uuid id, struct span content, size_t from, size_t to);
// From content to commit, closed in any case. `digest` may be NULL.
int lab_upload(struct blob_lab *lab, struct span content, struct sha256 *digest);
// Appends a range of a stored blob to `out`, in steps of about `budget` bytes.
int lab_read(struct blob_lab *lab, const struct sha256 *digest, uint64_t offset, uint64_t n, size_t budget, struct buf *out);
// True when the whole blob reads as `content`.
bool lab_holds(struct blob_lab *lab, struct span content);

#endif
