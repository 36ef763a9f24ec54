#include "instant.h"

#include <assert.h>
#include <stdio.h>

#include "err.h"

#define US_PER_SECOND INT64_C(1000000)
#define SECONDS_PER_DAY INT64_C(86400)

// Days since 1970-01-01 of a proleptic Gregorian date. Years begin in March here, so that the leap day is the last.
static int64_t days_of(int64_t year, int month, int day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t of_era = year - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719468;
}

static void date_of(int64_t days, int *year, int *month, int *day)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t of_era = days - era * 146097;
    int64_t y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t day_of_year = of_era - (365 * y + y / 4 - y / 100);
    int64_t m = (5 * day_of_year + 2) / 153;
    *day = (int)(day_of_year - (153 * m + 2) / 5 + 1);
    *month = (int)(m < 10 ? m + 3 : m - 9);
    *year = (int)(y + era * 400 + (*month <= 2));
}

static int month_days(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap);
}

struct reader {
    struct span s;
    size_t i;
    bool bad;
};

static int digits(struct reader *r, int count)
{
    int v = 0;
    for (int k = 0; k < count; k++, r->i++) {
        if (r->i >= r->s.n || r->s.p[r->i] < '0' || r->s.p[r->i] > '9') {
            r->bad = true;
            return 0;
        }
        v = v * 10 + (r->s.p[r->i] - '0');
    }
    return v;
}

static bool one_of(struct reader *r, const char *set)
{
    if (r->i >= r->s.n || r->s.p[r->i] == 0 || !strchr(set, r->s.p[r->i])) return false;
    r->i++;
    return true;
}

static void expect(struct reader *r, const char *set)
{
    if (!one_of(r, set)) r->bad = true;
}

static int64_t fraction(struct reader *r)
{
    int64_t us = 0;
    int n = 0;
    if (!one_of(r, ".")) return 0;
    while (r->i < r->s.n && r->s.p[r->i] >= '0' && r->s.p[r->i] <= '9') {
        if (n < 6) us = us * 10 + (r->s.p[r->i] - '0');
        n++;
        r->i++;
    }
    if (n == 0 || n > 9) r->bad = true;
    for (int k = n; k < 6; k++)
        us *= 10;
    return us;
}

static int64_t offset_seconds(struct reader *r)
{
    if (one_of(r, "Zz")) return 0;
    int sign = one_of(r, "-") ? -1 : 1;
    if (sign == 1) expect(r, "+");
    int hours = digits(r, 2);
    expect(r, ":");
    int minutes = digits(r, 2);
    if (hours > 23 || minutes > 59) r->bad = true;
    return sign * (hours * INT64_C(3600) + minutes * INT64_C(60));
}

int instant_parse(int64_t *us, struct span text)
{
    struct reader r = {.s = text};
    assert(us);
    int year = digits(&r, 4);
    expect(&r, "-");
    int month = digits(&r, 2);
    expect(&r, "-");
    int day = digits(&r, 2);
    expect(&r, "Tt ");
    int hour = digits(&r, 2);
    expect(&r, ":");
    int minute = digits(&r, 2);
    expect(&r, ":");
    int second = digits(&r, 2);
    int64_t part = fraction(&r);
    int64_t offset = offset_seconds(&r);
    if (r.bad || r.i != text.n) return ERR_BAD_VALUE;
    if (year < 1 || month < 1 || month > 12 || day < 1 || day > month_days(year, month)) return ERR_BAD_VALUE;
    if (hour > 23 || minute > 59 || second > 59) return ERR_BAD_VALUE;
    int64_t seconds = days_of(year, month, day) * SECONDS_PER_DAY + hour * INT64_C(3600) + minute * INT64_C(60) + second - offset;
    int64_t v = seconds * US_PER_SECOND + part;
    if (v < INSTANT_MIN || v > INSTANT_MAX) return ERR_BAD_VALUE;
    *us = v;
    return 0;
}

size_t instant_format(int64_t us, char text[INSTANT_TEXT_MAX])
{
    char t[64];
    int year, month, day;
    assert(us >= INSTANT_MIN && us <= INSTANT_MAX);
    int64_t seconds = us / US_PER_SECOND - (us % US_PER_SECOND < 0);
    int part = (int)(us - seconds * US_PER_SECOND);
    int64_t days = seconds / SECONDS_PER_DAY - (seconds % SECONDS_PER_DAY < 0);
    int clock = (int)(seconds - days * SECONDS_PER_DAY);
    date_of(days, &year, &month, &day);
    bool micro = part % 1000 != 0;
    int n = snprintf(t, sizeof t, "%04d-%02d-%02dT%02d:%02d:%02d.%0*dZ", year, month, day, clock / 3600, clock / 60 % 60, clock % 60,
                     micro ? 6 : 3, micro ? part : part / 1000);
    assert(n > 0 && n <= INSTANT_TEXT_MAX);
    memcpy(text, t, (size_t)n);
    return (size_t)n;
}
