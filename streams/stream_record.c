// What deciding and applying must both make of a stream's record, in one place: so that what was decided is what comes to be.
#include <strings.h>

#include "stream_effects.h"
#include "stream_store.h"

// A media type without its parameters and the spaces around it.
static struct span media_type(struct span type)
{
    const uint8_t *end = memchr(type.p, ';', type.n);
    size_t n = end != NULL ? (size_t)(end - type.p) : type.n, from = 0;
    while (n > from && (type.p[n - 1] == ' ' || type.p[n - 1] == '\t'))
        n--;
    while (from < n && (type.p[from] == ' ' || type.p[from] == '\t'))
        from++;
    return SPAN(type.p + from, n - from);
}

bool stream_type_equal(struct span a, struct span b)
{
    a = media_type(a);
    b = media_type(b);
    return a.n == b.n && strncasecmp((const char *)a.p, (const char *)b.p, a.n) == 0;
}

bool stream_type_json(struct span type)
{
    return stream_type_equal(type, SPAN_LIT("application/json"));
}

void stream_record_make(struct stream_record *r, const struct commit *c, const struct effect *e)
{
    memset(r, 0, sizeof *r);
    r->number = e->number;
    r->offset = r->base = e->base;
    r->created_seq = r->changed_seq = c->seq;
    r->created_ms = c->arrival_ms;
    r->owned = e->owned;
    r->has_ttl = e->has_ttl;
    r->ttl_s = e->ttl_s;
    r->deadline_ms = r->expires_ms = e->expires_ms;
    r->source = e->source;
    r->has_fork_offset = e->has_fork_offset;
    r->fork_offset = e->fork_offset;
    r->fork_sub = e->fork_sub;
    r->depth = e->depth;
    r->inherits = e->inherits;
    r->type_n = (uint8_t)e->type.n;
    r->path_n = (uint16_t)e->path.n;
    if (e->type.n > 0) memcpy(r->type, e->type.p, e->type.n);
    memcpy(r->path, e->path.p, e->path.n);
    r->json = stream_type_json(e->type);
    stream_record_slide(r, c->arrival_ms);
}

void stream_record_inherit(struct stream_record *r, const struct stream_record *source)
{
    r->first = source->first;
    r->trimmed_seq = r->trimmed_changed = source->first != 0 ? r->created_seq : 0;
    r->has_snapshot = source->has_snapshot;
}

void stream_record_trim(struct stream_record *r, const struct commit *c, uint64_t before, bool has_snapshot)
{
    r->first = before;
    r->trimmed_seq = c->seq;
    r->trimmed_changed = r->changed_seq;
    r->has_snapshot = has_snapshot;
    stream_record_slide(r, c->arrival_ms);
}

void stream_record_slide(struct stream_record *r, uint64_t access_ms)
{
    if (!r->has_ttl) return;
    uint64_t deadline = access_ms + r->ttl_s * 1000;
    if (deadline > r->deadline_ms) r->deadline_ms = deadline;
}

bool stream_record_expired(const struct stream_record *r, uint64_t now_ms)
{
    return r->deadline_ms != 0 && now_ms >= r->deadline_ms;
}
