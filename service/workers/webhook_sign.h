// What signs webhooks: one Ed25519 key for each data folder, in <folder>/webhook.key (mode 0600), made when it is missing. The only user of
// OpenSSL's signatures. A receiver finds the public half by its name in the service's JWK set, and checks the signature over
// "<seconds>.<body>" (PROTOCOL.md, "webhooks").
#ifndef SEGUE_WEBHOOK_SIGN_H
#define SEGUE_WEBHOOK_SIGN_H

#include "buf.h"
#include "problem.h"

struct webhook_signer;

// A signer is used by any thread.
// The file is one line: 32 bytes of seed in hexadecimal. ERR_USAGE: it is there and is something else; ERR_IO, ERR_NO_SPACE, ERR_NOMEM.
int webhook_signer_open(struct webhook_signer **out, const char *folder, struct problem *p);
void webhook_signer_close(struct webhook_signer *s); // NULL is fine

// "ds_" and the thumbprint of the public key (RFC 7638): the same as long as the key is. Lives as long as the signer.
const char *webhook_signer_kid(const struct webhook_signer *s);
// The JWK set (RFC 8037), as JSON.
void webhook_signer_jwks(const struct webhook_signer *s, struct buf *out);
// Appends the value of Webhook-Signature: t=…,kid=…,ed25519=… ERR_NOMEM.
int webhook_sign(const struct webhook_signer *s, uint64_t unix_s, struct span body, struct buf *out);

#endif
