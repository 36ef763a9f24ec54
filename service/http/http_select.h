// What the fields of a GET select of a representation: whether it is sent at all (conditions, RFC 9110, 13), which parts of it
// (ranges, 14), in which coding (12.5.3) and with which digest (RFC 9530). Pure: any bytes can be tried on it.
#ifndef SEGUE_HTTP_SELECT_H
#define SEGUE_HTTP_SELECT_H

#include "compress.h"
#include "limits.h"
#include "span.h"

struct byte_range {
    uint64_t from, n; // n > 0
};

struct byte_ranges {
    size_t count;
    struct byte_range at[HTTP_RANGES_MAX];
};

// The parts of `size` bytes that a Range field asks for, in its order; those that overlap or nearly touch become one, so a field never asks for more
// than there is. 1: *out has one or more; 0: the whole is asked for (another unit, a malformed field, or more than HTTP_RANGES_MAX parts);
// ERR_RANGE_NOT_SATISFIABLE: every part lies behind the end.
int http_ranges_parse(struct span field, uint64_t size, struct byte_ranges *out);

// Is `etag`, quotes included, in a list of entity tags, or is that "*"? A weak tag in the list counts unless `strong`. What is malformed in the list
// is passed over.
bool http_etag_listed(struct span list, struct span etag, bool strong);

// Does an Accept-Encoding field take this coding by its name, with another quality than 0?
bool http_takes_coding(struct span accept, const char *coding);

// Which coding an Accept-Encoding field likes best of zstd, gzip and none, in this order where it does not care.
enum coding http_choose_coding(struct span accept);
// Is it worth packing content of this type: text, JSON and their kin?
bool http_type_packs(const char *type);

// Does a Want-Repr-Digest field leave SHA-256 wanted: it does not name it with preference 0?
bool http_wants_sha256(struct span want);

#endif
