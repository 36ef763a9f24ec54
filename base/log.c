#include "log.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "err.h"
#include "file.h"
#include "utf8.h"

#define VALUE_MAX 256
#define LINE_MAX_BYTES 8192

static const char *const level_names[] = {[LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug"};
#define LEVELS (sizeof level_names / sizeof level_names[0])

static atomic_int level_now = LOG_INFO;

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&level_now, (int)level, memory_order_relaxed);
}

enum log_level log_level(void)
{
    return (enum log_level)atomic_load_explicit(&level_now, memory_order_relaxed);
}

int log_level_parse(enum log_level *out, const char *word)
{
    for (size_t i = 0; i < LEVELS; i++) {
        if (strcmp(level_names[i], word) != 0) continue;
        *out = (enum log_level)i;
        return 0;
    }
    return ERR_USAGE;
}

// A line being made, on the stack: logging must work when memory is what has run out. What does not fit is left out,
// one byte is kept for the line's end.
struct line {
    size_t n;
    char p[LINE_MAX_BYTES];
};

static void put(struct line *l, const void *p, size_t n)
{
    if (n > LINE_MAX_BYTES - 1 - l->n) return;
    memcpy(l->p + l->n, p, n);
    l->n += n;
}

static void put_cstr(struct line *l, const char *s)
{
    put(l, s, strlen(s));
}

// One character of a quoted value; returns how many bytes it took.
static size_t put_escaped(struct line *l, struct span s)
{
    size_t n = utf8_char(s);
    uint8_t c = s.p[0];
    char code[8];
    if (n == 0) {
        put_cstr(l, "\\ufffd");
        return 1;
    }
    switch (c) {
    case '"': put_cstr(l, "\\\""); break;
    case '\\': put_cstr(l, "\\\\"); break;
    case '\n': put_cstr(l, "\\n"); break;
    case '\r': put_cstr(l, "\\r"); break;
    case '\t': put_cstr(l, "\\t"); break;
    default:
        if (c >= 0x20 && c != 0x7f) {
            put(l, s.p, n);
        } else {
            snprintf(code, sizeof code, "\\u%04x", c);
            put_cstr(l, code);
        }
    }
    return n;
}

static void put_quoted(struct line *l, struct span s)
{
    put(l, "\"", 1);
    for (size_t i = 0; i < s.n;)
        i += put_escaped(l, span_sub(s, i, s.n));
    put(l, "\"", 1);
}

// A bare value has to end where logfmt's reader thinks it ends.
static bool is_bare(struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        if (c <= 0x20 || c == '=' || c == '"' || c == '\\' || c == 0x7f) return false;
    }
    return s.n > 0 && utf8_valid(s);
}

static void put_value(struct line *l, struct span s, bool quote)
{
    s.n = utf8_cut(s, VALUE_MAX);
    if (!quote && is_bare(s))
        put(l, s.p, s.n);
    else
        put_quoted(l, s);
}

static void put_errno(struct line *l, int errnum)
{
    char number[16];
    const char *name = strerrorname_np(errnum);
    if (name == NULL) snprintf(number, sizeof number, "%d", errnum);
    put_cstr(l, name != NULL ? name : number);
}

static void put_field(struct line *l, const struct log_field *f)
{
    char number[24];
    put_cstr(l, " ");
    put_cstr(l, f->key);
    put_cstr(l, "=");
    switch (f->kind) {
    case LOG_F_STR: put_value(l, f->str != NULL ? SPAN_STR(f->str) : SPAN_NONE, false); break;
    case LOG_F_SPAN: put_value(l, f->span, false); break;
    case LOG_F_ERR: put_cstr(l, err_wire((int)f->i)); break;
    case LOG_F_ERRNO: put_errno(l, (int)f->i); break;
    case LOG_F_INT:
        snprintf(number, sizeof number, "%lld", (long long)f->i);
        put_cstr(l, number);
        break;
    case LOG_F_UINT:
        snprintf(number, sizeof number, "%llu", (unsigned long long)f->u);
        put_cstr(l, number);
        break;
    case LOG_F_END: break;
    }
}

void log_write(enum log_level level, const char *at, const char *msg, const struct log_field *fields)
{
    if (level > log_level()) return;
    int saved = errno; // a caller logs an errno and may go on to use it
    struct line l;
    l.n = 0;
    char now[TIME_TEXT];
    time_format(now, (int64_t)clock_wall_ms());
    put_cstr(&l, "ts=");
    put(&l, now, sizeof now);
    put_cstr(&l, " level=");
    put_cstr(&l, level_names[level]);
    put_cstr(&l, " at=");
    put_value(&l, SPAN_STR(at), false);
    put_cstr(&l, " msg=");
    put_value(&l, SPAN_STR(msg), true);
    for (const struct log_field *f = fields; f->kind != LOG_F_END; f++)
        put_field(&l, f);
    l.p[l.n++] = '\n';

    // One write per line, so that lines of several threads do not mix. Nobody can be told if it fails.
    ssize_t n;
    do
        n = write(STDERR_FILENO, l.p, l.n);
    while (n < 0 && errno == EINTR);
    errno = saved;
}
