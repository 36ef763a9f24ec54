#include "table.h"

#include <assert.h>
#include <stdlib.h>

#include "err.h"
#include "limits.h"

#define WIDTH_MAX 60 // of a column
#define KEY_MAX 1024 // bytes of a member's name

struct column {
    struct span name;
    size_t width;
    bool numbers; // so far; they stand on the right
};

struct table {
    struct column columns[COLUMNS_MAX + 1];
    size_t count;
    int err;
};

// Characters stand for columns: wide and combining ones are rare enough.
static size_t width_of(struct span s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += (s.p[i] & 0xc0) != 0x80;
    return n;
}

static void put_cut(struct buf *out, struct span s, size_t max)
{
    size_t columns = 0;
    bool cut = max > 0 && width_of(s) > max;
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        bool begins = (c & 0xc0) != 0x80;
        if (begins && cut && columns == max - 1) {
            buf_put_str(out, "…");
            return;
        }
        columns += begins;
        bool c1 = c == 0xc2 && i + 1 < s.n && s.p[i + 1] < 0xa0;
        if (c1) i++;
        buf_put_u8(out, c == '\n' || c == '\t' ? ' ' : c1 || c < ' ' || c == 0x7f ? '?' : c);
    }
}

int table_put_value(const struct jr *value, size_t max, struct buf *out)
{
    if (jr_type(value) == JR_ABSENT || jr_type(value) == JR_NULL) return out->err;
    if (jr_type(value) == JR_STRING) {
        put_cut(out, jr_str(value), max);
        return out->err;
    }
    struct buf text;
    buf_init(&text, 8 * MIB);
    int err = jr_canonical(value, &text);
    if (err == 0) put_cut(out, buf_span(&text), max);
    buf_free(&text);
    return err != 0 ? err : out->err;
}

// ---- measuring -------------------------------------------------------------------------------------------------

static int measure_member(void *ctx, struct span key, const struct jr *value)
{
    struct table *t = ctx;
    size_t i = 0;
    while (i < t->count && !span_equal(t->columns[i].name, key))
        i++;
    if (i == sizeof t->columns / sizeof t->columns[0] || key.n >= KEY_MAX) return ERR_TOO_LARGE;
    if (i == t->count) t->columns[t->count++] = (struct column){.name = key, .width = width_of(key), .numbers = true};
    struct buf text;
    buf_init(&text, 8 * MIB);
    int err = table_put_value(value, WIDTH_MAX, &text);
    size_t width = width_of(buf_span(&text));
    buf_free(&text);
    struct column *c = &t->columns[i];
    if (width > c->width) c->width = width;
    enum jr_type type = jr_type(value);
    if (type != JR_INT && type != JR_REAL && type != JR_NULL) c->numbers = false;
    return err;
}

// ---- printing --------------------------------------------------------------------------------------------------

static void put_spaces(struct buf *out, size_t n)
{
    while (n-- > 0)
        buf_put_u8(out, ' ');
}

static void put_cell(struct buf *out, const struct column *c, struct span text, bool last)
{
    size_t width = width_of(text), pad = width < c->width ? c->width - width : 0;
    if (c->numbers) put_spaces(out, pad);
    buf_put_span(out, text);
    if (!c->numbers && !last) put_spaces(out, pad);
    buf_put_str(out, last ? "\n" : "  ");
}

static int put_row(const struct table *t, const struct jr *row, struct buf *out)
{
    struct buf text;
    int err = 0;
    buf_init(&text, 8 * MIB);
    for (size_t i = 0; i < t->count && err == 0; i++) {
        char key[KEY_MAX];
        struct span name = t->columns[i].name;
        assert(name.n < sizeof key);
        memcpy(key, name.p, name.n);
        key[name.n] = 0;
        buf_clear(&text);
        err = table_put_value(jr_get(row, key), WIDTH_MAX, &text);
        put_cell(out, &t->columns[i], buf_span(&text), i + 1 == t->count);
    }
    buf_free(&text);
    return err;
}

static void put_heads(const struct table *t, struct buf *out)
{
    for (size_t i = 0; i < t->count; i++)
        put_cell(out, &t->columns[i], t->columns[i].name, i + 1 == t->count);
    for (size_t i = 0; i < t->count; i++) {
        for (size_t k = 0; k < t->columns[i].width; k++)
            buf_put_u8(out, '-');
        buf_put_str(out, i + 1 == t->count ? "\n" : "  ");
    }
}

int table_put(const struct jr *rows, struct buf *out)
{
    struct table *t = calloc(1, sizeof *t);
    if (t == NULL) return ERR_NOMEM;
    int err = 0;
    for (size_t i = 0; i < jr_count(rows) && err == 0; i++)
        err = jr_each(jr_at(rows, i), measure_member, t);
    if (err == 0) put_heads(t, out);
    for (size_t i = 0; i < jr_count(rows) && err == 0; i++)
        err = put_row(t, jr_at(rows, i), out);
    free(t);
    return err != 0 ? err : out->err;
}

int table_put_lines(const struct jr *rows, struct buf *out)
{
    for (size_t i = 0; i < jr_count(rows); i++) {
        int err = jr_canonical(jr_at(rows, i), out);
        if (err != 0) return err;
        buf_put_u8(out, '\n');
    }
    return out->err;
}
