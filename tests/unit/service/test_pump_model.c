// The pump against a model of what a client may rely on: readers who believe nothing (session_peer.h) follow queries, streams and uploads while batches come in
// groups, carriers are full, connections break, subscriptions come and go in mid-flight, the disk fails, the service is killed and restarted, history is given
// up and the journal becomes another one. Every message is checked as it comes, and what was folded is compared with a fresh look as of each range's end.
//
//   SEED=7 build/tests/unit/service/test_pump_model      from another seed
//   RUNS=0 …                                              without end; RUNS=n: so many worlds
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "app_internal.h" // to have groups journaled that nobody hears of
#include "disk.h"
#include "err.h"
#include "log.h"
#include "session_peer.h"

#define PEERS 5
#define STEPS 1500
#define UPLOADS 2
#define UPLOAD_BYTES 30000
#define GROUP_MAX 4
#define SCHEMA \
    "create table notes (title text not null, n bigint, body stream);" \
    "create table marks (note uuid references notes, score bigint);" \
    "create index on notes (n)"

struct world {
    struct app_lab lab;
    struct hub hub;
    struct session_peer peers[PEERS];
    // What may have happened to a reader since it was last at the end: a reset without such a reason is a mistake.
    bool forgotten[PEERS], replaced[PEERS];
    size_t resets[PEERS];
    struct uuid uploads[UPLOADS];
    uint64_t dice;
    unsigned names, batches; // made so far
    size_t all_resets, kills, refused;
};

static uint64_t roll(struct world *w, uint64_t below)
{
    uint64_t *x = &w->dice;
    *x ^= *x << 13, *x ^= *x >> 7, *x ^= *x << 17;
    return (*x >> 11) % below;
}

static void run_hub(struct world *w)
{
    while (w->hub.first != NULL)
        hub_run(&w->hub);
}

// ---- what is subscribed to -----------------------------------------------------------------------------------------

// None shows a stream column: its value is what it was when the row was sent.
static const char *const queries[] = {
    "select title, n from notes",
    "select title, n from notes where n > 9 order by n, title limit 4",
    "select n, title from notes order by n desc",
    "select title from notes where title = 'made' limit 3",
    "select title, n from notes where n = 5 or title = 't7' order by title desc, n",
    "select n from notes where n between 3 and 8",
    "select note, score from marks order by score limit 6",
    "select m.score, t.title from marks m join notes t on t.id = m.note where t.n > 4",
    "select n, count(*) as many from notes group by n order by n",
    "select count(*) as many, sum(n) as total from notes",
    "select distinct title from notes",
};

#define QUERIES (sizeof queries / sizeof *queries)

// One more, of any kind. Which queries can be live is not this test's matter: one that cannot is not asked again in this place.
static void subscribe(struct world *w, struct session_peer *p, bool late)
{
    char name[32], path[64];
    int err = 0;
    if (p->sub_count == PEER_SUBS_MAX) return;
    snprintf(name, sizeof name, "sub%u", w->names++);
    snprintf(path, sizeof path, "s%u", (unsigned)roll(w, 3));
    if (roll(w, 4) == 0) snprintf(path, sizeof path, "rows/notes/01890a5d-ac96-774b-bcce-%012u/body", (unsigned)roll(w, 40));
    uint64_t kind = roll(w, 10);
    struct uuid upload = w->uploads[roll(w, UPLOADS)];
    const char *sql = kind < 6 ? queries[roll(w, QUERIES)] : NULL;
    if (late && kind == 9) err = session_peer_late_upload(p, name, upload);
    else if (late) err = session_peer_late(p, name, sql, path);
    else if (kind == 9) session_peer_upload(p, name, upload);
    else if (sql == NULL) session_peer_stream(p, name, path, roll(w, 2) ? 0 : 3);
    else session_peer_query(p, name, queries[roll(w, 4)]); // these all
    bool known = err == 0 || err == ERR_UNSUPPORTED_SQL || err == ERR_BAD_OFFSET;
    if (!known) fprintf(stderr, "%s: %s\n", sql != NULL ? sql : path, err_wire(err));
    assert_true(known);
    w->refused += err != 0;
}

static void start(struct world *w, size_t i)
{
    struct session_peer *p = &w->peers[i];
    p->room = roll(w, 3) == 0 ? -1 : 1 + (int)roll(w, 4);
    int err = session_peer_start(p, NULL);
    if (err == ERR_BAD_OFFSET) { // where it would begin there is nothing now
        for (size_t k = 0; k < p->sub_count; k++)
            p->subs[k].start = 0;
        err = session_peer_start(p, NULL);
    }
    if (err != 0) fprintf(stderr, "a session did not begin: %s\n", err_wire(err));
    assert_int_equal(err, 0);
    run_hub(w);
}

static void stop_all(struct world *w)
{
    for (size_t i = 0; i < PEERS; i++)
        session_peer_stop(&w->peers[i]);
}

static void start_all(struct world *w)
{
    for (size_t i = 0; i < PEERS; i++)
        start(w, i);
}

// ---- what readers do -----------------------------------------------------------------------------------------------

static void look_at(struct world *w, size_t i)
{
    struct session_peer *p = &w->peers[i];
    size_t resets = p->resets - w->resets[i];
    bool other = strcmp(p->reset, "other_journal") == 0 || strcmp(p->reset, "seq_ahead") == 0;
    if (resets > 0) assert_true(other ? w->replaced[i] : w->forgotten[i] && strcmp(p->reset, "too_old") == 0);
    w->resets[i] = p->resets;
    w->all_resets += resets;
    if (p->ended == ERR_BAD_OFFSET) {
        assert_true(resets > 0 || w->forgotten[i]);
        session_peer_stop(p);
        start(w, i);
        return;
    }
    if (p->ends > 0 || !p->live) return;
    if (p->waiting_parts == 0) session_peer_check(p);
    if (p->to != app_visible(w->lab.app)) return;
    w->forgotten[i] = w->replaced[i] = false;
}

static void leave_one(struct world *w, struct session_peer *p)
{
    size_t k = roll(w, p->sub_count);
    if (!p->subs[k].leaving) session_peer_leave(p, p->subs[k].name);
}

static void reader_acts(struct world *w, size_t i)
{
    struct session_peer *p = &w->peers[i];
    if (p->session == NULL) {
        if (roll(w, 12) == 0) start(w, i);
        return;
    }
    if (p->ends > 0) {
        look_at(w, i);
        return;
    }
    switch (roll(w, 20)) {
    case 0:
        session_peer_stop(p);
        start(w, i);
        break;
    case 1:
    case 2:
    case 3:
    case 4: session_peer_drain(p, 1 + (int)roll(w, 3)); break;
    case 5: session_peer_drain(p, -1); break;
    case 6: subscribe(w, p, true); break;
    case 7:
        if (p->sub_count > 2) leave_one(w, p);
        break;
    case 8: session_peer_stop(p); return; // for a while
    default: return;
    }
    run_hub(w);
    look_at(w, i);
}

static void all_catch_up(struct world *w)
{
    for (size_t i = 0; i < PEERS; i++) {
        struct session_peer *p = &w->peers[i];
        if (p->session == NULL) start(w, i);
        session_peer_drain(p, -1);
        look_at(w, i);
        session_peer_drain(p, -1);
        assert_int_equal(p->ends, 0);
        assert_true((p->live || p->sub_count == 0) && p->waiting_parts == 0);
        for (size_t k = 0; k < p->sub_count; k++)
            assert_true(!p->subs[k].late && !p->subs[k].leaving);
        look_at(w, i);
    }
}

// ---- what writers do -----------------------------------------------------------------------------------------------

static void put_row_op(struct world *w, struct buf *json)
{
    unsigned id = (unsigned)roll(w, 40), n = (unsigned)roll(w, 20);
    switch (roll(w, 6)) {
    case 0: buf_printf(json, "{'op':'insert','table':'notes','values':{'title':'made','n':%u}}", n); break;
    case 1: buf_printf(json, "{'op':'upsert','table':'notes','id':'01890a5d-ac96-774b-bcce-%012u','values':{'title':'t%u','n':%u}}", id, n, n); break;
    case 2: buf_printf(json, "{'op':'update','table':'notes','id':'01890a5d-ac96-774b-bcce-%012u','values':{'n':%u}}", id, n); break;
    case 3: buf_printf(json, "{'op':'delete','table':'notes','id':'01890a5d-ac96-774b-bcce-%012u'}", id); break;
    case 4: buf_printf(json, "{'op':'insert','table':'marks','values':{'note':'01890a5d-ac96-774b-bcce-%012u','score':%u}}", id, n); break;
    default: buf_printf(json, "{'op':'append','table':'notes','id':'01890a5d-ac96-774b-bcce-%012u','column':'body','text':'token %u '}", id, n); break;
    }
}

static void put_stream_op(struct world *w, struct buf *json)
{
    unsigned path = (unsigned)roll(w, 3);
    switch (roll(w, 10)) {
    case 0:
    case 1: buf_printf(json, "{'op':'create','stream':'s%u'}", path); break;
    case 2: buf_printf(json, "{'op':'%s','stream':'s%u'}", roll(w, 3) == 0 ? "close" : "drop", path); break;
    case 3: buf_printf(json, "{'op':'trim','stream':'s%u','tail':true%s}", path, roll(w, 2) ? ",'text':'in short'" : ""); break;
    case 4: buf_printf(json, "{'op':'append','stream':'s%u','base64':'%s'}", path, roll(w, 2) ? "4oKs" : "/wA="); break;
    default:
        buf_printf(json, "{'op':'append','stream':'s%u','text':'", path);
        for (uint64_t i = roll(w, 24) == 0 ? 5000 : 2; i > 0; i--)
            buf_put_str(json, "some text \xe2\x82\xac ");
        buf_put_str(json, "'}");
    }
}

static void submit(struct world *w, struct lab_batch *b)
{
    struct buf json;
    buf_init(&json, 4 * MIB);
    buf_printf(&json, "{'key':'b%u','ops':[", w->batches++);
    for (uint64_t n = 1 + roll(w, 3); n > 0; n--) {
        roll(w, 2) ? put_row_op(w, &json) : put_stream_op(w, &json);
        if (n > 1) buf_put_str(&json, ",");
    }
    buf_put_str(&json, "]}");
    buf_put_u8(&json, 0);
    assert_int_equal(lab_submit(&w->lab, b, (char *)json.p), 0);
    buf_free(&json);
}

// Several batches with one barrier. Their readers hear of them together, or later, with what comes behind.
static void write_group(struct world *w)
{
    struct lab_batch group[GROUP_MAX];
    size_t n = 1 + roll(w, GROUP_MAX);
    for (size_t i = 0; i < n; i++)
        submit(w, &group[i]);
    void (*visible)(void *, struct app *) = w->lab.app->options.visible;
    if (roll(w, 3) == 0) w->lab.app->options.visible = NULL;
    while (app_pending(w->lab.app))
        app_turn(w->lab.app);
    w->lab.app->options.visible = visible;
    for (size_t i = 0; i < n; i++) {
        assert_true(group[i].done && group[i].fate.journaled);
        lab_batch_free(&group[i]);
    }
}

static int upload_step(struct world *w, struct span op)
{
    return lab_ops(&w->lab, &(struct batch_op){.kind = BATCH_UPLOAD, .upload = op}, 1, NULL);
}

static void upload_bytes(struct world *w, struct uuid id, const struct upload_info *info)
{
    static const uint8_t content[UPLOAD_BYTES];
    struct blob_upload *u;
    struct batch_op ops[2] = {{.kind = BATCH_UPLOAD}, {.kind = BATCH_UPLOAD}};
    struct sha256 digest;
    struct buf text[2];
    uint64_t to = info->offset + 1 + roll(w, UPLOAD_BYTES / 2);
    bool last = to >= UPLOAD_BYTES;
    struct span in = SPAN(content + info->offset, (last ? UPLOAD_BYTES : to) - info->offset);
    assert_int_equal(blobs_upload_resume(app_blobs(w->lab.app), app_txn(w->lab.app), id, &u), 0);
    assert_int_equal(blobs_upload_load(u), 0);
    if (!last) blobs_upload_pause(u);
    assert_int_equal(blobs_upload_chunk(u, in, last), 0);
    assert_int_equal(blobs_upload_place(u, app_txn(w->lab.app)), 0);
    assert_int_equal(blobs_upload_write(u), 0);
    assert_int_equal(blobs_upload_sync(u), 0);
    buf_init(&text[0], MIB);
    buf_init(&text[1], KIB);
    blobs_upload_progress(u, &text[0]);
    if (last) blobs_upload_complete(u, &text[1], &digest);
    blobs_upload_close(u);
    for (int i = 0; i < 2; i++)
        ops[i].upload = buf_span(&text[i]);
    lab_ops(&w->lab, ops, last ? 2 : 1, NULL);
    buf_free(&text[0]);
    buf_free(&text[1]);
}

static void write_upload(struct world *w)
{
    struct uuid id = w->uploads[roll(w, UPLOADS)];
    struct upload_info info;
    struct buf op;
    if (blobs_upload_find(app_blobs(w->lab.app), app_txn(w->lab.app), id, &info) && info.state == UPLOAD_OPEN && roll(w, 5) != 0) {
        upload_bytes(w, id, &info);
        return;
    }
    buf_init(&op, 8 * KIB);
    if (roll(w, 2)) blobs_upload_put_create(&op, id, &(struct upload_new){.length = UPLOAD_BYTES});
    else blobs_upload_put_drop(&op, id);
    upload_step(w, buf_span(&op)); // which may be refused: it is there already, or it is not
    buf_free(&op);
}

// ---- what becomes of the service -----------------------------------------------------------------------------------

static void restart(struct world *w)
{
    stop_all(w);
    app_lab_reopen(&w->lab);
    start_all(w);
}

// Kill -9 or a power cut: what is opened again is what the disk had before a group of which nobody was told. That group's seqs are given again, to others.
static void kill_service(struct world *w)
{
    struct app_lab found;
    struct lab_batch lost;
    size_t told[PEERS];
    app_lab_fork(&w->lab, &found);
    for (size_t i = 0; i < PEERS; i++)
        told[i] = w->peers[i].messages;
    submit(w, &lost);
    if (roll(w, 2)) {
        disk_fail(roll(w, 2) ? DISK_SYNC : DISK_WRITE, "/journal/", 1, EIO, 1);
        app_turn(w->lab.app);
        disk_fail_clear();
    }
    for (size_t i = 0; i < PEERS; i++)
        assert_int_equal(w->peers[i].messages, told[i]);
    stop_all(w);
    app_lab_free(&w->lab); // answers what it still has
    lab_batch_free(&lost);
    w->lab = found;
    w->kills++;
    start_all(w);
}

// The disk fails under a group: its sessions end, and what became of it is told once it is certain.
static void fail_disk(struct world *w)
{
    struct lab_batch b;
    submit(w, &b);
    disk_fail(roll(w, 2) ? DISK_SYNC : DISK_WRITE, "/journal/", 1, EIO, 1);
    app_turn(w->lab.app);
    disk_fail_clear();
    lab_batch_free(&b);
    for (size_t i = 0; i < PEERS; i++)
        if (w->peers[i].session != NULL) assert_true(w->peers[i].ended == ERR_BUSY || w->peers[i].ended == ERR_BAD_OFFSET);
    stop_all(w);
    assert_true(lab_recover(&w->lab));
    start_all(w);
}

static void forget_history(struct world *w)
{
    uint64_t visible = app_visible(w->lab.app), keep = roll(w, 40);
    if (visible <= keep || visible - keep <= rows_horizon(app_rows(w->lab.app))) return;
    assert_int_equal(lab_ops(&w->lab, &(struct batch_op){.kind = BATCH_HORIZON, .horizon = visible - keep}, 1, NULL), 0);
    for (size_t i = 0; i < PEERS; i++)
        w->forgotten[i] = true;
}

// Another journal under the same name, with as much in it, or less.
static void replace(struct world *w)
{
    struct app_options options = w->lab.options;
    stop_all(w);
    app_lab_free(&w->lab);
    app_lab_init(&w->lab);
    const char *path = w->lab.path;
    w->lab.options = options;
    w->lab.options.path = path;
    app_lab_open(&w->lab);
    assert_int_equal(lab_schema(&w->lab, SCHEMA), 0);
    for (uint64_t n = roll(w, 60); n > 0; n--)
        write_group(w);
    for (size_t i = 0; i < PEERS; i++)
        w->replaced[i] = true;
    start_all(w);
}

static void service_acts(struct world *w)
{
    switch (roll(w, 240)) {
    case 0: restart(w); break;
    case 1: kill_service(w); break;
    case 2: fail_disk(w); break;
    case 3:
    case 4: forget_history(w); break;
    case 5:
        if (roll(w, 4) == 0) replace(w);
        break;
    case 6:
    case 7:
    case 8: lab_seal(&w->lab); break;
    case 9:
    case 10: lab_settle(&w->lab); break;
    case 11: all_catch_up(w); break;
    default: break;
    }
}

// ---- worlds --------------------------------------------------------------------------------------------------------

static void world_begin(struct world *w, uint64_t seed)
{
    *w = (struct world){.dice = seed * 2654435769u + 88172645463325252u};
    app_lab_init(&w->lab);
    app_lab_wake(&w->lab, &w->hub);
    app_lab_open(&w->lab);
    assert_int_equal(lab_schema(&w->lab, SCHEMA), 0);
    for (size_t i = 0; i < UPLOADS; i++)
        w->uploads[i] = uuid_new();
    for (size_t i = 0; i < PEERS; i++) {
        session_peer_init(&w->peers[i], &w->lab, &w->hub);
        for (uint64_t n = 1 + roll(w, 4); n > 0; n--)
            subscribe(w, &w->peers[i], false);
        w->peers[i].loses = i % 2 == 1;
    }
    start_all(w);
}

static void world_end(struct world *w)
{
    for (size_t i = 0; i < PEERS; i++)
        session_peer_free(&w->peers[i]);
    app_lab_free(&w->lab);
}

// Did it have all that worlds are for? In one of them, by chance, a thing may not happen.
static bool world_run(uint64_t seed)
{
    static struct world w;
    world_begin(&w, seed);
    for (int step = 0; step < STEPS; step++) {
        if (roll(&w, 6) == 0) write_upload(&w);
        else write_group(&w);
        for (size_t i = 0; i < PEERS; i++)
            reader_acts(&w, i);
        service_acts(&w);
    }
    all_catch_up(&w);
    world_end(&w);
    return w.kills > 0 && w.all_resets > 0;
}

static void every_reader_has_every_commit_once_whole_and_in_order(void **state)
{
    (void)state;
    const char *seed = getenv("SEED"), *runs = getenv("RUNS");
    uint64_t first = seed != NULL ? strtoull(seed, NULL, 10) : 1, n = runs != NULL ? strtoull(runs, NULL, 10) : 2;
    bool whole = false;
    log_set_level(LOG_ERROR);
    for (uint64_t i = 0; n == 0 || i < n; i++) {
        fprintf(stderr, "seed %llu\n", (unsigned long long)(first + i));
        whole |= world_run(first + i);
    }
    assert_true(whole || seed != NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_reader_has_every_commit_once_whole_and_in_order)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
