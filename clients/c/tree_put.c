// segue_put_tree: a directory as a tree of blobs.
//
//    walk ─> digests of small files that are not known ─┬─> pin all that have one ── missing ─> send them, and large files ─┐
//                                                       └──────────────<───── until nothing is missing ───<─────────────────┘
//    ─> the tree's text: pin it ── missing ─> send it, pin it ─> done, remembered
//
// A pin of what is there is a question as well, so a file that the service has costs 70 bytes. Pinned is pinned: nothing that has been asked or
// sent goes away before the tree is there. A large file is read once for its digest and its chunks, when it is its turn to be sent.
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client.h"
#include "err.h"
#include "file.h"
#include "lanes.h"
#include "put.h"
#include "source.h"
#include "tree_pin.h"
#include "tree_state.h"

#define ROUNDS_MAX 5 // of pinning and sending; each but the first two because something went meanwhile

enum standing { UNKNOWN, KNOWN, MISSING, SENT, PINNED }; // KNOWN: its digest. SENT: and not pinned yet

struct put_tree {
    struct segue *client;
    const struct segue_put_tree_options *what;
    int root;
    struct walk walk;
    struct tree_state state;
    enum standing *standing; // of each entry
    size_t *todo, todo_count; // entries that lanes are at
    atomic_uint_least64_t done;
};

static struct tree_entry *entry(struct put_tree *p, size_t i)
{
    return &p->walk.tree.at[i];
}

static int no_memory(struct put_tree *p)
{
    return client_broken(p->client, ERR_NOMEM);
}

static void tell_progress(void *ctx)
{
    struct put_tree *p = ctx;
    uint64_t done = atomic_load(&p->done);
    if (p->what->progress != NULL) p->what->progress(p->what->ctx, done < p->walk.bytes ? done : p->walk.bytes, p->walk.bytes);
}

// ---- one file --------------------------------------------------------------------------------------------------------

// The file has to be what the walk saw. On SEGUE_OK the caller closes it.
static int open_file(struct put_tree *p, struct segue *lane, const struct tree_entry *e, int *fd)
{
    struct stat st;
    if (client_stopped(lane)) return client_canceled(lane);
    *fd = openat(p->root, e->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (*fd < 0 && errno == ENOENT) return put_changed(lane, e->path);
    if (*fd < 0 || fstat(*fd, &st) != 0) {
        int err = errno;
        file_close(*fd);
        return client_fail(lane, SEGUE_USAGE, err_from_errno(err), "%s: %s", e->path, strerror(err));
    }
    struct stamp now = stamp_of(&st);
    if (stamp_equal(&now, walk_stamp(&p->walk, e)) && (uint64_t)st.st_size == e->size) return SEGUE_OK;
    close(*fd);
    return put_changed(lane, e->path);
}

static int hash_file(struct segue *lane, void *ctx, size_t item)
{
    struct put_tree *p = ctx;
    struct tree_entry *e = entry(p, p->todo[item]);
    struct source source = {.fd = -1};
    size_t n = 0;
    int fd, result = open_file(p, lane, e, &fd);
    if (result != SEGUE_OK) return result;
    uint8_t *content = malloc((size_t)e->size + 1);
    int err = content == NULL ? ERR_NOMEM : source_open(&source, fd);
    if (err == 0) err = source_read(&source, 0, content, (size_t)e->size, &n);
    if (err == 0 && source_changed(&source)) err = ERR_DIGEST_MISMATCH;
    if (err == 0) e->sha = sha256_of(SPAN(content, n));
    if (err == 0) p->standing[p->todo[item]] = KNOWN;
    free(content);
    close(fd);
    return err == 0 ? SEGUE_OK : put_unreadable(lane, e->path, err);
}

struct sending {
    struct put_tree *all;
    uint64_t told;
};

static void take_progress(void *ctx, uint64_t done, uint64_t size)
{
    struct sending *f = ctx;
    (void)size;
    atomic_fetch_add(&f->all->done, done - f->told); // goes back where it begins anew
    f->told = done;
}

static int send_file(struct segue *lane, void *ctx, size_t item)
{
    struct put_tree *p = ctx;
    struct sending sending = {.all = p};
    size_t i = p->todo[item];
    struct tree_entry *e = entry(p, i);
    struct segue_blob blob;
    struct sha256 sha;
    int fd, result = open_file(p, lane, e, &fd);
    if (result != SEGUE_OK) return result;
    const struct segue_put_options what = {.fd = fd, .name = e->path, .progress = take_progress, .ctx = &sending};
    result = put_fd(lane, &what, PUT_SMALL_MAX, &blob);
    close(fd);
    if (result != SEGUE_OK) return result;
    if (hex_parse(sha.b, SHA256_BYTES, SPAN(blob.digest, SHA256_HEX)) != 0 || blob.size != e->size) return put_changed(lane, e->path);
    if (p->standing[i] == MISSING && !sha256_equal(&sha, &e->sha)) return put_changed(lane, e->path);
    e->sha = sha;
    p->standing[i] = SENT;
    take_progress(&sending, e->size, e->size);
    return SEGUE_OK;
}

// ---- all files -------------------------------------------------------------------------------------------------------

// What the last run knows by its stamp is not read again.
static void know_again(struct put_tree *p)
{
    size_t k = 0;
    for (size_t i = 0; i < p->walk.tree.count; i++) {
        struct tree_entry *e = entry(p, i);
        while (k < p->state.tree.count && tree_compare(p->state.tree.at[k].path, e->path) < 0)
            k++;
        const struct tree_entry *was = k < p->state.tree.count ? &p->state.tree.at[k] : NULL;
        if (was == NULL || e->kind != TREE_FILE || was->kind != TREE_FILE || strcmp(was->path, e->path) != 0 || was->size != e->size) continue;
        if (!stamp_equal((const struct stamp *)p->state.stamps.p + was->note, walk_stamp(&p->walk, e))) continue;
        e->sha = was->sha;
        p->standing[i] = KNOWN;
    }
}

static int hash_small(struct put_tree *p)
{
    p->todo_count = 0;
    for (size_t i = 0; i < p->walk.tree.count; i++) {
        const struct tree_entry *e = entry(p, i);
        if (e->kind == TREE_FILE && p->standing[i] == UNKNOWN && e->size <= PUT_SMALL_MAX) p->todo[p->todo_count++] = i;
    }
    const struct lanes_work work = {.items = p->todo_count, .lanes = LANES_MAX, .run = hash_file, .ctx = p};
    return lanes_run(p->client, &work);
}

struct known {
    struct sha256 sha;
    size_t entry;
};

static int by_sha(const void *a, const void *b)
{
    const struct known *x = a, *y = b;
    int c = memcmp(x->sha.b, y->sha.b, SHA256_BYTES);
    return c != 0 ? c : (x->entry > y->entry) - (x->entry < y->entry);
}

// Asks about each digest once, and notes the answer at all files that have it: the first of those that are missing is the one to send.
static int pin_sorted(struct put_tree *p, const struct known *known, size_t n, struct sha256 *distinct, bool *missing)
{
    size_t count = 0;
    for (size_t k = 0; k < n; k++)
        if (k == 0 || !sha256_equal(&known[k].sha, &known[k - 1].sha)) distinct[count++] = known[k].sha;
    int result = pins_set(p->client, distinct, count, true, missing);
    if (result != SEGUE_OK) return result;
    count = 0;
    for (size_t k = 0; k < n; k++) {
        bool first = k == 0 || !sha256_equal(&known[k].sha, &known[k - 1].sha);
        if (first) count++;
        enum standing *standing = &p->standing[known[k].entry], was = *standing;
        *standing = !missing[count - 1] ? PINNED : first ? MISSING : KNOWN;
        if (*standing == PINNED && was != SENT) atomic_fetch_add(&p->done, entry(p, known[k].entry)->size);
    }
    return SEGUE_OK;
}

static int pin_known(struct put_tree *p)
{
    size_t n = 0, room = p->walk.tree.count + 1;
    struct known *known = calloc(room, sizeof *known);
    struct sha256 *distinct = calloc(room, sizeof *distinct);
    bool *missing = calloc(room, sizeof *missing);
    bool ok = known != NULL && distinct != NULL && missing != NULL;
    for (size_t i = 0; ok && i < p->walk.tree.count; i++)
        if (entry(p, i)->kind == TREE_FILE && (p->standing[i] == KNOWN || p->standing[i] == SENT))
            known[n++] = (struct known){entry(p, i)->sha, i};
    if (ok && n > 0) qsort(known, n, sizeof *known, by_sha);
    int result = ok ? pin_sorted(p, known, n, distinct, missing) : no_memory(p);
    free(missing);
    free(distinct);
    free(known);
    return result;
}

static int send_missing(struct put_tree *p)
{
    p->todo_count = 0;
    for (size_t i = 0; i < p->walk.tree.count; i++)
        if (entry(p, i)->kind == TREE_FILE && (p->standing[i] == UNKNOWN || p->standing[i] == MISSING)) p->todo[p->todo_count++] = i;
    const struct lanes_work work = {.items = p->todo_count, .lanes = LANES_MAX, .run = send_file, .tick = tell_progress, .ctx = p};
    return lanes_run(p->client, &work);
}

static bool all_pinned(struct put_tree *p)
{
    for (size_t i = 0; i < p->walk.tree.count; i++)
        if (entry(p, i)->kind == TREE_FILE && p->standing[i] != PINNED) return false;
    return true;
}

static int bring_files(struct put_tree *p)
{
    int result = hash_small(p);
    for (int round = 0; round < ROUNDS_MAX && result == SEGUE_OK; round++) {
        result = pin_known(p);
        if (result == SEGUE_OK && all_pinned(p)) return SEGUE_OK;
        if (result == SEGUE_OK) result = send_missing(p);
    }
    if (result != SEGUE_OK) return result;
    return client_fail(p->client, SEGUE_REFUSED, ERR_NO_SUCH_BLOB, "the service takes files away as quickly as they come");
}

// ---- the tree --------------------------------------------------------------------------------------------------------

// Of a text of any size what has changed is sent, as of any other file.
static int send_text(struct put_tree *p, struct span text)
{
    struct segue_blob blob;
    int fd = memfd_create("segue-tree", MFD_CLOEXEC);
    if (fd < 0) return client_broken(p->client, err_from_errno(errno));
    int err = file_write(fd, text, 0);
    const struct segue_put_options what = {.fd = fd, .name = "the tree", .type = SEGUE_TREE_TYPE};
    int result = err != 0 ? client_broken(p->client, err) : put_fd(p->client, &what, BLOB_CHUNK_MAX, &blob);
    close(fd);
    return result;
}

static int bring_tree(struct put_tree *p, struct segue_blob *tree)
{
    struct buf text;
    bool missing = true;
    buf_init(&text, TREE_BYTES_MAX);
    tree_encode(&p->walk.tree, &text);
    int result = SEGUE_OK;
    if (text.err == ERR_TOO_LARGE) result = client_fail(p->client, SEGUE_USAGE, text.err, "%s: a tree's text has at most %zu bytes", p->what->path, TREE_BYTES_MAX);
    else if (text.err != 0) result = no_memory(p);
    struct sha256 sha = sha256_of(buf_span(&text));
    for (int round = 0; round < ROUNDS_MAX && missing && result == SEGUE_OK; round++) {
        if (round > 0) result = send_text(p, buf_span(&text));
        if (result == SEGUE_OK) result = pins_set(p->client, &sha, 1, true, &missing);
    }
    if (result == SEGUE_OK && missing) result = client_fail(p->client, SEGUE_REFUSED, ERR_NO_SUCH_BLOB, "%s", err_text(ERR_NO_SUCH_BLOB));
    hex_format(tree->digest, SPAN(sha.b, SHA256_BYTES));
    tree->digest[SHA256_HEX] = 0;
    tree->size = text.n;
    buf_free(&text);
    return result;
}

static bool same_thing(const struct tree_entry *a, const struct tree_entry *b)
{
    if (a->kind != b->kind || a->mode != b->mode) return false;
    if (a->kind == TREE_FILE) return a->size == b->size && sha256_equal(&a->sha, &b->sha);
    return a->kind != TREE_LINK || strcmp(a->target, b->target) == 0;
}

static void tell_changes(struct put_tree *p)
{
    const struct tree *was = &p->state.tree, *is = &p->walk.tree;
    if (p->what->on_change == NULL) return;
    for (size_t i = 0, k = 0; i < is->count || k < was->count;) {
        int c = i == is->count ? 1 : k == was->count ? -1 : tree_compare(is->at[i].path, was->at[k].path);
        if (c < 0) p->what->on_change(p->what->ctx, 'A', is->at[i].path);
        if (c > 0) p->what->on_change(p->what->ctx, 'D', was->at[k].path);
        if (c == 0 && !same_thing(&is->at[i], &was->at[k])) p->what->on_change(p->what->ctx, 'M', is->at[i].path);
        i += c <= 0;
        k += c >= 0;
    }
}

static int put_walked(struct put_tree *p, int64_t began_ns, struct segue_blob *tree)
{
    p->standing = calloc(p->walk.tree.count + 1, sizeof *p->standing);
    p->todo = calloc(p->walk.tree.count + 1, sizeof *p->todo);
    if (p->standing == NULL || p->todo == NULL) return no_memory(p);
    know_again(p);
    int result = bring_files(p);
    if (result == SEGUE_OK) result = bring_tree(p, tree);
    if (result != SEGUE_OK) return result;
    tell_progress(p);
    for (size_t i = 0; i < p->walk.tree.count; i++)
        if (entry(p, i)->kind == TREE_FILE) stamp_settle(walk_stamp(&p->walk, entry(p, i)), began_ns);
    tell_changes(p);
    tree_state_save(&p->state, &p->walk);
    return SEGUE_OK;
}

static int put_root(struct put_tree *p, struct segue_blob *tree)
{
    const struct segue_put_tree_options *what = p->what;
    int64_t began_ns = (int64_t)clock_wall_ms() * 1000000;
    p->walk = (struct walk){.on_skip = what->on_skip, .ctx = what->ctx};
    p->state.lock = -1;
    if (what->remember) tree_state_open(&p->state, p->client, what->path);
    int err = walk_dir(&p->walk, p->root), result;
    if (err == ERR_BAD_VALUE)
        result = client_fail(p->client, SEGUE_USAGE, err, "%s/%s: a tree cannot have a path like this", what->path, p->walk.path);
    else if (err != 0)
        result = client_fail(p->client, SEGUE_USAGE, err, "%s/%s: %s", what->path, p->walk.path, err_text(err));
    else
        result = put_walked(p, began_ns, tree);
    tree_state_close(&p->state);
    walk_free(&p->walk);
    free(p->standing);
    free(p->todo);
    return result;
}

int segue_put_tree(struct segue *s, const struct segue_put_tree_options *what, struct segue_blob *tree)
{
    struct put_tree p = {.client = s, .what = what};
    assert(what->path != NULL);
    client_begin(s);
    p.root = open(what->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (p.root < 0) return client_fail(s, SEGUE_USAGE, err_from_errno(errno), "%s: %s", what->path, strerror(errno));
    int result = put_root(&p, tree);
    close(p.root);
    s->answered = false;
    return result;
}
