#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "err.h"
#include "json_read.h"
#include "json_write.h"
#include "rows_rig.h"
#include "source.h"

// Rooms with messages, people who sent them, and likes of messages.
static const char schema[] =
    "create table people (name text not null, age integer);"
    "create table rooms (title text not null, owner uuid references people);"
    "create table messages (room uuid not null references rooms, author uuid references people, text text not null, n integer not null,"
    " body stream);"
    "create index messages_room on messages (room, n desc);"
    "create index messages_n on messages (n);"
    "create index people_age on people (age);"
    "create unique index people_name on people (name);";

// The ids of a table begin with another number each.
#define PERSON(n) (0x100 + (n))
#define ROOM(n) (0x200 + (n))
#define MESSAGE(n) (0x300 + (n))

static void insert(struct rows_rig *g, const char *table, unsigned id, const char *format, ...)
{
    char json[500];
    va_list ap;
    va_start(ap, format);
    vsnprintf(json, sizeof json, format, ap);
    va_end(ap);
    rr_insert(g, table, id, json);
}

#define UUID "\"00000000-0000-0000-0000-%012x\""

static void message(struct rows_rig *g, unsigned n, unsigned room, unsigned author, const char *text)
{
    if (author != 0)
        insert(g, "messages", MESSAGE(n), "{\"room\":" UUID ",\"author\":" UUID ",\"text\":\"%s\",\"n\":%u}", ROOM(room), PERSON(author), text, n);
    else
        insert(g, "messages", MESSAGE(n), "{\"room\":" UUID ",\"text\":\"%s\",\"n\":%u}", ROOM(room), text, n);
}

static int setup(void **state)
{
    struct rows_rig *g = malloc(sizeof *g);
    rr_open(g);
    rr_publish(g, schema);
    insert(g, "people", PERSON(1), "{\"name\":\"Ada\",\"age\":36}");
    insert(g, "people", PERSON(2), "{\"name\":\"Bob\",\"age\":20}");
    insert(g, "people", PERSON(3), "{\"name\":\"Cyd\"}");
    insert(g, "rooms", ROOM(1), "{\"title\":\"tea\",\"owner\":" UUID "}", PERSON(1));
    insert(g, "rooms", ROOM(2), "{\"title\":\"law\",\"owner\":" UUID "}", PERSON(2));
    insert(g, "rooms", ROOM(3), "{\"title\":\"void\"}");
    message(g, 1, 1, 1, "hello");
    message(g, 2, 1, 2, "hi");
    message(g, 3, 2, 2, "objection");
    message(g, 4, 1, 1, "milk?");
    message(g, 5, 2, 0, "overruled");
    *state = g;
    return 0;
}

static int teardown(void **state)
{
    rr_close(*state);
    free(*state);
    return 0;
}

// ---- expressions in the list ---------------------------------------------------------------------------------------

static void the_list_takes_expressions_with_names(void **state)
{
    struct rows_rig *g = *state;
    rr_expect(g, "select upper(name) as loud, age + 1 from people where name = 'Ada'",
              "{\"id\":\"00000000-0000-0000-0000-000000000101\",\"loud\":\"ADA\",\"?column?\":37}\n");
    rr_expect(g, "select lower(name) from people where age < 30", "{\"id\":\"00000000-0000-0000-0000-000000000102\",\"lower\":\"bob\"}\n");
    rr_expect(g, "select p.* from people as p where p.age is null",
              "{\"id\":\"00000000-0000-0000-0000-000000000103\",\"name\":\"Cyd\",\"age\":null}\n");
    rr_expect(g, "select case when age >= 30 then 'old' when age < 30 then 'young' else '?' end as c from people order by age desc nulls last",
              "{\"id\":\"00000000-0000-0000-0000-000000000101\",\"c\":\"old\"}\n{\"id\":\"00000000-0000-0000-0000-000000000102\",\"c\":\"young\"}\n"
              "{\"id\":\"00000000-0000-0000-0000-000000000103\",\"c\":\"?\"}\n");
    rr_expect(g, "select distinct n > 2 as late from messages", "{\"late\":false}\n{\"late\":true}\n");
}

// ---- joins ---------------------------------------------------------------------------------------------------------

static void tables_are_joined_by_what_they_have_in_common(void **state)
{
    struct rows_rig *g = *state;
    rr_expect(g, "select r.title, m.text from rooms r join messages m on m.room = r.id order by m.n",
              "{\"title\":\"tea\",\"text\":\"hello\"}\n{\"title\":\"tea\",\"text\":\"hi\"}\n{\"title\":\"law\",\"text\":\"objection\"}\n"
              "{\"title\":\"tea\",\"text\":\"milk?\"}\n{\"title\":\"law\",\"text\":\"overruled\"}\n");
    rr_expect(g, "select title, name from rooms, people where owner = people.id and name > 'B'", "{\"title\":\"law\",\"name\":\"Bob\"}\n");
    rr_expect(g, "select m.n, p.name from messages m left join people p on p.id = m.author where m.n > 2 order by m.n desc",
              "{\"n\":5,\"name\":null}\n{\"n\":4,\"name\":\"Ada\"}\n{\"n\":3,\"name\":\"Bob\"}\n");
    rr_expect(g, "select r.title, m.n from rooms r left join messages m on m.room = r.id and m.n > 3 order by title, n",
              "{\"title\":\"law\",\"n\":5}\n{\"title\":\"tea\",\"n\":4}\n{\"title\":\"void\",\"n\":null}\n");
    rr_expect(g, "select r.title from rooms r left join messages m on m.room = r.id where m.id is null", "{\"title\":\"void\"}\n");
    rr_expect(g, "select a.n, b.n as m from messages a cross join messages b where a.n + 3 = b.n order by 1",
              "{\"n\":1,\"m\":4}\n{\"n\":2,\"m\":5}\n");
    rr_expect(g,
              "select p.name, r.title, m.n from people p join rooms r on r.owner = p.id join messages m on m.room = r.id and m.author = p.id"
              " order by m.n",
              "{\"name\":\"Ada\",\"title\":\"tea\",\"n\":1}\n{\"name\":\"Bob\",\"title\":\"law\",\"n\":3}\n{\"name\":\"Ada\",\"title\":\"tea\",\"n\":4}\n");
}

// ---- selects within ------------------------------------------------------------------------------------------------

static void selects_within_see_the_row_around_them(void **state)
{
    struct rows_rig *g = *state;
    rr_expect(g, "select title from rooms r where exists (select 1 from messages m where m.room = r.id and m.n > 4)",
              "{\"id\":\"00000000-0000-0000-0000-000000000202\",\"title\":\"law\"}\n");
    rr_expect(g, "select title from rooms r where not exists (select 1 from messages where room = r.id)",
              "{\"id\":\"00000000-0000-0000-0000-000000000203\",\"title\":\"void\"}\n");
    rr_expect(g, "select n from messages where author in (select id from people where age > 30) order by n",
              "{\"id\":\"00000000-0000-0000-0000-000000000301\",\"n\":1}\n{\"id\":\"00000000-0000-0000-0000-000000000304\",\"n\":4}\n");
    rr_expect(g, "select n from messages where author not in (select id from people where age > 30) order by n",
              "{\"id\":\"00000000-0000-0000-0000-000000000302\",\"n\":2}\n{\"id\":\"00000000-0000-0000-0000-000000000303\",\"n\":3}\n");
    rr_expect(g, "select name from people where age not in (select age from people)", ""); // one of them is null
    rr_expect(g, "select title, (select max(n) from messages where room = r.id) as last from rooms r order by last nulls first",
              "{\"id\":\"00000000-0000-0000-0000-000000000203\",\"title\":\"void\",\"last\":null}\n"
              "{\"id\":\"00000000-0000-0000-0000-000000000201\",\"title\":\"tea\",\"last\":4}\n"
              "{\"id\":\"00000000-0000-0000-0000-000000000202\",\"title\":\"law\",\"last\":5}\n");
    rr_expect(g, "select title, array(select n from messages where room = r.id order by n desc limit 2) as ns from rooms r",
              "{\"id\":\"00000000-0000-0000-0000-000000000201\",\"title\":\"tea\",\"ns\":[4,2]}\n"
              "{\"id\":\"00000000-0000-0000-0000-000000000202\",\"title\":\"law\",\"ns\":[5,3]}\n"
              "{\"id\":\"00000000-0000-0000-0000-000000000203\",\"title\":\"void\",\"ns\":[]}\n");
    rr_expect(g,
              "select title, array(select text, (select name from people where id = m.author) as by from messages m where room = r.id and n > 2)"
              " as last from rooms r where title = 'law'",
              "{\"id\":\"00000000-0000-0000-0000-000000000202\",\"title\":\"law\",\"last\":[{\"text\":\"objection\",\"by\":\"Bob\"},"
              "{\"text\":\"overruled\",\"by\":null}]}\n");
    rr_expect(g, "select (select name, age from people where id = r.owner) as who from rooms r where title <> 'law'",
              "{\"id\":\"00000000-0000-0000-0000-000000000201\",\"who\":{\"name\":\"Ada\",\"age\":36}}\n"
              "{\"id\":\"00000000-0000-0000-0000-000000000203\",\"who\":null}\n");
    rr_expect(g, "select array(select distinct room from messages where n < 3) as rooms from people where name = 'Ada'",
              "{\"id\":\"00000000-0000-0000-0000-000000000101\",\"rooms\":[\"00000000-0000-0000-0000-000000000201\"]}\n");
}

// ---- groups --------------------------------------------------------------------------------------------------------

static void rows_are_grouped(void **state)
{
    struct rows_rig *g = *state;
    rr_expect(g, "select count(*), count(author) as authors, count(distinct author) as different, sum(n), min(text), max(text), avg(n) from messages",
              "{\"count\":5,\"authors\":4,\"different\":2,\"sum\":15,\"min\":\"hello\",\"max\":\"overruled\",\"avg\":3.0}\n");
    rr_expect(g, "select count(*) as n, sum(n) as s, max(n) as m from messages where n > 9", "{\"n\":0,\"s\":null,\"m\":null}\n");
    rr_expect(g, "select n from messages where n > 9 group by n", "");
    rr_expect(g, "select author, count(*) as n from messages group by author order by n desc, author nulls first",
              "{\"author\":\"00000000-0000-0000-0000-000000000101\",\"n\":2}\n{\"author\":\"00000000-0000-0000-0000-000000000102\",\"n\":2}\n"
              "{\"author\":null,\"n\":1}\n");
    rr_expect(g, "select r.title, count(m.id) as n from rooms r left join messages m on m.room = r.id group by r.id having count(m.id) <> 2 order by title",
              "{\"title\":\"tea\",\"n\":3}\n{\"title\":\"void\",\"n\":0}\n");
    rr_expect(g, "select n % 2 as odd, sum(n) + 1 as s from messages group by n % 2 order by 1", "{\"odd\":0,\"s\":7}\n{\"odd\":1,\"s\":10}\n");
    rr_expect(g, "select n % 2 as odd, count(*) from messages group by odd order by odd limit 1 offset 1", "{\"odd\":1,\"count\":3}\n");
    rr_expect(g, "select room, (select title from rooms where id = m.room) as title from messages m group by room order by title",
              "{\"room\":\"00000000-0000-0000-0000-000000000202\",\"title\":\"law\"}\n{\"room\":\"00000000-0000-0000-0000-000000000201\",\"title\":\"tea\"}\n");
    rr_expect(g, "select count(distinct n % 2) from messages having sum(n) > 100", "");
}

static void limits_and_offsets_cut_the_result(void **state)
{
    struct rows_rig *g = *state;
    rr_expect(g, "select m.n from messages m join rooms r on r.id = m.room order by n limit 2 offset 1", "{\"n\":2}\n{\"n\":3}\n");
    rr_expect(g, "select m.n from messages m join rooms r on r.id = m.room order by n offset 4", "{\"n\":5}\n");
    rr_expect(g, "select m.n from messages m join rooms r on r.id = m.room order by n limit 0", "");
    rr_expect(g, "select distinct room from messages order by room limit 1 offset 1", "{\"room\":\"00000000-0000-0000-0000-000000000202\"}\n");
}

// ---- what is refused -----------------------------------------------------------------------------------------------

static void refused(struct rows_rig *g, const char *sql, int err, const char *at, const char *part)
{
    struct query *q;
    struct problem p = PROBLEM_NONE;
    int found = query_compile(g->r, SPAN_STR(sql), NULL, 0, &q, &p);
    if (found != err || strstr(problem_text(&p), part) == NULL)
        fail_msg("%s gave %s, not %s: %s", sql, err_wire(found), err_wire(err), problem_text(&p));
    int64_t position = at != NULL ? strstr(sql, at) - sql : -1;
    if (p.position != position) fail_msg("%s: at %lld: %s", sql, (long long)p.position, problem_text(&p));
}

static void what_means_nothing_is_refused_with_its_place(void **state)
{
    struct rows_rig *g = *state;
    refused(g, "select id from rooms, people", ERR_BAD_SQL, "id", "several tables");
    refused(g, "select * from rooms r join people p on r.owner = p.id", ERR_BAD_SQL, "*", "called id");
    refused(g, "select n, n from messages", ERR_BAD_SQL, "n from", "called n");
    refused(g, "select x.n from messages m", ERR_BAD_SQL, "x.n", "not a table");
    refused(g, "select m.n from messages m, people m", ERR_BAD_SQL, "people m", "two tables");
    refused(g, "select title from rooms r join people p on p.id = m.author join messages m on true", ERR_BAD_SQL, "m.author", "not a table");
    refused(g, "select text, count(*) from messages", ERR_BAD_SQL, "text", "grouped by");
    refused(g, "select text from messages group by n", ERR_BAD_SQL, "text", "grouped by");
    refused(g, "select n from messages where count(*) > 1", ERR_BAD_SQL, "count", "aggregate");
    refused(g, "select sum(count(*)) from messages", ERR_BAD_SQL, "count", "aggregate");
    refused(g, "select sum(text) from messages", ERR_WRONG_TYPE, "sum", "numbers");
    refused(g, "select distinct text from messages m order by m.n", ERR_BAD_SQL, "m.n", "SELECT DISTINCT");
    refused(g, "select n from messages order by 3", ERR_BAD_SQL, "3", "no such column");
    refused(g, "select n from messages where n in (select n, text from messages)", ERR_BAD_SQL, "in", "one column");
    refused(g, "select n from messages where n in (select text from messages)", ERR_WRONG_TYPE, "in", "do not go together");
    refused(g, "select text from messages m where m.n", ERR_WRONG_TYPE, "m.n", "true or false");
}

// The error of a result while it is read.
static int run(struct rows_rig *g, const char *sql, struct problem *p)
{
    struct buf rows;
    struct query *q = rr_compile(g, sql);
    int err = rr_run(g, q, g->seq, &rows, p);
    buf_free(&rows);
    query_unref(q);
    return err;
}

static void what_goes_wrong_on_the_way_is_told_in_words(void **state)
{
    struct rows_rig *g = *state;
    struct problem p;
    assert_int_equal(run(g, "select 10 / (n - 3) as q from messages", &p), ERR_BAD_VALUE);
    assert_non_null(strstr(problem_text(&p), "division by zero"));
    assert_int_equal(p.position, 10);
    assert_int_equal(run(g, "select (select n from messages) as n from rooms", &p), ERR_BAD_VALUE);
    assert_non_null(strstr(problem_text(&p), "more than one row"));
    assert_int_equal(run(g, "select sum(n * 9223372036854775) * 1000000 from messages", &p), ERR_BAD_VALUE);
}

// ---- bounds --------------------------------------------------------------------------------------------------------

static void fill(struct rows_rig *g, unsigned n, size_t bytes)
{
    char *json = malloc(bytes + 100);
    rr_commit(g);
    rr_begin(g);
    for (unsigned i = 0; i < n; i++) {
        int at = sprintf(json, "{\"title\":\"%04u", i);
        memset(json + at, 'x', bytes);
        strcpy(json + at + bytes, "\"}");
        assert_int_equal(rr_op(g, ROW_INSERT, "rooms", 0x1000 + i, json), 0);
    }
    assert_int_equal(rr_end(g), 0);
    free(json);
}

static void a_query_holds_and_looks_at_so_much(void **state)
{
    struct rows_rig *g = *state;
    struct problem p;
    fill(g, 300, 1000);
    // 90,000 texts of two thousand bytes each are more than may be held, however they come to be.
    assert_int_equal(run(g, "select distinct a.title || b.title as t from rooms a, rooms b", &p), ERR_QUERY_TOO_EXPENSIVE);
    assert_non_null(strstr(problem_text(&p), "holds more"));
    assert_int_equal(run(g, "select a.title || b.title as t, count(*) from rooms a, rooms b group by 1", &p), ERR_QUERY_TOO_EXPENSIVE);
    assert_int_equal(run(g, "select array(select a.title || b.title from rooms a, rooms b) as t from people", &p), ERR_QUERY_TOO_EXPENSIVE);
    assert_int_equal(run(g, "select a.title from rooms a, rooms b where a.title || b.title not in (select c.title || d.title from rooms c, rooms d)", &p),
                     ERR_QUERY_TOO_EXPENSIVE);
    assert_int_equal(run(g, "select a.id from rooms a, rooms b order by a.title || b.title", &p), ERR_QUERY_TOO_EXPENSIVE);
    assert_int_equal(run(g, "select count(*) from rooms a, rooms b, rooms c", &p), ERR_QUERY_TOO_EXPENSIVE);
    assert_non_null(strstr(problem_text(&p), "1000000 rows"));
    assert_int_equal(run(g, "select a.n from messages a, rooms b, rooms c where b.id < c.id", &p), ERR_RESULT_TOO_LARGE);
    // What is cut off need not be held.
    assert_int_equal(run(g, "select a.id from rooms a, rooms b order by a.title || b.title limit 10", &p), 0);
}

// ---- plans ---------------------------------------------------------------------------------------------------------

// The plan of a query as "table by index …", a table after the other, once it has run.
static void expect_plan(struct rows_rig *g, const char *sql, const char *expected)
{
    struct query *q = rr_compile(g, sql);
    struct buf text, found;
    struct jw w;
    struct jr_tree *tree;
    buf_init(&text, MIB);
    buf_init(&found, MIB);
    jw_init(&w, &text);
    rr_explain(g, q, g->seq, &w);
    assert_int_equal(jr_parse(&tree, buf_span(&text), NULL), 0);
    const struct jr *plan = jr_get(jr_root(tree), "plan");
    for (size_t i = 0; i < jr_count(plan); i++) {
        const struct jr *tables = jr_get(jr_at(plan, i), "tables");
        for (size_t k = 0; k < jr_count(tables); k++) {
            const struct jr *t = jr_at(tables, k);
            struct span index = jr_str(jr_get(t, "index"));
            buf_printf(&found, "%s%.*s by %.*s", found.n > 0 ? "; " : "", SPAN_FMT(jr_str(jr_get(t, "table"))), SPAN_FMT(jr_str(jr_get(t, "by"))));
            if (index.n > 0) buf_printf(&found, " %.*s", SPAN_FMT(index));
            if (jr_get(t, "equal")) buf_printf(&found, " =%d", (int)jr_int(jr_get(t, "equal"), 0));
            if (jr_get(t, "each")) buf_put_str(&found, " each");
            if (jr_get(t, "range")) buf_printf(&found, " %.*s", SPAN_FMT(jr_str(jr_get(t, "range"))));
            if (jr_get(t, "backwards")) buf_put_str(&found, " backwards");
            buf_printf(&found, " %d", (int)jr_int(jr_get(t, "looked_at"), -1));
        }
        if (jr_bool(jr_get(jr_at(plan, i), "sorted"), false)) buf_put_str(&found, " sorted");
    }
    buf_put_u8(&found, 0);
    if (strcmp((char *)found.p, expected) != 0) fail_msg("%s\n  is done by %s\n  not        %s", sql, found.p, expected);
    jr_free(tree);
    buf_free(&text);
    buf_free(&found);
    query_unref(q);
}

#define R1 "'00000000-0000-0000-0000-000000000201'"

static void plans_use_the_index_that_says_most(void **state)
{
    struct rows_rig *g = *state;
    expect_plan(g, "select text from messages where text = 'hi'", "messages by scan 5");
    expect_plan(g, "select title from rooms where id = " R1, "rooms by point 1");
    expect_plan(g, "select title from rooms where id in (" R1 ", " R1 ", null)", "rooms by index id each 1");
    expect_plan(g, "select title from rooms where id > " R1, "rooms by index id from 2");
    expect_plan(g, "select title from rooms order by id desc", "rooms by scan backwards 3");
    expect_plan(g, "select text from messages where room = " R1, "messages by index messages_room =1 3 sorted");
    expect_plan(g, "select text from messages where room = " R1 " and n = 2", "messages by index messages_room =2 1");
    expect_plan(g, "select text from messages where room = " R1 " and n > 1 order by n desc", "messages by index messages_room =1 from 2");
    expect_plan(g, "select text from messages where room = " R1 " order by n limit 1", "messages by index messages_room =1 backwards 2");
    expect_plan(g, "select text from messages where n between 2 and 3 order by n", "messages by index messages_n both 2");
    expect_plan(g, "select text from messages order by n limit 2", "messages by index messages_n 2");
    expect_plan(g, "select text from messages order by n desc limit 2", "messages by index messages_n backwards 3");
    expect_plan(g, "select text from messages where n in (1, 3, 3, 9)", "messages by index messages_n each 2 sorted");
    expect_plan(g, "select text from messages where n = any (array[4, 2])", "messages by index messages_n each 2 sorted");
    expect_plan(g, "select name from people where age is null", "people by index people_age =1 1");
    expect_plan(g, "select name from people where age < 100", "people by index people_age to 2 sorted");
    expect_plan(g, "select age from people where name = 'Ada'", "people by index people_name =1 1");
}

static void the_least_and_the_greatest_are_found_at_an_end(void **state)
{
    struct rows_rig *g = *state;
    expect_plan(g, "select max(n) from messages", "messages by index messages_n backwards 1");
    expect_plan(g, "select min(n) as m from messages where n > 2", "messages by index messages_n from 1");
    expect_plan(g, "select min(n) from messages where room = " R1, "messages by index messages_room =1 backwards 1");
    expect_plan(g, "select max(age) from people", "people by index people_age backwards 2"); // a null comes first
    expect_plan(g, "select max(id) from rooms", "rooms by scan backwards 1");
    expect_plan(g, "select max(n) from messages where text < 'i'", "messages by index messages_n backwards 4");
    expect_plan(g, "select max(n), count(*) from messages", "messages by scan 5");
    rr_expect(g, "select max(n) as a, (select min(n) from messages where room = " R1 ") as b from messages where text < 'i'", "{\"a\":2,\"b\":1}\n");
    rr_expect(g, "select max(age) as m from people", "{\"m\":36}\n");
    rr_expect(g, "select min(n) as m from messages where n > 9", "{\"m\":null}\n");
    rr_expect(g, "select min(n) as m from messages having min(n) > 1", "");
}

static void plans_join_through_indexes(void **state)
{
    struct rows_rig *g = *state;
    expect_plan(g, "select m.n from messages m join rooms r on r.id = m.room where r.title = 'law'",
                "rooms by scan 3; messages by index messages_room =1 2");
    expect_plan(g, "select r.title from messages m join rooms r on r.id = m.room where m.n = 2",
                "messages by index messages_n =1 1; rooms by point 1");
    expect_plan(g, "select title from rooms r where exists (select 1 from messages where room = r.id)",
                "rooms by scan 3; messages by index messages_room =1 2");
    expect_plan(g, "select n from messages where room in (select id from rooms where title = 'law') order by n",
                "messages by index messages_room each 2 sorted; rooms by scan 3");
    expect_plan(g, "select title, array(select n from messages where room = r.id order by n desc limit 1) as n from rooms r",
                "rooms by scan 3; messages by index messages_room =1 2");
}

// ---- steps, seqs, overlays -----------------------------------------------------------------------------------------

static void a_result_is_as_of_its_seq_whatever_is_committed_between_its_pieces(void **state)
{
    struct rows_rig *g = *state;
    static const char *const sql[] = {
        "select text from messages where room = " R1 " order by n",
        "select text from messages order by n desc",
        "select r.title, m.text from rooms r join messages m on m.room = r.id order by m.n, r.title",
        "select title, array(select text from messages where room = r.id order by n) as all from rooms r",
        "select room, count(*) as n from messages group by room order by room",
        "select text from messages where exists (select 1 from rooms where id = room and title = 'tea') order by n",
    };
    char *before[6];
    uint64_t at = g->seq;
    for (size_t i = 0; i < 6; i++)
        before[i] = rr_select(g, sql[i]);
    for (size_t i = 0; i < 6; i++) {
        struct query *q = rr_compile(g, sql[i]);
        struct rr_pieces pieces;
        rr_pieces_open(g, &pieces, q, at);
        for (unsigned step = 0; rr_pieces_next(g, &pieces, 1); step++) {
            rr_update(g, "messages", MESSAGE(1), step % 2 == 0 ? "{\"text\":\"changed\",\"n\":99}" : "{\"text\":\"again\",\"n\":0}");
            if (step == 1 && i == 0) rr_delete(g, "messages", MESSAGE(2));
            if (step == 2) message(g, 70 + (unsigned)i, 1, 1, "new");
        }
        if (strcmp((char *)pieces.rows.p, before[i]) != 0) fail_msg("%s gave\n%s\nnot\n%s", sql[i], pieces.rows.p, before[i]);
        rr_pieces_close(&pieces);
        query_unref(q);
        char *again = rr_select_at(g, sql[i], at);
        assert_string_equal(again, before[i]);
        free(again);
    }
    for (size_t i = 0; i < 6; i++)
        free(before[i]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_list_takes_expressions_with_names),
        TEST(tables_are_joined_by_what_they_have_in_common),
        TEST(selects_within_see_the_row_around_them),
        TEST(rows_are_grouped),
        TEST(limits_and_offsets_cut_the_result),
        TEST(what_means_nothing_is_refused_with_its_place),
        TEST(what_goes_wrong_on_the_way_is_told_in_words),
        TEST(a_query_holds_and_looks_at_so_much),
        TEST(plans_use_the_index_that_says_most),
        TEST(the_least_and_the_greatest_are_found_at_an_end),
        TEST(plans_join_through_indexes),
        TEST(a_result_is_as_of_its_seq_whatever_is_committed_between_its_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
