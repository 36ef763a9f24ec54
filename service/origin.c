#include "origin.h"

#include "server.h"

#define HOST_MAX 255

static bool is_plain(struct span host)
{
    for (size_t i = 0; i < host.n; i++) {
        uint8_t c = host.p[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c != 0 && strchr("-._:[]", c) != NULL);
        if (!plain) return false;
    }
    return host.n > 0 && host.n <= HOST_MAX;
}

void origin_put(const struct request *r, struct buf *out)
{
    struct span host, proto;
    const char *said = server_public_url(r->server);
    if (said[0] != '\0') {
        buf_put_str(out, said);
        return;
    }
    bool tls = request_header(r, "x-forwarded-proto", &proto) && span_is(proto, "https");
    if (request_header(r, "host", &host) && is_plain(host)) buf_printf(out, "%s://%.*s", tls ? "https" : "http", SPAN_FMT(host));
}
