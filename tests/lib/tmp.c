#include "tmp.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

char *tmp_path(const char *folder, const char *name)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s", folder, name) < 0) abort();
    return path;
}

char *tmp_make(void)
{
    const char *root = getenv("TMPDIR");
    char *path = tmp_path(root != NULL ? root : "/tmp", "segue-test-XXXXXX");
    if (mkdtemp(path) == NULL) {
        perror(path);
        abort();
    }
    return path;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

void tmp_remove(char *path)
{
    // Depth first, so that a folder is empty when its turn comes; links are removed, not followed.
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0) perror(path);
    free(path);
}
