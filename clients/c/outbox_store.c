#include "outbox_store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "cur.h"
#include "db.h"
#include "err.h"
#include "file.h"
#include "hlc.h"
#include "limits.h"

#define FORMAT 1
#define MAP_BYTES (4096ull * MIB) // of address space: settling never meets its end before putting has met a bound

enum { TABLE_HEAD, TABLE_WAITING, TABLE_TEXTS, TABLE_SETTLED, TABLE_COUNT };
static const char *const tables[] = {"head", "waiting", "texts", "settled"};

struct outbox_store {
    struct outbox_store *next; // of those that this process has open
    unsigned users;
    dev_t dev;
    ino_t ino;
    char *path;
    struct db *db;
    pthread_mutex_t lock; // LMDB has one writer at a time, and so has `db`
};

// LMDB must not be opened twice by one process: its locks are the process's.
static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static struct outbox_store *registry;

// ---- records ---------------------------------------------------------------------------------------------------

// The whole of the head as it is stored.
struct head {
    struct outbox_head known;
    struct uuid replica;
    uint64_t counter; // the last one given
    uint64_t last_id;
    struct hlc clock;
};

static void put_head(struct db_txn *t, const struct head *h)
{
    struct buf b;
    buf_init(&b, KIB);
    buf_put_u8(&b, FORMAT);
    buf_put_u8(&b, h->known.bound);
    buf_put(&b, h->known.journal.b, sizeof h->known.journal.b);
    buf_put(&b, h->replica.b, sizeof h->replica.b);
    const uint64_t numbers[] = {h->counter, h->last_id, h->clock.last, h->known.told_seq, h->known.saw_seq, h->known.count, h->known.waiting, h->known.bytes};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        buf_put_varint(&b, numbers[i]);
    assert(b.err == 0 || b.err == ERR_NOMEM);
    if (b.err == 0) db_put(t, TABLE_HEAD, SPAN_LIT("head"), buf_span(&b));
    buf_free(&b);
}

static void cur_uuid(struct cur *c, struct uuid *out)
{
    struct span s = cur_span(c, sizeof out->b);
    if (s.n == sizeof out->b) memcpy(out->b, s.p, s.n);
}

static int get_head(struct db_txn *t, struct head *h)
{
    struct span value;
    struct cur c;
    *h = (struct head){.replica = {{0}}};
    if (!db_get(t, TABLE_HEAD, SPAN_LIT("head"), &value)) {
        h->replica = uuid_new();
        return db_txn_err(t);
    }
    cur_init(&c, value);
    if (cur_u8(&c) != FORMAT) return value.n > 0 ? ERR_VERSION : ERR_CORRUPT;
    h->known.bound = cur_u8(&c) != 0;
    cur_uuid(&c, &h->known.journal);
    cur_uuid(&c, &h->replica);
    h->counter = cur_varint(&c);
    h->last_id = cur_varint(&c);
    h->clock.last = cur_varint(&c);
    h->known.told_seq = cur_varint(&c);
    h->known.saw_seq = cur_varint(&c);
    h->known.count = (uint32_t)cur_varint(&c);
    h->known.waiting = (uint32_t)cur_varint(&c);
    h->known.bytes = cur_varint(&c);
    return c.err;
}

enum { MERGES = 1, SAYS_BASE = 2, SAYS_STAMP = 4 };

static void put_item(struct db_txn *t, const struct outbox_item *item, int table)
{
    struct buf b, key;
    buf_init(&key, 8);
    buf_put_u64_be(&key, item->id);
    buf_init(&b, 2 * BATCH_BYTES_MAX);
    buf_put_u8(&b, FORMAT);
    buf_put_u8(&b, (uint8_t)item->state);
    buf_put_u8(&b, (uint8_t)((item->merges ? MERGES : 0) | (item->says_base ? SAYS_BASE : 0) | (item->says_stamp ? SAYS_STAMP : 0)));
    buf_put(&b, item->replica.b, sizeof item->replica.b);
    buf_put_varint(&b, item->counter);
    buf_put_varint(&b, item->made_ms);
    buf_put_varint(&b, item->base);
    buf_put_varint(&b, item->stamp);
    buf_put_blob(&b, item->tag);
    if (table == TABLE_SETTLED) buf_put_blob(&b, item->text); // of one that waits it has a place of its own, and stays there while this changes
    assert(b.err == 0 || b.err == ERR_NOMEM);
    if (b.err == 0 && key.err == 0) db_put(t, table, buf_span(&key), buf_span(&b));
    buf_free(&key);
    buf_free(&b);
}

// What is stored is looked at in its place; it is gone with the transaction, or the next write.
static int read_item(struct span key, struct span value, int table, struct outbox_item *out)
{
    struct cur k, c;
    cur_init(&k, key);
    cur_init(&c, value);
    *out = (struct outbox_item){.id = cur_u64_be(&k)};
    if (cur_u8(&c) != FORMAT) return value.n > 0 ? ERR_VERSION : ERR_CORRUPT;
    out->state = (enum outbox_state)cur_u8(&c);
    uint8_t flags = cur_u8(&c);
    out->merges = flags & MERGES;
    out->says_base = flags & SAYS_BASE;
    out->says_stamp = flags & SAYS_STAMP;
    cur_uuid(&c, &out->replica);
    out->counter = cur_varint(&c);
    out->made_ms = cur_varint(&c);
    out->base = cur_varint(&c);
    out->stamp = cur_varint(&c);
    out->tag = cur_blob(&c);
    if (table == TABLE_SETTLED) out->text = cur_blob(&c);
    return k.err != 0 || c.err != 0 || out->state > OUTBOX_EXPIRED || out->tag.n > OUTBOX_TAG_MAX ? ERR_CORRUPT : 0;
}

struct id_key {
    uint8_t b[8];
};

static struct id_key key_of(uint64_t id)
{
    struct id_key k;
    for (int i = 0; i < 8; i++)
        k.b[i] = (uint8_t)(id >> (56 - 8 * i));
    return k;
}

static int get_item(struct db_txn *t, int table, uint64_t id, struct outbox_item *out)
{
    struct id_key k = key_of(id);
    struct span value, key = SPAN(k.b, sizeof k.b);
    if (!db_get(t, table, key, &value)) return db_txn_err(t) != 0 ? db_txn_err(t) : ERR_NOT_FOUND;
    return read_item(key, value, table, out);
}

static void delete_from(struct db_txn *t, int table, uint64_t id)
{
    struct id_key k = key_of(id);
    db_del(t, table, SPAN(k.b, sizeof k.b));
}

// Copies what the item refers to, so that it outlives the transaction.
static int keep(struct outbox_item *item, struct buf *room)
{
    size_t tag = item->tag.n, text = item->text.n;
    buf_clear(room);
    buf_put_span(room, item->tag);
    buf_put_span(room, item->text);
    if (room->err != 0) return room->err;
    item->tag = SPAN(room->p, tag);
    item->text = SPAN(room->p + tag, text);
    return 0;
}

// ---- opening ---------------------------------------------------------------------------------------------------

static char *path_in(const struct outbox_store *st, const char *name)
{
    char *path = NULL;
    return asprintf(&path, "%s/%s", st->path, name) < 0 ? NULL : path;
}

static int lock_file(struct outbox_store *st, const char *name, int how)
{
    char *path = path_in(st, name);
    int fd = path != NULL ? file_open(path, O_RDWR | O_CREAT) : -1, result = -1;
    free(path);
    if (fd < 0) return -1;
    do
        result = flock(fd, how);
    while (result != 0 && errno == EINTR);
    if (result == 0) return fd;
    file_close(fd);
    return -1;
}

int outbox_store_lock_sender(struct outbox_store *st)
{
    return lock_file(st, "sender", LOCK_EX | LOCK_NB);
}

// The files come to be under a lock: two processes that both begin would each take away what the other has made.
static int open_db(struct outbox_store *st)
{
    const struct db_options options = {.path = st->path, .map_bytes = MAP_BYTES, .tables = tables, .table_count = TABLE_COUNT, .summed = (1u << TABLE_COUNT) - 1};
    int fd = lock_file(st, "opening", LOCK_EX);
    if (fd < 0) return ERR_IO;
    int err = db_open(&st->db, &options);
    file_close(fd);
    return err;
}

static struct outbox_store *find_open(const struct stat *s)
{
    for (struct outbox_store *st = registry; st != NULL; st = st->next)
        if (st->dev == s->st_dev && st->ino == s->st_ino) return st;
    return NULL;
}

static void free_store(struct outbox_store *st)
{
    db_close(st->db);
    pthread_mutex_destroy(&st->lock);
    free(st->path);
    free(st);
}

static int open_locked(struct outbox_store **out, const char *path)
{
    struct stat s;
    if (stat(path, &s) != 0) return ERR_IO;
    struct outbox_store *st = find_open(&s);
    if (st == NULL) {
        st = calloc(1, sizeof *st);
        if (st == NULL) return ERR_NOMEM;
        pthread_mutex_init(&st->lock, NULL);
        st->dev = s.st_dev;
        st->ino = s.st_ino;
        st->path = strdup(path);
        int err = st->path == NULL ? ERR_NOMEM : open_db(st);
        if (err != 0) {
            free_store(st);
            return err;
        }
        st->next = registry;
        registry = st;
    }
    st->users++;
    *out = st;
    return 0;
}

int outbox_store_open(struct outbox_store **out, const char *path)
{
    int err = dir_make(path);
    if (err != 0) return err;
    pthread_mutex_lock(&registry_lock);
    err = open_locked(out, path);
    pthread_mutex_unlock(&registry_lock);
    return err;
}

void outbox_store_close(struct outbox_store *st)
{
    if (st == NULL) return;
    pthread_mutex_lock(&registry_lock);
    assert(st->users > 0);
    bool last = --st->users == 0;
    struct outbox_store **at = &registry;
    while (last && *at != st)
        at = &(*at)->next;
    if (last) *at = st->next;
    if (last) free_store(st); // before anybody else opens it
    pthread_mutex_unlock(&registry_lock);
}

// ---- transactions ----------------------------------------------------------------------------------------------

// A change under way: the transaction, and the head, which is stored with it.
struct change {
    struct outbox_store *st;
    struct db_txn *t;
    struct head head;
    int err;
};

static void change_begin(struct change *c, struct outbox_store *st)
{
    pthread_mutex_lock(&st->lock);
    c->st = st;
    c->t = db_begin_write(st->db);
    c->err = get_head(c->t, &c->head);
}

// All of it, or nothing. A change that has to be durable is so when this returns 0; where the barrier fails it may be there or not.
static int change_end(struct change *c, bool durable)
{
    if (c->err == 0) put_head(c->t, &c->head);
    if (c->err != 0)
        db_abort(c->t);
    else
        c->err = db_commit(c->t);
    if (c->err == 0 && durable) c->err = db_sync(c->st->db);
    pthread_mutex_unlock(&c->st->lock);
    return c->err;
}

int outbox_store_head(struct outbox_store *st, struct outbox_head *out)
{
    struct head head;
    struct db_txn *t = db_begin_read(st->db);
    int err = get_head(t, &head);
    db_abort(t);
    if (err == 0) *out = head.known;
    return err;
}

static int next_in(struct outbox_store *st, int table, uint64_t after, struct outbox_item *out, struct buf *room)
{
    struct db_iter it;
    struct id_key k = key_of(after + 1);
    struct db_txn *t = db_begin_read(st->db);
    db_iter_init(&it, t, table);
    bool found = db_iter_seek(&it, SPAN(k.b, sizeof k.b));
    int err = found ? read_item(it.key, it.value, table, out) : db_txn_err(t) != 0 ? db_txn_err(t) : ERR_NOT_FOUND;
    if (err == 0 && table == TABLE_WAITING) {
        k = key_of(out->id);
        if (!db_get(t, TABLE_TEXTS, SPAN(k.b, sizeof k.b), &out->text) || out->text.n == 0) err = db_txn_err(t) != 0 ? db_txn_err(t) : ERR_CORRUPT;
    }
    if (err == 0) err = keep(out, room);
    db_iter_end(&it);
    db_abort(t);
    return err;
}

int outbox_store_next_waiting(struct outbox_store *st, uint64_t after, struct outbox_item *out, struct buf *room)
{
    return next_in(st, TABLE_WAITING, after, out, room);
}

int outbox_store_next_settled(struct outbox_store *st, uint64_t after, struct outbox_item *out, struct buf *room)
{
    return next_in(st, TABLE_SETTLED, after, out, room);
}

// ---- changes ---------------------------------------------------------------------------------------------------

static uint64_t bytes_of(const struct outbox_item *item)
{
    return item->text.n + item->tag.n;
}

// The stamp of now. A clock that was far ahead, and was put right, is followed back: what it had stamped is refused, and so would all be that came behind that.
static uint64_t stamp(struct hlc *clock, uint64_t now_ms)
{
    if (hlc_ms(clock->last) > now_ms + STAMP_AHEAD_MS_MAX) clock->last = 0;
    return hlc_next(clock, now_ms);
}

int outbox_store_put(struct outbox_store *st, const struct outbox_item *item, struct outbox_bounds bounds, uint64_t *id)
{
    struct change c;
    struct outbox_item new = *item;
    assert(item->text.n > 0);
    change_begin(&c, st);
    struct outbox_head *known = &c.head.known;
    if (c.err == 0 && (known->count >= bounds.batches_max || known->bytes + bytes_of(item) > bounds.bytes_max)) c.err = ERR_TOO_MANY;
    if (c.err == 0) {
        new.id = ++c.head.last_id;
        new.state = OUTBOX_WAITS;
        new.counter = 0;
        new.stamp = item->merges && !item->says_stamp ? stamp(&c.head.clock, item->made_ms) : 0;
        new.base = !item->merges || item->says_base ? 0 : known->saw_seq != 0 ? known->saw_seq : known->told_seq;
        known->count++;
        known->waiting++;
        known->bytes += bytes_of(item);
        struct id_key k = key_of(new.id);
        put_item(c.t, &new, TABLE_WAITING);
        db_put(c.t, TABLE_TEXTS, SPAN(k.b, sizeof k.b), item->text);
    }
    int err = change_end(&c, true);
    if (err == 0) *id = new.id;
    return err;
}

// Takes one that waits out, with its text.
static void take_out(struct change *c, const struct outbox_item *item)
{
    struct id_key k = key_of(item->id);
    struct span text;
    c->head.known.waiting--;
    c->head.known.bytes -= item->tag.n;
    if (db_get(c->t, TABLE_TEXTS, SPAN(k.b, sizeof k.b), &text)) c->head.known.bytes -= text.n;
    delete_from(c->t, TABLE_WAITING, item->id);
    delete_from(c->t, TABLE_TEXTS, item->id);
}

int outbox_store_drop(struct outbox_store *st, uint64_t id)
{
    struct change c;
    struct outbox_item item;
    change_begin(&c, st);
    if (c.err == 0) c.err = get_item(c.t, TABLE_WAITING, id, &item);
    if (c.err == 0 && item.counter != 0) c.err = ERR_EXISTS;
    if (c.err == 0) {
        take_out(&c, &item);
        c.head.known.count--;
    }
    return change_end(&c, true);
}

// What `fn` changes of each that waits from `first` on is stored. It stops with the first one for which that is false.
static void change_waiting(struct change *c, uint64_t first, bool (*fn)(struct change *c, struct outbox_item *item, void *ctx), void *ctx)
{
    struct db_iter it;
    struct id_key k = key_of(first);
    uint8_t tag[OUTBOX_TAG_MAX];
    db_iter_init(&it, c->t, TABLE_WAITING);
    bool more = c->err == 0 && db_iter_seek(&it, SPAN(k.b, sizeof k.b));
    while (more && c->err == 0) {
        struct outbox_item item;
        c->err = read_item(it.key, it.value, TABLE_WAITING, &item);
        if (c->err != 0) break;
        if (item.tag.n > 0) memcpy(tag, item.tag.p, item.tag.n); // the write below may move it
        item.tag.p = tag;
        if (!fn(c, &item, ctx)) break;
        put_item(c->t, &item, TABLE_WAITING);
        more = db_iter_next(&it);
    }
    db_iter_end(&it);
}

struct naming {
    size_t left;
    uint64_t told_seq;
};

static bool give_name(struct change *c, struct outbox_item *item, void *ctx)
{
    struct naming *n = ctx;
    if (item->counter != 0) return true;
    if (n->left == 0) return false;
    n->left--;
    item->replica = c->head.replica;
    item->counter = ++c->head.counter;
    // Nothing was known when it was made, so nothing of the app had been seen. There is no base before the first commit to say that with.
    if (item->merges && !item->says_base && item->base == 0 && n->told_seq > 0) item->base = 1;
    return true;
}

int outbox_store_name(struct outbox_store *st, size_t count, uint64_t told_seq)
{
    struct change c;
    change_begin(&c, st);
    change_waiting(&c, 0, give_name, &(struct naming){count, told_seq});
    return change_end(&c, true);
}

static bool take_name(struct change *c, struct outbox_item *item, void *ctx)
{
    (void)c, (void)ctx;
    item->counter = 0;
    return true;
}

static int settle(struct change *c, uint64_t id, enum outbox_state state, struct span answer)
{
    uint8_t tag[OUTBOX_TAG_MAX];
    struct outbox_item item;
    int err = get_item(c->t, TABLE_WAITING, id, &item);
    if (err != 0) return err;
    if (item.tag.n > 0) memcpy(tag, item.tag.p, item.tag.n);
    item.tag.p = tag;
    take_out(c, &item);
    item.state = state;
    item.text = answer;
    c->head.known.bytes += bytes_of(&item);
    put_item(c->t, &item, TABLE_SETTLED);
    return 0;
}

// Not synced: what a power cut takes of it the service tells again.
int outbox_store_settle(struct outbox_store *st, const struct outbox_fate *fates, size_t count, struct span answers)
{
    struct change c;
    change_begin(&c, st);
    for (size_t i = 0; i < count && c.err == 0; i++) {
        assert(fates[i].state != OUTBOX_WAITS && fates[i].state != OUTBOX_UNSENDABLE);
        assert(fates[i].at + fates[i].n <= answers.n);
        c.err = settle(&c, fates[i].id, fates[i].state, span_sub(answers, fates[i].at, fates[i].n));
    }
    return change_end(&c, false);
}

int outbox_store_refuse(struct outbox_store *st, uint64_t id, struct span answer)
{
    struct change c;
    change_begin(&c, st);
    if (c.err == 0) c.err = settle(&c, id, OUTBOX_UNSENDABLE, answer);
    if (c.err == 0) {
        c.head.replica = uuid_new();
        c.head.counter = 0;
    }
    change_waiting(&c, id, take_name, NULL);
    return change_end(&c, true);
}

int outbox_store_adopt(struct outbox_store *st)
{
    struct change c;
    change_begin(&c, st);
    c.head.replica = uuid_new();
    c.head.counter = 0;
    c.head.known.bound = false;
    change_waiting(&c, 0, take_name, NULL);
    return change_end(&c, true);
}

static bool take_base(struct change *c, struct outbox_item *item, void *ctx)
{
    (void)c, (void)ctx;
    item->base = 0;
    return true;
}

int outbox_store_bind(struct outbox_store *st, struct uuid journal)
{
    struct change c;
    static const struct uuid none;
    change_begin(&c, st);
    struct outbox_head *known = &c.head.known;
    // Seqs of one journal say nothing in another.
    if (c.err == 0 && !uuid_equal(known->journal, none) && !uuid_equal(known->journal, journal)) {
        known->told_seq = 0;
        known->saw_seq = 0;
        change_waiting(&c, 0, take_base, NULL);
    }
    known->bound = true;
    known->journal = journal;
    return change_end(&c, true);
}

int outbox_store_know(struct outbox_store *st, uint64_t told_seq, uint64_t saw_seq)
{
    struct change c;
    change_begin(&c, st);
    if (told_seq > c.head.known.told_seq) c.head.known.told_seq = told_seq;
    if (saw_seq > c.head.known.saw_seq) c.head.known.saw_seq = saw_seq;
    return change_end(&c, false);
}

int outbox_store_seen(struct outbox_store *st, uint64_t id)
{
    struct change c;
    struct outbox_item item;
    change_begin(&c, st);
    if (c.err == 0) c.err = get_item(c.t, TABLE_SETTLED, id, &item);
    if (c.err == 0) {
        c.head.known.count--;
        c.head.known.bytes -= bytes_of(&item);
        delete_from(c.t, TABLE_SETTLED, id);
    }
    return change_end(&c, false);
}
