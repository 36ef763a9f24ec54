// The only code that knows this store's keys and records in the database.
//
// Table "streams":
//   'a'                                             -> allocation: next stream number, segment file and position
//   'n' number                                      -> the directory record of a stream
//   'p' length(2) path created_seq number           -> nothing more: which streams a path has named, and since when
//   'f' file(4)                                     -> a segment file: its length, and how much of it the index points to
//   'r' number                                      -> nothing more: something of the stream is to be given back
// Table "stream_index":
//   number first_offset                             -> where a sealed record lies, and the seqs it spans
//
// Integers in keys are big endian, so that they sort; in records little endian. Each record starts with a format version.
#ifndef SEGUE_STREAM_KEYS_H
#define SEGUE_STREAM_KEYS_H

#include "limits.h"
#include "span.h"

#define STREAM_FORMAT 2

// Everything about a stream but its bytes.
struct stream_record {
    uint64_t number;
    uint64_t offset; // the tail
    uint64_t created_seq, created_ms;
    uint64_t changed_seq; // the last append or close; created_seq before any
    uint64_t closed_seq;  // 0: open
    uint64_t deleted_seq; // 0: lives
    bool owned;
    uint8_t type_n;
    uint16_t path_n;
    char type[STREAM_TYPE_MAX + 1];
    uint8_t path[STREAM_PATH_MAX];
};

// Where a run of a stream's bytes is sealed.
struct stream_index {
    uint64_t first; // offset of its first byte; in the key
    uint32_t raw;   // bytes of the stream in it
    uint32_t total; // bytes of the whole record in the file, which may hold parts of other streams
    uint32_t file;
    uint64_t position;
    uint64_t first_seq, last_seq; // of the appends in it
    uint32_t share; // of the record's bytes, what counts as this part's; the shares of all parts make up the record
};

// A segment file that is no longer, or still, written to.
struct stream_file {
    uint64_t length, live; // `live`: the shares of all that the index points to
};

struct stream_alloc {
    uint64_t next_number;
    uint32_t file; // the segment file that is written to, and its length
    uint64_t position;
};

#define STREAM_BYTES_MAX 640 // of any key or record here
struct stream_bytes {
    size_t n;
    uint8_t p[STREAM_BYTES_MAX];
};
static inline struct span stream_bytes_span(const struct stream_bytes *b)
{
    return SPAN(b->p, b->n);
}

void stream_key_alloc(struct stream_bytes *k);
void stream_key_number(struct stream_bytes *k, uint64_t number);
void stream_key_path(struct stream_bytes *k, struct span path, uint64_t created_seq, uint64_t number);
void stream_key_index(struct stream_bytes *k, uint64_t number, uint64_t first);
void stream_key_file(struct stream_bytes *k, uint32_t file);
void stream_key_reclaim(struct stream_bytes *k, uint64_t number);

// False where `key` is not of that kind, which ends an iteration.
bool stream_key_path_parse(struct span key, struct span *path, uint64_t *created_seq, uint64_t *number);
bool stream_key_index_parse(struct span key, uint64_t *number, uint64_t *first);
bool stream_key_file_parse(struct span key, uint32_t *file);
bool stream_key_reclaim_parse(struct span key, uint64_t *number);

void stream_alloc_encode(struct stream_bytes *v, const struct stream_alloc *a);
void stream_record_encode(struct stream_bytes *v, const struct stream_record *r);
void stream_index_encode(struct stream_bytes *v, const struct stream_index *ix);
void stream_file_encode(struct stream_bytes *v, const struct stream_file *f);
void stream_path_encode(struct stream_bytes *v); // also that of 'r'

// ERR_VERSION for another format, ERR_CORRUPT for anything that does not decode.
int stream_alloc_decode(struct span v, struct stream_alloc *out);
int stream_record_decode(struct span v, struct stream_record *out);
int stream_index_decode(struct span v, struct stream_index *out); // but for `first`
int stream_file_decode(struct span v, struct stream_file *out);

#endif
