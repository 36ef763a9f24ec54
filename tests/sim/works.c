// What clients do, and what must be true of it.
//
//   bank     transactions move money between accounts; the sum stays           registers
//   skew     of two on duty one may leave: who leaves has looked at both       registers
//   tallies  look at a row through what they mean to write to it, then     registers
//            write more of it
//   lists    read a list, append to it                                         lists
//   queue    put one more behind the last of a queue, found by a search        a register, found by a range
//   slots    take a slot while fewer than SLOTS_MAX are taken                  registers, found by a range
//   pots     merging batches carry counts from pot to pot; looks see the sum   a look
//   nonces   merging batches write one nonce into several rows and append it   a look, and the whole log
//            to a stream: all or none
//   names    merging batches want unique names: one gets each                  a look
//   families merging batches make, delete and bring back rows that refer to     a look
//            each other: nobody refers to a row that is not there
//   cells    merging batches of all kinds on the same rows                     the model
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "err.h"
#include "json_read.h"
#include "world.h"

#define ACCOUNTS 5
#define BALANCE 100
#define PAIRS 3
#define LISTS 2
#define QUEUES 2
#define SLOTS_MAX 2
#define POTS 4
#define TALLIES 2
#define NONCES 4
#define NAMES 12
#define PARENTS 4
#define CHILDREN 8

// Objects of the history, and ids of rows, by kind.
enum kind { ACCOUNT = 1, PAIR, LIST, QUEUE, POT, NONCE, CELL, NAME, SLOT, PARENT, CHILD, TALLY };
#define OBJECT(kind, n) ((uint32_t)(kind) * 16 + (uint32_t)(n))
#define OBJECT_SLOT(task) (1024 + (task))
#define ID "01890a5d-ac96-774b-bcce-%04x%08x"

const char works_schema[] = "create table accounts (balance bigint not null check (balance >= 0), by bigint not null);"
                            "create table duties (pair integer not null, duty boolean not null, by bigint not null); create index duties_pair on duties (pair);"
                            "create table lists (items bigint[] not null);"
                            "create table entries (queue integer not null, pos integer not null, by bigint not null, unique (queue, pos));"
                            "create table slots (k integer not null, by bigint not null); create index slots_k on slots (k);"
                            "create table tallies (mark bigint not null default 0, by bigint not null default 0); create index tallies_mark on tallies (mark);"
                            "create table pots (n counter not null default 0);"
                            "create table nonces (nonce bigint not null);"
                            "create table names (name text not null unique, by bigint not null);"
                            "create table parents (by bigint);"
                            "create table children (parent uuid not null references parents on delete cascade, aunt uuid references parents on delete set null, by bigint);"
                            "create index children_of on children (parent);"
                            "create table cells (l bigint, n counter, hi bigint options (merge 'max'), lo bigint options (merge 'min'), tags text[] options (merge 'set'));";

const char *const works_indexes[WORKS_INDEXES] = {
    "create index cells_n on cells (n, l desc);",
    "create index accounts_rich on accounts (balance desc);",
    "create index entries_by on entries (by) where pos > 2;",
    "create index duties_on on duties (duty, pair);",
};

static void put(struct task *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put(struct task *t, const char *fmt, ...)
{
    char text[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    for (char *c = text; *c != '\0'; c++)
        if (*c == '\'') *c = '"';
    buf_put_str(&t->ops, text);
}

static void ask(struct task *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void ask(struct task *t, const char *fmt, ...)
{
    va_list args;
    assert(t->asked < TASK_ASKS);
    va_start(args, fmt);
    vsnprintf(t->asks[t->asked++].sql, sizeof t->asks[0].sql, fmt, args);
    va_end(args);
}

// ---- rows of an answer -------------------------------------------------------------------------------------------------

struct answer {
    struct jr_tree *tree;
    const struct jr *rows;
    size_t n;
};

static struct answer answer_of(struct span json)
{
    struct answer a = {.tree = NULL};
    if (jr_parse(&a.tree, json, NULL) != 0) fprintf(stderr, "not JSON: %.*s\n", SPAN_FMT(json)), abort();
    a.rows = jr_root(a.tree);
    a.n = jr_count(a.rows);
    return a;
}

static int64_t number_of(const struct answer *a, size_t row, const char *column)
{
    return jr_int(jr_get(jr_at(a->rows, row), column), 0);
}

// The number in an id; SIZE_MAX: there is none.
static uint32_t id_of(const struct answer *a, size_t row)
{
    struct span id = jr_str(jr_get(jr_at(a->rows, row), "id"));
    char hex[9] = {0};
    if (id.n != 36) return UINT32_MAX;
    memcpy(hex, id.p + 28, 8);
    return (uint32_t)strtoul(hex, NULL, 16);
}

// ---- the rows that there are from the beginning ------------------------------------------------------------------------

static void row(struct buf *ops, const char *table, enum kind kind, unsigned n, const char *values)
{
    buf_printf(ops, "{\"op\":\"insert\",\"table\":\"%s\",\"id\":\"" ID "\",\"values\":{%s}},", table, kind, n, values);
}

void works_rows(struct buf *ops)
{
    char pair[80];
    buf_put_str(ops, "{\"op\":\"create\",\"stream\":\"log\",\"type\":\"text/plain\"},");
    for (unsigned i = 0; i < ACCOUNTS; i++)
        row(ops, "accounts", ACCOUNT, i, "\"balance\":100,\"by\":0");
    for (unsigned i = 0; i < 2 * PAIRS; i++) {
        snprintf(pair, sizeof pair, "\"pair\":%u,\"duty\":true,\"by\":0", i / 2);
        row(ops, "duties", PAIR, i, pair);
    }
    for (unsigned i = 0; i < LISTS; i++)
        row(ops, "lists", LIST, i, "\"items\":[]");
    for (unsigned i = 0; i < POTS; i++)
        row(ops, "pots", POT, i, "");
    for (unsigned i = 0; i < TALLIES; i++)
        row(ops, "tallies", TALLY, i, "");
    for (unsigned i = 0; i < NONCES; i++)
        row(ops, "nonces", NONCE, i, "\"nonce\":0");
    for (unsigned i = 0; i < PARENTS; i++)
        row(ops, "parents", PARENT, i, "\"by\":0");
    for (unsigned i = 0; i < MODEL_UNBORN; i++)
        row(ops, "cells", CELL, i, "");
}

static bool conflict_alone(int err)
{
    return err == ERR_CONFLICT;
}

// ---- bank --------------------------------------------------------------------------------------------------------------

static void check_sum(struct world *w, const struct task *t, const struct answer *a, const char *column, int64_t expected)
{
    int64_t sum = 0;
    for (size_t i = 0; i < a->n; i++)
        sum += number_of(a, i, column);
    if (sum != expected) world_find(w, "wrong sum", "task %u (%s) saw a sum of %lld as of %llu, not %lld", t->number, t->work->name, (long long)sum, (unsigned long long)t->base, (long long)expected);
}

static void bank_plan(struct world *w, struct task *t)
{
    t->a = dice_below(&w->dice, ACCOUNTS);
    t->b = (t->a + 1 + dice_below(&w->dice, ACCOUNTS - 1)) % ACCOUNTS;
    ask(t, "select balance, by from accounts where id = '" ID "'", ACCOUNT, t->a);
    ask(t, "select balance, by from accounts where id = '" ID "'", ACCOUNT, t->b);
}

static void bank_set(struct task *t, uint32_t account, int64_t balance)
{
    put(t, "{'op':'update','table':'accounts','id':'" ID "','values':{'balance':%lld,'by':%u}},", ACCOUNT, account, (long long)balance, t->number);
    history_write(&t->seen, OBJECT(ACCOUNT, account), (uint64_t)t->number << 8);
}

static void bank_decide(struct world *w, struct task *t)
{
    struct answer a = answer_of(buf_span(&t->asks[0].rows)), b = answer_of(buf_span(&t->asks[1].rows));
    int64_t have = number_of(&a, 0, "balance"), amount = 1 + dice_below(&w->dice, 30);
    history_read(&t->seen, OBJECT(ACCOUNT, t->a), (uint64_t)number_of(&a, 0, "by") << 8);
    history_read(&t->seen, OBJECT(ACCOUNT, t->b), (uint64_t)number_of(&b, 0, "by") << 8);
    if (have >= amount) {
        bank_set(t, t->a, have - amount);
        bank_set(t, t->b, number_of(&b, 0, "balance") + amount);
    }
    jr_free(a.tree);
    jr_free(b.tree);
}

static void audit_plan(struct world *w, struct task *t)
{
    (void)w;
    ask(t, "select balance, by from accounts");
}

static void audit_decide(struct world *w, struct task *t)
{
    struct answer a = answer_of(buf_span(&t->asks[0].rows));
    check_sum(w, t, &a, "balance", ACCOUNTS * BALANCE);
    for (size_t i = 0; i < a.n; i++)
        history_read(&t->seen, OBJECT(ACCOUNT, id_of(&a, i)), (uint64_t)number_of(&a, i, "by") << 8);
    jr_free(a.tree);
}

// ---- write skew --------------------------------------------------------------------------------------------------------

static void skew_plan(struct world *w, struct task *t)
{
    t->a = dice_below(&w->dice, PAIRS);
    t->b = dice_below(&w->dice, 2);
    if (dice_chance(&w->dice, 50)) {
        ask(t, "select duty, by from duties where pair = %u", t->a);
        return;
    }
    ask(t, "select duty, by from duties where id = '" ID "'", PAIR, 2 * t->a);
    ask(t, "select duty, by from duties where id = '" ID "'", PAIR, 2 * t->a + 1);
}

// Reads both, writes one.
static void skew_decide(struct world *w, struct task *t)
{
    unsigned on = 0, me = 2 * t->a + t->b;
    bool mine = false;
    for (size_t i = 0; i < t->asked; i++) {
        struct answer a = answer_of(buf_span(&t->asks[i].rows));
        for (size_t k = 0; k < a.n; k++) {
            bool duty = jr_bool(jr_get(jr_at(a.rows, k), "duty"), false);
            on += duty;
            if (id_of(&a, k) == me) mine = duty;
            history_read(&t->seen, OBJECT(PAIR, id_of(&a, k)), (uint64_t)number_of(&a, k, "by") << 8);
        }
        jr_free(a.tree);
    }
    if (on == 0) world_find(w, "nobody on duty", "task %u saw pair %u with nobody on duty, as of %llu", t->number, t->a, (unsigned long long)t->base);
    if (mine && on == 1) return; // the last one stays
    put(t, "{'op':'update','table':'duties','id':'" ID "','values':{'duty':%s,'by':%u}},", PAIR, me, mine ? "false" : "true", t->number);
    history_write(&t->seen, OBJECT(PAIR, me), (uint64_t)t->number << 8);
}

// ---- tallies: what a transaction has written itself --------------------------------------------------------------------

// The search finds the row by what was just written to it; what it shows of it besides is what stands, and has been read.
static void tally_plan(struct world *w, struct task *t)
{
    t->a = dice_below(&w->dice, TALLIES);
    put(t, "{'op':'update','table':'tallies','id':'" ID "','values':{'mark':%u}},", TALLY, t->a, t->number);
    ask(t, "select by from tallies where mark = %u", t->number);
    t->asks[0].over = true;
}

static void tally_decide(struct world *w, struct task *t)
{
    struct answer a = answer_of(buf_span(&t->asks[0].rows));
    if (a.n != 1) world_find(w, "own write lost", "task %u does not find the row that it has marked, but %zu", t->number, a.n);
    history_read(&t->seen, OBJECT(TALLY, t->a), (uint64_t)number_of(&a, 0, "by"));
    put(t, "{'op':'update','table':'tallies','id':'" ID "','values':{'by':%u}},", TALLY, t->a, t->number);
    history_write(&t->seen, OBJECT(TALLY, t->a), t->number);
    jr_free(a.tree);
}

// ---- lists -------------------------------------------------------------------------------------------------------------

static void list_plan(struct world *w, struct task *t)
{
    t->a = dice_below(&w->dice, LISTS);
    t->b = dice_below(&w->dice, 3);
    for (unsigned i = 0; i < LISTS && i < TASK_ASKS; i++)
        ask(t, "select items from lists where id = '" ID "'", LIST, (t->a + i) % LISTS);
}

static void list_decide(struct world *w, struct task *t)
{
    (void)w;
    for (uint32_t i = 0; i < t->asked; i++) {
        uint32_t list = (t->a + i) % LISTS;
        struct answer a = answer_of(buf_span(&t->asks[i].rows));
        const struct jr *items = jr_get(jr_at(a.rows, 0), "items");
        size_t n = jr_count(items);
        uint64_t *values = calloc(n + 1, sizeof *values);
        if (values == NULL) abort();
        for (size_t k = 0; k < n; k++)
            values[k] = (uint64_t)jr_int(jr_at(items, k), 0);
        history_read_list(&t->seen, OBJECT(LIST, list), values, n);
        if (i == 0 && t->b > 0) { // one of three only looks
            buf_printf(&t->ops, "{\"op\":\"update\",\"table\":\"lists\",\"id\":\"" ID "\",\"values\":{\"items\":[", LIST, list);
            for (size_t k = 0; k < n; k++)
                buf_printf(&t->ops, "%llu,", (unsigned long long)values[k]);
            buf_printf(&t->ops, "%u]}},", t->number);
            history_append(&t->seen, OBJECT(LIST, list), t->number);
        }
        free(values);
        jr_free(a.tree);
    }
}

// ---- a queue: one more behind the last ---------------------------------------------------------------------------------

static void queue_plan(struct world *w, struct task *t)
{
    t->a = dice_below(&w->dice, QUEUES);
    ask(t, "select pos, by from entries where queue = %u order by pos desc limit 1", t->a);
}

static void queue_decide(struct world *w, struct task *t)
{
    (void)w;
    struct answer a = answer_of(buf_span(&t->asks[0].rows));
    int64_t last = a.n == 0 ? 0 : number_of(&a, 0, "pos");
    history_read_range(&t->seen, OBJECT(QUEUE, t->a), (uint64_t)number_of(&a, 0, "by"));
    put(t, "{'op':'insert','table':'entries','values':{'queue':%u,'pos':%lld,'by':%u}},", t->a, (long long)last + 1, t->number);
    history_write(&t->seen, OBJECT(QUEUE, t->a), t->number);
    jr_free(a.tree);
}

// ---- slots: phantoms ---------------------------------------------------------------------------------------------------

static void slots_plan(struct world *w, struct task *t)
{
    t->a = w->slot_group;
    t->searched = true;
    ask(t, "select k, by from slots where k >= %u and k < %u", 10 * t->a, 10 * t->a + 10);
}

static void slots_decide(struct world *w, struct task *t)
{
    struct answer a = answer_of(buf_span(&t->asks[0].rows));
    t->found = calloc(a.n + 1, sizeof *t->found);
    if (t->found == NULL) abort();
    for (size_t i = 0; i < a.n; i++)
        t->found[i] = (uint64_t)number_of(&a, i, "by");
    if (a.n > SLOTS_MAX) world_find(w, "too many slots", "task %u saw %zu slots of group %u taken as of %llu", t->number, a.n, t->a, (unsigned long long)t->base);
    if (a.n < SLOTS_MAX) {
        put(t, "{'op':'insert','table':'slots','id':'" ID "','values':{'k':%u,'by':%u}},", SLOT, t->number, 10 * t->a + dice_below(&w->dice, 10), t->number);
        history_write(&t->seen, OBJECT_SLOT(t->number), t->number);
    } else if (t->a == w->slot_group) {
        w->slot_group++;
    }
    jr_free(a.tree);
}

// A search has read every row that was ever put where it searched: those that it did not find, as absent.
static void slots_reads(const struct world *w, const struct task *t, struct history *h)
{
    for (size_t i = 0; i < w->task_count; i++) {
        const struct task *other = w->tasks[i];
        if (other->work != t->work || other->a != t->a || other->ops.n == 0) continue;
        uint64_t value = 0;
        for (const uint64_t *found = t->found; *found != 0; found++)
            if (*found == other->number) value = *found;
        history_read_range(h, OBJECT_SLOT(other->number), value);
    }
}

// ---- merging: pots, nonces, names --------------------------------------------------------------------------------------

static void nothing_to_ask(struct world *w, struct task *t)
{
    (void)w, (void)t;
}

static void pots_decide(struct world *w, struct task *t)
{
    unsigned from = dice_below(&w->dice, POTS), to = (from + 1 + dice_below(&w->dice, POTS - 1)) % POTS, n = 1 + dice_below(&w->dice, 50);
    put(t, "{'op':'update','table':'pots','id':'" ID "','values':{'n':{'increment':-%u}}},", POT, from, n);
    put(t, "{'op':'update','table':'pots','id':'" ID "','values':{'n':{'increment':%u}}},", POT, to, n);
}

void works_branch_ops(struct world *w, struct buf *json)
{
    unsigned from = dice_below(&w->dice, POTS), n = 1 + dice_below(&w->dice, 50);
    const char *op = "{\"op\":\"update\",\"table\":\"pots\",\"id\":\"" ID "\",\"values\":{\"n\":{\"increment\":%d}}}";
    buf_put_str(json, "{\"ops\":[");
    buf_printf(json, op, POT, from, -(int)n);
    buf_put_str(json, ",");
    buf_printf(json, op, POT, (from + 1) % POTS, (int)n);
    buf_put_str(json, "]}");
}

static void pots_look_plan(struct world *w, struct task *t)
{
    (void)w;
    ask(t, "select n from pots");
}

static void pots_look(struct world *w, struct task *t)
{
    struct answer a = answer_of(buf_span(&t->asks[0].rows));
    check_sum(w, t, &a, "n", 0);
    jr_free(a.tree);
}

static bool too_early(int err)
{
    return err == ERR_STAMP_AHEAD;
}

static void nonces_decide(struct world *w, struct task *t)
{
    (void)w;
    for (unsigned i = 0; i < NONCES; i++)
        put(t, "{'op':'update','table':'nonces','id':'" ID "','values':{'nonce':%u}},", NONCE, i, t->number);
    put(t, "{'op':'append','stream':'log','text':'%u;'},", t->number);
}

static void nonces_look_plan(struct world *w, struct task *t)
{
    (void)w;
    ask(t, "select nonce from nonces");
}

static void nonces_look(struct world *w, struct task *t)
{
    struct answer a = answer_of(buf_span(&t->asks[0].rows));
    for (size_t i = 1; i < a.n; i++)
        if (number_of(&a, i, "nonce") != number_of(&a, 0, "nonce"))
            world_find(w, "half a batch", "task %u saw nonces %lld and %lld of two batches as of %llu", t->number, (long long)number_of(&a, 0, "nonce"), (long long)number_of(&a, i, "nonce"), (unsigned long long)t->base);
    jr_free(a.tree);
}

static void names_decide(struct world *w, struct task *t)
{
    put(t, "{'op':'insert','table':'names','values':{'name':'name %u','by':%u}},", dice_below(&w->dice, NAMES), t->number);
}

static bool name_taken(int err)
{
    return err == ERR_NOT_UNIQUE || too_early(err);
}

static void names_look_plan(struct world *w, struct task *t)
{
    (void)w;
    ask(t, "select name from names order by name");
}

static void names_look(struct world *w, struct task *t)
{
    struct answer a = answer_of(buf_span(&t->asks[0].rows));
    for (size_t i = 1; i < a.n; i++)
        if (span_equal(jr_str(jr_get(jr_at(a.rows, i - 1), "name")), jr_str(jr_get(jr_at(a.rows, i), "name"))))
            world_find(w, "not unique", "task %u saw one name twice as of %llu", t->number, (unsigned long long)t->base);
    jr_free(a.tree);
}

// ---- merging: families -------------------------------------------------------------------------------------------------

static void parent_op(struct world *w, struct task *t)
{
    unsigned n = dice_below(&w->dice, PARENTS), pick = dice_below(&w->dice, 10);
    if (pick < 2) put(t, "{'op':'delete','table':'parents','id':'" ID "'},", PARENT, n);
    else if (pick < 7) put(t, "{'op':'restore','table':'parents','id':'" ID "'},", PARENT, n);
    else put(t, "{'op':'upsert','table':'parents','id':'" ID "','values':{'by':%u}},", PARENT, n, t->number);
}

static void child_op(struct world *w, struct task *t, unsigned n)
{
    unsigned parent = dice_below(&w->dice, PARENTS), aunt = (parent + dice_below(&w->dice, 2)) % PARENTS, pick = dice_below(&w->dice, 10);
    if (pick == 0) put(t, "{'op':'delete','table':'children','id':'" ID "'},", CHILD, n);
    else if (pick < 4) put(t, "{'op':'restore','table':'children','id':'" ID "'},", CHILD, n);
    else put(t, "{'op':'upsert','table':'children','id':'" ID "','values':{'parent':'" ID "','aunt':'" ID "','by':%u}},", CHILD, n, PARENT, parent, PARENT, aunt, t->number);
}

static void families_decide(struct world *w, struct task *t)
{
    unsigned child = dice_chance(&w->dice, 60) ? dice_below(&w->dice, CHILDREN) : CHILDREN + t->number;
    if (dice_chance(&w->dice, 35)) parent_op(w, t);
    if (t->ops.n == 0 || dice_chance(&w->dice, 50)) child_op(w, t, child);
    if (dice_chance(&w->dice, 30)) child_op(w, t, child + 1000);
}

static bool families_may_fail(int err)
{
    return too_early(err) || err == ERR_NO_SUCH_REFERENCE || err == ERR_NO_SUCH_ROW || err == ERR_ROW_EXISTS;
}

static void families_look_plan(struct world *w, struct task *t)
{
    (void)w;
    ask(t, "select id, by from children c where not exists (select 1 from parents p where p.id = c.parent)");
    ask(t, "select id, by from children c where aunt is not null and not exists (select 1 from parents p where p.id = c.aunt)");
}

static void families_look(struct world *w, struct task *t)
{
    for (size_t i = 0; i < t->asked; i++) {
        struct answer a = answer_of(buf_span(&t->asks[i].rows));
        if (a.n > 0) world_find(w, "dangling reference", "task %u saw child %u refer to nobody as of %llu", t->number, id_of(&a, 0), (unsigned long long)t->base);
        jr_free(a.tree);
    }
}

// ---- merging: cells ----------------------------------------------------------------------------------------------------

static void put_letters(struct buf *out, unsigned letters)
{
    bool first = true;
    buf_put_str(out, "[");
    for (unsigned i = 0; i < MODEL_LETTERS; i++) {
        if (!(letters >> i & 1)) continue;
        buf_printf(out, "%s\"%c\"", first ? "" : ",", 'a' + (int)i);
        first = false;
    }
    buf_put_str(out, "]");
}

static void put_cell_op(struct buf *out, const struct cell_op *op)
{
    const char *kind = op->delete ? "delete" : op->row >= MODEL_UNBORN ? "upsert" : "update";
    buf_printf(out, "{\"op\":\"%s\",\"table\":\"cells\",\"id\":\"" ID "\"", kind, CELL, op->row);
    if (op->delete) {
        buf_put_str(out, "},");
        return;
    }
    buf_put_str(out, ",\"values\":{");
    size_t begin = out->n;
    if (op->has_l) buf_printf(out, "\"l\":%lld,", (long long)op->l);
    if (op->has_n) buf_printf(out, "\"n\":{\"increment\":%lld},", (long long)op->n);
    if (op->has_hi) buf_printf(out, "\"hi\":%lld,", (long long)op->hi);
    if (op->has_lo) buf_printf(out, "\"lo\":%lld,", (long long)op->lo);
    if (op->has_tags) {
        buf_put_str(out, op->absolute ? "\"tags\":" : "\"tags\":{\"add\":");
        put_letters(out, op->add);
        if (!op->absolute) buf_put_str(out, ",\"remove\":"), put_letters(out, op->remove);
        buf_put_str(out, op->absolute ? "," : "},");
    }
    if (out->n > begin) buf_truncate(out, out->n - 1);
    buf_put_str(out, "}},");
}

static void make_cell_op(struct world *w, struct cell_op *op, uint32_t row_no)
{
    struct dice *d = &w->dice;
    *op = (struct cell_op){.row = row_no};
    op->delete = row_no >= MODEL_MORTAL && row_no < MODEL_UNBORN && dice_chance(d, 3);
    if (op->delete) return;
    op->has_l = dice_chance(d, 50), op->l = dice_below(d, 1000);
    op->has_n = dice_chance(d, 50), op->n = (int64_t)dice_below(d, 100) - 40;
    op->has_hi = dice_chance(d, 40), op->hi = dice_below(d, 100000);
    op->has_lo = dice_chance(d, 40), op->lo = dice_below(d, 100000);
    op->has_tags = dice_chance(d, 60), op->absolute = dice_chance(d, 20);
    op->add = dice_below(d, 1u << MODEL_LETTERS);
    op->remove = op->absolute ? 0 : dice_below(d, 1u << MODEL_LETTERS) & ~op->add;
}

static void cells_decide(struct world *w, struct task *t)
{
    uint32_t n = 1 + dice_below(&w->dice, 3), first = dice_below(&w->dice, MODEL_ROWS);
    for (uint32_t i = 0; i < n; i++) {
        struct cell_op *op = &t->cells[t->cell_count++];
        make_cell_op(w, op, (first + i) % MODEL_ROWS);
        put_cell_op(&t->ops, op);
    }
}

static bool cells_may_fail(int err)
{
    return too_early(err) || err == ERR_NO_SUCH_ROW;
}

static void note_cells(const struct task *t, struct cell_write *out)
{
    for (size_t i = 0; i < t->cell_count; i++)
        out[i] = (struct cell_write){.op = t->cells[i], .seq = t->seq, .base = t->base > 0 ? t->base : t->seq - 1, .stamp = t->stamp, .writer = t->counter > 0 ? t->process : 0};
}

static bool value_is(const struct jr *v, bool has, int64_t value)
{
    return has ? jr_type(v) == JR_INT && jr_int(v, 0) == value : jr_type(v) == JR_NULL;
}

static unsigned letters_of(const struct jr *tags)
{
    unsigned letters = 0;
    for (size_t i = 0; i < jr_count(tags); i++)
        letters |= 1u << (jr_str(jr_at(tags, i)).p[0] - 'a');
    return letters;
}

static void check_cell(struct world *w, const struct cell_write *writes, size_t n, const struct jr *is, uint32_t row_no, uint64_t at)
{
    struct cell_row r = model_row(writes, n, row_no, at);
    const char *what = r.there != (is != NULL)                                        ? "whether it is there"
                       : !r.there                                                     ? NULL
                       : !value_is(jr_get(is, "l"), r.has_l, r.l)                     ? "its last write"
                       : jr_int(jr_get(is, "n"), 0) != r.n                            ? "its counter"
                       : !value_is(jr_get(is, "hi"), r.has_hi, r.hi)                  ? "its max"
                       : !value_is(jr_get(is, "lo"), r.has_lo, r.lo)                  ? "its min"
                       : letters_of(jr_get(is, "tags")) != r.tags                     ? "its set"
                                                                                      : NULL;
    if (what != NULL) world_find(w, "divergence", "cell %u is not what its writes come to as of %llu: %s", row_no, (unsigned long long)at, what);
}

// Now, and as of earlier commits.
static void judge_cells(struct world *w)
{
    struct cell_write *writes = calloc(w->task_count * TASK_OPS + 1, sizeof *writes);
    size_t n = 0;
    struct buf rows;
    if (writes == NULL) abort();
    for (size_t i = 0; i < w->task_count; i++) {
        const struct task *t = w->tasks[i];
        if (t->cell_count == 0 || !t->has_fate || t->err != 0) continue;
        note_cells(t, writes + n);
        n += t->cell_count;
    }
    buf_init(&rows, MIB);
    for (int look = 0; look < 6; look++) {
        uint64_t at = app_visible(w->app);
        uint64_t oldest = rows_horizon(app_rows(w->app)) > 2 ? rows_horizon(app_rows(w->app)) : 2;
        if (look > 0) at = oldest + dice_below(&w->dice, (uint32_t)(at - oldest) + 1);
        server_read(w, "select * from cells", at, &rows);
        struct answer a = answer_of(buf_span(&rows));
        for (uint32_t k = 0; k < MODEL_ROWS; k++) {
            const struct jr *is = NULL;
            for (size_t i = 0; i < a.n; i++)
                if (id_of(&a, i) == k) is = jr_at(a.rows, i);
            check_cell(w, writes, n, is, k, at);
        }
        jr_free(a.tree);
    }
    buf_free(&rows);
    free(writes);
}

// The log has what each accepted batch appended, once, in the order of their seqs.
static void judge_log(struct world *w)
{
    struct buf is, expected;
    buf_init(&is, MIB);
    buf_init(&expected, MIB);
    server_log(w, &is);
    for (uint64_t seq = 0; seq <= app_visible(w->app); seq++)
        for (size_t i = 0; i < w->task_count; i++)
            if (w->tasks[i]->work->decide == nonces_decide && w->tasks[i]->has_fate && w->tasks[i]->err == 0 && w->tasks[i]->seq == seq) buf_printf(&expected, "%u;", w->tasks[i]->number);
    if (!span_equal(buf_span(&is), buf_span(&expected))) world_find(w, "another log", "the stream is %.*s, not %.*s", SPAN_FMT(buf_span(&is)), SPAN_FMT(buf_span(&expected)));
    buf_free(&is);
    buf_free(&expected);
}

// In whatever order.
static bool same_rows(struct span x, struct span y)
{
    struct answer a = answer_of(x), b = answer_of(y);
    bool same = a.n == b.n;
    for (size_t i = 0; i < a.n && same; i++) {
        bool found = false;
        for (size_t k = 0; k < b.n; k++)
            found |= span_equal(jr_str(jr_get(jr_at(a.rows, i), "id")), jr_str(jr_get(jr_at(b.rows, k), "id")));
        same = found;
    }
    jr_free(a.tree);
    jr_free(b.tree);
    return same;
}

// What is asked of an index, and the same so that none can answer it.
static void judge_indexes(struct world *w)
{
    static const char *const pairs[][2] = {
        {"select id from slots where k >= 0", "select id from slots where k + 0 >= 0"},
        {"select id from cells where n >= 0 and n < 60", "select id from cells where n + 0 >= 0 and n + 0 < 60"},
        {"select id from accounts where balance > 90", "select id from accounts where balance + 0 > 90"},
        {"select id from duties where pair = 1", "select id from duties where pair + 0 = 1"},
        {"select id from names where name >= 'name 3'", "select id from names where name || '' >= 'name 3'"},
    };
    struct buf by_index, by_looking;
    buf_init(&by_index, MIB);
    buf_init(&by_looking, MIB);
    uint64_t newest = app_visible(w->app), oldest = rows_horizon(app_rows(w->app)) > 2 ? rows_horizon(app_rows(w->app)) : 2;
    for (size_t i = 0; i < 2 * sizeof pairs / sizeof *pairs; i++) {
        const char *const *pair = pairs[i / 2];
        uint64_t at = i % 2 == 0 ? newest : oldest + dice_below(&w->dice, (uint32_t)(newest - oldest) + 1);
        server_read(w, pair[0], at, &by_index);
        server_read(w, pair[1], at, &by_looking);
        if (!same_rows(buf_span(&by_index), buf_span(&by_looking)))
            world_find(w, "index", "%s as of %llu: %.*s, but there are %.*s", pair[0], (unsigned long long)at, SPAN_FMT(buf_span(&by_index)), SPAN_FMT(buf_span(&by_looking)));
    }
    buf_free(&by_index);
    buf_free(&by_looking);
}

// ---- all of them -------------------------------------------------------------------------------------------------------

static const struct work works[] = {
    {"bank", true, 12, bank_plan, bank_decide, conflict_alone},
    {"audit", true, 5, audit_plan, audit_decide, conflict_alone},
    {"skew", true, 14, skew_plan, skew_decide, conflict_alone},
    {"tallies", true, 8, tally_plan, tally_decide, conflict_alone},
    {"lists", true, 10, list_plan, list_decide, conflict_alone},
    {"queue", true, 8, queue_plan, queue_decide, conflict_alone},
    {"slots", true, 14, slots_plan, slots_decide, conflict_alone},
    {"pots", false, 6, nothing_to_ask, pots_decide, too_early},
    {"look at pots", true, 3, pots_look_plan, pots_look, conflict_alone},
    {"nonces", false, 6, nothing_to_ask, nonces_decide, too_early},
    {"look at nonces", true, 4, nonces_look_plan, nonces_look, conflict_alone},
    {"names", false, 3, nothing_to_ask, names_decide, name_taken},
    {"look at names", true, 1, names_look_plan, names_look, conflict_alone},
    {"families", false, 10, nothing_to_ask, families_decide, families_may_fail},
    {"look at families", true, 4, families_look_plan, families_look, conflict_alone},
    {"cells", false, 24, nothing_to_ask, cells_decide, cells_may_fail},
};
#define WORKS (sizeof works / sizeof *works)

_Static_assert(WORKS <= WORKS_MAX, "each has a weight");

// Some kinds are not there at all: what happens much is found in a world where little else does.
void works_mix(struct world *w)
{
    for (size_t i = 0; i < WORKS; i++)
        w->weights[i] = works[i].weight * dice_below(&w->dice, 4);
    w->weights[dice_below(&w->dice, WORKS)] += 20;
}

const struct work *works_choose(struct world *w)
{
    unsigned sum = 0;
    for (size_t i = 0; i < WORKS; i++)
        sum += w->weights[i];
    unsigned left = dice_below(&w->dice, sum);
    for (size_t i = 0;; i++) {
        if (left < w->weights[i]) return &works[i];
        left -= w->weights[i];
    }
}

static void copy_act(const struct task *t, const struct act *a, struct history *h)
{
    switch (a->kind) {
    case ACT_READ: history_read(h, a->object, a->value); break;
    case ACT_READ_RANGE: history_read_range(h, a->object, a->value); break;
    case ACT_READ_LIST: history_read_list(h, a->object, t->seen.values + a->at, a->n); break;
    case ACT_WRITE: history_write(h, a->object, a->value); break;
    case ACT_APPEND: history_append(h, a->object, a->value); break;
    }
}

static void note_task(const struct world *w, const struct task *t, struct history *h)
{
    if (!t->work->transaction || t->answered < t->asked) return; // it was left before it did anything
    enum outcome outcome = !t->has_fate ? TXN_UNKNOWN : t->err == 0 ? TXN_COMMITTED : TXN_ABORTED;
    history_txn(h, t->process, outcome, t->began, t->ended);
    if (t->searched) slots_reads(w, t, h);
    for (size_t i = 0; i < t->seen.act_count; i++)
        copy_act(t, &t->seen.acts[i], h);
}

void works_judge(struct world *w)
{
    struct history h = {0};
    static struct verdict v;
    for (size_t i = 0; i < w->task_count; i++)
        note_task(w, w->tasks[i], &h);
    if (!history_check(&h, &v))
        for (int a = 0; a < ANOMALIES; a++)
            if (v.found[a] > 0) world_find(w, anomaly_name((enum anomaly)a), "%s", v.first[a]);
    history_free(&h);
    bool all = w->app != NULL && w->finding_count == 0; // else not all fates are known
    if (all) judge_cells(w), judge_log(w), judge_indexes(w);
}
