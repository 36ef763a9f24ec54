#include "image.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR 512
#define PIECE 65536 // of writing an image; pieces of zeros are left out

// A change to a file that no barrier has covered.
struct change {
    uint64_t offset;
    uint64_t length;
    const uint8_t *bytes; // in the log; NULL: zeros (cut off by a smaller size)
    uint64_t size;        // of the file after it
};

struct entry {
    char *name;
    struct node *node;
};

struct entries {
    struct entry *at;
    size_t count, room;
};

// A folder's names as they are durable, as the program sees them, and as the image being built has them.
enum view { DURABLE, CURRENT, BUILT, VIEWS };

struct node {
    bool folder;
    uint32_t id;   // a file's
    uint32_t refs; // entries and name changes that point here; at 0 a file can never be seen again
    struct entries names[VIEWS];
    uint32_t ops, ops_taken; // while building: changes of names pending here, and how many of them happen
    uint8_t *content;        // durable; `room` bytes, zeros behind `size`
    uint64_t size, room;
    uint64_t size_now; // as the program sees it
    struct change *changes;
    size_t change_count, change_room;
};

// A change of names that no barrier has covered.
struct name_op {
    enum { OP_ADD, OP_REMOVE, OP_MOVE } kind;
    struct node *from; // the folder (of the old name, in a move)
    struct node *to;   // the folder of the new name; else the same
    char *name, *new_name;
    struct node *node; // what the name stands for; NULL in a removal
    bool marked;
};

struct image {
    struct disk_log *log;
    uint64_t position;
    bool insane;
    struct node *root;
    struct node **files; // by id
    size_t file_room;
    struct node **nodes; // all
    size_t node_count, node_room;
    struct name_op *ops;
    size_t op_count, op_room;
};

static void *grown(void *p, size_t *room, size_t need, size_t each)
{
    if (need <= *room) return p;
    while (*room < need)
        *room = *room == 0 ? 16 : 2 * *room;
    p = reallocarray(p, *room, each);
    if (p == NULL) abort();
    return p;
}

// ---- nodes and names -------------------------------------------------------------------------------------------

static struct node *node_new(struct image *m, bool folder)
{
    struct node *n = calloc(1, sizeof *n);
    if (n == NULL) abort();
    n->folder = folder;
    m->nodes = grown(m->nodes, &m->node_room, m->node_count + 1, sizeof *m->nodes);
    return m->nodes[m->node_count++] = n;
}

static void node_unref(struct node *n)
{
    if (n == NULL) return;
    assert(n->refs > 0);
    if (--n->refs > 0 || n->folder) return;
    free(n->content);
    free(n->changes);
    n->content = NULL;
    n->changes = NULL;
    n->change_count = n->change_room = 0;
    n->size = n->room = 0;
}

static struct entry *entry_find(const struct entries *e, const char *name)
{
    for (size_t i = 0; i < e->count; i++) {
        if (strcmp(e->at[i].name, name) == 0) return &e->at[i];
    }
    return NULL;
}

static void entry_remove(struct entries *e, const char *name)
{
    struct entry *found = entry_find(e, name);
    if (found == NULL) return;
    struct entry gone = *found;
    *found = e->at[--e->count];
    free(gone.name);
    node_unref(gone.node);
}

static void entry_set(struct entries *e, const char *name, struct node *node)
{
    node->refs++;
    entry_remove(e, name);
    e->at = grown(e->at, &e->room, e->count + 1, sizeof *e->at);
    e->at[e->count++] = (struct entry){strdup(name), node};
}

static void entries_clear(struct entries *e)
{
    while (e->count > 0)
        entry_remove(e, e->at[0].name);
}

// The folder of a path as the program sees it, and the path's last part; NULL: there is no such folder.
static struct node *folder_of(struct image *m, const char *path, const char **last)
{
    struct node *at = m->root;
    for (const char *slash = strchr(path, '/'); slash != NULL && at != NULL; slash = strchr(path, '/')) {
        char part[NAME_MAX + 1];
        snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
        struct entry *e = entry_find(&at->names[CURRENT], part);
        at = e != NULL && e->node->folder ? e->node : NULL;
        path = slash + 1;
    }
    *last = path;
    return at;
}

static struct node *node_at(struct image *m, const char *path)
{
    const char *last;
    if (path[0] == '\0') return m->root;
    struct node *folder = folder_of(m, path, &last);
    struct entry *e = folder == NULL ? NULL : entry_find(&folder->names[CURRENT], last);
    return e == NULL ? NULL : e->node;
}

static void op_apply(const struct name_op *op, enum view view)
{
    if (op->kind != OP_ADD) entry_remove(&op->from->names[view], op->name);
    if (op->kind == OP_ADD) entry_set(&op->to->names[view], op->name, op->node);
    if (op->kind == OP_MOVE) entry_set(&op->to->names[view], op->new_name, op->node);
}

static void op_add(struct image *m, struct name_op op)
{
    op.name = strdup(op.name);
    op.new_name = op.new_name == NULL ? NULL : strdup(op.new_name);
    if (op.node != NULL) op.node->refs++;
    m->ops = grown(m->ops, &m->op_room, m->op_count + 1, sizeof *m->ops);
    m->ops[m->op_count++] = op;
    op_apply(&op, CURRENT);
}

static void op_free(struct name_op *op)
{
    free(op->name);
    free(op->new_name);
    node_unref(op->node);
}

// Of the changes of a folder, and of those in other folders that came before a move between the two, everything becomes durable.
static void folder_synced(struct image *m, struct node *folder)
{
    size_t kept = 0;
    for (size_t i = 0; i < m->node_count; i++)
        m->nodes[i]->ops = m->nodes[i] == folder;
    for (size_t i = m->op_count; i-- > 0;) {
        struct name_op *op = &m->ops[i];
        op->marked = op->from->ops != 0 || op->to->ops != 0;
        if (op->marked) op->from->ops = op->to->ops = 1;
    }
    for (size_t i = 0; i < m->op_count; i++) {
        struct name_op op = m->ops[i];
        if (!op.marked) {
            m->ops[kept++] = op;
            continue;
        }
        op_apply(&op, DURABLE);
        op_free(&op);
    }
    m->op_count = kept;
}

// ---- contents --------------------------------------------------------------------------------------------------

static void content_put(struct node *f, uint64_t offset, const uint8_t *bytes, uint64_t length)
{
    if (length == 0) return;
    if (offset + length > f->room) {
        uint64_t room = (offset + length + PIECE - 1) / PIECE * PIECE;
        if (room < 2 * f->room && f->room < (64u << 20)) room = 2 * f->room;
        f->content = realloc(f->content, room);
        if (f->content == NULL) abort();
        memset(f->content + f->room, 0, room - f->room);
        f->room = room;
    }
    if (bytes == NULL)
        memset(f->content + offset, 0, length);
    else
        memcpy(f->content + offset, bytes, length);
}

static void change_add(struct node *f, uint64_t offset, const uint8_t *bytes, uint64_t length, uint64_t size)
{
    if (f->refs == 0) return;
    f->changes = grown(f->changes, &f->change_room, f->change_count + 1, sizeof *f->changes);
    f->changes[f->change_count++] = (struct change){.offset = offset, .length = length, .bytes = bytes, .size = size};
    f->size_now = size;
}

static void file_write(struct node *f, const struct disk_record *r)
{
    uint64_t end = r->offset + r->length;
    change_add(f, r->offset, r->bytes, r->length, end > f->size_now ? end : f->size_now);
}

static void file_resize(struct node *f, uint64_t size)
{
    uint64_t cut = size < f->size_now ? f->size_now - size : 0;
    change_add(f, size, NULL, cut, size);
}

static void file_synced(struct node *f)
{
    if (f->refs == 0) return;
    for (size_t i = 0; i < f->change_count; i++)
        content_put(f, f->changes[i].offset, f->changes[i].bytes, f->changes[i].length);
    f->size = f->size_now;
    f->change_count = 0;
}

static const uint8_t *later(const uint8_t *bytes, uint64_t n)
{
    return bytes == NULL ? NULL : bytes + n;
}

// A barrier for the bytes [from, to) alone: in the sectors they lie in, everything so far becomes durable. The size does
// too: there is but one.
static void range_synced(struct node *f, uint64_t from, uint64_t to)
{
    size_t n = f->change_count;
    struct change *old = f->changes;
    from = from / SECTOR * SECTOR;
    to = (to + SECTOR - 1) / SECTOR * SECTOR;
    f->changes = NULL;
    f->change_count = f->change_room = 0;
    f->size = f->size_now;
    for (size_t i = 0; i < n; i++) {
        struct change c = old[i];
        uint64_t end = c.offset + c.length, a = c.offset > from ? c.offset : from, b = end < to ? end : to;
        if (a >= b) a = b = end; // all of it is elsewhere
        content_put(f, a, later(c.bytes, a - c.offset), b - a);
        if (a > c.offset) change_add(f, c.offset, c.bytes, a - c.offset, f->size);
        if (end > b) change_add(f, b, later(c.bytes, b - c.offset), end - b, f->size);
    }
    free(old);
}

static void file_write_sync(struct node *f, const struct disk_record *r)
{
    if (f->refs == 0) return;
    file_write(f, r);
    range_synced(f, r->offset, r->offset + r->length);
}

// ---- records ---------------------------------------------------------------------------------------------------

static struct node *file_at(struct image *m, uint32_t id)
{
    return id < m->file_room ? m->files[id] : NULL;
}

static struct node *file_born(struct image *m, uint32_t id)
{
    size_t room = m->file_room;
    m->files = grown(m->files, &m->file_room, (size_t)id + 1, sizeof *m->files);
    memset(m->files + room, 0, (m->file_room - room) * sizeof *m->files);
    struct node *f = m->files[id] = node_new(m, false);
    f->id = id;
    return f;
}

static bool name_found(struct image *m, const char *path, struct node *node)
{
    const char *last;
    struct node *folder = folder_of(m, path, &last);
    if (folder == NULL) return false;
    entry_set(&folder->names[DURABLE], last, node);
    entry_set(&folder->names[CURRENT], last, node);
    return true;
}

static bool name_added(struct image *m, const char *path, struct node *node)
{
    const char *last;
    struct node *folder = folder_of(m, path, &last);
    if (folder == NULL) return false;
    op_add(m, (struct name_op){.kind = OP_ADD, .from = folder, .to = folder, .name = (char *)last, .node = node});
    return true;
}

static bool name_removed(struct image *m, const char *path)
{
    const char *last;
    struct node *folder = folder_of(m, path, &last);
    if (folder == NULL) return false;
    op_add(m, (struct name_op){.kind = OP_REMOVE, .from = folder, .to = folder, .name = (char *)last});
    return true;
}

static bool name_moved(struct image *m, const char *from, const char *to)
{
    const char *last_from, *last_to;
    struct node *a = folder_of(m, from, &last_from), *b = folder_of(m, to, &last_to), *node = node_at(m, from);
    if (a == NULL || b == NULL || node == NULL) return false;
    op_add(m, (struct name_op){.kind = OP_MOVE, .from = a, .to = b, .name = (char *)last_from, .new_name = (char *)last_to, .node = node});
    return true;
}

static bool file_record(struct image *m, const struct disk_record *r)
{
    struct node *f = file_at(m, r->file);
    if (f == NULL) return false;
    switch (r->kind) {
    case DISK_LOG_FOUND_DATA: content_put(f, r->offset, r->bytes, r->length); break;
    case DISK_LOG_WRITE: file_write(f, r); break;
    case DISK_LOG_WRITE_SYNC: file_write_sync(f, r); break;
    case DISK_LOG_SIZE: file_resize(f, r->offset); break;
    default: file_synced(f); break;
    }
    return true;
}

static bool apply(struct image *m, const struct disk_record *r)
{
    char path[2 * PATH_MAX];
    struct node *n;
    size_t length = r->length < sizeof path - 1 ? r->length : sizeof path - 1;
    memcpy(path, r->bytes, length);
    path[length] = '\0';
    switch (r->kind) {
    case DISK_LOG_FOUND:
        n = file_born(m, r->file);
        n->size = n->size_now = r->offset;
        return name_found(m, path, n);
    case DISK_LOG_FOUND_DIR: return name_found(m, path, node_new(m, true));
    case DISK_LOG_CREATE: return name_added(m, path, file_born(m, r->file));
    case DISK_LOG_MKDIR: return name_added(m, path, node_new(m, true));
    case DISK_LOG_UNLINK:
    case DISK_LOG_RMDIR: return name_removed(m, path);
    case DISK_LOG_RENAME: return name_moved(m, path, path + strlen(path) + 1);
    case DISK_LOG_DIR_SYNC:
        n = node_at(m, path);
        if (n != NULL) folder_synced(m, n);
        return n != NULL;
    case DISK_LOG_SOCKET:
    case DISK_LOG_SEND:
    case DISK_LOG_MARK: return true;
    default: return file_record(m, r);
    }
}

struct image *image_open(const char *log)
{
    struct image *m = calloc(1, sizeof *m);
    if (m == NULL) abort();
    m->log = disk_log_open(log);
    if (m->log == NULL) {
        free(m);
        return NULL;
    }
    m->root = node_new(m, true);
    m->root->refs = 1;
    return m;
}

void image_close(struct image *m)
{
    if (m == NULL) return;
    for (size_t i = 0; i < m->op_count; i++)
        op_free(&m->ops[i]);
    for (size_t i = 0; i < m->node_count; i++) {
        for (int v = 0; v < VIEWS; v++)
            entries_clear(&m->nodes[i]->names[v]);
    }
    for (size_t i = 0; i < m->node_count; i++) {
        struct node *n = m->nodes[i];
        for (int v = 0; v < VIEWS; v++)
            free(n->names[v].at);
        free(n->content);
        free(n->changes);
        free(n);
    }
    free(m->nodes);
    free(m->files);
    free(m->ops);
    disk_log_close(m->log);
    free(m);
}

bool image_step(struct image *m, struct disk_record *out)
{
    struct disk_record r;
    if (!disk_log_next(m->log, &r)) return false;
    if (!apply(m, &r)) m->insane = true;
    m->position++;
    if (out != NULL) *out = r;
    return true;
}

bool image_advance(struct image *m, uint64_t position)
{
    assert(position >= m->position);
    while (m->position < position && image_step(m, NULL))
        continue;
    return !m->insane;
}

uint64_t image_position(const struct image *m)
{
    return m->position;
}

bool image_sane(const struct image *m)
{
    return !m->insane;
}

// ---- building --------------------------------------------------------------------------------------------------

struct build {
    struct image *m;
    uint64_t random;
    enum image_mode mode;
    struct image_report report;
};

static uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

// How many of `n` changes in a row happen. `bias` in percent: how often all or none of them do.
static uint32_t taken(struct build *b, uint64_t *random, uint32_t n, uint32_t none, uint32_t all)
{
    if (b->mode == IMAGE_ALL) return n;
    if (b->mode == IMAGE_NONE) return 0;
    uint32_t dice = (uint32_t)(random_next(random) % 100);
    if (dice < none) return 0;
    if (dice < none + all) return n;
    return (uint32_t)(random_next(random) % (n + 1));
}

// Which name changes happen: in each folder some number of them in order, and one between two folders only if it is
// next in both.
static void names_build(struct build *b)
{
    struct image *m = b->m;
    for (size_t i = 0; i < m->node_count; i++) {
        struct node *n = m->nodes[i];
        n->ops = 0;
        entries_clear(&n->names[BUILT]);
        for (size_t k = 0; k < n->names[DURABLE].count; k++) {
            entry_set(&n->names[BUILT], n->names[DURABLE].at[k].name, n->names[DURABLE].at[k].node);
        }
    }
    for (size_t i = 0; i < m->op_count; i++) {
        m->ops[i].to->ops++;
        if (m->ops[i].from != m->ops[i].to) m->ops[i].from->ops++;
    }
    for (size_t i = 0; i < m->node_count; i++) {
        struct node *n = m->nodes[i];
        if (n->ops > 0) n->ops_taken = taken(b, &b->random, n->ops, 25, 25);
    }
    for (size_t i = 0; i < m->op_count; i++) {
        struct name_op *op = &m->ops[i];
        bool happens = op->from->ops_taken > 0 && op->to->ops_taken > 0;
        b->report.unsynced_names++;
        if (happens) {
            op_apply(op, BUILT);
            op->to->ops_taken--;
            if (op->from != op->to) op->from->ops_taken--;
        } else {
            b->report.lost_names++;
            op->from->ops_taken = op->to->ops_taken = 0; // order: nothing after it either
        }
    }
}

static enum image_class class_of(const char *path)
{
    size_t n = strlen(path);
    if (n >= 8 && strcmp(path + n - 8, "data.mdb") == 0) return IMAGE_DB;
    if (strstr(path, "journal/") != NULL) return IMAGE_JOURNAL;
    return strstr(path, "pack") != NULL ? IMAGE_PACKS : IMAGE_OTHER;
}

// The part of `c` that lies in sector `s`: [*from, *to).
static void sector_part(const struct change *c, uint64_t s, uint64_t *from, uint64_t *to)
{
    uint64_t end = c->offset + c->length;
    *from = c->offset > s * SECTOR ? c->offset : s * SECTOR;
    *to = end < (s + 1) * SECTOR ? end : (s + 1) * SECTOR;
}

// For each sector, how many of the changes to it happen.
static uint32_t *sectors_decide(struct build *b, const struct node *f, uint64_t sectors)
{
    // A disk's cache is not fair: whole files make it, or hardly a sector does.
    static const struct {
        uint32_t none, all;
    } moods[] = {{0, 0}, {0, 0}, {90, 5}, {5, 90}, {50, 50}, {100, 0}, {0, 100}};
    uint64_t random = b->random ^ (f->id * 0x2545f4914f6cdd1dull);
    unsigned mood = (unsigned)(random_next(&random) % (sizeof moods / sizeof *moods));
    uint32_t *count = calloc(sectors, sizeof *count);
    if (count == NULL) abort();
    for (size_t i = 0; i < f->change_count; i++) {
        const struct change *c = &f->changes[i];
        for (uint64_t s = c->offset / SECTOR; s * SECTOR < c->offset + c->length; s++)
            count[s]++;
    }
    for (uint64_t s = 0; s < sectors; s++) {
        if (count[s] > 0) count[s] = taken(b, &random, count[s], moods[mood].none, moods[mood].all);
    }
    return count;
}

static void changes_apply(struct build *b, const struct node *f, uint8_t *content, uint32_t *count, enum image_class class)
{
    for (size_t i = 0; i < f->change_count; i++) {
        const struct change *c = &f->changes[i];
        b->report.unsynced_bytes[class] += c->length;
        for (uint64_t s = c->offset / SECTOR; s * SECTOR < c->offset + c->length; s++) {
            uint64_t from, to;
            sector_part(c, s, &from, &to);
            if (count[s] == 0) {
                b->report.lost_bytes[class] += to - from;
                continue;
            }
            count[s]--;
            if (c->bytes == NULL)
                memset(content + from, 0, to - from);
            else
                memcpy(content + from, c->bytes + (from - c->offset), to - from);
        }
    }
}

// The file's possible content; *size is its size. The caller frees it.
static uint8_t *content_build(struct build *b, const struct node *f, uint64_t *size, enum image_class class)
{
    uint64_t most = f->size;
    for (size_t i = 0; i < f->change_count; i++) {
        const struct change *c = &f->changes[i];
        if (c->size > most) most = c->size;
        if (c->offset + c->length > most) most = c->offset + c->length;
    }
    uint64_t sectors = most / SECTOR + 1;
    uint8_t *content = calloc(sectors, SECTOR);
    if (content == NULL) abort();
    uint64_t have = f->room < f->size ? f->room : f->size;
    if (have > 0) memcpy(content, f->content, have);
    uint32_t *count = sectors_decide(b, f, sectors);
    changes_apply(b, f, content, count, class);
    free(count);
    uint64_t random = b->random ^ f->id;
    uint32_t sizes = taken(b, &random, (uint32_t)f->change_count, 20, 40);
    *size = sizes == 0 ? f->size : f->changes[sizes - 1].size;
    return content;
}

static bool file_build(struct build *b, const struct node *f, const char *path, const char *folder)
{
    static const uint8_t zeros[PIECE];
    uint64_t size = f->size;
    enum image_class class = class_of(path + strlen(folder));
    uint8_t *built = f->change_count == 0 ? NULL : content_build(b, f, &size, class);
    const uint8_t *content = built != NULL ? built : f->content;
    uint64_t have = built != NULL || f->room >= size ? size : f->room; // what the durable content never had is zeros
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool fine = fd >= 0 && ftruncate(fd, (off_t)size) == 0;
    for (uint64_t at = 0; at < have && fine; at += PIECE) {
        size_t n = have - at < PIECE ? (size_t)(have - at) : PIECE;
        if (memcmp(content + at, zeros, n) != 0) fine = pwrite(fd, content + at, n, (off_t)at) == (ssize_t)n;
    }
    if (fd >= 0) close(fd);
    free(built);
    return fine;
}

static bool folder_build(struct build *b, const struct node *n, const char *path, const char *root)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST) return false;
    bool fine = true;
    for (size_t i = 0; i < n->names[BUILT].count && fine; i++) {
        const struct entry *e = &n->names[BUILT].at[i];
        char *child = NULL;
        if (asprintf(&child, "%s/%s", path, e->name) < 0) abort();
        fine = e->node->folder ? folder_build(b, e->node, child, root) : file_build(b, e->node, child, root);
        free(child);
    }
    return fine;
}

bool image_build(struct image *m, const char *folder, uint64_t seed, enum image_mode mode, struct image_report *report)
{
    struct build b = {.m = m, .random = seed ^ (m->position << 32), .mode = mode};
    random_next(&b.random);
    names_build(&b);
    bool fine = folder_build(&b, m->root, folder, folder);
    if (report != NULL) *report = b.report;
    return fine;
}
