// The outbox: what is put into it, and what is taken out.
#include <stdio.h>
#include <stdlib.h>

#include "err.h"
#include "file.h"
#include "json_read.h"
#include "limits.h"
#include "outbox_impl.h"
#include "state.h"

#define NAME_ROOM 512 // bytes of a message around a batch's members: its name, base and stamp

int outbox_fail(struct segue_outbox *o, int err)
{
    return client_fail(o->client, SEGUE_REFUSED, err, "the outbox: %s", err_text(err));
}

// ---- opening ---------------------------------------------------------------------------------------------------

static int default_path(struct segue *s, char path[STATE_PATH_MAX])
{
    int err = state_path(s, "outboxes", SPAN_NONE, path);
    return err == 0 ? SEGUE_OK : client_fail(s, SEGUE_USAGE, err, "there is no place for an outbox: neither XDG_STATE_HOME nor HOME leads to one");
}

int segue_outbox_open(struct segue *s, const struct segue_outbox_options *options, struct segue_outbox **out)
{
    char path[STATE_PATH_MAX];
    static const struct segue_outbox_options none;
    const struct segue_outbox_options *given = options != NULL ? options : &none;
    client_begin(s);
    int result = given->path == NULL ? default_path(s, path) : SEGUE_OK;
    if (result != SEGUE_OK) return result;
    struct segue_outbox *o = calloc(1, sizeof *o);
    if (o == NULL) return client_fail(s, SEGUE_REFUSED, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    o->client = s;
    o->bounds.batches_max = given->batches_max != 0 ? given->batches_max : OUTBOX_BATCHES_MAX;
    o->bounds.bytes_max = given->bytes_max != 0 ? given->bytes_max : OUTBOX_BYTES_MAX;
    struct buf *const rooms[] = {&o->room, &o->tag, &o->text, &o->code, &o->detail};
    for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++)
        buf_init(rooms[i], 2 * BATCH_BYTES_MAX);
    int err = outbox_store_open(&o->store, given->path != NULL ? given->path : path);
    if (err == 0) {
        *out = o;
        return SEGUE_OK;
    }
    segue_outbox_close(o);
    return client_fail(s, SEGUE_REFUSED, err, "the outbox %s: %s", given->path != NULL ? given->path : path, err_text(err));
}

void segue_outbox_close(struct segue_outbox *o)
{
    if (o == NULL) return;
    outbox_store_close(o->store);
    struct buf *const rooms[] = {&o->room, &o->tag, &o->text, &o->code, &o->detail};
    for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++)
        buf_free(rooms[i]);
    free(o);
}

// ---- putting ---------------------------------------------------------------------------------------------------

static int check_member(void *ctx, struct span key, const struct jr *value)
{
    static const char *const known[] = {"base", "stamp", "mode", "reads", "rows", "branch", "ops"};
    struct segue *s = ctx;
    (void)value;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (span_is(key, known[i])) return 0;
    if (span_is(key, "replica") || span_is(key, "counter") || span_is(key, "key"))
        return client_fail(s, SEGUE_USAGE, ERR_BAD_BATCH, "a batch in an outbox does not name itself");
    return client_fail(s, SEGUE_USAGE, ERR_BAD_BATCH, "a batch has no member \"%.*s\"", SPAN_FMT(span_sub(key, 0, 60)));
}

// What can be told without the service is told at once: later it would be a fate that nobody expects.
static int look_at(struct segue *s, const struct jr *root, struct outbox_item *item)
{
    if (jr_type(root) != JR_OBJECT) return client_fail(s, SEGUE_USAGE, ERR_BAD_BATCH, "a batch is a JSON object");
    int result = jr_each(root, check_member, s);
    if (result != SEGUE_OK) return result;
    bool transaction = span_is(jr_str(jr_get(root, "mode")), "transaction");
    if (jr_type(jr_get(root, "ops")) != JR_ARRAY || (jr_count(jr_get(root, "ops")) == 0 && !transaction))
        return client_fail(s, SEGUE_USAGE, ERR_BAD_BATCH, "\"ops\" is an array of at least one operation");
    if (jr_count(jr_get(root, "ops")) > BATCH_OPS_MAX)
        return client_fail(s, SEGUE_USAGE, ERR_TOO_LARGE, "a batch may have %d operations", BATCH_OPS_MAX);
    item->merges = !transaction && jr_get(root, "branch") == NULL;
    item->says_base = jr_get(root, "base") != NULL;
    item->says_stamp = jr_get(root, "stamp") != NULL;
    return SEGUE_OK;
}

static int read_batch(struct segue *s, struct span json, struct outbox_item *item)
{
    struct jr_tree *tree = NULL;
    struct problem p = PROBLEM_NONE;
    if (json.n > BATCH_BYTES_MAX - NAME_ROOM) return client_fail(s, SEGUE_USAGE, ERR_TOO_LARGE, "a batch in an outbox may have %u bytes", BATCH_BYTES_MAX - NAME_ROOM);
    if (jr_parse(&tree, json, &p) != 0) {
        int result = client_fail(s, SEGUE_USAGE, p.err, "%s", problem_text(&p));
        s->error.position = p.position;
        return result;
    }
    int result = look_at(s, jr_root(tree), item);
    jr_free(tree);
    // The members alone: a message, or a body, is made of them when they are sent.
    const uint8_t *first = memchr(json.p, '{', json.n), *last = memrchr(json.p, '}', json.n);
    if (result == SEGUE_OK) item->text = SPAN(first + 1, (size_t)(last - first) - 1);
    return result;
}

int segue_outbox_put(struct segue_outbox *o, const struct segue_outbox_batch *batch, uint64_t *id)
{
    struct segue *s = o->client;
    struct outbox_item item = {.made_ms = clock_wall_ms(), .tag = batch->tag != NULL ? SPAN_STR(batch->tag) : SPAN_NONE};
    client_begin(s);
    if (item.tag.n > OUTBOX_TAG_MAX) return client_fail(s, SEGUE_USAGE, ERR_TOO_LARGE, "a tag has at most %d bytes", OUTBOX_TAG_MAX);
    int result = read_batch(s, SPAN(batch->json, batch->n), &item);
    if (result != SEGUE_OK) return result;
    int err = outbox_store_put(o->store, &item, o->bounds, id);
    if (err != ERR_TOO_MANY) return err == 0 ? SEGUE_OK : outbox_fail(o, err);
    return client_fail(s, SEGUE_REFUSED, err, "the outbox is full: at most %u batches and %llu bytes wait, or have fates that were not seen", o->bounds.batches_max,
                       (unsigned long long)o->bounds.bytes_max);
}

int segue_outbox_saw(struct segue_outbox *o, uint64_t seq)
{
    client_begin(o->client);
    int err = outbox_store_know(o->store, 0, seq);
    return err == 0 ? SEGUE_OK : outbox_fail(o, err);
}

// ---- taking out ------------------------------------------------------------------------------------------------

static const char *string(struct buf *b, struct span s)
{
    buf_clear(b);
    buf_put_span(b, s);
    buf_put_u8(b, 0);
    return b->err == 0 ? (const char *)b->p : "";
}

static void show_answer(struct segue_outbox *o, struct segue_outbox_entry *out)
{
    struct jr_tree *tree = NULL;
    if (jr_parse(&tree, SPAN(out->json, out->n), NULL) != 0) return;
    const struct jr *root = jr_root(tree);
    out->seq = (uint64_t)jr_int(jr_get(root, "seq"), 0);
    out->position = jr_int(jr_get(root, "position"), -1);
    if (jr_get(root, "code") != NULL) out->code = string(&o->code, jr_str(jr_get(root, "code")));
    out->detail = string(&o->detail, jr_str(jr_get(root, "detail")));
    jr_free(tree);
}

int outbox_show(struct segue_outbox *o, const struct outbox_item *item, struct segue_outbox_entry *out)
{
    static const enum segue_fate_kind kinds[] = {[OUTBOX_WAITS] = SEGUE_WAITING, [OUTBOX_ACCEPTED] = SEGUE_ACCEPTED, [OUTBOX_REJECTED] = SEGUE_REJECTED,
                                                 [OUTBOX_UNSENDABLE] = SEGUE_UNSENDABLE, [OUTBOX_EXPIRED] = SEGUE_EXPIRED};
    *out = (struct segue_outbox_entry){.id = item->id, .counter = item->counter, .made_ms = item->made_ms, .fate = kinds[item->state], .code = err_wire(0), .detail = "", .position = -1};
    uuid_format(item->replica, o->replica);
    o->replica[UUID_TEXT] = 0;
    out->replica = o->replica;
    out->tag = string(&o->tag, item->tag);
    out->json = string(&o->text, item->text);
    out->n = item->text.n;
    if (item->state != OUTBOX_WAITS) show_answer(o, out);
    return o->tag.err != 0 || o->text.err != 0 || o->code.err != 0 || o->detail.err != 0 ? outbox_fail(o, ERR_NOMEM) : SEGUE_OK;
}

typedef int next_item(struct outbox_store *st, uint64_t after, struct outbox_item *out, struct buf *room);

static int show_next(struct segue_outbox *o, next_item *next, uint64_t after, struct segue_outbox_entry *entry)
{
    struct outbox_item item;
    client_begin(o->client);
    int err = next(o->store, after, &item, &o->room);
    if (err == 0) return outbox_show(o, &item, entry);
    if (err != ERR_NOT_FOUND) return outbox_fail(o, err);
    *entry = (struct segue_outbox_entry){.tag = "", .replica = "", .code = err_wire(0), .detail = "", .json = "", .position = -1};
    return SEGUE_OK;
}

int segue_outbox_fate(struct segue_outbox *o, uint64_t after, struct segue_outbox_entry *entry)
{
    return show_next(o, outbox_store_next_settled, after, entry);
}

int segue_outbox_waiting(struct segue_outbox *o, uint64_t after, struct segue_outbox_entry *entry)
{
    return show_next(o, outbox_store_next_waiting, after, entry);
}

static int end_of(struct segue_outbox *o, int err, uint64_t id, const char *missing)
{
    if (err == 0) return SEGUE_OK;
    if (err == ERR_NOT_FOUND) return client_fail(o->client, SEGUE_USAGE, err, "%s %llu", missing, (unsigned long long)id);
    if (err == ERR_EXISTS) return client_fail(o->client, SEGUE_REFUSED, err, "batch %llu may have been sent", (unsigned long long)id);
    return outbox_fail(o, err);
}

int segue_outbox_seen(struct segue_outbox *o, uint64_t id)
{
    client_begin(o->client);
    return end_of(o, outbox_store_seen(o->store, id), id, "there is no fate of batch");
}

int segue_outbox_drop(struct segue_outbox *o, uint64_t id)
{
    client_begin(o->client);
    return end_of(o, outbox_store_drop(o->store, id), id, "there is no waiting batch");
}

int segue_outbox_adopt(struct segue_outbox *o)
{
    client_begin(o->client);
    int fd = outbox_store_lock_sender(o->store); // what is on its way keeps its name
    if (fd < 0) return client_fail(o->client, SEGUE_REFUSED, ERR_BUSY, "another one sends from this outbox");
    int err = outbox_store_adopt(o->store);
    file_close(fd);
    return err == 0 ? SEGUE_OK : outbox_fail(o, err);
}
