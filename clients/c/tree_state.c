#include "tree_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "err.h"
#include "file.h"
#include "limits.h"

#define HEAD "segue sync 1\n"
#define STATE_BYTES_MAX (2 * TREE_BYTES_MAX)

// ---- the bytes -------------------------------------------------------------------------------------------------------

void tree_state_encode(const struct walk *w, struct buf *out)
{
    buf_put_str(out, HEAD);
    for (size_t i = 0; i < w->tree.count; i++) {
        if (w->tree.at[i].kind != TREE_FILE) continue;
        const struct stamp *s = walk_stamp(w, &w->tree.at[i]);
        buf_printf(out, "%llu %llu %lld %lld\n", (unsigned long long)s->dev, (unsigned long long)s->ino, (long long)s->mtime_ns,
                   (long long)s->ctime_ns);
    }
    tree_encode(&w->tree, out);
}

static bool read_stamp(struct span line, struct stamp *out)
{
    char text[100];
    int end = 0;
    unsigned long long dev, ino;
    long long mtime, ctime;
    if (line.n >= sizeof text) return false;
    snprintf(text, sizeof text, "%.*s", SPAN_FMT(line));
    if (sscanf(text, "%llu %llu %lld %lld%n", &dev, &ino, &mtime, &ctime, &end) != 4 || (size_t)end != line.n) return false;
    *out = (struct stamp){dev, ino, mtime, ctime};
    return true;
}

static bool next_line(struct span *rest, struct span *line)
{
    const uint8_t *end = memchr(rest->p, '\n', rest->n);
    if (end == NULL) return false;
    *line = SPAN(rest->p, (size_t)(end - rest->p));
    *rest = span_sub(*rest, line->n + 1, rest->n);
    return true;
}

static int parse(struct tree_state *t, struct span text)
{
    struct span line, rest = span_sub(text, sizeof HEAD - 1, text.n);
    struct stamp stamp;
    size_t files = 0;
    if (!span_starts(text, HEAD)) return ERR_BAD_VALUE;
    while (!span_starts(rest, "segue tree ")) {
        if (rest.n == 0 || !next_line(&rest, &line) || !read_stamp(line, &stamp)) return ERR_BAD_VALUE;
        buf_put(&t->stamps, &stamp, sizeof stamp);
    }
    int err = t->stamps.err != 0 ? t->stamps.err : tree_parse(&t->tree, rest);
    for (size_t i = 0; i < t->tree.count && err == 0; i++)
        if (t->tree.at[i].kind == TREE_FILE) t->tree.at[i].note = files++;
    return err == 0 && files != t->stamps.n / sizeof stamp ? ERR_BAD_VALUE : err;
}

int tree_state_parse(struct tree_state *t, struct span text)
{
    tree_init(&t->tree);
    buf_init(&t->stamps, TREE_BYTES_MAX);
    int err = parse(t, text);
    if (err == 0) return 0;
    tree_free(&t->tree);
    buf_clear(&t->stamps);
    return err;
}

// ---- the file --------------------------------------------------------------------------------------------------------

void tree_state_open(struct tree_state *t, const struct segue *s, const char *root)
{
    struct buf text;
    char lock[STATE_PATH_MAX + 8], *real = realpath(root, NULL);
    tree_init(&t->tree);
    buf_init(&t->stamps, TREE_BYTES_MAX);
    t->lock = -1;
    int err = real == NULL ? ERR_NOMEM : state_path(s, "trees", SPAN_STR(real), t->path);
    free(real);
    if (err != 0) return;
    snprintf(lock, sizeof lock, "%s.lock", t->path); // beside it, as the file itself is replaced
    t->lock = state_lock(lock);
    if (t->lock < 0) return;
    buf_init(&text, STATE_BYTES_MAX);
    if (file_slurp(&text, t->path) == 0) tree_state_parse(t, buf_span(&text));
    buf_free(&text);
}

void tree_state_save(struct tree_state *t, const struct walk *w)
{
    struct buf text;
    if (t->lock < 0) return;
    buf_init(&text, STATE_BYTES_MAX);
    tree_state_encode(w, &text);
    // What cannot be kept is read again next time.
    if (text.err == 0) file_replace(t->path, buf_span(&text));
    buf_free(&text);
}

void tree_state_close(struct tree_state *t)
{
    tree_free(&t->tree);
    buf_free(&t->stamps);
    file_close(t->lock);
}
