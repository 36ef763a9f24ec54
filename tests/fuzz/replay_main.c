// Replays corpora: runs the fuzz target it is linked with once over every file of the folders given.
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL) return -1;
    uint8_t *data = malloc(1 << 20); // on the heap, exactly sized below, so that a sanitizer sees an overrun
    size_t n = data == NULL ? 0 : fread(data, 1, 1 << 20, f);
    fclose(f);
    uint8_t *exact = data == NULL ? NULL : realloc(data, n > 0 ? n : 1);
    if (exact == NULL) return free(data), -1;
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
    return 0;
}

static int replay_folder(const char *folder)
{
    DIR *d = opendir(folder);
    if (d == NULL) return fprintf(stderr, "cannot open %s\n", folder), -1;
    int count = 0;
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        char path[4096];
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (replay_file(path) != 0) {
            fprintf(stderr, "cannot read %s\n", path);
            closedir(d);
            return -1;
        }
        count++;
    }
    closedir(d);
    return count;
}

int main(int argc, char **argv)
{
    int total = 0;
    for (int i = 1; i < argc; i++) {
        int n = replay_folder(argv[i]);
        if (n <= 0) return fprintf(stderr, "%s: no corpus\n", argv[i]), 1;
        total += n;
    }
    printf("%d inputs replayed\n", total);
    return total > 0 ? 0 : 1;
}
