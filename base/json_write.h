// Writes JSON text straight into a buffer: no tree, no copy. Commas and colons are its own business; wrong
// nesting is a bug and asserts. A failure of the buffer is sticky there.
#ifndef SEGUE_JSON_WRITE_H
#define SEGUE_JSON_WRITE_H

#include "buf.h"

#define JW_DEPTH_MAX 96

struct jw {
    struct buf *out;
    uint32_t depth;
    bool after_key;
    uint8_t state[JW_DEPTH_MAX]; // per level: object or array, empty or not
};

void jw_init(struct jw *w, struct buf *out);

void jw_object(struct jw *w);
void jw_array(struct jw *w);
void jw_end(struct jw *w); // closes the innermost object or array

void jw_key(struct jw *w, const char *key);
void jw_key_span(struct jw *w, struct span key);

void jw_null(struct jw *w);
void jw_bool(struct jw *w, bool v);
void jw_int(struct jw *w, int64_t v);
void jw_uint(struct jw *w, uint64_t v);
// The shortest decimal that reads back as the same double; NaN and infinities become null.
void jw_double(struct jw *w, double v);
// `s` must be UTF-8; control characters are escaped, invalid bytes become U+FFFD. '/' is left as it is.
void jw_str(struct jw *w, struct span s);
// The same of what is known to have nothing to escape.
void jw_plain(struct jw *w, struct span s);
void jw_cstr(struct jw *w, const char *s);
// Standard base64 with padding (RFC 4648, section 4), as a string.
void jw_base64(struct jw *w, struct span s);
// Text that is one complete JSON value already.
void jw_raw(struct jw *w, struct span json);
// Milliseconds since 1970 as an RFC 3339 string in UTC with milliseconds.
void jw_time_ms(struct jw *w, int64_t ms);

// True when everything opened was closed and one value was written.
bool jw_done(const struct jw *w);

#endif
