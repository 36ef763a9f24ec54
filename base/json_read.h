// JSON that comes in, as a tree to read from. The only user of jansson.h.
//
// A tree is immutable; nodes live until the tree is freed. One thread per tree.
#ifndef SEGUE_JSON_READ_H
#define SEGUE_JSON_READ_H

#include "buf.h"
#include "problem.h"

struct jr_tree;
struct jr; // a node; NULL is accepted by every reader and behaves as an absent value

enum jr_type { JR_ABSENT, JR_NULL, JR_BOOL, JR_INT, JR_REAL, JR_STRING, JR_ARRAY, JR_OBJECT };

// Parses one value and nothing after it. Refused: invalid UTF-8, duplicate keys, NUL in strings, integers
// beyond 64 bits, nesting deeper than JSON_DEPTH_MAX (ERR_TOO_DEEP). All else is ERR_BAD_JSON; the problem's position
// is the byte at which reading stopped: the last one of what could not be taken, the text's length where it ended early. The text may go then.
// On success the caller owns *out and frees it with jr_free.
int jr_parse(struct jr_tree **out, struct span text, struct problem *p);
// The same with another depth, for texts that the service made itself; each level takes the parser some 300 bytes of stack.
int jr_parse_deep(struct jr_tree **out, struct span text, size_t depth_max, struct problem *p);
void jr_free(struct jr_tree *t);
const struct jr *jr_root(const struct jr_tree *t);

enum jr_type jr_type(const struct jr *n);
bool jr_bool(const struct jr *n, bool otherwise);
int64_t jr_int(const struct jr *n, int64_t otherwise); // also of a real that is a whole number within range
double jr_real(const struct jr *n, double otherwise);  // also of an integer
struct span jr_str(const struct jr *n);                // empty for another type

size_t jr_count(const struct jr *n);                       // elements of an array, members of an object, else 0
const struct jr *jr_at(const struct jr *array, size_t i);  // NULL past the end
const struct jr *jr_get(const struct jr *object, const char *key); // NULL when there is none

// Calls `fn` for each member in the order of the text; stops at the first non-zero and returns it.
int jr_each(const struct jr *object, int (*fn)(void *ctx, struct span key, const struct jr *value), void *ctx);

// Appends canonical compact text: keys sorted bytewise, no white space. Equal values give equal bytes; an integer and a
// real are not equal (1 and 1.0). An absent value is written as null. ERR_TOO_LARGE or ERR_NOMEM leave the content as it was.
int jr_canonical(const struct jr *n, struct buf *out);

// The value as the next one of `w`, its members in the order of the text: what reads it may care (models answer in the order of a
// schema's properties). An absent value is written as null.
struct jw;
void jr_write(const struct jr *n, struct jw *w);

#endif
