// A session's messages, as PROTOCOL.md, "Subscriptions", has them: what the feeds emit, packed into pieces of a modest size.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "err.h"
#include "json_write.h"
#include "session_impl.h"

// ---- the line of messages ----

void session_drop_parts(struct session *s)
{
    while (s->parts != NULL) {
        struct part *p = s->parts;
        s->parts = p->next;
        message_unref(p->message);
        free(p);
    }
    s->parts_last = NULL;
}

// A cursor stands for a seq of a journal and for the subscriptions that are live there, in whatever order they came.
static void put_cursor(const struct session *s, uint64_t seq, char text[CURSOR_MAX])
{
    char id[UUID_TEXT];
    uuid_format(app_journal_id(s->app), id);
    snprintf(text, CURSOR_MAX, "1.%.*s.%llu.%016llx", UUID_TEXT, id, (unsigned long long)seq, (unsigned long long)s->live_hash);
}

static struct part *part_new(struct session *s, struct buf *message)
{
    struct part *part = calloc(1, sizeof *part);
    if (part == NULL) return NULL;
    part->message = message_new(buf_take(message));
    if (part->message == NULL) return free(part), NULL;
    s->made += part->message->json->n;
    return part;
}

// Puts a message in line behind what waits; `cursor_seq` is its cursor if it carries one.
static int queue(struct session *s, struct buf *message, const uint64_t *cursor_seq)
{
    struct part *part = part_new(s, message);
    if (part == NULL) return ERR_NOMEM;
    if (cursor_seq != NULL) put_cursor(s, *cursor_seq, part->message->cursor);
    if (s->parts_last != NULL) s->parts_last->next = part;
    else s->parts = part;
    s->parts_last = part;
    return 0;
}

static int queue_first(struct session *s, struct buf *message)
{
    struct part *part = part_new(s, message);
    if (part == NULL) return ERR_NOMEM;
    part->next = s->parts;
    s->parts = part;
    if (s->parts_last == NULL) s->parts_last = part;
    return 0;
}

// Are its rows named by keys? Told with the subscription, and with its snapshot's first piece: of one that joins later there is no welcome.
static bool is_keyed(const struct subscription *sub)
{
    return sub->query != NULL && query_keyed(sub->query);
}

static bool is_scanned(const struct subscription *sub)
{
    return sub->query != NULL && !sub_is_laid(sub) && rows_scanned(app_rows(sub->session->app), sub->query);
}

static void put_follows(struct jw *w, const struct subscription *sub)
{
    jw_key(w, "follow"), jw_object(w);
    for (size_t i = 0; i < sub->follow_count; i++) {
        jw_key_span(w, sub->follows[i].column);
        if (sub->follows[i].start == RESULT_FOLLOW_END) jw_cstr(w, "end");
        else jw_uint(w, sub->follows[i].start);
    }
    jw_end(w);
}

static void put_subscription(struct jw *w, const struct subscription *sub)
{
    char id[UUID_TEXT];
    jw_object(w);
    jw_key(w, "kind"), jw_cstr(w, sub->is_upload ? "upload" : sub->query != NULL ? "query" : "stream");
    if (is_keyed(sub)) jw_key(w, "keyed"), jw_bool(w, true);
    if (is_scanned(sub)) jw_key(w, "scanned"), jw_bool(w, true);
    if (sub->follow_count > 0) put_follows(w, sub);
    if (sub->branch_no != 0) jw_key(w, "branch"), jw_str(w, sub->path);
    if (sub->preview != NULL) jw_key(w, "preview"), jw_bool(w, true);
    if (sub->is_upload) {
        uuid_format(sub->upload, id);
        jw_key(w, "upload"), jw_str(w, SPAN(id, UUID_TEXT));
    } else if (sub->query == NULL) {
        jw_key(w, "stream"), jw_str(w, sub->path);
    }
    jw_end(w);
}

int session_put_welcome(struct session *s)
{
    char id[UUID_TEXT];
    struct buf b;
    struct jw w;
    buf_init(&b, 4 * KIB + SUBSCRIPTIONS_MAX * (NAME_MAX_SUB + 6 * STREAM_PATH_MAX + FOLLOW_COLUMNS_MAX * (6 * NAME_MAX_BYTES + 24) + 128)); // a path or a name may need escapes
    jw_init(&w, &b);
    uuid_format(app_journal_id(s->app), id);
    jw_object(&w);
    jw_key(&w, "type"), jw_cstr(&w, "welcome");
    jw_key(&w, "protocol"), jw_int(&w, 1);
    jw_key(&w, "app"), jw_cstr(&w, app_name(s->app));
    jw_key(&w, "journal"), jw_str(&w, SPAN(id, UUID_TEXT));
    jw_key(&w, "seq"), jw_uint(&w, app_visible(s->app));
    jw_key(&w, "subscriptions"), jw_object(&w);
    for (size_t i = 0; i < s->count; i++) {
        jw_key(&w, s->subs[i]->name);
        put_subscription(&w, s->subs[i]);
    }
    jw_end(&w);
    jw_end(&w);
    int err = b.err != 0 ? b.err : queue_first(s, &b);
    buf_free(&b);
    return err;
}

int session_put_reset(struct session *s, const char *reason)
{
    struct buf b;
    buf_init(&b, 4 * KIB);
    buf_printf(&b, "{\"type\":\"reset\",\"reason\":\"%s\",\"seq\":%llu}", reason, (unsigned long long)app_visible(s->app));
    int err = queue(s, &b, NULL);
    buf_free(&b);
    return err;
}

// ---- snapshots ----

struct snapshot_sink {
    struct feed_sink sink; // first
    struct buf b;
    bool any;
};

static int collect_text(struct feed_sink *sink, struct span value)
{
    struct snapshot_sink *k = (struct snapshot_sink *)sink;
    if (k->any) buf_put_u8(&k->b, ',');
    buf_put_span(&k->b, value);
    k->any = true;
    return k->b.err;
}

static int collect(struct feed_sink *sink, struct bytes *value)
{
    return collect_text(sink, bytes_span(value));
}

int session_put_snapshot(struct session *s, struct subscription *sub, bool *done)
{
    struct snapshot_sink k = {.sink = {.emit = collect, .emit_text = collect_text}};
    buf_init(&k.b, 8 * BATCH_BYTES_MAX);
    buf_reserve(&k.b, PART_BYTES_MAX + 4 * KIB);
    buf_printf(&k.b, "{\"type\":\"commit\",\"snapshot\":{\"%s\":[", sub->name);
    int err = sub_note(sub, sub->feed->feed->ops->snapshot(sub->feed, app_txn(s->app), sub->at, PART_BYTES_MAX, &k.sink, done));
    buf_printf(&k.b, "]},\"at\":%llu%s%s%s}", (unsigned long long)sub->at, sub->begun || !is_keyed(sub) ? "" : ",\"keyed\":true", sub->begun || !is_scanned(sub) ? "" : ",\"scanned\":true",
               *done ? "" : ",\"more\":true");
    if (err == 0) err = k.b.err;
    sub->begun = true;
    if (err == 0) err = queue(s, &k.b, NULL);
    buf_free(&k.b);
    return err;
}

// ---- changes ----

// A sink that writes messages of about PART_BYTES_MAX, each with its elements under the names of their subscriptions.
struct packer {
    struct feed_sink sink; // first
    struct session *s;
    struct buf b;
    struct subscription *sub;  // whose elements come
    struct subscription *open; // whose array is open in this message
    bool catchup;              // of one subscription, not a range
    bool begun;                // the message has its head
    bool any;                  // elements were packed at all
    uint32_t part;
    uint64_t from, to;
};

// Who joins with this range, and who is gone with it: in its first part.
static void put_members(struct packer *k)
{
    bool first = true;
    for (struct subscription *sub = k->s->touched.first; sub != NULL; sub = sub->next) {
        if (!sub->joining) continue;
        buf_printf(&k->b, "%s\"%s\"", first ? ",\"live\":[" : ",", sub->name);
        first = false;
    }
    if (!first) buf_put_str(&k->b, "]");
    if (k->s->ended.n > 0) {
        buf_put_str(&k->b, ",\"ended\":[");
        buf_put_span(&k->b, buf_span(&k->s->ended));
        buf_put_str(&k->b, "]");
    }
}

static void put_head(struct packer *k)
{
    struct jw w;
    k->begun = true;
    k->open = NULL;
    if (k->catchup) {
        buf_printf(&k->b, "{\"type\":\"commit\",\"from\":%llu,\"at\":%llu,\"catchup\":{", (unsigned long long)k->from, (unsigned long long)k->to);
        return;
    }
    buf_printf(&k->b, "{\"type\":\"commit\",\"from\":%llu,\"to\":%llu,\"time\":", (unsigned long long)k->s->told, (unsigned long long)k->to);
    jw_init(&w, &k->b);
    jw_time_ms(&w, (int64_t)app_visible_ms(k->s->app));
    if (k->part == 0) put_members(k);
    else buf_printf(&k->b, ",\"part\":%u", k->part);
    buf_put_str(&k->b, ",\"changes\":{");
}

static int flush_part(struct packer *k, bool last)
{
    if (!k->begun) put_head(k);
    if (k->open != NULL) buf_put_str(&k->b, "]");
    // All parts but the first are numbered; "more" stands in all but the last.
    buf_put_str(&k->b, last ? "}}" : "},\"more\":true}");
    k->begun = false;
    k->part++;
    if (k->b.err != 0) return k->b.err;
    return queue(k->s, &k->b, last && !k->catchup ? &k->to : NULL);
}

static int pack(struct feed_sink *sink, struct bytes *value)
{
    struct packer *k = (struct packer *)sink;
    int err = 0;
    if (k->begun && k->b.n + value->n > PART_BYTES_MAX) err = flush_part(k, false);
    if (err != 0) return err;
    if (!k->begun) put_head(k);
    if (k->open != k->sub) {
        buf_printf(&k->b, "%s\"%s\":[", k->open == NULL ? "" : "],", k->sub->name);
        k->open = k->sub;
    } else {
        buf_put_str(&k->b, ",");
    }
    buf_put_span(&k->b, bytes_span(value));
    k->any = true;
    return k->b.err;
}

int session_put_catchup(struct session *s, struct subscription *sub, uint64_t to)
{
    struct packer k = {.sink = {.emit = pack}, .s = s, .catchup = true, .sub = sub, .from = sub->at, .to = to};
    assert(to > sub->at);
    buf_init(&k.b, 8 * BATCH_BYTES_MAX);
    int err = sub_note(sub, sub->feed->feed->ops->changes(sub->feed, app_txn(s->app), k.from, to, &k.sink));
    if (err == 0 && k.any) err = flush_part(&k, true);
    buf_free(&k.b);
    return err;
}

static int read_range(struct session *s, struct packer *k)
{
    int err = 0;
    for (k->sub = s->touched.first; k->sub != NULL && err == 0; k->sub = k->sub->next) {
        uint64_t from = k->sub->joining ? k->sub->at : k->from;
        if (k->sub->state != SUB_LIVE || from >= k->to || !sub_touched(s, k->sub)) continue;
        err = sub_note(k->sub, k->sub->feed->feed->ops->changes(k->sub->feed, app_txn(s->app), from, k->to, &k->sink));
    }
    return err;
}

int session_put_range(struct session *s, uint64_t to, bool *told)
{
    struct packer k = {.sink = {.emit = pack}, .s = s, .from = s->sent, .to = to};
    bool members = s->ended.n > 0;
    for (struct subscription *sub = s->touched.first; sub != NULL; sub = sub->next)
        members |= sub->joining;
    buf_init(&k.b, 8 * BATCH_BYTES_MAX);
    int err = read_range(s, &k);
    // A range that changed nothing here need not be told: the next one begins where the last told one ended.
    *told = k.any || members;
    if (err == 0 && *told) err = flush_part(&k, true);
    buf_free(&k.b);
    return err;
}
