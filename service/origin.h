// The address under which a client reaches the service.
#ifndef SEGUE_ORIGIN_H
#define SEGUE_ORIGIN_H

#include "http.h"

// Appends it up to the host and the port: --public-url, or else what the request says of itself (Host, and X-Forwarded-Proto of whoever takes TLS off
// in front of us). Nothing where it says no host, or not in plain words; never more than ORIGIN_MAX bytes, and none that ends a header field.
#define ORIGIN_MAX 300
void origin_put(const struct request *r, struct buf *out);

#endif
