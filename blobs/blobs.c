#include "blobs.h"

#include <assert.h>
#include <stdlib.h>

#include "blob_store.h"
#include "crew.h"
#include "db.h"
#include "err.h"
#include "log.h"
#include "pack.h"

int blobs_open(struct blobs **out, const struct blobs_options *options, struct db_txn *txn)
{
    int err = db_txn_err(txn);
    if (err != 0) return err;
    struct blobs *b = calloc(1, sizeof *b);
    if (b == NULL) return ERR_NOMEM;
    b->table_blobs = options->first_table;
    b->table_chunks = options->first_table + 1;
    b->table_uploads = options->first_table + 2;
    b->table_pages = options->first_table + 3;
    b->table_life = options->first_table + 4;
    buf_init(&b->entry, KIB);
    buf_init(&b->going, STEP_FORGET_MAX * SHA256_BYTES);
    chunk_table_init(&b->chunks);
    pthread_mutex_init(&b->reading.lock, NULL);
    b->crew = crew_new();
    err = b->crew == NULL ? ERR_NOMEM : verified_init(&b->verified);
    if (err == 0) err = packs_open(&b->packs, options->path, options->pack_bytes);
    if (err == 0) err = works_open(b);
    if (err != 0) {
        packs_close(b->packs);
        buf_free(&b->entry);
        buf_free(&b->going);
        verified_free(&b->verified);
        crew_free(b->crew);
        pthread_mutex_destroy(&b->reading.lock);
        free(b);
        return err;
    }
    *out = b;
    return 0;
}

void blobs_close(struct blobs *b)
{
    if (b == NULL) return;
    assert(b->uploads == 0);
    works_close(b);
    assert(atomic_load(&b->readers) == 0);
    upload_feeds_check_empty(&b->feeds);
    chunk_table_free(&b->chunks);
    buf_free(&b->entry);
    buf_free(&b->going);
    packs_close(b->packs);
    crew_free(b->crew);
    verified_free(&b->verified);
    pthread_mutex_destroy(&b->reading.lock);
    free(b);
}

void blobs_publish(struct blobs *b, uint64_t seq)
{
    upload_feeds_publish(&b->feeds, seq);
}

uint64_t blobs_pack_bytes(const struct blobs *b)
{
    return packs_bytes(b->packs);
}

bool blob_head_find(struct blobs *b, struct db_txn *txn, const struct sha256 *digest, struct blob_info *out, int *err)
{
    struct blob_key key = blob_head_key(digest);
    struct span value;
    *err = 0;
    if (!db_get(txn, b->table_blobs, blob_key_span(&key), &value)) {
        *err = db_txn_err(txn);
        return false;
    }
    *err = blob_head_decode(value, out);
    if (*err != 0) return false;
    out->digest = *digest;
    return true;
}

int blobs_look(struct blobs *b, struct db_txn *txn, const struct sha256 *digest, struct blob_info *out)
{
    struct blob_info info;
    int err;
    if (!blob_head_find(b, txn, digest, &info, &err)) return err != 0 ? err : ERR_NO_SUCH_BLOB;
    *out = info;
    return 0;
}

bool blobs_find(struct blobs *b, struct db_txn *txn, const struct sha256 *digest, struct blob_info *out)
{
    return blobs_look(b, txn, digest, out) == 0;
}
