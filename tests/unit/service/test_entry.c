#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "entry.h"
#include "err.h"
#include "hlc.h"
#include "limits.h"
#include "streams.h"

#define NOW 1790000000000u
#define HEAD 9 // bytes of a group's head: a format, and the varints of NOW and a seq

static const uint8_t seed[16] = {1, 2, 3};

static struct entry accepted(void)
{
    return (struct entry){
        .identity = {IDENTITY_ADMIN, "admin"},
        .commit = {.seq = 300, .arrival_ms = NOW, .stamp = hlc_stamp(NOW, 5), .base = 299, .request = SPAN_LIT("request")},
        .fate = {.seq = 300, .journaled = true, .results = SPAN_LIT("results"), .problem = PROBLEM_NONE},
        .rows = SPAN_LIT("rows"),
        .streams = SPAN_LIT("streams"),
        .blobs = SPAN_LIT("blobs"),
    };
}

static struct entry rejected(void)
{
    struct entry e = accepted();
    e.commit.seq = e.fate.seq = 0;
    e.fate.err = ERR_NOT_NULL;
    e.fate.results = e.rows = e.streams = e.blobs = e.jobs = e.subs = SPAN_NONE;
    problem_set(&e.fate.problem, ERR_NOT_NULL, 3, "the column title must not be null");
    return e;
}

static void assert_same(const struct entry *a, const struct entry *b)
{
    assert_int_equal(a->name.kind, b->name.kind);
    assert_true(uuid_equal(a->name.replica, b->name.replica));
    assert_true(a->name.counter == b->name.counter);
    assert_string_equal(a->name.key, b->name.key);
    assert_int_equal(a->identity.kind, b->identity.kind);
    assert_string_equal(a->identity.name, b->identity.name);
    assert_true(a->commit.seq == b->commit.seq);
    assert_true(a->commit.arrival_ms == b->commit.arrival_ms);
    assert_true(a->commit.stamp == b->commit.stamp);
    assert_true(a->commit.base == b->commit.base);
    assert_memory_equal(a->commit.seed, b->commit.seed, sizeof a->commit.seed);
    assert_true(span_equal(a->commit.request, b->commit.request));
    assert_true(a->base_said == b->base_said);
    assert_true(a->stamp_said == b->stamp_said);
    assert_int_equal(a->fate.err, b->fate.err);
    assert_true(a->fate.journaled == b->fate.journaled);
    assert_true(a->fate.seq == b->fate.seq);
    assert_true(a->fate.problem.position == b->fate.problem.position);
    assert_string_equal(a->fate.problem.text, b->fate.problem.text);
    assert_true(span_equal(a->fate.results, b->fate.results));
    assert_true(span_equal(a->rows, b->rows));
    assert_true(span_equal(a->streams, b->streams));
    assert_true(span_equal(a->blobs, b->blobs));
    assert_true(span_equal(a->jobs, b->jobs));
    assert_true(span_equal(a->subs, b->subs));
}

// An entry alone in its group.
static void put_alone(struct buf *out, const struct entry *e)
{
    entry_put(out, &(struct entry_place){0}, e);
}

static void assert_goes_round(const struct entry *e)
{
    struct buf b, second;
    struct entry is;
    struct entry_reader r;
    buf_init(&b, MIB);
    buf_init(&second, MIB);
    put_alone(&b, e);
    entry_reader_init(&r, buf_span(&b));
    assert_int_equal(entry_read(&r, &is), 1);
    assert_int_equal(r.rest.n, 0);
    assert_same(e, &is);
    put_alone(&second, &is);
    assert_true(span_equal(buf_span(&b), buf_span(&second)));
    assert_int_equal(entry_read(&r, &is), 0);
    buf_free(&b);
    buf_free(&second);
}

static void every_flag_goes_round(void **state)
{
    (void)state;
    for (unsigned flags = 0; flags < 256; flags++) {
        struct entry e = flags & 64 ? rejected() : accepted();
        if ((flags & 3) == 3) continue;
        if (flags & 1) {
            e.name = (struct batch_name){.kind = BATCH_REPLICA, .counter = 1u << 20};
            memset(e.name.replica.b, 9, sizeof e.name.replica.b);
            e.commit.writer = e.name.replica;
        }
        if (flags & 2) e.name = (struct batch_name){.kind = BATCH_KEY, .key = "a key"};
        if (flags & 4) memcpy(e.commit.seed, seed, sizeof seed);
        if (flags & 8) e.base_said = e.commit.base = 7;
        if (flags & 16) e.stamp_said = e.commit.stamp;
        if (flags & 32) e.rows = e.streams = e.blobs = SPAN_NONE;
        if ((flags & (64 | 128)) == 128) e.jobs = SPAN_LIT("a step");
        if ((flags & (2 | 64 | 128)) == (2 | 128)) e.subs = SPAN_LIT("another step");
        assert_goes_round(&e);
    }
}

static void every_identity_and_any_stamp_goes_round(void **state)
{
    (void)state;
    static const uint64_t stamps[] = {0, 1, UINT64_MAX, 1ull << 63, 115000000000000000};
    static const struct identity who[] = {{IDENTITY_NOBODY, ""}, {IDENTITY_ANONYMOUS_DEV, "dev"}, {IDENTITY_ADMIN, "admin"}};
    for (size_t i = 0; i < sizeof stamps / sizeof *stamps; i++) {
        struct entry e = accepted();
        e.commit.stamp = stamps[i];
        e.identity = who[i % 3];
        assert_goes_round(&e);
    }
}

static void the_writer_is_the_replica(void **state)
{
    (void)state;
    struct entry e = accepted(), is;
    struct buf b;
    e.name = (struct batch_name){.kind = BATCH_REPLICA, .counter = 1};
    memset(e.name.replica.b, 9, sizeof e.name.replica.b);
    buf_init(&b, MIB);
    struct entry_reader reader;
    put_alone(&b, &e);
    entry_reader_init(&reader, buf_span(&b));
    assert_int_equal(entry_read(&reader, &is), 1);
    assert_true(uuid_equal(is.commit.writer, e.name.replica));
    buf_free(&b);
}

static void entries_stand_one_after_the_other(void **state)
{
    (void)state;
    struct entry a = accepted(), r = rejected(), is;
    struct buf b;
    buf_init(&b, MIB);
    uint8_t *large = calloc(1, 200000); // its length takes three bytes
    a.commit.request = SPAN(large, 200000);
    struct entry later = accepted(), said = accepted();
    later.fate.seq = later.commit.seq = 301, later.commit.base = 300; // as it goes: the next seq, the next stamp
    later.commit.stamp = a.commit.stamp + 1;
    said.base_said = said.commit.base = 12;
    said.stamp_said = said.commit.stamp = 4711;
    const struct entry *all[] = {&a, &r, &a, &later, &said, &r, &later};
    struct entry_place place = {0};
    struct entry_reader reader;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        entry_put(&b, &place, all[i]);
    entry_reader_init(&reader, buf_span(&b));
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        assert_int_equal(entry_read(&reader, &is), 1);
        assert_same(all[i], &is);
    }
    assert_int_equal(entry_read(&reader, &is), 0);
    free(large);
    buf_free(&b);
}

static void an_entry_cut_anywhere_is_refused(void **state)
{
    (void)state;
    struct entry e = accepted(), is;
    struct buf b;
    e.name = (struct batch_name){.kind = BATCH_KEY, .key = "a key"};
    memcpy(e.commit.seed, seed, sizeof seed);
    e.base_said = e.commit.base = e.stamp_said = e.commit.stamp = 12;
    struct entry_reader reader;
    buf_init(&b, MIB);
    put_alone(&b, &e);
    for (size_t n = 1; n < b.n; n++) {
        uint8_t *exact = malloc(n);
        memcpy(exact, b.p, n);
        entry_reader_init(&reader, SPAN(exact, n));
        assert_int_equal(entry_read(&reader, &is), ERR_CORRUPT);
        // The length may agree, and the content still be cut.
        if (n > HEAD && n - HEAD < 128) exact[HEAD] = (uint8_t)(n - HEAD - 1);
        entry_reader_init(&reader, SPAN(exact, n));
        assert_int_equal(entry_read(&reader, &is), ERR_CORRUPT);
        free(exact);
    }
    buf_free(&b);
}

static void a_changed_entry_is_read_or_refused(void **state)
{
    (void)state;
    struct buf b, second;
    uint64_t x = 88172645463325252u;
    buf_init(&b, MIB);
    buf_init(&second, MIB);
    for (int i = 0; i < 40000; i++) {
        struct entry e = i % 2 ? accepted() : rejected(), is;
        if (i % 3 == 1) e.name = (struct batch_name){.kind = BATCH_REPLICA, .counter = 4};
        if (i % 3 == 2) e.name = (struct batch_name){.kind = BATCH_KEY, .key = "a key"};
        buf_clear(&b);
        put_alone(&b, &e);
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        b.p[x % b.n] = (uint8_t)(x >> 40);
        struct entry_reader reader;
        entry_reader_init(&reader, buf_span(&b));
        int got = entry_read(&reader, &is);
        assert_true(got == 1 || got == ERR_CORRUPT);
        buf_clear(&second);
        if (got == 1) put_alone(&second, &is); // and what was read can be written
        assert_int_equal(second.err, 0);
    }
    buf_free(&b);
    buf_free(&second);
}

static void a_buffer_without_room_stays_an_error(void **state)
{
    (void)state;
    struct entry e = accepted();
    struct buf b;
    buf_init(&b, MIB);
    put_alone(&b, &e);
    size_t whole = b.n;
    buf_free(&b);
    for (size_t max = 0; max <= whole; max++) {
        buf_init(&b, max);
        put_alone(&b, &e);
        assert_int_equal(b.err, max < whole ? ERR_TOO_LARGE : 0);
        buf_free(&b);
    }
}

// A token's append as deciding it leaves it.
static struct entry token(struct buf *room, uint64_t number, uint64_t offset)
{
    struct entry e = accepted();
    e.rows = e.blobs = SPAN_NONE;
    batch_put_op(room, &(struct batch_op){.kind = BATCH_APPEND_AT, .stream = {.number = number, .data = SPAN_LIT(" tok")}});
    size_t request = room->n;
    result_put(room, &(struct result){.kind = RESULT_OFFSET, .offset = offset + 4});
    size_t results = room->n;
    streams_append_effects(room, number, offset, request - 4, 4);
    e.commit.request = SPAN(room->p, request);
    e.fate.results = SPAN(room->p + request, results - request);
    e.streams = SPAN(room->p + results, room->n - results);
    return e;
}

static void a_tokens_entry_is_short(void **state)
{
    (void)state;
    struct buf room, b;
    buf_init(&room, KIB);
    buf_init(&b, KIB);
    struct entry e = token(&room, 10000, 100000);
    e.commit.stamp = hlc_stamp(NOW, 0);
    assert_goes_round(&e);
    put_alone(&b, &e);
    assert_in_range(b.n, 15, 26);
    buf_clear(&b);
    e.fate.results = SPAN_LIT("\1"); // other results, other effects are kept as they are
    assert_goes_round(&e);
    buf_clear(&room);
    e = token(&room, 10000, 100000);
    room.p[room.n - 1] ^= 1;
    assert_goes_round(&e);
    put_alone(&b, &e);
    assert_true(b.n > 26);
    buf_free(&room);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_flag_goes_round),
        cmocka_unit_test(every_identity_and_any_stamp_goes_round),
        cmocka_unit_test(the_writer_is_the_replica),
        cmocka_unit_test(entries_stand_one_after_the_other),
        cmocka_unit_test(an_entry_cut_anywhere_is_refused),
        cmocka_unit_test(a_changed_entry_is_read_or_refused),
        cmocka_unit_test(a_tokens_entry_is_short),
        cmocka_unit_test(a_buffer_without_room_stays_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
