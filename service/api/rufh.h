// What the header fields of Resumable Uploads for HTTP (draft-ietf-httpbis-resumable-upload) and of digests (RFC 9530) say: structured
// fields (RFC 9651), parsed strictly, and how the draft's interop versions differ. Pure: any bytes can be tried on it.
//
//   version   draft     completeness         an append that does not complete   limits       body of a PATCH
//   3         01        Upload-Incomplete    201                                –            any type
//   5         03        Upload-Complete      201                                –            any type
//   6         04, 05    Upload-Complete      201                                expires      application/partial-upload
//   8         09 on     Upload-Complete      204                                max-age      application/partial-upload
#ifndef SEGUE_RUFH_H
#define SEGUE_RUFH_H

#include "digest.h"
#include "span.h"

#define RUFH_BODY_TYPE "application/partial-upload"
#define RUFH_LATEST 8

// A field that is not there is a span whose `p` is NULL. What is not of a field's type is as good as not there: false, and nothing is written.

// An Item that is an Integer (up to 15 digits) and not negative; parameters are passed over.
bool rufh_integer(struct span field, uint64_t *out);
// An Item that is a Boolean; parameters are passed over.
bool rufh_boolean(struct span field, bool *out);

// Upload-Draft-Interop-Version: the version where it is one of those above, else 0.
unsigned rufh_version(struct span field);

// Is the upload complete with this request's body? From Upload-Complete or, its opposite, Upload-Incomplete. False: neither says so.
bool rufh_complete(struct span complete, struct span incomplete, bool *out);

// The digests of a Content-Digest or Repr-Digest field: those of kinds we know, each of its right length. Other members are passed over. False: it
// is no Dictionary, or a kind we know has no such digest.
struct rufh_digests {
    unsigned kinds; // enum digest_kind: sha256, sha512
    uint8_t sha256[SHA256_BYTES];
    uint8_t sha512[DIGEST_BYTES_MAX];
};
bool rufh_digests(struct span field, struct rufh_digests *out);

// Is it the type of a PATCH's body, whatever its case and parameters?
bool rufh_is_body_type(struct span content_type);

// What the whole is to have for a SHA-256 travels with the upload, as a pair of its metadata with this key. False: none is there.
#define RUFH_PROMISE_KEY "repr-digest"
bool rufh_promise(struct span metadata, struct sha256 *out);

#endif
