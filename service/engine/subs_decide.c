// Deciding the steps of subscriptions, and applying them. An effect is a record to put or a key to take away, so that applying asks nothing.
#include "subs_impl.h"

#include <assert.h>

#include "cur.h"
#include "db.h"
#include "err.h"

#define DROPS 64 // links of deleted subscriptions that one step drops at most
#define RETRY_MS_MIN 1000
#define RETRY_MS_MAX 60000
#define RECORD_MAX (16 * KIB) // names and addresses, all of them bounded where they are made

enum { EFFECT_PUT = 1, EFFECT_DEL = 2 };

struct step {
    struct db_txn *txn;
    int table;
    const struct subs_host *host;
    struct sub_op op;
    const struct commit *c;
    struct buf *effects;
    struct problem *p;
    struct sub s; // the subscription, as the step will leave it
};

// ---- effects ----

static void put_record(struct step *t, struct span key, struct span record)
{
    buf_put_u8(t->effects, EFFECT_PUT);
    buf_put_blob(t->effects, key);
    buf_put_blob(t->effects, record);
}

static void put_removal(struct step *t, struct sub_key key)
{
    buf_put_u8(t->effects, EFFECT_DEL);
    buf_put_blob(t->effects, sub_key_span(&key));
}

static int put_sub(struct step *t)
{
    struct buf record;
    struct sub_key k = sub_key_of(t->s.id);
    buf_init(&record, RECORD_MAX);
    sub_encode(&record, &t->s);
    int err = record.err;
    if (err == 0) put_record(t, sub_key_span(&k), buf_span(&record));
    buf_free(&record);
    return err != 0 ? err : t->effects->err;
}

static void put_link(struct step *t, struct span path, const struct sub_link *l)
{
    uint8_t room[32];
    struct buf record = {.p = room, .cap = sizeof room, .max = sizeof room};
    struct sub_key k = sub_key_link(t->s.born, path);
    sub_link_encode(&record, l);
    assert(record.err == 0);
    put_record(t, sub_key_span(&k), buf_span(&record));
}

static uint64_t count_get(struct step *t)
{
    struct span value;
    struct cur c;
    if (!db_get(t->txn, t->table, SPAN_LIT("n"), &value)) return 0;
    cur_init(&c, value);
    return cur_varint(&c);
}

static void put_count(struct step *t, uint64_t n)
{
    uint8_t room[10];
    struct buf value = {.p = room, .cap = sizeof room, .max = sizeof room};
    buf_put_varint(&value, n);
    put_record(t, SPAN_LIT("n"), buf_span(&value));
}

// ---- links ----

static int cursor(struct step *t, struct span path, struct sub_cursor *out)
{
    return subs_cursor(t->txn, t->table, t->host, &t->s, path, out);
}

// A new link by name begins at the stream's end; one that the pattern had already keeps its place.
static int link_path(struct step *t, struct span path)
{
    struct sub_cursor c;
    struct stream_info info;
    if (path.n == 0 || path.n > STREAM_PATH_MAX) return problem_set(t->p, ERR_BAD_REQUEST, -1, "a stream's path has 1 to %d bytes", STREAM_PATH_MAX);
    int err = cursor(t, path, &c);
    if (err != 0 || c.by_name) return err;
    struct sub_link l = {.by_name = true, .number = c.number, .acked = c.acked};
    if (!c.linked && t->host->find(t->host->ctx, path, &info)) l.number = info.number, l.acked = info.offset;
    put_link(t, path, &l);
    t->s.links++;
    if (t->s.links > SUB_LINKS_MAX) return problem_set(t->p, ERR_TOO_MANY, -1, "a subscription names at most %d streams", SUB_LINKS_MAX);
    return 0;
}

static int unlink_path(struct step *t, struct span path)
{
    struct sub_cursor c;
    int err = cursor(t, path, &c);
    if (err != 0 || !c.by_name) return err;
    assert(t->s.links > 0);
    t->s.links--;
    put_removal(t, sub_key_link(t->s.born, path));
    // The pattern may go on with it, from where it is.
    if (c.exists && sub_matches(&t->s, path)) put_link(t, path, &(struct sub_link){.number = c.number, .acked = c.acked});
    return 0;
}

static int forget_path(struct step *t, struct span path)
{
    struct sub_cursor c;
    int err = cursor(t, path, &c);
    if (err == 0 && c.recorded && !c.by_name && !c.exists) put_removal(t, sub_key_link(t->s.born, path));
    return err;
}

// Paths come sorted and once each: what is counted twice would never be uncounted.
static int each_path(struct step *t, int (*fn)(struct step *t, struct span path))
{
    struct cur c;
    struct span before = SPAN_NONE;
    int err = 0;
    cur_init(&c, t->op.paths);
    while (err == 0 && cur_left(&c) > 0) {
        struct span path = cur_blob(&c);
        if (c.err != 0 || (before.p != NULL && span_compare(before, path) >= 0)) return problem_set(t->p, ERR_BAD_BATCH, -1, "the paths are not in order");
        err = fn(t, path);
        before = path;
    }
    return err;
}

// ---- coming and going ----

static struct sha256 config_of(const struct sub_op *op)
{
    struct digest *d = digest_new();
    struct sha256 none = {{0}};
    if (d == NULL) return none;
    const struct span parts[] = {op->pattern, op->url, op->wake_stream, op->description, op->paths};
    uint64_t numbers[3] = {(uint64_t)op->type, op->lease_ttl_ms, op->has_description};
    digest_update(d, SPAN(numbers, sizeof numbers));
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        uint64_t n = parts[i].n;
        digest_update(d, SPAN(&n, sizeof n));
        digest_update(d, parts[i]);
    }
    struct sha256 config = digest_final(d);
    digest_free(d);
    return config;
}

static int decide_create(struct step *t, bool found)
{
    const struct sub_op *op = &t->op;
    struct sha256 config = config_of(op), none = {{0}};
    if (sha256_equal(&config, &none)) return ERR_NOMEM;
    if (found && sha256_equal(&t->s.config, &config)) return 0; // asked again
    if (found) return problem_set(t->p, ERR_SUBSCRIPTION_EXISTS, -1, "the subscription exists with another configuration");
    uint64_t count = count_get(t);
    if (count >= SUBS_MAX) return problem_set(t->p, ERR_TOO_MANY, -1, "an app has at most %d subscriptions", SUBS_MAX);
    t->s = (struct sub){.id = op->id,
                        .born = t->c->seq,
                        .created_ms = t->c->arrival_ms,
                        .type = op->type,
                        .pattern = op->pattern,
                        .url = op->url,
                        .base = op->base,
                        .wake_stream = op->wake_stream,
                        .has_description = op->has_description,
                        .description = op->description,
                        .lease_ttl_ms = op->lease_ttl_ms,
                        .config = config};
    put_count(t, count + 1);
    int err = each_path(t, link_path);
    return err != 0 ? err : put_sub(t);
}

static int decide_delete(struct step *t)
{
    uint64_t count = count_get(t);
    struct sub_key dead = sub_key_born('d', t->s.born);
    put_removal(t, sub_key_of(t->s.id));
    put_record(t, sub_key_span(&dead), SPAN_LIT(""));
    put_count(t, count > 0 ? count - 1 : 0);
    return t->effects->err;
}

static int decide_paths(struct step *t)
{
    int err = each_path(t, t->op.step == SUB_LINK ? link_path : t->op.step == SUB_UNLINK ? unlink_path : forget_path);
    return err != 0 ? err : put_sub(t);
}

// ---- wakes ----

static int fenced(struct step *t)
{
    return problem_set(t->p, ERR_FENCED, -1, "another wake is the current one: generation %llu", (unsigned long long)t->s.generation);
}

static bool in_flight(const struct sub *s)
{
    return s->state != SUB_IDLE;
}

static bool names_current(const struct step *t)
{
    return in_flight(&t->s) && t->op.generation == t->s.generation && uuid_equal(t->op.wake, t->s.wake);
}

static void become_idle(struct sub *s)
{
    s->state = SUB_IDLE;
    s->token = (struct sha256){{0}};
    s->holder = SPAN_NONE;
    s->lease_ms = 0;
    s->attempts = 0;
    s->next_attempt_ms = 0;
}

static void begin_lease(struct step *t, enum sub_where state)
{
    t->s.state = state;
    t->s.next_attempt_ms = 0;
    t->s.lease_ms = t->c->arrival_ms + t->s.lease_ttl_ms;
}

static void schedule(struct step *t)
{
    uint64_t shift = t->s.attempts < 6 ? t->s.attempts : 6;
    uint64_t ms = ((uint64_t)RETRY_MS_MIN << shift) * t->op.jitter / 1000;
    if (ms > RETRY_MS_MAX) ms = RETRY_MS_MAX - RETRY_MS_MAX / 5 + RETRY_MS_MAX / 5 * (t->op.jitter - 800) / 400;
    t->s.attempts++;
    t->s.next_attempt_ms = t->c->arrival_ms + ms;
}

static int check_pending(struct step *t)
{
    struct sub_cursor c;
    int err = cursor(t, t->op.stream, &c);
    if (err != 0 || sub_cursor_pending(&c)) return err;
    return problem_set(t->p, ERR_NOTHING_PENDING, -1, "there is nothing new for this subscription");
}

static void new_generation(struct step *t)
{
    t->s.generation++;
    t->s.wake = t->op.wake;
    t->s.token = t->op.token;
}

// Is this a fault of the machine, or a stream that cannot be written?
static bool is_fault(int err)
{
    return err == ERR_NOMEM || err == ERR_IO || err == ERR_CORRUPT || err == ERR_NO_SPACE || err == ERR_MAP_FULL || err == ERR_INTERNAL;
}

// The wake and its message are one commit. Where the message has no place to go, the wake waits for its next attempt.
static int wake_by_stream(struct step *t)
{
    struct problem ignored = PROBLEM_NONE;
    int err = t->host->append(t->host->ctx, t->s.wake_stream, t->op.event, &ignored);
    if (is_fault(err)) return err;
    if (err != 0) {
        schedule(t);
        return put_sub(t);
    }
    new_generation(t);
    t->s.state = SUB_WAKING;
    t->s.attempts = 0;
    t->s.next_attempt_ms = 0;
    return put_sub(t);
}

static int decide_wake(struct step *t)
{
    if (t->s.born != t->op.born || t->s.generation != t->op.generation || t->s.state != SUB_IDLE) return fenced(t);
    int err = check_pending(t);
    if (err != 0) return err;
    if (t->s.type == SUB_PULL) return wake_by_stream(t);
    new_generation(t);
    begin_lease(t, SUB_WAKING);
    return put_sub(t);
}

static int decide_attempt(struct step *t)
{
    if (t->s.born != t->op.born || !names_current(t) || t->s.state != SUB_RETRYING) return fenced(t);
    t->s.token = t->op.token;
    begin_lease(t, SUB_WAKING);
    return put_sub(t);
}

static int decide_retry(struct step *t)
{
    if (t->s.born != t->op.born || !names_current(t) || t->s.state != SUB_WAKING || t->s.type != SUB_WEBHOOK) return fenced(t);
    t->s.state = SUB_RETRYING;
    t->s.lease_ms = 0;
    schedule(t);
    return put_sub(t);
}

static bool lease_over(const struct step *t)
{
    return t->s.lease_ms != 0 && t->c->arrival_ms >= t->s.lease_ms;
}

static int decide_expire(struct step *t)
{
    if (t->s.born != t->op.born || !names_current(t) || !lease_over(t)) return fenced(t);
    become_idle(&t->s);
    return put_sub(t);
}

static int decide_claim(struct step *t)
{
    if (t->s.type != SUB_PULL) return problem_set(t->p, ERR_BAD_REQUEST, -1, "a webhook's wakes are not claimed");
    if (t->s.state == SUB_HELD && !lease_over(t))
        return problem_set(t->p, ERR_ALREADY_CLAIMED, -1, "%.*s holds the lease", SPAN_FMT(span_sub(t->s.holder, 0, SUB_HOLDER_MAX)));
    if (t->s.state == SUB_WAKING) {
        t->s.token = t->op.token;
    } else {
        int err = check_pending(t);
        if (err != 0) return err;
        new_generation(t);
    }
    t->s.holder = t->op.holder;
    t->s.attempts = 0;
    begin_lease(t, SUB_HELD);
    return put_sub(t);
}

// ---- answers ----

// May this request speak for the current wake? A webhook's worker may also be late: its delivery timed out and waits to be tried again.
static int check_answer(struct step *t)
{
    bool held = t->s.type == SUB_PULL ? t->s.state == SUB_HELD : t->s.state != SUB_IDLE;
    if (!held || !names_current(t) || lease_over(t)) return fenced(t);
    if (!sha256_equal(&t->op.token, &t->s.token)) return problem_set(t->p, ERR_UNAUTHENTICATED, -1, "the token is not this wake's");
    return 0;
}

// Cursors go forward only. What is no longer linked, or gone, has no cursor: nothing happens.
static int take_acks(struct step *t)
{
    struct cur list;
    struct sub_cursor c;
    cur_init(&list, t->op.acks);
    while (cur_left(&list) > 0) {
        struct span path = cur_blob(&list);
        uint64_t offset = cur_varint(&list);
        if (list.err != 0) return problem_set(t->p, ERR_BAD_BATCH, -1, "the acknowledgements cannot be read");
        int err = cursor(t, path, &c);
        if (err != 0) return err;
        if (!c.linked || !c.exists) continue;
        if (offset > c.tail) return problem_set(t->p, ERR_BAD_OFFSET, -1, "%.*s ends at %llu", SPAN_FMT(span_sub(path, 0, 80)), (unsigned long long)c.tail);
        if (offset > c.acked) put_link(t, path, &(struct sub_link){.by_name = c.by_name, .number = c.number, .acked = offset});
    }
    return 0;
}

static int decide_ack(struct step *t)
{
    int err = check_answer(t);
    if (err == 0) err = take_acks(t);
    if (err != 0) return err;
    if (t->op.done)
        become_idle(&t->s);
    else
        begin_lease(t, t->s.type == SUB_PULL ? SUB_HELD : SUB_WAKING);
    return put_sub(t);
}

static int decide_release(struct step *t)
{
    int err = t->s.type == SUB_PULL ? check_answer(t) : problem_set(t->p, ERR_BAD_REQUEST, -1, "a webhook's wakes are not released");
    if (err != 0) return err;
    become_idle(&t->s);
    return put_sub(t);
}

int subs_decide(struct db_txn *txn, int table, const struct subs_host *host, struct span op, const struct commit *c, struct buf *effects,
                struct problem *p)
{
    struct step t = {.txn = txn, .table = table, .host = host, .c = c, .effects = effects, .p = p};
    int err = sub_op_read(op, &t.op);
    if (err != 0) return problem_set(p, ERR_BAD_BATCH, -1, "the step of a subscription cannot be read");
    int found = subs_find(txn, table, t.op.id, &t.s);
    if (found < 0) return found;
    if (t.op.step == SUB_CREATE) return decide_create(&t, found == 1);
    if (found == 0) return problem_set(p, ERR_NO_SUCH_SUBSCRIPTION, -1, "no subscription has this id");
    switch (t.op.step) {
    case SUB_DELETE: return decide_delete(&t);
    case SUB_WAKE: return decide_wake(&t);
    case SUB_ATTEMPT: return decide_attempt(&t);
    case SUB_RETRY: return decide_retry(&t);
    case SUB_EXPIRE: return decide_expire(&t);
    case SUB_CLAIM: return decide_claim(&t);
    case SUB_ACK: return decide_ack(&t);
    case SUB_RELEASE: return decide_release(&t);
    default: return decide_paths(&t);
    }
}

// ---- applying ----

static bool is_record(struct span key, struct span record)
{
    struct sub s;
    struct sub_link l;
    if (key.n == 0) return false;
    switch (key.p[0]) {
    case 's': return sub_decode(record, span_sub(key, 1, key.n), &s) == 0;
    case 'l': return key.n > 9 && key.n <= 9 + STREAM_PATH_MAX && sub_link_decode(record, &l) == 0;
    case 'd': return key.n == 9 && record.n == 0;
    case 'n': return key.n == 1;
    default: return false;
    }
}

// A few for each step that comes: the number shrinks back after a deletion, and no step is long. True: none of this one is left.
static bool drop_links(struct db_txn *txn, int table, uint64_t born)
{
    struct sub_key all = sub_key_born('l', born), k = {.n = 0};
    for (int i = 0; i < DROPS; i++) {
        struct db_iter it;
        db_iter_init(&it, txn, table);
        bool more = db_iter_seek(&it, sub_key_span(&all)) && it.key.n > all.n && it.key.n <= sizeof k.b && memcmp(it.key.p, all.b, all.n) == 0;
        if (more) memcpy(k.b, it.key.p, k.n = it.key.n);
        db_iter_end(&it);
        if (!more) return true;
        db_del(txn, table, sub_key_span(&k));
    }
    return false;
}

static void drop_dead(struct db_txn *txn, int table)
{
    struct db_iter it;
    uint64_t born = 0;
    db_iter_init(&it, txn, table);
    bool more = db_iter_seek(&it, SPAN_LIT("d")) && it.key.n == 9 && it.key.p[0] == 'd';
    if (more) {
        struct cur c;
        cur_init(&c, span_sub(it.key, 1, 8));
        born = cur_u64_be(&c);
    }
    db_iter_end(&it);
    struct sub_key dead = sub_key_born('d', born);
    if (more && drop_links(txn, table, born)) db_del(txn, table, sub_key_span(&dead));
}

int subs_apply(struct db_txn *txn, int table, struct span effects)
{
    struct cur c;
    cur_init(&c, effects);
    while (cur_left(&c) > 0) {
        uint8_t kind = cur_u8(&c);
        struct span key = cur_blob(&c), record = kind == EFFECT_PUT ? cur_blob(&c) : SPAN_NONE;
        if (c.err != 0 || key.n == 0 || key.n > sizeof((struct sub_key *)0)->b) return ERR_CORRUPT;
        if (kind == EFFECT_PUT && is_record(key, record))
            db_put(txn, table, key, record);
        else if (kind == EFFECT_DEL)
            db_del(txn, table, key);
        else
            return ERR_CORRUPT;
    }
    if (cur_end(&c) != 0) return ERR_CORRUPT;
    drop_dead(txn, table);
    return 0;
}
