#include "digest.h"

#include <assert.h>
#include <endian.h>
#include <pthread.h>
#include <stdlib.h>

// A running digest uses the old interface: the new one hides the state, and an upload has to be gone on with after a
// restart without reading again what it has. The fields of the old context are public, and it runs the same code.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

#include "err.h"

#define STATE_HEAD (32 + 8)

static_assert(SHA256_BLOCK == SHA256_CBLOCK && sizeof(SHA_LONG) == sizeof(uint32_t), "its words are ours");

struct digest {
    SHA256_CTX ctx;
};

// Fetched once: OpenSSL 3 otherwise looks the algorithm up under a lock at every start. Never freed, as any
// thread may still use it while the process ends.
static EVP_MD *sha256;
static pthread_once_t sha256_once = PTHREAD_ONCE_INIT;

static void fetch_sha256(void)
{
    sha256 = EVP_MD_fetch(NULL, "SHA2-256", NULL);
    assert(sha256 != NULL); // an OpenSSL without SHA-256 is no OpenSSL that we were built for
}

static EVP_MD *get_sha256(void)
{
    pthread_once(&sha256_once, fetch_sha256);
    return sha256;
}

struct digest *digest_new(void)
{
    struct digest *d = malloc(sizeof *d);
    if (d != NULL) SHA256_Init(&d->ctx);
    return d;
}

void digest_free(struct digest *d)
{
    free(d);
}

void digest_update(struct digest *d, struct span s)
{
    if (s.n > 0) SHA256_Update(&d->ctx, s.p, s.n);
}

struct sha256 digest_final(struct digest *d)
{
    struct sha256 sum;
    SHA256_Final(sum.b, &d->ctx);
    SHA256_Init(&d->ctx);
    return sum;
}

size_t digest_save(const struct digest *d, uint8_t out[DIGEST_STATE_MAX])
{
    uint64_t bytes = htole64(((uint64_t)d->ctx.Nh << 32 | d->ctx.Nl) / 8); // the context counts bits
    assert(d->ctx.num < SHA256_CBLOCK);
    for (size_t i = 0; i < 8; i++) {
        uint32_t word = htole32(d->ctx.h[i]);
        memcpy(out + 4 * i, &word, sizeof word);
    }
    memcpy(out + 32, &bytes, sizeof bytes);
    memcpy(out + STATE_HEAD, d->ctx.data, d->ctx.num);
    return STATE_HEAD + d->ctx.num;
}

int digest_restore(struct digest *d, struct span state)
{
    uint64_t bytes;
    if (state.n < STATE_HEAD) return ERR_BAD_VALUE;
    memcpy(&bytes, state.p + 32, sizeof bytes);
    bytes = le64toh(bytes);
    if (bytes > UINT64_MAX / 8 || state.n != STATE_HEAD + bytes % SHA256_CBLOCK) return ERR_BAD_VALUE;
    SHA256_Init(&d->ctx);
    for (size_t i = 0; i < 8; i++) {
        uint32_t word;
        memcpy(&word, state.p + 4 * i, sizeof word);
        d->ctx.h[i] = le32toh(word);
    }
    d->ctx.Nl = (SHA_LONG)(8 * bytes);
    d->ctx.Nh = (SHA_LONG)(8 * bytes >> 32);
    d->ctx.num = (unsigned)(bytes % SHA256_CBLOCK);
    memcpy(d->ctx.data, state.p + STATE_HEAD, d->ctx.num);
    return 0;
}

size_t digest_gap(const struct digest *d)
{
    return (SHA256_BLOCK - d->ctx.num) % SHA256_BLOCK;
}

uint32_t *digest_blocks(struct digest *d, size_t blocks)
{
    assert(d->ctx.num == 0);
    uint64_t bits = ((uint64_t)d->ctx.Nh << 32 | d->ctx.Nl) + 8 * SHA256_BLOCK * (uint64_t)blocks;
    d->ctx.Nl = (SHA_LONG)bits;
    d->ctx.Nh = (SHA_LONG)(bits >> 32);
    return d->ctx.h;
}

void sha1_of(struct span s, uint8_t out[SHA1_BYTES])
{
    SHA1(s.p, s.n, out);
}

struct sha256 sha256_of(struct span s)
{
    struct sha256 sum;
    unsigned n = 0;
    // Fails only where a few hundred bytes cannot be had; a wrong digest must never come out of that.
    int ok = EVP_Digest(s.n > 0 ? s.p : (const uint8_t *)"", s.n, sum.b, &n, get_sha256(), NULL);
    assert(ok == 1 && n == SHA256_BYTES);
    return sum;
}

// ---- several kinds at once ---------------------------------------------------------------------------------------

#define KINDS 3

struct digests {
    EVP_MD_CTX *of[KINDS]; // by the kind's bit; NULL: not asked for
};

struct digests *digests_new(unsigned kinds)
{
    const EVP_MD *const mds[KINDS] = {EVP_sha1(), EVP_sha256(), EVP_sha512()};
    struct digests *d = calloc(1, sizeof *d);
    for (size_t i = 0; i < KINDS && d != NULL; i++) {
        if ((kinds & 1u << i) == 0) continue;
        d->of[i] = EVP_MD_CTX_new();
        if (d->of[i] != NULL && EVP_DigestInit_ex(d->of[i], mds[i], NULL) == 1) continue;
        digests_free(d);
        return NULL;
    }
    return d;
}

void digests_free(struct digests *d)
{
    for (size_t i = 0; i < KINDS && d != NULL; i++)
        EVP_MD_CTX_free(d->of[i]);
    free(d);
}

void digests_update(struct digests *d, struct span s)
{
    for (size_t i = 0; i < KINDS && s.n > 0; i++) {
        int ok = d->of[i] == NULL || EVP_DigestUpdate(d->of[i], s.p, s.n) == 1;
        assert(ok);
    }
}

size_t digests_final(struct digests *d, enum digest_kind kind, uint8_t out[DIGEST_BYTES_MAX])
{
    EVP_MD_CTX *ctx = d->of[kind == DIGEST_SHA1 ? 0 : kind == DIGEST_SHA256 ? 1 : 2];
    unsigned n = 0;
    assert(ctx != NULL);
    int ok = EVP_DigestFinal_ex(ctx, out, &n);
    assert(ok == 1);
    return n;
}

struct sha256 sha256_keyed(struct span key, struct span s)
{
    struct sha256 sum;
    unsigned n = 0;
    assert(key.n > 0 && key.n <= INT32_MAX);
    const uint8_t *done = HMAC(EVP_sha256(), key.p, (int)key.n, s.n > 0 ? s.p : (const uint8_t *)"", s.n, sum.b, &n);
    assert(done != NULL && n == SHA256_BYTES);
    return sum;
}

void hex_format(char *text, struct span s)
{
#define ROW(h) h "0" h "1" h "2" h "3" h "4" h "5" h "6" h "7" h "8" h "9" h "a" h "b" h "c" h "d" h "e" h "f"
    static const char pairs[] = ROW("0") ROW("1") ROW("2") ROW("3") ROW("4") ROW("5") ROW("6") ROW("7") ROW("8") ROW("9") ROW("a") ROW("b") ROW("c") ROW("d") ROW("e") ROW("f");
#undef ROW
    for (size_t i = 0; i < s.n; i++)
        memcpy(text + 2 * i, pairs + 2 * s.p[i], 2);
}

// The digit's value, -1 for any other character.
static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int hex_parse(uint8_t *out, size_t n, struct span text)
{
    if (text.n % 2 != 0 || text.n / 2 != n) return ERR_BAD_VALUE;
    for (size_t i = 0; i < text.n; i++)
        if (hex_digit(text.p[i]) < 0) return ERR_BAD_VALUE;
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)(hex_digit(text.p[2 * i]) << 4 | hex_digit(text.p[2 * i + 1]));
    return 0;
}

bool secret_equal(struct span a, struct span b)
{
    return a.n == b.n && (a.n == 0 || CRYPTO_memcmp(a.p, b.p, a.n) == 0);
}
