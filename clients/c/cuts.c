#include "cuts.h"

#include <stdlib.h>

#include "blobs.h"
#include "crew.h"
#include "err.h"
#include "limits.h"

#define ROOM (BLOB_WINDOW + BLOB_CHUNK_MAX) // what is read at once, behind what no cut has ended yet

// The digest of the whole is as dear as all the rest: a helper has it meanwhile.
struct whole {
    struct digest *digest;
    struct span fresh;
};

static void hash_fresh(void *arg)
{
    struct whole *w = arg;
    digest_update(w->digest, w->fresh);
}

static int add_piece(struct cuts *c, uint64_t at, struct span content)
{
    if (c->count == c->room) {
        size_t room = c->room > 0 ? 2 * c->room : 256;
        struct piece *more = realloc(c->at, room * sizeof *more);
        if (more == NULL) return ERR_NOMEM;
        c->at = more;
        c->room = room;
    }
    c->at[c->count++] = (struct piece){.sha = sha256_of(content), .at = at, .length = (uint32_t)content.n};
    return 0;
}

// All chunks that end within the window; how many bytes these are.
static size_t cut_window(struct cuts *c, uint64_t at, struct span window, bool last, int *err)
{
    size_t done = 0;
    while (done < window.n && *err == 0) {
        struct span rest = span_sub(window, done, window.n);
        size_t n = blobs_cut(rest);
        if (n == rest.n && n < BLOB_CHUNK_MAX && !last) break; // perhaps no cut, but the window's end
        *err = add_piece(c, at + done, span_sub(rest, 0, n));
        done += n;
    }
    return done;
}

static int cut_all(struct cuts *c, struct source *source, uint8_t *room, struct crew *crew, struct digest *digest)
{
    struct whole whole = {.digest = digest};
    struct crew_task task = {0};
    size_t kept = 0;
    int err = 0;
    for (uint64_t read = 0; read < source->size && err == 0;) {
        size_t n;
        err = source_read(source, read, room + kept, BLOB_WINDOW, &n);
        if (err != 0) break;
        whole.fresh = SPAN(room + kept, n);
        crew_offer(crew, &task, hash_fresh, &whole);
        uint64_t at = read - kept;
        read += n;
        size_t done = cut_window(c, at, SPAN(room, kept + n), read == source->size, &err);
        crew_join(crew, &task);
        kept = kept + n - done;
        memmove(room, room + done, kept);
    }
    return err;
}

static int by_hash(const void *a, const void *b)
{
    const struct piece *const *x = a, *const *y = b;
    int c = memcmp((*x)->sha.b, (*y)->sha.b, SHA256_BYTES);
    return c != 0 ? c : (*x > *y) - (*x < *y);
}

static int find_same(struct cuts *c)
{
    struct piece **sorted = calloc(c->count + 1, sizeof(struct piece *));
    if (sorted == NULL) return ERR_NOMEM;
    for (size_t i = 0; i < c->count; i++)
        sorted[i] = &c->at[i];
    qsort(sorted, c->count, sizeof *sorted, by_hash);
    for (size_t i = 0; i < c->count; i++) {
        sorted[i]->same = i > 0 && sha256_equal(&sorted[i]->sha, &sorted[i - 1]->sha);
        if (!sorted[i]->same) c->distinct += sorted[i]->length;
    }
    free(sorted);
    return 0;
}

int cuts_make(struct cuts *c, struct source *source)
{
    uint8_t *room = malloc(ROOM);
    struct crew *crew = crew_new();
    struct digest *digest = digest_new();
    *c = (struct cuts){.count = 0};
    int err = room == NULL || crew == NULL || digest == NULL ? ERR_NOMEM : cut_all(c, source, room, crew, digest);
    if (err == 0) err = find_same(c);
    if (err == 0) {
        struct sha256 sum = digest_final(digest);
        hex_format(c->hex, SPAN(sum.b, SHA256_BYTES));
    }
    digest_free(digest);
    crew_free(crew);
    free(room);
    return err;
}

void cuts_free(struct cuts *c)
{
    free(c->at);
    *c = (struct cuts){.count = 0};
}
