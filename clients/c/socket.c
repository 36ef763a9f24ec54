#include "socket.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include <curl/curl.h>

#include "err.h"

#define CONNECT_MS 5000

struct socket {
    CURL *curl;
    curl_socket_t fd;
    const volatile sig_atomic_t *stop;
    char error[CURL_ERROR_SIZE];
};

static int on_progress(void *ctx, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
    const struct socket *s = ctx;
    (void)down_total, (void)down, (void)up_total, (void)up;
    return s->stop != NULL && *s->stop != 0;
}

static CURLcode connect_to(struct socket *s, const char *url)
{
    curl_easy_setopt(s->curl, CURLOPT_URL, url);
    curl_easy_setopt(s->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(s->curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(s->curl, CURLOPT_CONNECT_ONLY, 1L);
    curl_easy_setopt(s->curl, CURLOPT_PROXY, "");
    curl_easy_setopt(s->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(s->curl, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(s->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(s->curl, CURLOPT_ERRORBUFFER, s->error);
    curl_easy_setopt(s->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(s->curl, CURLOPT_XFERINFODATA, s);
    curl_easy_setopt(s->curl, CURLOPT_NOPROGRESS, 0L);
    CURLcode code = curl_easy_perform(s->curl);
    return code == CURLE_OK ? curl_easy_getinfo(s->curl, CURLINFO_ACTIVESOCKET, &s->fd) : code;
}

int socket_open(struct socket **out, const char *url, const volatile sig_atomic_t *stop, char why[SOCKET_WHY_MAX])
{
    struct socket *s = calloc(1, sizeof *s);
    if (s == NULL) return ERR_NOMEM;
    s->stop = stop;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) == 0) s->curl = curl_easy_init();
    CURLcode code = s->curl == NULL ? CURLE_OUT_OF_MEMORY : connect_to(s, url);
    if (code == CURLE_OK) {
        *out = s;
        return 0;
    }
    snprintf(why, SOCKET_WHY_MAX, "%s", s->error[0] != 0 ? s->error : curl_easy_strerror(code));
    socket_close(s);
    return code == CURLE_OUT_OF_MEMORY ? ERR_NOMEM : code == CURLE_ABORTED_BY_CALLBACK ? ERR_CANCELED : ERR_UNREACHABLE;
}

void socket_close(struct socket *s)
{
    if (s == NULL) return;
    curl_easy_cleanup(s->curl);
    free(s);
}

ssize_t socket_send(struct socket *s, const void *p, size_t n)
{
    size_t sent = 0;
    CURLcode code = curl_easy_send(s->curl, p, n, &sent);
    return code == CURLE_OK ? (ssize_t)sent : code == CURLE_AGAIN ? 0 : ERR_UNREACHABLE;
}

ssize_t socket_recv(struct socket *s, void *p, size_t n)
{
    size_t got = 0;
    CURLcode code = curl_easy_recv(s->curl, p, n, &got);
    if (code == CURLE_AGAIN) return 0;
    return code == CURLE_OK && got > 0 ? (ssize_t)got : ERR_UNREACHABLE; // no bytes is the end of it
}

void socket_wait(const struct socket *s, bool writes, int timeout_ms)
{
    struct pollfd p = {.fd = s->fd, .events = (short)(POLLIN | (writes ? POLLOUT : 0))};
    poll(&p, 1, timeout_ms);
}
