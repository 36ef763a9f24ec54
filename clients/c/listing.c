// A long list moves a resumable upload forward, by chunks instead of bytes:
//
//    POST uploads ──> PATCH the next page ──┬─ 204 ──> … ──> 204 with the digest ──> compare
//                        ^                  ├─ 409, chunks are missing ──> the caller sends them, and comes back ──┐
//                        └── HEAD: where ───┴─ 409, it is elsewhere (an answer was lost) <────────────────────────┘
//
// Which upload it is is not kept for the next run: that finds all chunks there, and lists them anew.
#include "listing.h"

#include <assert.h>
#include <stdio.h>

#include "err.h"
#include "limits.h"
#include "put.h"

#define LIST_TYPE "Content-Type: application/vnd.segue.manifest+json"
#define LISTED_BYTES_MAX (SHA256_HEX + 12) // of a chunk in a list
#define STUCK_MAX 5 // answers in a row after which it is where it was

void listing_put_hash(struct buf *out, const struct sha256 *sha)
{
    char hex[SHA256_HEX];
    hex_format(hex, SPAN(sha->b, SHA256_BYTES));
    buf_put_u8(out, '"');
    buf_put(out, hex, sizeof hex);
    buf_put_u8(out, '"');
}

// A type that JSON cannot have as it is is left out: the service would not take it either.
static void put_list(const struct listing *l, size_t from, size_t to, uint64_t size, const char *type, struct buf *out)
{
    buf_printf(out, "{\"size\":%llu,", (unsigned long long)size);
    if (type != NULL && strpbrk(type, "\"\\") == NULL) {
        buf_put_str(out, "\"type\":\"");
        buf_put_str(out, type);
        buf_put_str(out, "\",");
    }
    buf_put_str(out, "\"chunks\":[");
    for (size_t i = from; i < to; i++) {
        buf_put_str(out, i == from ? "[" : ",[");
        listing_put_hash(out, &l->cuts->at[i].sha);
        buf_printf(out, ",%u]", l->cuts->at[i].length);
    }
    buf_put_str(out, "]}");
}

static int send_list(struct listing *l, const char *method, const char *path, const char *const *more, struct span list)
{
    const struct http_request request = {.method = method,
                                         .path = path,
                                         .headers = {LIST_TYPE, more[0], more[0] != NULL ? more[1] : NULL},
                                         .has_body = true,
                                         .body = list,
                                         .stop = l->client->stop};
    return client_ask(l->client, &request);
}

// ---- in one ----------------------------------------------------------------------------------------------------------

static int name_at_once(struct listing *l, bool *again)
{
    static const char *const none[] = {NULL};
    char path[16 + SHA256_HEX];
    struct buf list;
    buf_init(&list, CHUNKS_MANIFEST_MAX);
    put_list(l, 0, l->cuts->count, l->source->size, l->what->type, &list);
    snprintf(path, sizeof path, "blobs/%.64s", l->cuts->hex);
    int result = list.err != 0 ? put_unreadable(l->client, l->source->name, list.err) : send_list(l, "PUT", path, none, buf_span(&list));
    buf_free(&list);
    if (result != SEGUE_OK) return result;
    int status = http_status(l->client->http);
    *again = status == err_status(ERR_CHUNKS_MISSING);
    if (*again || status == 200 || status == 201) return SEGUE_OK;
    return status == err_status(ERR_DIGEST_MISMATCH) ? put_changed(l->client, l->source->name) : client_refused(l->client);
}

// ---- in pages --------------------------------------------------------------------------------------------------------

// The chunk that begins at the upload's offset; their count: none does.
static size_t chunk_at(const struct listing *l)
{
    size_t from = 0, to = l->cuts->count;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        if (l->cuts->at[middle].at < l->at.offset) from = middle + 1;
        else to = middle;
    }
    return from < l->cuts->count && l->cuts->at[from].at == l->at.offset ? from : l->cuts->count;
}

static int send_page(struct listing *l, size_t from)
{
    char path[64], offset[64];
    struct buf list;
    size_t left = l->cuts->count - from, to = from + (left < LISTING_PAGE_CHUNKS ? left : LISTING_PAGE_CHUNKS);
    uint64_t end = to < l->cuts->count ? l->cuts->at[to].at : l->source->size;
    buf_init(&list, CHUNKS_MANIFEST_MAX);
    put_list(l, from, to, end - l->at.offset, NULL, &list);
    tus_path(&l->at, path);
    snprintf(offset, sizeof offset, "Upload-Offset: %llu", (unsigned long long)l->at.offset);
    const char *const more[] = {TUS, offset};
    int result = list.err != 0 ? put_unreadable(l->client, l->source->name, list.err) : send_list(l, "PATCH", path, more, buf_span(&list));
    buf_free(&list);
    return result;
}

// Judges the answer to a page: the offset moves, or the upload is looked for.
static int take_answer(struct listing *l, bool *again)
{
    struct segue *s = l->client;
    int status = http_status(s->http);
    if (status == 204) return tus_take_offset(s, &l->at) ? SEGUE_OK : tus_malformed(s);
    int result = client_refused(s);
    if (status != 409 && status != 404 && status != 410) return result;
    *again = strcmp(segue_error(s)->code, err_wire(ERR_CHUNKS_MISSING)) == 0;
    client_begin(s); // it was no end
    return *again ? SEGUE_OK : tus_locate(s, l->source, &l->at);
}

static int begin(struct listing *l)
{
    int result = l->at.id[0] != 0 ? tus_locate(l->client, l->source, &l->at) : SEGUE_OK;
    return result == SEGUE_OK && l->at.id[0] == 0 ? tus_create(l->client, l->what, l->source, &l->at) : result;
}

static int name_in_pages(struct listing *l, bool *again)
{
    int result = begin(l);
    for (int stuck = 0; result == SEGUE_OK && !*again && l->at.offset < l->source->size;) {
        uint64_t before = l->at.offset;
        size_t from = chunk_at(l);
        if (from == l->cuts->count || stuck == STUCK_MAX) return tus_malformed(l->client);
        result = send_page(l, from);
        if (result == SEGUE_OK) result = take_answer(l, again);
        if (result == SEGUE_OK && l->at.id[0] == 0) result = begin(l);
        stuck = l->at.offset > before ? 0 : stuck + 1;
    }
    return result == SEGUE_OK && !*again ? tus_end(l->client, l->source, &l->at, l->cuts->hex) : result;
}

int listing_name(struct listing *l, bool *again)
{
    assert(l->cuts->count > 0);
    *again = false;
    size_t most = l->is_old ? CHUNKS_MANIFEST_MAX / LISTED_BYTES_MAX - 1 : LISTING_PAGE_CHUNKS;
    return l->cuts->count > most ? name_in_pages(l, again) : name_at_once(l, again);
}
