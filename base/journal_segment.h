// The journal's bytes on disk and its segment files. Only journal.c and the journal's tests use this.
//
// base/README.md has the layout. A segment gets its zeros first, under a name of its own (a spare); it becomes part
// of the journal by one rename, after its header is synced: so a *.seg file always has a header that verifies.
#ifndef SEGUE_JOURNAL_SEGMENT_H
#define SEGUE_JOURNAL_SEGMENT_H

#include "buf.h"
#include "uuid.h"

#define JOURNAL_VERSION 2
#define JOURNAL_FILE_BYTES 64 // of the file JOURNAL
#define SECTOR_BYTES 512      // what a disk writes whole; the size of a segment's header
#define GROUP_ALIGN 4
#define GROUP_HEADER_BYTES 20
#define GROUP_BUF_MAX (GROUP_BYTES_MAX + 1)
#define SEGMENT_NAME_BYTES 24 // "000000000001.seg" and room for any 64-bit number
#define SEGMENT_NUMBER_MAX 999999999999ull

// What the file JOURNAL says.
struct journal_file {
    struct uuid id;
    uint8_t secret[16];
    uint64_t epoch; // 0: made, but never opened to the end
};
void journal_file_encode(uint8_t out[JOURNAL_FILE_BYTES], const struct journal_file *f);
int journal_file_decode(struct journal_file *out, struct span bytes); // ERR_CORRUPT, ERR_VERSION
uint64_t journal_file_seed(const struct journal_file *f);             // of every other checksum

struct segment_header {
    struct uuid id;    // the journal's
    uint64_t number;   // the file's name
    uint64_t epoch;    // in which it was begun; its groups are of this epoch, or earlier ones copied to its front
    uint64_t first;    // number of its first group
    uint64_t previous; // checksum of the group before that; 0 before the first of all
    uint64_t life;     // random: every use of a file is another
};
void segment_header_encode(uint8_t out[SECTOR_BYTES], const struct segment_header *h, uint64_t seed);
int segment_header_decode(struct segment_header *out, struct span bytes, uint64_t seed); // ERR_CORRUPT, ERR_VERSION

// "000000000007.seg".
void segment_name(char out[SEGMENT_NAME_BYTES], uint64_t number);
bool segment_name_parse(uint64_t *number, const char *name);

// The seed of the checksums of the groups of one life of a file: what an earlier one left behind never verifies.
uint64_t segment_seed(uint64_t life, uint64_t seed);

struct group_header {
    uint64_t number;   // only 32 bits of it are stored: see group_read
    uint64_t length;   // payload bytes
    uint64_t checksum; // over this header and the payload; computed by group_write
};

// Bytes that a group takes in a segment.
uint64_t group_bytes(uint64_t length);

// Writes group h->number at `offset` with one system call and no barrier, and fills in h->length and h->checksum. `seed` is the segment's.
int group_write(int fd, uint64_t offset, struct group_header *h, struct span payload, uint64_t seed);

// Reads the group at `offset` of a file of `file_bytes` bytes. `payload` is replaced; its maximum is GROUP_BUF_MAX. Before the call h->number is the number
// that is expected, behind it the first one from there on that the stored bits can mean.
// ERR_NOT_FOUND: none verifies there (it may still be another one than expected). ERR_IO, ERR_NOMEM.
int group_read(int fd, uint64_t offset, uint64_t file_bytes, uint64_t seed, struct group_header *h, struct buf *payload);

// Looks at every place from `offset` on for a group that verifies and has this number or a later one.
// ERR_NOT_FOUND: there is none. `payload` is room to work in. On success *found is its offset.
int group_find(int fd, uint64_t offset, uint64_t file_bytes, uint64_t seed, uint64_t number, struct buf *payload, uint64_t *found);

// A file that is being filled with zeros.
struct segment_fill {
    int fd; // -1: none
    uint64_t done;
    uint64_t bytes;
};
// Makes `path` with space reserved for `bytes`. On failure there is no file. ERR_NO_SPACE, ERR_IO.
int segment_fill_begin(struct segment_fill *f, const char *path, uint64_t bytes);
// Writes at most `bytes` more zeros. The caller syncs.
int segment_fill_step(struct segment_fill *f, uint64_t bytes);

// Opens `path` for reading and gives its size and header. ERR_CORRUPT, ERR_VERSION, ERR_IO. The caller closes *fd.
int segment_open(const char *path, uint64_t seed, int *fd, uint64_t *bytes, struct segment_header *h);

#endif
