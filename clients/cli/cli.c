#include "cli.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "err.h"
#include "file.h"
#include "json_read.h"
#include "limits.h"
#include "table.h"

// ---- telling ---------------------------------------------------------------------------------------------------

static void tell(const char *code, struct span text)
{
    struct buf line;
    buf_init(&line, 8 * KIB);
    buf_printf(&line, "segue: %s: ", code);
    cli_put_clean(&line, text);
    buf_put_u8(&line, '\n');
    if (write(STDERR_FILENO, line.p, line.n) < 0) errno = 0; // there is nowhere left to say so
    buf_free(&line);
}

static void tell_format(const char *code, const char *fmt, va_list ap)
{
    char text[2048];
    vsnprintf(text, sizeof text, fmt, ap);
    tell(code, SPAN_STR(text));
}

int cli_fail(int status, int err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    tell_format(err_wire(err), fmt, ap);
    va_end(ap);
    return status;
}

int cli_usage(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    tell_format(err_wire(ERR_USAGE), fmt, ap);
    va_end(ap);
    return CLI_USAGE;
}

void cli_note(const char *word, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    tell_format(word, fmt, ap);
    va_end(ap);
}

// Where in a text of several lines a byte is, as a person counts.
static void put_place(struct buf *out, struct span text, int64_t position)
{
    if (position < 0) return;
    if ((size_t)position > text.n || text.n == 0) {
        buf_printf(out, " (at %lld)", (long long)position);
        return;
    }
    size_t line = 1, column = 1;
    for (size_t i = 0; i < (size_t)position; i++) {
        if (text.p[i] == '\n') {
            line++;
            column = 1;
        } else if ((text.p[i] & 0xc0) != 0x80) {
            column++;
        }
    }
    buf_printf(out, " (line %zu, column %zu)", line, column);
}

int cli_ended(const struct cli *c, int result, struct span text)
{
    const struct segue_error *error = segue_error(c->segue);
    if (result == SEGUE_OK) return CLI_DONE;
    if (result == SEGUE_CANCELED) return CLI_REFUSED;
    struct buf detail;
    buf_init(&detail, 8 * KIB);
    buf_put_str(&detail, error->detail);
    put_place(&detail, text, error->position);
    tell(error->code, buf_span(&detail));
    buf_free(&detail);
    return result;
}

struct span cli_answer(const struct cli *c)
{
    size_t n;
    const char *p = segue_answer(c->segue, &n);
    return SPAN(p, n);
}

bool cli_write(struct span s)
{
    while (s.n > 0) {
        ssize_t n = write(STDOUT_FILENO, s.p, s.n);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            cli_fail(CLI_REFUSED, ERR_IO, "standard output: %s", strerror(errno));
            return false;
        }
        s = span_sub(s, (size_t)n, s.n);
    }
    return true;
}

void cli_put_clean(struct buf *out, struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        bool c1 = c == 0xc2 && i + 1 < s.n && s.p[i + 1] < 0xa0; // U+0080 to U+009F are control characters too
        if (c1) i++;
        buf_put_u8(out, c1 || (c < ' ' && c != '\n' && c != '\t') || c == 0x7f ? '?' : c);
    }
}

// ---- texts -----------------------------------------------------------------------------------------------------

static int read_stdin(struct buf *out)
{
    for (;;) {
        uint8_t piece[64 * KIB];
        ssize_t n = read(STDIN_FILENO, piece, sizeof piece);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return err_from_errno(errno);
        if (n == 0) return out->err;
        buf_put(out, piece, (size_t)n);
        if (out->err != 0) return out->err;
    }
}

int cli_read(struct buf *out, const char *path)
{
    int err = strcmp(path, "-") == 0 ? read_stdin(out) : file_slurp(out, path);
    return err == 0 ? CLI_DONE : cli_fail(CLI_USAGE, err, "%s: %s", strcmp(path, "-") == 0 ? "standard input" : path, err_text(err));
}

int cli_take_bytes(void *ctx, const void *p, size_t n)
{
    (void)ctx;
    return cli_write(SPAN(p, n)) ? 0 : -1;
}

int cli_print_list(const struct cli *c, const char *key, int (*put)(const struct jr *list, struct buf *out))
{
    struct jr_tree *tree = NULL;
    struct buf out;
    buf_init(&out, 4 * QUERY_RESULT_MAX);
    int err = jr_parse(&tree, cli_answer(c), NULL);
    const struct jr *list = err == 0 ? jr_get(jr_root(tree), key) : NULL;
    if (err == 0) err = c->options->json ? table_put_lines(list, &out) : put(list, &out);
    bool written = err == 0 && cli_write(buf_span(&out));
    jr_free(tree);
    buf_free(&out);
    if (err != 0) return cli_fail(CLI_REFUSED, err, "%s", err_text(err));
    return written ? CLI_DONE : CLI_REFUSED;
}

// ---- signals ---------------------------------------------------------------------------------------------------

volatile sig_atomic_t cli_interrupted;

static void on_interrupt(int signal)
{
    (void)signal;
    cli_interrupted = 1;
}

// One that is ignored (a script's job in the background) stays ignored.
static void catch_signal(int signal)
{
    struct sigaction was, action = {.sa_handler = on_interrupt, .sa_flags = SA_RESETHAND};
    if (sigaction(signal, NULL, &was) == 0 && was.sa_handler != SIG_IGN) sigaction(signal, &action, NULL);
}

void cli_catch_signals(void)
{
    catch_signal(SIGINT);
    catch_signal(SIGTERM);
}
