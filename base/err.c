#include "err.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

struct row {
    int err;
    int status;
    const char *wire;
    const char *text;
};

static const struct row rows[] = {
    {ERR_OK, 200, "ok", "all is well"},
#define ERR_ROW(name, number, wire, status, text) {ERR_##name, status, wire, text},
    ERR_TABLE(ERR_ROW)
#undef ERR_ROW
};

// Errors are off the hot path, so a walk over the table beats an index that could drift from it. An unknown
// number must still be answerable: it may come from a newer peer or a damaged record.
static const struct row *find(int err)
{
    const struct row *internal = &rows[0];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].err == err) return &rows[i];
        if (rows[i].err == ERR_INTERNAL) internal = &rows[i];
    }
    return internal;
}

const char *err_wire(int err)
{
    return find(err)->wire;
}

const char *err_text(int err)
{
    return find(err)->text;
}

int err_status(int err)
{
    return find(err)->status;
}

int err_from_wire(const char *wire)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(rows[i].wire, wire) == 0) return rows[i].err;
    return ERR_INTERNAL;
}

int err_from_errno(int errnum)
{
    switch (errnum) {
    case ENOSPC:
    case EDQUOT: return ERR_NO_SPACE;
    case ENOMEM: return ERR_NOMEM;
    default: return ERR_IO;
    }
}
