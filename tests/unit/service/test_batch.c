#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "entry.h" // and with it the batch.h of its folder
#include "err.h"
#include "json_read.h"
#include "llm_event.h"

#define ID "01890a5d-ac96-774b-bcce-b302099a8057"

// JSON in C strings reads better with single quotes.
static struct span quoted(const char *text, char **owned)
{
    *owned = strdup(text);
    for (char *c = *owned; *c != '\0'; c++)
        if (*c == '\'') *c = '"';
    return SPAN_STR(*owned);
}

static int from_json(const char *text, struct batch_head *head, struct buf *out, struct problem *p)
{
    char *owned;
    struct span json = quoted(text, &owned);
    *p = PROBLEM_NONE;
    int err = batch_from_json(json, head, out, p);
    free(owned);
    return err;
}

// Reads a batch of one operation.
static void read_one(const char *json, struct buf *out, struct batch_reader *r, struct batch_op *op)
{
    struct batch_head head;
    struct problem p;
    buf_init(out, BATCH_BYTES_MAX);
    assert_int_equal(from_json(json, &head, out, &p), 0);
    assert_int_equal(head.ops, 1);
    batch_reader_init(r, buf_span(out));
    assert_int_equal(batch_read(r, op), 1);
}

static void assert_span(struct span s, const char *text)
{
    assert_int_equal(s.n, strlen(text));
    assert_memory_equal(s.p, text, s.n);
}

// ---- forms ---------------------------------------------------------------------------------------------------------

static void the_head_says_who_and_when(void **state)
{
    (void)state;
    struct batch_head head;
    struct problem p;
    struct uuid id;
    struct buf out;
    buf_init(&out, BATCH_BYTES_MAX);
    assert_int_equal(from_json("{'replica':'" ID "','counter':7,'base':41,'stamp':'115000000000000001','ops':[{'op':'drop','stream':'a'},{'op':'insert','table':'t'}]}", &head, &out, &p), 0);
    assert_int_equal(uuid_parse(&id, SPAN_LIT(ID)), 0);
    assert_int_equal(head.name.kind, BATCH_REPLICA);
    assert_true(uuid_equal(head.name.replica, id));
    assert_int_equal(head.name.counter, 7);
    assert_int_equal(head.base, 41);
    assert_true(head.stamp == 115000000000000001);
    assert_int_equal(head.ops, 2);
    assert_true(head.inserts);
    buf_clear(&out);
    assert_int_equal(from_json("{'key':'once','ops':[{'op':'close','stream':'a'}]}", &head, &out, &p), 0);
    assert_int_equal(head.name.kind, BATCH_KEY);
    assert_string_equal(head.name.key, "once");
    assert_false(head.inserts);
    assert_int_equal(head.base, 0);
    assert_int_equal(head.stamp, 0);
    buf_clear(&out);
    assert_int_equal(from_json("{'ops':[{'op':'close','stream':'a'}]}", &head, &out, &p), 0);
    assert_int_equal(head.name.kind, BATCH_UNNAMED);
    buf_free(&out);
}

static void values_of_every_kind_are_read(void **state)
{
    (void)state;
    struct buf out;
    struct batch_reader r;
    struct batch_op op;
    read_one("{'ops':[{'op':'insert','table':'t','id':'" ID "','values':{'n':null,'b':true,'i':-5,'r':1.5,'s':'text','o':{'z':1,'a':[1e14,2]},'a':[]}}]}", &out, &r, &op);
    assert_int_equal(op.kind, BATCH_INSERT);
    assert_int_equal(op.row.kind, ROW_INSERT);
    assert_span(op.row.table, "t");
    assert_true(op.row.has_id);
    assert_int_equal(op.row.column_count, 7);
    const struct row_column *c = op.row.columns;
    assert_span(c[0].name, "n");
    assert_int_equal(c[0].value.kind, ROW_NULL);
    assert_int_equal(c[1].value.kind, ROW_BOOL);
    assert_true(c[1].value.b);
    assert_int_equal(c[2].value.kind, ROW_INT);
    assert_int_equal(c[2].value.i, -5);
    assert_int_equal(c[3].value.kind, ROW_REAL);
    assert_true(c[3].value.d == 1.5);
    assert_int_equal(c[4].value.kind, ROW_TEXT);
    assert_span(c[4].value.s, "text");
    assert_int_equal(c[5].value.kind, ROW_JSON);
    assert_span(c[5].value.s, "{\"a\":[100000000000000.0,2],\"z\":1}");
    assert_int_equal(c[6].value.kind, ROW_JSON);
    assert_span(c[6].value.s, "[]");
    assert_int_equal(batch_read(&r, &op), 0);
    batch_reader_free(&r);
    buf_free(&out);
}

static void rows_without_id_or_values_are_read(void **state)
{
    (void)state;
    struct buf out;
    struct batch_reader r;
    struct batch_op op;
    read_one("{'ops':[{'op':'insert','table':'t'}]}", &out, &r, &op);
    assert_false(op.row.has_id);
    assert_int_equal(op.row.column_count, 0);
    batch_reader_free(&r);
    buf_free(&out);
    read_one("{'ops':[{'op':'delete','table':'t','id':'" ID "'}]}", &out, &r, &op);
    assert_int_equal(op.row.kind, ROW_DELETE);
    assert_true(op.row.has_id);
    batch_reader_free(&r);
    buf_free(&out);
}

static void streams_are_named_by_path_or_by_row(void **state)
{
    (void)state;
    struct buf out;
    struct batch_reader r;
    struct batch_op op;
    read_one("{'ops':[{'op':'append','stream':'logs/a','text':'h\u00e9','expect':0,'type':'text/plain'}]}", &out, &r, &op);
    assert_int_equal(op.kind, BATCH_APPEND);
    assert_span(op.stream.path, "logs/a");
    assert_span(op.stream.data, "h\xc3\xa9");
    assert_span(op.stream.type, "text/plain");
    assert_true(op.stream.has_expect);
    assert_int_equal(op.stream.expect, 0);
    batch_reader_free(&r);
    buf_free(&out);
    read_one("{'ops':[{'op':'append','table':'t','id':'" ID "','column':'c','base64':'AP8='}]}", &out, &r, &op);
    assert_int_equal(op.stream.path.n, 0);
    assert_span(op.stream.table, "t");
    assert_span(op.stream.column, "c");
    assert_int_equal(op.stream.data.n, 2);
    assert_memory_equal(op.stream.data.p, "\0\xff", 2);
    assert_false(op.stream.has_expect);
    batch_reader_free(&r);
    buf_free(&out);
}

static void a_stream_comes_with_all_that_it_is(void **state)
{
    (void)state;
    struct buf out;
    struct batch_reader r;
    struct batch_op op;
    read_one("{'ops':[{'op':'create','stream':'f','type':'application/json','messages':[{'b':1, 'a':[ ]},2],'closed':true,'ttl':60,"
             "'fork':{'from':'a','offset':7,'sub':2}}]}", &out, &r, &op);
    assert_int_equal(op.kind, BATCH_CREATE);
    assert_true(op.stream.messages && op.stream.close && op.stream.has_ttl && op.stream.has_fork_offset);
    assert_span(op.stream.data, "{\"a\":[],\"b\":1},\n2,\n");
    assert_span(op.stream.fork_of, "a");
    assert_true(op.stream.ttl_s == 60 && op.stream.fork_offset == 7 && op.stream.fork_sub == 2);
    batch_reader_free(&r);
    buf_free(&out);
    read_one("{'ops':[{'op':'create','stream':'f','expires':5}]}", &out, &r, &op);
    assert_true(op.stream.expires_ms == 5 && !op.stream.has_ttl);
    batch_reader_free(&r);
    buf_free(&out);
}

static void an_append_names_its_writer(void **state)
{
    (void)state;
    struct buf out;
    struct batch_reader r;
    struct batch_op op;
    read_one("{'ops':[{'op':'append','stream':'f','text':'x','close':true,'seq':'9','producer':{'id':'p','epoch':1,'seq':0}}]}", &out, &r, &op);
    assert_true(op.stream.close && !op.stream.messages && op.stream.epoch == 1 && op.stream.pseq == 0);
    assert_span(op.stream.producer, "p");
    assert_span(op.stream.seq, "9");
    batch_reader_free(&r);
    buf_free(&out);
    read_one("{'ops':[{'op':'trim','stream':'f','tail':true,'text':'all','close':true}]}", &out, &r, &op);
    assert_int_equal(op.kind, BATCH_TRIM);
    assert_true(op.stream.to_tail && op.stream.close);
    assert_span(op.stream.data, "all");
    batch_reader_free(&r);
    buf_free(&out);
}

static void the_services_own_steps_go_round(void **state)
{
    (void)state;
    struct buf out;
    struct batch_reader r;
    struct batch_op op;
    buf_init(&out, KIB);
    batch_put_op(&out, &(struct batch_op){.kind = BATCH_TOUCH, .care = {.number = 7, .access_ms = 1000}});
    batch_put_op(&out, &(struct batch_op){.kind = BATCH_EXPIRE, .care = {.number = 8}});
    batch_put_op(&out, &(struct batch_op){.kind = BATCH_SUBSCRIPTION, .subscription = SPAN_LIT("words")});
    batch_reader_init(&r, buf_span(&out));
    assert_int_equal(batch_read(&r, &op), 1);
    assert_true(op.kind == BATCH_TOUCH && op.care.number == 7 && op.care.access_ms == 1000);
    assert_int_equal(batch_read(&r, &op), 1);
    assert_true(op.kind == BATCH_EXPIRE && op.care.number == 8);
    assert_int_equal(batch_read(&r, &op), 1);
    assert_span(op.subscription, "words");
    assert_int_equal(batch_read(&r, &op), 0);
    batch_reader_free(&r);
    buf_free(&out);
}

// Canonical text outgrows what came: the values before it must stay where they are.
static void a_large_value_leaves_the_ones_before_it_whole(void **state)
{
    (void)state;
    size_t numbers = 500000;
    struct buf json, out;
    struct batch_head head;
    struct problem p = PROBLEM_NONE;
    struct batch_reader r;
    struct batch_op op;
    buf_init(&json, BATCH_BYTES_MAX);
    buf_init(&out, 4 * BATCH_BYTES_MAX);
    buf_put_str(&json, "{\"ops\":[{\"op\":\"insert\",\"table\":\"t\",\"values\":{\"first\":[\"one\",\"two\"],\"large\":[1");
    for (size_t i = 0; i < numbers; i++)
        buf_put_str(&json, ",1e9");
    buf_put_str(&json, "]}}]}");
    assert_int_equal(json.err, 0);
    assert_int_equal(batch_from_json(buf_span(&json), &head, &out, &p), 0);
    batch_reader_init(&r, buf_span(&out));
    assert_int_equal(batch_read(&r, &op), 1);
    assert_span(op.row.columns[0].value.s, "[\"one\",\"two\"]");
    assert_int_equal(op.row.columns[1].value.s.n, 3 + numbers * strlen(",1000000000.0"));
    batch_reader_free(&r);
    buf_free(&out);
    buf_free(&json);
}

// ---- refusals ------------------------------------------------------------------------------------------------------

static void what_is_malformed_is_refused_where_it_is(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        int err;
        int64_t position;
    } cases[] = {
        {"", ERR_BAD_JSON, 0},
        {"[]", ERR_BAD_BATCH, -1},
        {"{}", ERR_BAD_BATCH, -1},
        {"{'ops':[]}", ERR_BAD_BATCH, -1},
        {"{'ops':{}}", ERR_BAD_BATCH, -1},
        {"{'ops':[{'op':'drop','stream':'a'}],'other':1}", ERR_BAD_BATCH, -1},
        {"{'ops':[{'op':'drop','stream':'a'}],'counter':1}", ERR_BAD_BATCH, -1},
        {"{'ops':[{'op':'drop','stream':'a'}],'replica':'" ID "'}", ERR_BAD_BATCH, -1},
        {"{'ops':[{'op':'drop','stream':'a'}],'replica':'" ID "','counter':0}", ERR_BAD_BATCH, -1},
        {"{'ops':[{'op':'drop','stream':'a'}],'replica':'" ID "','counter':-1}", ERR_BAD_BATCH, -1},
        {"{'ops':[{'op':'drop','stream':'a'}],'replica':'" ID "','counter':1.5}", ERR_BAD_BATCH, -1},
        {"{'ops':[{'op':'drop','stream':'a'}],'replica':'x','counter':1}", ERR_BAD_BATCH, -1},
        {"{'ops':[{'op':'drop','stream':'a'}],'replica':null,'counter':1}", ERR_BAD_BATCH, -1},
        {"{'ops':[{'op':'drop','stream':'a'}],'replica':'00000000-0000-0000-0000-000000000000','counter':1}", ERR_BAD_BATCH, -1},
        {"{'ops':[{'op':'drop','stream':'a'}],'replica':'" ID "','counter':1,'key':'k'}", ERR_BAD_BATCH, -1},
        {"{'ops':[{'op':'drop','stream':'a'}],'key':''}", ERR_BAD_BATCH, -1},
        {"{'ops':[{'op':'drop','stream':'a'}],'key':1}", ERR_BAD_BATCH, -1},
        {"{'ops':[{'op':'drop','stream':'a'}],'base':-1}", ERR_BAD_BATCH, -1},
        {"{'ops':[{'op':'drop','stream':'a'}],'stamp':'12x'}", ERR_BAD_BATCH, -1},
        {"{'ops':[{'op':'drop','stream':'a'}],'stamp':''}", ERR_BAD_BATCH, -1},
        {"{'ops':[{'op':'drop','stream':'a'}],'stamp':'99999999999999999999'}", ERR_BAD_BATCH, -1},
        {"{'ops':[1]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'drop','stream':'a'},{'op':'upsert','table':'t'}]}", ERR_BAD_BATCH, 1},
        {"{'ops':[{'op':'blob','stream':'a'}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'insert'}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'insert','table':''}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'insert','table':'a234567890123456789012345678901234567890123456789012345678901234'}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'insert','table':'t','id':'x'}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'insert','table':'t','id':null}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'insert','table':'t','values':[]}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'insert','table':'t','value':{}}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'insert','table':'t','values':{'':1}}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'update','table':'t','values':{}}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'update','table':'t','id':'" ID "'}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'delete','table':'t'}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'delete','table':'t','id':'" ID "','values':{}}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'create'}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'create','stream':''}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'create','stream':1}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'create','stream':'a','type':1}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'close','stream':'a','text':'a'}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'create','stream':'a','text':'a','messages':[1]}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'create','stream':'a','messages':1}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'create','stream':'a','closed':1}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'create','stream':'a','ttl':-1}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'create','stream':'a','fork':'b'}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'create','stream':'a','fork':{'offset':1}}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'create','stream':'a','fork':{'from':'b','sub':1}}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'create','stream':'a','fork':{'from':'b','of':1}}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'append','stream':'a'}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'append','stream':'a','text':'x','seq':1}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'append','stream':'a','text':'x','producer':{'id':'p','epoch':1}}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'append','stream':'a','text':'x','producer':{'id':'','epoch':1,'seq':0}}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'trim','stream':'a'}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'trim','stream':'a','before':1,'tail':true}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'create','stream':'a','table':'t'}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'append','table':'t','id':'" ID "','text':''}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'append','stream':'a'}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'append','stream':'a','text':'a','base64':''}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'append','stream':'a','text':1}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'append','stream':'a','base64':'?'}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'append','stream':'a','text':'a','expect':-1}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'append','stream':'a','text':'a','expect':'1'}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'close','stream':'a','expect':1}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'close','stream':'a','type':'text/plain'}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'drop','stream':'a','values':{}}]}", ERR_BAD_BATCH, 0},
        {"{'ops':[{'op':'drop','stream':'a'}]", ERR_BAD_JSON, 35},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct batch_head head;
        struct problem p;
        struct buf out;
        buf_init(&out, BATCH_BYTES_MAX);
        int err = from_json(cases[i].json, &head, &out, &p);
        if (err != cases[i].err || p.position != cases[i].position)
            print_message("%s: %s at %lld\n", cases[i].json, err_wire(err), (long long)p.position);
        assert_int_equal(err, cases[i].err);
        assert_int_equal(p.err, err);
        assert_int_equal(p.position, cases[i].position);
        buf_free(&out);
    }
}

static void a_batch_past_a_limit_is_refused(void **state)
{
    (void)state;
    struct batch_head head;
    struct problem p = PROBLEM_NONE;
    struct buf json, out;
    buf_init(&json, 2 * BATCH_BYTES_MAX);
    buf_init(&out, 2 * BATCH_BYTES_MAX);
    buf_put_str(&json, "{\"ops\":[");
    for (int i = 0; i <= BATCH_OPS_MAX; i++)
        buf_printf(&json, "%s{\"op\":\"drop\",\"stream\":\"a\"}", i == 0 ? "" : ",");
    buf_put_str(&json, "]}");
    assert_int_equal(batch_from_json(buf_span(&json), &head, &out, &p), ERR_TOO_LARGE);
    while (json.n <= BATCH_BYTES_MAX)
        buf_put_str(&json, "                                ");
    p = PROBLEM_NONE;
    assert_int_equal(batch_from_json(buf_span(&json), &head, &out, &p), ERR_TOO_LARGE);
    buf_clear(&json);
    buf_put_str(&json, "{\"ops\":[{\"op\":\"insert\",\"table\":\"t\",\"values\":{");
    for (int i = 0; i <= COLUMNS_MAX; i++)
        buf_printf(&json, "%s\"c%d\":1", i == 0 ? "" : ",", i);
    buf_put_str(&json, "}}]}");
    p = PROBLEM_NONE;
    assert_int_equal(batch_from_json(buf_span(&json), &head, &out, &p), ERR_BAD_BATCH);
    assert_int_equal(p.position, 0);
    // What comes out may be less than it takes.
    struct buf little;
    buf_init(&little, 8);
    p = PROBLEM_NONE;
    assert_int_equal(from_json("{'ops':[{'op':'drop','stream':'abcdefghijkl'}]}", &head, &little, &p), ERR_TOO_LARGE);
    assert_int_equal(p.position, 0);
    buf_free(&little);
    buf_free(&json);
    buf_free(&out);
}

// ---- the codec -----------------------------------------------------------------------------------------------------

static const char everything[] =
    "{'ops':["
    "{'op':'insert','table':'t','values':{'n':null,'b':false,'i':9007199254740993,'r':-0.25,'s':'text','o':{'a':[1,2]}}},"
    "{'op':'update','table':'t','id':'" ID "','values':{'s':''}},"
    "{'op':'delete','table':'t','id':'" ID "'},"
    "{'op':'create','stream':'a','type':'text/plain'},"
    "{'op':'append','stream':'a','text':'tokens','expect':12},"
    "{'op':'append','table':'t','id':'" ID "','column':'c','base64':'AAEC'},"
    "{'op':'close','table':'t','id':'" ID "','column':'c'},"
    "{'op':'drop','stream':'a'}]}";

static void encode_everything(struct buf *out)
{
    struct batch_head head;
    struct problem p;
    assert_int_equal(from_json(everything, &head, out, &p), 0);
    struct batch_op blob = {.kind = BATCH_BLOB, .blob = {.type = SPAN_LIT("image/png"), .manifest = SPAN_LIT("manifest")}};
    memset(blob.blob.digest.b, 7, SHA256_BYTES);
    batch_put_op(out, &blob);
    batch_put_op(out, &(struct batch_op){.kind = BATCH_SCHEMA, .schema = SPAN_LIT("create table t (a text)")});
    struct batch_op begin = {.kind = BATCH_JOB, .job = {.make = true, .state = JOB_CONNECTING, .api = LLM_CHAT, .form = LLM_FORM_TEXT, .provider = SPAN_LIT("local"), .table = SPAN_LIT("t"), .column = SPAN_LIT("c"), .status_column = SPAN_LIT("s")}};
    memset(begin.job.request.b, 9, SHA256_BYTES);
    batch_put_op(out, &begin);
    batch_put_op(out, &(struct batch_op){.kind = BATCH_JOB, .job = {.state = JOB_STREAMING}});
    batch_put_op(out, &(struct batch_op){.kind = BATCH_JOB, .job = {.state = JOB_FAILED, .err = ERR_UNREACHABLE, .text = SPAN_LIT("gone"), .usage = SPAN_LIT("{}"), .finish = SPAN_LIT("error")}});
    assert_int_equal(out->err, 0);
}

// Reads all there is and writes it anew.
static int again(struct span request, struct buf *out)
{
    struct batch_reader r;
    struct batch_op op;
    int got;
    batch_reader_init(&r, request);
    while ((got = batch_read(&r, &op)) > 0)
        batch_put_op(out, &op);
    batch_reader_free(&r);
    return got;
}

static void every_operation_goes_round(void **state)
{
    (void)state;
    struct buf first, second;
    buf_init(&first, BATCH_BYTES_MAX);
    buf_init(&second, BATCH_BYTES_MAX);
    encode_everything(&first);
    assert_int_equal(again(buf_span(&first), &second), 0);
    assert_int_equal(first.n, second.n);
    assert_memory_equal(first.p, second.p, first.n);
    buf_free(&first);
    buf_free(&second);
}

static void cut_and_changed_bytes_are_read_or_refused(void **state)
{
    (void)state;
    struct buf first, second, third;
    uint64_t x = 88172645463325252u;
    size_t refused = 0;
    buf_init(&first, BATCH_BYTES_MAX);
    buf_init(&second, BATCH_BYTES_MAX);
    buf_init(&third, BATCH_BYTES_MAX);
    encode_everything(&first);
    for (size_t n = 0; n < first.n; n++) {
        uint8_t *exact = malloc(n + 1); // a sanitizer sees a byte too far
        memcpy(exact, first.p, n);
        buf_clear(&second);
        refused += again(SPAN(exact, n), &second) != 0;
        free(exact);
    }
    assert_true(refused > first.n / 2);
    for (int i = 0; i < 20000; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        uint8_t was = first.p[x % first.n];
        first.p[x % first.n] = (uint8_t)(x >> 40);
        buf_clear(&second);
        buf_clear(&third);
        int err = again(buf_span(&first), &second);
        assert_true(err == 0 || err == ERR_CORRUPT);
        // What was read is what is written: it reads the same again.
        assert_int_equal(again(buf_span(&second), &third), 0);
        assert_true(span_equal(buf_span(&second), buf_span(&third)));
        first.p[x % first.n] = was;
    }
    buf_free(&first);
    buf_free(&second);
    buf_free(&third);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_head_says_who_and_when),
        cmocka_unit_test(values_of_every_kind_are_read),
        cmocka_unit_test(rows_without_id_or_values_are_read),
        cmocka_unit_test(streams_are_named_by_path_or_by_row),
        cmocka_unit_test(a_stream_comes_with_all_that_it_is),
        cmocka_unit_test(an_append_names_its_writer),
        cmocka_unit_test(the_services_own_steps_go_round),
        cmocka_unit_test(a_large_value_leaves_the_ones_before_it_whole),
        cmocka_unit_test(what_is_malformed_is_refused_where_it_is),
        cmocka_unit_test(a_batch_past_a_limit_is_refused),
        cmocka_unit_test(every_operation_goes_round),
        cmocka_unit_test(cut_and_changed_bytes_are_read_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
