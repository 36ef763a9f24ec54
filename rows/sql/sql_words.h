// Names, texts and types as canonical SQL has them: quoted where they must be.
#ifndef SEGUE_ROWS_SQL_WORDS_H
#define SEGUE_ROWS_SQL_WORDS_H

#include "type.h"

// A name of letters, digits and _ that begins with no digit: what a schema lets be one.
void sql_put_name(struct buf *out, struct span name);
// In single quotes. UTF-8 without NUL.
void sql_put_text(struct buf *out, struct span s);
void sql_put_type(struct buf *out, const struct type *type);

#endif
