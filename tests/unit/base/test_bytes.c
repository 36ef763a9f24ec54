#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "bytes.h"

static void new_copies_with_one_reference(void **state)
{
    (void)state;
    char text[] = "abc";
    struct bytes *b = bytes_new(SPAN_STR(text));
    text[0] = 'x';
    assert_true(span_is(bytes_span(b), "abc"));
    assert_int_equal(atomic_load(&b->refs), 1);
    bytes_unref(b);
}

static void the_last_reference_frees(void **state)
{
    (void)state;
    struct bytes *b = bytes_new(SPAN_LIT("abc"));
    assert_ptr_equal(bytes_ref(b), b);
    bytes_unref(b);
    assert_int_equal(atomic_load(&b->refs), 1); // still readable
    assert_true(span_is(bytes_span(b), "abc"));
    bytes_unref(b); // the address sanitizer sees a leak or a double free
}

static void empty_and_null_are_fine(void **state)
{
    (void)state;
    struct bytes *b = bytes_new(SPAN_NONE);
    assert_int_equal(bytes_span(b).n, 0);
    bytes_unref(b);
    bytes_unref(NULL);
}

static void a_size_that_would_overflow_is_refused(void **state)
{
    (void)state;
    assert_null(bytes_alloc(SIZE_MAX));
    assert_null(bytes_alloc(SIZE_MAX - 8));
}

static void *ref_and_unref(void *p)
{
    for (int i = 0; i < 20000; i++)
        bytes_unref(bytes_ref(p));
    return NULL;
}

static void references_are_counted_across_threads(void **state)
{
    (void)state;
    struct bytes *b = bytes_new(SPAN_LIT("shared"));
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ref_and_unref, b), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&b->refs), 1);
    bytes_unref(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_copies_with_one_reference),
        cmocka_unit_test(the_last_reference_frees),
        cmocka_unit_test(empty_and_null_are_fine),
        cmocka_unit_test(a_size_that_would_overflow_is_refused),
        cmocka_unit_test(references_are_counted_across_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
