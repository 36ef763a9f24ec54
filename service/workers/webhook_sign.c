#include "webhook_sign.h"

#include <assert.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#include "base64.h"
#include "digest.h"
#include "err.h"
#include "json_write.h"
#include "key_file.h"
#include "limits.h"

#define PUBLIC_BYTES 32
#define SIGNATURE_BYTES 64
#define BASE64URL_32 43 // characters of 32 bytes

struct webhook_signer {
    EVP_PKEY *key;
    char x[BASE64URL_32 + 1]; // the public half
    char kid[3 + BASE64URL_32 + 1];
};

static void text_of_32(char *text, const uint8_t bytes[32])
{
    uint8_t room[BASE64URL_32 + 1];
    struct buf b = {.p = room, .cap = sizeof room, .max = sizeof room};
    base64url_encode(&b, SPAN(bytes, 32));
    assert(b.err == 0 && b.n == BASE64URL_32);
    memcpy(text, room, BASE64URL_32);
    text[BASE64URL_32] = '\0';
}

// The name is the hash of the key's members in the one form that RFC 7638 allows.
static int name_key(struct webhook_signer *s)
{
    uint8_t public[PUBLIC_BYTES];
    size_t n = sizeof public;
    char jwk[128];
    if (EVP_PKEY_get_raw_public_key(s->key, public, &n) != 1 || n != sizeof public) return ERR_NOMEM;
    text_of_32(s->x, public);
    int length = snprintf(jwk, sizeof jwk, "{\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":\"%s\"}", s->x);
    struct sha256 print = sha256_of(SPAN(jwk, (size_t)length));
    memcpy(s->kid, "ds_", 3);
    text_of_32(s->kid + 3, print.b);
    return 0;
}

int webhook_signer_open(struct webhook_signer **out, const char *folder, struct problem *p)
{
    uint8_t seed[KEY_FILE_BYTES];
    struct webhook_signer *s = calloc(1, sizeof *s);
    int err = s == NULL ? ERR_NOMEM : key_file_load(folder, "webhook.key", "signs webhooks", seed, p);
    if (err == 0) {
        s->key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, sizeof seed);
        explicit_bzero(seed, sizeof seed);
        err = s->key == NULL ? ERR_NOMEM : name_key(s);
    }
    if (err != 0) {
        webhook_signer_close(s);
        return problem_set(p, err, -1, "webhooks cannot be signed: %s", err_text(err));
    }
    *out = s;
    return 0;
}

void webhook_signer_close(struct webhook_signer *s)
{
    if (s == NULL) return;
    EVP_PKEY_free(s->key);
    free(s);
}

const char *webhook_signer_kid(const struct webhook_signer *s)
{
    return s->kid;
}

void webhook_signer_jwks(const struct webhook_signer *s, struct buf *out)
{
    struct jw w;
    jw_init(&w, out);
    jw_object(&w);
    jw_key(&w, "keys"), jw_array(&w);
    jw_object(&w);
    jw_key(&w, "kty"), jw_cstr(&w, "OKP");
    jw_key(&w, "crv"), jw_cstr(&w, "Ed25519");
    jw_key(&w, "kid"), jw_cstr(&w, s->kid);
    jw_key(&w, "use"), jw_cstr(&w, "sig");
    jw_key(&w, "alg"), jw_cstr(&w, "EdDSA");
    jw_key(&w, "x"), jw_cstr(&w, s->x);
    jw_end(&w), jw_end(&w), jw_end(&w);
}

static int sign(const struct webhook_signer *s, struct span text, uint8_t signature[SIGNATURE_BYTES])
{
    size_t n = SIGNATURE_BYTES;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx != NULL && EVP_DigestSignInit(ctx, NULL, NULL, NULL, s->key) == 1 &&
              EVP_DigestSign(ctx, signature, &n, text.p, text.n) == 1 && n == SIGNATURE_BYTES;
    EVP_MD_CTX_free(ctx);
    return ok ? 0 : ERR_NOMEM;
}

int webhook_sign(const struct webhook_signer *s, uint64_t unix_s, struct span body, struct buf *out)
{
    struct buf text;
    uint8_t signature[SIGNATURE_BYTES];
    buf_init(&text, body.n + 32);
    buf_printf(&text, "%llu.", (unsigned long long)unix_s);
    buf_put_span(&text, body);
    int err = text.err != 0 ? text.err : sign(s, buf_span(&text), signature);
    buf_free(&text);
    if (err != 0) return err;
    buf_printf(out, "t=%llu,kid=%s,ed25519=", (unsigned long long)unix_s, s->kid);
    base64url_encode(out, SPAN(signature, sizeof signature));
    return out->err;
}
