// The name under which a row keeps a blob: the text of its column "filename", else "name".
#ifndef SEGUE_BLOB_ROW_H
#define SEGUE_BLOB_ROW_H

#include "app.h"

// `text` is table/id/column. Appends the name, or nothing where the row has none. ERR_NOT_FOUND: there is no such row, or its column is another blob or none;
// ERR_BAD_PARAMETER; ERR_BUSY.
int blob_row_name(struct app *a, struct span text, const struct sha256 *digest, struct buf *name);

#endif
