// A stand-in for an LLM provider: answers POST <anything> on loopback by replaying a transcript, the one that the request's model names.
// GET …/responses/<id>?starting_after=N replays <id>.http behind its event of that number; POST …/responses/<id>/cancel is noted.
//
//      provider [--port N] [--folder tests/fixtures/provider]
//
// A transcript (<model>.http) is an answer in the provider's documented wire format: status line, fields, an empty line, the body,
// byte for byte. Lines that begin with '~' are for the stand-in and are not sent:
//
//      ~split N MS   what follows goes out in pieces of N bytes, MS between two of them (0 0: as a whole)
//      ~pause MS     waits
//      ~fill N       sends N letters
//      ~mark         where ~again goes on
//      ~again        goes back to the mark, without end
//      ~hang         sends nothing more, and keeps the connection
//      ~first N NAME the first N requests for this transcript get that one instead; in the first line alone
//      ~cut          closes the connection here, without the end that chunked content should have
//
// Where the fields name chunked content, each piece is a chunk. On standard output, a line for each thing that happens: `listening on URL`,
// `request MODEL AUTHORIZATION BODY`, `resume ID N AUTHORIZATION`, `cancel ID AUTHORIZATION`, `sent MODEL`, and `gone MODEL` when the peer left before the end.
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "buf.h"
#include "file.h"
#include "limits.h"

#define CONNS_MAX 256
#define REQUEST_MAX (8 * MIB) // also of a transcript
#define PIECE_MAX (64 * KIB)
#define MODEL_MAX 64

struct conn {
    int fd; // -1: free
    struct buf in, script, out;
    char model[MODEL_MAX];
    size_t at, mark;    // in the script
    size_t split, sent; // of a piece
    uint64_t split_ms, due_ms, fill;
    bool answering, chunked, in_head, hangs, cut, over;
};

static struct conn conns[CONNS_MAX];
static const char *folder = "tests/fixtures/provider";

static uint64_t now_ms(void)
{
    return clock_mono_us() / 1000;
}

static void conn_close(struct conn *c)
{
    close(c->fd);
    buf_free(&c->in);
    buf_free(&c->script);
    buf_free(&c->out);
    *c = (struct conn){.fd = -1};
}

// ---- the request ----------------------------------------------------------------------------------------------------

// The value of a field of the head, up to its line's end.
static struct span field(struct span head, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i + n < head.n; i++) {
        if ((i > 0 && head.p[i - 1] != '\n') || strncasecmp((const char *)head.p + i, name, n) != 0) continue;
        size_t from = i + n, to = from;
        while (to < head.n && head.p[to] != '\r')
            to++;
        while (from < to && head.p[from] == ' ')
            from++;
        return SPAN(head.p + from, to - from);
    }
    return SPAN_NONE;
}

// Content that was quoted has its quotes escaped, so the first such member is the request's own.
static void find_model(struct conn *c, struct span body)
{
    static const char key[] = "\"model\":\"";
    const uint8_t *at = body.n == 0 ? NULL : memmem(body.p, body.n, key, sizeof key - 1);
    size_t n = 0;
    if (at != NULL)
        for (const uint8_t *p = at + sizeof key - 1;
             p < body.p + body.n && n + 1 < MODEL_MAX && strchr("abcdefghijklmnopqrstuvwxyz0123456789-_", *p) != NULL && *p != 0; p++)
            c->model[n++] = (char)*p;
    if (n == 0) memcpy(c->model, "none", n = 4);
    c->model[n] = '\0';
}

static bool slurp(struct buf *out, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.http", folder, name);
    buf_clear(out);
    return file_slurp(out, path) == 0;
}

// How often a transcript was asked for, for ~first.
static unsigned asked(const char *model)
{
    static struct {
        char model[MODEL_MAX];
        unsigned count;
    } table[64];
    for (size_t i = 0; i < 64; i++) {
        if (table[i].model[0] != '\0' && strcmp(table[i].model, model) != 0) continue;
        memcpy(table[i].model, model, strlen(model) + 1);
        return ++table[i].count;
    }
    return 0;
}

static void load_script(struct conn *c)
{
    static const char missing[] =
        "HTTP/1.1 404 Not Found\nContent-Type: application/json\n\n"
        "{\"error\":{\"message\":\"The model does not exist\",\"type\":\"invalid_request_error\",\"code\":\"model_not_found\"}}\n";
    char first[100] = "", other[MODEL_MAX];
    unsigned times;
    if (!slurp(&c->script, c->model)) {
        buf_clear(&c->script);
        buf_put_str(&c->script, missing);
    }
    snprintf(first, sizeof first, "%.*s", SPAN_FMT(span_sub(buf_span(&c->script), 0, sizeof first - 1)));
    if (sscanf(first, "~first %u %63[a-z0-9_-]", &times, other) == 2 && asked(c->model) <= times) slurp(&c->script, other);
    c->answering = c->in_head = true;
}

// What stands behind the event of that number: head and all before it are kept, the events up to it go.
static void skip_events(struct conn *c, unsigned long long number)
{
    char key[60];
    snprintf(key, sizeof key, "\"sequence_number\":%llu,", number);
    const uint8_t *head = memmem(c->script.p, c->script.n, "\n\n", 2), *at = memmem(c->script.p, c->script.n, key, strlen(key));
    const uint8_t *end = at != NULL ? memmem(at, (size_t)(c->script.p + c->script.n - at), "\n\n", 2) : NULL;
    if (head == NULL || end == NULL) return;
    size_t from = (size_t)(head + 2 - c->script.p), to = (size_t)(end + 2 - c->script.p);
    memmove(c->script.p + from, c->script.p + to, c->script.n - to);
    c->script.n -= to - from;
}

// A response that goes on in the background is asked for again, or called off. True: it was one of these.
static bool take_background(struct conn *c, struct span head, struct span key)
{
    char line[500], id[MODEL_MAX];
    unsigned long long number;
    snprintf(line, sizeof line, "%.*s", SPAN_FMT(span_sub(head, 0, sizeof line - 1)));
    const char *path = strstr(line, "/responses/");
    if (path == NULL) return false;
    if (strncmp(line, "GET ", 4) == 0 && sscanf(path, "/responses/%63[A-Za-z0-9_-]?stream=true&starting_after=%llu", id, &number) == 2) {
        printf("resume %s %llu %.*s\n", id, number, SPAN_FMT(key));
        memcpy(c->model, id, sizeof id);
        load_script(c);
        skip_events(c, number);
        return true;
    }
    if (sscanf(path, "/responses/%63[A-Za-z0-9_-]/cancel", id) != 1 || strstr(path, "/cancel ") == NULL) return false;
    printf("cancel %s %.*s\n", id, SPAN_FMT(key));
    memcpy(c->model, id, sizeof id);
    buf_put_str(&c->script, "HTTP/1.1 200 OK\nContent-Type: application/json\n\n{}\n");
    c->answering = c->in_head = true;
    return true;
}

static void take_request(struct conn *c)
{
    struct span in = buf_span(&c->in);
    const uint8_t *end = in.n == 0 ? NULL : memmem(in.p, in.n, "\r\n\r\n", 4);
    if (end == NULL) return;
    struct span head = SPAN(in.p, (size_t)(end + 2 - in.p));
    struct span length = field(head, "content-length:");
    size_t body = 0;
    for (size_t i = 0; i < length.n && length.p[i] >= '0' && length.p[i] <= '9'; i++)
        body = 10 * body + (length.p[i] - '0');
    if (in.n - head.n - 2 < body) return;
    struct span content = SPAN(end + 4, body), authorization = field(head, "authorization:");
    if (authorization.n == 0) authorization = field(head, "x-api-key:");
    if (authorization.n == 0) authorization = SPAN_LIT("-");
    if (take_background(c, head, authorization)) return;
    find_model(c, content);
    printf("request %s %.*s %.*s\n", c->model, SPAN_FMT(authorization), SPAN_FMT(content));
    load_script(c);
}

// ---- the answer -----------------------------------------------------------------------------------------------------

static void put_piece(struct conn *c, struct span s)
{
    if (c->chunked && s.n > 0) buf_printf(&c->out, "%zx\r\n", s.n);
    buf_put_span(&c->out, s);
    if (c->chunked && s.n > 0) buf_put_str(&c->out, "\r\n");
}

static void directive(struct conn *c, struct span line)
{
    char text[80];
    unsigned long long a = 0, b = 0;
    snprintf(text, sizeof text, "%.*s", SPAN_FMT(span_sub(line, 0, sizeof text - 1)));
    if (sscanf(text, "~split %llu %llu", &a, &b) == 2)
        c->split = a, c->split_ms = b;
    else if (sscanf(text, "~pause %llu", &a) == 1)
        c->due_ms = now_ms() + a;
    else if (sscanf(text, "~fill %llu", &a) == 1)
        c->fill = a;
    else if (strcmp(text, "~mark") == 0)
        c->mark = c->at;
    else if (strcmp(text, "~again") == 0)
        c->at = c->mark;
    else if (strcmp(text, "~hang") == 0)
        c->hangs = true;
    else if (strcmp(text, "~cut") == 0)
        c->cut = c->over = true;
}

// The head goes out with the line ends that HTTP has.
static void head_line(struct conn *c, struct span line)
{
    if (line.n == 0) {
        if (!c->chunked) buf_put_str(&c->out, "Connection: close\r\n");
        c->in_head = false;
    }
    char text[200];
    snprintf(text, sizeof text, "%.*s", SPAN_FMT(span_sub(line, 0, sizeof text - 1)));
    bool chunked = strcasecmp(text, "Transfer-Encoding: chunked") == 0;
    buf_put_span(&c->out, line);
    buf_put_str(&c->out, "\r\n");
    if (chunked) c->chunked = true;
}

static void fill(struct conn *c)
{
    static uint8_t letters[PIECE_MAX];
    memset(letters, 'x', sizeof letters);
    size_t n = c->fill < sizeof letters ? (size_t)c->fill : sizeof letters;
    put_piece(c, SPAN(letters, n));
    c->fill -= n;
}

// The body up to the next directive, or a piece of it.
static void body_piece(struct conn *c)
{
    size_t from = c->at, to = from;
    while (to < c->script.n && !(c->script.p[to] == '~' && (to == 0 || c->script.p[to - 1] == '\n')))
        to++;
    if (c->split > 0 && to - from > c->split) to = from + c->split;
    put_piece(c, SPAN(c->script.p + from, to - from));
    c->at = to;
    if (c->split > 0) c->due_ms = now_ms() + c->split_ms;
}

static struct span next_line(const struct conn *c)
{
    const uint8_t *p = c->script.p + c->at, *end = memchr(p, '\n', c->script.n - c->at);
    return SPAN(p, end != NULL ? (size_t)(end - p) : c->script.n - c->at);
}

// One step of the script; each makes at most a piece.
static void step(struct conn *c)
{
    if (c->fill > 0) {
        fill(c);
    } else if (c->at >= c->script.n) {
        if (c->chunked && !c->in_head) buf_put_str(&c->out, "0\r\n\r\n");
        c->over = true;
    } else if (c->script.p[c->at] == '~' && (c->at == 0 || c->script.p[c->at - 1] == '\n')) {
        struct span line = next_line(c);
        c->at += line.n + 1;
        directive(c, line);
    } else if (c->in_head) {
        struct span line = next_line(c);
        c->at += line.n + 1;
        head_line(c, line);
    } else {
        body_piece(c);
    }
}

static void write_out(struct conn *c)
{
    while (c->out.n > 0) {
        ssize_t n = send(c->fd, c->out.p, c->out.n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
        if (n < 0) {
            printf("gone %s\n", c->model);
            conn_close(c);
            return;
        }
        buf_consume(&c->out, (size_t)n);
    }
}

static void answer(struct conn *c)
{
    while (c->fd >= 0 && c->out.n == 0 && !c->hangs && !c->over && now_ms() >= c->due_ms) {
        step(c);
        write_out(c);
    }
    if (c->fd < 0 || c->out.n > 0 || !c->over) return;
    printf("sent %s\n", c->model);
    conn_close(c);
}

// ---- sockets --------------------------------------------------------------------------------------------------------

static void read_in(struct conn *c)
{
    uint8_t piece[16 * 1024];
    ssize_t n = recv(c->fd, piece, sizeof piece, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
        if (c->answering) printf("gone %s\n", c->model);
        conn_close(c);
        return;
    }
    if (c->answering) return;
    buf_put(&c->in, piece, (size_t)n);
    take_request(c);
}

static void accept_one(int listener)
{
    int fd = accept(listener, NULL, NULL);
    for (size_t i = 0; fd >= 0 && i < CONNS_MAX; i++) {
        if (conns[i].fd >= 0) continue;
        conns[i] = (struct conn){.fd = fd};
        buf_init(&conns[i].in, REQUEST_MAX);
        buf_init(&conns[i].script, REQUEST_MAX);
        buf_init(&conns[i].out, REQUEST_MAX);
        return;
    }
    if (fd >= 0) close(fd);
}

// How long poll may wait: until the next conn has something due.
static int wait_ms(void)
{
    uint64_t now = now_ms(), least = 1000;
    for (size_t i = 0; i < CONNS_MAX; i++) {
        const struct conn *c = &conns[i];
        if (c->fd < 0 || !c->answering || c->hangs || c->out.n > 0) continue;
        uint64_t wait = c->due_ms > now ? c->due_ms - now : 0;
        if (wait < least) least = wait;
    }
    return (int)least;
}

static void turn(int listener)
{
    struct pollfd fds[CONNS_MAX + 1] = {{.fd = listener, .events = POLLIN}};
    for (size_t i = 0; i < CONNS_MAX; i++)
        fds[i + 1] = (struct pollfd){.fd = conns[i].fd, .events = (short)(POLLIN | (conns[i].fd >= 0 && conns[i].out.n > 0 ? POLLOUT : 0))};
    if (poll(fds, CONNS_MAX + 1, wait_ms()) < 0) return;
    for (size_t i = 0; i < CONNS_MAX; i++) {
        struct conn *c = &conns[i];
        if (c->fd < 0) continue;
        if (fds[i + 1].revents & (POLLIN | POLLHUP | POLLERR)) read_in(c);
        if (c->fd >= 0 && c->out.n > 0) write_out(c);
        if (c->fd >= 0 && c->answering) answer(c);
    }
    if (fds[0].revents & POLLIN) accept_one(listener);
    fflush(stdout);
}

static int listen_on(unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof address;
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 128) != 0) return -1;
    if (getsockname(fd, (struct sockaddr *)&address, &n) != 0) return -1;
    printf("listening on http://127.0.0.1:%u\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv)
{
    unsigned port = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--port") == 0)
            port = (unsigned)strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--folder") == 0)
            folder = argv[i + 1];
    }
    for (size_t i = 0; i < CONNS_MAX; i++)
        conns[i].fd = -1;
    signal(SIGPIPE, SIG_IGN);
    int listener = listen_on(port);
    if (listener < 0) return perror("provider"), 1;
    for (;;)
        turn(listener);
}
