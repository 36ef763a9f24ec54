// POST /apps/<app>/blob-pins: pins a list of blobs, or lets them go, as one batch. What is not there is told, and does not hinder the others: so a
// client that keeps a tree of files learns in one question which of them it has to bring.
#include <stdlib.h>

#include "api_blob.h"
#include "batch.h"
#include "err.h"
#include "json_read.h"
#include "json_write.h"

#define NAME_BYTES (SHA256_HEX + 4) // of a digest in a JSON list
#define OP_BYTES 128                // of a step, encoded; more than it ever has

struct pins {
    struct submission submission; // first
    struct request *r;            // NULL once the peer is gone
    struct buf encoded;
    struct buf missing; // places in the list, u32
    bool submitted;
};

static void pins_free(struct pins *pins)
{
    buf_free(&pins->encoded);
    buf_free(&pins->missing);
    free(pins);
}

static void reply_missing(struct pins *pins, uint64_t seq)
{
    struct buf b;
    struct jw w;
    buf_init(&b, BLOB_PINS_MAX * 8 + KIB);
    jw_init(&w, &b);
    jw_object(&w);
    jw_key(&w, "missing"), jw_array(&w);
    for (size_t at = 0; at < pins->missing.n; at += sizeof(uint32_t)) {
        uint32_t place;
        memcpy(&place, pins->missing.p + at, sizeof place);
        jw_uint(&w, place);
    }
    jw_end(&w);
    if (seq > 0) jw_key(&w, "seq"), jw_uint(&w, seq);
    jw_end(&w);
    reply_json(pins->r, 200, &b);
    buf_free(&b);
}

static void on_fate(struct submission *s, const struct fate *f)
{
    struct pins *pins = (struct pins *)s;
    pins->submitted = false;
    if (pins->r == NULL) pins_free(pins);
    else if (f->err != 0) reply_fate_problem(pins->r, f);
    else reply_missing(pins, f->seq);
}

static void put_step(struct pins *pins, const struct sha256 *digest, bool pinned)
{
    struct buf step;
    buf_init(&step, OP_BYTES);
    blobs_step_put_pin(&step, digest, pinned);
    batch_put_op(&pins->encoded, &(struct batch_op){.kind = BATCH_BLOB_STEP, .step = buf_span(&step)});
    buf_free(&step);
}

// Steps for those that are there. One that would change nothing is left out, but for the first: the answer comes behind a barrier even then.
static int put_steps(struct pins *pins, const struct jr *list, bool pinned, struct problem *p)
{
    struct app *app = pins->r->app;
    struct sha256 digest;
    struct blob_info info;
    bool idle_step = false;
    for (uint32_t i = 0; i < jr_count(list); i++) {
        if (hex_parse(digest.b, SHA256_BYTES, jr_str(jr_at(list, i))) != 0)
            return problem_set(p, ERR_BAD_VALUE, -1, "blob %u is no SHA-256 in hexadecimal", i);
        bool there = blobs_find(app_blobs(app), app_txn(app), &digest, &info), idle = there && info.pinned == pinned;
        if (!there) buf_put(&pins->missing, &i, sizeof i);
        if (there && !(idle && idle_step)) put_step(pins, &digest, pinned);
        idle_step = idle_step || idle;
    }
    return pins->encoded.err != 0 ? pins->encoded.err : pins->missing.err;
}

static int read_list(struct pins *pins, const struct jr *root, struct problem *p)
{
    const struct jr *list = jr_get(root, "blobs"), *pinned = jr_get(root, "pinned");
    if (jr_type(list) != JR_ARRAY || jr_type(pinned) != JR_BOOL)
        return problem_set(p, ERR_BAD_VALUE, -1, "\"blobs\" and \"pinned\", true or false, are needed");
    if (jr_count(list) > BLOB_PINS_MAX) return problem_set(p, ERR_TOO_LARGE, -1, "at most %d blobs are pinned at once", BLOB_PINS_MAX);
    if (app_txn(pins->r->app) == NULL) return ERR_BUSY;
    pins->submission.frees = !jr_bool(pinned, false);
    return put_steps(pins, list, jr_bool(pinned, false), p);
}

static int pins_submit(struct pins *pins, struct problem *p)
{
    struct request *r = pins->r;
    struct jr_tree *tree;
    int err = jr_parse(&tree, buf_span(&r->body), p);
    if (err != 0) return err;
    err = read_list(pins, jr_root(tree), p);
    jr_free(tree);
    if (err != 0) return err;
    if (pins->encoded.n == 0) {
        reply_missing(pins, 0);
        return 0;
    }
    pins->submission.identity = r->identity;
    pins->submission.request = buf_span(&pins->encoded);
    pins->submission.done = on_fate;
    err = app_submit(r->app, &pins->submission);
    pins->submitted = err == 0;
    return err;
}

static void pins_begin(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    struct pins *pins = calloc(1, sizeof *pins);
    if (pins == NULL) {
        reply_error(r, ERR_NOMEM);
        return;
    }
    pins->r = r;
    r->data = pins;
    buf_init(&pins->encoded, BLOB_PINS_MAX * OP_BYTES);
    buf_init(&pins->missing, BLOB_PINS_MAX * sizeof(uint32_t));
    int err = pins_submit(pins, &p);
    if (err == 0) return;
    problem_set(&p, err, -1, "%s", err_text(err));
    reply_problem(r, &p);
}

static void pins_done(struct request *r)
{
    struct pins *pins = r->data;
    if (pins == NULL) return;
    pins->r = NULL;
    if (!pins->submitted) pins_free(pins);
}

const struct handler api_blob_pins = {.begin = pins_begin, .done = pins_done, .body_max = BLOB_PINS_MAX * NAME_BYTES + KIB};
