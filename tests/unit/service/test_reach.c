#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka.h needs the four above.
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "reach.h"

static bool allows(enum reach reach, const char *text)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1) return reach_allows(reach, (struct sockaddr *)&v4);
    assert_int_equal(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
    return reach_allows(reach, (struct sockaddr *)&v6);
}

static void public_addresses_can_be_reached(void **state)
{
    (void)state;
    static const char *const addresses[] = {"1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.0.1", "100.128.0.1", "172.15.255.255", "172.32.0.1",
                                            "192.167.1.1", "198.20.0.1", "223.255.255.255", "2606:4700::1111", "2001:4860:4860::8888",
                                            "::ffff:8.8.8.8"};
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        assert_true(allows(REACH_PUBLIC, addresses[i]));
        assert_true(allows(REACH_PUBLIC_OR_LOOPBACK, addresses[i]));
    }
}

static void networks_of_ones_own_cannot(void **state)
{
    (void)state;
    static const char *const addresses[] = {"0.0.0.0", "10.1.2.3", "100.64.0.1", "100.127.255.255", "169.254.169.254", "172.16.0.1", "172.31.255.255",
                                            "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.19.255.255", "198.51.100.1",
                                            "203.0.113.9", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::ffff:10.0.0.1",
                                            "::ffff:169.254.169.254", "::10.0.0.1", "64:ff9b::a00:1", "100::1", "fc00::1", "fd12::1", "fe80::1",
                                            "ff02::1", "2001::1", "2001:db8::1", "2002:a00:1::1", "3fff::1"};
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        assert_false(allows(REACH_PUBLIC, addresses[i]));
        assert_false(allows(REACH_PUBLIC_OR_LOOPBACK, addresses[i]));
        assert_true(allows(REACH_ANY, addresses[i]));
    }
}

static void loopback_needs_its_own_word(void **state)
{
    (void)state;
    static const char *const addresses[] = {"127.0.0.1", "127.255.0.1", "::1", "::ffff:127.0.0.1"};
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        assert_false(allows(REACH_PUBLIC, addresses[i]));
        assert_true(allows(REACH_PUBLIC_OR_LOOPBACK, addresses[i]));
    }
}

static void other_families_cannot(void **state)
{
    (void)state;
    struct sockaddr local = {.sa_family = AF_UNIX};
    assert_false(reach_allows(REACH_PUBLIC, &local));
    assert_true(reach_allows(REACH_ANY, &local));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(public_addresses_can_be_reached),
        cmocka_unit_test(networks_of_ones_own_cannot),
        cmocka_unit_test(loopback_needs_its_own_word),
        cmocka_unit_test(other_families_cannot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
