#include "stream_headers.h"

#include <assert.h>
#include <stdio.h>
#include <strings.h>

#include "err.h"

#define GROUP_DIGITS 16
#define GROUP_MAX UINT64_C(9999999999999999)
#define TIME_MS_MAX 253402300799999 // behind it years have five digits

// ---- numbers and offsets -----------------------------------------------------------------------------------------

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

// `n` digits from `at` on.
static bool digits(struct span s, size_t at, size_t n, uint64_t *out)
{
    uint64_t v = 0;
    if (at > s.n || n > s.n - at) return false;
    for (size_t i = at; i < at + n; i++) {
        if (!is_digit(s.p[i])) return false;
        v = 10 * v + (s.p[i] - '0');
    }
    *out = v;
    return true;
}

bool stream_number_parse(struct span text, uint64_t max, uint64_t *out)
{
    uint64_t v;
    if (text.n == 0 || text.n > 19 || (text.n > 1 && text.p[0] == '0')) return false;
    if (!digits(text, 0, text.n, &v) || v > max) return false;
    *out = v;
    return true;
}

void stream_offset_text(uint64_t offset, char text[STREAM_OFFSET_TEXT])
{
    assert(offset <= GROUP_MAX);
    memset(text, '0', 2 * GROUP_DIGITS + 1);
    text[GROUP_DIGITS] = '_';
    text[2 * GROUP_DIGITS + 1] = '\0';
    for (int i = 2 * GROUP_DIGITS; offset > 0; i--, offset /= 10)
        text[i] = (char)('0' + offset % 10);
}

int stream_offset_parse(struct span text, uint64_t *out)
{
    uint64_t group;
    if (stream_number_parse(text, GROUP_MAX, out)) return 0;
    if (text.n != 2 * GROUP_DIGITS + 1 || text.p[GROUP_DIGITS] != '_') return ERR_BAD_OFFSET;
    if (!digits(text, 0, GROUP_DIGITS, &group) || group != 0) return ERR_BAD_OFFSET;
    return digits(text, GROUP_DIGITS + 1, GROUP_DIGITS, out) ? 0 : ERR_BAD_OFFSET;
}

// ---- time --------------------------------------------------------------------------------------------------------

// Days since 1970 of the civil calendar. A year begins with March here, so that the odd day is its last; 400 years are one round of it.
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
    year -= month <= 2;
    int64_t round = year / 400, of_round = year % 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return round * 146097 + of_round * 365 + of_round / 4 - of_round / 100 + of_year - 719468;
}

static bool date_fits(uint64_t year, uint64_t month, uint64_t day)
{
    static const uint8_t lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (month < 1 || month > 12 || day < 1) return false;
    bool leap = month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return day <= lengths[month - 1] + (leap ? 1u : 0u);
}

// Digits behind the point; what is finer than a millisecond is not kept.
static bool take_fraction(struct span *rest, int64_t *ms)
{
    *ms = 0;
    if (rest->n == 0 || rest->p[0] != '.') return true;
    size_t n = 1;
    for (int64_t weight = 100; n < rest->n && is_digit(rest->p[n]); n++, weight /= 10)
        *ms += weight * (rest->p[n] - '0');
    *rest = span_sub(*rest, n, rest->n);
    return n > 1;
}

static bool take_zone(struct span rest, int64_t *minutes)
{
    uint64_t h, m;
    *minutes = 0;
    if (span_is(rest, "Z") || span_is(rest, "z")) return true;
    if (rest.n != 6 || (rest.p[0] != '+' && rest.p[0] != '-') || rest.p[3] != ':') return false;
    if (!digits(rest, 1, 2, &h) || !digits(rest, 4, 2, &m) || h > 23 || m > 59) return false;
    *minutes = (int64_t)(60 * h + m) * (rest.p[0] == '-' ? -1 : 1);
    return true;
}

bool stream_time_parse(struct span text, uint64_t *ms)
{
    uint64_t year, month, day, hour, minute, second;
    int64_t fraction, zone;
    if (text.n < 20 || text.p[4] != '-' || text.p[7] != '-' || (text.p[10] != 'T' && text.p[10] != 't') || text.p[13] != ':' || text.p[16] != ':') return false;
    if (!digits(text, 0, 4, &year) || !digits(text, 5, 2, &month) || !digits(text, 8, 2, &day)) return false;
    if (!digits(text, 11, 2, &hour) || !digits(text, 14, 2, &minute) || !digits(text, 17, 2, &second)) return false;
    if (!date_fits(year, month, day) || hour > 23 || minute > 59 || second > 60) return false; // 60: a leap second
    struct span rest = span_sub(text, 19, text.n);
    if (!take_fraction(&rest, &fraction) || !take_zone(rest, &zone)) return false;
    int64_t minutes = (days_of((int64_t)year, (int64_t)month, (int64_t)day) * 24 + (int64_t)hour) * 60 + (int64_t)minute - zone;
    int64_t at = (minutes * 60 + (int64_t)second) * 1000 + fraction;
    if (at > TIME_MS_MAX) return false; // by its zone
    *ms = at < 1 ? 1 : (uint64_t)at;
    return true;
}

void stream_time_text(uint64_t ms, char text[STREAM_TIME_TEXT])
{
    int64_t days = (int64_t)(ms / 86400000), shifted = days + 719468, of_round = shifted % 146097;
    int64_t year_of_round = (of_round - of_round / 1460 + of_round / 36524 - of_round / 146096) / 365;
    int64_t of_year = of_round - (365 * year_of_round + year_of_round / 4 - year_of_round / 100);
    int64_t march = (5 * of_year + 2) / 153, day = of_year - (153 * march + 2) / 5 + 1, month = march < 10 ? march + 3 : march - 9;
    int64_t year = shifted / 146097 * 400 + year_of_round + (month <= 2);
    unsigned of_day = (unsigned)(ms % 86400000);
    snprintf(text, STREAM_TIME_TEXT, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", (unsigned)year % 10000u, (unsigned)month % 100u, (unsigned)day % 100u, of_day / 3600000u, of_day / 60000u % 60u,
             of_day / 1000u % 60u, of_day % 1000u);
}

// ---- types and tags ----------------------------------------------------------------------------------------------

bool stream_type_is_json(struct span type)
{
    size_t n = 0;
    while (n < type.n && type.p[n] != ';')
        n++;
    while (n > 0 && (type.p[n - 1] == ' ' || type.p[n - 1] == '\t'))
        n--;
    return n == 16 && strncasecmp((const char *)type.p, "application/json", 16) == 0;
}

bool stream_etag_listed(struct span list, const char *etag)
{
    if (span_is(list, "*")) return true;
    // Tags stand in quotes and have none inside, so that looking for a whole one, quotes included, finds no part of another.
    size_t n = strlen(etag);
    for (size_t i = 0; i + n <= list.n; i++) {
        if (memcmp(list.p + i, etag, n) == 0) return true;
        if (list.p[i] != '"') continue;
        for (i++; i < list.n && list.p[i] != '"';)
            i++;
    }
    return false;
}

int stream_match_parse(struct span text, bool *has, uint64_t *offset)
{
    *has = !span_is(text, "*");
    if (!*has) return 0;
    if (text.n >= 2 && text.p[0] == '"' && text.p[text.n - 1] == '"') text = span_sub(text, 1, text.n - 2);
    return stream_offset_parse(text, offset);
}
