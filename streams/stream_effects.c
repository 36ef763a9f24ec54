#include "stream_effects.h"

#include "limits.h"
#include "streams.h"

#define EFFECTS_FORMAT 1

static void effect_put(struct buf *out, const struct effect *e)
{
    buf_put_u8(out, (uint8_t)e->kind);
    buf_put_varint(out, e->number);
    switch (e->kind) {
    case EFFECT_CREATE:
        buf_put_blob(out, e->path);
        buf_put_blob(out, e->type);
        buf_put_u8(out, e->owned);
        break;
    case EFFECT_APPEND:
        buf_put_varint(out, e->offset);
        buf_put_varint(out, e->at);
        buf_put_varint(out, e->length);
        break;
    case EFFECT_CLOSE: buf_put_varint(out, e->offset); break;
    case EFFECT_DELETE: break;
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

static void effect_get_create(struct cur *c, struct effect *e)
{
    e->path = cur_blob(c);
    e->type = cur_blob(c);
    uint8_t owned = cur_u8(c);
    e->owned = owned == 1;
    if (owned > 1 || e->path.n == 0 || e->path.n > STREAM_PATH_MAX || e->type.n > STREAM_TYPE_MAX) cur_fail(c);
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
    case EFFECT_DELETE: break;
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
