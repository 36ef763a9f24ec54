// Ask, send what is missing, on several connections, and name the blob:
//
//    POST chunks/missing … ── nothing is there ──> an upload does it
//            │ some
//            └──> POST chunks … ──> the list (listing.c) ──────────> done
//                        ^            │ chunks were reclaimed meanwhile
//                        └─ ask again ┘
//
// A chunk that the content has several times is asked for and sent once. Every request may be repeated, so a connection that breaks costs
// one body, and a run of the program what the one before it was sending: what had arrived is there when this one asks.
#include "delta.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "client.h"
#include "err.h"
#include "json_read.h"
#include "lanes.h"
#include "limits.h"
#include "listing.h"
#include "put.h"

#define SEND_LANES 4 // bodies on their way at once
#define ROUNDS_MAX 5 // of asking; each but the first because chunks went meanwhile

struct delta {
    struct segue *client;
    const struct segue_put_options *what;
    struct source *source;
    struct piece *pieces;
    size_t count;
    const char *hex;
    struct listing listing;
    atomic_uint_least64_t missing; // bytes of those that are
    size_t *bodies;                // where each begins, and the end
    size_t body_count;
    struct buf body;
};

static int no_memory(struct delta *d)
{
    return put_unreadable(d->client, d->source->name, ERR_NOMEM);
}

// ---- requests --------------------------------------------------------------------------------------------------------

static int request(struct delta *d, const char *method, const char *path, const char *type)
{
    if (d->body.err != 0) return no_memory(d);
    const struct http_request request = {
        .method = method, .path = path, .headers = {type}, .has_body = true, .body = buf_span(&d->body), .stop = d->client->stop};
    return client_ask(d->client, &request);
}

// The pieces that were asked about, by their places in the question.
static int take_answer(struct delta *d, const size_t *asked, size_t count)
{
    struct jr_tree *tree;
    if (http_status(d->client->http) != 200) return client_refused(d->client);
    int err = jr_parse(&tree, http_body(d->client->http), NULL);
    if (err != 0) return client_fail(d->client, SEGUE_REFUSED, ERR_INTERNAL, "the service's answer about chunks cannot be read");
    const struct jr *missing = jr_get(jr_root(tree), "missing");
    for (size_t i = 0; i < jr_count(missing); i++) {
        int64_t at = jr_int(jr_at(missing, i), -1);
        if (at < 0 || (uint64_t)at >= count || d->pieces[asked[at]].missing) continue;
        d->pieces[asked[at]].missing = true;
        d->missing += d->pieces[asked[at]].length;
    }
    jr_free(tree);
    return SEGUE_OK;
}

// About as many as may be asked about at once, from *at on.
static int ask_page(struct delta *d, size_t *at)
{
    size_t asked[CHUNKS_ASK_MAX], n = 0;
    buf_clear(&d->body);
    buf_put_str(&d->body, "{\"chunks\":[");
    for (; *at < d->count && n < CHUNKS_ASK_MAX; ++*at) {
        if (d->pieces[*at].same) continue;
        if (n > 0) buf_put_str(&d->body, ",");
        listing_put_hash(&d->body, &d->pieces[*at].sha);
        asked[n++] = *at;
    }
    buf_put_str(&d->body, "]}");
    int result = request(d, "POST", "chunks/missing", "Content-Type: application/json");
    return result != SEGUE_OK ? result : take_answer(d, asked, n);
}

static int ask(struct delta *d)
{
    int result = SEGUE_OK;
    d->missing = 0;
    for (size_t i = 0; i < d->count; i++)
        d->pieces[i].missing = false;
    for (size_t at = 0; at < d->count && result == SEGUE_OK;)
        result = ask_page(d, &at);
    return result;
}

// ---- chunks ----------------------------------------------------------------------------------------------------------

static int put_chunk(struct buf *body, struct source *source, const struct piece *p)
{
    size_t n;
    buf_put(body, p->sha.b, SHA256_BYTES);
    buf_put_u32_be(body, p->length);
    uint8_t *room = buf_reserve(body, p->length);
    if (room == NULL) return body->err;
    int err = source_read(source, p->at, room, p->length, &n);
    if (err == 0) body->n += n;
    return err;
}

// Those that are missing, from here to there, in one body. The service compares each with its hash.
static int send_body(struct segue *lane, void *ctx, size_t item)
{
    struct delta *d = ctx;
    struct buf body;
    int err = 0;
    buf_init(&body, CHUNKS_BODY_MAX);
    for (size_t i = d->bodies[item]; i < d->bodies[item + 1] && err == 0; i++)
        if (d->pieces[i].missing) err = put_chunk(&body, d->source, &d->pieces[i]);
    const struct http_request request = {.method = "POST",
                                         .path = "chunks",
                                         .headers = {"Content-Type: application/octet-stream"},
                                         .has_body = true,
                                         .body = buf_span(&body),
                                         .stop = lane->stop};
    int result = err != 0 ? put_unreadable(lane, d->source->name, err) : client_ask(lane, &request);
    buf_free(&body);
    if (result != SEGUE_OK) return result;
    if (http_status(lane->http) == err_status(ERR_CHECKSUM)) return put_changed(lane, d->source->name);
    if (http_status(lane->http) != 200) return client_refused(lane);
    for (size_t i = d->bodies[item]; i < d->bodies[item + 1]; i++)
        if (d->pieces[i].missing) atomic_fetch_sub(&d->missing, d->pieces[i].length);
    return SEGUE_OK;
}

// As many as fit into each.
static void plan_bodies(struct delta *d)
{
    size_t bytes = 0, chunks = 0;
    d->body_count = 0;
    for (size_t i = 0; i < d->count; i++) {
        const struct piece *p = &d->pieces[i];
        if (!p->missing) continue;
        if (chunks == 0 || chunks == CHUNKS_ASK_MAX || bytes + SHA256_BYTES + 4 + p->length > CHUNKS_BODY_MAX) {
            d->bodies[d->body_count++] = i;
            bytes = chunks = 0;
        }
        bytes += SHA256_BYTES + 4 + p->length;
        chunks++;
    }
    d->bodies[d->body_count] = d->count;
}

static void tell_progress(void *ctx)
{
    struct delta *d = ctx;
    if (d->what->progress != NULL) d->what->progress(d->what->ctx, d->source->size - atomic_load(&d->missing), d->source->size);
}

static int send_missing(struct delta *d)
{
    plan_bodies(d);
    const struct lanes_work work = {.items = d->body_count, .lanes = SEND_LANES, .run = send_body, .tick = tell_progress, .ctx = d};
    return lanes_run(d->client, &work);
}

// ---- the blob --------------------------------------------------------------------------------------------------------

static int transfer(struct delta *d)
{
    int result = SEGUE_OK;
    bool again = true;
    for (int round = 0; round < ROUNDS_MAX && again && result == SEGUE_OK; round++) {
        if (round > 0) result = ask(d);
        if (result == SEGUE_OK) result = send_missing(d);
        if (result == SEGUE_OK) result = listing_name(&d->listing, &again);
    }
    if (result == SEGUE_OK && again) result = client_refused(d->client);
    if (result == SEGUE_OK && d->what->progress != NULL) d->what->progress(d->what->ctx, d->source->size, d->source->size);
    return result;
}

int delta_source(struct segue *s, const struct segue_put_options *what, struct source *source, struct cuts *cuts, bool *done)
{
    struct delta d = {.client = s, .what = what, .source = source, .pieces = cuts->at, .count = cuts->count, .hex = cuts->hex};
    d.listing = (struct listing){.client = s, .what = what, .source = source, .cuts = cuts};
    buf_init(&d.body, CHUNKS_ASK_MAX * (SHA256_HEX + 3) + KIB);
    *done = false;
    d.bodies = calloc(cuts->count + 1, sizeof *d.bodies);
    int result = d.bodies == NULL ? no_memory(&d) : ask(&d);
    // An upload needs no second way where nothing is known.
    if (result == SEGUE_OK && (d.missing < cuts->distinct || cuts->distinct < source->size)) {
        d.listing.is_old = d.missing == 0;
        *done = true;
        result = transfer(&d);
    }
    buf_free(&d.body);
    free(d.bodies);
    return result;
}
