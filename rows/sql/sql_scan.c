// The lexical rules are those of PostgreSQL's scan.l. Where this scanner would lose step with it (escape strings, whose
// quoting depends on what stood before), the text is refused. Where the two count tokens differently, this one counts more.
#include "sql_scan.h"

#include <assert.h>
#include <strings.h>

#include "err.h"
#include "limits.h"

#define COMMENT_DEPTH_MAX 8 // the parser's time is quadratic in it
#define OPERATOR_MAX 16     // and in the length of an operator, before it finds it too long
#define TABLE_WORDS 3       // create table name
#define TYPE_WORDS 5        // create type name as enum

struct scan {
    struct span text;
    size_t at;
    size_t operator_run; // operator characters in a row
    // Of the current statement:
    size_t tokens;     // so far
    size_t depth;      // of ( and [
    size_t run;        // tokens that could all hang below each other in the tree
    size_t words;      // what stands in front of its elements: create table name, create type name as enum; 0: it is neither
    bool in_elements;  // between the parentheses that came next
    struct problem *p;
};

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool begins_name(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c >= 0x80;
}

static bool is_operator(uint8_t c)
{
    return c != 0 && strchr("~!@#^&|`?+-*/%<>=", c) != NULL;
}

// The byte at `i`, 0 past the end: the text has no NUL of its own.
static uint8_t byte_at(struct span text, size_t i)
{
    return i < text.n ? text.p[i] : 0;
}

static bool begins(struct span text, size_t at, char a, char b)
{
    return byte_at(text, at) == (uint8_t)a && byte_at(text, at + 1) == (uint8_t)b;
}

// ---- space and comments ----------------------------------------------------------------------------------------

static size_t skip_line(struct span text, size_t at)
{
    while (at < text.n && text.p[at] != '\n' && text.p[at] != '\r')
        at++;
    return at;
}

// Past a block comment; *deepest is how far comments nest in it.
static size_t skip_block(struct span text, size_t at, size_t *deepest)
{
    size_t depth = 0;
    *deepest = 0;
    do {
        if (begins(text, at, '/', '*')) {
            if (++depth > *deepest) *deepest = depth;
            at += 2;
        } else if (begins(text, at, '*', '/')) {
            depth--;
            at += 2;
        } else {
            at++;
        }
    } while (depth > 0 && at < text.n);
    return at < text.n ? at : text.n;
}

size_t sql_skip_space(struct span text, size_t at)
{
    size_t deepest;
    for (;;) {
        if (is_space(byte_at(text, at)))
            at++;
        else if (begins(text, at, '-', '-'))
            at = skip_line(text, at);
        else if (begins(text, at, '/', '*'))
            at = skip_block(text, at, &deepest);
        else
            return at;
    }
}

// ---- tokens ----------------------------------------------------------------------------------------------------

// Follows the parts of a statement: only where elements certainly stand side by side in a list does a new run begin.
static int count_token(struct scan *s, uint8_t c, size_t from)
{
    s->tokens++;
    if (++s->run > SQL_RUN_MAX)
        return problem_set(s->p, ERR_UNSUPPORTED_SQL, (int64_t)from, "more than %d words and signs in one piece of SQL", SQL_RUN_MAX);
    if (c == '(' || c == '[') {
        if (++s->depth > SQL_DEPTH_MAX)
            return problem_set(s->p, ERR_TOO_DEEP, (int64_t)from, "nested deeper than %d levels", SQL_DEPTH_MAX);
        if (s->words > 0 && s->tokens == s->words + 1) s->in_elements = c == '(';
    } else if (c == ')' || c == ']') {
        if (s->depth > 0) s->depth--;
        if (s->depth == 0) s->in_elements = false;
    } else if (c == ',' && s->in_elements && s->depth == 1) {
        s->run = 0;
    } else if (c == ';' && s->depth == 0) {
        s->run = s->tokens = 0;
        s->words = 0;
        s->in_elements = false;
    }
    return 0;
}

static bool is_word(struct span word, const char *is)
{
    return word.n == strlen(is) && strncasecmp((const char *)word.p, is, word.n) == 0;
}

// The first words tell what kind of statement this is.
static void note_word(struct scan *s, struct span word)
{
    if (s->depth > 0) return;
    if (s->tokens == 1) s->words = is_word(word, "create") ? TABLE_WORDS : 0;
    if (s->tokens == 2 && s->words > 0) s->words = is_word(word, "table") ? TABLE_WORDS : is_word(word, "type") ? TYPE_WORDS : 0;
}

static int check_name(struct scan *s, size_t from, size_t bytes)
{
    if (bytes <= NAME_MAX_BYTES) return 0;
    return problem_set(s->p, ERR_UNSUPPORTED_SQL, (int64_t)from, "a name is longer than %d bytes", NAME_MAX_BYTES);
}

static int scan_word(struct scan *s)
{
    size_t from = s->at;
    uint8_t c;
    do {
        c = byte_at(s->text, ++s->at);
    } while (begins_name(c) || is_digit(c) || c == '$');
    struct span word = span_sub(s->text, from, s->at - from);
    uint8_t first = word.p[0] | 0x20;
    if (word.n == 1 && first == 'e' && c == '\'')
        return problem_set(s->p, ERR_UNSUPPORTED_SQL, (int64_t)from, "strings with E in front are not supported yet");
    if (word.n == 1 && first == 'u' && c == '&' && (byte_at(s->text, s->at + 1) == '\'' || byte_at(s->text, s->at + 1) == '"'))
        return problem_set(s->p, ERR_UNSUPPORTED_SQL, (int64_t)from, "strings and names with U& in front are not supported yet");
    note_word(s, word);
    return check_name(s, from, word.n);
}

// Past a quoted text in which the quote is doubled; *bytes is the length of what it means. An open end is the parser's to tell.
static void scan_quoted(struct scan *s, size_t *bytes)
{
    uint8_t quote = s->text.p[s->at++];
    *bytes = 0;
    while (s->at < s->text.n) {
        if (s->text.p[s->at] == quote) {
            s->at++;
            if (byte_at(s->text, s->at) != quote) return;
        }
        s->at++;
        ++*bytes;
    }
}

// At a '$': past a dollar-quoted string, past a parameter, or past the sign alone.
static void scan_dollar(struct scan *s)
{
    size_t from = s->at++;
    if (is_digit(byte_at(s->text, s->at))) {
        while (is_digit(byte_at(s->text, s->at)))
            s->at++;
        return;
    }
    size_t end = s->at;
    if (begins_name(byte_at(s->text, end)))
        while (begins_name(byte_at(s->text, end)) || is_digit(byte_at(s->text, end)))
            end++;
    if (byte_at(s->text, end) != '$') return;
    size_t tag = end + 1 - from;
    const uint8_t *body = s->text.p + end + 1;
    const uint8_t *close = memmem(body, s->text.n - end - 1, s->text.p + from, tag);
    s->at = close == NULL ? s->text.n : (size_t)(close - s->text.p) + tag;
}

static int scan_operator(struct scan *s)
{
    if (++s->operator_run > OPERATOR_MAX)
        return problem_set(s->p, ERR_BAD_SQL, (int64_t)s->at, "an operator is longer than %d characters", OPERATOR_MAX);
    s->at++;
    return 0;
}

static int scan_token(struct scan *s)
{
    size_t from = s->at, bytes;
    uint8_t c = s->text.p[from];
    int err = count_token(s, c, from);
    if (err != 0) return err;
    if (is_operator(c)) return scan_operator(s);
    s->operator_run = 0;
    if (begins_name(c)) return scan_word(s);
    if (c == '"') {
        scan_quoted(s, &bytes);
        return check_name(s, from, bytes);
    }
    if (c == '\'') {
        scan_quoted(s, &bytes);
    } else if (c == '$') {
        scan_dollar(s);
    } else if (is_digit(c)) {
        while (is_digit(byte_at(s->text, s->at)))
            s->at++;
    } else {
        s->at++;
    }
    return 0;
}

static int scan_space(struct scan *s)
{
    size_t from = s->at, deepest = 0;
    if (begins(s->text, from, '/', '*')) {
        s->at = skip_block(s->text, from, &deepest);
        if (deepest > COMMENT_DEPTH_MAX)
            return problem_set(s->p, ERR_TOO_DEEP, (int64_t)from, "comments are nested deeper than %d levels", COMMENT_DEPTH_MAX);
    } else if (begins(s->text, from, '-', '-')) {
        s->at = skip_line(s->text, from);
    } else if (is_space(s->text.p[from])) {
        s->at++;
    }
    if (s->at > from) s->operator_run = 0;
    return 0;
}

int sql_scan(struct span text, struct problem *p)
{
    const uint8_t *nul = text.n == 0 ? NULL : memchr(text.p, 0, text.n);
    if (nul != NULL) return problem_set(p, ERR_BAD_SQL, nul - text.p, "a NUL byte stands in the SQL text");

    struct scan s = {.text = text, .p = p};
    while (s.at < text.n) {
        size_t before = s.at;
        int err = scan_space(&s);
        if (err == 0 && s.at == before) err = scan_token(&s);
        if (err != 0) return err;
        assert(s.at > before);
    }
    return 0;
}
