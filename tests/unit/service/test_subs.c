// Subscriptions as they are decided and applied: over streams made up here, with a clock of our own.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka.h needs the four above.
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "cur.h"
#include "db.h"
#include "err.h"
#include "subs.h"
#include "tmp.h"

#define STREAMS 8

// ---- a store, its streams, its time ----

static const char *const tables[] = {SUBS_TABLES};

struct fake_stream {
    char path[64];
    struct stream_info info;
    uint64_t seqs[16], offsets[16]; // its history
    size_t steps;
};

struct rig {
    char *folder;
    struct db *db;
    struct db_txn *txn;
    uint64_t seq, now_ms;
    struct fake_stream streams[STREAMS];
    uint64_t numbers;
    int append_err;
    char appended[512]; // the last message
    struct subs_host host;
    struct buf encoded, paths, acks;
};

static struct fake_stream *fake(struct rig *r, struct span path)
{
    for (size_t i = 0; i < STREAMS; i++)
        if (r->streams[i].path[0] != '\0' && span_is(path, r->streams[i].path)) return &r->streams[i];
    return NULL;
}

static bool host_find(void *ctx, struct span path, struct stream_info *out)
{
    struct fake_stream *s = fake(ctx, path);
    if (s != NULL) *out = s->info;
    return s != NULL;
}

static bool host_find_at(void *ctx, struct span path, uint64_t seq, struct stream_info *out)
{
    struct fake_stream *s = fake(ctx, path);
    if (s == NULL || s->info.created_seq > seq) return false;
    *out = s->info;
    out->offset = 0;
    for (size_t i = 0; i < s->steps && s->seqs[i] <= seq; i++)
        out->offset = s->offsets[i];
    return true;
}

static int host_append(void *ctx, struct span path, struct span message, struct problem *p)
{
    struct rig *r = ctx;
    (void)p;
    if (r->append_err != 0) return r->append_err;
    snprintf(r->appended, sizeof r->appended, "%.*s %.*s", SPAN_FMT(path), SPAN_FMT(message));
    return 0;
}

static int rig_setup(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    r->folder = tmp_make();
    r->now_ms = 1790000000000;
    assert_int_equal(db_open(&r->db, &(struct db_options){.path = r->folder, .map_bytes = 64 * MIB, .tables = tables, .table_count = SUBS_TABLE_COUNT}), 0);
    r->txn = db_begin_write(r->db);
    r->host = (struct subs_host){.ctx = r, .find = host_find, .find_at = host_find_at, .append = host_append};
    buf_init(&r->encoded, MIB);
    buf_init(&r->paths, MIB);
    buf_init(&r->acks, MIB);
    *state = r;
    return 0;
}

static int rig_teardown(void **state)
{
    struct rig *r = *state;
    db_abort(r->txn);
    db_close(r->db);
    tmp_remove(r->folder);
    buf_free(&r->encoded);
    buf_free(&r->paths);
    buf_free(&r->acks);
    free(r);
    return 0;
}

// A stream grows to this offset; it comes into being when it is not there.
static void grow(struct rig *r, const char *path, uint64_t offset)
{
    struct fake_stream *s = fake(r, SPAN_STR(path));
    r->seq++;
    for (size_t i = 0; s == NULL && i < STREAMS; i++) {
        if (r->streams[i].path[0] != '\0') continue;
        s = &r->streams[i];
        *s = (struct fake_stream){.info = {.number = ++r->numbers, .created_seq = r->seq}};
        strcpy(s->path, path);
    }
    s->info.offset = s->offsets[s->steps] = offset;
    s->info.changed_seq = s->seqs[s->steps++] = r->seq;
}

static void drop(struct rig *r, const char *path)
{
    r->seq++;
    fake(r, SPAN_STR(path))->path[0] = '\0';
}

static int run(struct rig *r, struct sub_op op)
{
    struct commit c = {.seq = r->seq + 1, .arrival_ms = r->now_ms};
    struct problem p = PROBLEM_NONE;
    struct buf effects;
    buf_init(&effects, MIB);
    buf_clear(&r->encoded);
    if (op.id.n == 0) op.id = SPAN_LIT("s");
    sub_op_put(&r->encoded, &op);
    int err = subs_decide(r->txn, 0, &r->host, buf_span(&r->encoded), &c, &effects, &p);
    if (err == 0) {
        assert_int_equal(subs_apply(r->txn, 0, buf_span(&effects)), 0);
        assert_int_equal(db_txn_err(r->txn), 0);
        r->seq++;
    } else {
        assert_true(p.err == err || p.err == 0); // a fault has no sentence
    }
    buf_free(&effects);
    return err;
}

static struct span paths(struct rig *r, const char *a, const char *b)
{
    buf_clear(&r->paths);
    if (a != NULL) buf_put_blob(&r->paths, SPAN_STR(a));
    if (b != NULL) buf_put_blob(&r->paths, SPAN_STR(b));
    return buf_span(&r->paths);
}

static struct sub_op webhook(const char *pattern)
{
    return (struct sub_op){.step = SUB_CREATE, .type = SUB_WEBHOOK, .pattern = SPAN_STR(pattern), .url = SPAN_LIT("https://w.example/"), .base = SPAN_LIT("http://here"), .lease_ttl_ms = 5000};
}

static struct sub_op pull(const char *pattern)
{
    return (struct sub_op){.step = SUB_CREATE, .type = SUB_PULL, .pattern = SPAN_STR(pattern), .wake_stream = SPAN_LIT("wake/pool"), .lease_ttl_ms = 5000};
}

static struct sub sub(struct rig *r)
{
    struct sub s;
    assert_int_equal(subs_find(r->txn, 0, SPAN_LIT("s"), &s), 1);
    return s;
}

static struct sub_cursor cursor(struct rig *r, const char *path)
{
    struct sub s = sub(r);
    struct sub_cursor c;
    assert_int_equal(subs_cursor(r->txn, 0, &r->host, &s, SPAN_STR(path), &c), 0);
    return c;
}

static struct uuid uuid(uint8_t fill)
{
    struct uuid u;
    memset(u.b, fill, sizeof u.b);
    return u;
}

static struct sha256 token(uint8_t fill)
{
    struct sha256 t;
    memset(t.b, fill, sizeof t.b);
    return t;
}

// The next wake, with this id and token.
static int wake(struct rig *r, const char *stream, uint8_t fill)
{
    struct sub s = sub(r);
    return run(r, (struct sub_op){.step = SUB_WAKE, .born = s.born, .generation = s.generation, .wake = uuid(fill), .token = token(fill), .stream = SPAN_STR(stream), .event = SPAN_LIT("{},\n"), .jitter = 1000});
}

static struct sub_op about(struct rig *r, enum sub_step step)
{
    struct sub s = sub(r);
    return (struct sub_op){.step = step, .born = s.born, .generation = s.generation, .wake = s.wake, .token = s.token, .jitter = 1000};
}

static struct sub_op ack(struct rig *r, const char *path, uint64_t offset, bool done)
{
    struct sub_op op = about(r, SUB_ACK);
    buf_clear(&r->acks);
    if (path != NULL) buf_put_blob(&r->acks, SPAN_STR(path)), buf_put_varint(&r->acks, offset);
    op.acks = buf_span(&r->acks);
    op.done = done;
    return op;
}

static struct sub_op claim(const char *holder, const char *stream, uint8_t fill)
{
    return (struct sub_op){.step = SUB_CLAIM, .holder = SPAN_STR(holder), .stream = SPAN_STR(stream), .wake = uuid(fill), .token = token(fill)};
}

// ---- coming and going ----

static void asking_twice_makes_one_and_asking_otherwise_is_refused(void **state)
{
    struct rig *r = *state;
    assert_int_equal(run(r, webhook("events/*")), 0);
    uint64_t born = sub(r).born;
    assert_int_equal(run(r, webhook("events/*")), 0);
    assert_int_equal(sub(r).born, born);
    assert_int_equal(run(r, webhook("other/*")), ERR_SUBSCRIPTION_EXISTS);
    struct sub_op op = webhook("events/*");
    op.lease_ttl_ms++;
    assert_int_equal(run(r, op), ERR_SUBSCRIPTION_EXISTS);
    op = webhook("events/*");
    op.has_description = true;
    assert_int_equal(run(r, op), ERR_SUBSCRIPTION_EXISTS);
    op = webhook("events/*");
    op.paths = paths(r, "a", NULL);
    assert_int_equal(run(r, op), ERR_SUBSCRIPTION_EXISTS);
    op = webhook("events/*");
    op.base = SPAN_LIT("http://elsewhere"); // how the service was called is no configuration
    assert_int_equal(run(r, op), 0);
}

static void existing_streams_begin_at_their_tail_and_later_ones_at_their_start(void **state)
{
    struct rig *r = *state;
    grow(r, "events/old", 10);
    grow(r, "events/busy", 10);
    grow(r, "other/x", 10);
    assert_int_equal(run(r, webhook("events/*")), 0);
    grow(r, "events/busy", 15);
    grow(r, "events/busy", 21);
    grow(r, "events/new", 7);
    struct sub_cursor c = cursor(r, "events/old");
    assert_true(c.linked && !c.by_name && c.acked == 10 && !sub_cursor_pending(&c));
    c = cursor(r, "events/busy");
    assert_true(c.acked == 10 && c.tail == 21 && sub_cursor_pending(&c));
    c = cursor(r, "events/new");
    assert_true(c.acked == 0 && c.tail == 7 && sub_cursor_pending(&c));
    assert_false(cursor(r, "other/x").linked);
    assert_false(cursor(r, "events/none").exists);
}

static void a_stream_that_came_again_is_a_new_one(void **state)
{
    struct rig *r = *state;
    grow(r, "events/a", 10);
    struct sub_op op = webhook("events/*");
    op.paths = paths(r, "named", NULL);
    assert_int_equal(run(r, op), 0);
    grow(r, "events/a", 20);
    assert_int_equal(wake(r, "events/a", 1), 0);
    assert_int_equal(run(r, ack(r, "events/a", 20, true)), 0);
    assert_int_equal(cursor(r, "events/a").acked, 20);
    drop(r, "events/a");
    grow(r, "events/a", 5);
    assert_int_equal(cursor(r, "events/a").acked, 0);
    // One that is linked by name before it is there begins at its start.
    grow(r, "named", 3);
    struct sub_cursor c = cursor(r, "named");
    assert_true(c.by_name && c.acked == 0 && sub_cursor_pending(&c));
}

static bool count_path(void *ctx, struct span path)
{
    strncat(ctx, (const char *)path.p, path.n);
    strcat(ctx, " ");
    return true;
}

static void links_by_name_come_and_go_beside_the_pattern(void **state)
{
    struct rig *r = *state;
    char names[100] = "";
    grow(r, "events/a", 10);
    grow(r, "far/b", 4);
    assert_int_equal(run(r, webhook("events/*")), 0);
    grow(r, "events/a", 12);
    struct sub_op op = {.step = SUB_LINK, .paths = paths(r, "events/a", "far/b")};
    assert_int_equal(run(r, op), 0);
    assert_int_equal(run(r, op), 0); // once more is nothing more
    assert_int_equal(sub(r).links, 2);
    struct sub_cursor c = cursor(r, "events/a");
    assert_true(c.by_name && c.acked == 10); // goes on where the pattern stood
    c = cursor(r, "far/b");
    assert_true(c.by_name && c.acked == 4); // a new one begins at the tail
    struct sub s = sub(r);
    assert_int_equal(subs_links(r->txn, 0, &s, SPAN_NONE, count_path, names), 0);
    assert_string_equal(names, "events/a far/b ");
    names[0] = '\0';
    assert_int_equal(subs_links(r->txn, 0, &s, SPAN_LIT("events/a"), count_path, names), 0);
    assert_string_equal(names, "far/b ");
    op = (struct sub_op){.step = SUB_UNLINK, .paths = paths(r, "events/a", "far/b")};
    assert_int_equal(run(r, op), 0);
    assert_int_equal(run(r, op), 0);
    assert_int_equal(sub(r).links, 0);
    c = cursor(r, "events/a");
    assert_true(c.linked && !c.by_name && c.acked == 10);
    assert_false(cursor(r, "far/b").linked);
    op.paths = paths(r, "b", "a"); // out of order: not ours
    assert_int_equal(run(r, op), ERR_BAD_BATCH);
}

static void links_are_bounded(void **state)
{
    struct rig *r = *state;
    char path[32];
    assert_int_equal(run(r, webhook("x")), 0);
    struct sub_op op = {.step = SUB_LINK};
    buf_clear(&r->paths);
    for (int i = 0; i < SUB_LINKS_MAX; i++) {
        snprintf(path, sizeof path, "p/%05d", i);
        buf_put_blob(&r->paths, SPAN_STR(path));
    }
    op.paths = buf_span(&r->paths);
    assert_int_equal(run(r, op), 0);
    op.paths = paths(r, "q", NULL);
    assert_int_equal(run(r, op), ERR_TOO_MANY);
    assert_int_equal(sub(r).links, SUB_LINKS_MAX);
}

static size_t keys(struct rig *r)
{
    struct db_iter it;
    size_t n = 0;
    db_iter_init(&it, r->txn, 0);
    for (bool more = db_iter_first(&it); more; more = db_iter_next(&it))
        n++;
    db_iter_end(&it);
    return n;
}

static void what_is_deleted_leaves_nothing_behind(void **state)
{
    struct rig *r = *state;
    char path[32];
    assert_int_equal(run(r, webhook("x")), 0);
    buf_clear(&r->paths);
    for (int i = 0; i < 200; i++) {
        snprintf(path, sizeof path, "p/%05d", i);
        buf_put_blob(&r->paths, SPAN_STR(path));
    }
    assert_int_equal(run(r, (struct sub_op){.step = SUB_LINK, .paths = buf_span(&r->paths)}), 0);
    uint64_t born = sub(r).born;
    assert_int_equal(run(r, (struct sub_op){.step = SUB_DELETE}), 0);
    struct sub s;
    assert_int_equal(subs_find(r->txn, 0, SPAN_LIT("s"), &s), 0);
    assert_int_equal(run(r, (struct sub_op){.step = SUB_DELETE}), ERR_NO_SUCH_SUBSCRIPTION);
    // Another of this name knows nothing of it.
    assert_int_equal(run(r, webhook("x")), 0);
    assert_true(sub(r).born > born);
    assert_false(cursor(r, "p/00001").linked);
    for (int i = 0; i < 4; i++)
        assert_int_equal(run(r, (struct sub_op){.step = SUB_LINK, .paths = paths(r, "one", NULL)}), 0);
    assert_int_equal(keys(r), 3); // the subscription, its link, the number of them
}

static void subscriptions_are_bounded(void **state)
{
    struct rig *r = *state;
    char id[16];
    for (int i = 0; i <= SUBS_MAX; i++) {
        snprintf(id, sizeof id, "s%d", i);
        struct sub_op op = webhook("x");
        op.id = SPAN_STR(id);
        assert_int_equal(run(r, op), i < SUBS_MAX ? 0 : ERR_TOO_MANY);
    }
    assert_int_equal(run(r, (struct sub_op){.step = SUB_DELETE, .id = SPAN_LIT("s5")}), 0);
    assert_int_equal(run(r, webhook("x")), 0);
}

// ---- wakes of webhooks ----

static void a_wake_needs_something_new_and_nobody_at_work(void **state)
{
    struct rig *r = *state;
    grow(r, "events/a", 10);
    assert_int_equal(run(r, webhook("events/*")), 0);
    assert_int_equal(wake(r, "events/a", 1), ERR_NOTHING_PENDING);
    assert_int_equal(wake(r, "events/none", 1), ERR_NOTHING_PENDING);
    grow(r, "events/a", 11);
    assert_int_equal(wake(r, "events/a", 1), 0);
    struct sub s = sub(r);
    assert_true(s.state == SUB_WAKING && s.generation == 1 && uuid_equal(s.wake, uuid(1)) && s.lease_ms == r->now_ms + 5000);
    assert_int_equal(wake(r, "events/a", 2), ERR_FENCED);
    assert_int_equal(sub(r).generation, 1);
}

static void an_answer_moves_cursors_forward_only(void **state)
{
    struct rig *r = *state;
    assert_int_equal(run(r, webhook("events/*")), 0);
    grow(r, "events/a", 10);
    grow(r, "events/b", 10);
    assert_int_equal(wake(r, "events/a", 1), 0);
    assert_int_equal(run(r, ack(r, "events/a", 11, false)), ERR_BAD_OFFSET);
    assert_int_equal(run(r, ack(r, "events/a", 6, false)), 0);
    assert_int_equal(run(r, ack(r, "events/a", 4, false)), 0);
    assert_int_equal(cursor(r, "events/a").acked, 6);
    assert_int_equal(run(r, ack(r, "elsewhere", 4, false)), 0); // not linked: nothing to move
    assert_int_equal(run(r, ack(r, "events/a", 10, true)), 0);
    assert_int_equal(sub(r).state, SUB_IDLE);
    struct sub_cursor a = cursor(r, "events/a"), b = cursor(r, "events/b");
    assert_false(sub_cursor_pending(&a));
    assert_true(sub_cursor_pending(&b));
    assert_int_equal(wake(r, "events/b", 2), 0);
    assert_int_equal(sub(r).generation, 2);
}

static void whoever_names_another_wake_is_fenced(void **state)
{
    struct rig *r = *state;
    assert_int_equal(run(r, webhook("events/*")), 0);
    grow(r, "events/a", 10);
    assert_int_equal(wake(r, "events/a", 1), 0);
    struct sub_op op = ack(r, "events/a", 10, true);
    op.generation++;
    assert_int_equal(run(r, op), ERR_FENCED);
    op = ack(r, "events/a", 10, true);
    op.wake = uuid(9);
    assert_int_equal(run(r, op), ERR_FENCED);
    op = ack(r, "events/a", 10, true);
    op.token = token(9);
    assert_int_equal(run(r, op), ERR_UNAUTHENTICATED);
    assert_int_equal(cursor(r, "events/a").acked, 0);
    op = ack(r, "events/a", 10, true);
    assert_int_equal(run(r, op), 0);
    assert_int_equal(run(r, op), ERR_FENCED); // once
    for (int step = SUB_ATTEMPT; step <= SUB_EXPIRE; step++) {
        op.step = (enum sub_step)step;
        op.jitter = 1000;
        assert_int_equal(run(r, op), ERR_FENCED);
    }
    // The zero token of one that is idle opens nothing.
    op = about(r, SUB_ACK);
    assert_int_equal(run(r, op), ERR_FENCED);
}

static void a_deleted_one_takes_no_answer(void **state)
{
    struct rig *r = *state;
    assert_int_equal(run(r, webhook("events/*")), 0);
    grow(r, "events/a", 10);
    assert_int_equal(wake(r, "events/a", 1), 0);
    struct sub_op op = ack(r, "events/a", 10, true), retry = about(r, SUB_RETRY);
    assert_int_equal(run(r, (struct sub_op){.step = SUB_DELETE}), 0);
    assert_int_equal(run(r, op), ERR_NO_SUCH_SUBSCRIPTION);
    assert_int_equal(run(r, webhook("events/*")), 0);
    assert_int_equal(run(r, op), ERR_FENCED);
    assert_int_equal(run(r, retry), ERR_FENCED);
}

static void deliveries_are_tried_again_ever_later(void **state)
{
    struct rig *r = *state;
    static const uint64_t pauses[] = {1000, 2000, 4000, 8000, 16000, 32000, 54000, 54000};
    assert_int_equal(run(r, webhook("events/*")), 0);
    grow(r, "events/a", 10);
    assert_int_equal(wake(r, "events/a", 1), 0);
    for (size_t i = 0; i < sizeof pauses / sizeof *pauses; i++) {
        assert_int_equal(run(r, about(r, SUB_RETRY)), 0);
        struct sub s = sub(r);
        assert_int_equal(s.state, SUB_RETRYING);
        assert_int_equal(s.next_attempt_ms, r->now_ms + pauses[i]);
        assert_int_equal(s.lease_ms, 0);
        assert_int_equal(run(r, about(r, SUB_RETRY)), ERR_FENCED);
        r->now_ms = s.next_attempt_ms;
        assert_int_equal(run(r, about(r, SUB_ATTEMPT)), 0);
        s = sub(r);
        assert_true(s.state == SUB_WAKING && s.generation == 1 && s.lease_ms == r->now_ms + 5000 && s.next_attempt_ms == 0);
    }
    // The spread is a fifth, and never beyond a minute.
    for (uint64_t jitter = 800; jitter <= 1200; jitter += 200) {
        struct sub_op op = about(r, SUB_RETRY);
        op.jitter = jitter;
        assert_int_equal(run(r, op), 0);
        uint64_t pause = sub(r).next_attempt_ms - r->now_ms;
        assert_true(pause >= 48000 && pause <= 60000);
        assert_int_equal(run(r, about(r, SUB_ATTEMPT)), 0);
    }
    // Success forgets the failures.
    assert_int_equal(run(r, ack(r, "events/a", 5, true)), 0);
    assert_int_equal(wake(r, "events/a", 2), 0);
    assert_int_equal(run(r, about(r, SUB_RETRY)), 0);
    assert_int_equal(sub(r).next_attempt_ms, r->now_ms + 1000);
}

static void a_late_worker_may_answer_while_the_next_attempt_waits(void **state)
{
    struct rig *r = *state;
    assert_int_equal(run(r, webhook("events/*")), 0);
    grow(r, "events/a", 10);
    assert_int_equal(wake(r, "events/a", 1), 0);
    assert_int_equal(run(r, about(r, SUB_RETRY)), 0);
    assert_int_equal(run(r, ack(r, "events/a", 3, false)), 0);
    struct sub s = sub(r);
    assert_true(s.state == SUB_WAKING && s.lease_ms == r->now_ms + 5000 && s.next_attempt_ms == 0);
}

static void a_lease_that_is_over_ends_the_wake(void **state)
{
    struct rig *r = *state;
    assert_int_equal(run(r, webhook("events/*")), 0);
    grow(r, "events/a", 10);
    assert_int_equal(wake(r, "events/a", 1), 0);
    assert_int_equal(run(r, about(r, SUB_EXPIRE)), ERR_FENCED); // not yet
    r->now_ms += 4999;
    assert_int_equal(run(r, ack(r, "events/a", 3, false)), 0); // a heartbeat
    r->now_ms += 4999;
    assert_int_equal(run(r, about(r, SUB_EXPIRE)), ERR_FENCED);
    r->now_ms += 1;
    assert_int_equal(run(r, ack(r, "events/a", 10, true)), ERR_FENCED); // too late, though nobody has ended it yet
    assert_int_equal(run(r, about(r, SUB_EXPIRE)), 0);
    struct sub s = sub(r);
    struct sha256 none = {{0}};
    assert_true(s.state == SUB_IDLE && s.lease_ms == 0 && sha256_equal(&s.token, &none));
    assert_int_equal(wake(r, "events/a", 2), 0);
    assert_int_equal(sub(r).generation, 2);
}

// ---- wakes by stream ----

static void a_wake_by_stream_is_one_commit_with_its_message(void **state)
{
    struct rig *r = *state;
    assert_int_equal(run(r, pull("events/*")), 0);
    grow(r, "events/a", 10);
    assert_int_equal(wake(r, "events/a", 1), 0);
    assert_string_equal(r->appended, "wake/pool {},\n");
    struct sub s = sub(r);
    assert_true(s.state == SUB_WAKING && s.lease_ms == 0);
}

static void a_wake_without_a_wake_stream_waits(void **state)
{
    struct rig *r = *state;
    assert_int_equal(run(r, pull("events/*")), 0);
    grow(r, "events/a", 10);
    r->append_err = ERR_STREAM_NOT_FOUND;
    assert_int_equal(wake(r, "events/a", 1), 0);
    struct sub s = sub(r);
    assert_true(s.state == SUB_IDLE && s.generation == 0 && s.next_attempt_ms == r->now_ms + 1000);
    assert_int_equal(wake(r, "events/a", 1), 0);
    assert_int_equal(sub(r).next_attempt_ms, r->now_ms + 2000);
    r->append_err = ERR_NOMEM; // a fault is nobody's fate
    assert_int_equal(wake(r, "events/a", 1), ERR_NOMEM);
    r->append_err = 0;
    assert_int_equal(wake(r, "events/a", 1), 0);
    assert_true(sub(r).state == SUB_WAKING && sub(r).next_attempt_ms == 0);
}

static void its_own_wakes_wake_nobody(void **state)
{
    struct rig *r = *state;
    assert_int_equal(run(r, pull("**")), 0);
    grow(r, "wake/pool", 10);
    assert_false(cursor(r, "wake/pool").linked);
    assert_true(cursor(r, "wake/other").linked);
}

static void one_worker_at_a_time(void **state)
{
    struct rig *r = *state;
    grow(r, "events/a", 10);
    assert_int_equal(run(r, pull("events/*")), 0);
    assert_int_equal(run(r, claim("w1", "events/a", 7)), ERR_NOTHING_PENDING);
    grow(r, "events/a", 20);
    assert_int_equal(wake(r, "events/a", 1), 0);
    assert_int_equal(run(r, claim("w1", "events/a", 7)), 0);
    struct sub s = sub(r);
    assert_true(s.state == SUB_HELD && s.generation == 1 && uuid_equal(s.wake, uuid(1)) && span_is(s.holder, "w1"));
    assert_int_equal(run(r, claim("w2", "events/a", 8)), ERR_ALREADY_CLAIMED);
    r->now_ms += 4000;
    assert_int_equal(run(r, ack(r, "events/a", 15, false)), 0);
    r->now_ms += 4000;
    assert_int_equal(run(r, claim("w2", "events/a", 8)), ERR_ALREADY_CLAIMED);
    struct sub_op late = ack(r, "events/a", 20, true);
    r->now_ms += 1000; // the lease is over: the next one may have it at once, in a generation of its own
    assert_int_equal(run(r, claim("w2", "events/a", 8)), 0);
    s = sub(r);
    assert_true(s.generation == 2 && uuid_equal(s.wake, uuid(8)) && span_is(s.holder, "w2"));
    assert_int_equal(run(r, late), ERR_FENCED);
    assert_int_equal(cursor(r, "events/a").acked, 15);
    assert_int_equal(run(r, about(r, SUB_RELEASE)), 0);
    s = sub(r);
    assert_true(s.state == SUB_IDLE && s.holder.n == 0);
    assert_int_equal(run(r, about(r, SUB_RELEASE)), ERR_FENCED);
    // A claim need not wait for the wake that is about to come.
    assert_int_equal(run(r, claim("w3", "events/a", 9)), 0);
    assert_int_equal(sub(r).generation, 3);
}

static void each_kind_has_its_own_answers(void **state)
{
    struct rig *r = *state;
    assert_int_equal(run(r, webhook("events/*")), 0);
    grow(r, "events/a", 10);
    assert_int_equal(run(r, claim("w1", "events/a", 7)), ERR_BAD_REQUEST);
    assert_int_equal(wake(r, "events/a", 1), 0);
    assert_int_equal(run(r, about(r, SUB_RELEASE)), ERR_BAD_REQUEST);
}

static void the_cursor_of_a_stream_that_is_gone_is_forgotten(void **state)
{
    struct rig *r = *state;
    assert_int_equal(run(r, webhook("events/*")), 0);
    grow(r, "events/a", 10);
    assert_int_equal(wake(r, "events/a", 1), 0);
    assert_int_equal(run(r, ack(r, "events/a", 10, true)), 0);
    size_t before = keys(r);
    struct sub_op op = {.step = SUB_FORGET, .paths = paths(r, "events/a", NULL)};
    assert_int_equal(run(r, op), 0);
    assert_int_equal(keys(r), before); // it lives
    drop(r, "events/a");
    assert_int_equal(run(r, op), 0);
    assert_int_equal(keys(r), before - 1);
}

// ---- damage ----

static void damaged_operations_and_effects_are_found(void **state)
{
    struct rig *r = *state;
    struct sub_op op = webhook("events/*"), out;
    struct commit c = {.seq = 1, .arrival_ms = r->now_ms};
    struct buf effects;
    op.id = SPAN_LIT("s");
    buf_init(&effects, MIB);
    sub_op_put(&r->encoded, &op);
    for (size_t n = 0; n < r->encoded.n; n++)
        assert_int_equal(sub_op_read(SPAN(r->encoded.p, n), &out), ERR_CORRUPT);
    assert_int_equal(sub_op_read(buf_span(&r->encoded), &out), 0);
    assert_int_equal(subs_decide(r->txn, 0, &r->host, SPAN_LIT("\x63"), &c, &effects, NULL), ERR_BAD_BATCH);
    assert_int_equal(subs_decide(r->txn, 0, &r->host, buf_span(&r->encoded), &c, &effects, NULL), 0);
    for (size_t n = 1; n < effects.n; n++) {
        struct span cut = SPAN(effects.p, n);
        int err = subs_apply(r->txn, 0, cut);
        assert_true(err == ERR_CORRUPT || err == 0); // a whole record before the cut is one
    }
    assert_int_equal(subs_apply(r->txn, 0, SPAN_LIT("\x01\x01q\x01x")), ERR_CORRUPT);
    assert_int_equal(subs_apply(r->txn, 0, SPAN_LIT("\x07\x01s")), ERR_CORRUPT);
    buf_free(&effects);
}

#define T(test) cmocka_unit_test_setup_teardown(test, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(asking_twice_makes_one_and_asking_otherwise_is_refused),
        T(existing_streams_begin_at_their_tail_and_later_ones_at_their_start),
        T(a_stream_that_came_again_is_a_new_one),
        T(links_by_name_come_and_go_beside_the_pattern),
        T(links_are_bounded),
        T(what_is_deleted_leaves_nothing_behind),
        T(subscriptions_are_bounded),
        T(a_wake_needs_something_new_and_nobody_at_work),
        T(an_answer_moves_cursors_forward_only),
        T(whoever_names_another_wake_is_fenced),
        T(a_deleted_one_takes_no_answer),
        T(deliveries_are_tried_again_ever_later),
        T(a_late_worker_may_answer_while_the_next_attempt_waits),
        T(a_lease_that_is_over_ends_the_wake),
        T(a_wake_by_stream_is_one_commit_with_its_message),
        T(a_wake_without_a_wake_stream_waits),
        T(its_own_wakes_wake_nobody),
        T(one_worker_at_a_time),
        T(each_kind_has_its_own_answers),
        T(the_cursor_of_a_stream_that_is_gone_is_forgotten),
        T(damaged_operations_and_effects_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
