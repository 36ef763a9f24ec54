#include <stddef.h>

#include "conn.h"
#include "err.h"
#include "percent.h"

bool request_header(const struct request *r, const char *name, struct span *value)
{
    return http_parse_field(r->conn->parse, name, value);
}

bool request_trailer(const struct request *r, const char *name, struct span *value)
{
    return http_parse_trailer(r->conn->parse, name, value);
}

uint64_t request_id(const struct request *r)
{
    return r->conn->id << 20 | (r->conn->requests & 0xfffff);
}

uint64_t request_connection(const struct request *r)
{
    return r->conn->id;
}

bool request_may_upgrade(const struct request *r)
{
    return !r->conn->old;
}

// ---- parameters -----------------------------------------------------------------------------------------------------

static size_t find(struct span s, size_t from, uint8_t c)
{
    while (from < s.n && s.p[from] != c)
        from++;
    return from;
}

bool request_param_next(const struct request *r, size_t *at, struct buf *scratch, struct span *name, struct span *value, int *err)
{
    *err = 0;
    while (*at < r->query.n && r->query.p[*at] == '&')
        (*at)++;
    if (*at >= r->query.n) return false;
    size_t end = find(r->query, *at, '&');
    struct span pair = span_sub(r->query, *at, end - *at);
    *at = end;
    size_t equals = find(pair, 0, '=');
    size_t from = scratch->n;
    *err = percent_decode(scratch, span_sub(pair, 0, equals), true);
    size_t middle = scratch->n;
    if (*err == 0) *err = percent_decode(scratch, span_sub(pair, equals + 1, pair.n), true);
    if (*err < 0) return false;
    *name = SPAN(scratch->p + from, middle - from);
    *value = SPAN(scratch->p + middle, scratch->n - middle);
    return true;
}

int request_param(const struct request *r, const char *name, struct buf *scratch, struct span *value)
{
    size_t at = 0, kept = scratch->n, found_n = 0;
    bool found = false;
    struct span n, v;
    int err;
    for (;;) {
        // Each pair is decoded behind what is kept, and forgotten unless it is the one.
        size_t here = scratch->n;
        if (!request_param_next(r, &at, scratch, &n, &v, &err)) break;
        if (!span_is(n, name)) {
            buf_truncate(scratch, here);
            continue;
        }
        if (found) return ERR_BAD_PARAMETER;
        found = true;
        kept = here + n.n;
        found_n = v.n;
    }
    if (err < 0) return err;
    if (found) *value = SPAN(scratch->p + kept, found_n);
    return found ? 1 : 0;
}

// ---- backpressure and time ------------------------------------------------------------------------------------------

void request_pause(struct request *r)
{
    r->conn->paused = true;
}

void request_resume(struct request *r)
{
    struct conn *c = r->conn;
    if (c->state == CONN_RAW) conn_mark(c);
    if (!c->paused) return;
    c->paused = false;
    c->read_ms = conns_now(c->set);
    conn_mark(c);
}

static void on_request_timer(struct wheel_entry *e)
{
    struct conn *c = (struct conn *)((char *)e - offsetof(struct conn, timer));
    if (c->broken || c->request == NULL || c->reply == REPLY_ENDED) return;
    c->timer_due = conn_is_held(c);
    if (c->timer_due) conn_hold(c);
    else c->timer_fn(c->request);
}

void request_timer(struct request *r, int64_t ms, void (*fn)(struct request *r))
{
    struct conn *c = r->conn;
    c->timer_fn = fn;
    c->timer_due = false;
    if (ms < 0 || c->broken)
        wheel_unset(&c->set->wheel, &c->timer);
    else
        conns_set(c->set, &c->timer, conns_now(c->set) + (uint64_t)ms, on_request_timer);
}
