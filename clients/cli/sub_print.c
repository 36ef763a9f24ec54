#include "sub_print.h"

#include "base64.h"
#include "cli.h"
#include "err.h"
#include "limits.h"
#include "table.h"
#include "utf8.h"

void sub_printer_init(struct sub_printer *p, struct buf *out, bool bare)
{
    *p = (struct sub_printer){.out = out, .bare = bare, .at_line_start = true};
    buf_init(&p->open, KIB);
}

void sub_printer_free(struct sub_printer *p)
{
    buf_free(&p->open);
}

void sub_print_break(struct sub_printer *p)
{
    if (!p->at_line_start) buf_put_u8(p->out, '\n');
    p->at_line_start = true;
    buf_clear(&p->open);
}

static void put_name(struct sub_printer *p, int64_t seq, struct span name, const char *sign)
{
    buf_printf(p->out, "[%lld] ", (long long)seq);
    cli_put_clean(p->out, name);
    buf_put_str(p->out, sign);
}

// ---- rows ------------------------------------------------------------------------------------------------------

struct row_printer {
    struct buf *out;
    bool keyed;
};

static int put_member(void *ctx, struct span key, const struct jr *value)
{
    const struct row_printer *r = ctx;
    struct buf *out = r->out;
    if (!r->keyed && span_is(key, "id")) return 0;
    buf_put_str(out, "  ");
    cli_put_clean(out, key);
    buf_put_u8(out, '=');
    if (jr_type(value) == JR_NULL) buf_put_str(out, "null");
    return table_put_value(value, 0, out);
}

// `key`: what the row is called, where it is named by a key. A row may have an `id` that is not its name all the same.
static int print_row(struct sub_printer *p, int64_t seq, struct span name, const char *sign, const struct jr *row, const struct jr *key)
{
    struct row_printer r = {.out = p->out, .keyed = key != NULL};
    sub_print_break(p);
    put_name(p, seq, name, sign);
    int err = table_put_value(key != NULL ? key : jr_type(row) == JR_OBJECT ? jr_get(row, "id") : row, 0, p->out);
    if (err == 0) err = jr_each(row, put_member, &r);
    buf_put_u8(p->out, '\n');
    return err;
}

// ---- streams ---------------------------------------------------------------------------------------------------

static void print_text(struct sub_printer *p, int64_t seq, struct span name, struct span text)
{
    if (!p->bare && (p->at_line_start || !span_equal(buf_span(&p->open), name))) {
        sub_print_break(p);
        put_name(p, seq, name, "> ");
        buf_put_span(&p->open, name);
        p->at_line_start = false;
    }
    if (text.n == 0) return;
    cli_put_clean(p->out, text);
    p->at_line_start = text.p[text.n - 1] == '\n';
}

static int print_bytes(struct sub_printer *p, int64_t seq, struct span name, struct span base64)
{
    struct buf bytes;
    buf_init(&bytes, 32 * MIB);
    int err = base64_decode(&bytes, base64);
    if (err == 0 && utf8_valid(buf_span(&bytes))) {
        print_text(p, seq, name, buf_span(&bytes));
    } else if (err == 0) {
        char words[64];
        snprintf(words, sizeof words, "<%zu bytes>", bytes.n);
        print_text(p, seq, name, SPAN_STR(words));
    }
    buf_free(&bytes);
    return err;
}

static void print_state(struct sub_printer *p, int64_t seq, struct span name, const char *words)
{
    sub_print_break(p);
    put_name(p, seq, name, words);
    buf_put_u8(p->out, '\n');
}

static int print_stream(struct sub_printer *p, int64_t seq, struct span name, const struct jr *v)
{
    const struct jr *member;
    if ((member = jr_get(v, "text")) != NULL) print_text(p, seq, name, jr_str(member));
    if ((member = jr_get(v, "base64")) != NULL) return print_bytes(p, seq, name, jr_str(member));
    if (jr_bool(jr_get(v, "created"), false)) print_state(p, seq, name, " created");
    if (jr_bool(jr_get(v, "closed"), false)) print_state(p, seq, name, " closed");
    if (jr_bool(jr_get(v, "deleted"), false)) print_state(p, seq, name, " deleted");
    return 0;
}

// ---- uploads ---------------------------------------------------------------------------------------------------

static int print_upload(struct sub_printer *p, int64_t seq, struct span name, int64_t offset, const struct jr *length)
{
    char words[96];
    bool known = jr_type(length) == JR_INT; // it may be told later
    snprintf(words, sizeof words, known ? " %lld of %lld bytes" : " %lld bytes", (long long)offset, (long long)jr_int(length, 0));
    print_state(p, seq, name, words);
    return 0;
}

static int print_stored(struct sub_printer *p, int64_t seq, struct span name, struct span blob)
{
    char words[96];
    snprintf(words, sizeof words, " done, blob %.*s", SPAN_FMT(span_sub(blob, 0, 64)));
    print_state(p, seq, name, words);
    return 0;
}

// ---- values ----------------------------------------------------------------------------------------------------

// A stream's value in a result: whose column of which row it is.
static int print_followed(struct sub_printer *p, int64_t seq, struct span name, const struct jr *v)
{
    struct buf label;
    buf_init(&label, 64 * KIB);
    buf_put_span(&label, name);
    buf_put_str(&label, " ");
    buf_put_span(&label, jr_str(jr_get(v, "of")));
    buf_put_str(&label, ".");
    buf_put_span(&label, jr_str(jr_get(v, "stream")));
    int err = label.err != 0 ? label.err : print_stream(p, seq, buf_span(&label), v);
    buf_free(&label);
    return err;
}

// A row's own column may be called `stream` or `of`, but a row has an id or a key.
static bool is_followed(const struct jr *v)
{
    return jr_get(v, "of") != NULL && jr_type(jr_get(v, "stream")) == JR_STRING && jr_get(v, "id") == NULL && jr_get(v, "key") == NULL;
}

static int print_value(struct sub_printer *p, int64_t seq, struct span name, const struct jr *v, bool snapshot)
{
    const struct jr *member, *key = jr_get(v, "key");
    if (is_followed(v)) return print_followed(p, seq, name, v);
    if (snapshot && key != NULL && jr_type(jr_get(v, "row")) == JR_OBJECT && jr_count(v) == 2) return print_row(p, seq, name, " = ", jr_get(v, "row"), key);
    if ((member = jr_get(v, "added")) != NULL && !snapshot) return print_row(p, seq, name, " + ", member, key);
    if ((member = jr_get(v, "changed")) != NULL && !snapshot) return print_row(p, seq, name, " ~ ", member, key);
    if ((member = jr_get(v, "removed")) != NULL && !snapshot) return print_row(p, seq, name, " - ", member, NULL);
    if (jr_get(v, "id") != NULL) return print_row(p, seq, name, snapshot ? " = " : " ? ", v, NULL);
    if ((member = jr_get(v, "length")) != NULL) return print_upload(p, seq, name, jr_int(jr_get(v, "offset"), 0), member);
    if (jr_bool(jr_get(v, "done"), false)) return print_stored(p, seq, name, jr_str(jr_get(v, "blob")));
    return print_stream(p, seq, name, v);
}

int sub_print_values(struct sub_printer *p, int64_t seq, struct span name, const struct jr *values, bool snapshot)
{
    int err = 0;
    for (size_t i = 0; i < jr_count(values) && err == 0; i++)
        err = print_value(p, seq, name, jr_at(values, i), snapshot);
    return err != 0 ? err : p->out->err;
}
