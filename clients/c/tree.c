#include "tree.h"

#include <assert.h>
#include <stdlib.h>

#include "err.h"

#define HEAD "segue tree 1\n"

void tree_init(struct tree *t)
{
    *t = (struct tree){0};
}

void tree_free(struct tree *t)
{
    for (size_t i = 0; i < t->count; i++) {
        free(t->at[i].path);
        free(t->at[i].target);
    }
    free(t->at);
    *t = (struct tree){0};
}

// ---- what may be in it -----------------------------------------------------------------------------------------------

static bool name_ok(struct span name)
{
    return name.n > 0 && name.n <= 255 && !span_is(name, ".") && !span_is(name, "..");
}

bool tree_path_ok(struct span path)
{
    size_t depth = 0;
    if (path.n == 0 || path.n > TREE_PATH_MAX || memchr(path.p, 0, path.n) != NULL) return false;
    for (struct span rest = path;; depth++) {
        const uint8_t *slash = memchr(rest.p, '/', rest.n);
        struct span name = slash == NULL ? rest : SPAN(rest.p, (size_t)(slash - rest.p));
        if (!name_ok(name) || depth == TREE_DEPTH_MAX || (depth == 0 && span_is(name, TREE_PART))) return false;
        if (slash == NULL) return true;
        rest = span_sub(rest, name.n + 1, rest.n);
    }
}

static bool entry_ok(const struct tree_entry *e)
{
    if (!tree_path_ok(SPAN_STR(e->path)) || e->mode > 0777 || e->size > INT64_MAX) return false;
    if (e->kind != TREE_LINK) return e->target == NULL;
    size_t n = e->target == NULL ? 0 : strlen(e->target);
    return n > 0 && n <= TREE_PATH_MAX;
}

static int make_room(struct tree *t)
{
    if (t->count < t->room) return 0;
    size_t room = t->room > 0 ? 2 * t->room : 64;
    struct tree_entry *more = realloc(t->at, room * sizeof *more);
    if (more == NULL) return ERR_NOMEM;
    t->at = more;
    t->room = room;
    return 0;
}

int tree_add(struct tree *t, const struct tree_entry *e)
{
    if (!entry_ok(e)) return ERR_BAD_VALUE;
    if (make_room(t) != 0) return ERR_NOMEM;
    struct tree_entry copy = *e;
    copy.path = strdup(e->path);
    copy.target = e->target == NULL ? NULL : strdup(e->target);
    if (copy.path == NULL || (e->target != NULL && copy.target == NULL)) {
        free(copy.path);
        free(copy.target);
        return ERR_NOMEM;
    }
    t->at[t->count++] = copy;
    return 0;
}

// ---- order -----------------------------------------------------------------------------------------------------------

int tree_compare(const char *a, const char *b)
{
    size_t i = 0;
    while (a[i] == b[i] && a[i] != 0)
        i++;
    // The end of a path comes before what is in it, and that before every longer name.
    int x = a[i] == 0 ? 0 : a[i] == '/' ? 1 : 1 + (uint8_t)a[i], y = b[i] == 0 ? 0 : b[i] == '/' ? 1 : 1 + (uint8_t)b[i];
    return x - y;
}

static int by_path(const void *a, const void *b)
{
    return tree_compare(((const struct tree_entry *)a)->path, ((const struct tree_entry *)b)->path);
}

void tree_sort(struct tree *t)
{
    if (t->count > 1) qsort(t->at, t->count, sizeof *t->at, by_path);
}

// ---- writing ---------------------------------------------------------------------------------------------------------

static bool is_plain(uint8_t c)
{
    return c > ' ' && c <= '~' && c != '%';
}

static void put_text(struct buf *out, const char *s)
{
    for (; *s != 0; s++) {
        if (is_plain((uint8_t)*s))
            buf_put_u8(out, (uint8_t)*s);
        else
            buf_printf(out, "%%%02X", (uint8_t)*s);
    }
}

static void put_entry(struct buf *out, const struct tree_entry *e)
{
    char hex[SHA256_HEX];
    assert(entry_ok(e));
    buf_put_u8(out, (uint8_t)e->kind);
    if (e->kind != TREE_LINK) buf_printf(out, " %03o", e->mode);
    if (e->kind == TREE_FILE) {
        hex_format(hex, SPAN(e->sha.b, SHA256_BYTES));
        buf_printf(out, " %llu %.64s", (unsigned long long)e->size, hex);
    }
    buf_put_u8(out, ' ');
    put_text(out, e->path);
    if (e->kind == TREE_LINK) {
        buf_put_u8(out, ' ');
        put_text(out, e->target);
    }
    buf_put_u8(out, '\n');
}

void tree_encode(const struct tree *t, struct buf *out)
{
    buf_put_str(out, HEAD);
    for (size_t i = 0; i < t->count; i++)
        put_entry(out, &t->at[i]);
}

// ---- reading ---------------------------------------------------------------------------------------------------------

// The text up to the next space, which is passed; false where there is none.
static bool next_field(struct span *line, struct span *field)
{
    const uint8_t *space = memchr(line->p, ' ', line->n);
    if (space == NULL) return false;
    *field = SPAN(line->p, (size_t)(space - line->p));
    *line = span_sub(*line, field->n + 1, line->n);
    return true;
}

static int digit_of(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

// Decodes into `out`, of TREE_PATH_MAX + 1 bytes.
static bool read_text(struct span s, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        if (n == TREE_PATH_MAX) return false;
        if (c == '%') {
            int high = i + 2 < s.n ? digit_of(s.p[i + 1]) : -1, low = i + 2 < s.n ? digit_of(s.p[i + 2]) : -1;
            if (high < 0 || low < 0) return false;
            c = (uint8_t)(high << 4 | low);
            if (c == 0 || is_plain(c)) return false;
            i += 2;
        } else if (!is_plain(c)) {
            return false;
        }
        out[n++] = (char)c;
    }
    out[n] = 0;
    return n > 0;
}

static bool read_mode(struct span s, unsigned *mode)
{
    *mode = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '7') return false;
        *mode = *mode * 8 + (unsigned)(s.p[i] - '0');
    }
    return s.n == 3;
}

static bool read_size(struct span s, uint64_t *size)
{
    *size = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9') return false;
        *size = *size * 10 + (uint64_t)(s.p[i] - '0');
    }
    return s.n > 0 && s.n <= 18 && (s.p[0] != '0' || s.n == 1);
}

static bool read_sha(struct span s, struct sha256 *sha)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] >= 'A' && s.p[i] <= 'F') return false;
    return hex_parse(sha->b, SHA256_BYTES, s) == 0;
}

static int read_entry(struct tree *t, struct span line)
{
    char path[TREE_PATH_MAX + 1], target[TREE_PATH_MAX + 1];
    struct span field;
    struct tree_entry e = {.path = path};
    if (!next_field(&line, &field) || (!span_is(field, "d") && !span_is(field, "f") && !span_is(field, "l"))) return ERR_BAD_VALUE;
    e.kind = (enum tree_kind)field.p[0];
    if (e.kind != TREE_LINK && (!next_field(&line, &field) || !read_mode(field, &e.mode))) return ERR_BAD_VALUE;
    if (e.kind == TREE_FILE && (!next_field(&line, &field) || !read_size(field, &e.size))) return ERR_BAD_VALUE;
    if (e.kind == TREE_FILE && (!next_field(&line, &field) || !read_sha(field, &e.sha))) return ERR_BAD_VALUE;
    if (e.kind == TREE_LINK) {
        if (!next_field(&line, &field) || !read_text(field, path) || !read_text(line, target)) return ERR_BAD_VALUE;
        e.target = target;
    } else if (!read_text(line, path)) {
        return ERR_BAD_VALUE;
    }
    return tree_add(t, &e);
}

// The directories that the entry before lies in, and itself where it is one.
struct place {
    size_t dirs[TREE_DEPTH_MAX];
    size_t depth;
};

// Whether the last entry comes behind the one before, and in a directory that is there.
static bool in_place(const struct tree *t, struct place *place)
{
    const struct tree_entry *e = &t->at[t->count - 1];
    const char *slash = strrchr(e->path, '/');
    size_t parent = slash == NULL ? 0 : (size_t)(slash - e->path);
    if (t->count > 1 && tree_compare(e[-1].path, e->path) >= 0) return false;
    for (; place->depth > 0; place->depth--) {
        const char *dir = t->at[place->dirs[place->depth - 1]].path;
        if (strlen(dir) == parent && memcmp(dir, e->path, parent) == 0) break;
    }
    if (place->depth == 0 && parent > 0) return false;
    if (e->kind == TREE_DIR && place->depth < TREE_DEPTH_MAX) place->dirs[place->depth++] = t->count - 1;
    return true;
}

int tree_parse(struct tree *t, struct span text)
{
    struct place place = {.depth = 0};
    tree_init(t);
    if (!span_starts(text, HEAD) || text.n > TREE_BYTES_MAX) return ERR_BAD_VALUE;
    for (struct span rest = span_sub(text, sizeof HEAD - 1, text.n); rest.n > 0;) {
        const uint8_t *end = memchr(rest.p, '\n', rest.n);
        if (end == NULL) return ERR_BAD_VALUE;
        struct span line = SPAN(rest.p, (size_t)(end - rest.p));
        int err = read_entry(t, line);
        if (err != 0) return err;
        if (!in_place(t, &place)) return ERR_BAD_VALUE;
        rest = span_sub(rest, line.n + 1, rest.n);
    }
    return 0;
}
