// The one key there is so far, and the one question. Policies will come behind the same question.
#include "auth.h"

#include <assert.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>

#include "digest.h"
#include "err.h"
#include "file.h"
#include "log.h"
#include "uuid.h"

#define KEY_BYTES 32 // of randomness in a key that we make
#define KEY_MIN 32   // characters of a key that an operator puts there
#define KEY_MAX 512

struct auth {
    bool dev;
    size_t n;
    uint8_t key[KEY_MAX];
};

static int key_make(const char *path)
{
    uint8_t random[KEY_BYTES];
    char text[2 * KEY_BYTES + 1];
    random_bytes(random, sizeof random);
    hex_format(text, SPAN(random, sizeof random));
    text[2 * KEY_BYTES] = '\n';
    int err = file_replace(path, SPAN(text, sizeof text));
    if (err == 0) log_info("auth", "made the admin key", LF_STR("file", path));
    return err;
}

// The key is the file's one line.
static int key_take(struct auth *a, struct span text)
{
    while (text.n > 0 && (text.p[text.n - 1] == '\n' || text.p[text.n - 1] == '\r'))
        text.n--;
    if (text.n < KEY_MIN || text.n > KEY_MAX) return ERR_USAGE;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] <= ' ' || text.p[i] > '~') return ERR_USAGE;
    }
    memcpy(a->key, text.p, text.n);
    a->n = text.n;
    return 0;
}

static int key_load(struct auth *a, const char *path)
{
    struct buf text;
    struct stat st;
    buf_init(&text, KEY_MAX + 2);
    int err = file_slurp(&text, path);
    if (err == ERR_NOT_FOUND) {
        err = key_make(path);
        if (err == 0) err = file_slurp(&text, path);
    }
    if (err == 0) err = key_take(a, buf_span(&text));
    buf_free(&text);
    if (err < 0)
        log_error("auth", "the admin key cannot be used: one line of 32 to 512 printable characters is needed", LF_STR("file", path),
                  LF_ERR(err));
    else if (stat(path, &st) == 0 && (st.st_mode & 077) != 0)
        log_warn("auth", "others may read the admin key", LF_STR("file", path));
    return err;
}

int auth_open(struct auth **out, const struct auth_options *options)
{
    assert(options->path != NULL);
    struct auth *a = calloc(1, sizeof *a);
    struct buf path;
    buf_init(&path, 8192);
    buf_printf(&path, "%s/admin.key%c", options->path, 0);
    int err = a == NULL ? ERR_NOMEM : path.err;
    if (err == 0) err = key_load(a, (const char *)path.p);
    buf_free(&path);
    if (err < 0) {
        free(a);
        return err;
    }
    a->dev = options->dev;
    *out = a;
    return 0;
}

void auth_close(struct auth *a)
{
    if (a == NULL) return;
    explicit_bzero(a, sizeof *a);
    free(a);
}

struct identity identity_of(enum identity_kind kind)
{
    static const char *const names[] = {[IDENTITY_NOBODY] = "", [IDENTITY_ANONYMOUS_DEV] = "dev", [IDENTITY_ADMIN] = "admin"};
    struct identity who = {.kind = kind};
    assert(kind <= IDENTITY_ADMIN);
    memcpy(who.name, names[kind], strlen(names[kind]) + 1);
    return who;
}

int auth_identify(const struct auth *a, struct span authorization, struct identity *out)
{
    if (authorization.n == 0) {
        *out = a->dev ? identity_of(IDENTITY_ANONYMOUS_DEV) : identity_of(IDENTITY_NOBODY);
        return 0;
    }
    if (authorization.n < 7 || strncasecmp((const char *)authorization.p, "Bearer ", 7) != 0) return ERR_UNAUTHENTICATED;
    if (!secret_equal(span_sub(authorization, 7, authorization.n), SPAN(a->key, a->n))) return ERR_UNAUTHENTICATED;
    *out = identity_of(IDENTITY_ADMIN);
    return 0;
}

int may(const struct auth *a, const struct identity *who, enum verb verb, struct span app, struct span object)
{
    (void)verb;
    (void)app;
    (void)object;
    switch (who->kind) {
    case IDENTITY_ADMIN: return 0;
    case IDENTITY_ANONYMOUS_DEV: return a->dev ? 0 : ERR_FORBIDDEN;
    case IDENTITY_NOBODY: return ERR_UNAUTHENTICATED;
    }
    assert(!"an identity of no kind");
    return ERR_FORBIDDEN;
}
