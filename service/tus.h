// What the header fields of tus 1.0.0 say. Pure: any bytes can be tried on it.
#ifndef SEGUE_TUS_H
#define SEGUE_TUS_H

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
// The length of an upload that is created: exactly one of both fields, and for now not the second. ERR_BAD_REQUEST, ERR_TOO_LARGE.
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

#endif
