// Which addresses a call may reach: a URL that somebody else chose must not lead into the network that the service stands in. Judged on
// the address that is connected to, so that no name can resolve to one thing when it is checked and to another when it is used. Pure.
#ifndef SEGUE_REACH_H
#define SEGUE_REACH_H

#include <stdbool.h>
#include <sys/socket.h>

enum reach {
    REACH_ANY,                // the operator chose the address
    REACH_PUBLIC,             // globally routed unicast alone
    REACH_PUBLIC_OR_LOOPBACK, // this machine, too: development
};

// False for any other family than IPv4 and IPv6, unless all are allowed. An IPv4 address inside IPv6 is judged as itself.
bool reach_allows(enum reach reach, const struct sockaddr *address);

#endif
