#include "session_peer.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base64.h"
#include "err.h"
#include "json_read.h"

// ---- rows ----------------------------------------------------------------------------------------------------------

static char *canonical(const struct jr *n)
{
    struct buf b;
    buf_init(&b, 64 * MIB);
    int err = jr_canonical(n, &b);
    assert(err == 0);
    buf_put_u8(&b, 0);
    return (char *)b.p;
}

static size_t row_place(const struct peer_sub *s, struct span id)
{
    for (size_t i = 0; i < s->row_count; i++)
        if (span_is(id, s->rows[i].id)) return i;
    return SIZE_MAX;
}

static void row_remove(struct peer_sub *s, size_t at)
{
    assert(at < s->row_count);
    free(s->rows[at].json);
    s->row_count--;
    memmove(s->rows + at, s->rows + at + 1, (s->row_count - at) * sizeof *s->rows);
}

static void row_insert(struct peer_sub *s, size_t at, struct span id, const struct jr *row)
{
    assert(at <= s->row_count && id.n < sizeof s->rows->id && (s->keyed || id.n == UUID_TEXT) && row_place(s, id) == SIZE_MAX);
    if (s->row_count == s->row_cap) {
        s->row_cap = s->row_cap == 0 ? 16 : 2 * s->row_cap;
        s->rows = realloc(s->rows, s->row_cap * sizeof *s->rows);
    }
    memmove(s->rows + at + 1, s->rows + at, (s->row_count - at) * sizeof *s->rows);
    s->rows[at] = (struct peer_row){.json = canonical(row)};
    memcpy(s->rows[at].id, id.p, id.n);
    s->row_count++;
}

// Where a row goes: where it is said, or by its id. Of a keyed result without an order nobody says where.
static size_t place_for(const struct peer_sub *s, const struct jr *change, struct span id)
{
    size_t at = 0;
    assert((jr_get(change, "at") != NULL) == s->ordered);
    if (s->ordered) return (size_t)jr_int(jr_get(change, "at"), -1);
    if (s->keyed) return s->row_count;
    while (at < s->row_count && span_compare(SPAN_STR(s->rows[at].id), id) < 0)
        at++;
    return at;
}

static size_t place_of(const struct peer_sub *s, const struct jr *change, struct span id)
{
    size_t at = row_place(s, id);
    assert(at != SIZE_MAX);
    assert((jr_get(change, "was") != NULL) == s->ordered);
    assert(!s->ordered || (size_t)jr_int(jr_get(change, "was"), -1) == at);
    return at;
}

static void fold_row(struct peer_sub *s, const struct jr *change)
{
    const struct jr *added = jr_get(change, "added"), *changed = jr_get(change, "changed"), *removed = jr_get(change, "removed");
    assert((added != NULL) + (changed != NULL) + (removed != NULL) == 1);
    if (removed != NULL) row_remove(s, place_of(s, change, jr_str(removed)));
    const struct jr *row = added != NULL ? added : changed;
    assert((jr_get(change, "key") != NULL) == (s->keyed && row != NULL));
    if (row == NULL) return;
    struct span id = jr_str(s->keyed ? jr_get(change, "key") : jr_get(row, "id"));
    if (changed != NULL) row_remove(s, place_of(s, change, id));
    row_insert(s, place_for(s, change, id), id, row);
}

// A row of a snapshot.
static void fold_value(struct peer_sub *s, const struct jr *value)
{
    if (s->keyed) assert(jr_count(value) == 2 && jr_type(jr_get(value, "row")) == JR_OBJECT);
    row_insert(s, s->row_count, jr_str(jr_get(value, s->keyed ? "key" : "id")), s->keyed ? jr_get(value, "row") : value);
}

// ---- streams -------------------------------------------------------------------------------------------------------

static void stream_clear(struct peer_sub *s)
{
    s->exists = s->closed = false;
    s->offset = 0;
    buf_clear(&s->bytes);
}

static void fold_stream(struct peer_sub *s, const struct jr *value)
{
    if (jr_get(value, "deleted") != NULL) {
        assert(s->exists);
        stream_clear(s);
        s->start = 0;
    } else if (jr_get(value, "created") != NULL) {
        assert(!s->exists && jr_str(jr_get(value, "type")).n > 0);
        s->exists = true;
        s->first = s->offset = s->start;
    } else if (jr_get(value, "closed") != NULL) {
        assert(s->exists && !s->closed);
        s->closed = true;
    } else if (jr_get(value, "trimmed") != NULL) {
        uint64_t first = (uint64_t)jr_int(jr_get(value, "trimmed"), -1);
        assert(s->exists);
        if (first <= s->offset) return;
        buf_clear(&s->bytes);
        s->first = s->offset = first;
    } else if (jr_get(value, "snapshot") != NULL) {
        assert(s->exists);
    } else {
        size_t before = s->bytes.n;
        assert(s->exists && !s->closed);
        if (jr_get(value, "text") != NULL) buf_put_span(&s->bytes, jr_str(jr_get(value, "text")));
        else assert(base64_decode(&s->bytes, jr_str(jr_get(value, "base64"))) == 0);
        assert(s->bytes.n > before && s->bytes.err == 0);
        s->offset += s->bytes.n - before;
        assert((uint64_t)jr_int(jr_get(value, "offset"), -1) == s->offset); // each byte once, none left out
    }
}

static void fold_upload(struct peer_sub *s, const struct jr *value)
{
    s->exists = jr_get(value, "deleted") == NULL;
    s->closed = jr_get(value, "done") != NULL;
    s->offset = (uint64_t)jr_int(jr_get(value, "offset"), 0);
    assert(s->exists + (jr_get(value, "deleted") != NULL) == 1);
    assert(!s->exists || s->closed || jr_get(value, "offset") != NULL);
}

// ---- messages ------------------------------------------------------------------------------------------------------

static void sub_clear(struct peer_sub *s)
{
    s->piece = false;
    while (s->row_count > 0)
        row_remove(s, s->row_count - 1);
    stream_clear(s);
}

static void sub_free(struct session_peer *p, struct peer_sub *s)
{
    sub_clear(s);
    free(s->query);
    free(s->branch);
    free(s->path);
    free(s->rows);
    buf_free(&s->bytes);
    p->sub_count--;
    memmove(s, s + 1, (size_t)(p->subs + p->sub_count - s) * sizeof *s);
}

// In a session that goes on, `running`, a late one is either begun again with the others, or was asked for while the reset was on its way, and comes late.
static void forget(struct session_peer *p, bool running)
{
    for (size_t i = 0; i < p->sub_count; i++) {
        struct peer_sub *s = &p->subs[i];
        sub_clear(s);
        s->begun = s->whole = s->joining = s->ended = false;
        s->late = s->late && running;
    }
    for (size_t i = p->sub_count; i > 0; i--)
        if (p->subs[i - 1].leaving) sub_free(p, &p->subs[i - 1]);
    p->fresh = true;
    p->live = false;
    p->cursor[0] = '\0';
}

static struct peer_sub *sub_find(struct session_peer *p, struct span name)
{
    for (size_t i = 0; i < p->sub_count; i++)
        if (span_is(name, p->subs[i].name)) return &p->subs[i];
    return NULL;
}

static struct peer_sub *sub_called(struct session_peer *p, struct span name)
{
    struct peer_sub *s = sub_find(p, name);
    assert(s != NULL);
    return s;
}

static int fold_snapshot(void *ctx, struct span name, const struct jr *values)
{
    struct peer_sub *s = sub_called(ctx, name);
    for (size_t i = 0; i < jr_count(values); i++) {
        if (s->is_upload) fold_upload(s, jr_at(values, i));
        else if (s->query == NULL) fold_stream(s, jr_at(values, i));
        else fold_value(s, jr_at(values, i));
    }
    return 0;
}

static int fold_changes(void *ctx, struct span name, const struct jr *values)
{
    struct peer_sub *s = sub_called(ctx, name);
    assert(jr_count(values) > 0);
    for (size_t i = 0; i < jr_count(values); i++) {
        if (s->is_upload) fold_upload(s, jr_at(values, i));
        else if (s->query == NULL) fold_stream(s, jr_at(values, i));
        else fold_row(s, jr_at(values, i));
    }
    return 0;
}

static void fold_waiting(struct session_peer *p)
{
    struct jr_tree *tree;
    buf_put_str(&p->waiting, "]");
    int err = jr_parse(&tree, buf_span(&p->waiting), NULL);
    assert(err == 0);
    for (size_t i = 0; i < jr_count(jr_root(tree)); i++)
        jr_each(jr_at(jr_root(tree), i), fold_changes, p);
    jr_free(tree);
    buf_clear(&p->waiting);
    p->waiting_parts = 0;
}

// Who goes live with a range, and who is gone with it.
static void on_members(struct session_peer *p, const struct jr *m, uint64_t to)
{
    const struct jr *live = jr_get(m, "live"), *ended = jr_get(m, "ended");
    size_t first = 0;
    for (size_t i = 0; i < jr_count(ended); i++) {
        struct peer_sub *s = sub_find(p, jr_str(jr_at(ended, i)));
        assert(s != NULL ? s->leaving && !s->ended : p->resets > 0); // it may have been asked to end while a reset was on its way
        if (s != NULL) s->ended = true;
    }
    for (size_t i = 0; i < jr_count(live); i++) {
        struct peer_sub *s = sub_called(p, jr_str(jr_at(live, i)));
        assert(!s->ended && !s->joining);
        if (s->late) assert(s->whole && s->at <= to);
        else assert(!p->live);
        first += !s->late;
        s->joining = true;
    }
    for (size_t i = 0; i < p->sub_count && !p->live; i++)
        first += !p->subs[i].late && p->subs[i].ended;
    for (size_t i = 0; i < p->sub_count && !p->live; i++)
        first -= !p->subs[i].late;
    assert(first == 0); // all at once
}

static void members_settle(struct session_peer *p)
{
    for (size_t i = p->sub_count; i > 0; i--) {
        struct peer_sub *s = &p->subs[i - 1];
        p->joined += s->joining && s->late;
        if (s->joining) s->late = false;
        s->joining = false;
        p->leaves += s->ended;
        if (s->ended) sub_free(p, s);
    }
}

static void on_range(struct session_peer *p, const struct jr *m, const char *cursor)
{
    uint64_t from = (uint64_t)jr_int(jr_get(m, "from"), -1), to = (uint64_t)jr_int(jr_get(m, "to"), -1);
    bool more = jr_bool(jr_get(m, "more"), false);
    assert(from == p->to && from <= to && to <= app_visible(p->lab->app)); // ranges tile, nothing comes from beyond what is visible
    assert(p->waiting_parts == 0 || (from == p->range_from && to == p->range_to));
    assert((size_t)jr_int(jr_get(m, "part"), 0) == p->waiting_parts);
    assert((cursor != NULL) == !more);
    if (p->waiting_parts == 0) on_members(p, m, to);
    else assert(jr_get(m, "live") == NULL && jr_get(m, "ended") == NULL);
    p->live = true;
    p->range_from = from;
    p->range_to = to;
    char *changes = canonical(jr_get(m, "changes"));
    buf_printf(&p->waiting, "%s%s", p->waiting_parts == 0 ? "[" : ",", changes);
    free(changes);
    p->waiting_parts++;
    p->parts += more;
    if (more) return;
    fold_waiting(p);
    members_settle(p);
    p->to = to;
    snprintf(p->cursor, sizeof p->cursor, "%s", cursor);
}

struct lookup {
    struct session_peer *p;
    struct peer_sub **s;
};

static int get_sub(void *ctx, struct span name, const struct jr *values)
{
    (void)values;
    struct lookup *l = ctx;
    *l->s = sub_called(l->p, name);
    return 0;
}

// The first piece of a snapshot says whether the rows are named by keys; it is not known before of what was subscribed to late.
static void on_piece(struct peer_sub *s, const struct jr *m)
{
    bool keyed = jr_bool(jr_get(m, "keyed"), false);
    assert(!keyed || (s->query != NULL && !s->piece));
    assert(s->piece || !s->welcomed || keyed == s->keyed);
    if (!s->piece) s->keyed = keyed;
    s->piece = true;
}

static int on_welcomed(void *ctx, struct span name, const struct jr *entry)
{
    struct peer_sub *s = sub_called(ctx, name);
    bool keyed = jr_bool(jr_get(entry, "keyed"), false);
    assert(((struct session_peer *)ctx)->fresh || s->keyed == keyed);
    s->keyed = keyed;
    s->welcomed = true;
    return 0;
}

// A piece of a late subscription's snapshot, or of what it missed since.
static void on_late(struct session_peer *p, struct peer_sub *s, const struct jr *m, const char *cursor)
{
    const struct jr *snapshot = jr_get(m, "snapshot"), *catchup = jr_get(m, "catchup");
    uint64_t at = (uint64_t)jr_int(jr_get(m, "at"), -1);
    bool more = jr_bool(jr_get(m, "more"), false);
    assert(cursor == NULL && !s->leaving && p->waiting_parts == 0 && at <= app_visible(p->lab->app));
    if (snapshot != NULL) {
        assert(!s->whole && (!s->begun || s->at == at) && jr_count(snapshot) == 1);
        jr_each(snapshot, fold_snapshot, p);
        s->begun = true;
        s->at = at;
        s->whole = !more;
        return;
    }
    assert(s->whole && (uint64_t)jr_int(jr_get(m, "from"), -1) == s->at && at > s->at && jr_count(catchup) == 1);
    jr_each(catchup, fold_changes, p);
    if (!more) s->at = at;
    p->catchups++;
}

static void on_commit(struct session_peer *p, const struct jr *m, const char *cursor)
{
    const struct jr *snapshot = jr_get(m, "snapshot"), *catchup = jr_get(m, "catchup");
    if (snapshot == NULL && catchup == NULL) {
        on_range(p, m, cursor);
        return;
    }
    struct peer_sub *s = NULL;
    jr_each(snapshot != NULL ? snapshot : catchup, get_sub, &(struct lookup){p, &s});
    if (snapshot != NULL) on_piece(s, m);
    if (s->late) {
        on_late(p, s, m, cursor);
        return;
    }
    assert(catchup == NULL);
    uint64_t at = (uint64_t)jr_int(jr_get(m, "at"), -1);
    assert(cursor == NULL && !p->live && jr_count(snapshot) == 1);
    assert(!p->fresh && p->to == at);
    jr_each(snapshot, fold_snapshot, p);
}

// Nothing is known yet: what comes begins here.
static void begin_at(struct session_peer *p, const struct jr *m)
{
    p->to = (uint64_t)jr_int(jr_get(m, "seq"), -1);
    p->fresh = false;
    assert(p->to <= app_visible(p->lab->app));
}

static bool on_send(void *carrier, struct span message, const char *cursor)
{
    struct session_peer *p = carrier;
    struct jr_tree *tree;
    struct problem problem = PROBLEM_NONE;
    assert(p->room != 0 && p->ends == 0);
    int err = jr_parse(&tree, message, &problem);
    if (err != 0) fprintf(stderr, "%s: %.*s\n", problem.text, SPAN_FMT(message));
    assert(err == 0);
    const struct jr *m = jr_root(tree);
    struct span type = jr_str(jr_get(m, "type"));
    assert(p->welcome != span_is(type, "welcome"));
    if (span_is(type, "welcome")) {
        p->welcome = true;
        size_t first = 0;
        for (size_t i = 0; i < p->sub_count; i++)
            first += !p->subs[i].late;
        assert(jr_count(jr_get(m, "subscriptions")) == first);
        jr_each(jr_get(m, "subscriptions"), on_welcomed, p);
        if (p->fresh) begin_at(p, m);
    } else if (span_is(type, "reset")) {
        snprintf(p->reset, sizeof p->reset, "%.*s", SPAN_FMT(jr_str(jr_get(m, "reason"))));
        p->resets++;
        forget(p, true);
        begin_at(p, m);
    } else {
        assert(span_is(type, "commit"));
        on_commit(p, m, cursor);
    }
    jr_free(tree);
    p->messages++;
    if (p->room > 0) p->room--;
    return p->room != 0;
}

static void on_end(void *carrier, int err)
{
    struct session_peer *p = carrier;
    p->ended = err;
    p->ends++;
}

static void on_lost(void *carrier, const char *name, int err)
{
    struct peer_sub *s = sub_called(carrier, SPAN_STR(name));
    assert(err != 0 && !s->leaving);
    s->leaving = true;
}

// ---- life ----------------------------------------------------------------------------------------------------------

void session_peer_init(struct session_peer *p, struct app_lab *lab, struct hub *hub)
{
    *p = (struct session_peer){.lab = lab, .hub = hub, .room = -1, .fresh = true};
    buf_init(&p->waiting, 256 * MIB);
}

void session_peer_free(struct session_peer *p)
{
    session_close(p->session);
    while (p->sub_count > 0)
        sub_free(p, &p->subs[0]);
    buf_free(&p->waiting);
}

static struct peer_sub *sub_new(struct session_peer *p, const char *name)
{
    assert(p->sub_count < PEER_SUBS_MAX);
    struct peer_sub *s = &p->subs[p->sub_count++];
    *s = (struct peer_sub){.start = 0};
    snprintf(s->name, sizeof s->name, "%s", name);
    buf_init(&s->bytes, 64 * MIB);
    return s;
}

void session_peer_query(struct session_peer *p, const char *name, const char *sql)
{
    struct peer_sub *s = sub_new(p, name);
    s->query = strdup(sql);
    s->ordered = strstr(sql, "order by") != NULL;
}

void session_peer_branch(struct session_peer *p, const char *name, const char *branch, const char *sql)
{
    session_peer_query(p, name, sql);
    p->subs[p->sub_count - 1].branch = strdup(branch);
}

void session_peer_stream(struct session_peer *p, const char *name, const char *path, uint64_t start)
{
    struct peer_sub *s = sub_new(p, name);
    s->path = strdup(path);
    s->start = start;
}

void session_peer_upload(struct session_peer *p, const char *name, struct uuid id)
{
    struct peer_sub *s = sub_new(p, name);
    s->is_upload = true;
    s->upload = id;
}

static int subscribe_one(struct session_peer *p, const struct peer_sub *s, struct problem *problem)
{
    struct span name = SPAN_STR(s->name);
    if (s->is_upload) return session_upload(p->session, name, s->upload, problem);
    if (s->query == NULL) return session_stream(p->session, name, SPAN_STR(s->path), s->start, problem);
    return session_branch_query(p->session, name, s->branch != NULL ? SPAN_STR(s->branch) : SPAN_NONE, SPAN_STR(s->query), NULL, 0, problem);
}

static int subscribe(struct session_peer *p, bool late, struct problem *problem)
{
    int err = 0;
    for (size_t i = 0; i < p->sub_count && err == 0; i++)
        if (p->subs[i].late == late) err = subscribe_one(p, &p->subs[i], problem);
    return err;
}

int session_peer_start(struct session_peer *p, const char *cursor)
{
    static const struct session_carrier carrier = {.send = on_send, .end = on_end}, loses = {.send = on_send, .lost = on_lost, .end = on_end};
    struct problem problem = PROBLEM_NONE;
    char resume[sizeof p->cursor];
    snprintf(resume, sizeof resume, "%s", cursor != NULL ? cursor : p->cursor);
    p->welcome = p->live = false;
    p->ended = p->ends = 0;
    if (p->room == 0 || p->room == 1) p->room = 2; // a new carrier is empty
    if (resume[0] == '\0') forget(p, false);
    int err = session_open(&p->session, p->hub, p->lab->app, p->loses ? &loses : &carrier, p);
    if (err == 0) err = subscribe(p, false, &problem);
    if (err == 0) err = session_start(p->session, SPAN_STR(resume), &problem);
    for (size_t i = 0; i < p->sub_count && err == 0; i++)
        if (p->subs[i].leaving) err = session_unsubscribe(p->session, SPAN_STR(p->subs[i].name), &problem);
    if (err == 0) hub_run(p->hub); // to know of a reset before more is asked
    if (err == 0) err = subscribe(p, true, &problem);
    if (err != 0) session_peer_stop(p);
    return err;
}

void session_peer_stop(struct session_peer *p)
{
    session_close(p->session);
    p->session = NULL;
    buf_clear(&p->waiting);
    p->waiting_parts = 0;
    for (size_t i = p->sub_count; i > 0; i--) {
        struct peer_sub *s = &p->subs[i - 1];
        s->joining = s->ended = s->begun = s->whole = false;
        if (s->late) sub_clear(s);
        if (s->late && s->leaving) sub_free(p, s);
    }
    if (p->cursor[0] == '\0') forget(p, false); // without a cursor nothing is worth keeping
}

// The one that was made last comes late.
static int come_late(struct session_peer *p)
{
    struct problem problem = PROBLEM_NONE;
    struct peer_sub *s = &p->subs[p->sub_count - 1];
    s->late = true;
    int err = subscribe_one(p, s, &problem);
    if (err != 0) sub_free(p, s);
    return err;
}

int session_peer_late(struct session_peer *p, const char *name, const char *sql, const char *path)
{
    if (sql != NULL) session_peer_query(p, name, sql);
    else session_peer_stream(p, name, path, 0);
    return come_late(p);
}

int session_peer_late_upload(struct session_peer *p, const char *name, struct uuid id)
{
    session_peer_upload(p, name, id);
    return come_late(p);
}

void session_peer_leave(struct session_peer *p, const char *name)
{
    struct problem problem = PROBLEM_NONE;
    struct peer_sub *s = sub_called(p, SPAN_STR(name));
    assert(!s->leaving);
    s->leaving = true;
    int err = session_unsubscribe(p->session, SPAN_STR(name), &problem);
    assert(err == 0);
}

void session_peer_drain(struct session_peer *p, int room)
{
    p->room = room;
    session_drain(p->session);
    while (p->hub->first != NULL) // a turn makes a part of what there is
        hub_run(p->hub);
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// As an array; sorted where the order of the rows says nothing.
static void put_texts(struct buf *out, char **texts, size_t n, bool sort)
{
    if (sort && n > 1) qsort(texts, n, sizeof *texts, compare_texts);
    buf_put_str(out, "[");
    for (size_t i = 0; i < n; i++)
        buf_printf(out, "%s%s", i == 0 ? "" : ",", texts[i]);
    buf_put_str(out, "]");
}

static void put_folded(struct buf *out, const struct peer_sub *s)
{
    char **texts = malloc((s->row_count + 1) * sizeof *texts);
    for (size_t i = 0; i < s->row_count; i++)
        texts[i] = s->rows[i].json;
    put_texts(out, texts, s->row_count, s->keyed && !s->ordered);
    free(texts);
}

static void put_fresh(struct buf *out, const struct peer_sub *s, const struct jr *rows)
{
    size_t n = jr_count(rows);
    char **texts = malloc((n + 1) * sizeof *texts);
    for (size_t i = 0; i < n; i++)
        texts[i] = canonical(jr_at(rows, i));
    put_texts(out, texts, n, s->keyed && !s->ordered);
    for (size_t i = 0; i < n; i++)
        free(texts[i]);
    free(texts);
}

// A row's stream value says where its stream was when the row was told, which appends to it do not change.
static void forget_offsets(struct buf *json)
{
    static const char member[] = "{\"closed\":false,\"offset\":";
    size_t kept = 0;
    for (size_t i = 0; i < json->n;) {
        json->p[kept++] = json->p[i++];
        if (kept < sizeof member - 1 || memcmp(json->p + kept - (sizeof member - 1), member, sizeof member - 1) != 0) continue;
        while (i < json->n && json->p[i] >= '0' && json->p[i] <= '9')
            i++;
    }
    buf_truncate(json, kept);
}

static void check_rows(struct session_peer *p, const struct peer_sub *s)
{
    struct buf fresh, folded, expected;
    struct jr_tree *tree;
    buf_init(&fresh, 64 * MIB);
    buf_init(&folded, 64 * MIB);
    buf_init(&expected, 64 * MIB);
    assert((s->branch != NULL ? lab_branch_query(p->lab, s->branch, s->query, p->to, &fresh) : lab_query(p->lab, s->query, p->to, &fresh)) == 0);
    assert(jr_parse(&tree, buf_span(&fresh), NULL) == 0);
    put_fresh(&expected, s, jr_root(tree));
    put_folded(&folded, s);
    forget_offsets(&expected);
    forget_offsets(&folded);
    if (!span_equal(buf_span(&folded), buf_span(&expected)))
        fprintf(stderr, "%s\nfolded: %.*s\nfresh:  %.*s\n", s->query, SPAN_FMT(buf_span(&folded)), SPAN_FMT(buf_span(&expected)));
    assert(span_equal(buf_span(&folded), buf_span(&expected)));
    jr_free(tree);
    buf_free(&fresh);
    buf_free(&folded);
    buf_free(&expected);
}

static void check_stream(struct session_peer *p, const struct peer_sub *s)
{
    struct stream_info info, now;
    struct buf all;
    bool exists = streams_find_at(app_streams(p->lab->app), app_txn(p->lab->app), SPAN_STR(s->path), p->to, &info);
    assert(exists == s->exists);
    if (!exists) return;
    // Where it stood is forgotten with its bytes.
    if (info.trimmed_seq > p->to || !streams_find(app_streams(p->lab->app), app_txn(p->lab->app), SPAN_STR(s->path), &now) || now.created_seq > p->to) return;
    assert(s->offset == info.offset && s->closed == info.closed);
    if (p->to < app_visible(p->lab->app)) return; // it may be another one by now
    uint64_t from = s->first > info.first ? s->first : info.first;
    buf_init(&all, 64 * MIB);
    for (uint64_t at = from; at < info.offset; at = from + all.n)
        assert(streams_read(app_streams(p->lab->app), app_txn(p->lab->app), SPAN_STR(s->path), at, MIB, &all) == 0);
    assert(span_equal(span_sub(buf_span(&s->bytes), from - s->first, SIZE_MAX), buf_span(&all)));
    buf_free(&all);
}

// A range brings the newest state of an upload that is known by then.
static void check_upload(struct session_peer *p, const struct peer_sub *s)
{
    struct upload_info info;
    if (p->to < app_visible(p->lab->app)) return;
    bool exists = blobs_upload_find(app_blobs(p->lab->app), app_txn(p->lab->app), s->upload, &info);
    assert(exists == s->exists);
    if (exists) assert(s->closed == (info.state == UPLOAD_DONE) && (s->closed || s->offset == info.offset));
}

void session_peer_check(struct session_peer *p)
{
    for (size_t i = 0; i < p->sub_count; i++) {
        struct peer_sub *s = &p->subs[i];
        if (s->late || s->leaving) continue;
        if (s->is_upload) check_upload(p, s);
        else if (s->query == NULL) check_stream(p, s);
        else if (p->to >= rows_horizon(app_rows(p->lab->app))) check_rows(p, s);
    }
}
