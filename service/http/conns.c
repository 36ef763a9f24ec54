#include "conns.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conn.h"
#include "err.h"
#include "log.h"

// A few more than Linux takes by default; it cuts by net.core.somaxconn.
#define BACKLOG 4096

static void on_check(uv_check_t *check);
static void on_timer(uv_timer_t *timer);

// ---- opening and closing ------------------------------------------------------------------------------------------

static void handles_init(struct conns *cs)
{
    uv_loop_t *loop = cs->options.loop;
    uv_tcp_init(loop, &cs->listener);
    uv_check_init(loop, &cs->check);
    uv_idle_init(loop, &cs->idle);
    uv_timer_init(loop, &cs->timer);
    cs->handles = 4;
    cs->listener.data = cs->check.data = cs->idle.data = cs->timer.data = cs;
    uv_check_start(&cs->check, on_check);
    // The turn itself keeps no loop alive; listener and connections do.
    uv_unref((uv_handle_t *)&cs->check);
    uv_unref((uv_handle_t *)&cs->timer);
}

int conns_open(struct conns **out, const struct conns_options *options)
{
    struct conns *cs = calloc(1, sizeof *cs);
    if (cs == NULL) return ERR_NOMEM;
    cs->options = *options;
    cs->armed_ms = UINT64_MAX;
    cs->marked_end = &cs->marked;
    cs->held_end = &cs->held;
    cs->scratch = malloc(options->limits.read);
    if (cs->scratch == NULL) {
        free(cs);
        return ERR_NOMEM;
    }
    uv_update_time(options->loop);
    wheel_init(&cs->wheel, uv_now(options->loop));
    handles_init(cs);
    *out = cs;
    return options->egress > 0 ? egress_open(&cs->egress, options->loop, options->egress, conn_on_sent) : 0;
}

void conns_handle_closed(struct conns *cs)
{
    assert(cs->handles > 0);
    if (--cs->handles > 0) return;
    assert(cs->closing && cs->count == 0 && cs->wheel.count == 0);
    free(cs->scratch);
    free(cs);
}

static void on_handle_closed(uv_handle_t *handle)
{
    conns_handle_closed(handle->data);
}

void conns_close(struct conns *cs)
{
    cs->stopping = cs->closing = true;
    cs->stalled = false;
    while (cs->first != NULL)
        conn_cut(cs->first);
    egress_close(cs->egress);
    cs->egress = NULL;
    if (!uv_is_closing((uv_handle_t *)&cs->listener)) uv_close((uv_handle_t *)&cs->listener, on_handle_closed);
    uv_close((uv_handle_t *)&cs->check, on_handle_closed);
    uv_close((uv_handle_t *)&cs->idle, on_handle_closed);
    uv_close((uv_handle_t *)&cs->timer, on_handle_closed);
}

void conns_link(struct conns *cs, struct conn *c)
{
    c->id = ++cs->next_id;
    c->next = cs->first;
    if (cs->first != NULL) cs->first->prev = c;
    cs->first = c;
    cs->count++;
    conns_total(cs->options.total, 1);
    cs->handles++;
}

void conns_total(atomic_uint *total, unsigned by)
{
    if (total != NULL) atomic_fetch_add_explicit(total, by, memory_order_relaxed);
}

void conns_unlink(struct conns *cs, struct conn *c)
{
    if (cs->first == c) cs->first = c->next;
    if (c->next != NULL) c->next->prev = c->prev;
    if (c->prev != NULL) c->prev->next = c->next;
    cs->count--;
    conns_total(cs->options.total, -1u);
}

uint32_t conns_count(const struct conns *cs)
{
    return cs->count;
}

const struct conns_counts *conns_counts(const struct conns *cs)
{
    return &cs->counts;
}

// ---- listening ----------------------------------------------------------------------------------------------------

// One too many: it is told so if a single write can, and what it sent is taken first, so that closing sends no reset.
static void refuse_socket(struct conns *cs)
{
    static const char text[] = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
    uv_tcp_t *tcp = malloc(sizeof *tcp);
    // Until the socket is taken libuv listens for no other: without memory now, it is tried again every turn.
    cs->stalled = tcp == NULL;
    if (tcp == NULL) return;
    uv_tcp_init(cs->options.loop, tcp);
    cs->counts.refused++;
    int fd;
    if (uv_accept((uv_stream_t *)&cs->listener, (uv_stream_t *)tcp) == 0 && uv_fileno((uv_handle_t *)tcp, &fd) == 0) {
        ssize_t ignored = recv(fd, cs->scratch, cs->options.limits.read, MSG_DONTWAIT);
        ignored = send(fd, text, sizeof text - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        (void)ignored;
        shutdown(fd, SHUT_WR);
    }
    uv_close((uv_handle_t *)tcp, (uv_close_cb)free);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct conns *cs = listener->data;
    if (status < 0) {
        log_warn("http", "a connection could not be accepted", LF_STR("reason", uv_strerror(status)));
        return;
    }
    uint32_t open = cs->options.total != NULL ? atomic_load_explicit(cs->options.total, memory_order_relaxed) : cs->count;
    if (open >= cs->options.limits.connections || !conn_open(cs)) refuse_socket(cs);
}

void conns_adopt(struct conns *cs, struct conn_moved *m)
{
    conn_adopt(cs, m);
}

void conn_moved_drop(struct conn_moved *m)
{
    conns_total(m->total, -1u);
    close(m->fd);
    http_parse_free(m->parse);
    buf_free(&m->rest);
    free(m);
}

static int listen_error(int uv, const char *host, uint16_t port, struct problem *p)
{
    int err = uv == UV_EADDRINUSE ? ERR_EXISTS : uv == UV_EINVAL || uv == UV_EADDRNOTAVAIL ? ERR_USAGE : ERR_IO;
    return problem_set(p, err, -1, "cannot listen on %s port %u: %s", host, port, uv_strerror(uv));
}

int conns_listen(struct conns *cs, const char *host, uint16_t port, struct problem *p)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address;
    int uv = uv_ip4_addr(host, port, &address.v4);
    if (uv < 0) uv = uv_ip6_addr(host, port, &address.v6);
    if (uv == 0) uv = uv_tcp_bind(&cs->listener, &address.any, 0);
    if (uv == 0) uv = uv_listen((uv_stream_t *)&cs->listener, BACKLOG, on_connection);
    if (uv < 0) return listen_error(uv, host, port, p);
    return 0;
}

uint16_t conns_port(const struct conns *cs)
{
    struct sockaddr_storage address;
    int n = sizeof address;
    if (uv_tcp_getsockname(&cs->listener, (struct sockaddr *)&address, &n) < 0) return 0;
    // The port stands at the same place for both families.
    return ntohs(((struct sockaddr_in *)&address)->sin_port);
}

void conns_stop(struct conns *cs)
{
    if (cs->stopping) return;
    cs->stopping = true;
    uv_close((uv_handle_t *)&cs->listener, on_handle_closed);
    for (struct conn *c = cs->first; c != NULL; c = c->next)
        conn_mark(c);
}

// ---- the turn -----------------------------------------------------------------------------------------------------

static void on_idle(uv_idle_t *idle)
{
    (void)idle; // being active is all: poll does not wait
}

void conns_wake(struct conns *cs)
{
    if (!cs->closing) uv_idle_start(&cs->idle, on_idle);
}

uint64_t conns_now(const struct conns *cs)
{
    return uv_now(cs->options.loop);
}

static void timer_arm(struct conns *cs, uint64_t at_ms)
{
    uint64_t now = conns_now(cs);
    cs->armed_ms = at_ms;
    uv_timer_start(&cs->timer, on_timer, at_ms > now ? at_ms - now : 0, 0);
}

static void on_timer(uv_timer_t *timer)
{
    struct conns *cs = timer->data;
    cs->armed_ms = UINT64_MAX;
    wheel_run(&cs->wheel, conns_now(cs));
    int64_t wait = wheel_wait(&cs->wheel, conns_now(cs));
    if (wait >= 0) timer_arm(cs, conns_now(cs) + (uint64_t)wait);
}

void conns_set(struct conns *cs, struct wheel_entry *e, uint64_t due_ms, void (*fire)(struct wheel_entry *e))
{
    wheel_set(&cs->wheel, e, due_ms, fire);
    uint64_t at = e->placed * WHEEL_TICK_MS;
    if (at < cs->armed_ms) timer_arm(cs, at);
}

void conns_flush(struct conns *cs)
{
    // What is marked from now on waits for the next turn: no connection can keep the others waiting.
    struct conn *marked = cs->marked;
    cs->marked = NULL;
    cs->marked_end = &cs->marked;
    while (marked != NULL) {
        struct conn *c = marked;
        marked = c->marked_next;
        c->marked = false;
        conn_tick(c);
    }
}

void conns_release(struct conns *cs)
{
    struct conn *held = cs->held;
    cs->held = NULL;
    cs->held_end = &cs->held;
    while (held != NULL) {
        struct conn *c = held;
        held = c->held_next;
        c->held_at = NULL;
        c->read_ms = conns_now(cs); // a body's time did not run
        conn_mark(c);
    }
}

static void on_check(uv_check_t *check)
{
    struct conns *cs = check->data;
    uv_idle_stop(&cs->idle); // whoever needs another turn at once asks again from here on
    if (cs->stalled) refuse_socket(cs);
    if (cs->options.turn != NULL) cs->options.turn(cs->options.ctx);
    conns_flush(cs);
    egress_flush(cs->egress);
}
