#include "ws_handshake.h"

#include <assert.h>
#include <strings.h>

#include "base64.h"
#include "digest.h"
#include "err.h"

#define KEY_BYTES 16
#define KEY_TEXT 24

static bool same_word(struct span a, struct span b)
{
    return a.n == b.n && strncasecmp((const char *)a.p, (const char *)b.p, a.n) == 0;
}

// The next element of a comma-separated list, taken off its front, without white space around it.
static struct span next(struct span *list)
{
    size_t n = 0;
    while (n < list->n && list->p[n] != ',')
        n++;
    struct span word = span_sub(*list, 0, n);
    *list = span_sub(*list, n + 1, list->n);
    while (word.n > 0 && (word.p[0] == ' ' || word.p[0] == '\t'))
        word = span_sub(word, 1, word.n);
    while (word.n > 0 && (word.p[word.n - 1] == ' ' || word.p[word.n - 1] == '\t'))
        word.n--;
    return word;
}

static bool list_has(struct span list, struct span word)
{
    while (list.n > 0)
        if (same_word(next(&list), word)) return true;
    return false;
}

bool ws_list_has(struct span list, const char *word)
{
    return list_has(list, SPAN_STR(word));
}

int ws_accept(struct span key, char text[WS_ACCEPT_TEXT])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    uint8_t sum[SHA1_BYTES];
    struct buf b;
    buf_init(&b, 128);
    int err = key.n == KEY_TEXT ? base64_decode(&b, key) : ERR_BAD_REQUEST;
    if (err == 0 && b.n == KEY_BYTES) {
        buf_clear(&b);
        buf_put_span(&b, key);
        buf_put_str(&b, guid);
        sha1_of(buf_span(&b), sum);
        buf_clear(&b);
        base64_encode(&b, SPAN(sum, sizeof sum));
        err = b.err;
    } else {
        err = ERR_BAD_REQUEST;
    }
    if (err == 0) {
        assert(b.n == WS_ACCEPT_TEXT);
        memcpy(text, b.p, WS_ACCEPT_TEXT);
    }
    buf_free(&b);
    return err;
}

// ---- origins -------------------------------------------------------------------------------------------------------------

// scheme "://" authority, of a page that came over HTTP.
static bool authority_of(struct span origin, struct span *authority)
{
    size_t n = span_starts(origin, "http://") ? 7 : span_starts(origin, "https://") ? 8 : 0;
    *authority = span_sub(origin, n, origin.n);
    return n > 0 && authority->n > 0;
}

// Its host: without the port, and with the brackets of an IPv6 address.
static struct span host_of(struct span authority)
{
    size_t n = 0;
    bool bracket = authority.n > 0 && authority.p[0] == '[';
    while (n < authority.n && (bracket || authority.p[n] != ':')) {
        if (authority.p[n] == ']') bracket = false;
        n++;
    }
    return span_sub(authority, 0, n);
}

static bool is_loopback(struct span host)
{
    if (same_word(host, SPAN_LIT("localhost")) || span_is(host, "[::1]")) return true;
    // Four numbers, and nothing else: 127.example.com is somebody's name.
    int dots = 0;
    for (size_t i = 0; i < host.n; i++) {
        if (host.p[i] == '.') dots++;
        else if (host.p[i] < '0' || host.p[i] > '9') return false;
    }
    return span_starts(host, "127.") && dots == 3;
}

bool ws_origin_allowed(struct span origin, struct span host, struct span allowed, bool dev)
{
    struct span authority;
    if (origin.n == 0 || list_has(allowed, origin)) return true;
    if (authority_of(origin, &authority)) return same_word(authority, host) || (dev && is_loopback(host_of(authority)));
    return dev && (span_is(origin, "null") || span_starts(origin, "file://"));
}
