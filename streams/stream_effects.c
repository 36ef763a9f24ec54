#include "stream_effects.h"

#include "limits.h"
#include "streams.h"

#define EFFECTS_FORMAT 2

enum { CREATE_OWNED = 1, CREATE_TTL = 2, CREATE_EXPIRES = 4, CREATE_FORK = 8, CREATE_FORK_OFFSET = 16, CREATE_INHERITS = 32 };

static void effect_put_create(struct buf *out, const struct effect *e)
{
    buf_put_blob(out, e->path);
    buf_put_blob(out, e->type);
    buf_put_u8(out, (uint8_t)((e->owned ? CREATE_OWNED : 0) | (e->has_ttl ? CREATE_TTL : 0) | (e->has_expires ? CREATE_EXPIRES : 0) |
                              (e->has_fork ? CREATE_FORK : 0) | (e->has_fork_offset ? CREATE_FORK_OFFSET : 0) |
                              (e->inherits ? CREATE_INHERITS : 0)));
    if (e->has_ttl) buf_put_varint(out, e->ttl_s);
    if (e->has_expires) buf_put_varint(out, e->expires_ms);
    if (!e->has_fork) return;
    buf_put_varint(out, e->source);
    buf_put_varint(out, e->base);
    buf_put_u8(out, e->depth);
    buf_put_varint(out, e->fork_sub);
    if (e->has_fork_offset) buf_put_varint(out, e->fork_offset);
}

static void effect_put(struct buf *out, const struct effect *e)
{
    buf_put_u8(out, (uint8_t)e->kind);
    buf_put_varint(out, e->number);
    switch (e->kind) {
    case EFFECT_CREATE: effect_put_create(out, e); break;
    case EFFECT_APPEND:
        buf_put_varint(out, e->offset);
        buf_put_varint(out, e->at);
        buf_put_varint(out, e->length);
        break;
    case EFFECT_CLOSE: buf_put_varint(out, e->offset); break;
    case EFFECT_DELETE:
    case EFFECT_GONE: break;
    case EFFECT_WRITER:
        buf_put_u8(out, e->closing);
        buf_put_varint(out, e->epoch);
        buf_put_varint(out, e->seq);
        buf_put_blob(out, e->text);
        break;
    case EFFECT_SEQ: buf_put_blob(out, e->text); break;
    case EFFECT_TRIM:
        buf_put_varint(out, e->offset);
        buf_put_u8(out, e->has_snapshot);
        buf_put_varint(out, e->at);
        buf_put_varint(out, e->length);
        break;
    case EFFECT_TOUCH: buf_put_varint(out, e->deadline_ms); break;
    }
}

void stream_effect_put(struct buf *out, const struct effect *e)
{
    if (out->n == 0) buf_put_u8(out, EFFECTS_FORMAT);
    effect_put(out, e);
}

void stream_effects_begin(struct cur *c, struct span effects)
{
    cur_init(c, effects);
    if (effects.n > 0 && cur_u8(c) != EFFECTS_FORMAT) cur_fail(c);
}

static bool effect_bool(struct cur *c)
{
    uint8_t v = cur_u8(c);
    if (v > 1) cur_fail(c);
    return v == 1;
}

static void effect_get_fork(struct cur *c, struct effect *e)
{
    e->source = cur_varint(c);
    e->base = cur_varint(c);
    e->depth = cur_u8(c);
    e->fork_sub = cur_varint(c);
    if (e->has_fork_offset) e->fork_offset = cur_varint(c);
    if (e->source == 0 || e->depth == 0 || e->depth > STREAM_FORK_DEPTH_MAX) cur_fail(c);
}

static void effect_get_create(struct cur *c, struct effect *e)
{
    e->path = cur_blob(c);
    e->type = cur_blob(c);
    uint8_t flags = cur_u8(c);
    e->owned = flags & CREATE_OWNED;
    e->has_ttl = flags & CREATE_TTL;
    e->has_expires = flags & CREATE_EXPIRES;
    e->has_fork = flags & CREATE_FORK;
    e->has_fork_offset = flags & CREATE_FORK_OFFSET;
    e->inherits = flags & CREATE_INHERITS;
    if (flags >= 2 * CREATE_INHERITS || e->path.n == 0 || e->path.n > STREAM_PATH_MAX || e->type.n > STREAM_TYPE_MAX) cur_fail(c);
    if (e->has_ttl) e->ttl_s = cur_varint(c);
    if (e->has_expires) e->expires_ms = cur_varint(c);
    bool expiry = !(e->has_ttl && e->has_expires) && e->ttl_s <= STREAM_TTL_S_MAX && (!e->has_expires || e->expires_ms != 0);
    if (!expiry || (!e->has_fork && (e->has_fork_offset || e->inherits))) cur_fail(c);
    if (e->has_fork) effect_get_fork(c, e);
}

static void effect_get_writer(struct cur *c, struct effect *e)
{
    e->closing = effect_bool(c);
    e->epoch = cur_varint(c);
    e->seq = cur_varint(c);
    e->text = cur_blob(c);
    if (e->text.n == 0 || e->text.n > STREAM_PRODUCER_ID_MAX) cur_fail(c);
}

bool stream_effects_next(struct cur *c, struct effect *out)
{
    if (c->err != 0 || cur_left(c) == 0) return false;
    struct effect e = {.kind = cur_u8(c)};
    e.number = cur_varint(c);
    switch (e.kind) {
    case EFFECT_CREATE: effect_get_create(c, &e); break;
    case EFFECT_APPEND:
        e.offset = cur_varint(c);
        e.at = cur_varint(c);
        e.length = cur_varint(c);
        break;
    case EFFECT_CLOSE: e.offset = cur_varint(c); break;
    case EFFECT_DELETE:
    case EFFECT_GONE: break;
    case EFFECT_WRITER: effect_get_writer(c, &e); break;
    case EFFECT_SEQ:
        e.text = cur_blob(c);
        if (e.text.n == 0 || e.text.n > STREAM_SEQ_MAX) cur_fail(c);
        break;
    case EFFECT_TRIM:
        e.offset = cur_varint(c);
        e.has_snapshot = effect_bool(c);
        e.at = cur_varint(c);
        e.length = cur_varint(c);
        break;
    case EFFECT_TOUCH: e.deadline_ms = cur_varint(c); break;
    default: cur_fail(c);
    }
    *out = e;
    return c->err == 0;
}

void streams_append_effects(struct buf *effects, uint64_t number, uint64_t offset, uint64_t at, uint64_t n)
{
    buf_put_u8(effects, EFFECTS_FORMAT);
    effect_put(effects, &(struct effect){.kind = EFFECT_APPEND, .number = number, .offset = offset, .at = at, .length = n});
}
