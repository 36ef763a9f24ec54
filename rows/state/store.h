// The row store's inside: what its files share.
#ifndef SEGUE_ROWS_STORE_H
#define SEGUE_ROWS_STORE_H

#include "db.h"
#include "hash_table.h"
#include "record.h"
#include "row_keys.h"
#include "rows.h"

enum { TABLE_ROWS, TABLE_HISTORY, TABLE_COMMITS, TABLE_SCHEMAS, TABLE_INDEX }; // added to options.first_table

struct plan_cache;
struct interests;
struct delta;
struct view;
struct view_history;
struct index_state;

// What was is known from `seq` on; of the commits before, their greatest stamp.
struct horizon {
    uint64_t seq, stamp;
};

#define PAST_ROOMS 8
#define PAST_ROOM_MAX (64 * MIB) // a chain of differences, each of which may be large

struct rows {
    int first_table;
    const struct rows_host *host;
    struct schema *schema; // the current one
    struct arena *past_rooms[PAST_ROOMS];
    unsigned past_room;
    struct arena *scratch; // of expressions: nobody keeps anything in it
    struct plan_cache *plans; // texts compiled before
    uint64_t seq;          // the last commit applied that had effects here; 0: none
    struct index_state **indexes; // of each table by its number - 1; as many as the schema has tables
    size_t index_tables;
    struct horizon horizon;
    size_t applied_rows; // since the last tick
    bool index_work; // some may have to be filled, or emptied
    struct {
        struct hash_table table; // by the hash of their canonical form
        struct interests *interests;
        struct view_history *history;
        struct view *moved; // those that the commit being applied asks for theirs
        struct view *dirty; // those with changes not published yet
        uint64_t texts;     // those that read the text of streams
        uint64_t published, published_before; // seqs: the last one that was shown, and the one before it
        struct delta *deltas; // what views of equal shape share, the last made first
        uint64_t subs;
        size_t ring_bytes; // of all rings together
        size_t held;       // view_hold's, of all views
        size_t group_bytes; // of the groups of all views together
        size_t notes;       // room for touched rows that they have noted
        uint64_t fill_us, difference_us; // that one may take; 0: as long as it takes, where what comes of it must not hang on the clock
        uint64_t spent_us, spent_at_us;  // on differences, of late
    } views;
};

static inline int rows_table(const struct rows *r, int table)
{
    return r->first_table + table;
}

void plan_cache_free(struct plan_cache *plans); // NULL is fine

// ---- reading versions ----------------------------------------------------------------------------------------------

// The current record of a row, tombstones included. False: none, or the transaction failed.
bool record_current(struct rows *r, struct db_txn *txn, uint32_t table, struct uuid id, struct span *record);
// The same, decoded, now or as of a commit: what the row was when `at` was the last. out->row.exists says whether there was one. Spans
// of a version that is over live until PAST_ROOMS more of such have been read, or something is written. 0, ERR_CORRUPT, ERR_NOMEM, or the transaction's error.
int row_current(struct rows *r, struct db_txn *txn, const struct table *t, struct uuid id, struct row_space *out);
int row_at(struct rows *r, struct db_txn *txn, const struct table *t, struct uuid id, uint64_t at, struct row_space *out);
// Does a row stand in this table now?
bool row_stands(struct rows *r, struct db_txn *txn, uint32_t table, struct uuid id);

// What a commit left about itself; false: no such commit, or damaged.
bool commit_head_of(struct rows *r, struct db_txn *txn, uint64_t seq, struct commit_head *head);

// Ids in order, each once: what a set of commits touched in one table.
struct id_set {
    struct uuid *ids;
    size_t n, cap;
    bool sorted;
};
int id_set_add(struct id_set *set, struct uuid id); // ERR_NOMEM
void id_set_sort(struct id_set *set);               // and removes what is there twice
bool id_set_has(const struct id_set *set, struct uuid id);
void id_set_free(struct id_set *set);

// Walks the commits in (from, to] and gives `fn` each row that they touched, until it has counted at least `rows_max` in *seen or `commits_max` commits were
// read. *reached: the last seq that was taken in whole. 0, ERR_TOO_OLD, ERR_CORRUPT, what `fn` returned, or the transaction's error.
struct commit_rows;
int touched_each(struct rows *r, struct db_txn *txn, uint64_t from, uint64_t to, const size_t *seen, size_t rows_max, size_t commits_max,
                 int (*fn)(void *ctx, uint64_t seq, const struct commit_rows *row), void *ctx, uint64_t *reached);
// Walks the commits in (from, to] and adds the rows of `table` they touched, until at least `rows_max` were seen or `commits_max`
// commits were read. *reached: the last seq that was taken in whole. 0, ERR_TOO_OLD, ERR_CORRUPT, ERR_NOMEM, or the transaction's error.
int touched_rows(struct rows *r, struct db_txn *txn, uint32_t table, uint64_t from, uint64_t to, size_t rows_max, size_t commits_max,
                 struct id_set *out, uint64_t *reached);

#endif
