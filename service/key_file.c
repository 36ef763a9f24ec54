#include "key_file.h"

#include <stdio.h>
#include <sys/stat.h>

#include "digest.h"
#include "err.h"
#include "file.h"
#include "log.h"
#include "uuid.h"

static int key_make(const char *path, const char *what)
{
    uint8_t key[KEY_FILE_BYTES];
    char text[2 * KEY_FILE_BYTES + 1];
    random_bytes(key, sizeof key);
    hex_format(text, SPAN(key, sizeof key));
    text[2 * KEY_FILE_BYTES] = '\n';
    int err = file_replace(path, SPAN(text, sizeof text));
    explicit_bzero(key, sizeof key);
    explicit_bzero(text, sizeof text);
    if (err == 0) log_info("key", "made a key", LF_STR("that", what), LF_STR("file", path));
    return err;
}

static int key_parse(struct span text, uint8_t key[KEY_FILE_BYTES])
{
    if (text.n > 0 && text.p[text.n - 1] == '\n') text.n--;
    return hex_parse(key, KEY_FILE_BYTES, text) == 0 ? 0 : ERR_USAGE;
}

int key_file_load(const char *folder, const char *name, const char *what, uint8_t key[KEY_FILE_BYTES], struct problem *p)
{
    char path[4200];
    struct buf text;
    struct stat st;
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) return problem_set(p, ERR_USAGE, -1, "the path of the data folder is too long");
    buf_init(&text, 2 * KEY_FILE_BYTES + 2);
    int err = file_slurp(&text, path);
    if (err == ERR_NOT_FOUND) {
        err = key_make(path, what);
        if (err == 0) err = file_slurp(&text, path);
    }
    if (err == 0) err = key_parse(buf_span(&text), key);
    if (err == ERR_TOO_LARGE) err = ERR_USAGE;
    if (text.p != NULL) explicit_bzero(text.p, text.cap);
    buf_free(&text);
    if (err != 0) return problem_set(p, err, -1, "%.150s cannot be used: one line of 64 hexadecimal digits is needed", path);
    if (stat(path, &st) == 0 && (st.st_mode & 077) != 0) log_warn("key", "others may read a key", LF_STR("that", what), LF_STR("file", path));
    return 0;
}
