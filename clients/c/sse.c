#include "sse.h"

#include "limits.h"
#include "sse_field.h"

#define EVENT_MAX (32 * MIB)
#define ID_MAX (16 * KIB)

void sse_init(struct sse *s)
{
    *s = (struct sse){0};
    buf_init(&s->line, EVENT_MAX);
    buf_init(&s->data, EVENT_MAX);
    buf_init(&s->id, ID_MAX);
}

void sse_free(struct sse *s)
{
    buf_free(&s->line);
    buf_free(&s->data);
    buf_free(&s->id);
}

void sse_restart(struct sse *s)
{
    buf_clear(&s->line);
    buf_clear(&s->data);
    s->after_cr = s->has_data = s->named = false;
}

static void take_field(struct sse *s, struct span name, struct span value)
{
    if (span_is(name, "data")) {
        if (s->has_data) buf_put_u8(&s->data, '\n');
        buf_put_span(&s->data, value);
        s->has_data = true;
    } else if (span_is(name, "id") && (value.n == 0 || memchr(value.p, 0, value.n) == NULL)) {
        buf_clear(&s->id);
        buf_put_span(&s->id, value);
        s->named = true;
    }
}

// A whole line is in s->line. An empty one ends an event; one that begins with a colon is a comment.
static int take_line(struct sse *s, int (*on_event)(void *ctx, struct span data, struct span id), void *ctx)
{
    struct span line = buf_span(&s->line);
    int err = 0;
    if (line.n > 0) {
        struct span name, value;
        sse_field_split(line, &name, &value);
        take_field(s, name, value);
    } else if (s->has_data) {
        err = on_event(ctx, buf_span(&s->data), buf_span(&s->id));
        buf_clear(&s->data);
        s->has_data = s->named = false;
    }
    if (err == 0) err = s->line.err != 0 ? s->line.err : s->data.err != 0 ? s->data.err : s->id.err;
    buf_clear(&s->line);
    return err;
}

int sse_feed(struct sse *s, struct span piece, int (*on_event)(void *ctx, struct span data, struct span id), void *ctx)
{
    while (piece.n > 0) {
        if (s->after_cr && piece.p[0] == '\n') piece = span_sub(piece, 1, piece.n);
        s->after_cr = false;
        size_t n = 0;
        while (n < piece.n && piece.p[n] != '\n' && piece.p[n] != '\r')
            n++;
        buf_put_span(&s->line, span_sub(piece, 0, n));
        if (s->line.err != 0) return s->line.err;
        if (n == piece.n) return 0;
        s->after_cr = piece.p[n] == '\r';
        piece = span_sub(piece, n + 1, piece.n);
        int err = take_line(s, on_event, ctx);
        if (err != 0) return err;
    }
    return 0;
}
