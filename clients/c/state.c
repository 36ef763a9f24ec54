#include "state.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>

#include "digest.h"
#include "err.h"
#include "file.h"

#define NAME 32 // characters

static int put_name(const struct segue *s, struct span subject, char name[NAME])
{
    struct digest *d = digest_new();
    if (d == NULL) return ERR_NOMEM;
    digest_update(d, buf_span(&s->url));
    digest_update(d, buf_span(&s->app));
    digest_update(d, subject);
    struct sha256 key = digest_final(d);
    digest_free(d);
    hex_format(name, SPAN(key.b, NAME / 2));
    return 0;
}

int state_path(const struct segue *s, const char *kind, struct span subject, char path[STATE_PATH_MAX])
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char folder[STATE_PATH_MAX - 80], name[NAME];
    bool set = state != NULL && state[0] == '/'; // the convention: anything else counts as not set
    if (!set && (home == NULL || home[0] == 0)) return ERR_NOT_FOUND;
    int n = snprintf(folder, sizeof folder, "%s%s/segue/%s", set ? state : home, set ? "" : "/.local/state", kind);
    if (n < 0 || (size_t)n >= sizeof folder) return ERR_TOO_LARGE;
    int err = put_name(s, subject, name);
    if (err != 0) return err;
    snprintf(path, STATE_PATH_MAX, "%s/%.*s", folder, NAME, name);
    return dir_make(folder);
}

int state_lock(const char *path)
{
    int fd = file_open(path, O_RDWR | O_CREAT);
    if (fd < 0) return -1;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
    file_close(fd);
    return -1;
}
