// Keys of the one table, by their first byte:
//   'j' id               -> format, state, …: the record
//   'l' path of a stream -> id of the live job that writes it
//   'r' id               -> the request of a live job that is asked again after a restart
//   't'                  -> day since 1970, tokens used on it
//   'x' end (BE), id     -> nothing: the order in which ended jobs have had their time
#include "jobs.h"

#include <assert.h>

#include "cur.h"
#include "db.h"
#include "err.h"
#include "llm_kind.h"

#define JOBS_FORMAT 3
#define DAY_MS 86400000
#define RECORD_MAX (32 * KIB) // names, a sentence, a usage: all of them bounded where they are made

const char *job_state_name(enum job_state state)
{
    static const char *const names[] = {[JOB_QUEUED] = "queued",       [JOB_CONNECTING] = "connecting",   [JOB_STREAMING] = "streaming",
                                        [JOB_DONE] = "done",           [JOB_FAILED] = "failed",           [JOB_CANCELLED] = "cancelled",
                                        [JOB_INTERRUPTED] = "interrupted"};
    assert(state >= JOB_QUEUED && state <= JOB_INTERRUPTED);
    return names[state];
}

void job_path(struct buf *out, const struct job *j)
{
    if (j->path.n > 0)
        buf_put_span(out, j->path);
    else
        rows_stream_path(out, j->table, j->row, j->column);
}

// ---- keys ----

struct key {
    uint8_t b[1 + STREAM_PATH_MAX];
    size_t n;
};

static struct span key_span(const struct key *k)
{
    return SPAN(k->b, k->n);
}

static struct key record_key(struct uuid id)
{
    struct key k = {.b = {'j'}, .n = 1 + sizeof id.b};
    memcpy(k.b + 1, id.b, sizeof id.b);
    return k;
}

static struct key ask_key(struct uuid id)
{
    struct key k = record_key(id);
    k.b[0] = 'r';
    return k;
}

static struct key live_key(const struct job *j)
{
    struct key k = {.b = {'l'}, .n = 1};
    struct buf path = {.p = k.b + 1, .cap = STREAM_PATH_MAX, .max = STREAM_PATH_MAX};
    job_path(&path, j);
    assert(path.err == 0); // names and path were checked
    k.n += path.n;
    return k;
}

static struct key ended_key(uint64_t ended_ms, struct uuid id)
{
    struct key k = {.b = {'x'}, .n = 1};
    for (int shift = 56; shift >= 0; shift -= 8)
        k.b[k.n++] = (uint8_t)(ended_ms >> shift);
    memcpy(k.b + k.n, id.b, sizeof id.b);
    k.n += sizeof id.b;
    return k;
}

// ---- the record ----

void job_encode(struct buf *out, const struct job *j)
{
    buf_put_u8(out, JOBS_FORMAT);
    buf_put_u8(out, (uint8_t)j->state);
    buf_put_u8(out, (uint8_t)j->identity.kind);
    buf_put_u8(out, (uint8_t)((unsigned)j->background | (unsigned)j->fork << 1));
    buf_put_u8(out, j->api);
    buf_put_u8(out, j->form);
    buf_put_varint(out, j->created_ms);
    buf_put_varint(out, j->begun_ms);
    buf_put_varint(out, j->first_ms);
    buf_put_varint(out, j->ended_ms);
    buf_put_blob(out, j->provider);
    buf_put_blob(out, j->path);
    buf_put_blob(out, j->table);
    buf_put(out, j->row.b, sizeof j->row.b);
    buf_put_blob(out, j->column);
    buf_put_blob(out, j->status_column);
    buf_put_blob(out, j->usage_column);
    buf_put(out, j->request.b, SHA256_BYTES);
    buf_put_varint(out, j->start);
    buf_put_blob(out, j->progress);
    buf_put_varint(out, (uint64_t)-j->err);
    buf_put_blob(out, j->text);
    buf_put_blob(out, j->usage);
    buf_put_blob(out, j->finish);
    buf_put_varint(out, j->tokens);
    buf_put_varint(out, j->status);
    buf_put_blob(out, j->successor);
    if (j->successor.n > 0) buf_put(out, j->heir.b, sizeof j->heir.b);
}

static void get_bytes(struct cur *c, void *to, size_t n)
{
    struct span s = cur_span(c, n);
    if (s.n == n) memcpy(to, s.p, n);
}

static void decode_head(struct cur *c, struct job *j)
{
    uint8_t format = cur_u8(c), state = cur_u8(c), kind = cur_u8(c), bits = cur_u8(c);
    if (format != JOBS_FORMAT || state < JOB_QUEUED || state > JOB_INTERRUPTED || kind > IDENTITY_ADMIN || bits > 3) cur_fail(c);
    j->state = (enum job_state)state;
    if (c->err == 0) j->identity = identity_of((enum identity_kind)kind);
    j->background = bits & 1;
    j->fork = bits >> 1;
    j->api = cur_u8(c);
    j->form = cur_u8(c);
    if (j->api < LLM_CHAT || j->api > LLM_MESSAGES || j->form < LLM_FORM_TEXT || j->form > LLM_FORM_UI) cur_fail(c);
}

int job_decode(struct span record, struct uuid id, struct job *out)
{
    struct cur c;
    struct job j = {.id = id};
    cur_init(&c, record);
    decode_head(&c, &j);
    j.created_ms = cur_varint(&c);
    j.begun_ms = cur_varint(&c);
    j.first_ms = cur_varint(&c);
    j.ended_ms = cur_varint(&c);
    j.provider = cur_blob(&c);
    j.path = cur_blob(&c);
    j.table = cur_blob(&c);
    get_bytes(&c, j.row.b, sizeof j.row.b);
    j.column = cur_blob(&c);
    j.status_column = cur_blob(&c);
    j.usage_column = cur_blob(&c);
    get_bytes(&c, j.request.b, SHA256_BYTES);
    j.start = cur_varint(&c);
    j.progress = cur_blob(&c);
    uint64_t err = cur_varint(&c);
    j.err = err > 1000 ? 0 : -(int)err;
    j.text = cur_blob(&c);
    j.usage = cur_blob(&c);
    j.finish = cur_blob(&c);
    j.tokens = cur_varint(&c);
    uint64_t status = cur_varint(&c);
    j.status = (uint32_t)status;
    j.successor = cur_blob(&c);
    if (j.successor.n > 0) get_bytes(&c, j.heir.b, sizeof j.heir.b);
    // Names that are too long would make keys that are.
    if (err > 1000 || status > 999 || j.table.n > NAME_MAX_BYTES || j.column.n > NAME_MAX_BYTES || j.path.n > STREAM_PATH_MAX) cur_fail(&c);
    if (cur_end(&c) != 0) return ERR_CORRUPT;
    *out = j;
    return 0;
}

// ---- looking ----

int jobs_find(struct db_txn *txn, int table, struct uuid id, struct job *out)
{
    struct key k = record_key(id);
    struct span record;
    if (!db_get(txn, table, key_span(&k), &record)) return db_txn_err(txn);
    int err = job_decode(record, id, out);
    return err == 0 ? 1 : err;
}

bool jobs_writing(struct db_txn *txn, int table, struct span path, struct uuid *out)
{
    struct span id;
    const struct job target = {.path = path};
    assert(path.n > 0 && path.n <= STREAM_PATH_MAX);
    struct key k = live_key(&target);
    if (!db_get(txn, table, key_span(&k), &id) || id.n != sizeof out->b) return false;
    memcpy(out->b, id.p, id.n);
    return true;
}

size_t jobs_live(struct db_txn *txn, int table, struct uuid *out, size_t max)
{
    struct db_iter it;
    size_t n = 0;
    db_iter_init(&it, txn, table);
    for (bool more = db_iter_seek(&it, SPAN_LIT("l")); more && n < max && it.key.p[0] == 'l'; more = db_iter_next(&it)) {
        if (it.value.n == sizeof out->b) memcpy(out[n++].b, it.value.p, it.value.n);
    }
    db_iter_end(&it);
    return n;
}

static uint64_t get_tokens(struct db_txn *txn, int table, uint64_t *day)
{
    struct span value;
    struct cur c;
    *day = 0;
    if (!db_get(txn, table, SPAN_LIT("t"), &value)) return 0;
    cur_init(&c, value);
    *day = cur_varint(&c);
    uint64_t tokens = cur_varint(&c);
    return cur_end(&c) == 0 ? tokens : 0;
}

uint64_t jobs_tokens(struct db_txn *txn, int table, uint64_t now_ms)
{
    uint64_t day, tokens = get_tokens(txn, table, &day);
    return day == now_ms / DAY_MS ? tokens : 0;
}

bool jobs_ask(struct db_txn *txn, int table, struct uuid id, struct buf *out)
{
    struct key k = ask_key(id);
    struct span ask;
    if (!db_get(txn, table, key_span(&k), &ask)) return false;
    buf_put_span(out, ask);
    return true;
}

// ---- deciding ----

static int decide_new(struct db_txn *txn, int table, const struct batch_job *op, const struct identity *who, const struct commit *c,
                      struct job *out, struct problem *p)
{
    struct span value;
    struct key k = record_key(op->id);
    if (db_get(txn, table, key_span(&k), &value)) return problem_set(p, ERR_JOB_EXISTS, -1, "a job with this id exists");
    *out = (struct job){.id = op->id,
                        .state = op->state,
                        .identity = *who,
                        .created_ms = c->arrival_ms,
                        .begun_ms = op->state == JOB_CONNECTING ? c->arrival_ms : 0,
                        .api = op->api,
                        .form = op->form,
                        .background = op->background,
                        .fork = op->fork,
                        .provider = op->provider,
                        .path = op->path,
                        .table = op->table,
                        .row = op->row,
                        .column = op->column,
                        .status_column = op->status_column,
                        .usage_column = op->usage_column,
                        .request = op->request,
                        .start = op->start};
    k = live_key(out);
    if (db_get(txn, table, key_span(&k), &value)) return problem_set(p, ERR_JOB_EXISTS, -1, "another job writes to this stream");
    return 0;
}

static int decide_step(struct db_txn *txn, int table, const struct batch_job *op, const struct commit *c, struct job *out,
                       struct problem *p)
{
    int found = jobs_find(txn, table, op->id, out);
    if (found == 0) return problem_set(p, ERR_NO_SUCH_JOB, -1, "no job has this id");
    if (found < 0) return found;
    if (!job_is_live(out->state) || op->state < out->state || (op->state == out->state && op->progress.n == 0))
        return problem_set(p, ERR_JOB_ENDED, -1, "the job is %s", job_state_name(out->state));
    if (op->state >= JOB_CONNECTING && out->begun_ms == 0 && job_is_live(op->state)) out->begun_ms = c->arrival_ms;
    if (op->state == JOB_STREAMING && out->first_ms == 0) out->first_ms = c->arrival_ms;
    out->state = op->state;
    if (op->progress.n > 0) out->progress = op->progress;
    if (job_is_live(op->state)) return 0;
    if (op->state == JOB_DONE && out->first_ms == 0) out->first_ms = c->arrival_ms; // all of it came at once
    out->ended_ms = c->arrival_ms;
    out->progress = SPAN_NONE; // it has had its use
    out->err = op->err;
    out->text = op->text;
    out->usage = op->usage;
    out->finish = op->finish;
    out->tokens = op->tokens;
    out->status = op->status;
    out->successor = op->successor;
    out->heir = op->heir;
    return 0;
}

int jobs_decide(struct db_txn *txn, int table, const struct batch_job *op, const struct identity *who, const struct commit *c,
                struct buf *effects, struct problem *p)
{
    struct job j;
    struct buf record;
    if (op->table.n > NAME_MAX_BYTES || op->column.n > NAME_MAX_BYTES || op->path.n > STREAM_PATH_MAX) return problem_set(p, ERR_BAD_BATCH, -1, "a name is too long");
    int err = op->make ? decide_new(txn, table, op, who, c, &j, p) : decide_step(txn, table, op, c, &j, p);
    if (err != 0) return err;
    buf_init(&record, RECORD_MAX);
    job_encode(&record, &j);
    err = record.err;
    buf_put(effects, j.id.b, sizeof j.id.b);
    buf_put_blob(effects, buf_span(&record));
    buf_put_blob(effects, op->make ? op->ask : SPAN_NONE);
    buf_free(&record);
    return err != 0 ? err : effects->err;
}

// ---- applying ----

// Two for each one that comes: the number shrinks back after a burst, and no step is long.
static void drop_old(struct db_txn *txn, int table, uint64_t arrival_ms)
{
    for (int i = 0; i < 2; i++) {
        struct db_iter it;
        struct uuid id = {{0}};
        struct key old = {.n = 0};
        db_iter_init(&it, txn, table);
        if (db_iter_seek(&it, SPAN_LIT("x")) && it.key.n == 1 + 8 + sizeof id.b && it.key.p[0] == 'x') {
            struct cur c;
            cur_init(&c, span_sub(it.key, 1, 8));
            if (cur_u64_be(&c) + LLM_JOB_KEPT_MS < arrival_ms) {
                memcpy(old.b, it.key.p, it.key.n);
                old.n = it.key.n;
                memcpy(id.b, it.key.p + 9, sizeof id.b);
            }
        }
        db_iter_end(&it);
        if (old.n == 0) return;
        struct key record = record_key(id);
        db_del(txn, table, key_span(&record));
        db_del(txn, table, key_span(&old));
    }
}

static void add_tokens(struct db_txn *txn, int table, uint64_t arrival_ms, uint64_t n)
{
    uint8_t room[20];
    struct buf value = {.p = room, .cap = sizeof room, .max = sizeof room};
    uint64_t day, sum = get_tokens(txn, table, &day);
    if (day != arrival_ms / DAY_MS) sum = 0;
    buf_put_varint(&value, arrival_ms / DAY_MS);
    buf_put_varint(&value, n <= UINT64_MAX - sum ? sum + n : UINT64_MAX);
    db_put(txn, table, SPAN_LIT("t"), buf_span(&value));
}

static int apply_one(struct db_txn *txn, int table, const struct commit *c, struct cur *cur)
{
    struct uuid id = {{0}};
    struct job j;
    get_bytes(cur, id.b, sizeof id.b);
    struct span record = cur_blob(cur), ask = cur_blob(cur);
    if (cur->err != 0 || job_decode(record, id, &j) != 0) return ERR_CORRUPT;
    struct key k = record_key(id), live = live_key(&j), asked = ask_key(id);
    db_put(txn, table, key_span(&k), record);
    if (ask.n > 0) db_put(txn, table, key_span(&asked), ask);
    if (job_is_live(j.state)) {
        db_put(txn, table, key_span(&live), SPAN(id.b, sizeof id.b));
        return 0;
    }
    struct key ended = ended_key(j.ended_ms, id);
    db_del(txn, table, key_span(&live));
    if (j.fork) db_del(txn, table, key_span(&asked));
    db_put(txn, table, key_span(&ended), SPAN_LIT(""));
    if (j.tokens > 0) add_tokens(txn, table, c->arrival_ms, j.tokens);
    drop_old(txn, table, c->arrival_ms);
    return 0;
}

int jobs_apply(struct db_txn *txn, int table, const struct commit *c, struct span effects)
{
    struct cur cur;
    int err = 0;
    cur_init(&cur, effects);
    while (err == 0 && cur_left(&cur) > 0)
        err = apply_one(txn, table, c, &cur);
    return err;
}
