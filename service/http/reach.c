#include "reach.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

// The IPv4 blocks that are not globally reachable (IANA's registry of special-purpose addresses), multicast and what is reserved.
static const struct {
    uint32_t address;
    int bits;
} special[] = {
    {0x00000000, 8},  // this network
    {0x0a000000, 8},  // private
    {0x64400000, 10}, // shared, carriers' NAT
    {0x7f000000, 8},  // loopback
    {0xa9fe0000, 16}, // link-local: clouds keep their credentials there
    {0xac100000, 12}, // private
    {0xc0000000, 24}, // protocol assignments
    {0xc0000200, 24}, // documentation
    {0xc0586300, 24}, // 6to4 relays
    {0xc0a80000, 16}, // private
    {0xc6120000, 15}, // benchmarks
    {0xc6336400, 24}, // documentation
    {0xcb007100, 24}, // documentation
    {0xe0000000, 4},  // multicast
    {0xf0000000, 4},  // reserved, broadcast
};

static bool is_public4(uint32_t address)
{
    for (size_t i = 0; i < sizeof special / sizeof *special; i++)
        if ((address ^ special[i].address) >> (32 - special[i].bits) == 0) return false;
    return true;
}

static bool allows4(enum reach reach, uint32_t address)
{
    return (reach == REACH_PUBLIC_OR_LOOPBACK && address >> 24 == 127) || is_public4(address);
}

// Global unicast is 2000::/3. Inside it the tunnels lead to an IPv4 address of somebody's choice, and some blocks lead nowhere.
static bool is_public6(const uint8_t a[16])
{
    bool teredo_and_protocols = a[0] == 0x20 && a[1] == 0x01 && a[2] < 0x02; // 2001::/23
    bool documentation = (a[0] == 0x20 && a[1] == 0x01 && a[2] == 0x0d && a[3] == 0xb8) || (a[0] == 0x3f && a[1] == 0xff && a[2] < 0x10);
    bool six_to_four = a[0] == 0x20 && a[1] == 0x02;
    return a[0] >> 5 == 1 && !teredo_and_protocols && !documentation && !six_to_four;
}

static bool allows6(enum reach reach, const struct in6_addr *address)
{
    uint32_t v4;
    if (IN6_IS_ADDR_V4MAPPED(address)) {
        memcpy(&v4, address->s6_addr + 12, sizeof v4);
        return allows4(reach, ntohl(v4));
    }
    return (reach == REACH_PUBLIC_OR_LOOPBACK && IN6_IS_ADDR_LOOPBACK(address)) || is_public6(address->s6_addr);
}

bool reach_allows(enum reach reach, const struct sockaddr *address)
{
    if (reach == REACH_ANY) return true;
    if (address->sa_family == AF_INET) return allows4(reach, ntohl(((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr));
    if (address->sa_family == AF_INET6) return allows6(reach, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr);
    return false;
}
