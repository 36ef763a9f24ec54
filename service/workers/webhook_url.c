#include "webhook_url.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <strings.h>

#include "err.h"
#include "limits.h"
#include "reach.h"

#define HOST_MAX 253

static int reject(struct problem *p, const char *why)
{
    return problem_set(p, ERR_WEBHOOK_URL_REJECTED, -1, "a webhook's address %s", why);
}

static bool starts_nocase(struct span s, const char *with)
{
    size_t n = strlen(with);
    return s.n >= n && strncasecmp((const char *)s.p, with, n) == 0;
}

static bool is_local_name(const char *host)
{
    size_t n = strlen(host);
    return strcasecmp(host, "localhost") == 0 || (n > 10 && strcasecmp(host + n - 10, ".localhost") == 0);
}

// The literal that `host` is. Numbers in other bases, or fewer than four of them, are addresses, too, to those who will call.
static bool literal_of(const char *host, bool bracketed, struct sockaddr_storage *out)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    memset(out, 0, sizeof *out);
    if (bracketed) {
        v6->sin6_family = AF_INET6;
        return inet_pton(AF_INET6, host, &v6->sin6_addr) == 1;
    }
    v4->sin_family = AF_INET;
    return inet_aton(host, &v4->sin_addr) != 0;
}

static bool is_loopback4(const struct sockaddr_storage *a)
{
    return a->ss_family == AF_INET && ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24 == 127;
}

static bool port_valid(struct span s)
{
    uint32_t port = 0;
    if (s.n == 0 || s.n > 5) return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9') return false;
        port = 10 * port + (s.p[i] - '0');
    }
    return port > 0 && port <= UINT16_MAX;
}

// Takes the authority apart. False: it is none, or more than a host and a port.
static bool split(struct span authority, struct span *host, bool *bracketed)
{
    *bracketed = authority.n > 0 && authority.p[0] == '[';
    const uint8_t *end = memchr(authority.p, *bracketed ? ']' : ':', authority.n);
    if (*bracketed && end == NULL) return false;
    size_t n = end == NULL ? authority.n : (size_t)(end - authority.p);
    *host = *bracketed ? span_sub(authority, 1, n - 1) : span_sub(authority, 0, n);
    struct span rest = span_sub(authority, *bracketed ? n + 1 : n, authority.n);
    if (rest.n > 0 && (rest.p[0] != ':' || !port_valid(span_sub(rest, 1, rest.n)))) return false;
    if (!*bracketed && host->n > 1 && host->p[host->n - 1] == '.') host->n--; // a name's end, said
    for (size_t i = 0; i < host->n; i++) {
        uint8_t c = host->p[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
        if (!plain && !(*bracketed && c == ':')) return false;
    }
    return host->n > 0 && host->n <= HOST_MAX;
}

static int check_host(struct span text, bool bracketed, bool secure, bool dev, struct problem *p)
{
    char host[HOST_MAX + 1];
    struct sockaddr_storage address;
    memcpy(host, text.p, text.n);
    host[text.n] = '\0';
    bool literal = literal_of(host, bracketed, &address);
    if (bracketed && !literal) return reject(p, "has no such host");
    bool local = literal ? is_loopback4(&address) : is_local_name(host);
    if (!secure) return dev && local ? 0 : reject(p, "begins with https://");
    if (!literal) return dev || !local ? 0 : reject(p, "is not of this machine");
    if (reach_allows(dev ? REACH_PUBLIC_OR_LOOPBACK : REACH_PUBLIC, (const struct sockaddr *)&address)) return 0;
    return reject(p, "is not of a private network");
}

int webhook_url_check(struct span url, bool dev, struct problem *p)
{
    struct span host;
    bool bracketed, secure = starts_nocase(url, "https://");
    if (url.n == 0 || url.n > SUB_URL_MAX) return reject(p, "is missing or too long");
    for (size_t i = 0; i < url.n; i++)
        if (url.p[i] <= ' ' || url.p[i] > '~' || url.p[i] == '\\' || url.p[i] == '#') return reject(p, "is plain ASCII without white space");
    if (!secure && !starts_nocase(url, "http://")) return reject(p, "begins with https://");
    struct span rest = span_sub(url, secure ? 8 : 7, url.n);
    size_t n = 0;
    while (n < rest.n && rest.p[n] != '/' && rest.p[n] != '?')
        n++;
    if (n == 0 || !split(span_sub(rest, 0, n), &host, &bracketed)) return reject(p, "has a host, perhaps a port, and no user");
    return check_host(host, bracketed, secure, dev, p);
}
