#include "json_read.h"

#include <assert.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "err.h"
#include "json_write.h"
#include "limits.h"
#include "utf8.h"

// A tree keeps a copy of the text, in which strings become what they mean where they stand: that is never longer. A node is its value and, as a member
// of an object, its key; the elements or members of one node stand one after the other, in a block of their own.
struct jr {
    uint8_t type; // enum jr_type
    bool yes;
    uint32_t key_n, n; // bytes of a string, elements, members
    const char *key;
    union {
        int64_t i;
        double d;
        const char *s;
        const struct jr *children;
    };
};

struct block {
    struct block *next;
    struct jr nodes[];
};

struct jr_tree {
    struct jr root;
    struct block *blocks;
    char text[];
};

#define BLOCK_NODES 64  // at least: small objects share one
#define SEARCH_MEMBERS 16 // up to so many keys are compared each with each

// ---- before parsing ----------------------------------------------------------------------------------------------

// What has to be known before the recursive parser sees the text: that it is not nested too deep, and has no control characters but
// white space. Brackets in strings do not count; whether they match is the parser's question.
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

// ---- parsing -----------------------------------------------------------------------------------------------------

struct parser {
    struct jr_tree *tree;
    char *at, *end; // of the tree's text; *end is 0
    struct jr *open; // elements and members of what is not yet closed
    size_t open_n, open_cap;
    size_t room; // nodes left in the first block
    struct problem *p;
};

// `at` is the byte that could not be taken, or the end.
static int bad(struct parser *s, const char *at, const char *what)
{
    size_t position = (size_t)(at - s->tree->text);
    return problem_set(s->p, ERR_BAD_JSON, (int64_t)position, "%s at byte %zu", at == s->end ? "the text ends" : what, position);
}

static int no_memory(struct parser *s)
{
    return problem_set(s->p, ERR_NOMEM, -1, "%s", err_text(ERR_NOMEM));
}

static void skip_space(struct parser *s)
{
    while (*s->at == ' ' || *s->at == '\n' || *s->at == '\r' || *s->at == '\t')
        s->at++;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int hex_digit(char c)
{
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

// Four digits; -1 where they are not.
static int32_t hex4(const struct parser *s, const char *at)
{
    int32_t v = 0;
    for (int i = 0; i < 4; i++) {
        int digit = at + i < s->end ? hex_digit(at[i]) : -1;
        if (digit < 0) return -1;
        v = v << 4 | digit;
    }
    return v;
}

static char *put_utf8(char *to, uint32_t c)
{
    if (c < 0x80) {
        *to++ = (char)c;
        return to;
    }
    int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const uint8_t lead[] = {0, 0xc0, 0xe0, 0xf0};
    *to++ = (char)(lead[more] | c >> 6 * more);
    while (more-- > 0)
        *to++ = (char)(0x80 | (c >> 6 * more & 0x3f));
    return to;
}

// Behind `\u`. A character beyond 16 bits is two of them.
static int take_unicode(struct parser *s, char **to)
{
    int32_t c = hex4(s, s->at);
    if (c < 0) return bad(s, s->at, "an escape that is none stands");
    if (c == 0) return bad(s, s->at, "a NUL stands");
    s->at += 4;
    if (c >= 0xd800 && c <= 0xdfff) {
        int32_t low = c < 0xdc00 && s->at[0] == '\\' && s->at[1] == 'u' ? hex4(s, s->at + 2) : -1;
        if (low < 0xdc00 || low > 0xdfff) return bad(s, s->at, "half a character stands");
        s->at += 6;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    *to = put_utf8(*to, (uint32_t)c);
    return 0;
}

static int take_escape(struct parser *s, char **to)
{
    static const char names[] = "\"\\/bfnrt", means[] = "\"\\/\b\f\n\r\t";
    char c = *s->at;
    const char *at = c != '\0' ? strchr(names, c) : NULL;
    if (c == 'u') {
        s->at++;
        return take_unicode(s, to);
    }
    if (at == NULL) return bad(s, s->at, "an escape that is none stands");
    s->at++;
    *(*to)++ = means[at - names];
    return 0;
}

// At the opening quote. The text is UTF-8, and a line's end or a tab does not stand in a string as it is.
static int take_string(struct parser *s, const char **out, uint32_t *n)
{
    char *from = ++s->at, *to = from;
    int err = 0;
    while (*s->at != '"' && *s->at != '\\' && (uint8_t)*s->at >= 0x20)
        s->at++;
    to = s->at;
    while (err == 0 && *s->at != '"') {
        if (*s->at == '\\') {
            s->at++;
            err = take_escape(s, &to);
        } else if ((uint8_t)*s->at < 0x20) {
            err = bad(s, s->at, "a control character stands");
        } else {
            *to++ = *s->at++;
        }
    }
    if (err != 0) return err;
    *out = from;
    *n = (uint32_t)(to - from);
    return 0;
}

static char *skip_digits(char *at)
{
    while (is_digit(*at))
        at++;
    return at;
}

// Where a number ends; NULL: it is none, and s->at is where that shows.
static char *number_end(struct parser *s, bool *whole)
{
    char *at = s->at + (*s->at == '-');
    s->at = at;
    if (!is_digit(*at)) return NULL;
    at = *at == '0' ? at + 1 : skip_digits(at);
    *whole = *at != '.' && *at != 'e' && *at != 'E';
    if (*at == '.') {
        s->at = at + 1;
        if (!is_digit(*s->at)) return NULL;
        at = skip_digits(s->at);
    }
    if (*at == 'e' || *at == 'E') {
        s->at = at + 1;
        if (*s->at == '+' || *s->at == '-') s->at++;
        if (!is_digit(*s->at)) return NULL;
        at = skip_digits(s->at);
    }
    return at;
}

// Digits, which may be too many for 64 bits.
static bool whole_number(const char *at, const char *end, int64_t *out)
{
    bool minus = *at == '-';
    uint64_t v = 0;
    for (at += minus; at < end; at++)
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(*at - '0'), &v)) return false;
    if (v > (uint64_t)INT64_MAX + minus) return false;
    *out = minus ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

// A library's process may have any locale, in which a number has perhaps a decimal comma.
static locale_t plain_locale;

static void make_locale(void)
{
    plain_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

static bool real_number(const char *at, double *out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_locale);
    if (plain_locale == (locale_t)0) return false;
    *out = strtod_l(at, NULL, plain_locale);
    return true;
}

static int take_number(struct parser *s, struct jr *n)
{
    char *from = s->at, *end;
    bool whole = true;
    end = number_end(s, &whole);
    if (end == NULL) return bad(s, s->at, "a number that is none stands");
    s->at = end;
    n->type = whole ? JR_INT : JR_REAL;
    if (whole) return whole_number(from, end, &n->i) ? 0 : bad(s, end - 1, "a number of more than 64 bits stands");
    if (!real_number(from, &n->d)) return no_memory(s);
    return isinf(n->d) ? bad(s, end - 1, "a number that is too large stands") : 0;
}

static int take_word(struct parser *s, struct jr *n)
{
    static const struct {
        const char *text;
        enum jr_type type;
        bool yes;
    } words[] = {{"null", JR_NULL, false}, {"true", JR_BOOL, true}, {"false", JR_BOOL, false}};
    char *from = s->at;
    while (*s->at >= 'a' && *s->at <= 'z')
        s->at++;
    size_t length = (size_t)(s->at - from);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strlen(words[i].text) != length || memcmp(words[i].text, from, length) != 0) continue;
        n->type = (uint8_t)words[i].type;
        n->yes = words[i].yes;
        return 0;
    }
    return bad(s, length > 0 ? s->at - 1 : s->at, "what is no value stands");
}

// ---- elements and members ----

static int push(struct parser *s, const struct jr *n)
{
    if (s->open_n == s->open_cap) {
        size_t cap = s->open_cap == 0 ? 64 : s->open_cap * 2;
        struct jr *open = realloc(s->open, cap * sizeof *open);
        if (open == NULL) return no_memory(s);
        s->open = open;
        s->open_cap = cap;
    }
    s->open[s->open_n++] = *n;
    return 0;
}

// Moves those above `from` to a place that stays.
static int close_nodes(struct parser *s, size_t from, struct jr *n)
{
    size_t count = s->open_n - from;
    if (count > s->room) {
        size_t nodes = count > BLOCK_NODES ? count : BLOCK_NODES;
        struct block *b = malloc(sizeof *b + nodes * sizeof *b->nodes);
        if (b == NULL) return no_memory(s);
        b->next = s->tree->blocks;
        s->tree->blocks = b;
        s->room = nodes;
    }
    n->n = (uint32_t)count;
    n->children = NULL;
    if (count == 0) return 0;
    struct jr *to = s->tree->blocks->nodes + (s->room - count); // from the block's end on
    memcpy(to, s->open + from, count * sizeof *to);
    s->room -= count;
    s->open_n = from;
    n->children = to;
    return 0;
}

static bool same_key(const struct jr *a, const struct jr *b)
{
    return a->key_n == b->key_n && memcmp(a->key, b->key, a->key_n) == 0;
}

static int take_value(struct parser *s, struct jr *n);

static int take_array(struct parser *s, struct jr *n)
{
    size_t from = s->open_n;
    n->type = JR_ARRAY;
    s->at++;
    skip_space(s);
    for (bool more = *s->at != ']'; more;) {
        struct jr element = {0};
        int err = take_value(s, &element);
        if (err == 0) err = push(s, &element);
        if (err != 0) return err;
        skip_space(s);
        more = *s->at == ',';
        if (!more && *s->at != ']') return bad(s, s->at, "neither a comma nor the array's end stands");
        if (more) s->at++;
    }
    s->at++;
    return close_nodes(s, from, n);
}

static int take_key(struct parser *s, size_t from, struct jr *member)
{
    skip_space(s);
    if (*s->at != '"') return bad(s, s->at, "no member's name stands");
    int err = take_string(s, &member->key, &member->key_n);
    if (err != 0) return err;
    size_t others = s->open_n - from;
    for (size_t i = 0; others < SEARCH_MEMBERS && i < others; i++)
        if (same_key(&s->open[from + i], member)) return bad(s, s->at, "a second member of this name stands");
    s->at++;
    skip_space(s);
    if (*s->at != ':') return bad(s, s->at, "no colon stands");
    s->at++;
    return 0;
}

static int compare_keys(const void *a, const void *b)
{
    const struct jr *x = *(const struct jr *const *)a, *y = *(const struct jr *const *)b;
    return span_compare(SPAN(x->key, x->key_n), SPAN(y->key, y->key_n));
}

// Of many members, once they are all there: the place is the object's end.
static int check_names(struct parser *s, const struct jr *n)
{
    if (n->n <= SEARCH_MEMBERS) return 0;
    const struct jr **sorted = malloc(n->n * sizeof(const struct jr *));
    int err = 0;
    if (sorted == NULL) return no_memory(s);
    for (size_t i = 0; i < n->n; i++)
        sorted[i] = &n->children[i];
    qsort(sorted, n->n, sizeof *sorted, compare_keys);
    for (size_t i = 1; i < n->n && err == 0; i++)
        if (same_key(sorted[i - 1], sorted[i])) err = bad(s, s->at - 1, "an object with two members of one name ends");
    free(sorted);
    return err;
}

static int take_object(struct parser *s, struct jr *n)
{
    size_t from = s->open_n;
    n->type = JR_OBJECT;
    s->at++;
    skip_space(s);
    for (bool more = *s->at != '}'; more;) {
        struct jr member = {0};
        int err = take_key(s, from, &member);
        if (err == 0) err = take_value(s, &member);
        if (err == 0) err = push(s, &member);
        if (err != 0) return err;
        skip_space(s);
        more = *s->at == ',';
        if (!more && *s->at != '}') return bad(s, s->at, "neither a comma nor the object's end stands");
        if (more) s->at++;
    }
    s->at++;
    int err = close_nodes(s, from, n);
    return err != 0 ? err : check_names(s, n);
}

// Recursion is bounded by check_shape. The key of a member is there already.
static int take_value(struct parser *s, struct jr *n)
{
    int err;
    skip_space(s);
    switch (*s->at) {
    case '{': return take_object(s, n);
    case '[': return take_array(s, n);
    case '"':
        n->type = JR_STRING;
        err = take_string(s, &n->s, &n->n);
        if (err == 0) s->at++;
        return err;
    case '-':
    case '0' ... '9': return take_number(s, n);
    default: return take_word(s, n);
    }
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
    if (text.n >= UINT32_MAX) return problem_set(p, ERR_TOO_LARGE, -1, "%s", err_text(ERR_TOO_LARGE));

    struct jr_tree *tree = malloc(sizeof *tree + text.n + 1);
    if (tree == NULL) return problem_set(p, ERR_NOMEM, -1, "%s", err_text(ERR_NOMEM));
    struct parser s = {.tree = tree, .at = tree->text, .end = tree->text + text.n, .p = p};
    *tree = (struct jr_tree){.blocks = NULL};
    if (text.n > 0) memcpy(tree->text, text.p, text.n);
    *s.end = '\0';
    err = take_value(&s, &tree->root);
    skip_space(&s);
    if (err == 0 && s.at != s.end) err = bad(&s, s.at, "something behind the value stands");
    free(s.open);
    if (err != 0) jr_free(tree);
    else *out = tree;
    return err;
}

void jr_free(struct jr_tree *t)
{
    if (t == NULL) return;
    for (struct block *b = t->blocks, *next; b != NULL; b = next) {
        next = b->next;
        free(b);
    }
    free(t);
}

const struct jr *jr_root(const struct jr_tree *t)
{
    return t != NULL ? &t->root : NULL;
}

// ---- reading ---------------------------------------------------------------------------------------------------

enum jr_type jr_type(const struct jr *n)
{
    return n != NULL ? (enum jr_type)n->type : JR_ABSENT;
}

bool jr_bool(const struct jr *n, bool otherwise)
{
    return jr_type(n) == JR_BOOL ? n->yes : otherwise;
}

int64_t jr_int(const struct jr *n, int64_t otherwise)
{
    enum jr_type type = jr_type(n);
    if (type == JR_INT) return n->i;
    if (type != JR_REAL) return otherwise;
    // The bounds are powers of two, so both are exact as doubles.
    bool fits = n->d >= -0x1p63 && n->d < 0x1p63 && n->d == trunc(n->d);
    return fits ? (int64_t)n->d : otherwise;
}

double jr_real(const struct jr *n, double otherwise)
{
    enum jr_type type = jr_type(n);
    return type == JR_REAL ? n->d : type == JR_INT ? (double)n->i : otherwise;
}

struct span jr_str(const struct jr *n)
{
    return jr_type(n) == JR_STRING ? SPAN(n->s, n->n) : SPAN_NONE;
}

size_t jr_count(const struct jr *n)
{
    enum jr_type type = jr_type(n);
    return type == JR_ARRAY || type == JR_OBJECT ? n->n : 0;
}

const struct jr *jr_at(const struct jr *array, size_t i)
{
    return jr_type(array) == JR_ARRAY && i < array->n ? &array->children[i] : NULL;
}

const struct jr *jr_get(const struct jr *object, const char *key)
{
    size_t length = strlen(key);
    if (jr_type(object) != JR_OBJECT) return NULL;
    for (size_t i = 0; i < object->n; i++) {
        const struct jr *member = &object->children[i];
        if (member->key_n == length && memcmp(member->key, key, length) == 0) return member;
    }
    return NULL;
}

int jr_each(const struct jr *object, int (*fn)(void *ctx, struct span key, const struct jr *value), void *ctx)
{
    if (jr_type(object) != JR_OBJECT) return 0;
    for (size_t i = 0; i < object->n; i++) {
        const struct jr *member = &object->children[i];
        int r = fn(ctx, SPAN(member->key, member->key_n), member);
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
