// Which addresses a webhook may have, and how it is signed.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka.h needs the four above.
#include <cmocka.h>

#include <stdlib.h>
#include <sys/stat.h>

#include "err.h"
#include "file.h"
#include "json_read.h"
#include "limits.h"
#include "tmp.h"
#include "webhook_sign.h"
#include "webhook_url.h"

static bool allowed(const char *url, bool dev)
{
    struct problem p = PROBLEM_NONE;
    int err = webhook_url_check(SPAN_STR(url), dev, &p);
    if (err != 0) assert_int_equal(err, ERR_WEBHOOK_URL_REJECTED);
    assert_int_equal(err, p.err);
    return err == 0;
}

static void addresses_are_judged(void **state)
{
    (void)state;
    enum { NEVER, DEV, ALWAYS };
    static const struct {
        const char *url;
        int when;
    } cases[] = {
        {"https://worker.example/hooks", ALWAYS},
        {"https://worker.example:8443/hooks?a=b", ALWAYS},
        {"HTTPS://Worker.Example", ALWAYS},
        {"https://8.8.8.8/x", ALWAYS},
        {"https://[2606:4700::1111]/x", ALWAYS},
        {"https://worker.example./x", ALWAYS},
        {"http://worker.example/hooks", NEVER},
        {"http://8.8.8.8/", NEVER},
        {"http://localhost:9000/hook", DEV},
        {"http://LOCALHOST/hook", DEV},
        {"http://localhost./hook", DEV},
        {"http://127.0.0.1:1/", DEV},
        {"http://127.0.0.77/", DEV},
        {"https://127.0.0.1/", DEV},
        {"https://localhost/", DEV},
        {"https://a.localhost/", DEV},
        {"http://10.0.0.1/hook", NEVER},
        {"https://10.0.0.1/", NEVER},
        {"https://172.16.0.1/", NEVER},
        {"https://172.31.255.255/", NEVER},
        {"https://192.168.1.1/", NEVER},
        {"https://169.254.169.254/latest/meta-data/", NEVER},
        {"https://100.64.0.1/", NEVER},
        {"https://0.0.0.0/", NEVER},
        {"https://224.0.0.1/", NEVER},
        {"https://255.255.255.255/", NEVER},
        // Other ways to write 127.0.0.1 and 10.0.0.1.
        {"https://2130706433/", DEV},
        {"https://0x7f.1/", DEV},
        {"https://017700000001/", DEV},
        {"https://167772161/", NEVER},
        {"https://10.1/", NEVER},
        {"https://0xa9fea9fe/", NEVER},
        {"https://[::ffff:10.0.0.1]/", NEVER},
        {"https://[::ffff:a9fe:a9fe]/", NEVER},
        {"https://[2002:0a00:0001::]/", NEVER},
        {"https://[64:ff9b::a00:1]/", NEVER},
        {"https://[fe80::1]/", NEVER},
        {"https://[fe80::1%25eth0]/", NEVER},
        {"https://[fc00::1]/", NEVER},
        {"https://[ff02::1]/", NEVER},
        {"https://[::]/", NEVER},
        // What could be read in two ways.
        {"https://worker.example@10.0.0.1/", NEVER},
        {"https://user:pass@worker.example/", NEVER},
        {"https://worker.example\\@10.0.0.1/", NEVER},
        {"https://worker.example#@10.0.0.1/", NEVER},
        {"https://worker.example/a b", NEVER},
        {"https://worker.example/\r\nX: y", NEVER},
        {"https://worker.example:0/", NEVER},
        {"https://worker.example:65536/", NEVER},
        {"https://worker.example:8a/", NEVER},
        {"https://worker%2eexample/", NEVER},
        {"https:///x", NEVER},
        {"https://", NEVER},
        {"https://[::1", NEVER},
        {"https://[worker.example]/", NEVER},
        {"ftp://worker.example/", NEVER},
        {"file:///etc/passwd", NEVER},
        {"worker.example", NEVER},
        {"", NEVER},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (allowed(cases[i].url, true) != (cases[i].when != NEVER)) print_message("with --dev: %s\n", cases[i].url);
        if (allowed(cases[i].url, false) != (cases[i].when == ALWAYS)) print_message("without: %s\n", cases[i].url);
        assert_int_equal(allowed(cases[i].url, true), cases[i].when != NEVER);
        assert_int_equal(allowed(cases[i].url, false), cases[i].when == ALWAYS);
    }
}

static void an_address_has_a_longest(void **state)
{
    (void)state;
    char url[SUB_URL_MAX + 2] = "https://worker.example/";
    memset(url + strlen(url), 'a', sizeof url - 1 - strlen(url));
    assert_false(allowed(url, false));
    url[SUB_URL_MAX] = '\0';
    assert_true(allowed(url, false));
}

// ---- signing ----

static struct webhook_signer *signer_with(const char *folder, const char *line)
{
    struct webhook_signer *s = NULL;
    struct problem p = PROBLEM_NONE;
    char *path = tmp_path(folder, "webhook.key");
    if (line != NULL) assert_int_equal(file_replace(path, SPAN_STR(line)), 0);
    free(path);
    assert_int_equal(webhook_signer_open(&s, folder, &p), 0);
    return s;
}

// The seed of RFC 8032's first test; its public key is in RFC 8037, appendix A.2, and the key's thumbprint in A.3.
#define RFC_SEED "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60\n"

static void a_key_has_the_name_that_the_standard_gives_it(void **state)
{
    (void)state;
    char *folder = tmp_make();
    struct webhook_signer *s = signer_with(folder, RFC_SEED);
    assert_string_equal(webhook_signer_kid(s), "ds_kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    struct buf b;
    struct jr_tree *t;
    buf_init(&b, KIB);
    webhook_signer_jwks(s, &b);
    assert_int_equal(jr_parse(&t, buf_span(&b), NULL), 0);
    const struct jr *key = jr_at(jr_get(jr_root(t), "keys"), 0);
    assert_true(span_is(jr_str(jr_get(key, "x")), "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"));
    assert_true(span_is(jr_str(jr_get(key, "kid")), webhook_signer_kid(s)));
    assert_true(span_is(jr_str(jr_get(key, "kty")), "OKP") && span_is(jr_str(jr_get(key, "crv")), "Ed25519"));
    assert_true(span_is(jr_str(jr_get(key, "use")), "sig") && span_is(jr_str(jr_get(key, "alg")), "EdDSA"));
    assert_true(memmem(b.p, b.n, "9d61", 4) == NULL);
    jr_free(t);
    buf_free(&b);
    webhook_signer_close(s);
    tmp_remove(folder);
}

// Made with another implementation: node's crypto.sign(null, '1790000000.{"a":1}', key) with the same seed.
static void a_signature_is_the_one_that_others_make(void **state)
{
    (void)state;
    char *folder = tmp_make();
    struct webhook_signer *s = signer_with(folder, RFC_SEED);
    struct buf b;
    buf_init(&b, KIB);
    assert_int_equal(webhook_sign(s, 1790000000, SPAN_LIT("{\"a\":1}"), &b), 0);
    assert_true(span_is(buf_span(&b), "t=1790000000,kid=ds_kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k,ed25519=6L51QQ0tCjrFNTk20Ng-UJTwsLK6dNQfl5K_WXtqX0ZYqgJG5AVGuAl87RovVUTVB1-idjak92z25L1ZaXxgCg"));
    buf_free(&b);
    webhook_signer_close(s);
    tmp_remove(folder);
}

static void the_key_is_made_once_and_for_its_owner_alone(void **state)
{
    (void)state;
    char *folder = tmp_make(), *path = tmp_path(folder, "webhook.key"), kid[64];
    struct stat st;
    struct webhook_signer *s = signer_with(folder, NULL);
    strcpy(kid, webhook_signer_kid(s));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    webhook_signer_close(s);
    s = signer_with(folder, NULL);
    assert_string_equal(webhook_signer_kid(s), kid);
    webhook_signer_close(s);
    free(path);
    tmp_remove(folder);
}

static void a_file_that_is_no_key_is_not_replaced(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "\n", "9d61\n", "not hexadecimal at all, and much too long to be a seed of thirty-two bytes, for sure\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *folder = tmp_make(), *path = tmp_path(folder, "webhook.key");
        struct webhook_signer *s;
        struct problem p = PROBLEM_NONE;
        struct buf text;
        assert_int_equal(file_replace(path, SPAN_STR(bad[i])), 0);
        assert_int_equal(webhook_signer_open(&s, folder, &p), ERR_USAGE);
        buf_init(&text, KIB);
        assert_int_equal(file_slurp(&text, path), 0);
        assert_true(span_is(buf_span(&text), bad[i]));
        buf_free(&text);
        free(path);
        tmp_remove(folder);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_judged),
        cmocka_unit_test(an_address_has_a_longest),
        cmocka_unit_test(a_key_has_the_name_that_the_standard_gives_it),
        cmocka_unit_test(a_signature_is_the_one_that_others_make),
        cmocka_unit_test(the_key_is_made_once_and_for_its_owner_alone),
        cmocka_unit_test(a_file_that_is_no_key_is_not_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
