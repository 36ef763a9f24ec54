// The pages of a database's file, looked at without believing any of them: the layout of LMDB 0.9 on 64-bit machines, little endian.
//
//   page:  number u64, pad u16, flags u16, then lower u16 and upper u16 (branch, leaf) or the number of pages u32 (overflow)
//          lower: where the offsets of its nodes end, which begin behind this head; upper: where the nodes begin
//   node:  lo u16, hi u16, flags u16, key's length u16, the key; then in a leaf lo | hi << 16 bytes, or the number of the page from which on they lie
//          (flag 1); in a branch nothing, as lo, hi and flags are the child's number
//   meta:  page 0 or 1, behind its head: magic u32, version u32, address u64, map's size u64, the trees of what is free and of the tables, number of
//          the last page u64, transaction u64
//   tree:  pad u32, flags u16, depth u16, pages that are branches, leaves, overflow u64, entries u64, root u64
#include "db.h"

#include <assert.h>
#include <endian.h>
#include <fcntl.h>
#include <stdlib.h>

#include "cur.h"
#include "err.h"
#include "file.h"
#include "log.h"

#define HEAD_BYTES 16
#define NODE_BYTES 8
#define TREE_BYTES 48
#define META_BYTES (HEAD_BYTES + 24 + 2 * TREE_BYTES + 16)
#define MAGIC 0xBEEFC0DEu
#define PAGE_BYTES_MAX 65536
#define DEPTH_MAX 32          // LMDB's own
#define PAGES_MAX (UINT64_C(1) << 34)
#define NO_ROOT UINT64_MAX

enum { IS_BRANCH = 1, IS_LEAF = 2, IS_OVERFLOW = 4, KINDS = 15 };
enum { NODE_BIG = 1, NODE_TREE = 2, NODE_ANY = 3 };

struct tree {
    uint16_t depth;
    uint64_t branches, leaves, overflows, entries, root;
    bool numbers; // keys are u64 in the machine's order
    bool is_free, is_main; // its values are lists of free pages; trees
};

struct pages {
    int fd;
    size_t bytes; // of one page
    uint64_t last;
    uint8_t *seen; // a bit for each page
    uint64_t damaged;
    db_page_user *user;
    void *ctx;
    int err; // sticky: memory, the disk
};

static void tell(struct pages *p, uint64_t page, const char *what)
{
    p->damaged++;
    log_error("db", "a page is damaged", LF_UINT("page", page), LF_STR("what", what));
    if (p->user != NULL) p->user(p->ctx, page, what);
}

// False: it is none, or was met before.
static bool take_page(struct pages *p, uint64_t number)
{
    if (number < 2 || number > p->last) return false;
    uint8_t bit = (uint8_t)(1u << number % 8);
    bool seen = (p->seen[number / 8] & bit) != 0;
    p->seen[number / 8] |= bit;
    return !seen;
}

static uint16_t u16_at(const uint8_t *at)
{
    uint16_t v;
    memcpy(&v, at, sizeof v);
    return le16toh(v);
}

static uint32_t u32_at(const uint8_t *at)
{
    uint32_t v;
    memcpy(&v, at, sizeof v);
    return le32toh(v);
}

static uint64_t u64_at(const uint8_t *at)
{
    uint64_t v;
    memcpy(&v, at, sizeof v);
    return le64toh(v);
}

static bool read_at(struct pages *p, void *to, size_t n, uint64_t at)
{
    int err = file_read(p->fd, to, n, at);
    if (err != 0 && err != ERR_NOT_FOUND && err != ERR_CORRUPT && p->err == 0) p->err = err;
    return err == 0;
}

// ---- nodes -------------------------------------------------------------------------------------------------------

static size_t node_count(const uint8_t *page)
{
    return (u16_at(page + 12) - (size_t)HEAD_BYTES) / 2;
}

static const uint8_t *node_at(const uint8_t *page, size_t i)
{
    return page + u16_at(page + HEAD_BYTES + 2 * i);
}

static struct span node_key(const uint8_t *node)
{
    return SPAN(node + NODE_BYTES, u16_at(node + 6));
}

static size_t node_value_bytes(const uint8_t *node)
{
    return u16_at(node) | (size_t)u16_at(node + 2) << 16;
}

static uint64_t node_child(const uint8_t *node)
{
    return u16_at(node) | (uint64_t)u16_at(node + 2) << 16 | (uint64_t)u16_at(node + 4) << 32;
}

static int compare_keys(const struct tree *t, struct span a, struct span b)
{
    if (t->numbers && a.n == 8 && b.n == 8) return u64_at(a.p) < u64_at(b.p) ? -1 : u64_at(a.p) > u64_at(b.p);
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n == 0 ? 0 : memcmp(a.p, b.p, n);
    return c != 0 ? c : (a.n > b.n) - (a.n < b.n);
}

// What is wrong with a page by itself; NULL: nothing. Behind it nothing of its nodes lies outside of it.
static const char *page_fault(const struct pages *p, const uint8_t *page, uint64_t number, bool leaf)
{
    if (u64_at(page) != number) return "it has another page's number";
    if ((u16_at(page + 10) & KINDS) != (leaf ? IS_LEAF : IS_BRANCH)) return "it is of another kind";
    size_t lower = u16_at(page + 12), upper = u16_at(page + 14);
    if (lower < HEAD_BYTES || lower % 2 != 0 || upper < lower || upper > p->bytes) return "its bounds are none";
    if (node_count(page) < (leaf ? 1 : 2)) return "it has too few nodes";
    for (size_t i = 0; i < node_count(page); i++) {
        size_t at = u16_at(page + HEAD_BYTES + 2 * i);
        if (at < upper || at + NODE_BYTES > p->bytes) return "a node lies outside of it";
        const uint8_t *node = page + at;
        size_t end = at + NODE_BYTES + node_key(node).n;
        unsigned flags = u16_at(node + 4);
        if (leaf && flags >= NODE_ANY) return "a node is of another kind"; // also a tree that lies elsewhere: there is none
        if (leaf) end += (flags & NODE_BIG) != 0 ? 8 : node_value_bytes(node);
        if (end > p->bytes || node_key(node).n > DB_KEY_MAX) return "a node ends outside of it";
    }
    return NULL;
}

// The first key of a branch stands for all that are less, whatever it is.
static const char *order_fault(const struct tree *t, const uint8_t *page, bool leaf, struct span from, struct span to)
{
    struct span before = from;
    for (size_t i = leaf ? 0 : 1; i < node_count(page); i++) {
        struct span key = node_key(node_at(page, i));
        if (key.n == 0) return "a key is empty";
        int c = before.p == NULL ? 1 : compare_keys(t, key, before);
        if (c < 0 || (c == 0 && (i > 0 || !leaf))) return "its keys are not in order";
        if (to.p != NULL && compare_keys(t, key, to) >= 0) return "its keys belong elsewhere";
        before = key;
    }
    return NULL;
}

// ---- values of pages of their own, and lists of free pages ---------------------------------------------------------------

static bool take_overflow(struct pages *p, struct tree *t, uint64_t number, size_t n)
{
    uint8_t head[HEAD_BYTES];
    uint64_t count = (HEAD_BYTES + n - 1) / p->bytes + 1;
    bool ok = number <= p->last && count <= p->last && read_at(p, head, sizeof head, number * p->bytes) && u64_at(head) == number &&
              (u16_at(head + 10) & KINDS) == IS_OVERFLOW && u32_at(head + 12) == count;
    for (uint64_t i = 0; i < count && ok; i++)
        ok = take_page(p, number + i);
    t->overflows -= count;
    return ok;
}

static const char *take_free(struct pages *p, struct span list)
{
    if (list.n < 8 || u64_at(list.p) > (list.n - 8) / 8) return "a list of free pages is longer than it is";
    for (uint64_t i = 0; i < u64_at(list.p); i++)
        if (!take_page(p, u64_at(list.p + 8 + 8 * i))) return "a page is free, and in use or free twice";
    return NULL;
}

// ---- trees ---------------------------------------------------------------------------------------------------------

static void check_tree(struct pages *p, struct tree t);

static struct tree tree_read(const uint8_t *at)
{
    return (struct tree){.depth = u16_at(at + 6), .branches = u64_at(at + 8), .leaves = u64_at(at + 16), .overflows = u64_at(at + 24), .entries = u64_at(at + 32), .root = u64_at(at + 40)};
}

// The value's bytes, wherever they lie; the caller frees *copy.
static const char *find_value(struct pages *p, struct tree *t, const uint8_t *node, struct span *value, uint8_t **copy)
{
    size_t n = node_value_bytes(node);
    *value = SPAN(node_key(node).p + node_key(node).n, n);
    if ((u16_at(node + 4) & NODE_BIG) == 0) return NULL;
    uint64_t number = u64_at(value->p);
    if (!take_overflow(p, t, number, n)) return "the pages of a value are none";
    if (!t->is_free) return NULL; // they have checksums of their own, or their readers know
    *copy = malloc(n);
    if (*copy == NULL) p->err = ERR_NOMEM;
    if (*copy == NULL || !read_at(p, *copy, n, number * p->bytes + HEAD_BYTES)) return "a list of free pages cannot be read";
    *value = SPAN(*copy, n);
    return NULL;
}

static void check_leaf(struct pages *p, struct tree *t, const uint8_t *page, uint64_t number)
{
    for (size_t i = 0; i < node_count(page); i++) {
        const uint8_t *node = node_at(page, i);
        struct span value;
        uint8_t *copy = NULL;
        const char *what = find_value(p, t, node, &value, &copy);
        bool tree = (u16_at(node + 4) & NODE_TREE) != 0;
        t->entries--;
        if (what == NULL && tree != t->is_main) what = "a node is of another kind";
        if (what == NULL && t->is_free) what = take_free(p, value);
        if (what == NULL && tree && value.n != TREE_BYTES) what = "a tree is none";
        if (what != NULL) tell(p, number, what);
        else if (tree) check_tree(p, tree_read(value.p));
        free(copy);
    }
}

// From `from` (inclusive) to `to`, where these are known.
static void check_page(struct pages *p, struct tree *t, uint64_t number, unsigned depth, struct span from, struct span to)
{
    bool leaf = depth == t->depth;
    uint8_t *page = malloc(p->bytes);
    if (page == NULL) p->err = ERR_NOMEM;
    if (p->err != 0) {
        free(page);
        return;
    }
    const char *what = NULL;
    if (!take_page(p, number)) what = "it does not exist, or two point to it";
    else if (!read_at(p, page, p->bytes, number * p->bytes)) what = "it cannot be read";
    if (what == NULL) what = page_fault(p, page, number, leaf);
    if (what == NULL) what = order_fault(t, page, leaf, from, to);
    if (what != NULL) {
        tell(p, number, what);
    } else if (leaf) {
        t->leaves--;
        check_leaf(p, t, page, number);
    } else {
        t->branches--;
        for (size_t i = 0; i < node_count(page) && p->err == 0; i++) {
            struct span key = i == 0 ? from : node_key(node_at(page, i));
            check_page(p, t, node_child(node_at(page, i)), depth + 1, key, i + 1 < node_count(page) ? node_key(node_at(page, i + 1)) : to);
        }
    }
    free(page);
}

// Its counts are counted down: they end at zero.
static void check_tree(struct pages *p, struct tree t)
{
    uint64_t damaged = p->damaged, root = t.root;
    if (root == NO_ROOT && t.depth == 0 && t.entries == 0) return;
    if (t.depth == 0 || t.depth > DEPTH_MAX) tell(p, root, "a tree has a depth that is none");
    else check_page(p, &t, root, 1, SPAN_NONE, SPAN_NONE);
    if (p->damaged == damaged && p->err == 0 && (t.branches | t.leaves | t.overflows | t.entries) != 0) tell(p, root, "a tree's counts are not what it has");
}

// ---- all of it -------------------------------------------------------------------------------------------------------

// Takes the meta page of this transaction apart. False: neither is it.
static bool find_meta(struct pages *p, uint64_t txn, struct tree *is_free, struct tree *tables)
{
    uint8_t meta[META_BYTES];
    for (uint64_t i = 0; i < 2; i++) {
        const uint8_t *at = meta + HEAD_BYTES;
        if (!read_at(p, meta, sizeof meta, i * p->bytes) || u32_at(at) != MAGIC || u64_at(at + 128) != txn) continue;
        *is_free = tree_read(at + 24);
        *tables = tree_read(at + 24 + TREE_BYTES);
        is_free->is_free = is_free->numbers = true;
        tables->is_main = true;
        p->last = u64_at(at + 120);
        return p->last < PAGES_MAX;
    }
    return false;
}

int db_file_check(const char *path, size_t page_bytes, uint64_t txn, uint64_t *damaged, db_page_user *user, void *ctx)
{
    struct pages p = {.bytes = page_bytes, .user = user, .ctx = ctx};
    struct tree is_free, tables;
    assert(page_bytes >= META_BYTES && page_bytes <= PAGE_BYTES_MAX);
    p.fd = file_open(path, O_RDONLY);
    if (p.fd < 0) return p.fd;
    bool found = find_meta(&p, txn, &is_free, &tables);
    p.seen = found ? calloc(p.last / 8 + 1, 1) : NULL;
    if (!found && p.err == 0) p.err = ERR_BUSY;
    else if (found && p.seen == NULL) p.err = ERR_NOMEM;
    if (p.err == 0) check_tree(&p, tables);
    if (p.err == 0) check_tree(&p, is_free);
    free(p.seen);
    file_close(p.fd);
    if (p.err == 0) *damaged = p.damaged;
    return p.err;
}
