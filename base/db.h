// The embedded key-value store under an app: LMDB behind transactions with a sticky error. The only user of lmdb.h.
//
// One environment per app, opened by one process. A transaction belongs to the thread that began it (asserted); a write transaction may be used by another one
// (db_take), but is ended where it was begun.
// The environment runs with MDB_NOMETASYNC: a commit is atomic and never corrupts, and the last one may be lost
// in a power cut; never with MDB_NOSYNC. See the journal for what that means.
#ifndef SEGUE_DB_H
#define SEGUE_DB_H

#include "span.h"

struct db;
struct db_txn;
struct digest;

#define DB_TABLES_MAX 24 // named tables of one environment; their number is the caller's enum
#define DB_KEY_MAX 511   // bytes of a key

struct db_options {
    const char *path;          // a folder; made where it is missing
    uint64_t map_bytes;        // reserved address space; 0: DB_MAP_BYTES
    const char *const *tables; // names, created where missing; `table` below is an index into this
    int table_count;
    uint32_t summed; // a bit for each table whose values carry a checksum over key and value
};

// Opens and clears readers left by a killed process. On success the caller owns *out.
int db_open(struct db **out, const struct db_options *options);
void db_close(struct db *db); // no transaction may be open; NULL is fine

// Begins the one write transaction, or a read snapshot. Never NULL: a failure is the transaction's sticky error.
struct db_txn *db_begin_write(struct db *db);
struct db_txn *db_begin_read(struct db *db);

// From here on the calling thread uses the write transaction, and no other does: whoever hands it over sees to the order of the two. The thread that began it
// ends it all the same, and uses it no more before that: LMDB's lock knows who took it (ended elsewhere, the next one waits for ever).
void db_take(struct db_txn *t);

// The sticky error: 0, ERR_NO_SPACE, ERR_MAP_FULL, ERR_IO, ERR_NOMEM or ERR_CORRUPT. After it, reads find nothing and writes do nothing.
int db_txn_err(const struct db_txn *t);

// Ends the transaction. Commit returns the sticky error, and then has aborted instead. `t` is gone either way.
int db_commit(struct db_txn *t);
void db_abort(struct db_txn *t); // NULL is fine

// Makes every commit so far durable, meta page included (mdb_env_sync). Any thread, no write transaction needed.
int db_sync(struct db *db);

// A value whose checksum does not fit is logged and given as an empty one, which no reader takes for a record: it is damage of that entry alone. What is
// put into such a table has a byte at least.
//
// A value found lives until the next write in its transaction, or its end; so it cannot be that write's value either. Keys
// are 1 to DB_KEY_MAX bytes (asserted).
bool db_get(struct db_txn *t, int table, struct span key, struct span *value);
void db_put(struct db_txn *t, int table, struct span key, struct span value);
// Room for `n` value bytes to be filled by the caller before its next call on `t`; NULL after an error. Not in a table with checksums.
uint8_t *db_put_reserve(struct db_txn *t, int table, struct span key, size_t n);
void db_del(struct db_txn *t, int table, struct span key); // an absent key is fine

// Estimated bytes of pages dirtied in this write transaction.
uint64_t db_dirty_bytes(const struct db_txn *t);
// Bytes of the pages that a table has as this transaction sees it: what it takes of the disk. 0 after an error.
uint64_t db_table_bytes(const struct db_txn *t, int table);

// Ordered iteration. A write in the same transaction ends the validity of key and value but not of the iterator.
struct db_iter {
    struct span key;
    struct span value;
    struct db_txn *txn; // private from here on
    void *cursor;
};
void db_iter_init(struct db_iter *it, struct db_txn *t, int table);
bool db_iter_seek(struct db_iter *it, struct span key); // the first key >= `key`; false: there is none
bool db_iter_seek_before(struct db_iter *it, struct span key); // the last key < `key`
bool db_iter_first(struct db_iter *it);
bool db_iter_last(struct db_iter *it);
bool db_iter_next(struct db_iter *it);
bool db_iter_prev(struct db_iter *it);
void db_iter_end(struct db_iter *it); // always; before the transaction ends

// Looks at every page that this snapshot can reach, in the file and not in memory, so that no damage harms the caller: whether they are trees whose keys are
// in order, and no page is in two places, or free and in use. What values say is not looked at. `user` (may be NULL) is told each that is
// damaged, as is the log. Long: any thread, that of the snapshot. ERR_BUSY: too many commits since the snapshot began; begin another.
typedef void db_page_user(void *ctx, uint64_t page, const char *what);
int db_pages_check(struct db_txn *snapshot, uint64_t *damaged, db_page_user *user, void *ctx);
// The same of a file, as of a transaction's number.
int db_file_check(const char *path, size_t page_bytes, uint64_t txn, uint64_t *damaged, db_page_user *user, void *ctx);

// Feeds all that a table holds into `d`, in the order of its keys. The transaction's error.
int db_hash(struct db_txn *txn, int table, struct digest *d);

#endif
