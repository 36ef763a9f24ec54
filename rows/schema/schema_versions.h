// The versions of the schema that were published: all of them are kept.
//
//      format version, varint seq, varint arrival in ms, SHA-256 of the canonical text, the schema (schema_codec.c)
#ifndef SEGUE_ROWS_SCHEMA_VERSIONS_H
#define SEGUE_ROWS_SCHEMA_VERSIONS_H

#include "schema.h"

struct schema_version {
    uint64_t seq; // of the commit that published it
    uint64_t arrival_ms;
    struct sha256 hash;
    struct span schema;
};

void schema_version_encode(struct buf *out, const struct schema_version *v);
int schema_version_decode(struct schema_version *out, struct span record); // ERR_CORRUPT; the span points into the record

#endif
