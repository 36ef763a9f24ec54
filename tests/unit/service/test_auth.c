#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka.h needs the four above.
#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auth.h"
#include "err.h"
#include "file.h"
#include "log.h"
#include "tmp.h"

static const struct span app = {(const uint8_t *)"default", 7};

static int setup(void **state)
{
    log_set_level(LOG_ERROR);
    *state = tmp_make();
    return 0;
}

static int teardown(void **state)
{
    tmp_remove(*state);
    return 0;
}

static struct auth *open_auth(void **state, bool dev)
{
    struct auth *a = NULL;
    assert_int_equal(auth_open(&a, &(struct auth_options){.dev = dev, .path = *state}), 0);
    return a;
}

// "Bearer " and the key of the file.
static void authorization(void **state, struct buf *out)
{
    char *path = tmp_path(*state, "admin.key");
    buf_init(out, 1000);
    buf_put_str(out, "Bearer ");
    assert_int_equal(file_slurp(out, path), 0);
    buf_truncate(out, out->n - 1); // the line's end
    free(path);
}

static void the_key_is_made_once_and_for_its_owner_alone(void **state)
{
    struct buf first, second;
    struct stat st;
    char *path = tmp_path(*state, "admin.key");
    auth_close(open_auth(state, false));
    authorization(state, &first);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(st.st_size, 65);
    auth_close(open_auth(state, false));
    authorization(state, &second);
    assert_true(span_equal(buf_span(&first), buf_span(&second)));
    buf_free(&first);
    buf_free(&second);
    free(path);
}

static void the_bearer_of_the_key_may_everything(void **state)
{
    struct auth *a = open_auth(state, false);
    struct identity who;
    struct buf key;
    authorization(state, &key);
    assert_int_equal(auth_identify(a, buf_span(&key), &who), 0);
    assert_int_equal(who.kind, IDENTITY_ADMIN);
    assert_string_equal(who.name, "admin");
    for (int verb = MAY_READ_APP; verb <= MAY_READ_METRICS; verb++)
        assert_int_equal(may(a, &who, (enum verb)verb, app, SPAN_NONE), 0);
    memcpy(key.p, "bEARER ", 7); // the scheme's case does not matter
    assert_int_equal(auth_identify(a, buf_span(&key), &who), 0);
    buf_free(&key);
    auth_close(a);
}

static void nobody_may_nothing(void **state)
{
    struct auth *a = open_auth(state, false);
    struct identity who;
    assert_int_equal(auth_identify(a, SPAN_NONE, &who), 0);
    assert_int_equal(who.kind, IDENTITY_NOBODY);
    for (int verb = MAY_READ_APP; verb <= MAY_READ_METRICS; verb++)
        assert_int_equal(may(a, &who, (enum verb)verb, app, SPAN_NONE), ERR_UNAUTHENTICATED);
    auth_close(a);
}

static void a_wrong_key_is_refused_even_in_dev(void **state)
{
    for (int dev = 0; dev < 2; dev++) {
        struct auth *a = open_auth(state, dev);
        struct identity who;
        struct buf key;
        authorization(state, &key);
        assert_int_equal(auth_identify(a, span_sub(buf_span(&key), 0, key.n - 1), &who), ERR_UNAUTHENTICATED);
        assert_int_equal(auth_identify(a, span_sub(buf_span(&key), 7, key.n), &who), ERR_UNAUTHENTICATED);
        key.p[20] ^= 1;
        assert_int_equal(auth_identify(a, buf_span(&key), &who), ERR_UNAUTHENTICATED);
        assert_int_equal(auth_identify(a, SPAN_LIT("Bearer "), &who), ERR_UNAUTHENTICATED);
        assert_int_equal(auth_identify(a, SPAN_LIT("Basic YTpi"), &who), ERR_UNAUTHENTICATED);
        assert_int_equal(auth_identify(a, SPAN_LIT("B"), &who), ERR_UNAUTHENTICATED);
        buf_free(&key);
        auth_close(a);
    }
}

static void dev_lets_everybody_do_everything(void **state)
{
    struct auth *a = open_auth(state, true);
    struct identity who;
    assert_int_equal(auth_identify(a, SPAN_NONE, &who), 0);
    assert_int_equal(who.kind, IDENTITY_ANONYMOUS_DEV);
    assert_string_equal(who.name, "dev");
    assert_int_equal(may(a, &who, MAY_PUBLISH_SCHEMA, app, SPAN_NONE), 0);
    auth_close(a);
    // Whoever was let in by dev is not let in without.
    a = open_auth(state, false);
    assert_int_equal(may(a, &who, MAY_QUERY, app, SPAN_NONE), ERR_FORBIDDEN);
    auth_close(a);
}

static void a_key_that_is_no_key_keeps_the_service_from_starting(void **state)
{
    static const char *const wrong[] = {"", "short\n", "two lines of a key that is long\nenough\n",
                                        "spaces in a key that is otherwise long enough\n"};
    char *path = tmp_path(*state, "admin.key");
    int kept = dup(2), quiet = open("/dev/null", O_WRONLY); // the fault is logged, which is not for this test's reader
    dup2(quiet, 2);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct auth *a = NULL;
        assert_int_equal(file_replace(path, SPAN_STR(wrong[i])), 0);
        assert_int_equal(auth_open(&a, &(struct auth_options){.path = *state}), ERR_USAGE);
        assert_null(a);
    }
    dup2(kept, 2);
    close(kept);
    close(quiet);
    free(path);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(the_key_is_made_once_and_for_its_owner_alone),
        WITH(the_bearer_of_the_key_may_everything),
        WITH(nobody_may_nothing),
        WITH(a_wrong_key_is_refused_even_in_dev),
        WITH(dev_lets_everybody_do_everything),
        WITH(a_key_that_is_no_key_keeps_the_service_from_starting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
