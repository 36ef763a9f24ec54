#include "sub_place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bug.h"
#include "cli.h"
#include "err.h"
#include "file.h"
#include "json_read.h"
#include "limits.h"

#define LINE_MAX_BYTES (64ull * MIB) // a longer line is no message

// ---- a file with a cursor --------------------------------------------------------------------------------------

int sub_place_read(const char *path, struct buf *cursor)
{
    int err = file_slurp(cursor, path);
    if (err != 0 && err != ERR_NOT_FOUND) return cli_fail(CLI_USAGE, err, "%s: %s", path, err_text(err));
    while (cursor->n > 0 && cursor->p[cursor->n - 1] == '\n')
        buf_truncate(cursor, cursor->n - 1);
    return CLI_DONE;
}

// Not synced: a power cut may take it, and then the state comes anew.
bool sub_place_write(const char *path, const char *cursor)
{
    char *part = NULL;
    size_t n = strlen(cursor);
    int fd = asprintf(&part, "%s.tmp", path) < 0 ? ERR_NOMEM : file_open(part, O_WRONLY | O_CREAT | O_TRUNC);
    int err = fd < 0 ? fd : file_write(fd, SPAN(cursor, n), 0);
    if (err == 0) err = file_write(fd, SPAN_LIT("\n"), n);
    file_close(fd < 0 ? -1 : fd);
    if (err == 0 && rename(part, path) != 0) err = err_from_errno(errno);
    free(part);
    if (err != 0) cli_fail(CLI_REFUSED, err, "%s: %s", path, err_text(err));
    return err == 0;
}

// ---- a file with messages --------------------------------------------------------------------------------------

static bool get_cursor(struct span line, struct buf *cursor)
{
    struct jr_tree *tree = NULL;
    if (line.n > LINE_MAX_BYTES || memmem(line.p, line.n, "\"cursor\":", 9) == NULL || jr_parse(&tree, line, NULL) != 0) return false;
    struct span found = jr_str(jr_get(jr_root(tree), "cursor"));
    buf_clear(cursor);
    buf_put_span(cursor, found);
    jr_free(tree);
    return found.n > 0;
}

static bool is_ours(struct span text)
{
    static const char begin[] = "{\"type\":\"";
    size_t n = text.n < sizeof begin - 1 ? text.n : sizeof begin - 1; // a run that was killed may have begun just so
    return memcmp(text.p, begin, n) == 0;
}

// Behind the last line that bears a cursor; 0: none does.
static size_t find_end(struct span text, struct buf *cursor)
{
    size_t end = text.n;
    while (end > 0) {
        const uint8_t *last = memrchr(text.p, '\n', end);
        if (last == NULL) return 0;
        size_t behind = (size_t)(last - text.p) + 1;
        const uint8_t *before = memrchr(text.p, '\n', behind - 1);
        size_t begin = before != NULL ? (size_t)(before - text.p) + 1 : 0;
        if (get_cursor(SPAN(text.p + begin, behind - 1 - begin), cursor)) return behind;
        end = begin;
    }
    return 0;
}

static int cut(const char *path, int fd, uint64_t size, struct buf *cursor)
{
    size_t end = 0;
    if (size > 0) {
        void *p = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) return cli_fail(CLI_REFUSED, ERR_IO, "%s: %s", path, strerror(errno));
        bool ours = is_ours(SPAN(p, size));
        if (ours) end = find_end(SPAN(p, size), cursor);
        if (ours && bug("sub_repeats") && end > 0) find_end(SPAN(p, end - 1), cursor);
        munmap(p, size);
        if (!ours) return cli_fail(CLI_USAGE, ERR_EXISTS, "%s was not written by segue sub --json", path);
    }
    if (ftruncate(fd, (off_t)end) != 0 || lseek(fd, 0, SEEK_END) < 0) return cli_fail(CLI_REFUSED, ERR_IO, "%s: %s", path, strerror(errno));
    return CLI_DONE;
}

int sub_place_open(const char *path, struct buf *cursor)
{
    uint64_t size;
    int fd = file_open(path, O_RDWR | O_CREAT);
    if (fd < 0) return cli_fail(CLI_USAGE, fd, "%s: %s", path, err_text(fd));
    int status = CLI_DONE, err = file_size(fd, &size);
    if (err != 0) status = cli_fail(CLI_REFUSED, err, "%s: %s", path, err_text(err));
    if (status == CLI_DONE && flock(fd, LOCK_EX | LOCK_NB) != 0) status = cli_fail(CLI_REFUSED, ERR_BUSY, "%s: another run writes to it", path);
    if (status == CLI_DONE) status = cut(path, fd, size, cursor);
    // The lock is the open file's, which standard output now is.
    if (status == CLI_DONE && dup2(fd, STDOUT_FILENO) < 0) status = cli_fail(CLI_REFUSED, ERR_IO, "%s: %s", path, strerror(errno));
    file_close(fd);
    return status;
}
