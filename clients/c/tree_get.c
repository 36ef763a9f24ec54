// segue_get_tree: a tree of blobs as a directory.
//
//    the text ─> directories ─> files, over several connections, each complete in TREE_PART before it gets its name ─> links ─> modes
//
// Everything is done below the directory's descriptor, name by name, without following a link; and a tree has nothing below what is no
// directory of its own. So neither a hostile tree nor a link that lies about in the directory leads out of it.
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "client.h"
#include "err.h"
#include "lanes.h"
#include "limits.h"
#include "source.h"
#include "tree_pin.h"

#define PATH_TEXT 4096

struct get_tree {
    struct segue *client;
    const struct segue_get_tree_options *what;
    int root, parts; // directories
    struct tree tree;
    size_t *files, file_count; // entries
    uint64_t size;
    atomic_uint_least64_t done;
};

static int failed(struct segue *s, const struct get_tree *g, const char *path)
{
    int err = errno;
    return client_fail(s, SEGUE_USAGE, err_from_errno(err), "%s/%s: %s", g->what->path, path, strerror(err));
}

// ---- places ----------------------------------------------------------------------------------------------------------

// The directory that the path lies in; *name is the rest. -1: errno says why.
static int open_parent(int root, const char *path, const char **name)
{
    char step[256];
    int fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (const char *slash; fd >= 0 && (slash = strchr(path, '/')) != NULL; path = slash + 1) {
        snprintf(step, sizeof step, "%.*s", (int)(slash - path), path); // a tree's names fit
        int inner = openat(fd, step, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int err = errno;
        close(fd);
        errno = err;
        fd = inner;
    }
    *name = path;
    return fd;
}

static int make_dir(struct get_tree *g, const struct tree_entry *e)
{
    const char *name;
    int parent = open_parent(g->root, e->path, &name), fd = -1;
    if (parent < 0) return failed(g->client, g, e->path);
    bool ok = mkdirat(parent, name, 0700) == 0 || errno == EEXIST;
    if (ok) fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    ok = fd >= 0 && fchmod(fd, e->mode | 0700) == 0; // its own mode comes when all is in it
    int result = ok ? SEGUE_OK : failed(g->client, g, e->path);
    if (fd >= 0) close(fd);
    close(parent);
    return result;
}

static int make_link(struct get_tree *g, const struct tree_entry *e)
{
    const char *name;
    char there[TREE_PATH_MAX + 1];
    int parent = open_parent(g->root, e->path, &name);
    if (parent < 0) return failed(g->client, g, e->path);
    ssize_t n = readlinkat(parent, name, there, sizeof there);
    bool same = n >= 0 && (size_t)n == strlen(e->target) && memcmp(there, e->target, (size_t)n) == 0;
    bool ok = same || ((unlinkat(parent, name, 0) == 0 || errno == ENOENT) && symlinkat(e->target, parent, name) == 0);
    int result = ok ? SEGUE_OK : failed(g->client, g, e->path);
    close(parent);
    return result;
}

// ---- files -----------------------------------------------------------------------------------------------------------

// Whether the file is there already, as the tree has it but for its mode. *fd is it then.
static bool is_there(int parent, const char *name, const struct tree_entry *e, int *fd)
{
    uint8_t piece[64 * KIB];
    struct source source = {.fd = -1};
    struct digest *d = digest_new();
    *fd = openat(parent, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    bool same = d != NULL && *fd >= 0 && fstat(*fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == e->size &&
                source_open(&source, *fd) == 0;
    size_t n = 0;
    for (uint64_t at = 0; same && at < e->size; at += n) {
        same = source_read(&source, at, piece, sizeof piece, &n) == 0;
        if (same) digest_update(d, SPAN(piece, n));
    }
    struct sha256 sum = {{0}};
    if (same) sum = digest_final(d);
    digest_free(d);
    if (same && sha256_equal(&sum, &e->sha)) return true;
    if (*fd >= 0) close(*fd);
    return false;
}

struct fetching {
    struct get_tree *all;
    uint64_t told;
};

static void take_progress(void *ctx, uint64_t done, uint64_t size)
{
    struct fetching *f = ctx;
    (void)size;
    atomic_fetch_add(&f->all->done, done - f->told);
    f->told = done;
}

// Two files may have the same content: the entry's place keeps them apart, and is the same in the next run.
static int fetch(struct get_tree *g, struct segue *lane, size_t i, char part[100])
{
    char hex[SHA256_HEX + 1], path[PATH_TEXT];
    struct fetching fetching = {.all = g};
    const struct tree_entry *e = &g->tree.at[i];
    hex_format(hex, SPAN(e->sha.b, SHA256_BYTES));
    hex[SHA256_HEX] = 0;
    snprintf(part, 100, "%.64s-%zu", hex, i);
    if (snprintf(path, sizeof path, "%s/" TREE_PART "/%s", g->what->path, part) >= (int)sizeof path)
        return client_fail(lane, SEGUE_USAGE, ERR_USAGE, "the name of the directory is too long");
    const struct segue_get_options what = {.digest = hex, .path = path, .progress = take_progress, .ctx = &fetching};
    int result = segue_get(lane, &what);
    if (result == SEGUE_OK) take_progress(&fetching, e->size, e->size);
    return result;
}

static int place_file(struct get_tree *g, struct segue *lane, size_t i, int parent, const char *name)
{
    const struct tree_entry *e = &g->tree.at[i];
    char part[100];
    int fd;
    bool ok = is_there(parent, name, e, &fd);
    if (ok) {
        atomic_fetch_add(&g->done, e->size);
        int result = fchmod(fd, e->mode) == 0 ? SEGUE_OK : failed(lane, g, e->path);
        close(fd);
        return result;
    }
    int result = fetch(g, lane, i, part);
    if (result != SEGUE_OK) return result;
    fd = openat(g->parts, part, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    ok = fd >= 0 && fchmod(fd, e->mode) == 0 && renameat(g->parts, part, parent, name) == 0;
    result = ok ? SEGUE_OK : failed(lane, g, e->path);
    if (fd >= 0) close(fd);
    return result;
}

static int get_file(struct segue *lane, void *ctx, size_t item)
{
    struct get_tree *g = ctx;
    const char *name;
    size_t i = g->files[item];
    if (client_stopped(lane)) return client_canceled(lane);
    int parent = open_parent(g->root, g->tree.at[i].path, &name);
    if (parent < 0) return failed(lane, g, g->tree.at[i].path);
    int result = place_file(g, lane, i, parent, name);
    close(parent);
    return result;
}

static void tell_progress(void *ctx)
{
    struct get_tree *g = ctx;
    uint64_t done = atomic_load(&g->done);
    if (g->what->progress != NULL) g->what->progress(g->what->ctx, done < g->size ? done : g->size, g->size);
}

// ---- the tree --------------------------------------------------------------------------------------------------------

static int each(struct get_tree *g, enum tree_kind kind, int (*make)(struct get_tree *g, const struct tree_entry *e))
{
    int result = SEGUE_OK;
    for (size_t i = 0; i < g->tree.count && result == SEGUE_OK; i++)
        if (g->tree.at[i].kind == kind) result = make(g, &g->tree.at[i]);
    return result;
}

static int get_files(struct get_tree *g)
{
    g->files = calloc(g->tree.count + 1, sizeof *g->files);
    if (g->files == NULL) return client_broken(g->client, ERR_NOMEM);
    for (size_t i = 0; i < g->tree.count; i++) {
        if (g->tree.at[i].kind != TREE_FILE) continue;
        g->files[g->file_count++] = i;
        g->size += g->tree.at[i].size;
    }
    const struct lanes_work work = {.items = g->file_count, .lanes = LANES_MAX, .run = get_file, .tick = tell_progress, .ctx = g};
    return lanes_run(g->client, &work);
}

// What is in a directory comes behind it, so from the end: one that may not be written to is whole by then.
static int set_modes(struct get_tree *g)
{
    int result = SEGUE_OK;
    for (size_t i = g->tree.count; i-- > 0 && result == SEGUE_OK;) {
        const struct tree_entry *e = &g->tree.at[i];
        const char *name;
        if (e->kind != TREE_DIR) continue;
        int parent = open_parent(g->root, e->path, &name);
        int fd = parent < 0 ? -1 : openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fchmod(fd, e->mode) != 0) result = failed(g->client, g, e->path);
        if (fd >= 0) close(fd);
        if (parent >= 0) close(parent);
    }
    return result;
}

static int fill(struct get_tree *g)
{
    int result = each(g, TREE_DIR, make_dir);
    if (result == SEGUE_OK) result = get_files(g);
    if (result == SEGUE_OK) result = each(g, TREE_LINK, make_link);
    if (result == SEGUE_OK) result = set_modes(g);
    return result;
}

// With what a run of another tree left there.
static void remove_parts(struct get_tree *g)
{
    DIR *dir = fdopendir(openat(g->parts, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const struct dirent *e;
    while (dir != NULL && (e = readdir(dir)) != NULL)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) unlinkat(g->parts, e->d_name, 0);
    if (dir != NULL) closedir(dir);
}

static int get_into(struct get_tree *g)
{
    if (mkdirat(g->root, TREE_PART, 0700) != 0 && errno != EEXIST) return failed(g->client, g, TREE_PART);
    g->parts = openat(g->root, TREE_PART, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (g->parts < 0) return failed(g->client, g, TREE_PART);
    int result = fill(g);
    if (result == SEGUE_OK) remove_parts(g);
    close(g->parts);
    unlinkat(g->root, TREE_PART, AT_REMOVEDIR);
    return result;
}

int segue_get_tree(struct segue *s, const struct segue_get_tree_options *what)
{
    struct get_tree g = {.client = s, .what = what, .root = -1};
    assert(what->path != NULL && what->digest != NULL);
    client_begin(s);
    int result = tree_fetch(s, what->digest, &g.tree);
    if (result == SEGUE_OK) {
        bool made = mkdir(what->path, 0777) == 0 || errno == EEXIST;
        g.root = made ? open(what->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
        result = g.root >= 0 ? get_into(&g) : failed(s, &g, "");
    }
    if (g.root >= 0) close(g.root);
    free(g.files);
    tree_free(&g.tree);
    return result;
}

int segue_is_tree(struct segue *s, const char *digest, bool *is)
{
    char path[16 + SHA256_HEX];
    struct sha256 sha;
    client_begin(s);
    if (hex_parse(sha.b, SHA256_BYTES, SPAN_STR(digest)) != 0)
        return client_fail(s, SEGUE_USAGE, ERR_USAGE, "a digest is 64 hexadecimal digits");
    snprintf(path, sizeof path, "blobs/%.64s", digest);
    const struct http_request request = {.method = "HEAD", .path = path};
    int result = client_ask(s, &request);
    if (result == SEGUE_OK) *is = http_status(s->http) == 200 && span_is(http_header(s->http, "Content-Type"), SEGUE_TREE_TYPE);
    return result;
}
