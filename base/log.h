// Logging in logfmt on standard error: one line per event, written with one write. Any thread.
//
//   ts=2026-11-22T10:00:00.000Z level=info at=journal msg="recovered" groups=12 app=default
//
// Each fault is logged once, where it is first detected. Payloads and secrets are never logged.
#ifndef SEGUE_LOG_H
#define SEGUE_LOG_H

#include <stdint.h>

#include "span.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

// Lines above this level are dropped. The start value is LOG_INFO.
void log_set_level(enum log_level level);
enum log_level log_level(void);
// "error", "warn", "info" or "debug"; ERR_USAGE for another word.
int log_level_parse(enum log_level *out, const char *word);

// A field of a line, made by the macros below.
struct log_field {
    const char *key;
    enum { LOG_F_END, LOG_F_STR, LOG_F_SPAN, LOG_F_INT, LOG_F_UINT, LOG_F_ERR, LOG_F_ERRNO } kind;
    union {
        const char *str;
        struct span span;
        int64_t i;
        uint64_t u;
    };
};
#define LF_STR(k, v) ((struct log_field){.key = (k), .kind = LOG_F_STR, .str = (v)})
#define LF_SPAN(k, v) ((struct log_field){.key = (k), .kind = LOG_F_SPAN, .span = (v)})
#define LF_INT(k, v) ((struct log_field){.key = (k), .kind = LOG_F_INT, .i = (v)})
#define LF_UINT(k, v) ((struct log_field){.key = (k), .kind = LOG_F_UINT, .u = (v)})
#define LF_ERR(v) ((struct log_field){.key = "err", .kind = LOG_F_ERR, .i = (v)})
#define LF_ERRNO(v) ((struct log_field){.key = "errno", .kind = LOG_F_ERRNO, .i = (v)})

// `at` names the module ("journal", "http"), `msg` the event. Values are quoted where logfmt needs it, control
// characters are escaped, and each value is cut at 256 bytes.
void log_write(enum log_level level, const char *at, const char *msg, const struct log_field *fields);

#define log_line(level, at, msg, ...) log_write((level), (at), (msg), (const struct log_field[]){__VA_ARGS__ __VA_OPT__(, ) {.kind = LOG_F_END}})
#define log_error(at, msg, ...) log_line(LOG_ERROR, at, msg, __VA_ARGS__)
#define log_warn(at, msg, ...) log_line(LOG_WARN, at, msg, __VA_ARGS__)
#define log_info(at, msg, ...) log_line(LOG_INFO, at, msg, __VA_ARGS__)
#define log_debug(at, msg, ...) log_line(LOG_DEBUG, at, msg, __VA_ARGS__)

#endif
