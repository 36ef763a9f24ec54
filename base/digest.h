// SHA-256 and hexadecimal. The only user of OpenSSL's digests. A digest object belongs to one thread at a time.
#ifndef SEGUE_DIGEST_H
#define SEGUE_DIGEST_H

#include "span.h"

#define SHA256_BYTES 32
#define SHA256_HEX 64 // characters, without a terminator

struct sha256 {
    uint8_t b[SHA256_BYTES];
};

struct digest; // a running SHA-256

// NULL when memory is exhausted.
struct digest *digest_new(void);
void digest_free(struct digest *d); // NULL is fine
void digest_update(struct digest *d, struct span s);
// The digest of all so far; the running state is reset for the next content.
struct sha256 digest_final(struct digest *d);

// A running state as bytes, from which the same content can be gone on with in another process: the eight words, the
// length and the bytes of the unfinished block. Returns how many bytes it took.
#define DIGEST_STATE_MAX (32 + 8 + 63)
size_t digest_save(const struct digest *d, uint8_t out[DIGEST_STATE_MAX]);
// Puts `d` where digest_save was. ERR_BAD_VALUE: no state; `d` is as it was.
int digest_restore(struct digest *d, struct span state);

// For who works whole blocks into a running digest without OpenSSL (blobs/chunk_lanes.c).
#define SHA256_BLOCK 64
size_t digest_gap(const struct digest *d); // bytes that its unfinished block lacks; 0: there is none
// Its eight words, with digest_gap 0, into which the caller works this many blocks now; they are counted already.
uint32_t *digest_blocks(struct digest *d, size_t blocks);

struct sha256 sha256_of(struct span s);
// HMAC-SHA-256 (RFC 2104).
struct sha256 sha256_keyed(struct span key, struct span s);

// SHA-1, for protocols that were made when it was trusted (the handshake of WebSocket); nothing here relies on it.
#define SHA1_BYTES 20
void sha1_of(struct span s, uint8_t out[SHA1_BYTES]);

// Running digests of one body, as protocols name them: several kinds at once, none of which outlives the process.
enum digest_kind { DIGEST_SHA1 = 1, DIGEST_SHA256 = 2, DIGEST_SHA512 = 4 };
#define DIGEST_BYTES_MAX 64
struct digests;
struct digests *digests_new(unsigned kinds); // an OR of kinds. NULL when memory is exhausted
void digests_free(struct digests *d);        // NULL is fine
void digests_update(struct digests *d, struct span s);
// One of the kinds it was made for, once: its length.
size_t digests_final(struct digests *d, enum digest_kind kind, uint8_t out[DIGEST_BYTES_MAX]);

static inline bool sha256_equal(const struct sha256 *a, const struct sha256 *b)
{
    return memcmp(a->b, b->b, SHA256_BYTES) == 0;
}

// Lower-case hexadecimal, no terminator: writes 2 * n characters.
void hex_format(char *text, struct span s);
// Exactly 2 * n characters of either case, else ERR_BAD_VALUE.
int hex_parse(uint8_t *out, size_t n, struct span text);

// Compares secrets without telling by its time where they differ.
bool secret_equal(struct span a, struct span b);

#endif
