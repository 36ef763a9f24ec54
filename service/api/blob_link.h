// Links of blobs that speak for themselves: whoever has one may read the blob until it expires, and sees it as the link says.
//
//   /apps/<app>/blobs/<sha256>?expires=<seconds since 1970>[&disposition=…][&filename=…][&type=…]&key=<8 digits>&sig=<64 digits>
//
// `sig` is the HMAC-SHA-256, in hexadecimal, over "segue blob link 1", the method ("GET", which stands for HEAD too), app, digest in hexadecimal, expires in decimal,
// disposition, filename and type, each as a 4-byte big-endian length and its bytes. The key is one for each data folder, in <folder>/link.key; `key` is the beginning of
// its SHA-256, so that a link of a key that was replaced is known as such.
#ifndef SEGUE_BLOB_LINK_H
#define SEGUE_BLOB_LINK_H

#include "buf.h"
#include "digest.h"
#include "problem.h"

struct blob_signer;
struct request;

int blob_signer_open(struct blob_signer **out, const char *folder, struct problem *p); // errors of key_file.h
void blob_signer_close(struct blob_signer *s);                                         // NULL is fine

struct blob_link {
    struct span app;
    struct sha256 digest;
    uint64_t expires_s;                // since 1970
    struct span disposition, filename, type; // empty: not said
};

// Appends path and query.
void blob_link_put(const struct blob_signer *s, const struct blob_link *l, struct buf *out);
// Does the signature fit, and is `now_s` before the end? ERR_FORBIDDEN. Takes the same time for every wrong signature.
int blob_link_check(const struct blob_signer *s, const struct blob_link *l, struct span key, struct span signature, uint64_t now_s, struct problem *p);

// Does the request come by a link: has its query a `sig`?
bool blob_link_is(const struct request *r);
// May it read what r->path names in this app? ERR_FORBIDDEN, ERR_BAD_DIGEST, ERR_BAD_PARAMETER.
int blob_link_admit(const struct blob_signer *s, const struct request *r, struct span app, struct problem *p);
// How long the link of an admitted request still lives.
uint64_t blob_link_left_s(const struct request *r);

#endif
