// Text as people write it, as far as a compressor can tell.
#ifndef SEGUE_BENCH_TEXT_H
#define SEGUE_BENCH_TEXT_H

#include <stddef.h>
#include <stdint.h>

// At least `n` bytes of words of the file at `path`, in a random order that is always the same. The caller frees.
uint8_t *text_make(const char *path, size_t n);

#endif
