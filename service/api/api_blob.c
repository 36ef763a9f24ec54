// HEAD and GET /apps/<app>/blobs/<sha256>: a blob, or parts of it (PROTOCOL.md, "blobs"; RFC 9110, sections 13 and 14).
//
//   conditions (412, 304) ─> parts (416) ─> coding ─┬─ HEAD: fields
//                                                   └─ GET: blob_send, fields with the first bytes
#include "api_blob.h"

#include <stdio.h>
#include <stdlib.h>

#include "base64.h"
#include "blob_send.h"
#include "blob_view.h"
#include "err.h"
#include "http_select.h"

#define CODED_MIN 1024 // shorter blobs are not worth a coding
#define ETAG_ROOM (SHA256_HEX + 8)

int blob_path_digest(const struct request *r, struct sha256 *out, struct problem *p)
{
    if (hex_parse(out->b, SHA256_BYTES, r->path) == 0) return 0;
    return problem_set(p, ERR_BAD_DIGEST, -1, "a blob's path ends in the 64 hexadecimal digits of its SHA-256");
}

// An answer under way.
struct get {
    struct blob_send send; // first
    struct blob_info info;
    struct blob_view view;
    struct byte_ranges ranges; // the parts that are sent; the whole is one part
    size_t next;
    bool partial;              // 206
    bool coded;                // the body is zstd frames: another representation, with another tag
    bool may_code;
    char boundary[UUID_TEXT + 1]; // between several parts
};

static struct span etag_of(const struct blob_info *info, bool coded, char room[ETAG_ROOM])
{
    char hex[SHA256_HEX];
    hex_format(hex, SPAN(info->digest.b, SHA256_BYTES));
    int n = snprintf(room, ETAG_ROOM, "\"%.64s%s\"", hex, coded ? "-zstd" : "");
    return SPAN(room, (size_t)n);
}

// ---- fields --------------------------------------------------------------------------------------------------------

static void put_fields(struct get *g, struct request *r, int status)
{
    char etag[ETAG_ROOM];
    etag_of(&g->info, g->coded, etag);
    reply_start(r, status);
    reply_header(r, "ETag", "%s", etag);
    reply_header(r, "Accept-Ranges", "bytes");
    reply_header(r, "Vary", "Accept-Encoding");
    blob_view_fields(&g->view, r);
}

// The digest is that of the representation: a coded one would need its own.
static void put_digest(const struct get *g, struct request *r)
{
    struct span want;
    struct buf text;
    if (g->coded || (request_header(r, "want-repr-digest", &want) && !http_wants_sha256(want))) return;
    buf_init(&text, 64);
    base64_encode(&text, SPAN(g->info.digest.b, SHA256_BYTES));
    reply_header(r, "Repr-Digest", "sha-256=:%.*s:", (int)text.n, text.p != NULL ? (const char *)text.p : "");
    buf_free(&text);
}

// What stands before a part among several. Returns its length; sends it where `r` is given.
static uint64_t part_head(const struct get *g, size_t i, struct request *r)
{
    char text[STREAM_TYPE_MAX + 200];
    const struct byte_range *part = &g->ranges.at[i];
    int n = snprintf(text, sizeof text, "%s--%s\r\nContent-Type: %s\r\nContent-Range: bytes %llu-%llu/%llu\r\n\r\n", i == 0 ? "" : "\r\n", g->boundary,
                     g->view.type, (unsigned long long)part->from, (unsigned long long)(part->from + part->n - 1), (unsigned long long)g->info.size);
    if (r != NULL) reply_write_span(r, SPAN(text, (size_t)n));
    return (uint64_t)n;
}

static uint64_t parts_end(const struct get *g, struct request *r)
{
    char text[UUID_TEXT + 16];
    int n = snprintf(text, sizeof text, "\r\n--%s--\r\n", g->boundary);
    if (r != NULL) reply_write_span(r, SPAN(text, (size_t)n));
    return (uint64_t)n;
}

static int64_t body_length(const struct get *g)
{
    uint64_t n = g->ranges.count > 1 ? parts_end(g, NULL) : 0;
    for (size_t i = 0; i < g->ranges.count; i++)
        n += g->ranges.at[i].n + (g->ranges.count > 1 ? part_head(g, i, NULL) : 0);
    return g->coded ? -1 : (int64_t)n;
}

// Everything up to the body.
static void put_head(struct get *g, struct request *r)
{
    const struct byte_range *part = &g->ranges.at[0];
    char type[UUID_TEXT + 64];
    bool several = g->ranges.count > 1;
    put_fields(g, r, g->partial ? 206 : 200);
    put_digest(g, r);
    if (g->partial && !several)
        reply_header(r, "Content-Range", "bytes %llu-%llu/%llu", (unsigned long long)part->from, (unsigned long long)(part->from + part->n - 1), (unsigned long long)g->info.size);
    if (g->coded) reply_header(r, "Content-Encoding", "zstd");
    snprintf(type, sizeof type, "multipart/byteranges; boundary=%s", g->boundary);
    reply_stream(r, several ? type : g->view.type, body_length(g));
}

// ---- the body ------------------------------------------------------------------------------------------------------

// A blob whose first chunk is stored packed goes out packed, if it may.
static int choose_coding(struct get *g, struct request *r, struct blob_reader *reader)
{
    int err = blobs_reader_next(reader, app_txn(r->app), 1);
    g->coded = err == 0 && blobs_reader_packed(reader);
    if (g->coded) blobs_reader_code(reader);
    g->may_code = false;
    return err;
}

static int part_open(struct blob_send *s, struct blob_reader **out)
{
    struct get *g = (struct get *)s;
    struct app *a = s->r->app;
    if (g->next == g->ranges.count) return 0;
    const struct byte_range *part = &g->ranges.at[g->next];
    int err = blobs_reader_open(app_blobs(a), app_txn(a), &g->info.digest, part->from, part->n, out);
    if (err != 0) return err;
    g->next++;
    err = g->may_code ? choose_coding(g, s->r, *out) : 0;
    return err != 0 ? err : 1;
}

static void part_tell(struct blob_send *s, bool first)
{
    struct get *g = (struct get *)s;
    if (first) put_head(g, s->r);
    if (g->ranges.count > 1) part_head(g, g->next - 1, s->r);
}

static void parts_over(struct blob_send *s)
{
    struct get *g = (struct get *)s;
    if (g->ranges.count > 1) parts_end(g, s->r);
}

static void get_free(struct blob_send *s)
{
    struct get *g = (struct get *)s;
    blob_view_free(&g->view);
    free(g);
}

static const struct blob_send_ops get_ops = {.open = part_open, .tell = part_tell, .end = parts_over, .free = get_free};

// ---- what is asked for ---------------------------------------------------------------------------------------------

// The tag that the client has, of the two there can be. False: neither.
static bool has_tag(struct get *g, struct span list, bool strong)
{
    char room[ETAG_ROOM];
    for (int coded = 0; coded < 2; coded++) {
        if (!http_etag_listed(list, etag_of(&g->info, coded, room), strong)) continue;
        g->coded = coded;
        return true;
    }
    return false;
}

static void reply_unsatisfiable(struct request *r, uint64_t size)
{
    struct problem p = PROBLEM_NONE;
    struct buf b;
    problem_set(&p, ERR_RANGE_NOT_SATISFIABLE, -1, "the blob has %llu bytes", (unsigned long long)size);
    buf_init(&b, 4 * KIB);
    buf_put_str(&b, "{");
    problem_members(&b, &p);
    buf_put_str(&b, "}");
    reply_start(r, 416);
    reply_header(r, "Content-Range", "bytes */%llu", (unsigned long long)size);
    reply_header(r, "Cache-Control", "no-store");
    reply_body(r, "application/problem+json", buf_span(&b));
    buf_free(&b);
}

// A range is asked of the bytes themselves; HEAD has none (RFC 9110, 14.2).
static int choose_parts(struct get *g, struct request *r)
{
    struct span field, condition;
    char room[ETAG_ROOM];
    g->ranges = (struct byte_ranges){.count = 1, .at[0].n = g->info.size};
    if (r->method == METHOD_HEAD || !request_header(r, "range", &field)) return 0;
    if (request_header(r, "if-range", &condition) && !span_equal(condition, etag_of(&g->info, false, room))) return 0;
    int got = http_ranges_parse(field, g->info.size, &g->ranges);
    if (got < 0) return got;
    g->partial = got == 1;
    if (g->ranges.count > 1) uuid_format(uuid_new(), g->boundary);
    return 0;
}

// True: a condition has been answered.
static bool conditions(struct get *g, struct request *r)
{
    struct span list;
    if (request_header(r, "if-match", &list) && !has_tag(g, list, true)) {
        reply_error(r, ERR_PRECONDITION_FAILED);
        return true;
    }
    g->coded = false;
    if (!request_header(r, "if-none-match", &list) || !has_tag(g, list, false)) return false;
    put_fields(g, r, 304);
    reply_body(r, NULL, SPAN_NONE);
    return true;
}

static int reply_head(struct get *g, struct request *r)
{
    struct blob_reader *reader;
    if (g->may_code) {
        int err = blobs_reader_open(app_blobs(r->app), app_txn(r->app), &g->info.digest, 0, g->info.size, &reader);
        if (err != 0) return err;
        err = choose_coding(g, r, reader);
        blobs_reader_close(reader);
        if (err != 0) return err;
    }
    put_head(g, r);
    reply_end(r);
    return 0;
}

// 0: answered, or an answer is under way, and *taken says whether that has `g`.
static int answer(struct get *g, struct request *r, bool *taken, struct problem *p)
{
    struct sha256 digest;
    struct span accept;
    int err = blob_path_digest(r, &digest, p);
    if (err == 0 && app_txn(r->app) == NULL) err = ERR_BUSY;
    if (err != 0) return err;
    err = blobs_look(app_blobs(r->app), app_txn(r->app), &digest, &g->info);
    if (err != 0) return err;
    err = blob_view_open(&g->view, r, &g->info, p);
    if (err != 0) return err;
    if (conditions(g, r)) return 0;
    if (choose_parts(g, r) != 0) {
        reply_unsatisfiable(r, g->info.size);
        return 0;
    }
    g->may_code = !g->partial && g->info.size >= CODED_MIN && request_header(r, "accept-encoding", &accept) && http_takes_coding(accept, "zstd");
    if (r->method == METHOD_HEAD || g->info.size == 0) return reply_head(g, r);
    *taken = true;
    blob_send_begin(&g->send, r, &get_ops);
    return 0;
}

static void get_begin(struct request *r)
{
    struct problem p = PROBLEM_NONE;
    struct get *g = calloc(1, sizeof *g);
    bool taken = false;
    int err = g == NULL ? ERR_NOMEM : answer(g, r, &taken, &p);
    if (g != NULL && !taken) get_free(&g->send);
    if (err == 0) return;
    problem_set(&p, err, -1, "%s", err_text(err));
    reply_problem(r, &p);
}

const struct handler api_blob_get = {.begin = get_begin, .drain = blob_send_drain, .done = blob_send_done};
const struct handler api_blob_head = {.begin = get_begin, .done = blob_send_done};
