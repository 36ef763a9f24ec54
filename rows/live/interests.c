#include "interests.h"

#include <assert.h>
#include <stdlib.h>

#include "err.h"

struct interests {
    struct interest **of_table; // lists, by a table's number
    size_t tables;
    struct interests_counts counts;
    struct interest *next; // the one that hears next
};

struct interests *interests_new(void)
{
    return calloc(1, sizeof(struct interests));
}

void interests_free(struct interests *x)
{
    if (!x) return;
    assert(x->counts.all == 0);
    free(x->of_table);
    free(x);
}

static int make_list(struct interests *x, uint32_t table)
{
    if (table < x->tables) return 0;
    size_t tables = table + 1;
    struct interest **of_table = realloc(x->of_table, tables * sizeof *of_table);
    if (!of_table) return ERR_NOMEM;
    for (size_t i = x->tables; i < tables; i++)
        of_table[i] = NULL;
    x->of_table = of_table;
    x->tables = tables;
    return 0;
}

int interests_add(struct interests *x, struct interest *i, struct expr *const *conditions, size_t count, const struct value *params)
{
    (void)conditions, (void)count, (void)params;
    int err = make_list(x, i->table);
    if (err) return err;
    struct interest **first = &x->of_table[i->table];
    i->scanned = true;
    i->prev = NULL;
    i->next = *first;
    if (i->next) i->next->prev = i;
    *first = i;
    x->counts.all++;
    x->counts.scanned++;
    return 0;
}

void interests_remove(struct interests *x, struct interest *i)
{
    struct interest **first = &x->of_table[i->table];
    assert(i->prev || *first == i);
    if (x->next == i) x->next = i->next;
    if (i->prev) {
        i->prev->next = i->next;
    } else {
        *first = i->next;
    }
    if (i->next) i->next->prev = i->prev;
    x->counts.all--;
    x->counts.scanned--;
}

int interests_find(struct interests *x, uint64_t seq, const struct row_change *change)
{
    struct interest *i = change->table->no < x->tables ? x->of_table[change->table->no] : NULL;
    for (; i; i = x->next) {
        x->next = i->next;
        i->hear(i, seq, change);
    }
    return 0;
}

struct interests_counts interests_counts(const struct interests *x)
{
    return x->counts;
}
