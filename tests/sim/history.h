// What the clients of a system saw and did, in the order in which they did: what checker.h judges.
//
// A transaction reads and writes objects, which are numbered. A register holds one value, a list many; each value is written to its object
// once in a history, so that who sees it knows who wrote it. 0 is a register's value before anybody wrote to it. A register's writer has read
// what it writes over: so the values of a register follow from each other.
#ifndef SEGUE_TEST_HISTORY_H
#define SEGUE_TEST_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct act {
    enum { ACT_READ, ACT_READ_RANGE, ACT_READ_LIST, ACT_WRITE, ACT_APPEND } kind; // READ_RANGE: a register, by a search that finds it only if it is there
    uint32_t object;
    uint64_t value;
    size_t at, n; // of a list: in history.values
};

enum outcome { TXN_UNKNOWN, TXN_COMMITTED, TXN_ABORTED };

struct txn {
    uint32_t client;
    enum outcome outcome; // UNKNOWN: nobody was told; whoever saw what it wrote knows that it committed
    uint64_t began, ended; // moments of the real world. Two have the same one only if neither is before the other. UNKNOWN: it has no end
    size_t first, n;       // acts, one after the other
};

struct history {
    struct txn *txns;
    size_t count, cap;
    struct act *acts;
    size_t act_count, act_cap;
    uint64_t *values;
    size_t value_count, value_cap;
};

void history_free(struct history *h);
// A transaction, over or not yet; what it did is added next, before another one begins.
void history_txn(struct history *h, uint32_t client, enum outcome outcome, uint64_t began, uint64_t ended);
void history_read(struct history *h, uint32_t object, uint64_t value);
void history_read_range(struct history *h, uint32_t object, uint64_t value);
void history_read_list(struct history *h, uint32_t object, const uint64_t *values, size_t n);
void history_write(struct history *h, uint32_t object, uint64_t value);
void history_append(struct history *h, uint32_t object, uint64_t value);

#endif
