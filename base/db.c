#include "db.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <linux/limits.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bug.h"
#include "checksum.h"
#include "digest.h"
#include "err.h"
#include "file.h"
#include "limits.h"
#include "log.h"

#define MAP_BYTES_SMALL (1024ull * MIB) // tried where the system refuses the reservation (valgrind refuses 64 GiB)
#define PAGES_SEEN 8192                 // slots; DB_DIRTY_BYTES_MAX is 4096 pages
#define OVERFLOW_OVERHEAD 16            // LMDB's header of a run of overflow pages
#define SUM_BYTES 8                     // behind a value

struct db_txn {
    struct db *db;
    MDB_txn *txn; // NULL where beginning failed
    pthread_t begun_by; // ends it: LMDB's lock knows who took it
    pthread_t owner;    // uses it
    int err;
    bool write;
    int iters;       // open iterators
    uint64_t writes; // counts puts and dels: an iterator notices that it has to find its place again
    uint64_t dirty;  // bytes, estimated
    uint32_t tables; // bit per table: its path of branch pages is counted
};

struct db {
    MDB_env *env;
    MDB_dbi dbi[DB_TABLES_MAX];
    int table_count;
    uint32_t summed;
    char *data_path;
    char names[DB_TABLES_MAX][32]; // of tables, for the log
    size_t page_bytes;
    atomic_bool writing;
    struct db_txn write;        // there is one write transaction at a time
    uintptr_t seen[PAGES_SEEN]; // addresses of leaf pages dirtied by it, see count_leaf
};

// A read transaction that could not even be allocated.
static struct db_txn txn_nomem = {.err = ERR_NOMEM};

static int translate(int rc)
{
    switch (rc) {
    case MDB_SUCCESS: return 0;
    case MDB_MAP_FULL: return ERR_MAP_FULL;
    case MDB_TXN_FULL:
    case MDB_CURSOR_FULL:
    case MDB_READERS_FULL:
    case MDB_TLS_FULL: return ERR_NOMEM;
    case MDB_PAGE_NOTFOUND:
    case MDB_CORRUPTED:
    case MDB_PAGE_FULL:
    case MDB_INVALID:
    case MDB_INCOMPATIBLE: return ERR_CORRUPT;
    case MDB_VERSION_MISMATCH: return ERR_VERSION;
    default: return rc > 0 ? err_from_errno(rc) : ERR_IO; // MDB_PANIC: an earlier write of a meta page failed
    }
}

// Logs a fault where it is first seen and makes it the transaction's.
static void fail(struct db_txn *t, const char *what, int rc)
{
    assert(t->err == 0 && rc != 0);
    t->err = translate(rc);
    log_error("db", what, LF_STR("reason", mdb_strerror(rc)), LF_ERR(t->err));
}

static unsigned env_flags(void)
{
    // NOTLS: a thread may hold several snapshots. NORDAHEAD: access is by key, and reading ahead around each
    // page would only push others out of memory once the state is larger than that.
    unsigned flags = MDB_NOMETASYNC | MDB_NOTLS | MDB_NORDAHEAD;
    if (bug("nosync")) flags |= MDB_NOSYNC;
    return flags;
}

static int env_open(MDB_env **out, const char *path, uint64_t map_bytes)
{
    MDB_env *env = NULL;
    int rc = mdb_env_create(&env);
    if (rc != 0) return rc;
    rc = mdb_env_set_mapsize(env, map_bytes);
    if (rc == 0) rc = mdb_env_set_maxdbs(env, DB_TABLES_MAX);
    if (rc == 0) rc = mdb_env_open(env, path, env_flags(), 0600);
    if (rc != 0) {
        mdb_env_close(env);
        return rc;
    }
    *out = env;
    return 0;
}

static int env_open_fitting(MDB_env **out, const struct db_options *o)
{
    uint64_t map_bytes = o->map_bytes == 0 ? DB_MAP_BYTES : o->map_bytes;
    int rc = env_open(out, o->path, map_bytes);
    if (rc != ENOMEM || map_bytes <= MAP_BYTES_SMALL) return rc;
    log_warn("db", "the system refuses to reserve the map, trying a smaller one", LF_UINT("bytes", map_bytes), LF_STR("path", o->path));
    return env_open(out, o->path, MAP_BYTES_SMALL);
}

// The two files of an environment, and the folder in which a new one is made.
#define DATA_FILE "data.mdb"
#define LOCK_FILE "lock.mdb"
#define NEW_FOLDER "new"

static void path_in(char out[PATH_MAX], const struct db_options *o, const char *folder, const char *name)
{
    snprintf(out, PATH_MAX, "%s%s%s/%s", o->path, folder[0] != '\0' ? "/" : "", folder, name);
}

// Writes and syncs the file of an empty environment in `folder`.
static int env_make(const char *folder)
{
    MDB_env *env = NULL;
    int rc = env_open(&env, folder, MAP_BYTES_SMALL);
    if (rc != 0) return translate(rc);
    rc = mdb_env_sync(env, 1);
    mdb_env_close(env);
    return rc != 0 ? translate(rc) : dir_sync(folder);
}

// LMDB writes the first pages of a new file in place and takes a half of them for damage for ever: a file that a power cut broke then
// would never open again. So a new one is whole and durable before it has its name.
static int env_begin(const struct db_options *o)
{
    char data[PATH_MAX], made[PATH_MAX], lock[PATH_MAX], folder[PATH_MAX];
    path_in(data, o, "", DATA_FILE);
    if (access(data, F_OK) == 0) return 0;
    path_in(folder, o, "", NEW_FOLDER);
    path_in(made, o, NEW_FOLDER, DATA_FILE);
    path_in(lock, o, NEW_FOLDER, LOCK_FILE);
    unlink(made), unlink(lock); // of a start that was broken off
    int err = dir_make(folder);
    if (err == 0) err = env_make(folder);
    if (err == 0 && rename(made, data) != 0) err = ERR_IO;
    if (err != 0) return err;
    unlink(lock), rmdir(folder);
    return 0;
}

static int tables_open(struct db *db, const struct db_options *o)
{
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(db->env, NULL, 0, &txn);
    if (rc != 0) return rc;
    for (int i = 0; i < o->table_count && rc == 0; i++)
        rc = mdb_dbi_open(txn, o->tables[i], MDB_CREATE, &db->dbi[i]);
    if (rc != 0) {
        mdb_txn_abort(txn);
        return rc;
    }
    rc = mdb_txn_commit(txn);
    // LMDB syncs nothing of its own accord here (NOMETASYNC): the tables are there for good before anything relies on them.
    return rc != 0 ? rc : mdb_env_sync(db->env, 1);
}

static int open_env_and_tables(struct db *db, const struct db_options *o)
{
    int dead = 0;
    MDB_stat stat;
    int rc = env_open_fitting(&db->env, o);
    if (rc == 0) rc = mdb_reader_check(db->env, &dead);
    if (rc == 0) rc = tables_open(db, o);
    if (rc == 0) rc = mdb_env_stat(db->env, &stat);
    if (rc != 0) {
        int err = translate(rc);
        log_error("db", "cannot open", LF_STR("path", o->path), LF_STR("reason", mdb_strerror(rc)), LF_ERR(err));
        return err;
    }
    if (dead > 0) log_info("db", "cleared readers of a killed process", LF_INT("readers", dead), LF_STR("path", o->path));
    db->page_bytes = stat.ms_psize;
    return dir_sync(o->path);
}

int db_open(struct db **out, const struct db_options *options)
{
    assert(options->path != NULL);
    assert(options->table_count >= 1 && options->table_count <= DB_TABLES_MAX);
    int err = dir_make(options->path);
    if (err == 0) err = env_begin(options);
    if (err != 0) return err;
    struct db *db = calloc(1, sizeof *db);
    if (db == NULL) return ERR_NOMEM;
    db->table_count = options->table_count;
    db->summed = options->summed;
    for (int i = 0; i < options->table_count; i++)
        snprintf(db->names[i], sizeof db->names[i], "%s", options->tables[i]);
    if (asprintf(&db->data_path, "%s/" DATA_FILE, options->path) < 0) db->data_path = NULL;
    err = db->data_path == NULL ? ERR_NOMEM : open_env_and_tables(db, options);
    if (err != 0) {
        db_close(db);
        return err;
    }
    *out = db;
    return 0;
}

void db_close(struct db *db)
{
    if (db == NULL) return;
    assert(!atomic_load(&db->writing));
    if (db->env != NULL) mdb_env_close(db->env);
    free(db->data_path);
    free(db);
}

static struct db_txn *begin(struct db *db, struct db_txn *t, unsigned flags)
{
    *t = (struct db_txn){.db = db, .begun_by = pthread_self(), .owner = pthread_self(), .write = (flags & MDB_RDONLY) == 0};
    int rc = mdb_txn_begin(db->env, NULL, flags, &t->txn);
    if (rc != 0) {
        t->txn = NULL;
        fail(t, "cannot begin a transaction", rc);
    }
    return t;
}

struct db_txn *db_begin_write(struct db *db)
{
    bool writing = atomic_exchange(&db->writing, true);
    assert(!writing); // a second one would wait for the first for ever, or belong to another thread
    memset(db->seen, 0, sizeof db->seen);
    return begin(db, &db->write, 0);
}

struct db_txn *db_begin_read(struct db *db)
{
    struct db_txn *t = malloc(sizeof *t);
    if (t == NULL) return &txn_nomem;
    return begin(db, t, MDB_RDONLY);
}

int db_txn_err(const struct db_txn *t)
{
    return t->err;
}

static void assert_owner(const struct db_txn *t)
{
    assert(t == &txn_nomem || pthread_equal(t->owner, pthread_self()));
}

static void assert_ends(const struct db_txn *t)
{
    assert(t == &txn_nomem || pthread_equal(t->begun_by, pthread_self()));
}

void db_take(struct db_txn *t)
{
    assert(t->write && t->iters == 0);
    t->owner = pthread_self();
}

static void dispose(struct db_txn *t)
{
    struct db *db = t->db;
    if (t == &txn_nomem) return;
    if (t->write) {
        bool writing = atomic_exchange(&db->writing, false);
        assert(writing);
    } else {
        free(t);
    }
}

int db_commit(struct db_txn *t)
{
    assert_ends(t);
    assert(t->iters == 0);
    if (t->err == 0) {
        int rc = mdb_txn_commit(t->txn); // frees it in any case
        t->txn = NULL;
        if (rc != 0) fail(t, "cannot commit", rc);
    }
    int err = t->err;
    db_abort(t);
    return err;
}

void db_abort(struct db_txn *t)
{
    if (t == NULL) return;
    assert_ends(t);
    assert(t->iters == 0);
    if (t->txn != NULL) mdb_txn_abort(t->txn);
    dispose(t);
}

int db_sync(struct db *db)
{
    int rc = mdb_env_sync(db->env, 1);
    if (rc == 0) return 0;
    int err = translate(rc);
    log_error("db", "cannot sync", LF_STR("reason", mdb_strerror(rc)), LF_ERR(err));
    return err;
}

int db_pages_check(struct db_txn *t, uint64_t *damaged, db_page_user *user, void *ctx)
{
    assert_owner(t);
    assert(!t->write);
    if (t->err != 0) return t->err;
    return db_file_check(t->db->data_path, t->db->page_bytes, mdb_txn_id(t->txn), damaged, user, ctx);
}

// ---- keys and values -------------------------------------------------------------------------------------------

static MDB_val val(struct span s)
{
    return (MDB_val){.mv_size = s.n, .mv_data = (void *)s.p};
}

static struct span span_of(MDB_val v)
{
    return SPAN(v.mv_data, v.mv_size);
}

// ---- checksums of values ---------------------------------------------------------------------------------------

static bool is_summed(const struct db_txn *t, int table)
{
    return t->db != NULL && (t->db->summed & 1u << table) != 0;
}

static uint64_t sum_of(int table, struct span key, struct span value)
{
    return checksum64_two(key, value, (uint64_t)table + 1); // an entry of one table is none of another
}

static void log_damage(const struct db_txn *t, int table, struct span key)
{
    char hex[2 * DB_KEY_MAX];
    hex_format(hex, key);
    log_error("db", "an entry is damaged", LF_STR("table", t->db->names[table]), LF_SPAN("key", SPAN(hex, 2 * key.n)));
}

// The value without its checksum; nothing, if that does not fit.
static struct span checked(const struct db_txn *t, int table, struct span key, struct span value)
{
    uint64_t sum;
    if (!is_summed(t, table)) return value;
    struct span bare = SPAN(value.p, value.n < SUM_BYTES ? 0 : value.n - SUM_BYTES);
    if (bare.n > 0) memcpy(&sum, bare.p + bare.n, SUM_BYTES);
    if (bare.n > 0 && le64toh(sum) == sum_of(table, key, bare)) return bare;
    log_damage(t, table, key);
    return SPAN_NONE;
}

static void assert_call(const struct db_txn *t, int table, struct span key)
{
    assert_owner(t);
    assert(table >= 0 && (t->db == NULL || table < t->db->table_count));
    assert(key.n >= 1 && key.n <= DB_KEY_MAX);
}

bool db_get(struct db_txn *t, int table, struct span key, struct span *value)
{
    assert_call(t, table, key);
    if (t->err != 0) return false;
    MDB_val k = val(key), v;
    int rc = mdb_get(t->txn, t->db->dbi[table], &k, &v);
    if (rc == MDB_NOTFOUND) return false;
    if (rc != 0) {
        fail(t, "cannot read", rc);
        return false;
    }
    *value = checked(t, table, key, span_of(v));
    return true;
}

// The first write into a table dirties the path down to its leaf.
static void count_table(struct db_txn *t, int table)
{
    MDB_stat stat;
    if ((t->tables & (1u << table)) != 0) return;
    t->tables |= 1u << table;
    if (mdb_stat(t->txn, t->db->dbi[table], &stat) == 0) t->dirty += (uint64_t)stat.ms_depth * t->db->page_bytes;
}

// LMDB does not tell how many pages are dirty. But it tells where a value went, and a dirty page stays where it is:
// so each new address counts as a page. A page may straddle two counted addresses, and slots are shared: the
// estimate is too high rather than too low.
static void count_leaf(struct db_txn *t, const void *p)
{
    uintptr_t page = (uintptr_t)p / t->db->page_bytes;
    uintptr_t *slot = &t->db->seen[page % PAGES_SEEN];
    if (*slot == page) return;
    *slot = page;
    t->dirty += t->db->page_bytes;
}

static void count_value(struct db_txn *t, const void *p, size_t n)
{
    size_t page = t->db->page_bytes;
    if (n < page / 2) {
        count_leaf(t, p);
        return;
    }
    // A value that does not fit twice into a leaf has pages of its own, beside the leaf that names them.
    t->dirty += page + (n + OVERFLOW_OVERHEAD + page - 1) / page * page;
}

static uint8_t *reserve(struct db_txn *t, int table, struct span key, size_t n)
{
    assert_call(t, table, key);
    assert(t->write);
    if (t->err != 0) return NULL;
    MDB_val k = val(key), v = {.mv_size = n};
    count_table(t, table);
    t->writes++;
    int rc = mdb_put(t->txn, t->db->dbi[table], &k, &v, MDB_RESERVE);
    if (rc != 0) {
        fail(t, "cannot write", rc);
        return NULL;
    }
    count_value(t, v.mv_data, n);
    return v.mv_data;
}

void db_put(struct db_txn *t, int table, struct span key, struct span value)
{
    bool summed = is_summed(t, table);
    uint64_t sum = summed ? htole64(sum_of(table, key, value)) : 0; // before: the value may be one that this very write moves
    assert(!summed || value.n > 0);
    uint8_t *p = reserve(t, table, key, value.n + (summed ? SUM_BYTES : 0));
    if (p != NULL && value.n > 0) memcpy(p, value.p, value.n);
    if (p != NULL && summed) memcpy(p + value.n, &sum, SUM_BYTES);
}

uint8_t *db_put_reserve(struct db_txn *t, int table, struct span key, size_t n)
{
    assert(!is_summed(t, table)); // what the caller is about to write is not known yet
    return reserve(t, table, key, n);
}

void db_del(struct db_txn *t, int table, struct span key)
{
    assert_call(t, table, key);
    assert(t->write);
    if (t->err != 0) return;
    MDB_val k = val(key);
    count_table(t, table);
    t->writes++;
    int rc = mdb_del(t->txn, t->db->dbi[table], &k, NULL);
    if (rc == MDB_NOTFOUND) return;
    if (rc != 0) {
        fail(t, "cannot delete", rc);
        return;
    }
    t->dirty += t->db->page_bytes; // nothing tells which leaf it was
}

uint64_t db_dirty_bytes(const struct db_txn *t)
{
    return t->dirty;
}

uint64_t db_table_bytes(const struct db_txn *t, int table)
{
    MDB_stat stat;
    assert_owner(t);
    if (t->err != 0 || mdb_stat(t->txn, t->db->dbi[table], &stat) != 0) return 0;
    return (uint64_t)(stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages) * t->db->page_bytes;
}

// ---- iteration -------------------------------------------------------------------------------------------------

// LMDB moves cursors along with writes, but a key put right behind a deleted current one would be missed. So the
// iterator remembers its key, and after a write finds its place again by it with a fresh cursor.
struct place {
    MDB_cursor *cursor;
    MDB_dbi dbi;
    int table;
    uint64_t writes; // the transaction's count when the cursor was last placed
    bool placed;     // `key` is where the iterator stands
    size_t key_n;
    uint8_t key[DB_KEY_MAX];
};

void db_iter_init(struct db_iter *it, struct db_txn *t, int table)
{
    assert_owner(t);
    assert(table >= 0 && (t->db == NULL || table < t->db->table_count));
    *it = (struct db_iter){.txn = t};
    if (t->err != 0) return;
    struct place *at = malloc(sizeof *at);
    if (at == NULL) {
        t->err = ERR_NOMEM;
        return;
    }
    *at = (struct place){.dbi = t->db->dbi[table], .table = table, .writes = t->writes};
    int rc = mdb_cursor_open(t->txn, at->dbi, &at->cursor);
    if (rc != 0) {
        free(at);
        fail(t, "cannot open a cursor", rc);
        return;
    }
    it->cursor = at;
    t->iters++;
}

void db_iter_end(struct db_iter *it)
{
    assert_owner(it->txn);
    struct place *at = it->cursor;
    if (at == NULL) return;
    if (at->cursor != NULL) mdb_cursor_close(at->cursor);
    free(at);
    it->txn->iters--;
    it->cursor = NULL;
}

// A cursor that no write has touched; false after an error.
static bool refresh(struct db_iter *it)
{
    struct place *at = it->cursor;
    struct db_txn *t = it->txn;
    assert_owner(t);
    if (at == NULL || t->err != 0) return false;
    if (at->writes == t->writes) return true;
    mdb_cursor_close(at->cursor);
    at->cursor = NULL;
    int rc = mdb_cursor_open(t->txn, at->dbi, &at->cursor);
    if (rc != 0) {
        fail(t, "cannot open a cursor", rc);
        return false;
    }
    at->writes = t->writes;
    return true;
}

// Moves the cursor; `k` is read by MDB_SET_RANGE and set by all. The iterator stays where it is when there is nothing.
static bool move(struct db_iter *it, MDB_val *k, MDB_cursor_op op)
{
    struct place *at = it->cursor;
    MDB_val v;
    int rc = mdb_cursor_get(at->cursor, k, &v, op);
    if (rc == MDB_NOTFOUND) return false;
    if (rc != 0) {
        fail(it->txn, "cannot iterate", rc);
        return false;
    }
    if (k->mv_size > DB_KEY_MAX) { // none that was ever put
        fail(it->txn, "cannot iterate", MDB_CORRUPTED);
        return false;
    }
    it->key = span_of(*k);
    it->value = checked(it->txn, at->table, it->key, span_of(v));
    return true;
}

// Notes where the iterator now stands, or that it stands nowhere.
static bool settle(struct db_iter *it, bool found)
{
    struct place *at = it->cursor;
    at->placed = found;
    if (!found) return false;
    assert(it->key.n <= sizeof at->key);
    memcpy(at->key, it->key.p, it->key.n);
    at->key_n = it->key.n;
    return true;
}

bool db_iter_seek(struct db_iter *it, struct span key)
{
    assert(key.n >= 1 && key.n <= DB_KEY_MAX);
    if (!refresh(it)) return false;
    MDB_val k = val(key);
    return settle(it, move(it, &k, MDB_SET_RANGE));
}

bool db_iter_seek_before(struct db_iter *it, struct span key)
{
    assert(key.n >= 1 && key.n <= DB_KEY_MAX);
    if (!refresh(it)) return false;
    MDB_val k = val(key);
    bool behind = move(it, &k, MDB_SET_RANGE);
    if (it->txn->err != 0) return settle(it, false);
    return settle(it, move(it, &k, behind ? MDB_PREV : MDB_LAST));
}

bool db_iter_first(struct db_iter *it)
{
    MDB_val k;
    return refresh(it) && settle(it, move(it, &k, MDB_FIRST));
}

bool db_iter_last(struct db_iter *it)
{
    MDB_val k;
    return refresh(it) && settle(it, move(it, &k, MDB_LAST));
}

bool db_iter_next(struct db_iter *it)
{
    struct place *at = it->cursor;
    if (at == NULL || !at->placed) return false;
    bool moved = at->writes != it->txn->writes;
    if (!refresh(it)) return false;
    MDB_val k = val(SPAN(at->key, at->key_n));
    if (!moved) return settle(it, move(it, &k, MDB_NEXT));
    bool found = move(it, &k, MDB_SET_RANGE);
    bool same = found && span_equal(it->key, SPAN(at->key, at->key_n));
    return settle(it, same ? move(it, &k, MDB_NEXT) : found);
}

bool db_iter_prev(struct db_iter *it)
{
    struct place *at = it->cursor;
    if (at == NULL || !at->placed) return false;
    if (at->writes != it->txn->writes) return db_iter_seek_before(it, SPAN(at->key, at->key_n));
    MDB_val k;
    return refresh(it) && settle(it, move(it, &k, MDB_PREV));
}

int db_hash(struct db_txn *txn, int table, struct digest *d)
{
    struct db_iter it;
    db_iter_init(&it, txn, table);
    for (bool more = db_iter_first(&it); more; more = db_iter_next(&it)) {
        uint64_t sizes[2] = {it.key.n, it.value.n};
        digest_update(d, SPAN(sizes, sizeof sizes));
        digest_update(d, it.key);
        digest_update(d, it.value);
    }
    db_iter_end(&it);
    return db_txn_err(txn);
}
