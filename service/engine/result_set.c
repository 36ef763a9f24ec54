#include "result_set.h"

#include <assert.h>
#include <stdlib.h>

#include "app_internal.h"
#include "checksum.h"
#include "err.h"

// ---- rows' names ---------------------------------------------------------------------------------------------------

// The text up to the next quote: ids and keys have nothing in them that JSON would write otherwise.
static bool quoted(struct span rest, struct span *out)
{
    const uint8_t *end = rest.n == 0 ? NULL : memchr(rest.p, '"', rest.n);
    if (end == NULL) return false;
    *out = SPAN(rest.p, (size_t)(end - rest.p));
    return out->n <= UINT16_MAX;
}

static bool text_behind(struct span value, const char *head, struct span *out)
{
    return span_starts(value, head) && quoted(span_sub(value, strlen(head), SIZE_MAX), out);
}

// A change's key stands behind its row, and behind that only numbers: the last one there is.
static bool key_behind_row(struct span value, struct span *key)
{
    static const char head[] = ",\"key\":\"";
    const size_t n = sizeof head - 1;
    for (size_t at = value.n; at-- > n;)
        if (memcmp(value.p + at - n, head, n) == 0) return quoted(span_sub(value, at, SIZE_MAX), key);
    return false;
}

bool row_step_read(struct span value, bool keyed, enum row_step *step, struct span *key)
{
    *step = STEP_REMOVED;
    if (text_behind(value, "{\"removed\":\"", key)) return true;
    *step = span_starts(value, "{\"added\":") ? STEP_ADDED : STEP_CHANGED;
    if (*step == STEP_CHANGED && !span_starts(value, "{\"changed\":")) return false;
    if (keyed) return key_behind_row(value, key);
    return text_behind(value, *step == STEP_ADDED ? "{\"added\":{\"id\":\"" : "{\"changed\":{\"id\":\"", key);
}

bool row_value_key(struct span value, bool keyed, struct span *key)
{
    return text_behind(value, keyed ? "{\"key\":\"" : "{\"id\":\"", key);
}

// ---- what a range did to rows --------------------------------------------------------------------------------------

static struct row_trace *trace_find(const struct row_traces *f, struct span key)
{
    for (struct hash_node *n = hash_table_first(&f->by_key, checksum64(key, 0)); n != NULL; n = hash_table_more(n)) {
        struct row_trace *t = HASH_OWNER(n, struct row_trace, node);
        if (span_equal(row_trace_key(t), key)) return t;
    }
    return NULL;
}

static struct row_trace *trace_new(struct row_traces *f, struct span key, bool was)
{
    struct row_trace *t = calloc(1, sizeof *t + key.n);
    if (t == NULL) return NULL;
    t->was = was;
    t->n = (uint16_t)key.n;
    memcpy(t->key, key.p, key.n);
    hash_table_insert(&f->by_key, &t->node, checksum64(key, 0));
    *f->last = t;
    f->last = &t->next;
    return t;
}

static int trace_take(struct feed_sink *sink, struct bytes *value)
{
    struct row_traces *f = (struct row_traces *)sink;
    enum row_step step;
    struct span key;
    if (!row_step_read(bytes_span(value), f->keyed, &step, &key)) return ERR_CORRUPT;
    struct row_trace *t = trace_find(f, key);
    if (t == NULL) t = trace_new(f, key, step != STEP_ADDED);
    if (t == NULL) return ERR_NOMEM;
    t->is = step != STEP_REMOVED;
    t->came |= step == STEP_ADDED;
    return f->out != NULL ? f->out->emit(f->out, value) : 0;
}

int row_traces_init(struct row_traces *f, bool keyed, struct feed_sink *out)
{
    *f = (struct row_traces){.sink = {.emit = trace_take}, .out = out, .keyed = keyed, .last = &f->first};
    return hash_table_init(&f->by_key);
}

void row_traces_free(struct row_traces *f)
{
    while (f->first != NULL) {
        struct row_trace *t = f->first;
        f->first = t->next;
        free(t);
    }
    hash_table_free(&f->by_key);
}

const struct row_trace *row_traces_find(const struct row_traces *f, struct span key)
{
    return trace_find(f, key);
}

// ---- all sets of an app --------------------------------------------------------------------------------------------

static void list_out(struct result_member *m)
{
    struct result_set *set = m->set;
    if (m->newer != NULL) m->newer->older = m->older;
    else set->newest = m->older;
    if (m->older != NULL) m->older->newer = m->newer;
    else set->oldest = m->newer;
}

static void list_in(struct result_member *m)
{
    struct result_set *set = m->set;
    m->newer = NULL;
    m->older = set->newest;
    if (set->newest != NULL) set->newest->newer = m;
    else set->oldest = m;
    set->newest = m;
}

static void list_in_last(struct result_member *m)
{
    struct result_set *set = m->set;
    m->older = NULL;
    m->newer = set->oldest;
    if (set->oldest != NULL) set->oldest->older = m;
    else set->newest = m;
    set->oldest = m;
}

static void on_stream(struct stream_observer *o, uint64_t seq, struct span path, uint64_t number)
{
    struct result_sets *all = (struct result_sets *)o;
    (void)number;
    if (!span_starts(path, "rows/")) return;
    for (struct hash_node *n = hash_table_first(&all->by_path, checksum64(path, 0)); n != NULL; n = hash_table_more(n)) {
        struct result_member *m = HASH_OWNER(n, struct result_member, by_path);
        if (!span_equal(result_member_path(m), path)) continue;
        list_out(m);
        assert(m->moved <= seq);
        m->moved = seq;
        list_in(m);
        m->set->touched(m->set, seq);
    }
}

static int sets_need(struct app *a)
{
    if (a->result_sets != NULL) return 0;
    struct result_sets *all = calloc(1, sizeof *all);
    if (all == NULL || hash_table_init(&all->by_path) != 0) {
        free(all);
        return ERR_NOMEM;
    }
    all->app = a;
    all->observer.changed = on_stream;
    streams_observe(a->streams, &all->observer);
    a->result_sets = all;
    return 0;
}

static void sets_leave(struct result_sets *all)
{
    if (--all->sets > 0) return;
    assert(all->streams == 0);
    streams_unobserve(all->app->streams, &all->observer);
    all->app->result_sets = NULL;
    hash_table_free(&all->by_path);
    free(all);
}

// ---- one set -------------------------------------------------------------------------------------------------------

int result_set_open(struct result_set *set, struct app *a)
{
    int err = sets_need(a);
    if (err != 0) return err;
    set->all = a->result_sets;
    set->all->sets++;
    err = hash_table_init(&set->by_key);
    if (err != 0) sets_leave(set->all);
    return err;
}

static void member_free(struct result_member *m)
{
    struct result_set *set = m->set;
    list_out(m);
    hash_table_remove(&set->by_key, &m->by_key);
    hash_table_remove(&set->all->by_path, &m->by_path);
    set->count--;
    set->all->streams--;
    free(m);
}

void result_set_clear(struct result_set *set)
{
    while (set->newest != NULL)
        member_free(set->newest);
}

void result_set_close(struct result_set *set)
{
    result_set_clear(set);
    hash_table_free(&set->by_key);
    sets_leave(set->all);
}

static struct result_member *member_find(const struct result_set *set, struct span key)
{
    for (struct hash_node *n = hash_table_first(&set->by_key, checksum64(key, 0)); n != NULL; n = hash_table_more(n)) {
        struct result_member *m = HASH_OWNER(n, struct result_member, by_key);
        if (span_equal(result_member_key(m), key)) return m;
    }
    return NULL;
}

bool result_set_has(const struct result_set *set, struct span key)
{
    return member_find(set, key) != NULL;
}

void result_set_remove(struct result_set *set, struct span key)
{
    for (struct result_member *m; (m = member_find(set, key)) != NULL;)
        member_free(m);
}

// ---- members -------------------------------------------------------------------------------------------------------

static struct span piece_of(struct span key, size_t piece)
{
    for (; piece > 0; piece--) {
        const uint8_t *dot = key.n == 0 ? NULL : memchr(key.p, '.', key.n);
        if (dot == NULL) return SPAN_NONE;
        key = span_sub(key, (size_t)(dot - key.p) + 1, SIZE_MAX);
    }
    const uint8_t *dot = key.n == 0 ? NULL : memchr(key.p, '.', key.n);
    return dot == NULL ? key : SPAN(key.p, (size_t)(dot - key.p));
}

bool result_column_path(const struct result_column *c, struct span key, struct buf *out)
{
    struct uuid id;
    buf_clear(out);
    if (uuid_parse(&id, piece_of(key, c->of.piece)) != 0) return false;
    rows_stream_path(out, c->of.table, id, c->of.column);
    return true;
}

// In no list yet.
static int member_new(struct result_set *set, uint16_t column, struct span key, struct span path, struct result_member **out)
{
    if (set->count == FOLLOWED_STREAMS_MAX || set->all->streams == FOLLOWED_STREAMS_APP_MAX) return ERR_TOO_MANY;
    struct result_member *m = malloc(sizeof *m + key.n + path.n);
    if (m == NULL) return ERR_NOMEM;
    *m = (struct result_member){.set = set, .column = column, .key_n = (uint16_t)key.n, .path_n = (uint16_t)path.n};
    memcpy(m->text, key.p, key.n);
    memcpy(m->text + key.n, path.p, path.n);
    hash_table_insert(&set->by_key, &m->by_key, checksum64(key, 0));
    hash_table_insert(&set->all->by_path, &m->by_path, checksum64(path, 0));
    set->count++;
    set->all->streams++;
    *out = m;
    return 0;
}

static int add(struct result_set *set, struct span key, uint64_t seq, void (*place)(struct result_member *m, uint64_t seq))
{
    uint8_t room[STREAM_PATH_MAX];
    struct buf path = {.p = room, .cap = sizeof room, .max = sizeof room};
    struct result_member *m;
    int err = 0;
    for (size_t i = 0; i < set->column_count && err == 0; i++) {
        if (!result_column_path(&set->columns[i], key, &path)) continue;
        err = path.err != 0 ? path.err : member_new(set, (uint16_t)i, key, buf_span(&path), &m);
        if (err == 0) place(m, seq);
    }
    return err;
}

static void place_first(struct result_member *m, uint64_t seq)
{
    assert(m->set->newest == NULL || m->set->newest->moved <= seq);
    m->moved = seq;
    list_in(m);
}

int result_set_add(struct result_set *set, struct span key, uint64_t seq)
{
    return add(set, key, seq, place_first);
}

// ---- what was before the set was ------------------------------------------------------------------------------------

static void look_up(struct result_member *m)
{
    struct app *a = m->set->all->app;
    struct stream_info info;
    if (!streams_find(a->streams, a->txn, result_member_path(m), &info)) return;
    if (info.created_seq > m->moved) m->moved = info.created_seq;
    if (info.changed_seq > m->moved) m->moved = info.changed_seq;
    if (info.trimmed_seq > m->moved) m->moved = info.trimmed_seq;
}

static void place_by_age(struct result_member *m, uint64_t at)
{
    look_up(m);
    if (m->moved > at) {
        m->moved = app_visible(m->set->all->app); // or a little earlier: nobody asks for less than all since `at`
        list_in(m);
    } else {
        m->moved = 0;
        list_in_last(m);
    }
}

int result_set_find(struct result_set *set, struct span key, uint64_t at)
{
    return add(set, key, at, place_by_age);
}

static int by_moved(const void *x, const void *y)
{
    const struct result_member *a = *(struct result_member *const *)x, *b = *(struct result_member *const *)y;
    return a->moved < b->moved ? -1 : a->moved > b->moved;
}

int result_set_learn(struct result_set *set, uint64_t from)
{
    size_t n = 0;
    if (from >= set->known_from) return 0;
    struct result_member **all = malloc((set->count + 1) * sizeof(struct result_member *));
    if (all == NULL) return ERR_NOMEM;
    for (struct result_member *m = set->newest; m != NULL; m = m->older) {
        look_up(m);
        all[n++] = m;
    }
    if (n > 1) qsort(all, n, sizeof(struct result_member *), by_moved);
    set->newest = set->oldest = NULL;
    for (size_t i = 0; i < n; i++)
        list_in(all[i]);
    free(all);
    set->known_from = 0;
    return db_txn_err(set->all->app->txn);
}
