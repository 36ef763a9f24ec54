// How a blob is shown to one who asks for it: content type, name and manner come from the parameters of the request, from the row or the upload that it names, or from
// the blob itself. What may hold a script is never shown in place.
//
//      ?type=T   ?filename=NAME   ?disposition=inline|attachment
//      ?row=TABLE/ID/COLUMN: the name that this row has, whose column is the blob   ?upload=ID: the name that this upload's metadata has
#ifndef SEGUE_BLOB_VIEW_H
#define SEGUE_BLOB_VIEW_H

#include "app.h"
#include "http.h"

struct blob_view {
    char type[STREAM_TYPE_MAX + 1];
    bool safe;              // may be shown in place
    struct buf disposition; // the field's value, with a terminator; empty: there is none
    uint64_t max_age_s;
    bool public;            // caches of others may keep it
};

// ERR_BAD_PARAMETER, ERR_NO_SUCH_UPLOAD, ERR_NOT_FOUND, ERR_FORBIDDEN. To be freed in any case.
int blob_view_open(struct blob_view *v, const struct request *r, const struct blob_info *info, struct problem *p);
void blob_view_free(struct blob_view *v);
// The fields that it stands for, but for Content-Type.
void blob_view_fields(const struct blob_view *v, struct request *r);

// Is it what a Content-Type can be? Printable ASCII with a slash, at most STREAM_TYPE_MAX bytes.
bool blob_view_type_is_good(struct span type);

#endif
