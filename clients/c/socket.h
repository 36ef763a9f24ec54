// Bytes over one connection to the service, by TLS where its URL says so: for what is no request and answer. With http.c the only user of curl/curl.h.
#ifndef SEGUE_C_SOCKET_H
#define SEGUE_C_SOCKET_H

#include <signal.h>
#include <sys/types.h>

#include "buf.h"

struct socket;

// Connects. ERR_UNREACHABLE (`why` says how), ERR_CANCELED once *stop is set (it may be NULL), ERR_NOMEM. On success *out is the caller's.
#define SOCKET_WHY_MAX 256
int socket_open(struct socket **out, const char *url, const volatile sig_atomic_t *stop, char why[SOCKET_WHY_MAX]);
void socket_close(struct socket *s); // NULL is fine

// At most `n` bytes, without waiting: how many, 0 where there is no room (nothing has come), or ERR_UNREACHABLE: the connection is gone.
ssize_t socket_send(struct socket *s, const void *p, size_t n);
ssize_t socket_recv(struct socket *s, void *p, size_t n);

// Waits until it can be read, or (with `writes`) written, or the time is over.
void socket_wait(const struct socket *s, bool writes, int timeout_ms);

#endif
