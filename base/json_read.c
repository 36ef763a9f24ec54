#include "json_read.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdalign.h>
#include <stddef.h>
#include <stdlib.h>

#include <jansson.h>

#include "err.h"
#include "json_write.h"
#include "limits.h"
#include "utf8.h"

// A tree's nodes are the library's own values under a name of ours; nothing is wrapped, nothing copied.
static const json_t *value_of(const struct jr *n)
{
    return (const json_t *)n;
}

static const struct jr *node_of(const json_t *v)
{
    return (const struct jr *)v;
}

// ---- memory ----------------------------------------------------------------------------------------------------

// The library takes memory for each value, each key and each object's table, and gives it back one by one: for a batch of a thousand
// rows that was half of the service's time. So what a thread parses lies in blocks that go with the tree, and nothing is given back before.
#define BLOCK_MIN 512
#define BLOCK_MAX ((size_t)256 * KIB)

struct block {
    struct block *next;
    size_t used, size;
    alignas(max_align_t) uint8_t bytes[];
};

struct jr_tree {
    struct block *blocks; // the one in use first
    json_t *root;
};

static _Thread_local struct jr_tree *parsing; // whose blocks the library's memory comes from; NULL: its own, or that of the program that we are part of
static json_malloc_t others_malloc;
static json_free_t others_free;

static bool block_add(struct jr_tree *t, size_t size)
{
    struct block *b = malloc(sizeof *b + size);
    if (b == NULL) return false;
    *b = (struct block){.next = t->blocks, .size = size};
    t->blocks = b;
    return true;
}

static void *tree_malloc(size_t n)
{
    struct jr_tree *t = parsing;
    if (t == NULL) return others_malloc(n);
    if (n > SIZE_MAX / 2) return NULL;
    n = (n + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    if (n > t->blocks->size - t->blocks->used) {
        size_t twice = t->blocks->size * 2 < BLOCK_MAX ? t->blocks->size * 2 : BLOCK_MAX;
        if (!block_add(t, n > twice ? n : twice)) return NULL;
    }
    void *p = t->blocks->bytes + t->blocks->used;
    t->blocks->used += n;
    return p;
}

static void tree_free(void *p)
{
    if (parsing == NULL) others_free(p);
}

static void set_up(void)
{
    json_get_alloc_funcs(&others_malloc, &others_free);
    json_set_alloc_funcs(tree_malloc, tree_free);
}

static struct jr_tree *tree_new(size_t text_bytes)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, set_up);
    struct jr_tree *t = calloc(1, sizeof *t);
    size_t guess = text_bytes < BLOCK_MAX / 4 ? text_bytes * 4 : BLOCK_MAX;
    if (t != NULL && block_add(t, guess > BLOCK_MIN ? guess : BLOCK_MIN)) return t;
    free(t);
    return NULL;
}

void jr_free(struct jr_tree *t)
{
    while (t != NULL && t->blocks != NULL) {
        struct block *next = t->blocks->next;
        free(t->blocks);
        t->blocks = next;
    }
    free(t);
}

// ---- parsing ---------------------------------------------------------------------------------------------------

// What has to be known before the library's recursive parser sees the text: that it is not nested too deep, and has no
// control characters but white space (the library loses a NUL between two tokens). Brackets in strings do not
// count; whether they match is the parser's question.
static int check_shape(struct span text, size_t depth_max, struct problem *p)
{
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.n; i++) {
        uint8_t c = text.p[i];
        if (c < 0x20 && c != '\t' && c != '\n' && c != '\r')
            return problem_set(p, ERR_BAD_JSON, (int64_t)i, "a control character stands at byte %zu", i);
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > depth_max)
                return problem_set(p, ERR_TOO_DEEP, (int64_t)i, "the JSON is nested deeper than %zu levels", depth_max);
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        }
    }
    return 0;
}

static int parse_error(const json_error_t *e, size_t n, struct problem *p)
{
    if (json_error_code(e) == json_error_out_of_memory) return problem_set(p, ERR_NOMEM, -1, "%s", err_text(ERR_NOMEM));
    // The library counts what it has read, so the byte that it stumbled over is the one before, but at the end.
    int64_t read = e->position;
    bool at_end = json_error_code(e) == json_error_premature_end_of_input || read > (int64_t)n;
    int64_t position = at_end ? (int64_t)n : read > 0 ? read - 1 : 0;
    return problem_set(p, ERR_BAD_JSON, position, "%s at byte %lld", e->text, (long long)position);
}

int jr_parse(struct jr_tree **out, struct span text, struct problem *p)
{
    return jr_parse_deep(out, text, JSON_DEPTH_MAX, p);
}

int jr_parse_deep(struct jr_tree **out, struct span text, size_t depth_max, struct problem *p)
{
    size_t valid = utf8_valid_prefix(text);
    if (valid < text.n) return problem_set(p, ERR_BAD_JSON, (int64_t)valid, "invalid UTF-8 at byte %zu", valid);
    int err = check_shape(text, depth_max, p);
    if (err != 0) return err;

    json_error_t e;
    const char *bytes = text.n > 0 ? (const char *)text.p : "";
    struct jr_tree *t = tree_new(text.n);
    if (t == NULL) return problem_set(p, ERR_NOMEM, -1, "%s", err_text(ERR_NOMEM));
    parsing = t;
    t->root = json_loadb(bytes, text.n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
    parsing = NULL;
    if (t->root == NULL) {
        jr_free(t);
        return parse_error(&e, text.n, p);
    }
    *out = t;
    return 0;
}

const struct jr *jr_root(const struct jr_tree *t)
{
    return t != NULL ? node_of(t->root) : NULL;
}

// ---- reading ---------------------------------------------------------------------------------------------------

enum jr_type jr_type(const struct jr *n)
{
    if (n == NULL) return JR_ABSENT;
    switch (json_typeof(value_of(n))) {
    case JSON_NULL: return JR_NULL;
    case JSON_TRUE:
    case JSON_FALSE: return JR_BOOL;
    case JSON_INTEGER: return JR_INT;
    case JSON_REAL: return JR_REAL;
    case JSON_STRING: return JR_STRING;
    case JSON_ARRAY: return JR_ARRAY;
    case JSON_OBJECT: return JR_OBJECT;
    }
    abort(); // the library knows no more types
}

bool jr_bool(const struct jr *n, bool otherwise)
{
    return jr_type(n) == JR_BOOL ? json_is_true(value_of(n)) : otherwise;
}

int64_t jr_int(const struct jr *n, int64_t otherwise)
{
    enum jr_type type = jr_type(n);
    if (type == JR_INT) return json_integer_value(value_of(n));
    if (type != JR_REAL) return otherwise;
    double v = json_real_value(value_of(n));
    // The bounds are powers of two, so both are exact as doubles.
    bool fits = v >= -0x1p63 && v < 0x1p63 && v == trunc(v);
    return fits ? (int64_t)v : otherwise;
}

double jr_real(const struct jr *n, double otherwise)
{
    return json_is_number(value_of(n)) ? json_number_value(value_of(n)) : otherwise;
}

struct span jr_str(const struct jr *n)
{
    if (jr_type(n) != JR_STRING) return SPAN_NONE;
    return SPAN(json_string_value(value_of(n)), json_string_length(value_of(n)));
}

size_t jr_count(const struct jr *n)
{
    switch (jr_type(n)) {
    case JR_ARRAY: return json_array_size(value_of(n));
    case JR_OBJECT: return json_object_size(value_of(n));
    default: return 0;
    }
}

const struct jr *jr_at(const struct jr *array, size_t i)
{
    return node_of(json_array_get(value_of(array), i));
}

const struct jr *jr_get(const struct jr *object, const char *key)
{
    return node_of(json_object_get(value_of(object), key));
}

int jr_each(const struct jr *object, int (*fn)(void *ctx, struct span key, const struct jr *value), void *ctx)
{
    if (jr_type(object) != JR_OBJECT) return 0;
    json_t *o = (json_t *)value_of(object); // iterating takes no const, and changes nothing
    for (void *it = json_object_iter(o); it != NULL; it = json_object_iter_next(o, it)) {
        int r = fn(ctx, SPAN_STR(json_object_iter_key(it)), node_of(json_object_iter_value(it)));
        if (r != 0) return r;
    }
    return 0;
}

// ---- canonical text --------------------------------------------------------------------------------------------

struct member {
    struct span key;
    const struct jr *value;
};

static int compare_members(const void *a, const void *b)
{
    return span_compare(((const struct member *)a)->key, ((const struct member *)b)->key);
}

static int collect_member(void *ctx, struct span key, const struct jr *value)
{
    struct member **next = ctx;
    *(*next)++ = (struct member){key, value};
    return 0;
}

static int write_value(struct jw *w, const struct jr *n);

static int write_object(struct jw *w, const struct jr *n)
{
    size_t count = jr_count(n);
    struct member *members = malloc((count + 1) * sizeof *members);
    if (members == NULL) return ERR_NOMEM;
    struct member *next = members;
    jr_each(n, collect_member, &next);
    assert(next == members + count);
    qsort(members, count, sizeof *members, compare_members);

    int err = 0;
    jw_object(w);
    for (size_t i = 0; i < count && err == 0; i++) {
        jw_key_span(w, members[i].key);
        err = write_value(w, members[i].value);
    }
    if (err == 0) jw_end(w);
    free(members);
    return err;
}

static int write_array(struct jw *w, const struct jr *n)
{
    jw_array(w);
    for (size_t i = 0; i < jr_count(n); i++) {
        int err = write_value(w, jr_at(n, i));
        if (err != 0) return err;
    }
    jw_end(w);
    return 0;
}

// Recursion is bounded by what parsing let in: JSON_DEPTH_MAX.
static int write_value(struct jw *w, const struct jr *n)
{
    switch (jr_type(n)) {
    case JR_ABSENT:
    case JR_NULL: jw_null(w); break;
    case JR_BOOL: jw_bool(w, jr_bool(n, false)); break;
    case JR_INT: jw_int(w, jr_int(n, 0)); break;
    case JR_REAL: jw_double(w, jr_real(n, 0)); break;
    case JR_STRING: jw_str(w, jr_str(n)); break;
    case JR_ARRAY: return write_array(w, n);
    case JR_OBJECT: return write_object(w, n);
    }
    return w->out->err;
}

int jr_canonical(const struct jr *n, struct buf *out)
{
    struct jw w;
    jw_init(&w, out);
    size_t before = out->n;
    int err = write_value(&w, n);
    if (err == 0) err = out->err;
    if (err != 0) buf_truncate(out, before);
    return err;
}

// ---- in the order of the text ----------------------------------------------------------------------------------

static int put_member(void *ctx, struct span key, const struct jr *value)
{
    jw_key_span(ctx, key);
    jr_write(value, ctx);
    return 0;
}

void jr_write(const struct jr *n, struct jw *w)
{
    switch (jr_type(n)) {
    case JR_ABSENT:
    case JR_NULL: jw_null(w); break;
    case JR_BOOL: jw_bool(w, jr_bool(n, false)); break;
    case JR_INT: jw_int(w, jr_int(n, 0)); break;
    case JR_REAL: jw_double(w, jr_real(n, 0)); break;
    case JR_STRING: jw_str(w, jr_str(n)); break;
    case JR_ARRAY:
        jw_array(w);
        for (size_t i = 0; i < jr_count(n); i++)
            jr_write(jr_at(n, i), w);
        jw_end(w);
        break;
    case JR_OBJECT:
        jw_object(w);
        jr_each(n, put_member, w);
        jw_end(w);
        break;
    }
}
