// What the header fields of tus 1.0.0 say. Pure: any bytes can be tried on it.
#ifndef SEGUE_TUS_H
#define SEGUE_TUS_H

#include "digest.h"
#include "limits.h"
#include "problem.h"
#include "span.h"
#include "uuid.h"

#define TUS_SPOKEN "1.0.0"
#define TUS_BODY_TYPE "application/offset+octet-stream"

// A field that is not there is a span whose `p` is NULL.

// ERR_TUS_VERSION where the client does not say that it speaks ours.
int tus_check_version(struct span resumable, struct problem *p);
// The type of a PATCH's body, whatever its case and parameters. ERR_UNSUPPORTED_MEDIA_TYPE.
int tus_check_type(struct span content_type, struct problem *p);
// A whole number of at most 18 digits; `name` is the field's, for the problem. ERR_BAD_REQUEST.
int tus_number(struct span text, const char *name, uint64_t *out, struct problem *p);
// The length of an upload that is created: exactly one of both fields; UPLOAD_LENGTH_UNKNOWN with the second. ERR_BAD_REQUEST, ERR_TOO_LARGE.
int tus_length(struct span length, struct span defer, uint64_t *out, struct problem *p);

// Upload-Metadata: pairs between commas, each a key and, behind a space, a base64 value or none. Keys are unique and printable
// ASCII. The content type is that of the key "filetype", where it is one; else it is left empty. ERR_BAD_REQUEST.
int tus_metadata(struct span text, char type[STREAM_TYPE_MAX + 1], struct problem *p);

// Segue-Link: table/id/column, the row whose column becomes the blob when the upload is done. ERR_BAD_REQUEST.
struct tus_link {
    struct span table, column;
    struct uuid id;
};
int tus_link(struct span text, struct tus_link *out, struct problem *p);

// Upload-Checksum: an algorithm and, behind a space, the base64 of the body's digest. ERR_BAD_REQUEST: one that is not offered, too.
#define TUS_CHECKSUMS "sha1,sha256"
struct tus_checksum {
    enum digest_kind kind;
    uint8_t value[SHA256_BYTES];
    size_t n;
};
int tus_checksum(struct span text, struct tus_checksum *out, struct problem *p);
// Does a list between commas name this field, in whatever case? For Trailer.
bool tus_lists(struct span list, const char *name);

// Upload-Concat: "partial", or "final;" and the addresses of uploads between spaces, which tus_concat_next takes off `parts`. ERR_BAD_REQUEST.
struct tus_concat {
    bool final;
    struct span parts;
};
int tus_concat(struct span text, struct tus_concat *out, struct problem *p);
// The id at the end of the next address: absolute, or a path, of an upload of any app whose uploads lie at `base`
// ("/apps/default/uploads"). 1: one, 0: there is no further one, ERR_BAD_REQUEST.
int tus_concat_next(struct tus_concat *c, struct span base, struct uuid *id, struct problem *p);

#endif
