#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "bug.h"

#ifdef SEGUE_BUGS

static void the_environment_switches_on_the_named_bug_alone(void **state)
{
    (void)state;
    unsetenv("SEGUE_BUG");
    assert_false(bug("skip_sync"));
    setenv("SEGUE_BUG", "skip_sync", 1);
    assert_true(bug("skip_sync"));
    assert_false(bug("skip"));
    assert_false(bug("skip_sync_too"));
    unsetenv("SEGUE_BUG");
}

#else

static void the_environment_switches_on_the_named_bug_alone(void **state)
{
    (void)state;
    setenv("SEGUE_BUG", "skip_sync", 1);
    assert_false(bug("skip_sync")); // this build has none
    unsetenv("SEGUE_BUG");
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_environment_switches_on_the_named_bug_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
