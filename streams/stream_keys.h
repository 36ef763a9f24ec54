// The only code that knows this store's keys and records in the database.
//
// Table "streams":
//   'a'                                             -> allocation: next stream number, segment file and position
//   'n' number                                      -> the directory record of a stream
//   'p' length(2) path created_seq number           -> nothing more: which streams a path has named, and since when
//   'f' file(4)                                     -> a segment file: its length, and how much of it the index points to
//   'r' number                                      -> nothing more: something of the stream is to be given back
//   'd' deadline_ms number                          -> nothing more: in which order streams expire
//   'w' number producer id                          -> an idempotent producer's state
//   'q' number                                      -> the last Stream-Seq
//   's' number                                      -> the snapshot that stands for trimmed bytes
// Table "stream_index":
//   number first_offset                             -> where a sealed record lies, and the seqs it spans
//
// Integers in keys are big endian, so that they sort; in records little endian. Each record starts with a format version.
#ifndef SEGUE_STREAM_KEYS_H
#define SEGUE_STREAM_KEYS_H

#include "limits.h"
#include "span.h"

#define STREAM_FORMAT 3

bool stream_type_json(struct span type); // stream_record.c

// Everything about a stream but its bytes.
struct stream_record {
    uint64_t number;
    uint64_t offset; // the tail
    uint64_t created_seq, created_ms;
    uint64_t changed_seq; // the last append or close; created_seq before any
    uint64_t closed_seq;  // 0: open
    uint64_t deleted_seq; // 0: lives
    uint64_t gone_seq;    // deleted while forks read it; 0: not
    uint64_t first;       // the earliest offset that is kept
    uint64_t trimmed_seq; // since when; 0: never trimmed
    uint64_t trimmed_changed; // the last append before that
    uint64_t ttl_s, expires_ms;
    uint64_t deadline_ms; // 0: never
    uint64_t source;      // the stream that it is a fork of; 0: none
    uint64_t base;        // where its own bytes begin: the source has those before
    uint64_t fork_offset, fork_sub; // as they were asked for
    uint32_t refs;        // forks of it that live, or are gone
    uint32_t producers;   // known ones
    uint8_t depth;        // forks of forks above it
    bool owned, has_ttl, has_fork_offset, has_snapshot;
    bool inherits; // a fork whose expiry is its source's
    bool json;     // follows from the type
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

// A producer's numbers, and whether its last append closed the stream.
struct stream_writer {
    uint64_t epoch, seq;
    bool closing;
};

#define STREAM_BYTES_MAX 768 // of any key or record here but snapshots
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
void stream_key_deadline(struct stream_bytes *k, uint64_t deadline_ms, uint64_t number);
void stream_key_writer(struct stream_bytes *k, uint64_t number, struct span id); // no id: before all of the stream's
void stream_key_seq(struct stream_bytes *k, uint64_t number);
void stream_key_snapshot(struct stream_bytes *k, uint64_t number);

// False where `key` is not of that kind, which ends an iteration.
bool stream_key_path_parse(struct span key, struct span *path, uint64_t *created_seq, uint64_t *number);
bool stream_key_deadline_parse(struct span key, uint64_t *deadline_ms, uint64_t *number);
bool stream_key_writer_parse(struct span key, uint64_t *number, struct span *id);
bool stream_key_index_parse(struct span key, uint64_t *number, uint64_t *first);
bool stream_key_file_parse(struct span key, uint32_t *file);
bool stream_key_reclaim_parse(struct span key, uint64_t *number);

void stream_alloc_encode(struct stream_bytes *v, const struct stream_alloc *a);
void stream_record_encode(struct stream_bytes *v, const struct stream_record *r);
void stream_index_encode(struct stream_bytes *v, const struct stream_index *ix);
void stream_file_encode(struct stream_bytes *v, const struct stream_file *f);
void stream_path_encode(struct stream_bytes *v); // also that of 'd' and 'r'
void stream_writer_encode(struct stream_bytes *v, const struct stream_writer *w);
void stream_seq_encode(struct stream_bytes *v, struct span seq); // of none, what a snapshot begins with

// ERR_VERSION for another format, ERR_CORRUPT for anything that does not decode.
int stream_alloc_decode(struct span v, struct stream_alloc *out);
int stream_record_decode(struct span v, struct stream_record *out);
int stream_writer_decode(struct span v, struct stream_writer *out);
int stream_text_decode(struct span v, struct span *out); // a Stream-Seq or a snapshot: what stands behind the version
int stream_index_decode(struct span v, struct stream_index *out); // but for `first`
int stream_file_decode(struct span v, struct stream_file *out);

#endif
