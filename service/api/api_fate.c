// GET /apps/<app>/fate?replica=…&counter=… | ?key=…: what became of a batch, by its name.
#include "api.h"
#include "err.h"
#include "json_write.h"

static int parse_counter(struct span text, uint64_t *out)
{
    uint64_t v = 0;
    if (text.n == 0 || text.n > 18) return ERR_BAD_PARAMETER;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9') return ERR_BAD_PARAMETER;
        v = 10 * v + (text.p[i] - '0');
    }
    *out = v;
    return v > 0 ? 0 : ERR_BAD_PARAMETER;
}

static int name_of(struct request *r, struct buf *scratch, struct batch_name *name)
{
    struct span text;
    *name = (struct batch_name){.kind = BATCH_UNNAMED};
    int found = request_param(r, "key", scratch, &text);
    if (found < 0 || (found == 1 && (text.n == 0 || text.n > BATCH_KEY_MAX))) return ERR_BAD_PARAMETER;
    if (found == 1) {
        name->kind = BATCH_KEY;
        memcpy(name->key, text.p, text.n);
    }
    found = request_param(r, "replica", scratch, &text);
    if (found < 0 || (found == 1 && (name->kind == BATCH_KEY || uuid_parse(&name->replica, text) != 0))) return ERR_BAD_PARAMETER;
    if (found == 1) name->kind = BATCH_REPLICA;
    found = request_param(r, "counter", scratch, &text);
    if (name->kind == BATCH_REPLICA) return found == 1 ? parse_counter(text, &name->counter) : ERR_BAD_PARAMETER;
    return found == 0 && name->kind == BATCH_KEY ? 0 : ERR_BAD_PARAMETER;
}

size_t fate_ops(const struct fate *f)
{
    struct span rest = f->results;
    struct result one;
    size_t ops = 0;
    while (result_read(&rest, &one) > 0)
        if (one.op >= ops) ops = (size_t)one.op + 1;
    return ops;
}

static void fate_begin(struct request *r)
{
    struct batch_name name;
    struct buf b;
    struct fate f;
    struct problem p = PROBLEM_NONE;
    buf_init(&b, ENTRY_BYTES_MAX);
    int err = name_of(r, &b, &name);
    if (err != 0) {
        problem_set(&p, err, -1, "a batch is named by \"replica\" and \"counter\", or by \"key\"");
        reply_problem(r, &p);
    } else if (app_fate(r->app, &name, &r->identity, &f) < 0 || f.err != 0) {
        reply_fate_problem(r, &f);
    } else {
        buf_clear(&b);
        fate_json(&b, &f, fate_ops(&f));
        reply_json(r, 200, &b);
    }
    buf_free(&b);
}

const struct handler api_fate_get = {.begin = fate_begin};
